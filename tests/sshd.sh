# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# tests/sshd.sh - a private sshd on loopback, to be sourced.
#
#   sshd_start DIR [OPTION...]  start one whose keys and files live in DIR (created); each
#                               OPTION is a further line of sshd_config, which wins over ours.
#                               Sets SSHD_PORT, SSHD_KEY (private key of a client that may log
#                               in as the caller and as root), SSHD_KNOWN_HOSTS, SSHD_PID.
#                               Who logs in has DIR/home as HOME.
#                               HOME is DIR/home there, so that the start-up files of whoever
#                               runs the tests neither run nor get in the way.
#   sshd_stop                   stop it, and what it has started.

# A port of loopback that nobody listens on, from a range outside of the ephemeral one.
sshd_free_port() {
	local port i
	for ((i = 0; i < 200; i++)); do
		port=$((20000 + RANDOM % 12000))
		if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
			echo "$port"
			return 0
		fi
	done
	echo "sshd.sh: no free port" >&2
	return 1
}

# True when an SSH banner comes from the port.
sshd_answers() {
	local banner
	{ exec 3<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null || return 1
	IFS= read -r -t 2 banner <&3
	exec 3>&-
	[[ $banner == SSH-* ]]
}

sshd_start() {
	local dir=$1 sshd try i
	shift
	sshd=$(PATH=$PATH:/usr/sbin:/sbin command -v sshd) || {
		echo "sshd.sh: no sshd here: install openssh-server" >&2
		return 1
	}
	mkdir -p "$dir/home" && chmod 700 "$dir" || return 1
	dir=$(cd "$dir" && pwd)
	# The directory that sshd wants for privilege separation, missing where it never ran.
	if [[ $(id -u) == 0 && ! -d /run/sshd ]]; then
		mkdir -p /run/sshd && chmod 755 /run/sshd
	fi
	# The caller's own home would bring start-up files that print, wait for one another or
	# take half a second; and the receiver would be left there.
	mkdir -p "$dir/home" || return 1
	for i in host client; do
		[[ -e $dir/$i ]] || ssh-keygen -q -t ed25519 -N '' -C "$i" -f "$dir/$i" || return 1
	done
	cp "$dir/client.pub" "$dir/authorized_keys"

	# Another program may take the port between our look and sshd's bind: try again.
	for ((try = 0; try < 5; try++)); do
		SSHD_PORT=$(sshd_free_port) || return 1
		{
			printf '%s\n' "$@"
			cat <<-EOF
			Port $SSHD_PORT
			ListenAddress 127.0.0.1
			HostKey $dir/host
			PidFile $dir/sshd.pid
			AuthorizedKeysFile $dir/authorized_keys
			SetEnv HOME=$dir/home
			StrictModes no
			UsePAM no
			PermitRootLogin yes
			PasswordAuthentication no
			KbdInteractiveAuthentication no
			PrintMotd no
			SetEnv HOME=$dir/home
			MaxStartups 100:30:200
			EOF
			# A second line of the same subsystem is an error, not a line that loses.
			[[ "$*" == *"Subsystem sftp"* ]] || echo "Subsystem sftp internal-sftp"
		} >"$dir/sshd_config"
		"$sshd" -D -e -f "$dir/sshd_config" </dev/null >"$dir/sshd.log" 2>&1 &
		SSHD_PID=$!
		for ((i = 0; i < 100; i++)); do
			kill -0 "$SSHD_PID" 2>/dev/null || break
			if sshd_answers "$SSHD_PORT" && kill -0 "$SSHD_PID" 2>/dev/null; then
				SSHD_KEY=$dir/client
				SSHD_KNOWN_HOSTS=$dir/known_hosts
				printf '[127.0.0.1]:%s %s\n' "$SSHD_PORT" \
					"$(cut -d' ' -f1,2 "$dir/host.pub")" >"$SSHD_KNOWN_HOSTS"
				# What sources this reads them.
				export SSHD_PORT SSHD_KEY SSHD_KNOWN_HOSTS SSHD_PID
				return 0
			fi
			sleep 0.05
		done
		sshd_stop
	done
	echo "sshd.sh: sshd did not start:" >&2
	cat "$dir/sshd.log" >&2
	return 1
}

# The processes below a process, leaves first.
sshd_tree() {
	local child
	for child in $(ps -o pid= --ppid "$1" 2>/dev/null); do
		sshd_tree "$child"
		echo "$child"
	done
}

sshd_stop() {
	local below
	[[ -n ${SSHD_PID:-} ]] || return 0
	below=$(sshd_tree "$SSHD_PID")
	# shellcheck disable=SC2086 # a list of numbers
	kill "$SSHD_PID" $below 2>/dev/null
	wait "$SSHD_PID" 2>/dev/null
	SSHD_PID=
	return 0
}
