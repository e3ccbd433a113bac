/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/keystream.h"

#include <errno.h>
#include <openssl/opensslv.h>

#if OPENSSL_VERSION_NUMBER < 0x30000000L

int tp_keystream_install(struct err *e)
{
	return err_set(e, -EOPNOTSUPP, "key stream: this libcrypto has no providers");
}

#else

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/macro.h"

#define PROVIDER     "stager-keystream"
#define AHEAD_BYTES  4096u /* stays in the first cache beside the packet */
#define IV_BYTES     16u

/* Written as a whole: libssh2 reads it back at once, and would wait for the second of two. */
typedef uint64_t block __attribute__((vector_size(16)));

struct stream {
	EVP_CIPHER_CTX *aes; /* of libcrypto's own provider */
	const char *name;
	size_t key_bytes;
	size_t at;           /* what is before it in ahead is used up */
	uint8_t ahead[AHEAD_BYTES];
};

static void stream_free(void *p)
{
	struct stream *s = p;

	if (!s)
		return;
	EVP_CIPHER_CTX_free(s->aes);
	OPENSSL_cleanse(s->ahead, sizeof(s->ahead));
	OPENSSL_free(s);
}

static void *stream_new(const char *name, size_t key_bytes)
{
	struct stream *s = OPENSSL_zalloc(sizeof(*s));

	if (!s)
		return NULL;
	s->name = name;
	s->key_bytes = key_bytes;
	s->at = AHEAD_BYTES;
	s->aes = EVP_CIPHER_CTX_new();
	if (!s->aes) {
		stream_free(s);
		return NULL;
	}
	return s;
}

/* Nothing can be set but what init() takes. */
static int stream_set_params(void *p, const OSSL_PARAM params[])
{
	(void)p;
	(void)params;
	return 1;
}

/* Both directions are the same.  A NULL key or iv is one that stays. */
static int stream_init(void *p, const uint8_t *key, size_t key_bytes, const uint8_t *iv,
		       size_t iv_bytes, const OSSL_PARAM params[])
{
	struct stream *s = p;
	EVP_CIPHER *own = NULL;
	int ok;

	(void)params;
	if ((key && key_bytes != s->key_bytes) || (iv && iv_bytes != IV_BYTES))
		return 0;
	if (!EVP_CIPHER_CTX_get0_cipher(s->aes)) {
		own = EVP_CIPHER_fetch(NULL, s->name, "provider=default");
		if (!own)
			return 0;
	}
	s->at = AHEAD_BYTES;
	ok = EVP_EncryptInit_ex2(s->aes, own, key, iv, NULL);
	EVP_CIPHER_free(own);
	return ok;
}

static int make_ahead(struct stream *s)
{
	int n = 0;

	memset(s->ahead, 0, sizeof(s->ahead));
	/* What has failed must never be taken for a key stream: it may be all zeros. */
	if (!EVP_EncryptUpdate(s->aes, s->ahead, &n, s->ahead, AHEAD_BYTES) ||
	    n != (int)AHEAD_BYTES)
		return 0;
	s->at = 0;
	return 1;
}

static int cipher_any(struct stream *s, uint8_t *out, const uint8_t *in, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (s->at == AHEAD_BYTES && !make_ahead(s))
			return 0;
		out[i] = in[i] ^ s->ahead[s->at++];
	}
	return 1;
}

/* out may be in. */
static int stream_cipher(void *p, uint8_t *out, size_t *ret_n, size_t out_size,
			 const uint8_t *in, size_t n)
{
	struct stream *s = p;
	block a, b;

	*ret_n = n;
	if (out_size < n)
		return 0;
	if (n != sizeof(a) || s->at > AHEAD_BYTES - sizeof(b))
		return cipher_any(s, out, in, n);
	memcpy(&a, in, sizeof(a));
	memcpy(&b, s->ahead + s->at, sizeof(b));
	a ^= b;
	memcpy(out, &a, sizeof(a));
	s->at += sizeof(a);
	return 1;
}

static int stream_final(void *p, uint8_t *out, size_t *ret_n, size_t out_size)
{
	(void)p;
	(void)out;
	(void)out_size;
	*ret_n = 0;
	return 1;
}

static int put_size(OSSL_PARAM params[], const char *key, size_t v)
{
	OSSL_PARAM *p = OSSL_PARAM_locate(params, key);

	return !p || OSSL_PARAM_set_size_t(p, v);
}

static int stream_get_params(void *p, OSSL_PARAM params[])
{
	const struct stream *s = p;

	return put_size(params, OSSL_CIPHER_PARAM_KEYLEN, s->key_bytes) &&
	       put_size(params, OSSL_CIPHER_PARAM_IVLEN, IV_BYTES);
}

static int cipher_params(OSSL_PARAM params[], size_t key_bytes)
{
	OSSL_PARAM *mode = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_MODE);

	return put_size(params, OSSL_CIPHER_PARAM_KEYLEN, key_bytes) &&
	       put_size(params, OSSL_CIPHER_PARAM_IVLEN, IV_BYTES) &&
	       put_size(params, OSSL_CIPHER_PARAM_BLOCK_SIZE, 1) &&
	       (!mode || OSSL_PARAM_set_uint(mode, EVP_CIPH_CTR_MODE));
}

/* libcrypto's tables hold functions of many types as one. */
#define FN(f) ((void (*)(void))(f))

#define CIPHER(bits)                                                                        \
	static void *new_##bits(void *provider)                                             \
	{                                                                                   \
		(void)provider;                                                             \
		return stream_new("AES-" #bits "-CTR", bits / 8);                           \
	}                                                                                   \
	static int params_##bits(OSSL_PARAM params[])                                       \
	{                                                                                   \
		return cipher_params(params, bits / 8);                                     \
	}                                                                                   \
	static const OSSL_DISPATCH cipher_##bits[] = {                                      \
		{ OSSL_FUNC_CIPHER_NEWCTX, FN(new_##bits) },                                \
		{ OSSL_FUNC_CIPHER_FREECTX, FN(stream_free) },                              \
		{ OSSL_FUNC_CIPHER_ENCRYPT_INIT, FN(stream_init) },                         \
		{ OSSL_FUNC_CIPHER_DECRYPT_INIT, FN(stream_init) },                         \
		{ OSSL_FUNC_CIPHER_UPDATE, FN(stream_cipher) },                             \
		{ OSSL_FUNC_CIPHER_FINAL, FN(stream_final) },                               \
		{ OSSL_FUNC_CIPHER_CIPHER, FN(stream_cipher) },                             \
		{ OSSL_FUNC_CIPHER_GET_PARAMS, FN(params_##bits) },                         \
		{ OSSL_FUNC_CIPHER_GET_CTX_PARAMS, FN(stream_get_params) },                 \
		{ OSSL_FUNC_CIPHER_SET_CTX_PARAMS, FN(stream_set_params) },                 \
		{ 0, NULL },                                                                \
	}

CIPHER(128);
CIPHER(192);
CIPHER(256);

static const OSSL_ALGORITHM *provider_query(void *provider, int operation, int *ret_no_cache)
{
	static const OSSL_ALGORITHM ciphers[] = {
		{ "AES-128-CTR", "provider=" PROVIDER, cipher_128, NULL },
		{ "AES-192-CTR", "provider=" PROVIDER, cipher_192, NULL },
		{ "AES-256-CTR", "provider=" PROVIDER, cipher_256, NULL },
		{ NULL, NULL, NULL, NULL },
	};

	(void)provider;
	*ret_no_cache = 0;
	return operation == OSSL_OP_CIPHER ? ciphers : NULL;
}

static int provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *core,
			 const OSSL_DISPATCH **ret, void **ret_provider)
{
	static const OSSL_DISPATCH functions[] = {
		{ OSSL_FUNC_PROVIDER_QUERY_OPERATION, FN(provider_query) },
		{ 0, NULL },
	};

	(void)core;
	*ret = functions;
	*ret_provider = (void *)handle; /* there is no state, but NULL would mean failure */
	return 1;
}

static void unload(int status _unused_, void *provider)
{
	OSSL_PROVIDER_unload(provider);
}

/* Load a provider for as long as the process lives. */
static bool load(const char *name)
{
	OSSL_PROVIDER *p = OSSL_PROVIDER_load(NULL, name);

	/* A handle that libcrypto's own end finds in use is leaked. */
	if (p && on_exit(unload, p) != 0)
		OSSL_PROVIDER_unload(TAKE_PTR(p));
	return p;
}

int tp_keystream_install(struct err *e)
{
	char why[128];

	if (EVP_default_properties_is_fips_enabled(NULL))
		return err_set(e, -EOPNOTSUPP, "key stream: libcrypto is in FIPS mode");
	/* Where a provider was loaded by hand, the default one no longer comes by itself. */
	if (load("default") && OSSL_PROVIDER_add_builtin(NULL, PROVIDER, provider_init) &&
	    load(PROVIDER) && EVP_set_default_properties(NULL, "?provider=" PROVIDER))
		return 0;
	ERR_error_string_n(ERR_get_error(), why, sizeof(why));
	return err_set(e, -EIO, "key stream: libcrypto: %s", why);
}

#endif
