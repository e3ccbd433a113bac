/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/macro.h"
#include "config/target.h"

static void same(const char *got, const char *want)
{
	if (want)
		assert_string_equal(got, want);
	else
		assert_null(got);
}

static void good_specs_are_taken_apart(void **state)
{
	static const struct {
		const char *spec;
		struct {
			const char *user, *host, *root;
			unsigned port;
		} want;
	} rows[] = {
		{ "host:/", { NULL, "host", "/", 0 } },
		{ "root@host.example:/mnt//new/./root/",
		  { "root", "host.example", "/mnt/new/root", 0 } },
		{ "10.0.0.1:/a@b:c", { NULL, "10.0.0.1", "/a@b:c", 0 } },
		{ "u@dom@h_1:/x", { "u@dom", "h_1", "/x", 0 } },
		{ "[::1]:/x", { NULL, "::1", "/x", 0 } },
		{ "u@[fe80::1%eth0]:/x", { "u", "fe80::1%eth0", "/x", 0 } },
		{ "h:/with space\n", { NULL, "h", "/with space\n", 0 } },
		{ "ssh://h/", { NULL, "h", "/", 0 } },
		{ "SSH://u@h:2222/a%20b%2Fc", { "u", "h", "/a b/c", 2222 } },
		{ "ssh://a%40b@[2001:db8::1]:22/r", { "a@b", "2001:db8::1", "/r", 22 } },
		{ "ssh://[fe80::1%25eth0]/r", { NULL, "fe80::1%eth0", "/r", 0 } },
		{ "ssh://h/a:1@b", { NULL, "h", "/a:1@b", 0 } },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(cfg_target_fini) struct cfg_target t = { 0 };
		struct err e = { 0 };

		if (cfg_target_parse(rows[i].spec, &t, &e) != 0)
			fail_msg("%s: %s", rows[i].spec, e.text);
		same(t.user, rows[i].want.user);
		same(t.host, rows[i].want.host);
		same(t.root, rows[i].want.root);
		assert_int_equal(t.port, rows[i].want.port);
	}
}

static void the_wrong_part_is_named(void **state)
{
	static const struct {
		const char *spec;
		const char *want;
	} rows[] = {
		{ "", "target is empty" },
		{ "host", "root is missing" },
		{ "host/dir", "root is missing" },
		{ "host:", "root is not absolute" },
		{ "host:dir", "root is not absolute" },
		{ "host:dir/x", "root is not absolute" },
		{ "host:22:/x", "root is not absolute" },
		{ "host::mod/x", "rsync daemon" },
		{ "/local/dir", "host is missing" },
		{ ":/x", "host is empty" },
		{ "@h:/x", "user is empty" },
		{ "-oProxy@h:/x", "user begins with '-'" },
		{ "-h:/x", "host begins with '-'" },
		{ "u ser@h:/x", "user has a character" },
		{ "ho st:/x", "host has a character" },
		{ "::1:/x", "IPv6 address without brackets" },
		{ "[::1:/x", "'[' without ']'" },
		{ "[::1]x:/x", "after ']'" },
		{ "[::g]:/x", "not an IPv6 address" },
		{ "[]:/x", "not an IPv6 address" },
		{ "h:/a/../b", "'..'" },
		{ "u:s3cret@h:/x", "--password-file" },
		{ "ssh://u:s3cret@h/x", "--password-file" },
		{ "http://h/x", "scheme is not ssh" },
		{ "ssh://h", "root is missing" },
		{ "ssh:///x", "host is empty" },
		{ "ssh://h:/x", "port is not a number" },
		{ "ssh://h:0/x", "port is not a number" },
		{ "ssh://h:65536/x", "port is not a number" },
		{ "ssh://h:99999999999999999999/x", "port is not a number" },
		{ "ssh://h:2x/x", "port is not a number" },
		{ "ssh://::1/x", "goes in brackets" },
		{ "ssh://h/a%2", "root has '%'" },
		{ "ssh://h/a%00", "root has %00" },
		{ "ssh://u%@h/a", "user has '%'" },
		{ "ssh://h/%2e%2e/b", "'..'" },
		{ "ssh://h/a?b", "'?'" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct cfg_target t = { 0 };
		struct err e = { 0 };

		assert_int_equal(cfg_target_parse(rows[i].spec, &t, &e), -ERR_USAGE);
		assert_null(t.host);
		if (!strstr(e.text, rows[i].want))
			fail_msg("%s: '%s' is not in '%s'", rows[i].spec, rows[i].want,
				 e.text);
		assert_null(strstr(e.text, "s3cret"));
	}
}

static void hosts_and_users_stand_alone_too(void **state)
{
	char *s = NULL;

	(void)state;
	assert_int_equal(cfg_target_host("[::1]", &s, NULL), 0);
	assert_string_equal(s, "::1");
	free(TAKE_PTR(s));
	assert_int_equal(cfg_target_host("::1", &s, NULL), 0);
	assert_string_equal(s, "::1");
	free(TAKE_PTR(s));
	assert_int_equal(cfg_target_host("h:/x", &s, NULL), -ERR_USAGE);
	assert_int_equal(cfg_target_host("a@h", &s, NULL), -ERR_USAGE);
	assert_int_equal(cfg_target_user("a:b", &s, NULL), -ERR_USAGE);
	assert_null(s);
	assert_int_equal(cfg_target_user("deploy", &s, NULL), 0);
	assert_string_equal(s, "deploy");
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_specs_are_taken_apart),
		cmocka_unit_test(the_wrong_part_is_named),
		cmocka_unit_test(hosts_and_users_stand_alone_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
