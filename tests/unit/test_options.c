/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/options.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "common/io.h"
#include "common/macro.h"

#define ARGS_MAX 12

struct fixture {
	char path[64]; /* a config file, rewritten by each run() */
	struct stg_options o;
	struct err e;
};

static int no_run(struct stg_options *o, struct err *e)
{
	(void)o;
	return err_set(e, -ENOSYS, "the parser must not run commands");
}

static const struct stg_command commands[] = {
	{ "plan", "show what would be sent", no_run, false },
	{ "full", "copy everything", no_run, false },
	{ "incremental", "copy what changed", no_run, false },
	{ "cutover", "copy the rest and switch", no_run, false },
	{ "run", "all phases", no_run, false },
	{ "verify", "compare", no_run, false },
	{ "explain", "say which rule decides", no_run, true },
	{ "status", "show the state", no_run, false },
	{ "report", "render the report", no_run, true },
	{ "clean", "leave migration mode", no_run, false },
	{ NULL, NULL, NULL, false },
};

static void set_config(struct fixture *f, const char *text)
{
	assert_int_equal(io_replace_file(AT_FDCWD, f->path, bytes_str(text), 0600, &f->e), 0);
}

static int parse(struct fixture *f, const char *const *args, const char *const *env)
{
	char *argv[ARGS_MAX + 2];
	int argc = 1;

	argv[0] = (char *)(uintptr_t)"stager";
	while (argc <= ARGS_MAX && args[argc - 1]) {
		argv[argc] = (char *)(uintptr_t)args[argc - 1];
		argc++;
	}
	argv[argc] = NULL;
	stg_options_fini(&f->o);
	f->e = (struct err){ 0 };
	return stg_options_parse(argc, argv, (char **)(uintptr_t)env, commands, &f->o, &f->e);
}

/* run --config PATH with these arguments behind, and this file. */
static int run(struct fixture *f, const char *config, const char *const *env,
	       const char *const *args)
{
	const char *all[ARGS_MAX + 1] = { "run", "--config", f->path };

	for (size_t i = 0; args && args[i] && i + 4 <= ARGS_MAX; i++)
		all[i + 3] = args[i];
	set_config(f, config ? config : "{}");
	return parse(f, all, env);
}

#define ARGS(...) ((const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) NULL })
#define GOOD(f, config, env, args)                          \
	do {                                                \
		if (run(f, config, env, args) != 0)         \
			fail_msg("%s", (f)->e.text);        \
	} while (0)

static void expect_error(struct fixture *f, int r, const char *want)
{
	assert_int_equal(r, -ERR_USAGE);
	if (!strstr(f->e.text, want))
		fail_msg("'%s' is not in '%s'", want, f->e.text);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fd;

	if (!f)
		return -1;
	strcpy(f->path, "/tmp/stager-options-XXXXXX");
	fd = mkstemp(f->path);
	if (fd < 0)
		return -1;
	close(fd);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	unlink(f->path);
	stg_options_fini(&f->o);
	free(f);
	return 0;
}

static void defaults_hold_when_nothing_is_said(void **state)
{
	struct fixture *f = *state;
	const struct stg_options *o = &f->o;

	GOOD(f, NULL, NULL, NULL);
	assert_int_equal(o->action, CFG_RUN);
	assert_string_equal(o->command->name, "run");
	assert_string_equal(o->config, f->path);
	assert_string_equal(o->state_dir, "/var/lib/stager");
	assert_string_equal(o->report, "/var/lib/stager/out/rsync_execution.json");
	assert_string_equal(o->source, "/");
	assert_int_equal(o->paths.n, 0);
	assert_null(o->target.host);
	assert_int_equal(o->target.port, 22);
	assert_int_equal(o->host_key, STG_HOST_KEY_STRICT);
	assert_int_equal(o->timeout_s, 60);
	assert_int_equal(o->connect_timeout_s, 30);
	assert_int_equal(o->phase_timeout_s, 0);
	assert_string_equal(o->excludes, "default");
	assert_int_equal(o->filters.n, 0);
	assert_false(o->no_delete);
	assert_false(o->mkpath);
	assert_int_equal(o->bwlimit_bytes, 0);
	assert_int_equal(o->sessions, STG_SESSIONS_AUTO);
	assert_int_equal(o->compress, STG_COMPRESS_AUTO);
	assert_int_equal(o->resume_mode, STG_RESUME_AUTO);
	assert_int_equal(o->progress, STG_PROGRESS_AUTO);
	assert_int_equal(o->log_level, LOG_INFO);
	assert_int_equal(o->rounds, 1);
	assert_int_equal(o->hook_timeout_s, 300);
	assert_null(o->password_env);
}

static void options_work_before_and_after_the_command(void **state)
{
	struct fixture *f = *state;

	set_config(f, "{}");
	assert_int_equal(parse(f, ARGS("--config", f->path, "--sessions=8", "full", "--compress",
				       "19", "--no-delete", "--bwlimit", "800K"),
			       NULL),
			 0);
	assert_string_equal(f->o.command->name, "full");
	assert_int_equal(f->o.sessions, 8);
	assert_int_equal(f->o.compress, 19);
	assert_true(f->o.no_delete);
	assert_int_equal(f->o.bwlimit_bytes, 800 * 1024);

	assert_int_equal(parse(f, ARGS("--config", f->path, "report", "--format=text", "--", "-x",
				       "--port"),
			       NULL),
			 0);
	assert_int_equal(f->o.args.n, 2);
	assert_string_equal(f->o.args.v[0], "-x");
	assert_string_equal(f->o.args.v[1], "--port");

	assert_int_equal(parse(f, ARGS("--config", f->path, "--compress", "off", "--", "clean"),
			       NULL),
			 0);
	assert_string_equal(f->o.command->name, "clean");
	assert_int_equal(f->o.compress, STG_COMPRESS_OFF);

	/* The last one counts. */
	GOOD(f, NULL, NULL, ARGS("--progress", "bar", "--progress", "json"));
	assert_int_equal(f->o.progress, STG_PROGRESS_JSON);
}

static void mistakes_in_argv_are_named(void **state)
{
	static const struct {
		const char *args[5];
		const char *want;
	} rows[] = {
		{ { NULL }, "no command given" },
		{ { "fulll" }, "unknown command 'fulll', did you mean 'full'" },
		{ { "rollback" }, "unknown command 'rollback'" },
		{ { "" }, "unknown command ''" },
		{ { "full", "--sesions", "4" }, "unknown option --sesions, did you mean --sessions" },
		{ { "full", "--tagret=x" }, "unknown option --tagret, did you mean --target" },
		{ { "full", "--qqqqqqqq" }, "unknown option --qqqqqqqq; see" },
		{ { "full", "-x" }, "unknown option -x" },
		{ { "full", "-Fx" }, "unknown option -Fx" },
		{ { "full", "--port" }, "--port needs a value: N" },
		{ { "full", "--mkpath=yes" }, "--mkpath takes no value" },
		{ { "full", "more" }, "unexpected argument 'more' after full" },
		{ { "full", "--list" }, "--list is not an option of full, only of: plan" },
		{ { "--json", "plan" }, "--json is not an option of plan, only of: status" },
		{ { "full", "--rounds", "2" }, "--rounds is not an option of full" },
		{ { "plan", "--hook-timeout=2" }, "only of: cutover, run" },
		{ { "full", "--port", "70000" }, "--port: 70000 is out of range: allowed is 1 to 65535" },
		{ { "full", "--port", "-1" }, "--port: -1 is out of range" },
		{ { "full", "--port", "2x" }, "--port: '2x' is not a whole number" },
		{ { "full", "--timeout", "99999999999999999999" }, "--timeout: 99999999999999999999 is out of range" },
		{ { "full", "--sessions", "65" }, "allowed is 1 to 64, or auto" },
		{ { "full", "--sessions", "0" }, "allowed is 1 to 64, or auto" },
		{ { "full", "--sessions", "atuo" }, "did you mean 'auto'" },
		{ { "full", "--compress", "20" }, "allowed is 1 to 19, or auto" },
		{ { "full", "--progress", "pain" }, "did you mean 'plain'" },
		{ { "full", "--host-key", "no" }, "'no' is not one of: strict, accept-new" },
		{ { "full", "--bwlimit", "fast" }, "--bwlimit: 'fast' is not a size" },
		{ { "full", "--bwlimit", "500" }, "allowed is 1K and more" },
		{ { "full", "--cipher", "a;b" }, "--cipher: expected cipher names" },
		{ { "full", "--excludes", "defualt" }, "did you mean 'default'" },
		{ { "full", "--source", "" }, "--source: the value is empty" },
		{ { "full", "--config=" }, "--config: the value is empty" },
		{ { "full", "--target", "h:x" }, "--target: target root is not absolute" },
		{ { "full", "--target=ssh://h:23/", "--port", "24" }, "port 23 and --port says 24" },
		{ { "full", "--path", "a/../b" }, "'a/../b' has a '..'" },
		{ { "full", "--source=/srv", "--path=/etc" }, "'/etc' is not below the source '/srv'" },
		{ { "plan", "--list", "--list0" }, "--list, --list0 and --list-deletes" },
		{ { "full", "--config", "/nonexistent.json" }, "/nonexistent.json" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		expect_error(f, parse(f, rows[i].args, NULL), rows[i].want);
}

static void a_password_in_the_target_is_not_repeated(void **state)
{
	struct fixture *f = *state;

	expect_error(f, run(f, NULL, NULL, ARGS("--target", "u:s3cret@h:/x")), "--password-file");
	assert_null(strstr(f->e.text, "s3cret"));
	expect_error(f, run(f, "{\"target\": \"ssh://u:s3cret@h/x\"}", NULL, NULL),
		     "--password-file");
	assert_null(strstr(f->e.text, "s3cret"));
}

static void mistakes_in_the_config_are_named_with_their_position(void **state)
{
	static const struct {
		const char *text;
		const char *want;
	} rows[] = {
		{ "{\n \"port\": 22\n \"rounds\": 1}", "line 3, column 2: expected ',' or '}'" },
		{ "{\n \"prot\": 22}", "line 2, column 2: unknown key 'prot', did you mean 'port'?" },
		{ "{\"password\": \"x\"}", "unknown key 'password'" },
		{ "{\"list\": true}", "unknown key 'list'" },
		{ "{\"port\": 1,\n\"port\": 2}", "line 2, column 1: duplicate key 'port'" },
		{ "{\"port\": \"22\"}", "line 1, column 10: port: expected a whole number from 1 to 65535, found a string" },
		{ "{\"port\": 2.5}", "found a fraction" },
		{ "{\"port\": null}", "found null" },
		{ "{\"port\": 70000}", "column 10: port: 70000 is out of range: allowed is 1 to 65535" },
		{ "{\"port\": 1e300}", "port: expected a whole number" },
		{ "{\"sessions\": true}", "or a string, found true or false" },
		{ "{\"max_delete\": -1}", "max_delete: -1 is out of range" },
		{ "{\"phases\": []}", "column 12: phases: expected an object, found an array" },
		{ "{\"phases\": {\"cutovre\": {}}}", "unknown phase 'cutovre', did you mean 'cutover'?" },
		{ "{\"phases\": {\"full\": {\"fliter\": \"x\"}}}", "unknown key of a phase 'fliter', did you mean 'filter'?" },
		{ "{\"phases\": {\"full\": {\"filter\": [\"- x\", 5]}}}", "filter: expected a string or an array" },
		{ "{\"compress\": 20}", "compress: 20 is out of range: allowed is 1 to 19" },
		{ "{\"per_dir_filter\": 3}", "allowed is 0 to 2" },
		{ "{\"mkpath\": 1}", "mkpath: expected true or false, found a number" },
		{ "{\"bwlimit\": 20}", "bwlimit: expected a string, found a number" },
		{ "{\"bandwidth_limit_mb\": 10241}", "allowed is 1 to 10240" },
		{ "{\"bwlimit\": \"1M\",\n\"bandwidth_limit_mb\": 1}", "line 2, column 23: bwlimit and bandwidth_limit_mb are both given" },
		{ "{\"bandwidth_windows\": {}}", "column 23: bandwidth_windows: expected an array" },
		{ "{\"bandwidth_windows\": [5]}", "column 24: bandwidth_windows: expected an object" },
		{ "{\"bandwidth_windows\": [{}]}", "the window has no start" },
		{ "{\"bandwidth_windows\": [{\"start\": \"09:00\", \"limit_mb\": 2}]}", "the window has no end" },
		{ "{\"bandwidth_windows\": [\n{\"start\": \"9:00\"}]}",
		  "line 2, column 11: bandwidth_windows: start: '9:00' is no time of day" },
		{ "{\"bandwidth_windows\": [{\"start\": 9}]}", "start: expected a string" },
		{ "{\"bandwidth_windows\": [{\"strat\": \"09:00\"}]}", "unknown key of a window 'strat', did you mean 'start'?" },
		{ "{\"bandwidth_windows\": [{\"limit_mb\": 0}]}", "limit_mb: expected a whole number from 1 to 10240" },
		{ "{\"bandwidth_windows\": [{\"limit_mb\": 10241}]}", "limit_mb: expected" },
		{ "{\"bandwidth_windows\": [{\"limit_mb\": 1.5}]}", "limit_mb: expected" },
		{ "{\"bandwidth_windows\": [{\"limit_mb\": \"1\"}]}", "limit_mb: expected" },
		{ "{\"bandwidth_windows\": [{\"start\": \"09:00\", \"end\": \"09:00\", \"limit_mb\": 1}]}",
		  "start and end are the same" },
		{ "{\"bandwidth_windows\": [{\"start\": \"22:00\", \"end\": \"06:00\", \"limit_mb\": 1},\n"
		  "{\"start\": \"05:59\", \"end\": \"07:00\", \"limit_mb\": 2}]}",
		  "line 2, column 1: bandwidth_windows: the window 05:59-07:00 overlaps with 22:00-06:00" },
		{ "{\"exclude\": [\"a\", 5]}", "column 19: exclude: expected a string or an array" },
		{ "{\"exclude\": {}}", "found an object" },
		{ "{\"source\": [\"/\"]}", "source: expected a string, found an array" },
		{ "{\"source\": \"\"}", "source: the value is empty" },
		{ "{\"host_key\": \"scrict\"}", "did you mean 'strict'" },
		{ "{\"target\": \"h\"}", "target: target root is missing" },
		{ "{\"target\": \"ssh://h:5/\", \"port\": 6}", "config file: the target's URL says port 5" },
		{ "[]", "line 1, column 1: expected an object, found an array" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		expect_error(f, run(f, rows[i].text, NULL, NULL), rows[i].want);
		assert_non_null(strstr(f->e.text, "config file"));
	}
}

static void the_command_line_beats_the_environment_and_that_the_file(void **state)
{
	static const char config[] = "{\"rounds\": 2, \"port\": 1002, \"phase_timeout\": 2,"
				     "\"path\": [\"c1\", \"c2\"], \"report\": \"/c/r.json\","
				     "\"cutover_stop_cmd\": \"c\", \"sessions\": 2}";
	static const char *const env[] = {
		"RSYNC_INCREMENTAL_ROUNDS=3", "RSYNC_TARGET_PORT=1003", "RSYNC_TIMEOUT_SEC=3",
		"RSYNC_SOURCE_PATHS= /e1 , e2/,", "RESULT_PATH=/e/migration_result.json",
		"RSYNC_CUTOVER_STOP_CMD=e", "RSYNC_CUTOVER_START_CMD=", NULL,
	};
	struct fixture *f = *state;
	const struct stg_options *o = &f->o;

	GOOD(f, config, NULL, NULL);
	assert_int_equal(o->rounds, 2);
	assert_int_equal(o->target.port, 1002);
	assert_int_equal(o->paths.n, 2);
	assert_string_equal(o->paths.v[1], "c2");
	assert_string_equal(o->report, "/c/r.json");
	assert_string_equal(o->cutover_stop_cmd, "c");

	GOOD(f, config, env, NULL);
	assert_int_equal(o->rounds, 3);
	assert_int_equal(o->target.port, 1003);
	assert_int_equal(o->phase_timeout_s, 3);
	assert_int_equal(o->paths.n, 2);
	assert_string_equal(o->paths.v[0], "e1");
	assert_string_equal(o->paths.v[1], "e2");
	assert_string_equal(o->report, "/e/rsync_execution.json");
	assert_string_equal(o->cutover_stop_cmd, "e");
	assert_null(o->cutover_start_cmd);
	assert_int_equal(o->sessions, 2);

	GOOD(f, config, env, ARGS("--rounds", "4", "--port=1004", "--path", "a", "--report=/a",
				  "--cutover-stop-cmd="));
	assert_int_equal(o->rounds, 4);
	assert_int_equal(o->target.port, 1004);
	assert_int_equal(o->paths.n, 1);
	assert_string_equal(o->paths.v[0], "a");
	assert_string_equal(o->report, "/a");
	assert_null(o->cutover_stop_cmd);
}

static void mistakes_in_the_environment_are_named(void **state)
{
	struct fixture *f = *state;

	expect_error(f, run(f, NULL, ARGS("RSYNC_TARGET_PORT=ssh"), NULL),
		     "environment variable RSYNC_TARGET_PORT: 'ssh' is not a whole number");
	expect_error(f, run(f, NULL, ARGS("RSYNC_TARGET_HOST=a/b"), NULL),
		     "environment variable RSYNC_TARGET_HOST: target host has");
}

static void the_target_is_put_together_from_its_parts(void **state)
{
	static const struct {
		const char *config;
		const char *env[4];
		const char *args[4];
		struct {
			const char *user, *host, *root;
			unsigned port;
		} want;
	} rows[] = {
		{ "{}", { "RSYNC_TARGET_HOST=e" }, { NULL }, { NULL, "e", "/", 22 } },
		{ "{}", { "RSYNC_TARGET_HOST=fe80::1", "RSYNC_TARGET_USER=u", "RSYNC_TARGET_PORT=9" },
		  { NULL }, { "u", "fe80::1", "/", 9 } },
		{ "{}", { "RSYNC_TARGET_USER=u" }, { NULL }, { "u", NULL, NULL, 22 } },
		{ "{\"target\": \"cu@c:/c\"}", { "RSYNC_TARGET_HOST=e" }, { NULL }, { "cu", "e", "/c", 22 } },
		{ "{\"target\": \"cu@c:/c\"}", { "RSYNC_TARGET_USER=u" }, { NULL }, { "u", "c", "/c", 22 } },
		{ "{\"target\": \"cu@c:/c\"}", { NULL }, { "--target", "a:/a" }, { NULL, "a", "/a", 22 } },
		{ "{\"target\": \"ssh://c:5/c\"}", { NULL }, { NULL }, { NULL, "c", "/c", 5 } },
		{ "{\"target\": \"ssh://c:5/c\", \"port\": 5}", { NULL }, { NULL }, { NULL, "c", "/c", 5 } },
		{ "{\"target\": \"ssh://c:5/c\"}", { "RSYNC_TARGET_PORT=6" }, { NULL }, { NULL, "c", "/c", 6 } },
		{ "{\"target\": \"ssh://c:5/c\"}", { NULL }, { "--port", "7" }, { NULL, "c", "/c", 7 } },
		{ "{\"port\": 8}", { "RSYNC_TARGET_PORT=6" }, { "--target", "ssh://a:7/" }, { NULL, "a", "/", 7 } },
		{ "{\"port\": 8}", { "RSYNC_TARGET_HOST=e", "RSYNC_TARGET_USER=u" },
		  { "--target", "a:/a" }, { "u", "a", "/a", 8 } },
		{ "{}", { "RSYNC_TARGET_USER=u" }, { "--target", "au@a:/a" }, { "au", "a", "/a", 22 } },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct cfg_target *t = &f->o.target;

		GOOD(f, rows[i].config, rows[i].env, rows[i].args);
		if (!!t->user != !!rows[i].want.user || !!t->host != !!rows[i].want.host)
			fail_msg("row %zu: user %s, host %s", i, t->user, t->host);
		if (t->user)
			assert_string_equal(t->user, rows[i].want.user);
		if (t->host) {
			assert_string_equal(t->host, rows[i].want.host);
			assert_string_equal(t->root, rows[i].want.root);
		}
		assert_int_equal(t->port, rows[i].want.port);
	}
}

static void filter_options_keep_their_order(void **state)
{
	static const struct {
		enum stg_filter_kind kind;
		const char *text;
	} want[] = {
		{ STG_FILTER_INCLUDE, "a" },
		{ STG_FILTER_RULE, ": /.rsync-filter" },
		{ STG_FILTER_EXCLUDE, "b" },
		{ STG_FILTER_RULE, "P c" },
		{ STG_FILTER_EXCLUDE_FROM, "-" },
		{ STG_FILTER_EXCLUDE, "c1" },
		{ STG_FILTER_EXCLUDE, "c2" },
		{ STG_FILTER_RULE, "- .rsync-filter" },
		{ STG_FILTER_INCLUDE_FROM, "f" },
	};
	struct fixture *f = *state;

	GOOD(f, "{\"exclude\": [\"c1\",\n\"c2\"], \"per_dir_filter\": 2, \"include_from\": \"f\"}",
	     NULL, ARGS("--include=a", "-F", "--exclude", "b", "--filter", "P c",
			"--exclude-from=-"));
	assert_int_equal(f->o.filters.n, ARRAY_SIZE(want));
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		assert_int_equal(f->o.filters.v[i].kind, want[i].kind);
		assert_string_equal(f->o.filters.v[i].text, want[i].text);
	}
	assert_string_equal(f->o.filters.v[0].origin, "command line");
	assert_non_null(strstr(f->o.filters.v[6].origin, f->path));
	assert_non_null(strstr(f->o.filters.v[6].origin, "line 2"));

	GOOD(f, "{\"per_dir_filter\": 2}", NULL, ARGS("-FFF"));
	assert_int_equal(f->o.filters.n, 2);
}

static void phases_have_rules_of_their_own(void **state)
{
	struct fixture *f = *state;
	const struct stg_filter_args *p;

	GOOD(f, "{\"exclude\": \"c\", \"phases\": {\"cutover\": {\"include\": \"i\",\n"
		"\"filter\": [\"P x\", \"- y\"]}, \"full\": {\"exclude_from\": \"f\"}}}",
	     NULL, ARGS("--exclude=a"));
	assert_int_equal(f->o.filters.n, 2);
	p = f->o.phase_filters;
	assert_int_equal(p[STG_PHASE_FULL].n, 1);
	assert_int_equal(p[STG_PHASE_FULL].v[0].kind, STG_FILTER_EXCLUDE_FROM);
	assert_int_equal(p[STG_PHASE_INCREMENTAL].n, 0);
	assert_int_equal(p[STG_PHASE_CUTOVER].n, 3);
	assert_int_equal(p[STG_PHASE_CUTOVER].v[0].kind, STG_FILTER_INCLUDE);
	assert_string_equal(p[STG_PHASE_CUTOVER].v[2].text, "- y");
	assert_non_null(strstr(p[STG_PHASE_CUTOVER].v[2].origin, "line 2"));
}

static void max_delete_tells_zero_from_none(void **state)
{
	struct fixture *f = *state;

	GOOD(f, NULL, NULL, NULL);
	assert_int_equal(f->o.max_delete, STG_MAX_DELETE_NONE);
	GOOD(f, "{\"max_delete\": 0}", NULL, NULL);
	assert_int_equal(f->o.max_delete, 0);
	GOOD(f, "{\"max_delete\": 7}", NULL, ARGS("--max-delete=none"));
	assert_int_equal(f->o.max_delete, STG_MAX_DELETE_NONE);
}

static void the_standard_list_is_decided_by_the_highest_level(void **state)
{
	static const struct {
		const char *config;
		const char *env;
		const char *args[4];
		const char *list;
		size_t patterns;
	} rows[] = {
		{ "{}", NULL, { NULL }, "default", 0 },
		{ "{\"excludes\": \"go2tencentcloud\"}", NULL, { NULL }, "go2tencentcloud", 0 },
		{ "{\"excludes\": \"./x\"}", "RSYNC_EXCLUDES=/a/*, /b ", { NULL }, NULL, 2 },
		{ "{}", "RSYNC_EXCLUDES=", { NULL }, "default", 0 },
		{ "{}", "RSYNC_EXCLUDES=/a", { "--excludes", "/l" }, "/l", 0 },
		{ "{}", "RSYNC_EXCLUDES=/a", { "--no-default-excludes" }, NULL, 0 },
		{ "{\"no_default_excludes\": true}", NULL, { NULL }, NULL, 0 },
		{ "{\"no_default_excludes\": false}", NULL, { NULL }, "default", 0 },
		{ "{\"no_default_excludes\": true}", "RSYNC_EXCLUDES=/a", { NULL }, NULL, 1 },
		{ "{\"no_default_excludes\": true}", NULL, { "--excludes=default" }, "default", 0 },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		GOOD(f, rows[i].config, ARGS(rows[i].env), rows[i].args);
		if (!!f->o.excludes != !!rows[i].list)
			fail_msg("row %zu: list %s", i, f->o.excludes);
		if (rows[i].list)
			assert_string_equal(f->o.excludes, rows[i].list);
		assert_int_equal(f->o.exclude_patterns.n, rows[i].patterns);
	}
}

static void only_the_strongest_password_source_stays(void **state)
{
	struct fixture *f = *state;

	GOOD(f, "{\"password_file\": \"/c\"}", ARGS("RSYNC_TARGET_PASSWORD=s3cret"), NULL);
	assert_string_equal(f->o.password_env, "s3cret");
	assert_null(f->o.password_file);
	GOOD(f, NULL, ARGS("RSYNC_TARGET_PASSWORD=s3cret"), ARGS("--password-file", "/a"));
	assert_null(f->o.password_env);
	assert_string_equal(f->o.password_file, "/a");
}

static void both_bandwidth_keys_work_and_the_option_wins(void **state)
{
	struct fixture *f = *state;

	GOOD(f, "{\"bandwidth_limit_mb\": 20}", NULL, NULL);
	assert_int_equal(f->o.bwlimit_bytes, 20000000);
	GOOD(f, "{\"bwlimit\": \"20M\"}", NULL, NULL);
	assert_int_equal(f->o.bwlimit_bytes, 20 << 20);
	GOOD(f, "{\"bandwidth_limit_mb\": 20}", NULL, ARGS("--bwlimit", "0"));
	assert_int_equal(f->o.bwlimit_bytes, 0);
}

static void windows_are_kept_in_their_order(void **state)
{
	_cleanup_(buf_fini) struct buf many = BUF_INIT;
	struct fixture *f = *state;

	GOOD(f, "{\"bandwidth_windows\": []}", NULL, NULL);
	assert_int_equal(f->o.bandwidth_windows_n, 0);
	GOOD(f, "{\"bandwidth_windows\": [{\"start\": \"22:00\", \"end\": \"06:30\", \"limit_mb\": 10240},"
	     "{\"limit_mb\": 20, \"end\": \"18:00\", \"start\": \"09:00\"}]}", NULL,
	     ARGS("--bwlimit", "5M"));
	assert_int_equal(f->o.bwlimit_bytes, 5 << 20);
	assert_int_equal(f->o.bandwidth_windows_n, 2);
	assert_int_equal(f->o.bandwidth_windows[0].start_min, 22 * 60);
	assert_int_equal(f->o.bandwidth_windows[0].end_min, 6 * 60 + 30);
	assert_int_equal(f->o.bandwidth_windows[0].bytes_per_s, 10240000000);
	assert_int_equal(f->o.bandwidth_windows[1].bytes_per_s, 20000000);

	for (int i = 0; i <= STG_BWWINDOWS_MAX; i++)
		assert_int_equal(buf_printf(&many, "%s{\"start\": \"%02d:%02d\", \"end\": \"%02d:%02d\","
					    "\"limit_mb\": 1}", i ? "," : "{\"bandwidth_windows\": [",
					    i / 60, i % 60, (i + 1) / 60, (i + 1) % 60), 0);
	assert_int_equal(buf_printf(&many, "]}"), 0);
	expect_error(f, run(f, buf_cstr(&many), NULL, NULL), "65 windows are too many");
}

static void a_relative_source_becomes_absolute(void **state)
{
	_cleanup_free_ char *cwd = getcwd(NULL, 0);
	struct fixture *f = *state;

	assert_non_null(cwd);
	GOOD(f, NULL, NULL, ARGS("--source", "x/"));
	assert_true(!strncmp(f->o.source, cwd, strlen(cwd)));
	assert_string_equal(f->o.source + strlen(cwd), "/x/");
}

static void paths_are_normalised(void **state)
{
	static const struct {
		const char *source;
		const char *in[5];
		const char *want[4];
	} rows[] = {
		{ "/", { NULL }, { NULL } },
		{ "/", { "etc", "/home/" }, { "etc", "home" } },
		{ "/", { "./a//b/", "a/b", "/a/./b" }, { "a/b" } },
		{ "/", { "a/b", "c", "a", "ab" }, { "c", "a", "ab" } },
		{ "/", { "a", "/" }, { "." } },
		{ "/srv/", { "/srv/www", "/srv//git", "www/x" }, { "www", "git" } },
		{ "/srv", { "/srv" }, { "." } },
		{ "/srv/../x", { "/srv" , "x" }, { "!" } },
		{ "/srv", { "/srvx" }, { "!" } },
		{ "/srv", { "a/.." }, { "!" } },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(strlist_fini) struct strlist in = { 0 }, out = { 0 };
		struct err e = { 0 };
		size_t n = 0;
		int r;

		for (size_t k = 0; rows[i].in[k]; k++)
			assert_int_equal(strlist_add(&in, rows[i].in[k], strlen(rows[i].in[k])),
					 0);
		r = stg_paths_normalise(rows[i].source, &in, &out, &e);
		if (rows[i].want[0] && !strcmp(rows[i].want[0], "!")) {
			assert_int_equal(r, -ERR_USAGE);
			continue;
		}
		assert_int_equal(r, 0);
		for (; rows[i].want[n]; n++) {
			assert_true(n < out.n);
			assert_string_equal(out.v[n], rows[i].want[n]);
		}
		assert_int_equal(out.n, n);
	}
}

static const char *help_of(struct fixture *f, const char *command)
{
	const char *s;

	assert_int_equal(parse(f, command ? ARGS(command, "--help") : ARGS("--help"), NULL), 0);
	assert_int_equal(f->o.action, CFG_HELP);
	s = buf_cstr(&f->o.text);
	assert_non_null(s);
	return s;
}

static void help_and_version_need_neither_command_nor_config(void **state)
{
	struct fixture *f = *state;
	const char *s = help_of(f, NULL);

	for (const struct stg_command *c = commands; c->name; c++)
		assert_non_null(strstr(s, c->summary));
	for (const char *p = s; *p; p += strcspn(p, "\n") + 1)
		assert_true(strcspn(p, "\n") <= 80);
	assert_non_null(strstr(s, "--list0"));
	assert_non_null(strstr(s, "RSYNC_EXCLUDES"));

	s = help_of(f, "full");
	assert_non_null(strstr(s, "copy everything"));
	assert_null(strstr(s, "--list"));
	assert_null(strstr(s, "\n  --rounds"));
	assert_non_null(strstr(help_of(f, "run"), "\n  --rounds"));

	assert_int_equal(parse(f, ARGS("--config", "/nonexistent", "--version"), NULL), 0);
	assert_int_equal(f->o.action, CFG_VERSION);
	assert_string_equal(buf_cstr(&f->o.text), "stager " STAGER_VERSION "\n");
}

static void options_of_absent_commands_do_not_exist(void **state)
{
	static const struct stg_command few[] = {
		{ "full", "copy everything", no_run, false },
		{ NULL, NULL, NULL, false },
	};
	char *argv[] = { (char *)(uintptr_t)"stager", (char *)(uintptr_t)"full",
			 (char *)(uintptr_t)"--rounds=1", NULL };
	struct fixture *f = *state;

	stg_options_fini(&f->o);
	expect_error(f, stg_options_parse(3, argv, NULL, few, &f->o, &f->e),
		     "unknown option --rounds");
	argv[2] = (char *)(uintptr_t)"--help";
	assert_int_equal(stg_options_parse(3, argv, NULL, few, &f->o, &f->e), 0);
	assert_null(strstr(buf_cstr(&f->o.text), "RSYNC_INCREMENTAL_ROUNDS"));
}

/* A file of the source tree, found from this one. */
static struct buf read_tree(const char *path)
{
	_cleanup_free_ char *full = NULL;
	struct buf b = BUF_INIT;
	struct err e = { 0 };
	int n = (int)(strstr(__FILE__, "tests/unit/") - __FILE__);

	assert_true(asprintf(&full, "%.*s%s", n, __FILE__, path) > 0);
	if (io_read_file(AT_FDCWD, full, 1 << 20, &b, &e) < 0)
		fail_msg("%s", e.text);
	return b;
}

/* The next "  --name" line of a help text, or NULL. */
static const char *next_option(const char *help, char name[64])
{
	const char *p = strstr(help, "\n  --");
	size_t n;

	if (!p)
		return NULL;
	p += 5;
	n = strcspn(p, " \n");
	assert_true(n > 0 && n < 64);
	memcpy(name, p, n);
	name[n] = '\0';
	return p;
}

static int verify(struct fixture *f, const char *config, const char *const *args)
{
	const char *all[ARGS_MAX + 1] = { "verify", "--config", f->path };

	for (size_t i = 0; args[i] && i + 4 <= ARGS_MAX; i++)
		all[i + 3] = args[i];
	set_config(f, config);
	return parse(f, all, NULL);
}

static void paths_to_verify_are_lists_with_commas(void **state)
{
	static const char config[] = "{ \"source\": \"/srv\", \"method\": \"hash\","
				     " \"verify_exclude\": [\"x\", \"y,z\"] }";
	struct fixture *f = *state;
	char many[STG_VERIFY_EXCLUDES_MAX * 8 + 16] = "";

	assert_int_equal(verify(f, config, ARGS("--verify-include", "/srv/a, b//c",
						"--verify-include=./d", "--repair")), 0);
	assert_int_equal(f->o.method, STG_VERIFY_HASH);
	assert_true(f->o.repair && !f->o.only_inconsistent);
	assert_int_equal(f->o.verify_include.n, 3);
	assert_string_equal(f->o.verify_include.v[0], "a");
	assert_string_equal(f->o.verify_include.v[1], "b/c");
	assert_string_equal(f->o.verify_include.v[2], "d");
	assert_int_equal(f->o.verify_exclude.n, 3);
	/* The source itself is no choice. */
	assert_int_equal(verify(f, "{}", ARGS("--source", "/srv", "--verify-include", "/srv")), 0);
	assert_int_equal(f->o.verify_include.n, 0);
	assert_int_equal(f->o.method, STG_VERIFY_QUICK);
	for (int i = 0; i < STG_VERIFY_EXCLUDES_MAX; i++)
		sprintf(many + strlen(many), "p%d,", i);
	assert_int_equal(verify(f, "{}", ARGS("--verify-exclude", many)), 0);
	assert_int_equal(f->o.verify_exclude.n, STG_VERIFY_EXCLUDES_MAX);
	expect_error(f, verify(f, "{}", ARGS("--verify-exclude", many, "--verify-exclude", "one")),
		     "31 paths in --verify-exclude are too many: allowed is up to 30");
	expect_error(f, verify(f, "{}", ARGS("--verify-exclude", "a/..")),
		     "--verify-exclude: path 'a/..' has a '..' component");
	expect_error(f, verify(f, "{}", ARGS("--verify-exclude", "/")), "leaves nothing");
	expect_error(f, run(f, "{}", NULL, ARGS("--repair")), "--repair is not an option of run");
}

static void the_example_config_is_accepted_when_uncommented(void **state)
{
	_cleanup_(buf_fini) struct buf text = read_tree("packaging/stager.json");
	_cleanup_(buf_fini) struct buf open = BUF_INIT;
	const char *s = buf_cstr(&text);
	struct fixture *f = *state;

	assert_non_null(s);
	GOOD(f, s, NULL, NULL);
	for (const char *p = s; *p;) {
		size_t n = strcspn(p, "\n");
		size_t skip = strncmp(p, "\t// \"", 5) ? 0 : 4;

		/* It excludes bwlimit, which another line of the example has. */
		if (strncmp(p + skip, "\"bandwidth_limit_mb\"", 20) != 0)
			assert_int_equal(buf_put(&open, p + skip, n - skip), 0);
		assert_int_equal(buf_put(&open, "\n", 1), 0);
		p += n + (p[n] == '\n');
	}
	GOOD(f, buf_cstr(&open), NULL, NULL);
	assert_string_equal(f->o.target.host, "target.example");
	assert_int_equal(f->o.bwlimit_bytes, 20 << 20);
}

static void every_option_is_in_the_example_the_manual_and_the_completion(void **state)
{
	static const char no_key[] = " config help version list list0 list-deletes lint json format ";
	_cleanup_(buf_fini) struct buf example = read_tree("packaging/stager.json");
	_cleanup_(buf_fini) struct buf manual = read_tree("man/stager.json.5");
	_cleanup_(buf_fini) struct buf completion = read_tree("packaging/completions/stager");
	struct fixture *f = *state;
	const char *p = help_of(f, NULL);
	char name[64], word[80];
	size_t count = 0;

	for (p = next_option(p, name); p; p = next_option(p, name), count++) {
		snprintf(word, sizeof(word), "--%s", name);
		if (!strstr(buf_cstr(&completion), word))
			fail_msg("%s is not in the completion", word);
		snprintf(word, sizeof(word), " %s ", name);
		if (strstr(no_key, word))
			continue;
		for (char *c = name; *c; c++)
			if (*c == '-')
				*c = '_';
		snprintf(word, sizeof(word), "// \"%s\": ", name);
		if (!strstr(buf_cstr(&example), word))
			fail_msg("%s is not in the example", name);
		snprintf(word, sizeof(word), "\n.It Cm %s ", name);
		if (!strstr(buf_cstr(&manual), word))
			fail_msg("%s is not in the manual", name);
	}
	assert_true(count > 40);
}

/* And the other way round: what the completion offers, the parser knows. */
static void the_completion_offers_nothing_else(void **state)
{
	_cleanup_(buf_fini) struct buf completion = read_tree("packaging/completions/stager");
	struct fixture *f = *state;
	const char *help = help_of(f, NULL), *p = buf_cstr(&completion);
	char word[80];

	assert_non_null(p);
	while ((p = strstr(p, "--")) != NULL) {
		size_t n = 2 + strspn(p + 2, "abcdefghijklmnopqrstuvwxyz0123456789-");

		if (n > 2 && p[2] != '-' && strncmp(p, "--opt", 5) != 0) {
			snprintf(word, sizeof(word), "\n  %.*s", (int)n, p);
			if (!strstr(help, word))
				fail_msg("%.*s is not in --help", (int)n, p);
		}
		p += n;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_hold_when_nothing_is_said),
		cmocka_unit_test(options_work_before_and_after_the_command),
		cmocka_unit_test(mistakes_in_argv_are_named),
		cmocka_unit_test(a_password_in_the_target_is_not_repeated),
		cmocka_unit_test(mistakes_in_the_config_are_named_with_their_position),
		cmocka_unit_test(the_command_line_beats_the_environment_and_that_the_file),
		cmocka_unit_test(mistakes_in_the_environment_are_named),
		cmocka_unit_test(the_target_is_put_together_from_its_parts),
		cmocka_unit_test(filter_options_keep_their_order),
		cmocka_unit_test(phases_have_rules_of_their_own),
		cmocka_unit_test(max_delete_tells_zero_from_none),
		cmocka_unit_test(the_standard_list_is_decided_by_the_highest_level),
		cmocka_unit_test(only_the_strongest_password_source_stays),
		cmocka_unit_test(both_bandwidth_keys_work_and_the_option_wins),
		cmocka_unit_test(windows_are_kept_in_their_order),
		cmocka_unit_test(a_relative_source_becomes_absolute),
		cmocka_unit_test(paths_are_normalised),
		cmocka_unit_test(help_and_version_need_neither_command_nor_config),
		cmocka_unit_test(options_of_absent_commands_do_not_exist),
		cmocka_unit_test(paths_to_verify_are_lists_with_commas),
		cmocka_unit_test(the_example_config_is_accepted_when_uncommented),
		cmocka_unit_test(every_option_is_in_the_example_the_manual_and_the_completion),
		cmocka_unit_test(the_completion_offers_nothing_else),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
