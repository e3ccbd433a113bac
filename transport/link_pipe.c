/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/link_pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "common/io.h"

/*
 * A socket pair serves as both pipes: send() takes MSG_NOSIGNAL, so a program that died gives
 * an error and no SIGPIPE, and one direction can be shut down alone.
 */
struct tp_link_pipe {
	struct tp_link link; /* first: a struct tp_link * is one of these */
	int fd;
	int err_fd; /* -1: stderr has ended */
	pid_t pid;  /* 0: reaped */
	int status; /* as waitpid() gave it, once reaped */
	struct buf said;
	struct err err;
};

static struct tp_link_pipe *pipe_of(struct tp_link *l)
{
	return (struct tp_link_pipe *)l;
}

static void pipe_drain_said(struct tp_link_pipe *p)
{
	char chunk[4096];
	ssize_t n;

	while (p->err_fd >= 0) {
		n = read(p->err_fd, chunk, sizeof(chunk));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			close(p->err_fd);
			p->err_fd = -1;
			return;
		}
		tp_said_add(&p->said, chunk, (size_t)n);
	}
}

static ssize_t pipe_read(struct tp_link *l, void *at, size_t n)
{
	struct tp_link_pipe *p = pipe_of(l);
	ssize_t r;

	do
		r = recv(p->fd, at, n, 0);
	while (r < 0 && errno == EINTR);
	if (r > 0) {
		l->bytes_read += (uint64_t)r;
		return r;
	}
	pipe_drain_said(p);
	if (r < 0 && errno == EAGAIN)
		return -EAGAIN;
	/* A program that ended with our bytes unread resets the pair: its end all the same. */
	if (r == 0 || errno == ECONNRESET)
		return 0;
	return err_sys(&p->err, "read from process %d", p->pid);
}

static ssize_t pipe_write(struct tp_link *l, const void *at, size_t n)
{
	struct tp_link_pipe *p = pipe_of(l);
	ssize_t r;

	do
		r = send(p->fd, at, n, MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	if (r >= 0) {
		l->bytes_written += (uint64_t)r;
		return r;
	}
	if (errno == EAGAIN)
		return -EAGAIN;
	pipe_drain_said(p);
	return err_set(&p->err, -ERR_LOST, "write to process %d: %s", p->pid, strerror(errno));
}

static int pipe_wait(struct tp_link *l, bool want_write, int extra_fd, int timeout_ms)
{
	struct tp_link_pipe *p = pipe_of(l);
	struct pollfd fds[] = {
		{ .fd = p->fd, .events = (short)(POLLIN | (want_write ? POLLOUT : 0)) },
		{ .fd = extra_fd, .events = POLLIN },
		{ .fd = p->err_fd, .events = POLLIN },
	};

	if (poll(fds, ARRAY_SIZE(fds), timeout_ms) < 0 && errno != EINTR)
		return err_sys(&p->err, "wait for process %d", p->pid);
	/* A program that blocks on a full stderr would never answer. */
	if (fds[2].revents)
		pipe_drain_said(p);
	return 0;
}

static int pipe_eof(struct tp_link *l)
{
	struct tp_link_pipe *p = pipe_of(l);

	if (shutdown(p->fd, SHUT_WR) < 0 && errno != ENOTCONN)
		return err_sys(&p->err, "end the input of process %d", p->pid);
	return 0;
}

/* True once the program has ended; its status is kept. */
static bool pipe_reap(struct tp_link_pipe *p)
{
	if (p->pid > 0 && waitpid(p->pid, &p->status, WNOHANG) != 0)
		p->pid = 0;
	return p->pid == 0;
}

static int pipe_finish(struct tp_link *l, int timeout_ms, struct tp_exit *ret)
{
	int64_t until = clock_mono_ns() + (int64_t)timeout_ms * 1000000;
	struct tp_link_pipe *p = pipe_of(l);
	struct tp_exit x = { 0 };
	char chunk[4096];

	(void)!pipe_eof(l);
	while (!pipe_reap(p) && clock_mono_ns() < until)
		if (pipe_read(l, chunk, sizeof(chunk)) <= 0)
			poll(&(struct pollfd){ .fd = -1 }, 1, 5);
	pipe_drain_said(p);
	x.known = p->pid == 0;
	if (x.known && WIFEXITED(p->status))
		x.status = WEXITSTATUS(p->status);
	if (x.known && WIFSIGNALED(p->status))
		snprintf(x.signal, sizeof(x.signal), "%s", sigabbrev_np(WTERMSIG(p->status)));
	*ret = x;
	return 0;
}

static struct bytes pipe_said(struct tp_link *l)
{
	struct tp_link_pipe *p = pipe_of(l);

	pipe_drain_said(p);
	return buf_view(&p->said);
}

static const struct err *pipe_error(struct tp_link *l)
{
	return &pipe_of(l)->err;
}

static void pipe_close(struct tp_link *l)
{
	struct tp_link_pipe *p = pipe_of(l);
	struct tp_exit x = { 0 };

	if (p->pid > 0 && p->fd >= 0)
		(void)!pipe_finish(l, 500, &x);
	if (p->pid > 0) {
		kill(p->pid, SIGKILL);
		while (waitpid(p->pid, &p->status, 0) < 0 && errno == EINTR)
			;
	}
	close_p_(&p->fd);
	close_p_(&p->err_fd);
	buf_fini(&p->said);
	free(p);
}

static const struct tp_link_ops pipe_ops = {
	.read = pipe_read,
	.write = pipe_write,
	.wait = pipe_wait,
	.eof = pipe_eof,
	.finish = pipe_finish,
	.said = pipe_said,
	.error = pipe_error,
	.close = pipe_close,
};

static int pipe_spawn(char *const argv[], int std_fd, int err_fd, pid_t *ret)
{
	posix_spawn_file_actions_t fa;
	int r;

	r = posix_spawn_file_actions_init(&fa);
	if (r)
		return -r;
	r = posix_spawn_file_actions_adddup2(&fa, std_fd, STDIN_FILENO);
	if (!r)
		r = posix_spawn_file_actions_adddup2(&fa, std_fd, STDOUT_FILENO);
	if (!r)
		r = posix_spawn_file_actions_adddup2(&fa, err_fd, STDERR_FILENO);
	if (!r)
		r = posix_spawnp(ret, argv[0], &fa, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	return -r;
}

int tp_link_pipe_open(char *const argv[], struct tp_link **ret, struct err *e)
{
	_cleanup_(tp_link_closep) struct tp_link *l = NULL;
	_cleanup_close_ int child_fd = -1, child_err = -1;
	struct tp_link_pipe *p;
	int fds[2], r;

	p = calloc(1, sizeof(*p));
	if (!p)
		return err_set(e, -ENOMEM, "start %s: out of memory", argv[0]);
	p->link.ops = &pipe_ops;
	p->fd = p->err_fd = -1;
	l = &p->link;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return err_sys(e, "make a socket pair for %s", argv[0]);
	p->fd = fds[0];
	child_fd = fds[1];
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(e, "make a pipe for %s", argv[0]);
	p->err_fd = fds[0];
	child_err = fds[1];
	/* Only our ends: the program expects ordinary, blocking descriptors. */
	if (fcntl(p->fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(p->err_fd, F_SETFL, O_NONBLOCK) < 0)
		return err_sys(e, "make the pipes of %s non-blocking", argv[0]);
	r = pipe_spawn(argv, child_fd, child_err, &p->pid);
	if (r < 0) {
		p->pid = 0;
		return err_sysn(e, r, "start %s", argv[0]);
	}
	*ret = TAKE_PTR(l);
	return 0;
}
