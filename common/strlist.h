/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * common/strlist.h - a growing list of strings that it owns.
 */
#include <stddef.h>

#include "common/macro.h"

struct strlist {
	char **v; /* n strings, owned */
	size_t n;
	size_t cap;
};

/* Append a copy of the n bytes at s, NUL-terminated.  0 or -ENOMEM. */
int strlist_add(struct strlist *l, const char *s, size_t n) _must_check_;

/* Append the elements of a comma-separated list, without the blanks around them and without
 * empty ones.  0 or -ENOMEM. */
int strlist_add_csv(struct strlist *l, const char *text) _must_check_;

void strlist_fini(struct strlist *l); /* NULL is fine; l can be used again */
