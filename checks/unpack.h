/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * checks/unpack.h - taking the compression off a file (libarchive).
 */
#include <stddef.h>
#include <sys/types.h>

#include "common/error.h"

struct chk_unpack;

/*
 * Uncompress what follows from fd's offset on: gzip, bzip2, xz, lzma, zstd or lz4.  fd stays
 * the caller's and must outlive *ret.  -EMEDIUMTYPE: none of these.
 */
int chk_unpack_open(int fd, struct chk_unpack **ret, struct err *e) _must_check_;
ssize_t chk_unpack_read(struct chk_unpack *u, void *p, size_t n, struct err *e) _must_check_;
void chk_unpack_free(struct chk_unpack *u); /* NULL is fine */
