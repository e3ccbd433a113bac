/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "common/io.h"
#include "common/text.h"
#include "stager/report_parts.h"

/*
 * The file may come from another machine: every field is taken as it is found, a missing
 * one shows as "-", and nothing of it reaches the terminal unescaped.
 */
struct page {
	struct buf *out;
	int r; /* the first failure: memory */
};

static void put(struct page *p, const char *fmt, ...) _printf_(2, 3);
static void put(struct page *p, const char *fmt, ...)
{
	_cleanup_free_ char *s = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	if (n < 0) {
		s = NULL;
		p->r = p->r ? p->r : -ENOMEM;
	} else if (p->r == 0) {
		p->r = buf_put(p->out, s, (size_t)n);
	}
}

/* Control bytes, also the two-byte ones of U+0080 to U+009F, become \xNN. */
static void put_clean_n(struct page *p, const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];
		unsigned char next = i + 1 < n ? (unsigned char)s[i + 1] : 0;

		if (c == 0xc2 && next >= 0x80 && next < 0xa0) {
			put(p, "\\x%02x\\x%02x", c, next);
			i++;
		} else if (c < 0x20 || c == 0x7f) {
			put(p, "\\x%02x", c);
		} else if (p->r == 0) {
			p->r = buf_put_u8(p->out, c);
		}
	}
}

static void put_clean(struct page *p, const char *s)
{
	put_clean_n(p, s, strlen(s));
}

static const char *str(const cJSON *o, const char *key)
{
	const char *s = json_str(o, key);

	return s && *s ? s : "-";
}

static double num(const cJSON *o, const char *key)
{
	const cJSON *v = json_get(o, key);

	return cJSON_IsNumber(v) ? v->valuedouble : 0;
}

static void put_row(struct page *p, const char *label, const cJSON *o, const char *key)
{
	put(p, "%-18s", label);
	put_clean(p, str(o, key));
	put(p, "\n");
}

static void put_code(struct page *p, const cJSON *o, const char *key)
{
	if (cJSON_IsNumber(json_get(o, key)))
		put(p, "%.0f", num(o, key));
	else
		put(p, "-");
}

static void put_host(struct page *p, const char *label, const cJSON *o, const char *host,
		     const char *port)
{
	put(p, "%-18s", label);
	put_clean(p, str(o, host));
	put(p, " port %.0f\n", num(o, port));
}

static void put_header(struct page *p, const cJSON *root)
{
	put(p, "Migration report\n\n");
	put_row(p, "Migration", root, "migration_id");
	put_host(p, "Source", root, "source_host", "source_port");
	put_host(p, "Target", root, "target_host", "target_port");
	put_row(p, "State", root, "state");
	put_row(p, "Last run", root, "run_id");
	put_row(p, "  command", root, "command");
	put_row(p, "  version", root, "tool_version");
	put_row(p, "  started", root, "started_at_utc");
	put_row(p, "  finished", root, "finished_at_utc");
	put_row(p, "  result", root, "run_state");
	put(p, "%-18s", "  exit code");
	put_code(p, root, "exit_code");
	put(p, "\n");
	put_row(p, "Written", root, "generated_at_local");
	put_row(p, "Audit log line", root, "previous_sha256");
}

static uint64_t count(const cJSON *o, const char *key)
{
	double v = num(o, key);

	return v > 0 && v < 1.8e19 ? (uint64_t)v : 0;
}

static void put_phases(struct page *p, const cJSON *phases)
{
	const cJSON *i, *s;
	char took[32], sent[32], wire[32];

	put(p, "\nPhases\n%-21s %-20s %9s %-11s %4s %10s %10s %9s %10s %10s %6s %s\n", "phase",
	    "started (UTC)", "took", "result", "exit", "scanned", "changed", "deleted", "sent",
	    "on wire", "errors", "deletes");
	cJSON_ArrayForEach(i, phases) {
		s = json_get(i, "stats");
		text_duration(took, num(i, "duration_sec"));
		text_size(sent, count(s, "bytes_literal"));
		text_size(wire, count(s, "bytes_wire_out"));
		put_clean(p, str(i, "phase"));
		put(p, "%*s ", MAX(0, 21 - (int)strlen(str(i, "phase"))), "");
		put_clean(p, str(i, "started_at_utc"));
		put(p, " %9s ", took);
		put_clean(p, str(i, "run_state"));
		put(p, "%*s ", MAX(0, 11 - (int)strlen(str(i, "run_state"))), "");
		if (cJSON_IsNumber(json_get(i, "exit_code")))
			put(p, "%4.0f", num(i, "exit_code"));
		else
			put(p, "   -");
		put(p, " %10.0f %10.0f %9.0f %10s %10s %6.0f ", num(s, "entries_scanned"),
		    num(s, "entries_changed"), num(s, "entries_deleted"), sent, wire,
		    num(i, "errors_total"));
		put_clean(p, str(i, "delete_mode"));
		put(p, "\n");
	}
}

/* Which limit was in force when; nothing at all where there never was one. */
static void put_limits(struct page *p, const cJSON *phases)
{
	const cJSON *i, *l;
	bool titled = false;
	char size[32];

	cJSON_ArrayForEach(i, phases) {
		const cJSON *limits = json_get(i, "bandwidth");

		if (cJSON_GetArraySize(limits) == 1 &&
		    !count(cJSON_GetArrayItem(limits, 0), "limit_bytes_per_s"))
			continue;
		cJSON_ArrayForEach(l, limits) {
			uint64_t bytes = count(l, "limit_bytes_per_s");

			if (!titled)
				put(p, "\nBandwidth limits\n");
			titled = true;
			put(p, "  ");
			put_clean(p, str(i, "phase"));
			put(p, " from ");
			put_clean(p, str(l, "since_utc"));
			put(p, ": %s%s", bytes ? text_size(size, bytes) : "none", bytes ? "/s" : "");
			if (cJSON_IsString(json_get(l, "window"))) {
				put(p, " (window ");
				put_clean(p, str(l, "window"));
				put(p, ")");
			}
			put(p, "\n");
		}
	}
}

/* Several lines of output, each set in and cleaned. */
static void put_output(struct page *p, const char *s)
{
	while (*s) {
		size_t n = strcspn(s, "\n");

		put(p, "      ");
		put_clean_n(p, s, n);
		put(p, "\n");
		s += n + (s[n] == '\n');
	}
}

static void put_step(struct page *p, const cJSON *o)
{
	const char *tail = json_str(o, "output_tail");

	put(p, "  ");
	put_clean(p, str(o, "step"));
	if (json_get(o, "phase")) {
		put(p, " (");
		put_clean(p, str(o, "phase"));
		put(p, ")");
	}
	put(p, ": returned ");
	put_code(p, o, "return_code");
	put(p, " after %.3f s%s%s\n", num(o, "duration_sec"),
	    cJSON_IsTrue(json_get(o, "timed_out")) ? ", timed out" : "",
	    cJSON_IsTrue(json_get(o, "skipped")) ? ", skipped by the operator" : "");
	if (tail)
		put_output(p, tail);
}

static void put_steps(struct page *p, const cJSON *root)
{
	static const char *const steps[] = { "source_rsync_check", "target_rsync_check",
					     "cutover_stop", "cutover_start", "target_finalize" };
	const cJSON *i;

	put(p, "\nSteps\n");
	for (size_t n = 0; n < ARRAY_SIZE(steps); n++) {
		i = json_get(root, steps[n]);
		if (cJSON_IsObject(i))
			put_step(p, i);
		else
			put(p, "  %s: not run\n", steps[n]);
	}
	put(p, "\nHooks\n");
	if (!cJSON_GetArraySize(json_get(root, "hooks")))
		put(p, "  none\n");
	cJSON_ArrayForEach(i, json_get(root, "hooks"))
		put_step(p, i);
}

static void put_list(struct page *p, const char *title, const cJSON *root, const char *items,
		     const char *total)
{
	const cJSON *i, *array = json_get(root, items);
	int n = cJSON_GetArraySize(array);

	put(p, "\n%s of the last run: %.0f", title, num(root, total));
	if (num(root, total) > n)
		put(p, ", the first %d of them", n);
	put(p, "\n");
	cJSON_ArrayForEach(i, array) {
		put(p, "  ");
		put_clean(p, str(i, "path"));
		put(p, ": ");
		if (json_get(i, "operation")) {
			put_clean(p, str(i, "operation"));
			put(p, ": ");
			put_clean(p, str(i, "errno"));
			put(p, ": ");
		}
		put_clean(p, str(i, "message"));
		put(p, "\n");
	}
}

/* The values of one side, or of the strings of an array. */
static void put_members(struct page *p, const char *title, const cJSON *o)
{
	const cJSON *i;
	bool first = true;

	if (!cJSON_GetArraySize(o))
		return;
	put(p, "%s", title);
	cJSON_ArrayForEach(i, o) {
		put(p, first ? " " : ", ");
		first = false;
		if (i->string && cJSON_IsObject(o)) {
			put_clean(p, i->string);
			put(p, " ");
		}
		if (cJSON_IsNumber(i))
			put(p, "%.0f", i->valuedouble);
		else
			put_clean(p, cJSON_IsString(i) ? i->valuestring : "-");
	}
}

static void put_difference(struct page *p, const cJSON *d)
{
	put(p, "  ");
	put_clean(p, str(d, "path"));
	put(p, ": ");
	put_clean(p, str(d, "cause"));
	put(p, ":");
	put_members(p, "", json_get(d, "what"));
	put_members(p, "; source:", json_get(d, "source"));
	put_members(p, "; target:", json_get(d, "target"));
	put_members(p, "; attributes:", json_get(d, "attributes"));
	put(p, "%s\n", cJSON_IsTrue(json_get(d, "repaired")) ? "; put right" : "");
}

static void put_verification(struct page *p, const cJSON *v)
{
	const cJSON *i, *found = json_get(v, "differences");
	const cJSON *used = json_get(v, "skipped_in_use");
	char size[32];

	if (!cJSON_IsObject(v))
		return;
	put(p, "\nVerification\n");
	put_row(p, "  method", v, "method");
	put_row(p, "  started", v, "started_at_utc");
	put_row(p, "  finished", v, "finished_at_utc");
	put_row(p, "  result", v, "result");
	put(p, "%-18s%.0f, content of %.0f files (%s)\n", "  entries compared",
	    num(v, "entries_checked"), num(v, "files_hashed"),
	    text_size(size, count(v, "bytes_hashed")));
	put_members(p, "  not compared:", json_get(v, "not_compared"));
	if (cJSON_GetArraySize(json_get(v, "not_compared")))
		put(p, "\n");
	cJSON_ArrayForEach(i, json_get(v, "include")) {
		put(p, "  below ");
		put_clean(p, str(i, "path"));
		put(p, ": %.0f entries%s\n", num(i, "entries"),
		    cJSON_IsTrue(json_get(i, "exists")) ? "" : " (no such path is synced)");
	}
	put(p, "  %.0f differ on the target, %.0f have changed on the source, %.0f put right, "
	       "%.0f could not be looked at\n",
	    num(v, "defects_total"), num(v, "changed_on_source_total"), num(v, "repaired_total"),
	    num(v, "unchecked_total"));
	cJSON_ArrayForEach(i, found)
		put_difference(p, i);
	if (num(v, "differences_total") > cJSON_GetArraySize(found))
		put(p, "  and more: these are the first\n");
	if (num(v, "skipped_in_use_total") > 0)
		put(p, "  in use, content not compared: %.0f\n", num(v, "skipped_in_use_total"));
	cJSON_ArrayForEach(i, used) {
		put(p, "    ");
		put_clean(p, str(i, "path"));
		put(p, ": ");
		put_clean(p, str(i, "reason"));
		put(p, "\n");
	}
}

/* Parts of other modules, as they are. */
static void put_sections(struct page *p, const cJSON *root)
{
	static const char *const sections[] = { "cutover", "boot_repair", "postcheck",
						"checkpoints" };

	for (size_t n = 0; n < ARRAY_SIZE(sections); n++) {
		const cJSON *o = json_get(root, sections[n]);
		char *text = o ? cJSON_Print(o) : NULL;

		if (o && !text)
			p->r = p->r ? p->r : -ENOMEM;
		if (!text)
			continue;
		put(p, "\n%s\n", sections[n]);
		for (char *c = text; *c; c++)
			if (*c == '\t')
				*c = ' ';
		put_output(p, text);
		cJSON_free(text);
	}
}

int stg_report_render_text(int dirfd, const char *name, struct buf *out, struct err *e)
{
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	struct page p = { .out = out };
	const cJSON *i;
	cJSON *root;
	int r;

	r = io_read_file(dirfd, name, STG_REPORT_FILE_MAX, &text, e);
	if (r < 0)
		return err_ctx(e, r, "read report");
	root = cJSON_ParseWithLength((const char *)buf_view(&text).p, buf_len(&text));
	if (!cJSON_IsObject(root) || !cJSON_IsArray(json_get(root, "phases"))) {
		cJSON_Delete(root);
		return err_set(e, -EBADMSG, "%s is no report", name);
	}
	put_header(&p, root);
	put_phases(&p, json_get(root, "phases"));
	put_limits(&p, json_get(root, "phases"));
	put_steps(&p, root);
	put_list(&p, "Errors", root, "errors", "errors_total");
	put_list(&p, "Files that kept changing", root, "live_files", "live_files_total");
	put_verification(&p, json_get(root, "verification"));
	put_sections(&p, root);
	if (cJSON_GetArraySize(json_get(root, "notes")))
		put(&p, "\nNotes\n");
	cJSON_ArrayForEach(i, json_get(root, "notes")) {
		put(&p, "  ");
		put_clean(&p, cJSON_GetStringValue(i) ? cJSON_GetStringValue(i) : "-");
		put(&p, "\n");
	}
	cJSON_Delete(root);
	return p.r < 0 ? err_set(e, p.r, "render %s: out of memory", name) : 0;
}
