/* SPDX-License-Identifier: Apache-2.0 */
/* Sums that a hostile target sends, and a file that is matched against them. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "transport/blocks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
	uint64_t at, basis_bytes;
};

static int on_copy(void *ctx, uint64_t off, uint64_t basis_off, uint64_t n, struct err *e)
{
	struct seen *s = ctx;

	(void)e;
	if (off != s->at || basis_off > s->basis_bytes || n > s->basis_bytes - basis_off)
		__builtin_trap();
	s->at += n;
	return 0;
}

static int on_literal(void *ctx, uint64_t off, struct bytes data, struct err *e)
{
	struct seen *s = ctx;

	(void)e;
	if (off != s->at || !data.n)
		__builtin_trap();
	s->at += data.n;
	return 0;
}

static void match(const struct tp_sums *s, struct bytes file, struct seen *seen)
{
	static const struct tp_match_ops ops = { on_copy, on_literal };
	struct tp_match *m;
	uint64_t from, to;
	struct err e;

	if (tp_match_new(s, file.n / 3, file.n, file.n, &m, &e) < 0)
		return;
	tp_match_range(m, &from, &to);
	seen->at = file.n / 3;
	if (tp_match_step(m, bytes_of(file.p + from, to - from), true, &ops, seen, &e) < 0 ||
	    seen->at != file.n)
		__builtin_trap();
	tp_match_free(m);
}

/* le32 bytes of the basis, le32 first block, then sums; the file is the input over and over. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t file[5 * TP_BLOCK_LEAST];
	struct reader r = reader_of(bytes_of(data, size));
	struct seen seen = { .basis_bytes = reader_le32(&r) % (1u << 20) };
	uint32_t first = reader_le32(&r) % 4;
	struct tp_sums *s;
	struct err e;

	if (r.bad || tp_sums_new(seen.basis_bytes, tp_sums_block(seen.basis_bytes), &s, &e) < 0)
		return 0;
	for (size_t i = 0; i < sizeof(file); i++)
		file[i] = data[i % size];
	if (tp_sums_put(s, first, bytes_of(r.p, r.n), &e) == 0 && tp_sums_ready(s, &e) == 0)
		match(s, bytes_of(file, sizeof(file)), &seen);
	tp_sums_free(s);
	return 0;
}
