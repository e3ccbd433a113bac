/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "checks/mem.h"
#include "checks/root.h"
#include "common/macro.h"
#include "tests/unit/chk_fixture.h"

static void links_never_lead_out_of_the_root(void **state)
{
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	struct fixture *f = *state;
	struct err e = { 0 };

	fixture_write(f, "usr/lib/os-release", "inside\n");
	fixture_link(f, "etc/os-release", "../usr/lib/os-release");
	fixture_link(f, "etc/absolute", "/usr/lib/os-release");
	fixture_link(f, "etc/dots", "../../../../../../usr/lib/os-release");
	fixture_link(f, "etc/host", "/proc/self/status");
	fixture_link(f, "etc/loop", "loop");

	assert_int_equal(chk_read(&f->root, "etc/os-release", &text, &e), 0);
	assert_string_equal(buf_cstr(&text), "inside\n");
	assert_int_equal(chk_read(&f->root, "etc/absolute", &text, &e), 0);
	assert_string_equal(buf_cstr(&text), "inside\n");
	assert_int_equal(chk_read(&f->root, "etc/dots", &text, &e), 0);
	assert_int_equal(chk_read(&f->root, "etc/host", &text, &e), -ENOENT);
	assert_int_equal(chk_read(&f->root, "etc/loop", &text, &e), -ELOOP);
	assert_non_null(strstr(e.text, "/etc/loop below /tmp/test_checks."));
}

static void text_is_read_whole_and_numbers_exactly(void **state)
{
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	struct fixture *f = *state;
	struct err e = { 0 };
	char line[16], big[10000];
	uint64_t v = 7;

	memset(big, 'x', sizeof(big));
	fixture_bytes(f, "big", big, sizeof(big));
	assert_int_equal(chk_read(&f->root, "big", &text, &e), 0);
	assert_int_equal(buf_len(&text), sizeof(big));
	fixture_write(f, "line", "  a b \t\nsecond\n");
	assert_int_equal(chk_read_line(&f->root, "line", line, sizeof(line)), 0);
	assert_string_equal(line, "a b");
	fixture_write(f, "number", "18446744073709551615\n");
	assert_int_equal(chk_read_u64(&f->root, "number", &v), 0);
	assert_true(v == UINT64_MAX);
	static const char *const bad[] = { "", "max\n", "-1\n", "12x\n", "18446744073709551616\n" };
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		fixture_write(f, "number", bad[i]);
		assert_int_equal(chk_read_u64(&f->root, "number", &v), -EINVAL);
	}
	assert_int_equal(chk_read_u64(&f->root, "none", &v), -ENOENT);
	assert_int_equal(chk_read(&f->root, "proc/stat", &text, &e), -ENOENT);
	assert_non_null(strstr(e.text, "is not a running system"));
}

static void programs_are_found_where_systems_keep_them(void **state)
{
	struct fixture *f = *state;
	char path[64];

	assert_false(chk_find_program(&f->root, "rsync", path, sizeof(path)));
	assert_string_equal(path, "");
	fixture_mkdir(f, "usr/bin/rsync"); /* a directory is no program */
	assert_false(chk_find_program(&f->root, "rsync", path, sizeof(path)));
	fixture_write(f, "bin/rsync", "");
	assert_int_equal(fchmodat(f->root.fd, "bin/rsync", 0644, 0), 0);
	assert_false(chk_find_program(&f->root, "rsync", path, sizeof(path)));
	assert_int_equal(fchmodat(f->root.fd, "bin/rsync", 0755, 0), 0);
	assert_true(chk_find_program(&f->root, "rsync", path, sizeof(path)));
	assert_string_equal(path, "bin/rsync");
}

static void lists_are_sorted_as_people_count(void **state)
{
	struct fixture *f = *state;
	struct strlist l = { 0 };
	char name[32];

	fixture_mkdir(f, "d/sda10");
	fixture_mkdir(f, "d/sda2");
	fixture_link(f, "d/link", "../../devices/sdb");
	assert_int_equal(chk_list(&f->root, "d", &l), 0);
	assert_int_equal(l.n, 3);
	assert_string_equal(l.v[1], "sda2");
	assert_string_equal(l.v[2], "sda10");
	strlist_fini(&l);
	assert_int_equal(chk_list(&f->root, "none", &l), -ENOENT);
	assert_int_equal(chk_link_name(&f->root, "d/link", name, sizeof(name)), 0);
	assert_string_equal(name, "sdb");
	assert_true(chk_link_name(&f->root, "d/sda2", name, sizeof(name)) < 0);
}

static void the_running_system_is_known_as_such(void **state)
{
	struct chk_root root;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(chk_root_open(NULL, &root, &e), 0);
	assert_true(root.live);
	chk_root_close(&root);
	assert_int_equal(chk_root_open("/tmp/..", &root, &e), 0);
	assert_true(root.live);
	chk_root_close(&root);
	assert_int_equal(chk_root_open("/nowhere/at/all", &root, &e), -ENOENT);
	assert_string_equal(e.text,
			    "open the root directory /nowhere/at/all: No such file or directory");
}

static void memory_grows_and_goes_at_once(void **state)
{
	struct chk_mem m = { 0 };
	const char *list = "";
	unsigned *v = NULL;
	size_t n = 0;

	(void)state;
	for (unsigned i = 0; i < 10000; i++)
		*chk_mem_add(&m, &v, &n) = i;
	for (unsigned i = 0; i < 10000; i++)
		assert_int_equal(v[i], i);
	list = chk_mem_join(&m, list, ";", "a");
	list = chk_mem_join(&m, list, ";", "b");
	assert_string_equal(list, "a;b");
	assert_null(chk_mem_get(&m, SIZE_MAX - 3));
	assert_true(m.bad);
	chk_mem_fini(&m);
}

int main(void)
{
#define ROOT_TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		ROOT_TEST(links_never_lead_out_of_the_root),
		ROOT_TEST(text_is_read_whole_and_numbers_exactly),
		ROOT_TEST(programs_are_found_where_systems_keep_them),
		ROOT_TEST(lists_are_sorted_as_people_count),
		cmocka_unit_test(the_running_system_is_known_as_such),
		cmocka_unit_test(memory_grows_and_goes_at_once),
	};
#undef ROOT_TEST

	return cmocka_run_group_tests(tests, NULL, NULL);
}
