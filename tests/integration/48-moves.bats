#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What was renamed on the source is renamed on the target, and costs no data.

load lib

renamed() { # N: the last phase has made so many moves, and sent next to nothing
	[ "$(stat_of last entries_moved)" -eq "$1" ] ||
		fail "$(stat_of last entries_moved) moves instead of $1"
	[ "$(wire_bytes)" -lt 100000 ] || fail "$(wire_bytes) bytes on the wire"
	assert_same "$SRC" "$DST"
}

moving_tree() {
	mkdir -p "$SRC/a/deep/er" "$SRC/other"
	head -c 3M /dev/urandom | split -b 2000 -a 4 - "$SRC/a/deep/er/f"
	head -c 1M /dev/urandom >"$SRC/a/deep/big"
	head -c 1M /dev/urandom >"$SRC/other/file"
	ln "$SRC/a/deep/er/faaaa" "$SRC/other/link"
}

@test "directories that were renamed, also inside of one another, cost no data" {
	moving_tree
	sync_ok full
	mv "$SRC/a/deep/er" "$SRC/taken out"
	mv "$SRC/a" "$SRC/other/b"
	sync_ok incremental
	renamed 2

	mv "$SRC/other" "$SRC/x"
	mv "$SRC/x/b/deep" "$SRC/x/d"
	echo changed >>"$SRC/x/link"
	rm "$SRC/taken out/faaab"
	echo new >"$SRC/taken out/new"
	sync_ok incremental
	renamed 2
	sync_ok cutover
	[ "$(stat_of last entries_changed)" -eq 0 ]
}

@test "a file that was renamed costs no data, and what was changed in it is found" {
	moving_tree
	sync_ok full
	mv "$SRC/other/file" "$SRC/a/deep/er/file"
	mv "$SRC/a/deep/big" "$SRC/big"
	printf x | dd of="$SRC/big" bs=1 seek=500000 conv=notrunc status=none
	sync_ok incremental
	renamed 2
}

@test "names that are taken, and inodes that are used again, are no renames" {
	local i

	moving_tree
	mkdir "$SRC/swap"
	for i in $(seq 20); do
		mkdir "$SRC/swap/d$i"
		echo "$i" >"$SRC/swap/d$i/f"
		head -c 100000 /dev/urandom >"$SRC/swap/big$i"
	done
	sync_ok full
	rm -r "$SRC"/swap/*
	for i in $(seq 20); do
		head -c 100000 /dev/urandom >"$SRC/swap/large$i"
		mkdir "$SRC/swap/n$i"
		echo "other $i" >"$SRC/swap/n$i/g"
	done
	sync_ok incremental
	[ "$(stat_of last entries_moved)" -eq 0 ]
	assert_same "$SRC" "$DST"

	# Two directories change their names: what is in them is moved, one by one.
	mv "$SRC/a" "$SRC/t" && mv "$SRC/other" "$SRC/a" && mv "$SRC/t" "$SRC/other"
	sync_ok incremental
	renamed 2
}

@test "what is excluded by its path stays where it is" {
	moving_tree
	sync_ok full --exclude=/a/keep
	mkdir "$DST/a/keep"
	touch "$DST/a/keep/mine"
	mv "$SRC/a" "$SRC/b"
	sync_ok incremental --exclude=/a/keep
	assert_exists "$DST/a/keep/mine"
	assert_same "$SRC" "$DST" --exclude=/a
}

@test "--no-delete keeps what was renamed under its old name, too" {
	moving_tree
	sync_ok full
	mv "$SRC/a" "$SRC/b"
	sync_ok incremental --no-delete
	[ "$(stat_of last entries_moved)" -eq 0 ]
	assert_exists "$DST/a/deep/big"
	assert_exists "$DST/b/deep/big"
}

@test "where the target refuses a move, or has lost the old name, the data is sent" {
	moving_tree
	sync_ok full
	rm -r "$DST/a"
	mkdir "$DST/new"
	touch "$DST/new/in the way"
	mv "$SRC/a" "$SRC/b"
	mv "$SRC/other" "$SRC/new"
	sync_ok incremental
	assert_exists "$DST/b/deep/big"
	assert_exists "$DST/new/file"
	sync_ok full
	assert_same "$SRC" "$DST"
}

@test "immutable directories and files are moved, and immutable after it" {
	need_root
	moving_tree
	chattr +i "$SRC/a/deep/big" 2>/dev/null || skip "no inode flags here"
	chattr +i "$SRC/a"
	sync_ok full
	chattr -i "$SRC/a"
	mv "$SRC/a" "$SRC/b"
	chattr +i "$SRC/b"
	sync_ok incremental
	renamed 1
	chattr -R -i "$SRC" "$DST"
}

# killed_at FUNCTION: the driver is killed when the function has succeeded, with no time to
# put on record what the target has done meanwhile.
killed_at() {
	start_stager incremental
	until "$@" || ! kill -0 "$JOB" 2>/dev/null; do :; done
	kill -STOP "$JOB" 2>/dev/null || true
	sleep 0.3
	kill -9 "$JOB" 2>/dev/null || true
	join_stager
	wait_until 20 no_receivers
}

many_directories() {
	local i

	mkdir -p "$SRC"/d{0..199}/sub
	for ((i = 0; i < 200; i++)); do
		echo "$i" >"$SRC/d$i/f"
		echo "$i" >"$SRC/d$i/sub/g"
	done
	sync_ok full
	sleep 0.05
	sync_ok incremental
}

one_moved() { compgen -G "$DST/e*" >/dev/null; }

@test "a kill after moves that are not on record yet, and all is renamed back" {
	local i

	many_directories
	for ((i = 0; i < 200; i++)); do mv "$SRC/d$i" "$SRC/e$i"; done
	killed_at one_moved
	for ((i = 0; i < 200; i++)); do mv "$SRC/e$i" "$SRC/d$i"; done
	sync_ok incremental
	assert_same "$SRC" "$DST"
}

one_emptied() { [ ! -e "$DST/d0/f" ] || [ ! -e "$DST/d77/f" ] || [ ! -e "$DST/d199/f" ]; }

@test "a kill after removals that are not on record yet, and all comes back" {
	many_directories
	mkdir "$W/away"
	mv "$SRC"/d* "$W/away"
	killed_at one_emptied
	mv "$W"/away/* "$SRC"
	sync_ok incremental
	assert_same "$SRC" "$DST"
}

few_files() {
	mkdir -p "$SRC/a/deep/er" "$SRC/other"
	head -c 100000 /dev/urandom >"$SRC/a/deep/big"
	echo small | tee "$SRC/a/f" >"$SRC/a/deep/er/g"
}

@test "a directory that the target has lost is sent when its parent is compared" {
	few_files
	mkdir "$SRC/b"
	cp -r "$SRC/a" "$SRC/b/a"
	touch "$SRC/gone"
	sync_ok full
	sleep 0.05
	sync_ok incremental
	rm "$SRC/gone"
	exits 25 stager incremental --max-delete 0
	rm -r "$DST/a"
	mv "$DST/b" "$DST/elsewhere"
	echo "no directory" >"$DST/b"
	sync_ok incremental
	assert_same "$SRC" "$DST"
}

@test "what a rule protects under its old name or hides below the new one is not moved" {
	local rules=(--filter='P /a' --filter='P big' --exclude=/new/deep)

	few_files
	cp "$SRC/a/deep/big" "$SRC/big"
	sync_ok full "${rules[@]}"
	mv "$SRC/a" "$SRC/b"
	mv "$SRC/big" "$SRC/large"
	sync_ok incremental "${rules[@]}"
	[ "$(stat_of last entries_moved)" -eq 0 ]
	assert_exists "$DST/a/deep/big"
	assert_exists "$DST/big"
	mv "$SRC/b" "$SRC/new"
	sync_ok incremental "${rules[@]}"
	assert_exists "$DST/new"
	assert_gone "$DST/new/deep"
}

@test "with --path nothing is taken from where it was not asked to look" {
	few_files
	sync_ok full
	mv "$SRC/a/deep" "$SRC/other/deep"
	sync_ok incremental --path other
	assert_exists "$DST/a/deep/big"
	sync_ok incremental
	assert_same "$SRC" "$DST"
	mv "$SRC/other/deep/er" "$SRC/other/er"
	sync_ok incremental --path other
	renamed 1
}

next_to_no_data() {
	[ "$(wire_bytes)" -lt 100000 ] || fail "$(wire_bytes) bytes on the wire"
	assert_same "$SRC" "$DST"
}

@test "files with several names are renamed, one name or all of them, and get more" {
	local i

	mkdir "$SRC/a" "$SRC/b" "$SRC/c"
	for i in 1 2 3 4; do
		head -c 300K /dev/urandom >"$SRC/b/x$i"
	done
	ln "$SRC/b/x1" "$SRC/a/y"
	ln "$SRC/b/x2" "$SRC/a/y2"
	sync_ok full
	mv "$SRC/a/y" "$SRC/a/z"
	mv "$SRC/b/x2" "$SRC/b/z2"
	sync_ok incremental
	renamed 2
	mv "$SRC/a/z" "$SRC/a/q"
	mv "$SRC/b/x1" "$SRC/b/q"
	ln "$SRC/b/x3" "$SRC/a/w"
	ln "$SRC/b/x4" "$SRC/c/w"
	sync_ok incremental
	next_to_no_data
	ln "$SRC/a/q" "$SRC/c/r"
	rm "$SRC/a/q" "$SRC/b/q"
	ln "$SRC/b/x3" "$SRC/b/a"
	printf x | dd of="$SRC/b/a" bs=1 seek=500 conv=notrunc status=none
	sync_ok incremental
	next_to_no_data
}

@test "random renames between the phases" {
	local i

	need_root
	"$TESTS/integration/storm" --renames --make 1 "$SRC"
	sync_ok full
	for i in 2 3 4; do
		"$TESTS/integration/storm" --renames --ops 60 "$i" "$SRC"
		sync_ok incremental
		assert_same "$SRC" "$DST"
		[ "$(stat_of last entries_moved)" -gt 0 ]
	done
}

@test "a kill in the middle of moves loses nothing" {
	local i

	moving_tree
	for i in $(seq 60); do
		mkdir "$SRC/d$i"
		echo "$i" >"$SRC/d$i/f"
	done
	sync_ok full
	for i in $(seq 4); do
		mv "$SRC"/d1 "$SRC/e1" 2>/dev/null || mv "$SRC/e1" "$SRC/d1"
		for d in $(seq 2 60); do
			mv "$SRC/d$d" "$SRC/e$d" 2>/dev/null || mv "$SRC/e$d" "$SRC/d$d"
		done
		start_stager incremental
		sleep "0.$((20 + RANDOM % 20))"
		kill -9 "$JOB" 2>/dev/null || true
		join_stager
		wait_until 20 no_receivers
		sync_ok incremental
		assert_same "$SRC" "$DST"
	done
}
