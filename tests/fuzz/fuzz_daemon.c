/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What others write and the daemon reads: requests at its socket, however they are cut up, and
 * reports about a run as the files of another program tell them.
 */
#include <stdlib.h>

#include "agent/json.h"
#include "agent/listener.h"
#include "agent/rounds.h"
#include "agent/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is known from the first bytes must not be taken back when more come. */
static void ask(const uint8_t *data, size_t size)
{
	enum agt_request was = AGT_REQUEST_MORE;

	for (size_t n = 0; n <= size && n <= 2 * AGT_REQUEST_MAX; n++) {
		enum agt_request now = agt_request_parse(bytes_of(data, n));

		if (was != AGT_REQUEST_MORE && now != was)
			abort();
		if (now == AGT_REQUEST_MORE && n > AGT_REQUEST_MAX)
			abort();
		was = now;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(agt_json_freep) struct cJSON *v = NULL, *report = NULL;
	struct agt_check_result check;
	struct agt_round round;

	ask(data, size);
	if (agt_json_parse(bytes_of(data, size), &v, NULL) < 0)
		return 0;
	report = agt_snapshot_report_consistency("t", v);
	agt_check_result(v, &check);
	agt_round_result(v, &round);
	return 0;
}
