/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * checks/unlz4.h - LZ4 in the old form that kernels take ("lz4 -l"), in 64 KiB of memory.
 *
 * A magic number, then blocks: a length of four bytes and so many of sequences.  A sequence is
 * a token (two lengths of four bits, 15: more bytes follow), literals, an offset of two bytes
 * and a match of at least four; a block's last one ends with its literals.  The format is
 * described in LZ4's sources, doc/lz4_Block_format.md and doc/lz4_Frame_format.md.
 */
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/macro.h"

struct chk_unlz4;

struct chk_unlz4 *chk_unlz4_new(void); /* to be free()d; NULL when out of memory */

/*
 * Take from in[*at] up to in[n], put at most size bytes to out.  The count made, which is 0
 * when more input is wanted; -EBADMSG.
 */
ssize_t chk_unlz4_step(struct chk_unlz4 *z, const uint8_t *in, size_t *at, size_t n, uint8_t *out,
		       size_t size) _must_check_;
