/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * checks/supported.h - the list of systems that SMS takes, as a file that can be replaced.
 *
 * Lines of words; "#" begins a comment.  Two kinds:
 *
 *	ID  VERSIONS  FIRMWARE  CODE  [edition=WORD]  [note=TEXT TO THE END OF THE LINE]
 *	kernel  PATTERN  VALUES
 *
 * ID is that of os-release in lower case.  VERSIONS are joined by commas, each one version or
 * FROM-TO with both ends included; they compare number by number and a missing number is 0,
 * so 12 is 12.0.  FIRMWARE is bios, uefi or bios,uefi.  CODE is what SMS calls the system;
 * %1 %2 %3 stand for the numbers of the version.  A kernel line names kernels that SMS can
 * migrate block by block: PATTERN with its "*" replaced by each of VALUES.
 */
#include <stdbool.h>
#include <stddef.h>

#include "checks/facts.h"
#include "common/error.h"

#define CHK_SUPPORTED_NAME "supported-os.list"

struct chk_supported_row {
	const char *id, *versions, *code;
	const char *edition; /* must be part of the edition; "" any */
	const char *note;    /* a condition that cannot be checked; "" none */
	bool bios, uefi;
};

struct chk_supported_kernel {
	const char *pattern, *values;
};

struct chk_supported {
	struct chk_mem mem;
	struct chk_supported_row *rows;
	size_t n_rows;
	struct chk_supported_kernel *kernels;
	size_t n_kernels;
};

/* -ERR_USAGE: a line that is not of that form, named by number; else as open(2). */
int chk_supported_load(const char *path, struct chk_supported *ret, struct err *e) _must_check_;
int chk_supported_parse(const char *name, const char *text, struct chk_supported *ret,
			struct err *e) _must_check_;
void chk_supported_fini(struct chk_supported *s);

/* The row for this system, or NULL. */
const struct chk_supported_row *chk_supported_find(const struct chk_supported *s,
						   const struct chk_os *os);

/* The versions listed for an id, joined by commas and cut to fit; "" none. */
const char *chk_supported_versions(const struct chk_supported *s, const char *id, char *ret,
				   size_t size);

bool chk_supported_has_kernel(const struct chk_supported *s, const char *release);

/* The code of a system, listed or not; arch other than x86_64 makes it a 32BIT one. */
const char *chk_supported_code(const struct chk_supported *s, const struct chk_os *os,
			       const char *arch, char *ret, size_t size);
