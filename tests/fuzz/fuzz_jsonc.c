/* SPDX-License-Identifier: Apache-2.0 */
/* A config file of foreign bytes: refused with a position, or a tree that can be walked. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "config/jsonc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cfg_jsonc *d = NULL;
	struct err e = { 0 };
	int r = cfg_jsonc_parse("fuzz", bytes_of(data, size), &d, &e);

	if (r < 0) {
		if (d || !e.code || (r == -ERR_USAGE && strncmp(e.text, "fuzz: line ", 11) != 0))
			__builtin_trap();
		return 0;
	}
	const struct cJSON *root = cfg_jsonc_root(d);
	struct cfg_jsonc_pos key = cfg_jsonc_key_pos(d, root), value = cfg_jsonc_value_pos(d, root);

	if (!root || value.line < 1 || value.column < 1 || key.line != value.line ||
	    key.column != value.column)
		__builtin_trap();
	cfg_jsonc_free(d);
	return 0;
}
