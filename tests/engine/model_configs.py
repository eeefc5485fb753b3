"""How queues treat their jobs where nobody says it, by the naive queue of ``model.py``."""

import json
from dataclasses import replace
from typing import Any

import msgspec
from msgspec import UNSET

from bunqueue_trio.protocol import commands as c
from tests.engine.model import Record, Reply

Said = dict[str, Any]


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
    self.said[command.queue] = told(self.said.get(command.queue, {}), command, names)
    return {}


def told(said: Said, given: Any, names: tuple[str, ...]) -> Said:
    """What holds after something was said: None is as everywhere, and what was left out stays as it was."""
    values = {name: getattr(given, name) for name in names}
    new = said | {name: value for name, value in values.items() if value is not UNSET}
    return {name: value for name, value in new.items() if value is not None}


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
        },
        "set": named(
            self.said.get(command.queue, {}),
            ("max_attempts", "backoff", "ttl", "timeout", "remove_on_complete", "remove_on_fail"),
        ),
    }  # fmt: skip


def set_stalls(self: Any, command: c.SetStallConfig, now: int, owner: str | None) -> Reply:
    self.check_queue(command.queue)
    names = ("enabled", "stall_interval", "max_stalls", "grace_period")
    rules = self.stall_rules
    rules[command.queue] = told(rules.get(command.queue, {}), command.config or command, names)
    return {}


def clear_stalls(self: Any, command: c.ClearStallConfig, now: int, owner: str | None) -> Reply:
    self.check_queue(command.queue)
    self.stall_rules.pop(command.queue, None)
    return {}


def get_stalls(self: Any, command: c.GetStallConfig, now: int, owner: str | None) -> Reply:
    self.check_queue(command.queue)
    said = self.stall_rules.get(command.queue, {})
    return {
        "config": {
            "enabled": said.get("enabled", True), "stallInterval": said.get("stall_interval", self.lease),
            "maxStalls": said.get("max_stalls", self.stalls_max), "gracePeriod": said.get("grace_period", 0),
        },
        "set": named(said, ("enabled", "stall_interval", "max_stalls", "grace_period")),
    }  # fmt: skip


def named(said: Said, names: tuple[str, ...]) -> list[str]:
    """Which of them were said, as JSON has them."""
    words = [name.split("_") for name in names if name in said]
    return [first + "".join(map(str.capitalize, rest)) for first, *rest in words]


def set_dead(self: Any, command: c.SetDlqConfig, now: int, owner: str | None) -> Reply:
    self.check_queue(command.queue)
    key = "dead " + command.queue
    before = self.said.get(key, {})
    after = told(before, command.config or command, DEAD)
    if after.get("auto_retry"):
        after.setdefault("since", now)
        if not before.get("auto_retry"):
            after["since"] = now
            known = {(job.id, job.serial) for job in self.committed()}
            for job in [job for job in self.ended if job.queue == command.queue and (job.id, job.serial) in known]:
                passed(self, job)
    self.said[key] = after
    return {}


DEAD = ("auto_retry", "auto_retry_interval", "max_auto_retries", "max_age", "max_entries")
USUAL = {"auto_retry": False, "auto_retry_interval": 3_600_000, "max_auto_retries": 3}


def returns_at(self: Any, dead: Record) -> int | None:
    """When a dead letter waits again by itself, if it does and nothing stands in its way."""
    said = USUAL | self.said.get("dead " + dead.queue, {})
    assert dead.finished is not None
    if not said["auto_retry"] or dead.passed or dead.finished < said["since"]:
        return None
    if dead.returns >= said["max_auto_retries"] or dead.cause in ("cancelled", "discarded", "unrecoverable"):
        return None
    return dead.finished + said["auto_retry_interval"]


def passed(self: Any, job: Record) -> None:
    """Its time has come and gone; a record of a moment before stays as it was."""
    self.ended[self.ended.index(job)] = replace(job, passed=True)


def return_dead(self: Any, queue: str, now: int, order: list[str], most: int = 1_000_000) -> None:
    """Let those of a queue wait again whose time has come, in the order in which they are kept."""
    said = USUAL | self.said.get("dead " + queue, {})
    if not said["auto_retry"]:
        return
    known = {(job.id, job.serial) for job in self.committed()}
    dead = [job for job in self.ended if job.queue == queue and job.state == "failed" and not job.passed]
    dead = [job for job in dead if (job.id, job.serial) in known]
    for job in sorted(dead, key=lambda job: order.index(job.id))[:most]:
        if job.finished + said["auto_retry_interval"] > now:
            break
        may = returns_at(self, job) is not None
        passed(self, job)
        if not may or self.is_held(job):
            continue
        if any(other.id in job.depends and other.state == "failed" for other in self.ended):
            continue
        self.retry(c.RetryDlq(queue=queue, job_id=job.id), now, None)
        again = self.jobs[-1]
        again.returns = job.returns + 1
        why = (job.error or "").strip().split("\n")[0][:500]
        text = f"Retried by the server, {again.returns} of {said['max_auto_retries']}, after: {why}"
        again.lines = ((self.taken, {"timestamp": now, "level": "info", "message": text}),)
        self.totals["auto_retried"] += 1


def clear_dead(self: Any, command: c.ClearDlqConfig, now: int, owner: str | None) -> Reply:
    self.check_queue(command.queue)
    self.said.pop("dead " + command.queue, None)
    return {}


def get_dead(self: Any, command: c.GetDlqConfig, now: int, owner: str | None) -> Reply:
    self.check_queue(command.queue)
    said = self.said.get("dead " + command.queue, {})
    full = USUAL | said
    config = {
        "autoRetry": full["auto_retry"], "autoRetryInterval": full["auto_retry_interval"], "maxAutoRetries": full["max_auto_retries"],
        "maxAge": said.get("max_age"), "maxEntries": said.get("max_entries"),
    }  # fmt: skip
    return {"config": config, "set": named(said, DEAD)}


ANSWERS = {
    c.SetDlqConfig: set_dead,
    c.ClearDlqConfig: clear_dead,
    c.GetDlqConfig: get_dead,
    c.SetDefaults: set_defaults,
    c.ClearDefaults: clear_defaults,
    c.GetDefaults: get_defaults,
    c.SetStallConfig: set_stalls,
    c.ClearStallConfig: clear_stalls,
    c.GetStallConfig: get_stalls,
}
