/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/progress.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "common/io.h"
#include "common/log.h"
#include "common/text.h"

#define SEC_NS ((int64_t)1000000000)
#define SAMPLE_NS (SEC_NS / 5)  /* of the counters, and the bar's shortest interval */
#define RATE_SPAN_SEC 5.0       /* a rate follows a change within about this time */
#define RATE_MIN_SEC 0.5        /* before that a rate would be a guess */
#define ENTRY_COST_BYTES 4096   /* an entry counts as this many bytes of work */
#define WIDTH_MAX 512
#define WIDTH_DEFAULT 80
#define ETA_MAX_SEC (1000.0 * 3600)

/* The counters at one moment, with done never above total. */
struct counts {
	uint64_t entries_total, entries_done, bytes_total, bytes_done;
	bool scanning;
};

struct mode_ops;

struct stg_printer {
	const struct mode_ops *ops;
	struct stg_progress_opts o;
	char run_id[STG_PROGRESS_NAME_MAX];
	pthread_t thread;
	bool threaded;

	/* Everything below.  The log's lock may be held when it is taken, never after it. */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop;
	bool unwritable; /* the reader went away: draw no more */
	char phase[STG_PROGRESS_NAME_MAX];
	char step[STG_PROGRESS_NAME_MAX];
	uint64_t limit;  /* bytes a second, 0: none */
	char window[16]; /* that sets it, empty: none */
	bool in_phase;
	uint64_t expect_entries, expect_bytes;
	int64_t begin_ns, drawn_ns, status_ns;

	/* Rates, from the change between samples. */
	int64_t sample_ns;
	uint64_t sample_bytes;
	double sample_work;
	double bytes_per_s, work_per_s;
	bool rated;

	double shown;       /* the share last drawn, 0 to 1: it never gets smaller */
	unsigned bar_chars; /* on the terminal now, 0: the line is free */
	bool hidden;        /* a log line is being written */
};

struct mode_ops {
	const char *name;
	int fd;
	int64_t interval_ns;
	void (*begin)(struct stg_progress *p);
	void (*draw)(struct stg_progress *p);
	void (*end)(struct stg_progress *p, int exit_code, double sec);
};

/* ---- figures ---- */

static int64_t mono_ns(const struct stg_printer *pr)
{
	return pr->o.mono_ns ? pr->o.mono_ns(pr->o.clock_arg) : clock_mono_ns();
}

static struct counts get_counts(struct stg_progress *p)
{
	struct counts c;

	/* Whoever counts raises the total first, so read it last. */
	c.scanning = atomic_load(&p->scanning);
	c.entries_done = atomic_load(&p->entries_done);
	c.bytes_done = atomic_load(&p->bytes_done);
	c.entries_total = MAX(atomic_load(&p->entries_total), c.entries_done);
	c.bytes_total = MAX(atomic_load(&p->bytes_total), c.bytes_done);
	return c;
}

static double work_of(uint64_t entries, uint64_t bytes)
{
	return (double)bytes + (double)entries * ENTRY_COST_BYTES;
}

/* Total work as far as it can be known; negative: it cannot. */
static double work_total(const struct stg_printer *pr, const struct counts *c)
{
	if (!c->scanning)
		return work_of(c->entries_total, c->bytes_total);
	if (!pr->expect_entries)
		return -1;
	return work_of(MAX(c->entries_total, pr->expect_entries),
		       MAX(c->bytes_total, pr->expect_bytes));
}

static void sample(struct stg_printer *pr, const struct counts *c)
{
	int64_t now = mono_ns(pr);
	double sec = (double)(now - pr->sample_ns) / 1e9;
	double work = work_of(c->entries_done, c->bytes_done), a;

	if (now - pr->sample_ns < (pr->rated ? SAMPLE_NS : (int64_t)(RATE_MIN_SEC * 1e9)))
		return;
	/* The first rate is the mean so far, later ones are blended in by their time. */
	a = pr->rated ? sec / (sec + RATE_SPAN_SEC) : 1;
	pr->bytes_per_s += a * ((double)(c->bytes_done - pr->sample_bytes) / sec - pr->bytes_per_s);
	pr->work_per_s += a * ((work - pr->sample_work) / sec - pr->work_per_s);
	pr->rated = true;
	pr->sample_ns = now;
	pr->sample_bytes = c->bytes_done;
	pr->sample_work = work;
}

/* Seconds to go; negative: not known. */
static double eta(const struct stg_printer *pr, const struct counts *c)
{
	double total = work_total(pr, c), left;

	if (total < 0)
		return -1;
	left = total - work_of(c->entries_done, c->bytes_done);
	if (left <= 0 && !c->scanning)
		return 0;
	if (!pr->rated || pr->work_per_s < 1 || left / pr->work_per_s > ETA_MAX_SEC)
		return -1;
	return left / pr->work_per_s;
}

/* The share to show, which only grows; full only when all is known to be done. */
static double share(struct stg_printer *pr, const struct counts *c)
{
	double total = work_total(pr, c), now = 0;

	if (total > 0)
		now = work_of(c->entries_done, c->bytes_done) / total;
	if (c->scanning)
		now = MIN(now, 0.99);
	pr->shown = MAX(pr->shown, MIN(now, 1.0));
	return pr->shown;
}

static void put_out(struct stg_printer *pr, const void *text, size_t n)
{
	if (!pr->unwritable && io_write_all(pr->o.fd, text, n) < 0)
		pr->unwritable = true;
}

/* ---- for people ---- */

struct figures {
	char done[32], total[32], rate[32], left[32];
};

static void get_figures(const struct stg_printer *pr, const struct counts *c, struct figures *f)
{
	double s = eta(pr, c);

	text_size(f->done, c->bytes_done);
	text_size(f->total, c->bytes_total);
	text_size(f->rate, pr->bytes_per_s > 0 ? (uint64_t)pr->bytes_per_s : 0);
	if (s < 0)
		snprintf(f->left, sizeof(f->left), "--:--:--");
	else
		text_duration(f->left, s);
}

static void put_summary(struct stg_progress *p, int exit_code, double sec)
{
	struct stg_printer *pr = p->printer;
	struct counts c = get_counts(p);
	char line[WIDTH_MAX], size[32], rate[32], took[32], how[48] = "done";
	int n;

	if (exit_code)
		snprintf(how, sizeof(how), "ended with exit code %d", exit_code);
	text_size(size, c.bytes_done);
	text_size(rate, sec > 0 ? (uint64_t)((double)c.bytes_done / sec) : 0);
	text_duration(took, sec);
	n = snprintf(line, sizeof(line), "%s: %s after %s: %" PRIu64 " entries, %s, %s/s, %" PRIu64
		     " errors\n", pr->phase, how, took, c.entries_done, size, rate,
		     atomic_load(&p->errors));
	put_out(pr, line, MIN((size_t)n, sizeof(line) - 1));
}

static void no_begin(struct stg_progress *p)
{
	(void)p;
}

static unsigned line_width(const struct stg_printer *pr)
{
	struct winsize ws;
	unsigned w = pr->o.width;

	/* Asked each time: windows change their size. */
	if (!w && ioctl(pr->o.fd, TIOCGWINSZ, &ws) == 0)
		w = ws.ws_col;
	if (!w)
		w = WIDTH_DEFAULT;
	return MIN(w, WIDTH_MAX);
}

static void clear_bar(struct stg_printer *pr)
{
	char line[WIDTH_MAX + 2];

	if (!pr->bar_chars)
		return;
	memset(line, ' ', sizeof(line));
	line[0] = '\r';
	line[pr->bar_chars + 1] = '\r';
	put_out(pr, line, pr->bar_chars + 2);
	pr->bar_chars = 0;
}

/* "[####------]  42%", or without a share while nobody can tell it. */
static void put_gauge(char *out, size_t max, double done, bool known)
{
	enum { CELLS = 16 };
	char cells[CELLS + 1];
	int full = known ? (int)(done * CELLS) : 0;

	for (int i = 0; i < CELLS; i++)
		cells[i] = i < full ? '#' : '-';
	cells[CELLS] = '\0';
	if (known)
		snprintf(out, max, "[%s] %3d%%", cells, (int)(done * 100));
	else
		snprintf(out, max, "[%s]  --%%", cells);
}

static void draw_bar(struct stg_progress *p)
{
	struct stg_printer *pr = p->printer;
	struct counts c = get_counts(p);
	unsigned width = line_width(pr), n, old = pr->bar_chars;
	char line[2 * WIDTH_MAX], gauge[32];
	double done = share(pr, &c);
	struct figures f;

	if (pr->hidden)
		return;
	get_figures(pr, &c, &f);
	put_gauge(gauge, sizeof(gauge), done, done > 0 || work_total(pr, &c) >= 0);
	snprintf(line, WIDTH_MAX, "\r%s %s %" PRIu64 "/%" PRIu64 "%s %s/%s %s/s ETA %s", pr->phase,
		 gauge, c.entries_done, c.entries_total, c.scanning ? "+" : "", f.done, f.total,
		 f.rate, f.left);

	/* The last column stays free: writing there wraps the line on some terminals. */
	n = (unsigned)strlen(line) - 1;
	n = MIN(n, width - 1);
	old = MIN(old, width - 1);
	if (old > n)
		memset(line + 1 + n, ' ', old - n);
	put_out(pr, line, 1 + MAX(n, old));
	pr->bar_chars = n;
}

static void end_bar(struct stg_progress *p, int exit_code, double sec)
{
	clear_bar(p->printer);
	put_summary(p, exit_code, sec);
}

static void draw_plain(struct stg_progress *p)
{
	struct stg_printer *pr = p->printer;
	struct counts c = get_counts(p);
	double done = share(pr, &c);
	char line[WIDTH_MAX];
	struct figures f;
	int n;

	get_figures(pr, &c, &f);
	n = snprintf(line, sizeof(line),
		     "%s: %" PRIu64 "/%" PRIu64 "%s entries, %s/%s (%d%%), %s/s, ETA %s\n", pr->phase,
		     c.entries_done, c.entries_total, c.scanning ? "+" : "", f.done, f.total,
		     (int)(done * 100), f.rate, f.left);
	put_out(pr, line, MIN((size_t)n, sizeof(line) - 1));
}

/* ---- for programs ---- */

/* The fields that every object has, without a closing brace. */
static int put_fields(struct stg_progress *p, struct buf *out)
{
	struct stg_printer *pr = p->printer;
	struct counts c = get_counts(p);
	double s = pr->in_phase ? eta(pr, &c) : -1;
	int r;

	if (pr->phase[0])
		r = text_json(out, bytes_str(pr->phase));
	else
		r = buf_put(out, "null", 4);
	if (r == 0)
		r = buf_printf(out,
			       ",\"entries_done\":%" PRIu64 ",\"entries_total\":%" PRIu64
			       ",\"bytes_done\":%" PRIu64 ",\"bytes_total\":%" PRIu64
			       ",\"bytes_per_s\":%" PRIu64 ",\"eta_s\":",
			       c.entries_done, c.entries_total, c.bytes_done, c.bytes_total,
			       (uint64_t)MAX(pr->bytes_per_s, 0.0));
	if (r == 0)
		r = s < 0 ? buf_put(out, "null", 4) : buf_printf(out, "%" PRId64, (int64_t)(s + 0.5));
	return r ? r : buf_printf(out, ",\"scanning\":%s", c.scanning ? "true" : "false");
}

static int put_event(struct stg_progress *p, struct buf *out, const char *event)
{
	int r = buf_printf(out, "{\"event\":\"%s\",\"phase\":", event);

	return r ? r : put_fields(p, out);
}

/* End the object and write it; one that memory lacked for is left out. */
static void send_event(struct stg_printer *pr, struct buf *out, int r)
{
	if (r == 0 && buf_put(out, "}\n", 2) == 0)
		put_out(pr, buf_view(out).p, buf_len(out));
}

static void simple_event(struct stg_progress *p, const char *event)
{
	_cleanup_(buf_fini) struct buf out = BUF_INIT;

	send_event(p->printer, &out, put_event(p, &out, event));
}

static void begin_json(struct stg_progress *p)
{
	simple_event(p, "phase_started");
}

static void draw_json(struct stg_progress *p)
{
	simple_event(p, "progress");
}

static void end_json(struct stg_progress *p, int exit_code, double sec)
{
	_cleanup_(buf_fini) struct buf out = BUF_INIT;
	int r = put_event(p, &out, "phase_finished");
	int64_t ms = (int64_t)(sec * 1000);

	if (r == 0)
		r = buf_printf(&out, ",\"exit_code\":%d,\"duration_sec\":%" PRId64 ".%03d", exit_code,
			       ms / 1000, (int)(ms % 1000));
	send_event(p->printer, &out, r);
}

static void no_end(struct stg_progress *p, int exit_code, double sec)
{
	(void)p;
	(void)exit_code;
	(void)sec;
}

/* In the order of enum stg_progress_mode; auto becomes one of the others at the start. */
static const struct mode_ops modes[] = {
	[STG_PROGRESS_AUTO] = { .name = "auto" },
	[STG_PROGRESS_BAR] = { "bar", STDERR_FILENO, SAMPLE_NS, no_begin, draw_bar, end_bar },
	[STG_PROGRESS_PLAIN] = { "plain", STDERR_FILENO, 10 * SEC_NS, no_begin, draw_plain,
				 put_summary },
	[STG_PROGRESS_JSON] = { "json", STDOUT_FILENO, SEC_NS, begin_json, draw_json, end_json },
	[STG_PROGRESS_NONE] = { "none", STDERR_FILENO, SEC_NS, no_begin, no_begin, no_end },
};

int stg_progress_parse_mode(const char *s, enum stg_progress_mode *ret, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
		if (!strcmp(s, modes[i].name)) {
			*ret = (enum stg_progress_mode)i;
			return 0;
		}
	return err_set(e, -ERR_USAGE, "'%s' is no kind of progress: auto, bar, plain, json or none",
		       s);
}

/* ---- status for other processes ---- */

static int put_snapshot(struct stg_progress *p, struct buf *out)
{
	struct stg_printer *pr = p->printer;
	int64_t now = pr->o.real_ns ? pr->o.real_ns(pr->o.clock_arg) : clock_real_ns();
	char utc[32];
	int r = buf_printf(out, "{\"pid\":%d,\"running\":%s,\"run_id\":", (int)getpid(),
			   pr->stop ? "false" : "true");

	if (r == 0)
		r = text_json(out, bytes_str(pr->run_id));
	if (r == 0)
		r = buf_printf(out, ",\"step\":");
	if (r == 0)
		r = text_json(out, bytes_str(pr->step));
	if (r == 0)
		r = buf_printf(out, ",\"phase\":");
	if (r == 0)
		r = put_fields(p, out);
	if (r == 0)
		r = pr->limit ? buf_printf(out, ",\"bandwidth_limit_bytes_per_s\":%" PRIu64,
					   pr->limit) :
				buf_printf(out, ",\"bandwidth_limit_bytes_per_s\":null");
	if (r == 0)
		r = pr->window[0] ? buf_printf(out, ",\"bandwidth_window\":\"%s\"", pr->window) :
				    buf_printf(out, ",\"bandwidth_window\":null");
	text_utc(utc, now / SEC_NS);
	return r ? r : buf_printf(out,
			  ",\"errors\":%" PRIu64 ",\"in_phase\":%s,\"updated_at\":%" PRId64
			  ",\"updated_at_utc\":\"%s\"}\n",
			  atomic_load(&p->errors), pr->in_phase ? "true" : "false", now / SEC_NS, utc);
}

/*
 * Written beside and renamed, so that it is whole at any moment, but not synced: after a
 * crash of the machine there is no process to tell about.  A status that cannot be written
 * must not disturb the run.
 */
static void write_status(struct stg_progress *p)
{
	static const char tmp[] = STG_PROGRESS_STATUS_FILE ".new";
	_cleanup_(buf_fini) struct buf out = BUF_INIT;
	_cleanup_close_ int fd = -1;
	int dir = p->printer->o.statefd;

	if (!dir || put_snapshot(p, &out) < 0)
		return;
	fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	if (io_write_all(fd, buf_view(&out).p, buf_len(&out)) < 0 ||
	    renameat(dir, tmp, dir, STG_PROGRESS_STATUS_FILE) < 0)
		unlinkat(dir, tmp, 0);
}

int stg_progress_snapshot(struct stg_progress *p, struct buf *out)
{
	int r;

	pthread_mutex_lock(&p->printer->lock);
	r = put_snapshot(p, out);
	pthread_mutex_unlock(&p->printer->lock);
	return r;
}

/* ---- the printer ---- */

static void poll_locked(struct stg_progress *p)
{
	struct stg_printer *pr = p->printer;
	struct counts c = get_counts(p);
	int64_t now = mono_ns(pr);

	if (pr->in_phase) {
		sample(pr, &c);
		if (now - pr->drawn_ns >= pr->ops->interval_ns) {
			pr->drawn_ns = now;
			pr->ops->draw(p);
		}
	}
	if (now - pr->status_ns >= SEC_NS) {
		pr->status_ns = now;
		write_status(p);
	}
}

void stg_progress_poll(struct stg_progress *p)
{
	pthread_mutex_lock(&p->printer->lock);
	poll_locked(p);
	pthread_mutex_unlock(&p->printer->lock);
}

static void *printer_thread(void *arg)
{
	struct stg_progress *p = arg;
	struct stg_printer *pr = p->printer;

	pthread_mutex_lock(&pr->lock);
	while (!pr->stop) {
		int64_t at = clock_mono_ns() + SAMPLE_NS;
		struct timespec ts = { .tv_sec = at / SEC_NS, .tv_nsec = at % SEC_NS };

		poll_locked(p);
		pthread_cond_timedwait(&pr->wake, &pr->lock, &ts);
	}
	pthread_mutex_unlock(&pr->lock);
	return NULL;
}

/* Around log lines: the bar makes room, and comes back when it is next due. */
static void before_log(void *arg)
{
	struct stg_printer *pr = arg;

	pthread_mutex_lock(&pr->lock);
	clear_bar(pr);
	pr->hidden = true;
	pthread_mutex_unlock(&pr->lock);
}

static void after_log(void *arg)
{
	struct stg_printer *pr = arg;

	pthread_mutex_lock(&pr->lock);
	pr->hidden = false;
	pthread_mutex_unlock(&pr->lock);
}

static void printer_free(struct stg_printer *pr)
{
	pthread_cond_destroy(&pr->wake);
	pthread_mutex_destroy(&pr->lock);
	free(pr);
}

int stg_progress_start(struct stg_progress *p, const struct stg_progress_opts *o, struct err *e)
{
	enum stg_progress_mode mode = o->mode;
	struct stg_printer *pr = calloc(1, sizeof(*pr));
	pthread_condattr_t attr;
	int r;

	if (!pr)
		return err_set(e, -ENOMEM, "start progress: out of memory");
	if (mode == STG_PROGRESS_AUTO)
		mode = isatty(o->fd ? o->fd : STDERR_FILENO) ? STG_PROGRESS_BAR : STG_PROGRESS_PLAIN;
	pr->ops = &modes[mode];
	pr->o = *o;
	pr->o.fd = o->fd ? o->fd : pr->ops->fd;
	pr->o.run_id = NULL;
	snprintf(pr->run_id, sizeof(pr->run_id), "%s", o->run_id ? o->run_id : "");
	pr->drawn_ns = mono_ns(pr);
	pr->status_ns = mono_ns(pr) - SEC_NS;
	pthread_mutex_init(&pr->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&pr->wake, &attr);
	pthread_condattr_destroy(&attr);
	p->printer = pr;
	if (!o->manual) {
		r = pthread_create(&pr->thread, NULL, printer_thread, p);
		if (r) {
			p->printer = NULL;
			printer_free(pr);
			return err_sysn(e, -r, "start the progress thread");
		}
		pr->threaded = true;
	}
	if (mode == STG_PROGRESS_BAR)
		log_around(before_log, after_log, pr);
	return 0;
}

void stg_progress_stop(struct stg_progress *p)
{
	struct stg_printer *pr = p->printer;

	if (!pr)
		return;
	if (pr->ops == &modes[STG_PROGRESS_BAR])
		log_around(NULL, NULL, NULL);
	pthread_mutex_lock(&pr->lock);
	pr->stop = true;
	pthread_cond_signal(&pr->wake);
	pthread_mutex_unlock(&pr->lock);
	if (pr->threaded)
		pthread_join(pr->thread, NULL);
	clear_bar(pr);
	write_status(p);
	p->printer = NULL;
	printer_free(pr);
}

void stg_progress_begin(struct stg_progress *p, const char *phase)
{
	struct stg_printer *pr = p->printer;

	pthread_mutex_lock(&pr->lock);
	atomic_store(&p->entries_done, 0);
	atomic_store(&p->entries_total, 0);
	atomic_store(&p->bytes_done, 0);
	atomic_store(&p->bytes_total, 0);
	atomic_store(&p->errors, 0);
	atomic_store(&p->scanning, true);
	snprintf(pr->phase, sizeof(pr->phase), "%s", phase);
	pr->step[0] = '\0';
	pr->expect_entries = pr->expect_bytes = 0;
	pr->begin_ns = pr->drawn_ns = pr->sample_ns = mono_ns(pr);
	pr->sample_bytes = 0;
	pr->sample_work = pr->bytes_per_s = pr->work_per_s = pr->shown = 0;
	pr->rated = false;
	pr->in_phase = true;
	pr->ops->begin(p);
	pthread_mutex_unlock(&pr->lock);
}

void stg_progress_expect(struct stg_progress *p, uint64_t entries, uint64_t bytes)
{
	pthread_mutex_lock(&p->printer->lock);
	p->printer->expect_entries = entries;
	p->printer->expect_bytes = bytes;
	pthread_mutex_unlock(&p->printer->lock);
}

void stg_progress_step(struct stg_progress *p, const char *step)
{
	pthread_mutex_lock(&p->printer->lock);
	snprintf(p->printer->step, sizeof(p->printer->step), "%s", step);
	pthread_mutex_unlock(&p->printer->lock);
}

void stg_progress_limit(struct stg_progress *p, uint64_t bytes_per_s, const char *window)
{
	struct stg_printer *pr = p->printer;

	pthread_mutex_lock(&pr->lock);
	pr->limit = bytes_per_s;
	snprintf(pr->window, sizeof(pr->window), "%s", window ? window : "");
	pthread_mutex_unlock(&pr->lock);
}

void stg_progress_end(struct stg_progress *p, int exit_code)
{
	struct stg_printer *pr = p->printer;
	struct counts c;

	pthread_mutex_lock(&pr->lock);
	if (pr->in_phase) {
		atomic_store(&p->scanning, false);
		c = get_counts(p);
		sample(pr, &c);
		pr->ops->end(p, exit_code, (double)(mono_ns(pr) - pr->begin_ns) / 1e9);
		pr->in_phase = false;
	}
	pthread_mutex_unlock(&pr->lock);
}

void stg_progress_error(struct stg_progress *p, struct bytes path, const char *operation,
			int code, const char *message)
{
	_cleanup_(buf_fini) struct buf out = BUF_INIT;
	struct stg_printer *pr = p->printer;
	int r;

	atomic_fetch_add(&p->errors, 1);
	if (pr->ops != &modes[STG_PROGRESS_JSON])
		return;
	pthread_mutex_lock(&pr->lock);
	r = put_event(p, &out, "error");
	if (r == 0)
		r = buf_put_u8(&out, ',');
	if (r == 0)
		r = text_json_path(&out, path.n ? path : bytes_str("."));
	if (r == 0)
		r = buf_printf(&out, ",\"operation\":");
	if (r == 0)
		r = text_json(&out, bytes_str(operation ? operation : ""));
	if (r == 0)
		r = code ? buf_printf(&out, ",\"errno\":\"%s\"", err_name(abs(code))) :
			   buf_printf(&out, ",\"errno\":null");
	if (r == 0)
		r = buf_printf(&out, ",\"message\":");
	if (r == 0)
		r = text_json(&out, bytes_str(message ? message : ""));
	send_event(pr, &out, r);
	pthread_mutex_unlock(&pr->lock);
}
