/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/inuse.h - which files some process may be changing right now.
 *
 * A store through a shared mapping leaves no trace in an inode of tmpfs, and in other file
 * systems not at once.  So regular files that are open for writing, or mapped shared and
 * writable, while a pass runs are looked at by content again in the next one, whatever their
 * times say.  What a process maps, changes and lets go of between two looks is not seen.
 */
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

struct stg_inuse; /* a set of (device, inode) */

/*
 * Look at all processes below procfd (a descriptor of /proc, the caller's) but this one.
 * The new set takes the place of *set (NULL at first) and keeps what was told.  Processes
 * that may not be looked at are passed over.
 */
int stg_inuse_scan(int procfd, struct stg_inuse **set, struct err *e) _must_check_;
void stg_inuse_free(struct stg_inuse *set); /* NULL is fine */

/* dev as in struct stg_stat.  set may be NULL: nothing is in use. */
bool stg_inuse_has(const struct stg_inuse *set, uint64_t dev, uint64_t ino);

/* The same, but true only once for each file, also over several scans.  Any thread. */
bool stg_inuse_tell(struct stg_inuse *set, uint64_t dev, uint64_t ino);
