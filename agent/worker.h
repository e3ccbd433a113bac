/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/worker.h - work of the daemon in a process of its own: a copy of it, which ends with
 * the work.
 *
 * So nothing that takes long holds the daemon up, a probe that crashes costs one round, memory
 * and descriptors cannot grow, and keys are in no process that lives on.  A worker answers with a
 * JSON object, and is killed when the daemon dies.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/buf.h"
#include "common/error.h"

struct cJSON;

struct agt_worker {
	const char *name; /* for messages; "" before the first start */
	pid_t pid;        /* 0: none is at work */
	int fd;           /* its answer comes from here; -1: it has ended */
	struct buf text;
	int64_t end_ns;   /* of clock_mono_ns(): it should have ended by then */
	bool late;        /* and it was told so */
};

#define AGT_WORKER_INIT ((struct agt_worker){ .name = "", .fd = -1 })

/*
 * Start one.  In it prepare(arg) is called (NULL: nothing to do), to close what is the daemon's;
 * then work(), which fills answer and returns a code, with e for a negative one.
 */
struct agt_work {
	const char *name;
	void (*prepare)(void *arg);
	int (*work)(void *arg, struct cJSON *answer, struct err *e);
	void *arg;
	unsigned time_ms; /* then it gets SIGTERM, and SIGKILL 5 s later */
};
int agt_worker_start(struct agt_worker *w, const struct agt_work *work, struct err *e)
	_must_check_;

void agt_worker_read(struct agt_worker *w);                /* there is something at fd */
void agt_worker_hurry(struct agt_worker *w, int64_t now_ns); /* look at the time */

/*
 * The process pid has ended with status (of waitpid()): was it this one?  Then *ret is its answer,
 * the caller's, and the return value the code of the work; -EIO with a text when it was killed, or
 * said nothing that makes sense.
 */
bool agt_worker_ended(struct agt_worker *w, pid_t pid, int status, struct cJSON **ret,
		      int *ret_code, struct err *e);

void agt_worker_stop(struct agt_worker *w); /* SIGTERM */
void agt_worker_fini(struct agt_worker *w); /* one that is still at work is killed */
