# SPDX-License-Identifier: Apache-2.0

variable "access_key" {
  description = "Access key of the account that the host moves to; empty: HC_AK of the environment, or the agent's config."
  type        = string
  default     = ""
  sensitive   = true
}

variable "secret_key" {
  description = "Its secret key; empty: HC_SK of the environment, or the agent's config."
  type        = string
  default     = ""
  sensitive   = true
}

variable "source_server_id" {
  description = "The source: SMS id, VM id, address or name."
  type        = string
}

variable "target_image_id" {
  description = "Image of a new target server, in the target region."
  type        = string
  default     = ""
}

variable "source_region" {
  description = "Region of the source."
  type        = string
  default     = "la-north-2"
}

variable "target_region" {
  description = "Region of the target."
  type        = string
  default     = "la-south-2"
}

variable "target_region_name" {
  description = "Name of the target's region, where it differs from its id."
  type        = string
  default     = ""
}

variable "target_vpc_name" {
  description = "VPC of the target, found or made."
  type        = string
  default     = "vpc-migration"
}

variable "target_vpc_cidr" {
  description = "Range of a VPC that is made."
  type        = string
  default     = "10.250.0.0/16"
}

variable "target_subnet_cidr" {
  description = "Range of a subnet that is made."
  type        = string
  default     = "10.250.1.0/24"
}

variable "target_flavor_id" {
  description = "Flavor of a new target server; empty: the nearest to the source."
  type        = string
  default     = ""
}

variable "root_volume_type" {
  description = "Kind of its system disk."
  type        = string
  default     = "SSD"
}

variable "data_volume_type" {
  description = "Kind of its other disks."
  type        = string
  default     = "SSD"
}

variable "target_admin_password" {
  description = "Password of its root, where the staged sync makes it; stands in for an empty rsync_target_password."
  type        = string
  default     = ""
  sensitive   = true
}

variable "source_private_ip" {
  description = "A further address of the source that may reach the target."
  type        = string
  default     = ""
}

variable "target_server_name" {
  description = "Name of a new target server; empty: after the source."
  type        = string
  default     = ""
}

variable "existing_target" {
  description = "Id of a server to migrate to, in place of a new one."
  type        = string
  default     = ""
}

variable "eip_bandwidth_mbps" {
  description = "Bandwidth of the target's public address in Mbit/s; 0: none."
  type        = number
  default     = 100

  validation {
    condition     = var.eip_bandwidth_mbps >= 0 && var.eip_bandwidth_mbps <= 2000
    error_message = "The bandwidth is 0 to 2000 Mbit/s."
  }
}

variable "sms_endpoint" {
  description = "URL of SMS."
  type        = string
  default     = "https://sms.ap-southeast-3.myhuaweicloud.com"
}

variable "preferred_migration_method" {
  description = "auto: SMS, and the staged sync where SMS cannot take the host; sms; rsync."
  type        = string
  default     = "auto"

  validation {
    condition     = contains(["auto", "sms", "rsync"], var.preferred_migration_method)
    error_message = "The method is auto, sms or rsync."
  }
}

variable "enable_rsync_fallback" {
  description = "Whether the staged sync may take over from SMS."
  type        = bool
  default     = true
}

variable "extra_peer_ips" {
  description = "Addresses and networks besides the source's that may reach the target."
  type        = list(string)
  default     = []
}

variable "rsync_target_host" {
  description = "Target of the staged sync, and of the login that the postcheck tries."
  type        = string
  default     = ""
}

variable "rsync_target_port" {
  description = "SSH port there."
  type        = number
  default     = 22
}

variable "rsync_target_user" {
  description = "User there."
  type        = string
  default     = "root"
}

variable "rsync_target_password" {
  description = "Password there; empty: a key, by stager_options or stager's config."
  type        = string
  default     = ""
  sensitive   = true
}

variable "rsync_source_paths" {
  description = "Sub-trees to sync; empty: the root and every local data file system."
  type        = list(string)
  default     = []
}

variable "rsync_incremental_rounds" {
  description = "Incremental syncs between the full one and the cutover; 0: the full one alone."
  type        = number
  default     = 1
}

variable "rsync_timeout_sec" {
  description = "Seconds for each phase of the staged sync."
  type        = number
  default     = 7200
}

variable "rsync_excludes" {
  description = "Patterns in place of the standard list of excludes."
  type        = list(string)
  default     = []
}

variable "rsync_cutover_stop_cmd" {
  description = "Stops the services of the source before the final sync."
  type        = string
  default     = ""
}

variable "rsync_cutover_start_cmd" {
  description = "Starts the services of the source after it."
  type        = string
  default     = ""
}

variable "rsync_target_finalize_cmd" {
  description = "Runs on the target after the final sync."
  type        = string
  default     = ""
}

variable "result_path" {
  description = "Path of the result file; all result files go beside it."
  type        = string
  default     = "out/migration_result.json"
}

variable "state_dir" {
  description = "State directory of the agent: what an interrupted run is gone on with from."
  type        = string
  default     = "/var/lib/stager"
}

variable "stager_agent" {
  description = "The program."
  type        = string
  default     = "stager-agent"
}

variable "stager_options" {
  description = "Options for stager run, as --identity or --source."
  type        = list(string)
  default     = []
}
