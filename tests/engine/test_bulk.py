"""Bulk commands in several steps: what was found possible in the first stays so, whatever others do before the last."""

from contextlib import suppress
from types import SimpleNamespace
from typing import NoReturn

import pytest
from msgspec import Raw

from bunqueue_trio.config import BULK_SLICE
from bunqueue_trio.engine.commands.push import Bulk, pushes_of
from bunqueue_trio.engine.commands.report import ACK_CHARACTERS, DEATH_ACKS, FAILURE_ACKS, Failures, acks_of
from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import Refused, StoreError
from bunqueue_trio.protocol import commands as c
from tests.engine.make import Bench


def begun(bench: Bench, *specs: c.JobSpec) -> Bulk:
    bulk = Bulk(bench.engine, c.PushBatch(queue="q", jobs=[*specs]))
    bulk.prepare()
    return bulk


def spec(**fields: object) -> c.JobSpec:
    return c.JobSpec(data=Raw(b"1"), **fields)


RETRIES: dict[str, c.Command] = {
    "one": c.RetryDlq(queue="other", job_id="a"),
    "any": c.RetryDlq(queue="other"),
    "moved": c.MoveToWait(id="a"),
    "found": c.ActOnJobs(filter=c.Filter(queue="other", state=["failed"]), action="retry"),
}


@pytest.mark.parametrize("command", RETRIES.values(), ids=RETRIES)
def test_a_dead_letter_of_another_queue_that_has_one_of_its_ids_does_not_wait_again_meanwhile(
    bench: Bench, command: c.Command
):
    bench.push("other", job_id="a", max_attempts=1)
    bench.pull_id("other")
    bench.fail("a")
    bench.commit()
    bulk = begun(bench, spec(), spec(job_id="a"))
    with suppress(Refused):
        bench.do(command)
    while not bulk.add(1, bench.now):
        pass
    assert bench.engine.jobs["a"].queue == "q"


def test_its_jobs_come_in_order_and_the_last_step_says_so(bench: Bench):
    bulk = begun(bench, *(spec(priority=n) for n in range(5)))
    assert [bulk.add(2, bench.now) for _ in range(3)] == [False, False, True]
    assert [bench.engine.jobs[job_id].priority for job_id in bulk.reply.ids] == [0, 1, 2, 3, 4]


def test_its_ids_are_taken_in_other_queues_until_it_is_in(bench: Bench):
    bulk = begun(bench, spec(), spec(job_id="a"))
    with pytest.raises(Refused, match="in use by a job of another queue: a"):
        bench.do(c.Push(queue="other", data=Raw(b"1"), job_id="a"))
    bench.do(c.Push(queue="other", data=Raw(b"1"), job_id="b"))
    bench.do(c.Push(queue="q", data=Raw(b"1"), job_id="a"))
    assert bulk.add(2, bench.now)
    assert bulk.reply.ids[1] == "a"
    bench.do(c.Cancel(id="a"))
    bench.do(c.Push(queue="other", data=Raw(b"1"), job_id="a"))


@pytest.mark.parametrize("is_written", [True, False])
def test_a_dependency_that_had_ended_may_be_forgotten_meanwhile(bench: Bench, is_written: bool):
    first = bench.push()
    bench.do(c.Pull(queue="q"))
    bench.do(c.Ack(id=first))
    if is_written:
        bench.commit()
    bulk = begun(bench, spec(depends_on=[first]), spec(depends_on=[first]))
    bench.do(c.Push(queue="q", data=Raw(b"1"), job_id=first))
    bench.do(c.Cancel(id=first))
    bulk.add(4, bench.now)
    assert [bench.engine.jobs[job_id].state for job_id in bulk.reply.ids] == [State.WAITING] * 2


def test_a_dependency_that_ends_badly_meanwhile_ends_its_dependents(bench: Bench):
    first = bench.push()
    bulk = begun(bench, spec(depends_on=[first]), spec(depends_on=[first]))
    bulk.add(1, bench.now)
    bench.do(c.Cancel(id=first))
    bulk.add(1, bench.now)
    assert [bench.engine.jobs[job_id].state for job_id in bulk.reply.ids] == [State.FAILED] * 2


def stepped(bench: Bench, *specs: c.JobSpec) -> Bulk:
    """A bulk push that looks at two things in a step."""
    bulk = Bulk(bench.engine, c.PushBatch(queue="q", jobs=[*specs]), looked_at=2)
    assert not bulk.prepare()
    return bulk


def test_one_that_is_looked_at_in_steps_and_refused_in_a_later_one_leaves_nothing(bench: Bench):
    first = bench.push()
    bulk = stepped(bench, spec(job_id="a", depends_on=[first]), spec(), spec(depends_on=["nobody", "neither"]))
    with pytest.raises(Refused, match="in use by a job of another queue: a"):
        bench.do(c.Push(queue="other", data=Raw(b"1"), job_id="a"))
    with pytest.raises(Refused, match=r"^jobs\[2\]: Dependency job not found: nobody$"):
        bulk.add(10, bench.now)
    assert dict(bench.engine.jobs).keys() == {first}
    bench.do(c.Push(queue="other", data=Raw(b"1"), job_id="a"))


def test_one_whose_names_cannot_be_read_in_a_later_step_leaves_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    bulk = stepped(bench, spec(job_id="a"), spec(), spec(depends_on=["ended"]))

    def unreadable(_: object) -> NoReturn:
        raise StoreError("the file is damaged")

    monkeypatch.setattr(bench.engine, "archive", SimpleNamespace(outcomes=unreadable, at_once=True))
    with pytest.raises(StoreError):
        bulk.add(10, bench.now)
    assert dict(bench.engine.jobs).keys() == set()
    bench.do(c.Push(queue="other", data=Raw(b"1"), job_id="a"))


def test_the_first_impossible_job_is_named_however_it_is_impossible(bench: Bench):
    bench.push("other", job_id="taken")
    wrong = {"foreign": spec(job_id="taken"), "unknown": spec(depends_on=["nobody"]), "empty": c.JobSpec()}
    for one in wrong.values():
        for other in wrong.values():
            with pytest.raises(Refused, match=r"^jobs\[1\]: "):
                bench.do(c.PushBatch(queue="q", jobs=[spec(), one, other]))
    both = spec(job_id="taken", depends_on=["nobody"])
    with pytest.raises(Refused, match="another queue"):
        bench.do(c.PushBatch(queue="q", jobs=[both]))


def test_the_jobs_that_a_bulk_push_names_may_be_its_own_in_whatever_step(bench: Bench):
    bulk = stepped(bench, *(spec(job_id=f"{n}", depends_on=[f"{n - 1}"] if n else []) for n in range(6)))
    while not bulk.add(2, bench.now):
        pass
    assert [bench.state(f"{n}").state for n in range(6)] == ["waiting", *["waiting-children"] * 5]
    late = stepped(bench, spec(), spec(), spec(depends_on=["b"]), spec(job_id="b"))
    with pytest.raises(Refused, match=r"^jobs\[2\]: Dependency job not found: b$"):
        late.add(2, bench.now)


def test_what_others_do_between_two_looks_counts_as_if_it_had_come_before(bench: Bench):
    bulk = stepped(bench, spec(), spec(), spec(job_id="a"))
    bench.do(c.Push(queue="other", data=Raw(b"1"), job_id="a"))
    with pytest.raises(Refused, match=r"^jobs\[2\]: .*another queue: a$"):
        bulk.add(2, bench.now)
    first = bench.push()
    bulk = stepped(bench, spec(depends_on=[first]), spec(), spec(depends_on=[first]))
    bench.do(c.Cancel(id=first))
    while not bulk.add(2, bench.now):
        pass
    assert [bench.engine.jobs[job_id].state for job_id in bulk.reply.ids] == [State.FAILED, State.WAITING, State.FAILED]


def test_a_bulk_push_in_one_step_leaves_the_ids_of_one_that_is_half_in_taken(bench: Bench):
    begun(bench, spec(), spec(job_id="a"))
    bench.do(c.PushBatch(queue="other", jobs=[spec(job_id="b")]))
    with pytest.raises(Refused, match="another queue: a"):
        bench.do(c.Push(queue="other", data=Raw(b"1"), job_id="a"))


def test_an_ended_dependency_that_a_bulk_push_replaces_is_its_new_job(bench: Bench):
    """The new one ends badly at once, and leaves nothing: who names it after that cannot wait for the old one's success."""
    for job_id in ("old", "dead"):
        bench.push(job_id=job_id, max_attempts=1)
        bench.pull()
        (bench.ack if job_id == "old" else bench.fail)(job_id)
    specs = [
        spec(depends_on=["old"]),
        spec(job_id="old", depends_on=["dead"], remove_on_fail=True),
        spec(depends_on=["old"]),
    ]
    reply = bench.do(c.PushBatch(queue="q", jobs=specs))
    assert bench.engine.jobs[reply.ids[0]].state is State.WAITING
    assert bench.engine.jobs[reply.ids[2]].state is State.FAILED


def test_fewer_failures_than_acks_are_a_step_and_one_at_least(bench: Bench):
    ids = [bench.push() for _ in range(4)]
    bench.do(c.PullBatch(queue="q", count=4))
    failures = Failures(bench.engine, c.FailBatch(failures=[c.Failure(id=job_id) for job_id in ids]))
    done = []
    for count, is_last in ((2 * FAILURE_ACKS, False), (1, False), (FAILURE_ACKS, True)):
        assert failures.add(count, bench.now) is is_last
        done.append(sum(bench.engine.jobs[job_id].state is State.DELAYED for job_id in ids))
    assert done == [2, 3, 4]


def test_a_step_has_fewer_failures_the_longer_their_texts_are(bench: Bench):
    """A death with a text of 65,536 characters is the work of a hundred acks: a step of many would hold up everybody."""
    ids = [bench.push(max_attempts=1) for _ in range(6)]
    bench.do(c.PullBatch(queue="q", count=6))
    text = "x" * 100 * ACK_CHARACTERS
    told = [
        c.Failure(id=job_id, error=text, stack=text[:n])
        for job_id, n in zip(ids, (0, 0, 0, 0, 51_200, 51_200), strict=True)
    ]
    assert [acks_of(each) - FAILURE_ACKS for each in told] == [100, 100, 100, 100, 200, 200]
    failures = Failures(bench.engine, c.FailBatch(failures=told))
    done = []
    for is_last in (False, False, False, True):
        assert failures.add(680, bench.now) is is_last
        done.append(sum(bench.state(job_id).state == "failed" for job_id in ids))
    assert done == [2, 4, 5, 6]


def test_failures_that_jobs_die_of_are_more_work(bench: Bench):
    """Each text is looked through, to find out which fault it is."""
    for _ in range(10):
        bench.do(c.Push(queue="q", data=Raw(b"1")))
    jobs = bench.do(c.PullBatch(queue="q", count=10)).jobs
    dying = [c.Failure(id=job.id, error=f"E {job.id}", unrecoverable=True) for job in jobs]
    failures = Failures(bench.engine, c.FailBatch(failures=dying))
    died = []
    while not failures.add(3 * (DEATH_ACKS + FAILURE_ACKS), bench.now):
        died.append(len(failures.done))
    assert died == [3, 6, 9]


def test_texts_that_may_take_long_to_tell_from_others_are_fewer_to_a_step(bench: Bench):
    """Whoever likes makes each of them take 2 ms."""
    for _ in range(10):
        bench.do(c.Push(queue="q", data=Raw(b"1")))
    jobs = bench.do(c.PullBatch(queue="q", count=10)).jobs
    dying = [c.Failure(id=job.id, error=f"{job.id} " + "a-" * 190, unrecoverable=True) for job in jobs]
    batch = c.FailBatch(failures=dying)
    failures = Failures(bench.engine, batch)
    assert failures.add(BULK_SLICE, bench.now) is False
    assert len(failures.done) == 3
    assert bench.do(batch).data.ignored_ids == [job.id for job in jobs[:3]], "not in slices it is all of them at once"


def test_failures_of_which_each_says_something_else_are_the_work_to_find_their_groups(bench: Bench):
    """All of these are tried again; of a text that comes once more the group is known."""
    ids = [bench.push(max_attempts=5) for _ in range(6)]
    bench.do(c.PullBatch(queue="q", count=6))
    said = ["a", "a", "a", "b", "c", "d"]
    batch = c.FailBatch(failures=[c.Failure(id=job_id, error=text) for job_id, text in zip(ids, said, strict=True)])
    failures = Failures(bench.engine, batch)
    done = []
    while not failures.add(DEATH_ACKS + 3 * FAILURE_ACKS, bench.now):
        done.append(len(failures.done))
    assert done == [3, 5]


@pytest.mark.parametrize(("text", "steps"), [("one text", [9]), ("x" * 1200, [1, 2, 3, 4, 5, 6, 7, 8, 9])])
def test_of_a_text_that_many_die_of_the_group_is_found_once_unless_it_is_long(
    bench: Bench, text: str, steps: list[int]
):
    for _ in range(9):
        bench.push()
    jobs = bench.do(c.PullBatch(queue="q", count=9)).jobs
    dying = [c.Failure(id=job.id, error=text, unrecoverable=True) for job in jobs]
    failures = Failures(bench.engine, c.FailBatch(failures=dying))
    done = []
    while not failures.add(DEATH_ACKS + 9 * FAILURE_ACKS, bench.now):
        done.append(len(failures.done))
    assert [*done, 9] == steps


def test_a_dependency_is_as_much_work_as_a_job(bench: Bench):
    """Ten jobs with a thousand of them each are no small push."""
    jobs = [spec(depends_on=["a", "b"]), spec()]
    assert pushes_of(c.PushBatch(queue="q", jobs=jobs)) == 4
