/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Histories are made by a source that changes at a given rate and a link of a given speed, and
 * the forecast is held against what the next pass of that source would take.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "common/macro.h"
#include "stager/forecast.h"

#define MB 1000000.0

struct world {
	double base_s, scan_s;
	double throughput;  /* bytes a second */
	double rate;        /* bytes that change a second */
	double constant;    /* bytes that are sent in each pass */
	double total;       /* of the source */
	double now_s;
	double last_sync_s;
	struct stg_history h;
};

static double work_in(const struct world *w, double gap_s)
{
	return MIN(w->constant + w->rate * gap_s, w->total);
}

static void add(struct world *w, enum stg_phase_kind kind, double work)
{
	struct stg_past *p = &w->h.v[w->h.n];

	*p = (struct stg_past){
		.phase = (uint32_t)w->h.n + 1,
		.kind = kind,
		.finished = true,
		.started_ms = (int64_t)(w->now_s * 1000),
		.sync_ms = (int64_t)(w->now_s * 1000),
		.duration_s = w->base_s + work / w->throughput,
		.scan_s = w->scan_s,
		.entries_scanned = 100000,
		.bytes_scanned = (uint64_t)w->total,
		.bytes_literal = (uint64_t)work,
		.bytes_wire = (uint64_t)work,
	};
	snprintf(p->name, sizeof(p->name), "pass_%zu", w->h.n);
	w->h.n++;
	w->last_sync_s = w->now_s;
	w->now_s += p->duration_s;
}

/* A full sync, and the clock at its end. */
static struct world begin(double throughput, double rate)
{
	struct world w = {
		.base_s = 5,
		.scan_s = 3,
		.throughput = throughput,
		.rate = rate,
		.total = 100e9,
		.now_s = 1.7e9,
	};

	add(&w, STG_PHASE_FULL, w.total);
	return w;
}

/* Wait, then an incremental sync of what changed, times luck. */
static void pass(struct world *w, double wait_s, double luck)
{
	w->now_s += wait_s;
	add(w, STG_PHASE_INCREMENTAL, luck * work_in(w, w->now_s - w->last_sync_s));
}

static struct stg_forecast make(const struct world *w)
{
	struct err e = { 0 };
	struct stg_forecast f;

	assert_int_equal(stg_forecast_make(&w->h, (int64_t)(w->now_s * 1000), &f, &e), 0);
	assert_true(f.now.low <= f.now.expected + 1e-9 && f.now.expected <= f.now.high + 1e-9);
	assert_true(f.after.low <= f.after.expected + 1e-9);
	assert_true(f.after.expected <= f.after.high + 1e-9);
	assert_true(f.ratio.low <= f.ratio.expected && f.ratio.expected <= f.ratio.high);
	return f;
}

/* What a cutover would take that begins now. */
static double truth(const struct world *w)
{
	return w->base_s + work_in(w, w->now_s - w->last_sync_s) / w->throughput + w->scan_s;
}

static void near(double is, double want, double share)
{
	if (!(is >= want * (1 - share) && is <= want * (1 + share)))
		fail_msg("%g is not within %g %% of %g", is, share * 100, want);
}

static void two_passes_are_needed(void **state)
{
	struct world w = begin(100 * MB, 1 * MB);
	struct stg_history none = { 0 };
	struct stg_forecast f;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(stg_forecast_make(&none, 0, &f, &e), -ERR_FORBIDDEN);
	assert_non_null(strstr(e.text, "there are 0 so far, run \"stager full\""));
	assert_int_equal(stg_forecast_make(&w.h, 0, &f, &e), -ERR_FORBIDDEN);
	assert_non_null(strstr(e.text, "there is 1 so far, run \"stager incremental\""));
	pass(&w, 60, 1);
	w.h.v[1].finished = false;
	assert_int_equal(stg_forecast_make(&w.h, 0, &f, &e), -ERR_FORBIDDEN);
	assert_non_null(strstr(e.text, "there is 1 so far"));
	pass(&w, 60, 1);
	assert_int_equal(stg_forecast_make(&w.h, 0, &f, &e), -ERR_FORBIDDEN);
	assert_non_null(strstr(e.text, "broken-off"));
}

static void one_gap_is_enough_but_rough(void **state)
{
	struct world w = begin(100 * MB, 10 * MB);
	struct stg_forecast f;

	(void)state;
	pass(&w, 0, 1);
	f = make(&w);
	assert_true(f.converges);
	assert_int_equal(f.gaps, 1);
	near(f.now.expected, truth(&w), 0.1);
	near(f.throughput.expected, 100 * MB, 0.01);
	near(f.ratio.expected, 0.1, 0.02);
	assert_true(f.ratio.high >= 2 * f.ratio.expected);
	assert_true(f.now.low < 0.8 * f.now.expected && f.now.high > 1.3 * f.now.expected);
}

static void steady_changes_converge_to_what_comes(void **state)
{
	static const double rates[] = { 0.1, 1, 10, 50, 90 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
		struct world w = begin(100 * MB, rates[i] * MB);
		double rho = rates[i] / 100;
		struct stg_forecast f;

		for (int k = 0; k < 5; k++)
			pass(&w, 0, 1);
		f = make(&w);
		assert_true(f.converges);
		assert_false(f.growing || f.odd || f.broken || f.guessed);
		near(f.ratio.expected, rho, 0.05);
		near(f.now.expected, truth(&w), 0.1);
		/* Passes that send all the time do not tell what else they do. */
		if (rho < 0.8)
			near(f.floor_s, w.base_s / (1 - rho), 0.25);
		/* An hour later there is more to do, and one pass more makes up for it. */
		w.now_s += 3600;
		f = make(&w);
		near(f.now.expected, truth(&w), 0.1);
		pass(&w, 0, 1);
		near(f.after.expected, truth(&w), 0.15);
	}
}

static void a_source_that_outruns_the_link_does_not_converge(void **state)
{
	static const double rates[] = { 101, 110, 300, 10000 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
		struct world w = begin(100 * MB, rates[i] * MB);
		struct stg_forecast f;

		w.total = 1e15;
		pass(&w, 0, 1);
		pass(&w, 0, 1);
		pass(&w, 0, 1);
		f = make(&w);
		assert_false(f.converges);
		assert_true(f.floor_s < 0);
		near(f.ratio.expected, rates[i] / 100, 0.05);
	}
}

static void there_is_never_more_to_send_than_the_source(void **state)
{
	struct world w = begin(100 * MB, 50 * MB);
	struct stg_forecast f;

	(void)state;
	pass(&w, 0, 1);
	pass(&w, 0, 1);
	w.now_s += 1e7;
	f = make(&w);
	near(f.now.high, truth(&w), 0.4);
	near(f.now.expected, truth(&w), 0.1);
}

static void growing_changes_are_taken_at_their_latest(void **state)
{
	struct world w = begin(100 * MB, 1 * MB);
	struct stg_forecast f;

	(void)state;
	for (int k = 0; k < 5; k++) {
		pass(&w, 100, 1);
		w.rate *= 2;
	}
	w.rate /= 2;
	f = make(&w);
	assert_true(f.growing);
	near(f.rate.expected, w.rate, 0.05);
	for (int k = 0; k < 3; k++) {
		w.rate *= 3;
		w.total = 1e15;
		pass(&w, 10, 1);
	}
	f = make(&w);
	assert_true(f.growing);
	assert_false(f.converges);
}

static void a_single_pass_out_of_line_moves_nothing(void **state)
{
	(void)state;
	for (int at = 0; at < 5; at++) {
		struct world w = begin(100 * MB, 2 * MB);
		struct stg_forecast f;

		for (int k = 0; k < 5; k++)
			pass(&w, 300 + 7 * k, k == at ? 60 : 1);
		f = make(&w);
		assert_true(f.converges);
		near(f.rate.expected, 2 * MB, 0.15);
		near(f.now.expected, truth(&w), 0.35);
		/* Only where it is the newest one it may be the beginning of something. */
		assert_int_equal(f.odd, at == 4);
	}
}

static void noise_shows_as_a_range(void **state)
{
	static const double luck[][5] = {
		{ 0.5, 1.4, 0.9, 1.6, 0.7 },
		{ 1.5, 0.6, 1.1, 0.8, 1.3 },
		{ 0.4, 1.0, 1.9, 0.6, 1.2 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(luck); i++) {
		struct world w = begin(50 * MB, 5 * MB);
		struct stg_forecast f;

		for (size_t k = 0; k < 5; k++)
			pass(&w, 600, luck[i][k]);
		w.now_s += 600;
		f = make(&w);
		assert_true(f.converges);
		near(f.rate.expected, 5 * MB, 0.4);
		assert_true(f.now.low < truth(&w) && truth(&w) < f.now.high);
		assert_true(f.rate.high > 1.1 * f.rate.expected);
		assert_true(f.rate.low < 0.9 * f.rate.expected);
	}
}

static void without_changes_a_pass_is_a_walk(void **state)
{
	struct world w = begin(100 * MB, 0);
	struct stg_forecast f;

	(void)state;
	for (int k = 0; k < 3; k++)
		pass(&w, 100, 1);
	w.now_s += 1e6;
	f = make(&w);
	assert_true(f.converges);
	near(f.now.expected, w.base_s, 0.01);
	near(f.now.high, w.base_s, 0.01);
	near(f.floor_s, w.base_s, 0.01);
	near(f.scan_s, w.scan_s, 0.01);
	assert_true(f.ratio.high <= 0);
	assert_int_equal(f.dirs.n, 0);

	/* One change in an hour, in the last pass: that is the range. */
	w.rate = 1 * MB;
	w.last_sync_s = w.now_s - 100;
	w.h.v[w.h.n - 1].sync_ms = (int64_t)(w.last_sync_s * 1000);
	pass(&w, 0, 1);
	w.now_s += 100;
	f = make(&w);
	assert_true(f.odd);
	near(f.now.expected, w.base_s, 0.1);
	assert_true(f.now.high > w.base_s + w.scan_s + 0.9);
}

/* A database of 2 GB is sent in each pass; the rest grows.  Gaps differ, so it shows. */
static void what_is_sent_in_each_pass_is_told_from_what_grows(void **state)
{
	struct world w = begin(100 * MB, 1 * MB);
	struct stg_forecast f;

	(void)state;
	w.constant = 2000 * MB;
	pass(&w, 60, 1);
	pass(&w, 3600, 1);
	pass(&w, 600, 1);
	pass(&w, 7200, 1);
	f = make(&w);
	assert_true(f.converges);
	near(f.constant, w.constant, 0.1);
	near(f.rate.expected, w.rate, 0.1);
	near(f.floor_s, 25, 0.1);
	near(f.now.expected, truth(&w), 0.15);
	w.now_s += 86400;
	f = make(&w);
	near(f.now.expected, truth(&w), 0.15);
}

static void broken_off_passes_and_clock_steps_are_left_out(void **state)
{
	struct world w = begin(100 * MB, 10 * MB);
	struct stg_forecast f;

	(void)state;
	pass(&w, 100, 1);
	pass(&w, 100, 1);
	/* The pass that was killed took most of it. */
	pass(&w, 5000, 1);
	w.h.v[w.h.n - 1].finished = false;
	pass(&w, 10, 0.01);
	/* The clock was set back by a day. */
	w.now_s -= 86400;
	add(&w, STG_PHASE_INCREMENTAL, 100 * MB);
	/* In a cutover nothing changed, of course. */
	w.now_s += 1000;
	add(&w, STG_PHASE_CUTOVER, 0);
	pass(&w, 100, 1);
	f = make(&w);
	assert_true(f.broken);
	assert_int_equal(f.gaps, 3);
	assert_int_equal(f.passes, 7);
	near(f.rate.expected, 10 * MB, 0.05);
}

static void tiny_passes_do_not_tell_the_throughput(void **state)
{
	struct world w = { .base_s = 0.1, .scan_s = 0.01, .throughput = 1e9, .total = 5000,
			   .now_s = 1.7e9 };
	struct stg_forecast f;

	(void)state;
	add(&w, STG_PHASE_FULL, w.total);
	add(&w, STG_PHASE_INCREMENTAL, 10);
	f = make(&w);
	assert_true(f.guessed);
	assert_true(f.converges);
	near(f.throughput.expected, 100 * MB, 0.01);
}

/* A heavy pass is sending all the time, and the walk waits for it: no cost of its own. */
static void a_walk_that_waits_is_not_taken_for_slow(void **state)
{
	struct world w = begin(50 * MB, 25 * MB);
	struct stg_forecast f;

	(void)state;
	for (int k = 0; k < 4; k++) {
		struct stg_past *p = &w.h.v[w.h.n];

		pass(&w, 1000, 1);
		p->scan_s = p->duration_s - 1;
	}
	w.h.v[0].scan_s = w.h.v[0].duration_s;
	w.now_s += 1000;
	f = make(&w);
	near(f.throughput.expected, 50 * MB, 0.05);
	near(f.now.expected, truth(&w), 0.1);
}

/* ---- paths ---- */

static struct stg_changes changes(size_t n, ...)
{
	struct stg_changes c = { .v = calloc(n, sizeof(*c.v)), .n = n };
	va_list ap;

	assert_non_null(c.v);
	va_start(ap, n);
	for (size_t i = 0; i < n; i++) {
		c.v[i].path = strdup(va_arg(ap, const char *));
		c.v[i].count.literal = (uint64_t)va_arg(ap, double);
		c.v[i].count.entries = 1;
	}
	va_end(ap);
	return c;
}

static struct world with_paths(void)
{
	struct world w = begin(10 * MB, 30 * MB);

	w.total = 1e15;
	for (int k = 0; k < 3; k++) {
		struct stg_past *p = &w.h.v[w.h.n];

		pass(&w, 0, 1);
		p->dirs = changes(3, "var/lib/db", (double)p->bytes_literal * 0.7, "var/log",
				  (double)p->bytes_literal * 0.2, ".", (double)p->bytes_literal * 0.1);
		p->files = changes(2, "var/lib/db/a\x01\n", (double)p->bytes_literal * 0.7,
				   k ? "x" : "y", 1e6);
	}
	w.h.v[2].files.v[1].path_base64 = strdup("eP8=");
	return w;
}

static void the_paths_of_the_passes_become_one_list(void **state)
{
	struct world w = with_paths();
	struct stg_forecast f = make(&w);

	(void)state;
	assert_false(f.converges);
	assert_int_equal(f.dirs.n, 3);
	assert_string_equal(f.dirs.v[0].path->path, "var/lib/db");
	near(f.dirs.v[0].share, 0.7, 0.01);
	near(f.dirs.v[0].bytes_per_s, 21 * MB, 0.02);
	assert_string_equal(f.dirs.v[2].path->path, ".");
	/* A name that is no UTF-8 is another one than what it looks like. */
	assert_int_equal(f.files.n, 4);
	stg_history_fini(&w.h);
}

static void the_verdict_is_the_first_line(void **state)
{
	_cleanup_(buf_fini) struct buf text = BUF_INIT, json = BUF_INIT;
	struct world w = with_paths(), calm = begin(100 * MB, 1 * MB);
	struct stg_forecast f = make(&w);
	cJSON *j;

	(void)state;
	assert_int_equal(stg_forecast_text(&f, &w.h, &text), 0);
	assert_ptr_equal(strstr(buf_cstr(&text), "DOES NOT CONVERGE: "), buf_cstr(&text));
	assert_non_null(strstr(buf_cstr(&text), "var/lib/db/a\\x01\\x0a\n"));
	assert_null(memchr(text.p, 1, text.n));
	assert_int_equal(stg_forecast_json(&f, &w.h, &json), 0);
	j = cJSON_Parse(buf_cstr(&json));
	assert_non_null(j);
	assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(j, "verdict")),
			    "DOES NOT CONVERGE");
	assert_true(cJSON_IsNull(cJSON_GetObjectItem(j, "shortest_pass_s")));
	assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(j, "passes")), 4);
	assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(j, "directories")), 3);
	assert_non_null(strstr(buf_cstr(&json), "\"path_base64\":\"eP8=\""));
	cJSON_Delete(j);
	stg_history_fini(&w.h);

	pass(&calm, 10, 1);
	f = make(&calm);
	buf_clear(&text);
	assert_int_equal(stg_forecast_text(&f, &calm.h, &text), 0);
	assert_ptr_equal(strstr(buf_cstr(&text), "CONVERGES: "), buf_cstr(&text));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_passes_are_needed),
		cmocka_unit_test(one_gap_is_enough_but_rough),
		cmocka_unit_test(steady_changes_converge_to_what_comes),
		cmocka_unit_test(a_source_that_outruns_the_link_does_not_converge),
		cmocka_unit_test(there_is_never_more_to_send_than_the_source),
		cmocka_unit_test(growing_changes_are_taken_at_their_latest),
		cmocka_unit_test(a_single_pass_out_of_line_moves_nothing),
		cmocka_unit_test(noise_shows_as_a_range),
		cmocka_unit_test(without_changes_a_pass_is_a_walk),
		cmocka_unit_test(what_is_sent_in_each_pass_is_told_from_what_grows),
		cmocka_unit_test(broken_off_passes_and_clock_steps_are_left_out),
		cmocka_unit_test(tiny_passes_do_not_tell_the_throughput),
		cmocka_unit_test(a_walk_that_waits_is_not_taken_for_slow),
		cmocka_unit_test(the_paths_of_the_passes_become_one_list),
		cmocka_unit_test(the_verdict_is_the_first_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
