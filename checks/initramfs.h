/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * checks/initramfs.h - which kernel modules an initramfs holds.
 *
 * It is one or more cpio archives ("newc") behind each other: often a plain one with
 * microcode, then a compressed one with the rest.
 */
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

/*
 * Look for modules (names without ".ko", NULL-terminated, "_" also stands for "-") in the
 * image that fd is open on, until all are found, it ends, or the monotonic clock passes
 * until_ns.  found[i] is set for each one that is there.  -ETIME: not read to its end;
 * -EBADMSG, -EMEDIUMTYPE: it is no such image, or compressed in an unknown way.
 */
int chk_initramfs_find(int fd, const char *const *modules, unsigned char *found, int64_t until_ns,
		       struct err *e) _must_check_;
