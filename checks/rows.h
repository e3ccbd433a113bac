/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * checks/rows.h - what the rows of chk_table run, and what the facts are gathered by.
 */
#include "checks/checks.h"
#include "checks/sys.h"

/* Fill result and message of an answer; returns 0. */
int chk_say(struct chk_answer *a, enum chk_result result, const char *fmt, ...) _printf_(3, 4);
void chk_value(struct chk_answer *a, const char *fmt, ...) _printf_(2, 3);
void chk_limit(struct chk_answer *a, const char *fmt, ...) _printf_(2, 3);
/* Another code and remedy than the row's. */
void chk_code(struct chk_answer *a, const char *sms_code, const char *remedy);

/* The subject was not told: *e says why.  To be returned. */
int chk_untold(const struct chk_env *env, enum chk_subject s, struct err *e);

/* Gathering.  Negative and *e filled: the subject cannot be told. */
struct chk_gather {
	const struct chk_root *root;
	const struct chk_sys *sys;
	struct chk_facts *f;
};

int chk_gather_os(const struct chk_gather *g, struct err *e);
int chk_gather_arch(const struct chk_gather *g, struct err *e);
int chk_gather_kernel(const struct chk_gather *g, struct err *e);
int chk_gather_firmware(const struct chk_gather *g, struct err *e);
int chk_gather_virt(const struct chk_gather *g, struct err *e);
int chk_gather_cpu(const struct chk_gather *g, struct err *e);
int chk_gather_memory(const struct chk_gather *g, struct err *e);
int chk_gather_mounts(const struct chk_gather *g, struct err *e);
int chk_gather_disks(const struct chk_gather *g, struct err *e); /* and LVM, Btrfs */
int chk_gather_nics(const struct chk_gather *g, struct err *e);
void chk_gather_boot_loader(const struct chk_gather *g);
void chk_gather_programs(const struct chk_gather *g);

#define CHK_ROW(name) \
	int name(const struct chk_env *env, struct chk_answer *ret, struct err *e)
CHK_ROW(chk_os_version);
CHK_ROW(chk_architecture);
CHK_ROW(chk_kernel_version);
CHK_ROW(chk_firmware);
CHK_ROW(chk_paravirtualization);
CHK_ROW(chk_boot_loader);
CHK_ROW(chk_grub_modules);
CHK_ROW(chk_virtio);
CHK_ROW(chk_initramfs);
CHK_ROW(chk_cpu);
CHK_ROW(chk_memory);
CHK_ROW(chk_disk_info);
CHK_ROW(chk_partition_style);
CHK_ROW(chk_file_system);
CHK_ROW(chk_volume_groups);
CHK_ROW(chk_raw_devices);
CHK_ROW(chk_encryption);
CHK_ROW(chk_software_raid);
CHK_ROW(chk_mount_points);
CHK_ROW(chk_free_space);
CHK_ROW(chk_free_inodes);
CHK_ROW(chk_temp_dir);
CHK_ROW(chk_mac);
CHK_ROW(chk_migration_port);
CHK_ROW(chk_rsync);
CHK_ROW(chk_ssh_client);
CHK_ROW(chk_tc);
CHK_ROW(chk_selinux);
CHK_ROW(chk_security_software);
CHK_ROW(chk_privileges);
CHK_ROW(chk_clock);
CHK_ROW(chk_target_reachable);
CHK_ROW(chk_target_space);
#undef CHK_ROW
