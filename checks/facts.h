/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * checks/facts.h - what there is to know about a host: the matter that the checks judge, and
 * that a source is registered with.
 *
 * Collecting never fails because of the host: a subject that could not be read leaves its
 * fields empty and says why in why[].  Everything hangs on the facts' own memory, so that
 * all pointers live until chk_facts_free(); strings are never NULL unless said so.
 * Sizes are bytes.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "checks/mem.h"
#include "common/error.h"

struct chk_root;
struct chk_sys;

enum chk_firmware {
	CHK_FIRMWARE_UNKNOWN,
	CHK_FIRMWARE_BIOS,
	CHK_FIRMWARE_UEFI,
};

struct chk_os {
	const char *id;      /* "centos", in lower case; "" when no release file is known */
	const char *version; /* "7.9", point release and service pack included; "" as above */
	const char *edition; /* VERSION of os-release: "V10 (Sword)" */
	const char *pretty;  /* "CentOS Linux release 7.9.2009 (Core)" */
	const char *source;  /* the file that told it, relative to the root */
};

/* What a device carries; device_use in the SMS record. */
struct chk_part {
	const char *name;        /* "/dev/vda1" */
	const char *device_use;  /* OS, BOOT, NORMAL, VOLUME_GROUP, BTRFS */
	const char *file_system; /* "ext4", "swap", "LVM2_member", "crypto_LUKS"; "" unknown */
	const char *mount_point; /* "" when it is not mounted */
	const char *uuid;
	unsigned index;          /* the partition's number; 0: the whole disk */
	uint64_t size, used_size;
	uint64_t inode_nums;
	uint32_t inode_size, block_size;
};

enum chk_disk_style {
	CHK_STYLE_UNKNOWN, /* the disk could not be read */
	CHK_STYLE_MBR,
	CHK_STYLE_GPT,
	CHK_STYLE_NONE,  /* no partition table: empty, or used as a whole */
	CHK_STYLE_OTHER, /* another table: style_name says which */
};

struct chk_disk {
	const char *name; /* "/dev/vda", "/dev/nvme0n1", "/dev/mapper/mpatha" */
	enum chk_disk_style style;
	int code; /* -errno: why it could not be read */
	const char *style_name; /* "MBR", "GPT", "", "sun" */
	const char *device_use; /* OS when it holds / or /boot, VOLUME_GROUP, BTRFS, NORMAL */
	bool os_disk;
	uint64_t size, used_size;
	/* Partitions, or one of index 0 when the disk is used as a whole. */
	struct chk_part *parts;
	size_t n_parts;
};

struct chk_lv {
	const char *name; /* "/dev/vg/root" */
	const char *file_system, *mount_point, *device_use;
	uint64_t size, used_size, free_size;
	uint64_t block_count, inode_nums;
	uint32_t block_size, inode_size;
	bool thin; /* thin volume or pool, or of another kind SMS does not take */
};

struct chk_vg {
	const char *name, *uuid;
	const char *components; /* "/dev/vdb1;/dev/vdc" */
	uint64_t size, free_size;
	bool partial;   /* a physical volume is missing */
	bool size_told; /* false: the metadata could not be read, only what is active counts */
	struct chk_lv *lvs;
	size_t n_lvs;
};

struct chk_subvolume {
	const char *uuid, *name, *mount_point;
	uint64_t id, parent_id;
	bool is_snapshot;
};

struct chk_btrfs {
	const char *uuid, *label, *device; /* the device of the mount; "" when not mounted */
	const char *mount_point;
	uint64_t size, used_size;
	uint32_t node_size, sector_size;
	const char *data_profile, *system_profile, *metadata_profile; /* "single", "dup" */
	uint64_t global_reserve;
	/* Those that are mounted; others cannot be listed without mounting the top level. */
	struct chk_subvolume *subvolumes;
	size_t n_subvolumes;
};

enum chk_nic_kind {
	CHK_NIC_PHYSICAL, /* a device of its own: hardware, virtio, Xen, VF */
	CHK_NIC_SHADOW,   /* lower half of another one with the same address: netvsc, failover */
	CHK_NIC_VIRTUAL,  /* bond, bridge, VLAN, veth, macvlan, tunnel... */
};

struct chk_nic {
	const char *name;
	enum chk_nic_kind kind;
	const char *mac; /* "52:54:00:12:34:56": the permanent one where it can be told */
	const char *ip, *netmask, *gateway, *ipv6; /* "" when there is none */
	unsigned mtu;
};

/* A mounted file system that is on a block device or comes over the network. */
struct chk_mount {
	const char *point;  /* absolute, below the root */
	const char *source; /* "/dev/vda1", "server:/export" */
	const char *type;
	const char *options; /* of the mount and of the file system */
	const char *fs_root; /* what part of the file system; "/" all of it, "/@" a sub-volume */
	uint32_t major, minor;
	bool block;    /* on a block device: data of this host */
	bool network;  /* nfs, cifs, ceph... */
	bool repeated; /* the same data is mounted elsewhere, too: a bind mount */
	bool space_told;
	uint64_t size, free_size, used_size; /* free: what an ordinary user may still write */
	uint64_t inodes, free_inodes;        /* 0 and 0: the file system has no such limit */
	uint32_t block_size;
};

/* Subjects that can fail on their own. */
enum chk_subject {
	CHK_SUBJECT_OS,
	CHK_SUBJECT_ARCH,
	CHK_SUBJECT_KERNEL,
	CHK_SUBJECT_FIRMWARE,
	CHK_SUBJECT_CPU,
	CHK_SUBJECT_MEMORY,
	CHK_SUBJECT_VIRT,
	CHK_SUBJECT_MOUNTS,
	CHK_SUBJECT_DISKS,
	CHK_SUBJECT_LVM,
	CHK_SUBJECT_NICS,
	CHK_SUBJECTS,
};

struct chk_facts {
	struct chk_mem mem;
	struct err why[CHK_SUBJECTS]; /* code 0: told */

	const char *hostname;
	struct chk_os os;
	const char *arch;   /* "x86_64", "i386", "aarch64": of the programs, not the kernel */
	const char *kernel; /* release of the running kernel; else of the one in the root */
	enum chk_firmware firmware;
	const char *boot_loader; /* GRUB, LILO, SYSTEMD-BOOT, EXTLINUX...; "" unknown */
	bool paravirtualization; /* a Xen PV guest */
	const char *platform; /* hw ali aws azure gcp tencent vmware hyperv other default */
	const char *virt;     /* "kvm", "xen", "vmware", "hyperv"; "" hardware or unknown */

	unsigned cpu_quantity;
	uint64_t memory_bytes;           /* what the kernel has, or less in a limited container */
	uint64_t memory_available_bytes; /* without swapping, limits of cgroups included */

	const char *rsync, *tc, *ssh; /* paths, "" when there is none */

	struct chk_mount *mounts; /* in mounting order; the root's is first when it is known */
	size_t n_mounts;
	struct chk_disk *disks; /* by name */
	size_t n_disks;
	struct chk_vg *vgs;
	size_t n_vgs;
	struct chk_btrfs *btrfs;
	size_t n_btrfs;
	struct chk_nic *nics; /* without lo; that of the default route first */
	size_t n_nics;

	const char *raw_devices; /* "/dev/raw/raw1;/dev/raw/raw2", "" none */
	const char *encrypted;   /* open dm-crypt devices and closed LUKS ones, as above */
	const char *soft_raid;   /* md arrays, as above */
	const char *multipath;
};

/*
 * Collect all there is to know below root; sys is how the live system is asked (checks/sys.h;
 * NULL: the ordinary way).  *ret is the caller's to free.  Fails when out of memory only.
 */
int chk_facts_collect(const struct chk_root *root, const struct chk_sys *sys,
		      struct chk_facts **ret, struct err *e) _must_check_;
void chk_facts_free(struct chk_facts *f); /* NULL is fine */

static inline bool chk_told(const struct chk_facts *f, enum chk_subject s)
{
	return f->why[s].code == 0;
}
