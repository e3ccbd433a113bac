/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * common/buf.h - a growable byte buffer that is written at its end and read from its front.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"
#include "common/macro.h"

struct buf {
	uint8_t *p; /* NULL while nothing is allocated */
	size_t off; /* first byte not yet consumed */
	size_t n;   /* end of the written bytes; off <= n <= cap */
	size_t cap;
};

#define BUF_INIT ((struct buf){ 0 })

/* Hand over a buffer: the value, and the old place is empty. */
#define TAKE_BUF(b)                   \
	({                            \
		struct buf b_ = (b);  \
		(b) = BUF_INIT;       \
		b_;                   \
	})

void buf_fini(struct buf *b); /* frees the bytes; NULL is fine; b can be used again */

/* Make room for n more bytes at b->p + b->n.  0 or -ENOMEM. */
int buf_reserve(struct buf *b, size_t n) _must_check_;

/* Append.  0 or -ENOMEM; on failure b is unchanged. */
int buf_put(struct buf *b, const void *p, size_t n) _must_check_;
int buf_put_bytes(struct buf *b, struct bytes v) _must_check_;
int buf_put_u8(struct buf *b, uint8_t v) _must_check_;
int buf_put_le16(struct buf *b, uint16_t v) _must_check_;
int buf_put_le32(struct buf *b, uint32_t v) _must_check_;
int buf_put_le64(struct buf *b, uint64_t v) _must_check_;
int buf_printf(struct buf *b, const char *fmt, ...) _printf_(2, 3) _must_check_;

/* Unread bytes, borrowed until the next call that changes b. */
static inline struct bytes buf_view(const struct buf *b)
{
	return bytes_of(b->p ? b->p + b->off : NULL, b->n - b->off);
}

static inline size_t buf_len(const struct buf *b)
{
	return b->n - b->off;
}

void buf_consume(struct buf *b, size_t n); /* drop n unread bytes from the front */
void buf_clear(struct buf *b);             /* drop all, keep the allocation */

/* The content as a C string, borrowed; NULL when out of memory. */
const char *buf_cstr(struct buf *b);

/*
 * A reader over borrowed bytes.  Every get returns its value, or 0 and sets bad when the
 * bytes run out; so a decoder reads all its fields and looks at bad once.
 */
struct reader {
	const uint8_t *p;
	size_t n;
	bool bad;
};

static inline struct reader reader_of(struct bytes b)
{
	return (struct reader){ .p = b.p, .n = b.n };
}

uint8_t reader_u8(struct reader *r);
uint16_t reader_le16(struct reader *r);
uint32_t reader_le32(struct reader *r);
uint64_t reader_le64(struct reader *r);
struct bytes reader_bytes(struct reader *r, size_t n); /* empty and bad when short */

static inline void le16_put(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static inline void le32_put(uint8_t *p, uint32_t v)
{
	le16_put(p, (uint16_t)v);
	le16_put(p + 2, (uint16_t)(v >> 16));
}

static inline void le64_put(uint8_t *p, uint64_t v)
{
	le32_put(p, (uint32_t)v);
	le32_put(p + 4, (uint32_t)(v >> 32));
}

static inline uint16_t le16_get(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t le32_get(const uint8_t *p)
{
	return le16_get(p) | (uint32_t)le16_get(p + 2) << 16;
}

static inline uint64_t le64_get(const uint8_t *p)
{
	return le32_get(p) | (uint64_t)le32_get(p + 4) << 32;
}
