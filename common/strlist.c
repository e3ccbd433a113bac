/* SPDX-License-Identifier: Apache-2.0 */
#include "common/strlist.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int strlist_add(struct strlist *l, const char *s, size_t n)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 8;
		char **v = reallocarray(l->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		l->v = v;
		l->cap = cap;
	}
	l->v[l->n] = strndup(s, n);
	if (!l->v[l->n])
		return -ENOMEM;
	l->n++;
	return 0;
}

int strlist_add_csv(struct strlist *l, const char *text)
{
	for (const char *p = text; *p;) {
		size_t len = strcspn(p, ","), skip = strspn(p, " \t\n");
		size_t n = len > skip ? len - skip : 0;

		while (n && strchr(" \t\n", p[skip + n - 1]))
			n--;
		if (n && strlist_add(l, p + skip, n) < 0)
			return -ENOMEM;
		p += len;
		p += *p == ',';
	}
	return 0;
}

void strlist_fini(struct strlist *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
	*l = (struct strlist){ 0 };
}
