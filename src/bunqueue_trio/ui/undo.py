"""What takes an act back: the action that brings what was before it, filled in."""

import json
from collections.abc import Mapping
from typing import Any

from msgspec import UNSET

from bunqueue_trio.errors import Refused
from bunqueue_trio.pages import acts
from bunqueue_trio.pages.queue_settings import NAMED, typed
from bunqueue_trio.pages.words import typed_ms
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.lines import Action
from bunqueue_trio.ui.actions import Bound, bind
from bunqueue_trio.ui.ask import Ask
from bunqueue_trio.ui.restoring import can_be_said

TOPICS: Mapping[str, str] = {
    "Pause": "pause", "Resume": "pause", "SetConcurrency": "limit", "ClearConcurrency": "limit", "RateLimit": "rate", "RateLimitClear": "rate",
    "SetDefaults": "defaults", "ClearDefaults": "defaults", "SetStallConfig": "stalls", "ClearStallConfig": "stalls", "SetDlqConfig": "dead",
    "ClearDlqConfig": "dead", "QuietWorker": "quiet", "UnquietWorker": "quiet", "PauseSchedule": "schedule-pause", "ResumeSchedule": "schedule-pause",
    "PutSchedule": "schedule", "ChangeSchedule": "schedule", "DeleteSchedule": "schedule", "Cron": "schedule", "CronDelete": "schedule", "ChangePriority": "priority",
    "Cancel": "job", "RetryDlq": "job", "MarkGroup": "mark",
}  # fmt: skip
"""Acts whose newest one is in force, by what they are about; each but the retry of a dead letter can be taken back."""


async def undo(ask: Ask, act: Action, later: set[tuple[str, str]]) -> Bound | None:
    """Return the command that takes an act back; ``later`` has what newer acts were about, and this one's is added."""
    topic = TOPICS.get(act.command)
    if topic is None:
        return None
    about = (topic, _group(act) if topic == "mark" else act.worker or acts.of(act))
    if about in later:
        return None
    later.add(about)
    found = await _undo(ask, act, topic) if act.count else None
    return None if found is None else bind(ask, found[0], "Undo", **found[1])


async def _undo(ask: Ask, act: Action, topic: str) -> tuple[str, dict[str, str]] | None:
    """Return the action, and its form."""
    was, queue = acts.before(act), {"queue": act.queue or ""}
    if topic == "pause":
        return _pause(ask, act, was)
    if topic == "limit":
        former = was.get("concurrency")
        return ("unlimit", queue) if former is None else ("limit", queue | {"number": str(former)})
    if topic == "rate":
        until = was.get("until")
        if was.get("limit") is None or (until is not None and until <= ask.now):
            return "unrate", queue
        if until is not None:
            return None
        return "rate", queue | {"limit": str(was["limit"]), "time": typed_ms(was["duration"])}
    if topic in ("defaults", "stalls", "dead"):
        texts = {name: typed(NAMED[name], value) for name, value in was.items()}
        said = {name: text for name, text in texts.items() if text is not None}
        return (f"set-{topic}", queue | said) if texts and len(said) == len(texts) else None
    if topic == "quiet":
        return "unquiet" if act.command == "QuietWorker" else "quiet", {"id": act.worker or ""}
    if topic == "schedule-pause":
        return "resume-schedule" if act.command == "PauseSchedule" else "pause-schedule", {
            "name": acts.schedule_of(act)
        }
    if topic == "mark":
        # An error that was fixed and had come back is fixed again by the same word: that is no other state to go back to.
        mark = was.get("mark")
        name = _MARKS.get(str(mark)) if mark != act.fields.get("mark") else None
        return None if name is None else (name, {"fingerprint": _group(act)})
    return _schedule(ask, act, was) if topic == "schedule" else await _job(ask, act, was)


_MARKS = {"none": "unmark-group", "fixed": "fix-group", "muted": "mute-group"}


def _group(act: Action) -> str:
    return str(act.fields.get("fingerprint", ""))


def _pause(ask: Ask, act: Action, was: Mapping[str, Any]) -> tuple[str, dict[str, str]] | None:
    queue = {"queue": act.queue or ""}
    if not was.get("paused"):
        return ("resume", queue) if act.command == "Pause" else None
    until = was.get("until")
    if until is not None and until <= ask.now:
        return None
    left = "" if until is None else f"{max(1, (until - ask.now) // 1000)}s"
    return "pause", queue | {"reason": was.get("reason") or "", "until": left}


def _schedule(ask: Ask, act: Action, was: Mapping[str, Any]) -> tuple[str, dict[str, str]] | None:
    name = {"name": acts.schedule_of(act)}
    if act.before is UNSET:
        return None
    if not was["there"]:
        return "delete-schedule", name
    if was.get("paused"):
        # It would run: a schedule cannot be put and paused in one act.
        return None
    put = {key: value for key, value in was.items() if key != "there"}
    return ("restore-schedule", name | {"as": json.dumps(put)}) if can_be_said(put, ask.mask) else None


async def _job(ask: Ask, act: Action, was: Mapping[str, Any]) -> tuple[str, dict[str, str]] | None:
    """Return what takes an act on one job back, if it is still there to be changed."""
    try:
        job = (await ask.look(c.GetJob(id=act.job or ""))).job
        state = (await ask.look(c.GetState(id=job.id))).state
    except Refused:
        return None
    if job.created_at > act.at:
        # Another one, which has its id.
        return None
    about = {"queue": job.queue, "id": job.id}
    if act.command == "Cancel":
        # In its grace a job may still have died of something else, and then it was not this act.
        return ("retry", about) if (await ask.look(c.Why(id=job.id))).code == "cancelled" else None
    moved = "lifo" in was and was["lifo"] != act.fields.get("lifo")
    if (
        act.command == "ChangePriority"
        and "priority" in was
        and not moved
        and state in ("waiting", "delayed", "waiting-children")
    ):
        return "priority", about | {"priority": str(was["priority"])}
    return None
