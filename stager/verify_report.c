/* SPDX-License-Identifier: Apache-2.0 */
#include "stager/verify.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/log.h"
#include "common/text.h"
#include "stager/migration.h"
#include "stager/options.h"
#include "stager/report.h"
#include "stager/run.h"
#include "transport/frame.h"

#define LOG_MAX  100 /* differences that the log names */
#define NS_PER_S 1000000000ll

static const struct {
	uint32_t bit;
	const char *name;
} whats[] = {
	{ TP_D_MISSING, "missing" },
	{ STG_D_EXTRA, "extra" },
	{ TP_D_TYPE, "type" },
	{ TP_D_SIZE, "size" },
	{ TP_D_CONTENT, "content" },
	{ TP_D_HOLES, "holes" },
	{ TP_D_TARGET, "target" },
	{ TP_D_RDEV, "rdev" },
	{ TP_D_MODE, "mode" },
	{ TP_D_UID, "owner" },
	{ TP_D_GID, "group" },
	{ TP_D_MTIME, "mtime" },
	{ TP_D_ACL, "acl" },
	{ TP_D_CAPABILITY, "capability" },
	{ TP_D_XATTR, "xattrs" },
	{ TP_D_FLAGS, "flags" },
	{ TP_D_LINKS, "links" },
};

static const char *type_name(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "symlink";
	case S_IFCHR:
		return "character device";
	case S_IFBLK:
		return "block device";
	case S_IFIFO:
		return "fifo";
	default:
		return "socket";
	}
}

/* --- one difference --- */

/* JSON text that grows; r is the first failure, which is memory. */
struct json {
	struct buf *out;
	int r;
};

static void put(struct json *j, const char *fmt, ...) _printf_(2, 3);
static void put(struct json *j, const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	if (j->r == 0)
		j->r = text ? buf_put(j->out, text, strlen(text)) : -ENOMEM;
}

static void put_string(struct json *j, struct bytes b)
{
	if (j->r == 0)
		j->r = text_json(j->out, b);
}

static void put_raw(struct json *j, struct bytes b)
{
	if (j->r == 0)
		j->r = buf_put_bytes(j->out, b);
}

static void put_path(struct json *j, struct bytes path)
{
	if (j->r == 0)
		j->r = text_json_path(j->out, path);
}

static void put_number(struct json *j, const char *key, uint64_t v)
{
	put(j, "\"%s\":%llu,", key, (unsigned long long)v);
}

/* Members, each with a comma behind it. */
static void put_values(struct json *j, uint32_t what, const struct tp_difference *d)
{
	const struct tp_meta *m = &d->meta;

	if (what & (TP_D_TYPE | TP_D_MISSING | STG_D_EXTRA))
		put(j, "\"type\":\"%s\",", type_name(m->mode));
	if (what & TP_D_SIZE)
		put_number(j, "size", m->size);
	if (what & TP_D_HOLES)
		put_number(j, "hole_bytes", d->hole_bytes);
	if (what & TP_D_TARGET) {
		put(j, "\"target\":");
		put_string(j, m->target);
		put(j, ",");
	}
	if (what & TP_D_RDEV)
		put(j, "\"rdev\":\"%u:%u\",", m->rdev_major, m->rdev_minor);
	if (what & TP_D_MODE)
		put(j, "\"mode\":\"%04o\",", m->mode & 07777);
	if (what & TP_D_UID)
		put_number(j, "owner", m->uid);
	if (what & TP_D_GID)
		put_number(j, "group", m->gid);
	if (what & TP_D_MTIME)
		put(j, "\"mtime\":\"%lld.%09u\",", (long long)m->mtime_s, m->mtime_ns);
	if (what & TP_D_FLAGS)
		put(j, "\"flags\":\"%s%s\",", m->flags & FS_IMMUTABLE_FL ? "i" : "",
		    m->flags & FS_APPEND_FL ? "a" : "");
	if (what & TP_D_LINKS)
		put_number(j, "links", d->links);
}

/* Take the comma off that the last member left. */
static void close_list(struct json *j, const char *end)
{
	if (j->r == 0 && buf_len(j->out) && j->out->p[j->out->n - 1] == ',')
		j->out->n--;
	put(j, "%s", end);
}

static void put_attributes(struct json *j, struct bytes names)
{
	put(j, ",\"attributes\":[");
	while (names.n) {
		const uint8_t *blank = memchr(names.p, ' ', names.n);
		size_t n = blank ? (size_t)(blank - names.p) : names.n;

		put_string(j, bytes_of(names.p, n));
		put(j, ",");
		names = bytes_of(names.p + n + !!blank, names.n - n - !!blank);
	}
	close_list(j, "]");
}

int stg_verify_detail(struct buf *out, uint32_t what, const struct tp_difference *source,
		      const struct tp_difference *target)
{
	struct json j = { .out = out };

	put(&j, "\"source\":{");
	if (source->there)
		put_values(&j, what, source);
	close_list(&j, "},\"target\":{");
	if (target->there || what & TP_D_LINKS)
		put_values(&j, what, target);
	close_list(&j, "}");
	if (target->attributes.n)
		put_attributes(&j, target->attributes);
	return j.r;
}

static void put_whats(struct json *j, uint32_t what, const char *quote)
{
	for (size_t i = 0; i < ARRAY_SIZE(whats); i++)
		if (what & whats[i].bit)
			put(j, "%s%s%s,", quote, whats[i].name, quote);
	close_list(j, "");
}

static struct bytes shown(struct bytes path)
{
	return path.n ? path : bytes_str(".");
}

static void put_finding(struct json *j, const struct stg_finding *f)
{
	put(j, "{");
	put_path(j, shown(f->path));
	put(j, ",\"what\":[");
	put_whats(j, f->what, "\"");
	put(j, "],\"cause\":\"%s\",\"repaired\":%s",
	    f->cause == STG_CAUSE_SOURCE ? "changed-on-source" : "differs-on-target",
	    f->fixed ? "true" : "false");
	if (f->detail.n)
		put(j, ",");
	put_raw(j, f->detail);
	put(j, "},");
}

static void log_finding(const struct stg_finding *f)
{
	_cleanup_(buf_fini) struct buf what = BUF_INIT;
	struct json j = { .out = &what };
	char text[TEXT_NAME_MAX];
	const char *names;

	put_whats(&j, f->what, "");
	if (j.r < 0 || !(names = buf_cstr(&what)))
		return;
	log_info("%s: %s: %s%s", text_name(text, shown(f->path)),
		 f->cause == STG_CAUSE_SOURCE ? "changed on the source since the last phase" :
						"differs on the target",
		 names, f->fixed ? ": put right" : "");
}

/* --- the section --- */

static int put_findings(struct json *j, struct stg_migration *m, bool log, struct err *e)
{
	struct stg_finding_page *page = calloc(1, sizeof(*page));
	size_t n = 0;
	int r = page ? 0 : err_set(e, -ENOMEM, "out of memory");

	put(j, "\"differences\":[");
	while (r == 0 && n < STG_VERIFY_LIST_MAX) {
		r = stg_catalog_next_finding(m->catalog, page, e);
		if (r < 0 || !page->n)
			break;
		for (size_t i = 0; i < page->n && n < STG_VERIFY_LIST_MAX; i++, n++) {
			put_finding(j, &page->rows[i]);
			if (log && n < LOG_MAX)
				log_finding(&page->rows[i]);
		}
	}
	close_list(j, "]");
	if (page)
		stg_finding_page_fini(page);
	free(page);
	if (r == 0 && log && n > LOG_MAX)
		log_info("and more: the report lists them");
	return r;
}

static void put_time(struct json *j, const char *key, int64_t ns)
{
	char utc[32];

	if (ns)
		put(j, "\"%s\":%lld,\"%s_utc\":\"%s\",", key, (long long)(ns / NS_PER_S), key,
		    text_utc(utc, ns / NS_PER_S));
	else
		put(j, "\"%s\":null,\"%s_utc\":null,", key, key);
}

static void put_scope(struct json *j, const struct stg_migration *m,
		      const struct stg_verify_result *res)
{
	const struct strlist *excludes = &m->opt->verify_exclude;

	put(j, "\"include\":[");
	for (size_t i = 0; i < res->v->include_n; i++) {
		struct stg_verify_include *in = &res->v->include[i];

		put(j, "{");
		put_path(j, bytes_str(in->path));
		put(j, ",\"exists\":%s,\"entries\":%llu},", in->there ? "true" : "false",
		    (unsigned long long)atomic_load(&in->entries));
	}
	close_list(j, "],\"exclude\":[");
	for (size_t i = 0; i < excludes->n; i++) {
		put_string(j, bytes_str(excludes->v[i]));
		put(j, ",");
	}
	close_list(j, "],\"not_compared\":[");
	if (res->finished_ns && !(res->target_flags & TP_R_CHOWN))
		put(j, "\"owner\",\"group\"");
	put(j, "],");
}

static void put_counts(struct json *j, const struct stg_verify_result *res,
		       const struct stg_finding_counts *n)
{
	const struct stg_verification *v = res->v;

	put_number(j, "entries_checked", atomic_load(&v->checked));
	put_number(j, "files_hashed", atomic_load(&v->hashed));
	put_number(j, "bytes_hashed", atomic_load(&v->hashed_bytes));
	put_number(j, "unchecked_total", atomic_load(&v->unchecked));
	put_number(j, "differences_total", n->open);
	put_number(j, "defects_total", n->defects);
	put_number(j, "changed_on_source_total", n->open - n->defects);
	put_number(j, "repaired_total", n->fixed);
	put_number(j, "skipped_in_use_total", atomic_load(&v->in_use));
	put(j, "\"skipped_in_use\":[");
	put_raw(j, buf_view(&v->in_use_list));
	close_list(j, "],");
}

int stg_verify_report(struct stg_migration *m, const struct stg_verify_result *res, bool log,
		      struct err *e)
{
	_cleanup_(buf_fini) struct buf out = BUF_INIT;
	struct json j = { .out = &out };
	struct stg_finding_counts n;
	bool done = res->finished_ns != 0;
	int r = stg_catalog_count_findings(m->catalog, &n, e);

	if (r < 0)
		return r;
	put(&j, "{\"method\":\"%s\",\"result\":\"%s\",",
	    res->v->method == STG_VERIFY_HASH ? "hash" : "quick", res->state);
	if (done)
		put(&j, "\"exit_code\":%d,", res->exit_code);
	else
		put(&j, "\"exit_code\":null,");
	put(&j, "\"run_id\":\"%s\",", m->run_id);
	put_time(&j, "started_at", res->began_ns);
	put_time(&j, "finished_at", res->finished_ns);
	put(&j, "\"duration_sec\":%.3f,",
	    done ? (double)(res->finished_ns - res->began_ns) / NS_PER_S : 0.0);
	put(&j, "\"repair\":%s,\"only_inconsistent\":%s,", res->repair ? "true" : "false",
	    res->only_inconsistent ? "true" : "false");
	put_scope(&j, m, res);
	put_counts(&j, res, &n);
	r = put_findings(&j, m, log, e);
	put(&j, "}");
	if (r == 0 && j.r < 0)
		r = err_set(e, j.r, "write the report: out of memory");
	return r < 0 ? r : stg_report_set_section(m->report, STG_SECTION_VERIFICATION,
						  buf_view(&out), e);
}
