/* SPDX-License-Identifier: Apache-2.0 */
/* What a migration reads of strangers: console output, lists of flavors and of rules. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/console.h"
#include "agent/flavor.h"
#include "agent/json.h"
#include "agent/network.h"
#include "agent/rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct agt_console_cause *causes[AGT_CONSOLE_CAUSES_MAX];
	struct agt_flavor flavor;
	struct cJSON *v = NULL;
	struct err e;
	char *text = malloc(size + 1);

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	if (agt_console_causes(text, causes) > AGT_CONSOLE_CAUSES_MAX)
		abort();
	(void)agt_rule_find(text, AGT_AT_CREATE, agt_used_parse(text));
	if (agt_json_parse(bytes_of(data, size), &v, &e) == 0) {
		if (agt_flavor_choose(v, 2, 4096, "az1", "a b", &flavor) == 1 && !*flavor.id)
			abort();
		(void)agt_network_allowed(v, "ingress", "192.0.2.7/32", 22);
		(void)agt_network_allowed(v, "egress", "2001:db8::1/128", 22);
	}
	agt_json_free(v);
	free(text);
	return 0;
}
