#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# stager-agent register, report, run and status against the test cloud.

load lib
load agent
. "$BATS_TEST_DIRNAME/../cloud/cloud.bash"

setup() {
	it_setup
	AGENT=$STAGER_PREFIX/sbin/stager-agent
	STATE=$W/state
	REPORT=$STATE/out/rsync_execution.json
	unset HC_SECURITY_TOKEN TARGET_REGION RESULT_PATH SOURCE_SERVER_ID
	# A task of web1, which this host is to be, that is about to begin.
	cat >"$W/scenario.json" <<-JSON
	{ "preset": "happy", "settings": { "judge_sources": false }, "seed": { "tasks": [
		{ "id": "0f0f0f0f-1111-2222-3333-444444444444", "name": "t1", "state": "RUNNING",
		  "migration_ip": "127.0.0.1" } ] } }
	JSON
	TASK=0f0f0f0f-1111-2222-3333-444444444444
	cloud_start "$W/cloud" "$W/scenario.json"
	cloud_keys
	mkdir -p -m 700 "$STATE"
	echo '{}' >"$W/agent.json"
}

teardown() { agent_teardown; }

agent() { "$AGENT" "$@" --config "$W/agent.json" --state-dir "$STATE"; }
is_web1() { echo "$CLOUD_SOURCE" >"$STATE/source_id"; }
bodies() { cloud_log "select(.route == \"$1\") | .body | $2"; }
no_secrets() { # in any file
	lacks "$CLOUD_SK" < <(cat "$@")
	lacks "$CLOUD_AK" < <(cat "$@")
}

@test "register: the record has what SMS asks for, and a known source keeps its id" {
	exits 0 agent register
	echo "$output" >"$W/told"
	no_secrets "$W/told"
	[ "$(bodies 'POST /v3/sources' 'has("id")')" = false ]
	local id
	id=$(cat "$STATE/source_id")
	says "source     $id"
	says "hardware"
	bodies 'POST /v3/sources' . >"$W/body"
	[ "$(query "$W/body" '(j["memory"] > 1e8 and j["cpu_quantity"] > 0 and len(j["networks"]) > 0 and
		all([len(n["mac"]) == 64 for n in j["networks"]]) and j["os_type"] == "LINUX" and
		{"disks", "volume_groups", "btrfs_list", "has_rsync", "has_tc", "raw_devices", "boot_loader",
		"paravirtualization", "firmware", "kernel_version", "agent_version"} <= set(j))')" = true ]
	[ "$(query "$W/body" 'sorted(json.loads(j["linux_block_check"]))')" = \
		'["architecture", "kernel_simplification", "kernel_version", "release_type", "release_version"]' ]
	exits 0 agent register
	[ "$(cat "$STATE/source_id")" = "$id" ]
	[ "$(bodies 'POST /v3/sources' .id | tail -n 1)" = "\"$id\"" ]
	[ "$(cloud_routes | grep -c 'POST /v3/privacy-agreements')" = 1 ]
	cloud_clean
}

@test "register: SMS has forgotten the source: it is registered anew" {
	echo 01234567-89ab-cdef-0123-456789abcdef >"$STATE/source_id"
	exits 0 agent register
	says "has no source 01234567"
	[ "$(cat "$STATE/source_id")" != 01234567-89ab-cdef-0123-456789abcdef ]
	cloud_clean
}

@test "report: state, progress, rate and the result of a verification" {
	is_web1
	exits 40 agent report
	says "no sync was run"
	small_tree "$SRC"
	sync_ok full
	sync_ok verify --method quick
	exits 0 agent report
	says "sent: 3, refused: 0"
	[ "$(cloud_writes)" = "PUT /v3/sources/{source_id}/changestate
PUT /v3/tasks/{task_id}/progress
POST /v3/tasks/{task_id}/consistency-result" ]
	bodies 'PUT /v3/tasks/{task_id}/progress' . >"$W/body"
	[ "$(query "$W/body" '(j["subtask_name"], j["progress"], j["replicatesize"] == j["totalsize"] > 0)')" = \
		"('MIGRATE_LINUX_FILE', 100, True)" ] || fail "$(cat "$W/body")"
	bodies 'POST /v3/tasks/{task_id}/consistency-result' '.consistency_result[0]' >"$W/body"
	[ "$(query "$W/body" '(j["dir_check"], j["num_total_files"] > 20, j["num_different_files"])')" = \
		"('/', True, 0)" ] || fail "$(cat "$W/body")"
	cloud_clean
}

@test "report: what cannot be sent stays, and goes with the next one" {
	is_web1
	small_tree "$SRC"
	sync_ok full
	cloud_fault '{"match": "PUT /changestate", "times": 1, "status": 503, "error_code": "SMS.0001"}'
	echo '{"control_plane": {"retries": 0}}' >"$W/agent.json"
	exits 46 agent report
	says "stays in $STATE/spool"
	[ "$(ls "$STATE/spool" | wc -l)" -eq 3 ]
	exits 0 agent report
	says "sent: 4, refused: 0"
	[ "$(ls "$STATE/spool")" = rejected ]
}

@test "report: one that SMS refuses for good is set aside, with the reason, and blocks nothing" {
	is_web1
	small_tree "$SRC"
	sync_ok full
	cloud_fault '{"match": "PUT /changestate", "status": 400, "error_code": "SMS.7728", "error_msg": "no such pair"}'
	exits 46 agent report
	says "set aside"
	says SMS.7728
	says "sent: 1, refused: 1"
	[ "$(ls "$STATE/spool/rejected" | wc -l)" -eq 1 ]
}
