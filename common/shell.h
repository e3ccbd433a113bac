/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * common/shell.h - words for a shell on the other side.
 */
#include "common/buf.h"
#include "common/bytes.h"

/*
 * Append word as one word of sh, bash, fish or csh: in single quotes, each quote in it as
 * '\''.  A POSIX shell takes any byte so; csh trips over '!' and newlines, fish over
 * backslashes.  0 or -ENOMEM.
 */
static inline int shell_quote(struct buf *out, struct bytes word)
{
	int r = buf_put_u8(out, '\'');

	for (size_t i = 0; i < word.n && r == 0; i++)
		r = word.p[i] == '\'' ? buf_put(out, "'\\''", 4) : buf_put_u8(out, word.p[i]);
	return r < 0 ? r : buf_put_u8(out, '\'');
}
