/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/pages.h - lists that a service gives page by page.
 */
#include <stdbool.h>

#include "agent/cloud.h"
#include "common/error.h"

struct cJSON;

#define AGT_PAGES_MAX 200 /* of one list; the largest, of sources, has 5 */

struct agt_list {
	struct agt_call call; /* GET, without the parameters of paging */
	const char *key;      /* of the array in the answer */
	unsigned limit;       /* items of a page */
	bool marker;          /* pages by the id of the last item, else by offset */
	bool page_numbers;    /* by offset, but it counts pages from 1 */
};

/* How one page is asked for: as agt_cloud_call(). */
typedef int agt_pages_call(void *arg, const struct agt_call *call, struct agt_reply *ret,
			   struct err *e);

/* Every item of every page as one array, the caller's.  Stops when a page repeats itself. */
int agt_pages_read(agt_pages_call *send, void *arg, const struct agt_list *list,
		   struct cJSON **ret, struct err *e) _must_check_;
