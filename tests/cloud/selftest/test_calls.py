#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the cloud takes and what it refuses: signatures, fields, scopes."""
import copy
import json
import os
import random
import unittest

import bodies
from client import PROJECT, CloudTest, now, segment
from fake import fields, schema, seeds, sign

HERE = os.path.dirname(os.path.abspath(__file__))


class Signatures(CloudTest):
    def test_known_answers(self):
        with open(os.path.join(HERE, "vectors.json"), encoding="utf-8") as f:
            vectors = json.load(f)
        self.assertGreater(len(vectors), 15)
        for v in vectors:
            with self.subTest(v["name"]):
                path, _, query = v["target"].partition("?")
                headers = {k.lower(): x for k, x in v["headers"].items()}
                signed = v["signed"].split(";")
                body = v["body"].encode()
                # In whatever order the query came.
                for sent in (query, "&".join(reversed(query.split("&")))):
                    canonical = sign.canonical_request(v["method"], path, sent, headers, signed,
                                                       sign.payload_hash(headers, body))
                    self.assertEqual(sign.sign(v["sk"], headers["x-sdk-date"], canonical),
                                     v["signature"])

    def test_a_signed_call_passes(self):
        self.assertEqual(self.good("sms", "GET", "/v3/privacy-agreements"), {"flag": False})
        self.assertEqual(self.violations(), [])

    def test_odd_characters_in_path_and_query(self):
        self.good("sms", "GET", "/v3/sources?name=a%20b%2Bc&state=waiting&id=")
        urn = f"urn:smn:la-south-2:{PROJECT}:alarm"
        self.good("smn", "POST", f"/v2/{PROJECT}/notifications/topics", {"name": "alarm"})
        self.good("smn", "POST", f"/v2/{PROJECT}/notifications/topics/{segment(urn)}/publish",
                  {"message": "done", "subject": "migration"})
        self.assertEqual(self.violations(), [])

    def test_refusals(self):
        rows = [
            ("wrong key", {"sk": "x" * 40}, "canonicalRequest:GET|/v3/sources/|"),
            ("unknown key", {"ak": "NOBODY"}, "does not exist"),
            ("old date", {"offset": -16 * 60}, "signature time:"),
            ("future date", {"offset": 16 * 60}, "server time:"),
            ("no signature", {"authorization": ""}, "malformed"),
            ("other algorithm", {"authorization": "AWS4-HMAC-SHA256 x"}, "malformed"),
            ("token without use", {"x_security_token": "abc"}, "token"),
        ]
        for name, how, text in rows:
            with self.subTest(name):
                reply = self.refused("APIGW.0301", "sms", "GET", "/v3/sources", status=401, **how)
                self.assertIn(text, reply.json["error_msg"])
                self.assertIn("request_id", reply.json)

    def test_a_date_within_bounds_passes(self):
        self.good("sms", "GET", "/v3/sources", offset=-14 * 60)

    def test_the_clock_of_the_cloud_counts(self):
        self.scenario(settings={"clock_offset_s": 7200})
        self.refused("APIGW.0301", "sms", "GET", "/v3/sources")
        self.good("sms", "GET", "/v3/sources", offset=7200)

    def test_temporary_credentials(self):
        key = {"id": "TEMP", "sk": "s", "security_token": "tok", "domain_id": seeds.DOMAIN}
        self.scenario(seed={"credentials": [key, {**key, "id": "OLD", "expires_at": 1}]})
        self.good("sms", "GET", "/v3/sources", ak="TEMP", sk="s", x_security_token="tok")
        for ak, token in (("TEMP", None), ("TEMP", "other"), ("OLD", "tok")):
            self.refused("APIGW.0301", "sms", "GET", "/v3/sources", ak=ak, sk="s",
                         x_security_token=token)

    def test_a_token_in_place_of_a_signature(self):
        self.scenario(seed={"tokens": [{"id": "tok", "domain_id": seeds.DOMAIN}]})
        self.good("sms", "GET", "/v3/sources", x_auth_token="tok")
        self.refused("APIGW.0301", "sms", "GET", "/v3/sources", x_auth_token="stale")

    def test_a_weak_signature_is_noted(self):
        self.good("ecs", "GET", f"/v1/{PROJECT}/cloudservers/detail", unsigned=("x-project-id",))
        self.assertEqual([v["kind"] for v in self.violations()], ["signature"])

    def by_hand(self, covers, body=b"{}", sent=b"{}"):
        """A call whose signature covers these headers and body, but that sends another body."""
        port = self.cloud.ports["sms"]
        headers = {"host": f"127.0.0.1:{port}", "x-sdk-date": now()}
        signed = {k: v for k, v in headers.items() if k in covers}
        canonical = sign.canonical_request("POST", "/v3/privacy-agreements", "", signed,
                                           sorted(signed), sign.payload_hash({}, body))
        value = (f"{sign.ALGORITHM} Access={seeds.AK}, SignedHeaders={';'.join(sorted(signed))}, "
                 f"Signature={sign.sign(seeds.SK, headers['x-sdk-date'], canonical)}")
        return self.call("sms", "POST", "/v3/privacy-agreements", sent, authorization=value,
                         x_sdk_date=headers["x-sdk-date"])

    def test_the_signature_covers_date_and_body(self):
        self.assertEqual(self.by_hand(("host", "x-sdk-date")).status, 200)
        self.assertEqual(self.by_hand(("host",)).status, 401)
        self.assertEqual(self.by_hand(("host", "x-sdk-date"), sent=b"").status, 401)


class Scopes(CloudTest):
    def test_the_project_of_the_path(self):
        path = f"/v1/{PROJECT}/vpcs"
        self.good("vpc", "GET", path)
        self.good("vpc", "GET", "/la-south-2" + path)
        self.good("ecs", "GET", f"/v1/{PROJECT}/cloudservers/limits", port=self.cloud.ports["any"])
        self.assertEqual(self.violations(), [])
        other = seeds.hexid("project", "la-north-2")
        self.refused("APIGW.0302", "vpc", "GET", path, x_project_id=other, status=403)
        self.refused("APIGW.0302", "vpc", "GET", "/la-north-2" + path, status=403)
        self.refused("APIGW.0302", "vpc", "GET", "/v1/" + "0" * 32 + "/vpcs", status=403)

    def test_a_missing_project_is_noted(self):
        self.good("vpc", "GET", f"/v1/{PROJECT}/vpcs", x_project_id=None)
        self.assertEqual([v["kind"] for v in self.violations()], ["scope"])

    def test_a_service_may_insist(self):
        self.scenario(settings={"scope": {"sms": "domain"}})
        self.refused("APIGW.0302", "sms", "GET", "/v3/sources", x_project_id=PROJECT)
        self.good("sms", "GET", "/v3/sources", x_domain_id=seeds.DOMAIN)

    def test_calls_of_other_services_are_none(self):
        self.refused("APIGW.0101", "sms", "GET", f"/v1/{PROJECT}/vpcs", status=404)
        self.refused("APIGW.0101", "sms", "GET", "/v3/nothing/of/this", status=404)
        self.assertEqual([v["kind"] for v in self.violations()], ["endpoint"] * 2)


def spoil(body, path, value):
    spoiled = copy.deepcopy(body)
    at = spoiled
    for key in path[:-1]:
        at = at[key]
    if value is spoil:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return spoiled


def everywhere(body, path=()):
    """Every path in body."""
    for key, value in body.items() if isinstance(body, dict) else enumerate(body):
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from everywhere(value, (*path, key))


def required(kind, body, path=()):
    """(path, code) of every required field that body has, at any depth."""
    if kind.fields is not None:
        for key, below in kind.fields.items():
            name, mark = schema.split_key(key)
            if name not in body:
                continue
            if mark == "!":
                yield (*path, name), below.missing or (
                    below.code if isinstance(below.code, str) else None)
            yield from required(below, body[name], (*path, name))
    elif kind.items is not None:
        for i, item in enumerate(body):
            yield from required(kind.items, item, (*path, i))


class Fields(CloudTest):
    def good_calls(self):
        disk = {"disks": bodies.SOURCE_BODY["disks"], "volumegroups": [], "btrfs_list": []}
        task = bodies.task_body("none")
        task["target_server"]["disks"] = [{"name": "/dev/vda", "disk_id": "d", "size": 1 << 30,
                                           "device_use": "OS"}]
        yield "sms", "POST", "/v3/migprojects", bodies.PROJECT_BODY
        yield "sms", "POST", "/v3/sources", bodies.SOURCE_BODY
        yield "sms", "PUT", f"/v3/sources/{seeds.SOURCE}/diskinfo", disk
        yield "sms", "PUT", f"/v3/sources/{seeds.SOURCE}/changestate", {
            "copystate": "WAITING", "migrationcycle": "setting"}
        yield "sms", "POST", f"/v3/sources/{seeds.SOURCE}/command_result", {
            "command_name": "START", "result": "success", "result_detail": {}}
        yield "sms", "POST", "/v3/tasks", task
        yield "sms", "POST", "/v3/tasks/t/action", {"operation": "start"}
        yield "sms", "PUT", "/v3/tasks/t/progress", {
            "subtask_name": "SSL_CONFIG", "progress": 1, "replicatesize": 1, "totalsize": 2,
            "process_trace": ""}
        yield "sms", "POST", "/v3/tasks/t/speed-limit", {"speed_limit": [
            {"start": "00:00", "end": "23:59", "speed": 10}]}
        yield "sms", "POST", "/v3/tasks/t/consistency-result", {"consistency_result": [
            {"dir_check": "/home", "num_total_files": 1, "num_different_files": 0,
             "num_target_miss_files": 0, "num_target_more_files": 0}]}
        yield "sms", "POST", "/v3/t/update-network-check-info", {
            "network_delay": 1, "network_jitter": 1, "migration_speed": 1, "loss_percentage": 0,
            "cpu_usage": 1, "mem_usage": 1, "evaluation_result": "SUCCESS"}
        yield "ecs", "POST", f"/v1.1/{PROJECT}/cloudservers", bodies.server_body()
        yield "vpc", "POST", f"/v1/{PROJECT}/subnets", {"subnet": {
            "name": "s", "cidr": "10.250.2.0/24", "gateway_ip": "10.250.2.1", "vpc_id": "v"}}
        yield "vpc", "POST", f"/v1/{PROJECT}/security-group-rules", {"security_group_rule": {
            "security_group_id": "g", "direction": "ingress", "protocol": "tcp",
            "port_range_min": 22, "port_range_max": 22}}
        yield "eip", "POST", f"/v1/{PROJECT}/publicips", {
            "publicip": {"type": "5_bgp"}, "bandwidth": {"share_type": "PER", "name": "b",
                                                         "size": 5}}
        yield "dcs", "POST", f"/v2/{PROJECT}/migration/x/task", {
            "migration_method": "full_amount_migration", "resume_mode": "auto",
            "source_instance": {"addrs": "10.0.0.1:6379"}, "target_instance": {"id": "i"}}

    def noted(self):
        found = self.violations()
        self.control("DELETE", "log")
        return found

    def table(self, service, method, path):
        from fake import web
        return web.find_route(service, method, path)[0].table

    def test_every_required_field_is_missed(self):
        import fake.ecs, fake.rest, fake.sms, fake.tasks, fake.vpc  # noqa: E401,F401
        missed = 0
        for service, method, path, body in self.good_calls():
            codes = fields.CODES[service]
            self.call(service, method, path, body, x_client_token="t")
            self.assertEqual(self.noted(), [], path)
            for where, code in required(self.table(service, method, path).body, body):
                with self.subTest(path=path, field=where):
                    self.refused(code or codes.missing, service, method, path,
                                 spoil(body, where, spoil), status=400, x_client_token="t")
                    found = self.noted()
                    self.assertEqual([v["kind"] for v in found], ["missing"])
                    missed += 1
        self.assertGreater(missed, 70)

    def test_wrong_values(self):
        rows = [
            ("POST", "/v3/migprojects", bodies.PROJECT_BODY, [
                (("name",), "x" * 21, "length", "SMS.6011"),
                (("name",), "has blank", "pattern", "SMS.6011"),
                (("type",), "MIGRATE_ALL", "enum", "SMS.6011"),
                (("speed_limit",), 10001, "range", "SMS.6011"),
                (("speed_limit",), "5", "type", "SMS.6011"),
                (("isdefault",), 1, "type", "SMS.6011")]),
            ("POST", "/v3/sources", bodies.SOURCE_BODY, [
                (("name",), "x" * 65, "length", "SMS.6002"),
                (("name",), "no/slash", "pattern", "SMS.6003"),
                (("platform",), "home", "enum", "SMS.6006"),
                (("ip",), "here", "pattern", "SMS.6530"),
                (("networks",), [], "length", "SMS.6011"),
                (("networks", 0, "mac"), "", "missing", "SMS.6013"),
                (("disks", 0, "size"), "20", "type", "SMS.6011"),
                (("cpu_quantity",), 65536, "range", "SMS.6011")]),
            ("POST", "/v3/tasks", bodies.task_body("x"), [
                (("name",), "x" * 65, "length", "SMS.7711"),
                (("name",), "a.b", "pattern", "SMS.7711"),
                (("type",), "BOTH", "enum", "SMS.7712"),
                (("os_type",), "BSD", "enum", "SMS.6601"),
                (("priority",), 3, "range", "SMS.6011"),
                (("target_server", "disks"), [], "length", "SMS.6033")]),
            ("PUT", "/v3/tasks/t/progress", {
                "subtask_name": "SSL_CONFIG", "progress": 1, "replicatesize": 1, "totalsize": 2,
                "process_trace": ""}, [
                (("progress",), 101, "range", "SMS.6101"),
                (("subtask_name",), "COPY", "enum", "SMS.6004"),
                (("process_trace",), "x" * 2049, "length", "SMS.6011")]),
            ("PUT", f"/v3/sources/{seeds.SOURCE}/changestate", {
                "copystate": "waiting", "migrationcycle": "setting"}, [
                (("copystate",), "", "enum", "SMS.7727"),
                (("copystate",), "syncing", "pair", "SMS.7728")]),
        ]
        for method, path, body, spoilings in rows:
            for where, value, kind, code in spoilings:
                with self.subTest(path=path, field=where, value=value):
                    self.refused(code, "sms", method, path, spoil(body, where, value), status=400)
                    self.assertIn(kind, [v["kind"] for v in self.noted()])

    def test_nonsense_never_breaks_the_cloud(self):
        chance = random.Random(7)
        junk = [None, True, -1, 1 << 70, 1.5, "", "x", "999.1.1.1/99", "\u8fc1\ud800", [], [None],
                {}, {"id": []}, [[[]]]]
        made = self.good("ecs", "POST", f"/v1.1/{PROJECT}/cloudservers", bodies.server_body(),
                         x_client_token="t")
        for service, method, path, body in self.good_calls():
            if path == "/v3/tasks":
                body["target_server"]["vm_id"] = made["serverIds"][0]
            places = list(everywhere(body))
            for _ in range(40):
                spoiled = body
                for _ in range(chance.randint(1, 2)):
                    try:
                        spoiled = spoil(spoiled, chance.choice(places),
                                        chance.choice([*junk, spoil]))
                    except (KeyError, IndexError, TypeError):
                        pass  # what it should have hit is gone already
                reply = self.call(service, method, path, spoiled)
                self.assertLess(reply.status, 500, (path, spoiled, reply.data))
        self.call("sms", "POST", "/v3/migprojects", {**bodies.PROJECT_BODY, "name": "odd",
                                                     "description": "\ud800\udcff"})
        for service, path in (("sms", "/v3/sources"), ("sms", "/v3/migprojects"),
                              ("sms", "/v3/tasks"), ("vpc", f"/v1/{PROJECT}/subnets"),
                              ("vpc", f"/v1/{PROJECT}/security-group-rules"),
                              ("eip", f"/v1/{PROJECT}/publicips"),
                              ("ecs", f"/v1/{PROJECT}/cloudservers/detail")):
            self.assertEqual(self.call(service, "GET", path).status, 200, path)
        self.assertNotIn("bug", [v["kind"] for v in self.noted()])

    def test_what_is_only_noted(self):
        rows = [
            (spoil(bodies.SOURCE_BODY, ("memory",), 8192), "unit", "memory"),
            (spoil(bodies.SOURCE_BODY, ("colour",), "red"), "unknown", "colour"),
            (spoil(bodies.SOURCE_BODY, ("networks", 0, "mac"), "02:00:00:00:00:07"), "pattern",
             "networks[0].mac"),
            (spoil(bodies.SOURCE_BODY, ("has_tc",), spoil), "missing", "has_tc"),
            (spoil(bodies.SOURCE_BODY, ("disks", 0, "size"), 20), "unit", "disks[0].size"),
            (spoil(bodies.SOURCE_BODY, ("linux_block_check",), "x"), "json", "linux_block_check"),
        ]
        for body, kind, where in rows:
            with self.subTest(where=where):
                self.scenario()
                self.good("sms", "POST", "/v3/sources", body)
                self.assertIn((kind, where), [(v["kind"], v["where"]) for v in self.violations()])

    def test_a_mac_that_another_source_has(self):
        self.good("sms", "POST", "/v3/sources", bodies.SOURCE_BODY)
        self.assertEqual(self.violations(), [])
        self.good("sms", "POST", "/v3/sources", {**bodies.SOURCE_BODY, "name": "db2"})
        self.assertEqual([v["kind"] for v in self.violations()], ["duplicate"])

    def test_bodies_that_are_none(self):
        path = "/v3/migprojects"
        self.refused("SMS.6012", "sms", "POST", path, b"")
        self.refused("SMS.6010", "sms", "POST", path, b"{")
        self.refused("SMS.6010", "sms", "POST", path, b'{"name": "\xff"}')
        self.refused("SMS.6011", "sms", "POST", path, b"[]")
        self.refused("SMS.6016", "sms", "POST", path, bodies.PROJECT_BODY,
                     content_type="text/plain")
        self.good("sms", "POST", path, bodies.PROJECT_BODY,
                  content_type="application/json;charset=UTF-8")

    def test_queries(self):
        for query in ("limit=201", "limit=x", "offset=-1", "state=broken", "connected=True",
                      "migration_cycle=done"):
            self.refused("SMS.6011", "sms", "GET", "/v3/sources?" + query)
        self.good("sms", "GET", "/v3/sources?colour=red")
        self.assertEqual(self.violations()[-1]["kind"], "unknown")
        self.good("sms", "GET", "/v3/sources?name=a&name=b")
        self.assertEqual(self.violations()[-1]["kind"], "repeated")
        self.refused("SMS.6013", "sms", "GET", "/v3/errors")

    def test_secrets_are_not_logged(self):
        body = bodies.server_body()
        body["server"]["adminPass"] = "Very-Secret-1"
        self.good("ecs", "POST", f"/v1.1/{PROJECT}/cloudservers", body, x_client_token="t")
        log = self.control("GET", "log")
        self.assertNotIn("Very-Secret-1", log)
        self.assertNotIn(seeds.AK, log)
        entry = json.loads(log.splitlines()[0])
        self.assertEqual(entry["route"], "POST /v1.1/{project_id}/cloudservers")
        self.assertEqual(entry["body"]["server"]["name"], "target1")

    def test_the_text_of_the_tables_is_up_to_date(self):
        with open(os.path.join(HERE, "..", "FIELDS.md"), encoding="utf-8") as f:
            self.assertEqual(f.read(), schema.markdown(fields.TABLES, fields.CODES),
                             "run tests/cloud/fake-cloud --fields >tests/cloud/FIELDS.md")


if __name__ == "__main__":
    unittest.main()
