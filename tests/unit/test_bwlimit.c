/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limit asks a clock that the tests move, so nothing here depends on how fast they run;
 * but for the threads, where what they took is held against the time that really passed.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "common/io.h"
#include "common/macro.h"
#include "stager/bwlimit.h"

#define GRAIN 4096 /* a bucket is never smaller */
#define MS 1000000LL

struct clock {
	int64_t mono_ns, real_ns;
};

static int64_t mono(void *arg)
{
	return ((struct clock *)arg)->mono_ns;
}

static int64_t real(void *arg)
{
	return ((struct clock *)arg)->real_ns;
}

static void pass_ms(struct clock *c, int64_t ms)
{
	c->mono_ns += ms * MS;
	c->real_ns += ms * MS;
}

static struct stg_bwlimit *make_windows(struct clock *c, uint64_t rate,
					const struct stg_bwwindow *w, size_t n)
{
	const struct stg_bwlimit_opts o = {
		.bytes_per_s = rate,
		.windows = w,
		.windows_n = n,
		.mono_ns = c ? mono : NULL,
		.real_ns = c ? real : NULL,
		.clock_arg = c,
	};
	struct stg_bwlimit *b = NULL;
	struct err e = { 0 };

	assert_int_equal(stg_bwlimit_new(&o, &b, &e), 0);
	assert_non_null(b);
	return b;
}

static struct stg_bwlimit *make(struct clock *c, uint64_t rate)
{
	return make_windows(c, rate, NULL, 0);
}

static void no_limit_takes_all(void **state)
{
	static const size_t wants[] = { 0, 1, 4096, SIZE_MAX };
	struct stg_bwlimit_state now = { .bytes_per_s = 1 };
	struct stg_bwlimit *b = (void *)1;

	(void)state;
	assert_int_equal(stg_bwlimit_new(&(struct stg_bwlimit_opts){ 0 }, &b, NULL), 0);
	assert_null(b);
	for (size_t i = 0; i < ARRAY_SIZE(wants); i++) {
		assert_true(stg_bwlimit_take(NULL, wants[i]) == wants[i]);
		assert_int_equal(stg_bwlimit_pause_ms(NULL, wants[i]), 0);
		stg_bwlimit_settle(NULL, wants[i], 0);
	}
	stg_bwlimit_get(NULL, &now);
	assert_int_equal(now.bytes_per_s, 0);
	stg_bwlimit_free(NULL);
}

static void it_begins_empty(void **state)
{
	struct clock c = { 0 };
	struct stg_bwlimit *b = make(&c, 1000);

	(void)state;
	assert_int_equal(stg_bwlimit_take(b, 100000), 0);
	assert_int_equal(stg_bwlimit_take(b, 0), 0);
	assert_int_equal(stg_bwlimit_pause_ms(b, 0), 0);
	/* Four seconds to a grain, but the limit may be another one by then. */
	assert_int_equal(stg_bwlimit_pause_ms(b, 100000), STG_BWLIMIT_PAUSE_MS);
	pass_ms(&c, 4000);
	assert_int_equal(stg_bwlimit_take(b, 100000), 0);
	assert_int_equal(stg_bwlimit_pause_ms(b, 100000), 97);
	pass_ms(&c, 97);
	assert_in_range(stg_bwlimit_take(b, 100000), 4096, 4097);
	stg_bwlimit_free(b);
}

static void what_was_not_spent_can_be_taken_again(void **state)
{
	struct clock c = { 0 };
	struct stg_bwlimit *b = make(&c, 1);

	(void)state;
	stg_bwlimit_settle(b, 1000, 0);
	assert_int_equal(stg_bwlimit_take(b, 100000), 0); /* less than a grain is not worth it */
	assert_int_equal(stg_bwlimit_take(b, 600), 600);  /* unless no more is wanted */
	assert_int_equal(stg_bwlimit_take(b, 600), 0);
	stg_bwlimit_settle(b, 600, 0);
	assert_int_equal(stg_bwlimit_take(b, 1000), 1000);
	stg_bwlimit_settle(b, 77, 77);
	assert_int_equal(stg_bwlimit_take(b, 1000), 0);
	stg_bwlimit_settle(b, GRAIN + 5, 5);
	assert_int_equal(stg_bwlimit_pause_ms(b, 100000), 0);
	assert_int_equal(stg_bwlimit_take(b, 100000), GRAIN);
	stg_bwlimit_free(b);
}

static void what_was_spent_beyond_is_paid_back_first(void **state)
{
	struct clock c = { 0 };
	struct stg_bwlimit *b = make(&c, 1000000);

	(void)state;
	stg_bwlimit_settle(b, 0, 50000);
	pass_ms(&c, 50);
	assert_int_equal(stg_bwlimit_take(b, 1), 0);
	assert_in_range(stg_bwlimit_pause_ms(b, 100000), 4, 6);
	pass_ms(&c, 10);
	assert_in_range(stg_bwlimit_take(b, 100000), 9999, 10000);
	stg_bwlimit_free(b);
}

static void an_idle_hour_is_worth_no_more_than_the_bucket(void **state)
{
	static const uint64_t rates[] = { 1, 1000, 100000, 1u << 20, 1u << 30, 10ull << 30 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
		struct clock c = { 0 };
		struct stg_bwlimit *b = make(&c, rates[i]);
		uint64_t size = MAX(rates[i] * STG_BWLIMIT_BURST_MS / 1000, (uint64_t)GRAIN);

		/* However much is given back, a bucket holds no more than it holds. */
		for (int k = 0; k < 4; k++)
			stg_bwlimit_settle(b, size, 0);
		assert_true(stg_bwlimit_take(b, SIZE_MAX) <= size);
		pass_ms(&c, 3600 * 1000);
		if (rates[i] >= 1000)
			assert_int_equal(stg_bwlimit_pause_ms(b, SIZE_MAX), 0);
		assert_true(stg_bwlimit_take(b, SIZE_MAX) <= size);
		assert_true(stg_bwlimit_take(b, SIZE_MAX) == 0);
		stg_bwlimit_free(b);
	}
}

/*
 * Eight sessions that write when they may, with pauses of all of them, and what SSH adds: in
 * no two seconds more than 1.05 times the limit leaves, nor less while all are busy.
 */
static void every_two_seconds_hold_the_limit(void **state)
{
	static const uint64_t rates[] = { 100000, 1u << 20, 20u << 20, 300u << 20 };
	enum { STEPS = 10000, WINDOW = 2000 };
	uint64_t *out = calloc(STEPS + 1, sizeof(*out));

	(void)state;
	assert_non_null(out);
	for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
		struct clock c = { 0 };
		struct stg_bwlimit *b = make(&c, rates[i]);

		for (int ms = 0; ms < STEPS; ms++) {
			bool idle = ms >= 4000 && ms < 6500;

			out[ms + 1] = out[ms];
			pass_ms(&c, 1);
			for (int s = 0; s < 8 && !idle; s++) {
				size_t n = stg_bwlimit_take(b, 1u << 20);
				size_t took = n - n / 4;
				uint64_t wire = took + (took + 32767) / 32768 * 60;

				stg_bwlimit_settle(b, n, wire);
				out[ms + 1] += wire;
			}
		}
		for (int ms = 0; ms + WINDOW <= STEPS; ms++) {
			double share = (double)(out[ms + WINDOW] - out[ms]) / 2 / (double)rates[i];
			bool busy = ms > 100 && (ms + WINDOW < 4000 || ms > 6600);

			assert_true(share <= 1.05);
			if (busy)
				assert_true(share >= 0.95);
		}
		stg_bwlimit_free(b);
	}
	free(out);
}

/* 2026-06-01 08:59:59 UTC, in nanoseconds. */
#define MORNING_NS (1780304399LL * 1000 * MS)

static void a_window_begins_and_ends_while_bytes_flow(void **state)
{
	const struct stg_bwwindow w[] = { { 9 * 60, 10 * 60, 1000000 } };
	struct clock c = { .real_ns = MORNING_NS };
	struct stg_bwlimit *b = make_windows(&c, 0, w, 1);
	struct stg_bwlimit_state now;
	uint64_t taken = 0;

	(void)state;
	stg_bwlimit_get(b, &now);
	assert_int_equal(now.bytes_per_s, 0);
	assert_null(now.window);
	assert_true(stg_bwlimit_take(b, SIZE_MAX / 2) == SIZE_MAX / 2);
	assert_int_equal(stg_bwlimit_pause_ms(b, 1000), 0);
	pass_ms(&c, 1000 + STG_BWLIMIT_LOOK_MS);
	stg_bwlimit_get(b, &now);
	assert_int_equal(now.bytes_per_s, 1000000);
	assert_ptr_equal(now.window, &w[0]);
	/* What went before is neither debt nor credit. */
	for (int ms = 0; ms < 2000; ms++) {
		pass_ms(&c, 1);
		taken += stg_bwlimit_take(b, 65536);
	}
	assert_in_range(taken, 1990000, 2050000);
	/* The clock is set: the window is over, and begins again when it is set back. */
	c.real_ns += 3600 * 1000 * MS;
	pass_ms(&c, STG_BWLIMIT_LOOK_MS);
	assert_true(stg_bwlimit_take(b, SIZE_MAX / 2) == SIZE_MAX / 2);
	c.real_ns -= 1800 * 1000 * MS;
	pass_ms(&c, STG_BWLIMIT_LOOK_MS);
	assert_true(stg_bwlimit_take(b, 1u << 20) <= 25000);
	stg_bwlimit_free(b);
}

static void outside_of_the_windows_the_general_limit_holds(void **state)
{
	const struct stg_bwwindow w[] = { { 9 * 60, 10 * 60, 5000000 } };
	struct clock c = { .real_ns = MORNING_NS };
	struct stg_bwlimit *b = make_windows(&c, 2000000, w, 1);
	struct stg_bwlimit_state now;

	(void)state;
	pass_ms(&c, 500);
	assert_int_equal(stg_bwlimit_take(b, 1u << 20), 50000);
	pass_ms(&c, 1000);
	stg_bwlimit_get(b, &now);
	assert_int_equal(now.bytes_per_s, 5000000);
	pass_ms(&c, 100);
	assert_int_equal(stg_bwlimit_take(b, 1u << 20), 125000);
	stg_bwlimit_free(b);
}

struct crowd {
	struct stg_bwlimit *b;
	int64_t until_ns;
	atomic_uint_fast64_t taken;
};

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000 }, NULL);
}

static void *take_all(void *arg)
{
	struct crowd *c = arg;

	while (clock_mono_ns() < c->until_ns) {
		size_t n = stg_bwlimit_take(c->b, 65536);

		/* Half of it was not written after all. */
		stg_bwlimit_settle(c->b, n, n - n / 2);
		atomic_fetch_add(&c->taken, n - n / 2);
		if (!n)
			pause_ms(MIN(stg_bwlimit_pause_ms(c->b, 65536), 10));
	}
	return NULL;
}

static void all_threads_together_stay_below_the_rate(void **state)
{
	const uint64_t rate = 2u << 20;
	struct crowd c = { .b = make(NULL, rate) };
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
		cmocka_unit_test(what_was_not_spent_can_be_taken_again),
		cmocka_unit_test(what_was_spent_beyond_is_paid_back_first),
		cmocka_unit_test(an_idle_hour_is_worth_no_more_than_the_bucket),
		cmocka_unit_test(every_two_seconds_hold_the_limit),
		cmocka_unit_test(a_window_begins_and_ends_while_bytes_flow),
		cmocka_unit_test(outside_of_the_windows_the_general_limit_holds),
		cmocka_unit_test(all_threads_together_stay_below_the_rate),
	};

	setenv("TZ", "UTC", 1);
	tzset();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
