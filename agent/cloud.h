/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/cloud.h - a call to a service of the cloud: where it goes, who signs it, what came back.
 *
 * One call is one agt_cloud_call(): it finds the endpoint, looks up the project where the path
 * needs it, sets the scope header, signs, sends, waits and tries again where that is harmless,
 * and decodes an error in whichever of its shapes it comes.
 *
 *	struct agt_reply reply = { 0 };
 *	r = agt_cloud_call(cloud, &(struct agt_call){
 *		.service = AGT_SMS, .method = "PUT", .path = "/v3/tasks/{}/progress",
 *		.args = { task_id }, .body = body }, &reply, e);
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "agent/http.h"
#include "agent/reply.h"
#include "agent/sign.h"
#include "common/error.h"

struct cJSON;
struct secret;
struct agt_stop;
struct agt_cloud; /* lives from agt_cloud_new() to agt_cloud_free(); belongs to one thread */

enum agt_service {
	AGT_SMS, /* global: one host serves every region */
	AGT_IAM, /* global */
	AGT_ECS,
	AGT_VPC,
	AGT_EIP, /* its paths are those of VPC */
	AGT_DCS,
	AGT_SMN,
	AGT_SERVICES,
};

#define AGT_CLOUD_SMS_ENDPOINT "https://sms.ap-southeast-3.myhuaweicloud.com"
#define AGT_REGION_MARK "{region}" /* in an endpoint */
#define AGT_CALL_ARGS 4
#define AGT_CALL_QUERY 12
#define AGT_CLOUD_RETRIES 4    /* default of agt_cloud_opts.retries: 15 s in all */
#define AGT_CLOUD_SKEW_MAX_S 900 /* with a clock further off the services refuse */

struct agt_cloud_opts {
	struct agt_transport transport;
	const char *endpoint[AGT_SERVICES]; /* URL, {region} stands for the region; NULL: default */
	const char *region;                 /* of calls that name none */
	const char *project_id; /* of region; NULL: looked up by name at IAM when needed */
	const char *domain_id;  /* NULL: taken from IAM's answer when there was one */
	const char *ak;
	const struct secret *sk;
	const struct secret *token; /* of temporary keys; NULL: none */
	int retries;                /* attempts after the first; negative: none, 0: the default */
	unsigned backoff_ms;        /* before the first retry, doubling to 30 s; 0: 1000 */
	const struct agt_stop *stop;
	int64_t (*now_s)(void *arg); /* the clock, for tests; NULL: the system's */
	void *now_arg;
	/*
	 * Every call is written here, a line a request.  What changes something is not sent, nor is
	 * what has an argument like "<task_id>", which stands for something that was not made: the
	 * reply is an empty object with dry set.  NULL: everything is sent, nothing is written.
	 */
	FILE *dry_run;
};

/* Everything that is NULL or zero is left out. */
struct agt_call {
	enum agt_service service;
	const char *method; /* GET POST PUT DELETE */
	/*
	 * "{project_id}" becomes the region's project, each "{}" the next of args, percent-encoded.
	 * An argument that is NULL, empty, "." or "..", or has a slash is refused (-ERR_PROTOCOL:
	 * it came from an answer, usually).
	 */
	const char *path;
	const char *args[AGT_CALL_ARGS];
	struct agt_pair query[AGT_CALL_QUERY]; /* to the first without a name; none without a value */
	const struct cJSON *body;              /* borrowed */
	const char *region;                    /* NULL: the one of the options */
	/*
	 * It may be sent again when the answer was lost, is a 5xx or says "try again".  GET, PUT
	 * and DELETE are repeatable by themselves; a POST is when this is set, or client_token.
	 * After 429, or when no connection could be made, nothing was done: that is repeated for
	 * every call.
	 */
	bool repeatable;
	bool reads;               /* a POST that changes nothing: sent in a dry run, too */
	const char *client_token; /* sent as X-Client-Token: the service knows a repetition by it */
};

int agt_cloud_new(const struct agt_cloud_opts *opts, struct agt_cloud **ret, struct err *e)
	_must_check_; /* copies all strings; secrets and transport are borrowed */
void agt_cloud_free(struct agt_cloud *c); /* NULL is fine */

static inline void agt_cloud_freep(struct agt_cloud **c)
{
	agt_cloud_free(*c);
}

/*
 * Any 2xx is 0.  ret must be zeroed or fini'd before and is the caller's to fini afterwards,
 * whatever is returned: it is filled as far as an answer came, so that a rule can look at
 * ret->code.  e says service, method and path, status, code, message, request id and remedy.
 *
 *  -ERR_CLOUD   the service refused; status and, mostly, code are set
 *  -ERR_AUTH    keys, signature, clock or permission (401, 403), or TLS
 *  -ERR_PROTOCOL the answer makes no sense (HTML, cut off)
 *  else         as agt_http_send()
 */
int agt_cloud_call(struct agt_cloud *c, const struct agt_call *call, struct agt_reply *ret,
		   struct err *e) _must_check_;

/* The same for the full record that SMS has of a source, which its lists do not give. */
int agt_cloud_source(struct agt_cloud *c, const char *id, struct agt_reply *ret, struct err *e)
	_must_check_;

/*
 * The id of region's own project (NULL: the region of the options), borrowed from c until it
 * is freed.  From the options, else asked at IAM once.  -ERR_USAGE: the account has no project
 * of that name, which is what a mistyped region looks like.
 */
int agt_cloud_project(struct agt_cloud *c, const char *region, const char **ret,
		      struct err *e) _must_check_;

/* The account's id where it is known (options, or IAM's answer), else "". */
const char *agt_cloud_domain(const struct agt_cloud *c);

/* "sms" and so on: in config keys, messages. */
const char *agt_service_name(enum agt_service s);
