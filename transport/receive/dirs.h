/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/receive/dirs.h - directories below the root, held open while they are in use:
 * a cache of the recent ones by path, and the file systems that were met.
 *
 * Another receiver may remove or replace a directory that is held here; rcv_dir_gone()
 * tells, and rcv_dir_renew() opens what is at the path now.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/bytes.h"
#include "common/error.h"
#include "transport/receive/env.h"

/* How a finished file gets its name on a file system. */
enum rcv_how {
	RCV_HOW_UNKNOWN,
	RCV_HOW_FD,    /* O_TMPFILE, then linkat() of the descriptor */
	RCV_HOW_PROC,  /* O_TMPFILE, then linkat() of its name in /proc */
	RCV_HOW_NAMED, /* a temporary name, renamed */
};

struct rcv_dev {
	struct rcv_dev *next;
	dev_t dev;
	int fd; /* keeps the file system reachable for syncfs() */
	enum rcv_how how;
};

struct rcv_dir {
	unsigned refs;
	int fd;
	uint64_t hash, used; /* of the cache: the path's hash, the time of the last use */
	struct rcv_dev *dev;
	bool create;         /* it was entered with TP_F_CREATE */
	bool default_acl;    /* new files inherit an ACL */
	/* What the first file that was made here was born with. */
	bool born_known;
	bool mode_unsure;    /* the mode asked for was not given */
	uid_t born_uid;
	gid_t born_gid;
	size_t path_bytes;
	char path[];
};

int rcv_dirs_new(int rootfd, bool super, struct rcv_dirs **ret, struct err *e) _must_check_;
void rcv_dirs_free(struct rcv_dirs *d); /* NULL is fine */

/*
 * Make the directory at path the current one: v->cur, and the working directory of the
 * process.  On failure v->cur is NULL and v->cur_fault says why.
 */
int rcv_dirs_enter(struct rcv_env *v, struct bytes path, bool create);

/* A directory for a while: release it with rcv_dir_put().  -errno, and v->fault. */
int rcv_dirs_get(struct rcv_env *v, struct bytes path, bool create, struct rcv_dir **ret)
	_must_check_;
struct rcv_dir *rcv_dir_ref(struct rcv_dir *dir);
void rcv_dir_put(struct rcv_dir *dir); /* NULL is fine */

/* Was it removed while it was held? */
bool rcv_dir_gone(const struct rcv_dir *dir);
/* Is that why something in it failed with code?  Kernels say it in several ways. */
bool rcv_dir_lost(const struct rcv_dir *dir, int code);
/* Let go of what nobody else holds: the paths may lead elsewhere now. */
void rcv_dirs_forget(struct rcv_dirs *d);
/* Replace *dir by what is at its path now; the current directory follows. */
int rcv_dir_renew(struct rcv_env *v, struct rcv_dir **dir) _must_check_;

/* What is known about the directory at path may have changed. */
void rcv_dirs_stale(struct rcv_env *v, struct bytes path);

/* syncfs() of every file system that was met. */
int rcv_dirs_sync(struct rcv_env *v, struct err *e) _must_check_;
