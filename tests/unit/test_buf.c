/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The byte buffer under every frame, and the reader that decoders stand on.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/buf.h"

static void an_empty_buffer_is_empty(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	assert_int_equal(buf_len(&b), 0);
	assert_int_equal(buf_view(&b).n, 0);
	assert_null(buf_view(&b).p);
	assert_int_equal(buf_put(&b, NULL, 0), 0);
	assert_int_equal(buf_len(&b), 0);
	assert_string_equal(buf_cstr(&b), "");
	buf_fini(&b);
	buf_fini(NULL);
}

static void can_be_used_again_after_fini(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	assert_int_equal(buf_put(&b, "abc", 3), 0);
	buf_fini(&b);
	assert_null(b.p);
	assert_int_equal(buf_put(&b, "de", 2), 0);
	assert_string_equal(buf_cstr(&b), "de");
	buf_fini(&b);
}

/* A queue of numbered bytes, with every mix of writing and reading, loses none. */
static void bytes_come_out_in_the_order_they_went_in(void **state)
{
	struct buf b = BUF_INIT;
	uint8_t next_in = 0, next_out = 0;
	uint32_t seed = 12345;

	(void)state;
	for (int step = 0; step < 20000; step++) {
		uint8_t chunk[700];
		size_t n;

		seed = seed * 1664525u + 1013904223u;
		n = (seed >> 16) % sizeof(chunk);
		if (seed >> 31) {
			for (size_t i = 0; i < n; i++)
				chunk[i] = next_in++;
			assert_int_equal(buf_put(&b, chunk, n), 0);
		} else {
			struct bytes v = buf_view(&b);

			n = MIN(n, v.n);
			for (size_t i = 0; i < n; i++)
				assert_int_equal(v.p[i], next_out++);
			buf_consume(&b, n);
		}
		assert_int_equal((uint8_t)(next_in - next_out), (uint8_t)buf_len(&b));
		assert_true(b.off <= b.n && b.n <= b.cap);
	}
	buf_fini(&b);
}

static void memory_stays_bounded_by_what_is_unread(void **state)
{
	struct buf b = BUF_INIT;
	uint8_t chunk[1000] = { 0 };

	(void)state;
	for (int i = 0; i < 100000; i++) {
		assert_int_equal(buf_put(&b, chunk, sizeof(chunk)), 0);
		assert_int_equal(buf_put(&b, "x", 1), 0);
		buf_consume(&b, buf_len(&b) - 1); /* never quite empty */
	}
	assert_true(b.cap <= 16384);
	buf_fini(&b);
}

static void consuming_more_than_there_is_empties_it(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	assert_int_equal(buf_put(&b, "abc", 3), 0);
	buf_consume(&b, 100);
	assert_int_equal(buf_len(&b), 0);
	assert_int_equal(buf_put(&b, "d", 1), 0);
	assert_string_equal(buf_cstr(&b), "d");
	buf_fini(&b);
}

static void clear_keeps_the_allocation(void **state)
{
	struct buf b = BUF_INIT;
	const uint8_t *p;

	(void)state;
	assert_int_equal(buf_put(&b, "abc", 3), 0);
	p = b.p;
	buf_clear(&b);
	assert_int_equal(buf_len(&b), 0);
	assert_ptr_equal(b.p, p);
	buf_fini(&b);
}

static void an_absurd_reservation_fails_and_changes_nothing(void **state)
{
	static const size_t sizes[] = { SIZE_MAX, SIZE_MAX - 3, SIZE_MAX / 2 };
	struct buf b = BUF_INIT;

	(void)state;
	assert_int_equal(buf_put(&b, "abc", 3), 0);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		assert_int_equal(buf_reserve(&b, sizes[i]), -ENOMEM);
		assert_int_equal(buf_len(&b), 3);
	}
	assert_string_equal(buf_cstr(&b), "abc");
	buf_fini(&b);
}

static void printf_appends_across_growth(void **state)
{
	struct buf b = BUF_INIT;
	char wide[5000];

	(void)state;
	memset(wide, 'w', sizeof(wide) - 1);
	wide[sizeof(wide) - 1] = '\0';
	assert_int_equal(buf_printf(&b, "%d-", 42), 0);
	assert_int_equal(buf_printf(&b, "%s", wide), 0);
	assert_int_equal(buf_printf(&b, "%s", ""), 0);
	assert_int_equal(buf_len(&b), 3 + sizeof(wide) - 1);
	assert_memory_equal(buf_cstr(&b), "42-www", 6);
	assert_int_equal(strlen(buf_cstr(&b)), buf_len(&b));
	buf_fini(&b);
}

static void cstr_adds_no_byte_to_the_content(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	/* Exactly full, so that the terminator itself needs room. */
	assert_int_equal(buf_reserve(&b, 1), 0);
	while (b.n < b.cap)
		assert_int_equal(buf_put_u8(&b, 'a'), 0);
	assert_int_equal(strlen(buf_cstr(&b)), buf_len(&b));
	assert_int_equal(buf_put_u8(&b, 'b'), 0);
	assert_int_equal(buf_view(&b).p[buf_len(&b) - 1], 'b');
	buf_consume(&b, buf_len(&b) - 1);
	assert_string_equal(buf_cstr(&b), "b");
	buf_fini(&b);
}

static void integers_are_little_endian_and_come_back(void **state)
{
	static const uint8_t want[] = {
		0xfe,
		0x02, 0x81,
		0x04, 0x03, 0x02, 0x81,
		0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x81,
		'h', 'i',
	};
	struct buf b = BUF_INIT;
	struct reader r;

	(void)state;
	assert_int_equal(buf_put_u8(&b, 0xfe), 0);
	assert_int_equal(buf_put_le16(&b, 0x8102), 0);
	assert_int_equal(buf_put_le32(&b, 0x81020304), 0);
	assert_int_equal(buf_put_le64(&b, 0x8102030405060708), 0);
	assert_int_equal(buf_put_bytes(&b, bytes_str("hi")), 0);
	assert_int_equal(buf_len(&b), sizeof(want));
	assert_memory_equal(buf_view(&b).p, want, sizeof(want));

	r = reader_of(buf_view(&b));
	assert_int_equal(reader_u8(&r), 0xfe);
	assert_int_equal(reader_le16(&r), 0x8102);
	assert_int_equal(reader_le32(&r), 0x81020304);
	assert_true(reader_le64(&r) == 0x8102030405060708);
	assert_true(bytes_eq(reader_bytes(&r, 2), bytes_str("hi")));
	assert_false(r.bad);
	assert_int_equal(r.n, 0);
	buf_fini(&b);
}

static void a_short_reader_goes_bad_and_stays_bad(void **state)
{
	static const uint8_t some[3] = { 1, 2, 3 };
	struct reader r;

	(void)state;
	r = reader_of(bytes_of(some, 3));
	assert_int_equal(reader_le32(&r), 0);
	assert_true(r.bad);
	/* Three bytes are left, but a decoder must not be fed from the wrong place. */
	assert_int_equal(reader_u8(&r), 0);
	assert_int_equal(reader_le16(&r), 0);
	assert_true(r.bad);

	r = reader_of(bytes_of(some, 3));
	assert_int_equal(reader_bytes(&r, 4).n, 0);
	assert_true(r.bad);

	r = reader_of(bytes_of(some, 3));
	assert_null(reader_bytes(&r, SIZE_MAX).p);
	assert_true(r.bad);

	r = reader_of(bytes_of(NULL, 0));
	assert_true(reader_le64(&r) == 0);
	assert_true(r.bad);
}

static void reading_no_bytes_is_no_error(void **state)
{
	static const uint8_t one = 9;
	struct reader r = reader_of(bytes_of(&one, 1));

	(void)state;
	assert_int_equal(reader_bytes(&r, 0).n, 0);
	assert_false(r.bad);
	assert_int_equal(reader_u8(&r), 9);
	assert_int_equal(reader_bytes(&r, 0).n, 0);
	assert_false(r.bad);
	r = reader_of(bytes_of(NULL, 0));
	assert_int_equal(reader_bytes(&r, 0).n, 0);
	assert_false(r.bad);
}

static void bytes_order_is_that_of_names_in_a_directory(void **state)
{
	static const struct {
		struct bytes a, b;
		int want;
	} rows[] = {
		{ { (const uint8_t *)"a", 1 }, { (const uint8_t *)"b", 1 }, -1 },
		{ { (const uint8_t *)"ab", 2 }, { (const uint8_t *)"a", 1 }, 1 },
		{ { (const uint8_t *)"a", 1 }, { (const uint8_t *)"ab", 2 }, -1 },
		{ { (const uint8_t *)"a\0b", 3 }, { (const uint8_t *)"a\0c", 3 }, -1 },
		{ { (const uint8_t *)"\xff", 1 }, { (const uint8_t *)"\x7f", 1 }, 1 },
		{ { NULL, 0 }, { NULL, 0 }, 0 },
		{ { NULL, 0 }, { (const uint8_t *)"a", 1 }, -1 },
		{ { (const uint8_t *)"a", 1 }, { (const uint8_t *)"a", 1 }, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int c = bytes_cmp(rows[i].a, rows[i].b);

		assert_int_equal((c > 0) - (c < 0), rows[i].want);
		assert_int_equal(bytes_eq(rows[i].a, rows[i].b), rows[i].want == 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_buffer_is_empty),
		cmocka_unit_test(can_be_used_again_after_fini),
		cmocka_unit_test(bytes_come_out_in_the_order_they_went_in),
		cmocka_unit_test(memory_stays_bounded_by_what_is_unread),
		cmocka_unit_test(consuming_more_than_there_is_empties_it),
		cmocka_unit_test(clear_keeps_the_allocation),
		cmocka_unit_test(an_absurd_reservation_fails_and_changes_nothing),
		cmocka_unit_test(printf_appends_across_growth),
		cmocka_unit_test(cstr_adds_no_byte_to_the_content),
		cmocka_unit_test(integers_are_little_endian_and_come_back),
		cmocka_unit_test(a_short_reader_goes_bad_and_stays_bad),
		cmocka_unit_test(reading_no_bytes_is_no_error),
		cmocka_unit_test(bytes_order_is_that_of_names_in_a_directory),
	};

	return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
