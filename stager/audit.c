/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "common/buf.h"
#include "common/io.h"
#include "common/text.h"

#define HEX_DIGITS (SHA256_HEX_SIZE - 1)
#define READ_BYTES 65536
/* How far back the open looks: one record and the one before it, however long. */
#define TAIL_BYTES (4u * STG_AUDIT_LINE_MAX)

static const char head_start[] = "{\"seq\":";
static const char prev_start[] = ",\"prev\":\"";
static const char line_end[] = "\"}\n";
static const char zeros[] = "0000000000000000000000000000000000000000000000000000000000000000";

static const struct {
	const char *name;
	bool sync;
} events[] = {
	[STG_AUDIT_RUN_STARTED] = { "run_started", true },
	[STG_AUDIT_PHASE_STARTED] = { "phase_started", true },
	[STG_AUDIT_PHASE_FINISHED] = { "phase_finished", true },
	[STG_AUDIT_HOST_KEY] = { "host_key", true },
	[STG_AUDIT_HOOK] = { "hook", false },
	[STG_AUDIT_DELETE] = { "delete", false },
	[STG_AUDIT_ERROR] = { "error", false },
	[STG_AUDIT_RUN_FINISHED] = { "run_finished", true },
	[STG_AUDIT_VERIFY_STARTED] = { "verify_started", true },
	[STG_AUDIT_VERIFY_FINISHED] = { "verify_finished", true },
};

struct stg_audit {
	pthread_mutex_t lock;
	int fd;
	char *run_id;
	struct stg_audit_opts o;
	uint64_t seq; /* of the last record */
	uint64_t size; /* of the file when we last held its lock */
	char last[SHA256_HEX_SIZE];
};

/* ---- walking the chain ---- */

struct record {
	uint64_t seq;
	char prev[SHA256_HEX_SIZE];
	bool repair;
	uint64_t torn_bytes;
	char torn_sha256[SHA256_HEX_SIZE];
};

struct walk {
	uint64_t line; /* number of the line last looked at */
	uint64_t seq;
	uint64_t records, repairs;
	bool anchored; /* the first record needs no predecessor: we started in the middle */
	char last[SHA256_HEX_SIZE];

	/* Lines that are no records, waiting for the repair record that covers them. */
	uint64_t torn_line;  /* the first of them, 0: none */
	uint64_t torn_bytes;
	struct sha256 torn;
	bool open_end; /* the last line has no newline, */
	bool whole_end; /* but it is a record otherwise */

	/*
	 * A record whose prev is not the hash of the line before: which of the two was
	 * changed shows in the next one.
	 */
	uint64_t doubt_line;
	char doubt_hash[SHA256_HEX_SIZE];

	uint64_t broken_line;
	char why[128];
};

static void hash_end(struct sha256 *s, char ret[SHA256_HEX_SIZE])
{
	uint8_t hash[SHA256_BYTES];

	sha256_end(s, hash);
	for (size_t i = 0; i < SHA256_BYTES; i++)
		snprintf(ret + 2 * i, 3, "%02x", hash[i]);
}

static bool is_hex(const uint8_t *p)
{
	for (size_t i = 0; i < HEX_DIGITS; i++)
		if (!((p[i] >= '0' && p[i] <= '9') || (p[i] >= 'a' && p[i] <= 'f')))
			return false;
	return true;
}

/* Take text off the end of *b. */
static bool take_end(struct bytes *b, const char *text)
{
	size_t n = strlen(text);

	if (b->n < n || memcmp(b->p + b->n - n, text, n) != 0)
		return false;
	b->n -= n;
	return true;
}

static bool take_end_hex(struct bytes *b, const char *key, char ret[SHA256_HEX_SIZE])
{
	if (b->n < HEX_DIGITS || !is_hex(b->p + b->n - HEX_DIGITS))
		return false;
	b->n -= HEX_DIGITS;
	memcpy(ret, b->p + b->n, HEX_DIGITS);
	ret[HEX_DIGITS] = '\0';
	return take_end(b, key);
}

static bool take_digits(struct bytes *b, uint64_t *ret)
{
	size_t n = 0;
	uint64_t v = 0;

	for (; n < b->n && n < 19 && b->p[n] >= '0' && b->p[n] <= '9'; n++)
		v = v * 10 + (uint64_t)(b->p[n] - '0');
	*b = bytes_of(b->p + n, b->n - n);
	*ret = v;
	return n > 0;
}

/*
 * Only our own writer's layout counts as a record.  Quotes within strings are escaped, so
 * the marks looked for cannot be part of a name.
 */
static bool parse_record(struct bytes line, struct record *ret)
{
	static const char repair[] = ",\"event\":\"repair\",\"torn_bytes\":";
	struct bytes b = line;
	const uint8_t *at;

	*ret = (struct record){ 0 };
	if (b.n < strlen(head_start) || memcmp(b.p, head_start, strlen(head_start)) != 0)
		return false;
	if (!take_end(&b, line_end) || !take_end_hex(&b, prev_start, ret->prev))
		return false;
	b = bytes_of(b.p + strlen(head_start), b.n - strlen(head_start));
	if (!take_digits(&b, &ret->seq) || !b.n || b.p[0] != ',')
		return false;
	at = memmem(b.p, b.n, repair, strlen(repair));
	if (!at)
		return true;
	ret->repair = true;
	if (!take_end(&b, "\"") || !take_end_hex(&b, ",\"torn_sha256\":\"", ret->torn_sha256))
		return false;
	at += strlen(repair);
	b = bytes_of(at, (size_t)(b.p + b.n - at));
	return take_digits(&b, &ret->torn_bytes) && b.n == 0;
}

static void _printf_(3, 4) broken(struct walk *w, uint64_t line, const char *fmt, ...)
{
	va_list ap;

	if (w->broken_line)
		return;
	w->broken_line = line;
	va_start(ap, fmt);
	vsnprintf(w->why, sizeof(w->why), fmt, ap);
	va_end(ap);
}

static void settle_doubt(struct walk *w, const char *next_prev)
{
	/* The next record vouches for the doubtful one: so the line before that was changed. */
	if (!w->doubt_line)
		return;
	if (!next_prev || !strcmp(next_prev, w->doubt_hash))
		broken(w, w->doubt_line - 1, "its hash is not the one that line %" PRIu64 " holds",
		       w->doubt_line);
	else
		broken(w, w->doubt_line, "its hash is not the one that the next line holds");
	w->doubt_line = 0;
}

static void walk_torn(struct walk *w, struct bytes line)
{
	if (!w->torn_line) {
		w->torn_line = w->line;
		w->torn_bytes = 0;
		sha256_init(&w->torn);
	}
	w->torn_bytes += line.n;
	sha256_add(&w->torn, line.p, line.n);
}

/* A record after lines that are none: it must be the repair record that covers them. */
static void end_torn(struct walk *w, const struct record *rec)
{
	struct sha256 torn = w->torn;
	char hash[SHA256_HEX_SIZE];

	if (!w->torn_line)
		return;
	hash_end(&torn, hash);
	if (!rec->repair || rec->torn_bytes != w->torn_bytes || strcmp(rec->torn_sha256, hash) != 0)
		broken(w, w->torn_line, "it is no record, and no repair record covers it");
	w->torn_line = 0;
	w->torn_bytes = 0;
}

static void walk_line(struct walk *w, struct bytes line)
{
	struct record rec;

	w->line++;
	if (!parse_record(line, &rec)) {
		settle_doubt(w, NULL);
		walk_torn(w, line);
		return;
	}
	settle_doubt(w, rec.prev);
	if (w->anchored && !w->records) {
		/* What lies before is not known: take it as it is. */
		w->torn_line = 0;
		w->torn_bytes = 0;
	} else {
		end_torn(w, &rec);
		if (rec.seq != w->seq + 1)
			broken(w, w->line, "number %" PRIu64 " where %" PRIu64 " was expected",
			       rec.seq, w->seq + 1);
		else if (strcmp(rec.prev, w->last) != 0 && !w->broken_line) {
			if (w->records)
				w->doubt_line = w->line;
			else
				broken(w, w->line, "it is not the start of a chain");
		}
	}
	w->records++;
	w->repairs += rec.repair;
	w->seq = rec.seq;
	sha256_hex(w->last, line);
	memcpy(w->doubt_hash, w->last, sizeof(w->last));
}

/* The last line, cut by a crash: all that it lacks may be its newline. */
static int walk_open_end(struct walk *w, struct bytes line)
{
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	struct record rec;

	w->open_end = true;
	if (buf_put_bytes(&b, line) < 0 || buf_put_u8(&b, '\n') < 0)
		return -ENOMEM;
	w->whole_end = parse_record(buf_view(&b), &rec);
	walk_line(w, w->whole_end ? buf_view(&b) : line);
	return 0;
}

/* Walk the lines of fd from off to its end. */
static int walk_file(struct walk *w, int fd, uint64_t off, struct err *e)
{
	_cleanup_(buf_fini) struct buf b = BUF_INIT;
	bool skip = off > 0; /* we are most likely within a line */

	memcpy(w->last, zeros, sizeof(w->last));
	w->anchored = skip;
	for (;;) {
		const uint8_t *nl;
		ssize_t got;

		if (buf_reserve(&b, READ_BYTES) < 0)
			return err_set(e, -ENOMEM, "read audit log: out of memory");
		got = io_pread_full(fd, b.p + b.n, READ_BYTES, off);
		if (got < 0)
			return err_sysn(e, (int)got, "read audit log");
		b.n += (size_t)got;
		off += (uint64_t)got;
		for (;;) {
			struct bytes v = buf_view(&b), line;

			nl = v.n ? memchr(v.p, '\n', v.n) : NULL;
			/* Longer than any record: taken in pieces, none of which is one. */
			if (!nl && v.n <= STG_AUDIT_LINE_MAX && (got || !v.n))
				break;
			line = bytes_of(v.p, nl ? (size_t)(nl - v.p) + 1 : v.n);
			if (!skip && !nl && !got) {
				if (walk_open_end(w, line) < 0)
					return err_set(e, -ENOMEM, "read audit log: out of memory");
			} else if (!skip) {
				walk_line(w, line);
			} else if (nl) {
				skip = false;
			}
			buf_consume(&b, line.n);
		}
		if (got == 0)
			break;
	}
	settle_doubt(w, NULL);
	return 0;
}

int stg_audit_verify(int statefd, struct stg_audit_check *ret, struct err *e)
{
	_cleanup_close_ int fd = -1;
	struct walk w = { 0 };
	int r;

	fd = openat(statefd, STG_AUDIT_FILE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, "open audit log %s", STG_AUDIT_FILE);
	/* No half-written record of a live run must look like a torn one. */
	if (flock(fd, LOCK_SH) < 0)
		return err_sys(e, "lock audit log");
	r = walk_file(&w, fd, 0, e);
	if (r < 0)
		return r;
	*ret = (struct stg_audit_check){
		.lines = w.line,
		.repairs = w.repairs,
		.torn_bytes = w.torn_line ? w.torn_bytes : 0,
		.broken_line = w.broken_line,
	};
	memcpy(ret->why, w.why, sizeof(ret->why));
	memcpy(ret->last, w.last, sizeof(ret->last));
	return 0;
}

/* ---- appending ---- */

static int put_head(struct stg_audit *a, struct buf *out, uint64_t seq, const char *event)
{
	int64_t now = a->o.real_ns ? a->o.real_ns(a->o.clock_arg) : clock_real_ns();
	char utc[32];
	int r;

	text_utc(utc, now / 1000000000);
	r = buf_printf(out, "%s%" PRIu64 ",\"time_utc\":\"%s\",\"epoch\":%" PRId64 ",\"run_id\":",
		       head_start, seq, utc, now / 1000000000);
	if (r == 0)
		r = text_json(out, bytes_str(a->run_id));
	return r ? r : buf_printf(out, ",\"event\":\"%s\"", event);
}

/* Append out, whose record starts at off, with the end that chains it to prev. */
static int put_record(struct stg_audit *a, struct buf *out, size_t off, const char *prev,
		      struct err *e)
{
	struct bytes v;
	int r = buf_printf(out, "%s%s%s", prev_start, prev, line_end);

	if (r < 0)
		return err_set(e, r, "write audit log: out of memory");
	v = buf_view(out);
	if (v.n - off > STG_AUDIT_LINE_MAX)
		return err_set(e, -EMSGSIZE, "write audit log: record of %zu bytes", v.n - off);
	r = io_write_all(a->fd, v.p, v.n);
	if (r < 0)
		return err_sysn(e, r, "write audit log");
	sha256_hex(a->last, bytes_of(v.p + off, v.n - off));
	a->seq++;
	a->size += v.n;
	return 0;
}

/* End the torn bytes that w ended in, and cover them by a record. */
static int repair(struct stg_audit *a, struct walk *w, struct err *e)
{
	_cleanup_(buf_fini) struct buf out = BUF_INIT;
	char hash[SHA256_HEX_SIZE];
	size_t off;
	int r = 0;

	if (!w->torn_line)
		sha256_init(&w->torn);
	if (w->open_end)
		r = buf_put_u8(&out, '\n');
	if (w->open_end && !w->whole_end) {
		sha256_add(&w->torn, "\n", 1);
		w->torn_bytes++;
	}
	off = buf_len(&out);
	hash_end(&w->torn, hash);
	if (r == 0)
		r = put_head(a, &out, a->seq + 1, "repair");
	if (r == 0)
		r = buf_printf(&out, ",\"torn_bytes\":%" PRIu64 ",\"torn_sha256\":\"%s\"",
			       w->torn_bytes, hash);
	if (r < 0)
		return err_set(e, r, "repair audit log: out of memory");
	return put_record(a, &out, off, a->last, e);
}

/* Learn where the chain ends; the file's lock is held.  size is the file's. */
static int find_end(struct stg_audit *a, uint64_t size, struct err *e)
{
	struct walk w = { 0 };
	int r;

	r = walk_file(&w, a->fd, size > TAIL_BYTES ? size - TAIL_BYTES : 0, e);
	if (r < 0)
		return r;
	/* Torn bytes beyond the tail: look at all of it. */
	if (w.anchored && !w.records) {
		w = (struct walk){ 0 };
		r = walk_file(&w, a->fd, 0, e);
		if (r < 0)
			return r;
	}
	if (w.broken_line)
		return err_set(e, -EBADMSG,
			       "audit log %s is broken near its end (%s): move it aside to start a "
			       "new one",
			       STG_AUDIT_FILE, w.why);
	a->seq = w.seq;
	a->size = size;
	memcpy(a->last, w.last, sizeof(a->last));
	return w.torn_line || w.open_end ? repair(a, &w, e) : 0;
}

/* Take the file's lock and see what others appended, or what a failed write left. */
static int lock_file(struct stg_audit *a, struct err *e)
{
	struct stat st;
	int r;

	while (flock(a->fd, LOCK_EX) < 0)
		if (errno != EINTR)
			return err_sys(e, "lock audit log");
	if (fstat(a->fd, &st) < 0)
		r = err_sys(e, "stat audit log");
	else
		r = (uint64_t)st.st_size == a->size ? 0 : find_end(a, (uint64_t)st.st_size, e);
	if (r < 0)
		flock(a->fd, LOCK_UN);
	return r;
}

int stg_audit_open(int statefd, const struct stg_audit_opts *o, struct stg_audit **ret,
		   struct err *e)
{
	struct stg_audit *a = calloc(1, sizeof(*a));
	int r = -ENOMEM;

	if (!a)
		return err_set(e, r, "open audit log: out of memory");
	pthread_mutex_init(&a->lock, NULL);
	a->o = *o;
	a->o.run_id = NULL;
	memcpy(a->last, zeros, sizeof(a->last));
	a->fd = openat(statefd, STG_AUDIT_FILE,
		       O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (a->fd < 0) {
		r = err_sys(e, "open audit log %s", STG_AUDIT_FILE);
		goto undo;
	}
	a->run_id = strdup(o->run_id ? o->run_id : "");
	if (!a->run_id) {
		err_set(e, r, "open audit log: out of memory");
		goto undo;
	}
	/* The name must last as long as the records. */
	if (fsync(statefd) < 0) {
		r = err_sys(e, "sync the directory of %s", STG_AUDIT_FILE);
		goto undo;
	}
	r = lock_file(a, e);
	if (r < 0)
		goto undo;
	flock(a->fd, LOCK_UN);
	*ret = a;
	return 0;
undo:
	stg_audit_close(a);
	return r;
}

void stg_audit_close(struct stg_audit *a)
{
	if (!a)
		return;
	if (a->fd >= 0)
		close(a->fd);
	pthread_mutex_destroy(&a->lock);
	free(a->run_id);
	free(a);
}

static int put_field(struct buf *out, const struct stg_audit_field *f)
{
	int r = buf_put_u8(out, ',');

	if (r < 0)
		return r;
	if (!f->key)
		return text_json_path(out, f->text);
	if (!f->is_text)
		return buf_printf(out, "\"%s\":%" PRId64, f->key, f->number);
	r = buf_printf(out, "\"%s\":", f->key);
	return r ? r : text_json(out, f->text);
}

static int write_locked(struct stg_audit *a, enum stg_audit_event event,
			const struct stg_audit_field *fields, size_t n, struct err *e)
{
	_cleanup_(buf_fini) struct buf out = BUF_INIT;
	int r = put_head(a, &out, a->seq + 1, events[event].name);

	for (size_t i = 0; i < n && r == 0; i++)
		r = put_field(&out, &fields[i]);
	if (r < 0)
		return err_set(e, r, "write audit log: out of memory");
	r = put_record(a, &out, 0, a->last, e);
	if (r == 0 && events[event].sync && fdatasync(a->fd) < 0)
		r = err_sys(e, "sync audit log");
	return r;
}

int stg_audit_write(struct stg_audit *a, enum stg_audit_event event,
		    const struct stg_audit_field *fields, size_t n, struct err *e)
{
	int r;

	pthread_mutex_lock(&a->lock);
	r = lock_file(a, e);
	if (r == 0) {
		r = write_locked(a, event, fields, n, e);
		flock(a->fd, LOCK_UN);
	}
	pthread_mutex_unlock(&a->lock);
	return r;
}

void stg_audit_last(struct stg_audit *a, char ret[SHA256_HEX_SIZE])
{
	pthread_mutex_lock(&a->lock);
	memcpy(ret, a->last, SHA256_HEX_SIZE);
	pthread_mutex_unlock(&a->lock);
}
