#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What is deleted on the target, how much of it, and what never is.

load lib

extras() { # COUNT: that many files which only the target has
	local i

	mkdir -p "$DST/extra/sub"
	for ((i = 0; i < $1; i++)); do
		touch "$DST/extra/sub/e$i"
	done
}

count_extras() { find "$DST/extra" -mindepth 2 -type f | wc -l; }

@test "--max-delete N deletes no more than N, says how many are left, exit 25" {
	small_tree "$SRC"
	mkdir "$DST"
	extras 10
	exits 25 stager full --max-delete 4
	says "max-delete 4"
	says "8 more entries"
	[ "$(count_extras)" -eq 6 ]
	[ "$(stat_of last entries_deleted)" -eq 4 ]
	query "$REPORT" 'j["phases"][-1]["paths"][0]["sync"]["warning"]' | grep -q 'max-delete'
	[ "$(query "$REPORT" 'j["phases"][-1]["paths"][0]["sync"]["return_code"]')" = 25 ]
	assert_same "$SRC" "$DST" --exclude=/extra

	# The next phase goes on with what was left, though no full sync looks again.
	exits 25 stager incremental --max-delete 4
	[ "$(count_extras)" -eq 2 ]
	sync_ok incremental --max-delete 4
	assert_same "$SRC" "$DST"
	sync_ok incremental --max-delete 0
}

@test "--max-delete 0 deletes nothing, but counts" {
	small_tree "$SRC"
	sync_ok full
	rm -r "$SRC/a/b" "$SRC/c/hard"
	exits 25 stager incremental --max-delete 0
	says "11 more entries"
	assert_exists "$DST/a/b/g9"
	assert_exists "$DST/c/hard"
	[ "$(stat_of last entries_deleted)" -eq 0 ]
	sync_ok incremental
	assert_same "$SRC" "$DST"
}

@test "what a full with --no-delete left goes in the first phase without it" {
	small_tree "$SRC"
	mkdir -p "$DST/a"
	extras 3
	touch "$DST/a/extra"
	sync_ok full --no-delete
	sync_ok incremental --no-delete
	sync_ok incremental --path c
	assert_exists "$DST/a/extra"
	[ "$(count_extras)" -eq 3 ]
	sync_ok cutover
	assert_same "$SRC" "$DST"
	sync_ok incremental
	lacks "is compared" <"$W/err"
}

@test "max_delete of the configuration, and a limit that suffices" {
	small_tree "$SRC"
	sync_ok full
	rm "$SRC/a/f1" "$SRC/a/f3"
	echo '{ "max_delete": 1 }' >"$W/stager.json"
	exits 25 stager cutover
	sync_ok cutover --max-delete none
	assert_same "$SRC" "$DST"
	rm "$SRC/a/f4"
	sync_ok incremental
	assert_same "$SRC" "$DST"
	exits 1 stager full --max-delete -1
	says "max-delete"
}

@test "a directory that was left and comes back is compared, not believed" {
	small_tree "$SRC"
	sync_ok full
	mv "$SRC/a/b" "$W/aside"
	exits 25 stager incremental --max-delete 3
	[ "$(find "$DST/a/b" -type f | wc -l)" -eq 6 ]
	mv "$W/aside" "$SRC/a/b"
	touch "$DST/a/b/stray"
	sync_ok incremental
	assert_same "$SRC" "$DST"
}

@test "plan --list-deletes prints what an incremental then deletes, and no more" {
	small_tree "$SRC"
	exits 0 stager plan --list-deletes
	says "when the target has been listed"
	sync_ok full
	touch "$SRC/a/b/keep"
	sync_ok incremental
	rm -r "$SRC/a/b" "$SRC/link" "$SRC/a/f1"
	mkdir "$SRC/link"
	(cd "$DST" && find . -mindepth 1 -printf '%P\n' | sort) >"$W/before"
	stager plan --list-deletes --exclude keep 2>"$W/err" >"$W/list"
	# A name that something else takes is no deletion.
	printf 'deleting a/b/g%d\n' 1 2 3 4 5 6 7 8 9 >"$W/want"
	echo 'deleting a/f1' >>"$W/want"
	diff <(sort "$W/want") <(sort "$W/list")
	exits 0 stager plan --exclude keep
	says "to be deleted    10 entries"
	exits 0 stager plan --exclude keep --max-delete 3
	says "at most 3"
	sync_ok incremental --exclude keep
	[ "$(stat_of last entries_deleted)" -eq 10 ]
	assert_exists "$DST/a/b/keep"
	stager plan --list-deletes >"$W/list" 2>"$W/err"
	exits 1 stager plan --list --list-deletes
}

@test "--list-deletes: a directory comes after its content, odd names stay one line" {
	mkdir -p "$SRC/d/e"
	touch "$SRC/d/e/$(printf 'new\nline')" "$SRC/f"
	sync_ok full
	rm -r "$SRC/d"
	stager plan --list-deletes >"$W/list" 2>"$W/err"
	diff "$W/list" - <<-'LIST'
	deleting d/e/new\x0aline
	deleting d/e/
	deleting d/
	LIST
}

@test "a mount point on the target is never crossed, and what is mounted stays" {
	need_root
	small_tree "$SRC"
	mkdir -p "$DST/gone/deep"
	mount_image dst/gone/deep/mnt tmpfs 8
	touch "$DST/gone/file" "$DST/gone/deep/mnt/data"
	mount_image dst/top tmpfs 8
	touch "$DST/top/data"
	mkdir "$W/other" "$DST/bind"
	touch "$W/other/data"
	mount --bind "$W/other" "$DST/bind"
	MOUNTS=("$DST/bind" "${MOUNTS[@]}")
	sync_ok full
	assert_exists "$DST/gone/deep/mnt/data"
	assert_exists "$DST/top/data"
	assert_exists "$W/other/data"
	assert_gone "$DST/gone/file"
	assert_same "$SRC" "$DST" --exclude=/gone --exclude=/top --exclude=/bind
	sync_ok full
	assert_exists "$DST/top/data"
	assert_exists "$W/other/data"
}

@test "a directory of the source that is a mount on the target: written into, its own mounts stay" {
	need_root
	small_tree "$SRC"
	rm "$SRC/c/hard" # no link can cross it
	mkdir "$DST"
	mount_image dst/a tmpfs 8
	touch "$DST/a/extra"
	sync_ok full
	mountpoint -q "$DST/a"
	assert_gone "$DST/a/extra"
	rm -r "$SRC/a"
	sync_ok incremental
	mountpoint -q "$DST/a"
}

@test "protected names stay with --max-delete too, and cost nothing of it" {
	small_tree "$SRC"
	mkdir "$DST"
	extras 3
	touch "$DST/extra/sub/x.conf"
	sync_ok full --max-delete 3 --exclude '*.conf'
	[ "$(count_extras)" -eq 1 ]
	assert_exists "$DST/extra/sub/x.conf"
}
