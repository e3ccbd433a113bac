# SPDX-License-Identifier: Apache-2.0
"""The control port: what a test asks and tells; the language is told in tests/cloud/fake-cloud."""
import json
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

from . import faults
from .state import Cloud, Deep, load_preset


class Wrong(Exception):
    """The test asks for what there is not; str() tells it."""


def lines(entries):
    return "".join(json.dumps(e) + "\n" for e in entries)


def chosen(cloud, query):
    since = int(query.get("since", ["0"])[0])
    service = query.get("service", [None])[0]
    return [e for e in cloud.log if e["n"] > since and service in (None, e["service"])]


def get_log(control, rest, query, body):
    return lines(chosen(control.cloud, query))


def delete_log(control, rest, query, body):
    control.cloud.forget_log()
    return {}


def get_calls(control, rest, query, body):
    return "".join(f"{e['method']} {e['path']}\n" for e in chosen(control.cloud, query))


def get_routes(control, rest, query, body):
    return "".join((e["route"] or f"{e['method']} {e['path']} (unknown)") + "\n"
                   for e in chosen(control.cloud, query))


def get_violations(control, rest, query, body):
    """One line for each violation of the calls chosen; empty when there is none."""
    kinds = query.get("kind")
    return lines({"n": e["n"], "call": f"{e['method']} {e['path']}", **v}
                 for e in chosen(control.cloud, query) for v in e["violations"]
                 if kinds is None or v["kind"] in kinds)


def get_state(control, rest, query, body):
    db = control.cloud.db
    if not rest:
        return {**db, "settings": control.cloud.settings, "facts": control.cloud.facts}
    if rest[0] not in db:
        raise Wrong(f"there is no kind {rest[0]}: " + " ".join(db))
    if len(rest) == 1:
        return db[rest[0]]
    if rest[1] not in db[rest[0]]:
        raise Wrong(f"{rest[0]} has no {rest[1]}")
    return db[rest[0]][rest[1]]


def put_state(control, rest, query, body):
    """Merge into one thing, or make it; .../* means every thing of the kind."""
    if len(rest) != 2 or rest[0] not in Cloud.KINDS or not isinstance(body, dict):
        raise Wrong("PUT /_control/state/KIND/ID with an object")
    things = control.cloud.db[rest[0]]
    for key in list(things) if rest[1] == "*" else [rest[1]]:
        Deep.merge(things.setdefault(key, {"id": key}), body)
    return {}


def delete_state(control, rest, query, body):
    get_state(control, rest, query, body)
    if len(rest) != 2:
        raise Wrong("DELETE /_control/state/KIND/ID")
    del control.cloud.db[rest[0]][rest[1]]
    return {}


def get_faults(control, rest, query, body):
    return [f.describe() for f in control.cloud.faults]


def post_faults(control, rest, query, body):
    return [control.cloud.add_fault(r).id for r in (body if isinstance(body, list) else [body])]


def put_faults(control, rest, query, body):
    delete_faults(control, [], query, None)
    return post_faults(control, rest, query, body)


def delete_faults(control, rest, query, body):
    control.cloud.faults = [f for f in control.cloud.faults if rest and f.id != rest[0]]
    return {}


def put_settings(control, rest, query, body):
    unknown = set(body) - set(control.cloud.settings)
    if unknown:
        raise Wrong(f"there is no setting {', '.join(sorted(unknown))}")
    Deep.merge(control.cloud.settings, body)
    return control.cloud.settings


def post_hooks(control, rest, query, body):
    control.cloud.hooks += body if isinstance(body, list) else [body]
    return {}


def put_scenario(control, rest, query, body):
    control.cloud.load(body)
    return {}


def get_preset(control, rest, query, body):
    return load_preset(rest[0])


def get_ports(control, rest, query, body):
    return control.ports


def post_stop(control, rest, query, body):
    threading.Timer(0.05, control.stop).start()
    return {}


def post_die(control, rest, query, body):
    os.kill(os.getpid(), signal.SIGKILL)


CALLS = {
    "GET log": get_log, "DELETE log": delete_log, "GET calls": get_calls,
    "GET routes": get_routes, "GET violations": get_violations, "GET state": get_state,
    "PUT state": put_state, "DELETE state": delete_state, "GET faults": get_faults,
    "POST faults": post_faults, "PUT faults": put_faults, "DELETE faults": delete_faults,
    "PUT settings": put_settings, "POST hooks": post_hooks, "PUT scenario": put_scenario,
    "GET preset": get_preset, "GET ports": get_ports, "POST stop": post_stop,
    "POST die": post_die,
}


class Control:
    """What the calls work on."""

    def __init__(self, cloud, ports, stop):
        self.cloud = cloud
        self.ports = ports
        self.stop = stop

    def answer(self, method, target, data):
        url = urlsplit(target)
        parts = [unquote(p) for p in url.path.split("/")[1:]]
        if parts[0] != "_control" or len(parts) < 2 or f"{method} {parts[1]}" not in CALLS:
            return 404, {"error": "control calls are: " + ", ".join(CALLS)}
        try:
            body = json.loads(data) if data else None
            with self.cloud.lock:
                return 200, CALLS[f"{method} {parts[1]}"](self, parts[2:],
                                                          parse_qs(url.query), body)
        except (Wrong, faults.Bad, ValueError, KeyError, TypeError, AttributeError,
                StopIteration, OSError) as e:
            return 400, {"error": f"{type(e).__name__}: {e}"}


class ControlHandler(BaseHTTPRequestHandler):
    """The server has .service (Control)."""

    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, *args):
        pass

    def call(self):
        self.server.touch()
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, body = self.server.service.answer(self.command, self.path, data)
        kind = "text/plain" if isinstance(body, str) else "application/json"
        out = (body if isinstance(body, str) else json.dumps(body) + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)

    do_GET = do_PUT = do_POST = do_DELETE = call
