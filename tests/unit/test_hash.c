/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include <cmocka.h>

#include "common/buf.h"
#include "common/macro.h"
#include "transport/hash.h"

#define BLOCK TP_HASH_BLOCK
#define FILE_BYTES (9 * BLOCK + 123)

static int setup(void **state)
{
	struct tp_hash *h;

	if (tp_hash_new(&h, NULL) < 0)
		return -1;
	*state = h;
	return 0;
}

static int teardown(void **state)
{
	tp_hash_free(*state);
	return 0;
}

static uint32_t next(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

/* Blocks 0, 3, 4 and the short last one have content. */
static void fill(uint8_t *p)
{
	uint32_t seed = 7;

	memset(p, 0, FILE_BYTES);
	for (size_t i = 0; i < FILE_BYTES; i++)
		if (i / BLOCK == 0 || i / BLOCK == 3 || i / BLOCK == 4 || i / BLOCK == 9)
			p[i] = (uint8_t)next(&seed);
}

static void le64_update(XXH3_state_t *x, uint64_t v)
{
	uint8_t t[8];

	le64_put(t, v);
	XXH3_128bits_update(x, t, sizeof(t));
}

static void assert_same(const struct tp_hash_value *a, const struct tp_hash_value *b)
{
	assert_memory_equal(a->b, b->b, sizeof(a->b));
}

static void definition_is_followed(void **state)
{
	XXH3_state_t *x = XXH3_createState();
	XXH128_canonical_t want;
	struct tp_hash_value got;
	uint8_t p[FILE_BYTES];

	fill(p);
	XXH3_128bits_reset(x);
	le64_update(x, 0);
	XXH3_128bits_update(x, p, BLOCK);
	le64_update(x, 3 * BLOCK);
	XXH3_128bits_update(x, p + 3 * BLOCK, 2 * BLOCK);
	le64_update(x, 9 * BLOCK);
	XXH3_128bits_update(x, p + 9 * BLOCK, 123);
	le64_update(x, FILE_BYTES);
	XXH128_canonicalFromHash(&want, XXH3_128bits_digest(x));
	XXH3_freeState(x);

	tp_hash_content(*state, p, sizeof(p), &got);
	assert_memory_equal(got.b, want.digest, sizeof(got.b));
}

static void pieces_do_not_matter(void **state)
{
	struct tp_hash_value whole;
	struct tp_hash_value got;
	uint8_t p[FILE_BYTES];
	uint32_t seed = 1;

	fill(p);
	tp_hash_content(*state, p, sizeof(p), &whole);
	for (unsigned round = 0; round < 2000; round++) {
		size_t most = round % 3 ? 3 * BLOCK : 700;
		size_t n;

		tp_hash_reset(*state);
		for (size_t off = 0; off < sizeof(p); off += n) {
			n = 1 + next(&seed) % most;
			n = MIN(n, sizeof(p) - off);
			/* Zeros may be left out, wherever they begin and end. */
			if (next(&seed) % 2 && p[off] == 0 &&
			    !memcmp(p + off, p + off + 1, n - 1))
				continue;
			tp_hash_update(*state, off, p + off, n);
		}
		tp_hash_final(*state, sizeof(p), &got);
		assert_same(&whole, &got);
	}
}

static void every_bit_counts(void **state)
{
	struct tp_hash_value whole;
	struct tp_hash_value got;
	uint8_t p[FILE_BYTES];

	fill(p);
	tp_hash_content(*state, p, sizeof(p), &whole);
	for (size_t i = 0; i < sizeof(p); i += 61) {
		p[i] ^= 0x10;
		tp_hash_content(*state, p, sizeof(p), &got);
		assert_memory_not_equal(whole.b, got.b, sizeof(got.b));
		p[i] ^= 0x10;
	}
	/* A zero more at the end is another size. */
	tp_hash_reset(*state);
	tp_hash_update(*state, 0, p, sizeof(p));
	tp_hash_final(*state, sizeof(p) + 1, &got);
	assert_memory_not_equal(whole.b, got.b, sizeof(got.b));
}

static void size_of_zeros_counts(void **state)
{
	static const uint8_t zeros[2 * BLOCK];
	struct tp_hash_value a;
	struct tp_hash_value b;

	tp_hash_content(*state, zeros, 2 * BLOCK, &a);
	tp_hash_reset(*state);
	tp_hash_final(*state, 2 * BLOCK, &b);
	assert_same(&a, &b);
	tp_hash_reset(*state);
	tp_hash_final(*state, 0, &b);
	assert_memory_not_equal(a.b, b.b, sizeof(a.b));
	tp_hash_content(*state, NULL, 0, &a);
	assert_same(&a, &b);
}

/* The short block at the end includes the zeros that nobody told of. */
static void end_is_zero_filled(void **state)
{
	struct tp_hash_value a;
	struct tp_hash_value b;
	uint8_t p[300] = { 1, 2, 3 };

	tp_hash_content(*state, p, sizeof(p), &a);
	tp_hash_reset(*state);
	tp_hash_update(*state, 0, p, 3);
	tp_hash_final(*state, sizeof(p), &b);
	assert_same(&a, &b);
}

/* More than two leaves: data, nothing but zeros, and a short one with a ragged start. */
#define TREE_BYTES (2 * (size_t)TP_LEAF_BYTES + 70001)

static void fill_tree(uint8_t *p)
{
	uint32_t seed = 3;

	memset(p, 0, TREE_BYTES);
	for (size_t i = 0; i < 300000; i++)
		p[100 + i] = (uint8_t)next(&seed);
	for (size_t i = 0; i < 65000; i++)
		p[2 * (size_t)TP_LEAF_BYTES + 1000 + i] = (uint8_t)next(&seed);
}

static void leaves_are_put_together(void **state)
{
	_cleanup_free_ uint8_t *p = malloc(TREE_BYTES);
	struct tp_hash_value leaf[3], zeros, whole, got;
	XXH3_state_t *x = XXH3_createState();
	XXH128_canonical_t want;

	fill_tree(p);
	assert_int_equal(tp_leaf_count(TREE_BYTES), 3);
	assert_int_equal(tp_leaf_count(0), 0);
	assert_int_equal(tp_leaf_count(TP_LEAF_BYTES), 1);
	assert_int_equal(tp_leaf_bytes(TREE_BYTES, 2), 70001);
	for (size_t i = 0; i < 3; i++)
		tp_hash_content(*state, p + i * TP_LEAF_BYTES,
				(size_t)tp_leaf_bytes(TREE_BYTES, i), &leaf[i]);
	tp_hash_zeros(*state, TP_LEAF_BYTES, &zeros);
	assert_same(&leaf[1], &zeros);

	XXH3_128bits_reset(x);
	le64_update(x, 0);
	XXH3_128bits_update(x, leaf[0].b, sizeof(leaf[0].b));
	le64_update(x, 2);
	XXH3_128bits_update(x, leaf[2].b, sizeof(leaf[2].b));
	le64_update(x, TREE_BYTES);
	XXH128_canonicalFromHash(&want, XXH3_128bits_digest(x));
	XXH3_freeState(x);

	tp_hash_content(*state, p, TREE_BYTES, &whole);
	assert_memory_equal(whole.b, want.digest, sizeof(whole.b));
	tp_hash_reset(*state);
	tp_hash_leaf(*state, 0, &leaf[0]);
	tp_hash_leaf(*state, 2, &leaf[2]);
	tp_hash_root(*state, TREE_BYTES, &got);
	assert_same(&whole, &got);
}

static void pieces_of_trees_do_not_matter(void **state)
{
	_cleanup_free_ uint8_t *p = malloc(TREE_BYTES);
	struct tp_hash_value whole, got;
	uint32_t seed = 5;

	fill_tree(p);
	tp_hash_content(*state, p, TREE_BYTES, &whole);
	for (unsigned round = 0; round < 6; round++) {
		size_t n;

		tp_hash_reset(*state);
		for (size_t off = 0; off < TREE_BYTES; off += n) {
			n = 1 + next(&seed) % (round % 2 ? 900000 : 50000);
			n = MIN(n, TREE_BYTES - off);
			if (p[off] == 0 && !memcmp(p + off, p + off + 1, n - 1))
				continue;
			tp_hash_update(*state, off, p + off, n);
		}
		tp_hash_final(*state, TREE_BYTES, &got);
		assert_same(&whole, &got);
	}
	/* An empty tree of any size is no work. */
	tp_hash_reset(*state);
	tp_hash_final(*state, INT64_MAX, &got);
	tp_hash_reset(*state);
	tp_hash_root(*state, INT64_MAX, &whole);
	assert_same(&whole, &got);
	/* One leaf is no tree: the size on both sides of the border. */
	tp_hash_content(*state, p, TP_LEAF_BYTES, &whole);
	tp_hash_content(*state, p, TP_LEAF_BYTES + 1, &got);
	assert_memory_not_equal(whole.b, got.b, sizeof(got.b));
}

static int scratch_file(void)
{
	char path[] = "/var/tmp/test_hash.XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	unlink(path);
	return fd;
}

static void file_hashes_as_its_content(void **state)
{
	_cleanup_close_ int fd = scratch_file();
	_cleanup_free_ uint8_t *p = calloc(1, 3 << 20);
	struct tp_hash_value a;
	struct tp_hash_value b;
	uint8_t buf[8 * BLOCK];
	uint64_t size;

	memset(p + 100, 'a', 9000);
	memset(p + (2 << 20) + 5, 'b', 70000);
	assert_int_equal(ftruncate(fd, (3 << 20) - 77), 0);
	assert_int_equal(pwrite(fd, p + 100, 9000, 100), 9000);
	assert_int_equal(pwrite(fd, p + (2 << 20) + 5, 70000, (2 << 20) + 5), 70000);
	tp_hash_content(*state, p, (3 << 20) - 77, &a);
	assert_int_equal(tp_hash_fd(*state, fd, buf, sizeof(buf), &size, &b, NULL), 0);
	assert_int_equal(size, (3 << 20) - 77);
	assert_same(&a, &b);

	assert_int_equal(ftruncate(fd, 0), 0);
	tp_hash_content(*state, NULL, 0, &a);
	assert_int_equal(tp_hash_fd(*state, fd, buf, sizeof(buf), &size, &b, NULL), 0);
	assert_int_equal(size, 0);
	assert_same(&a, &b);
}

static void data_runs_are_found(void **state)
{
	_cleanup_close_ int fd = scratch_file();
	_cleanup_close_ int fifo = -1;
	uint64_t off = 0;
	uint64_t from;
	uint64_t to;
	uint64_t data = 0;
	int ends[2];

	(void)state;
	assert_int_equal(ftruncate(fd, 8 << 20), 0);
	assert_int_equal(pwrite(fd, "x", 1, 1 << 20), 1);
	assert_int_equal(pwrite(fd, "y", 1, 5 << 20), 1);
	while (off < 8 << 20) {
		assert_int_equal(tp_next_data(fd, off, 8 << 20, &from, &to), 0);
		assert_true(from >= off && to >= from && to <= 8 << 20);
		data += to - from;
		off = to;
	}
	assert_true(data >= 2 && data <= 8 << 20);
	assert_int_equal(tp_next_data(fd, 8 << 20, 8 << 20, &from, &to), 0);
	assert_int_equal(from, 8 << 20);
	/* Within the size that the caller knows, whatever the file has by now. */
	assert_int_equal(tp_next_data(fd, 5 << 20, (5 << 20) + 10, &from, &to), 0);
	assert_int_equal(from, 5 << 20);
	assert_int_equal(to, (5 << 20) + 10);

	assert_int_equal(pipe(ends), 0);
	close(ends[1]);
	fifo = ends[0];
	assert_int_equal(tp_next_data(fifo, 0, 10, &from, &to), -ESPIPE);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(definition_is_followed, setup, teardown),
		cmocka_unit_test_setup_teardown(pieces_do_not_matter, setup, teardown),
		cmocka_unit_test_setup_teardown(every_bit_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(size_of_zeros_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(end_is_zero_filled, setup, teardown),
		cmocka_unit_test_setup_teardown(leaves_are_put_together, setup, teardown),
		cmocka_unit_test_setup_teardown(pieces_of_trees_do_not_matter, setup, teardown),
		cmocka_unit_test_setup_teardown(file_hashes_as_its_content, setup, teardown),
		cmocka_unit_test(data_runs_are_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
