/* SPDX-License-Identifier: Apache-2.0 */
/* A call made into a signed request. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/cloud_parts.h"
#include "agent/json.h"
#include "agent/sign.h"
#include "common/secret.h"
#include "common/text.h"

#define PROJECT_MARK "{project_id}"

static int no_memory(struct err *e)
{
	return err_sysn(e, -ENOMEM, "make a request");
}

void agt_cloud_request_fini(struct agt_cloud_request *req)
{
	buf_fini(&req->url);
	buf_fini(&req->path);
	buf_fini(&req->query);
	buf_fini(&req->host);
	buf_fini(&req->body);
	buf_fini(&req->authorization);
}

int agt_cloud_check_region(const char *region, struct err *e)
{
	char name[TEXT_NAME_MAX];

	if (*region && strlen(region) < 64 &&
	    strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(region))
		return 0;
	return err_set(e, -ERR_USAGE, "'%s' is no region: one looks like la-south-2",
		       text_name(name, bytes_str(region)));
}

/* ---- path and URL ---- */

static int put_arg(struct buf *out, const struct agt_call *call, const char *arg,
		   struct err *e)
{
	char name[TEXT_NAME_MAX];

	if (!arg || !*arg || !strcmp(arg, ".") || !strcmp(arg, "..") || strchr(arg, '/'))
		return err_set(e, -ERR_PROTOCOL, "%s %s %s: '%s' cannot be an id",
			       agt_service_name(call->service), call->method, call->path,
			       text_name(name, bytes_str(arg ? arg : "")));
	return agt_sign_encode(out, bytes_str(arg)) < 0 ? no_memory(e) : 0;
}

static int put_path(struct agt_cloud *c, const struct agt_call *call, struct buf *out,
		    struct err *e)
{
	const char *project;
	size_t arg = 0;
	int r = 0;

	for (const char *p = call->path; *p && r == 0;) {
		if (!strncmp(p, PROJECT_MARK, strlen(PROJECT_MARK))) {
			r = agt_cloud_project(c, call->region, &project, e);
			if (r == 0)
				r = put_arg(out, call, project, e);
			p += strlen(PROJECT_MARK);
		} else if (p[0] == '{' && p[1] == '}') {
			r = put_arg(out, call, arg < AGT_CALL_ARGS ? call->args[arg] : NULL, e);
			arg++;
			p += 2;
		} else {
			r = buf_put(out, p, 1) < 0 ? no_memory(e) : 0;
			p++;
		}
	}
	return r;
}

/* The endpoint with its region; *ret_at is where its path begins (at the end: it has none). */
static int put_endpoint(struct agt_cloud *c, const struct agt_call *call, struct buf *out,
			size_t *ret_at, struct err *e)
{
	const char *region = call->region ? call->region : c->region;
	const char *url = c->endpoint[call->service];
	const char *s;
	int r = strstr(url, AGT_REGION_MARK) ? agt_cloud_check_region(region, e) : 0;

	while (r == 0 && *url) {
		const char *mark = strstr(url, AGT_REGION_MARK);
		size_t n = mark ? (size_t)(mark - url) : strlen(url);

		if (buf_put(out, url, n) < 0 ||
		    (mark && buf_put(out, region, strlen(region)) < 0))
			r = no_memory(e);
		url += n + (mark ? strlen(AGT_REGION_MARK) : 0);
	}
	if (r < 0)
		return r;
	s = buf_cstr(out);
	if (!s)
		return no_memory(e);
	r = agt_http_check_url(s, e);
	if (r < 0)
		return err_ctx(e, r, "endpoint of %s", agt_service_name(call->service));
	s = strstr(s, "://") + 3;
	*ret_at = (size_t)(s - (const char *)buf_view(out).p) + strcspn(s, "/");
	return 0;
}

/* As the library would write it: without the port that the scheme has by itself. */
static int put_host(const struct buf *url, size_t path_at, struct buf *out, struct err *e)
{
	const char *p = (const char *)buf_view(url).p;
	bool tls = p[4] == 's';
	size_t begin = tls ? 8 : 7, n = path_at - begin;
	const char *port = tls ? ":443" : ":80";
	size_t m = strlen(port);

	if (n > m && !memcmp(p + begin + n - m, port, m))
		n -= m;
	return buf_put(out, p + begin, n) < 0 ? no_memory(e) : 0;
}

static int put_url(struct agt_cloud *c, const struct agt_call *call,
		   struct agt_cloud_request *req, struct err *e)
{
	struct agt_pair query[AGT_CALL_QUERY];
	size_t at = 0, n = 0;
	int r = put_endpoint(c, call, &req->url, &at, e);

	if (r == 0)
		r = put_host(&req->url, at, &req->host, e);
	if (r < 0)
		return r;
	/* An endpoint may have a path of its own, which is signed like the rest. */
	if (buf_put(&req->path, req->url.p + req->url.off + at, buf_len(&req->url) - at) < 0)
		return no_memory(e);
	req->url.n = req->url.off + at;
	r = put_path(c, call, &req->path, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < AGT_CALL_QUERY && call->query[i].name; i++)
		if (call->query[i].value)
			query[n++] = call->query[i];
	if (agt_sign_query(&req->query, query, n) < 0 ||
	    buf_put_bytes(&req->url, buf_view(&req->path)) < 0 ||
	    (n && (buf_put(&req->url, "?", 1) < 0 ||
		   buf_put_bytes(&req->url, buf_view(&req->query)) < 0)))
		return no_memory(e);
	return 0;
}

int agt_cloud_prepare(struct agt_cloud *c, const struct agt_call *call,
		      struct agt_cloud_request *req, struct err *e)
{
	const char *unused;
	int r = put_url(c, call, req, e);

	/* Services of a region take the region's project in a header, also beside the path. */
	if (r == 0 && call->service != AGT_SMS && call->service != AGT_IAM)
		r = agt_cloud_project(c, call->region, &unused, e);
	if (r == 0 && call->body)
		r = agt_json_print(call->body, false, &req->body, e);
	if (r < 0)
		return r;
	req->http.method = call->method;
	req->http.url = buf_cstr(&req->url);
	if (!req->http.url || !buf_cstr(&req->path) || !buf_cstr(&req->query) ||
	    !buf_cstr(&req->host))
		return no_memory(e);
	if (call->body)
		req->http.body = buf_view(&req->body);
	return 0;
}

/* ---- headers ---- */

static void add_header(struct agt_cloud_request *req, const char *name, const char *value)
{
	if (value && *value)
		req->header[req->n_headers++] =
			(struct agt_http_header){ .name = name, .value = value };
}

bool agt_cloud_can_swap_scope(const struct agt_cloud *c, const struct agt_call *call)
{
	return call->service == AGT_SMS && c->domain_id &&
	       agt_cloud_known_project(c, call->region);
}

/*
 * SMS is global: the account, else the project, else nothing, and which one the service insists
 * on is not documented.  IAM knows the account by its keys; a region wants its project.
 */
static void add_scope(struct agt_cloud *c, const struct agt_call *call,
		      struct agt_cloud_request *req)
{
	const char *project = agt_cloud_known_project(c, call->region);
	bool account;

	switch (call->service) {
	case AGT_IAM:
		add_header(req, "X-Domain-Id", c->domain_id);
		return;
	case AGT_SMS:
		account = c->domain_id && !(c->scope_swapped && project);
		add_header(req, account ? "X-Domain-Id" : "X-Project-Id",
			   account ? c->domain_id : project);
		return;
	default:
		add_header(req, "X-Project-Id", project);
	}
}

int agt_cloud_sign(struct agt_cloud *c, const struct agt_call *call,
		   struct agt_cloud_request *req, struct err *e)
{
	struct agt_sign_request sign = { .method = call->method };
	int r;

	agt_sign_date(req->date, c->now_s(c->now_arg) + c->clock_offset_s);
	req->n_headers = 0;
	add_header(req, "Host", buf_cstr(&req->host));
	add_header(req, "X-Sdk-Date", req->date);
	/* SMS wants it with every write, with a body or not (SMS.6016). */
	if (strcmp(call->method, "GET") != 0 || call->body)
		add_header(req, "Content-Type", "application/json");
	add_header(req, "X-Client-Token", call->client_token);
	if (c->token)
		add_header(req, "X-Security-Token", secret_text(c->token));
	add_scope(c, call, req);

	sign.path = buf_cstr(&req->path);
	sign.query = buf_cstr(&req->query);
	sign.headers = req->header;
	sign.n_headers = req->n_headers;
	sign.body = req->http.body;
	buf_clear(&req->authorization);
	r = agt_sign_authorization(&sign, c->ak, c->sk, &req->authorization, e);
	if (r < 0)
		return r;
	add_header(req, "Authorization", buf_cstr(&req->authorization));
	req->http.headers = req->header;
	req->http.n_headers = req->n_headers;
	return 0;
}

/* ---- the dry run ---- */

int agt_cloud_tell(struct agt_cloud *c, const struct agt_call *call,
		   const struct agt_cloud_request *req, struct err *e)
{
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	_cleanup_(agt_json_freep) struct cJSON *body = agt_json_copy(call->body);
	_cleanup_free_ char *url = strdup(req->http.url);
	const char *s = NULL;
	int r;

	if (!url)
		return no_memory(e);
	for (char *p; (p = strstr(url, "%3C")) || (p = strstr(url, "%3E"));) {
		*p = p[2] == 'C' ? '<' : '>';
		memmove(p + 1, p + 3, strlen(p + 3) + 1);
	}

	if (call->body) {
		agt_json_blot(body);
		r = agt_json_print(body, false, &text, e);
		if (r < 0)
			return r;
		s = buf_cstr(&text);
		if (!s)
			return no_memory(e);
	}
	if (fprintf(c->dry_run, "%s %s%s%s\n", call->method, url, s ? " " : "",
		    s ? s : "") < 0)
		return err_sys(e, "write the dry run");
	return 0;
}
