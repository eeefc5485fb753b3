"""Errors that jobs are tried again after: who is in which group from the failure to the next delivery, and how that is shown."""

from typing import Any

import pytest

from bunqueue_trio.engine.fingerprint import fingerprint
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.commands.find import Filter
from tests.engine.make import T0, Bench
from tests.engine.test_groups import die

REFUSED = fingerprint("refused by 10.0.0.1").key


def fail(bench: Bench, error: str, queue: str = "q", backoff: int = 100, **options: Any) -> str:
    """Let a job fail that is tried again."""
    job_id = bench.push(queue, max_attempts=5, backoff=backoff, priority=9, **options)
    assert bench.pull_id(queue) == job_id
    bench.fail(job_id, error)
    return job_id


def told(bench: Bench, queue: str | None = None, **how: Any) -> list[tuple[str, int, int, int | None]]:
    command = c.DeadGroups(retrying=True, **how) if queue is None else c.DlqGroups(queue=queue, retrying=True, **how)
    return [(group.shape, group.count, group.retrying, group.next_try_at) for group in bench.do(command).groups]


def test_what_is_dead_and_what_is_tried_again_are_one_group(bench: Bench):
    die(bench, "refused by 10.0.0.1")
    first = bench.now
    fail(bench, "refused by 10.0.0.2")
    fail(bench, "refused by 10.0.0.3", "other", backoff=50)
    fail(bench, "too late")
    assert told(bench) == [("refused by …", 1, 2, first + 50), ("too late", 0, 1, first + 100)]
    assert told(bench, "q") == [("refused by …", 1, 1, first + 100), ("too late", 0, 1, first + 100)]
    assert told(bench, "other") == [("refused by …", 0, 1, first + 50)]
    page = bench.do(c.DeadGroups(retrying=True))
    [group, late] = page.groups
    assert page.total == 2
    assert (group.queues, group.retrying_queues) == ({"q": 1}, {"q": 1, "other": 1})
    assert (late.queues, late.example.reason, late.example.error, late.common.sampled) == (
        {},
        "retrying",
        "too late",
        1,
    )
    [dead] = bench.do(c.DeadGroups()).groups
    assert (dead.count, dead.retrying) == (1, 2)


def test_a_job_is_in_its_group_until_it_is_tried_or_ends(bench: Bench):
    job_id = fail(bench, "refused by 10.0.0.1")
    bench.sleep(100)
    assert told(bench) == [("refused by …", 0, 1, T0 + 100)]
    assert bench.pull_id() == job_id
    assert told(bench) == []
    bench.do(c.Release(id=job_id))
    assert told(bench) == [("refused by …", 0, 1, T0 + 100)]
    assert bench.pull_id() == job_id
    bench.fail(job_id, "too late")
    assert [shape for shape, *_ in told(bench)] == ["too late"]
    bench.do(c.Cancel(id=job_id))
    assert (told(bench), bench.engine.retrying) == ([], {})


@pytest.mark.parametrize(
    ("command", "how", "run_at"),
    [(c.Promote, {}, T0), (c.ChangeDelay, {"delay": 7}, T0 + 7), (c.MoveToDelayed, {"delay": 9}, T0 + 9)],
)
def test_who_gets_another_time_is_tried_then(bench: Bench, command: Any, how: dict[str, int], run_at: int):
    job_id = fail(bench, "refused by 10.0.0.1")
    fail(bench, "refused by 10.0.0.1", backoff=90)
    bench.do(command(id=job_id, **how))
    assert told(bench) == [("refused by …", 0, 2, run_at)]
    bench.do(c.Discard(id=job_id))
    assert told(bench) == [("refused by …", 0, 1, T0 + 90)]


def test_who_is_moved_is_tried_again_in_the_other_queue(bench: Bench):
    fail(bench, "refused by 10.0.0.1")
    bench.do(c.ActOnJobs(filter=c.Filter(queue="q"), action="move", to="other"))
    [group] = bench.do(c.DeadGroups(retrying=True)).groups
    assert group.retrying_queues == {"other": 1}


def test_a_start_knows_the_groups_without_looking_at_an_error(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    fail(bench, "refused by 10.0.0.1")
    # With the options that are everywhere.
    waiting = bench.push()
    bench.pull()
    bench.fail(waiting, "too late")
    bench.do(c.Promote(id=waiting))
    before = told(bench)
    bench.commit()
    with monkeypatch.context() as patch:
        patch.setattr("bunqueue_trio.engine.retrying.fingerprint", lambda _: 1 / 0)
        bench.restart()
    assert told(bench) == before
    # One that was written by an older version has none with it.
    for job in bench.disk.jobs.values():
        job.noted().fingerprint = None
    bench.restart()
    assert told(bench) == before


def test_a_group_is_as_new_as_its_newest_failure(bench: Bench):
    fail(bench, "refused by 10.0.0.1")
    bench.sleep(50)
    fail(bench, "refused by 10.0.0.2")
    [group] = bench.do(c.DeadGroups(retrying=True)).groups
    assert (group.first_seen, group.last_seen) == (T0, T0 + 50)


def test_who_asks_for_dead_letters_gets_no_others(bench: Bench):
    dead = die(bench, "refused by 10.0.0.1")
    fail(bench, "refused by 10.0.0.2")
    bench.do(c.RetryDlq(queue="q", job_id=dead))
    assert bench.do(c.DeadGroups()).groups == []
    assert told(bench) == [("refused by …", 0, 1, bench.now + 100)]


def test_pages_go_by_the_size_of_both(bench: Bench):
    for n in range(3):
        fail(bench, f"refused by 10.0.0.{n}")
    for _ in range(2):
        die(bench, "too late")
    fail(bench, "no room")
    reply = bench.do(c.DeadGroups(retrying=True, limit=2))
    assert ([group.shape for group in reply.groups], reply.total) == (["refused by …", "too late"], 3)
    rest = bench.do(c.DeadGroups(retrying=True, limit=2, after=reply.next))
    assert ([group.shape for group in rest.groups], rest.next) == (["no room"], None)
    bench.do(c.MarkGroup(fingerprint=REFUSED, mark="fixed"))
    assert bench.do(c.DeadGroups(retrying=True, limit=1)).groups[0].mark == "fixed"


ENDS: list[Any] = [
    lambda job_id: c.Cancel(id=job_id),
    lambda job_id: c.Cancel(id=job_id, reason="not wanted"),
    lambda job_id: c.Discard(id=job_id),
    lambda job_id: c.ActOnJobs(filter=Filter(queue=["q"]), action="cancel", reason="not wanted"),
    lambda job_id: c.ActOnJobs(filter=Filter(queue=["q"]), action="discard"),
    lambda job_id: c.ActOnJobs(filter=Filter(queue=["q"]), action="move", to="other"),
    lambda job_id: c.Promote(id=job_id),
    lambda job_id: c.ChangeDelay(id=job_id, delay=7),
    lambda job_id: c.Obliterate(queue="q", force=True),
    lambda job_id: c.Drain(queue="q"),
]  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
def test_whatever_ends_or_changes_one_of_an_older_version_takes_it_out_of_its_group(bench: Bench, end: Any):
    job_id = fail(bench, "refused by 10.0.0.1")
    bench.commit()
    for job in bench.disk.jobs.values():
        job.noted().fingerprint = None
    bench.restart()
    bench.do(end(job_id))
    bench.commit()
    bench.sleep(200)
    for queue in ("q", "other"):
        bench.pull(queue)
    assert [group for group in told(bench) if group[2]] == []
    assert (bench.engine.retrying, bench.engine.retrying._found) == ({}, {})
