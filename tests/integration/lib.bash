# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What every integration test stands on: a work directory, a private sshd, a source and a
# target, and assertions about them.  The programs come from an install prefix:
#
#	STAGER_PREFIX   where `cmake --install` put them (bin/stager, ...)
#	STAGER_TEST_DIR where work directories are made, on a disk (default /var/tmp)
#	STAGER_BIG=1    big files at full size (1 GiB)
#
# A test has: $W its work directory, $SRC, $DST, $STATE, $REPORT, and `stager` called with
# what these imply.

bats_require_minimum_version 1.5.0

TESTS=$(cd "$BATS_TEST_DIRNAME/.." && pwd)

# shellcheck source=/dev/null
. "$TESTS/sshd.sh"

# ASan: a leak or an overflow in the program must fail the test, with an exit code that
# stager itself never uses.
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=1:exitcode=99}"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-halt_on_error=1:print_stacktrace=1:exitcode=99}"
unset "${!RSYNC_@}"

it_setup() {
	: "${STAGER_PREFIX:?set STAGER_PREFIX to an install prefix}"
	STAGER=$STAGER_PREFIX/bin/stager
	[ -x "$STAGER" ] || { echo "no program at $STAGER"; return 1; }
	W=$(mktemp -d "${STAGER_TEST_DIR:-/var/tmp}/stager-it.XXXXXX")
	chmod 711 "$W"
	SRC=$W/src DST=$W/dst STATE=$W/state
	REPORT=$STATE/out/rsync_execution.json
	MOUNTS=()
	mkdir "$SRC"
	echo '{}' >"$W/stager.json"
	mkdir "$W/sshd"
	# Descriptor 3 is bats' own: neither sshd nor the look for its port may have it.
	sshd_start "$W/sshd" 3>/dev/null
	# Options of every call; a test may change them.
	ME=$(id -un)
	CONNECT=(--port "$SSHD_PORT" --identity "$SSHD_KEY" --known-hosts "$SSHD_KNOWN_HOSTS")
	OPTS=(--config "$W/stager.json" --source "$SRC" --target "$ME@127.0.0.1:$DST"
		"${CONNECT[@]}" --state-dir "$STATE" --progress none --no-default-excludes)
}

it_teardown() {
	local m

	[ -n "${W:-}" ] || return 0
	sshd_stop || true
	for m in "${MOUNTS[@]}"; do
		umount -l "$m" || true
	done
	chattr -R -f -ia "$W" 2>/dev/null || true
	rm -rf "$W"
}

setup() { it_setup; }
teardown() { it_teardown; }

stager() { "$STAGER" "${OPTS[@]}" "$@"; }

# opt NAME VALUE: give an option of every call another value.
opt() {
	local i

	for i in "${!OPTS[@]}"; do
		[ "${OPTS[i]}" = "$1" ] && OPTS[i + 1]=$2
	done
	return 0
}

# target DIR: the target of the calls to come.
target() {
	DST=$1
	opt --target "$ME@127.0.0.1:$DST"
}

# sync_ok PHASE [OPTION...]: run it, expect success.
sync_ok() {
	local r=0

	stager "$@" >"$W/out" 2>"$W/err" || r=$?
	[ "$r" -eq 0 ] || fail "stager $* ended with $r" "$(cat "$W/out" "$W/err")"
}

# exits CODE COMMAND...: it must end with just that code; its output is in $output.
exits() {
	local want=$1
	shift
	output=$("$@" 2>&1) && status=0 || status=$?
	[ "$status" -eq "$want" ] || fail "'$*' ended with $status, not $want" "$output"
}

says() { # the output of the last `exits` holds the text, whatever the case
	grep -qiF -- "$1" <<<"$output" || fail "nothing says '$1'" "$output"
}

# lacks TEXT: standard input does not hold it.  ("! grep" as a line of a test cannot fail.)
lacks() {
	local found

	found=$(grep -aF -- "$1") || return 0
	fail "'$1' is there:" "$found"
}

fail() {
	printf '%s\n' "$@" >&2
	return 1
}

need_root() { [ "$(id -u)" -eq 0 ] || skip "needs root"; }
need_tool() { command -v "$1" >/dev/null || skip "no $1 here"; }

# use_nobody: the target is one that nobody owns, and its receiver, $NOBODY, runs as nobody.
use_nobody() {
	need_root
	need_tool setpriv
	NOBODY=$W/as-nobody
	cp "$STAGER_PREFIX/libexec/stager/stager-receive" "$W/receiver"
	cat >"$NOBODY" <<-SH
	#!/bin/sh
	exec setpriv --reuid=65534 --regid=65534 --clear-groups "$W/receiver" "\$@"
	SH
	chmod 755 "$NOBODY" "$W/receiver"
	install -d -o 65534 -g 65534 "$W/theirs" "$W/theirs/dst"
	target "$W/theirs/dst"
}

# The oracle of the contract.  More options (filters) go to rsync.  It compares times by the
# second; compare-trees knows the rest.
#
# XFS also shows the attributes that it keeps ACLs in, under names of its own.
rsync_differences() {
	local from=$1 to=$2
	shift 2
	rsync -aHAXxnic --delete --exclude=/.stager --filter='-x trusted.SGI_ACL_*' "$@" "$from/" "$to/"
}

# assert_same SRC DST [RSYNC OPTION...]: rsync finds no difference, and neither does the
# comparison that knows holes and flags (it knows no filters, so only without options).
assert_same() {
	local found

	found=$(rsync_differences "$@" 2>&1) || fail "rsync could not compare" "$found"
	[ -z "$found" ] || fail "rsync finds differences:" "$(head -n 40 <<<"$found")"
	[ $# -eq 2 ] || return 0
	found=$("$TESTS/integration/compare-trees" "$1" "$2" 2>&1) ||
		fail "the trees differ:" "$(head -n 40 <<<"$found")"
}

assert_exists() { [ -e "$1" ] || [ -L "$1" ] || fail "$1 is missing"; }
assert_gone() { { [ ! -e "$1" ] && [ ! -L "$1" ]; } || fail "$1 is still there"; }

# mount_image NAME FSTYPE MIB: a filesystem of its own at $W/NAME, skipped when impossible.
mount_image() {
	local at=$W/$1 type=$2 size=$3 why

	need_root
	mkdir -p "$at"
	if [ "$type" = tmpfs ]; then
		mount -t tmpfs -o "size=${size}m" none "$at" || skip "cannot mount tmpfs here"
	else
		need_tool "mkfs.$type"
		# Of an earlier image signatures would be left, and perhaps a loop device: whoever
		# made a mount namespace meanwhile holds it.
		rm -f "$at.img"
		truncate -s "${size}M" "$at.img"
		if [ "$type" = ext4 ]; then
			mkfs.ext4 -q -F -b 4096 -I 256 "$at.img"
		else
			"mkfs.$type" -q -f "$at.img"
		fi
		why=$(mount -o loop "$at.img" "$at" 2>&1) || skip "cannot mount a $type image here: $why"
	fi
	MOUNTS=("$at" "${MOUNTS[@]}")
	rm -rf "$at/lost+found"
}

# small_tree DIR: some files for tests that are not about what a tree can hold.
small_tree() {
	local i

	mkdir -p "$1/a/b" "$1/c"
	for i in 1 2 3 4 5 6 7 8 9; do
		head -c $((i * 1500)) /dev/urandom >"$1/a/f$i"
		echo "file $i" >"$1/a/b/g$i"
	done
	ln -s a/f1 "$1/link"
	ln "$1/a/f2" "$1/c/hard"
}

# big_tree DIR MIB: random bytes, so that neither zstd nor holes make it quick to send.
big_tree() {
	local i

	mkdir -p "$1/small"
	for ((i = 0; i < $2; i++)); do
		head -c 1M /dev/urandom >"$1/m$i"
	done
	for ((i = 0; i < 300; i++)); do
		head -c 2000 /dev/urandom >"$1/small/s$i"
	done
}

# query FILE EXPRESSION: a Python expression over the JSON document j.
query() {
	python3 -c '
import json, sys
j = json.load(open(sys.argv[1]))
phases = {p["phase"]: p for p in j.get("phases", [])}
v = eval(sys.argv[2])
print(json.dumps(v) if isinstance(v, (dict, list, bool)) or v is None else v)' "$@"
}

# stat_of PHASE NAME: a figure of the report, "last" for the phase reported last.
stat_of() {
	local phase

	phase=$1
	[ "$phase" = last ] && phase=$(query "$REPORT" 'j["phases"][-1]["phase"]')
	query "$REPORT" "phases['$phase']['stats']['$2']"
}

# Bytes of the last phase that travelled, in both directions.
wire_bytes() { echo $(($(stat_of last bytes_wire_out) + $(stat_of last bytes_wire_in))); }

# wait_until SECONDS COMMAND...: until it succeeds.
wait_until() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		# Not left to "set -e", which does not count in a condition.
		[ $SECONDS -lt $end ] || { fail "waited in vain for: $*"; return 1; }
		sleep 0.05
	done
}

# start_stager ARGUMENT...: in the background, with progress as JSON; $JOB is its pid.
start_stager() {
	opt --progress json
	"$STAGER" "${OPTS[@]}" "$@" >"$W/progress" 2>"$W/err" 3>&- &
	JOB=$!
	opt --progress none
}

# End of the background run; its exit code is in $status.
join_stager() {
	status=0
	wait "$JOB" || status=$?
	output=$(cat "$W/err")
}

# progressed BYTES: the background run has told that so many are done; it must not take long
# to see, for the run goes on meanwhile.
progressed() {
	local done

	done=$(grep -ao '"bytes_done":[0-9]*' "$W/progress" | tail -n 1)
	[ "${done#*:}" ] && [ "${done#*:}" -ge "$1" ]
}

# descendants PID: every process below it.
descendants() {
	local child

	for child in $(pgrep -P "$1"); do
		echo "$child"
		descendants "$child"
	done
}

# Receivers that this test's sshd has started.
receivers() {
	local p

	for p in $(descendants "$SSHD_PID"); do
		case $(cat "/proc/$p/comm" 2>/dev/null) in
		stager-receive*) echo "$p" ;;
		esac
	done
}

have_receivers() { [ -n "$(receivers)" ]; }
no_receivers() { [ -z "$(receivers)" ]; }

# What a pass that finds nothing must not touch: change time, inode, everything.
fingerprint() { find "$1" -path "$1/.stager" -prune -o -printf '%p %C@ %T@ %i %s %m\n' | sort; }
