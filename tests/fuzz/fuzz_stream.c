/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first byte chooses: a peer's bytes as blocks, or bytes of ours through packing and
 * unpacking in odd pieces.
 */
#include <stddef.h>
#include <stdint.h>

#include "transport/protocol.h"
#include "transport/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hostile(struct tp_unpack *u, struct bytes wire)
{
	struct buf in = BUF_INIT;
	struct buf out = BUF_INIT;
	struct err e;

	if (buf_put_bytes(&in, wire) == 0)
		while (tp_unpack(u, &in, 100000, &out, &e) == 1) {
			if (buf_len(&out) >= 100000 + TP_BLOCK_RAW_MAX || !buf_len(&out))
				__builtin_trap();
			buf_clear(&out);
		}
	buf_fini(&in);
	buf_fini(&out);
}

static void round_trip(struct tp_unpack *u, struct bytes raw, size_t piece)
{
	struct buf in = BUF_INIT;
	struct buf wire = BUF_INIT;
	struct buf out = BUF_INIT;
	struct tp_pack *p;
	int r = 0;

	if (tp_pack_new(TP_LEVEL_AUTO, &p, NULL) < 0)
		return;
	for (size_t off = 0; off < raw.n; off += piece) {
		r |= buf_put(&in, raw.p + off, MIN(piece, raw.n - off));
		r |= tp_pack(p, &in, off % 3 == 0, &wire, NULL);
	}
	r |= tp_pack(p, &in, true, &wire, NULL);
	while (tp_unpack(u, &wire, SIZE_MAX, &out, NULL) == 1)
		;
	if (r < 0 || buf_len(&wire) || !bytes_eq(raw, buf_view(&out)))
		__builtin_trap();
	tp_pack_free(p);
	buf_fini(&in);
	buf_fini(&wire);
	buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tp_unpack *u;

	if (!size || tp_unpack_new(&u, NULL) < 0)
		return 0;
	if (data[0] & 1)
		round_trip(u, bytes_of(data + 1, size - 1), 1 + (size_t)data[0] * 8);
	else
		hostile(u, bytes_of(data + 1, size - 1));
	tp_unpack_free(u);
	return 0;
}
