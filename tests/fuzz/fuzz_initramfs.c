/* SPDX-License-Identifier: Apache-2.0 */
/* An initramfs of foreign bytes: read or refused, within the time that it is given. */
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "checks/initramfs.h"
#include "common/io.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const wanted[] = { "virtio_blk", "nvme", NULL };
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	unsigned char found[2] = { 0 };
	struct err e = { 0 };
	int r;

	if (fd < 0 || io_write_all(fd, data, size) < 0)
		__builtin_trap();
	r = chk_initramfs_find(fd, wanted, found, clock_mono_ns() + 500000000, &e);
	if ((r < 0) != (e.code != 0) && r < 0)
		__builtin_trap();
	close(fd);
	return 0;
}
