/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/ssh.h - connections to the target as the options say: sessions with a receiver at
 * their far end, and single commands.
 */
#include "common/buf.h"
#include "common/bytes.h"
#include "common/error.h"
#include "stager/run.h"

struct stg_bwlimit;
struct stg_hook_result;
struct stg_options;
struct stg_ssh;

/*
 * prefix: where the programs are installed (the parent of bin/).  bwlimit holds for the
 * upload of the receiver; NULL: none.  All are borrowed.
 */
int stg_ssh_new(const struct stg_options *opt, const char *prefix, struct stg_bwlimit *bwlimit,
		struct stg_ssh **ret, struct err *e) _must_check_;
void stg_ssh_free(struct stg_ssh *s); /* NULL is fine */

/* For struct stg_run; borrowed. */
struct stg_connector *stg_ssh_connector(struct stg_ssh *s);

/* Run a command on the target, as stg_hook_run() does on the source. */
int stg_ssh_command(struct stg_ssh *s, const char *step, const char *command,
		    unsigned timeout_s, struct buf *output, struct stg_hook_result *ret,
		    struct err *e) _must_check_;

/* Remove the uploaded receivers from the target. */
int stg_ssh_clean(struct stg_ssh *s, struct err *e) _must_check_;
