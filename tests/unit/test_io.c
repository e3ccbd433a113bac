/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole reads and writes, and directories opened below a root that cannot be escaped.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "common/io.h"

/* A directory of its own for each test; deep paths are made and removed by descriptor. */
struct fixture {
	char path[64];
	int dirfd;
};

static int setup(void **state)
{
	static struct fixture f; /* one test at a time */

	snprintf(f.path, sizeof(f.path), "/tmp/stager-test-io.XXXXXX");
	if (!mkdtemp(f.path))
		return -1;
	f.dirfd = open(f.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = &f;
	return f.dirfd < 0 ? -1 : 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	close(f->dirfd);
	return nftw(f->path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void write_file(int dirfd, const char *name, const char *text, mode_t mode)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(io_write_all(fd, text, strlen(text)), 0);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static void assert_content(int dirfd, const char *name, const char *want)
{
	struct buf b = BUF_INIT;

	assert_int_equal(io_read_file(dirfd, name, 1 << 20, &b, NULL), 0);
	assert_string_equal(buf_cstr(&b), want);
	buf_fini(&b);
}

static void write_all_reports_a_reader_that_went_away(void **state)
{
	int p[2];

	(void)state;
	assert_int_equal(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(io_write_all(p[1], "hello", 5), 0);
	assert_int_equal(io_write_all(p[1], NULL, 0), 0);
	close(p[1]);
	close(p[0]);
	assert_int_equal(io_write_all(p[1], "x", 1), -EBADF);
}

static void read_full_joins_short_reads_and_stops_at_the_end(void **state)
{
	char got[16] = { 0 };
	int p[2];

	(void)state;
	assert_int_equal(pipe2(p, O_CLOEXEC | O_DIRECT), 0);
	/* In packet mode each read gives one write at most. */
	assert_int_equal(io_write_all(p[1], "abc", 3), 0);
	assert_int_equal(io_write_all(p[1], "de", 2), 0);
	assert_int_equal(io_write_all(p[1], "f", 1), 0);
	close(p[1]);
	assert_int_equal(io_read_full(p[0], got, 5), 5);
	assert_memory_equal(got, "abcde", 5);
	assert_int_equal(io_read_full(p[0], got, sizeof(got)), 1);
	assert_int_equal(got[0], 'f');
	assert_int_equal(io_read_full(p[0], got, sizeof(got)), 0);
	close(p[0]);
	assert_int_equal(io_read_full(p[0], got, 1), -EBADF);
}

static void pread_full_reads_beyond_four_gibibytes(void **state)
{
	struct fixture *f = *state;
	uint64_t far = (UINT64_C(5) << 30) + 3;
	char got[16];
	int fd;

	fd = openat(f->dirfd, "big", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "tail", 4, (off_t)far), 4);
	assert_int_equal(io_pread_full(fd, got, sizeof(got), far), 4);
	assert_memory_equal(got, "tail", 4);
	assert_int_equal(io_pread_full(fd, got, 4, far - 2), 4);
	assert_memory_equal(got, "\0\0ta", 4);
	assert_int_equal(io_pread_full(fd, got, 4, far + 4), 0);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 0);
	close(fd);
}

static void read_file_appends_and_bounds(void **state)
{
	struct fixture *f = *state;
	struct buf b = BUF_INIT;
	struct err e;

	write_file(f->dirfd, "six", "123456", 0600);
	assert_int_equal(buf_put(&b, "<", 1), 0);
	assert_int_equal(io_read_file(f->dirfd, "six", 6, &b, &e), 0);
	assert_string_equal(buf_cstr(&b), "<123456");
	assert_int_equal(io_read_file(f->dirfd, "six", 5, &b, &e), -EFBIG);
	assert_non_null(strstr(e.text, "six"));
	assert_int_equal(io_read_file(f->dirfd, "none", 5, &b, &e), -ENOENT);
	assert_non_null(strstr(e.text, "none"));
	assert_int_equal(io_read_file(f->dirfd, ".", 5, &b, &e), -EISDIR);
	buf_fini(&b);
}

static void read_file_takes_files_larger_than_its_step(void **state)
{
	struct fixture *f = *state;
	struct buf b = BUF_INIT;
	enum { SIZE = 200001 };
	char *text = malloc(SIZE + 1);

	assert_non_null(text);
	for (size_t i = 0; i < SIZE; i++)
		text[i] = (char)('a' + i % 23);
	text[SIZE] = '\0';
	write_file(f->dirfd, "large", text, 0600);
	assert_int_equal(io_read_file(f->dirfd, "large", SIZE, &b, NULL), 0);
	assert_int_equal(buf_len(&b), SIZE);
	assert_memory_equal(buf_view(&b).p, text, SIZE);
	buf_fini(&b);
	free(text);
}

static void replace_creates_and_replaces(void **state)
{
	struct fixture *f = *state;
	struct stat st, was;

	assert_int_equal(io_replace_file(f->dirfd, "r", bytes_str("one"), 0640, NULL), 0);
	assert_content(f->dirfd, "r", "one");
	assert_int_equal(fstatat(f->dirfd, "r", &was, 0), 0);
	assert_int_equal(io_replace_file(f->dirfd, "r", bytes_str(""), 0600, NULL), 0);
	assert_content(f->dirfd, "r", "");
	assert_int_equal(fstatat(f->dirfd, "r", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_not_equal(st.st_ino, was.st_ino);
	assert_int_equal(faccessat(f->dirfd, "r.new", F_OK, 0), -1);
}

static void replace_writes_through_no_link_that_waits_there(void **state)
{
	struct fixture *f = *state;
	struct err e;

	write_file(f->dirfd, "victim", "keep", 0600);
	assert_int_equal(symlinkat("victim", f->dirfd, "r.new"), 0);
	assert_true(io_replace_file(f->dirfd, "r", bytes_str("x"), 0600, &e) < 0);
	assert_content(f->dirfd, "victim", "keep");
	assert_int_equal(faccessat(f->dirfd, "r", F_OK, 0), -1);
}

/* What a killed run left beside the file must not lend its mode to a secret. */
static void replace_gives_its_own_mode_to_a_left_over(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	write_file(f->dirfd, "r.new", "left over and longer", 0666);
	assert_int_equal(io_replace_file(f->dirfd, "r", bytes_str("new"), 0600, NULL), 0);
	assert_content(f->dirfd, "r", "new");
	assert_int_equal(fstatat(f->dirfd, "r", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void replace_that_fails_leaves_the_old_file_and_nothing_beside(void **state)
{
	struct fixture *f = *state;
	char name[PATH_MAX];
	struct err e;

	assert_int_equal(mkdirat(f->dirfd, "d", 0700), 0);
	assert_int_equal(mkdirat(f->dirfd, "d/child", 0700), 0);
	assert_int_equal(io_replace_file(f->dirfd, "d", bytes_str("x"), 0600, &e), -EISDIR);
	assert_int_equal(faccessat(f->dirfd, "d.new", F_OK, 0), -1);
	assert_int_equal(faccessat(f->dirfd, "d/child", F_OK, 0), 0);
	assert_int_equal(io_replace_file(f->dirfd, "no/r", bytes_str("x"), 0600, &e), -ENOENT);

	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 2] = '\0'; /* fits, but not with what is put behind it */
	assert_int_equal(io_replace_file(f->dirfd, name, bytes_str("x"), 0600, &e),
			 -ENAMETOOLONG);
}

static int open_below(struct fixture *f, const char *path)
{
	return io_open_dir_below(f->dirfd, bytes_str(path), O_RDONLY);
}

static void assert_same_dir(int fd, int dirfd, const char *path)
{
	struct stat a, b;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &a), 0);
	assert_int_equal(fstatat(dirfd, path, &b, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_int_equal(a.st_dev, b.st_dev);
	close(fd);
}

static void below_opens_what_is_there(void **state)
{
	struct fixture *f = *state;
	int fd;

	assert_int_equal(mkdirat(f->dirfd, "a", 0700), 0);
	assert_int_equal(mkdirat(f->dirfd, "a/b", 0700), 0);
	assert_int_equal(mkdirat(f->dirfd, "a/..b", 0700), 0);
	assert_int_equal(mkdirat(f->dirfd, "a/b..", 0700), 0);
	assert_int_equal(mkdirat(f->dirfd, "...", 0700), 0);
	assert_same_dir(open_below(f, ""), f->dirfd, ".");
	assert_same_dir(open_below(f, "."), f->dirfd, ".");
	assert_same_dir(open_below(f, "a"), f->dirfd, "a");
	assert_same_dir(open_below(f, "a/b"), f->dirfd, "a/b");
	assert_same_dir(open_below(f, "a/..b"), f->dirfd, "a/..b");
	assert_same_dir(open_below(f, "a/b.."), f->dirfd, "a/b..");
	assert_same_dir(open_below(f, "..."), f->dirfd, "...");

	fd = io_open_dir_below(f->dirfd, bytes_str("a"), O_PATH);
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFL) & O_PATH);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);

	/* Only the bytes counted: what follows them in memory is not looked at. */
	assert_same_dir(io_open_dir_below(f->dirfd, bytes_of("a/bXXX", 3), O_RDONLY),
			f->dirfd, "a/b");
}

static void below_follows_no_link(void **state)
{
	struct fixture *f = *state;
	static const char *const rows[] = {
		"link", "link/b", "d/link", "d/link/b", "up", "d/up/a", "abs", "abs/tmp", "self",
		"link/", "magic", "magic/a",
	};

	assert_int_equal(mkdirat(f->dirfd, "a", 0700), 0);
	assert_int_equal(mkdirat(f->dirfd, "a/b", 0700), 0);
	assert_int_equal(mkdirat(f->dirfd, "d", 0700), 0);
	assert_int_equal(symlinkat("a", f->dirfd, "link"), 0);
	assert_int_equal(symlinkat("../a", f->dirfd, "d/link"), 0);
	assert_int_equal(symlinkat("..", f->dirfd, "up"), 0);
	assert_int_equal(symlinkat("..", f->dirfd, "d/up"), 0);
	assert_int_equal(symlinkat("/", f->dirfd, "abs"), 0);
	assert_int_equal(symlinkat("self", f->dirfd, "self"), 0);
	assert_int_equal(symlinkat("/proc/self/cwd", f->dirfd, "magic"), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int r = open_below(f, rows[i]);

		if (r != -ELOOP && r != -EXDEV && r != -ENOTDIR)
			fail_msg("%s gave %d", rows[i], r);
	}
}

static void below_refuses_dotdot_and_absolute_paths(void **state)
{
	struct fixture *f = *state;
	static const char *const rows[] = {
		"..", "../", "a/..", "a/../a", "a/../..", "../a", "a/b/../../..", "/", "/tmp",
		"/..", "./..",
	};

	assert_int_equal(mkdirat(f->dirfd, "a", 0700), 0);
	assert_int_equal(mkdirat(f->dirfd, "a/b", 0700), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int r = open_below(f, rows[i]);

		if (r >= 0 || r == -ENOENT)
			fail_msg("%s gave %d", rows[i], r);
	}
}

static void below_tells_files_and_missing_names_apart(void **state)
{
	struct fixture *f = *state;
	char name[NAME_MAX + 2];

	write_file(f->dirfd, "file", "", 0600);
	assert_int_equal(open_below(f, "file"), -ENOTDIR);
	assert_int_equal(open_below(f, "file/x"), -ENOTDIR);
	assert_int_equal(open_below(f, "none"), -ENOENT);
	assert_int_equal(open_below(f, "none/x"), -ENOENT);
	memset(name, 'n', NAME_MAX + 1);
	name[NAME_MAX + 1] = '\0';
	assert_int_equal(open_below(f, name), -ENAMETOOLONG);
}

/*
 * Directories nested until the path has at least bytes bytes, with names of which no two
 * neighbours are equally long, so that cuts fall at many places.  *ret is the deepest.
 */
static struct bytes make_deep(struct fixture *f, size_t bytes, struct buf *path, int *ret)
{
	int at = dup(f->dirfd);

	for (size_t i = 0; buf_len(path) < bytes; i++) {
		char name[NAME_MAX + 1];
		size_t n = 1 + (i * 89) % NAME_MAX;
		int next;

		memset(name, 'a' + (int)(i % 26), n);
		name[n] = '\0';
		assert_int_equal(mkdirat(at, name, 0700), 0);
		next = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(at);
		at = next;
		if (buf_len(path))
			assert_int_equal(buf_put(path, "/", 1), 0);
		assert_int_equal(buf_put(path, name, n), 0);
	}
	*ret = at;
	return buf_view(path);
}

/* nftw() cannot reach so deep; empty directories are removed from the bottom by descriptor. */
static void remove_deep(struct fixture *f, struct bytes path)
{
	while (path.n) {
		struct bytes parent = path;
		char name[NAME_MAX + 1];
		int fd;

		while (parent.n && parent.p[parent.n - 1] != '/')
			parent.n--;
		memcpy(name, path.p + parent.n, path.n - parent.n);
		name[path.n - parent.n] = '\0';
		if (parent.n)
			parent.n--;
		fd = io_open_dir_below(f->dirfd, parent, O_RDONLY);
		assert_true(fd >= 0);
		assert_int_equal(unlinkat(fd, name, AT_REMOVEDIR), 0);
		close(fd);
		path = parent;
	}
}

static void below_goes_deeper_than_path_max(void **state)
{
	struct fixture *f = *state;
	struct buf path = BUF_INIT;
	struct bytes v;
	int deepest;

	v = make_deep(f, 3 * PATH_MAX, &path, &deepest);
	assert_same_dir(io_open_dir_below(f->dirfd, v, O_RDONLY), deepest, ".");

	/* Every prefix that ends at a name, so that each cut is met at each distance. */
	for (size_t n = 1; n < v.n; n++) {
		int fd;

		if (v.p[n] != '/')
			continue;
		fd = io_open_dir_below(f->dirfd, bytes_of(v.p, n), O_PATH);
		assert_true(fd >= 0);
		close(fd);
	}
	remove_deep(f, v);
	close(deepest);
	buf_fini(&path);
}

static void below_refuses_links_and_dotdot_deeper_than_path_max(void **state)
{
	struct fixture *f = *state;
	struct buf path = BUF_INIT, t = BUF_INIT;
	struct bytes v;
	int deepest, r;

	v = make_deep(f, 2 * PATH_MAX, &path, &deepest);
	assert_int_equal(symlinkat("/", deepest, "out"), 0);
	assert_int_equal(buf_put_bytes(&t, v), 0);
	assert_int_equal(buf_put(&t, "/out", 4), 0);
	r = io_open_dir_below(f->dirfd, buf_view(&t), O_RDONLY);
	assert_true(r == -ELOOP || r == -ENOTDIR || r == -EXDEV);

	buf_clear(&t);
	assert_int_equal(buf_put_bytes(&t, v), 0);
	assert_int_equal(buf_put(&t, "/..", 3), 0);
	assert_int_equal(io_open_dir_below(f->dirfd, buf_view(&t), O_RDONLY), -EXDEV);

	assert_int_equal(unlinkat(deepest, "out", 0), 0);
	remove_deep(f, v);
	close(deepest);
	buf_fini(&path);
	buf_fini(&t);
}

static void below_refuses_a_component_that_fits_no_kernel(void **state)
{
	struct fixture *f = *state;
	static char name[2 * PATH_MAX];

	memset(name, 'n', sizeof(name) - 1);
	assert_int_equal(open_below(f, name), -ENAMETOOLONG);
}

static int open_descriptors(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void below_leaks_no_descriptor(void **state)
{
	struct fixture *f = *state;
	struct buf path = BUF_INIT, t = BUF_INIT;
	int deepest, before, fd;
	struct bytes v;

	v = make_deep(f, 2 * PATH_MAX, &path, &deepest);
	assert_int_equal(buf_put_bytes(&t, v), 0);
	assert_int_equal(buf_put(&t, "/none", 5), 0);
	before = open_descriptors();
	for (int i = 0; i < 20; i++) {
		fd = io_open_dir_below(f->dirfd, v, O_RDONLY);
		assert_true(fd >= 0);
		close(fd);
		assert_int_equal(io_open_dir_below(f->dirfd, buf_view(&t), O_RDONLY), -ENOENT);
		assert_true(open_below(f, "..") < 0);
	}
	assert_int_equal(open_descriptors(), before);
	remove_deep(f, v);
	close(deepest);
	buf_fini(&path);
	buf_fini(&t);
}

static void the_monotonic_clock_does_not_go_back(void **state)
{
	int64_t last = clock_mono_ns();

	(void)state;
	for (int i = 0; i < 1000; i++) {
		int64_t now = clock_mono_ns();

		assert_true(now >= last);
		last = now;
	}
	/* 2020-01-01: a real clock in nanoseconds, not in any other unit. */
	assert_true(clock_real_ns() > INT64_C(1577836800) * 1000000000);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(write_all_reports_a_reader_that_went_away),
		T(read_full_joins_short_reads_and_stops_at_the_end),
		T(pread_full_reads_beyond_four_gibibytes),
		T(read_file_appends_and_bounds),
		T(read_file_takes_files_larger_than_its_step),
		T(replace_creates_and_replaces),
		T(replace_writes_through_no_link_that_waits_there),
		T(replace_gives_its_own_mode_to_a_left_over),
		T(replace_that_fails_leaves_the_old_file_and_nothing_beside),
		T(below_opens_what_is_there),
		T(below_follows_no_link),
		T(below_refuses_dotdot_and_absolute_paths),
		T(below_tells_files_and_missing_names_apart),
		T(below_goes_deeper_than_path_max),
		T(below_refuses_links_and_dotdot_deeper_than_path_max),
		T(below_refuses_a_component_that_fits_no_kernel),
		T(below_leaks_no_descriptor),
		T(the_monotonic_clock_does_not_go_back),
	};

	return cmocka_run_group_tests_name("io", tests, NULL, NULL);
}
