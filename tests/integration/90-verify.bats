#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Verification: every way in which the target can differ is named, put right by --repair, and
# nothing else is touched.

load lib

result() { query "$REPORT" "j['verification']['$1']"; }

# found PATH: what the report says of it, as "cause: what what".
found() {
	query "$REPORT" "next((d['cause'] + ': ' + ' '.join(d['what'])
		for d in j['verification']['differences'] if d['path'] == sys.argv[3]), 'nothing')" "$1"
}

# One of each kind, with all that an entry can have.
whole_tree() {
	local d=$1

	mkdir -p "$d/dir/sub" "$d/names" "$d/calm/sub"
	head -c 300000 /dev/urandom >"$d/big"
	echo small >"$d/small"
	: >"$d/empty"
	: >"$d/empty2"
	echo "in dir" >"$d/dir/f"
	echo deep >"$d/dir/sub/g"
	ln -s small "$d/link"
	mkfifo "$d/pipe"
	mknod "$d/node" c 1 3
	echo linked >"$d/one"
	ln "$d/one" "$d/dir/two"
	ln "$d/one" "$d/three"
	echo group >"$d/p1"
	ln "$d/p1" "$d/p2"
	echo group >"$d/q1"
	touch -r "$d/p1" "$d/q1"
	ln "$d/q1" "$d/q2"
	truncate -s 4M "$d/sparse"
	printf x | dd of="$d/sparse" bs=1 seek=2M conv=notrunc status=none
	setfattr -n user.color -v red "$d/small"
	setfacl -m u:12345:r "$d/dir/f"
	cp /bin/true "$d/capable"
	setcap cap_net_raw+ep "$d/capable"
	echo fixed >"$d/immutable"
	printf 'odd' >"$d/names/$(printf 'n\xff')"
}

setup_tree() {
	need_root
	need_tool setfattr
	need_tool setfacl
	need_tool setcap
	whole_tree "$SRC"
	chattr +i "$SRC/immutable" || skip "no inode flags here"
	sync_ok full
}

@test "verify: needs a full sync, and the lock" {
	small_tree "$SRC"
	exits 40 stager verify
	says "stager full"
	sync_ok full
	(
		flock -n 9
		exits 44 stager verify
	) 9<"$STATE/lock"
	exits 40 stager verify --only-inconsistent
	says "no verification"
	exits 1 stager verify --method checksum
	says "quick, hash"
	exits 1 stager full --repair
}

@test "verify: a clean tree is consistent, by both methods, and nothing is touched" {
	setup_tree
	find "$DST" >/dev/null # so that find does not change the times that it then prints
	find "$DST" -printf '%p %C@ %A@ %T@ %i\n' | sort >"$W/before"
	for method in quick hash; do
		exits 0 stager verify --method $method
		says "0 differ on the target"
		[ "$(result result)" = consistent ]
		[ "$(result differences_total)" -eq 0 ]
		[ "$(result entries_checked)" -eq "$(find "$SRC" | wc -l)" ]
	done
	[ "$(result files_hashed)" -eq "$(find "$SRC" -type f | wc -l)" ]
	find "$DST" -printf '%p %C@ %A@ %T@ %i\n' | sort >"$W/after"
	# readlink(2) counts as an access, and there is no way to ask it not to.
	diff <(grep -av /link "$W/before") <(grep -av /link "$W/after")
	"$TESTS/integration/validate-report" "$REPORT"
	grep -q '"event":"verify_started"' "$STATE/audit.log"
	grep -q '"event":"verify_finished"' "$STATE/audit.log"
}

# tamper: change the target in every way, keeping size and times where that hides it.
tamper() {
	local t=$DST

	cp -p "$t/big" "$W/big.ref"
	printf Z | dd of="$t/big" bs=1 seek=1000 conv=notrunc status=none
	touch -r "$W/big.ref" "$t/big"
	chmod 600 "$t/small"
	chown 7:8 "$t/dir/sub/g"
	touch -d 2001-01-01 "$t/empty"
	setfattr -n user.color -v blue "$t/capable"
	setfattr -x user.color "$t/small"
	setfacl -m u:12345:rw "$t/dir/f"
	setcap cap_net_admin+ep "$t/capable"
	# one of three names becomes an inode of its own
	cp -p "$t/one" "$W/copy"
	rm "$t/three"
	cp -p "$W/copy" "$t/three"
	# two groups of two, joined the other way round
	rm "$t/p2" "$t/q2"
	ln "$t/p1" "$t/q2"
	ln "$t/q1" "$t/p2"
	cp --sparse=never -p "$t/sparse" "$W/dense"
	cat "$W/dense" >"$t/sparse"
	touch -r "$W/dense" "$t/sparse"
	rm "$t/dir/sub/g"
	ln -sfn elsewhere "$t/link"
	rm "$t/pipe"
	mknod "$t/pipe" c 1 5
	rm "$t/node"
	mknod "$t/node" c 1 5
	chattr -i "$t/immutable"
	echo extra >"$t/dir/sub/extra"
	mkdir -p "$t/extradir/x"
	rm "$t/names/"*
	rm "$t/empty2"
	mkdir -p "$t/empty2/full"
	chmod 700 "$t/names"
}

@test "verify --method hash: each kind of tampering is named, exit 43; --repair puts all right" {
	setup_tree
	tamper
	exits 43 stager verify --method hash
	says "differs on the target"
	"$TESTS/integration/validate-report" "$REPORT"
	[ "$(result result)" = differences ]
	while read -r path what; do
		[ "$(found "$path")" = "differs-on-target: $what" ] ||
			fail "$path: $(found "$path"), not $what"
	done <<-'LIST'
	big content
	small mode xattrs
	dir/f mode acl
	empty mtime
	capable capability xattrs
	three links
	sparse holes
	dir/sub/g missing
	pipe type
	node rdev mtime
	immutable flags
	dir/sub/extra extra
	extradir extra
	names/n\xff missing
	empty2 type
	LIST
	found link | grep -q target
	found names | grep -q mode
	# One of each pair is in the wrong group.
	[ "$(found p2)$(found q2)" = "differs-on-target: linksdiffers-on-target: links" ]
	[ "$(query "$REPORT" "[d for d in j['verification']['differences'] if d['path']=='small'][0]['target']['mode']")" = 0600 ]
	query "$REPORT" "[d['path_base64'] for d in j['verification']['differences'] if 'path_base64' in d]" | grep -q "$(printf 'names/n\xff' | base64)"
	exits 0 stager report
	says "dir/sub/extra"

	exits 43 stager verify --method quick
	[ "$(result changed_on_source_total)" -eq 0 ] || fail "$output"
	[ "$(found big)" = nothing ]
	[ "$(found sparse)" = nothing ]
	[ "$(found three)" = "differs-on-target: links" ]

	exits 0 stager verify --method hash --repair
	says "put right"
	[ "$(result result)" = repaired ]
	[ "$(result differences_total)" -eq 0 ]
	[ "$(result repaired_total)" -ge 17 ]
	"$TESTS/integration/validate-report" "$REPORT"
	assert_same "$SRC" "$DST"
	[ "$(stat -c %h "$DST/one")" -eq 3 ]
	exits 0 stager verify --method hash
}

@test "verify: what it found is sent by the next phase, without --repair" {
	setup_tree
	tamper
	exits 43 stager verify --method hash
	sync_ok incremental
	assert_same "$SRC" "$DST"
	exits 0 stager verify --method hash
}

@test "verify --only-inconsistent looks just at what was found" {
	setup_tree
	tamper
	exits 43 stager verify --method hash
	n=$(result differences_total)
	# Put right by hand: one less.  New damage elsewhere is not looked for.
	chmod --reference="$SRC/small" "$DST/small"
	setfattr -n user.color -v red "$DST/small"
	rm -r "$DST/extradir"
	chmod 4711 "$DST/calm/sub"
	exits 43 stager verify --only-inconsistent
	[ "$(result only_inconsistent)" = true ]
	[ "$(result method)" = hash ]
	[ "$(found calm/sub)" = nothing ]
	[ "$(result differences_total)" -eq $((n - 2)) ] || fail "$n, then $(result differences_total)"
	exits 0 stager verify --only-inconsistent --repair
	exits 0 stager verify --only-inconsistent
	[ "$(result entries_checked)" -eq 0 ]
	exits 43 stager verify
	[ "$(found calm/sub)" = "differs-on-target: mode" ]
}

@test "verify: include and exclude paths, at most 30 of them" {
	setup_tree
	chmod 600 "$DST/small"
	chmod 600 "$DST/dir/f"
	chmod 600 "$DST/dir/sub/g"
	touch "$DST/stray" "$DST/dir/sub/stray"
	exits 43 stager verify --verify-include dir
	[ "$(result differences_total)" -eq 4 ] || fail "$(query "$REPORT" "j['verification']['differences']")"
	[ "$(found small)" = nothing ]
	[ "$(query "$REPORT" "j['verification']['include'][0]['entries']")" -eq 5 ]
	exits 43 stager verify --verify-include "$SRC/dir/f,small" --verify-exclude names
	[ "$(result differences_total)" -eq 2 ]
	[ "$(result entries_checked)" -eq 2 ]
	exits 43 stager verify --verify-exclude small,stray --verify-exclude dir/sub
	[ "$(found dir/sub/g)" = nothing ]
	[ "$(found dir/f)" = "differs-on-target: mode acl" ] || fail "$(found dir/f)"
	exits 23 stager verify --verify-include nowhere
	says "nowhere"
	says "0 entries"
	[ "$(query "$REPORT" "j['verification']['include'][0]['entries']")" -eq 0 ]
	# The repair keeps to the same paths.
	exits 0 stager verify --verify-include dir --repair
	[ "$(stat -c %a "$DST/small")" = 600 ]
	assert_exists "$DST/stray"
	assert_gone "$DST/dir/sub/stray"
	exits 0 stager verify --verify-exclude stray,small
	printf -v many 'p%d,' {1..31}
	exits 1 stager verify --verify-exclude "$many"
	says "31 paths"
	says "30"
	exits 1 stager verify --verify-exclude ../x
	echo '{ "verify_exclude": ["small", "stray"], "method": "hash" }' >"$W/stager.json"
	exits 0 stager verify
	[ "$(result method)" = hash ]
	"$TESTS/integration/validate-report" "$REPORT"
}

@test "verify: what changed on the source since the last phase is told apart" {
	setup_tree
	echo more >>"$SRC/small"
	echo new >"$SRC/dir/new"
	rm "$SRC/dir/sub/g"
	chmod 600 "$DST/big"
	exits 43 stager verify --method hash
	found small | grep -q '^changed-on-source: size'
	[ "$(found dir/new)" = "changed-on-source: missing" ]
	[ "$(found dir/sub/g)" = "changed-on-source: extra" ]
	[ "$(found big)" = "differs-on-target: mode" ]
	[ "$(result defects_total)" -eq 1 ]
	sync_ok incremental
	exits 0 stager verify --method hash
	assert_same "$SRC" "$DST"
}

@test "verify: files in use are skipped in hash mode, and listed" {
	setup_tree
	cp -p "$DST/small" "$W/ref"
	exec 7>>"$SRC/small"
	echo SMALL | dd of="$DST/small" conv=notrunc status=none
	touch -r "$W/ref" "$DST/small"
	chmod 600 "$DST/small"
	exits 43 stager verify --method hash
	[ "$(result skipped_in_use_total)" -eq 1 ]
	[ "$(query "$REPORT" "j['verification']['skipped_in_use'][0]['path']")" = small ]
	# Its metadata counts all the same.
	[ "$(found small)" = "differs-on-target: mode" ]
	exec 7>&-
	exits 43 stager verify --method hash
	[ "$(found small)" = "differs-on-target: content mode" ] || fail "$(found small)"
	exits 0 stager verify --method hash --repair
	assert_same "$SRC" "$DST"
}

@test "verify: filters, protected names, --no-delete, our own directory" {
	small_tree "$SRC"
	touch "$SRC/x.tmp"
	sync_ok full --exclude '*.tmp'
	mkdir -p "$DST/.stager"
	touch "$DST/other.tmp" "$DST/a/keep.tmp" "$DST/a/extra" "$DST/.stager/x"
	exits 43 stager verify --exclude '*.tmp'
	[ "$(found a/extra)" = "differs-on-target: extra" ]
	[ "$(found a)" = "differs-on-target: mtime" ]
	[ "$(result differences_total)" -le 3 ] || fail "$(query "$REPORT" "j['verification']['differences']")"
	touch -r "$SRC/a" "$DST/a"
	touch -r "$SRC" "$DST"
	exits 0 stager verify --exclude '*.tmp' --no-delete
}

@test "verify: a quick one reads no content, a broken connection is got over" {
	big_tree "$SRC" 24
	sync_ok full
	exits 0 stager verify
	[ "$(result bytes_hashed)" -eq 0 ]
	start_stager verify --method hash --bwlimit 20K
	wait_until 20 have_receivers
	kill -9 $(receivers | head -n 1)
	join_stager
	[ "$status" -eq 0 ] || fail "$status" "$output"
	[ "$(result files_hashed)" -ge 324 ]
	grep -q '"phase":"verification"' "$W/progress"
}

@test "verify: stopped by a signal, the report says so" {
	big_tree "$SRC" 30
	sync_ok full
	start_stager verify --method hash --bwlimit 2K
	wait_until 20 have_receivers
	kill -TERM "$JOB"
	join_stager
	[ "$status" -eq 20 ] || fail "$status" "$output"
	[ "$(result result)" = interrupted ]
	"$TESTS/integration/validate-report" "$REPORT"
	exits 40 stager verify --only-inconsistent
}

@test "verify: a big file is compared on both sides at once, a store through a mapping is found" {
	need_tool python3
	head -c 12M /dev/urandom >"$SRC/a"
	cp "$SRC/a" "$SRC/b"
	sync_ok full
	exits 0 stager verify --method hash
	[ "$(result files_hashed)" -eq 2 ]
	[ "$(result entries_checked)" -eq 3 ]
	# The target is changed in one, the source in the other, and no time tells of it.
	for f in "$DST/a" "$SRC/b"; do
		cp -p "$f" "$W/ref"
		printf Z | dd of="$f" bs=1 seek=5000000 conv=notrunc status=none
		touch -r "$W/ref" "$f"
	done
	exits 43 stager verify --method hash
	[ "$(found a)" = "differs-on-target: content" ]
	[ "$(found b)" = "changed-on-source: content" ]
	[ "$(result entries_checked)" -eq 3 ]
	exits 0 stager verify --method hash --repair
	cmp "$SRC/a" "$DST/a"
	cmp "$SRC/b" "$DST/b"
}

@test "verify: without root on the target owners are not compared, and the report says so" {
	use_nobody
	small_tree "$SRC"
	sync_ok full --remote-receiver "$NOBODY"
	exits 0 stager verify --method hash --remote-receiver "$NOBODY"
	[ "$(result not_compared)" = '["owner", "group"]' ]
	"$TESTS/integration/validate-report" "$REPORT"
	chmod 600 "$DST/a/f1"
	exits 43 stager verify --remote-receiver "$NOBODY"
	[ "$(found a/f1)" = "differs-on-target: mode" ]
	# And root looks at all of it.
	exits 43 stager verify
	found a/f2 | grep -q 'owner group'
}

@test "verify: a whole directory that is gone, and an emptied target" {
	need_root
	small_tree "$SRC"
	head -c 200000 /dev/urandom >"$SRC/a/b/large"
	mkdir -p "$SRC/a/b/empty/deep"
	ln "$SRC/a/f1" "$SRC/a/b/link"
	sync_ok full
	rm -r "$DST/a/b"
	echo file >"$DST/a/b"
	# Twice, as the first one leaves its marks.
	for i in 1 2; do
		exits 43 stager verify --method hash
		[ "$(found a/b)" = "differs-on-target: type" ]
		[ "$(found a/b/empty/deep)" = "differs-on-target: missing" ]
		[ "$(found a/b/large)" = "differs-on-target: missing" ]
		[ "$(result changed_on_source_total)" -eq 0 ]
	done
	exits 0 stager verify --method hash --repair
	assert_same "$SRC" "$DST"
	find "$DST" -mindepth 1 -delete
	exits 43 stager verify
	[ "$(result changed_on_source_total)" -eq 0 ]
	# Its file system may just not be mounted.
	exits 40 stager verify --repair
	says "is its file system mounted"
	rmdir "$DST"
	exits 11 stager verify
	assert_gone "$DST"
}
