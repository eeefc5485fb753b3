"""The worker in virtual time: slots, cancellation, leases, stops, cuts and crashes."""

import threading
from collections import Counter
from collections.abc import MutableMapping
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from bunqueue_trio.client import Job, Refused, Worker
from bunqueue_trio.testing import Bunqueue


async def test_never_holds_more_than_it_can_run(bunqueue: Bunqueue):
    worker = bunqueue.worker("q", concurrency=3)
    most = 0

    @worker.handler
    async def handle(job: Job):
        nonlocal most
        await trio.sleep(1)
        most = max(most, sum(j.lease is not None for j in bunqueue.jobs.values()))

    ids = await bunqueue.client.push_many("q", [{"data": n} for n in range(10)])
    bunqueue.start(worker)
    for job_id in ids:
        await bunqueue.client.wait(job_id, 60)
    assert most == 3
    assert bunqueue.elapsed == pytest.approx(4, abs=0.1)


async def test_cancelled_job_stops_its_handler(bunqueue: Bunqueue):
    worker = bunqueue.worker("q")
    ends = []

    @worker.handler
    async def handle(job: Job):
        try:
            await trio.sleep(1000)
        except trio.Cancelled as cancelled:
            ends.append((bunqueue.elapsed, cancelled.reason))
            raise

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q")
    await trio.sleep(5)
    await bunqueue.client.cancel(job_id)
    await trio.sleep(0.1)
    assert ends == [(pytest.approx(5, abs=0.1), "the job was cancelled")]
    assert worker.running == 0


async def test_job_logs_with_its_name(bunqueue: Bunqueue, logs: list[MutableMapping[str, Any]]):
    worker = bunqueue.worker("q")
    worker.handler(lambda job: job.log.info("sending", to="ann"))
    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q")
    await bunqueue.client.wait(job_id, 10)
    assert {"event": "sending", "to": "ann", "job": job_id, "queue": "q", "attempt": 1, "log_level": "info"} in logs


async def test_timeout_fails_the_attempt(bunqueue: Bunqueue):
    worker = bunqueue.worker("q", timeout=3)

    @worker.handler
    async def handle(job: Job):
        await trio.sleep_forever()

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q", max_attempts=2, backoff=10)
    await trio.sleep(5)
    assert await bunqueue.client.state(job_id) == "delayed"
    await trio.sleep(15)
    assert await bunqueue.client.state(job_id) == "failed"


async def test_timeout_of_the_server_stops_the_handler(bunqueue: Bunqueue):
    worker = bunqueue.worker("q")
    starts, ends = [], []

    @worker.handler
    async def handle(job: Job):
        starts.append(bunqueue.elapsed)
        try:
            await trio.sleep(100)
        finally:
            ends.append(bunqueue.elapsed)

    bunqueue.start(worker)
    await bunqueue.client.push("q", timeout=2, max_attempts=2, backoff=0)
    await trio.sleep(10)
    assert starts == [pytest.approx(0, abs=0.1), pytest.approx(2, abs=0.1)]
    assert ends == [pytest.approx(2, abs=0.1), pytest.approx(4, abs=0.1)]


async def test_stop_lets_handlers_finish_and_gives_the_rest_back(bunqueue: Bunqueue):
    worker = bunqueue.worker("q", grace=5, concurrency=2)

    @worker.handler
    async def handle(job: Job):
        await trio.sleep(job.data)
        return "done"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        quick, slow, untouched = await bunqueue.client.push_many("q", [{"data": 4}, {"data": 100}, {"data": 1}])
        await trio.sleep(1)
        worker.stop()
    assert bunqueue.elapsed == pytest.approx(6, abs=0.1)
    assert await bunqueue.client.result(quick) == "done"
    for job_id in (slow, untouched):
        assert await bunqueue.client.state(job_id) == "waiting"
        assert (await bunqueue.client.get(job_id)).attempts == 0
        assert bunqueue.jobs[job_id].stalls == 0


async def test_result_without_json_fails_the_attempt(bunqueue: Bunqueue):
    worker = bunqueue.worker("q")

    @worker.handler
    def handle(job: Job):
        return object() if job.data == "odd" else "x" * 11_000_000

    bunqueue.start(worker)
    odd, big = await bunqueue.client.push_many("q", [{"data": d, "max_attempts": 1} for d in ("odd", "big")])
    await trio.sleep(1)
    assert (await bunqueue.client.look(odd)).error.startswith("TypeError")
    assert "result was refused" in (await bunqueue.client.look(big)).error


async def test_impossible_queue_ends_the_worker(bunqueue: Bunqueue):
    worker = bunqueue.worker("no such name!")
    worker.handler(lambda job: None)
    with pytest.raises(Refused):
        await worker.run()
    with pytest.raises(RuntimeError, match="no handler"):
        await Worker("q").run()
    with pytest.raises(ValueError, match="concurrency"):
        Worker("q", concurrency=0)


async def test_sync_handler_runs_in_a_thread():
    worker = Worker("q")
    worker.handler(lambda job: threading.current_thread())
    assert await worker._handlers[None].handle(SimpleNamespace(id="1", queue="q")) is not threading.current_thread()


async def test_worker_goes_on_after_a_crash(bunqueue: Bunqueue):
    worker = bunqueue.worker("q")
    starts = Counter()

    @worker.handler
    async def handle(job: Job):
        starts[job.id] += 1
        await trio.sleep(60)
        return "done"

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q")
    await trio.sleep(10)
    await bunqueue.crash()
    await trio.sleep(10)
    await bunqueue.recover()
    assert await bunqueue.client.wait(job_id, 100) == "done"
    assert starts == {job_id: 1}  # the lease outlives the server
