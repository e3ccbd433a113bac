/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/link.h - a two-way stream of bytes to a program that runs somewhere.
 *
 * The engine speaks to a receiver over a link and knows nothing more: behind it is an SSH
 * channel (transport/session.h), a local process (transport/link_pipe.h), or a wrapper around
 * another link that injects faults.  A link belongs to one thread.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/buf.h"
#include "common/bytes.h"
#include "common/error.h"

/* How the program at the far end ended. */
struct tp_exit {
	bool known;      /* false: it never told, or not in time */
	int status;      /* exit status, 0 when a signal ended it */
	char signal[24]; /* "KILL" and the like, empty: none */
};

struct tp_link;

struct tp_link_ops {
	/*
	 * Up to n bytes: the count; 0: the program closed its output; -EAGAIN: nothing now;
	 * -ERR_LOST or another negative code: the link is dead.
	 */
	ssize_t (*read)(struct tp_link *l, void *p, size_t n);

	/* The count taken, never 0; -EAGAIN: none now, wait() first; else negative. */
	ssize_t (*write)(struct tp_link *l, const void *p, size_t n);

	/*
	 * Return 0 when a read may succeed, or, with want_write, a write; or extra_fd (-1:
	 * none) is readable; or timeout_ms (negative: none) have passed.  It may return
	 * early.  Keep-alives are sent from here, so call it at least that often.
	 * -ERR_LOST: the peer is gone, or was silent for the idle timeout.
	 */
	int (*wait)(struct tp_link *l, bool want_write, int extra_fd, int timeout_ms);

	/* The program reads end of file; nothing may be written after it.  0 or negative. */
	int (*eof)(struct tp_link *l);

	/*
	 * Send end of file, throw away what still comes on the output, and wait for the
	 * program to end, at most timeout_ms.  0 and *ret filled, or -ERR_LOST.
	 */
	int (*finish)(struct tp_link *l, int timeout_ms, struct tp_exit *ret);

	/* The last bytes (TP_SAID_MAX) of the program's stderr; borrowed until the next call. */
	struct bytes (*said)(struct tp_link *l);

	/* Why the last call failed; code 0: none did.  Borrowed. */
	const struct err *(*error)(struct tp_link *l);

	/* Let go of the link and its memory; bounded to seconds, whatever the peer does. */
	void (*close)(struct tp_link *l);
};

struct tp_link {
	const struct tp_link_ops *ops;
	uint64_t bytes_read;    /* from the network, everything that SSH adds included */
	uint64_t bytes_written;
	bool window_full;       /* the last write took nothing as the peer's window was used up */
};

#define TP_SAID_MAX 8192

/* Append to a tail of stderr, which keeps the last TP_SAID_MAX bytes. */
static inline void tp_said_add(struct buf *tail, const void *p, size_t n)
{
	/* Out of memory loses a diagnostic text and nothing else. */
	if (buf_put(tail, p, n) == 0 && buf_len(tail) > TP_SAID_MAX)
		buf_consume(tail, buf_len(tail) - TP_SAID_MAX);
}

static inline void tp_link_close(struct tp_link *l)
{
	if (l)
		l->ops->close(l);
}

static inline void tp_link_closep(struct tp_link **l)
{
	tp_link_close(*l);
}
