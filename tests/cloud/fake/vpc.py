# SPDX-License-Identifier: Apache-2.0
"""VPC and EIP: networks, security groups, quotas, peerings, public addresses."""
import ipaddress

from . import seeds
from .state import Deep
from .web import ApiError, route

PRIVATE = [ipaddress.ip_network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]


def fail(code, text, status=400):
    raise ApiError(status, code, text)


def paged(request, items):
    """limit and marker, the id of the last item seen."""
    marker = request.query.get("marker")
    if marker:
        ids = [i["id"] for i in items]
        items = items[ids.index(marker) + 1:] if marker in ids else []
    limit = int(request.query.get("limit", 2000))
    return items[:limit]


def mine(cloud, request, kind):
    return [x for x in cloud.db[kind].values()
            if x["project_id"] == request.params["project_id"]]


def one(cloud, request, kind, key, code, text):
    x = cloud.db[kind].get(request.params[key])
    if x is None or x["project_id"] != request.params["project_id"]:
        fail(code, text, 404)
    return x


def clean(x):
    return {k: v for k, v in x.items() if k not in ("project_id", "polls")}


def network(text, code, what):
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return fail(code, f"{what} {text} is no range of addresses")


# -- VPCs -----------------------------------------------------------------------------------

def vpc_of(cloud, request):
    return one(cloud, request, "vpcs", "vpc_id", "VPC.0101", "the VPC does not exist")


def check_cidr(text):
    if not text:
        return
    net = network(text, "VPC.0101", "the VPC's")
    if not any(net.subnet_of(p) for p in PRIVATE) or net.prefixlen > 28:
        fail("VPC.0101", "the range of a VPC is private and /28 at the smallest")


@route("vpc", "GET /v1/{project_id}/vpcs")
def list_vpcs(cloud, request):
    wanted = request.query.get("id")
    found = [v for v in mine(cloud, request, "vpcs") if wanted in (None, "", v["id"])]
    shown = paged(request, found)
    for v in shown:
        cloud.become("vpc", v, "OK", "status")
    return {"vpcs": [clean(v) for v in shown]}


@route("vpc", "POST /v1/{project_id}/vpcs")
def create_vpc(cloud, request):
    body = request.json["vpc"]
    check_cidr(body.get("cidr"))
    have = mine(cloud, request, "vpcs")
    if body.get("name") and any(v["name"] == body["name"] for v in have):
        fail("VPC.0115", "the name is taken")
    if len(have) >= cloud.settings["vpc_quota"]:
        fail("VPC.0114", "Quota exceeded for resources: ['router'].", 409)
    made = seeds.vpc(cloud, {"name": "", "cidr": "", **body, "status": "CREATING",
                             "id": cloud.new_id("vpc"), "polls": 0,
                             "project_id": request.params["project_id"]})
    cloud.db["vpcs"][made["id"]] = made
    return {"vpc": clean(made)}


@route("vpc", "GET /v1/{project_id}/vpcs/{vpc_id}")
def show_vpc(cloud, request):
    v = vpc_of(cloud, request)
    cloud.become("vpc", v, "OK", "status")
    return {"vpc": clean(v)}


@route("vpc", "PUT /v1/{project_id}/vpcs/{vpc_id}")
def change_vpc(cloud, request):
    v = vpc_of(cloud, request)
    check_cidr(request.json["vpc"].get("cidr"))
    v.update(request.json["vpc"])
    return {"vpc": clean(v)}


@route("vpc", "DELETE /v1/{project_id}/vpcs/{vpc_id}")
def delete_vpc(cloud, request):
    v = vpc_of(cloud, request)
    if any(s["vpc_id"] == v["id"] for s in cloud.db["subnets"].values()):
        fail("VPC.0101", "the VPC has subnets", 409)
    del cloud.db["vpcs"][v["id"]]
    return 204, None


# -- subnets --------------------------------------------------------------------------------

def step(cloud, sub):
    """A new subnet becomes ACTIVE after some looks at it."""
    if sub["status"] == "UNKNOWN":
        sub["polls"] = sub.get("polls", 0) + 1
        if sub["polls"] > cloud.settings["subnet_polls"]:
            cloud.become("subnet", sub, "ACTIVE", "status")
    return clean(sub)


@route("vpc", "GET /v1/{project_id}/subnets")
def list_subnets(cloud, request):
    wanted = request.query.get("vpc_id")
    found = [s for s in mine(cloud, request, "subnets") if wanted in (None, "", s["vpc_id"])]
    return {"subnets": [step(cloud, s) for s in paged(request, found)]}


@route("vpc", "POST /v1/{project_id}/subnets")
def create_subnet(cloud, request):
    body = request.json["subnet"]
    v = cloud.db["vpcs"].get(body["vpc_id"])
    if v is None or v["project_id"] != request.params["project_id"]:
        fail("VPC.0202", "the VPC does not exist")
    if v["status"] != "OK":
        fail("VPC.0202", "the VPC is not ready")
    net = network(body["cidr"], "VPC.0203", "the subnet's")
    if net.prefixlen > 28 or (v["cidr"] and not net.subnet_of(ipaddress.ip_network(v["cidr"]))):
        fail("VPC.0203", "the subnet is outside of the VPC's range")
    gateway = network(body["gateway_ip"], "VPC.0203", "the gateway's")
    if gateway.network_address not in net:
        fail("VPC.0203", "the gateway is outside of the subnet")
    for other in cloud.db["subnets"].values():
        if other["vpc_id"] == v["id"] and net.overlaps(ipaddress.ip_network(other["cidr"])):
            fail("VPC.0204", "the subnet overlaps another one")
    sid = cloud.new_id("subnet")
    made = seeds.subnet(cloud, {**body, "id": sid, "neutron_network_id": sid, "polls": 0,
                                "status": "UNKNOWN"})
    cloud.db["subnets"][sid] = made
    return {"subnet": clean(made)}


def subnet_of(cloud, request):
    return one(cloud, request, "subnets", "subnet_id", "VPC.0202", "the subnet does not exist")


@route("vpc", "GET /v1/{project_id}/subnets/{subnet_id}")
def show_subnet(cloud, request):
    return {"subnet": step(cloud, subnet_of(cloud, request))}


@route("vpc", "PUT /v1/{project_id}/vpcs/{vpc_id}/subnets/{subnet_id}")
def change_subnet(cloud, request):
    vpc_of(cloud, request)
    sub = subnet_of(cloud, request)
    sub.update(request.json["subnet"])
    return {"subnet": {"id": sub["id"], "status": sub["status"]}}


@route("vpc", "DELETE /v1/{project_id}/vpcs/{vpc_id}/subnets/{subnet_id}")
def delete_subnet(cloud, request):
    vpc_of(cloud, request)
    sub = subnet_of(cloud, request)
    if any(s["subnet_id"] == sub["id"] for s in cloud.db["servers"].values()):
        fail("VPC.0206", "the subnet is in use", 409)
    del cloud.db["subnets"][sub["id"]]
    return 204, None


# -- security groups ------------------------------------------------------------------------

def rules_of(cloud, group_id):
    return [clean(r) for r in cloud.db["rules"].values() if r["security_group_id"] == group_id]


def shown_group(cloud, group):
    return {**clean(group), "security_group_rules": rules_of(cloud, group["id"])}


def group_of(cloud, request):
    return one(cloud, request, "groups", "security_group_id", "VPC.0603",
               "the security group does not exist")


@route("vpc", "GET /v1/{project_id}/security-groups")
def list_groups(cloud, request):
    found = mine(cloud, request, "groups")
    return {"security_groups": [shown_group(cloud, g) for g in paged(request, found)]}


@route("vpc", "POST /v1/{project_id}/security-groups")
def create_group(cloud, request):
    if len(mine(cloud, request, "groups")) >= cloud.settings["group_quota"]:
        fail("VPC.0604", "the quota of security groups is exceeded", 409)
    body = request.json["security_group"]
    made = {"description": "", "enterprise_project_id": "0", "vpc_id": None, **body,
            "id": cloud.new_id("group"), "project_id": request.params["project_id"]}
    cloud.db["groups"][made["id"]] = made
    for kind in ("IPv4", "IPv6"):
        new_rule(cloud, made["project_id"], {
            "security_group_id": made["id"], "direction": "egress", "ethertype": kind})
        new_rule(cloud, made["project_id"], {
            "security_group_id": made["id"], "direction": "ingress", "ethertype": kind,
            "remote_group_id": made["id"]})
    return {"security_group": shown_group(cloud, made)}


@route("vpc", "GET /v1/{project_id}/security-groups/{security_group_id}")
def show_group(cloud, request):
    return {"security_group": shown_group(cloud, group_of(cloud, request))}


@route("vpc", "DELETE /v1/{project_id}/security-groups/{security_group_id}")
def delete_group(cloud, request):
    group = group_of(cloud, request)
    if any(group["id"] in s["groups"] for s in cloud.db["servers"].values()):
        fail("VPC.0601", "the security group is in use", 409)
    for rid in [r["id"] for r in cloud.db["rules"].values()
                if r["security_group_id"] == group["id"]]:
        del cloud.db["rules"][rid]
    del cloud.db["groups"][group["id"]]
    return 204, None


RULE = {"ethertype": "IPv4", "protocol": None, "port_range_min": None, "port_range_max": None,
        "remote_ip_prefix": None, "remote_group_id": None, "remote_address_group_id": None,
        "description": ""}
REMOTE = ("remote_ip_prefix", "remote_group_id", "remote_address_group_id")


def new_rule(cloud, project_id, given):
    made = {**RULE, **given, "id": cloud.new_id("rule"), "project_id": project_id,
            "tenant_id": project_id}
    made["protocol"] = made["protocol"] or None
    cloud.db["rules"][made["id"]] = made
    return made


def check_rule(cloud, request, body):
    if body["security_group_id"] not in cloud.db["groups"]:
        fail("VPC.0603", "the security group does not exist", 404)
    if sum(body.get(k) is not None for k in REMOTE) > 1:
        fail("VPC.0601", "the remote side is given twice")
    low, high = body.get("port_range_min"), body.get("port_range_max")
    if (low is None) != (high is None) or (low is not None and low > high):
        fail("VPC.0601", "the range of ports is wrong")
    if low is not None and body.get("protocol") in (None, ""):
        fail("VPC.0601", "ports without a protocol")
    if body.get("protocol") in ("tcp", "udp") and low == 0:
        fail("VPC.0601", "ports begin with 1")
    if body.get("remote_ip_prefix"):
        try:
            ipaddress.ip_network(body["remote_ip_prefix"])
        except ValueError:
            fail("VPC.0601", "remote_ip_prefix is no range of addresses")


@route("vpc", "GET /v1/{project_id}/security-group-rules")
def list_rules(cloud, request):
    q = request.query
    found = [r for r in mine(cloud, request, "rules")
             if q.get("security_group_id") in (None, "", r["security_group_id"])
             and q.get("remote_ip_prefix") in (None, "", r["remote_ip_prefix"])]
    return {"security_group_rules": [clean(r) for r in paged(request, found)]}


@route("vpc", "GET /v1/{project_id}/security-group-rules/{rule_id}")
def show_rule(cloud, request):
    return {"security_group_rule": clean(one(cloud, request, "rules", "rule_id", "VPC.0603",
                                             "the rule does not exist"))}


@route("vpc", "POST /v1/{project_id}/security-group-rules")
def create_rule(cloud, request):
    body = request.json["security_group_rule"]
    check_rule(cloud, request, body)
    same = {**RULE, **body}
    for r in cloud.db["rules"].values():
        if all(r[k] == (same[k] or None) for k in ("security_group_id", "direction", "ethertype",
                                                  "protocol", "port_range_min",
                                                  "port_range_max", *REMOTE)):
            fail("VPC.0602", "Security group rule already exists.", 409)
    if len(mine(cloud, request, "rules")) >= cloud.settings["rule_quota"]:
        fail("VPC.0602", "Quota exceeded for resources: ['security_group_rule'].", 409)
    return {"security_group_rule": clean(new_rule(cloud, request.params["project_id"], body))}


@route("vpc", "DELETE /v1/{project_id}/security-group-rules/{rule_id}")
def delete_rule(cloud, request):
    rule = one(cloud, request, "rules", "rule_id", "VPC.0603", "the rule does not exist")
    del cloud.db["rules"][rule["id"]]
    return 204, None


@route("vpc", "GET /v1/{project_id}/quotas")
def quotas(cloud, request):
    used = {"vpc": ("vpcs", "vpc_quota"), "securityGroup": ("groups", "group_quota"),
            "securityGroupRule": ("rules", "rule_quota"), "publicIp": ("eips", "eip_quota")}
    rows = [{"type": t, "used": len(mine(cloud, request, kind)),
             "quota": cloud.settings[setting], "min": 0}
            for t, (kind, setting) in used.items()]
    rows.append({"type": "subnet", "used": len(mine(cloud, request, "subnets")), "quota": 100,
                 "min": 0})
    rows += [{"type": t, "used": 0, "quota": 50, "min": 0} for t in (
        "vpn", "vpngw", "vpcPeer", "firewall", "shareBandwidth", "shareBandwidthIP",
        "loadbalancer", "listener", "physicalConnect", "virtualInterface",
        "vpcContainRoutetable", "routetableContainRoutes")]
    wanted = request.query.get("type")
    return {"quotas": {"resources": [r for r in rows if wanted in (None, "", r["type"])]}}


# -- peerings and routes --------------------------------------------------------------------

@route("vpc", "GET /v2.0/vpc/peerings")
def list_peerings(cloud, request):
    q = request.query
    found = [p for p in cloud.db["peerings"].values()
             if all(q.get(k) in (None, "", p[k]) for k in ("id", "name", "status"))
             and q.get("vpc_id") in (None, "", p["request_vpc_info"]["vpc_id"],
                                     p["accept_vpc_info"]["vpc_id"])]
    return {"peerings": paged(request, found)}


@route("vpc", "POST /v2.0/vpc/peerings")
def create_peering(cloud, request):
    body = request.json["peering"]
    made = {**body, "id": cloud.new_id("peering"), "status": "ACTIVE", "description": ""}
    if body["accept_vpc_info"]["vpc_id"] not in cloud.db["vpcs"]:
        made["status"] = "PENDING_ACCEPTANCE"
    cloud.db["peerings"][made["id"]] = made
    return 201, {"peering": made}


@route("vpc", "PUT /v2.0/vpc/peerings/{peering_id}/accept")
def accept_peering(cloud, request):
    p = cloud.db["peerings"].get(request.params["peering_id"])
    if p is None:
        fail("VPC.0101", "the peering does not exist", 404)
    p["status"] = "ACTIVE"
    return p


@route("vpc", "GET /v2.0/vpc/routes")
def list_routes(cloud, request):
    q = request.query
    found = [r for r in cloud.db["routes"].values()
             if all(q.get(k) in (None, "", r[k]) for k in ("id", "type", "destination", "vpc_id"))]
    return {"routes": paged(request, found)}


@route("vpc", "POST /v2.0/vpc/routes")
def create_route(cloud, request):
    body = request.json["route"]
    if any(r["vpc_id"] == body["vpc_id"] and r["destination"] == body["destination"]
           for r in cloud.db["routes"].values()):
        fail("VPC.0608", "the route exists", 409)
    made = {**body, "id": cloud.new_id("route")}
    cloud.db["routes"][made["id"]] = made
    return 201, {"route": made}


@route("vpc", "DELETE /v2.0/vpc/routes/{route_id}")
def delete_route(cloud, request):
    if cloud.db["routes"].pop(request.params["route_id"], None) is None:
        fail("VPC.0101", "the route does not exist", 404)
    return 204, None


# -- public addresses -----------------------------------------------------------------------

POOLS = ("5_bgp", "5_sbgp")


def new_eip(cloud, project_id, pool, size, quota_code="EIP.7905"):
    if pool not in POOLS:
        fail("EIP.7904", "the type is not available in this region")
    if len(cloud.db["eips"]) >= cloud.settings["eip_quota"]:
        fail(quota_code, "the quota of EIPs is exceeded", 409 if quota_code[0] == "E" else 400)
    number = cloud.facts["counters"].get("eip", 0) + 1
    address = cloud.settings["server_addresses"].get("floating", f"127.10.2.{100 + number % 100}")
    made = seeds.eip(cloud, {"id": cloud.new_id("eip"), "public_ip_address": address, "type": pool,
                             "bandwidth_size": size, "project_id": project_id})
    cloud.db["eips"][made["id"]] = made
    return made


def bind(cloud, eip, vm):
    eip.update(port_id=vm["port_id"], private_ip_address=vm["fixed"])
    vm["eip_id"] = eip["id"]
    cloud.become("eip", eip, "ACTIVE", "status")


def server_at(cloud, port_id):
    return next((v for v in cloud.db["servers"].values() if v["port_id"] == port_id), None)


def eip_of(cloud, request):
    return one(cloud, request, "eips", "publicip_id", "VPC.0504", "the EIP does not exist")


@route("eip", "POST /v1/{project_id}/publicips")
def create_eip(cloud, request):
    width, address = request.json["bandwidth"], request.json["publicip"]
    if width["share_type"] == "PER" and not (width.get("name") and width.get("size")):
        fail("VPC.0501", "a bandwidth of its own needs name and size")
    if width["share_type"] == "WHOLE" and not width.get("id"):
        fail("VPC.0501", "a shared bandwidth needs its id")
    port = server_at(cloud, address["port_id"]) if address.get("port_id") else None
    if address.get("port_id") and port is None:
        fail("VPC.0504", "the port does not exist", 404)
    made = new_eip(cloud, request.params["project_id"], address["type"], width.get("size") or 5)
    made.update(bandwidth_name=width.get("name"), alias=address.get("alias") or "",
                bandwidth_share_type=width["share_type"])
    if port is not None:
        bind(cloud, made, port)
    else:
        made.update(status="PENDING_CREATE", polls=0)
    return {"publicip": {**{k: made[k] for k in (
        "id", "public_ip_address", "type", "bandwidth_size", "enterprise_project_id",
        "create_time", "alias")}, "status": made["status"]}}


def look(cloud, eip):
    """A new address is ready at the first look at it, or some later."""
    if eip["status"] == "PENDING_CREATE":
        eip["polls"] += 1
        if eip["polls"] > cloud.settings["eip_polls"]:
            cloud.become("eip", eip, "DOWN", "status")
    return clean(eip)


@route("eip", "GET /v1/{project_id}/publicips")
def list_eips(cloud, request):
    q = request.query
    found = [e for e in mine(cloud, request, "eips")
             if all(q.get(k) in (None, "", e[k]) for k in (
                 "id", "port_id", "public_ip_address", "private_ip_address"))]
    return {"publicips": [look(cloud, e) for e in paged(request, found)]}


@route("eip", "GET /v1/{project_id}/publicips/{publicip_id}")
def show_eip(cloud, request):
    return {"publicip": look(cloud, eip_of(cloud, request))}


@route("eip", "PUT /v1/{project_id}/publicips/{publicip_id}")
def change_eip(cloud, request):
    eip, body = eip_of(cloud, request), request.json["publicip"]
    if "alias" in body:
        eip["alias"] = body["alias"]
    if "port_id" in body or not body:
        old = server_at(cloud, eip["port_id"]) if eip["port_id"] else None
        if body.get("port_id"):
            vm = server_at(cloud, body["port_id"])
            if vm is None:
                fail("VPC.0504", "the port does not exist", 404)
            if eip["status"] != "DOWN" or vm["eip_id"]:
                fail("VPC.0508", "the EIP or the port is bound", 409)
            bind(cloud, eip, vm)
        else:
            if old is not None:
                old["eip_id"] = None
            eip.update(port_id=None, private_ip_address=None)
            cloud.become("eip", eip, "DOWN", "status")
    return {"publicip": clean(eip)}


@route("eip", "DELETE /v1/{project_id}/publicips/{publicip_id}")
def delete_eip(cloud, request):
    eip = eip_of(cloud, request)
    vm = server_at(cloud, eip["port_id"]) if eip["port_id"] else None
    if vm is not None:
        vm["eip_id"] = None
    del cloud.db["eips"][eip["id"]]
    return 204, None


@route("eip", "GET /v2/{project_id}/publicip_types")
def eip_types(cloud, request):
    return {"publicip_types": [{"id": p, "type": p} for p in POOLS]}


@route("eip", "GET /v3/{project_id}/eip/publicips")
def list_eips_v3(cloud, request):
    found = [Deep.merge({"vnic": None}, clean(e)) for e in mine(cloud, request, "eips")]
    shown = paged(request, found)
    return {"publicips": shown, "total_count": len(found),
            "page_info": {"current_count": len(shown)}, "request_id": request.id}


@route("eip", "GET /v3/{project_id}/eip/publicip-pools")
def eip_pools(cloud, request):
    pools = [{"id": p, "name": p, "type": "bgp", "status": "ACTIVE", "size": 4000, "used": 12}
             for p in POOLS]
    return {"publicip_pools": pools, "total_count": len(pools), "request_id": request.id}
