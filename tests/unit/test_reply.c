/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/reply.h"

#include <stdio.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "agent/errors.h"
#include "agent/json.h"
#include "common/text.h"

static int decode(int status, const char *type, const char *body, struct agt_reply *ret,
		  struct err *e)
{
	struct agt_http_response response = { .status = status, .retry_after_s = -1 };
	int r;

	strcpy(response.content_type, type);
	assert_int_equal(buf_put(&response.body, body, strlen(body)), 0);
	agt_reply_fini(ret);
	r = agt_reply_decode(&response, ret, e);
	agt_http_response_fini(&response);
	return r;
}

static void an_error_is_read_in_each_of_its_shapes(void **state)
{
	static const struct {
		int status;
		const char *body, *code, *message;
	} rows[] = {
		{ 400, "{\"error_code\":\"SMS.6504\",\"error_msg\":\"no\"}", "SMS.6504", "no" },
		{ 400, "{\"errorCode\":\"SMS.6504\",\"errorMsg\":\"no\"}", "SMS.6504", "no" },
		{ 409, "{\"code\":\"VPC.0114\",\"message\":\"quota\"}", "VPC.0114", "quota" },
		{ 400, "{\"error\":{\"code\":\"Ecs.0018\",\"message\":\"gone\"}}", "Ecs.0018", "gone" },
		{ 404, "{\"itemNotFound\":{\"message\":\"x\",\"code\":404}}", "404", "x" },
		{ 400, "{\"NeutronError\":{\"type\":\"Bad\",\"message\":\"m\",\"detail\":\"\"}}", "Bad",
		  "m" },
		{ 500, "{\"error_code\":null,\"error_msg\":\"m\"}", "", "m" },
		{ 400, "{\"error_code\":\"DCS.4001\",\"error_msg\":\"a\",\"error_ext_msg\":\"b\"}",
		  "DCS.4001", "a; b" },
		{ 403,
		  "{\"error_code\":\"SMS.9004\",\"error_msg\":\"denied\",\"details\":[{\"error_code\":"
		  "\"x\",\"error_msg\":\"sms:server:queryServer\"}]}",
		  "SMS.9004", "denied; sms:server:queryServer" },
		{ 400, "{\"error_code\":\"with blank\",\"error_msg\":\"m\"}", "", "m" },
		{ 400, "{\"error_code\":{},\"error_msg\":[]}", "", "{\"error_code\":{},\"error_msg\":[]}" },
		{ 503, "", "", "" },
		{ 502, "<html><head><title>502 Bad\nGateway</title>", "", "502 Bad Gateway" },
		{ 400, "tell \x1b[31mred", "", "tell \\x1b[31mred" },
		{ 400, "[1]", "", "[1]" },
		{ 400, "12", "", "12" },
	};
	struct agt_reply reply = { 0 };
	struct err e = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(decode(rows[i].status, "", rows[i].body, &reply, &e), 0);
		assert_int_equal(reply.status, rows[i].status);
		assert_string_equal(reply.code, rows[i].code);
		assert_string_equal(reply.message, rows[i].message);
	}
	agt_reply_fini(&reply);
}

static void a_success_needs_no_object(void **state)
{
	static const char *const bodies[] = { "", "\"\"", "{}", "null", " \n", "[]" };
	struct agt_reply reply = { 0 };
	struct err e = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		assert_int_equal(decode(200, "", bodies[i], &reply, &e), 0);
		assert_string_equal(agt_json_str(reply.body, "id", "none"), "none");
		assert_string_equal(reply.code, "");
	}
	/* What looks like an error in a success is somebody's data. */
	assert_int_equal(decode(200, "", "{\"error_code\":\"Ecs.0219\",\"status\":\"FAIL\"}", &reply, &e),
			 0);
	assert_string_equal(reply.code, "");
	agt_reply_fini(&reply);
}

static void a_success_that_is_no_json_is_named(void **state)
{
	static const struct {
		const char *type, *body, *want;
	} rows[] = {
		{ "text/html; charset=utf-8", "<html><title>Sign in</title></html>", "web page ('Sign in')" },
		{ "", "  <!DOCTYPE html><title>Hotel", "web page ('Hotel')" },
		{ "application/json", "{\"id\":\"a", "cut off or damaged" },
		{ "application/json", "hello", "cut off or damaged" },
	};
	struct agt_reply reply = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct err e = { 0 };

		assert_int_equal(decode(200, rows[i].type, rows[i].body, &reply, &e), -ERR_PROTOCOL);
		assert_non_null(strstr(e.text, rows[i].want));
		assert_int_equal(reply.status, 200);
		assert_int_equal(decode(200, rows[i].type, rows[i].body, &reply, NULL), -ERR_PROTOCOL);
	}
	agt_reply_fini(&reply);
}

static void a_long_message_is_cut(void **state)
{
	static char body[AGT_MESSAGE_MAX * 8];
	struct agt_reply reply = { 0 };
	struct err e = { 0 };
	char *p = body + sprintf(body, "{\"error_code\":\"SMS.1\",\"error_msg\":\"");

	(void)state;
	for (int i = 0; i < AGT_MESSAGE_MAX; i++)
		p += sprintf(p, "%s", i % 2 ? "\xe8\xbf\x81" : "\\u0007");
	strcpy(p, "\",\"error_ext_msg\":\"more\"}");
	assert_int_equal(decode(400, "", body, &reply, &e), 0);
	assert_true(strlen(reply.message) < AGT_MESSAGE_MAX);
	assert_true(strlen(reply.message) > AGT_MESSAGE_MAX / 2);
	assert_true(text_is_utf8(bytes_str(reply.message)));
	agt_reply_fini(&reply);
}

static void the_clock_of_the_service_is_measured(void **state)
{
	struct agt_http_response response = { .status = 200, .date_s = 1000, .received_s = 2200 };
	struct agt_reply reply = { 0 };
	struct err e = { 0 };

	(void)state;
	assert_int_equal(agt_reply_decode(&response, &reply, &e), 0);
	assert_int_equal(reply.skew_s, -1200);
	response.date_s = 0;
	assert_int_equal(agt_reply_decode(&response, &reply, &e), 0);
	assert_int_equal(reply.skew_s, 0);
}

static void a_code_has_a_remedy_whatever_its_case(void **state)
{
	(void)state;
	assert_non_null(agt_error_find("SMS.6603"));
	assert_ptr_equal(agt_error_find("ECS.0018"), agt_error_find("Ecs.0018"));
	assert_true(agt_error_find("SMS.6301")->again);
	assert_null(agt_error_find("SMS.1"));
	assert_null(agt_error_find(""));
	assert_null(agt_error_find(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_error_is_read_in_each_of_its_shapes),
		cmocka_unit_test(a_success_needs_no_object),
		cmocka_unit_test(a_success_that_is_no_json_is_named),
		cmocka_unit_test(a_long_message_is_cut),
		cmocka_unit_test(the_clock_of_the_service_is_measured),
		cmocka_unit_test(a_code_has_a_remedy_whatever_its_case),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
