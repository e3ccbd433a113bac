/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * common/connect.h - a TCP connection to a host by name, in bounded time.
 */
#include <stdatomic.h>
#include <stdint.h>

#include "common/error.h"

/*
 * Try every address of host in turn, each with its share of timeout_ms; *ret is a connected,
 * non-blocking socket without Nagle's delay.  Looking the name up is up to the resolver's own
 * timeouts.  -ERR_CONNECT: no such host, refused, unreachable; -ERR_CONNECT_TIMEOUT: no
 * address answered in time; -ERR_CANCELLED: *stop (NULL: never) became true.  The text lists
 * the addresses tried.  *ret_called_ns (NULL: not wanted): when the address that answered was
 * called, by clock_mono_ns().
 */
int connect_tcp(const char *host, uint16_t port, int timeout_ms, const atomic_bool *stop,
		int *ret, int64_t *ret_called_ns, struct err *e) _must_check_;
