/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/receive/check.h - does what is there agree with what should be?  Nothing is
 * changed, not even the time of the last access where that can be had.
 */
#include <stdint.h>

#include "transport/frame.h"
#include "transport/receive/env.h"

/*
 * Compare the entry that m names (flags: TP_F_* of CHECK) with what m says.  0: it was looked
 * at, ret->what says what differs (0: nothing); what ret borrows is good until the next call.
 * Negative, and v->fault: it could not be looked at.
 *
 * Where this process may not give files away, owner and group are no differences, nor are the
 * setuid and setgid bits that must not go with a wrong one.
 */
int rcv_check(struct rcv_env *v, const struct tp_entry *m, uint8_t flags,
	      struct tp_difference *ret) _must_check_;

/* Are the two names one inode, and has it no more names than m says?  As rcv_check(). */
int rcv_check_link(struct rcv_env *v, const struct tp_link_msg *m, struct tp_difference *ret)
	_must_check_;
