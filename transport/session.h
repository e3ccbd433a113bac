/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/session.h - one authenticated SSH connection: a link to a program on the other
 * side, short commands, and small files over SFTP.
 *
 * A session belongs to one thread at a time; any number of sessions may be used at once, each
 * by its own.  No call blocks for longer than the timeouts below, except that the resolver has
 * its own when a name is looked up, and an ssh-agent has 20 s for each answer.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/buf.h"
#include "common/bytes.h"
#include "common/error.h"

struct secret;     /* common/secret.h */
struct tp_link;    /* transport/link.h */
struct tp_session; /* lives from tp_session_open() to tp_session_close() */

enum tp_host_key_policy {
	TP_HOST_KEY_STRICT,     /* an unknown host is refused */
	TP_HOST_KEY_ACCEPT_NEW, /* an unknown host is added to known_hosts; a changed one refused */
};

/* Zero means the default.  All but stop and pace is borrowed during tp_session_open() only. */
struct tp_session_opts {
	const char *host;
	uint16_t port;            /* 22 */
	const char *user;         /* who we run as */
	const char *identity;     /* private key; ~/.ssh/id_ed25519, id_ecdsa, id_rsa as they exist */
	const char *known_hosts;  /* ~/.ssh/known_hosts, then /etc/ssh/ssh_known_hosts */
	enum tp_host_key_policy host_key;
	const char *agent_socket; /* the value of SSH_AUTH_SOCK; no agent */
	const struct secret *password;   /* for password and keyboard-interactive; none */
	const struct secret *passphrase; /* of the identity; none */
	const char *ciphers;      /* comma-separated, best first; tp_session_ciphers */
	int connect_timeout_s;    /* 30: for the connection and handshake, and again for the login */
	int idle_timeout_s;       /* 60: a peer silent for this long is lost */
	int keepalive_s;          /* 15: silence after which the peer is asked for a sign of life */
	const atomic_bool *stop;  /* while true, no call waits for the peer, as if time were up */
	/*
	 * Told when the peer has greeted, before the handshake: no round trip takes longer than
	 * trip_ns, if the peer is not held up.  NULL: not wanted.
	 */
	void (*on_greeting)(void *arg, int64_t trip_ns);
	void *on_greeting_arg;
	/*
	 * Asked before up to want bytes of a file are put: how many may go now, 0: none yet, it
	 * is asked again.  NULL: all.  May pause for some time below a second; kept like stop.
	 */
	size_t (*pace)(void *arg, size_t want);
	void *pace_arg;
};

/*
 * The default orders, cut down at run time to what the installed libssh2 has.
 */
extern const char tp_session_ciphers[];
extern const char tp_session_macs[];

/* Prepare libssh2, once; tp_session_open() does it too.  0 or -ERR_SSH. */
int tp_session_global_init(struct err *e) _must_check_;

/*
 * Connect, verify the host key, log in.  -ERR_CONNECT, -ERR_CONNECT_TIMEOUT: no connection
 * (the latter also for a peer that accepts and says nothing); -ERR_HANGUP: it accepts and hangs
 * up; -ERR_SSH: handshake, host key or login; -ENOMEM.  The text begins with user@host:port and
 * ends with what to do.
 */
int tp_session_open(const struct tp_session_opts *o, struct tp_session **ret, struct err *e)
	_must_check_;

/* Ends its link as well; at most 5 seconds.  NULL is fine. */
void tp_session_close(struct tp_session *s);

static inline void tp_session_closep(struct tp_session **s)
{
	tp_session_close(*s);
}

const char *tp_session_peer(const struct tp_session *s);    /* "user@host:port" */
const char *tp_session_methods(const struct tp_session *s); /* "kex K, cipher C, mac M, host key H" */

/* All bytes that crossed the network for this session so far. */
void tp_session_wire_bytes(const struct tp_session *s, uint64_t *ret_read, uint64_t *ret_written);

/*
 * Run command (for the user's login shell) on the session's one long-lived channel.  first,
 * what it is to read first, goes out right behind it: that saves a round trip.  *ret belongs to the session and must not be used after it is closed; closing the link leaves the
 * session usable, and then a next one can be made.  -EBUSY: there is one already; -ERR_SSH:
 * the server refuses; -ERR_LOST.
 */
int tp_session_exec(struct tp_session *s, const char *command, struct bytes first,
		    struct tp_link **ret, struct err *e) _must_check_;

/*
 * Run command to its end on a channel of its own, with input (empty: none) as stdin.  The
 * first max bytes of stdout and of stderr are appended to out and errout (NULL: not wanted);
 * what goes beyond is thrown away.  *ret_status: the exit status, or 128 + 1 with "killed by
 * signal NAME" appended to errout.  -ETIMEDOUT: not done in timeout_s (0: 60), the channel is
 * closed; -ERR_SSH; -ERR_LOST.
 */
int tp_session_run(struct tp_session *s, const char *command, struct bytes input,
		   struct buf *out, struct buf *errout, size_t max, int timeout_s,
		   int *ret_status, struct err *e) _must_check_;

/*
 * Write a file over SFTP: beside its place, then renamed.  Missing directories are made with
 * mode 0700.  -ENOENT, -EACCES, -ENOSPC, -EIO as the server tells (OpenSSH tells -EIO for most);
 * -EOPNOTSUPP: no SFTP there; -ERR_LOST.
 */
int tp_session_put(struct tp_session *s, const char *path, struct bytes content, mode_t mode,
		   struct err *e) _must_check_;

/* Append a whole file, at most max bytes (-EFBIG beyond).  Errors as for put. */
int tp_session_get(struct tp_session *s, const char *path, size_t max, struct buf *out,
		   struct err *e) _must_check_;
