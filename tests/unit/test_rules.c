/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/rules.h"
#include "common/macro.h"

#define USED(r) (1u << (r))

static void every_row_of_the_known_flow_is_there(void **state)
{
	static const struct {
		const char *code;
		enum agt_place place;
		agt_used_t used;
		enum agt_remedy want;
	} rows[] = {
		{ "SMS.6504", AGT_AT_CHECK, 0, AGT_GO_STAGED },
		{ "SMS.6504", AGT_AT_CREATE, 0, AGT_GO_STAGED },
		{ "SMS.6617", AGT_AT_CREATE, 0, AGT_AS_FILE },
		{ "SMS.6617", AGT_AT_CREATE, USED(AGT_AS_FILE), AGT_GO_STAGED },
		{ "SMS.6000", AGT_AT_CREATE, USED(AGT_AS_FILE), AGT_GO_STAGED },
		{ "SMS.6617", AGT_AT_TASK, 0, AGT_AS_FILE },
		{ "SMS.6616", AGT_AT_TASK, USED(AGT_AS_FILE), AGT_GO_STAGED },
		{ "SMS.3802", AGT_AT_TASK, USED(AGT_AS_FILE), AGT_NO_RULE },
		{ "SMS.6602", AGT_AT_CREATE, 0, AGT_PRIVATE_ADDRESS },
		{ "SMS.6602", AGT_AT_CREATE, USED(AGT_PRIVATE_ADDRESS), AGT_NO_RULE },
		{ "SMS.7605", AGT_AT_CREATE, 0, AGT_DELETE_FAILED },
		{ "SMS.7605", AGT_AT_CREATE, USED(AGT_DELETE_FAILED), AGT_DELETE_FINISHED },
		{ "SMS.7605", AGT_AT_CREATE,
		  USED(AGT_DELETE_FAILED) | USED(AGT_DELETE_FINISHED), AGT_NO_RULE },
		{ "SMS.6603", AGT_AT_CREATE, 0, AGT_STOP },
		{ "SMS.6603", AGT_AT_START, 0, AGT_STOP },
		{ "SMS.6603", AGT_AT_TASK, 0, AGT_STOP },
		{ "SMS.8115", AGT_AT_PROJECT, 0, AGT_FREE_PROJECTS },
		{ "SMS.8115", AGT_AT_PROJECT, USED(AGT_FREE_PROJECTS), AGT_FREE_PROJECTS },
		{ "VPC.0114", AGT_AT_NETWORK, 0, AGT_STOP },
		{ "SMS.7703", AGT_AT_QUERY, 0, AGT_CURRENT_TASK },
		{ "SMS.1404", AGT_AT_CREATE, 0, AGT_WITHOUT_DISKS },
		{ "SMS.1404", AGT_AT_TASK, 0, AGT_WITHOUT_DISKS },
		{ "SMS.1404", AGT_AT_TASK, USED(AGT_WITHOUT_DISKS), AGT_NO_RULE },
		{ "SMS.0515", AGT_AT_START, 0, AGT_REFRESH_SOURCE },
		{ "SMS.0515", AGT_AT_TASK, 0, AGT_REFRESH_SOURCE },
		{ "SMS.0515", AGT_AT_TASK, USED(AGT_REFRESH_SOURCE), AGT_NO_RULE },
		{ "SMS.7602", AGT_AT_CREATE, 0, AGT_REGISTER_SOURCE },
		{ "SMS.7602", AGT_AT_CREATE, USED(AGT_REGISTER_SOURCE), AGT_NO_RULE },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_string_equal(
			agt_remedy_name(agt_rule_find(rows[i].code, rows[i].place, rows[i].used)),
			agt_remedy_name(rows[i].want));
}

static void a_rule_holds_only_where_it_is_meant_for(void **state)
{
	(void)state;
	assert_int_equal(agt_rule_find("SMS.8115", AGT_AT_CREATE, 0), AGT_NO_RULE);
	assert_int_equal(agt_rule_find("SMS.6602", AGT_AT_TASK, 0), AGT_NO_RULE);
	assert_int_equal(agt_rule_find("SMS.7605", AGT_AT_START, 0), AGT_NO_RULE);
	assert_int_equal(agt_rule_find("VPC.0114", AGT_AT_PROJECT, 0), AGT_NO_RULE);
	assert_int_equal(agt_rule_find("SMS.0000", AGT_AT_CREATE, 0), AGT_NO_RULE);
	assert_int_equal(agt_rule_find("", AGT_AT_CREATE, 0), AGT_NO_RULE);
	assert_int_equal(agt_rule_find(NULL, AGT_AT_QUERY, 0), AGT_NO_RULE);
}

/* A gateway that throttles, or a service that is down, says nothing about the host. */
static void only_a_code_of_sms_sends_a_second_failure_to_the_staged_sync(void **state)
{
	static const char *const codes[] = { "", "APIGW.0308", "Ecs.0018", "VPC.0114" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
		assert_int_equal(agt_rule_find(codes[i], AGT_AT_CREATE, USED(AGT_AS_FILE)),
				 AGT_NO_RULE);
	assert_int_equal(agt_rule_find(NULL, AGT_AT_CREATE, USED(AGT_AS_FILE)), AGT_NO_RULE);
	/* What a rule stops stays stopped. */
	assert_int_equal(agt_rule_find("SMS.6603", AGT_AT_CREATE, USED(AGT_AS_FILE)), AGT_STOP);
}

static void a_failed_check_sends_to_the_staged_sync_whatever_its_code(void **state)
{
	(void)state;
	assert_int_equal(agt_rule_find("", AGT_AT_CHECK, 0), AGT_GO_STAGED);
	assert_int_equal(agt_rule_find(NULL, AGT_AT_CHECK, 0), AGT_GO_STAGED);
	assert_int_equal(agt_rule_find("SMS.9999", AGT_AT_CHECK, 0), AGT_GO_STAGED);
}

static void used_remedies_survive_as_text(void **state)
{
	agt_used_t used = 0;
	char text[512];

	(void)state;
	for (int i = 1; i < AGT_REMEDIES; i++)
		used |= USED(i);
	agt_used_text(used, text, sizeof(text));
	assert_int_equal(agt_used_parse(text), used);
	agt_used_text(0, text, sizeof(text));
	assert_string_equal(text, "");
	assert_int_equal(agt_used_parse("nonsense  as_file as_fil "), USED(AGT_AS_FILE));
	agt_used_text(used, text, 8); /* cut, not overrun */
	assert_true(strlen(text) < 8);
}

static void states_have_their_class(void **state)
{
	static const struct {
		const char *word;
		enum agt_task_class want;
	} rows[] = {
		{ "READY", AGT_TASK_READY },	       { "RUNNING", AGT_TASK_LIVE },
		{ "SYNCING", AGT_TASK_LIVE },	       { "ABORTING", AGT_TASK_LIVE },
		{ "MIGRATE_SUCCESS", AGT_TASK_SUCCESS }, { "SYNC_SUCCESS", AGT_TASK_SUCCESS },
		{ "migrate_success", AGT_TASK_SUCCESS }, { "MIGRATE_FAIL", AGT_TASK_FAILED },
		{ "SYNC_FAIL", AGT_TASK_FAILED },      { "ABORT", AGT_TASK_PAUSED },
		{ "SOMETHING_NEW", AGT_TASK_LIVE },    { "", AGT_TASK_LIVE },
		{ NULL, AGT_TASK_LIVE },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(agt_task_classify(rows[i].word), rows[i].want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_row_of_the_known_flow_is_there),
		cmocka_unit_test(a_rule_holds_only_where_it_is_meant_for),
		cmocka_unit_test(only_a_code_of_sms_sends_a_second_failure_to_the_staged_sync),
		cmocka_unit_test(a_failed_check_sends_to_the_staged_sync_whatever_its_code),
		cmocka_unit_test(used_remedies_survive_as_text),
		cmocka_unit_test(states_have_their_class),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
