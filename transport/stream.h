/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/stream.h - blocks: the bytes of frames to the bytes of the wire and back, packed
 * by zstd where it pays.  No I/O happens here.
 */
#include <stdbool.h>

#include "common/buf.h"
#include "common/error.h"

/* Level of tp_pack_new(): plain blocks only, or adapt to the data. */
#define TP_LEVEL_OFF  0
#define TP_LEVEL_AUTO (-1000)

struct tp_pack;   /* frames -> wire */
struct tp_unpack; /* wire -> frames */

int tp_pack_new(int level, struct tp_pack **ret, struct err *e) _must_check_;
void tp_pack_free(struct tp_pack *p); /* NULL is fine */

/*
 * Blocks are packed at this level (1..19) from the next one on.  Only where the peer names
 * TP_FEATURE_LEVELS, and not after TP_LEVEL_OFF.
 */
void tp_pack_set_level(struct tp_pack *p, int level);

/* Did the last block that was tried shrink?  True before the first. */
bool tp_pack_shrinks(const struct tp_pack *p);

/*
 * Take bytes of frames from in (consumed) and append blocks to out: whole blocks only, or
 * with flush all there is.  Data that does not shrink goes plain, and zstd is left alone for
 * a while before it is tried again.
 */
int tp_pack(struct tp_pack *p, struct buf *in, bool flush, struct buf *out, struct err *e)
	_must_check_;

/* Bytes before and after packing, so far. */
void tp_pack_stats(const struct tp_pack *p, uint64_t *ret_raw, uint64_t *ret_packed);

int tp_unpack_new(struct tp_unpack **ret, struct err *e) _must_check_;
void tp_unpack_free(struct tp_unpack *u); /* NULL is fine */

/*
 * Take whole blocks from in (consumed) and append what they held to out, until out has at
 * least max unread bytes or in has no whole block left.  1: something was unpacked, 0: more
 * input is needed; -ERR_PROTOCOL.  With out full at once: 1.
 */
int tp_unpack(struct tp_unpack *u, struct buf *in, size_t max, struct buf *out, struct err *e)
	_must_check_;
