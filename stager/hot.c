/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/hot.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/macro.h"
#include "stager/run.h"

#define SLOTS (4 * STG_HOT_ROWS) /* a power of two */
#define TOP_SHARE 100            /* what is smaller than a share of this size is counted above */

struct row {
	char *path; /* NULL: folded away */
	size_t n;
	struct stg_hot_count count;
};

/* Rows found by path: slots hold indices plus one, 0 is free. */
struct table {
	struct row *v;
	size_t n, cap;
	uint32_t *slots;
};

struct stg_hot {
	pthread_mutex_t lock;
	struct table t[STG_HOT_KINDS];
	struct buf path;
};

static double work(const struct row *r)
{
	return stg_hot_work(&r->count, STG_MATCHED_COST);
}

static size_t slot_of(const struct table *t, struct bytes path)
{
	uint64_t h = 14695981039346656037u; /* FNV-1a */
	size_t at;

	for (size_t i = 0; i < path.n; i++)
		h = (h ^ path.p[i]) * 1099511628211u;
	for (at = (size_t)(h ^ h >> 32) % SLOTS; t->slots[at]; at = (at + 1) % SLOTS) {
		const struct row *r = &t->v[t->slots[at] - 1];

		if (r->n == path.n && !memcmp(r->path, path.p, path.n))
			break;
	}
	return at;
}

/* The row of path, made when there is none; NULL: no memory. */
static struct row *get_row(struct table *t, struct bytes path)
{
	size_t at = slot_of(t, path);
	struct row *r;

	if (t->slots[at])
		return &t->v[t->slots[at] - 1];
	if (t->n == t->cap) {
		size_t cap = t->cap ? 2 * t->cap : 64;
		struct row *v = cap < SLOTS ? reallocarray(t->v, cap, sizeof(*v)) : NULL;

		if (!v)
			return NULL;
		t->v = v;
		t->cap = cap;
	}
	r = &t->v[t->n];
	*r = (struct row){ .path = malloc(path.n + 1), .n = path.n };
	if (!r->path)
		return NULL;
	memcpy(r->path, path.n ? (const void *)path.p : "", path.n);
	r->path[path.n] = '\0';
	t->slots[at] = (uint32_t)++t->n;
	return r;
}

/* Drop the rows without a path, and find the others again. */
static void rebuild(struct table *t)
{
	size_t n = 0;

	memset(t->slots, 0, SLOTS * sizeof(*t->slots));
	for (size_t i = 0; i < t->n; i++) {
		if (!t->v[i].path)
			continue;
		t->v[n] = t->v[i];
		t->slots[slot_of(t, bytes_of(t->v[n].path, t->v[n].n))] = (uint32_t)(n + 1);
		n++;
	}
	t->n = n;
}

static void drop_row(struct row *r)
{
	free(TAKE_PTR(r->path));
}

static unsigned depth_of(const struct row *r)
{
	unsigned d = r->n > 0;

	for (size_t i = 0; i < r->n; i++)
		d += r->path[i] == '/';
	return d;
}

static struct bytes parent_of(const struct row *r)
{
	size_t n = r->n;

	while (n && r->path[n - 1] != '/')
		n--;
	return bytes_of(r->path, n ? n - 1 : 0);
}

/* Count what is less than limit for the directory above it, from the deepest ones up. */
static void fold(struct table *t, double limit)
{
	unsigned deepest = 0;

	for (size_t i = 0; i < t->n; i++)
		deepest = MAX(deepest, depth_of(&t->v[i]));
	for (unsigned d = deepest; d > 0; d--) {
		/* The rows that this makes are one level up: for the next turn. */
		for (size_t i = 0, n = t->n; i < n; i++) {
			struct row *r = &t->v[i], *up;
			struct stg_hot_count count = r->count;

			if (!r->path || depth_of(r) != d || work(r) >= limit)
				continue;
			up = get_row(t, parent_of(r));
			if (!up)
				continue;
			stg_hot_sum(&up->count, &count);
			/* Its slot still leads here until rebuild(): the path must stay. */
			t->v[i].count = (struct stg_hot_count){ 0 };
		}
	}
	for (size_t i = 0; i < t->n; i++)
		if (t->v[i].n && stg_hot_is_zero(&t->v[i].count))
			drop_row(&t->v[i]);
	rebuild(t);
}

static int more_work(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	double d = work(y) - work(x);

	if (d > 0 || d < 0)
		return d > 0 ? 1 : -1;
	return strcmp(x->path, y->path);
}

static double total(const struct table *t)
{
	double sum = 0;

	for (size_t i = 0; i < t->n; i++)
		sum += work(&t->v[i]);
	return sum;
}

static void make_room(struct table *t, enum stg_hot_kind kind)
{
	if (t->n < STG_HOT_ROWS)
		return;
	if (kind == STG_HOT_DIRS) {
		/* No more rows than this can have so much each. */
		fold(t, total(t) / (STG_HOT_ROWS / 2));
		return;
	}
	qsort(t->v, t->n, sizeof(*t->v), more_work);
	for (size_t i = STG_HOT_ROWS / 2; i < t->n; i++)
		drop_row(&t->v[i]);
	rebuild(t);
}

static void count(struct stg_hot *h, enum stg_hot_kind kind, struct bytes path,
		  const struct stg_hot_count *what)
{
	struct row *r;

	make_room(&h->t[kind], kind);
	r = get_row(&h->t[kind], path);
	if (r)
		stg_hot_sum(&r->count, what);
}

void stg_hot_add(struct stg_hot *h, struct bytes dir, struct bytes name,
		 struct stg_hot_count what)
{
	if (!h || stg_hot_is_zero(&what))
		return;
	pthread_mutex_lock(&h->lock);
	count(h, STG_HOT_DIRS, dir, &what);
	if (name.n && stg_path_join(&h->path, dir, name) == 0)
		count(h, STG_HOT_FILES, buf_view(&h->path), &what);
	pthread_mutex_unlock(&h->lock);
}

size_t stg_hot_top(struct stg_hot *h, enum stg_hot_kind kind, struct stg_hot_row ret[STG_HOT_TOP])
{
	struct table *t;
	size_t n;

	if (!h)
		return 0;
	t = &h->t[kind];
	if (!t->n)
		return 0;
	if (kind == STG_HOT_DIRS)
		fold(t, total(t) / TOP_SHARE);
	qsort(t->v, t->n, sizeof(*t->v), more_work);
	rebuild(t);
	n = MIN(t->n, (size_t)STG_HOT_TOP);
	for (size_t i = 0; i < n; i++)
		ret[i] = (struct stg_hot_row){
			.path = bytes_of(t->v[i].path, t->v[i].n),
			.count = t->v[i].count,
		};
	/* The root may be there with nothing left to it. */
	while (n && stg_hot_is_zero(&ret[n - 1].count))
		n--;
	return n;
}

int stg_hot_new(struct stg_hot **ret, struct err *e)
{
	struct stg_hot *h = calloc(1, sizeof(*h));

	if (!h)
		return err_set(e, -ENOMEM, "count changes: out of memory");
	pthread_mutex_init(&h->lock, NULL);
	for (size_t i = 0; i < STG_HOT_KINDS; i++) {
		h->t[i].slots = calloc(SLOTS, sizeof(*h->t[i].slots));
		if (!h->t[i].slots) {
			stg_hot_free(h);
			return err_set(e, -ENOMEM, "count changes: out of memory");
		}
	}
	*ret = h;
	return 0;
}

void stg_hot_free(struct stg_hot *h)
{
	if (!h)
		return;
	for (size_t k = 0; k < STG_HOT_KINDS; k++) {
		for (size_t i = 0; i < h->t[k].n; i++)
			free(h->t[k].v[i].path);
		free(h->t[k].v);
		free(h->t[k].slots);
	}
	buf_fini(&h->path);
	pthread_mutex_destroy(&h->lock);
	free(h);
}
