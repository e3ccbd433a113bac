/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "agent/stop.h"
#include "common/io.h"
#include "common/macro.h"
#include "common/self.h"

#define TICK_MS 20        /* how soon the end of a child is seen */
#define KILL_AFTER_MS 5000 /* between SIGTERM and SIGKILL, after a timeout */

static bool is_secret(const char *var)
{
	static const char *const names[] = AGT_CHILD_SECRETS;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		size_t n = strlen(names[i]);

		if (!strncmp(var, names[i], n) && var[n] == '=')
			return true;
	}
	return false;
}

static bool overridden(const char *var, char *const *more)
{
	size_t n = strcspn(var, "=") + 1;

	for (; more && *more; more++)
		if (!strncmp(var, *more, n))
			return true;
	return false;
}

char **agt_child_env(char *const *envp, char *const *more_env)
{
	size_t n = 0, at = 0;
	char **env;

	for (char *const *p = more_env; p && *p; p++)
		n++;
	for (char *const *p = envp; p && *p; p++)
		n++;
	env = calloc(n + 1, sizeof(*env));
	if (!env)
		return NULL;
	for (char *const *p = more_env; p && *p; p++)
		env[at++] = *p;
	for (char *const *p = envp; p && *p; p++)
		if (!is_secret(*p) && !overridden(*p, more_env))
			env[at++] = *p;
	return env;
}

static int start(const struct agt_child_opts *o, int out, pid_t *ret, struct err *e)
{
	_cleanup_free_ char **env = agt_child_env(o->envp, o->more_env);
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t mask, defaults;
	int r;

	if (!env)
		return err_set(e, -ENOMEM, "out of memory");
	sigemptyset(&mask);
	sigemptyset(&defaults);
	sigaddset(&defaults, SIGPIPE); /* ignored here, and that would be inherited */
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attr);
	posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	if (out >= 0) {
		posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
		posix_spawn_file_actions_adddup2(&files, out, STDERR_FILENO);
	}
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
						POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setpgroup(&attr, 0);
	posix_spawnattr_setsigmask(&attr, o->stop ? &o->stop->old : &mask);
	posix_spawnattr_setsigdefault(&attr, &defaults);
	r = posix_spawnp(ret, o->argv[0], &files, &attr, o->argv, env);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return r ? err_sysn(e, -r, "start %s", o->argv[0]) : 0;
}

/* Keep what came, as far as there is room for it. */
static int take_output(const struct agt_child_opts *o, int fd)
{
	char part[4096];
	ssize_t n;

	while ((n = read(fd, part, sizeof(part))) > 0) {
		size_t room = o->output_max - MIN(buf_len(o->output), o->output_max);

		if (buf_put(o->output, part, MIN((size_t)n, room)) < 0)
			return -ENOMEM;
	}
	return 0;
}

struct waiting {
	pid_t pid;
	int out;
	int64_t end_ms;   /* 0: no limit */
	int64_t kill_ms;  /* 0: not yet */
	bool cancelled, late;
};

static void end_group(struct waiting *w, int64_t now_ms, bool *why)
{
	kill(-w->pid, SIGTERM);
	*why = true;
	/* stager brings its cutover back in order first: what is cancelled may take its time. */
	if (w->late)
		w->kill_ms = now_ms + KILL_AFTER_MS;
}

static int wait_for(const struct agt_child_opts *o, struct waiting *w, int *ret, struct err *e)
{
	int status;

	for (;;) {
		struct pollfd p = { .fd = w->out, .events = POLLIN };
		int64_t now = clock_mono_ns() / 1000000;
		pid_t done;

		if (w->out >= 0) {
			(void)poll(&p, 1, TICK_MS);
			if (take_output(o, w->out) < 0)
				return err_set(e, -ENOMEM, "out of memory");
			if (p.revents & POLLHUP)
				(void)poll(NULL, 0, 1);
		} else if (w->cancelled || agt_stop_sleep(o->stop, TICK_MS, NULL) < 0) {
			(void)poll(NULL, 0, TICK_MS);
		}
		done = waitpid(w->pid, &status, WNOHANG);
		if (done < 0 && errno != EINTR)
			return err_sys(e, "wait for %s", o->argv[0]);
		if (done == w->pid)
			break;
		if (!w->cancelled && agt_stop_asked(o->stop))
			end_group(w, now, &w->cancelled);
		else if (!w->late && w->end_ms && now >= w->end_ms)
			end_group(w, now, &w->late);
		if (w->late && !w->kill_ms)
			w->kill_ms = now + KILL_AFTER_MS;
		if (w->kill_ms && now >= w->kill_ms)
			kill(-w->pid, SIGKILL);
	}
	*ret = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	return w->out >= 0 ? take_output(o, w->out) : 0;
}

int agt_child_run(const struct agt_child_opts *o, int *ret, struct err *e)
{
	_cleanup_close_ int out = -1, in = -1;
	struct waiting w = { .out = -1 };
	int fds[2], r;

	if (o->output) {
		if (pipe2(fds, O_CLOEXEC) < 0)
			return err_sys(e, "make a pipe");
		out = fds[0];
		in = fds[1];
		if (fcntl(out, F_SETFL, O_NONBLOCK) < 0)
			return err_sys(e, "make a pipe that does not block");
	}
	r = start(o, in, &w.pid, e);
	if (r < 0)
		return r;
	if (in >= 0)
		close(TAKE_FD(in));
	w.out = out;
	if (o->timeout_ms)
		w.end_ms = clock_mono_ns() / 1000000 + o->timeout_ms;
	r = wait_for(o, &w, ret, e);
	if (r < 0)
		return r;
	if (w.cancelled)
		return err_set(e, -ERR_CANCELLED, "%s was ended by a signal to this program",
			       o->argv[0]);
	if (w.late)
		return err_set(e, -ETIMEDOUT, "%s took longer than %u s", o->argv[0],
			       o->timeout_ms / 1000);
	return 0;
}

int agt_child_start(const struct agt_child_opts *o, pid_t *ret, struct err *e)
{
	return start(o, -1, ret, e);
}

int agt_child_find(const char *installed, const char *built, char *ret, size_t size,
		   struct err *e)
{
	const char *const names[] = { installed, built };
	_cleanup_free_ char *prefix = NULL;
	int r = self_prefix(&prefix, e);

	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i] &&
		    (size_t)snprintf(ret, size, "%s/%s", prefix, names[i]) < size &&
		    access(ret, X_OK) == 0)
			return 0;
	return err_set(e, -ENOENT, "there is no %s below %s: install the package anew", installed,
		       prefix);
}
