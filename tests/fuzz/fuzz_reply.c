/* SPDX-License-Identifier: Apache-2.0 */
/* Any answer at any status: decoded, and asked for what the commands ask for. */
#include <stdlib.h>
#include <string.h>

#include "agent/json.h"
#include "agent/reply.h"
#include "common/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ask(const struct cJSON *v, unsigned depth)
{
	static const char *const paths[] = { "", "id", "error.code", "a.b.c", "." };
	_cleanup_(agt_json_freep) struct cJSON *inner = NULL;
	char text[16];

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		agt_json_int(v, paths[i], 0);
		agt_json_double(v, paths[i], 0);
		agt_json_bool(v, paths[i], false);
		agt_json_text(v, paths[i], text, sizeof(text));
		if (strlen(text) >= sizeof(text))
			abort();
	}
	if (agt_json_embedded(v, "", &inner, NULL) == 0 && inner && depth < 4)
		ask(inner, depth + 1);
	if (depth < 4)
		for (const struct cJSON *i = agt_json_first(v, ""); i; i = agt_json_next(i))
			ask(i, depth + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int statuses[] = { 200, 204, 400, 401, 403, 429, 500, 599 };
	struct agt_http_response response = { .retry_after_s = -1 };
	struct agt_reply reply = { 0 };
	struct err e;

	if (!size)
		return 0;
	response.status = statuses[data[0] & 7];
	if (data[0] & 8)
		strcpy(response.content_type, "text/html");
	if (buf_put(&response.body, data + 1, size - 1) < 0)
		abort();
	(void)!agt_reply_decode(&response, &reply, &e);
	if (strlen(reply.message) >= sizeof(reply.message) || strlen(reply.code) >= sizeof(reply.code))
		abort();
	for (const char *p = reply.message; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			abort();
	ask(reply.body, 0);
	agt_json_blot(reply.body);
	agt_reply_fini(&reply);
	agt_http_response_fini(&response);
	return 0;
}
