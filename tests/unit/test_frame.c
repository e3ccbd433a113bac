/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "common/macro.h"
#include "transport/blocks.h"
#include "transport/frame.h"

#define B(literal) bytes_of(literal, sizeof(literal) - 1)

static struct tp_entry sample(uint32_t mode)
{
	return (struct tp_entry){
		.meta = {
			.mode = mode,
			.uid = 1000,
			.gid = 100,
			.mtime_s = -5,
			.mtime_ns = 999999999,
			.rdev_major = S_ISCHR(mode) ? 8 : 0,
			.rdev_minor = S_ISCHR(mode) ? 300000 : 0,
			.target = S_ISLNK(mode) ? B("../there") : B(""),
			.xattrs = B("\x06\0\x01\0\0\0user.av"),
		},
		.name = B("name"),
	};
}

/* The one frame that out holds. */
static struct tp_frame only(const struct buf *out)
{
	struct tp_frame f = { 0 };
	struct err e = { 0 };

	assert_int_equal(tp_frame_peek(out, &f, &e), 1);
	assert_int_equal(tp_frame_bytes(&f), buf_len(out));
	return f;
}

/* Read a frame of any type; the fields are looked at elsewhere. */
static int get_any(const struct tp_frame *f, bool from_r)
{
	struct tp_difference difference;
	struct tp_item_entry item;
	struct tp_hash_value hash;
	struct tp_link_msg link;
	struct tp_refusal refusal;
	struct tp_sigreq sigreq;
	struct tp_range range;
	struct tp_copy copy;
	struct tp_entry entry;
	struct tp_hello hello;
	struct tp_ready ready;
	struct reader r = reader_of(f->payload);
	struct bytes b;
	uint64_t x;
	uint64_t y;
	uint32_t u;
	int got;

	switch (f->type) {
	case TP_HELLO:
		return from_r ? tp_get_hello_r(f, &hello, NULL) : tp_get_hello_d(f, &hello, NULL);
	case TP_ABORT:
		return tp_get_abort(f, &u, &b, NULL);
	case TP_DIR:
	case TP_LIST:
		return tp_get_path(f, &b, NULL);
	case TP_ENTRY:
	case TP_FILE:
	case TP_OPEN:
	case TP_META:
	case TP_DIRMETA:
	case TP_CHECK:
	case TP_FINISH:
		return tp_get_entry(f, &entry, NULL);
	case TP_SEGMENT:
		return tp_get_segment(f, &range, NULL);
	case TP_HASHREQ:
		return tp_get_hashreq(f, &range, NULL);
	case TP_SUMREQ:
		return tp_get_sumreq(f, &range, NULL);
	case TP_COPY:
		return tp_get_copy(f, &copy, NULL);
	case TP_HASHED:
		return tp_get_hashed(f, &u, &hash, NULL);
	case TP_DATA:
		return tp_get_data(f, &x, &b, NULL);
	case TP_HOLE:
		return tp_get_hole(f, &x, &y, NULL);
	case TP_CLOSE:
		return tp_get_close(f, &x, &hash, NULL);
	case TP_LINK:
	case TP_MOVE:
	case TP_CHECKLINK:
		return tp_get_link(f, &link, NULL);
	case TP_DIFFER:
		return tp_get_difference(f, &difference, NULL);
	case TP_REMOVE:
		return tp_get_remove(f, &b, NULL);
	case TP_SIGREQ:
		return tp_get_sigreq(f, &sigreq, NULL);
	case TP_SYNC:
	case TP_ACK:
	case TP_DURABLE:
		return tp_get_number(f, &x, NULL);
	case TP_READY:
		return tp_get_ready(f, &ready, NULL);
	case TP_REFUSE:
	case TP_WARN:
		return tp_get_refusal(f, &refusal, NULL);
	case TP_LISTING:
		while ((got = tp_get_item(&r, &item, NULL)) == 1)
			;
		return got;
	default:
		return 0;
	}
}

static void entries_come_back(void **state)
{
	static const struct {
		uint8_t type;
		uint8_t flags;
		uint16_t slot;
		uint32_t mode;
	} rows[] = {
		{ TP_ENTRY, 0, 0, S_IFLNK | 0777 },   { TP_ENTRY, 0, 0, S_IFREG | 04755 },
		{ TP_ENTRY, 0, 0, S_IFCHR | 0600 },   { TP_ENTRY, 0, 0, S_IFIFO | 0600 },
		{ TP_ENTRY, 0, 0, S_IFSOCK | 0600 },  { TP_FILE, 0, 0, S_IFREG | 0644 },
		{ TP_OPEN, TP_F_BASIS, 1023, S_IFREG | 0644 },
		{ TP_META, 0, 0, S_IFREG | 0644 },    { TP_META, TP_F_HASH, 0, S_IFREG | 0644 },
		{ TP_DIRMETA, 0, 0, S_IFDIR | 01777 },
		{ TP_CHECK, 0, 0, S_IFLNK | 0777 },
		{ TP_CHECK, TP_F_HASH, 0, S_IFREG | 0644 },
		{ TP_CHECK, TP_F_LIVE, 0, S_IFREG | 0644 },
		{ TP_CHECK, TP_F_PATH, 0, S_IFDIR | 0755 },
	};
	struct buf out = BUF_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct tp_entry m = sample(rows[i].mode);
		struct tp_entry got;
		struct tp_frame f;

		m.links = rows[i].type == TP_META ? 3 : 0;
		if (rows[i].type == TP_META && rows[i].flags)
			memset(m.hash.b, 0x5a, sizeof(m.hash.b));
		if (rows[i].type == TP_FILE) {
			m.content = B("some content\n");
			m.meta.size = m.content.n;
		}
		if (rows[i].type == TP_OPEN)
			m.meta.size = UINT64_C(1) << 40;
		if (rows[i].type == TP_DIRMETA)
			m.name = i % 2 ? B("a/b") : B("");
		assert_int_equal(tp_put_entry(&out, rows[i].type, rows[i].flags, rows[i].slot, &m),
				 0);
		f = only(&out);
		assert_int_equal(f.type, rows[i].type);
		assert_int_equal(f.flags, rows[i].flags);
		assert_int_equal(f.slot, rows[i].slot);
		assert_int_equal(tp_get_entry(&f, &got, NULL), 0);
		assert_int_equal(got.meta.mode, m.meta.mode);
		assert_int_equal(got.meta.uid, m.meta.uid);
		assert_int_equal(got.meta.gid, m.meta.gid);
		assert_int_equal(got.meta.size, m.meta.size);
		assert_int_equal(got.meta.mtime_s, m.meta.mtime_s);
		assert_int_equal(got.meta.mtime_ns, m.meta.mtime_ns);
		assert_int_equal(got.meta.rdev_major, m.meta.rdev_major);
		assert_int_equal(got.meta.rdev_minor, m.meta.rdev_minor);
		assert_true(bytes_eq(got.meta.target, m.meta.target));
		assert_true(bytes_eq(got.meta.xattrs, m.meta.xattrs));
		assert_true(bytes_eq(got.name, m.name));
		assert_true(bytes_eq(got.content, m.content));
		assert_int_equal(got.links, m.links);
		assert_memory_equal(got.hash.b, m.hash.b, sizeof(m.hash.b));
		buf_clear(&out);
	}
	buf_fini(&out);
}

#define TEMP ".stager-tmp.00000000000000ab.1"

/* Each is right, or wrong in one way only. */
static void segments_stay_within_their_file(void **state)
{
	static const struct {
		uint64_t size, off, bytes;
		const char *name;
		int want;
	} rows[] = {
		{ 100, 0, 100, TEMP, 0 },
		{ 3 * (uint64_t)TP_LEAF_BYTES, TP_LEAF_BYTES, TP_LEAF_BYTES, TEMP, 0 },
		{ INT64_MAX, INT64_MAX - 5, 5, TEMP, 0 },
		{ 100, 0, 101, TEMP, -ERR_PROTOCOL },
		{ 100, 0, 0, TEMP, -ERR_PROTOCOL },
		{ 1ull << 40, 0, TP_LEAF_BYTES + 1, TEMP, -ERR_PROTOCOL },
		{ 1ull << 63, 0, 1, TEMP, -ERR_PROTOCOL },
		{ INT64_MAX, 1ull << 63, 1, TEMP, -ERR_PROTOCOL },
		{ UINT64_MAX, UINT64_MAX, 1, TEMP, -ERR_PROTOCOL },
		{ 100, 0, 100, ".stager-tmp.", -ERR_PROTOCOL },
		{ 100, 0, 100, ".stager-tmp.1/2", -ERR_PROTOCOL },
		{ 100, 0, 100, ".stager-tmp.xyz", -ERR_PROTOCOL },
		{ 100, 0, 100, "../.stager-tmp.1", -ERR_PROTOCOL },
		{ 100, 0, 100, "passwd", -ERR_PROTOCOL },
		{ 100, 0, 100, TEMP "1234567890abcdef1234", -ERR_PROTOCOL },
	};
	struct buf out = BUF_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct tp_range m = { .size = rows[i].size, .off = rows[i].off,
				      .bytes = rows[i].bytes, .name = bytes_str(rows[i].name),
				      .basis = B("old") };
		struct tp_entry finish = sample(S_IFREG | 0644), got_finish;
		struct tp_range got;
		struct tp_frame f;

		for (unsigned flags = 0; flags < 4; flags++) {
			assert_int_equal(tp_put_segment(&out, (uint8_t)flags, 9, &m), 0);
			/* A name that is too long is refused with its head. */
			if (m.name.n > TP_TEMP_MAX + 2)
				break;
			f = only(&out);
			assert_int_equal(tp_get_segment(&f, &got, NULL), rows[i].want);
			if (!rows[i].want) {
				assert_true(got.size == m.size && got.off == m.off);
				assert_true(got.bytes == m.bytes && bytes_eq(got.name, m.name));
				assert_int_equal(got.basis.n, flags & TP_F_COPIES ? 3 : 0);
			}
			buf_clear(&out);
		}
		buf_clear(&out);
		finish.temp = bytes_str(rows[i].name);
		finish.meta.size = rows[i].size;
		assert_int_equal(tp_put_entry(&out, TP_FINISH, 0, 0, &finish), 0);
		f = only(&out);
		if (rows[i].size <= INT64_MAX && tp_temp_ok(finish.temp)) {
			assert_int_equal(tp_get_entry(&f, &got_finish, NULL), 0);
			assert_true(bytes_eq(got_finish.temp, finish.temp));
		} else {
			assert_int_equal(tp_get_entry(&f, &got_finish, NULL), -ERR_PROTOCOL);
		}
		buf_clear(&out);
	}
	buf_fini(&out);
}

static void requests_for_sums_are_of_whole_blocks(void **state)
{
	const uint64_t size = (5ull << 30) + 7;
	const uint32_t block = tp_sums_block(size);
	const struct {
		struct tp_range m;
		int want;
	} rows[] = {
		{ { .size = size, .off = 0, .bytes = 3 * block, .block = block }, 0 },
		{ { .size = size, .off = 5ull << 30, .bytes = 7, .block = block }, 0 },
		{ { .size = size, .off = 1, .bytes = block, .block = block }, -ERR_PROTOCOL },
		{ { .size = size, .off = 0, .bytes = block + 1, .block = block }, -ERR_PROTOCOL },
		{ { .size = size, .off = 0, .bytes = size, .block = block }, -ERR_PROTOCOL },
		{ { .size = size, .off = 0, .bytes = 0, .block = block }, -ERR_PROTOCOL },
		{ { .size = size, .off = 0, .bytes = block, .block = block / 2 }, -ERR_PROTOCOL },
		{ { .size = size, .off = 0, .bytes = block, .block = 0 }, -ERR_PROTOCOL },
		{ { .size = size, .off = 5ull << 30, .bytes = 8, .block = block }, -ERR_PROTOCOL },
		{ { .size = UINT64_MAX, .off = 0, .bytes = 1, .block = 8u << 20 }, -ERR_PROTOCOL },
	};
	struct tp_range got;
	struct buf out = BUF_INIT;
	struct bytes sums;
	struct tp_frame f;
	uint32_t error;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct tp_range m = rows[i].m;

		m.name = B("basis");
		assert_int_equal(tp_put_sumreq(&out, 3, &m), 0);
		f = only(&out);
		assert_int_equal(tp_get_sumreq(&f, &got, NULL), rows[i].want);
		if (!rows[i].want)
			assert_true(got.off == m.off && got.bytes == m.bytes &&
				    got.size == m.size && got.block == m.block);
		buf_clear(&out);
	}
	assert_int_equal(tp_put_sums(&out, 3, 0, B("12345678")), 0);
	f = only(&out);
	assert_int_equal(tp_get_sums(&f, &error, &sums, NULL), 0);
	assert_true(!error && sums.n == TP_SUM_BYTES);
	buf_clear(&out);
	assert_int_equal(tp_put_sums(&out, 3, 0, B("123456789")), 0);
	f = only(&out);
	assert_int_equal(tp_get_sums(&f, &error, &sums, NULL), -ERR_PROTOCOL);
	buf_clear(&out);
	assert_int_equal(tp_put_sums(&out, 3, ENOENT, bytes_of(NULL, 0)), 0);
	f = only(&out);
	assert_int_equal(tp_get_sums(&f, &error, &sums, NULL), 0);
	assert_true(error == ENOENT && !sums.n);
	buf_fini(&out);
}

static void copies_and_hashes_come_back(void **state)
{
	static const struct {
		struct tp_copy m;
		int want;
	} rows[] = {
		{ { 5, 1ull << 40, TP_LEAF_BYTES }, 0 },
		{ { INT64_MAX, 0, 0 }, 0 },
		{ { INT64_MAX, 0, 1 }, -ERR_PROTOCOL },
		{ { 0, INT64_MAX, 1 }, -ERR_PROTOCOL },
		{ { 0, UINT64_MAX, 1 }, -ERR_PROTOCOL },
		{ { 0, 0, TP_LEAF_BYTES + 1 }, -ERR_PROTOCOL },
		{ { 0, 0, UINT64_MAX }, -ERR_PROTOCOL },
	};
	struct tp_range m = { .off = 77, .bytes = 10, .name = B("any name") }, got;
	struct tp_hash_value hash = { .b = { 1, 2, 3 } }, got_hash;
	struct buf out = BUF_INIT;
	struct tp_frame f;
	uint32_t error;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct tp_copy copy;

		assert_int_equal(tp_put_copy(&out, 3, &rows[i].m), 0);
		f = only(&out);
		assert_int_equal(tp_get_copy(&f, &copy, NULL), rows[i].want);
		assert_memory_equal(&copy, &rows[i].m, sizeof(copy));
		buf_clear(&out);
	}
	assert_int_equal(tp_put_hashreq(&out, 3, &m), 0);
	f = only(&out);
	assert_int_equal(tp_get_hashreq(&f, &got, NULL), 0);
	assert_true(got.off == 77 && got.bytes == 10 && bytes_eq(got.name, m.name));
	buf_clear(&out);
	for (uint32_t want = 0; want < 3; want++) {
		assert_int_equal(tp_put_hashed(&out, 3, want, &hash), 0);
		f = only(&out);
		assert_int_equal(tp_get_hashed(&f, &error, &got_hash, NULL), 0);
		assert_int_equal(error, want);
		if (!want)
			assert_memory_equal(got_hash.b, hash.b, sizeof(hash.b));
		buf_clear(&out);
	}
	buf_fini(&out);
}

static void entries_must_fit_their_frame(void **state)
{
	static const struct {
		uint8_t type;
		uint32_t mode;
		uint64_t size;
	} rows[] = {
		{ TP_ENTRY, S_IFDIR | 0755, 0 },  { TP_ENTRY, S_IFREG | 0644, 1 },
		{ TP_ENTRY, 0644, 0 },            { TP_ENTRY, S_IFREG | 0x10000, 0 },
		{ TP_FILE, S_IFLNK | 0777, 0 },   { TP_FILE, S_IFREG | 0644, 1 },
		{ TP_OPEN, S_IFIFO | 0644, 0 },   { TP_DIRMETA, S_IFREG | 0644, 0 },
		{ TP_META, S_IFREG | 0644, UINT64_C(1) << 63 },
	};
	struct buf out = BUF_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct tp_entry m = sample(rows[i].mode);
		struct tp_entry got;
		struct tp_frame f;

		m.meta.size = rows[i].size;
		assert_int_equal(tp_put_entry(&out, rows[i].type, 0, 0, &m), 0);
		f = only(&out);
		assert_int_equal(tp_get_entry(&f, &got, NULL), -ERR_PROTOCOL);
		buf_clear(&out);
	}
	buf_fini(&out);
}

static void greetings_come_back(void **state)
{
	struct tp_hello r = { 1, 7, TP_FEATURE_ZSTD | 0x100, .receiver = B("0.1.0") };
	struct tp_hello d = {
		.version_min = 1,
		.version_max = 2,
		.features = TP_FEATURE_ZSTD,
		.flags = TP_H_CREATE_ROOT,
		.session = 3,
		.idle_s = 600,
		.run = UINT64_C(0x1122334455667788),
		.root = B("/mnt/target"),
	};
	struct tp_ready ready = { 1, TP_R_EMPTY | TP_R_CHOWN, "boot id, 16 byte", 0, 5, ~0ull, 6 };
	struct tp_ready ready_got;
	struct tp_hello got;
	struct buf out = BUF_INIT;
	struct tp_frame f;
	struct bytes text;
	uint32_t code;

	(void)state;
	assert_int_equal(tp_put_hello_r(&out, &r), 0);
	f = only(&out);
	assert_int_equal(tp_get_hello_r(&f, &got, NULL), 0);
	assert_int_equal(got.version_max, 7);
	assert_int_equal(got.features, r.features);
	assert_true(bytes_eq(got.receiver, r.receiver));
	buf_clear(&out);

	assert_int_equal(tp_put_hello_d(&out, &d), 0);
	f = only(&out);
	assert_int_equal(tp_get_hello_d(&f, &got, NULL), 0);
	assert_int_equal(got.version_min, 1);
	assert_int_equal(got.flags, d.flags);
	assert_int_equal(got.session, 3);
	assert_int_equal(got.idle_s, 600);
	assert_true(got.run == d.run);
	assert_true(bytes_eq(got.root, d.root));
	buf_clear(&out);

	assert_int_equal(tp_put_ready(&out, &ready), 0);
	f = only(&out);
	assert_int_equal(tp_get_ready(&f, &ready_got, NULL), 0);
	assert_int_equal(ready_got.version, 1);
	assert_int_equal(ready_got.flags, ready.flags);
	assert_memory_equal(ready_got.boot_id, ready.boot_id, sizeof(ready.boot_id));
	assert_int_equal(ready_got.free_bytes, 5);
	assert_true(ready_got.free_inodes == UINT64_MAX);
	assert_int_equal(ready_got.fs_magic, 6);
	buf_clear(&out);

	assert_int_equal(tp_put_abort(&out, TP_ABORT_ROOT, "no such place"), 0);
	f = only(&out);
	assert_int_equal(tp_get_abort(&f, &code, &text, NULL), 0);
	assert_int_equal(code, TP_ABORT_ROOT);
	assert_true(bytes_eq(text, B("no such place")));
	buf_clear(&out);

	d.root = B("relative");
	assert_int_equal(tp_put_hello_d(&out, &d), 0);
	f = only(&out);
	assert_int_equal(tp_get_hello_d(&f, &got, NULL), -ERR_PROTOCOL);
	buf_clear(&out);
	r.version_min = 8;
	assert_int_equal(tp_put_hello_r(&out, &r), 0);
	f = only(&out);
	assert_int_equal(tp_get_hello_r(&f, &got, NULL), -ERR_PROTOCOL);
	buf_fini(&out);
}

static void small_frames_come_back(void **state)
{
	struct tp_link_msg link = { B("a/b"), B("old"), B("new"), 3 };
	struct tp_sigreq sigreq = { 4096, 9, B("name") };
	struct tp_refusal refusal = { 77, TP_E_STALE, B("rename"), B("it has changed") };
	struct tp_hash_value hash = { "0123456789abcde" };
	struct tp_hash_value hash_got;
	struct tp_link_msg link_got;
	struct tp_sigreq sigreq_got;
	struct tp_refusal refusal_got;
	struct buf out = BUF_INIT;
	struct tp_frame f;
	struct bytes b;
	uint64_t x;
	uint64_t y;

	(void)state;
	assert_int_equal(tp_put_link(&out, &link), 0);
	f = only(&out);
	assert_int_equal(tp_get_link(&f, &link_got, NULL), 0);
	assert_true(bytes_eq(link_got.dir, link.dir) && bytes_eq(link_got.from, link.from) &&
		    bytes_eq(link_got.name, link.name));
	buf_clear(&out);
	assert_int_equal(tp_put_move(&out, &link), 0);
	f = only(&out);
	assert_int_equal(f.type, TP_MOVE);
	assert_int_equal(tp_get_link(&f, &link_got, NULL), 0);
	assert_true(bytes_eq(link_got.from, link.from) && bytes_eq(link_got.name, link.name));
	buf_clear(&out);
	assert_int_equal(tp_put_checklink(&out, &link), 0);
	f = only(&out);
	assert_int_equal(f.type, TP_CHECKLINK);
	assert_int_equal(tp_get_link(&f, &link_got, NULL), 0);
	assert_true(bytes_eq(link_got.name, link.name) && link_got.links == 3);
	buf_clear(&out);

	assert_int_equal(tp_put_sigreq(&out, 5, &sigreq), 0);
	f = only(&out);
	assert_int_equal(f.slot, 5);
	assert_int_equal(tp_get_sigreq(&f, &sigreq_got, NULL), 0);
	assert_int_equal(sigreq_got.block_bytes, 4096);
	assert_int_equal(sigreq_got.strong_bytes, 9);
	assert_true(bytes_eq(sigreq_got.name, sigreq.name));
	buf_clear(&out);
	sigreq.block_bytes = 100;
	assert_int_equal(tp_put_sigreq(&out, 5, &sigreq), 0);
	f = only(&out);
	assert_int_equal(tp_get_sigreq(&f, &sigreq_got, NULL), -ERR_PROTOCOL);
	buf_clear(&out);

	assert_int_equal(tp_put_refusal(&out, TP_WARN, &refusal), 0);
	f = only(&out);
	assert_int_equal(f.type, TP_WARN);
	assert_int_equal(tp_get_refusal(&f, &refusal_got, NULL), 0);
	assert_int_equal(refusal_got.n, 77);
	assert_int_equal(refusal_got.error, TP_E_STALE);
	assert_true(bytes_eq(refusal_got.operation, refusal.operation));
	assert_true(bytes_eq(refusal_got.text, refusal.text));
	buf_clear(&out);

	assert_int_equal(tp_put_close(&out, 6, 123, &hash), 0);
	f = only(&out);
	assert_int_equal(tp_get_close(&f, &x, &hash_got, NULL), 0);
	assert_int_equal(x, 123);
	assert_memory_equal(hash_got.b, hash.b, sizeof(hash.b));
	buf_clear(&out);

	assert_int_equal(tp_put_data(&out, 7, UINT64_C(1) << 40, B("bytes")), 0);
	f = only(&out);
	assert_int_equal(tp_get_data(&f, &x, &b, NULL), 0);
	assert_true(x == UINT64_C(1) << 40 && bytes_eq(b, B("bytes")));
	buf_clear(&out);
	assert_int_equal(tp_put_data(&out, 7, INT64_MAX - 4, B("bytes")), 0);
	f = only(&out);
	assert_int_equal(tp_get_data(&f, &x, &b, NULL), -ERR_PROTOCOL);
	buf_clear(&out);

	assert_int_equal(tp_put_hole(&out, 7, 4096, INT64_MAX - 4096), 0);
	f = only(&out);
	assert_int_equal(tp_get_hole(&f, &x, &y, NULL), 0);
	assert_true(x == 4096 && y == INT64_MAX - 4096);
	buf_clear(&out);
	assert_int_equal(tp_put_hole(&out, 7, 4097, INT64_MAX - 4096), 0);
	f = only(&out);
	assert_int_equal(tp_get_hole(&f, &x, &y, NULL), -ERR_PROTOCOL);
	buf_clear(&out);
	assert_int_equal(tp_put_hole(&out, 7, 2, UINT64_MAX), 0);
	f = only(&out);
	assert_int_equal(tp_get_hole(&f, &x, &y, NULL), -ERR_PROTOCOL);
	buf_clear(&out);

	assert_int_equal(tp_put_number(&out, TP_ACK, 99), 0);
	f = only(&out);
	assert_int_equal(tp_get_number(&f, &x, NULL), 0);
	assert_int_equal(x, 99);
	buf_clear(&out);

	assert_int_equal(tp_put_remove(&out, TP_F_DIRECTORY, B("gone")), 0);
	f = only(&out);
	assert_int_equal(f.flags, TP_F_DIRECTORY);
	assert_int_equal(tp_get_remove(&f, &b, NULL), 0);
	assert_true(bytes_eq(b, B("gone")));
	buf_clear(&out);

	assert_int_equal(tp_put_path(&out, TP_LIST, TP_F_RECURSE, 9, B("")), 0);
	f = only(&out);
	assert_int_equal(tp_get_path(&f, &b, NULL), 0);
	assert_int_equal(b.n, 0);
	buf_clear(&out);

	assert_int_equal(tp_frame_put(&out, TP_SIG, TP_F_LAST | TP_F_ERROR, 3, B("1234")), 0);
	f = only(&out);
	assert_int_equal(f.flags, TP_F_LAST | TP_F_ERROR);
	assert_int_equal(f.slot, 3);
	assert_true(bytes_eq(f.payload, B("1234")));
	buf_fini(&out);
}

static void differences_come_back(void **state)
{
	struct tp_difference m = { .n = 7, .what = TP_D_TYPE | TP_D_ACL, .links = 2,
				   .hole_bytes = 8192, .there = true,
				   .meta = sample(S_IFLNK | 0777).meta,
				   .attributes = B("user.a user.b") };
	struct tp_difference got;
	struct buf out = BUF_INIT, big = BUF_INIT;
	struct tp_frame f;

	(void)state;
	assert_int_equal(tp_put_difference(&out, &m), 0);
	f = only(&out);
	assert_int_equal(tp_get_difference(&f, &got, NULL), 0);
	assert_true(got.n == 7 && got.links == 2 && got.hole_bytes == 8192 && got.there);
	assert_int_equal(got.what, m.what);
	assert_true(bytes_eq(got.meta.target, m.meta.target));
	assert_int_equal(got.meta.mode, m.meta.mode);
	assert_true(bytes_eq(got.attributes, m.attributes));
	/* Attributes stay at home, and what is long is cut. */
	assert_int_equal(got.meta.xattrs.n, 0);
	buf_clear(&out);
	for (size_t i = 0; i < TP_TARGET_MAX; i++)
		assert_int_equal(buf_put_u8(&big, 'x'), 0);
	m.meta.target = m.attributes = buf_view(&big);
	assert_int_equal(tp_put_difference(&out, &m), 0);
	f = only(&out);
	assert_int_equal(tp_get_difference(&f, &got, NULL), 0);
	assert_int_equal(got.meta.target.n, TP_TEXT_MAX);
	assert_int_equal(got.attributes.n, TP_TEXT_MAX);
	buf_clear(&out);
	/* Nothing is there, and then a difference that is none, and one that nobody knows. */
	m = (struct tp_difference){ .n = 1, .what = TP_D_MISSING };
	assert_int_equal(tp_put_difference(&out, &m), 0);
	f = only(&out);
	assert_int_equal(tp_get_difference(&f, &got, NULL), 0);
	assert_false(got.there);
	for (unsigned i = 0; i < 2; i++) {
		buf_clear(&out);
		m.what = i ? TP_D_ALL + 1 : 0;
		assert_int_equal(tp_put_difference(&out, &m), 0);
		f = only(&out);
		assert_int_equal(tp_get_difference(&f, &got, NULL), -ERR_PROTOCOL);
	}
	buf_fini(&out);
	buf_fini(&big);
}

static void listings_come_back(void **state)
{
	static const struct tp_item_entry items[] = {
		{ TP_ITEM_ENTRY, TP_L_MOUNT, S_IFDIR | 0755, 0, -1, 999999999, { 0 }, 0 },
		{ .kind = TP_ITEM_ENTER },
		{ TP_ITEM_ENTRY, 0, S_IFREG | 0644, 1234, 77, 0, { 0 }, 0 },
		{ .kind = TP_ITEM_FAIL, .error = EIO },
		{ .kind = TP_ITEM_LEAVE },
	};
	struct buf out = BUF_INIT;
	struct tp_item_entry got;
	struct reader r;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(items); i++) {
		struct tp_item_entry m = items[i];

		m.name = B("n");
		assert_int_equal(tp_put_item(&out, &m), 0);
	}
	r = reader_of(buf_view(&out));
	for (size_t i = 0; i < ARRAY_SIZE(items); i++) {
		assert_int_equal(tp_get_item(&r, &got, NULL), 1);
		assert_int_equal(got.kind, items[i].kind);
		assert_int_equal(got.flags, items[i].flags);
		assert_int_equal(got.mode, items[i].mode);
		assert_int_equal(got.size, items[i].size);
		assert_int_equal(got.mtime_s, items[i].mtime_s);
		assert_int_equal(got.mtime_ns, items[i].mtime_ns);
		assert_int_equal(got.error, items[i].error);
		assert_int_equal(got.name.n, items[i].kind == TP_ITEM_ENTRY ? 1 : 0);
	}
	assert_int_equal(tp_get_item(&r, &got, NULL), 0);
	/* Cut anywhere within an item. */
	for (size_t n = 1; n < 29; n++) {
		r = reader_of(bytes_of(out.p, n));
		assert_int_equal(tp_get_item(&r, &got, NULL), -ERR_PROTOCOL);
		assert_int_equal(tp_get_item(&r, &got, NULL), -ERR_PROTOCOL);
	}
	r = reader_of(B("\x05"));
	assert_int_equal(tp_get_item(&r, &got, NULL), -ERR_PROTOCOL);
	buf_fini(&out);
}

/* One frame of each type with a payload, and whether R sends it. */
static int put_nth(struct buf *out, unsigned n, bool *ret_from_r)
{
	struct tp_hello hello = { .version_min = 1, .version_max = 1, .root = B("/x") };
	struct tp_ready ready = { .version = 1 };
	struct tp_link_msg link = { B("a/b"), B("old"), B("new"), 3 };
	struct tp_sigreq sigreq = { 4096, 9, B("name") };
	struct tp_hash_value hash = { { 0 } };
	struct tp_entry entry = sample(S_IFREG | 0644);
	struct tp_entry symlink = sample(S_IFLNK | 0777);

	*ret_from_r = false;
	switch (n) {
	case 0:
		return tp_put_hello_d(out, &hello);
	case 1:
		return tp_put_ready(out, &ready);
	case 2:
		return tp_put_link(out, &link);
	case 3:
		return tp_put_sigreq(out, 1, &sigreq);
	case 4:
		return tp_put_close(out, 1, 5, &hash);
	case 5:
		return tp_put_entry(out, TP_META, TP_F_HASH, 0, &entry);
	case 6:
		return tp_put_entry(out, TP_ENTRY, 0, 0, &symlink);
	case 7:
		return tp_put_hole(out, 1, 1, 1);
	case 8:
		return tp_put_number(out, TP_SYNC, 1);
	case 9:
		return tp_put_remove(out, 0, B("abc"));
	case 10:
		return tp_put_path(out, TP_DIR, 0, 0, B("a/b"));
	case 11:
		return tp_put_entry(out, TP_CHECK, TP_F_HASH, 0, &entry);
	case 12:
		return tp_put_checklink(out, &link);
	case 13:
		return tp_put_copy(out, 1, &(struct tp_copy){ 1, 2, 3 });
	case 14:
		return tp_put_hashed(out, 1, 0, &(struct tp_hash_value){ 0 });
	case 15:
		return tp_put_hashreq(out, 1, &(struct tp_range){ .bytes = 1, .name = B("a") });
	case 17:
		return tp_put_sumreq(out, 1, &(struct tp_range){ .size = 1, .bytes = 1,
			.block = tp_sums_block(1), .name = B("a") });
	case 16:
		return tp_put_segment(out, TP_F_COPIES, 1, &(struct tp_range){
			.size = 1, .bytes = 1, .name = B(TEMP), .basis = B("b") });
	default:
		return -ENOENT;
	}
}

static void lengths_must_be_exact(void **state)
{
	struct buf out = BUF_INIT;
	bool from_r;

	(void)state;
	for (unsigned i = 0; put_nth(&out, i, &from_r) == 0; i++) {
		struct tp_frame f = only(&out);
		size_t n = f.payload.n;

		assert_int_equal(get_any(&f, from_r), 0);
		for (f.payload.n = 0; f.payload.n < n; f.payload.n++)
			assert_int_equal(get_any(&f, from_r), -ERR_PROTOCOL);
		assert_int_equal(buf_put_u8(&out, 0), 0);
		f.payload = bytes_of(out.p + TP_FRAME_HEAD, n + 1);
		assert_int_equal(get_any(&f, from_r), -ERR_PROTOCOL);
		buf_clear(&out);
		assert_in_range(i, 0, 20);
	}
	buf_fini(&out);
}

static void heads_are_checked(void **state)
{
	static const struct {
		uint8_t type;
		uint8_t flags;
		uint16_t slot;
		uint32_t bytes;
	} rows[] = {
		{ 0, 0, 0, 0 },
		{ TP_ABORT + 1, 0, 0, 0 },
		{ TP_HASHED + 1, 0, 0, 8 },
		{ 255, 0, 0, 8 },
		{ TP_PING, 1, 0, 0 },
		{ TP_PING, 0, 1, 0 },
		{ TP_PING, 0, 0, 1 },
		{ TP_DIR, 4, 0, 10 },
		{ TP_OPEN, 2, 1, 60 },
		{ TP_OPEN, 0, TP_SLOT_MAX, 60 },
		{ TP_ENTRY, 0, 0, TP_FRAME_MAX + 1 },
		{ TP_ENTRY, 0, 0, 35 },
		{ TP_ENTRY, 0, 0, UINT32_MAX },
		{ TP_DATA, 0, 1, 8 + TP_DATA_MAX + 1 },
		{ TP_DELTA, 0, 1, TP_DATA_MAX + 1 },
		{ TP_SIG, 0, 1, TP_DATA_MAX + 1 },
		{ TP_SIG, 4, 1, 10 },
		{ TP_LISTING, TP_F_ERROR, 1, 4 },
		{ TP_ACK, 0, 0, 9 },
	};
	struct buf in = BUF_INIT;
	struct tp_frame f;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(buf_put_u8(&in, rows[i].type), 0);
		assert_int_equal(buf_put_u8(&in, rows[i].flags), 0);
		assert_int_equal(buf_put_le16(&in, rows[i].slot), 0);
		assert_int_equal(buf_put_le32(&in, rows[i].bytes), 0);
		/* refused by its head, before any payload is waited for */
		assert_int_equal(tp_frame_peek(&in, &f, NULL), -ERR_PROTOCOL);
		buf_clear(&in);
	}
	assert_int_equal(tp_put_number(&in, TP_ACK, 1), 0);
	for (in.n = 0; in.n < 16; in.n++)
		assert_int_equal(tp_frame_peek(&in, &f, NULL), 0);
	assert_int_equal(tp_frame_peek(&in, &f, NULL), 1);
	buf_fini(&in);
}

static void frames_that_fail_leave_no_trace(void **state)
{
	struct buf out = BUF_INIT;
	struct buf big = BUF_INIT;
	struct tp_entry m = sample(S_IFREG | 0644);
	size_t at;
	int r;

	(void)state;
	assert_int_equal(buf_put(&out, "consumed", 8), 0);
	buf_consume(&out, 5);
	assert_int_equal(buf_reserve(&big, TP_FRAME_MAX + 1), 0);
	memset(big.p, 0, TP_FRAME_MAX + 1);

	at = tp_frame_begin(&out, &r);
	assert_int_equal(r, 0);
	assert_int_equal(buf_put(&out, big.p, TP_FRAME_MAX + 1), 0);
	assert_int_equal(tp_frame_end(&out, at, TP_LISTING, 0, 0), -E2BIG);
	assert_int_equal(buf_len(&out), 3);
	assert_memory_equal(buf_view(&out).p, "med", 3);

	m.meta.xattrs = bytes_of(big.p, TP_FRAME_MAX);
	assert_int_equal(tp_put_entry(&out, TP_ENTRY, 0, 0, &m), -E2BIG);
	assert_int_equal(tp_put_data(&out, 0, 0, bytes_of(big.p, TP_DATA_MAX + 1)), -E2BIG);
	assert_int_equal(tp_frame_put(&out, TP_SIG, 0, 0, bytes_of(big.p, TP_FRAME_MAX + 1)),
			 -E2BIG);
	assert_int_equal(buf_len(&out), 3);

	/* A frame that grows over the place that was consumed in front of it. */
	at = tp_frame_begin(&out, &r);
	assert_int_equal(buf_put(&out, big.p, 100000), 0);
	assert_int_equal(tp_frame_end(&out, at, TP_DELTA, 0, 4), 0);
	assert_int_equal(buf_view(&out).p[3], TP_DELTA);
	assert_int_equal(buf_len(&out), 3 + 8 + 100000);
	buf_fini(&out);
	buf_fini(&big);
}

static void names_and_paths(void **state)
{
	static const struct {
		struct bytes v;
		bool name;
		bool path;
	} rows[] = {
		{ { (const uint8_t *)"", 0 }, false, true },
		{ { (const uint8_t *)"a", 1 }, true, true },
		{ { (const uint8_t *)".", 1 }, false, false },
		{ { (const uint8_t *)"..", 2 }, false, false },
		{ { (const uint8_t *)"...", 3 }, true, true },
		{ { (const uint8_t *)".a", 2 }, true, true },
		{ { (const uint8_t *)"-\n\xff", 3 }, true, true },
		{ { (const uint8_t *)"a\0b", 3 }, false, false },
		{ { (const uint8_t *)"a/b", 3 }, false, true },
		{ { (const uint8_t *)"/", 1 }, false, false },
		{ { (const uint8_t *)"/a", 2 }, false, false },
		{ { (const uint8_t *)"a/", 2 }, false, false },
		{ { (const uint8_t *)"a//b", 4 }, false, false },
		{ { (const uint8_t *)"a/./b", 5 }, false, false },
		{ { (const uint8_t *)"a/../b", 6 }, false, false },
		{ { (const uint8_t *)"a/..", 4 }, false, false },
	};
	uint8_t lots[TP_PATH_MAX + 2];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(tp_name_ok(rows[i].v), rows[i].name);
		assert_int_equal(tp_path_ok(rows[i].v), rows[i].path);
	}
	memset(lots, 'x', sizeof(lots));
	assert_true(tp_name_ok(bytes_of(lots, 255)));
	assert_false(tp_name_ok(bytes_of(lots, 256)));
	for (size_t i = 1; i < sizeof(lots); i += 2)
		lots[i] = '/';
	assert_true(tp_path_ok(bytes_of(lots, TP_PATH_MAX - 1)));
	assert_false(tp_path_ok(bytes_of(lots, TP_PATH_MAX + 1)));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(entries_come_back),
		cmocka_unit_test(entries_must_fit_their_frame),
		cmocka_unit_test(greetings_come_back),
		cmocka_unit_test(small_frames_come_back),
		cmocka_unit_test(differences_come_back),
		cmocka_unit_test(listings_come_back),
		cmocka_unit_test(lengths_must_be_exact),
		cmocka_unit_test(segments_stay_within_their_file),
		cmocka_unit_test(requests_for_sums_are_of_whole_blocks),
		cmocka_unit_test(copies_and_hashes_come_back),
		cmocka_unit_test(heads_are_checked),
		cmocka_unit_test(frames_that_fail_leave_no_trace),
		cmocka_unit_test(names_and_paths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
