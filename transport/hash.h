/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/hash.h - the content hash of a file: XXH3-128 over what is not zero.
 *
 * For each maximal run of 4 KiB blocks (by offset in the file) that are not all zero: its
 * offset as le64, then its bytes; at the end the size of the file as le64.  So a hole and
 * a block of zeros hash alike, and a sparse file of a terabyte costs what its data costs.
 * It tells accidents and lost writes, not forgery: the link is authenticated by SSH.
 *
 * A file of more than TP_LEAF_BYTES is a tree: each leaf of that size (the last one of what
 * is left) is hashed like a file of its own, with offsets counted from its start.  The hash
 * of the file is XXH3-128 over the index as le64 and the hash of each leaf that is not all
 * zero, and the size of the file as le64.  So leaves can be hashed apart, by whoever has
 * them, and be put together without the file being read again.
 */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "common/error.h"

#define TP_HASH_BLOCK 4096u

/*
 * What a lost connection costs of a big file, and the least that one of several sessions
 * does: small enough that sessions of 20 MB/s end within half a second of each other.
 */
#define TP_LEAF_BYTES (8u << 20)

struct tp_hash;

struct tp_hash_value {
	uint8_t b[16];
};

int tp_hash_new(struct tp_hash **ret, struct err *e) _must_check_;
void tp_hash_free(struct tp_hash *h); /* NULL is fine */
static inline void tp_hash_freep(struct tp_hash **h)
{
	tp_hash_free(*h);
}

/* Begin anew; a fresh one is begun already. */
void tp_hash_reset(struct tp_hash *h);

/*
 * Content at off; offsets only grow (off >= the end of the bytes before), what is left out
 * is zero.
 */
void tp_hash_update(struct tp_hash *h, uint64_t off, const void *p, size_t n);

/* The value for a file of size bytes. */
void tp_hash_final(struct tp_hash *h, uint64_t size, struct tp_hash_value *ret);

/* 64 bits of XXH3 of n bytes, for sums of blocks. */
uint64_t tp_hash64(const void *p, size_t n);

/* Hash of content that is in memory, from offset 0. */
void tp_hash_content(struct tp_hash *h, const void *p, size_t n, struct tp_hash_value *ret);

/* Leaves of a file of size bytes; a file of none or of a single one is no tree. */
static inline uint64_t tp_leaf_count(uint64_t size)
{
	return size / TP_LEAF_BYTES + (size % TP_LEAF_BYTES != 0);
}

/* The bytes of leaf index of a file of size bytes. */
static inline uint64_t tp_leaf_bytes(uint64_t size, uint64_t index)
{
	uint64_t off = index * TP_LEAF_BYTES;

	return size - off < TP_LEAF_BYTES ? size - off : TP_LEAF_BYTES;
}

/* The hash of n zeros, which is that of a hole, and of a leaf that a tree leaves out. */
void tp_hash_zeros(struct tp_hash *h, uint64_t n, struct tp_hash_value *ret);
/* The same, where no struct tp_hash is at hand. */
int tp_hash_zeros_of(uint64_t n, struct tp_hash_value *ret, struct err *e) _must_check_;

/*
 * Put the hash of a file of size bytes together from those of all its leaves: after a reset,
 * each leaf with its index in growing order (those of zeros may be left out), then the end.
 * Not to be mixed with tp_hash_update().
 */
void tp_hash_leaf(struct tp_hash *h, uint64_t index, const struct tp_hash_value *leaf);
void tp_hash_root(struct tp_hash *h, uint64_t size, struct tp_hash_value *ret);

/* Equal? */
static inline bool tp_hash_eq(const struct tp_hash_value *a, const struct tp_hash_value *b)
{
	return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

/*
 * Hash the file behind fd from its start to its end, data extents only; its size is the one
 * found at the end of reading.  buf of buf_bytes is scratch space (a multiple of 4096).
 */
int tp_hash_fd(struct tp_hash *h, int fd, void *buf, size_t buf_bytes, uint64_t *ret_size,
	       struct tp_hash_value *ret, struct err *e) _must_check_;

/*
 * What the file behind fd keeps no storage for, of size bytes: in whole blocks, in how many
 * runs.  A file system that cannot tell holes has none.  0 or -errno.
 */
int tp_hole_bytes(int fd, uint64_t size, uint64_t *ret_bytes, uint32_t *ret_runs)
	_must_check_;

/*
 * The next run of data at or after off in fd, as [*ret_from, *ret_to); both are size when
 * there is none.  A file system that cannot tell holes has one run.  0 or -errno.
 */
int tp_next_data(int fd, uint64_t off, uint64_t size, uint64_t *ret_from, uint64_t *ret_to)
	_must_check_;
