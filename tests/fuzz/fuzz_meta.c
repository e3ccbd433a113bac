/* SPDX-License-Identifier: Apache-2.0 */
/* Metadata from a peer: what is accepted survives being written and read again. */
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "transport/meta.h"
#include "transport/protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reader r = reader_of(bytes_of(data, size));
	struct bytes packed;
	struct bytes name;
	struct bytes value;
	struct buf out = BUF_INIT;
	struct tp_meta m;
	struct tp_meta again;

	tp_meta_get(&r, &m);
	if (r.bad)
		return 0;
	for (packed = m.xattrs; packed.n;)
		if (!tp_xattrs_next(&packed, &name, &value))
			__builtin_trap();
	if (tp_meta_put(&out, &m) == 0) {
		r = reader_of(buf_view(&out));
		tp_meta_get(&r, &again);
		if (r.bad || r.n || again.mode != m.mode || again.flags != m.flags ||
		    !bytes_eq(again.xattrs, m.xattrs) || !bytes_eq(again.target, m.target))
			__builtin_trap();
	}
	buf_fini(&out);
	return 0;
}
