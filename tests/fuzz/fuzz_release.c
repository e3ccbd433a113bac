/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Release files of a foreign root, and the list of supported systems: whatever they hold, the
 * answer is made of strings, and a code can be made of it.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "checks/os.h"
#include "checks/supported.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text[CHK_RELEASE_FILES] = { 0 };
	struct chk_supported list;
	struct chk_mem m = { 0 };
	struct err e = { 0 };
	char out[128];
	struct chk_os os;
	bool told;

	if (!size)
		return 0;
	/* The first byte says whose file it is; 0x80: the CentOS one beside it has the rest. */
	const char *copy = chk_mem_strn(&m, (const char *)data + 1, size - 1);

	text[(data[0] & 0x7f) % CHK_RELEASE_FILES] = copy;
	if (data[0] & 0x80)
		text[CHK_RELEASE_CENTOS] = text[CHK_RELEASE_DEBIAN] = copy + (size - 1) / 2;
	told = chk_os_parse(text, &m, &os);
	if (told != (*os.id != '\0') || strlen(os.version) > size + 8)
		__builtin_trap();
	if (chk_supported_parse("fuzz", copy, &list, &e) == 0) {
		(void)chk_supported_find(&list, &os);
		(void)chk_supported_versions(&list, os.id, out, 16);
		(void)chk_supported_has_kernel(&list, os.version);
		if (strlen(chk_supported_code(&list, &os, "i386", out, sizeof(out))) >= sizeof(out))
			__builtin_trap();
		chk_supported_fini(&list);
	} else if (strncmp(e.text, "fuzz: line ", 11) != 0) {
		__builtin_trap();
	}
	chk_mem_fini(&m);
	return 0;
}
