/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/child.h"
#include "agent/login.h"
#include "common/macro.h"
#include "common/strlist.h"

#define SH(text) ((char *[]){ (char *)"/bin/sh", (char *)"-c", (char *)(text), NULL })

static int run(char *const *argv, char *const *envp, char *const *more, unsigned timeout_ms,
	       struct buf *output, int *status, struct err *e)
{
	return agt_child_run(&(struct agt_child_opts){ .argv = argv,
						       .envp = envp,
						       .more_env = more,
						       .timeout_ms = timeout_ms,
						       .output = output,
						       .output_max = 1000 },
			     status, e);
}

static void the_status_and_what_was_printed_come_back(void **state)
{
	_cleanup_(buf_fini) struct buf out = BUF_INIT;
	struct err e = { 0 };
	int status = -1;

	(void)state;
	assert_int_equal(run(SH("echo out; echo err >&2; exit 7"), NULL, NULL, 0, &out, &status, &e),
			 0);
	assert_int_equal(status, 7);
	assert_string_equal(buf_cstr(&out), "out\nerr\n");
	assert_int_equal(run(SH("kill -9 $$"), NULL, NULL, 0, &out, &status, &e), 0);
	assert_int_equal(status, 137);
}

static void more_output_than_wanted_is_cut_not_waited_for(void **state)
{
	_cleanup_(buf_fini) struct buf out = BUF_INIT;
	struct err e = { 0 };
	int status = -1;

	(void)state;
	assert_int_equal(run(SH("i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done"),
			     NULL, NULL, 0, &out, &status, &e),
			 0);
	assert_int_equal(status, 0);
	assert_int_equal(buf_len(&out), 1000);
}

static void secrets_of_the_cloud_stay_here(void **state)
{
	char *envp[] = { (char *)"HC_SK=s", (char *)"HC_AK=a", (char *)"A=old",
			 (char *)"HC_SECURITY_TOKEN=t", (char *)"B=b", NULL };
	char *more[] = { (char *)"A=new", NULL };
	_cleanup_(buf_fini) struct buf out = BUF_INIT;
	struct err e = { 0 };
	int status = -1;

	(void)state;
	assert_int_equal(run(SH("echo $HC_SK$HC_AK$HC_SECURITY_TOKEN$A$B"), envp, more, 0, &out,
			     &status, &e),
			 0);
	assert_string_equal(buf_cstr(&out), "newb\n");
}

static void what_takes_too_long_is_ended(void **state)
{
	_cleanup_(buf_fini) struct buf out = BUF_INIT;
	struct err e = { 0 };
	int status = -1;

	(void)state;
	assert_int_equal(run(SH("sleep 60 & sleep 60"), NULL, NULL, 50, &out, &status, &e),
			 -ETIMEDOUT);
}

static void a_program_that_is_not_there_is_said(void **state)
{
	char *argv[] = { (char *)"/nonexistent/program", NULL };
	_cleanup_(buf_fini) struct buf out = BUF_INIT;
	struct err e = { 0 };
	int status = -1;

	(void)state;
	assert_int_equal(run(argv, NULL, NULL, 0, &out, &status, &e), -ENOENT);
	assert_non_null(strstr(e.text, "/nonexistent/program"));
}

static void options_for_stager_are_read_as_it_reads_them(void **state)
{
	static const char *const words[] = { "--port", "1", "--target=a", "--identity", "k",
					     "--target",  "b", "--portable", "x", "--port=2",
					     "--known-hosts" };
	struct strlist args = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		assert_int_equal(strlist_add(&args, words[i], strlen(words[i])), 0);
	assert_string_equal(agt_login_option(&args, "target"), "b");
	assert_string_equal(agt_login_option(&args, "port"), "2");
	assert_string_equal(agt_login_option(&args, "identity"), "k");
	assert_null(agt_login_option(&args, "known-hosts"));
	assert_null(agt_login_option(&args, "config"));
	strlist_fini(&args);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_status_and_what_was_printed_come_back),
		cmocka_unit_test(more_output_than_wanted_is_cut_not_waited_for),
		cmocka_unit_test(secrets_of_the_cloud_stay_here),
		cmocka_unit_test(what_takes_too_long_is_ended),
		cmocka_unit_test(a_program_that_is_not_there_is_said),
		cmocka_unit_test(options_for_stager_are_read_as_it_reads_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
