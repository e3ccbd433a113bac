/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * tests/unit/chk_fixture.h - a temporary root directory for the checks, and a system that
 * answers what the test says.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checks/root.h"
#include "common/io.h"

struct fixture {
	char dir[40];
	struct chk_root root;
};

/* Make what is missing of the directories above the last component of path. */
static inline void fixture_parents(struct fixture *f, const char *path)
{
	for (const char *s = strchr(path, '/'); s; s = strchr(s + 1, '/')) {
		char part[512];

		snprintf(part, sizeof(part), "%.*s", (int)(s - path), path);
		if (mkdirat(f->root.fd, part, 0755) < 0 && errno != EEXIST)
			fail_msg("mkdir %s: %s", part, strerror(errno));
	}
}

static inline void fixture_bytes(struct fixture *f, const char *path, const void *p, size_t n)
{
	_cleanup_close_ int fd = -1;

	fixture_parents(f, path);
	fd = openat(f->root.fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	if (fd < 0 || io_write_all(fd, p, n) < 0)
		fail_msg("write %s: %s", path, strerror(errno));
}

static inline void fixture_write(struct fixture *f, const char *path, const char *text)
{
	fixture_bytes(f, path, text, strlen(text));
}

static inline void fixture_link(struct fixture *f, const char *path, const char *to)
{
	fixture_parents(f, path);
	if (symlinkat(to, f->root.fd, path) < 0)
		fail_msg("symlink %s: %s", path, strerror(errno));
}

static inline void fixture_mkdir(struct fixture *f, const char *path)
{
	fixture_parents(f, path);
	if (mkdirat(f->root.fd, path, 0755) < 0 && errno != EEXIST)
		fail_msg("mkdir %s: %s", path, strerror(errno));
}

static inline void fixture_empty_(int dirfd)
{
	struct chk_root root = { .fd = dirfd, .live = true };
	struct strlist names = { 0 };

	if (chk_list(&root, "", &names) < 0)
		fail_msg("list the fixture: %s", strerror(errno));
	for (size_t i = 0; i < names.n; i++) {
		_cleanup_close_ int fd =
			openat(dirfd, names.v[i], O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		if (fd >= 0)
			fixture_empty_(fd);
		if (unlinkat(dirfd, names.v[i], fd >= 0 ? AT_REMOVEDIR : 0) < 0)
			fail_msg("remove %s: %s", names.v[i], strerror(errno));
	}
	strlist_fini(&names);
}

static inline void fixture_clear(struct fixture *f)
{
	fixture_empty_(f->root.fd);
}

static inline int fixture_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err e = { 0 };

	if (!f)
		return -1;
	*state = f;
	strcpy(f->dir, "/tmp/test_checks.XXXXXX");
	return mkdtemp(f->dir) && chk_root_open(f->dir, &f->root, &e) == 0 ? 0 : -1;
}

static inline int fixture_teardown(void **state)
{
	struct fixture *f = *state;

	fixture_clear(f);
	chk_root_close(&f->root);
	rmdir(f->dir);
	free(f);
	return 0;
}
