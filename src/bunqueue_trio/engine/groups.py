"""Groups of dead letters by the error that they died of: how many, since when, where, and what they have in common; and of those that are tried again.

Counts are kept by the archive, those of jobs that are tried again by the engine. What else is shown of a group is read from a few of its newest records, within a bound for each page.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from itertools import islice
from operator import and_
from typing import NamedTuple

import msgspec
from msgspec import Raw

from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.fingerprint import CANCELLED, fingerprint, work_of
from bunqueue_trio.engine.job import Job, State, weight
from bunqueue_trio.engine.lookup import reason_of
from bunqueue_trio.engine.ranking import FIRST
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.groups import ErrorGroup, GroupExample, InCommon

# Records read for a page, about 10 µs each; the group that passes it is the last.
_LOOKS = 400
# The same where two questions to a store that is a network away are asked of it.
_FAR = 20
# Of the µs that it takes at most to tell what an error is, which nearly none does.
_SHAPED = 30
# Of a queue that is looked into: what is found there is read twice.
_A_QUEUE = 4
# The newest records of a group in one queue that are read.
_SAMPLE = 10
# Queues that are looked into and named of a group, those with most dead letters of it first.
_QUEUES = 100
# Keys of payloads that are named.
_KEYS = 20
# Characters of a key.
_KEY_MAX = 100
# A payload with more bytes is not read for its keys.
_PAYLOAD_MAX = 64 * 1024
# Characters of the example's error: the whole is among the dead letters.
_ERROR_MAX = 1000
# Bytes of a record that cost as much as another one.
_LARGE = 4096

RETRYING = "retrying"
"""Stands for the reason of a job that is not dead."""
# No queue has such a name.
NOBODY = ""
_PLACE = re.compile(r"([0-9]{1,18}),([0-9a-f]{12}|cancelled)")
_OBJECT = msgspec.json.Decoder(dict[str, Raw])


class Page(NamedTuple):
    """Some groups, how many there are, and behind which place the next page begins."""

    groups: list[ErrorGroup]
    total: int
    after: str | None


def groups_page(engine: Engine, queue: str | None, after: str | None, limit: int, *, retrying: bool = False) -> Page:
    """Return groups of the dead letters of a queue, of None all, largest first; as of the last commit.

    With ``retrying`` also those of jobs that are tried again, as they are now.

    Raises:
        Refused: ``after`` is no cursor.
    """
    place = FIRST
    if after is not None:
        found = _PLACE.fullmatch(after)
        if found is None:
            raise c.NOT_A_PLACE.refuse()
        place = (-int(found[1]), found[2])
    dead = engine.archive.dead_groups
    groups = engine.retrying.with_dead(dead) if retrying else dead
    # One more, for whether there is one.
    total, order = groups.count(queue), groups.behind(queue, place, limit + 1)
    told: list[ErrorGroup] = []
    looks = 0
    for i, (_, key) in enumerate(order):
        if i == limit or looks >= _LOOKS:
            before, last = order[i - 1]
            return Page(told, total, f"{-before},{last}")
        group, cost = _group(engine, key, dead.where(key, queue), queue if retrying else NOBODY)
        looks += cost
        # Otherwise all of the group waits again since the last commit.
        if group is not None:
            waiting = engine.retrying.where(key, queue)
            group.retrying, group.retrying_queues = sum(waiting.values()), _largest(waiting)
            first = next(engine.retrying.of(key, queue), None)
            group.next_try_at = None if first is None else first.run_at
            told.append(group)
    return Page(told, total, None)


def _largest(queues: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(queues.items(), key=lambda one: (-one[1], one[0]))[:_QUEUES])


def _group(engine: Engine, key: str, dead: Mapping[str, int], tried_in: str | None) -> tuple[ErrorGroup | None, int]:
    """Return the view of a group, and how many jobs were looked at; one without dead letters is of what is tried again in a queue, of None in all."""
    largest = _largest(dead)
    sample: list[Job] = []
    for i, name in enumerate(largest):
        sample += engine.ended(name, State.FAILED, None, 1 if i else _SAMPLE, key).jobs
    first = engine.archive.first_seen(tuple(largest), key) if largest else None
    is_dead = bool(sample)
    if not is_dead:
        sample = list(islice(engine.retrying.of(key, tried_in), _SAMPLE))
    cost = (
        len(sample) + (_A_QUEUE if engine.archive.at_once else _FAR) * len(largest) + sum(map(weight, sample)) // _LARGE
    )
    if not sample:
        return None, cost
    newest = max(sample, key=_ended_at) if is_dead else sample[0]
    error = newest.noted().error or ""
    tried = engine.retrying.get(key)
    at = _ended_at(newest) if is_dead or tried is None else tried.last
    cost += work_of(error) // _SHAPED
    group = ErrorGroup(
        fingerprint=key,
        shape=CANCELLED.shape if key == CANCELLED.key else fingerprint(error).shape,
        count=sum(dead.values()) if is_dead else 0,
        first_seen=(at if first is None else first) if is_dead or tried is None else tried.since,
        last_seen=at,
        queues=largest if is_dead else {},
        example=GroupExample(
            id=newest.id, queue=newest.queue, entered_at=at, reason=reason_of(newest) if is_dead else RETRYING,
            error=error[:_ERROR_MAX],
        ),
        common=_common(sample),
    )  # fmt: skip
    mark = engine.marks.get(key)
    if mark is not None:
        group.mark, group.marked_at = mark.mark if mark.back_at is None else "back", mark.at
    return group, cost


def _ended_at(job: Job) -> int:
    return job.noted().finished_at or 0


def _common(sample: list[Job]) -> InCommon:
    """Return what the jobs have in common."""
    groups = {job.options.group_id for job in sample}
    return InCommon(
        sampled=len(sample),
        tags=_in_all(job.options.tags for job in sample),
        group_id=groups.pop() if len(groups) == 1 else None,
        keys=[key[:_KEY_MAX] for key in _in_all(_keys(job.data) for job in sample)[:_KEYS]],
    )


def _in_all(lists: Iterable[Iterable[str]]) -> list[str]:
    return sorted(reduce(and_, map(set, lists)))


def _keys(data: bytes) -> Iterator[str]:
    """Yield the keys of a payload that is an object and not large; of any other payload nothing."""
    if data[:1] == b"{" and len(data) <= _PAYLOAD_MAX:
        try:
            yield from _OBJECT.decode(data)
        except (ValueError, RecursionError):
            # A lone surrogate in it: legal, and no text.
            return
