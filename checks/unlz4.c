/* SPDX-License-Identifier: Apache-2.0 */
#include "checks/unlz4.h"

#include <errno.h>
#include <stdbool.h>

#define MAGIC 0x184c2102u
#define BLOCK_MAX (8u << 20) /* uncompressed; packed it is longer by 1/255 and 16 at most */
#define WINDOW 65536u

enum state {
	LENGTH,         /* of a block: four bytes, or the magic again */
	TOKEN,
	LITERAL_LENGTH, /* more bytes of it */
	LITERALS,
	OFFSET,
	MATCH_LENGTH,
	MATCH,
};

struct chk_unlz4 {
	enum state state;
	uint32_t block;    /* bytes of it that are left */
	uint32_t word;     /* a number that is being gathered */
	unsigned gathered; /* bytes of it so far */
	uint32_t literals, match, offset;
	uint64_t made;     /* since the block began: a match reaches no further back */
	uint8_t window[WINDOW];
};

struct chk_unlz4 *chk_unlz4_new(void)
{
	return calloc(1, sizeof(struct chk_unlz4));
}

static void put(struct chk_unlz4 *z, uint8_t **out, uint8_t c)
{
	z->window[z->made++ % WINDOW] = c;
	*(*out)++ = c;
}

/* Gather little-endian bytes; true when there are as many as wanted. */
static bool gather(struct chk_unlz4 *z, uint8_t c, unsigned want)
{
	z->word |= (uint32_t)c << 8 * z->gathered;
	return ++z->gathered == want;
}

static uint32_t take(struct chk_unlz4 *z)
{
	uint32_t v = z->word;

	z->word = 0;
	z->gathered = 0;
	return v;
}

/* Behind the literals: a match, unless the block is over. */
static void after_literals(struct chk_unlz4 *z)
{
	z->state = z->block ? OFFSET : LENGTH;
}

static void after_token(struct chk_unlz4 *z)
{
	if (z->literals)
		z->state = LITERALS;
	else
		after_literals(z);
}

/* One byte of input that is no literal. */
static int take_byte(struct chk_unlz4 *z, uint8_t c)
{
	switch (z->state) {
	case LENGTH:
		if (!gather(z, c, 4))
			return 0;
		z->block = take(z);
		if (z->block == MAGIC)
			z->block = 0;
		if (z->block > BLOCK_MAX + BLOCK_MAX / 255 + 16)
			return -EBADMSG;
		z->made = 0;
		z->state = z->block ? TOKEN : LENGTH;
		return 0;
	case TOKEN:
		z->literals = c >> 4;
		z->match = c & 15u;
		z->state = LITERAL_LENGTH;
		if (z->literals < 15)
			after_token(z);
		return 0;
	case LITERAL_LENGTH:
		z->literals += c;
		if (z->literals > BLOCK_MAX)
			return -EBADMSG;
		if (c < 255)
			after_token(z);
		return 0;
	case OFFSET:
		if (!gather(z, c, 2))
			return 0;
		z->offset = take(z);
		if (!z->offset || z->offset > z->made)
			return -EBADMSG;
		z->state = z->match < 15 ? MATCH : MATCH_LENGTH;
		z->match += 4;
		return 0;
	case MATCH_LENGTH:
		z->match += c;
		if (z->match > BLOCK_MAX)
			return -EBADMSG;
		if (c < 255)
			z->state = MATCH;
		return 0;
	case LITERALS:
	case MATCH:
		break;
	}
	return -EBADMSG;
}

ssize_t chk_unlz4_step(struct chk_unlz4 *z, const uint8_t *in, size_t *at, size_t n, uint8_t *out,
		       size_t size)
{
	uint8_t *to = out, *end = out + size;

	while (to < end) {
		if (z->state == MATCH) {
			put(z, &to, z->window[(z->made - z->offset) % WINDOW]);
			/* A block does not end with a match. */
			if (!--z->match) {
				if (!z->block)
					return -EBADMSG;
				z->state = TOKEN;
			}
			continue;
		}
		if (*at == n)
			break;
		if (z->state != LENGTH) {
			if (!z->block)
				return -EBADMSG;
			z->block--;
		}
		if (z->state == LITERALS) {
			put(z, &to, in[(*at)++]);
			if (!--z->literals)
				after_literals(z);
		} else if (take_byte(z, in[(*at)++]) < 0) {
			return -EBADMSG;
		}
	}
	return to - out;
}
