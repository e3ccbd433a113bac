#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What the passes so far say of the cutover: real passes, and the words of the verdict.

load lib

# forecast EXPRESSION: of the JSON object j, which Python must find true.
forecast() {
	stager forecast --json >"$W/forecast" 2>"$W/err" || fail "no forecast" "$(cat "$W/err")"
	python3 -c 'import json, sys
j = json.load(open(sys.argv[1]))
ok = eval(sys.argv[2])
sys.exit(not ok)' "$W/forecast" "$1" || fail "not true: $1" "$(cat "$W/forecast")"
}

@test "a forecast needs two passes" {
	exits 40 stager forecast
	says "no sync was run"
	assert_gone "$STATE"
	small_tree "$SRC"
	sync_ok full
	exits 40 stager forecast
	says "there is 1 so far, run \"stager incremental\""
	sync_ok incremental
	exits 0 stager forecast
	says "CONVERGES"
	[[ $output == CONVERGES:* ]]
	exits 1 stager forecast --lint
}

@test "it names what changes most, without the target" {
	local i

	mkdir -p "$SRC/var/db" "$SRC/mail" "$SRC/quiet"
	for i in 1 2 3 4 5 6 7 8 9; do
		mkdir -p "$SRC/mail/u$i"
		head -c 100k /dev/urandom >"$SRC/mail/u$i/m"
		head -c 100k /dev/urandom >"$SRC/quiet/q$i"
	done
	sync_ok full
	for i in 1 2 3; do
		head -c 3M /dev/urandom >"$SRC/var/db/table"
		head -c 20k /dev/urandom >"$SRC/mail/u$i/m"
		rm "$SRC/quiet/q$i"
		head -c 600k /dev/urandom >"$SRC/"$'odd\xff\nname'
		sync_ok incremental
	done
	sshd_stop
	forecast 'j["verdict"] in ("CONVERGES", "DOES NOT CONVERGE")'
	forecast 'j["directories"][0]["path"] == "var/db" and j["directories"][0]["share"] > 0.7'
	forecast 'j["files"][0]["path"] == "var/db/table"'
	forecast 'j["files"][1]["path"] == "odd\\xff\\x0aname" and j["files"][1]["path_base64"] == "b2Rk/wpuYW1l"'
	forecast 'j["gaps"] == 3 and [p["phase"] for p in j["passes"]] == ["full_sync"] + ["incremental_sync_%d" % i for i in (1, 2, 3)]'
	forecast 'all(p["entries_deleted"] == 1 and p["bytes_literal"] > 3e6 for p in j["passes"][1:])'
	forecast 'j["cutover_s"]["low"] <= j["cutover_s"]["expected"] <= j["cutover_s"]["high"]'
	forecast 'j["entries_changed_per_s"] > 0 and j["bytes_changed_per_s"] > 0'
	exits 0 stager forecast
	says "var/db"
	says 'odd\xff\x0aname'
}

# The limit is the throughput.  What is written before the second pass is far more than the
# limit lets through in the time since the first one, and a second besides.
@test "a source that changes faster than the limit does not converge" {
	head -c 2M /dev/urandom >"$SRC/calm"
	sync_ok full --bwlimit 2M --compress off
	python3 - "$SRC/log" "$STATE/catalog.db" <<-'PY'
	import os, sqlite3, sys, time
	last = sqlite3.connect(sys.argv[2]).execute(
	    "SELECT sync FROM phase ORDER BY id DESC LIMIT 1").fetchone()[0] / 1e9
	with open(sys.argv[1], "wb") as f:
	    f.write(os.urandom(int(3 * (2 << 20) * (time.time() - last + 1))))
	PY
	sync_ok incremental --bwlimit 2M --compress off
	exits 0 stager forecast
	[[ $output == "DOES NOT CONVERGE:"* ]] || fail "$output"
	says "log"
	forecast 'j["converges"] is False and j["ratio"]["expected"] > 1 and j["shortest_pass_s"] is None'
	forecast 'j["files"][0]["path"] == "log"'
}

@test "a pass that was killed is not taken for a short one" {
	big_tree "$SRC" 4
	sync_ok full
	echo 1 >"$SRC/one"
	sync_ok incremental
	big_tree "$SRC" 16
	start_stager incremental --bwlimit 3M --compress off
	wait_until 60 progressed 3000000
	kill -KILL "$JOB"
	wait "$JOB" || true
	wait_until 30 no_receivers
	forecast 'j["passes"][-1]["finished"] is False and j["gaps"] == 1'
	echo 2 >"$SRC/one"
	sync_ok incremental
	forecast 'j["gaps"] == 1 and [p["finished"] for p in j["passes"]] == [True, True, False, True]'
	echo 3 >"$SRC/one"
	sync_ok incremental
	forecast 'j["gaps"] == 2 and any("broken off" in n for n in j["notes"])'
	# A target that is not there: no pass, and no gap in them.
	sshd_stop
	exits 10 stager incremental
	forecast 'j["gaps"] == 2 and j["passes"][-1]["finished"] is True'
}
