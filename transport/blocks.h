/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/blocks.h - what a big file has in common with its older self on the target.
 *
 * The receiver sums the basis block by block: a weak sum that can be rolled and 32 bits of
 * XXH3.  The driver collects the sums, in any order and from several sessions, and matches
 * parts of the new file against all of them, several at a time.
 *
 * Where the file goes on as it did (the block after the last match, or the same offset), one
 * strong sum decides, at the speed of memory; only where that fails every offset is tried by
 * its weak sum.  rsync and librsync try every offset of all that is no match.
 *
 * 32 bits and 32 are enough: in a new file of 1 TiB that has nothing in common with its basis
 * of 1 TiB, 2^40 offsets meet 2^20 blocks, and one such file in 16 has a false match.  Bits can be
 * made to collide, too, and the target is not trusted: whoever uses a match checks the result
 * by its whole hash, and a false match costs a segment that is sent again, whole.
 */
#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/error.h"

#define TP_SUM_BYTES   8u          /* one block on the wire: le32 weak, le32 strong */
#define TP_BLOCK_LEAST (16u << 10)
#define TP_BLOCK_MOST  (8u << 20)
#define TP_MATCH_BYTES (256u << 10) /* taken in at once, and the most of a literal */
#define TP_SUMS_MAX    (1u << 22)  /* blocks; 32 MiB of sums and as much of index */

/*
 * The block size for a basis of so many bytes: near the square root, as in rsync, so that the
 * sums of all blocks and the bytes of a changed block cost alike.  0: the file is too large.
 */
uint32_t tp_sums_block(uint64_t basis_bytes);

/* Append the sums of data, the last block possibly a short one, to out. */
int tp_sums_make(struct bytes data, uint32_t block_bytes, struct buf *out) _must_check_;

struct tp_sums;

/* Room for the sums of a basis.  -ERR_PROTOCOL: block_bytes is not what tp_sums_block() says. */
int tp_sums_new(uint64_t basis_bytes, uint32_t block_bytes, struct tp_sums **ret,
		struct err *e) _must_check_;
void tp_sums_free(struct tp_sums *s); /* NULL is fine */
static inline void tp_sums_freep(struct tp_sums **s)
{
	tp_sums_free(*s);
}

/*
 * Sums of the blocks from `first` on, as tp_sums_make() wrote them.  Different blocks may be
 * put by several threads at once.  -ERR_PROTOCOL: they are not whole, or not of this basis.
 */
int tp_sums_put(struct tp_sums *s, uint64_t first, struct bytes wire, struct err *e)
	_must_check_;

/* All sums are there: build the index.  From now on s is not changed any more. */
int tp_sums_ready(struct tp_sums *s, struct err *e) _must_check_;

/* What becomes of the new file, in the order of its offsets, without a gap. */
struct tp_match_ops {
	int (*copy)(void *ctx, uint64_t off, uint64_t basis_off, uint64_t n, struct err *e);
	/* data is borrowed for the call. */
	int (*literal)(void *ctx, uint64_t off, struct bytes data, struct err *e);
};

struct tp_match;

/*
 * Match the bytes from `from` to `to` (exclusive) of a new file of size bytes.  s stays the
 * caller's, shared by any number of matches.
 */
int tp_match_new(const struct tp_sums *s, uint64_t from, uint64_t to, uint64_t size,
		 struct tp_match **ret, struct err *e) _must_check_;
void tp_match_free(struct tp_match *m); /* NULL is fine */

/*
 * The bytes that have to be fed, in order: more than the part itself, since a block that is
 * only half in it can be recognised only as a whole.
 */
void tp_match_range(const struct tp_match *m, uint64_t *ret_from, uint64_t *ret_to);

/* Where the next TP_MATCH_BYTES may be read to; fed from there, they are not copied. */
uint8_t *tp_match_room(struct tp_match *m);

/* Feed bytes; eof: no more will come.  An error of ops ends it and is returned. */
int tp_match_step(struct tp_match *m, struct bytes in, bool eof,
		  const struct tp_match_ops *ops, void *ctx, struct err *e) _must_check_;
