/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/hook.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include "common/io.h"

/* Grace between asking the group to end and killing it. */
#define KILL_AFTER_NS (5 * 1000000000LL)
#define READS_MAX     256

static int spawn_shell(const char *command, int out, pid_t *ret)
{
	char *const argv[] = { "/bin/sh", "-c", (char *)(uintptr_t)command, NULL };
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, reset;
	int r;

	sigemptyset(&none);
	sigfillset(&reset);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attr);
	posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&files, out, STDERR_FILENO);
	/* The threads of this program block signals; a command must not inherit that. */
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &reset);
	posix_spawnattr_setpgroup(&attr, 0);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
						POSIX_SPAWN_SETSIGDEF);
	r = posix_spawn(ret, argv[0], &files, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attr);
	return -r;
}

/*
 * Read what is there; keep the end of it.  No more at once than a pipe holds, so that one who
 * writes without end does not keep us here.  false: the output is closed.
 */
static bool read_output(int fd, struct buf *output)
{
	uint8_t piece[4096];
	ssize_t n = 0;

	for (int i = 0; i < READS_MAX && (n = read(fd, piece, sizeof(piece))) > 0; i++) {
		/* Out of memory loses output of the command and nothing else. */
		if (buf_put(output, piece, (size_t)n) == 0 && buf_len(output) > STG_HOOK_TAIL_MAX)
			buf_consume(output, buf_len(output) - STG_HOOK_TAIL_MAX);
	}
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* Wait for the shell, reading its output meanwhile.  Its wait status. */
static int wait_shell(pid_t pid, int fd, unsigned timeout_s, struct buf *output, bool *ret_late)
{
	int64_t until = clock_mono_ns() + timeout_s * 1000000000LL;
	int status = 0, sig = SIGTERM;
	siginfo_t ended = { 0 };
	bool open = true;

	/* It is not reaped yet: its number, which is the group's, must not be given again. */
	while (waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && !ended.si_pid) {
		struct pollfd pfd = { .fd = open ? fd : -1, .events = POLLIN };

		poll(&pfd, 1, 50);
		if (open)
			open = read_output(fd, output);
		if (timeout_s && clock_mono_ns() > until) {
			*ret_late = true;
			kill(-pid, sig);
			sig = SIGKILL;
			until = clock_mono_ns() + KILL_AFTER_NS;
		}
	}
	/* The shell may have gone at once when asked, and what it started has not. */
	if (*ret_late)
		kill(-pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (open)
		read_output(fd, output);
	return status;
}

int stg_hook_run(const char *step, const char *command, unsigned timeout_s, struct buf *output,
		 struct stg_hook_result *ret, struct err *e)
{
	_cleanup_close_ int in = -1, out = -1;
	int64_t began = clock_mono_ns();
	int pipes[2], status, r;
	pid_t pid;

	*ret = (struct stg_hook_result){
		.step = step,
		.started_at = clock_real_ns() / 1000000000,
	};
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return err_sys(e, "run %s: pipe", step);
	in = pipes[0];
	out = pipes[1];
	r = spawn_shell(command, out, &pid);
	if (r < 0)
		return err_sysn(e, r, "run %s: start /bin/sh", step);
	close(TAKE_FD(out));
	fcntl(in, F_SETFL, O_NONBLOCK);
	status = wait_shell(pid, in, timeout_s, output, &ret->timed_out);
	ret->duration_sec = (double)(clock_mono_ns() - began) / 1e9;
	/* As a shell tells it: 128 and the signal's number. */
	ret->return_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	if (ret->timed_out && !ret->return_code)
		ret->return_code = 124; /* as timeout(1) does */
	ret->output_tail = buf_view(output);
	return 0;
}
