/* SPDX-License-Identifier: Apache-2.0 */
/* A target SPEC: what is accepted has a host and a clean absolute root. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "config/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int has_component(const char *path, const char *name)
{
	size_t n = strlen(name);

	for (const char *at = path; (at = strchr(at, '/')); at++)
		if (!strncmp(at + 1, name, n) && (at[1 + n] == '/' || !at[1 + n]))
			return 1;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cfg_target t = { 0 };
	struct err e = { 0 };
	char *spec = malloc(size + 1), *one = NULL;

	if (!spec)
		return 0;
	memcpy(spec, data, size);
	spec[size] = '\0';
	if (cfg_target_parse(spec, &t, &e) == 0) {
		if (!t.host || !*t.host || strlen(t.host) > CFG_TARGET_HOST_MAX || !t.root ||
		    *t.root != '/' || t.port > 65535 || has_component(t.root, "..") ||
		    has_component(t.root, ".") || strstr(t.root, "//") ||
		    (t.root[1] && t.root[strlen(t.root) - 1] == '/') ||
		    (t.user && (!*t.user || strlen(t.user) > CFG_TARGET_USER_MAX)))
			__builtin_trap();
	} else if (t.host || t.user || t.root || !e.code) {
		__builtin_trap();
	}
	cfg_target_fini(&t);
	if (cfg_target_host(spec, &one, &e) == 0)
		free(one);
	one = NULL;
	if (cfg_target_user(spec, &one, &e) == 0)
		free(one);
	free(spec);
	return 0;
}
