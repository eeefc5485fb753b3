"""What happened to a job, in order: by its record and its attempts, the acts of operators, and the events that are kept.

Events are looked through from about the time of the push, some thousand at once, and the next page goes on behind them: there is no
index of them by job, which each push would pay for.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from bunqueue_trio.config import ATTEMPTS_KEPT, REPLAY_BYTES
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.job import Job, State
from bunqueue_trio.engine.lookup import reason_of
from bunqueue_trio.engine.trails import ACTIONS, ATTEMPTS
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import trail_replies as tr
from bunqueue_trio.protocol.codec import encode
from bunqueue_trio.protocol.events import HEAD_BYTES, Event, without_data
from bunqueue_trio.protocol.lines import Action, Attempt, Moment
from bunqueue_trio.protocol.surrogates import masked

EVENTS_LOOKED = 2000
"""For one page: about 1 ms."""
ACTS_LOOKED = 1000
"""The newest, for the first page."""
# To find where the events of a time begin. They come about as evenly as two guesses tell within a hundredth; any will do that is too early.
_GUESSES = 2
_SAFE = 0.98
_SLOT = re.compile(r"([0-9]{1,18})")
_TIME = re.compile(rb'"timestamp":([0-9]+)')
_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_NOT_TOLD = frozenset({"drained"})
"""It names a job that has only been the last one to be taken."""
_FIRST = {"act": 0, "pushed": 1, "promoted": 2, "updated": 3}
"""What comes first of one ms: what somebody did, and what makes a job ready, before what comes of it."""

_attempt = msgspec.json.Decoder(Attempt).decode
_act = msgspec.json.Decoder(Action).decode
_event = msgspec.json.Decoder(Event).decode


class _Kept(NamedTuple):
    """What is known without the events, and which events tell the same."""

    moments: list[Moment]
    told: set[tuple[str, int]]


def timeline(engine: Engine, job_id: str, after: str | None, now: int) -> tr.TimelineReply:
    """Return a page of what happened to a job, which may be gone; the first one has all that is kept beside events.

    Raises:
        Refused: no page has such a cursor.
    """
    place = None if after is None else _SLOT.fullmatch(after)
    if after is not None and place is None:
        raise c.NOT_A_PLACE.refuse()
    # Its payload and its result may be large, and are none of this.
    job = engine.find(job_id, data=False, result=False)
    kept = _Kept([], set()) if job is None else _kept(engine, job)
    if place is None:
        start, gap, events = _start(engine, _born(job_id, job, now), now)
        moments = [*kept.moments, *_acts(engine, job_id)]
    else:
        start, gap, moments, events = int(place[1]), False, [], None
    if events is None:
        events = engine.archive.events_after(start, EVENTS_LOOKED)
    wanted = b'"jobId":' + encode(job_id)
    for _, body in events:
        if body.find(wanted, 0, HEAD_BYTES) < 0:
            continue
        event = _read(body)
        is_known = event.event_type in _NOT_TOLD or (event.event_type, event.timestamp) in kept.told
        if event.job_id == job_id and not is_known:
            moments.append(_moment(event))
    born = None if job is None else job.created_at
    moments.sort(key=lambda moment: (moment.at, _rank(moment, born)))
    reached = events[-1][0] if events else engine.archive.last_event_id
    ended = None if job is None or job.note is None else job.note.finished_at
    is_over = reached >= engine.archive.last_event_id or (ended is not None and _time(events[-1][1]) > ended)
    return tr.TimelineReply(
        id=job_id, state=None if job is None else job.state.value, entries=moments, scanned=len(events), complete=is_over, gap=gap,
        next=None if is_over else str(reached),
    )  # fmt: skip


def _kept(engine: Engine, job: Job) -> _Kept:
    found = [Moment(at=job.created_at, what="pushed")]
    told = {("pushed", job.created_at)}
    if job.run_at > job.created_at and job.started_at is None and not (job.attempts or job.stalls):
        found.append(Moment(at=job.created_at, what="delayed", until=job.run_at))
        told.add(("delayed", job.created_at))
    for _, line in engine.trail(ATTEMPTS, job.id, None, ATTEMPTS_KEPT, newest=False).lines:
        tried = _attempt(line)
        what = "stalled" if tried.reason == "stalled" else "failed"
        by = msgspec.UNSET if tried.by is None else tried.by
        found.append(Moment(at=tried.started_at, what="pulled", by=by))
        found.append(
            Moment(at=tried.failed_at, what=what, by=by, attempt=tried.attempt, reason=tried.reason, error=tried.error)
        )
        told |= {("pulled", tried.started_at), (what, tried.failed_at)}
    # What failed is in its attempts; a delivery that did not may be of the same ms.
    is_not_failed = job.state is State.ACTIVE or job.state is State.COMPLETED
    is_last = job.state is State.FAILED and ("pulled", job.started_at) not in told
    if job.started_at is not None and (is_not_failed or is_last):
        holder = None if job.lease is None else engine.workers.name_of(job.lease)
        found.append(Moment(at=job.started_at, what="pulled", by=msgspec.UNSET if holder is None else holder))
        told.add(("pulled", job.started_at))
    if job.note is not None and job.note.progressed_at is not None:
        message = job.note.message
        found.append(
            Moment(
                at=job.note.progressed_at, what="progress", progress=job.progress,
                message=msgspec.UNSET if message is None else message,
            )
        )  # fmt: skip
        told.add(("progress", job.note.progressed_at))
    _add_end(job, found, told)
    return _Kept(found, told)


def _add_end(job: Job, found: list[Moment], told: set[tuple[str, int]]) -> None:
    """Add how it ended, or that it is to end."""
    note = job.noted()
    if job.lease is not None and job.lease.cancelled is not None:
        what, how = "cancelling", job.lease.cancelled
        found.append(
            Moment(
                at=how.at, what=what, by=how.who or msgspec.UNSET, reason=how.reason or msgspec.UNSET,
                until=msgspec.UNSET if how.until is None else how.until,
            )
        )  # fmt: skip
        told.add((what, how.at))
    at = note.finished_at
    if at is None:
        return
    if job.state is State.COMPLETED:
        found.append(Moment(at=at, what="completed"))
        told.add(("completed", at))
        return
    who = note.discarded_by if note.cancelled is None else note.cancelled.who
    reason = reason_of(job)
    what = reason if reason in ("cancelled", "discarded") else "died"
    found.append(Moment(at=at, what=what, by=who or msgspec.UNSET, reason=reason, error=note.error or msgspec.UNSET))
    told |= {("failed", at), ("removed", at)}


def _acts(engine: Engine, job_id: str) -> list[Moment]:
    """Return what operators have done to it, by the newest of all acts."""
    wanted = b'"job":' + encode(job_id)
    lines = engine.trail(ACTIONS, "", None, ACTS_LOOKED, newest=True).lines
    acts = [_act(line) for _, line in reversed(lines) if wanted in line]
    return [
        Moment(at=act.at, what="act", by=act.who, command=act.command, fields=act.fields or msgspec.UNSET)
        for act in acts if act.job == job_id
    ]  # fmt: skip


def _start(engine: Engine, since: int, now: int) -> tuple[int, bool, Sequence[tuple[int, bytes]] | None]:
    """Return an id behind which all kept events of ``since`` and later are, whether older ones are not kept, and some of them, if one is too large to be read again."""
    archive = engine.archive
    low, high, until = archive.first_event_id() - 1, archive.last_event_id, now
    first = archive.events_after(low, 1)
    if not first:
        return low, low > 0, None
    begins = _time(first[0][1])
    if begins >= since:
        return low, low > 0, first if len(first[0][1]) >= REPLAY_BYTES else None
    for _ in range(_GUESSES):
        if high - low <= EVENTS_LOOKED or until <= begins:
            break
        guess = low + int((high - low) * (since - begins) / (until - begins) * _SAFE)
        found = archive.events_after(min(guess, high - 1), 1)
        at = _time(found[0][1]) if found else until
        if at < since:
            low, begins = guess, at
        else:
            high, until = guess, at
    return low, False, None


def _rank(moment: Moment, born: int | None) -> int:
    """Return where a moment stands among those of its ms."""
    # A job that is pushed to wait does so before anything else happens to it.
    what = "pushed" if moment.what == "delayed" and moment.at == born else moment.what
    return _FIRST.get(what, len(_FIRST))


def _born(job_id: str, job: Job | None, now: int) -> int:
    """Return before when there was no job of this id: one of the server's own has its time in it, a client's may lie ahead."""
    if not _UUID7.fullmatch(job_id):
        return 0
    at = int(job_id[:8] + job_id[9:13], 16)
    return min(at, job.created_at) if job is not None else at if at <= now else 0


def _time(body: bytes) -> int:
    found = _TIME.search(body, 0, HEAD_BYTES)
    return 0 if found is None else int(found[1])


def _read(body: bytes) -> Event:
    body = without_data(body)
    try:
        return _event(body)
    except ValueError:
        return _event(masked(body))


def _moment(event: Event) -> Moment:
    return Moment(
        at=event.timestamp, what=event.event_type, error=event.error, progress=event.progress, reason=event.reason, by=event.name,
        until=event.until if event.delay is msgspec.UNSET else event.timestamp + event.delay,
    )  # fmt: skip
