/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/credentials.h"
#include "agent/options.h"
#include "common/log.h"
#include "common/secret.h"

struct agt_control {
	struct agt_credentials keys;
	struct secret *proxy_password;
	struct agt_http *http;
	struct agt_cloud *cloud;
};

static int open_http(struct agt_control *c, const struct agt_control_options *o,
		     const struct agt_stop *stop, struct err *e)
{
	struct agt_http_opts opts = {
		.proxy = o->proxy,
		.proxy_user = o->proxy_user,
		.ca_file = o->ca_file,
		.connect_timeout_ms = o->connect_timeout_ms,
		.timeout_ms = o->timeout_ms,
		.stop = stop,
	};
	int r;

	if (o->proxy_password_file) {
		r = secret_from_file(AT_FDCWD, o->proxy_password_file, &c->proxy_password, e);
		if (r < 0)
			return err_ctx(e, -ERR_AUTH, "password of the proxy");
	}
	opts.proxy_password = c->proxy_password;
	return agt_http_new(&opts, &c->http, e);
}

static int open_cloud(struct agt_control *c, const struct agt_control_options *o,
		      const struct agt_stop *stop, FILE *dry_run, struct err *e)
{
	struct agt_cloud_opts opts = {
		.transport = agt_http_transport(c->http),
		.region = o->region,
		.project_id = o->project_id,
		.domain_id = o->domain_id,
		.ak = c->keys.ak,
		.sk = c->keys.sk,
		.token = c->keys.token,
		.retries = o->retries ? (int)o->retries : -1,
		.stop = stop,
		.dry_run = dry_run,
	};

	for (size_t i = 0; i < AGT_SERVICES; i++)
		opts.endpoint[i] = o->endpoint[i];
	return agt_cloud_new(&opts, &c->cloud, e);
}

int agt_control_open(const struct agt_options *o, const struct agt_stop *stop, FILE *dry_run,
		     struct agt_control **ret, struct err *e)
{
	_cleanup_(agt_control_closep) struct agt_control *c = calloc(1, sizeof(*c));
	char shown[AGT_AK_SHOWN_SIZE];
	int r;

	if (!c)
		return err_sysn(e, -ENOMEM, "control plane");
	r = agt_credentials_load(o, &c->keys, e);
	if (r == 0)
		r = open_http(c, &o->control, stop, e);
	if (r == 0)
		r = open_cloud(c, &o->control, stop, dry_run, e);
	if (r < 0)
		return r;
	log_debug("access key %s, region %s", agt_ak_shown(shown, c->keys.ak), o->control.region);
	*ret = TAKE_PTR(c);
	return 0;
}

void agt_control_close(struct agt_control *c)
{
	if (!c)
		return;
	agt_cloud_free(c->cloud);
	agt_http_free(c->http);
	secret_free(c->proxy_password);
	agt_credentials_fini(&c->keys);
	free(c);
}

struct agt_cloud *agt_control_cloud(struct agt_control *c)
{
	return c->cloud;
}

/* The endpoint of SMS with the region put in; the caller's to free. */
static char *sms_url(const struct agt_control_options *o)
{
	const char *url = o->endpoint[AGT_SMS] ? o->endpoint[AGT_SMS] : AGT_CLOUD_SMS_ENDPOINT;
	const char *mark = strstr(url, AGT_REGION_MARK);
	char *ret = NULL;

	if (!mark)
		return strdup(url);
	return asprintf(&ret, "%.*s%s%s", (int)(mark - url), url, o->region,
			mark + strlen(AGT_REGION_MARK)) < 0 ? NULL : ret;
}

int agt_control_clock(const struct agt_options *o, const struct agt_stop *stop,
		      int64_t *ret_theirs, int64_t *ret_ours, struct err *e)
{
	_cleanup_(agt_control_closep) struct agt_control *c = calloc(1, sizeof(*c));
	struct agt_http_request request = { .method = "GET" };
	struct agt_http_response response = { 0 };
	_cleanup_free_ char *url = sms_url(&o->control);
	int r;

	if (!c || !url)
		return err_sysn(e, -ENOMEM, "ask for the time");
	r = open_http(c, &o->control, stop, e);
	if (r < 0)
		return r;
	request.url = url;
	r = agt_http_send(c->http, &request, &response, e);
	if (r < 0)
		return r;
	*ret_theirs = response.date_s;
	*ret_ours = response.received_s;
	agt_http_response_fini(&response);
	return *ret_theirs ? 0 : err_set(e, -ERR_PROTOCOL, "%s answers without a date", url);
}
