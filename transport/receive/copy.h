/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/receive/copy.h - a private copy of a file that has names the sync does not know.
 */
#include <sys/stat.h>

#include "transport/meta.h"
#include "transport/receive/env.h"

/*
 * Replace the regular file name in the current directory by a copy of its content and its
 * holes that has the metadata of meta.  size is what it has now.  Negative, and v->fault.
 */
int rcv_copy_private(struct rcv_env *v, const char *name, uint64_t size,
		     const struct tp_meta *meta) _must_check_;
