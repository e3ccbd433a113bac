/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sending a call and judging what came back.  After each attempt there is one of three verdicts:
 * it is over; again after a pause, if that is harmless and attempts are left; or again at once
 * with something mended, which happens at most once a call for each thing: the time in the
 * signature, and the scope header.
 */
#include "agent/cloud.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "agent/cloud_parts.h"
#include "agent/errors.h"
#include "agent/json.h"
#include "agent/stop.h"
#include "common/log.h"
#include "common/secret.h"

#define BACKOFF_MS 1000
#define BACKOFF_MAX_MS 30000
#define RETRY_AFTER_MAX_S 300 /* a service that wants more is not waited for in one call */
#define SKEW_TOLD_S 60        /* below that a clock is good enough to say nothing */

static const struct {
	const char *name;
	const char *endpoint;
} services[AGT_SERVICES] = {
	[AGT_SMS] = { "sms", AGT_CLOUD_SMS_ENDPOINT },
	[AGT_IAM] = { "iam", "https://iam.myhuaweicloud.com" },
	[AGT_ECS] = { "ecs", "https://ecs.{region}.myhuaweicloud.com" },
	[AGT_VPC] = { "vpc", "https://vpc.{region}.myhuaweicloud.com" },
	[AGT_EIP] = { "eip", "https://vpc.{region}.myhuaweicloud.com" },
	[AGT_DCS] = { "dcs", "https://dcs.{region}.myhuaweicloud.com" },
	[AGT_SMN] = { "smn", "https://smn.{region}.myhuaweicloud.com" },
};

/* One call, over all its attempts. */
struct attempt {
	const struct agt_call *call;
	struct agt_cloud_request req;
	unsigned n;         /* repetitions so far */
	bool clock_mended;
	bool scope_mended;
};

enum verdict {
	OVER,
	AGAIN_LATER,
	AGAIN_AT_ONCE,
};

const char *agt_service_name(enum agt_service s)
{
	return services[s].name;
}

/* ---- opening ---- */

static int64_t system_clock(void *arg)
{
	(void)arg;
	return (int64_t)time(NULL);
}

static int copy(const char *s, char **ret)
{
	*ret = s ? strdup(s) : NULL;
	return s && !*ret ? -ENOMEM : 0;
}

/* Endpoints, without slashes at the end: every path begins with one. */
static int set_endpoints(struct agt_cloud *c, const struct agt_cloud_opts *opts)
{
	for (size_t i = 0; i < AGT_SERVICES; i++) {
		size_t n;

		if (copy(opts->endpoint[i] ? opts->endpoint[i] : services[i].endpoint,
			 &c->endpoint[i]) < 0)
			return -ENOMEM;
		n = strlen(c->endpoint[i]);
		while (n && c->endpoint[i][n - 1] == '/')
			c->endpoint[i][--n] = '\0';
	}
	return 0;
}

/* An id goes into a header and, mostly, a path. */
static int check_id(const char *what, const char *id, struct err *e)
{
	if (id && (strlen(id) > 64 || strspn(id, "0123456789abcdefghijklmnopqrstuvwxyz"
						 "ABCDEFGHIJKLMNOPQRSTUVWXYZ-_") != strlen(id)))
		return err_set(e, -ERR_USAGE, "control_plane.%s is no id: letters and digits", what);
	return 0;
}

int agt_cloud_new(const struct agt_cloud_opts *opts, struct agt_cloud **ret, struct err *e)
{
	_cleanup_(agt_cloud_freep) struct agt_cloud *c = NULL;
	int r = check_id("project_id", opts->project_id, e);

	if (r == 0)
		r = check_id("domain_id", opts->domain_id, e);
	if (r < 0)
		return r;
	c = calloc(1, sizeof(*c));
	if (!c || set_endpoints(c, opts) < 0 || copy(opts->region ? opts->region : "", &c->region) < 0 ||
	    copy(opts->project_id, &c->project_id) < 0 ||
	    copy(opts->domain_id, &c->domain_id) < 0 || copy(opts->ak, &c->ak) < 0)
		return err_sysn(e, -ENOMEM, "control plane");
	c->transport = opts->transport;
	c->sk = opts->sk;
	c->token = opts->token;
	c->stop = opts->stop;
	c->retries = opts->retries < 0 ? 0
				       : (unsigned)(opts->retries ? opts->retries : AGT_CLOUD_RETRIES);
	c->backoff_ms = opts->backoff_ms ? opts->backoff_ms : BACKOFF_MS;
	c->now_s = opts->now_s ? opts->now_s : system_clock;
	c->now_arg = opts->now_arg;
	c->dry_run = opts->dry_run;
	*ret = TAKE_PTR(c);
	return 0;
}

void agt_cloud_free(struct agt_cloud *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < AGT_SERVICES; i++)
		free(c->endpoint[i]);
	free(c->region);
	free(c->project_id);
	free(c->domain_id);
	free(c->ak);
	strlist_fini(&c->projects);
	free(c);
}

/* ---- keeping keys out of what is shown ---- */

/* Refusals quote access keys, and whole requests with their tokens. */
static void blot_word(char *p, size_t n, struct bytes word, size_t keep)
{
	char *at = p;

	while (word.n > keep && (at = memmem(at, n - (size_t)(at - p), word.p, word.n))) {
		memset(at + keep, '*', word.n - keep);
		at += word.n;
	}
}

static void blot_keys(const struct agt_cloud *c, char *p, size_t n)
{
	if (!n)
		return;
	blot_word(p, n, bytes_str(c->ak), 4);
	blot_word(p, n, secret_view(c->sk), 0);
	if (c->token)
		blot_word(p, n, secret_view(c->token), 0);
}

/* ---- messages ---- */

static const char *how_far(char out[64], int64_t skew_s)
{
	long long s = skew_s < 0 ? -skew_s : skew_s;

	if (s >= 120)
		snprintf(out, 64, "%lld min %s", (s + 30) / 60, skew_s > 0 ? "behind" : "ahead of");
	else
		snprintf(out, 64, "%lld s %s", s, skew_s > 0 ? "behind" : "ahead of");
	return out;
}

static bool skew_matters(const struct agt_reply *reply)
{
	return llabs(reply->skew_s) > AGT_CLOUD_SKEW_MAX_S / 3;
}

/*
 * Is it about the keys and their rights?  The status alone does not tell: some services answer
 * 403 to a quota, too, so a code that says something else wins.
 */
static bool about_keys(const struct agt_reply *reply, const struct agt_error_row *row)
{
	static const char *const codes[] = { "APIGW.", "SMS.0202", "SMS.0204", "SMS.0205", "SMS.0219",
					     "SMS.6522", "SMS.6523", "SMS.6525", "SMS.6527",
					     "SMS.9003", "SMS.9004" };

	if (reply->status == 401)
		return true;
	for (size_t i = 0; row && i < ARRAY_SIZE(codes); i++)
		if (!strncasecmp(row->code, codes[i], strlen(codes[i])))
			return reply->status == 403;
	return reply->status == 403 && !row;
}

/* The refusal as an error: who said what to which request, and what can be done. */
static int refused(struct attempt *a, const struct agt_reply *reply, struct err *e)
{
	const struct agt_error_row *row = agt_error_find(reply->code);
	bool auth = about_keys(reply, row);
	const char *path = buf_cstr(&a->req.path);
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	char far[64];
	int r;

	r = buf_printf(&text, "%s %s %s: HTTP %d", services[a->call->service].name,
		       a->call->method, path ? path : a->call->path, reply->status);
	if (r == 0 && reply->code[0])
		r = buf_printf(&text, ", %s", reply->code);
	if (r == 0 && reply->message[0])
		r = buf_printf(&text, ": %s", reply->message);
	if (r == 0 && reply->request_id[0])
		r = buf_printf(&text, " (request %s)", reply->request_id);
	if (r == 0 && row)
		r = buf_printf(&text, "; %s: %s", row->meaning, row->remedy);
	else if (r == 0 && auth)
		r = buf_printf(&text, "; check access key, secret key and their rights");
	if (r == 0 && auth && skew_matters(reply))
		r = buf_printf(&text,
			       "; this machine's clock is %s the service's, and more than %d min is"
			       " refused: set it right (timedatectl)",
			       how_far(far, reply->skew_s), AGT_CLOUD_SKEW_MAX_S / 60);
	if (r < 0 || !buf_cstr(&text))
		return err_sysn(e, -ENOMEM, "refusal of a service");
	return err_set(e, auth ? -ERR_AUTH : -ERR_CLOUD, "%s", buf_cstr(&text));
}

/* ---- judging ---- */

static bool is_repeatable(const struct agt_call *call)
{
	return call->repeatable || call->reads || call->client_token ||
	       strcmp(call->method, "POST") != 0;
}

/* "... server time: 20260115T083000Z ...", as the gateway says of a stale signature. */
static bool server_time(const char *message, int64_t *ret)
{
	const char *at = strcasestr(message, "server time");
	struct tm tm = { 0 };

	if (!at)
		return false;
	at += strlen("server time");
	at += strspn(at, ": '\"");
	if (!strptime(at, "%Y%m%dT%H%M%SZ", &tm))
		return false;
	*ret = (int64_t)timegm(&tm);
	return true;
}

/*
 * With our clock far off every signature is refused.  Sign with their time and tell: that is one
 * more request, and a TLS connection has vouched for who says so.
 */
static bool mend_clock(struct agt_cloud *c, struct attempt *a, struct agt_reply *reply)
{
	int64_t now = c->now_s(c->now_arg), theirs;
	char far[64];

	if (reply->status != 401 || a->clock_mended)
		return false;
	if (server_time(reply->message, &theirs))
		reply->skew_s = theirs - now;
	if (!skew_matters(reply) || llabs(reply->skew_s - c->clock_offset_s) < SKEW_TOLD_S)
		return false;
	log_error("this machine's clock is %s the service's: signing with their time now; set the"
		  " clock right, more than %d min is refused (SMS.0205)",
		  how_far(far, reply->skew_s), AGT_CLOUD_SKEW_MAX_S / 60);
	c->clock_offset_s = reply->skew_s;
	return a->clock_mended = true;
}

static bool mend_scope(struct agt_cloud *c, struct attempt *a, const struct agt_reply *reply)
{
	if ((reply->status != 401 && reply->status != 403) || a->scope_mended ||
	    !strncmp(reply->code, "SMS.", 4) || !agt_cloud_can_swap_scope(c, a->call))
		return false;
	c->scope_swapped = !c->scope_swapped;
	return a->scope_mended = true;
}

static enum verdict judge_reply(struct agt_cloud *c, struct attempt *a, struct agt_reply *reply)
{
	const struct agt_error_row *row = agt_error_find(reply->code);

	if (reply->status < 300)
		return OVER;
	if (mend_clock(c, a, reply) || mend_scope(c, a, reply))
		return AGAIN_AT_ONCE;
	if (reply->status == 429)
		return AGAIN_LATER;
	if (is_repeatable(a->call) && ((row && row->again) || reply->status == 408 ||
				       reply->status == 500 || (reply->status >= 502 &&
				       reply->status <= 504)))
		return AGAIN_LATER;
	return OVER;
}

static enum verdict judge_failure(const struct attempt *a, int code)
{
	if (code == -ERR_CONNECT || code == -ERR_CONNECT_TIMEOUT)
		return AGAIN_LATER;
	return code == -ERR_LOST && is_repeatable(a->call) ? AGAIN_LATER : OVER;
}

/* ---- waiting ---- */

/* Between half of it and all of it, so that many hosts do not come back at once. */
static int64_t jitter(int64_t ms)
{
	uint32_t random = 0;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		random = 0;
	return ms / 2 + (int64_t)(random % (uint32_t)(ms / 2 + 1));
}

static int pause_before_next(struct agt_cloud *c, struct attempt *a, int64_t retry_after_s,
			     const struct err *why, struct err *e)
{
	int64_t ms = (int64_t)c->backoff_ms << MIN(a->n, 16u);

	ms = jitter(MIN(ms, BACKOFF_MAX_MS));
	if (retry_after_s >= 0)
		ms = MAX(ms, retry_after_s * 1000);
	a->n++;
	log_info("%s; again in %.1f s (%u of %u)", why->text, (double)ms / 1000, a->n, c->retries);
	/* A reload may cut the pause short: whoever asked for it may have mended the cause. */
	return MIN(agt_stop_sleep(c->stop, ms, e), 0);
}

/* ---- one call ---- */

/* The answer, decoded; or why there is none. */
static int send_once(struct agt_cloud *c, struct attempt *a, struct agt_reply *ret,
		     struct err *e)
{
	struct agt_http_response response = { 0 };
	int r = agt_cloud_sign(c, a->call, &a->req, e);

	agt_reply_fini(ret);
	ret->retry_after_s = -1;
	if (r == 0)
		r = c->transport.send(c->transport.arg, &a->req.http, &response, e);
	if (r < 0)
		return r;
	blot_keys(c, (char *)response.body.p + response.body.off, buf_len(&response.body));
	r = agt_reply_decode(&response, ret, e);
	blot_keys(c, ret->message, strlen(ret->message));
	agt_http_response_fini(&response);
	return r;
}

static int send_until_over(struct agt_cloud *c, struct attempt *a, struct agt_reply *ret,
			   struct err *e)
{
	for (;;) {
		struct err why = { 0 };
		enum verdict verdict;
		int r = send_once(c, a, ret, &why);

		if (r < 0) {
			verdict = judge_failure(a, r);
			r = err_ctx(&why, r, "%s %s %s", services[a->call->service].name,
				    a->call->method, a->call->path);
		} else {
			verdict = judge_reply(c, a, ret);
			if (verdict == OVER && ret->status < 300)
				return 0;
			r = refused(a, ret, &why);
		}
		if (verdict == AGAIN_AT_ONCE)
			continue;
		if (verdict == OVER || a->n >= c->retries || ret->retry_after_s > RETRY_AFTER_MAX_S)
			return err_set(e, r, "%s", why.text);
		r = pause_before_next(c, a, ret->retry_after_s, &why, e);
		if (r < 0)
			return r;
	}
}

static int dry_reply(struct agt_reply *ret, struct err *e)
{
	ret->dry = true;
	ret->status = 200;
	ret->retry_after_s = -1;
	ret->body = agt_json_object();
	return ret->body ? 0 : err_sysn(e, -ENOMEM, "dry run");
}

/* Ids in angle brackets are those of what a dry run did not make: nobody can be asked. */
static bool made_up(const struct agt_call *call)
{
	bool found = false;

	for (size_t i = 0; i < AGT_CALL_ARGS; i++)
		found |= call->args[i] && call->args[i][0] == '<';
	for (size_t i = 0; i < AGT_CALL_QUERY && call->query[i].name; i++)
		found |= call->query[i].value && call->query[i].value[0] == '<';
	return found;
}

int agt_cloud_call(struct agt_cloud *c, const struct agt_call *call, struct agt_reply *ret,
		   struct err *e)
{
	bool reads = call->reads || !strcmp(call->method, "GET");
	struct attempt a = { .call = call };
	int r;

	agt_reply_fini(ret);
	r = agt_cloud_prepare(c, call, &a.req, e);
	if (r == 0 && c->dry_run)
		r = agt_cloud_tell(c, call, &a.req, e);
	if (r == 0 && c->dry_run && (!reads || made_up(call)))
		r = dry_reply(ret, e);
	else if (r == 0)
		r = send_until_over(c, &a, ret, e);
	agt_cloud_request_fini(&a.req);
	return r;
}

int agt_cloud_source(struct agt_cloud *c, const char *id, struct agt_reply *ret, struct err *e)
{
	return agt_cloud_call(c,
			      &(struct agt_call){ .service = AGT_SMS,
						  .method = "GET",
						  .path = "/v3/sources/{}",
						  .args = { id } },
			      ret, e);
}
