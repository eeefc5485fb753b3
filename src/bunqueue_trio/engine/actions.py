"""What operators did: a line for each act that has changed something, written with its change."""

import functools

import msgspec
from msgspec import UNSET, Raw
from msgspec.structs import fields

from bunqueue_trio.engine.before import Before
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.trails import ACTIONS
from bunqueue_trio.protocol.caller import By
from bunqueue_trio.protocol.catalog import CATALOG, SPECS
from bunqueue_trio.protocol.commands import ChangeSchedule, Command, CronDelete, DeleteSchedule, RetryDlq
from bunqueue_trio.protocol.lines import Action
from bunqueue_trio.protocol.replies import Reply

_encode = msgspec.json.Encoder().encode
_OF_WORKERS = frozenset(spec.command for spec in CATALOG if spec.http and spec.http.path.startswith("/workers/"))
_fields = functools.cache(fields)
"""The fields of a kind of command: to find them costs more than all else that a slice of an act writes down."""
_NAMED = frozenset({"queue", "id", "job_id", "token", "req_id"})


def _is_another(command: Command, was: Before) -> bool:
    """Return whether a schedule gets another payload than it had."""
    data = bytes(getattr(command, "data", b""))
    is_said = bool(data) or not isinstance(command, ChangeSchedule | DeleteSchedule | CronDelete)
    return is_said and (data.decode(errors="replace") or "null") != (was["data"] or "null")


def worker_of(engine: Engine, command: Command) -> str | None:
    """Return the name of the worker that ``command`` is about, which may be gone after it; None: it is about none, or that has none."""
    if type(command) not in _OF_WORKERS:
        return None
    worker = engine.workers.get(getattr(command, "id", ""))
    # An id says nothing to people, and a worker may be gone when it is read.
    return None if worker is None or worker.name == worker.id else worker.name


def note_action(
    engine: Engine, command: Command, reply: Reply, now: int, by: By, was: Before | None, worker: str | None
) -> None:  # fmt: skip
    """Write down that ``by`` sent ``command``, about a ``worker`` of this name, and what was before it, unless it has changed nothing."""
    count: int = getattr(reply, "count", 1)
    changed = engine.acted if engine.acted is not None else count > 0
    if not changed or getattr(command, "token", None) is not None:
        return
    sent = {
        f.encode_name: value
        for f in _fields(type(command))
        if f.name not in _NAMED and (value := getattr(command, f.name)) != f.default and not isinstance(value, Raw)
    }
    is_other = (
        bool(bytes(command.data))
        if isinstance(command, RetryDlq)
        else was is not None and "data" in was and _is_another(command, was)
    )
    if is_other:
        # What it is may be large, and a secret.
        sent["data"] = "another"
    named = getattr(command, "id", None) or getattr(command, "job_id", None)
    is_worker = type(command) in _OF_WORKERS
    if worker is not None:
        sent["name"] = worker
    action = Action(
        at=now, who=by.who, address=by.address, command=SPECS[type(command)].tag,
        queue=getattr(command, "queue", None) or None, job=None if is_worker else named,
        worker=named if is_worker else None, fields=sent, count=count,
        before=UNSET if was is None else was,
    )  # fmt: skip
    engine.trails.add(ACTIONS, "", now, _encode(action))
