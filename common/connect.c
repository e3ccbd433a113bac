/* SPDX-License-Identifier: Apache-2.0 */
#include "common/connect.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "common/buf.h"
#include "common/io.h"

#define STOP_POLL_MS 100

static void addrinfo_free_p(struct addrinfo **ai)
{
	if (*ai)
		freeaddrinfo(*ai);
}

/* 0 when connected, else -errno; -ETIMEDOUT is ours or the kernel's, -ECANCELED ours. */
static int connect_wait(int fd, int64_t until_ns, const atomic_bool *stop)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t len = sizeof(int);
	int64_t left_ns;
	int soerr = 0;

	for (;;) {
		left_ns = until_ns - clock_mono_ns();
		if (stop && atomic_load(stop))
			return -ECANCELED;
		if (left_ns <= 0)
			return -ETIMEDOUT;
		if (poll(&p, 1, (int)MIN(left_ns / 1000000 + 1, (int64_t)STOP_POLL_MS)) < 0 &&
		    errno != EINTR)
			return -errno;
		if (p.revents)
			break;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &soerr, &len) < 0)
		return -errno;
	return -soerr;
}

static int connect_one(const struct addrinfo *ai, int64_t until_ns, const atomic_bool *stop,
		       int *ret)
{
	_cleanup_close_ int fd = -1;
	int one = 1, r;

	fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, ai->ai_addr, ai->ai_addrlen) < 0) {
		if (errno != EINPROGRESS)
			return -errno;
		r = connect_wait(fd, until_ns, stop);
		if (r < 0)
			return r;
	}
	/*
	 * Buffer sizes stay with the kernel: it grows them to tcp_rmem and tcp_wmem as the
	 * path needs, and a size set here would end that and cap it at net.core.*mem_max.
	 */
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0)
		return -errno;
	*ret = TAKE_FD(fd);
	return 0;
}

/* Add "ADDRESS: why" to the list of what was tried. */
static void tried_add(struct buf *tried, const struct addrinfo *ai, int code)
{
	char addr[NI_MAXHOST];

	if (getnameinfo(ai->ai_addr, ai->ai_addrlen, addr, sizeof(addr), NULL, 0, NI_NUMERICHOST))
		strcpy(addr, "?");
	/* Out of memory shortens a message, no more. */
	(void)!buf_printf(tried, "%s%s: %s", buf_len(tried) ? "; " : "", addr, strerror(-code));
}

int connect_tcp(const char *host, uint16_t port, int timeout_ms, const atomic_bool *stop,
		int *ret, int64_t *ret_called_ns, struct err *e)
{
	_cleanup_(addrinfo_free_p) struct addrinfo *all = NULL;
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV };
	int64_t until = clock_mono_ns() + (int64_t)timeout_ms * 1000000;
	_cleanup_(buf_fini) struct buf tried = BUF_INIT;
	char service[8];
	int code = -ERR_CONNECT, left = 0, r;

	snprintf(service, sizeof(service), "%u", port);
	r = getaddrinfo(host, service, &hints, &all);
	if (r)
		return err_set(e, -ERR_CONNECT, "look up host %s: %s; check the name and the"
			       " resolver, or give an address", host,
			       r == EAI_SYSTEM ? strerror(errno) : gai_strerror(r));
	for (const struct addrinfo *ai = all; ai; ai = ai->ai_next)
		left++;
	for (const struct addrinfo *ai = all; ai; ai = ai->ai_next, left--) {
		int64_t now = clock_mono_ns();

		r = connect_one(ai, now + MAX(until - now, (int64_t)0) / left, stop, ret);
		if (r == 0) {
			if (ret_called_ns)
				*ret_called_ns = now;
			return 0;
		}
		if (r == -ECANCELED)
			return err_set(e, -ERR_CANCELLED, "stopped while connecting");
		tried_add(&tried, ai, r);
		if (r == -ETIMEDOUT)
			code = -ERR_CONNECT_TIMEOUT;
	}
	if (code == -ERR_CONNECT_TIMEOUT)
		return err_set(e, code, "no answer on port %u within %d s (%s); check the address,"
			       " the port, and that firewalls and security groups let this host in",
			       port, timeout_ms / 1000, buf_cstr(&tried) ?: "");
	return err_set(e, code, "cannot connect to port %u (%s); check that sshd runs there and"
		       " listens on this port", port, buf_cstr(&tried) ?: "");
}
