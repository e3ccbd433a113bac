#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What programs and people read: the report, progress, status.

load lib

@test "the report is valid after every phase and names what readers know" {
	small_tree "$SRC"
	for phase in full incremental cutover; do
		echo $phase >>"$SRC/a/f1"
		sync_ok $phase
		"$TESTS/integration/validate-report" "$REPORT"
	done
	[ "$(query "$REPORT" 'j["method"]')" = rsync ]
	[ "$(query "$REPORT" 'j["execution_mode"]')" = source_to_target ]
	[ "$(query "$REPORT" 'j["target_port"]')" = "$SSHD_PORT" ]
	[ "$(query "$REPORT" 'j["incremental_rounds"]')" = 1 ]
	[ "$(query "$REPORT" 'all(p["finished_at"] >= p["started_at"] > 1600000000 for p in j["phases"])')" = true ]
	[ "$(query "$REPORT" 'all(p["paths"][0]["sync"]["return_code"] == 0 for p in j["phases"])')" = true ]
	[ "$(query "$REPORT" 'j["phases"][0]["paths"][0]["source_path"].rstrip("/")')" = "$SRC" ]
	[ "$(query "$REPORT" 'j["phases"][0]["paths"][0]["target_path"].rstrip("/")')" = "$DST" ]
}

@test "the report is valid JSON at every moment of a run" {
	local n=0

	big_tree "$SRC" 24
	start_stager full --bwlimit 8M --compress off
	while kill -0 "$JOB" 2>/dev/null; do
		if [ -e "$REPORT" ]; then
			query "$REPORT" 'j["phases"]' >/dev/null || fail "not valid"
			n=$((n + 1))
		fi
		sleep 0.05
	done
	join_stager
	[ "$status" -eq 0 ]
	[ "$n" -gt 3 ]
	"$TESTS/integration/validate-report" "$REPORT"
}

@test "the figures of a phase agree with the tree" {
	local files bytes

	small_tree "$SRC"
	sync_ok full
	bytes=$(find "$SRC" -type f -printf '%i %s\n' | sort -u | awk '{n += $2} END {print n}')
	files=$(find "$SRC" -mindepth 1 | wc -l)
	[ "$(stat_of full_sync entries_scanned)" -ge "$files" ]
	[ "$(stat_of full_sync entries_scanned)" -le $((files + 1)) ]
	[ "$(stat_of full_sync bytes_literal)" -ge "$bytes" ]
	rm "$SRC/a/f1" "$SRC/a/f2"
	sync_ok incremental
	[ "$(stat_of last entries_deleted)" -eq 2 ]
	[ "$(stat_of last bytes_literal)" -eq 0 ]
}

@test "progress as JSON: every line parses, nothing goes back, the end is the whole" {
	big_tree "$SRC" 24
	start_stager full --bwlimit 8M --compress off
	join_stager
	[ "$status" -eq 0 ]
	python3 - "$W/progress" <<'PY'
import json, sys
keys = {"event", "phase", "entries_done", "entries_total", "bytes_done", "bytes_total",
        "bytes_per_s", "eta_s"}
last, seen = {}, 0
for line in open(sys.argv[1]):
    o = json.loads(line)
    assert "event" in o, line
    if "bytes_done" not in o:
        continue
    assert keys <= o.keys(), (keys - o.keys(), line)
    seen += 1
    for k in ("entries_done", "bytes_done"):
        assert o[k] >= last.get(k, 0), (k, line)
        last[k] = o[k]
    total = o["bytes_total"]
    assert total is None or total == 0 or o["bytes_done"] <= total, line
assert seen >= 3, seen
assert last["bytes_done"] >= 24 << 20, last
PY
}

@test "progress plain and bar write no JSON; none writes nothing" {
	small_tree "$SRC"
	opt --progress none
	exits 0 stager full --log-level error
	[ -z "$output" ] || fail "it said" "$output"
	opt --progress plain
	exits 0 stager incremental
	lacks '{"' <<<"$output"
}

@test "status before, during and after a run" {
	big_tree "$SRC" 24
	start_stager full --bwlimit 8M --compress off
	wait_until 60 progressed $((4 << 20))
	stager status --json >"$W/during"
	[ "$(query "$W/during" 'j["phase"]')" = full_sync ]
	join_stager
	[ "$status" -eq 0 ]
	stager status --json >"$W/after"
	query "$W/after" j >/dev/null
	exits 0 stager status
	says full
}

@test "report --format text shows phases, figures and state" {
	small_tree "$SRC"
	sync_ok full
	sync_ok incremental
	exits 0 stager report --format text
	says full_sync
	says incremental_sync_1
	says FULL_SYNCED
}

@test "a file that cannot be put in place is in errors[], exit 23" {
	small_tree "$SRC"
	mkdir -p "$DST/link/inside"
	touch "$DST/link/inside/file"
	exits 23 stager full --no-delete
	"$TESTS/integration/validate-report" "$REPORT"
	query "$REPORT" '[e for e in j["errors"] if e["path"].strip("/") == "link"][0]["operation"]'
	[ "$(query "$REPORT" 'phases["full_sync"]["paths"][0]["sync"]["return_code"]')" = 23 ]
	query "$REPORT" 'phases["full_sync"]["paths"][0]["sync"]["warning"]'
}

@test "names that are not UTF-8 come with their bytes" {
	local name

	small_tree "$SRC"
	name=$(printf 'caf\351')
	mkdir -p "$DST/$name"
	touch "$DST/$name/inside" "$SRC/$name"
	exits 23 stager full --no-delete
	"$TESTS/integration/validate-report" "$REPORT"
	query "$REPORT" '[__import__("base64").b64decode(e["path_base64"]).hex() for e in j["errors"] if "path_base64" in e]' |
		grep -q 636166e9
}

@test "the state directory and the key material are for their owner only" {
	small_tree "$SRC"
	sync_ok full
	[ "$(find "$STATE" -perm /o=rwx ! -type l ! -path "$STATE" -printf '%m %p\n' | grep -v '/out' | wc -l)" -eq 0 ]
}
