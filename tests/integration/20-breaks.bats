#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Killed drivers and killed receivers lose nothing, and what was acknowledged is not sent again.

load lib

TREE_MIB=48
THROTTLE=(--bwlimit 8M --compress off --sessions 2)

@test "kill -9 of the driver in mid-full: the next full goes on" {
	local total sent

	big_tree "$SRC" $TREE_MIB
	total=$((TREE_MIB << 20))
	start_stager full "${THROTTLE[@]}"
	wait_until 60 progressed $((total * 2 / 5))
	kill -9 "$JOB"
	join_stager
	[ "$status" -eq 137 ]
	wait_until 20 no_receivers

	sync_ok full --compress off
	assert_same "$SRC" "$DST"
	[ "$(stat_of last entries_acked_before)" -gt 0 ]
	sent=$(wire_bytes)
	[ "$sent" -lt $((total * 85 / 100)) ] || fail "$sent of $total bytes were sent again"
}

@test "no half-written file carries a final name after kill -9" {
	local f

	big_tree "$SRC" 8
	head -c 24M /dev/urandom >"$SRC/one-big"
	start_stager full "${THROTTLE[@]}"
	wait_until 60 progressed $((4 << 20))
	kill -9 "$JOB"
	join_stager
	wait_until 20 no_receivers
	while IFS= read -r f; do
		cmp "$SRC/$f" "$DST/$f"
	done < <(cd "$DST" && find . -path ./.stager -prune -o -type f -printf '%P\n' |
		grep -E '^(m[0-9]+|small/s[0-9]+|one-big)$')
}

@test "kill -9 of the receivers, resume mode auto: it reconnects and finishes" {
	local round p

	big_tree "$SRC" $TREE_MIB
	start_stager full --resume-mode auto "${THROTTLE[@]}"
	for round in 1 2 3; do
		wait_until 60 progressed $((round * 8 << 20))
		wait_until 30 have_receivers
		for p in $(receivers); do
			kill -9 "$p" || true
		done
	done
	join_stager
	[ "$status" -eq 0 ] || fail "ended with $status" "$output"
	assert_same "$SRC" "$DST"
	[ "$(stat_of last reconnects)" -gt 0 ]
}

@test "what a killed full was working in becomes a file and a link, and the receivers die too" {
	local p

	big_tree "$SRC" 48
	mkdir -p "$SRC/0/was/deep" "$SRC/0/gone"
	touch "$SRC/0/was/deep/"{a,b} "$SRC/0/gone/c"
	start_stager full "${THROTTLE[@]}"
	wait_until 60 progressed $((4 << 20))
	kill -9 "$JOB"
	join_stager
	wait_until 20 no_receivers

	rm -r "$SRC/0/was" "$SRC/0/gone"
	echo file >"$SRC/0/was"
	ln -s m1 "$SRC/0/gone"
	start_stager full "${THROTTLE[@]}"
	wait_until 60 progressed $((12 << 20))
	for p in $(receivers); do
		kill -9 "$p" || true
	done
	join_stager
	[ "$status" -eq 0 ] || fail "ended with $status" "$output"
	[ "$(stat_of last reconnects)" -gt 0 ]
	assert_same "$SRC" "$DST"
}

@test "what a killed receiver left unlocked is locked again" {
	local p

	need_root
	big_tree "$SRC" 24
	mkdir "$SRC/locked"
	touch "$SRC/locked/file" "$SRC/open"
	chattr +i "$SRC/locked/file" "$SRC/locked" 2>/dev/null || skip "no inode flags here"
	sync_ok full
	assert_same "$SRC" "$DST"

	# A driver is killed, and its receiver had just unlocked these.
	head -c 24M /dev/urandom >"$SRC/new"
	start_stager incremental "${THROTTLE[@]}"
	wait_until 60 progressed $((4 << 20))
	kill -9 "$JOB"
	join_stager
	wait_until 20 no_receivers
	chattr -i "$DST/locked" "$DST/locked/file"
	sync_ok incremental
	assert_same "$SRC" "$DST"

	# And a receiver alone, while the scan has long passed them.
	head -c 24M /dev/urandom >"$SRC/new"
	start_stager incremental "${THROTTLE[@]}"
	wait_until 60 progressed $((4 << 20))
	chattr -i "$DST/locked" "$DST/locked/file"
	for p in $(receivers); do
		kill -9 "$p" || true
	done
	join_stager
	[ "$status" -eq 0 ] || fail "ended with $status" "$output"
	assert_same "$SRC" "$DST"
	chattr -i "$SRC/locked" "$SRC/locked/file" "$DST/locked" "$DST/locked/file"
}

@test "kill -9 of the receivers, resume mode manual: exit 30, the next call finishes" {
	local p

	big_tree "$SRC" $TREE_MIB
	start_stager full --resume-mode manual "${THROTTLE[@]}"
	wait_until 60 progressed $((12 << 20))
	for p in $(receivers); do
		kill -9 "$p" || true
	done
	join_stager
	[ "$status" -eq 30 ] || fail "ended with $status" "$output"
	sync_ok full --resume-mode manual
	assert_same "$SRC" "$DST"
	[ "$(stat_of last entries_acked_before)" -gt 0 ]
}

@test "who forwards the port accepts and hangs up for a while: it reconnects until it works" {
	# While FILE.cut is there every connection is closed as soon as something comes.
	python3 -c '
import os, socket, sys, threading
port, name = int(sys.argv[1]), sys.argv[2]
s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen(50)
def pump(a, b):
    try:
        while True:
            data = a.recv(65536)
            if not data or os.path.exists(name + ".cut"):
                break
            b.sendall(data)
    except OSError:
        pass
    for x in (a, b):
        try: x.shutdown(socket.SHUT_RDWR)
        except OSError: pass
with open(name + ".new", "w") as f:
    f.write(str(s.getsockname()[1]))
os.rename(name + ".new", name)
while True:
    c = s.accept()[0]
    u = socket.create_connection(("127.0.0.1", port))
    for pair in ((c, u), (u, c)):
        threading.Thread(target=pump, args=pair, daemon=True).start()' \
		"$SSHD_PORT" "$W/forward" 3>&- &
	local forwarder=$!

	wait_until 20 test -s "$W/forward"
	sed "s/:$SSHD_PORT /:$(cat "$W/forward") /" "$SSHD_KNOWN_HOSTS" >"$W/known"
	opt --port "$(cat "$W/forward")"
	opt --known-hosts "$W/known"
	big_tree "$SRC" 24
	start_stager full --timeout 20 "${THROTTLE[@]}"
	wait_until 60 progressed $((4 << 20))
	touch "$W/forward.cut"
	wait_until 60 grep -q "SSH handshake" "$W/err"
	rm "$W/forward.cut"
	join_stager
	kill "$forwarder"
	[ "$status" -eq 0 ] || fail "ended with $status" "$output"
	assert_same "$SRC" "$DST"
}

@test "SIGTERM ends a run with exit 20 and a valid report" {
	big_tree "$SRC" $TREE_MIB
	start_stager full "${THROTTLE[@]}"
	wait_until 60 progressed $((4 << 20))
	kill -TERM "$JOB"
	join_stager
	[ "$status" -eq 20 ] || fail "ended with $status" "$output"
	query "$REPORT" 'j["state"]'
	wait_until 20 no_receivers
	sync_ok full
	assert_same "$SRC" "$DST"
}

@test "SIGTERM ends a run that still waits for the target" {
	sshd_stop
	sshd_start "$W/sshd" "ForceCommand touch '$W/stalled'; exec sleep 100" 3>/dev/null
	opt --port "$SSHD_PORT"
	start_stager full
	wait_until 30 test -e "$W/stalled"
	kill -TERM "$JOB"
	SECONDS=0
	join_stager
	[ "$status" -eq 20 ] || fail "ended with $status" "$output"
	[ "$SECONDS" -lt 20 ] || fail "it took $SECONDS s"
}

@test "SIGTERM ends a run that nobody answers" {
	need_root
	# A listener whose backlog is full: the kernel drops what knocks.
	python3 -c '
import socket, sys, time
s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen(0)
port = s.getsockname()[1]
full = []
for i in range(4):
    c = socket.socket()
    c.setblocking(False)
    c.connect_ex(("127.0.0.1", port))
    full.append(c)
print(port, flush=True)
time.sleep(100)' >"$W/port" 3>&- &
	local listener=$!

	wait_until 20 test -s "$W/port"
	opt --port "$(cat "$W/port")"
	start_stager full
	wait_until 20 connecting "$(cat "$W/port")" "$JOB"
	kill -TERM "$JOB"
	SECONDS=0
	join_stager
	kill "$listener"
	[ "$status" -eq 20 ] || fail "ended with $status" "$output"
	[ "$SECONDS" -lt 10 ] || fail "it took $SECONDS s"
}

@test "kill -9 in an incremental: a second one finishes it" {
	big_tree "$SRC" 8
	sync_ok full
	big_tree "$SRC" 24
	rm -r "$SRC/small"
	start_stager incremental "${THROTTLE[@]}"
	wait_until 60 progressed $((4 << 20))
	kill -9 "$JOB"
	join_stager
	wait_until 20 no_receivers
	sync_ok incremental
	assert_same "$SRC" "$DST"
}

@test "the target losing what a killed full had sent is put right" {
	big_tree "$SRC" 16
	start_stager full "${THROTTLE[@]}"
	wait_until 60 progressed $((8 << 20))
	kill -9 "$JOB"
	join_stager
	wait_until 20 no_receivers
	sync_ok full
	rm -rf "${DST:?}/m1" "$DST/small"
	sync_ok full
	assert_same "$SRC" "$DST"
}

# The process has a connection to the port under way.
connecting() { ss -Htnp state syn-sent "dport = :$1" | grep -q "pid=$2,"; }
