/* SPDX-License-Identifier: Apache-2.0 */
/* What there is to say: the table of options, its help, and the nearest name to a wrong one. */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "common/macro.h"
#include "stager/option_parts.h"

#define HELP_COLUMN 30
#define HELP_WIDTH 80
#define WORD_MAX 64 /* longest word that a suggestion is looked for */
#define DAY_S 86400

static const char *const group_titles[GROUPS] = {
	[GROUP_GENERAL] = "General",
	[GROUP_SOURCE] = "Source",
	[GROUP_TARGET] = "Target and connection",
	[GROUP_FILTER] = "What is left out (rsync's rules, in the order given)",
	[GROUP_TRANSFER] = "Transfer",
	[GROUP_PHASE] = "Single commands",
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

#define FIELD(f) .off = offsetof(struct stg_options, f)

/* clang-format off */
const struct row stg_option_rows[] = {
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

void stg_option_nearest_try(struct nearest *n, const char *candidate)
{
	size_t at = distance(n->word, candidate);

	if (!n->best || at < n->at) {
		n->best = candidate;
		n->at = at;
	}
}

/* NULL when nothing resembles the word: half of its characters would have to change. */
const char *stg_option_nearest_get(const struct nearest *n)
{
	return n->best && n->at <= (strlen(n->word) + 1) / 2 ? n->best : NULL;
}

/* ---- rows and commands ---- */

bool stg_option_has_word(const char *words, const char *word)
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

/* An option of commands that this program does not have does not exist. */
bool stg_option_row_exists(const struct row *row, const struct stg_command *commands)
{
	if (!row->only)
		return true;
	for (const struct stg_command *c = commands; c->name; c++)
		if (stg_option_has_word(row->only, c->name))
			return true;
	return false;
}

size_t stg_option_row_index(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(stg_option_rows); i++)
		if ((stg_option_rows[i].name && !strcmp(stg_option_rows[i].name, name)) ||
		    (!stg_option_rows[i].name && stg_option_rows[i].key &&
		     !strcmp(stg_option_rows[i].key, name)) ||
		    (!stg_option_rows[i].name && stg_option_rows[i].env &&
		     !strcmp(stg_option_rows[i].env, name)))
			return i;
	assert(false);
	return 0;
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

static int put_options(struct buf *out, const struct stg_command *commands,
		       const struct stg_command *c, enum group group)
{
	bool titled = false;

	for (size_t i = 0; i < ARRAY_SIZE(stg_option_rows); i++) {
		const struct row *row = &stg_option_rows[i];
		char left[96];
		int r = 0;

		if (row->group != group || (!row->name && !row->letter) ||
		    !stg_option_row_exists(row, commands) ||
		    (c && row->only && !stg_option_has_word(row->only, c->name)))
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

static int put_environment(struct buf *out, const struct stg_command *commands)
{
	int r = buf_printf(out, "\nEnvironment (an empty variable counts as none):\n");

	for (size_t i = 0; i < ARRAY_SIZE(stg_option_rows) && r == 0; i++) {
		const struct row *row = &stg_option_rows[i];
		char text[128];

		if (!row->env || !stg_option_row_exists(row, commands))
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

int stg_option_put_help(const struct stg_command *commands, const struct stg_command *c,
			struct buf *out)
{
	int r;

	r = buf_printf(out, "usage: stager [OPTIONS] %s%s\n", c ? c->name : "COMMAND",
		       c && c->takes_args ? " ARGUMENTS" : "");
	if (r == 0)
		r = c ? buf_printf(out, "\n%s\n", c->summary)
		      : put_commands(out, commands);
	for (int g = 0; g < GROUPS && r == 0; g++)
		r = put_options(out, commands, c, (enum group)g);
	if (r == 0)
		r = put_environment(out, commands);
	if (r == 0)
		r = buf_printf(
			out,
			"\nThe command line wins over the environment, that over the "
			"config file;\nstager.json(5) describes its keys.\n");
	return r;
}
