/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/statedir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

int agt_statedir_make(const char *path, struct err *e)
{
	char part[PATH_MAX];
	size_t n = strlen(path);

	if (n >= sizeof(part))
		return err_set(e, -ENAMETOOLONG, "state directory %s: the name is too long",
			       path);
	memcpy(part, path, n + 1);
	for (char *p = part + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return err_sys(e, "make %s for the state directory", part);
		*p = '/';
	}
	if (mkdir(part, 0700) < 0 && errno != EEXIST)
		return err_sys(e, "make state directory %s", path);
	return 0;
}

int agt_statedir_lock(const char *dir, const char *name, const char *holder, struct err *e)
{
	_cleanup_close_ int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_close_ int fd = -1;

	if (at < 0)
		return err_sys(e, "open state directory %s", dir);
	fd = openat(at, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys(e, "open %s/%s", dir, name);
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return TAKE_FD(fd);
	if (errno != EWOULDBLOCK)
		return err_sys(e, "lock %s/%s", dir, name);
	return err_set(e, -ERR_LOCKED,
		       "another %s with the state directory %s: wait for it, or give --state-dir",
		       holder, dir);
}
