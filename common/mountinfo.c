/* SPDX-License-Identifier: Apache-2.0 */
#include "common/mountinfo.h"

#include <stddef.h>
#include <string.h>

#include "common/macro.h"

void mountinfo_unescape(char *s)
{
	char *out = s;

	for (; *s; s++, out++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] && s[3]) {
			*out = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*out = *s;
		}
	}
	*out = '\0';
}

/* "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw" */
bool mountinfo_parse(char *line, struct mountinfo *ret)
{
	char *dash = strstr(line, " - "), *save = NULL, *field[6] = { NULL };

	if (!dash)
		return false;
	*dash = '\0';
	ret->type = strtok_r(dash + 3, " ", &save);
	ret->source = strtok_r(NULL, " ", &save);
	ret->super = ret->source ? strtok_r(NULL, " ", &save) : NULL;
	save = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(field); i++)
		field[i] = strtok_r(i ? NULL : line, " ", &save);
	if (!ret->type || !field[4])
		return false;
	ret->source = ret->source ? ret->source : dash; /* an empty string */
	ret->super = ret->super ? ret->super : dash;
	ret->options = field[5] ? field[5] : dash;
	ret->dev = field[2];
	ret->root = field[3];
	ret->point = field[4];
	mountinfo_unescape(ret->root);
	mountinfo_unescape(ret->point);
	mountinfo_unescape(ret->source);
	return true;
}
