# SPDX-License-Identifier: Apache-2.0
"""Rules that make chosen answers go wrong; the language is told in tests/cloud/fake-cloud."""
import re

from . import paths

KEYS = {"id", "match", "service", "when", "nth", "times", "status", "error_code", "error_msg",
        "shape", "body", "raw", "html", "headers", "delay_s", "truncate", "cut", "hang_s", "die",
        "apply", "set", "remove", "multiply", "retype"}
# With one of these the answer is the rule's and the call itself does not happen, unless "apply".
INSTEAD = ("status", "error_code", "body", "raw", "html", "die", "hang_s")
CUTS = ("request", "headers", "body")


class Bad(ValueError):
    """The rule cannot be meant so."""


def calls_of(nth):
    """A test for "nth": N, "N-M", "N-" or a list of these."""
    parts = nth if isinstance(nth, list) else [nth]
    ranges = []
    for part in parts:
        m = re.fullmatch(r"(\d+)(-(\d+)?)?", str(part))
        if m is None:
            raise Bad(f'"nth" is N, "N-M", "N-" or a list of these, not {part!r}')
        first = int(m[1])
        ranges.append((first, first if m[2] is None else int(m[3]) if m[3] else None))
    return lambda n: any(a <= n and (b is None or n <= b) for a, b in ranges)


class Fault:
    def __init__(self, rule, number):
        unknown = set(rule) - KEYS
        if unknown:
            raise Bad(f"a fault has no {', '.join(sorted(unknown))}")
        method, _, path = rule.get("match", "* .*").partition(" ")
        try:
            self.path = re.compile(path or ".*")
        except re.error as e:
            raise Bad(f"bad expression {path!r}: {e}") from None
        if rule.get("cut") not in (None, *CUTS):
            raise Bad(f'"cut" is one of {", ".join(CUTS)}')
        for p in [*rule.get("set", ()), *rule.get("remove", ()), *rule.get("multiply", ()),
                  *rule.get("retype", ()), *rule.get("when", ())]:
            paths.steps(p)
        self.rule = rule
        self.method = method
        self.id = rule.get("id", f"fault-{number}")
        self.wants = calls_of(rule.get("nth", "1-"))
        self.seen = 0
        self.used = 0

    def takes(self, request):
        """Count the call if it is one of ours; true when this one goes wrong."""
        rule = self.rule
        if self.method not in ("*", request.method) or not self.path.search(request.path):
            return False
        if rule.get("service", request.service) != request.service:
            return False
        if not paths.holds(request.as_conditions(), rule.get("when")):
            return False
        self.seen += 1
        if not self.wants(self.seen) or self.used >= rule.get("times", self.used + 1):
            return False
        self.used += 1
        return True

    @property
    def instead(self):
        return any(k in self.rule for k in INSTEAD) or self.rule.get("cut") == "request"

    def describe(self):
        return {**self.rule, "id": self.id, "seen": self.seen, "used": self.used}


OTHER_TYPE = {
    "string": str,
    "number": lambda v: float(v) if isinstance(v, (int, float)) else 7,
    "bool": bool,
    "list": lambda v: [v],
    "object": lambda v: {"value": v},
    "null": lambda v: None,
}


def mutate(rule, answer):
    """Change the answer (parsed JSON, changed in place) as set, remove, multiply, retype say."""
    for path, value in rule.get("set", {}).items():
        paths.put(answer, path, value)
    for path in rule.get("remove", ()):
        paths.drop(answer, path)
    for path, factor in rule.get("multiply", {}).items():
        paths.put(answer, path,
                  lambda v, f=factor: v * f if isinstance(v, (int, float)) else v)
    for path, name in rule.get("retype", {}).items():
        paths.put(answer, path, OTHER_TYPE[name])
