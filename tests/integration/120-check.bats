#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# stager-agent check: what a person sees, what a program reads, and the real limits of this
# host's control groups.

bats_require_minimum_version 1.5.0

export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=1:exitcode=99}"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-halt_on_error=1:print_stacktrace=1:exitcode=99}"

# shellcheck source=/dev/null
. "$BATS_TEST_DIRNAME/../cloud/cloud.bash"
# shellcheck source=/dev/null
. "$BATS_TEST_DIRNAME/../sshd.sh"

setup() {
	AGENT=${STAGER_PREFIX:?set STAGER_PREFIX to an install prefix}/sbin/stager-agent
	[ -x "$AGENT" ] || { echo "no program at $AGENT"; return 1; }
	W=$(mktemp -d "${STAGER_TEST_DIR:-/var/tmp}/stager-check.XXXXXX")
	OUT=$W/out
	FILE=$OUT/precheck_source_checks.json
	SERVER=
	echo '{}' >"$W/agent.json"
	unset NO_COLOR SMS_ENDPOINT RESULT_PATH SOURCE_SERVER_ID CREDENTIALS_DIRECTORY "${!HC_@}" "${!RSYNC_@}"
	# A root of a system that SMS takes, and what of it is not looked at by most tests.
	mkdir -p "$W/root/etc"
	release debian 8
}

teardown() {
	[ -z "$SERVER" ] || kill "$SERVER" || true
	cloud_stop
	sshd_stop
	! mountpoint -q "$W/new disk" || umount "$W/new disk"
	rm -rf "$W"
}

release() { printf 'ID=%s\nVERSION_ID="%s"\n' "$1" "$2" >"$W/root/etc/os-release"; }

check() { "$AGENT" check --config "$W/agent.json" --state-dir "$W/state" --out "$OUT" "$@"; }

# query FILE EXPRESSION: of the JSON in FILE, as j.
query() { python3 -c 'import json,sys; j=json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$@"; }

@test "check: a system on the list is usable, exit 0" {
	run -0 check --root "$W/root" --only OS_VERSION
	[ "${lines[-1]}" = "SMS: usable" ]
}

@test "check: a version that is not on the list comes out as SMS.6504, exit 40" {
	release ubuntu 99.04
	run -40 check --root "$W/root" --only OS_VERSION
	[ "${lines[-1]}" = "SMS: unusable (OS_VERSION: SMS.6504) -> staged sync" ]
	[[ ${lines[0]} == ERROR\ *OS_VERSION* ]]
}

@test "check: the list of systems can be replaced" {
	release ubuntu 99.04
	echo "ubuntu 99.04 bios,uefi UBUNTU_%1_%2_64BIT" >"$W/list"
	run -0 check --root "$W/root" --only OS_VERSION --supported-os "$W/list"
	echo "ubuntu" >"$W/list"
	run -40 check --root "$W/root" --only OS_VERSION,RSYNC --supported-os "$W/list"
	[[ $output == *"could not tell: $W/list: line 1: wanted: ID VERSIONS FIRMWARE CODE"* ]]
}

@test "check --json: the document of the contract, the file holds the same and more" {
	check --offline --json >"$W/json" || [ $? -eq 40 ]
	query "$W/json" '[set(c) for c in j["checks"]] == [{"name", "result", "sms_code", "value", "limit",
		"unit", "message", "remedy"}] * len(j["checks"]) and set(j) == {"verdict", "sms_usable", "checks"}' |
		grep -qx True
	query "$W/json" 'all(c["result"] in ("OK", "WARN", "ERROR") and bool(c["remedy"]) == (c["result"] != "OK")
		for c in j["checks"])' | grep -qx True
	query "$W/json" 'j["sms_usable"] == (not any(c["result"] == "ERROR" for c in j["checks"]))' | grep -qx True
	[ "$(query "$W/json" 'j["checks"]')" = "$(query "$FILE" 'j["checks"]')" ]
	[ "$(query "$W/json" 'j["verdict"]')" = "$(query "$FILE" 'j["verdict"]')" ]
	query "$FILE" 'bool(j["run_id"] and j["tool_version"] and j["generated_at"] > 0)' | grep -qx True
	# The network was not asked.
	query "$W/json" '"CLOCK" not in [c["name"] for c in j["checks"]]' | grep -qx True
}

# plain FILE: there is something in it, and no escape.
plain() { [ "$(grep -c "OS_VERSION" "$1")" -gt 0 ] && [ "$(grep -c $'\033' "$1")" -eq 0 ]; }

@test "check: a table without colours, with them on a terminal, never with NO_COLOR" {
	command -v script >/dev/null || skip "no script(1) here"
	check --root "$W/root" --only OS_VERSION >"$W/table"
	plain "$W/table"
	cmd="$AGENT check --config $W/agent.json --out $OUT --root $W/root --only OS_VERSION"
	TERM=xterm script -qec "$cmd" /dev/null </dev/null >"$W/table"
	grep -q $'\033\[32mOK' "$W/table"
	TERM=xterm NO_COLOR=1 script -qec "$cmd" /dev/null </dev/null >"$W/table"
	plain "$W/table"
	TERM=dumb script -qec "$cmd" /dev/null </dev/null >"$W/table"
	plain "$W/table"
}

@test "check: control bytes of the host's names reach no terminal" {
	mkdir -p "$W/root/proc/self"
	printf '20 1 8:1 / / rw - ext4 /dev/x rw\n21 1 8:2 / /a\033[31mb rw - reiserfs /dev/y rw\n' \
		>"$W/root/proc/self/mountinfo"
	run -40 check --root "$W/root" --only FILE_SYSTEM
	[[ $output != *$'\033'* ]]
	[[ $output == *'/a\x1b[31mb (reiserfs)'* ]]
}

@test "check: names that do not exist, and options that make no sense, are refused" {
	run -1 check --only OS_VERSON
	[[ $output == *"there is no check 'OS_VERSON'; did you mean OS_VERSION?"* ]]
	run -1 check --only ,
	run -1 check --offline --only CLOCK
	run -1 check --offline --target root@127.0.0.1:/
	run -1 check --root "$W/root" --install-rsync
	run -11 check --root "$W/nowhere"
	[[ $output == *"$W/nowhere: No such file or directory"* ]]
	[ ! -e "$FILE" ]
}

@test "check: a result that cannot be kept is shown all the same, and said" {
	: >"$W/file"
	run -11 check --root "$W/root" --only OS_VERSION --out "$W/file/out"
	[[ $output == *"OS_VERSION"*"SMS: usable"* ]]
	[[ $output == *"the result is shown but not kept (--out names another place): "*"make directory $W/file/out: Not a directory"* ]]
}

# endpoint SECONDS: an HTTP server that is so many seconds ahead.
endpoint() {
	python3 - "$W/port" "$1" 3>&- <<'PY' &
import email.utils, http.server, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def date_time_string(self, timestamp=None):
        return email.utils.formatdate(time.time() + int(sys.argv[2]), usegmt=True)
    def do_GET(self):
        self.send_response(401)
        self.end_headers()
    def log_message(self, *args):
        pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
with open(sys.argv[1] + ".new", "w") as f:
    f.write(str(server.server_port))
import os
os.rename(sys.argv[1] + ".new", sys.argv[1])
server.serve_forever()
PY
	SERVER=$!
	for _ in $(seq 100); do
		[ ! -s "$W/port" ] || break
		sleep 0.1
	done
	export SMS_ENDPOINT=http://127.0.0.1:$(cat "$W/port")
}

@test "check: the clock is compared with the endpoint's" {
	endpoint 0
	run -0 check --only CLOCK
	[[ ${lines[0]} == OK* ]]
	kill "$SERVER"
	rm "$W/port"
	endpoint 1000
	run -40 check --only CLOCK
	[ "${lines[-1]}" = "SMS: unusable (CLOCK: SMS.0205) -> staged sync" ]
	kill "$SERVER"
	SERVER=
	# Nobody there: that is no fault of the clock.
	run -0 check --only CLOCK
	[[ ${lines[0]} == WARN*"could not tell: "* ]]
}

@test "check: bonds, bridges, VLANs, veth and macvlan raise no false alarm about MACs" {
	[ "$(id -u)" -eq 0 ] || skip "only root can make interfaces"
	# As a container sees it: no card, and one address on several of the kernel's inventions.
	cat >"$W/interfaces" <<-'END'
	mount -t sysfs none /sys || exit 77
	mac=02:00:00:00:00:07
	ip link add veth1 type veth peer name veth2 || exit 77
	ip link set veth1 address $mac up
	ip link set veth2 address $mac up
	for kind in bridge bond dummy; do
		ip link add ${kind}0 type $kind 2>/dev/null && ip link set ${kind}0 address $mac up
	done
	ip link add link veth1 name veth1.5 type vlan id 5 2>/dev/null
	ip link add link veth1 name macvlan0 address $mac type macvlan 2>/dev/null
	ip link set veth2 master bridge0 2>/dev/null
	ip -o link >&2
	ip address add 192.0.2.9/24 dev veth1
	ip route add default via 192.0.2.1 dev veth1 || exit 77
	exec "$@"
	END
	run unshare --net --mount sh "$W/interfaces" \
		"$AGENT" check --config "$W/agent.json" --out "$OUT" --offline --only MAC
	[ "$status" -ne 77 ] || skip "no interfaces to make here: $output"
	echo "$output"
	[ "$status" -eq 0 ]
	[[ $output == *"OK     MAC "*"the MACs are unique on this host"* ]]
}

# with_clone FIELDS: a cloud that has a source with this host's MAC, of such fields more.
with_clone() {
	check --offline --only MAC --json >"$W/json" || skip "no network card here"
	MAC=$(query "$W/json" 'j["checks"][0]["value"].split()[0]')
	digest=$(printf %s "$MAC" | sha256sum | cut -d' ' -f1)
	cat >"$W/scenario" <<-END
	{ "seed": { "sources": [ { "id": "feedbeef-1111", "name": "clone", "ip": "192.0.2.7",
	    "networks": [ { "name": "eth0", "ip": "192.0.2.7", "mac": "$digest" } ] $1 } ] } }
	END
	cloud_start "$W/cloud" "$W/scenario"
	cloud_keys
}

@test "check: a MAC that another source of the account has is an error" {
	with_clone ""
	run -40 check --only MAC --log-level debug
	[[ $output == *"another source already has the MAC $MAC of "* ]]
	[[ $output == *"/v3/sources?limit=200&offset=0: HTTP 200 ("*"ms), request "* ]]
	[[ $output == *"access key ${HC_AK:0:4}****"* ]]
	[[ $output != *"$HC_SK"* && $output != *"$HC_AK"* && $output != *Signature=* ]]
	[ "$(cloud_routes | sort | uniq -c | awk '{print $1, $2, $3}')" = "1 GET /v3/sources
2 GET /v3/sources/{source_id}" ]
	# The record that this host was registered under is its own.
	mkdir -p "$W/state"
	echo feedbeef-1111 >"$W/state/source_id"
	run -0 check --only MAC
	[[ $output == *"unique on this host and among the sources of SMS"* ]]
	rm "$W/state/source_id"
	SOURCE_SERVER_ID=192.0.2.7 run -0 check --only MAC
	# Without keys, and without the network, nobody is asked.
	cloud_forget
	HC_AK='' HC_SK='' run -0 check --only MAC
	run -0 check --only MAC --offline
	[ -z "$(cloud_calls)" ]
	cloud_clean
}

@test "check: a record with this host's name is its own" {
	[[ $(uname -n) != localhost* ]] || skip "this host has no name of its own"
	with_clone ", \"name\": \"$(uname -n)\""
	run -0 check --only MAC
	[[ $output == *"among the sources of SMS"* ]]
}

@test "check: other sources that cannot be asked are a warning with the reason" {
	with_clone ""
	unasked="could not tell: whether another source has the same MAC: "
	HC_SK=wrong-but-secret run -0 check --only MAC
	[[ $output == WARN*"$unasked"*"HTTP 401"* ]]
	[[ $output != *wrong-but-secret* ]]
	HC_SK='' run -0 check --only MAC
	[[ $output == WARN*"$unasked"*"no secret key: set HC_SK"* ]]
	echo "$HC_SK" >"$W/sk"
	chmod 644 "$W/sk"
	echo "{ \"control_plane\": { \"sk_file\": \"$W/sk\" } }" >"$W/agent.json"
	HC_SK='' run -0 check --only MAC
	[[ $output == WARN*"$unasked"*"open to others"* ]]
	cloud_stop
	# Not asked twice: the check of the clock has found out already.
	chmod 600 "$W/sk"
	run -0 check --only MAC,CLOCK
	[ "$(grep -c "could not tell: no connection to 127.0.0.1" <<<"$output")" -eq 2 ]
}

@test "check: many sources, one that goes meanwhile, and answers that make no sense" {
	with_clone ""
	# The clone is on the second page, and of the others one is gone when it is asked for.
	for i in $(seq 205); do
		printf '{"id": "%08x-0000", "name": "s%d", "ip": "198.51.100.%d"},' "$i" "$i" $((i % 200))
	done >"$W/many"
	cat >"$W/scenario" <<-END
	{ "seed": { "sources": [ $(cat "$W/many") { "id": "ffffffff-1111", "name": "clone", "ip": "192.0.2.7",
	    "networks": [ { "name": "eth0", "ip": "192.0.2.7", "mac": "${MAC^^}" } ] } ] } }
	END
	cloud_stop
	cloud_start "$W/cloud2" "$W/scenario"
	cloud_keys
	cloud_fault '{"match": "GET /v3/sources/00000003-0000", "error_code": "SMS.7602", "status": 400}'
	run -40 check --only MAC
	[[ $output == *"another source already has the MAC $MAC of "* ]]
	[ "$(cloud_calls | grep -c 'GET /v3/sources$')" -eq 2 ]
	[ "$(cloud_calls | grep -c 'GET /v3/sources/')" -eq 207 ]
	# The first page only would have been no reason to call it unique.
	cloud_fault '{"match": "GET /v3/sources$", "when": {"query.offset": "200"}, "html": true, "status": 200}'
	run -0 check --only MAC
	[[ $output == WARN*"could not tell: whether another source has the same MAC: "*"a web page"* ]]
	cloud_fault '{"match": "GET /v3/sources/0000000a-0000", "truncate": 10}'
	run -0 check --only MAC
	[[ $output == WARN*"could not tell: whether another source has the same MAC: "* ]]
}

@test "check: a target is reached, or not" {
	endpoint 0
	port=$(cat "$W/port")
	run -0 check --only TARGET_REACHABLE --target "ssh://root@127.0.0.1:$port/"
	kill "$SERVER"
	wait "$SERVER" || true
	SERVER=
	run -40 check --only TARGET_REACHABLE --target "ssh://root@127.0.0.1:$port/"
	[[ $output == *"SMS.3802"*"neither way works"* ]]
}

# room DIR [OPTION...]: TARGET_SPACE of a target on this host.
room() {
	local dir=$1

	shift
	check --only TARGET_SPACE --target "ssh://$(id -un)@127.0.0.1:$SSHD_PORT${dir// /%20}" "$@" -- \
		--identity "$SSHD_KEY" --known-hosts "$SSHD_KNOWN_HOSTS"
}

@test "check: the target's room is compared with the data" {
	sshd_start "$W/sshd" 3>/dev/null
	# The root of a container may be no disk of its own.
	grep -qE '^/dev/' <(findmnt -no SOURCE /) || skip "/ is on no disk"
	# More than the source has: as much as it, in a directory that is to be made.
	mkdir "$W/new disk"
	room "$W/new disk/to/be made" --json >"$W/json" || [ $? -eq 40 ]
	want=$(($(df -Pk "$W" | awk 'END { print $4 }') / 1024))
	have=$(query "$W/json" 'int(j["checks"][0]["limit"])')
	[ "$have" -ge $((want - 200)) ] && [ "$have" -le $((want + 200)) ]
	# What lies in a directory may be of an earlier sync.
	mkdir "$W/dir"
	touch "$W/dir/file"
	run room "$W/dir"
	[[ $output != *ERROR* ]]
	[ "$(id -u)" -eq 0 ] && mount -t tmpfs -o size=8m none "$W/new disk" || skip "cannot mount here"
	touch "$W/new disk/file"
	run -40 room "$W/new disk"
	[[ $output == *"is more than the target has room for (8 MiB)"*"[SMS.0519]"* ]]
	[ "${lines[-1]}" = "SMS: unusable (TARGET_SPACE: SMS.0519) -> neither way works until this is mended" ]
}

@test "check: a target that lets nobody in keeps its room to itself" {
	sshd_start "$W/sshd" 3>/dev/null
	ssh-keygen -q -t ed25519 -N '' -f "$W/stranger"
	SSHD_KEY=$W/stranger run -0 room /
	[[ $output == WARN*"could not tell: ssh "*"ermission denied"* ]]
	run -1 check --only TARGET_SPACE --target root@127.0.0.1:/ stray
	[[ $output == *"'stray': check takes options of stager behind"* ]]
	run -1 check --only RSYNC -- --identity x
}

@test "check: the migration port must be allowed and free" {
	endpoint 0
	port=$(cat "$W/port")
	[ "$port" -ge 10000 ] || skip "the kernel gave port $port"
	run -40 check --offline --only MIGRATION_PORT --migration-port "$port"
	[[ $output == *"listens on port $port"* || $output == *"may not be used"* ]]
	run -40 check --offline --only MIGRATION_PORT --migration-port 8900
	run -0 check --offline --only MIGRATION_PORT
}

# The limits of control groups of version 1, where this host has them and lets us.
in_group() {
	local controller=$1 file=$2 value=$3 group=/sys/fs/cgroup/$1/stager-check.$$ r=0

	shift 3
	[ -d "/sys/fs/cgroup/$controller" ] && mkdir "$group" 2>/dev/null ||
		skip "no control groups of $controller to make here"
	# shellcheck disable=SC2016 # it expands there
	if echo "$value" >"$group/$file"; then
		sh -c 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"' sh "$group" "$@" || r=$?
	else
		r=77
	fi
	# The last of its processes may not be gone yet.
	for _ in $(seq 50); do
		rmdir "$group" 2>/dev/null && break
		sleep 0.1
	done
	return "$r"
}

@test "check: a container's limit of memory counts" {
	[ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ] || skip "control groups of version 2 only"
	run in_group memory memory.limit_in_bytes 300M \
		"$AGENT" check --config "$W/agent.json" --out "$OUT" --offline --only MEMORY
	[[ $output != *"no control groups"* ]] || skip "no control groups here"
	[ "$status" -eq 40 ]
	[[ $output == *"of 300 MiB memory are available (limit 520 MiB) [SMS.1203]"* ]]
}

@test "check: a container's quota of CPU counts" {
	[ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ] || skip "control groups of version 2 only"
	run in_group cpu cpu.cfs_quota_us 20000 \
		"$AGENT" check --config "$W/agent.json" --out "$OUT" --offline --only CPU
	[[ $output != *"no control groups"* ]] || skip "no control groups here"
	[ "$status" -eq 40 ]
	[[ $output == *"SMS: unusable (CPU) -> staged sync"* ]]
}

@test "check: all of it stays below 20 MB of memory" {
	[[ $STAGER_PREFIX != *asan* ]] || skip "the sanitizer has memory of its own"
	python3 - "$AGENT" check --config "$W/agent.json" --out "$OUT" --offline <<'PY'
import resource, subprocess, sys
r = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(f"exit {r}, {peak} KiB")
assert r in (0, 40) and peak < 20 * 1000 * 1000 / 1024
PY
}

# A package manager that writes down how it is called, in place of this host's, and no rsync:
# both only in the mount namespace of one command.
without_rsync() {
	local manager

	[ "$(id -u)" -eq 0 ] || skip "only root can mount"
	manager=$(command -v apt-get dnf yum zypper | head -n 1)
	[ -n "$manager" ] && command -v rsync >/dev/null || skip "no package manager, or no rsync"
	printf '#!/bin/sh\necho "$*" >>%s/calls\necho "proxy $http_proxy" >>%s/calls\nenv >>%s/env\nexit %s\n' \
		"$W" "$W" "$W" "$1" >"$W/manager"
	chmod 755 "$W/manager"
	: >"$W/no-rsync"
	shift
	# shellcheck disable=SC2016 # it expands there
	unshare --mount sh -c '
		for p in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin; do
			[ ! -e "$p/rsync" ] || mount --bind "$1/no-rsync" "$p/rsync" || exit 99
		done
		mount --bind "$1/manager" "$(readlink -f "$2")" || exit 99
		shift 2
		exec "$@"' sh "$W" "$manager" "$@"
}

# instead_of_rsync SCRIPT: what the check RSYNC says when that is rsync, in a mount namespace.
instead_of_rsync() {
	local rsync

	[ "$(id -u)" -eq 0 ] || skip "only root can mount"
	rsync=$(readlink -f "$(command -v rsync)") || skip "no rsync"
	printf '#!/bin/sh\n%s\n' "$1" >"$W/rsync"
	chmod 755 "$W/rsync"
	# shellcheck disable=SC2016 # it expands there
	run unshare --mount sh -c 'mount --bind "$1" "$2" || exit 99; shift 2; exec "$@"' sh \
		"$W/rsync" "$rsync" \
		"$AGENT" check --config "$W/agent.json" --out "$OUT" --offline --only RSYNC
	[ "$status" -eq 0 ]
}

@test "check: an rsync that hangs, fails or says nonsense is a warning, and ends" {
	instead_of_rsync 'exec sleep 1000'
	[[ ${lines[0]} == WARN*"could not tell: run /"*"rsync --version: Connection timed out" ]]
	instead_of_rsync 'echo "rsync  version 3.2.7"; exec >&- sleep 1000'
	[[ ${lines[0]} == WARN*"could not tell: run /"*"rsync --version: Connection timed out" ]]
	instead_of_rsync 'echo rsync  version 3.2.7; exit 3'
	[[ ${lines[0]} == WARN*"could not tell: /"*"rsync --version failed" ]]
	instead_of_rsync 'kill -SEGV $$'
	[[ ${lines[0]} == WARN*"rsync --version failed" ]]
	instead_of_rsync 'yes nonsense'
	[[ ${lines[0]} == WARN*"could not tell: "* ]]
	instead_of_rsync 'echo "rsync  version 2.6.9  protocol version 29"'
	[[ ${lines[0]} == WARN*"is of version 2.6.9"* ]]
	instead_of_rsync 'echo "rsync  version v3.4.1"; i=0; while [ $i -lt 2000 ]; do echo "and more that nobody reads"; i=$((i+1)); done'
	[[ ${lines[0]} == OK*"is of version 3.4.1"* ]]
}

@test "check --install-rsync: the host's package manager is asked, with its proxy" {
	export HC_AK=AKTEST HC_SK=not-to-be-seen HC_SECURITY_TOKEN=not-to-be-seen \
		RSYNC_TARGET_PASSWORD=not-to-be-seen
	http_proxy=http://proxy.example:3128 run --separate-stderr -40 without_rsync 0 \
		"$AGENT" check --config "$W/agent.json" --out "$OUT" --offline --only RSYNC --install-rsync --json
	grep -q 'install rsync' "$W/calls"
	grep -qx 'proxy http://proxy.example:3128' "$W/calls"
	[ -s "$W/env" ]
	[ "$(grep -c not-to-be-seen "$W/env")" -eq 0 ]
	# Standard output is the document alone; rsync is not there yet, and the check says so.
	echo "$output" >"$W/json"
	[ "$(query "$W/json" 'j["checks"][0]["sms_code"]')" = SMS.6517 ]
}

@test "check --install-rsync: what fails is said, and not done when rsync is there" {
	run -40 without_rsync 100 \
		"$AGENT" check --config "$W/agent.json" --out "$OUT" --offline --only RSYNC --install-rsync
	[[ $output == *"could not install rsync (exit 100)"* ]]
	[[ $output == *"SMS.6517"* ]]
	rm -f "$W/calls"
	run check --offline --only RSYNC --install-rsync
	[[ $output == *"installed already"* ]]
	[ ! -e "$W/calls" ]
}

@test "check: page and completion know every check" {
	local top=$BATS_TEST_DIRNAME/../.. names

	names=$(sed -nE 's/^\t\{ \.name = "([A-Z_]+)",.*/\1/p' "$top/checks/checks.c")
	[ "$(wc -l <<<"$names")" -gt 30 ]
	diff <(echo "$names") <(sed -n '/^\.Sh CHECKS/,/^\.Sh /s/^\.It Cm \([A-Z_]*\).*/\1/p' "$top/man/stager-agent.8")
	diff <(echo "$names") <(sed -n '/--only)/,/;;/p' "$top/packaging/completions/stager-agent" | grep -oE '[A-Z_]{2,}')
}
