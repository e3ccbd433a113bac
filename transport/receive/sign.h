/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/receive/sign.h - the job that computes the signature of a file, the basis of a
 * delta.
 */
#include "transport/frame.h"
#include "transport/receive/job.h"

/* The file is m->name in the directory at path.  -ENOMEM. */
int rcv_sign_new(uint16_t slot, struct bytes path, const struct tp_sigreq *m,
		 struct rcv_job **ret, struct err *e) _must_check_;

/* There is no signature: tell it at once.  error is an errno. */
int rcv_sign_refuse(uint16_t slot, int error, struct buf *out) _must_check_;
