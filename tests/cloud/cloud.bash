# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# tests/cloud/cloud.bash - the test cloud in bats files, to be sourced.  The control language,
# scenarios and faults are told at the head of tests/cloud/fake-cloud.
#
#   cloud_start DIR [SCENARIO|OPTION...]  start one whose files live in DIR (created); SCENARIO is a
#                                  file or the name of a preset, OPTION one of fake-cloud.  Sets
#                                  CLOUD_PID, CLOUD_DIR, CLOUD_CONTROL, CLOUD_AK, CLOUD_SK,
#                                  CLOUD_SOURCE (id of source web1), CLOUD_IMAGE, CLOUD_DOMAIN and
#                                  exports SMS_ENDPOINT and its like.
#   cloud_keys                     export HC_AK and HC_SK, the keys that it takes
#   cloud_stop                     end it
#   cloud_calls [SERVICE]          "METHOD /path" of every call, in order
#   cloud_routes [SERVICE]         the same with {names} in place of ids
#   cloud_writes [SERVICE]         of these, the calls that change something
#   cloud_chain                    of all calls those of the migration chain: agreement, project,
#                                  sources, server, task, action; repetitions in a row once
#   cloud_log [JQ-FILTER]          the whole log, through jq
#   cloud_forget                   empty the log
#   cloud_control METHOD PATH [JSON]      one control call, its answer on stdout
#   cloud_fault JSON               add a fault, or a list of them
#   cloud_set JSON                 merge settings
#   cloud_state KIND [ID] [JSON]   show a kind or a thing, or merge JSON into it
#   cloud_clean                    fail, and print them, if there are violations
#   cloud_did ROUTE...             fail unless the routes of all calls are just these, in order

CLOUD_HOME=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

cloud_start() {
	local dir=$1 args=() i
	shift

	for i; do
		case $i in
		--*=*) args+=("$i") ;;
		--*) echo "cloud_start: write $i=VALUE" >&2; return 1 ;;
		*) args+=(--scenario "$i") ;;
		esac
	done
	mkdir -p "$dir" && rm -f "$dir/ports.json" || return 1
	# Descriptor 3 is bats' own: who keeps it open keeps bats from ending.
	"$CLOUD_HOME/fake-cloud" "$dir" "${args[@]}" >"$dir/out" 2>"$dir/err" </dev/null 3>&- &
	CLOUD_PID=$!
	export CLOUD_DIR=$dir
	for ((i = 0; i < 400; i++)); do
		[[ ! -e $dir/ports.json ]] || break
		kill -0 "$CLOUD_PID" 2>/dev/null || break
		sleep 0.05
	done
	if [[ ! -e $dir/ports.json ]]; then
		echo "cloud_start: the cloud did not start:" >&2
		cat "$dir/err" >&2
		cloud_stop
		return 1
	fi
	set -a
	# shellcheck source=/dev/null
	. "$dir/env"
	set +a
}

cloud_keys() { export HC_AK=$CLOUD_AK HC_SK=$CLOUD_SK; }

cloud_stop() {
	[[ -n ${CLOUD_PID:-} ]] || return 0
	kill "$CLOUD_PID" 2>/dev/null
	wait "$CLOUD_PID" 2>/dev/null
	CLOUD_PID=
	return 0
}

cloud_control() {
	local method=$1 path=${2#/} out status

	out=$(curl -sS --noproxy '*' -X "$method" ${3+--data-binary "$3"} -w '\n%{http_code}' \
		"$CLOUD_CONTROL/$path") || return 1
	status=${out##*$'\n'}
	out=${out%$'\n'*}
	if [[ $status != 200 ]]; then
		echo "cloud_control $method $path: $out" >&2
		return 1
	fi
	[[ -z $out ]] || printf '%s\n' "${out%$'\n'}"
}

cloud_calls() { cloud_control GET "calls${1:+?service=$1}"; }
# shellcheck disable=SC2120 # the service is optional
cloud_routes() { cloud_control GET "routes${1:+?service=$1}"; }
cloud_writes() { cloud_routes "$@" | sed '/^GET /d'; }

cloud_chain() {
	cloud_routes | grep -xF -e 'POST /v3/privacy-agreements' -e 'POST /v3/migprojects' \
		-e 'GET /v3/sources' -e 'POST /v1.1/{project_id}/cloudservers' -e 'POST /v3/tasks' \
		-e 'POST /v3/tasks/{task_id}/action' | uniq
}

cloud_log() { cloud_control GET log | jq -c "${1:-.}"; }
cloud_forget() { cloud_control DELETE log >/dev/null; }
cloud_fault() { cloud_control POST faults "$1" >/dev/null; }
cloud_set() { cloud_control PUT settings "$1" >/dev/null; }

cloud_state() {
	if [[ $# -eq 3 ]]; then
		cloud_control PUT "state/$1/$2" "$3" >/dev/null
	else
		cloud_control GET "state/$1${2:+/$2}"
	fi
}

cloud_clean() {
	local found

	found=$(cloud_control GET violations) || return 1
	[[ -z $found ]] || { printf 'the cloud objects:\n%s\n' "$found" >&2; return 1; }
}

cloud_did() {
	local want have

	want=$(printf '%s\n' "$@")
	# shellcheck disable=SC2119
	have=$(cloud_routes) || return 1
	[[ $have == "$want" ]] || { diff <(echo "$want") <(echo "$have") >&2; return 1; }
}
