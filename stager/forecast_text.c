/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/forecast.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "common/macro.h"
#include "common/text.h"

#define PATHS_SHOWN 10

struct page {
	struct buf *out;
	int r; /* the first failure: memory */
};

static void put(struct page *p, const char *fmt, ...) _printf_(2, 3);
static void put(struct page *p, const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (p->r == 0)
		p->r = buf_put(p->out, text, MIN((size_t)MAX(n, 0), sizeof(text) - 1));
}

static const char *verdict(const struct stg_forecast *f)
{
	return f->converges ? "CONVERGES" : "DOES NOT CONVERGE";
}

/* What a reader should know besides; NULL: at the end. */
static const char *note(const struct stg_forecast *f, size_t i)
{
	const struct {
		bool holds;
		const char *text;
	} notes[] = {
		{ f->gaps == 1, "there is one gap between passes only: the ranges are a guess, an "
				"incremental sync more makes them better" },
		{ f->growing, "the changes grow from pass to pass: the newest pass alone counts" },
		{ f->odd, "the newest pass found far more than those before it: if that goes on, the "
			  "forecast is too good" },
		{ f->broken, "what follows a pass that was broken off was left out" },
		{ f->guessed, "no pass has sent enough to tell the throughput: 100 MB/s is assumed" },
		{ f->converges && f->ratio.high >= 1, "with the most changes and the least throughput "
						      "seen it would not converge" },
	};

	for (size_t k = 0; k < ARRAY_SIZE(notes); k++)
		if (notes[k].holds && !i--)
			return notes[k].text;
	return NULL;
}

/* ---- for people ---- */

/* "2.5 s", from a minute on "00:01:05". */
static const char *seconds(char out[32], double s)
{
	if (s >= 59.95)
		return text_duration(out, s + 0.5);
	snprintf(out, 32, "%.1f s", s);
	return out;
}

static uint64_t whole(double v)
{
	return v > 0 && v < 1.8e19 ? (uint64_t)(v + 0.5) : 0;
}

static void put_range(struct page *p, const char *label, const struct stg_range *r,
		      const char *when)
{
	char a[32], b[32], c[32];

	put(p, "%-18s%s %s (%s to %s)\n", label, seconds(a, r->expected), when,
	    seconds(b, r->low), seconds(c, r->high));
}

static void put_figures(struct page *p, const struct stg_forecast *f)
{
	char a[32], b[32], c[32];

	put_range(p, "cutover", &f->now, "if it began now");
	put_range(p, "", &f->after, "right after one more incremental sync");
	if (f->floor_s >= 0)
		put(p, "%-18s%s\n", "shortest pass", seconds(a, f->floor_s));
	put(p, "%-18s%s/s, %.3g entries/s\n", "changes", text_size(a, whole(f->bytes_per_s)),
	    f->entries_per_s);
	if (f->constant > 0)
		put(p, "%-18s%s are sent anew in each pass, whenever it comes\n", "",
		    text_size(a, whole(f->constant)));
	put(p, "%-18s%s/s (%s/s to %s/s), entries counted as %d bytes each\n", "throughput",
	    text_size(a, whole(f->throughput.expected)), text_size(b, whole(f->throughput.low)),
	    text_size(c, whole(f->throughput.high)), STG_ENTRY_COST_BYTES);
	put(p, "%-18s%.0f %% of it (%.0f %% to %.0f %%)\n", "changes take",
	    f->ratio.expected * 100, f->ratio.low * 100, f->ratio.high * 100);
	put(p, "%-18s%s besides sending, %s of it to walk the source\n", "each pass",
	    seconds(a, f->base.expected), seconds(b, f->scan_s));
	put(p, "%-18s%zu passes, the last one %s ago\n", "known from", f->passes,
	    seconds(a, f->since_s));
}

static void put_passes(struct page *p, const struct stg_history *h)
{
	char took[32], gap[32], sent[32], wire[32], rate[32], utc[32];

	put(p, "\n%-21s %-20s %9s %9s %9s %9s %8s %10s %10s %12s\n", "pass", "started (UTC)", "took",
	    "gap", "scanned", "changed", "deleted", "sent", "on wire", "changes");
	for (size_t i = 0; i < h->n; i++) {
		const struct stg_past *v = &h->v[i];
		double s = stg_forecast_gap(h, i);
		char name[TEXT_NAME_MAX];

		put(p, "%-21s %-20s ", text_name(name, bytes_str(v->name)),
		    text_utc(utc, v->started_ms / 1000));
		if (!v->finished) {
			put(p, "not finished\n");
			continue;
		}
		snprintf(rate, sizeof(rate), "-");
		if (s > 0 && v->kind == STG_PHASE_INCREMENTAL)
			snprintf(rate, sizeof(rate), "%s/s",
				 text_size(sent, whole((double)v->bytes_literal / s)));
		put(p, "%9s %9s %9llu %9llu %8llu %10s %10s %12s\n", seconds(took, v->duration_s),
		    s > 0 ? seconds(gap, s) : "-", (unsigned long long)v->entries_scanned,
		    (unsigned long long)v->entries_changed, (unsigned long long)v->entries_deleted,
		    text_size(sent, v->bytes_literal), text_size(wire, v->bytes_wire), rate);
	}
}

static void put_paths(struct page *p, const char *title, const struct stg_forecast_paths *l)
{
	char name[TEXT_NAME_MAX], size[32];

	if (!l->n)
		return;
	put(p, "\n%s\n", title);
	for (size_t i = 0; i < l->n && i < PATHS_SHOWN; i++) {
		const struct stg_forecast_path *v = &l->v[i];

		/* A path with a base64 form is escaped already. */
		put(p, "%5.1f %% %12s/s %9.3g entries/s  %s\n", v->share * 100,
		    text_size(size, whole(v->bytes_per_s)), v->entries_per_s,
		    v->path->path_base64 ? v->path->path :
					   text_name(name, bytes_str(v->path->path)));
	}
}

int stg_forecast_text(const struct stg_forecast *f, const struct stg_history *h, struct buf *out)
{
	struct page p = { .out = out };
	const char *text;

	put(&p, "%s: %s\n\n", verdict(f),
	    f->converges ? "each pass leaves less to do than the one before" :
			   "the source changes faster than it can be sent");
	put_figures(&p, f);
	for (size_t i = 0; (text = note(f, i)); i++)
		put(&p, "%-18s%s\n", i ? "" : "note", text);
	put_passes(&p, h);
	put_paths(&p, "Directories by their share of the changes (with small ones below them)",
		  &f->dirs);
	put_paths(&p, "Files by their share of the changes", &f->files);
	return p.r;
}

/* ---- for programs ---- */

static void put_string(struct page *p, const char *s)
{
	if (p->r == 0)
		p->r = text_json(p->out, bytes_str(s));
}

static void put_json_range(struct page *p, const char *key, const struct stg_range *r)
{
	put(p, ",\"%s\":{\"expected\":%.3f,\"low\":%.3f,\"high\":%.3f}", key, r->expected, r->low,
	    r->high);
}

static void put_json_passes(struct page *p, const struct stg_history *h)
{
	put(p, ",\"passes\":[");
	for (size_t i = 0; i < h->n; i++) {
		const struct stg_past *v = &h->v[i];
		double s = stg_forecast_gap(h, i);

		put(p, "%s{\"phase\":", i ? "," : "");
		put_string(p, v->name);
		put(p, ",\"finished\":%s,\"started_at\":%lld", v->finished ? "true" : "false",
		    (long long)(v->started_ms / 1000));
		if (v->finished)
			put(p, ",\"duration_sec\":%.3f,\"scan_sec\":%.3f,\"entries_scanned\":%llu,"
			    "\"entries_changed\":%llu,\"entries_deleted\":%llu,\"bytes_literal\":%llu,"
			    "\"bytes_matched\":%llu,\"bytes_wire_out\":%llu", v->duration_s, v->scan_s,
			    (unsigned long long)v->entries_scanned,
			    (unsigned long long)v->entries_changed,
			    (unsigned long long)v->entries_deleted,
			    (unsigned long long)v->bytes_literal,
			    (unsigned long long)v->bytes_matched, (unsigned long long)v->bytes_wire);
		if (s > 0)
			put(p, ",\"gap_sec\":%.3f", s);
		put(p, "}");
	}
	put(p, "]");
}

static void put_json_paths(struct page *p, const char *key, const struct stg_forecast_paths *l)
{
	put(p, ",\"%s\":[", key);
	for (size_t i = 0; i < l->n; i++) {
		const struct stg_forecast_path *v = &l->v[i];

		put(p, "%s{\"path\":", i ? "," : "");
		put_string(p, v->path->path);
		if (v->path->path_base64) {
			put(p, ",\"path_base64\":");
			put_string(p, v->path->path_base64);
		}
		put(p, ",\"bytes_per_s\":%.3f,\"entries_per_s\":%.3f,\"share\":%.4f}",
		    v->bytes_per_s, v->entries_per_s, v->share);
	}
	put(p, "]");
}

int stg_forecast_json(const struct stg_forecast *f, const struct stg_history *h, struct buf *out)
{
	struct page p = { .out = out };
	const char *text;

	put(&p, "{\"verdict\":\"%s\",\"converges\":%s", verdict(f), f->converges ? "true" : "false");
	put_json_range(&p, "cutover_s", &f->now);
	put_json_range(&p, "cutover_after_incremental_s", &f->after);
	if (f->floor_s >= 0)
		put(&p, ",\"shortest_pass_s\":%.3f", f->floor_s);
	else
		put(&p, ",\"shortest_pass_s\":null");
	put_json_range(&p, "change_per_s", &f->rate);
	put_json_range(&p, "throughput_per_s", &f->throughput);
	put_json_range(&p, "ratio", &f->ratio);
	put(&p, ",\"entry_cost_bytes\":%d,\"bytes_changed_per_s\":%.3f,"
	    "\"entries_changed_per_s\":%.3f,\"constant_bytes\":%.0f", STG_ENTRY_COST_BYTES,
	    f->bytes_per_s, f->entries_per_s, f->constant);
	put_json_range(&p, "pass_base_s", &f->base);
	put(&p, ",\"scan_s\":%.3f,\"since_last_pass_s\":%.3f,\"gaps\":%zu", f->scan_s, f->since_s,
	    f->gaps);
	put(&p, ",\"notes\":[");
	for (size_t i = 0; (text = note(f, i)); i++) {
		put(&p, "%s", i ? "," : "");
		put_string(&p, text);
	}
	put(&p, "]");
	put_json_passes(&p, h);
	put_json_paths(&p, "directories", &f->dirs);
	put_json_paths(&p, "files", &f->files);
	put(&p, "}\n");
	return p.r;
}
