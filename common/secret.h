/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * common/secret.h - passwords and keys: read with care, locked in memory, wiped when freed.
 *
 * No function here puts a secret into an error text, and nothing prints one.
 */
#include "common/bytes.h"
#include "common/error.h"

#define SECRET_MAX 8192 /* bytes, without the terminating NUL */

struct secret;

/*
 * Read path below dirfd (AT_FDCWD for none).  It must be ours or root's and closed to
 * everybody else; one trailing newline is stripped.  -EPERM: open to others or another
 * user's; -EINVAL: empty, or it holds a NUL byte; -EFBIG; else as open(2).
 */
int secret_from_file(int dirfd, const char *path, struct secret **ret, struct err *e)
	_must_check_;

/*
 * Read the credential name from dir, the directory that systemd made for this service
 * ($CREDENTIALS_DIRECTORY, which main looks up).  -ENOENT: there is none of that name.
 */
int secret_from_credential(const char *dir, const char *name, struct secret **ret,
			   struct err *e) _must_check_;

/* Copy text, the value of the environment variable name (which is used in messages only). */
int secret_from_env(const char *name, const char *text, struct secret **ret, struct err *e)
	_must_check_;

void secret_free(struct secret *s); /* NULL is fine */

/* Borrowed until secret_free(); secret_text() is NUL-terminated and holds no other NUL. */
struct bytes secret_view(const struct secret *s);
const char *secret_text(const struct secret *s);

static inline void secret_freep(struct secret **s)
{
	secret_free(*s);
}
