/* SPDX-License-Identifier: Apache-2.0 */
/* What the scanner finds, and what jobs it makes of it, given the rows of the catalog. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "common/io.h"
#include "common/macro.h"
#include "stager/catalog.h"
#include "stager/filter.h"
#include "stager/mounts.h"
#include "stager/run.h"
#include "stager/scan.h"

#define THREADS 3
#define SEEN_MAX 4096

struct fixture {
	char dir[32], source[64];
	struct stg_run run;
	struct stg_filter *filter;
	struct stg_mounts *mounts;
	struct stg_catalog *catalog;
	char *paths[4];
	struct err e;
	/* What the visitor was shown. */
	pthread_mutex_t lock;
	char *seen[SEEN_MAX], *hidden[SEEN_MAX];
	size_t seen_n, hidden_n;
};

#define OK(call)                                                       \
	do {                                                           \
		int ok_ = (call);                                      \
		if (ok_ < 0)                                           \
			fail_msg("%s: %d: %s", #call, ok_, f->e.text); \
	} while (0)

static int remove_one(const char *path, const struct stat *st _unused_, int kind _unused_,
		      struct FTW *ftw _unused_)
{
	return remove(path);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char nothing[64];

	if (!f)
		return -1;
	*state = f;
	strcpy(f->dir, "/tmp/test_scan.XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(f->source, sizeof(f->source), "%s/source", f->dir);
	snprintf(nothing, sizeof(nothing), "%s/no-mountinfo", f->dir);
	pthread_mutex_init(&f->lock, NULL);
	pthread_mutex_init(&f->run.lock, NULL);
	pthread_cond_init(&f->run.changed, NULL);
	if (mkdir(f->source, 0755) < 0 || stg_filter_new(&f->filter, &f->e) < 0 ||
	    stg_mounts_read(f->source, nothing, &f->mounts, &f->e) < 0 ||
	    stg_catalog_open(f->dir, &f->catalog, &f->e) < 0 ||
	    stg_queue_new(1u << 30, &f->run.queue, &f->e) < 0)
		return -1;
	f->run.source_fd = open(f->source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->run.catalog = f->catalog;
	f->run.delete = true;
	f->run.sync_ns = INT64_MAX;
	return f->run.source_fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	stg_job_free(f->run.again);
	for (size_t i = 0; i < f->run.filters_n; i++)
		stg_filter_dir_unref(f->run.filters[i]);
	free(f->run.filters);
	stg_queue_free(f->run.queue);
	stg_catalog_close(f->catalog);
	stg_mounts_free(f->mounts);
	stg_filter_free(f->filter);
	close(f->run.source_fd);
	for (size_t i = 0; i < f->seen_n; i++)
		free(f->seen[i]);
	for (size_t i = 0; i < f->hidden_n; i++)
		free(f->hidden[i]);
	pthread_mutex_destroy(&f->lock);
	pthread_mutex_destroy(&f->run.lock);
	pthread_cond_destroy(&f->run.changed);
	nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(f);
	return 0;
}

static void put(struct fixture *f, const char *path, const char *text)
{
	int dir = f->run.source_fd;
	int fd = openat(dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(io_write_all(fd, text, strlen(text)), 0);
	close(fd);
}

static void make_dir(struct fixture *f, const char *path)
{
	assert_int_equal(mkdirat(f->run.source_fd, path, 0755), 0);
}

static int note(struct fixture *f, char **list, size_t *n, struct bytes path)
{
	int r = 0;

	pthread_mutex_lock(&f->lock);
	if (*n == SEEN_MAX)
		r = -ENOMEM;
	else
		list[(*n)++] = strndup((const char *)path.p, path.n);
	pthread_mutex_unlock(&f->lock);
	return r;
}

static int on_visit(void *arg, struct bytes path, const struct stg_stat *st, struct err *e)
{
	struct fixture *f = arg;

	(void)st;
	(void)e;
	return note(f, f->seen, &f->seen_n, path);
}

static int on_hidden(void *arg, struct bytes path, bool is_dir, struct err *e)
{
	struct fixture *f = arg;

	(void)is_dir;
	(void)e;
	return note(f, f->hidden, &f->hidden_n, path);
}

static void scan(struct fixture *f)
{
	const struct stg_scan_visitor v = { .visit = on_visit, .hidden = on_hidden, .arg = f };
	struct stg_scan *s = NULL;

	f->run.filter = f->filter;
	f->run.mounts = f->mounts;
	OK(stg_scan_start(&f->run, THREADS, &v, &s, &f->e));
	stg_scan_join(s);
	assert_false(atomic_load(&f->run.scanning));
}

/* Where path is in the list; -1: nowhere. */
static int find(char *const *list, size_t n, const char *path)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(list[i], path))
			return (int)i;
	return -1;
}

static bool saw(const struct fixture *f, const char *path)
{
	return find(f->seen, f->seen_n, path) >= 0;
}

/* --- walking --- */

static void everything_is_seen_once_and_directories_first(void **state)
{
	struct fixture *f = *state;
	char path[64];

	f->run.dry = true;
	f->run.catalog = NULL;
	for (int i = 0; i < 20; i++) {
		snprintf(path, sizeof(path), "d%d", i);
		make_dir(f, path);
		for (int k = 0; k < 20; k++) {
			snprintf(path, sizeof(path), "d%d/s%d", i, k);
			make_dir(f, path);
			snprintf(path, sizeof(path), "d%d/s%d/file", i, k);
			put(f, path, "12345");
		}
	}
	scan(f);
	assert_int_equal(f->seen_n, 20 + 400 + 400);
	assert_int_equal(atomic_load(&f->run.count.scanned), 820);
	assert_int_equal(atomic_load(&f->run.count.scanned_bytes), 2000);
	assert_int_equal(atomic_load(&f->run.count.planned_bytes), 2000);
	assert_int_equal(stg_queue_waiting(f->run.queue, NULL), 0); /* dry: nothing is queued */
	for (int i = 0; i < 20; i++)
		for (int k = 0; k < 20; k++) {
			int dir, sub, file;

			snprintf(path, sizeof(path), "d%d", i);
			dir = find(f->seen, f->seen_n, path);
			snprintf(path, sizeof(path), "d%d/s%d", i, k);
			sub = find(f->seen, f->seen_n, path);
			snprintf(path, sizeof(path), "d%d/s%d/file", i, k);
			file = find(f->seen, f->seen_n, path);
			assert_true(dir >= 0 && dir < sub && sub < file);
		}
}

static void what_a_rule_hides_is_not_entered(void **state)
{
	struct fixture *f = *state;

	f->run.dry = true;
	OK(stg_filter_add_exclude(f->filter, "*.o", "test", &f->e));
	OK(stg_filter_add_exclude(f->filter, "/skip/", "test", &f->e));
	make_dir(f, "skip");
	put(f, "skip/inside", "x");
	make_dir(f, "keep");
	put(f, "keep/a.o", "x");
	put(f, "keep/a.c", "x");
	scan(f);
	assert_true(saw(f, "keep") && saw(f, "keep/a.c"));
	assert_int_equal(f->seen_n, 2);
	assert_int_equal(f->hidden_n, 2);
	assert_true(find(f->hidden, f->hidden_n, "skip") >= 0);
	assert_true(find(f->hidden, f->hidden_n, "keep/a.o") >= 0);
}

static void only_selected_paths_are_walked(void **state)
{
	struct fixture *f = *state;

	f->run.dry = true;
	make_dir(f, "a");
	make_dir(f, "a/b");
	make_dir(f, "a/b/c");
	put(f, "a/b/c/file", "x");
	put(f, "a/b/other", "x");
	put(f, "a/beside", "x");
	make_dir(f, "ab");
	put(f, "ab/file", "x");
	put(f, "single", "x");
	put(f, "unwanted", "x");
	f->paths[0] = (char *)(uintptr_t)"a/b/c";
	f->paths[1] = (char *)(uintptr_t)"single";
	f->run.paths = f->paths;
	f->run.paths_n = 2;
	scan(f);
	assert_true(saw(f, "a") && saw(f, "a/b") && saw(f, "a/b/c") && saw(f, "a/b/c/file"));
	assert_true(saw(f, "single"));
	assert_int_equal(f->seen_n, 5);
}

static void the_own_directory_at_the_root_is_skipped(void **state)
{
	struct fixture *f = *state;

	f->run.dry = true;
	make_dir(f, TP_OWN_DIR);
	put(f, TP_OWN_DIR "/file", "x");
	make_dir(f, "d");
	make_dir(f, "d/" TP_OWN_DIR); /* only at the root it is ours */
	scan(f);
	assert_int_equal(f->seen_n, 2);
	assert_true(saw(f, "d/" TP_OWN_DIR));
}

static void foreign_mount_points_are_not_entered(void **state)
{
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	struct fixture *f = *state;
	char file[64];

	f->run.dry = true;
	make_dir(f, "proc");
	put(f, "proc/file", "x");
	make_dir(f, "home");
	put(f, "home/file", "x");
	OK(buf_printf(&text, "1 1 8:1 / / rw - ext4 /dev/a rw\n"
			     "2 1 0:5 / %s/proc rw - proc proc rw\n"
			     "3 1 8:2 / %s/home rw - ext4 /dev/b rw\n", f->source, f->source));
	snprintf(file, sizeof(file), "%s/mountinfo", f->dir);
	OK(io_replace_file(AT_FDCWD, file, buf_view(&text), 0600, &f->e));
	stg_mounts_free(TAKE_PTR(f->mounts));
	OK(stg_mounts_read(f->source, file, &f->mounts, &f->e));
	scan(f);
	assert_true(saw(f, "proc") && saw(f, "home") && saw(f, "home/file"));
	assert_int_equal(f->seen_n, 3);
}

static void links_are_not_followed(void **state)
{
	struct fixture *f = *state;

	f->run.dry = true;
	assert_int_equal(symlinkat("/", f->run.source_fd, "up"), 0);
	assert_int_equal(symlinkat("nowhere", f->run.source_fd, "dangling"), 0);
	scan(f);
	assert_int_equal(f->seen_n, 2);
}

static void what_cannot_be_read_is_counted(void **state)
{
	struct fixture *f = *state;

	if (geteuid() == 0) {
		print_message("skipped: root can read everything\n");
		skip();
	}
	f->run.dry = true;
	make_dir(f, "locked");
	put(f, "file", "x");
	assert_int_equal(fchmodat(f->run.source_fd, "locked", 0, 0), 0);
	scan(f);
	assert_int_equal(fchmodat(f->run.source_fd, "locked", 0700, 0), 0);
	assert_int_equal(atomic_load(&f->run.count.scan_errors), 1);
	assert_int_equal(atomic_load(&f->run.count.failed), 1);
	assert_true(saw(f, "file"));
	assert_false(stg_run_failed(&f->run));
}

static int refuse(void *arg, struct bytes path, const struct stg_stat *st, struct err *e)
{
	(void)arg;
	(void)path;
	(void)st;
	return err_set(e, -EIO, "the visitor has enough");
}

static void an_error_of_the_visitor_ends_the_walk(void **state)
{
	const struct stg_scan_visitor v = { .visit = refuse };
	struct fixture *f = *state;
	struct stg_scan *s = NULL;

	f->run.dry = true;
	f->run.filter = f->filter;
	f->run.mounts = f->mounts;
	make_dir(f, "d");
	OK(stg_scan_start(&f->run, THREADS, &v, &s, &f->e));
	stg_scan_join(s);
	assert_true(stg_run_failed(&f->run));
	assert_int_equal(f->run.error.code, -EIO);
	assert_non_null(strstr(f->run.error.text, "the visitor has enough"));
}

/* --- jobs --- */

/* The row that the catalog would have after a phase that read path. */
static struct stg_row row_of(struct fixture *f, const char *path)
{
	struct stg_row row = { .state = STG_ROW_CLEAN };
	struct statx stx;

	assert_int_equal(statx(f->run.source_fd, path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS,
			       &stx), 0);
	stg_stat_from_statx(&stx, &row.st);
	return row;
}

static void record(struct fixture *f, uint64_t dir, const char *name, const struct stg_row *row)
{
	OK(stg_catalog_record(f->catalog, dir, bytes_str(""), bytes_str(name), row, 0, &f->e));
}

/* The root as known and unchanged; to be called last. */
static void record_root(struct fixture *f)
{
	struct stg_row root = row_of(f, ".");

	root.child = STG_ROOT_ID;
	OK(stg_catalog_record(f->catalog, 0, bytes_str(""), bytes_str(""), &root, 0, &f->e));
	OK(stg_catalog_commit(f->catalog, &f->e));
}

/* Take the next job and find the item of this name in it; its op, -1: none. */
static int op_of(const struct stg_job *j, const char *name)
{
	for (size_t i = 0; j && i < j->n; i++)
		if (bytes_eq(j->items[i].name, bytes_str(name)))
			return (int)j->items[i].op;
	return -1;
}

static void each_entry_gets_the_least_that_will_do(void **state)
{
	struct fixture *f = *state;
	struct stg_row row;
	struct stg_job *j;

	put(f, "added", "x");
	put(f, "same", "x");
	put(f, "grown", "xx");
	put(f, "touched", "x");
	put(f, "unsure", "x");
	put(f, "no hash", "x");
	put(f, "was a link", "x");
	row = row_of(f, "same");
	record(f, STG_ROOT_ID, "same", &row);
	row = row_of(f, "grown");
	row.st.size = 1;
	record(f, STG_ROOT_ID, "grown", &row);
	row = row_of(f, "touched");
	row.state |= STG_ROW_HASHED;
	row.st.mtime_s--;
	record(f, STG_ROOT_ID, "touched", &row);
	row = row_of(f, "unsure"); /* equal, but not older than the sync point */
	row.state = STG_ROW_HASHED;
	record(f, STG_ROOT_ID, "unsure", &row);
	row = row_of(f, "no hash");
	row.st.ctime_s--;
	record(f, STG_ROOT_ID, "no hash", &row);
	row = row_of(f, "was a link");
	row.st.mode = S_IFLNK | 0777;
	record(f, STG_ROOT_ID, "was a link", &row);
	record(f, STG_ROOT_ID, "gone", &row);
	record_root(f);
	scan(f);
	j = stg_queue_pop(f->run.queue);
	assert_non_null(j);
	assert_int_equal(j->kind, STG_JOB_ITEMS);
	assert_int_equal(j->dir, STG_ROOT_ID);
	assert_int_equal(op_of(j, "added"), STG_OP_SEND);
	assert_int_equal(op_of(j, "same"), -1);
	assert_int_equal(op_of(j, "grown"), STG_OP_UPDATE);
	assert_int_equal(op_of(j, "touched"), STG_OP_TOUCH);
	assert_int_equal(op_of(j, "unsure"), STG_OP_TOUCH);
	assert_int_equal(op_of(j, "no hash"), STG_OP_UPDATE);
	assert_int_equal(op_of(j, "was a link"), STG_OP_SEND);
	assert_int_equal(j->n, 6);
	stg_queue_finish(f->run.queue, j);
	assert_null(stg_queue_pop(f->run.queue));
	assert_int_equal(atomic_load(&f->run.count.planned_removals), 1);
	{
		struct stg_removal_page *page = calloc(1, sizeof(*page));

		assert_non_null(page);
		OK(stg_catalog_next_removal(f->catalog, page, &f->e));
		assert_int_equal(page->n, 1);
		assert_true(bytes_eq(page->rows[0].name, bytes_str("gone")));
		assert_false(page->rows[0].is_dir);
		buf_fini(&page->bytes);
		free(page);
	}
}

static void nothing_changed_makes_no_job(void **state)
{
	struct fixture *f = *state;
	struct stg_row row;

	put(f, "file", "x");
	row = row_of(f, "file");
	record(f, STG_ROOT_ID, "file", &row);
	record_root(f);
	scan(f);
	assert_null(stg_queue_pop(f->run.queue));
	assert_int_equal(atomic_load(&f->run.count.planned), 0);
}

static void a_dirty_directory_is_compared_on_the_target(void **state)
{
	struct fixture *f = *state;
	struct stg_stat st = row_of(f, ".").st;
	struct stg_row row;
	struct stg_job *j;

	put(f, "file", "x");
	row = row_of(f, "file");
	record(f, STG_ROOT_ID, "file", &row);
	record_root(f);
	OK(stg_catalog_mark_dirty(f->catalog, 0, bytes_str(""), STG_ROOT_ID, bytes_str(""), 0, &st,
				  1, &f->e));
	OK(stg_catalog_commit(f->catalog, &f->e));
	scan(f);
	j = stg_queue_pop(f->run.queue);
	assert_non_null(j);
	assert_int_equal(j->kind, STG_JOB_COMPARE);
	assert_int_equal(op_of(j, "file"), STG_OP_KEEP);
	assert_non_null(j->filter);
	stg_queue_finish(f->run.queue, j);
}

static void a_protected_name_is_not_planned_for_removal(void **state)
{
	struct fixture *f = *state;
	struct stg_row row = { .st = { .mode = S_IFREG | 0644, .nlink = 1 } };

	OK(stg_filter_add_exclude(f->filter, "*.keep", "test", &f->e));
	record(f, STG_ROOT_ID, "a.keep", &row);
	record(f, STG_ROOT_ID, "b", &row);
	record_root(f);
	scan(f);
	assert_int_equal(atomic_load(&f->run.count.planned_removals), 1);
}

static void large_directories_are_shared_out(void **state)
{
	struct fixture *f = *state;
	size_t items = 0, jobs = 0;
	struct stg_job *j;
	char name[32];

	for (int i = 0; i < 3 * STG_JOB_ITEMS_MAX + 5; i++) {
		snprintf(name, sizeof(name), "%d", i);
		put(f, name, "");
	}
	scan(f);
	while ((j = stg_queue_pop(f->run.queue))) {
		assert_in_range(j->n, 1, STG_JOB_ITEMS_MAX);
		items += j->n;
		jobs++;
		stg_queue_finish(f->run.queue, j);
	}
	assert_int_equal(items, 3 * STG_JOB_ITEMS_MAX + 5);
	assert_int_equal(jobs, 4);
}

int main(void)
{
#define SCAN_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		SCAN_TEST(everything_is_seen_once_and_directories_first),
		SCAN_TEST(what_a_rule_hides_is_not_entered),
		SCAN_TEST(only_selected_paths_are_walked),
		SCAN_TEST(the_own_directory_at_the_root_is_skipped),
		SCAN_TEST(foreign_mount_points_are_not_entered),
		SCAN_TEST(links_are_not_followed),
		SCAN_TEST(what_cannot_be_read_is_counted),
		SCAN_TEST(an_error_of_the_visitor_ends_the_walk),
		SCAN_TEST(each_entry_gets_the_least_that_will_do),
		SCAN_TEST(nothing_changed_makes_no_job),
		SCAN_TEST(a_dirty_directory_is_compared_on_the_target),
		SCAN_TEST(a_protected_name_is_not_planned_for_removal),
		SCAN_TEST(large_directories_are_shared_out),
	};
#undef SCAN_TEST

	return cmocka_run_group_tests(tests, NULL, NULL);
}
