/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/flavor.h"
#include "agent/json.h"
#include "agent/network.h"
#include "common/macro.h"

static struct cJSON *parse(const char *text)
{
	struct cJSON *v = NULL;
	struct err e = { 0 };

	assert_int_equal(agt_json_parse(bytes_str(text), &v, &e), 0);
	return v;
}

static const char list_text[] =
	"[{\"id\":\"small\",\"vcpus\":\"1\",\"ram\":1024},"
	"{\"id\":\"exact\",\"vcpus\":\"2\",\"ram\":4096},"
	"{\"id\":\"wide\",\"vcpus\":\"2\",\"ram\":8192},"
	"{\"id\":\"large\",\"vcpus\":4,\"ram\":\"8192\"},"
	"{\"id\":\"arm\",\"vcpus\":\"2\",\"ram\":4096,"
	"\"os_extra_specs\":{\"ecs:instance_architecture\":\"arm64\"}},"
	"{\"id\":\"gone\",\"vcpus\":\"2\",\"ram\":4096,"
	"\"os_extra_specs\":{\"cond:operation:status\":\"sellout\"}},"
	"{\"id\":\"zoned\",\"vcpus\":\"2\",\"ram\":4096,\"os_extra_specs\":{"
	"\"cond:operation:status\":\"abandon\","
	"\"cond:operation:az\":\"az0(sellout), az1(normal),az2(promotion)\"}},"
	"{\"id\":\"nowhere\",\"vcpus\":\"2\",\"ram\":4096,\"os_extra_specs\":{"
	"\"cond:operation:az\":\"az0(sellout)\"}},"
	"{\"id\":null,\"vcpus\":2,\"ram\":4096},{\"vcpus\":2},{\"id\":\"zero\",\"vcpus\":0,"
	"\"ram\":0},null,7,\"x\"]";

static void the_nearest_that_can_be_bought_is_taken(void **state)
{
	static const struct {
		int64_t vcpus, ram;
		const char *zone, *refused, *want;
	} rows[] = {
		{ 2, 4096, NULL, "", "exact" },
		{ 2, 4096, NULL, "exact", "zoned" },
		{ 2, 4096, NULL, "exact zoned", "wide" },
		{ 2, 4096, NULL, "exact zoned wide", "large" },
		/* Nothing is big enough any more: the biggest there is. */
		{ 2, 4096, NULL, "exact zoned wide large", "small" },
		{ 2, 4096, NULL, "exact zoned wide large small", NULL },
		{ 1, 512, NULL, "", "small" },
		{ 3, 4096, NULL, "", "large" },
		{ 2, 5000, NULL, "", "wide" },
		{ 64, 1 << 20, NULL, "", "large" },
		/* What tells no zones may be in any. */
		{ 2, 4096, "az2", "exact", "zoned" },
		{ 2, 4096, "az0", "exact", "wide" },
	};
	struct cJSON *list = parse(list_text);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct agt_flavor f;
		int r = agt_flavor_choose(list, rows[i].vcpus, rows[i].ram, rows[i].zone,
					  rows[i].refused, &f);

		assert_int_equal(r, rows[i].want != NULL);
		if (rows[i].want)
			assert_string_equal(f.id, rows[i].want);
	}
	agt_json_free(list);
}

static void the_zone_is_one_where_it_is_sold(void **state)
{
	struct cJSON *list = parse(list_text);
	struct agt_flavor f;

	(void)state;
	assert_int_equal(agt_flavor_choose(list, 2, 4096, NULL, "exact", &f), 1);
	assert_string_equal(f.zone, "az1");
	assert_int_equal(agt_flavor_choose(list, 2, 4096, "az2", "exact", &f), 1);
	assert_string_equal(f.zone, "az2");
	assert_int_equal(agt_flavor_choose(list, 2, 4096, NULL, "", &f), 1);
	assert_string_equal(f.zone, "");
	agt_json_free(list);
}

static void nonsense_is_no_list(void **state)
{
	struct agt_flavor f;
	struct cJSON *o = parse("{\"flavors\":3}");

	(void)state;
	assert_int_equal(agt_flavor_choose(NULL, 1, 1, NULL, "", &f), 0);
	assert_int_equal(agt_flavor_choose(o, 1, 1, NULL, "", &f), 0);
	agt_json_free(o);
}

static void rules_let_in_whom_they_cover(void **state)
{
	static const struct {
		const char *rule;
		bool want;
	} rows[] = {
		{ "{\"direction\":\"ingress\",\"protocol\":\"tcp\",\"port_range_min\":22,"
		  "\"port_range_max\":22,\"remote_ip_prefix\":\"192.0.2.7/32\"}", true },
		{ "{\"direction\":\"ingress\",\"protocol\":\"tcp\",\"port_range_min\":20,"
		  "\"port_range_max\":30,\"remote_ip_prefix\":\"192.0.2.0/24\"}", true },
		{ "{\"direction\":\"ingress\",\"remote_ip_prefix\":\"0.0.0.0/0\"}", true },
		{ "{\"direction\":\"ingress\",\"remote_ip_prefix\":null,\"protocol\":null}", true },
		{ "{\"direction\":\"ingress\",\"protocol\":\"udp\",\"port_range_min\":22,"
		  "\"port_range_max\":22}", false },
		{ "{\"direction\":\"egress\",\"remote_ip_prefix\":\"0.0.0.0/0\"}", false },
		{ "{\"direction\":\"ingress\",\"remote_ip_prefix\":\"192.0.2.8/32\"}", false },
		{ "{\"direction\":\"ingress\",\"remote_ip_prefix\":\"192.0.2.0/31\"}", false },
		{ "{\"direction\":\"ingress\",\"remote_group_id\":\"x\"}", false },
		{ "{\"direction\":\"ingress\",\"remote_ip_prefix\":\"::/0\"}", false },
		{ "{\"direction\":\"ingress\",\"remote_ip_prefix\":\"nonsense\"}", false },
		{ "{\"direction\":\"ingress\",\"remote_ip_prefix\":\"192.0.2.0/99\"}", false },
		{ "{}", false },
		{ "7", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char text[300];
		struct cJSON *list;

		snprintf(text, sizeof(text), "[%s]", rows[i].rule);
		list = parse(text);
		assert_int_equal(agt_network_allowed(list, "ingress", "192.0.2.7/32", 22),
				 rows[i].want);
		agt_json_free(list);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_nearest_that_can_be_bought_is_taken),
		cmocka_unit_test(the_zone_is_one_where_it_is_sold),
		cmocka_unit_test(nonsense_is_no_list),
		cmocka_unit_test(rules_let_in_whom_they_cover),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
