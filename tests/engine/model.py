"""A second, naive queue, written from the documented behaviour: lists that are scanned whole at every step.

It shares the vocabulary (``protocol``) with the engine and nothing else. This file says what happens to
a job, in which order, and which events tell of it; ``model_commands.py`` what a command must answer.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from types import MappingProxyType
from typing import Any, NamedTuple

from bunqueue_trio.protocol import commands as c

HOUR = 3_600_000
UNFINISHED = ("waiting", "delayed", "waiting-children", "active")


@dataclass
class Record:
    """All that is true of one job."""

    id: str
    queue: str
    spec: c.JobSpec
    created: int
    run_at: int
    serial: int
    key: str | None
    depends: tuple[str, ...]
    run: int
    slot: int
    untaken: int = 0
    state: str = "new"
    turn: int = 0
    attempts: int = 0
    stalls: int = 0
    progress: float = 0
    error: str | None = None
    cause: str | None = None
    message: str | None = None
    said_at: int | None = None
    result: bytes | None = None
    started: int | None = None
    last: int | None = None
    delivered: bool = False
    finished: int | None = None
    open: frozenset[str] = frozenset()
    token: str | None = None
    lease: int = 0
    until: int | None = None
    timeout_at: int | None = None
    owner: str | None = None
    owned_since: int = 0
    held_since: int = 0
    """Its turn among those that were delivered; after a start that of its push."""
    held: bool = False
    shown: bool = True
    """Whoever holds it has shown its token."""
    worker: str | None = None
    returns: int = 0
    """How often its queue has retried it by itself."""
    passed: bool = False
    """Its time for that has come and gone."""
    called_off: dict[str, Any] | None = None
    """When it was cancelled, until when its worker has time, why and by whom."""
    failures: tuple[dict[str, Any], ...] = ()
    """Its attempts that a reader is shown."""
    lines: tuple[tuple[int, dict[str, Any]], ...] = ()
    """Its log, each line with how many commits were begun before it."""
    rerun: str | None = None
    """Which rerun has retried it."""
    end_taken: int = -1
    """How many were before its end."""

    def deadlines(self) -> Iterator[tuple[int, int, str]]:
        """What happens to it by itself: when, which first of two at the same time, and what."""
        if self.state == "active":
            if self.timeout_at is not None:
                yield self.timeout_at, 0, "timeout"
            if self.until is not None:
                yield self.until, 1, "lease"
            if self.called_off is not None:
                yield self.called_off["until"], 2, "cancel"
            return
        if self.state == "delayed":
            yield self.run_at, 1, "ready"
        if self.spec.ttl is not None and not self.delivered:
            yield (self.created if self.run == 1 else self.slot) + self.spec.ttl, 0, "ttl"

    def place(self) -> tuple[int, int, int]:
        """Where it stands among the waiting ones of its queue; the smallest is next."""
        spec = self.spec
        return (-spec.priority, 0, -self.turn) if spec.lifo else (-spec.priority, 1, self.turn)

    def drop_lease(self) -> None:
        self.token = self.until = self.timeout_at = self.owner = self.worker = None
        self.held = False
        self.lease = 0


def copied(record: Record) -> Record:
    """Return a copy, in a fifth of the time that `replace` takes."""
    copy = object.__new__(Record)
    copy.__dict__.update(record.__dict__)
    return copy


def backoff(job: Record) -> int:
    """How long a job waits that has failed a number of times."""
    said, doublings = job.spec.backoff, 2 ** (job.attempts - 1)
    if isinstance(said, int):
        return min(said * doublings, max(HOUR, said))
    wait = said.delay * (1 if said.type == "fixed" else doublings)
    wait = min(wait, max(HOUR, said.delay) if said.max_delay is None else said.max_delay)
    drawn = int(hashlib.sha256(f"{job.id}:{job.attempts}".encode()).hexdigest()[:8], 16)
    return wait - int(wait * (said.jitter or 0) * drawn / 0x1_0000_0000)


@dataclass
class Limit:
    """A number of deliveries in any window; the times of those that count, each as often as it does."""

    limit: int
    duration: int
    until: int | None
    times: list[int]

    def counted(self, now: int) -> list[int]:
        return [time for time in self.times if time > now - self.duration]

    def deliver(self, now: int) -> None:
        same = 1 if self.limit <= 100 else max(1, self.duration // 100)
        self.times = [now if time // same == now // same else time for time in self.counted(now)] + [now]


Rates = dict[str, Limit]
Limits = dict[str, int]
"""How many jobs may be active at once, by queue."""
Pauses = dict[str, tuple[int, str | None, int | None]]
"""Since when, why and until when, by queue."""


class Snapshot(NamedTuple):
    """All there was at one moment."""

    jobs: list[Record]
    ended: list[Record]
    pauses: Pauses
    limits: Limits
    rates: Rates
    quiet: Limits = MappingProxyType({})
    """Since when workers get no jobs, by worker."""
    schedules: Mapping[str, Any] = MappingProxyType({})
    said: Mapping[str, Any] = MappingProxyType({})
    """What holds for jobs that do not say it, by queue."""
    stall_rules: Mapping[str, Any] = MappingProxyType({})
    marks: Mapping[str, Any] = MappingProxyType({})
    acts: tuple[Any, ...] = ()
    reruns: Mapping[str, Any] = MappingProxyType({})
    heard: int = 0
    """How many events there were."""
    taken: int = 0
    """Which commit it is."""


class No(Exception):
    """A refusal: status and text."""


Reply = dict[str, Any]


class Jobs:
    """Every job there is or was, and what was said about it since ``events`` was last emptied."""

    def __init__(self, new_id: Callable[[int], str], *, lease: int, stalls_max: int, grace: int) -> None:
        self.new_id, self.lease, self.stalls_max, self.grace = new_id, lease, stalls_max, grace
        self.jobs: list[Record] = []
        self.ended: list[Record] = []
        self.events: list[dict[str, Any]] = []
        self.woken: set[str] = set()
        self.totals: Counter[str] = Counter()
        self.ticks = count(1)
        self.said: dict[str, dict[str, Any]] = {}
        self.stall_rules: dict[str, Any] = {}

    # --- what the world does to it ------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        return Snapshot(
            [*map(copied, self.jobs)],
            list(self.ended),
            {},
            {},
            {},
            said=dict(self.said),
            stall_rules=dict(self.stall_rules),
        )

    def restart(self, snapshot: Snapshot, now: int) -> None:
        """Begin again from a snapshot; connections are gone, and their jobs have a grace."""
        self.jobs, self.ended = ([*map(copied, jobs)] for jobs in snapshot[:2])
        self.totals, self.events, self.woken = Counter(), [], set()
        self.said, self.stall_rules = dict(snapshot.said), dict(snapshot.stall_rules)
        for job in sorted(self.jobs, key=lambda job: (job.started or 0, job.serial)):
            job.held_since = next(self.ticks)
            if job.held:
                job.worker = None if job.worker == job.owner else job.worker
                job.owner, job.until = None, now + self.grace

    def release_owner(self, owner: str, now: int, *, dropped: bool) -> None:
        self.advance(now)
        for job in sorted((j for j in self.jobs if j.owner == owner), key=lambda j: j.owned_since):
            if dropped:
                self.stall(job, now)
            else:
                self.give_back(job, now)

    def give_back_one(self, job_id: str, token: str, now: int) -> None:
        self.advance(now)
        for job in self.jobs:
            if job.id == job_id and job.token == token:
                self.give_back(job, now)

    def next_due(self) -> int | None:
        return min((min(job.deadlines())[0] for job in self.jobs if any(job.deadlines())), default=None)

    def advance(self, now: int, upto: int | None = None) -> None:
        while True:
            due = [(min(j.deadlines()), j.state == "active", j.serial, j) for j in self.jobs if any(j.deadlines())]
            first = min(due, key=lambda entry: (entry[0][0], entry[1], entry[2]), default=None)
            if first is None or first[0][0] > (now if upto is None else upto):
                return
            self.happen(first[3], first[0][2], now)

    def happen(self, job: Record, what: str, now: int) -> None:
        if what == "ttl":
            self.totals["expired"] += 1
            self.remove(job, now, wanted=False)
            self.next_run(job, now, untaken=job.untaken + 1)
        elif what == "ready":
            self.queue_up(job)
        elif job.called_off is not None:
            self.call_off(job, job.called_off, now)
        elif what == "timeout":
            self.fail(job, f"Job timed out after {job.spec.timeout} ms", now, cause="timeout")
        elif job.held and job.owner is None:
            self.give_back(job, now)
        else:
            self.stall(job, now)

    # --- what can happen to a job -------------------------------------------------------------------

    def say(self, kind: str, job: Record, now: int, **more: Any) -> None:
        self.events.append({"eventType": kind, "queue": job.queue, "jobId": job.id, "timestamp": now} | more)

    def tell(self, kind: str, now: int, **what: Any) -> None:
        self.events.append({"eventType": kind, "timestamp": now} | {k: v for k, v in what.items() if v is not None})

    def wait(self, job: Record) -> None:
        job.state = "waiting"
        self.woken.add(job.queue)

    def queue_up(self, job: Record) -> None:
        job.turn = next(self.ticks)
        self.wait(job)

    def queue_up_or_delay(self, job: Record, now: int) -> None:
        if job.run_at <= now:
            self.queue_up(job)
        else:
            job.state = "delayed"
            self.say("delayed", job, now, delay=job.run_at - now)

    def in_grace(self, job: Record) -> dict[str, Any] | None:
        """How an active job was cancelled that its worker has time to end."""
        return job.called_off if job.state == "active" else None

    def drop(self, job: Record, now: int) -> None:
        """Cancelled without a word."""
        if (first := self.in_grace(job)) is not None:
            self.call_off(job, first, now)
        else:
            self.totals["cancelled"] += 1
            self.remove(job, now, wanted=True)

    def call_off(self, job: Record, how: dict[str, Any], now: int, said: str | None = None) -> None:
        """It ends now; it has said why, unless it is not to be kept."""
        job.called_off, job.cause = how, "cancelled"
        words = (
            "Cancelled" + (f" by {how['by']}" if how["by"] else "") + (f": {how['reason']}" if how["reason"] else "")
        )
        job.error = words if said is None else words + "\n" + said
        job.started = job.last
        self.totals["cancelled"] += 1
        self.say("removed", job, now, prev=job.state)
        self.end(job, "failed", now)
        self.fail_dependents(job, now, wanted=True)

    def give_back(self, job: Record, now: int) -> None:
        if job.called_off is not None:
            self.call_off(job, job.called_off, now)
            return
        job.started = None
        job.drop_lease()
        self.wait(job)
        self.say("retried", job, now, prev="active")

    def stall(self, job: Record, now: int) -> None:
        if job.called_off is not None:
            self.call_off(job, job.called_off, now)
            return
        job.stalls += 1
        self.totals["stalled"] += 1
        self.say("stalled", job, now)
        rule = self.stall_rules.get(job.queue, {})
        if job.stalls > rule.get("max_stalls", self.stalls_max) and rule.get("enabled", True):
            self.totals["lost_to_stalls"] += 1
            self.bury(job, "Job stalled 1 time" if job.stalls == 1 else f"Job stalled {job.stalls} times", now)
        else:
            job.started = None
            job.drop_lease()
            self.wait(job)

    def make_room(self, job: Record) -> None:
        """It is not active any more, which others may have waited for."""

    def fail(
        self, job: Record, error: str, now: int, *, wait: int | None = None, last: bool = False, cause: str | None = None
    ) -> None:  # fmt: skip
        job.attempts += 1
        if job.called_off is not None:
            self.call_off(job, job.called_off, now, error)
            return
        if last or job.attempts >= job.spec.max_attempts:
            job.cause = "unrecoverable" if last else cause
            self.bury(job, error, now)
            return
        job.error = error
        self.say("failed", job, now, error=error)
        self.totals["retried"] += 1
        self.say("retried", job, now, prev="active")
        job.started = None
        job.drop_lease()
        self.make_room(job)
        job.run_at = now + (backoff(job) if wait is None else wait)
        self.queue_up_or_delay(job, now)

    def postpone(self, job: Record, run_at: int, now: int) -> None:
        """It is ready at another time; who held it holds it no more."""
        if job.called_off is not None:
            self.call_off(job, job.called_off, now)
            return
        if job.state == "active":
            job.started = None
            job.drop_lease()
            self.make_room(job)
            self.say("retried", job, now, prev="active")
        job.run_at = run_at
        if job.state != "waiting-children":
            self.queue_up_or_delay(job, now)

    def end(self, job: Record, state: str, now: int) -> None:
        self.jobs.remove(job)
        if job.state == "active":
            self.make_room(job)
        job.state, job.finished, job.open = state, now, frozenset()
        job.drop_lease()
        if state == "completed" or (state == "failed" and not job.spec.remove_on_fail):
            self.ended.append(job)

    def bury(self, job: Record, error: str, now: int, *, wanted: bool = False) -> None:
        self.bury_one(job, error, now, wanted=wanted)
        self.fail_dependents(job, now, wanted=wanted)

    def bury_one(self, job: Record, error: str, now: int, *, wanted: bool) -> None:
        job.error = error
        self.say("failed", job, now, error=error)
        self.end(job, "failed", now)
        self.totals["failed"] += 1
        self.totals["died"] += not wanted
        self.next_run(job, now)

    def fail_dependents(self, job: Record, now: int, *, wanted: bool) -> None:
        dead = [job]
        while dead:
            cause = dead.pop(0)
            for other in [j for j in self.jobs if cause.id in j.open]:
                self.bury_one(other, f"Dependency {cause.id} failed", now, wanted=wanted)
                dead.append(other)

    def remove(self, job: Record, now: int, *, wanted: bool) -> None:
        self.say("removed", job, now, prev=job.state)
        self.end(job, "removed", now)
        self.fail_dependents(job, now, wanted=wanted)

    def complete(self, job: Record, result: bytes, now: int) -> None:
        job.result = result or None
        self.end(job, "completed", now)
        self.totals["completed"] += 1
        self.say("completed", job, now)
        self.next_run(job, now)
        for other in [j for j in self.jobs if job.id in j.open]:
            other.open -= {job.id}
            if not other.open:
                self.queue_up_or_delay(other, now)

    def next_run(self, job: Record, now: int, untaken: int = 0) -> None:
        repeat = job.spec.repeat
        if repeat is None or (repeat.limit is not None and job.run >= repeat.limit):
            return
        slot = job.slot + repeat.every
        while slot < now or (untaken >= 10 and slot < job.slot + 1000):
            slot += repeat.every
        run = self.add(self.new_id(now), job.queue, job.spec, None, (), job.run + 1, slot, slot, frozenset(), now)
        run.untaken = untaken

    def add(self, job_id: str, queue: str, spec: c.JobSpec, key: str | None, depends: tuple[str, ...], run: int,
            slot: int, run_at: int, waits: frozenset[str], now: int) -> Record:  # fmt: skip
        job = Record(job_id, queue, spec, now, run_at, next(self.ticks), key, depends, run, slot, open=waits)
        self.jobs.append(job)
        self.totals["pushed"] += 1
        self.say("pushed", job, now, data=json.loads(bytes(spec.data)))
        if waits:
            job.state = "waiting-children"
            self.say("waiting-children", job, now)
        else:
            self.queue_up_or_delay(job, now)
        return job
