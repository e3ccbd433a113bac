/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/flavor.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "agent/json.h"
#include "agent/migration_run.h"

static bool is_sold(const char *word, size_t n)
{
	return (n == 6 && !memcmp(word, "normal", n)) ||
	       (n == 9 && !memcmp(word, "promotion", n));
}

/*
 * The first zone of "az0(normal), az1(sellout)" where it is sold, or the wanted one if it is
 * sold there.  1: found, 0: it is sold in none, -1: the text names no zones.
 */
static int zone_sold(const char *text, const char *wanted, char *ret, size_t size)
{
	bool named = false;

	for (const char *p = text; *p;) {
		const char *open = strchr(p, '('), *close = open ? strchr(open, ')') : NULL;
		size_t n;

		if (!close)
			break;
		p += strspn(p, " ,");
		n = (size_t)(open - p);
		named = true;
		if (n && n < size && is_sold(open + 1, (size_t)(close - open - 1)) &&
		    (!wanted || !*wanted ||
		     (strlen(wanted) == n && !memcmp(wanted, p, n)))) {
			snprintf(ret, size, "%.*s", (int)n, p);
			return 1;
		}
		p = close + 1;
	}
	return named ? 0 : -1;
}

static bool can_be_bought(const struct cJSON *f, const char *wanted, struct agt_flavor *ret)
{
	const struct cJSON *specs = agt_json_at(f, "os_extra_specs");
	const char *arch = "", *zones = "", *status = "normal";
	int r;

	/* The keys have colons and may have dots, so no path can name them. */
	for (const struct cJSON *i = agt_json_first(specs, ""); i; i = agt_json_next(i)) {
		const char *name = agt_json_name(i), *value = agt_json_str(i, "", "");

		if (!strcmp(name, "ecs:instance_architecture"))
			arch = value;
		else if (!strcmp(name, "cond:operation:az"))
			zones = value;
		else if (!strcmp(name, "cond:operation:status") && *value)
			status = value;
	}
	if (strstr(arch, "arm"))
		return false;
	ret->zone[0] = '\0';
	r = zone_sold(zones, wanted, ret->zone, sizeof(ret->zone));
	if (r >= 0)
		return r;
	return is_sold(status, strlen(status));
}

/* True when a is nearer to what is wanted than b. */
static bool nearer(const struct agt_flavor *a, const struct agt_flavor *b, int64_t vcpus,
		   int64_t ram_mib)
{
	int64_t lack_a = (a->vcpus < vcpus) + (a->ram_mib < ram_mib);
	int64_t lack_b = (b->vcpus < vcpus) + (b->ram_mib < ram_mib);

	if (lack_a != lack_b)
		return lack_a < lack_b;
	/* Among those that lack something more is better, else less is. */
	if (a->vcpus != b->vcpus)
		return lack_a ? a->vcpus > b->vcpus : a->vcpus < b->vcpus;
	if (a->ram_mib != b->ram_mib)
		return lack_a ? a->ram_mib > b->ram_mib : a->ram_mib < b->ram_mib;
	return false;
}

int agt_flavor_choose(const struct cJSON *list, int64_t vcpus, int64_t ram_mib,
		      const char *zone, const char *refused, struct agt_flavor *ret)
{
	bool found = false;

	for (const struct cJSON *i = agt_json_first(list, ""); i; i = agt_json_next(i)) {
		struct agt_flavor f = {
			.id = agt_json_str(i, "id", ""),
			.vcpus = agt_json_int(i, "vcpus", 0),
			.ram_mib = agt_json_int(i, "ram", 0),
		};

		if (!*f.id || strlen(f.id) >= AGT_RUN_ID || f.vcpus <= 0 || f.ram_mib <= 0 ||
		    agt_words_have(refused, f.id) || !can_be_bought(i, zone, &f))
			continue;
		if (!found || nearer(&f, ret, vcpus, ram_mib))
			*ret = f;
		found = true;
	}
	return found;
}
