/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/console.h"
#include "common/macro.h"

/* The names of the causes, with blanks between them. */
static const char *names(const char *text, char out[512])
{
	const struct agt_console_cause *causes[AGT_CONSOLE_CAUSES_MAX];
	size_t n = agt_console_causes(text, causes);

	out[0] = '\0';
	for (size_t i = 0; i < n; i++) {
		if (i)
			strcat(out, " ");
		strcat(out, causes[i]->name);
		assert_true(*causes[i]->cause && *causes[i]->remedy);
	}
	return out;
}

static void known_failures_are_named(void **state)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{ "[    1.2] VFS: Cannot open root device \"vdb1\" or unknown-block(0,0): error -6\n"
		  "[    1.3] Kernel panic - not syncing: VFS: Unable to mount root fs on "
		  "unknown-block(0,0)\n",
		  "root_device" },
		{ "[ TIME ] Timed out waiting for device \x1b[0;1;39mdev-disk-by\\x2duuid-3f\x1b[0m\r\n"
		  "[DEPEND] Dependency failed for /data.\r\n"
		  "You are in emergency mode. After logging in, type \"journalctl -xb\"\r\n"
		  "Give root password for maintenance\r\n",
		  "missing_uuid emergency_mode" },
		{ "Welcome to emergency mode!", "emergency_mode" },
		{ "ALERT!  UUID=3f does not exist.  Dropping to a shell!", "root_device" },
		{ "dracut-initqueue[280]: Warning: dracut-initqueue timeout - starting scripts",
		  "initramfs_driver" },
		{ "error: unknown filesystem.\nEntering rescue mode...\ngrub rescue> ",
		  "boot_loader" },
		{ "cloud-init[512]: Traceback (most recent call last):", "cloud_init" },
		{ "2026 - util.py[ERROR]: cloud-init ERROR something", "cloud_init" },
		{ "[FAILED] Failed to start \x1b[0;1;39mOpenBSD Secure Shell server\x1b[0m.", "" },
		{ "[FAILED] Failed to start OpenSSH server daemon.", "sshd" },
		{ "Kernel panic - not syncing: Attempted to kill init!", "panic" },
		{ "Debian GNU/Linux 12 web1 ttyS0\n\nweb1 login: ", "" },
		{ "", "" },
	};
	char out[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_string_equal(names(rows[i].text, out), rows[i].want);
}

/* Output of a broken system may be anything: no line of it takes long. */
static void one_endless_line_is_survived(void **state)
{
	static const char piece[] = "cloud-init Failed to start Kernel panic ";
	size_t n = 1 << 17;
	char *text = malloc(n + 1), out[512];

	(void)state;
	assert_non_null(text);
	for (size_t i = 0; i < n; i++)
		text[i] = piece[i % (sizeof(piece) - 1)];
	text[n] = '\0';
	names(text, out);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_failures_are_named),
		cmocka_unit_test(one_endless_line_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
