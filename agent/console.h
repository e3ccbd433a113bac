/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/console.h - why a server that should have booted did not, by what its console says.
 */
#include <stddef.h>

struct agt_console_cause {
	const char *name;    /* a word for programs: "emergency_mode" */
	const char *pattern; /* text on the console, in any case; '*' stands for anything in a line */
	const char *cause;
	const char *remedy;
};

#define AGT_CONSOLE_CAUSES_MAX 16

/*
 * The causes that text (NUL-terminated console output, of any content) tells of, the most
 * telling first, each once; at most AGT_CONSOLE_CAUSES_MAX go into ret.  Returns their count.
 */
size_t agt_console_causes(const char *text,
			  const struct agt_console_cause *ret[AGT_CONSOLE_CAUSES_MAX]);
