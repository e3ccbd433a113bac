/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/sdnotify.h - telling the service manager how we are (sd_notify(3), by hand: one
 * datagram to a socket whose name is in the environment).
 */
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/error.h"

#define AGT_SDNOTIFY_STATUS_MAX 200 /* bytes of a status that are sent */

struct agt_sdnotify {
	int fd; /* -1: nobody wants to know, or closed */
	struct sockaddr_un to;
	socklen_t to_size;
	int64_t watchdog_ns; /* how often to say that we live, half of what is granted; 0: never */
};

/*
 * From NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID of envp.  -ERR_USAGE: they make no sense.
 * Children must not have them (agent/child.h takes them out).
 */
int agt_sdnotify_open(char *const *envp, struct agt_sdnotify *ret, struct err *e) _must_check_;
void agt_sdnotify_close(struct agt_sdnotify *n);

/* Each is for nothing when nobody listens, and says so in the log when it cannot be sent. */
void agt_sdnotify_ready(const struct agt_sdnotify *n);
void agt_sdnotify_reloading(const struct agt_sdnotify *n); /* then ready again */
void agt_sdnotify_stopping(const struct agt_sdnotify *n);
void agt_sdnotify_watchdog(const struct agt_sdnotify *n);
/* What a person sees in systemctl status: one line, control bytes become blanks. */
void agt_sdnotify_status(const struct agt_sdnotify *n, const char *text);
