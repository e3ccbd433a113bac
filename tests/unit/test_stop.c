/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/stop.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define LONG_MS 60000 /* a sleep that only a signal ends in time */

static void a_signal_ends_every_sleep_and_stays(void **state)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		struct agt_stop s;
		struct err e = { 0 };

		assert_int_equal(agt_stop_open(false, &s, &e), 0);
		assert_false(agt_stop_asked(&s));
		assert_int_equal(agt_stop_sleep(&s, 1, &e), 0);
		raise(signals[i]);
		assert_true(agt_stop_asked(&s));
		assert_int_equal(agt_stop_sleep(&s, LONG_MS, &e), -ERR_CANCELLED);
		assert_int_equal(agt_stop_sleep(&s, LONG_MS, &e), -ERR_CANCELLED);
		assert_true(agt_stop_asked(&s));
		/* If it were still pending this would be the end. */
		agt_stop_close(&s);
	}
}

static void a_reload_cuts_a_sleep_short_until_it_is_looked_at(void **state)
{
	struct agt_stop s;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(agt_stop_open(true, &s, &e), 0);
	assert_false(agt_stop_reload_asked(&s));
	raise(SIGHUP);
	assert_false(agt_stop_asked(&s));
	assert_int_equal(agt_stop_sleep(&s, LONG_MS, &e), 1);
	assert_int_equal(agt_stop_sleep(&s, LONG_MS, &e), 1);
	assert_true(agt_stop_reload_asked(&s));
	assert_false(agt_stop_reload_asked(&s));
	assert_int_equal(agt_stop_sleep(&s, 1, &e), 0);
	raise(SIGHUP);
	raise(SIGTERM);
	assert_int_equal(agt_stop_sleep(&s, LONG_MS, &e), -ERR_CANCELLED);
	agt_stop_close(&s);
}

static void nobody_who_could_ask_is_fine(void **state)
{
	struct err e = { 0 };

	(void)state;
	assert_false(agt_stop_asked(NULL));
	assert_false(agt_stop_reload_asked(NULL));
	assert_int_equal(agt_stop_sleep(NULL, 0, &e), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_signal_ends_every_sleep_and_stays),
		cmocka_unit_test(a_reload_cuts_a_sleep_short_until_it_is_looked_at),
		cmocka_unit_test(nobody_who_could_ask_is_fine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
