"""Deadline heaps: what fires when, and what does not pile up."""

import random

import pytest
from msgspec import Raw

from bunqueue_trio.engine import commands
from bunqueue_trio.engine import timers as module
from bunqueue_trio.engine.job import Job, State
from bunqueue_trio.engine.timers import Timers
from bunqueue_trio.protocol import commands as c
from tests.engine.checks import check_timers
from tests.engine.make import T0, Bench, make_job


def fired(timers: Timers, now: int) -> list[str]:
    found = []
    while (job := timers.pop_due(now)) is not None:
        found.append(job.id)
    return found


def test_nothing_is_due_in_an_empty_heap():
    timers = Timers(active=False)
    assert timers.next_due() is None
    assert not timers.may_be_due(10**15)
    assert timers.pop_due(10**15) is None
    assert len(timers) == 0


def test_a_job_fires_at_its_time_and_not_a_millisecond_before():
    timers, job = Timers(active=False), make_job()
    timers.arm(job, 100)
    assert timers.next_due() == 100
    assert (timers.may_be_due(99), timers.may_be_due(100)) == (False, True)
    assert timers.pop_due(99) is None
    assert timers.pop_due(100) is job
    assert (job.due, job.armed, len(timers)) == (None, None, 0)


def test_jobs_fire_by_time_and_equal_times_by_push():
    timers = Timers(active=False)
    for seq, due in ((3, 50), (1, 70), (2, 50)):
        timers.arm(make_job(seq), due)
    assert fired(timers, 100) == ["job-2", "job-3", "job-1"]


def test_a_disarmed_job_never_fires():
    timers, job = Timers(active=False), make_job()
    timers.disarm(job)
    timers.arm(job, 100)
    timers.disarm(job)
    assert (len(timers), timers.next_due(), timers.pop_due(100)) == (0, None, None)


def test_a_deadline_that_moves_later_fires_once_and_late():
    timers, job = Timers(active=False), make_job()
    timers.arm(job, 100)
    timers.arm(job, 200)
    assert len(timers) == 1
    assert timers.next_due() == 200
    assert timers.pop_due(199) is None
    assert fired(timers, 300) == ["job-1"]


def test_a_deadline_that_moves_earlier_fires_once_and_early():
    timers, job = Timers(active=False), make_job()
    timers.arm(job, 200)
    timers.arm(job, 100)
    assert len(timers) == 1
    assert fired(timers, 100) == ["job-1"]
    assert fired(timers, 300) == []
    assert len(timers) == 0


def test_moving_a_deadline_later_adds_no_entry():
    """A heartbeat a second for a day must cost no memory."""
    timers, job = Timers(active=True), make_job(state=State.ACTIVE)
    for due in range(100, 10_000):
        timers.arm(job, due)
    assert len(timers._heap) == 1


def test_an_entry_of_the_other_side_does_not_count():
    """A job armed for the same time on both sides fires on the side it is on."""
    schedule, leases, job = Timers(active=False), Timers(active=True), make_job()
    schedule.arm(job, 100)
    schedule.disarm(job)
    job.state = State.ACTIVE
    leases.arm(job, 100)
    assert schedule.next_due() is None
    assert leases.pop_due(100) is job


def test_an_entry_left_behind_that_counts_again_fires_once():
    """A job that gets its old deadline back has two equal entries."""
    timers, job = Timers(active=False), make_job()
    timers.arm(job, 100)
    timers.disarm(job)
    timers.arm(job, 100)
    assert len(timers) == 1
    assert fired(timers, 100) == ["job-1"]
    assert (timers.next_due(), len(timers), timers._heap) == (None, 0, [])


def test_invalid_entries_are_swept_when_they_outnumber_the_valid(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_SWEEP_MIN", 10)
    timers = Timers(active=False)
    kept = [make_job(seq) for seq in range(5)]
    for job in kept:
        timers.arm(job, 1000 + job.seq)
    for seq in range(100, 1000):
        job = make_job(seq)
        timers.arm(job, seq)
        timers.disarm(job)
        assert len(timers) == 5
        assert len(timers._heap) <= 5 + 11
    assert fired(timers, 2000) == [job.id for job in kept]


def test_few_invalid_entries_among_many_valid_are_left(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_SWEEP_MIN", 10)
    timers = Timers(active=False)
    jobs = [make_job(seq) for seq in range(100)]
    for job in jobs:
        timers.arm(job, 1000)
    for job in jobs[:50]:
        timers.disarm(job)
    assert len(timers._heap) == 100
    timers.disarm(jobs[50])
    assert len(timers._heap) == len(timers) == 49


def test_a_sweep_leaves_one_entry_of_a_job_with_two(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_SWEEP_MIN", 2)
    timers, job, other = Timers(active=False), make_job(1), make_job(2)
    for _ in range(3):
        timers.arm(job, 100)
        timers.disarm(job)
    timers.arm(job, 100)
    timers.arm(other, 200)
    timers.arm(other, 150)
    timers.arm(other, 140)
    timers.arm(other, 130)
    assert len(timers) == 2
    assert fired(timers, 300) == ["job-1", "job-2"]
    assert (len(timers), timers._invalid) == (0, 0)


def test_invalid_entries_are_swept_when_the_valid_have_fired(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_SWEEP_MIN", 10)
    timers = Timers(active=False)
    jobs = [make_job() for _ in range(40)]
    for i, job in enumerate(jobs):
        timers.arm(job, 100 + i)
    for job in jobs[20:]:
        timers.disarm(job)
    assert (len(timers), timers._invalid) == (20, 20)
    for _ in range(5):
        assert timers.pop_due(1000) is not None
    assert (len(timers), timers._invalid) == (15, 0)
    assert len(timers._heap) == 15


def test_a_large_heap_is_swept_by_and_by_and_fires_in_order_all_the_while(monkeypatch: pytest.MonkeyPatch):
    """Of a million entries it would take 300 ms; meanwhile deadlines come, go, move and come back."""
    monkeypatch.setattr(module, "_SWEPT_AT_ONCE", 100)
    monkeypatch.setattr(module, "_SWEEP_MIN", 10)
    monkeypatch.setattr(module, "_SWEPT", 4)
    looked, valid = [0], Timers._valid

    def counted(self: Timers, when: int, job: Job) -> bool:
        looked[-1] += 1
        return valid(self, when, job)

    monkeypatch.setattr(Timers, "_valid", counted)
    rng, timers, due = random.Random(6), Timers(active=False), dict[Job, int]()
    jobs = [make_job(seq) for seq in range(3000)]
    for job in jobs:
        timers.arm(job, rng.randrange(1000))
        due[job] = job.due or 0
    swept = ended = 0
    while due:
        looked.append(0)
        was_swept = bool(timers._old)
        job = rng.choice(jobs)
        if rng.random() < 0.8:
            timers.disarm(job)
            due.pop(job, None)
        elif rng.random() < 0.5:
            # At the same time as before, often.
            due[job] = rng.choice([job.seq % 1000, 1000 + rng.randrange(1000)])
            timers.arm(job, due[job])
        if rng.random() < 0.1 and due:
            first = timers.pop_due(10_000)
            assert first is not None
            assert due[first] == min(due.values())
            del due[first]
        swept += bool(timers._old)
        assert len(timers) == len(due)
        if was_swept and not timers._old:
            ended += 1
            # However often it has moved meanwhile, each job has one entry.
            assert sum(valid(timers, each[0], each[2]) for each in timers._heap) == len(due)
    assert swept > 100
    assert ended > 1
    assert max(looked) < 300
    assert (timers.next_due(), len(timers)) == (None, 0)


def half_swept(monkeypatch: pytest.MonkeyPatch) -> tuple[Timers, list[Job]]:
    """Timers of 6000 jobs, of which the first 3001 are disarmed, and whose heap is swept by one entry at a time."""
    monkeypatch.setattr(module, "_SWEPT_AT_ONCE", 100)
    monkeypatch.setattr(module, "_SWEPT", 1)
    timers = Timers(active=False)
    jobs = [make_job(seq) for seq in range(6000)]
    for job in jobs:
        timers.arm(job, 10 * job.seq)
    for job in jobs[:3001]:
        timers.disarm(job)
    return timers, jobs


def test_what_fires_while_a_heap_is_swept_is_what_is_due_first(monkeypatch: pytest.MonkeyPatch):
    timers, jobs = half_swept(monkeypatch)
    assert timers._old
    assert timers.may_be_due(30_010)
    for job in jobs[3000:2000:-1]:
        timers.arm(job, 10 * job.seq)
    assert fired(timers, 30_020) == [f"job-{seq}" for seq in range(2001, 3003)]
    assert len(timers) == 6000 - 3003
    check_timers(timers, jobs)


def test_what_is_due_is_seen_while_its_heap_is_swept(monkeypatch: pytest.MonkeyPatch):
    timers, _ = half_swept(monkeypatch)
    timers.arm(make_job(6000), 60_000)
    assert timers._old
    assert timers.may_be_due(30_010)


@pytest.mark.parametrize("what", ["a lease", "a delay", "a pause", "a schedule"])
def test_what_comes_is_due_at_its_time_and_not_a_millisecond_before(bench: Bench, what: str):
    if what == "a delay":
        bench.push(delay=100)
    elif what == "a lease":
        bench.push()
        bench.pull(lock_ttl=100)
    elif what == "a pause":
        bench.do(c.Pause(queue="q", until=T0 + 100))
    else:
        bench.do(c.PutSchedule(name="s", queue="q", data=Raw(b"1"), at=T0 + 100))
    assert [bench.engine.is_due(T0 + ms) for ms in (0, 99, 100, 101)] == [False, False, True, True]


def test_what_a_step_has_left_is_due_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(commands, "ADVANCE_MAX", 1)
    first = bench.push()
    for _ in range(3):
        bench.push(depends_on=[first])
    bench.pull()
    assert not bench.engine.is_due(T0)
    bench.ack(first)
    assert bench.engine.is_due(T0)


@pytest.mark.parametrize("extra", range(4))
def test_what_a_sweep_has_moved_is_there_after_the_next_one(monkeypatch: pytest.MonkeyPatch, extra: int):
    """Also where the first one ended because all that was left of the old heap has fired."""
    monkeypatch.setattr(module, "_SWEPT_AT_ONCE", 100)
    monkeypatch.setattr(module, "_SWEEP_MIN", 10)
    monkeypatch.setattr(module, "_SWEPT", 1)
    timers = Timers(active=False)
    jobs = [make_job(seq) for seq in range(1000 + extra)]
    later = [make_job(seq) for seq in range(2000, 2600)]
    for job in jobs:
        timers.arm(job, 10 + job.seq)
    for job in jobs[300:]:
        if not timers._old:
            timers.disarm(job)
    assert timers._old
    for job in later:
        timers.arm(job, 10_000 + job.seq)
    while timers._old:
        assert timers.pop_due(9000) is not None
    fired(timers, 9000)
    for job in later[:400]:
        timers.disarm(job)
    assert fired(timers, 20_000) == [f"job-{job.seq}" for job in later[400:]]
