#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# stager-agent migrate: what the operator may choose, what is found out about the source, what
# the target is tried with, and answers that make no sense.

load lib
load agent
. "$BATS_TEST_DIRNAME/../cloud/cloud.bash"

setup() { it_setup; }
teardown() { agent_teardown; }

scenario() { # JSON: a cloud that begins with it
	echo "$1" >"$W/scenario.json"
	agent_setup "$W/scenario.json"
}

key() { # JSON members for "migrate" of the config file
	cat >"$W/agent.json" <<-JSON
	{ "migrate": { "postcheck_attempts": 2, $1 } }
	JSON
}

# ---- choices ----

@test "--method sms, ENABLE_RSYNC_FALLBACK=false: 40 with the reason, no staged sync" {
	agent_setup sms-6504
	migrate_ends 40 --method sms
	says SMS.6504
	says "--method sms"
	assert_gone "$DST"
	[ "$(result migration_method)" = "" ] || [ "$(result migration_method)" = sms ]
	ENABLE_RSYNC_FALLBACK=False migrate_ends 40
	says ENABLE_RSYNC_FALLBACK
	assert_gone "$DST"
	PREFERRED_MIGRATION_METHOD=sms migrate_ends 40
	chain | tail -n 1 | grep -qx 'GET /v3/sources'
}

@test "--method rsync asks the cloud for nothing, and needs no keys" {
	agent_setup happy
	unset HC_AK HC_SK
	migrate_ends 0 --method rsync
	[ -z "$(cloud_calls)" ]
	[ "$(result migration_method)" = rsync ]
	[ "$(result task_state)" = CUTOVER_SYNCED ]
	assert_same "$SRC" "$DST"
	PREFERRED_MIGRATION_METHOD=rsync RSYNC_INCREMENTAL_ROUNDS=0 migrate_ends 0
	[ "$(result task_state)" = FULL_SYNCED ]
}

@test "a dry run prints each request in its order and changes nothing" {
	agent_setup happy
	migrate_ends 0 --dry-run
	says "POST $SMS_ENDPOINT/v3/privacy-agreements"
	never '^(POST|PUT|DELETE)'
	[ ! -e "$AGENT_STATE/migrate.json" ]
	assert_gone "$OUT"
	assert_gone "$DST"
	# The same calls as a real run makes, and in the same order.
	grep -oE '^(GET|POST|PUT|DELETE) http[^ ]*' <<<"$output" | grep -vE ' .*/v(1|1.1|2)/.*(jobs|publicips\?|subnets/)' |
		sed -E 's, http://[^/]*, ,; s,\?.*,,; s,[0-9a-f-]{32\,36},{id},g; s,<[a-z_]+>,{id},g' >"$W/dry"
	migrate_ends 0
	cloud_calls | sed -E 's,[0-9a-f-]{32\,36},{id},g' | grep -vE '/jobs|GET .*/publicips|subnets/' >"$W/real"
	diff <(grep -E '^POST' "$W/dry" | uniq) <(grep -E '^POST' "$W/real" | uniq)
	for what in "GET /v3/tasks" "GET /v3/sources" "GET /v3/tasks/{id}"; do
		grep -qxF "$what" "$W/dry" || fail "$what is not told" "$(cat "$W/dry")"
	done
}

@test "a dry run where SMS cannot take the host ends with the staged sync's command line" {
	agent_setup sms-6504
	migrate_ends 0 --dry-run
	says "bin/stager run --state-dir $AGENT_STATE"
	lacks 'POST.*/v3/tasks' <<<"$output"
	assert_gone "$DST"
}

@test "the staged sync without a target: 40, told what to set" {
	agent_setup sms-6504
	unset RSYNC_TARGET_HOST RSYNC_TARGET_PORT RSYNC_TARGET_USER TARGET_IMAGE_ID
	exits 40 "$AGENT" migrate "${MIGRATE[@]}" -- --config "$W/stager.json"
	says RSYNC_TARGET_HOST
	# The config file of the agent does as well.
	key '"staged": {"target_host": "127.0.0.1", "target_port": '"$SSHD_PORT"', "target_user": "'"$ME"'"}'
	echo "{\"target\": \"nobody@192.0.2.1:$DST\"}" >"$W/stager.json"
	exits 0 "$AGENT" migrate "${MIGRATE[@]}" -- --config "$W/stager.json" --source "$SRC" \
		--identity "$SSHD_KEY" --known-hosts "$SSHD_KNOWN_HOSTS" --no-default-excludes --progress none
	assert_same "$SRC" "$DST"
}

@test "a staged sync that fails ends with its own status, and is gone on with" {
	agent_setup sms-6504
	RSYNC_CUTOVER_STOP_CMD='exit 7' migrate_ends 41
	[ "$(result exit_status)" = 41 ]
	cloud_forget
	migrate_ends 0
	[ -z "$(cloud_calls)" ]
	[ "$(result task_state)" = CUTOVER_SYNCED ]
}

@test "SIGTERM while the staged sync runs: 20, and the next call goes on with it" {
	agent_setup sms-6504
	big_tree "$SRC" 20
	STAGED+=(--bwlimit 2M)
	"$AGENT" migrate "${MIGRATE[@]}" -- "${STAGED[@]}" >"$W/o" 2>&1 3>&- &
	pid=$!
	wait_until 30 have_receivers
	kill "$pid"
	status=0
	wait "$pid" || status=$?
	[ "$status" -eq 20 ] || fail "ended with $status" "$(cat "$W/o")"
	[ "$(result exit_status)" = 20 ]
	wait_until 10 no_receivers
	STAGED+=(--bwlimit 0)
	cloud_forget
	migrate_ends 0
	[ -z "$(cloud_calls)" ]
	assert_same "$SRC" "$DST"
}

@test "--existing-target is the target of the staged sync, too, and is checked" {
	agent_setup happy
	cloud_set '{"server_addresses": {"fixed": "127.0.0.1", "floating": "127.0.0.1"}}'
	migrate_ends 0
	server=$(result target_server_id)
	unset RSYNC_TARGET_HOST
	STAGED=(--config "$W/stager.json" --identity "$SSHD_KEY" --known-hosts "$SSHD_KNOWN_HOSTS"
		--source "$SRC" --no-default-excludes --progress none)
	echo "{\"target\": \"$ME@127.0.0.1:$DST\"}" >"$W/stager.json"
	migrate_ends 0 --method rsync --existing-target "$server"
	assert_same "$SRC" "$DST"
	[ "$(result target_server_id)" = "$server" ]
	[ "$(out postcheck_network.json 'j["checks"][0]["name"] + j["checks"][0]["result"]')" = SERVER_ACTIVEOK ]
}

@test "RESULT_PATH with a name of its own" {
	agent_setup happy
	export RESULT_PATH=$W/results/mine.json
	MIGRATE=(--config "$W/agent.json" --state-dir "$AGENT_STATE" --poll-interval 0.01)
	migrate_ends 0
	OUT=$W/results
	[ "$(out mine.json 'j["task_state"]')" = MIGRATE_SUCCESS ]
	[ "$(result task_state)" = MIGRATE_SUCCESS ]
}

@test "earlier result files are kept aside, under their own run" {
	agent_setup happy
	migrate_ends 0
	first=$(result run_id)
	migrate_ends 0
	[ "$(result run_id)" != "$first" ]
	for f in migration_result postcheck_network task_poll_latest precheck_source_checks; do
		[ "$(out "$f.$first.json" 'j["run_id"]')" = "$first" ]
	done
	# The staged sync of a later run is not mixed up with a report of an earlier one.
	ls "$OUT" | lacks rsync_execution
}

# ---- the source ----

@test "the source is found by id, VM id, address and name, on every page" {
	agent_setup many-sources
	last=$(cloud_state sources | jq -r '[.[] | select(.name != "web1")] | last | .id')
	cloud_state sources "$last" '{"ip": "10.9.9.9"}'
	name=$(cloud_state sources "$last" | jq -r .name)
	ip=$(cloud_state sources "$last" | jq -r .ip)
	cloud_state sources "$last" '{"vm_id": "99999999-8888-7777-6666-555555555555"}'
	for given in "$name" "$ip" 99999999-8888-7777-6666-555555555555 "$last"; do
		SOURCE_SERVER_ID=$given migrate_ends 0 --method sms
		[ "$(result source_sms_server_id)" = "$last" ] || fail "by $given: $(result source_sms_server_id)"
	done
}

@test "an ambiguous name is refused with the list" {
	scenario '{"preset": "happy", "seed": {"sources": [
		{"id": "aaaaaaaa-0000-0000-0000-000000000001", "name": "twin", "ip": "10.0.0.1"},
		{"id": "aaaaaaaa-0000-0000-0000-000000000002", "name": "twin", "ip": "10.0.0.2"}]}}'
	SOURCE_SERVER_ID=twin migrate_ends 1
	for id in $(cloud_state sources | jq -r '.[] | select(.name == "twin") | .id'); do
		says "$id"
	done
	says 10.0.0.2
	never cloudservers
	SOURCE_SERVER_ID=10.0.0.2 migrate_ends 0
}

@test "a source that SMS does not know: a name of another host is refused" {
	agent_setup happy
	SOURCE_SERVER_ID=no-such-server migrate_ends 40
	says no-such-server
	assert_gone "$DST"
	never 'POST /v3/sources|cloudservers'
}

@test "a check with a code and no result has failed; one with neither is looked at here" {
	agent_setup happy
	cloud_fault '{"match": "GET ^/v3/sources$", "set": {"source_servers[*].checks": [
		{"name": "CPU", "result": "OK"}, {"name": "RSYNC", "result": null},
		{"name": "OS_VERSION", "result": null, "error_code": "SMS.6504"}]}}'
	migrate_ends 0
	[ "$(result migration_method)" = rsync ]
	[[ $(result sms_incompatible_reason) == OS_VERSION*SMS.6504* ]]
	out precheck_source_checks.json '{c["name"]: [c["origin"], c["decides"]] for c in j["checks"]}' |
		jq -e '.CPU == ["sms", true] and .RSYNC == ["local", true] and .TC == ["local", false]'
}

@test "precheck deletes finished tasks of this source, no live one, none of another" {
	scenario '{"preset": "happy", "seed": {
		"sources": [{"name": "other", "id": "11111111-2222-3333-4444-555555555555"}],
		"tasks": [{"name": "failed", "source_id": "@", "state": "MIGRATE_FAIL"},
		{"name": "done", "source_id": "@", "state": "MIGRATE_SUCCESS"},
		{"name": "paused", "source_id": "@", "state": "ABORT"},
		{"name": "live", "source_id": "@", "state": "RUNNING"},
		{"name": "theirs", "source_id": "11111111-2222-3333-4444-555555555555",
		"state": "MIGRATE_FAIL"}]}}'
	sed "s/@/$CLOUD_SOURCE/g" "$W/scenario.json" >"$W/s2.json"
	cloud_control PUT scenario "$(cat "$W/s2.json")" >/dev/null
	migrate || true
	[ "$(out precheck_task_cleanup.json 'sorted(t["name"] for t in j["deleted"])')" = '["done", "failed"]' ]
	[ "$(cloud_state tasks | jq -r '.[].name' | sort | tr '\n' ' ')" = "live paused theirs " ] ||
		cloud_state tasks | jq -r '.[].name' | grep -qx live
	cloud_state tasks | jq -r '.[].name' | grep -qx theirs
	cloud_state tasks | jq -r '.[].name' | grep -qx paused
}

# ---- afterwards ----

@test "a target that nobody can log in to: 45, the console says why" {
	agent_setup happy
	cloud_fault '{"match": "GET console-output", "set": {"output":
		"[ TIME ] Timed out waiting for device dev-disk-by\\x2duuid-3f\nYou are in emergency mode."}}'
	ssh-keygen -q -t ed25519 -N '' -f "$W/stranger"
	STAGED=(--config "$W/stager.json" --identity "$W/stranger" --known-hosts "$SSHD_KNOWN_HOSTS")
	migrate_ends 45
	says SSH_LOGIN
	says "emergency mode"
	[ "$(result migrated)" = true ]
	[ "$(result accepted)" = false ]
	[ "$(result task_state)" = MIGRATE_SUCCESS ]
	[ "$(out postcheck_network.json '[c["name"] for c in j["console"]["causes"]]')" = \
		'["missing_uuid", "emergency_mode"]' ]
	grep -q "Timed out" "$OUT"/console_output.*.txt
	# When it is mended the postcheck alone is done again.
	cloud_forget
	STAGED=(--config "$W/stager.json" --identity "$SSHD_KEY" --known-hosts "$SSHD_KNOWN_HOSTS")
	migrate_ends 0
	never '^POST'
	[ "$(result accepted)" = true ]
}

@test "nobody listens at the target: 45; a region with the old console call alone" {
	agent_setup happy
	cloud_fault '{"match": "GET console-output", "status": 404, "error_code": "Ecs.0000"}'
	RSYNC_TARGET_PORT=1 migrate_ends 45
	says "TCP_1"
	cloud_routes | grep -q '^POST /v2.1/.*action'
}

@test "the postcheck logs in with a password, which nothing shows" {
	need_root
	agent_setup happy
	printf 'wrong-but-secret\n' >"$W/pw"
	chmod 600 "$W/pw"
	# This sshd takes no passwords: that ssh asked for one and was refused is what can be seen.
	RSYNC_TARGET_PASSWORD=hush-hush migrate_ends 45
	says "ermission denied"
	cat "$OUT"/* "$AGENT_STATE"/* | lacks hush-hush
	lacks hush-hush <<<"$output"
	STAGED=(--config "$W/stager.json" --password-file "$W/pw" --known-hosts "$SSHD_KNOWN_HOSTS")
	migrate_ends 45
	lacks wrong-but-secret <<<"$output"
}

@test "EIP not bound, a rule missing: 45 names them" {
	agent_setup happy
	cloud_fault '[{"match": "GET ^/v1/[^/]+/publicips", "set": {"publicips[*].status": "DOWN"}},
		{"match": "GET security-group-rules", "nth": "2-", "set": {"security_group_rules": []}}]'
	migrate_ends 45
	[ "$(out postcheck_network.json '[c["name"] for c in j["checks"] if c["result"] == "ERROR"]')" = \
		'["EIP_BOUND", "RULES_IN", "RULES_OUT"]' ]
}

@test "a service that does not answer the postcheck: 45, not 46" {
	agent_setup happy
	cloud_fault '{"match": "GET ^/v1/[^/]+/vpcs/", "error_code": "VPC.0101", "status": 404}'
	migrate_ends 45
	says VPC_NAME
}

@test "an id that SMS does not know any more is no reason to fail before the lookup" {
	agent_setup happy
	cloud_fault '[{"match": "GET ^/v3/tasks$", "nth": 1, "error_code": "SMS.7602"},
		{"match": "GET ^/v3/sources/", "nth": 1, "error_code": "SMS.7602"}]'
	cloud_control POST hooks '{"when": "source.registered", "set": {"checks": [],
		"state": "waiting", "connected": true}}'
	migrate_ends 0
	cloud_routes | grep -qx "POST /v3/sources"
	[ "$(result task_state)" = MIGRATE_SUCCESS ]
}

@test "success, failure and a topic: people are told" {
	agent_setup happy
	key '"notify_command": "echo $STAGER_EVENT $STAGER_RUN_ID >>'"$W"'/told; env >'"$W"'/env",
		"notify_topic_urn": "urn:smn:la-south-2:p:t"'
	migrate_ends 0
	[ "$(cat "$W/told")" = "success $(result run_id)" ]
	lacks HC_SK= <"$W/env"
	lacks HC_AK= <"$W/env"
	cloud_routes smn | grep -qx 'POST /v2/{project_id}/notifications/topics/{topic_urn}/publish'
	cloud_fault '{"match": "POST ^/v3/tasks$", "error_code": "SMS.6000"}'
	migrate_ends 46
	tail -n 1 "$W/told" | grep -q '^failure '
}

@test "a staged sync that waits to be confirmed: 42, people are told, the next call goes on" {
	agent_setup sms-6504
	key '"notify_command": "echo $STAGER_EVENT >>'"$W"'/told"'
	# A prefix whose stager waits at first.
	cp -r "$STAGER_PREFIX" "$W/prefix"
	mv "$W/prefix/bin/stager" "$W/prefix/bin/stager.real"
	cat >"$W/prefix/bin/stager" <<-EOF
	#!/bin/sh
	[ -e "$W/confirmed" ] || exit 42
	exec "$STAGER" "\$@"
	EOF
	chmod 755 "$W/prefix/bin/stager"
	AGENT=$W/prefix/sbin/stager-agent
	migrate_ends 42
	[ "$(cat "$W/told")" = waiting ]
	[ "$(result exit_status)" = 42 ]
	touch "$W/confirmed"
	migrate_ends 0
	[ "$(tail -n 1 "$W/told")" = success ]
}

# ---- answers that make no sense ----

@test "every field null, missing, of another type: survived" {
	local how path

	agent_setup happy
	for how in '"retype": {"P": "null"}' '"remove": ["P"]' '"retype": {"P": "object"}' \
		'"retype": {"P": "list"}' '"retype": {"P": "number"}'; do
		for path in 'source_servers[*].*' 'tasks[*].*' '*' 'server.*' 'flavors[*].*' \
			'sub_tasks[*].*' 'entities.*'; do
			cloud_control PUT scenario '{"preset": "happy"}' >/dev/null
			rm -rf "$AGENT_STATE" "$OUT"
			cloud_fault '{"match": "GET .", "times": 30, '"${how//P/$path}"'}'
			timeout 60 "$AGENT" migrate "${MIGRATE[@]}" --method sms -- "${STAGED[@]}" \
				>"$W/o" 2>&1 && status=0 || status=$?
			case $status in
			0 | 1 | 12 | 40 | 45 | 46) ;;
			*) fail "$how of $path: ended with $status" "$(cat "$W/o")" ;;
			esac
		done
	done
}

@test "states and figures that nobody has documented: polled to the end" {
	agent_setup happy
	cloud_fault '[{"match": "GET ^/v3/tasks/[^/]+$", "nth": 1, "set": {"state": "SOMETHING_NEW"}},
		{"match": "GET ^/v3/tasks/[^/]+$", "nth": 2, "set": {"state": null, "sub_tasks": null}},
		{"match": "GET ^/v3/tasks/[^/]+$", "nth": 3, "set": {"create_date": 99999999999999,
		"remain_seconds": -1, "migrate_speed": "fast", "sub_tasks": [{"progress": -7}, 3, null]}},
		{"match": "GET ^/v3/tasks/[^/]+$", "nth": 4, "status": 500, "error_code": "SMS.6000"},
		{"match": "GET ^/v3/tasks/[^/]+$", "nth": 5, "cut": "request"}]'
	migrate_ends 0
	[ "$(result task_state)" = MIGRATE_SUCCESS ]
}
