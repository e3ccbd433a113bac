# SPDX-License-Identifier: Apache-2.0
"""
What a field table is made of, and comparing a request with one.

A table is nested dicts: {"name!": text(1, 64), "speed_limit": integer(0, 1000)}.
The last character of a key tells more: "!" the field is required; "~" the call is taken without
it, but what comes of it is useless (a check of the source fails).
"""
import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Kind:
    """
    A type with its limits.  code is what the service answers when it is violated, a string or
    one for each kind of violation; missing when it is not there; None: the service's default.
    """
    name: str
    test: object = None
    lo: float = None
    hi: float = None
    enum: tuple = ()
    pattern: str = None
    fields: dict = None
    items: object = None
    code: object = None
    missing: str = None
    note: str = ""
    fold: bool = False

    def code_of(self, violation, codes):
        if isinstance(self.code, dict):
            return self.code.get(violation, codes.bad)
        return self.code or codes.bad

    def limits(self):
        """The limits in words, for the table that people read."""
        said = []
        if self.lo is not None or self.hi is not None:
            unit = {"string": " characters", "array": " items"}.get(self.name, "")
            lo = "" if self.lo is None else f"{self.lo:g}"
            hi = "" if self.hi is None else f"{self.hi:g}" if self.hi < 1e6 else str(self.hi)
            said.append(f"{lo}-{hi}{unit}" if lo and hi else f">= {lo}" if lo else f"<= {hi}{unit}")
        if self.enum:
            said.append(" ".join(map(str, self.enum)))
        if self.pattern:
            said.append(f"`{self.pattern}`".replace("|", "\\|"))
        if self.note:
            said.append(self.note)
        return "; ".join(said)


@dataclass(frozen=True)
class Violation:
    """One thing a request does wrong; refuse: the service answers with code."""
    kind: str  # missing, type, length, range, enum, pattern, unknown, unit, ...
    where: str
    text: str
    code: str = None
    refuse: bool = True

    def as_json(self):
        return {"kind": self.kind, "where": self.where, "text": self.text, "code": self.code,
                "refused": self.refuse}


def is_int(v):
    return isinstance(v, int) and not isinstance(v, bool)


def is_number(v):
    return is_int(v) or isinstance(v, float)


# A query has text alone, so its numbers and booleans are text.
def number_text(v):
    return isinstance(v, str) and re.fullmatch(r"-?\d+", v) is not None


def text(lo=None, hi=None, pattern=None, **more):
    return Kind("string", lambda v: isinstance(v, str), lo, hi, pattern=pattern, **more)


def word(*enum, **more):
    return Kind("string", lambda v: isinstance(v, str), enum=enum, **more)


def integer(lo=None, hi=None, **more):
    return Kind("integer", is_int, lo, hi, **more)


def number(lo=None, hi=None, **more):
    return Kind("number", is_number, lo, hi, **more)


def boolean(**more):
    return Kind("boolean", lambda v: isinstance(v, bool), **more)


def loose(lo=None, hi=None, **more):
    """A number that samples also show as text."""
    return Kind("number or string", lambda v: is_number(v) or isinstance(v, str), lo, hi, **more)


def array(items, lo=None, hi=None, **more):
    return Kind("array", lambda v: isinstance(v, list), lo, hi, items=items, **more)


def struct(fields, **more):
    return Kind("object", lambda v: isinstance(v, dict), fields=fields, **more)


def anything(**more):
    return Kind("any", lambda v: True, **more)


def count(lo=None, hi=None, **more):
    """A number in a query."""
    return Kind("number in text", number_text, lo, hi, **more)


def flag(**more):
    return Kind("boolean in text", lambda v: v in ("true", "false"), **more)


@dataclass
class Table:
    """All that is known of one call's request."""
    page: str
    query: dict = field(default_factory=dict)
    body: Kind = None
    body_optional: bool = False
    headers: dict = field(default_factory=dict)


class Codes:
    """A service's codes for what no field says: bad, missing, and the whole body."""

    def __init__(self, bad, missing=None, not_json=None, empty=None, content_type=None):
        self.bad = bad
        self.missing = missing or bad
        self.not_json = not_json or bad
        self.empty = empty or self.missing
        self.content_type = content_type


def measure(kind, value):
    if kind.name == "string":
        return len(value), "length"
    if kind.name == "array":
        return len(value), "length"
    if kind.name == "number in text":
        return int(value), "range"
    return value, "range"


def out_of_bounds(kind, value):
    size, what = measure(kind, value)
    if isinstance(size, str):
        return None
    if (kind.lo is not None and size < kind.lo) or (kind.hi is not None and size > kind.hi):
        return what, f"{size} is outside of {kind.limits()}"
    return None


def wrong(kind, value):
    """(violation, text) of everything about the value itself that is wrong."""
    if not kind.test(value):
        shown = type(value).__name__ if not isinstance(value, str) else repr(value[:40])
        yield "type", f"is {shown}, not {kind.name}"
        return
    found = out_of_bounds(kind, value)
    if found is not None:
        yield found
    if kind.enum:
        words = [w.upper() for w in kind.enum] if kind.fold else kind.enum
        if (value.upper() if kind.fold else value) not in words:
            yield "enum", f"{value!r} is none of {' '.join(kind.enum)}"
    if kind.pattern and isinstance(value, str) and not re.fullmatch(kind.pattern, value):
        yield "pattern", f"{value!r} does not fit {kind.pattern}"


def check(kind, value, where, codes):
    """Every violation of value, which stands at where, and of what is in it."""
    for what, words in wrong(kind, value):
        yield Violation(what, where, words, kind.code_of(what, codes))
        if what == "type":
            return
    if kind.items is not None:
        for i, item in enumerate(value):
            yield from check(kind.items, item, f"{where}[{i}]", codes)
    if kind.fields is not None:
        yield from check_fields(kind.fields, value, where, codes)


def split_key(key):
    return (key[:-1], key[-1]) if key[-1] in "!~" else (key, "")


def check_fields(fields, value, where, codes):
    known = set()
    for key, kind in fields.items():
        name, mark = split_key(key)
        known.add(name)
        at = f"{where}.{name}" if where else name
        # null stands for "not given".
        if value.get(name) is None:
            if mark == "!":
                yield Violation("missing", at, "is required",
                                kind.missing or (kind.code if isinstance(kind.code, str) else
                                                 codes.missing))
            elif mark == "~":
                yield Violation("missing", at, "the service has use for it", refuse=False)
            continue
        yield from check(kind, value[name], at, codes)
    if fields:
        for name in value:
            if name not in known:
                at = f"{where}.{name}" if where else name
                yield Violation("unknown", at, "is no field of this call", refuse=False)


def rows_of(fields, codes, where=""):
    for key, kind in fields.items():
        name, mark = split_key(key)
        at = f"{where}.{name}" if where else name
        need = {"!": "required", "~": "expected"}.get(mark, "")
        said = kind.code if not isinstance(kind.code, dict) else " ".join(
            f"{c} {what}" for what, c in kind.code.items())
        code = " ".join(dict.fromkeys(filter(None, (kind.missing and f"{kind.missing} missing",
                                                    said)))) or codes.bad
        yield f"| `{at}` | {kind.name} | {need} | {kind.limits()} | {code} |"
        below = kind
        if kind.items is not None:
            below, at = kind.items, at + "[]"
        if below.fields:
            yield from rows_of(below.fields, codes, at)


def markdown(tables, codes):
    """All tables as text; fields of a call's query begin with "?", headers end in ":"."""
    out = ["# What the test cloud checks in each call", "",
           "Printed by `tests/cloud/fake-cloud --fields` from `tests/cloud/fake/fields.py`; "
           "the self-test compares.",
           "`required`: refused when missing.  `expected`: taken without, and noted."]
    for service, calls in tables.items():
        c = codes[service]
        out += ["", f"## {service.upper()}", "",
                f"Codes where a field names none: {c.bad} wrong, {c.missing} missing, "
                f"{c.not_json} not JSON, {c.empty} no body."]
        page = None
        for key, table in calls.items():
            if table.page != page:
                page = table.page
                out += ["", f"### {page}"]
            out += ["", f"`{key}`"]
            rows = [r.replace("| `", "| `?", 1) for r in rows_of(table.query, c)]
            rows += [f"| `{n}:` | header |  | {k.limits()} | {k.code or c.bad} |"
                     for n, k in table.headers.items()]
            rows += rows_of(table.body.fields, c) if table.body else []
            if rows:
                out += ["", "| field | type | | limits | code |", "|---|---|---|---|---|", *rows]
    return "\n".join(out) + "\n"
