/* SPDX-License-Identifier: Apache-2.0 */
#include "checks/unpack.h"

#include <errno.h>
#include <lzma.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "checks/unlz4.h"
#include "common/io.h"
#include "common/macro.h"

#define IN_BYTES 65536
#define ZSTD_WINDOW_LOG_MAX 23

struct chk_unpack {
	const struct method *method;
	int fd;
	bool ended;      /* nothing more will come out */
	size_t at, n;    /* the unread part of in */
	union {
		z_stream zlib;
		lzma_stream lzma;
		ZSTD_DStream *zstd;
		struct chk_unlz4 *lz4;
	};
	uint8_t in[IN_BYTES];
};

/*
 * step() takes from in and puts up to n bytes to p: what it made, or negative.  It sets ended
 * when the stream is over, and makes nothing when it wants more.
 */
struct method {
	const char *name;
	const uint8_t magic[6];
	size_t magic_bytes;
	int (*start)(struct chk_unpack *u);
	ssize_t (*step)(struct chk_unpack *u, uint8_t *p, size_t n);
	void (*stop)(struct chk_unpack *u);
};

static int zlib_start(struct chk_unpack *u)
{
	return inflateInit2(&u->zlib, 15 + 16) == Z_OK ? 0 : -ENOMEM;
}

static ssize_t zlib_step(struct chk_unpack *u, uint8_t *p, size_t n)
{
	int r;

	u->zlib.next_in = u->in + u->at;
	u->zlib.avail_in = (uInt)(u->n - u->at);
	u->zlib.next_out = p;
	u->zlib.avail_out = (uInt)n;
	r = inflate(&u->zlib, Z_NO_FLUSH);
	u->at = u->n - u->zlib.avail_in;
	u->ended = r == Z_STREAM_END;
	if (r != Z_OK && r != Z_STREAM_END && r != Z_BUF_ERROR)
		return r == Z_MEM_ERROR ? -ENOMEM : -EBADMSG;
	return (ssize_t)(n - u->zlib.avail_out);
}

static void zlib_stop(struct chk_unpack *u)
{
	inflateEnd(&u->zlib);
}

static int lzma_start(struct chk_unpack *u)
{
	u->lzma = (lzma_stream)LZMA_STREAM_INIT;
	return lzma_auto_decoder(&u->lzma, CHK_UNPACK_MAX, 0) == LZMA_OK ? 0 : -ENOMEM;
}

static ssize_t lzma_step(struct chk_unpack *u, uint8_t *p, size_t n)
{
	lzma_ret r;

	u->lzma.next_in = u->in + u->at;
	u->lzma.avail_in = u->n - u->at;
	u->lzma.next_out = p;
	u->lzma.avail_out = n;
	r = lzma_code(&u->lzma, LZMA_RUN);
	u->at = u->n - u->lzma.avail_in;
	u->ended = r == LZMA_STREAM_END;
	if (r == LZMA_MEMLIMIT_ERROR)
		return -E2BIG;
	if (r != LZMA_OK && r != LZMA_STREAM_END && r != LZMA_BUF_ERROR)
		return r == LZMA_MEM_ERROR ? -ENOMEM : -EBADMSG;
	return (ssize_t)(n - u->lzma.avail_out);
}

static void lzma_stop(struct chk_unpack *u)
{
	lzma_end(&u->lzma);
}

static int zstd_start(struct chk_unpack *u)
{
	u->zstd = ZSTD_createDStream();
	if (!u->zstd || ZSTD_isError(ZSTD_DCtx_setParameter(u->zstd, ZSTD_d_windowLogMax,
							    ZSTD_WINDOW_LOG_MAX)))
		return -ENOMEM;
	return 0;
}

static ssize_t zstd_step(struct chk_unpack *u, uint8_t *p, size_t n)
{
	ZSTD_inBuffer in = { u->in, u->n, u->at };
	ZSTD_outBuffer out = { p, n, 0 };
	size_t r = ZSTD_decompressStream(u->zstd, &out, &in);

	u->at = in.pos;
	/* What zstd says of a window that is too large. */
	if (ZSTD_isError(r))
		return strstr(ZSTD_getErrorName(r), "memory") ? -E2BIG : -EBADMSG;
	return (ssize_t)out.pos;
}

static void zstd_stop(struct chk_unpack *u)
{
	ZSTD_freeDStream(u->zstd);
}

static int lz4_start(struct chk_unpack *u)
{
	u->lz4 = chk_unlz4_new();
	return u->lz4 ? 0 : -ENOMEM;
}

static ssize_t lz4_step(struct chk_unpack *u, uint8_t *p, size_t n)
{
	return chk_unlz4_step(u->lz4, u->in, &u->at, u->n, p, n);
}

static void lz4_stop(struct chk_unpack *u)
{
	free(u->lz4);
}

static const struct method methods[] = {
	{ "gzip", { 0x1f, 0x8b }, 2, zlib_start, zlib_step, zlib_stop },
	{ "xz", { 0xfd, '7', 'z', 'X', 'Z', 0 }, 6, lzma_start, lzma_step, lzma_stop },
	{ "lzma", { 0x5d, 0, 0 }, 3, lzma_start, lzma_step, lzma_stop },
	{ "zstd", { 0x28, 0xb5, 0x2f, 0xfd }, 4, zstd_start, zstd_step, zstd_stop },
	{ "lz4", { 0x02, 0x21, 0x4c, 0x18 }, 4, lz4_start, lz4_step, lz4_stop },
};

/* Read on; the count, 0 at the end of the file. */
static ssize_t fill(struct chk_unpack *u)
{
	ssize_t n = io_read_full(u->fd, u->in, sizeof(u->in));

	u->at = 0;
	u->n = n > 0 ? (size_t)n : 0;
	return n;
}

int chk_unpack_open(int fd, struct chk_unpack **ret, struct err *e)
{
	struct chk_unpack *u = calloc(1, sizeof(*u));
	const struct method *m = NULL;
	int r;

	if (!u)
		return err_set(e, -ENOMEM, "uncompress: out of memory");
	u->fd = fd;
	r = (int)fill(u);
	for (size_t i = 0; i < ARRAY_SIZE(methods) && r >= 0 && !m; i++)
		if (u->n >= methods[i].magic_bytes &&
		    !memcmp(u->in, methods[i].magic, methods[i].magic_bytes))
			m = &methods[i];
	if (r < 0)
		err_sysn(e, r, "read");
	else if (!m)
		r = err_set(e, -EMEDIUMTYPE, "it is compressed in a way that is not known here");
	else if (m->start(u) < 0)
		r = err_set(e, -ENOMEM, "uncompress %s: out of memory", m->name);
	u->method = m;
	if (r < 0) {
		chk_unpack_free(u);
		return r;
	}
	*ret = u;
	return 0;
}

ssize_t chk_unpack_read(struct chk_unpack *u, void *p, size_t n, struct err *e)
{
	const char *name = u->method->name;
	ssize_t r = 0, got = 1;

	while (r == 0 && n && !u->ended) {
		if (u->at == u->n)
			got = fill(u);
		if (got < 0)
			return err_sysn(e, (int)got, "read");
		r = u->method->step(u, p, n);
		/* At the end of the file there may be a rest inside of the library. */
		if (r == 0 && got == 0)
			break;
	}
	if (r == -E2BIG)
		return err_set(e, -E2BIG, "it takes more than %u MiB of memory to uncompress (%s)",
			       CHK_UNPACK_MAX >> 20, name);
	if (r == -ENOMEM)
		return err_set(e, -ENOMEM, "uncompress %s: out of memory", name);
	return r < 0 ? err_set(e, -EBADMSG, "it is damaged (%s)", name) : r;
}

void chk_unpack_free(struct chk_unpack *u)
{
	if (!u)
		return;
	if (u->method)
		u->method->stop(u);
	free(u);
}
