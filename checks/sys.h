/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * checks/sys.h - what only the kernel of the running system can answer, in one place, so that
 * tests can answer in its stead.  Anything that is a file is read with checks/root.h.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct chk_root;

struct chk_space {
	uint64_t size, free_size, avail_size; /* free: root may use it; avail: anybody */
	uint64_t inodes, free_inodes;
	uint32_t block_size;
};

struct chk_subvolume_info {
	uint64_t id, parent_id;
	char uuid[40], name[256];
	bool is_snapshot;
};

/* Called for each address; family is AF_INET or AF_INET6. */
typedef void chk_address_fn(void *arg, const char *interface, int family, const char *address,
			    const char *netmask);

struct chk_sys {
	void *arg; /* passed to all of these */

	/* Room of the file system that path below the root is on.  0 or -errno. */
	int (*space)(void *arg, const struct chk_root *root, const char *path,
		     struct chk_space *ret);
	/* The address burnt into a network card; ret holds 18 bytes.  0 or -errno. */
	int (*permanent_mac)(void *arg, const char *interface, char *ret);
	int (*addresses)(void *arg, chk_address_fn *fn, void *fn_arg);
	/* The sub-volume that is mounted at path.  0 or -errno. */
	int (*subvolume)(void *arg, const struct chk_root *root, const char *path,
			 struct chk_subvolume_info *ret);
	/* May this process do what root may / at least read every file? */
	int (*privileges)(void *arg, bool *ret_root, bool *ret_reads_all, struct err *e);
	/* What a program of the running system prints with one argument, at most size - 1. */
	int (*output)(void *arg, const char *program, const char *argument, char *ret,
		      size_t size, struct err *e);
	/* Can a TCP connection be made?  0 and the time it took, or negative. */
	int (*connect)(void *arg, const char *host, unsigned port, unsigned timeout_ms,
		       unsigned *ret_ms, struct err *e);
	void (*sleep_ms)(void *arg, unsigned ms);
	int64_t (*mono_ns)(void *arg);
};

extern const struct chk_sys chk_sys_live;

/* For a root that is not "/": cards and addresses of this host are not those of that one. */
extern const struct chk_sys chk_sys_root;
