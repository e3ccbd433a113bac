/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * common/mountinfo.h - a line of /proc/PID/mountinfo (proc(5)).
 */
#include <stdbool.h>

struct mountinfo {
	char *dev;     /* "8:1" */
	char *root;    /* what part of the file system is mounted */
	char *point;   /* where */
	char *options; /* of the mount; "" none */
	char *type;
	char *source;  /* "" none */
	char *super;   /* options of the file system; "" none */
};

/*
 * Take line apart; it is cut into the parts of *ret, with blanks and the like unescaped in
 * paths (not in super).  False: it is not of that form.
 */
bool mountinfo_parse(char *line, struct mountinfo *ret);

/* Undo the \ooo that the kernel writes for blank, tab, newline and backslash, in place. */
void mountinfo_unescape(char *s);
