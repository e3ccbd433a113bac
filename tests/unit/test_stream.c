/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <zstd.h>

#include <cmocka.h>

#include "transport/protocol.h"
#include "transport/stream.h"

#define MIB (1u << 20)

static uint64_t next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static void put_random(struct buf *b, size_t n, uint64_t seed)
{
	for (size_t i = 0; i < n; i += 8)
		assert_int_equal(buf_put_le64(b, next(&seed)), 0);
}

static void put_text(struct buf *b, size_t n, uint64_t seed)
{
	static const char *const words[] = { "stage ", "host ", "file ", "sync\n", "a ", "of " };

	for (size_t end = buf_len(b) + n; buf_len(b) < end;)
		assert_int_equal(buf_put_bytes(b, bytes_str(words[next(&seed) % 6])), 0);
}

/* Pack raw as given in pieces, unpack in pieces, compare. */
static void round_trip(int level, struct buf *raw, size_t piece, bool flush, size_t max)
{
	struct buf in = BUF_INIT;
	struct buf wire = BUF_INIT;
	struct buf part = BUF_INIT;
	struct buf out = BUF_INIT;
	struct bytes v = buf_view(raw);
	struct tp_pack *p;
	struct tp_unpack *u;
	size_t got = 0;
	uint64_t raw_n;
	uint64_t packed_n;

	assert_int_equal(tp_pack_new(level, &p, NULL), 0);
	assert_int_equal(tp_unpack_new(&u, NULL), 0);
	for (size_t off = 0; off < v.n; off += piece) {
		assert_int_equal(buf_put(&in, v.p + off, MIN(piece, v.n - off)), 0);
		assert_int_equal(tp_pack(p, &in, flush, &wire, NULL), 0);
		if (flush)
			assert_int_equal(buf_len(&in), 0);
		assert_true(buf_len(&in) < TP_BLOCK_RAW_MAX);
	}
	assert_int_equal(tp_pack(p, &in, true, &wire, NULL), 0);
	tp_pack_stats(p, &raw_n, &packed_n);
	assert_int_equal(raw_n, v.n);
	assert_int_equal(packed_n, buf_len(&wire));

	while (buf_len(&wire)) {
		size_t n = MIN(piece, buf_len(&wire));

		assert_int_equal(buf_put(&part, buf_view(&wire).p, n), 0);
		buf_consume(&wire, n);
		while (tp_unpack(u, &part, max, &out, NULL) == 1) {
			assert_true(buf_len(&out) < max + TP_BLOCK_RAW_MAX);
			assert_true(got + buf_len(&out) <= v.n);
			assert_memory_equal(buf_view(&out).p, v.p + got, buf_len(&out));
			got += buf_len(&out);
			buf_clear(&out);
		}
	}
	assert_int_equal(got, v.n);
	assert_int_equal(buf_len(&part), 0);
	tp_pack_free(p);
	tp_unpack_free(u);
	buf_fini(&in);
	buf_fini(&wire);
	buf_fini(&part);
	buf_fini(&out);
}

static void all_comes_back(void **state)
{
	static const struct {
		int level;
		size_t piece;
		bool flush;
		size_t max;
	} rows[] = {
		{ TP_LEVEL_OFF, 100000, false, MIB },
		{ TP_LEVEL_AUTO, 300000, false, 1 },
		{ TP_LEVEL_AUTO, 4 * MIB, false, MIB },
		{ TP_LEVEL_AUTO, 1000, true, 5000 },
		{ TP_LEVEL_AUTO, 70, true, MIB },
		{ 3, 700000, true, MIB },
		{ 19, 100000, true, MIB },
	};
	struct buf raw = BUF_INIT;

	(void)state;
	put_text(&raw, 700000, 3);
	put_random(&raw, 600000, 4);
	put_text(&raw, 500001, 5);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		round_trip(rows[i].level, &raw, rows[i].piece, rows[i].flush, rows[i].max);
	buf_fini(&raw);
}

static void whole_blocks_unless_flushed(void **state)
{
	struct buf in = BUF_INIT;
	struct buf wire = BUF_INIT;
	struct tp_pack *p;

	(void)state;
	assert_int_equal(tp_pack_new(TP_LEVEL_AUTO, &p, NULL), 0);
	put_text(&in, 1000, 1);
	assert_int_equal(tp_pack(p, &in, false, &wire, NULL), 0);
	assert_int_equal(buf_len(&wire), 0);
	assert_int_equal(tp_pack(p, &in, true, &wire, NULL), 0);
	assert_int_equal(buf_len(&in), 0);
	assert_true(le32_get(wire.p) & TP_BLOCK_Z);
	/* A few bytes are not worth it. */
	buf_clear(&wire);
	put_text(&in, 40, 1);
	assert_int_equal(tp_pack(p, &in, true, &wire, NULL), 0);
	assert_false(le32_get(wire.p) & TP_BLOCK_Z);
	/* Nothing makes no block. */
	buf_clear(&wire);
	assert_int_equal(tp_pack(p, &in, true, &wire, NULL), 0);
	assert_int_equal(buf_len(&wire), 0);
	tp_pack_free(p);
	buf_fini(&in);
	buf_fini(&wire);
}

/* Blocks of data that went through zstd. */
static unsigned packed_blocks(struct tp_pack *p, struct buf *in)
{
	struct buf wire = BUF_INIT;
	unsigned count = 0;

	assert_int_equal(tp_pack(p, in, true, &wire, NULL), 0);
	while (buf_len(&wire)) {
		uint32_t head = le32_get(buf_view(&wire).p);

		count += head & TP_BLOCK_Z ? 1 : 0;
		buf_consume(&wire, TP_BLOCK_HEAD + (head & TP_BLOCK_LENGTH));
	}
	buf_fini(&wire);
	return count;
}

static void incompressible_is_left_alone(void **state)
{
	struct buf in = BUF_INIT;
	struct buf block = BUF_INIT;
	struct tp_pack *p;

	(void)state;
	assert_int_equal(tp_pack_new(TP_LEVEL_AUTO, &p, NULL), 0);
	put_random(&in, 64 * MIB, 9); /* 256 blocks */
	assert_in_range(packed_blocks(p, &in), 1, 12);
	/* Text is found at once. */
	put_text(&in, 4 * TP_BLOCK_RAW_MAX, 1);
	assert_in_range(packed_blocks(p, &in), 4, 5);
	/* Repeats of random bytes look even, and are found all the same. */
	put_random(&in, 64 * MIB, 10);
	packed_blocks(p, &in);
	put_random(&block, 65536, 11);
	for (unsigned i = 0; i < 4 * 128; i++)
		assert_int_equal(buf_put_bytes(&in, buf_view(&block)), 0);
	assert_in_range(packed_blocks(p, &in), 64, 128);
	tp_pack_free(p);
	buf_fini(&in);
	buf_fini(&block);
}

/* Uneven bytes that zstd gains nothing from must not be tried each time. */
static void samples_may_be_wrong(void **state)
{
	struct buf in = BUF_INIT;
	struct tp_pack *p;

	(void)state;
	assert_int_equal(tp_pack_new(TP_LEVEL_AUTO, &p, NULL), 0);
	put_random(&in, 256 * TP_BLOCK_RAW_MAX, 9);
	/* Zeros just where the sample is taken. */
	for (size_t b = 0; b < 256; b++)
		for (size_t s = 0; s < 8; s++)
			memset(in.p + b * TP_BLOCK_RAW_MAX + s * TP_BLOCK_RAW_MAX / 8, 0, 512);
	assert_in_range(packed_blocks(p, &in), 1, 20);
	tp_pack_free(p);
	buf_fini(&in);
}

static void unpack_waits_and_stops(void **state)
{
	struct buf in = BUF_INIT;
	struct buf out = BUF_INIT;
	struct tp_unpack *u;

	(void)state;
	assert_int_equal(tp_unpack_new(&u, NULL), 0);
	assert_int_equal(tp_unpack(u, &in, 100, &out, NULL), 0);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(buf_put_le32(&in, 60), 0);
		put_random(&in, 60, i + 1);
		in.n -= 4; /* 8 bytes at a time made 64 */
	}
	in.n--;
	/* Back-pressure after the second block; the fourth is not whole. */
	assert_int_equal(tp_unpack(u, &in, 100, &out, NULL), 1);
	assert_int_equal(buf_len(&out), 120);
	assert_int_equal(tp_unpack(u, &in, 100, &out, NULL), 1);
	assert_int_equal(buf_len(&out), 120);
	buf_clear(&out);
	assert_int_equal(tp_unpack(u, &in, 100, &out, NULL), 1);
	assert_int_equal(buf_len(&out), 60);
	buf_clear(&out);
	assert_int_equal(tp_unpack(u, &in, 100, &out, NULL), 0);
	assert_int_equal(buf_put_u8(&in, 1), 0);
	assert_int_equal(tp_unpack(u, &in, 100, &out, NULL), 1);
	assert_int_equal(buf_len(&in), 0);
	tp_unpack_free(u);
	buf_fini(&in);
	buf_fini(&out);
}

static void put_zstd(struct buf *b, const void *raw, size_t n, ZSTD_EndDirective end, int window)
{
	ZSTD_CCtx *z = ZSTD_createCCtx();
	ZSTD_inBuffer zin = { raw, n, 0 };
	size_t room = ZSTD_compressBound(n) + 100;
	ZSTD_outBuffer zout = { .size = room };

	ZSTD_CCtx_setParameter(z, ZSTD_c_windowLog, window);
	assert_int_equal(buf_reserve(b, 4 + room), 0);
	zout.dst = b->p + b->n + 4;
	assert_int_equal(ZSTD_compressStream2(z, &zout, &zin, end), 0);
	le32_put(b->p + b->n, (uint32_t)zout.pos | TP_BLOCK_Z);
	b->n += 4 + zout.pos;
	ZSTD_freeCCtx(z);
}

static void assert_refused(struct buf *in)
{
	struct buf out = BUF_INIT;
	struct tp_unpack *u;
	struct err e;

	assert_int_equal(tp_unpack_new(&u, NULL), 0);
	assert_int_equal(tp_unpack(u, in, MIB, &out, &e), -ERR_PROTOCOL);
	assert_int_equal(e.code, -ERR_PROTOCOL);
	tp_unpack_free(u);
	buf_fini(&out);
	buf_fini(in);
}

static void bad_blocks_are_refused(void **state)
{
	static const uint32_t heads[] = {
		0,
		TP_BLOCK_Z,
		1u << 24 | 10,
		1u << 30 | 10,
		TP_BLOCK_RAW_MAX + 1,
		TP_BLOCK_Z | (TP_BLOCK_MAX + 1),
		TP_BLOCK_LENGTH,
	};
	static uint8_t zeros[TP_BLOCK_RAW_MAX + 1];
	struct buf in = BUF_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
		assert_int_equal(buf_put_le32(&in, heads[i]), 0);
		assert_refused(&in);
	}
	/* one byte too much, a frame of nothing, a window too big, no zstd at all */
	put_zstd(&in, zeros, sizeof(zeros), ZSTD_e_flush, TP_ZSTD_WINDOW);
	assert_refused(&in);
	put_zstd(&in, zeros, 0, ZSTD_e_end, TP_ZSTD_WINDOW);
	assert_refused(&in);
	put_zstd(&in, zeros, sizeof(zeros) - 1, ZSTD_e_flush, TP_ZSTD_WINDOW + 1);
	assert_refused(&in);
	assert_int_equal(buf_put_le32(&in, TP_BLOCK_Z | 12), 0);
	assert_int_equal(buf_put(&in, "twelve bytes", 12), 0);
	assert_refused(&in);
	/* a head of a frame alone, that holds back what it has to say */
	put_zstd(&in, zeros, 1000, ZSTD_e_flush, TP_ZSTD_WINDOW);
	le32_put(in.p, TP_BLOCK_Z | 7);
	in.n = 11;
	assert_refused(&in);
}

static void most_that_a_block_may_hold(void **state)
{
	static uint8_t zeros[TP_BLOCK_RAW_MAX];
	struct buf in = BUF_INIT;
	struct buf out = BUF_INIT;
	struct tp_unpack *u;

	(void)state;
	assert_int_equal(tp_unpack_new(&u, NULL), 0);
	put_zstd(&in, zeros, sizeof(zeros), ZSTD_e_flush, TP_ZSTD_WINDOW);
	assert_int_equal(tp_unpack(u, &in, MIB, &out, NULL), 1);
	assert_int_equal(buf_len(&out), sizeof(zeros));
	tp_unpack_free(u);
	buf_fini(&in);
	buf_fini(&out);
}

/* The level changes between any two blocks, and nothing is lost. */
static void levels_change(void **state)
{
	static const int levels[] = { 1, 6, 6, 3, 19, 1 };
	struct buf raw = BUF_INIT, in = BUF_INIT, wire = BUF_INIT, out = BUF_INIT;
	struct tp_unpack *u;
	struct tp_pack *p;

	(void)state;
	put_text(&raw, MIB, 7);
	put_random(&raw, MIB, 8);
	put_text(&raw, MIB, 9);
	assert_int_equal(tp_pack_new(TP_LEVEL_AUTO, &p, NULL), 0);
	assert_int_equal(tp_unpack_new(&u, NULL), 0);
	assert_true(tp_pack_shrinks(p));
	for (size_t off = 0, i = 0; off < buf_len(&raw); i++) {
		size_t n = MIN(buf_len(&raw) - off, (size_t)100000);

		tp_pack_set_level(p, levels[i % ARRAY_SIZE(levels)]);
		assert_int_equal(buf_put(&in, buf_view(&raw).p + off, n), 0);
		assert_int_equal(tp_pack(p, &in, true, &wire, NULL), 0);
		off += n;
		if (off == 1000000 || off == 1500000)
			assert_int_equal(tp_pack_shrinks(p), off == 1000000);
	}
	assert_true(tp_pack_shrinks(p));
	assert_int_equal(tp_unpack(u, &wire, SIZE_MAX, &out, NULL), 1);
	assert_int_equal(buf_len(&out), buf_len(&raw));
	assert_memory_equal(buf_view(&out).p, buf_view(&raw).p, buf_len(&raw));
	tp_pack_free(p);
	tp_unpack_free(u);
	buf_fini(&raw);
	buf_fini(&in);
	buf_fini(&wire);
	buf_fini(&out);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(levels_change),
		cmocka_unit_test(all_comes_back),
		cmocka_unit_test(whole_blocks_unless_flushed),
		cmocka_unit_test(incompressible_is_left_alone),
		cmocka_unit_test(samples_may_be_wrong),
		cmocka_unit_test(unpack_waits_and_stops),
		cmocka_unit_test(bad_blocks_are_refused),
		cmocka_unit_test(most_that_a_block_may_hold),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
