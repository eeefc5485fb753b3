"""Lists of jobs: what is in memory and what has left it, by the same command."""

import sys
from typing import Any

import pytest
from msgspec import Raw

from bunqueue_trio.config import REPLAY_BYTES
from bunqueue_trio.engine.jobs import Jobs
from bunqueue_trio.engine.queue import Queue
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from tests.engine.make import Bench, make_job


def pages(bench: Bench, state: str, limit: int = 2) -> list[list[str]]:
    found, after = [], None
    while True:
        page: Any = bench.do(c.GetJobs(queue="q", state=state, limit=limit, after=after))
        found.append([job.id for job in page.jobs])
        after = page.next
        if after is None:
            return found


@pytest.mark.parametrize(
    ("options", "state"), [({}, "waiting"), ({"delay": 5}, "delayed"), ({"lifo": True}, "waiting")]
)
def test_unfinished_jobs_by_pages(bench: Bench, options: dict[str, Any], state: str):
    ids = [bench.push(**options) for _ in range(4)]
    ids = ids[::-1] if "lifo" in options else ids
    assert pages(bench, state) == [ids[:2], ids[2:]]
    assert pages(bench, "failed") == [[]]


def test_nobody_is_in_a_queue_that_is_not_there(bench: Bench):
    assert pages(bench, "waiting") == [[]]
    assert bench.engine.queues == {}


def test_ended_jobs_by_pages_as_of_the_last_commit(bench: Bench):
    ids = [bench.push() for _ in range(3)]
    for job_id in ids:
        bench.pull_id()
        bench.ack(job_id)
    assert pages(bench, "completed") == [[]]
    bench.commit()
    assert pages(bench, "completed") == [[ids[2], ids[1]], [ids[0]]]


def test_an_ended_job_whose_id_is_taken_anew_is_listed_once(bench: Bench):
    bench.push(job_id="mine")
    bench.pull_id()
    bench.ack("mine")
    bench.commit()
    bench.push(job_id="mine")
    assert pages(bench, "waiting") == [["mine"]]
    assert pages(bench, "completed") == [[]]


def test_a_page_of_large_payloads_ends_early(bench: Bench):
    half = Raw(b'"' + b"x" * (REPLAY_BYTES // 2) + b'"')
    ids = [bench.push(data=half) for _ in range(5)]
    assert pages(bench, "waiting", limit=1000) == [ids[:2], ids[2:4], ids[4:]]
    bench.pull_id()
    assert pages(bench, "waiting", limit=1000) == [ids[1:3], ids[3:]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": "removed"}, {"state": "waiting", "after": ""}, {"state": "waiting", "after": "1"},
        {"state": "failed", "after": "1,1"}, {"state": "failed", "after": "-1"}, {"state": "failed", "after": "9" * 19},
        {"state": "failed", "queue": "no good"}, {"state": "waiting", "queue": "no good"},
    ],
)  # fmt: skip
def test_what_cannot_be_listed_is_refused(bench: Bench, wrong: dict[str, str]):
    with pytest.raises(Refused):
        bench.do(c.GetJobs(**{"queue": "q", **wrong}))


def test_jobs_are_kept_in_many_small_dictionaries_in_the_order_of_their_pushes():
    """A large one would stop everybody when it grows."""
    jobs = Jobs()
    for n in range(20_000):
        jobs.add(make_job(id=f"job-{n}", seq=n))
    assert max(map(len, jobs._shards)) < 100
    assert list(jobs) == [f"job-{n}" for n in range(20_000)]
    assert len(jobs) == 20_000


def test_jobs_are_a_mapping():
    jobs, first, second = Jobs(), make_job(id="a", seq=1), make_job(id="b", seq=2)
    jobs["a"] = first
    jobs.add(second)
    assert jobs["a"] is jobs.find("a") is first
    assert dict(jobs) == {"a": first, "b": second}
    assert "b" in jobs
    assert jobs.take("b") is second
    del jobs["a"]
    assert (jobs.find("b"), jobs.take("a"), len(jobs)) == (None, None, 0)
    with pytest.raises(KeyError):
        jobs["a"]


def test_who_takes_the_next_batch_leaves_none_of_the_last_one_in_memory(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bunqueue_trio.engine.engine.FORGET_SLICE", 2)
    ids = [bench.push() for _ in range(7)]
    for _ in ids:
        pulled = bench.pull()
        bench.ack(pulled.job.id, pulled.token)  # type: ignore[union-attr]
    bench.commit()
    assert len(bench.engine.jobs) == 5, "the others leave in steps"
    bench.engine.take()
    assert len(bench.engine.jobs) == 0


def test_a_job_that_just_waits_has_each_of_its_numbers_once(bench: Bench):
    """An integer of its own is 32 bytes, of 500 that a job has."""
    for job_id in (bench.push(), *bench.do(c.PushBatch(queue="q", jobs=[c.JobSpec(data=Raw(b"1"))] * 2)).ids):
        job = bench.engine.jobs[job_id]
        assert job.run_at is job.created_at
        assert job.order is job.seq
    delayed = bench.engine.jobs[bench.push(delay=5)]
    assert (delayed.run_at, delayed.created_at) == (bench.now + 5, bench.now)


def test_a_queue_with_one_job_has_nothing_of_its_own_but_where_that_stands(bench: Bench):
    """Whatever there was in it before; beside its name, and its place among the others."""
    gone = [bench.push(unique_key="k"), bench.push(priority=1)]
    bench.pull()
    for job_id in gone:
        bench.do(c.Cancel(id=job_id))
    bench.push()
    queue, other = bench.engine.queues["q"], Queue("other")
    ready = queue.ready
    shared = [
        (each.active, each.keys, each.delayed, each.waiting_children, each.ready._lower) for each in (queue, other)
    ]
    assert all(one is another for one, another in zip(*shared, strict=True))
    assert sum(map(sys.getsizeof, (queue, ready, ready._blocks, *ready._blocks))) <= 240


def test_the_jobs_of_one_shard_are_looked_for_in_different_places():
    """A dictionary looks first where the lowest bits of a hash say, so all ids of a shard must not have the same."""
    jobs = Jobs()
    jobs.fill(make_job(n) for n in range(30_000))
    assert len(jobs) == 30_000
    fullest = max(jobs._shards, key=len)
    places = {hash(job_id) % 16 for job_id in fullest}
    assert len(places) > 8, "30 ids, of which most begin elsewhere"
    assert all(jobs.find(job_id) is job for job_id, job in fullest.items())
