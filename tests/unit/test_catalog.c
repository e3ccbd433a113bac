/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "common/io.h"
#include "common/macro.h"
#include "stager/catalog.h"
#include "transport/protocol.h"

#define MANY (2 * STG_PAGE_ROWS + 17) /* three pages */

struct fixture {
	char dir[40];
	struct stg_catalog *c;
	struct stg_catalog_reader *r;
	struct stg_rows rows;
	struct err e;
};

#define OK(call)                                                                     \
	do {                                                                         \
		int ok_ = (call);                                                    \
		if (ok_ < 0)                                                         \
			fail_msg("%s: %d: %s", #call, ok_, f->e.text);               \
	} while (0)

static void reader_shut(struct fixture *f)
{
	stg_catalog_reader_close(TAKE_PTR(f->r));
}

static void reopen(struct fixture *f)
{
	reader_shut(f);
	stg_catalog_close(TAKE_PTR(f->c));
	OK(stg_catalog_open(f->dir, &f->c, &f->e));
}

static void remove_files(struct fixture *f)
{
	static const char *const names[] = { "catalog.db", "catalog.db-wal", "catalog.db-shm" };
	char path[64];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", f->dir, names[i]);
		unlink(path);
	}
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	*state = f;
	strcpy(f->dir, "/tmp/test_catalog.XXXXXX");
	return mkdtemp(f->dir) && stg_catalog_open(f->dir, &f->c, &f->e) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	reader_shut(f);
	stg_catalog_close(f->c);
	stg_rows_fini(&f->rows);
	remove_files(f);
	rmdir(f->dir);
	free(f);
	return 0;
}

static struct stg_row file_row(uint64_t ino, uint32_t nlink)
{
	return (struct stg_row){
		.st = { .mode = S_IFREG | 0644, .size = ino * 3, .mtime_s = 1, .ctime_s = 2,
			.ino = ino, .dev = 8, .nlink = nlink },
		.phase = 1,
		.epoch = 1,
		.state = STG_ROW_CLEAN,
	};
}

static struct stg_row dir_row(uint64_t child)
{
	return (struct stg_row){
		.st = { .mode = S_IFDIR | 0755, .nlink = 2 },
		.child = child,
		.state = STG_ROW_CLEAN,
	};
}

static void record(struct fixture *f, uint64_t dir, const char *name, const struct stg_row *row)
{
	OK(stg_catalog_record(f->c, dir, bytes_str("path"), bytes_str(name), row, 0, &f->e));
}

/* What a reader that was opened now sees in dir. */
static size_t read_dir(struct fixture *f, uint64_t dir)
{
	OK(stg_catalog_commit(f->c, &f->e));
	if (!f->r)
		OK(stg_catalog_reader_open(f->c, &f->r, &f->e));
	OK(stg_catalog_read_dir(f->r, dir, &f->rows, &f->e));
	return f->rows.n;
}

/* 1: dir has name, and *ret is its row. */
static int read_one(struct fixture *f, uint64_t dir, const char *name, struct stg_row *ret)
{
	int r;

	OK(stg_catalog_commit(f->c, &f->e));
	if (!f->r)
		OK(stg_catalog_reader_open(f->c, &f->r, &f->e));
	r = stg_catalog_read_one(f->r, dir, bytes_str(name), ret, &f->e);
	OK(r);
	return r;
}

/* --- rows --- */

static void rows_survive_a_reopen(void **state)
{
	struct fixture *f = *state;
	struct stg_row a = file_row(17, 1), d = dir_row(9), got;

	memset(a.hash.b, 0xab, sizeof(a.hash.b));
	a.state |= STG_ROW_HASHED;
	a.st.mtime_s = -5;
	record(f, STG_ROOT_ID, "a", &a);
	record(f, STG_ROOT_ID, "d", &d);
	reopen(f); /* closing commits */
	assert_int_equal(read_one(f, STG_ROOT_ID, "a", &got), 1);
	assert_true(stg_stat_same(&got.st, &a.st));
	assert_int_equal(got.state, a.state);
	assert_int_equal(got.epoch, a.epoch);
	assert_memory_equal(got.hash.b, a.hash.b, sizeof(a.hash.b));
	assert_int_equal(read_one(f, STG_ROOT_ID, "d", &got), 1);
	assert_int_equal(got.child, 9);
	assert_int_equal(read_one(f, STG_ROOT_ID, "b", &got), 0);
	assert_int_equal(read_one(f, 2, "a", &got), 0);
}

static void a_row_is_replaced_by_the_next_one(void **state)
{
	struct fixture *f = *state;
	struct stg_row a = file_row(17, 1), b = file_row(18, 1), got;

	record(f, STG_ROOT_ID, "a", &a);
	record(f, STG_ROOT_ID, "a", &b);
	assert_int_equal(read_dir(f, STG_ROOT_ID), 1);
	assert_int_equal(read_one(f, STG_ROOT_ID, "a", &got), 1);
	assert_int_equal(got.st.ino, 18);
}

static void names_hold_every_byte_and_are_sorted(void **state)
{
	struct fixture *f = *state;
	size_t n = 0;

	for (unsigned b = 255; b > 0; b--) {
		uint8_t one[] = { (uint8_t)b }, two[] = { 'm', (uint8_t)b };
		struct stg_row row = file_row(b, 1);

		if (b == '/')
			continue;
		OK(stg_catalog_record(f->c, STG_ROOT_ID, bytes_str(""), bytes_of(one, 1), &row, 0,
				      &f->e));
		OK(stg_catalog_record(f->c, STG_ROOT_ID, bytes_str(""), bytes_of(two, 2), &row, 0,
				      &f->e));
		n += 2;
	}
	assert_int_equal(read_dir(f, STG_ROOT_ID), n);
	for (size_t i = 0; i < n; i++) {
		struct bytes name = f->rows.v[i].name;

		assert_int_equal(f->rows.v[i].row.st.ino, name.p[name.n - 1]);
		if (i)
			assert_true(bytes_cmp(f->rows.v[i - 1].name, name) < 0);
	}
}

static void a_reader_sees_what_is_committed(void **state)
{
	struct fixture *f = *state;
	struct stg_row row = file_row(1, 1), got;

	OK(stg_catalog_reader_open(f->c, &f->r, &f->e));
	record(f, STG_ROOT_ID, "a", &row);
	assert_int_equal(stg_catalog_read_one(f->r, STG_ROOT_ID, bytes_str("a"), &got, &f->e), 0);
	OK(stg_catalog_commit(f->c, &f->e));
	assert_int_equal(stg_catalog_read_one(f->r, STG_ROOT_ID, bytes_str("a"), &got, &f->e), 1);
	OK(stg_catalog_forget(f->c, STG_ROOT_ID, bytes_str("a"), &f->e));
	OK(stg_catalog_read_dir(f->r, STG_ROOT_ID, &f->rows, &f->e));
	assert_int_equal(f->rows.n, 1);
	OK(stg_catalog_commit(f->c, &f->e));
	OK(stg_catalog_read_dir(f->r, STG_ROOT_ID, &f->rows, &f->e));
	assert_int_equal(f->rows.n, 0);
}

static void a_large_directory_is_read_whole(void **state)
{
	struct fixture *f = *state;
	char name[32];

	for (uint64_t i = 0; i < 100000; i++) {
		struct stg_row row = file_row(i, 1);

		snprintf(name, sizeof(name), "%llu", (unsigned long long)(i * 7919 % 100000));
		record(f, 5, name, &row);
	}
	assert_int_equal(read_dir(f, 5), 100000);
	for (size_t i = 1; i < f->rows.n; i++)
		assert_true(bytes_cmp(f->rows.v[i - 1].name, f->rows.v[i].name) < 0);
	assert_int_equal(read_dir(f, 4), 0);
	assert_int_equal(read_dir(f, 6), 0);
}

static void forgetting_takes_the_whole_tree(void **state)
{
	struct fixture *f = *state;
	struct stg_row row = file_row(77, 2), got;
	uint32_t links = 99;

	/* a/ has 300 directories with a file each, the file has more names outside. */
	got = dir_row(10);
	record(f, STG_ROOT_ID, "a", &got);
	for (uint64_t i = 0; i < 300; i++) {
		struct stg_row sub = dir_row(1000 + i);
		struct stg_stat st = { .mode = S_IFDIR };
		char name[32];

		snprintf(name, sizeof(name), "%llu", (unsigned long long)i);
		record(f, 10, name, &sub);
		record(f, 1000 + i, "file", &row);
		OK(stg_catalog_mark_dirty(f->c, 10, bytes_str(name), 1000 + i, bytes_str("a/x"), 2,
					  &st, 1, &f->e));
	}
	record(f, STG_ROOT_ID, "b", &row);
	OK(stg_catalog_count_links(f->c, 8, 77, &links, &f->e));
	assert_int_equal(links, 301);
	OK(stg_catalog_forget(f->c, STG_ROOT_ID, bytes_str("a"), &f->e));
	assert_int_equal(read_one(f, STG_ROOT_ID, "a", &got), 0);
	assert_int_equal(read_one(f, STG_ROOT_ID, "b", &got), 1);
	assert_int_equal(read_dir(f, 10), 0);
	for (uint64_t i = 0; i < 300; i++)
		assert_int_equal(read_dir(f, 1000 + i), 0);
	OK(stg_catalog_count_links(f->c, 8, 77, &links, &f->e));
	assert_int_equal(links, 1);
	{
		struct stg_dirty_page *page = calloc(1, sizeof(*page));

		assert_non_null(page);
		page->next_depth = ~0u;
		page->next_id = ~0ull;
		OK(stg_catalog_next_dirty(f->c, page, &f->e));
		assert_int_equal(page->n, 0);
		buf_fini(&page->bytes);
		free(page);
	}
	/* What is not there can be forgotten, too. */
	OK(stg_catalog_forget(f->c, STG_ROOT_ID, bytes_str("a"), &f->e));
}

static void a_new_full_forgets_entries_and_keeps_facts(void **state)
{
	struct fixture *f = *state;
	struct stg_row row = file_row(1, 2);
	struct stg_phase_row p = { .name = "full_sync", .started_ns = 1 }, last;
	uint32_t links;
	uint64_t number;

	record(f, STG_ROOT_ID, "a", &row);
	OK(stg_catalog_set_number(f->c, "epoch", 7, &f->e));
	assert_int_equal(stg_catalog_has_entries(f->c, &f->e), 1);
	OK(stg_catalog_begin_full(f->c, &p, &f->e));
	assert_int_equal(stg_catalog_has_entries(f->c, &f->e), 0);
	assert_int_equal(read_dir(f, STG_ROOT_ID), 0);
	OK(stg_catalog_count_links(f->c, 8, 1, &links, &f->e));
	assert_int_equal(links, 0);
	OK(stg_catalog_get_number(f->c, "epoch", &number, &f->e));
	assert_int_equal(number, 7);
	assert_int_equal(stg_catalog_last_phase(f->c, &last, &f->e), 1);
}

/* --- directories --- */

static struct stg_dirty_page *first_page(void)
{
	struct stg_dirty_page *page = calloc(1, sizeof(*page));

	assert_non_null(page);
	page->next_depth = ~0u;
	page->next_id = ~0ull;
	return page;
}

static void mark(struct fixture *f, uint64_t parent, const char *name, uint64_t id,
		 const char *path, uint32_t depth)
{
	struct stg_stat st = { .mode = S_IFDIR | 0750, .uid = (uint32_t)id };

	OK(stg_catalog_mark_dirty(f->c, parent, bytes_str(name), id, bytes_str(path), depth, &st,
				  1, &f->e));
}

static void dirty_directories_come_deepest_first(void **state)
{
	struct fixture *f = *state;
	struct stg_dirty_page *page = first_page();
	uint32_t depth = ~0u;
	uint64_t id = 0;
	size_t n = 0, pages = 0;

	mark(f, 0, "", STG_ROOT_ID, "", 0);
	for (uint64_t i = 1; i <= MANY; i++) {
		char name[32], path[48];

		snprintf(name, sizeof(name), "n%llu", (unsigned long long)i);
		snprintf(path, sizeof(path), "p/%s", name);
		mark(f, 2, name, 1 + i, path, 1 + (uint32_t)(i % 3));
	}
	/* Marked twice is marked once. */
	mark(f, 2, "n1", 2, "p/n1", 2);
	for (;;) {
		OK(stg_catalog_next_dirty(f->c, page, &f->e));
		if (!page->n)
			break;
		pages++;
		for (size_t i = 0; i < page->n; i++, n++) {
			const struct stg_dirty *d = &page->rows[i];
			char name[32];

			assert_true(d->depth < depth || (d->depth == depth && d->id < id));
			depth = d->depth;
			id = d->id;
			assert_int_equal(d->st.uid, d->id);
			if (d->id == STG_ROOT_ID) {
				assert_int_equal(d->parent, 0);
				assert_int_equal(d->name.n, 0);
				assert_int_equal(d->path.n, 0);
				continue;
			}
			snprintf(name, sizeof(name), "n%llu", (unsigned long long)(d->id - 1));
			assert_int_equal(d->parent, 2);
			assert_true(bytes_eq(d->name, bytes_str(name)));
			assert_int_equal(d->path.n, strlen(name) + 2);
		}
	}
	assert_int_equal(n, MANY + 1);
	assert_true(pages >= 3);
	assert_int_equal(depth, 0); /* the root is the last */
	buf_fini(&page->bytes);
	free(page);
}

static void paging_goes_on_while_marks_are_taken_away(void **state)
{
	struct fixture *f = *state;
	struct stg_dirty_page *page = first_page();
	size_t n = 0;

	for (uint64_t i = 0; i < MANY; i++) {
		char name[32];

		snprintf(name, sizeof(name), "n%llu", (unsigned long long)i);
		mark(f, 2, name, 10 + i, name, 1 + (uint32_t)(i % 2));
	}
	for (;;) {
		OK(stg_catalog_next_dirty(f->c, page, &f->e));
		if (!page->n)
			break;
		n += page->n;
		for (size_t i = 0; i < page->n; i++) {
			struct stg_row row = dir_row(page->rows[i].id);

			OK(stg_catalog_clean_dir(f->c, 2, page->rows[i].name, page->rows[i].id,
						 &row, &f->e));
		}
	}
	assert_int_equal(n, MANY);
	buf_fini(&page->bytes);
	free(page);
}

static size_t count_dirty(struct fixture *f)
{
	struct stg_dirty_page *page = first_page();
	size_t n = 0;

	do {
		OK(stg_catalog_next_dirty(f->c, page, &f->e));
		n += page->n;
	} while (page->n);
	buf_fini(&page->bytes);
	free(page);
	return n;
}

static void a_mark_goes_with_the_final_metadata(void **state)
{
	struct fixture *f = *state;
	struct stg_row clean = dir_row(7), file = file_row(3, 1), got;

	/* A directory that the target has already keeps what the row tells of it. */
	clean.st.uid = 1234;
	record(f, STG_ROOT_ID, "d", &clean);
	record(f, 7, "inside", &file);
	mark(f, STG_ROOT_ID, "d", 7, "d", 1);
	assert_int_equal(read_one(f, STG_ROOT_ID, "d", &got), 1);
	assert_int_equal(got.state, STG_ROW_DIRTY);
	assert_int_equal(got.child, 7);
	assert_int_equal(got.st.uid, 1234);
	reopen(f);
	assert_int_equal(count_dirty(f), 1);
	clean.st.uid = 99;
	OK(stg_catalog_clean_dir(f->c, STG_ROOT_ID, bytes_str("d"), 7, &clean, &f->e));
	assert_int_equal(count_dirty(f), 0);
	assert_int_equal(read_one(f, STG_ROOT_ID, "d", &got), 1);
	assert_int_equal(got.state, STG_ROW_CLEAN);
	assert_int_equal(got.st.uid, 99);
	assert_int_equal(read_one(f, 7, "inside", &got), 1);
}

static void a_dropped_mark_leaves_a_dirty_row(void **state)
{
	struct fixture *f = *state;
	struct stg_row got;

	mark(f, STG_ROOT_ID, "d", 7, "d", 1);
	OK(stg_catalog_drop_dirty(f->c, 7, &f->e));
	assert_int_equal(count_dirty(f), 0);
	assert_int_equal(read_one(f, STG_ROOT_ID, "d", &got), 1);
	assert_int_equal(got.state, STG_ROW_DIRTY);
	OK(stg_catalog_drop_dirty(f->c, 7, &f->e)); /* there is none: fine */
}

static void a_directory_in_place_of_a_file_takes_its_link_along(void **state)
{
	struct fixture *f = *state;
	struct stg_row row = file_row(50, 3);
	uint32_t links = 0;

	record(f, STG_ROOT_ID, "a", &row);
	record(f, STG_ROOT_ID, "b", &row);
	record(f, STG_ROOT_ID, "c", &row);
	mark(f, STG_ROOT_ID, "a", 7, "a", 1);
	OK(stg_catalog_count_links(f->c, 8, 50, &links, &f->e));
	assert_int_equal(links, 2);
}

/* Run in a child that ends without closing anything; returns what it wrote to the pipe. */
static uint64_t in_child(struct fixture *f, uint64_t (*work)(struct fixture *), bool by_kill)
{
	uint64_t value = 0;
	int pipes[2], status = 0;
	pid_t pid;

	stg_catalog_close(TAKE_PTR(f->c));
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (stg_catalog_open(f->dir, &f->c, &f->e) < 0)
			_exit(1);
		value = work(f);
		if (write(pipes[1], &value, sizeof(value)) != sizeof(value))
			_exit(1);
		if (by_kill)
			kill(getpid(), SIGKILL);
		_exit(0);
	}
	close(pipes[1]);
	assert_int_equal(io_read_full(pipes[0], &value, sizeof(value)), sizeof(value));
	close(pipes[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(by_kill ? WIFSIGNALED(status) : WIFEXITED(status) && !WEXITSTATUS(status));
	OK(stg_catalog_open(f->dir, &f->c, &f->e));
	return value;
}

static uint64_t use_ids(struct fixture *f)
{
	uint64_t id = 0;

	for (int i = 0; i < 1000; i++) {
		struct stg_row row;

		id = stg_catalog_new_dir_id(f->c);
		row = dir_row(id);
		if (stg_catalog_record(f->c, STG_ROOT_ID, bytes_str(""), bytes_str("d"), &row, 0,
				       &f->e) < 0)
			_exit(1);
	}
	if (stg_catalog_commit(f->c, &f->e) < 0)
		_exit(1);
	return id;
}

static void directory_ids_are_never_given_twice(void **state)
{
	struct fixture *f = *state;
	uint64_t before = stg_catalog_new_dir_id(f->c), id;

	assert_true(before > STG_ROOT_ID);
	for (int kill_it = 0; kill_it < 2; kill_it++) {
		uint64_t last = in_child(f, use_ids, kill_it);

		id = stg_catalog_new_dir_id(f->c);
		assert_true(id > last);
		assert_true(stg_catalog_new_dir_id(f->c) > id);
	}
	/* Ids of a clean end that recorded nothing but a fact. */
	OK(stg_catalog_set(f->c, "x", "y", &f->e));
	id = stg_catalog_new_dir_id(f->c);
	reopen(f);
	assert_true(stg_catalog_new_dir_id(f->c) > id);
}

static uint64_t die_half_way(struct fixture *f)
{
	struct stg_row row = file_row(1, 1);

	if (stg_catalog_record(f->c, 5, bytes_str(""), bytes_str("kept"), &row, 0, &f->e) < 0 ||
	    stg_catalog_commit(f->c, &f->e) < 0)
		_exit(1);
	/* Fewer than make it commit by itself, and quicker than its clock. */
	for (int i = 0; i < 100; i++) {
		char name[32];

		snprintf(name, sizeof(name), "lost %d", i);
		if (stg_catalog_record(f->c, 5, bytes_str(""), bytes_str(name), &row, 0, &f->e) < 0)
			_exit(1);
	}
	return stg_catalog_new_dir_id(f->c);
}

static void a_killed_writer_keeps_its_last_commit(void **state)
{
	struct fixture *f = *state;
	struct stg_row got;
	size_t n;

	in_child(f, die_half_way, true);
	assert_int_equal(read_one(f, 5, "kept", &got), 1);
	n = read_dir(f, 5);
	/* All rows that are there are whole; on a slow machine the clock commits some more. */
	assert_in_range(n, 1, 101);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(f->rows.v[i].row.st.ino, 1);
	got = file_row(2, 1);
	record(f, 5, "new", &got);
	assert_int_equal(read_dir(f, 5), n + 1);
}

/* --- facts and phases --- */

static void facts_are_kept_by_name(void **state)
{
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	struct fixture *f = *state;
	uint64_t number = 5;

	assert_int_equal(stg_catalog_get(f->c, "k", &b, &f->e), 0);
	OK(stg_catalog_get_number(f->c, "k", &number, &f->e));
	assert_int_equal(number, 0);
	OK(stg_catalog_set(f->c, "k", "first", &f->e));
	OK(stg_catalog_set(f->c, "k", "se'cond \xc3\xbc", &f->e));
	OK(stg_catalog_set_number(f->c, "n", UINT64_MAX, &f->e));
	reopen(f);
	assert_int_equal(stg_catalog_get(f->c, "k", &b, &f->e), 1);
	assert_string_equal(buf_cstr(&b), "se'cond \xc3\xbc");
	OK(stg_catalog_get_number(f->c, "n", &number, &f->e));
	assert_true(number == UINT64_MAX);
}

static void a_full_sync_stands_from_its_end_to_the_next_begin(void **state)
{
	struct fixture *f = *state;
	struct stg_phase_row full = { .name = "full_sync", .started_ns = 10, .fresh = true };
	struct stg_phase_row inc = { .name = "incremental_sync_1", .started_ns = 20 }, last;
	uint32_t n;

	assert_int_equal(stg_catalog_last_phase(f->c, &last, &f->e), 0);
	assert_int_equal(stg_catalog_full_stands(f->c, &f->e), 0);
	OK(stg_catalog_put_phase(f->c, &full, &f->e));
	assert_true(full.id > 0);
	assert_int_equal(stg_catalog_full_stands(f->c, &f->e), 0);
	full.finished_ns = 15;
	full.sync_ns = 12;
	OK(stg_catalog_put_phase(f->c, &full, &f->e));
	assert_int_equal(stg_catalog_full_stands(f->c, &f->e), 1);
	OK(stg_catalog_put_phase(f->c, &inc, &f->e));
	assert_true(inc.id > full.id);
	assert_int_equal(stg_catalog_full_stands(f->c, &f->e), 1);
	OK(stg_catalog_count_phases(f->c, "incremental_sync_", &n, &f->e));
	assert_int_equal(n, 0);
	inc.finished_ns = 25;
	OK(stg_catalog_put_phase(f->c, &inc, &f->e));
	OK(stg_catalog_count_phases(f->c, "incremental_sync_", &n, &f->e));
	assert_int_equal(n, 1);
	reopen(f);
	assert_int_equal(stg_catalog_last_phase(f->c, &last, &f->e), 1);
	assert_int_equal(last.id, inc.id);
	assert_string_equal(last.name, "incremental_sync_1");
	assert_int_equal(last.finished_ns, 25);
	assert_false(last.fresh);
	full.id = 0;
	full.finished_ns = 0;
	OK(stg_catalog_put_phase(f->c, &full, &f->e));
	assert_int_equal(stg_catalog_full_stands(f->c, &f->e), 0);
	assert_int_equal(stg_catalog_last_phase(f->c, &last, &f->e), 1);
	assert_true(last.fresh);
	assert_int_equal(last.sync_ns, 12);
}

/* --- hard links --- */

static enum stg_link_role claim(struct fixture *f, const char *name, const struct stg_stat *st)
{
	enum stg_link_role role = (enum stg_link_role)99;

	OK(stg_catalog_claim_link(f->c, 5, bytes_str("dir"), bytes_str(name), st, 3, &role,
				  &f->e));
	return role;
}

static struct stg_follower_page *followers(struct fixture *f)
{
	struct stg_follower_page *page = calloc(1, sizeof(*page));

	assert_non_null(page);
	OK(stg_catalog_next_follower(f->c, page, &f->e));
	return page;
}

static void free_followers(struct stg_follower_page *page)
{
	buf_fini(&page->bytes);
	free(page);
}

static void the_first_name_leads_and_the_others_follow(void **state)
{
	struct fixture *f = *state;
	struct stg_row row = file_row(42, 3), other = file_row(42, 3);
	struct stg_follower_page *page;

	other.st.dev++; /* the same number on another file system is another inode */
	assert_int_equal(claim(f, "a", &row.st), STG_LINK_LEADER);
	assert_int_equal(claim(f, "b", &row.st), STG_LINK_FOLLOWER);
	assert_int_equal(claim(f, "c", &row.st), STG_LINK_FOLLOWER);
	assert_int_equal(claim(f, "a", &row.st), STG_LINK_LEADER); /* after a retry */
	assert_int_equal(claim(f, "x", &other.st), STG_LINK_LEADER);

	page = followers(f);
	assert_int_equal(page->n, 2);
	assert_false(page->rows[0].acked); /* the leader has not arrived */
	free_followers(page);

	record(f, 5, "a", &row);
	page = followers(f);
	assert_int_equal(page->n, 2);
	for (size_t i = 0; i < 2; i++) {
		const struct stg_follower *w = &page->rows[i];

		assert_true(bytes_eq(w->name, bytes_str(i ? "c" : "b")));
		assert_true(bytes_eq(w->path, bytes_str("dir")));
		assert_true(bytes_eq(w->leader, bytes_str("a")));
		assert_true(bytes_eq(w->leader_path, bytes_str("dir")));
		assert_int_equal(w->dir, 5);
		assert_int_equal(w->old_nlink, 3);
		assert_true(stg_stat_same(&w->st, &row.st));
		assert_true(w->acked);
		assert_true(stg_stat_same(&w->leader_row.st, &row.st));
	}
	free_followers(page);

	OK(stg_catalog_clear_plan(f->c, &f->e));
	page = followers(f);
	assert_int_equal(page->n, 0);
	free_followers(page);
}

static void a_name_that_the_target_has_is_adopted_as_leader(void **state)
{
	static const struct {
		const char *what;
		uint8_t state;
		int64_t ctime_s;
		enum stg_link_role want;
	} rows[] = {
		{ "at this very state", STG_ROW_CLEAN, 2, STG_LINK_FOLLOWER },
		{ "not clean", 0, 2, STG_LINK_LEADER },
		{ "changed since", STG_ROW_CLEAN, 3, STG_LINK_LEADER },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct stg_row have = file_row(100 + i, 2), now = have;
		struct stg_follower_page *page;

		OK(stg_catalog_clear_plan(f->c, &f->e));
		have.state = rows[i].state;
		now.st.ctime_s = rows[i].ctime_s;
		OK(stg_catalog_record(f->c, 9, bytes_str("else/where"), bytes_str("have"), &have, 0,
				      &f->e));
		if (claim(f, "new", &now.st) != rows[i].want)
			fail_msg("the other name is %s", rows[i].what);
		page = followers(f);
		assert_int_equal(page->n, rows[i].want == STG_LINK_FOLLOWER);
		if (page->n) {
			assert_true(bytes_eq(page->rows[0].leader, bytes_str("have")));
			assert_true(bytes_eq(page->rows[0].leader_path, bytes_str("else/where")));
			assert_true(page->rows[0].acked);
		}
		free_followers(page);
	}
}

/*
 * Directories have swapped their names: "b" was inode 100 and is to be linked to 200, so what
 * the target has under that name depends on what is made first.
 */
static void a_name_that_becomes_another_inode_leads_no_more(void **state)
{
	struct fixture *f = *state;
	struct stg_row was = file_row(100, 2), is = file_row(200, 2);
	struct stg_follower_page *page;

	OK(stg_catalog_record(f->c, 5, bytes_str("dir"), bytes_str("b"), &was, 0, &f->e));
	assert_int_equal(claim(f, "a", &is.st), STG_LINK_LEADER);
	assert_int_equal(claim(f, "b", &is.st), STG_LINK_FOLLOWER);
	assert_int_equal(claim(f, "x", &was.st), STG_LINK_LEADER);

	OK(stg_catalog_clear_plan(f->c, &f->e));
	assert_int_equal(claim(f, "x", &was.st), STG_LINK_FOLLOWER);
	page = followers(f);
	assert_true(page->n == 1 && page->rows[0].acked);
	free_followers(page);
	assert_int_equal(claim(f, "a", &is.st), STG_LINK_LEADER);
	assert_int_equal(claim(f, "b", &is.st), STG_LINK_FOLLOWER);
	page = followers(f);
	assert_int_equal(page->n, 2);
	assert_true(bytes_eq(page->rows[0].leader, bytes_str("b")));
	assert_false(page->rows[0].acked);
	free_followers(page);
}

/* A directory of the source under another name: its row, and what knows paths, follow. */
static void what_is_renamed_is_found_and_moved(void **state)
{
	struct fixture *f = *state;
	struct stg_place place = { 0 };
	struct stg_row top = dir_row(10), sub = dir_row(20), file = file_row(5, 1), got;
	struct stg_row linked = file_row(6, 2);
	struct stg_follower_page *page;
	const struct stg_move m = {
		.old_dir = 10, .old_name = bytes_str("sub"), .from = bytes_str("a/sub"),
		.dir = STG_ROOT_ID, .name = bytes_str("new"), .to = bytes_str("new"),
	};

	top.st.ino = 1;
	sub.st.ino = 2;
	file.st.size = STG_MOVE_BYTES;
	record(f, STG_ROOT_ID, "a", &top);
	record(f, 10, "sub", &sub);
	record(f, 20, "file", &file);
	OK(stg_catalog_record(f->c, 20, bytes_str("a/sub"), bytes_str("have"), &linked, 0,
			      &f->e));
	read_dir(f, 20);
	assert_int_equal(stg_catalog_find_inode(f->r, file.st.dev, 5, 0, &place, &f->e), 1);
	assert_true(bytes_eq(buf_view(&place.path), bytes_str("a/sub")));
	assert_true(bytes_eq(buf_view(&place.name), bytes_str("file")));
	assert_int_equal(place.dir, 20);
	/* What is small is in no index, and another device has other inodes. */
	assert_int_equal(stg_catalog_find_inode(f->r, linked.st.dev, 6, 0, &place, &f->e), 0);
	assert_int_equal(stg_catalog_find_inode(f->r, file.st.dev + 1, 5, 0, &place, &f->e), 0);

	OK(stg_catalog_move(f->c, &m, &f->e));
	assert_int_equal(read_one(f, 10, "sub", &got), 0);
	assert_int_equal(read_one(f, STG_ROOT_ID, "new", &got), 1);
	assert_int_equal(got.child, 20);
	assert_int_equal(stg_catalog_find_inode(f->r, file.st.dev, 5, 0, &place, &f->e), 1);
	assert_true(bytes_eq(buf_view(&place.path), bytes_str("new")));
	assert_int_equal(claim(f, "more", &linked.st), STG_LINK_FOLLOWER);
	page = followers(f);
	assert_int_equal(page->n, 1);
	assert_true(bytes_eq(page->rows[0].leader_path, bytes_str("new")));
	free_followers(page);

	OK(stg_catalog_forget(f->c, STG_ROOT_ID, bytes_str("new"), &f->e));
	read_dir(f, 20);
	assert_int_equal(stg_catalog_find_inode(f->r, file.st.dev, 5, 0, &place, &f->e), 0);
	stg_place_fini(&place);
}

static void marks_are_told(void **state)
{
	struct fixture *f = *state;
	const struct stg_stat st = { .mode = S_IFDIR };

	assert_int_equal(stg_catalog_has_dirty(f->c, &f->e), 0);
	OK(stg_catalog_mark_dirty(f->c, STG_ROOT_ID, bytes_str("a"), 10, bytes_str("a"), 1, &st, 1,
				  &f->e));
	assert_int_equal(stg_catalog_has_dirty(f->c, &f->e), 1);
}

static void a_name_is_not_its_own_leader(void **state)
{
	struct fixture *f = *state;
	struct stg_row row = file_row(42, 2);

	/* The target has this very name, and it is to be sent again all the same. */
	OK(stg_catalog_record(f->c, 5, bytes_str("dir"), bytes_str("a"), &row, 0, &f->e));
	assert_int_equal(claim(f, "a", &row.st), STG_LINK_LEADER);
}

static void links_are_counted_by_inode(void **state)
{
	struct fixture *f = *state;
	struct stg_row two = file_row(7, 2), one = file_row(7, 1), dir = dir_row(3);
	uint32_t n = 99;

	OK(stg_catalog_count_links(f->c, 8, 7, &n, &f->e));
	assert_int_equal(n, 0);
	record(f, 5, "a", &two);
	record(f, 6, "b", &two);
	record(f, 6, "b", &two); /* recorded again */
	dir.st.ino = 7; /* a directory's link count is no hard link */
	dir.st.dev = 8;
	record(f, 6, "dir", &dir);
	OK(stg_catalog_count_links(f->c, 8, 7, &n, &f->e));
	assert_int_equal(n, 2);
	OK(stg_catalog_count_links(f->c, 9, 7, &n, &f->e));
	assert_int_equal(n, 0);
	OK(stg_catalog_record(f->c, 6, bytes_str("p"), bytes_str("b"), &one, 2, &f->e));
	OK(stg_catalog_count_links(f->c, 8, 7, &n, &f->e));
	assert_int_equal(n, 1);
	OK(stg_catalog_forget(f->c, 5, bytes_str("a"), &f->e));
	OK(stg_catalog_count_links(f->c, 8, 7, &n, &f->e));
	assert_int_equal(n, 0);
}

/* --- paging --- */

static void followers_come_in_pages(void **state)
{
	struct fixture *f = *state;
	struct stg_follower_page *page = calloc(1, sizeof(*page));
	struct stg_row row = file_row(42, MANY);
	size_t n = 0;
	char name[32];

	assert_non_null(page);
	assert_int_equal(claim(f, "leader", &row.st), STG_LINK_LEADER);
	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		assert_int_equal(claim(f, name, &row.st), STG_LINK_FOLLOWER);
	}
	do {
		OK(stg_catalog_next_follower(f->c, page, &f->e));
		assert_true(page->n <= STG_PAGE_ROWS);
		for (size_t i = 0; i < page->n; i++) {
			snprintf(name, sizeof(name), "f%zu", n++);
			assert_true(bytes_eq(page->rows[i].name, bytes_str(name)));
		}
	} while (page->n);
	assert_int_equal(n, MANY);
	free_followers(page);
}

static void removals_come_in_pages(void **state)
{
	struct fixture *f = *state;
	struct stg_removal_page *page = calloc(1, sizeof(*page));
	size_t n = 0;
	char name[32];

	assert_non_null(page);
	for (int i = 0; i < MANY; i++) {
		struct stg_removal m = { .dir = (uint64_t)i, .is_dir = i % 2, .filter = i };

		snprintf(name, sizeof(name), "r%d", i);
		m.name = bytes_str(name);
		m.path = bytes_str(i % 3 ? "some/where" : "");
		OK(stg_catalog_plan_removal(f->c, &m, &f->e));
	}
	do {
		OK(stg_catalog_next_removal(f->c, page, &f->e));
		assert_true(page->n <= STG_PAGE_ROWS);
		for (size_t i = 0; i < page->n; i++, n++) {
			const struct stg_removal *m = &page->rows[i];

			snprintf(name, sizeof(name), "r%zu", n);
			assert_true(bytes_eq(m->name, bytes_str(name)));
			assert_int_equal(m->path.n, n % 3 ? 10 : 0);
			assert_int_equal(m->dir, n);
			assert_int_equal(m->filter, n);
			assert_int_equal(m->is_dir, n % 2);
		}
	} while (page->n);
	assert_int_equal(n, MANY);
	OK(stg_catalog_clear_plan(f->c, &f->e));
	page->next_seq = 0;
	OK(stg_catalog_next_removal(f->c, page, &f->e));
	assert_int_equal(page->n, 0);
	buf_fini(&page->bytes);
	free(page);
}

/* --- what is wrong with the file --- */

static void refused(struct fixture *f, int want, const char *text)
{
	struct stg_catalog *c = NULL;
	int r = stg_catalog_open(f->dir, &c, &f->e);

	if (r == 0)
		stg_catalog_close(c);
	assert_int_equal(r, want);
	assert_null(c);
	if (!strstr(f->e.text, text))
		fail_msg("'%s' is not in '%s'", text, f->e.text);
}

static void a_directory_that_is_unsure_is_marked_by_its_path(void **state)
{
	struct fixture *f = *state;
	struct stg_row row = dir_row(STG_ROOT_ID), got;

	record(f, 0, "", &row);
	row = dir_row(20);
	record(f, STG_ROOT_ID, "a", &row);
	row = dir_row(30);
	record(f, 20, "b", &row);
	OK(stg_catalog_mark_unsure(f->c, bytes_str("a/b"), &f->e));
	OK(stg_catalog_mark_unsure(f->c, bytes_str("a/none/b"), &f->e));
	assert_int_equal(read_one(f, 20, "b", &got), 1);
	assert_int_equal(got.state, STG_ROW_CLEAN | STG_ROW_DIRTY);
	assert_int_equal(got.child, 30);
	assert_int_equal(read_one(f, STG_ROOT_ID, "a", &got), 1);
	assert_int_equal(got.state, STG_ROW_CLEAN);
	OK(stg_catalog_mark_unsure(f->c, bytes_str(""), &f->e));
	assert_int_equal(read_one(f, 0, "", &got), 1);
	assert_int_equal(got.state, STG_ROW_CLEAN | STG_ROW_DIRTY);
}

static void a_newer_version_is_refused(void **state)
{
	struct fixture *f = *state;

	OK(stg_catalog_set_number(f->c, "catalog_version", 3, &f->e));
	stg_catalog_close(TAKE_PTR(f->c));
	refused(f, -EBADMSG, "another version");
	refused(f, -EBADMSG, "new full sync");
}

/* The hash of what is more than a leaf meant something else in version 1. */
static void an_old_version_is_upgraded(void **state)
{
	static const struct {
		const char *name;
		uint64_t size;
		uint8_t state;
	} rows[] = {
		{ "small", TP_LEAF_BYTES, STG_ROW_CLEAN | STG_ROW_HASHED },
		{ "big", TP_LEAF_BYTES + 1, STG_ROW_CLEAN },
		{ "huge", 1ull << 40, STG_ROW_CLEAN },
	};
	struct fixture *f = *state;
	struct stg_row row = file_row(1, 1), got;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		row.st.size = rows[i].size;
		row.state = STG_ROW_CLEAN | STG_ROW_HASHED;
		record(f, 5, rows[i].name, &row);
	}
	OK(stg_catalog_set_number(f->c, "catalog_version", 1, &f->e));
	for (int again = 0; again < 2; again++) {
		reopen(f);
		for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
			assert_int_equal(read_one(f, 5, rows[i].name, &got), 1);
			assert_int_equal(got.state, rows[i].state);
			assert_int_equal(got.st.size, rows[i].size);
		}
	}
}

static void partial_files_are_remembered(void **state)
{
	struct fixture *f = *state;
	struct bytes any = bytes_of("", 0), t1 = bytes_str(".stager-tmp.1"),
		     t2 = bytes_str(".stager-tmp.2");
	struct stg_stat st = { .mode = S_IFREG, .nlink = 2, .ino = 9, .dev = 8 };
	char temp[TP_TEMP_MAX + 1];
	enum stg_link_role role;

	assert_int_equal(stg_catalog_has_partial(f->c, any, &f->e), 0);
	OK(stg_catalog_put_partial(f->c, 5, bytes_str("d"), bytes_str("a"), &st, t1, &f->e));
	reopen(f);
	assert_int_equal(stg_catalog_get_partial(f->c, 5, bytes_str("a"), temp, &f->e), 1);
	assert_string_equal(temp, ".stager-tmp.1");
	/* Another name of its inode is not sent in its place. */
	OK(stg_catalog_claim_link(f->c, 6, bytes_str("e"), bytes_str("b"), &st, 0, &role, &f->e));
	assert_int_equal(role, STG_LINK_FOLLOWER);
	OK(stg_catalog_claim_link(f->c, 5, bytes_str("d"), bytes_str("a"), &st, 0, &role, &f->e));
	assert_int_equal(role, STG_LINK_LEADER);
	assert_int_equal(stg_catalog_get_partial(f->c, 5, bytes_str("b"), temp, &f->e), 0);
	assert_int_equal(stg_catalog_get_partial(f->c, 6, bytes_str("a"), temp, &f->e), 0);
	/* Under another name by now: the old one is not what is dropped. */
	OK(stg_catalog_put_partial(f->c, 5, bytes_str("d"), bytes_str("a"), &st, t2, &f->e));
	OK(stg_catalog_drop_partial(f->c, 5, bytes_str("a"), t1, &f->e));
	assert_int_equal(stg_catalog_has_partial(f->c, t1, &f->e), 0);
	assert_int_equal(stg_catalog_has_partial(f->c, t2, &f->e), 1);
	assert_int_equal(stg_catalog_has_partial(f->c, any, &f->e), 1);
	OK(stg_catalog_drop_partial(f->c, 5, bytes_str("a"), t2, &f->e));
	assert_int_equal(stg_catalog_has_partial(f->c, any, &f->e), 0);
	OK(stg_catalog_put_partial(f->c, 5, bytes_str("d"), bytes_str("a"), &st, t2, &f->e));
	OK(stg_catalog_clear_partials(f->c, &f->e));
	assert_int_equal(stg_catalog_has_partial(f->c, any, &f->e), 0);
}

static void a_damaged_file_is_refused(void **state)
{
	struct fixture *f = *state;
	char path[64], junk[8192];
	struct stg_row row = file_row(1, 1);

	for (int i = 0; i < 1000; i++) {
		char name[32];

		snprintf(name, sizeof(name), "%d", i);
		record(f, 5, name, &row);
	}
	stg_catalog_close(TAKE_PTR(f->c));
	snprintf(path, sizeof(path), "%s/catalog.db", f->dir);
	memset(junk, 'x', sizeof(junk));
	for (int whole = 0; whole < 2; whole++) {
		int fd = open(path, O_WRONLY | O_CLOEXEC);

		assert_true(fd >= 0);
		/* The table of contents, then the very first bytes as well. */
		assert_int_equal(pwrite(fd, junk, sizeof(junk), whole ? 0 : 100), sizeof(junk));
		close(fd);
		refused(f, -EBADMSG, "new full sync");
		refused(f, -EBADMSG, path);
	}
}

static void a_missing_directory_is_an_error(void **state)
{
	struct fixture *f = *state;
	struct stg_catalog *c = NULL;

	assert_true(stg_catalog_open("/nonexistent/dir", &c, &f->e) < 0);
	assert_null(c);
	assert_non_null(strstr(f->e.text, "/nonexistent/dir"));
	stg_catalog_close(NULL);
	stg_catalog_reader_close(NULL);
}

static void others_cannot_read_it(void **state)
{
	struct fixture *f = *state;
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "%s/catalog.db", f->dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

int main(void)
{
#define CATALOG_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		CATALOG_TEST(rows_survive_a_reopen),
		CATALOG_TEST(a_row_is_replaced_by_the_next_one),
		CATALOG_TEST(names_hold_every_byte_and_are_sorted),
		CATALOG_TEST(a_reader_sees_what_is_committed),
		CATALOG_TEST(a_large_directory_is_read_whole),
		CATALOG_TEST(forgetting_takes_the_whole_tree),
		CATALOG_TEST(a_new_full_forgets_entries_and_keeps_facts),
		CATALOG_TEST(dirty_directories_come_deepest_first),
		CATALOG_TEST(paging_goes_on_while_marks_are_taken_away),
		CATALOG_TEST(a_mark_goes_with_the_final_metadata),
		CATALOG_TEST(a_dropped_mark_leaves_a_dirty_row),
		CATALOG_TEST(a_directory_in_place_of_a_file_takes_its_link_along),
		CATALOG_TEST(directory_ids_are_never_given_twice),
		CATALOG_TEST(a_killed_writer_keeps_its_last_commit),
		CATALOG_TEST(facts_are_kept_by_name),
		CATALOG_TEST(a_full_sync_stands_from_its_end_to_the_next_begin),
		CATALOG_TEST(the_first_name_leads_and_the_others_follow),
		CATALOG_TEST(a_name_that_the_target_has_is_adopted_as_leader),
		CATALOG_TEST(a_name_that_becomes_another_inode_leads_no_more),
		CATALOG_TEST(what_is_renamed_is_found_and_moved),
		CATALOG_TEST(marks_are_told),
		CATALOG_TEST(a_name_is_not_its_own_leader),
		CATALOG_TEST(links_are_counted_by_inode),
		CATALOG_TEST(followers_come_in_pages),
		CATALOG_TEST(removals_come_in_pages),
		CATALOG_TEST(a_directory_that_is_unsure_is_marked_by_its_path),
		CATALOG_TEST(partial_files_are_remembered),
		CATALOG_TEST(an_old_version_is_upgraded),
		CATALOG_TEST(a_newer_version_is_refused),
		CATALOG_TEST(a_damaged_file_is_refused),
		CATALOG_TEST(a_missing_directory_is_an_error),
		CATALOG_TEST(others_cannot_read_it),
	};
#undef CATALOG_TEST

	return cmocka_run_group_tests(tests, NULL, NULL);
}
