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

# ---- the daemon ----

# As the systemd unit starts it: a user of its own, with one capability.
SERVICE=(setpriv --reuid nobody --regid nogroup --clear-groups --inh-caps=-all,+dac_read_search
	--ambient-caps=-all,+dac_read_search --bounding-set=-all,+dac_read_search)

# daemon_setup: what a daemon needs; CONFIG may be put into its "daemon" object.
daemon_setup() {
	need_root
	need_tool setpriv
	SOCKET=$W/run/agent.sock
	mkdir -p -m 750 "$W/run"
	daemon_config
	chown -R nobody "$STATE" "$W/run"
	is_web1
	DAEMON=
}

# daemon_config [JSON MEMBERS]: of the object "daemon".
daemon_config() {
	local limit=

	[ -z "${BWLIMIT:-}" ] || limit=", \"--bwlimit\", \"$BWLIMIT\""
	cat >"$W/agent.json" <<-JSON
	{ "poll_interval": 0.05, "daemon": { "user": "nobody", "socket": "$SOCKET",
		"checks": ["OS_VERSION", "MEMORY"], "stager_options": ["--config", "$W/stager.json",
		"--source", "$SRC", "--target", "root@127.0.0.1:$DST", "--port", "$SSHD_PORT",
		"--identity", "$SSHD_KEY", "--known-hosts", "$SSHD_KNOWN_HOSTS",
		"--no-default-excludes"$limit]${1:+, $1} } }
	JSON
}

# daemon_start [COMMAND...]: start it, by the command, and wait until it answers.
daemon_start() {
	[ $# -gt 0 ] || set -- "${SERVICE[@]}"
	"$@" "$AGENT" run --config "$W/agent.json" --state-dir "$STATE" \
		>>"$W/log" 2>&1 </dev/null 3>&- &
	DAEMON=$!
	wait_until 10 answers || fail "the daemon does not answer" "$(cat "$W/log")"
}

status_of() { # a Python expression over the status, as j
	agent status --json >"$W/status" 2>"$W/status.err" || return 1
	query "$W/status" "$1"
}
answers() {
	kill -0 "$DAEMON" 2>/dev/null || return 1
	[ -n "$(status_of 'j["pid"]')" ]
}
holds() { [ "$(status_of "$1")" = true ]; }
logged() { grep -qF -- "$1" "$W/log"; }

reloads() { grep -c "read the configuration anew" "$W/log"; }
reloaded() { [ "$(reloads)" -gt "$1" ]; }
reload() { # and wait until it has
	local n

	n=$(reloads) || true
	kill -HUP "$DAEMON"
	wait_until 10 reloaded "$n"
}

daemon_end() { # it must end well
	kill "$DAEMON"
	status=0
	wait "$DAEMON" || status=$?
	DAEMON=
	[ "$status" -eq 0 ] || fail "the daemon ended with $status" "$(cat "$W/log")"
}

daemon_kill() {
	kill -9 "$DAEMON"
	wait "$DAEMON" 2>/dev/null || true
	DAEMON=
}

teardown() {
	[ -z "${DAEMON:-}" ] || daemon_kill
	[ -z "${RELAY:-}" ] || kill -9 "$RELAY" || true
	[ -z "${LISTENER:-}" ] || kill -9 "$LISTENER" || true
	agent_teardown
}

order() { # COMMAND [TASK]: of SMS to this source
	cloud_state sources "$CLOUD_SOURCE" \
		"{\"commands\": [{\"command_name\": \"$1\", \"command_param\": {\"task_id\": \"${2-$TASK}\", \"bucket\": \"\"}}]}"
}
results() { bodies 'POST /v3/sources/{server_id}/command_result' '[.command_name, .result] | join(" ")' | tr -d '"'; }
states() { bodies 'PUT /v3/sources/{source_id}/changestate' '[.migrationcycle, .copystate] | join(" ")' | tr -d '"'; }
told_state() { [ "$(states | tail -n 1)" = "$1" ]; }

# exactly PID: just CAP_DAC_READ_SEARCH, in every set, no root, and no way back.
exactly() {
	local set

	for set in CapInh CapPrm CapEff CapBnd CapAmb; do
		grep -qP "^$set:\t0{15}4$" "/proc/$1/status" || fail "$(cat "/proc/$1/status")"
	done
	grep -qP "^Uid:\t65534\t65534\t65534\t65534$" "/proc/$1/status"
	grep -qP "^Groups:\t *(65534 *)?$" "/proc/$1/status"
	grep -qP "^NoNewPrivs:\t1$" "/proc/$1/status"
}

@test "run: root becomes the user of the service and keeps one capability" {
	daemon_setup
	# What root left in its directories becomes that user's; what has other names does not.
	touch "$STATE/of-root" "$W/elsewhere"
	ln "$W/elsewhere" "$STATE/linked"
	chown root "$STATE/source_id"
	# A process that has changed its user cannot be looked at by LeakSanitizer.
	ASAN_OPTIONS=detect_leaks=0:exitcode=99 daemon_start env
	exactly "$DAEMON"
	[ "$(status_of 'j["user"] + " " + j["capabilities"]')" = "nobody cap_dac_read_search" ]
	[ "$(stat -c %U "$STATE/of-root" "$STATE/linked" | tr '\n' ' ')" = "nobody root " ]
	daemon_end
	assert_gone "$SOCKET"
}

@test "run: root gives away no directory that holds other things" {
	daemon_setup
	mkdir -p "$W/etc/sub"
	touch "$W/etc/passwd" "$W/etc/sub/key"
	exits 1 timeout -s KILL 60 "$AGENT" run --config "$W/agent.json" --state-dir "$W/etc"
	says "holds other things"
	[ "$(stat -c %U "$W/etc" "$W/etc/passwd" "$W/etc/sub/key" | sort -u)" = root ]
	[ "$(ls "$W/etc" | tr '\n' ' ')" = "passwd sub " ]
}

@test "run: started as another user it names the capability that is missing" {
	daemon_setup
	exits 40 setpriv --reuid nobody --regid nogroup --clear-groups --bounding-set=-all \
		"$AGENT" run --config "$W/agent.json" --state-dir "$STATE"
	says "lacks CAP_DAC_READ_SEARCH"
	says "AmbientCapabilities="
	# That is told before a directory that it may not make is.
	exits 40 setpriv --reuid nobody --regid nogroup --clear-groups --bounding-set=-all \
		"$AGENT" run --config "$W/agent.json" --state-dir "$STATE" --socket "$W/no/agent.sock"
	says "lacks CAP_DAC_READ_SEARCH"
	exits 40 setpriv --bounding-set=-setuid,-chown "$AGENT" run --config "$W/agent.json" \
		--state-dir "$STATE"
	says "lacks CAP_SETUID, CAP_CHOWN"
	daemon_config '"capabilities": ["net_admin"]'
	exits 1 "${SERVICE[@]}" "$AGENT" run --config "$W/agent.json" --state-dir "$STATE"
	says "'net_admin' is none that can be kept"
	sed -i 's/"nobody"/"no-such-user"/' "$W/agent.json"
	daemon_config
	sed -i 's/"nobody"/"no-such-user"/' "$W/agent.json"
	exits 1 agent run
	says "there is no user no-such-user"
}

@test "status: root is answered, nobody else; one agent at a time" {
	daemon_setup
	exits 10 agent status
	says "no agent is running"
	daemon_start
	exactly "$DAEMON"
	exits 0 agent status
	says "user       nobody"
	# The user that owns the socket, and one that is shut out of its directory.
	exits 11 setpriv --reuid nobody --clear-groups "$AGENT" status --config "$W/agent.json"
	says "only root may ask the agent"
	exits 11 setpriv --reuid 12345 --clear-groups --bounding-set=-all "$AGENT" status \
		--config "$W/agent.json"
	says "only root may ask the agent"
	exits 44 "${SERVICE[@]}" "$AGENT" run --config "$W/agent.json" --state-dir "$STATE"
	says "another stager-agent runs"
	mkdir -m 777 "$W/other"
	exits 44 "${SERVICE[@]}" "$AGENT" run --config "$W/agent.json" --state-dir "$W/other"
	says "another agent answers at $SOCKET"
	# Nonsense is answered, and a client that says nothing holds nobody up.
	python3 - "$SOCKET" <<-'END'
	import socket, sys
	idle = [socket.socket(socket.AF_UNIX) for _ in range(3)]
	for s in idle:
	    s.connect(sys.argv[1])
	for text in (b"x" * 1000, b"\n", b"status \n", b"\0\xff\n"):
	    s = socket.socket(socket.AF_UNIX)
	    s.connect(sys.argv[1])
	    s.sendall(text)
	    assert b"no such request" in s.recv(4096), text
	END
	answers
	# What a killed one leaves is in nobody's way.
	daemon_kill
	assert_exists "$SOCKET"
	daemon_start
	daemon_end
}

@test "run: a new configuration is taken, a broken one is not" {
	daemon_setup
	daemon_start
	wait_until 10 holds 'j["checks"]["cycles"] == 1'
	daemon_config '"check_interval": 0.02'
	kill -HUP "$DAEMON"
	wait_until 10 holds 'j["checks"]["cycles"] > 5'
	[ "$(status_of 'j["config_problem"]')" = null ]
	echo '{ "daemon": { "usr": "x" } }' >"$W/broken"
	cp "$W/agent.json" "$W/good"
	cp "$W/broken" "$W/agent.json"
	kill -HUP "$DAEMON"
	wait_until 10 logged "unknown key 'usr'"
	cp "$W/good" "$W/agent.json"
	[ "$(status_of '"usr" in j["config_problem"] and j["checks"]["cycles_failed"] == 0')" = true ]
	# It goes on as it was.
	local n
	n=$(status_of 'j["checks"]["cycles"]')
	wait_until 10 holds "j['checks']['cycles'] > $n + 5"
	sed "s,$SOCKET,$W/run/other.sock," "$W/good" >"$W/agent.json"
	kill -HUP "$DAEMON"
	wait_until 10 logged "daemon.socket cannot be changed"
	cp "$W/good" "$W/agent.json"
	kill -HUP "$DAEMON"
	wait_until 10 holds 'j["config_problem"] is None'
	daemon_end
}

@test "run: a reload opens the log that root began" {
	daemon_setup
	sed -i "s,^{,{ \"log_file\": \"$W/agent.log\"\,," "$W/agent.json"
	ASAN_OPTIONS=detect_leaks=0:exitcode=99 daemon_start env
	kill -HUP "$DAEMON"
	wait_until 10 grep -qF "read the configuration anew" "$W/agent.log"
	[ "$(status_of 'j["config_problem"]')" = null ]
	[ "$(stat -c '%U %a' "$W/agent.log")" = "nobody 600" ]
	daemon_end
}

said() { grep -qE -- "$1" "$W/notified"; }
said_times() { [ "$(grep -cE -- "$1" "$W/notified")" -ge "$2" ]; }

@test "run: the service manager hears of everything" {
	daemon_setup
	"$TESTS/integration/notify-listener" "$W/notify" "$W/notified" 3>&- &
	LISTENER=$!
	wait_until 10 test -S "$W/notify"
	export NOTIFY_SOCKET=$W/notify WATCHDOG_USEC=100000
	daemon_start
	unset NOTIFY_SOCKET WATCHDOG_USEC
	wait_until 10 said '^READY=1$'
	wait_until 10 said "^STATUS=source $CLOUD_SOURCE"
	wait_until 10 said_times '^WATCHDOG=1$' 5
	kill -HUP "$DAEMON"
	wait_until 10 said '^RELOADING=1 MONOTONIC_USEC=[0-9]+$'
	wait_until 10 said_times '^READY=1$' 2
	daemon_end
	wait_until 10 said '^STOPPING=1$'
	# In this order.
	[ "$(grep -oE '^(READY|RELOADING|STOPPING)' "$W/notified" | tr '\n' ' ')" = \
		"READY RELOADING READY STOPPING " ]
}

relay_start() {
	"$TESTS/integration/tcp-relay" "$W/relay" "${SMS_ENDPOINT_REAL##*:}" 3>&- &
	RELAY=$!
	wait_until 10 test -s "$W/relay"
}
relay_stop() {
	kill -9 "$RELAY"
	wait "$RELAY" 2>/dev/null || true
	RELAY=
}

# A run that is at work, by its lock and its status; bytes_done counts the reports.
pretend() { exec 8>"$STATE/lock"; flock 8; echo 4242 >&8; }
pretend_no_more() { exec 8>&-; }
progress() {
	cat >"$STATE/status.new" <<-JSON
	{"pid":4242,"running":true,"run_id":"r1","step":"send","phase":"full_sync","entries_done":$1,
	"entries_total":100,"bytes_done":$1,"bytes_total":100,"bytes_per_s":125000,"eta_s":7,
	"errors":0,"in_phase":true,"updated_at":$(date +%s)}
	JSON
	mv "$STATE/status.new" "$STATE/status.json"
}
spooled() { [ "$(find "$STATE/spool" -maxdepth 1 -name '0*' | wc -l)" -ge "$1" ]; }
in_spool() { find "$STATE/spool" -maxdepth 1 -name '0*' | wc -l; }
# produce FROM TO: each makes a report before the next one.
produce() {
	local i n

	for ((i = $1; i <= $2; i++)); do
		n=$(in_spool)
		progress "$i"
		wait_until 10 spooled $((n + 1))
	done
}
sizes() { bodies 'PUT /v3/tasks/{task_id}/progress' .replicatesize | uniq; }
arrived() { [ "$(sizes | tail -n 1)" = "$1" ]; }

@test "run: an outage and kills in it lose no report, and the order stays" {
	daemon_setup
	SMS_ENDPOINT_REAL=$SMS_ENDPOINT
	relay_start
	export SMS_ENDPOINT=http://127.0.0.1:$(cat "$W/relay")
	daemon_start
	wait_until 10 holds "j['task_id'] == '$TASK'"
	pretend
	progress 1
	wait_until 10 arrived 1
	relay_stop
	wait_until 10 holds 'j["sms"]["problem"] is not None and not j["sms"]["reachable"]'
	produce 2 8
	daemon_kill
	daemon_start
	produce 9 14
	daemon_kill
	daemon_start
	produce 15 20
	# It answers, and checks, as ever.
	[ "$(status_of 'j["spool"]["reports"] >= 19 and j["checks"]["cycles"] > 0')" = true ]
	# Each of the three tells of it, once for each kind of fault.
	[ "$(grep -c 'error: ' "$W/log")" -le 6 ] || fail "$(cat "$W/log")"
	relay_start
	wait_until 20 arrived 20
	wait_until 10 holds 'j["spool"]["reports"] == 0 and j["sms"]["reachable"]'
	[ "$(sizes)" = "$(seq 20)" ] || fail "arrived:" "$(sizes)"
	pretend_no_more
	daemon_end
	cloud_clean
	# Nor was any of it secret.
	no_secrets "$W/log" "$W/status"
}

@test "run: the clock was ahead when the task came: its runs are told all the same" {
	daemon_setup
	echo "{\"schema_version\": 1, \"task_id\": \"$TASK\", \"task_at\": $(($(date +%s) + 86400))}" \
		>"$STATE/daemon.json"
	# Nor does something in the spool that is no report hold any up.
	mkdir -p "$STATE/spool/00000000000000000001.r"
	chown -R nobody "$STATE"
	daemon_start
	wait_until 10 logged "the clock was set back"
	pretend
	progress 1
	wait_until 10 arrived 1
	pretend_no_more
	daemon_end
}

stager_of() { STAGER_PID=$(pgrep -P "$DAEMON" -x stager); }
sent_bytes() { holds "j['run'] is not None and j['run']['running'] and j['run']['bytes_done'] > $1"; }

@test "run: SMS says START, STOP and START: stager runs as the service does, and SMS sees it" {
	daemon_setup
	mkdir -p "$SRC"
	big_tree "$SRC" 6
	chmod 700 "$SRC"
	BWLIMIT=2M daemon_config
	daemon_start
	order START
	wait_until 10 stager_of
	exactly "$STAGER_PID"
	tr '\0' '\n' <"/proc/$STAGER_PID/environ" >"$W/environ"
	lacks HC_ <"$W/environ"
	wait_until 20 sent_bytes 1000000
	order STOP
	wait_until 20 told_state "replicating stopped"
	order SKIP
	wait_until 10 eval '[ "$(results | tail -n 1)" = "SKIP fail" ]'
	daemon_config
	reload
	order START
	wait_until 30 told_state "syncing syncing"
	wait_until 10 holds 'j["spool"]["reports"] == 0 and j["wanted"] is None'
	[ "$(results | tr '\n' ' ')" = "START success STOP success SKIP fail START success " ]
	[ "$(states | tr '\n' ';')" = \
		"replicating replicate;replicating stopped;replicating replicate;syncing syncing;" ] || fail "$(states)"
	rsync_differences "$SRC" "$DST" >"$W/differences"
	[ ! -s "$W/differences" ] || fail "$(cat "$W/differences")"
	bodies 'PUT /v3/tasks/{task_id}/progress' . >"$W/body"
	[ "$(python3 -c '
import json, sys
v = [json.loads(l) for l in open(sys.argv[1])]
done = [p["progress"] for p in v]
print(done[-1] == 100 and done.count(100) == 1 and any(0 < d < 100 for d in done) and
      any(p["migrate_speed"] > 0 for p in v) and all(p["subtask_name"] == "MIGRATE_LINUX_FILE" for p in v))
' "$W/body")" = True ] || fail "$(cat "$W/body")"
	# The full sync stands: START is an incremental one now.
	order START
	wait_until 20 logged "stager incremental ended with exit status 0"
	# A verification by hand is told, too.
	stager verify --method quick >"$W/verify" 2>&1
	wait_until 10 eval 'cloud_routes | grep -q consistency-result'
	daemon_end
	cloud_clean
	find "$STATE" "$W/run" "$W/log" "$W/status" -type f -exec cat {} + >"$W/all"
	no_secrets "$W/all"
}

@test "run: a daemon that is killed goes on with what SMS wanted" {
	daemon_setup
	big_tree "$SRC" 4
	BWLIMIT=2M daemon_config
	daemon_start
	order START
	wait_until 10 stager_of
	wait_until 20 sent_bytes 500000
	kill -9 "$STAGER_PID"
	daemon_kill
	daemon_config
	daemon_start
	wait_until 5 logged "going on with task $TASK: stager full"
	wait_until 30 told_state "syncing syncing"
	[ "$(results)" = "START success" ]
	# Where stager lives on, the next daemon sees to its end, and does not start it again.
	big_tree "$SRC/some" 3
	BWLIMIT=1M daemon_config
	reload
	order START
	wait_until 10 stager_of
	daemon_kill
	daemon_start
	wait_until 10 sent_bytes 1
	[ "$(status_of 'j["wanted"], j["run"]["started_here"]')" = "('incremental', False)" ]
	wait_until 20 holds 'j["wanted"] is None and not j["run"]["running"]'
	[ "$(grep -c 'started stager incremental' "$W/log")" -eq 1 ]
	# Ended by SIGTERM it takes its stager along.
	big_tree "$SRC/more" 6
	order START
	wait_until 10 stager_of
	daemon_end
	! kill -0 "$STAGER_PID" 2>/dev/null || fail "stager is still at work"
	[ "$(query "$STATE/daemon.json" 'j["wanted"]')" = incremental ]
}

@test "run: what SMS does not want to change keeps no report back" {
	daemon_setup
	cloud_fault '{"match": "POST /v3/sources$", "status": 400, "error_code": "SMS.6501", "error_msg": "no more"}'
	daemon_start
	wait_until 10 logged SMS.6501
	order STOP
	wait_until 10 eval '[ "$(results)" = "STOP success" ]'
	[ "$(status_of 'j["sms"]["reachable"]')" = true ]
	# And a mistake in the name of a check is told at once.
	daemon_end
	sed -i 's/"MEMORY"/"MEMROY"/' "$W/agent.json"
	exits 1 agent run
	says "did you mean MEMORY"
}

@test "run: a stager that fails is told as an error, which stays until the next START" {
	daemon_setup
	small_tree "$SRC"
	daemon_start
	order START
	wait_until 20 told_state "syncing syncing"
	sed -i 's/"--no-default-excludes"/"--no-such-option"/' "$W/agent.json"
	reload
	order START
	wait_until 20 told_state "syncing error"
	wait_until 10 logged "exit status 1"
	local rounds
	rounds=$(status_of 'j["sms"]["rounds"]')
	wait_until 10 holds "j['sms']['rounds'] > $rounds + 3 and j['wanted'] is None"
	told_state "syncing error"
	daemon_config
	reload
	order START
	wait_until 20 told_state "syncing syncing"
	[ "$(states | tr '\n' ';')" = \
		"replicating replicate;syncing syncing;syncing error;syncing syncing;" ] || fail "$(states)"
	daemon_end
	cloud_clean
}

@test "run: without a target START fails, and says why" {
	daemon_setup
	sed -i 's/"--target", "[^"]*", //' "$W/agent.json"
	unset RSYNC_TARGET_HOST
	daemon_start
	order START
	wait_until 10 eval '[ "$(results)" = "START fail" ]'
	[[ $(bodies 'POST /v3/sources/{server_id}/command_result' .result_detail.message) == *"no target is configured"* ]]
	daemon_end
}

@test "run: a command that nobody knows is passed over, and SMS may forget the source" {
	daemon_setup
	daemon_start
	order FLY
	wait_until 10 logged "a command that is not known here: FLY"
	cloud_control DELETE "state/sources/$CLOUD_SOURCE" >/dev/null
	wait_until 10 logged "registering this host anew"
	wait_until 10 holds "j['sms']['reachable'] and j['sms']['source_id'] != '$CLOUD_SOURCE'"
	daemon_end
}
