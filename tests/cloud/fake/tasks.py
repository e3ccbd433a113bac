# SPDX-License-Identifier: Apache-2.0
"""SMS: migration tasks, which go one step of their plan at each poll."""
import copy
import ipaddress
import json
import re

from . import paths, seeds
from .sms import connected, current_task, fail, find_source, page
from .state import Deep
from .web import route

RUNNING = ("RUNNING", "SYNCING", "ABORTING", "SKIPPING", "DELETING", "RESETING")
FAILED = ("MIGRATE_FAIL", "SYNC_FAIL", "ABORT")
SUB_ORDER = {
    "MIGRATE_FILE": ("SSL_CONFIG", "ATTACH_AGENT_IMAGE", "FORMAT_DISK_LINUX_FILE",
                     "MIGRATE_LINUX_FILE", "CONFIGURE_LINUX_FILE", "DETTACH_AGENT_IMAGE"),
    "MIGRATE_BLOCK": ("SSL_CONFIG", "ATTACH_AGENT_IMAGE", "FORMAT_DISK_LINUX_BLOCK",
                      "MIGRATE_LINUX_BLOCK", "CONFIGURE_LINUX_BLOCK", "DETTACH_AGENT_IMAGE"),
}


def plan_of(cloud, task):
    """Steps {state, subtask, progress}; the last one is the end, or continuous sync."""
    if cloud.settings["task_plan"] is not None:
        return cloud.settings["task_plan"]
    steps = []
    for sub in SUB_ORDER[task["type"]]:
        for progress in (30, 80, 100) if sub.startswith("MIGRATE_") else (100,):
            steps.append({"state": "RUNNING", "subtask": sub, "progress": progress})
    if task["syncing"]:
        end = {"state": "SYNCING", "subtask": "SYNC_LINUX_FILE", "progress": 6}
    else:
        end = {"state": "MIGRATE_SUCCESS"}
    return [*steps, end]


SOURCE_STATE = {
    "RUNNING": ("replicate", "replicating"), "SYNCING": ("syncing", "syncing"),
    "MIGRATE_SUCCESS": ("finished", "cutovered"), "SYNC_SUCCESS": ("finished", "cutovered"),
    "MIGRATE_FAIL": ("error", "replicating"), "SYNC_FAIL": ("error", "syncing"),
    "ABORT": ("stopped", "replicating"), "READY": ("waiting", "setting"),
}


def set_state(cloud, task, state):
    if task["state"] == state:
        return
    source = cloud.db["sources"].get(task["source_id"])
    if source is not None and state in SOURCE_STATE:
        source["state_action_time"] = cloud.ms()
        source["migration_cycle"] = SOURCE_STATE[state][1]
        cloud.become("source", source, SOURCE_STATE[state][0])
    if state not in RUNNING:
        task["finish_date"] = cloud.ms() if state != "READY" else None
    vm = cloud.db["servers"].get(task["target"]["vm_id"])
    if vm is not None:
        vm["locked"] = state in RUNNING
    cloud.become("task", task, state)


def sub_task(cloud, task, name):
    """The task's sub-task of that name; a new one ends those before it."""
    for sub in task["sub_tasks"]:
        if sub["name"] == name:
            return sub
    for sub in task["sub_tasks"]:
        sub.update(progress=100, end_date=sub["end_date"] or cloud.ms(), migrate_speed=0)
    made = {"id": len(task["sub_tasks"]) + 1, "name": name, "progress": 0,
            "start_date": cloud.ms(), "end_date": None, "migrate_speed": 0, "user_op": "REPLICATE",
            "process_trace": ""}
    task["sub_tasks"].append(made)
    return made


def failure_of(cloud, task, step):
    for f in cloud.settings["task_failures"]:
        if re.fullmatch(f["at"], step.get("subtask") or "") and paths.holds(task, f.get("when")) \
                and f.get("times", 1) > 0:
            if "times" in f:
                f["times"] -= 1
            return f
    return None


def obstacle(cloud, task, step):
    """What the real world has against this step: a failure like those of the settings, or None."""
    if "given" not in task:
        return None  # a seeded one, whose target nobody made
    vm = cloud.db["servers"].get(task["target"]["vm_id"])
    if vm is None:
        return {"error_code": "SMS.0412"}
    eip = cloud.db["eips"].get(vm["eip_id"])
    if task["use_public_ip"] and not task.get("use_ipv6") and (
            eip is None or task["migration_ip"] not in (None, "", eip["public_ip_address"])):
        return {"error_code": "SMS.1406"}
    sub = step.get("subtask") or ""
    if sub == "SSL_CONFIG" and cloud.settings["check_port_22"] and not reachable(cloud, vm):
        return {"error_code": "SMS.3805"}
    if sub.startswith("FORMAT_DISK") and cloud.settings["check_target_disks"]:
        return disks_fit(cloud, task, vm)
    return None


def reachable(cloud, vm):
    """Whether a rule of the server's groups lets TCP 22 in from some address."""
    return any(r["security_group_id"] in vm["groups"] and r["direction"] == "ingress"
               and r["ethertype"] == "IPv4" and r["protocol"] in (None, "tcp", "6")
               and r["remote_group_id"] is None
               and (r["port_range_min"] or 0) <= 22 <= (r["port_range_max"] or 65535)
               for r in cloud.db["rules"].values())


def disks_fit(cloud, task, vm):
    source = cloud.db["sources"].get(task["source_id"])
    have = [v["size"] << 30 for v in cloud.db["volumes"].values() if v["server_id"] == vm["id"]]
    want = [d.get("used_size") or 0 for d in (source or {}).get("disks") or ()]
    if len(have) < len(want):
        return {"error_code": "SMS.1311"}
    if any(w > h for w, h in zip(sorted(want), sorted(have)[-len(want):])):
        return {"error_code": "SMS.0519"}
    return None


def advance(cloud, task):
    """One step of the plan, if the task runs."""
    if task["state"] not in ("RUNNING", "SYNCING"):
        return
    plan = plan_of(cloud, task)
    if task["step"] >= len(plan):
        return
    step = plan[task["step"]]
    task["step"] += 1
    if step.get("subtask"):
        sub = sub_task(cloud, task, step["subtask"])
        sub["progress"] = step.get("progress", 0)
        sub["migrate_speed"] = task["migrate_speed"] = 80.5
        if sub["progress"] == 100:
            sub["end_date"] = cloud.ms()
    failure = failure_of(cloud, task, step) or obstacle(cloud, task, step)
    if failure is not None:
        report_failure(cloud, task, failure)
    else:
        set_state(cloud, task, step["state"])
    if task["state"] not in ("RUNNING", "SYNCING"):
        task["migrate_speed"] = 0


def report_failure(cloud, task, failure):
    # Both are text that holds JSON, the inner one within the outer.
    task["error_json"] = json.dumps({
        "error_code": failure["error_code"],
        "error_param": json.dumps(failure.get("error_param", []))})
    set_state(cloud, task, failure.get("state", "MIGRATE_FAIL"))


def find_task(cloud, task_id):
    return cloud.db["tasks"].get(task_id) or fail("SMS.7703", "the task does not exist")


def task_of(cloud, request):
    return find_task(cloud, request.params["task_id"])


# -- creation -------------------------------------------------------------------------------

def check_address(cloud, request, body, vm):
    """SMS.6602: migration_ip must be an address of the target, of the kind asked for."""
    address = body.get("migration_ip")
    if not address:
        if body.get("use_public_ip", True) and not body.get("use_ipv6") and not vm["eip_id"]:
            fail("SMS.6602", "the target has no public address")
        return
    try:
        kind = ipaddress.ip_address(address).version
    except ValueError:
        fail("SMS.6602", "migration_ip is no address")
    if (kind == 6) != bool(body.get("use_ipv6")):
        fail("SMS.6602", "migration_ip is of the other IP version")
    eip = cloud.db["eips"].get(vm["eip_id"]) if vm["eip_id"] else None
    public = eip["public_ip_address"] if eip else None
    mine = public if body.get("use_public_ip", True) else vm["fixed"]
    if kind == 4 and address != mine:
        fail("SMS.6602", "migration_ip is not the "
             + ("public" if body.get("use_public_ip", True) else "private")
             + " address of the target")


def check_disks(cloud, request, target):
    for i, disk in enumerate(target.get("disks") or ()):
        volume = cloud.db["volumes"].get(disk["disk_id"])
        if volume is None or volume["server_id"] != target["vm_id"]:
            fail("SMS.8106", "a disk of target_server is not one of that server")
        if disk["size"] < 1 << 20:
            request.note("unit", f"target_server.disks[{i}].size",
                         f"{disk['size']} cannot be bytes", "SMS.6105", True)
            fail("SMS.6105", "the size of a target disk is invalid")
        if disk["size"] > volume["size"] << 30:
            fail("SMS.6614", "a target disk is smaller than it is said to be")


def check_residue(cloud, source):
    """Tasks left over of this source, which turn up when a task is created, stand in the way."""
    residue = cloud.settings["residue"]
    if residue is None:
        return
    if not residue.get("planted"):
        residue["planted"] = True
        for i, state in enumerate(residue["states"]):
            made = seeds.task(cloud, {"source": source["id"], "state": state,
                                      "id": cloud.new_id("residue"), "name": f"residue_{i}"}, i)
            cloud.db["tasks"][made["id"]] = made
    blocking = [t for t in cloud.db["tasks"].values() if t["source_id"] == source["id"]
                and (residue["block"] == "any" or t["state"] in FAILED)]
    if blocking or residue["block"] == "always":
        fail("SMS.7605", "the server is the target of another task")


@route("sms", "POST /v3/tasks")
def create(cloud, request):
    body = request.json
    source = find_source(cloud, body["source_server"]["id"])
    connected(source)
    bad = [c["name"] for c in source["checks"] if c["result"] == "ERROR"]
    if bad:
        fail("SMS.6520", "the source failed its checks: " + " ".join(bad))
    check_residue(cloud, source)
    if current_task(cloud, source) is not None:
        fail("SMS.7601", "the source has a task")
    if body.get("os_type", source["os_type"]) != source["os_type"]:
        fail("SMS.6610", "the task is of another operating system than the source")
    if body["type"] == "MIGRATE_BLOCK" and not (cloud.settings["block_level"]
                                                and source["block_level"]):
        fail("SMS.6617", "the kernel of the source cannot do block level migration")
    project = cloud.db["projects"].get(body["project_id"])
    if project is None or project["name"] not in (body["region_id"], body["project_name"]):
        fail("SMS.6034", "region and project do not go together")
    vm = cloud.db["servers"].get(body["target_server"]["vm_id"])
    if vm is None or vm["status"] == "DELETED":
        fail("SMS.8103", "the target server does not exist")
    if vm["project_id"] != body["project_id"]:
        fail("SMS.8104", "the target server is in another project")
    if vm["status"] != "ACTIVE":
        fail("SMS.1502", "the target server is in a wrong status")
    if any(t["target"]["vm_id"] == vm["id"] and t["state"] not in ("MIGRATE_SUCCESS",
                                                                  "SYNC_SUCCESS")
           for t in cloud.db["tasks"].values()):
        fail("SMS.7605", "the server is the target of another task")
    image = cloud.db["images"].get(vm["image_id"], {})
    if source["firmware"] == "UEFI" and image.get("firmware", "UEFI") != "UEFI":
        fail("SMS.6561", "the target is not UEFI")
    check_address(cloud, request, body, vm)
    check_disks(cloud, request, body["target_server"])
    return {"id": made_task(cloud, body, source)["id"]}


def made_task(cloud, body, source):
    task = seeds.task(cloud, {
        **{k: v for k, v in body.items() if k not in ("source_server", "target_server")},
        "source": source["id"], "id": cloud.new_id("task"), "state": "READY",
        "create_date": cloud.ms(), "start_date": None, "finish_date": None,
        "os_type": source["os_type"], "migrate_speed": 0, "given": copy.deepcopy(body)})
    task["target"] = copy.deepcopy(body["target_server"])
    task["source_name"] = source["name"]
    cloud.db["tasks"][task["id"]] = task
    cloud.happen("task.created", task)
    return task


# -- reading --------------------------------------------------------------------------------

def subtask_info(task):
    if not task["sub_tasks"]:
        return None
    last = task["sub_tasks"][-1]
    return f"{last['name']}-{last['progress']}"


BRIEF = ("id", "name", "type", "state", "start_date", "speed_limit", "start_target_server",
         "region_id", "project_name", "project_id", "exist_server", "use_public_ip")


def brief(task):
    """What a source tells of its task."""
    return {**{k: task.get(k) for k in BRIEF}, "migrate_speed": task.get("migrate_speed", 0),
            "vm_template_id": task.get("vm_template_id"),
            "target_server": {"vm_id": task["target"]["vm_id"], "name": task["target"]["name"]},
            "log_collect_status": task.get("log_collect_status", "INIT"), "clone_server": None,
            "subtask_info": subtask_info(task)}


TIMES = {"estimate_complete_time": None, "compress_rate": None, "remain_seconds": 0}
# What a list of sources tells of their tasks beside that.
LISTED = {**TIMES, "log_bucket": None, "log_expire": None, "log_upload_time": None,
          "log_share_url": None}


def shown(cloud, task):
    """A task as the list tells it; reading one adds detail."""
    source = cloud.db["sources"].get(task["source_id"])
    of = source or {"ip": None, "os_type": "LINUX", "os_version": None, "oem_system": False,
                    "state": "waiting", "migration_cycle": "setting", "connected": False}
    vm = cloud.db["servers"].get(task["target"]["vm_id"])
    return {
        **brief(task), **TIMES, "os_type": task["os_type"], "priority": task["priority"],
        "create_date": task["create_date"], "finish_date": task["finish_date"],
        "total_time": (task["finish_date"] or cloud.ms()) - (task["start_date"] or cloud.ms()),
        "connected": of["connected"], "enterprise_project_id": "0",
        "migration_ip": task["migration_ip"], "region_name": task["region_name"],
        "target_snapshot_id": None, "float_ip": None, "error_json": task["error_json"],
        "need_migration_test": task.get("need_migration_test", False),
        "syncing": task["syncing"],
        "source_server": {"id": task["source_id"], "ip": of["ip"], "name": task["source_name"],
                          **{k: of[k] for k in ("os_type", "os_version", "oem_system", "state",
                                                "migration_cycle")}},
        "target_server": {"id": task["target"].get("id"), "vm_id": task["target"]["vm_id"],
                          "name": task["target"]["name"], "ip": vm["fixed"] if vm else None,
                          "os_type": of["os_type"], "os_version": of["os_version"],
                          "system_dir": None, "disks": task["target"].get("disks") or [],
                          "volume_groups": task["target"].get("volume_groups") or [],
                          "btrfs_list": [], "image_disk_id": None,
                          "cutovered_snapshot_ids": None},
    }


def shown_one(cloud, task):
    return {**shown(cloud, task), "sub_tasks": task["sub_tasks"], "special_config": [],
            "network_check_info": task.get("network_check"), "total_cpu_usage": 12.5,
            "agent_cpu_usage": 3.5, "total_mem_usage": 1024.0, "agent_mem_usage": 60.0,
            "total_disk_io": 20.0, "agent_disk_io": 10.0}


@route("sms", "GET /v3/tasks")
def list_tasks(cloud, request):
    q = request.query
    found = [t for t in cloud.db["tasks"].values()
             if q.get("state") in (None, "", t["state"]) and q.get("id") in (None, "", t["id"])
             and q.get("source_server_id") in (None, "", t["source_id"])
             and q.get("name", "") in t["name"]]
    return {"count": len(found), "tasks": [shown(cloud, t) for t in page(request, found, 50, 100)]}


@route("sms", "GET /v3/tasks/{task_id}")
def show_task(cloud, request):
    task = task_of(cloud, request)
    if task["state"] in ("RUNNING", "SYNCING"):
        task["polls"] += 1
        if task["polls"] == cloud.settings["task_rename_at_poll"]:
            del cloud.db["tasks"][task["id"]]
            task["id"] = cloud.new_id("task")
            cloud.db["tasks"][task["id"]] = task
            fail("SMS.7703", "the task does not exist")
        advance(cloud, task)
        cloud.happen("task.polled", task)
    return shown_one(cloud, task)


@route("sms", "PUT /v3/tasks/{task_id}")
def change_task(cloud, request):
    task = task_of(cloud, request)
    if task["state"] in RUNNING:
        fail("SMS.7706", "the task runs")
    Deep.merge(task, {k: v for k, v in request.json.items() if k in task and v is not None})
    return ""


def deletable(cloud, task):
    if task["state"] in RUNNING:
        fail("SMS.7719", "a task in this state cannot be deleted")
    source = cloud.db["sources"].get(task["source_id"])
    if source is not None and not source["connected"]:
        fail("SMS.7723", "the agent is not connected")


def delete(cloud, task):
    del cloud.db["tasks"][task["id"]]
    vm = cloud.db["servers"].get(task["target"]["vm_id"])
    if vm is not None:
        vm["locked"] = False
    source = cloud.db["sources"].get(task["source_id"])
    if source is not None and current_task(cloud, source) is None:
        source["commands"] = []
        if source["state"] not in ("unavailable", "waiting"):
            source["migration_cycle"] = "setting"
            cloud.become("source", source, "waiting")


@route("sms", "DELETE /v3/tasks/{task_id}")
def delete_task(cloud, request):
    task = task_of(cloud, request)
    deletable(cloud, task)
    delete(cloud, task)
    return ""


@route("sms", "POST /v3/tasks/delete")
def delete_tasks(cloud, request):
    found = [find_task(cloud, tid) for tid in request.json["ids"]]
    for task in found:
        deletable(cloud, task)
    for task in found:
        delete(cloud, task)
    return ""


# -- actions --------------------------------------------------------------------------------

def start(cloud, task, source):
    if task["state"] not in ("READY", *FAILED):
        fail("SMS.7713", "only a task that is ready, paused or failed can start")
    if source["changed"]:
        fail("SMS.0515", "the disks of the source have changed")
    task["start_date"] = task["start_date"] or cloud.ms()
    task["error_json"] = None
    # What is done is not done again after a pause.
    if task["state"] != "ABORT":
        task["step"] = 0
    set_state(cloud, task, "RUNNING")
    order(source, "START", task)


def stop(cloud, task, source):
    if task["state"] not in ("RUNNING", "SYNCING"):
        fail("SMS.7714", "only a running task can be paused")
    set_state(cloud, task, "ABORT")
    order(source, "STOP", task)


def restart(cloud, task, source):
    if task["state"] not in ("MIGRATE_SUCCESS", "SYNC_SUCCESS", "SYNCING"):
        fail("SMS.7722", "only after the target was launched")
    task["step"] = 0
    set_state(cloud, task, "RUNNING")
    order(source, "START", task)


def cutover(cloud, task, source):
    if task["state"] != "SYNCING":
        fail("SMS.7721", "only in continuous sync")
    sub_task(cloud, task, "CONFIGURE_LINUX_FILE")["user_op"] = "CUTOVER0"
    set_state(cloud, task, "MIGRATE_SUCCESS")


def skip(cloud, task, source):
    order(source, "SKIP", task)


def nothing(cloud, task, source):
    pass


OPERATIONS = {"start": start, "stop": stop, "restart": restart, "cutover": cutover, "skip": skip}


def order(source, name, task):
    source["commands"] = [{"command_name": name,
                           "command_param": {"task_id": task["id"], "bucket": ""}}]


@route("sms", "POST /v3/tasks/{task_id}/action")
def action(cloud, request):
    task = task_of(cloud, request)
    source = find_source(cloud, task["source_id"])
    connected(source)
    OPERATIONS.get(request.json["operation"], nothing)(cloud, task, source)
    cloud.happen("task.action." + request.json["operation"], task)
    return ""


@route("sms", "PUT /v3/tasks/{task_id}/progress")
def progress(cloud, request):
    task, body = task_of(cloud, request), request.json
    sub = sub_task(cloud, task, body["subtask_name"])
    sub.update(progress=body["progress"], process_trace=body["process_trace"],
               migrate_speed=body.get("migrate_speed") or 0)
    if body["progress"] == 100:
        sub["end_date"] = cloud.ms()
    source = cloud.db["sources"].get(task["source_id"])
    if source is not None:
        source.update(replicatesize=body["replicatesize"], totalsize=body["totalsize"])
    return ""


@route("sms", "GET /v3/tasks/{task_id}/speed-limit")
def show_limit(cloud, request):
    task = task_of(cloud, request)
    if "limits" not in task:
        fail("SMS.6302", "no speed limit is set")
    return {"speed_limit": task["limits"]}


@route("sms", "POST /v3/tasks/{task_id}/speed-limit")
def set_limit(cloud, request):
    task_of(cloud, request)["limits"] = request.json["speed_limit"]
    return ""


@route("sms", "GET /v3/tasks/{task_id}/passphrase")
def passphrase(cloud, request):
    return {"task_id": task_of(cloud, request)["id"], "passphrase": "passphrase of a test"}


@route("sms", "GET /v3/tasks/{task_id}/certkey")
def certkey(cloud, request):
    task_of(cloud, request)
    return {k: f"-----BEGIN {k}-----\nnone\n-----END {k}-----\n" for k in (
        "cert", "private_key", "ca", "target_mgmt_cert", "target_mgmt_private_key",
        "target_data_cert", "target_data_private_key")}


@route("sms", "POST /v3/tasks/{task_id}/log")
def collect_log(cloud, request):
    task = task_of(cloud, request)
    if task["start_date"] is None:
        fail("SMS.7717", "logs are there only after a start")
    if task.get("log_collect_status") == "UPLOADING":
        fail("SMS.7716", "the logs are being collected")
    task["log_collect_status"] = "UPLOADING"
    return ""


@route("sms", "GET /v3/tasks/{task_id}/configuration-setting")
def show_settings(cloud, request):
    task = task_of(cloud, request)
    key = request.query.get("config_key")
    kind = {"MIGRATE_FILE": "LINUX_MIGRATE_FILE", "MIGRATE_BLOCK": "LINUX_MIGRATE_BLOCK"}
    return {"task_id": task["id"], "migrate_type": kind[task["type"]],
            "configurations": [c for c in task.get("configurations", [])
                               if key in (None, c["config_key"])]}


@route("sms", "POST /v3/tasks/{task_id}/configuration-setting")
def set_settings(cloud, request):
    task = task_of(cloud, request)
    for i, c in enumerate(request.json["configurations"]):
        if c["config_key"].endswith("_DIR") and c["config_value"].endswith(","):
            request.note("pattern", f"configurations[{i}].config_value", "ends in a comma")
    have = {c["config_key"]: c for c in task.get("configurations", [])}
    have.update({c["config_key"]: c for c in request.json["configurations"]})
    task["configurations"] = list(have.values())
    return ""


@route("sms", "GET /v3/tasks/{task_id}/consistency-result")
def consistency(cloud, request):
    task = task_of(cloud, request)
    reported = task.get("consistency")
    found = ([json.dumps(r) for r in reported] if reported is not None
             else cloud.settings["consistency"])
    return {"task_id": task["id"], "result_list": found}


@route("sms", "POST /v3/tasks/{task_id}/consistency-result")
def report_consistency(cloud, request):
    task = task_of(cloud, request)
    task["consistency"] = request.json["consistency_result"]
    source = cloud.db["sources"].get(task["source_id"])
    if source is not None:
        source["is_consistency_result_exist"] = True
    return ""


@route("sms", "POST /v3/tasks/consistency-results/export")
def export_consistency(cloud, request):
    return {"results": [{"task_id": t["task_id"],
                         "result": find_task(cloud, t["task_id"]).get("consistency", [])}
                        for t in request.json["task_info"]]}


@route("sms", "POST /v3/{task_id}/update-network-check-info")
def network_check(cloud, request):
    task_of(cloud, request)["network_check"] = request.json
    return ""


@route("sms", "POST /v3/tasks/{task_id}/unlock")
def unlock(cloud, request):
    vm = cloud.db["servers"].get(task_of(cloud, request)["target"]["vm_id"])
    if vm is None:
        fail("SMS.8114", "the target was not unlocked")
    vm["locked"] = False
    return ""
