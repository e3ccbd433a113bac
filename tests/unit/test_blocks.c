/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/macro.h"
#include "transport/blocks.h"

#define BASIS_BYTES ((4u << 20) + 1234u)
#define BLOCK       TP_BLOCK_LEAST

static uint32_t next(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

static void fill(uint8_t *p, size_t n, uint32_t seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)next(&seed);
}

static struct tp_sums *sums_of(const uint8_t *basis, size_t n)
{
	uint32_t block = tp_sums_block(n);
	struct buf wire = BUF_INIT;
	struct tp_sums *s = NULL;
	struct err e = { 0 };
	size_t half;

	assert_int_equal(tp_sums_make(bytes_of(basis, n), block, &wire), 0);
	assert_int_equal(buf_len(&wire), (n + block - 1) / block * TP_SUM_BYTES);
	assert_int_equal(tp_sums_new(n, block, &s, &e), 0);
	/* In two pieces, the second one first. */
	half = buf_len(&wire) / TP_SUM_BYTES / 2;
	assert_int_equal(tp_sums_put(s, half, bytes_of(wire.p + half * TP_SUM_BYTES,
						       wire.n - half * TP_SUM_BYTES), &e), 0);
	assert_int_equal(tp_sums_put(s, 0, bytes_of(wire.p, half * TP_SUM_BYTES), &e), 0);
	assert_int_equal(tp_sums_ready(s, &e), 0);
	buf_fini(&wire);
	return s;
}

/* Builds the new file as a receiver would. */
struct build {
	const uint8_t *basis;
	size_t basis_bytes;
	uint8_t *made;
	uint64_t at;    /* it has to come without a gap */
	uint64_t literal;
	unsigned calls;
	unsigned fail_at; /* this call fails */
};

static int build_copy(void *ctx, uint64_t off, uint64_t basis_off, uint64_t n, struct err *e)
{
	struct build *b = ctx;

	assert_int_equal(off, b->at);
	assert_true(basis_off <= b->basis_bytes && n <= b->basis_bytes - basis_off && n > 0);
	memcpy(b->made + off, b->basis + basis_off, n);
	b->at += n;
	return ++b->calls == b->fail_at ? err_set(e, -EIO, "copy") : 0;
}

static int build_literal(void *ctx, uint64_t off, struct bytes data, struct err *e)
{
	struct build *b = ctx;

	assert_int_equal(off, b->at);
	assert_true(data.n > 0);
	memcpy(b->made + off, data.p, data.n);
	b->at += data.n;
	b->literal += data.n;
	return ++b->calls == b->fail_at ? err_set(e, -EIO, "literal") : 0;
}

static const struct tp_match_ops build_ops = { build_copy, build_literal };

/* Feed the part in pieces of `piece` bytes; the result of the last step. */
static int match_part(const struct tp_sums *s, const uint8_t *p, size_t n, uint64_t from,
		      uint64_t to, size_t piece, struct build *b)
{
	struct tp_match *m = NULL;
	struct err e = { 0 };
	uint64_t at, end;
	int r = 0;

	b->at = from;
	assert_int_equal(tp_match_new(s, from, to, n, &m, &e), 0);
	tp_match_range(m, &at, &end);
	assert_true(at <= from && end >= to && end <= n);
	while (r == 0 && at < end) {
		size_t k = (size_t)MIN(end - at, (uint64_t)piece);

		r = tp_match_step(m, bytes_of(p + at, k), false, &build_ops, b, &e);
		at += k;
	}
	if (r == 0)
		r = tp_match_step(m, bytes_of(NULL, 0), true, &build_ops, b, &e);
	tp_match_free(m);
	return r;
}

/* The new file p, in parts of `part` bytes, is made from the basis; literal bytes. */
static uint64_t rebuilt(const uint8_t *basis, size_t basis_n, const uint8_t *p, size_t n,
			size_t part, size_t piece)
{
	struct tp_sums *s = sums_of(basis, basis_n);
	struct build b = { .basis = basis, .basis_bytes = basis_n, .made = malloc(n + 1) };

	assert_non_null(b.made);
	for (uint64_t from = 0; from < n; from += part) {
		uint64_t to = MIN(from + part, (uint64_t)n);

		assert_int_equal(match_part(s, p, n, from, to, piece, &b), 0);
		assert_int_equal(b.at, to);
	}
	assert_memory_equal(b.made, p, n);
	free(b.made);
	tp_sums_free(s);
	return b.literal;
}

static int setup(void **state)
{
	uint8_t *basis = malloc(BASIS_BYTES);

	if (!basis)
		return -1;
	fill(basis, BASIS_BYTES, 1);
	*state = basis;
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

static void an_unchanged_file_has_no_literal_byte(void **state)
{
	const uint8_t *basis = *state;

	assert_int_equal(rebuilt(basis, BASIS_BYTES, basis, BASIS_BYTES, BASIS_BYTES, 70000), 0);
	assert_int_equal(rebuilt(basis, BASIS_BYTES, basis, BASIS_BYTES, 1 << 20, 1 << 20), 0);
}

static void changes_in_place_cost_their_blocks(void **state)
{
	const uint8_t *basis = *state;
	uint8_t *p = malloc(BASIS_BYTES);

	assert_non_null(p);
	memcpy(p, basis, BASIS_BYTES);
	p[5 * BLOCK + 17] ^= 1;
	p[9 * BLOCK] ^= 1;
	p[10 * BLOCK] ^= 1; /* two in a row: nothing to go on from in between */
	p[BASIS_BYTES - 1] ^= 1;
	assert_int_equal(rebuilt(basis, BASIS_BYTES, p, BASIS_BYTES, 1 << 20, 5000),
			 3 * BLOCK + BASIS_BYTES % BLOCK);
	free(p);
}

static void moved_content_is_found_across_parts(void **state)
{
	static const struct {
		size_t at, insert, drop;
		uint64_t literal_most;
	} rows[] = {
		{ 0, 10, 0, 10 },
		{ 3 * BLOCK + 5, 1, 0, BLOCK + 1 },
		{ 2 * BLOCK, 100000, 0, 100000 },
		{ 4 * BLOCK, 0, 7, BLOCK },
		{ 0, 0, 5 * BLOCK + 3, BLOCK },
		{ BASIS_BYTES, 4321, 0, 4321 + BLOCK },
	};
	const uint8_t *basis = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t n = BASIS_BYTES + rows[i].insert - rows[i].drop, at = rows[i].at;
		uint8_t *p = malloc(n);
		uint64_t literal;

		assert_non_null(p);
		memcpy(p, basis, at);
		fill(p + at, rows[i].insert, 99);
		memcpy(p + at + rows[i].insert, basis + at + rows[i].drop,
		       BASIS_BYTES - at - rows[i].drop);
		for (size_t part = 300000; part <= 3000000; part *= 3) {
			literal = rebuilt(basis, BASIS_BYTES, p, n, part, 100001);
			if (literal > rows[i].literal_most)
				fail_msg("row %zu, parts of %zu: %llu literal bytes", i, part,
					 (unsigned long long)literal);
		}
		free(p);
	}
}

static void content_that_is_equal_in_many_places_is_survived(void **state)
{
	uint8_t *zeros = calloc(BASIS_BYTES, 1), *p = calloc(BASIS_BYTES, 1);

	(void)state;
	assert_non_null(zeros);
	assert_non_null(p);
	assert_int_equal(rebuilt(zeros, BASIS_BYTES, p, BASIS_BYTES, 1 << 20, 4096), 0);
	fill(p + 100, 3 * BLOCK, 5);
	assert_true(rebuilt(zeros, BASIS_BYTES, p, BASIS_BYTES, 1 << 20, 4096) <= 5 * BLOCK);
	free(zeros);
	free(p);
}

static void any_edit_at_all_comes_out_right(void **state)
{
	const uint8_t *basis = *state;
	uint32_t seed = 4711;

	for (int round = 0; round < 60; round++) {
		size_t basis_n = next(&seed) % (round % 3 ? 200000 : 3000000), n = 0;
		size_t room = basis_n + 400000;
		uint8_t *p = malloc(room);

		assert_non_null(p);
		/* Pieces of the basis, of random bytes and of zeros, in any order. */
		while (n < room - 100000 && next(&seed) % 40) {
			size_t k = next(&seed) % 90000;

			if (next(&seed) % 3 && basis_n) {
				size_t from = next(&seed) % basis_n;

				if (next(&seed) % 2)
					from -= from % BLOCK;
				k = MIN(k, basis_n - from);
				memcpy(p + n, basis + from, k);
			} else if (next(&seed) % 2) {
				fill(p + n, k, next(&seed));
			} else {
				memset(p + n, 0, k);
			}
			n += k;
		}
		rebuilt(basis, basis_n, p, n, 1 + next(&seed) % 400000 + (n > 1000000) * 200000,
			1 + next(&seed) % 100000);
		free(p);
	}
}

static void an_error_of_the_caller_ends_it(void **state)
{
	const uint8_t *basis = *state;
	struct tp_sums *s = sums_of(basis, BASIS_BYTES);
	struct build b = { .basis = basis, .basis_bytes = BASIS_BYTES, .fail_at = 1 };

	b.made = malloc(BASIS_BYTES);
	assert_non_null(b.made);
	assert_int_equal(match_part(s, basis, BASIS_BYTES, 0, BASIS_BYTES, 65536, &b), -EIO);
	assert_int_equal(b.calls, 1);
	free(b.made);
	tp_sums_free(s);
}

static void block_sizes_grow_with_the_file_and_have_an_end(void **state)
{
	(void)state;
	assert_int_equal(tp_sums_block(0), TP_BLOCK_LEAST);
	assert_int_equal(tp_sums_block(256ull << 20), 16u << 10);
	assert_int_equal(tp_sums_block(512ull << 20), 32u << 10);
	assert_int_equal(tp_sums_block(1ull << 30), 32u << 10);
	assert_int_equal(tp_sums_block(1ull << 40), 1u << 20);
	assert_int_equal(tp_sums_block(31ull << 40), 8u << 20);
	assert_int_equal(tp_sums_block(33ull << 40), 0);
	assert_int_equal(tp_sums_block(UINT64_MAX), 0);
}

static void sums_of_another_file_are_refused(void **state)
{
	const uint8_t zeros[3 * TP_SUM_BYTES] = { 0 };
	struct tp_sums *s = NULL;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(tp_sums_new(2 * BLOCK, 2 * BLOCK, &s, &e), -ERR_PROTOCOL);
	assert_int_equal(tp_sums_new(2 * BLOCK, 0, &s, &e), -ERR_PROTOCOL);
	assert_int_equal(tp_sums_new(2 * BLOCK, BLOCK, &s, &e), 0);
	assert_int_equal(tp_sums_put(s, 0, bytes_of(zeros, 2 * TP_SUM_BYTES), &e), 0);
	assert_int_equal(tp_sums_put(s, 0, bytes_of(zeros, TP_SUM_BYTES + 1), &e), -ERR_PROTOCOL);
	assert_int_equal(tp_sums_put(s, 0, bytes_of(zeros, 3 * TP_SUM_BYTES), &e), -ERR_PROTOCOL);
	assert_int_equal(tp_sums_put(s, 2, bytes_of(zeros, TP_SUM_BYTES), &e), -ERR_PROTOCOL);
	assert_int_equal(tp_sums_put(s, UINT64_MAX, bytes_of(zeros, TP_SUM_BYTES), &e),
			 -ERR_PROTOCOL);
	tp_sums_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_unchanged_file_has_no_literal_byte),
		cmocka_unit_test(changes_in_place_cost_their_blocks),
		cmocka_unit_test(moved_content_is_found_across_parts),
		cmocka_unit_test(content_that_is_equal_in_many_places_is_survived),
		cmocka_unit_test(any_edit_at_all_comes_out_right),
		cmocka_unit_test(an_error_of_the_caller_ends_it),
		cmocka_unit_test(block_sizes_grow_with_the_file_and_have_an_end),
		cmocka_unit_test(sums_of_another_file_are_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
