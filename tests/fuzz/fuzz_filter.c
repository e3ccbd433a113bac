/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules and a path, all foreign: lines of the input up to an empty one are rules, the rest is
 * the path.  Rules that name files find none, for the words that read them are left out: the
 * fuzzer is not to open what it likes.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "stager/filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* "." and "merge" read a file at once; "C" as a modifier stands for one in the home. */
static int reads_a_file(const char *rule)
{
	return *rule == '.' || !strncmp(rule, "merge", 5);
}

/* 1: the filter is still good. */
static int add(struct stg_filter *f, char *rule)
{
	struct err e = { 0 };

	if (reads_a_file(rule))
		return 1;
	if (*rule == '\x01')
		return stg_filter_add_exclude(f, rule + 1, "fuzz", &e) == 0;
	if (*rule == '\x02')
		return stg_filter_add_include(f, rule + 1, "fuzz", &e) == 0;
	return stg_filter_add_rule(f, rule, "fuzz", &e) == 0;
}

/* A path as a scan would make it: no empty, "." or ".." components. */
static int is_scanned_path(struct bytes p)
{
	size_t from = 0;

	if (!p.n || p.n > 4096 || memchr(p.p, '\0', p.n))
		return 0;
	for (size_t i = 0; i <= p.n; i++) {
		if (i < p.n && p.p[i] != '/')
			continue;
		if (i == from || (i - from == 1 && p.p[from] == '.') ||
		    (i - from == 2 && p.p[from] == '.' && p.p[from + 1] == '.'))
			return 0;
		from = i + 1;
	}
	return 1;
}

static void ask(struct stg_filter *f, struct bytes path)
{
	struct stg_filter_dir *node = NULL;
	struct err e = { 0 };

	if (stg_filter_enter(f, NULL, -1, bytes_of("", 0), &node, &e) < 0)
		return;
	for (int is_dir = 0; is_dir < 2; is_dir++) {
		const struct stg_rule *hide = stg_filter_match(node, path, is_dir, STG_SENDER, false);
		const struct stg_rule *keep = stg_filter_match(node, path, is_dir, STG_RECEIVER,
							       false);

		if (stg_filter_sends(node, path, is_dir) != !(hide && stg_rule_excludes(hide)) ||
		    stg_filter_protects(node, path, is_dir, false) !=
			    (keep && stg_rule_excludes(keep)))
			__builtin_trap();
		(void)stg_filter_protects(node, path, is_dir, true);
	}
	(void)stg_filter_may_protect_below(node, path);
	(void)stg_filter_xattr(node, path, STG_SENDER);
	stg_filter_dir_unref(node);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *rule = text, *end;
	struct stg_filter *f = NULL;
	struct err e = { 0 };
	int good = 1;

	if (!text || stg_filter_new(&f, &e) < 0) {
		free(text);
		return 0;
	}
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	while (good && (end = memchr(rule, '\n', size - (size_t)(rule - text)))) {
		*end = '\0';
		if (end == rule) {
			rule++;
			break;
		}
		good = add(f, rule);
		rule = end + 1;
	}
	if (good) {
		struct bytes path = bytes_of(rule, size - (size_t)(rule - text));

		if (is_scanned_path(path))
			ask(f, path);
		for (size_t i = 0; i < stg_filter_count(f); i++)
			if (!stg_rule_text(stg_filter_rule(f, i)) ||
			    !stg_rule_origin(stg_filter_rule(f, i)))
				__builtin_trap();
	}
	stg_filter_free(f);
	free(text);
	return 0;
}
