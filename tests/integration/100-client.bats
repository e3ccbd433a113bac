#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# The control-plane client against servers that misbehave, and against bad keys.  Whatever is
# printed, in any test, must not hold the secret key or a token: teardown looks.

bats_require_minimum_version 1.5.0

SK=sk-nobody-may-see-this-0123456789
TOKEN=token-nobody-may-see-this

export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=1:exitcode=99}"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-halt_on_error=1:print_stacktrace=1:exitcode=99}"

# make_pair NAME SUBJECT-ALT-NAME: key and certificate in one file, signed by the test's CA.
make_pair() {
	openssl req -newkey rsa:2048 -nodes -keyout "$D/$1.key" -out "$D/$1.csr" -subj "/CN=$1" \
		2>/dev/null
	openssl x509 -req -in "$D/$1.csr" -CA "$D/ca.pem" -CAkey "$D/ca.key" -CAcreateserial -days 2 \
		-extfile <(echo "subjectAltName=$2") -out "$D/$1.crt" 2>/dev/null
	cat "$D/$1.key" "$D/$1.crt" >"$D/$1.pem"
}

setup_file() {
	D=$(mktemp -d /var/tmp/stager-client.XXXXXX)
	export D
	openssl req -x509 -newkey rsa:2048 -nodes -keyout "$D/ca.key" -out "$D/ca.pem" -days 2 \
		-subj "/CN=test authority" 2>/dev/null
	make_pair server "IP:127.0.0.1,DNS:sms.test"
	make_pair other "DNS:other.example"
	"$BATS_TEST_DIRNAME/bad-server" "$D" 3>&- >"$D/server.log" 2>&1 &
	echo $! >"$D/pid"
	for _ in $(seq 100); do
		[ -s "$D/ports" ] && return 0
		sleep 0.1
	done
	cat "$D/server.log"
	return 1
}

teardown_file() {
	kill "$(cat "$D/pid")" || true
	rm -rf "$D"
}

setup() {
	local build

	build=$BATS_TEST_DIRNAME/../../build/$(basename "${STAGER_PREFIX:?set STAGER_PREFIX}")
	PROBE=${CLIENT_PROBE:-$build/tests/client-probe}
	[ -x "$PROBE" ] || skip "no client-probe at $PROBE"
	read -r GOOD OTHER PLAIN PROXY <"$D/ports"
	W=$(mktemp -d "$D/test.XXXXXX")
	: >"$W/all"
	(umask 077 && echo "$SK" >"$W/sk")
	AK=AKTESTKEY0123456789X
	config '"retries": 0'
	unset "${!HC_@}" "${!RSYNC_@}" CREDENTIALS_DIRECTORY TARGET_REGION
}

teardown() {
	[ -e "$W/all" ] || return 0
	if grep -rqF -e "$SK" -e "$TOKEN" -e proxy-password "$W/all"; then
		echo "a secret was printed:"
		cat "$W/all"
		return 1
	fi
}

# config LINES...: the config file, with these in control_plane.
config() {
	local IFS=, rest

	rest="$*"
	cat >"$W/agent.json" <<-EOF
		{ "state_dir": "$W/state", "control_plane": {
		  "ak": "$AK", "sk_file": "$W/sk", "ca_file": "$D/ca.pem",
		  "endpoints": { "sms": "https://127.0.0.1:$GOOD", "iam": "https://127.0.0.1:$GOOD" },
		  $rest } }
	EOF
}

# probe STATUS [OPTIONS] SERVICE METHOD PATH [BODY]
probe() {
	local want=$1

	shift
	run "$PROBE" --config "$W/agent.json" --log-level debug call "$@"
	echo "$output" | tee -a "$W/all"
	[ "$status" -eq "$want" ] || { echo "exit status $status, not $want"; return 1; }
}

says() {
	[[ $output == *"$1"* ]] || { echo "nothing of: $1"; return 1; }
}

seen_count() { grep -c "^[A-Z]* $1 " "$D/seen" || true; }

@test "a good answer comes through, signed, with one connection" {
	probe 0 sms GET /v3/fine
	says '200 {"fine":true}'
	says 'ms), request req-77'
	grep -A9 'GET /v3/fine ' "$D/seen" | grep -q "Authorization: SDK-HMAC-SHA256 Access=$AK, SignedHeaders="
	run ! grep -F "$SK" "$D/seen"
}

@test "the access key is shown as its first four characters" {
	probe 0 sms GET /v3/fine
	says 'access key AKTE****'
	[[ $output != *"$AK"* ]]
}

@test "a missing access key, a missing secret key, a file that is not there" {
	AK='' config '"retries": 0'
	sed -i '/"ak"/s/"ak": "", //' "$W/agent.json"
	probe 5 sms GET /v3/fine
	says 'no access key: set HC_AK'
	config '"retries": 0'
	sed -i 's/"sk_file": "[^"]*", //' "$W/agent.json"
	probe 5 sms GET /v3/fine
	says 'no secret key: set HC_SK'
	config '"retries": 0'
	rm "$W/sk"
	probe 5 sms GET /v3/fine
	says "open secret file $W/sk: No such file or directory"
}

@test "an empty secret key, one with a blank, one with a line behind it" {
	: >"$W/sk"
	probe 5 sms GET /v3/fine
	says "secret file $W/sk is empty"
	echo "two words" >"$W/sk"
	probe 5 sms GET /v3/fine
	says 'secret key holds a blank'
	printf '%s\nmore\n' "$SK" >"$W/sk"
	probe 5 sms GET /v3/fine
	says 'secret key holds a blank'
}

@test "a secret key that others may read" {
	chmod 644 "$W/sk"
	probe 5 sms GET /v3/fine
	says "open to others (mode 0644): run 'chmod 600 $W/sk'"
}

@test "keys from the environment win, systemd credentials come before files" {
	HC_AK=ENVKEY0123456789 HC_SK=$SK probe 0 sms GET /v3/fine
	says 'access key ENVK****'
	rm "$W/sk"
	mkdir "$W/cred"
	echo "$SK" >"$W/cred/hc_sk"
	chmod 400 "$W/cred/hc_sk"
	CREDENTIALS_DIRECTORY=$W/cred probe 0 sms GET /v3/fine
	HC_SECURITY_TOKEN=$TOKEN CREDENTIALS_DIRECTORY=$W/cred probe 0 sms GET /v3/with-token
	grep -A9 'GET /v3/with-token ' "$D/seen" | grep -q "X-Security-Token: $TOKEN"
	grep -A12 'GET /v3/with-token ' "$D/seen" | grep -q 'SignedHeaders=host;x-sdk-date;x-security-token'
}

@test "a secret in the config file is refused with the place where it belongs" {
	config "\"sk\": \"$SK\""
	probe 1 sms GET /v3/fine
	says 'put it into a file of mode 0600 and name that with the key sk_file'
	config "\"proxy\": { \"password\": \"proxy-password\" }"
	probe 1 sms GET /v3/fine
	says 'name that with the key password_file'
}

@test "a region that the account does not have" {
	config '"region": "la-soth-2"'
	probe 1 vpc GET '/v1/{project_id}/vpcs'
	says "region 'la-soth-2': the account has no project of that name, did you mean 'la-south-2'"
}

@test "a clock 20 minutes off is measured" {
	probe 5 sms GET /v3/clock
	says "this machine's clock is 20 min ahead of the service's"
	says 'signing with their time now'
	[ "$(seen_count /v3/clock)" -eq 2 ]
}

@test "a refusal that repeats the access key does not show it" {
	probe 5 sms GET /v3/wrong-key
	says 'APIGW.0301: ak AKTE**************** does not exist'
	[[ $output != *"$AK"* ]]
	says 'req-77'
	says 'check access key, secret key'
}

@test "a web page instead of JSON" {
	probe 12 sms GET /v3/html
	says "a web page ('Hotel WiFi: sign in') where JSON is due"
	probe 46 sms GET /v3/bad-gateway
	says 'HTTP 502: 502 Bad Gateway'
}

@test "answers that are cut off" {
	probe 12 sms GET /v3/cut-json
	says 'cut off or damaged'
	probe 30 sms GET /v3/cut-body
	says 'the connection to 127.0.0.1 broke'
	probe 30 sms GET /v3/hang-up
	says 'the connection to 127.0.0.1 broke'
}

@test "what was lost is asked for again when that is harmless, and only then" {
	config '"retries": 1'
	probe 30 sms GET /v3/a/hang-up
	[ "$(seen_count /v3/a/hang-up)" -eq 2 ]
	probe 30 sms POST /v3/b/hang-up '{}'
	[ "$(seen_count /v3/b/hang-up)" -eq 1 ]
	probe 0 sms POST /v3/busy-once '{}'
	says 'again in 1.0 s (1 of 1)'
}

@test "an answer of 100 MB is refused while it comes" {
	probe 12 sms GET /v3/large
	says 'is larger than 32 MiB'
	probe 12 sms GET /v3/large-unsaid
	says 'is larger than 32 MiB'
	probe 12 sms GET /v3/headers
	# What the server could send before the client hung up: the limit and what was on the way.
	for _ in $(seq 100); do
		[ "$(grep -c '^streamed' "$D/seen")" -ge 2 ] && break
		sleep 0.1
	done
	[ "$(grep -c '^streamed' "$D/seen")" -eq 2 ]
	[ "$(sed -n 's/^streamed //p' "$D/seen" | sort -n | tail -n 1)" -lt $((60 << 20)) ]
}

@test "a redirect is not followed" {
	probe 12 sms GET /v3/redirect
	says 'redirects to elsewhere.example (HTTP 302), which is not followed'
	probe 12 sms GET /v3/redirect-here
	says "redirects to '/v3/after-redirect' (HTTP 301), which is not followed"
	[ "$(seen_count /v3/after-redirect)" -eq 0 ]
}

@test "a certificate of another name, of another authority, and no certificate" {
	SMS_ENDPOINT=https://127.0.0.1:$OTHER probe 5 sms GET /v3/fine
	says 'the certificate of 127.0.0.1 cannot be trusted'
	config '"retries": 0'
	sed -i 's|"ca_file": "[^"]*",||' "$W/agent.json"
	probe 5 sms GET /v3/fine
	says 'the certificate of 127.0.0.1 cannot be trusted'
	config '"retries": 0'
	SMS_ENDPOINT=https://127.0.0.1:$PLAIN probe 10 sms GET /v3/fine
	says 'no connection to 127.0.0.1'
	sed -i "s|\"ca_file\": \"[^\"]*\"|\"ca_file\": \"$W/none.pem\"|" "$W/agent.json"
	probe 11 sms GET /v3/fine
	says "$W/none.pem"
}

@test "plain http is for loopback only" {
	SMS_ENDPOINT=http://127.0.0.1:$PLAIN probe 0 sms GET /v3/fine
	SMS_ENDPOINT=http://sms.example.com probe 1 sms GET /v3/fine
	says 'plain http:// is accepted for loopback addresses only'
	SMS_ENDPOINT=http://127.0.0.1.example.com probe 1 sms GET /v3/fine
}

@test "nobody there, and somebody who does not answer" {
	SMS_ENDPOINT=https://127.0.0.1:1 probe 10 sms GET /v3/fine
	says 'no connection to 127.0.0.1'
	SMS_ENDPOINT=https://no-such-host.invalid probe 10 sms GET /v3/fine
	says 'no connection to no-such-host.invalid'
	config '"retries": 0' '"timeout": 0.3'
	probe 30 sms GET /v3/hang
	says '127.0.0.1 did not answer within 0.3 s'
}

@test "a proxy, with the right password and with the wrong one" {
	(umask 077 && echo proxy-password >"$W/proxy" && echo wrong >"$W/wrong")
	config '"retries": 0' "\"proxy\": { \"url\": \"http://127.0.0.1:$PROXY\", \"user\": \"joe\",
		\"password_file\": \"$W/proxy\" }"
	SMS_ENDPOINT=https://sms.test probe 0 sms GET /v3/through
	says '200 {"fine":true}'
	grep -q 'CONNECT sms.test:443' "$D/seen"
	sed -i "s|$W/proxy|$W/wrong|" "$W/agent.json"
	SMS_ENDPOINT=https://sms.test probe 5 sms GET /v3/fine
	says "proxy http://127.0.0.1:$PROXY refused user and password (HTTP 407)"
	chmod 640 "$W/wrong"
	SMS_ENDPOINT=https://sms.test probe 5 sms GET /v3/fine
	says 'open to others'
	config '"retries": 0' "\"proxy\": { \"url\": \"http://joe:proxy-password@127.0.0.1:$PROXY\" }"
	probe 1 sms GET /v3/fine
	says 'holds a user or password'
}

@test "a signal ends a request under way" {
	config '"retries": 0'
	"$PROBE" --config "$W/agent.json" call sms GET /v3/c/hang >"$W/all" 2>&1 3>&- &
	local pid=$! status=0
	for _ in $(seq 100); do
		[ "$(seen_count /v3/c/hang)" -eq 1 ] && break
		sleep 0.1
	done
	kill -TERM "$pid"
	wait "$pid" || status=$?
	cat "$W/all"
	[ "$status" -eq 20 ]
	grep -q 'ended by a signal' "$W/all"
}
