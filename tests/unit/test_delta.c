/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "transport/delta.h"

#define MIB (1u << 20)

static void fill_random(uint8_t *p, size_t n, uint64_t seed)
{
	for (size_t i = 0; i < n; i++) {
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		p[i] = (uint8_t)seed;
	}
}

static int basis_file(const uint8_t *p, size_t n)
{
	char path[] = "/tmp/test_delta.XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(write(fd, p, n), n);
	return fd;
}

static void make_sig(const uint8_t *p, size_t n, size_t piece, struct buf *sig)
{
	struct tp_signer *s;
	uint32_t block;
	uint32_t strong;

	tp_sig_sizes(n, &block, &strong);
	assert_int_equal(tp_signer_new(block, strong, &s, NULL), 0);
	for (size_t off = 0; off < n; off += piece)
		assert_int_equal(tp_signer_step(s, bytes_of(p + off, MIN(piece, n - off)),
						false, sig, NULL), 0);
	assert_int_equal(tp_signer_step(s, bytes_of(NULL, 0), true, sig, NULL), 0);
	tp_signer_free(s);
}

static uint64_t make_delta(struct buf *sig, const uint8_t *p, size_t n, size_t piece,
			   struct buf *delta)
{
	struct tp_delta *d;
	uint64_t literal;
	uint64_t matched;

	assert_int_equal(tp_delta_new(buf_view(sig), &d, NULL), 0);
	for (size_t off = 0; off < n; off += piece)
		assert_int_equal(tp_delta_step(d, bytes_of(p + off, MIN(piece, n - off)),
					       false, delta, NULL), 0);
	assert_int_equal(tp_delta_step(d, bytes_of(NULL, 0), true, delta, NULL), 0);
	tp_delta_stats(d, &literal, &matched);
	assert_int_equal(literal + matched, n);
	assert_true(buf_len(delta) > literal);
	tp_delta_free(d);
	return literal;
}

static void apply(int basis, struct buf *delta, size_t piece, const uint8_t *want, size_t n)
{
	struct bytes v = buf_view(delta);
	struct buf out = BUF_INIT;
	struct tp_patch *p;
	bool done = false;
	size_t got = 0;

	assert_int_equal(tp_patch_new(basis, &p, NULL), 0);
	for (size_t off = 0; off < v.n; off += piece) {
		struct bytes in = bytes_of(v.p + off, MIN(piece, v.n - off));
		int r;

		assert_false(done);
		do {
			r = tp_patch_step(p, in, &out, &done, NULL);
			assert_in_range(r, 0, 1);
			assert_true(buf_len(&out) <= TP_PATCH_OUT);
			assert_true(got + buf_len(&out) <= n);
			if (buf_len(&out))
				assert_memory_equal(buf_view(&out).p, want + got, buf_len(&out));
			got += buf_len(&out);
			buf_clear(&out);
			in = bytes_of(NULL, 0);
		} while (r == 1);
	}
	assert_true(done);
	assert_int_equal(got, n);
	tp_patch_free(p);
	buf_fini(&out);
}

/* Literal bytes of the delta from a to b, after proving that it makes b of a. */
static uint64_t through(const uint8_t *a, size_t a_n, const uint8_t *b, size_t b_n, size_t piece)
{
	_cleanup_close_ int fd = basis_file(a, a_n);
	struct buf sig = BUF_INIT;
	struct buf delta = BUF_INIT;
	uint64_t literal;

	make_sig(a, a_n, piece, &sig);
	literal = make_delta(&sig, b, b_n, piece, &delta);
	apply(fd, &delta, piece, b, b_n);
	buf_fini(&sig);
	buf_fini(&delta);
	return literal;
}

static void deltas_make_the_new_file(void **state)
{
	static const size_t pieces[] = { 1000, 65536, 256 << 10, 64 * MIB };
	_cleanup_free_ uint8_t *a = malloc(4 * MIB);
	_cleanup_free_ uint8_t *b = malloc(4 * MIB + 10);

	(void)state;
	fill_random(a, 4 * MIB, 5);
	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
		/* inserted in front */
		memcpy(b, "0123456789", 10);
		memcpy(b + 10, a, 4 * MIB);
		assert_in_range(through(a, 4 * MIB, b, 4 * MIB + 10, pieces[i]), 10, 8192);
		/* pages changed */
		memcpy(b, a, 4 * MIB);
		for (size_t page = 7; page < 1024; page += 100)
			b[page * 4096 + 99] ^= 1;
		assert_in_range(through(a, 4 * MIB, b, 4 * MIB, pieces[i]), 11, 11 * 4096);
		/* cut off, unchanged, all new, emptied, from nothing */
		assert_in_range(through(a, 4 * MIB, b, 100000, pieces[i]), 1, 20000);
		assert_int_equal(through(a, 4 * MIB, a, 4 * MIB, pieces[i]), 0);
		fill_random(b, 500000, 6);
		assert_int_equal(through(a, 4 * MIB, b, 500000, pieces[i]), 500000);
		assert_int_equal(through(a, 4 * MIB, b, 0, pieces[i]), 0);
		assert_int_equal(through(a, 0, b, 300000, pieces[i]), 300000);
		assert_int_equal(through(a, 0, b, 0, pieces[i]), 0);
		assert_int_equal(through(a, 1, a, 1, pieces[i]), 0);
	}
}

static void one_delta_can_hold_much(void **state)
{
	_cleanup_free_ uint8_t *a = calloc(1, 8 * MIB);
	_cleanup_free_ uint8_t *b = calloc(1, 20 * MIB + 5);

	(void)state;
	assert_int_equal(through(a, 8 * MIB, b, 20 * MIB, 64 * MIB), 0);
	for (size_t i = 0; i < 20 * MIB; i++)
		b[i] = (uint8_t)(i % 7);
	for (size_t i = 0; i < 8 * MIB; i++)
		a[i] = (uint8_t)(i % 7);
	assert_in_range(through(a, 8 * MIB, b, 20 * MIB + 5, 64 * MIB), 0, 8192);
}

static void sizes_grow_with_the_file(void **state)
{
	static const struct {
		uint64_t bytes;
		uint32_t block;
		uint32_t strong;
	} rows[] = {
		{ 0, 1024, 8 },
		{ 1 << 20, 1024, 8 },
		{ 4 << 20, 2048, 8 },
		{ 16 << 20, 4096, 8 },
		{ 1 << 30, 4096, 9 },
		{ UINT64_C(2) << 30, 8192, 9 },
		{ UINT64_C(1) << 40, 1 << 20, 10 },
		{ INT64_MAX, 1 << 20, 16 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint32_t block;
		uint32_t strong;

		tp_sig_sizes(rows[i].bytes, &block, &strong);
		assert_int_equal(block, rows[i].block);
		assert_int_equal(strong, rows[i].strong);
	}
}

static void signer_keeps_to_its_limits(void **state)
{
	struct tp_signer *s = NULL;

	(void)state;
	assert_int_equal(tp_signer_new(TP_SIG_BLOCK_MIN - 1, 8, &s, NULL), -EINVAL);
	assert_int_equal(tp_signer_new(TP_SIG_BLOCK_MAX + 1, 8, &s, NULL), -EINVAL);
	assert_int_equal(tp_signer_new(1024, 7, &s, NULL), -EINVAL);
	assert_int_equal(tp_signer_new(1024, 33, &s, NULL), -EINVAL);
	assert_null(s);
}

static void put_be32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static void bad_signatures_are_refused(void **state)
{
	static const struct {
		size_t at;
		uint32_t value;
	} rows[] = {
		{ 0, 0x72730136 }, /* MD4 */
		{ 0, 0x72730236 }, /* a delta */
		{ 4, 0 },
		{ 4, TP_SIG_BLOCK_MIN - 1 },
		{ 4, TP_SIG_BLOCK_MAX + 1 },
		{ 4, 0xffffffff },
		{ 8, 0 },
		{ 8, 33 },
		{ 8, 0xffffffff },
		{ 8, 9 }, /* sums no longer fit the length */
	};
	struct buf sig = BUF_INIT;
	struct tp_delta *d = NULL;
	uint8_t a[10000];
	uint8_t saved[4];

	(void)state;
	fill_random(a, sizeof(a), 1);
	make_sig(a, sizeof(a), sizeof(a), &sig);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		memcpy(saved, sig.p + rows[i].at, 4);
		put_be32(sig.p + rows[i].at, rows[i].value);
		assert_int_equal(tp_delta_new(buf_view(&sig), &d, NULL), -ERR_PROTOCOL);
		memcpy(sig.p + rows[i].at, saved, 4);
	}
	for (size_t n = 0; n < 12; n++)
		assert_int_equal(tp_delta_new(bytes_of(sig.p, n), &d, NULL), -ERR_PROTOCOL);
	assert_int_equal(tp_delta_new(bytes_of(sig.p, sig.n - 1), &d, NULL), -ERR_PROTOCOL);
	assert_int_equal(tp_delta_new(buf_view(&sig), &d, NULL), 0);
	tp_delta_free(d);
	buf_fini(&sig);
}

/* Equal weak sums with different strong ones would be searched one after the other. */
static void crowded_signatures_are_refused(void **state)
{
	struct buf sig = BUF_INIT;
	struct tp_delta *d = NULL;
	uint8_t sum[12] = { 1, 2, 3, 4 };
	uint8_t head[12];

	(void)state;
	put_be32(head, 0x72730147);
	put_be32(head + 4, 1024);
	put_be32(head + 8, 8);
	assert_int_equal(buf_put(&sig, head, sizeof(head)), 0);
	for (uint32_t i = 0; i < 100000; i++) {
		put_be32(sum + 8, i);
		assert_int_equal(buf_put(&sig, sum, sizeof(sum)), 0);
	}
	assert_int_equal(tp_delta_new(buf_view(&sig), &d, NULL), -ERR_PROTOCOL);
	/* Many equal blocks are honest. */
	for (size_t at = 12; at < sig.n; at += 12)
		put_be32(sig.p + at + 8, 0);
	assert_int_equal(tp_delta_new(buf_view(&sig), &d, NULL), 0);
	tp_delta_free(d);
	buf_fini(&sig);
}

static void bad_deltas_are_refused(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
	} rows[] = {
		{ "rs\x01\x36", 4 },                        /* a signature */
		{ "rs\x02\x36\x45\x00\x65", 7 },            /* copy 101 bytes of 100 */
		{ "rs\x02\x36\x45\x64\x01", 7 },            /* copy from its end */
		{ "rs\x02\x36\x45\x00\x00", 7 },            /* copy nothing */
		{ "rs\x02\x36\x51\xff\xff\xff\xff\xff\xff\xff\xff\x01", 14 }, /* negative */
		{ "rs\x02\x36\x51\x7f\xff\xff\xff\xff\xff\xff\xff\x7f", 14 }, /* far away */
		{ "rs\x02\x36\x41\x00", 6 },                /* literal of nothing */
		{ "rs\x02\x36\x44\xff\xff\xff\xff\xff\xff\xff\xff", 13 }, /* negative literal */
		{ "rs\x02\x36\x55", 5 },                    /* reserved command */
		{ "rs\x02\x36\x00\x00", 6 },                /* a byte after the end */
	};
	_cleanup_close_ int fd = -1;
	struct buf out = BUF_INIT;
	uint8_t a[100];
	bool done;

	(void)state;
	fill_random(a, sizeof(a), 1);
	fd = basis_file(a, sizeof(a));
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct tp_patch *p;
		struct err e;

		assert_int_equal(tp_patch_new(fd, &p, NULL), 0);
		assert_int_equal(tp_patch_step(p, bytes_of(rows[i].bytes, rows[i].n), &out,
					       &done, &e), -ERR_PROTOCOL);
		tp_patch_free(p);
		buf_clear(&out);
	}
	buf_fini(&out);
}

static void unreadable_basis_is_no_damage(void **state)
{
	struct buf out = BUF_INIT;
	struct tp_patch *p;
	bool done;

	(void)state;
	assert_int_equal(tp_patch_new(-1, &p, NULL), 0);
	assert_int_equal(tp_patch_step(p, bytes_of("rs\x02\x36\x45\x00\x65", 7), &out, &done,
				       NULL), -EBADF);
	tp_patch_free(p);
	buf_fini(&out);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(deltas_make_the_new_file),
		cmocka_unit_test(one_delta_can_hold_much),
		cmocka_unit_test(sizes_grow_with_the_file),
		cmocka_unit_test(signer_keeps_to_its_limits),
		cmocka_unit_test(bad_signatures_are_refused),
		cmocka_unit_test(crowded_signatures_are_refused),
		cmocka_unit_test(bad_deltas_are_refused),
		cmocka_unit_test(unreadable_basis_is_no_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
