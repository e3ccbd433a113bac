#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# packaging/terraform: the inputs of the older flow, and our program behind them.

load lib
load agent
. "$BATS_TEST_DIRNAME/../cloud/cloud.bash"

setup() {
	command -v terraform >/dev/null || skip "no terraform here"
	it_setup
	agent_setup "${SCENARIO:-happy}"
	MODULE=$W/module
	cp -r "$STAGER_PREFIX/share/stager/terraform" "$MODULE"
	cd "$MODULE"
	export TF_IN_AUTOMATION=1 TF_CLI_ARGS=-no-color CHECKPOINT_DISABLE=1
}
teardown() {
	cd /
	agent_teardown
}

tfvars() { # more lines
	cat >terraform.tfvars <<-EOF
	access_key         = "$CLOUD_AK"
	secret_key         = "$CLOUD_SK"
	source_server_id   = "$CLOUD_SOURCE"
	target_image_id    = "$CLOUD_IMAGE"
	sms_endpoint       = "$SMS_ENDPOINT"
	eip_bandwidth_mbps = 20
	rsync_target_host  = "127.0.0.1"
	rsync_target_port  = $SSHD_PORT
	rsync_target_user  = "$ME"
	rsync_excludes     = ["/dev/*", "/it's a test/*"]
	state_dir          = "$AGENT_STATE"
	stager_agent       = "$W/bin/stager-agent"
	stager_options     = ["--config", "$W/stager.json", "--identity", "$SSHD_KEY", "--known-hosts",
	  "$SSHD_KNOWN_HOSTS", "--source", "$SRC", "--target", "$ME@127.0.0.1:$DST", "--progress", "none",
	  "--exclude", "/not 'this' \$HOME"]
	$1
	EOF
	# What the caller has in the environment must not be what makes it work.
	unset HC_AK HC_SK SOURCE_SERVER_ID TARGET_IMAGE_ID SMS_ENDPOINT "${!RSYNC_@}"
	# Terraform knows nothing of pauses between polls: a program in between has them short.
	mkdir -p "$W/bin"
	printf '#!/bin/sh\nexec "%s" "$@"\n' "$AGENT" >"$W/bin/stager-agent"
	sed -i 's/exec \(.*\) "\$@"/shift; exec \1 migrate --poll-interval 0.01 "$@"/' "$W/bin/stager-agent"
	chmod 755 "$W/bin/stager-agent"
}

@test "the module is formatted and valid" {
	exits 0 terraform fmt -check
	exits 0 terraform init -input=false
	exits 0 terraform validate
}

@test "apply migrates, once for one set of inputs" {
	tfvars ""
	exits 0 terraform init -input=false
	exits 0 terraform apply -auto-approve -input=false
	OUT=$MODULE/out
	[ "$(result task_state)" = MIGRATE_SUCCESS ]
	cloud_log 'select(.route == "POST /v1/{project_id}/publicips") | .body.bandwidth.size' | grep -qx 20
	lacks "$CLOUD_SK" <<<"$output"
	cloud_forget
	exits 0 terraform apply -auto-approve -input=false
	[ -z "$(cloud_calls)" ]
	exits 0 terraform apply -auto-approve -input=false -replace=terraform_data.mgc_region_migration
	cloud_routes | grep -q 'POST /v3/tasks'
}

@test "the names of the older flow reach their places" {
	tfvars '
	target_vpc_name       = "vpc-other"
	target_vpc_cidr       = "10.77.0.0/16"
	target_subnet_cidr    = "10.77.5.0/24"
	target_flavor_id      = "s6.small.1"
	root_volume_type      = "SAS"
	source_private_ip     = "172.16.5.5"
	target_admin_password = "Hush-hush-1"
	domain_name           = "of no use here"
	'
	exits 0 terraform init -input=false
	# A password that the sshd of this test does not take: all but the postcheck is done.
	exits 1 terraform apply -auto-approve -input=false
	lacks Hush-hush-1 <<<"$output"
	OUT=$MODULE/out
	[ "$(result migrated)" = true ]
	[ "$(result target_vpc_name)" = vpc-other ]
	[ "$(cloud_log 'select(.route == "POST /v1/{project_id}/subnets") | .body.subnet.cidr')" = '"10.77.5.0/24"' ]
	[ "$(cloud_log 'select(.route == "POST /v1.1/{project_id}/cloudservers") |
		.body.server | [.flavorRef, .root_volume.volumetype]')" = '["s6.small.1","SAS"]' ]
	cloud_log 'select(.route == "POST /v1/{project_id}/security-group-rules") |
		.body.security_group_rule.remote_ip_prefix' | grep -qF 172.16.5.5/32
}

@test "apply fails when the migration does, and runs the staged sync where SMS cannot" {
	tfvars 'preferred_migration_method = "sms"'
	cloud_control PUT scenario '{"preset": "sms-6504"}' >/dev/null
	exits 0 terraform init -input=false
	exits 1 terraform apply -auto-approve -input=false
	sed -i '/preferred/d' terraform.tfvars
	exits 0 terraform apply -auto-approve -input=false
	OUT=$MODULE/out
	[ "$(result migration_method)" = rsync ]
	assert_exists "$DST/d/hello"
}
