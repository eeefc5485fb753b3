"""What operators did, as people read it: in the words of the commands, with dates and units, and one line for what took several steps."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from msgspec import UNSET
from msgspec.structs import replace

from bunqueue_trio.pages.queue_settings import NAMED, written
from bunqueue_trio.pages.words import span
from bunqueue_trio.protocol.lines import Action

At = Callable[[int], str]
"""Returns a moment as people read it."""

WORDS: Mapping[str, str] = {
    "Pause": "pause", "Resume": "resume", "SetConcurrency": "limit", "ClearConcurrency": "limit", "RateLimit": "limit --rate",
    "RateLimitClear": "limit --rate", "SetDefaults": "queue --set", "SetStallConfig": "queue --set", "SetDlqConfig": "queue --set",
    "ClearDefaults": "queue --reset defaults", "ClearStallConfig": "queue --reset stalls", "ClearDlqConfig": "queue --reset dead",
    "Cancel": "cancel", "Promote": "promote", "PromoteJobs": "promote", "Discard": "discard", "ChangePriority": "change --priority",
    "ChangeDelay": "change --delay", "MoveToDelayed": "change --delay", "MoveToWait": "move to wait", "Update": "change --data",
    "ClearLogs": "clear logs", "RetryDlq": "retry", "PurgeDlq": "purge", "RerunDlq": "rerun", "StopRerun": "reruns stop", "MarkGroup": "mark",
    "Drain": "drain", "Clean": "clean", "Obliterate": "obliterate", "PutSchedule": "schedules put", "Cron": "schedules put",
    "DeleteSchedule": "schedules delete", "CronDelete": "schedules delete", "PauseSchedule": "schedules pause",
    "ResumeSchedule": "schedules resume", "RunSchedule": "schedules run", "QuietWorker": "workers quiet", "UnquietWorker": "workers unquiet",
    "ReleaseWorker": "workers release",
}  # fmt: skip
"""The command → what the command line calls it. ``ActOnJobs`` is called as its action."""
KINDS = tuple(sorted({*WORDS.values(), "change --priority"}))
"""What an act may be called."""

_STEPS = frozenset({"after", "limit", "action", "dryRun", "name"})
"""Fields that say how a program has gone about it, or that stand elsewhere."""
_OF_SCHEDULES = frozenset({"PutSchedule", "Cron", "DeleteSchedule", "CronDelete", "PauseSchedule", "ResumeSchedule", "RunSchedule"})  # fmt: skip
_MOMENTS = frozenset({"until", "start", "end", "at"})
_SPANS = frozenset({
    "delay", "duration", "every", "grace", "jitter", "maxDelay", "newer", "older", "repeatEvery", "timeout", "ttl", "window",
})  # fmt: skip
_CALLED = {
    "fingerprint": "group", "groupId": "group-id", "idPrefix": "id-prefix", "stopAt": "stop-at", "concurrency": "at once", "grace": "older",
}  # fmt: skip
"""Fields that the command line calls otherwise."""


class Said(NamedTuple):
    """An act in words."""

    what: str
    of: str
    """The queue, job, worker or schedule that it was done to; empty if it was done to many."""
    how: str


def what(act: Action) -> str:
    """Return what the command line calls it."""
    if act.command == "ActOnJobs":
        action = str(act.fields.get("action", "act"))
        return "change --priority" if action == "priority" else action
    return WORDS.get(act.command, act.command)


def schedule_of(act: Action) -> str:
    """Return the schedule that it was done to; empty if it was done to none."""
    return str(act.fields.get("name", "")) if act.command in _OF_SCHEDULES else ""


def of(act: Action) -> str:
    """Return what it was done to."""
    return schedule_of(act) or act.job or act.worker or act.queue or ""


def how(act: Action, at: At) -> str:
    """Return the rest of it: what was said, and what was before."""
    was = {} if act.before is UNSET or act.before is None else act.before
    said = []
    for name, value in _flat(act.fields).items():
        if name not in _STEPS and value not in (None, {}, []):
            told = _told(name, value, at)
            before = f" (was {_told(name, was[name], at)})" if name in was and was[name] != value else ""
            said.append(f"{_CALLED.get(name, name)} {told}{before}")
    # What was taken back, or paused anew, is told by what it was.
    said += [
        f"{_CALLED.get(name, name)} was {_told(name, value, at)}"
        for name, value in was.items()
        if name not in _flat(act.fields) and name not in ("there", "paused", "queue", "data") and value is not None
    ]
    if act.job and act.queue:
        said.append(f"queue {act.queue}")
    return "; ".join(said)


def _flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields with those of the filter, or of a configuration, in its place."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        found |= value if name in ("filter", "config") and isinstance(value, dict) else {name: value}
    return found


def _told(name: str, value: Any, at: At) -> str:
    if value is None:
        return "none"
    if name in NAMED and not isinstance(value, str):
        return written(NAMED[name], value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if type(value) is int and name in _MOMENTS:
        return at(value)
    if type(value) is int and name in _SPANS:
        return span(value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_told(key, each, at)}" for key, each in value.items() if each is not None)
    if isinstance(value, list):
        return ", ".join(_told(name, each, at) for each in value)
    return f"{value:,}" if type(value) is int else str(value)


def folded(acts: Iterable[Action]) -> Iterator[Action]:
    """Yield acts, newest first; steps of one and the same are one, whose count is the sum of theirs.

    A step behind another one has the cursor ``after``; the first, which is the oldest, has none.
    """
    held: Action | None = None
    for act in acts:
        if held is not None and _key(held) == _key(act):
            act = replace(act, count=act.count + held.count)  # noqa: PLW2901 - it stands for both
        elif held is not None:
            yield held
        held = act if "after" in act.fields else None
        if held is None:
            yield act
    if held is not None:
        yield held


def _key(act: Action) -> tuple[object, ...]:
    rest = {name: value for name, value in act.fields.items() if name not in ("after", "limit")}
    return act.who, act.address, act.command, act.queue, str(sorted(rest.items()))


def is_wanted(act: Action, who: str, kind: str, about: str) -> bool:
    """Return whether an act is looked for: by whom, what (as the command line or the API calls it), and of what; empty: any."""
    if kind and kind not in (what(act), act.command):
        return False
    if who and who not in (act.who, act.address):
        return False
    return not about or about in (act.queue, act.job, act.worker, *map(str, _flat(act.fields).values()))
