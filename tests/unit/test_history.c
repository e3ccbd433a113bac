/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/macro.h"
#include "stager/catalog.h"
#include "stager/history.h"

struct fixture {
	char dir[64];
	struct stg_catalog *c;
	struct stg_history h;
	struct err e;
};

static void reopen(struct fixture *f)
{
	stg_catalog_close(f->c);
	f->c = NULL;
	assert_int_equal(stg_catalog_open(f->dir, &f->c, &f->e), 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/test_history.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	reopen(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	static const char *const names[] = { "", "-wal", "-shm" };
	struct fixture *f = *state;
	char path[128];

	stg_history_fini(&f->h);
	stg_catalog_close(f->c);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/" STG_CATALOG_FILE "%s", f->dir, names[i]);
		unlink(path);
	}
	rmdir(f->dir);
	free(f);
	return 0;
}

static void load(struct fixture *f)
{
	stg_history_fini(&f->h);
	assert_int_equal(stg_history_load(f->c, &f->h, &f->e), 0);
}

static void put(struct fixture *f, uint32_t phase, bool finished)
{
	struct stg_past p = {
		.phase = phase,
		.kind = STG_PHASE_INCREMENTAL,
		.finished = finished,
		.started_ms = 1700000000123 + phase,
		.sync_ms = 1700000000456 + phase,
		.duration_s = 1.25,
		.scan_s = 0.5,
		.entries_scanned = 7,
		.bytes_literal = 1ull << 50,
		.bytes_wire = 12,
	};

	snprintf(p.name, sizeof(p.name), "incremental_sync_%u", phase);
	assert_int_equal(stg_history_put(f->c, &p, &f->e), 0);
}

static void rows_come_back_as_they_were(void **state)
{
	struct fixture *f = *state;

	load(f);
	assert_int_equal(f->h.n, 0);
	put(f, 3, true);
	put(f, 4, false);
	reopen(f);
	load(f);
	assert_int_equal(f->h.n, 2);
	assert_int_equal(f->h.v[0].phase, 3);
	assert_true(f->h.v[0].finished);
	assert_false(f->h.v[1].finished);
	assert_string_equal(f->h.v[1].name, "incremental_sync_4");
	assert_int_equal(f->h.v[0].started_ms, 1700000000126);
	assert_int_equal(f->h.v[0].sync_ms, 1700000000459);
	assert_int_equal(f->h.v[0].bytes_literal, 1ull << 50);
	assert_int_equal(f->h.v[0].entries_scanned, 7);
	assert_true(f->h.v[0].duration_s > 1.24 && f->h.v[0].duration_s < 1.26);

	/* The end of a phase replaces its beginning; one that did nothing goes. */
	put(f, 4, true);
	put(f, 5, false);
	assert_int_equal(stg_history_drop(f->c, 5, &f->e), 0);
	assert_int_equal(stg_history_drop(f->c, 99, &f->e), 0);
	load(f);
	assert_int_equal(f->h.n, 2);
	assert_true(f->h.v[1].finished);
}

static void what_was_not_committed_is_as_if_it_had_not_been(void **state)
{
	struct fixture *f = *state;

	put(f, 1, false);
	assert_int_equal(stg_catalog_commit(f->c, &f->e), 0);
	load(f);
	assert_int_equal(f->h.n, 1);
	assert_false(f->h.v[0].finished);
}

static void the_oldest_go(void **state)
{
	struct fixture *f = *state;

	for (uint32_t i = 1; i <= STG_HISTORY_MAX + 10; i++)
		put(f, i, true);
	load(f);
	assert_int_equal(f->h.n, STG_HISTORY_MAX);
	assert_int_equal(f->h.v[0].phase, 11);
	assert_int_equal(f->h.v[STG_HISTORY_MAX - 1].phase, STG_HISTORY_MAX + 10);
}

static void counters_become_lists(void **state)
{
	struct fixture *f = *state;
	struct stg_past p = { .phase = 1, .finished = true };
	struct stg_hot *h = NULL;

	assert_int_equal(stg_hot_new(&h, &f->e), 0);
	stg_hot_add(h, bytes_str("a\"b"), bytes_str("x\n\xff"),
		    (struct stg_hot_count){ .literal = 5000000, .matched = 3, .entries = 1 });
	stg_hot_add(h, bytes_of("", 0), bytes_str("\xc3\xa4"),
		    (struct stg_hot_count){ .literal = 1000000 });
	assert_int_equal(stg_past_take_hot(&p, h, &f->e), 0);
	stg_hot_free(h);
	assert_int_equal(stg_history_put(f->c, &p, &f->e), 0);
	reopen(f);
	load(f);
	assert_int_equal(f->h.v[0].dirs.n, 2);
	assert_string_equal(f->h.v[0].dirs.v[0].path, "a\"b");
	assert_null(f->h.v[0].dirs.v[0].path_base64);
	assert_int_equal(f->h.v[0].dirs.v[0].count.literal, 5000000);
	assert_int_equal(f->h.v[0].dirs.v[0].count.matched, 3);
	assert_int_equal(f->h.v[0].dirs.v[0].count.entries, 1);
	assert_string_equal(f->h.v[0].dirs.v[1].path, ".");
	assert_string_equal(f->h.v[0].files.v[0].path, "a\"b/x\\x0a\\xff");
	assert_string_equal(f->h.v[0].files.v[0].path_base64, "YSJiL3gK/w==");
	assert_string_equal(f->h.v[0].files.v[1].path, "\xc3\xa4");
}

static void nonsense_is_no_history(void **state)
{
	static const char *const texts[] = {
		"", "x", "{", "[", "[1,2]", "{\"a\":1}", "[{}]", "null", "[{\"name\":5}]",
		"[{\"name\":\"x\",\"kind\":7}]", "[{\"name\":\"x\",\"phase\":1e300,\"sync_ms\":1e300}]",
		"[{\"name\":\"x\",\"kind\":-1}]",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		assert_int_equal(stg_catalog_set(f->c, "history", texts[i], &f->e), 0);
		load(f);
		assert_int_equal(f->h.n, 0);
	}
	assert_int_equal(stg_catalog_set(f->c, "history",
					 "[{\"name\":\"x\",\"dirs\":[{\"path\":1}],\"files\":5,"
					 "\"duration_s\":-4,\"entries_scanned\":-1}]", &f->e), 0);
	load(f);
	assert_int_equal(f->h.n, 1);
	assert_int_equal(f->h.v[0].dirs.n, 0);
	assert_int_equal(f->h.v[0].entries_scanned, 0);
	assert_true(f->h.v[0].duration_s >= 0);
	put(f, 1, true);
	load(f);
	assert_int_equal(f->h.n, 2);
}

#define WITH(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH(rows_come_back_as_they_were),
		WITH(what_was_not_committed_is_as_if_it_had_not_been),
		WITH(the_oldest_go),
		WITH(counters_become_lists),
		WITH(nonsense_is_no_history),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
