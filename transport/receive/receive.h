/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/receive/receive.h - the conversation of the receiver, from its first byte to its
 * exit status (transport/protocol.h).
 */
#include <stdbool.h>

#include "common/error.h"

struct rcv_opts {
	int in_fd, out_fd;   /* blocking; stay the caller's */
	const char *version; /* told to the driver */
	bool confine;        /* lock the process into the root: cannot be undone */
};

#define RCV_EXIT_OK       0
#define RCV_EXIT_USAGE    1
#define RCV_EXIT_VERSION  2
#define RCV_EXIT_IO       11
#define RCV_EXIT_PROTOCOL 12
#define RCV_EXIT_LOST     30 /* the driver is gone, or was silent for too long */
#define RCV_EXIT_BUSY     44

/*
 * Serve one conversation.  Changes the working directory and the umask of the process, which
 * must ignore SIGPIPE.  Returns the exit status; what went wrong was told to the driver.
 */
int rcv_serve(const struct rcv_opts *o);
