/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/forecast.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/macro.h"

/* The gaps of which the longest is not so many times the shortest do not tell a constant. */
#define GAP_SPREAD 2.0
#define GAPS_FOR_CONSTANT 3
#define LINE_BETTER 0.3 /* and a line with a constant must miss by so much less than one without */
#define GAPS_FOR_TREND 3
#define TREND 1.1      /* a rate that grows so much from gap to gap is a trend */
#define ODD 4.0        /* so many times what the model says is out of line */
#define LONE_SPREAD 2.0 /* one gap: it could be half or twice as much */
/* A pass tells the throughput when it sent for so long, and so much. */
#define SEND_MIN_S 0.2
#define SEND_MIN_WORK (1u << 20)
#define WORK_SPREAD 2.0       /* and so many times the work of another one */
#define THROUGHPUT_SPREAD 1.1 /* how much better or worse it may be than what was seen */
#define LONE_THROUGHPUT 1.25  /* the same where it was seen once */
/* What ordinary links do, when no pass has sent enough to tell (stager plan's figure). */
#define GUESSED_THROUGHPUT 100e6
#define GUESS_SPREAD 4.0
#define GAP_MIN_S 0.01
#define POINTS_MAX (STG_FORECAST_GAPS + 1)
/* What a delta gets through of what matches: measured with librsync, one core. */
#define MATCHED_PER_S 250e6

/* A gap that counts. */
struct gap {
	const struct stg_past *past;
	double s, work;
};

struct model {
	struct gap v[STG_FORECAST_GAPS]; /* the oldest first */
	size_t n;
	double rate, constant;
	double low, high; /* of what was found, in shares of what the model says */
	double most;      /* the highest rate, where the model says nothing */
	double all;       /* the work that there can be at most: all of the source */
};

static double work_of(const struct stg_past *p, double matched_cost)
{
	const struct stg_hot_count c = {
		.literal = p->bytes_literal,
		.matched = p->bytes_matched,
		.entries = p->entries_changed + p->entries_deleted,
	};

	return stg_hot_work(&c, matched_cost);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Sorts v. */
static double median(double *v, size_t n)
{
	if (!n)
		return 0;
	qsort(v, n, sizeof(*v), by_value);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

double stg_forecast_gap(const struct stg_history *h, size_t i)
{
	double s;

	if (!i || !h->v[i].finished || !h->v[i - 1].finished)
		return 0;
	s = (double)(h->v[i].sync_ms - h->v[i - 1].sync_ms) / 1000;
	return s >= GAP_MIN_S ? s : 0; /* the clock may have been set back */
}

/* The newest gaps before incremental syncs: in a cutover the services stood still. */
static void find_gaps(const struct stg_history *h, struct model *m, struct stg_forecast *f)
{
	for (size_t i = h->n; i-- > 1 && m->n < STG_FORECAST_GAPS;) {
		double s = stg_forecast_gap(h, i);

		if (h->v[i].kind != STG_PHASE_INCREMENTAL || !h->v[i].finished)
			continue;
		f->broken |= !h->v[i - 1].finished;
		if (s > 0)
			m->v[m->n++] = (struct gap){ &h->v[i], s, work_of(&h->v[i], f->matched_cost) };
	}
	for (size_t i = 0; i < m->n / 2; i++) {
		struct gap g = m->v[i];

		m->v[i] = m->v[m->n - 1 - i];
		m->v[m->n - 1 - i] = g;
	}
}

/* Does each gap have a clearly higher rate than the one before? */
static bool is_growing(const struct model *m)
{
	if (m->n < GAPS_FOR_TREND)
		return false;
	for (size_t i = m->n - GAPS_FOR_TREND + 1; i < m->n; i++)
		if (m->v[i].work / m->v[i].s <= TREND * m->v[i - 1].work / m->v[i - 1].s)
			return false;
	return true;
}

/* Could a constant be told from a rate?  Not where all of the source is sent anyway. */
static bool gaps_differ(const struct model *m)
{
	double shortest = m->v[0].s, longest = m->v[0].s;

	for (size_t i = 0; i < m->n; i++) {
		if (m->v[i].work > m->all / 2)
			return false;
		shortest = MIN(shortest, m->v[i].s);
		longest = MAX(longest, m->v[i].s);
	}
	return m->n >= GAPS_FOR_CONSTANT && longest >= GAP_SPREAD * shortest;
}

static double distance(const struct model *m, double constant, double rate)
{
	double sum = 0;

	for (size_t i = 0; i < m->n; i++)
		sum += fabs(m->v[i].work - constant - rate * m->v[i].s);
	return sum;
}

/* Theil and Sen's line: the median of the slopes between pairs, then that of what is left. */
static void fit_line(struct model *m)
{
	double v[STG_FORECAST_GAPS * STG_FORECAST_GAPS], constant, rate;
	size_t n = 0;

	for (size_t i = 0; i < m->n; i++)
		for (size_t k = 0; k < m->n; k++)
			if (m->v[i].s >= GAP_SPREAD * m->v[k].s)
				v[n++] = (m->v[i].work - m->v[k].work) / (m->v[i].s - m->v[k].s);
	rate = MAX(median(v, n), 0.0);
	for (size_t i = 0; i < m->n; i++)
		v[i] = m->v[i].work - rate * m->v[i].s;
	constant = median(v, m->n);
	/* Noise looks like a little of a line, too. */
	if (constant <= 0 || distance(m, constant, rate) > LINE_BETTER * distance(m, 0, m->rate))
		return;
	m->constant = constant;
	m->rate = rate;
}

static void fit(struct model *m, struct stg_forecast *f)
{
	double v[STG_FORECAST_GAPS];

	for (size_t i = 0; i < m->n; i++)
		v[i] = m->v[i].work / m->v[i].s;
	m->rate = median(v, m->n);
	f->growing = is_growing(m);
	if (f->growing)
		m->rate = m->v[m->n - 1].work / m->v[m->n - 1].s;
	else if (gaps_differ(m))
		fit_line(m);
}

static double modelled(const struct model *m, double gap_s)
{
	return MIN(m->constant + m->rate * gap_s, m->all);
}

/* How far the passes were from what the model says of them. */
static void find_spread(struct model *m, struct stg_forecast *f)
{
	double v[STG_FORECAST_GAPS];
	size_t n = 0, drop;

	for (size_t i = 0; i < m->n; i++) {
		double said = modelled(m, m->v[i].s);

		m->most = MAX(m->most, m->v[i].work / m->v[i].s);
		if (said > 0)
			v[n++] = m->v[i].work / said;
		if (i + 1 == m->n)
			f->odd = m->v[i].work > ODD * said && m->n > 1;
	}
	m->low = m->high = 1;
	if (!n)
		return;
	qsort(v, n, sizeof(*v), by_value);
	/* Of many, one that is out of line on either side says little. */
	drop = n >= STG_FORECAST_GAPS;
	m->low = MIN(v[drop], 1.0);
	m->high = MAX(v[n - 1 - drop], 1.0);
	if (n == 1) {
		m->low /= LONE_SPREAD;
		m->high *= LONE_SPREAD;
	}
}

static struct stg_range work_after(const struct model *m, double gap_s)
{
	double said = modelled(m, gap_s);

	return (struct stg_range){
		.expected = said,
		.low = m->low * said,
		.high = MIN(said > 0 ? m->high * said : m->most * gap_s, MAX(m->all, said)),
	};
}

/* What a pass took for its work. */
struct point {
	const struct stg_past *past;
	double work, s;
};

/* The newest full sync and the newest incremental ones; of a cutover only the last pass counts. */
static size_t find_points(const struct stg_history *h, double matched_cost,
			  struct point v[POINTS_MAX])
{
	size_t n = 0, incrementals = 0;
	bool full = false;

	for (size_t i = h->n; i-- > 0 && n < POINTS_MAX;) {
		const struct stg_past *p = &h->v[i];

		if (!p->finished || p->kind == STG_PHASE_CUTOVER ||
		    (p->kind == STG_PHASE_FULL ? full : incrementals == STG_FORECAST_GAPS))
			continue;
		full |= p->kind == STG_PHASE_FULL;
		incrementals += p->kind == STG_PHASE_INCREMENTAL;
		v[n++] = (struct point){ p, work_of(p, matched_cost), p->duration_s };
	}
	return n;
}

/* Two passes with clearly different work tell what the difference took. */
static bool tells_throughput(const struct point *more, const struct point *less, double *ret)
{
	if (more->work < WORK_SPREAD * less->work || more->work < SEND_MIN_WORK ||
	    more->s - less->s < SEND_MIN_S)
		return false;
	*ret = (more->work - less->work) / (more->s - less->s);
	return true;
}

static void find_throughput(const struct point *p, size_t points, struct stg_forecast *f)
{
	double v[POINTS_MAX * POINTS_MAX], spread = THROUGHPUT_SPREAD;
	const struct point none = { 0 };
	size_t n = 0;

	for (size_t i = 0; i < points; i++)
		for (size_t k = 0; k < points; k++)
			n += tells_throughput(&p[i], &p[k], &v[n]);
	if (n < 2)
		spread = LONE_THROUGHPUT;
	/* Else one pass, as if all of it were sending: it is faster than that. */
	for (size_t i = 0; i < points && !n; i++)
		n += tells_throughput(&p[i], &none, &v[n]);
	f->guessed = !n;
	if (!n) {
		v[n++] = GUESSED_THROUGHPUT;
		spread = GUESS_SPREAD;
	}
	f->throughput.expected = median(v, n);
	f->throughput.low = v[0] / spread;
	f->throughput.high = v[n - 1] * spread;
}

/* What incremental syncs take besides sending, and how much of that is the walk. */
static void find_base(const struct point *p, size_t points, struct stg_forecast *f)
{
	double v[POINTS_MAX], scan = -1;
	size_t n = 0;

	for (size_t i = 0; i < points; i++) {
		const struct stg_past *past = p[i].past;

		/* A walk that waited for the sessions took longer than it needs: the least counts. */
		if (past->entries_scanned) {
			double each = past->scan_s / (double)past->entries_scanned;

			scan = scan < 0 ? each : MIN(scan, each);
		}
		if (past->kind == STG_PHASE_INCREMENTAL)
			v[n++] = MAX(p[i].s - p[i].work / f->throughput.expected, 0.0);
	}
	f->base.expected = median(v, n);
	f->base.low = v[0];
	f->base.high = v[n - 1];
	/* The newest pass is the first point. */
	f->scan_s = MIN(MAX(scan, 0.0) * (double)p[0].past->entries_scanned, f->base.expected);
}

/* Twice: the throughput tells what a matched byte costs, and so what the work was. */
static void find_costs(const struct stg_history *h, struct stg_forecast *f)
{
	struct point p[POINTS_MAX];

	for (int i = 0; i < 2; i++) {
		size_t n = find_points(h, f->matched_cost, p);

		find_throughput(p, n, f);
		find_base(p, n, f);
		f->matched_cost = MIN(f->throughput.expected / MATCHED_PER_S, 1.0);
	}
}

/* Passes that go on until one finds nothing; that one is a walk alone. */
static double cutover_s(double base, double scan, double work, double throughput)
{
	return work > 0 ? base + work / throughput + scan : base;
}

static struct stg_range cutover(const struct model *m, const struct stg_forecast *f, double gap_s)
{
	const struct stg_range *b = &f->base, *t = &f->throughput;
	struct stg_range w = work_after(m, gap_s);

	return (struct stg_range){
		.expected = cutover_s(b->expected, f->scan_s, w.expected, t->expected),
		.low = cutover_s(b->low, MIN(f->scan_s, b->low), w.low, t->high),
		.high = cutover_s(b->high, f->scan_s, w.high, t->low),
	};
}

static void find_times(const struct model *m, struct stg_forecast *f)
{
	double next = f->base.expected + modelled(m, f->since_s) / f->throughput.expected;

	f->now = cutover(m, f, f->since_s);
	/* The incremental sync that is made first is the gap before that cutover. */
	f->after = cutover(m, f, next);
	f->floor_s = f->converges ? (f->base.expected + m->constant / f->throughput.expected) /
					    (1 - f->ratio.expected) :
				    -1;
}

static void find_rates(const struct model *m, struct stg_forecast *f)
{
	double bytes[STG_FORECAST_GAPS], entries[STG_FORECAST_GAPS];
	size_t first = f->growing ? m->n - 1 : 0;

	for (size_t i = first; i < m->n; i++) {
		const struct gap *g = &m->v[i];

		bytes[i - first] = (double)g->past->bytes_literal / g->s;
		entries[i - first] =
			(double)(g->past->entries_changed + g->past->entries_deleted) / g->s;
	}
	f->bytes_per_s = median(bytes, m->n - first);
	f->entries_per_s = median(entries, m->n - first);
	f->rate = (struct stg_range){
		.expected = m->rate,
		.low = m->low * m->rate,
		.high = m->rate > 0 ? m->high * m->rate : m->most,
	};
	if (m->constant > 0)
		f->rate.high = m->high * m->rate;
	f->ratio = (struct stg_range){
		.expected = f->rate.expected / f->throughput.expected,
		.low = f->rate.low / f->throughput.high,
		.high = f->rate.high / f->throughput.low,
	};
	f->converges = f->ratio.expected < 1;
	f->constant = m->constant;
}

/* ---- paths ---- */

static bool same_path(const struct stg_change *a, const struct stg_change *b)
{
	if (strcmp(a->path, b->path) != 0 || !a->path_base64 != !b->path_base64)
		return false;
	return !a->path_base64 || !strcmp(a->path_base64, b->path_base64);
}

static int more_work(const void *a, const void *b)
{
	const struct stg_forecast_path *x = a, *y = b;

	if (x->share > y->share || x->share < y->share)
		return x->share < y->share ? 1 : -1;
	return strcmp(x->path->path, y->path->path);
}

/* The lists of the gaps that count, as one. */
static void find_paths(const struct model *m, const struct stg_forecast *f, bool files,
		       struct stg_forecast_paths *ret)
{
	struct stg_forecast_path v[STG_FORECAST_GAPS * STG_HOT_TOP];
	double s = 0, work = 0;
	size_t n = 0;

	for (size_t i = f->growing ? m->n - 1 : 0; i < m->n; i++) {
		const struct stg_changes *c =
			files ? &m->v[i].past->files : &m->v[i].past->dirs;

		s += m->v[i].s;
		work += m->v[i].work;
		for (size_t k = 0; k < c->n; k++) {
			size_t at = 0;

			while (at < n && !same_path(v[at].path, &c->v[k]))
				at++;
			if (at == n)
				v[n++] = (struct stg_forecast_path){ .path = &c->v[k] };
			v[at].bytes_per_s += (double)c->v[k].count.literal;
			v[at].entries_per_s += (double)c->v[k].count.entries;
			v[at].share += stg_hot_work(&c->v[k].count, f->matched_cost);
		}
	}
	for (size_t i = 0; i < n; i++) {
		v[i].bytes_per_s /= s;
		v[i].entries_per_s /= s;
		v[i].share = work > 0 ? MIN(v[i].share / work, 1.0) : 0;
	}
	qsort(v, n, sizeof(v[0]), more_work);
	ret->n = MIN(n, (size_t)STG_HOT_TOP);
	memcpy(ret->v, v, ret->n * sizeof(v[0]));
}

/* ---- all of it ---- */

static int too_few(const struct stg_forecast *f, struct err *e)
{
	if (f->broken)
		return err_set(e, -ERR_FORBIDDEN,
			       "a forecast needs two finished passes one after the other, and a "
			       "broken-off one lies between them: run \"stager incremental\"");
	return err_set(e, -ERR_FORBIDDEN,
		       "a forecast needs two finished passes, a full and an incremental sync: there "
		       "%s %zu so far, run \"stager %s\"", f->passes == 1 ? "is" : "are", f->passes,
		       f->passes ? "incremental" : "full");
}

int stg_forecast_make(const struct stg_history *h, int64_t now_ms, struct stg_forecast *ret,
		      struct err *e)
{
	struct stg_forecast f = { 0 };
	struct model m = { 0 };
	const struct stg_past *last = NULL;

	for (size_t i = 0; i < h->n; i++)
		if (h->v[i].finished) {
			f.passes++;
			last = &h->v[i];
		}
	f.matched_cost = STG_MATCHED_COST;
	find_gaps(h, &m, &f);
	f.gaps = m.n;
	if (!m.n)
		return too_few(&f, e);
	find_costs(h, &f);
	for (size_t i = 0; i < m.n; i++)
		m.v[i].work = work_of(m.v[i].past, f.matched_cost);
	f.since_s = MAX((double)(now_ms - last->sync_ms) / 1000, 0.0);
	m.all = MAX(stg_hot_work(&(struct stg_hot_count){ .literal = last->bytes_scanned,
							  .entries = last->entries_scanned }, 0),
		    work_of(last, f.matched_cost));
	fit(&m, &f);
	find_spread(&m, &f);
	find_rates(&m, &f);
	find_times(&m, &f);
	find_paths(&m, &f, false, &f.dirs);
	find_paths(&m, &f, true, &f.files);
	*ret = f;
	return 0;
}
