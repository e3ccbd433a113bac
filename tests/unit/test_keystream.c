/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/keystream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <stdlib.h>
#include <string.h>

#include "common/macro.h"

#define BYTES 20000

/* What libssh2 does: a block at a time, by way of a buffer of its own. */
static void by_block(EVP_CIPHER_CTX *c, uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i += 16) {
		uint8_t out[16];

		assert_int_not_equal(EVP_Cipher(c, out, p + i, 16), -1);
		memcpy(p + i, out, 16);
	}
}

static bool is_ours(const EVP_CIPHER *cipher)
{
	const char *name = OSSL_PROVIDER_get0_name(EVP_CIPHER_get0_provider(cipher));

	return name && strcmp(name, "stager-keystream") == 0;
}

/* NIST SP 800-38A, F.5.1: CTR-AES128.Encrypt, its first two blocks. */
static void test_vector(void **state)
{
	static const uint8_t key[] = { 0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6,
				       0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c };
	static const uint8_t plain[] = {
		0x6b, 0xc1, 0xbe, 0xe2, 0x2e, 0x40, 0x9f, 0x96, 0xe9, 0x3d, 0x7e,
		0x11, 0x73, 0x93, 0x17, 0x2a, 0xae, 0x2d, 0x8a, 0x57, 0x1e, 0x03,
		0xac, 0x9c, 0x9e, 0xb7, 0x6f, 0xac, 0x45, 0xaf, 0x8e, 0x51,
	};
	static const uint8_t secret[] = {
		0x87, 0x4d, 0x61, 0x91, 0xb6, 0x20, 0xe3, 0x26, 0x1b, 0xef, 0x68,
		0x64, 0x99, 0x0d, 0xb6, 0xce, 0x98, 0x06, 0xf6, 0x6b, 0x79, 0x70,
		0xfd, 0xff, 0x86, 0x17, 0x18, 0x7b, 0xb9, 0xff, 0xfd, 0xff,
	};
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	uint8_t iv[16], got[sizeof(plain)];

	(void)state;
	for (size_t i = 0; i < sizeof(iv); i++)
		iv[i] = (uint8_t)(0xf0 + i);
	memcpy(got, plain, sizeof(got));
	assert_int_equal(EVP_CipherInit(c, EVP_aes_128_ctr(), key, iv, 1), 1);
	assert_true(is_ours(EVP_CIPHER_CTX_get0_cipher(c)));
	by_block(c, got, sizeof(got));
	assert_memory_equal(got, secret, sizeof(secret));
	EVP_CIPHER_CTX_free(c);
}

/* Every key length, in pieces of every kind, against libcrypto's own; and back again. */
static void test_pieces(void **state)
{
	static const char *const names[] = { "AES-128-CTR", "AES-192-CTR", "AES-256-CTR" };
	static const size_t pieces[] = { 16, 1, 4096, 15, 16, 3, 5000, 16, 9 };
	static uint8_t plain[BYTES], want[BYTES], got[BYTES];
	uint8_t key[32], iv[16];
	int n;

	(void)state;
	for (size_t i = 0; i < BYTES; i++)
		plain[i] = (uint8_t)(i * 7 + i / 251);
	for (size_t i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t)(i * 11 + 3);
	/* The counter overflows into its upper half on the way. */
	memset(iv, 0xff, sizeof(iv));
	iv[0] = 1;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		EVP_CIPHER *theirs = EVP_CIPHER_fetch(NULL, names[i], "provider=default");
		EVP_CIPHER *ours = EVP_CIPHER_fetch(NULL, names[i], NULL);
		EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();

		assert_true(theirs && ours && is_ours(ours) && !is_ours(theirs));
		assert_int_equal(EVP_EncryptInit_ex2(c, theirs, key, iv, NULL), 1);
		assert_int_equal(EVP_EncryptUpdate(c, want, &n, plain, BYTES), 1);
		EVP_CIPHER_CTX_reset(c);

		assert_int_equal(EVP_EncryptInit_ex2(c, ours, key, iv, NULL), 1);
		for (size_t at = 0, k = 0; at < BYTES; k++) {
			size_t take = MIN(pieces[k % ARRAY_SIZE(pieces)], BYTES - at);

			assert_int_equal(EVP_EncryptUpdate(c, got + at, &n, plain + at,
							   (int)take), 1);
			assert_int_equal(n, take);
			at += take;
		}
		assert_memory_equal(got, want, BYTES);

		/* In place, from the start, with the key that it has. */
		assert_int_equal(EVP_DecryptInit_ex2(c, NULL, NULL, iv, NULL), 1);
		assert_int_equal(EVP_DecryptUpdate(c, got, &n, got, BYTES), 1);
		assert_memory_equal(got, plain, BYTES);
		EVP_CIPHER_CTX_free(c);
		EVP_CIPHER_free(ours);
		EVP_CIPHER_free(theirs);
	}
}

/* A key of another length is not taken. */
static void test_refused(void **state)
{
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	uint8_t key[32] = { 1 }, iv[16] = { 2 }, out[32];
	int n;

	(void)state;
	assert_int_equal(EVP_CipherInit(c, EVP_aes_128_ctr(), NULL, NULL, 1), 1);
	assert_int_equal(EVP_CIPHER_CTX_set_key_length(c, 24), 0);
	/* Without a key there is no key stream, however often it is asked for. */
	for (int i = 0; i < 3; i++)
		assert_int_equal(EVP_EncryptUpdate(c, out, &n, iv, sizeof(iv)), 0);
	assert_int_equal(EVP_CipherInit(c, NULL, key, iv, 1), 1);
	EVP_CIPHER_CTX_free(c);
}

static int install(void **state)
{
	struct err e = { 0 };
	int r = tp_keystream_install(&e);

	(void)state;
	/* Nothing to test where libcrypto has no such thing. */
	if (r == -EOPNOTSUPP)
		exit(0);
	return r;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vector),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, install, NULL);
}
