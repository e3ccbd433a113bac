/* SPDX-License-Identifier: Apache-2.0 */
/* Memory, CPU and room, with the limits that containers set. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "checks/cgroup.h"
#include "tests/unit/chk_rows.h"

#define MEMINFO(available) \
	{ "proc/meminfo", "MemTotal:        4194304 kB\nMemFree: 100 kB\nMemAvailable:   " available " kB\n" }
#define GROUP2(path) { "proc/self/cgroup", "0::" path "\n" }
#define MOUNT2 \
	{ "proc/self/mountinfo", "20 1 0:9 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n" }
#define GROUP1(path) \
	{ "proc/self/cgroup", "9:name=systemd:/x\n4:memory:" path "\n3:cpu,cpuacct:" path "\n0::/x\n" }
#define MOUNT1(root)                                                                       \
	{ "proc/self/mountinfo", "20 1 0:9 " root " /sys/fs/cgroup/memory rw - cgroup c rw,memory\n" \
				 "21 1 0:8 " root " /sys/fs/cgroup/cpu rw - cgroup c rw,cpu,cpuacct\n" }

static void too_little_memory_is_an_error(void **state)
{
	static const struct chk_case cases[] = {
		{ "MEMORY", CHK_OK, "", "520 MiB of 4096 MiB", { MEMINFO("532480") } },
		{ "MEMORY", CHK_ERROR, "SMS.1203", "519 MiB of 4096 MiB", { MEMINFO("532479") } },
		/* Groups: the tightest one counts, and what it could give back is free. */
		{ "MEMORY", CHK_ERROR, "SMS.1203", "300 MiB of 400 MiB",
		  { MEMINFO("4000000"), GROUP2("/a/b"), MOUNT2,
		    { "sys/fs/cgroup/a/b/memory.max", "419430400\n" },
		    { "sys/fs/cgroup/a/b/memory.current", "209715200\n" },
		    { "sys/fs/cgroup/a/b/memory.stat",
		      "anon 1\nfile 9\ninactive_file 52428800\nactive_file 41943040\nslab_reclaimable 10485760\n" } } },
		{ "MEMORY", CHK_ERROR, "SMS.1203", "100 MiB of 100 MiB",
		  { MEMINFO("4000000"), GROUP2("/a/b"), MOUNT2,
		    { "sys/fs/cgroup/a/b/memory.max", "max\n" },
		    { "sys/fs/cgroup/a/memory.max", "104857600\n" } } },
		{ "MEMORY", CHK_ERROR, "SMS.1203", "0 MiB of 100 MiB",
		  { MEMINFO("4000000"), GROUP2("/"), MOUNT2,
		    { "sys/fs/cgroup/memory.max", "104857600\n" },
		    { "sys/fs/cgroup/memory.current", "104857601\n" } } },
		{ "MEMORY", CHK_OK, "", "3906 MiB of 4096 MiB",
		  { MEMINFO("4000000"), GROUP2("/a"), MOUNT2, { "sys/fs/cgroup/a/memory.max", "max\n" } } },
		/* Version 1; a container sees its own group as the root of the mount. */
		{ "MEMORY", CHK_ERROR, "SMS.1203", "250 MiB of 300 MiB",
		  { MEMINFO("4000000"), GROUP1("/docker/x"), MOUNT1("/docker/x"),
		    { "sys/fs/cgroup/memory/memory.limit_in_bytes", "314572800\n" },
		    { "sys/fs/cgroup/memory/memory.usage_in_bytes", "157286400\n" },
		    { "sys/fs/cgroup/memory/memory.stat", "total_active_file 104857600\ntotal_inactive_file 0\n" } } },
		{ "MEMORY", CHK_OK, "", "3906 MiB of 4096 MiB",
		  { MEMINFO("4000000"), GROUP1("/x"), MOUNT1("/"),
		    { "sys/fs/cgroup/memory/x/memory.limit_in_bytes", "9223372036854771712\n" } } },
		/* Kernels before 3.14, and before 2.6.28. */
		{ "MEMORY", CHK_OK, "", "947 MiB of 1000 MiB",
		  { { "proc/meminfo", "MemTotal: 1024000 kB\nMemFree: 512000 kB\nActive(file): 204800 kB\n"
				      "Inactive(file): 204800 kB\nSReclaimable: 102400 kB\n" },
		    { "proc/sys/vm/min_free_kbytes", "14336\n" } } },
		{ "MEMORY", CHK_ERROR, "SMS.1203", "200 MiB of 1000 MiB",
		  { { "proc/meminfo", "MemTotal: 1024000 kB\nMemFree: 102400 kB\nBuffers: 51200 kB\nCached: 153600 kB\n" } } },
		{ "MEMORY", CHK_WARN, "", "not a running system", { { "etc", DIRECTORY } }, .untold = true },
		{ "MEMORY", CHK_ERROR, "SMS.6514", "could not tell: read /proc/meminfo", { { "etc", DIRECTORY } },
		  .untold = true, .live = true },
		{ "MEMORY", CHK_ERROR, "SMS.6514", "MemTotal", { { "proc/meminfo", "nothing\n" } },
		  .untold = true, .live = true },
	};

	run_cases(*state, cases, ARRAY_SIZE(cases));
}

#define STAT(idle, busy) "cpu  " busy " 0 0 " idle " 0 0 0 0 0 0\ncpu0 1\ncpu1 1\nintr 1\n"
#define FROM { "proc/stat", STAT("1000", "1000") }
#define LATER(idle, busy) { "proc/stat", STAT(idle, busy) }

static void too_little_cpu_is_an_error(void **state)
{
	static const struct chk_case cases[] = {
		{ "CPU", CHK_OK, "", "2.00 of 2 CPUs", { FROM }, .fake.later = { LATER("1100", "1000") } },
		{ "CPU", CHK_OK, "", "0.30 of 2 CPUs", { FROM }, .fake.later = { LATER("1015", "1085") } },
		{ "CPU", CHK_ERROR, "", "0.28 of 2 CPUs", { FROM }, .fake.later = { LATER("1014", "1086") } },
		{ "CPU", CHK_ERROR, "", "0.00 of 2 CPUs", { FROM }, .fake.later = { LATER("999", "1086") } },
		/* Waiting for a disk is idle; being robbed by the hypervisor is not. */
		{ "CPU", CHK_OK, "", "1.00 of 2 CPUs",
		  { { "proc/stat", "cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0\ncpu1 0\n" } },
		  .fake.later = { { "proc/stat", "cpu  0 0 0 0 50 0 0 50 0 0\ncpu0 0\ncpu1 0\n" } } },
		/* Linux 2.4 and early 2.6 had four columns. */
		{ "CPU", CHK_OK, "", "0.50 of 1 CPUs", { { "proc/stat", "cpu  0 0 0 0\ncpu0 0\n" } },
		  .fake.later = { { "proc/stat", "cpu  50 0 0 50\ncpu0 0\n" } } },
		/* Half a CPU of quota, of which 0.4 was used in the half second. */
		{ "CPU", CHK_ERROR, "", "0.10 of 2 CPUs",
		  { FROM, GROUP2("/a/b"), MOUNT2, { "sys/fs/cgroup/a/b/cpu.max", "50000 100000\n" },
		    { "sys/fs/cgroup/a/b/cpu.stat", "usage_usec 1000000\n" } },
		  .fake.later = { LATER("1100", "1000"), { "sys/fs/cgroup/a/b/cpu.stat", "usage_usec 1200000\n" } } },
		{ "CPU", CHK_ERROR, "", "0.20 of 2 CPUs",
		  { FROM, GROUP2("/a/b"), MOUNT2, { "sys/fs/cgroup/a/b/cpu.max", "max 100000\n" },
		    { "sys/fs/cgroup/a/cpu.max", "20000 100000\n" } },
		  .fake.later = { LATER("1100", "1000") } },
		{ "CPU", CHK_OK, "", "2.00 of 2 CPUs",
		  { FROM, GROUP2("/a"), MOUNT2, { "sys/fs/cgroup/a/cpu.max", "max 100000\n" } },
		  .fake.later = { LATER("1100", "1000") } },
		{ "CPU", CHK_ERROR, "", "0.25 of 2 CPUs",
		  { FROM, GROUP1("/docker/x"), MOUNT1("/docker/x"),
		    { "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "25000\n" },
		    { "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n" },
		    { "sys/fs/cgroup/cpu/cpuacct.usage", "77\n" } },
		  .fake.later = { LATER("1100", "1000") } },
		{ "CPU", CHK_OK, "", "2.00 of 2 CPUs",
		  { FROM, GROUP1("/x"), MOUNT1("/"), { "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "-1\n" },
		    { "sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n" } },
		  .fake.later = { LATER("1100", "1000") } },
		/* Half of it was used; but the counter of another group says nothing of this one. */
		{ "CPU", CHK_ERROR, "", "0.20 of 2 CPUs",
		  { FROM, GROUP1("/x"), MOUNT1("/"), { "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "40000\n" },
		    { "sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n" }, { "sys/fs/cgroup/cpu/x/cpuacct.usage", "7\n" } },
		  .fake.later = { LATER("1100", "1000"), { "sys/fs/cgroup/cpu/x/cpuacct.usage", "100000007\n" } } },
		{ "CPU", CHK_OK, "", "0.40 of 2 CPUs",
		  { FROM, { "proc/self/cgroup", "1:cpu:/x\n2:cpuacct:/\n" },
		    { "proc/self/mountinfo", "20 1 0:9 / /c rw - cgroup c rw,cpu\n21 1 0:8 / /a rw - cgroup c rw,cpuacct\n" },
		    { "c/x/cpu.cfs_quota_us", "40000\n" }, { "c/x/cpu.cfs_period_us", "100000\n" },
		    { "a/cpuacct.usage", "7\n" } },
		  .fake.later = { LATER("1100", "1000"), { "a/cpuacct.usage", "100000007\n" } } },
		/* Bound to one of two. */
		{ "CPU", CHK_OK, "", "1.00 of 2 CPUs",
		  { FROM, { "proc/self/status", "Name: x\nCpus_allowed_list:\t1\n" } },
		  .fake.later = { LATER("1100", "1000") } },
		{ "CPU", CHK_WARN, "", "stand still", { FROM }, .untold = true },
		{ "CPU", CHK_ERROR, "SMS.6506", "stand still", { FROM }, .untold = true, .live = true },
		{ "CPU", CHK_ERROR, "SMS.6506", "names no CPU", { { "proc/stat", "cpu 1 1 1 1\n" } },
		  .untold = true, .live = true },
		{ "CPU", CHK_ERROR, "SMS.6506", "no line of all CPUs", { { "proc/stat", "cpu0 1 1 1 1\n" } },
		  .untold = true, .live = true },
		{ "CPU", CHK_WARN, "", "not a running system", { { "etc", DIRECTORY } }, .untold = true },
	};

	run_cases(*state, cases, ARRAY_SIZE(cases));
}

static void numbers_come_with_their_limit(void **state)
{
	static const struct chk_case c = { "MEMORY", CHK_OK, "", "", { MEMINFO("1048576") } };
	struct fixture *f = *state;
	struct chk_answer a;

	case_plant(f, &c);
	a = case_answer(f, &c);
	assert_true(a.number);
	assert_string_equal(a.value, "1024");
	assert_string_equal(a.limit, "520");
	assert_string_equal(a.unit, "MiB");
}

static void groups_are_found_from_the_innermost_outwards(void **state)
{
	static const struct {
		const char *own, *mounts, *want; /* blank-separated */
	} rows[] = {
		{ "0::/a/b\n", "1 1 0:1 / /sys/fs/cgroup rw - cgroup2 c rw\n",
		  "sys/fs/cgroup/a/b sys/fs/cgroup/a sys/fs/cgroup" },
		{ "0::/\n", "1 1 0:1 / /sys/fs/cgroup rw - cgroup2 c rw\n", "sys/fs/cgroup" },
		/* Another name space's root, or a mount of a part only. */
		{ "0::/../x\n", "1 1 0:1 / /sys/fs/cgroup rw - cgroup2 c rw\n", "sys/fs/cgroup" },
		{ "0::/a/b\n", "1 1 0:1 /a /cg rw - cgroup2 c rw\n", "cg/b cg" },
		{ "0::/ab\n", "1 1 0:1 /a /cg rw - cgroup2 c rw\n", "cg" },
		{ "3:memory,x:/m\n0::/u\n", "1 1 0:1 / /v2 rw - cgroup2 c rw\n"
		  "2 1 0:2 / /v1 rw - cgroup c rw,memory\n", "v1/m v1" },
		{ "3:memoryx:/m\n0::/u\n", "1 1 0:1 / /v2 rw - cgroup2 c rw\n", "v2/u v2" },
		{ "3:memory:/m\n", "1 1 0:1 / /v2 rw - cgroup2 c rw\n", "" },
		{ "nonsense\n1:\n", "1 1 0:1 / /v2 rw - cgroup2 c rw\n", "" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(buf_fini) struct buf got = BUF_INIT;
		struct chk_cgroup c;

		fixture_write(f, "proc/self/cgroup", rows[i].own);
		fixture_write(f, "proc/self/mountinfo", rows[i].mounts);
		assert_int_equal(chk_cgroup_find(&f->root, "memory", &c), 0);
		for (size_t k = 0; k < c.dirs.n; k++)
			assert_int_equal(buf_printf(&got, "%s%s", k ? " " : "", c.dirs.v[k]), 0);
		assert_string_equal(buf_cstr(&got), rows[i].want);
		chk_cgroup_fini(&c);
	}
}

#define ROOT_MOUNT "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
#define MOUNTS(more) { "proc/self/mountinfo", ROOT_MOUNT more }
#define ROOM(mib, files) .fake.space = { UINT64_C(10) << 30, UINT64_C(mib) << 20, UINT64_C(mib) << 20, 100000, (files), 4096 }

static void room_and_mounts_are_judged(void **state)
{
	static const struct err no_login = { -ERR_SSH, "no login" };
	static const struct chk_case cases[] = {
		{ "FREE_SPACE", CHK_OK, "", "500 MiB are free on /", { MOUNTS("") }, ROOM(500, 9999) },
		{ "FREE_SPACE", CHK_WARN, "SMS.5101", "499 MiB", { MOUNTS("") }, ROOM(499, 9999) },
		{ "FREE_SPACE", CHK_ERROR, "SMS.1351", "199 MiB", { MOUNTS("") }, ROOM(199, 9999) },
		{ "FREE_SPACE", CHK_ERROR, "SMS.1351", "free on /full",
		  { MOUNTS("21 20 8:2 / /full rw - xfs /dev/sda2 rw\n22 20 8:3 / /ok rw - xfs /dev/sda3 rw\n") },
		  ROOM(9000, 9999), .fake.full_at = "/full" },
		/* What cannot be written, is no disk or is the same again may be full. */
		{ "FREE_SPACE", CHK_OK, "", "9000 MiB",
		  { MOUNTS("21 20 8:2 / /full ro,nosuid - xfs /dev/sda2 ro\n") }, ROOM(9000, 9999),
		  .fake.full_at = "/full" },
		{ "FREE_SPACE", CHK_OK, "", "9000 MiB",
		  { MOUNTS("21 20 0:44 / /full rw - tmpfs tmpfs rw\n22 20 7:0 / /full rw - squashfs /dev/loop0 ro\n") },
		  ROOM(9000, 9999), .fake.full_at = "/full" },
		{ "FREE_SPACE", CHK_WARN, "", "cannot be told", { MOUNTS("") }, .untold = true },
		{ "FREE_SPACE", CHK_WARN, "", "not a running system", { { "etc", DIRECTORY } }, .untold = true },
		/* Before 2.6.26 there was no mountinfo. */
		{ "FREE_SPACE", CHK_ERROR, "SMS.1351", "free on /full",
		  { { "proc/mounts", "rootfs / rootfs rw 0 0\n/dev/sda1 / ext3 rw 0 0\n/dev/sda2 /full ext3 rw 0 0\n" },
		    { "sys/class/block/sda1/dev", "8:1\n" } }, ROOM(9000, 9999), .fake.full_at = "/full" },

		{ "FREE_INODES", CHK_OK, "", "1000 more files can be made on /", { MOUNTS("") }, ROOM(900, 1000) },
		{ "FREE_INODES", CHK_WARN, "SMS.1351", "999 more files", { MOUNTS("") }, ROOM(900, 999) },
		{ "FREE_INODES", CHK_ERROR, "SMS.1351", "no more files can be made on /full",
		  { MOUNTS("21 20 8:2 / /full rw - ext4 /dev/sda2 rw\n") }, ROOM(900, 5000),
		  .fake.no_inodes_at = "/full" },
		{ "FREE_INODES", CHK_OK, "", "limits the number", { MOUNTS("") },
		  .fake.space = { UINT64_C(1) << 40, 1, 1, 0, 0, 4096 } },
		{ "FREE_INODES", CHK_WARN, "", "not a running system", { { "etc", DIRECTORY } }, .untold = true },

		{ "FILE_SYSTEM", CHK_OK, "", "of a kind that SMS takes",
		  { MOUNTS("21 20 8:2 / /boot rw - ext2 /dev/sda2 rw\n22 20 8:3 / /boot/efi rw - vfat /dev/sda3 rw\n"
			   "23 20 7:1 / /snap rw - squashfs /dev/loop1 ro\n24 20 0:5 / /proc rw - proc proc rw\n") },
		  ROOM(900, 1000) },
		{ "FILE_SYSTEM", CHK_ERROR, "SMS.6509", "/data (reiserfs)",
		  { MOUNTS("21 20 8:2 / /data rw - reiserfs /dev/sda2 rw\n") } },
		{ "FILE_SYSTEM", CHK_ERROR, "SMS.6509", "/ (btrfs)",
		  { { "proc/self/mountinfo", "20 1 0:30 /@ / rw - btrfs /dev/sda1 rw,subvol=/@\n" } } },
		{ "FILE_SYSTEM", CHK_ERROR, "SMS.6509", "/ (overlay)",
		  { { "proc/self/mountinfo", "20 1 0:30 / / rw - overlay overlay rw\n" } } },
		{ "FILE_SYSTEM", CHK_WARN, "", "/mnt/share (nfs4)",
		  { MOUNTS("21 20 0:50 / /mnt/share rw - nfs4 server:/export rw\n") } },
		{ "FILE_SYSTEM", CHK_WARN, "", "not a running system", { { "etc", DIRECTORY } }, .untold = true },
		{ "FILE_SYSTEM", CHK_WARN, "", "no file system is mounted", { { "proc/self/mountinfo", "nothing\n" } }, .untold = true },

		{ "MOUNT_POINTS", CHK_OK, "", "nothing is mounted twice",
		  { MOUNTS("21 20 0:30 /@a /a rw - btrfs /dev/sdb rw\n22 20 0:30 /@b /b rw - btrfs /dev/sdb rw\n") } },
		{ "MOUNT_POINTS", CHK_WARN, "SMS.1353", "/again", { MOUNTS("21 20 8:1 / /again rw - ext4 /dev/sda1 rw\n") } },
		{ "MOUNT_POINTS", CHK_WARN, "SMS.1353", "/srv/www", { MOUNTS("21 20 8:1 /home /srv/www rw - ext4 /dev/sda1 rw\n") } },
		{ "MOUNT_POINTS", CHK_WARN, "", "not a running system", { { "etc", DIRECTORY } }, .untold = true },

		{ "TEMP_DIR", CHK_OK, "", "/tmp can be written", { MOUNTS(""), { "tmp", DIRECTORY } } },
		{ "TEMP_DIR", CHK_WARN, "SMS.5102", "noexec",
		  { MOUNTS("21 20 0:40 / /tmp rw,nosuid,noexec - tmpfs tmpfs rw\n"), { "tmp", DIRECTORY } } },
		{ "TEMP_DIR", CHK_WARN, "SMS.5102", "read-only",
		  { { "proc/self/mountinfo", "20 1 8:1 / / ro,relatime - ext4 /dev/sda1 ro\n" }, { "tmp", DIRECTORY } } },
		{ "TEMP_DIR", CHK_WARN, "SMS.5102", "no directory", { MOUNTS("") } },
		{ "TEMP_DIR", CHK_WARN, "", "not a running system", { { "tmp", DIRECTORY } }, .untold = true },

		{ "TARGET_SPACE", CHK_OK, "", "has room", { MOUNTS("") }, ROOM(10139, 9), .opts.target_bytes = 101 << 20 },
		{ "TARGET_SPACE", CHK_ERROR, "SMS.0519", "101 MiB) is more than", { MOUNTS("") }, ROOM(10139, 9),
		  .opts.target_bytes = 100 << 20 },
		{ "TARGET_SPACE", CHK_WARN, "SMS.0519", "unless it is there", { MOUNTS("") }, ROOM(10139, 9),
		  .opts.target_bytes = 100 << 20, .opts.target_begun = true },
		/* 99991 of 100000 inodes are in use here. */
		{ "TARGET_SPACE", CHK_OK, "", "has room", { MOUNTS("") }, ROOM(10139, 9),
		  .opts.target_bytes = 101 << 20, .opts.target_files = 99991 },
		{ "TARGET_SPACE", CHK_ERROR, "SMS.0519", "99991 files and directories here, and inodes for 99990",
		  { MOUNTS("") }, ROOM(10139, 9), .opts.target_bytes = 101 << 20, .opts.target_files = 99990 },
		{ "TARGET_SPACE", CHK_WARN, "", "could not tell: no login", { MOUNTS("") }, ROOM(10139, 9),
		  .untold = true, .live = true, .opts.target_space_why = &no_login },
		{ "TARGET_SPACE", CHK_WARN, "", "not a running system", { { "etc", DIRECTORY } }, .untold = true,
		  .opts.target_bytes = 1 },
	};

	run_cases(*state, cases, ARRAY_SIZE(cases));
}

int main(void)
{
#define TREE_TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		TREE_TEST(too_little_memory_is_an_error),
		TREE_TEST(too_little_cpu_is_an_error),
		TREE_TEST(numbers_come_with_their_limit),
		TREE_TEST(groups_are_found_from_the_innermost_outwards),
		TREE_TEST(room_and_mounts_are_judged),
	};
#undef TREE_TEST

	return cmocka_run_group_tests(tests, NULL, NULL);
}
