/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * checks/cgroup.h - the control groups that this process is in: what it may use is less than
 * what the machine has when one of them, at any level, sets a limit.
 */
#include "checks/root.h"

struct chk_cgroup {
	struct strlist dirs; /* relative to the root; the innermost first */
	size_t mount_bytes;  /* length of the mount point that each of them begins with */
	bool v2;
};

/*
 * The groups of controller ("memory", "cpu", "cpuset").  No limit can be told without
 * /proc/self/cgroup or when the hierarchy is not mounted: no groups then.  0 or -ENOMEM.
 */
int chk_cgroup_find(const struct chk_root *root, const char *controller, struct chk_cgroup *ret)
	_must_check_;
void chk_cgroup_fini(struct chk_cgroup *c);

/* Are these the same groups of two hierarchies of version 1? */
bool chk_cgroup_same(const struct chk_cgroup *a, const struct chk_cgroup *b);

/* The number in a file of the i-th group; false: no such file, or "max" or "-1". */
bool chk_cgroup_u64(const struct chk_root *root, const struct chk_cgroup *c, size_t i,
		    const char *file, uint64_t *ret);

/* The number behind a word at the start of a line: "inactive_file 4096".  False: no such. */
bool chk_text_u64(const char *text, const char *word, uint64_t *ret);
