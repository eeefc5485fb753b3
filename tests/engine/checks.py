"""What must hold after every step, whatever the step was."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from bunqueue_trio.config import FIGURES_HOURS, FIGURES_ROWS_MAX, LIVES_KEPT, RERUNS_KEPT
from bunqueue_trio.engine import queue as queues
from bunqueue_trio.engine import ready as lines
from bunqueue_trio.engine.course import COURSE, LIFE
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.figures import HOUR, MINUTE
from bunqueue_trio.engine.fingerprint import fingerprint
from bunqueue_trio.engine.gates import CONCURRENCY, PAUSED, RATE, Pause
from bunqueue_trio.engine.job import UNFINISHED, Job, State
from bunqueue_trio.engine.listing import page
from bunqueue_trio.engine.planner import Progress
from bunqueue_trio.engine.queue import Queue
from bunqueue_trio.engine.reruns import RERUN
from bunqueue_trio.engine.timers import Timers
from bunqueue_trio.engine.workers import QUIET
from bunqueue_trio.runtime.hub import BACK, BACKS_KEPT
from tests.engine.model import Record
from tests.engine.model_commands import Model
from tests.engine.model_schedules import Schedule

OF_A_SCHEDULE = re.compile(r"[\w.:-]{1,200}@\d{1,15}(\+[0-9A-Za-z-]{1,40})?", re.ASCII)


def ready_jobs(queue: Queue) -> list[Job]:
    """Every job that stands in the line of ``queue``, in its order."""
    return list(queue.ready.after(None))


PLACES: dict[State, Any] = {
    State.WAITING: lambda job: (-job.priority, job.order),
    State.DELAYED: lambda job: (job.run_at, job.seq),
    State.WAITING_CHILDREN: lambda job: job.seq,
    State.ACTIVE: lambda job: (job.started_at, job.seq),
}


def every(queue: Queue, state: State, limit: int = 3) -> list[Job]:
    """All jobs of a list, page by page."""
    found, after = [], None
    while True:
        jobs, after = page(queue, state, after, limit)
        found += jobs
        if after is None:
            return found
        assert len(jobs) == limit


def facts(job: Job) -> dict[str, Any]:
    """What the model knows of a job, as the engine has it."""
    note, lease = job.note, job.lease
    return {
        "id": job.id,
        "queue": job.queue,
        "state": job.state.value,
        "attempts": job.attempts,
        "stalls": job.stalls,
        "progress": job.progress,
        "created": job.created_at,
        "run_at": job.run_at,
        "started": job.started_at if job.state is State.ACTIVE or job.state not in UNFINISHED else None,
        "delivered": job.started_at is not None,
        "error": note and note.error,
        "cause": note and note.reason,
        "data": job.data,
        "priority": job.priority,
        "lifo": job.options.lifo,
        "message": note and note.message,
        "returns": note.auto_retries if note else 0,
        "open": frozenset((note and note.waiting_on) or ()),
        "token": lease and lease.token,
        "until": lease and lease.until,
        "timeout_at": lease and lease.timeout_at,
        "owner": lease and lease.owner,
        "called_off": _called_off(job),
        "worker": lease and (lease.worker or lease.owner),
    }


def _called_off(job: Job) -> dict[str, Any] | None:
    cancelled = (job.lease and job.lease.cancelled) or (job.note and job.note.cancelled)
    return {name: getattr(cancelled, name) for name in ("at", "until", "reason", "by")} if cancelled else None


def check_agreement(engine: Engine, model: Model) -> None:
    """Engine and model tell the same of every unfinished job, line, count and deadline."""
    assert [facts(job) for job in by_push(unfinished(engine))] == [known(job) for job in model.jobs]
    for name, queue in engine.queues.items():
        assert [job.id for job in ready_jobs(queue)] == [job.id for job in model.line(name)]
        assert {state.value: n for state, n in queue.counts.items()} == model.counts(name)
        assert {key: job.id for key, job in queue.keys.items()} == {
            job.key: job.id for job in model.jobs if job.queue == name and job.key is not None
        }
    assert {state.value: n for state, n in engine.counts.items()} == model.counts()
    due = model.next_due()
    assert engine.next_due() == due
    for now in (engine.now, *(() if due is None else (due - 1, due))):
        assert engine.is_due(now) == (due is not None and due <= now)
    assert pauses(engine) == model.pauses
    told = {name: gate.concurrency for name, gate in engine.gates.items()}
    assert {name: limit for name, limit in told.items() if limit is not None} == model.limits
    assert {name: gate.opens_at for name, gate in engine.gates.items() if gate.opens_at is not None} == model.full
    assert rates(engine) == {
        name: (rate.limit, rate.duration, rate.until, sorted(rate.counted(engine.now)))
        for name, rate in model.rates.items()
    }
    marks = {key: (mark.mark, mark.at, mark.back, mark.times) for key, mark in model.marks.items()}
    assert {key: (mark.mark, mark.at, mark.back_at, mark.times) for key, mark in engine.marks.items()} == marks
    known_workers = {
        hand.id: (hand.named and hand.name, [job.id for job in model.jobs_of(hand)], hand.done, hand.failed, hand.quiet, hand.heard,
                  hand.connections, hand.named, hand.left)
        for hand in model.hands.values()
    }  # fmt: skip
    assert workers(engine) == known_workers, (workers(engine), known_workers)
    assert engine.workers.by_connection == model.bound
    assert {k: v for k, v in msgspec.structs.asdict(engine.totals).items() if v} == +model.totals
    assert {name: kept(each) for name, each in engine.planner.progress.items()} == {
        name: progress(each) for name, each in model.schedules.items()
    }
    for name, schedule in model.schedules.items():
        told = [(skip.first, skip.last, skip.why) for skip in engine.planner.skips(name)]
        assert told == schedule.skips, (name, told, schedule)
        assert engine.planner.slots[name] == schedule.next()


def kept(each: Progress) -> dict[str, Any]:
    """The progress of a schedule; of cancelled jobs only those that it still knows."""
    live = {job: by for job, by in each.cancelled.items() if job in each.jobs}
    return msgspec.to_builtins(each) | {"cancelled": live} if live else _without(msgspec.to_builtins(each), "cancelled")


def _without(said: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in said.items() if key != name}


def progress(schedule: Schedule) -> dict[str, Any]:
    """How far a schedule of the model has come, as the engine keeps it."""
    fields = ("settled", "created", "updated", "runs", "jobs", "waiting", "paused")
    cancelled = {job: by for job, by in schedule.cancelled.items() if job in schedule.jobs}
    said = (
        {name: getattr(schedule, name) for name in fields}
        | {"patience": schedule.longest, "cancelled": cancelled}
        | schedule.troubles
    )
    return {name: value for name, value in said.items() if name in fields[:3] or value not in (0, [], {}, None, "")}


def workers(engine: Engine) -> dict[str, tuple[object, ...]]:
    """What is known of each worker."""
    return {
        name: (worker.is_named and worker.name, [job.id for job in worker.jobs], worker.done, worker.failed, worker.quiet_since, worker.heard_at,
               worker.connections, worker.is_named, worker.has_left)
        for name, worker in engine.workers.items()
    }  # fmt: skip


def pauses(engine: Engine) -> dict[str, tuple[int, str | None, int | None]]:
    """Since when, why and until when each queue is paused, by its gate."""
    told = {name: gate.pause for name, gate in engine.gates.items()}
    return {name: (pause.since, pause.reason, pause.until) for name, pause in told.items() if pause is not None}


def rates(engine: Engine) -> dict[str, tuple[int, int, int | None, list[int]]]:
    """The rate limit of each queue, with the time of each delivery that counts."""
    told = {name: gate.rate for name, gate in engine.gates.items()}
    return {
        name: (rate.limit, rate.duration, rate.until,
               [time for time, n in rate.times for _ in range(n) if time + rate.duration > engine.now])
        for name, rate in told.items()
        if rate is not None
    }  # fmt: skip


def known(job: Record) -> dict[str, Any]:
    fields = "id queue state attempts stalls progress created run_at started delivered error cause message returns open token until timeout_at owner worker called_off"
    spec = {"data": bytes(job.spec.data), "priority": job.spec.priority, "lifo": job.spec.lifo}
    return {name: getattr(job, name) for name in fields.split()} | spec


def by_push(jobs: Iterator[Job]) -> list[Job]:
    return sorted(jobs, key=lambda job: job.seq)


def unfinished(engine: Engine) -> Iterator[Job]:
    return (job for job in engine.jobs.values() if job.state in UNFINISHED)


def check_structure(engine: Engine, in_flight: list[Job]) -> None:
    """Every job is in exactly the places its state asks for, and nothing is left anywhere else."""
    uncommitted = {*engine.changed, *in_flight}
    for job_id, job in engine.jobs.items():
        assert job.id == job_id
        assert job.state in UNFINISHED or (job in uncommitted and job.state is not State.REMOVED)
    shared = (queues._NOBODY, queues._NOT_HELD, queues._NO_KEYS, lines._NONE.lines, lines._NONE.priorities)
    assert not any(shared), "what all queues share that have nothing of a kind"
    for name, queue in engine.queues.items():
        jobs = [job for job in unfinished(engine) if job.queue == name]
        assert queue.counts == {state: sum(job.state is state for job in jobs) for state in UNFINISHED}
        assert len(queue.ready) == queue.counts[State.WAITING]
        for state in UNFINISHED:
            expected = sorted((job for job in jobs if job.state is state), key=PLACES[state])
            assert every(queue, state) == expected, (name, state)
        waiting = Counter(job.id for job in jobs if job.state is State.WAITING)
        assert Counter(job.id for job in ready_jobs(queue)) == waiting
    assert list(engine.queues.names) == sorted(engine.queues)
    retried: dict[str, list[Job]] = {}
    for job in unfinished(engine):
        if job.attempts and job.state in (State.WAITING, State.DELAYED):
            retried.setdefault(fingerprint(job.noted().error or "").key, []).append(job)
    assert {key: list(group.line) for key, group in engine.retrying.items()} == {
        key: sorted(jobs, key=lambda job: (job.run_at, job.seq)) for key, jobs in retried.items()
    }
    assert {key: group.queues for key, group in engine.retrying.items()} == {
        key: Counter(job.queue for job in jobs) for key, jobs in retried.items()
    }
    planner = engine.planner
    assert planner.due == min((time for time in planner.times.values() if time is not None), default=None)
    assert set(planner.plans) == set(planner.progress) == set(planner.slots) == set(planner.times)
    of_schedules = sorted(job.id for job in unfinished(engine) if OF_A_SCHEDULE.fullmatch(job.id))
    assert [job.id for job in planner.unfinished] == of_schedules
    for name in planner.plans:
        assert engine.facts.get("schedule-progress", name) == msgspec.json.encode(planner.progress[name])
    assert [job.id for job in engine.repeating] == sorted(job.id for job in unfinished(engine) if job.options.series)
    assert list(engine.workers.ids) == sorted(engine.workers)
    assert engine.workers.slots == sum(worker.concurrency for worker in engine.workers.values())
    quiet = {name: int(since) for name, since in engine.facts.of(QUIET).items()}
    assert quiet == {w.id: w.quiet_since for w in engine.workers.values() if w.quiet_since is not None}
    open_dependencies: dict[str, list[str]] = {}
    owned: dict[str, set[str]] = {}
    for job in by_push(unfinished(engine)):
        for dependency in (job.note and job.note.waiting_on) or ():
            assert job.state is State.WAITING_CHILDREN
            open_dependencies.setdefault(dependency, []).append(job.id)
        assert (job.lease is not None) == (job.state is State.ACTIVE)
        if job.lease is not None and job.lease.owner is not None:
            owned.setdefault(job.lease.owner, set()).add(job.id)
    kept = {key: [job.id for job in jobs] for key, jobs in engine._dependents._waiting.items()}
    assert kept == open_dependencies
    assert {owner: {job.id for job in jobs} for owner, jobs in engine._owned.items()} == owned
    noted = {name: msgspec.json.decode(value, type=Pause) for name, value in engine.facts.of(PAUSED).items()}
    assert noted == {name: gate.pause for name, gate in engine.gates.items() if gate.pause is not None}
    limits = {name: int(value) for name, value in engine.facts.of(CONCURRENCY).items()}
    assert limits == {name: gate.concurrency for name, gate in engine.gates.items() if gate.concurrency is not None}
    limited = {name for name, gate in engine.gates.items() if gate.rate is not None}
    assert set(engine.facts.of(RATE)) == limited
    assert set(engine.gates) == {*noted, *limits, *limited}
    check_timers(engine.schedule, [job for job in unfinished(engine) if job.state is not State.ACTIVE])
    check_timers(engine.leases, [job for job in unfinished(engine) if job.state is State.ACTIVE])


def check_timers(timers: Timers, jobs: list[Job]) -> None:
    # As the alarms of each turn do, which tidies the front.
    timers.next_due()
    armed = [job for job in jobs if job.armed is not None]
    entries = Counter((when, id(job)) for when, _, job in [*timers._heap, *timers._old])
    for job in jobs:
        assert (job.due is None) == (job.armed is None)
        if job.armed is not None and job.due is not None:
            assert job.armed <= job.due
            assert entries[job.armed, id(job)] >= 1
    assert len(timers) == len(armed)
    assert timers._invalid <= max(4, len(timers._heap) // 2 + 1)


def check_empty(engine: Engine) -> None:
    """Nothing is kept of jobs that are gone and committed."""
    assert engine.jobs == {}
    assert (dict(engine.gates), engine.gates.due, engine.gates._ends) == ({}, None, [])
    # What went on is shown for a week, whatever is left of it, how the last reruns fared, and where a clock went back.
    bounds = {
        RERUN: RERUNS_KEPT,
        BACK: BACKS_KEPT,
        MINUTE: FIGURES_ROWS_MAX,
        HOUR: FIGURES_HOURS,
        COURSE: FIGURES_HOURS,
        LIFE: LIVES_KEPT,
    }
    facts = engine.facts._kinds
    assert {kind: rows for kind, rows in facts.items() if kind not in bounds} == {}
    assert all(len(facts.get(kind, ())) <= most + 1 for kind, most in bounds.items())
    planner = engine.planner
    assert (planner.plans, planner.progress, planner.times, [*planner.unfinished], planner.due) == (
        {},
        {},
        {},
        [],
        None,
    )
    assert set(engine.counts.values()) == {0}
    assert len(engine._dependents) == 0
    assert (engine.auto_retries, engine.auto_retries._look_at, engine.auto_retries.due) == ({}, {}, None)
    assert engine._owned == {}
    assert (engine.workers, list(engine.workers.ids), engine.workers.by_connection) == ({}, [], {})
    assert engine._reused_ids == engine._reused_in_flight == {}
    assert (len(engine.schedule), len(engine.leases)) == (0, 0)
    for queue in engine.queues.values():
        assert set(queue.counts.values()) == {0}
        assert queue.keys == {}
        assert [*queue.active, *queue.delayed, *queue.waiting_children] == []
        assert len(queue.ready) == 0
        assert (list(queue.ready.lines()), queue.ready._lower.lines, list(queue.ready._lower.priorities)) == (
            [],
            {},
            [],
        )
    left = [job for timers in (engine.schedule, engine.leases) for _, _, job in [*timers._heap, *timers._old]]
    assert all(job.data == b"" for job in left), "a payload outlives its job"
