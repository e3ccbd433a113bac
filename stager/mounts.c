/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/io.h"
#include "common/macro.h"
#include "common/mountinfo.h"

#define MOUNTINFO_MAX (16u << 20)

struct mount {
	char *path;     /* absolute */
	size_t rel;     /* where the part below the root begins */
	char *source;   /* "8:1 /sub": device and root within it, to tell bind mounts */
	bool data;
};

struct stg_mounts {
	struct mount *v;
	size_t n, cap;
};

/* The sub-volume that btrfs names at the end of its options, or NULL. */
static char *subvolume(char *options)
{
	char *at = options ? strstr(options, "subvol=") : NULL;

	if (!at || (at != options && at[-1] != ','))
		return NULL;
	at += strlen("subvol=");
	mountinfo_unescape(at);
	return at;
}

static bool is_data(const char *dev, const char *root, const char *type, char *options)
{
	static const char *const own[] = { "btrfs", "zfs", "bcachefs" };
	const char *subvol = subvolume(options);

	/* A directory inside of a sub-volume: a bind mount. */
	if (!strcmp(type, "btrfs") && subvol && strcmp(subvol, root) != 0)
		return false;
	/* These use anonymous devices and mount sub-volumes, whose root is not "/". */
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		if (!strcmp(type, own[i]))
			return true;
	return strncmp(dev, "0:", 2) != 0 && !strcmp(root, "/") && strcmp(type, "iso9660") != 0 &&
	       strcmp(type, "squashfs") != 0;
}

/* True when path lies below root; *ret_rel is where its relative part begins. */
static bool is_below(const char *path, const char *root, size_t *ret_rel)
{
	size_t n = strcmp(root, "/") ? strlen(root) : 0;

	if (strncmp(path, root, n) != 0 || path[n] != '/' || !path[n + 1])
		return false;
	*ret_rel = n + 1;
	return true;
}

static bool seen(const struct stg_mounts *m, const char *source)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->v[i].data && !strcmp(m->v[i].source, source))
			return true;
	return false;
}

/* A later mount hides the earlier ones, on the same point and below it. */
static void hide(struct stg_mounts *m, const char *point)
{
	size_t kept = 0, rel;

	for (size_t i = 0; i < m->n; i++) {
		if (strcmp(m->v[i].path, point) != 0 && !is_below(m->v[i].path, point, &rel)) {
			m->v[kept++] = m->v[i];
			continue;
		}
		free(m->v[i].path);
		free(m->v[i].source);
	}
	m->n = kept;
}

static int add(struct stg_mounts *m, struct mount one)
{
	struct mount *v;

	hide(m, one.path);
	if (m->n == m->cap) {
		size_t cap = m->cap ? m->cap * 2 : 32;

		v = reallocarray(m->v, cap, sizeof(*v));
		if (!v)
			return -ENOMEM;
		m->v = v;
		m->cap = cap;
	}
	m->v[m->n++] = one;
	return 0;
}

/* A line of another form is passed over. */
static int add_line(struct stg_mounts *m, char *line, const char *root,
		    struct bytes root_source, struct buf *ret_root)
{
	struct mount one = { 0 };
	struct mountinfo info;
	char *source = NULL;
	int r = 0;

	if (!mountinfo_parse(line, &info))
		return 0;
	if (asprintf(&source, "%s %s", info.dev, info.root) < 0)
		return -ENOMEM;
	if (ret_root) {
		/* The root is on the last one mounted on it or above it. */
		size_t rel;

		if (!strcmp(info.point, root) || is_below(root, info.point, &rel)) {
			buf_clear(ret_root);
			r = buf_printf(ret_root, "%s", source);
		}
		free(source);
		return r < 0 ? r : 0;
	}
	if (!is_below(info.point, root, &one.rel)) {
		/* Not "/": a process keeps the root that it has, whatever is mounted over it. */
		if (strcmp(root, "/") != 0 && strcmp(info.point, "/") != 0 &&
		    (!strcmp(info.point, root) || is_below(root, info.point, &one.rel)))
			hide(m, root);
		free(source);
		return 0;
	}
	one.source = source;
	one.path = strdup(info.point);
	one.data = is_data(info.dev, info.root, info.type, info.super) && !seen(m, source) &&
		   !bytes_eq(bytes_str(source), root_source);
	r = one.path ? add(m, one) : -ENOMEM;
	if (r < 0) {
		free(one.path);
		free(source);
	}
	return r;
}

static int parse(struct stg_mounts *m, const char *text, const char *root, struct err *e)
{
	_cleanup_(buf_fini) struct buf root_source = BUF_INIT;
	int r = 0;

	/* Twice: what the root is on must be known before its bind mounts can be told. */
	for (int pass = 0; pass < 2 && r == 0; pass++) {
		_cleanup_free_ char *copy = strdup(text);
		char *save = NULL;

		if (!copy)
			return err_set(e, -ENOMEM, "read mounts: out of memory");
		for (char *line = strtok_r(copy, "\n", &save); line && r == 0;
		     line = strtok_r(NULL, "\n", &save))
			r = add_line(m, line, root,
				     pass ? buf_view(&root_source) : bytes_of(NULL, 0),
				     pass ? NULL : &root_source);
	}
	return r < 0 ? err_set(e, r, "read mounts: out of memory") : 0;
}

int stg_mounts_read(const char *root, const char *mountinfo, struct stg_mounts **ret,
		    struct err *e)
{
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	struct stg_mounts *m = calloc(1, sizeof(*m));
	const char *s;
	int r;

	if (!m)
		return err_set(e, -ENOMEM, "read mounts: out of memory");
	r = io_read_file(AT_FDCWD, mountinfo ? mountinfo : "/proc/self/mountinfo",
			 MOUNTINFO_MAX, &text, e);
	if (r == -ENOENT) {
		*ret = m;
		return 0;
	}
	s = r == 0 ? buf_cstr(&text) : NULL;
	if (r == 0)
		r = s ? parse(m, s, root, e) : err_set(e, -ENOMEM, "read mounts: out of memory");
	if (r < 0) {
		stg_mounts_free(m);
		return r;
	}
	*ret = m;
	return 0;
}

void stg_mounts_free(struct stg_mounts *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->n; i++) {
		free(m->v[i].path);
		free(m->v[i].source);
	}
	free(m->v);
	free(m);
}

enum stg_mount_kind stg_mounts_kind(const struct stg_mounts *m, struct bytes path)
{
	for (size_t i = 0; i < m->n; i++)
		if (bytes_eq(bytes_str(m->v[i].path + m->v[i].rel), path))
			return m->v[i].data ? STG_MOUNT_DATA : STG_MOUNT_OTHER;
	return STG_MOUNT_NONE;
}

const char *stg_mounts_data(const struct stg_mounts *m, size_t i)
{
	for (size_t k = 0; k < m->n; k++)
		if (m->v[k].data && i-- == 0)
			return m->v[k].path;
	return NULL;
}
