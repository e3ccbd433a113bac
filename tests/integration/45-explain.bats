#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# explain: what becomes of a path in each phase, and rules that cannot do what they say.

load lib

# line PHASE SIDE TEXT: the output of the last `exits` has this line.
line() {
	local want
	want=$(printf '  %-11s  %s: %s' "$1" "$2" "$3")
	grep -qxF -- "$want" <<<"$output" || fail "no line '$want'" "$output"
}

@test "a path is explained for each phase, with the rule, its file and its line" {
	small_tree "$SRC"
	touch "$SRC/a/x.log"
	printf '# logs\n*.log\n' >"$W/list"
	exits 0 stager explain a/x.log a/f1 --exclude-from "$W/list"
	grep -qx 'a/x.log: regular file' <<<"$output"
	for p in full incremental cutover; do
		line "$p" source "hidden by \"*.log\" ($W/list:2)"
		line "$p" target "protected by \"*.log\" ($W/list:2)"
		line "$p" source "sent, no rule matches"
		line "$p" target "deleted when only the target has it, no rule protects it"
	done
	assert_gone "$STATE"
	assert_gone "$DST"
}

@test "an absolute path, a directory above that decides, and what is not there" {
	small_tree "$SRC"
	exits 0 stager explain "$SRC/a/b/g1" --exclude /a/b/
	grep -qx 'a/b/g1: regular file' <<<"$output"
	line full source 'hidden: the directory a/b is not entered, by "/a/b/" (command line)'
	line full target 'protected: the directory a/b stays as it is, by "/a/b/" (command line)'
	exits 0 stager explain nothing/here link/below
	says "nothing/here: not on the source"
	says "link/below: not on the source: link is no directory"
	exits 0 stager explain .stager/x "$SRC"
	says "the product's own"
}

@test "what the source has keeps its directory, so protecting that alone keeps nothing in it" {
	mkdir "$SRC/d"
	exits 0 stager explain d/extra gone/extra --filter 'P d/' --filter 'P gone/'
	line full target 'deleted when only the target has it, no rule protects it'
	line full target 'protected: the directory gone stays as it is, by "P gone/" (command line)'
	mkdir -p "$DST/d" "$DST/gone"
	touch "$DST/d/extra" "$DST/gone/extra"
	sync_ok full --filter 'P d/' --filter 'P gone/'
	assert_gone "$DST/d/extra"
	assert_exists "$DST/gone/extra"
}

@test "a mount point that is not entered, and --path" {
	need_root
	mkdir -p "$SRC/a"
	mount_image src/mnt tmpfs 8
	touch "$SRC/mnt/x" "$SRC/a/y"
	exits 0 stager explain mnt mnt/x
	line full source "sent, no rule matches; what is mounted on it is not"
	line full source "not sent: the mount point mnt is not entered"
	line full target "kept: nothing is deleted below the mount point mnt"
	exits 0 stager explain b/y --path a
	line full source "not sent: it lies below no --path"
	line full target "kept: it lies below no --path"
}

@test "a path outside of the source: exit 3; none at all: exit 1" {
	exits 3 stager explain ../x
	says ".."
	exits 3 stager explain /etc/passwd
	says "$SRC"
	exits 3 stager explain ''
	exits 1 stager explain
	says "--lint"
	exits 1 stager explain --lnit
	says "--lint"
}

@test "rules of single phases come first in their phase, and explain says so" {
	small_tree "$SRC"
	cat >"$W/stager.json" <<-'JSON'
	{ "exclude": "*.log",
	  "phases": { "full": { "exclude": ["/a/b/"] },
	              "cutover": { "filter": "+ keep.log" } } }
	JSON
	exits 0 stager explain a/b/g1 c/keep.log
	line full source "hidden: the directory a/b is not entered, by \"/a/b/\" ($W/stager.json: line 2)"
	line incremental source "sent, no rule matches"
	line incremental source "hidden by \"*.log\" ($W/stager.json: line 1)" ||
		line incremental source "would be sent, no rule matches"
	line cutover source "would be sent, by \"+ keep.log\" ($W/stager.json: line 3)"
}

@test "what one phase hides and another one sends is protected, and brought up to date" {
	small_tree "$SRC"
	echo '{ "phases": { "incremental": { "exclude": "/a/" } } }' >"$W/stager.json"
	sync_ok full
	assert_same "$SRC" "$DST"
	rm "$SRC/a/f1"
	echo new >"$SRC/a/f2"
	echo new >"$SRC/c/n"
	sync_ok incremental
	assert_exists "$DST/a/f1"
	cmp "$SRC/c/n" "$DST/c/n"
	sync_ok cutover
	assert_same "$SRC" "$DST"
}

@test "a directory that the full sync hid is compared when a later phase sees it" {
	small_tree "$SRC"
	mkdir -p "$DST/a/b"
	touch "$DST/a/extra" "$DST/a/b/extra"
	echo '{ "phases": { "full": { "exclude": "/a/" } } }' >"$W/stager.json"
	sync_ok full
	assert_exists "$DST/a/extra"
	assert_gone "$DST/a/f1"
	sync_ok incremental
	assert_same "$SRC" "$DST"
}

@test "exclude rules on standard input serve all phases" {
	small_tree "$SRC"
	echo '{ "phases": { "full": { "include": "x" } } }' >"$W/stager.json"
	exits 0 stager explain a/f1 --exclude-from - <<<'f1'
	[ "$(grep -c 'source: hidden by "f1" (-:1)' <<<"$output")" -eq 3 ]
}

@test "-C rules read ~/.cvsignore and CVSIGNORE" {
	mkdir "$W/home"
	echo '*.mine' >"$W/home/.cvsignore"
	touch "$SRC/x.mine" "$SRC/y.env" "$SRC/z.o" "$SRC/c"
	HOME=$W/home CVSIGNORE='*.env' exits 0 stager plan --list --filter=-C
	grep -qx c <<<"$output"
	lacks x.mine <<<"$output"
	lacks y.env <<<"$output"
	lacks z.o <<<"$output"
}

@test "--lint names the include that cannot be reached and the rule that never decides" {
	mkdir -p "$SRC/x/y"
	touch "$SRC/x/y/bar" "$SRC/foo"
	exits 1 stager explain --lint --filter '+ x/y/bar' --filter '- *' --filter '- foo'
	says 'command line: "+ x/y/bar"'
	says "cannot be reached: the directory x is hidden by command line: \"- *\""
	says 'command line: "- foo"'
	says "never decides"
	exits 0 stager explain --lint --filter '+ /x/' --filter '+ /x/y/' --filter '+ /x/y/bar' --filter '- *'
	says "no findings"
	exits 1 stager explain --lint --exclude foo --include foo
	says "never decides"
	exits 1 stager explain --lint --exclude /x --include /x/y/bar
	says "cannot be reached: the directory x"
}

@test "--lint keeps silent about what may still decide" {
	mkdir -p "$SRC/x/y" "$SRC/z"
	touch "$SRC/x/y/bar" "$SRC/z/bar" "$SRC/foo" "$SRC/a.o"
	exits 0 stager explain --lint --filter '+ x/y/bar' --filter '- bar'
	exits 0 stager explain --lint --filter '- z/' --filter '+ bar'
	lacks "never decides" <<<"$output"
	exits 0 stager explain --lint --filter 'P *.o' --filter '- *.o'
	exits 0 stager explain --lint --filter 'H *' --filter 'P *'
}

@test "--lint names rules that match nothing, unless another phase needs them" {
	small_tree "$SRC"
	exits 1 stager explain --lint --exclude /no/such --exclude '*.tmp' --exclude f1
	says '"/no/such"'
	says '"*.tmp"'
	says "matches nothing"
	lacks '"f1"' <<<"$output"
	cat >"$W/stager.json" <<-'JSON'
	{ "exclude": "f1", "phases": { "full": { "exclude": "/a/" }, "cutover": { "include": "never" } } }
	JSON
	exits 1 stager explain --lint
	lacks '"f1"' <<<"$output"
	says '"never" (cutover)'
}

@test "--lint warns of what a running target would lose, and only there" {
	small_tree "$SRC"
	exits 0 stager explain --lint
	opt --target root@127.0.0.1:/
	exits 1 stager explain --lint
	for p in /boot /etc/fstab /etc/ssh/ssh_host /lib/modules /root/.ssh/authorized_keys \
		/etc/network; do
		says "$p"
	done
	exits 1 stager explain --lint --filter 'P /boot/***' --filter 'P /etc/***'
	lacks "/boot/vmlinuz" <<<"$output"
	lacks "/etc/fstab" <<<"$output"
	exits 0 stager explain --lint --no-delete
	mkdir "$SRC/etc"
	touch "$SRC/etc/fstab"
	exits 1 stager explain --lint --no-delete
	says "replaced by the source's"
}

@test "--lint over a source that cannot be read in full says so, exit 23" {
	need_root
	need_tool setpriv
	small_tree "$SRC"
	mkdir -m 700 "$SRC/secret"
	setpriv --reuid=65534 --regid=65534 --clear-groups test -x "$STAGER" ||
		skip "the prefix cannot be reached by another user"
	exits 23 setpriv --reuid=65534 --regid=65534 --clear-groups \
		"$STAGER" "${OPTS[@]}" explain --lint --exclude /no/such
	says secret
	lacks "/no/such" <<<"$(grep -v '^error' <<<"$output")"
}

@test "mistakes in phases are named with their place" {
	local row

	while IFS='|' read -r text want; do
		echo "$text" >"$W/stager.json"
		exits 1 stager explain a
		says "$want"
		says "line 1"
	done <<-'ROWS'
	{"phases": []}|phases: expected an object, found an array
	{"phases": {"ful": {}}}|unknown phase 'ful', did you mean 'full'
	{"phases": {"full": []}}|full: expected an object
	{"phases": {"full": {"exlude": "x"}}}|unknown key of a phase 'exlude', did you mean 'exclude'
	{"phases": {"full": {"bwlimit": "20M"}}}|unknown key of a phase 'bwlimit'
	{"phases": {"full": {"exclude": [1]}}}|expected a string
	{"phases": {"full": {"exclude": ""}}}|the value is empty
	ROWS
}
