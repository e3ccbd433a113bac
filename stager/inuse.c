/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/inuse.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/io.h"

struct used {
	uint64_t dev, ino;
	atomic_bool told;
};

struct stg_inuse {
	struct used *v; /* sorted once all are found */
	size_t n, cap;
};

static int used_cmp(const void *a, const void *b)
{
	const struct used *x = a, *y = b;

	if (x->dev != y->dev)
		return x->dev < y->dev ? -1 : 1;
	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static struct used *find(const struct stg_inuse *set, uint64_t dev, uint64_t ino)
{
	struct used key = { .dev = dev, .ino = ino };

	return set && set->n ? bsearch(&key, set->v, set->n, sizeof(key), used_cmp) : NULL;
}

static int add(struct stg_inuse *set, uint64_t dev, uint64_t ino)
{
	if (set->n == set->cap) {
		size_t cap = set->cap ? set->cap * 2 : 256;
		struct used *v = reallocarray(set->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		set->v = v;
		set->cap = cap;
	}
	set->v[set->n++] = (struct used){ .dev = dev, .ino = ino };
	return 0;
}

static uint64_t dev_of(unsigned int maj, unsigned int min)
{
	return (uint64_t)maj << 32 | min;
}

static int add_stat(struct stg_inuse *set, const struct stat *st)
{
	if (!S_ISREG(st->st_mode))
		return 0;
	return add(set, dev_of(major(st->st_dev), minor(st->st_dev)), st->st_ino);
}

/* The link of a descriptor has write permission when the descriptor was opened for it. */
static int scan_fds(int pid_fd, struct stg_inuse *set)
{
	int fd = openat(pid_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;
	int r = 0;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	while (r == 0 && (d = readdir(dir))) {
		struct stat st;
		char to;

		if (d->d_name[0] == '.' ||
		    fstatat(fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !(st.st_mode & 0200))
			continue;
		/* Sockets, pipes and the like have no path. */
		if (readlinkat(fd, d->d_name, &to, 1) != 1 || to != '/')
			continue;
		if (fstatat(fd, d->d_name, &st, 0) == 0)
			r = add_stat(set, &st);
	}
	closedir(dir);
	return r;
}

/*
 * A line of maps: "start-end rw-s offset major:minor inode   /path".  The device there is
 * that of the file system, which on btrfs is not what stat tells, so the mapped file itself
 * is asked if that is allowed.
 */
static int scan_map(int pid_fd, const char *line, struct stg_inuse *set)
{
	const char *perms = strchr(line, ' ');
	unsigned long long start, end, ino;
	unsigned int maj, min;
	char link[64];
	struct stat st;

	/* Hardly any is such, and there are tens of thousands. */
	if (!perms || strnlen(perms, 5) < 5 || perms[2] != 'w' || perms[4] != 's')
		return 0;
	if (sscanf(line, "%llx-%llx %*4s %*x %x:%x %llu", &start, &end, &maj, &min, &ino) != 5 || !ino)
		return 0;
	snprintf(link, sizeof(link), "map_files/%llx-%llx", start, end);
	if (fstatat(pid_fd, link, &st, 0) == 0)
		return add_stat(set, &st);
	return add(set, dev_of(maj, min), ino);
}

static int scan_maps(int pid_fd, struct stg_inuse *set)
{
	int fd = openat(pid_fd, "maps", O_RDONLY | O_CLOEXEC);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	char *line = NULL;
	size_t room = 0;
	int r = 0;

	if (!f) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	while (r == 0 && getline(&line, &room, f) > 0)
		r = scan_map(pid_fd, line, set);
	free(line);
	fclose(f);
	return r;
}

static int scan_process(int procfd, const char *pid, struct stg_inuse *set)
{
	_cleanup_close_ int fd = openat(procfd, pid, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return 0; /* it has ended meanwhile */
	r = scan_fds(fd, set);
	return r < 0 ? r : scan_maps(fd, set);
}

static int scan_all(int procfd, struct stg_inuse *set)
{
	int fd = openat(procfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	long self = getpid();
	struct dirent *d;
	int r = 0;

	if (!dir) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	while (r == 0 && (d = readdir(dir)))
		if (d->d_name[0] >= '1' && d->d_name[0] <= '9' && atol(d->d_name) != self)
			r = scan_process(procfd, d->d_name, set);
	closedir(dir);
	return r;
}

int stg_inuse_scan(int procfd, struct stg_inuse **set, struct err *e)
{
	struct stg_inuse *old = *set, *new = calloc(1, sizeof(*new));
	int r = new ? scan_all(procfd, new) : -ENOMEM;

	if (r < 0) {
		stg_inuse_free(new);
		return err_sysn(e, r, "look for files in use");
	}
	if (new->n)
		qsort(new->v, new->n, sizeof(*new->v), used_cmp);
	for (size_t i = 0; old && i < old->n; i++) {
		struct used *u = old->v[i].told ? find(new, old->v[i].dev, old->v[i].ino) : NULL;

		if (u)
			u->told = true;
	}
	stg_inuse_free(old);
	*set = new;
	return 0;
}

void stg_inuse_free(struct stg_inuse *set)
{
	if (!set)
		return;
	free(set->v);
	free(set);
}

bool stg_inuse_has(const struct stg_inuse *set, uint64_t dev, uint64_t ino)
{
	return find(set, dev, ino) != NULL;
}

bool stg_inuse_tell(struct stg_inuse *set, uint64_t dev, uint64_t ino)
{
	struct used *u = find(set, dev, ino);

	return u && !atomic_exchange(&u->told, true);
}
