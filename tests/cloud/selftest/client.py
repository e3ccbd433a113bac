# SPDX-License-Identifier: Apache-2.0
"""A client of the test cloud, and the cloud itself, started once for all tests of a file."""
import atexit
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from urllib.parse import quote

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(HERE))

from fake import seeds, sign  # noqa: E402

PROJECT = seeds.hexid("project", "la-south-2")


class Running:
    """A cloud of our own."""

    def __init__(self, *args):
        self.dir = tempfile.mkdtemp(prefix="fake-cloud.")
        self.process = subprocess.Popen([os.path.join(os.path.dirname(HERE), "fake-cloud"),
                                         self.dir, "--idle-exit", "60", *args],
                                        stdout=subprocess.PIPE, text=True)
        self.ports = json.loads(self.process.stdout.readline() or "{}")
        atexit.register(self.close)

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()
        self.process.stdout.close()
        shutil.rmtree(self.dir, ignore_errors=True)
        atexit.unregister(self.close)


class Reply:
    def __init__(self, status, headers, data):
        self.status = status
        self.headers = headers
        self.data = data

    @property
    def json(self):
        return json.loads(self.data)

    @property
    def code(self):
        found = self.json
        found = found.get("error", found)
        return found.get("error_code", found.get("code"))


def now(offset=0):
    return time.strftime(sign.DATE, time.gmtime(time.time() + offset))


class CloudTest(unittest.TestCase):
    """Each test begins with an empty scenario on top of the preset of its class."""

    preset = "happy"
    cloud = None

    @classmethod
    def setUpClass(cls):
        cls.cloud = Running()

    @classmethod
    def tearDownClass(cls):
        cls.cloud.close()

    def setUp(self):
        self.scenario()

    def scenario(self, **more):
        self.control("PUT", "scenario", {"preset": self.preset, **more})
        self.control("DELETE", "log")

    def control(self, method, path, body=None):
        conn = http.client.HTTPConnection("127.0.0.1", self.cloud.ports["control"], timeout=10)
        conn.request(method, "/_control/" + path, None if body is None else json.dumps(body))
        answer = conn.getresponse()
        data = answer.read().decode()
        conn.close()
        self.assertEqual(answer.status, 200, data)
        return json.loads(data) if answer.headers["content-type"] == "application/json" else data

    def violations(self):
        return [json.loads(line) for line in self.control("GET", "violations").splitlines()]

    def call(self, service, method, target, body=None, *, ak=seeds.AK, sk=seeds.SK, offset=0,
             port=None, timeout=10, unsigned=(), **headers):
        """One signed call; body: JSON, bytes or None; headers with _ for -; None leaves one out."""
        port = port or self.cloud.ports[service]
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(
            body).encode()
        sent = {"host": f"127.0.0.1:{port}", "x-sdk-date": now(offset)}
        if body is not None:
            sent["content-type"] = "application/json"
        path, _, query = target.partition("?")
        parts = path.split("/")
        if service not in ("sms", "iam") and "x_project_id" not in headers and len(parts) > 2:
            sent["x-project-id"] = next((p for p in parts if len(p) == 32), PROJECT)
        for name, value in headers.items():
            name = name.replace("_", "-")
            sent.pop(name, None)
            if value is not None:
                sent[name] = value
        signed = {k: v for k, v in sent.items() if k not in unsigned}
        if "authorization" not in sent and "x-auth-token" not in sent:
            sent["authorization"] = sign.signing(ak, sk, method, path, query, signed, data)
        conn = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        try:
            conn.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for k, v in sent.items():
                conn.putheader(k, v)
            if data or method in ("POST", "PUT"):
                conn.putheader("Content-Length", str(len(data)))
            conn.endheaders(data)
            answer = conn.getresponse()
            return Reply(answer.status, answer.headers, answer.read())
        finally:
            conn.close()

    def good(self, *args, **more):
        """A call that must work; its parsed answer."""
        reply = self.call(*args, **more)
        self.assertIn(reply.status // 100, (2,), reply.data)
        return reply.json if reply.data else None

    def refused(self, code, *args, status=None, **more):
        reply = self.call(*args, **more)
        self.assertGreaterEqual(reply.status, 400, reply.data)
        self.assertEqual(reply.code, code, reply.data)
        if status is not None:
            self.assertEqual(reply.status, status)
        return reply


def segment(text):
    return quote(text, safe="")
