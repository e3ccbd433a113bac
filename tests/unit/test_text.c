/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes made fit for people: nothing raw reaches a terminal, nothing malformed reaches JSON.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "common/text.h"

/* A row's bytes may hold NUL, so their count comes from the literal. */
#define LIT(s) { (const uint8_t *)(s), sizeof(s) - 1 }

static void utf8_is_what_rfc_3629_says(void **state)
{
	static const struct {
		struct bytes b;
		bool want;
	} rows[] = {
		{ LIT(""), true },
		{ LIT("plain"), true },
		{ LIT("\0"), true },
		{ LIT("\x7f"), true },
		{ LIT("\xc2\x80"), true },
		{ LIT("\xdf\xbf"), true },
		{ LIT("\xe0\xa0\x80"), true },
		{ LIT("\xed\x9f\xbf"), true },
		{ LIT("\xee\x80\x80"), true },
		{ LIT("\xef\xbf\xbf"), true },
		{ LIT("\xf0\x90\x80\x80"), true },
		{ LIT("\xf4\x8f\xbf\xbf"), true },
		{ LIT("a\xc3\xa9z"), true },

		{ LIT("\x80"), false },             /* continuation alone */
		{ LIT("\xbf"), false },
		{ LIT("\xc0\x80"), false },         /* NUL in two bytes */
		{ LIT("\xc0\xaf"), false },         /* a slash in two */
		{ LIT("\xc1\xbf"), false },
		{ LIT("\xe0\x80\xaf"), false },     /* a slash in three */
		{ LIT("\xe0\x9f\xbf"), false },
		{ LIT("\xf0\x80\x80\xaf"), false }, /* a slash in four */
		{ LIT("\xf0\x8f\xbf\xbf"), false },
		{ LIT("\xed\xa0\x80"), false },     /* surrogates */
		{ LIT("\xed\xbf\xbf"), false },
		{ LIT("\xf4\x90\x80\x80"), false }, /* above U+10FFFF */
		{ LIT("\xf5\x80\x80\x80"), false },
		{ LIT("\xf8\x88\x80\x80\x80"), false },
		{ LIT("\xfe"), false },
		{ LIT("\xff"), false },
		{ LIT("\xc3"), false },             /* cut off */
		{ LIT("\xe2\x82"), false },
		{ LIT("\xf0\x9f\x98"), false },
		{ LIT("\xc3("), false },            /* continuation missing */
		{ LIT("\xe2\x82("), false },
		{ LIT("\xe2(\xac"), false },
		{ LIT("ok\xff"), false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (text_is_utf8(rows[i].b) != rows[i].want)
			fail_msg("row %zu", i);
}

static void escape_leaves_only_printable_text(void **state)
{
	static const struct {
		struct bytes b;
		const char *want;
	} rows[] = {
		{ LIT(""), "" },
		{ LIT("plain name.txt"), "plain name.txt" },
		{ LIT("h\xc3\xa9"), "h\xc3\xa9" },
		{ LIT("a\nb"), "a\\x0ab" },
		{ LIT("\x1b[2J"), "\\x1b[2J" },
		{ LIT("\0"), "\\x00" },
		{ LIT("\x7f"), "\\x7f" },
		{ LIT("a\\b"), "a\\\\b" },
		/* A name that already looks escaped cannot pass for the byte itself. */
		{ LIT("\\x0a"), "\\\\x0a" },
		{ LIT("\xff\xfe"), "\\xff\\xfe" },
		{ LIT("\xc3("), "\\xc3(" },
		{ LIT("\xc0\xaf"), "\\xc0\\xaf" },
		{ LIT("\xe2\x82"), "\\xe2\\x82" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct buf out = BUF_INIT;

		assert_int_equal(text_escape(&out, rows[i].b), 0);
		assert_string_equal(buf_cstr(&out), rows[i].want);
		assert_true(text_is_utf8(buf_view(&out)));
		buf_fini(&out);
	}
}

static void every_single_byte_escapes_to_something_harmless(void **state)
{
	(void)state;
	for (int c = 0; c < 256; c++) {
		uint8_t byte = (uint8_t)c;
		struct buf out = BUF_INIT;
		struct bytes v;

		assert_int_equal(text_escape(&out, bytes_of(&byte, 1)), 0);
		v = buf_view(&out);
		assert_true(v.n >= 1);
		for (size_t i = 0; i < v.n; i++)
			assert_in_range(v.p[i], 0x20, 0x7e);
		buf_fini(&out);
	}
}

static void names_always_fit_and_end(void **state)
{
	static const char *const units[] = {
		"a", "\xff", "\\", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\n", "ab\xff",
	};

	(void)state;
	for (size_t u = 0; u < ARRAY_SIZE(units); u++) {
		size_t len = strlen(units[u]);

		for (size_t reps = 0; reps * len <= 3 * TEXT_NAME_MAX; reps++) {
			uint8_t in[3 * TEXT_NAME_MAX];
			char out[TEXT_NAME_MAX + 8];
			struct buf whole = BUF_INIT;
			size_t n;

			for (size_t i = 0; i < reps; i++)
				memcpy(in + i * len, units[u], len);
			memset(out, 'G', sizeof(out));
			assert_ptr_equal(text_name(out, bytes_of(in, reps * len)), out);
			assert_memory_equal(out + TEXT_NAME_MAX, "GGGGGGGG", 8);
			n = strnlen(out, TEXT_NAME_MAX);
			assert_true(n < TEXT_NAME_MAX);

			/* Messages end up in JSON: the cut must not fall inside a character. */
			assert_true(text_is_utf8(bytes_of(out, n)));

			assert_int_equal(text_escape(&whole, bytes_of(in, reps * len)), 0);
			if (buf_len(&whole) < TEXT_NAME_MAX) {
				assert_string_equal(out, buf_cstr(&whole));
			} else {
				assert_true(n >= 3);
				assert_string_equal(out + n - 3, "...");
				assert_memory_equal(out, buf_view(&whole).p, n - 3);
			}
			buf_fini(&whole);
		}
	}
}

static void base64_is_that_of_rfc_4648(void **state)
{
	static const struct {
		struct bytes b;
		const char *want;
	} rows[] = {
		{ LIT(""), "" },
		{ LIT("f"), "Zg==" },
		{ LIT("fo"), "Zm8=" },
		{ LIT("foo"), "Zm9v" },
		{ LIT("foob"), "Zm9vYg==" },
		{ LIT("fooba"), "Zm9vYmE=" },
		{ LIT("foobar"), "Zm9vYmFy" },
		{ LIT("\xff\xff\xff"), "////" },
		{ LIT("\xfb\xef\xbe"), "++++" },
		{ LIT("\0"), "AA==" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct buf out = BUF_INIT;

		assert_int_equal(text_base64(&out, rows[i].b), 0);
		assert_string_equal(buf_cstr(&out), rows[i].want);
		buf_fini(&out);
	}
}

static void sizes_parse_as_rsync_takes_them(void **state)
{
	static const struct {
		const char *s;
		uint64_t want;
	} rows[] = {
		{ "0", 0 },
		{ "17", 17 },
		{ "800K", 800 * 1024 },
		{ "20M", 20 << 20 },
		{ "20m", 20 << 20 },
		{ "1.5K", 1536 },
		{ "1KB", 1000 },
		{ "1kb", 1000 },
		{ "1KiB", 1024 },
		{ "2G", UINT64_C(2) << 30 },
		{ "3T", UINT64_C(3) << 40 },
		{ "1TB", UINT64_C(1000000000000) },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint64_t v = 1;

		assert_int_equal(text_parse_size(rows[i].s, &v, NULL), 0);
		if (v != rows[i].want)
			fail_msg("%s gave %llu", rows[i].s, (unsigned long long)v);
	}
}

static void what_is_no_size_is_refused(void **state)
{
	static const char *const rows[] = {
		"",    "K",   "-1",   "20X",    "20 M", "20MBs", "20Mi", "1K1", "nan",
		"inf", "1e400", "99999999T", "9.3e18", "M20", "20M ",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct err e = { 0 };
		uint64_t v = 4711;

		if (text_parse_size(rows[i], &v, &e) != -ERR_USAGE)
			fail_msg("'%s' was taken as %llu", rows[i], (unsigned long long)v);
		assert_int_equal(v, 4711);
		assert_non_null(strstr(e.text, rows[i]));
	}
}

static void sizes_read_well(void **state)
{
	static const struct {
		uint64_t v;
		const char *want;
	} rows[] = {
		{ 0, "0 B" },
		{ 1023, "1023 B" },
		{ 1024, "1.0 KiB" },
		{ 1536, "1.5 KiB" },
		{ UINT64_C(5) << 30, "5.0 GiB" },
		{ UINT64_MAX, "16.0 EiB" },
	};
	char out[32];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_string_equal(text_size(out, rows[i].v), rows[i].want);
}

static void durations_read_well(void **state)
{
	static const struct {
		double v;
		const char *want;
	} rows[] = {
		{ 0, "00:00:00" },
		{ 59.9, "00:00:59" },
		{ 3661, "01:01:01" },
		{ 360000, "100:00:00" },
		{ -5, "00:00:00" },
		{ 1e300, "00:00:00" },
	};
	char out[32];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_string_equal(text_duration(out, rows[i].v), rows[i].want);
	assert_string_equal(text_duration(out, __builtin_nan("")), "00:00:00");
}

static void times_are_utc_beyond_the_century(void **state)
{
	static const struct {
		int64_t v;
		const char *want;
	} rows[] = {
		{ 0, "1970-01-01T00:00:00Z" },
		{ -1, "1969-12-31T23:59:59Z" },
		{ 1767323045, "2026-01-02T03:04:05Z" },
		{ INT64_C(5000000000), "2128-06-11T08:53:20Z" },
		{ INT64_MAX, "" },
		{ INT64_MIN, "" },
	};
	char out[32];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_string_equal(text_utc(out, rows[i].v), rows[i].want);
}

static void local_times_have_their_offset(void **state)
{
	static const struct {
		const char *zone;
		int64_t v;
		const char *want;
	} rows[] = {
		{ "UTC0", 1767323045, "2026-01-02T03:04:05+00:00" },
		{ "CST-8", 1767323045, "2026-01-02T11:04:05+08:00" },
		{ "NST3:30", 1767323045, "2026-01-01T23:34:05-03:30" },
		{ "UTC0", INT64_MAX, "" },
		{ "UTC0", INT64_C(300000000000), "11476-08-15T05:20:00+00:00" },
	};
	char out[32];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		setenv("TZ", rows[i].zone, 1);
		tzset();
		assert_string_equal(text_local(out, rows[i].v), rows[i].want);
	}
	unsetenv("TZ");
	tzset();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(utf8_is_what_rfc_3629_says),
		cmocka_unit_test(escape_leaves_only_printable_text),
		cmocka_unit_test(every_single_byte_escapes_to_something_harmless),
		cmocka_unit_test(names_always_fit_and_end),
		cmocka_unit_test(base64_is_that_of_rfc_4648),
		cmocka_unit_test(sizes_parse_as_rsync_takes_them),
		cmocka_unit_test(what_is_no_size_is_refused),
		cmocka_unit_test(sizes_read_well),
		cmocka_unit_test(durations_read_well),
		cmocka_unit_test(times_are_utc_beyond_the_century),
		cmocka_unit_test(local_times_have_their_offset),
	};

	return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
