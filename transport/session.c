/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All of libssh2 is used here, in non-blocking mode, and its manners end here:
 *
 *  - A packet of which the socket took only a part must be finished before anything else may
 *    be sent, even a window adjustment that a read makes.  So our send callback takes every
 *    packet whole: what the socket does not take waits in outq, and libssh2 never sees a
 *    partial write.  It also lets many packets of one write() leave in one system call.
 *  - A write that meets a key re-exchange must be repeated with the same bytes.  They are
 *    kept in `stuck`, so callers of the link are free in what they do next.
 *  - Both callbacks count, so that reports give true bytes on the wire.
 */
#include "transport/session.h"

#include <errno.h>
#include <fcntl.h>
#include <libssh2.h>
#include <libssh2_sftp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "common/connect.h"
#include "common/io.h"
#include "common/log.h"
#include "common/secret.h"
#include "common/text.h"
#include "transport/keystream.h"
#include "transport/known_hosts.h"
#include "transport/link.h"

#define CONNECT_TIMEOUT_S 30
#define IDLE_TIMEOUT_S 60
#define KEEPALIVE_S 15
#define CLOSE_TIMEOUT_S 5
#define RUN_TIMEOUT_S 60
#define SFTP_START_S 10
#define STOP_POLL_MS 200
#define HANDSHAKE_SLACK_NS INT64_C(2000000000)
#define AGENT_TIMEOUT_S 20 /* it may ask its user to confirm */

#define WINDOW_BYTES (8u << 20) /* what the peer may send ahead: 80 MB/s at 100 ms */
#define PACKET_BYTES 32768
#define OUTQ_FLUSH (128u << 10)   /* packets gathered before one send() */
#define OUTQ_MAX OUTQ_FLUSH       /* no more is taken from the caller beyond this */
/*
 * What the kernel takes beyond what the line has room for.  It would take megabytes, and what
 * is with the kernel can be neither packed harder nor left to a faster session.
 */
#define UNSENT_BYTES (256 << 10)
#define READ_MAX (256u << 10)     /* libssh2 opens the window by this much each time */
#define STUCK_MAX 32768           /* libssh2 cuts writes at 32700 */
#define AHEAD_BYTES (256u << 10)  /* of the peer's program, on a line without delay */
#define AHEAD_PER_US 128u         /* more for each microsecond of it: 128 MB/s */
#define KNOWN_HOSTS_MAX (16u << 20)
#define AGENT_KEYS_MAX 4 /* sshd hangs up after 6 failures; leave some to the other methods */

/*
 * Measured with libssh2 1.10 and 1.11 on CPUs with AES instructions: counter mode beats GCM,
 * which libssh2 feeds block by block, and a 128-bit key beats a longer one.
 */
const char tp_session_ciphers[] =
	"aes128-ctr,aes192-ctr,aes256-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com,"
	"chacha20-poly1305@openssh.com";

/*
 * Measured over loopback with aes128-ctr, 1 GiB: hmac-sha2-256 280 MiB/s, hmac-sha2-512 230,
 * hmac-sha1 286, which is no reason to take it: it is for a server with nothing else.
 */
const char tp_session_macs[] =
	"hmac-sha2-256-etm@openssh.com,hmac-sha2-256,hmac-sha2-512-etm@openssh.com,"
	"hmac-sha2-512,hmac-sha1-etm@openssh.com,hmac-sha1";

static const char host_key_order[] =
	"ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,"
	"rsa-sha2-512,rsa-sha2-256,ssh-rsa";

struct tp_session {
	struct tp_link link; /* first: the link handed out is this; counts all of the session */
	LIBSSH2_SESSION *ssh;
	LIBSSH2_CHANNEL *channel; /* of the link; NULL: none open */
	LIBSSH2_SFTP *sftp;       /* opened by the first put or get */
	int fd;
	int idle_s, keepalive_s;
	const atomic_bool *stop;  /* NULL: never */
	size_t (*pace)(void *arg, size_t want); /* NULL: none */
	void *pace_arg;
	int64_t stop_ns;    /* when it was seen to be true; 0: it was not */
	int64_t stop_slack_ns; /* how long a call goes on all the same */
	bool corked;        /* packets are gathered, and the socket is known to be read dry */
	bool input_dry;     /* the last receive found nothing; counts while corked */
	bool write_blocked; /* the last write waits for something from the peer */
	bool dead;          /* callbacks fail at once: for a close that must not wait */
	bool no_sftp;       /* tried in vain */
	bool opens_early;   /* the server is OpenSSH's: see is_far_ahead() */
	int io_errno;       /* why the socket failed; 0: it did not */
	bool peer_closed;
	int64_t heard_ns;   /* when the last byte came */
	int64_t asked_ns;   /* when the last keep-alive went out */
	int64_t trip_ns;    /* no round trip takes longer; 0: not known */
	uint64_t window_max; /* the most that the link's peer would take at once so far */
	struct buf outq;
	uint8_t *stuck;
	size_t stuck_n;
	struct buf said;
	struct err err;        /* of the link */
	const struct secret *password; /* while logging in */
	unsigned answers;              /* prompts answered with it */
	char peer[320];
	char host[256];
	uint16_t port;
	char methods[256];
};

/* ---- the socket ---- */

static int outq_flush(struct tp_session *s)
{
	while (buf_len(&s->outq)) {
		struct bytes v = buf_view(&s->outq);
		ssize_t n = send(s->fd, v.p, v.n, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0) {
			s->io_errno = errno;
			return -errno;
		}
		s->link.bytes_written += (uint64_t)n;
		buf_consume(&s->outq, (size_t)n);
	}
	return 0;
}

/*
 * libssh2 takes the same callbacks to its ssh-agent, over a blocking socket of its own: an
 * agent that does not answer fails here instead of holding us for ever.
 */
static ssize_t agent_io(int fd, short events, void *in, const void *out, size_t n)
{
	struct pollfd p = { .fd = fd, .events = events };
	ssize_t r;

	do
		r = poll(&p, 1, AGENT_TIMEOUT_S * 1000);
	while (r < 0 && errno == EINTR);
	if (r <= 0)
		return r ? -errno : -ETIMEDOUT;
	do
		r = in ? recv(fd, in, n, 0) : send(fd, out, n, MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

static ssize_t on_send(libssh2_socket_t fd, const void *p, size_t n, int flags, void **abstract)
{
	struct tp_session *s = *abstract;
	int r;

	(void)flags;
	if (fd != s->fd)
		return agent_io(fd, POLLOUT, NULL, p, n);
	if (s->dead || s->io_errno)
		return -ECONNRESET;
	if (buf_put(&s->outq, p, n) < 0)
		return -ENOMEM;
	if (s->corked && buf_len(&s->outq) < OUTQ_FLUSH)
		return (ssize_t)n;
	r = outq_flush(s);
	return r < 0 ? r : (ssize_t)n;
}

static ssize_t on_recv(libssh2_socket_t fd, void *p, size_t n, int flags, void **abstract)
{
	struct tp_session *s = *abstract;
	ssize_t r;

	(void)flags;
	if (fd != s->fd)
		return agent_io(fd, POLLIN, p, NULL, n);
	if (s->dead)
		return -ECONNRESET;
	if (s->corked && s->input_dry)
		return -EAGAIN;
	do
		r = recv(fd, p, n, 0);
	while (r < 0 && errno == EINTR);
	if (r > 0) {
		s->link.bytes_read += (uint64_t)r;
		s->heard_ns = clock_mono_ns();
		return r;
	}
	if (r == 0)
		s->peer_closed = true;
	else if (errno == EAGAIN)
		s->input_dry = true;
	else
		s->io_errno = errno;
	return r < 0 ? -errno : 0;
}

static int64_t deadline_s(int seconds)
{
	return clock_mono_ns() + (int64_t)seconds * 1000000000;
}

static bool is_stopped(struct tp_session *s)
{
	if (!s->stop || !atomic_load(s->stop))
		return false;
	if (!s->stop_ns)
		s->stop_ns = clock_mono_ns();
	return clock_mono_ns() - s->stop_ns >= s->stop_slack_ns;
}

/* After an EAGAIN: wait until the peer has said something.  0 or -ETIMEDOUT. */
static int session_turn(struct tp_session *s, int64_t until_ns)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	int64_t left_ns;

	for (;;) {
		if (outq_flush(s) < 0)
			return 0; /* the next call of libssh2 tells */
		left_ns = until_ns - clock_mono_ns();
		if (left_ns <= 0 || is_stopped(s))
			return -ETIMEDOUT;
		p.events = (short)(POLLIN | (buf_len(&s->outq) ? POLLOUT : 0));
		/*
		 * sshd leaves Nagle's algorithm on until a command runs, and holds a second small
		 * packet back until the first is acknowledged, which a delayed acknowledgement
		 * makes 40 ms (tcp(7)).  The kernel forgets this setting by itself.
		 */
		(void)setsockopt(s->fd, IPPROTO_TCP, TCP_QUICKACK, &(int){ 1 }, sizeof(int));
		if (poll(&p, 1, (int)MIN(left_ns / 1000000 + 1, (int64_t)STOP_POLL_MS)) < 0 &&
		    errno != EINTR)
			return -ETIMEDOUT;
		if (p.revents & ~POLLOUT)
			return 0;
	}
}

/* Something that takes n round trips at least was begun then, and is done. */
static void note_trips(struct tp_session *s, int64_t begun_ns, int n)
{
	int64_t trip = (clock_mono_ns() - begun_ns) / n;

	s->trip_ns = s->trip_ns ? MIN(s->trip_ns, trip) : MAX(trip, 1);
}

/* Repeat a call of libssh2 until it is done; LIBSSH2_ERROR_TIMEOUT at until. */
#define AWAIT(s, until, call)                                      \
	({                                                         \
		__typeof__(call) rc_;                              \
		while ((rc_ = (call)) == LIBSSH2_ERROR_EAGAIN)     \
			if (session_turn((s), (until)) < 0) {      \
				rc_ = LIBSSH2_ERROR_TIMEOUT;       \
				break;                             \
			}                                          \
		rc_;                                               \
	})

/* The same for a call that returns NULL instead of an error. */
#define AWAIT_PTR(s, until, call)                                               \
	({                                                                      \
		__typeof__(call) p_;                                            \
		while (!(p_ = (call)) &&                                        \
		       libssh2_session_last_errno((s)->ssh) == LIBSSH2_ERROR_EAGAIN) \
			if (session_turn((s), (until)) < 0)                     \
				break;                                          \
		p_;                                                             \
	})

/* What went wrong last, in words. */
static const char *ssh_why(struct tp_session *s)
{
	char *text = NULL;
	int rc;

	if (s->io_errno)
		return strerror(s->io_errno);
	if (s->peer_closed)
		return "the peer closed the connection";
	rc = libssh2_session_last_error(s->ssh, &text, NULL, 0);
	if (rc == LIBSSH2_ERROR_EAGAIN)
		return "no answer in time";
	return text && *text ? text : "unknown error";
}

/* True when libssh2's code (or ours about the socket) means that the connection is gone. */
static bool ssh_is_lost(const struct tp_session *s, ssize_t rc)
{
	static const int codes[] = {
		LIBSSH2_ERROR_SOCKET_SEND,    LIBSSH2_ERROR_SOCKET_DISCONNECT,
		LIBSSH2_ERROR_SOCKET_TIMEOUT, LIBSSH2_ERROR_SOCKET_RECV,
		LIBSSH2_ERROR_TIMEOUT,        LIBSSH2_ERROR_EAGAIN,
	};

	if (s->io_errno || s->peer_closed)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
		if (rc == codes[i])
			return true;
	return false;
}

static int ssh_fail(struct tp_session *s, ssize_t rc, int otherwise, const char *what,
		    struct err *e)
{
	return err_set(e, ssh_is_lost(s, rc) ? -ERR_LOST : otherwise, "%s: %s: %s", s->peer, what,
		       ssh_why(s));
}

/* ---- opening: methods and the handshake ---- */

/* Written under pthread_once() alone: libssh2 wants exactly one initialisation a process. */
static struct {
	pthread_once_t once;
	int rc;
} library = { .once = PTHREAD_ONCE_INIT };

static void library_init(void)
{
	struct err why = { 0 };

	/* Without it the same ciphers take longer. */
	if (tp_keystream_install(&why) < 0)
		log_debug("%s", why.text);
	library.rc = libssh2_init(0);
}

int tp_session_global_init(struct err *e)
{
	pthread_once(&library.once, library_init);
	if (library.rc)
		return err_set(e, -ERR_SSH, "libssh2 does not start (error %d)", library.rc);
	return 0;
}

static bool name_in(const char *const *list, int n, const char *name, size_t len)
{
	for (int i = 0; i < n; i++)
		if (strlen(list[i]) == len && memcmp(list[i], name, len) == 0)
			return true;
	return false;
}

/* True when libssh2 has the method of that kind. */
static bool ssh_supports(struct tp_session *s, int kind, const char *name)
{
	const char **have = NULL;
	int n = libssh2_session_supported_algs(s->ssh, kind, &have);
	bool found = n > 0 && name_in(have, n, name, strlen(name));

	if (n > 0)
		libssh2_free(s->ssh, have);
	return found;
}

/* Ask for those methods of the list that libssh2 has, in its order, each once. */
static int prefer(struct tp_session *s, int kind, const char *what, const char *list,
		  struct err *e)
{
	_cleanup_(buf_fini) struct buf use = BUF_INIT;
	const char **have = NULL, *text;
	int n = libssh2_session_supported_algs(s->ssh, kind, &have), r = 0;

	for (const char *p = list; n > 0 && *p && r == 0;) {
		size_t len = strcspn(p, ",");

		if (name_in(have, n, p, len)) {
			if (buf_len(&use))
				r = buf_put_u8(&use, ',');
			if (r == 0)
				r = buf_put(&use, p, len);
		}
		p += len + (p[len] == ',');
	}
	if (n > 0)
		libssh2_free(s->ssh, have);
	text = buf_cstr(&use);
	if (r < 0 || !text)
		return err_set(e, -ENOMEM, "out of memory");
	if (!*text)
		return err_set(e, -ERR_SSH, "%s: libssh2 %s has none of the %s %s", s->peer,
			       libssh2_version(0), what, list);
	if (libssh2_session_method_pref(s->ssh, kind, text))
		return err_set(e, -ERR_SSH, "%s: %s %s: %s", s->peer, what, text, ssh_why(s));
	return 0;
}

static bool known_hashed(void *arg, const char *salt, const char *hash, const char *name)
{
	static const char any[] = "AAAAB3NzaC1yc2E="; /* the key does not matter here */
	const int key = LIBSSH2_KNOWNHOST_KEYENC_BASE64 | LIBSSH2_KNOWNHOST_KEY_SSHRSA;
	struct tp_session *s = arg;
	LIBSSH2_KNOWNHOSTS *one = libssh2_knownhost_init(s->ssh);
	bool same;

	if (!one)
		return false;
	same = libssh2_knownhost_add(one, hash, salt, any, sizeof(any) - 1,
				     LIBSSH2_KNOWNHOST_TYPE_SHA1 | key, NULL) == 0 &&
	       libssh2_knownhost_check(one, name, any, sizeof(any) - 1,
				       LIBSSH2_KNOWNHOST_TYPE_PLAIN | key,
				       NULL) == LIBSSH2_KNOWNHOST_CHECK_MATCH;
	libssh2_knownhost_free(one);
	return same;
}

/* The files of host keys, read once; a missing one is an empty one. */
struct known_files {
	struct buf path[2];
	struct buf text[2];
	size_t n;
	struct tp_known_host host;
};

static void known_files_fini(struct known_files *k)
{
	for (size_t i = 0; i < ARRAY_SIZE(k->path); i++) {
		buf_fini(&k->path[i]);
		buf_fini(&k->text[i]);
	}
}

/* path below the home directory of the user we run as. */
static int home_path(struct buf *out, const char *path, struct err *e)
{
	char room[8192];
	struct passwd pw, *found = NULL;

	if (getpwuid_r(geteuid(), &pw, room, sizeof(room), &found) || !found)
		return err_set(e, -ERR_USAGE, "user %u has no home directory to look for %s:"
			       " name the file", geteuid(), path);
	return buf_printf(out, "%s/%s", pw.pw_dir, path) < 0 ?
		       err_set(e, -ENOMEM, "out of memory") : 0;
}

static int known_files_read(struct tp_session *s, const struct tp_session_opts *o,
			    struct known_files *k, struct err *e)
{
	int r;

	k->host = (struct tp_known_host){ .host = s->host, .port = s->port, .hashed = known_hashed,
					  .arg = s };
	k->n = o->known_hosts ? 1 : 2;
	r = o->known_hosts ? buf_put(&k->path[0], o->known_hosts, strlen(o->known_hosts)) :
			     home_path(&k->path[0], ".ssh/known_hosts", e);
	if (r == 0 && k->n > 1)
		r = buf_put_bytes(&k->path[1], bytes_str("/etc/ssh/ssh_known_hosts"));
	for (size_t i = 0; i < k->n && r == 0; i++) {
		const char *path = buf_cstr(&k->path[i]);

		r = path ? io_read_file(AT_FDCWD, path, KNOWN_HOSTS_MAX, &k->text[i], e) : -ENOMEM;
		if (r == -ENOENT)
			r = 0;
		else if (r < 0)
			r = err_ctx(e, -ERR_SSH, "%s: known hosts", s->peer);
	}
	return r;
}

/* Ask first for the kinds of host key that we know, or a good host looks like a changed one. */
static int prefer_host_keys(struct tp_session *s, const struct known_files *k, struct err *e)
{
	_cleanup_(buf_fini) struct buf types = BUF_INIT, order = BUF_INIT;
	const char *p;
	int r = 0;

	for (size_t i = 0; i < k->n && r == 0; i++)
		r = tp_known_types(buf_view(&k->text[i]), &k->host, &types);
	p = buf_cstr(&types);
	while (r == 0 && p && *p) {
		size_t n = strcspn(p, ",");

		/* One kind of key, three ways to sign with it. */
		if (n == 7 && memcmp(p, "ssh-rsa", n) == 0)
			r = buf_put_bytes(&order, bytes_str("rsa-sha2-512,rsa-sha2-256,"));
		if (r == 0)
			r = buf_put(&order, p, n + 1);
		p += n + 1;
	}
	if (r == 0)
		r = buf_put_bytes(&order, bytes_str(host_key_order));
	p = buf_cstr(&order);
	if (r < 0 || !p)
		return err_set(e, -ENOMEM, "out of memory");
	return prefer(s, LIBSSH2_METHOD_HOSTKEY, "host key types", p, e);
}

static int prefer_ciphers(struct tp_session *s, const struct tp_session_opts *o, struct err *e)
{
	const char *ciphers = o->ciphers ?: tp_session_ciphers;
	int r;

	r = prefer(s, LIBSSH2_METHOD_CRYPT_CS, "ciphers", ciphers, e);
	if (r == 0)
		r = prefer(s, LIBSSH2_METHOD_CRYPT_SC, "ciphers", ciphers, e);
	if (r == 0)
		r = prefer(s, LIBSSH2_METHOD_MAC_CS, "MACs", tp_session_macs, e);
	if (r == 0)
		r = prefer(s, LIBSSH2_METHOD_MAC_SC, "MACs", tp_session_macs, e);
	return r;
}

/* called_ns: when the peer was called. */
static int handshake(struct tp_session *s, const struct tp_session_opts *o, int64_t called_ns,
		     int64_t until, struct err *e)
{
	const char *banner;
	int rc;

	/* Left in the middle of a key exchange, libssh2 would lose track of its keys. */
	s->stop_slack_ns = HANDSHAKE_SLACK_NS;
	for (;;) {
		rc = libssh2_session_handshake(s->ssh, s->fd);
		if (s->link.bytes_read && !s->trip_ns) {
			note_trips(s, called_ns, 2); /* one made the connection */
			if (o->on_greeting)
				o->on_greeting(o->on_greeting_arg, s->trip_ns);
		}
		if (rc != LIBSSH2_ERROR_EAGAIN)
			break;
		if (session_turn(s, until) < 0) {
			rc = LIBSSH2_ERROR_TIMEOUT;
			break;
		}
	}
	s->stop_slack_ns = 0;
	if (rc == LIBSSH2_ERROR_TIMEOUT)
		return err_set(e, -ERR_CONNECT_TIMEOUT,
			       "%s: connected, but the SSH handshake was not done within the connect"
			       " timeout (%llu bytes came); check that this port is sshd's and that"
			       " the host is not overloaded",
			       s->peer, (unsigned long long)s->link.bytes_read);
	if (rc)
		return err_set(e, s->peer_closed || s->io_errno ? -ERR_HANGUP : -ERR_SSH,
			       "%s: SSH handshake: %s; check that this port is sshd's, and its log"
			       " (MaxStartups, host keys, ciphers)",
			       s->peer, ssh_why(s));
	banner = libssh2_session_banner_get(s->ssh);
	s->opens_early = banner && !strncmp(banner, "SSH-2.0-OpenSSH_", 16);
	snprintf(s->methods, sizeof(s->methods), "kex %s, cipher %s, mac %s, host key %s",
		 libssh2_session_methods(s->ssh, LIBSSH2_METHOD_KEX) ?: "?",
		 libssh2_session_methods(s->ssh, LIBSSH2_METHOD_CRYPT_CS) ?: "?",
		 libssh2_session_methods(s->ssh, LIBSSH2_METHOD_MAC_CS) ?: "?",
		 libssh2_session_methods(s->ssh, LIBSSH2_METHOD_HOSTKEY) ?: "?");
	return 0;
}

/* ---- opening: the host key ---- */

/* Make the directories that path lies in, closed to others; the open after it tells failures. */
static void make_parents(const char *path)
{
	char dir[4096];

	for (const char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
		if ((size_t)(p - path) >= sizeof(dir))
			return;
		memcpy(dir, path, (size_t)(p - path));
		dir[p - path] = '\0';
		(void)!mkdir(dir, 0700);
	}
}

/* Add the key, unless another session did so in the meantime: the file is locked here. */
static int known_add(struct tp_session *s, const char *path, const struct tp_known_host *h,
		     struct bytes key, struct err *e)
{
	_cleanup_(buf_fini) struct buf text = BUF_INIT, line = BUF_INIT;
	_cleanup_close_ int fd = -1;
	struct tp_known_answer a;
	struct bytes v;
	int r;

	make_parents(path);
	fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys(e, "%s: open %s to add the host key", s->peer, path);
	while (flock(fd, LOCK_EX) < 0)
		if (errno != EINTR)
			return err_sys(e, "%s: lock %s", s->peer, path);
	r = io_read_file(AT_FDCWD, path, KNOWN_HOSTS_MAX, &text, e);
	if (r < 0)
		return r;
	v = buf_view(&text);
	a = tp_known_check(v, h, key);
	if (a.verdict == TP_KNOWN_MATCH)
		return 0;
	if (a.verdict != TP_KNOWN_NONE)
		return err_set(e, -ERR_SSH, "%s: %s was given another key for this host just now",
			       s->peer, path);
	r = v.n && v.p[v.n - 1] != '\n' ? buf_put_u8(&line, '\n') : 0;
	if (r == 0)
		r = tp_known_line(&line, h, key);
	if (r == 0)
		r = io_write_all(fd, buf_view(&line).p, buf_len(&line));
	return r < 0 ? err_sysn(e, r, "%s: add the host key to %s", s->peer, path) : 0;
}

static int verify_host_key(struct tp_session *s, const struct tp_session_opts *o,
			   struct known_files *k, struct err *e)
{
	struct tp_known_answer a = { 0 };
	char print[TP_FINGERPRINT_SIZE], type[TP_KEY_TYPE_SIZE];
	const char *path = buf_cstr(&k->path[0]), *where = path, *name;
	_cleanup_(buf_fini) struct buf named = BUF_INIT;
	struct bytes key;
	int kind = 0, r;

	r = tp_known_name(&named, &k->host);
	name = buf_cstr(&named);
	if (r < 0 || !name)
		return err_set(e, -ENOMEM, "out of memory");
	key.p = (const uint8_t *)libssh2_session_hostkey(s->ssh, &key.n, &kind);
	if (!key.p || !path || !*tp_key_type(type, key))
		return err_set(e, -ERR_SSH, "%s: the server showed no usable host key", s->peer);
	tp_key_fingerprint(print, key);
	for (size_t i = 0; i < k->n; i++) {
		struct tp_known_answer b = tp_known_check(buf_view(&k->text[i]), &k->host, key);

		if (b.verdict > a.verdict) {
			a = b;
			where = buf_cstr(&k->path[i]);
		}
	}
	switch (a.verdict) {
	case TP_KNOWN_MATCH:
		return 0;
	case TP_KNOWN_REVOKED:
		return err_set(e, -ERR_SSH,
			       "%s: the host key %s %s is marked @revoked in %s line %u: do not"
			       " trust this host until its owner gave it a new key",
			       s->peer, type, print, where, a.line);
	case TP_KNOWN_CHANGED:
		return err_set(e, -ERR_SSH,
			       "%s: the host key is not the known one: the server shows %s %s,"
			       " while %s line %u has %s %s; someone may be in between, or the host"
			       " was reinstalled; when its owner confirms the new fingerprint, run"
			       " \"ssh-keygen -f %s -R '%s'\" and connect again",
			       s->peer, type, print, where, a.line, a.type, a.fingerprint, where,
			       name);
	case TP_KNOWN_NONE:
		break;
	}
	if (o->host_key == TP_HOST_KEY_STRICT)
		return err_set(e, -ERR_SSH,
			       "%s: the host key is unknown: %s %s is not in %s; compare the"
			       " fingerprint with 'ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub' on the"
			       " host's console, then run 'ssh-keyscan -p %u %s >> %s', or use"
			       " --host-key accept-new",
			       s->peer, type, print, path, s->port, s->host, path);
	r = known_add(s, path, &k->host, key, e);
	if (r < 0)
		return r;
	log_info("%s: new host key %s %s added to %s", s->peer, type, print, path);
	return 0;
}

/* ---- opening: the login ---- */

struct login {
	const char *user;
	const char *offered; /* what the server takes, comma-separated; libssh2's */
	struct buf tried;    /* one clause a method, for the message */
	int64_t until;
};

static void tried(struct login *l, const char *what, const char *why)
{
	/* Out of memory shortens a message, no more. */
	(void)!buf_printf(&l->tried, "%s%s: %s", buf_len(&l->tried) ? "; " : "", what, why);
}

static bool offers(const struct login *l, const char *method)
{
	size_t n = strlen(method);

	for (const char *p = l->offered; p && *p; p += *p == ',') {
		size_t len = strcspn(p, ",");

		if (len == n && memcmp(p, method, n) == 0)
			return true;
		p += len;
	}
	return false;
}

/* True when the agent can be reached at that socket by this version of libssh2. */
static bool agent_aim(LIBSSH2_AGENT *agent, const char *socket_path)
{
#if LIBSSH2_VERSION_NUM >= 0x010900
	libssh2_agent_set_identity_path(agent, socket_path);
	return true;
#else
	/* It reads the environment itself, which we may look at but not change in a thread. */
	const char *env = getenv("SSH_AUTH_SOCK");

	(void)agent;
	return env && strcmp(env, socket_path) == 0;
#endif
}

/* 1: logged in, 0: try the next method. */
static int login_agent(struct tp_session *s, struct login *l, const char *socket_path)
{
	struct libssh2_agent_publickey *id = NULL, *prev = NULL;
	LIBSSH2_AGENT *agent = libssh2_agent_init(s->ssh);
	unsigned n = 0;
	char note[64];
	int rc = -1;

	if (!agent || !agent_aim(agent, socket_path) || libssh2_agent_connect(agent)) {
		tried(l, "ssh-agent", "not reachable");
		goto out;
	}
	if (libssh2_agent_list_identities(agent)) {
		tried(l, "ssh-agent", "does not list its keys");
		goto close;
	}
	while (n < AGENT_KEYS_MAX && libssh2_agent_get_identity(agent, &id, prev) == 0) {
		n++;
		rc = AWAIT(s, l->until, libssh2_agent_userauth(agent, l->user, id));
		if (rc == 0 || ssh_is_lost(s, rc))
			break;
		prev = id;
	}
	if (rc) {
		snprintf(note, sizeof(note), n ? "%u keys refused" : "has no keys", n);
		tried(l, "ssh-agent", note);
	}
close:
	libssh2_agent_disconnect(agent);
out:
	if (agent)
		libssh2_agent_free(agent);
	return rc == 0;
}

/* The private key's type where the file tells it in the clear. */
static bool is_rsa_key(struct bytes text)
{
	_cleanup_(buf_fini) struct buf blob = BUF_INIT;
	const uint8_t *nl;

	if (memmem(text.p, text.n, "BEGIN RSA", 9))
		return true;
	nl = text.n ? memchr(text.p, '\n', text.n) : NULL;
	/* The public half stands in the first line of the body, before anything encrypted. */
	if (!nl || (size_t)(text.p + text.n - nl) < 68)
		return false;
	return tp_base64_decode(&blob, bytes_of(nl + 1, 64)) == 0 &&
	       memmem(blob.p, buf_len(&blob), "ssh-rsa", 7);
}

/* As ssh does: a private key that others can read is no private key.  Its text goes to out. */
static int check_identity(const char *path, struct buf *out, struct err *e)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return err_sys(e, "identity file %s", path);
	if (fstat(fd, &st) < 0)
		return err_sys(e, "identity file %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "identity file %s is not a regular file", path);
	if (st.st_mode & 077)
		return err_set(e, -EPERM,
			       "identity file %s is open to others (mode %04o): run 'chmod 600 %s'",
			       path, st.st_mode & 07777, path);
	if (buf_reserve(out, 4096) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	n = io_read_full(fd, out->p, 4096);
	if (n < 0)
		return err_sysn(e, (int)n, "identity file %s", path);
	out->n = (size_t)n;
	return 0;
}

static int login_identity(struct tp_session *s, struct login *l, const char *path,
			  const struct secret *passphrase)
{
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	struct err why = { 0 };
	char *last = NULL;
	int rc;

	if (check_identity(path, &text, &why) < 0) {
		if (why.code != -ENOENT)
			tried(l, "publickey", why.text);
		return 0;
	}
	rc = AWAIT(s, l->until,
		   libssh2_userauth_publickey_fromfile_ex(
			   s->ssh, l->user, (unsigned)strlen(l->user), NULL, path,
			   passphrase ? secret_text(passphrase) : NULL));
	if (rc == 0 || !libssh2_session_last_error(s->ssh, &last, NULL, 0) || !last) {
		explicit_bzero(text.p, text.cap);
		return rc == 0;
	}
	if (rc == LIBSSH2_ERROR_FILE || rc == LIBSSH2_ERROR_METHOD_NONE ||
	    strstr(last, "passphrase") || strstr(last, "Unable to extract"))
		tried(l, path, passphrase ? "cannot be read with the passphrase given" :
					    "cannot be read; if it has a passphrase, load it into"
					    " ssh-agent");
	else if (is_rsa_key(buf_view(&text)) &&
		 !ssh_supports(s, LIBSSH2_METHOD_HOSTKEY, "rsa-sha2-256"))
		tried(l, path, "refused; this libssh2 signs RSA keys with SHA-1 only, which current"
			       " servers refuse: use an ed25519 key");
	else
		tried(l, path, "refused");
	explicit_bzero(text.p, text.cap);
	return 0;
}

static int login_identities(struct tp_session *s, struct login *l, const struct tp_session_opts *o)
{
	static const char *const names[] = { ".ssh/id_ed25519", ".ssh/id_ecdsa", ".ssh/id_rsa" };
	int done = 0;

	if (o->identity)
		return login_identity(s, l, o->identity, o->passphrase);
	for (size_t i = 0; i < ARRAY_SIZE(names) && !done; i++) {
		_cleanup_(buf_fini) struct buf path = BUF_INIT;

		if (home_path(&path, names[i], NULL) < 0 || !buf_cstr(&path))
			break;
		done = login_identity(s, l, buf_cstr(&path), o->passphrase);
	}
	return done;
}

static LIBSSH2_USERAUTH_KBDINT_RESPONSE_FUNC(on_prompt)
{
	struct tp_session *s = *abstract;

	(void)name;
	(void)name_len;
	(void)instruction;
	(void)instruction_len;
	/* Only a hidden prompt asks for a password; a second factor we cannot give. */
	for (int i = 0; i < num_prompts; i++) {
		struct bytes v = secret_view(s->password);

		if (prompts[i].echo || s->answers)
			continue;
		responses[i].text = malloc(v.n + 1); /* libssh2 frees it */
		if (!responses[i].text)
			continue;
		memcpy(responses[i].text, v.p, v.n);
		responses[i].text[v.n] = '\0';
		responses[i].length = (unsigned)v.n;
		s->answers++;
	}
}

static int login_password(struct tp_session *s, struct login *l, const struct secret *password)
{
	struct bytes v = secret_view(password);
	unsigned user_n = (unsigned)strlen(l->user);
	int rc = -1;

	if (offers(l, "password")) {
		rc = AWAIT(s, l->until, libssh2_userauth_password_ex(s->ssh, l->user, user_n,
								     (const char *)v.p,
								     (unsigned)v.n, NULL));
		if (rc)
			tried(l, "password", rc == LIBSSH2_ERROR_PASSWORD_EXPIRED ? "expired" :
										 "refused");
	}
	if (rc && !ssh_is_lost(s, rc) && offers(l, "keyboard-interactive")) {
		s->password = password;
		s->answers = 0;
		rc = AWAIT(s, l->until, libssh2_userauth_keyboard_interactive_ex(
						s->ssh, l->user, user_n, on_prompt));
		s->password = NULL;
		if (rc)
			tried(l, "keyboard-interactive", "refused");
	}
	if (!buf_len(&l->tried) && rc)
		tried(l, "password", "not offered by the server");
	return rc == 0;
}

/* Keys, of the agent and of files.  1: logged in. */
static int login_keys(struct tp_session *s, struct login *l, const struct tp_session_opts *o)
{
	if (o->agent_socket && login_agent(s, l, o->agent_socket))
		return 1;
	return !s->peer_closed && login_identities(s, l, o);
}

/*
 * What the server offers is asked for only where there is a choice: it costs a round trip, and
 * sshd takes the question for a login, which it refuses after a pause.
 */
static int log_in(struct tp_session *s, const struct tp_session_opts *o, const char *user,
		  struct err *e)
{
	int timeout_s = o->connect_timeout_s ?: CONNECT_TIMEOUT_S;
	struct login l = { .user = user, .until = deadline_s(timeout_s) };
	const char *text;
	int r = 0;

	if (!o->password && login_keys(s, &l, o))
		goto out;
	if (!s->peer_closed)
		l.offered = AWAIT_PTR(s, l.until,
				      libssh2_userauth_list(s->ssh, user, (unsigned)strlen(user)));
	if (!l.offered && libssh2_userauth_authenticated(s->ssh))
		goto out;
	if (!l.offered && !buf_len(&l.tried)) {
		r = err_set(e, -ERR_SSH, "%s: login: %s; check sshd's log on the host", s->peer,
			    ssh_why(s));
		goto out;
	}
	if (o->password && offers(&l, "publickey") && login_keys(s, &l, o))
		goto out;
	if (o->password && !s->peer_closed && login_password(s, &l, o->password))
		goto out;
	text = buf_cstr(&l.tried);
	r = err_set(e, -ERR_SSH,
		    "%s: login refused; tried: %s; the server %s%s%s; give --identity,"
		    " --password-file or an ssh-agent with a key that is in the user's"
		    " authorized_keys",
		    s->peer, text && *text ? text : "nothing, there was no key and no password",
		    l.offered ? "offers: " : "takes no more (MaxAuthTries?): ",
		    l.offered ?: ssh_why(s),
		    l.offered && s->peer_closed ? "; it has closed the connection" : "");
out:
	buf_fini(&l.tried);
	return r;
}

/* ---- opening: all of it ---- */

static int session_user(const struct tp_session_opts *o, char *out, size_t size, struct err *e)
{
	char room[8192];
	struct passwd pw, *found = NULL;
	const char *name = o->user;

	if (!name && (getpwuid_r(geteuid(), &pw, room, sizeof(room), &found) || !found))
		return err_set(e, -ERR_USAGE, "user %u has no name: give user@ in the target",
			       geteuid());
	if (!name)
		name = pw.pw_name;
	if (snprintf(out, size, "%s", name) >= (int)size)
		return err_set(e, -ERR_USAGE, "the user name of the target is too long");
	return 0;
}

static int session_start(struct tp_session *s, const struct tp_session_opts *o, const char *user,
			 struct err *e)
{
	int timeout_s = o->connect_timeout_s ?: CONNECT_TIMEOUT_S;
	_cleanup_(known_files_fini) struct known_files known = { 0 };
	int64_t until = deadline_s(timeout_s), called;
	int r;

	/* What can be known to fail fails before the first packet. */
	if (o->identity && !o->agent_socket && !o->password) {
		_cleanup_(buf_fini) struct buf text = BUF_INIT;

		r = check_identity(o->identity, &text, e);
		if (r < 0)
			return err_ctx(e, -ERR_SSH, "%s", s->peer);
	}
	s->ssh = libssh2_session_init_ex(NULL, NULL, NULL, s);
	if (!s->ssh)
		return err_set(e, -ENOMEM, "%s: out of memory", s->peer);
	libssh2_session_set_blocking(s->ssh, 0);
	r = known_files_read(s, o, &known, e);
	if (r == 0)
		r = prefer_host_keys(s, &known, e);
	if (r == 0)
		r = prefer_ciphers(s, o, e);
	if (r < 0)
		return r;
	r = connect_tcp(s->host, s->port, timeout_s * 1000, s->stop, &s->fd, &called, e);
	if (r < 0)
		return err_ctx(e, r, "%s", s->peer);
	/* Without it all works as well, with more on the way. */
	(void)setsockopt(s->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &(int){ UNSENT_BYTES },
			 sizeof(int));
#if LIBSSH2_VERSION_NUM >= 0x010b01
	libssh2_session_callback_set2(s->ssh, LIBSSH2_CALLBACK_SEND, (libssh2_cb_generic *)on_send);
	libssh2_session_callback_set2(s->ssh, LIBSSH2_CALLBACK_RECV, (libssh2_cb_generic *)on_recv);
#else
	/* A function as a void pointer is no ISO C, but this API has nothing else. */
	libssh2_session_callback_set(s->ssh, LIBSSH2_CALLBACK_SEND, __extension__(void *) on_send);
	libssh2_session_callback_set(s->ssh, LIBSSH2_CALLBACK_RECV, __extension__(void *) on_recv);
#endif
	s->heard_ns = clock_mono_ns();
	r = handshake(s, o, called, until, e);
	if (r == 0)
		r = verify_host_key(s, o, &known, e);
	if (r == 0)
		r = log_in(s, o, user, e);
	if (r < 0)
		return r;
	libssh2_keepalive_config(s->ssh, 1, 2);
	return 0;
}

int tp_session_open(const struct tp_session_opts *o, struct tp_session **ret, struct err *e)
{
	_cleanup_(tp_session_closep) struct tp_session *s = NULL;
	char user[128];
	int r;

	r = tp_session_global_init(e);
	if (r == 0)
		r = session_user(o, user, sizeof(user), e);
	if (r < 0)
		return r;
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	s->fd = -1;
	s->port = o->port ?: 22;
	s->stop = o->stop;
	s->pace = o->pace;
	s->pace_arg = o->pace_arg;
	s->idle_s = o->idle_timeout_s ?: IDLE_TIMEOUT_S;
	/* libssh2 sends no two keep-alives within 2 s. */
	s->keepalive_s = MAX(MIN(o->keepalive_s ?: KEEPALIVE_S, s->idle_s / 2), 2);
	s->idle_s = MAX(s->idle_s, s->keepalive_s + 1);
	if (snprintf(s->host, sizeof(s->host), "%s", o->host) >= (int)sizeof(s->host))
		return err_set(e, -ERR_USAGE, "the host name of the target is too long");
	snprintf(s->peer, sizeof(s->peer), "%.63s@%.240s:%u", user, s->host, s->port);
	s->stuck = malloc(STUCK_MAX);
	if (!s->stuck)
		return err_set(e, -ENOMEM, "out of memory");
	r = session_start(s, o, user, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(s);
	return 0;
}

const char *tp_session_peer(const struct tp_session *s)
{
	return s->peer;
}

const char *tp_session_methods(const struct tp_session *s)
{
	return s->methods;
}

void tp_session_wire_bytes(const struct tp_session *s, uint64_t *ret_read, uint64_t *ret_written)
{
	*ret_read = s->link.bytes_read;
	*ret_written = s->link.bytes_written;
}

/* ---- channels ---- */

/* Start command; first is in its input before the server has said that it runs. */
static int channel_start(struct tp_session *s, LIBSSH2_CHANNEL *c, const char *command,
			 struct bytes first, int64_t until)
{
	int rc = LIBSSH2_ERROR_EAGAIN;

	for (;;) {
		if (rc == LIBSSH2_ERROR_EAGAIN)
			rc = libssh2_channel_process_startup(c, "exec", 4, command,
							     (unsigned)strlen(command));
		/* The request is out: on_send() takes packets as a whole. */
		if ((rc == 0 || rc == LIBSSH2_ERROR_EAGAIN) && first.n) {
			ssize_t n = libssh2_channel_write_ex(c, 0, (const char *)first.p, first.n);

			if (n < 0 && n != LIBSSH2_ERROR_EAGAIN)
				return (int)n;
			if (n > 0) {
				/* It has read, too, so the answer may be here already. */
				first = bytes_of(first.p + n, first.n - (size_t)n);
				continue;
			}
		}
		if (rc != LIBSSH2_ERROR_EAGAIN && (rc || !first.n))
			return rc;
		if (session_turn(s, until) < 0)
			return LIBSSH2_ERROR_TIMEOUT;
	}
}

static int channel_open(struct tp_session *s, const char *command, struct bytes first,
			LIBSSH2_CHANNEL **ret, struct err *e)
{
	int64_t until = deadline_s(s->idle_s), begun = clock_mono_ns();
	LIBSSH2_CHANNEL *c;
	int rc;

	c = AWAIT_PTR(s, until, libssh2_channel_open_ex(s->ssh, "session", 7, WINDOW_BYTES,
							PACKET_BYTES, NULL, 0));
	if (!c)
		return ssh_fail(s, libssh2_session_last_errno(s->ssh), -ERR_SSH,
				"open a channel (does sshd's MaxSessions allow it?)", e);
	note_trips(s, begun, 1);
	begun = clock_mono_ns();
	rc = channel_start(s, c, command, first, until);
	if (rc) {
		rc = ssh_fail(s, rc, -ERR_SSH, "run a command (does sshd or the key forbid it?)", e);
		(void)AWAIT(s, deadline_s(1), libssh2_channel_free(c));
		return rc;
	}
	note_trips(s, begun, 1);
	*ret = c;
	return 0;
}

/*
 * True when a read has something to give.  Ask before waiting for the socket after more than
 * one call: the later call may have taken in what the earlier one looked for.
 */
static bool channel_readable(LIBSSH2_CHANNEL *c)
{
	unsigned long avail = 0;

	libssh2_channel_window_read_ex(c, &avail, NULL);
	return avail || libssh2_channel_eof(c);
}

/* Move what the program said on stderr to the tail. */
static void channel_drain_said(LIBSSH2_CHANNEL *c, struct buf *tail)
{
	char chunk[4096];
	ssize_t n;

	while ((n = libssh2_channel_read_ex(c, SSH_EXTENDED_DATA_STDERR, chunk, sizeof(chunk))) > 0)
		tp_said_add(tail, chunk, (size_t)n);
}

/* The exit status, after the channel's end. */
static struct tp_exit channel_exit(struct tp_session *s, LIBSSH2_CHANNEL *c)
{
	struct tp_exit x = { .known = true };
	char *name = NULL;
	size_t n = 0;

	x.status = libssh2_channel_get_exit_status(c);
	if (libssh2_channel_get_exit_signal(c, &name, &n, NULL, NULL, NULL, NULL) == 0 && name) {
		snprintf(x.signal, sizeof(x.signal), "%.*s", (int)MIN(n, sizeof(x.signal)), name);
		libssh2_free(s->ssh, name);
	}
	return x;
}

static struct tp_session *session_of(struct tp_link *l)
{
	return (struct tp_session *)l;
}

static int link_fail(struct tp_session *s, const char *what)
{
	return err_set(&s->err, -ERR_LOST, "%s: %s: %s", s->peer, what, ssh_why(s));
}

static ssize_t link_read(struct tp_link *l, void *p, size_t n)
{
	struct tp_session *s = session_of(l);
	ssize_t r;

	s->input_dry = false;
	r = libssh2_channel_read_ex(s->channel, 0, p, MIN(n, (size_t)READ_MAX));
	if (r > 0)
		return r;
	if (r == 0 || r == LIBSSH2_ERROR_EAGAIN) {
		channel_drain_said(s->channel, &s->said);
		return r == 0 && libssh2_channel_eof(s->channel) ? 0 : -EAGAIN;
	}
	return link_fail(s, "read");
}

/*
 * What its program has not taken yet, OpenSSH's server copies to a larger place with each
 * packet that comes: 2 MiB ahead, which is its window, cost it 64 times as much as 256 KiB.
 * So on a short line no more is sent ahead than keeps the program busy.  Only with a server
 * that opens the window again after each 96 KiB (channels.c), whatever is left of it.
 */
static bool is_far_ahead(struct tp_session *s)
{
	uint64_t room = libssh2_channel_window_write_ex(s->channel, NULL);
	uint64_t most = AHEAD_BYTES + (uint64_t)s->trip_ns / 1000 * AHEAD_PER_US;

	s->window_max = MAX(s->window_max, room);
	return s->window_max - room >= most && s->opens_early;
}

/*
 * One packet.  The count, 0: blocked until the peer says something, or negative.  A blocked
 * write that libssh2 has begun must be repeated with its bytes; it is one with room in the
 * window, since without room it does not begin.
 */
static ssize_t write_packet(struct tp_session *s, const uint8_t *p, size_t n)
{
	ssize_t r;

	n = MIN(n, (size_t)STUCK_MAX);
	if (!s->stuck_n && is_far_ahead(s)) {
		s->write_blocked = true;
		return 0;
	}
	r = libssh2_channel_write_ex(s->channel, 0, (const char *)p, n);
	if (r > 0)
		return r;
	if (r < 0 && r != LIBSSH2_ERROR_EAGAIN)
		return link_fail(s, "write");
	s->write_blocked = true;
	s->link.window_full = libssh2_channel_window_write_ex(s->channel, NULL) == 0;
	if (s->stuck_n || s->link.window_full)
		return 0;
	memcpy(s->stuck, p, n);
	s->stuck_n = n;
	return (ssize_t)n;
}

/* Send what was kept.  1: nothing is left, 0: still blocked, or negative. */
static int write_stuck(struct tp_session *s)
{
	while (s->stuck_n) {
		ssize_t r = write_packet(s, s->stuck, s->stuck_n);

		if (r <= 0)
			return (int)r;
		s->stuck_n -= (size_t)r;
		memmove(s->stuck, s->stuck + r, s->stuck_n);
	}
	return 1;
}

static ssize_t write_packets(struct tp_session *s, const uint8_t *p, size_t n)
{
	size_t done = 0;
	ssize_t r = write_stuck(s);

	if (r <= 0)
		return r;
	while (done < n && buf_len(&s->outq) < OUTQ_MAX && !s->stuck_n) {
		r = write_packet(s, p + done, n - done);
		if (r < 0)
			return r;
		if (r == 0)
			break;
		done += (size_t)r;
	}
	return (ssize_t)done;
}

static ssize_t link_write(struct tp_link *l, const void *p, size_t n)
{
	struct tp_session *s = session_of(l);
	ssize_t r;

	s->write_blocked = l->window_full = false;
	if (outq_flush(s) < 0)
		return link_fail(s, "write");
	/* One look at the socket a call is enough, not one a packet. */
	s->input_dry = false;
	s->corked = true;
	r = write_packets(s, p, n);
	s->corked = false;
	if (outq_flush(s) < 0)
		return link_fail(s, "write");
	return r ? r : -EAGAIN;
}

/* Keep-alive when due; -ERR_LOST when one went unanswered for too long. */
static int link_watch(struct tp_session *s, int *ret_ms)
{
	int64_t now = clock_mono_ns(), second = 1000000000;
	int64_t next = s->heard_ns + s->keepalive_s * second;

	if (s->asked_ns > s->heard_ns) {
		int64_t lost = s->asked_ns + (s->idle_s - s->keepalive_s) * second;
		struct pollfd p = { .fd = s->fd, .events = POLLIN };

		/* Something may have come while our caller was busy elsewhere. */
		if (now >= lost && poll(&p, 1, 0) <= 0)
			return err_set(&s->err, -ERR_LOST,
				       "%s: the peer has been silent for %lld s: connection lost",
				       s->peer, (long long)((now - s->heard_ns) / second));
		next = MAX(lost, now);
	} else if (now >= next) {
		if (libssh2_keepalive_send(s->ssh, NULL) < 0)
			return link_fail(s, "keep-alive");
		s->asked_ns = now;
		next = now + (s->idle_s - s->keepalive_s) * second;
	}
	*ret_ms = (int)((next - now) / 1000000) + 1;
	return 0;
}

static int link_wait(struct tp_link *l, bool want_write, int extra_fd, int timeout_ms)
{
	struct tp_session *s = session_of(l);
	struct pollfd fds[] = {
		{ .fd = s->fd },
		{ .fd = extra_fd, .events = POLLIN },
	};
	bool waited = false;

	for (;;) {
		bool queued;
		int ms = 0, r;

		r = link_watch(s, &ms);
		if (r < 0)
			return r;
		if (outq_flush(s) < 0)
			return link_fail(s, "write");
		queued = buf_len(&s->outq) > 0;
		if (channel_readable(s->channel) || (want_write && !s->write_blocked &&
					 buf_len(&s->outq) < OUTQ_MAX))
			return 0;
		if (waited)
			return 0;
		if (timeout_ms >= 0)
			ms = MIN(ms, timeout_ms);
		fds[0].events = (short)(POLLIN | (queued ? POLLOUT : 0));
		r = poll(fds, ARRAY_SIZE(fds), ms);
		if (r < 0 && errno != EINTR)
			return err_sys(&s->err, "%s: wait", s->peer);
		if (fds[0].revents & ~POLLOUT)
			s->write_blocked = false;
		if (r > 0 && ((fds[0].revents & ~POLLOUT) || fds[1].revents))
			return 0;
		/* Room in the socket or the end of a pause: look once more, then report. */
		waited = r <= 0;
	}
}

/* Hand over what write() has kept.  0 or -ERR_LOST. */
static int link_settle(struct tp_session *s, int64_t until)
{
	int r;

	while ((r = write_stuck(s)) == 0)
		if (session_turn(s, until) < 0)
			return link_fail(s, "write");
	return MIN(r, 0);
}

static int link_eof_until(struct tp_session *s, int64_t until)
{
	if (link_settle(s, until) < 0)
		return -ERR_LOST;
	if (AWAIT(s, until, libssh2_channel_send_eof(s->channel)))
		return link_fail(s, "end the input");
	return 0;
}

static int link_eof(struct tp_link *l)
{
	struct tp_session *s = session_of(l);

	return link_eof_until(s, deadline_s(s->idle_s));
}

static int link_finish(struct tp_link *l, int timeout_ms, struct tp_exit *ret)
{
	int64_t until = clock_mono_ns() + (int64_t)timeout_ms * 1000000;
	struct tp_session *s = session_of(l);
	_cleanup_free_ char *chunk = malloc(READ_MAX);
	int r, rc;

	if (!chunk)
		return err_set(&s->err, -ENOMEM, "out of memory");
	*ret = (struct tp_exit){ 0 };
	r = link_eof_until(s, until);
	if (r < 0)
		return r;
	for (;;) {
		ssize_t n = link_read(l, chunk, READ_MAX);

		if (n == 0)
			break;
		if (n == -EAGAIN && !channel_readable(s->channel) && session_turn(s, until) < 0)
			return 0;
		if (n < 0 && n != -EAGAIN)
			return (int)n;
	}
	/* The status comes before the close, but perhaps after the end of the output. */
	rc = AWAIT(s, until, libssh2_channel_close(s->channel));
	channel_drain_said(s->channel, &s->said);
	if (rc == LIBSSH2_ERROR_TIMEOUT)
		return 0;
	if (rc)
		return link_fail(s, "close");
	*ret = channel_exit(s, s->channel);
	return 0;
}

static struct bytes link_said(struct tp_link *l)
{
	struct tp_session *s = session_of(l);

	if (s->channel)
		channel_drain_said(s->channel, &s->said);
	return buf_view(&s->said);
}

static const struct err *link_error(struct tp_link *l)
{
	return &session_of(l)->err;
}

/* Free a channel; a peer that does not answer in time is cut off. */
static void channel_drop(struct tp_session *s, LIBSSH2_CHANNEL *c, int64_t until)
{
	if (!c || AWAIT(s, until, libssh2_channel_free(c)) != LIBSSH2_ERROR_TIMEOUT)
		return;
	s->dead = true;
	libssh2_channel_free(c);
}

static void link_close(struct tp_link *l)
{
	struct tp_session *s = session_of(l);
	int64_t until = deadline_s(CLOSE_TIMEOUT_S);

	if (!s->channel)
		return;
	s->stuck_n = 0;
	channel_drop(s, s->channel, until);
	s->channel = NULL;
}

static const struct tp_link_ops session_link_ops = {
	.read = link_read,
	.write = link_write,
	.wait = link_wait,
	.eof = link_eof,
	.finish = link_finish,
	.said = link_said,
	.error = link_error,
	.close = link_close,
};

int tp_session_exec(struct tp_session *s, const char *command, struct bytes first,
		    struct tp_link **ret, struct err *e)
{
	int r;

	if (s->channel)
		return err_set(e, -EBUSY, "%s: the session has its link already", s->peer);
	r = channel_open(s, command, first, &s->channel, e);
	if (r < 0)
		return r;
	s->link.ops = &session_link_ops;
	s->window_max = 0;
	s->write_blocked = false;
	s->stuck_n = 0;
	s->err = (struct err){ 0 };
	buf_clear(&s->said);
	*ret = &s->link;
	return 0;
}

/* ---- short commands ---- */

struct run {
	LIBSSH2_CHANNEL *c;
	struct bytes input;
	bool eof_sent;
	struct buf *out[2]; /* stdout, stderr */
	size_t max;
};

/* Take what has come on both streams.  1: the end, 0: not yet, or libssh2's error. */
static ssize_t run_read(struct run *x)
{
	char chunk[16384];
	ssize_t n;

	for (int i = 0; i < 2; i++) {
		int stream = i ? SSH_EXTENDED_DATA_STDERR : 0;

		while ((n = libssh2_channel_read_ex(x->c, stream, chunk, sizeof(chunk))) > 0) {
			size_t room = x->out[i] ? x->max - MIN(x->max, buf_len(x->out[i])) : 0;

			if (buf_put(x->out[i] ?: &(struct buf){ 0 }, chunk, MIN(room, (size_t)n)) < 0)
				return LIBSSH2_ERROR_ALLOC;
		}
		if (n < 0 && n != LIBSSH2_ERROR_EAGAIN)
			return n;
	}
	return libssh2_channel_eof(x->c) ? 1 : 0;
}

/* Give what the window takes; a repeated call goes on with the same bytes, as it must. */
static ssize_t run_write(struct run *x)
{
	ssize_t n;

	while (x->input.n) {
		n = libssh2_channel_write_ex(x->c, 0, (const char *)x->input.p, x->input.n);
		if (n == LIBSSH2_ERROR_EAGAIN || n == 0)
			return 0;
		if (n < 0)
			return n;
		x->input = bytes_of(x->input.p + n, x->input.n - (size_t)n);
	}
	if (!x->eof_sent) {
		n = libssh2_channel_send_eof(x->c);
		x->eof_sent = n == 0;
		return n == LIBSSH2_ERROR_EAGAIN ? 0 : n;
	}
	return 0;
}

static int run_loop(struct tp_session *s, struct run *x, int64_t until, struct err *e)
{
	ssize_t n;

	for (;;) {
		n = run_write(x);
		/* A command may close its input early; what it says still counts. */
		if (n < 0 && ssh_is_lost(s, n))
			return ssh_fail(s, n, -ERR_LOST, "run a command", e);
		n = run_read(x);
		if (n < 0)
			return ssh_fail(s, n, -ERR_SSH, "run a command", e);
		if (n == 1)
			break;
		if (!channel_readable(x->c) && session_turn(s, until) < 0)
			return err_set(e, -ETIMEDOUT, "%s: a command did not end in time", s->peer);
	}
	n = AWAIT(s, until, libssh2_channel_close(x->c));
	if (n == LIBSSH2_ERROR_TIMEOUT)
		return err_set(e, -ETIMEDOUT, "%s: a command did not end in time", s->peer);
	if (n)
		return ssh_fail(s, n, -ERR_SSH, "end a command", e);
	return (int)MIN(run_read(x), (ssize_t)0);
}

int tp_session_run(struct tp_session *s, const char *command, struct bytes input,
		   struct buf *out, struct buf *errout, size_t max, int timeout_s,
		   int *ret_status, struct err *e)
{
	int64_t until = deadline_s(timeout_s ?: RUN_TIMEOUT_S);
	struct run x = { .input = input, .out = { out, errout }, .max = max };
	struct tp_exit end;
	int r;

	/* A half-given packet of the link would stand in the way of every other. */
	if (s->channel && link_settle(s, until) < 0)
		return err_set(e, s->err.code, "%s", s->err.text);
	r = channel_open(s, command, bytes_of(NULL, 0), &x.c, e);
	if (r < 0)
		return r;
	r = run_loop(s, &x, until, e);
	if (r == 0) {
		end = channel_exit(s, x.c);
		*ret_status = *end.signal ? 128 + 1 : end.status;
		if (*end.signal && errout)
			r = buf_printf(errout, "killed by signal %s\n", end.signal);
	}
	channel_drop(s, x.c, deadline_s(1));
	return r;
}

/* ---- files ---- */

/* libssh2 does not notice when the subsystem ends at once, so this wait has a bound of its own. */
static int sftp_start(struct tp_session *s, struct err *e)
{
	if (!s->sftp && !s->no_sftp)
		s->sftp = AWAIT_PTR(s, deadline_s(SFTP_START_S), libssh2_sftp_init(s->ssh));
	if (s->sftp)
		return 0;
	s->no_sftp = true;
	return err_set(e, s->io_errno || s->peer_closed ? -ERR_LOST : -EOPNOTSUPP,
		       "%s: start SFTP: %s; does sshd_config have 'Subsystem sftp internal-sftp'?",
		       s->peer, ssh_why(s));
}

static int sftp_fail(struct tp_session *s, ssize_t rc, const char *what, const char *path,
		     struct err *e)
{
	static const struct {
		unsigned long status;
		int code;
	} rows[] = {
		{ LIBSSH2_FX_NO_SUCH_FILE, -ENOENT },
		{ LIBSSH2_FX_NO_SUCH_PATH, -ENOENT },
		{ LIBSSH2_FX_PERMISSION_DENIED, -EACCES },
		{ LIBSSH2_FX_WRITE_PROTECT, -EROFS },
		{ LIBSSH2_FX_NO_SPACE_ON_FILESYSTEM, -ENOSPC },
		{ LIBSSH2_FX_QUOTA_EXCEEDED, -EDQUOT },
		{ LIBSSH2_FX_OP_UNSUPPORTED, -EOPNOTSUPP },
	};
	unsigned long status;

	if (ssh_is_lost(s, rc))
		return err_set(e, -ERR_LOST, "%s: %s %s: %s", s->peer, what, path, ssh_why(s));
	status = libssh2_sftp_last_error(s->sftp);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (status == rows[i].status)
			return err_sysn(e, rows[i].code, "%s: %s %s", s->peer, what, path);
	return err_set(e, -EIO, "%s: %s %s: SFTP error %lu", s->peer, what, path, status);
}

static void sftp_parents(struct tp_session *s, const char *path, int64_t until)
{
	/* An existing directory fails like a forbidden one; opening the file tells. */
	for (const char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/'))
		(void)AWAIT(s, until, libssh2_sftp_mkdir_ex(s->sftp, path, (unsigned)(p - path), 0700));
}

/* How much of n bytes may go now; whoever paces it has paused, so the stop is looked at. */
static size_t paced(struct tp_session *s, size_t n)
{
	size_t now = n;

	while (s->pace && !(now = s->pace(s->pace_arg, n)) && !(s->stop && atomic_load(s->stop)))
		;
	return now ? now : n;
}

static int sftp_fill(struct tp_session *s, LIBSSH2_SFTP_HANDLE *h, const char *path,
		     struct bytes content, mode_t mode, struct err *e)
{
	LIBSSH2_SFTP_ATTRIBUTES at = { .flags = LIBSSH2_SFTP_ATTR_PERMISSIONS, .permissions = mode };
	size_t now = 0;
	ssize_t n;

	while (content.n) {
		/* What libssh2 was given once it must be given again, until it has taken it. */
		if (!now)
			now = paced(s, content.n);
		n = AWAIT(s, deadline_s(s->idle_s),
			  libssh2_sftp_write(h, (const char *)content.p, now));
		if (n < 0)
			return sftp_fail(s, n, "write", path, e);
		content = bytes_of(content.p + n, content.n - (size_t)n);
		now -= (size_t)n;
	}
	n = AWAIT(s, deadline_s(s->idle_s), libssh2_sftp_fstat_ex(h, &at, 1));
	return n < 0 ? sftp_fail(s, n, "set the mode of", path, e) : 0;
}

/*
 * Rename over what is there.  SFTP 3 knows no such rename; OpenSSH's extension does, and
 * libssh2 offers it from 1.11 on.
 */
static int sftp_replace(struct tp_session *s, const char *from, const char *to, struct err *e)
{
	unsigned from_n = (unsigned)strlen(from), to_n = (unsigned)strlen(to);
	int rc = -1;

#if LIBSSH2_VERSION_NUM >= 0x010b00
	rc = AWAIT(s, deadline_s(s->idle_s),
		   libssh2_sftp_posix_rename_ex(s->sftp, from, from_n, to, to_n));
	if (rc == 0)
		return 0;
#endif
	/* Another session may put the same file between our two steps: again, then. */
	for (int i = 0; i < 5 && rc && !ssh_is_lost(s, rc); i++) {
		(void)AWAIT(s, deadline_s(s->idle_s), libssh2_sftp_unlink_ex(s->sftp, to, to_n));
		rc = AWAIT(s, deadline_s(s->idle_s),
			   libssh2_sftp_rename_ex(s->sftp, from, from_n, to, to_n, 0));
	}
	return rc ? sftp_fail(s, rc, "rename to", to, e) : 0;
}

int tp_session_put(struct tp_session *s, const char *path, struct bytes content, mode_t mode,
		   struct err *e)
{
	char tmp[4096];
	unsigned long long tag = 0;
	LIBSSH2_SFTP_HANDLE *h;
	int r, rc;

	if (s->channel && link_settle(s, deadline_s(s->idle_s)) < 0)
		return err_set(e, s->err.code, "%s", s->err.text);
	r = sftp_start(s, e);
	if (r < 0)
		return r;
	if (getrandom(&tag, sizeof(tag), 0) < 0)
		return err_sys(e, "random bytes");
	if (snprintf(tmp, sizeof(tmp), "%s.%016llx.tmp", path, tag) >= (int)sizeof(tmp))
		return err_set(e, -ENAMETOOLONG, "%s: write %s: name too long", s->peer, path);
	sftp_parents(s, path, deadline_s(s->idle_s));
	h = AWAIT_PTR(s, deadline_s(s->idle_s),
		      libssh2_sftp_open_ex(s->sftp, tmp, (unsigned)strlen(tmp),
					   LIBSSH2_FXF_WRITE | LIBSSH2_FXF_CREAT | LIBSSH2_FXF_EXCL,
					   (long)(mode & 0700), LIBSSH2_SFTP_OPENFILE));
	if (!h)
		return sftp_fail(s, libssh2_session_last_errno(s->ssh), "create", tmp, e);
	r = sftp_fill(s, h, tmp, content, mode, e);
	rc = AWAIT(s, deadline_s(s->idle_s), libssh2_sftp_close_handle(h));
	if (r == 0 && rc)
		r = sftp_fail(s, rc, "close", tmp, e);
	if (r == 0)
		r = sftp_replace(s, tmp, path, e);
	if (r < 0 && r != -ERR_LOST)
		(void)AWAIT(s, deadline_s(s->idle_s),
			    libssh2_sftp_unlink_ex(s->sftp, tmp, (unsigned)strlen(tmp)));
	return r;
}

int tp_session_get(struct tp_session *s, const char *path, size_t max, struct buf *out,
		   struct err *e)
{
	LIBSSH2_SFTP_HANDLE *h;
	size_t got = 0;
	int r;

	if (s->channel && link_settle(s, deadline_s(s->idle_s)) < 0)
		return err_set(e, s->err.code, "%s", s->err.text);
	r = sftp_start(s, e);
	if (r < 0)
		return r;
	h = AWAIT_PTR(s, deadline_s(s->idle_s),
		      libssh2_sftp_open_ex(s->sftp, path, (unsigned)strlen(path),
					   LIBSSH2_FXF_READ, 0, LIBSSH2_SFTP_OPENFILE));
	if (!h)
		return sftp_fail(s, libssh2_session_last_errno(s->ssh), "open", path, e);
	for (;;) {
		ssize_t n;

		if (buf_reserve(out, 65536) < 0) {
			r = err_set(e, -ENOMEM, "%s: read %s: out of memory", s->peer, path);
			break;
		}
		n = AWAIT(s, deadline_s(s->idle_s),
			  libssh2_sftp_read(h, (char *)out->p + out->n, 65536));
		if (n < 0)
			r = sftp_fail(s, n, "read", path, e);
		if (n <= 0)
			break;
		out->n += (size_t)n;
		got += (size_t)n;
		if (got > max) {
			r = err_set(e, -EFBIG, "%s: %s is larger than %zu bytes", s->peer, path, max);
			break;
		}
	}
	(void)AWAIT(s, deadline_s(s->idle_s), libssh2_sftp_close_handle(h));
	return r;
}

/* ---- the end ---- */

void tp_session_close(struct tp_session *s)
{
	int64_t until = deadline_s(CLOSE_TIMEOUT_S);

	if (!s)
		return;
	if (s->ssh && s->fd >= 0) {
		s->dead = s->dead || s->io_errno || s->peer_closed;
		channel_drop(s, s->channel, until);
		if (s->sftp && AWAIT(s, until, libssh2_sftp_shutdown(s->sftp)) ==
				       LIBSSH2_ERROR_TIMEOUT) {
			s->dead = true;
			libssh2_sftp_shutdown(s->sftp);
		}
		(void)AWAIT(s, until, libssh2_session_disconnect_ex(
					      s->ssh, SSH_DISCONNECT_BY_APPLICATION, "done", ""));
		s->dead = true;
	}
	/* With dead callbacks nothing waits any more; a re-entrant state needs a few calls. */
	for (int i = 0; s->ssh && i < 100; i++)
		if (libssh2_session_free(s->ssh) != LIBSSH2_ERROR_EAGAIN)
			break;
	close_p_(&s->fd);
	buf_fini(&s->outq);
	buf_fini(&s->said);
	free(s->stuck);
	free(s);
}
