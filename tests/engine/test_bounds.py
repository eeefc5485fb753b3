"""No step of the engine does more than so much, whatever a client asks for; what is left comes in the next steps."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Raw

from bunqueue_trio.config import ADVANCE_MAX, DELIVERED_BYTES, DEPENDENCIES_MAX, PULL_BATCH_BYTES
from bunqueue_trio.engine.commands.push import Bulk
from bunqueue_trio.engine.job import Job, State
from bunqueue_trio.engine.queue import Rules
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from tests.engine.checks import check_structure
from tests.engine.make import Bench

# What is bounded is tried with thousands.
pytestmark = pytest.mark.thorough

MANY = ADVANCE_MAX * 5 // 2


WIDE = 320
"""Dependencies of one job: as much work as 20 jobs without any."""


@pytest.fixture
def moves(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many jobs each step has moved; a new step is begun by appending 0."""
    steps = [0]
    move = type(bench.engine)._move

    def counted(engine: object, job: Job, to: State) -> None:
        steps[-1] += 1
        move(engine, job, to)

    monkeypatch.setattr(type(bench.engine), "_move", counted)
    return steps


def work_off(bench: Bench, moves: list[int]) -> None:
    """Take step after step until nothing is due."""
    while (due := bench.engine.next_due()) is not None and due <= bench.now:
        moves.append(0)
        bench.sleep(0)


ENDS: dict[str, tuple[Callable[[Bench, str], object], str]] = {
    "completed": (lambda bench, job_id: (bench.pull(), bench.ack(job_id)), "waiting"),
    "failed": (lambda bench, job_id: (bench.pull(), bench.fail(job_id)), "failed"),
    "cancelled": (lambda bench, job_id: bench.do(c.Cancel(id=job_id)), "failed"),
    "expired": (lambda bench, _: bench.sleep(60_000), "failed"),
}


@pytest.mark.parametrize("how", ENDS)
def test_the_end_of_a_job_with_many_dependents_is_passed_on_in_steps(bench: Bench, moves: list[int], how: str):
    first = bench.push(max_attempts=1, ttl=60_000)
    dependents = [bench.push(depends_on=[first]) for _ in range(MANY)]
    moves[:] = [0]
    end, state = ENDS[how]
    end(bench, first)
    assert bench.engine.has_chores
    work_off(bench, moves)
    assert max(moves) <= ADVANCE_MAX + 3
    assert not bench.engine.has_chores
    assert {bench.state(job_id).state for job_id in dependents} == {state}
    check_structure(bench.engine, [])


def test_those_that_have_heard_of_an_end_are_let_go_of_before_the_others_have(bench: Bench):
    """Not all of them in the last step: it would have 100,000 to free."""
    first = bench.push()
    jobs = [bench.engine.jobs[bench.push(depends_on=[first])] for _ in range(MANY)]
    bench.commit()
    bench.do(c.Cancel(id=first))
    bench.commit()
    assert bench.engine.has_chores
    some = sum(job.state is State.FAILED for job in jobs)
    assert 0 < some < MANY
    held = sys.getrefcount(jobs[0])
    while bench.engine.has_chores:
        bench.sleep(0)
        bench.commit()
    at_last = sys.getrefcount(jobs[0])
    assert held == at_last


def test_an_avalanche_waits_while_the_batch_is_full_until_somebody_has_waited_for_room(
    bench: Bench, moves: list[int], monkeypatch: pytest.MonkeyPatch
):
    first = bench.push()
    dependents = [bench.push(depends_on=[first]) for _ in range(10)]
    late = bench.push("late", delay=1000)
    bench.pull()
    monkeypatch.setattr("bunqueue_trio.engine.engine.GATHER_JOBS_MAX", 10)
    moves[:] = [0]
    bench.ack(first)
    bench.now += 1000
    bench.engine.advance(bench.now)
    assert moves == [1]
    assert bench.engine.next_due() == 0
    bench.engine.take()
    bench.engine.advance(bench.now)
    assert {bench.state(job_id).state for job_id in dependents} == {"waiting"}
    assert bench.engine.is_full
    bench.engine.advance(bench.now, waited=True)
    assert bench.state(late).state == "waiting"


@pytest.mark.untraced
def test_many_ends_at_once_with_many_dependents_each_are_passed_on_in_steps(bench: Bench, moves: list[int]):
    ended = [bench.push() for _ in range(5)]
    dying = [bench.push("dying", ttl=1000) for _ in range(5)]
    for first in [*ended, *dying]:
        for _ in range(ADVANCE_MAX // 2):
            bench.push("other", depends_on=[first])
    for _ in ended:
        bench.pull()
    moves[:] = [0]
    bench.do(c.AckBatch(ids=ended))
    work_off(bench, moves)
    moves.append(0)
    bench.sleep(1000)
    work_off(bench, moves)
    assert max(moves) <= ADVANCE_MAX + len(ended)
    assert bench.engine.counts[State.WAITING_CHILDREN] == 0


@pytest.mark.untraced
def test_to_take_leave_of_many_dependencies_is_work_too(bench: Bench, moves: list[int]):
    first = bench.push()
    others = [bench.push("other", job_id=f"other-{n}") for n in range(WIDE)]
    dependents = [bench.push("dependents", depends_on=[first, *others]) for _ in range(200)]
    moves[:] = [0]
    bench.do(c.Cancel(id=first))
    work_off(bench, moves)
    assert max(moves) <= ADVANCE_MAX // (1 + WIDE // 16) + 3
    assert {bench.state(job_id).state for job_id in dependents} == {"failed"}
    check_structure(bench.engine, [])


@pytest.mark.parametrize("how", ["completed", "cancelled"])
def test_a_crash_between_the_steps_loses_none_of_them(bench: Bench, how: str):
    """A cancelled job leaves no record: who waits for it cannot wait any longer all the same."""
    first = bench.push()
    dependents = [bench.push(depends_on=[first]) for _ in range(MANY)]
    end, state = ENDS[how]
    end(bench, first)
    bench.commit()
    assert bench.engine.has_chores
    bench.restart()
    work_off(bench, [])
    assert {bench.state(job_id).state for job_id in dependents} == {state}


@pytest.mark.untraced
def test_a_later_job_of_the_same_id_has_nothing_to_do_with_who_waits_for_the_first(bench: Bench):
    bench.push(job_id="first")
    early = [bench.push(depends_on=["first"]) for _ in range(MANY)]
    bench.pull()
    bench.ack("first")
    bench.push(job_id="first", priority=-1)
    late = bench.push(depends_on=["first"])
    bench.do(c.Cancel(id=early[-1]))
    work_off(bench, [])
    assert {bench.state(job_id).state for job_id in early[:-1]} == {"waiting"}
    assert bench.state(late).state == "waiting-children"
    check_structure(bench.engine, [])


def test_a_dependent_that_failed_meanwhile_hears_nothing(bench: Bench):
    """It waits for two jobs, and the second is cancelled before it is its turn to hear of the first."""
    first, second = bench.push(), bench.push(delay=1000)
    for _ in range(MANY):
        bench.push(depends_on=[first])
    last = bench.push(depends_on=[first, second])
    bench.pull()
    bench.ack(first)
    bench.do(c.Cancel(id=second))
    work_off(bench, [])
    assert bench.state(last).state == "failed"
    check_structure(bench.engine, [])


@pytest.mark.parametrize("dropped", [False, True])
def test_the_end_of_a_connection_with_many_jobs_comes_in_steps(bench: Bench, moves: list[int], *, dropped: bool):
    jobs = [bench.push() for _ in range(MANY)]
    for _ in jobs:
        bench.pull(owner="socket")
    bench.ack(jobs[-1])
    moves[:] = [0]
    bench.engine.release_owner("socket", bench.now, dropped=dropped)
    moves.append(0)
    bench.ack(jobs[-2])
    work_off(bench, moves)
    assert max(moves) < MANY - 2
    assert bench.engine.counts[State.WAITING] == MANY - 2
    assert bench.state(jobs[0]).stalls == dropped


@pytest.mark.untraced
def test_a_lease_that_ended_long_ago_is_over_for_a_connection_that_ends(bench: Bench):
    for _ in range(MANY):
        bench.push()
        bench.pull(lock_ttl=10, owner="socket")
    bench.now += 10
    bench.engine.release_owner("socket", bench.now, dropped=False)
    work_off(bench, [])
    assert bench.engine.totals.stalled == MANY


@pytest.mark.parametrize("jobs", [1, 20])
def test_a_command_names_a_bounded_number_of_dependencies(bench: Bench, jobs: int):
    first = bench.push()
    spec = c.JobSpec(data=Raw(b"1"), depends_on=[first] * (DEPENDENCIES_MAX // jobs))
    bench.do(c.PushBatch(queue="q", jobs=[spec] * jobs))
    more = c.JobSpec(data=Raw(b"1"), depends_on=[first])
    with pytest.raises(Refused, match=f"dependsOn must name at most {DEPENDENCIES_MAX} jobs"):
        bench.do(c.PushBatch(queue="q", jobs=[*[spec] * jobs, more]))


def test_ended_dependencies_are_looked_up_once_a_command(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    first = bench.push()
    bench.pull()
    bench.ack(first)
    bench.commit()
    looks: list[list[str]] = []
    outcomes = bench.disk.outcomes
    monkeypatch.setattr(bench.disk, "outcomes", lambda ids: (looks.append(list(ids)), outcomes(ids))[1])
    spec = c.JobSpec(data=Raw(b"1"), depends_on=[first] * 100)
    bench.do(c.PushBatch(queue="q", jobs=[spec] * 50))
    assert looks == [[first]]


@pytest.mark.parametrize("kind", ["ended", "open", "one", "earlier"])
@pytest.mark.parametrize(
    ("jobs", "names"), [*(pytest.param(n, 2000 // n, marks=pytest.mark.untraced) for n in (2000, 200)), (20, 100)]
)
def test_a_step_of_a_bulk_push_has_a_bounded_number_of_dependencies(
    bench: Bench, moves: list[int], monkeypatch: pytest.MonkeyPatch, jobs: int, names: int, kind: str
):
    """Looked up, each once, or kept of the jobs that are added."""
    looked, outcome = [0], type(bench.engine).outcome

    def counted(*args: Any) -> State | None:
        looked[-1] += 1
        return outcome(*args)

    monkeypatch.setattr(type(bench.engine), "outcome", counted)
    others = [bench.push("others", job_id=f"other-{n}") for n in range(1 if kind == "one" else jobs * names)]
    if kind == "ended":
        for _ in others:
            bench.ack(bench.pull_id("others") or "")
        bench.commit()
    named = ["own-0" if kind == "earlier" else others[n % len(others)] for n in range(jobs * names)]
    own = [c.JobSpec(data=Raw(b"1"), job_id="own-0")]
    specs = own + [
        c.JobSpec(data=Raw(b"1"), depends_on=named[n : n + names]) for n in range(0, len(named), names)
    ]  # fmt: skip
    moves[:], most = [0], max(50, 1 + names)
    bulk = Bulk(bench.engine, c.PushBatch(queue="q", jobs=specs), looked_at=50)
    assert not bulk.prepare()
    done = False
    while not done:
        looked.append(0)
        moves.append(0)
        before = len(bulk.reply.ids)
        done = bulk.add(50, bench.now)
        added = specs[before : len(bulk.reply.ids)]
        assert len(added) + sum(len(each.depends_on) for each in added) <= most
    assert max(looked) <= 50 + names
    assert sum(looked) == (0 if kind == "earlier" else len(others))
    assert max(moves) <= most
    assert bench.engine.reserved is None
    assert len(bulk.reply.ids) == 1 + jobs
    check_structure(bench.engine, [])


def test_what_is_over_is_over_however_much_else_is_due(bench: Bench):
    for _ in range(MANY):
        bench.push(ttl=1000)
    held = [bench.push("other") for _ in range(3)]
    tokens = [bench.pull("other", lock_ttl=1000).token for _ in held]
    fresh = bench.push(delay=1001)
    bench.now += 1000
    with pytest.raises(Refused, match="Job not found or not active"):
        bench.ack(held[0], tokens[0])
    with pytest.raises(Refused, match="Job not found or not active"):
        bench.do(c.ExtendLock(id=held[1], token=tokens[1] or "", duration=1000))
    assert bench.state(held[2]).state == "waiting"
    assert bench.pull().job is None
    assert bench.engine.totals.stalled == 3
    bench.now += 1
    assert bench.do(c.GetState(id=fresh)).state == "waiting"


def test_a_pull_steps_over_a_bounded_number_of_expired_jobs(bench: Bench, moves: list[int]):
    for _ in range(10 * ADVANCE_MAX):
        bench.push(ttl=1000)
    last = bench.push()
    bench.now += 1000
    moves[:] = [0]
    assert bench.pull().job is None
    assert max(moves) <= 2 * ADVANCE_MAX
    work_off(bench, moves)
    assert max(moves) <= 2 * ADVANCE_MAX
    assert bench.pull_id() == last


@pytest.mark.untraced
def test_the_jobs_of_a_connection_that_end_badly_do_so_one_after_the_other(bench: Bench):
    """The end of one of them begins work of its own: in a call within the call that would go as deep as there are jobs."""
    bench.engine.rules = Rules(stalls_max=0)
    jobs = [bench.push() for _ in range(MANY)]
    dependents = [bench.push("other", depends_on=[job_id]) for job_id in jobs]
    for _ in jobs:
        bench.pull(owner="socket")
    bench.engine.release_owner("socket", bench.now, dropped=True)
    work_off(bench, [])
    assert {bench.state(job_id).state for job_id in [*jobs, *dependents]} == {"failed"}


def test_a_dependent_that_was_cancelled_meanwhile_hears_nothing(bench: Bench):
    first = bench.push()
    dependents = [bench.push(depends_on=[first]) for _ in range(MANY)]
    bench.pull()
    bench.ack(first)
    bench.do(c.Cancel(id=dependents[-1]))
    work_off(bench, [])
    assert bench.engine.counts[State.WAITING] == MANY - 1
    check_structure(bench.engine, [])


def test_what_is_over_cannot_be_cancelled(bench: Bench):
    for _ in range(MANY):
        bench.push(ttl=1000)
    last = bench.push(ttl=1000)
    bench.now += 1000
    with pytest.raises(Refused, match="Job not found"):
        bench.do(c.Cancel(id=last))
    assert bench.engine.totals.cancelled == 0


@pytest.mark.untraced
def test_a_promoted_job_leaves_a_long_line_by_its_place(bench: Bench):
    """Counted in looks at a place: two searches by halves, however many are delayed."""
    ids = [bench.push(delay=1000 + n) for n in range(5000)]
    line, looks = bench.engine.queues["q"].delayed, 0
    place = line.place

    def counted(job: Job) -> object:
        nonlocal looks
        looks += 1
        return place(job)

    line.place = counted
    bench.do(c.Promote(id=ids[-1]))
    bench.do(c.Promote(id=ids[2500]))
    assert 0 < looks < 60
    assert bench.state(ids[-1]).state == "waiting"
    check_structure(bench.engine, [])


@pytest.mark.untraced
def test_cancels_over_many_priorities_leave_nothing_behind(bench: Bench):
    """One job of the highest priority keeps the line from being emptied; nothing else may pile up behind it."""
    bench.push(priority=1_000_000)
    ready = bench.engine.queues["q"].ready
    for priority in range(3000):
        bench.do(c.Cancel(id=bench.push(priority=priority)))
        assert list(ready.by_priority()) == [1_000_000]
        assert (ready._lower.lines, list(ready._lower.priorities)) == ({}, [])
    for job_id in [bench.push(priority=n % 3) for n in range(3000)]:
        bench.do(c.Cancel(id=job_id))
    assert [len(line) for _, line in ready.lines()] == [1]
    assert bench.pull().job is not None


def test_a_pull_of_many_large_jobs_ends_at_a_number_of_bytes(bench: Bench):
    data = b'"%s"' % (b"x" * (PULL_BATCH_BYTES // 4))
    for _ in range(10):
        bench.push(data=Raw(data))
    assert len(bench.do(c.PullBatch(queue="q", count=10)).jobs) == 4
    assert bench.rules.pull_bytes == PULL_BATCH_BYTES
    bench.push("huge", data=Raw(b'"%s"' % (b"x" * (2 * PULL_BATCH_BYTES))))
    assert len(bench.do(c.PullBatch(queue="huge", count=10)).jobs) == 1, "one always comes"


def test_pulls_of_many_large_jobs_that_share_a_commit_end_at_a_number_of_bytes_in_all(bench: Bench):
    """Whoever waits for a commit waits for what is delivered beside it, too."""
    data = b'"%s"' % (b"x" * (PULL_BATCH_BYTES // 4))
    for _ in range(20):
        bench.push(data=Raw(data))
    taken = [len(bench.do(c.PullBatch(queue="q", count=3)).jobs) for _ in range(5)]
    assert sum(taken[:3]) * len(data) >= DELIVERED_BYTES
    assert taken == [3, 3, 2, 1, 1]
    bench.engine.take()
    assert len(bench.do(c.PullBatch(queue="q", count=3)).jobs) == 3
    assert len(bench.do(c.PullBatch(queue="q", count=0)).jobs) == 0
