"""The ready jobs of a queue: who is next, and who is behind whom."""

import random

import pytest

from bunqueue_trio.engine import line as module
from bunqueue_trio.engine import ready as ready_module
from bunqueue_trio.engine.job import Job, State
from bunqueue_trio.engine.ready import Ready
from tests.engine.make import make_job


def line(*jobs: Job) -> Ready:
    ready = Ready()
    for job in jobs:
        ready.add(job)
    return ready


def waiting(order: int, priority: int = 0) -> Job:
    return make_job(abs(order), order=order, priority=priority)


def pop(ready: Ready) -> Job | None:
    job = ready.peek()
    if job is not None:
        ready.take(job)
        job.state = State.ACTIVE
    return job


def drain(ready: Ready) -> list[int]:
    found = []
    while (job := pop(ready)) is not None:
        found.append(job.order)
    assert len(ready) == 0
    return found


def cancel(ready: Ready, job: Job) -> None:
    job.state = State.REMOVED
    ready.take(job)


def test_an_empty_line_gives_nothing():
    assert pop(Ready()) is None


def test_oldest_first():
    assert drain(line(waiting(1), waiting(2), waiting(3))) == [1, 2, 3]


def test_lifo_comes_before_fifo_and_newest_first():
    assert drain(line(waiting(1), waiting(-2), waiting(3), waiting(-4))) == [-4, -2, 1, 3]


def test_highest_priority_first():
    jobs = [waiting(1, 0), waiting(2, 5), waiting(3, -5), waiting(-4, 0), waiting(5, 5)]
    assert drain(line(*jobs)) == [2, 5, -4, 1, 3]


def test_a_job_that_comes_back_takes_its_previous_position():
    ready = line(waiting(1), waiting(2), waiting(3))
    first, second = pop(ready), pop(ready)
    assert first is not None
    assert second is not None
    for job in (second, first):
        job.state = State.WAITING
        ready.add(job)
    assert drain(ready) == [1, 2, 3]


def test_a_job_that_comes_back_between_two_others_goes_between_them():
    ready = line(waiting(5), waiting(9), waiting(7))
    assert drain(ready) == [5, 7, 9]


def test_a_cancelled_job_is_skipped_wherever_it_stands():
    jobs = [waiting(order) for order in (1, 2, 3, -4, -5, -6)]
    ready = line(*jobs)
    for gone in (jobs[0], jobs[2], jobs[5]):
        cancel(ready, gone)
    assert len(ready) == 3
    assert drain(ready) == [-5, -4, 2]


def test_jobs_that_come_in_their_order_fill_blocks_up_to_their_bound(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "BLOCK_MAX", 4)
    ready = line(*(waiting(order) for order in range(11)))
    assert max(map(len, ready._blocks)) == 4
    assert drain(ready) == list(range(11))


def test_the_last_job_of_a_priority_closes_its_line_though_another_has_opened_it():
    """Each command brings a number of its own."""
    first, last = waiting(1, int("1000")), waiting(2, int("1000"))
    ready = line(waiting(3, 2000), first, last)
    cancel(ready, first)
    cancel(ready, last)
    assert list(ready.by_priority()) == [2000]


def test_a_line_whose_jobs_are_all_cancelled_keeps_nothing():
    jobs = [waiting(1), waiting(2, 7)]
    ready = line(*jobs)
    for job in jobs:
        cancel(ready, job)
    assert (len(ready), list(ready.lines()), ready._lower.lines, list(ready._lower.priorities)) == (0, [], {}, [])
    assert ready.peek() is None


def test_a_line_that_somebody_looks_at_is_not_used_for_another_priority():
    """The self-audit looks at a part of it in one step, and goes on in another."""
    job = waiting(1)
    ready = line(job)
    seen = ready.line(0)
    assert seen is not None
    ready.take(job)
    ready.add(waiting(2, 5))
    assert list(seen) == []


def test_a_queue_keeps_nothing_of_a_second_priority_that_is_gone():
    low, high = waiting(1), waiting(2, 7)
    ready = line(low, high)
    cancel(ready, high)
    assert ready._lower is ready_module._NONE
    assert drain(ready) == [1]


def test_a_job_leaves_its_line_and_enters_another_at_its_place():
    """As one whose priority is changed: it takes the place that it would have had by its age."""
    jobs = [waiting(order, order % 2) for order in range(1, 7)]
    ready = line(*jobs)
    moved = jobs[3]
    assert [job.order for job in ready.after(None)] == [1, 3, 5, 2, 4, 6]
    ready.take(moved)
    moved.priority = 1
    ready.add(moved)
    assert drain(ready) == [1, 3, 4, 5, 2, 6]


def test_the_jobs_behind_a_place_are_those_that_come_after_it():
    ready = line(*(waiting(order, order % 3) for order in (-9, -8, *range(1, 7))))
    jobs = list(ready.after(None))
    for i, job in enumerate(jobs):
        assert list(ready.after((-job.priority, job.order))) == jobs[i + 1 :]
    assert list(ready.after((-7, 0))) == jobs  # of a priority that nobody has
    assert list(ready.after((-1, 10**9))) == [job for job in jobs if job.priority < 1]
    assert list(ready.after((7, 0))) == []


@pytest.mark.parametrize("seed", range(5))
def test_the_order_is_that_of_a_sorted_list(seed: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "BLOCK_MAX", 3)
    rng = random.Random(seed)
    ready, truth, taken = Ready(), [], []
    for n in range(1, 600):
        chance = rng.random()
        if chance < 0.5 or not truth:
            truth.append(waiting(rng.choice((n, n, -n)), rng.choice((0, 0, 0, 1, 2))))
            ready.add(truth[-1])
        elif chance < 0.75:
            truth.sort(key=lambda job: (-job.priority, job.order))
            taken.append(truth.pop(0))
            assert pop(ready) is taken[-1]
        elif chance < 0.85 and taken:
            truth.append(taken.pop(rng.randrange(len(taken))))
            truth[-1].state = State.WAITING
            ready.add(truth[-1])
        else:
            cancel(ready, truth.pop(rng.randrange(len(truth))))
        assert len(ready) == len(truth)
        assert list(ready.after(None)) == sorted(truth, key=lambda job: (-job.priority, job.order))


def test_the_age_of_a_line_is_that_of_the_first_of_each_priority():
    assert Ready().ready_since() is None
    jobs = [waiting(1), waiting(2, 5), waiting(-3), waiting(4, -2)]
    for age, job in enumerate(jobs):
        job.run_at += 10 - age
    ready = line(*jobs)
    assert ready.ready_since() == jobs[3].run_at
    cancel(ready, jobs[3])
    assert ready.ready_since() == jobs[2].run_at
    cancel(ready, jobs[2])
    assert ready.ready_since() == jobs[1].run_at


def test_nobody_waits_in_a_line_that_is_empty_or_cancelled():
    job = waiting(1)
    ready = line(job)
    assert ready.ready_since() == job.run_at
    cancel(ready, job)
    assert ready.ready_since() is None
    assert Ready().ready_since() is None


def test_the_oldest_may_stand_behind_the_lifo_jobs():
    jobs = [waiting(order) for order in (5, 7, -9, -8)]
    for job, age in zip(jobs, (50, 60, 90, 40), strict=True):
        job.run_at += age
    ready = line(*jobs)
    assert ready.ready_since() == jobs[0].run_at, "of LIFO jobs only the next one is looked at"
    cancel(ready, jobs[0])
    assert ready.ready_since() == jobs[1].run_at
    cancel(ready, jobs[1])
    assert ready.ready_since() == jobs[2].run_at
