"""What is seen of the jobs of a queue."""

from bunqueue_trio import errors
from bunqueue_trio.protocol import commands as c
from tests.commands.carriers import Api


async def listed(api: Api, queue: str, state: str, limit: int = 2) -> list[str]:
    """Every job there is, by pages."""
    found, after = [], None
    while True:
        page = await api.run(c.GetJobs(queue=queue, state=state, limit=limit, after=after))
        assert {job.state for job in page.jobs} <= {state}
        found += [job.id for job in page.jobs]
        after = page.next
        if after is None:
            return found


async def test_waiting_jobs_are_listed_in_the_order_of_their_delivery(api: Api, queue: str):
    low, high, last = [await api.push(queue, priority=priority) for priority in (0, 5, -5)]
    later = await api.push(queue, delay=3_600_000)
    assert await listed(api, queue, "waiting") == [high, low, last]
    assert await listed(api, queue, "delayed") == [later]
    assert (await api.take(queue))[0] == high
    assert await listed(api, queue, "active") == [high]
    assert await listed(api, queue, "waiting-children") == []


async def test_finished_jobs_are_listed_newest_end_first(api: Api, queue: str):
    ids = [await api.push(queue, max_attempts=1) for _ in range(5)]
    for job_id in ids[:3]:
        assert (await api.take(queue))[0] == job_id
        await api.run(c.Fail(id=job_id, error="no luck"))
    for job_id in ids[3:]:
        assert (await api.take(queue))[0] == job_id
        await api.run(c.Ack(id=job_id))
    assert await listed(api, queue, "failed") == ids[2::-1]
    assert await listed(api, queue, "completed") == ids[:2:-1]
    page = await api.run(c.GetJobs(queue=queue, state="failed"))
    assert {job.error for job in page.jobs} == {"no luck"}


async def test_what_cannot_be_listed_is_refused(api: Api, queue: str):
    assert await api.refused(c.GetJobs(queue=queue, state="weird")) is c.UNKNOWN_STATE
    assert await api.refused(c.GetJobs(queue=queue, state="waiting", after="7")) is c.NOT_A_PLACE
    assert await api.refused(c.GetJobs(queue=queue, state="failed", after="1,7")) is c.NOT_A_PLACE
    assert await api.refused(c.GetJobs(queue="no good", state="failed")) is errors.INVALID_QUEUE
