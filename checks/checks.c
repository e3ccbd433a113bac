/* SPDX-License-Identifier: Apache-2.0 */
#include "checks/checks.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checks/rows.h"
#include "common/nearest.h"

static bool has_time(const struct chk_opts *o)
{
	return o->server_time_s || o->server_time_why;
}

static bool has_target(const struct chk_opts *o)
{
	return o->target_host != NULL;
}

static bool has_target_size(const struct chk_opts *o)
{
	return o->target_bytes || o->target_space_why;
}

static bool is_running(const struct chk_opts *o)
{
	return !o->root || !strcmp(o->root, "/");
}

#define STAGED "Use the staged sync."

const struct chk chk_table[] = {
	{ .name = "OS_VERSION", .sms_code = "SMS.6504", .unknown = CHK_ERROR,
	  .remedy = "Use the staged sync, or upgrade to a version on the list.",
	  .run = chk_os_version },
	{ .name = "ARCHITECTURE", .sms_code = "SMS.0206", .unknown = CHK_WARN,
	  .remedy = "Use the staged sync to a target of the same architecture.",
	  .run = chk_architecture },
	{ .name = "KERNEL_VERSION", .sms_code = "SMS.6618", .unknown = CHK_WARN,
	  .remedy = "Let SMS migrate file by file (MIGRATE_FILE).", .run = chk_kernel_version },
	{ .name = "CPU", .sms_code = "SMS.6506", .unknown = CHK_ERROR,
	  .remedy = "Make /proc readable for the agent.", .run = chk_cpu },
	{ .name = "MEMORY", .sms_code = "SMS.6514", .unknown = CHK_ERROR,
	  .remedy = "Make /proc readable for the agent.", .run = chk_memory },
	{ .name = "PARAVIRTUALIZATION", .sms_code = "SMS.6515", .unknown = CHK_WARN,
	  .remedy = STAGED, .run = chk_paravirtualization },
	{ .name = "FIRMWARE", .sms_code = "SMS.6504", .unknown = CHK_WARN, .remedy = STAGED,
	  .run = chk_firmware },
	{ .name = "BOOT_LOADER", .sms_code = "SMS.6516", .unknown = CHK_WARN,
	  .remedy = "SMS needs GRUB; the staged sync does not.", .run = chk_boot_loader },
	{ .name = "GRUB_MODULES", .sms_code = "SMS.6564", .unknown = CHK_WARN,
	  .remedy = "Install GRUB's modules for BIOS (grub-pc-bin, grub2-pc-modules).",
	  .run = chk_grub_modules },
	{ .name = "VIRTIO", .sms_code = "SMS.0207", .unknown = CHK_WARN,
	  .remedy = "Install a kernel with the virtio drivers.", .run = chk_virtio },
	{ .name = "INITRAMFS", .sms_code = "SMS.6563", .unknown = CHK_WARN,
	  .remedy = "Build it anew with virtio_pci, virtio_blk and virtio_scsi (dracut --add-drivers, update-initramfs).",
	  .run = chk_initramfs },
	{ .name = "RSYNC", .sms_code = "SMS.6517", .unknown = CHK_WARN,
	  .remedy = "Install rsync (stager-agent check --install-rsync).", .run = chk_rsync },
	{ .name = "SSH_CLIENT", .sms_code = "SMS.1402", .unknown = CHK_WARN,
	  .remedy = "Install the OpenSSH client.", .run = chk_ssh_client },
	{ .name = "TC", .sms_code = "SMS.9007", .unknown = CHK_WARN,
	  .remedy = "Install iproute2 if SMS is to limit its rate.", .run = chk_tc },
	{ .name = "RAW_DEVICES", .sms_code = "SMS.6518", .unknown = CHK_WARN,
	  .remedy = "Carry what is on it over by hand, and leave the device out.",
	  .run = chk_raw_devices },
	{ .name = "DISK_INFO", .sms_code = "SMS.6519", .unknown = CHK_ERROR, .remedy = STAGED,
	  .run = chk_disk_info },
	{ .name = "PARTITION_STYLE", .sms_code = "SMS.6508", .unknown = CHK_WARN,
	  .remedy = STAGED, .run = chk_partition_style },
	{ .name = "FILE_SYSTEM", .sms_code = "SMS.6509", .unknown = CHK_WARN,
	  .remedy = "Use the staged sync, or move the data to ext4 or xfs.",
	  .run = chk_file_system },
	{ .name = "VOLUME_GROUPS", .sms_code = "SMS.1352", .unknown = CHK_WARN,
	  .remedy = "Attach the missing disk again, or take it out with vgreduce.",
	  .run = chk_volume_groups },
	{ .name = "ENCRYPTION", .sms_code = "", .unknown = CHK_WARN, .remedy = STAGED,
	  .run = chk_encryption },
	{ .name = "SOFTWARE_RAID", .sms_code = "", .unknown = CHK_WARN, .remedy = STAGED,
	  .run = chk_software_raid },
	{ .name = "MOUNT_POINTS", .sms_code = "SMS.1353", .unknown = CHK_WARN,
	  .remedy = "Exclude the second path from the migration.", .run = chk_mount_points },
	{ .name = "FREE_SPACE", .sms_code = "SMS.1351", .unknown = CHK_WARN,
	  .remedy = "Make room on that file system.", .run = chk_free_space },
	{ .name = "FREE_INODES", .sms_code = "SMS.1351", .unknown = CHK_WARN,
	  .remedy = "Remove files that are not needed from that file system.",
	  .run = chk_free_inodes },
	{ .name = "TEMP_DIR", .sms_code = "SMS.5102", .unknown = CHK_WARN,
	  .remedy = "Mount /tmp writable and with exec for the migration.",
	  .run = chk_temp_dir },
	{ .name = "MAC", .sms_code = "", .unknown = CHK_WARN,
	  .remedy = "Give each source a MAC of its own; clones keep that of their model.",
	  .run = chk_mac },
	{ .name = "MIGRATION_PORT", .sms_code = "", .unknown = CHK_WARN, .both = true,
	  .remedy = "Choose 22 or a free port from 10000 on.", .run = chk_migration_port },
	{ .name = "SELINUX", .sms_code = "", .unknown = CHK_WARN,
	  .remedy = "Set it to permissive for the migration (setenforce 0).",
	  .run = chk_selinux },
	{ .name = "SECURITY_SOFTWARE", .sms_code = "", .unknown = CHK_WARN,
	  .remedy = "Allow the migration's programs in it, or pause it.",
	  .run = chk_security_software },
	{ .name = "PRIVILEGES", .sms_code = "SMS.6513", .unknown = CHK_WARN, .both = true,
	  .remedy = "Run this as root.", .wanted = is_running, .run = chk_privileges },
	{ .name = "CLOCK", .sms_code = "SMS.0205", .unknown = CHK_WARN,
	  .remedy = "Set the clock by NTP (chronyd, systemd-timesyncd).", .wanted = has_time,
	  .run = chk_clock },
	{ .name = "TARGET_REACHABLE", .sms_code = "SMS.3802", .unknown = CHK_WARN, .both = true,
	  .remedy = "Let the port through the target's security group and firewalls.",
	  .wanted = has_target, .run = chk_target_reachable },
	{ .name = "TARGET_SPACE", .sms_code = "SMS.0519", .unknown = CHK_WARN, .both = true,
	  .remedy = "Give the target larger disks, or exclude data.", .wanted = has_target_size,
	  .run = chk_target_space },
	{ .name = NULL },
};

int chk_say(struct chk_answer *a, enum chk_result result, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(a->message, sizeof(a->message), fmt, ap);
	va_end(ap);
	a->result = result;
	return 0;
}

void chk_value(struct chk_answer *a, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(a->value, sizeof(a->value), fmt, ap);
	va_end(ap);
}

void chk_limit(struct chk_answer *a, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(a->limit, sizeof(a->limit), fmt, ap);
	va_end(ap);
}

void chk_code(struct chk_answer *a, const char *sms_code, const char *remedy)
{
	a->sms_code = sms_code;
	a->remedy = remedy;
}

int chk_untold(const struct chk_env *env, enum chk_subject s, struct err *e)
{
	*e = env->facts->why[s];
	return e->code;
}

const struct chk *chk_find(const char *name)
{
	for (const struct chk *c = chk_table; c->name; c++)
		if (!strcmp(c->name, name))
			return c;
	return NULL;
}

const char *chk_nearest(const char *name)
{
	struct nearest n = { 0 };
	char upper[64];
	size_t i;

	for (i = 0; name[i] && i < sizeof(upper) - 1; i++)
		upper[i] = (char)toupper((unsigned char)name[i]);
	upper[i] = '\0';
	n.word = upper;
	for (const struct chk *c = chk_table; c->name; c++)
		nearest_try(&n, c->name);
	return nearest_get(&n);
}

const char *chk_result_name(enum chk_result r)
{
	return r == CHK_OK ? "OK" : r == CHK_WARN ? "WARN" : "ERROR";
}

void chk_run_row(const struct chk *c, const struct chk_env *env, struct chk_answer *ret)
{
	struct err e = { 0 };

	*ret = (struct chk_answer){ .name = c->name, .sms_code = c->sms_code,
				    .remedy = c->remedy, .unit = "", .told = true };
	if (c->run(env, ret, &e) < 0) {
		/* What only a running system can tell does not count against another root. */
		ret->result = env->root->live ? c->unknown : CHK_WARN;
		ret->told = false;
		ret->remedy = env->root->live ? "Mend what the message names, and check again." :
						"Check again on the running host.";
		snprintf(ret->message, sizeof(ret->message), "could not tell: %.700s", e.text);
	}
	if (!*ret->value || !ret->told)
		ret->number = false;
	if (ret->result == CHK_OK || (!ret->told && ret->result == CHK_WARN))
		ret->sms_code = "";
	if (ret->result == CHK_OK)
		ret->remedy = "";
}

static bool is_chosen(const struct chk *c, const struct chk_opts *o)
{
	if (!o->only)
		return !c->wanted || c->wanted(o);
	for (const char *const *name = o->only; *name; name++)
		if (!strcmp(*name, c->name))
			return true;
	return false;
}

static int no_such_check(const char *name, struct err *e)
{
	const char *nearest = chk_nearest(name);

	if (nearest)
		return err_set(e, -ERR_USAGE, "there is no check '%s'; did you mean %s?", name,
			       nearest);
	return err_set(e, -ERR_USAGE, "there is no check '%s'", name);
}

static int check_only(const struct chk_opts *o, struct err *e)
{
	for (const char *const *name = o->only; name && *name; name++) {
		const struct chk *c = chk_find(*name);

		if (!c)
			return no_such_check(*name, e);
		if (c->wanted && !c->wanted(o))
			return err_set(e, -ERR_USAGE, "the check %s needs what was not given: the endpoint's date, a target, or a running system",
				       *name);
	}
	return 0;
}

/* "(OS_VERSION: SMS.6504, ENCRYPTION)" and where it leads. */
static void come_to_verdict(struct chk_report *r)
{
	unsigned errors = 0, warnings = 0;
	bool staged = true;
	size_t n;

	n = (size_t)snprintf(r->verdict, sizeof(r->verdict), "SMS: unusable (");
	for (size_t i = 0; i < r->n; i++) {
		const struct chk_answer *a = &r->v[i];

		warnings += a->result == CHK_WARN;
		if (a->result != CHK_ERROR)
			continue;
		staged &= !chk_find(a->name)->both;
		if (n < sizeof(r->verdict) - 100)
			n += (size_t)snprintf(r->verdict + n, sizeof(r->verdict) - n, "%s%s%s%s",
					      errors ? ", " : "", a->name,
					      *a->sms_code ? ": " : "", a->sms_code);
		errors++;
	}
	r->sms_usable = !errors;
	if (!errors && !warnings)
		snprintf(r->verdict, sizeof(r->verdict), "SMS: usable");
	else if (!errors)
		snprintf(r->verdict, sizeof(r->verdict), "SMS: usable (%u warning%s)", warnings,
			 warnings > 1 ? "s" : "");
	else
		snprintf(r->verdict + n, sizeof(r->verdict) - n, ") -> %s",
			 staged ? "staged sync" : "neither way works until this is mended");
}

static int run_rows(const struct chk_env *env, struct chk_report *r, struct err *e)
{
	r->v = calloc(ARRAY_SIZE(chk_table), sizeof(*r->v));
	if (!r->v)
		return err_set(e, -ENOMEM, "run the checks: out of memory");
	for (const struct chk *c = chk_table; c->name; c++)
		if (is_chosen(c, env->opts))
			chk_run_row(c, env, &r->v[r->n++]);
	come_to_verdict(r);
	return 0;
}

int chk_run(const struct chk_opts *o, struct chk_report **ret, struct chk_facts **ret_facts,
	    struct err *e)
{
	struct chk_root root = { .fd = -1 };
	struct chk_report *report = NULL;
	struct chk_facts *facts = NULL;
	int r = check_only(o, e);

	if (r == 0)
		r = chk_root_open(o->root, &root, e);
	if (r < 0)
		return r;
	report = calloc(1, sizeof(*report));
	r = report ? chk_facts_collect(&root, o->sys, &facts, e) :
		     err_set(e, -ENOMEM, "run the checks: out of memory");
	if (r == 0) {
		const struct chk_env env = {
			.root = &root, .facts = facts, .opts = o,
			.sys = o->sys ? o->sys : root.live ? &chk_sys_live : &chk_sys_root,
		};

		r = run_rows(&env, report, e);
	}
	chk_root_close(&root);
	if (r < 0 || !ret_facts)
		chk_facts_free(facts);
	else
		*ret_facts = facts;
	if (r < 0)
		chk_report_free(report);
	else
		*ret = report;
	return r;
}

void chk_report_free(struct chk_report *r)
{
	if (!r)
		return;
	free(r->v);
	free(r);
}
