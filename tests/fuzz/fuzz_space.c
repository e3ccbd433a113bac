/* SPDX-License-Identifier: Apache-2.0 */
/* What a target prints for its room: sums that cannot wrap, or a refusal with words. */
#include <stdlib.h>
#include <string.h>

#include "agent/targetspace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct agt_target_space s = { 0 };
	struct err e = { 0 };
	char *text;

	/* As much as a login keeps. */
	if (size > 4096)
		return 0;
	text = malloc(size + 1);
	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	if (agt_target_space_parse(text, &s, &e) < 0 ? e.code != -ERR_PROTOCOL || !*e.text :
						       s.bytes % 1024 != 0)
		__builtin_trap();
	free(text);
	return 0;
}
