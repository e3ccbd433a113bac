/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/errors.h - error codes of the cloud and what a person can do about each.
 */
#include <stdbool.h>

struct agt_error_row {
	const char *code;    /* "SMS.6504" */
	const char *meaning; /* a few words */
	const char *remedy;  /* what to do, in a few words, too */
	bool again;          /* the service is busy: the same request may succeed in a while */
};

/* NULL: nothing is known about that code.  code may be NULL or empty; its case is ignored. */
const struct agt_error_row *agt_error_find(const char *code);
