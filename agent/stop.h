/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/stop.h - the wish to end: SIGTERM, SIGINT or SIGHUP, seen as a descriptor.
 *
 * The signals are blocked and read from a signalfd that is never emptied, so a wish once
 * uttered stays, and whatever waits (a request, a pause between polls) waits for it, too.
 * A child process is to be started with the mask in agt_stop.old, or it could not be ended.
 */
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

struct agt_stop {
	int fd;
	sigset_t old; /* the mask before, for children */
};

/* Call before any thread is started; once in a program.  SIGPIPE is ignored, too. */
int agt_stop_open(struct agt_stop *ret, struct err *e) _must_check_;
void agt_stop_close(struct agt_stop *s); /* the mask is put back */

bool agt_stop_asked(const struct agt_stop *s); /* NULL: never */

/* Sleep, or -ERR_CANCELLED as soon as it is asked.  s may be NULL. */
int agt_stop_sleep(const struct agt_stop *s, int64_t ms, struct err *e) _must_check_;
