/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/options.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "agent/command.h"
#include "common/io.h"

#define ARGS_MAX 8

struct fixture {
	char path[64]; /* a config file, rewritten by each run() */
	struct agt_options o;
	struct err e;
};

static int no_run(const struct agt_context *ctx, struct err *e)
{
	(void)ctx;
	return err_set(e, -1, "the parser must not run commands");
}

static const struct agt_command commands[] = {
	{ "status", "show the state", no_run, false, false },
	{ "migrate", "migrate this host", no_run, true, false },
	{ 0 },
};

static int fixture_make(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fd;

	if (!f)
		return -1;
	strcpy(f->path, "/tmp/test_agent_options.XXXXXX");
	fd = mkstemp(f->path);
	*state = f;
	return fd < 0 ? -1 : close(fd);
}

static int fixture_drop(void **state)
{
	struct fixture *f = *state;

	agt_options_fini(&f->o);
	unlink(f->path);
	free(f);
	return 0;
}

/* status --config PATH with this file, this environment, and these arguments behind. */
static int run(struct fixture *f, const char *config, const char *const *env,
	       const char *const *args)
{
	const char *argv[ARGS_MAX + 5] = { "stager-agent", "status", "--config", f->path };
	int argc = 4;

	while (args && args[argc - 4]) {
		argv[argc] = args[argc - 4];
		argc++;
	}
	assert_int_equal(io_replace_file(AT_FDCWD, f->path, bytes_str(config), 0600, &f->e), 0);
	agt_options_fini(&f->o);
	f->e = (struct err){ 0 };
	return agt_options_parse(argc, (char **)(uintptr_t)argv, (char **)(uintptr_t)env, commands,
				 &f->o, &f->e);
}

#define ENV(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define ARGS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void defaults_stand_where_nobody_speaks(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(run(f, "{}", NULL, NULL), 0);
	assert_string_equal(f->o.command->name, "status");
	assert_string_equal(f->o.state_dir, "/var/lib/stager");
	assert_string_equal(f->o.out_dir, "/var/lib/stager/out");
	assert_int_equal(f->o.poll_interval_ms, 10000);
	assert_string_equal(f->o.control.region, "la-south-2");
	assert_int_equal(f->o.control.retries, 4);
	assert_null(f->o.control.ak);
	assert_null(f->o.control.endpoint[AGT_SMS]);
}

static void keys_lie_in_objects(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(run(f,
			     "{\"poll_interval\": 0.25, \"control_plane\": {\"ak\": \"A\","
			     " \"endpoints\": {\"sms\": \"https://s\", \"iam\": \"https://i\"},"
			     " \"proxy\": {\"url\": \"http://p\"}, \"timeout\": 2,"
			     " \"retries\": 0}}",
			     NULL, NULL),
			 0);
	assert_int_equal(f->o.poll_interval_ms, 250);
	assert_string_equal(f->o.control.ak, "A");
	assert_string_equal(f->o.control.endpoint[AGT_SMS], "https://s");
	assert_string_equal(f->o.control.endpoint[AGT_IAM], "https://i");
	assert_string_equal(f->o.control.proxy, "http://p");
	assert_int_equal(f->o.control.timeout_ms, 2000);
	assert_int_equal(f->o.control.retries, 0);
}

static void the_command_line_wins_over_the_environment_and_that_over_the_file(void **state)
{
	const char *config = "{\"out\": \"/file\", \"control_plane\": {\"ak\": \"FILE\"}}";
	struct fixture *f = *state;

	assert_int_equal(run(f, config, NULL, NULL), 0);
	assert_string_equal(f->o.out_dir, "/file");
	assert_int_equal(run(f, config, ENV("RESULT_PATH=/env/r.json", "HC_AK=ENV", "HC_SK=s",
					    "TARGET_REGION=", "SMS_ENDPOINT=https://e"),
			     NULL),
			 0);
	assert_string_equal(f->o.out_dir, "/env");
	assert_string_equal(f->o.control.ak, "ENV");
	assert_string_equal(f->o.control.sk_env, "s");
	assert_string_equal(f->o.control.region, "la-south-2");
	assert_string_equal(f->o.control.endpoint[AGT_SMS], "https://e");
	assert_int_equal(run(f, config, ENV("RESULT_PATH=/env/r.json"), ARGS("--out=/argv")), 0);
	assert_string_equal(f->o.out_dir, "/argv");
}

static void a_result_path_names_the_folder(void **state)
{
	static const char *const rows[][2] = {
		{ "RESULT_PATH=out/r.json", "out" },
		{ "RESULT_PATH=r.json", "." },
		{ "RESULT_PATH=/r.json", "/" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(run(f, "{}", ENV(rows[i][0]), NULL), 0);
		assert_string_equal(f->o.out_dir, rows[i][1]);
	}
}

static void what_is_wrong_is_named_with_its_place(void **state)
{
	static const struct {
		const char *config, *arg, *want;
	} rows[] = {
		{ "{\"control_plane\": {\"regoin\": 1}}", NULL,
		  "line 1, column 20: unknown key 'regoin', did you mean 'region'?" },
		{ "{\"control_plane\": {\"endpoint\": {}}}", NULL, "did you mean 'endpoints'?" },
		{ "{\"control_plane\": {\"endpoints\": {\"sns\": 1}}}", NULL, "unknown key 'sns'" },
		{ "{\"control_plain\": {}}", NULL, "did you mean 'control_plane'?" },
		{ "{\"control_plane\": 1}", NULL, "control_plane: expected an object, found a number" },
		{ "{\"control_plane.ak\": \"x\"}", NULL, "unknown key 'control_plane.ak'" },
		{ "{\"control_plane\": {\"ak\": {}}}", NULL, "control_plane.ak: expected a string" },
		{ "{\"control_plane\": {\"ak\": \"\"}}", NULL, "the value is empty" },
		{ "{\"poll_interval\": \"1\"}", NULL, "poll_interval: expected a number, found a string" },
		{ "{\"poll_interval\": 0}", NULL, "allowed is 0.01 to 3600" },
		{ "{}", "--poll-interval=1.2345", "--poll-interval: '1.2345' is no number of seconds" },
		{ "{}", "--poll-interval=1e3", "is no number of seconds" },
		{ "{}", "--poll-interval=-1", "is no number of seconds" },
		{ "{}", "--poll-intervall=1", "did you mean --poll-interval" },
		{ "{\"control_plane\": {\"sk\": \"hush\"}}", NULL, "name that with the key sk_file" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(run(f, rows[i].config, NULL, rows[i].arg ? ARGS(rows[i].arg) : NULL),
				 -ERR_USAGE);
		if (!strstr(f->e.text, rows[i].want))
			fail_msg("row %zu: %s", i, f->e.text);
		assert_null(strstr(f->e.text, "hush"));
	}
}

static void seconds_may_have_a_fraction(void **state)
{
	static const struct {
		const char *arg;
		unsigned want_ms;
	} rows[] = {
		{ "--poll-interval=1", 1000 },	 { "--poll-interval=0.05", 50 },
		{ "--poll-interval=.5", 500 },	 { "--poll-interval=2.125", 2125 },
		{ "--poll-interval=3600", 3600000 },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(run(f, "{}", NULL, ARGS(rows[i].arg)), 0);
		assert_int_equal(f->o.poll_interval_ms, rows[i].want_ms);
	}
}

static void what_follows_two_dashes_is_left_alone(void **state)
{
	struct fixture *f = *state;
	const char *const argv[] = { "stager-agent", "--config", f->path, "migrate", "--",
				     "--target",     "h:/",	 "-x",	  NULL };

	assert_int_equal(io_replace_file(AT_FDCWD, f->path, bytes_str("{}"), 0600, &f->e), 0);
	assert_int_equal(agt_options_parse(8, (char **)(uintptr_t)argv, NULL, commands, &f->o, &f->e),
			 0);
	assert_int_equal(f->o.args.n, 3);
	assert_string_equal(f->o.args.v[0], "--target");
	assert_string_equal(f->o.args.v[2], "-x");
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, fixture_make, fixture_drop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_FIXTURE(defaults_stand_where_nobody_speaks),
		WITH_FIXTURE(keys_lie_in_objects),
		WITH_FIXTURE(the_command_line_wins_over_the_environment_and_that_over_the_file),
		WITH_FIXTURE(a_result_path_names_the_folder),
		WITH_FIXTURE(what_is_wrong_is_named_with_its_place),
		WITH_FIXTURE(seconds_may_have_a_fraction),
		WITH_FIXTURE(what_follows_two_dashes_is_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
