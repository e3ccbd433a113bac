/* SPDX-License-Identifier: Apache-2.0 */
#include "common/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define BUF_MIN 256

void buf_fini(struct buf *b)
{
	if (!b)
		return;
	free(b->p);
	*b = BUF_INIT;
}

int buf_reserve(struct buf *b, size_t n)
{
	size_t cap;
	uint8_t *p;

	if (b->cap - b->n >= n)
		return 0;
	/* Room that was consumed at the front comes first, when moving it is cheap. */
	if (b->off && b->off >= b->n - b->off) {
		memmove(b->p, b->p + b->off, b->n - b->off);
		b->n -= b->off;
		b->off = 0;
		if (b->cap - b->n >= n)
			return 0;
	}
	if (n > SIZE_MAX / 2 - b->n)
		return -ENOMEM;
	cap = MAX(b->cap, (size_t)BUF_MIN);
	while (cap - b->n < n)
		cap *= 2;
	p = realloc(b->p, cap);
	if (!p)
		return -ENOMEM;
	b->p = p;
	b->cap = cap;
	return 0;
}

int buf_put(struct buf *b, const void *p, size_t n)
{
	if (!n)
		return 0;
	if (buf_reserve(b, n) < 0)
		return -ENOMEM;
	memcpy(b->p + b->n, p, n);
	b->n += n;
	return 0;
}

int buf_put_bytes(struct buf *b, struct bytes v)
{
	return buf_put(b, v.p, v.n);
}

int buf_put_u8(struct buf *b, uint8_t v)
{
	return buf_put(b, &v, 1);
}

int buf_put_le16(struct buf *b, uint16_t v)
{
	uint8_t t[2];

	le16_put(t, v);
	return buf_put(b, t, sizeof(t));
}

int buf_put_le32(struct buf *b, uint32_t v)
{
	uint8_t t[4];

	le32_put(t, v);
	return buf_put(b, t, sizeof(t));
}

int buf_put_le64(struct buf *b, uint64_t v)
{
	uint8_t t[8];

	le64_put(t, v);
	return buf_put(b, t, sizeof(t));
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		return -EINVAL;
	if (buf_reserve(b, (size_t)n + 1) < 0)
		return -ENOMEM;
	va_start(ap, fmt);
	vsnprintf((char *)b->p + b->n, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->n += (size_t)n;
	return 0;
}

void buf_consume(struct buf *b, size_t n)
{
	b->off += n;
	if (b->off >= b->n)
		buf_clear(b);
}

void buf_clear(struct buf *b)
{
	b->off = 0;
	b->n = 0;
}

const char *buf_cstr(struct buf *b)
{
	if (buf_reserve(b, 1) < 0)
		return NULL;
	b->p[b->n] = '\0';
	return (const char *)b->p + b->off;
}

static const uint8_t *reader_take(struct reader *r, size_t n)
{
	const uint8_t *p = r->p;

	if (r->bad || r->n < n) {
		r->bad = true;
		return NULL;
	}
	r->p += n;
	r->n -= n;
	return p;
}

uint8_t reader_u8(struct reader *r)
{
	const uint8_t *p = reader_take(r, 1);

	return p ? *p : 0;
}

uint16_t reader_le16(struct reader *r)
{
	const uint8_t *p = reader_take(r, 2);

	return p ? le16_get(p) : 0;
}

uint32_t reader_le32(struct reader *r)
{
	const uint8_t *p = reader_take(r, 4);

	return p ? le32_get(p) : 0;
}

uint64_t reader_le64(struct reader *r)
{
	const uint8_t *p = reader_take(r, 8);

	return p ? le64_get(p) : 0;
}

struct bytes reader_bytes(struct reader *r, size_t n)
{
	const uint8_t *p = n ? reader_take(r, n) : r->p;

	return p && !r->bad ? bytes_of(p, n) : bytes_of(NULL, 0);
}
