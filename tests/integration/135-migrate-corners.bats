#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# stager-agent migrate: quotas, what the environment says, and the corners of the rules.

load lib
load agent
. "$BATS_TEST_DIRNAME/../cloud/cloud.bash"

setup() {
	it_setup
	agent_setup happy
}
teardown() { agent_teardown; }

anew() { # SCENARIO: forget everything, here and there
	cloud_control PUT scenario "${1:-{\"preset\": \"happy\"\}}" >/dev/null
	cloud_forget
	rm -rf "$AGENT_STATE" "$OUT" "$DST"
}

bodies() { # of the calls of a route: a jq expression of each
	cloud_log "select(.route == \"$1\") | .body | $2"
}

failed_checks() { out postcheck_network.json '[c["name"] for c in j["checks"] if c["result"] == "ERROR"]'; }

# ---- quotas ----

@test "each quota: 40, what to do, the call that frees it, and nothing after it" {
	local path status code frees

	while read -r path status code frees; do
		anew '{"preset": "no-network"}'
		cloud_fault '{"match": "POST /'"$path"'$", "status": '"$status"', "error_code": "'"$code"'",
			"error_msg": "Quota exceeded for resources"}'
		migrate_ends 40
		says "$code"
		says "$frees"
		says quota
		cloud_writes | tail -n 1 | grep -qF "/$path" || fail "$code: more was tried" "$(cloud_writes)"
		[ "$(out migration_result.json 'j["error"]["code"]')" = "$code" ]
		[ ! -e "$OUT/task_poll_latest.json" ] && [ ! -e "$OUT/postcheck_network.json" ]
	done <<-'EOF'
	vpcs 409 VPC.0114 DELETE /v1/{project_id}/vpcs/{vpc_id}
	subnets 409 VPC.0114 DELETE /v1/{project_id}/vpcs/{vpc_id}/subnets/{subnet_id}
	security-groups 409 VPC.0604 DELETE /v1/{project_id}/security-groups/{id}
	security-group-rules 409 VPC.0602 DELETE /v1/{project_id}/security-group-rules/{id}
	publicips 409 EIP.7905 DELETE /v1/{project_id}/publicips/{id}
	cloudservers 400 Ecs.0001 POST /v1/{project_id}/cloudservers/delete
	cloudservers 403 Ecs.0001 POST /v1/{project_id}/cloudservers/delete
	cloudservers 400 Ecs.0021 DELETE /v2/{project_id}/cloudvolumes/{id}
	EOF
}

@test "the quota of source servers, met when the source registers again: 40" {
	cloud_fault '[{"match": "POST ^/v3/tasks$", "error_code": "SMS.7602"},
		{"match": "POST ^/v3/sources$", "error_code": "SMS.6501"}]'
	migrate_ends 40
	says "DELETE /v3/sources/{source_id}"
}

@test "403 with a code of rights is about the keys: 5" {
	cloud_fault '{"match": "POST ^/v3/tasks$", "status": 403, "error_code": "SMS.9004"}'
	migrate_ends 5
}

# ---- corners of the rules ----

@test "SMS.7605: a task that was paused is historical, too, but only then" {
	anew '{"preset": "happy", "settings": {"residue": {"states": ["ABORT"], "block": "any"}}}'
	migrate_ends 0
	[ "$(result task_state)" = MIGRATE_SUCCESS ]
	[ "$(out precheck_task_cleanup.json '[t["state"] for t in j["deleted"]]')" = '["ABORT"]' ]
	out precheck_task_cleanup.json '[t["reason"] for t in j["kept"]]' | grep -q paused
}

@test "SMS.7703 and the live task was never started: it is" {
	local id=aaaaaaaa-0000-0000-0000-00000000000a other=11111111-2222-3333-4444-555555555555

	anew '{"preset": "happy", "seed": {"sources": [{"name": "other", "id": "'$other'"}],
		"tasks": [{"id": "'$id'", "source_id": "'$other'", "state": "READY"}]}}'
	cloud_fault '[{"match": "POST ^/v3/tasks/[^/]+/action", "nth": 1, "error_code": "SMS.7703"},
		{"match": "GET ^/v3/tasks$", "nth": 2, "set": {"tasks": [
		{"id": "'$id'", "state": "READY", "source_server": {"id": "'"$CLOUD_SOURCE"'"}}]}}]'
	migrate_ends 0
	chain_is "${BEGIN[@]}" "${TARGET[@]}" "${GO[@]:0:2}" "GET /v3/tasks" "${GO[@]:1}"
	[ "$(result task_id)" = $id ]
}

@test "SMS.7703: a task at work goes before one that was never started; its server is told" {
	local id=aaaaaaaa-0000-0000-0000-00000000000a vm=aaaaaaaa-0000-0000-0000-00000000000b

	cloud_fault '[{"match": "GET ^/v3/tasks/", "nth": 1, "error_code": "SMS.7703"},
		{"match": "GET ^/v3/tasks$", "nth": 2, "set": {"tasks": [
		{"id": "aaaaaaaa-0000-0000-0000-000000000001", "state": "READY"},
		{"id": "'$id'", "state": "RUNNING", "target_server": {"vm_id": "'$vm'"}}]}},
		{"match": "GET ^/v3/tasks/'$id'", "body": {"id": "'$id'", "state": "MIGRATE_SUCCESS"}}]'
	# The cloud has no such server: the postcheck says so.
	migrate_ends 40
	says $vm
	[ "$(result task_id)" = $id ]
	[ "$(result target_server_id)" = $vm ]
	[ "$(cloud_routes | grep -c 'POST /v3/tasks/{task_id}/action')" -eq 1 ]
}

@test "SMS.6617 in the task, also of the second one by files: the staged sync" {
	cloud_set '{"task_failures": [{"at": ".*", "error_code": "SMS.6617"}]}'
	migrate_ends 0
	[ "$(bodies 'POST /v3/tasks' .type | tr '\n' ' ')" = '"MIGRATE_BLOCK" "MIGRATE_FILE" ' ]
	[ "$(result migration_method)" = rsync ]
	[ "$(result rsync_run_id)" = "$(out rsync_execution.json 'j["run_id"]')" ]
	assert_same "$SRC" "$DST"
}

@test "SMS has begun with the target: nothing is sent to its temporary disk" {
	cloud_set '{"task_failures": [{"at": ".*", "error_code": "SMS.3205"}],
		"server_addresses": {"fixed": "127.0.0.1", "floating": "127.0.0.1"}}'
	host=$RSYNC_TARGET_HOST
	unset RSYNC_TARGET_HOST
	staged=("${STAGED[@]}")
	STAGED=(--config "$W/stager.json" --source "$SRC" --identity "$SSHD_KEY" --known-hosts
		"$SSHD_KNOWN_HOSTS" --no-default-excludes --progress none)
	migrate_ends 40
	says "temporary system disk"
	assert_gone "$DST"
	# Another target, and the same run goes on.
	first=$(result run_id)
	export RSYNC_TARGET_HOST=$host
	STAGED=("${staged[@]}")
	cloud_forget
	migrate_ends 0
	[ "$(result run_id)" = "$first" ]
	never '^POST'
	assert_same "$SRC" "$DST"
}

@test "a service that is busy for a while is asked again: 429 and 503 of the polls" {
	cat >"$W/agent.json" <<-JSON
	{ "control_plane": { "retries": 0 }, "migrate": { "postcheck_attempts": 2 } }
	JSON
	cloud_fault '[{"match": "GET ^/v3/tasks/", "nth": "2-4", "status": 429, "error_code": "APIGW.0308"},
		{"match": "GET ^/v3/tasks/", "nth": "6-8", "status": 503, "error_code": "SMS.6000"}]'
	migrate_ends 0
	[ "$(cloud_routes | grep -c 'POST /v3/tasks$')" -eq 1 ]
}

@test "what is still being made is waited for: VPC, subnet, public address" {
	anew '{"preset": "no-network", "settings": {"eip_polls": 3, "subnet_polls": 3}}'
	migrate_ends 0
	cloud_clean
	[ "$(cloud_state servers | jq length)" -eq 1 ]
	[ "$(cloud_routes | sed '/cloudservers$/q' | grep -c 'GET .*/publicips$')" -eq 4 ]
}

@test "a dry run of an unfinished run: what is left of it, and it stays as it is" {
	cloud_fault '{"match": "POST ^/v3/tasks$", "times": 1, "error_code": "SMS.6000"}'
	migrate_ends 46
	cp "$AGENT_STATE/migrate.json" "$W/before"
	cloud_forget
	migrate_ends 0 --dry-run
	[ "$(grep -oE '^(POST|PUT|DELETE) [^ ]+' <<<"$output" | sed 's,http://[^/]*,,')" = \
		"$(printf '%s\n' "POST /v3/tasks" "POST /v3/tasks/<task_id>/action")" ] || fail "$output"
	never '^(POST|PUT|DELETE)'
	cmp "$AGENT_STATE/migrate.json" "$W/before"
	migrate_ends 0 --dry-run --restart
	says "POST $SMS_ENDPOINT/v3/migprojects"
	cmp "$AGENT_STATE/migrate.json" "$W/before"
	# And so it is done: nobody is asked whether a task that was just made has begun.
	cloud_forget
	migrate_ends 0
	[ "$(cloud_routes sms | uniq | grep -v '^GET /v3/sources' | head -n 3)" = "$(printf '%s\n' "${GO[@]}")" ]
}

# ---- a server for the staged sync ----

# No target is configured; the stager of this prefix has the root of one, which is not /.
without_target() {
	cloud_set '{"server_addresses": {"fixed": "127.0.0.1", "floating": "127.0.0.1"}}'
	unset RSYNC_TARGET_HOST
	cp -r "$STAGER_PREFIX" "$W/prefix"
	cat >"$W/prefix/bin/stager" <<-EOF
	#!/bin/sh
	echo "\$RSYNC_TARGET_HOST" >"$W/host"
	exec "$STAGER" "\$@" --target "$ME@127.0.0.1:$DST"
	EOF
	AGENT=$W/prefix/sbin/stager-agent
	STAGED=(--config "$W/stager.json" --identity "$SSHD_KEY" --known-hosts "$SSHD_KNOWN_HOSTS"
		--source "$SRC" --no-default-excludes --progress none)
}

@test "SMS.6504 and no target is configured: one is made, no task" {
	anew '{"preset": "sms-6504"}'
	without_target
	migrate_ends 0
	chain_is "${BEGIN[@]}" "${TARGET[@]}"
	cloud_clean
	[ "$(cat "$W/host")" = 127.0.0.1 ]
	[ "$(result migration_method)" = rsync ]
	[ "$(result target_server_id)" = "$(cloud_state servers | jq -r 'keys[0]')" ]
	[ "$(out postcheck_network.json 'j["passed"]')" = true ]
	assert_same "$SRC" "$DST"
	# Without an image neither.
	anew '{"preset": "sms-6504"}'
	TARGET_IMAGE_ID='' migrate_ends 40
	says TARGET_IMAGE_ID
	chain_is "${BEGIN[@]}"
}

@test "--method rsync and no target: a server after this host, SMS is not asked" {
	without_target
	RSYNC_TARGET_PASSWORD=Hush-hush-1 migrate_ends 0 --dry-run --method rsync
	says '"adminPass":"***********"'
	lacks Hush-hush-1 <<<"$output"
	migrate_ends 0 --method rsync
	[ -z "$(cloud_routes sms)" ]
	cloud_clean
	[ "$(cloud_state servers | jq length)" -eq 1 ]
	[ -n "$(result source_name)" ]
	assert_same "$SRC" "$DST"
}

@test "killed while that server is made: one server, and the staged sync goes there" {
	local n

	without_target
	for n in 6 15 17; do
		anew '{"preset": "sms-6504", "settings": {"server_addresses":
			{"fixed": "127.0.0.1", "floating": "127.0.0.1"}}}'
		cloud_fault '{"match": "* ^/v1", "nth": '$n', "hang_s": 60, "apply": true}'
		"$AGENT" migrate "${MIGRATE[@]}" -- "${STAGED[@]}" >"$W/o" 2>&1 3>&- &
		pid=$!
		hangs() { cloud_control GET faults | grep -qE '"used": *[1-9]'; }
		wait_until 20 hangs
		kill -KILL "$pid"
		wait "$pid" || true
		cloud_control PUT faults '[]' >/dev/null
		migrate_ends 0
		[ "$(cloud_state servers | jq length)" -eq 1 ] || fail "call $n: $(cloud_routes)"
		[ "$(cloud_state eips | jq length)" -eq 1 ]
		never '^POST /v3/tasks'
		assert_same "$SRC" "$DST"
	done
}

# ---- what the task and the server are told ----

@test "volume groups go with the disks, and without disks neither" {
	cloud_state sources "$CLOUD_SOURCE" '{"volume_groups": [{"name": "vg0", "components": "/dev/vda2",
		"size": 1073741824, "free_size": 0, "id": "x", "odd": null, "logical_volumes": [{"name": "root",
		"mount_point": "/", "file_system": "ext4", "size": 1073741824, "used_size": 5}]}]}'
	cloud_fault '{"match": "POST ^/v3/tasks$", "nth": 1, "error_code": "SMS.1404"}'
	migrate_ends 0
	cloud_clean
	[ "$(bodies 'POST /v3/tasks' '.target_server.volume_groups | if . then .[0] | [.name,
		.components, .logical_volumes[0].mount_point, .logical_volumes[0].size] else . end')" = \
		'["vg0","/dev/vda2","/",1073741824]
null' ]
}

@test "each name of the environment is honoured; flags go before it, the config file behind" {
	local peers

	cat >"$W/agent.json" <<-JSON
	{ "out": "$W/wrong", "control_plane": { "ak": "WRONGWRONGWRONGWRONG", "region": "cn-north-4",
	  "endpoints": { "sms": "http://127.0.0.1:1" } },
	  "migrate": { "method": "rsync", "postcheck_attempts": 1, "source": "wrong", "source_region": "wrong",
	    "target_region_name": "wrong", "vpc_name": "wrong", "image_id": "wrong",
	    "server_name": "wrong", "eip_bandwidth_mbps": 1, "extra_peer_ips": ["192.0.2.1"],
	    "staged": { "target_host": "192.0.2.1", "target_port": 1, "target_user": "wrong" } } }
	JSON
	export SOURCE_REGION=cn-north-4 TARGET_REGION=la-south-2 TARGET_REGION_NAME="LA South"
	export TARGET_VPC_NAME=vpc-other TARGET_SERVER_NAME=moved EIP_BANDWIDTH_MBPS=7
	export EXTRA_PEER_IPS=198.51.100.9 PREFERRED_MIGRATION_METHOD=auto
	export TARGET_VPC_CIDR=10.77.0.0/16 TARGET_SUBNET_CIDR=10.77.5.0/24 SOURCE_PRIVATE_IP=172.16.5.5
	export TARGET_FLAVOR_ID=s6.small.1 ROOT_VOLUME_TYPE=SAS DATA_VOLUME_TYPE=GPSSD
	cloud_control GET "state/sources/$CLOUD_SOURCE" | jq '.init_target_server.disks += [{"name": "/dev/vdb",
		"size": 21474836480, "device_use": "NORMAL"}] | {init_target_server}' >"$W/disks"
	cloud_state sources "$CLOUD_SOURCE" "$(cat "$W/disks")"
	export RESULT_PATH=$W/by-env/migration_result.json
	MIGRATE=(--config "$W/agent.json" --state-dir "$AGENT_STATE" --poll-interval 0.01)
	migrate_ends 0
	OUT=$W/by-env
	[ "$(result task_state)" = MIGRATE_SUCCESS ]
	[ "$(result source_region)" = cn-north-4 ]
	[ "$(result target_vpc_name)" = vpc-other ]
	[ "$(result target_server_name)" = moved ]
	[ "$(bodies 'POST /v3/tasks' '[.region_id, .region_name]')" = '["la-south-2","LA South"]' ]
	[ "$(bodies 'POST /v3/migprojects' .region)" = '"LA South"' ]
	[ "$(bodies 'POST /v1.1/{project_id}/cloudservers' .server.imageRef)" = "\"$CLOUD_IMAGE\"" ]
	[ "$(bodies 'POST /v1/{project_id}/publicips' .bandwidth.size)" = 7 ]
	peers=$(bodies 'POST /v1/{project_id}/security-group-rules' .security_group_rule.remote_ip_prefix)
	grep -qF '"198.51.100.9/32"' <<<"$peers"
	grep -qF '"172.16.5.5/32"' <<<"$peers"
	lacks 192.0.2.1 <<<"$peers"
	[ "$(bodies 'POST /v1/{project_id}/vpcs' .vpc.cidr)" = '"10.77.0.0/16"' ]
	[ "$(bodies 'POST /v1/{project_id}/subnets' .subnet.cidr)" = '"10.77.5.0/24"' ]
	[ "$(bodies 'POST /v1.1/{project_id}/cloudservers' '.server | [.flavorRef, .root_volume.volumetype,
		.data_volumes[0].volumetype]')" = '["s6.small.1","SAS","GPSSD"]' ]
	cloud_clean
	# Flags before the environment.
	MIGRATE+=(--out "$W/by-flag")
	cloud_forget
	migrate_ends 0 --method rsync
	[ -z "$(cloud_calls)" ]
	OUT=$W/by-flag
	[ "$(result migration_method)" = rsync ]
	assert_gone "$W/wrong"
}

@test "stager is started with the operator's environment, and with none of the cloud's keys" {
	cp -r "$STAGER_PREFIX" "$W/prefix"
	mv "$W/prefix/bin/stager" "$W/prefix/bin/stager.real"
	printf '#!/bin/sh\nenv >"%s"\nexec "%s" "$@"\n' "$W/env" "$STAGER" >"$W/prefix/bin/stager"
	chmod 755 "$W/prefix/bin/stager"
	AGENT=$W/prefix/sbin/stager-agent
	anew '{"preset": ["sms-6504", "temporary-key"]}'
	export HC_AK=TEMPAK HC_SK=TEMPSK HC_SECURITY_TOKEN=TEMPTOKEN
	export RSYNC_INCREMENTAL_ROUNDS=0 RSYNC_TIMEOUT_SEC=77 RSYNC_SOURCE_PATHS=d
	migrate_ends 0
	[ "$(result task_state)" = FULL_SYNCED ]
	grep -qx RSYNC_TIMEOUT_SEC=77 "$W/env"
	grep -qx "RSYNC_TARGET_HOST=127.0.0.1" "$W/env"
	lacks HC_ <"$W/env"
	lacks "$HC_SK" <"$W/env"
	lacks "$HC_SECURITY_TOKEN" <"$W/env"
}

# ---- afterwards ----

@test "an address that is frozen, or another server's, is not bound" {
	local set

	for set in '"publicips[*].status": "FREEZED"' '"publicips[*].private_ip_address": "10.99.99.99"'; do
		anew
		cloud_fault '{"match": "GET ^/v1/[^/]+/publicips", "set": {'"$set"'}}'
		migrate_ends 45
		[ "$(failed_checks)" = '["EIP_BOUND"]' ] || fail "$set: $(failed_checks)"
	done
	# No word about its state, but it leads to the target.
	anew
	cloud_fault '{"match": "GET ^/v1/[^/]+/publicips", "set": {"publicips[*].status": null}}'
	migrate_ends 0
}

@test "a rule of the other family lets nobody out" {
	cloud_fault '{"match": "GET security-group-rules", "nth": "2-", "set": {"security_group_rules": [
		{"direction": "ingress", "ethertype": "IPv4"}, {"direction": "egress", "ethertype": "IPv6"}]}}'
	migrate_ends 45
	[ "$(failed_checks)" = '["RULES_OUT"]' ]
}

@test "a login at a host that is not the target says so" {
	migrate_ends 0
	says "no address that the cloud knows"
	anew
	cloud_set '{"server_addresses": {"fixed": "127.0.0.1", "floating": "127.0.0.1"}}'
	migrate_ends 0
	lacks "no address that the cloud knows" <<<"$output"
}

@test "times of the task are told in local time, too" {
	TZ=CST-8 migrate_ends 0
	for f in started_at task_started_at task_finished_at generated_at; do
		[[ $(result ${f}_local) == *+08:00 ]] || fail "$f: $(result ${f}_local)"
		[ "$(date -d "$(result ${f}_local)" +%s)" = "$(result $f)" ]
		[ "$(date -d "$(result ${f}_utc)" +%s)" = "$(result $f)" ]
	done
}

@test "a topic of another region is told there" {
	cat >"$W/agent.json" <<-JSON
	{ "migrate": { "notify_topic_urn": "urn:smn:cn-north-4:p:t" } }
	JSON
	migrate_ends 0
	[ "$(cloud_log 'select(.service == "smn") | .region')" = '"cn-north-4"' ] ||
		cloud_log 'select(.service == "iam") | .query' | grep -q cn-north-4
}

@test "dcs-migrate: the id of a task that could not be configured is not lost" {
	(umask 077 && echo pw >"$W/redis")
	cat >"$W/agent.json" <<-JSON
	{ "dcs": { "vpc_id": "$(cloud_state vpcs | jq -r '.[] | select(.name == "vpc-migration") | .id')",
	  "subnet_id": "$(cloud_state subnets | jq -r '[.[]][0].id')",
	  "security_group_id": "$(cloud_state groups | jq -r '[.[]][0].id')",
	  "source_instance": { "addrs": "192.168.1.1:6379", "password_file": "$W/redis" },
	  "target_instance": { "id": "cf4a05df-1c38-47c5-bb5a-0a7b3673b3bd" } } }
	JSON
	cloud_fault '{"match": "POST migration/[^/]+/task$", "status": 400, "times": 1,
		"error_code": "DCS.4000", "error_msg": "source is not reachable"}'
	exits 46 "$AGENT" dcs-migrate "${MIGRATE[@]}"
	says "--task"
	id=$(out dcs_migration_result.json 'j["task_id"]')
	says "$id"
	out dcs_migration_result.json 'j["error"]' | grep -q "not reachable"
	exits 0 "$AGENT" dcs-migrate "${MIGRATE[@]}" --task "$id"
	[ "$(out dcs_migration_result.json 'j["status"]')" = SUCCESS ]
	[ "$(cloud_state dcs_tasks | jq length)" -eq 1 ]
	# One that is at work is followed, though the service is busy for a while.
	sed -i 's/^{/{ "control_plane": { "retries": 0 },/' "$W/agent.json"
	cloud_state dcs_tasks "$id" '{"status": "MIGRATING"}'
	cloud_fault '{"match": "GET migration-task/[^/]+$", "nth": "2-4", "status": 429,
		"error_code": "APIGW.0308"}'
	"$AGENT" dcs-migrate "${MIGRATE[@]}" --task "$id" >"$W/o" 2>&1 3>&- &
	pid=$!
	polled() { [ "$(cloud_routes | grep -c 'GET .*migration-task/{task_id}$')" -gt 8 ]; }
	wait_until 20 polled
	cloud_fault '{"match": "GET migration-task/[^/]+$", "set": {"status": "SUCCESS"}}'
	wait "$pid" || fail "ended with $?" "$(cat "$W/o")"
}
