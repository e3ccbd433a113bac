/* SPDX-License-Identifier: Apache-2.0 */
#include "common/nearest.h"

#include <stdint.h>
#include <string.h>

#include "common/macro.h"

#define WORD_MAX 64 /* longest word that a suggestion is looked for */

/* Edit distance, a swap of neighbours being one edit; large for words over WORD_MAX. */
static size_t distance(const char *a, const char *b)
{
	size_t d[WORD_MAX + 1][WORD_MAX + 1];
	size_t n = strlen(a), m = strlen(b);

	if (n > WORD_MAX || m > WORD_MAX)
		return SIZE_MAX;
	for (size_t i = 0; i <= n; i++)
		d[i][0] = i;
	for (size_t k = 0; k <= m; k++)
		d[0][k] = k;
	for (size_t i = 1; i <= n; i++) {
		for (size_t k = 1; k <= m; k++) {
			size_t best = d[i - 1][k - 1] + (a[i - 1] != b[k - 1]);

			best = MIN(best, MIN(d[i - 1][k], d[i][k - 1]) + 1);
			if (i > 1 && k > 1 && a[i - 1] == b[k - 2] &&
			    a[i - 2] == b[k - 1])
				best = MIN(best, d[i - 2][k - 2] + 1);
			d[i][k] = best;
		}
	}
	return d[n][m];
}

void nearest_try(struct nearest *n, const char *candidate)
{
	size_t at = distance(n->word, candidate);

	if (!n->best || at < n->at) {
		n->best = candidate;
		n->at = at;
	}
}

const char *nearest_get(const struct nearest *n)
{
	return n->best && n->at <= (strlen(n->word) + 1) / 2 ? n->best : NULL;
}
