/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * config/option.h - options from one table: command line, environment, config file, --help.
 *
 * A program describes what it takes in rows and passes them with the struct they fill.  The
 * command line wins over the environment, that over the config file, that over the defaults;
 * of one level the last word counts, and a list given at a higher level replaces the lower
 * level's.  An option whose commands the program does not have does not exist.
 *
 * For values of its own kinds a program has hooks; config/option_parts.h is for this folder.
 */
#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"
#include "common/error.h"
#include "common/strlist.h"

struct cJSON;
struct cfg_jsonc;
struct nearest;

enum cfg_action {
	CFG_RUN,     /* command is set */
	CFG_HELP,    /* text is to be printed */
	CFG_VERSION, /* text is to be printed */
};

enum cfg_type {
	CFG_ACTION,  /* value is the enum cfg_action: --help, --version */
	CFG_FLAG,    /* bool */
	CFG_NUMBER,  /* int or unsigned, within min and max, or one of words */
	CFG_ENUM,    /* an enum: one of words */
	CFG_STRING,  /* const char *, not empty */
	CFG_LIST,    /* struct strlist; comma-separated in the environment and as default */
	CFG_SECONDS, /* unsigned milliseconds within min and max, given in seconds as 10 or 0.5 */
	CFG_SECRET,  /* environment only: const char *, borrowed from envp */
	CFG_OWN,     /* from here on the program's, which its apply() takes */
};

/* What a value looks like in the config file. */
enum cfg_shape {
	CFG_BY_TYPE, /* of the type; a string for the program's own */
	CFG_TEXT,    /* "..." */
	CFG_TEXTS,   /* "..." or an array of such */
	CFG_WHOLE,   /* 10 */
	CFG_DECIMAL, /* 0.5 */
	CFG_BOOL,    /* true */
	CFG_TREE,    /* apply_tree() takes it */
};

struct cfg_word {
	const char *name;
	int value;
};

struct cfg_row {
	const char *name; /* long option; NULL: none */
	const char *key;  /* config key, "outer.inner" for one in an object; NULL: none */
	const char *env;  /* environment variable; NULL: none */
	const char *arg;  /* what --help calls the value; NULL: takes none */
	const char *help;
	const char *def;  /* as on the command line; NULL: zero */
	const char *only; /* the commands that take it, blank-separated; NULL: all */
	size_t off;       /* of the field in what cfg_parse.base points to */
	const struct cfg_word *words; /* ends with a row without a name */
	int min, max;
	int value; /* of the program's own types: free */
	int type;  /* enum cfg_type, or the program's own */
	int group; /* index of cfg_program.groups */
	enum cfg_shape shape;
	bool may_be_empty; /* own types: an empty value means something */
	char letter;
};

/* Ends with a row without a name. */
struct cfg_command {
	const char *name;
	const char *summary;
	bool takes_args;
};

enum cfg_level {
	CFG_LEVEL_NONE,
	CFG_LEVEL_DEFAULT,
	CFG_LEVEL_CONFIG,
	CFG_LEVEL_ENV,
	CFG_LEVEL_ARGV,
	CFG_LEVELS,
};

struct cfg_parse;

struct cfg_program {
	const char *name;           /* "stager" */
	const char *config_default; /* read when it exists and --config names no other */
	const char *page;           /* the manual page of the config file: "stager.json(5)" */
	const struct cfg_row *rows; /* one of them is named "config" */
	size_t n_rows;
	const char *const *groups; /* titles for --help */
	size_t n_groups;
	int command_group; /* of the options of single commands */

	/* Hooks; each may be NULL.  Before any level is applied. */
	int (*begin)(struct cfg_parse *p, struct err *e);
	/*
	 * A value of an own type.  origin says who spoke ("FILE: line 3"); again: this level has
	 * set the option before.  The error does not say which option it was.
	 */
	int (*apply)(struct cfg_parse *p, const struct cfg_row *row, enum cfg_level level,
		     const char *text, const char *origin, bool again, struct err *e);
	/* The value of a CFG_TREE. */
	int (*apply_tree)(struct cfg_parse *p, const struct cfg_jsonc *d,
			  const struct cfg_row *row, const struct cJSON *v, struct err *e);
	int (*check_config)(struct cfg_parse *p, const struct cfg_jsonc *d, struct err *e);
	/* All levels are applied: what depends on more than one option. */
	int (*resolve)(struct cfg_parse *p, struct err *e);
};

struct cfg_setting;

struct cfg_parse {
	/* Filled by the caller, who owns all of it. */
	const struct cfg_program *program;
	const struct cfg_command *commands;
	void *base;            /* what the rows' offsets count from */
	struct strlist *owned; /* gets the strings that the fields point to */
	struct strlist *args;  /* gets what follows the command */
	struct buf *text;      /* gets what --help and --version print */

	/* Filled by cfg_parse(). */
	enum cfg_action action;
	const struct cfg_command *command; /* a row of commands */
	const char *config;                /* the file that was read, in owned; NULL: none */

	char **envp;
	struct cfg_setting *set; /* of argv */
	size_t n_set;
	enum cfg_level *level; /* of each row */
};

/*
 * Read argv (argv[0] is the program), envp and the config file into p.  -ERR_USAGE with a text
 * that names option, variable or key; -ENOMEM.  argv and envp must stay as long as p does.
 */
int cfg_parse(struct cfg_parse *p, int argc, char **argv, char **envp, struct err *e)
	_must_check_;
void cfg_parse_fini(struct cfg_parse *p); /* what cfg_parse() made in p itself */

/* ---- for hooks ---- */

/* Who spoke last for the row of that option name, else key, else variable. */
enum cfg_level cfg_level_of(const struct cfg_parse *p, const char *name);

/* How often options of this type stand on the command line. */
size_t cfg_count_argv(const struct cfg_parse *p, int type);

const char *cfg_env(const struct cfg_parse *p, const char *name); /* NULL: none, or empty */

/* Keep a copy in p->owned.  *ret is borrowed from there. */
int cfg_own(struct cfg_parse *p, const char *text, size_t n, const char **ret, struct err *e)
	_must_check_;

int cfg_no_memory(struct err *e); /* fills *e; returns -ENOMEM */

/*
 * One value from its text.  -ERR_USAGE with what is allowed; the error does not say which
 * option it was.  *ret is written only on success.
 */
int cfg_word_value(const struct cfg_row *row, const char *text, int *ret, struct err *e)
	_must_check_; /* one of row->words */
int cfg_number_value(const struct cfg_row *row, const char *text, int *ret, struct err *e)
	_must_check_; /* or one of row->words */
int cfg_seconds_value(const struct cfg_row *row, const char *text, unsigned *ret_ms,
		      struct err *e) _must_check_;

const char *cfg_kind_of(const struct cJSON *v); /* "a string": of a value, for messages */

/* -ERR_USAGE, with the place, unless v is an object; key is what the error calls it. */
int cfg_want_object(const struct cfg_jsonc *d, const char *key, const struct cJSON *v,
		    struct err *e) _must_check_;

/* Fills *e: v has a key that is no what, with near's candidate; returns -ERR_USAGE. */
int cfg_unknown_name(const struct cfg_parse *p, const struct cfg_jsonc *d,
		     const struct cJSON *v, const char *what, const struct nearest *near,
		     struct err *e);

/* Fills *e: v is not of the row's shape; returns -ERR_USAGE. */
int cfg_wrong_shape(const struct cfg_row *row, const struct cJSON *v, struct err *e);
