/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pages.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/json.h"
#include "common/macro.h"

#define PAGE_ID_SIZE 128

/* The query parameters of the next page, behind those of the list. */
static void add_page(struct agt_call *call, const struct agt_list *list, const char *limit,
		     const char *at)
{
	size_t i = 0;

	while (i < AGT_CALL_QUERY - 2 && call->query[i].name)
		i++;
	call->query[i++] = (struct agt_pair){ "limit", limit };
	if (*at)
		call->query[i] = (struct agt_pair){ list->marker ? "marker" : "offset", at };
}

/* Append a page; the count of its items, 0 also for one that came already. */
static size_t take_page(struct cJSON *all, const struct cJSON *body, const char *key,
			char last[PAGE_ID_SIZE], bool *repeated)
{
	const struct cJSON *i = agt_json_first(body, key);
	char id[PAGE_ID_SIZE] = "";
	size_t n = 0;

	*repeated = false;
	for (const struct cJSON *k = i; k; k = agt_json_next(k))
		agt_json_text(k, "id", id, sizeof(id));
	/* A service that does not know the parameter sends the same page for ever. */
	if (i && *id && !strcmp(id, last)) {
		*repeated = true;
		return 0;
	}
	snprintf(last, PAGE_ID_SIZE, "%s", id);
	for (; i; i = agt_json_next(i), n++)
		agt_json_add(all, agt_json_copy(i));
	return n;
}

int agt_pages_read(agt_pages_call *send, void *arg, const struct agt_list *list,
		   struct cJSON **ret, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *all = agt_json_array();
	char limit[16], at[PAGE_ID_SIZE] = "", last[PAGE_ID_SIZE] = "";
	size_t have = 0;

	if (!all)
		return err_set(e, -ENOMEM, "out of memory");
	snprintf(limit, sizeof(limit), "%u", list->limit);
	if (!list->marker)
		snprintf(at, sizeof(at), "%d", list->page_numbers ? 1 : 0);
	for (int page = 1; page <= AGT_PAGES_MAX; page++) {
		_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
		struct agt_call call = list->call;
		int64_t count;
		bool repeated;
		size_t n;
		int r;

		add_page(&call, list, limit, at);
		r = send(arg, &call, &reply, e);
		if (r < 0)
			return r;
		n = take_page(all, reply.body, list->key, last, &repeated);
		have += n;
		count = agt_json_int(reply.body, "count", -1);
		/* A page may be shorter than asked for: the service has limits of its own. */
		if (n == 0 || repeated || (count >= 0 && have >= (uint64_t)count) ||
		    (count < 0 && n < list->limit))
			break;
		if (list->marker)
			snprintf(at, sizeof(at), "%s", last);
		else
			snprintf(at, sizeof(at), "%zu",
				 list->page_numbers ? (size_t)page + 1 : have);
	}
	*ret = TAKE_PTR(all);
	return 0;
}
