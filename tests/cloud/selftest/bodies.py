# SPDX-License-Identifier: Apache-2.0
"""Requests that are right, to be spoiled one field at a time."""
import copy

from client import PROJECT
from fake import seeds, state

GIB = 1 << 30

PROJECT_BODY = {"name": "mgc-one", "description": "", "isdefault": False, "region": "la-south-2",
                "start_target_server": True, "speed_limit": 0, "use_public_ip": True,
                "exist_server": True, "type": "MIGRATE_BLOCK", "syncing": False}

SOURCE_BODY = {
    "ip": "192.168.7.7", "name": "db1", "hostname": "db1", "os_type": "LINUX",
    "os_version": "DEBIAN_12_64BIT", "firmware": "UEFI", "cpu_quantity": 4, "memory": 8 * GIB,
    "disks": [{"name": "/dev/vda", "partition_style": "GPT", "device_use": "BOOT",
               "size": 20 * GIB, "used_size": 5 * GIB, "os_disk": True,
               "physical_volumes": [{"device_use": "OS", "file_system": "ext4", "index": 1,
                                     "mount_point": "/", "name": "/dev/vda1",
                                     "size": 19 * GIB, "used_size": 5 * GIB, "inode_size": 256,
                                     "inode_nums": 1000, "uuid": "0d6f"}]}],
    "btrfs_list": [], "networks": [{"name": "eth0", "ip": "192.168.7.7", "ipv6": "",
                                    "netmask": "255.255.255.0", "gateway": "192.168.7.1",
                                    "mtu": 1500, "mac": state.mac_digest("02:00:00:00:07:07")}],
    "domain_id": seeds.DOMAIN, "has_rsync": True, "has_tc": True, "paravirtualization": False,
    "raw_devices": "", "boot_loader": "GRUB", "volume_groups": [], "agent_version": "25.5.0",
    "kernel_version": "6.1.0", "start_type": "MANUAL", "platform": "vmware"}


def server_body():
    vpc = state.ident("vpc", "la-south-2", "vpc-migration")
    return copy.deepcopy({"server": {
        "imageRef": seeds.IMAGE, "flavorRef": "s6.large.2", "name": "target1", "vpcid": vpc,
        "nics": [{"subnet_id": state.ident("subnet", vpc, "subnet-migration")}],
        "root_volume": {"volumetype": "SAS", "size": 40},
        "publicip": {"eip": {"iptype": "5_bgp", "bandwidth": {
            "size": 10, "sharetype": "PER", "chargemode": "traffic"}}}}})


def task_body(vm_id, **more):
    return {"name": "task_one", "type": "MIGRATE_FILE", "os_type": "LINUX",
            "source_server": {"id": seeds.SOURCE},
            "target_server": {"name": "target1", "vm_id": vm_id},
            "region_name": "la-south-2", "region_id": "la-south-2",
            "project_name": "la-south-2", "project_id": PROJECT,
            "use_public_ip": True, "start_target_server": True, "syncing": False,
            "exist_server": True, **more}
