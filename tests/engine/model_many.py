"""What the naive queue finds by a filter, and does to what it finds; of unfinished jobs, since which records there are is a matter of commits."""

import json
from typing import Any
from unittest.mock import ANY

import msgspec

from bunqueue_trio.protocol import commands as c
from tests.engine.model import No, Record, Reply

ORDER = ["active", "waiting", "delayed", "waiting-children"]
USUAL = {"promote": ["delayed"], "priority": ORDER[1:], "move": ORDER[1:], "cancel": ORDER, "discard": ORDER}


def listed(said: Any) -> list[str] | None:
    return [said] if isinstance(said, str) else said


def is_wanted(job: Record, said: Any, now: int, as_of: int | None = None) -> bool:
    if as_of is not None and as_of < job.created <= now:
        return False
    data = msgspec.json.encode(job.spec.data).decode()
    return (
        (said.tag is None or said.tag in job.spec.tags)
        and (said.group_id is None or said.group_id == job.spec.group_id)
        and (said.id_prefix is None or job.id[: len(said.id_prefix)] == said.id_prefix)
        and (said.error is None or said.error in (job.error or ""))
        and (said.text is None or said.text in data)
        and (said.older is None or job.created <= now - said.older)
        and (said.newer is None or job.created >= now - said.newer)
        and (said.attempts is None or said.attempts <= job.attempts)
        and (said.owner is None or (job.state == "active" and said.owner == job.owner))
    )


def chosen(
    model: Any, said: Any, states: list[str], limit: int, now: int, after: str | None = None
) -> tuple[list[Record], int, bool]:
    """Those that are found, how many were looked at, and whether there are more. Behind a cursor are those that were not looked at for it."""
    model.looked_at = set() if after is None else model.looked_at
    for name in listed(said.queue) or []:
        model.check_queue(name)
    queues = sorted(set(listed(said.queue) or [job.queue for job in model.jobs]))
    found: list[Record] = []
    looked = 0
    for state in (state for state in ORDER if state in states):
        for queue in queues:
            jobs = model.standing(queue, state)
            if state == "active":
                jobs.sort(key=lambda job: (job.last, job.serial))
            for job in jobs:
                if job.serial in model.looked_at:
                    continue
                if is_wanted(job, said, now):
                    if len(found) == limit:
                        return found, looked, True
                    found.append(job)
                looked += 1
                model.looked_at.add(job.serial)
    return found, looked, False


def view(model: Any, job: Record) -> Reply:
    fields = (
        "id queue data priority createdAt runAt startedAt completedAt attempts maxAttempts backoff progress tags lifo "
        "removeOnComplete removeOnFail"
    )
    return json.loads(json.dumps(model.view(job, fields))) | {"state": job.state, "error": job.error, "reason": None}


def find(model: Any, command: c.FindJobs, now: int, owner: str | None) -> Reply:
    if command.count:
        jobs, looked, _ = chosen(model, command, listed(command.state) or ORDER, 10**9, now)
        is_kept = all(
            getattr(command, name) is None for name in c.Filter.__struct_fields__ if name not in ("queue", "state")
        )
        return {"jobs": [], "count": len(jobs), "scanned": 0 if is_kept else looked, "complete": True, "next": None}
    jobs, looked, more = chosen(model, command, listed(command.state) or ORDER, command.limit, now)
    told = [view(model, job) for job in jobs]
    return {"jobs": told, "scanned": looked, "complete": True, "next": ANY if more else None}


def forbidden(job: Record, command: c.ActOnJobs) -> str | None:
    if command.action == "promote":
        return None if job.state == "delayed" else "not-delayed"
    if job.state not in ORDER:
        return "job-not-found"
    may_be_active = command.force and command.action in ("cancel", "discard")
    return "is-active" if job.state == "active" and not may_be_active else None


def check(model: Any, command: c.ActOnJobs) -> None:
    """What is refused as a whole."""
    if not any(msgspec.structs.astuple(command.filter)):
        raise No(400, "filter must say something")
    if command.action != "cancel" and (command.reason, command.by, command.grace) != (None, None, None):
        raise No(400, "reason, by and grace are for the action cancel")
    if command.action == "move" and command.to is None:
        raise No(400, "to is required")
    if command.action != "move" and command.to is not None:
        raise No(400, "to is for the action move")
    if command.to is not None:
        model.check_queue(command.to)


def is_so(job: Record, command: c.ActOnJobs, now: int) -> bool:
    """Whether it would change nothing of a job."""
    if command.action == "priority":
        return job.spec.priority == command.priority
    if command.action == "move":
        return job.queue == command.to
    if not (command.action == "cancel" and command.force and job.called_off and command.grace):
        return False
    first, until = job.called_off, now + command.grace
    says = (first["reason"], first["by"]) == (None, None) and (command.reason, command.by) != (None, None)
    return until >= first["until"] and not says


def act(model: Any, command: c.ActOnJobs, now: int, owner: str | None) -> Reply:
    check(model, command)
    states = listed(command.filter.state) or USUAL[command.action]
    jobs, looked, more = chosen(model, command.filter, states, command.limit, now, command.after)
    examples: list[Any] = []
    done, ending, refused = 0, 0, dict[str, int]()
    for job in jobs:
        if is_so(job, command, now):
            continue
        code = forbidden(job, command)
        if code is None and command.action == "move" and job.key is not None:
            is_held = any(other.queue == command.to and other.key == job.key for other in model.jobs)
            code = "key-held" if is_held else None
        if code is not None:
            refused[code] = refused.get(code, 0) + 1
            continue
        done += 1
        examples += [view(model, job)] if done <= 3 else []
        ending += bool(command.grace and job.state == "active")
        if not command.dry_run:
            DO[command.action](model, job, command, now)
    return {
        "count": done,
        "ending": ending,
        "refused": refused,
        "scanned": looked,
        "examples": examples,
        "next": ANY if more else None,
    }


def promote(model: Any, job: Record, command: c.ActOnJobs, now: int) -> None:
    job.run_at = now
    model.queue_up(job)
    model.tell("promoted", now, queue=job.queue, jobId=job.id)


def discard(model: Any, job: Record, command: c.ActOnJobs, now: int) -> None:
    job.cause, job.started = "discarded", job.last
    model.bury(job, "Discarded", now, wanted=True)


def cancel(model: Any, job: Record, command: c.ActOnJobs, now: int) -> None:
    model.cancel_one(job, command, now)


def reorder(model: Any, job: Record, command: c.ActOnJobs, now: int) -> None:
    assert command.priority is not None
    model.tell("updated", now, queue=job.queue, jobId=job.id)
    job.spec = msgspec.structs.replace(job.spec, priority=command.priority)


def move(model: Any, job: Record, command: c.ActOnJobs, now: int) -> None:
    assert command.to is not None
    before, job.queue = job.queue, command.to
    if job.state == "waiting":
        model.queue_up(job)
    model.tell("updated", now, queue=before, jobId=job.id, reason=f"moved to {job.queue}")
    model.tell("updated", now, queue=job.queue, jobId=job.id, reason=f"moved from {before}")


DO: dict[str, Any] = {"promote": promote, "discard": discard, "cancel": cancel, "priority": reorder, "move": move}
ANSWERS: dict[type[c.Command], Any] = {c.FindJobs: find, c.ActOnJobs: act}
