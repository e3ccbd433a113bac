/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/known_hosts.h - what OpenSSH's known_hosts files say about a host (sshd(8), SSH_KNOWN_HOSTS
 * FILE FORMAT).
 *
 * This is the parser alone: it reads text, knows nothing of connections, and leaves the
 * HMAC-SHA1 of hashed names to a function of its caller.
 */
#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/bytes.h"

#define TP_FINGERPRINT_SIZE 56 /* "SHA256:", 43 digits, the NUL */
#define TP_KEY_TYPE_SIZE 64

struct tp_known_host {
	const char *host; /* name or address as the operator gave it */
	uint16_t port;
	/* True when the base64 texts salt and hash are the hashed form of name. */
	bool (*hashed)(void *arg, const char *salt, const char *hash, const char *name);
	void *arg;
};

/* In order of weight: of several files the greatest counts. */
enum tp_known_verdict {
	TP_KNOWN_NONE,    /* no line for this host */
	TP_KNOWN_CHANGED, /* lines for this host, none with this key */
	TP_KNOWN_MATCH,
	TP_KNOWN_REVOKED, /* a @revoked line has this very key */
};

struct tp_known_answer {
	enum tp_known_verdict verdict;
	unsigned line;                         /* 1..: the line that decided */
	char type[TP_KEY_TYPE_SIZE];           /* of the key on that line */
	char fingerprint[TP_FINGERPRINT_SIZE]; /* likewise; empty when it is no base64 */
};

/*
 * Judge key (the blob that the server sent).  A line of the same key type is named in
 * preference to one of another type when the verdict is TP_KNOWN_CHANGED.  Lines that cannot
 * be read, and @cert-authority lines, say nothing.
 */
struct tp_known_answer tp_known_check(struct bytes text, const struct tp_known_host *h,
				      struct bytes key);

/* Append the key types known for h, each once and followed by a comma.  0 or -ENOMEM. */
int tp_known_types(struct bytes text, const struct tp_known_host *h, struct buf *out)
	_must_check_;

/* Append the line, with its newline, that makes key known for h.  0, -ENOMEM or -EINVAL. */
int tp_known_line(struct buf *out, const struct tp_known_host *h, struct bytes key)
	_must_check_;

/* The name that lines for h use: "host" in lower case, or "[host]:port" off port 22. */
int tp_known_name(struct buf *out, const struct tp_known_host *h) _must_check_;

/* The type that a key blob begins with ("ssh-ed25519"); "" when it is malformed. */
const char *tp_key_type(char out[TP_KEY_TYPE_SIZE], struct bytes key);

/* "SHA256:..." as ssh-keygen -l prints it.  Returns out. */
const char *tp_key_fingerprint(char out[TP_FINGERPRINT_SIZE], struct bytes key);

/* Append the bytes that base64 text stands for.  0, -EINVAL or -ENOMEM. */
int tp_base64_decode(struct buf *out, struct bytes text) _must_check_;
