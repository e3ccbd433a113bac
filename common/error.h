/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * common/error.h - an error a caller owns: a code it can act on and a text a person reads.
 *
 * A function that can fail returns 0 (or a documented count) or a negative code, and fills
 * the struct err of its caller.  The code is -errno, or one of the named ones below.  No
 * memory is allocated, so being out of memory can be told too.
 */
#include <stddef.h>

#include "common/macro.h"

#define ERR_TEXT_MAX 1024

/*
 * Failures that errno has no name for.  They are outside of errno's range, and each maps
 * to one exit code of the programs (stager(1), EXIT STATUS).
 */
enum err_code {
	ERR_USAGE = 10001,  /* bad option, config key or value */
	ERR_VERSION,        /* the peer speaks no version of the protocol that we do */
	ERR_SELECT,         /* cannot select the input: no such source, bad filter file */
	ERR_SSH,            /* handshake, host key, authentication, starting the receiver */
	ERR_CONNECT,        /* no connection could be made: refused, unreachable, no such host */
	ERR_CONNECT_TIMEOUT,/* no answer to the connection attempt in time */
	ERR_LOST,           /* a connection that stood has ended or has gone silent */
	ERR_PROTOCOL,       /* the peer sent what the protocol does not allow */
	ERR_FORBIDDEN,      /* a check forbids it: say, incremental before full */
	ERR_HOOK,           /* a hook failed */
	ERR_LOCKED,         /* another run holds the lock */
	ERR_CANCELLED,      /* a signal asked us to stop */
	ERR_AUTH,           /* keys, certificates, permissions of the control plane */
	ERR_POSTCHECK,      /* the target did not pass the postcheck */
	ERR_HANGUP,         /* who answers at the SSH port hangs up before a handshake is done */
	ERR_CLOUD,          /* a cloud service refused, or a cloud task failed */
};

struct err {
	int code; /* negative, 0: no error */
	char text[ERR_TEXT_MAX];
};

/* Fill e (NULL is fine) and return code.  The text says what happened, to what. */
int err_set(struct err *e, int code, const char *fmt, ...) _printf_(3, 4);

/* As err_set() with code -errno, and strerror(errno) appended after a colon. */
int err_sys(struct err *e, const char *fmt, ...) _printf_(2, 3);

/* As err_sys() for a negative errno value that a call returned. */
int err_sysn(struct err *e, int code, const char *fmt, ...) _printf_(3, 4);

/* Put "who wanted this: " in front of e's text; returns code. */
int err_ctx(struct err *e, int code, const char *fmt, ...) _printf_(3, 4);

/* The symbolic name of an errno value ("ENOSPC"), or "ERROR" when it has none. */
const char *err_name(int errnum);

/* The exit status of the programs for a negative code; 0 for 0. */
int err_exit_status(int code);
