# SPDX-License-Identifier: Apache-2.0
"""
What is there before the first call.

A scenario's "seed" holds, by kind, either a list of objects, or an object {id: object}; what an
object leaves out is filled in here.  For sources, tasks and migprojects {"count": N, ...} makes N
of them.  An object {"$replace": [...]} drops what the default seed has of that kind.
"""
import copy

from .state import Deep, hexid, ident, mac_digest

GIB = 1 << 30
DOMAIN = hexid("domain")
REGIONS = ("la-north-2", "la-south-2", "ap-southeast-3", "cn-north-4")
AK = "FAKEAK0123456789ABCD"
SK = "FakeSecretKeyOfTheTestCloud0123456789abc"
SOURCE = ident("source", "web1")
IMAGE = ident("image", "debian12")


def project(region):
    return {"id": hexid("project", region), "name": region, "domain_id": DOMAIN,
            "parent_id": DOMAIN, "is_domain": False, "enabled": True, "description": "",
            "links": {"self": "https://iam.myhuaweicloud.com/v3/projects/"
                      + hexid("project", region)}}


def checks(bad=()):
    names = ("OS_VERSION", "CPU", "MEMORY", "PARAVIRTUALIZATION", "FIRMWARE", "BOOT_LOADER",
             "RSYNC", "RAW_DEVICES", "DISK_INFO", "PARTITION_STYLE", "FILE_SYSTEM")
    wrong = {b["name"]: b for b in bad}
    return [{"id": i, "params": [], "name": n, "result": "OK", "error_code": None,
             "error_or_warn": None, "error_params": None, **wrong.get(n, {})}
            for i, n in enumerate(names, 1)]


def partition(index, name, mount, size, used):
    return {"id": ident("pv", name), "device_use": "OS", "file_system": "ext4", "index": index,
            "mount_point": mount, "name": name, "size": size, "used_size": used,
            "inode_size": 256, "inode_nums": 2621440, "uuid": ident("uuid", name)}


def disks():
    return [{"id": ident("disk", "vda"), "name": "/dev/vda", "partition_style": "MBR",
             "device_use": "BOOT", "size": 40 * GIB, "used_size": 12 * GIB, "os_disk": True,
             "relation_name": None, "inode_size": 256,
             "physical_volumes": [partition(1, "/dev/vda1", "/", 40 * GIB - (1 << 20),
                                            12 * GIB)]}]


def source(cloud, given, number=0):
    """A source server; "checks" may hold just the ones that are not OK."""
    name = given.get("name", f"web{number + 1}")
    address = f"192.168.0.{10 + number % 200}"
    made = {
        "id": SOURCE if name == "web1" else ident("source", name), "ip": address,
        "ipv6": "", "name": name, "hostname": name, "enterprise_project_id": "0",
        "add_date": cloud.ms() - 86400000, "os_type": "LINUX", "os_version": "DEBIAN_12_64BIT",
        "oem_system": False, "state": "waiting", "connected": True, "firmware": "BIOS",
        "cpu_quantity": 2, "memory": 4 * GIB, "disks": disks(), "volume_groups": [],
        "btrfs_list": [], "migration_cycle": "setting", "agent_version": "25.5.0", "has_tc": True,
        "networks": [{"id": ident("nic", name), "name": "eth0", "ip": address,
                      "ipv6": "", "netmask": "255.255.255.0", "gateway": "192.168.0.1",
                      "mtu": 1500, "mac": mac_digest(f"02:00:00:00:00:{number:06x}")}],
        "state_action_time": cloud.ms() - 86400000, "stage_action_time": cloud.ms() - 86400000,
        "last_visit_time": cloud.ms(), "replicatesize": 0, "totalsize": 0,
        "is_consistency_result_exist": False, "start_type": "MANUAL",
        "vm_id": ident("source-vm", name), "migprojectid": None, "block_level": True,
        "changed": False, "commands": [],
    }
    Deep.merge(made, {k: v for k, v in given.items() if k != "checks"})
    made["checks"] = checks(given.get("checks", ()))
    if any(c["result"] == "ERROR" for c in made["checks"]) and "state" not in given:
        made.update(state="unavailable", migration_cycle="checking")
    made["init_target_server"] = {"disks": copy.deepcopy(made["disks"]), "volume_groups": []}
    return made


def task(cloud, given, number=0):
    """A task of an earlier day; its source is the first one unless it says otherwise."""
    src = given.get("source", SOURCE)
    of = cloud.db["sources"].get(src, {"name": "gone"})
    made = {
        "id": ident("old-task", number), "name": f"old-task-{number}", "type": "MIGRATE_FILE",
        "os_type": "LINUX", "priority": 1, "state": "MIGRATE_SUCCESS", "source_id": src,
        "source_name": of["name"], "create_date": cloud.ms() - 86400000 + number * 1000,
        "start_date": cloud.ms() - 80000000, "finish_date": cloud.ms() - 70000000,
        "region_id": "la-south-2", "region_name": "la-south-2",
        "project_id": hexid("project", "la-south-2"), "project_name": "la-south-2",
        "target": {"vm_id": ident("old-vm", number), "name": "old-target", "disks": []},
        "exist_server": True, "use_public_ip": True, "start_target_server": True,
        "syncing": False, "speed_limit": 0, "migration_ip": None, "step": 0, "polls": 0,
        "sub_tasks": [], "error_json": None, "migproject": None,
    }
    return Deep.merge(made, {k: v for k, v in given.items() if k != "source"})


def migproject(cloud, given, number=0):
    name = given.get("name", f"project-{number}")
    return Deep.merge({
        "id": ident("migproject", name), "name": name, "description": "", "isdefault": False,
        "region": "la-south-2", "start_target_server": True, "speed_limit": 0,
        "use_public_ip": True, "exist_server": True, "type": "MIGRATE_FILE",
        "enterprise_project": "default", "syncing": False, "start_network_check": False,
    }, given)


def flavor(name, vcpus, ram, status="normal", zones=None, arch=None):
    spec = {"cond:operation:status": status}
    if zones:
        spec["cond:operation:az"] = ",".join(f"{z}({s})" for z, s in zones.items())
    if arch:
        spec["ecs:instance_architecture"] = arch
    return {"id": name, "name": name, "vcpus": str(vcpus), "ram": ram, "disk": "0", "swap": "",
            "os_extra_specs": spec}


def flavors():
    return [flavor("s6.small.1", 1, 1024), flavor("s6.large.2", 2, 4096),
            flavor("s6.xlarge.2", 4, 8192,
                   zones={"la-south-2a": "normal", "la-south-2b": "sellout"}),
            flavor("c6.large.2", 2, 4096, status="sellout"),
            flavor("t1.old", 1, 1024, status="abandon"),
            flavor("kc1.large.2", 2, 4096, arch="arm64")]


def vpc(cloud, given, number=0):
    name = given.get("name", f"vpc-{number}")
    region = given.get("region", "la-south-2")
    return Deep.merge({
        "id": ident("vpc", region, name), "name": name, "cidr": "10.250.0.0/16",
        "description": "", "status": "OK", "routes": [], "enterprise_project_id": "0",
        "project_id": hexid("project", region)}, {k: v for k, v in given.items() if k != "region"})


def subnet(cloud, given, number=0):
    owner = cloud.db["vpcs"][given["vpc_id"]] if "vpc_id" in given else next(
        v for v in cloud.db["vpcs"].values() if v["name"] == given.get("vpc", "vpc-migration"))
    name = given.get("name", f"subnet-{number}")
    sid = ident("subnet", owner["id"], name)
    return Deep.merge({
        "id": sid, "name": name, "cidr": "10.250.1.0/24", "gateway_ip": "10.250.1.1",
        "vpc_id": owner["id"], "status": "ACTIVE", "dhcp_enable": True,
        "availability_zone": "", "neutron_network_id": sid,
        "neutron_subnet_id": ident("neutron", sid), "available_ip_address_count": 250,
        "primary_dns": "100.125.1.250", "secondary_dns": "", "dnsList": [],
        "project_id": owner["project_id"]}, {k: v for k, v in given.items() if k != "vpc"})


def default_group(cloud, project_id):
    gid = ident("group", project_id, "default")
    cloud.db["groups"][gid] = {
        "id": gid, "name": "default", "description": "Default security group", "vpc_id": None,
        "enterprise_project_id": "0", "project_id": project_id}
    for direction in ("ingress", "egress"):
        for kind in ("IPv4", "IPv6"):
            rid = ident("rule", gid, direction, kind)
            cloud.db["rules"][rid] = {
                "id": rid, "security_group_id": gid, "direction": direction, "ethertype": kind,
                "protocol": None, "port_range_min": None, "port_range_max": None,
                "remote_ip_prefix": None, "description": "", "remote_address_group_id": None,
                "remote_group_id": gid if direction == "ingress" else None,
                "project_id": project_id, "tenant_id": project_id}


def volume(cloud, server, index, given):
    """An EVS disk of a server; sizes in GB."""
    device = "/dev/vd" + chr(ord("a") + index)
    vid = ident("volume", server["id"], index)
    made = {"id": vid, "server_id": server["id"], "device": device, "size": 40,
            "bootIndex": 0 if index == 0 else -1, "bus": "virtio", "volumetype": "SAS",
            "pciAddress": f"0000:02:0{index + 1}.0", "delete_on_termination": True}
    cloud.db["volumes"][vid] = Deep.merge(made, given)


def server(cloud, given, number=0):
    """A server that is up; address and floating give its addresses, disks a list of sizes."""
    name = given.get("name", f"server-{number}")
    sid = given.get("id", ident("server", name))
    net = next(iter(cloud.db["subnets"].values()), None)
    made = {
        "id": sid, "name": name, "project_id": hexid("project", "la-south-2"), "status": "ACTIVE",
        "polls": 99, "flavor_id": "s6.large.2", "image_id": IMAGE,
        "vpc_id": net["vpc_id"] if net else ident("vpc", "none"),
        "subnet_id": net["id"] if net else ident("subnet", "none"),
        "fixed": f"127.10.1.{100 + number % 100}",
        "eip_id": None, "port_id": ident("port", sid), "groups": [], "locked": False,
        "fault": None, "availability_zone": "la-south-2a", "created": "2026-01-01T00:00:00Z",
        "key_name": None, "metadata": {}, "tags": [], "console": None, "boots": 1,
        "mac": f"fa:16:3e:00:00:{number + 1:02x}"}
    Deep.merge(made, {k: v for k, v in given.items() if k not in ("disks", "floating")})
    for i, size in enumerate(given.get("disks", [40])):
        volume(cloud, made, i, {"size": size})
    if "floating" in given:
        eid = ident("eip", given["floating"])
        cloud.db["eips"][eid] = eip(cloud, {"id": eid, "public_ip_address": given["floating"],
                                            "port_id": made["port_id"], "status": "ACTIVE"})
        made["eip_id"] = eid
    return made


def eip(cloud, given, number=0):
    address = given.get("public_ip_address", f"127.10.2.{number + 10}")
    return Deep.merge({
        "id": ident("eip", address), "public_ip_address": address, "status": "DOWN",
        "type": "5_bgp", "port_id": None, "private_ip_address": None, "ip_version": 4,
        "bandwidth_id": ident("bandwidth", address), "bandwidth_name": "bandwidth",
        "bandwidth_share_type": "PER", "bandwidth_size": 5, "alias": "",
        "enterprise_project_id": "0", "project_id": hexid("project", "la-south-2"),
        "create_time": "2026-01-01 00:00:00"}, given)


def plain(cloud, given, number=0):
    return copy.deepcopy(given)


def identity(cloud, given, number=0):
    return {"domain_id": DOMAIN, **given}


MAKERS = {"credentials": identity, "tokens": identity, "sources": source, "tasks": task,
          "migprojects": migproject, "vpcs": vpc, "subnets": subnet, "servers": server, "eips": eip}
ORDER = ("projects", "credentials", "tokens", "images", "flavors", "vpcs", "subnets", "groups",
         "rules", "eips", "sources", "migprojects", "tasks", "servers", "dcs_tasks", "topics",
         "subscriptions")


def defaults():
    return {
        "projects": [project(r) for r in REGIONS],
        "credentials": [{"id": AK, "sk": SK, "domain_id": DOMAIN}],
        "images": [{"id": IMAGE, "name": "Debian 12", "min_disk": 10, "os_type": "Linux"}],
        "flavors": flavors(),
        "sources": [{"name": "web1"}],
        "migprojects": [{"name": "default", "isdefault": True}],
    }


def several(given):
    """The objects that a seed of one kind stands for."""
    if isinstance(given, list):
        return [dict(g) for g in given]
    if "count" in given:
        each = {k: v for k, v in given.items() if k not in ("count", "name")}
        return [{**each, "name": f"{given.get('name', 'many')}-{i:03d}"}
                for i in range(given["count"])]
    return [{"id": k, **v} for k, v in given.items()]


def plant(cloud, seed):
    start = defaults()
    unknown = set(seed) - set(ORDER) - {"privacy", "regions"}
    if unknown:
        raise ValueError(f"nothing is seeded as {', '.join(sorted(unknown))}")
    cloud.facts["privacy"] = seed.get("privacy", False)
    for kind in ORDER:
        given, first = seed.get(kind, []), several(start.get(kind, []))
        if isinstance(given, dict) and "$replace" in given:
            given, first = given["$replace"], []
        make = MAKERS.get(kind, plain)
        for number, g in enumerate(first + several(given)):
            made = make(cloud, g, number)
            if "id" not in made:
                raise ValueError(f"seed of {kind}: {g} has no id")
            cloud.db[kind][made["id"]] = made
        if kind == "projects":
            for pid in cloud.db["projects"]:
                default_group(cloud, pid)
