/* SPDX-License-Identifier: Apache-2.0 */
/* Single values from their text, filter rules, paths of sub-trees. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "stager/option_parts.h"

#define BWLIMIT_MIN 1024u

/* ---- filter rules ---- */

void stg_option_filters_fini(struct stg_filter_args *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->v[i].text);
		free(l->v[i].origin);
	}
	free(l->v);
	*l = (struct stg_filter_args){ 0 };
}

/* Makes room for one more; the caller fills it. */
static int filters_grow(struct stg_filter_args *l)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 8;
		struct stg_filter_arg *v = reallocarray(l->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		l->v = v;
		l->cap = cap;
	}
	return 0;
}

int stg_option_filters_add(struct stg_filter_args *l, enum stg_filter_kind kind,
			   const char *text, const char *origin, struct err *e)
{
	struct stg_filter_arg *a;

	if (filters_grow(l) < 0)
		return cfg_no_memory(e);
	a = &l->v[l->n];
	a->kind = kind;
	a->text = strdup(text);
	a->origin = strdup(origin);
	l->n++;
	return a->text && a->origin ? 0 : cfg_no_memory(e);
}

int stg_option_filters_move(struct stg_filter_args *to, struct stg_filter_args *from,
			    struct err *e)
{
	for (size_t i = 0; i < from->n; i++) {
		if (filters_grow(to) < 0)
			return cfg_no_memory(e);
		to->v[to->n++] = from->v[i];
		from->v[i] = (struct stg_filter_arg){ 0 };
	}
	return 0;
}

/* ---- values ---- */

int stg_option_rate_value(const char *text, uint64_t *ret, struct err *e)
{
	uint64_t v;
	int r = text_parse_size(text, &v, e);

	if (r < 0)
		return r;
	if (v && v < BWLIMIT_MIN)
		return err_set(
			e, -ERR_USAGE,
			"%llu bytes per second is out of range: allowed is 1K and more, or "
			"0 for no limit (a bare number counts bytes, so write 800K)",
			(unsigned long long)v);
	*ret = v;
	return 0;
}

int stg_option_cipher_check(const char *text, struct err *e)
{
	for (const char *p = text; *p; p++)
		if (!((*p >= '0' && *p <= '9') ||
		      ((*p | 0x20) >= 'a' && (*p | 0x20) <= 'z') || strchr("@.,_+-", *p)))
			return err_set(
				e, -ERR_USAGE,
				"expected cipher names with commas between them, like "
				"aes128-ctr,aes256-ctr");
	return 0;
}

int stg_option_excludes_check(const struct cfg_row *row, const char *text, struct err *e)
{
	int unused, r;

	if (strchr(text, '/'))
		return 0;
	r = cfg_word_value(row, text, &unused, e);
	if (r == -ERR_USAGE)
		return err_ctx(e, r,
			       "no such list (a file is named with a '/', ./mine.list)");
	return r;
}

/* ---- paths ---- */

/* Append the components of text; -ERR_USAGE for '..' where up is false. */
static int put_components(struct buf *out, const char *text, bool up, struct err *e)
{
	for (const char *p = text; *p;) {
		size_t len = strcspn(p, "/");
		char name[TEXT_NAME_MAX];

		if (len == 2 && !memcmp(p, "..", 2) && !up)
			return err_set(e, -ERR_USAGE, "path '%s' has a '..' component",
				       text_name(name, bytes_str(text)));
		if (len && !(len == 1 && *p == '.') &&
		    ((buf_len(out) && buf_put(out, "/", 1) < 0) ||
		     buf_put(out, p, len) < 0))
			return cfg_no_memory(e);
		p += len;
		p += strspn(p, "/");
	}
	return 0;
}

/* inner is outer or lies below it; both are components, the empty path is the root. */
static bool below(const char *inner, const char *outer)
{
	size_t n = strlen(outer);

	return n == 0 || (!strncmp(inner, outer, n) && (!inner[n] || inner[n] == '/'));
}

static int normal_path(const char *source, const char *path, struct strlist *to,
		       struct err *e)
{
	_cleanup_(buf_fini) struct buf root_buf = BUF_INIT, path_buf = BUF_INIT;
	const char *root, *rel;
	char name[TEXT_NAME_MAX], root_name[TEXT_NAME_MAX];
	int r = put_components(&path_buf, path, false, e);

	if (r < 0)
		return r;
	rel = buf_cstr(&path_buf);
	if (!rel)
		return cfg_no_memory(e);
	if (*path == '/') {
		r = put_components(&root_buf, source, true, e);
		if (r < 0)
			return r;
		root = buf_cstr(&root_buf);
		if (!root)
			return cfg_no_memory(e);
		if (!below(rel, root))
			return err_set(e, -ERR_USAGE,
				       "path '%s' is not below the source '%s'",
				       text_name(name, bytes_str(path)),
				       text_name(root_name, bytes_str(source)));
		rel += strlen(root);
		rel += *rel == '/';
	}
	return strlist_add(to, rel, strlen(rel)) < 0 ? cfg_no_memory(e) : 0;
}

int stg_paths_normalise(const char *source, const struct strlist *paths,
			struct strlist *ret, struct err *e)
{
	_cleanup_(strlist_fini) struct strlist all = { 0 }, kept = { 0 };

	if (paths->n > STG_PATHS_MAX)
		return err_set(e, -ERR_USAGE,
			       "%zu paths are too many: allowed is up to %d", paths->n,
			       STG_PATHS_MAX);
	for (size_t i = 0; i < paths->n; i++) {
		int r = normal_path(source, paths->v[i], &all, e);

		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < all.n; i++) {
		const char *s = all.v[i];
		bool covered = false;

		/* Of equals the first stays. */
		for (size_t k = 0; k < all.n && !covered; k++)
			covered = k != i && below(s, all.v[k]) &&
				  (strcmp(s, all.v[k]) != 0 || k < i);
		if (covered)
			continue;
		if (!*s)
			s = ".";
		if (strlist_add(&kept, s, strlen(s)) < 0)
			return cfg_no_memory(e);
	}
	*ret = kept;
	kept = (struct strlist){ 0 };
	return 0;
}
