/* SPDX-License-Identifier: Apache-2.0 */
#include "common/sha256.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/macro.h"

/* FIPS 180-2, appendix B, and lengths on both sides of every padding boundary. */
static void known_digests(void **state)
{
	static const struct {
		const char *text;
		size_t times;
		const char *want;
	} rows[] = {
		{ "", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
		{ "abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
		{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
		  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
		{ "a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0" },
		{ "a", 55, "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318" },
		{ "a", 56, "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a" },
		{ "a", 63, "7d3e74a05d7db15bce4ad9ec0658ea98e3f06eeecf16b4c6fff2da457ddc2f34" },
		{ "a", 64, "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t n = strlen(rows[i].text);
		_cleanup_free_ char *all = malloc(n * rows[i].times + 1);
		char hex[SHA256_HEX_SIZE];

		assert_non_null(all);
		for (size_t k = 0; k < rows[i].times; k++)
			memcpy(all + k * n, rows[i].text, n);
		assert_string_equal(sha256_hex(hex, bytes_of(all, n * rows[i].times)),
				    rows[i].want);
	}
}

/* Any cutting into pieces gives the digest of the whole. */
static void pieces_make_the_whole(void **state)
{
	uint8_t text[300], whole[SHA256_BYTES], cut[SHA256_BYTES];
	struct sha256 s;

	(void)state;
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (uint8_t)(i * 7);
	sha256_init(&s);
	sha256_add(&s, text, sizeof(text));
	sha256_end(&s, whole);
	for (size_t step = 1; step < 140; step++) {
		sha256_init(&s);
		for (size_t i = 0; i < sizeof(text); i += step)
			sha256_add(&s, text + i, MIN(step, sizeof(text) - i));
		sha256_end(&s, cut);
		assert_memory_equal(cut, whole, sizeof(cut));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_digests),
		cmocka_unit_test(pieces_make_the_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
