#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Full, incremental and cutover keep everything that a filesystem can hold.

load lib

# three_phases: with changes between them, compared after each.
three_phases() {
	"$TESTS/integration/make-tree" "$SRC" 2>"$W/skipped"
	sync_ok full
	assert_same "$SRC" "$DST"
	[ "$(query "$REPORT" 'j["state"]')" = FULL_SYNCED ]

	"$TESTS/integration/make-tree" --change "$SRC"
	sync_ok incremental
	assert_same "$SRC" "$DST"

	echo last >"$SRC/content/last"
	rm -r "$SRC/many/d5"
	chmod 600 "$SRC/many/d6/f1"
	sync_ok cutover
	assert_same "$SRC" "$DST"
	[ "$(query "$REPORT" 'j["state"]')" = CUTOVER_SYNCED ]
	[ "$(query "$REPORT" '[p["phase"] for p in j["phases"]]')" = \
		'["full_sync", "incremental_sync_1", "cutover_sync"]' ]
}

@test "three phases keep everything on ext4" {
	need_root
	mount_image src ext4 192
	mount_image on ext4 192
	target "$W/on/dst"
	three_phases
}

@test "three phases keep everything on tmpfs" {
	need_root
	mount_image on tmpfs 192
	target "$W/on/dst"
	three_phases
}

@test "three phases keep everything on xfs" {
	need_root
	mount_image src xfs 320
	mount_image on xfs 320
	target "$W/on/dst"
	three_phases
}

@test "paths longer than PATH_MAX are sent, changed and removed" {
	mkdir "$SRC/deep"
	"$TESTS/integration/make-tree" --deep "$SRC/deep"
	sync_ok full
	"$TESTS/integration/compare-trees" "$SRC" "$DST"
	rm -rf "$SRC/deep"
	mkdir "$SRC/deep"
	sync_ok incremental
	"$TESTS/integration/compare-trees" "$SRC" "$DST"
}

@test "run does all phases and their rounds in one call" {
	small_tree "$SRC"
	sync_ok run --rounds 2
	assert_same "$SRC" "$DST"
	[ "$(query "$REPORT" '[p["phase"] for p in j["phases"]]')" = \
		'["full_sync", "incremental_sync_1", "incremental_sync_2", "cutover_sync"]' ]
}

@test "run --rounds 0 stops after the full sync" {
	small_tree "$SRC"
	sync_ok run --rounds 0
	[ "$(query "$REPORT" '[p["phase"] for p in j["phases"]]')" = '["full_sync"]' ]
	[ "$(query "$REPORT" 'j["state"]')" = FULL_SYNCED ]
}

@test "an edit that restores size and mtime is still sent by incremental" {
	small_tree "$SRC"
	sync_ok full
	sleep 0.05
	touch -r "$SRC/a/f3" "$W/stamp"
	printf X | dd of="$SRC/a/f3" bs=1 seek=100 conv=notrunc status=none
	touch -r "$W/stamp" "$SRC/a/f3"
	sync_ok incremental
	assert_same "$SRC" "$DST"
}

@test "an incremental that finds nothing changes nothing on the target" {
	need_root
	"$TESTS/integration/make-tree" "$SRC" 2>/dev/null
	sync_ok full
	sync_ok incremental
	fingerprint "$DST" >"$W/before"
	sync_ok incremental
	fingerprint "$DST" >"$W/after"
	diff "$W/before" "$W/after"
	assert_same "$SRC" "$DST"
}

@test "empty source and one-file source" {
	sync_ok full
	assert_same "$SRC" "$DST"
	echo x >"$SRC/only"
	sync_ok incremental
	assert_same "$SRC" "$DST"
	rm "$SRC/only"
	sync_ok incremental
	assert_same "$SRC" "$DST"
}
