"""What an act is about to change: the values before it, by the names of the fields that bring them back."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import fields

from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.commands import Command

BYTES_MAX = 4096
"""Of one: an act is a line of a log, and a schedule may carry a large payload."""

# Options of which none was said.
_NOTHING = Raw(b"{}")
Ask = Callable[[Command], Any]
"""Returns what a command that only reads finds."""
Before = dict[str, object]


def before(engine: Engine, command: Command, ask: Ask) -> Before | None:
    """Return what an act would change as it is now; None: it is of no kind that is brought back so, or that is too large."""
    look = LOOKS.get(type(command))
    if look is None:
        return None
    try:
        was = look(engine, command, ask)
    except (Refused, UnicodeDecodeError):
        # The act will be, too; or a payload that no text can hold.
        return None
    return was if len(msgspec.json.encode(was)) <= BYTES_MAX else None


def _settings(get: type[Command], of: str) -> Callable[[Engine, Any, Ask], Before]:
    """Return what looks at the settings of a queue that a command names, or at all that were set; None is as everywhere."""

    def look(engine: Engine, command: Any, ask: Ask) -> Before:
        reply = ask(get(queue=command.queue))  # type: ignore[call-arg]
        values: Mapping[str, object] = msgspec.to_builtins(getattr(reply, of))
        said = getattr(command, "config", None) or command
        names = [
            f.encode_name for f in fields(said) if f.encode_name in values and getattr(said, f.name) is not f.default
        ]
        return {name: values[name] if name in reply.set else None for name in names or reply.set}

    return look


def _pause(engine: Engine, command: Any, ask: Ask) -> Before:
    gate = engine.gates.get(command.queue)
    pause = None if gate is None else gate.pause
    return {"paused": False} if pause is None else {"paused": True, "reason": pause.reason, "until": pause.until}


def _concurrency(engine: Engine, command: Any, ask: Ask) -> Before:
    return {"concurrency": ask(c.GetConcurrency(queue=command.queue)).concurrency}


def _rate(engine: Engine, command: Any, ask: Ask) -> Before:
    found = ask(c.GetRateLimit(queue=command.queue))
    if found.limit is None:
        return {"limit": None}
    was: Before = {"limit": found.limit, "duration": found.duration}
    if found.until is not None:
        was["until"] = found.until
    return was


def _mark(engine: Engine, command: Any, ask: Ask) -> Before:
    mark = engine.marks.get(command.fingerprint)
    return {"mark": "none" if mark is None else mark.mark}


def _priority(engine: Engine, command: Any, ask: Ask) -> Before:
    job = engine.jobs.find(command.id)
    if job is None:
        return {}
    was: Before = {"priority": job.priority}
    return was if command.lifo is None else was | {"lifo": job.options.lifo}


def _schedule(engine: Engine, command: Any, ask: Ask) -> Before:
    """Return the fields of the command that puts it as it is, the payload as a text: its numbers stay as they were sent."""
    if command.name not in engine.planner.plans:
        return {"there": False}
    view = ask(c.GetSchedule(name=command.name)).schedule
    put = c.PutSchedule(name=view.name, queue=view.queue)
    was = {
        f.encode_name: getattr(view, f.name)
        for f in fields(put)
        if hasattr(view, f.name)
        and f.name not in ("name", "data")
        and getattr(view, f.name) not in (f.default, _NOTHING)
    }
    paused = {"paused": True} if view.state == "paused" and isinstance(command, c.DeleteSchedule | c.CronDelete) else {}
    return {"there": True, **was, "data": bytes(view.data).decode()} | paused


LOOKS: Mapping[type[Command], Callable[[Engine, Any, Ask], Before]] = {
    c.SetDefaults: _settings(c.GetDefaults, "defaults"),
    c.ClearDefaults: _settings(c.GetDefaults, "defaults"),
    c.SetStallConfig: _settings(c.GetStallConfig, "config"),
    c.ClearStallConfig: _settings(c.GetStallConfig, "config"),
    c.SetDlqConfig: _settings(c.GetDlqConfig, "config"),
    c.ClearDlqConfig: _settings(c.GetDlqConfig, "config"),
    c.Pause: _pause,
    c.Resume: _pause,
    c.SetConcurrency: _concurrency,
    c.ClearConcurrency: _concurrency,
    c.RateLimit: _rate,
    c.RateLimitClear: _rate,
    c.MarkGroup: _mark,
    c.ChangePriority: _priority,
    c.PutSchedule: _schedule,
    c.ChangeSchedule: _schedule,
    c.DeleteSchedule: _schedule,
    c.Cron: _schedule,
    c.CronDelete: _schedule,
}
