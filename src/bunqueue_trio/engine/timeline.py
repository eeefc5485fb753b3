"""What happened to a job, in order: by its record and its attempts, the acts of operators, and the events that are kept.

Events are looked through from about the time of the push, some thousand at once, and the next page goes on behind them: there is no
index of them by job, which each push would pay for.
"""

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
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
_COMES_OF: Mapping[str, frozenset[str]] = {
    "Cancel": frozenset({"cancelling", "removed"}), "ChangeDelay": frozenset({"delayed", "updated"}), "ChangePriority": frozenset({"updated"}),
    "Discard": frozenset({"failed"}), "MoveToDelayed": frozenset({"delayed", "retried"}), "MoveToWait": frozenset({"promoted", "pushed", "retried"}),
    "Promote": frozenset({"promoted"}), "Push": frozenset({"pushed"}), "RetryDlq": frozenset({"pushed"}), "Update": frozenset({"updated"}),
}  # fmt: skip
"""Which events an act makes: of one ms, it stands before the last of them."""

_attempt = msgspec.json.Decoder(Attempt).decode
_act = msgspec.json.Decoder(Action).decode
_event = msgspec.json.Decoder(Event).decode


class _Told(NamedTuple):
    """What an event tells, and what else is known to have happened then: by the event alone, or by what is kept of the job."""

    at: int
    what: str
    moments: list[Moment]


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
    kept = [] if job is None else _kept(engine, job)
    acts: list[Moment] = []
    if place is None:
        start, gap, events = _start(engine, _born(job_id, job, now), now)
        acts = _acts(engine, job_id)
    else:
        start, gap, events = int(place[1]), False, None
    if events is None:
        events = engine.archive.events_after(start, EVENTS_LOOKED)
    # Where the event of its push is kept, those behind it say whether it was delayed then.
    if job is not None and place is None and (not events or (gap and _time(events[0][1]) > job.created_at)):
        _add_delay(job, kept)
    told = _in_order(kept, _of_job(engine, job_id, events), is_first=place is None)
    moments = [moment for each in _with_acts(told, acts) for moment in each.moments]
    reached = events[-1][0] if events else engine.archive.last_event_id
    ended = None if job is None or job.note is None else job.note.finished_at
    is_over = reached >= engine.archive.last_event_id or (ended is not None and _time(events[-1][1]) > ended)
    return tr.TimelineReply(
        id=job_id, state=None if job is None else job.state.value, entries=moments, scanned=len(events), complete=is_over, gap=gap,
        next=None if is_over else str(reached),
    )  # fmt: skip


def _of_job(engine: Engine, job_id: str, events: Sequence[tuple[int, bytes]]) -> list[_Told]:
    """Return what the events of a job tell."""
    wanted = b'"jobId":' + encode(job_id)
    found: list[_Told] = []
    for n, (_, body) in enumerate(events):
        if body.find(wanted, 0, HEAD_BYTES) < 0:
            continue
        event = _read(body)
        if event.job_id != job_id or event.event_type in _NOT_TOLD:
            continue
        found.append(_Told(event.timestamp, event.event_type, [_moment(event)]))
        if event.event_type == "failed" and not _is_tried_again(engine, job_id, events, n):
            found[-1].moments.append(Moment(at=event.timestamp, what="died", error=event.error))
    return found


def _is_tried_again(engine: Engine, job_id: str, events: Sequence[tuple[int, bytes]], n: int) -> bool:
    """Return whether the event behind a failure says that the job waits again: it comes in the same step."""
    following = events[n + 1 : n + 2] or engine.archive.events_after(events[n][0], 1)
    if not following:
        return False
    after = _read(following[0][1])
    return after.job_id == job_id and after.event_type == "retried"


def _in_order(kept: list[_Told], events: list[_Told], *, is_first: bool) -> list[_Told]:
    """Put what is kept of a job, which the first page tells, into the order of the events; nothing comes twice.

    What no event on this page tells stands behind what was before it.
    """
    same: dict[tuple[int, str], list[int]] = defaultdict(list)
    for n, one in enumerate(kept):
        same[one.at, one.what].append(n)
    if not is_first:
        return [event for event in events if (event.at, event.what) not in same]
    places: dict[int, int] = {}
    # What is kept is of the last time that the job was pushed: of equal events, of the last ones.
    for place in reversed(range(len(events))):
        event = events[place]
        if ones := same.get((event.at, event.what)):
            which = ones.pop()
            places[which] = place
            events[place] = kept[which]
    rest: list[tuple[int, int, int, _Told]] = [(event.at, place, -1, event) for place, event in enumerate(events)]
    at = place = -1
    for n, one in enumerate(kept):
        place = places.get(n, place if one.at == at else -1)
        at = one.at
        if n not in places:
            rest.append((at, place, n, one))
    rest.sort(key=lambda each: each[:3])
    return [each[3] for each in rest]


def _with_acts(told: list[_Told], acts: Iterable[Moment]) -> list[_Told]:
    """Put each act before what came of it, or behind what else happened in its ms."""
    last: dict[int, int] = {}
    for act in reversed(list(acts)):
        begin, end = bisect_left(told, act.at, key=_when), bisect_right(told, act.at, key=_when)
        made = _COMES_OF.get(act.command or "", frozenset())
        place = next((n for n in reversed(range(begin, last.get(act.at, end))) if told[n].what in made), end)
        last[act.at] = min(place, last.get(act.at, place))
        told.insert(last[act.at], _Told(act.at, "act", [act]))
    return told


def _when(told: _Told) -> int:
    return told.at


def _kept(engine: Engine, job: Job) -> list[_Told]:
    """Return what the record of a job and its attempts tell, in order, each with the event that tells the same."""
    found = [_one("pushed", Moment(at=job.created_at, what="pushed"))]
    pulls = set[int]()
    for _, line in engine.trail(ATTEMPTS, job.id, None, ATTEMPTS_KEPT, newest=False).lines:
        tried = _attempt(line)
        what = "stalled" if tried.reason == "stalled" else "failed"
        by = msgspec.UNSET if tried.by is None else tried.by
        pulls.add(tried.started_at)
        found.append(_one("pulled", Moment(at=tried.started_at, what="pulled", by=by)))
        failed = Moment(
            at=tried.failed_at, what=what, by=by, attempt=tried.attempt, reason=tried.reason, error=tried.error
        )
        found.append(_one(what, failed))
    # What failed is in its attempts; a delivery that did not may be of the same ms.
    is_not_failed = job.state is State.ACTIVE or job.state is State.COMPLETED
    is_last = job.state is State.FAILED and job.started_at not in pulls
    if job.started_at is not None and (is_not_failed or is_last):
        holder = None if job.lease is None else engine.workers.name_of(job.lease)
        by = msgspec.UNSET if holder is None else holder
        found.append(_one("pulled", Moment(at=job.started_at, what="pulled", by=by)))
    if job.note is not None and job.note.progressed_at is not None:
        message = msgspec.UNSET if job.note.message is None else job.note.message
        moment = Moment(at=job.note.progressed_at, what="progress", progress=job.progress, message=message)
        found.append(_one("progress", moment))
    _add_end(job, found)
    found.sort(key=_when)
    return found


def _one(what: str, moment: Moment) -> _Told:
    return _Told(moment.at, what, [moment])


def _add_delay(job: Job, found: list[_Told]) -> None:
    """Add that a job was delayed from its push on, where no event can say whether: as far as its record shows."""
    is_so = job.run_at > job.created_at and job.started_at is None and not (job.attempts or job.stalls)
    if is_so and not job.options.depends_on:
        found.insert(1, _one("delayed", Moment(at=job.created_at, what="delayed", until=job.run_at)))


def _add_end(job: Job, found: list[_Told]) -> None:
    """Add how it ended, or that it is to end."""
    note = job.noted()
    if job.lease is not None and job.lease.cancelled is not None:
        what, how = "cancelling", job.lease.cancelled
        until = msgspec.UNSET if how.until is None else how.until
        found.append(
            _one(
                what,
                Moment(
                    at=how.at, what=what, by=how.who or msgspec.UNSET, reason=how.reason or msgspec.UNSET, until=until
                ),
            )
        )
    at = note.finished_at
    if at is None:
        return
    if job.state is State.COMPLETED:
        found.append(_one("completed", Moment(at=at, what="completed")))
        return
    who = note.discarded_by if note.cancelled is None else note.cancelled.who
    reason = reason_of(job)
    what = reason if reason in ("cancelled", "discarded") else "died"
    end = Moment(at=at, what=what, by=who or msgspec.UNSET, reason=reason, error=note.error or msgspec.UNSET)
    event = "failed" if note.cancelled is None else "removed"
    # The event of the last failure is that of the end, too.
    same = next((one for one in reversed(found) if (one.at, one.what) == (at, event)), None)
    if same is not None:
        same.moments.append(end)
    else:
        found.append(_one(event, end))


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
