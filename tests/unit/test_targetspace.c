/* SPDX-License-Identifier: Apache-2.0 */
/* What df on a target says, and what of it counts as room for a sync. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/targetspace.h"
#include "common/macro.h"

#define K(numbers, point) "k /dev/vdb1 " numbers " 40% " point "\n"
#define I(numbers, point) "i /dev/vdb1 " numbers " 40% " point "\n"

static void what_is_free_or_replaced_is_room(void **state)
{
	static const struct {
		const char *text;
		uint64_t kib, files;
		bool begun;
	} rows[] = {
		/* A disk of its own: what lies there gives way. */
		{ "stager-space\nnew /mnt/new\n" K("1000 400 500", "/mnt/new") I("99 9 90", "/mnt/new"), 900, 99, false },
		{ "stager-space\nbegun /mnt/new\n" K("1000 400 500", "/mnt/new") I("99 9 90", "/mnt/new"), 900, 99, false },
		/* A directory on a disk of others'. */
		{ "stager-space\nnew /srv/new\n" K("1000 400 500", "/srv") I("99 9 90", "/srv"), 500, 90, false },
		{ "stager-space\nbegun /srv/new\n" K("1000 400 500", "/srv") I("99 9 90", "/srv"), 500, 90, true },
		/* Disks below the root. */
		{ "stager-space\nbegun /mnt/new\n" K("1000 400 500", "/mnt/new") I("99 9 90", "/mnt/new")
		  K("7 3 4", "/mnt/new/var") I("7 3 4", "/mnt/new/var"), 907, 106, false },
		{ "stager-space\nnew /srv/new\n" K("1000 400 500", "/srv") I("99 9 90", "/srv")
		  K("7 3 4", "/srv/new/var") I("7 3 4", "/srv/new/var"), 507, 97, false },
		/* The root is to be made on a disk that others use. */
		{ "stager-space\nparent /mnt\n" K("1000 400 500", "/mnt") I("99 9 90", "/mnt"), 500, 90, false },
		/* A system that runs. */
		{ "stager-space\nbegun /\n" K("1000 400 500", "/") I("99 9 90", "/") K("7 3 4", "/var")
		  I("7 3 4", "/var"), 504, 94, true },
		/* No limit of inodes, an old df, a full disk, a login shell that talks, CR LF. */
		{ "stager-space\nnew /a\n" K("1000 400 500", "/a") I("0 0 0", "/a"), 900, 0, false },
		{ "stager-space\nnew /a\n" K("1000 400 500", "/a"), 900, 0, false },
		{ "stager-space\nnew /a\n" K("1000 1050 -50", "/b"), 0, 0, false },
		{ "hello\nstager-space\nnew /a b\n" K("1000 400 500", "/a b"), 900, 0, false },
		{ "x\r\nstager-space\nnew /a\r\n" "k /dev/x 1000 400 500 40% /a\r\n", 900, 0, false },
		/* More than there can be does not wrap. */
		{ "stager-space\nnew /b\n" K("9223372036854775807 1 9223372036854775807", "/a"),
		  UINT64_C(1) << 43, 0, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct agt_target_space s = { 0 };
		struct err e = { 0 };

		if (agt_target_space_parse(rows[i].text, &s, &e) < 0)
			fail_msg("row %zu: %s", i, e.text);
		if (s.bytes != rows[i].kib * 1024 || s.files != rows[i].files || s.begun != rows[i].begun)
			fail_msg("row %zu: %llu KiB, %llu files, %d", i, (unsigned long long)s.bytes / 1024,
				 (unsigned long long)s.files, s.begun);
	}
}

static void nonsense_is_refused(void **state)
{
	static const char *const rows[] = {
		"", "hello\n", "stager-space\n", "stager-space", "stager-space\nnew\n", "stager-space\nnew x\n",
		"stager-space\n/a\n", "stager-space\nnew /a\n", "stager-space\nnew /a\nk\n",
		"stager-space\nnew /a\nk /dev/x - - - - /a\n", "stager-space\nnew /a\nk /dev/x 1 2\n",
		"stager-space\nnew /a\nk /dev/x 1 -2 3 4% /a\n", "stager-space\nnew /a\ni /dev/x 1 2 3 4% /a\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct agt_target_space s;
		struct err e = { 0 };

		if (agt_target_space_parse(rows[i], &s, &e) != -ERR_PROTOCOL)
			fail_msg("row %zu was taken", i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_free_or_replaced_is_room),
		cmocka_unit_test(nonsense_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
