#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What is selected, what is removed, what is kept.

load lib

with_default_excludes() {
	local o keep=()

	for o in "${OPTS[@]}"; do
		[ "$o" = --no-default-excludes ] || keep+=("$o")
	done
	OPTS=("${keep[@]}")
}

@test "the standard list keeps the directories and drops their contents" {
	mkdir -p "$SRC"/{dev,proc,sys,tmp,run,mnt,media,lost+found,etc,var/tmp,boot/efi,home/tmp}
	touch "$SRC"/{dev,proc,sys,tmp,run,mnt,media,lost+found,etc,var/tmp,boot/efi,home/tmp}/x \
		"$SRC/swapfile" "$SRC/etc/fstab"
	with_default_excludes
	sync_ok full
	for d in dev proc sys tmp run mnt media var/tmp boot/efi; do
		[ -d "$DST/$d" ] || fail "$d is missing"
		assert_gone "$DST/$d/x"
	done
	assert_gone "$DST/lost+found"
	assert_gone "$DST/swapfile"
	assert_gone "$DST/etc/fstab"
	assert_exists "$DST/etc/x"
	assert_exists "$DST/home/tmp/x"
}

@test "the first matching rule decides, in the order of the command line" {
	mkdir -p "$SRC/d"
	touch "$SRC/d/keep.log" "$SRC/d/drop.log" "$SRC/d/text"
	sync_ok full --include keep.log --exclude '*.log'
	assert_exists "$DST/d/keep.log"
	assert_gone "$DST/d/drop.log"
	assert_exists "$DST/d/text"

	target "$W/other"
	opt --state-dir "$W/state2"
	sync_ok full --exclude '*.log' --include keep.log
	assert_gone "$DST/d/keep.log"
	assert_gone "$DST/d/drop.log"
}

@test "the same rules select what they select for rsync" {
	local rules=(--include '/a/b/g1' --exclude '/a/b/*' --exclude 'f[2-4]' --include '*/'
		--exclude '**/c/**')

	small_tree "$SRC"
	mkdir -p "$SRC/x/c/y"
	touch "$SRC/x/c/y/z"
	sync_ok full "${rules[@]}"
	mkdir "$W/oracle"
	rsync -aHAX "${rules[@]}" "$SRC/" "$W/oracle/"
	diff <(cd "$W/oracle" && find . | sort) <(cd "$DST" && find . -path ./.stager -prune -o -print | sort)
	assert_same "$SRC" "$DST" "${rules[@]}"
}

@test "--exclude-from and --filter take rsync's rule files" {
	mkdir -p "$SRC/d"
	touch "$SRC/d/a.o" "$SRC/d/a.c" "$SRC/d/core" "$SRC/keep"
	printf '# objects\n\n*.o\n' >"$W/list"
	sync_ok full --exclude-from "$W/list" --filter '- core'
	assert_gone "$DST/d/a.o"
	assert_gone "$DST/d/core"
	assert_exists "$DST/d/a.c"
}

@test "excluded names on the target are never deleted" {
	small_tree "$SRC"
	mkdir -p "$DST/gone/keep" "$DST/a"
	touch "$DST/a/site.conf" "$DST/extra" "$DST/gone/keep/site.conf"
	sync_ok full --exclude site.conf
	assert_exists "$DST/a/site.conf"
	assert_exists "$DST/gone/keep/site.conf"
	assert_gone "$DST/extra"
	rm -r "$SRC/a/b"
	touch "$DST/a/b/site.conf"
	sync_ok incremental --exclude site.conf
	assert_exists "$DST/a/b/site.conf"
	assert_gone "$DST/a/b/g1"
}

@test "a host without a config file needs none" {
	[ ! -e /etc/stager/stager.json ] || skip "there is an /etc/stager/stager.json"
	small_tree "$SRC"
	exits 0 "$STAGER" plan --source "$SRC" --state-dir "$STATE"
	exits 0 "$STAGER" explain a --source "$SRC"
}

@test "plan --list and --list0 show just what full sends, and change nothing" {
	small_tree "$SRC"
	printf x >"$SRC/$(printf 'new\nline')"
	touch "$SRC/a/drop.log"
	fingerprint "$SRC" >"$W/src-before"
	stager plan --exclude '*.log' --list0 2>"$W/err" | tr '\0' '\001' >"$W/list0"
	stager plan --exclude '*.log' --list >"$W/list" 2>"$W/err"
	exits 0 stager plan --exclude '*.log'
	fingerprint "$SRC" | diff "$W/src-before" -
	assert_gone "$DST"

	sync_ok full --exclude '*.log'
	(cd "$DST" && find . -mindepth 1 -path ./.stager -prune -o -mindepth 1 -printf '%P\001') >"$W/sent"
	diff <(tr '\001' '\0' <"$W/list0" | sed -z 's|/$||; /^\.\{0,1\}$/d' | sort -z | tr '\0' '\001') \
		<(tr '\001' '\0' <"$W/sent" | sort -z | tr '\0' '\001')
	grep -qx 'a/f1' "$W/list"
	lacks 'drop.log' <"$W/list"

	fingerprint "$DST" >"$W/dst-before"
	rm "$SRC/a/f1"
	touch "$SRC/a/f99"
	exits 0 stager plan
	fingerprint "$DST" | diff "$W/dst-before" -
}

@test "extra files on the target are removed by full, kept with --no-delete" {
	small_tree "$SRC"
	mkdir -p "$DST/extra/dir"
	touch "$DST/extra/dir/file" "$DST/a-file"
	sync_ok full --no-delete
	assert_exists "$DST/extra/dir/file"
	assert_exists "$DST/a-file"
	rm "$SRC/a/f1"
	sync_ok incremental --no-delete
	assert_exists "$DST/a/f1"
	sync_ok full
	assert_same "$SRC" "$DST"
}

@test "with --no-delete a full directory in the way of a file stays, exit 23" {
	small_tree "$SRC"
	mkdir -p "$DST/link/inside" "$DST/a/f1"
	touch "$DST/link/inside/file"
	exits 23 stager full --no-delete
	says link
	assert_exists "$DST/link/inside/file"
	cmp "$SRC/a/f1" "$DST/a/f1"
}

@test "a tampered target file, size and mtime restored, is put right by a new full" {
	small_tree "$SRC"
	sync_ok full
	touch -r "$DST/a/f5" "$W/stamp"
	printf XYZ | dd of="$DST/a/f5" bs=1 seek=10 conv=notrunc status=none
	touch -r "$W/stamp" "$DST/a/f5"
	chmod 777 "$DST/a/f6"
	rm "$DST/a/f7"
	sync_ok full
	assert_same "$SRC" "$DST"
}

@test "an inode of the target with a link outside of the tree is not written through" {
	need_root
	mkdir "$DST"
	small_tree "$SRC"
	echo "not yours" >"$W/outside"
	ln "$W/outside" "$DST/victim"
	mkdir -p "$W/elsewhere"
	echo keep >"$W/elsewhere/f1"
	ln -s "$W/elsewhere" "$DST/a"
	echo changed >"$SRC/victim"
	sync_ok full
	[ "$(cat "$W/outside")" = "not yours" ]
	[ "$(cat "$W/elsewhere/f1")" = keep ]
	assert_same "$SRC" "$DST"
}

@test "a source directory that cannot be read deletes nothing, exit 23" {
	need_root
	need_tool setpriv
	local as=(setpriv --reuid=65534 --regid=65534 --clear-groups)

	small_tree "$SRC"
	mkdir "$SRC/secret"
	echo s >"$SRC/secret/s"
	sync_ok full
	rm -rf "$STATE"
	install -d -o 65534 -g 65534 "$STATE"
	install -o 65534 -m 600 "$SSHD_KEY" "$W/key"
	install -m 644 "$SSHD_KNOWN_HOSTS" "$W/known"
	opt --identity "$W/key"
	opt --known-hosts "$W/known"
	chmod 700 "$SRC/secret"
	rm "$SRC/a/f9"
	"${as[@]}" test -x "$STAGER" || skip "the prefix cannot be reached by another user"
	exits 23 "${as[@]}" "$STAGER" "${OPTS[@]}" full
	says secret
	assert_exists "$DST/secret/s"
	assert_exists "$DST/a/f9"
	query "$REPORT" 'j["phases"][-1]' | grep -q secret ||
		query "$REPORT" 'j["errors"]' | grep -q secret
}
