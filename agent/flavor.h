/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/flavor.h - which kind of server comes nearest to the source.
 *
 * Only what can be bought counts, and only x86: SMS moves nothing else.  A flavor with at
 * least the source's CPUs and memory comes before one that lacks some of either; among those
 * the one with the least of both wins.
 */
#include <stddef.h>
#include <stdint.h>

struct cJSON;

struct agt_flavor {
	const char *id;   /* borrowed from the list */
	char zone[72];    /* one where it is sold; "": the list does not say */
	int64_t vcpus;
	int64_t ram_mib;
};

/*
 * The best flavor of list, an array as the service's flavors[] is, that is not among refused
 * (ids with blanks between them); zone is the only zone wanted, NULL or "" for any.  1 and
 * *ret filled, or 0: there is none.
 */
int agt_flavor_choose(const struct cJSON *list, int64_t vcpus, int64_t ram_mib,
		      const char *zone, const char *refused, struct agt_flavor *ret);
