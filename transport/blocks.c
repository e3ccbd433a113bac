/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The weak sum of n bytes b[0..n) is that of Adler and of rsync, in 32 bits each: the sum of
 * the bytes, and the sum of (n - i) * b[i].  Both can be rolled by one byte.  What is kept and
 * compared is a mix of the two, so that text, with its few values, spreads over all bits.
 *
 * A filter of eight bits for each block answers nearly all offsets that match nothing; it
 * stays in the cache of a core where the index would not.
 */
#include "transport/blocks.h"

#include <errno.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif
#include <stdlib.h>
#include <string.h>

#include "transport/hash.h"

#define PROBES_MAX   32u          /* of the index: a hostile target could make them many */
#define FILTER_BITS  64u           /* for each block, at least */
#define NO_BLOCK     UINT32_MAX

struct weak {
	uint32_t a, b;
};

struct tp_sums {
	uint64_t basis_bytes;
	uint32_t block;
	uint32_t full, all; /* blocks: whole ones, and with the short last one */
	uint32_t *weak;
	uint32_t *strong;
	uint32_t *index;    /* by weak sum: numbers of blocks, or NO_BLOCK */
	unsigned index_shift;
	uint8_t *filter;
	unsigned filter_shift;
};

struct tp_match {
	const struct tp_sums *s;
	uint64_t from, to;   /* what is told of */
	uint64_t feed_from, feed_to;
	uint8_t *window;
	size_t window_bytes;
	size_t at, n;        /* in the window: the next byte to decide, the end */
	size_t told;         /* in the window: all before it has been told */
	uint64_t base;       /* offset in the file of the window's first byte */
	int64_t shift;       /* of the last match: offset in the basis less that in the file */
	bool rolling;        /* sum is that of the block at `at` */
	struct weak sum;
	struct {
		uint64_t off, basis_off, n;
	} copy;              /* not told yet: the next match may prolong it */
};

/* --- sums --- */

uint32_t tp_sums_block(uint64_t basis_bytes)
{
	uint32_t block = TP_BLOCK_LEAST;

	while (block < TP_BLOCK_MOST && (uint64_t)block * block < basis_bytes)
		block *= 2;
	return basis_bytes / block < TP_SUMS_MAX ? block : 0;
}

/* What whole runs of 64 bytes add; the count of bytes taken. */
#ifdef __SSE2__

/* The compiler makes six times as much of it: it has no sum of bytes and no product of pairs. */
static size_t weak_of_runs(const uint8_t *p, size_t n, struct weak *w)
{
	const __m128i zero = _mm_setzero_si128();
	__m128i a = zero, before = zero, weighted = zero;
	uint32_t lane[4];
	size_t at;

	for (at = 0; at + 64 <= n; at += 64) {
		__m128i factor = _mm_setr_epi16(64, 63, 62, 61, 60, 59, 58, 57);

		before = _mm_add_epi32(before, a);
		for (int i = 0; i < 4; i++) {
			__m128i v = _mm_loadu_si128((const __m128i *)(p + at + 16 * i));
			__m128i low = _mm_unpacklo_epi8(v, zero), high = _mm_unpackhi_epi8(v, zero);

			a = _mm_add_epi32(a, _mm_sad_epu8(v, zero));
			weighted = _mm_add_epi32(weighted, _mm_madd_epi16(low, factor));
			factor = _mm_sub_epi16(factor, _mm_set1_epi16(8));
			weighted = _mm_add_epi32(weighted, _mm_madd_epi16(high, factor));
			factor = _mm_sub_epi16(factor, _mm_set1_epi16(8));
		}
	}
	_mm_storeu_si128((__m128i *)lane, a);
	w->a = lane[0] + lane[1] + lane[2] + lane[3];
	_mm_storeu_si128((__m128i *)lane, before);
	w->b = 64 * (lane[0] + lane[1] + lane[2] + lane[3]);
	_mm_storeu_si128((__m128i *)lane, weighted);
	w->b += lane[0] + lane[1] + lane[2] + lane[3];
	return at;
}

#else

static size_t weak_of_runs(const uint8_t *p, size_t n, struct weak *w)
{
	size_t at;

	*w = (struct weak){ 0, 0 };
	for (at = 0; at + 64 <= n; at += 64) {
		uint32_t sum = 0, weighted = 0;

		for (uint32_t i = 0; i < 64; i++) {
			sum += p[at + i];
			weighted += (uint16_t)((64 - i) * p[at + i]);
		}
		w->b += 64 * w->a + weighted;
		w->a += sum;
	}
	return at;
}

#endif

static struct weak weak_of(const uint8_t *p, size_t n)
{
	struct weak w;

	for (size_t i = weak_of_runs(p, n, &w); i < n; i++) {
		w.a += p[i];
		w.b += w.a;
	}
	return w;
}

static uint32_t mix(struct weak w)
{
	return (uint32_t)((((uint64_t)w.a << 32 | w.b) * 0x9e3779b97f4a7c15u) >> 32);
}

static uint32_t strong_of(const uint8_t *p, size_t n)
{
	return (uint32_t)tp_hash64(p, n);
}

int tp_sums_make(struct bytes data, uint32_t block_bytes, struct buf *out)
{
	while (data.n) {
		size_t n = MIN(data.n, (size_t)block_bytes);
		uint8_t sum[TP_SUM_BYTES];

		le32_put(sum, mix(weak_of(data.p, n)));
		le32_put(sum + 4, strong_of(data.p, n));
		if (buf_put(out, sum, sizeof(sum)) < 0)
			return -ENOMEM;
		data = bytes_of(data.p + n, data.n - n);
	}
	return 0;
}

int tp_sums_new(uint64_t basis_bytes, uint32_t block_bytes, struct tp_sums **ret,
		struct err *e)
{
	_cleanup_(tp_sums_freep) struct tp_sums *s = calloc(1, sizeof(*s));

	if (!block_bytes || block_bytes != tp_sums_block(basis_bytes))
		return err_set(e, -ERR_PROTOCOL, "sums of a file: blocks of %u bytes",
			       block_bytes);
	if (!s)
		return err_set(e, -ENOMEM, "sums of a file: out of memory");
	s->basis_bytes = basis_bytes;
	s->block = block_bytes;
	s->full = (uint32_t)(basis_bytes / block_bytes);
	s->all = s->full + (basis_bytes % block_bytes != 0);
	s->weak = calloc(s->all + 1u, sizeof(*s->weak));
	s->strong = calloc(s->all + 1u, sizeof(*s->strong));
	if (!s->weak || !s->strong)
		return err_set(e, -ENOMEM, "sums of a file: out of memory");
	*ret = TAKE_PTR(s);
	return 0;
}

void tp_sums_free(struct tp_sums *s)
{
	if (!s)
		return;
	free(s->weak);
	free(s->strong);
	free(s->index);
	free(s->filter);
	free(s);
}

int tp_sums_put(struct tp_sums *s, uint64_t first, struct bytes wire, struct err *e)
{
	uint64_t n = wire.n / TP_SUM_BYTES;

	if (wire.n % TP_SUM_BYTES || first > s->all || n > s->all - first)
		return err_set(e, -ERR_PROTOCOL, "sums of a file: not those that were asked for");
	for (uint64_t i = 0; i < n; i++) {
		s->weak[first + i] = le32_get(wire.p + i * TP_SUM_BYTES);
		s->strong[first + i] = le32_get(wire.p + i * TP_SUM_BYTES + 4);
	}
	return 0;
}

/* The power of two from which `bits` can be had by shifting a 32-bit sum. */
static unsigned shift_for(uint64_t least)
{
	unsigned bits = 10;

	while (bits < 30 && (uint64_t)1 << bits < least)
		bits++;
	return 32 - bits;
}

/* Equal blocks need to be there only once. */
static void index_add(struct tp_sums *s, uint32_t block)
{
	uint32_t weak = s->weak[block], mask = UINT32_MAX >> s->index_shift;
	uint32_t at = weak >> s->index_shift, bit = weak >> s->filter_shift;

	s->filter[bit / 8] |= (uint8_t)(1u << bit % 8);
	for (uint32_t i = 0; i < PROBES_MAX; i++, at = (at + 1) & mask) {
		uint32_t there = s->index[at];

		if (there == NO_BLOCK) {
			s->index[at] = block;
			return;
		}
		if (s->weak[there] == weak && s->strong[there] == s->strong[block])
			return;
	}
}

int tp_sums_ready(struct tp_sums *s, struct err *e)
{
	size_t index_n, filter_n;

	s->index_shift = shift_for(2 * (uint64_t)s->full);
	s->filter_shift = shift_for(FILTER_BITS * (uint64_t)s->full);
	index_n = (size_t)1 << (32 - s->index_shift);
	filter_n = (size_t)1 << (32 - s->filter_shift);
	s->index = malloc(index_n * sizeof(*s->index));
	s->filter = calloc(filter_n / 8, 1);
	if (!s->index || !s->filter)
		return err_set(e, -ENOMEM, "sums of a file: out of memory");
	memset(s->index, 0xff, index_n * sizeof(*s->index));
	for (uint32_t i = 0; i < s->full; i++)
		index_add(s, i);
	return 0;
}

static bool is_strong(const struct tp_sums *s, uint32_t block, const uint8_t *p, size_t n)
{
	return strong_of(p, n) == s->strong[block];
}

/* A whole block with this weak sum and the bytes at p, or NO_BLOCK. */
static uint32_t lookup(const struct tp_sums *s, uint32_t weak, const uint8_t *p)
{
	uint32_t mask = UINT32_MAX >> s->index_shift, at = weak >> s->index_shift;
	uint32_t strong = 0;
	bool known = false;

	for (uint32_t i = 0; i < PROBES_MAX; i++, at = (at + 1) & mask) {
		uint32_t there = s->index[at];

		if (there == NO_BLOCK)
			break;
		if (s->weak[there] != weak)
			continue;
		if (!known)
			strong = strong_of(p, s->block);
		known = true;
		if (s->strong[there] == strong)
			return there;
	}
	return NO_BLOCK;
}

/* --- matching --- */

int tp_match_new(const struct tp_sums *s, uint64_t from, uint64_t to, uint64_t size,
		 struct tp_match **ret, struct err *e)
{
	struct tp_match *m = calloc(1, sizeof(*m));

	if (!m)
		return err_set(e, -ENOMEM, "match: out of memory");
	m->s = s;
	m->from = from;
	m->to = to;
	/* From an end of a block on, whatever the shift of the content is. */
	m->feed_from = from - MIN(from, (uint64_t)s->block);
	m->feed_to = size - to > s->block ? to + s->block : size;
	m->base = m->feed_from;
	m->window_bytes = 2 * (size_t)s->block + 2 * TP_MATCH_BYTES;
	m->window = malloc(m->window_bytes);
	if (!m->window) {
		free(m);
		return err_set(e, -ENOMEM, "match: out of memory");
	}
	*ret = m;
	return 0;
}

void tp_match_free(struct tp_match *m)
{
	if (!m)
		return;
	free(m->window);
	free(m);
}

void tp_match_range(const struct tp_match *m, uint64_t *ret_from, uint64_t *ret_to)
{
	*ret_from = m->feed_from;
	*ret_to = m->feed_to;
}

uint8_t *tp_match_room(struct tp_match *m)
{
	return m->window + m->n;
}

static int tell_copy(struct tp_match *m, const struct tp_match_ops *ops, void *ctx,
		     struct err *e)
{
	uint64_t n = m->copy.n;

	m->copy.n = 0;
	return n ? ops->copy(ctx, m->copy.off, m->copy.basis_off, n, e) : 0;
}

/* Tell what is before `at` and no match. */
static int tell_literal(struct tp_match *m, const struct tp_match_ops *ops, void *ctx,
			struct err *e)
{
	uint64_t off = MAX(m->base + m->told, m->from);
	uint64_t end = MIN(m->base + m->at, m->to);
	int r = 0;

	if (off < end)
		r = tell_copy(m, ops, ctx, e);
	while (r == 0 && off < end) {
		uint64_t n = MIN(end - off, (uint64_t)TP_MATCH_BYTES);

		r = ops->literal(ctx, off, bytes_of(m->window + (off - m->base), n), e);
		off += n;
	}
	m->told = m->at;
	return r;
}

/* The n bytes at `at` are those of the basis from basis_off on. */
static int matched(struct tp_match *m, uint64_t basis_off, size_t n,
		   const struct tp_match_ops *ops, void *ctx, struct err *e)
{
	uint64_t off = m->base + m->at, end = MIN(off + n, m->to);
	int r = tell_literal(m, ops, ctx, e);

	m->shift = (int64_t)basis_off - (int64_t)off;
	if (off < m->from) {
		basis_off += m->from - off;
		off = m->from;
	}
	if (r == 0 && off < end) {
		if (m->copy.n && m->copy.off + m->copy.n == off &&
		    m->copy.basis_off + m->copy.n == basis_off) {
			m->copy.n += end - off;
		} else {
			r = tell_copy(m, ops, ctx, e);
			m->copy.off = off;
			m->copy.basis_off = basis_off;
			m->copy.n = end - off;
		}
	}
	m->at += n;
	m->told = m->at;
	m->rolling = false;
	return r;
}

/* The whole block that would be at window offset `at` if the last match went on. */
static uint32_t expected(const struct tp_match *m, size_t at)
{
	uint64_t basis = m->base + at + (uint64_t)m->shift;

	if (basis % m->s->block || basis / m->s->block >= m->s->full)
		return NO_BLOCK;
	return (uint32_t)(basis / m->s->block);
}

static bool is_expected(const struct tp_match *m, size_t at)
{
	uint32_t block = expected(m, at);

	return block != NO_BLOCK && is_strong(m->s, block, m->window + at, m->s->block);
}

/* Try every offset from `at` on.  A block with its bytes at `at`, or NO_BLOCK: data ran out. */
static uint32_t roll(struct tp_match *m)
{
	const struct tp_sums *s = m->s;
	const uint8_t *p = m->window + m->at, *end = m->window + m->n - s->block;
	const uint8_t *filter = s->filter;
	uint32_t found = NO_BLOCK, block = s->block;
	unsigned shift = s->filter_shift;
	struct weak w = m->rolling ? m->sum : weak_of(p, block);

	for (;;) {
		uint32_t weak = mix(w), bit = weak >> shift;

		if (filter[bit / 8] >> bit % 8 & 1) {
			found = lookup(s, weak, p);
			if (found != NO_BLOCK)
				break;
		}
		if (p == end)
			break;
		w.a += (uint32_t)p[block] - p[0];
		w.b += w.a - block * p[0];
		p++;
	}
	m->at = (size_t)(p - m->window);
	m->sum = w;
	m->rolling = true;
	return found;
}

/*
 * Decide as much as the window lets.  Where the block at `at` is not as expected but the one
 * after it is, the file was changed in place, and there is no need to search.
 */
static int decide(struct tp_match *m, bool eof, const struct tp_match_ops *ops, void *ctx,
		  struct err *e)
{
	const size_t block = m->s->block;
	int r = 0;

	while (r == 0 && m->n - m->at >= block && m->base + m->at < m->to) {
		uint32_t found;

		if (!m->rolling) {
			if (is_expected(m, m->at)) {
				r = matched(m, (uint64_t)expected(m, m->at) * block, block, ops,
					    ctx, e);
				continue;
			}
			if (!eof && m->n - m->at < 2 * block)
				break;
			if (m->n - m->at >= 2 * block && is_expected(m, m->at + block)) {
				m->at += block;
				continue;
			}
		} else if (m->n - m->at == block && !eof) {
			break; /* this one has been looked at, and there is nothing to roll in */
		}
		found = roll(m);
		if (found == NO_BLOCK)
			break;
		r = matched(m, (uint64_t)found * block, block, ops, ctx, e);
	}
	return r;
}

/* All has been fed: the last block of the basis may be a short one. */
static int decide_end(struct tp_match *m, const struct tp_match_ops *ops, void *ctx,
		      struct err *e)
{
	const struct tp_sums *s = m->s;
	size_t tail = (size_t)(s->basis_bytes % s->block);
	int r = 0;

	if (tail && m->n - m->at >= tail &&
	    is_strong(s, s->full, m->window + m->n - tail, tail)) {
		m->at = m->n - tail;
		r = matched(m, (uint64_t)s->full * s->block, tail, ops, ctx, e);
	}
	m->at = m->n;
	if (r == 0)
		r = tell_literal(m, ops, ctx, e);
	return r == 0 ? tell_copy(m, ops, ctx, e) : r;
}

/* Drop what has been told. */
static void slide(struct tp_match *m)
{
	memmove(m->window, m->window + m->told, m->n - m->told);
	m->base += m->told;
	m->at -= m->told;
	m->n -= m->told;
	m->told = 0;
}

int tp_match_step(struct tp_match *m, struct bytes in, bool eof,
		  const struct tp_match_ops *ops, void *ctx, struct err *e)
{
	do {
		size_t n = MIN(in.n, (size_t)TP_MATCH_BYTES);
		int r;

		if (n && in.p != m->window + m->n)
			memcpy(m->window + m->n, in.p, n);
		m->n += n;
		in = bytes_of(in.p + n, in.n - n);
		r = decide(m, eof && !in.n, ops, ctx, e);
		if (r == 0 && eof && !in.n)
			return decide_end(m, ops, ctx, e);
		if (r == 0)
			r = tell_literal(m, ops, ctx, e);
		if (r < 0)
			return r;
		slide(m);
	} while (in.n);
	return 0;
}
