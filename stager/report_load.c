/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "common/io.h"
#include "common/text.h"
#include "stager/report_parts.h"

/* Whether the report of an earlier run is whole, and about this migration. */

const struct stg_report_list_name stg_report_lists[STG_LIST_COUNT] = {
	[STG_LIST_ERRORS] = { "errors", "errors_total" },
	[STG_LIST_LIVE] = { "live_files", "live_files_total" },
};

bool stg_report_all_objects(const cJSON *array)
{
	const cJSON *i;

	if (!cJSON_IsArray(array))
		return false;
	cJSON_ArrayForEach(i, array)
		if (!cJSON_IsObject(i))
			return false;
	return true;
}

static bool phase_is_sound(const cJSON *phase)
{
	const cJSON *p;

	if (!json_str(phase, "phase") || !json_str(phase, "run_state") ||
	    !cJSON_IsNumber(json_get(phase, "started_at")) ||
	    !stg_report_all_objects(json_get(phase, "paths")))
		return false;
	cJSON_ArrayForEach(p, json_get(phase, "paths"))
		if (!cJSON_IsObject(json_get(p, "sync")))
			return false;
	for (size_t i = 0; i < STG_LIST_COUNT; i++)
		if (!stg_report_all_objects(json_get(phase, stg_report_lists[i].items)) ||
		    !cJSON_IsNumber(json_get(phase, stg_report_lists[i].total)))
			return false;
	return true;
}

/* NULL when old can be continued, else why not. */
static const char *why_not_ours(const struct stg_report_opts *o, const cJSON *old)
{
	const cJSON *phase, *version = json_get(old, "schema_version");

	if (!cJSON_IsObject(old))
		return "it is damaged";
	if (!cJSON_IsNumber(version))
		return "another program wrote it";
	if (version->valueint != STG_REPORT_SCHEMA_VERSION)
		return "it has another schema version";
	if (!stg_report_all_objects(json_get(old, "phases")) ||
	    !stg_report_all_objects(json_get(old, "hooks")) ||
	    !cJSON_IsNumber(json_get(old, "generated_at")))
		return "it is damaged";
	cJSON_ArrayForEach(phase, json_get(old, "phases"))
		if (!phase_is_sound(phase))
			return "it is damaged";
	if (!json_is(old, "migration_id", o->migration_id) ||
	    !json_is(old, "source_id", o->source_id) ||
	    !json_is(old, "target_id", o->target_id))
		return "it is about another migration";
	return NULL;
}

cJSON *stg_report_parse(struct bytes text)
{
	const char *end = NULL;
	cJSON *root;

	/* The parser takes any bytes within strings, and stops after the first value. */
	if (!text.n || !text_is_utf8(text) || memchr(text.p, 0, text.n))
		return NULL;
	root = cJSON_ParseWithLengthOpts((const char *)text.p, text.n, &end, false);
	if (!root)
		return NULL;
	for (const char *at = end; at < (const char *)text.p + text.n; at++)
		if (!strchr(" \t\r\n", *at)) {
			cJSON_Delete(root);
			return NULL;
		}
	return root;
}

static int move_aside(const struct stg_report_opts *o, const char *name, int64_t now_s,
		      const char *why, char **ret_note, struct err *e)
{
	char stamp[32], old[NAME_MAX + 1];
	time_t t = (time_t)now_s;
	struct stat st;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &tm))
		return err_set(e, -EOVERFLOW, "set %s aside: the clock is out of range", name);
	for (unsigned i = 1;; i++) {
		char nth[16] = "";
		int n;

		if (i > 1)
			snprintf(nth, sizeof(nth), "-%u", i);
		n = snprintf(old, sizeof(old), "%s.%s%s.old", name, stamp, nth);
		if (n >= (int)sizeof(old))
			return err_set(e, -ENAMETOOLONG, "set %s aside: name too long", name);
		if (fstatat(o->dirfd, old, &st, AT_SYMLINK_NOFOLLOW) == 0)
			continue;
		if (errno != ENOENT)
			return err_sys(e, "stat %s", old);
		break;
	}
	if (renameat(o->dirfd, name, o->dirfd, old) < 0)
		return err_sys(e, "rename %s to %s", name, old);
	if (asprintf(ret_note, "the earlier report %s was moved to %s: %s", name, old, why) < 0) {
		*ret_note = NULL;
		return err_set(e, -ENOMEM, "read report %s: out of memory", name);
	}
	return 0;
}

int stg_report_load(const struct stg_report_opts *o, const char *name, int64_t now_s,
		    cJSON **ret, char **ret_note, struct err *e)
{
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	const char *why;
	struct stat st;
	cJSON *old;
	int rc;

	*ret = NULL;
	*ret_note = NULL;
	if (fstatat(o->dirfd, name, &st, 0) < 0)
		return errno == ENOENT ? 0 : err_sys(e, "stat report %s", name);
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "report %s is no regular file", name);
	rc = io_read_file(o->dirfd, name, STG_REPORT_FILE_MAX, &text, e);
	if (rc == -EFBIG)
		return move_aside(o, name, now_s, "it is too large", ret_note, e);
	if (rc < 0)
		return err_ctx(e, rc, "read report");
	old = stg_report_parse(buf_view(&text));
	why = old ? why_not_ours(o, old) : "it is damaged";
	if (why) {
		cJSON_Delete(old);
		return move_aside(o, name, now_s, why, ret_note, e);
	}
	*ret = old;
	return 0;
}
