/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/sign.h"

#include <fcntl.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "agent/json.h"
#include "common/io.h"
#include "common/secret.h"

#define PARTS_MAX 32

/* A known answer; see tests/data/signing-vectors.json. */
struct vector {
	const struct cJSON *json;
	struct buf path, query, url;
	struct agt_http_header header[PARTS_MAX];
	struct agt_sign_request request;
};

static void vector_open(struct vector *v, const struct cJSON *json)
{
	struct agt_pair pair[PARTS_MAX];
	size_t n = 0;

	*v = (struct vector){ .json = json };
	for (const struct cJSON *i = agt_json_first(json, "path_segments"); i;
	     i = agt_json_next(i)) {
		assert_int_equal(buf_put(&v->path, "/", 1), 0);
		assert_int_equal(agt_sign_encode(&v->path, bytes_str(agt_json_str(i, "", ""))), 0);
	}
	for (const struct cJSON *i = agt_json_first(json, "query"); i; i = agt_json_next(i)) {
		const struct cJSON *name = agt_json_first(i, "");

		assert_true(n < PARTS_MAX);
		pair[n].name = agt_json_str(name, "", "");
		pair[n++].value = agt_json_str(agt_json_next(name), "", "");
	}
	assert_int_equal(agt_sign_query(&v->query, pair, n), 0);
	n = 0;
	for (const struct cJSON *i = agt_json_first(json, "headers"); i; i = agt_json_next(i)) {
		assert_true(n < PARTS_MAX);
		v->header[n].name = agt_json_name(i);
		v->header[n++].value = agt_json_str(i, "", "");
	}
	v->request = (struct agt_sign_request){
		.method = agt_json_str(json, "method", ""),
		.path = buf_cstr(&v->path),
		.query = buf_cstr(&v->query),
		.headers = v->header,
		.n_headers = n,
		.body = bytes_str(agt_json_str(json, "body", "")),
	};
}

static void vector_close(struct vector *v)
{
	buf_fini(&v->path);
	buf_fini(&v->query);
	buf_fini(&v->url);
}

static void assert_same(const struct vector *v, const char *what, struct buf *got,
			const char *want)
{
	if (strcmp(buf_cstr(got), want) != 0)
		fail_msg("%s: %s is\n%s\nbut should be\n%s", agt_json_str(v->json, "name", "?"), what,
			 buf_cstr(got), want);
}

static void check_vector(const struct cJSON *json)
{
	_cleanup_(buf_fini) struct buf canonical = BUF_INIT, authorization = BUF_INIT;
	_cleanup_(secret_freep) struct secret *sk = NULL;
	const char *url = agt_json_str(json, "url", "");
	struct err e = { 0 };
	struct vector v;

	vector_open(&v, json);
	assert_int_equal(secret_from_env("SK", agt_json_str(json, "sk", ""), &sk, &e), 0);

	/* What is signed is what goes on the wire. */
	assert_int_equal(buf_put_bytes(&v.url, bytes_str(v.request.path)), 0);
	if (*v.request.query)
		assert_int_equal(buf_printf(&v.url, "?%s", v.request.query), 0);
	assert_same(&v, "path and query", &v.url, strchr(strstr(url, "://") + 3, '/'));

	assert_int_equal(agt_sign_canonical(&v.request, &canonical, &e), 0);
	assert_same(&v, "canonical request", &canonical,
		    agt_json_str(json, "canonical_request", ""));
	assert_int_equal(agt_sign_authorization(&v.request, agt_json_str(json, "ak", ""), sk,
						&authorization, &e),
			 0);
	assert_same(&v, "authorization", &authorization, agt_json_str(json, "authorization", ""));
	vector_close(&v);
}

static void every_known_answer_is_met(void **state)
{
	_cleanup_(agt_json_freep) struct cJSON *all = NULL;
	_cleanup_(buf_fini) struct buf text = BUF_INIT;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(io_read_file(AT_FDCWD, TEST_DATA "/signing-vectors.json", 1 << 20, &text,
				      &e),
			 0);
	assert_int_equal(agt_json_parse(buf_view(&text), &all, &e), 0);
	assert_true(agt_json_count(all, "") >= 20);
	for (const struct cJSON *i = agt_json_first(all, ""); i; i = agt_json_next(i))
		check_vector(i);
}

static void a_date_is_utc(void **state)
{
	char out[AGT_SIGN_DATE_SIZE];

	(void)state;
	assert_string_equal(agt_sign_date(out, 1768465800), "20260115T083000Z");
	assert_string_equal(agt_sign_date(out, 0), "19700101T000000Z");
}

static void a_request_without_date_is_not_signed(void **state)
{
	const struct agt_http_header host = { "Host", "example.com" };
	const struct agt_sign_request request = {
		.method = "GET", .path = "/", .headers = &host, .n_headers = 1
	};
	_cleanup_(secret_freep) struct secret *sk = NULL;
	_cleanup_(buf_fini) struct buf out = BUF_INIT;
	struct err e = { 0 };

	(void)state;
	assert_int_equal(secret_from_env("SK", "secret", &sk, &e), 0);
	assert_true(agt_sign_authorization(&request, "AK", sk, &out, &e) < 0);
	assert_int_equal(buf_len(&out), 0);
}

static void more_headers_than_fit_are_refused(void **state)
{
	struct agt_http_header h[40];
	const struct agt_sign_request request = {
		.method = "GET", .path = "/", .headers = h, .n_headers = ARRAY_SIZE(h)
	};
	_cleanup_(buf_fini) struct buf out = BUF_INIT;
	struct err e = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(h); i++)
		h[i] = (struct agt_http_header){ "X-Sdk-Date", "x" };
	assert_true(agt_sign_canonical(&request, &out, &e) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_known_answer_is_met),
		cmocka_unit_test(a_date_is_utc),
		cmocka_unit_test(a_request_without_date_is_not_signed),
		cmocka_unit_test(more_headers_than_fit_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
