/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/macro.h"
#include "stager/catalog.h"
#include "transport/protocol.h"

#define MANY (2 * STG_PAGE_ROWS + 3)

struct fixture {
	char dir[40];
	struct stg_catalog *c;
	struct err e;
	struct stg_finding_page page;
	struct stg_check_link_page links;
};

#define OK(call)                                                       \
	do {                                                           \
		int ok_ = (call);                                      \
		if (ok_ < 0)                                           \
			fail_msg("%s: %d: %s", #call, ok_, f->e.text); \
	} while (0)

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	*state = f;
	strcpy(f->dir, "/tmp/test_findings.XXXXXX");
	return mkdtemp(f->dir) && stg_catalog_open(f->dir, &f->c, &f->e) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
	static const char *const names[] = { "catalog.db", "catalog.db-wal", "catalog.db-shm" };
	struct fixture *f = *state;
	char path[64];

	stg_catalog_close(f->c);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", f->dir, names[i]);
		unlink(path);
	}
	rmdir(f->dir);
	stg_finding_page_fini(&f->page);
	stg_check_link_page_fini(&f->links);
	free(f);
	return 0;
}

static void put(struct fixture *f, const char *path, uint32_t what, enum stg_cause cause,
		uint32_t round)
{
	OK(stg_catalog_put_finding(f->c, &(struct stg_finding){
		.path = bytes_str(path), .what = what, .cause = cause, .round = round,
		.detail = bytes_str(path) }, &f->e));
}

/* The one finding of this path on a page from the start. */
static struct stg_finding get(struct fixture *f, const char *path)
{
	f->page.began = false;
	OK(stg_catalog_next_finding(f->c, &f->page, &f->e));
	for (size_t i = 0; i < f->page.n; i++)
		if (bytes_eq(f->page.rows[i].path, bytes_str(path)))
			return f->page.rows[i];
	fail_msg("no finding of %s", path);
	return (struct stg_finding){ 0 };
}

static struct stg_finding_counts count(struct fixture *f)
{
	struct stg_finding_counts n;

	OK(stg_catalog_count_findings(f->c, &n, &f->e));
	return n;
}

static void findings_of_a_round_add_up_and_a_new_round_knows_better(void **state)
{
	struct fixture *f = *state;
	struct stg_finding got;

	put(f, "a", TP_D_MODE, STG_CAUSE_SOURCE, 1);
	put(f, "a", TP_D_LINKS, STG_CAUSE_TARGET, 1);
	put(f, "", TP_D_MTIME, STG_CAUSE_SOURCE, 1);
	got = get(f, "a");
	assert_int_equal(got.what, TP_D_MODE | TP_D_LINKS);
	assert_int_equal(got.cause, STG_CAUSE_TARGET);
	assert_int_equal(get(f, "").what, TP_D_MTIME);
	put(f, "a", TP_D_UID, STG_CAUSE_SOURCE, 2);
	got = get(f, "a");
	assert_int_equal(got.what, TP_D_UID);
	assert_int_equal(got.cause, STG_CAUSE_SOURCE);
	assert_int_equal(got.round, 2);
	assert_true(bytes_eq(got.detail, bytes_str("a")));
	put(f, "x", STG_D_EXTRA, STG_CAUSE_TARGET, 2);
	assert_true(get(f, "x").what == STG_D_EXTRA);
}

static void what_is_right_again_is_fixed(void **state)
{
	struct fixture *f = *state;

	put(f, "a", TP_D_MODE, STG_CAUSE_TARGET, 1);
	put(f, "b", TP_D_MODE, STG_CAUSE_SOURCE, 1);
	/* Not by the round that found it. */
	OK(stg_catalog_fix_finding(f->c, bytes_str("a"), 1, &f->e));
	assert_int_equal(count(f).open, 2);
	assert_int_equal(count(f).defects, 1);
	OK(stg_catalog_fix_finding(f->c, bytes_str("a"), 2, &f->e));
	OK(stg_catalog_fix_finding(f->c, bytes_str("nothing"), 2, &f->e));
	assert_int_equal(count(f).open, 1);
	assert_int_equal(count(f).defects, 0);
	assert_int_equal(count(f).fixed, 1);
	assert_int_equal(get(f, "a").what, TP_D_MODE);
	/* The same round looks at its links later, and that is all that counts. */
	put(f, "a", TP_D_LINKS, STG_CAUSE_TARGET, 2);
	assert_int_equal(get(f, "a").what, TP_D_LINKS);
	assert_false(get(f, "a").fixed);
	OK(stg_catalog_fix_finding(f->c, bytes_str("b"), 3, &f->e));
	OK(stg_catalog_clear_findings(f->c, true, &f->e));
	assert_int_equal(count(f).open + count(f).fixed, 1);
	OK(stg_catalog_clear_findings(f->c, false, &f->e));
	assert_int_equal(count(f).open, 0);
}

static void findings_come_in_pages_by_path(void **state)
{
	struct fixture *f = *state;
	size_t n = 0, pages = 0;
	char name[16], last[16] = "";

	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "%05d", (i * 7919) % MANY);
		put(f, name, TP_D_MODE, STG_CAUSE_TARGET, 1);
	}
	for (;; pages++) {
		OK(stg_catalog_next_finding(f->c, &f->page, &f->e));
		if (!f->page.n)
			break;
		for (size_t i = 0; i < f->page.n; i++, n++) {
			snprintf(name, sizeof(name), "%.*s", (int)f->page.rows[i].path.n,
				 f->page.rows[i].path.p);
			assert_true(strcmp(last, name) < 0);
			strcpy(last, name);
		}
	}
	assert_int_equal(n, MANY);
	assert_int_equal(pages, 3);
}

static void put_row(struct fixture *f, uint64_t dir, const char *name, uint64_t child)
{
	struct stg_row row = { .st = { .mode = child ? S_IFDIR : S_IFREG, .nlink = 1 },
			       .child = child,
			       .state = STG_ROW_CLEAN | STG_ROW_HASHED };

	OK(stg_catalog_record(f->c, dir, bytes_str("p"), bytes_str(name), &row, 0, &f->e));
}

static int row_at(struct fixture *f, const char *path, struct stg_row *ret)
{
	uint64_t dir;
	int r = stg_catalog_find(f->c, bytes_str(path), &dir, ret, &f->e);

	OK(r);
	return r;
}

static void rows_that_are_distrusted_lose_their_standing(void **state)
{
	struct fixture *f = *state;
	struct stg_row row;

	put_row(f, 0, "", STG_ROOT_ID);
	put_row(f, STG_ROOT_ID, "d", 7);
	put_row(f, 7, "f", 0);
	put_row(f, 7, "g", 0);
	OK(stg_catalog_distrust(f->c, bytes_str("d/f"), STG_DISTRUST_META, &f->e));
	assert_int_equal(row_at(f, "d/f", &row), 1);
	assert_int_equal(row.state, STG_ROW_HASHED);
	OK(stg_catalog_distrust(f->c, bytes_str("d/g"), STG_DISTRUST_ALL, &f->e));
	assert_int_equal(row_at(f, "d/g", &row), 1);
	assert_int_equal(row.state, STG_ROW_DEFECT);
	OK(stg_catalog_distrust(f->c, bytes_str("d/none/at/all"), STG_DISTRUST_META, &f->e));
	/* Of a directory what it holds is not sure, either. */
	OK(stg_catalog_distrust(f->c, bytes_str("d"), STG_DISTRUST_META, &f->e));
	assert_int_equal(row_at(f, "d", &row), 1);
	assert_int_equal(row.state, STG_ROW_HASHED);
	OK(stg_catalog_distrust(f->c, bytes_str("d"), STG_DISTRUST_ALL, &f->e));
	assert_int_equal(row_at(f, "d", &row), 1);
	assert_int_equal(row.state, STG_ROW_DIRTY);
	assert_int_equal(row_at(f, "d/f", &row), 1);
}

static void names_of_one_inode_come_together(void **state)
{
	struct fixture *f = *state;
	struct stg_stat st = { .mode = S_IFREG, .nlink = 2, .dev = 5 };
	struct stg_row row = { .st = { .mode = S_IFREG, .nlink = 3, .dev = 5, .ino = 1 } };
	char name[16];
	size_t n = 0;

	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		st.ino = 1000u + (uint64_t)(i % (MANY / 3));
		OK(stg_catalog_put_check_link(f->c, &st, bytes_str(""), bytes_str(name), true,
					      &f->e));
	}
	/* An inode of which the rows know more names. */
	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "r%d", i);
		OK(stg_catalog_record(f->c, STG_ROOT_ID, bytes_str(""), bytes_str(name), &row, 0,
				      &f->e));
	}
	st.ino = 1;
	OK(stg_catalog_put_check_link(f->c, &st, bytes_str(""), bytes_str("r0"), false, &f->e));
	for (uint64_t last = 0;;) {
		OK(stg_catalog_next_check_link(f->c, &f->links, &f->e));
		if (!f->links.n)
			break;
		for (size_t i = 0; i < f->links.n; i++, n++) {
			const struct stg_check_link *l = &f->links.rows[i];

			assert_true(l->ino >= last);
			last = l->ino;
			assert_int_equal(l->names, l->ino == 1 ? 3 : 3 + (l->ino - 1000 < MANY % (MANY / 3)));
			assert_int_equal(l->same, l->ino != 1);
		}
	}
	assert_int_equal(n, MANY + 1);
	OK(stg_catalog_add_check_links(f->c, 5, 1, &f->e));
	f->links.began = false;
	OK(stg_catalog_next_check_link(f->c, &f->links, &f->e));
	assert_true(bytes_eq(f->links.rows[2].name, bytes_str("r2")));
	OK(stg_catalog_clear_check_links(f->c, &f->e));
	f->links.began = false;
	OK(stg_catalog_next_check_link(f->c, &f->links, &f->e));
	assert_int_equal(f->links.n, 0);
}

int main(void)
{
#define ROW(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	static const struct CMUnitTest tests[] = {
		ROW(findings_of_a_round_add_up_and_a_new_round_knows_better),
		ROW(what_is_right_again_is_fixed),
		ROW(findings_come_in_pages_by_path),
		ROW(rows_that_are_distrusted_lose_their_standing),
		ROW(names_of_one_inode_come_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
