/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/console.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "common/macro.h"

#define LINE_MAX_BYTES 1024 /* a longer one is looked at in pieces */

/*
 * The texts are those of the kernel, systemd, dracut, initramfs-tools, GRUB, sshd and
 * cloud-init.  A cause that leads to another one stands before it: a missing UUID ends in
 * emergency mode.
 */
static const struct agt_console_cause causes[] = {
	{ "root_device", "VFS: Unable to mount root fs",
	  "the kernel found no root file system: root= names a disk that this server does not have",
	  "put root=UUID=... of the target's disk into the boot loader's configuration and make it "
	  "anew (grub-mkconfig), and build the initramfs with virtio_blk" },
	{ "root_device", "Kernel panic*not syncing*root",
	  "the kernel found no root file system: root= names a disk that this server does not have",
	  "put root=UUID=... of the target's disk into the boot loader's configuration and make it "
	  "anew (grub-mkconfig), and build the initramfs with virtio_blk" },
	{ "root_device", "Cannot open root device",
	  "the device that root= names is not there (a /dev/vdb1 of the source is often /dev/vda1 "
	  "here)",
	  "use root=UUID=... in place of a device name, and make the boot loader's configuration "
	  "anew" },
	{ "root_device", "ALERT!*does not exist",
	  "the initramfs waits for a root device that does not exist here",
	  "use root=UUID=... of the target's disk, and build the initramfs anew with virtio_blk" },
	{ "missing_uuid", "Timed out waiting for device*uuid",
	  "/etc/fstab names a UUID that no disk of this server has",
	  "write the target's UUIDs (blkid) into /etc/fstab, or add nofail to that line" },
	{ "missing_uuid", "Dependency failed for /",
	  "a file system of /etc/fstab could not be mounted",
	  "compare /etc/fstab with blkid, and add nofail to what this server does not have" },
	{ "missing_uuid", "Timed out waiting for device",
	  "a device that /etc/fstab or crypttab names is not there",
	  "compare /etc/fstab with blkid, and add nofail to what this server does not have" },
	{ "missing_uuid", "Can't find*UUID=",
	  "/etc/fstab names a UUID that no disk of this server has",
	  "write the target's UUIDs (blkid) into /etc/fstab, or add nofail to that line" },
	{ "initramfs_driver", "dracut-initqueue*timeout",
	  "the initramfs saw no root disk: it has no driver for it, or root= is wrong",
	  "build the initramfs with virtio_blk virtio_scsi virtio_pci (dracut --add-drivers)" },
	{ "initramfs_driver", "Gave up waiting for root",
	  "the initramfs saw no root disk: it has no driver for it, or root= is wrong",
	  "build the initramfs with virtio_blk virtio_scsi virtio_pci" },
	{ "filesystem_damaged", "UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY",
	  "the root file system is damaged",
	  "run fsck on it from a helper server" },
	{ "emergency_mode", "emergency mode",
	  "the system stopped in emergency mode and waits for a password at the console",
	  "look above in the console output for the unit that failed; most often it is a line of "
	  "/etc/fstab with a UUID of the source" },
	{ "emergency_mode", "Give root password for maintenance",
	  "the system stopped in emergency mode and waits for a password at the console",
	  "look above in the console output for the unit that failed; most often it is a line of "
	  "/etc/fstab with a UUID of the source" },
	{ "boot_loader", "grub rescue>",
	  "GRUB found neither its modules nor its configuration",
	  "install GRUB anew on the target's disk from a helper server" },
	{ "boot_loader", "error: no such device",
	  "GRUB searches a disk by a UUID that is not there",
	  "make grub.cfg anew on the target (grub-mkconfig)" },
	{ "boot_loader", "No bootable device",
	  "the firmware found nothing to boot: no boot loader on the disk, or BIOS and UEFI differ",
	  "install the boot loader for the firmware that the target has" },
	{ "panic", "Kernel panic",
	  "the kernel panicked",
	  "read the lines before it in the console output" },
	{ "cloud_init", "cloud-init*Traceback",
	  "cloud-init failed",
	  "see /var/log/cloud-init.log of the target; clean its state (cloud-init clean) or turn "
	  "it off" },
	{ "cloud_init", "cloud-init*ERROR",
	  "cloud-init reports errors",
	  "see /var/log/cloud-init.log of the target" },
	{ "cloud_init", "Failed to start*cloud-init",
	  "cloud-init failed",
	  "see /var/log/cloud-init.log of the target; clean its state (cloud-init clean) or turn "
	  "it off" },
	{ "cloud_init", "cloud-init*failed",
	  "cloud-init reports a failure",
	  "see /var/log/cloud-init.log of the target" },
	{ "network", "Failed to start*network",
	  "the network did not come up, so nothing can log in",
	  "remove what is bound to the source's MAC address (udev rules, ifcfg HWADDR, netplan "
	  "match) and use DHCP" },
	{ "network", "Failed to bring up*eth",
	  "the network did not come up, so nothing can log in",
	  "remove what is bound to the source's MAC address, and use DHCP" },
	{ "sshd", "Failed to start*SSH",
	  "sshd did not start",
	  "run sshd -t on the target: host keys, or a line of sshd_config" },
	{ "out_of_memory", "Out of memory: Kill",
	  "the system ran out of memory",
	  "take a flavor with more memory" },
};

/* Does the line begin with the pattern? A '*' skips ahead, within the line. */
static bool begins(const char *line, size_t n, const char *pattern)
{
	size_t part = strcspn(pattern, "*");

	if (part > n || strncasecmp(line, pattern, part) != 0)
		return false;
	if (!pattern[part])
		return true;
	pattern += part + 1;
	for (size_t i = part; i <= n; i++)
		if (begins(line + i, n - i, pattern))
			return true;
	return false;
}

static bool says(const char *text, const char *pattern)
{
	for (const char *line = text; *line;) {
		size_t n = MIN(strcspn(line, "\r\n"), (size_t)LINE_MAX_BYTES);

		for (size_t i = 0; i < n; i++)
			if (begins(line + i, n - i, pattern))
				return true;
		line += n;
		line += strspn(line, "\r\n");
	}
	return false;
}

size_t agt_console_causes(const char *text,
			  const struct agt_console_cause *ret[AGT_CONSOLE_CAUSES_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(causes) && n < AGT_CONSOLE_CAUSES_MAX; i++) {
		bool told = false;

		for (size_t k = 0; k < n; k++)
			told |= !strcmp(ret[k]->name, causes[i].name);
		/* The bare panic says nothing once it is known what it was about. */
		if (!strcmp(causes[i].name, "panic"))
			for (size_t k = 0; k < n; k++)
				told |= !strcmp(ret[k]->name, "root_device");
		if (!told && says(text, causes[i].pattern))
			ret[n++] = &causes[i];
	}
	return n;
}
