#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# stager-agent migrate against the test cloud: the chain, and each rule that leaves it.

load lib
load agent
. "$BATS_TEST_DIRNAME/../cloud/cloud.bash"

setup() { it_setup; }
teardown() { agent_teardown; }

files_are() { # the result files are just these
	local have

	have=$(cd "$OUT" && echo *.json)
	[ "$have" = "$*" ] || fail "the result files are $have"
}

sms_files="migration_result.json postcheck_network.json precheck_source_checks.json"
sms_files+=" precheck_task_cleanup.json task_poll_latest.json"
staged_files="migration_result.json postcheck_network.json precheck_source_checks.json"
staged_files+=" precheck_task_cleanup.json rsync_execution.json"

stopped_files="migration_result.json precheck_source_checks.json precheck_task_cleanup.json"

bodies() { # of the calls of a route: a jq expression of each
	cloud_log "select(.route == \"$1\") | .body | $2"
}

by_sms() {
	[ "$(result migration_method)" = sms ]
	[ "$(result task_state)" = MIGRATE_SUCCESS ]
	[ "$(out postcheck_network.json 'j["passed"]')" = true ]
	files_are "$sms_files"
	cloud_clean
}

by_staged() { # the code that is the reason
	[ "$(result migration_method)" = rsync ]
	[ "$(result task_state)" = CUTOVER_SYNCED ]
	[[ $(result sms_incompatible_reason) == *$1* ]]
	[ -n "$(result migration_fallback_reason)" ]
	assert_same "$SRC" "$DST"
	[ "$(out rsync_execution.json 'j["state"]')" = CUTOVER_SYNCED ]
	cloud_clean
}

@test "the whole chain, in its order, to MIGRATE_SUCCESS" {
	agent_setup happy
	migrate_ends 0
	chain_is "${BEGIN[@]}" "${TARGET[@]}" "${GO[@]}"
	by_sms
	for f in migproject_id task_id source_sms_server_id target_server_id; do
		[ -n "$(result $f)" ] || fail "$f is empty"
	done
	[ "$(result source_sms_server_id)" = "$CLOUD_SOURCE" ]
	[ -z "$(result migration_fallback_reason)" ]
	[ "$(out task_poll_latest.json 'j["task_state"]')" = MIGRATE_SUCCESS ]
	[ "$(out precheck_source_checks.json 'j["sms_usable"]')" = true ]
	[ "$(bodies 'POST /v3/tasks' .type)" = '"MIGRATE_BLOCK"' ]
	for f in $sms_files; do
		[ "$(out "$f" 'j["run_id"]')" = "$(result run_id)" ]
		[ "$(out "$f" 'j["generated_at"] > 1e9 and "generated_at_utc" in j')" = true ]
	done
}

@test "VPC, subnet and security group are made where there are none" {
	agent_setup no-network
	export EXTRA_PEER_IPS=198.51.100.7,198.51.100.128/25
	migrate_ends 0
	by_sms
	[ "$(bodies 'POST /v1/{project_id}/vpcs' .vpc.cidr)" = '"10.250.0.0/16"' ]
	[ "$(bodies 'POST /v1/{project_id}/subnets' .subnet.cidr)" = '"10.250.1.0/24"' ]
	# Peers alone are let in.
	[ "$(bodies 'POST /v1/{project_id}/security-group-rules' \
		'.security_group_rule | select(.direction == "ingress") | .remote_ip_prefix' |
		sort -u | tr '\n' ' ')" = '"192.168.0.10/32" "198.51.100.128/25" "198.51.100.7/32" ' ]
	[ "$(result target_vpc_name)" = vpc-migration ]
}

@test "SMS.6504: no task; the staged sync runs for real" {
	agent_setup sms-6504
	migrate_ends 0
	chain_is "${BEGIN[@]}"
	by_staged SMS.6504
	files_are "$staged_files"
	[[ $(result sms_incompatible_reason) == OS_VERSION* ]]
	[ -z "$(result task_id)" ]
	[ "$(out precheck_source_checks.json 'j["sms_usable"]')" = false ]
	[ "$(query "$OUT/rsync_execution.json" '[p["phase"] for p in j["phases"]]')" = \
		'["full_sync", "incremental_sync_1", "cutover_sync"]' ]
}

@test "SMS.6617: again as MIGRATE_FILE" {
	agent_setup sms-6617
	migrate_ends 0
	chain_is "${BEGIN[@]}" "${TARGET[@]}" "${GO[@]}"
	by_sms
	[ "$(bodies 'POST /v3/tasks' .type | tr '\n' ' ')" = '"MIGRATE_BLOCK" "MIGRATE_FILE" ' ]
}

@test "SMS.6617 twice: the staged sync" {
	agent_setup sms-6617-persistent
	migrate_ends 0
	chain_is "${BEGIN[@]}" "${TARGET[@]}" "POST /v3/tasks"
	by_staged SMS.6617
	files_are "$staged_files"
	[ "$(bodies 'POST /v3/tasks' .type | tr '\n' ' ')" = '"MIGRATE_BLOCK" "MIGRATE_FILE" ' ]
}

@test "SMS.6602: again with use_public_ip false" {
	agent_setup sms-6602
	migrate_ends 0
	chain_is "${BEGIN[@]}" "${TARGET[@]}" "${GO[@]}"
	by_sms
	[ "$(bodies 'POST /v3/tasks' .use_public_ip | tr '\n' ' ')" = 'true false ' ]
	[ "$(bodies 'POST /v3/tasks' .migration_ip | tail -n 1)" = "\"$(result target_private_ip)\"" ]
}

@test "SMS.6602 twice: exit 46, no other attempt" {
	agent_setup sms-6602-persistent
	migrate_ends 46
	says SMS.6602
	chain_is "${BEGIN[@]}" "${TARGET[@]}" "POST /v3/tasks"
	[ "$(result exit_status)" = 46 ]
	[ "$(out migration_result.json 'j["error"]["code"]')" = SMS.6602 ]
}

@test "SMS.7605: failed tasks go, then again" {
	agent_setup sms-7605
	migrate_ends 0
	chain_is "${BEGIN[@]}" "${TARGET[@]}" "POST /v3/tasks" "GET /v3/tasks" \
		"DELETE /v3/tasks/{task_id}" "${GO[@]}"
	by_sms
	[ "$(out precheck_task_cleanup.json '[t["state"] for t in j["deleted"]]')" = '["MIGRATE_FAIL"]' ]
}

@test "SMS.7605 that persists: all finished tasks go, then again" {
	agent_setup sms-7605-persistent
	migrate_ends 0
	by_sms
	chain_is "${BEGIN[@]}" "${TARGET[@]}" "POST /v3/tasks" "GET /v3/tasks" \
		"DELETE /v3/tasks/{task_id}" "POST /v3/tasks" "GET /v3/tasks" \
		"DELETE /v3/tasks/{task_id}" "${GO[@]}"
	out precheck_task_cleanup.json '[t["state"] for t in j["deleted"]]' | grep -q MIGRATE_SUCCESS
}

@test "SMS.7605 for ever: exit 46 after both" {
	agent_setup sms-7605-always
	migrate_ends 46
	[ "$(cloud_routes | grep -c '^POST /v3/tasks$')" -eq 3 ]
}

@test "SMS.6603: stop, told to start the agent" {
	agent_setup sms-6603
	migrate_ends 40
	says SMS-Agent
	chain_is "${BEGIN[@]}"
	[ "$(result exit_status)" = 40 ]
	[ "$(out migration_result.json 'j["error"]["code"]')" = SMS.6603 ]
	files_are "$stopped_files"
	assert_gone "$DST"
	# As an answer to a call it is the same.
	cloud_state sources "$CLOUD_SOURCE" '{"connected": true}'
	cloud_fault '{"match": "POST ^/v3/tasks$", "error_code": "SMS.6603"}'
	migrate_ends 40
	says SMS-Agent
}

@test "SMS.8115: the oldest automatic project goes, no more than needed" {
	agent_setup sms-8115
	migrate_ends 0
	chain_is "${BEGIN[@]:0:3}" "GET /v3/migprojects" "GET /v3/sources" \
		"DELETE /v3/migprojects/{mig_project_id}" "POST /v3/migprojects" "GET /v3/sources" \
		"${TARGET[@]}" "${GO[@]}"
	by_sms
	cloud_state migprojects | lacks '"mgc000"'
	cloud_state migprojects | grep -q '"mgc001"'
	cloud_state migprojects | grep -q '"mgcfoo by hand"'
}

@test "SMS.8115 and none may go: stop" {
	agent_setup sms-8115-used
	migrate_ends 40
	says "DELETE /v3/migprojects"
	[ "$(out migration_result.json 'j["error"]["code"]')" = SMS.8115 ]
	never cloudservers
	files_are migration_result.json precheck_task_cleanup.json
}

@test "VPC.0114: stop, with what there is and the call that frees it" {
	agent_setup vpc-0114
	migrate_ends 40
	says "DELETE /v1/{project_id}/vpcs/{vpc_id}"
	says office
	files_are "$stopped_files"
	chain_is "${BEGIN[@]}" "${TARGET[0]}" "POST /v1/{project_id}/vpcs"
}

@test "SMS.7703: on with the live task of the source" {
	agent_setup sms-7703
	migrate_ends 0
	chain_is "${BEGIN[@]}" "${TARGET[@]}" "${GO[@]}" "GET /v3/tasks" "GET /v3/tasks/{task_id}"
	by_sms
}

@test "SMS.1404 of a task: again without target disks" {
	agent_setup sms-1404
	migrate_ends 0
	chain_is "${BEGIN[@]}" "${TARGET[@]}" "${GO[@]}" "DELETE /v3/tasks/{task_id}" "${GO[@]}"
	by_sms
	[ "$(bodies 'POST /v3/tasks' '.target_server | has("disks")' | tr '\n' ' ')" = "true false " ]
}

@test "SMS.1404 as an answer: the same" {
	agent_setup sms-1404-answer
	migrate_ends 0
	chain_is "${BEGIN[@]}" "${TARGET[@]}" "${GO[@]}"
	by_sms
	[ "$(bodies 'POST /v3/tasks' '.target_server | has("disks")' | tr '\n' ' ')" = "true false " ]
}

@test "SMS.1404 twice: exit 46" {
	agent_setup sms-1404-persistent
	migrate_ends 46
	says SMS.1404
}

# What this machine registers itself as may fail SMS's checks: they are not the point here.
passes_checks='{"when": "source.registered", "set": {"checks": [], "state": "waiting",
	"connected": true, "changed": false}}'

@test "SMS.0515: registered again under its id, then a new task" {
	agent_setup sms-0515
	cloud_control POST hooks "$passes_checks"
	migrate_ends 0
	chain_is "${BEGIN[@]}" "${TARGET[@]}" "${GO[@]:0:2}" "DELETE /v3/tasks/{task_id}" \
		"POST /v3/sources" "GET /v3/sources/{source_id}" "${GO[@]}"
	by_sms
	[ "$(bodies 'POST /v3/sources' .id)" = "\"$CLOUD_SOURCE\"" ]
}

@test "SMS.0515 of a task: the same" {
	agent_setup sms-0515-task
	cloud_set '{"block_level": false}'
	cloud_control POST hooks "$passes_checks"
	migrate_ends 0
	chain_is "${BEGIN[@]}" "${TARGET[@]}" "${GO[@]}" "DELETE /v3/tasks/{task_id}" \
		"POST /v3/sources" "GET /v3/sources/{source_id}" "${GO[@]}"
	by_sms
}

@test "SMS.7602: registered anew, the stale id dropped" {
	agent_setup happy
	mkdir -p "$AGENT_STATE"
	echo "$CLOUD_SOURCE" >"$AGENT_STATE/source_id"
	cloud_control POST hooks "$passes_checks"
	cloud_fault '{"match": "POST ^/v3/tasks$", "error_code": "SMS.7602", "times": 1}'
	migrate_ends 0
	chain_is "${BEGIN[@]}" "${TARGET[@]}" "POST /v3/tasks" "POST /v3/sources" \
		"GET /v3/sources/{source_id}" "${GO[@]}"
	[ "$(bodies 'POST /v3/sources' 'has("id")')" = false ]
	[ "$(result source_sms_server_id)" != "$CLOUD_SOURCE" ]
	[ "$(cat "$AGENT_STATE/source_id")" = "$(result source_sms_server_id)" ]
}

@test "progress null, or 7200: polled by state to the end" {
	agent_setup progress-null
	migrate_ends 0
	by_sms
	[ "$(out task_poll_latest.json 'j["progress"] is None')" = true ]
	cloud_stop
	rm -r "$OUT"
	agent_setup progress-absurd
	migrate_ends 0
	by_sms
	[ "$(out task_poll_latest.json 'j["progress"] is None')" = true ]
}

@test "a flavor that is sold out is followed by the next, one EIP pool by another" {
	agent_setup sold-out
	cloud_fault '[{"match": "POST ^/v1/[^/]+/publicips", "when": {"body.publicip.type": "5_bgp"},
		"status": 400, "error_code": "EIP.7904"},
		{"match": "GET cloudservers/flavors",
		"set": {"flavors[*].os_extra_specs.cond:operation:status": "normal"},
		"remove": ["flavors[*].os_extra_specs.cond:operation:az"]}]'
	migrate_ends 0
	by_sms
	[ "$(bodies 'POST /v1/{project_id}/publicips' .publicip.type | tr '\n' ' ')" = \
		'"5_bgp" "5_sbgp" ' ]
	[ "$(cloud_routes | grep -c 'POST /v1.1/{project_id}/cloudservers')" -gt 1 ]
	[ "$(cloud_state servers | grep -c '"status": "ACTIVE"')" -eq 1 ]
}

@test "an existing target: nothing is made, one that is gone stops it" {
	agent_setup happy
	migrate_ends 0
	server=$(result target_server_id)
	cloud_forget
	migrate_ends 0 --existing-target "$server"
	never 'POST /v1(.1)?/.*(cloudservers|vpcs|publicips|security)'
	[ "$(result target_server_id)" = "$server" ]
	migrate_ends 40 --existing-target 00000000-0000-0000-0000-000000000000
	says "--restart"
}
