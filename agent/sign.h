/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/sign.h - the signature of a request: SDK-HMAC-SHA256, the cloud's AK/SK scheme.
 *
 * What is hashed is a text of method, path, query, headers and the hash of the body, each in a
 * canonical form; what goes on the wire has the same form but for the slash that the canonical
 * path always ends in.  Path and query are therefore encoded here, for both purposes.
 */
#include <stddef.h>

#include "agent/http.h"
#include "common/buf.h"
#include "common/bytes.h"
#include "common/error.h"

struct secret;

#define AGT_SIGN_DATE_SIZE 17 /* "20260115T083000Z" and the NUL */

struct agt_pair {
	const char *name;
	const char *value;
};

struct agt_sign_request {
	const char *method;
	const char *path;  /* encoded, beginning with '/' */
	const char *query; /* as agt_sign_query() makes it; NULL or "": none */
	const struct agt_http_header *headers; /* with Host and X-Sdk-Date */
	size_t n_headers;
	struct bytes body;
};

/* Append b percent-encoded: all but A-Z a-z 0-9 - _ . ~ becomes %XX.  0 or -ENOMEM. */
int agt_sign_encode(struct buf *out, struct bytes b) _must_check_;

/* Append "name=value&..." sorted by name and value, both encoded.  0 or -ENOMEM. */
int agt_sign_query(struct buf *out, const struct agt_pair *pairs, size_t n) _must_check_;

/* epoch_s in the form of X-Sdk-Date (UTC).  Returns out. */
const char *agt_sign_date(char out[AGT_SIGN_DATE_SIZE], int64_t epoch_s);

/*
 * Append the canonical request.  Every header is part of it but those with a '_' in their name.
 * With a header X-Sdk-Content-Sha256 its value stands for the hash of the body.  -ENOMEM;
 * -EINVAL: no header X-Sdk-Date, or more than 32 headers.
 */
int agt_sign_canonical(const struct agt_sign_request *request, struct buf *out, struct err *e)
	_must_check_;

/* Append the value of the header Authorization.  As above. */
int agt_sign_authorization(const struct agt_sign_request *request, const char *ak,
			   const struct secret *sk, struct buf *out, struct err *e)
	_must_check_;
