/* SPDX-License-Identifier: Apache-2.0 */
/* A peer's bytes as frames: every payload is read by every reader that takes its type. */
#include <stddef.h>
#include <stdint.h>

#include "transport/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_items(const struct tp_frame *f)
{
	struct reader r = reader_of(f->payload);
	struct tp_item_entry item;
	size_t before;

	do {
		before = r.n;
	} while (tp_get_item(&r, &item, NULL) == 1 && r.n < before);
	if (item.kind == TP_ITEM_ENTRY && !r.bad && before && !tp_name_ok(item.name))
		__builtin_trap();
}

/* What was read can be written, and gives the same bytes. */
static void write_back(const struct tp_frame *f, const struct tp_entry *m)
{
	struct buf out = BUF_INIT;

	if (tp_put_entry(&out, f->type, f->flags, f->slot, m) == 0 &&
	    m->meta.flags && !bytes_eq(f->payload, bytes_of(out.p + TP_FRAME_HEAD,
							    out.n - TP_FRAME_HEAD)))
		__builtin_trap();
	buf_fini(&out);
}

static void read_frame(const struct tp_frame *f)
{
	struct tp_difference difference;
	struct tp_hash_value hash;
	struct tp_link_msg link;
	struct tp_refusal refusal;
	struct tp_sigreq sigreq;
	struct tp_range range;
	struct tp_copy copy;
	struct tp_entry entry;
	struct tp_hello hello;
	struct tp_ready ready;
	struct bytes b;
	uint64_t x;
	uint64_t y;
	uint32_t u;
	int r = 0;

	r |= tp_get_hello_r(f, &hello, NULL);
	r |= tp_get_hello_d(f, &hello, NULL);
	r |= tp_get_ready(f, &ready, NULL);
	r |= tp_get_abort(f, &u, &b, NULL);
	r |= tp_get_path(f, &b, NULL);
	if (tp_get_entry(f, &entry, NULL) == 0)
		write_back(f, &entry);
	if (tp_get_data(f, &x, &b, NULL) == 0 && x + b.n > INT64_MAX)
		__builtin_trap();
	if (tp_get_hole(f, &x, &y, NULL) == 0 && x + y > INT64_MAX)
		__builtin_trap();
	r |= tp_get_close(f, &x, &hash, NULL);
	r |= tp_get_link(f, &link, NULL);
	if (tp_get_remove(f, &b, NULL) == 0 && !tp_name_ok(b))
		__builtin_trap();
	r |= tp_get_sigreq(f, &sigreq, NULL);
	if (tp_get_segment(f, &range, NULL) == 0 &&
	    (range.off + range.bytes > range.size || range.size > INT64_MAX ||
	     !tp_temp_ok(range.name)))
		__builtin_trap();
	if (tp_get_hashreq(f, &range, NULL) == 0 && range.bytes > TP_LEAF_BYTES)
		__builtin_trap();
	if (tp_get_sumreq(f, &range, NULL) == 0 && range.off + range.bytes > range.size)
		__builtin_trap();
	r |= tp_get_sums(f, &u, &b, NULL);
	if (tp_get_copy(f, &copy, NULL) == 0 &&
	    (copy.off + copy.bytes > INT64_MAX || copy.from + copy.bytes > INT64_MAX))
		__builtin_trap();
	r |= tp_get_hashed(f, &u, &hash, NULL);
	r |= tp_get_number(f, &x, NULL);
	r |= tp_get_refusal(f, &refusal, NULL);
	r |= tp_get_difference(f, &difference, NULL);
	if (r > 0)
		__builtin_trap();
	read_items(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf in = BUF_INIT;
	struct tp_frame f;
	struct err e;

	if (buf_put(&in, data, size) < 0)
		return 0;
	while (tp_frame_peek(&in, &f, &e) == 1) {
		read_frame(&f);
		buf_consume(&in, tp_frame_bytes(&f));
	}
	buf_fini(&in);
	return 0;
}
