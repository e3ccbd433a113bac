/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/receive/check.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "transport/hash.h"
#include "transport/receive/dirs.h"
#include "transport/receive/metaset.h"

/* What is not there, or is below something that is no directory. */
static bool is_missing(int r)
{
	return r == -ENOENT || r == -ENOTDIR || r == -ELOOP;
}

/* --- extended attributes --- */

static uint32_t kind_of(struct bytes name)
{
	static const char acl[] = "system.posix_acl_";

	if (name.n >= sizeof(acl) - 1 && !memcmp(name.p, acl, sizeof(acl) - 1))
		return TP_D_ACL;
	return bytes_eq(name, bytes_str("security.capability")) ? TP_D_CAPABILITY : TP_D_XATTR;
}

/* XFS shows where it keeps an ACL; a label of the target's own policy is its business. */
static bool is_local(struct bytes name, bool only_there)
{
	return bytes_eq(name, bytes_str("trusted.SGI_ACL_FILE")) ||
	       bytes_eq(name, bytes_str("trusted.SGI_ACL_DEFAULT")) ||
	       (only_there && bytes_eq(name, bytes_str("security.selinux")));
}

static int note_attribute(struct rcv_env *v, struct bytes name, struct tp_difference *ret)
{
	ret->what |= kind_of(name);
	if ((buf_len(&v->text) && buf_put_u8(&v->text, ' ') < 0) ||
	    buf_put_bytes(&v->text, name) < 0)
		return rcv_fail(v, -ENOMEM, "check", "out of memory");
	return 0;
}

/* Both lists are sorted by name. */
static int check_xattrs(struct rcv_env *v, struct bytes have, struct bytes want,
			struct tp_difference *ret)
{
	struct bytes name_h, name_w, value_h, value_w;
	bool h = tp_xattrs_next(&have, &name_h, &value_h);
	bool w = tp_xattrs_next(&want, &name_w, &value_w);
	int r = 0;

	buf_clear(&v->text);
	while (r == 0 && (h || w)) {
		int c = !h ? 1 : !w ? -1 : bytes_cmp(name_h, name_w);

		if ((c != 0 || !bytes_eq(value_h, value_w)) &&
		    !is_local(c < 0 ? name_h : name_w, c < 0))
			r = note_attribute(v, c < 0 ? name_h : name_w, ret);
		if (c <= 0)
			h = tp_xattrs_next(&have, &name_h, &value_h);
		if (c >= 0)
			w = tp_xattrs_next(&want, &name_w, &value_w);
	}
	ret->attributes = buf_view(&v->text);
	return r;
}

/* --- what an entry is --- */

static int check_target(struct rcv_env *v, const char *name, const struct tp_meta *want,
			struct tp_difference *ret)
{
	ssize_t n;

	/* There is room for the attributes' names of this entry behind it. */
	n = readlinkat(v->cur->fd, name, (char *)v->scratch, TP_TARGET_MAX);
	if (n < 0)
		return rcv_fail_sys(v, "readlink", name);
	ret->meta.target = bytes_of(v->scratch, (size_t)n);
	if (!bytes_eq(ret->meta.target, want->target))
		ret->what |= TP_D_TARGET;
	return 0;
}

static int open_quietly(struct rcv_env *v, const char *name)
{
	int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	int fd = openat(v->cur->fd, name, flags | O_NOATIME);

	if (fd < 0 && errno == EPERM)
		fd = openat(v->cur->fd, name, flags);
	return fd < 0 ? rcv_fail_sys(v, "open", name) : fd;
}

/* What a file system with large blocks cannot keep of so many holes. */
static uint64_t hole_slack(uint32_t block_bytes, uint32_t holes)
{
	uint64_t block = MIN(block_bytes, 1u << 20);

	return block > TP_HASH_BLOCK ? 2 * (block - TP_HASH_BLOCK) * holes : 0;
}

static int check_content(struct rcv_env *v, const char *name, const struct tp_entry *m,
			 const struct statx *have, struct tp_difference *ret)
{
	_cleanup_close_ int fd = open_quietly(v, name);
	struct tp_hash_value got;
	struct err e = { 0 };
	uint64_t size;
	uint32_t holes;
	int r;

	if (fd < 0)
		return fd;
	if (m->meta.size > RCV_SCRATCH_BYTES)
		rcv_calm(v);
	if (tp_hash_fd(v->hash, fd, v->scratch, RCV_SCRATCH_BYTES, &size, &got, &e) < 0)
		return rcv_fail(v, e.code, "read", "%s", e.text);
	if (size != m->meta.size || memcmp(&got, &m->hash, sizeof(got)) != 0)
		ret->what |= TP_D_CONTENT;
	if (!m->hole_bytes)
		return 0;
	r = tp_hole_bytes(fd, size, &ret->hole_bytes, &holes);
	if (r < 0) {
		errno = -r;
		return rcv_fail_sys(v, "look for holes", name);
	}
	if (ret->hole_bytes + hole_slack(have->stx_blksize, m->holes) < m->hole_bytes)
		ret->what |= TP_D_HOLES;
	return 0;
}

static int check_thing(struct rcv_env *v, const char *name, const struct tp_entry *m,
		       uint8_t flags, const struct statx *have, struct tp_difference *ret)
{
	const struct tp_meta *want = &m->meta;

	switch (want->mode & S_IFMT) {
	case S_IFREG:
		if (flags & TP_F_LIVE)
			return 0;
		if (have->stx_size != want->size)
			ret->what |= TP_D_SIZE;
		else if (flags & TP_F_HASH)
			return check_content(v, name, m, have, ret);
		return 0;
	case S_IFCHR:
	case S_IFBLK:
		if (have->stx_rdev_major != want->rdev_major ||
		    have->stx_rdev_minor != want->rdev_minor)
			ret->what |= TP_D_RDEV;
		return 0;
	case S_IFLNK:
		return check_target(v, name, want, ret);
	default:
		return 0;
	}
}

static int check_meta(struct rcv_env *v, const struct rcv_obj *o, const struct tp_meta *want,
		      uint8_t flags, const struct statx *have, struct tp_difference *ret)
{
	struct bytes xattrs;
	unsigned diff;
	int r = rcv_meta_xattrs(v, o, &xattrs);

	if (r < 0)
		return r;
	diff = rcv_meta_diff(v, have, xattrs, want);
	if (diff & RCV_D_OWNER && v->abilities & TP_R_CHOWN) {
		ret->what |= have->stx_uid != want->uid ? TP_D_UID : 0;
		ret->what |= have->stx_gid != want->gid ? TP_D_GID : 0;
	}
	if (diff & RCV_D_MODE)
		ret->what |= TP_D_MODE;
	if (diff & RCV_D_TIMES && !(flags & TP_F_LIVE))
		ret->what |= TP_D_MTIME;
	if (diff & RCV_D_FLAGS)
		ret->what |= TP_D_FLAGS;
	return diff & RCV_D_XATTR ? check_xattrs(v, xattrs, want->xattrs, ret) : 0;
}

static int check_object(struct rcv_env *v, const struct rcv_obj *o, const struct tp_entry *m,
			uint8_t flags, struct tp_difference *ret)
{
	struct statx have;
	int r = rcv_meta_look(v, o, &have);

	if (is_missing(r)) {
		ret->what = TP_D_MISSING;
		return 0;
	}
	if (r < 0)
		return r;
	tp_meta_from_statx(&have, &ret->meta);
	ret->there = true;
	ret->links = have.stx_nlink;
	if ((have.stx_mode & S_IFMT) != (m->meta.mode & S_IFMT)) {
		/* Without its target a link's metadata cannot be sent. */
		r = S_ISLNK(have.stx_mode) ? check_target(v, o->name, &m->meta, ret) : 0;
		ret->what = TP_D_TYPE;
		return r;
	}
	r = check_thing(v, o->name, m, flags, &have, ret);
	if (r == 0)
		r = check_meta(v, o, &m->meta, flags, &have, ret);
	if (m->links && have.stx_nlink > m->links)
		ret->what |= TP_D_LINKS;
	return r;
}

/* The directory that the frame's names are in: 0, or -errno and v->fault. */
static int current(struct rcv_env *v)
{
	if (v->cur)
		return 0;
	v->fault = v->cur_fault;
	return v->fault.code;
}

/* Has what was looked for in vain gone with a directory that has been replaced?  As current(). */
static int current_again(struct rcv_env *v, bool *ret_again)
{
	*ret_again = v->cur && rcv_dir_gone(v->cur);
	return *ret_again ? rcv_dir_renew(v, &v->cur) : 0;
}

static int check_dir(struct rcv_env *v, const struct tp_entry *m, uint8_t flags,
		     struct tp_difference *ret)
{
	struct rcv_obj o = { .fd = -1, .name = "" };
	struct rcv_dir *dir;
	int r = rcv_dirs_get(v, m->name, false, &dir);

	if (is_missing(r)) {
		ret->what = TP_D_MISSING;
		return 0;
	}
	if (r < 0)
		return r;
	o.fd = dir->fd;
	r = check_object(v, &o, m, flags, ret);
	rcv_dir_put(dir);
	return r;
}

int rcv_check(struct rcv_env *v, const struct tp_entry *m, uint8_t flags,
	      struct tp_difference *ret)
{
	struct rcv_obj o = { .fd = -1 };
	struct rcv_name name;
	bool again;
	int r;

	if (flags & TP_F_PATH)
		return check_dir(v, m, flags, ret);
	rcv_name_of(m->name, &name);
	o.name = name.s;
	r = current(v);
	if (r == 0 && rcv_own_name(v->cur, name.s))
		return rcv_fail(v, -EPERM, "check", TP_OWN_DIR " is not synced");
	if (r == 0)
		r = check_object(v, &o, m, flags, ret);
	if (r == 0 && ret->what == TP_D_MISSING) {
		r = current_again(v, &again);
		if (r == 0 && again) {
			ret->what = 0;
			r = check_object(v, &o, m, flags, ret);
		}
	}
	if (!is_missing(r))
		return r;
	ret->what = TP_D_MISSING;
	ret->there = false;
	return 0;
}

static int look(struct rcv_env *v, int dirfd, const char *name, struct statx *ret)
{
	if (statx(dirfd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, ret) < 0)
		return rcv_fail_sys(v, "stat", name);
	return 0;
}

int rcv_check_link(struct rcv_env *v, const struct tp_link_msg *m, struct tp_difference *ret)
{
	struct rcv_name old, name;
	struct rcv_dir *from;
	struct statx a, b;
	int r = current(v);

	if (r < 0)
		return is_missing(r) ? rcv_fail(v, -ENOENT, "stat", "it is not there") : r;
	rcv_name_of(m->from, &old);
	rcv_name_of(m->name, &name);
	r = rcv_dirs_get(v, m->dir, false, &from);
	if (r < 0)
		return is_missing(r) ? rcv_fail(v, -ENOENT, "stat", "it is not there") : r;
	r = look(v, from->fd, old.s, &a);
	if (r == 0)
		r = look(v, v->cur->fd, name.s, &b);
	rcv_dir_put(from);
	if (r < 0)
		return r;
	ret->links = b.stx_nlink;
	if (a.stx_ino != b.stx_ino || a.stx_dev_major != b.stx_dev_major ||
	    a.stx_dev_minor != b.stx_dev_minor || b.stx_nlink > MAX(m->links, 1u))
		ret->what = TP_D_LINKS;
	return 0;
}
