"""What operators did: a line for each act that has changed something, written with its change; what was done in slices has several, and is read as one."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from msgspec import UNSET, Raw
from msgspec.structs import fields, replace

from bunqueue_trio.engine.before import Before
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.trails import ACTIONS
from bunqueue_trio.protocol.caller import By
from bunqueue_trio.protocol.catalog import CATALOG, SPECS
from bunqueue_trio.protocol.commands import ChangeSchedule, Command, CronDelete, DeleteSchedule, Push, RetryDlq
from bunqueue_trio.protocol.lines import Action
from bunqueue_trio.protocol.replies import PushReply, Reply

_encode = msgspec.json.Encoder().encode
_OF_WORKERS = frozenset(spec.command for spec in CATALOG if spec.http and spec.http.path.startswith("/workers/"))
_fields = functools.cache(fields)
"""The fields of a kind of command: to find them costs more than all else that a slice of an act writes down."""
_NAMED = frozenset({"queue", "id", "job_id", "token", "req_id"})
_AGAIN = frozenset(spec.tag for spec in CATALOG if spec.sliced)
"""What is done in slices, or by sending it again until nothing is left."""
_BY_CURSOR = frozenset({"ActOnJobs", "Clean"})
"""Whoever goes on with these says where; without that it is done once more."""
_OWN = frozenset({"after", "limit"})
"""Fields of a slice that are not those of its act."""
_APART_MS, _WAITED_MS = 10_000, 60_000
"""A slice and the one before it are no further apart; one that says where it goes on may have waited."""


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
    sent = _sent(command)
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


def note_push(engine: Engine, command: Command, reply: Reply, now: int, by: By) -> None:
    """Write down that ``by`` has pushed a job by hand."""
    if isinstance(command, Push) and isinstance(reply, PushReply):
        action = Action(
            at=now, who=by.who, address=by.address, command="Push", queue=command.queue, job=reply.id,
            fields=_sent(command), count=1,
        )  # fmt: skip
        engine.trails.add(ACTIONS, "", now, _encode(action))


def _sent(command: Command) -> dict[str, object]:
    """Return the fields of ``command`` that somebody has said, but for payloads and what an act has fields of its own for."""
    return {
        f.encode_name: value
        for f in _fields(type(command))
        if f.name not in _NAMED
        and (value := getattr(command, f.name)) != f.default
        # No list is said by an empty one.
        and value != []
        and not isinstance(value, Raw)
    }


class Part(NamedTuple):
    """The beginning of a list of acts, newest first, with the slices of each as one; and how many lines it is made of."""

    acts: list[Action]
    lines: int
    is_cut: bool = False
    """Some lines of an act are in it, and others are not."""


class _Folded:
    """An act, as far as its lines were read: newest first, so that the last one is of its first slice."""

    __slots__ = ("act", "count", "first", "is_sliced", "last", "slices")

    def __init__(self, place: int, act: Action, *, is_sliced: bool) -> None:
        self.act = act
        self.first = self.last = place
        self.is_sliced = is_sliced
        self.count, self.slices = act.count, 1

    def may_go_on(self, at: int) -> bool:
        """Return whether a line written ``at`` that moment may be of a slice before those that were read."""
        if not self.is_sliced:
            return False
        if "after" in self.act.fields:
            return self.act.at - at <= _WAITED_MS
        return self.act.command not in _BY_CURSOR and self.act.at - at <= _APART_MS

    def add(self, place: int, act: Action) -> None:
        """Add the line of the slice before."""
        self.act, self.last = act, place
        self.count += act.count
        self.slices += 1

    def whole(self) -> Action:
        """Return the act: as it began, with the sum of all."""
        return self.act if self.slices == 1 else replace(self.act, count=self.count, slices=self.slices)


def fold(lines: Sequence[Action], limit: int, *, is_all: bool) -> Part:
    """Return at most ``limit`` acts from the beginning of ``lines``; ``is_all``: nothing older is kept.

    An act of which some lines may follow is left to the next page, unless it is all that there is. Each stands where it began: others may have acted meanwhile.
    """
    found = _folded(lines)
    oldest = lines[-1].at if lines else 0
    begun = sorted((each.first, 1) for each in found)
    ended = sorted((each.last, -1) for each in found if is_all or not each.may_go_on(oldest))
    first = [0] * (len(lines) + 1)
    for place, step in (*begun, *ended):
        # Behind its last line, and from behind its first one on.
        first[place + 1] += step
    wanted = longest = rows = under_way = 0
    starts = {place for place, _ in begun}
    for length in range(1, len(lines) + 1):
        rows += length - 1 in starts
        under_way += first[length]
        if rows > limit:
            break
        longest = length
        if not under_way:
            wanted = length
    if not wanted:
        return Part(_whole(_folded(lines[:longest])), longest, is_cut=longest > 0)
    return Part(_whole([each for each in found if each.last < wanted]), wanted)


def _folded(lines: Sequence[Action]) -> list[_Folded]:
    found: list[_Folded] = []
    open_: dict[tuple[object, ...], _Folded] = {}
    for place, act in enumerate(lines):
        each = _Folded(place, act, is_sliced=act.command in _AGAIN or "after" in act.fields)
        if each.is_sliced:
            rest = {name: value for name, value in act.fields.items() if name not in _OWN}
            # A text is found at once; the order of fields is that of the command.
            key = (act.who, act.address, act.command, act.queue, act.job, str(rest))
            newer = open_.get(key)
            if newer is not None and newer.may_go_on(act.at):
                newer.add(place, act)
                continue
            open_[key] = each
        found.append(each)
    return found


def _whole(found: list[_Folded]) -> list[Action]:
    return [each.whole() for each in sorted(found, key=lambda each: each.last)]
