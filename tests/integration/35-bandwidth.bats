#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The limit on bytes per second: over whole phases, so that a slow machine cannot fail it.

load lib

# sent_within LIMIT: the last phase was no faster than that, logins of the sessions aside.
sent_within() {
	local wire sec

	wire=$(stat_of last bytes_wire_out)
	sec=$(query "$REPORT" 'j["phases"][-1]["duration_sec"]')
	python3 -c 'import sys
wire, sec, limit = map(float, sys.argv[1:])
sys.exit(not 0 < wire <= 1.05 * limit * sec)' "$wire" "$sec" "$1" ||
		fail "$wire bytes in $sec s are more than $1 a second"
}

window() { # one that holds now, or (with a second argument) one that does not, MB
	local from to

	from=$(date -d "${2:-now} - 2 hours" +%H:%M)
	to=$(date -d "${2:-now} + 2 hours" +%H:%M)
	printf '{"bandwidth_windows": [{"start": "%s", "end": "%s", "limit_mb": %s}]}\n' \
		"$from" "$to" "$1" >"$W/stager.json"
}

@test "the limit holds for one session and for eight, for one file and for many" {
	local n

	big_tree "$SRC" 6
	head -c 4M /dev/zero >"$SRC/zeros"
	for n in 1 8; do
		rm -rf "$STATE" "$DST"
		sync_ok full --bwlimit 4M --sessions $n
		sent_within $((4 << 20))
		assert_same "$SRC" "$DST"
	done
	[ "$(query "$REPORT" 'j["phases"][0]["bandwidth"][0]["limit_bytes_per_s"]')" = $((4 << 20)) ]
	[ "$(query "$REPORT" 'j["phases"][0]["bandwidth"][0]["window"]')" = null ]
	"$TESTS/integration/validate-report" "$REPORT"
	exits 0 stager report
	says "from 20"
	says "4.0 MiB/s"
}

@test "a changed file and the upload of the receiver are held back, too" {
	head -c 8M /dev/urandom >"$SRC/f"
	# The receiver alone has some megabytes.
	[ "$(stat -c %s "$STAGER_PREFIX/libexec/stager/stager-receive")" -gt 1000000 ]
	sync_ok full --bwlimit 5M
	sent_within $((5 << 20))
	python3 - "$SRC/f" <<-'PY'
	import os, sys
	with open(sys.argv[1], "r+b") as f:
	    for at in range(0, 8 << 20, 8192):
	        f.seek(at)
	        f.write(os.urandom(4000))
	PY
	sync_ok incremental --bwlimit 4M
	sent_within $((4 << 20))
	assert_same "$SRC" "$DST"
}

@test "an hour's window takes the place of the limit, and status and report tell of it" {
	local named

	big_tree "$SRC" 24
	window 4
	start_stager full --bwlimit 1G
	wait_until 60 progressed 1000000
	exits 0 stager status
	says "limit      3.8 MiB/s, window "
	named=$(stager status --json | python3 -c 'import json, sys
j = json.load(sys.stdin)
assert j["bandwidth_limit_bytes_per_s"] == 4000000, j
print(j["bandwidth_window"])')
	kill -TERM "$JOB"
	join_stager
	[ "$status" -eq 20 ]
	sent_within 4000000
	[ "$(query "$REPORT" 'j["phases"][0]["bandwidth"][0]["window"]')" = "$named" ]
	# Another hour's window leaves it to the option.
	window 1 "12 hours"
	sync_ok full
	[ "$(query "$REPORT" 'j["phases"][-1]["bandwidth"][0]["limit_bytes_per_s"]')" = null ]
	assert_same "$SRC" "$DST"
	"$TESTS/integration/validate-report" "$REPORT"
}

@test "a bad window is refused with its place" {
	printf '{\n  "bandwidth_windows": [{"start": "25:00", "end": "26:00", "limit_mb": 1}]\n}\n' \
		>"$W/stager.json"
	exits 1 stager full
	says "line 2, column"
	says "bandwidth_windows: start: '25:00' is no time of day"
	assert_gone "$DST"
}
