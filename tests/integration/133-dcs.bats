#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# stager-agent dcs-migrate: an online data migration task, configured and followed.

load lib
load agent
. "$BATS_TEST_DIRNAME/../cloud/cloud.bash"

setup() {
	it_setup
	agent_setup happy
	(umask 077 && echo top-secret >"$W/redis")
	cat >"$W/agent.json" <<-JSON
	{ "dcs": { "vpc_id": "$(cloud_state vpcs | jq -r '.[] | select(.name == "vpc-migration") | .id')",
	  "subnet_id": "$(cloud_state subnets | jq -r '[.[]][0].id')",
	  "security_group_id": "$(cloud_state groups | jq -r '[.[]][0].id')",
	  "bandwidth_limit_mb": 123,
	  "source_instance": { "addrs": "192.168.1.1:6379,192.168.0.0:6379",
	    "password_file": "$W/redis" },
	  "target_instance": { "id": "cf4a05df-1c38-47c5-bb5a-0a7b3673b3bd" } } }
	JSON
}
teardown() { agent_teardown; }

dcs() { "$AGENT" dcs-migrate "${MIGRATE[@]}" "$@"; }
body() { cloud_log "select(.route == \"POST /v2/{project_id}/migration/{task_id}/task\") | .body | $1"; }

@test "a task is made, configured as asked, followed to SUCCESS" {
	exits 0 dcs --migration-method full --resume-mode manual
	[ "$(body .migration_method)" = '"full_amount_migration"' ]
	[ "$(body .resume_mode)" = '"manual"' ]
	[ "$(body .bandwidth_limit_mb)" = '"123"' ]
	[ "$(out dcs_migration_result.json 'j["status"]')" = SUCCESS ]
	[ "$(out dcs_migration_result.json 'j["finished"]')" = true ]
	cloud_clean
	cat "$OUT"/* | lacks top-secret
	lacks top-secret <<<"$output"
}

@test "a task that fails: 46, with its log; no instance: 1" {
	cloud_fault '{"match": "GET migration-task/[^/]+$", "set": {"status": "FAILED",
		"error_message": "the source is not reachable"}}'
	exits 46 dcs
	says "not reachable"
	[ "$(out dcs_migration_result.json 'j["status"]')" = FAILED ]
	exits 1 "$AGENT" dcs-migrate --config /dev/null
}

@test "bad values are refused before anything is asked" {
	exits 1 dcs --bandwidth-limit 0
	exits 1 dcs --bandwidth-limit 10241
	exits 1 dcs --migration-method both
	exits 1 dcs --resume-mode sometimes
	[ -z "$(cloud_calls)" ]
}

@test "a task that exists is followed, a word nobody knows means it goes on" {
	exits 0 dcs --no-wait
	id=$(out dcs_migration_result.json 'j["task_id"]')
	cloud_forget
	cloud_fault '{"match": "GET migration-task/[^/]+$", "nth": "1-2", "set": {"status": "FULLMIGRATING"}}'
	exits 0 dcs --task "$id"
	never '^POST'
}
