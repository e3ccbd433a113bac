/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/chain.h - the steps of a migration, in their order, from wherever the run stands.
 */
#include "agent/migration.h"

/*
 * Do what is left of the run.  0: done; positive: the exit status to end with, all has been
 * told; negative: an error.
 */
int agt_chain_run(struct agt_migration *m, struct err *e) _must_check_;
