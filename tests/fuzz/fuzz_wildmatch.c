/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pattern and text, split at the first newline.  However the text is cut into pieces, the
 * answer is the same; a pattern without anything special matches itself and nothing else.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "stager/wildmatch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *nl = size ? memchr(data, '\n', size) : NULL;
	struct bytes pattern, text;
	bool whole;

	/* Longer ones only cost time. */
	if (!nl || size > 300)
		return 0;
	pattern = bytes_of(data, (size_t)(nl - data));
	text = bytes_of(nl + 1, size - pattern.n - 1);
	whole = stg_wildmatch(pattern, &(struct stg_wild_text){ .path = text }, 0);
	for (size_t cut = 0; cut <= text.n; cut++) {
		struct stg_wild_text t = {
			.lead = bytes_of(text.p, cut),
			.path = bytes_of(text.p + cut, text.n - cut),
		};

		if (stg_wildmatch(pattern, &t, 0) != whole)
			__builtin_trap();
		/* The part from an offset on is a text of its own. */
		if (stg_wildmatch(pattern, &t, cut) !=
		    stg_wildmatch(pattern, &(struct stg_wild_text){ .path = t.path }, 0))
			__builtin_trap();
	}
	if (text.n && text.p[text.n - 1] == '/') {
		struct stg_wild_text t = { .path = bytes_of(text.p, text.n - 1), .slash = true };

		if (stg_wildmatch(pattern, &t, 0) != whole)
			__builtin_trap();
	}
	for (size_t i = 0; i < pattern.n; i++)
		if (strchr("*?[\\", pattern.p[i]))
			return 0;
	if (whole != bytes_eq(pattern, text))
		__builtin_trap();
	return 0;
}
