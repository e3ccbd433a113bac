#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What is refused or cannot go on: one clear message, the right exit code, nothing changed.

load lib

# What the target must not lose by a refusal.
target_stands() {
	small_tree "$SRC"
	sync_ok full
	fingerprint "$DST" >"$W/before"
}

unchanged() { fingerprint "$DST" | diff "$W/before" - || fail "the target was changed"; }

one_error() { # the last output has one line that says error
	[ "$(grep -c '^error: ' <<<"$output")" -eq 1 ] || fail "not one error" "$output"
}

@test "a state directory of another target, of another source: exit 40" {
	target_stands
	mkdir "$W/src2"
	exits 40 stager incremental --target "$ME@127.0.0.1:$W/dst2"
	says "another target"
	says "$W/dst2"
	says "--state-dir"
	one_error
	assert_gone "$W/dst2"
	exits 40 stager full --source "$W/src2"
	says "another source"
	one_error
	unchanged
}

@test "a target that was mistyped and never answered is no target: the right one is taken" {
	small_tree "$SRC"
	mkdir "$W/wrong"
	exits 10 stager full --target "$ME@no-such-host.invalid:$DST"
	exits 40 stager incremental --source "$W/wrong"
	sync_ok full
	assert_same "$SRC" "$DST"
	exits 40 stager full --target "$ME@no-such-host.invalid:$DST"
	says "another target"
}

@test "a source root that is not mounted any more: exit 40, the target stays" {
	need_root
	mkdir -p "$SRC"
	mount -t tmpfs none "$SRC" || skip "nothing can be mounted here"
	echo 1 >"$SRC/file"
	sync_ok full
	umount "$SRC"
	exits 40 stager incremental
	says "is its own mounted"
	exits 40 stager cutover
	assert_exists "$DST/file"
	sync_ok incremental --no-delete
	assert_exists "$DST/file"
	sync_ok full
	[ ! -e "$DST/file" ]
}

@test "a target root that is mounted read-only: exit 11, and no word of room" {
	need_root
	small_tree "$SRC"
	mkdir "$DST"
	mount -t tmpfs -o ro none "$DST" || skip "cannot mount tmpfs here"
	MOUNTS=("$DST" "${MOUNTS[@]}")
	exits 11 stager full
	says "read-only file system"
	says "let it be written to"
	lacks "make room" <<<"$output"
	mount -o remount,rw "$DST"
	sync_ok full
	assert_same "$SRC" "$DST"
}

@test "a missing password file, one without a password: exit 1, named" {
	target_stands
	exits 1 stager full --password-file "$W/none"
	says "$W/none"
	: >"$W/empty"
	chmod 600 "$W/empty"
	exits 1 stager full --password-file "$W/empty"
	says "$W/empty"
	unchanged
}

@test "a wrong password: exit 5, and it is not shown" {
	need_root
	target_stands
	sshd_stop
	sshd_start "$W/sshd" "PasswordAuthentication yes" 3>/dev/null
	printf 'wr0ng-secret\n' >"$W/password"
	chmod 600 "$W/password"
	unset SSH_AUTH_SOCK
	ssh-keygen -q -t ed25519 -N '' -f "$W/other"
	opt --port "$SSHD_PORT"
	opt --identity "$W/other"
	opt --known-hosts "$SSHD_KNOWN_HOSTS"
	exits 5 stager incremental --password-file "$W/password" --log-level debug
	says "127.0.0.1"
	lacks wr0ng-secret <<<"$output"
	RSYNC_TARGET_PASSWORD=wr0ng-secret exits 5 stager incremental
	lacks wr0ng-secret <<<"$output"
	lacks wr0ng-secret <"$REPORT"
	lacks wr0ng-secret <"$STATE/audit.log"
	unchanged
}

@test "a changed host key: both fingerprints are shown" {
	target_stands
	ssh-keygen -q -t ed25519 -N '' -f "$W/other"
	sed "s|\(ssh-ed25519\) .*|\1 $(cut -d' ' -f2 "$W/other.pub")|" "$SSHD_KNOWN_HOSTS" >"$W/known"
	opt --known-hosts "$W/known"
	exits 5 stager incremental
	says "$(ssh-keygen -lf "$W/sshd/host.pub" | cut -d' ' -f2)"
	says "$(ssh-keygen -lf "$W/other.pub" | cut -d' ' -f2)"
	says "$W/known"
	one_error
	unchanged
}

@test "a source, a --path or a filter file that is not there: exit 3" {
	target_stands
	touch "$W/file"
	exits 3 stager incremental --path no/such
	says "no/such"
	one_error
	exits 3 stager incremental --exclude-from "$W/none"
	says "$W/none"
	one_error
	opt --source "$W/file"
	exits 3 stager incremental
	says "$W/file"
	unchanged
}

@test "a target root that is a file: exit 11, it stays" {
	small_tree "$SRC"
	echo mine >"$DST"
	exits 11 stager full
	says "$DST"
	[ "$(cat "$DST")" = mine ]
}

@test "a target without inodes: exit 11 naming it; with room the next call goes on" {
	need_root
	mkdir "$W/on"
	mount -t tmpfs -o size=64m,nr_inodes=200 none "$W/on" || skip "cannot mount tmpfs here"
	MOUNTS=("$W/on" "${MOUNTS[@]}")
	target "$W/on/dst"
	mkdir "$SRC/d"
	for i in $(seq 400); do echo "$i" >"$SRC/d/f$i"; done
	exits 11 stager full
	says "no space left"
	says "make room there"
	mount -o remount,nr_inodes=2000 "$W/on"
	sync_ok full
	assert_same "$SRC" "$DST"
}

@test "not root on the target: what will be lost is said before anything is sent" {
	use_nobody
	big_tree "$SRC" 8
	start_stager full --remote-receiver "$NOBODY" --bwlimit 2M --compress off
	wait_until 30 grep -q "not root on the target" "$W/err"
	[ "$(find "$DST" -type f | wc -l)" -lt 300 ]
	grep -q owners "$W/err"
	join_stager
	cmp "$SRC/m0" "$DST/m0"
}

@test "not root on the source: what will be missing is said" {
	need_root
	need_tool setpriv
	local as=(setpriv --reuid=65534 --regid=65534 --clear-groups)

	small_tree "$SRC"
	install -d -o 65534 -g 65534 "$STATE"
	install -o 65534 -m 600 "$SSHD_KEY" "$W/key"
	install -m 644 "$SSHD_KNOWN_HOSTS" "$W/known"
	opt --identity "$W/key"
	opt --known-hosts "$W/known"
	"${as[@]}" test -x "$STAGER" || skip "the prefix cannot be reached by another user"
	exits 0 "${as[@]}" "$STAGER" "${OPTS[@]}" full
	says "not root on the source"
	assert_same "$SRC" "$DST"
	# What the service has reads everything, but not what only CAP_SYS_ADMIN is shown.
	chmod -R go= "$SRC"
	exits 0 "${as[@]}" --inh-caps=+dac_read_search --ambient-caps=+dac_read_search \
		"$STAGER" "${OPTS[@]}" full
	lacks "not root on the source" <<<"$output"
	says "trusted attributes cannot be seen there"
	assert_same "$SRC" "$DST"
	exits 0 stager full
	lacks "not root on the source" <<<"$output"
}

@test "a full state disk: exit 11 naming it, the target whole, the next call goes on" {
	need_root
	mkdir "$STATE"
	mount -t tmpfs -o size=600k,mode=700 none "$STATE" || skip "cannot mount tmpfs here"
	MOUNTS=("$STATE" "${MOUNTS[@]}")
	for d in $(seq 30); do
		mkdir "$SRC/d$d"
		for i in $(seq 100); do echo "$i" >"$SRC/d$d/some-longer-name-of-a-file-$i"; done
	done
	mkdir "$DST"
	echo mine >"$DST/extra"
	exits 11 stager full
	says "the disk of the state directory is full"
	says "$STATE"
	says "make room there"
	# Deletes come after all else; and what is there is complete.
	assert_exists "$DST/extra"
	find "$DST" -name 'some-*' -size 0 | lacks some
	mount -o remount,size=20m "$STATE"
	sync_ok full
	assert_same "$SRC" "$DST"

	head -c 30M /dev/zero >"$STATE/ballast" 2>/dev/null || true
	echo changed >"$SRC/d1/new"
	rm "$SRC/d2/some-longer-name-of-a-file-1"
	exits 11 stager incremental
	assert_exists "$DST/d2/some-longer-name-of-a-file-1"
	rm "$STATE/ballast"
	sync_ok incremental
	assert_same "$SRC" "$DST"
}

@test "a state directory that cannot be written: exit 11, the target is not asked" {
	need_root
	target_stands
	mkdir "$W/ro"
	mount -t tmpfs -o ro none "$W/ro" || skip "cannot mount tmpfs here"
	MOUNTS=("$W/ro" "${MOUNTS[@]}")
	exits 11 stager full --state-dir "$W/ro/state"
	says "$W/ro/state"
	one_error
	unchanged
}
