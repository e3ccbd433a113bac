/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "transport/meta.h"
#include "transport/protocol.h"

#define B(literal) bytes_of(literal, sizeof(literal) - 1)

static bool get(struct buf *wire, struct tp_meta *ret)
{
	struct reader r = reader_of(buf_view(wire));

	tp_meta_get(&r, ret);
	return !r.bad && r.n == 0;
}

static void all_fields_come_back(void **state)
{
	struct tp_meta m = {
		.mode = S_IFBLK | 0660,
		.uid = 1,
		.gid = UINT32_MAX,
		.mtime_s = INT64_MIN,
		.mtime_ns = 999999999,
		.flags = FS_IMMUTABLE_FL | FS_APPEND_FL,
		.rdev_major = 4095,
		.rdev_minor = 1 << 19,
		.xattrs = B("\x06\0\0\0\0\0user.a\x06\0\x02\0\0\0user.b\0\xff"),
	};
	struct buf wire = BUF_INIT;
	struct tp_meta got;

	(void)state;
	assert_int_equal(tp_meta_put(&wire, &m), 0);
	assert_true(get(&wire, &got));
	assert_int_equal(got.mode, m.mode);
	assert_int_equal(got.gid, m.gid);
	assert_true(got.mtime_s == m.mtime_s);
	assert_int_equal(got.mtime_ns, m.mtime_ns);
	assert_int_equal(got.flags, m.flags);
	assert_int_equal(got.rdev_major, m.rdev_major);
	assert_int_equal(got.rdev_minor, m.rdev_minor);
	assert_true(bytes_eq(got.xattrs, m.xattrs));
	/* cut anywhere */
	for (size_t n = wire.n; n-- > 0;) {
		wire.n = n;
		assert_false(get(&wire, &got));
	}
	buf_fini(&wire);
}

static void nonsense_is_bad(void **state)
{
	static const struct tp_meta good = { .mode = S_IFLNK | 0777,
					     .target = { (const uint8_t *)"x", 1 } };
	static const struct {
		size_t at;
		uint8_t value;
	} rows[] = {
		{ 0, 0 },        /* a link without a target */
		{ 0, 0x80 | TP_M_TARGET },
		{ 0, TP_M_TARGET | TP_M_RDEV },
		{ 2, 0x01 },     /* no type */
		{ 3, 0x01 },     /* bits above the type */
		{ 20, 0x80 },    /* size */
		{ 32, 0x40 },    /* nanoseconds */
		{ 33, 0 },       /* an empty target */
		{ 35, 0 },       /* NUL in the target */
	};
	struct buf wire = BUF_INIT;
	struct tp_meta got;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		buf_clear(&wire);
		assert_int_equal(tp_meta_put(&wire, &good), 0);
		assert_true(get(&wire, &got));
		wire.p[rows[i].at] = rows[i].value;
		assert_false(get(&wire, &got));
	}
	buf_fini(&wire);
}

static void attributes_are_checked(void **state)
{
	static const struct {
		struct bytes packed;
		bool ok;
	} rows[] = {
		{ { (const uint8_t *)"\x01\0\x01\0\0\0av\x01\0\0\0\0\0b", 15 }, true },
		{ { (const uint8_t *)"\x01\0\x01\0\0\0bv\x01\0\0\0\0\0a", 15 }, false },
		{ { (const uint8_t *)"\x01\0\x01\0\0\0av\x01\0\0\0\0\0a", 15 }, false },
		{ { (const uint8_t *)"\0\0\x01\0\0\0v", 7 }, false },
		{ { (const uint8_t *)"\x01\0\x01\0\0\0\0v", 8 }, false },
		{ { (const uint8_t *)"\x01\0\x02\0\0\0av", 8 }, false },
		{ { (const uint8_t *)"\x01\0\xff\xff\xff\xff" "av", 8 }, false },
		{ { (const uint8_t *)"\x01\0\x01\0\0\0avx", 9 }, false },
	};
	struct buf wire = BUF_INIT;
	struct tp_meta got;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct tp_meta m = { .mode = S_IFREG, .xattrs = rows[i].packed };

		buf_clear(&wire);
		assert_int_equal(tp_meta_put(&wire, &m), 0);
		assert_int_equal(get(&wire, &got), rows[i].ok);
	}
	buf_fini(&wire);
}

static void statx_is_taken_over(void **state)
{
	struct statx stx = {
		.stx_mode = S_IFCHR | 0600,
		.stx_size = 77,
		.stx_uid = 3,
		.stx_mtime = { .tv_sec = -3, .tv_nsec = 4 },
		.stx_attributes = STATX_ATTR_APPEND | STATX_ATTR_COMPRESSED,
		.stx_rdev_major = 5,
		.stx_rdev_minor = 6,
	};
	struct tp_meta m;

	(void)state;
	tp_meta_from_statx(&stx, &m);
	assert_int_equal(m.mode, S_IFCHR | 0600);
	assert_int_equal(m.size, 0);
	assert_int_equal(m.uid, 3);
	assert_int_equal(m.mtime_s, -3);
	assert_int_equal(m.mtime_ns, 4);
	assert_int_equal(m.flags, FS_APPEND_FL);
	assert_int_equal(m.rdev_major, 5);
	assert_int_equal(m.rdev_minor, 6);
	stx.stx_mode = S_IFREG | 0600;
	stx.stx_attributes = STATX_ATTR_IMMUTABLE;
	tp_meta_from_statx(&stx, &m);
	assert_int_equal(m.size, 77);
	assert_int_equal(m.flags, FS_IMMUTABLE_FL);
	assert_int_equal(m.rdev_major, 0);
}

struct tree {
	char path[64];
	int old;
	int fd;
	bool works; /* the file system has user attributes */
};

static int tree_setup(void **state)
{
	struct tree *t = calloc(1, sizeof(*t));

	strcpy(t->path, "/var/tmp/test_meta.XXXXXX");
	t->old = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!mkdtemp(t->path) || chdir(t->path) < 0)
		return -1;
	t->fd = open("-rf", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	t->works = fsetxattr(t->fd, "user.probe", "", 0, 0) == 0;
	if (t->works)
		fremovexattr(t->fd, "user.probe");
	*state = t;
	return t->fd < 0 ? -1 : 0;
}

static int tree_teardown(void **state)
{
	struct tree *t = *state;

	close(t->fd);
	unlink("-rf");
	unlink("link");
	if (fchdir(t->old) < 0)
		return -1;
	close(t->old);
	rmdir(t->path);
	free(t);
	return 0;
}

static void attributes_are_read(void **state)
{
	struct tree *t = *state;
	struct buf by_fd = BUF_INIT;
	struct buf by_name = BUF_INIT;
	struct bytes packed;
	struct bytes name;
	struct bytes value;
	char big[2000];
	char text[32];
	unsigned count = 0;

	if (!t->works)
		skip();
	assert_int_equal(tp_xattrs_read(t->fd, NULL, &by_fd, NULL), 0);
	assert_int_equal(buf_len(&by_fd), 0);
	memset(big, 'v', sizeof(big));
	/* In no order; the list is longer than the first guess at its length. */
	for (unsigned i = 0; i < 100; i++) {
		snprintf(text, sizeof(text), "user.a%02u-%020u", i * 37 % 100, 0);
		if (fsetxattr(t->fd, text, big, i == 50 ? sizeof(big) : i, 0) < 0)
			break;
		count++;
	}
	assert_true(count > 20);
	assert_int_equal(buf_put(&by_fd, "old", 3), 0);
	assert_int_equal(tp_xattrs_read(t->fd, NULL, &by_fd, NULL), 0);
	assert_int_equal(tp_xattrs_read(-1, "-rf", &by_name, NULL), 0);
	assert_true(bytes_eq(buf_view(&by_fd), buf_view(&by_name)));
	packed = buf_view(&by_fd);
	for (unsigned i = 0; i < 100; i++) {
		unsigned n = i * 73 % 100; /* 37 * 73 = 2701: the inverse of the order above */

		if (n >= count)
			continue;
		assert_true(tp_xattrs_next(&packed, &name, &value));
		snprintf(text, sizeof(text), "user.a%02u-%020u", i, 0);
		assert_true(bytes_eq(name, bytes_str(text)));
		assert_int_equal(value.n, n == 50 ? sizeof(big) : n);
	}
	assert_false(tp_xattrs_next(&packed, &name, &value));
	buf_fini(&by_fd);
	buf_fini(&by_name);
}

static void links_are_not_followed(void **state)
{
	struct tree *t = *state;
	struct buf out = BUF_INIT;
	struct err e;

	if (!t->works)
		skip();
	assert_int_equal(fsetxattr(t->fd, "user.x", "1", 1, 0), 0);
	assert_int_equal(symlink("-rf", "link"), 0);
	assert_int_equal(tp_xattrs_read(-1, "link", &out, NULL), 0);
	assert_int_equal(buf_len(&out), 0);
	assert_int_equal(tp_xattrs_read(-1, "not there", &out, &e), -ENOENT);
	buf_fini(&out);
}

static void acls_are_read(void **state)
{
	/* user::rw- user:1000:r-- group::--- mask::r-- other::--- */
	static const char acl[] = "\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xe8\x03\0\0"
				  "\x04\0\0\0\xff\xff\xff\xff\x10\0\x04\0\xff\xff\xff\xff"
				  "\x20\0\0\0\xff\xff\xff\xff";
	struct tree *t = *state;
	struct buf out = BUF_INIT;
	struct bytes packed;
	struct bytes name;
	struct bytes value;

	if (fsetxattr(t->fd, "system.posix_acl_access", acl, sizeof(acl) - 1, 0) < 0)
		skip();
	assert_int_equal(tp_xattrs_read(t->fd, NULL, &out, NULL), 0);
	packed = buf_view(&out);
	assert_true(tp_xattrs_next(&packed, &name, &value));
	assert_true(bytes_eq(name, B("system.posix_acl_access")));
	assert_true(bytes_eq(value, B(acl)));
	buf_fini(&out);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_fields_come_back),
		cmocka_unit_test(nonsense_is_bad),
		cmocka_unit_test(attributes_are_checked),
		cmocka_unit_test(statx_is_taken_over),
		cmocka_unit_test_setup_teardown(attributes_are_read, tree_setup, tree_teardown),
		cmocka_unit_test_setup_teardown(links_are_not_followed, tree_setup,
						tree_teardown),
		cmocka_unit_test_setup_teardown(acls_are_read, tree_setup, tree_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
