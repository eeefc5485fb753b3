"""Dead letters that wait again: what they keep, what starts anew, and that a job is never both."""

from typing import Any

import pytest
from msgspec import Raw

from bunqueue_trio.engine.engine import Rules
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from tests.engine.engine_disk import freeze
from tests.engine.make import Bench


def die(bench: Bench, **options: Any) -> str:
    job_id = bench.push(max_attempts=1, **options)
    assert bench.pull_id() == job_id
    bench.fail(job_id)
    return job_id


def retry(bench: Bench, job_id: str | None = None, **how: Any) -> tuple[int, int, str | None]:
    reply = bench.do(c.RetryDlq(queue="q", job_id=job_id, **how))
    return reply.count, reply.left, reply.next


def listed(bench: Bench) -> tuple[list[str], int]:
    reply = bench.do(c.Dlq(queue="q"))
    return [entry.job.id for entry in reply.entries], reply.total


@pytest.mark.parametrize("committed", [True, False])
def test_a_retried_job_is_new_under_its_id(bench: Bench, *, committed: bool):
    dead = die(bench)
    if committed:
        bench.commit()
    behind = bench.push()
    bench.now += 5
    assert retry(bench, dead) == (1, 0, None)
    assert bench.state(dead).state == "waiting"
    assert bench.do(c.GetJob(id=dead)).job.attempts == 0
    bench.commit()
    bench.restart()
    assert [bench.pull_id(), bench.pull_id()] == [behind, dead]
    assert listed(bench) == ([], 0)


def test_a_retry_that_is_not_committed_leaves_the_job_dead(bench: Bench):
    dead = die(bench)
    bench.commit()
    retry(bench, dead)
    bench.restart()
    assert bench.state(dead).state == "failed"
    assert listed(bench) == ([dead], 1)
    assert bench.pull_id() is None


def test_many_are_retried_by_pages_and_queue_as_they_died(bench: Bench):
    ids = [die(bench) for _ in range(5)]
    bench.commit()
    count, left, after = retry(bench, limit=2)
    assert (count, left) == (2, 3)
    assert after is not None
    assert listed(bench) == (ids[:1:-1], 3)
    count, left, after = retry(bench, limit=2, after=after)
    assert (count, left) == (2, 1)
    assert retry(bench, limit=2, after=after) == (1, 0, None)
    assert retry(bench) == (0, 0, None)
    assert [bench.pull_id() for _ in ids] == ids


@pytest.mark.parametrize("how", ["all", "of an error", "by a filter"])
def test_those_that_die_again_meanwhile_are_not_retried_for_ever(bench: Bench, how: str):
    """Whoever goes on until there is no next page comes to an end, and has retried each job once."""
    ids = [die(bench) for _ in range(5)]
    bench.now += 5
    after, retried = None, 0
    while True:
        bench.commit()
        if how == "by a filter":
            said = bench.do(c.ActOnJobs(filter=c.Filter(queue="q"), action="retry", limit=2, after=after))
        else:
            said = bench.do(c.RetryDlq(queue="q", limit=2, after=after, error="boom" if how == "of an error" else None))
        assert bool(said.count) is (retried < len(ids))
        for job_id in ids[retried : retried + said.count]:
            bench.now += 5
            assert bench.pull_id() == job_id, "they queue in the order in which they died"
            bench.fail(job_id)
        retried, after = retried + said.count, said.next
        if after is None:
            break
    bench.commit()
    assert (retried, bench.engine.dead_left("q")) == (5, 5)


@pytest.mark.parametrize("after", ["5", "x", "1,2,3"])
def test_what_is_no_cursor_of_a_retry_is_refused(bench: Bench, after: str):
    """That of a list, which goes the other way, is none either."""
    die(bench)
    bench.commit()
    with pytest.raises(Refused, match="after must be"):
        retry(bench, after=after)
    filtered = "failed|q|5" if after == "5" else "failed|q|" if after == "x" else "failed|q|1,2,3"
    with pytest.raises(Refused, match="after must be"):
        retry(bench, after=filtered, error="boom")
    with pytest.raises(Refused, match="after must be"):
        bench.do(c.ActOnJobs(filter=c.Filter(queue="q"), action="retry", after=filtered))


def test_those_of_an_error_are_listed_retried_and_deleted(bench: Bench):
    said = {"late 1": [], "late 2": [], "refused": []}
    for error in [*said, *said]:
        job_id = bench.push(max_attempts=1)
        bench.pull_id()
        bench.fail(job_id, error)
        said[error].append(job_id)
    bench.commit()
    key = next(group.fingerprint for group in bench.do(c.DlqGroups(queue="q")).groups if group.shape == "late …")
    page = bench.do(c.Dlq(queue="q", fingerprint=key, limit=3))
    found = [entry.job.id for entry in page.entries]
    assert (page.total, page.next is None) == (6, False)
    found += [entry.job.id for entry in bench.do(c.Dlq(queue="q", fingerprint=key, limit=3, after=page.next)).entries]
    assert found == [said["late 2"][1], said["late 1"][1], said["late 2"][0], said["late 1"][0]]
    assert [entry.error for entry in bench.do(c.Dlq(queue="q", fingerprint=key, error="1")).entries] == ["late 1"] * 2
    assert retry(bench, error="late 1") == (2, 4, None)
    reply = bench.do(c.PurgeDlq(queue="q", fingerprint=key))
    assert (reply.count, reply.left) == (2, 2)
    assert listed(bench)[0] == said["refused"][::-1]


def test_what_waits_again_is_not_left_while_its_commit_is_under_way(bench: Bench):
    ids = [die(bench) for _ in range(3)]
    bench.commit()
    retry(bench, ids[0])
    bench.engine.take()
    assert listed(bench) == ([ids[2], ids[1]], 2)
    assert retry(bench, ids[1]) == (1, 1, None)


def test_one_that_dies_again_before_its_commit_is_counted_once(bench: Bench):
    ids = [die(bench) for _ in range(2)]
    bench.commit()
    retry(bench, ids[0])
    bench.pull_id()
    bench.fail(ids[0])
    assert retry(bench, ids[0]) == (1, 1, None)
    bench.commit()
    assert listed(bench) == ([ids[1]], 1)


def test_one_that_is_cancelled_and_pushed_anew_before_its_commit_is_left_nowhere(bench: Bench):
    die(bench, job_id="x")
    bench.commit()
    assert retry(bench, "x") == (1, 0, None)
    bench.do(c.Cancel(id="x"))
    assert listed(bench) == ([], 0)
    bench.push(job_id="x")
    assert listed(bench) == ([], 0)
    bench.commit()
    assert listed(bench) == ([], 0)
    assert bench.pull_id() == "x"


@pytest.mark.parametrize("how", ["one", "all"])
@pytest.mark.parametrize("committed", [True, False])
def test_one_that_is_retried_while_its_death_is_being_committed_is_left_nowhere(
    bench: Bench, how: str, *, committed: bool
):
    """A thread may have committed it, and the engine does not know it yet."""
    dead = die(bench)
    changes = bench.engine.take()
    batch = freeze(changes)
    if committed:
        bench.disk.commit(batch)
    one = how == "one" or not committed  # all of them are those on the disk
    assert retry(bench, dead if one else None) == (1, 0, None)
    assert listed(bench) == ([], 0)
    if not committed:
        bench.disk.commit(batch)
        assert listed(bench) == ([], 0)
    bench.engine.forget(changes.jobs)
    assert listed(bench) == ([], 0)
    assert bench.pull_id() == dead
    bench.commit()
    assert listed(bench) == ([], 0)


def test_one_that_is_retried_before_its_death_is_written_was_never_counted(bench: Bench):
    other = die(bench)
    bench.commit()
    dead = die(bench)
    assert retry(bench, dead) == (1, 1, None)
    assert listed(bench) == ([other], 1)
    bench.commit()
    assert listed(bench) == ([other], 1)


def test_a_push_over_a_death_that_is_being_committed_takes_it_from_those_that_are_left(bench: Bench):
    dead = die(bench)
    changes = bench.engine.take()
    bench.disk.commit(freeze(changes))
    bench.push(job_id=dead)
    assert listed(bench) == ([], 0)
    bench.engine.forget(changes.jobs)
    assert listed(bench) == ([], 0)


def test_a_push_over_a_dead_letter_takes_it_from_the_list(bench: Bench):
    """How many are left is as of the last commit: nobody looks up whose record makes room."""
    die(bench, job_id="x")
    bench.commit()
    bench.push(job_id="x")
    assert listed(bench) == ([], 1)
    bench.commit()
    assert listed(bench) == ([], 0)


def test_two_jobs_never_have_one_key(bench: Bench):
    dead = die(bench, unique_key="k")
    bench.commit()
    holder = bench.push(unique_key="k")
    with pytest.raises(Refused, match="uniqueKey"):
        retry(bench, dead)
    assert retry(bench) == (0, 1, None)
    bench.do(c.Cancel(id=holder))
    assert retry(bench) == (1, 0, None)
    assert bench.push(unique_key="k") == dead


def test_a_retried_run_does_not_repeat_again(bench: Bench):
    dead = die(bench, repeat=c.Repeat(every=60_000))
    bench.commit()
    retry(bench, dead)
    assert bench.pull_id() == dead
    bench.ack(dead)
    assert bench.engine.counts == {"waiting": 0, "delayed": 1, "waiting-children": 0, "active": 0}


def test_a_retried_job_waits_for_those_of_its_dependencies_that_can_still_complete(bench: Bench):
    first = die(bench, job_id="first")
    child = "child"
    with_dead = bench.push(job_id=child, depends_on=[first])
    assert bench.state(with_dead).state == "failed"
    bench.commit()
    retry(bench, first)
    retry(bench, child)
    assert bench.state(child).state == "waiting-children"
    assert bench.pull_id() == first
    bench.ack(first)
    assert bench.pull_id() == child


def test_a_retried_job_does_not_wait_for_what_has_ended(bench: Bench):
    first = die(bench, job_id="first")
    bench.push(job_id="child", depends_on=[first])
    retry(bench, "child")
    assert bench.pull_id() == "child"


def family(bench: Bench) -> None:
    """Let a parent fail, with it its child and its grandchild: of the same queue, and of one after the other."""
    bench.push(job_id="parent", max_attempts=1)
    bench.push(job_id="child", depends_on=["parent"])
    bench.push(job_id="grandchild", depends_on=["child"])
    assert bench.pull_id() == "parent"
    bench.fail("parent")
    bench.commit()
    assert listed(bench) == (["grandchild", "child", "parent"], 3)


@pytest.mark.parametrize("limit", [3, 2, 1])
def test_page_by_page_nobody_is_retried_before_what_it_depends_on(bench: Bench, limit: int):
    """What it depends on has died before it."""
    family(bench)
    done = []
    while listed(bench)[1]:
        count, after = 0, None
        while True:
            n, _, after = retry(bench, limit=limit, after=after)
            count += n
            if after is None:
                break
        bench.commit()
        done.append(count)
    assert done == [3]
    for job_id in ("parent", "child", "grandchild"):
        assert bench.pull_id() == job_id
        assert bench.pull_id() is None, "the others wait for it"
        bench.ack(job_id)


def test_who_depends_on_a_dead_letter_of_another_queue_stays_one(bench: Bench):
    bench.push("other", job_id="parent", max_attempts=1)
    child = bench.push(depends_on=["parent"])
    bench.pull_id("other")
    bench.fail("parent")
    bench.commit()
    assert retry(bench) == (0, 1, None)
    bench.do(c.RetryDlq(queue="other"))
    assert retry(bench) == (1, 0, None)
    assert bench.state(child).state == "waiting-children"


def test_why_a_job_is_dead():
    bench = Bench(Rules(stalls_max=0))
    die(bench, job_id="failed")
    bench.push(job_id="child", depends_on=["failed"])
    bench.push(job_id="stalled")
    bench.pull_id(lock_ttl=10)
    bench.sleep(10)
    bench.commit()
    entries = bench.do(c.Dlq(queue="q")).entries
    assert [(entry.job.id, entry.reason, entry.error) for entry in entries] == [
        ("stalled", "stalled", "Job stalled 1 time"),
        ("child", "dependency_failed", "Dependency failed failed"),
        ("failed", "max_attempts_exceeded", "boom"),
    ]
    assert entries[0].entered_at == bench.now


def test_reasons_that_its_attempts_do_not_tell():
    bench = Bench(Rules(stalls_max=0))
    give_up = {"error": "no such address", "unrecoverable": True}
    for job_id, options in {"given up": {}, "at last": {"max_attempts": 1}, "again": {"backoff": 0}}.items():
        bench.push(job_id=job_id, **options)
        bench.pull_id()
        if job_id == "again":
            bench.fail(job_id)
            bench.pull_id()
        bench.do(c.Fail(id=job_id, **give_up))
        assert bench.state(job_id).state == "failed"
    bench.push(job_id="slow", timeout=10, max_attempts=2, backoff=0)
    bench.push(job_id="slow once", timeout=10, max_attempts=2, backoff=0, lifo=True)
    for _ in range(4):
        if bench.pull_id() == "slow once" and bench.do(c.GetJob(id="slow once")).job.attempts:
            bench.fail("slow once")
        bench.sleep(10)
    bench.push(job_id="child", depends_on=["given up"])
    bench.push(job_id="stalled")
    bench.pull_id(lock_ttl=10)
    bench.sleep(10)
    bench.commit()
    bench.restart()
    told = {entry.job.id: (entry.reason, entry.job.attempts) for entry in bench.do(c.Dlq(queue="q")).entries}
    assert told == {
        "given up": ("unrecoverable", 1),
        "at last": ("unrecoverable", 1),
        "again": ("unrecoverable", 2),
        "slow": ("timeout", 2),
        "slow once": ("max_attempts_exceeded", 2),
        "child": ("dependency_failed", 0),
        "stalled": ("stalled", 0),
    }


def test_one_that_was_given_up_and_put_back_is_like_any_other(bench: Bench):
    job_id = bench.push(max_attempts=1)
    bench.pull_id()
    bench.do(c.Fail(id=job_id, unrecoverable=True))
    bench.commit()
    retry(bench, job_id)
    bench.pull_id()
    bench.fail(job_id)
    bench.commit()
    assert [entry.reason for entry in bench.do(c.Dlq(queue="q")).entries] == ["max_attempts_exceeded"]


def test_what_cannot_be_retried_is_refused(bench: Bench):
    dead, alive = die(bench), bench.push()
    for wrong in ({"job_id": alive}, {"job_id": "nobody"}, {"after": "x"}):
        with pytest.raises(Refused):
            retry(bench, **wrong)  # type: ignore[arg-type]
    for queue in ("other", "no good"):
        for job_id in (dead, None)[: 1 + (queue == "no good")]:
            with pytest.raises(Refused) as refused:
                bench.do(c.RetryDlq(queue=queue, job_id=job_id))
            assert refused.value.status == (404 if queue == "other" else 400)
    assert bench.do(c.Dlq(queue="other")).entries == []


def test_a_payload_for_many_is_refused_and_all_stay_dead(bench: Bench):
    dead = [die(bench) for _ in range(2)]
    bench.commit()
    with pytest.raises(Refused, match="data is for one dead letter: jobId is required") as refused:
        retry(bench, data=Raw(b"2"))
    assert refused.value.status == 400
    assert listed(bench) == (dead[::-1], 2)


def test_a_record_that_goes_is_something_to_write(bench: Bench):
    bench.push(job_id="a", max_attempts=1)
    assert bench.pull_id() == "a"
    bench.fail("a")
    bench.commit()
    assert not bench.engine.has_changes
    bench.engine.replace("a", "q")
    assert bench.engine.has_changes
