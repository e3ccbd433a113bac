/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/reply.h - what a service answered, with an error in whichever of its shapes decoded:
 * error_code/error_msg, errorCode/errorMsg, code/message, or one of these in an inner object.
 */
#include <stdbool.h>
#include <stdint.h>

#include "agent/http.h"
#include "common/error.h"

#define AGT_CODE_MAX 64
#define AGT_MESSAGE_MAX 512

struct cJSON;

struct agt_reply {
	int status;                    /* HTTP; 0: no answer came */
	char code[AGT_CODE_MAX];       /* "SMS.6504", "APIGW.0301", "Ecs.0018"; "": none */
	char message[AGT_MESSAGE_MAX]; /* of the service, printable; keys are blotted out */
	char request_id[AGT_HTTP_TEXT_MAX];
	struct cJSON *body;            /* owned; NULL: empty, or no JSON */
	int64_t skew_s;                /* their clock minus ours; 0 when they did not say */
	int64_t retry_after_s;         /* -1: they did not say */
	bool dry;                      /* nothing was sent */
};

void agt_reply_fini(struct agt_reply *r); /* NULL is fine; can be used again */

/*
 * Fill *ret from an answer of any kind; code and message only when the status is no 2xx.
 * -ERR_PROTOCOL: a 2xx whose body is no JSON, said in words that name what it is instead;
 * status, request id and skew are filled then, too.  -ENOMEM.
 */
int agt_reply_decode(const struct agt_http_response *response, struct agt_reply *ret,
		     struct err *e) _must_check_;

/* It could not answer now (a limit of rate, a fault of its own): the same call may do later. */
bool agt_reply_busy(const struct agt_reply *r);

/* The service gave this error code; the case of its letters does not matter. */
bool agt_reply_is(const struct agt_reply *r, const char *code);
