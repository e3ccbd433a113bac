/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/courier.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/cloud.h"
#include "agent/errors.h"
#include "agent/json.h"
#include "agent/options.h"
#include "agent/source.h"
#include "agent/spool.h"
#include "common/io.h"
#include "common/log.h"
#include "common/text.h"

#define SOURCE_GONE "SMS.7602"

struct round {
	const struct agt_courier *c;
	struct agt_round *ret;
	bool registered; /* in this round */
};

static bool time_is_over(const struct round *w)
{
	return w->c->until_ns && clock_mono_ns() >= w->c->until_ns;
}

static void note(struct round *w, const struct agt_reply *reply)
{
	w->ret->retry_after_s = reply->retry_after_s;
	snprintf(w->ret->code, sizeof(w->ret->code), "%s", reply->code);
}

static int enrol(struct round *w, struct err *e)
{
	w->registered = true;
	return agt_registration_send(w->c->o, w->c->cloud, w->ret->source_id, w->ret->code, e);
}

/*
 * A record that SMS does not want to change is no reason to keep reports back; one that is not
 * there is.
 */
static int enrol_if_may(struct round *w, struct err *e)
{
	bool known = *w->ret->source_id;
	struct err why = { 0 };
	int r = enrol(w, &why);

	if (r == -ERR_CLOUD && known && *w->ret->source_id) {
		log_error("%s", why.text);
		w->ret->code[0] = '\0';
		return 0;
	}
	return r < 0 ? err_set(e, r, "%s", why.text) : 0;
}

/* A call about this source.  Where SMS has forgotten it, it is registered again, once. */
static int call_source(struct round *w, struct agt_call *call, struct agt_reply *reply,
		       struct err *e)
{
	int r;

	call->args[0] = w->ret->source_id;
	r = agt_cloud_call(w->c->cloud, call, reply, e);
	if (r < 0 && agt_reply_is(reply, SOURCE_GONE) && !w->registered) {
		agt_reply_fini(reply);
		r = enrol(w, e);
		if (r == 0)
			r = agt_cloud_call(w->c->cloud, call, reply, e);
	}
	if (r < 0)
		note(w, reply);
	return r;
}

/* ---- sending ---- */

/* Would the same report be refused for ever? */
static bool is_final(int r, const struct agt_reply *reply)
{
	const struct agt_error_row *row = agt_error_find(reply->code);

	if (r != -ERR_CLOUD || (row && row->again))
		return false;
	return reply->status >= 400 && reply->status < 500 && reply->status != 401 &&
	       reply->status != 403 && reply->status != 408 && reply->status != 429;
}

static int send_report(struct round *w, const struct cJSON *v, struct agt_reply *reply,
		       struct err *e)
{
	struct agt_call call = {
		.service = AGT_SMS,
		.method = agt_json_str(v, "method", ""),
		.path = agt_json_str(v, "path", ""),
		.body = agt_json_at(v, "body"),
		.repeatable = true,
	};
	int r;

	if (!strcmp(agt_json_str(v, "of", ""), "source"))
		return call_source(w, &call, reply, e);
	call.args[0] = agt_json_str(v, "id", "");
	r = agt_cloud_call(w->c->cloud, &call, reply, e);
	if (r < 0)
		note(w, reply);
	return r;
}

static int reject(struct round *w, const struct agt_spool_item *item, const char *what,
		  const char *why, struct err *e)
{
	log_error("a report of %s is set aside in %s/" AGT_SPOOL_NAME "/" AGT_SPOOL_REJECTED
		  ": %s",
		  what, w->c->o->state_dir, why);
	w->ret->rejected++;
	return agt_spool_reject(w->c->spool, item, e);
}

/* Is it one of those that agent/snapshot.c makes, with an id that can be in a path? */
static bool makes_sense(const struct cJSON *v)
{
	const char *id = agt_json_str(v, "id", "");

	return agt_json_is_object(v) && *agt_json_str(v, "method", "") &&
	       *agt_json_str(v, "path", "") &&
	       (!strcmp(agt_json_str(v, "of", ""), "source") ||
		(*id && id[0] != '.' && !strchr(id, '/')));
}

static int deliver(struct round *w, const struct agt_spool_item *item, struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *v = NULL;
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	struct err why = { 0 };
	const char *kind;
	int r = agt_spool_read(w->c->spool, item, &text, &why);

	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = agt_json_parse(buf_view(&text), &v, &why);
	if (r == -ERR_PROTOCOL || r == -EFBIG || (r == 0 && !makes_sense(v)))
		return reject(w, item, "an unknown kind", "it is damaged", e);
	if (r < 0)
		return err_set(e, r, "%s", why.text);
	kind = agt_json_str(v, "kind", "something");
	r = send_report(w, v, &reply, &why);
	if (r == 0) {
		w->ret->sent++;
		return agt_spool_done(w->c->spool, item, e);
	}
	if (is_final(r, &reply)) {
		w->ret->code[0] = '\0';
		return reject(w, item, kind, why.text, e);
	}
	r = err_ctx(&why, r, "send a report of %s", kind);
	return err_set(e, r, "%s", why.text);
}

static int deliver_all(struct round *w, struct err *e)
{
	_cleanup_free_ struct agt_spool_item *v = NULL;
	size_t n = 0;
	int r = agt_spool_list(w->c->spool, &v, &n, e);

	for (size_t i = 0; i < n && r == 0; i++) {
		if (time_is_over(w)) {
			w->ret->more = true;
			return 0;
		}
		r = deliver(w, &v[i], e);
	}
	return r;
}

/* ---- asking ---- */

static int ask_command(struct round *w, struct err *e)
{
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	struct agt_call call = { .service = AGT_SMS,
				 .method = "GET",
				 .path = "/v3/sources/{}/command" };
	int r = call_source(w, &call, &reply, e);

	if (r < 0)
		return r;
	agt_json_text(reply.body, "command_name", w->ret->command, sizeof(w->ret->command));
	agt_json_text(reply.body, "command_param.task_id", w->ret->task_id,
		      sizeof(w->ret->task_id));
	return 0;
}

int agt_courier_round(const struct agt_courier *c, struct agt_round *ret, struct err *e)
{
	struct round w = { .c = c, .ret = ret };
	int r;

	*ret = (struct agt_round){ .retry_after_s = -1 };
	r = agt_spool_lock(c->spool, e);
	if (r == 0)
		r = agt_source_binding(c->o->state_dir, ret->source_id, sizeof(ret->source_id),
				       e);
	if (r == 0 && (c->register_due || !*ret->source_id))
		r = enrol_if_may(&w, e);
	if (r == 0)
		r = deliver_all(&w, e);
	if (r == 0 && c->ask && !ret->more)
		r = ask_command(&w, e);
	return r;
}
