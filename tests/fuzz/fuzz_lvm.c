/* SPDX-License-Identifier: Apache-2.0 */
/* Metadata of a volume group, and a physical volume that holds it: foreign bytes of a disk. */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "checks/lvm_text.h"
#include "common/io.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse_text(const uint8_t *data, size_t size)
{
	struct chk_mem m = { 0 };
	struct chk_lvm_vg vg;
	int r = chk_lvm_parse(chk_mem_strn(&m, (const char *)data, size), &m, &vg);

	if (r == 0 && (!vg.name || !vg.id || !vg.extent_bytes))
		__builtin_trap();
	for (size_t i = 0; r == 0 && i < vg.n_pvs; i++)
		if (!vg.pvs[i].name || !vg.pvs[i].id)
			__builtin_trap();
	chk_mem_fini(&m);
}

static void read_disk(const uint8_t *data, size_t size)
{
	struct chk_root root = { .fd = -1, .live = true, .path = "/" };
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	struct chk_mem m = { 0 };
	struct chk_lvm_vg vg;
	char path[64], id[33];

	if (fd < 0 || io_write_all(fd, data, size) < 0)
		__builtin_trap();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	(void)!chk_lvm_read(&root, path, &m, id, &vg);
	close(fd);
	chk_mem_fini(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size && data[0] == 'L')
		read_disk(data + 1, size - 1);
	else
		parse_text(data, size);
	return 0;
}
