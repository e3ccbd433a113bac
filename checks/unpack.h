/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * checks/unpack.h - taking the compression off a file, in bounded memory.
 *
 * The checks promise to need little, and an image may ask for any window: what would take more
 * than CHK_UNPACK_MAX is refused.  For that reason these are the libraries themselves (zlib,
 * liblzma, libzstd), not one above them, and LZ4 is taken apart here: its library wants whole
 * blocks of 8 MiB, twice, where the format needs 64 KiB.
 */
#include <stddef.h>
#include <sys/types.h>

#include "common/error.h"

#define CHK_UNPACK_MAX (9u << 20) /* windows of 8 MiB, as zstd -19 and xz -6 make them */

struct chk_unpack;

/*
 * Uncompress what follows from fd's offset on: gzip, xz, lzma, zstd or lz4 as kernels take it.
 * fd stays the caller's and must outlive *ret.  -EMEDIUMTYPE: none of these.
 */
int chk_unpack_open(int fd, struct chk_unpack **ret, struct err *e) _must_check_;

/* Up to n bytes, 0 at the end.  -EBADMSG: damaged; -E2BIG: it needs too much memory. */
ssize_t chk_unpack_read(struct chk_unpack *u, void *p, size_t n, struct err *e) _must_check_;
void chk_unpack_free(struct chk_unpack *u); /* NULL is fine */
