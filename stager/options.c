/* SPDX-License-Identifier: Apache-2.0 */
/*
 * argv is read first, into a list of settings: it names the config file, and its mistakes come
 * before any file's.  Then the levels are applied from the weakest to the strongest, each
 * over the last; p->level remembers who spoke last, for the few options that depend on
 * each other (resolve()).
 */
#include "stager/options.h"

#include <assert.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "stager/jsonc.h"

#define HELP_COLUMN 30
#define HELP_WIDTH 80
#define WORD_MAX 64 /* longest word that a suggestion is looked for */
#define BWLIMIT_MIN 1024u
#define PORT_DEFAULT 22
#define DAY_S 86400

enum level {
	LEVEL_NONE,
	LEVEL_DEFAULT,
	LEVEL_CONFIG,
	LEVEL_ENV,
	LEVEL_ARGV,
	LEVELS,
};

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

static const char *const group_titles[GROUPS] = {
	[GROUP_GENERAL] = "General",
	[GROUP_SOURCE] = "Source",
	[GROUP_TARGET] = "Target and connection",
	[GROUP_FILTER] = "What is left out (rsync's rules, in the order given)",
	[GROUP_TRANSFER] = "Transfer",
	[GROUP_PHASE] = "Single commands",
};

struct word {
	const char *name;
	int value;
};

static const struct word host_key_words[] = {
	{ "strict", STG_HOST_KEY_STRICT },
	{ "accept-new", STG_HOST_KEY_ACCEPT_NEW },
	{ NULL, 0 },
};
static const struct word resume_words[] = {
	{ "auto", STG_RESUME_AUTO },
	{ "manual", STG_RESUME_MANUAL },
	{ NULL, 0 },
};
static const struct word progress_words[] = {
	{ "auto", STG_PROGRESS_AUTO },   { "bar", STG_PROGRESS_BAR },
	{ "plain", STG_PROGRESS_PLAIN }, { "json", STG_PROGRESS_JSON },
	{ "none", STG_PROGRESS_NONE },   { NULL, 0 },
};
static const struct word log_level_words[] = {
	{ "error", LOG_ERROR },
	{ "info", LOG_INFO },
	{ "debug", LOG_DEBUG },
	{ NULL, 0 },
};
static const struct word format_words[] = {
	{ "text", STG_REPORT_TEXT },
	{ NULL, 0 },
};
static const struct word sessions_words[] = {
	{ "auto", STG_SESSIONS_AUTO },
	{ NULL, 0 },
};
static const struct word compress_words[] = {
	{ "auto", STG_COMPRESS_AUTO },
	{ "off", STG_COMPRESS_OFF },
	{ NULL, 0 },
};
static const struct word max_delete_words[] = {
	{ "none", STG_MAX_DELETE_NONE },
	{ NULL, 0 },
};
static const struct word phase_words[] = {
	{ "full", STG_PHASE_FULL },
	{ "incremental", STG_PHASE_INCREMENTAL },
	{ "cutover", STG_PHASE_CUTOVER },
	{ NULL, 0 },
};
/* Lists that packaging/ installs below share/stager/excludes/. */
static const struct word excludes_words[] = {
	{ "default", 0 },
	{ "go2tencentcloud", 0 },
	{ NULL, 0 },
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

#define FIELD(f) .off = offsetof(struct stg_options, f)

/* clang-format off */
static const struct row rows[] = {
	{ .name = "config", .arg = "FILE", .type = TYPE_STRING, FIELD(config),
	  .help = "config file (default " STG_CONFIG_DEFAULT ", where there is one)" },
	{ .name = "state-dir", .key = "state_dir", .arg = "DIR", .type = TYPE_STRING,
	  FIELD(state_dir), .def = STG_STATE_DIR_DEFAULT, .help = "catalog, lock and audit log" },
	{ .name = "report", .key = "report", .arg = "FILE", .type = TYPE_STRING, FIELD(report),
	  .help = "report (default out/" STG_REPORT_NAME " below the state directory)" },
	{ .env = "RESULT_PATH", .type = TYPE_RESULT_DIR, FIELD(report),
	  .help = "a result file; the report is written beside it" },
	{ .name = "progress", .key = "progress", .arg = "auto|bar|plain|json|none",
	  .type = TYPE_ENUM, .words = progress_words, FIELD(progress), .def = "auto",
	  .help = "auto: a bar on a terminal, else plain lines; json: one object a line" },
	{ .name = "log-level", .key = "log_level", .arg = "error|info|debug", .type = TYPE_ENUM,
	  .words = log_level_words, FIELD(log_level), .def = "info",
	  .help = "what is worth a line in the log" },
	{ .name = "log-file", .key = "log_file", .arg = "FILE", .type = TYPE_STRING,
	  FIELD(log_file), .help = "append the log to FILE (default: standard error)" },
	{ .name = "help", .type = TYPE_ACTION, .value = STG_ACTION_HELP,
	  .help = "show this text; after a command, what it takes" },
	{ .name = "version", .type = TYPE_ACTION, .value = STG_ACTION_VERSION,
	  .help = "show the version" },

	{ .name = "source", .key = "source", .arg = "DIR", .type = TYPE_STRING,
	  .group = GROUP_SOURCE, FIELD(source), .def = "/",
	  .help = "source root; its contents land in the target root" },
	{ .name = "path", .key = "path", .env = "RSYNC_SOURCE_PATHS", .arg = "DIR",
	  .type = TYPE_LIST, .group = GROUP_SOURCE, FIELD(paths),
	  .help = "sub-tree of the source to sync; may be repeated (default: the root and "
		  "every local data filesystem mounted below it)" },

	{ .name = "target", .key = "target", .arg = "SPEC", .type = TYPE_TARGET,
	  .group = GROUP_TARGET,
	  .help = "[user@]host:/root or ssh://[user@]host[:port]/root" },
	{ .env = "RSYNC_TARGET_HOST", .type = TYPE_HOST, .group = GROUP_TARGET,
	  .help = "host of the target; its root is / unless the config's target has another" },
	{ .env = "RSYNC_TARGET_USER", .type = TYPE_USER, .group = GROUP_TARGET,
	  .help = "user on the target" },
	{ .env = "RSYNC_TARGET_PASSWORD", .type = TYPE_SECRET, .group = GROUP_TARGET,
	  FIELD(password_env), .help = "password of that user" },
	{ .name = "port", .key = "port", .env = "RSYNC_TARGET_PORT", .arg = "N",
	  .type = TYPE_NUMBER, .min = 1, .max = 65535, .group = GROUP_TARGET,
	  FIELD(target.port), .def = "22", .help = "SSH port" },
	{ .name = "identity", .key = "identity", .arg = "FILE", .type = TYPE_STRING,
	  .group = GROUP_TARGET, FIELD(identity), .help = "private key to log in with" },
	{ .name = "known-hosts", .key = "known_hosts", .arg = "FILE", .type = TYPE_STRING,
	  .group = GROUP_TARGET, FIELD(known_hosts), .help = "host keys that are trusted" },
	{ .name = "host-key", .key = "host_key", .arg = "strict|accept-new", .type = TYPE_ENUM,
	  .words = host_key_words, .group = GROUP_TARGET, FIELD(host_key), .def = "strict",
	  .help = "what to do with an unknown host key: refuse, or record and go on" },
	{ .name = "password-file", .key = "password_file", .arg = "FILE", .type = TYPE_STRING,
	  .group = GROUP_TARGET, FIELD(password_file),
	  .help = "file (mode 0600) with the password in its first line" },
	{ .name = "cipher", .key = "cipher", .arg = "LIST", .type = TYPE_CIPHER,
	  .group = GROUP_TARGET, FIELD(cipher), .help = "SSH ciphers, comma-separated, best first" },
	{ .name = "remote-receiver", .key = "remote_receiver", .arg = "PATH", .type = TYPE_STRING,
	  .group = GROUP_TARGET, FIELD(remote_receiver),
	  .help = "receiver that is installed on the target already" },
	{ .name = "connect-timeout", .key = "connect_timeout", .arg = "SECONDS",
	  .type = TYPE_NUMBER, .min = 1, .max = DAY_S, .group = GROUP_TARGET,
	  FIELD(connect_timeout_s), .def = "30", .help = "to reach the target" },
	{ .name = "timeout", .key = "timeout", .arg = "SECONDS", .type = TYPE_NUMBER, .min = 1,
	  .max = DAY_S, .group = GROUP_TARGET, FIELD(timeout_s), .def = "60",
	  .help = "without a sign of life from the target" },
	{ .name = "phase-timeout", .key = "phase_timeout", .env = "RSYNC_TIMEOUT_SEC",
	  .arg = "SECONDS", .type = TYPE_NUMBER, .min = 0, .max = 365 * DAY_S,
	  .group = GROUP_TARGET, FIELD(phase_timeout_s), .def = "0",
	  .help = "for a whole phase; 0: none" },

	{ .name = "exclude", .key = "exclude", .arg = "PATTERN", .type = TYPE_FILTER,
	  .value = STG_FILTER_EXCLUDE, .group = GROUP_FILTER, .help = "leave out what matches" },
	{ .name = "include", .key = "include", .arg = "PATTERN", .type = TYPE_FILTER,
	  .value = STG_FILTER_INCLUDE, .group = GROUP_FILTER, .help = "do not leave it out" },
	{ .name = "exclude-from", .key = "exclude_from", .arg = "FILE", .type = TYPE_FILTER,
	  .value = STG_FILTER_EXCLUDE_FROM, .group = GROUP_FILTER,
	  .help = "exclude patterns, one a line" },
	{ .name = "include-from", .key = "include_from", .arg = "FILE", .type = TYPE_FILTER,
	  .value = STG_FILTER_INCLUDE_FROM, .group = GROUP_FILTER,
	  .help = "include patterns, one a line" },
	{ .name = "filter", .key = "filter", .arg = "RULE", .type = TYPE_FILTER,
	  .value = STG_FILTER_RULE, .group = GROUP_FILTER, .help = "any rule of rsync's language" },
	{ .key = "phases", .type = TYPE_PHASES, .words = phase_words, .group = GROUP_FILTER,
	  .help = "filter rules of single phases" },
	{ .letter = 'F', .key = "per_dir_filter", .type = TYPE_PER_DIR, .min = 0, .max = 2,
	  .group = GROUP_FILTER,
	  .help = "read .rsync-filter in each directory; twice: leave these files out, too" },
	{ .name = "excludes", .key = "excludes", .arg = "NAME-or-FILE", .type = TYPE_EXCLUDES,
	  .words = excludes_words, .group = GROUP_FILTER, FIELD(excludes), .def = "default",
	  .help = "standard list, after all other rules: default, go2tencentcloud or a path" },
	{ .env = "RSYNC_EXCLUDES", .type = TYPE_LIST, .group = GROUP_FILTER,
	  FIELD(exclude_patterns), .help = "patterns in place of the standard list" },
	{ .name = "no-default-excludes", .key = "no_default_excludes", .type = TYPE_FLAG,
	  .group = GROUP_FILTER, .help = "no standard list" },

	{ .name = "no-delete", .key = "no_delete", .type = TYPE_FLAG, .group = GROUP_TRANSFER,
	  FIELD(no_delete), .help = "keep extra files on the target" },
	{ .name = "max-delete", .key = "max_delete", .arg = "N|none", .type = TYPE_NUMBER,
	  .min = 0, .max = INT_MAX, .words = max_delete_words, .group = GROUP_TRANSFER,
	  FIELD(max_delete), .def = "none",
	  .help = "entries that a phase may delete; with more, exit status 25" },
	{ .name = "mkpath", .key = "mkpath", .type = TYPE_FLAG, .group = GROUP_TRANSFER,
	  FIELD(mkpath), .help = "create missing parents of the target root" },
	{ .name = "bwlimit", .key = "bwlimit", .arg = "RATE", .type = TYPE_RATE,
	  .group = GROUP_TRANSFER, FIELD(bwlimit_bytes),
	  .help = "bytes per second over all sessions, like 20M or 800K; 0: no limit" },
	{ .key = "bandwidth_limit_mb", .type = TYPE_NUMBER, .min = 1, .max = 10240,
	  .group = GROUP_TRANSFER, .off = SIZE_MAX, .help = "the same in units of 1000000 bytes" },
	{ .name = "sessions", .key = "sessions", .arg = "N|auto", .type = TYPE_NUMBER, .min = 1,
	  .max = STG_SESSIONS_MAX, .words = sessions_words, .group = GROUP_TRANSFER,
	  FIELD(sessions), .def = "auto", .help = "SSH sessions at a time" },
	{ .name = "compress", .key = "compress", .arg = "auto|off|1..19", .type = TYPE_NUMBER,
	  .min = 1, .max = 19, .words = compress_words, .group = GROUP_TRANSFER, FIELD(compress),
	  .def = "auto", .help = "zstd level" },
	{ .name = "resume-mode", .key = "resume_mode", .arg = "auto|manual", .type = TYPE_ENUM,
	  .words = resume_words, .group = GROUP_TRANSFER, FIELD(resume_mode), .def = "auto",
	  .help = "after a lost connection: reconnect, or stop with exit status 30" },

	{ .name = "rounds", .key = "rounds", .env = "RSYNC_INCREMENTAL_ROUNDS", .arg = "N",
	  .type = TYPE_NUMBER, .min = 0, .max = 1000, .only = "run", .group = GROUP_PHASE,
	  FIELD(rounds), .def = "1",
	  .help = "incremental syncs between full and cutover; 0: stop after full" },
	{ .name = "cutover-stop-cmd", .key = "cutover_stop_cmd", .env = "RSYNC_CUTOVER_STOP_CMD",
	  .arg = "CMD", .type = TYPE_COMMAND, .only = "cutover run", .group = GROUP_PHASE,
	  FIELD(cutover_stop_cmd), .help = "stops the services before the final sync" },
	{ .name = "cutover-start-cmd", .key = "cutover_start_cmd",
	  .env = "RSYNC_CUTOVER_START_CMD", .arg = "CMD", .type = TYPE_COMMAND,
	  .only = "cutover run", .group = GROUP_PHASE, FIELD(cutover_start_cmd),
	  .help = "starts the services after it" },
	{ .name = "target-finalize-cmd", .key = "target_finalize_cmd",
	  .env = "RSYNC_TARGET_FINALIZE_CMD", .arg = "CMD", .type = TYPE_COMMAND,
	  .only = "cutover run", .group = GROUP_PHASE, FIELD(target_finalize_cmd),
	  .help = "runs on the target after the final sync" },
	{ .name = "hook-timeout", .key = "hook_timeout", .arg = "SECONDS", .type = TYPE_NUMBER,
	  .min = 1, .max = 7 * DAY_S, .only = "cutover run", .group = GROUP_PHASE,
	  FIELD(hook_timeout_s), .def = "300", .help = "for each of these commands" },
	{ .name = "list", .type = TYPE_FLAG, .only = "plan", .group = GROUP_PHASE, FIELD(list),
	  .help = "print the selected paths, one a line" },
	{ .name = "list0", .type = TYPE_FLAG, .only = "plan", .group = GROUP_PHASE, FIELD(list0),
	  .help = "the same, each ended by a NUL" },
	{ .name = "list-deletes", .type = TYPE_FLAG, .only = "plan", .group = GROUP_PHASE,
	  FIELD(list_deletes), .help = "print \"deleting PATH\" for what would be deleted" },
	{ .name = "lint", .type = TYPE_FLAG, .only = "explain", .group = GROUP_PHASE, FIELD(lint),
	  .help = "name rules that cannot do what they say; exit status 1 when there are any" },
	{ .name = "json", .type = TYPE_FLAG, .only = "status", .group = GROUP_PHASE, FIELD(json),
	  .help = "for programs" },
	{ .name = "format", .arg = "text", .type = TYPE_ENUM, .words = format_words,
	  .only = "report", .group = GROUP_PHASE, FIELD(format), .def = "text",
	  .help = "how to render the report" },
};
/* clang-format on */

/* One setting of argv. */
struct setting {
	const struct row *row;
	const char *value; /* NULL: takes none */
};

struct parse {
	const struct stg_command *commands;
	struct stg_options *o;
	struct setting *set;
	size_t n_set;
	enum level level[ARRAY_SIZE(rows)];
	struct stg_target spec[LEVELS];
	struct stg_filter_args argv_filters;
	struct stg_filter_args config_filters;
	unsigned per_dir; /* how often -F was given so far */
	bool no_excludes;
	int limit_mb;
	char *env_host;
	char *env_user;
};

static int no_memory(struct err *e)
{
	return err_sysn(e, -ENOMEM, "options");
}

/* ---- lists ---- */

int stg_strlist_add(struct stg_strlist *l, const char *s, size_t n)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 8;
		char **v = reallocarray(l->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		l->v = v;
		l->cap = cap;
	}
	l->v[l->n] = strndup(s, n);
	if (!l->v[l->n])
		return -ENOMEM;
	l->n++;
	return 0;
}

void stg_strlist_fini(struct stg_strlist *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
	*l = (struct stg_strlist){ 0 };
}

static void filters_fini(struct stg_filter_args *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->v[i].text);
		free(l->v[i].origin);
	}
	free(l->v);
	*l = (struct stg_filter_args){ 0 };
}

/* Makes room for one more; the caller fills it. */
static int filters_grow(struct stg_filter_args *l)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 8;
		struct stg_filter_arg *v = reallocarray(l->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		l->v = v;
		l->cap = cap;
	}
	return 0;
}

static int filters_add(struct stg_filter_args *l, enum stg_filter_kind kind,
		       const char *text, const char *origin, struct err *e)
{
	struct stg_filter_arg *a;

	if (filters_grow(l) < 0)
		return no_memory(e);
	a = &l->v[l->n];
	a->kind = kind;
	a->text = strdup(text);
	a->origin = strdup(origin);
	l->n++;
	return a->text && a->origin ? 0 : no_memory(e);
}

static int filters_move(struct stg_filter_args *to, struct stg_filter_args *from,
			struct err *e)
{
	for (size_t i = 0; i < from->n; i++) {
		if (filters_grow(to) < 0)
			return no_memory(e);
		to->v[to->n++] = from->v[i];
		from->v[i] = (struct stg_filter_arg){ 0 };
	}
	return 0;
}

/* ---- suggestions ---- */

/* Edit distance, a swap of neighbours being one edit; large for words over WORD_MAX. */
static size_t distance(const char *a, const char *b)
{
	size_t d[WORD_MAX + 1][WORD_MAX + 1];
	size_t n = strlen(a), m = strlen(b);

	if (n > WORD_MAX || m > WORD_MAX)
		return SIZE_MAX;
	for (size_t i = 0; i <= n; i++)
		d[i][0] = i;
	for (size_t k = 0; k <= m; k++)
		d[0][k] = k;
	for (size_t i = 1; i <= n; i++) {
		for (size_t k = 1; k <= m; k++) {
			size_t best = d[i - 1][k - 1] + (a[i - 1] != b[k - 1]);

			best = MIN(best, MIN(d[i - 1][k], d[i][k - 1]) + 1);
			if (i > 1 && k > 1 && a[i - 1] == b[k - 2] &&
			    a[i - 2] == b[k - 1])
				best = MIN(best, d[i - 2][k - 2] + 1);
			d[i][k] = best;
		}
	}
	return d[n][m];
}

struct nearest {
	const char *word; /* what was written */
	const char *best;
	size_t at;
};

static void nearest_try(struct nearest *n, const char *candidate)
{
	size_t at = distance(n->word, candidate);

	if (!n->best || at < n->at) {
		n->best = candidate;
		n->at = at;
	}
}

/* NULL when nothing resembles the word: half of its characters would have to change. */
static const char *nearest_get(const struct nearest *n)
{
	return n->best && n->at <= (strlen(n->word) + 1) / 2 ? n->best : NULL;
}

/* ---- values ---- */

static bool has_word(const char *words, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = words; *p;) {
		size_t len = strcspn(p, " ");

		if (len == n && !memcmp(p, word, n))
			return true;
		p += len;
		p += strspn(p, " ");
	}
	return false;
}

static const struct stg_command *find_command(const struct stg_command *commands,
					      const char *name)
{
	for (const struct stg_command *c = commands; c->name; c++)
		if (!strcmp(c->name, name))
			return c;
	return NULL;
}

/* An option of commands that this program does not have does not exist. */
static bool row_exists(const struct row *row, const struct stg_command *commands)
{
	if (!row->only)
		return true;
	for (const struct stg_command *c = commands; c->name; c++)
		if (has_word(row->only, c->name))
			return true;
	return false;
}

static size_t row_index(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if ((rows[i].name && !strcmp(rows[i].name, name)) ||
		    (!rows[i].name && rows[i].key && !strcmp(rows[i].key, name)) ||
		    (!rows[i].name && rows[i].env && !strcmp(rows[i].env, name)))
			return i;
	assert(false);
	return 0;
}

static enum level level_of(const struct parse *p, const char *name)
{
	return p->level[row_index(name)];
}

static int own(struct stg_options *o, const char *text, size_t n, const char **ret,
	       struct err *e)
{
	if (stg_strlist_add(&o->owned, text, n) < 0)
		return no_memory(e);
	*ret = o->owned.v[o->owned.n - 1];
	return 0;
}

static int word_value(const struct row *row, const char *text, int *ret, struct err *e)
{
	struct nearest near = { .word = text };
	_cleanup_(buf_fini) struct buf list = BUF_INIT;
	char name[TEXT_NAME_MAX];
	const char *all, *best;

	for (const struct word *w = row->words; w->name; w++) {
		if (!strcmp(w->name, text)) {
			*ret = w->value;
			return 0;
		}
		nearest_try(&near, w->name);
		if (buf_printf(&list, "%s%s", w == row->words ? "" : ", ", w->name) < 0)
			return no_memory(e);
	}
	if (row->type == TYPE_NUMBER &&
	    buf_printf(&list, ", %d to %d", row->min, row->max) < 0)
		return no_memory(e);
	all = buf_cstr(&list);
	if (!all)
		return no_memory(e);
	best = nearest_get(&near);
	return err_set(e, -ERR_USAGE, "'%s' is not one of: %s%s%s%s",
		       text_name(name, bytes_str(text)), all,
		       best ? " (did you mean '" : "", best ? best : "",
		       best ? "'?)" : "");
}

static int number_value(const struct row *row, const char *text, int *ret, struct err *e)
{
	const char *digits = text + (*text == '-');
	char name[TEXT_NAME_MAX];
	long v;

	if (!*digits || strspn(digits, "0123456789") != strlen(digits)) {
		if (row->words)
			return word_value(row, text, ret, e);
		return err_set(e, -ERR_USAGE,
			       "'%s' is not a whole number: allowed is %d to %d",
			       text_name(name, bytes_str(text)), row->min, row->max);
	}
	errno = 0;
	v = strtol(text, NULL, 10);
	if (errno || v < row->min || v > row->max)
		return err_set(
			e, -ERR_USAGE, "%s is out of range: allowed is %d to %d%s%s",
			text_name(name, bytes_str(text)), row->min, row->max,
			row->words ? ", or " : "", row->words ? row->words->name : "");
	*ret = (int)v;
	return 0;
}

static int rate_value(const char *text, uint64_t *ret, struct err *e)
{
	uint64_t v;
	int r = text_parse_size(text, &v, e);

	if (r < 0)
		return r;
	if (v && v < BWLIMIT_MIN)
		return err_set(
			e, -ERR_USAGE,
			"%llu bytes per second is out of range: allowed is 1K and more, or "
			"0 for no limit (a bare number counts bytes, so write 800K)",
			(unsigned long long)v);
	*ret = v;
	return 0;
}

/* Elements of a comma-separated list, without the blanks around them. */
static int csv_add(struct stg_strlist *l, const char *text, struct err *e)
{
	for (const char *p = text; *p;) {
		size_t len = strcspn(p, ","), skip = strspn(p, " \t\n");
		size_t n = len > skip ? len - skip : 0;

		while (n && strchr(" \t\n", p[skip + n - 1]))
			n--;
		if (n && stg_strlist_add(l, p + skip, n) < 0)
			return no_memory(e);
		p += len;
		p += *p == ',';
	}
	return 0;
}

static int cipher_check(const char *text, struct err *e)
{
	for (const char *p = text; *p; p++)
		if (!((*p >= '0' && *p <= '9') ||
		      ((*p | 0x20) >= 'a' && (*p | 0x20) <= 'z') || strchr("@.,_+-", *p)))
			return err_set(
				e, -ERR_USAGE,
				"expected cipher names with commas between them, like "
				"aes128-ctr,aes256-ctr");
	return 0;
}

static int excludes_check(const struct row *row, const char *text, struct err *e)
{
	int unused, r;

	if (strchr(text, '/'))
		return 0;
	r = word_value(row, text, &unused, e);
	if (r == -ERR_USAGE)
		return err_ctx(e, r,
			       "no such list (a file is named with a '/', ./mine.list)");
	return r;
}

/* -F once reads .rsync-filter in each directory, twice hides these files; more adds nothing. */
static int per_dir_add(struct parse *p, struct stg_filter_args *to, const char *origin,
		       struct err *e)
{
	static const char *const rules[] = { ": /.rsync-filter", "- .rsync-filter" };

	if (p->per_dir >= ARRAY_SIZE(rules))
		return 0;
	return filters_add(to, STG_FILTER_RULE, rules[p->per_dir++], origin, e);
}

static void *field_of(struct parse *p, const struct row *row)
{
	if (row->off == SIZE_MAX)
		return &p->limit_mb;
	if (row->type == TYPE_FLAG && !strcmp(row->name, "no-default-excludes"))
		return &p->no_excludes;
	return (char *)p->o + row->off;
}

/* Apply one value; text is NULL for what takes none.  The error does not say who asked. */
static int apply(struct parse *p, const struct row *row, enum level level,
		 const char *text, const char *origin, struct err *e)
{
	enum level *last = &p->level[row - rows];
	void *field = field_of(p, row);
	bool again = *last == level;
	int v = 0, r = 0;

	*last = level;
	if (text && !*text && row->type != TYPE_COMMAND)
		return err_set(e, -ERR_USAGE, "the value is empty");
	switch (row->type) {
	case TYPE_ACTION:
		p->o->action = (enum stg_action)row->value;
		return 0;
	case TYPE_FLAG:
		*(bool *)field = !text || !strcmp(text, "true");
		return 0;
	case TYPE_NUMBER:
		r = number_value(row, text, &v, e);
		if (r == 0)
			*(int *)field = v;
		return r;
	case TYPE_ENUM:
		r = word_value(row, text, &v, e);
		if (r == 0)
			*(unsigned *)field = (unsigned)v;
		return r;
	case TYPE_CIPHER:
		r = cipher_check(text, e);
		break;
	case TYPE_EXCLUDES:
		r = excludes_check(row, text, e);
		break;
	case TYPE_STRING:
		break;
	case TYPE_COMMAND:
		if (*text)
			break;
		*(const char **)field = NULL;
		return 0;
	case TYPE_RATE:
		return rate_value(text, field, e);
	case TYPE_LIST:
		if (!again)
			stg_strlist_fini(field);
		if (level == LEVEL_ENV)
			return csv_add(field, text, e);
		return stg_strlist_add(field, text, strlen(text)) < 0 ? no_memory(e) : 0;
	case TYPE_TARGET:
		stg_target_fini(&p->spec[level]);
		return stg_target_parse(text, &p->spec[level], e);
	case TYPE_FILTER:
		return filters_add(level == LEVEL_ARGV ? &p->argv_filters
						       : &p->config_filters,
				   (enum stg_filter_kind)row->value, text, origin, e);
	case TYPE_PER_DIR:
		if (level == LEVEL_ARGV)
			return per_dir_add(p, &p->argv_filters, origin, e);
		r = number_value(row, text, &v, e);
		while (r == 0 && p->per_dir < (unsigned)v)
			r = per_dir_add(p, &p->config_filters, origin, e);
		return r;
	case TYPE_PHASES: /* apply_phases() has done it */
		return 0;
	case TYPE_HOST:
		return stg_target_host(text, &p->env_host, e);
	case TYPE_USER:
		return stg_target_user(text, &p->env_user, e);
	case TYPE_SECRET:
		*(const char **)field = text;
		return 0;
	case TYPE_RESULT_DIR: {
		const char *slash = strrchr(text, '/');
		_cleanup_free_ char *path = NULL;

		if (asprintf(&path, "%.*s" STG_REPORT_NAME,
			     slash ? (int)(slash - text + 1) : 0, text) < 0) {
			path = NULL;
			return no_memory(e);
		}
		return own(p->o, path, strlen(path), field, e);
	}
	}
	return r < 0 ? r : own(p->o, text, strlen(text), field, e);
}

/* ---- argv ---- */

static int unknown_option(const struct parse *p, const char *arg, size_t n, struct err *e)
{
	_cleanup_free_ char *word = strndup(arg, n);
	struct nearest near = { .word = word ? word + strspn(word, "-") : "" };
	char name[TEXT_NAME_MAX];
	const char *best;

	if (!word)
		return no_memory(e);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].name && row_exists(&rows[i], p->commands))
			nearest_try(&near, rows[i].name);
	best = nearest_get(&near);
	return err_set(e, -ERR_USAGE, "unknown option %s%s%s; see --help",
		       text_name(name, bytes_str(word)), best ? ", did you mean --" : "",
		       best ? best : "");
}

static const struct row *find_long(const struct parse *p, const char *name, size_t n)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].name && strlen(rows[i].name) == n &&
		    !memcmp(rows[i].name, name, n) && row_exists(&rows[i], p->commands))
			return &rows[i];
	return NULL;
}

static const struct row *find_letter(const struct parse *p, char letter)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].letter && rows[i].letter == letter &&
		    row_exists(&rows[i], p->commands))
			return &rows[i];
	return NULL;
}

static int unknown_command(const struct parse *p, const char *arg, struct err *e)
{
	struct nearest near = { .word = arg };
	char name[TEXT_NAME_MAX];
	const char *best;

	for (const struct stg_command *c = p->commands; c->name; c++)
		nearest_try(&near, c->name);
	best = nearest_get(&near);
	return err_set(e, -ERR_USAGE, "unknown command '%s'%s%s%s; see --help",
		       text_name(name, bytes_str(arg)), best ? ", did you mean '" : "",
		       best ? best : "", best ? "'" : "");
}

static int take_positional(struct parse *p, const char *arg, struct err *e)
{
	struct stg_options *o = p->o;
	char name[TEXT_NAME_MAX];

	if (!o->command) {
		o->command = find_command(p->commands, arg);
		return o->command ? 0 : unknown_command(p, arg, e);
	}
	if (!o->command->takes_args)
		return err_set(e, -ERR_USAGE, "unexpected argument '%s' after %s",
			       text_name(name, bytes_str(arg)), o->command->name);
	return stg_strlist_add(&o->args, arg, strlen(arg)) < 0 ? no_memory(e) : 0;
}

static void add_setting(struct parse *p, const struct row *row, const char *value)
{
	p->set[p->n_set++] = (struct setting){ .row = row, .value = value };
}

/* argv[*i] begins with "--"; a value in the next argument is consumed, too. */
static int take_long(struct parse *p, int argc, char **argv, int *i, struct err *e)
{
	const char *arg = argv[*i], *eq = strchr(arg, '=');
	size_t n = eq ? (size_t)(eq - arg) : strlen(arg);
	const struct row *row = find_long(p, arg + 2, n - 2);

	if (!row)
		return unknown_option(p, arg, n, e);
	if (!row->arg) {
		if (eq)
			return err_set(e, -ERR_USAGE, "--%s takes no value", row->name);
		add_setting(p, row, NULL);
		return 0;
	}
	if (!eq && *i + 1 >= argc)
		return err_set(e, -ERR_USAGE, "--%s needs a value: %s", row->name,
			       row->arg);
	add_setting(p, row, eq ? eq + 1 : argv[++*i]);
	return 0;
}

/* No letter takes a value, so letters may stand together: -FF. */
static int take_letters(struct parse *p, const char *arg, struct err *e)
{
	for (const char *c = arg + 1; *c; c++) {
		const struct row *row = find_letter(p, *c);

		if (!row)
			return unknown_option(p, arg, strlen(arg), e);
		add_setting(p, row, NULL);
	}
	return 0;
}

static int scan_argv(struct parse *p, int argc, char **argv, struct err *e)
{
	size_t room = 0;
	bool only_words = false;
	int r = 0;

	for (int i = 1; i < argc; i++)
		room += strlen(argv[i]) + 1;
	p->set = calloc(room + 1, sizeof(*p->set));
	if (!p->set)
		return no_memory(e);
	for (int i = 1; i < argc && r == 0; i++) {
		if (only_words || argv[i][0] != '-' || !argv[i][1])
			r = take_positional(p, argv[i], e);
		else if (!strcmp(argv[i], "--"))
			only_words = true;
		else if (argv[i][1] == '-')
			r = take_long(p, argc, argv, &i, e);
		else
			r = take_letters(p, argv[i], e);
	}
	return r;
}

/* Needs the command, which may stand after its options. */
static int check_applies(const struct parse *p, struct err *e)
{
	const struct stg_command *c = p->o->command;

	if (!c)
		return 0;
	for (size_t i = 0; i < p->n_set; i++) {
		const struct row *row = p->set[i].row;
		_cleanup_(buf_fini) struct buf list = BUF_INIT;
		const char *s;

		if (!row->only || has_word(row->only, c->name))
			continue;
		for (const struct stg_command *k = p->commands; k->name; k++)
			if (has_word(row->only, k->name) &&
			    buf_printf(&list, "%s%s", buf_len(&list) ? ", " : "",
				       k->name) < 0)
				return no_memory(e);
		s = buf_cstr(&list);
		return s ? err_set(e, -ERR_USAGE,
				   "--%s is not an option of %s, only of: %s", row->name,
				   c->name, s)
			 : no_memory(e);
	}
	return 0;
}

static int apply_argv(struct parse *p, struct err *e)
{
	p->per_dir = 0;
	for (size_t i = 0; i < p->n_set; i++) {
		const struct setting *s = &p->set[i];
		int r = apply(p, s->row, LEVEL_ARGV, s->value, "command line", e);

		if (r < 0)
			return s->row->name ? err_ctx(e, r, "--%s", s->row->name) : r;
	}
	return 0;
}

/* ---- environment ---- */

static const char *env_get(char **envp, const char *name)
{
	size_t n = strlen(name);

	for (; envp && *envp; envp++)
		if (!strncmp(*envp, name, n) && (*envp)[n] == '=')
			return *envp + n + 1;
	return NULL;
}

static int apply_env(struct parse *p, char **envp, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *v = rows[i].env ? env_get(envp, rows[i].env) : NULL;
		int r;

		/* Scripts export variables that they leave empty: that says nothing. */
		if (!v || !*v || !row_exists(&rows[i], p->commands))
			continue;
		r = apply(p, &rows[i], LEVEL_ENV, v, rows[i].env, e);
		if (r < 0)
			return err_ctx(e, r, "environment variable %s", rows[i].env);
	}
	return 0;
}

/* ---- config file ---- */

static const char *kind_of(const cJSON *v)
{
	return cJSON_IsString(v)   ? "a string"
	       : cJSON_IsNumber(v) ? "a number"
	       : cJSON_IsBool(v)   ? "true or false"
	       : cJSON_IsArray(v)  ? "an array"
	       : cJSON_IsObject(v) ? "an object"
				   : "null";
}

static int wrong_type(const struct row *row, const cJSON *v, struct err *e)
{
	const char *want = "a string";

	if (row->type == TYPE_FLAG)
		want = "true or false";
	if (row->type == TYPE_LIST || row->type == TYPE_FILTER)
		want = "a string or an array of strings";
	if (row->type == TYPE_NUMBER || row->type == TYPE_PER_DIR)
		return err_set(e, -ERR_USAGE,
			       "expected a whole number from %d to %d%s, found %s",
			       row->min, row->max, row->words ? " or a string" : "",
			       cJSON_IsNumber(v) ? "a fraction" : kind_of(v));
	return err_set(e, -ERR_USAGE, "expected %s, found %s", want, kind_of(v));
}

/* The value as the command line would have it, in text where it is not a string. */
static const char *value_text(const struct row *row, const cJSON *v, char text[32])
{
	bool number = row->type == TYPE_NUMBER || row->type == TYPE_PER_DIR;

	if (row->type == TYPE_FLAG)
		return cJSON_IsBool(v) ? (cJSON_IsTrue(v) ? "true" : "false") : NULL;
	if (cJSON_IsString(v) && (!number || row->words))
		return v->valuestring;
	if (!number || !cJSON_IsNumber(v) || floor(v->valuedouble) != v->valuedouble ||
	    fabs(v->valuedouble) > 1e15)
		return NULL;
	snprintf(text, 32, "%.0f", v->valuedouble);
	return text;
}

static int apply_value(struct parse *p, const struct stg_jsonc *d, const struct row *row,
		       const cJSON *v, struct err *e)
{
	_cleanup_free_ char *origin = NULL;
	char number[32];
	const char *text = value_text(row, v, number);
	int r;

	if (asprintf(&origin, "%s: line %u", p->o->config,
		     stg_jsonc_value_pos(d, v).line) < 0) {
		origin = NULL;
		return no_memory(e);
	}
	if (!text)
		r = wrong_type(row, v, e);
	else
		r = apply(p, row, LEVEL_CONFIG, text, origin, e);
	if (r < 0) {
		r = err_ctx(e, r, "%s", row->key);
		return stg_jsonc_ctx(d, v, r, e);
	}
	return 0;
}

/* v has a key that is none of those that were tried. */
static int unknown_name(const struct parse *p, const struct stg_jsonc *d, const cJSON *v,
			const char *what, const struct nearest *near, struct err *e)
{
	struct stg_jsonc_pos pos = stg_jsonc_key_pos(d, v);
	char name[TEXT_NAME_MAX];
	const char *best = nearest_get(near);

	return err_set(
		e, -ERR_USAGE, "%s: line %u, column %u: unknown %s '%s'%s%s%s",
		p->o->config, pos.line, pos.column, what,
		text_name(name, bytes_str(v->string)), best ? ", did you mean '" : "",
		best ? best : "", best ? "'?" : "");
}

static int unknown_key(const struct parse *p, const struct stg_jsonc *d, const cJSON *v,
		       struct err *e)
{
	struct nearest near = { .word = v->string };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].key && row_exists(&rows[i], p->commands))
			nearest_try(&near, rows[i].key);
	return unknown_name(p, d, v, "key", &near, e);
}

/* The value of the key row, or an element of it, in the object of a phase. */
static int apply_phase_value(struct parse *p, const struct stg_jsonc *d,
			     const struct row *row, enum stg_phase_kind kind, const cJSON *v,
			     struct err *e)
{
	_cleanup_free_ char *origin = NULL;
	int r;

	if (asprintf(&origin, "%s: line %u", p->o->config,
		     stg_jsonc_value_pos(d, v).line) < 0) {
		origin = NULL;
		return no_memory(e);
	}
	if (!cJSON_IsString(v))
		r = wrong_type(row, v, e);
	else if (!*v->valuestring)
		r = err_set(e, -ERR_USAGE, "the value is empty");
	else
		return filters_add(&p->o->phase_filters[kind], (enum stg_filter_kind)row->value,
				   v->valuestring, origin, e);
	return stg_jsonc_ctx(d, v, err_ctx(e, r, "%s", row->key), e);
}

static int apply_phase_member(struct parse *p, const struct stg_jsonc *d,
			      enum stg_phase_kind kind, const cJSON *v, struct err *e)
{
	struct nearest near = { .word = v->string };
	const struct row *row = NULL;
	const cJSON *element;
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (rows[i].type != TYPE_FILTER)
			continue;
		nearest_try(&near, rows[i].key);
		if (!strcmp(rows[i].key, v->string))
			row = &rows[i];
	}
	if (!row)
		return unknown_name(p, d, v, "key of a phase", &near, e);
	if (!cJSON_IsArray(v))
		return apply_phase_value(p, d, row, kind, v, e);
	cJSON_ArrayForEach(element, v)
	{
		r = apply_phase_value(p, d, row, kind, element, e);
		if (r < 0)
			break;
	}
	return r;
}

static int want_object(const struct stg_jsonc *d, const char *key, const cJSON *v, struct err *e)
{
	int r;

	if (cJSON_IsObject(v))
		return 0;
	r = err_set(e, -ERR_USAGE, "%s: expected an object, found %s", key, kind_of(v));
	return stg_jsonc_ctx(d, v, r, e);
}

/* "phases": { "full": { "filter": [...] }, ... } */
static int apply_phases(struct parse *p, const struct stg_jsonc *d, const struct row *row,
			const cJSON *v, struct err *e)
{
	const cJSON *phase, *member;
	int r = want_object(d, row->key, v, e);

	if (r < 0)
		return r;
	cJSON_ArrayForEach(phase, v)
	{
		struct nearest near = { .word = phase->string };
		const struct word *w = row->words;

		for (const struct word *k = row->words; k->name; k++)
			nearest_try(&near, k->name);
		while (w->name && strcmp(w->name, phase->string) != 0)
			w++;
		if (!w->name)
			return unknown_name(p, d, phase, "phase", &near, e);
		r = want_object(d, w->name, phase, e);
		if (r < 0)
			return r;
		cJSON_ArrayForEach(member, phase)
		{
			r = apply_phase_member(p, d, (enum stg_phase_kind)w->value, member, e);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int apply_member(struct parse *p, const struct stg_jsonc *d, const cJSON *v,
			struct err *e)
{
	const struct row *row = NULL;
	const cJSON *element;

	for (size_t i = 0; i < ARRAY_SIZE(rows) && !row; i++)
		if (rows[i].key && !strcmp(rows[i].key, v->string) &&
		    row_exists(&rows[i], p->commands))
			row = &rows[i];
	if (!row)
		return unknown_key(p, d, v, e);
	if (row->type == TYPE_PHASES)
		return apply_phases(p, d, row, v, e);
	if (!cJSON_IsArray(v) || (row->type != TYPE_LIST && row->type != TYPE_FILTER))
		return apply_value(p, d, row, v, e);
	cJSON_ArrayForEach(element, v)
	{
		int r = apply_value(p, d, row, element, e);

		if (r < 0)
			return r;
	}
	return 0;
}

static int check_limits(const struct stg_jsonc *d, struct err *e)
{
	const cJSON *root = stg_jsonc_root(d);
	const cJSON *mb = cJSON_GetObjectItemCaseSensitive(root, "bandwidth_limit_mb");

	if (!mb || !cJSON_GetObjectItemCaseSensitive(root, "bwlimit"))
		return 0;
	return stg_jsonc_ctx(
		d, mb,
		err_set(e, -ERR_USAGE,
			"bwlimit and bandwidth_limit_mb are both given: keep one"),
		e);
}

static int apply_config(struct parse *p, struct err *e)
{
	_cleanup_(stg_jsonc_freep) struct stg_jsonc *d = NULL;
	const char *named = NULL;
	const cJSON *root, *v;
	int r;

	/* The last one counts, as with every option. */
	for (size_t i = 0; i < p->n_set; i++)
		if (p->set[i].row->name && !strcmp(p->set[i].row->name, "config"))
			named = p->set[i].value;
	if (named && !*named)
		return err_set(e, -ERR_USAGE, "--config: the value is empty");
	r = stg_jsonc_read(AT_FDCWD, named ? named : STG_CONFIG_DEFAULT, &d, e);
	if (r == -ENOENT && !named)
		return 0;
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		return err_ctx(e, -ERR_USAGE, "config file");
	if (!named)
		named = STG_CONFIG_DEFAULT;
	r = own(p->o, named, strlen(named), &p->o->config, e);
	if (r < 0)
		return r;

	root = stg_jsonc_root(d);
	if (!cJSON_IsObject(root)) {
		r = err_set(e, -ERR_USAGE, "expected an object, found %s", kind_of(root));
		return err_ctx(e, stg_jsonc_ctx(d, root, r, e), "config file");
	}
	cJSON_ArrayForEach(v, root)
	{
		r = apply_member(p, d, v, e);
		if (r < 0)
			return err_ctx(e, r, "config file");
	}
	r = check_limits(d, e);
	return r < 0 ? err_ctx(e, r, "config file") : 0;
}

/* ---- what depends on more than one option ---- */

static int copy(const char *s, char **ret, struct err *e)
{
	char *c = strdup(s);

	if (!c)
		return no_memory(e);
	free(*ret);
	*ret = c;
	return 0;
}

/* The port is said by --port and by a SPEC; who speaks from the higher level wins. */
static int resolve_port(struct parse *p, enum level spec_level, struct err *e)
{
	enum level port_level = level_of(p, "port");
	unsigned *port = &p->o->target.port;
	unsigned spec = p->spec[spec_level].port;

	if (!spec)
		return 0;
	if (port_level == spec_level && spec != *port)
		return err_set(
			e, -ERR_USAGE,
			"%s the target's URL says port %u and %s says %u: keep one",
			spec_level == LEVEL_ARGV ? "command line:" : "config file:", spec,
			spec_level == LEVEL_ARGV ? "--port" : "the key port", *port);
	if (spec_level > port_level)
		*port = spec;
	return 0;
}

/*
 * A SPEC of the command line stands as it is, a user it leaves open excepted.  Else the
 * variables replace host and user of the config file's, and without one the root is /, where
 * the variables' earlier users had it.
 */
static int resolve_target(struct parse *p, struct err *e)
{
	enum level at = p->spec[LEVEL_ARGV].host ? LEVEL_ARGV : LEVEL_CONFIG;
	struct stg_target *spec = &p->spec[at], *t = &p->o->target;
	int r = resolve_port(p, at, e);

	if (r < 0)
		return r;
	t->user = TAKE_PTR(spec->user);
	t->host = TAKE_PTR(spec->host);
	t->root = TAKE_PTR(spec->root);
	if (p->env_host && at != LEVEL_ARGV) {
		r = copy(p->env_host, &t->host, e);
		if (r == 0 && !t->root)
			r = copy("/", &t->root, e);
	}
	if (r == 0 && p->env_user && (at != LEVEL_ARGV || !t->user))
		r = copy(p->env_user, &t->user, e);
	return r;
}

/* Three ways to say which standard list: the highest level that speaks decides. */
static void resolve_excludes(struct parse *p)
{
	struct stg_options *o = p->o;
	enum level list = level_of(p, "excludes"), env = level_of(p, "RSYNC_EXCLUDES");
	enum level none =
		p->no_excludes ? level_of(p, "no-default-excludes") : LEVEL_NONE;

	if (none >= list || env > list)
		o->excludes = NULL;
	if (none >= env || list > env)
		stg_strlist_fini(&o->exclude_patterns);
}

static void resolve_password(struct parse *p)
{
	struct stg_options *o = p->o;

	if (!o->password_env)
		return;
	if (level_of(p, "password-file") > LEVEL_ENV)
		o->password_env = NULL;
	else
		o->password_file = NULL;
}

static int resolve_source(struct stg_options *o, struct err *e)
{
	_cleanup_free_ char *cwd = NULL, *path = NULL;
	_cleanup_(stg_strlist_fini) struct stg_strlist paths = { 0 };
	int r;

	if (o->source[0] != '/') {
		cwd = getcwd(NULL, 0);
		if (!cwd)
			return err_sys(e, "find the working directory for --source");
		if (asprintf(&path, "%s/%s", cwd, o->source) < 0) {
			path = NULL;
			return no_memory(e);
		}
		r = own(o, path, strlen(path), &o->source, e);
		if (r < 0)
			return r;
	}
	r = stg_paths_normalise(o->source, &o->paths, &paths, e);
	if (r < 0)
		return r;
	stg_strlist_fini(&o->paths);
	o->paths = paths;
	paths = (struct stg_strlist){ 0 };
	return 0;
}

static int resolve_report(struct parse *p, struct err *e)
{
	struct stg_options *o = p->o;
	_cleanup_free_ char *path = NULL;

	if (o->report)
		return 0;
	if (asprintf(&path, "%s/out/" STG_REPORT_NAME, o->state_dir) < 0) {
		path = NULL;
		return no_memory(e);
	}
	return own(o, path, strlen(path), &o->report, e);
}

static int resolve(struct parse *p, struct err *e)
{
	struct stg_options *o = p->o;
	int r;

	r = resolve_target(p, e);
	if (r < 0)
		return r;
	resolve_excludes(p);
	resolve_password(p);
	if (level_of(p, "bandwidth_limit_mb") > level_of(p, "bwlimit"))
		o->bwlimit_bytes = (uint64_t)p->limit_mb * 1000000;
	if (o->list + o->list0 + o->list_deletes > 1)
		return err_set(e, -ERR_USAGE,
			       "of --list, --list0 and --list-deletes more than one is given: "
			       "keep one");
	r = resolve_source(o, e);
	if (r < 0)
		return r;
	r = resolve_report(p, e);
	if (r < 0)
		return r;
	r = filters_move(&o->filters, &p->argv_filters, e);
	return r < 0 ? r : filters_move(&o->filters, &p->config_filters, e);
}

/* ---- --help ---- */

/* Words of text from HELP_COLUMN on, the cursor being in column at; ends the line. */
static int put_wrapped(struct buf *out, size_t at, const char *text)
{
	int r = 0;

	if (at + 2 > HELP_COLUMN) {
		r = buf_printf(out, "\n");
		at = 0;
	}
	if (r == 0)
		r = buf_printf(out, "%*s", (int)(HELP_COLUMN - at), "");
	at = HELP_COLUMN;
	for (const char *p = text; *p && r == 0;) {
		size_t len = strcspn(p, " ");

		if (at > HELP_COLUMN && at + 1 + len > HELP_WIDTH) {
			r = buf_printf(out, "\n%*s", HELP_COLUMN, "");
			at = HELP_COLUMN;
		} else if (at > HELP_COLUMN) {
			r = buf_put(out, " ", 1);
			at++;
		}
		if (r == 0)
			r = buf_put(out, p, len);
		at += len;
		p += len;
		p += strspn(p, " ");
	}
	return r < 0 ? r : buf_put(out, "\n", 1);
}

static int put_row(struct buf *out, const struct row *row, const char *left,
		   bool tell_only)
{
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	const char *s;
	int r;

	r = buf_put(&text, row->help, strlen(row->help));
	if (r == 0 && row->def)
		r = buf_printf(&text, " (default %s)", row->def);
	if (r == 0 && tell_only && row->only)
		r = buf_printf(&text, " [%s]", row->only);
	if (r < 0)
		return r;
	s = buf_cstr(&text);
	if (!s)
		return -ENOMEM;
	r = buf_printf(out, "  %s", left);
	return r < 0 ? r : put_wrapped(out, 2 + strlen(left), s);
}

static int put_options(struct buf *out, const struct parse *p, enum group group)
{
	const struct stg_command *c = p->o->command;
	bool titled = false;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *row = &rows[i];
		char left[96];
		int r = 0;

		if (row->group != group || (!row->name && !row->letter) ||
		    !row_exists(row, p->commands) ||
		    (c && row->only && !has_word(row->only, c->name)))
			continue;
		if (!titled)
			r = buf_printf(out, "\n%s:\n",
				       c && group == GROUP_PHASE ? "Of this command"
								 : group_titles[group]);
		titled = true;
		if (row->name)
			snprintf(left, sizeof(left), "--%s%s%s", row->name,
				 row->arg ? " " : "", row->arg ? row->arg : "");
		else
			snprintf(left, sizeof(left), "-%c", row->letter);
		if (r == 0)
			r = put_row(out, row, left, !c);
		if (r < 0)
			return r;
	}
	return 0;
}

static int put_commands(struct buf *out, const struct stg_command *commands)
{
	int r = buf_printf(out, "\nCommands:\n");

	for (const struct stg_command *c = commands; c->name && r == 0; c++)
		r = buf_printf(out, "  %-*s%s\n", HELP_COLUMN - 2, c->name, c->summary);
	return r;
}

static int put_environment(struct buf *out, const struct parse *p)
{
	int r = buf_printf(out, "\nEnvironment (an empty variable counts as none):\n");

	for (size_t i = 0; i < ARRAY_SIZE(rows) && r == 0; i++) {
		const struct row *row = &rows[i];
		char text[128];

		if (!row->env || !row_exists(row, p->commands))
			continue;
		if (row->name)
			snprintf(text, sizeof(text), "--%s%s", row->name,
				 row->type == TYPE_LIST ? ", comma-separated" : "");
		r = buf_printf(out, "  %s", row->env);
		if (r == 0)
			r = put_wrapped(out, 2 + strlen(row->env),
					row->name ? text : row->help);
	}
	return r;
}

static int put_help(const struct parse *p)
{
	const struct stg_command *c = p->o->command;
	struct buf *out = &p->o->text;
	int r;

	r = buf_printf(out, "usage: stager [OPTIONS] %s%s\n", c ? c->name : "COMMAND",
		       c && c->takes_args ? " ARGUMENTS" : "");
	if (r == 0)
		r = c ? buf_printf(out, "\n%s\n", c->summary)
		      : put_commands(out, p->commands);
	for (int g = 0; g < GROUPS && r == 0; g++)
		r = put_options(out, p, (enum group)g);
	if (r == 0)
		r = put_environment(out, p);
	if (r == 0)
		r = buf_printf(
			out,
			"\nThe command line wins over the environment, that over the "
			"config file;\nstager.json(5) describes its keys.\n");
	return r;
}

/* ---- all together ---- */

static bool wants(const struct parse *p, enum stg_action action)
{
	for (size_t i = 0; i < p->n_set; i++)
		if (p->set[i].row->type == TYPE_ACTION &&
		    p->set[i].row->value == (int)action)
			return true;
	return false;
}

static int apply_levels(struct parse *p, char **envp, struct err *e)
{
	int r;

	/* The config file adds only what -F on the command line has not said already. */
	for (size_t i = 0; i < p->n_set; i++)
		p->per_dir += p->set[i].row->type == TYPE_PER_DIR;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		r = rows[i].def
			    ? apply(p, &rows[i], LEVEL_DEFAULT, rows[i].def, "default", e)
			    : 0;
		if (r < 0)
			return r;
	}
	r = apply_config(p, e);
	if (r < 0)
		return r;
	r = apply_env(p, envp, e);
	if (r < 0)
		return r;
	r = apply_argv(p, e);
	return r < 0 ? r : resolve(p, e);
}

static int parse_all(struct parse *p, int argc, char **argv, char **envp, struct err *e)
{
	struct stg_options *o = p->o;
	int r = scan_argv(p, argc, argv, e);

	if (r < 0)
		return r;
	/* Help must work where the config file does not. */
	if (wants(p, STG_ACTION_HELP)) {
		o->action = STG_ACTION_HELP;
		return put_help(p) < 0 ? no_memory(e) : 0;
	}
	if (wants(p, STG_ACTION_VERSION)) {
		o->action = STG_ACTION_VERSION;
		return buf_printf(&o->text, "stager %s\n", STAGER_VERSION) < 0
			       ? no_memory(e)
			       : 0;
	}
	if (!o->command)
		return err_set(e, -ERR_USAGE, "no command given; see --help");
	o->agent_socket = env_get(envp, "SSH_AUTH_SOCK");
	if (o->agent_socket && !*o->agent_socket)
		o->agent_socket = NULL;
	o->home = env_get(envp, "HOME");
	o->cvsignore = env_get(envp, "CVSIGNORE");
	r = check_applies(p, e);
	return r < 0 ? r : apply_levels(p, envp, e);
}

int stg_options_parse(int argc, char **argv, char **envp,
		      const struct stg_command *commands, struct stg_options *ret,
		      struct err *e)
{
	_cleanup_(stg_options_fini) struct stg_options o = { 0 };
	struct parse p = { .commands = commands, .o = &o };
	int r = parse_all(&p, argc, argv, envp, e);

	for (size_t i = 0; i < LEVELS; i++)
		stg_target_fini(&p.spec[i]);
	filters_fini(&p.argv_filters);
	filters_fini(&p.config_filters);
	free(p.env_host);
	free(p.env_user);
	free(p.set);
	if (r < 0)
		return r;
	*ret = o;
	o = (struct stg_options){ 0 };
	return 0;
}

void stg_options_fini(struct stg_options *o)
{
	if (!o)
		return;
	stg_target_fini(&o->target);
	stg_strlist_fini(&o->args);
	stg_strlist_fini(&o->paths);
	stg_strlist_fini(&o->exclude_patterns);
	filters_fini(&o->filters);
	for (size_t i = 0; i < STG_PHASE_KINDS; i++)
		filters_fini(&o->phase_filters[i]);
	buf_fini(&o->text);
	stg_strlist_fini(&o->owned);
	*o = (struct stg_options){ 0 };
}

/* ---- paths ---- */

/* Append the components of text; -ERR_USAGE for '..' where up is false. */
static int put_components(struct buf *out, const char *text, bool up, struct err *e)
{
	for (const char *p = text; *p;) {
		size_t len = strcspn(p, "/");
		char name[TEXT_NAME_MAX];

		if (len == 2 && !memcmp(p, "..", 2) && !up)
			return err_set(e, -ERR_USAGE, "path '%s' has a '..' component",
				       text_name(name, bytes_str(text)));
		if (len && !(len == 1 && *p == '.') &&
		    ((buf_len(out) && buf_put(out, "/", 1) < 0) ||
		     buf_put(out, p, len) < 0))
			return no_memory(e);
		p += len;
		p += strspn(p, "/");
	}
	return 0;
}

/* inner is outer or lies below it; both are components, the empty path is the root. */
static bool below(const char *inner, const char *outer)
{
	size_t n = strlen(outer);

	return n == 0 || (!strncmp(inner, outer, n) && (!inner[n] || inner[n] == '/'));
}

static int normal_path(const char *source, const char *path, struct stg_strlist *to,
		       struct err *e)
{
	_cleanup_(buf_fini) struct buf root_buf = BUF_INIT, path_buf = BUF_INIT;
	const char *root, *rel;
	char name[TEXT_NAME_MAX], root_name[TEXT_NAME_MAX];
	int r = put_components(&path_buf, path, false, e);

	if (r < 0)
		return r;
	rel = buf_cstr(&path_buf);
	if (!rel)
		return no_memory(e);
	if (*path == '/') {
		r = put_components(&root_buf, source, true, e);
		if (r < 0)
			return r;
		root = buf_cstr(&root_buf);
		if (!root)
			return no_memory(e);
		if (!below(rel, root))
			return err_set(e, -ERR_USAGE,
				       "path '%s' is not below the source '%s'",
				       text_name(name, bytes_str(path)),
				       text_name(root_name, bytes_str(source)));
		rel += strlen(root);
		rel += *rel == '/';
	}
	return stg_strlist_add(to, rel, strlen(rel)) < 0 ? no_memory(e) : 0;
}

int stg_paths_normalise(const char *source, const struct stg_strlist *paths,
			struct stg_strlist *ret, struct err *e)
{
	_cleanup_(stg_strlist_fini) struct stg_strlist all = { 0 }, kept = { 0 };

	if (paths->n > STG_PATHS_MAX)
		return err_set(e, -ERR_USAGE,
			       "%zu paths are too many: allowed is up to %d", paths->n,
			       STG_PATHS_MAX);
	for (size_t i = 0; i < paths->n; i++) {
		int r = normal_path(source, paths->v[i], &all, e);

		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < all.n; i++) {
		const char *s = all.v[i];
		bool covered = false;

		/* Of equals the first stays. */
		for (size_t k = 0; k < all.n && !covered; k++)
			covered = k != i && below(s, all.v[k]) &&
				  (strcmp(s, all.v[k]) != 0 || k < i);
		if (covered)
			continue;
		if (!*s)
			s = ".";
		if (stg_strlist_add(&kept, s, strlen(s)) < 0)
			return no_memory(e);
	}
	*ret = kept;
	kept = (struct stg_strlist){ 0 };
	return 0;
}
