/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/receive/job.h"

#define JOBS_AT_ONCE 4

void rcv_jobs_init(struct rcv_jobs *jobs)
{
	*jobs = (struct rcv_jobs){ .last = &jobs->first };
}

void rcv_jobs_fini(struct rcv_jobs *jobs)
{
	while (jobs->first) {
		struct rcv_job *job = jobs->first;

		jobs->first = job->next;
		job->free(job);
	}
	rcv_jobs_init(jobs);
}

bool rcv_jobs_busy(const struct rcv_jobs *jobs, uint16_t slot)
{
	for (const struct rcv_job *job = jobs->first; job; job = job->next)
		if (job->slot == slot)
			return true;
	return false;
}

int rcv_jobs_add(struct rcv_jobs *jobs, struct rcv_job *job, struct err *e)
{
	if (job->bytes > RCV_JOBS_BYTES_MAX - jobs->bytes) {
		job->free(job);
		return err_set(e, -ERR_PROTOCOL, "too many requests are waiting");
	}
	jobs->bytes += job->bytes;
	job->next = NULL;
	*jobs->last = job;
	jobs->last = &job->next;
	return 0;
}

/* The front one goes behind the others that are at work. */
static void take_turns(struct rcv_jobs *jobs)
{
	struct rcv_job *job = jobs->first, **at = &job->next;

	for (int i = 1; i < JOBS_AT_ONCE && *at; i++)
		at = &(*at)->next;
	if (at == &job->next)
		return;
	jobs->first = job->next;
	job->next = *at;
	*at = job;
	if (!job->next)
		jobs->last = &job->next;
}

int rcv_jobs_step(struct rcv_jobs *jobs, struct rcv_env *v, struct buf *out, struct err *e)
{
	struct rcv_job *job = jobs->first;
	int r = job->step(job, v, out, e);

	if (r < 0)
		return r;
	if (r > 0) {
		take_turns(jobs);
		return 0;
	}
	jobs->first = job->next;
	if (!jobs->first)
		jobs->last = &jobs->first;
	jobs->bytes -= job->bytes;
	job->free(job);
	return 0;
}
