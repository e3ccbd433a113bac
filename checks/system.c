/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What system this is: distribution, architecture, kernel, firmware, and the machine that it
 * runs on.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "checks/os.h"
#include "checks/rows.h"
#include "checks/supported.h"
#include "common/io.h"

/* --- distribution --- */

int chk_gather_os(const struct chk_gather *g, struct err *e)
{
	return chk_os_read(g->root, &g->f->mem, &g->f->os, e);
}

static int judge_os(const struct chk_supported *s, const struct chk_env *env,
		    struct chk_answer *ret)
{
	const struct chk_os *os = &env->facts->os;
	const struct chk_supported_row *row = chk_supported_find(s, os);

	chk_supported_versions(s, os->id, ret->limit, sizeof(ret->limit));
	if (!row && *ret->limit)
		return chk_say(ret, CHK_ERROR, "%s %s is not among the versions of %s that SMS takes",
			       os->id, os->version, os->id);
	if (!row)
		return chk_say(ret, CHK_ERROR, "SMS does not take %s, in no version", os->id);
	if (*row->note) {
		chk_code(ret, "SMS.6504", "Make sure of the condition, or use the staged sync.");
		return chk_say(ret, CHK_WARN, "%s %s is taken on a condition: %s", os->id,
			       os->version, row->note);
	}
	return chk_say(ret, CHK_OK, "%s %s is on the list of SMS", os->id, os->version);
}

int chk_os_version(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	const struct chk_os *os = &env->facts->os;
	const struct err *why = &env->facts->why[CHK_SUBJECT_OS];
	struct chk_supported s;
	int r;

	if (why->code == -ENOENT) {
		chk_code(ret, "SMS.6503", "Use the staged sync, which does not ask for a distribution.");
		return chk_say(ret, CHK_ERROR, "%s", why->text);
	}
	if (why->code)
		return chk_untold(env, CHK_SUBJECT_OS, e);
	chk_value(ret, "%s %s", os->id, os->version);
	r = chk_supported_load(env->opts->supported, &s, e);
	if (r < 0)
		return r;
	r = judge_os(&s, env, ret);
	chk_supported_fini(&s);
	return r;
}

/* --- architecture --- */

static const struct {
	unsigned machine; /* e_machine of elf(5) */
	unsigned bits;
	const char *name;
} machines[] = {
	{ 3, 32, "i386" },     { 62, 64, "x86_64" }, { 62, 32, "x32" },   { 40, 32, "arm" },
	{ 183, 64, "aarch64" }, { 21, 64, "ppc64" },  { 22, 64, "s390x" }, { 243, 64, "riscv64" },
	{ 258, 64, "loongarch64" }, { 8, 32, "mips" }, { 8, 64, "mips64" },
};

/* What a program was made for, by its ELF header; NULL when it is no such program. */
static const char *elf_machine(const struct chk_root *root, const char *path)
{
	_cleanup_close_ int fd = chk_open(root, path, O_RDONLY | O_NONBLOCK);
	unsigned machine, bits;
	uint8_t head[20];

	if (fd < 0 || io_read_full(fd, head, sizeof(head)) != sizeof(head) ||
	    memcmp(head, "\177ELF", 4) != 0)
		return NULL;
	bits = head[4] == 1 ? 32 : 64;
	machine = head[5] == 2 ? (unsigned)(head[18] << 8 | head[19]) : le16_get(head + 18);
	for (size_t i = 0; i < ARRAY_SIZE(machines); i++)
		if (machines[i].machine == machine && machines[i].bits == bits)
			return machines[i].name;
	return "other";
}

int chk_gather_arch(const struct chk_gather *g, struct err *e)
{
	static const char *const programs[] = {
		"bin/sh", "usr/bin/env", "bin/ls", "sbin/init", "usr/bin/bash",
	};

	for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
		const char *arch = elf_machine(g->root, programs[i]);

		if (arch) {
			g->f->arch = arch;
			return 0;
		}
	}
	return err_set(e, -ENOENT, "no program below %s tells the architecture (looked at /%s and others)",
		       g->root->path, programs[0]);
}

int chk_architecture(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	const char *arch = env->facts->arch;

	chk_limit(ret, "x86_64");
	if (!chk_told(env->facts, CHK_SUBJECT_ARCH))
		return chk_untold(env, CHK_SUBJECT_ARCH, e);
	chk_value(ret, "%s", arch);
	if (strcmp(arch, "x86_64") != 0)
		return chk_say(ret, CHK_ERROR, "the system's programs are for %s", arch);
	return chk_say(ret, CHK_OK, "x86_64, 64 bit");
}

/* --- kernel --- */

/* The newest kernel that is installed: of a root that does not run. */
static bool installed_kernel(const struct chk_gather *g)
{
	struct strlist l = { 0 };
	char path[512];
	bool told = false;

	if (chk_list(g->root, "lib/modules", &l) == 0) {
		for (size_t i = l.n; i > 0 && !told; i--) {
			snprintf(path, sizeof(path), "lib/modules/%s/modules.dep", l.v[i - 1]);
			told = chk_exists(g->root, path);
			if (told)
				g->f->kernel = chk_mem_str(&g->f->mem, l.v[i - 1]);
		}
	}
	strlist_fini(&l);
	return told;
}

int chk_gather_kernel(const struct chk_gather *g, struct err *e)
{
	char line[256];
	int r = chk_read_line(g->root, "proc/sys/kernel/osrelease", line, sizeof(line));

	if (r == 0 && *line) {
		g->f->kernel = chk_mem_str(&g->f->mem, line);
		return 0;
	}
	if (!g->root->live && installed_kernel(g))
		return 0;
	if (g->root->live)
		return chk_sys_error(g->root, "proc/sys/kernel/osrelease", r, e);
	return err_set(e, -ENOENT, "no kernel is installed below %s (/lib/modules)", g->root->path);
}

int chk_kernel_version(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	const char *kernel = env->facts->kernel;
	struct chk_supported s;
	bool block;
	int r;

	if (!chk_told(env->facts, CHK_SUBJECT_KERNEL))
		return chk_untold(env, CHK_SUBJECT_KERNEL, e);
	chk_value(ret, "%s", kernel);
	r = chk_supported_load(env->opts->supported, &s, e);
	if (r < 0)
		return r;
	block = chk_supported_has_kernel(&s, kernel);
	chk_supported_fini(&s);
	return chk_say(ret, CHK_OK, block ?
			"SMS can migrate it block by block (MIGRATE_BLOCK) and file by file" :
			"SMS can migrate it file by file only (MIGRATE_FILE); block by block it answers SMS.6617");
}

/* --- firmware --- */

int chk_gather_firmware(const struct chk_gather *g, struct err *e)
{
	if (chk_is_dir(g->root, "sys/firmware/efi"))
		g->f->firmware = CHK_FIRMWARE_UEFI;
	else if (chk_is_dir(g->root, "sys/firmware"))
		g->f->firmware = CHK_FIRMWARE_BIOS;
	else
		return chk_sys_error(g->root, "sys/firmware", -ENOENT, e);
	return 0;
}

int chk_firmware(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	const struct chk_supported_row *row;
	bool uefi, listed, taken;
	struct chk_supported s;
	int r;

	if (!chk_told(env->facts, CHK_SUBJECT_FIRMWARE))
		return chk_untold(env, CHK_SUBJECT_FIRMWARE, e);
	r = chk_supported_load(env->opts->supported, &s, e);
	if (r < 0)
		return r;
	row = chk_supported_find(&s, &env->facts->os);
	uefi = env->facts->firmware == CHK_FIRMWARE_UEFI;
	listed = row != NULL;
	taken = !row || (uefi ? row->uefi : row->bios);
	chk_limit(ret, "%s", !row ? "" : row->bios && row->uefi ? "BIOS or UEFI" :
					 row->bios ? "BIOS" : "UEFI");
	chk_supported_fini(&s);

	chk_value(ret, "%s", uefi ? "UEFI" : "BIOS");
	if (!taken)
		return chk_say(ret, CHK_ERROR, "SMS takes %s %s only when it boots with %s",
			       env->facts->os.id, env->facts->os.version, ret->limit);
	if (uefi && listed) {
		chk_code(ret, "SMS.6535", "Make the target server from a UEFI image before the migration.");
		return chk_say(ret, CHK_WARN, "SMS cannot make the target of a UEFI source by itself");
	}
	return chk_say(ret, CHK_OK, "boots with %s", ret->value);
}

/* --- the machine --- */

/* A text of the firmware, and what it means; the first row that fits counts. */
static const struct {
	const char *file, *part, *platform, *virt;
} vendors[] = {
	{ "chassis_asset_tag", "HUAWEICLOUD", "hw", "kvm" },
	{ "sys_vendor", "Huawei Cloud", "hw", "kvm" },
	{ "sys_vendor", "Alibaba Cloud", "ali", "kvm" },
	{ "sys_vendor", "Amazon EC2", "aws", "kvm" },
	{ "bios_version", "amazon", "aws", "xen" },
	{ "chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77", "azure", "hyperv" },
	{ "sys_vendor", "Google", "gcp", "kvm" },
	{ "sys_vendor", "Tencent Cloud", "tencent", "kvm" },
	{ "sys_vendor", "VMware", "vmware", "vmware" },
	{ "product_name", "Virtual Machine", "hyperv", "hyperv" },
	{ "sys_vendor", "Xen", "other", "xen" },
	{ "product_name", "HVM domU", "other", "xen" },
	{ "sys_vendor", "QEMU", "other", "kvm" },
	{ "sys_vendor", "OpenStack", "other", "kvm" },
	{ "product_name", "KVM", "other", "kvm" },
	{ "product_name", "OpenStack", "other", "kvm" },
	{ "product_name", "VirtualBox", "other", "virtualbox" },
};

/*
 * A paravirtualised Xen guest: newer kernels say so; older ones are known by having no
 * firmware tables, which fully virtual guests get from Xen.
 */
static bool is_xen_pv(const struct chk_root *root)
{
	char type[64];

	if (chk_read_line(root, "sys/hypervisor/type", type, sizeof(type)) < 0 ||
	    strcmp(type, "xen") != 0)
		return false;
	if (chk_read_line(root, "sys/hypervisor/guest_type", type, sizeof(type)) == 0)
		return !strcmp(type, "PV");
	return !chk_is_dir(root, "sys/class/dmi/id");
}

int chk_gather_virt(const struct chk_gather *g, struct err *e)
{
	char path[128], line[256];
	struct chk_facts *f = g->f;

	f->platform = "default";
	if (!chk_is_dir(g->root, "sys/devices") && !chk_is_dir(g->root, "sys/class") &&
	    !chk_is_dir(g->root, "sys/hypervisor"))
		return chk_sys_error(g->root, "sys/devices", -ENOENT, e);
	for (size_t i = 0; i < ARRAY_SIZE(vendors); i++) {
		snprintf(path, sizeof(path), "sys/class/dmi/id/%s", vendors[i].file);
		if (chk_read_line(g->root, path, line, sizeof(line)) < 0 || !*line)
			continue;
		f->platform = "other";
		if (strstr(line, vendors[i].part)) {
			f->platform = vendors[i].platform;
			f->virt = vendors[i].virt;
			break;
		}
	}
	f->paravirtualization = is_xen_pv(g->root);
	if (f->paravirtualization)
		f->virt = "xen";
	return 0;
}

int chk_paravirtualization(const struct chk_env *env, struct chk_answer *ret, struct err *e)
{
	if (!chk_told(env->facts, CHK_SUBJECT_VIRT))
		return chk_untold(env, CHK_SUBJECT_VIRT, e);
	chk_value(ret, "%s", env->facts->paravirtualization ? "PV" :
			     *env->facts->virt ? env->facts->virt : "none");
	if (env->facts->paravirtualization)
		return chk_say(ret, CHK_ERROR, "this is a paravirtualised Xen guest");
	return chk_say(ret, CHK_OK, "no paravirtualised Xen guest");
}
