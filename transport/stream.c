/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/stream.h"

#include <errno.h>
#include <zstd.h>

#include "common/macro.h"
#include "transport/protocol.h"

/*
 * What zstd has made is part of its stream and must be sent, so whether a block is worth it
 * is decided before.  While blocks shrink, all go through zstd.  After one that did not,
 * the next 2, 4, .. SKIP_MAX go plain, but for those whose bytes are distributed so
 * unevenly, in a sample of 2 KiB, that entropy coding alone would gain: so text after a
 * film is found at once, and repeats of random bytes after SKIP_MAX blocks at the latest.
 */
#define AUTO_LEVEL   1
#define TINY         64u /* a block of less goes plain, whatever is in it */
#define SKIP_MAX     64u
#define SAMPLES      8u
#define SAMPLE_BYTES 256u

struct tp_pack {
	ZSTD_CCtx *z; /* NULL: plain blocks only */
	int level, next_level; /* that of the frame at work, and the one asked for */
	unsigned poor;  /* blocks in a row that did not shrink */
	unsigned skip;  /* blocks to go until zstd is tried in any case */
	unsigned blind; /* blocks to go until the sample is believed again */
	uint64_t raw;
	uint64_t packed;
};

struct tp_unpack {
	ZSTD_DCtx *z;
};

static int zstd_err(struct err *e, int code, const char *what, size_t r)
{
	return err_set(e, code, "%s: %s", what, ZSTD_getErrorName(r));
}

int tp_pack_new(int level, struct tp_pack **ret, struct err *e)
{
	struct tp_pack *p = calloc(1, sizeof(*p));
	size_t r;

	if (!p)
		return err_set(e, -ENOMEM, "out of memory for packing");
	if (level == TP_LEVEL_OFF) {
		*ret = p;
		return 0;
	}
	if (level == TP_LEVEL_AUTO)
		level = AUTO_LEVEL;
	p->z = ZSTD_createCCtx();
	if (!p->z) {
		tp_pack_free(p);
		return err_set(e, -ENOMEM, "out of memory for packing");
	}
	r = ZSTD_CCtx_setParameter(p->z, ZSTD_c_compressionLevel, level);
	if (!ZSTD_isError(r))
		r = ZSTD_CCtx_setParameter(p->z, ZSTD_c_windowLog, TP_ZSTD_WINDOW);
	if (ZSTD_isError(r)) {
		tp_pack_free(p);
		return zstd_err(e, -EINVAL, "set up zstd", r);
	}
	p->level = p->next_level = level;
	*ret = p;
	return 0;
}

void tp_pack_set_level(struct tp_pack *p, int level)
{
	p->next_level = level;
}

bool tp_pack_shrinks(const struct tp_pack *p)
{
	return !p->poor;
}

void tp_pack_free(struct tp_pack *p)
{
	if (!p)
		return;
	ZSTD_freeCCtx(p->z);
	free(p);
}

/*
 * Count the pairs of equal bytes in a sample.  Even bytes have n + n^2/256 (each with
 * itself, and by chance); half as many again means an entropy of about 7.5 bits or less.
 */
static bool looks_uneven(const uint8_t *p, size_t n)
{
	size_t step = n / SAMPLES;
	uint16_t count[4][256] = { 0 };
	uint32_t pairs = 0;
	uint32_t total = 0;

	for (size_t s = 0; s < SAMPLES; s++) {
		const uint8_t *q = p + s * step;
		size_t len = MIN(step, (size_t)SAMPLE_BYTES) & ~(size_t)3;

		/* Four tables, so that equal neighbours do not wait for each other. */
		for (size_t i = 0; i < len; i += 4) {
			count[0][q[i]]++;
			count[1][q[i + 1]]++;
			count[2][q[i + 2]]++;
			count[3][q[i + 3]]++;
		}
		total += (uint32_t)len;
	}
	for (size_t i = 0; i < 256; i++) {
		uint32_t c = (uint32_t)count[0][i] + count[1][i] + count[2][i] + count[3][i];

		pairs += c * c;
	}
	return pairs > total + total * total / 256 * 3 / 2;
}

static bool worth_packing(struct tp_pack *p, const uint8_t *data, size_t n)
{
	if (!p->z || n < TINY)
		return false;
	if (p->skip)
		p->skip--;
	if (p->blind)
		p->blind--;
	return !p->skip || (!p->blind && looks_uneven(data, n));
}

static void learn(struct tp_pack *p, size_t raw, size_t packed)
{
	if (packed < raw - raw / 20) {
		p->poor = p->skip = p->blind = 0;
		return;
	}
	/* The sample promised what zstd could not hold. */
	if (p->skip)
		p->blind = SKIP_MAX;
	p->poor++;
	p->skip = p->poor < 6 ? 1u << p->poor : SKIP_MAX;
}

static int put_plain(struct buf *out, const uint8_t *data, size_t n, struct err *e)
{
	if (buf_reserve(out, TP_BLOCK_HEAD + n) < 0)
		return err_set(e, -ENOMEM, "out of memory for a block");
	le32_put(out->p + out->n, (uint32_t)n);
	memcpy(out->p + out->n + TP_BLOCK_HEAD, data, n);
	out->n += TP_BLOCK_HEAD + n;
	return 0;
}

/* A frame of zstd has one level: end the one at work, so that the next begins with another. */
static size_t change_level(struct tp_pack *p, ZSTD_outBuffer *zout)
{
	ZSTD_inBuffer none = { NULL, 0, 0 };
	size_t r = ZSTD_compressStream2(p->z, zout, &none, ZSTD_e_end);

	if (!ZSTD_isError(r))
		r = ZSTD_CCtx_setParameter(p->z, ZSTD_c_compressionLevel, p->next_level);
	p->level = p->next_level;
	return r;
}

static int put_packed(struct tp_pack *p, struct buf *out, const uint8_t *data, size_t n,
		      struct err *e)
{
	ZSTD_inBuffer zin = { data, n, 0 };
	ZSTD_outBuffer zout = { 0 };
	size_t r = 0;

	/* The bound is one frame's; heads, the flush and an end are a few bytes more. */
	zout.size = MIN(ZSTD_compressBound(n) + 64, (size_t)TP_BLOCK_MAX);
	if (buf_reserve(out, TP_BLOCK_HEAD + zout.size) < 0)
		return err_set(e, -ENOMEM, "out of memory for a block");
	zout.dst = out->p + out->n + TP_BLOCK_HEAD;
	if (p->level != p->next_level)
		r = change_level(p, &zout);
	if (!ZSTD_isError(r))
		r = ZSTD_compressStream2(p->z, &zout, &zin, ZSTD_e_flush);
	if (ZSTD_isError(r))
		return zstd_err(e, -ENOMEM, "pack", r);
	if (r || zin.pos < n)
		return err_set(e, -EIO, "pack: zstd held back bytes");
	le32_put(out->p + out->n, (uint32_t)zout.pos | TP_BLOCK_Z);
	out->n += TP_BLOCK_HEAD + zout.pos;
	learn(p, n, zout.pos);
	return 0;
}

int tp_pack(struct tp_pack *p, struct buf *in, bool flush, struct buf *out, struct err *e)
{
	struct bytes v;
	size_t before;
	int r;

	for (v = buf_view(in); v.n >= TP_BLOCK_RAW_MAX || (flush && v.n); v = buf_view(in)) {
		v.n = MIN(v.n, (size_t)TP_BLOCK_RAW_MAX);
		before = buf_len(out);
		if (worth_packing(p, v.p, v.n))
			r = put_packed(p, out, v.p, v.n, e);
		else
			r = put_plain(out, v.p, v.n, e);
		if (r < 0)
			return r;
		p->raw += v.n;
		p->packed += buf_len(out) - before;
		buf_consume(in, v.n);
	}
	return 0;
}

void tp_pack_stats(const struct tp_pack *p, uint64_t *ret_raw, uint64_t *ret_packed)
{
	*ret_raw = p->raw;
	*ret_packed = p->packed;
}

int tp_unpack_new(struct tp_unpack **ret, struct err *e)
{
	struct tp_unpack *u = calloc(1, sizeof(*u));
	size_t r;

	if (u)
		u->z = ZSTD_createDCtx();
	if (!u || !u->z) {
		tp_unpack_free(u);
		return err_set(e, -ENOMEM, "out of memory for unpacking");
	}
	r = ZSTD_DCtx_setParameter(u->z, ZSTD_d_windowLogMax, TP_ZSTD_WINDOW);
	if (ZSTD_isError(r)) {
		tp_unpack_free(u);
		return zstd_err(e, -EINVAL, "set up zstd", r);
	}
	*ret = u;
	return 0;
}

void tp_unpack_free(struct tp_unpack *u)
{
	if (!u)
		return;
	ZSTD_freeDCtx(u->z);
	free(u);
}

static int get_packed(struct tp_unpack *u, const uint8_t *p, size_t n, struct buf *out,
		      struct err *e)
{
	/* One byte too much, to see that a block has more than it may. */
	ZSTD_outBuffer zout = { .size = TP_BLOCK_RAW_MAX + 1 };
	ZSTD_inBuffer zin = { p, n, 0 };
	size_t r;

	if (buf_reserve(out, zout.size) < 0)
		return err_set(e, -ENOMEM, "out of memory for a block");
	zout.dst = out->p + out->n;
	while (zin.pos < n && zout.pos < zout.size) {
		r = ZSTD_decompressStream(u->z, &zout, &zin);
		if (ZSTD_isError(r))
			return zstd_err(e, -ERR_PROTOCOL, "unpack a block", r);
	}
	if (zout.pos > TP_BLOCK_RAW_MAX)
		return err_set(e, -ERR_PROTOCOL, "a block unpacks to more than %u bytes",
			       TP_BLOCK_RAW_MAX);
	if (zout.pos == 0)
		return err_set(e, -ERR_PROTOCOL, "a block unpacks to nothing");
	out->n += zout.pos;
	return 0;
}

int tp_unpack(struct tp_unpack *u, struct buf *in, size_t max, struct buf *out, struct err *e)
{
	bool some = false;

	while (buf_len(out) < max) {
		struct bytes v = buf_view(in);
		uint32_t head;
		size_t n;
		int r;

		if (v.n < TP_BLOCK_HEAD)
			return some;
		head = le32_get(v.p);
		n = head & TP_BLOCK_LENGTH;
		if ((head & ~(TP_BLOCK_Z | TP_BLOCK_LENGTH)) || !n ||
		    n > (head & TP_BLOCK_Z ? TP_BLOCK_MAX : TP_BLOCK_RAW_MAX))
			return err_set(e, -ERR_PROTOCOL, "no block begins with %08x", head);
		if (v.n < TP_BLOCK_HEAD + n)
			return some;
		if (head & TP_BLOCK_Z)
			r = get_packed(u, v.p + TP_BLOCK_HEAD, n, out, e);
		else if ((r = buf_put(out, v.p + TP_BLOCK_HEAD, n)) < 0)
			err_set(e, r, "out of memory for a block");
		if (r < 0)
			return r;
		buf_consume(in, TP_BLOCK_HEAD + n);
		some = true;
	}
	return 1;
}
