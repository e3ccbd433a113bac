/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/json.h"
#include "common/io.h"
#include "common/log.h"
#include "common/macro.h"

#define ANSWER_MAX (256u << 10)
#define KILL_AFTER_NS INT64_C(5000000000)

/* In the new process; does not return. */
static void run(const struct agt_work *work, pid_t parent, int fd)
{
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	struct cJSON *answer = agt_json_object();
	struct err e = { 0 };
	int r;

	/* Without the daemon nobody takes the answer; and the next one starts its own. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	if (work->prepare)
		work->prepare(work->arg);
	r = work->work(work->arg, answer, &e);
	agt_json_set_int(answer, "code", r);
	if (r < 0)
		agt_json_set_str(answer, "error", e.text);
	if (agt_json_print(answer, false, &text, NULL) < 0 ||
	    io_write_all(fd, text.p + text.off, buf_len(&text)) < 0)
		_exit(1);
	_exit(0);
}

int agt_worker_start(struct agt_worker *w, const struct agt_work *work, struct err *e)
{
	_cleanup_close_ int out = -1, in = -1;
	pid_t parent = getpid(), pid;
	int fds[2];

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_sys(e, "make a pipe for the %s", work->name);
	out = fds[0];
	in = fds[1];
	if (fcntl(in, F_SETFL, 0) < 0)
		return err_sys(e, "make a pipe for the %s", work->name);
	pid = fork();
	if (pid < 0)
		return err_sys(e, "start the %s", work->name);
	if (pid == 0)
		run(work, parent, in);
	buf_clear(&w->text);
	w->name = work->name;
	w->pid = pid;
	w->fd = TAKE_FD(out);
	w->end_ns = clock_mono_ns() + (int64_t)work->time_ms * 1000000;
	w->late = false;
	return 0;
}

void agt_worker_read(struct agt_worker *w)
{
	char part[4096];
	ssize_t n = -1;

	while (w->fd >= 0 && (n = read(w->fd, part, sizeof(part))) > 0)
		if (buf_len(&w->text) + (size_t)n > ANSWER_MAX ||
		    buf_put(&w->text, part, (size_t)n) < 0)
			break;
	/* What is too much is no answer: the end of the process is waited for, though. */
	if (w->fd >= 0 && (n >= 0 || (errno != EAGAIN && errno != EINTR))) {
		close(w->fd);
		w->fd = -1;
	}
}

void agt_worker_hurry(struct agt_worker *w, int64_t now_ns)
{
	if (!w->pid || now_ns < w->end_ns)
		return;
	if (!w->late)
		log_error("the %s takes too long, ending it", w->name);
	kill(w->pid, w->late ? SIGKILL : SIGTERM);
	w->late = true;
	w->end_ns = now_ns + KILL_AFTER_NS;
}

bool agt_worker_ended(struct agt_worker *w, pid_t pid, int status, struct cJSON **ret,
		      int *ret_code, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *v = NULL;

	if (!w->pid || pid != w->pid)
		return false;
	agt_worker_read(w);
	if (w->fd >= 0)
		close(TAKE_FD(w->fd));
	w->pid = 0;
	if (WIFSIGNALED(status))
		*ret_code = err_set(e, -EIO, "the %s was ended by signal %d (%s)", w->name,
				    WTERMSIG(status), strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) || agt_json_parse(buf_view(&w->text), &v, NULL) < 0 || !v)
		*ret_code = err_set(e, -EIO, "the %s ended without an answer", w->name);
	else
		*ret_code = (int)agt_json_int(v, "code", -EIO);
	if (v && *ret_code < 0)
		err_set(e, *ret_code, "%s", agt_json_str(v, "error", "no reason was told"));
	/* A peak is not kept for ever. */
	buf_fini(&w->text);
	*ret = TAKE_PTR(v);
	return true;
}

void agt_worker_stop(struct agt_worker *w)
{
	if (w->pid)
		kill(w->pid, SIGTERM);
}

void agt_worker_fini(struct agt_worker *w)
{
	if (w->pid) {
		kill(w->pid, SIGKILL);
		while (waitpid(w->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	close_p_(&w->fd);
	buf_fini(&w->text);
	*w = AGT_WORKER_INIT;
}
