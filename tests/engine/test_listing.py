"""Pages of a queue's unfinished jobs: in order, each once, at the same cost however many there are."""

import random
from typing import Any

import pytest

from bunqueue_trio.config import REPLAY_BYTES
from bunqueue_trio.engine.job import UNFINISHED, Job, Note, Options, State
from bunqueue_trio.engine.listing import Page, page
from bunqueue_trio.engine.queue import Queue
from tests.engine.checks import PLACES, every
from tests.engine.make import T0, Bench, make_job


def queue(bench: Bench) -> Queue:
    return bench.engine.queues["q"]


def ids(of: Page) -> list[str]:
    return [job.id for job in of.jobs]


def test_waiting_jobs_come_in_the_order_of_their_delivery(bench: Bench):
    for priority, lifo in ((0, False), (5, False), (0, True), (-5, False), (0, True), (0, False)):
        bench.push(priority=priority, lifo=lifo)
    listed = [job.id for job in every(queue(bench), State.WAITING, limit=1)]
    assert listed == [bench.pull_id() for _ in range(6)]


def test_delayed_jobs_come_by_when_they_get_ready(bench: Bench):
    pushed = {delay: bench.push(delay=delay) for delay in (500, 100, 300, 101)}
    assert ids(page(queue(bench), State.DELAYED, None, 9)) == [pushed[delay] for delay in sorted(pushed)]
    bench.sleep(101)
    assert ids(page(queue(bench), State.DELAYED, None, 9)) == [pushed[300], pushed[500]]


def test_who_waits_for_others_comes_by_its_push(bench: Bench):
    first = bench.push()
    others = [bench.push(depends_on=[first], priority=n) for n in range(3)]
    assert ids(page(queue(bench), State.WAITING_CHILDREN, None, 9)) == others


def test_active_jobs_come_longest_with_their_holder_first(bench: Bench):
    jobs = [bench.push() for _ in range(5)]
    for _ in range(2):
        bench.pull_id()
    bench.sleep(10)
    for _ in range(3):
        bench.pull_id()
    bench.fail(jobs[0])
    bench.sleep(5000)
    assert bench.pull_id() == jobs[0]
    assert ids(page(queue(bench), State.ACTIVE, None, 9)) == [*jobs[1:], jobs[0]]
    bench.commit()
    bench.restart()
    assert ids(page(queue(bench), State.ACTIVE, None, 9)) == [*jobs[1:], jobs[0]]


@pytest.mark.parametrize("limit", range(1, 8))
def test_of_many_deliveries_in_one_ms_each_is_reported_once(bench: Bench, limit: int):
    for _ in range(12):
        bench.push(lifo=True)
    for taken in (1, 5, 2, 4):
        for _ in range(taken):
            bench.pull_id()
        bench.sleep(1)
    listed = every(queue(bench), State.ACTIVE, limit)
    assert listed == sorted(bench.engine.jobs.values(), key=PLACES[State.ACTIVE])


def test_the_last_page_says_that_it_is(bench: Bench):
    for _ in range(4):
        bench.push()
    assert page(queue(bench), State.WAITING, None, 4).after is None
    first = page(queue(bench), State.WAITING, None, 3)
    assert (len(first.jobs), first.after) == (3, (0, first.jobs[2].order))
    assert page(queue(bench), State.WAITING, first.after, 3) == (
        [page(queue(bench), State.WAITING, None, 4).jobs[3]],
        None,
    )


@pytest.mark.parametrize("seed", range(6))
def test_what_stays_where_it_is_is_shown_once_whatever_moves(seed: int, small_limits: None):
    """Between two pages anything may happen: pushes, pulls, failures, cancels."""
    rng = random.Random(seed)
    bench = Bench()
    stay = {State.WAITING: [], State.DELAYED: [], State.WAITING_CHILDREN: [], State.ACTIVE: []}  # type: dict[State, list[str]]
    root = bench.push("other", priority=9)
    for n in range(30):
        stay[State.WAITING].append(bench.push(priority=rng.choice((0, 1)), lifo=rng.random() < 0.5))
        stay[State.DELAYED].append(bench.push(delay=rng.randrange(10**6, 10**7)))
        stay[State.WAITING_CHILDREN].append(bench.push(depends_on=[root]))
        if n % 2:
            stay[State.ACTIVE].append(stay[State.WAITING].pop(rng.randrange(len(stay[State.WAITING]))))
            active = bench.engine.jobs[stay[State.ACTIVE][-1]]
            queue(bench).ready.take(active)
            bench.engine.deliver(active, bench.now, None, "owner")
        bench.sleep(rng.randrange(2))
    passing: list[str] = []
    for state in UNFINISHED:
        told: list[str] = []
        after = None
        while True:
            jobs, after = page(queue(bench), state, after, rng.randrange(1, 5))
            told += [job.id for job in jobs]
            if after is None:
                break
            for _ in range(3):
                move(bench, rng, passing, root)
        assert [job_id for job_id in told if told.count(job_id) == 1 and job_id in stay[state]] == [
            job.id for job in every(queue(bench), state) if job.id in stay[state]
        ]


def move(bench: Bench, rng: random.Random, passing: list[str], root: str) -> None:
    """Let some other job come, move or go."""
    kind = rng.randrange(5)
    if kind < 2 or not passing:
        how = rng.choice(({}, {"delay": 5}, {"lifo": True}, {"depends_on": [root]}, {"priority": 3}))
        passing.append(bench.push(**how))  # type: ignore[arg-type]
    job = bench.engine.jobs.get(rng.choice(passing))
    if job is None:
        return
    if kind == 2 and job.state is State.WAITING:
        queue(bench).ready.take(job)
        bench.engine.deliver(job, bench.now, None, "owner")
    elif kind == 3 and job.state is State.ACTIVE:
        rng.choice((lambda: bench.fail(job.id), lambda: bench.engine.release(job, bench.now)))()
    elif kind == 4 and job.state in UNFINISHED:
        bench.engine.remove(job, bench.now)


def test_a_page_of_a_long_list_reads_no_more_than_that_page():
    """Counted in jobs that are looked at."""
    looked: list[Job] = []

    class Watched(Job):
        def __getattribute__(self, name: str) -> object:
            if name in ("order", "run_at"):
                looked.append(self)
            return super().__getattribute__(name)

    def many() -> list[Job]:
        made = make_job(1)
        values = [made.id, made.queue, made.data, made.options]
        return [Watched(*values, i % 7, T0, T0 + i, i, i, State.WAITING) for i in range(1, 20_001)]

    queue = Queue("q")
    for priority in range(7):
        queue.ready.fill(priority, [job for job in many() if job.priority == priority])
    queue.fill(State.DELAYED, many())
    for state, after in ((State.WAITING, (-3, 9_000)), (State.DELAYED, (T0 + 9_000, 0))):
        looked.clear()
        assert len(page(queue, state, after, 100).jobs) == 100
        assert 0 < len(looked) < 300, state


@pytest.mark.parametrize("state", UNFINISHED)
@pytest.mark.parametrize(
    "large",
    [
        {"data": b"x" * (REPLAY_BYTES // 4)},
        {"options": Options(tags=("t" * (REPLAY_BYTES // 4),))},
        {"options": Options(depends_on=tuple(str(n) for n in range(REPLAY_BYTES // 2000 + 1)))},
        {"note": Note(error="e" * (REPLAY_BYTES // 4))},
    ],
    ids=["payloads", "tags", "dependencies", "errors"],
)
def test_whatever_makes_a_job_large_ends_a_page(state: State, large: dict[str, Any]):
    queue = Queue("q")
    jobs = [make_job(n, state=state, order=n, started_at=T0, **large) for n in range(1, 11)]
    if state is State.WAITING:
        queue.ready.fill(0, jobs)
    else:
        queue.fill(state, jobs)
    sizes, after = [], None
    while not sizes or after is not None:
        found, after = page(queue, state, after, 10)
        sizes.append(len(found))
    assert sizes == [4, 4, 2]


@pytest.mark.parametrize("set_back", [0, 60_000])
def test_a_restart_keeps_the_order_of_the_deliveries(bench: Bench, set_back: int):
    """Also of pushes; by the clock, which may have been set back meanwhile."""
    first = bench.push("blocker", delay=1_000_000)
    for priority in range(8):
        bench.push(priority=priority)
    delivered, waiting = [], []
    for n in range(8):
        if n == 4:
            bench.commit()
            bench.now -= set_back
            bench.restart()
        bench.sleep(1)
        delivered.append(bench.pull_id())
        waiting.append(bench.push(depends_on=[first]))
    queue = bench.engine.queues["q"]
    by_clock = delivered[4:] + delivered[:4] if set_back else delivered
    assert [job.id for job in page(queue, State.ACTIVE, None, 100).jobs] == by_clock
    assert [job.id for job in every(queue, State.ACTIVE)] == by_clock
    assert [job.id for job in every(queue, State.WAITING_CHILDREN)] == waiting
