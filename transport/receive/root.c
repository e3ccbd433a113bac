/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/receive/root.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <time.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "common/buf.h"
#include "common/io.h"
#include "common/text.h"
#include "transport/protocol.h"

#define BOOT_ID_TEXT_MAX 64
#define LOCK_TRIES_PER_S 10
#define LOCK_TRIES       (5 * LOCK_TRIES_PER_S)

/* Landlock by number: build hosts have older headers than the kernels that this runs on. */
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule       445
#define SYS_landlock_restrict_self  446
#endif
#define LANDLOCK_VERSION      1u
#define LANDLOCK_PATH_BENEATH 1
#define LANDLOCK_EXECUTE      1u
#define LANDLOCK_IOCTL_DEV    (1u << 15)

struct landlock_ruleset {
	uint64_t fs, net, scoped;
};

struct landlock_beneath {
	uint64_t allowed;
	int32_t fd;
} __attribute__((packed));

static void read_boot_id(uint8_t ret[16])
{
	struct buf b = BUF_INIT;
	struct err e = { 0 };
	uint8_t id[16] = { 0 };
	size_t digits = 0;

	if (io_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", BOOT_ID_TEXT_MAX, &b, &e) == 0) {
		struct bytes text = buf_view(&b);

		for (size_t i = 0; i < text.n && digits < 32; i++) {
			uint8_t c = text.p[i], x;

			if (c >= '0' && c <= '9')
				x = (uint8_t)(c - '0');
			else if (c >= 'a' && c <= 'f')
				x = (uint8_t)(c - 'a' + 10);
			else
				continue;
			id[digits / 2] = (uint8_t)(id[digits / 2] << 4 | x);
			digits++;
		}
	}
	buf_fini(&b);
	memset(ret, 0, 16);
	if (digits == 32)
		memcpy(ret, id, sizeof(id));
}

static bool has_cap(cap_value_t cap)
{
	cap_flag_value_t on = CAP_CLEAR;
	cap_t caps = cap_get_proc();

	if (!caps)
		return false;
	if (cap_get_flag(caps, cap, CAP_EFFECTIVE, &on) < 0)
		on = CAP_CLEAR;
	cap_free(caps);
	return on == CAP_SET;
}

static uint32_t abilities(void)
{
	static const struct {
		cap_value_t cap;
		uint32_t ability;
	} rows[] = {
		{ CAP_CHOWN, TP_R_CHOWN },
		{ CAP_MKNOD, TP_R_MKNOD },
		{ CAP_SYS_ADMIN, TP_R_TRUSTED },
		{ CAP_LINUX_IMMUTABLE, TP_R_FLAGS },
	};
	uint32_t all = 0;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (has_cap(rows[i].cap))
			all |= rows[i].ability;
	return all;
}

static int parent_missing(const char *path, struct err *e)
{
	char name[TEXT_NAME_MAX];

	return err_set(e, -ENOENT,
		       "target root %s: its parent directory does not exist; --mkpath makes it too",
		       text_name(name, bytes_str(path)));
}

static int root_error(const char *path, struct err *e)
{
	char name[TEXT_NAME_MAX];

	return err_sys(e, "target root %s", text_name(name, bytes_str(path)));
}

/* Make the missing parents of path, which is changed and put back on the way. */
static int make_parents(char *path, struct err *e)
{
	for (char *p = path + 1; *p; p++) {
		int r;

		if (*p != '/')
			continue;
		*p = '\0';
		r = mkdir(path, 0755) < 0 && errno != EEXIST ? root_error(path, e) : 0;
		*p = '/';
		if (r < 0)
			return r;
	}
	return 0;
}

static int root_open(char *path, uint32_t flags, bool *created, struct err *e)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (fd >= 0)
		return fd;
	if (errno != ENOENT)
		return root_error(path, e);
	if (!(flags & (TP_H_CREATE_ROOT | TP_H_MKPATH))) {
		errno = ENOENT;
		return root_error(path, e);
	}
	if (flags & TP_H_MKPATH) {
		r = make_parents(path, e);
		if (r < 0)
			return r;
	}
	if (mkdir(path, 0755) == 0)
		*created = true;
	else if (errno == ENOENT)
		return parent_missing(path, e);
	else if (errno != EEXIST) /* another session was faster */
		return root_error(path, e);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? root_error(path, e) : fd;
}

int rcv_root_take(struct bytes path, uint32_t flags, struct rcv_root *ret, struct err *e)
{
	struct rcv_root root = { .fd = -1 };
	_cleanup_free_ char *text = NULL;
	struct statfs fs;

	if (!path.n || path.p[0] != '/' || memchr(path.p, '\0', path.n))
		return err_set(e, -EINVAL, "the target root is no absolute path");
	text = strndup((const char *)path.p, path.n);
	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	for (size_t n = path.n; n > 1 && text[n - 1] == '/'; n--)
		text[n - 1] = '\0';
	root.fd = root_open(text, flags, &root.created, e);
	if (root.fd < 0)
		return root.fd;
	if (fstatfs(root.fd, &fs) == 0) {
		root.free_bytes = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
		root.free_inodes = fs.f_files ? fs.f_ffree : UINT64_MAX;
		root.fs_magic = (uint64_t)fs.f_type;
	}
	root.empty = io_dir_is_empty(root.fd, TP_OWN_DIR);
	root.abilities = abilities();
	root.super = has_cap(CAP_DAC_OVERRIDE);
	read_boot_id(root.boot_id);
	*ret = root;
	return 0;
}

int rcv_root_lock(const struct rcv_root *root, struct err *e)
{
	for (int i = 0; flock(root->fd, LOCK_EX | LOCK_NB) < 0; i++) {
		if (errno != EWOULDBLOCK)
			return 0; /* a file system without locks */
		if (i == LOCK_TRIES)
			return err_set(e, -EBUSY, "another run is writing to this target root: "
				       "wait for its end");
		nanosleep(&(struct timespec){ .tv_nsec = 1000000000 / LOCK_TRIES_PER_S }, NULL);
	}
	return 0;
}

void rcv_root_drop(struct rcv_root *root)
{
	if (root->fd >= 0)
		close(root->fd);
	root->fd = -1;
}

/*
 * Handle every right that the running kernel knows, allow them below the root alone, but
 * for starting programs and for commands to devices, which are allowed nowhere.
 */
static void landlock(int rootfd)
{
	static const unsigned rights_of_abi[] = { 0, 13, 14, 15, 15, 16 };
	struct landlock_ruleset set = { 0 };
	struct landlock_beneath beneath = { .fd = rootfd };
	_cleanup_close_ int fd = -1;
	size_t bytes = sizeof(set.fs);
	long abi;

	abi = syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, LANDLOCK_VERSION);
	/* The first version forbids hard links between directories, and no right allows them. */
	if (abi < 2)
		return;
	set.fs = (1ull << rights_of_abi[MIN((size_t)abi, ARRAY_SIZE(rights_of_abi) - 1)]) - 1;
	if (abi >= 4) {
		set.net = 3; /* bind and connect by TCP: there is no rule that allows any */
		bytes = offsetof(struct landlock_ruleset, scoped);
	}
	if (abi >= 6) {
		set.scoped = 3; /* abstract sockets and signals of others */
		bytes = sizeof(set);
	}
	beneath.allowed = set.fs & ~(uint64_t)(LANDLOCK_EXECUTE | LANDLOCK_IOCTL_DEV);
	fd = (int)syscall(SYS_landlock_create_ruleset, &set, bytes, 0u);
	if (fd < 0 ||
	    syscall(SYS_landlock_add_rule, fd, LANDLOCK_PATH_BENEATH, &beneath, 0u) < 0)
		return;
	/* It is one wall of several: a kernel that was built without it is no reason to stop. */
	(void)syscall(SYS_landlock_restrict_self, fd, 0u);
}

static int drop_capabilities(struct err *e)
{
	static const cap_value_t kept[] = {
		CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER,
		CAP_FSETID, CAP_MKNOD, CAP_SETFCAP, CAP_LINUX_IMMUTABLE,
		CAP_SYS_ADMIN, /* trusted and security xattrs */
	};
	cap_t caps, now;
	int r = 0;

	if (has_cap(CAP_SETPCAP))
		for (cap_value_t cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++)
			if (cap_drop_bound(cap) < 0)
				return err_sys(e, "drop capability %d", cap);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	now = cap_get_proc();
	caps = cap_init();
	if (!now || !caps) {
		r = err_sys(e, "read capabilities");
		goto out;
	}
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
		cap_flag_value_t on = CAP_CLEAR;

		if (cap_get_flag(now, kept[i], CAP_EFFECTIVE, &on) < 0 || on != CAP_SET)
			continue;
		if (cap_set_flag(caps, CAP_PERMITTED, 1, &kept[i], CAP_SET) < 0 ||
		    cap_set_flag(caps, CAP_EFFECTIVE, 1, &kept[i], CAP_SET) < 0)
			r = err_sys(e, "set capabilities");
	}
	if (r == 0 && cap_set_proc(caps) < 0)
		r = err_sys(e, "drop capabilities");
out:
	cap_free(now);
	cap_free(caps);
	return r;
}

int rcv_root_confine(const struct rcv_root *root, struct err *e)
{
	if (fchdir(root->fd) < 0)
		return err_sys(e, "enter the target root");
	if (has_cap(CAP_SYS_CHROOT) && (chroot(".") < 0 || chdir("/") < 0))
		return err_sys(e, "confine the receiver to the target root");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_sys(e, "set no_new_privs");
	landlock(root->fd);
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_sys(e, "forbid core dumps");
	return drop_capabilities(e);
}
