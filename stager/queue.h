/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/queue.h - jobs between those who find work and the sessions that do it.
 *
 * It is bounded by the memory that its jobs take; a push waits for room.  What a session
 * gives back is urgent: it is never made to wait, or all sessions could wait for each other.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/macro.h"

struct stg_job;
struct stg_queue;

int stg_queue_new(size_t max_bytes, struct stg_queue **ret, struct err *e) _must_check_;
void stg_queue_free(struct stg_queue *q); /* frees the jobs left; NULL is fine */

/* Take ownership of a sealed job.  -ERR_CANCELLED: the queue is stopped, the job is freed. */
int stg_queue_push(struct stg_queue *q, struct stg_job *j) _must_check_;
void stg_queue_push_urgent(struct stg_queue *q, struct stg_job *j);

/* The next job, now the caller's, or NULL: there is none at the moment. */
struct stg_job *stg_queue_pop(struct stg_queue *q);

/* A popped job has no items pending any more; frees it. */
void stg_queue_finish(struct stg_queue *q, struct stg_job *j);

/* Jobs that wait in the queue, and the bytes of files that they are about (NULL: not wanted). */
size_t stg_queue_waiting(struct stg_queue *q, uint64_t *ret_content);

/* Is any job not finished? */
bool stg_queue_busy(struct stg_queue *q);

/* Readable while a job waits or the queue is stopped; for poll(2) only. */
int stg_queue_fd(const struct stg_queue *q);

/* Wait until all jobs pushed are finished, or timeout_ms; true: they are, or it is stopped. */
bool stg_queue_wait_idle(struct stg_queue *q, int timeout_ms);

/* Wake everybody up; pushes fail from now on.  May be called from a signal thread. */
void stg_queue_stop(struct stg_queue *q);
bool stg_queue_stopped(struct stg_queue *q);
