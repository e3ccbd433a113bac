/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/queue.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>

#include "stager/job.h"

struct stg_queue {
	pthread_mutex_t lock;
	pthread_cond_t room, idle;
	struct stg_job *first, **last;
	struct stg_job *urgent;
	size_t bytes, max_bytes;
	uint64_t content; /* of the jobs that wait */
	size_t waiting, unfinished;
	bool stopped;
	int fd;
};

int stg_queue_new(size_t max_bytes, struct stg_queue **ret, struct err *e)
{
	struct stg_queue *q = calloc(1, sizeof(*q));
	pthread_condattr_t attr;

	if (!q)
		return err_set(e, -ENOMEM, "create queue: out of memory");
	q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->fd < 0) {
		free(q);
		return err_sys(e, "create queue: eventfd");
	}
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->room, &attr);
	pthread_cond_init(&q->idle, &attr);
	pthread_condattr_destroy(&attr);
	q->last = &q->first;
	q->max_bytes = max_bytes;
	*ret = q;
	return 0;
}

static void free_list(struct stg_job *j)
{
	while (j) {
		struct stg_job *next = j->next;

		stg_job_free(j);
		j = next;
	}
}

void stg_queue_free(struct stg_queue *q)
{
	if (!q)
		return;
	free_list(q->first);
	free_list(q->urgent);
	close(q->fd);
	pthread_mutex_destroy(&q->lock);
	pthread_cond_destroy(&q->room);
	pthread_cond_destroy(&q->idle);
	free(q);
}

/* The descriptor is readable exactly while somebody should look.  Lock held. */
static void signal_fd(struct stg_queue *q)
{
	uint64_t v = 1;
	ssize_t r;

	if (q->waiting || q->stopped)
		r = write(q->fd, &v, sizeof(v));
	else
		r = read(q->fd, &v, sizeof(v));
	(void)r; /* EAGAIN: it is in that state already */
}

static void added(struct stg_queue *q, const struct stg_job *j)
{
	q->bytes += j->cost;
	q->content += j->content;
	q->waiting++;
	q->unfinished++;
	if (q->waiting == 1)
		signal_fd(q);
}

int stg_queue_push(struct stg_queue *q, struct stg_job *j)
{
	int r = 0;

	pthread_mutex_lock(&q->lock);
	while (!q->stopped && q->waiting && q->bytes + j->cost > q->max_bytes)
		pthread_cond_wait(&q->room, &q->lock);
	if (q->stopped) {
		r = -ERR_CANCELLED;
	} else {
		j->next = NULL;
		*q->last = j;
		q->last = &j->next;
		added(q, j);
	}
	pthread_mutex_unlock(&q->lock);
	if (r < 0)
		stg_job_free(j);
	return r;
}

void stg_queue_push_urgent(struct stg_queue *q, struct stg_job *j)
{
	pthread_mutex_lock(&q->lock);
	j->next = q->urgent;
	q->urgent = j;
	added(q, j);
	pthread_mutex_unlock(&q->lock);
}

struct stg_job *stg_queue_pop(struct stg_queue *q)
{
	struct stg_job *j = NULL;

	pthread_mutex_lock(&q->lock);
	if (q->urgent) {
		j = q->urgent;
		q->urgent = j->next;
	} else if (q->first) {
		j = q->first;
		q->first = j->next;
		if (!q->first)
			q->last = &q->first;
	}
	if (j) {
		j->next = NULL;
		q->bytes -= j->cost;
		q->content -= j->content;
		q->waiting--;
		pthread_cond_broadcast(&q->room);
		if (!q->waiting)
			signal_fd(q);
	}
	pthread_mutex_unlock(&q->lock);
	return j;
}

void stg_queue_finish(struct stg_queue *q, struct stg_job *j)
{
	stg_job_free(j);
	pthread_mutex_lock(&q->lock);
	if (--q->unfinished == 0)
		pthread_cond_broadcast(&q->idle);
	pthread_mutex_unlock(&q->lock);
}

size_t stg_queue_waiting(struct stg_queue *q, uint64_t *ret_content)
{
	size_t n;

	pthread_mutex_lock(&q->lock);
	n = q->waiting;
	if (ret_content)
		*ret_content = q->content;
	pthread_mutex_unlock(&q->lock);
	return n;
}

bool stg_queue_busy(struct stg_queue *q)
{
	bool busy;

	pthread_mutex_lock(&q->lock);
	busy = q->unfinished != 0;
	pthread_mutex_unlock(&q->lock);
	return busy;
}

int stg_queue_fd(const struct stg_queue *q)
{
	return q->fd;
}

bool stg_queue_wait_idle(struct stg_queue *q, int timeout_ms)
{
	struct timespec until;
	bool done;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	until.tv_sec += timeout_ms / 1000 + until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&q->lock);
	while (q->unfinished && !q->stopped)
		if (pthread_cond_timedwait(&q->idle, &q->lock, &until) == ETIMEDOUT)
			break;
	done = !q->unfinished || q->stopped;
	pthread_mutex_unlock(&q->lock);
	return done;
}

void stg_queue_stop(struct stg_queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->stopped = true;
	signal_fd(q);
	pthread_cond_broadcast(&q->room);
	pthread_cond_broadcast(&q->idle);
	pthread_mutex_unlock(&q->lock);
}

bool stg_queue_stopped(struct stg_queue *q)
{
	bool stopped;

	pthread_mutex_lock(&q->lock);
	stopped = q->stopped;
	pthread_mutex_unlock(&q->lock);
	return stopped;
}
