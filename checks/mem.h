/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * checks/mem.h - memory that is freed all at once.
 *
 * Running out is remembered in bad and told by an empty string or a NULL, so that whoever
 * gathers many small things looks once, at the end.
 */
#include <stdbool.h>
#include <stddef.h>

#include "common/macro.h"

struct chk_mem {
	struct chk_mem_block *blocks; /* newest first */
	bool bad;                     /* out of memory at some time */
};

void chk_mem_fini(struct chk_mem *m);

/* Zeroed bytes; NULL and bad when out of memory. */
void *chk_mem_get(struct chk_mem *m, size_t n);

/* Copies; "" and bad when out of memory. */
const char *chk_mem_str(struct chk_mem *m, const char *s);
const char *chk_mem_strn(struct chk_mem *m, const char *s, size_t n);
const char *chk_mem_printf(struct chk_mem *m, const char *fmt, ...) _printf_(2, 3);

/* list with item put behind a separator; item alone when list is empty. */
const char *chk_mem_join(struct chk_mem *m, const char *list, const char *sep, const char *item);

/*
 * One more zeroed element for the array *v of *n elements; NULL and bad when out of memory.
 * Pointers to earlier elements are stale afterwards.
 */
void *chk_mem_add_(struct chk_mem *m, void **v, size_t *n, size_t size);
#define chk_mem_add(m, v, n)                                                  \
	({                                                                    \
		void *v_ = *(v);                                              \
		void *item_ = chk_mem_add_((m), &v_, (n), sizeof(**(v)));     \
		*(v) = v_;                                                    \
		(__typeof__(*(v)))item_;                                      \
	})
