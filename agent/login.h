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
 * Log in with the OpenSSH client and run a command there: 0 when its output came back.  more
 * is a further file of known hosts, NULL: none; timeout_ms is for the connection; what ssh said
 * is added to said.
 *  -ERR_SSH  ssh could not log in (said has its words); -ENOENT: there is no ssh here
 */
int agt_login_try(const struct agt_login *l, const char *more, unsigned timeout_ms,
		  char *const *envp, const struct agt_stop *stop, struct buf *said,
		  struct err *e) _must_check_;
