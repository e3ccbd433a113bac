#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How things come to be, move on and go, across the services."""
import json
import os
import unittest

import bodies
from client import PROJECT, CloudTest
from fake import seeds, state

OLD = seeds.ident("old-task", 0)


class World(CloudTest):
    """Steps that several tests share."""

    def make_server(self, **more):
        body = bodies.server_body()
        body["server"].update(more)
        made = self.good("ecs", "POST", f"/v1.1/{PROJECT}/cloudservers", body,
                         x_client_token="t")
        return made["serverIds"][0], made["job_id"]

    def job(self, job_id):
        return self.good("ecs", "GET", f"/v1/{PROJECT}/jobs/{job_id}")

    def server(self, server_id):
        return self.good("ecs", "GET", f"/v1/{PROJECT}/cloudservers/{server_id}")["server"]

    def finish(self, job_id):
        for _ in range(9):
            job = self.job(job_id)
            if job["status"] in ("SUCCESS", "FAIL"):
                return job
        return self.fail("the job does not end")

    def target(self):
        server_id, job_id = self.make_server()
        self.finish(job_id)
        return server_id

    def task(self, **more):
        return self.good("sms", "POST", "/v3/tasks", bodies.task_body(self.target(), **more))["id"]

    def act(self, task_id, operation="start"):
        return self.good("sms", "POST", f"/v3/tasks/{task_id}/action", {"operation": operation})

    def poll(self, task_id):
        return self.good("sms", "GET", f"/v3/tasks/{task_id}")

    def run_to_end(self, task_id):
        seen = []
        for _ in range(30):
            seen.append(self.poll(task_id))
            if seen[-1]["state"] not in ("RUNNING", "SYNCING"):
                return seen
        return self.fail("the task does not end")


class Chain(World):
    def test_the_whole_chain(self):
        self.good("sms", "POST", "/v3/privacy-agreements")
        self.good("sms", "POST", "/v3/migprojects", bodies.PROJECT_BODY)
        found = self.good("sms", "GET", "/v3/sources?state=waiting")
        self.assertEqual([s["name"] for s in found["source_servers"]], ["web1"])
        task_id = self.task()
        self.act(task_id)
        seen = self.run_to_end(task_id)
        self.assertEqual(seen[-1]["state"], "MIGRATE_SUCCESS")
        self.assertEqual({s["state"] for s in seen[:-1]}, {"RUNNING"})
        self.assertEqual([s["name"] for s in seen[-1]["sub_tasks"]], [
            "SSL_CONFIG", "ATTACH_AGENT_IMAGE", "FORMAT_DISK_LINUX_FILE", "MIGRATE_LINUX_FILE",
            "CONFIGURE_LINUX_FILE", "DETTACH_AGENT_IMAGE"])
        self.assertIn("MIGRATE_LINUX_FILE-30", [s["subtask_info"] for s in seen])
        source = self.good("sms", "GET", f"/v3/sources/{seeds.SOURCE}")
        self.assertEqual((source["state"], source["migration_cycle"]), ("finished", "cutovered"))
        self.assertEqual(self.violations(), [])
        routes = self.control("GET", "routes").splitlines()
        self.assertEqual(routes[:4], [
            "POST /v3/privacy-agreements", "POST /v3/migprojects", "GET /v3/sources",
            "POST /v1.1/{project_id}/cloudservers"])
        self.assertEqual([r for r in routes if "tasks" in r][:3], [
            "POST /v3/tasks", "POST /v3/tasks/{task_id}/action", "GET /v3/tasks/{task_id}"])

    def test_the_same_run_has_the_same_ids(self):
        first = self.task()
        self.scenario()
        self.assertEqual(self.task(), first)


class Tasks(World):
    def test_actions_and_states(self):
        task_id = self.task()
        path = f"/v3/tasks/{task_id}/action"
        for operation, code in (("stop", "SMS.7714"), ("cutover", "SMS.7721"),
                                ("restart", "SMS.7722")):
            self.refused(code, "sms", "POST", path, {"operation": operation})
        self.act(task_id)
        self.refused("SMS.7713", "sms", "POST", path, {"operation": "start"})
        self.refused("SMS.7719", "sms", "DELETE", f"/v3/tasks/{task_id}")
        self.assertTrue(self.server(self.poll(task_id)["target_server"]["vm_id"])["locked"])
        self.act(task_id, "stop")
        self.assertEqual(self.poll(task_id)["state"], "ABORT")
        self.act(task_id)
        self.assertEqual(self.run_to_end(task_id)[-1]["state"], "MIGRATE_SUCCESS")
        self.good("sms", "DELETE", f"/v3/tasks/{task_id}")
        self.refused("SMS.7703", "sms", "GET", f"/v3/tasks/{task_id}", status=400)

    def test_continuous_sync_waits_for_the_cutover(self):
        task_id = self.task(syncing=True)
        self.act(task_id)
        for _ in range(15):
            last = self.poll(task_id)
        self.assertEqual(last["state"], "SYNCING")
        self.act(task_id, "cutover")
        self.assertEqual(self.poll(task_id)["state"], "MIGRATE_SUCCESS")

    def test_refusals_of_creation(self):
        vm = self.target()
        disk = {"name": "/dev/vda", "disk_id": "d", "size": 1 << 30}
        rows = [
            ({"source_server": {"id": "nobody"}}, "SMS.7602"),
            ({"os_type": "WINDOWS"}, "SMS.6610"),
            ({"region_id": "moon", "region_name": "moon", "project_name": "moon"}, "SMS.6034"),
            ({"target_server": {"name": "t", "vm_id": "none"}}, "SMS.8103"),
            ({"migration_ip": "203.0.113.1"}, "SMS.6602"),
            ({"migration_ip": "there"}, "SMS.6602"),
            ({"target_server": {"name": "t", "vm_id": vm, "disks": [disk]}}, "SMS.8106"),
        ]
        for change, code in rows:
            with self.subTest(change=change):
                self.refused(code, "sms", "POST", "/v3/tasks", bodies.task_body(vm, **change))
        self.good("sms", "POST", "/v3/tasks", bodies.task_body(vm))
        self.refused("SMS.7601", "sms", "POST", "/v3/tasks", bodies.task_body(vm))

    def test_addresses_of_the_target(self):
        vm = self.target()
        found, = self.server(vm)["addresses"].values()
        by = {a["OS-EXT-IPS:type"]: a["addr"] for a in found}
        self.refused("SMS.6602", "sms", "POST", "/v3/tasks",
                     bodies.task_body(vm, migration_ip=by["fixed"]))
        self.good("sms", "POST", "/v3/tasks",
                  bodies.task_body(vm, migration_ip=by["fixed"], use_public_ip=False))

    def test_disks_of_the_target(self):
        vm = self.target()
        volume = self.server(vm)["os-extended-volumes:volumes_attached"][0]["id"]
        def with_size(size):
            body = bodies.task_body(vm)
            body["target_server"]["disks"] = [{"name": "/dev/vda", "disk_id": volume,
                                               "size": size, "device_use": "BOOT"}]
            return body
        self.refused("SMS.6105", "sms", "POST", "/v3/tasks", with_size(40))
        self.assertIn("unit", [v["kind"] for v in self.violations()])
        self.refused("SMS.6614", "sms", "POST", "/v3/tasks", with_size(50 << 30))
        self.good("sms", "POST", "/v3/tasks", with_size(40 << 30))

    def test_what_stands_in_the_way_of_a_task(self):
        def gone(vm):
            self.control("DELETE", "state/servers/" + vm)

        def unbound(vm):
            self.control("PUT", "state/servers/" + vm, {"eip_id": None})

        def nothing(vm):
            pass

        rows = [({}, {}, gone, "SMS.0412"), ({}, {}, unbound, "SMS.1406"),
                ({"check_port_22": True}, {}, nothing, "SMS.3805"),
                ({"check_target_disks": True}, {"disks": [{"used_size": 1 << 40}]}, nothing,
                 "SMS.0519"),
                ({"check_target_disks": True}, {"disks": [{"used_size": 1}] * 2}, nothing,
                 "SMS.1311"),
                ({"check_target_disks": True}, {}, nothing, None)]
        for settings, source, change, code in rows:
            with self.subTest(code=code):
                self.scenario(settings=settings)
                self.control("PUT", f"state/sources/{seeds.SOURCE}", source)
                task_id = self.task()
                self.act(task_id)
                change(self.good("sms", "GET", "/v3/tasks")["tasks"][0]["target_server"]["vm_id"])
                last = self.run_to_end(task_id)[-1]
                self.assertEqual(json.loads(last["error_json"] or "{}").get("error_code"), code)

    def test_port_22_of_the_target(self):
        self.scenario(preset="strict")
        path = f"/v1/{PROJECT}/security-group"
        gid = self.good("vpc", "POST", path + "s", {"security_group": {"name": "mig"}})[
            "security_group"]["id"]
        self.good("vpc", "POST", path + "-rules", {"security_group_rule": {
            "security_group_id": gid, "direction": "ingress", "protocol": "tcp",
            "port_range_min": 20, "port_range_max": 22, "remote_ip_prefix": "198.51.100.7/32"}})
        sid, job_id = self.make_server(security_groups=[{"id": gid}])
        self.finish(job_id)
        task_id = self.good("sms", "POST", "/v3/tasks", bodies.task_body(sid))["id"]
        self.act(task_id)
        self.assertEqual(self.run_to_end(task_id)[-1]["state"], "MIGRATE_SUCCESS")

    def test_a_target_without_a_public_address(self):
        sid, job_id = self.make_server(publicip=None)
        self.finish(job_id)
        self.refused("SMS.6602", "sms", "POST", "/v3/tasks", bodies.task_body(sid))
        self.good("sms", "POST", "/v3/tasks", bodies.task_body(sid, use_public_ip=False))

    def test_what_a_task_keeps(self):
        task_id = self.task()
        path = f"/v3/tasks/{task_id}"
        self.refused("SMS.6302", "sms", "GET", path + "/speed-limit")
        limits = {"speed_limit": [{"start": "00:00", "end": "23:59", "speed": 100}]}
        self.good("sms", "POST", path + "/speed-limit", limits)
        self.assertEqual(self.good("sms", "GET", path + "/speed-limit"), limits)
        option = {"config_key": "MIGRATE_EXCLUDE_DIR", "config_value": "/a,/b"}
        self.good("sms", "POST", path + "/configuration-setting", {"configurations": [option]})
        self.assertEqual(self.good("sms", "GET", path + "/configuration-setting")[
            "configurations"], [option])
        self.good("sms", "POST", path + "/consistency-result", {"consistency_result": [
            {"dir_check": "/home", "num_total_files": 9, "num_different_files": 1,
             "num_target_miss_files": 0, "num_target_more_files": 0}]})
        found = self.good("sms", "GET", path + "/consistency-result")["result_list"]
        self.assertEqual(json.loads(found[0])["num_different_files"], 1)
        self.good("sms", "PUT", path + "/progress", {
            "subtask_name": "SSL_CONFIG", "progress": 40, "replicatesize": 1, "totalsize": 2,
            "process_trace": ""})
        self.assertEqual(self.poll(task_id)["sub_tasks"][0]["progress"], 40)


class Sources(World):
    def test_registration_is_judged(self):
        rows = [({}, "waiting", None), ({"has_rsync": False}, "unavailable", "SMS.6517"),
                ({"os_version": "PLAN9_4_64BIT"}, "unavailable", "SMS.6504"),
                ({"boot_loader": "LILO"}, "unavailable", "SMS.6516"),
                ({"paravirtualization": True}, "unavailable", "SMS.6515"),
                ({"raw_devices": "/dev/raw1"}, "unavailable", "SMS.6518")]
        for change, word, code in rows:
            with self.subTest(change=change):
                self.scenario()
                sid = self.good("sms", "POST", "/v3/sources",
                                {**bodies.SOURCE_BODY, **change})["id"]
                found = self.good("sms", "GET", f"/v3/sources/{sid}")
                self.assertEqual(found["state"], word)
                self.assertEqual([c["error_code"] for c in found["checks"]
                                  if c["result"] == "ERROR"], [code] if code else [])

    def test_registering_again(self):
        sid = self.good("sms", "POST", "/v3/sources", bodies.SOURCE_BODY)["id"]
        again = self.good("sms", "POST", "/v3/sources",
                          {**bodies.SOURCE_BODY, "id": sid, "cpu_quantity": 8})["id"]
        self.assertEqual(again, sid)
        self.assertEqual(self.good("sms", "GET", f"/v3/sources/{sid}")["cpu_quantity"], 8)
        self.good("sms", "DELETE", f"/v3/sources/{sid}")
        self.refused("SMS.7602", "sms", "POST", "/v3/sources", {**bodies.SOURCE_BODY, "id": sid})

    def test_commands_follow_the_task(self):
        path = f"/v3/sources/{seeds.SOURCE}/command"
        self.assertEqual(self.good("sms", "GET", path)["command_name"], "TASK_NOT_STARTED")
        task_id = self.task()
        self.act(task_id)
        order = self.good("sms", "GET", path)
        self.assertEqual(order, {"command_name": "START",
                                 "command_param": {"task_id": task_id, "bucket": ""}})
        answer = {"command_name": "STOP", "result": "success", "result_detail": {}}
        self.refused("SMS.6021", "sms", "POST", path + "_result", answer)
        self.good("sms", "POST", path + "_result", {**answer, "command_name": "START"})

    def test_a_lost_agent(self):
        self.control("PUT", f"state/sources/{seeds.SOURCE}", {"connected": False})
        vm = self.target()
        self.refused("SMS.6603", "sms", "POST", "/v3/tasks", bodies.task_body(vm))

    def test_paging(self):
        self.scenario(preset=["many-sources"])
        first = self.good("sms", "GET", "/v3/sources")
        self.assertEqual((first["count"], len(first["source_servers"])), (300, 200))
        rest = self.good("sms", "GET", "/v3/sources?limit=200&offset=200")["source_servers"]
        self.assertEqual((len(rest), rest[-1]["name"]), (100, "web1"))
        self.assertEqual(self.good("sms", "GET", "/v3/sources?name=web1")["count"], 1)

    def test_projects(self):
        self.scenario(preset=["sms-8115"])
        self.refused("SMS.8115", "sms", "POST", "/v3/migprojects", bodies.PROJECT_BODY)
        found = self.good("sms", "GET", "/v3/migprojects?limit=100")
        self.assertEqual((found["count"], len(found["migprojects"])), (50, 50))
        ids = {p["name"]: p["id"] for p in found["migprojects"]}
        self.refused("SMS.7303", "sms", "DELETE", f"/v3/migprojects/{ids['default']}")
        self.good("sms", "DELETE", f"/v3/migprojects/{ids['mgc000']}")
        self.good("sms", "POST", "/v3/migprojects", bodies.PROJECT_BODY)
        self.refused("SMS.7312", "sms", "POST", "/v3/migprojects", bodies.PROJECT_BODY)


class Servers(World):
    def test_a_server_is_built(self):
        sid, job_id = self.make_server()
        path = f"/v1/{PROJECT}/cloudservers/{sid}"
        self.refused("Ecs.0614", "ecs", "GET", path, status=404)
        self.assertEqual(self.server(sid)["status"], "BUILD")
        self.assertEqual(self.job(job_id)["status"], "RUNNING")
        job = self.finish(job_id)
        self.assertEqual(job["entities"]["sub_jobs"][0]["entities"]["server_id"], sid)
        vm = self.server(sid)
        self.assertEqual(vm["status"], "ACTIVE")
        self.assertEqual({a["OS-EXT-IPS:type"] for a in next(iter(vm["addresses"].values()))},
                         {"fixed", "floating"})
        listed = self.good("ecs", "GET", f"/v1/{PROJECT}/cloudservers/detail?limit=10&offset=1")
        self.assertEqual([v["id"] for v in listed["servers"]], [sid])

    def test_a_repeat_with_the_token_makes_one(self):
        first = self.make_server()
        self.assertEqual(self.make_server(), first)
        self.assertEqual(len(self.control("GET", "state/servers")), 1)

    def test_refusals(self):
        rows = [({"flavorRef": "c6.large.2"}, "Ecs.0018"), ({"flavorRef": "none"}, "Ecs.0029"),
                ({"flavorRef": "t1.old"}, "Ecs.0019"), ({"vpcid": "none"}, "Ecs.0014"),
                ({"imageRef": "none"}, "Ecs.0005"),
                ({"flavorRef": "s6.xlarge.2", "availability_zone": "la-south-2b"}, "Ecs.0018"),
                ({"publicip": {"eip": {"iptype": "5_moon", "bandwidth": {"sharetype": "PER"}}}},
                 "EIP.7904")]
        for change, code in rows:
            with self.subTest(change=change):
                body = bodies.server_body()
                body["server"].update(change)
                self.refused(code, "ecs", "POST", f"/v1.1/{PROJECT}/cloudservers", body)
        self.make_server(flavorRef="s6.xlarge.2", availability_zone="la-south-2a")

    def test_a_job_that_fails(self):
        self.scenario(settings={"server_fails": {"error_code": "Ecs.0319", "fail_reason": "full"}})
        sid, job_id = self.make_server()
        job = self.finish(job_id)
        self.assertEqual((job["status"], job["error_code"]), ("FAIL", "Ecs.0319"))
        self.assertEqual(self.control("GET", "state/volumes"), {})
        self.assertEqual([e["status"] for e in self.control("GET", "state/eips").values()],
                         ["DOWN"])
        self.refused("Ecs.0614", "ecs", "GET", f"/v1/{PROJECT}/cloudservers/{sid}")

    def test_a_flavor_that_sells_out(self):
        self.scenario(preset="sold-out")
        self.refused("Ecs.0018", "ecs", "POST", f"/v1.1/{PROJECT}/cloudservers",
                     bodies.server_body(), x_client_token="t")
        self.make_server(flavorRef="s6.xlarge.2")
        self.scenario(preset="sold-out-job")
        self.assertEqual(self.finish(self.make_server()[1])["error_code"], "Ecs.0018")

    def test_actions(self):
        sid = self.target()
        named = {"servers": [{"id": sid}]}
        path = f"/v1/{PROJECT}/cloudservers/action"
        self.refused("Ecs.0100", "ecs", "POST", path, {"os-start": named})
        job = self.good("ecs", "POST", path, {"os-stop": {"type": "SOFT", **named}})["job_id"]
        self.finish(job)
        self.assertEqual(self.server(sid)["status"], "SHUTOFF")
        self.finish(self.good("ecs", "POST", path, {"os-start": named})["job_id"])
        self.assertEqual(self.server(sid)["status"], "ACTIVE")
        self.assertIn("login", self.good(
            "ecs", "GET", f"/v1/{PROJECT}/cloudservers/{sid}/console-output?length=5")["output"])
        self.finish(self.good("ecs", "POST", f"/v1/{PROJECT}/cloudservers/delete",
                              {**named, "delete_publicip": True})["job_id"])
        self.assertEqual(self.control("GET", "state/eips"), {})


class Networks(World):
    def test_a_network_from_nothing(self):
        self.scenario(preset="no-network")
        path = f"/v1/{PROJECT}"
        vpc = self.good("vpc", "POST", path + "/vpcs", {"vpc": {
            "name": "vpc-migration", "cidr": "10.250.0.0/16"}})["vpc"]["id"]
        self.refused("VPC.0115", "vpc", "POST", path + "/vpcs", {"vpc": {
            "name": "vpc-migration", "cidr": "10.251.0.0/16"}})
        subnet = {"name": "s", "cidr": "10.250.1.0/24", "gateway_ip": "10.250.1.1", "vpc_id": vpc}
        self.refused("VPC.0202", "vpc", "POST", path + "/subnets", {"subnet": subnet})
        self.good("vpc", "GET", path + "/vpcs")
        sid = self.good("vpc", "POST", path + "/subnets", {"subnet": subnet})["subnet"]["id"]
        self.refused("VPC.0204", "vpc", "POST", path + "/subnets", {"subnet": subnet})
        self.refused("VPC.0203", "vpc", "POST", path + "/subnets", {"subnet": {
            **subnet, "cidr": "10.1.0.0/24", "gateway_ip": "10.1.0.1"}})
        words = [self.good("vpc", "GET", f"{path}/subnets/{sid}")["subnet"]["status"]
                 for _ in range(3)]
        self.assertEqual((words[0], words[-1]), ("UNKNOWN", "ACTIVE"))

    def test_quotas(self):
        self.scenario(preset="vpc-0114")
        self.refused("VPC.0114", "vpc", "POST", f"/v1/{PROJECT}/vpcs",
                     {"vpc": {"name": "vpc-migration", "cidr": "10.250.0.0/16"}}, status=409)
        row, = self.good("vpc", "GET", f"/v1/{PROJECT}/quotas?type=vpc")["quotas"]["resources"]
        self.assertEqual((row["used"], row["quota"]), (2, 2))

    def test_rules_of_a_group(self):
        path = f"/v1/{PROJECT}/security-group"
        gid = self.good("vpc", "POST", path + "s", {"security_group": {"name": "mig"}})[
            "security_group"]["id"]
        rule = {"security_group_rule": {
            "security_group_id": gid, "direction": "ingress", "protocol": "tcp",
            "port_range_min": 22, "port_range_max": 22, "remote_ip_prefix": "198.51.100.7/32"}}
        self.good("vpc", "POST", path + "-rules", rule)
        self.refused("VPC.0602", "vpc", "POST", path + "-rules", rule, status=409)
        found = self.good("vpc", "GET", f"{path}-rules?security_group_id={gid}&limit=2")
        marker = found["security_group_rules"][-1]["id"]
        rest = self.good("vpc", "GET", f"{path}-rules?security_group_id={gid}&marker={marker}")
        self.assertEqual((len(found["security_group_rules"]),
                          len(rest["security_group_rules"])), (2, 3))

    def test_a_public_address_is_bound(self):
        sid, job_id = self.make_server(publicip=None)
        self.finish(job_id)
        port = next(iter(self.server(sid)["addresses"].values()))[0]["OS-EXT-IPS:port_id"]
        eip = self.good("eip", "POST", f"/v1/{PROJECT}/publicips", {
            "publicip": {"type": "5_bgp"},
            "bandwidth": {"share_type": "PER", "name": "b", "size": 5}})["publicip"]
        self.assertEqual(eip["status"], "PENDING_CREATE")
        eip = eip["id"]
        path = f"/v1/{PROJECT}/publicips/{eip}"
        self.assertEqual(self.good("eip", "GET", path)["publicip"]["status"], "DOWN")
        self.good("eip", "PUT", path, {"publicip": {"port_id": port}})
        self.assertEqual(self.good("eip", "GET", path)["publicip"]["status"], "ACTIVE")
        self.assertEqual(len(next(iter(self.server(sid)["addresses"].values()))), 2)
        self.good("eip", "PUT", path, {"publicip": {"port_id": None}})
        self.good("eip", "DELETE", path)
        self.good("vpc", "GET", f"/v1/{PROJECT}/publicips")
        self.refused("APIGW.0101", "eip", "GET", f"/v1/{PROJECT}/vpcs")
        self.refused("EIP.7904", "eip", "POST", f"/v1/{PROJECT}/publicips", {
            "publicip": {"type": "5_moon"},
            "bandwidth": {"share_type": "PER", "name": "b", "size": 5}})


class Rest(World):
    def test_projects_of_iam(self):
        found = self.good("iam", "GET", "/v3/projects?name=la-south-2")["projects"]
        self.assertEqual([(p["id"], p["domain_id"]) for p in found], [(PROJECT, seeds.DOMAIN)])

    def test_an_online_task_of_dcs(self):
        vpc = state.ident("vpc", "la-south-2", "vpc-migration")
        base = f"/v2/{PROJECT}/migration"
        task = self.good("dcs", "POST", base + "/instance", {
            "name": "redis", "vpc_id": vpc,
            "subnet_id": state.ident("subnet", vpc, "subnet-migration"),
            "security_group_id": state.ident("group", PROJECT, "default")})["instance_id"]
        body = {"migration_method": "incremental_migration", "resume_mode": "auto",
                "bandwidth_limit_mb": "100", "source_instance": {"addrs": "10.0.0.1:6379"},
                "target_instance": {"id": "cf4a"}}
        for change in ({"bandwidth_limit_mb": "10241"}, {"bandwidth_limit_mb": "0"},
                       {"source_instance": {}}, {"source_instance": {"addrs": "10.0.0.1"}}):
            self.refused("DCS.4203", "dcs", "POST", f"{base}/{task}/task", {**body, **change})
        started = self.good("dcs", "POST", f"{base}/{task}/task", body)
        self.assertEqual(started["status"], "FULLMIGRATING")
        words = [self.good("dcs", "GET", f"{base}-task/{task}")["status"] for _ in range(4)]
        self.assertEqual((words[0], words[-1]), ("FULLMIGRATING", "MIGRATING"))
        self.good("dcs", "POST", f"{base}-task/{task}/stop")
        self.assertEqual(self.good("dcs", "GET", f"{base}-task/{task}")["status"], "TERMINATED")


class Presets(World):
    def create(self, **more):
        return self.call("sms", "POST", "/v3/tasks", bodies.task_body(self.vm, **more))

    def begin(self, preset):
        self.scenario(preset=preset)
        self.vm = self.target()

    def test_rows_of_creation(self):
        rows = [("sms-6504", {}, "SMS.6520", None),
                ("sms-6617", {"type": "MIGRATE_BLOCK"}, "SMS.6617", {}),
                ("sms-6617-persistent", {}, "SMS.6617", None),
                ("sms-6602", {}, "SMS.6602", {"use_public_ip": False}),
                ("sms-6603", {}, "SMS.6603", None)]
        for preset, first, code, second in rows:
            with self.subTest(preset):
                self.begin(preset)
                reply = self.create(**first)
                self.assertEqual(reply.code, code)
                if second is not None:
                    self.assertEqual(self.create(**second).status, 200)

    def test_residue(self):
        for preset, left in (("sms-7605", ["MIGRATE_FAIL"]),
                             ("sms-7605-persistent", ["MIGRATE_SUCCESS", "MIGRATE_FAIL",
                                                      "MIGRATE_SUCCESS"])):
            with self.subTest(preset):
                self.begin(preset)
                self.assertEqual(self.create().code, "SMS.7605")
                found = self.good("sms", "GET", f"/v3/tasks?source_server_id={seeds.SOURCE}")
                self.assertEqual([t["state"] for t in found["tasks"]], left)
                for t in found["tasks"]:
                    self.assertEqual(self.create().code, "SMS.7605")
                    self.good("sms", "DELETE", f"/v3/tasks/{t['id']}")
                self.assertEqual(self.create().status, 200)

    def test_a_stale_id(self):
        self.scenario(preset="sms-7703")
        task_id = self.task()
        self.act(task_id)
        self.poll(task_id)
        self.poll(task_id)
        self.refused("SMS.7703", "sms", "GET", f"/v3/tasks/{task_id}")
        found, = self.good("sms", "GET", f"/v3/tasks?source_server_id={seeds.SOURCE}")["tasks"]
        self.assertNotEqual(found["id"], task_id)
        self.assertEqual(self.run_to_end(found["id"])[-1]["state"], "MIGRATE_SUCCESS")

    def test_failures_within_a_task(self):
        self.begin("sms-1404")
        body = bodies.task_body(self.vm)
        volume = self.server(self.vm)["os-extended-volumes:volumes_attached"][0]["id"]
        body["target_server"]["disks"] = [{"name": "/dev/vda", "disk_id": volume,
                                           "size": 40 << 30}]
        task_id = self.good("sms", "POST", "/v3/tasks", body)["id"]
        self.act(task_id)
        last = self.run_to_end(task_id)[-1]
        self.assertEqual(last["state"], "MIGRATE_FAIL")
        error = json.loads(last["error_json"])
        self.assertEqual(error["error_code"], "SMS.1404")
        self.assertEqual(json.loads(error["error_param"]), ["available", "IN-USE"])
        self.good("sms", "DELETE", f"/v3/tasks/{task_id}")
        task_id = self.create().json["id"]
        self.act(task_id)
        self.assertEqual(self.run_to_end(task_id)[-1]["state"], "MIGRATE_SUCCESS")

    def test_changed_disks(self):
        self.begin("sms-0515")
        task_id = self.create().json["id"]
        path = f"/v3/tasks/{task_id}/action"
        self.refused("SMS.0515", "sms", "POST", path, {"operation": "start"})
        self.good("sms", "POST", "/v3/sources", {**bodies.SOURCE_BODY, "id": seeds.SOURCE})
        self.act(task_id)

    def test_every_preset_can_be_begun_with(self):
        names = [f[:-5] for f in os.listdir(state.PRESETS)]
        self.assertGreater(len(names), 30)
        for name in names:
            with self.subTest(name):
                self.scenario(preset=name)
                self.good("sms", "GET", "/v3/config")

    def test_a_temporary_key(self):
        self.scenario(preset="temporary-key")
        self.good("sms", "GET", "/v3/sources", ak="TEMPAK", sk="TEMPSK",
                  x_security_token="TEMPTOKEN", x_domain_id=seeds.DOMAIN)

    def test_a_lost_record(self):
        self.scenario(preset="sms-7602")
        self.refused("SMS.7602", "sms", "GET", f"/v3/sources/{seeds.SOURCE}")
        sid = self.good("sms", "POST", "/v3/sources",
                        {**bodies.SOURCE_BODY, "boot_loader": "LILO"})["id"]
        # This preset is about the record, not about the machine that runs the test.
        self.assertEqual(self.good("sms", "GET", f"/v3/sources/{sid}")["state"], "waiting")

    def test_progress_that_says_nothing(self):
        for preset, value in (("progress-null", None), ("progress-absurd", 7200)):
            self.scenario(preset=preset)
            task_id = self.task()
            self.act(task_id)
            self.assertEqual(self.poll(task_id)["sub_tasks"][0]["progress"], value)
            self.assertEqual(self.run_to_end(task_id)[-1]["state"], "MIGRATE_SUCCESS")


if __name__ == "__main__":
    unittest.main()
