/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/sdnotify.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/io.h"
#include "common/log.h"
#include "common/macro.h"

/* NULL: not there, or empty. */
static const char *variable(char *const *envp, const char *name)
{
	size_t n = strlen(name);

	for (; envp && *envp; envp++)
		if (!strncmp(*envp, name, n) && (*envp)[n] == '=' && (*envp)[n + 1])
			return *envp + n + 1;
	return NULL;
}

static int number(const char *name, const char *text, uint64_t *ret, struct err *e)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, 10);
	if (errno || *end || *text < '0' || *text > '9')
		return err_set(e, -ERR_USAGE, "%s: '%s' is no number", name, text);
	return 0;
}

static int take_watchdog(char *const *envp, struct agt_sdnotify *n, struct err *e)
{
	const char *usec = variable(envp, "WATCHDOG_USEC"), *pid = variable(envp, "WATCHDOG_PID");
	uint64_t v = 0;

	if (pid) {
		int r = number("WATCHDOG_PID", pid, &v, e);

		/* Meant for another process. */
		if (r < 0 || v != (uint64_t)getpid())
			return r;
	}
	if (usec) {
		int r = number("WATCHDOG_USEC", usec, &v, e);

		if (r < 0)
			return r;
		if (!v || v > INT64_MAX / 1000)
			return err_set(e, -ERR_USAGE, "WATCHDOG_USEC: %s is out of range", usec);
		n->watchdog_ns = (int64_t)v * 1000 / 2;
	}
	return 0;
}

int agt_sdnotify_open(char *const *envp, struct agt_sdnotify *ret, struct err *e)
{
	const char *path = variable(envp, "NOTIFY_SOCKET");
	struct agt_sdnotify n = { .fd = -1, .to.sun_family = AF_UNIX };
	size_t size = path ? strlen(path) : 0;
	int r;

	*ret = n;
	if (!path)
		return 0;
	if ((path[0] != '/' && path[0] != '@') || size < 2 || size >= sizeof(n.to.sun_path))
		return err_set(e, -ERR_USAGE, "NOTIFY_SOCKET: '%s' is no socket that can be used",
			       path);
	memcpy(n.to.sun_path, path, size);
	n.to_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
	if (path[0] == '@')
		n.to.sun_path[0] = '\0'; /* a name that is no file */
	else
		n.to_size++;
	r = take_watchdog(envp, &n, e);
	if (r < 0)
		return r;
	n.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (n.fd < 0)
		return err_sys(e, "make a socket for NOTIFY_SOCKET");
	*ret = n;
	return 0;
}

void agt_sdnotify_close(struct agt_sdnotify *n)
{
	close_p_(&n->fd);
	n->fd = -1;
}

/* A manager that is slow must not hold us up: what cannot be sent at once is not. */
static void send_text(const struct agt_sdnotify *n, const char *text)
{
	if (n->fd < 0)
		return;
	if (sendto(n->fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT,
		   (const struct sockaddr *)&n->to, n->to_size) < 0)
		log_error("tell the service manager (NOTIFY_SOCKET): %s", strerror(errno));
}

void agt_sdnotify_ready(const struct agt_sdnotify *n)
{
	send_text(n, "READY=1");
}

void agt_sdnotify_reloading(const struct agt_sdnotify *n)
{
	char text[64];

	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRId64,
		 clock_mono_ns() / 1000);
	send_text(n, text);
}

void agt_sdnotify_stopping(const struct agt_sdnotify *n)
{
	send_text(n, "STOPPING=1");
}

void agt_sdnotify_watchdog(const struct agt_sdnotify *n)
{
	if (n->watchdog_ns)
		send_text(n, "WATCHDOG=1");
}

void agt_sdnotify_status(const struct agt_sdnotify *n, const char *text)
{
	char line[AGT_SDNOTIFY_STATUS_MAX + 8];

	snprintf(line, sizeof(line), "STATUS=%s", text);
	/* A line end would begin another assignment. */
	for (char *p = line; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	send_text(n, line);
}
