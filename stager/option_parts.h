/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/option_parts.h - what options.c, option_table.c and option_value.c share.
 *
 * config/option.h has the machinery.  option_table.c says what there is to say: the rows.
 * option_value.c turns the text of values of our own kinds into the value and keeps rules and
 * paths.  options.c has what the machinery asks of us, and what depends on more than one
 * option.  Nothing else includes this header; callers use stager/options.h.
 */
#include "config/option.h"
#include "stager/options.h"

#define STG_OPTION_ROWS \
	60 /* option_table.c does not compile with another number of rows */

enum type {
	TYPE_COMMAND = CFG_OWN, /* const char *, empty means none */
	TYPE_RATE,              /* uint64_t */
	TYPE_CIPHER,            /* CFG_STRING of algorithm names */
	TYPE_EXCLUDES,          /* CFG_STRING: a known list, or a path */
	TYPE_TARGET,            /* a SPEC, kept by level until resolve() */
	TYPE_FILTER,            /* value is the enum stg_filter_kind */
	TYPE_PER_DIR,           /* -F */
	TYPE_PHASES,            /* config only: filter rules of single phases */
	TYPE_WINDOWS,           /* config only: bandwidth by the time of day */
	TYPE_HOST,              /* environment only */
	TYPE_USER,              /* environment only */
	TYPE_RESULT_DIR,        /* environment only: a report beside this file */
	TYPE_PATHS,             /* CFG_LIST, comma-separated everywhere */
};

enum group {
	GROUP_GENERAL,
	GROUP_SOURCE,
	GROUP_TARGET,
	GROUP_FILTER,
	GROUP_TRANSFER,
	GROUP_PHASE,
	GROUPS,
};

/* Rows point into this. */
struct stg_option_parse {
	struct stg_options o;
	struct cfg_target spec[CFG_LEVELS];
	struct stg_filter_args argv_filters;
	struct stg_filter_args config_filters;
	unsigned per_dir; /* how often -F was given so far */
	bool no_excludes;
	int limit_mb;
	char *env_host;
	char *env_user;
};

extern const struct cfg_row stg_option_rows[STG_OPTION_ROWS];
extern const char *const stg_option_groups[GROUPS];

/* ---- option_windows.c ---- */

/*
 * The value v of the key row, in d, to bandwidth_windows.  -ERR_USAGE with the position and
 * the key.
 */
int stg_option_windows(struct cfg_parse *c, const struct cfg_jsonc *d, const struct cfg_row *row,
		       const struct cJSON *v, struct err *e) _must_check_;

/* ---- option_value.c ---- */

void stg_option_filters_fini(struct stg_filter_args *l); /* l can be used again */
/* Append copies of text and origin.  On error l may have grown and is still to be fini'd. */
int stg_option_filters_add(struct stg_filter_args *l, enum stg_filter_kind kind,
			   const char *text, const char *origin, struct err *e)
	_must_check_;
/* Append what from holds; on error, too, each rule has one owner. */
int stg_option_filters_move(struct stg_filter_args *to, struct stg_filter_args *from,
			    struct err *e) _must_check_;

/*
 * One value from its text.  -ERR_USAGE with what is allowed; the error does not say which
 * option it was.  *ret is written only on success.
 */
int stg_option_rate_value(const char *text, uint64_t *ret, struct err *e) _must_check_;
int stg_option_cipher_check(const char *text, struct err *e) _must_check_;
/* text is a path, or one of row->words. */
int stg_option_excludes_check(const struct cfg_row *row, const char *text, struct err *e)
	_must_check_;
