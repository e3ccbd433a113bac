/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/login.h - how to log in to the target: what the staged sync was told, for others too.
 *
 * Where stager looks for it, in its order: the options after "--", the environment
 * (RSYNC_TARGET_*), our own config, stager's config file.
 */
#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"
#include "common/error.h"
#include "common/text.h"

struct agt_options;
struct agt_stop;
struct strlist;

#define AGT_LOGIN_TEXT 512

struct agt_login {
	char host[AGT_LOGIN_TEXT]; /* "": nobody said */
	char user[AGT_LOGIN_TEXT];
	unsigned port;
	char identity[AGT_LOGIN_TEXT];    /* "": those of ssh */
	char known_hosts[AGT_LOGIN_TEXT]; /* "": those of ssh */
	char password_file[AGT_LOGIN_TEXT];
	const char *password_env; /* a secret, borrowed from the options; NULL: none */
	bool accept_new;          /* of host keys */
};

/* Collect it; user is root and port 22 where nobody says otherwise. */
int agt_login_find(const struct agt_options *o, struct agt_login *ret, struct err *e)
	_must_check_;

/*
 * What the options for stager say for --name, as "--name=value" or "--name value"; the last
 * one counts.  NULL: nothing.
 */
const char *agt_login_option(const struct strlist *args, const char *name);

/*
 * Log in with the OpenSSH client and run a command there, through the shell that is there: 0
 * when it ended well.  more is a further file of known hosts, NULL: none; timeout_ms is for the
 * connection; what ssh and the command said is added to said, AGT_LOGIN_SAID_MAX bytes of it.
 *  -ERR_SSH  ssh could not log in, or the command failed; -ENOENT: there is no ssh here
 */
int agt_login_run(const struct agt_login *l, const char *more, unsigned timeout_ms,
		  const char *command, char *const *envp, const struct agt_stop *stop,
		  struct buf *said, struct err *e) _must_check_;

#define AGT_LOGIN_SAID_MAX 4096

/* The last line of what was said, where ssh says why it failed; "" for none.  Returns out. */
const char *agt_login_last_line(struct buf *said, char out[TEXT_NAME_MAX]);

/* As agt_login_run(), with a command whose output proves that a shell has run it. */
int agt_login_try(const struct agt_login *l, const char *more, unsigned timeout_ms,
		  char *const *envp, const struct agt_stop *stop, struct buf *said,
		  struct err *e) _must_check_;
