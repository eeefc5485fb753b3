"""Many jobs removed at once: a bounded number in a step, and what one means for others."""

import pytest
from msgspec import Raw

from bunqueue_trio.engine.commands import clear
from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from tests.engine.engine_disk import freeze
from tests.engine.make import T0, Bench


def die(bench: Bench, queue: str = "q") -> str:
    job = bench.push(queue, max_attempts=1, priority=9)
    bench.pull(queue)
    bench.fail(job)
    return job


def test_a_drain_takes_the_next_ones_first_and_tells_who_waited_for_them(bench: Bench):
    ids = [bench.push(priority=priority) for priority in (0, 5, 0)]
    dependent = bench.push(depends_on=[ids[1]])
    bench.events()
    said = bench.do(c.Drain(queue="q", limit=1))
    assert (said.count, said.left) == (1, 2)
    assert bench.events() == [f"removed {ids[1]}", f"failed {dependent}", "cleaned "]
    assert bench.engine.totals.cancelled == 1


@pytest.mark.parametrize("how", ["drain", "promote"])
def test_what_comes_after_the_moment_that_is_said_stays(bench: Bench, monkeypatch: pytest.MonkeyPatch, how: str):
    """Also where it comes before the others."""
    monkeypatch.setattr(clear, "LOOKS", 3)
    delay = 1000 if how == "promote" else 0
    old = [bench.push(delay=delay + n) for n in range(2)]
    began = bench.now
    bench.now += 5

    def go_on(limit: int = 2) -> tuple[int, int]:
        if how == "promote":
            said = bench.do(c.PromoteJobs(queue="q", count=limit, as_of=began))
        else:
            said = bench.do(c.Drain(queue="q", limit=limit, as_of=began))
        return said.count, said.left

    for _ in range(3):
        bench.push(priority=9, delay=delay and 1)
    assert go_on(limit=1) == (1, 4)
    job = bench.engine.jobs.find(old[0])
    assert job is None if how == "drain" else job is not None and job.state is State.WAITING
    assert go_on() == (1, 3)
    assert go_on() == (0, 3)


def test_no_step_looks_past_very_many_newcomers(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(clear, "LOOKS", 3)
    bench.push()
    began = bench.now
    bench.now += 5
    for _ in range(5):
        bench.push(priority=9)
    said = bench.do(c.Drain(queue="q", limit=1, as_of=began))
    assert (said.count, said.left) == (0, 6)
    said = bench.do(c.Drain(queue="q", limit=1, as_of=began, after=said.next))
    assert (said.count, said.left, said.next) == (1, 5, None)


@pytest.mark.parametrize("how", ["drain", "drain delayed ones", "promote"])
def test_who_goes_on_gets_to_what_was_there_however_much_has_come_before_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, how: str
):
    """And no further than to the end, whatever is left."""
    monkeypatch.setattr(clear, "LOOKS", 3)
    for n in range(8):
        bench.push(delay=0 if how == "drain" else 5000 + n)
    began = bench.now
    bench.now += 5
    for n in range(40):
        bench.push(priority=n % 3, lifo=n % 2 == 0, delay=0 if n % 4 and how != "promote" else 1000 + n)
    counts, after = list[int](), None
    while True:
        if how == "promote":
            said = bench.do(c.PromoteJobs(queue="q", count=3, as_of=began, after=after))
        else:
            said = bench.do(c.Drain(queue="q", limit=3, as_of=began, after=after, delayed=how != "drain"))
        counts.append(said.count)
        assert len(counts) < 20
        after = said.next
        if after is None:
            break
    assert (sum(counts), said.left, 0 in counts) == (8, 30 if how == "drain" else 40, True)


@pytest.mark.parametrize(
    "after", ["x", "delayed", "delayed,", "delayed,1", "active,1,1", "waiting,1,1,1", "waiting,1,\n1"]
)
@pytest.mark.parametrize("queue", ["q", "nobody"])
def test_what_is_no_place_of_theirs_is_refused(bench: Bench, queue: str, after: str):
    job = bench.push(delay=1000)
    with pytest.raises(Refused, match="after"):
        bench.do(c.Drain(queue=queue, after=after))
    for place in (after, "waiting,1,1"):
        with pytest.raises(Refused, match="after"):
            bench.do(c.PromoteJobs(queue=queue, after=place))
    assert bench.state(job).state == "delayed"


def test_a_queue_that_is_not_there_is_clean(bench: Bench):
    assert bench.do(c.Drain(queue="q")).count == 0
    assert bench.do(c.Clean(queue="q", state="waiting")).ids == []
    assert bench.do(c.Clean(queue="q", state="failed")).ids == []
    assert bench.do(c.Obliterate(queue="q")).done
    assert not bench.engine.has_changes


def test_of_jobs_that_wait_for_each_other_each_is_removed_or_dead(bench: Bench):
    first = bench.push(delay=1000)
    second = bench.push(depends_on=[first])
    third = bench.push(depends_on=[second])
    said = bench.do(c.Clean(queue="q", state="waiting-children"))
    assert (said.ids, said.scanned) == ([second], 2)
    assert bench.state(third).state == "failed"


@pytest.mark.parametrize(("grace", "gone"), [(0, 3), (10, 2), (20, 1), (21, 0)])
def test_age_counts_from_the_push_or_from_the_end(bench: Bench, grace: int, gone: int):
    """So old, and not older, is old enough."""
    for state in ("waiting", "failed"):
        bench.now = T0
        for at in (0, 10, 20):
            bench.now = T0 + at
            if state == "waiting":
                bench.push("w")
            else:
                die(bench)
        bench.commit()
        said = bench.do(c.Clean(queue="w" if state == "waiting" else "q", state=state, grace=grace))
        assert (said.count, said.scanned) == (gone, 3)


def test_a_record_that_is_deleted_is_on_the_disk_until_the_commit_and_shown_no_more(bench: Bench):
    dead, other = die(bench), die(bench)
    bench.commit()
    assert not bench.engine.has_changes
    said = bench.do(c.PurgeDlq(queue="q", job_id=dead))
    assert (said.count, said.left) == (1, 1)
    assert bench.engine.has_changes
    assert bench.engine.find(dead) is None
    assert [entry.job.id for entry in bench.do(c.Dlq(queue="q")).entries] == [other]
    assert dead in bench.disk.finished
    bench.commit()
    assert list(bench.disk.finished) == [other]
    assert bench.engine.dead_left("q") == 1


def test_a_page_of_dead_letters_is_deleted_and_each_has_a_reason(bench: Bench):
    dead = [die(bench), bench.push()]
    bench.do(c.Discard(id=dead[1]))
    bench.commit()
    assert [entry.reason for entry in bench.do(c.Dlq(queue="q")).entries] == ["discarded", "max_attempts_exceeded"]
    said = bench.do(c.PurgeDlq(queue="q", limit=1))
    assert (said.count, said.left) == (1, 1)
    said = bench.do(c.PurgeDlq(queue="q", limit=1, after=said.next))
    assert (said.count, said.left, said.next) == (1, 0, None)
    bench.commit()
    assert bench.disk.finished == {}


def test_the_id_of_a_completed_job_is_taken_anew_while_its_end_is_being_written(bench: Bench):
    bench.push(job_id="mine")
    bench.pull()
    bench.ack("mine")
    changes = bench.engine.take()
    batch = freeze(changes)
    bench.push(job_id="mine")
    bench.disk.commit(batch)
    bench.engine.forget(changes.jobs)
    assert bench.engine.dead_left("q") == 0
    bench.commit()
    assert bench.disk.finished == {}


@pytest.mark.parametrize("when", ["not committed", "in flight"])
def test_a_dead_letter_is_deleted_before_it_is_on_the_disk(bench: Bench, when: str):
    dead = die(bench)
    if when == "in flight":
        changes = bench.engine.take()
        batch = freeze(changes)
        bench.do(c.PurgeDlq(queue="q", id=dead))
        bench.disk.commit(batch)
        bench.engine.forget(changes.jobs)
    else:
        bench.do(c.PurgeDlq(queue="q", id=dead))
    assert bench.engine.find(dead) is None
    bench.commit()
    assert bench.disk.finished == {}
    assert bench.engine.jobs == {}


def test_an_id_that_was_deleted_is_free(bench: Bench):
    bench.push(job_id="mine", max_attempts=1)
    bench.pull()
    bench.fail("mine")
    bench.commit()
    bench.do(c.PurgeDlq(queue="q", job_id="mine"))
    bench.push(job_id="mine", data=Raw(b"2"))
    bench.commit()
    found = bench.engine.find("mine")
    assert found is not None
    assert (found.state, found.data, bench.disk.finished) == (State.WAITING, b"2", {})


def test_an_obliterated_queue_is_done_when_nothing_is_left(bench: Bench):
    first = bench.push()
    bench.push(depends_on=[first])
    bench.push("other")
    for _ in range(2):
        die(bench)
    bench.commit()
    bench.do(c.SetConcurrency(queue="q", concurrency=1))
    bench.do(c.RateLimit(queue="q", limit=9))
    counts = []
    while not (said := bench.do(c.Obliterate(queue="q", limit=3))).done:
        counts.append(said.count)
        assert "q" in bench.engine.gates, "what is half removed must not run again"
        bench.commit()
        assert len(counts) < 10
    assert [*counts, said.count] == [2, 2]
    bench.commit()
    assert "q" in bench.engine.woken
    assert (bench.disk.finished, dict(bench.engine.gates)) == ({}, {})
    assert bench.pull_id("other") is not None


def test_what_ends_while_a_queue_is_obliterated_is_not_forgotten(bench: Bench):
    """A dependent that dies of it is a record only after the commit."""
    first = bench.push(priority=1)
    dependent = bench.push(depends_on=[first])
    assert not bench.do(c.Obliterate(queue="q", limit=1)).done
    assert bench.state(dependent).state == "failed"
    bench.commit()
    said = bench.do(c.Obliterate(queue="q"))
    assert (said.count, said.done) == (1, True)


def test_an_obliterated_queue_is_not_done_while_it_gets_records(bench: Bench):
    """Of jobs that wait for those that were removed, in the same queue or by way of another one."""
    first = bench.push()
    between = bench.push("other", depends_on=[first])
    last = bench.push(depends_on=[between])
    assert not bench.do(c.Obliterate(queue="q", limit=1)).done
    assert bench.state(last).state == "failed"
    bench.commit()
    said = bench.do(c.Obliterate(queue="q"))
    assert (said.count, said.done) == (1, True)
    bench.push()
    bench.push("other")
    assert bench.do(c.Obliterate(queue="q")).done, "what is in another queue is not in the way"


def test_active_jobs_are_taken_from_their_workers_by_force_only(bench: Bench):
    job = bench.push()
    bench.pull()
    with pytest.raises(Refused, match="Queue has active jobs"):
        bench.do(c.Obliterate(queue="q"))
    assert bench.do(c.Obliterate(queue="q", force=True)).count == 1
    assert bench.engine.find(job) is None


def test_those_are_promoted_first_whose_time_is_next(bench: Bench):
    last, first, second = (bench.push(delay=delay) for delay in (300, 100, 200))
    said = bench.do(c.PromoteJobs(queue="q", count=2))
    assert (said.count, said.left) == (2, 1)
    bench.commit()
    bench.restart()
    assert [bench.pull_id() for _ in range(2)] == [first, second]
    assert bench.pull_id() is None
    assert bench.do(c.PromoteJobs(queue="q")).count == 1
    assert bench.pull_id() == last
    assert bench.do(c.PromoteJobs(queue="nobody")).left == 0


def test_a_dry_run_of_a_cleaning_tells_what_would_go_and_removes_nothing(bench: Bench):
    for _ in range(3):
        bench.push(data=Raw(b'"' + b"x" * 1000 + b'"'))
    dead = die(bench)
    bench.commit()
    for state, ids in (("waiting", 3), ("failed", 1)):
        would = bench.do(c.Clean(queue="q", state=state, dry_run=True))
        assert (would.count, len(would.ids), would.scanned) == (ids, ids, ids)
        assert not bench.engine.has_changes
        assert would.bytes == ids * 200 + (3 * 1002 if state == "waiting" else len(b"1") + len("boom"))
    done = bench.do(c.Clean(queue="q", state="failed"))
    assert (done.ids, done.bytes) == ([dead], would.bytes)
    assert bench.do(c.Clean(queue="q", state="waiting", grace=5000, dry_run=True)).bytes == 0


def test_an_obliterated_queue_is_not_done_while_more_is_there(bench: Bench):
    for _ in range(3):
        die(bench)
    bench.commit()
    assert not bench.do(c.Obliterate(queue="q", limit=2)).done, "a record is left"
    bench.commit()
    assert bench.do(c.Obliterate(queue="q", limit=2)).done
    for _ in range(3):
        bench.push()
    assert not bench.do(c.Obliterate(queue="q", limit=2)).done, "a job is left"


@pytest.mark.parametrize("command", [c.Obliterate(queue="q"), c.Clean(queue="q", state="waiting-children")])
@pytest.mark.thorough
def test_jobs_that_wait_for_many_are_more_work_to_remove(bench: Bench, command: c.Command):
    """Each dependency is to be forgotten: 1,000 jobs may wait for a million."""
    names = [bench.push("others", delay=1000) for _ in range(1000)]
    for _ in range(50):
        bench.push(depends_on=names)
    said = bench.do(command)
    assert 0 < said.count < 30
    while bench.do(command).count:
        pass
    assert bench.engine.counts[State.WAITING_CHILDREN] == 0
