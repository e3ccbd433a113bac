/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which boot loader starts this system, and whether a BIOS target can get one like it.
 */
#include <stdio.h>
#include <string.h>

#include "checks/rows.h"

/* systemd's boot loader interface: the loader that was really used writes its name there. */
#define LOADER_INFO "sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

static const struct {
	const char *path, *name;
} loaders[] = {
	{ "boot/grub2/grub.cfg", "GRUB" },
	{ "boot/grub/grub.cfg", "GRUB" },
	{ "boot/grub/menu.lst", "GRUB" }, /* the old GRUB 0.97 */
	{ "boot/grub/grub.conf", "GRUB" },
	{ "boot/loader/loader.conf", "SYSTEMD-BOOT" },
	{ "boot/efi/loader/loader.conf", "SYSTEMD-BOOT" },
	{ "efi/loader/loader.conf", "SYSTEMD-BOOT" },
	{ "boot/extlinux/extlinux.conf", "EXTLINUX" },
	{ "boot/extlinux.conf", "EXTLINUX" },
	{ "boot/syslinux/syslinux.cfg", "SYSLINUX" },
	{ "etc/lilo.conf", "LILO" },
	{ "etc/elilo.conf", "ELILO" },
	{ "etc/zipl.conf", "ZIPL" },
};

/* The variable holds four bytes of attributes and UTF-16; "" when there is none. */
static const char *running_loader(const struct chk_root *root)
{
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	struct err e = { 0 };
	char name[32] = "";
	size_t n = 0;

	if (chk_read(root, LOADER_INFO, &b, &e) < 0)
		return "";
	for (size_t i = 4; i < buf_len(&b) && n < sizeof(name) - 1; i += 2)
		name[n++] = (char)buf_view(&b).p[i];
	name[n] = '\0';
	if (!strncmp(name, "systemd-boot", strlen("systemd-boot")))
		return "SYSTEMD-BOOT";
	return strncmp(name, "GRUB", 4) ? "" : "GRUB";
}

/* EFI/centos/grub.cfg and the like. */
static bool grub_on_esp(const struct chk_root *root)
{
	struct strlist l = { 0 };
	char path[512];
	bool found = false;

	if (chk_list(root, "boot/efi/EFI", &l) == 0) {
		for (size_t i = 0; i < l.n && !found; i++) {
			snprintf(path, sizeof(path), "boot/efi/EFI/%s/grub.cfg", l.v[i]);
			found = chk_exists(root, path);
		}
	}
	strlist_fini(&l);
	return found;
}

void chk_gather_boot_loader(const struct chk_gather *g)
{
	const char *name = running_loader(g->root);

	for (size_t i = 0; i < ARRAY_SIZE(loaders) && !*name; i++) {
		if (i && strcmp(loaders[i].name, "GRUB") && !strcmp(loaders[i - 1].name, "GRUB") &&
		    grub_on_esp(g->root))
			name = "GRUB";
		else if (chk_exists(g->root, loaders[i].path))
			name = loaders[i].name;
	}
	g->f->boot_loader = name;
}

int chk_boot_loader(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	const char *name = env->facts->boot_loader;

	(void)e;
	chk_value(ret, "%s", name);
	chk_limit(ret, "GRUB");
	if (!*name)
		return chk_say(ret, CHK_ERROR, "no boot loader's configuration was found below /boot");
	if (strcmp(name, "GRUB") != 0)
		return chk_say(ret, CHK_ERROR, "the boot loader is %s", name);
	return chk_say(ret, CHK_OK, "GRUB");
}

int chk_grub_modules(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	static const char *const dirs[] = {
		"boot/grub2/i386-pc", "boot/grub/i386-pc", "usr/lib/grub/i386-pc",
		"usr/share/grub2/i386-pc",
	};
	const struct chk_root *root = env->root;

	if (!chk_told(env->facts, CHK_SUBJECT_FIRMWARE))
		return chk_untold(env, CHK_SUBJECT_FIRMWARE, e);
	if (env->facts->firmware != CHK_FIRMWARE_BIOS)
		return chk_say(ret, CHK_OK, "not needed: the system boots with UEFI");
	if (!chk_exists(root, "boot/grub2/grub.cfg") && !chk_exists(root, "boot/grub/grub.cfg"))
		return chk_say(ret, CHK_OK, "not needed: the boot loader is not GRUB 2");
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		if (chk_is_dir(root, dirs[i])) {
			chk_value(ret, "/%s", dirs[i]);
			return chk_say(ret, CHK_OK, "GRUB's modules for BIOS are in /%s", dirs[i]);
		}
	}
	return chk_say(ret, CHK_ERROR, "GRUB's modules for BIOS (i386-pc) are neither below /boot nor below /usr");
}
