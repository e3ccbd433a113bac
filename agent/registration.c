/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/registration.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "agent/cloud.h"
#include "agent/command.h"
#include "agent/control.h"
#include "agent/json.h"
#include "agent/options.h"
#include "agent/source.h"
#include "agent/statedir.h"
#include "common/io.h"
#include "common/log.h"
#include "common/text.h"

#define DIGEST_NAME "source_digest"
#define DIGEST_MAX 256

bool agt_registration_due(const char *state_dir, const char *digest)
{
	_cleanup_close_ int dir = open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	const char *have;

	if (dir < 0 || io_read_file(dir, DIGEST_NAME, DIGEST_MAX, &text, NULL) < 0)
		return true;
	have = buf_cstr(&text);
	return !have || strncmp(have, digest, SHA256_HEX_SIZE - 1) != 0;
}

static int keep_digest(const char *state_dir, const struct cJSON *body, struct err *e)
{
	_cleanup_close_ int dir = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char digest[SHA256_HEX_SIZE];
	int r = agt_source_digest(body, digest, e);

	if (r < 0)
		return r;
	if (dir < 0)
		return err_sys(e, "open state directory %s", state_dir);
	return io_replace_file(dir, DIGEST_NAME, bytes_str(digest), 0600, e);
}

/* The service refuses everything of an account that has not agreed. */
static int agree(struct agt_cloud *cloud, struct agt_reply *reply, struct err *e)
{
	int r = agt_cloud_call(cloud,
			       &(struct agt_call){ .service = AGT_SMS,
						   .method = "GET",
						   .path = "/v3/privacy-agreements" },
			       reply, e);

	if (r < 0 || agt_json_bool(reply->body, "flag", false))
		return r;
	log_info("agreeing to the privacy statement of SMS");
	return agt_cloud_call(cloud,
			      &(struct agt_call){ .service = AGT_SMS,
						  .method = "POST",
						  .path = "/v3/privacy-agreements",
						  .repeatable = true },
			      reply, e);
}

/* By its MAC addresses SMS knows a host that registers twice. */
static int post(struct agt_cloud *cloud, const struct cJSON *body, struct agt_reply *reply,
		struct err *e)
{
	return agt_cloud_call(cloud,
			      &(struct agt_call){ .service = AGT_SMS,
						  .method = "POST",
						  .path = "/v3/sources",
						  .body = body,
						  .repeatable = true },
			      reply, e);
}

static int send_body(const struct agt_options *o, struct agt_cloud *cloud, const char *known,
		     struct agt_reply *reply, char ret[AGT_SOURCE_ID_SIZE], struct err *e)
{
	_cleanup_(agt_json_freep) struct cJSON *body = NULL;
	int r = agt_source_body(o, *known ? known : NULL, &body, e);

	if (r == 0)
		r = post(cloud, body, reply, e);
	if (r < 0 && *known && agt_reply_is(reply, "SMS.7602")) {
		log_info("SMS has no source %s any more: registering this host anew", known);
		r = agt_source_bind(o->state_dir, "", e);
		agt_json_remove(body, "id");
		known = "";
		if (r == 0)
			r = post(cloud, body, reply, e);
	}
	if (r < 0)
		return r;
	agt_json_text(reply->body, "id", ret, AGT_SOURCE_ID_SIZE);
	if (!*ret && !*known)
		return err_set(e, -ERR_PROTOCOL,
			       "SMS registered this host without telling its id");
	if (!*ret)
		snprintf(ret, AGT_SOURCE_ID_SIZE, "%s", known);
	r = agt_source_bind(o->state_dir, ret, e);
	return r == 0 ? keep_digest(o->state_dir, body, e) : r;
}

int agt_registration_send(const struct agt_options *o, struct agt_cloud *cloud,
			  char ret[AGT_SOURCE_ID_SIZE], char *code, struct err *e)
{
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	char known[AGT_SOURCE_ID_SIZE];
	int r = agt_source_binding(o->state_dir, known, sizeof(known), e);

	*code = '\0';
	if (r == 0)
		r = agree(cloud, &reply, e);
	if (r == 0)
		r = send_body(o, cloud, known, &reply, ret, e);
	if (r < 0) {
		snprintf(code, AGT_CODE_MAX, "%s", reply.code);
		return err_ctx(e, r, "register this host");
	}
	log_info("registered at SMS as source %s", ret);
	return 0;
}

/* ---- the command ---- */

/* A text of the record, fit for a terminal. */
static const char *shown(const struct cJSON *v, const char *path, char out[TEXT_NAME_MAX])
{
	char text[256];

	return text_name(out, bytes_str(agt_json_text(v, path, text, sizeof(text))));
}

static void tell_checks(const struct cJSON *record)
{
	char name[TEXT_NAME_MAX], result[TEXT_NAME_MAX], code[TEXT_NAME_MAX];
	size_t n = 0;

	for (const struct cJSON *i = agt_json_first(record, "checks"); i; i = agt_json_next(i))
		if (strcmp(shown(i, "result", result), "OK") != 0)
			printf("%-10s %s %s %s\n", n++ ? "" : "checks", result,
			       shown(i, "name", name), shown(i, "error_code", code));
	if (!n)
		printf("%-10s %zu, all OK\n", "checks", agt_json_count(record, "checks"));
}

/* What SMS has made of it. */
static int tell(struct agt_cloud *cloud, const char *id, struct err *e)
{
	static const struct {
		const char *label, *path;
	} lines[] = {
		{ "source", "id" },	     { "name", "name" },   { "address", "ip" },
		{ "system", "os_version" }, { "state", "state" },
	};
	_cleanup_(agt_reply_fini) struct agt_reply reply = { 0 };
	char text[TEXT_NAME_MAX];
	int r = agt_cloud_source(cloud, id, &reply, e);

	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		printf("%-10s %s\n", lines[i].label, shown(reply.body, lines[i].path, text));
	printf("%-10s %zu disks, %zu volume groups, %zu network cards\n", "hardware",
	       agt_json_count(reply.body, "disks"), agt_json_count(reply.body, "volume_groups"),
	       agt_json_count(reply.body, "networks"));
	tell_checks(reply.body);
	return 0;
}

int agt_registration_command(const struct agt_context *ctx, struct err *e)
{
	_cleanup_(agt_control_closep) struct agt_control *control = NULL;
	char id[AGT_SOURCE_ID_SIZE], code[AGT_CODE_MAX];
	int r = agt_statedir_make(ctx->options->state_dir, e);

	if (r == 0)
		r = agt_control_open(ctx->options, ctx->stop, NULL, &control, e);
	if (r == 0)
		r = agt_registration_send(ctx->options, agt_control_cloud(control), id, code, e);
	return r < 0 ? r : tell(agt_control_cloud(control), id, e);
}
