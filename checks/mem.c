/* SPDX-License-Identifier: Apache-2.0 */
#include "checks/mem.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Small things share a block; what is larger gets one of its own. */
#define BLOCK_BYTES 8192

struct chk_mem_block {
	struct chk_mem_block *next;
	size_t used, size;
	max_align_t data[];
};

void chk_mem_fini(struct chk_mem *m)
{
	struct chk_mem_block *b = m->blocks, *next;

	for (; b; b = next) {
		next = b->next;
		free(b);
	}
	*m = (struct chk_mem){ 0 };
}

void *chk_mem_get(struct chk_mem *m, size_t n)
{
	const size_t align = sizeof(max_align_t);
	struct chk_mem_block *b = m->blocks;
	void *p;

	if (n > SIZE_MAX / 2) {
		m->bad = true;
		return NULL;
	}
	n = (n + align - 1) / align * align;
	if (!b || b->size - b->used < n) {
		size_t size = MAX(n, (size_t)BLOCK_BYTES);

		b = calloc(1, sizeof(*b) + size);
		if (!b) {
			m->bad = true;
			return NULL;
		}
		b->size = size;
		b->next = m->blocks;
		m->blocks = b;
	}
	p = (char *)b->data + b->used;
	b->used += n;
	return p;
}

const char *chk_mem_strn(struct chk_mem *m, const char *s, size_t n)
{
	char *p = chk_mem_get(m, n + 1);

	if (!p)
		return "";
	memcpy(p, s, n); /* the rest is zeroed */
	return p;
}

const char *chk_mem_str(struct chk_mem *m, const char *s)
{
	return chk_mem_strn(m, s, strlen(s));
}

const char *chk_mem_printf(struct chk_mem *m, const char *fmt, ...)
{
	_cleanup_free_ char *s = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	if (n < 0) {
		s = NULL;
		m->bad = true;
		return "";
	}
	return chk_mem_strn(m, s, (size_t)n);
}

const char *chk_mem_join(struct chk_mem *m, const char *list, const char *sep, const char *item)
{
	return *list ? chk_mem_printf(m, "%s%s%s", list, sep, item) : chk_mem_str(m, item);
}

void *chk_mem_add_(struct chk_mem *m, void **v, size_t *n, size_t size)
{
	/* Full whenever the count is a power of two from 8 on: the capacity needs no place. */
	if (*n == 0 || (*n >= 8 && (*n & (*n - 1)) == 0)) {
		void *p = chk_mem_get(m, (*n ? *n * 2 : 8) * size);

		if (!p)
			return NULL;
		if (*n)
			memcpy(p, *v, *n * size);
		*v = p;
	}
	return (char *)*v + (*n)++ * size;
}
