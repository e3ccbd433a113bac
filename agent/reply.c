/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/reply.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "agent/json.h"
#include "common/text.h"

#define QUOTE_MAX 160 /* bytes of a strange answer that an error shows */

/* The names that the services have for the same two things. */
static const struct {
	const char *code, *message;
} shapes[] = {
	{ "error_code", "error_msg" },
	{ "errorCode", "errorMsg" },
	{ "code", "message" },
	{ "code", "msg" },
	{ "type", "message" },
};

void agt_reply_fini(struct agt_reply *r)
{
	if (!r)
		return;
	agt_json_free(r->body);
	*r = (struct agt_reply){ 0 };
}

bool agt_reply_busy(const struct agt_reply *r)
{
	return r->status == 408 || r->status == 429 || r->status >= 500;
}

bool agt_reply_is(const struct agt_reply *r, const char *code)
{
	return !strcasecmp(r->code, code);
}

/* At most max bytes of text, ending where a character does. */
static size_t cut(const char *text, size_t n, size_t max)
{
	if (n <= max)
		return n;
	while (max && ((unsigned char)text[max] & 0xc0) == 0x80)
		max--;
	return max;
}

/* Foreign text on one line, control bytes escaped; cut to size. */
static void put_text(char *out, size_t size, const char *text, size_t n)
{
	_cleanup_(buf_fini) struct buf line = BUF_INIT, shown = BUF_INIT;
	const char *s;

	out[0] = '\0';
	n = cut(text, n, size - 1);
	if (!n || buf_put(&line, text, n) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		if (strchr("\t\r\n", line.p[i]) && line.p[i])
			line.p[i] = ' ';
	if (text_escape(&shown, buf_view(&line)) < 0)
		return;
	s = buf_cstr(&shown);
	n = s ? cut(s, strlen(s), size - 1) : 0;
	if (n)
		memcpy(out, s, n);
	out[n] = '\0';
}

static bool is_code(const char *s)
{
	size_t n = strlen(s);

	return n && n < AGT_CODE_MAX &&
	       strspn(s, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._-") == n;
}

/* Fill code and message from the object v, if it is of one of the shapes; a code counts more. */
static bool take_shape(const struct cJSON *v, struct agt_reply *ret)
{
	char code[AGT_CODE_MAX + 1], message[AGT_MESSAGE_MAX];

	for (size_t i = 0; i < 2 * ARRAY_SIZE(shapes); i++) {
		bool want_code = i < ARRAY_SIZE(shapes);
		size_t k = i % ARRAY_SIZE(shapes);

		agt_json_text(v, shapes[k].code, code, sizeof(code));
		agt_json_text(v, shapes[k].message, message, sizeof(message));
		if (want_code ? !is_code(code) : !*message)
			continue;
		if (want_code)
			memcpy(ret->code, code, sizeof(ret->code));
		put_text(ret->message, sizeof(ret->message), message, strlen(message));
		return true;
	}
	return false;
}

/* What a refusal adds: the action that is not allowed, the detail behind the text. */
static void take_details(const struct cJSON *body, struct agt_reply *ret)
{
	const char *text = agt_json_str(body, "error_ext_msg", NULL);
	size_t n = strlen(ret->message);

	if (!text)
		text = agt_json_str(agt_json_first(body, "details"), "error_msg", NULL);
	if (!text)
		text = agt_json_str(body, "detail", NULL);
	if (!text || !*text || strstr(ret->message, text) || n + 4 > sizeof(ret->message))
		return;
	memcpy(ret->message + n, "; ", 3);
	put_text(ret->message + n + 2, sizeof(ret->message) - n - 2, text, strlen(text));
}

static void take_error(struct agt_reply *ret)
{
	const struct cJSON *inner;

	if (!take_shape(ret->body, ret))
		for (inner = agt_json_first(ret->body, ""); inner; inner = agt_json_next(inner))
			if (agt_json_is_object(inner) && take_shape(inner, ret))
				break;
	take_details(ret->body, ret);
	if (!ret->request_id[0]) {
		char id[AGT_HTTP_TEXT_MAX];

		agt_json_text(ret->body, "request_id", id, sizeof(id));
		put_text(ret->request_id, sizeof(ret->request_id), id, strlen(id));
	}
}

static bool is_html(const struct agt_http_response *response)
{
	struct bytes b = buf_view(&response->body);

	while (b.n && strchr(" \t\r\n", b.p[0]) && b.p[0])
		b = bytes_of(b.p + 1, b.n - 1);
	return !strncasecmp(response->content_type, "text/html", 9) || (b.n && b.p[0] == '<');
}

/* The title of a web page tells most: "Sign in", "502 Bad Gateway". */
static void quote(const struct agt_http_response *response, char *out, size_t size)
{
	const char *text = (const char *)buf_view(&response->body).p;
	size_t n = MIN(buf_len(&response->body), (size_t)4096);
	const char *at = is_html(response) && n ? memmem(text, n, "<title>", 7) : NULL;
	const char *end;

	if (at) {
		at += 7;
		end = memchr(at, '<', n - (size_t)(at - text));
		put_text(out, size, at, end ? (size_t)(end - at) : n - (size_t)(at - text));
	} else {
		put_text(out, MIN(size, QUOTE_MAX), n ? text : "", n);
	}
}

static int strange(const struct agt_http_response *response, const struct err *why,
		   struct err *e)
{
	char text[QUOTE_MAX];

	quote(response, text, sizeof(text));
	if (is_html(response))
		return err_set(e, -ERR_PROTOCOL,
			       "HTTP %d with a web page ('%s') where JSON is due: check the endpoint,"
			       " and whether a login page or proxy is in between",
			       response->status, text);
	return err_set(e, -ERR_PROTOCOL, "HTTP %d with an answer that is cut off or damaged: %s",
		       response->status, why->text);
}

int agt_reply_decode(const struct agt_http_response *response, struct agt_reply *ret,
		     struct err *e)
{
	bool fine = response->status >= 200 && response->status < 300;
	struct err why = { 0 };
	int r;

	ret->status = response->status;
	ret->skew_s = response->date_s ? response->date_s - response->received_s : 0;
	ret->retry_after_s = response->retry_after_s;
	memcpy(ret->request_id, response->request_id, sizeof(ret->request_id));
	r = agt_json_parse(buf_view(&response->body), &ret->body, &why);
	if (r < 0 && fine)
		return strange(response, &why, e);
	if (fine)
		return 0;
	if (ret->body)
		take_error(ret);
	if (!ret->message[0])
		quote(response, ret->message, sizeof(ret->message));
	return 0;
}
