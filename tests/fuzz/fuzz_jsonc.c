/* SPDX-License-Identifier: Apache-2.0 */
/* A config file of foreign bytes: refused with a position, or a tree that can be walked. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "stager/jsonc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct stg_jsonc *d = NULL;
	struct err e = { 0 };
	int r = stg_jsonc_parse("fuzz", bytes_of(data, size), &d, &e);

	if (r < 0) {
		if (d || !e.code || (r == -ERR_USAGE && strncmp(e.text, "fuzz: line ", 11) != 0))
			__builtin_trap();
		return 0;
	}
	const struct cJSON *root = stg_jsonc_root(d);
	struct stg_jsonc_pos key = stg_jsonc_key_pos(d, root), value = stg_jsonc_value_pos(d, root);

	if (!root || value.line < 1 || value.column < 1 || key.line != value.line ||
	    key.column != value.column)
		__builtin_trap();
	stg_jsonc_free(d);
	return 0;
}
