/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/http.h - one HTTPS request and its answer (libcurl, included here alone).
 *
 * Certificates are always verified.  No redirect is followed: an answer that points elsewhere
 * is a mistake in the endpoint, and a signature is good for one host only.  Plain http:// goes
 * to loopback addresses only, and never through the proxy.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/bytes.h"
#include "common/error.h"

/* The largest answer that is read; a list of 200 sources with their disks is about 4 MiB. */
#define AGT_HTTP_BODY_MAX (32u << 20)
#define AGT_HTTP_HEADERS_MAX (64u << 10) /* all headers of an answer together */
#define AGT_HTTP_TEXT_MAX 256
#define AGT_HTTP_CONNECT_TIMEOUT_MS 10000
#define AGT_HTTP_TIMEOUT_MS 60000

struct secret;
struct agt_stop;
struct agt_http; /* connections are kept between requests; belongs to one thread */

struct agt_http_opts {
	const char *proxy;      /* URL; NULL: none, and no proxy variable of the environment */
	const char *proxy_user; /* NULL: the proxy asks for none */
	const struct secret *proxy_password;
	const char *ca_file;         /* PEM of the trusted authorities; NULL: the system's */
	unsigned connect_timeout_ms; /* 0: AGT_HTTP_CONNECT_TIMEOUT_MS */
	unsigned timeout_ms;         /* for a whole request; 0: AGT_HTTP_TIMEOUT_MS */
	const struct agt_stop *stop; /* ends a request under way; NULL: nothing does */
};

struct agt_http_header {
	const char *name;
	const char *value;
};

struct agt_http_request {
	const char *method;
	const char *url; /* already encoded */
	const struct agt_http_header *headers;
	size_t n_headers;
	struct bytes body; /* p NULL: none */
};

struct agt_http_response {
	int status;
	struct buf body;
	char request_id[AGT_HTTP_TEXT_MAX];   /* X-Request-Id; "" for none, as all below */
	char content_type[AGT_HTTP_TEXT_MAX];
	char location[AGT_HTTP_TEXT_MAX];
	int64_t date_s;        /* header Date as epoch seconds; 0: none, or not readable */
	int64_t received_s;    /* our clock when the answer came */
	int64_t retry_after_s; /* header Retry-After, a date turned into seconds; -1: none */
};

void agt_http_response_fini(struct agt_http_response *r); /* NULL is fine */

/* All strings are copied, secrets borrowed until agt_http_free(). */
int agt_http_new(const struct agt_http_opts *opts, struct agt_http **ret, struct err *e)
	_must_check_;
void agt_http_free(struct agt_http *h); /* NULL is fine */

static inline void agt_http_freep(struct agt_http **h)
{
	agt_http_free(*h);
}

/*
 * Send and wait for the whole answer; any status is a success here but a redirect.  *ret is
 * the caller's to fini, on success only.
 *
 *  -ERR_CONNECT          no such host, refused, unreachable, the proxy too: nothing was sent
 *  -ERR_CONNECT_TIMEOUT  no connection in time: nothing was sent
 *  -ERR_LOST             the connection ended or went silent: the request may have been done
 *  -ERR_AUTH             TLS: certificate or handshake; or the proxy refused user and password
 *  -ERR_PROTOCOL         answer too large, cut off, not HTTP, or a redirect
 *  -ERR_USAGE            bad URL, plain http:// to a host that is not loopback
 *  -ERR_CANCELLED        opts.stop
 */
int agt_http_send(struct agt_http *h, const struct agt_http_request *request,
		  struct agt_http_response *ret, struct err *e) _must_check_;

/*
 * The seam: whoever sends requests takes this, and a test or a dry run puts its own behind it.
 */
struct agt_transport {
	int (*send)(void *arg, const struct agt_http_request *request,
		    struct agt_http_response *ret, struct err *e);
	void *arg;
};

struct agt_transport agt_http_transport(struct agt_http *h);

/* -ERR_USAGE unless url is https://, or http:// to localhost, 127.0.0.0/8 or [::1]. */
int agt_http_check_url(const char *url, struct err *e) _must_check_;
