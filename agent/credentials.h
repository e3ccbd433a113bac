/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/credentials.h - the keys of the cloud account, wherever the operator keeps them.
 */
#include <stdbool.h>

#include "common/error.h"

struct secret;
struct agt_options;

/* Who we are to the cloud. */
struct agt_credentials {
	char *ak;
	struct secret *sk;
	struct secret *token; /* NULL: the keys are permanent */
};

/*
 * Find the keys, for each in this order: the environment (HC_AK, HC_SK, HC_SECURITY_TOKEN), the
 * systemd credential ("hc_ak", "hc_sk", "hc_security_token"), the config file (ak, sk_file,
 * security_token_file).  -ERR_AUTH with what to do: missing, empty, open to others, unreadable,
 * or shaped like no key.  *ret is the caller's to fini, on success only.
 */
int agt_credentials_load(const struct agt_options *o, struct agt_credentials *ret,
			 struct err *e) _must_check_;
void agt_credentials_fini(struct agt_credentials *c); /* NULL is fine */

/* Has the operator said anything of keys?  If not, nobody wants the cloud to be asked. */
bool agt_credentials_given(const struct agt_options *o);

#define AGT_AK_SHOWN_SIZE 9
/* An access key as messages may show it: "ABCD****".  Returns out. */
const char *agt_ak_shown(char out[AGT_AK_SHOWN_SIZE], const char *ak);
