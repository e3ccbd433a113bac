/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * common/sha256.h - SHA-256 (FIPS 180-4), for programs that link no crypto library.
 */
#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"

#define SHA256_BYTES 32
#define SHA256_HEX_SIZE 65 /* 64 digits and the NUL */

struct sha256 {
	uint32_t h[8];
	uint64_t total_bytes;
	uint8_t block[64]; /* the last total_bytes % 64 bytes, not yet mixed in */
};

void sha256_init(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *p, size_t n);
void sha256_end(struct sha256 *s, uint8_t ret[SHA256_BYTES]); /* s must be init'ed anew */

/* The digest of b as 64 lower-case hex digits.  Returns out. */
const char *sha256_hex(char out[SHA256_HEX_SIZE], struct bytes b);

/* HMAC with SHA-256 (RFC 2104); what was derived from the key is wiped from the stack. */
void sha256_hmac(struct bytes key, struct bytes message, uint8_t ret[SHA256_BYTES]);

/* n bytes as lower-case hex digits with a NUL: out holds 2 * n + 1.  Returns out. */
const char *sha256_digits(char *out, const uint8_t *p, size_t n);
