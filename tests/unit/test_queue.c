/* SPDX-License-Identifier: Apache-2.0 */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "common/macro.h"
#include "stager/job.h"
#include "stager/queue.h"

struct fixture {
	struct stg_queue *q;
	struct stg_job *job; /* that the pusher pushes */
	atomic_int result;
	atomic_bool returned;
};

static struct stg_job *make_job(uint64_t id)
{
	struct stg_job *j = NULL;
	struct err e = { 0 };

	assert_int_equal(stg_job_new(STG_JOB_ITEMS, &j, &e), 0);
	assert_int_equal(stg_job_set_dir(j, id, bytes_str("dir"), &e), 0);
	stg_job_seal(j);
	return j;
}

static size_t job_cost(void)
{
	struct stg_job *j = make_job(0);
	size_t cost = j->cost;

	stg_job_free(j);
	return cost;
}

/* A queue that has room for two of make_job()'s jobs. */
static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err e = { 0 };

	if (!f || stg_queue_new(2 * job_cost(), &f->q, &e) < 0)
		return -1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	stg_queue_free(f->q);
	free(f);
	return 0;
}

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000 }, NULL);
}

static bool readable(struct stg_queue *q)
{
	struct pollfd p = { .fd = stg_queue_fd(q), .events = POLLIN };

	return poll(&p, 1, 0) == 1 && (p.revents & POLLIN);
}

static void finish_next(struct stg_queue *q, uint64_t want)
{
	struct stg_job *j = stg_queue_pop(q);

	assert_non_null(j);
	assert_int_equal(j->dir, want);
	stg_queue_finish(q, j);
}

static void *pusher(void *arg)
{
	struct fixture *f = arg;

	atomic_store(&f->result, stg_queue_push(f->q, f->job));
	atomic_store(&f->returned, true);
	return NULL;
}

static pthread_t start_blocked_pusher(struct fixture *f)
{
	pthread_t t;

	assert_int_equal(stg_queue_push(f->q, make_job(1)), 0);
	assert_int_equal(stg_queue_push(f->q, make_job(2)), 0);
	f->job = make_job(3);
	assert_int_equal(pthread_create(&t, NULL, pusher, f), 0);
	pause_ms(50);
	assert_false(atomic_load(&f->returned));
	assert_int_equal(stg_queue_waiting(f->q, NULL), 2);
	return t;
}

static void jobs_come_in_order(void **state)
{
	struct fixture *f = *state;

	assert_null(stg_queue_pop(f->q));
	assert_int_equal(stg_queue_push(f->q, make_job(1)), 0);
	assert_int_equal(stg_queue_push(f->q, make_job(2)), 0);
	finish_next(f->q, 1);
	assert_int_equal(stg_queue_push(f->q, make_job(3)), 0);
	finish_next(f->q, 2);
	finish_next(f->q, 3);
	assert_null(stg_queue_pop(f->q));
}

static void the_content_that_waits_is_told(void **state)
{
	struct fixture *f = *state;
	struct stg_job *a = make_job(1), *b = make_job(2);
	uint64_t content = 99;

	assert_int_equal(stg_queue_waiting(f->q, &content), 0);
	assert_int_equal(content, 0);
	a->content = 5;
	b->content = 1ull << 40;
	assert_int_equal(stg_queue_push(f->q, a), 0);
	stg_queue_push_urgent(f->q, b);
	assert_int_equal(stg_queue_waiting(f->q, &content), 2);
	assert_true(content == (1ull << 40) + 5);
	finish_next(f->q, 2);
	assert_int_equal(stg_queue_waiting(f->q, &content), 1);
	assert_int_equal(content, 5);
	finish_next(f->q, 1);
	assert_int_equal(stg_queue_waiting(f->q, &content), 0);
	assert_int_equal(content, 0);
}

static void urgent_jobs_come_first_and_are_never_held_up(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(stg_queue_push(f->q, make_job(1)), 0);
	assert_int_equal(stg_queue_push(f->q, make_job(2)), 0);
	for (uint64_t i = 0; i < 100; i++)
		stg_queue_push_urgent(f->q, make_job(1000));
	assert_int_equal(stg_queue_waiting(f->q, NULL), 102);
	for (int i = 0; i < 100; i++)
		finish_next(f->q, 1000);
	finish_next(f->q, 1);
	finish_next(f->q, 2);
}

static void a_push_waits_for_room(void **state)
{
	struct fixture *f = *state;
	pthread_t t = start_blocked_pusher(f);
	struct stg_job *j = stg_queue_pop(f->q);

	/* Room is made by taking a job, not by finishing it. */
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_int_equal(atomic_load(&f->result), 0);
	stg_queue_finish(f->q, j);
	finish_next(f->q, 2);
	finish_next(f->q, 3);
}

static void a_job_larger_than_the_queue_passes_when_it_is_alone(void **state)
{
	struct stg_queue *q = NULL;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(stg_queue_new(1, &q, &e), 0);
	assert_int_equal(stg_queue_push(q, make_job(1)), 0);
	finish_next(q, 1);
	assert_int_equal(stg_queue_push(q, make_job(2)), 0);
	finish_next(q, 2);
	stg_queue_free(q);
}

/* The sanitizer build tells when the job of the pusher is leaked. */
static void stop_wakes_a_blocked_pusher(void **state)
{
	struct fixture *f = *state;
	pthread_t t = start_blocked_pusher(f);

	assert_false(stg_queue_stopped(f->q));
	stg_queue_stop(f->q);
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_int_equal(atomic_load(&f->result), -ERR_CANCELLED);
	assert_true(stg_queue_stopped(f->q));
	assert_int_equal(stg_queue_push(f->q, make_job(4)), -ERR_CANCELLED);
	/* What a session gives back is kept all the same, and freed with the queue. */
	stg_queue_push_urgent(f->q, make_job(5));
	assert_int_equal(stg_queue_waiting(f->q, NULL), 3);
}

static void idle_means_that_all_jobs_are_finished(void **state)
{
	struct fixture *f = *state;
	struct stg_job *j;

	assert_true(stg_queue_wait_idle(f->q, 0));
	assert_int_equal(stg_queue_push(f->q, make_job(1)), 0);
	assert_false(stg_queue_wait_idle(f->q, 1));
	j = stg_queue_pop(f->q);
	assert_int_equal(stg_queue_waiting(f->q, NULL), 0);
	assert_false(stg_queue_wait_idle(f->q, 1)); /* taken is not finished */
	stg_queue_push_urgent(f->q, make_job(2));
	stg_queue_finish(f->q, j);
	assert_false(stg_queue_wait_idle(f->q, 1)); /* it gave something back */
	finish_next(f->q, 2);
	assert_true(stg_queue_wait_idle(f->q, 0));
}

static void *finisher(void *arg)
{
	struct fixture *f = arg;

	pause_ms(30);
	stg_queue_finish(f->q, f->job);
	return NULL;
}

static void *stopper(void *arg)
{
	struct fixture *f = arg;

	pause_ms(30);
	stg_queue_stop(f->q);
	return NULL;
}

static void a_wait_ends_with_the_last_job_or_with_a_stop(void **state)
{
	static void *(*const threads[])(void *) = { finisher, stopper };
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		pthread_t t;

		assert_int_equal(stg_queue_push(f->q, make_job(1)), 0);
		f->job = stg_queue_pop(f->q);
		assert_int_equal(pthread_create(&t, NULL, threads[i], f), 0);
		assert_true(stg_queue_wait_idle(f->q, 60000));
		assert_int_equal(pthread_join(t, NULL), 0);
	}
	stg_queue_finish(f->q, f->job);
}

static void the_descriptor_is_readable_while_somebody_should_look(void **state)
{
	struct fixture *f = *state;

	assert_false(readable(f->q));
	assert_int_equal(stg_queue_push(f->q, make_job(1)), 0);
	assert_true(readable(f->q));
	stg_queue_push_urgent(f->q, make_job(2));
	assert_true(readable(f->q));
	finish_next(f->q, 2);
	assert_true(readable(f->q));
	finish_next(f->q, 1);
	assert_false(readable(f->q));
	assert_null(stg_queue_pop(f->q));
	assert_false(readable(f->q));

	stg_queue_push_urgent(f->q, make_job(3));
	assert_true(readable(f->q));
	finish_next(f->q, 3);
	assert_false(readable(f->q));

	stg_queue_stop(f->q);
	assert_true(readable(f->q));
	stg_queue_push_urgent(f->q, make_job(4));
	finish_next(f->q, 4);
	assert_true(readable(f->q)); /* for ever: all sessions have to see it */
}

#define PUSHERS 3
#define POPPERS 3
#define EACH    2000

struct crowd {
	struct stg_queue *q;
	atomic_uint_fast64_t sum, seen;
};

static void *push_many(void *arg)
{
	struct crowd *c = arg;

	for (uint64_t i = 1; i <= EACH; i++) {
		struct stg_job *j = NULL;

		if (stg_job_new(STG_JOB_ITEMS, &j, NULL) < 0)
			return NULL;
		j->dir = i;
		stg_job_seal(j);
		if (stg_queue_push(c->q, j) < 0)
			return NULL;
	}
	return NULL;
}

static void *pop_many(void *arg)
{
	struct crowd *c = arg;

	while (!stg_queue_stopped(c->q)) {
		struct stg_job *j = stg_queue_pop(c->q);
		struct pollfd p = { .fd = stg_queue_fd(c->q), .events = POLLIN };

		if (!j) {
			poll(&p, 1, 1000);
			continue;
		}
		/* Some come back, as from a session that lost its connection. */
		if (j->dir % 7 == 0 && !j->only_list) {
			struct stg_job *back = NULL;

			if (stg_job_new(STG_JOB_ITEMS, &back, NULL) < 0)
				return NULL;
			back->dir = j->dir;
			back->only_list = true;
			stg_job_seal(back);
			stg_queue_push_urgent(c->q, back);
		} else {
			atomic_fetch_add(&c->sum, j->dir);
			atomic_fetch_add(&c->seen, 1);
		}
		stg_queue_finish(c->q, j);
	}
	return NULL;
}

static void many_threads_lose_nothing(void **state)
{
	struct crowd c = { 0 };
	pthread_t push[PUSHERS], pop[POPPERS];
	struct err e = { 0 };

	(void)state;
	assert_int_equal(stg_queue_new(10 * job_cost(), &c.q, &e), 0);
	for (size_t i = 0; i < POPPERS; i++)
		assert_int_equal(pthread_create(&pop[i], NULL, pop_many, &c), 0);
	for (size_t i = 0; i < PUSHERS; i++)
		assert_int_equal(pthread_create(&push[i], NULL, push_many, &c), 0);
	for (size_t i = 0; i < PUSHERS; i++)
		assert_int_equal(pthread_join(push[i], NULL), 0);
	assert_true(stg_queue_wait_idle(c.q, 60000));
	stg_queue_stop(c.q);
	for (size_t i = 0; i < POPPERS; i++)
		assert_int_equal(pthread_join(pop[i], NULL), 0);
	assert_int_equal(atomic_load(&c.seen), PUSHERS * EACH);
	assert_int_equal(atomic_load(&c.sum), (uint64_t)PUSHERS * EACH * (EACH + 1) / 2);
	stg_queue_free(c.q);
}

int main(void)
{
#define QUEUE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		QUEUE_TEST(jobs_come_in_order),
		QUEUE_TEST(the_content_that_waits_is_told),
		QUEUE_TEST(urgent_jobs_come_first_and_are_never_held_up),
		QUEUE_TEST(a_push_waits_for_room),
		cmocka_unit_test(a_job_larger_than_the_queue_passes_when_it_is_alone),
		QUEUE_TEST(stop_wakes_a_blocked_pusher),
		QUEUE_TEST(idle_means_that_all_jobs_are_finished),
		QUEUE_TEST(a_wait_ends_with_the_last_job_or_with_a_stop),
		QUEUE_TEST(the_descriptor_is_readable_while_somebody_should_look),
		cmocka_unit_test(many_threads_lose_nothing),
	};
#undef QUEUE_TEST

	return cmocka_run_group_tests(tests, NULL, NULL);
}
