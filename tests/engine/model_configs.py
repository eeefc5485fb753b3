"""How queues treat their jobs where nobody says it, by the naive queue of ``model.py``."""

import json
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET

from bunqueue_trio.protocol import commands as c
from tests.engine.model import No, Reply

Said = dict[str, Any]


@dataclass(frozen=True)
class Stalls:
    """When the jobs of a queue stall, as it was said."""

    enabled: bool | None
    interval: int | None
    most: int | None
    grace: int | None


def filled(spec: c.JobSpec, said: Said) -> c.JobSpec:
    """Return what is pushed, with all that was left out."""
    standard = {"max_attempts": 3, "backoff": 1000, "remove_on_complete": False, "remove_on_fail": False}
    changes = {
        name: said.get(name, value) for name, value in standard.items() if getattr(spec, name) is UNSET
    }  # fmt: skip
    changes |= {name: said.get(name) for name in ("ttl", "timeout") if getattr(spec, name) is None}
    return msgspec.structs.replace(spec, **changes)


def set_defaults(self: Any, command: c.SetDefaults, now: int, owner: str | None) -> Reply:
    self.check_queue(command.queue)
    names = ("max_attempts", "backoff", "ttl", "timeout", "remove_on_complete", "remove_on_fail")
    self.said[command.queue] = {
        name: value for name in names if (value := getattr(command, name)) is not None
    }  # fmt: skip
    return {}


def clear_defaults(self: Any, command: c.ClearDefaults, now: int, owner: str | None) -> Reply:
    self.check_queue(command.queue)
    self.said.pop(command.queue, None)
    return {}


def get_defaults(self: Any, command: c.GetDefaults, now: int, owner: str | None) -> Reply:
    self.check_queue(command.queue)
    spec = filled(c.JobSpec(), self.said.get(command.queue, {}))
    backoff = json.loads(msgspec.json.encode(spec.backoff))
    return {
        "defaults": {
            "maxAttempts": spec.max_attempts, "backoff": backoff, "ttl": spec.ttl, "timeout": spec.timeout or None,
            "removeOnComplete": spec.remove_on_complete, "removeOnFail": spec.remove_on_fail,
        }
    }  # fmt: skip


def set_stalls(self: Any, command: c.SetStallConfig, now: int, owner: str | None) -> Reply:
    self.check_queue(command.queue)
    said = command.config or command
    self.stall_rules[command.queue] = Stalls(said.enabled, said.stall_interval, said.max_stalls, said.grace_period)
    return {}


def get_stalls(self: Any, command: c.GetStallConfig, now: int, owner: str | None) -> Reply:
    self.check_queue(command.queue)
    said = self.stall_rules.get(command.queue, Stalls(None, None, None, None))
    return {
        "config": {
            "enabled": said.enabled in (None, True), "stallInterval": said.interval or self.lease,
            "maxStalls": self.stalls_max if said.most is None else said.most, "gracePeriod": said.grace or 0,
        }
    }  # fmt: skip


def set_dead(self: Any, command: c.SetDlqConfig, now: int, owner: str | None) -> Reply:
    self.check_queue(command.queue)
    said = command.config or command
    if said.auto_retry:
        raise No(400, "autoRetry is not there: a rerun retries a few first, and the others if those do well")
    self.said.setdefault("dead " + command.queue, {}).update(age=said.max_age, most=said.max_entries)
    return {}


def get_dead(self: Any, command: c.GetDlqConfig, now: int, owner: str | None) -> Reply:
    self.check_queue(command.queue)
    said = self.said.get("dead " + command.queue, {})
    return {"config": {"autoRetry": False, "maxAge": said.get("age"), "maxEntries": said.get("most")}}


ANSWERS = {
    c.SetDlqConfig: set_dead,
    c.GetDlqConfig: get_dead,
    c.SetDefaults: set_defaults,
    c.ClearDefaults: clear_defaults,
    c.GetDefaults: get_defaults,
    c.SetStallConfig: set_stalls,
    c.GetStallConfig: get_stalls,
}
