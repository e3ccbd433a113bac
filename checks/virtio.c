/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drivers of the target's disks and cards: does the kernel have them, and are they in the
 * initramfs, without which it cannot reach its root?
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "checks/initramfs.h"
#include "checks/rows.h"
#include "checks/unpack.h"
#include "common/io.h"

/* The whole of the checks has two seconds. */
#define READ_NS INT64_C(1000000000)
#define CONFIG_MAX (1u << 20)

enum driver {
	D_VIRTIO,
	D_RING,
	D_PCI,
	D_BLK,
	D_SCSI,
	D_NET,
	DRIVERS,
};

static const char *const names[DRIVERS + 1] = {
	"virtio", "virtio_ring", "virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net", NULL,
};

/* In the kernel's configuration. */
static const char *const options[DRIVERS] = {
	"CONFIG_VIRTIO", "CONFIG_VIRTIO", "CONFIG_VIRTIO_PCI", "CONFIG_VIRTIO_BLK",
	"CONFIG_SCSI_VIRTIO", "CONFIG_VIRTIO_NET",
};

enum how {
	ABSENT,
	BUILTIN,
	MODULE,
};

/* Is "/NAME.ko" in a list of modules? */
static bool lists(const char *text, const char *name)
{
	char want[64];
	size_t n = (size_t)snprintf(want, sizeof(want), "%s.ko", name);

	for (const char *at = text; (at = strstr(at, want)); at += n)
		if ((at == text || at[-1] == '/' || at[-1] == '\n') && strchr(":.\n \r", at[n]))
			return true;
	return false;
}

/* The running kernel may carry its configuration. */
static int read_config_gz(const struct chk_root *root, struct buf *out, struct err *e)
{
	_cleanup_close_ int fd = chk_open(root, "proc/config.gz", O_RDONLY);
	struct chk_unpack *u = NULL;
	int r = fd < 0 ? fd : chk_unpack_open(fd, &u, e);
	ssize_t n = 1;

	while (r == 0 && n > 0 && buf_len(out) < CONFIG_MAX) {
		r = buf_reserve(out, 16384);
		n = r == 0 ? chk_unpack_read(u, out->p + out->n, 16384, e) : 0;
		if (n < 0)
			r = (int)n;
		else
			out->n += (size_t)n;
	}
	chk_unpack_free(u);
	return r == 0 && !buf_cstr(out) ? -ENOMEM : r;
}

static int read_config(const struct chk_env *env, struct buf *out)
{
	static const char *const paths[][2] = {
		{ "boot/config-", "" },
		{ "lib/modules/", "/config" },
	};
	char running[256], path[512];
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		snprintf(path, sizeof(path), "%s%s%s", paths[i][0], env->facts->kernel,
			 paths[i][1]);
		if (chk_read(env->root, path, out, &e) == 0)
			return 0;
	}
	if (chk_read_line(env->root, "proc/sys/kernel/osrelease", running, sizeof(running)) < 0 ||
	    strcmp(running, env->facts->kernel) != 0)
		return -ENOENT;
	buf_clear(out);
	return read_config_gz(env->root, out, &e);
}

/* "=y", "=m" or nothing. */
static char configured(const char *config, const char *option)
{
	size_t n = strlen(option);

	for (const char *at = config; (at = strstr(at, option)); at += n)
		if ((at == config || at[-1] == '\n') && at[n] == '=')
			return at[n + 1];
	return 'n';
}

/* Lists of modules know what is installed; the configuration, what is built in. */
static int find_drivers(const struct chk_env *env, enum how ret[DRIVERS], struct err *e)
{
	_cleanup_(buf_fini) struct buf dep = BUF_INIT, builtin = BUF_INIT, config = BUF_INIT;
	const char *kernel = env->facts->kernel;
	bool has_builtin, has_config;
	char path[512];
	struct err none;
	int r;

	if (!chk_told(env->facts, CHK_SUBJECT_KERNEL))
		return chk_untold(env, CHK_SUBJECT_KERNEL, e);
	snprintf(path, sizeof(path), "lib/modules/%s/modules.builtin", kernel);
	has_builtin = chk_read(env->root, path, &builtin, &none) == 0;
	has_config = read_config(env, &config) == 0;
	snprintf(path, sizeof(path), "lib/modules/%s/modules.dep", kernel);
	r = chk_read(env->root, path, &dep, e);
	if (r < 0 && !has_config)
		return r;
	for (size_t i = 0; i < DRIVERS; i++) {
		if ((has_builtin && lists(buf_cstr(&builtin), names[i])) ||
		    (has_config && configured(buf_cstr(&config), options[i]) == 'y'))
			ret[i] = BUILTIN;
		else
			ret[i] = r == 0 && lists(buf_cstr(&dep), names[i]) ? MODULE : ABSENT;
	}
	return 0;
}

int chk_virtio(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	enum how how[DRIVERS];
	int r = find_drivers(env, how, e);
	char missing[128] = "";

	chk_limit(ret, "virtio_pci, virtio_net, virtio_blk or virtio_scsi");
	if (r < 0)
		return r;
	for (size_t i = D_PCI; i < DRIVERS; i++) {
		size_t n = strlen(ret->value);

		if (how[i] != ABSENT)
			snprintf(ret->value + n, sizeof(ret->value) - n, "%s%s%s", n ? " " : "",
				 names[i], how[i] == BUILTIN ? "(built in)" : "");
	}
	if (how[D_PCI] == ABSENT)
		strcat(missing, " virtio_pci");
	if (how[D_BLK] == ABSENT && how[D_SCSI] == ABSENT)
		strcat(missing, " virtio_blk");
	if (how[D_NET] == ABSENT)
		strcat(missing, " virtio_net");
	if (*missing)
		return chk_say(ret, CHK_ERROR, "the kernel %s lacks%s", env->facts->kernel, missing);
	return chk_say(ret, CHK_OK, "the kernel %s has what a KVM target needs",
		       env->facts->kernel);
}

static int open_image(const struct chk_env *env, char *path, size_t size)
{
	static const char *const forms[][2] = {
		{ "boot/initrd.img-", "" },   { "boot/initramfs-", ".img" },
		{ "boot/initrd-", "" },	      { "boot/initrd-", ".img" },
		{ "boot/initramfs-", "" },    { "lib/modules/", "/initrd" },
		{ "lib/modules/", "/initramfs.img" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		int fd;

		snprintf(path, size, "%s%s%s", forms[i][0], env->facts->kernel, forms[i][1]);
		fd = chk_open(env->root, path, O_RDONLY | O_NONBLOCK);
		if (fd >= 0)
			return fd;
		if (fd != -ENOENT && fd != -ENOTDIR)
			return fd;
	}
	return -ENOENT;
}

static void add_name(char *list, size_t size, const char *name)
{
	size_t n = strlen(list);

	snprintf(list + n, size - n, "%s%s", n ? ", " : "", name);
}

/* What lacks in the image of the modules that are not built in; one driver of disks will do. */
static int judge_image(const char *path, int fd, const enum how how[DRIVERS],
		       struct chk_answer *ret, struct err *e)
{
	const char *wanted[DRIVERS + 1] = { NULL };
	unsigned char found[DRIVERS] = { 0 };
	char missing[128] = "";
	bool disk = how[D_BLK] == BUILTIN || how[D_SCSI] == BUILTIN;
	size_t n = 0;
	int r;

	for (size_t i = 0; i < DRIVERS; i++)
		if (how[i] == MODULE && i != D_NET)
			wanted[n++] = names[i];
	r = chk_initramfs_find(fd, wanted, found, clock_mono_ns() + READ_NS, e);
	if (r < 0)
		return err_ctx(e, r, "/%s", path);
	for (size_t i = 0; i < n; i++) {
		if (wanted[i] == names[D_BLK] || wanted[i] == names[D_SCSI])
			disk |= found[i];
		else if (!found[i])
			add_name(missing, sizeof(missing), wanted[i]);
	}
	if (!disk)
		add_name(missing, sizeof(missing),
			 names[how[D_BLK] == ABSENT && how[D_SCSI] == MODULE ? D_SCSI : D_BLK]);
	if (*missing)
		return chk_say(ret, CHK_WARN, "/%s lacks %s", path, missing);
	return chk_say(ret, CHK_OK, "/%s holds the virtio drivers that are not built in", path);
}

int chk_initramfs(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	enum how how[DRIVERS];
	_cleanup_close_ int fd = -1;
	char path[512];
	int r;

	if (!chk_told(env->facts, CHK_SUBJECT_KERNEL))
		return chk_untold(env, CHK_SUBJECT_KERNEL, e);
	fd = open_image(env, path, sizeof(path));
	if (fd == -ENOENT) {
		chk_code(ret, "SMS.6563", "Build an initramfs with virtio drivers for the running kernel, or use the staged sync.");
		return chk_say(ret, CHK_ERROR, "there is no initramfs of the kernel %s below /boot",
			       env->facts->kernel);
	}
	if (fd < 0)
		return chk_sys_error(env->root, path, fd, e);
	chk_value(ret, "/%s", path);
	r = find_drivers(env, how, e);
	return r < 0 ? r : judge_image(path, fd, how, ret, e);
}
