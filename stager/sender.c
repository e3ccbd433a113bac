/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/sender.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/sysinfo.h>
#include <time.h>

#include "common/io.h"
#include "common/log.h"
#include "common/text.h"
#include "stager/bwlimit.h"
#include "stager/options.h"
#include "stager/peer.h"
#include "stager/tune.h"

/*
 * A session is one thread that does one thing at a time: read what has come, produce frames
 * while there is room for them, pack them, write what the link takes, wait.  It never stops
 * reading while it has something to write, so the two ends cannot wait for each other.
 */
#define READ_BYTES    (256u << 10)
#define UNPACK_BYTES  (1u << 20)
#define PING_NS       (10 * 1000000000LL)
#define QUIET_STEPS   16 /* reads of a file, before the link is looked at */
#define BACKOFF_MAX_S 30
/* A session more for so many jobs waiting: opening one costs both ends a handshake. */
#define JOBS_PER_SESSION    4
#define CONTENT_PER_SESSION (64ull << 20)

struct stg_senders {
	struct stg_run *run;
	unsigned n;
	pthread_t *threads;
	struct peer *peers;
	atomic_bool ending;
	struct stg_tune tune; /* of the thread that drives the phase */
};

struct sender_arg {
	struct stg_senders *senders;
	unsigned index;
};

void peer_hold(struct peer *p, struct stg_job *job)
{
	job->held_next = p->held;
	p->held_content += job->content;
	job->held_prev = &p->held;
	if (p->held)
		p->held->held_prev = &job->held_next;
	p->held = job;
}

void peer_make_ready(struct peer *p, struct stg_job *job)
{
	job->next = NULL;
	job->at = 0;
	*p->ready_last = job;
	p->ready_last = &job->next;
}

/* --- what the receiver says --- */

static int on_hello(struct peer *p, const struct tp_frame *f, struct err *e)
{
	struct tp_hello m;
	char text[TEXT_NAME_MAX];
	int r = tp_get_hello_r(f, &m, e);

	if (r < 0)
		return r;
	if (m.version_min > TP_VERSION_MAX || m.version_max < TP_VERSION_MIN)
		return err_set(e, -ERR_VERSION,
			       "the receiver (%s) speaks protocol versions %u to %u, this program "
			       "%u to %u: use the receiver that came with it",
			       text_name(text, m.receiver), m.version_min, m.version_max,
			       TP_VERSION_MIN, TP_VERSION_MAX);
	p->features = m.features;
	p->hello = true;
	return tp_pack_new(p->features & TP_FEATURE_ZSTD ? p->run->level : TP_LEVEL_OFF, &p->pack,
			   e);
}

static int on_ready(struct peer *p, const struct tp_frame *f, struct err *e)
{
	struct stg_run *run = p->run;
	struct tp_ready m;
	int r = tp_get_ready(f, &m, e);

	if (r < 0)
		return r;
	if (!p->index && (m.flags & TP_R_EMPTY) && run->expect_data) {
		err_set(e, -ERR_FORBIDDEN,
			"the target root is empty, but earlier phases have filled it: is its "
			"file system mounted?  If it was emptied on purpose, run \"stager full\"");
		stg_run_fail(run, e);
		return e->code;
	}
	pthread_mutex_lock(&run->lock);
	if (!p->index && !run->told) {
		run->told = true;
		atomic_store(&run->admitted, true);
		run->target.flags = m.flags;
		memcpy(run->target.boot_id, m.boot_id, sizeof(run->target.boot_id));
		run->target.uid = m.uid;
		run->target.free_bytes = m.free_bytes;
		run->target.free_inodes = m.free_inodes;
	} else if (run->told && memcmp(run->target.boot_id, m.boot_id, sizeof(m.boot_id)) != 0) {
		r = err_set(e, -ERR_LOST,
			    "the target was restarted during the phase: start it again, what had "
			    "reached its disk is kept");
	}
	if (r == 0) {
		run->ready++;
		run->most_ready = MAX(run->most_ready, run->ready);
		p->ready = true;
		atomic_store(&p->connected, true);
	}
	pthread_cond_broadcast(&run->changed);
	pthread_mutex_unlock(&run->lock);
	/* No new connection mends this. */
	if (r < 0)
		stg_run_fail(run, e);
	return r;
}

static int on_abort(const struct tp_frame *f, struct err *e)
{
	static const int codes[] = {
		[TP_ABORT_VERSION] = -ERR_VERSION, [TP_ABORT_PROTOCOL] = -ERR_PROTOCOL,
		[TP_ABORT_ROOT] = -ENOENT,         [TP_ABORT_IO] = -EIO,
		[TP_ABORT_IDLE] = -ERR_LOST,       [TP_ABORT_BUSY] = -ERR_LOCKED,
	};
	char text[TEXT_NAME_MAX];
	struct bytes said;
	uint32_t code;
	int r = tp_get_abort(f, &code, &said, e);

	if (r < 0)
		return r;
	r = code < ARRAY_SIZE(codes) && codes[code] ? codes[code] : -ERR_PROTOCOL;
	return err_set(e, r, "the receiver gave up: %s", text_name(text, said));
}

static int on_signature(struct peer *p, const struct tp_frame *f, struct err *e)
{
	struct slot *s = f->slot < PEER_SLOTS ? &p->slots[f->slot] : NULL;

	if (!s || s->kind != SLOT_SIG)
		return err_set(e, -ERR_PROTOCOL, "a signature that was not asked for");
	if (f->flags & TP_F_ERROR) {
		buf_fini(&s->data); /* no basis: the file goes whole */
		s->kind = SLOT_SIG_READY;
		return 0;
	}
	if (buf_len(&s->data) + f->payload.n > TP_SIG_MAX)
		return err_set(e, -ERR_PROTOCOL, "a signature is larger than %u bytes", TP_SIG_MAX);
	if (buf_put_bytes(&s->data, f->payload) < 0)
		return err_set(e, -ENOMEM, "receive a signature: out of memory");
	if (f->flags & TP_F_LAST)
		s->kind = SLOT_SIG_READY;
	return 0;
}

static int on_frame(struct peer *p, const struct tp_frame *f, struct err *e)
{
	struct tp_refusal refusal;
	uint64_t n;
	int r;

	if (f->type == TP_ABORT)
		return on_abort(f, e);
	if (!p->hello)
		return f->type == TP_HELLO ? on_hello(p, f, e) :
			err_set(e, -ERR_PROTOCOL, "the receiver does not begin with HELLO");
	if (!p->ready)
		return f->type == TP_READY ? on_ready(p, f, e) :
			err_set(e, -ERR_PROTOCOL, "the receiver does not say READY");
	switch (f->type) {
	case TP_ACK:
		r = tp_get_number(f, &n, e);
		return r < 0 ? r : peer_on_ack(p, n, e);
	case TP_REFUSE:
	case TP_WARN:
		r = tp_get_refusal(f, &refusal, e);
		if (r < 0)
			return r;
		return f->type == TP_WARN ? peer_on_warn(p, &refusal, e) :
					    peer_on_refuse(p, &refusal, e);
	case TP_DIFFER:
		return peer_on_differ(p, f, e);
	case TP_LISTING:
		return peer_on_listing(p, f, e);
	case TP_SIG:
		return on_signature(p, f, e);
	case TP_SUMS:
		return peer_on_sums(p, f, e);
	case TP_HASHED:
		return peer_on_hashed(p, f, e);
	case TP_DURABLE:
		r = tp_get_number(f, &n, e);
		if (r < 0)
			return r;
		atomic_store(&p->durable, (uint_fast32_t)n);
		pthread_mutex_lock(&p->run->lock);
		pthread_cond_broadcast(&p->run->changed);
		pthread_mutex_unlock(&p->run->lock);
		return 0;
	default:
		return err_set(e, -ERR_PROTOCOL, "the receiver sent a frame of type %u", f->type);
	}
}

/* Login shells may print before the receiver does: skip to its magic, within a bound. */
static int find_magic(struct peer *p, struct err *e)
{
	struct bytes in = buf_view(&p->in_wire);
	const uint8_t *at = in.n ? memmem(in.p, in.n, TP_MAGIC, TP_MAGIC_BYTES) : NULL;
	char text[TEXT_NAME_MAX];

	if (at) {
		buf_consume(&p->in_wire, (size_t)(at - in.p) + TP_MAGIC_BYTES);
		p->magic = true;
		return 0;
	}
	if (in.n <= TP_NOISE_MAX)
		return 0;
	return err_set(e, -ERR_SSH,
		       "the target printed this instead of starting the receiver: \"%s\": look at "
		       "the login shell's start-up files there", text_name(text, in));
}

static int handle_input(struct peer *p, struct err *e)
{
	struct tp_frame f;
	int r = 0, more;

	if (!p->magic) {
		r = find_magic(p, e);
		if (r < 0 || !p->magic)
			return r;
	}
	do {
		more = tp_unpack(p->unpack, &p->in_wire, UNPACK_BYTES, &p->in, e);
		if (more < 0)
			return more;
		while ((r = tp_frame_peek(&p->in, &f, e)) > 0) {
			size_t n = tp_frame_bytes(&f);

			r = on_frame(p, &f, e);
			if (r < 0)
				return r;
			buf_consume(&p->in, n);
		}
		if (r < 0)
			return r;
	} while (more);
	return 0;
}

/* --- reading and writing --- */

static int link_error(struct peer *p, int code, struct err *e)
{
	const struct err *why = p->link->ops->error(p->link);
	struct bytes said = p->link->ops->said(p->link);
	char text[TEXT_NAME_MAX];

	if (why && why->code)
		*e = *why;
	else
		err_set(e, code, "the connection has ended");
	/* Before READY the program at the other end has had no chance to say it in frames. */
	if (!p->ready && said.n) {
		while (said.n && (said.p[said.n - 1] == '\n' || said.p[said.n - 1] == '\r'))
			said.n--;
		err_set(e, code, "the receiver did not start: %s", text_name(text, said));
	} else if (!p->ready && code == -ERR_LOST && buf_len(&p->in_wire) && !p->magic) {
		err_set(e, -ERR_SSH, "the target printed this instead of starting the receiver: \"%s\"",
			text_name(text, buf_view(&p->in_wire)));
	}
	return e->code ? e->code : code;
}

/* 1: something came; 0: nothing now. */
static int read_link(struct peer *p, struct err *e)
{
	ssize_t n;

	if (buf_reserve(&p->in_wire, READ_BYTES) < 0)
		return err_set(e, -ENOMEM, "receive: out of memory");
	n = p->link->ops->read(p->link, p->in_wire.p + p->in_wire.n, READ_BYTES);
	if (n == -EAGAIN)
		return 0;
	if (n <= 0)
		return link_error(p, n < 0 ? (int)n : -ERR_LOST, e);
	p->in_wire.n += (size_t)n;
	p->heard_ns = clock_mono_ns();
	n = handle_input(p, e);
	return n < 0 ? (int)n : 1;
}

/*
 * The limit is about what goes to the network.  What the link has accepted counts at once,
 * what SSH makes more of it when it is sent.  taken: what the limit has counted for it.
 */
static void charge(struct peer *p, size_t taken)
{
	uint64_t now = MAX(p->accepted, p->link->bytes_written);

	stg_bwlimit_settle(p->run->bwlimit, taken, now - p->charged);
	p->charged = now;
}

static int write_link(struct peer *p, struct err *e)
{
	int done = 0;

	while (buf_len(&p->wire)) {
		struct bytes b = buf_view(&p->wire);
		ssize_t n;

		b.n = stg_bwlimit_take(p->run->bwlimit, b.n);
		if (!b.n)
			break;
		n = p->link->ops->write(p->link, b.p, b.n);
		p->accepted += (uint64_t)MAX(n, (ssize_t)0);
		charge(p, b.n);
		if (n == -EAGAIN) {
			atomic_fetch_add_explicit(p->link->window_full ?
							  &p->run->count.waits_window :
							  &p->run->count.waits_line,
						  1, memory_order_relaxed);
			break;
		}
		if (n < 0) {
			/* What the receiver said before it hung up matters more. */
			int r;

			do
				r = read_link(p, e);
			while (r > 0);
			return r < 0 ? r : link_error(p, (int)n, e);
		}
		buf_consume(&p->wire, (size_t)n);
		atomic_fetch_add_explicit(&p->run->count.wire_out, (uint64_t)n,
					  memory_order_relaxed);
		p->wrote_ns = clock_mono_ns();
		done = 1;
	}
	return done;
}

/*
 * What this thread has used of the processors so far, and how long it waited for one while
 * others had them: packing harder is no use of time that nobody has to spare.  In Linux's
 * statistics the wait is the second number; without them it counts as none.
 */
static int64_t work_ns(const struct peer *p)
{
	struct timespec cpu = { 0 };
	char text[64] = "";
	long long waited = 0;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
	if (p->sched_fd >= 0 && pread(p->sched_fd, text, sizeof(text) - 1, 0) > 0)
		waited = strtoll(text + strcspn(text, " "), NULL, 10);
	return cpu.tv_sec * 1000000000LL + cpu.tv_nsec + waited;
}

static int next_level(struct peer *p)
{
	size_t ready = buf_len(&p->wire);
	enum stg_level_ready how = !ready ? STG_LEVEL_DRY :
				   ready >= p->ahead / 2 ? STG_LEVEL_FULL : STG_LEVEL_SOME;
	atomic_int *most = &p->run->count.level_most;
	int level = stg_level_step(&p->level, how, clock_mono_ns(), work_ns(p));

	/* Two sessions at once may lose one: the report tells roughly. */
	if (level > atomic_load_explicit(most, memory_order_relaxed))
		atomic_store_explicit(most, level, memory_order_relaxed);
	return level;
}

static int pack(struct peer *p, bool flush, struct err *e)
{
	size_t raw = buf_len(&p->out), packed = buf_len(&p->wire);
	int r;

	if (!p->pack || !raw || packed >= PEER_OUT_BYTES)
		return 0;
	if (p->run->level == TP_LEVEL_AUTO && p->features & TP_FEATURE_LEVELS)
		tp_pack_set_level(p->pack, tp_pack_shrinks(p->pack) ? next_level(p) :
								      STG_LEVEL_LEAST);
	r = tp_pack(p->pack, &p->out, flush, &p->wire, e);
	atomic_fetch_add_explicit(&p->run->count.raw, raw - buf_len(&p->out),
				  memory_order_relaxed);
	atomic_fetch_add_explicit(&p->run->count.packed, buf_len(&p->wire) - packed,
				  memory_order_relaxed);
	return r;
}

static int ask_sync(struct peer *p, struct err *e)
{
	uint32_t want = (uint32_t)atomic_load(&p->run->sync);

	if (want > p->synced) {
		p->synced = want;
		if (tp_put_number(&p->out, TP_SYNC, want) < 0)
			return err_set(e, -ENOMEM, "send: out of memory");
	}
	if (clock_mono_ns() - p->wrote_ns > PING_NS && !buf_len(&p->out) && !buf_len(&p->wire)) {
		p->wrote_ns = clock_mono_ns();
		if (tp_frame_put(&p->out, TP_PING, 0, 0, bytes_of(NULL, 0)) < 0)
			return err_set(e, -ENOMEM, "send: out of memory");
	}
	return 0;
}

static bool nothing_owed(const struct peer *p)
{
	return !p->held && p->sent == p->acked && !buf_len(&p->out) && !buf_len(&p->wire) &&
	       atomic_load(&p->durable) >= p->synced;
}

static bool has_room(const struct peer *p)
{
	return buf_len(&p->out) + buf_len(&p->wire) < p->ahead;
}

/* Fill p->out while there is room and work.  1: something was produced. */
static int produce(struct peer *p, struct err *e)
{
	int r = ask_sync(p, e), done = 0, quiet = 0;

	/* What is ready on a slow link was packed before it was known how slow that is. */
	if (p->provided && !buf_len(&p->wire))
		p->ahead = MIN(2 * p->ahead, (size_t)PEER_OUT_BYTES);
	/* A file that is only read gives no output: what there is must not wait for its end. */
	while (r >= 0 && quiet < QUIET_STEPS && has_room(p)) {
		size_t had = buf_len(&p->out);

		r = peer_generate(p, e);
		if (r <= 0)
			break;
		done = 1;
		quiet += buf_len(&p->out) == had;
		if (buf_len(&p->out) >= TP_BLOCK_RAW_MAX)
			r = pack(p, false, e);
	}
	p->provided = !has_room(p);
	return r < 0 ? r : done;
}

static int wait_link(struct peer *p, struct err *e)
{
	bool admitted = atomic_load(&p->run->admitted);
	bool want_work = p->ready && admitted && peer_wants_job(p) && has_room(p);
	int pause_ms = stg_bwlimit_pause_ms(p->run->bwlimit, buf_len(&p->wire));
	struct epoll_event ev = { .events = EPOLLIN };
	uint64_t woken;
	int r;

	if (want_work != p->watching) {
		if (epoll_ctl(p->epoll_fd, want_work ? EPOLL_CTL_ADD : EPOLL_CTL_DEL,
			      stg_queue_fd(p->run->queue), &ev) < 0)
			return err_sys(e, "session thread: epoll_ctl");
		p->watching = want_work;
	}
	r = p->link->ops->wait(p->link, buf_len(&p->wire) && !pause_ms, p->epoll_fd,
			       pause_ms ? pause_ms : 200);
	if (r < 0)
		return link_error(p, r, e);
	/* Nothing to read is as good: what woke us is looked at in any case. */
	if (read(p->wake_fd, &woken, sizeof(woken)) < 0 && errno != EAGAIN)
		return err_sys(e, "session thread: eventfd");
	return 0;
}

/* One connection, from its HELLO to its end.  0: the work is done. */
static int converse(struct peer *p, struct stg_senders *s, struct err *e)
{
	int r;

	for (;;) {
		int busy = 0;

		if (stg_queue_stopped(p->run->queue))
			return err_set(e, -ERR_CANCELLED, "stopped");
		r = read_link(p, e);
		if (r < 0)
			return r;
		busy |= r;
		if (p->ready && atomic_load(&p->run->admitted)) {
			r = produce(p, e);
			if (r < 0)
				return r;
			busy |= r;
			if (atomic_load(&s->ending) && nothing_owed(p))
				return 0;
		}
		r = pack(p, true, e);
		if (r < 0)
			return r;
		r = write_link(p, e);
		if (r < 0)
			return r;
		busy |= r;
		if (!busy || stg_bwlimit_pause_ms(p->run->bwlimit, buf_len(&p->wire))) {
			r = wait_link(p, e);
			if (r < 0)
				return r;
		}
	}
}

/* --- connections --- */

static int make_hello(struct peer *p, struct buf *ret, struct err *e)
{
	struct tp_hello m = {
		.version_min = TP_VERSION_MIN,
		.version_max = TP_VERSION_MAX,
		.features = TP_FEATURE_ZSTD | TP_FEATURE_CHECK | TP_FEATURE_LEVELS,
		.flags = p->run->verify ? 0 : TP_H_CREATE_ROOT,
		.session = (uint16_t)p->index,
		.idle_s = p->run->opt->timeout_s,
		.run = p->run->id,
		.root = p->run->target_root,
	};
	_cleanup_(buf_fini) struct buf hello = BUF_INIT;
	struct tp_pack *plain = NULL;
	int r;

	if (p->run->opt->mkpath && !p->run->verify)
		m.flags |= TP_H_MKPATH;
	/* Features are not agreed yet, so this goes out plain. */
	r = tp_pack_new(TP_LEVEL_OFF, &plain, e);
	if (r == 0 && (buf_put(ret, TP_MAGIC, TP_MAGIC_BYTES) < 0 ||
		       tp_put_hello_d(&hello, &m) < 0))
		r = err_set(e, -ENOMEM, "connect: out of memory");
	if (r == 0)
		r = tp_pack(plain, &hello, true, ret, e);
	tp_pack_free(plain);
	return r;
}

static int open_connection(struct peer *p, struct err *e)
{
	_cleanup_(buf_fini) struct buf hello = BUF_INIT;
	int r = make_hello(p, &hello, e);

	if (r == 0)
		r = p->run->connector->connect(p->run->connector, p->stats.reconnects > 0,
					       buf_view(&hello), &p->link, e);
	if (r < 0)
		return r;
	/* Logging in is not held back: it is little, and has time limits of its own. */
	p->accepted = p->charged = p->link->bytes_written;
	p->magic = p->hello = p->ready = false;
	p->synced = 0;
	p->ahead = PEER_OUT_LEAST;
	p->provided = false;
	p->level = stg_level_begin(atomic_load(&p->run->connector->trip_ns));
	atomic_store(&p->durable, 0);
	p->heard_ns = p->wrote_ns = clock_mono_ns();
	r = tp_unpack_new(&p->unpack, e);
	if (r == 0)
		r = tp_hash_new(&p->hash, e);
	return r;
}

/* A good-bye that the receiver answers by ending; a dead link is just dropped. */
static void say_bye(struct peer *p)
{
	struct tp_exit status;
	struct err e = { 0 };

	if (tp_frame_put(&p->out, TP_BYE, 0, 0, bytes_of(NULL, 0)) < 0 || pack(p, true, &e) < 0)
		return;
	for (int i = 0; i < 50 && buf_len(&p->wire); i++)
		if (write_link(p, &e) < 0 || (buf_len(&p->wire) && wait_link(p, &e) < 0))
			return;
	p->link->ops->finish(p->link, 2000, &status);
}

static void count_wire(struct peer *p)
{
	if (!p->link)
		return;
	p->stats.bytes_wire_out = p->wire_out_before + p->link->bytes_written;
	p->stats.bytes_wire_in = p->wire_in_before + p->link->bytes_read;
}

static void close_connection(struct peer *p)
{
	struct stg_run *run = p->run;

	count_wire(p);
	p->wire_out_before = p->stats.bytes_wire_out;
	p->wire_in_before = p->stats.bytes_wire_in;
	tp_link_close(TAKE_PTR(p->link));
	tp_pack_free(TAKE_PTR(p->pack));
	tp_unpack_free(TAKE_PTR(p->unpack));
	tp_hash_free(TAKE_PTR(p->hash));
	buf_clear(&p->out);
	buf_clear(&p->wire);
	buf_clear(&p->in_wire);
	buf_clear(&p->in);
	if (p->ready) {
		pthread_mutex_lock(&run->lock);
		run->ready--;
		pthread_cond_broadcast(&run->changed);
		pthread_mutex_unlock(&run->lock);
	}
	p->ready = false;
	atomic_store(&p->connected, false);
}

/* Can a new connection help? */
static bool is_transient(int code)
{
	return code == -ERR_LOST || code == -ERR_CONNECT || code == -ERR_CONNECT_TIMEOUT ||
	       code == -ERR_HANGUP || code == -ERR_LOCKED || code == -ECONNRESET ||
	       code == -EPIPE || code == -ETIMEDOUT;
}

/* Wait before the next attempt: 1, 2, 4 ... seconds, half of it by chance. */
static void back_off(struct peer *p, unsigned attempt)
{
	int64_t s = MIN(1LL << MIN(attempt, 10u), (int64_t)BACKOFF_MAX_S);
	int64_t ns = s * 500000000 + (int64_t)((uint64_t)clock_real_ns() % 1000) * s * 500000;
	int64_t until = clock_mono_ns() + ns;

	while (clock_mono_ns() < until && !stg_queue_stopped(p->run->queue))
		nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
}

/* Connections one after the other until the work is done. */
static int serve(struct peer *p, struct stg_senders *s, struct err *e)
{
	bool was_ready = false;
	unsigned attempt = 0;

	for (;;) {
		int r = open_connection(p, e);

		if (r == 0)
			r = converse(p, s, e);
		if (r == 0)
			say_bye(p);
		was_ready |= p->ready;
		if (p->ready)
			attempt = 0;
		close_connection(p);
		if (r == 0)
			return 0;
		if (peer_give_back(p, e) < 0)
			return -ENOMEM;
		/* A stop ends what waits for the target, too, with whatever error that has. */
		if (r == -ERR_CANCELLED || stg_queue_stopped(p->run->queue))
			return -ERR_CANCELLED;
		/* A receiver of our own that has not noticed yet may hold the root. */
		if (r == -ERR_LOCKED && !was_ready)
			return r;
		/* One session that cannot be opened does not matter while another one works. */
		if (!was_ready && p->index) {
			log_info("session %u: %s: going on without it", p->index, e->text);
			return 0;
		}
		/* What never worked will not work by waiting, unless another session does. */
		if (!is_transient(r) || p->run->manual || !was_ready)
			return r;
		if (atomic_load(&s->ending) && !p->held &&
		    stg_queue_waiting(p->run->queue, NULL) == 0)
			return 0;
		log_info("session %u: %s: reconnecting", p->index, e->text);
		p->stats.reconnects++;
		atomic_fetch_add(&p->run->count.reconnects, 1);
		*e = (struct err){ 0 };
		back_off(p, attempt++);
	}
}

/* Is there enough to do for one session more? */
static bool has_work(struct stg_run *run, unsigned sessions)
{
	uint64_t content;
	size_t jobs = stg_queue_waiting(run->queue, &content);

	return jobs >= (size_t)sessions * JOBS_PER_SESSION ||
	       (jobs && content >= sessions * CONTENT_PER_SESSION);
}

/*
 * The same for what has been found, whoever has it by now: one big file is one job, and much
 * work for all.
 */
static bool has_content(struct stg_run *run, unsigned sessions)
{
	uint64_t found = atomic_load(&run->count.planned_bytes);
	uint64_t done = atomic_load(&run->count.literal) + atomic_load(&run->count.matched);

	return found >= done + sessions * CONTENT_PER_SESSION && stg_queue_busy(run->queue);
}

/* Sleep so long, or until somebody wakes the sessions. */
static void rest(struct peer *p, int ms)
{
	struct pollfd f = { .fd = p->wake_fd, .events = POLLIN };
	uint64_t woken;

	if (poll(&f, 1, ms) > 0)
		(void)!read(p->wake_fd, &woken, sizeof(woken));
}

/*
 * The first session is always there, and in a full sync those that may be will be needed;
 * else a further one waits until there is work for it.
 */
static bool wait_for_work(struct peer *p, struct stg_senders *s)
{
	struct stg_run *run = p->run;

	while (p->index) {
		bool may = p->index < atomic_load(&run->allowed);

		if (stg_queue_stopped(run->queue) || atomic_load(&s->ending))
			return false;
		if (may && (run->eager || has_work(run, p->index) || has_content(run, p->index)))
			return true;
		rest(p, may ? 5 : 20);
	}
	return true;
}

/* Ticks of the processors since the host was started: those at work, and all. */
static void read_ticks(uint64_t *ret_busy, uint64_t *ret_all)
{
	unsigned long long v[8] = { 0 };
	FILE *f = fopen("/proc/stat", "re");

	*ret_busy = *ret_all = 0;
	if (!f)
		return;
	/* user nice system idle iowait irq softirq steal */
	if (fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2], &v[3],
		   &v[4], &v[5], &v[6], &v[7]) == 8) {
		for (size_t i = 0; i < ARRAY_SIZE(v); i++)
			*ret_all += v[i];
		*ret_busy = *ret_all - v[3] - v[4];
	}
	fclose(f);
}

void stg_senders_tune(struct stg_senders *s)
{
	struct stg_run *run = s->run;
	struct stg_tune_now now = {
		.ns = clock_mono_ns(),
		.bytes = atomic_load(&run->count.wire_out),
		.trip_ns = atomic_load(&run->connector->trip_ns),
		.waits_window = atomic_load(&run->count.waits_window),
		.waits_line = atomic_load(&run->count.waits_line),
	};
	unsigned before = s->tune.allowed;

	if (s->tune.settled)
		return;
	pthread_mutex_lock(&run->lock);
	now.ready = run->ready;
	pthread_mutex_unlock(&run->lock);
	now.work = has_work(run, s->tune.allowed);
	read_ticks(&now.cpu_busy, &now.cpu_all);
	stg_tune_step(&s->tune, &now);
	atomic_store(&run->allowed, s->tune.allowed);
	if (s->tune.allowed != before)
		log_debug("up to %u sessions: %s", s->tune.allowed, s->tune.reason);
}

void stg_senders_tuning(const struct stg_senders *s, struct stg_tuning *ret)
{
	ret->in_flight_bytes = PEER_OUT_BYTES;
	if (!s)
		return;
	ret->sessions = s->tune.allowed;
	ret->sessions_reason = s->tune.reason;
}

static void *sender_main(void *arg)
{
	struct sender_arg *a = arg;
	struct stg_senders *s = a->senders;
	struct peer *p = &s->peers[a->index];
	struct err e = { 0 };
	int r = 0;

	free(a);
	/* A working directory of its own: see send_special() in transmit.c. */
	if (unshare(CLONE_FS) < 0)
		r = err_sys(&e, "session thread: unshare");
	p->sched_fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
	p->scratch = malloc(PEER_SCRATCH);
	if (r == 0 && !p->scratch)
		r = err_set(&e, -ENOMEM, "session thread: out of memory");
	if (r == 0 && wait_for_work(p, s))
		r = serve(p, s, &e);
	if (r < 0 && r != -ERR_CANCELLED)
		stg_run_fail(p->run, &e);
	pthread_mutex_lock(&p->run->lock);
	p->run->ended++;
	pthread_cond_broadcast(&p->run->changed);
	pthread_mutex_unlock(&p->run->lock);
	return NULL;
}

static void peer_init(struct peer *p, struct stg_run *run, unsigned index)
{
	p->run = run;
	p->index = index;
	p->ready_last = &p->ready_first;
	p->source_fd = -1;
	p->stats.index = index;
	p->wake_fd = -1;
	p->epoll_fd = -1;
	p->sched_fd = -1;
}

static int peer_open_fds(struct peer *p, struct err *e)
{
	struct epoll_event ev = { .events = EPOLLIN };

	p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (p->wake_fd < 0 || p->epoll_fd < 0 ||
	    epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, p->wake_fd, &ev) < 0)
		return err_sys(e, "start session: epoll");
	return 0;
}

static void peer_fini(struct peer *p)
{
	buf_fini(&p->out);
	buf_fini(&p->wire);
	buf_fini(&p->in_wire);
	buf_fini(&p->in);
	buf_fini(&p->xattrs);
	buf_fini(&p->path);
	buf_fini(&p->dir_path);
	buf_fini(&p->source_path);
	free(p->flights);
	free(p->scratch);
	for (size_t i = 0; i < 4; i++) {
		int fd = (int[]){ p->source_fd, p->wake_fd, p->epoll_fd, p->sched_fd }[i];

		if (fd >= 0)
			close(fd);
	}
}

static int start_thread(struct stg_senders *s, unsigned i, struct err *e)
{
	struct sender_arg *a = malloc(sizeof(*a));
	int r;

	if (!a)
		return err_set(e, -ENOMEM, "start session: out of memory");
	*a = (struct sender_arg){ .senders = s, .index = i };
	r = -pthread_create(&s->threads[i], NULL, sender_main, a);
	if (r < 0) {
		free(a);
		return err_sysn(e, r, "start session thread");
	}
	s->n++;
	return 0;
}

int stg_senders_start(struct stg_run *run, struct stg_senders **ret, struct err *e)
{
	struct stg_senders *s = calloc(1, sizeof(*s));
	int r = 0;

	if (s) {
		s->threads = calloc(run->sessions, sizeof(*s->threads));
		s->peers = calloc(run->sessions, sizeof(*s->peers));
	}
	if (!s || !s->threads || !s->peers) {
		if (s) {
			free(s->threads);
			free(s->peers);
		}
		free(s);
		return err_set(e, -ENOMEM, "start sessions: out of memory");
	}
	s->run = run;
	stg_tune_init(&s->tune, run->sessions_asked, (unsigned)get_nprocs());
	atomic_store(&run->allowed, s->tune.allowed);
	run->connector->stop = &run->stopping;
	for (unsigned i = 0; i < run->sessions; i++)
		peer_init(&s->peers[i], run, i);
	for (unsigned i = 0; i < run->sessions && r == 0; i++) {
		r = peer_open_fds(&s->peers[i], e);
		if (r == 0)
			r = start_thread(s, i, e);
	}
	if (r < 0) {
		stg_queue_stop(run->queue);
		stg_senders_join(s);
		stg_senders_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

bool stg_senders_durable(struct stg_senders *s, uint32_t epoch)
{
	unsigned answered = 0;

	for (unsigned i = 0; i < s->n; i++) {
		struct peer *p = &s->peers[i];

		if (!atomic_load(&p->connected))
			continue;
		if (atomic_load(&p->durable) < epoch)
			return false;
		answered++;
	}
	return answered > 0;
}

bool stg_senders_stats(struct stg_senders *s, size_t i, struct stg_session_stats *ret)
{
	if (!s || i >= s->n || !s->peers[i].stats.bytes_wire_out)
		return false;
	*ret = s->peers[i].stats;
	return true;
}

void stg_senders_wake(struct stg_senders *s)
{
	uint64_t one = 1;

	for (unsigned i = 0; i < s->n; i++)
		/* A counter that is full has woken it already. */
		if (write(s->peers[i].wake_fd, &one, sizeof(one)) < 0)
			continue;
}

void stg_senders_join(struct stg_senders *s)
{
	atomic_store(&s->ending, true);
	stg_senders_wake(s);
	for (unsigned i = 0; i < s->n; i++)
		pthread_join(s->threads[i], NULL);
	s->run->connector->stop = NULL;
}

void stg_senders_free(struct stg_senders *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < s->run->sessions; i++)
		peer_fini(&s->peers[i]);
	free(s->threads);
	free(s->peers);
	free(s);
}
