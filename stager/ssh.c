/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/ssh.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/io.h"
#include "common/log.h"
#include "common/secret.h"
#include "common/shell.h"
#include "stager/bwlimit.h"
#include "stager/options.h"
#include "transport/install.h"
#include "transport/link.h"
#include "transport/protocol.h"
#include "transport/session.h"

#define STOP_POLL_MS 200

struct stg_ssh {
	struct stg_connector connector;
	const struct stg_options *opt;
	struct secret *password;
	char *receiver; /* the program that is sent */
	pthread_mutex_t installing; /* only one session at a time looks after the receiver */
	struct stg_bwlimit *bwlimit; /* holds for the receiver's upload, too; NULL: none */
	struct buf command;         /* starts it, after checking it itself; empty: not known */
	/* The same if it is there already; made beside the first login, for hashing takes time. */
	struct buf guess;
	pthread_t guesser;
	bool guessing; /* the thread runs, or is to be joined */
	bool guessed;
};

/* A session and its one channel, as one link. */
struct ssh_link {
	struct tp_link link;
	struct tp_session *session;
	struct tp_link *channel;
	struct buf ahead; /* what was read to see that the receiver runs */
};

static struct ssh_link *of(struct tp_link *l)
{
	return (struct ssh_link *)(void *)l;
}

static void count(struct ssh_link *s)
{
	tp_session_wire_bytes(s->session, &s->link.bytes_read, &s->link.bytes_written);
}

static ssize_t ssh_read(struct tp_link *l, void *p, size_t n)
{
	struct buf *ahead = &of(l)->ahead;
	ssize_t r;

	if (buf_len(ahead)) {
		n = MIN(n, buf_len(ahead));
		memcpy(p, buf_view(ahead).p, n);
		buf_consume(ahead, n);
		return (ssize_t)n;
	}
	r = of(l)->channel->ops->read(of(l)->channel, p, n);
	count(of(l));
	return r;
}

static ssize_t ssh_write(struct tp_link *l, const void *p, size_t n)
{
	ssize_t r = of(l)->channel->ops->write(of(l)->channel, p, n);

	count(of(l));
	l->window_full = of(l)->channel->window_full;
	return r;
}

static int ssh_wait(struct tp_link *l, bool want_write, int extra_fd, int timeout_ms)
{
	if (buf_len(&of(l)->ahead))
		timeout_ms = 0;
	return of(l)->channel->ops->wait(of(l)->channel, want_write, extra_fd, timeout_ms);
}

static int ssh_eof(struct tp_link *l)
{
	return of(l)->channel->ops->eof(of(l)->channel);
}

static int ssh_finish(struct tp_link *l, int timeout_ms, struct tp_exit *ret)
{
	int r = of(l)->channel->ops->finish(of(l)->channel, timeout_ms, ret);

	count(of(l));
	return r;
}

static struct bytes ssh_said(struct tp_link *l)
{
	return of(l)->channel->ops->said(of(l)->channel);
}

static const struct err *ssh_error(struct tp_link *l)
{
	return of(l)->channel->ops->error(of(l)->channel);
}

static void ssh_close(struct tp_link *l)
{
	struct ssh_link *s = of(l);

	tp_link_close(s->channel);
	tp_session_close(s->session);
	buf_fini(&s->ahead);
	free(s);
}

static const struct tp_link_ops ssh_ops = {
	.read = ssh_read,
	.write = ssh_write,
	.wait = ssh_wait,
	.eof = ssh_eof,
	.finish = ssh_finish,
	.said = ssh_said,
	.error = ssh_error,
	.close = ssh_close,
};

static size_t pace(void *arg, size_t want)
{
	size_t n = stg_bwlimit_take(arg, want);

	if (!n)
		nanosleep(&(struct timespec){
			.tv_nsec = stg_bwlimit_pause_ms(arg, want) * 1000000L }, NULL);
	return n;
}

static void on_greeting(void *arg, int64_t trip_ns)
{
	atomic_int_fast64_t *shortest = &((struct stg_ssh *)arg)->connector.trip_ns;
	int_fast64_t known = atomic_load(shortest);

	while ((!known || trip_ns < known) &&
	       !atomic_compare_exchange_weak(shortest, &known, trip_ns))
		;
}

static int open_session(struct stg_ssh *s, const atomic_bool *stop, struct tp_session **ret,
			struct err *e)
{
	const struct stg_options *o = s->opt;
	struct tp_session_opts so = {
		.host = o->target.host,
		.port = (uint16_t)o->target.port,
		.user = o->target.user,
		.identity = o->identity,
		.known_hosts = o->known_hosts,
		.host_key = o->host_key == STG_HOST_KEY_ACCEPT_NEW ? TP_HOST_KEY_ACCEPT_NEW :
								     TP_HOST_KEY_STRICT,
		.agent_socket = o->agent_socket,
		.password = s->password,
		.ciphers = o->cipher,
		.connect_timeout_s = (int)o->connect_timeout_s,
		.idle_timeout_s = (int)o->timeout_s,
		.stop = stop,
		.on_greeting = on_greeting,
		.on_greeting_arg = s,
		.pace = s->bwlimit ? pace : NULL,
		.pace_arg = s->bwlimit,
	};

	return tp_session_open(&so, ret, e);
}

static struct tp_receiver_opts receiver_opts(const struct stg_ssh *s)
{
	return (struct tp_receiver_opts){
		.local_path = s->receiver,
		.remote_path = s->opt->remote_receiver,
		.version = STAGER_VERSION,
	};
}

/* --- starting the receiver --- */

static void *guess_main(void *arg)
{
	struct tp_receiver_opts ro = receiver_opts(arg);
	struct err ignored = { 0 };

	/* Whatever is wrong is told when the receiver is to be installed. */
	if (tp_receiver_command(&ro, &((struct stg_ssh *)arg)->guess, &ignored) < 0)
		buf_clear(&((struct stg_ssh *)arg)->guess);
	return NULL;
}

/* Once: the command of the receiver that should be there is made while sessions log in. */
static void begin_guess(struct stg_ssh *s)
{
	pthread_mutex_lock(&s->installing);
	if (!s->guessed) {
		s->guessed = true;
		s->guessing = pthread_create(&s->guesser, NULL, guess_main, s) == 0;
	}
	pthread_mutex_unlock(&s->installing);
}

static void end_guess(struct stg_ssh *s)
{
	if (s->guessing)
		pthread_join(s->guesser, NULL);
	s->guessing = false;
}

/* Of a connection that broke nothing is taken for granted, the target may be another one. */
static void forget_receiver(struct stg_ssh *s)
{
	pthread_mutex_lock(&s->installing);
	end_guess(s);
	buf_clear(&s->guess);
	buf_clear(&s->command);
	pthread_mutex_unlock(&s->installing);
}

static int run_command(struct tp_session *session, struct buf *command, struct bytes hello,
		       struct tp_link **ret, struct err *e)
{
	const char *text = buf_cstr(command);

	if (!text)
		return err_set(e, -ENOMEM, "start the receiver: out of memory");
	return tp_session_exec(session, text, hello, ret, e);
}

/*
 * Read what the command has to say first.  1: it is the receiver, or at least something that
 * talks more than a login shell should, and out holds it; 0: it ended, or says nothing.
 */
static int hear_receiver(const struct stg_ssh *s, struct tp_link *l, struct buf *out,
			 struct err *e)
{
	int64_t until = clock_mono_ns() + (int64_t)s->opt->connect_timeout_s * 1000000000;

	while (buf_len(out) <= TP_NOISE_MAX) {
		struct bytes v = buf_view(out);
		ssize_t n;

		if (v.n && memmem(v.p, v.n, TP_MAGIC, TP_MAGIC_BYTES))
			return 1;
		if (buf_reserve(out, TP_NOISE_MAX) < 0)
			return err_set(e, -ENOMEM, "start the receiver: out of memory");
		n = l->ops->read(l, out->p + out->n, TP_NOISE_MAX);
		if (n > 0)
			out->n += (size_t)n;
		else if (n == -EAGAIN)
			n = l->ops->wait(l, false, -1, STOP_POLL_MS);
		else if (n == 0)
			return 0;
		if (n < 0)
			return err_set(e, (int)n, "%s", l->ops->error(l)->text);
		if (clock_mono_ns() > until || (s->connector.stop && atomic_load(s->connector.stop)))
			return 0;
	}
	return 1;
}

/*
 * In all syncs but the first the receiver is there, and starting it tells so soonest: its
 * command checks the hash.  1: it runs; 0: it has to be looked after; or negative.
 */
static int start_at_once(struct stg_ssh *s, struct tp_session *session, struct bytes hello,
			 struct tp_link **ret, struct buf *ahead, struct err *e)
{
	_cleanup_(buf_fini) struct buf command = BUF_INIT;
	struct tp_link *l = NULL;
	int r;

	pthread_mutex_lock(&s->installing);
	end_guess(s);
	r = buf_put_bytes(&command, buf_view(&s->guess));
	pthread_mutex_unlock(&s->installing);
	if (r == 0 && !buf_len(&command))
		return 0;
	r = run_command(session, &command, hello, &l, e);
	if (r < 0)
		return r;
	r = hear_receiver(s, l, ahead, e);
	if (r > 0) {
		*ret = l;
		return 1;
	}
	tp_link_close(l);
	buf_clear(ahead);
	return r;
}

/*
 * Look what the target is and has, send it the receiver, start that.  Once it is there the
 * command alone will do for the other sessions, unless the target has no sha256sum: then this
 * side must look at the file before each start.
 */
static int install_and_start(struct stg_ssh *s, struct tp_session *session,
			     struct bytes hello, struct tp_link **ret, struct err *e)
{
	_cleanup_(buf_fini) struct buf command = BUF_INIT;
	struct tp_receiver_opts ro = receiver_opts(s);
	bool self_checking = false;
	int r;

	pthread_mutex_lock(&s->installing);
	if (buf_len(&s->command)) {
		r = buf_put_bytes(&command, buf_view(&s->command));
	} else {
		r = tp_install_receiver(session, &ro, &command, &self_checking, e);
		if (r == 0 && self_checking)
			r = buf_put_bytes(&s->command, buf_view(&command));
	}
	pthread_mutex_unlock(&s->installing);
	return r < 0 ? r : run_command(session, &command, hello, ret, e);
}

static int start_receiver(struct stg_ssh *s, struct tp_session *session, struct bytes hello,
			  struct ssh_link *l, struct err *e)
{
	int r = start_at_once(s, session, hello, &l->channel, &l->ahead, e);

	log_debug("connected to %s: %s", tp_session_peer(session), tp_session_methods(session));
	return r == 0 ? install_and_start(s, session, hello, &l->channel, e) : MIN(r, 0);
}

static int ssh_connect(struct stg_connector *self, bool again, struct bytes hello,
		       struct tp_link **ret, struct err *e)
{
	struct stg_ssh *s = (struct stg_ssh *)(void *)self;
	_cleanup_(tp_session_closep) struct tp_session *session = NULL;
	struct ssh_link *l;
	int r;

	/* Whatever broke the last connection of this session: look at everything again. */
	if (again)
		forget_receiver(s);
	else
		begin_guess(s);
	r = open_session(s, self->stop, &session, e);
	if (r < 0)
		return r;
	l = calloc(1, sizeof(*l));
	if (!l)
		return err_set(e, -ENOMEM, "connect: out of memory");
	r = start_receiver(s, session, hello, l, e);
	if (r < 0) {
		buf_fini(&l->ahead);
		free(l);
		return r;
	}
	l->link.ops = &ssh_ops;
	l->session = TAKE_PTR(session);
	count(l);
	*ret = &l->link;
	return 0;
}

int stg_ssh_new(const struct stg_options *opt, const char *prefix, struct stg_bwlimit *bwlimit,
		struct stg_ssh **ret, struct err *e)
{
	struct stg_ssh *s = calloc(1, sizeof(*s));
	int r = 0;

	if (!s || asprintf(&s->receiver, "%s/libexec/stager/stager-receive", prefix) < 0) {
		free(s);
		return err_set(e, -ENOMEM, "connect: out of memory");
	}
	s->connector.connect = ssh_connect;
	s->opt = opt;
	s->bwlimit = bwlimit;
	pthread_mutex_init(&s->installing, NULL);
	if (opt->password_file)
		r = secret_from_file(AT_FDCWD, opt->password_file, &s->password, e);
	else if (opt->password_env)
		r = secret_from_env("RSYNC_TARGET_PASSWORD", opt->password_env, &s->password, e);
	if (r < 0) {
		/* Whatever is wrong with it, the operator has to set it right. */
		stg_ssh_free(s);
		e->code = -ERR_USAGE;
		return -ERR_USAGE;
	}
	*ret = s;
	return 0;
}

void stg_ssh_free(struct stg_ssh *s)
{
	if (!s)
		return;
	secret_free(s->password);
	end_guess(s);
	pthread_mutex_destroy(&s->installing);
	buf_fini(&s->command);
	buf_fini(&s->guess);
	free(s->receiver);
	free(s);
}

struct stg_connector *stg_ssh_connector(struct stg_ssh *s)
{
	return &s->connector;
}

int stg_ssh_command(struct stg_ssh *s, const char *step, const char *command,
		    unsigned timeout_s, struct buf *output, struct stg_hook_result *ret,
		    struct err *e)
{
	_cleanup_(tp_session_closep) struct tp_session *session = NULL;
	_cleanup_(buf_fini) struct buf line = BUF_INIT;
	int64_t began = clock_mono_ns();
	const char *text;
	int status = 0, r;

	*ret = (struct stg_hook_result){
		.step = step,
		.started_at = clock_real_ns() / 1000000000,
	};
	r = open_session(s, NULL, &session, e);
	if (r < 0)
		return r;
	if (buf_printf(&line, "exec /bin/sh -c ") < 0 ||
	    shell_quote(&line, bytes_str(command)) < 0 || !(text = buf_cstr(&line)))
		return err_set(e, -ENOMEM, "run %s: out of memory", step);
	r = tp_session_run(session, text, bytes_of(NULL, 0), output, output, 1u << 20,
			   (int)timeout_s, &status, e);
	ret->duration_sec = (double)(clock_mono_ns() - began) / 1e9;
	ret->output_tail = buf_view(output);
	ret->return_code = status;
	if (r == -ETIMEDOUT) {
		ret->timed_out = true;
		ret->return_code = 124;
		return 0;
	}
	return r;
}

int stg_ssh_clean(struct stg_ssh *s, struct err *e)
{
	_cleanup_(tp_session_closep) struct tp_session *session = NULL;
	int r = open_session(s, NULL, &session, e);

	return r < 0 ? r : tp_remove_receiver(session, e);
}
