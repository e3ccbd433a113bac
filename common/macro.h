/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * common/macro.h - attributes and tiny helpers used everywhere.
 */
#include <stdlib.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _must_check_ __attribute__((warn_unused_result))
#define _printf_(fmt, args) __attribute__((format(printf, fmt, args)))
#define _unused_ __attribute__((unused))

/* Hand over a pointer or a descriptor that has a cleanup attribute. */
#define TAKE_PTR(p)                    \
	({                             \
		__typeof__(p) p_ = (p); \
		(p) = NULL;            \
		p_;                    \
	})
#define TAKE_FD(fd)                  \
	({                           \
		int fd_ = (fd);      \
		(fd) = -1;           \
		fd_;                 \
	})

static inline void free_p_(void *p)
{
	free(*(void **)p);
}

static inline void close_p_(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

#define _cleanup_free_ _cleanup_(free_p_)
#define _cleanup_close_ _cleanup_(close_p_)
