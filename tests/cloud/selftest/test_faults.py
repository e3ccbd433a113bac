#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Answers that go wrong on request, hooks, TLS, and the control port."""
import http.client
import json
import os
import ssl
import subprocess
import tempfile
import time
import unittest

import bodies
from client import HERE, PROJECT, CloudTest, Running
from fake import seeds
from test_states import World

PATH = "/v3/sources"


class Faults(World):
    def fault(self, **rule):
        return self.control("POST", "faults", {"match": "GET ^/v3/sources$", **rule})

    def test_errors_in_every_shape(self):
        shapes = {"error_code": ["error_code", "error_msg"], "camel": ["errorCode", "errorMsg"],
                  "code": ["code", "message"], "nested": ["error"]}
        for shape, keys in shapes.items():
            self.control("DELETE", "faults")
            self.fault(status=503, error_code="SMS.6301", shape=shape)
            reply = self.call("sms", "GET", PATH)
            self.assertEqual((reply.status, list(reply.json)), (503, keys))

    def test_which_calls(self):
        for rule, bad in (({"nth": 2}, [2]), ({"nth": "2-3"}, [2, 3]), ({"nth": "3-"}, [3, 4]),
                          ({"nth": [1, 4]}, [1, 4]), ({"times": 2}, [1, 2])):
            with self.subTest(rule):
                self.control("DELETE", "faults")
                self.fault(status=500, **rule)
                found = [n for n in (1, 2, 3, 4)
                         if self.call("sms", "GET", PATH).status == 500]
                self.assertEqual(found, bad)

    def test_other_calls_are_left_alone(self):
        self.fault(status=500, when={"query.name": "web1"})
        self.assertEqual(self.call("sms", "GET", PATH).status, 200)
        self.assertEqual(self.call("sms", "GET", PATH + "?name=web1").status, 500)
        self.assertEqual(self.call("sms", "GET", "/v3/sources/overview").status, 200)

    def test_changed_fields(self):
        self.fault(set={"source_servers[*].memory": None, "count": 7200},
                   remove=["source_servers[0].name"], multiply={"source_servers[0].add_date": 1000},
                   retype={"source_servers[0].checks": "string"})
        found = self.good("sms", "GET", PATH)
        first = found["source_servers"][0]
        self.assertEqual((found["count"], first["memory"]), (7200, None))
        self.assertNotIn("name", first)
        self.assertIsInstance(first["checks"], str)
        self.assertGreater(first["add_date"], 10 ** 15)
        self.control("DELETE", "faults")
        self.assertEqual(self.good("sms", "GET", PATH)["count"], 1)

    def test_bodies_that_are_no_json(self):
        self.fault(html=True, status=502, headers={"Retry-After": "3"})
        reply = self.call("sms", "GET", PATH)
        self.assertEqual((reply.status, reply.headers["retry-after"]), (502, "3"))
        self.assertIn(b"<html>", reply.data)
        self.control("PUT", "faults", [{"match": "* .*", "raw": "nonsense"}])
        self.assertEqual(self.call("sms", "GET", PATH).data, b"nonsense")

    def test_broken_connections(self):
        for rule, error in (({"truncate": 10}, http.client.IncompleteRead),
                            ({"cut": "request"}, OSError), ({"cut": "body"}, Exception),
                            ({"cut": "headers"}, Exception)):
            with self.subTest(rule):
                self.control("DELETE", "faults")
                self.fault(**rule)
                with self.assertRaises(error):
                    self.call("sms", "GET", PATH)
        self.control("DELETE", "faults")
        self.assertEqual(self.call("sms", "GET", PATH).status, 200)

    def test_a_call_may_happen_and_its_answer_be_lost(self):
        rule = {"match": "POST ^/v3/migprojects$", "cut": "request"}
        for apply in (False, True):
            self.control("PUT", "faults", [{**rule, "apply": apply}])
            with self.assertRaises(OSError):
                self.call("sms", "POST", "/v3/migprojects", bodies.PROJECT_BODY)
            self.assertEqual(len(self.control("GET", "state/migprojects")), 1 + apply)

    def test_delay(self):
        self.fault(delay_s=0.3)
        begin = time.monotonic()
        self.good("sms", "GET", PATH)
        self.assertGreaterEqual(time.monotonic() - begin, 0.3)
        self.control("PUT", "faults", [{"match": "* .*", "hang_s": 20}])
        with self.assertRaises(TimeoutError):
            self.call("sms", "GET", PATH, timeout=0.3)

    def test_rules_that_mean_nothing_are_refused(self):
        for rule in ({"match": "GET ("}, {"colour": 1}, {"nth": "x"}, {"cut": "cable"},
                     {"set": {"a[b": 1}}):
            with self.subTest(rule), self.assertRaises(AssertionError):
                self.control("POST", "faults", rule)
        for scenario in ({"preset": "none"}, {"sed": {}}, {"settings": {"x": 1}},
                         {"seed": {"cars": []}}):
            with self.subTest(scenario), self.assertRaises(AssertionError):
                self.control("PUT", "scenario", scenario)


class Hooks(World):
    def test_a_command_gives_the_address(self):
        self.scenario(hooks=[
            {"when": "server.ACTIVE", "run": "echo '{\"fixed\": \"127.0.0.1\"}'",
             "settings": {"console": "kernel panic"}}])
        sid = self.target()
        found, = self.server(sid)["addresses"].values()
        self.assertEqual(found[0]["addr"], "127.0.0.1")
        self.assertIn("panic", self.good(
            "ecs", "GET", f"/v1/{PROJECT}/cloudservers/{sid}/console-output")["output"])
        with open(os.path.join(self.cloud.dir, "hooks.jsonl"), encoding="utf-8") as f:
            self.assertEqual(json.loads(f.readline())["event"], "server.ACTIVE")

    def test_states_and_conditions(self):
        self.scenario(settings={"server_addresses": {"fixed": "127.0.0.1",
                                                     "floating": "127.0.0.2"}},
                      hooks=[{"when": "task.polled", "if": {"polls": 2},
                              "set": {"speed_limit": 42}},
                             {"when": "task.polled", "times": 1, "set": {"priority": 2}},
                             {"when": "task.action.stop", "set": {"priority": 0}}])
        task_id = self.task()
        self.act(task_id)
        self.assertEqual([self.poll(task_id)["speed_limit"] for _ in range(3)], [0, 42, 42])
        self.act(task_id, "stop")
        self.act(task_id)
        self.assertEqual(self.poll(task_id)["priority"], 0)
        found = next(iter(self.control("GET", "state/eips").values()))
        self.assertEqual((found["public_ip_address"], found["private_ip_address"]),
                         ("127.0.0.2", "127.0.0.1"))


class Control(CloudTest):
    def test_state_can_be_seen_and_changed(self):
        self.control("PUT", f"state/sources/{seeds.SOURCE}", {"connected": False})
        found = self.good("sms", "GET", PATH)["source_servers"][0]
        self.assertFalse(found["connected"])
        self.control("DELETE", f"state/sources/{seeds.SOURCE}")
        self.assertEqual(self.good("sms", "GET", PATH)["count"], 0)

    def test_the_log_is_written_as_lines(self):
        self.good("sms", "GET", PATH + "?limit=1")
        with open(os.path.join(self.cloud.dir, "log.jsonl"), encoding="utf-8") as f:
            entry = json.loads(f.readlines()[-1])
        self.assertEqual((entry["method"], entry["path"], entry["query"], entry["status"]),
                         ("GET", PATH, "limit=1", 200))
        self.assertEqual(self.control("GET", "calls"), "GET /v3/sources\n")
        self.assertEqual(self.control("GET", "calls?service=ecs"), "")

    def test_it_dies_when_told(self):
        cloud = Running()
        conn = http.client.HTTPConnection("127.0.0.1", cloud.ports["control"], timeout=5)
        with self.assertRaises(OSError):
            conn.request("POST", "/_control/die")
            conn.getresponse()
        conn.close()
        self.assertEqual(cloud.process.wait(5), -9)
        cloud.close()


class Tls(unittest.TestCase):
    def reach(self, kind):
        cloud = Running("--tls", kind)
        try:
            context = ssl.create_default_context(cafile=os.path.join(cloud.dir, "ca.pem"))
            conn = http.client.HTTPSConnection("127.0.0.1", cloud.ports["sms"], timeout=5,
                                               context=context)
            conn.request("GET", PATH)
            status = conn.getresponse().status
            conn.close()
            return status
        finally:
            cloud.close()

    def test_certificates(self):
        self.assertEqual(self.reach("good"), 401)
        for kind in ("expired", "wrong-host", "stranger"):
            with self.subTest(kind), self.assertRaises(ssl.SSLCertVerificationError):
                self.reach(kind)


class Bash(unittest.TestCase):
    def test_the_helpers(self):
        script = r'''
            set -eu
            fails() { if "$@" 2>/dev/null; then echo "$* did not fail" >&2; exit 1; fi; }
            . "$1/../cloud.bash"
            trap cloud_stop EXIT
            cloud_start "$2/c" happy
            curl -sS --noproxy '*' "$SMS_ENDPOINT/v3/sources" >/dev/null
            [ "$(cloud_calls)" = "GET /v3/sources" ]
            cloud_did "GET /v3/sources"
            fails cloud_did "GET /v3/tasks"
            [ "$(cloud_chain)" = "GET /v3/sources" ]
            [ "$(cloud_writes)" = "" ]
            curl -sS --noproxy '*' -d '{}' "$SMS_ENDPOINT/v3/tasks" >/dev/null
            [ "$(cloud_writes sms)" = "POST /v3/tasks" ]
            fails cloud_clean
            cloud_forget
            cloud_clean
            cloud_set '{"project_quota": 3}'
            cloud_fault '{"match": "* .*", "status": 500}'
            cloud_state sources "$CLOUD_SOURCE" '{"connected": false}'
            cloud_state sources "$CLOUD_SOURCE" | grep -q '"connected": false'
            [ "$(cloud_log .status)" = "" ]
            fails cloud_control GET nothing
            cloud_stop
            fails cloud_start "$2/d" no-such-preset
            echo whole
        '''
        with tempfile.TemporaryDirectory() as d:
            done = subprocess.run(["bash", "-c", script, "bash", HERE, d], text=True,
                                  capture_output=True, timeout=60, check=False)
        self.assertEqual(done.stdout, "whole\n", done.stderr)


if __name__ == "__main__":
    unittest.main()
