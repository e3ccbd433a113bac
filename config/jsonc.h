/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * config/jsonc.h - JSON with comments, read strictly, with positions for error messages.
 *
 * RFC 8259 plus line comments and block comments.  cJSON builds the tree; it is lenient and
 * does not say what it expected, so the text is checked here first.  Duplicate keys, bad
 * UTF-8, \u0000 and anything after the value are refused.
 */
#include "common/bytes.h"
#include "common/error.h"

#define CFG_JSONC_MAX_BYTES (1u << 20)
#define CFG_JSONC_MAX_DEPTH 32

struct cJSON;     /* cjson/cJSON.h */
struct cfg_jsonc; /* a parsed text */

/* Both count from 1; a column is a character, not a byte. */
struct cfg_jsonc_pos {
	unsigned line;
	unsigned column;
};

/*
 * Parse text, which is not kept; name is what errors call it.  -ERR_USAGE: the text is not
 * acceptable, said as "name: line L, column C: ...".
 */
int cfg_jsonc_parse(const char *name, struct bytes text, struct cfg_jsonc **ret,
		    struct err *e) _must_check_;

/* The same for a file.  Also -errno when it cannot be read, with -ENOENT left to act on. */
int cfg_jsonc_read(int dirfd, const char *path, struct cfg_jsonc **ret, struct err *e)
	_must_check_;

void cfg_jsonc_free(struct cfg_jsonc *d); /* NULL is fine */

static inline void cfg_jsonc_freep(struct cfg_jsonc **d)
{
	cfg_jsonc_free(*d);
}

/* The tree, borrowed from d. */
const struct cJSON *cfg_jsonc_root(const struct cfg_jsonc *d);

/* Where a value of d's tree begins, and where the key does that it belongs to (else itself). */
struct cfg_jsonc_pos cfg_jsonc_value_pos(const struct cfg_jsonc *d, const struct cJSON *v);
struct cfg_jsonc_pos cfg_jsonc_key_pos(const struct cfg_jsonc *d, const struct cJSON *v);

/* Put "name: line L, column C: " of a value in front of e's text; returns code. */
int cfg_jsonc_ctx(const struct cfg_jsonc *d, const struct cJSON *v, int code, struct err *e);
