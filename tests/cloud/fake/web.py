# SPDX-License-Identifier: Apache-2.0
"""From a connection to a service and back: signatures, field tables, faults, the log."""
import json
import os
import re
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from . import faults, fields, paths, schema, sign

MAX_BODY = 12 << 20
SECRET_HEADERS = ("x-security-token", "x-auth-token")
SECRET_KEYS = {"adminPass", "password", "new_password", "target_password", "user_data"}
# Shapes in which errors come; every service has one of its own.
SHAPE = {"sms": "error_code", "iam": "iam", "ecs": "nested", "vpc": "code", "eip": "code",
         "dcs": "dcs", "smn": "smn"}


class ApiError(Exception):
    """The service refuses."""

    def __init__(self, status, code, text):
        super().__init__(text)
        self.status = status
        self.code = code


class Request:
    """One call, parsed."""

    def __init__(self, method, target, headers, body):
        self.method = method
        self.headers = headers
        self.body = body
        self.raw_path, _, self.raw_query = target.partition("?")
        self.path = sign.decode(self.raw_path)
        self.pairs = sign.query_pairs(self.raw_query)
        self.query = dict(self.pairs)
        self.json = None
        self.service = None
        self.region = None
        self.route = None
        self.params = {}
        self.credential = None
        self.violations = []
        self.id = None

    def note(self, kind, where, text, code=None, refuse=False):
        """Something that our programs should not do; it is answered only if refused."""
        self.violations.append(schema.Violation(kind, where, text, code, refuse))

    def as_conditions(self):
        body = self.json
        if body is None and self.body:
            try:
                body = json.loads(self.body)
            except ValueError:
                body = None
        return {"query": self.query, "body": body, "headers": self.headers, "path": self.path,
                "region": self.region}


class Route:
    def __init__(self, service, key, handler):
        self.service = service
        self.key = key
        self.method, self.template = key.split(" ", 1)
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)",
                         re.sub(r"\.(?=\d)", r"\\.", self.template))
        self.pattern = re.compile(pattern)
        self.loose = self.template.count("{")
        self.handler = handler
        self.table = fields.TABLES[service][key]


ROUTES = []


def route(service, key):
    """Register the function that answers a call of the field tables."""
    def add(function):
        ROUTES.append(Route(service, key, function))
        return function
    return add


def find_route(service, method, path):
    """The most literal route; paths are compared undecoded, so that a URN may hold slashes."""
    best = None
    for r in ROUTES:
        # The addresses are served by the VPC host as well as by one of their own.
        if r.method != method or service not in (None, r.service) and (
                service, r.service) != ("vpc", "eip"):
            continue
        m = r.pattern.fullmatch(path)
        if m is not None and (best is None or r.loose < best[0].loose):
            best = (r, m)
    return best


def error_body(shape, code, text, request_id):
    return {
        "iam": {"error": {"code": code, "message": text, "title": "Bad Request"}},
        "error_code": {"error_code": code, "error_msg": text},
        "camel": {"errorCode": code, "errorMsg": text},
        "code": {"code": code, "message": text},
        "nested": {"error": {"code": code, "message": text}},
        "dcs": {"error_code": code, "error_msg": text, "error_ext_msg": None},
        "smn": {"request_id": request_id, "code": code, "message": text},
        "gateway": {"error_code": code, "error_msg": text, "request_id": request_id},
    }[shape]


def shape_of(service, code):
    return "gateway" if code.startswith("APIGW.") else SHAPE.get(service, "error_code")


def hide(value):
    """The JSON with its secrets taken out, for the log."""
    if isinstance(value, dict):
        return {k: "<secret>" if k in SECRET_KEYS and v is not None else hide(v)
                for k, v in value.items()}
    if isinstance(value, list):
        return [hide(v) for v in value]
    return value


def hide_headers(headers):
    shown = {k: "<secret>" if k in SECRET_HEADERS else v for k, v in headers.items()}
    if "authorization" in shown:
        shown["authorization"] = re.sub(r"(Access=.{4})[^,]*|(Signature=).*", r"\1\2...",
                                        shown["authorization"])
    return shown


class Answer:
    def __init__(self, status, body):
        self.status = status
        self.body = body  # what becomes JSON; None: no body at all
        self.headers = {}
        self.raw = None   # bytes in place of JSON
        self.type = "application/json;charset=utf8"

    def data(self):
        if self.raw is not None:
            return self.raw
        if self.body is None:
            return b""
        return json.dumps(self.body, ensure_ascii=False).encode("utf-8", "surrogatepass")


class Service:
    """Everything between a parsed request and an answer, without the socket."""

    def __init__(self, cloud):
        self.cloud = cloud
        self.count = 0

    def locate(self, request, service):
        """
        Which service and region is meant: by the port's service, by a prefix /SERVICE/REGION or
        /REGION of the path, or by names in the host (SERVICE.REGION.localhost).
        """
        words = [*request.headers.get("host", "").split(":")[0].split(".")]
        parts = request.raw_path.split("/")[1:]
        used = 0
        if parts and parts[0] in fields.TABLES:
            words.append(parts[0])
            used = 1
        regions = {p["name"] for p in self.cloud.db["projects"].values()}
        if len(parts) > used and parts[used] in regions:
            words.append(parts[used])
            used += 1
        for w in words:
            if w in fields.TABLES and service in (None, w):
                service = w
            if w in regions:
                request.region = w
        request.path = sign.decode("/" + "/".join(parts[used:]))
        request.service = service
        return "/" + "/".join(parts[used:])

    def authenticate(self, request):
        token = request.headers.get("x-auth-token")
        if token is not None and "authorization" not in request.headers:
            known = self.cloud.db["tokens"].get(token)
            if known is None or known.get("expires_at", float("inf")) <= self.cloud.now():
                raise sign.Refused("token", "the token is unknown or has expired")
            return known
        credential, weak = sign.check(request, self.cloud.db["credentials"], self.cloud.now())
        for text in weak:
            request.note("signature", "headers", text)
        return credential

    def check_scope(self, request):
        """Headers that name an account or a project must name ours, and the right one."""
        project = request.headers.get("x-project-id")
        domain = request.headers.get("x-domain-id")
        mine = request.credential.get("domain_id")
        if domain is not None and domain != mine:
            raise ApiError(403, "APIGW.0302", "X-Domain-Id is not the account of this key")
        if project is not None and project not in self.cloud.db["projects"]:
            raise ApiError(403, "APIGW.0302", "X-Project-Id is no project of this account")
        if project is not None and domain is not None:
            request.note("scope", "headers", "both X-Project-Id and X-Domain-Id are sent")
        wanted = self.cloud.settings["scope"].get(request.service)
        if wanted == "project" and project is None or wanted == "domain" and domain is None:
            raise ApiError(403, "APIGW.0302", f"the call needs a scope of {wanted}")
        asked = request.params.get("project_id")
        if asked is None:
            return
        if asked not in self.cloud.db["projects"]:
            request.note("scope", "path", f"{asked} is no project", refuse=True)
            raise ApiError(403, "APIGW.0302", "the project of the path is not one of this account")
        if project is None:
            request.note("scope", "headers", "X-Project-Id is not sent to a regional service")
        elif project != asked:
            request.note("scope", "headers", "X-Project-Id is not the project of the path",
                         refuse=True)
            raise ApiError(403, "APIGW.0302", "X-Project-Id differs from the project of the path")
        region = self.cloud.db["projects"][asked]["name"]
        if request.region not in (None, region):
            request.note("scope", "path", f"project of {region} at the endpoint of "
                         f"{request.region}", refuse=True)
            raise ApiError(403, "APIGW.0302", "the project belongs to another region")

    def check_fields(self, request):
        """Compare with the field table; the first violation that is refused is the answer."""
        table, codes = request.route.table, fields.CODES[request.service]
        found = list(schema.check_fields(table.query, request.query, "query", codes))
        if not table.query:
            found = [schema.Violation("unknown", f"query.{k}", "is no parameter of this call",
                                      refuse=False) for k in request.query]
        found += [schema.Violation("repeated", f"query.{k}", "is given twice", refuse=False)
                  for k in request.query if sum(p[0] == k for p in request.pairs) > 1]
        for name, kind in table.headers.items():
            if name in request.headers:
                found += schema.check(kind, request.headers[name], name, codes)
        found += self.check_body(request, table, codes)
        request.violations += found
        for v in found:
            if v.refuse:
                raise ApiError(400, v.code, f"{v.where} {v.text}")

    def check_body(self, request, table, codes):
        if table.body is None:
            if request.body.strip() not in (b"", b"{}"):
                yield schema.Violation("unknown", "body", "this call has no body", refuse=False)
            return
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if not request.body:
            yield schema.Violation("missing", "body", "the body is empty", codes.empty)
            return
        if kind != "application/json":
            yield schema.Violation("content-type", "headers", f"content type is {kind!r}, not "
                                   "application/json", codes.content_type or codes.bad)
            return
        try:
            request.json = json.loads(request.body.decode("utf-8"))
        except (ValueError, RecursionError) as e:
            yield schema.Violation("json", "body", f"is no JSON in UTF-8: {e}", codes.not_json)
            return
        if not isinstance(request.json, dict):
            yield schema.Violation("type", "body", "is no object", codes.bad)
            request.json = None
            return
        yield from schema.check_fields(table.body.fields, request.json, "", codes)

    def judge(self, request, service):
        """The genuine answer, or ApiError; the request's route and key are found on the way."""
        path = self.locate(request, service)
        found = find_route(request.service, request.method, path)
        if found is None:
            request.note("endpoint", "path", f"{request.method} {path} is no call of "
                         f"{request.service or 'any service'}", refuse=True)
        else:
            request.route, m = found
            request.service = request.route.service
            request.params = {k: sign.decode(v) for k, v in m.groupdict().items()}
        if len(request.body) > MAX_BODY:
            raise ApiError(400, "SMS.6014", "the body is longer than 12 MB")
        try:
            request.credential = self.authenticate(request)
        except sign.Refused as e:
            request.note("signature", "headers", f"{e.reason}: {e}", "APIGW.0301", refuse=True)
            raise ApiError(401, "APIGW.0301", str(e)) from None
        if found is None:
            raise ApiError(404, "APIGW.0101", "the API does not exist")
        self.check_scope(request)
        self.check_fields(request)

    def run(self, request):
        status, body = 200, request.route.handler(self.cloud, request)
        if isinstance(body, tuple):
            status, body = body
        elif body == "":
            body = self.cloud.settings["write_answer"]
        return Answer(status, body)

    def refused(self, request, e):
        return Answer(e.status, error_body(shape_of(request.service, e.code), e.code, str(e),
                                           request.id))

    def answer(self, request, service):
        """The answer, and the faults that hit it."""
        with self.cloud.lock:
            self.count += 1
            request.id = f"{self.count:032x}"
            verdict = None
            try:
                self.judge(request, service)
            except ApiError as e:
                verdict = e
            hit = [f for f in self.cloud.faults if f.takes(request)]
            instead = next((f for f in hit if f.instead), None)
            if verdict is None and (instead is None or instead.rule.get("apply")):
                try:
                    given = self.run(request)
                except ApiError as e:
                    verdict = e
            if verdict is not None:
                given = self.refused(request, verdict)
            if instead is not None:
                given = self.replaced(instead.rule, request)
            for f in hit:
                if given.body is not None:
                    given.body = json.loads(json.dumps(given.body))
                    faults.mutate(f.rule, given.body)
                given.headers.update(f.rule.get("headers", {}))
            return given, hit

    def replaced(self, rule, request):
        code = rule.get("error_code")
        status = rule.get("status", 400 if code else 200)
        answer = Answer(status, {})
        if rule.get("cut") == "request":
            answer.status = 0
        if code is not None:
            shape = rule.get("shape") or shape_of(request.service, code)
            answer.body = error_body(shape, code, rule.get("error_msg", "made to fail"), request.id)
        if "body" in rule:
            answer.body = rule["body"]
        if "raw" in rule:
            answer.raw = rule["raw"].encode("utf-8", "surrogateescape")
        if rule.get("html"):
            answer.raw = (f"<html><head><title>{status}</title></head><body><h1>{status}</h1>"
                          "<hr>gateway</body></html>\n").encode()
            answer.type = "text/html"
        return answer

    def log(self, request, answer, hit):
        try:
            body = hide(json.loads(request.body)) if request.body else None
        except (ValueError, RecursionError):
            body = request.body.decode("latin-1")
        answered = hide(answer.body) if answer.raw is None else answer.raw.decode("latin-1")
        self.cloud.record({
            "time": self.cloud.now(), "service": request.service, "region": request.region,
            "method": request.method, "path": request.path, "query": request.raw_query,
            "target": request.raw_path,
            "route": request.route.key if request.route else None,
            "headers": hide_headers(request.headers), "body": body, "status": answer.status,
            "answer": answered, "request_id": request.id, "faults": [f.id for f in hit],
            "violations": [v.as_json() for v in request.violations]})


class Handler(BaseHTTPRequestHandler):
    """A connection; the server has .service (Service) and .name (which service, None: any)."""

    protocol_version = "HTTP/1.1"
    server_version = "fake-cloud"
    sys_version = ""
    timeout = 60
    # Small answers in two segments would wait for one another.
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *args):
        pass

    def read_body(self):
        length = self.headers.get("Content-Length")
        if length is None:
            return b""
        if not length.isdigit() or int(length) > MAX_BODY + (1 << 20):
            self.close_connection = True
            return b""
        return self.rfile.read(int(length))

    def reset(self):
        """Cut the connection so that the peer sees a reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.rfile.close()
        try:
            self.wfile.close()
        except OSError:
            pass
        self.connection.close()

    def handle_call(self):
        self.server.touch()
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            self.close_connection = True
            self.send_error(411)
            return
        headers = {k.lower(): v for k, v in self.headers.items()}
        request = Request(self.command, self.path, headers, self.read_body())
        service = self.server.service
        try:
            answer, hit = service.answer(request, self.server.name)
        except Exception:  # a fault of ours must be seen, and fail the test
            text = traceback.format_exc()
            sys.stderr.write(text)
            request.note("bug", "fake-cloud", text)
            answer, hit = Answer(500, {"error_code": "FAKE.0500", "error_msg": text}), []
        service.log(request, answer, hit)
        self.send(request, answer, hit)

    def send(self, request, answer, hit):
        rule = {}
        for f in hit:
            rule.update(f.rule)
        self.pause(rule)
        cut = rule.get("cut")
        if cut == "request":
            self.reset()
            return
        data = answer.data()
        self.send_response(answer.status)
        if data or answer.status != 204:
            self.send_header("Content-Type", answer.type)
            self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Request-Id", request.id)
        for k, v in answer.headers.items():
            self.send_header(k, v)
        if "truncate" in rule or cut:
            self.send_header("Connection", "close")
        if cut == "headers":
            self._headers_buffer = self._headers_buffer[:1]
            self.flush_headers()
            self.wfile.flush()
            self.reset()
            return
        self.end_headers()
        if self.command != "HEAD":
            keep = rule.get("truncate", len(data) // 2 if cut == "body" else len(data))
            self.wfile.write(data[:keep])
        self.wfile.flush()
        if cut == "body":
            self.reset()
        elif "truncate" in rule:
            self.close_connection = True

    def pause(self, rule):
        if "die" in rule:
            sig = rule["die"] if isinstance(rule["die"], int) else signal.SIGKILL
            os.kill(os.getpid(), sig)
        time.sleep(rule.get("delay_s", 0) + rule.get("hang_s", 0))

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = handle_call


class Server(ThreadingHTTPServer):
    """One listening port of loopback."""

    daemon_threads = True
    allow_reuse_address = False
    request_queue_size = 128

    def __init__(self, handler, name, service, touch, port=0, tls=None):
        self.name = name
        self.service = service
        self.touch = touch
        self.tls = tls
        super().__init__(("127.0.0.1", port), handler)

    def finish_request(self, request, client_address):
        # In the connection's own thread: a client that never shakes hands delays nobody.
        if self.tls is not None:
            request.settimeout(30)
            try:
                request = self.tls.wrap_socket(request, server_side=True)
            except OSError:
                return
        try:
            super().finish_request(request, client_address)
        finally:
            if self.tls is not None:
                self.shutdown_request(request)

    def handle_error(self, request, client_address):
        kind = sys.exc_info()[0]
        if not issubclass(kind, (ConnectionError, TimeoutError, ValueError, OSError)):
            super().handle_error(request, client_address)

    @property
    def port(self):
        return self.server_address[1]

    def start(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05},
                         daemon=True).start()


__all__ = ["Answer", "ApiError", "Handler", "Request", "Server", "Service", "paths", "route"]
