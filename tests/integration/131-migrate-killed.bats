#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# stager-agent migrate is killed, or stopped, at each of its calls and called again: the end is
# the same, with one server and one task.

load lib
load agent
. "$BATS_TEST_DIRNAME/../cloud/cloud.bash"

setup() {
	it_setup
	agent_setup no-network
	# Old tasks, so that the precheck has something to delete.
	scenario='{"preset": "no-network", "seed": {"tasks": [
		{"source_id": "'$CLOUD_SOURCE'", "state": "MIGRATE_FAIL"},
		{"source_id": "'$CLOUD_SOURCE'", "state": "MIGRATE_SUCCESS"}]}}'
}
teardown() { agent_teardown; }

anew() { # forget everything, here and there
	cloud_control PUT scenario "$scenario" >/dev/null
	cloud_forget
	rm -rf "$AGENT_STATE" "$OUT"
}

hangs() { cloud_control GET faults | grep -qE '"used": *[1-9]'; }

# killed_at N APPLY [SIGNAL]: at the Nth call, which has happened when APPLY is true.
killed_at() {
	local pid

	cloud_fault '{"id": "hang", "match": "* .", "nth": '"$1"', "hang_s": 60, "apply": '"$2"'}'
	"$AGENT" migrate "${MIGRATE[@]}" -- "${STAGED[@]}" >"$W/killed.out" 2>&1 3>&- &
	pid=$!
	wait_until 20 hangs
	kill "-${3:-KILL}" "$pid"
	status=0
	wait "$pid" || status=$?
	cloud_control PUT faults '[]' >/dev/null
}

count() { cloud_state "$1" | jq "[.[] | select($2)] | length"; } # things of a kind that ...

one_of_each() { # WHERE: for the message
	local have want

	want='{"servers":1,"done":1,"tasks":1,"eips":1,"vpcs":1,"groups":1,"projects":1}'
	have=$(cloud_control GET state | jq -c 'def n(f): [.[] | select(f)] | length;
		{servers: .servers | n(true), done: .tasks | n(.state == "MIGRATE_SUCCESS"),
		tasks: .tasks | n(true), eips: .eips | n(true),
		vpcs: .vpcs | n(.name == "vpc-migration"),
		groups: .groups | n(.name == "vpc-migration-stager"),
		projects: .migprojects | n(.name | startswith("mgc-stager"))}')
	[ "$have" = "$want" ] || fail "$1: $have" "$output"
	grep -qE '"task_state":[[:space:]]*"MIGRATE_SUCCESS"' "$OUT/migration_result.json" ||
		fail "$1:" "$(cat "$OUT/migration_result.json")"
}

@test "killed at each call that changes something, before it and after it" {
	local n apply

	anew
	migrate_ends 0
	one_of_each "not killed"
	# Of the rules of the security group, and of the tasks deleted, one is enough.
	numbers=$(cloud_routes | awk '/^(POST|DELETE|PUT)/ && !seen[$0]++ { print NR }')
	[ "$(wc -w <<<"$numbers")" -ge 11 ]
	for n in $numbers; do
		for apply in false true; do
			anew
			killed_at "$n" "$apply"
			migrate_ends 0
			one_of_each "call $n, apply $apply"
			cloud_clean
		done
	done
}

@test "killed while it reads, waits for a job, polls, checks afterwards" {
	local n

	anew
	migrate_ends 0
	numbers=$(cloud_routes | awk '/^GET/ && !seen[$0]++ { print NR }')
	for n in $numbers; do
		anew
		killed_at "$n" false
		migrate_ends 0
		one_of_each "call $n"
	done
}

@test "killed while a rule is carried out: the rule is carried out" {
	local n from=${scenario/no-network/PRESET} preset

	# What this machine registers itself as may fail SMS's checks: they are not the point here.
	from=${from%\}}', "hooks": [{"when": "source.registered", "set": {"checks": [],
		"state": "waiting", "connected": true, "changed": false}}]}'
	for preset in sms-1404 sms-0515 sms-7605-persistent; do
		scenario=${from/PRESET/$preset}
		anew
		migrate_ends 0
		one_of_each "$preset, not killed"
		numbers=$(cloud_routes | awk '/POST .v3.tasks/ { t = 1 } t && /^(POST|DELETE)/ { print NR }')
		for n in $numbers; do
			anew
			killed_at "$n" true
			migrate_ends 0
			one_of_each "$preset, call $n"
		done
	done
}

@test "SIGTERM ends it cleanly with 20, and the next call goes on" {
	local n

	anew
	migrate_ends 0
	n=$(cloud_routes | grep -n 'GET /v3/tasks/{task_id}' | sed -n '3s/:.*//p')
	anew
	killed_at "$n" false TERM
	[ "$status" -eq 20 ]
	[ "$(result finished)" = true ]
	[ "$(result exit_status)" = 20 ]
	first=$(result run_id)
	cloud_forget
	migrate_ends 0
	one_of_each "after SIGTERM"
	[ "$(result run_id)" = "$first" ]
	never '^POST /v3/(privacy|migprojects|tasks$)|^POST /v1.1'
}

@test "a target that is gone in between: 40 and --restart, nothing made" {
	anew
	killed_at "$(first_poll)" false
	cloud_control DELETE "state/servers/$(result target_server_id)" >/dev/null
	cloud_control DELETE "state/tasks/$(result task_id)" >/dev/null
	cloud_forget
	migrate_ends 40
	says "--restart"
	never '^POST'
	migrate_ends 0 --restart
	[ "$(count servers true)" = 1 ]
}

first_poll() { # number of the first poll of a task, learned from a whole run
	migrate_ends 0 >&2
	cloud_routes | grep -n 'GET /v3/tasks/{task_id}' | head -n 1 | cut -d: -f1
	anew >&2
}

@test "a task that is gone in between: 40 and --restart" {
	anew
	killed_at "$(first_poll)" false
	cloud_control DELETE "state/tasks/$(result task_id)" >/dev/null
	migrate_ends 40
	says "--restart"
	[ "$(count servers true)" = 1 ]
}

@test "an answer that is lost: looked for by its name, not made twice" {
	local what

	for what in migprojects vpcs subnets security-groups publicips cloudservers tasks; do
		anew
		cloud_fault '{"match": "POST /'"$what"'$", "nth": 1, "cut": "request", "apply": true}'
		migrate_ends 0
		one_of_each "answer of $what lost"
	done
}

@test "another source while a run is unfinished: refused; a run by itself over is not" {
	anew
	killed_at "$(first_poll)" false
	SOURCE_SERVER_ID=other migrate_ends 40
	says "not finished"
	migrate_ends 40 --method rsync
	says "goes by SMS"
	anew
	cloud_state sources "$CLOUD_SOURCE" '{"connected": false}'
	migrate_ends 40
	cloud_state sources "$CLOUD_SOURCE" '{"connected": true}'
	cloud_forget
	migrate_ends 0
	chain | grep -v /v3/tasks | head -n 3 | diff - <(printf '%s\n' "${BEGIN[@]:1}")
}

@test "two at a time: the second one ends with 44" {
	anew
	cloud_fault '{"id": "hang", "match": "GET ^/v3/sources", "hang_s": 60}'
	"$AGENT" migrate "${MIGRATE[@]}" >/dev/null 2>&1 3>&- &
	pid=$!
	wait_until 20 hangs
	migrate_ends 44
	kill "$pid"
	wait "$pid" || true
}
