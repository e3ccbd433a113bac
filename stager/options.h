/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/options.h - everything an operator can say: command line, environment, config file.
 *
 * One table (option_table.c) describes every option and yields the argv parser, --help, the
 * environment names and the config keys.  The command line wins over the environment, that
 * over the config file, that over the defaults.  A list given at a higher level replaces the
 * lower level's; filter rules alone add up: the command line's come first, then the file's,
 * so that by "first match decides" the command line still wins.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/error.h"
#include "common/log.h"
#include "common/strlist.h"
#include "config/target.h"
#include "config/option.h"
#include "stager/bwwindow.h"
#include "stager/progress.h"
#include "stager/report.h"

#define STG_CONFIG_DEFAULT "/etc/stager/stager.json"
#define STG_STATE_DIR_DEFAULT "/var/lib/stager"
#define STG_REPORT_NAME "rsync_execution.json"
#define STG_SESSIONS_MAX 64
#define STG_PATHS_MAX 4096 /* --path, after dropping nested ones too */

struct stg_options;

/* A row of the command table; the table ends with a row without a name. */
struct stg_command {
	const char *name;
	const char *summary; /* one line for --help */
	int (*run)(struct stg_options *o, struct err *e);
	bool takes_args; /* what follows the command goes into args */
};

enum stg_filter_kind {
	STG_FILTER_EXCLUDE,      /* text is a pattern */
	STG_FILTER_INCLUDE,
	STG_FILTER_EXCLUDE_FROM, /* text is a file name, "-" for standard input */
	STG_FILTER_INCLUDE_FROM,
	STG_FILTER_RULE,         /* text is a rule in rsync's language; -F comes as one, too */
};

struct stg_filter_arg {
	enum stg_filter_kind kind;
	char *text;
	char *origin; /* for explanations: "command line", or "FILE: line N" */
};

struct stg_filter_args {
	struct stg_filter_arg *v; /* in the order in which they apply */
	size_t n;
	size_t cap;
};

enum stg_host_key {
	STG_HOST_KEY_STRICT,
	STG_HOST_KEY_ACCEPT_NEW,
};

enum stg_resume_mode {
	STG_RESUME_AUTO,
	STG_RESUME_MANUAL,
};

enum stg_verify_method {
	STG_VERIFY_QUICK, /* type, size, times and all other metadata */
	STG_VERIFY_HASH,  /* and content and holes */
};

#define STG_VERIFY_EXCLUDES_MAX 30

enum stg_report_format {
	STG_REPORT_TEXT,
};

#define STG_SESSIONS_AUTO 0
#define STG_COMPRESS_AUTO (-1)
#define STG_COMPRESS_OFF 0
#define STG_MAX_DELETE_NONE (-1)

/* Strings are owned by this struct unless said otherwise; NULL means "not given". */
struct stg_options {
	enum cfg_action action;
	const struct stg_command *command; /* a row of the caller's table */
	struct strlist args;
	struct buf text;

	const char *config; /* the file that was read; NULL: none */
	const char *state_dir;
	const char *report;
	enum stg_progress_mode progress;
	enum log_level log_level;
	const char *log_file;

	const char *source;       /* absolute */
	struct strlist paths; /* relative to source, see stg_paths_normalise() */

	struct cfg_target target; /* host NULL: none; else root and port are set */
	const char *identity;
	const char *known_hosts;
	enum stg_host_key host_key;
	const char *password_file;
	const char *password_env; /* a secret, borrowed from envp; not beside password_file */
	const char *agent_socket; /* SSH_AUTH_SOCK, borrowed from envp */
	const char *cipher;
	const char *remote_receiver;
	unsigned connect_timeout_s;
	unsigned timeout_s;       /* without a sign of life from the target */
	unsigned phase_timeout_s; /* 0: none */

	struct stg_filter_args filters;
	struct stg_filter_args phase_filters[STG_PHASE_KINDS]; /* before those, in one phase */
	const char *home;      /* HOME and CVSIGNORE, for "-C" rules; borrowed from envp */
	const char *cvsignore;
	/*
	 * The standard excludes: a list's name, or a path when it has a '/'; NULL for none, or
	 * when exclude_patterns holds them instead.
	 */
	const char *excludes;
	struct strlist exclude_patterns;

	bool no_delete;
	int max_delete; /* entries in a phase, or STG_MAX_DELETE_NONE */
	bool mkpath;
	uint64_t bwlimit_bytes; /* a second, outside of these windows; 0: no limit */
	struct stg_bwwindow *bandwidth_windows; /* owned; no two overlap */
	size_t bandwidth_windows_n;
	unsigned sessions;      /* or STG_SESSIONS_AUTO */
	int compress;           /* zstd level, or STG_COMPRESS_AUTO, STG_COMPRESS_OFF */
	enum stg_resume_mode resume_mode;

	unsigned rounds;
	const char *cutover_stop_cmd;
	const char *cutover_start_cmd;
	const char *target_finalize_cmd;
	unsigned hook_timeout_s;

	enum stg_verify_method method;
	bool repair;
	bool only_inconsistent;
	struct strlist verify_include; /* relative to source, as paths; empty: everything */
	struct strlist verify_exclude;

	bool list;
	bool list0;
	bool list_deletes;
	bool lint;
	bool json;
	enum stg_report_format format;

	struct strlist owned; /* what the const char * fields point to */
};

/*
 * Fill *ret from argv (argv[0] is the program), envp and the config file; argv and envp need
 * not stay, but for RSYNC_TARGET_PASSWORD, SSH_AUTH_SOCK, HOME and CVSIGNORE.  commands must outlive *ret.  -ERR_USAGE with a
 * text that names option, variable or key.  *ret is the caller's to fini, on success only.
 */
int stg_options_parse(int argc, char **argv, char **envp, const struct stg_command *commands,
		      struct stg_options *ret, struct err *e) _must_check_;
void stg_options_fini(struct stg_options *o); /* NULL is fine */

/*
 * The sub-trees of source that paths name, in their order: relative, without empty and '.'
 * components, "." for the source itself, nothing twice and nothing below another one.  An
 * absolute path must lie below source.  -ERR_USAGE: it does not, or there is a '..'.
 */
int stg_paths_normalise(const char *source, const struct strlist *paths,
			struct strlist *ret, struct err *e) _must_check_;
