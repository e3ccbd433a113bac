#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The target is left as it was found, but for the data.

load lib

cache() { echo "$W/sshd/home/.cache/stager"; }

@test "clean removes the uploaded receiver and the staging area, and can be repeated" {
	small_tree "$SRC"
	sync_ok full
	exits 0 stager clean
	assert_gone "$DST/.stager"
	[ ! -d "$(cache)" ] || [ -z "$(find "$(cache)" -type f)" ] || fail "$(find "$(cache)")"
	assert_same "$SRC" "$DST"
	exits 0 stager clean
}

@test "after clean a full sync works, and sends no content again" {
	small_tree "$SRC"
	head -c 8M /dev/urandom >"$SRC/big"
	sync_ok full
	exits 0 stager clean
	sync_ok full
	assert_same "$SRC" "$DST"
	[ "$(stat_of last bytes_literal)" -lt $((1 << 20)) ]
}

@test "clean takes away what a killed run left" {
	big_tree "$SRC" 24
	start_stager full --bwlimit 8M --compress off
	wait_until 60 progressed $((4 << 20))
	kill -9 "$JOB"
	join_stager
	wait_until 20 no_receivers
	exits 0 stager clean
	assert_gone "$DST/.stager"
	# Nothing but names of the source is left.
	[ -z "$(cd "$DST" && find . | sort | comm -23 - <(cd "$SRC" && find . | sort))" ]
}

@test "a source's own /.stager is skipped with a notice" {
	small_tree "$SRC"
	mkdir "$SRC/.stager"
	touch "$SRC/.stager/mine"
	exits 0 stager full
	says .stager
	assert_gone "$DST/.stager/mine"
}

@test "a broken uploaded receiver is replaced before it is started" {
	small_tree "$SRC"
	sync_ok full
	[ -n "$(find "$(cache)" -type f)" ]
	find "$(cache)" -type f -exec sh -c 'echo broken >"$1"' sh {} \;
	echo more >"$SRC/more"
	sync_ok incremental
	assert_same "$SRC" "$DST"
}

@test "no receiver and no session outlives a run" {
	small_tree "$SRC"
	sync_ok full
	wait_until 10 no_receivers
	wait_until 10 no_sessions
}

no_sessions() { [ -z "$(descendants "$SSHD_PID")" ]; }
