#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# A big file goes in segments, over several sessions, and nothing of it is sent twice.

load lib

SEGMENT=$((8 << 20))
SLOW=(--bwlimit 24M --compress off --sessions 3)

setup() {
	it_setup
	MIB=100
	[ "${STAGER_BIG:-0}" = 1 ] && MIB=1100
	mkdir "$SRC/d"
	head -c "${MIB}M" /dev/urandom >"$SRC/d/big"
	BYTES=$((MIB << 20))
}

temps() { find "$DST" -name '.stager-tmp.*'; }
no_temps() { [ -z "$(temps)" ] || fail "left over:" "$(temps)"; }
have_temp() { [ -n "$(temps)" ]; }

# so many bytes of content were sent in the last phase, at most
sent_at_most() {
	local sent

	sent=$(stat_of last bytes_literal)
	[ "$sent" -le "$1" ] || fail "$sent bytes were sent, $1 at most was right"
}

@test "several sessions carry one file, and the report tells" {
	sync_ok full --sessions 3 --compress off
	assert_same "$SRC" "$DST"
	no_temps
	sent_at_most "$BYTES"
	[ "$(query "$REPORT" 'sum(s["bytes_wire_out"] > '$SEGMENT' for s in j["phases"][-1]["sessions"])')" -ge 2 ]
	[ "$(query "$REPORT" 'j["phases"][-1]["tuning"]["sessions"]["chosen"]')" -eq 3 ]
	[ "$(query "$REPORT" 'j["phases"][-1]["tuning"]["sessions"]["reason"]')" = "asked for" ]
	[ "$(query "$REPORT" 'j["phases"][-1]["tuning"]["compression"]["chosen"]')" = off ]
}

@test "a big file in a directory whose default ACL takes the mode from what is made in it" {
	need_root
	need_tool setfacl
	setfacl -d -m u::r--,g::-,o::-,u:1001:r "$SRC/d" || skip "no ACLs here"
	sync_ok full --sessions 3
	assert_same "$SRC" "$DST"
	no_temps
	head -c 4096 /dev/urandom | dd of="$SRC/d/big" bs=4096 seek=100 conv=notrunc status=none
	sync_ok incremental
	assert_same "$SRC" "$DST"
	sent_at_most "$SEGMENT"
}

@test "kill -9 of the driver inside a file: the next full sends what was on its way, and the rest" {
	local had

	start_stager full "${SLOW[@]}"
	wait_until 60 progressed $((BYTES * 6 / 10))
	kill -9 "$JOB"
	join_stager
	wait_until 20 no_receivers
	assert_gone "$DST/d/big"
	have_temp
	[ "$(stat -c %a "$(temps)")" = 600 ]
	had=$(($(stat -c %b "$(temps)") * 512))

	sync_ok full --compress off
	assert_same "$SRC" "$DST"
	no_temps
	# What a session had begun is sent again, and nothing else.
	sent_at_most $((BYTES - had + 3 * SEGMENT))
	[ "$(stat_of last bytes_matched)" -ge $((had - 3 * SEGMENT)) ]
}

@test "kill -9 of the receivers inside a file costs what they had on the way" {
	local p

	start_stager full "${SLOW[@]}"
	wait_until 60 progressed $((BYTES / 3))
	for p in $(receivers); do
		kill -9 "$p" || true
	done
	join_stager
	[ "$status" -eq 0 ] || fail "ended with $status" "$output"
	assert_same "$SRC" "$DST"
	no_temps
	# Each of three sessions had one segment open, and at most one not acknowledged.
	sent_at_most $((BYTES + 6 * SEGMENT))
	[ "$(stat_of last reconnects)" -gt 0 ]
}

@test "a broken-off file whose source changed: only what differs is sent" {
	start_stager full "${SLOW[@]}"
	wait_until 60 progressed $((BYTES * 7 / 10))
	kill -9 "$JOB"
	join_stager
	wait_until 20 no_receivers
	printf x | dd of="$SRC/d/big" bs=1 seek=1000 conv=notrunc status=none
	sync_ok full --compress off
	assert_same "$SRC" "$DST"
	no_temps
	sent_at_most $((BYTES * 7 / 10))
}

@test "a broken-off file that goes from the source leaves nothing on the target" {
	start_stager full "${SLOW[@]}"
	wait_until 60 progressed $((BYTES / 3))
	kill -9 "$JOB"
	join_stager
	wait_until 20 no_receivers
	have_temp
	rm "$SRC/d/big"
	echo other >"$SRC/d/other"
	sync_ok full --no-delete
	assert_same "$SRC" "$DST"
}

@test "clean takes a broken-off file away" {
	start_stager full "${SLOW[@]}"
	wait_until 60 progressed $((BYTES / 3))
	kill -9 "$JOB"
	join_stager
	wait_until 20 no_receivers
	have_temp
	exits 0 stager clean
	no_temps
	sync_ok full
	assert_same "$SRC" "$DST"
}

@test "a file that changes while it is sent arrives as it is in the end" {
	start_stager full "${SLOW[@]}"
	wait_until 60 progressed $((BYTES / 3))
	printf changed | dd of="$SRC/d/big" bs=1 seek=77 conv=notrunc status=none
	join_stager
	[ "$status" -eq 0 ] || fail "ended with $status" "$output"
	cmp "$SRC/d/big" "$DST/d/big"
	# The segment that it was in, and no more, is sent again.
	sent_at_most $((BYTES + 2 * SEGMENT))
	assert_same "$SRC" "$DST"
}

@test "a file that is cut while it is sent arrives as it is in the end" {
	start_stager full "${SLOW[@]}"
	wait_until 60 progressed $((BYTES / 3))
	truncate -s $((BYTES * 2 / 3 + 5)) "$SRC/d/big"
	join_stager
	[ "$status" -eq 0 ] || fail "ended with $status" "$output"
	cmp "$SRC/d/big" "$DST/d/big"
	assert_same "$SRC" "$DST"
}

@test "holes, a second name, attributes and flags of a big file are kept, and its changes" {
	need_root
	local at

	# Holes of many segments, and of parts of one.
	truncate -s $((BYTES + (60 << 20))) "$SRC/d/big"
	printf end >>"$SRC/d/big"
	fallocate -p -o $((20 << 20)) -l $((3 << 20)) "$SRC/d/big"
	ln "$SRC/d/big" "$SRC/name"
	chmod 4755 "$SRC/d/big"
	setfattr -n user.mark -v 1 "$SRC/d/big"
	chattr +i "$SRC/d/big" 2>/dev/null || true
	sync_ok full
	assert_same "$SRC" "$DST"
	sent_at_most "$BYTES"

	chattr -i "$SRC/d/big" 2>/dev/null || true
	for at in 5 100 4000 6000; do
		printf changed | dd of="$SRC/d/big" bs=4096 seek=$at conv=notrunc status=none
	done
	fallocate -p -o $((30 << 20)) -l $((9 << 20)) "$SRC/d/big"
	chattr +i "$SRC/d/big" 2>/dev/null || true
	sync_ok incremental
	assert_same "$SRC" "$DST"
	sent_at_most $((BYTES / 10))
	no_temps
	chattr -i "$SRC/d/big" "$DST/d/big" 2>/dev/null || true
}

@test "no room on the target: exit 11, and none is taken up by what was sent" {
	need_root
	mount_image small tmpfs 64
	target "$W/small"
	echo before >"$SRC/before"
	exits 11 stager full --sessions 2
	says "make room"
	no_temps
	[ "$(du -sm "$DST" | cut -f1)" -lt 8 ]
	umount "$W/small"
	mount -t tmpfs -o size=$((MIB + 64))m none "$W/small"
	sync_ok full
	assert_same "$SRC" "$DST"
}

@test "a directory in the way that must stay: exit 23, nothing is left over; when it goes, all is well" {
	rm "$SRC/d/big"
	sync_ok full
	mkdir "$DST/d/big"
	echo keep >"$DST/d/big/keep"
	head -c "${MIB}M" /dev/urandom >"$SRC/d/big"
	exits 23 stager incremental
	says "not empty"
	[ "$(cat "$DST/d/big/keep")" = keep ]
	no_temps
	# It was sent once, and then compared with what was kept.
	sent_at_most "$BYTES"
	rm -r "$DST/d/big"
	sync_ok incremental
	assert_same "$SRC" "$DST"
}

@test "a basis that is not what it was believed to be does not spoil the file" {
	sync_ok full
	head -c "${MIB}M" /dev/urandom >"$DST/d/big"
	printf x | dd of="$SRC/d/big" bs=1 seek=5 conv=notrunc status=none
	sync_ok incremental
	assert_same "$SRC" "$DST"
	rm "$DST/d/big"
	printf y | dd of="$SRC/d/big" bs=1 seek=5 conv=notrunc status=none
	sync_ok incremental
	assert_same "$SRC" "$DST"
}
