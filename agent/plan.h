/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/plan.h - what a dry run answers in place of the cloud, so that the steps which follow
 * can be told, too.  Ids of what does not exist are words in angle brackets: "<task_id>".
 */
#include "agent/cloud.h"
#include "common/error.h"

/* Give the reply to a call that was told instead of sent the body of a success. */
int agt_plan_fill(const struct agt_call *call, struct agt_reply *ret, struct err *e)
	_must_check_;
