/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread: frames are handled in the order of the wire, and between them, or when there
 * is nothing to read, listings and signatures get on by a slice.
 */
#include "transport/receive/receive.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>

#include "common/buf.h"
#include "common/io.h"
#include "transport/frame.h"
#include "transport/receive/check.h"
#include "transport/receive/dirs.h"
#include "transport/receive/env.h"
#include "transport/receive/file.h"
#include "transport/receive/list.h"
#include "transport/receive/node.h"
#include "transport/receive/range.h"
#include "transport/receive/root.h"
#include "transport/receive/segment.h"
#include "transport/receive/sign.h"
#include "transport/stream.h"

#define READ_BYTES        (128u << 10)
#define OUT_BYTES         (128u << 10) /* of frames, before they are sent anyway */
#define FRAMES_PER_SLICE  64
#define GREETING_IDLE_S   60 /* until HELLO says */
#define NS_PER_S          1000000000ll

/* Ends of the conversation that are no failure of ours. */
#define GONE (-ERR_LOST)

struct conv {
	const struct rcv_opts *o;
	struct rcv_root root;
	struct rcv_env env;
	struct rcv_files *files;
	struct rcv_segments *segs;
	struct rcv_jobs jobs;
	struct tp_unpack *unpack;
	struct tp_pack *pack;
	struct buf wire, in, out, packed; /* read, unpacked, frames to send, to write */
	uint64_t done, acked; /* completions; done counts the one at work too */
	bool completing;      /* there is one at work */
	int64_t heard_ns, idle_ns;
	bool bye;
	int abort_code;       /* enum tp_abort, when a function has failed */
};

static int aborts(struct conv *c, int code, int r)
{
	c->abort_code = code;
	return r;
}

static int no_memory(struct conv *c, struct err *e)
{
	return aborts(c, TP_ABORT_IO, err_set(e, -ENOMEM, "the receiver is out of memory"));
}

/* --- output --- */

/*
 * A driver that is gone without a word takes nothing any more: that must not hold us, and the
 * root's lock, for longer than its silence does.  What poll() promises of a pipe or a socket
 * is room for PIPE_BUF bytes.
 */
static int write_out(struct conv *c, struct bytes v)
{
	int64_t until = clock_mono_ns() + c->idle_ns;

	while (v.n) {
		struct pollfd p = { .fd = c->o->out_fd, .events = POLLOUT };
		int64_t left = until - clock_mono_ns();
		ssize_t n;
		int r;

		if (c->idle_ns && left <= 0)
			return -ETIMEDOUT;
		r = poll(&p, 1, c->idle_ns ? (int)MIN(left / 1000000 + 1, 3600000) : -1);
		if (r < 0 && errno != EINTR)
			return -errno;
		if (r <= 0)
			continue;
		n = write(c->o->out_fd, v.p, MIN(v.n, (size_t)PIPE_BUF));
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		if (n <= 0)
			continue;
		v = bytes_of(v.p + n, v.n - (size_t)n);
		until = clock_mono_ns() + c->idle_ns;
	}
	return 0;
}

static int push(struct conv *c, bool all, struct err *e)
{
	struct bytes v;
	int r;

	r = tp_pack(c->pack, &c->out, all, &c->packed, e);
	if (r < 0)
		return aborts(c, TP_ABORT_IO, r);
	v = buf_view(&c->packed);
	r = write_out(c, v);
	buf_clear(&c->packed);
	return r < 0 ? err_sysn(e, GONE, "the driver is gone") : 0;
}

/* Send what is owed. */
static int flush(struct conv *c, struct err *e)
{
	if (c->done != c->acked) {
		if (tp_put_number(&c->out, TP_ACK, c->done) < 0)
			return no_memory(c, e);
		c->acked = c->done;
	}
	return buf_len(&c->out) || buf_len(&c->packed) ? push(c, true, e) : 0;
}

static int put_refusal(struct conv *c, uint8_t type, const struct rcv_fault *f)
{
	struct tp_refusal m = {
		.n = c->done,
		.error = (uint32_t)-f->code,
		.operation = bytes_str(f->op),
		.text = bytes_str(f->text),
	};

	return tp_put_refusal(&c->out, type, &m);
}

static void on_warn(void *arg, const struct rcv_fault *f)
{
	struct conv *c = arg;

	/* Without memory for a warning there is none for the next frame either. */
	if (put_refusal(c, TP_WARN, f) < 0)
		c->abort_code = TP_ABORT_IO;
}

static void on_calm(void *arg)
{
	struct conv *c = arg;
	struct err e = { 0 };

	/* A completion at work is not done yet. */
	c->done -= c->completing;
	if (flush(c, &e) < 0)
		c->bye = true;
	c->done += c->completing;
}

static const struct rcv_hooks hooks = { .warn = on_warn, .calm = on_calm };

/* --- frames --- */

typedef int handler(struct conv *c, const struct tp_frame *f, struct err *e);

static int malformed(struct conv *c, struct err *e, const char *what)
{
	return aborts(c, TP_ABORT_PROTOCOL, err_set(e, -ERR_PROTOCOL, "%s", what));
}

/* r: what a decoder of frame.h returned. */
static int decoded(struct conv *c, int r)
{
	return r < 0 ? aborts(c, TP_ABORT_PROTOCOL, r) : 0;
}

/* The outcome of a completion goes to the driver. */
static int complete(struct conv *c, int r, struct err *e)
{
	if (r == -ERR_PROTOCOL)
		return malformed(c, e, c->env.fault.text);
	if (r < 0 && put_refusal(c, TP_REFUSE, &c->env.fault) < 0)
		return no_memory(c, e);
	return 0;
}

/* What a function of the slots returned, where nothing completes. */
static int proceed(struct conv *c, int r, struct err *e)
{
	if (r == -ERR_PROTOCOL)
		return malformed(c, e, c->env.fault.text);
	return r < 0 ? aborts(c, TP_ABORT_IO, err_set(e, r, "%s", c->env.fault.text)) : 0;
}

static int take_name(struct conv *c, struct bytes name, struct err *e)
{
	return tp_name_ok(name) ? 0 : malformed(c, e, "a name that cannot be");
}

static int take_path(struct conv *c, struct bytes path, struct err *e)
{
	return !path.n || tp_path_ok(path) ? 0 : malformed(c, e, "a path that cannot be");
}

/* A request that needs the current directory: run it, once more if that was removed. */
typedef int in_dir(struct rcv_env *v, const void *m);

static int run_in_dir(struct conv *c, in_dir *fn, const void *m)
{
	struct rcv_env *v = &c->env;
	int r;

	if (!v->cur) {
		v->fault = v->cur_fault;
		return v->fault.code;
	}
	r = fn(v, m);
	if (!rcv_dir_lost(v->cur, r))
		return r;
	r = rcv_dir_renew(v, &v->cur);
	return r < 0 ? r : fn(v, m);
}

static int on_dir(struct conv *c, const struct tp_frame *f, struct err *e)
{
	struct bytes path;
	int r = decoded(c, tp_get_path(f, &path, e));

	if (r == 0)
		r = take_path(c, path, e);
	if (r < 0)
		return r;
	if (f->flags & TP_F_AFRESH)
		rcv_dirs_forget(c->env.dirs);
	/* What goes wrong here is told by the completions in it. */
	(void)rcv_dirs_enter(&c->env, path, f->flags & TP_F_CREATE);
	return 0;
}

static int get_entry(struct conv *c, const struct tp_frame *f, struct tp_entry *m, struct err *e)
{
	int r = decoded(c, tp_get_entry(f, m, e));

	return r < 0 ? r : take_name(c, m->name, e);
}

static int do_entry(struct rcv_env *v, const void *m)
{
	return rcv_node_entry(v, m);
}

static int on_entry(struct conv *c, const struct tp_frame *f, struct err *e)
{
	struct tp_entry m = { 0 };
	int r = get_entry(c, f, &m, e);

	if (r < 0)
		return r;
	if (S_ISDIR(m.meta.mode))
		return malformed(c, e, "ENTRY of a directory");
	return complete(c, run_in_dir(c, do_entry, &m), e);
}

static int do_file(struct rcv_env *v, const void *m)
{
	return rcv_file_whole(v, m);
}

static int on_file(struct conv *c, const struct tp_frame *f, struct err *e)
{
	struct tp_entry m = { 0 };
	int r = get_entry(c, f, &m, e);

	if (r < 0)
		return r;
	if (!S_ISREG(m.meta.mode))
		return malformed(c, e, "FILE of another type");
	return complete(c, run_in_dir(c, do_file, &m), e);
}

static int on_open(struct conv *c, const struct tp_frame *f, struct err *e)
{
	struct tp_entry m = { 0 };
	int r = get_entry(c, f, &m, e);

	if (r < 0)
		return r;
	if (!S_ISREG(m.meta.mode))
		return malformed(c, e, "OPEN of another type");
	if (rcv_jobs_busy(&c->jobs, f->slot) || rcv_segments_busy(c->segs, f->slot))
		return malformed(c, e, "OPEN in a slot that is in use");
	return proceed(c, rcv_files_open(&c->env, c->files, f->slot, &m, f->flags & TP_F_BASIS),
		       e);
}

static int on_data(struct conv *c, const struct tp_frame *f, struct err *e)
{
	struct bytes data;
	uint64_t off;
	int r = decoded(c, tp_get_data(f, &off, &data, e));

	if (r == 0 && rcv_segments_busy(c->segs, f->slot))
		return proceed(c, rcv_segments_data(&c->env, c->segs, f->slot, off, data), e);
	return r < 0 ? r : proceed(c, rcv_files_data(&c->env, c->files, f->slot, off, data), e);
}

static int on_hole(struct conv *c, const struct tp_frame *f, struct err *e)
{
	uint64_t off, n;
	int r = decoded(c, tp_get_hole(f, &off, &n, e));

	if (r == 0 && rcv_segments_busy(c->segs, f->slot))
		return proceed(c, rcv_segments_hole(&c->env, c->segs, f->slot, off, n), e);
	return r < 0 ? r : proceed(c, rcv_files_hole(&c->env, c->files, f->slot, off, n), e);
}

static int on_delta(struct conv *c, const struct tp_frame *f, struct err *e)
{
	return proceed(c, rcv_files_delta(&c->env, c->files, f->slot, f->payload), e);
}

static int on_close(struct conv *c, const struct tp_frame *f, struct err *e)
{
	struct tp_hash_value hash;
	uint64_t size;
	int r = decoded(c, tp_get_close(f, &size, &hash, e));

	if (r == 0 && rcv_segments_busy(c->segs, f->slot))
		return complete(c, rcv_segments_close(&c->env, c->segs, f->slot, size, &hash), e);
	return r < 0 ? r :
		       complete(c, rcv_files_close(&c->env, c->files, f->slot, size, &hash), e);
}

static int on_drop(struct conv *c, const struct tp_frame *f, struct err *e)
{
	if (rcv_segments_busy(c->segs, f->slot))
		return proceed(c, rcv_segments_drop(&c->env, c->segs, f->slot), e);
	return proceed(c, rcv_files_drop(&c->env, c->files, f->slot), e);
}

static bool slot_busy(const struct conv *c, uint16_t slot)
{
	return rcv_jobs_busy(&c->jobs, slot) || rcv_files_busy(c->files, slot) ||
	       rcv_segments_busy(c->segs, slot);
}

static int on_segment(struct conv *c, const struct tp_frame *f, struct err *e)
{
	struct tp_range m;
	int r = decoded(c, tp_get_segment(f, &m, e));

	if (r < 0)
		return r;
	if (slot_busy(c, f->slot))
		return malformed(c, e, "SEGMENT in a slot that is in use");
	return proceed(c, rcv_segments_open(&c->env, c->segs, f->slot, &m, f->flags), e);
}

static int on_copy(struct conv *c, const struct tp_frame *f, struct err *e)
{
	struct tp_copy m;
	int r = decoded(c, tp_get_copy(f, &m, e));

	return r < 0 ? r : proceed(c, rcv_segments_copy(&c->env, c->segs, f->slot, &m), e);
}

static int do_finish(struct rcv_env *v, const void *m)
{
	return rcv_segments_finish(v, m, false);
}

static int do_finish_create(struct rcv_env *v, const void *m)
{
	return rcv_segments_finish(v, m, true);
}

static int on_finish(struct conv *c, const struct tp_frame *f, struct err *e)
{
	struct tp_entry m = { 0 };
	int r = get_entry(c, f, &m, e);

	if (r < 0)
		return r;
	return complete(c, run_in_dir(c, f->flags & TP_F_CREATE ? do_finish_create : do_finish,
				      &m), e);
}

static int do_meta(struct rcv_env *v, const void *m)
{
	return rcv_node_meta(v, m, false);
}

static int do_meta_hash(struct rcv_env *v, const void *m)
{
	return rcv_node_meta(v, m, true);
}

static int on_meta(struct conv *c, const struct tp_frame *f, struct err *e)
{
	struct tp_entry m = { 0 };
	int r = get_entry(c, f, &m, e);

	if (r < 0)
		return r;
	r = run_in_dir(c, f->flags & TP_F_HASH ? do_meta_hash : do_meta, &m);
	if (r == -ENOENT && c->env.cur)
		r = rcv_fail(&c->env, -(int)TP_E_STALE, "set metadata", "it is not there");
	return complete(c, r, e);
}

static int do_link(struct rcv_env *v, const void *m)
{
	return rcv_node_link(v, m);
}

static int on_names(struct conv *c, const struct tp_frame *f,
		    int (*act)(struct rcv_env *v, const void *m), struct err *e)
{
	struct tp_link_msg m;
	int r = decoded(c, tp_get_link(f, &m, e));

	if (r == 0)
		r = take_path(c, m.dir, e);
	if (r == 0)
		r = take_name(c, m.from, e);
	if (r == 0)
		r = take_name(c, m.name, e);
	return r < 0 ? r : complete(c, run_in_dir(c, act, &m), e);
}

static int on_link(struct conv *c, const struct tp_frame *f, struct err *e)
{
	return on_names(c, f, do_link, e);
}

static int do_move(struct rcv_env *v, const void *m)
{
	return rcv_node_move(v, m);
}

static int on_move(struct conv *c, const struct tp_frame *f, struct err *e)
{
	return on_names(c, f, do_move, e);
}

static int do_remove(struct rcv_env *v, const void *m)
{
	return rcv_node_remove(v, *(const struct bytes *)m, false);
}

static int do_rmdir(struct rcv_env *v, const void *m)
{
	return rcv_node_remove(v, *(const struct bytes *)m, true);
}

static int on_remove(struct conv *c, const struct tp_frame *f, struct err *e)
{
	struct bytes name;
	int r = decoded(c, tp_get_remove(f, &name, e));

	if (r == 0)
		r = take_name(c, name, e);
	if (r < 0)
		return r;
	r = run_in_dir(c, f->flags & TP_F_DIRECTORY ? do_rmdir : do_remove, &name);
	/* Gone, be it with the directory that it was in. */
	return complete(c, r == -ENOENT ? 0 : r, e);
}

static int on_dirmeta(struct conv *c, const struct tp_frame *f, struct err *e)
{
	struct tp_entry m = { 0 };
	int r = decoded(c, tp_get_entry(f, &m, e));

	if (r == 0)
		r = take_path(c, m.name, e);
	if (r < 0)
		return r;
	if (!S_ISDIR(m.meta.mode))
		return malformed(c, e, "DIRMETA of another type");
	return complete(c, rcv_node_dirmeta(&c->env, &m), e);
}

/* What a comparison found goes to the driver, as what it could not look at does. */
static int checked(struct conv *c, int r, struct tp_difference *d, struct err *e)
{
	if (r < 0 || !d->what)
		return complete(c, r, e);
	d->n = c->done;
	return tp_put_difference(&c->out, d) < 0 ? no_memory(c, e) : 0;
}

static int on_check(struct conv *c, const struct tp_frame *f, struct err *e)
{
	struct tp_difference d = { 0 };
	struct tp_entry m = { 0 };
	int r = decoded(c, tp_get_entry(f, &m, e));

	if (r < 0)
		return r;
	return checked(c, rcv_check(&c->env, &m, f->flags, &d), &d, e);
}

static int on_checklink(struct conv *c, const struct tp_frame *f, struct err *e)
{
	struct tp_difference d = { 0 };
	struct tp_link_msg m;
	int r = decoded(c, tp_get_link(f, &m, e));

	return r < 0 ? r : checked(c, rcv_check_link(&c->env, &m, &d), &d, e);
}

static int start(struct conv *c, struct rcv_job *job, struct err *e)
{
	if (slot_busy(c, job->slot)) {
		job->free(job);
		return malformed(c, e, "a slot that is in use");
	}
	return decoded(c, rcv_jobs_add(&c->jobs, job, e));
}

static int on_list(struct conv *c, const struct tp_frame *f, struct err *e)
{
	struct rcv_job *job;
	struct bytes path;
	int r = decoded(c, tp_get_path(f, &path, e));

	if (r == 0)
		r = take_path(c, path, e);
	if (r < 0)
		return r;
	if (rcv_list_new(f->slot, path, f->flags & TP_F_RECURSE, &job, e) < 0)
		return no_memory(c, e);
	return start(c, job, e);
}

static int on_sigreq(struct conv *c, const struct tp_frame *f, struct err *e)
{
	const struct rcv_dir *cur = c->env.cur;
	struct rcv_job *job;
	struct tp_sigreq m;
	struct rcv_name name;
	int r = decoded(c, tp_get_sigreq(f, &m, e));

	if (r == 0)
		r = take_name(c, m.name, e);
	if (r < 0)
		return r;
	rcv_name_of(m.name, &name);
	if (!cur || rcv_own_name(cur, name.s)) {
		int error = cur ? EPERM : -c->env.cur_fault.code;

		return rcv_sign_refuse(f->slot, error, &c->out) < 0 ? no_memory(c, e) : 0;
	}
	if (rcv_sign_new(f->slot, bytes_of(cur->path, cur->path_bytes), &m, &job, e) < 0)
		return no_memory(c, e);
	return start(c, job, e);
}

static int start_range(struct conv *c, const struct tp_frame *f, const struct tp_range *m,
		       struct err *e)
{
	const struct rcv_dir *cur = c->env.cur;
	struct rcv_job *job;

	if (!cur)
		return rcv_range_refuse(f->slot, m->block != 0, ENOENT, &c->out) < 0 ?
			       no_memory(c, e) : 0;
	if (rcv_range_new(f->slot, bytes_of(cur->path, cur->path_bytes), m, &job, e) < 0)
		return no_memory(c, e);
	return start(c, job, e);
}

static int on_hashreq(struct conv *c, const struct tp_frame *f, struct err *e)
{
	struct tp_range m;
	int r = decoded(c, tp_get_hashreq(f, &m, e));

	return r < 0 ? r : start_range(c, f, &m, e);
}

static int on_sumreq(struct conv *c, const struct tp_frame *f, struct err *e)
{
	struct tp_range m;
	int r = decoded(c, tp_get_sumreq(f, &m, e));

	return r < 0 ? r : start_range(c, f, &m, e);
}

static int on_sync(struct conv *c, const struct tp_frame *f, struct err *e)
{
	uint64_t epoch;
	int r = decoded(c, tp_get_number(f, &epoch, e));

	if (r == 0)
		r = flush(c, e);
	if (r < 0)
		return r;
	r = rcv_dirs_sync(&c->env, e);
	if (r < 0)
		return aborts(c, TP_ABORT_IO, r);
	if (tp_put_number(&c->out, TP_DURABLE, epoch) < 0)
		return no_memory(c, e);
	return flush(c, e);
}

static int on_ping(struct conv *c, const struct tp_frame *f, struct err *e)
{
	return f->payload.n ? malformed(c, e, "PING with a payload") : 0;
}

static int on_bye(struct conv *c, const struct tp_frame *f, struct err *e)
{
	if (f->payload.n)
		return malformed(c, e, "BYE with a payload");
	c->bye = true;
	return 0;
}

static int on_abort(struct conv *c, const struct tp_frame *f, struct err *e)
{
	(void)c;
	(void)f;
	return err_set(e, GONE, "the driver has given up");
}

static const struct {
	handler *handle;
	uint8_t flags; /* that may be set */
} table[] = {
	[TP_ABORT] = { on_abort, 0 },
	[TP_DIR] = { on_dir, TP_F_CREATE | TP_F_AFRESH },
	[TP_ENTRY] = { on_entry, 0 },
	[TP_FILE] = { on_file, 0 },
	[TP_OPEN] = { on_open, TP_F_BASIS },
	[TP_DATA] = { on_data, 0 },
	[TP_HOLE] = { on_hole, 0 },
	[TP_DELTA] = { on_delta, 0 },
	[TP_CLOSE] = { on_close, 0 },
	[TP_DROP] = { on_drop, 0 },
	[TP_META] = { on_meta, TP_F_HASH },
	[TP_LINK] = { on_link, 0 },
	[TP_REMOVE] = { on_remove, TP_F_DIRECTORY },
	[TP_DIRMETA] = { on_dirmeta, 0 },
	[TP_LIST] = { on_list, TP_F_RECURSE },
	[TP_SIGREQ] = { on_sigreq, 0 },
	[TP_SYNC] = { on_sync, 0 },
	[TP_PING] = { on_ping, 0 },
	[TP_BYE] = { on_bye, 0 },
	[TP_CHECK] = { on_check, TP_F_HASH | TP_F_LIVE | TP_F_PATH },
	[TP_CHECKLINK] = { on_checklink, 0 },
	[TP_SEGMENT] = { on_segment, TP_F_CREATE | TP_F_COPIES },
	[TP_COPY] = { on_copy, 0 },
	[TP_FINISH] = { on_finish, TP_F_CREATE },
	[TP_HASHREQ] = { on_hashreq, 0 },
	[TP_SUMREQ] = { on_sumreq, 0 },
	[TP_MOVE] = { on_move, 0 },
};

static int handle(struct conv *c, const struct tp_frame *f, struct err *e)
{
	int r;

	if (f->type >= ARRAY_SIZE(table) || !table[f->type].handle)
		return malformed(c, e, "a frame of an unknown type");
	if (f->flags & ~table[f->type].flags || f->slot >= TP_SLOT_MAX)
		return malformed(c, e, "a frame with unknown flags, or a slot that is too high");
	c->abort_code = 0;
	c->completing = tp_is_completion(f->type);
	c->done += c->completing;
	r = table[f->type].handle(c, f, e);
	c->completing = false;
	if (r == 0 && c->abort_code)
		return no_memory(c, e);
	if (r == 0 && c->done - c->acked >= TP_ACK_EVERY)
		return flush(c, e);
	if (r == 0 && buf_len(&c->out) >= OUT_BYTES)
		return push(c, false, e);
	return r;
}

/* --- input --- */

/* 1: there is something to read (or an end); 0: not within ms. */
static int readable(struct conv *c, int ms, struct err *e)
{
	struct pollfd p = { .fd = c->o->in_fd, .events = POLLIN };
	int r;

	do
		r = poll(&p, 1, ms);
	while (r < 0 && errno == EINTR);
	return r < 0 ? aborts(c, TP_ABORT_IO, err_sys(e, "wait for input")) : r > 0;
}

static int wait_input(struct conv *c, struct err *e)
{
	for (;;) {
		int64_t left = c->heard_ns + c->idle_ns - clock_mono_ns();
		int r;

		if (c->idle_ns && left <= 0)
			return aborts(c, TP_ABORT_IDLE,
				      err_set(e, -ERR_LOST, "nothing was heard for %lld s",
					      (long long)(c->idle_ns / NS_PER_S)));
		r = readable(c, c->idle_ns ? (int)MIN(left / 1000000 + 1, 3600000) : -1, e);
		if (r != 0)
			return r < 0 ? r : 0;
	}
}

static int read_some(struct conv *c, struct err *e)
{
	ssize_t n;

	if (buf_reserve(&c->wire, READ_BYTES) < 0)
		return no_memory(c, e);
	do
		n = read(c->o->in_fd, c->wire.p + c->wire.n, READ_BYTES);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return err_set(e, GONE, "the driver is gone");
	c->wire.n += (size_t)n;
	c->heard_ns = clock_mono_ns();
	return 0;
}

/* 1 and a frame, 0: more input is needed. */
static int next_frame(struct conv *c, struct tp_frame *f, struct err *e)
{
	for (;;) {
		int r = tp_frame_peek(&c->in, f, e);

		if (r != 0)
			return r < 0 ? aborts(c, TP_ABORT_PROTOCOL, r) : 1;
		r = tp_unpack(c->unpack, &c->wire, buf_len(&c->in) + 1, &c->in, e);
		if (r == -ENOMEM)
			return no_memory(c, e);
		if (r <= 0)
			return r < 0 ? aborts(c, TP_ABORT_PROTOCOL, r) : 0;
	}
}

static int slice(struct conv *c, struct err *e)
{
	int r = rcv_jobs_step(&c->jobs, &c->env, &c->out, e);

	if (r < 0)
		return aborts(c, TP_ABORT_IO, r);
	return buf_len(&c->out) >= OUT_BYTES ? push(c, false, e) : 0;
}

/* No frame is at hand: get on with jobs until there is input, or wait for it. */
static int starve(struct conv *c, struct err *e)
{
	int r = readable(c, 0, e);

	if (r == 0)
		r = flush(c, e);
	while (r == 0 && rcv_jobs_any(&c->jobs)) {
		r = slice(c, e);
		if (r == 0 && !rcv_jobs_any(&c->jobs))
			r = flush(c, e);
		if (r == 0)
			r = readable(c, 0, e);
	}
	if (r == 0)
		r = wait_input(c, e);
	return r < 0 ? r : read_some(c, e);
}

static int converse(struct conv *c, struct err *e)
{
	int frames = 0;

	while (!c->bye) {
		struct tp_frame f;
		int r = next_frame(c, &f, e);

		if (r == 1) {
			r = handle(c, &f, e);
			buf_consume(&c->in, tp_frame_bytes(&f));
			if (r == 0 && ++frames % FRAMES_PER_SLICE == 0 && rcv_jobs_any(&c->jobs))
				r = slice(c, e);
		} else if (r == 0) {
			r = starve(c, e);
		}
		if (r < 0)
			return r;
	}
	while (rcv_jobs_any(&c->jobs)) {
		int r = slice(c, e);

		if (r < 0)
			return r;
	}
	return flush(c, e);
}

/* --- the beginning --- */

static int greet(struct conv *c, struct err *e)
{
	struct tp_hello hello = {
		.version_min = TP_VERSION_MIN,
		.version_max = TP_VERSION_MAX,
		.features = TP_FEATURE_ZSTD | TP_FEATURE_CHECK | TP_FEATURE_LEVELS,
		.receiver = bytes_str(c->o->version),
	};

	if (tp_pack_new(TP_LEVEL_OFF, &c->pack, e) < 0 || tp_unpack_new(&c->unpack, e) < 0 ||
	    buf_put(&c->packed, TP_MAGIC, TP_MAGIC_BYTES) < 0 ||
	    tp_put_hello_r(&c->out, &hello) < 0)
		return no_memory(c, e);
	return flush(c, e);
}

static int hear(struct conv *c, struct err *e)
{
	int r = wait_input(c, e);

	return r < 0 ? r : read_some(c, e);
}

static int hear_magic(struct conv *c, struct err *e)
{
	while (buf_len(&c->wire) < TP_MAGIC_BYTES) {
		struct bytes got;
		int r = hear(c, e);

		if (r < 0)
			return r;
		got = buf_view(&c->wire);
		if (memcmp(got.p, TP_MAGIC, MIN(got.n, (size_t)TP_MAGIC_BYTES)) != 0)
			return malformed(c, e, "what came is no stager");
	}
	buf_consume(&c->wire, TP_MAGIC_BYTES);
	return 0;
}

/* *ret borrows from c->in: the frame is still to be consumed. */
static int hear_hello(struct conv *c, struct tp_frame *f, struct tp_hello *ret, struct err *e)
{
	int r;

	for (;;) {
		r = next_frame(c, f, e);
		if (r == 0)
			r = hear(c, e);
		else if (r > 0)
			break;
		if (r < 0)
			return r;
	}
	if (f->type != TP_HELLO)
		return malformed(c, e, "the first frame is no HELLO");
	r = decoded(c, tp_get_hello_d(f, ret, e));
	if (r < 0)
		return r;
	if (ret->version_min > TP_VERSION_MAX || ret->version_max < TP_VERSION_MIN)
		return aborts(c, TP_ABORT_VERSION,
			      err_set(e, -ERR_VERSION,
				      "the receiver speaks protocol versions %u to %u, the "
				      "driver %u to %u",
				      TP_VERSION_MIN, TP_VERSION_MAX, ret->version_min,
				      ret->version_max));
	return 0;
}

static int agree(struct conv *c, const struct tp_hello *hello, struct err *e)
{
	struct tp_pack *pack;

	c->idle_ns = (int64_t)hello->idle_s * NS_PER_S;
	if (!(hello->features & TP_FEATURE_ZSTD))
		return 0;
	if (tp_pack_new(TP_LEVEL_AUTO, &pack, e) < 0)
		return no_memory(c, e);
	tp_pack_free(c->pack);
	c->pack = pack;
	return 0;
}

static int take_root(struct conv *c, const struct tp_hello *hello, struct err *e)
{
	int r = rcv_root_take(hello->root, hello->flags, &c->root, e);

	/* The first session speaks for its run; the others come after it. */
	if (r == 0 && hello->session == 0) {
		r = rcv_root_lock(&c->root, e);
		if (r == -EBUSY)
			return aborts(c, TP_ABORT_BUSY, r);
	}

	if (r == 0 && c->o->confine)
		r = rcv_root_confine(&c->root, e);
	if (r == 0)
		r = rcv_env_init(&c->env, c->root.fd, c->root.abilities, c->root.super, &hooks, c, e);
	if (r < 0)
		return aborts(c, TP_ABORT_ROOT, r);
	if (rcv_files_new(&c->files, e) < 0 || rcv_segments_new(&c->segs, e) < 0)
		return no_memory(c, e);
	return 0;
}

static int ready(struct conv *c, const struct tp_hello *hello, struct err *e)
{
	struct tp_ready m = {
		.version = (uint16_t)MIN((unsigned)hello->version_max, TP_VERSION_MAX),
		.flags = c->root.abilities | (c->root.empty ? TP_R_EMPTY : 0) |
			 (c->root.created ? TP_R_CREATED : 0),
		.uid = geteuid(),
		.free_bytes = c->root.free_bytes,
		.free_inodes = c->root.free_inodes,
		.fs_magic = c->root.fs_magic,
	};

	memcpy(m.boot_id, c->root.boot_id, sizeof(m.boot_id));
	if (tp_put_ready(&c->out, &m) < 0)
		return no_memory(c, e);
	return flush(c, e);
}

static int begin(struct conv *c, struct err *e)
{
	struct tp_hello hello = { 0 };
	struct tp_frame f;
	int r;

	r = greet(c, e);
	if (r == 0)
		r = hear_magic(c, e);
	if (r == 0)
		r = hear_hello(c, &f, &hello, e);
	if (r == 0)
		r = agree(c, &hello, e);
	if (r == 0)
		r = take_root(c, &hello, e);
	if (r == 0)
		r = ready(c, &hello, e);
	if (r == 0)
		buf_consume(&c->in, tp_frame_bytes(&f));
	return r;
}

/* --- the end --- */

static int status_of(int abort_code)
{
	static const int status[] = {
		[TP_ABORT_VERSION] = RCV_EXIT_VERSION, [TP_ABORT_PROTOCOL] = RCV_EXIT_PROTOCOL,
		[TP_ABORT_ROOT] = RCV_EXIT_IO,         [TP_ABORT_IO] = RCV_EXIT_IO,
		[TP_ABORT_IDLE] = RCV_EXIT_LOST,       [TP_ABORT_BUSY] = RCV_EXIT_BUSY,
	};

	return abort_code ? status[abort_code] : RCV_EXIT_LOST;
}

/* Tell why we hang up, as far as it can still be told. */
static int hang_up(struct conv *c, const struct err *why)
{
	struct err e = { 0 };
	int code = c->abort_code;

	if (code && c->pack && tp_put_abort(&c->out, (uint32_t)code, why->text) == 0)
		(void)!push(c, true, &e);
	return status_of(code);
}

static void conv_fini(struct conv *c)
{
	rcv_files_free(c->files);
	rcv_segments_free(c->segs);
	rcv_jobs_fini(&c->jobs);
	rcv_env_fini(&c->env);
	rcv_root_drop(&c->root);
	tp_pack_free(c->pack);
	tp_unpack_free(c->unpack);
	buf_fini(&c->wire);
	buf_fini(&c->in);
	buf_fini(&c->out);
	buf_fini(&c->packed);
}

int rcv_serve(const struct rcv_opts *o)
{
	struct conv c = { .o = o, .root.fd = -1, .idle_ns = GREETING_IDLE_S * NS_PER_S };
	struct err e = { 0 };
	int r, status;

	umask(0);
	rcv_jobs_init(&c.jobs);
	c.heard_ns = clock_mono_ns();
	r = begin(&c, &e);
	if (r == 0)
		r = converse(&c, &e);
	status = r < 0 ? hang_up(&c, &e) : RCV_EXIT_OK;
	conv_fini(&c);
	return status;
}
