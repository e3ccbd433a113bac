/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/receive/node.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/io.h"
#include "transport/hash.h"
#include "transport/receive/copy.h"
#include "transport/receive/dirs.h"
#include "transport/receive/file.h"
#include "transport/receive/lock.h"
#include "transport/receive/metaset.h"
#include "transport/receive/place.h"

static int refuse_own(struct rcv_env *v)
{
	return rcv_fail(v, -EPERM, "write", TP_OWN_DIR " is not synced");
}

static int stale(struct rcv_env *v, const char *why)
{
	return rcv_fail(v, -(int)TP_E_STALE, "set metadata", "%s", why);
}

/* The target of a link that is there, borrowed until the next call. */
static int link_target(struct rcv_env *v, const char *name, struct bytes *ret)
{
	ssize_t n;

	buf_clear(&v->text);
	if (buf_reserve(&v->text, TP_TARGET_MAX) < 0)
		return rcv_fail(v, -ENOMEM, "readlink", "out of memory");
	n = readlinkat(v->cur->fd, name, (char *)v->text.p, TP_TARGET_MAX);
	if (n < 0)
		return rcv_fail_sys(v, "readlink", name);
	*ret = bytes_of(v->text.p, (size_t)n);
	return 0;
}

/* 1: what is there is the thing that meta names, metadata aside; 0: it is not. */
static int same_thing(struct rcv_env *v, const char *name, const struct statx *have,
		      const struct tp_meta *want)
{
	struct bytes target = { 0 };
	int r;

	if ((have->stx_mode & S_IFMT) != (want->mode & S_IFMT))
		return 0;
	switch (want->mode & S_IFMT) {
	case S_IFREG:
		return have->stx_size == want->size;
	case S_IFCHR:
	case S_IFBLK:
		return have->stx_rdev_major == want->rdev_major &&
		       have->stx_rdev_minor == want->rdev_minor;
	case S_IFLNK:
		r = link_target(v, name, &target);
		return r < 0 ? r : bytes_eq(target, want->target);
	default:
		return 1;
	}
}

static int make_link(struct rcv_env *v, const char *name, struct bytes target)
{
	const char *text;

	if (!target.n || memchr(target.p, '\0', target.n)) {
		errno = EINVAL;
		return -1;
	}
	buf_clear(&v->text);
	if (buf_put_bytes(&v->text, target) < 0 || !(text = buf_cstr(&v->text))) {
		errno = ENOMEM;
		return -1;
	}
	return symlinkat(text, v->cur->fd, name);
}

static int make_bare(struct rcv_env *v, const char *name, const struct tp_meta *meta)
{
	mode_t type = meta->mode & S_IFMT;
	int r;

	/* The kernel keeps 12 and 20 bits; a larger number would name another device. */
	if (meta->rdev_major > 0xfff || meta->rdev_minor > 0xfffff) {
		errno = EINVAL;
		return -1;
	}
	for (int i = 0; i < 2; i++) {
		if (type == S_IFLNK)
			r = make_link(v, name, meta->target);
		else
			r = mknodat(v->cur->fd, name, type | 0600,
				    makedev(meta->rdev_major, meta->rdev_minor));
		if (r == 0 || errno != EPERM || rcv_unlock(v->cur->fd, ".") <= 0)
			return r;
		errno = EPERM;
	}
	return r;
}

static const char *make_op(mode_t mode)
{
	return S_ISLNK(mode) ? "symlink" : "mknod";
}

/* Beside the name, then over it: the old thing is there until the new one is complete. */
static int replace_node(struct rcv_env *v, const char *name, const struct tp_meta *meta)
{
	struct rcv_obj o = { .fd = -1 };
	char temp[RCV_TEMP_MAX];
	int r;

	do {
		rcv_temp_name(v, temp);
		r = make_bare(v, temp, meta);
	} while (r < 0 && errno == EEXIST);
	if (r < 0)
		return rcv_fail_sys(v, make_op(meta->mode), name);
	o.name = temp;
	r = rcv_meta_settle(v, &o, meta);
	if (r == 0)
		return rcv_place_temp(v, v->cur, temp, name);
	unlinkat(v->cur->fd, temp, 0);
	return r;
}

static int make_node(struct rcv_env *v, const char *name, const struct tp_meta *meta)
{
	struct rcv_obj o = { .fd = -1, .name = name };

	if (make_bare(v, name, meta) == 0)
		return rcv_meta_settle(v, &o, meta);
	if (errno == EEXIST)
		return replace_node(v, name, meta);
	return rcv_fail_sys(v, make_op(meta->mode), name);
}

static int make_new(struct rcv_env *v, const struct tp_entry *m, const char *name, bool there)
{
	if (S_ISREG(m->meta.mode))
		return rcv_file_whole(v, m);
	return there ? replace_node(v, name, &m->meta) : make_node(v, name, &m->meta);
}

int rcv_node_entry(struct rcv_env *v, const struct tp_entry *m)
{
	struct rcv_obj o = { .fd = -1 };
	struct rcv_name name;
	struct bytes xattrs;
	struct statx have;
	unsigned diff;
	int r;

	rcv_name_of(m->name, &name);
	if (rcv_own_name(v->cur, name.s))
		return refuse_own(v);
	if (S_ISREG(m->meta.mode) && m->meta.size)
		return rcv_fail(v, -(int)TP_E_MISMATCH, "create", "its content is missing");
	o.name = name.s;
	r = rcv_meta_look(v, &o, &have);
	if (r == -ENOENT)
		return make_new(v, m, name.s, false);
	if (r < 0)
		return r;
	r = same_thing(v, name.s, &have, &m->meta);
	if (r <= 0)
		return r < 0 ? r : make_new(v, m, name.s, true);
	r = rcv_meta_xattrs(v, &o, &xattrs);
	if (r < 0)
		return r;
	diff = rcv_meta_diff(v, &have, xattrs, &m->meta);
	if (!diff)
		return 0;
	/* Its other names may belong to somebody else. */
	if (have.stx_nlink > 1)
		return make_new(v, m, name.s, true);
	return rcv_meta_fix(v, &o, &have, xattrs, &m->meta, diff);
}

static int check_hash(struct rcv_env *v, const char *name, const struct tp_entry *m)
{
	_cleanup_close_ int fd = -1;
	struct tp_hash_value got;
	struct err e = { 0 };
	uint64_t size;

	fd = openat(v->cur->fd, name,
		    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return rcv_fail_sys(v, "open", name);
	if (m->meta.size > RCV_SCRATCH_BYTES)
		rcv_calm(v);
	if (tp_hash_fd(v->hash, fd, v->scratch, RCV_SCRATCH_BYTES, &size, &got, &e) < 0)
		return rcv_fail(v, e.code, "read", "%s", e.text);
	if (size != m->meta.size || memcmp(&got, &m->hash, sizeof(got)) != 0)
		return stale(v, "the content differs");
	return 0;
}

int rcv_node_meta(struct rcv_env *v, const struct tp_entry *m, bool with_hash)
{
	struct rcv_obj o = { .fd = -1 };
	struct rcv_name name;
	struct bytes xattrs;
	struct statx have;
	unsigned diff;
	int r;

	rcv_name_of(m->name, &name);
	if (rcv_own_name(v->cur, name.s))
		return refuse_own(v);
	o.name = name.s;
	r = rcv_meta_look(v, &o, &have);
	if (r < 0)
		return r;
	r = same_thing(v, name.s, &have, &m->meta);
	if (r <= 0)
		return r < 0 ? r : stale(v, "type, size or link target differ");
	if (with_hash && S_ISREG(m->meta.mode)) {
		r = check_hash(v, name.s, m);
		if (r < 0)
			return r;
	}
	if (have.stx_nlink > MAX(m->links, 1u))
		return S_ISREG(m->meta.mode) ?
			       rcv_copy_private(v, name.s, have.stx_size, &m->meta) :
			       replace_node(v, name.s, &m->meta);
	r = rcv_meta_xattrs(v, &o, &xattrs);
	if (r < 0)
		return r;
	diff = rcv_meta_diff(v, &have, xattrs, &m->meta);
	return diff ? rcv_meta_fix(v, &o, &have, xattrs, &m->meta, diff) : 0;
}

/*
 * Link, taking off what forbids it.  *flags collects the flags that the inode has lost.
 * 0 or -errno.
 */
static int try_link(struct rcv_env *v, const struct rcv_dir *from, const char *old,
		    const char *name, uint32_t *flags)
{
	int r;

	if (linkat(from->fd, old, v->cur->fd, name, 0) == 0)
		return 0;
	if (errno != EPERM)
		return -errno;
	r = rcv_unlock(from->fd, old);
	if (r > 0)
		*flags |= (uint32_t)r;
	if (rcv_unlock(v->cur->fd, ".") <= 0 && r <= 0)
		return -EPERM;
	return linkat(from->fd, old, v->cur->fd, name, 0) < 0 ? -errno : 0;
}

static int link_over(struct rcv_env *v, const struct rcv_dir *from, const char *old,
		     const char *name, uint32_t *flags)
{
	char temp[RCV_TEMP_MAX];
	int r;

	do {
		rcv_temp_name(v, temp);
		r = try_link(v, from, old, temp, flags);
	} while (r == -EEXIST);
	if (r < 0)
		return r;
	r = rcv_place_temp(v, v->cur, temp, name);
	/* Of two names of one inode rename() takes none away: another session was faster. */
	if (r == 0)
		rcv_temp_drop(v->cur, temp);
	return r;
}

/* Give an entry its inode flags back. */
static void relock(struct rcv_env *v, const struct rcv_dir *dir, const char *name,
		   uint32_t flags)
{
	int r = rcv_flags_set_at(dir->fd, name, flags);

	if (r < 0) {
		errno = -r;
		rcv_warn_sys(v, "set inode flags", name);
	}
}

static int link_names(struct rcv_env *v, const struct rcv_dir *from, const char *old,
		      const char *name)
{
	struct statx a, b;
	uint32_t flags = 0;
	int r;

	if (statx(from->fd, old, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &a) < 0)
		return rcv_fail_sys(v, "link", old);
	if (statx(v->cur->fd, name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &b) == 0 &&
	    a.stx_ino == b.stx_ino && a.stx_dev_major == b.stx_dev_major &&
	    a.stx_dev_minor == b.stx_dev_minor)
		return 0;
	v->fault.code = 0;
	r = try_link(v, from, old, name, &flags);
	if (r == -EEXIST)
		r = link_over(v, from, old, name, &flags);
	if (flags)
		relock(v, from, old, flags);
	if (r < 0 && v->fault.code != r) {
		errno = -r;
		rcv_fail_sys(v, "link", name);
	}
	return r;
}

/* Rename, never over something.  0 or -errno. */
static int try_move(const struct rcv_env *v, const struct rcv_dir *from, const char *old,
		    const char *name)
{
	struct stat st;

	if (renameat2(from->fd, old, v->cur->fd, name, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	/* The file system cannot look and rename in one step; nobody else makes this name. */
	if (fstatat(v->cur->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	return renameat(from->fd, old, v->cur->fd, name) < 0 ? -errno : 0;
}

/* D gives both directories their metadata again, for their times: locks come back then. */
static int move_names(struct rcv_env *v, const struct rcv_dir *from, const char *old,
		      const char *name)
{
	int flags = 0, r = try_move(v, from, old, name);

	if (r == -EPERM) {
		bool unlocked = rcv_unlock(from->fd, ".") > 0;

		unlocked |= rcv_unlock(v->cur->fd, ".") > 0;
		flags = rcv_unlock(from->fd, old);
		if (unlocked || flags > 0)
			r = try_move(v, from, old, name);
	}
	if (flags > 0)
		relock(v, r == 0 ? v->cur : from, r == 0 ? name : old, (uint32_t)flags);
	if (r == 0)
		return 0;
	errno = -r;
	return rcv_fail_sys(v, "move", name);
}

static int with_old_name(struct rcv_env *v, const struct tp_link_msg *m,
			 int (*act)(struct rcv_env *v, const struct rcv_dir *from, const char *old,
				    const char *name))
{
	struct rcv_name old, name;
	struct rcv_dir *from;
	int r;

	rcv_name_of(m->from, &old);
	rcv_name_of(m->name, &name);
	if (rcv_own_name(v->cur, name.s))
		return refuse_own(v);
	r = rcv_dirs_get(v, m->dir, false, &from);
	if (r < 0)
		return r;
	r = rcv_own_name(from, old.s) ? refuse_own(v) : act(v, from, old.s, name.s);
	rcv_dir_put(from);
	return r;
}

int rcv_node_link(struct rcv_env *v, const struct tp_link_msg *m)
{
	return with_old_name(v, m, link_names);
}

int rcv_node_move(struct rcv_env *v, const struct tp_link_msg *m)
{
	int r = with_old_name(v, m, move_names);

	/* What is below a directory that was moved has another path now. */
	if (r == 0)
		rcv_dirs_forget(v->dirs);
	return r;
}

int rcv_node_remove(struct rcv_env *v, struct bytes name, bool directory)
{
	struct rcv_name n;

	rcv_name_of(name, &n);
	return rcv_unlink(v, v->cur, n.s, directory ? AT_REMOVEDIR : 0);
}

int rcv_node_dirmeta(struct rcv_env *v, const struct tp_entry *m)
{
	struct rcv_obj o = { .fd = -1, .name = "" };
	struct rcv_name last;
	const uint8_t *slash;
	struct rcv_dir *dir;
	int r;

	r = rcv_dirs_get(v, m->name, false, &dir);
	if (r < 0)
		return r;
	/* Messages show the last component; D knows the rest. */
	slash = m->name.n ? memrchr(m->name.p, '/', m->name.n) : NULL;
	if (m->name.n) {
		size_t skip = slash ? (size_t)(slash + 1 - m->name.p) : 0;

		rcv_name_of(bytes_of(m->name.p + skip, m->name.n - skip), &last);
		o.name = last.s;
	}
	o.fd = dir->fd;
	r = rcv_meta_settle(v, &o, &m->meta);
	rcv_dirs_stale(v, m->name);
	rcv_dir_put(dir);
	return r;
}
