"""What is done to jobs from outside."""

from bunqueue_trio import errors
from bunqueue_trio.protocol import commands as c
from tests.commands.carriers import Api


async def test_a_cancelled_job_is_gone(api: Api, queue: str):
    job_id = await api.push(queue)
    await api.run(c.Cancel(id=job_id))
    assert (await api.run(c.Pull(queue=queue))).job is None
    assert await api.refused(c.GetJob(id=job_id)) is errors.JOB_NOT_FOUND
    assert await api.refused(c.Cancel(id=job_id)) is errors.JOB_NOT_FOUND


async def test_the_token_of_a_cancelled_job_is_dead(api: Api, queue: str):
    job_id = await api.push(queue)
    _, token = await api.take(queue)
    await api.run(c.Cancel(id=job_id))
    assert await api.refused(c.Ack(id=job_id, token=token)) is errors.NOT_ACTIVE
