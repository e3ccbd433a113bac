/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/stop.h - the wish to end: SIGTERM or SIGINT, seen as a descriptor.
 *
 * The signals are blocked and read from a signalfd that is never emptied, so a wish once
 * uttered stays, and whatever waits (a request, a pause between polls) waits for it, too.
 * SIGHUP ends a program as well, unless it is one that reads its configuration anew then.
 * A child process is to be started with the mask in agt_stop.old, or it could not be ended.
 */
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

struct agt_stop {
	int fd;
	int reload_fd; /* SIGHUP; -1: it is one of those that end the program */
	sigset_t old;  /* the mask before, for children */
};

/*
 * Call before any thread is started; once in a program.  reloads: SIGHUP does not end it.
 * SIGPIPE is ignored, too.
 */
int agt_stop_open(bool reloads, struct agt_stop *ret, struct err *e) _must_check_;
void agt_stop_close(struct agt_stop *s); /* the mask is put back */

bool agt_stop_asked(const struct agt_stop *s); /* NULL: never */

/* SIGHUP came since this was asked last. */
bool agt_stop_reload_asked(const struct agt_stop *s);

/*
 * Sleep.  -ERR_CANCELLED as soon as an end is asked for; 1, cut short, when a reload is (and
 * stays so until agt_stop_reload_asked()); else 0.  s may be NULL.
 */
int agt_stop_sleep(const struct agt_stop *s, int64_t ms, struct err *e) _must_check_;
