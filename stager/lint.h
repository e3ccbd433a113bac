/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/lint.h - filter rules that cannot do what they say, or do too much.
 *
 * Only what is certain is told, and only of the operator's own rules: the standard list is
 * meant for any host, and per-directory files are not looked into.
 */
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct stg_migration;

/*
 * Print the findings to standard output; *ret: how many.  Walks the source; *ret_errors: what
 * of it could not be read, in which case no rule is said to match nothing.
 */
int stg_lint(struct stg_migration *m, size_t *ret, uint64_t *ret_errors, struct err *e)
	_must_check_;
