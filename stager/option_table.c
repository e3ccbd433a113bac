/* SPDX-License-Identifier: Apache-2.0 */
/* What there is to say: the table of options. */
#include <limits.h>

#include "stager/option_parts.h"

#define DAY_S 86400

const char *const stg_option_groups[GROUPS] = {
	[GROUP_GENERAL] = "General",
	[GROUP_SOURCE] = "Source",
	[GROUP_TARGET] = "Target and connection",
	[GROUP_FILTER] = "What is left out (rsync's rules, in the order given)",
	[GROUP_TRANSFER] = "Transfer",
	[GROUP_PHASE] = "Single commands",
};

static const struct cfg_word host_key_words[] = {
	{ "strict", STG_HOST_KEY_STRICT },
	{ "accept-new", STG_HOST_KEY_ACCEPT_NEW },
	{ NULL, 0 },
};
static const struct cfg_word resume_words[] = {
	{ "auto", STG_RESUME_AUTO },
	{ "manual", STG_RESUME_MANUAL },
	{ NULL, 0 },
};
static const struct cfg_word progress_words[] = {
	{ "auto", STG_PROGRESS_AUTO },   { "bar", STG_PROGRESS_BAR },
	{ "plain", STG_PROGRESS_PLAIN }, { "json", STG_PROGRESS_JSON },
	{ "none", STG_PROGRESS_NONE },   { NULL, 0 },
};
static const struct cfg_word log_level_words[] = {
	{ "error", LOG_ERROR },
	{ "info", LOG_INFO },
	{ "debug", LOG_DEBUG },
	{ NULL, 0 },
};
static const struct cfg_word format_words[] = {
	{ "text", STG_REPORT_TEXT },
	{ NULL, 0 },
};
static const struct cfg_word sessions_words[] = {
	{ "auto", STG_SESSIONS_AUTO },
	{ NULL, 0 },
};
static const struct cfg_word compress_words[] = {
	{ "auto", STG_COMPRESS_AUTO },
	{ "off", STG_COMPRESS_OFF },
	{ NULL, 0 },
};
static const struct cfg_word max_delete_words[] = {
	{ "none", STG_MAX_DELETE_NONE },
	{ NULL, 0 },
};
static const struct cfg_word phase_words[] = {
	{ "full", STG_PHASE_FULL },
	{ "incremental", STG_PHASE_INCREMENTAL },
	{ "cutover", STG_PHASE_CUTOVER },
	{ NULL, 0 },
};
/* Lists that packaging/ installs below share/stager/excludes/. */
static const struct cfg_word excludes_words[] = {
	{ "default", 0 },
	{ "go2tencentcloud", 0 },
	{ NULL, 0 },
};

#define FIELD(f) .off = offsetof(struct stg_option_parse, o.f)
#define OWN_FIELD(f) .off = offsetof(struct stg_option_parse, f)

/* clang-format off */
const struct cfg_row stg_option_rows[] = {
	{ .name = "config", .arg = "FILE", .type = CFG_STRING, FIELD(config),
	  .help = "config file (default " STG_CONFIG_DEFAULT ", where there is one)" },
	{ .name = "state-dir", .key = "state_dir", .arg = "DIR", .type = CFG_STRING,
	  FIELD(state_dir), .def = STG_STATE_DIR_DEFAULT, .help = "catalog, lock and audit log" },
	{ .name = "report", .key = "report", .arg = "FILE", .type = CFG_STRING, FIELD(report),
	  .help = "report (default out/" STG_REPORT_NAME " below the state directory)" },
	{ .env = "RESULT_PATH", .type = TYPE_RESULT_DIR, FIELD(report),
	  .help = "a result file; the report is written beside it" },
	{ .name = "progress", .key = "progress", .arg = "auto|bar|plain|json|none",
	  .type = CFG_ENUM, .words = progress_words, FIELD(progress), .def = "auto",
	  .help = "auto: a bar on a terminal, else plain lines; json: one object a line" },
	{ .name = "log-level", .key = "log_level", .arg = "error|info|debug", .type = CFG_ENUM,
	  .words = log_level_words, FIELD(log_level), .def = "info",
	  .help = "what is worth a line in the log" },
	{ .name = "log-file", .key = "log_file", .arg = "FILE", .type = CFG_STRING,
	  FIELD(log_file), .help = "append the log to FILE (default: standard error)" },
	{ .name = "help", .type = CFG_ACTION, .value = CFG_HELP,
	  .help = "show this text; after a command, what it takes" },
	{ .name = "version", .type = CFG_ACTION, .value = CFG_VERSION,
	  .help = "show the version" },

	{ .name = "source", .key = "source", .arg = "DIR", .type = CFG_STRING,
	  .group = GROUP_SOURCE, FIELD(source), .def = "/",
	  .help = "source root; its contents land in the target root" },
	{ .name = "path", .key = "path", .env = "RSYNC_SOURCE_PATHS", .arg = "DIR",
	  .type = CFG_LIST, .group = GROUP_SOURCE, FIELD(paths),
	  .help = "sub-tree of the source to sync; may be repeated (default: the root and "
		  "every local data filesystem mounted below it)" },

	{ .name = "target", .key = "target", .arg = "SPEC", .type = TYPE_TARGET,
	  .group = GROUP_TARGET,
	  .help = "[user@]host:/root or ssh://[user@]host[:port]/root" },
	{ .env = "RSYNC_TARGET_HOST", .type = TYPE_HOST, .group = GROUP_TARGET,
	  .help = "host of the target; its root is / unless the config's target has another" },
	{ .env = "RSYNC_TARGET_USER", .type = TYPE_USER, .group = GROUP_TARGET,
	  .help = "user on the target" },
	{ .env = "RSYNC_TARGET_PASSWORD", .type = CFG_SECRET, .group = GROUP_TARGET,
	  FIELD(password_env), .help = "password of that user" },
	{ .name = "port", .key = "port", .env = "RSYNC_TARGET_PORT", .arg = "N",
	  .type = CFG_NUMBER, .min = 1, .max = 65535, .group = GROUP_TARGET,
	  FIELD(target.port), .def = "22", .help = "SSH port" },
	{ .name = "identity", .key = "identity", .arg = "FILE", .type = CFG_STRING,
	  .group = GROUP_TARGET, FIELD(identity), .help = "private key to log in with" },
	{ .name = "known-hosts", .key = "known_hosts", .arg = "FILE", .type = CFG_STRING,
	  .group = GROUP_TARGET, FIELD(known_hosts), .help = "host keys that are trusted" },
	{ .name = "host-key", .key = "host_key", .arg = "strict|accept-new", .type = CFG_ENUM,
	  .words = host_key_words, .group = GROUP_TARGET, FIELD(host_key), .def = "strict",
	  .help = "what to do with an unknown host key: refuse, or record and go on" },
	{ .name = "password-file", .key = "password_file", .arg = "FILE", .type = CFG_STRING,
	  .group = GROUP_TARGET, FIELD(password_file),
	  .help = "file (mode 0600) with the password in its first line" },
	{ .name = "cipher", .key = "cipher", .arg = "LIST", .type = TYPE_CIPHER,
	  .group = GROUP_TARGET, FIELD(cipher), .help = "SSH ciphers, comma-separated, best first" },
	{ .name = "remote-receiver", .key = "remote_receiver", .arg = "PATH", .type = CFG_STRING,
	  .group = GROUP_TARGET, FIELD(remote_receiver),
	  .help = "receiver that is installed on the target already" },
	{ .name = "connect-timeout", .key = "connect_timeout", .arg = "SECONDS",
	  .type = CFG_NUMBER, .min = 1, .max = DAY_S, .group = GROUP_TARGET,
	  FIELD(connect_timeout_s), .def = "30", .help = "to reach the target" },
	{ .name = "timeout", .key = "timeout", .arg = "SECONDS", .type = CFG_NUMBER, .min = 1,
	  .max = DAY_S, .group = GROUP_TARGET, FIELD(timeout_s), .def = "60",
	  .help = "without a sign of life from the target" },
	{ .name = "phase-timeout", .key = "phase_timeout", .env = "RSYNC_TIMEOUT_SEC",
	  .arg = "SECONDS", .type = CFG_NUMBER, .min = 0, .max = 365 * DAY_S,
	  .group = GROUP_TARGET, FIELD(phase_timeout_s), .def = "0",
	  .help = "for a whole phase; 0: none" },

	{ .name = "exclude", .key = "exclude", .arg = "PATTERN", .type = TYPE_FILTER,
	  .shape = CFG_TEXTS,
	  .value = STG_FILTER_EXCLUDE, .group = GROUP_FILTER, .help = "leave out what matches" },
	{ .name = "include", .key = "include", .arg = "PATTERN", .type = TYPE_FILTER,
	  .shape = CFG_TEXTS,
	  .value = STG_FILTER_INCLUDE, .group = GROUP_FILTER, .help = "do not leave it out" },
	{ .name = "exclude-from", .key = "exclude_from", .arg = "FILE", .type = TYPE_FILTER,
	  .shape = CFG_TEXTS,
	  .value = STG_FILTER_EXCLUDE_FROM, .group = GROUP_FILTER,
	  .help = "exclude patterns, one a line" },
	{ .name = "include-from", .key = "include_from", .arg = "FILE", .type = TYPE_FILTER,
	  .shape = CFG_TEXTS,
	  .value = STG_FILTER_INCLUDE_FROM, .group = GROUP_FILTER,
	  .help = "include patterns, one a line" },
	{ .name = "filter", .key = "filter", .arg = "RULE", .type = TYPE_FILTER,
	  .shape = CFG_TEXTS,
	  .value = STG_FILTER_RULE, .group = GROUP_FILTER, .help = "any rule of rsync's language" },
	{ .key = "phases", .type = TYPE_PHASES,
	  .shape = CFG_TREE, .words = phase_words, .group = GROUP_FILTER,
	  .help = "filter rules of single phases" },
	{ .letter = 'F', .key = "per_dir_filter", .type = TYPE_PER_DIR,
	  .shape = CFG_WHOLE, .min = 0, .max = 2,
	  .group = GROUP_FILTER,
	  .help = "read .rsync-filter in each directory; twice: leave these files out, too" },
	{ .name = "excludes", .key = "excludes", .arg = "NAME-or-FILE", .type = TYPE_EXCLUDES,
	  .words = excludes_words, .group = GROUP_FILTER, FIELD(excludes), .def = "default",
	  .help = "standard list, after all other rules: default, go2tencentcloud or a path" },
	{ .env = "RSYNC_EXCLUDES", .type = CFG_LIST, .group = GROUP_FILTER,
	  FIELD(exclude_patterns), .help = "patterns in place of the standard list" },
	{ .name = "no-default-excludes", .key = "no_default_excludes", .type = CFG_FLAG,
	  .group = GROUP_FILTER, OWN_FIELD(no_excludes), .help = "no standard list" },

	{ .name = "no-delete", .key = "no_delete", .type = CFG_FLAG, .group = GROUP_TRANSFER,
	  FIELD(no_delete), .help = "keep extra files on the target" },
	{ .name = "max-delete", .key = "max_delete", .arg = "N|none", .type = CFG_NUMBER,
	  .min = 0, .max = INT_MAX, .words = max_delete_words, .group = GROUP_TRANSFER,
	  FIELD(max_delete), .def = "none",
	  .help = "entries that a phase may delete; with more, exit status 25" },
	{ .name = "mkpath", .key = "mkpath", .type = CFG_FLAG, .group = GROUP_TRANSFER,
	  FIELD(mkpath), .help = "create missing parents of the target root" },
	{ .name = "bwlimit", .key = "bwlimit", .arg = "RATE", .type = TYPE_RATE,
	  .group = GROUP_TRANSFER, FIELD(bwlimit_bytes),
	  .help = "bytes per second over all sessions, like 20M or 800K; 0: no limit" },
	{ .key = "bandwidth_limit_mb", .type = CFG_NUMBER, .min = 1, .max = 10240,
	  .group = GROUP_TRANSFER, OWN_FIELD(limit_mb), .help = "the same in units of 1000000 bytes" },
	{ .key = "bandwidth_windows", .type = TYPE_WINDOWS, .shape = CFG_TREE, .min = 1,
	  .max = 10240, .group = GROUP_TRANSFER, .help = "hours of the day with a limit of their own" },
	{ .name = "sessions", .key = "sessions", .arg = "N|auto", .type = CFG_NUMBER, .min = 1,
	  .max = STG_SESSIONS_MAX, .words = sessions_words, .group = GROUP_TRANSFER,
	  FIELD(sessions), .def = "auto", .help = "SSH sessions at a time" },
	{ .name = "compress", .key = "compress", .arg = "auto|off|1..19", .type = CFG_NUMBER,
	  .min = 1, .max = 19, .words = compress_words, .group = GROUP_TRANSFER, FIELD(compress),
	  .def = "auto", .help = "zstd level" },
	{ .name = "resume-mode", .key = "resume_mode", .arg = "auto|manual", .type = CFG_ENUM,
	  .words = resume_words, .group = GROUP_TRANSFER, FIELD(resume_mode), .def = "auto",
	  .help = "after a lost connection: reconnect, or stop with exit status 30" },

	{ .name = "rounds", .key = "rounds", .env = "RSYNC_INCREMENTAL_ROUNDS", .arg = "N",
	  .type = CFG_NUMBER, .min = 0, .max = 1000, .only = "run", .group = GROUP_PHASE,
	  FIELD(rounds), .def = "1",
	  .help = "incremental syncs between full and cutover; 0: stop after full" },
	{ .name = "cutover-stop-cmd", .key = "cutover_stop_cmd", .env = "RSYNC_CUTOVER_STOP_CMD",
	  .arg = "CMD", .type = TYPE_COMMAND, .may_be_empty = true,
	  .only = "cutover run", .group = GROUP_PHASE,
	  FIELD(cutover_stop_cmd), .help = "stops the services before the final sync" },
	{ .name = "cutover-start-cmd", .key = "cutover_start_cmd",
	  .env = "RSYNC_CUTOVER_START_CMD", .arg = "CMD", .type = TYPE_COMMAND, .may_be_empty = true,
	  .only = "cutover run", .group = GROUP_PHASE, FIELD(cutover_start_cmd),
	  .help = "starts the services after it" },
	{ .name = "target-finalize-cmd", .key = "target_finalize_cmd",
	  .env = "RSYNC_TARGET_FINALIZE_CMD", .arg = "CMD", .type = TYPE_COMMAND, .may_be_empty = true,
	  .only = "cutover run", .group = GROUP_PHASE, FIELD(target_finalize_cmd),
	  .help = "runs on the target after the final sync" },
	{ .name = "hook-timeout", .key = "hook_timeout", .arg = "SECONDS", .type = CFG_NUMBER,
	  .min = 1, .max = 7 * DAY_S, .only = "cutover run", .group = GROUP_PHASE,
	  FIELD(hook_timeout_s), .def = "300", .help = "for each of these commands" },
	{ .name = "list", .type = CFG_FLAG, .only = "plan", .group = GROUP_PHASE, FIELD(list),
	  .help = "print the selected paths, one a line" },
	{ .name = "list0", .type = CFG_FLAG, .only = "plan", .group = GROUP_PHASE, FIELD(list0),
	  .help = "the same, each ended by a NUL" },
	{ .name = "list-deletes", .type = CFG_FLAG, .only = "plan", .group = GROUP_PHASE,
	  FIELD(list_deletes), .help = "print \"deleting PATH\" for what would be deleted" },
	{ .name = "lint", .type = CFG_FLAG, .only = "explain", .group = GROUP_PHASE, FIELD(lint),
	  .help = "name rules that cannot do what they say; exit status 1 when there are any" },
	{ .name = "json", .type = CFG_FLAG, .only = "status forecast", .group = GROUP_PHASE, FIELD(json),
	  .help = "for programs" },
	{ .name = "format", .arg = "text", .type = CFG_ENUM, .words = format_words,
	  .only = "report", .group = GROUP_PHASE, FIELD(format), .def = "text",
	  .help = "how to render the report" },
};
/* clang-format on */
