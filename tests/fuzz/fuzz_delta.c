/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first byte chooses: a hostile delta against a basis, or a hostile signature that a
 * delta is then made with.
 */
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include "transport/delta.h"

#define BASIS_BYTES 5000u
#define MADE_MAX    (64u << 20) /* a delta may copy its basis for ever */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fill(uint8_t p[BASIS_BYTES])
{
	for (size_t i = 0; i < BASIS_BYTES; i++)
		p[i] = (uint8_t)(i * i >> 5);
}

static void hostile_delta(struct bytes delta, size_t piece)
{
	_cleanup_close_ int fd = memfd_create("basis", MFD_CLOEXEC);
	struct buf out = BUF_INIT;
	uint8_t basis[BASIS_BYTES];
	struct tp_patch *p;
	bool done = false;
	size_t made = 0;
	struct err e;
	int r = 0;

	fill(basis);
	if (fd < 0 || write(fd, basis, sizeof(basis)) < 0 || tp_patch_new(fd, &p, NULL) < 0)
		return;
	for (size_t off = 0; off < delta.n && r >= 0 && made < MADE_MAX; off += piece) {
		struct bytes in = bytes_of(delta.p + off, MIN(piece, delta.n - off));

		do {
			r = tp_patch_step(p, in, &out, &done, &e);
			if (buf_len(&out) > TP_PATCH_OUT)
				__builtin_trap();
			made += buf_len(&out);
			buf_clear(&out);
			in = bytes_of(NULL, 0);
		} while (r == 1 && made < MADE_MAX);
	}
	tp_patch_free(p);
	buf_fini(&out);
}

static void hostile_signature(struct bytes sig)
{
	uint8_t content[BASIS_BYTES];
	struct buf out = BUF_INIT;
	struct tp_delta *d;
	uint64_t literal;
	uint64_t matched;
	struct err e;

	if (tp_delta_new(sig, &d, &e) < 0)
		return;
	fill(content);
	if (tp_delta_step(d, bytes_of(content, 3000), false, &out, &e) < 0 ||
	    tp_delta_step(d, bytes_of(content + 3000, 2000), true, &out, &e) < 0)
		__builtin_trap();
	tp_delta_stats(d, &literal, &matched);
	if (literal + matched != BASIS_BYTES)
		__builtin_trap();
	tp_delta_free(d);
	buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	if (data[0] & 1)
		hostile_delta(bytes_of(data + 1, size - 1), 1 + (size_t)data[0]);
	else
		hostile_signature(bytes_of(data + 1, size - 1));
	return 0;
}
