/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/rsync.h - installing rsync, which SMS wants on the source.
 */
#include "common/error.h"

struct agt_context;

/*
 * Install rsync with the host's package manager, unless it is there.  The manager's own proxy
 * settings (apt.conf, yum.conf, zypp.conf, the environment) hold; what it prints goes to
 * standard error.  -ENOENT: none that is known is here; -EIO: it failed.
 */
int agt_rsync_install(const struct agt_context *ctx, struct err *e) _must_check_;
