/* SPDX-License-Identifier: Apache-2.0 */
#include "common/self.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

int self_prefix(char **ret, struct err *e)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	char *slash;

	if (n < 0)
		return err_sys(e, "find the own program: readlink /proc/self/exe");
	path[n] = '\0';
	for (int i = 0; i < 2; i++) {
		slash = strrchr(path, '/');
		if (slash)
			*slash = '\0';
	}
	*ret = strdup(path);
	return *ret ? 0 : err_sysn(e, -ENOMEM, "find the own program");
}
