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
	double rate;  /* bytes per nanosecond */
	double size;  /* of the bucket, bytes */
	double level;
	int64_t at_ns;
};

int stg_bwlimit_new(uint64_t bytes_per_s, struct stg_bwlimit **ret, struct err *e)
{
	struct stg_bwlimit *b = calloc(1, sizeof(*b));

	if (!b)
		return err_set(e, -ENOMEM, "limit bandwidth: out of memory");
	pthread_mutex_init(&b->lock, NULL);
	b->rate = (double)bytes_per_s / 1e9;
	b->size = (double)bytes_per_s * STG_BWLIMIT_BURST_MS / 1000;
	if (b->size < GRAIN_BYTES)
		b->size = GRAIN_BYTES;
	b->at_ns = clock_mono_ns();
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
	int64_t now = clock_mono_ns();

	b->level += (double)(now - b->at_ns) * b->rate;
	b->at_ns = now;
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
	if (b->level >= grain(b, want))
		n = b->level < (double)want ? (size_t)b->level : want;
	b->level -= (double)n;
	pthread_mutex_unlock(&b->lock);
	return n;
}

void stg_bwlimit_return(struct stg_bwlimit *b, size_t n)
{
	if (!b || !n)
		return;
	pthread_mutex_lock(&b->lock);
	b->level += (double)n;
	pthread_mutex_unlock(&b->lock);
}

int stg_bwlimit_pause_ms(struct stg_bwlimit *b, size_t want)
{
	double missing;

	if (!b || !want)
		return 0;
	pthread_mutex_lock(&b->lock);
	fill(b);
	missing = grain(b, want) - b->level;
	pthread_mutex_unlock(&b->lock);
	return missing <= 0 ? 0 : (int)(missing / b->rate / 1e6) + 1;
}
