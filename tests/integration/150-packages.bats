#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# tests/run: release build only
#
# .deb and .rpm: what they hold, and that install, upgrade, remove and purge behave, in roots
# made for it.  They are built here, for /usr, whatever build is under test.  Tests of one
# root go on where the one before stopped.

load lib

NEXT=99.0.0-1 # a later version, with other configuration files

setup_file() {
	export BUILD=$BATS_TEST_DIRNAME/../../build/packages WHY_NOT='' NO_ROOT='' tool
	[ "$(id -u)" -eq 0 ] || WHY_NOT="needs root"
	for tool in debootstrap dpkg-shlibdeps lintian rpmbuild rpmlint systemd-analyze; do
		command -v $tool >/dev/null || WHY_NOT="no $tool here"
	done
	[ -z "$WHY_NOT" ] || return 0
	export P
	P=$(mktemp -d "${STAGER_TEST_DIR:-/var/tmp}/stager-packages.XXXXXX")
	make_packages
	make_root
}

teardown_file() { [ -z "${P:-}" ] || rm -rf --one-file-system "$P"; }

setup() {
	[ -z "$WHY_NOT" ] || skip "$WHY_NOT"
	it_setup
	OUT=$BUILD/out
	deb=$(echo "$OUT"/*.deb) rpm=$(echo "$OUT"/*.rpm)
	next_deb=$(echo "$P"/next/*.deb) next_rpm=$(echo "$P"/next/*.rpm)
}

logged() { "$@" >>"$P/setup.log" 2>&1 3>&- || { tail -n 40 "$P/setup.log"; return 1; }; }

# The packages, and those of a later version.
make_packages() {
	"$BATS_TEST_DIRNAME/../../packaging/make-packages" all >"$P/make.log" 2>&1 3>&- ||
		echo failed >>"$P/make.log"
	cat >"$P/next.cmake" <<-'END'
	file(GLOB files ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/etc/stager/*.json)
	foreach(file ${files})
	  file(APPEND ${file} "// of a later version\n")
	endforeach()
	END
	local kind stage

	stage=$(cd "$BATS_TEST_DIRNAME/../../packaging" && pwd)/stage-documents.cmake
	for kind in DEB RPM; do
		(cd "$BUILD" && umask 022 && logged cpack -G $kind -R ${NEXT%-*} -B "$P/next" \
			-D "CPACK_PRE_BUILD_SCRIPTS=$stage;$P/next.cmake")
	done
}

# The archive that this host's own packages come from: URI, codename, and the file with its key,
# or nothing for one of the distribution's; nothing at all when apt has no list of it.
archive() {
	local codename

	codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
	apt-get indextargets "Created-By: Packages" "Component: main" "Codename: $codename" \
		--format '$(ORIGIN) $(REPO_URI) $(CODENAME) $(SIGNED_BY)' |
		awk '$1 == "Debian" || $1 == "Ubuntu" { print; found = 1; exit } !first { first = $0 }
			END { if (!found) print first }' |
		sed -nE 's,^\S+ (\S+)/ (\S+) *(/\S+)?.*,\1 \2 \3,; s,^(file|copy)://+,\1:/,; s/^\S+ .*/&/p'
}

# of_archive FILE: 0 it is there, 4 nobody answers; else there is something else.
of_archive() {
	case $MIRROR in
	file:/* | copy:/*) [ -e "${MIRROR#*:}/dists/$CODENAME/$1" ] ;;
	*) wget -q -O /dev/null --timeout=20 --tries=2 "$MIRROR/dists/$CODENAME/$1" ;;
	esac
}

# 0: there is an archive; as above.  $P/unsigned is made when it is not signed.
reached() {
	local r=0

	of_archive InRelease || r=$?
	[ "$r" -ne 0 ] && [ "$r" -ne 4 ] || return "$r"
	of_archive Release || return
	of_archive Release.gpg || : >"$P/unsigned"
}

# The directory that the mirror is; nothing for one of the network's.
mirror_dir() {
	case $MIRROR in
	*:/[!/]*) echo "${MIRROR#*:}" ;;
	esac
}

# trust KEYRING: have apt in the base, and debootstrap, believe what apt here believes.
trust() {
	local list=$P/base/etc/apt/sources.list

	if [ -e "$P/unsigned" ]; then
		echo "deb [trusted=yes] $MIRROR $CODENAME main" >"$list"
	elif [ -n "$1" ]; then
		install -D -m 644 "$1" "$P/base$1"
		echo "deb [signed-by=$1] $MIRROR $CODENAME main" >"$list"
	fi
	# A mirror behind HTTPS, maybe with a company's certificate.
	[ ! -e /etc/ssl/certs/ca-certificates.crt ] ||
		install -D -m 644 /etc/ssl/certs/ca-certificates.crt -t "$P/base/etc/ssl/certs"
}

# $P/base: the smallest Debian there is, and what the .deb depends on.  Only where nobody
# answers at all there is no root to test in; a mirror that is there must do.
make_root() {
	local http_proxy='' depends keyring='' r=0 options=()

	export MIRROR='' CODENAME
	read -r MIRROR CODENAME keyring < <(archive) || true
	if [ -z "$MIRROR" ]; then
		# Images for containers come without lists.
		logged apt-get -q update || true
		read -r MIRROR CODENAME keyring < <(archive) || true
	fi
	if [ -z "$MIRROR" ]; then
		NO_ROOT="apt has no archive to make a root from"
		return 0
	fi
	eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
	export http_proxy
	reached || r=$?
	if [ "$r" -eq 4 ]; then
		NO_ROOT="no root can be made: nobody answers at $MIRROR"
		return 0
	elif [ "$r" -ne 0 ]; then
		echo "$MIRROR has no dists/$CODENAME, though apt's lists come from there"
		return 1
	fi
	[ ! -e "$P/unsigned" ] || options+=(--no-check-gpg)
	[ -z "$keyring" ] || options+=(--keyring="$keyring")
	# debootstrap knows no copy:.
	MIRROR_URL=${MIRROR/#copy:/file:}
	export MIRROR_URL BOOTSTRAP="${options[*]}"
	logged debootstrap --variant=minbase "${options[@]}" "$CODENAME" "$P/base" "$MIRROR_URL"
	trust "$keyring"
	cat /etc/resolv.conf >"$P/base/etc/resolv.conf"
	[ -z "$http_proxy" ] ||
		echo "Acquire::http::Proxy \"$http_proxy\";" >"$P/base/etc/apt/apt.conf.d/90proxy"
	[ -z "$(mirror_dir)" ] || mkdir -p "$P/base$(mirror_dir)"
	depends=$(dpkg-deb -f "$BUILD"/out/*.deb Depends)
	logged in_root base apt-get -q update
	logged in_root base apt-get satisfy -q -y --no-install-recommends "$depends"
}

# in_root NAME COMMAND...: as in a container, with a /proc, and a mirror that is a directory.
in_root() {
	local root=$P/$1
	shift
	# shellcheck disable=SC2016 # it expands there
	DEBIAN_FRONTEND=noninteractive LC_ALL=C unshare --mount --pid --fork --kill-child \
		--mount-proc="$root/proc" sh -c '
			[ -z "$2" ] || mount --bind "$2" "$1$2" || exit 1
			root=$1
			shift 2
			exec chroot "$root" "$@"' sh "$root" "$(mirror_dir)" "$@"
}

# new_root NAME: a copy of the base, or the one that an earlier test has begun with.
new_root() {
	[ -z "$NO_ROOT" ] || skip "$NO_ROOT"
	[ -d "$P/$1" ] || cp -a "$P/base" "$P/$1"
	[ -s "$P/$1.before" ] || listing "$P/$1" >"$P/$1.before"
}

# Everything but package managers' own notes; content too, where administrators look.
# Accounts stay when a package goes.
listing() {
	(
		cd "$1"
		find . -xdev \( -path ./proc -o -path ./var/cache -o -path ./var/lib/apt -o -path ./var/log \
			-o -path ./var/lib/dpkg -o -path ./var/lib/rpm -o -path ./tmp \) -prune \
			-o -printf '%y %m %U:%G %p %l\n'
		find etc -type f ! -name 'passwd*' ! -name 'group*' ! -name 'shadow*' ! -name 'gshadow*' \
			! -name ld.so.cache -exec sha256sum {} +
	) | grep -vE ' \./etc/\.?(passwd|group|shadow|gshadow|pwd)[-.a-z]* ' | sort
}

# left NAME: what was not there before.
left() { listing "$P/$1" | comm -3 "$P/$1.before" - ; }

put() { cp "$1" "$P/$2/root/"; }

# files of a package, without directories and what only this kind of package has.
deb_files() {
	dpkg-deb --fsys-tarfile "$1" | tar t | sed -n 's,^\.\(/.*[^/]\)$,\1,p' |
		grep -vE '^/usr/share/(doc/stager/(copyright|changelog)|lintian/)' | sort
}
rpm_files() {
	rpm -qp --qf '[%{FILEMODES:perms} %{FILENAMES}\n]' "$1" | sed -n 's/^[^d][^ ]* //p' |
		grep -v '^/usr/share/licenses/' | sort
}

# syncs NAME: the program of that root moves a tree over SSH.
syncs() {
	local root=$P/$1

	# The state directory is for one target.
	DST=$P/target.$1
	small_tree "$root/srv/data"
	cp "$SSHD_KEY" "$SSHD_KNOWN_HOSTS" "$root/root/"
	exits 0 in_root "$1" stager full --source /srv/data --target "root@127.0.0.1:$DST" \
		--port "$SSHD_PORT" --identity /root/client --known-hosts /root/known_hosts \
		--progress none
	assert_same "$root/srv/data" "$DST"
	rm -rf "$root/srv/data" "$root/root/client" "$root/root/known_hosts"
}

# installed NAME: what both kinds of packages make of a root.
installed() {
	local root=$P/$1 check value

	exits 0 in_root "$1" stager --version
	says "stager $(sed -nE 's/^project\(stager VERSION ([0-9.]+) .*/\1/p' "$BUILD/../../CMakeLists.txt")"
	[ "$(in_root "$1" stat -c '%U:%G %a' /var/lib/stager)" = "stager:stager 700" ]
	[ "$(in_root "$1" getent passwd stager | cut -d: -f6,7)" = /var/lib/stager:/usr/sbin/nologin ]
	[ "$(in_root "$1" stat -c '%U:%G %a' /etc/stager/stager.json)" = "root:root 644" ]
	# 40: this host is not for SMS, as a root made for a test may not be.
	in_root "$1" stager-agent check --offline --json >"$W/checks" || [ $? -eq 40 ]
	[ "$(query "$W/checks" 'len(j["checks"]) > 20')" = true ]
	# The agent of this host looks at that root from outside, and sees the same system.
	"$STAGER_PREFIX/sbin/stager-agent" check --root "$root" --json --out "$W/out" >"$W/checks.root" ||
		[ $? -eq 40 ]
	[ "$(query "$W/checks.root" 'len(j["checks"]) > 20')" = true ]
	for check in OS_VERSION ARCHITECTURE SSH_CLIENT; do
		value='[c["value"] for c in j["checks"] if c["name"] == "'$check'"]'
		[ "$(query "$W/checks" "$value")" = "$(query "$W/checks.root" "$value")" ]
	done
	# It needs to be configured before anybody may start it.
	[ -z "$(find "$root/etc/systemd" -name 'stager*')" ]
	syncs "$1"
}

@test "packages: lintian and rpmlint find no error" {
	cat "$P/make.log"
	lacks failed <"$P/make.log"
	lacks "was not linted" <"$P/make.log"
	lacks "E: " <"$P/make.log"
	grep -q '; 0 errors, ' "$P/make.log"
}

@test "packages: both kinds hold the same files" {
	diff <(deb_files "$deb") <(rpm_files "$rpm")
	deb_files "$deb" >"$W/files"
	for f in /usr/bin/stager /usr/sbin/stager-agent /usr/libexec/stager/stager-receive \
		/etc/stager/stager.json /etc/stager/stager-agent.json /usr/share/stager/supported-os.list \
		/usr/share/stager/excludes/default.list /usr/share/stager/excludes/go2tencentcloud.list \
		/usr/share/man/man1/stager.1.gz /usr/share/man/man8/stager-agent.8.gz \
		/usr/share/man/man5/stager.json.5.gz /usr/share/man/man5/stager-agent.json.5.gz \
		/usr/share/stager/schema/rsync_execution.schema.json /usr/lib/sysusers.d/stager.conf \
		/usr/share/bash-completion/completions/stager /usr/lib/tmpfiles.d/stager.conf \
		/usr/share/bash-completion/completions/stager-agent /usr/libexec/stager/stager-askpass; do
		grep -qxF "$f" "$W/files" || fail "$f is missing" "$(cat "$W/files")"
	done
	diff <(grep '^/etc/' "$W/files") <(dpkg-deb -I "$deb" conffiles | sort)
	diff <(grep '^/etc/' "$W/files") \
		<(rpm -qp --qf '[%{FILEFLAGS:fflags} %{FILENAMES}\n]' "$rpm" | sed -n 's/^cn //p' | sort)
}

@test "packages: what installs dependencies names them as each family does" {
	local deps=$TESTS/../packaging/install-deps module package

	# shellcheck source=/dev/null
	eval "$(sed -n '/^\(deb\|rpm\)_[a-z]*=(/,/)$/p' "$deps")"
	[ ${#deb_base[@]} -gt 20 ] && [ ${#rpm_base[@]} -gt 20 ]
	printf '%s\n' "${rpm_base[@]}" "${rpm_test[@]}" >"$W/rpm"
	printf '%s\n' "${deb_base[@]}" "${deb_test[@]}" >"$W/deb"
	[ "$(grep -cE -e '-dev$|[0-9]g-' "$W/rpm")" -eq 0 ] || fail "$(cat "$W/rpm")"
	[ "$(grep -c -e '-devel$' "$W/deb")" -eq 0 ] || fail "$(cat "$W/deb")"
	# What the build looks for is there by its package, on this host's family.
	for module in $(sed -nE 's/^\s*pkg_check_modules\(\S+ REQUIRED IMPORTED_TARGET (\S+)\)/\1/p' \
		"$TESTS/../CMakeLists.txt" "$TESTS/../agent/CMakeLists.txt"); do
		package=$(dpkg -S "*/pkgconfig/$module.pc" | sed 's/[:,].*//' | head -n 1)
		grep -qx "$package" <(printf '%s\n' "${deb_base[@]}") ||
			fail "$module is in $package, which deb_base lacks"
	done
	# As many libraries for either family.
	[ "$(grep -c -e '-dev$' <(printf '%s\n' "${deb_base[@]}"))" -le \
		"$(grep -c -e '-devel$' "$W/rpm")" ]
}

@test "packages: the same source makes the same packages, bit for bit, wherever it lies" {
	local kind

	mkdir -p "$W/elsewhere"
	(cd "$TESTS/.." && tar c --exclude=./build --exclude=./.git .) | tar x -C "$W/elsewhere"
	"$W/elsewhere/packaging/make-packages" all 3>&-
	for kind in "$deb" "$rpm"; do
		cmp "$kind" "$W/elsewhere/build/packages/out/$(basename "$kind")"
	done
}

@test "packages: a .deb is installed and works" {
	new_root deb
	put "$deb" deb
	exits 0 in_root deb apt-get install -q -y --no-install-recommends "/root/$(basename "$deb")"
	says "0 upgraded, 1 newly installed"
	installed deb
}

@test "packages: an upgrade of the .deb keeps edited configuration and the state" {
	new_root deb
	echo '// mine' >>"$P/deb/etc/stager/stager.json"
	echo key >"$P/deb/etc/stager/key"
	touch "$P/deb/var/lib/stager/kept"
	put "$next_deb" deb
	exits 0 in_root deb apt-get install -q -y -o Dpkg::Options::=--force-confold \
		"/root/$(basename "$next_deb")"
	[ "$(in_root deb dpkg-query -W -f '${Version}' stager)" = $NEXT ]
	[ "$(tail -n 1 "$P/deb/etc/stager/stager.json")" = '// mine' ]
	assert_exists "$P/deb/etc/stager/stager.json.dpkg-dist"
	assert_exists "$P/deb/var/lib/stager/kept"
	syncs deb
}

@test "packages: removing the .deb keeps configuration and state, purging leaves keys alone" {
	new_root deb
	exits 0 in_root deb dpkg --remove stager
	assert_gone "$P/deb/usr/bin/stager"
	assert_exists "$P/deb/etc/stager/stager.json"
	assert_exists "$P/deb/var/lib/stager/kept"
	exits 0 in_root deb dpkg --purge stager
	rm "$P/deb/root/"*.deb
	left deb >"$W/left"
	assert_exists "$P/deb/etc/stager/key"
	[ "$(sed -nE 's/^\t[a-z] [0-7]+ [0-9:]+ (\S+) .*/\1/p' "$W/left")" = $'./etc/stager\n./etc/stager/key' ] ||
		fail "is left, or is missing:" "$(cat "$W/left")"
	[ "$(wc -l <"$W/left")" -eq 3 ] || fail "is left, or is missing:" "$(cat "$W/left")"
}

# rpm_in NAME ARGUMENT...: rpm of the host at work on that root.
rpm_in() {
	local root=$P/$1
	shift
	unshare --mount --pid --fork --kill-child --mount-proc="$root/proc" \
		rpm --root "$root" --define '_dbpath /var/lib/rpm' "$@"
}

@test "packages: an .rpm is installed, verified and works" {
	new_root rpm
	mkdir -p "$P/rpm/var/lib/rpm"
	# Debian's libraries are not in the database of rpm.
	exits 0 rpm_in rpm -i --nodeps "$rpm"
	exits 0 rpm_in rpm -V --nodeps stager
	[ -z "$output" ]
	installed rpm
}

@test "packages: an upgrade of the .rpm keeps edited configuration and the state" {
	new_root rpm
	echo '// mine' >>"$P/rpm/etc/stager/stager.json"
	touch "$P/rpm/var/lib/stager/kept"
	exits 0 rpm_in rpm -U --nodeps "$next_rpm"
	[ "$(rpm_in rpm -q stager --qf '%{VERSION}-%{RELEASE}')" = $NEXT ]
	[ "$(tail -n 1 "$P/rpm/etc/stager/stager.json")" = '// mine' ]
	assert_exists "$P/rpm/etc/stager/stager.json.rpmnew"
	assert_exists "$P/rpm/var/lib/stager/kept"
	exits 1 rpm_in rpm -V --nodeps stager
	[ "$(grep -c . <<<"$output")" -eq 1 ]
	says "c /etc/stager/stager.json"
	syncs rpm
}

@test "packages: erasing the .rpm leaves edited configuration and the state" {
	new_root rpm
	exits 0 rpm_in rpm -e stager
	rm -r "$P/rpm/var/lib/stager"
	rm "$P/rpm/etc/stager/stager.json.rpmsave" "$P/rpm/etc/stager/stager.json.rpmnew"
	rmdir "$P/rpm/etc/stager"
	# /usr/share/licenses belongs to a package that is not in this root.
	left rpm | grep -v ' \./usr/share/licenses $' >"$W/left" || true
	[ ! -s "$W/left" ] || fail "is left, or is missing:" "$(cat "$W/left")"
}

@test "packages: roots of other releases are looked at from outside" {
	local other have='' pids=() pid

	new_root base
	for other in trixie bullseye noble jammy; do
		[ "$other" != "$CODENAME" ] && CODENAME=$other of_archive InRelease || continue
		# Unpacked as far as there are release files and programs.
		# shellcheck disable=SC2086 # it is options
		debootstrap --foreign --variant=minbase $BOOTSTRAP "$other" "$P/$other" "$MIRROR_URL" \
			>"$W/$other.log" 2>&1 3>&- &
		pids+=($!)
		have+=" $other"
	done
	[ -n "$have" ] || skip "the archive has no other release"
	for pid in "${pids[@]}"; do
		wait "$pid" || fail "$(tail -n 5 "$W"/*.log)"
	done
	for other in $have; do
		"$STAGER_PREFIX/sbin/stager-agent" check --root "$P/$other" --json --out "$W/out" \
			>"$W/checks" || [ $? -eq 40 ]
		value='[c["value"] for c in j["checks"] if c["name"] == "OS_VERSION"][0]'
		case $other in
		trixie) [[ $(query "$W/checks" "$value") == "debian 13"* ]] ;;
		bullseye) [[ $(query "$W/checks" "$value") == "debian 11"* ]] ;;
		noble) [ "$(query "$W/checks" "$value")" = "ubuntu 24.04" ] ;;
		jammy) [ "$(query "$W/checks" "$value")" = "ubuntu 22.04" ] ;;
		esac
		[ "$(query "$W/checks" '[c["result"] for c in j["checks"] if c["name"] == "ARCHITECTURE"][0]')" = OK ]
		# What only a system that runs can tell is no error of the root's.
		[ "$(query "$W/checks" '[c["result"] for c in j["checks"] if c["message"].startswith("could not tell")
			and c["result"] != "WARN"]')" = "[]" ]
		rm -rf "${P:?}/$other"
	done
}

# boot NAME: with systemd, in a container that shares the network; inside runs commands there.
boot() {
	systemd-nspawn -q -D "$P/$1" --boot --register=no --keep-unit --link-journal=no \
		</dev/null >"$P/$1.console" 2>&1 3>&- &
	NSPAWN=$!
	wait_until 60 is_up || skip "no system boots in a container here: $(tail -n 1 "$P/$1.console")"
}

is_up() {
	kill -0 "$NSPAWN" || return 1
	LEADER=$(pgrep -P "$NSPAWN") && inside systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded'
}

# --root: the root of its mount namespace is not its own where / is no mount point.
inside() { nsenter -t "$LEADER" --mount --pid --uts --ipc --root --wd "$@" 3>&-; }

# SIGTERM asks for an orderly end.
halt() {
	[ -n "${NSPAWN:-}" ] || return 0
	kill "$NSPAWN" 2>/dev/null || true
	wait "$NSPAWN" || true
	NSPAWN=
}

teardown() {
	halt
	it_teardown
}

# agent_as_service ROOT: the unit as it is installed, with nobody at the other end of the network.
agent_as_service() {
	local set config=$1/etc/stager/stager-agent.json

	# What was synced is still to be compared.
	cp -a "$config" "$W/config"
	cat >"$config" <<-END
	{ "poll_interval": 1, "control_plane": { "ak": "AKTESTTEST", "sk_file": "/opt/sk",
		"endpoints": { "sms": "http://127.0.0.1:1" } } }
	END
	mkdir -p "$1/opt"
	install -m 600 <(echo not-to-be-seen) "$1/opt/sk"
	inside systemctl start stager-agent || fail "$(inside journalctl -o cat -u stager-agent)"
	wait_until 60 agent_checked
	cat "$W/agent"
	grep -q '^user  *stager$' "$W/agent"
	grep -q 'connect to 127.0.0.1' "$W/agent"
	inside cat "/proc/$(main_pid)/status" >"$W/agent.proc"
	for set in CapInh CapPrm CapEff CapBnd CapAmb; do
		grep -qP "^$set:\t0+4$" "$W/agent.proc" || fail "$(cat "$W/agent.proc")"
	done
	exits 0 inside systemctl reload stager-agent
	wait_until 10 agent_reloaded
	exits 0 inside systemctl stop stager-agent
	cp -a "$W/config" "$config"
	[ "$(inside systemctl show -P Result stager-agent)" = success ]
	inside journalctl -o cat -u stager-agent >"$W/agent.journal"
	cat "$W/agent.journal"
	lacks not-to-be-seen <"$W/agent.journal"
	lacks "watchdog" <"$W/agent.journal"
}
agent_checked() { inside stager-agent status >"$W/agent" && grep -q '^checked' "$W/agent"; }
agent_reloaded() { inside stager-agent status >"$W/agent" && grep -q '^reloaded' "$W/agent"; }

# What the load decides is left out.
errors_of() {
	query "$1" '[c["name"] for c in j["checks"]
		if c["result"] == "ERROR" and c["name"] not in ("CPU", "MEMORY")]'
}

# worse FILE OTHER: checks of FILE that pass there and not in the other.
worse() {
	python3 - "$@" <<-'END'
	import json, sys
	one, other = [{c["name"]: c["result"] for c in json.load(open(f))["checks"]} for f in sys.argv[1:]]
	assert len(one) > 20 and one.keys() == other.keys()
	for name in one:
	    if one[name] == "OK" != other[name] and name not in ("CPU", "MEMORY"):
	        print(name, other[name])
	END
}

@test "packages: confined, the service reads everything and writes its own directories only" {
	local root=$P/boot dir

	need_tool systemd-nspawn
	new_root boot
	rpm_in boot -i --nodeps "$rpm"
	# What a sandbox likes to hide, and secrets of others.
	for dir in home root srv var/tmp usr/lib/modules/6.1; do
		mkdir -p "$root/$dir"
		echo "$dir" >"$root/$dir/file"
		install -m 0 -o 12345 -g 54321 /dev/null "$root/$dir/closed"
	done
	cp "$SSHD_KEY" "$SSHD_KNOWN_HOSTS" "$root/root/"
	install -m 600 <(echo secret) "$root/root/password"
	# Left by a run of root's.
	echo 1 >"$root/var/lib/stager/status.json"
	cat >"$root/root/service" <<-END
	for file in /usr/x /etc/x /root/x /tmp/x /srv/x /dev/shm/x; do
		! touch \$file 2>/dev/null || echo "wrote \$file"
	done
	touch /run/stager/mine /var/lib/stager/status.json || echo "its own directories are closed"
	! unshare --user true 2>/dev/null || echo "made a namespace"
	! chown stager /var/lib/stager/status.json 2>/dev/null || echo "changed an owner"
	! cat /dev/kmsg >/dev/null 2>&1 || echo "read the log of the kernel"
	stager-agent check --offline --json >/run/stager/checks || true
	cat /run/stager/checks >/var/lib/stager/checks
	grep -E '^(NoNewPrivs|CapEff|CapBnd)' /proc/self/status
	exec stager full --no-default-excludes --path etc --path home --path root --path srv \
		--path var/tmp --path usr --target root@127.0.0.1:$DST --port $SSHD_PORT \
		--identity /root/client --password-file /root/password \
		--known-hosts /root/known_hosts --progress none
	END
	sed 's,@STAGER_AGENT@ run,/bin/sh /root/service,; s/^Type=.*/Type=oneshot/
		/^ConditionPathExists/d; /^Restart/d' "$TESTS/../packaging/systemd/stager-agent.service.in" \
		>"$root/etc/systemd/system/try.service"
	boot boot
	inside systemctl start try || fail "$(inside journalctl -o cat -u try)"
	inside journalctl -o cat -u try >"$W/journal"
	inside stager-agent check --offline --json >"$W/checks" || true
	cp "$root/var/lib/stager/checks" "$W/checks.service"
	agent_as_service "$root"
	halt
	cat "$W/journal"
	lacks wrote <"$W/journal"
	lacks "are closed" <"$W/journal"
	lacks "made a" <"$W/journal"
	lacks "changed an" <"$W/journal"
	lacks "of the kernel" <"$W/journal"
	# CAP_DAC_READ_SEARCH, 2, and nothing else.
	grep -qP 'CapEff:\t0+4$' "$W/journal"
	grep -qP 'CapBnd:\t0+4$' "$W/journal"
	grep -qP 'NoNewPrivs:\t1$' "$W/journal"
	for dir in etc home root srv usr var/tmp; do
		assert_same "$root/$dir" "$DST/$dir"
	done
	# The confinement itself is all that the checks of a source see of it, and no error.
	[ "$(errors_of "$W/checks")" = "$(errors_of "$W/checks.service")" ]
	worse "$W/checks" "$W/checks.service" >"$W/worse"
	lacks ERROR <"$W/worse"
	[ -z "$(grep -vE '^(MOUNT_POINTS|PRIVILEGES|TEMP_DIR) ' "$W/worse")" ] || fail "$(cat "$W/worse")"
}

service() { inside systemctl "$1" stager-agent 2>/dev/null || true; }
main_pid() { inside systemctl show -P MainPID stager-agent; }
enable_service() {
	exits 0 inside systemctl enable --now stager-agent
	PID=$(main_pid)
	[ "$(inside ps -o user= "$PID")" = stager ]
}
# The service runs on, in the process that it had.
went_on() {
	says "goes on with the version it was started with"
	[ "$(service is-active)" = active ]
	[ "$(service is-enabled)" = enabled ]
	[ "$(main_pid)" = "$PID" ]
}

@test "packages: an upgrade lets a running service be, a removal stops it" {
	local root=$P/service apt=(env DEBIAN_FRONTEND=noninteractive
		apt-get install -q -y --no-install-recommends)

	need_tool systemd-nspawn
	deb_files "$deb" | grep -q /stager-agent.service || skip "the agent cannot run as a service yet"
	new_root service
	exits 0 in_root service "${apt[@]}" rpm procps
	put "$deb" service
	put "$next_deb" service
	put "$rpm" service
	put "$next_rpm" service
	# What it starts is stood in for: the packages are under test here, not the agent.
	mkdir -p "$root/etc/systemd/system/stager-agent.service.d"
	cat >"$root/etc/systemd/system/stager-agent.service.d/test.conf" <<-END
	[Unit]
	ConditionPathExists=
	[Service]
	Type=exec
	ExecStart=
	ExecStart=/bin/sleep 1000
	END
	boot service

	exits 0 inside "${apt[@]}" "/root/$(basename "$deb")"
	[ "$(service is-active)" = inactive ]
	[ "$(service is-enabled)" = disabled ]
	enable_service
	exits 0 inside "${apt[@]}" "/root/$(basename "$next_deb")"
	went_on
	exits 0 inside dpkg --remove stager
	[ "$(service is-active)" = inactive ]
	exits 0 inside "${apt[@]}" "/root/$(basename "$deb")"
	[ "$(service is-active)" = inactive ]
	[ "$(service is-enabled)" = enabled ]
	exits 0 inside dpkg --purge stager
	assert_gone "$root/etc/systemd/system/multi-user.target.wants/stager-agent.service"

	exits 0 inside rpm -i --nodeps "/root/$(basename "$rpm")"
	[ "$(service is-active)" = inactive ]
	[ "$(service is-enabled)" = disabled ]
	enable_service
	exits 0 inside rpm -U --nodeps "/root/$(basename "$next_rpm")"
	went_on
	exits 0 inside rpm -e stager
	[ "$(service is-active)" = inactive ]
	assert_gone "$root/etc/systemd/system/multi-user.target.wants/stager-agent.service"
}

# play ARGUMENT...: the playbook, inside of the container, on the container.
play() {
	exits 0 inside env LC_ALL=C.UTF-8 ansible-playbook -i /root/inventory -c local \
		/root/ansible/site.yml "$@"
}

@test "packages: the Ansible role installs, configures and starts, and then changes nothing" {
	local root=$P/ansible

	need_tool systemd-nspawn
	new_root ansible
	exits 0 in_root ansible apt-get install -q -y --no-install-recommends ansible-core
	cp -r "$TESTS/../packaging/ansible" "$root/root/ansible"
	put "$deb" ansible
	printf '[stager_sources]\nlocalhost\n' >"$root/root/inventory"
	cat >"$root/root/vars.yml" <<-END
	stager_package: /root/$(basename "$deb")
	stager_config: {target: "root@new.example:/mnt/new", sessions: 4}
	stager_agent_config: {control_plane: {ak: AKTEST, sk_file: /etc/stager/sk}}
	stager_secrets: {sk: "not to be seen"}
	stager_known_hosts: ["new.example ssh-ed25519 AAAA"]
	END
	# What it starts is stood in for: the role is under test here, not the agent.
	printf '[Service]\nExecStart=/bin/sleep 1000\nExecReload=/bin/touch /run/reloaded\n[Install]\n%s\n' \
		WantedBy=multi-user.target >"$root/etc/systemd/system/stager-agent.service"
	boot ansible
	play -e @/root/vars.yml -v
	lacks "not to be seen" <<<"$output"
	[ "$(inside systemctl is-enabled stager-agent)" = enabled ]
	[ "$(inside systemctl is-active stager-agent)" = active ]
	[ "$(inside stat -c '%U:%G %a' /etc/stager/sk)" = "root:root 600" ]
	[ "$(query "$root/etc/stager/stager.json" 'j["sessions"]')" = 4 ]
	[ "$(query "$root/etc/stager/stager-agent.json" 'j["control_plane"]["sk_file"]')" = /etc/stager/sk ]
	# stager takes it as its configuration.
	exits 0 inside stager plan --source /etc
	says "to be sent"
	inside rm -f /run/reloaded
	play -e @/root/vars.yml
	says "changed=0 "
	[ ! -e "/proc/$LEADER/root/run/reloaded" ]
	play -e @/root/vars.yml -e '{"stager_config": {"sessions": 2}}'
	says "changed=2 "
	inside test -e /run/reloaded
}

@test "packages: the unit has no errors, and its exposure is below 3" {
	local unit=$W/stager-agent.service

	sed 's,@STAGER_AGENT@,/bin/true,' "$TESTS/../packaging/systemd/stager-agent.service.in" >"$unit"
	exits 0 systemd-analyze verify --man=no "$unit"
	[ -z "$output" ] || fail "$output"
	exits 0 systemd-analyze security --offline=true --threshold=30 --no-pager "$unit"
}
