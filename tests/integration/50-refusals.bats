#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What goes wrong is said in words, with the exit code that scripts know.

load lib

@test "unknown options, commands and config keys: exit 1 and a suggestion" {
	exits 1 "$STAGER" --excluede x full
	says --exclude
	exits 1 "$STAGER" incremetal
	says incremental
	exits 1 "$STAGER"
	exits 1 stager
	exits 1 stager full --bwlimit fast
	says bwlimit
	exits 1 stager full --port 70000
	exits 1 stager full surplus
	echo '{ "bwlimt": "20M" }' >"$W/stager.json"
	exits 1 stager full
	says bwlimt
	says bwlimit
}

@test "malformed configuration: exit 1 with file, line and column" {
	printf '{\n  // a comment\n  "bwlimit": "20M",\n  "port" 22\n}\n' >"$W/stager.json"
	exits 1 stager full
	says "$W/stager.json"
	grep -qE '(line 4|:4:)' <<<"$output" || fail "no line number" "$output"
	grep -qE '(column 1[0-9]|:4:1[0-9])' <<<"$output" || fail "no column" "$output"
}

@test "a configuration that is not there: exit 1" {
	opt --config "$W/none.json"
	exits 1 stager full
	says "$W/none.json"
}

@test "--help and --version need nothing and exit 0" {
	exits 0 "$STAGER" --help
	says "--known-hosts"
	exits 0 "$STAGER" --version
	exits 0 "$STAGER" full --help
}

@test "incremental and cutover before a full sync: exit 40" {
	small_tree "$SRC"
	exits 40 stager incremental
	says full
	exits 40 stager cutover
	says full
	assert_gone "$DST/a"
}

@test "a second run at the same time: exit 44, the first is not disturbed" {
	big_tree "$SRC" 24
	start_stager full --bwlimit 8M --compress off
	wait_until 60 progressed $((2 << 20))
	exits 44 stager full
	join_stager
	[ "$status" -eq 0 ]
	assert_same "$SRC" "$DST"
}

@test "an unknown host key: exit 5 with its fingerprint; accept-new takes it" {
	small_tree "$SRC"
	: >"$W/known"
	opt --known-hosts "$W/known"
	exits 5 stager full
	says "$(ssh-keygen -lf "$W/sshd/host.pub" | cut -d' ' -f2)"
	assert_gone "$DST"
	sync_ok full --host-key accept-new
	[ -s "$W/known" ]
	sync_ok full
	assert_same "$SRC" "$DST"
}

@test "a changed host key: exit 5, with accept-new too" {
	ssh-keygen -q -t ed25519 -N '' -f "$W/other"
	sed "s|\(ssh-ed25519\) .*|\1 $(cut -d' ' -f2 "$W/other.pub")|" "$SSHD_KNOWN_HOSTS" >"$W/known"
	opt --known-hosts "$W/known"
	exits 5 stager full
	says "$(ssh-keygen -lf "$W/sshd/host.pub" | cut -d' ' -f2)"
	exits 5 stager full --host-key accept-new
	assert_gone "$DST"
}

@test "a key that the target does not know: exit 5" {
	ssh-keygen -q -t ed25519 -N '' -f "$W/other"
	opt --identity "$W/other"
	unset SSH_AUTH_SOCK
	exits 5 stager full
	assert_gone "$DST"
}

@test "nobody listens: exit 10; a missing key file is named" {
	opt --port "$(sshd_free_port 3>/dev/null)"
	exits 10 stager full --resume-mode manual
	opt --port "$SSHD_PORT"
	opt --identity "$W/no-key"
	unset SSH_AUTH_SOCK
	output=$(stager full 2>&1) && fail "succeeded without a key"
	says "$W/no-key"
}

@test "a source that is not there: exit 3" {
	opt --source "$W/nowhere"
	exits 3 stager full
	says "$W/nowhere"
	assert_gone "$DST"
}

@test "a target whose parent is not there is refused, made with --mkpath" {
	small_tree "$SRC"
	target "$W/no/such/root"
	output=$(stager full 2>&1) && status=0 || status=$?
	[ "$status" -eq 11 ] || [ "$status" -eq 3 ] || fail "ended with $status" "$output"
	says "$W/no"
	assert_gone "$W/no"
	sync_ok full --mkpath
	assert_same "$SRC" "$DST"
}

@test "a password file that others can read: exit 1, and the password is not shown" {
	echo hunter2hunter2 >"$W/password"
	chmod 644 "$W/password"
	exits 1 stager full --password-file "$W/password"
	says "$W/password"
	says "600"
	lacks hunter2 <<<"$output"
}

@test "a login shell that prints does not disturb; one that only prints is quoted" {
	need_root
	small_tree "$SRC"
	sshd_stop
	sshd_start "$W/sshd" "ForceCommand echo Welcome to the target; eval \"\$SSH_ORIGINAL_COMMAND\"" 3>/dev/null
	opt --port "$SSHD_PORT"
	cp "$STAGER_PREFIX/libexec/stager/stager-receive" "$W/receiver"
	sync_ok full --remote-receiver "$W/receiver"
	assert_same "$SRC" "$DST"
	sshd_stop
	sshd_start "$W/sshd" "ForceCommand echo This account is not available" 3>/dev/null
	opt --port "$SSHD_PORT"
	output=$(stager full --resume-mode manual --remote-receiver "$W/receiver" 2>&1) &&
		fail "succeeded without a receiver"
	says "This account is not available"
}

@test "a full target disk: exit 11 naming it; with room the next call goes on" {
	need_root
	mount_image on ext4 128
	target "$W/on/dst"
	big_tree "$SRC" 60
	head -c 80M /dev/zero >"$W/on/ballast"
	exits 11 stager full
	says "no space left"
	rm "$W/on/ballast"
	sync_ok full
	assert_same "$SRC" "$DST"
	[ "$(stat_of last entries_acked_before)" -gt 0 ]
}

@test "control bytes of names reach neither the terminal nor the log raw" {
	need_root
	small_tree "$SRC"
	mkdir -p "$DST/$(printf 'bad\033[31m\nname')"
	touch "$DST/$(printf 'bad\033[31m\nname')/inside" "$SRC/$(printf 'bad\033[31m\nname')"
	output=$(stager full --no-delete --log-level debug --log-file "$W/log" 2>&1) && status=0 || status=$?
	[ "$status" -eq 23 ]
	lacks "$(printf '\033')" <<<"$output"
	lacks "$(printf '\033')" <"$W/log"
	grep -qa 'bad' "$W/log"
}
