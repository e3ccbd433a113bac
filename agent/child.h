/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/child.h - another program, run and waited for.
 */
#include <stddef.h>
#include <sys/types.h>

#include "common/buf.h"
#include "common/error.h"

struct agt_stop;

/*
 * Names of the cloud's keys, and of what the service manager says to us alone: no program that we
 * start has any business with them.
 */
#define AGT_CHILD_SECRETS                                                                  \
	{ "HC_SK", "HC_AK", "HC_SECURITY_TOKEN", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID" }

/*
 * envp without them, more_env (NULL: none) in front of it and in place of what is called the
 * same.  The array is the caller's to free(), what it points to is not; NULL: out of memory.
 */
char **agt_child_env(char *const *envp, char *const *more_env);

struct agt_child_opts {
	char *const *argv;           /* ends with NULL; argv[0] is looked up in PATH */
	char *const *envp;           /* of the child; those of AGT_CHILD_SECRETS are taken out */
	char *const *more_env;       /* "NAME=value", in front of envp; NULL: none */
	const struct agt_stop *stop; /* asked: the child gets SIGTERM, and is waited for */
	unsigned timeout_ms;         /* then it gets SIGTERM, and SIGKILL 5 s later; 0: none */
	struct buf *output;          /* what it prints, both streams; NULL: it prints where we do */
	size_t output_max;           /* bytes kept, the first ones */
};

/*
 * Run it in a process group of its own, with standard input from /dev/null.  0 and *ret: the
 * exit status, or 128 and the number of the signal that ended it.  -ENOENT: no such program.
 * -ETIMEDOUT: it took too long.  -ERR_CANCELLED: opts.stop, *ret is filled then, too.
 */
int agt_child_run(const struct agt_child_opts *opts, int *ret, struct err *e) _must_check_;

/*
 * Start it, as above, and leave it to the caller, who waits for the process *ret: argv, envp,
 * more_env and stop count, and it prints where we do.
 */
int agt_child_start(const struct agt_child_opts *opts, pid_t *ret, struct err *e) _must_check_;

/*
 * A program of ours, found from where this one lies: in an installed tree below its prefix,
 * else in a build tree.  installed and built are relative to the prefix and the top of the
 * build ("bin/stager", "stager/stager").  -ENOENT: it is in neither.
 */
int agt_child_find(const char *installed, const char *built, char *ret, size_t size,
		   struct err *e) _must_check_;
