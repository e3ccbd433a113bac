/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/macs.h - the MAC addresses of the account's other sources, as SMS has them on record:
 * those of all sources of one user must differ (server migration workflow).
 */
#include <stdbool.h>

#include "common/error.h"

struct agt_options;
struct agt_stop;
struct strlist;

/*
 * Add them to macs, as they are on record: mostly digests (chk_opts.known_macs).  A list of
 * sources has no MACs in it, so each is asked for alone, for AGT_MACS_TIME_MS in all.  This
 * host's own record is left out: the one that it was registered under; without one on record
 * those that SOURCE_SERVER_ID names, or that have this host's name or address.
 *
 * On failure macs holds what had come.  -ETIME: there are too many; else as agt_cloud_call().
 */
int agt_macs_read(const struct agt_options *o, const struct agt_stop *stop,
		  struct strlist *macs, struct err *e) _must_check_;

#define AGT_MACS_TIME_MS 20000
