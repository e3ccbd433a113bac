/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sign-tool - signs requests for tests/agent/sign-reference.  One JSON object a line comes in
 * ({ak, sk, method, path: [segments], query: [[name, value]], headers: [[name, value]], body}),
 * one goes out ({path, query, canonical, authorization}).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/json.h"
#include "agent/sign.h"
#include "common/secret.h"

#define PAIRS_MAX 32

static size_t read_pairs(const struct cJSON *v, const char *name, struct agt_pair *pair)
{
	size_t n = 0;

	for (const struct cJSON *i = agt_json_first(v, name); i && n < PAIRS_MAX;
	     i = agt_json_next(i), n++) {
		const struct cJSON *first = agt_json_first(i, "");

		pair[n].name = agt_json_str(first, "", "");
		pair[n].value = agt_json_str(agt_json_next(first), "", "");
	}
	return n;
}

static int sign_one(const struct cJSON *v, struct cJSON *out, struct err *e)
{
	_cleanup_(buf_fini) struct buf path = BUF_INIT, query = BUF_INIT, canonical = BUF_INIT,
				       authorization = BUF_INIT;
	_cleanup_(secret_freep) struct secret *sk = NULL;
	struct agt_pair pair[PAIRS_MAX], header_pair[PAIRS_MAX];
	struct agt_http_header header[PAIRS_MAX];
	struct agt_sign_request request = { .method = agt_json_str(v, "method", ""),
					    .headers = header,
					    .body = bytes_str(agt_json_str(v, "body", "")) };
	size_t n = read_pairs(v, "query", pair);
	int r = secret_from_env("sk", agt_json_str(v, "sk", ""), &sk, e);

	for (const struct cJSON *i = agt_json_first(v, "path"); i && r == 0; i = agt_json_next(i)) {
		r = buf_put(&path, "/", 1);
		if (r == 0)
			r = agt_sign_encode(&path, bytes_str(agt_json_str(i, "", "")));
	}
	if (r == 0)
		r = agt_sign_query(&query, pair, n);
	request.path = buf_cstr(&path);
	request.query = buf_cstr(&query);
	request.n_headers = read_pairs(v, "headers", header_pair);
	for (size_t i = 0; i < request.n_headers; i++)
		header[i] = (struct agt_http_header){ header_pair[i].name, header_pair[i].value };
	if (r == 0)
		r = agt_sign_canonical(&request, &canonical, e);
	if (r == 0)
		r = agt_sign_authorization(&request, agt_json_str(v, "ak", ""), sk, &authorization,
					   e);
	if (r < 0)
		return r;
	agt_json_set_str(out, "path", request.path);
	agt_json_set_str(out, "query", request.query);
	agt_json_set_str(out, "canonical", buf_cstr(&canonical));
	agt_json_set_str(out, "authorization", buf_cstr(&authorization));
	return 0;
}

int main(void)
{
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;
	int status = 0;

	while (status == 0 && (n = getline(&line, &cap, stdin)) > 0) {
		_cleanup_(agt_json_freep) struct cJSON *in = NULL, *out = agt_json_object();
		_cleanup_(buf_fini) struct buf text = BUF_INIT;
		struct err e = { 0 };

		if (agt_json_parse(bytes_of(line, (size_t)n), &in, &e) < 0 ||
		    sign_one(in, out, &e) < 0 || agt_json_print(out, false, &text, &e) < 0) {
			fprintf(stderr, "sign-tool: %s\n", e.text);
			status = 1;
		} else {
			puts(buf_cstr(&text));
		}
	}
	free(line);
	return status;
}
