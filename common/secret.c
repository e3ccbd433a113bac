/* SPDX-License-Identifier: Apache-2.0 */
#include "common/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "common/io.h"

/* Lives in a mapping of its own: locked and kept out of core dumps as far as we may. */
struct secret {
	size_t n;
	char text[SECRET_MAX + 1];
};

static int secret_new(struct secret **ret, struct err *e)
{
	struct secret *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (s == MAP_FAILED)
		return err_set(e, -ENOMEM, "out of memory for a secret");
	/* Best effort: RLIMIT_MEMLOCK may be 0, and old kernels know no such advice. */
	(void)!mlock(s, sizeof(*s));
	(void)!madvise(s, sizeof(*s), MADV_DONTDUMP);
	*ret = s;
	return 0;
}

void secret_free(struct secret *s)
{
	if (!s)
		return;
	explicit_bzero(s, sizeof(*s));
	munmap(s, sizeof(*s));
}

struct bytes secret_view(const struct secret *s)
{
	return bytes_of(s->text, s->n);
}

const char *secret_text(const struct secret *s)
{
	return s->text;
}

/* Strip the newline and refuse what cannot be meant; what names the source. */
static int secret_settle(struct secret *s, const char *what, const char *name, struct err *e)
{
	if (s->n && s->text[s->n - 1] == '\n')
		s->text[--s->n] = '\0';
	if (s->n && s->text[s->n - 1] == '\r')
		s->text[--s->n] = '\0';
	if (!s->n)
		return err_set(e, -EINVAL, "%s %s is empty", what, name);
	if (s->n > SECRET_MAX - 1)
		return err_set(e, -EFBIG, "%s %s is longer than %d bytes", what, name,
			       SECRET_MAX - 1);
	if (memchr(s->text, '\0', s->n))
		return err_set(e, -EINVAL, "%s %s holds a NUL byte", what, name);
	return 0;
}

static int secret_check_owner(const struct stat *st, const char *path, struct err *e)
{
	if (st->st_uid != geteuid() && st->st_uid != 0)
		return err_set(e, -EPERM,
			       "secret file %s belongs to user %u, not to us (%u): run"
			       " 'chown %u %s; chmod 600 %s'",
			       path, st->st_uid, geteuid(), geteuid(), path, path);
	if (st->st_mode & 077)
		return err_set(e, -EPERM,
			       "secret file %s is open to others (mode %04o): run 'chmod 600 %s'",
			       path, st->st_mode & 07777, path);
	return 0;
}

/*
 * systemd keeps the directory closed and grants the service's user by an ACL, which shows as
 * group bits: only the bits of others count there.
 */
static int secret_check_credential(const struct stat *st, const char *path, struct err *e)
{
	if (st->st_mode & 007)
		return err_set(e, -EPERM, "credential %s is open to everybody (mode %04o)", path,
			       st->st_mode & 07777);
	return 0;
}

static int secret_read(int dirfd, const char *path, const char *what,
		       int (*check)(const struct stat *, const char *, struct err *),
		       struct secret **ret, struct err *e)
{
	_cleanup_(secret_freep) struct secret *s = NULL;
	_cleanup_close_ int fd = -1;
	struct stat st;
	ssize_t n;
	int r;

	fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return err_sys(e, "open %s %s", what, path);
	/* Ask the descriptor: between two looks at the path the file may be swapped. */
	if (fstat(fd, &st) < 0)
		return err_sys(e, "stat %s %s", what, path);
	if (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode))
		return err_set(e, -EINVAL, "%s %s is not a regular file", what, path);
	r = check(&st, path, e);
	if (r < 0)
		return r;
	r = secret_new(&s, e);
	if (r < 0)
		return r;
	n = io_read_full(fd, s->text, SECRET_MAX);
	if (n < 0)
		return err_sysn(e, (int)n, "read %s %s", what, path);
	s->n = (size_t)n;
	r = secret_settle(s, what, path, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(s);
	return 0;
}

int secret_from_file(int dirfd, const char *path, struct secret **ret, struct err *e)
{
	return secret_read(dirfd, path, "secret file", secret_check_owner, ret, e);
}

int secret_from_credential(const char *dir, const char *name, struct secret **ret,
			   struct err *e)
{
	_cleanup_close_ int dirfd = -1;

	if (!*name || strchr(name, '/'))
		return err_set(e, -EINVAL, "'%s' is no name of a credential", name);
	dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return err_sys(e, "open credentials directory %s", dir);
	return secret_read(dirfd, name, "credential", secret_check_credential, ret, e);
}

int secret_from_env(const char *name, const char *text, struct secret **ret, struct err *e)
{
	_cleanup_(secret_freep) struct secret *s = NULL;
	size_t n = strlen(text);
	int r;

	r = secret_new(&s, e);
	if (r < 0)
		return r;
	s->n = MIN(n, (size_t)SECRET_MAX);
	memcpy(s->text, text, s->n);
	r = secret_settle(s, "environment variable", name, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(s);
	return 0;
}
