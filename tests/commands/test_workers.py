"""Who works, what they have, and what may be done to them."""

from typing import Any

from bunqueue_trio import errors
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.worker_replies import WorkerView
from tests.commands.carriers import Api


async def meet(api: Api, worker_id: str, **fields: Any) -> str:
    said = await api.run(c.RegisterWorker(worker_id=worker_id, **fields))
    assert said.data.worker_id == said.data.id == worker_id
    return worker_id


async def look(api: Api, worker_id: str) -> WorkerView:
    """Find a worker in the list, whatever others there are."""
    after, found = None, list[WorkerView]()
    while not found:
        page = (await api.run(c.ListWorkers(limit=3, after=after))).data
        assert len(page.workers) <= 3
        assert [worker.id for worker in page.workers] == sorted(worker.id for worker in page.workers)
        found = [worker for worker in page.workers if worker.id == worker_id]
        after = page.next
        assert found or after is not None, "it is not listed"
    return found[0]


async def take(api: Api, queue: str, worker_id: str) -> tuple[str, str]:
    pulled = await api.run(c.Pull(queue=queue, owner=worker_id))
    assert pulled.job is not None
    assert pulled.token is not None
    return pulled.job.id, pulled.token


async def test_a_worker_is_listed_as_it_was_introduced(api: Api, queue: str):
    me = await meet(
        api,
        f"{queue}-w",
        name="mailer",
        queues=[queue],
        concurrency=5,
        hostname="h",
        pid=7,
        version="1",
        started_at=1000,
    )
    seen = await look(api, me)
    assert (seen.name, seen.queues, seen.concurrency, seen.hostname, seen.pid, seen.version) == (
        "mailer", [queue], 5, "h", 7, "1",
    )  # fmt: skip
    assert (seen.registered_at, seen.uptime > 10**12, seen.status, seen.quiet_since) == (1000, True, "active", None)
    assert (seen.jobs, seen.current_job, seen.active_jobs) == ([], None, 0)
    await meet(api, me, name="other")
    assert (await look(api, me)).name == "other"


async def test_jobs_are_listed_with_who_has_them_and_counted_when_they_end(api: Api, queue: str):
    me = await meet(api, f"{queue}-w")
    ids = [await api.push(queue, max_attempts=1) for _ in range(2)]
    taken = [await take(api, queue, me) for _ in ids]
    await api.run(c.Progress(id=ids[0], progress=40, message="half", token=taken[0][1]))
    seen = await look(api, me)
    assert [(job.id, job.queue, job.progress, job.message) for job in seen.jobs] == [
        (ids[0], queue, 40, "half"), (ids[1], queue, 0, None),
    ]  # fmt: skip
    assert all(job.since is not None for job in seen.jobs)
    assert (seen.active_jobs, seen.current_job) == (2, ids[0])
    await api.run(c.Ack(id=ids[0], token=taken[0][1]))
    await api.run(c.Fail(id=ids[1], token=taken[1][1]))
    seen = await look(api, me)
    assert (seen.jobs, seen.processed_jobs, seen.failed_jobs) == ([], 1, 1)


async def test_a_quiet_worker_gets_no_jobs(api: Api, queue: str):
    me, job = await meet(api, f"{queue}-w"), await api.push(queue)
    assert (await api.run(c.QuietWorker(id=me))).data == {"activeJobs": 0}
    assert (await look(api, me)).status == "quiet"
    assert await api.refused(c.UnregisterWorker(id=me)) is c.IS_QUIET
    assert (await api.run(c.Pull(queue=queue, owner=me, timeout=1))).job is None
    assert (await api.run(c.PullBatch(queue=queue, owner=me, count=2))).jobs == []
    await api.run(c.UnquietWorker(id=me))
    assert (await look(api, me)).quiet_since is None
    assert (await take(api, queue, me))[0] == job


async def test_the_jobs_of_a_worker_are_released_at_no_attempt(api: Api, queue: str):
    me = await meet(api, f"{queue}-w")
    ids = [await api.push(queue) for _ in range(3)]
    taken = [await take(api, queue, me) for _ in ids[:2]]
    assert await api.refused(c.UnregisterWorker(id=me)) is c.HAS_JOBS
    assert (await api.run(c.ReleaseWorker(id=me))).data == {"count": 2}
    assert await api.refused(c.Ack(id=ids[0], token=taken[0][1])) is errors.NOT_ACTIVE
    assert (await look(api, me)).jobs == []
    assert [(await api.take(queue))[0] for _ in ids] == ids
    assert (await api.run(c.GetJob(id=ids[0]))).job.attempts == 0


async def test_a_worker_that_is_forgotten_is_not_listed(api: Api, queue: str):
    me = await meet(api, f"{queue}-w")
    assert (await api.run(c.WorkerHeartbeat(id=me))).data == {"ok": True}
    assert (await api.run(c.UnregisterWorker(id=me))).data == {"removed": True}
    for kind in (c.UnregisterWorker, c.WorkerHeartbeat, c.QuietWorker, c.UnquietWorker, c.ReleaseWorker):
        assert await api.refused(kind(id=me)) is c.NO_WORKER


async def test_one_that_gives_itself_no_id_is_given_one(api: Api, queue: str):
    said = await api.run(c.RegisterWorker(name=queue))
    assert (await look(api, said.data.id)).name == queue
