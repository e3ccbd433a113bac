/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limit has the machine's clock, so nothing here depends on how fast the test runs:
 * rates are so low that the bucket stays as it is, or so high that it is full at once; and
 * what a loop took is held against the time that really passed.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "common/io.h"
#include "common/macro.h"
#include "stager/bwlimit.h"

#define GRAIN 4096 /* a bucket is never smaller */

static struct stg_bwlimit *make(uint64_t rate)
{
	struct stg_bwlimit *b = NULL;
	struct err e = { 0 };

	assert_int_equal(stg_bwlimit_new(rate, &b, &e), 0);
	assert_non_null(b);
	return b;
}

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000 }, NULL);
}

static void no_limit_takes_all(void **state)
{
	static const size_t wants[] = { 0, 1, 4096, SIZE_MAX };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wants); i++) {
		assert_true(stg_bwlimit_take(NULL, wants[i]) == wants[i]);
		assert_int_equal(stg_bwlimit_pause_ms(NULL, wants[i]), 0);
		stg_bwlimit_return(NULL, wants[i]);
	}
	stg_bwlimit_free(NULL);
}

static void it_begins_empty(void **state)
{
	/* A byte a second: nothing comes in while the test runs. */
	struct stg_bwlimit *b = make(1);

	(void)state;
	assert_int_equal(stg_bwlimit_take(b, 100000), 0);
	assert_int_equal(stg_bwlimit_take(b, 0), 0);
	assert_int_equal(stg_bwlimit_pause_ms(b, 0), 0);
	/* A grain of a byte a second is more than an hour away. */
	assert_in_range(stg_bwlimit_pause_ms(b, 100000), 3600 * 1000, 4097 * 1000);
	stg_bwlimit_free(b);
}

static void what_is_returned_can_be_taken_again(void **state)
{
	struct stg_bwlimit *b = make(1);

	(void)state;
	stg_bwlimit_return(b, 1000);
	assert_int_equal(stg_bwlimit_take(b, 100000), 0); /* less than a grain is not worth it */
	assert_int_equal(stg_bwlimit_take(b, 600), 600);  /* unless no more is wanted */
	assert_int_equal(stg_bwlimit_take(b, 600), 0);
	stg_bwlimit_return(b, 600);
	assert_int_equal(stg_bwlimit_take(b, 1000), 1000);
	stg_bwlimit_return(b, 0);
	assert_int_equal(stg_bwlimit_take(b, 1000), 0);
	stg_bwlimit_return(b, GRAIN);
	assert_int_equal(stg_bwlimit_pause_ms(b, 100000), 0);
	assert_int_equal(stg_bwlimit_take(b, 100000), GRAIN);
	stg_bwlimit_free(b);
}

static void a_burst_is_never_larger_than_the_bucket(void **state)
{
	static const uint64_t rates[] = { 1, 1000, 100000, 1u << 20, 1u << 30, 10ull << 30 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
		struct stg_bwlimit *b = make(rates[i]);
		uint64_t size = MAX(rates[i] * STG_BWLIMIT_BURST_MS / 1000, (uint64_t)GRAIN);

		/* However much is given back, a bucket holds no more than it holds. */
		for (int k = 0; k < 4; k++)
			stg_bwlimit_return(b, size);
		assert_true(stg_bwlimit_take(b, SIZE_MAX) <= size);
		pause_ms(2 * STG_BWLIMIT_BURST_MS);
		assert_true(stg_bwlimit_take(b, SIZE_MAX) <= size);
		stg_bwlimit_free(b);
	}
}

static void a_full_bucket_gives_all_of_it(void **state)
{
	struct stg_bwlimit *b = make(1u << 20);
	size_t size = (1u << 20) * STG_BWLIMIT_BURST_MS / 1000;

	(void)state;
	pause_ms(2 * STG_BWLIMIT_BURST_MS);
	assert_int_equal(stg_bwlimit_pause_ms(b, SIZE_MAX), 0);
	assert_in_range(stg_bwlimit_take(b, SIZE_MAX), size - 1, size);
	stg_bwlimit_free(b);
}

static void after_the_pause_something_can_be_taken(void **state)
{
	struct stg_bwlimit *b = make(100000);

	(void)state;
	for (int i = 0; i < 4; i++) {
		int ms;

		while (stg_bwlimit_take(b, 100000))
			;
		ms = stg_bwlimit_pause_ms(b, 100000);
		assert_in_range(ms, 0, 1 + GRAIN / 100); /* a grain at 100 bytes a millisecond */
		pause_ms(ms);
		assert_true(stg_bwlimit_take(b, 100000) > 0);
	}
	stg_bwlimit_free(b);
}

struct crowd {
	struct stg_bwlimit *b;
	int64_t until_ns;
	atomic_uint_fast64_t taken;
};

static void *take_all(void *arg)
{
	struct crowd *c = arg;

	while (clock_mono_ns() < c->until_ns) {
		size_t n = stg_bwlimit_take(c->b, 65536);

		/* Half of it was not written after all. */
		stg_bwlimit_return(c->b, n / 2);
		atomic_fetch_add(&c->taken, n - n / 2);
		if (!n)
			pause_ms(MIN(stg_bwlimit_pause_ms(c->b, 65536), 10));
	}
	return NULL;
}

static void all_threads_together_stay_below_the_rate(void **state)
{
	const uint64_t rate = 2u << 20;
	struct crowd c = { .b = make(rate) };
	int64_t began = clock_mono_ns();
	pthread_t t[4];
	double s;

	(void)state;
	c.until_ns = began + 300000000;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		assert_int_equal(pthread_create(&t[i], NULL, take_all, &c), 0);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	s = (double)(clock_mono_ns() - began) / 1e9;
	assert_true(atomic_load(&c.taken) > 0);
	/* The bucket was empty in the beginning; a burst more for the edges. */
	assert_true((double)atomic_load(&c.taken) <=
		    (double)rate * (s + STG_BWLIMIT_BURST_MS / 1000.0) + 1);
	stg_bwlimit_free(c.b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_limit_takes_all),
		cmocka_unit_test(it_begins_empty),
		cmocka_unit_test(what_is_returned_can_be_taken_again),
		cmocka_unit_test(a_burst_is_never_larger_than_the_bucket),
		cmocka_unit_test(a_full_bucket_gives_all_of_it),
		cmocka_unit_test(after_the_pause_something_can_be_taken),
		cmocka_unit_test(all_threads_together_stay_below_the_rate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
