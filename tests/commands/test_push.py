"""What brings new jobs."""

import msgspec

from bunqueue_trio import errors
from bunqueue_trio.protocol import commands as c
from tests.commands.carriers import Api

ONE = msgspec.Raw(b"1")


async def test_a_job_has_what_was_said_of_it(api: Api, queue: str):
    job_id = await api.push(queue, {"to": "ä"}, priority=3, tags=["x"], max_attempts=7, delay=60_000)
    job = (await api.run(c.GetJob(id=job_id))).job
    assert (job.queue, bytes(job.data), job.priority, job.tags, job.max_attempts) == (
        queue,
        '{"to":"ä"}'.encode(),
        3,
        ["x"],
        7,
    )
    assert job.run_at - job.created_at == 60_000


async def test_an_id_of_ones_own_is_pushed_once(api: Api, queue: str):
    assert [await api.push(queue, job_id=queue) for _ in range(2)] == [queue, queue]
    assert await api.refused(c.Push(queue="elsewhere", job_id=queue, data=ONE)) is errors.FOREIGN_JOB_ID


async def test_all_jobs_of_a_batch_come_or_none(api: Api, queue: str):
    good, bad = c.JobSpec(data=ONE), c.JobSpec(data=ONE, depends_on=["nobody"])
    assert await api.refused(c.PushBatch(queue=queue, jobs=[good, bad])) is errors.UNKNOWN_DEPENDENCY
    assert (await api.run(c.PullBatch(queue=queue, count=5))).jobs == []
    ids = (await api.run(c.PushBatch(queue=queue, jobs=[good, good]))).ids
    assert [job.id for job in (await api.run(c.PullBatch(queue=queue, count=5, timeout=60_000))).jobs] == ids
