/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/receive/range.h - the job that tells what is in a range of a file: its hash, or
 * the sums of its blocks.
 */
#include "transport/frame.h"
#include "transport/receive/job.h"

/*
 * The file is m->name in the directory at path; with a block size the sums of its blocks are
 * wanted, else its hash.  -ENOMEM.
 */
int rcv_range_new(uint16_t slot, struct bytes path, const struct tp_range *m,
		  struct rcv_job **ret, struct err *e) _must_check_;

/* There is no answer: tell it at once.  error is an errno. */
int rcv_range_refuse(uint16_t slot, bool sums, int error, struct buf *out) _must_check_;
