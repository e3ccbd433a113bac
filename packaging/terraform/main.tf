# SPDX-License-Identifier: Apache-2.0
#
# Runs stager-agent migrate once for each set of inputs, on the host that terraform runs on, which
# has to be the source.  To run it again with the same inputs, for instance after a failure that
# has been mended:
#
#   terraform apply -replace=terraform_data.mgc_region_migration

locals {
  result_path = abspath(var.result_path)

  # The environment that stager-agent(8) and stager(1) read; what is empty counts as not set.
  environment = {
    SOURCE_SERVER_ID           = var.source_server_id
    SOURCE_REGION              = var.source_region
    TARGET_REGION              = var.target_region
    TARGET_REGION_NAME         = var.target_region_name
    TARGET_VPC_NAME            = var.target_vpc_name
    TARGET_VPC_CIDR            = var.target_vpc_cidr
    TARGET_SUBNET_CIDR         = var.target_subnet_cidr
    TARGET_IMAGE_ID            = var.target_image_id
    TARGET_SERVER_NAME         = var.target_server_name
    TARGET_FLAVOR_ID           = var.target_flavor_id
    ROOT_VOLUME_TYPE           = var.root_volume_type
    DATA_VOLUME_TYPE           = var.data_volume_type
    SOURCE_PRIVATE_IP          = var.source_private_ip
    EIP_BANDWIDTH_MBPS         = tostring(var.eip_bandwidth_mbps)
    SMS_ENDPOINT               = var.sms_endpoint
    PREFERRED_MIGRATION_METHOD = var.preferred_migration_method
    ENABLE_RSYNC_FALLBACK      = tostring(var.enable_rsync_fallback)
    EXTRA_PEER_IPS             = join(",", var.extra_peer_ips)
    RSYNC_TARGET_HOST          = var.rsync_target_host
    RSYNC_TARGET_PORT          = var.rsync_target_host == "" ? "" : tostring(var.rsync_target_port)
    RSYNC_TARGET_USER          = var.rsync_target_host == "" ? "" : var.rsync_target_user
    RSYNC_SOURCE_PATHS         = join(",", var.rsync_source_paths)
    RSYNC_INCREMENTAL_ROUNDS   = tostring(var.rsync_incremental_rounds)
    RSYNC_TIMEOUT_SEC          = tostring(var.rsync_timeout_sec)
    RSYNC_EXCLUDES             = join(",", var.rsync_excludes)
    RSYNC_CUTOVER_STOP_CMD     = var.rsync_cutover_stop_cmd
    RSYNC_CUTOVER_START_CMD    = var.rsync_cutover_start_cmd
    RSYNC_TARGET_FINALIZE_CMD  = var.rsync_target_finalize_cmd
    RESULT_PATH                = local.result_path
  }

  # An empty variable would hide one of the environment that terraform was started with.
  secrets = {
    for name, value in {
      HC_AK                 = var.access_key
      HC_SK                 = var.secret_key
      RSYNC_TARGET_PASSWORD = var.rsync_target_password != "" ? var.rsync_target_password : var.target_admin_password
    } : name => value if value != ""
  }

  arguments = concat(
    ["--state-dir", var.state_dir],
    var.existing_target == "" ? [] : ["--existing-target", var.existing_target],
  )

  # Words of a shell command: nothing in an option is taken for more than an option.
  command = join(" ", [
    for word in concat([var.stager_agent, "migrate"], local.arguments, ["--"], var.stager_options) :
    "'${replace(word, "'", "'\\''")}'"
  ])
}

# The name is that of the flow which users of this migration have.
resource "terraform_data" "mgc_region_migration" {
  # Not the keys: new ones are no reason to migrate again.
  triggers_replace = [local.environment, local.arguments, var.stager_options]
  input            = local.result_path

  provisioner "local-exec" {
    command     = local.command
    environment = merge(local.environment, local.secrets)
  }
}
