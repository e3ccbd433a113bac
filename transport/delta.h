/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/delta.h - librsync behind three small machines that consume and produce buffers:
 * the signature of a basis, the delta against a signature, the patch of a basis.
 *
 * librsync aborts when malloc() fails and trusts lengths in its input, so sizes are bounded
 * here: a signature is at most TP_SIG_MAX bytes, its blocks are between TP_SIG_BLOCK_MIN and
 * TP_SIG_BLOCK_MAX.
 */
#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/error.h"

#define TP_SIG_BLOCK_MIN 512u
#define TP_SIG_BLOCK_MAX (1u << 20)
#define TP_SIG_MAX       (64u << 20)

/* Bytes of the strong sum of one block. */
#define TP_SIG_STRONG_MIN 8u
#define TP_SIG_STRONG_MAX 32u

/* Block and strong-sum sizes for a basis of this many bytes, see delta.c for the reasons. */
void tp_sig_sizes(uint64_t basis_bytes, uint32_t *ret_block, uint32_t *ret_strong);

struct tp_signer;
int tp_signer_new(uint32_t block_bytes, uint32_t strong_bytes, struct tp_signer **ret,
		  struct err *e) _must_check_;
void tp_signer_free(struct tp_signer *s);
/* Feed basis bytes; eof: there are no more.  Signature bytes are appended to out. */
int tp_signer_step(struct tp_signer *s, struct bytes in, bool eof, struct buf *out,
		   struct err *e) _must_check_;

struct tp_delta;
/* sig: a whole signature, copied.  -ERR_PROTOCOL: it is damaged. */
int tp_delta_new(struct bytes sig, struct tp_delta **ret, struct err *e) _must_check_;
void tp_delta_free(struct tp_delta *d);
/* Feed bytes of the new file; delta bytes are appended to out. */
int tp_delta_step(struct tp_delta *d, struct bytes in, bool eof, struct buf *out,
		  struct err *e) _must_check_;
/* Bytes so far that the delta carries itself, and that it takes from the basis. */
void tp_delta_stats(const struct tp_delta *d, uint64_t *ret_literal, uint64_t *ret_matched);

struct tp_patch;
/* basis_fd stays the caller's and is read by offset. */
int tp_patch_new(int basis_fd, struct tp_patch **ret, struct err *e) _must_check_;
void tp_patch_free(struct tp_patch *p);
/*
 * Feed delta bytes; the bytes of the new file are appended to out, at most TP_PATCH_OUT at
 * a time: 1: call again with no input, there is more to come; 0: all input is used;
 * -ERR_PROTOCOL: the delta is damaged.  ret_done: the delta has ended.
 */
#define TP_PATCH_OUT (1u << 20)
int tp_patch_step(struct tp_patch *p, struct bytes in, struct buf *out, bool *ret_done,
		  struct err *e) _must_check_;
