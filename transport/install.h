/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/install.h - the receiver program on the target: put there once, checked at every
 * start, taken away by `clean`.
 *
 * It lives in ~/.cache/stager of the login user under a name that carries its version and
 * hash, so that different drivers do not get in each other's way.
 */
#include <stdbool.h>

#include "common/buf.h"
#include "common/bytes.h"
#include "common/error.h"

struct tp_exit;    /* transport/link.h */
struct tp_session; /* transport/session.h */

struct tp_receiver_opts {
	const char *local_path;  /* the static receiver on this host */
	const char *remote_path; /* one that the operator put on the target; NULL: ours is sent */
	const char *version;     /* of this build; letters, digits, dots, dashes */
};

/* Exit status of the start command when the program is not the one that was installed. */
#define TP_RECEIVER_CHANGED_STATUS 94

/*
 * Make sure that the exact receiver is on the target, and append the command that checks its
 * SHA-256 and starts it.  The command works under any login shell.  A target without
 * sha256sum is checked here, by reading the program back: then *ret_self_checking (NULL: not
 * wanted) is false, and this must be called before every start.  With remote_path nothing is
 * sent: the program there must run, and its hash is held from here on.
 *
 * -ERR_SSH: the target cannot run it, with the reason and the way out; else as for
 * tp_session_run() and for reading local_path.
 */
int tp_install_receiver(struct tp_session *s, const struct tp_receiver_opts *o,
			struct buf *ret_command, bool *ret_self_checking, struct err *e)
	_must_check_;

/*
 * The command that tp_install_receiver() would append, without asking the target: append it.
 * Where the receiver was never installed, was changed or cannot be hashed, it ends with
 * TP_RECEIVER_CHANGED_STATUS instead of starting anything.  -ENOTSUP: with remote_path, whose
 * hash is not known on this side; else as for reading local_path.
 */
int tp_receiver_command(const struct tp_receiver_opts *o, struct buf *ret_command, struct err *e)
	_must_check_;

/* Remove every receiver of ours, and the directory when it is empty then.  0 or negative. */
int tp_remove_receiver(struct tp_session *s, struct err *e) _must_check_;

/*
 * Say in words why a started receiver ended before it spoke: x and said as the link gives
 * them, got the first bytes of its output.  Returns -ERR_SSH.
 */
int tp_receiver_explain(const struct tp_exit *x, struct bytes said, struct bytes got,
			struct err *e);
