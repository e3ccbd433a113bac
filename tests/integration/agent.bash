# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What tests of stager-agent and the test cloud stand on: besides what lib.bash gives, an
# agent whose keys, endpoints and target of the staged sync are set.
#
#   agent_setup [SCENARIO...]   start the cloud in $W/cloud
#   migrate [ARGUMENT...]       `stager-agent migrate`, with $MIGRATE in front and the options of
#                               the staged sync behind "--"
#   migrate_ends CODE [ARGUMENT...]  it must end with just that; its output is in $output
#   chain                       the calls that matter, in order, one a line: no reading of network,
#                               flavors, jobs and servers, a poll told once
#   chain_is LINE...            fail unless the chain is just that
#   never REGEX                 fail if a call was made whose route matches
#   result FIELD                of migration_result.json; empty for null
#   out FILE EXPRESSION         a Python expression over the result file, as j

agent_setup() {
	AGENT=$STAGER_PREFIX/sbin/stager-agent
	OUT=$W/out AGENT_STATE=$W/agent
	unset HC_SECURITY_TOKEN TARGET_REGION RESULT_PATH EXTRA_PEER_IPS
	cloud_start "$W/cloud" "${@:-happy}"
	cloud_keys
	cat >"$W/agent.json" <<-JSON
	{ "migrate": { "postcheck_attempts": 2 } }
	JSON
	export SOURCE_SERVER_ID=$CLOUD_SOURCE TARGET_IMAGE_ID=$CLOUD_IMAGE
	export RSYNC_TARGET_HOST=127.0.0.1 RSYNC_TARGET_PORT=$SSHD_PORT RSYNC_TARGET_USER=$ME
	MIGRATE=(--config "$W/agent.json" --state-dir "$AGENT_STATE" --out "$OUT" --poll-interval 0.01)
	STAGED=(--config "$W/stager.json" --identity "$SSHD_KEY" --known-hosts "$SSHD_KNOWN_HOSTS"
		--source "$SRC" --target "$ME@127.0.0.1:$DST" --no-default-excludes --progress none)
	mkdir -p "$SRC/d"
	echo hello >"$SRC/d/hello"
}

agent_teardown() {
	cloud_stop
	it_teardown
}

migrate() { "$AGENT" migrate "${MIGRATE[@]}" "$@" -- "${STAGED[@]}"; }

migrate_ends() {
	local want=$1
	shift
	exits "$want" migrate "$@"
}

chain() {
	cloud_routes | grep -vE '^GET /(v1|v1.1|v2)/|^GET /v3/projects|^POST /v1/.*/security-group' |
		uniq
}

chain_is() {
	local have want

	have=$(chain)
	want=$(printf '%s\n' "$@")
	[ "$have" = "$want" ] || fail "the chain differs (< wanted, > made):" \
		"$(diff <(echo "$want") <(echo "$have"))" "$output"
}

never() {
	local found

	found=$(cloud_routes | grep -E -- "$1") || return 0
	fail "was called:" "$found"
}

out() { query "$OUT/$1" "$2"; }
result() { query "$OUT/migration_result.json" "j['$1'] if j['$1'] is not None else ''"; }

# What a chain begins with, and how one by SMS ends.
BEGIN=("GET /v3/tasks" "POST /v3/privacy-agreements" "POST /v3/migprojects" "GET /v3/sources")
TARGET=("GET /v3/sources/{source_id}" "POST /v1/{project_id}/publicips"
	"POST /v1.1/{project_id}/cloudservers")
GO=("POST /v3/tasks" "POST /v3/tasks/{task_id}/action" "GET /v3/tasks/{task_id}")
