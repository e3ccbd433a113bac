/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/meta.h"

#include <errno.h>
#include <linux/fs.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "common/macro.h"
#include "transport/protocol.h"

#define META_FLAGS  (FS_IMMUTABLE_FL | FS_APPEND_FL)
#define META_FIXED  37u /* bytes of the wire form that are always there */
#define NS_PER_S    1000000000u
#define LIST_FIRST  2048u /* on the stack; nearly every list is shorter */
#define VALUE_FIRST 256u

static bool is_device(uint32_t mode)
{
	return S_ISCHR(mode) || S_ISBLK(mode);
}

bool tp_mode_ok(uint32_t mode)
{
	if (mode & ~(uint32_t)(S_IFMT | 07777))
		return false;
	return S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode) || is_device(mode) ||
	       S_ISFIFO(mode) || S_ISSOCK(mode);
}

int tp_meta_put(struct buf *out, const struct tp_meta *m)
{
	uint8_t present = 0;
	int r;

	if (m->flags)
		present |= TP_M_FLAGS;
	if (is_device(m->mode))
		present |= TP_M_RDEV;
	if (S_ISLNK(m->mode))
		present |= TP_M_TARGET;
	if (m->xattrs.n)
		present |= TP_M_XATTR;

	r = buf_reserve(out, META_FIXED + 4 + 8 + 2 + m->target.n + 4 + m->xattrs.n);
	if (r < 0)
		return r;
	r |= buf_put_u8(out, present);
	r |= buf_put_le32(out, m->mode);
	r |= buf_put_le32(out, m->uid);
	r |= buf_put_le32(out, m->gid);
	r |= buf_put_le64(out, m->size);
	r |= buf_put_le64(out, (uint64_t)m->mtime_s);
	r |= buf_put_le32(out, m->mtime_ns);
	if (present & TP_M_FLAGS)
		r |= buf_put_le32(out, m->flags);
	if (present & TP_M_RDEV) {
		r |= buf_put_le32(out, m->rdev_major);
		r |= buf_put_le32(out, m->rdev_minor);
	}
	if (present & TP_M_TARGET) {
		r |= buf_put_le16(out, (uint16_t)m->target.n);
		r |= buf_put_bytes(out, m->target);
	}
	if (present & TP_M_XATTR) {
		r |= buf_put_le32(out, (uint32_t)m->xattrs.n);
		r |= buf_put_bytes(out, m->xattrs);
	}
	return r;
}

/* Each pair is whole, names are possible ones in strict order, values are not too long. */
static bool xattrs_ok(struct bytes packed)
{
	struct bytes last = { 0 };
	struct bytes name;
	struct bytes value;

	while (packed.n) {
		if (!tp_xattrs_next(&packed, &name, &value))
			return false;
		if (!name.n || name.n > XATTR_NAME_MAX || memchr(name.p, 0, name.n))
			return false;
		if (value.n > XATTR_SIZE_MAX || bytes_cmp(last, name) >= 0)
			return false;
		last = name;
	}
	return true;
}

void tp_meta_get(struct reader *r, struct tp_meta *ret)
{
	uint8_t present = reader_u8(r);
	struct tp_meta m = { 0 };

	m.mode = reader_le32(r);
	m.uid = reader_le32(r);
	m.gid = reader_le32(r);
	m.size = reader_le64(r);
	m.mtime_s = (int64_t)reader_le64(r);
	m.mtime_ns = reader_le32(r);
	if (present & TP_M_FLAGS)
		m.flags = reader_le32(r);
	if (present & TP_M_RDEV) {
		m.rdev_major = reader_le32(r);
		m.rdev_minor = reader_le32(r);
	}
	if (present & TP_M_TARGET) {
		m.target = reader_bytes(r, reader_le16(r));
		if (!m.target.n || memchr(m.target.p, 0, m.target.n))
			r->bad = true;
	}
	if (present & TP_M_XATTR) {
		m.xattrs = reader_bytes(r, reader_le32(r));
		if (!m.xattrs.n || !xattrs_ok(m.xattrs))
			r->bad = true;
	}

	if (present & ~(TP_M_FLAGS | TP_M_RDEV | TP_M_TARGET | TP_M_XATTR))
		r->bad = true;
	if (!tp_mode_ok(m.mode) || m.size > INT64_MAX || m.mtime_ns >= NS_PER_S)
		r->bad = true;
	if (m.flags & ~(uint32_t)META_FLAGS)
		r->bad = true;
	if (!(present & TP_M_RDEV) == is_device(m.mode) ||
	    !(present & TP_M_TARGET) == !!S_ISLNK(m.mode))
		r->bad = true;
	*ret = m;
}

void tp_meta_from_statx(const struct statx *stx, struct tp_meta *ret)
{
	*ret = (struct tp_meta){
		.mode = stx->stx_mode,
		.uid = stx->stx_uid,
		.gid = stx->stx_gid,
		.size = S_ISREG(stx->stx_mode) ? stx->stx_size : 0,
		.mtime_s = stx->stx_mtime.tv_sec,
		.mtime_ns = stx->stx_mtime.tv_nsec,
	};
	if (stx->stx_attributes & STATX_ATTR_IMMUTABLE)
		ret->flags |= FS_IMMUTABLE_FL;
	if (stx->stx_attributes & STATX_ATTR_APPEND)
		ret->flags |= FS_APPEND_FL;
	if (is_device(stx->stx_mode)) {
		ret->rdev_major = stx->stx_rdev_major;
		ret->rdev_minor = stx->stx_rdev_minor;
	}
}

static ssize_t xattr_list(int fd, const char *name, char *list, size_t n)
{
	return name ? llistxattr(name, list, n) : flistxattr(fd, list, n);
}

static ssize_t xattr_get(int fd, const char *name, const char *key, void *value, size_t n)
{
	return name ? lgetxattr(name, key, value, n) : fgetxattr(fd, key, value, n);
}

/* Of the names that a file system answers for itself only the ACLs can be written back. */
static bool xattr_wanted(const char *key)
{
	if (strncmp(key, "system.", 7) != 0)
		return true;
	return strcmp(key, "system.posix_acl_access") == 0 ||
	       strcmp(key, "system.posix_acl_default") == 0;
}

static int key_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Append one attribute; one that has vanished since it was listed is left out. */
static int xattr_put(int fd, const char *name, const char *key, struct buf *out, struct err *e)
{
	size_t key_n = strlen(key);
	size_t room = VALUE_FIRST;
	ssize_t n;

	for (;;) {
		if (buf_reserve(out, 6 + key_n + room) < 0)
			return err_set(e, -ENOMEM, "out of memory for attribute %s", key);
		n = xattr_get(fd, name, key, out->p + out->n + 6 + key_n, room);
		if (n >= 0)
			break;
		if (errno == ERANGE) {
			n = xattr_get(fd, name, key, NULL, 0);
			room = n > 0 ? (size_t)n : VALUE_FIRST;
			if (n >= 0)
				continue;
		}
		if (errno == ENODATA || errno == EOPNOTSUPP)
			return 0;
		return err_sys(e, "read attribute %s", key);
	}
	le16_put(out->p + out->n, (uint16_t)key_n);
	le32_put(out->p + out->n + 2, (uint32_t)n);
	memcpy(out->p + out->n + 6, key, key_n);
	out->n += 6 + key_n + (size_t)n;
	return 0;
}

static int xattrs_pack(int fd, const char *name, const char *list, size_t list_n,
		       struct buf *out, struct err *e)
{
	_cleanup_free_ const char **keys = NULL;
	size_t count = 0;
	int r;

	/* The shortest name and its NUL are two bytes. */
	keys = calloc(list_n / 2 + 1, sizeof(*keys));
	if (!keys)
		return err_set(e, -ENOMEM, "out of memory for attribute names");
	for (const char *key = list; key < list + list_n; key += strlen(key) + 1)
		if (*key && xattr_wanted(key))
			keys[count++] = key;
	qsort(keys, count, sizeof(*keys), key_cmp);
	for (size_t i = 0; i < count; i++) {
		if (i && strcmp(keys[i - 1], keys[i]) == 0)
			continue;
		r = xattr_put(fd, name, keys[i], out, e);
		if (r < 0)
			return r;
	}
	return 0;
}

int tp_xattrs_read(int fd, const char *name, struct buf *out, struct err *e)
{
	_cleanup_free_ char *more = NULL;
	char first[LIST_FIRST];
	size_t room = LIST_FIRST;
	char *list = first;
	ssize_t n;

	buf_clear(out);
	while ((n = xattr_list(fd, name, list, room)) < 0 && errno == ERANGE &&
	       room < XATTR_LIST_MAX) {
		room *= 4;
		free(more);
		list = more = malloc(room);
		if (!more)
			return err_set(e, -ENOMEM, "out of memory for attribute names");
	}
	if (n < 0 && errno == EOPNOTSUPP)
		return 0;
	if (n < 0)
		return err_sys(e, "list attributes");
	if (n == 0)
		return 0;
	return xattrs_pack(fd, name, list, (size_t)n, out, e);
}

bool tp_xattrs_next(struct bytes *packed, struct bytes *ret_name, struct bytes *ret_value)
{
	struct reader r = reader_of(*packed);
	size_t name_n = reader_le16(&r);
	size_t value_n = reader_le32(&r);
	struct bytes name = reader_bytes(&r, name_n);
	struct bytes value = reader_bytes(&r, value_n);

	if (r.bad)
		return false;
	*ret_name = name;
	*ret_value = value;
	*packed = bytes_of(r.p, r.n);
	return true;
}
