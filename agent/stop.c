/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/stop.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/io.h"

int agt_stop_open(struct agt_stop *ret, struct err *e)
{
	struct agt_stop s;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, &s.old) < 0)
		return err_sys(e, "block signals");
	s.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s.fd < 0) {
		int r = err_sys(e, "make a descriptor for signals");

		sigprocmask(SIG_SETMASK, &s.old, NULL);
		return r;
	}
	signal(SIGPIPE, SIG_IGN);
	*ret = s;
	return 0;
}

void agt_stop_close(struct agt_stop *s)
{
	struct signalfd_siginfo info;

	/* One that is still pending would end the program as soon as the mask is lifted. */
	while (read(s->fd, &info, sizeof(info)) > 0)
		;
	close(s->fd);
	s->fd = -1;
	sigprocmask(SIG_SETMASK, &s->old, NULL);
}

static bool wait_for(const struct agt_stop *s, int ms)
{
	struct pollfd p = { .fd = s ? s->fd : -1, .events = POLLIN };

	return poll(&p, 1, ms) > 0;
}

bool agt_stop_asked(const struct agt_stop *s)
{
	return s && wait_for(s, 0);
}

int agt_stop_sleep(const struct agt_stop *s, int64_t ms, struct err *e)
{
	int64_t end = clock_mono_ns() + ms * 1000000;

	for (;;) {
		int64_t left = (end - clock_mono_ns() + 999999) / 1000000;

		if (wait_for(s, (int)MAX(0, MIN(left, INT_MAX))))
			return err_set(e, -ERR_CANCELLED, "ended by a signal");
		if (left <= 0)
			return 0;
	}
}
