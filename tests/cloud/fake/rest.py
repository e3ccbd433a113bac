# SPDX-License-Identifier: Apache-2.0
"""IAM, DCS and SMN."""
import ipaddress
import json
import time

from .web import ApiError, route


def fail(code, text, status=400):
    raise ApiError(status, code, text)


# -- IAM ------------------------------------------------------------------------------------

@route("iam", "GET /v3/projects")
def projects(cloud, request):
    q = request.query
    found = [p for p in cloud.db["projects"].values()
             if q.get("name") in (None, "", p["name"])
             and q.get("domain_id") in (None, "", p["domain_id"])
             and ("enabled" not in q or (q["enabled"] == "true") == p["enabled"])]
    if "page" in q and "per_page" in q:
        first = (int(q["page"]) - 1) * int(q["per_page"])
        found = found[first:first + int(q["per_page"])]
    return {"projects": found, "links": {"self": "https://iam.myhuaweicloud.com/v3/projects",
                                         "next": None, "previous": None}}


# -- DCS ------------------------------------------------------------------------------------

LIVE = ("FULLMIGRATING", "MIGRATING")


def dcs_now(cloud):
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(cloud.now()))


def new_task(cloud, request, **more):
    made = {"id": cloud.new_id("dcs"), "project_id": request.params["project_id"],
            "status": "CREATED", "polls": 0, "migration_type": "online_migration",
            "migration_method": None, "resume_mode": None, "bandwidth_limit_mb": None,
            "description": "", "created_at": dcs_now(cloud), "updated_at": dcs_now(cloud),
            "released_at": None, "error_message": None, "source": {}, "target": {}, "logs": [],
            "vpc_id": None, "subnet_id": None, "security_group_id": None, **more}
    cloud.db["dcs_tasks"][made["id"]] = made
    return made


def dcs_task(cloud, request, task_id=None):
    task = cloud.db["dcs_tasks"].get(task_id or request.params["task_id"])
    if task is None or task["project_id"] != request.params["project_id"]:
        fail("DCS.4133", "the migration task does not exist", 404)
    return task


@route("dcs", "POST /v2/{project_id}/migration/instance")
def migration_instance(cloud, request):
    body = request.json
    for kind, key in (("vpcs", "vpc_id"), ("subnets", "subnet_id"),
                      ("groups", "security_group_id")):
        if body[key] not in cloud.db[kind]:
            fail("DCS.4203", f"{key} does not exist")
    return {"instance_id": new_task(cloud, request, **body)["id"]}


def check_instance(request, name, side):
    if not side.get("id") and not side.get("addrs"):
        request.note("missing", name, "neither id nor addrs", "DCS.4203", True)
        fail("DCS.4203", f"{name} has neither id nor addrs")
    for address in filter(None, (side.get("addrs") or "").split(",")):
        host, _, port = address.rpartition(":")
        try:
            ipaddress.ip_address(host)
            good = 0 < int(port) < 65536
        except ValueError:
            good = bool(host) and port.isdigit()
        if not good:
            request.note("pattern", name + ".addrs", f"{address!r} is no HOST:PORT", "DCS.4203",
                         True)
            fail("DCS.4203", f"{name}.addrs is not HOST:PORT")


@route("dcs", "POST /v2/{project_id}/migration/{task_id}/task")
def configure(cloud, request):
    task, body = dcs_task(cloud, request), request.json
    check_instance(request, "source_instance", body["source_instance"])
    check_instance(request, "target_instance", body["target_instance"])
    width = body.get("bandwidth_limit_mb")
    if width is not None and not (str(width).isdigit() and 1 <= int(width) <= 10240):
        request.note("range", "bandwidth_limit_mb", f"{width!r} is not 1-10240", "DCS.4203", True)
        fail("DCS.4203", "bandwidth_limit_mb is not 1-10240")
    if task["status"] in LIVE:
        fail("DCS.4134", "the task runs")
    task.update(migration_method=body["migration_method"], resume_mode=body["resume_mode"],
                bandwidth_limit_mb=width, source=body["source_instance"],
                target=body["target_instance"], polls=0)
    cloud.become("dcs", task, "FULLMIGRATING", "status")
    return {"id": task["id"], "name": task["name"], "status": task["status"], "error": ""}


@route("dcs", "POST /v2/{project_id}/migration-task")
def create_dcs(cloud, request):
    body = request.json
    if body["migration_type"] == "backupfile_import" and not body.get("backup_files"):
        fail("DCS.4203", "backup_files is missing")
    task = new_task(cloud, request, name=body["task_name"], source=body.get("source_instance"),
                    target=body["target_instance"], migration_type=body["migration_type"],
                    migration_method=body["migration_method"])
    cloud.become("dcs", task, "MIGRATING", "status")
    return {"id": task["id"], "name": task["name"], "status": task["status"]}


def step(cloud, task):
    """Full, then (incremental only) MIGRATING until it is stopped."""
    if task["status"] in LIVE:
        task["polls"] += 1
        if task["polls"] >= cloud.settings["dcs_polls"]:
            more = task["migration_method"] == "incremental_migration"
            cloud.become("dcs", task, "MIGRATING" if more else "SUCCESS", "status")


def shown_dcs(task):
    source, target = task["source"] or {}, task["target"] or {}
    return {
        "task_id": task["id"], "task_name": task.get("name"), "status": task["status"],
        "migration_type": task["migration_type"], "migration_method": task["migration_method"],
        "data_source": source.get("addrs") or source.get("id"),
        "source_instance_id": source.get("id"), "source_instance_name": None,
        "target_instance_id": target.get("id"), "target_instance_name": None,
        "target_instance_addrs": target.get("addrs"), "error_message": task["error_message"],
        "resume_mode": task["resume_mode"], "created_at": task["created_at"],
        "released_at": task["released_at"], "supported_features": []}


@route("dcs", "GET /v2/{project_id}/migration-tasks")
def list_dcs(cloud, request):
    found = [t for t in cloud.db["dcs_tasks"].values()
             if t["project_id"] == request.params["project_id"]
             and request.query.get("name", "") in t["name"]]
    first = int(request.query.get("offset", 0))
    limit = int(request.query.get("limit", 10))
    return {"count": len(found),
            "migration_tasks": [shown_dcs(t) for t in found[first:first + limit]]}


@route("dcs", "GET /v2/{project_id}/migration-task/{task_id}")
def show_dcs(cloud, request):
    task = dcs_task(cloud, request)
    step(cloud, task)
    return {**shown_dcs(task), "description": task["description"], "backup_files": None,
            "network_type": "vpc", "source_instance": task["source"] and {
                k: v for k, v in task["source"].items() if k != "password"},
            "target_instance": {k: v for k, v in (task["target"] or {}).items()
                                if k != "password"},
            "updated_at": task["updated_at"], "ecs_tenant_private_ip": "10.250.1.9",
            "tenant_vpc_id": task["vpc_id"], "tenant_subnet_id": task["subnet_id"],
            "tenant_security_group_id": task["security_group_id"],
            "bandwidth_limit_mb": task["bandwidth_limit_mb"]}


@route("dcs", "GET /v2/{project_id}/migration-task/{task_id}/stats")
def dcs_stats(cloud, request):
    task = dcs_task(cloud, request)
    done = min(100, 100 * task["polls"] // max(1, cloud.settings["dcs_polls"]))
    return {"full_migration_progress": str(100 if task["status"] == "SUCCESS" else done),
            "offset": "128", "source_dbsize": "1000", "target_dbsize": str(10 * done),
            "target_input_kbps": "512.00", "target_ops": "20",
            "is_migrating": task["status"] in LIVE}


@route("dcs", "GET /v2/{project_id}/migration-task/{task_id}/logs")
def dcs_logs(cloud, request):
    rows = dcs_task(cloud, request)["logs"]
    level = request.query.get("log_level")
    rows = [r for r in rows if level in (None, "", r["log_level"])]
    first = int(request.query.get("offset", 0))
    return {"log_num": len(rows),
            "migration_logs": rows[first:first + int(request.query.get("limit", 10))]}


@route("dcs", "PUT /v2/{project_id}/migration-task/{task_id}")
def change_dcs(cloud, request):
    dcs_task(cloud, request)["resume_mode"] = request.json["resume_mode"]
    return 204, None


def stop_task(cloud, task):
    if task["status"] not in LIVE:
        fail("DCS.4134", "the task does not run")
    cloud.become("dcs", task, "TERMINATED", "status")


@route("dcs", "POST /v2/{project_id}/migration-task/{task_id}/stop")
def stop_dcs(cloud, request):
    task = dcs_task(cloud, request)
    stop_task(cloud, task)
    return {"task_id": task["id"], "result": "success"}


@route("dcs", "POST /v2/{project_id}/migration-task/{task_id}/sync-stop")
def stop_increment(cloud, request):
    task = dcs_task(cloud, request)
    if task["migration_method"] != "incremental_migration" or task["status"] not in LIVE:
        fail("DCS.4134", "the task does not synchronise")
    cloud.become("dcs", task, "SUCCESS", "status")
    return {"task_id": task["id"], "result": "success"}


@route("dcs", "POST /v2/{project_id}/migration-task/batch-stop")
def stop_many(cloud, request):
    found = [dcs_task(cloud, request, t) for t in request.json["migration_tasks"]]
    for task in found:
        stop_task(cloud, task)
    return {"migration_tasks": [{"task_id": t["id"], "result": "success"} for t in found]}


@route("dcs", "POST /v2/{project_id}/migration-tasks/batch-restart")
def restart_many(cloud, request):
    found = [dcs_task(cloud, request, t) for t in request.json.get("migration_tasks") or ()]
    for task in found:
        task["polls"] = 0
        cloud.become("dcs", task, "FULLMIGRATING", "status")
    return {"migration_tasks": [{"task_id": t["id"], "result": "success"} for t in found]}


@route("dcs", "POST /v2/{project_id}/migration-task/{task_id}/exchange-ip")
def exchange(cloud, request):
    task = dcs_task(cloud, request)
    task["exchanged"] = True
    return {"task_id": task["id"], "result": "success"}


@route("dcs", "POST /v2/{project_id}/migration-task/{task_id}/rollback-ip")
def exchange_back(cloud, request):
    task = dcs_task(cloud, request)
    if not task.get("exchanged"):
        fail("DCS.4134", "the addresses were not exchanged")
    task["exchanged"] = False
    return {"task_id": task["id"], "result": "success"}


@route("dcs", "DELETE /v2/{project_id}/migration-tasks/delete")
def delete_dcs(cloud, request):
    found = [dcs_task(cloud, request, t) for t in request.json["task_id_list"]]
    if any(t["status"] in LIVE for t in found):
        fail("DCS.4134", "a task runs")
    for task in found:
        del cloud.db["dcs_tasks"][task["id"]]
    return {"task_id_list": request.json["task_id_list"]}


# -- SMN ------------------------------------------------------------------------------------

def topic_of(cloud, request):
    return (cloud.db["topics"].get(request.params["topic_urn"])
            or fail("SMN.00011005", "the topic does not exist", 404))


@route("smn", "POST /v2/{project_id}/notifications/topics")
def create_topic(cloud, request):
    pid = request.params["project_id"]
    urn = f"urn:smn:{cloud.db['projects'][pid]['name']}:{pid}:{request.json['name']}"
    known = urn in cloud.db["topics"]
    cloud.db["topics"][urn] = {"id": urn, "project_id": pid, **request.json}
    return 200 if known else 201, {"request_id": request.id, "topic_urn": urn}


@route("smn", "GET /v2/{project_id}/notifications/topics")
def list_topics(cloud, request):
    q = request.query
    found = [t for t in cloud.db["topics"].values()
             if t["project_id"] == request.params["project_id"]
             and q.get("name") in (None, "", t["name"]) and q.get("fuzzy_name", "") in t["name"]]
    first, limit = int(q.get("offset", 0)), int(q.get("limit", 100))
    return {"request_id": request.id, "topic_count": len(found), "topics": [
        {"topic_urn": t["id"], "name": t["name"], "display_name": t.get("display_name", ""),
         "push_policy": 0, "enterprise_project_id": "0"} for t in found[first:first + limit]]}


@route("smn", "DELETE /v2/{project_id}/notifications/topics/{topic_urn}")
def delete_topic(cloud, request):
    del cloud.db["topics"][topic_of(cloud, request)["id"]]
    return {"request_id": request.id}


def check_message(request, body):
    """The limits that count bytes, and the message that must be there."""
    def bad(where, text):
        request.note("length", where, text, "SMN.00011003", True)
        fail("SMN.00011003", f"{where} {text}")
    if len((body.get("subject") or "").encode()) > 512:
        bad("subject", "is longer than 512 bytes")
    if len((body.get("message") or "").encode()) > 256 << 10:
        bad("message", "is longer than 256 KiB")
    if not any(body.get(k) for k in ("message", "message_structure", "message_template_name")):
        bad("message", "there is none")
    if body.get("message_structure"):
        try:
            parts = json.loads(body["message_structure"])
        except ValueError:
            parts = None
        if not isinstance(parts, dict) or "default" not in parts:
            bad("message_structure", "is no JSON with a default")
    if body.get("message_template_name") and not isinstance(body.get("tags"), dict):
        bad("tags", "is missing for the template")
    for key, value in (body.get("tags") or {}).items():
        if len(key) > 21 or not isinstance(value, str) or len(value.encode()) > 1024:
            bad("tags." + key[:30], "is too long")
    if body.get("time_to_live") and not 1 <= int(body["time_to_live"]) <= 86400:
        bad("time_to_live", "is not 1-86400")


@route("smn", "POST /v2/{project_id}/notifications/topics/{topic_urn}/publish")
def publish(cloud, request):
    topic = topic_of(cloud, request)
    check_message(request, request.json)
    mid = cloud.new_id("message", plain=True)
    cloud.db["messages"][mid] = {"id": mid, "topic_urn": topic["id"], **request.json}
    return {"request_id": request.id, "message_id": mid}


@route("smn", "POST /v2/{project_id}/notifications/topics/{topic_urn}/subscriptions")
def subscribe(cloud, request):
    topic = topic_of(cloud, request)
    urn = f"{topic['id']}:{cloud.new_id('subscription', plain=True)}"
    cloud.db["subscriptions"][urn] = {"id": urn, "topic_urn": topic["id"], "status": 0,
                                      "project_id": topic["project_id"], **request.json}
    return 201, {"request_id": request.id, "subscription_urn": urn}


@route("smn", "GET /v2/{project_id}/notifications/subscriptions")
def list_subscriptions(cloud, request):
    found = [s for s in cloud.db["subscriptions"].values()
             if s["project_id"] == request.params["project_id"]]
    first, limit = int(request.query.get("offset", 0)), int(request.query.get("limit", 100))
    return {"request_id": request.id, "subscription_count": len(found), "subscriptions": [
        {"subscription_urn": s["id"], "topic_urn": s["topic_urn"], "protocol": s["protocol"],
         "endpoint": s["endpoint"], "status": s["status"], "owner": s["project_id"],
         "remark": s.get("remark", "")} for s in found[first:first + limit]]}


@route("smn", "DELETE /v2/{project_id}/notifications/subscriptions/{subscription_urn}")
def unsubscribe(cloud, request):
    if cloud.db["subscriptions"].pop(request.params["subscription_urn"], None) is None:
        fail("SMN.00011006", "the subscription does not exist", 404)
    return {"request_id": request.id}
