/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/report_parts.h - what report.c, report_load.c and report_text.c share.  Nothing
 * else includes it; callers use stager/report.h.
 */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "stager/report.h"

/* Lists of entries that a run has something to say about. */
enum stg_list_kind {
	STG_LIST_ERRORS, /* could not be sent, or read */
	STG_LIST_LIVE,   /* may not be what they will be */
	STG_LIST_COUNT,
};

/* The keys of a list: in the run, and in each phase. */
struct stg_report_list_name {
	const char *items; /* the array, which is cut off at a length */
	const char *total; /* how many there were */
};

/* By enum stg_list_kind. */
extern const struct stg_report_list_name stg_report_lists[STG_LIST_COUNT];

/* The member, the object's; NULL: there is none, or o is no object. */
static inline cJSON *json_get(const cJSON *o, const char *key)
{
	return cJSON_GetObjectItemCaseSensitive(o, key);
}

/* Its text, the object's; NULL: there is none, or it is no text. */
static inline const char *json_str(const cJSON *o, const char *key)
{
	return cJSON_GetStringValue(json_get(o, key));
}

/* It is a text, and that one. */
static inline bool json_is(const cJSON *o, const char *key, const char *want)
{
	const char *s = json_str(o, key);

	return s && !strcmp(s, want);
}

/* JSON that is nothing else, the caller's; NULL: it is not. */
cJSON *stg_report_parse(struct bytes text);

/* An array, and all in it are objects. */
bool stg_report_all_objects(const cJSON *array);

/*
 * Read the report name in o's directory, if there is one.  *ret: the tree to go on with, the
 * caller's; NULL: a new one starts, and where there was another, it was moved aside and
 * *ret_note, the caller's to free, says so and why; else that is NULL.  Both are NULL after an
 * error.  -EINVAL: it is no regular file.  -ENAMETOOLONG, -EOVERFLOW: it cannot be moved, as
 * the new name would be too long or the clock is out of range.  -ENOMEM.  Else as fstatat(2),
 * io_read_file() and renameat(2).
 */
int stg_report_load(const struct stg_report_opts *o, const char *name, int64_t now_s,
		    cJSON **ret, char **ret_note, struct err *e) _must_check_;
