/* SPDX-License-Identifier: Apache-2.0 */
#include <cjson/cJSON.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/buf.h"
#include "common/macro.h"
#include "config/jsonc.h"

static void comments_are_blanked_outside_of_strings(void **state)
{
	static const char *const rows[] = {
		"{\"a\": \"x\"}",
		"// c\n{\"a\": \"x\"} // \"b\": 1",
		"/* \"a\": */ {\"a\" /*:*/ : /**/ \"x\"}\n",
		"\xef\xbb\xbf{\"a\":\"x\" /* \xc3\xa9 // */}\r\n// end",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(cfg_jsonc_freep) struct cfg_jsonc *d = NULL;
		struct err e = { 0 };

		assert_int_equal(cfg_jsonc_parse("f", bytes_str(rows[i]), &d, &e), 0);
		assert_string_equal(
			cJSON_GetObjectItem(cfg_jsonc_root(d), "a")->valuestring, "x");
	}
}

static void slashes_in_strings_stay(void **state)
{
	_cleanup_(cfg_jsonc_freep) struct cfg_jsonc *d = NULL;

	(void)state;
	assert_int_equal(
		cfg_jsonc_parse("f", bytes_str("[\"ssh://h/ /* \\\" // */\"]"), &d, NULL),
		0);
	assert_string_equal(cfg_jsonc_root(d)->child->valuestring,
			    "ssh://h/ /* \" // */");
}

static void malformed_text_is_refused_with_its_position(void **state)
{
	static const struct {
		const char *text;
		const char *want;
	} rows[] = {
		{ "", "f: line 1, column 1: expected a value" },
		{ "{",
		  "line 1, column 2: expected a key in double quotes, found the end" },
		{ "{\n\t\"a\": 1\n\t\"b\": 2\n}",
		  "line 3, column 2: expected ',' or '}' after a value, found '\"'" },
		{ "{\"a\" 1}",
		  "line 1, column 6: expected ':' after the key, found '1'" },
		{ "{\"a\": 1,\n}", "line 2, column 1: expected a key after ','" },
		{ "[1,\n]", "line 2, column 1: expected a value after ','" },
		{ "[1 2]", "column 4: expected ',' or ']'" },
		{ "{a: 1}", "column 2: expected a key in double quotes, found 'a'" },
		{ "{\"a\": yes}", "column 7: expected a value" },
		{ "{} {}",
		  "column 4: expected the end of the file after the value, found '{'" },
		{ "{\"a\": \"x\n\"}",
		  "line 1, column 7: expected '\"' at the end of this string" },
		{ "\"x",
		  "expected '\"' at the end of this string, found the end of the file" },
		{ "\"x\\", "expected one of" },
		{ "{ /* no end\n}", "line 1, column 3: expected '*/'" },
		{ "\n /\n", "line 2, column 2: expected a value" },
		{ "[01]", "column 3: expected no digit after a leading 0" },
		{ "[-]", "column 3: expected a digit" },
		{ "[1.]", "column 4: expected a digit" },
		{ "[1e]", "column 4: expected a digit" },
		{ "[\"\\q\"]", "column 3: expected one of" },
		{ "[\"\\u12g4\"]", "four hexadecimal digits" },
		{ "[\"\\u0000\"]", "\\u0000 is not accepted" },
		{ "[\"\\ud800\"]", "pair of surrogates" },
		{ "[\"\\udc00\\ud800\"]", "pair of surrogates" },
		{ "[\"\t\"]", "control characters" },
		{ "[\"\xc3\xa9\", \xff]", "line 1, column 7: expected UTF-8" },
		{ "/* \xc3\xa9\xc3\xa9 */ x", "line 1, column 10: expected a value" },
		{ "{\"a\": 1,\n \"b\": 2,\n \"a\": 3}",
		  "line 3, column 2: duplicate key 'a': it was given in line 1" },
		{ "{\"x\": [{\"b\": 1, \"\\u0062\": 2}]}",
		  "column 17: duplicate key 'b'" },
		{ "[1111111111111111111111111111111111111111111111111111111111111111]",
		  "63 characters" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct cfg_jsonc *d = NULL;
		struct err e = { 0 };

		assert_int_equal(cfg_jsonc_parse("f", bytes_str(rows[i].text), &d, &e),
				 -ERR_USAGE);
		assert_null(d);
		if (!strstr(e.text, rows[i].want))
			fail_msg("'%s' is not in '%s'", rows[i].want, e.text);
	}
}

static void good_values_pass(void **state)
{
	static const char *const rows[] = {
		"0",
		"-0.5e+3",
		" true ",
		"null",
		"[]",
		"{}",
		"[[],{}]",
		"\"\\ud83d\\ude00\"",
		"{\"a\": {\"a\": 1}, \"A\": 2}",
		"\"\\\\\\/\\n\"",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(cfg_jsonc_freep) struct cfg_jsonc *d = NULL;
		struct err e = { 0 };

		if (cfg_jsonc_parse("f", bytes_str(rows[i]), &d, &e) != 0)
			fail_msg("%s", e.text);
	}
}

static void nesting_and_size_are_bounded(void **state)
{
	_cleanup_(cfg_jsonc_freep) struct cfg_jsonc *d = NULL;
	_cleanup_free_ char *big = malloc(CFG_JSONC_MAX_BYTES + 2);
	struct err e = { 0 };

	(void)state;
	assert_non_null(big);
	memset(big, '[', CFG_JSONC_MAX_DEPTH + 1);
	memset(big + CFG_JSONC_MAX_DEPTH + 1, ']', CFG_JSONC_MAX_DEPTH + 1);
	assert_int_equal(
		cfg_jsonc_parse("f", bytes_of(big, 2 * CFG_JSONC_MAX_DEPTH + 2), &d, &e),
		-ERR_USAGE);
	assert_non_null(strstr(e.text, "nesting"));
	assert_int_equal(
		cfg_jsonc_parse("f", bytes_of(big + 1, 2 * CFG_JSONC_MAX_DEPTH), &d, &e),
		0);
	cfg_jsonc_free(TAKE_PTR(d));

	memset(big, ' ', CFG_JSONC_MAX_BYTES + 1);
	big[0] = '1';
	assert_int_equal(cfg_jsonc_parse("f", bytes_of(big, CFG_JSONC_MAX_BYTES), &d, &e),
			 0);
	cfg_jsonc_free(TAKE_PTR(d));
	assert_int_equal(
		cfg_jsonc_parse("f", bytes_of(big, CFG_JSONC_MAX_BYTES + 1), &d, &e),
		-ERR_USAGE);
	assert_non_null(strstr(e.text, "1048576"));
}

static void positions_of_keys_and_values_are_found(void **state)
{
	_cleanup_(cfg_jsonc_freep) struct cfg_jsonc *d = NULL;
	static const char text[] =
		"{ /* x\n */ \"a\":\n  [1, /* \xc3\xa9 */ {\"b\": 2}] }";
	const cJSON *a, *b;
	struct cfg_jsonc_pos pos;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(cfg_jsonc_parse("f", bytes_str(text), &d, &e), 0);
	a = cJSON_GetObjectItem(cfg_jsonc_root(d), "a");
	b = cJSON_GetObjectItem(cJSON_GetArrayItem(a, 1), "b");
	pos = cfg_jsonc_key_pos(d, a);
	assert_int_equal(pos.line, 2);
	assert_int_equal(pos.column, 5);
	pos = cfg_jsonc_value_pos(d, a);
	assert_int_equal(pos.line, 3);
	assert_int_equal(pos.column, 3);
	pos = cfg_jsonc_value_pos(d, b);
	assert_int_equal(pos.line, 3);
	assert_int_equal(pos.column, 21);
	err_set(&e, -ERR_USAGE, "bad");
	assert_int_equal(cfg_jsonc_ctx(d, b, -ERR_USAGE, &e), -ERR_USAGE);
	assert_string_equal(e.text, "f: line 3, column 21: bad");
}

static void a_missing_file_is_told_apart(void **state)
{
	struct cfg_jsonc *d = NULL;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(cfg_jsonc_read(AT_FDCWD, "/nonexistent/x.json", &d, &e), -2);
	assert_non_null(strstr(e.text, "/nonexistent/x.json"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(comments_are_blanked_outside_of_strings),
		cmocka_unit_test(slashes_in_strings_stay),
		cmocka_unit_test(malformed_text_is_refused_with_its_position),
		cmocka_unit_test(good_values_pass),
		cmocka_unit_test(nesting_and_size_are_bounded),
		cmocka_unit_test(positions_of_keys_and_values_are_found),
		cmocka_unit_test(a_missing_file_is_told_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
