#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What runs around the cutover, in which order, and what a failure undoes.

load lib

setup() {
	it_setup
	small_tree "$SRC"
	sync_ok full
	export RSYNC_CUTOVER_STOP_CMD="echo stop >>'$W/order'; echo stopped now"
	export RSYNC_CUTOVER_START_CMD="echo start >>'$W/order'; echo started again"
	export RSYNC_TARGET_FINALIZE_CMD="echo finalize >>'$W/order'; echo all final"
}

@test "stop, finalize and start run in order and are in the report" {
	export RSYNC_CUTOVER_STOP_CMD="$RSYNC_CUTOVER_STOP_CMD; echo late >'$SRC/late'"
	sync_ok cutover
	grep -qx stop <(head -n 1 "$W/order")
	[ "$(sort "$W/order" | tr '\n' ' ')" = "finalize start stop " ]
	assert_same "$SRC" "$DST" # what the stop command wrote went along
	[ "$(cat "$DST/late")" = late ]
	[ "$(query "$REPORT" 'j["cutover_stop"]["return_code"]')" = 0 ]
	[ "$(query "$REPORT" 'j["cutover_start"]["return_code"]')" = 0 ]
	[ "$(query "$REPORT" 'j["target_finalize"]["return_code"]')" = 0 ]
	query "$REPORT" 'j["cutover_stop"]["output_tail"]' | grep -q "stopped now"
	query "$REPORT" 'j["cutover_start"]["output_tail"]' | grep -q "started again"
	query "$REPORT" 'j["target_finalize"]["output_tail"]' | grep -q "all final"
	[ "$(query "$REPORT" 'j["state"]')" = CUTOVER_SYNCED ]
}

@test "a failing stop command: exit 41, the source is started again, nothing is cut over" {
	export RSYNC_CUTOVER_STOP_CMD="echo stop >>'$W/order'; echo cannot stop it >&2; exit 7"
	exits 41 stager cutover
	[ "$(tr '\n' ' ' <"$W/order")" = "stop start " ]
	[ "$(query "$REPORT" 'j["cutover_stop"]["return_code"]')" = 7 ]
	query "$REPORT" 'j["cutover_stop"]["output_tail"]' | grep -q "cannot stop it"
	[ "$(query "$REPORT" 'j["state"]')" = FULL_SYNCED ]
	export RSYNC_CUTOVER_STOP_CMD=true
	sync_ok cutover
	[ "$(query "$REPORT" 'j["state"]')" = CUTOVER_SYNCED ]
}

@test "a failing finalize command: exit 41, the source is started again" {
	export RSYNC_TARGET_FINALIZE_CMD="echo finalize >>'$W/order'; exit 3"
	exits 41 stager cutover
	[ "$(tail -n 1 "$W/order")" = start ]
	[ "$(query "$REPORT" 'j["target_finalize"]["return_code"]')" = 3 ]
}

@test "a stop command that hangs is ended after --hook-timeout" {
	export RSYNC_CUTOVER_STOP_CMD="echo stop >>'$W/order'; sleep 60"
	exits 41 timeout 30 "$STAGER" "${OPTS[@]}" cutover --hook-timeout 1
	[ "$(tail -n 1 "$W/order")" = start ]
}

@test "full and incremental run none of them" {
	echo x >"$SRC/x"
	sync_ok incremental
	sync_ok full
	assert_gone "$W/order"
}
