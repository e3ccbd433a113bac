/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/io.h"
#include "common/macro.h"
#include "stager/mounts.h"

struct fixture {
	char dir[32];
	char file[64];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	*state = f;
	strcpy(f->dir, "/tmp/test_mounts.XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(f->file, sizeof(f->file), "%s/mountinfo", f->dir);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	unlink(f->file);
	rmdir(f->dir);
	free(f);
	return 0;
}

static struct stg_mounts *read_text(struct fixture *f, const char *root, const char *text)
{
	struct stg_mounts *m = NULL;
	struct err e = { 0 };

	if (io_replace_file(AT_FDCWD, f->file, bytes_str(text), 0600, &e) < 0 ||
	    stg_mounts_read(root, f->file, &m, &e) < 0)
		fail_msg("%s", e.text);
	return m;
}

#define ROOT_LINE "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"

static void each_mount_point_is_told_apart(void **state)
{
	static const struct {
		const char *root, *text, *path;
		enum stg_mount_kind want;
	} rows[] = {
		/* No mount point at all, and what has no path. */
		{ "/", ROOT_LINE, "home", STG_MOUNT_NONE },
		{ "/", ROOT_LINE, "", STG_MOUNT_NONE },
		{ "/", "", "home", STG_MOUNT_NONE },
		/* Data file systems. */
		{ "/", ROOT_LINE "23 22 8:2 / /home rw - ext4 /dev/sda2 rw\n", "home",
		  STG_MOUNT_DATA },
		{ "/", ROOT_LINE "23 22 8:2 / /home rw - ext4 /dev/sda2 rw\n", "hom",
		  STG_MOUNT_NONE },
		{ "/", ROOT_LINE "23 22 8:2 / /home rw - ext4 /dev/sda2 rw\n", "home/x",
		  STG_MOUNT_NONE },
		{ "/", ROOT_LINE "23 22 253:0 / /var/lib rw shared:2 master:3 - xfs /dev/dm-0 rw\n",
		  "var/lib", STG_MOUNT_DATA },
		{ "/", ROOT_LINE "23 22 8:3 / /boot/efi rw - vfat /dev/sda3 rw\n", "boot/efi",
		  STG_MOUNT_DATA },
		/* Not data. */
		{ "/", ROOT_LINE "23 22 0:21 / /proc rw - proc proc rw\n", "proc",
		  STG_MOUNT_OTHER },
		{ "/", ROOT_LINE "23 22 0:22 / /tmp rw - tmpfs tmpfs rw,size=1024k\n", "tmp",
		  STG_MOUNT_OTHER },
		{ "/", ROOT_LINE "23 22 0:50 / /mnt/nfs rw - nfs4 srv:/export rw,vers=4.2\n",
		  "mnt/nfs", STG_MOUNT_OTHER },
		{ "/", ROOT_LINE "23 22 0:60 / /var/lib/docker/overlay2/x/merged rw - overlay "
				 "overlay rw,lowerdir=/a:/b\n",
		  "var/lib/docker/overlay2/x/merged", STG_MOUNT_OTHER },
		{ "/", ROOT_LINE "23 22 0:61 / /mnt/sshfs rw - fuse.sshfs h:/ rw\n", "mnt/sshfs",
		  STG_MOUNT_OTHER },
		{ "/", ROOT_LINE "23 22 11:0 / /media/cd ro - iso9660 /dev/sr0 ro\n", "media/cd",
		  STG_MOUNT_OTHER },
		{ "/", ROOT_LINE "23 22 7:0 / /snap/core/1 ro - squashfs /dev/loop0 ro\n",
		  "snap/core/1", STG_MOUNT_OTHER },
		/* Bind mounts: of a sub-tree, of the root itself, of another mount. */
		{ "/", ROOT_LINE "23 22 8:1 /srv/www /home/www rw - ext4 /dev/sda1 rw\n",
		  "home/www", STG_MOUNT_OTHER },
		{ "/", ROOT_LINE "23 22 8:1 / /mnt/root rw - ext4 /dev/sda1 rw\n", "mnt/root",
		  STG_MOUNT_OTHER },
		{ "/", ROOT_LINE "23 22 8:2 / /home rw - ext4 /dev/sda2 rw\n"
				 "24 22 8:2 / /export rw - ext4 /dev/sda2 rw\n",
		  "export", STG_MOUNT_OTHER },
		{ "/", ROOT_LINE "23 22 8:2 / /home rw - ext4 /dev/sda2 rw\n"
				 "24 22 8:2 / /export rw - ext4 /dev/sda2 rw\n",
		  "home", STG_MOUNT_DATA },
		/* btrfs: anonymous devices, and sub-volumes are roots of their own. */
		{ "/", "22 1 0:25 /@ / rw - btrfs /dev/sda1 rw,subvol=/@\n"
		       "23 22 0:25 /@home /home rw - btrfs /dev/sda1 rw,subvol=/@home\n",
		  "home", STG_MOUNT_DATA },
		{ "/", "22 1 0:25 /@ / rw - btrfs /dev/sda1 rw,subvol=/@\n"
		       "23 22 0:25 /@ /mnt/again rw - btrfs /dev/sda1 rw,subvol=/@\n",
		  "mnt/again", STG_MOUNT_OTHER },
		{ "/", "22 1 0:25 /@ / rw - btrfs /dev/sda1 rw,subvol=/@\n"
		       "23 22 0:25 /@/srv/www /home/www rw - btrfs /dev/sda1 rw,subvol=/@\n",
		  "home/www", STG_MOUNT_OTHER },
		{ "/", ROOT_LINE "23 22 0:33 / /tank rw - zfs tank rw,xattr\n", "tank",
		  STG_MOUNT_DATA },
		/* Blank, tab, newline and backslash are written as octal numbers. */
		{ "/", ROOT_LINE "23 22 8:2 / /a\\040b\\011c\\012d\\134e rw - ext4 /dev/sda2 rw\n",
		  "a b\tc\nd\\e", STG_MOUNT_DATA },
		{ "/", ROOT_LINE "23 22 8:1 /x\\040y /bind\\040me rw - ext4 /dev/sda1 rw\n",
		  "bind me", STG_MOUNT_OTHER },
		/* Bytes above 127 are written as they are. */
		{ "/", ROOT_LINE "23 22 8:2 / /\xff\xc3\xbc rw - ext4 /dev/sda2 rw\n",
		  "\xff\xc3\xbc", STG_MOUNT_DATA },
		/* A later mount hides what was there before, on its point and below. */
		{ "/", ROOT_LINE "23 22 8:2 / /data rw - ext4 /dev/sda2 rw\n"
				 "24 23 0:40 / /data rw - tmpfs tmpfs rw\n",
		  "data", STG_MOUNT_OTHER },
		{ "/", ROOT_LINE "23 22 0:40 / /data rw - tmpfs tmpfs rw\n"
				 "24 23 8:2 / /data rw - ext4 /dev/sda2 rw\n",
		  "data", STG_MOUNT_DATA },
		{ "/", ROOT_LINE "23 22 8:2 / /data rw - ext4 /dev/sda2 rw\n"
				 "24 23 0:40 / /data/cache rw - tmpfs tmpfs rw\n"
				 "25 23 8:3 / /data rw - ext4 /dev/sda3 rw\n",
		  "data/cache", STG_MOUNT_NONE },
		{ "/", ROOT_LINE "23 22 8:2 / /data rw - ext4 /dev/sda2 rw\n"
				 "24 23 0:40 / /data rw - tmpfs tmpfs rw\n"
				 "25 22 8:2 / /elsewhere rw - ext4 /dev/sda2 rw\n",
		  "elsewhere", STG_MOUNT_DATA },
		/* A root that is not "/": only what is below it, relative to it. */
		{ "/srv", ROOT_LINE "23 22 8:2 / /srv/data rw - ext4 /dev/sda2 rw\n", "data",
		  STG_MOUNT_DATA },
		{ "/srv", ROOT_LINE "23 22 8:2 / /srv/data rw - ext4 /dev/sda2 rw\n", "srv/data",
		  STG_MOUNT_NONE },
		{ "/srv", ROOT_LINE "23 22 8:2 / /srv2/data rw - ext4 /dev/sda2 rw\n", "2/data",
		  STG_MOUNT_NONE },
		{ "/srv", ROOT_LINE "23 22 8:2 / /srv rw - ext4 /dev/sda2 rw\n"
				    "24 23 8:1 / /srv/root rw - ext4 /dev/sda1 rw\n",
		  "root", STG_MOUNT_DATA },
		{ "/srv", ROOT_LINE "23 22 8:2 / /srv rw - ext4 /dev/sda2 rw\n"
				    "24 23 8:2 / /srv/self rw - ext4 /dev/sda2 rw\n",
		  "self", STG_MOUNT_OTHER },
		{ "/srv", ROOT_LINE "23 22 0:40 / /srv/run rw - tmpfs tmpfs rw\n"
				    "24 22 8:2 / /srv rw - ext4 /dev/sda2 rw\n",
		  "run", STG_MOUNT_NONE },
		/* What is no line of mountinfo is passed over. */
		{ "/", ROOT_LINE "nonsense\n\n - \n1 2 3 -\n23 22 8:2 / /home - ext4\n"
				 "23 22 8:2 / - ext4 x y\n"
				 "24 22 8:4 / /ok rw - ext4 /dev/sda4 rw",
		  "ok", STG_MOUNT_DATA },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct stg_mounts *m = read_text(f, rows[i].root, rows[i].text);
		enum stg_mount_kind kind = stg_mounts_kind(m, bytes_str(rows[i].path));

		stg_mounts_free(m);
		if (kind != rows[i].want)
			fail_msg("row %zu: '%s' is of kind %d, not %d", i, rows[i].path, kind,
				 rows[i].want);
	}
}

static void data_mounts_are_listed_by_absolute_path(void **state)
{
	struct fixture *f = *state;
	struct stg_mounts *m = read_text(f, "/srv",
		ROOT_LINE
		"23 22 8:2 / /srv/a rw - ext4 /dev/sda2 rw\n"
		"24 22 0:40 / /srv/t rw - tmpfs tmpfs rw\n"
		"25 22 8:3 / /home rw - ext4 /dev/sda3 rw\n"
		"26 22 8:4 / /srv/b\\040c rw - xfs /dev/sda4 rw\n");

	assert_string_equal(stg_mounts_data(m, 0), "/srv/a");
	assert_string_equal(stg_mounts_data(m, 1), "/srv/b c");
	assert_null(stg_mounts_data(m, 2));
	stg_mounts_free(m);
}

static void many_mounts_are_kept(void **state)
{
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	struct fixture *f = *state;
	struct stg_mounts *m;
	char path[32];

	for (int i = 0; i < 3000; i++)
		assert_int_equal(buf_printf(&text, "%d 1 0:%d / /run/user/%d rw - tmpfs tmpfs rw\n",
					    100 + i, 100 + i, i), 0);
	m = read_text(f, "/", buf_cstr(&text));
	for (int i = 0; i < 3000; i++) {
		snprintf(path, sizeof(path), "run/user/%d", i);
		assert_int_equal(stg_mounts_kind(m, bytes_str(path)), STG_MOUNT_OTHER);
	}
	stg_mounts_free(m);
}

static void a_host_without_mountinfo_has_no_mounts(void **state)
{
	struct fixture *f = *state;
	struct stg_mounts *m = NULL;
	struct err e = { 0 };

	assert_int_equal(stg_mounts_read("/", f->file, &m, &e), 0); /* there is no such file */
	assert_int_equal(stg_mounts_kind(m, bytes_str("proc")), STG_MOUNT_NONE);
	assert_null(stg_mounts_data(m, 0));
	stg_mounts_free(m);
	stg_mounts_free(NULL);
	/* Anything else that is wrong with it is an error: nothing would be left out. */
	assert_true(stg_mounts_read("/", f->dir, &m, &e) < 0);
}

static void the_machine_itself_can_be_read(void **state)
{
	struct stg_mounts *m = NULL;
	struct err e = { 0 };

	(void)state;
	if (access("/proc/self/mountinfo", R_OK) < 0) {
		print_message("skipped: no /proc here\n");
		skip();
	}
	assert_int_equal(stg_mounts_read("/", NULL, &m, &e), 0);
	assert_int_equal(stg_mounts_kind(m, bytes_str("proc")), STG_MOUNT_OTHER);
	stg_mounts_free(m);
}

int main(void)
{
#define MOUNTS_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		MOUNTS_TEST(each_mount_point_is_told_apart),
		MOUNTS_TEST(data_mounts_are_listed_by_absolute_path),
		MOUNTS_TEST(many_mounts_are_kept),
		MOUNTS_TEST(a_host_without_mountinfo_has_no_mounts),
		cmocka_unit_test(the_machine_itself_can_be_read),
	};
#undef MOUNTS_TEST

	return cmocka_run_group_tests(tests, NULL, NULL);
}
