/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/option_parts.h - what options.c, option_table.c and option_value.c share.
 *
 * option_table.c says what there is to say: the rows, their help, the nearest name to a
 * mistyped one.  option_value.c turns the text of one value into the value and keeps lists
 * and paths.  options.c decides who speaks: it reads argv, environment and config file and
 * applies the levels.  Nothing else includes this header; callers use stager/options.h.
 */
#include "stager/options.h"

#define STG_OPTION_ROWS \
	54 /* option_table.c does not compile with another number of rows */

enum type {
	TYPE_ACTION,     /* --help, --version: value is the enum stg_action */
	TYPE_FLAG,       /* bool */
	TYPE_NUMBER,     /* int or unsigned, within min and max, or one of words */
	TYPE_ENUM,       /* one of words */
	TYPE_STRING,     /* const char *, not empty */
	TYPE_COMMAND,    /* const char *, empty means none */
	TYPE_RATE,       /* uint64_t */
	TYPE_LIST,       /* struct stg_strlist; comma-separated in the environment */
	TYPE_CIPHER,     /* TYPE_STRING of algorithm names */
	TYPE_EXCLUDES,   /* TYPE_STRING: a known list, or a path */
	TYPE_TARGET,     /* a SPEC, kept by level until resolve() */
	TYPE_FILTER,     /* value is the enum stg_filter_kind */
	TYPE_PER_DIR,    /* -F */
	TYPE_PHASES,     /* config only: filter rules of single phases */
	TYPE_HOST,       /* environment only */
	TYPE_USER,       /* environment only */
	TYPE_SECRET,     /* environment only: const char *, borrowed */
	TYPE_RESULT_DIR, /* environment only: a report beside this file */
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

struct word {
	const char *name;
	int value;
};

struct row {
	const char *name; /* long option; NULL: none */
	const char *key;  /* config key; NULL: none */
	const char *env;  /* environment variable; NULL: none */
	const char *arg;  /* what --help calls the value; NULL: takes none */
	const char *help;
	const char *def;  /* as on the command line; NULL: zero */
	const char *only; /* the commands that take it, blank-separated; NULL: all */
	size_t off;       /* of the field in struct stg_options */
	const struct word *words;
	int min, max;
	int value;
	enum type type;
	enum group group;
	char letter;
};

extern const struct row stg_option_rows[STG_OPTION_ROWS];

/* ---- option_table.c ---- */

/* Looks for the name that a mistyped word is meant to be; begin with word set, else zero. */
struct nearest {
	const char *word; /* what was written */
	const char *best;
	size_t at;
};

void stg_option_nearest_try(struct nearest *n, const char *candidate); /* borrows it */
/* The best candidate; NULL when none resembles the word. */
const char *stg_option_nearest_get(const struct nearest *n);

/* words, separated by blanks, contain word. */
bool stg_option_has_word(const char *words, const char *word);
/* One of commands takes the option; else the program does not have it. */
bool stg_option_row_exists(const struct row *row, const struct stg_command *commands);
/* By option name, else by key, else by variable; there must be such a row. */
size_t stg_option_row_index(const char *name);
/* Append to out what --help prints for command, for all of them with NULL.  0 or -ENOMEM. */
int stg_option_put_help(const struct stg_command *commands,
			const struct stg_command *command, struct buf *out) _must_check_;

/* ---- option_value.c ---- */

/* Fills *e; returns -ENOMEM. */
int stg_option_no_memory(struct err *e);

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
int stg_option_word_value(const struct row *row, const char *text, int *ret,
			  struct err *e) _must_check_; /* one of row->words */
int stg_option_number_value(const struct row *row, const char *text, int *ret,
			    struct err *e) _must_check_; /* or one of row->words */
int stg_option_rate_value(const char *text, uint64_t *ret, struct err *e) _must_check_;
/* Append the elements of a comma-separated list, without the blanks around them. */
int stg_option_csv_add(struct stg_strlist *l, const char *text, struct err *e)
	_must_check_;
int stg_option_cipher_check(const char *text, struct err *e) _must_check_;
/* text is a path, or one of row->words. */
int stg_option_excludes_check(const struct row *row, const char *text, struct err *e)
	_must_check_;
