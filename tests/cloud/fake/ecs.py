# SPDX-License-Identifier: Apache-2.0
"""ECS: servers, the jobs that make and change them, flavors, console output."""
import re
import time

from . import seeds, vpc
from .state import ident
from .web import ApiError, route


def fail(code, text, status=400):
    raise ApiError(status, code, text)


# -- jobs -----------------------------------------------------------------------------------

def new_job(cloud, project_id, kind, servers, polls, **more):
    job = {"id": cloud.new_id("job", plain=True), "project_id": project_id, "type": kind,
           "servers": servers, "status": "INIT", "polls": 0, "wanted_polls": polls,
           "begin": cloud.ms(), "error_code": None, "fail_reason": None, **more}
    cloud.db["jobs"][job["id"]] = job
    return job


def stamp(ms):
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(ms / 1000))


@route("ecs", "GET /v1/{project_id}/jobs/{job_id}")
def show_job(cloud, request):
    job = cloud.db["jobs"].get(request.params["job_id"])
    if job is None or job["project_id"] != request.params["project_id"]:
        # The query's own failure comes flat, not in "error".
        return 404, {"code": "Common.0011", "message": "the job does not exist"}
    job["polls"] += 1
    if job["status"] in ("INIT", "RUNNING"):
        finish_job(cloud, job)
    servers = job["servers"]
    entities = {"server_id": servers[0]} if len(servers) == 1 and job["type"] != "createServer" \
        else {"sub_jobs_total": len(servers), "sub_jobs": [
            {"job_id": ident(job["id"], s), "job_type": job["type"] + "Single",
             "status": job["status"], "begin_time": stamp(job["begin"]), "end_time": None,
             "error_code": job["error_code"], "fail_reason": job["fail_reason"],
             "entities": {"server_id": s}} for s in servers]}
    return {"job_id": job["id"], "job_type": job["type"], "status": job["status"],
            "begin_time": stamp(job["begin"]), "error_code": job["error_code"],
            "end_time": stamp(cloud.ms()) if job["status"] in ("SUCCESS", "FAIL") else None,
            "fail_reason": job["fail_reason"], "entities": entities}


def finish_job(cloud, job):
    if job["polls"] <= job["wanted_polls"]:
        cloud.become("job", job, "RUNNING", "status")
        return
    if job.get("failure"):
        job.update(error_code=job["failure"]["error_code"],
                   fail_reason=job["failure"].get("fail_reason", "made to fail"))
        for sid in job["servers"]:
            if job["type"] == "createServer" and sid in cloud.db["servers"]:
                gone(cloud, cloud.db["servers"][sid], job)
        cloud.become("job", job, "FAIL", "status")
        return
    for sid in job["servers"]:
        vm = cloud.db["servers"].get(sid)
        if vm is not None:
            DONE[job["type"]](cloud, vm, job)
    cloud.become("job", job, "SUCCESS", "status")


def up(cloud, vm, job=None):
    cloud.become("server", vm, "ACTIVE", "status")


def off(cloud, vm, job):
    cloud.become("server", vm, "SHUTOFF", "status")


def rebooted(cloud, vm, job):
    vm["boots"] += 1
    vm["status"] = "REBOOT"
    up(cloud, vm)


def gone(cloud, vm, job):
    eip = cloud.db["eips"].get(vm["eip_id"])
    if eip is not None:
        eip.update(port_id=None, private_ip_address=None)
        cloud.become("eip", eip, "DOWN", "status")
        if job.get("delete_publicip"):
            del cloud.db["eips"][eip["id"]]
    for vid in [v["id"] for v in cloud.db["volumes"].values() if v["server_id"] == vm["id"]]:
        del cloud.db["volumes"][vid]
    del cloud.db["servers"][vm["id"]]
    cloud.happen("server.DELETED", vm)


DONE = {"createServer": up, "startServer": up, "stopServer": off, "rebootServer": rebooted,
        "deleteServer": gone}


# -- creation -------------------------------------------------------------------------------

def zone_status(flavor, zone):
    spec = flavor["os_extra_specs"]
    for entry in filter(None, spec.get("cond:operation:az", "").split(",")):
        name, _, rest = entry.strip().partition("(")
        if name == zone:
            return rest.rstrip(")")
    return spec.get("cond:operation:status", "normal")


def check_flavor(cloud, server):
    flavor = cloud.db["flavors"].get(server["flavorRef"])
    if flavor is None:
        fail("Ecs.0029", "the flavor does not exist")
    status = zone_status(flavor, server.get("availability_zone"))
    if status == "abandon":
        fail("Ecs.0019", "the flavor was withdrawn")
    if flavor["os_extra_specs"].get("ecs:instance_architecture") == "arm64":
        fail("Ecs.0005", "image and flavor are of different architectures")
    # What the list says is not always true any more when the order comes.
    if status not in ("normal", "promotion") or flavor["id"] in cloud.settings["sold_out"]:
        if cloud.settings["sold_out_in_job"]:
            return {"error_code": "Ecs.0018", "fail_reason": "the flavor is sold out"}
        fail("Ecs.0018", "the flavor is sold out")
    return None


def check_network(cloud, server, project_id):
    net = cloud.db["vpcs"].get(server["vpcid"])
    if net is None or net["project_id"] != project_id:
        fail("Ecs.0014", "the VPC does not exist")
    for nic in server["nics"]:
        sub = cloud.db["subnets"].get(nic.get("subnet_id"))
        if sub is None or sub["vpc_id"] != net["id"]:
            fail("Ecs.0014", "the subnet does not exist in the VPC")
        if sub["status"] != "ACTIVE":
            fail("Ecs.0014", "the subnet is not ACTIVE yet")
        if nic.get("ip_address") and any(v["fixed"] == nic["ip_address"]
                                         for v in cloud.db["servers"].values()):
            fail("Ecs.0010", "the private address is in use")
    for group in server.get("security_groups") or ():
        known = cloud.db["groups"].get(group["id"])
        if known is None or known["project_id"] != project_id:
            fail("Ecs.0014", "the security group does not exist")


def check_image(cloud, server):
    image = cloud.db["images"].get(server["imageRef"])
    if image is None:
        fail("Ecs.0005", "the image does not exist")
    if server["root_volume"].get("size", 40) < image["min_disk"]:
        fail("Ecs.0005", "the system disk is smaller than the image wants")


def public_address(cloud, server, project_id):
    """The EIP of the new server, or None."""
    wanted = server.get("publicip")
    if not wanted:
        return None
    if wanted.get("id"):
        eip = cloud.db["eips"].get(wanted["id"])
        if eip is None or eip["status"] != "DOWN":
            fail("Ecs.0005", "the EIP does not exist or is bound")
        return eip
    if "eip" not in wanted:
        fail("Ecs.0005", "publicip holds neither id nor eip")
    return vpc.new_eip(cloud, project_id, wanted["eip"]["iptype"],
                       wanted["eip"]["bandwidth"].get("size", 5), "Ecs.0013")


def new_server(cloud, body, project_id, number, eip):
    sid = cloud.new_id("server")
    index = cloud.facts["counters"]["server"]
    fixed = body["nics"][0].get("ip_address") or f"127.10.1.{20 + index}"
    fixed = cloud.settings["server_addresses"].get("fixed", fixed)
    vm = seeds.server(cloud, {
        "id": sid, "name": body["name"] if number == 0 else f"{body['name']}-{number:04d}",
        "project_id": project_id, "status": "BUILD", "polls": 0, "flavor_id": body["flavorRef"],
        "image_id": body["imageRef"], "vpc_id": body["vpcid"],
        "subnet_id": body["nics"][0]["subnet_id"], "fixed": fixed,
        "port_id": ident("port", sid), "key_name": body.get("key_name"),
        "groups": [g["id"] for g in body.get("security_groups") or ()]
        or [ident("group", project_id, "default")],
        "metadata": body.get("metadata") or {}, "tags": body.get("tags") or [],
        "availability_zone": body.get("availability_zone") or "la-south-2a",
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(cloud.now())),
        "disks": [body["root_volume"].get("size", 40)]
        + [v["size"] for v in body.get("data_volumes") or ()]}, index)
    cloud.db["servers"][sid] = vm
    if eip is not None:
        vpc.bind(cloud, eip, vm)
    return vm


@route("ecs", "POST /v1.1/{project_id}/cloudservers")
def create(cloud, request):
    project_id, body = request.params["project_id"], request.json["server"]
    token = request.headers.get("x-client-token")
    if token is None:
        request.note("header", "x-client-token", "a repeat would make a second server")
    elif token in cloud.facts["client_tokens"]:
        return cloud.facts["client_tokens"][token]
    later = check_flavor(cloud, body) or cloud.settings["server_fails"]
    check_network(cloud, body, project_id)
    check_image(cloud, body)
    count = body.get("count", 1)
    if len(cloud.db["servers"]) + count > cloud.settings["server_quota"]:
        fail("Ecs.0001", "the quota of servers is exceeded")
    if request.json.get("dry_run"):
        return 202, None
    eip = public_address(cloud, body, project_id)
    made = [new_server(cloud, body, project_id, i, eip if i == 0 else None)
            for i in range(count)]
    job = new_job(cloud, project_id, "createServer", [v["id"] for v in made],
                  cloud.settings["build_polls"], failure=later)
    answer = {"job_id": job["id"], "serverIds": job["servers"]}
    if token is not None:
        cloud.facts["client_tokens"][token] = answer
    return answer


# -- reading --------------------------------------------------------------------------------

def server_of(cloud, request, key="server_id"):
    vm = cloud.db["servers"].get(request.params[key])
    if vm is None or vm["project_id"] != request.params["project_id"]:
        fail("Ecs.0614", "the server does not exist", 404)
    return vm


def addresses(cloud, vm):
    found = [{"addr": vm["fixed"], "version": "4", "OS-EXT-IPS:type": "fixed",
              "OS-EXT-IPS-MAC:mac_addr": vm["mac"], "OS-EXT-IPS:port_id": vm["port_id"]}]
    eip = cloud.db["eips"].get(vm["eip_id"])
    if eip is not None:
        found.append({**found[0], "addr": eip["public_ip_address"],
                      "OS-EXT-IPS:type": "floating"})
    return {vm["vpc_id"]: found}


POWER = {"ACTIVE": (1, "active"), "SHUTOFF": (4, "stopped"), "BUILD": (0, "building")}


def shown(cloud, vm):
    flavor = cloud.db["flavors"].get(vm["flavor_id"], {"vcpus": "1", "ram": 1024, "disk": "0"})
    power, word = POWER.get(vm["status"], (0, vm["status"].lower()))
    volumes = [v for v in cloud.db["volumes"].values() if v["server_id"] == vm["id"]]
    return {
        "id": vm["id"], "name": vm["name"], "status": vm["status"], "tenant_id": vm["project_id"],
        "addresses": addresses(cloud, vm), "locked": vm["locked"], "fault": vm["fault"],
        "flavor": {"id": vm["flavor_id"], "name": vm["flavor_id"], "vcpus": flavor["vcpus"],
                   "ram": str(flavor["ram"]), "disk": flavor["disk"]},
        "image": {"id": vm["image_id"]}, "hostId": ident("host", 1).replace("-", ""),
        "created": vm["created"], "updated": vm["created"], "key_name": vm["key_name"],
        "metadata": {**vm["metadata"], "vpc_id": vm["vpc_id"], "os_type": "Linux",
                     "metering.image_id": vm["image_id"]},
        "security_groups": [{"id": g, "name": cloud.db["groups"].get(g, {}).get("name", "?")}
                            for g in vm["groups"]],
        "os-extended-volumes:volumes_attached": [
            {"id": v["id"], "device": v["device"], "bootIndex": str(v["bootIndex"]),
             "delete_on_termination": str(v["delete_on_termination"]).lower()} for v in volumes],
        "OS-EXT-AZ:availability_zone": vm["availability_zone"], "OS-EXT-STS:task_state":
            "spawning" if vm["status"] == "BUILD" else None, "OS-EXT-STS:vm_state": word,
        "OS-EXT-STS:power_state": power, "tags": vm["tags"], "enterprise_project_id": "0",
        "description": "", "accessIPv4": "", "accessIPv6": "", "progress": 0,
    }


@route("ecs", "GET /v1/{project_id}/cloudservers/{server_id}")
def show(cloud, request):
    vm = server_of(cloud, request)
    if vm["status"] == "BUILD":
        vm["polls"] += 1
        if vm["polls"] <= cloud.settings["hidden_polls"]:
            fail("Ecs.0614", "the server does not exist", 404)
        if vm["polls"] > cloud.settings["build_polls"] + cloud.settings["hidden_polls"]:
            built_without_job(cloud, vm)
    return {"server": shown(cloud, vm)}


def built_without_job(cloud, vm):
    """A client that looks at the server alone sees it finished too, if its job does not fail."""
    job = next((j for j in cloud.db["jobs"].values()
                if vm["id"] in j["servers"] and j["type"] == "createServer"), None)
    if job is not None and job.get("failure"):
        vm["fault"] = {"message": job["failure"].get("fail_reason", ""), "code": 500,
                       "created": vm["created"], "details": job["failure"]["error_code"]}
        cloud.become("server", vm, "ERROR", "status")
    else:
        up(cloud, vm)


@route("ecs", "GET /v1/{project_id}/cloudservers/detail")
def detail(cloud, request):
    q = request.query
    found = [v for v in cloud.db["servers"].values()
             if v["project_id"] == request.params["project_id"] and v["status"] != "BUILD"
             and q.get("name", "") in v["name"] and q.get("status") in (None, "", v["status"])
             and q.get("server_id") in (None, "", v["id"])
             and q.get("flavor", "") in v["flavor_id"]
             and q.get("ip", "") in v["fixed"] and q.get("ip_eq") in (None, "", v["fixed"])]
    limit, offset = int(q.get("limit", 25)), int(q.get("offset", 1))
    if q.get("marker"):
        ids = [v["id"] for v in found]
        found = found[ids.index(q["marker"]) + 1:] if q["marker"] in ids else []
        offset = 1
    # The offset is a page number here, from 1 (0 is taken for 1).
    first = (max(offset, 1) - 1) * limit
    return {"count": len(found), "servers": [shown(cloud, v) for v in found[first:first + limit]]}


@route("ecs", "GET /v1/{project_id}/cloudservers/flavors")
def flavors(cloud, request):
    zone, wanted = request.query.get("availability_zone"), request.query.get("flavor_id")
    found = [f for f in cloud.db["flavors"].values()
             if wanted in (None, "", f["id"])
             and (not zone or zone_status(f, zone) != "abandon")]
    return {"flavors": vpc.paged(request, found)}


@route("ecs", "GET /v1/{project_id}/cloudservers/limits")
def limits(cloud, request):
    mine = [v for v in cloud.db["servers"].values()
            if v["project_id"] == request.params["project_id"]]
    of = [cloud.db["flavors"].get(v["flavor_id"], {"vcpus": "1", "ram": 1024}) for v in mine]
    return {"absolute": {
        "maxTotalInstances": cloud.settings["server_quota"], "totalInstancesUsed": len(mine),
        "maxTotalCores": 800, "totalCoresUsed": sum(int(f["vcpus"]) for f in of),
        "maxTotalRAMSize": 1638400, "totalRAMUsed": sum(f["ram"] for f in of),
        "maxTotalFloatingIps": cloud.settings["eip_quota"],
        "totalFloatingIpsUsed": len(cloud.db["eips"]), "maxTotalKeypairs": 100,
        "maxServerMeta": 128, "maxImageMeta": 128, "maxPersonality": 5,
        "maxPersonalitySize": 10240, "maxSecurityGroups": cloud.settings["group_quota"],
        "maxSecurityGroupRules": 50, "maxServerGroups": 10, "maxServerGroupMembers": 16,
        "totalServerGroupsUsed": 0, "totalSecurityGroupsUsed": 1}}


@route("ecs", "GET /v1/{project_id}/cloudservers/{server_id}/block_device")
def block_devices(cloud, request):
    vm = server_of(cloud, request)
    return {"attachableQuantity": {"free_blk": 21, "free_disk": 21, "free_scsi": 21},
            "volumeAttachments": [
                {"id": v["id"], "volumeId": v["id"], "serverId": vm["id"], "device": v["device"],
                 "size": v["size"], "bootIndex": v["bootIndex"], "bus": v["bus"],
                 "pciAddress": v["pciAddress"]}
                for v in cloud.db["volumes"].values() if v["server_id"] == vm["id"]]}


# -- acting ---------------------------------------------------------------------------------

@route("ecs", "GET /v1/{project_id}/cloudservers/{server_id}/os-resetpwd-flag")
def password_flag(cloud, request):
    server_of(cloud, request)
    return {"resetpwd_flag": str(cloud.settings["password_agent"])}


@route("ecs", "PUT /v1/{project_id}/cloudservers/{server_id}/os-reset-password")
def reset_password(cloud, request):
    vm = server_of(cloud, request)
    if not cloud.settings["password_agent"]:
        fail("Ecs.0610", "the password was not reset")
    cloud.happen("server.password", vm)
    return 204, None


ACTIONS = {"reboot": ("rebootServer", ("ACTIVE", "SHUTOFF", "ERROR")),
           "os-stop": ("stopServer", ("ACTIVE", "ERROR")),
           "os-start": ("startServer", ("SHUTOFF",))}


def named_servers(cloud, request, named):
    found = []
    for s in named:
        vm = cloud.db["servers"].get(s["id"])
        if vm is None or vm["project_id"] != request.params["project_id"]:
            fail("Ecs.0614", "a server does not exist", 404)
        if vm["locked"]:
            fail("Ecs.0100", "the server is locked")
        found.append(vm)
    return found


@route("ecs", "POST /v1/{project_id}/cloudservers/action")
def act(cloud, request):
    if len(request.json) != 1:
        fail("Ecs.0005", "the body names not just one action")
    (word, what), = request.json.items()
    if word not in ACTIONS:
        fail("Ecs.0005", "there is no such action")
    kind, states = ACTIONS[word]
    found = named_servers(cloud, request, what["servers"])
    if any(vm["status"] not in states for vm in found):
        fail("Ecs.0100", "the status of a server forbids the action")
    job = new_job(cloud, request.params["project_id"], kind, [v["id"] for v in found],
                  cloud.settings["job_polls"])
    return {"job_id": job["id"]}


@route("ecs", "POST /v1/{project_id}/cloudservers/delete")
def delete(cloud, request):
    found = named_servers(cloud, request, request.json["servers"])
    job = new_job(cloud, request.params["project_id"], "deleteServer", [v["id"] for v in found],
                  cloud.settings["job_polls"],
                  delete_publicip=request.json.get("delete_publicip", False))
    return {"job_id": job["id"]}


def console(cloud, vm, lines):
    text = vm["console"] if vm["console"] is not None else cloud.settings["console"]
    return text if lines < 0 else "\n".join(text.split("\n")[-lines:])


@route("ecs", "GET /v1/{project_id}/cloudservers/{server_id}/console-output")
def console_output(cloud, request):
    return {"output": console(cloud, server_of(cloud, request),
                              int(request.query.get("length", 50)))}


@route("ecs", "POST /v2.1/{project_id}/servers/{server_id}/action")
def old_console(cloud, request):
    length = str(request.json["os-getConsoleOutput"].get("length") or 50)
    if not re.fullmatch(r"-1|\d{1,5}", length):
        fail("Ecs.0005", "length is no number of lines")
    return {"output": console(cloud, server_of(cloud, request), int(length))}
