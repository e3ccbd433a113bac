/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/listener.h - the socket that the daemon answers root at, both ends.
 *
 * A client sends one line with a word, at most AGT_REQUEST_MAX bytes; the daemon answers with one
 * JSON object and closes.  Only root may ask: the socket has mode 0600, and who connects is looked
 * at besides (SO_PEERCRED), so the daemon's own user is refused, too.
 */
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/bytes.h"
#include "common/error.h"

#define AGT_REQUEST_MAX 64
#define AGT_LISTENER_CLIENTS 8
#define AGT_LISTENER_FDS (AGT_LISTENER_CLIENTS + 1)
#define AGT_LISTENER_TIME_MS 5000 /* for a request and its answer */

struct cJSON;
struct agt_listener; /* lives from agt_listener_open() to agt_listener_close() */

enum agt_request {
	AGT_REQUEST_MORE,    /* the line has not ended yet */
	AGT_REQUEST_STATUS,
	AGT_REQUEST_UNKNOWN, /* and it never will be one that is known */
};

/* What is in the first bytes of a client? */
enum agt_request agt_request_parse(struct bytes b);

/*
 * The answer, the caller's from now on: NULL when out of memory.
 */
typedef struct cJSON *agt_answer_fn(void *arg);

/*
 * Listen at path.  What is left there of a daemon that was killed is removed; -ERR_LOCKED: one
 * answers there.  uid: who may ask.
 */
int agt_listener_open(const char *path, unsigned uid, agt_answer_fn *answer, void *arg,
		      struct agt_listener **ret, struct err *e) _must_check_;
void agt_listener_close(struct agt_listener *l);  /* NULL is fine; the socket is removed */
void agt_listener_forget(struct agt_listener *l); /* in a worker: the descriptors alone */

/* What to poll() for, at most AGT_LISTENER_FDS; the count. */
size_t agt_listener_fds(const struct agt_listener *l, struct pollfd *ret);
/* After it: the same array. */
void agt_listener_serve(struct agt_listener *l, const struct pollfd *fds, size_t n);

/*
 * The client: ask, and append the answer.  -ERR_CONNECT: nobody is there; -EACCES: not for this
 * user; -ERR_LOST: no answer within AGT_LISTENER_TIME_MS.
 */
int agt_listener_ask(const char *path, const char *request, struct buf *out, struct err *e)
	_must_check_;
