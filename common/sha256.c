/* SPDX-License-Identifier: Apache-2.0 */
#include "common/sha256.h"

/* FIPS 180-4, 4.2.2: cube roots of the first 64 primes, 32 bits of the fraction. */
static const uint32_t round_k[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
	0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
	0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
	0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
	0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
	0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
	0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
	0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
	0xc67178f2,
};

static inline uint32_t rotr(uint32_t v, unsigned n)
{
	return v >> n | v << (32 - n);
}

static inline uint32_t be32_get(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void be32_put(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

static void sha256_mix(uint32_t h[8], const uint8_t block[64])
{
	uint32_t w[64], v[8];

	for (size_t i = 0; i < 16; i++)
		w[i] = be32_get(block + 4 * i);
	for (size_t i = 16; i < 64; i++) {
		uint32_t a = w[i - 15], b = w[i - 2];

		w[i] = (rotr(b, 17) ^ rotr(b, 19) ^ b >> 10) + w[i - 7] +
		       (rotr(a, 7) ^ rotr(a, 18) ^ a >> 3) + w[i - 16];
	}
	memcpy(v, h, sizeof(v));
	for (size_t i = 0; i < 64; i++) {
		uint32_t t1 = v[7] + (rotr(v[4], 6) ^ rotr(v[4], 11) ^ rotr(v[4], 25)) +
			      ((v[4] & v[5]) ^ (~v[4] & v[6])) + round_k[i] + w[i];
		uint32_t t2 = (rotr(v[0], 2) ^ rotr(v[0], 13) ^ rotr(v[0], 22)) +
			      ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));

		memmove(v + 1, v, 7 * sizeof(v[0]));
		v[4] += t1;
		v[0] = t1 + t2;
	}
	for (size_t i = 0; i < 8; i++)
		h[i] += v[i];
}

void sha256_init(struct sha256 *s)
{
	*s = (struct sha256){ .h = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
				     0x9b05688c, 0x1f83d9ab, 0x5be0cd19 } };
}

void sha256_add(struct sha256 *s, const void *p, size_t n)
{
	size_t have = s->total_bytes % 64;
	const uint8_t *at = p;

	s->total_bytes += n;
	if (have && have + n >= 64) {
		memcpy(s->block + have, at, 64 - have);
		sha256_mix(s->h, s->block);
		at += 64 - have;
		n -= 64 - have;
		have = 0;
	}
	if (!have)
		for (; n >= 64; at += 64, n -= 64)
			sha256_mix(s->h, at);
	if (n)
		memcpy(s->block + have, at, n);
}

void sha256_end(struct sha256 *s, uint8_t ret[SHA256_BYTES])
{
	uint64_t bits = s->total_bytes * 8;
	uint8_t tail[72] = { 0x80 };
	/* A one bit, zeros up to 56 modulo 64, then the length in bits. */
	size_t zeros = (119 - s->total_bytes % 64) % 64;

	be32_put(tail + 1 + zeros, (uint32_t)(bits >> 32));
	be32_put(tail + 5 + zeros, (uint32_t)bits);
	sha256_add(s, tail, 9 + zeros);
	for (size_t i = 0; i < 8; i++)
		be32_put(ret + 4 * i, s->h[i]);
}

const char *sha256_digits(char *out, const uint8_t *p, size_t n)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		out[2 * i] = digits[p[i] >> 4];
		out[2 * i + 1] = digits[p[i] & 15];
	}
	out[2 * n] = '\0';
	return out;
}

const char *sha256_hex(char out[SHA256_HEX_SIZE], struct bytes b)
{
	uint8_t sum[SHA256_BYTES];
	struct sha256 s;

	sha256_init(&s);
	sha256_add(&s, b.p, b.n);
	sha256_end(&s, sum);
	return sha256_digits(out, sum, sizeof(sum));
}

void sha256_hmac(struct bytes key, struct bytes message, uint8_t ret[SHA256_BYTES])
{
	uint8_t pad[64] = { 0 }, inner[SHA256_BYTES];
	struct sha256 s;

	if (key.n > sizeof(pad)) {
		sha256_init(&s);
		sha256_add(&s, key.p, key.n);
		sha256_end(&s, pad);
	} else if (key.n) {
		memcpy(pad, key.p, key.n);
	}
	for (size_t i = 0; i < sizeof(pad); i++)
		pad[i] ^= 0x36;
	sha256_init(&s);
	sha256_add(&s, pad, sizeof(pad));
	sha256_add(&s, message.p, message.n);
	sha256_end(&s, inner);
	for (size_t i = 0; i < sizeof(pad); i++)
		pad[i] ^= 0x36 ^ 0x5c;
	sha256_init(&s);
	sha256_add(&s, pad, sizeof(pad));
	sha256_add(&s, inner, sizeof(inner));
	sha256_end(&s, ret);
	explicit_bzero(pad, sizeof(pad));
	explicit_bzero(inner, sizeof(inner));
	explicit_bzero(&s, sizeof(s));
}
