/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/receive/job.h - work that goes on in slices beside the frames: listings and
 * signatures.  They wait in one queue; a few at its front take turns.
 */
#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/error.h"
#include "transport/receive/env.h"

struct rcv_job {
	struct rcv_job *next;
	uint16_t slot;
	size_t bytes; /* of memory while it waits */
	/* Append the frames of one slice to out.  1: there is more; 0: it has ended, and its
	 * end was told; negative: the conversation cannot go on. */
	int (*step)(struct rcv_job *job, struct rcv_env *v, struct buf *out, struct err *e);
	void (*free)(struct rcv_job *job);
};

struct rcv_jobs {
	struct rcv_job *first, **last;
	size_t bytes;
};

/* What a peer may make us remember. */
#define RCV_JOBS_BYTES_MAX (16u << 20)

void rcv_jobs_init(struct rcv_jobs *jobs);
void rcv_jobs_fini(struct rcv_jobs *jobs);
static inline bool rcv_jobs_any(const struct rcv_jobs *jobs)
{
	return jobs->first != NULL;
}
bool rcv_jobs_busy(const struct rcv_jobs *jobs, uint16_t slot);

/* job is taken in every case.  -ERR_PROTOCOL: too much is waiting. */
int rcv_jobs_add(struct rcv_jobs *jobs, struct rcv_job *job, struct err *e) _must_check_;

/* One slice of the job whose turn it is.  0, or negative: as of step. */
int rcv_jobs_step(struct rcv_jobs *jobs, struct rcv_env *v, struct buf *out, struct err *e)
	_must_check_;
