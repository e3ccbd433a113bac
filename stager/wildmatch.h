/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/wildmatch.h - rsync's wildcards over bytes.
 *
 *   *      any run without a slash, empty too, leading dots too
 *   **     any run, slashes too (as do three stars and more)
 *   ?      one byte that is no slash
 *   [set]  one byte that is no slash: ranges, ! or ^ to negate, [:class:] in ASCII,
 *          backslash takes the next byte literally; a class name that does not exist, or a
 *          set without its end, makes the whole match fail
 *   \x     the byte x; a backslash at the end matches nothing
 */
#include <stdbool.h>
#include <stddef.h>

#include "common/bytes.h"

/*
 * What is matched, as if it were one run of bytes: lead, then path, then a slash when slash
 * is set.  The pieces spare the caller a copy for every file.
 */
struct stg_wild_text {
	struct bytes lead;
	struct bytes path;
	bool slash;
};

static inline size_t stg_wild_text_n(const struct stg_wild_text *t)
{
	return t->lead.n + t->path.n + t->slash;
}

static inline uint8_t stg_wild_text_at(const struct stg_wild_text *t, size_t i)
{
	if (i >= t->lead.n) {
		i -= t->lead.n;
		return i < t->path.n ? t->path.p[i] : '/';
	}
	return t->lead.p[i];
}

/* True when pattern matches all of t from byte off on; off is at most t's length. */
bool stg_wildmatch(struct bytes pattern, const struct stg_wild_text *t, size_t off);
