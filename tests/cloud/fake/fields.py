# SPDX-License-Identifier: Apache-2.0
"""
The field tables: for every call, what its query, headers and body may hold.

tests/cloud/FIELDS.md is their text.  Figures and codes are facts of the public references of SMS
(API v3), IAM, VPC, ECS, EIP, DCS and SMN; "(U)" in a page's title means that no reference names
the code, so a likely one is used.
"""
from .schema import (Codes, Table, anything, array, boolean, count, flag, integer, loose, number,
                     struct, text, word)

CODES = {
    "sms": Codes("SMS.6011", "SMS.6013", "SMS.6010", "SMS.6012", "SMS.6016"),
    "iam": Codes("IAM.0011"),
    "ecs": Codes("Ecs.0005"),
    "vpc": Codes("VPC.0101"),
    "eip": Codes("VPC.0501"),
    "dcs": Codes("DCS.4203"),
    "smn": Codes("SMN.00011003"),
}

# -- SMS ------------------------------------------------------------------------------------

NAME = r"[0-9A-Za-z_.-]+"
CHINESE_NAME = r"[\u4e00-\u9fff0-9A-Za-z_-]+"
ID = text(1, 255)
TASK_TYPE = ("MIGRATE_FILE", "MIGRATE_BLOCK")
OS_TYPE = ("WINDOWS", "LINUX")
SOURCE_STATES = (
    "unavailable", "waiting", "initialize", "replicate", "syncing", "stopping", "stopped",
    "skipping", "deleting", "clearing", "cleared", "clearfailed", "premigready", "premiging",
    "premiged", "premigfailed", "cloning", "cutovering", "finished", "error")
CYCLES = ("checking", "setting", "replicating", "syncing", "cutovering", "cutovered")
COPY_CYCLES = ("no_ready", "ready_for_test", "testing", "tested", *CYCLES)
COPY_STATES = tuple("init" if s == "initialize" else s for s in SOURCE_STATES)
COPY_PAIRS = {
    "checking": ("unavailable", "waiting"),
    "setting": ("waiting", "premigready", "premiging", "premiged", "premigfailed"),
    "replicating": ("init", "replicate", "deleting", "stopping", "error", "stopped"),
    "syncing": ("syncing", "cloning", "deleting", "stopping", "error", "stopped"),
    "cutovering": ("cutovering", "deleting", "stopping", "error", "stopped"),
    "cutovered": ("finished", "deleting", "stopping", "error", "stopped"),
}
TASK_FILTER = ("READY", "RUNNING", "SYNCING", "MIGRATE_SUCCESS", "MIGRATE_FAIL", "ABORTING",
               "ABORT", "DELETING", "SYNC_F_ROLLBACKING", "SYNC_F_ROLLBACK_SUCCESS")
OPERATIONS = ("start", "stop", "restart", "cutover", "test", "clone_test", "network_check", "skip",
              "clear", "migration_test", "error_for_overspeed")
SUBTASKS = (
    "CREATE_CLOUD_SERVER", "SSL_CONFIG", "ATTACH_AGENT_IMAGE", "DETTACH_AGENT_IMAGE",
    "FORMAT_DISK_LINUX", "FORMAT_DISK_LINUX_FILE", "FORMAT_DISK_LINUX_BLOCK",
    "FORMAT_DISK_WINDOWS", "MIGRATE_LINUX_FILE", "MIGRATE_LINUX_BLOCK", "MIGRATE_WINDOWS_BLOCK",
    "CLONE_VM", "SYNC_LINUX_FILE", "SYNC_LINUX_BLOCK", "SYNC_WINDOWS_BLOCK", "CONFIGURE_LINUX",
    "CONFIGURE_LINUX_BLOCK", "CONFIGURE_LINUX_FILE", "CONFIGURE_WINDOWS")
CONFIG_KEYS = (
    "MIGRATE_EXCLUDE_DIR", "SYNC_EXCLUDE_DIR", "ONLY_SYNC_DIR", "CONSISTENCY_DIR",
    "CONSISTENCY_DIR_ILLEGAL", "CONSISTENCY_RECHECK", "CONSISTENCY_MODE",
    "LINUX_BLOCK_COMPRESS_THREAD_NUM", "LINUX_BLOCK_CACHE_SIZE", "MIGRATE_DST_IP",
    "LINUX_CPU_LIMIT", "LINUX_MEM_LIMIT", "LINUX_IO_LIMIT", "NUM_PROCESS_MIGRATE",
    "NUM_PROCESS_SYNC", "DYNAMIC_PORT", "INSTALL_PWD_AGENT")

PROJECT = struct({
    "name!": text(1, 20, CHINESE_NAME), "description": text(0, 255), "isdefault": boolean(),
    "region!": text(1, missing="SMS.6034", code="SMS.6034"), "start_target_server": boolean(),
    "speed_limit": integer(0, 10000), "use_public_ip": boolean(), "exist_server": boolean(),
    "type!": word(*TASK_TYPE), "enterprise_project": text(), "syncing": boolean(),
    "start_network_check": boolean(),
})
SIZE = integer(0, note="bytes")
PARTITION = struct({
    "device_use": text(), "file_system": text(), "index": integer(0), "mount_point": text(0, 256),
    "name": text(), "size": SIZE, "used_size": SIZE, "inode_size": loose(0),
    "inode_nums": integer(0), "uuid": text(), "size_per_cluster": integer(0), "id": text(),
    "free_size": SIZE,
})
DISK = struct({
    "name!": text(1), "partition_style~": text(), "device_use": text(), "size!": SIZE,
    "used_size": SIZE, "physical_volumes": array(PARTITION, 0, 50), "os_disk": boolean(),
    "relation_name": text(), "inode_size": integer(0), "id": text(),
})
LOGICAL_VOLUME = struct({
    "name": text(0, 1024), "mount_point": text(0, 256), "file_system": text(),
    "device_use": text(), "size": SIZE, "used_size": SIZE, "free_size": SIZE,
    "block_count": integer(0), "block_size": integer(0, 1048576), "inode_size": loose(0),
    "inode_nums": integer(0), "id": text(),
})
VOLUME_GROUP = struct({
    "name": text(), "components": text(note="names joined by ;"), "size": SIZE, "free_size": SIZE,
    "logical_volumes": array(LOGICAL_VOLUME, 0, 50), "id": text(),
})
SUBVOLUME = struct({k: text() for k in ("uuid", "is_snapshot", "subvol_id", "parent_id",
                                        "subvol_name", "subvol_mount_path")})
BTRFS = struct({
    **{k: text() for k in (
        "name", "label", "uuid", "device", "data_profile", "system_profile", "metadata_profile",
        "global_reserve1", "default_subvolid", "default_subvol_name",
        "default_subvol_mountpath")},
    **{k: loose() for k in ("size", "nodesize", "sectorsize", "g_vol_used_size")},
    "subvolumn": array(SUBVOLUME),
})
NETWORK = struct({
    "name": text(), "ip": text(), "ipv6": text(), "netmask": text(), "gateway": text(),
    "mtu~": integer(0), "mac!": text(), "id": text(),
})
SOURCE = struct({
    "id": text(0, 255), "ip": text(0, 255, code="SMS.6530"), "ipv6": text(0, 255, code="SMS.6530"),
    "name!": text(1, 64, NAME, missing="SMS.6001",
                  code={"length": "SMS.6002", "pattern": "SMS.6003"}),
    "hostname": text(1, 64), "os_type!": word(*OS_TYPE), "os_version!": text(1),
    "linux_block_check": text(note="JSON in text"), "firmware": word("BIOS", "UEFI"),
    "cpu_quantity": integer(0, 65535), "memory": integer(0, note="bytes"),
    "disks": array(DISK, 0, 50), "btrfs_list~": array(BTRFS), "networks!": array(NETWORK, 1, 50),
    "domain_id": text(missing="SMS.6035"), "has_rsync~": boolean(), "has_tc~": boolean(),
    "paravirtualization~": boolean(), "raw_devices~": text(), "boot_loader~": text(),
    "volume_groups~": array(VOLUME_GROUP, 0, 50), "driver_files": boolean(),
    "system_services": boolean(), "account_rights": boolean(), "system_dir": text(),
    "agent_version!": text(1, pattern=r"\d+(\.\d+)*.*"), "kernel_version": text(),
    "migration_cycle": word(*COPY_CYCLES), "state": word(*SOURCE_STATES),
    "oem_system": boolean(), "start_type": text(), "io_read_wait": number(0),
    "platform": word("hw", "ali", "aws", "azure", "gcp", "tencent", "vmware", "hyperv", "other",
                     "default", code="SMS.6006"),
    "virtualization_type": text(),
})
CHANGE_PART = {"id": text(), "need_migration": boolean(), "adjust_size": integer(0)}
CHANGE_SOURCE = struct({
    "name": text(1, 64, NAME), "migprojectid": text(1),
    "disks": array(struct({**CHANGE_PART, "physical_volumes": array(struct(CHANGE_PART))})),
    "volume_groups": array(struct({**CHANGE_PART,
                                   "logical_volumes": array(struct(CHANGE_PART))})),
})
TARGET_DISK = struct({
    "name!": text(1, missing="SMS.6104"), "disk_id!": text(1, missing="SMS.6103"),
    "device_use": word("NORMAL", "OS", "BOOT"),
    "size!": integer(1, note="bytes", missing="SMS.6105", code="SMS.6105"), "used_size": SIZE,
    "physical_volumes": array(PARTITION, 0, 50), "id": text(), "os_disk": boolean(),
    "partition_style": text(), "relation_name": text(), "inode_size": integer(0),
})
TARGET = struct({
    "name!": text(1), "vm_id!": text(1, missing="SMS.6032"),
    "disks": array(TARGET_DISK, 1, 50, code="SMS.6033"),
    "volume_groups": array(VOLUME_GROUP, 0, 50), "btrfs_list": array(BTRFS), "id": text(),
    "image_disk_id": text(), "cutovered_snapshot_ids": text(),
}, missing="SMS.6031")
TASK = struct({
    "name!": text(1, 64, CHINESE_NAME, code="SMS.7711"), "type!": word(*TASK_TYPE, code="SMS.7712"),
    "os_type": word(*OS_TYPE, code="SMS.6601"),
    "source_server!": struct({"id!": text(1, missing="SMS.6030", code="SMS.6030")}),
    "target_server!": TARGET,
    "region_name!": text(1, missing="SMS.6034"), "region_id!": text(1, missing="SMS.6034"),
    "project_name!": text(1), "project_id!": text(1, missing="SMS.7724"),
    "migration_ip": text(code="SMS.6602"), "use_public_ip": boolean(), "use_ipv6": boolean(),
    "start_target_server": boolean(), "auto_start": boolean(), "priority": integer(0, 2),
    "speed_limit": integer(0, 1000), "over_speed_threshold": number(10, 100),
    "syncing": boolean(), "exist_server": boolean(), "start_network_check": boolean(),
    "is_need_consistency_check": boolean(), "need_migration_test": boolean(),
    "vm_template_id": text(), "clonevm_template_id": text(),
})
CHANGE_TASK = struct({
    "name": text(1, 64, CHINESE_NAME, code="SMS.7711"), "type": word(*TASK_TYPE, code="SMS.7712"),
    "region_id": text(), "region_name": text(), "exist_server": boolean(),
    "migration_ip": text(code="SMS.6602"), "use_ipv6": boolean(), "use_public_ip": boolean(),
    "speed_limit": integer(0, 1000), "project_name": text(), "project_id": text(),
    "enterprise_project": text(), "image_disk_id": text(), "vm_template_id": text(),
    "target_disk_ids": text(note="joined by blanks"), "snapshot_ids": text(note="joined by ;"),
    "cutovered_snapshot_ids": text(), "target_server": struct({}), "clone_server": struct({}),
})
IDS = struct({"ids!": array(ID, 1)})
PERCENT = number(0, 100)
PROGRESS = struct({
    "subtask_name!": word(*SUBTASKS, "CHECK_CONSISTENCY", code="SMS.6004"),
    "progress!": integer(0, 100, code="SMS.6101"), "replicatesize!": SIZE, "totalsize!": SIZE,
    "process_trace!": text(0, 2048), "migrate_speed": number(0, 10000),
    "compress_rate": number(), "remain_time": integer(), "total_cpu_usage": PERCENT,
    "agent_cpu_usage": PERCENT, "total_mem_usage": number(0), "agent_mem_usage": number(0),
    "total_disk_io": number(0), "agent_disk_io": number(0), "need_migration_test": boolean(),
    "agent_time": text(0, 30),
})
CLOCK = text(pattern=r"([01]\d|2[0-3]):[0-5]\d|24:00", code="SMS.6405")
SPEED_LIMITS = struct({"speed_limit!": array(struct({
    "start!": CLOCK, "end!": CLOCK, "speed!": integer(0, 1000),
    "over_speed_threshold": number(10, 100)}), 0, 5)})
SETTINGS = struct({"configurations!": array(struct({
    "config_key!": word(*CONFIG_KEYS), "config_value!": text(0, 1024), "config_status": text()}),
    0, 50)})
FILES = integer(0, 1000000)
CONSISTENCY = struct({"consistency_result!": array(struct({
    "dir_check!": text(0, 1024), "num_total_files!": FILES, "num_different_files!": FILES,
    "num_target_miss_files!": FILES, "num_target_more_files!": FILES}), 0, 30)})
NETWORK_CHECK = struct({
    "network_delay!": number(0, 10000), "network_jitter!": number(0, 10000),
    "migration_speed!": number(0, 10000), "loss_percentage!": PERCENT, "cpu_usage!": PERCENT,
    "mem_usage!": PERCENT, "evaluation_result!": text(5, 9), "domain_connectivity": boolean(),
    "destination_connectivity": boolean(),
})
COMMAND_RESULT = struct({
    "command_name!": text(1, missing="SMS.6020"),
    "result!": word("success", "fail", code="SMS.6022"),
    "result_detail!": anything(missing="SMS.6023"),
})
TEMPLATE = struct({"template!": struct({
    "name!": text(1), "is_template": boolean(), "region": text(), "projectid": text(),
    "target_server_name": text(), "availability_zone": text(), "volumetype": text(),
    "flavor": text(), "vpc": struct({"id!": text(1), "name": text(), "cidr": text()}),
    "nics": array(struct({"id!": text(1), "name!": text(), "cidr!": text(), "ip": text()})),
    "security_groups": array(struct({"id!": text(1), "name!": text()})),
    "publicip": struct({"type!": text(), "bandwidth_size!": integer(1),
                        "bandwidth_share_type": text()}),
    "disk": array(struct({"id": text(), "index!": integer(0), "name!": text(),
                          "disktype!": text(), "size!": integer(1, note="GB"),
                          "device_use": text()})),
    "data_volume_type": text(), "target_password": text(), "image_id": text()})})
EPS = {"enterprise_project_id": text()}

SMS = {
    "GET /": Table("versions"),
    "GET /{version}": Table("versions"),
    "GET /v3/config": Table("agent configuration"),
    "GET /v3/privacy-agreements": Table("privacy agreement"),
    "POST /v3/privacy-agreements": Table("privacy agreement"),
    "POST /v3/migprojects": Table("migration projects", body=PROJECT),
    "GET /v3/migprojects": Table("migration projects", {
        "limit": count(0, 100), "offset": count(0, 65535)}),
    "GET /v3/migprojects/{mig_project_id}": Table("migration projects"),
    "PUT /v3/migprojects/{mig_project_id}": Table("migration projects", body=PROJECT),
    "DELETE /v3/migprojects/{mig_project_id}": Table("migration projects"),
    "PUT /v3/migprojects/{mig_project_id}/default": Table("migration projects"),
    "POST /v3/sources": Table("sources: registration", body=SOURCE),
    "GET /v3/sources": Table("sources", {
        "state": word(*SOURCE_STATES), "name": text(), "id": text(), "ip": text(),
        "ipv6": text(), "migproject": text(), "limit": count(0, 200), "offset": count(0),
        "migration_cycle": word(*CYCLES), "connected": flag(), **EPS,
        "is_consistency_result_exist": flag(), "vm_id": text()}),
    "GET /v3/sources/overview": Table("sources"),
    "GET /v3/sources/{source_id}": Table("sources"),
    "PUT /v3/sources/{source_id}": Table("sources", body=CHANGE_SOURCE),
    "DELETE /v3/sources/{source_id}": Table("sources"),
    "POST /v3/sources/delete": Table("sources", body=IDS),
    "PUT /v3/sources/{source_id}/changestate": Table("sources: copy state", body=struct({
        "copystate!": word(*COPY_STATES, fold=True, missing="SMS.7726", code="SMS.7727"),
        "migrationcycle!": word(*COPY_CYCLES, fold=True, missing="SMS.7726", code="SMS.7727")})),
    "PUT /v3/sources/{source_id}/diskinfo": Table("sources: disk information", body=struct({
        "disks!": array(DISK, 0, 50), "volumegroups": array(VOLUME_GROUP, 0, 50),
        "btrfs_list": array(BTRFS)})),
    "GET /v3/sources/{server_id}/command": Table("commands"),
    "POST /v3/sources/{server_id}/command_result": Table("commands", body=COMMAND_RESULT),
    "GET /v3/errors": Table("sources with errors", {
        "limit": count(0, 100), "offset!": count(0), **EPS}),
    "POST /v3/tasks": Table("tasks: creation", body=TASK),
    "GET /v3/tasks": Table("tasks", {
        "state": word(*TASK_FILTER), "name": text(), "id": text(), "source_server_id": text(),
        "limit": count(0), "offset": count(0), **EPS}),
    "GET /v3/tasks/{task_id}": Table("tasks"),
    "PUT /v3/tasks/{task_id}": Table("tasks", body=CHANGE_TASK),
    "DELETE /v3/tasks/{task_id}": Table("tasks"),
    "POST /v3/tasks/delete": Table("tasks", body=IDS),
    "POST /v3/tasks/{task_id}/action": Table("tasks: action", body=struct({
        "operation!": word(*OPERATIONS), "template_id": text(), "switch_hce": boolean(),
        "is_need_consistency_check": boolean()})),
    "PUT /v3/tasks/{task_id}/progress": Table("tasks: progress", body=PROGRESS),
    "GET /v3/tasks/{task_id}/speed-limit": Table("tasks: speed limit"),
    "POST /v3/tasks/{task_id}/speed-limit": Table("tasks: speed limit", body=SPEED_LIMITS),
    "GET /v3/tasks/{task_id}/passphrase": Table("tasks: channel secrets"),
    "GET /v3/tasks/{task_id}/certkey": Table("tasks: channel secrets", {"enable_ca_cert": flag()}),
    "POST /v3/tasks/{task_id}/log": Table("tasks: log", body=struct({"log_bucket!": text(1)})),
    "GET /v3/tasks/{task_id}/configuration-setting": Table(
        "tasks: advanced options", {"config_key": word(*CONFIG_KEYS)}),
    "POST /v3/tasks/{task_id}/configuration-setting": Table(
        "tasks: advanced options", body=SETTINGS),
    "GET /v3/tasks/{task_id}/consistency-result": Table("tasks: consistency result"),
    "POST /v3/tasks/{task_id}/consistency-result": Table(
        "tasks: consistency result", body=CONSISTENCY),
    "POST /v3/tasks/consistency-results/export": Table(
        "tasks: consistency result", headers={"x-language": text()},
        body=struct({"task_info!": array(struct({
            "task_id!": text(1), "source_id!": text(1), "source_name!": text(1)}), 1)})),
    "POST /v3/{task_id}/update-network-check-info": Table(
        "tasks: network check", body=NETWORK_CHECK),
    "POST /v3/tasks/{task_id}/unlock": Table("tasks: unlock"),
    "POST /v3/vm/templates": Table("templates", body=TEMPLATE),
    "GET /v3/vm/templates": Table("templates", {
        "name": text(), "availability_zone": text(), "region": text(), "limit": count(0, 50),
        "offset": count(0), "id": text()}),
    "GET /v3/vm/templates/{id}": Table("templates"),
    "PUT /v3/vm/templates/{id}": Table("templates", body=TEMPLATE),
    "DELETE /v3/vm/templates/{id}": Table("templates"),
    "POST /v3/vm/templates/delete": Table("templates", body=IDS),
    "GET /v3/vm/templates/{id}/target-password": Table("templates"),
}

# -- IAM ------------------------------------------------------------------------------------

IAM = {
    "GET /v3/projects": Table("projects (U)", {
        "domain_id": text(), "name": text(), "parent_id": text(), "enabled": flag(),
        "is_domain": flag(), "page": count(1), "per_page": count(1, 5000)}),
}

# -- ECS ------------------------------------------------------------------------------------

VOLUME_TYPES = ("SATA", "SAS", "SSD", "GPSSD", "co-p1", "uh-l1", "ESSD", "GPSSD2", "ESSD2")
SERVERS = array(struct({"id!": text(1)}), 1, 1000)
CREATE_SERVER = struct({"dry_run": boolean(), "server!": struct({
    "imageRef!": text(1), "flavorRef!": text(1), "vpcid!": text(1, missing="Ecs.0014"),
    "name!": text(1, 64, r"[\u4e00-\u9fff0-9A-Za-z_.-]+"),
    "nics!": array(struct({
        "subnet_id": text(1), "port_id": text(1), "ip_address": text(), "ipv6_enable": boolean(),
        "ipv6_bandwidth": struct({})}), 1, 12, missing="Ecs.0014"),
    "root_volume!": struct({
        "volumetype!": word(*VOLUME_TYPES), "size": integer(1, 1024), "iops": integer(0),
        "throughput": integer(0), "extendparam": struct({}), "metadata": struct({})}),
    "data_volumes": array(struct({
        "volumetype!": word(*VOLUME_TYPES), "size!": integer(10, 32768), "multiattach": boolean(),
        "delete_on_termination": boolean(), "hw:passthrough": boolean(), "data_image_id": text(),
        "iops": integer(0), "throughput": integer(0), "extendparam": struct({}),
        "metadata": struct({})}), 0, 23),
    "publicip": struct({
        "id": text(1), "delete_on_termination": boolean(), "eip": struct({
            "iptype!": text(1), "bandwidth!": struct({
                "size": integer(1, 2000), "sharetype!": word("PER", "WHOLE"),
                "chargemode": word("traffic", "bandwidth"), "id": text()}),
            "extendparam": struct({})})}),
    "security_groups": array(struct({"id!": text(1)})),
    "availability_zone": text(1), "adminPass": text(8, 26, code="Ecs.0011"), "key_name": text(),
    "user_data": text(pattern=r"[0-9A-Za-z+/=\s]*", note="base64"), "count": integer(1, 100),
    "isAutoRename": boolean(), "metadata": struct({}), "tags": array(text()),
    "server_tags": array(struct({"key!": text(1, 36), "value": text(0, 43)})),
    "description": text(0, 85), "extendparam": struct({}), "os:scheduler_hints": struct({}),
})})
HOW = word("SOFT", "HARD")

ECS = {
    "POST /v1.1/{project_id}/cloudservers": Table(
        "servers: creation", body=CREATE_SERVER, headers={"x-client-token": text(1, 64)}),
    "GET /v1/{project_id}/jobs/{job_id}": Table("jobs"),
    "GET /v1/{project_id}/cloudservers/{server_id}": Table("servers"),
    "GET /v1/{project_id}/cloudservers/detail": Table("servers", {
        "name": text(), "ip": text(), "ip_eq": text(), "status": text(), "flavor": text(),
        "limit": count(0, 1000), "offset": count(0), "marker": text(), "tags": text(),
        "not-tags": text(), "server_id": text(), "enterprise_project_id": text()}),
    "GET /v1/{project_id}/cloudservers/flavors": Table("flavors", {
        "availability_zone": text(), "flavor_id": text(), "limit": count(0), "marker": text()}),
    "GET /v1/{project_id}/cloudservers/limits": Table("limits"),
    "GET /v1/{project_id}/cloudservers/{server_id}/block_device": Table("servers: disks"),
    "GET /v1/{project_id}/cloudservers/{server_id}/os-resetpwd-flag": Table("servers: password"),
    "PUT /v1/{project_id}/cloudservers/{server_id}/os-reset-password": Table(
        "servers: password", body=struct({"reset-password!": struct({
            "new_password!": text(8, 26, code="Ecs.0011"), "is_check_password": boolean()})})),
    "POST /v1/{project_id}/cloudservers/action": Table("servers: action", body=struct({
        "reboot": struct({"type!": HOW, "servers!": SERVERS}),
        "os-stop": struct({"type": HOW, "servers!": SERVERS}),
        "os-start": struct({"servers!": SERVERS})})),
    "POST /v1/{project_id}/cloudservers/delete": Table("servers: deletion", body=struct({
        "servers!": SERVERS, "delete_publicip": boolean(), "delete_volume": boolean()})),
    "GET /v1/{project_id}/cloudservers/{server_id}/console-output": Table(
        "servers: console", {"length": count(1, 9999)}),
    "POST /v2.1/{project_id}/servers/{server_id}/action": Table("servers: console", body=struct({
        "os-getConsoleOutput!": struct({"length": loose()})})),
}

# -- VPC ------------------------------------------------------------------------------------

CIDR = text(pattern=r"\d{1,3}(\.\d{1,3}){3}/\d{1,2}")
IPV4 = text(pattern=r"\d{1,3}(\.\d{1,3}){3}")
PAGE = {"limit": count(0, 2000), "marker": text()}
SUBNET_CHANGE = {"dhcp_enable": boolean(), "primary_dns": text(), "secondary_dns": text(),
                 "dnsList": array(text()), "description": text(0, 255)}

VPC = {
    "GET /v1/{project_id}/vpcs": Table("VPCs", {"id": text(), **PAGE, **EPS}),
    "POST /v1/{project_id}/vpcs": Table("VPCs", body=struct({"vpc!": struct({
        "name": text(0, 64), "cidr": CIDR, "description": text(0, 255), **EPS})})),
    "GET /v1/{project_id}/vpcs/{vpc_id}": Table("VPCs"),
    "PUT /v1/{project_id}/vpcs/{vpc_id}": Table("VPCs", body=struct({"vpc!": struct({
        "name": text(0, 64), "cidr": CIDR, "description": text(0, 255),
        "routes": array(struct({}))})})),
    "DELETE /v1/{project_id}/vpcs/{vpc_id}": Table("VPCs"),
    "GET /v1/{project_id}/subnets": Table("subnets", {**PAGE, "vpc_id": text()}),
    "POST /v1/{project_id}/subnets": Table("subnets", body=struct({"subnet!": struct({
        "name!": text(1, 64), "cidr!": CIDR, "gateway_ip!": IPV4, "vpc_id!": text(1),
        "availability_zone": text(), "ipv6_enable": boolean(), **SUBNET_CHANGE})})),
    "GET /v1/{project_id}/subnets/{subnet_id}": Table("subnets"),
    "PUT /v1/{project_id}/vpcs/{vpc_id}/subnets/{subnet_id}": Table(
        "subnets", body=struct({"subnet!": struct({"name!": text(1, 64), **SUBNET_CHANGE})})),
    "DELETE /v1/{project_id}/vpcs/{vpc_id}/subnets/{subnet_id}": Table("subnets"),
    "GET /v1/{project_id}/security-groups": Table("security groups", {
        **PAGE, "vpc_id": text(), **EPS}),
    "POST /v1/{project_id}/security-groups": Table("security groups", body=struct({
        "security_group!": struct({"name!": text(1, 64, code="VPC.0601"), "vpc_id": text(),
                                   **EPS}, missing="VPC.0601")})),
    "GET /v1/{project_id}/security-groups/{security_group_id}": Table("security groups"),
    "DELETE /v1/{project_id}/security-groups/{security_group_id}": Table("security groups"),
    "GET /v1/{project_id}/security-group-rules": Table("security group rules", {
        **PAGE, "security_group_id": text(), "remote_ip_prefix": text()}),
    "GET /v1/{project_id}/security-group-rules/{rule_id}": Table("security group rules"),
    "POST /v1/{project_id}/security-group-rules": Table("security group rules", body=struct({
        "security_group_rule!": struct({
            "security_group_id!": text(1, missing="VPC.0601"),
            "direction!": word("ingress", "egress", code="VPC.0601"),
            "ethertype": word("IPv4", "IPv6", code="VPC.0601"),
            "protocol": text(pattern=r"|tcp|udp|icmp|icmpv6|[0-9]|[1-9][0-9]|1[0-9][0-9]|"
                                     r"2[0-4][0-9]|25[0-5]", code="VPC.0601"),
            "port_range_min": integer(0, 65535, code="VPC.0601"),
            "port_range_max": integer(0, 65535, code="VPC.0601"),
            "remote_ip_prefix": text(), "remote_group_id": text(),
            "remote_address_group_id": text(), "description": text(0, 255)},
            missing="VPC.0601")})),
    "DELETE /v1/{project_id}/security-group-rules/{rule_id}": Table("security group rules"),
    "GET /v1/{project_id}/quotas": Table("quotas", {"type": text()}),
    "GET /v2.0/vpc/peerings": Table("peerings", {
        **PAGE, "id": text(), "name": text(), "status": text(), "tenant_id": text(),
        "vpc_id": text()}),
    "POST /v2.0/vpc/peerings": Table("peerings", body=struct({"peering!": struct({
        "name!": text(1, 64), "request_vpc_info!": struct({"vpc_id!": text(1),
                                                           "tenant_id": text()}),
        "accept_vpc_info!": struct({"vpc_id!": text(1), "tenant_id": text()})})})),
    "PUT /v2.0/vpc/peerings/{peering_id}/accept": Table("peerings"),
    "GET /v2.0/vpc/routes": Table("routes", {
        **PAGE, "id": text(), "type": text(), "destination": text(), "tenant_id": text(),
        "vpc_id": text()}),
    "POST /v2.0/vpc/routes": Table("routes", body=struct({"route!": struct({
        "type!": word("peering"), "nexthop!": text(1), "destination!": CIDR,
        "vpc_id!": text(1)})})),
    "DELETE /v2.0/vpc/routes/{route_id}": Table("routes"),
}

# -- EIP ------------------------------------------------------------------------------------

EIP = {
    "POST /v1/{project_id}/publicips": Table("public addresses (U)", body=struct({
        "publicip!": struct({
            "type!": text(1, 36), "ip_version": integer(4, 6), "port_id": text(),
            "alias": text(0, 64), "ip_address": text()}),
        "bandwidth!": struct({
            "share_type!": word("PER", "WHOLE"), "name": text(1, 64), "size": integer(1, 2000),
            "id": text(), "charge_mode": word("bandwidth", "traffic")}), **EPS})),
    "GET /v1/{project_id}/publicips": Table("public addresses (U)", {
        **PAGE, "ip_version": count(4, 6), "port_id": text(), "public_ip_address": text(),
        "private_ip_address": text(), "id": text(), **EPS}),
    "GET /v1/{project_id}/publicips/{publicip_id}": Table("public addresses (U)"),
    "PUT /v1/{project_id}/publicips/{publicip_id}": Table("public addresses (U)", body=struct({
        "publicip!": struct({"port_id": text(), "ip_version": integer(4, 6),
                             "alias": text(0, 64)})})),
    "DELETE /v1/{project_id}/publicips/{publicip_id}": Table("public addresses (U)"),
    "GET /v2/{project_id}/publicip_types": Table("public address types"),
    "GET /v3/{project_id}/eip/publicips": Table("public addresses, v3", {
        "limit": count(1, 2000), "offset": count(0), "marker": text()}),
    "GET /v3/{project_id}/eip/publicip-pools": Table("public address pools", {
        "limit": count(1, 2000), "offset": count(0), "marker": text(), "name": text()}),
}

# -- DCS ------------------------------------------------------------------------------------

INSTANCE = struct({"id": text(1), "addrs": text(1), "password": text()})
METHODS = word("full_amount_migration", "incremental_migration")
LIMIT = loose(note="1-10240, text or number")
TASK_PAGE = {"offset": count(0), "limit": count(1, 1000)}

DCS = {
    "POST /v2/{project_id}/migration/instance": Table("online tasks (U)", body=struct({
        "name!": text(1), "description": text(), "vpc_id!": text(1), "subnet_id!": text(1),
        "security_group_id!": text(1)})),
    "POST /v2/{project_id}/migration/{task_id}/task": Table("online tasks (U)", body=struct({
        "migration_method!": METHODS, "resume_mode!": word("auto", "manual"),
        "bandwidth_limit_mb": LIMIT, "source_instance!": INSTANCE, "target_instance!": INSTANCE})),
    "POST /v2/{project_id}/migration-task": Table("migration tasks (U)", body=struct({
        "task_name!": text(1), "description": text(),
        "migration_type!": word("backupfile_import", "online_migration"),
        "migration_method!": METHODS, "backup_files": struct({
            "file_source": word("self_build_obs", "backup_record"), "bucket_name": text(),
            "files!": array(struct({"file_name": text(), "size": anything(),
                                    "update_at": text()})), "backup_id": text()}),
        "network_type": word("vpc", "vpn"), "source_instance": struct({}),
        "target_instance!": struct({})})),
    "GET /v2/{project_id}/migration-tasks": Table("migration tasks (U)", {
        **TASK_PAGE, "name": text()}),
    "GET /v2/{project_id}/migration-task/{task_id}": Table("migration tasks (U)"),
    "GET /v2/{project_id}/migration-task/{task_id}/stats": Table("migration tasks (U)"),
    "GET /v2/{project_id}/migration-task/{task_id}/logs": Table("migration tasks (U)", {
        **TASK_PAGE, "log_level": text()}),
    "PUT /v2/{project_id}/migration-task/{task_id}": Table("migration tasks (U)", body=struct({
        "resume_mode!": word("auto", "manual")})),
    "POST /v2/{project_id}/migration-task/{task_id}/stop": Table("migration tasks (U)"),
    "POST /v2/{project_id}/migration-task/{task_id}/sync-stop": Table("migration tasks (U)"),
    "POST /v2/{project_id}/migration-task/{task_id}/exchange-ip": Table("migration tasks (U)"),
    "POST /v2/{project_id}/migration-task/{task_id}/rollback-ip": Table("migration tasks (U)"),
    "POST /v2/{project_id}/migration-task/batch-stop": Table("migration tasks (U)", body=struct({
        "migration_tasks!": array(ID, 1)})),
    "POST /v2/{project_id}/migration-tasks/batch-restart": Table(
        "migration tasks (U)", body=struct({"migration_tasks": array(ID, 1)})),
    "DELETE /v2/{project_id}/migration-tasks/delete": Table("migration tasks (U)", body=struct({
        "task_id_list!": array(ID, 1)})),
}

# -- SMN ------------------------------------------------------------------------------------

MESSAGE = struct({
    "subject": text(note="512 bytes"), "message": text(note="256 KiB"),
    "message_structure": text(note="JSON in text"), "message_template_name": text(),
    "tags": struct({}), "time_to_live": text(pattern=r"\d+", note="1-86400 s"),
    "message_attributes": array(struct({})), "locale": text()})

SMN = {
    "POST /v2/{project_id}/notifications/topics/{topic_urn}/publish": Table(
        "messages (U)", body=MESSAGE),
    "POST /v2/{project_id}/notifications/topics": Table("topics (U)", body=struct({
        "name!": text(1, 255, r"[0-9A-Za-z][0-9A-Za-z_-]*"), "display_name": text(0, 192),
        **EPS})),
    "GET /v2/{project_id}/notifications/topics": Table("topics (U)", {
        "offset": count(0), "limit": count(1, 100), "name": text(), "fuzzy_name": text(), **EPS}),
    "DELETE /v2/{project_id}/notifications/topics/{topic_urn}": Table("topics (U)"),
    "POST /v2/{project_id}/notifications/topics/{topic_urn}/subscriptions": Table(
        "subscriptions (U)", body=struct({
            "protocol!": text(1), "endpoint!": text(1), "remark": text(0, 128)})),
    "GET /v2/{project_id}/notifications/subscriptions": Table("subscriptions (U)", {
        "offset": count(0), "limit": count(1, 100)}),
    "DELETE /v2/{project_id}/notifications/subscriptions/{subscription_urn}": Table(
        "subscriptions (U)"),
}

TABLES = {"sms": SMS, "iam": IAM, "ecs": ECS, "vpc": VPC, "eip": EIP, "dcs": DCS, "smn": SMN}
