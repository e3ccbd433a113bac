/* SPDX-License-Identifier: Apache-2.0 */
/* The client against a transport that answers from a script and remembers what it was sent. */
#include "agent/cloud.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "agent/json.h"
#include "common/log.h"
#include "common/secret.h"

#define SENT_MAX 16
#define NOW 1768465800 /* 2026-01-15 08:30:00 UTC */
#define AK "AKEXAMPLE12345678901"
#define SK "sk-that-nobody-may-see"
#define TOKEN "token-that-nobody-may-see"

struct answer {
	int error; /* negative: no answer */
	int status;
	const char *body;
	int64_t skew_s;
	int64_t retry_after_s; /* 0: none */
};

struct sent {
	char method[8], url[256], scope[128], date[32], body[128], type[32], client_token[32];
};

struct fixture {
	const struct answer *script; /* ends with a status of 0; then 200 {} */
	size_t n_sent;
	struct sent sent[SENT_MAX];
	struct agt_cloud_opts opts;
	struct agt_cloud *cloud;
	struct agt_reply reply;
	struct secret *sk, *token;
	struct err e;
};

static void note_header(struct sent *s, const struct agt_http_header *h)
{
	if (!strcasecmp(h->name, "X-Project-Id") || !strcasecmp(h->name, "X-Domain-Id"))
		snprintf(s->scope, sizeof(s->scope), "%s %s", h->name, h->value);
	if (!strcasecmp(h->name, "X-Sdk-Date"))
		snprintf(s->date, sizeof(s->date), "%s", h->value);
	if (!strcasecmp(h->name, "Content-Type"))
		snprintf(s->type, sizeof(s->type), "%s", h->value);
	if (!strcasecmp(h->name, "X-Client-Token"))
		snprintf(s->client_token, sizeof(s->client_token), "%s", h->value);
}

static int send_script(void *arg, const struct agt_http_request *request,
		       struct agt_http_response *ret, struct err *e)
{
	static const struct answer fine = { .status = 200, .body = "{}" };
	struct fixture *f = arg;
	const struct answer *a = f->script && f->script->status ? f->script++ : &fine;
	struct sent *s = &f->sent[f->n_sent++];

	assert_true(f->n_sent < SENT_MAX);
	*s = (struct sent){ 0 };
	snprintf(s->method, sizeof(s->method), "%s", request->method);
	snprintf(s->url, sizeof(s->url), "%s", request->url);
	snprintf(s->body, sizeof(s->body), "%.*s", (int)request->body.n,
		 request->body.p ? (const char *)request->body.p : "");
	for (size_t i = 0; i < request->n_headers; i++)
		note_header(s, &request->headers[i]);
	if (a->error)
		return err_set(e, a->error, "no luck");
	*ret = (struct agt_http_response){ .status = a->status,
					   .received_s = NOW,
					   .date_s = NOW + a->skew_s,
					   .retry_after_s = a->retry_after_s ? a->retry_after_s : -1 };
	strcpy(ret->request_id, "req-1");
	return buf_put(&ret->body, a->body ? a->body : "", strlen(a->body ? a->body : ""));
}

static int64_t clock_of_test(void *arg)
{
	(void)arg;
	return NOW;
}

static int fixture_make(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	*state = f;
	if (secret_from_env("SK", SK, &f->sk, &f->e) < 0 ||
	    secret_from_env("TOKEN", TOKEN, &f->token, &f->e) < 0 ||
	    log_open(LOG_ERROR, "/dev/null", &f->e) < 0)
		return -1;
	f->opts = (struct agt_cloud_opts){ .transport = { send_script, f },
					   .region = "la-south-2",
					   .ak = AK,
					   .sk = f->sk,
					   .retries = 3,
					   .backoff_ms = 1,
					   .now_s = clock_of_test };
	return 0;
}

static int fixture_drop(void **state)
{
	struct fixture *f = *state;

	agt_reply_fini(&f->reply);
	agt_cloud_free(f->cloud);
	secret_free(f->sk);
	secret_free(f->token);
	log_close();
	free(f);
	return 0;
}

/* A new client, the script from its beginning. */
static int call(struct fixture *f, const struct answer *script, const struct agt_call *c)
{
	agt_cloud_free(f->cloud);
	f->cloud = NULL;
	f->script = script;
	f->n_sent = 0;
	f->e = (struct err){ 0 };
	assert_int_equal(agt_cloud_new(&f->opts, &f->cloud, &f->e), 0);
	return agt_cloud_call(f->cloud, c, &f->reply, &f->e);
}

static const struct agt_call get_config = { .service = AGT_SMS, .method = "GET",
					    .path = "/v3/config" };
static const struct agt_call post_task = { .service = AGT_SMS, .method = "POST",
					   .path = "/v3/tasks" };

static void a_path_is_filled_and_encoded(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(call(f, NULL,
			      &(struct agt_call){ .service = AGT_SMS,
						  .method = "GET",
						  .path = "/v3/sources/{}/x/{}",
						  .args = { "urn:a b", "2" },
						  .query = { { "b", "2/3" }, { "none", NULL }, { "a", "" } } }),
			 0);
	assert_string_equal(f->sent[0].url,
			    AGT_CLOUD_SMS_ENDPOINT "/v3/sources/urn%3Aa%20b/x/2?a=&b=2%2F3");
	assert_string_equal(f->sent[0].date, "20260115T083000Z");
	assert_string_equal(f->sent[0].scope, "");
	assert_string_equal(f->sent[0].type, "");
	assert_int_equal(f->n_sent, 1);
}

static void an_id_that_would_change_the_path_is_never_sent(void **state)
{
	static const char *const ids[] = { "", ".", "..", "a/b", NULL };
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		assert_int_equal(call(f, NULL,
				      &(struct agt_call){ .service = AGT_SMS,
							  .method = "DELETE",
							  .path = "/v3/tasks/{}",
							  .args = { ids[i] } }),
				 -ERR_PROTOCOL);
		assert_int_equal(f->n_sent, 0);
	}
}

static void a_regional_service_gets_its_project_from_iam(void **state)
{
	static const struct answer script[] = {
		{ .status = 200, .body = "{\"projects\":[{\"id\":\"p0\",\"name\":\"la-south-2_sub\"},"
					 "{\"id\":\"p1\",\"name\":\"la-south-2\",\"domain_id\":\"d1\"}]}" },
		{ .status = 200, .body = "{}" },
		{ 0 },
	};
	const struct agt_call c = { .service = AGT_VPC, .method = "GET",
				    .path = "/v1/{project_id}/vpcs" };
	struct fixture *f = *state;
	const char *project;

	assert_int_equal(call(f, script, &c), 0);
	assert_string_equal(f->sent[0].url, "https://iam.myhuaweicloud.com/v3/projects?name=la-south-2");
	assert_string_equal(f->sent[1].url, "https://vpc.la-south-2.myhuaweicloud.com/v1/p1/vpcs");
	assert_string_equal(f->sent[1].scope, "X-Project-Id p1");
	assert_string_equal(agt_cloud_domain(f->cloud), "d1");
	/* It is asked once. */
	assert_int_equal(agt_cloud_project(f->cloud, NULL, &project, &f->e), 0);
	assert_string_equal(project, "p1");
	assert_int_equal(agt_cloud_call(f->cloud, &c, &f->reply, &f->e), 0);
	assert_int_equal(f->n_sent, 3);
}

static void a_region_that_is_not_there_is_named_with_its_neighbours(void **state)
{
	static const struct answer script[] = {
		{ .status = 200, .body = "{\"projects\":[]}" },
		{ .status = 200, .body = "{\"projects\":[{\"id\":\"1\",\"name\":\"la-south-2\"},"
					 "{\"id\":\"2\",\"name\":\"ap-southeast-3\"},{\"name\":7}]}" },
		{ 0 },
	};
	struct fixture *f = *state;

	f->opts.region = "la-soth-2";
	assert_int_equal(call(f, script,
			      &(struct agt_call){ .service = AGT_ECS, .method = "GET", .path = "/v1/{project_id}/x" }),
			 -ERR_USAGE);
	assert_non_null(strstr(f->e.text, "la-soth-2"));
	assert_non_null(strstr(f->e.text, "did you mean 'la-south-2'"));
	assert_non_null(strstr(f->e.text, "ap-southeast-3"));

	f->opts.region = "evil.example/";
	assert_int_equal(call(f, NULL,
			      &(struct agt_call){ .service = AGT_ECS, .method = "GET", .path = "/v1/x" }),
			 -ERR_USAGE);
	assert_int_equal(f->n_sent, 0);
}

static void endpoints_can_be_given_with_a_region_and_a_path(void **state)
{
	static const struct {
		const char *endpoint, *want; /* NULL: refused */
	} rows[] = {
		{ "https://x.example/", "https://x.example/v3/config" },
		{ "https://x.{region}.example:8443/sms/", "https://x.la-south-2.example:8443/sms/v3/config" },
		{ "http://127.0.0.1:8080", "http://127.0.0.1:8080/v3/config" },
		{ "http://localhost:8080/a", "http://localhost:8080/a/v3/config" },
		{ "http://[::1]:8080", "http://[::1]:8080/v3/config" },
		{ "http://127.0.0.1.example", NULL },
		{ "http://x.example", NULL },
		{ "ftp://x.example", NULL },
		{ "https://user@x.example", NULL },
		{ "https://", NULL },
		{ "https://x.example:99999", NULL },
		{ "https://x.example:0", NULL },
		{ "https://x example", NULL },
		{ "x.example", NULL },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		f->opts.endpoint[AGT_SMS] = rows[i].endpoint;
		assert_int_equal(call(f, NULL, &get_config), rows[i].want ? 0 : -ERR_USAGE);
		assert_int_equal(f->n_sent, rows[i].want != NULL);
		if (rows[i].want)
			assert_string_equal(f->sent[0].url, rows[i].want);
	}
}

static void the_scope_is_the_account_and_then_the_project(void **state)
{
	static const struct answer refused_once[] = {
		{ .status = 403, .body = "{\"error_code\":\"APIGW.0302\",\"error_msg\":\"no\"}" },
		{ .status = 200, .body = "{\"ok\":1}" },
		{ 0 },
	};
	static const struct answer sms_refused[] = {
		{ .status = 403, .body = "{\"error_code\":\"SMS.9004\",\"error_msg\":\"no\"}" },
		{ 0 },
	};
	static const struct answer refused_twice[] = {
		{ .status = 401, .body = "{\"error_code\":\"APIGW.0301\"}" },
		{ .status = 401, .body = "{\"error_code\":\"APIGW.0301\"}" },
		{ 0 },
	};
	struct fixture *f = *state;

	f->opts.project_id = "p1";
	assert_int_equal(call(f, NULL, &get_config), 0);
	assert_string_equal(f->sent[0].scope, "X-Project-Id p1");

	f->opts.domain_id = "d1";
	assert_int_equal(call(f, refused_once, &post_task), 0);
	assert_int_equal(f->n_sent, 2);
	assert_string_equal(f->sent[0].scope, "X-Domain-Id d1");
	assert_string_equal(f->sent[1].scope, "X-Project-Id p1");
	/* What worked is kept. */
	assert_int_equal(agt_cloud_call(f->cloud, &get_config, &f->reply, &f->e), 0);
	assert_string_equal(f->sent[2].scope, "X-Project-Id p1");

	assert_int_equal(call(f, sms_refused, &get_config), -ERR_AUTH);
	assert_int_equal(f->n_sent, 1);
	assert_int_equal(call(f, refused_twice, &get_config), -ERR_AUTH);
	assert_int_equal(f->n_sent, 2);
}

static void only_what_is_harmless_is_sent_again(void **state)
{
	static const struct {
		const char *method;
		bool repeatable;
		struct answer answer;
		int want;
		size_t sent;
	} rows[] = {
		{ "GET", false, { .status = 503 }, 0, 2 },
		{ "PUT", false, { .status = 500 }, 0, 2 },
		{ "DELETE", false, { .status = 502 }, 0, 2 },
		{ "POST", false, { .status = 503 }, -ERR_CLOUD, 1 },
		{ "POST", true, { .status = 503 }, 0, 2 },
		{ "POST", false, { .status = 429 }, 0, 2 },
		{ "POST", false, { .status = 1, .error = -ERR_LOST }, -ERR_LOST, 1 },
		{ "POST", true, { .status = 1, .error = -ERR_LOST }, 0, 2 },
		{ "GET", false, { .status = 1, .error = -ERR_LOST }, 0, 2 },
		{ "POST", false, { .status = 1, .error = -ERR_CONNECT }, 0, 2 },
		{ "GET", false, { .status = 1, .error = -ERR_AUTH }, -ERR_AUTH, 1 },
		{ "GET", false, { .status = 1, .error = -ERR_PROTOCOL }, -ERR_PROTOCOL, 1 },
		{ "GET", false, { .status = 1, .error = -ERR_CANCELLED }, -ERR_CANCELLED, 1 },
		{ "GET", false, { .status = 501 }, -ERR_CLOUD, 1 },
		{ "GET", false, { .status = 404 }, -ERR_CLOUD, 1 },
		{ "GET", false, { .status = 400, .body = "{\"error_code\":\"SMS.6301\"}" }, 0, 2 },
		{ "POST", false, { .status = 400, .body = "{\"error_code\":\"SMS.6301\"}" }, -ERR_CLOUD, 1 },
		{ "GET", false, { .status = 200, .body = "<html>" }, -ERR_PROTOCOL, 1 },
		/* Nobody waits a day inside one call. */
		{ "GET", false, { .status = 429, .retry_after_s = 86400 }, -ERR_CLOUD, 1 },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct answer script[] = { rows[i].answer, { 0 } };
		int r = call(f, script,
			     &(struct agt_call){ .service = AGT_SMS,
						 .method = rows[i].method,
						 .path = "/v3/tasks",
						 .repeatable = rows[i].repeatable });

		if (r != rows[i].want || f->n_sent != rows[i].sent)
			fail_msg("row %zu: %d after %zu: %s", i, r, f->n_sent, f->e.text);
	}
}

static void it_gives_up_after_the_retries(void **state)
{
	static const struct answer script[] = {
		{ .status = 503 }, { .status = 503 }, { .status = 503 },
		{ .status = 503 }, { .status = 503 }, { 0 },
	};
	struct fixture *f = *state;

	assert_int_equal(call(f, script, &get_config), -ERR_CLOUD);
	assert_int_equal(f->n_sent, 4);
	f->opts.retries = -1;
	assert_int_equal(call(f, script, &get_config), -ERR_CLOUD);
	assert_int_equal(f->n_sent, 1);
}

static void a_refusal_says_all_there_is_to_know(void **state)
{
	static const struct answer script[] = {
		{ .status = 400,
		  .body = "{\"error_code\":\"SMS.7703\",\"error_msg\":\"task not found\"}" },
		{ 0 },
	};
	struct fixture *f = *state;

	assert_int_equal(call(f, script,
			      &(struct agt_call){ .service = AGT_SMS, .method = "GET",
						  .path = "/v3/tasks/{}", .args = { "t-1" } }),
			 -ERR_CLOUD);
	assert_true(agt_reply_is(&f->reply, "sms.7703"));
	assert_int_equal(f->reply.status, 400);
	for (size_t i = 0; i < 6; i++) {
		static const char *const parts[] = { "sms GET /v3/tasks/t-1", "HTTP 400", "SMS.7703",
						     "task not found", "req-1",
						     "look up the source's current task" };

		if (!strstr(f->e.text, parts[i]))
			fail_msg("'%s' is not in: %s", parts[i], f->e.text);
	}
}

static void keys_never_come_back_in_a_message(void **state)
{
	static const struct answer script[] = {
		{ .status = 401,
		  .body = "{\"error_code\":\"APIGW.0301\",\"error_msg\":\"ak " AK
			  " is wrong, canonical request: GET|/|x-security-token:" TOKEN "|" SK "\"}" },
		{ 0 },
	};
	struct fixture *f = *state;
	_cleanup_(buf_fini) struct buf body = BUF_INIT;

	f->opts.token = f->token;
	assert_int_equal(call(f, script, &get_config), -ERR_AUTH);
	assert_non_null(strstr(f->e.text, "AKEX****"));
	assert_int_equal(agt_json_print(f->reply.body, false, &body, &f->e), 0);
	assert_null(strstr(buf_cstr(&body), AK));
	assert_null(strstr(buf_cstr(&body), TOKEN));
	assert_null(strstr(f->e.text, AK));
	assert_null(strstr(f->e.text, SK));
	assert_null(strstr(f->e.text, TOKEN));
	assert_null(strstr(f->reply.message, AK));
}

static void a_clock_that_is_off_is_measured_and_got_over(void **state)
{
	static const struct answer by_date[] = {
		{ .status = 401, .body = "{\"error_code\":\"APIGW.0301\",\"error_msg\":\"expired\"}",
		  .skew_s = 1200 },
		{ .status = 200, .body = "{}", .skew_s = 1200 },
		{ .status = 200, .body = "{}", .skew_s = 1200 },
		{ 0 },
	};
	static const struct answer by_text[] = {
		{ .status = 401, .body = "{\"error_code\":\"APIGW.0301\",\"error_msg\":\"signature expired,"
					 " signature time: 20260115T083000Z, server time: 20260115T080000Z\"}" },
		{ .status = 200, .body = "{}" },
		{ 0 },
	};
	static const struct answer for_ever[] = {
		{ .status = 401, .body = "{\"error_code\":\"APIGW.0301\"}", .skew_s = 1200 },
		{ .status = 401, .body = "{\"error_code\":\"APIGW.0301\"}", .skew_s = 1200 },
		{ 0 },
	};
	static const struct answer small[] = {
		{ .status = 401, .body = "{\"error_code\":\"APIGW.0301\"}", .skew_s = 100 },
		{ 0 },
	};
	struct fixture *f = *state;

	assert_int_equal(call(f, by_date, &post_task), 0);
	assert_int_equal(f->n_sent, 2);
	assert_string_equal(f->sent[1].date, "20260115T085000Z");
	assert_int_equal(agt_cloud_call(f->cloud, &get_config, &f->reply, &f->e), 0);
	assert_string_equal(f->sent[2].date, "20260115T085000Z");

	assert_int_equal(call(f, by_text, &get_config), 0);
	assert_string_equal(f->sent[1].date, "20260115T080000Z");

	assert_int_equal(call(f, for_ever, &get_config), -ERR_AUTH);
	assert_int_equal(f->n_sent, 2);
	assert_non_null(strstr(f->e.text, "20 min behind"));

	assert_int_equal(call(f, small, &get_config), -ERR_AUTH);
	assert_int_equal(f->n_sent, 1);
	assert_null(strstr(f->e.text, "clock is"));
}

static void a_body_is_sent_as_json_and_a_token_marks_a_repetition(void **state)
{
	_cleanup_(agt_json_freep) struct cJSON *body = agt_json_object();
	struct fixture *f = *state;

	agt_json_set_str(body, "operation", "start");
	assert_int_equal(call(f, NULL,
			      &(struct agt_call){ .service = AGT_SMS, .method = "POST",
						  .path = "/v3/tasks/{}/action", .args = { "t" },
						  .body = body, .client_token = "once" }),
			 0);
	assert_string_equal(f->sent[0].body, "{\"operation\":\"start\"}");
	assert_string_equal(f->sent[0].type, "application/json");
	assert_string_equal(f->sent[0].client_token, "once");
}

static void a_dry_run_tells_and_sends_only_what_reads(void **state)
{
	_cleanup_(agt_json_freep) struct cJSON *body = agt_json_object();
	struct fixture *f = *state;
	char *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);

	assert_non_null(out);
	f->opts.dry_run = out;
	agt_json_set_str(body, "adminPass", "hush");
	agt_json_set_str(body, "name", "n");
	assert_int_equal(call(f, NULL, &get_config), 0);
	assert_int_equal(f->n_sent, 1);
	assert_false(f->reply.dry);
	assert_int_equal(call(f, NULL,
			      &(struct agt_call){ .service = AGT_SMS, .method = "POST",
						  .path = "/v3/tasks", .body = body }),
			 0);
	assert_int_equal(f->n_sent, 0);
	assert_true(f->reply.dry);
	assert_true(agt_json_is_object(f->reply.body));
	/* What was not made cannot be asked about. */
	assert_int_equal(call(f, NULL,
			      &(struct agt_call){ .service = AGT_SMS, .method = "GET",
						  .path = "/v3/tasks/{}",
						  .args = { "<task_id>" } }),
			 0);
	assert_int_equal(f->n_sent, 0);
	assert_true(f->reply.dry);
	fclose(out);
	assert_string_equal(text, "GET " AGT_CLOUD_SMS_ENDPOINT "/v3/config\n"
				  "POST " AGT_CLOUD_SMS_ENDPOINT
				  "/v3/tasks {\"adminPass\":\"****\",\"name\":\"n\"}\n"
				  "GET " AGT_CLOUD_SMS_ENDPOINT "/v3/tasks/<task_id>\n");
	free(text);
}

static void an_id_of_the_config_is_looked_at(void **state)
{
	struct fixture *f = *state;

	f->opts.project_id = "a/b";
	assert_int_equal(agt_cloud_new(&f->opts, &f->cloud, &f->e), -ERR_USAGE);
	f->opts.project_id = NULL;
	f->opts.domain_id = "a\r\nX-Evil: 1";
	assert_int_equal(agt_cloud_new(&f->opts, &f->cloud, &f->e), -ERR_USAGE);
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, fixture_make, fixture_drop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_FIXTURE(a_path_is_filled_and_encoded),
		WITH_FIXTURE(an_id_that_would_change_the_path_is_never_sent),
		WITH_FIXTURE(a_regional_service_gets_its_project_from_iam),
		WITH_FIXTURE(a_region_that_is_not_there_is_named_with_its_neighbours),
		WITH_FIXTURE(endpoints_can_be_given_with_a_region_and_a_path),
		WITH_FIXTURE(the_scope_is_the_account_and_then_the_project),
		WITH_FIXTURE(only_what_is_harmless_is_sent_again),
		WITH_FIXTURE(it_gives_up_after_the_retries),
		WITH_FIXTURE(a_refusal_says_all_there_is_to_know),
		WITH_FIXTURE(keys_never_come_back_in_a_message),
		WITH_FIXTURE(a_clock_that_is_off_is_measured_and_got_over),
		WITH_FIXTURE(a_body_is_sent_as_json_and_a_token_marks_a_repetition),
		WITH_FIXTURE(a_dry_run_tells_and_sends_only_what_reads),
		WITH_FIXTURE(an_id_of_the_config_is_looked_at),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
