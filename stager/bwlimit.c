/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/bwlimit.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "common/io.h"

/* Below this a write is all overhead; one SSH packet holds 32 KiB. */
#define GRAIN_BYTES 4096

struct stg_bwlimit {
	pthread_mutex_t lock;
	struct stg_bwlimit_opts o;
	struct stg_bwlimit_state now;
	double rate;  /* bytes per nanosecond; 0: no limit now */
	double size;  /* of the bucket, bytes */
	double level; /* below zero: debt */
	int64_t at_ns, looked_ns;
};

static int64_t mono_ns(const struct stg_bwlimit *b)
{
	return b->o.mono_ns ? b->o.mono_ns(b->o.clock_arg) : clock_mono_ns();
}

static int64_t real_ns(const struct stg_bwlimit *b)
{
	return b->o.real_ns ? b->o.real_ns(b->o.clock_arg) : clock_real_ns();
}

/* Which limit does this hour have? */
static void look(struct stg_bwlimit *b)
{
	const struct stg_bwwindow *w =
		stg_bwwindow_at(b->o.windows, b->o.windows_n, real_ns(b) / 1000000000);
	uint64_t bytes = w ? w->bytes_per_s : b->o.bytes_per_s;

	/* While there was none nobody counted: that is no credit. */
	if (!b->now.bytes_per_s)
		b->level = 0;
	b->now = (struct stg_bwlimit_state){ .bytes_per_s = bytes, .window = w };
	b->rate = (double)bytes / 1e9;
	b->size = (double)bytes * STG_BWLIMIT_BURST_MS / 1000;
	if (b->size < GRAIN_BYTES)
		b->size = GRAIN_BYTES;
}

int stg_bwlimit_new(const struct stg_bwlimit_opts *o, struct stg_bwlimit **ret, struct err *e)
{
	struct stg_bwlimit *b;

	*ret = NULL;
	if (!o->bytes_per_s && !o->windows_n)
		return 0;
	b = calloc(1, sizeof(*b));
	if (!b)
		return err_set(e, -ENOMEM, "limit bandwidth: out of memory");
	pthread_mutex_init(&b->lock, NULL);
	b->o = *o;
	b->at_ns = b->looked_ns = mono_ns(b);
	look(b);
	*ret = b;
	return 0;
}

void stg_bwlimit_free(struct stg_bwlimit *b)
{
	if (!b)
		return;
	pthread_mutex_destroy(&b->lock);
	free(b);
}

/* Lock held. */
static void fill(struct stg_bwlimit *b)
{
	int64_t now = mono_ns(b);

	b->level += (double)(now - b->at_ns) * b->rate;
	b->at_ns = now;
	if (b->o.windows_n && now - b->looked_ns >= STG_BWLIMIT_LOOK_MS * 1000000LL) {
		b->looked_ns = now;
		look(b);
	}
	if (b->level > b->size)
		b->level = b->size;
}

static double grain(const struct stg_bwlimit *b, size_t want)
{
	double g = want < GRAIN_BYTES ? (double)want : GRAIN_BYTES;

	return g < b->size ? g : b->size;
}

size_t stg_bwlimit_take(struct stg_bwlimit *b, size_t want)
{
	size_t n = 0;

	if (!b)
		return want;
	pthread_mutex_lock(&b->lock);
	fill(b);
	if (b->rate <= 0)
		n = want;
	else if (b->level > 0 && b->level >= grain(b, want))
		n = b->level < (double)want ? (size_t)b->level : want;
	b->level -= (double)n;
	pthread_mutex_unlock(&b->lock);
	return n;
}

void stg_bwlimit_settle(struct stg_bwlimit *b, size_t taken, uint64_t spent)
{
	if (!b || taken == spent)
		return;
	pthread_mutex_lock(&b->lock);
	b->level += (double)taken - (double)spent;
	pthread_mutex_unlock(&b->lock);
}

int stg_bwlimit_pause_ms(struct stg_bwlimit *b, size_t want)
{
	double ms = 0;

	if (!b || !want)
		return 0;
	pthread_mutex_lock(&b->lock);
	fill(b);
	if (b->rate > 0)
		ms = (grain(b, want) - b->level) / b->rate / 1e6;
	pthread_mutex_unlock(&b->lock);
	if (ms <= 0)
		return 0;
	return ms < STG_BWLIMIT_PAUSE_MS ? (int)ms + 1 : STG_BWLIMIT_PAUSE_MS;
}

void stg_bwlimit_get(struct stg_bwlimit *b, struct stg_bwlimit_state *ret)
{
	*ret = (struct stg_bwlimit_state){ 0 };
	if (!b)
		return;
	pthread_mutex_lock(&b->lock);
	fill(b);
	*ret = b->now;
	pthread_mutex_unlock(&b->lock);
}
