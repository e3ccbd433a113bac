/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/receive/segment.h - segments of big files, in slots, and the end of such a file.
 *
 * Other receivers write other segments of the same temporary file at the same time, so
 * nothing here looks beyond its own range.  As in file.h, what goes wrong with a segment is
 * kept and told when it is closed.  Functions return 0, or a negative code with v->fault;
 * -ERR_PROTOCOL: the peer uses slots or offsets as it must not.
 */
#include <stdbool.h>
#include <stdint.h>

#include "transport/frame.h"
#include "transport/receive/env.h"

#define RCV_SEGMENTS_MAX 16u /* open at the same time */

struct rcv_segments;
int rcv_segments_new(struct rcv_segments **ret, struct err *e) _must_check_;
void rcv_segments_free(struct rcv_segments *segs); /* what was written stays; NULL is fine */
bool rcv_segments_busy(const struct rcv_segments *segs, uint16_t slot);

/* flags: TP_F_CREATE, TP_F_COPIES */
int rcv_segments_open(struct rcv_env *v, struct rcv_segments *segs, uint16_t slot,
		      const struct tp_range *m, uint8_t flags) _must_check_;
int rcv_segments_data(struct rcv_env *v, struct rcv_segments *segs, uint16_t slot, uint64_t off,
		      struct bytes data) _must_check_;
int rcv_segments_hole(struct rcv_env *v, struct rcv_segments *segs, uint16_t slot, uint64_t off,
		      uint64_t n) _must_check_;
int rcv_segments_copy(struct rcv_env *v, struct rcv_segments *segs, uint16_t slot,
		      const struct tp_copy *m) _must_check_;
int rcv_segments_close(struct rcv_env *v, struct rcv_segments *segs, uint16_t slot,
		       uint64_t bytes, const struct tp_hash_value *hash) _must_check_;
int rcv_segments_drop(struct rcv_env *v, struct rcv_segments *segs, uint16_t slot) _must_check_;

/* FINISH: m->temp in the current directory becomes m->name. */
int rcv_segments_finish(struct rcv_env *v, const struct tp_entry *m, bool create) _must_check_;
