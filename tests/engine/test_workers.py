"""Who works: how many are known, for how long, and with what jobs."""

import pytest

from bunqueue_trio.config import WORKER_SILENT_MS
from bunqueue_trio.engine import workers
from bunqueue_trio.engine.commands import workers as handlers
from bunqueue_trio.engine.figures import QueueMinute, bucket_of, upper
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from tests.engine.make import Bench


def listed(bench: Bench, **fields: object) -> c.Command:
    return bench.do(c.ListWorkers(**fields)).data


@pytest.mark.parametrize("limit", [2])
def test_more_workers_than_are_known_work_all_the_same(bench: Bench, monkeypatch: pytest.MonkeyPatch, limit: int):
    monkeypatch.setattr(workers, "WORKERS_MAX", limit)
    ids = [bench.push() for _ in range(4)]
    for name, job_id in zip("abcd", ids, strict=True):
        assert bench.do(c.Pull(queue="q", owner=name)).job.id == job_id
    assert [worker.id for worker in listed(bench).workers] == ["a", "b"]
    with pytest.raises(Refused) as refused:
        bench.do(c.RegisterWorker(worker_id="e"))
    assert refused.value.code == "too-many-workers"
    for job_id in ids:
        bench.ack(job_id)
    bench.now += WORKER_SILENT_MS
    bench.engine.forget_silent(bench.now)
    assert bench.do(c.RegisterWorker(worker_id="e")).data.id == "e"


def test_after_a_restart_a_job_is_still_with_its_worker_if_there_is_room(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    ids = [bench.push() for _ in range(3)]
    for name in "aab":
        bench.do(c.Pull(queue="q", owner=name))
    bench.commit()
    monkeypatch.setattr(workers, "WORKERS_MAX", 1)
    bench.restart()
    [worker] = listed(bench).workers
    assert (worker.id, [job.id for job in worker.jobs]) == ("a", ids[:2])
    bench.now += WORKER_SILENT_MS
    bench.engine.forget_silent(bench.now)
    assert list(bench.engine.workers) == ["a"], "it has jobs"


def test_a_page_ends_early_with_long_texts(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """1,000 jobs with 64 KiB of escapes each were an answer of 390 MB, and 1.8 s in which nobody else was served."""
    monkeypatch.setattr(handlers, "WORKER_PAGE_CHARS", 2500)
    for name in "abcd":
        job_id = bench.push()
        bench.do(c.Pull(queue="q", owner=name))
        bench.do(c.Progress(id=job_id, progress=1, message="x" * 65_536))
    page = listed(bench)
    assert [(worker.id, worker.jobs[0].message) for worker in page.workers] == [(name, "x" * 1000) for name in "abc"]
    assert page.next == "c"
    assert [worker.id for worker in listed(bench, after="c").workers] == ["d"]
    monkeypatch.setattr(handlers, "WORKER_PAGE_CHARS", 1)
    assert [worker.id for worker in listed(bench).workers] == ["a"], "and has one, however long its texts are"


@pytest.mark.parametrize("long", ["name", "hostname", "version"])
def test_each_text_of_a_worker_counts(bench: Bench, monkeypatch: pytest.MonkeyPatch, long: str):
    monkeypatch.setattr(handlers, "WORKER_PAGE_CHARS", 400)
    for name in "abc":
        bench.do(c.RegisterWorker(worker_id=name, **{long: "x" * 256}))
    assert [worker.id for worker in listed(bench).workers] == ["a", "b"]
    assert listed(bench).next == "b"


@pytest.mark.parametrize(("name", "kept"), [("q", 100), ("x" * 100, 20), ("🐇" * 100, 5), ("x" * 256, 7)])
def test_of_the_names_of_its_queues_a_worker_keeps_the_first(bench: Bench, name: str, kept: int):
    """They stay in memory as long as it does, and there may be 10,000 workers."""
    assert bench.do(c.RegisterWorker(worker_id="a", queues=[name] * 100)).data.queues == [name] * kept
    assert len(bench.engine.workers["a"].queues) < 2500
    assert listed(bench).workers[0].queues == [name] * kept


def test_a_page_ends_early_with_many_jobs(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(handlers, "WORKER_JOBS_SHOWN", 2)
    monkeypatch.setattr(handlers, "WORKER_JOBS_PAGE", 3)
    for _ in range(9):
        bench.push()
    for name in "abc":
        bench.do(c.PullBatch(queue="q", owner=name, count=3))
    page = listed(bench)
    assert [(worker.id, worker.active_jobs, len(worker.jobs)) for worker in page.workers] == [("a", 3, 2), ("b", 3, 2)]
    page = listed(bench, after=page.next)
    assert ([worker.id for worker in page.workers], page.next) == (["c"], None)
    page = listed(bench, limit=3)
    assert page.next == "b"
    assert (page.stats.total, page.stats.active_jobs, page.stats.concurrency_slots) == (3, 9, 3)


def test_one_that_says_nothing_is_known_by_its_address(bench: Bench):
    bench.engine.workers.addresses["socket"] = "10.0.0.7"
    bench.do(c.Pull(queue="q"), "socket")
    bench.do(c.Pull(queue="q", owner="@10.0.0.8"))
    bench.do(c.Pull(queue="q"))
    seen = {worker.id: (worker.name, worker.transport, worker.address) for worker in listed(bench).workers}
    assert seen == {
        "socket": ("10.0.0.7", "websocket", "10.0.0.7"), "@10.0.0.8": ("10.0.0.8", "http", None),
    }  # fmt: skip
    assert bench.events() == []
    bench.engine.release_owner("socket", bench.now, dropped=True)
    assert list(bench.engine.workers) == ["@10.0.0.8"]
    assert bench.engine.workers.addresses == {}


def test_one_whose_connection_drops_is_lost_until_it_is_back(bench: Bench):
    bench.do(c.RegisterWorker(worker_id="w"), "socket")
    bench.push()
    bench.pull(owner="socket")
    bench.engine.release_owner("socket", bench.now, dropped=True)
    [worker] = listed(bench).workers
    assert (worker.status, worker.jobs) == ("lost", [])
    bench.do(c.RegisterWorker(worker_id="w"), "another")
    assert listed(bench).workers[0].status == "active"
    bench.engine.release_owner("another", bench.now, dropped=False)
    assert listed(bench).workers == []


def test_what_is_done_and_failed_is_counted_over_all(bench: Bench):
    for _ in range(3):
        bench.push(max_attempts=1)
    ids = [bench.do(c.Pull(queue="q", owner="w")).job.id for _ in range(3)]
    bench.ack(ids[0])
    bench.fail(ids[1])
    bench.do(c.Fail(id=ids[2], unrecoverable=True))
    stats = listed(bench).stats
    assert (stats.total_processed, stats.total_failed) == (1, 2)


def test_what_a_worker_does_a_minute_is_of_the_last_one_or_two(bench: Bench):
    def work(jobs: int) -> float:
        for _ in range(jobs):
            bench.push()
            bench.ack(bench.do(c.Pull(queue="q", owner="w")).job.id)
        return listed(bench).workers[0].per_minute

    bench.do(c.RegisterWorker(worker_id="w"))
    assert work(6) == 6, "there was no minute yet"
    found = []
    for jobs in (0, 0, 30, 0, 0, 0):
        for _ in range(6):
            bench.sleep(10_000)
            bench.engine.forget_silent(bench.now)
            bench.do(c.WorkerHeartbeat(id="w"))
        found.append(work(jobs))
    assert found == [6, 0, 30, 30, 0, 0]


def test_a_job_of_a_worker_says_what_is_usual_in_its_queue(bench: Bench):
    for queue, ran in (("q", 95), ("few", 2)):
        bench.push(queue)
        bench.do(c.Pull(queue=queue, owner="w"))
        runs = {bucket_of(1000): ran}
        bench.engine.figures.note(bench.now, {queue: QueueMinute(bench.now, 0, ran, 0, 0, 0, 0, 0, run=1, runs=runs)})
    jobs = listed(bench).workers[0].jobs
    assert [(job.queue, job.usual) for job in jobs] == [("q", upper(bucket_of(1000))), ("few", None)]


def test_jobs_that_are_over_are_not_released(bench: Bench):
    """The lease of one has ended in the very moment: it has stalled already."""
    bench.push()
    bench.do(c.Pull(queue="q", owner="w", lock_ttl=10))
    worker = bench.engine.workers["w"]
    bench.now += 10
    bench.engine.release_jobs_of(worker, bench.now)
    assert [event.split()[0] for event in bench.events()][-1] == "stalled"


def test_a_worker_with_more_jobs_than_one_step_returns_them_in_several(bench: Bench):
    for _ in range(4):
        bench.push()
    bench.do(c.PullBatch(queue="q", owner="w", count=4))
    worker = bench.engine.workers["w"]
    bench.engine.left = 2
    bench.engine.release_jobs_of(worker, bench.now)
    assert len(worker.jobs) == 2
    job = next(iter(worker.jobs))
    bench.engine.left = 2
    bench.engine.complete(job, None, bench.now)
    bench.engine.advance(bench.now)
    assert worker.jobs == {}


def test_a_worker_may_say_since_when_it_is_and_be_quieted_twice(bench: Bench):
    assert bench.do(c.RegisterWorker(worker_id="w", started_at=5)).data.registered_at == 5
    bench.do(c.QuietWorker(id="w"))
    since = bench.now
    bench.sleep(10)
    bench.do(c.QuietWorker(id="w"))
    [worker] = listed(bench).workers
    assert (worker.status, worker.quiet_since) == ("quiet", since)
    assert bench.engine.workers.is_quiet("w")
    assert not bench.engine.workers.is_quiet(None)


def test_a_job_is_claimed_by_one_who_is_not_known(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """There is no room: the job is its, and with no worker."""
    job_id = bench.push()
    bench.do(c.RegisterWorker(worker_id="w"), "socket")
    token = bench.pull(owner="socket").token
    bench.commit()
    bench.restart()
    monkeypatch.setattr(workers, "WORKERS_MAX", 1)
    bench.do(c.Heartbeat(id=job_id, token=token), "another")
    [worker] = listed(bench).workers
    assert (worker.id, worker.jobs) == ("w", [])
    bench.ack(job_id, token)


def test_one_that_is_connected_is_forgotten_by_itself_only(bench: Bench):
    bench.do(c.RegisterWorker(worker_id="w"), "socket-1")
    with pytest.raises(Refused) as refused:
        bench.do(c.UnregisterWorker(id="w"), "socket-2")
    assert refused.value.code == c.IS_CONNECTED.code
    assert bench.do(c.UnregisterWorker(id="w"), "socket-1").data == {"removed": True}


def test_a_worker_works_on_the_queues_that_it_has_named_and_on_no_part_of_one(bench: Bench):
    bench.do(c.RegisterWorker(worker_id="a", queues=["one", "x.two", 'three,"four"', '["five"']))
    worker = bench.engine.workers["a"]
    asked = ["one", "two", "x.two", "on", "three", "four", "five", "x"]
    assert [queue for queue in asked if worker.works_on(queue)] == ["one", "x.two"]


def test_one_that_is_quiet_gets_no_job_by_one_or_by_many(bench: Bench):
    bench.push()
    bench.do(c.RegisterWorker(worker_id="w"))
    bench.do(c.QuietWorker(id="w"))
    assert bench.do(c.Pull(queue="q", owner="w")).job is None
    assert bench.do(c.PullBatch(queue="q", count=2, owner="w")).jobs == []
    assert bench.do(c.PullBatch(queue="q", count=2, owner="v")).jobs != []


def test_one_that_is_quiet_or_has_jobs_is_not_forgotten(bench: Bench):
    job_id = bench.push()
    bench.do(c.Pull(queue="q", owner="a"))
    bench.do(c.QuietWorker(id="a"))
    for code in ("worker-has-jobs", "worker-is-quiet"):
        with pytest.raises(Refused) as refused:
            bench.do(c.UnregisterWorker(id="a"))
        assert refused.value.code == code
        if code == "worker-has-jobs":
            bench.ack(job_id)
    bench.do(c.UnquietWorker(id="a"))
    assert bench.do(c.UnregisterWorker(id="a")).data == {"removed": True}
