/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * stager/report_parts.h - what report.c and report_load.c share.  Nothing else includes it; callers
 * use stager/report.h.
 */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "stager/report.h"

enum list_kind {
	LIST_ERRORS,
	LIST_LIVE,
	LIST_COUNT,
};

struct stg_report_list_name {
	const char *items;
	const char *total;
};

extern const struct stg_report_list_name stg_report_lists[LIST_COUNT];

static inline cJSON *get(const cJSON *o, const char *key)
{
	return cJSON_GetObjectItemCaseSensitive(o, key);
}

static inline const char *get_str(const cJSON *o, const char *key)
{
	return cJSON_GetStringValue(get(o, key));
}

static inline bool str_is(const cJSON *o, const char *key, const char *want)
{
	const char *s = get_str(o, key);

	return s && !strcmp(s, want);
}

/* JSON that is nothing else, the caller's; NULL: it is not. */
cJSON *stg_report_parse(struct bytes text);

/* An array, and all in it are objects. */
bool stg_report_all_objects(const cJSON *array);

/*
 * Read the report name in o's directory, if there is one.  *ret: the tree to go on with, the
 * caller's; NULL: a new one starts, and where there was another, it was moved aside and
 * *ret_note, the caller's to free, says so and why.
 */
int stg_report_load(const struct stg_report_opts *o, const char *name, int64_t now_s,
		    cJSON **ret, char **ret_note, struct err *e) _must_check_;
