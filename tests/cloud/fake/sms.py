# SPDX-License-Identifier: Apache-2.0
"""SMS: agreement, migration projects, sources, commands, templates.  Tasks are in tasks.py."""
import ipaddress
import json
import re

from . import fields, seeds
from .state import Deep
from .web import ApiError, route

HIDDEN = ("vm_id", "migprojectid", "block_level", "changed", "commands")
ONE_ONLY = ("hostname", "firmware", "disks", "volume_groups", "btrfs_list", "networks",
            "agent_version", "start_type")
FILE_SYSTEMS = ("", "ext2", "ext3", "ext4", "xfs", "vfat", "swap", "LVM2_member", "reiserfs")
OPEN_STATES = ("READY", "RUNNING", "SYNCING", "ABORTING", "SKIPPING", "DELETING", "RESETING",
               "ABORT", "MIGRATE_FAIL", "SYNC_FAIL")


def fail(code, text, status=400):
    raise ApiError(status, code, text)


def page(request, items, default, most):
    """limit and offset; 0 as a limit stands for the most."""
    limit = int(request.query.get("limit", default)) or most
    offset = int(request.query.get("offset", 0))
    return items[offset:offset + min(limit, most)]


@route("sms", "GET /")
def versions(cloud, request):
    return {"versions": [version_of()]}


@route("sms", "GET /{version}")
def one_version(cloud, request):
    if request.params["version"] != "v3":
        fail("APIGW.0101", "no such version", 404)
    return {"version": version_of()}


def version_of():
    return {"id": "v3", "links": [{"rel": "self", "href": "/v3"}], "status": "SUPPORTED",
            "updated": "2021-10-15T00:00:00Z", "version": "", "min_version": ""}


@route("sms", "GET /v3/config")
def config(cloud, request):
    return {"config": {"mainRegion": "ap-southeast-3", "obs_domain": "obs.myhuaweicloud.com",
                       "disktype": "SAS"},
            "regions": [{"region_name": p["name"], "project_name": p["name"],
                         "region_id": p["name"]} for p in cloud.db["projects"].values()]}


@route("sms", "GET /v3/privacy-agreements")
def agreement(cloud, request):
    return {"flag": cloud.facts["privacy"]}


@route("sms", "POST /v3/privacy-agreements")
def agree(cloud, request):
    cloud.facts["privacy"] = True
    return ""


# -- migration projects ---------------------------------------------------------------------

def project_of(cloud, request):
    found = cloud.db["migprojects"].get(request.params["mig_project_id"])
    return found or fail("SMS.7301", "the migration project does not exist")


def only_default(cloud, project):
    for other in cloud.db["migprojects"].values():
        other["isdefault"] = other is project


def name_is_free(cloud, name, but=None):
    if any(p["name"] == name and p is not but for p in cloud.db["migprojects"].values()):
        fail("SMS.7312", "a migration project of this name exists")


@route("sms", "POST /v3/migprojects")
def create_project(cloud, request):
    name_is_free(cloud, request.json["name"])
    if len(cloud.db["migprojects"]) >= cloud.settings["project_quota"]:
        fail("SMS.8115", f"the limit of {cloud.settings['project_quota']} is reached")
    made = seeds.migproject(cloud, request.json)
    made["id"] = cloud.new_id("migproject")
    cloud.db["migprojects"][made["id"]] = made
    if made["isdefault"]:
        only_default(cloud, made)
    return {"id": made["id"]}


@route("sms", "GET /v3/migprojects")
def list_projects(cloud, request):
    found = list(cloud.db["migprojects"].values())
    return {"count": len(found), "migprojects": page(request, found, 50, 100)}


@route("sms", "GET /v3/migprojects/{mig_project_id}")
def show_project(cloud, request):
    return project_of(cloud, request)


@route("sms", "PUT /v3/migprojects/{mig_project_id}")
def change_project(cloud, request):
    project = project_of(cloud, request)
    name_is_free(cloud, request.json["name"], project)
    project.update(request.json)
    if project["isdefault"]:
        only_default(cloud, project)
    return ""


@route("sms", "PUT /v3/migprojects/{mig_project_id}/default")
def default_project(cloud, request):
    only_default(cloud, project_of(cloud, request))
    return ""


@route("sms", "DELETE /v3/migprojects/{mig_project_id}")
def delete_project(cloud, request):
    project = project_of(cloud, request)
    if project["isdefault"]:
        fail("SMS.7303", "the default project cannot be deleted")
    if any(s["migprojectid"] == project["id"] for s in cloud.db["sources"].values()):
        fail("SMS.7311", "the project has sources")
    del cloud.db["migprojects"][project["id"]]
    return ""


# -- sources --------------------------------------------------------------------------------

def find_source(cloud, source_id):
    return cloud.db["sources"].get(source_id) or fail("SMS.7602", "the source does not exist")


def connected(source):
    if not source["connected"]:
        fail("SMS.6603", "the connection to the agent of the source is lost")


def judge_source(source, cloud):
    """The checks of a registered source, from what it told about itself."""
    rows = {
        "OS_VERSION": ("SMS.6504", supported(source["os_version"])),
        "FIRMWARE": ("SMS.6505", source.get("firmware") in ("BIOS", "UEFI")),
        "CPU": ("SMS.6506", (source.get("cpu_quantity") or 0) > 0),
        "MEMORY": ("SMS.6514", (source.get("memory") or 0) > 0),
        "PARAVIRTUALIZATION": ("SMS.6515", source.get("paravirtualization") is False),
        "BOOT_LOADER": ("SMS.6516", source.get("boot_loader") == "GRUB"),
        "RSYNC": ("SMS.6517", source.get("has_rsync") is True),
        "RAW_DEVICES": ("SMS.6518", source.get("raw_devices") == ""),
        "DISK_INFO": ("SMS.6519", bool(source.get("disks"))),
        "PARTITION_STYLE": ("SMS.6508", all(d.get("partition_style") in ("MBR", "GPT")
                                            for d in source.get("disks") or ())),
        "FILE_SYSTEM": ("SMS.6509", all(fs in FILE_SYSTEMS for fs in file_systems(source))
                        and not source.get("btrfs_list")),
    }
    bad = [{"name": n, "result": "ERROR", "error_code": code, "error_or_warn": "error"}
           for n, (code, good) in rows.items()
           if not good and cloud.settings["judge_sources"]]
    source["checks"] = seeds.checks(bad)
    cloud.become("source", source, "unavailable" if bad else "waiting")
    source["migration_cycle"] = "checking" if bad else "setting"


def supported(code):
    return code.upper().startswith(("CENTOS", "UBUNTU", "DEBIAN", "REDHAT", "RHEL", "SUSE",
                                    "OPENSUSE", "EULEROS", "ORACLE", "FEDORA"))


def file_systems(source):
    for disk in source.get("disks") or ():
        for pv in disk.get("physical_volumes") or ():
            yield pv.get("file_system") or ""
    for vg in source.get("volume_groups") or ():
        for lv in vg.get("logical_volumes") or ():
            yield lv.get("file_system") or ""


def check_registration(cloud, request, body):
    """What no field table can say."""
    if not body.get("ip") and not body.get("ipv6"):
        request.note("missing", "ip", "neither ip nor ipv6 is given", "SMS.6530", True)
        fail("SMS.6530", "neither ip nor ipv6 is given")
    for key in ("ip", "ipv6"):
        try:
            if body.get(key):
                ipaddress.ip_address(body[key])
        except ValueError:
            request.note("pattern", key, f"{body[key]!r} is no address", "SMS.6530", True)
            fail("SMS.6530", f"{key} is no address")
    if not body["networks"][0].get("mac"):
        request.note("missing", "networks[0].mac", "is empty", "SMS.6013", True)
        fail("SMS.6013", "the first network has no mac")
    if 0 < body.get("memory", 0) < 10000000:
        request.note("unit", "memory", f"{body['memory']} cannot be bytes")
    check_disk_units(request, body.get("disks") or ())
    check_block_text(request, body.get("linux_block_check"))
    others = {n.get("mac") for s in cloud.db["sources"].values() if s["id"] != body.get("id")
              for n in s["networks"]}
    for i, nic in enumerate(body["networks"]):
        if nic["mac"] and not re.fullmatch("[0-9a-f]{64}", nic["mac"]):
            request.note("pattern", f"networks[{i}].mac", "is no digest of 64 hex digits")
        if nic["mac"] and nic["mac"] in others:
            request.note("duplicate", f"networks[{i}].mac", "another source has the same")
    if version(body["agent_version"]) < version(cloud.settings["min_agent_version"]):
        fail("SMS.6303", "the agent is too old")


def check_block_text(request, said):
    if not said:
        return
    wanted = {"release_type", "release_version", "kernel_simplification", "architecture",
              "kernel_version"}
    try:
        have = set(json.loads(said))
    except (ValueError, TypeError):
        request.note("json", "linux_block_check", "is no JSON in text")
        return
    if have != wanted:
        request.note("unknown", "linux_block_check", f"keys are {sorted(have)}, not "
                     f"{sorted(wanted)}")


def check_disk_units(request, found):
    for i, disk in enumerate(found):
        if disk["size"] < 1 << 20:
            request.note("unit", f"disks[{i}].size", f"{disk['size']} cannot be bytes")
        parts = sum(p.get("size") or 0 for p in disk.get("physical_volumes") or ())
        if parts > disk["size"]:
            request.note("sum", f"disks[{i}]", "its partitions are larger than the disk")


def version(said):
    return [int(p) if p.isdigit() else 0 for p in said.split(".")]


@route("sms", "POST /v3/sources")
def register(cloud, request):
    body = request.json
    check_registration(cloud, request, body)
    known = cloud.db["sources"].get(body.get("id") or "")
    if known is None:
        if body.get("id") and cloud.settings["register_stale_id"] == "refuse":
            fail("SMS.7602", "the source does not exist")
        if len(cloud.db["sources"]) >= cloud.settings["source_quota"]:
            fail("SMS.6501", "the limit of source servers is reached")
        known = seeds.source(cloud, {"name": body["name"]}, len(cloud.db["sources"]))
        known.update(id=cloud.new_id("source"), add_date=cloud.ms(), vm_id=None,
                     connected=cloud.settings["register_connected"])
        cloud.db["sources"][known["id"]] = known
    told = {k: v for k, v in body.items() if k not in ("id", "state", "migration_cycle")}
    for key in ("has_rsync", "has_tc", "paravirtualization", "raw_devices", "boot_loader",
                "disks", "volume_groups", "btrfs_list", "firmware", "cpu_quantity", "memory"):
        told.setdefault(key, None)
    known.update(told, changed=False, last_visit_time=cloud.ms())
    if current_task(cloud, known) is None:
        judge_source(known, cloud)
    cloud.happen("source.registered", known)
    return {"id": known["id"]}


def current_task(cloud, source):
    tasks = [t for t in cloud.db["tasks"].values()
             if t["source_id"] == source["id"] and t["state"] in OPEN_STATES]
    return tasks[-1] if tasks else None


def show_current(cloud, source, one):
    from .tasks import LISTED, brief
    task = current_task(cloud, source)
    if task is None:
        return None
    return {**brief(task), **({} if one else LISTED)}


def shown_source(cloud, source, one):
    hidden = HIDDEN + (("is_consistency_result_exist",) if one else ONE_ONLY)
    shown = {k: v for k, v in source.items()
             if k not in hidden and k not in ("has_rsync", "paravirtualization", "raw_devices",
                                              "boot_loader", "linux_block_check")}
    shown["current_task"] = show_current(cloud, source, one)
    return shown


FILTERS = {"state": "state", "id": "id", "migproject": "migprojectid", "vm_id": "vm_id",
           "migration_cycle": "migration_cycle", "enterprise_project_id": "enterprise_project_id"}


def wanted(source, query):
    for key, field in FILTERS.items():
        if query.get(key) not in (None, "", source.get(field), "all_granted_eps"):
            return False
    if query.get("name") and query["name"] not in source["name"]:
        return False
    address = "ip" if query.get("ip") else "ipv6"
    if query.get(address) and query[address] != source.get(address):
        return False
    for key in ("connected", "is_consistency_result_exist"):
        if key in query and (query[key] == "true") != source[key]:
            return False
    return True


@route("sms", "GET /v3/sources")
def list_sources(cloud, request):
    found = [s for s in cloud.db["sources"].values() if wanted(s, request.query)]
    return {"count": len(found), "source_servers": [
        shown_source(cloud, s, False) for s in page(request, found, 200, 200)]}


@route("sms", "GET /v3/sources/overview")
def overview(cloud, request):
    counters = dict.fromkeys((
        "waiting", "replicate", "syncing", "stopped", "deleting", "cutovering", "unavailable",
        "stopping", "skipping", "finished", "initialize", "error", "cloning", "unconfigured"), 0)
    for s in cloud.db["sources"].values():
        if s["state"] in counters:
            counters[s["state"]] += 1
    return counters


@route("sms", "GET /v3/sources/{source_id}")
def show_source(cloud, request):
    source = find_source(cloud, request.params["source_id"])
    cloud.happen("source.shown", source)
    return shown_source(cloud, source, True)


@route("sms", "PUT /v3/sources/{source_id}")
def change_source(cloud, request):
    source = find_source(cloud, request.params["source_id"])
    project = request.json.get("migprojectid")
    if project is not None and project not in cloud.db["migprojects"]:
        fail("SMS.7301", "the migration project does not exist")
    for key in ("name", "migprojectid"):
        if request.json.get(key) is not None:
            source[key] = request.json[key]
    return ""


def delete_source(cloud, source_id):
    source = find_source(cloud, source_id)
    task = current_task(cloud, source)
    if task is not None and task["state"] in ("RUNNING", "SYNCING"):
        fail("SMS.7601", "the source has a running task")
    del cloud.db["sources"][source_id]
    for tid in [t["id"] for t in cloud.db["tasks"].values() if t["source_id"] == source_id]:
        del cloud.db["tasks"][tid]


@route("sms", "DELETE /v3/sources/{source_id}")
def delete_one_source(cloud, request):
    delete_source(cloud, request.params["source_id"])
    return ""


@route("sms", "POST /v3/sources/delete")
def delete_sources(cloud, request):
    for sid in request.json["ids"]:
        find_source(cloud, sid)
    for sid in request.json["ids"]:
        delete_source(cloud, sid)
    return ""


@route("sms", "PUT /v3/sources/{source_id}/changestate")
def change_state(cloud, request):
    source = find_source(cloud, request.params["source_id"])
    state = request.json["copystate"].lower()
    cycle = request.json["migrationcycle"].lower()
    if state not in fields.COPY_PAIRS.get(cycle, ()):
        request.note("pair", "copystate", f"{state} does not go with {cycle}", "SMS.7728", True)
        fail("SMS.7728", "copystate and migrationcycle do not go together")
    # Reports that come while the console does something else are dropped without a word.
    if source["state"] in ("unavailable", "stopping", "stopped", "deleting", "finished",
                           "clearing", "clearfailed"):
        return ""
    source["state_action_time"] = cloud.ms()
    source["migration_cycle"] = cycle
    cloud.become("source", source, "initialize" if state == "init" else state)
    return ""


@route("sms", "PUT /v3/sources/{source_id}/diskinfo")
def disk_info(cloud, request):
    source = find_source(cloud, request.params["source_id"])
    check_disk_units(request, request.json["disks"])
    source.update(disks=request.json["disks"], changed=False,
                  volume_groups=request.json.get("volumegroups") or [],
                  btrfs_list=request.json.get("btrfs_list") or [])
    cloud.happen("source.disks", source)
    return ""


@route("sms", "GET /v3/sources/{server_id}/command")
def command(cloud, request):
    source = find_source(cloud, request.params["server_id"])
    source["last_visit_time"] = cloud.ms()
    if source["commands"]:
        return source["commands"][0]
    task = next((t for t in reversed(list(cloud.db["tasks"].values()))
                 if t["source_id"] == source["id"]), None)
    name = "TASK_NOT_STARTED"
    if task is not None and task["state"] in ("MIGRATE_SUCCESS", "SYNC_SUCCESS"):
        name = "TASK_HAS_FINISHED"
    elif task is not None and task["state"] == "ABORT":
        name = "TASK_HAS_STOPPED"
    return {"command_name": name,
            "command_param": {"task_id": task["id"] if task else "", "bucket": ""}}


@route("sms", "POST /v3/sources/{server_id}/command_result")
def command_result(cloud, request):
    source = find_source(cloud, request.params["server_id"])
    waiting = source["commands"]
    if not waiting or waiting[0]["command_name"] != request.json["command_name"]:
        fail("SMS.6021", "the command differs from the one that was sent")
    waiting.pop(0)
    source.setdefault("command_results", []).append(request.json)
    return ""


@route("sms", "GET /v3/errors")
def errors(cloud, request):
    found = []
    for t in cloud.db["tasks"].values():
        source = cloud.db["sources"].get(t["source_id"])
        if t["error_json"] and source:
            found.append({"error_json": t["error_json"], "host_name": source["hostname"],
                          "name": t["name"], "source_id": source["id"], "source_ip": source["ip"],
                          "target_ip": t["migration_ip"]})
    return {"count": len(found), "migration_errors": page(request, found, 50, 100)}


# -- templates ------------------------------------------------------------------------------

def find_template(cloud, request):
    return (cloud.db["templates"].get(request.params["id"])
            or fail("SMS.7101", "the template does not exist"))


@route("sms", "POST /v3/vm/templates")
def create_template(cloud, request):
    body = request.json["template"]
    if any(t["name"] == body["name"] for t in cloud.db["templates"].values()):
        fail("SMS.7112", "a template of this name exists")
    if len(cloud.db["templates"]) >= 50:
        fail("SMS.8115", "the limit of 50 templates is reached")
    made = {**body, "id": cloud.new_id("template")}
    cloud.db["templates"][made["id"]] = made
    return {"id": made["id"]}


@route("sms", "GET /v3/vm/templates")
def list_templates(cloud, request):
    found = [t for t in cloud.db["templates"].values()
             if all(t.get(k) == v for k, v in request.query.items()
                    if k in ("name", "availability_zone", "region", "id"))]
    return {"count": len(found), "vm_templates": page(request, found, 50, 50)}


@route("sms", "GET /v3/vm/templates/{id}")
def show_template(cloud, request):
    return {"template": {k: v for k, v in find_template(cloud, request).items()
                         if k != "target_password"}}


@route("sms", "PUT /v3/vm/templates/{id}")
def change_template(cloud, request):
    Deep.merge(find_template(cloud, request), request.json["template"])
    return ""


@route("sms", "DELETE /v3/vm/templates/{id}")
def delete_template(cloud, request):
    del cloud.db["templates"][find_template(cloud, request)["id"]]
    return ""


@route("sms", "POST /v3/vm/templates/delete")
def delete_templates(cloud, request):
    for tid in request.json["ids"]:
        if cloud.db["templates"].pop(tid, None) is None:
            fail("SMS.7101", "the template does not exist")
    return ""


@route("sms", "GET /v3/vm/templates/{id}/target-password")
def target_password(cloud, request):
    template = find_template(cloud, request)
    live = any(t.get("vm_template_id") == template["id"] and t["state"] in ("RUNNING", "SYNCING")
               for t in cloud.db["tasks"].values())
    if not live:
        fail("SMS.9905", "only while replicating or syncing")
    return {"template_id": template["id"], "target_password": template.get("target_password", "")}
