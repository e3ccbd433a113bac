/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/receive/list.h - the job that lists a directory, or all below it.
 */
#include "transport/receive/job.h"

/* -ENOMEM. */
int rcv_list_new(uint16_t slot, struct bytes path, bool recurse, struct rcv_job **ret,
		 struct err *e) _must_check_;
