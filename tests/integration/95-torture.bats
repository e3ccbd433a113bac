#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Fidelity: whatever happens to a tree between phases, after a phase nobody can tell source
# and target apart.
#
#	STORMS=N       how many random storms (default 20)
#	STORM_SEED=S   the seed of the first one (default: the clock); the others count up
#	STORM_FS=LIST  file systems, as SOURCE:TARGET pairs that the storms take turns on
#
# A storm that fails prints its seed; STORMS=1 STORM_SEED=<that> STORM_FS=<that> repeats it,
# and a seed that found a fault stays in the list of the last test.
#
#	DURING=N KILLS=N LIVE_RUNS=N  more of the tests with these names in them

load lib

# on_disks SOURCE_TYPE TARGET_TYPE: source and target on file systems of their own.
on_disks() {
	mount_image from "$1" 640
	mount_image to "$2" 640
}

# sides NAME: directories and state for one more sync on these disks.
sides() {
	SRC=$W/from/$1 STATE=$W/state-$1
	REPORT=$STATE/out/rsync_execution.json
	mkdir "$SRC"
	opt --source "$SRC"
	opt --state-dir "$STATE"
	target "$W/to/$1"
}

drop_sides() {
	chattr -R -f -ia "$SRC" "$DST" 2>/dev/null || true
	rm -rf "$SRC" "$DST" "$STATE"
}

storm() { "$TESTS/integration/storm" "$@"; }

# storm_round SEED: a random tree, and two storms over it, each synced and compared.  The
# last phase is by turns a cutover, a full sync against what is there, or an incremental.
storm_round() {
	local seed=$1 last=(cutover full incremental)

	sides "storm-$seed"
	storm --make "$seed" "$SRC"
	sync_ok full
	assert_same "$SRC" "$DST"
	storm "$((seed + 1000000))" "$SRC"
	sync_ok incremental
	assert_same "$SRC" "$DST"
	storm "$((seed + 2000000))" "$SRC"
	sync_ok "${last[seed % 3]}"
	assert_same "$SRC" "$DST"
	drop_sides
}

# storm_rounds COUNT FIRST_SEED SOURCE_TYPE:TARGET_TYPE...
storm_rounds() {
	local count=$1 seed=$2 i pair mounted=
	shift 2

	for ((i = 0; i < count; i++)); do
		pair=${@:i % $# + 1:1}
		if [ "$pair" != "$mounted" ]; then
			[ -z "$mounted" ] || umount "$W/from" "$W/to"
			MOUNTS=()
			on_disks "${pair%:*}" "${pair#*:}"
			mounted=$pair
		fi
		# The seed of a storm that fails is the last one told.
		echo "# STORM_SEED=$((seed + i)) STORM_FS=$pair" >&3
		storm_round $((seed + i))
	done
	umount "$W/from" "$W/to"
	MOUNTS=()
}

@test "random storms of changes between the phases" {
	need_root
	# shellcheck disable=SC2086 # a list of words
	storm_rounds "${STORMS:-20}" "${STORM_SEED:-$(($(date +%s) % 100000 * 10))}" \
		${STORM_FS:-tmpfs:tmpfs ext4:ext4 tmpfs:ext4 ext4:tmpfs}
}

# live_writer_round SEED [TYPE]: files change during full and incremental, not in the cutover.
live_writer_round() {
	local files=() i writer

	sides "live-$1"
	small_tree "$SRC"
	for i in 1 2 3 4 5 6 7 8; do
		files+=("$SRC/c/live$i")
	done
	"$TESTS/integration/live-writer" --seed "$1" "${files[@]}" 3>&- &
	writer=$!
	wait_until 10 test -s "$SRC/c/live8"
	sync_ok full
	sync_ok incremental
	kill -TERM "$writer"
	wait "$writer"
	sync_ok cutover
	assert_same "$SRC" "$DST"
	drop_sides
}

# same_torture: also what rsync cannot read (paths beyond PATH_MAX), or not in this life (1 TB).
same_torture() {
	local found

	found=$(rsync_differences "$SRC" "$DST" --exclude=/beyond 2>&1)
	[ -z "$found" ] || fail "rsync finds differences:" "$(head -n 40 <<<"$found")"
	found=$("$TESTS/integration/compare-trees" "$SRC" "$DST" 2>&1) ||
		fail "the trees differ:" "$(head -n 40 <<<"$found")"
}

# torture TYPE: the whole tree through three phases, with a storm between them.
torture() {
	local seed=${STORM_SEED:-7}

	on_disks "$1" "$1"
	sides all
	"$TESTS/integration/make-tree" --torture "$SRC" 2>"$W/skipped"
	sync_ok full
	same_torture
	exits 0 stager verify --method hash
	storm --leave beyond "$seed" "$SRC"
	printf x | dd of="$SRC/beyond/terabyte" bs=1 seek=700000000000 conv=notrunc status=none
	sync_ok incremental
	same_torture
	storm --leave beyond "$((seed + 1))" "$SRC"
	rm -r "$SRC/beyond/terabyte-of-nothing" "$SRC"/beyond/aaa*
	sync_ok cutover
	same_torture
	exits 0 stager verify --method hash
}

@test "the torture tree on ext4" { need_root; torture ext4; }
@test "the torture tree on xfs" { need_root; torture xfs; }
@test "the torture tree on btrfs" { need_root; torture btrfs; }
@test "the torture tree on tmpfs" { need_root; torture tmpfs; }

@test "a directory of 300,000 entries on tmpfs" {
	local found

	need_root
	mount_image from tmpfs 2000
	mount_image to tmpfs 2000
	sides huge
	"$TESTS/integration/make-tree" --huge 300000 "$SRC"
	sync_ok full
	found=$(rsync_differences "$SRC" "$DST") && [ -z "$found" ]
	find "$SRC" -name 'entry-1234*' -delete
	find "$SRC" -name 'entry-2345*' -exec chmod 600 {} +
	for i in 1 2 3 4 5 6 7 8 9; do mv "$SRC/entry-00000$i" "$SRC/moved-$i"; done
	sync_ok incremental
	found=$(rsync_differences "$SRC" "$DST") && [ -z "$found" ]
	[ "$(find "$DST" -type f -not -path '*/.stager/*' | wc -l)" -eq 299900 ]
}

# During a storm a phase may find that things vanish under its hands, and says so.
sync_in_storm() {
	local r=0

	stager "$@" >"$W/out" 2>"$W/err" || r=$?
	[ "$r" -eq 0 ] || [ "$r" -eq 24 ] || fail "stager $* ended with $r" "$(cat "$W/out" "$W/err")"
}

storm_during_sync() {
	local storm

	sides "during-$1"
	storm --make "$1" "$SRC"
	storm --ops 900 --pace 2.5 "$(($1 + 1000000))" "$SRC" 3>&- &
	storm=$!
	sync_in_storm full
	sync_in_storm incremental
	sync_in_storm incremental
	wait "$storm"
	sync_ok cutover
	assert_same "$SRC" "$DST"
	drop_sides
}

@test "storms during full and incremental: after the cutover nothing differs" {
	local seed=${STORM_SEED:-$(($(date +%s) % 100000 * 10))} i pair

	need_root
	# shellcheck disable=SC2086 # a list of words
	for pair in ${STORM_FS:-tmpfs:tmpfs ext4:ext4}; do
		on_disks "${pair%:*}" "${pair#*:}"
		for ((i = 0; i < ${DURING:-2}; i++)); do
			echo "# STORM_SEED=$((seed + i)) STORM_FS=$pair" >&3
			storm_during_sync $((seed + i))
		done
		umount "$W/from" "$W/to"
		MOUNTS=()
	done
}

# killed PHASE: start it, and at a random moment kill the driver, or its receivers, which the
# driver then gets over.
killed() {
	local p

	start_stager "$@"
	sleep "0.$(printf '%03d' $((RANDOM % 350)))"
	if [ $((RANDOM % 3)) -eq 0 ]; then
		for p in $(receivers); do
			kill -9 "$p" 2>/dev/null || true
		done
	else
		kill -9 "$JOB" 2>/dev/null || true
	fi
	join_stager
	[ "$status" -eq 0 ] || [ "$status" -eq 137 ] || fail "stager $* ended with $status" "$output"
	wait_until 20 no_receivers
}

storm_with_kills() {
	local i phase=full

	RANDOM=$1
	sides "kill-$1"
	storm --make "$1" "$SRC"
	for ((i = 1; i <= 6; i++)); do
		killed "$phase"
		[ "$status" -ne 0 ] || phase=incremental
		storm --ops 120 "$(($1 + i * 1000000))" "$SRC"
		[ $((i % 3)) -eq 0 ] || continue
		sync_ok "$phase"
		phase=incremental
		assert_same "$SRC" "$DST"
	done
	drop_sides
}

@test "storms, and kill -9 of driver and receivers between them" {
	local seed=${STORM_SEED:-$(($(date +%s) % 100000 * 10))} i pair

	need_root
	# shellcheck disable=SC2086 # a list of words
	for pair in ${STORM_FS:-tmpfs:tmpfs ext4:ext4}; do
		on_disks "${pair%:*}" "${pair#*:}"
		for ((i = 0; i < ${KILLS:-2}; i++)); do
			echo "# STORM_SEED=$((seed + i)) STORM_FS=$pair" >&3
			storm_with_kills $((seed + i))
		done
		umount "$W/from" "$W/to"
		MOUNTS=()
	done
}

@test "a killed receiver leaves no temporary name behind, whatever the file system" {
	need_root
	on_disks tmpfs btrfs
	sides temps
	mkdir "$SRC/d"
	head -c 40M /dev/urandom >"$SRC/d/big"
	sync_ok full
	head -c 40M /dev/urandom >"$SRC/d/big"
	start_stager incremental --bwlimit 8M --compress off --sessions 1 --no-delete
	wait_until 60 progressed $((8 << 20))
	# What a receiver that may not use O_TMPFILE would have there.
	: >"$DST/d/.stager-tmp.1.1"
	kill -9 $(receivers)
	join_stager
	[ "$status" -eq 0 ] || fail "ended with $status" "$output"
	[ "$(stat_of last reconnects)" -gt 0 ]
	assert_same "$SRC" "$DST"
}

@test "files that are written to until the cutover are identical after it" {
	local i

	need_root
	on_disks ext4 tmpfs
	for ((i = 1; i <= ${LIVE_RUNS:-10}; i++)); do
		echo "# live-writer $i, ext4" >&3
		live_writer_round "$i"
	done
	umount "$W/from" "$W/to"
	MOUNTS=()
	on_disks tmpfs ext4
	for ((i = 1; i <= (${LIVE_RUNS:-10} + 4) / 5; i++)); do
		echo "# live-writer $i, tmpfs" >&3
		live_writer_round "$i"
	done
}

@test "a file that is still open for writing in the cutover is told of, and not sent for ever" {
	need_root
	on_disks tmpfs tmpfs
	sides open
	small_tree "$SRC"
	ln "$SRC/a/f3" "$SRC/c/f3"
	sync_ok full
	sync_ok incremental
	exec 7>>"$SRC/a/f3"
	sync_ok cutover 7>&-
	exec 7>&-
	assert_same "$SRC" "$DST"
	grep -q 'f3 is still open for writing' "$W/err"
	[ "$(query "$REPORT" 'phases["cutover_sync"]["live_files_total"]')" -eq 1 ]
	query "$REPORT" 'phases["cutover_sync"]["live_files"]' | grep -q 'open for writing'
	[ "$(query "$REPORT" 'phases["cutover_sync"].get("warning")')" = null ]
}

# Each of these once went wrong.

@test "names of one inode survive the renaming of the directory that one of them is in" {
	mkdir "$SRC/old" "$SRC/other"
	head -c 5000 /dev/urandom >"$SRC/old/a"
	ln "$SRC/old/a" "$SRC/other/b"
	ln "$SRC/old/a" "$SRC/other/c"
	ln -s x "$SRC/old/l"
	ln "$SRC/old/l" "$SRC/other/m"
	sync_ok full
	sleep 0.05
	sync_ok incremental
	mv "$SRC/old" "$SRC/new"
	sync_ok incremental
	assert_same "$SRC" "$DST"
	# Another inode under the name that carried the first one, which tells nothing of it.
	sleep 0.05
	sync_ok incremental
	mkdir "$SRC/swap"
	echo "not the same" >"$SRC/swap/a"
	mv "$SRC/new" "$SRC/aside"
	mv "$SRC/swap" "$SRC/new"
	sync_ok incremental
	assert_same "$SRC" "$DST"
}

@test "two inodes change places below renamed directories, each with a name elsewhere" {
	local i

	# Names of many inodes, so that some pass tells the wrong order.
	mkdir "$SRC/a" "$SRC/b" "$SRC/z"
	for i in $(seq 20); do
		mkfifo "$SRC/a/n$i"
		ln "$SRC/a/n$i" "$SRC/b/f$i"
		ln -s "to $i" "$SRC/z/s$i"
		ln "$SRC/z/s$i" "$SRC/b/n$i"
	done
	sync_ok full
	sleep 0.05
	sync_ok incremental
	# No inode changes: a/n$i and b/n$i are each other's now, and b/f$i moves away.
	mv "$SRC/a" "$SRC/c"
	mv "$SRC/b" "$SRC/a"
	mv "$SRC/c" "$SRC/b"
	sync_ok incremental
	assert_same "$SRC" "$DST"
}

@test "an immutable file becomes append-only, too, and stays in a directory of its kind" {
	need_root
	on_disks ext4 ext4
	sides flags
	mkdir "$SRC/d"
	echo x >"$SRC/d/f"
	chattr +i "$SRC/d/f"
	chattr +a "$SRC/d"
	sync_ok full
	assert_same "$SRC" "$DST"
	chattr -i "$SRC/d/f"
	chattr +ia "$SRC/d/f"
	echo y >"$SRC/d/g"
	sync_ok incremental
	assert_same "$SRC" "$DST"
	[ -z "$(find "$DST" -name '.stager-tmp.*')" ]
}

@test "a locked file that loses one of its names stays locked under the others" {
	need_root
	on_disks ext4 tmpfs
	sides locked
	mkdir "$SRC/b" "$SRC/d1" "$SRC/d2" "$SRC/e"
	echo x >"$SRC/x"
	ln "$SRC/x" "$SRC/b/y"
	echo n >"$SRC/n"
	ln "$SRC/n" "$SRC/d1/n"
	echo other >"$SRC/d2/n"
	chattr +a "$SRC/x"
	chattr +i "$SRC/n"
	sync_ok full
	sleep 0.05
	sync_ok incremental
	# The inodes are as they were: one name is removed, another is written over.
	mv "$SRC/b" "$SRC/e/c"
	mv "$SRC/d1" "$SRC/aside"
	mv "$SRC/d2" "$SRC/d1"
	mv "$SRC/aside" "$SRC/d2"
	sync_ok incremental
	assert_same "$SRC" "$DST"
}

@test "changed metadata leaves the ACL of a file on XFS" {
	need_root
	on_disks ext4 xfs
	sides acl
	echo x >"$SRC/f"
	mkdir "$SRC/d"
	setfacl -m u:1001:rw "$SRC/f"
	setfacl -d -m u:1002:rx "$SRC/d"
	sync_ok full
	touch "$SRC/f" "$SRC/d"
	setfattr -n user.x -v 1 "$SRC/f"
	setfattr -n user.x -v 1 "$SRC/d"
	sync_ok incremental
	assert_same "$SRC" "$DST"
	setfacl -b "$SRC/f"
	setfacl -k "$SRC/d"
	sync_ok incremental
	assert_same "$SRC" "$DST"
}

@test "holes beside blocks that are allocated ahead" {
	need_root
	on_disks xfs xfs
	sides holes
	head -c 401408 /dev/urandom >"$SRC/f"
	truncate -s 638976 "$SRC/f"
	head -c 4096 /dev/urandom | dd of="$SRC/f" bs=4096 seek=137 conv=notrunc status=none
	fallocate -l 1M "$SRC/never-written"
	head -c 1M /dev/zero >"$SRC/punched"
	sync_ok full
	assert_same "$SRC" "$DST"
	fallocate -p -l 900K "$SRC/punched"
	fallocate -n -o 2M -l 1M "$SRC/punched"
	touch "$SRC/never-written"
	sync_ok incremental
	assert_same "$SRC" "$DST"
}

@test "storms that once found a fault" {
	need_root
	storm_rounds 1 1005 ext4:tmpfs
	storm_rounds 1 2001 btrfs:btrfs
	storm_rounds 1 2002 xfs:xfs
	storm_rounds 1 11002 tmpfs:ext4
	storm_rounds 1 13003 ext4:xfs
	storm_rounds 1 13016 btrfs:ext4
	storm_rounds 1 41009 xfs:ext4
}
