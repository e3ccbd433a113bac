/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/bigfile.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "stager/job.h"
#include "transport/blocks.h"

#define SEGMENT_TRIES 4 /* before the file counts as failed */
#define ROUNDS        3 /* of comparing it again when it changed meanwhile */
#define BASIS_LEAST   (1u << 20)  /* a smaller one is not worth a round trip */
#define SUMS_BYTES    (8u << 20)  /* of the basis in one request; a multiple of all blocks */

enum seg_state {
	SEG_OPEN,   /* to be sent, or asked for; 0: memory that is cleared says so */
	SEG_CHECK,  /* the target has what hash says; the source may have something else */
	SEG_VERIFY, /* nobody knows what the target has */
	SEG_BUSY,
	SEG_DONE,
};

struct seg {
	struct tp_hash_value hash;
	uint8_t state;
	uint8_t tries;
	bool sent; /* the target may have something there */
};

/* The sums of the basis, while they are coming and after. */
struct basis {
	struct tp_sums *sums; /* NULL: there is no basis (any more) */
	uint64_t bytes;
	uint32_t block;
	uint8_t *parts;   /* enum seg_state of each request */
	uint64_t n, left; /* requests, and those that were not answered */
	uint64_t next;    /* none before it can be claimed */
};

struct stg_bigfile {
	pthread_mutex_t lock; /* of all that changes */
	unsigned refs;
	int fd;
	char temp[TP_TEMP_MAX + 1];
	struct stg_job *job; /* holds the item */
	struct stg_stat st;
	struct basis basis;
	struct seg *segs;
	uint64_t n, left; /* segments, and those that are not done */
	uint64_t most;    /* segments that there ever were: segs has so many */
	uint64_t next;    /* none before it can be claimed */
	uint64_t waiting; /* how many can be claimed, at most */
	uint64_t run_from, run_to; /* a run of data, as it was found in this round */
	unsigned active;  /* claims that were not released */
	unsigned round;
	bool made;        /* the target has acknowledged a segment */
	bool touched;     /* it may have a temporary file */
	bool finishing;   /* the end is claimed */
	bool ended;       /* it was, and may have come to pass */
	bool dead;
};

bool stg_bigfile_fits(const struct stg_stat *st)
{
	return st->size >= STG_BIG_BYTES && st->size <= STG_BIG_BYTES_MAX &&
	       st->bytes_on_disk >= STG_BIG_BYTES / 2;
}

/* 0 also when there is no basis, or when it is mostly holes, which would be read for nothing. */
static int basis_init(struct basis *s, const struct stg_item *item, const struct stg_stat *st,
		      struct err *e)
{
	int r;

	if (item->op != STG_OP_UPDATE || item->whole || item->old_size < BASIS_LEAST ||
	    st->bytes_on_disk < st->size / 2)
		return 0;
	s->bytes = item->old_size;
	s->block = tp_sums_block(s->bytes);
	if (!s->block)
		return 0;
	s->n = s->left = s->bytes / SUMS_BYTES + (s->bytes % SUMS_BYTES != 0);
	r = tp_sums_new(s->bytes, s->block, &s->sums, e);
	if (r < 0)
		return r;
	s->parts = calloc(s->n, 1);
	return s->parts ? 0 : err_set(e, -ENOMEM, "send: out of memory");
}

static void basis_fini(struct basis *s)
{
	tp_sums_free(s->sums);
	free(s->parts);
	*s = (struct basis){ 0 };
}

void stg_bigfile_name(uint64_t id, unsigned serial, char ret[TP_TEMP_MAX + 1])
{
	snprintf(ret, TP_TEMP_MAX + 1, TP_TEMP_PREFIX "%016llx.%x", (unsigned long long)id,
		 serial);
}

int stg_bigfile_new(int fd, const struct stg_item *item, const struct stg_stat *st,
		    const char *temp, bool resume, struct stg_bigfile **ret, struct err *e)
{
	struct stg_bigfile *b = calloc(1, sizeof(*b));
	uint64_t n = tp_leaf_count(st->size);
	int r;

	if (b)
		b->segs = calloc(n, sizeof(*b->segs));
	if (!b || !b->segs) {
		free(b);
		close(fd);
		return err_set(e, -ENOMEM, "send: out of memory");
	}
	pthread_mutex_init(&b->lock, NULL);
	b->refs = 1;
	b->fd = fd;
	b->st = *st;
	b->n = b->most = b->left = b->waiting = n;
	b->touched = resume;
	snprintf(b->temp, sizeof(b->temp), "%s", temp);
	for (uint64_t i = 0; resume && i < n; i++) {
		b->segs[i].state = SEG_VERIFY;
		b->segs[i].sent = true;
	}
	r = stg_job_new(STG_JOB_ITEMS, &b->job, e);
	if (r == 0)
		r = stg_job_add(b->job, item, e);
	if (r == 0)
		r = basis_init(&b->basis, item, st, e);
	if (r < 0) {
		stg_bigfile_unref(b);
		return r;
	}
	stg_job_seal(b->job);
	*ret = b;
	return 0;
}

struct stg_bigfile *stg_bigfile_ref(struct stg_bigfile *b)
{
	pthread_mutex_lock(&b->lock);
	b->refs++;
	pthread_mutex_unlock(&b->lock);
	return b;
}

void stg_bigfile_unref(struct stg_bigfile *b)
{
	unsigned refs;

	if (!b)
		return;
	pthread_mutex_lock(&b->lock);
	refs = --b->refs;
	pthread_mutex_unlock(&b->lock);
	if (refs)
		return;
	close(b->fd);
	stg_job_free(b->job);
	basis_fini(&b->basis);
	free(b->segs);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

int stg_bigfile_fd(const struct stg_bigfile *b)
{
	return b->fd;
}

const char *stg_bigfile_temp(const struct stg_bigfile *b)
{
	return b->temp;
}

void stg_bigfile_stat(struct stg_bigfile *b, struct stg_stat *ret)
{
	pthread_mutex_lock(&b->lock);
	*ret = b->st;
	pthread_mutex_unlock(&b->lock);
}

int stg_bigfile_job(struct stg_bigfile *b, struct stg_job **ret, struct err *e)
{
	struct stg_job *j;
	int r = stg_job_new(STG_JOB_BIG, &j, e);

	if (r < 0)
		return r;
	r = stg_job_add(j, &b->job->items[0], e);
	if (r < 0) {
		stg_job_free(j);
		return r;
	}
	stg_job_seal(j);
	pthread_mutex_lock(&b->lock);
	j->content = b->waiting * TP_LEAF_BYTES;
	b->refs++;
	pthread_mutex_unlock(&b->lock);
	j->big = b;
	*ret = j;
	return 0;
}

/* Lock held. */
static int next_data(struct stg_bigfile *b, uint64_t off, uint64_t *ret_from, uint64_t *ret_to)
{
	int r = 0;

	if (off < b->run_from || off >= b->run_to)
		r = tp_next_data(b->fd, off, b->st.size, &b->run_from, &b->run_to);
	*ret_from = MAX(off, b->run_from);
	*ret_to = b->run_to;
	return r;
}

int stg_bigfile_data(struct stg_bigfile *b, uint64_t off, uint64_t end, uint64_t *ret_from,
		     uint64_t *ret_to)
{
	int r;

	pthread_mutex_lock(&b->lock);
	r = next_data(b, off, ret_from, ret_to);
	pthread_mutex_unlock(&b->lock);
	*ret_from = MIN(*ret_from, end);
	*ret_to = MIN(*ret_to, end);
	return r;
}

/*
 * Segments from index on that are all hole need no work: nothing is sent for what the
 * temporary file has never had.  Where holes cannot be found, there are none.
 */
static void skip_holes(struct stg_bigfile *b, uint64_t index)
{
	uint64_t from = b->st.size, to;

	if (b->segs[index].sent || next_data(b, index * TP_LEAF_BYTES, &from, &to) < 0)
		return;
	for (; index < b->n; index++) {
		struct seg *s = &b->segs[index];

		if (s->state != SEG_OPEN || s->sent ||
		    index * TP_LEAF_BYTES + tp_leaf_bytes(b->st.size, index) > from)
			return;
		s->state = SEG_DONE;
		/* No hash is needed: the root leaves out what is zero. */
		s->hash = (struct tp_hash_value){ 0 };
		b->left--;
		b->waiting--;
	}
}

static bool claimable(const struct seg *s)
{
	return s->state != SEG_BUSY && s->state != SEG_DONE;
}

/* A part of the basis whose sums nobody has asked for.  Lock held.  False: none. */
static bool claim_sums(struct stg_bigfile *b, struct stg_big_claim *ret)
{
	struct basis *s = &b->basis;

	while (s->next < s->n && s->parts[s->next] != SEG_OPEN)
		s->next++;
	if (s->next == s->n)
		return false;
	ret->work = STG_BIG_SUMS;
	ret->index = s->next++;
	ret->off = ret->index * SUMS_BYTES;
	ret->bytes = MIN(s->bytes - ret->off, (uint64_t)SUMS_BYTES);
	ret->size = s->bytes;
	ret->block = s->block;
	s->parts[ret->index] = SEG_BUSY;
	return true;
}

/* Lock held.  False: there is none now. */
static bool claim_segment(struct stg_bigfile *b, struct stg_big_claim *ret)
{
	struct seg *s;

	for (; b->next < b->n; b->next++) {
		if (b->segs[b->next].state == SEG_OPEN)
			skip_holes(b, b->next);
		if (claimable(&b->segs[b->next]))
			break;
	}
	if (b->next == b->n)
		return false;
	s = &b->segs[b->next];
	ret->work = s->state == SEG_OPEN ? STG_BIG_SEND :
		    s->state == SEG_CHECK ? STG_BIG_CHECK : STG_BIG_VERIFY;
	ret->index = b->next++;
	ret->off = ret->index * TP_LEAF_BYTES;
	ret->bytes = tp_leaf_bytes(b->st.size, ret->index);
	ret->hash = s->hash;
	ret->whole = s->tries > 0;
	ret->resumed = !b->round;
	s->state = SEG_BUSY;
	s->sent = b->touched = true;
	b->waiting--;
	return true;
}

bool stg_bigfile_claim(struct stg_bigfile *b, struct stg_big_claim *ret)
{
	bool more = false;

	pthread_mutex_lock(&b->lock);
	*ret = (struct stg_big_claim){ .work = STG_BIG_NONE, .size = b->st.size,
				       .create = !b->made };
	if (!b->dead && b->basis.left) {
		if (claim_sums(b, ret))
			more = b->basis.next < b->basis.n;
	} else if (!b->dead && claim_segment(b, ret)) {
		more = b->waiting > 0;
	} else if (!b->dead && !b->left && !b->finishing) {
		ret->work = STG_BIG_FINISH;
		b->finishing = true;
	}
	b->active += ret->work != STG_BIG_NONE;
	pthread_mutex_unlock(&b->lock);
	return more;
}

int stg_bigfile_summed(struct stg_bigfile *b, const struct stg_big_claim *c, struct bytes sums,
		       struct err *e)
{
	struct basis *s = &b->basis;
	bool last;
	int r = 0;

	pthread_mutex_lock(&b->lock);
	if (s->sums && sums.n != (c->bytes + c->block - 1) / c->block * TP_SUM_BYTES) {
		if (sums.p)
			r = err_set(e, -ERR_PROTOCOL, "sums that were not asked for");
		tp_sums_free(TAKE_PTR(s->sums));
	}
	if (r == 0 && s->sums)
		r = tp_sums_put(s->sums, c->off / c->block, sums, e);
	/* Without all of them the others are of no use. */
	if (!s->sums)
		for (uint64_t i = 0; i < s->n; i++)
			if (s->parts[i] == SEG_OPEN) {
				s->parts[i] = SEG_DONE;
				s->left--;
			}
	s->parts[c->index] = SEG_DONE;
	last = s->left == 1;
	if (last && s->sums && tp_sums_ready(s->sums, e) < 0) {
		r = -ENOMEM;
		tp_sums_free(TAKE_PTR(s->sums));
	}
	s->left--;
	pthread_mutex_unlock(&b->lock);
	return r < 0 ? r : last;
}

const struct tp_sums *stg_bigfile_sums(struct stg_bigfile *b)
{
	const struct tp_sums *sums;

	pthread_mutex_lock(&b->lock);
	sums = b->basis.sums;
	pthread_mutex_unlock(&b->lock);
	return sums;
}

bool stg_bigfile_done(struct stg_bigfile *b, const struct stg_big_claim *c,
		      const struct tp_hash_value *hash)
{
	bool last;

	pthread_mutex_lock(&b->lock);
	b->segs[c->index].state = SEG_DONE;
	b->segs[c->index].hash = *hash;
	b->made = true;
	last = --b->left == 0;
	pthread_mutex_unlock(&b->lock);
	return last;
}

/* Lock held. */
static void put_back(struct stg_bigfile *b, const struct stg_big_claim *c)
{
	if (c->work == STG_BIG_FINISH) {
		b->finishing = false;
		return;
	}
	if (c->work == STG_BIG_SUMS) {
		b->basis.parts[c->index] = SEG_OPEN;
		b->basis.next = MIN(b->basis.next, c->index);
		return;
	}
	b->segs[c->index].state = c->work == STG_BIG_VERIFY ? SEG_VERIFY :
				  c->work == STG_BIG_CHECK ? SEG_CHECK : SEG_OPEN;
	b->next = MIN(b->next, c->index);
	b->waiting++;
}

void stg_bigfile_found(struct stg_bigfile *b, const struct stg_big_claim *c,
		       const struct tp_hash_value *hash)
{
	pthread_mutex_lock(&b->lock);
	put_back(b, c);
	b->segs[c->index].state = hash ? SEG_CHECK : SEG_OPEN;
	if (hash)
		b->segs[c->index].hash = *hash;
	pthread_mutex_unlock(&b->lock);
}

void stg_bigfile_back(struct stg_bigfile *b, const struct stg_big_claim *c)
{
	pthread_mutex_lock(&b->lock);
	put_back(b, c);
	b->ended |= c->work == STG_BIG_FINISH;
	pthread_mutex_unlock(&b->lock);
}

bool stg_bigfile_again(struct stg_bigfile *b, const struct stg_big_claim *c)
{
	bool more;

	pthread_mutex_lock(&b->lock);
	more = ++b->segs[c->index].tries < SEGMENT_TRIES;
	put_back(b, c);
	pthread_mutex_unlock(&b->lock);
	return more;
}

bool stg_bigfile_restart(struct stg_bigfile *b, const struct stg_stat *st)
{
	uint64_t n = tp_leaf_count(st->size);
	struct seg *v;
	bool ok = false;

	pthread_mutex_lock(&b->lock);
	if (b->round < ROUNDS && st->size && st->size <= STG_BIG_BYTES_MAX) {
		v = reallocarray(b->segs, MAX(n, b->most), sizeof(*v));
		if (v) {
			ok = true;
			b->segs = v;
		}
	}
	if (ok) {
		b->round++;
		for (; b->most < n; b->most++)
			b->segs[b->most] = (struct seg){ 0 };
		for (uint64_t i = 0; i < n; i++)
			b->segs[i].state = b->segs[i].sent ? SEG_CHECK : SEG_OPEN;
		b->st = *st;
		b->run_from = b->run_to = 0;
		b->n = b->left = b->waiting = n;
		b->next = 0;
		b->finishing = false;
	}
	pthread_mutex_unlock(&b->lock);
	return ok;
}

int stg_bigfile_hash(struct stg_bigfile *b, struct tp_hash_value *ret, struct err *e)
{
	struct tp_hash_value zeros, end;
	struct tp_hash *h;
	int r = tp_hash_new(&h, e);

	if (r < 0)
		return r;
	pthread_mutex_lock(&b->lock);
	tp_hash_zeros(h, TP_LEAF_BYTES, &zeros);
	tp_hash_zeros(h, tp_leaf_bytes(b->st.size, b->n - 1), &end);
	tp_hash_reset(h);
	for (uint64_t i = 0; i < b->n; i++) {
		const struct tp_hash_value *leaf = &b->segs[i].hash;

		if (b->segs[i].sent && !tp_hash_eq(leaf, i + 1 == b->n ? &end : &zeros))
			tp_hash_leaf(h, i, leaf);
	}
	tp_hash_root(h, b->st.size, ret);
	pthread_mutex_unlock(&b->lock);
	tp_hash_free(h);
	return 0;
}

bool stg_bigfile_ended(struct stg_bigfile *b)
{
	bool ended;

	pthread_mutex_lock(&b->lock);
	ended = b->ended;
	pthread_mutex_unlock(&b->lock);
	return ended;
}

bool stg_bigfile_kill(struct stg_bigfile *b)
{
	bool first;

	pthread_mutex_lock(&b->lock);
	first = !b->dead;
	b->dead = true;
	pthread_mutex_unlock(&b->lock);
	return first;
}

bool stg_bigfile_release(struct stg_bigfile *b)
{
	bool remove;

	pthread_mutex_lock(&b->lock);
	remove = --b->active == 0 && b->dead && b->touched;
	pthread_mutex_unlock(&b->lock);
	return remove;
}
