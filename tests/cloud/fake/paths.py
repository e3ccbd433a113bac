# SPDX-License-Identifier: Apache-2.0
"""
Naming places in a JSON document, and conditions on them.

A path is keys joined by dots; [N] is an element of a list, [*] every one.  So
"sub_tasks[*].progress" or "server.addresses.*[0].addr", where * alone is every key.
"""
import re

ABSENT = object()
STEP = re.compile(r"\[(\*|-?\d+)\]|([^.\[\]]+)")


def steps(path):
    found, end = [], 0
    for m in STEP.finditer(path):
        if path[end:m.start()] not in ("", "."):
            raise ValueError(f"bad path {path!r} near character {end}")
        if m[1] is None:
            found.append(m[2])
        else:
            found.append("*" if m[1] == "*" else int(m[1]))
        end = m.end()
    if end != len(path):
        raise ValueError(f"bad path {path!r} near character {end}")
    return found


def children(node, step):
    """The keys of node that a step means."""
    if isinstance(node, dict):
        return list(node) if step == "*" else [step]
    if isinstance(node, list):
        if step == "*":
            return range(len(node))
        if isinstance(step, int) and -len(node) <= step < len(node):
            return [step]
    return []


def places(root, path):
    """Every (container, key) that path means; the last key need not be there in an object."""
    todo = [(root, steps(path))]
    while todo:
        node, rest = todo.pop(0)
        for key in children(node, rest[0]):
            if len(rest) == 1:
                yield node, key
            elif isinstance(node, list) or key in node:
                todo.append((node[key], rest[1:]))


def get(root, path):
    """The first value at path, or ABSENT."""
    for node, key in places(root, path):
        if isinstance(node, list) or key in node:
            return node[key]
    return ABSENT


def put(root, path, value):
    """Set every place that path means, or make it where a value is called for every one."""
    found = list(places(root, path))
    for node, key in found:
        node[key] = value(node[key]) if callable(value) else value
    return len(found)


def drop(root, path):
    for node, key in sorted(places(root, path), key=lambda p: str(p[1]), reverse=True):
        if isinstance(node, list) or key in node:
            del node[key]


def holds(root, conditions):
    """
    Whether every condition {path: wanted} holds; wanted is a value, or one of
    {"exists": bool}, {"not": value}, {"re": regular expression}, {"in": [values]}.
    """
    return all(holds_one(get(root, p), w) for p, w in (conditions or {}).items())


def holds_one(value, wanted):
    if isinstance(wanted, dict) and len(wanted) == 1:
        (word, arg), = wanted.items()
        if word == "exists":
            return (value is not ABSENT) == arg
        if word == "not":
            return value is ABSENT or value != arg
        if word == "re":
            return isinstance(value, str) and re.search(arg, value) is not None
        if word == "in":
            return value is not ABSENT and value in arg
    return value is not ABSENT and value == wanted
