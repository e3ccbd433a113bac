/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/bench/relay.c - a slow, far link on loopback, for measurements.
 *
 *	bench-relay --to PORT [--listen PORT] [--rtt-ms N] [--rate-mbit N]
 *
 * Takes TCP connections on 127.0.0.1 and passes each on to 127.0.0.1:PORT.  Every byte leaves
 * half a round trip after it came, and each direction carries no more than its rate, over all
 * connections together.  Prints "listening PORT" when it is ready and "up BYTES down BYTES"
 * when a signal ends it; up is what the clients sent.
 *
 * What the link has is a queue of a few milliseconds: beyond that the relay does not read, so
 * the rest waits in the socket buffers of whoever sends, and no connection can crowd out the
 * others.  A new connection costs what it costs on a real link: the client's first byte goes
 * out a round trip after connect(), and the server is called half a round trip later.  The
 * windows of TCP on a real link are not imitated: each is as large as the link needs.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include "common/error.h"
#include "common/io.h"
#include "common/macro.h"

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)
#define CONNS_MAX 256
#define READ_BYTES 65536
#define QUEUE_NS (4 * NS_PER_MS) /* what the link may be behind before reading stops */
#define QUEUE_MIN_BYTES (4 << 20) /* of one connection, for a peer that does not read */

/* What was read at once, on its way.  No bytes: the sender has finished. */
struct chunk {
	struct chunk *next;
	int64_t due_ns;
	size_t off;
	size_t len;
	unsigned char data[];
};

/* One direction of the link, shared by all connections. */
struct lane {
	int64_t free_ns; /* when the last bit of what was read so far is on the wire */
	uint64_t bytes;
};

/* One direction of a connection. */
struct pipe_ {
	struct chunk *head;
	struct chunk *tail;
	size_t bytes;
	bool read_done;
	bool write_done;
};

/* fd[0] is the client, fd[1] the server (-1 until it is called); flow[i] comes from fd[i]. */
struct conn {
	int fd[2];
	int64_t start_ns; /* nothing is read from the client before */
	int64_t call_ns;  /* the server is called then */
	struct pipe_ flow[2];
};

struct relay {
	uint16_t to;
	int64_t delay_ns;
	uint64_t rate_bytes; /* per second; 0: no limit */
	size_t queue_bytes;
	int listener;
	int signals;
	struct lane lane[2];
	struct conn conn[CONNS_MAX];
	size_t n_conns;
	unsigned char buf[READ_BYTES];
};

static struct sockaddr_in loopback(uint16_t port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

static void no_delay(int fd)
{
	int one = 1;

	/* Without it the relay works just as well, only slower. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void conn_fini(struct conn *c)
{
	for (int i = 0; i < 2; i++) {
		struct chunk *k;

		if (c->fd[i] >= 0)
			close(c->fd[i]);
		while ((k = c->flow[i].head)) {
			c->flow[i].head = k->next;
			free(k);
		}
	}
}

static void conn_accept(struct relay *r, int64_t now)
{
	int fd = accept4(r->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return;
	no_delay(fd);
	r->conn[r->n_conns++] = (struct conn){
		.fd = { fd, -1 },
		.start_ns = now + 2 * r->delay_ns,
		.call_ns = now + 3 * r->delay_ns,
	};
}

/* False: the server cannot be reached. */
static bool conn_call(struct relay *r, struct conn *c)
{
	struct sockaddr_in to = loopback(r->to);

	c->fd[1] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd[1] < 0)
		return false;
	no_delay(c->fd[1]);
	return connect(c->fd[1], (struct sockaddr *)&to, sizeof(to)) == 0 || errno == EINPROGRESS;
}

/* Puts len bytes of the buffer on the link; false: no memory. */
static bool flow_put(struct relay *r, struct conn *c, int from, size_t len, int64_t now)
{
	struct lane *lane = &r->lane[from];
	struct pipe_ *flow = &c->flow[from];
	struct chunk *k = malloc(sizeof(*k) + len);

	if (!k)
		return false;
	if (r->rate_bytes)
		lane->free_ns = MAX(now, lane->free_ns) +
				(int64_t)(len * (uint64_t)NS_PER_S / r->rate_bytes);
	else
		lane->free_ns = now;
	*k = (struct chunk){ .due_ns = lane->free_ns + r->delay_ns, .len = len };
	memcpy(k->data, r->buf, len);
	if (flow->tail && flow->head)
		flow->tail->next = k;
	else
		flow->head = k;
	flow->tail = k;
	flow->bytes += len;
	lane->bytes += len;
	return true;
}

/* False: the connection is broken. */
static bool flow_read(struct relay *r, struct conn *c, int from, int64_t now)
{
	ssize_t n = read(c->fd[from], r->buf, sizeof(r->buf));

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		c->flow[from].read_done = true;
	return flow_put(r, c, from, (size_t)n, now);
}

/* Hands on what has arrived; false: the connection is broken. */
static bool flow_write(struct conn *c, int from, int64_t now)
{
	struct pipe_ *flow = &c->flow[from];
	int to = c->fd[!from];
	struct chunk *k;

	while ((k = flow->head) && k->due_ns <= now) {
		if (k->len) {
			ssize_t n = send(to, k->data + k->off, k->len - k->off, MSG_NOSIGNAL);

			/* A call that is still under way looks like a full buffer. */
			if (n < 0)
				return errno == EAGAIN || errno == EINTR || errno == ENOTCONN;
			k->off += (size_t)n;
			if (k->off < k->len)
				return true;
		} else {
			if (shutdown(to, SHUT_WR) < 0)
				return false;
			flow->write_done = true;
		}
		flow->bytes -= k->len;
		flow->head = k->next;
		free(k);
	}
	return true;
}

static bool wants_read(const struct relay *r, const struct conn *c, int from, int64_t now)
{
	return c->fd[from] >= 0 && !c->flow[from].read_done && now >= c->start_ns &&
	       r->lane[from].free_ns - now < QUEUE_NS && c->flow[from].bytes < r->queue_bytes;
}

static bool wants_write(const struct conn *c, int from, int64_t now)
{
	const struct chunk *k = c->flow[from].head;

	return c->fd[!from] >= 0 && k && k->due_ns <= now;
}

/* The next time at which something may happen that no descriptor tells of. */
static int64_t conn_next_ns(const struct relay *r, const struct conn *c, int64_t now)
{
	int64_t next = INT64_MAX;

	if (now < c->start_ns)
		next = c->start_ns;
	if (c->fd[1] < 0)
		next = MIN(next, MAX(c->call_ns, now));
	for (int i = 0; i < 2; i++) {
		const struct chunk *k = c->flow[i].head;

		if (k && k->due_ns > now)
			next = MIN(next, k->due_ns);
		if (!c->flow[i].read_done && r->lane[i].free_ns - now >= QUEUE_NS)
			next = MIN(next, r->lane[i].free_ns - QUEUE_NS + 1);
	}
	return next;
}

/* Everything that one connection can do now; false: it is over. */
static bool conn_step(struct relay *r, struct conn *c, const struct pollfd *p, int64_t now)
{
	if (c->fd[1] < 0 && now >= c->call_ns && !conn_call(r, c))
		return false;
	for (int i = 0; i < 2; i++) {
		if (c->fd[i] >= 0 && (p[i].revents & POLLERR))
			return false;
		if ((p[i].revents & (POLLIN | POLLHUP)) && wants_read(r, c, i, now) &&
		    !flow_read(r, c, i, now))
			return false;
	}
	for (int i = 0; i < 2; i++) {
		if (wants_write(c, i, now) && !flow_write(c, i, now))
			return false;
	}
	return !c->flow[0].write_done || !c->flow[1].write_done;
}

/* Until a signal. */
static int relay_run(struct relay *r, struct err *e)
{
	struct pollfd p[2 + 2 * CONNS_MAX];
	size_t turn = 0;

	for (;;) {
		int64_t now = clock_mono_ns(), next = INT64_MAX, wait;
		struct timespec ts;
		size_t n = r->n_conns;

		p[0] = (struct pollfd){ .fd = r->signals, .events = POLLIN };
		p[1] = (struct pollfd){ .fd = n < CONNS_MAX ? r->listener : -1, .events = POLLIN };
		for (size_t i = 0; i < n; i++) {
			struct conn *c = &r->conn[i];

			for (int j = 0; j < 2; j++) {
				int events = (wants_read(r, c, j, now) ? POLLIN : 0) |
					     (wants_write(c, !j, now) ? POLLOUT : 0);

				/* An end that nothing is wanted of would only report its hangup. */
				p[2 + 2 * i + (size_t)j] = (struct pollfd){
					.fd = events ? c->fd[j] : -1,
					.events = (short)events,
				};
			}
			next = MIN(next, conn_next_ns(r, c, now));
		}
		/* Half a millisecond more is not felt, and keeps small chunks from waking us. */
		wait = next == INT64_MAX ? NS_PER_S : MAX(next - now, NS_PER_MS / 4);
		ts = (struct timespec){ .tv_sec = wait / NS_PER_S, .tv_nsec = wait % NS_PER_S };
		if (ppoll(p, (nfds_t)(2 + 2 * n), &ts, NULL) < 0 && errno != EINTR)
			return err_sys(e, "poll");
		if (p[0].revents)
			return 0;

		now = clock_mono_ns();
		/* Whoever is asked first gets the link when it is full: take turns. */
		turn++;
		for (size_t i = 0; i < n; i++) {
			struct conn *c = &r->conn[(i + turn) % n];

			if (conn_step(r, c, &p[2 + 2 * ((i + turn) % n)], now))
				continue;
			conn_fini(c);
			c->fd[0] = -1;
		}
		for (size_t i = 0; i < r->n_conns;) {
			if (r->conn[i].fd[0] < 0)
				r->conn[i] = r->conn[--r->n_conns];
			else
				i++;
		}
		if (p[1].revents)
			conn_accept(r, now);
	}
}

static int relay_open(struct relay *r, uint16_t port, struct err *e)
{
	struct sockaddr_in at = loopback(port);
	socklen_t at_len = sizeof(at);
	sigset_t set;
	int one = 1;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	r->signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (r->signals < 0)
		return err_sys(e, "signalfd");
	/* A measurement that was killed leaves no relay behind. */
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0)
		return err_sys(e, "prctl");

	r->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (r->listener < 0)
		return err_sys(e, "socket");
	if (setsockopt(r->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(r->listener, (struct sockaddr *)&at, sizeof(at)) < 0 ||
	    listen(r->listener, 128) < 0 ||
	    getsockname(r->listener, (struct sockaddr *)&at, &at_len) < 0)
		return err_sys(e, "listen on port %u", port);
	printf("listening %u\n", ntohs(at.sin_port));
	fflush(stdout);
	return 0;
}

static bool number(const char *text, uint64_t max, uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, 10);
	return *text >= '0' && *text <= '9' && !*end && !errno && *ret <= max;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "to", required_argument, NULL, 't' },
		{ "listen", required_argument, NULL, 'l' },
		{ "rtt-ms", required_argument, NULL, 'd' },
		{ "rate-mbit", required_argument, NULL, 'r' },
		{ 0 },
	};
	_cleanup_free_ struct relay *r = calloc(1, sizeof(*r));
	uint64_t to = 0, port = 0, rtt_ms = 0, rate_mbit = 0;
	struct err e = { 0 };
	bool good = true;
	int c, code;

	if (!r)
		return 1;
	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		good = good && (c == 't' ? number(optarg, UINT16_MAX, &to) :
				c == 'l' ? number(optarg, UINT16_MAX, &port) :
				c == 'd' ? number(optarg, 10000, &rtt_ms) :
				c == 'r' ? number(optarg, 100000, &rate_mbit) :
					   false);
	}
	if (!good || !to || optind < argc) {
		fputs("usage: bench-relay --to PORT [--listen PORT] [--rtt-ms N] [--rate-mbit N]\n",
		      stderr);
		return 1;
	}
	r->to = (uint16_t)to;
	r->delay_ns = (int64_t)rtt_ms * NS_PER_MS / 2;
	r->rate_bytes = rate_mbit * 125000;
	r->queue_bytes = MAX((size_t)(r->rate_bytes * rtt_ms / 1000 * 2), (size_t)QUEUE_MIN_BYTES);
	code = relay_open(r, (uint16_t)port, &e);
	if (code == 0)
		code = relay_run(r, &e);
	for (size_t i = 0; i < r->n_conns; i++)
		conn_fini(&r->conn[i]);
	if (code < 0) {
		fprintf(stderr, "bench-relay: %s\n", e.text);
		return 1;
	}
	printf("up %" PRIu64 " down %" PRIu64 "\n", r->lane[0].bytes, r->lane[1].bytes);
	return 0;
}
