# SPDX-License-Identifier: Apache-2.0
"""What the cloud knows: one JSON-like store for all services, seeded by a scenario."""
import copy
import hashlib
import json
import os
import subprocess
import threading
import time
import uuid

from . import faults, paths

PRESETS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "presets")

# How the cloud behaves where it has a choice; a scenario's "settings" change single ones.
SETTINGS = {
    "clock_offset_s": 0,            # the cloud's clock less the machine's
    "scope": {},                    # service: "project" or "domain", the scope header it insists on
    "project_quota": 50,
    "source_quota": 1000,
    "register_stale_id": "refuse",  # or "accept": a registration with an id that is unknown
    "register_connected": True,
    "judge_sources": True,          # false: every registered source passes all checks
    "min_agent_version": "0",
    "block_level": True,            # false: no kernel can do MIGRATE_BLOCK (SMS.6617)
    "task_plan": None,              # list of {state, subtask, progress}, one a poll
    "task_failures": [],            # [{at: REGEX of sub-task, error_code, error_param, when,
                                    # times}]
    "task_rename_at_poll": 0,       # at that poll the task goes on under another id
    "write_answer": "",             # what SMS says to a write that has nothing to tell; or {}, null
    "check_target_disks": False,    # too few or too small disks fail the task (SMS.1311, SMS.0519)
    "check_port_22": False,         # without a rule for port 22 the task fails (SMS.3805)
    "residue": None,                # {"states": [...], "block": "failed" | "any"}
    "consistency": ["/home, 0 different"],
    "build_polls": 2,               # polls until a new server is ACTIVE
    "hidden_polls": 1,              # of these, polls that answer 404 for it
    "job_polls": 2,                 # polls until any other job ends
    "subnet_polls": 1,              # polls until a subnet is ACTIVE
    "eip_polls": 0,                 # polls, after the first, until a new EIP is free to be bound
    "server_fails": None,           # {"error_code", "fail_reason"}: jobs that create servers fail
    "sold_out": [],                 # flavors that are, whatever their list says
    "sold_out_in_job": False,       # sold out flavors are told by the job, not by the call
    "server_addresses": {},         # {"fixed": ADDRESS, "floating": ADDRESS} of new servers;
                                    # else 127.10.1.N and 127.10.2.N, so that all stays here
    "vpc_quota": 5,
    "eip_quota": 10,
    "group_quota": 100,
    "rule_quota": 5000,
    "server_quota": 100,
    "dcs_polls": 3,
    "console": "Debian GNU/Linux 12 target ttyS0\n\ntarget login: ",
    "password_agent": True,
}


class Deep(dict):
    """Merging: objects are merged key by key, all else is replaced."""

    @staticmethod
    def merge(onto, new):
        for k, v in new.items():
            if isinstance(v, dict) and isinstance(onto.get(k), dict):
                Deep.merge(onto[k], v)
            else:
                onto[k] = copy.deepcopy(v)
        return onto


def ident(*words):
    """The same words give the same id in every run."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "fake-cloud/" + "/".join(map(str, words))))


def hexid(*words):
    return ident(*words).replace("-", "")


def load_preset(name):
    with open(os.path.join(PRESETS, name + ".json"), encoding="utf-8") as f:
        return json.load(f)


def flatten(scenario, seen=()):
    """The scenario with the presets that it stands on; lists of faults and hooks are joined."""
    merged = {"settings": {}, "seed": {}, "faults": [], "hooks": []}
    bases = scenario.get("preset", [])
    for name in [bases] if isinstance(bases, str) else bases:
        if name in seen:
            raise ValueError(f"preset {name} stands on itself")
        base = flatten(load_preset(name), (*seen, name))
        Deep.merge(merged["settings"], base["settings"])
        Deep.merge(merged["seed"], base["seed"])
        merged["faults"] += base["faults"]
        merged["hooks"] += base["hooks"]
    unknown = set(scenario) - {"preset", "about", *merged}
    if unknown:
        raise ValueError(f"a scenario has no {', '.join(sorted(unknown))}")
    Deep.merge(merged["settings"], scenario.get("settings", {}))
    Deep.merge(merged["seed"], scenario.get("seed", {}))
    merged["faults"] += scenario.get("faults", [])
    merged["hooks"] += scenario.get("hooks", [])
    return merged


class Cloud:
    """All state; whoever touches it holds lock."""

    KINDS = ("sources", "tasks", "migprojects", "templates", "servers", "jobs", "volumes",
             "flavors", "images", "vpcs", "subnets", "groups", "rules", "ports", "eips",
             "peerings", "routes", "projects", "credentials", "tokens", "dcs_tasks", "topics",
             "subscriptions", "messages")

    def __init__(self, directory, scenario):
        self.lock = threading.RLock()
        self.dir = directory
        self.log = []
        self.log_file = open(os.path.join(directory, "log.jsonl"), "a", encoding="utf-8")
        self.load(scenario)

    def load(self, scenario):
        """Forget everything and begin with this scenario; ValueError if it cannot be meant."""
        flat = flatten(scenario)
        unknown = set(flat["settings"]) - set(SETTINGS)
        if unknown:
            raise ValueError(f"there is no setting {', '.join(sorted(unknown))}")
        rules = [faults.Fault(r, i) for i, r in enumerate(flat["faults"], 1)]
        with self.lock:
            self.settings = Deep.merge(copy.deepcopy(SETTINGS), flat["settings"])
            self.db = {kind: {} for kind in self.KINDS}
            self.facts = {"privacy": False, "client_tokens": {}, "counters": {}}
            self.faults = rules
            self.hooks = flat["hooks"]
            self.fault_count = len(rules)
            self.seed(flat["seed"])

    def seed(self, seed):
        from . import seeds
        seeds.plant(self, seed)

    def now(self):
        return time.time() + self.settings["clock_offset_s"]

    def ms(self):
        return int(self.now() * 1000)

    def new_id(self, kind, plain=False):
        n = self.facts["counters"][kind] = self.facts["counters"].get(kind, 0) + 1
        return hexid(kind, n) if plain else ident(kind, n)

    def add_fault(self, rule):
        self.fault_count += 1
        fault = faults.Fault(rule, self.fault_count)
        self.faults.append(fault)
        return fault

    def become(self, kind, thing, state, key="state"):
        """Change a state, and run the hooks that wait for it."""
        if thing.get(key) == state:
            return
        thing[key] = state
        self.happen(f"{kind}.{state}", thing)

    def happen(self, event, thing):
        for hook in self.hooks:
            if hook.get("when") != event or not paths.holds(thing, hook.get("if")):
                continue
            if hook.get("times", 1) <= 0:
                continue
            if "times" in hook:
                hook["times"] -= 1
            for path, value in hook.get("set", {}).items():
                paths.put(thing, path, value)
            for path, value in hook.get("settings", {}).items():
                paths.put(self.settings, path, value)
            for rule in hook.get("faults", ()):
                self.add_fault(rule)
            if "run" in hook:
                self.run_hook(hook, event, thing)

    def run_hook(self, hook, event, thing):
        """The command gets the thing as JSON on stdin; a JSON object that it prints is merged."""
        run = hook["run"]
        env = {**os.environ, "FAKE_EVENT": event, "FAKE_ID": str(thing.get("id", "")),
               "FAKE_DIR": self.dir}
        done = subprocess.run(run if isinstance(run, list) else ["bash", "-c", run],
                              input=json.dumps(thing), capture_output=True, text=True, env=env,
                              timeout=hook.get("timeout_s", 20), check=False)
        note = {"event": event, "run": run, "exit": done.returncode,
                "stderr": done.stderr[-2000:]}
        if done.returncode == 0 and done.stdout.strip().startswith("{"):
            Deep.merge(thing, json.loads(done.stdout))
        with open(os.path.join(self.dir, "hooks.jsonl"), "a", encoding="utf-8") as f:
            f.write(json.dumps(note) + "\n")

    def record(self, entry):
        with self.lock:
            entry["n"] = len(self.log) + 1
            self.log.append(entry)
            self.log_file.write(json.dumps(entry) + "\n")
            self.log_file.flush()

    def forget_log(self):
        with self.lock:
            self.log.clear()
            self.log_file.seek(0)
            self.log_file.truncate()


def mac_digest(mac):
    return hashlib.sha256(mac.encode()).hexdigest()
