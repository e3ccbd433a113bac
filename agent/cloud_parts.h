/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/cloud_parts.h - what the files behind agent/cloud.h share; nobody else includes it.
 *
 * cloud.c sends, waits and judges.  cloud_request.c makes a request of a call: endpoint, path,
 * headers, signature.  cloud_project.c knows regions and their projects.
 */
#include "agent/cloud.h"
#include "common/strlist.h"

struct agt_cloud {
	struct agt_transport transport;
	char *endpoint[AGT_SERVICES]; /* with {region}, without a slash at the end */
	char *region;
	char *project_id;
	char *domain_id; /* NULL: not known yet */
	char *ak;
	const struct secret *sk;
	const struct secret *token;
	const struct agt_stop *stop;
	unsigned retries;
	unsigned backoff_ms;
	int64_t (*now_s)(void *arg);
	void *now_arg;
	FILE *dry_run;

	struct strlist projects; /* region, id, region, id, ... as IAM said */
	int64_t clock_offset_s;  /* added to our clock in signatures */
	bool scope_swapped;      /* the other scope header is the one SMS wants */
};

/* A call made into what is sent; strings live in the bufs. */
struct agt_cloud_request {
	struct buf url, path, query, host, body, authorization;
	char date[AGT_SIGN_DATE_SIZE];
	struct agt_http_header header[8];
	size_t n_headers;
	struct agt_http_request http;
};

/* ---- cloud_request.c ---- */

/* Fill *ret, which the caller has zeroed and will fini, but for what depends on the time. */
int agt_cloud_prepare(struct agt_cloud *c, const struct agt_call *call,
		      struct agt_cloud_request *ret, struct err *e) _must_check_;
/* Date, scope and signature; may be done again and again. */
int agt_cloud_sign(struct agt_cloud *c, const struct agt_call *call,
		   struct agt_cloud_request *req, struct err *e) _must_check_;
void agt_cloud_request_fini(struct agt_cloud_request *req);

/* -ERR_USAGE: not fit to be part of a host name. */
int agt_cloud_check_region(const char *region, struct err *e) _must_check_;

/* There are two scope headers to choose from for this service. */
bool agt_cloud_can_swap_scope(const struct agt_cloud *c, const struct agt_call *call);

/* Write the request that a dry run would send, passwords in it blotted out. */
int agt_cloud_tell(struct agt_cloud *c, const struct agt_call *call,
		   const struct agt_cloud_request *req, struct err *e) _must_check_;

/* ---- cloud_project.c ---- */

/* As agt_cloud_project(), of what is known already; NULL: it would have to be asked. */
const char *agt_cloud_known_project(const struct agt_cloud *c, const char *region);
