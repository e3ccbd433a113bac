/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/json.h"

#include <math.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct cJSON *parse(const char *text)
{
	struct cJSON *v = NULL;
	struct err e = { 0 };

	assert_int_equal(agt_json_parse(bytes_str(text), &v, &e), 0);
	return v;
}

static void what_is_no_json_is_refused_and_nothing_is_nothing(void **state)
{
	static const char *const bad[] = { "{", "{\"a\":", "<html>", "{} x", "[1,]", "nul" };
	static const char *const blank[] = { "", " ", "\r\n\t " };
	struct cJSON *v;
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(agt_json_parse(bytes_str(bad[i]), &v, &e), -ERR_PROTOCOL);
	for (size_t i = 0; i < ARRAY_SIZE(blank); i++) {
		v = (struct cJSON *)state;
		assert_int_equal(agt_json_parse(bytes_str(blank[i]), &v, &e), 0);
		assert_null(v);
	}
	assert_int_equal(agt_json_parse(bytes_of("{}\0x", 4), &v, &e), -ERR_PROTOCOL);
	assert_int_equal(agt_json_parse(bytes_of("\0", 1), &v, &e), -ERR_PROTOCOL);
}

static void numbers_come_in_many_shapes(void **state)
{
	static const struct {
		const char *text;
		int64_t want; /* -7: there is none */
	} rows[] = {
		{ "12", 12 },
		{ "\"12\"", 12 },
		{ "\" 12 \"", 12 },
		{ "12.9", 12 },
		{ "-3", -3 },
		{ "9007199254740991", 9007199254740991 },
		{ "9007199254740993000", -7 },
		{ "1e400", -7 },
		{ "-1e300", -7 },
		{ "\"1e400\"", -7 },
		{ "\"0x10\"", -7 },
		{ "\"inf\"", -7 },
		{ "\"nan\"", -7 },
		{ "\"12 apples\"", -7 },
		{ "\"\"", -7 },
		{ "null", -7 },
		{ "true", -7 },
		{ "{}", -7 },
		{ "[12]", -7 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(agt_json_freep) struct cJSON *v = parse(rows[i].text);

		if (agt_json_int(v, "", -7) != rows[i].want)
			fail_msg("%s: %lld", rows[i].text, (long long)agt_json_int(v, "", -7));
	}
	assert_int_equal(agt_json_int(NULL, "a.b", -7), -7);
	assert_true(isnan(agt_json_double(NULL, "", NAN)));
}

static void a_path_leads_inside_and_never_astray(void **state)
{
	_cleanup_(agt_json_freep) struct cJSON *v = parse(
		"{\"a\":{\"b\":{\"c\":\"x\"},\"n\":null},\"list\":[{\"id\":1},{\"id\":\"2\"}],"
		"\"flag\":\"True\",\"one\":1,\"deep\":\"text\"}");
	char text[8];
	size_t n = 0;

	(void)state;
	assert_string_equal(agt_json_str(v, "a.b.c", "?"), "x");
	assert_string_equal(agt_json_str(v, "a.b.c.d", "?"), "?");
	assert_string_equal(agt_json_str(v, "a.n", "?"), "?");
	assert_string_equal(agt_json_str(v, "a", "?"), "?");
	assert_string_equal(agt_json_str(v, "deep.er", "?"), "?");
	assert_string_equal(agt_json_str(v, "", "?"), "?");
	assert_null(agt_json_at(v, "list.id"));
	assert_true(agt_json_bool(v, "flag", false));
	assert_true(agt_json_bool(v, "one", false));
	assert_true(agt_json_bool(v, "deep", true));
	assert_int_equal(agt_json_count(v, "list"), 2);
	assert_int_equal(agt_json_count(v, "deep"), 0);
	for (const struct cJSON *i = agt_json_first(v, "list"); i; i = agt_json_next(i))
		assert_int_equal(agt_json_int(i, "id", 0), (int64_t)++n);
	assert_string_equal(agt_json_name(agt_json_first(v, "")), "a");
	assert_string_equal(agt_json_name(agt_json_first(v, "list")), "");
	assert_string_equal(agt_json_text(v, "one", text, sizeof(text)), "1");
	assert_string_equal(agt_json_text(v, "a", text, sizeof(text)), "");
}

static void a_copy_is_cut_between_characters(void **state)
{
	_cleanup_(agt_json_freep) struct cJSON *v = parse("\"\xc3\xa4\xc3\xa4\xc3\xa4\"");
	char text[6];

	(void)state;
	assert_string_equal(agt_json_text(v, "", text, sizeof(text)), "\xc3\xa4\xc3\xa4");
}

static void json_inside_a_string_is_found(void **state)
{
	static const struct {
		const char *text, *want; /* NULL: nothing, "!": refused */
	} rows[] = {
		{ "{\"error_json\":\"{\\\"error_code\\\":\\\"SMS.1404\\\"}\"}", "SMS.1404" },
		{ "{\"error_json\":{\"error_code\":\"SMS.1404\"}}", "SMS.1404" },
		{ "{\"error_json\":\"\"}", NULL },
		{ "{\"error_json\":null}", NULL },
		{ "{\"error_json\":12}", NULL },
		{ "{}", NULL },
		{ "{\"error_json\":\"{\"}", "!" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(agt_json_freep) struct cJSON *v = parse(rows[i].text), *inner = NULL;
		struct err e = { 0 };
		int r = agt_json_embedded(v, "error_json", &inner, &e);

		assert_int_equal(r, rows[i].want && *rows[i].want == '!' ? -ERR_PROTOCOL : 0);
		if (r < 0 || !rows[i].want)
			assert_null(inner);
		else
			assert_string_equal(agt_json_str(inner, "error_code", ""), rows[i].want);
	}
}

static void what_is_made_reads_as_meant(void **state)
{
	_cleanup_(agt_json_freep) struct cJSON *o = agt_json_object();
	_cleanup_(buf_fini) struct buf out = BUF_INIT;
	struct cJSON *list;
	struct err e = { 0 };

	(void)state;
	agt_json_set_str(o, "s", "old");
	agt_json_set_str(o, "s", "a\"b");
	agt_json_set_str(o, "bytes", "\xff");
	agt_json_set_str(o, "none", NULL);
	agt_json_set_int(o, "big", 1000000000000000000);
	agt_json_set_double(o, "nan", NAN);
	agt_json_set_bool(o, "yes", true);
	list = agt_json_set_array(o, "list");
	agt_json_set_int(agt_json_add_object(list), "id", 7);
	agt_json_add_str(list, "x");
	assert_int_equal(agt_json_int(o, "list", 3), 3);
	assert_int_equal(agt_json_int(agt_json_first(o, "list"), "id", 0), 7);
	assert_int_equal(agt_json_print(o, false, &out, &e), 0);
	assert_string_equal(buf_cstr(&out),
			    "{\"s\":\"a\\\"b\",\"bytes\":\"\\\\xff\",\"none\":null,"
			    "\"big\":1000000000000000000,\"nan\":null,\"yes\":true,"
			    "\"list\":[{\"id\":7},\"x\"]}");
}

static void what_could_not_be_added_shows_when_it_is_printed(void **state)
{
	_cleanup_(agt_json_freep) struct cJSON *o = agt_json_object();
	_cleanup_(buf_fini) struct buf out = BUF_INIT;
	struct cJSON *inner = agt_json_set_object(o, "inner");
	struct err e = { 0 };

	(void)state;
	/* NULL is what an allocation that failed gives. */
	agt_json_set_str(agt_json_set(inner, "deep", NULL), "x", "y");
	assert_true(agt_json_print(o, false, &out, &e) < 0);
	assert_true(agt_json_print(NULL, false, &out, &e) < 0);
	assert_int_equal(buf_len(&out), 0);
}

static void secrets_are_blotted_out(void **state)
{
	_cleanup_(agt_json_freep) struct cJSON *v = parse(
		"{\"adminPass\":\"abc\",\"server\":[{\"target_password\":\"xyz\",\"name\":\"n\"}],"
		"\"security_token\":\"t\",\"private_key\":\"k\"}");
	_cleanup_(buf_fini) struct buf out = BUF_INIT;
	struct err e = { 0 };

	(void)state;
	agt_json_blot(v);
	agt_json_blot(NULL);
	assert_int_equal(agt_json_print(v, false, &out, &e), 0);
	assert_string_equal(buf_cstr(&out),
			    "{\"adminPass\":\"***\",\"server\":[{\"target_password\":\"***\","
			    "\"name\":\"n\"}],\"security_token\":\"*\",\"private_key\":\"*\"}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_no_json_is_refused_and_nothing_is_nothing),
		cmocka_unit_test(numbers_come_in_many_shapes),
		cmocka_unit_test(a_path_leads_inside_and_never_astray),
		cmocka_unit_test(a_copy_is_cut_between_characters),
		cmocka_unit_test(json_inside_a_string_is_found),
		cmocka_unit_test(what_is_made_reads_as_meant),
		cmocka_unit_test(what_could_not_be_added_shows_when_it_is_printed),
		cmocka_unit_test(secrets_are_blotted_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
