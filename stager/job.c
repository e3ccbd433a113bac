/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/job.h"

#include <errno.h>
#include <stdlib.h>

#include "stager/filter.h"

int stg_job_new(enum stg_job_kind kind, struct stg_job **ret, struct err *e)
{
	struct stg_job *j = calloc(1, sizeof(*j));

	if (!j)
		return err_set(e, -ENOMEM, "plan work: out of memory");
	j->kind = kind;
	*ret = j;
	return 0;
}

void stg_job_free(struct stg_job *j)
{
	if (!j)
		return;
	if (j->filter)
		stg_filter_dir_unref(j->filter);
	stg_bigfile_unref(j->big);
	free(j->items);
	buf_fini(&j->bytes);
	free(j);
}

/* While the buffer may move, a struct bytes holds the offset in place of the pointer. */
static int keep(struct stg_job *j, struct bytes in, struct bytes *ret)
{
	size_t off = j->bytes.n;

	if (buf_put_bytes(&j->bytes, in) < 0)
		return -ENOMEM;
	*ret = (struct bytes){ .p = (const uint8_t *)(uintptr_t)off, .n = in.n };
	return 0;
}

int stg_job_set_dir(struct stg_job *j, uint64_t dir, struct bytes path, struct err *e)
{
	j->dir = dir;
	if (keep(j, path, &j->path) < 0)
		return err_set(e, -ENOMEM, "plan work: out of memory");
	return 0;
}

int stg_job_add(struct stg_job *j, const struct stg_item *item, struct err *e)
{
	struct stg_item *i;
	int r = 0;

	if (j->n == j->cap) {
		size_t cap = j->cap ? j->cap * 2 : 16;
		struct stg_item *v = reallocarray(j->items, cap, sizeof(*v));

		if (!v)
			return err_set(e, -ENOMEM, "plan work: out of memory");
		j->items = v;
		j->cap = cap;
	}
	i = &j->items[j->n];
	*i = *item;
	if (item->path.p)
		r = keep(j, item->path, &i->path);
	else
		i->path = j->path;
	if (r == 0)
		r = keep(j, item->name, &i->name);
	if (r == 0)
		r = keep(j, item->leader_path, &i->leader_path);
	if (r == 0)
		r = keep(j, item->leader, &i->leader);
	if (r < 0)
		return err_set(e, r, "plan work: out of memory");
	j->n++;
	return 0;
}

void stg_item_set_old(struct stg_item *item, const struct stg_row *row)
{
	item->has_old = true;
	item->old_hashed = (row->state & STG_ROW_HASHED) != 0;
	item->recheck = stg_stat_same(&row->st, &item->st);
	item->defect = (row->state & STG_ROW_DEFECT) != 0;
	item->old_hash = row->hash;
	item->old_size = stg_is_reg(&row->st) ? row->st.size : 0;
	item->old_nlink = row->st.nlink;
	item->old_dev = row->st.dev;
	item->old_ino = row->st.ino;
}

static void point(const struct stg_job *j, struct bytes *b)
{
	b->p = j->bytes.p ? j->bytes.p + (uintptr_t)b->p : (const uint8_t *)"";
}

void stg_job_seal(struct stg_job *j)
{
	point(j, &j->path);
	for (size_t i = 0; i < j->n; i++) {
		point(j, &j->items[i].path);
		point(j, &j->items[i].name);
		point(j, &j->items[i].leader_path);
		point(j, &j->items[i].leader);
		if (j->items[i].op != STG_OP_KEEP)
			j->content += j->items[i].st.size;
	}
	j->pending = j->n;
	j->cost = sizeof(*j) + j->cap * sizeof(*j->items) + j->bytes.cap;
}
