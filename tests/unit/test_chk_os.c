/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "checks/os.h"
#include "checks/supported.h"
#include "tests/unit/chk_rows.h"

#define OS(id, version, rest) "NAME=x\nID=" id "\nVERSION_ID=\"" version "\"\n" rest

static void each_distribution_is_known_by_its_files(void **state)
{
	static const struct {
		const char *path[2], *text[2];
		const char *id, *version, *code;
	} rows[] = {
		{ { "etc/redhat-release" }, { "CentOS release 5.11 (Final)\n" }, "centos", "5.11",
		  "CENTOS_5_11_64BIT" },
		{ { "etc/redhat-release", "etc/centos-release" },
		  { "CentOS release 6.10 (Final)\n", "CentOS release 6.10 (Final)\n" }, "centos",
		  "6.10", "CENTOS_6_10_64BIT" },
		{ { "etc/os-release", "etc/centos-release" },
		  { OS("\"centos\"", "7", ""), "CentOS Linux release 7.9.2009 (Core)\n" }, "centos",
		  "7.9", "CENTOS_7_9_64BIT" },
		{ { "usr/lib/os-release", "etc/centos-release" },
		  { OS("centos", "8", ""), "CentOS Stream release 8\n" }, "centos", "8.0",
		  "CENTOS_8_0_64BIT" },
		{ { "etc/os-release" }, { OS("centos", "9", "") }, "centos", "9",
		  "CENTOS_9_0_64BIT" },
		/* A leftover of the release before does not count. */
		{ { "etc/os-release", "etc/centos-release" },
		  { OS("centos", "8", ""), "CentOS Linux release 7.9.2009 (Core)\n" }, "centos", "8",
		  "CENTOS_8_0_64BIT" },
		{ { "etc/redhat-release" },
		  { "Red Hat Enterprise Linux Server release 5.3 (Tikanga)\n" }, "rhel", "5.3",
		  "REDHAT_5_3_64BIT" },
		{ { "etc/os-release" }, { OS("\"rhel\"", "8.10", "") }, "rhel", "8.10",
		  "REDHAT_8_10_64BIT" },
		{ { "etc/oracle-release", "etc/redhat-release" },
		  { "Oracle Linux Server release 6.10\n",
		    "Red Hat Enterprise Linux Server release 6.10 (Santiago)\n" }, "ol", "6.10",
		  "ORACLE_6_10_64BIT" },
		{ { "etc/SuSE-release" },
		  { "SUSE Linux Enterprise Server 11 (x86_64)\nVERSION = 11\nPATCHLEVEL = 3\n" },
		  "sles", "11.3", "SUSE11_64BIT_SP3" },
		{ { "etc/SuSE-release" }, { "openSUSE 13.2 (x86_64)\nVERSION = 13.2\n" },
		  "opensuse", "13.2", "OPENSUSE_13_2_64BIT" },
		{ { "etc/os-release" }, { OS("\"sles\"", "12.2", "") }, "sles", "12.2",
		  "SUSE12_64BIT_SP2" },
		{ { "etc/debian_version" }, { "6.0.10\n" }, "debian", "6.0.10",
		  "DEBIAN_6_0_64BIT" },
		{ { "etc/os-release", "etc/debian_version" },
		  { OS("debian", "7", "VERSION=\"7 (wheezy)\"\n"), "7.11\n" }, "debian", "7.11",
		  "DEBIAN_7_11_64BIT" },
		{ { "etc/os-release", "etc/debian_version" }, { OS("debian", "12", ""), "12.5\n" },
		  "debian", "12.5", "DEBIAN_12_5_64BIT" },
		{ { "etc/os-release", "etc/debian_version" },
		  { OS("debian", "12", ""), "bookworm/sid\n" }, "debian", "12",
		  "DEBIAN_12_0_64BIT" },
		{ { "etc/lsb-release", "etc/debian_version" },
		  { "DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=10.04\nDISTRIB_DESCRIPTION=\"Ubuntu 10.04\"\n",
		    "squeeze/sid\n" }, "ubuntu", "10.04", "UBUNTU_10_04_64BIT" },
		{ { "etc/os-release", "etc/debian_version" },
		  { OS("ubuntu", "22.04", ""), "bookworm/sid\n" }, "ubuntu", "22.04",
		  "UBUNTU_22_04_64BIT" },
		{ { "etc/os-release" },
		  { OS("\"euleros\"", "2.0", "VERSION=\"2.0 (SP5)\"\n") }, "euleros", "2.5.0",
		  "EulerOS_2_0_64BIT" },
		{ { "etc/euleros-release" }, { "EulerOS release 2.0 (SP2)\n" }, "euleros", "2.2.0",
		  "EulerOS_2_0_64BIT" },
		{ { "etc/os-release" },
		  { OS("\"openEuler\"", "20.03", "VERSION=\"20.03 (LTS-SP3)\"\n") }, "openeuler",
		  "20.03", "OPENEULER_20_03_64BIT" },
		{ { "etc/os-release" }, { OS("\"kylin\"", "V10", "VERSION=\"V10 (Sword)\"\n") },
		  "kylin", "10", "KYLIN_V10_64BIT" },
		{ { "etc/system-release" }, { "Amazon Linux AMI release 2018.03\n" }, "amzn",
		  "2018.03", "AMAZON_2018_03_64BIT" },
		{ { "etc/os-release" }, { OS("arch", "", "") }, "arch", "", "ARCH_0_0_64BIT" },
		/* What says nothing. */
		{ { "etc/os-release" }, { "" }, "", "", "_0_0_64BIT" },
		{ { "etc/redhat-release" }, { "Something release 4\n" }, "", "", "_0_0_64BIT" },
		{ { "etc/debian_version" }, { "wheezy/sid\n" }, "", "", "_0_0_64BIT" },
		{ { "etc/lsb-release" }, { "LSB_VERSION=1\n" }, "", "", "_0_0_64BIT" },
		{ { "etc/SuSE-release" }, { "SUSE\n" }, "", "", "_0_0_64BIT" },
	};
	struct chk_supported list;
	struct fixture *f = *state;
	struct err e = { 0 };

	assert_int_equal(chk_supported_load(SUPPORTED_LIST, &list, &e), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct chk_mem m = { 0 };
		struct chk_os os;
		char code[64];
		int r;

		fixture_clear(f);
		for (size_t k = 0; k < 2 && rows[i].path[k]; k++)
			fixture_write(f, rows[i].path[k], rows[i].text[k]);
		r = chk_os_read(&f->root, &m, &os, &e);
		chk_supported_code(&list, &os, "x86_64", code, sizeof(code));
		if (r != (*rows[i].id ? 0 : -ENOENT) || strcmp(os.id, rows[i].id) != 0 ||
		    strcmp(os.version, rows[i].version) != 0 || strcmp(code, rows[i].code) != 0)
			fail_msg("row %zu: %d '%s' '%s' '%s'", i, r, os.id, os.version, code);
		if (!i)
			assert_string_equal(chk_supported_code(&list, &os, "i386", code, 64),
					    "CENTOS_5_11_32BIT");
		chk_mem_fini(&m);
	}
	chk_supported_fini(&list);
}

static void quotes_and_escapes_are_undone(void **state)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{ "KEY=plain\n", "plain" },
		{ "OTHER=1\n  KEY = \"two words\"  \n", "two words" },
		{ "KEY='a \"b\" \\c'\n", "a \"b\" \\c" },
		{ "KEY=\"a\\\"b\\$c\"", "a\"b$c" },
		{ "KEYS=1\nKEY\nKEY=\n", "" },
		{ "KEY=\"open\nKEY=2\n", "open" },
		{ "#KEY=1\n", "" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct chk_mem m = { 0 };

		assert_string_equal(chk_os_value(rows[i].text, "KEY", &m), rows[i].want);
		chk_mem_fini(&m);
	}
}

static void the_list_says_what_is_taken(void **state)
{
	static const struct {
		const char *id, *version, *edition;
		bool listed, bios, uefi;
	} rows[] = {
		{ "centos", "7.9", "", true, true, true },
		{ "centos", "7.0", "", true, true, false },
		{ "centos", "7", "", true, true, false },
		{ "centos", "5.11", "", false, false, false },
		{ "centos", "8.6", "", false, false, false },
		{ "rhel", "6.6", "", false, false, false },
		{ "rhel", "6.10", "", true, true, false },
		{ "rhel", "8.10", "", true, true, true },
		{ "debian", "12.11", "", true, true, false },
		{ "debian", "12.3", "", false, false, false },
		{ "debian", "8", "", true, true, false },
		{ "debian", "13.1", "", false, false, false },
		{ "ubuntu", "24.04", "", true, true, true },
		{ "ubuntu", "24.10", "", false, false, false },
		{ "sles", "12", "", true, true, true },
		{ "sles", "15.4", "", true, true, false },
		{ "sles", "15.7", "", false, false, false },
		{ "amzn", "2018.03", "", true, true, false },
		{ "amzn", "2", "", true, true, false },
		{ "kylin", "10", "V10 (Sword)", true, true, false },
		{ "kylin", "10", "V10 (Lance)", false, false, false },
		{ "rocky", "9.1", "", true, true, false },
		{ "nixos", "24.05", "", false, false, false },
		{ "debian", "", "", false, false, false },
	};
	struct chk_supported list;
	struct err e = { 0 };
	char versions[16];

	(void)state;
	assert_int_equal(chk_supported_load(SUPPORTED_LIST, &list, &e), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct chk_os os = { rows[i].id, rows[i].version, rows[i].edition, "", "" };
		const struct chk_supported_row *row = chk_supported_find(&list, &os);

		if ((row != NULL) != rows[i].listed ||
		    (row && (row->bios != rows[i].bios || row->uefi != rows[i].uefi)))
			fail_msg("row %zu: %s %s", i, rows[i].id, rows[i].version);
	}
	assert_string_equal(chk_supported_versions(&list, "kylin", versions, 16), "10");
	assert_string_equal(chk_supported_versions(&list, "none", versions, 16), "");
	assert_string_equal(chk_supported_versions(&list, "fedora", versions, 16),
			    "23-29,33-37,...");
	assert_true(chk_supported_has_kernel(&list, "3.10.0-1160.2.2.el7.x86_64"));
	assert_true(chk_supported_has_kernel(&list, "4.15.0-101-generic"));
	assert_true(chk_supported_has_kernel(&list, "4.12.14-94.41-default"));
	assert_false(chk_supported_has_kernel(&list, "3.10.0-1160.2.3.el7.x86_64"));
	assert_false(chk_supported_has_kernel(&list, "4.15.0-10-generic"));
	assert_false(chk_supported_has_kernel(&list, "4.15.0--generic"));
	assert_false(chk_supported_has_kernel(&list, ""));
	chk_supported_fini(&list);
}

static void a_bad_line_is_named(void **state)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{ "centos 7.0 bios\n", "list: line 1: wanted: ID VERSIONS FIRMWARE CODE" },
		{ "# x\n\ncentos 7.0- bios C\n", "list: line 3: the second word is no list" },
		{ "centos 7.0,,8 bios C\n", "list: line 1: the second word" },
		{ "centos 8-7 bios C\n", "list: line 1: the second word" },
		{ "centos 7 efi C\n", "list: line 1: the third word" },
		{ "centos 7 bios C note\n", "list: line 1: after CODE" },
		{ "kernel 4.4 1\n", "list: line 1: a kernel's pattern" },
		{ "kernel 4.*.* 1\n", "list: line 1: a kernel's pattern" },
		{ "kernel 4.*\n", "list: line 1: wanted: kernel" },
	};
	struct chk_supported list;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct err e = { 0 };

		assert_int_equal(chk_supported_parse("list", rows[i].text, &list, &e), -ERR_USAGE);
		if (strncmp(e.text, rows[i].want, strlen(rows[i].want)) != 0)
			fail_msg("row %zu: %s", i, e.text);
	}
}

static void what_sms_does_not_take_is_said_with_its_code(void **state)
{
#define RELEASE(id, version) { "etc/os-release", OS(id, version, "") }
#define UEFI { "sys/firmware/efi", DIRECTORY }
#define BIOS { "sys/firmware", DIRECTORY }
	static const struct chk_case cases[] = {
		{ "OS_VERSION", CHK_OK, "", "ubuntu 22.04 is on the list", { RELEASE("ubuntu", "22.04") } },
		{ "OS_VERSION", CHK_ERROR, "SMS.6504", "debian 13 is not among the versions",
		  { RELEASE("debian", "13") } },
		{ "OS_VERSION", CHK_ERROR, "SMS.6504", "does not take nixos", { RELEASE("nixos", "24.05") } },
		{ "OS_VERSION", CHK_ERROR, "SMS.6503", "no release file", { { "etc", DIRECTORY } } },
		{ "OS_VERSION", CHK_ERROR, "SMS.6503", "no release file", { { "etc", DIRECTORY } },
		  .live = true },
		{ "OS_VERSION", CHK_WARN, "SMS.6504", "runs on KVM", { RELEASE("centos", "6.0") } },
		{ "OS_VERSION", CHK_WARN, "", "could not tell", { RELEASE("centos", "7") },
		  .untold = true, .opts.supported = "/nowhere.list" },
		{ "OS_VERSION", CHK_ERROR, "SMS.6504", "could not tell: the list of supported systems",
		  { RELEASE("centos", "7") }, .untold = true, .live = true,
		  .opts.supported = "/nowhere.list" },
		{ "OS_VERSION", CHK_WARN, "", "could not tell: read /etc/os-release",
		  { { "etc/os-release", "->os-release" } }, .untold = true },

		{ "FIRMWARE", CHK_OK, "", "BIOS", { RELEASE("centos", "7.9"), BIOS } },
		{ "FIRMWARE", CHK_WARN, "SMS.6535", "UEFI", { RELEASE("centos", "7.9"), UEFI } },
		{ "FIRMWARE", CHK_ERROR, "SMS.6504", "only when it boots with BIOS",
		  { RELEASE("debian", "12.11"), UEFI } },
		{ "FIRMWARE", CHK_OK, "", "UEFI", { RELEASE("nixos", "24.05"), UEFI } },
		{ "FIRMWARE", CHK_WARN, "", "not a running system", { RELEASE("centos", "7.9") },
		  .untold = true },
		{ "FIRMWARE", CHK_WARN, "", "could not tell", { RELEASE("centos", "7.9"), BIOS },
		  .untold = true, .opts.supported = "/nowhere.list" },

		{ "KERNEL_VERSION", CHK_OK, "", "block by block (MIGRATE_BLOCK)",
		  { { "proc/sys/kernel/osrelease", "4.15.0-20-generic\n" } } },
		{ "KERNEL_VERSION", CHK_OK, "", "MIGRATE_FILE",
		  { { "proc/sys/kernel/osrelease", "6.1.0-18-amd64\n" } } },
		/* Another root's newest one that is whole. */
		{ "KERNEL_VERSION", CHK_OK, "", "MIGRATE_FILE",
		  { { "lib/modules/6.1.0-9-amd64/modules.dep", "" },
		    { "lib/modules/6.1.0-18-amd64/modules.dep", "" },
		    { "lib/modules/6.9.0", DIRECTORY } } },
		{ "KERNEL_VERSION", CHK_WARN, "", "/nowhere/list", { { "proc/sys/kernel/osrelease", "6.1\n" } },
		  .untold = true, .live = true, .opts.supported = "/nowhere/list" },
		{ "KERNEL_VERSION", CHK_WARN, "", "no kernel is installed", { { "lib", DIRECTORY } },
		  .untold = true },
		{ "KERNEL_VERSION", CHK_WARN, "", "osrelease",
		  { { "lib/modules/6.1.0-9-amd64/modules.dep", "" } }, .untold = true, .live = true },

		{ "PARAVIRTUALIZATION", CHK_OK, "", "no paravirtualised",
		  { { "sys/class/dmi/id/sys_vendor", "QEMU\n" } } },
		{ "PARAVIRTUALIZATION", CHK_ERROR, "SMS.6515", "paravirtualised Xen guest",
		  { { "sys/hypervisor/type", "xen\n" }, { "sys/hypervisor/guest_type", "PV\n" } } },
		{ "PARAVIRTUALIZATION", CHK_OK, "", "no para",
		  { { "sys/hypervisor/type", "xen\n" }, { "sys/hypervisor/guest_type", "HVM\n" } } },
		/* Kernels that do not say it: without firmware tables it is one. */
		{ "PARAVIRTUALIZATION", CHK_ERROR, "SMS.6515", "Xen", { { "sys/hypervisor/type", "xen\n" } } },
		{ "PARAVIRTUALIZATION", CHK_OK, "", "no para",
		  { { "sys/hypervisor/type", "xen\n" }, { "sys/class/dmi/id/sys_vendor", "Xen\n" } } },
		{ "PARAVIRTUALIZATION", CHK_WARN, "", "not a running system", { { "etc", DIRECTORY } },
		  .untold = true },

		{ "BOOT_LOADER", CHK_OK, "", "GRUB", { { "boot/grub/grub.cfg", "" } } },
		{ "BOOT_LOADER", CHK_OK, "", "GRUB", { { "boot/grub2/grub.cfg", "" } } },
		{ "BOOT_LOADER", CHK_OK, "", "GRUB", { { "boot/grub/menu.lst", "" } } },
		{ "BOOT_LOADER", CHK_OK, "", "GRUB", { { "boot/efi/EFI/centos/grub.cfg", "" } } },
		{ "BOOT_LOADER", CHK_ERROR, "SMS.6516", "EXTLINUX", { { "boot/extlinux/extlinux.conf", "" } } },
		{ "BOOT_LOADER", CHK_ERROR, "SMS.6516", "LILO", { { "etc/lilo.conf", "" } } },
		{ "BOOT_LOADER", CHK_ERROR, "SMS.6516", "SYSTEMD-BOOT", { { "boot/loader/loader.conf", "" } } },
		{ "BOOT_LOADER", CHK_ERROR, "SMS.6516", "no boot loader", { { "boot", DIRECTORY } } },

		{ "GRUB_MODULES", CHK_OK, "", "/boot/grub2/i386-pc",
		  { BIOS, { "boot/grub2/grub.cfg", "" }, { "boot/grub2/i386-pc", DIRECTORY } } },
		{ "GRUB_MODULES", CHK_ERROR, "SMS.6564", "i386-pc", { BIOS, { "boot/grub2/grub.cfg", "" } } },
		{ "GRUB_MODULES", CHK_OK, "", "not needed", { UEFI, { "boot/grub2/grub.cfg", "" } } },
		{ "GRUB_MODULES", CHK_OK, "", "not needed", { BIOS, { "boot/grub/menu.lst", "" } } },
		{ "GRUB_MODULES", CHK_WARN, "", "could not tell", { { "boot/grub2/grub.cfg", "" } },
		  .untold = true },

		{ "ARCHITECTURE", CHK_WARN, "", "no program", { { "bin/sh", "#!/bin/x" } }, .untold = true },
	};

	run_cases(*state, cases, ARRAY_SIZE(cases));
}

static void a_loader_that_was_used_counts_more_than_files(void **state)
{
	static const char info[] = "\6\0\0\0s\0y\0s\0t\0e\0m\0d\0-\0b\0o\0o\0t\0 \0002\0005\0002\0\0";
	static const struct chk_case c = { "BOOT_LOADER", CHK_ERROR, "SMS.6516", "SYSTEMD-BOOT",
					   { { "boot/grub/grub.cfg", "" } } };
	struct fixture *f = *state;
	struct chk_answer a;

	case_plant(f, &c);
	fixture_bytes(f, "sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f",
		      info, sizeof(info));
	a = case_answer(f, &c);
	case_judge(&c, 0, &a);
}

static void the_architecture_is_that_of_the_programs(void **state)
{
	static const struct {
		uint8_t class, data, machine;
		struct chk_case c;
	} rows[] = {
		{ 2, 1, 62, { "ARCHITECTURE", CHK_OK, "", "x86_64" } },
		{ 1, 1, 3, { "ARCHITECTURE", CHK_ERROR, "SMS.0206", "i386" } },
		{ 1, 1, 62, { "ARCHITECTURE", CHK_ERROR, "SMS.0206", "x32" } },
		{ 2, 1, 183, { "ARCHITECTURE", CHK_ERROR, "SMS.0206", "aarch64" } },
		{ 2, 2, 22, { "ARCHITECTURE", CHK_ERROR, "SMS.0206", "s390x" } },
		{ 2, 1, 99, { "ARCHITECTURE", CHK_ERROR, "SMS.0206", "other" } },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint8_t head[64] = { 127, 'E', 'L', 'F', rows[i].class, rows[i].data, 1 };
		struct chk_answer a;

		head[rows[i].data == 1 ? 18 : 19] = rows[i].machine;
		fixture_clear(f);
		fixture_bytes(f, "usr/bin/bash", head, sizeof(head));
		fixture_link(f, "bin/sh", "/usr/bin/bash");
		a = case_answer(f, &rows[i].c);
		case_judge(&rows[i].c, i, &a);
	}
}

static void the_platform_is_told_by_the_firmware(void **state)
{
	static const struct {
		const char *file, *text, *platform, *virt;
	} rows[] = {
		{ "sys_vendor", "Alibaba Cloud\n", "ali", "kvm" },
		{ "sys_vendor", "Amazon EC2\n", "aws", "kvm" },
		{ "chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n", "azure", "hyperv" },
		{ "chassis_asset_tag", "HUAWEICLOUD\n", "hw", "kvm" },
		{ "sys_vendor", "VMware, Inc.\n", "vmware", "vmware" },
		{ "product_name", "Virtual Machine\n", "hyperv", "hyperv" },
		{ "sys_vendor", "Dell Inc.\n", "other", "" },
		{ "nothing", "\n", "default", "" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct chk_facts *facts = NULL;
		struct err e = { 0 };
		char path[64];

		fixture_clear(f);
		snprintf(path, sizeof(path), "sys/class/dmi/id/%s", rows[i].file);
		fixture_write(f, path, rows[i].text);
		assert_int_equal(chk_facts_collect(&f->root, NULL, &facts, &e), 0);
		assert_string_equal(facts->platform, rows[i].platform);
		assert_string_equal(facts->virt, rows[i].virt);
		chk_facts_free(facts);
	}
}

int main(void)
{
#define OS_TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		OS_TEST(each_distribution_is_known_by_its_files),
		cmocka_unit_test(quotes_and_escapes_are_undone),
		cmocka_unit_test(the_list_says_what_is_taken),
		cmocka_unit_test(a_bad_line_is_named),
		OS_TEST(what_sms_does_not_take_is_said_with_its_code),
		OS_TEST(a_loader_that_was_used_counts_more_than_files),
		OS_TEST(the_architecture_is_that_of_the_programs),
		OS_TEST(the_platform_is_told_by_the_firmware),
	};
#undef OS_TEST

	return cmocka_run_group_tests(tests, NULL, NULL);
}
