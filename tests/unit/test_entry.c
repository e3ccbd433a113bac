/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/fs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/macro.h"
#include "stager/entry.h"

static struct stg_row ordinary(void)
{
	return (struct stg_row){
		.st = {
			.mode = S_IFREG | 0644,
			.uid = 1000,
			.gid = 100,
			.size = 4711,
			.mtime_s = 1700000000,
			.mtime_ns = 123456789,
			.ctime_s = 1700000001,
			.ctime_ns = 987654321,
			.ino = 42,
			.dev = 8ull << 32 | 1,
			.nlink = 1,
		},
		.phase = 1,
		.epoch = 1,
		.state = STG_ROW_CLEAN,
	};
}

static void extreme_values_survive_packing(void **state)
{
	struct stg_row rows[] = {
		{ .phase = 0 },
		ordinary(),
		{
			.st = {
				.mode = UINT32_MAX,
				.uid = UINT32_MAX,
				.gid = UINT32_MAX,
				.flags = UINT32_MAX,
				.size = UINT64_MAX,
				.mtime_s = INT64_MIN,
				.mtime_ns = UINT32_MAX,
				.ctime_s = INT64_MIN,
				.ctime_ns = UINT32_MAX,
				.ino = UINT64_MAX,
				.dev = UINT64_MAX,
				.rdev = UINT64_MAX,
				.nlink = UINT32_MAX,
				.bytes_on_disk = UINT64_MAX,
			},
			.child = UINT64_MAX,
			.phase = UINT32_MAX,
			.epoch = UINT32_MAX,
			.state = UINT8_MAX,
		},
		{
			/* Each field another value, so that no two can change places. */
			.st = {
				.mode = 1, .uid = 2, .gid = 3, .flags = 4, .size = 5,
				.mtime_s = -6, .mtime_ns = 7, .ctime_s = INT64_MAX, .ctime_ns = 9,
				.ino = 10, .dev = 11, .rdev = 12, .nlink = 13,
				.bytes_on_disk = 21,
			},
			.child = 14, .phase = 15, .epoch = 16, .state = 17,
			.hash = { .b = { 18, 19, [15] = 20 } },
		},
	};

	(void)state;
	memset(rows[2].hash.b, 0xff, sizeof(rows[2].hash.b));
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct stg_row *a = &rows[i];
		uint8_t packed[STG_ROW_BYTES + 1], again[STG_ROW_BYTES];
		struct stg_row b;

		packed[STG_ROW_BYTES] = 0xa5;
		stg_row_pack(packed, a);
		assert_int_equal(packed[STG_ROW_BYTES], 0xa5);
		memset(&b, 0x5a, sizeof(b));
		assert_int_equal(stg_row_unpack(packed, STG_ROW_BYTES, &b), 0);
		assert_true(stg_stat_same(&a->st, &b.st));
		assert_true(a->st.dev == b.st.dev);
		assert_int_equal(a->st.nlink, b.st.nlink);
		assert_true(a->st.bytes_on_disk == b.st.bytes_on_disk);
		assert_true(a->child == b.child);
		assert_int_equal(a->phase, b.phase);
		assert_int_equal(a->epoch, b.epoch);
		assert_int_equal(a->state, b.state);
		assert_memory_equal(a->hash.b, b.hash.b, sizeof(a->hash.b));
		stg_row_pack(again, &b);
		assert_memory_equal(packed, again, STG_ROW_BYTES);
	}
}

static void a_row_of_another_size_is_refused(void **state)
{
	static const size_t sizes[] = { 0, 1, STG_ROW_BYTES - 1, STG_ROW_BYTES + 1, 1000 };
	uint8_t bytes[1000] = { 0 };
	struct stg_row row = { .phase = 7 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		assert_int_equal(stg_row_unpack(bytes, sizes[i], &row), -EBADMSG);
	assert_int_equal(stg_row_unpack(NULL, 0, &row), -EBADMSG);
	assert_int_equal(row.phase, 7);
}

static void each_field_that_differs_means_changed(void **state)
{
#define FIELD(f) { #f, offsetof(struct stg_stat, f), sizeof(((struct stg_stat *)0)->f) }
	static const struct {
		const char *name;
		size_t at, n;
	} rows[] = {
		FIELD(mode), FIELD(uid), FIELD(gid), FIELD(flags), FIELD(size), FIELD(mtime_s),
		FIELD(mtime_ns), FIELD(ctime_s), FIELD(ctime_ns), FIELD(ino), FIELD(rdev),
	};
#undef FIELD
	struct stg_row row = ordinary();

	(void)state;
	assert_true(stg_unchanged(&row, &row.st));
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		/* The lowest bit and the highest: no part of the field may be left out. */
		for (int last = 0; last < 2; last++) {
			struct stg_stat st = row.st;

			((uint8_t *)&st)[rows[i].at + (last ? rows[i].n - 1 : 0)] ^=
				last ? 0x80 : 1;
			if (stg_unchanged(&row, &st))
				fail_msg("another %s is taken for unchanged", rows[i].name);
			if (stg_stat_same(&st, &row.st))
				fail_msg("another %s is taken for the same", rows[i].name);
		}
}

static void what_does_not_matter_is_not_compared(void **state)
{
	struct stg_row row = ordinary();
	struct stg_stat st = row.st;

	(void)state;
	/* A device number may be another one after a reboot; the link count has its ctime. */
	st.dev++;
	st.nlink++;
	st.bytes_on_disk++;
	assert_true(stg_unchanged(&row, &st));
}

static void holes_that_came_or_went_are_told(void **state)
{
	static const struct {
		uint64_t before, now;
		bool want;
	} rows[] = {
		{ 8192, 8192, false },
		{ 8192, 16384, false }, /* blocks allocated ahead are no holes */
		{ 4096, 4096, false },
		{ 4096, 8192, true },
		{ 8192, 4096, true },
		{ 0, 4096, true },
	};
	struct stg_stat a = ordinary().st, b = a;

	(void)state;
	a.size = b.size = 8000;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		a.bytes_on_disk = rows[i].before;
		b.bytes_on_disk = rows[i].now;
		assert_int_equal(stg_stat_holes_differ(&a, &b), rows[i].want);
	}
}

static void only_a_clean_row_means_unchanged(void **state)
{
	static const struct {
		uint8_t state;
		bool want;
	} rows[] = {
		{ 0, false },
		{ STG_ROW_HASHED, false },
		{ STG_ROW_DIRTY, false },
		{ STG_ROW_HASHED | STG_ROW_DIRTY, false },
		{ STG_ROW_CLEAN, true },
		{ STG_ROW_CLEAN | STG_ROW_HASHED, true },
	};
	struct stg_row row = ordinary();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		row.state = rows[i].state;
		assert_int_equal(stg_unchanged(&row, &row.st), rows[i].want);
	}
}

static void statx_is_taken_over(void **state)
{
	struct statx stx = {
		.stx_mode = S_IFREG | 04755,
		.stx_uid = 1,
		.stx_gid = 2,
		.stx_size = 1ull << 40,
		.stx_mtime = { .tv_sec = -1, .tv_nsec = 999999999 },
		.stx_ctime = { .tv_sec = 5, .tv_nsec = 6 },
		.stx_ino = UINT64_MAX,
		.stx_dev_major = 259,
		.stx_dev_minor = 3,
		.stx_rdev_major = 9,
		.stx_rdev_minor = 8,
		.stx_nlink = 3,
		.stx_blocks = 16,
		.stx_attributes = STATX_ATTR_IMMUTABLE | STATX_ATTR_COMPRESSED,
	};
	struct stg_stat st;

	(void)state;
	stg_stat_from_statx(&stx, &st);
	assert_int_equal(st.mode, S_IFREG | 04755);
	assert_int_equal(st.uid, 1);
	assert_int_equal(st.gid, 2);
	assert_true(st.size == 1ull << 40);
	assert_true(st.mtime_s == -1 && st.mtime_ns == 999999999);
	assert_true(st.ctime_s == 5 && st.ctime_ns == 6);
	assert_true(st.ino == UINT64_MAX);
	assert_true(st.dev == (259ull << 32 | 3));
	assert_true(st.rdev == 0); /* no device node */
	assert_int_equal(st.nlink, 3);
	assert_true(st.bytes_on_disk == 8192);
	assert_int_equal(st.flags, FS_IMMUTABLE_FL);

	stx.stx_mode = S_IFBLK | 0600;
	stx.stx_attributes = STATX_ATTR_APPEND;
	stg_stat_from_statx(&stx, &st);
	assert_true(st.size == 0); /* only regular files have one */
	assert_true(st.bytes_on_disk == 0);
	assert_true(st.rdev == (9ull << 32 | 8));
	assert_int_equal(st.flags, FS_APPEND_FL);
}

static void metadata_for_the_wire_is_that_of_the_stat(void **state)
{
	struct stg_stat st = ordinary().st;
	struct tp_meta m;

	(void)state;
	st.mode = S_IFCHR | 0620;
	st.rdev = 136ull << 32 | 7;
	st.flags = FS_APPEND_FL;
	memset(&m, 0x5a, sizeof(m));
	stg_stat_to_meta(&st, &m);
	assert_int_equal(m.mode, st.mode);
	assert_int_equal(m.uid, st.uid);
	assert_int_equal(m.gid, st.gid);
	assert_true(m.size == st.size);
	assert_true(m.mtime_s == st.mtime_s && m.mtime_ns == st.mtime_ns);
	assert_int_equal(m.flags, FS_APPEND_FL);
	assert_int_equal(m.rdev_major, 136);
	assert_int_equal(m.rdev_minor, 7);
	assert_int_equal(m.target.n, 0);
	assert_int_equal(m.xattrs.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(extreme_values_survive_packing),
		cmocka_unit_test(a_row_of_another_size_is_refused),
		cmocka_unit_test(each_field_that_differs_means_changed),
		cmocka_unit_test(what_does_not_matter_is_not_compared),
		cmocka_unit_test(holes_that_came_or_went_are_told),
		cmocka_unit_test(only_a_clean_row_means_unchanged),
		cmocka_unit_test(statx_is_taken_over),
		cmocka_unit_test(metadata_for_the_wire_is_that_of_the_stat),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
