/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * common/nearest.h - the name that a mistyped word is meant to be: "did you mean".
 */
#include <stddef.h>

/* Begin with word set and all else zero. */
struct nearest {
	const char *word; /* what was written */
	const char *best;
	size_t at; /* its distance */
};

void nearest_try(struct nearest *n, const char *candidate); /* borrows it */

/* The best candidate; NULL when none resembles the word: half of it would have to change. */
const char *nearest_get(const struct nearest *n);
