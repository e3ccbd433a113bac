/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/listener.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/json.h"
#include "common/io.h"
#include "common/log.h"
#include "common/macro.h"

#define ANSWER_MAX (1u << 20)

struct client {
	int fd; /* -1: none */
	struct buf in, out;
	int64_t end_ns;
};

struct agt_listener {
	int fd;
	unsigned uid;
	agt_answer_fn *answer;
	void *arg;
	struct sockaddr_un at;
	struct client clients[AGT_LISTENER_CLIENTS];
};

enum agt_request agt_request_parse(struct bytes b)
{
	static const char word[] = "status";
	const uint8_t *end = b.n ? memchr(b.p, '\n', b.n) : NULL;
	size_t n = end ? (size_t)(end - b.p) : b.n;

	if (n > AGT_REQUEST_MAX)
		return AGT_REQUEST_UNKNOWN;
	if (!end)
		return AGT_REQUEST_MORE;
	return bytes_eq(bytes_of(b.p, n), bytes_str(word)) ? AGT_REQUEST_STATUS :
							     AGT_REQUEST_UNKNOWN;
}

static int address(const char *path, struct sockaddr_un *ret, struct err *e)
{
	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(ret->sun_path))
		return err_set(e, -ERR_USAGE, "socket %s: the name is longer than %zu bytes", path,
			       sizeof(ret->sun_path) - 1);
	strcpy(ret->sun_path, path);
	return 0;
}

/* ---- the daemon ---- */

/* Only a daemon that is gone may be replaced. */
static int clear_place(const struct sockaddr_un *at, struct err *e)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (fd < 0)
		return err_sys(e, "make a socket");
	if (lstat(at->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : err_sys(e, "look at %s", at->sun_path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, -EEXIST, "%s is in the way: it is no socket", at->sun_path);
	if (connect(fd, (const struct sockaddr *)at, sizeof(*at)) == 0 || errno == EAGAIN)
		return err_set(e, -ERR_LOCKED,
			       "another agent answers at %s: stop it, or give --socket",
			       at->sun_path);
	if (unlink(at->sun_path) < 0 && errno != ENOENT)
		return err_sys(e, "remove %s, which a killed agent has left", at->sun_path);
	return 0;
}

int agt_listener_open(const char *path, unsigned uid, agt_answer_fn *answer, void *arg,
		      struct agt_listener **ret, struct err *e)
{
	struct agt_listener *l = calloc(1, sizeof(*l));
	mode_t mask;
	int r;

	if (!l)
		return err_sysn(e, -ENOMEM, "listen at %s", path);
	l->uid = uid;
	l->answer = answer;
	l->arg = arg;
	for (size_t i = 0; i < AGT_LISTENER_CLIENTS; i++)
		l->clients[i].fd = -1;
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	r = l->fd < 0 ? err_sys(e, "make a socket") : address(path, &l->at, e);
	if (r == 0)
		r = clear_place(&l->at, e);
	if (r == 0) {
		/* From its first moment on it is closed to others. */
		mask = umask(0177);
		if (bind(l->fd, (const struct sockaddr *)&l->at, sizeof(l->at)) < 0)
			r = err_sys(e, "make the socket %s", path);
		umask(mask);
	}
	if (r == 0 && listen(l->fd, AGT_LISTENER_CLIENTS) < 0)
		r = err_sys(e, "listen at %s", path);
	if (r < 0) {
		agt_listener_forget(l);
		return r;
	}
	*ret = l;
	return 0;
}

static void drop(struct client *c)
{
	close_p_(&c->fd);
	c->fd = -1;
	buf_fini(&c->in);
	buf_fini(&c->out);
}

void agt_listener_forget(struct agt_listener *l)
{
	if (!l)
		return;
	close_p_(&l->fd);
	for (size_t i = 0; i < AGT_LISTENER_CLIENTS; i++)
		drop(&l->clients[i]);
	free(l);
}

void agt_listener_close(struct agt_listener *l)
{
	if (l)
		unlink(l->at.sun_path);
	agt_listener_forget(l);
}

static void reply(struct client *c, struct cJSON *v)
{
	if (!v || agt_json_print(v, true, &c->out, NULL) < 0)
		drop(c);
	agt_json_free(v);
}

static struct cJSON *refusal(const char *text)
{
	struct cJSON *v = agt_json_object();

	agt_json_set_str(v, "error", text);
	return v;
}

static void welcome(struct agt_listener *l, struct client *c, int fd)
{
	struct ucred who = { .uid = (uid_t)-1 };
	socklen_t size = sizeof(who);

	c->fd = fd;
	c->end_ns = clock_mono_ns() + AGT_LISTENER_TIME_MS * INT64_C(1000000);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 && who.uid == l->uid)
		return;
	log_error("user %u asked for the status, which only root may", who.uid);
	reply(c, refusal("only root may ask the agent"));
}

static void accept_all(struct agt_listener *l)
{
	for (size_t i = 0; i < AGT_LISTENER_CLIENTS; i++) {
		int fd;

		if (l->clients[i].fd >= 0)
			continue;
		fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			return;
		welcome(l, &l->clients[i], fd);
	}
}

static void take_request(struct agt_listener *l, struct client *c)
{
	uint8_t part[AGT_REQUEST_MAX + 2];
	ssize_t n = recv(c->fd, part, sizeof(part), 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || buf_put(&c->in, part, (size_t)n) < 0) {
		drop(c);
		return;
	}
	switch (agt_request_parse(buf_view(&c->in))) {
	case AGT_REQUEST_MORE:
		return;
	case AGT_REQUEST_STATUS:
		reply(c, l->answer(l->arg));
		return;
	case AGT_REQUEST_UNKNOWN:
		reply(c, refusal("no such request: there is \"status\""));
		return;
	}
}

static void send_answer(struct client *c)
{
	struct bytes b = buf_view(&c->out);
	ssize_t n = send(c->fd, b.p, b.n, MSG_NOSIGNAL);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		buf_consume(&c->out, (size_t)n);
	if (n < 0 || !buf_len(&c->out))
		drop(c);
}

size_t agt_listener_fds(const struct agt_listener *l, struct pollfd *ret)
{
	size_t n = 1;

	ret[0] = (struct pollfd){ .fd = -1, .events = POLLIN };
	for (size_t i = 0; i < AGT_LISTENER_CLIENTS; i++) {
		const struct client *c = &l->clients[i];

		if (c->fd < 0)
			ret[0].fd = l->fd; /* there is room for one more */
		else
			ret[n++] = (struct pollfd){
				.fd = c->fd, .events = buf_len(&c->out) ? POLLOUT : POLLIN
			};
	}
	return n;
}

void agt_listener_serve(struct agt_listener *l, const struct pollfd *fds, size_t n)
{
	int64_t now = clock_mono_ns();

	for (size_t i = 0; i < AGT_LISTENER_CLIENTS; i++) {
		struct client *c = &l->clients[i];
		short events = 0;

		for (size_t k = 1; k < n && c->fd >= 0; k++)
			if (fds[k].fd == c->fd)
				events = fds[k].revents;
		if (c->fd < 0)
			continue;
		if (events && !buf_len(&c->out))
			take_request(l, c);
		if (c->fd >= 0 && buf_len(&c->out))
			send_answer(c);
		if (c->fd >= 0 && now >= c->end_ns)
			drop(c);
	}
	/* Last: the events above belong to those that were there. */
	if (n && fds[0].revents)
		accept_all(l);
}

/* ---- the client ---- */

static int read_answer(int fd, const char *path, struct buf *out, struct err *e)
{
	for (;;) {
		char part[4096];
		ssize_t n = recv(fd, part, sizeof(part), 0);

		if (n == 0)
			return 0;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return err_set(e, -ERR_LOST, "the agent at %s did not answer within %d s",
				       path, AGT_LISTENER_TIME_MS / 1000);
		/* It had closed before it read what was asked: its answer has come, if any. */
		if (n < 0 && errno == ECONNRESET)
			return 0;
		if (n < 0)
			return err_sys(e, "read from %s", path);
		if (buf_len(out) + (size_t)n > ANSWER_MAX)
			return err_set(e, -ERR_PROTOCOL, "%s sends too much: is it the agent's?",
				       path);
		if (buf_put(out, part, (size_t)n) < 0)
			return err_sysn(e, -ENOMEM, "read from %s", path);
	}
}

int agt_listener_ask(const char *path, const char *request, struct buf *out, struct err *e)
{
	const struct timeval time = { .tv_sec = AGT_LISTENER_TIME_MS / 1000 };
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un at;
	char line[AGT_REQUEST_MAX + 2];
	int r = address(path, &at, e), n;

	if (r < 0)
		return r;
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof(time)) < 0)
		return err_sys(e, "make a socket");
	if (connect(fd, (const struct sockaddr *)&at, sizeof(at)) < 0) {
		if (errno == ENOENT || errno == ECONNREFUSED)
			return err_set(e, -ERR_CONNECT,
				       "no agent is running (nobody answers at %s): systemctl start "
				       "stager-agent",
				       path);
		if (errno == EACCES || errno == EPERM)
			return err_set(e, -EACCES, "%s: only root may ask the agent", path);
		return err_sys(e, "connect to %s", path);
	}
	n = snprintf(line, sizeof(line), "%s\n", request);
	/* One that refuses us may have closed already; what it said can be read all the same. */
	if (send(fd, line, (size_t)n, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET)
		return err_sys(e, "write to %s", path);
	return read_answer(fd, path, out, e);
}
