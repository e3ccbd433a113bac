/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * config/target.h - where a sync goes: [user@]host:/root or ssh://[user@]host[:port]/root.
 *
 * No error text quotes the SPEC, so that a password someone put into it is not shown.
 */
#include "common/error.h"

#define CFG_TARGET_HOST_MAX 255 /* bytes of a DNS name */
#define CFG_TARGET_USER_MAX 255

struct cfg_target {
	char *user;    /* NULL: not given */
	char *host;    /* a name or an address, IPv6 without brackets; NULL: no target */
	char *root;    /* absolute, no '.', '..' or empty components, "/" at least */
	unsigned port; /* 0: not given */
};

/*
 * Take a SPEC apart.  ssh:// parts are percent-decoded; IPv6 addresses stand in brackets.
 * -ERR_USAGE names the part that is wrong; -ENOMEM.  *ret is the caller's to fini.
 */
int cfg_target_parse(const char *spec, struct cfg_target *ret, struct err *e) _must_check_;
void cfg_target_fini(struct cfg_target *t);

/* Check a host (brackets around IPv6 are optional) or a user that came alone; *ret is a copy. */
int cfg_target_host(const char *text, char **ret, struct err *e) _must_check_;
int cfg_target_user(const char *text, char **ret, struct err *e) _must_check_;
