/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/macro.h"
#include "stager/wildmatch.h"

struct row {
	const char *pattern;
	const char *text;
	bool want;
};

static void check_rows(const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct stg_wild_text t = { .path = bytes_str(rows[i].text) };

		if (stg_wildmatch(bytes_str(rows[i].pattern), &t, 0) != rows[i].want)
			fail_msg("pattern '%s' text '%s': expected %d", rows[i].pattern,
				 rows[i].text, rows[i].want);
	}
}

static void stars_and_marks_follow_the_rules_for_slashes(void **state _unused_)
{
	static const struct row rows[] = {
		{ "foo", "foo", true },
		{ "foo", "fo", false },
		{ "fo", "foo", false },
		{ "", "", true },
		{ "*", "", true },
		{ "*", "foo", true },
		{ "*", ".hid", true },
		{ "*", "a/b", false },
		{ "**", "a/b", true },
		{ "**", "", true },
		{ "***", "a/b/c", true },
		{ "a*", "a", true },
		{ "a*c", "abc", true },
		{ "a*c", "ac", true },
		{ "a*c", "a/c", false },
		{ "a**c", "a/b/c", true },
		{ "*a*b", "xxaxxabb", true },
		{ "*a*b", "xa/ab", false },
		{ "*/b", "a/b", true },
		{ "*/b", "a/c/b", false },
		{ "x/**/bar", "x/y/bar", true },
		{ "x/**/bar", "x/bar", false },
		{ "x/***/bar", "x/y/z/bar", true },
		{ "**/*.c", "a/b/c.c", true },
		{ "**/*.c", "a/b.c/d", false },
		{ "**a*b/c", "xa/ab/c", true },
		{ "?", "a", true },
		{ "?", "/", false },
		{ "?", "", false },
		{ "??", "\xc3\xa9", true },
		{ "?", "\xc3\xa9", false },
		{ "*?", "a", true },
		{ "*?", "", false },
		{ "a*?b", "ab", false },
		{ "-*-*-*-*-*-*-12-*-*-*-m-*-*-*", "-adobe-courier-bold-o-normal--12-120-75-75-m-70-iso8859-1",
		  true },
		{ "-*-*-*-*-*-*-12-*-*-*-m-*-*-*", "-adobe-courier-bold-o-normal--12-120-75-75-X-70-iso8859-1",
		  false },
	};

	check_rows(rows, ARRAY_SIZE(rows));
}

static void sets_have_ranges_negation_and_class_names(void **state _unused_)
{
	static const struct row rows[] = {
		{ "[abc]", "b", true },
		{ "[abc]", "d", false },
		{ "[a-c]x", "bx", true },
		{ "[!a-c]", "b", false },
		{ "[!a-c]", "d", true },
		{ "[^a-c]", "d", true },
		{ "[^a-c]", "a", false },
		{ "[!a]", "/", false },
		{ "[/]", "/", false },
		{ "a[/]b", "a/b", false },
		{ "[]a]", "]", true },
		{ "[!]a]", "]", false },
		{ "[!]a]", "b", true },
		{ "[a-]", "-", true },
		{ "[-a]", "-", true },
		{ "[\\]]", "]", true },
		{ "[\\-x]", "-", true },
		{ "[a-\\c]", "b", true },
		{ "[\\a-c]", "b", true },
		{ "[a-c-e]", "d", false },
		{ "[a-c-e]", "-", true },
		{ "[c-a]", "b", false },
		{ "[[:upper:]]", "A", true },
		{ "[[:upper:]]", "a", false },
		{ "[[:upper:]]", "\xc3", false },
		{ "[![:upper:]]", "a", true },
		{ "[[:digit:][:space:]x]", "\t", true },
		{ "[[:digit:][:space:]x]", "x", true },
		{ "[[:alnum:]]", "_", false },
		{ "[[:alpha:]]", "z", true },
		{ "[[:blank:]]", "\n", false },
		{ "[[:cntrl:]]", "\x7f", true },
		{ "[[:graph:]]", " ", false },
		{ "[[:print:]]", " ", true },
		{ "[[:punct:]]", "_", true },
		{ "[[:lower:]]", "Z", false },
		{ "[[:xdigit:]]", "F", true },
		{ "[[:xdigit:]]", "g", false },
		{ "[[:nope:]x]", "x", false }, /* a name that does not exist fails the match */
		{ "[x[:nope:]]", "x", false },
		{ "*[[:nope:]]*", "x", false },
		{ "[[:upper]", ":", true }, /* no class at all: its bytes */
		{ "[[:]", "[", true },
		{ "[abc", "a", false },
		{ "[a\\", "a", false },
		{ "[", "[", false },
		{ "[[:upper:", "A", false },
	};

	check_rows(rows, ARRAY_SIZE(rows));
}

static void a_backslash_takes_the_next_byte_literally(void **state _unused_)
{
	static const struct row rows[] = {
		{ "\\*", "*", true },       { "\\*", "a", false },     { "a\\?b", "a?b", true },
		{ "bs\\t*", "bst", true },  { "bs\\t*", "bs\\t", false }, { "bs\\\\t*", "bs\\t", true },
		{ "br\\[1\\]", "br[1]", true }, { "a\\", "a", false }, { "a\\", "a\\", false },
	};

	check_rows(rows, ARRAY_SIZE(rows));
}

static void pieces_match_as_one_text_from_any_offset(void **state _unused_)
{
	struct stg_wild_text t = {
		.lead = bytes_str("home/me/"),
		.path = bytes_str("src/x"),
		.slash = true,
	};
	static const struct {
		const char *pattern;
		size_t off;
		bool want;
	} rows[] = {
		{ "home/*/src/x/", 0, true },   { "home/*/src/x", 0, false },
		{ "me/src/***", 5, true },	{ "src/?/", 8, true },
		{ "**/x/***", 0, true },	{ "", 14, true },
		{ "e/s*/[w-y]/", 6, true },
	};

	assert_int_equal(stg_wild_text_n(&t), 14);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (stg_wildmatch(bytes_str(rows[i].pattern), &t, rows[i].off) != rows[i].want)
			fail_msg("pattern '%s' at %zu", rows[i].pattern, rows[i].off);
}

static void many_stars_do_not_take_for_ever(void **state _unused_)
{
	char text[4096] = { 0 };
	struct stg_wild_text t = { .path = bytes_of(text, sizeof(text)) };

	memset(text, 'a', sizeof(text));
	assert_false(stg_wildmatch(bytes_str("**a*a**a*a*a**a*a*a*a**a*a*b"), &t, 0));
	assert_true(stg_wildmatch(bytes_str("**a*a**a*a*a**a*a*a*a**a*a*a"), &t, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stars_and_marks_follow_the_rules_for_slashes),
		cmocka_unit_test(sets_have_ranges_negation_and_class_names),
		cmocka_unit_test(a_backslash_takes_the_next_byte_literally),
		cmocka_unit_test(pieces_match_as_one_text_from_any_offset),
		cmocka_unit_test(many_stars_do_not_take_for_ever),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
