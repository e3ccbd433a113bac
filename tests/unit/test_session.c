/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SSH side against a real, private sshd (tests/sshd.sh); nothing outside of a temporary
 * directory is touched.
 */
#include "transport/session.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <pwd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "common/io.h"
#include "common/log.h"
#include "common/secret.h"
#include "common/sha256.h"
#include "common/shell.h"
#include "transport/install.h"
#include "transport/known_hosts.h"
#include "transport/link.h"
#include "transport/link_pipe.h"

struct server {
	char dir[128];
	unsigned port;
	int pid;
	char key[160], known[160];
};

struct fixture {
	char dir[64];
	struct server srv; /* the plain one, which most tests use */
};

/* Run a shell command; what it prints (cut to size) goes to out. */
static int sh(char *out, size_t size, const char *fmt, ...) _printf_(3, 4);
static int sh(char *out, size_t size, const char *fmt, ...)
{
	_cleanup_free_ char *cmd = NULL;
	char sink[4096];
	va_list ap;
	size_t n;
	FILE *f;

	va_start(ap, fmt);
	assert_true(vasprintf(&cmd, fmt, ap) > 0);
	va_end(ap);
	f = popen(cmd, "r");
	assert_non_null(f);
	n = fread(out ? out : sink, 1, (out ? size : sizeof(sink)) - 1, f);
	(out ? out : sink)[n] = '\0';
	return pclose(f);
}

static const char *sshd_lib(char out[512])
{
	char *cut;

	snprintf(out, 512, "%s", __FILE__);
	cut = strstr(out, "unit/test_session.c");
	assert_non_null(cut);
	strcpy(cut, "sshd.sh");
	return out;
}

static void server_start(struct server *v, const char *base, const char *name, const char *options)
{
	char lib[512], out[512] = "";

	snprintf(v->dir, sizeof(v->dir), "%s/%s", base, name);
	sh(out, sizeof(out), "bash -c '. %s; sshd_start %s %s && echo $SSHD_PORT $SSHD_PID'",
	   sshd_lib(lib), v->dir, options);
	if (sscanf(out, "%u %d", &v->port, &v->pid) != 2)
		fail_msg("sshd did not start: %s", out);
	snprintf(v->key, sizeof(v->key), "%s/client", v->dir);
	snprintf(v->known, sizeof(v->known), "%s/known_hosts", v->dir);
}

static void server_stop(struct server *v)
{
	char lib[512];

	if (v->pid)
		sh(NULL, 0, "bash -c '. %s; SSHD_PID=%d; sshd_stop'", sshd_lib(lib), v->pid);
	v->pid = 0;
}

static int group_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char options[256];

	signal(SIGPIPE, SIG_IGN);
	if (!f || log_open(LOG_ERROR, NULL, NULL) < 0)
		return -1;
	strcpy(f->dir, "/tmp/test_session.XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(options, sizeof(options), "\"SetEnv HOME=%s/home\"", f->dir);
	sh(NULL, 0, "mkdir %s/home", f->dir);
	server_start(&f->srv, f->dir, "plain", options);
	*state = f;
	return 0;
}

static int group_teardown(void **state)
{
	struct fixture *f = *state;

	server_stop(&f->srv);
	/* What a failed test has left: sshd removes this file when it ends by itself. */
	sh(NULL, 0, "for p in %s/*/sshd.pid; do [ -e $p ] && kill $(cat $p); done; umount -l %s/mnt 2>&1;"
	   " rm -rf %s", f->dir, f->dir, f->dir);
	free(f);
	return 0;
}

static struct tp_session_opts opts_for(const struct server *v)
{
	return (struct tp_session_opts){
		.host = "127.0.0.1",
		.port = (uint16_t)v->port,
		.identity = v->key,
		.known_hosts = v->known,
		.connect_timeout_s = 10,
	};
}

static struct tp_session *open_or_fail(const struct tp_session_opts *o)
{
	struct tp_session *s = NULL;
	struct err e = { 0 };

	if (tp_session_open(o, &s, &e) < 0)
		fail_msg("%s", e.text);
	return s;
}

static void open_refused(const struct tp_session_opts *o, int code, const char *const *texts)
{
	struct tp_session *s = NULL;
	struct err e = { 0 };

	assert_int_equal(tp_session_open(o, &s, &e), code);
	assert_null(s);
	for (; *texts; texts++)
		if (!strstr(e.text, *texts))
			fail_msg("'%s' is not in: %s", *texts, e.text);
}

#define REFUSED(o, code, ...) open_refused(o, code, (const char *const[]){ __VA_ARGS__, NULL })

/* ---- known_hosts ------------------------------------------------------------------------ */

static bool never_hashed(void *arg, const char *salt, const char *hash, const char *name)
{
	(void)arg;
	return strcmp(salt, "c2FsdA==") == 0 && strcmp(hash, "aGFzaA==") == 0 &&
	       strcmp(name, "h.example") == 0;
}

#define KEY_A "AAAAC3NzaC1lZDI1NTE5AAAAAUE="
#define KEY_B "AAAAC3NzaC1lZDI1NTE5AAAAAUI="

static void known_hosts_lines(void **state)
{
	static const struct {
		const char *text;
		unsigned port;
		enum tp_known_verdict want;
		unsigned line;
	} rows[] = {
		{ "", 22, TP_KNOWN_NONE, 0 },
		{ "h.example ssh-ed25519 " KEY_A "\n", 22, TP_KNOWN_MATCH, 1 },
		{ "h.example ssh-ed25519 " KEY_A, 22, TP_KNOWN_MATCH, 1 },
		{ "H.Example ssh-ed25519 " KEY_A " comment\r\n", 22, TP_KNOWN_MATCH, 1 },
		{ "#x\n\na,h.example ssh-ed25519 " KEY_A "\n", 22, TP_KNOWN_MATCH, 3 },
		{ "*.example ssh-ed25519 " KEY_A "\n", 22, TP_KNOWN_MATCH, 1 },
		{ "?.e*e ssh-ed25519 " KEY_A "\n", 22, TP_KNOWN_MATCH, 1 },
		{ "*.example,!h.example ssh-ed25519 " KEY_A "\n", 22, TP_KNOWN_NONE, 0 },
		{ "h.example ssh-ed25519 " KEY_B "\n", 22, TP_KNOWN_CHANGED, 1 },
		{ "h.example ssh-rsa AAAA\nh.example ssh-ed25519 " KEY_B "\n", 22, TP_KNOWN_CHANGED, 2 },
		{ "h.example ssh-rsa AAAA\n", 22, TP_KNOWN_CHANGED, 1 },
		{ "h.example ssh-ed25519 " KEY_B "\nh.example ssh-ed25519 " KEY_A "\n", 22,
		  TP_KNOWN_MATCH, 2 },
		{ "@revoked * ssh-ed25519 " KEY_A "\nh.example ssh-ed25519 " KEY_A "\n", 22,
		  TP_KNOWN_REVOKED, 1 },
		{ "h.example ssh-ed25519 " KEY_A "\n@revoked * ssh-ed25519 " KEY_A "\n", 22,
		  TP_KNOWN_REVOKED, 2 },
		{ "@revoked * ssh-ed25519 " KEY_B "\n", 22, TP_KNOWN_NONE, 0 },
		{ "@cert-authority * ssh-ed25519 " KEY_A "\n", 22, TP_KNOWN_NONE, 0 },
		{ "[h.example]:2200 ssh-ed25519 " KEY_A "\n", 2200, TP_KNOWN_MATCH, 1 },
		{ "[h.example]:2200 ssh-ed25519 " KEY_A "\n", 22, TP_KNOWN_NONE, 0 },
		{ "h.example ssh-ed25519 " KEY_A "\n", 2200, TP_KNOWN_MATCH, 1 },
		{ "h.example ssh-ed25519 " KEY_B "\n", 2200, TP_KNOWN_NONE, 0 },
		{ "@revoked h.example ssh-ed25519 " KEY_A "\n", 2200, TP_KNOWN_REVOKED, 1 },
		{ "|1|c2FsdA==|aGFzaA== ssh-ed25519 " KEY_A "\n", 22, TP_KNOWN_MATCH, 1 },
		{ "|1|c2FsdA==|eGFzaA== ssh-ed25519 " KEY_A "\n", 22, TP_KNOWN_NONE, 0 },
		{ "|1|c2FsdA== ssh-ed25519 " KEY_A "\n|1|\n@\n@x y\n", 22, TP_KNOWN_NONE, 0 },
	};
	_cleanup_(buf_fini) struct buf key = BUF_INIT;

	(void)state;
	assert_int_equal(tp_base64_decode(&key, bytes_str(KEY_A)), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct tp_known_host h = { .host = "H.example", .port = (uint16_t)rows[i].port,
					   .hashed = never_hashed };
		struct tp_known_answer a =
			tp_known_check(bytes_str(rows[i].text), &h, buf_view(&key));

		if (a.verdict != rows[i].want || a.line != rows[i].line)
			fail_msg("row %zu: verdict %d line %u", i, a.verdict, a.line);
	}
}

static void fingerprint_is_that_of_ssh_keygen(void **state)
{
	_cleanup_(buf_fini) struct buf key = BUF_INIT;
	char pub[1024], want[256], print[TP_FINGERPRINT_SIZE], type[TP_KEY_TYPE_SIZE];
	struct fixture *f = *state;
	char *b64;

	sh(pub, sizeof(pub), "cat %s/host.pub", f->srv.dir);
	sh(want, sizeof(want), "ssh-keygen -lf %s/host.pub | cut -d' ' -f2 | tr -d '\\n'", f->srv.dir);
	b64 = strchr(pub, ' ') + 1;
	assert_int_equal(tp_base64_decode(&key, bytes_of(b64, strcspn(b64, " "))), 0);
	assert_string_equal(tp_key_fingerprint(print, buf_view(&key)), want);
	assert_string_equal(tp_key_type(type, buf_view(&key)), "ssh-ed25519");
}

/* ---- login ---- */

static void key_logs_in(void **state)
{
	struct fixture *f = *state;
	struct tp_session_opts o = opts_for(&f->srv);
	_cleanup_(tp_session_closep) struct tp_session *s = open_or_fail(&o);
	uint64_t in = 0, out = 0;

	assert_non_null(strstr(tp_session_peer(s), "@127.0.0.1:"));
	assert_non_null(strstr(tp_session_methods(s), "cipher aes128-ctr"));
	assert_non_null(strstr(tp_session_methods(s), "host key ssh-ed25519"));
	tp_session_wire_bytes(s, &in, &out);
	assert_true(in > 500 && out > 500);
}

static void note_trip(void *arg, int64_t trip_ns)
{
	int64_t *told = arg;

	assert_int_equal(*told, 0); /* once a session */
	*told = trip_ns;
}

static void greeting_is_told(void **state)
{
	struct fixture *f = *state;
	struct tp_session_opts o = opts_for(&f->srv);
	int64_t trip_ns = 0;

	o.on_greeting = note_trip;
	o.on_greeting_arg = &trip_ns;
	tp_session_close(open_or_fail(&o));
	assert_true(trip_ns > 0);
	/* Before the login: whether that succeeds or not. */
	trip_ns = 0;
	o.known_hosts = "/dev/null";
	REFUSED(&o, -ERR_SSH, "host key");
	assert_true(trip_ns > 0);
}

/* The exit status of a search of sshd's log for a login by that method: 0: there was one. */
static int asked(const struct server *v, const char *method)
{
	return sh(NULL, 0, "grep -q 'userauth-request .* method %s' %s/sshd.log", method, v->dir);
}

/* Each question is a round trip, and sshd takes its time with one that it refuses. */
static void key_alone_asks_nothing_else(void **state)
{
	_cleanup_(secret_freep) struct secret *password = NULL;
	struct fixture *f = *state;
	struct server v;
	struct tp_session_opts o;
	struct err e;

	server_start(&v, f->dir, "questions", "\"LogLevel DEBUG\"");
	o = opts_for(&v);
	tp_session_close(open_or_fail(&o));
	assert_int_equal(asked(&v, "publickey"), 0);
	assert_int_not_equal(asked(&v, "none"), 0);
	/* With a choice of methods it has to ask. */
	assert_int_equal(secret_from_env("X", "unused", &password, &e), 0);
	o.password = password;
	tp_session_close(open_or_fail(&o));
	assert_int_equal(asked(&v, "none"), 0);
	server_stop(&v);
}

static void agent_logs_in(void **state)
{
	struct fixture *f = *state;
	struct tp_session_opts o = opts_for(&f->srv);
	struct tp_session *s;
	char sock[128], out[256] = "";
	int pid = 0;

	snprintf(sock, sizeof(sock), "%s/agent", f->dir);
	sh(out, sizeof(out), "ssh-agent -s -a %s | sed -n 's/.*SSH_AGENT_PID=\\([0-9]*\\).*/\\1/p'", sock);
	assert_int_equal(sscanf(out, "%d", &pid), 1);
	o.identity = "/nonexistent";
	o.agent_socket = sock;
	REFUSED(&o, -ERR_SSH, "ssh-agent: has no keys", "the server offers: publickey");
	assert_int_equal(sh(NULL, 0, "SSH_AUTH_SOCK=%s ssh-add -q %s 2>&1", sock, f->srv.key), 0);
	s = open_or_fail(&o);
	tp_session_close(s);
	kill(pid, SIGTERM);
	o.agent_socket = "/nonexistent";
	REFUSED(&o, -ERR_SSH, "ssh-agent: not reachable");
}

static void bad_keys_are_told(void **state)
{
	struct fixture *f = *state;
	struct tp_session_opts o = opts_for(&f->srv);
	struct server v;
	char path[128];

	snprintf(path, sizeof(path), "%s/other", f->dir);
	sh(NULL, 0, "ssh-keygen -q -t ed25519 -N '' -f %s", path);
	o.identity = path;
	REFUSED(&o, -ERR_SSH, "127.0.0.1", path, "refused", "the server offers: publickey",
		"authorized_keys");
	chmod(path, 0644);
	REFUSED(&o, -ERR_SSH, "chmod 600", path);
	chmod(path, 0600);
	server_start(&v, f->dir, "once", "\"MaxAuthTries 1\"");
	o.port = (uint16_t)v.port;
	o.known_hosts = v.known;
	REFUSED(&o, -ERR_SSH, "login refused", path, "refused", "MaxAuthTries");
	server_stop(&v);
	o = opts_for(&f->srv);
	o.identity = "/nonexistent/key";
	REFUSED(&o, -ERR_SSH, "/nonexistent/key", "No such file");
	snprintf(path, sizeof(path), "%s/locked", f->dir);
	sh(NULL, 0, "ssh-keygen -q -t ed25519 -N sesame -f %s", path);
	o.identity = path;
	REFUSED(&o, -ERR_SSH, "passphrase", "ssh-agent");
}

static void passphrase_opens_a_key(void **state)
{
	_cleanup_(secret_freep) struct secret *pass = NULL;
	struct fixture *f = *state;
	struct tp_session_opts o = opts_for(&f->srv);
	char path[128];
	struct err e;

	snprintf(path, sizeof(path), "%s/sealed", f->dir);
	sh(NULL, 0, "cp %s %s; chmod 600 %s; ssh-keygen -q -p -P '' -N sesame -f %s", f->srv.key, path,
	   path, path);
	assert_int_equal(secret_from_env("X", "sesame", &pass, &e), 0);
	o.identity = path;
	o.passphrase = pass;
	tp_session_close(open_or_fail(&o));
}

/* A user of our own with a password; removed by user_drop(). */
static void user_make(const char *name, const char *home, const char *password)
{
	assert_int_equal(sh(NULL, 0, "useradd -M -d %s -s /bin/sh %s 2>&1 && echo '%s:%s' | chpasswd -c SHA512",
			    home, name, name, password), 0);
}

static void password_logs_in(void **state)
{
	static const char *const modes[] = {
		"\"PasswordAuthentication yes\"",
		/* Without PAM this asks through sshd's own password device. */
		"\"KbdInteractiveAuthentication yes\" \"AuthenticationMethods password\""
		" \"PasswordAuthentication yes\"",
	};
	_cleanup_(secret_freep) struct secret *good = NULL, *bad = NULL;
	struct fixture *f = *state;
	char user[32];
	struct err e;

	if (geteuid() != 0 || sh(NULL, 0, "command -v useradd chpasswd >/dev/null")) {
		print_message("needs root and useradd to make a user with a password\n");
		skip();
	}
	snprintf(user, sizeof(user), "stgtest%d", getpid() % 100000);
	user_make(user, f->dir, "open-sesame");
	assert_int_equal(secret_from_env("X", "open-sesame", &good, &e), 0);
	assert_int_equal(secret_from_env("X", "wrong", &bad, &e), 0);
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		struct server v = { 0 };
		struct tp_session_opts o;
		struct tp_session *s = NULL;
		struct err why = { 0 }, e2 = { 0 };
		char name[16];
		int ok, refused;

		snprintf(name, sizeof(name), "pw%zu", i);
		server_start(&v, f->dir, name, modes[i]);
		o = opts_for(&v);
		o.user = user;
		o.identity = "/nonexistent";
		o.password = good;
		ok = tp_session_open(&o, &s, &why);
		tp_session_close(s);
		s = NULL;
		o.password = bad;
		refused = tp_session_open(&o, &s, &e2);
		server_stop(&v);
		if (ok < 0 || refused != -ERR_SSH) {
			sh(NULL, 0, "userdel %s 2>&1", user);
			fail_msg("mode %zu: %d %s; %d %s", i, ok, why.text, refused, e2.text);
		}
		assert_non_null(strstr(e2.text, "password: refused"));
		assert_null(strstr(e2.text, "wrong"));
	}
	sh(NULL, 0, "userdel %s 2>&1", user);
}

static void password_is_refused(void **state)
{
	_cleanup_(secret_freep) struct secret *bad = NULL;
	struct fixture *f = *state;
	struct server v = { 0 };
	struct tp_session_opts o;
	struct err e;

	assert_int_equal(secret_from_env("X", "hunter2", &bad, &e), 0);
	server_start(&v, f->dir, "nopw", "\"PasswordAuthentication yes\"");
	o = opts_for(&v);
	o.identity = "/nonexistent";
	o.user = "nobody";
	o.password = bad;
	REFUSED(&o, -ERR_SSH, "password: refused", "the server offers: publickey,password");
	server_stop(&v);
	o = opts_for(&f->srv);
	o.identity = "/nonexistent";
	o.password = bad;
	REFUSED(&o, -ERR_SSH, "password: not offered by the server");
}

/* ---- host keys ---- */

static void host_keys_are_verified(void **state)
{
	struct fixture *f = *state;
	struct tp_session_opts o = opts_for(&f->srv);
	char known[160], line[1024], want[256];
	struct stat st;

	snprintf(known, sizeof(known), "%s/fresh/ssh/known", f->dir);
	sh(want, sizeof(want), "ssh-keygen -lf %s/host.pub | cut -d' ' -f2 | tr -d '\\n'", f->srv.dir);
	o.known_hosts = known;
	REFUSED(&o, -ERR_SSH, "unknown", want, "ssh-keyscan", known);
	assert_int_equal(access(known, F_OK), -1);

	o.host_key = TP_HOST_KEY_ACCEPT_NEW;
	tp_session_close(open_or_fail(&o));
	sh(line, sizeof(line), "diff %s %s && echo same", known, f->srv.known);
	assert_string_equal(line, "same\n");
	assert_int_equal(stat(known, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);

	/* Now it is known, to strict too, and hashed as well. */
	o.host_key = TP_HOST_KEY_STRICT;
	tp_session_close(open_or_fail(&o));
	sh(NULL, 0, "ssh-keygen -H -f %s 2>&1", known);
	sh(line, sizeof(line), "head -c 3 %s", known);
	assert_string_equal(line, "|1|");
	tp_session_close(open_or_fail(&o));

	/* Changed: refused under both policies, with both fingerprints. */
	sh(NULL, 0, "printf '[127.0.0.1]:%u %%s\\n' \"$(cut -d' ' -f1,2 %s/client.pub)\" >%s",
	   f->srv.port, f->srv.dir, known);
	sh(line, sizeof(line), "ssh-keygen -lf %s/client.pub | cut -d' ' -f2 | tr -d '\\n'", f->srv.dir);
	REFUSED(&o, -ERR_SSH, want, line, "ssh-keygen -f", "-R '[127.0.0.1]:");
	o.host_key = TP_HOST_KEY_ACCEPT_NEW;
	REFUSED(&o, -ERR_SSH, want, line);

	/* Known by a key of another type: no way in for somebody who has just another type. */
	sh(NULL, 0, "ssh-keygen -q -t ecdsa -N '' -f %s.e; printf '[127.0.0.1]:%u %%s\\n'"
	   " \"$(cut -d' ' -f1,2 %s.e.pub)\" >%s", known, f->srv.port, known, known);
	REFUSED(&o, -ERR_SSH, want, "ecdsa-sha2-nistp256");

	sh(NULL, 0, "printf '@revoked * %%s\\n' \"$(cut -d' ' -f1,2 %s/host.pub)\" >%s", f->srv.dir,
	   known);
	REFUSED(&o, -ERR_SSH, "@revoked", want);
}

/* A server with two keys, of which the one that libssh2 would not ask for first is known. */
static void known_type_is_asked_for(void **state)
{
	struct fixture *f = *state;
	_cleanup_(tp_session_closep) struct tp_session *s = NULL;
	struct server v = { 0 };
	struct tp_session_opts o;
	char opt[256];

	snprintf(opt, sizeof(opt), "\"HostKey %s/ec\"", f->dir);
	sh(NULL, 0, "ssh-keygen -q -t ecdsa -b 384 -N '' -f %s/ec", f->dir);
	server_start(&v, f->dir, "two", opt);
	sh(NULL, 0, "printf '[127.0.0.1]:%u %%s\\n' \"$(cut -d' ' -f1,2 %s/ec.pub)\" >%s", v.port,
	   f->dir, v.known);
	o = opts_for(&v);
	s = open_or_fail(&o);
	assert_non_null(strstr(tp_session_methods(s), "host key ecdsa-sha2-nistp384"));
	server_stop(&v);
}

static void *open_thread(void *arg)
{
	struct tp_session *s = NULL;
	struct err e = { 0 };

	if (tp_session_open(arg, &s, &e) < 0)
		return strdup(e.text);
	tp_session_close(s);
	return NULL;
}

static void accept_new_by_many_at_once(void **state)
{
	struct fixture *f = *state;
	struct tp_session_opts o = opts_for(&f->srv);
	pthread_t t[6];
	char known[160], line[1024];

	snprintf(known, sizeof(known), "%s/many", f->dir);
	/* Without a newline at its end, as editors leave it. */
	sh(NULL, 0, "printf 'other.example ssh-ed25519 " KEY_A "' >%s", known);
	o.known_hosts = known;
	o.host_key = TP_HOST_KEY_ACCEPT_NEW;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		assert_int_equal(pthread_create(&t[i], NULL, open_thread, &o), 0);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		void *text = NULL;

		pthread_join(t[i], &text);
		if (text)
			fail_msg("%s", (char *)text);
	}
	sh(line, sizeof(line), "sed 1d %s | diff - %s && wc -l <%s", known, f->srv.known, known);
	assert_string_equal(line, "2\n");
}

/* ---- connecting ---- */

static int listener(int backlog, uint16_t *ret_port)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
	if (backlog >= 0)
		assert_int_equal(listen(fd, backlog), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
	*ret_port = ntohs(a.sin_port);
	return fd;
}

static void connect_failures(void **state)
{
	struct fixture *f = *state;
	struct tp_session_opts o = opts_for(&f->srv);
	struct sockaddr_in a = { .sin_family = AF_INET };
	int64_t t0;
	int fd, fill[4];

	fd = listener(-1, &o.port);
	REFUSED(&o, -ERR_CONNECT, "@127.0.0.1:", "Connection refused", "sshd");
	close(fd);
	o.host = "no-such-host.invalid";
	REFUSED(&o, -ERR_CONNECT, "no-such-host.invalid", "look up");

	/* A full backlog swallows the first packet, as a firewall does. */
	o.host = "127.0.0.1";
	o.connect_timeout_s = 1;
	fd = listener(0, &o.port);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	a.sin_port = htons(o.port);
	for (size_t i = 0; i < ARRAY_SIZE(fill); i++) {
		fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		(void)!connect(fill[i], (struct sockaddr *)&a, sizeof(a));
	}
	t0 = clock_mono_ns();
	REFUSED(&o, -ERR_CONNECT_TIMEOUT, "no answer", "firewalls");
	assert_true(clock_mono_ns() - t0 < 3000000000);
	for (size_t i = 0; i < ARRAY_SIZE(fill); i++)
		close(fill[i]);
	close(fd);

	/* It accepts, and says nothing. */
	fd = listener(5, &o.port);
	t0 = clock_mono_ns();
	REFUSED(&o, -ERR_CONNECT_TIMEOUT, "handshake", "0 bytes");
	assert_true(clock_mono_ns() - t0 < 3000000000);
	close(fd);

	o.ciphers = "rot13";
	REFUSED(&o, -ERR_SSH, "rot13");
}

/* ---- commands and links ---- */

static void commands_run(void **state)
{
	static const struct {
		const char *command, *input, *out, *errout;
		int status;
	} rows[] = {
		{ "echo out; echo err >&2; exit 7", "", "out\n", "err\n", 7 },
		{ "cat", "some input", "some input", "", 0 },
		{ "true", "input that nobody reads", "", "", 0 },
		{ "kill -9 $$", "", "", "killed by signal KILL\n", 129 },
		{ "head -c 300 /dev/zero | tr '\\0' x; exit 0", "", "xxxxxxxxxxxxxxxxxxxx", "", 0 },
		{ "/nonexistent 2>/dev/null", "", "", "", 127 },
	};
	struct fixture *f = *state;
	struct tp_session_opts o = opts_for(&f->srv);
	_cleanup_(tp_session_closep) struct tp_session *s = open_or_fail(&o);
	_cleanup_(buf_fini) struct buf out = BUF_INIT, errout = BUF_INIT;
	struct err e = { 0 };
	int64_t t0;
	int status;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		buf_clear(&out);
		buf_clear(&errout);
		status = -1;
		assert_int_equal(tp_session_run(s, rows[i].command, bytes_str(rows[i].input), &out,
						&errout, i == 4 ? 20 : 1000, 10, &status, &e), 0);
		assert_int_equal(status, rows[i].status);
		assert_string_equal(buf_cstr(&out), rows[i].out);
		assert_string_equal(buf_cstr(&errout), rows[i].errout);
	}
	t0 = clock_mono_ns();
	assert_int_equal(tp_session_run(s, "sleep 30", bytes_of(NULL, 0), NULL, NULL, 0, 1, &status,
					&e), -ETIMEDOUT);
	assert_true(clock_mono_ns() - t0 < 4000000000);
}

/* Pump n bytes through `cat` both ways at once; the digest of what came back must fit. */
static void pump(struct tp_link *l, size_t n, size_t piece)
{
	_cleanup_free_ uint8_t *out = malloc(piece), *in = malloc(piece);
	size_t sent = 0, got = 0;
	uint64_t x = 88172645463325252u;
	uint8_t a[SHA256_BYTES], b[SHA256_BYTES];
	struct sha256 ha, hb;
	bool eof = false;

	assert_true(out && in);
	for (size_t i = 0; i < piece; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		out[i] = (uint8_t)x;
	}
	sha256_init(&ha);
	sha256_init(&hb);
	for (;;) {
		bool want = sent < n, moved = false;
		size_t at = sent % piece;
		ssize_t r;

		if (want) {
			r = l->ops->write(l, out + at, MIN(piece - at, n - sent));
			if (r < 0 && r != -EAGAIN)
				fail_msg("write: %s", l->ops->error(l)->text);
			if (r > 0) {
				sha256_add(&ha, out + at, (size_t)r);
				/* What was taken may be overwritten at once. */
				out[at] ^= 0x55;
				sent += (size_t)r;
				moved = true;
			}
		} else if (!eof) {
			assert_int_equal(l->ops->eof(l), 0);
			eof = true;
		}
		r = l->ops->read(l, in, piece);
		if (r == 0)
			break;
		if (r < 0 && r != -EAGAIN)
			fail_msg("read: %s", l->ops->error(l)->text);
		if (r > 0) {
			sha256_add(&hb, in, (size_t)r);
			got += (size_t)r;
			moved = true;
		}
		if (!moved && l->ops->wait(l, want, -1, 10000) < 0)
			fail_msg("wait: %s", l->ops->error(l)->text);
	}
	assert_int_equal(got, n);
	sha256_end(&ha, a);
	sha256_end(&hb, b);
	assert_memory_equal(a, b, sizeof(a));
}

/* There in a build with AddressSanitizer. */
void __lsan_disable(void) __attribute__((weak));
void __lsan_enable(void) __attribute__((weak));

static void link_carries_both_ways(void **state)
{
	static const char *const servers[] = {
		"",
		/* New keys every megabyte, in the midst of it all. */
		"\"RekeyLimit 1M\"",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(servers); i++) {
		_cleanup_(tp_session_closep) struct tp_session *s = NULL;
		struct tp_exit x = { 0 };
		struct server v = { 0 };
		struct tp_session_opts o;
		struct tp_link *l = NULL;
		struct err e = { 0 };
		char name[16];

		/* libssh2 1.10 forgets to free the old host key at each re-exchange of keys. */
		if (*servers[i] && __lsan_disable)
			__lsan_disable();
		snprintf(name, sizeof(name), "pump%zu", i);
		server_start(&v, f->dir, name, servers[i]);
		o = opts_for(&v);
		s = open_or_fail(&o);
		assert_int_equal(tp_session_exec(s, "cat; echo done >&2; exit 3", bytes_of(NULL, 0), &l, &e), 0);
		assert_int_equal(tp_session_exec(s, "true", bytes_of(NULL, 0), &l, &e), -EBUSY);
		pump(l, 64u << 20, 300000);
		assert_true(l->bytes_written > 64u << 20 && l->bytes_read > 64u << 20);
		assert_true(l->bytes_written < 70u << 20 && l->bytes_read < 70u << 20);
		assert_int_equal(l->ops->finish(l, 5000, &x), 0);
		if (*servers[i] && __lsan_enable)
			__lsan_enable();
		assert_true(x.known && x.status == 3 && !*x.signal);
		assert_true(bytes_eq(l->ops->said(l), bytes_str("done\n")));
		l->ops->close(l);
		server_stop(&v);
	}
}

/* With a command that reads it, with one that does not, and with more than a packet. */
static void first_bytes_go_out_with_the_command(void **state)
{
	static char big[300000];
	struct fixture *f = *state;
	struct tp_session_opts o = opts_for(&f->srv);
	_cleanup_(tp_session_closep) struct tp_session *s = open_or_fail(&o);
	const struct {
		const char *command;
		struct bytes first;
		const char *said;
	} rows[] = {
		{ "cat >&2", bytes_str("hello"), "hello" },
		{ "wc -c >&2", bytes_of(big, sizeof(big)), "300000\n" },
		{ "echo none >&2; exit 0", bytes_str("hello"), "none\n" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct tp_link *l = NULL;
		struct tp_exit x = { 0 };
		struct err e = { 0 };

		if (tp_session_exec(s, rows[i].command, rows[i].first, &l, &e) < 0)
			fail_msg("%s", e.text);
		assert_int_equal(l->ops->finish(l, 5000, &x), 0);
		assert_true(x.known && x.status == 0);
		assert_true(bytes_eq(l->ops->said(l), bytes_str(rows[i].said)));
		l->ops->close(l);
	}
}

static void stderr_keeps_its_tail(void **state)
{
	struct fixture *f = *state;
	struct tp_session_opts o = opts_for(&f->srv);
	_cleanup_(tp_session_closep) struct tp_session *s = open_or_fail(&o);
	struct tp_exit x = { 0 };
	struct tp_link *l = NULL;
	struct bytes said;
	struct err e;
	int status = -1;

	assert_int_equal(tp_session_exec(s, "yes | head -c 9000000 >&2; echo last words >&2; kill -TERM $$",
					 bytes_of(NULL, 0), &l, &e), 0);
	/* Other channels of the session work meanwhile. */
	assert_int_equal(tp_session_run(s, "exit 4", bytes_of(NULL, 0), NULL, NULL, 0, 10, &status, &e),
			 0);
	assert_int_equal(status, 4);
	assert_int_equal(l->ops->finish(l, 20000, &x), 0);
	assert_true(x.known);
	assert_string_equal(x.signal, "TERM");
	said = l->ops->said(l);
	assert_int_equal(said.n, TP_SAID_MAX);
	assert_memory_equal(said.p + said.n - 11, "last words\n", 11);
	l->ops->close(l);
	/* A second link on the same session. */
	assert_int_equal(tp_session_exec(s, "exit 5", bytes_of(NULL, 0), &l, &e), 0);
	assert_int_equal(l->ops->finish(l, 5000, &x), 0);
	assert_int_equal(x.status, 5);
}

/* Wait until the link fails; its code, and how long it took. */
static int wait_for_failure(struct tp_link *l, double *ret_s)
{
	int64_t t0 = clock_mono_ns();
	char chunk[4096];
	int r = 0;

	while (r == 0 && clock_mono_ns() - t0 < 20000000000) {
		ssize_t n = l->ops->read(l, chunk, sizeof(chunk));

		r = n == -EAGAIN ? l->ops->wait(l, false, -1, 500) : (int)n;
		if (n == 0)
			r = -1;
	}
	*ret_s = (double)(clock_mono_ns() - t0) / 1e9;
	return r;
}

static void killed_peer_is_lost_at_once(void **state)
{
	struct fixture *f = *state;
	_cleanup_(tp_session_closep) struct tp_session *s = NULL;
	struct server v = { 0 };
	struct tp_session_opts o;
	struct tp_link *l = NULL;
	struct err e;
	double took;

	server_start(&v, f->dir, "killed", "");
	o = opts_for(&v);
	s = open_or_fail(&o);
	assert_int_equal(tp_session_exec(s, "sleep 100", bytes_of(NULL, 0), &l, &e), 0);
	sh(NULL, 0, "bash -c '. %s; kill -KILL $(sshd_tree %d) 2>&1'", sshd_lib((char[512]){ 0 }), v.pid);
	assert_int_equal(wait_for_failure(l, &took), -ERR_LOST);
	assert_true(took < 15);
	assert_non_null(strstr(l->ops->error(l)->text, "127.0.0.1"));
	server_stop(&v);
}

static void silent_peer_is_lost_after_the_idle_timeout(void **state)
{
	struct fixture *f = *state;
	struct server v = { 0 };
	struct tp_session_opts o;
	struct tp_session *s;
	struct tp_link *l = NULL;
	struct err e;
	int64_t t0;
	double took;
	char out[64];

	server_start(&v, f->dir, "silent", "");
	o = opts_for(&v);
	o.idle_timeout_s = 4;
	o.keepalive_s = 2;
	s = open_or_fail(&o);
	assert_int_equal(tp_session_exec(s, "sleep 100", bytes_of(NULL, 0), &l, &e), 0);
	/* As long as it answers, silence of the program is none of the peer. */
	t0 = clock_mono_ns();
	while (clock_mono_ns() - t0 < 7000000000) {
		assert_int_equal(l->ops->read(l, out, sizeof(out)), -EAGAIN);
		assert_int_equal(l->ops->wait(l, false, -1, 1000), 0);
	}
	sh(NULL, 0, "bash -c '. %s; kill -STOP $(sshd_tree %d) 2>&1'", sshd_lib((char[512]){ 0 }), v.pid);
	assert_int_equal(wait_for_failure(l, &took), -ERR_LOST);
	assert_true(took > 1 && took < 30);
	assert_non_null(strstr(l->ops->error(l)->text, "silent"));
	/* Closing what does not answer is bounded. */
	t0 = clock_mono_ns();
	tp_session_close(s);
	assert_true(clock_mono_ns() - t0 < 30000000000);
	sh(NULL, 0, "bash -c '. %s; kill -KILL $(sshd_tree %d) 2>&1'", sshd_lib((char[512]){ 0 }), v.pid);
	server_stop(&v);
}

/* ---- files and the receiver ---- */

static void files_go_and_come(void **state)
{
	struct fixture *f = *state;
	struct tp_session_opts o = opts_for(&f->srv);
	_cleanup_(tp_session_closep) struct tp_session *s = open_or_fail(&o);
	_cleanup_(buf_fini) struct buf back = BUF_INIT;
	_cleanup_free_ uint8_t *big = malloc(3000000);
	struct err e = { 0 };
	struct stat st;
	char path[128];

	assert_non_null(big);
	for (size_t i = 0; i < 3000000; i++)
		big[i] = (uint8_t)(i * i >> 7);
	snprintf(path, sizeof(path), "%s/put/a/file", f->dir);
	assert_int_equal(tp_session_put(s, path, bytes_str("first"), 0640, &e), 0);
	assert_int_equal(tp_session_put(s, path, bytes_of(big, 3000000), 0700, &e), 0);
	assert_int_equal(tp_session_get(s, path, 3000000, &back, &e), 0);
	assert_true(bytes_eq(buf_view(&back), bytes_of(big, 3000000)));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(tp_session_get(s, path, 1000, &back, &e), -EFBIG);
	assert_int_equal(tp_session_get(s, "/nonexistent", 1000, &back, &e), -ENOENT);
	assert_int_equal(tp_session_put(s, "/proc/x/y", bytes_str("x"), 0600, &e), -ENOENT);
	assert_non_null(strstr(e.text, "/proc/x/y"));
	snprintf(path, sizeof(path), "%s/put/a", f->dir);
	sh(path, sizeof(path), "ls %s/put/a", f->dir);
	assert_string_equal(path, "file\n");
}

#define RECEIVER_TEXT "#!/bin/sh\necho receiver \"$@\"\nexit 0\n"

static void receiver_write(const char *path, const char *text)
{
	assert_int_equal(io_replace_file(AT_FDCWD, path, bytes_str(text), 0755, NULL), 0);
}

/* Start by the command; its output must be want and its status as given. */
static void start_gives(struct tp_session *s, struct buf *command, const char *want, int status)
{
	_cleanup_(buf_fini) struct buf out = BUF_INIT, errout = BUF_INIT;
	struct err e = { 0 };
	int got = -1;

	assert_int_equal(tp_session_run(s, buf_cstr(command), bytes_of(NULL, 0), &out, &errout, 4096,
					10, &got, &e), 0);
	assert_int_equal(got, status);
	assert_string_equal(buf_cstr(status ? &errout : &out) ? buf_cstr(&out) : "", want);
	if (status)
		assert_non_null(strstr(buf_cstr(&errout), "stager-receive-1.2.3"));
}

static void receiver_is_installed(void **state)
{
	struct fixture *f = *state;
	struct tp_session_opts o = opts_for(&f->srv);
	_cleanup_(tp_session_closep) struct tp_session *s = open_or_fail(&o);
	_cleanup_(buf_fini) struct buf command = BUF_INIT, guess = BUF_INIT;
	struct tp_receiver_opts ro = { .version = "1.2.3" };
	char path[128], out[256];
	struct err e = { 0 };

	snprintf(path, sizeof(path), "%s/stager-receive", f->dir);
	receiver_write(path, RECEIVER_TEXT);
	ro.local_path = path;
	/* What is to start it can be known before, and starts nothing then. */
	assert_int_equal(tp_receiver_command(&ro, &guess, &e), 0);
	start_gives(s, &guess, "", TP_RECEIVER_CHANGED_STATUS);
	if (tp_install_receiver(s, &ro, &command, NULL, &e) < 0)
		fail_msg("%s", e.text);
	assert_string_equal(buf_cstr(&guess), buf_cstr(&command));
	start_gives(s, &command, "receiver\n", 0);
	sh(out, sizeof(out), "stat -c %%a%%n %s/home/.cache/stager/* | sed 's|/.*/||'; stat -c %%a"
	   " %s/home/.cache/stager", f->dir, f->dir);
	assert_non_null(strstr(out, "700stager-receive-1.2.3-"));
	assert_non_null(strstr(out, "\n700\n"));

	/* Tampered with: does not start, and is put right by the next install. */
	sh(NULL, 0, "echo echo evil | tee -a %s/home/.cache/stager/stager-receive-1.2.3-*", f->dir);
	start_gives(s, &command, "", TP_RECEIVER_CHANGED_STATUS);
	buf_clear(&command);
	assert_int_equal(tp_install_receiver(s, &ro, &command, NULL, &e), 0);
	start_gives(s, &command, "receiver\n", 0);
	sh(NULL, 0, "rm %s/home/.cache/stager/stager-receive-1.2.3-*", f->dir);
	start_gives(s, &command, "", TP_RECEIVER_CHANGED_STATUS);

	/* One that is right is not sent again: its inode stays. */
	buf_clear(&command);
	assert_int_equal(tp_install_receiver(s, &ro, &command, NULL, &e), 0);
	sh(out, sizeof(out), "touch -d @1 %s/home/.cache/stager/stager-receive-*", f->dir);
	buf_clear(&command);
	assert_int_equal(tp_install_receiver(s, &ro, &command, NULL, &e), 0);
	sh(out, sizeof(out), "stat -c %%Y %s/home/.cache/stager/stager-receive-*", f->dir);
	assert_string_equal(out, "1\n");

	assert_int_equal(tp_remove_receiver(s, &e), 0);
	assert_int_equal(tp_remove_receiver(s, &e), 0);
	sh(out, sizeof(out), "ls -A %s/home/.cache", f->dir);
	assert_string_equal(out, "");
}

static void receiver_of_the_operator(void **state)
{
	struct fixture *f = *state;
	struct tp_session_opts o = opts_for(&f->srv);
	_cleanup_(tp_session_closep) struct tp_session *s = open_or_fail(&o);
	_cleanup_(buf_fini) struct buf command = BUF_INIT, out = BUF_INIT;
	struct tp_receiver_opts ro = { .version = "1.2.3" };
	struct err e = { 0 };
	char path[128];
	int status = -1;

	snprintf(path, sizeof(path), "%s/it's here", f->dir);
	ro.remote_path = path;
	assert_int_equal(tp_receiver_command(&ro, &command, &e), -ENOTSUP);
	assert_int_equal(tp_install_receiver(s, &ro, &command, NULL, &e), -ERR_SSH);
	assert_non_null(strstr(e.text, path));
	receiver_write(path, RECEIVER_TEXT);
	assert_int_equal(tp_install_receiver(s, &ro, &command, NULL, &e), 0);
	assert_int_equal(tp_session_run(s, buf_cstr(&command), bytes_of(NULL, 0), &out, NULL, 100, 10,
					&status, &e), 0);
	assert_int_equal(status, 0);
	receiver_write(path, RECEIVER_TEXT "#\n");
	assert_int_equal(tp_session_run(s, buf_cstr(&command), bytes_of(NULL, 0), &out, NULL, 100, 10,
					&status, &e), 0);
	assert_int_equal(status, TP_RECEIVER_CHANGED_STATUS);
	receiver_write(path, "#!/bin/sh\nexit 9\n");
	assert_int_equal(tp_install_receiver(s, &ro, &command, NULL, &e), -ERR_SSH);
	assert_non_null(strstr(e.text, "exit status 9"));
}

/* An sshd of its own for one home or shell: the install there must fail with these texts. */
static void install_fails(struct fixture *f, const char *name, const char *options,
			  const char *receiver, const char *const *texts)
{
	_cleanup_(buf_fini) struct buf command = BUF_INIT;
	struct tp_receiver_opts ro = { .local_path = receiver, .version = "1.2.3" };
	struct server v = { 0 };
	struct tp_session_opts o;
	struct tp_session *s;
	struct err e = { 0 };
	int r;

	server_start(&v, f->dir, name, options);
	o = opts_for(&v);
	s = open_or_fail(&o);
	r = tp_install_receiver(s, &ro, &command, NULL, &e);
	tp_session_close(s);
	server_stop(&v);
	if (r != -ERR_SSH)
		fail_msg("%s: %d: %s", name, r, e.text);
	for (; *texts; texts++)
		if (!strstr(e.text, *texts))
			fail_msg("%s: '%s' is not in: %s", name, *texts, e.text);
}

#define INSTALL_FAILS(f, name, options, receiver, ...) \
	install_fails(f, name, options, receiver, (const char *const[]){ __VA_ARGS__, NULL })

static void unfit_targets_are_told(void **state)
{
	struct fixture *f = *state;
	char path[128], elf[128], opt[512], mnt[128], shim[256];
	uint8_t head[64] = { 0x7f, 'E', 'L', 'F', 2, 1, 1 };
	int rc;

	snprintf(path, sizeof(path), "%s/stager-receive", f->dir);
	receiver_write(path, RECEIVER_TEXT);
	snprintf(elf, sizeof(elf), "%s/alien", f->dir);
	snprintf(shim, sizeof(shim), "%s/shim", f->dir);
	head[18] = 22; /* S/390 */
	assert_int_equal(io_replace_file(AT_FDCWD, elf, bytes_of(head, sizeof(head)), 0755, NULL), 0);
	snprintf(opt, sizeof(opt), "\"SetEnv HOME=%s/home\"", f->dir);
	INSTALL_FAILS(f, "alien-srv", opt, elf, "CPU", "s390x", "--remote-receiver");

	INSTALL_FAILS(f, "nologin", "\"ForceCommand echo This account is closed.\"", path,
		      "This account is closed.", "login shell");
	snprintf(opt, sizeof(opt), "\"SetEnv HOME=%s/home PATH=%s:/usr/bin:/bin\"", f->dir, shim);
	sh(NULL, 0, "mkdir %s; printf '#!/bin/sh\\n[ \"$1\" = -s ] && echo SunOS || /bin/uname \"$@\"\\n'"
	   " >%s/uname; chmod 755 %s/uname", shim, shim, shim);
	INSTALL_FAILS(f, "solaris", opt, path, "SunOS", "not Linux");
	INSTALL_FAILS(f, "nohome", "\"SetEnv HOME=/proc/nowhere\"", path, "/proc/nowhere/.cache/stager",
		      "--remote-receiver");

	snprintf(mnt, sizeof(mnt), "%s/mnt", f->dir);
	mkdir(mnt, 0755);
	rc = geteuid() == 0 ? mount("tmpfs", mnt, "tmpfs", MS_NOEXEC, "size=1m") : -1;
	if (rc < 0) {
		print_message("noexec, read-only and full homes need root and mount(2)\n");
		skip();
	}
	snprintf(opt, sizeof(opt), "\"SetEnv HOME=%s\"", mnt);
	INSTALL_FAILS(f, "noexec", opt, path, "noexec", "--remote-receiver", ".cache/stager");
	sh(NULL, 0, "rm -rf %s/.cache; head -c 2000000 /dev/zero >%s/filler 2>/dev/null", mnt, mnt);
	INSTALL_FAILS(f, "full", opt, path, "No space left", mnt, "--remote-receiver");
	assert_int_equal(mount("", mnt, "", MS_REMOUNT | MS_RDONLY, ""), 0);
	INSTALL_FAILS(f, "rdonly", opt, path, "Read-only", mnt, "--remote-receiver");
	umount2(mnt, MNT_DETACH);
}

/* Noise before the answer, no SFTP, and no sha256sum: each is no obstacle. */
static void odd_targets_work(void **state)
{
	struct fixture *f = *state;
	char path[128], shim[128];
	static const struct {
		const char *name;
		const char *options; /* %s: the directory of shims */
		bool checked;        /* the start command checks the hash */
	} rows[] = {
		{ "noisy", "\"ForceCommand yes welcome | head -c 20000; eval \\\"\\$SSH_ORIGINAL_COMMAND\\\"\""
		  " \"SetEnv HOME=%1$s/home\"", true },
		{ "nosftp", "\"Subsystem sftp /bin/false\" \"SetEnv HOME=%1$s/home\"", true },
		{ "nosum", "\"SetEnv HOME=%1$s/home PATH=%1$s\"", false },
	};

	snprintf(shim, sizeof(shim), "%s/few", f->dir);
	sh(NULL, 0, "mkdir -p %s/home; for i in uname id mkdir cat chmod mv rm sh; do ln -s $(command -v $i)"
	   " %s/$i; done", shim, shim);
	snprintf(path, sizeof(path), "%s/stager-receive", f->dir);
	receiver_write(path, RECEIVER_TEXT);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_(buf_fini) struct buf command = BUF_INIT, out = BUF_INIT;
		struct tp_receiver_opts ro = { .local_path = path, .version = "1.2.3" };
		char options[512];
		struct server v = { 0 };
		struct tp_session_opts o;
		struct tp_session *s;
		struct err e = { 0 };
		int r, status = -1;

		sh(NULL, 0, "rm -rf %s/home/.cache", shim);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(options, sizeof(options), rows[i].options, shim);
#pragma GCC diagnostic pop
		server_start(&v, f->dir, rows[i].name, options);
		o = opts_for(&v);
		s = open_or_fail(&o);
		/* Twice, with the file spoilt in between. */
		for (int k = 0; k < 2; k++) {
			buf_clear(&command);
			r = tp_install_receiver(s, &ro, &command, NULL, &e);
			if (r < 0)
				fail_msg("%s: %s", rows[i].name, e.text);
			buf_clear(&out);
			r = tp_session_run(s, buf_cstr(&command), bytes_of(NULL, 0), &out, NULL, 65536,
					   10, &status, &e);
			assert_int_equal(r, 0);
			assert_int_equal(status, 0);
			assert_non_null(strstr(buf_cstr(&out), "receiver\n"));
			assert_int_equal(sh(NULL, 0, "echo : | tee -a %s/home/.cache/stager/stager-receive-*",
					    shim), 0);
		}
		assert_int_equal(strstr(buf_cstr(&command), "sha256sum") != NULL, rows[i].checked);
		tp_session_close(s);
		server_stop(&v);
	}
}

static void start_failures_are_explained(void **state)
{
	static const struct {
		struct tp_exit x;
		const char *want;
	} rows[] = {
		{ { .known = true, .status = TP_RECEIVER_CHANGED_STATUS }, "changed" },
		{ { .known = true, .status = 126 }, "noexec" },
		{ { .known = true, .signal = "KILL" }, "signal KILL" },
		{ { .known = false }, "no exit status" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct err e = { 0 };

		assert_int_equal(tp_receiver_explain(&rows[i].x, bytes_str("bad\x1b thing\n"),
						     bytes_str("hello"), &e), -ERR_SSH);
		assert_non_null(strstr(e.text, rows[i].want));
		assert_non_null(strstr(e.text, "bad\\x1b thing"));
		assert_non_null(strstr(e.text, "hello"));
	}
}

static void words_survive_shells(void **state)
{
	static const char *const words[] = { "plain", "", "it's", "a b  c", "$HOME `id` \"x\" \\n", "'''" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		_cleanup_(buf_fini) struct buf q = BUF_INIT;
		char out[128];

		assert_int_equal(shell_quote(&q, bytes_str(words[i])), 0);
		sh(out, sizeof(out), "printf %%s %s", buf_cstr(&q));
		assert_string_equal(out, words[i]);
	}
}

/* ---- the pipe link ---- */

static void pipe_link_works(void **state)
{
	char *const cat[] = { "sh", "-c", "cat; echo said >&2; exit 6", NULL };
	char *const killed[] = { "sh", "-c", "kill -USR1 $$", NULL };
	char *const stubborn[] = { "sh", "-c", "trap '' TERM HUP; while :; do sleep 1; done", NULL };
	char *const missing[] = { "/nonexistent/program", NULL };
	struct tp_exit x = { 0 };
	struct tp_link *l = NULL;
	struct err e = { 0 };
	int64_t t0;

	(void)state;
	assert_int_equal(tp_link_pipe_open(cat, &l, &e), 0);
	pump(l, 64u << 20, 300000);
	assert_int_equal(l->bytes_read, 64u << 20);
	assert_int_equal(l->ops->finish(l, 5000, &x), 0);
	assert_true(x.known && x.status == 6);
	assert_true(bytes_eq(l->ops->said(l), bytes_str("said\n")));
	tp_link_close(l);

	assert_int_equal(tp_link_pipe_open(killed, &l, &e), 0);
	assert_int_equal(l->ops->finish(l, 5000, &x), 0);
	assert_string_equal(x.signal, "USR1");
	assert_int_equal(l->ops->write(l, "x", 1), -ERR_LOST);
	tp_link_close(l);

	assert_int_equal(tp_link_pipe_open(stubborn, &l, &e), 0);
	assert_int_equal(l->ops->finish(l, 100, &x), 0);
	assert_false(x.known);
	t0 = clock_mono_ns();
	tp_link_close(l);
	assert_true(clock_mono_ns() - t0 < 2000000000);

	assert_int_equal(tp_link_pipe_open(missing, &l, &e), -ENOENT);
	assert_non_null(strstr(e.text, "/nonexistent/program"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_hosts_lines),
		cmocka_unit_test(fingerprint_is_that_of_ssh_keygen),
		cmocka_unit_test(key_logs_in),
		cmocka_unit_test(greeting_is_told),
		cmocka_unit_test(key_alone_asks_nothing_else),
		cmocka_unit_test(agent_logs_in),
		cmocka_unit_test(bad_keys_are_told),
		cmocka_unit_test(passphrase_opens_a_key),
		cmocka_unit_test(password_logs_in),
		cmocka_unit_test(password_is_refused),
		cmocka_unit_test(host_keys_are_verified),
		cmocka_unit_test(known_type_is_asked_for),
		cmocka_unit_test(accept_new_by_many_at_once),
		cmocka_unit_test(connect_failures),
		cmocka_unit_test(commands_run),
		cmocka_unit_test(link_carries_both_ways),
		cmocka_unit_test(first_bytes_go_out_with_the_command),
		cmocka_unit_test(stderr_keeps_its_tail),
		cmocka_unit_test(killed_peer_is_lost_at_once),
		cmocka_unit_test(silent_peer_is_lost_after_the_idle_timeout),
		cmocka_unit_test(files_go_and_come),
		cmocka_unit_test(receiver_is_installed),
		cmocka_unit_test(receiver_of_the_operator),
		cmocka_unit_test(unfit_targets_are_told),
		cmocka_unit_test(odd_targets_work),
		cmocka_unit_test(start_failures_are_explained),
		cmocka_unit_test(words_survive_shells),
		cmocka_unit_test(pipe_link_works),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
