/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/stop.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/io.h"

static int open_fd(const sigset_t *set)
{
	return signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int agt_stop_open(bool reloads, struct agt_stop *ret, struct err *e)
{
	struct agt_stop s = { .fd = -1, .reload_fd = -1 };
	sigset_t all, end, hup;
	int r;

	sigemptyset(&hup);
	sigaddset(&hup, SIGHUP);
	sigemptyset(&end);
	sigaddset(&end, SIGTERM);
	sigaddset(&end, SIGINT);
	all = end;
	sigaddset(&all, SIGHUP);
	r = pthread_sigmask(SIG_BLOCK, &all, &s.old);
	if (r)
		return err_sysn(e, -r, "block signals");
	s.fd = open_fd(reloads ? &end : &all);
	s.reload_fd = reloads && s.fd >= 0 ? open_fd(&hup) : -1;
	if (s.fd < 0 || (reloads && s.reload_fd < 0)) {
		r = err_sys(e, "make a descriptor for signals");
		agt_stop_close(&s);
		return r;
	}
	signal(SIGPIPE, SIG_IGN);
	*ret = s;
	return 0;
}

/* Take what is pending; false: nothing was. */
static bool drain(int fd)
{
	struct signalfd_siginfo info;
	bool some = false;

	while (fd >= 0 && read(fd, &info, sizeof(info)) > 0)
		some = true;
	return some;
}

void agt_stop_close(struct agt_stop *s)
{
	/* One that is still pending would end the program as soon as the mask is lifted. */
	drain(s->fd);
	drain(s->reload_fd);
	close_p_(&s->fd);
	close_p_(&s->reload_fd);
	s->fd = s->reload_fd = -1;
	pthread_sigmask(SIG_SETMASK, &s->old, NULL);
}

bool agt_stop_asked(const struct agt_stop *s)
{
	struct pollfd p = { .fd = s ? s->fd : -1, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

bool agt_stop_reload_asked(const struct agt_stop *s)
{
	return s && drain(s->reload_fd);
}

int agt_stop_sleep(const struct agt_stop *s, int64_t ms, struct err *e)
{
	struct pollfd p[] = { { .fd = s ? s->fd : -1, .events = POLLIN },
			      { .fd = s ? s->reload_fd : -1, .events = POLLIN } };
	int64_t end = clock_mono_ns() + ms * 1000000;

	for (;;) {
		int64_t left = (end - clock_mono_ns() + 999999) / 1000000;
		int n = poll(p, ARRAY_SIZE(p), (int)MAX(0, MIN(left, INT_MAX)));

		if (n > 0 && p[0].revents)
			return err_set(e, -ERR_CANCELLED, "ended by a signal");
		if (n > 0)
			return 1;
		if (left <= 0)
			return 0;
	}
}
