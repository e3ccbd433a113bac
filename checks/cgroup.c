/* SPDX-License-Identifier: Apache-2.0 */
#include "checks/cgroup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/macro.h"
#include "common/mountinfo.h"

/* Is word one of the comma-separated ones in list? */
static bool has_word(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *at = list; *at; at += strcspn(at, ","), at += *at == ',')
		if (!strncmp(at, word, n) && (at[n] == ',' || !at[n]))
			return true;
	return false;
}

/*
 * "4:memory:/user.slice" or, of version 2, "0::/user.slice".  A controller that has a
 * hierarchy of its own is not in version 2's.  The path, cut out of text; NULL: none.
 */
static char *own_path(char *text, const char *controller, bool *ret_v2)
{
	char *save = NULL, *v2 = NULL;

	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *list = strchr(line, ':');
		char *path = list ? strchr(list + 1, ':') : NULL;

		if (!path)
			continue;
		*path++ = '\0';
		if (has_word(list + 1, controller)) {
			*ret_v2 = false;
			return path;
		}
		if (!list[1])
			v2 = path;
	}
	*ret_v2 = true;
	return v2;
}

/* The part of path below the mounted one; "" when path lies outside of what is mounted. */
static const char *below_mount(const char *path, const char *mounted)
{
	size_t n = strcmp(mounted, "/") ? strlen(mounted) : 0;

	if (strncmp(path, mounted, n) != 0 || (path[n] && path[n] != '/') ||
	    !strncmp(path, "/..", 3))
		return "";
	return path + n;
}

/* From the group up to the mount point. */
static int add_chain(struct chk_cgroup *c, const char *point, const char *below)
{
	_cleanup_free_ char *dir = NULL;
	size_t n, stop = strlen(point) - 1;
	int r = 0;

	c->mount_bytes = stop;
	if (asprintf(&dir, "%s%s", point + 1, below) < 0) {
		dir = NULL;
		return -ENOMEM;
	}
	for (n = strlen(dir); n > stop && dir[n - 1] == '/'; n--)
		;
	while (r == 0) {
		r = strlist_add(&c->dirs, dir, n);
		if (n <= stop)
			break;
		while (n > stop && dir[n - 1] != '/')
			n--;
		while (n > stop && dir[n - 1] == '/')
			n--;
	}
	return r;
}

int chk_cgroup_find(const struct chk_root *root, const char *controller, struct chk_cgroup *ret)
{
	_cleanup_(buf_fini) struct buf own = BUF_INIT, mounts = BUF_INIT;
	struct mountinfo info;
	struct err e = { 0 };
	char *path, *save = NULL;

	*ret = (struct chk_cgroup){ 0 };
	if (chk_read(root, "proc/self/cgroup", &own, &e) < 0 ||
	    chk_read(root, "proc/self/mountinfo", &mounts, &e) < 0)
		return 0;
	path = own_path((char *)own.p, controller, &ret->v2);
	if (!path)
		return 0;
	for (char *line = strtok_r((char *)mounts.p, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		if (!mountinfo_parse(line, &info) || info.point[0] != '/' ||
		    strcmp(info.type, ret->v2 ? "cgroup2" : "cgroup") != 0 ||
		    (!ret->v2 && !has_word(info.super, controller)))
			continue;
		return add_chain(ret, info.point, below_mount(path, info.root));
	}
	return 0;
}

void chk_cgroup_fini(struct chk_cgroup *c)
{
	strlist_fini(&c->dirs);
}

bool chk_cgroup_same(const struct chk_cgroup *a, const struct chk_cgroup *b)
{
	return a->dirs.n && a->dirs.n == b->dirs.n && a->v2 == b->v2 &&
	       !strcmp(a->dirs.v[0] + a->mount_bytes, b->dirs.v[0] + b->mount_bytes);
}

bool chk_cgroup_u64(const struct chk_root *root, const struct chk_cgroup *c, size_t i,
		    const char *file, uint64_t *ret)
{
	_cleanup_free_ char *path = NULL;

	if (asprintf(&path, "%s/%s", c->dirs.v[i], file) < 0) {
		path = NULL;
		return false;
	}
	return chk_read_u64(root, path, ret) == 0;
}

bool chk_text_u64(const char *text, const char *word, uint64_t *ret)
{
	size_t n = strlen(word);

	for (const char *line = text; *line;) {
		if (!strncmp(line, word, n) && (line[n] == ' ' || line[n] == ':')) {
			char *end;
			unsigned long long v = strtoull(line + n + 1, &end, 10);

			if (end == line + n + 1)
				return false;
			*ret = v;
			return true;
		}
		line += strcspn(line, "\n");
		line += *line == '\n';
	}
	return false;
}
