/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * transport/link_pipe.h - a link to a program on this host, over its stdin and stdout.
 */
#include "transport/link.h"

/*
 * Start argv[0] (looked up in PATH) with the arguments argv; its stderr is collected for
 * said().  close() gives it half a second after end of file, then kills it.
 */
int tp_link_pipe_open(char *const argv[], struct tp_link **ret, struct err *e) _must_check_;
