/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths come in runs: a directory, then the directories in it.  So a path is looked up by
 * its hash among the open ones, and one that must be made starts from its nearest ancestor
 * that is open.
 */
#include "transport/receive/dirs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "common/io.h"
#include "common/text.h"
#include "transport/receive/lock.h"

#define DIRS_MAX      64
#define ANCESTORS_MAX 8  /* levels looked up in the cache before starting at the root */
#define STEP_TRIES    16 /* races with other sessions that make or replace the same name */

struct rcv_dirs {
	int rootfd;
	bool super;
	uint64_t clock;
	struct rcv_dev *devs;
	struct rcv_dir *held[DIRS_MAX];
};

static uint64_t path_hash(struct bytes path)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < path.n; i++)
		h = (h ^ path.p[i]) * 0x100000001b3u;
	return h;
}

int rcv_dirs_new(int rootfd, bool super, struct rcv_dirs **ret, struct err *e)
{
	struct rcv_dirs *d = calloc(1, sizeof(*d));

	if (!d)
		return err_set(e, -ENOMEM, "out of memory");
	d->rootfd = rootfd;
	d->super = super;
	*ret = d;
	return 0;
}

void rcv_dirs_free(struct rcv_dirs *d)
{
	if (!d)
		return;
	for (size_t i = 0; i < DIRS_MAX; i++)
		rcv_dir_put(d->held[i]);
	while (d->devs) {
		struct rcv_dev *dev = d->devs;

		d->devs = dev->next;
		close(dev->fd);
		free(dev);
	}
	free(d);
}

struct rcv_dir *rcv_dir_ref(struct rcv_dir *dir)
{
	dir->refs++;
	return dir;
}

void rcv_dir_put(struct rcv_dir *dir)
{
	if (!dir || --dir->refs)
		return;
	close(dir->fd);
	free(dir);
}

bool rcv_dir_gone(const struct rcv_dir *dir)
{
	struct stat st;

	return fstat(dir->fd, &st) == 0 && st.st_nlink == 0;
}

bool rcv_dir_lost(const struct rcv_dir *dir, int code)
{
	return (code == -ENOENT || code == -EPERM || code == -EACCES) && rcv_dir_gone(dir);
}

static struct rcv_dir **find(struct rcv_dirs *d, struct bytes path)
{
	uint64_t h = path_hash(path);

	for (size_t i = 0; i < DIRS_MAX; i++) {
		struct rcv_dir *dir = d->held[i];

		if (dir && dir->hash == h && bytes_eq(bytes_of(dir->path, dir->path_bytes), path))
			return &d->held[i];
	}
	return NULL;
}

static void drop(struct rcv_dir **slot)
{
	rcv_dir_put(*slot);
	*slot = NULL;
}

static void keep(struct rcv_dirs *d, struct rcv_dir *dir)
{
	struct rcv_dir **at = &d->held[0];

	for (size_t i = 0; i < DIRS_MAX; i++) {
		if (!d->held[i]) {
			at = &d->held[i];
			break;
		}
		if (d->held[i]->used < (*at)->used)
			at = &d->held[i];
	}
	rcv_dir_put(*at);
	*at = rcv_dir_ref(dir);
}

static struct rcv_dev *dev_of(struct rcv_dirs *d, int fd, dev_t id)
{
	struct rcv_dev *dev;

	for (dev = d->devs; dev; dev = dev->next)
		if (dev->dev == id)
			return dev;
	dev = calloc(1, sizeof(*dev));
	if (!dev)
		return NULL;
	dev->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (dev->fd < 0) {
		free(dev);
		return NULL;
	}
	dev->dev = id;
	dev->next = d->devs;
	d->devs = dev;
	return dev;
}

/* An owner without superpowers gives itself the permission; DIRMETA takes it back. */
static bool let_me_in(const struct rcv_dirs *d, int fd, const char *name)
{
	struct stat st;

	return !d->super && fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISDIR(st.st_mode) && st.st_uid == geteuid() && (st.st_mode & 0700) != 0700 &&
	       fchmodat(fd, name, (st.st_mode & 07777) | 0700, 0) == 0;
}

/* What is in the way goes, if it can.  True: worth another try. */
static bool step_clear(int fd, const char *name)
{
	if (unlinkat(fd, name, 0) == 0 || errno == ENOENT || errno == EISDIR)
		return true;
	if (errno != EPERM)
		return false;
	if (rcv_unlock(fd, name) > 0 || rcv_unlock(fd, ".") > 0)
		return true;
	errno = EPERM;
	return false;
}

static bool step_make(int fd, const char *name)
{
	if (mkdirat(fd, name, 0700) == 0 || errno == EEXIST)
		return true;
	if (errno != EPERM)
		return false;
	if (rcv_unlock(fd, ".") > 0)
		return true;
	errno = EPERM;
	return false;
}

/* One component: open it, made if need be. */
static int step(const struct rcv_dirs *d, int fd, const char *name, int flags)
{
	for (int i = 0; i < STEP_TRIES; i++) {
		int next = openat(fd, name,
				  flags | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		bool again = false;

		if (next >= 0)
			return next;
		if (errno == ENOENT)
			again = step_make(fd, name);
		else if (errno == ENOTDIR || errno == ELOOP)
			again = step_clear(fd, name);
		else if (errno == EACCES)
			again = let_me_in(d, fd, name) || let_me_in(d, fd, ".");
		if (!again)
			return -errno;
	}
	return -EAGAIN;
}

static int walk(const struct rcv_dirs *d, int from, struct bytes rest)
{
	int fd = from;

	for (;;) {
		const uint8_t *slash = memchr(rest.p, '/', rest.n);
		struct bytes name = bytes_of(rest.p, slash ? (size_t)(slash - rest.p) : rest.n);
		struct rcv_name n;
		int next;

		rcv_name_of(name, &n);
		next = step(d, fd, n.s, slash ? O_PATH : O_RDONLY);
		if (fd != from)
			close(fd);
		if (next < 0 || !slash)
			return next;
		fd = next;
		rest = bytes_of(slash + 1, rest.n - name.n - 1);
	}
}

/* path, from the nearest directory above it that is open; else one call opens its parent. */
static int walk_from_ancestor(struct rcv_dirs *d, struct bytes path)
{
	_cleanup_close_ int parent = -1;
	struct bytes up = path;
	const uint8_t *last;
	int r;

	for (int i = 0; i < ANCESTORS_MAX; i++) {
		const uint8_t *slash = up.n ? memrchr(up.p, '/', up.n) : NULL;
		struct rcv_dir **dir;

		if (!slash)
			break;
		up.n = (size_t)(slash - up.p);
		dir = find(d, up);
		if (!dir)
			continue;
		r = walk(d, (*dir)->fd, bytes_of(slash + 1, path.n - up.n - 1));
		if (r != -ENOENT)
			return r;
		drop(dir); /* it was removed */
	}
	last = memrchr(path.p, '/', path.n);
	if (last)
		parent = io_open_dir_below(d->rootfd, bytes_of(path.p, (size_t)(last - path.p)),
					   O_PATH);
	if (parent >= 0) {
		r = walk(d, parent, bytes_of(last + 1, path.n - (size_t)(last + 1 - path.p)));
		if (r != -ENOENT)
			return r;
	}
	return walk(d, d->rootfd, path);
}

static int open_path(struct rcv_dirs *d, struct bytes path, bool create)
{
	int fd = io_open_dir_below(d->rootfd, path, O_RDONLY);

	/* Most are there already when they are entered again, for their metadata. */
	return fd < 0 && create && path.n ? walk_from_ancestor(d, path) : fd;
}

static const char *op_of(bool create)
{
	return create ? "mkdir" : "open directory";
}

static int open_fresh(struct rcv_env *v, struct bytes path, bool create, struct rcv_dir **ret)
{
	_cleanup_close_ int fd = -1;
	char name[TEXT_NAME_MAX];
	struct rcv_dir *dir;
	struct stat st;

	if (rcv_own_path(path))
		return rcv_fail(v, -EPERM, op_of(create), TP_OWN_DIR " is not synced");
	fd = open_path(v->dirs, path, create);
	if (fd < 0 || fstat(fd, &st) < 0) {
		int code = fd < 0 ? fd : -errno;

		return rcv_fail(v, code, op_of(create), "%s: %s", text_name(name, path),
				strerror(-code));
	}
	dir = malloc(sizeof(*dir) + path.n + 1);
	if (!dir)
		return rcv_fail(v, -ENOMEM, op_of(create), "out of memory");
	*dir = (struct rcv_dir){ .refs = 1, .create = create, .path_bytes = path.n };
	dir->dev = dev_of(v->dirs, fd, st.st_dev);
	if (!dir->dev) {
		free(dir);
		return rcv_fail(v, -ENOMEM, op_of(create), "out of memory or descriptors");
	}
	dir->hash = path_hash(path);
	if (path.n)
		memcpy(dir->path, path.p, path.n);
	dir->path[path.n] = '\0';
	dir->fd = TAKE_FD(fd);
	*ret = dir;
	return 0;
}

int rcv_dirs_get(struct rcv_env *v, struct bytes path, bool create, struct rcv_dir **ret)
{
	struct rcv_dirs *d = v->dirs;
	struct rcv_dir **at = find(d, path);
	struct rcv_dir *dir;
	int r;

	if (at && !rcv_dir_gone(*at)) {
		dir = rcv_dir_ref(*at);
	} else {
		if (at)
			drop(at);
		r = open_fresh(v, path, create, &dir);
		if (r < 0)
			return r;
		keep(d, dir);
	}
	dir->used = ++d->clock;
	dir->create |= create;
	*ret = dir;
	return 0;
}

/* Another session may have given the directory its final group, mode or ACL since we looked. */
static int settle(struct rcv_env *v, struct rcv_dir *dir)
{
	if (fchdir(dir->fd) < 0)
		return rcv_fail_sys(v, "chdir", dir->path);
	dir->born_known = false;
	dir->default_acl = getxattr(".", "system.posix_acl_default", NULL, 0) > 0;
	return 0;
}

int rcv_dirs_enter(struct rcv_env *v, struct bytes path, bool create)
{
	struct rcv_dir *dir;
	int r;

	rcv_dir_put(TAKE_PTR(v->cur));
	r = rcv_dirs_get(v, path, create, &dir);
	if (r == 0) {
		r = settle(v, dir);
		if (r < 0)
			rcv_dir_put(dir);
	}
	if (r < 0) {
		v->cur_fault = v->fault;
		return r;
	}
	if (create && !v->super)
		let_me_in(v->dirs, dir->fd, ".");
	v->cur = dir;
	return 0;
}

void rcv_dirs_forget(struct rcv_dirs *d)
{
	for (size_t i = 0; i < DIRS_MAX; i++)
		if (d->held[i])
			drop(&d->held[i]);
}

int rcv_dir_renew(struct rcv_env *v, struct rcv_dir **dir)
{
	bool current = *dir == v->cur;
	struct rcv_dir *fresh;
	int r;

	r = rcv_dirs_get(v, bytes_of((*dir)->path, (*dir)->path_bytes), (*dir)->create, &fresh);
	if (r < 0)
		return r;
	if (current) {
		r = settle(v, fresh);
		if (r < 0) {
			rcv_dir_put(fresh);
			return r;
		}
		if (dir != &v->cur) {
			rcv_dir_put(v->cur);
			v->cur = rcv_dir_ref(fresh);
		}
	}
	rcv_dir_put(*dir);
	*dir = fresh;
	return 0;
}

void rcv_dirs_stale(struct rcv_env *v, struct bytes path)
{
	struct rcv_dir **at = find(v->dirs, path);

	if (at)
		(*at)->born_known = false;
	if (v->cur && bytes_eq(bytes_of(v->cur->path, v->cur->path_bytes), path)) {
		v->cur->born_known = false;
		v->cur->default_acl = getxattr(".", "system.posix_acl_default", NULL, 0) > 0;
	}
}

int rcv_dirs_sync(struct rcv_env *v, struct err *e)
{
	if (syncfs(v->rootfd) < 0)
		return err_sys(e, "sync the target root");
	for (struct rcv_dev *dev = v->dirs->devs; dev; dev = dev->next)
		if (syncfs(dev->fd) < 0)
			return err_sys(e, "sync a file system of the target");
	return 0;
}
