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


async def test_a_promoted_job_is_ready_now_behind_those_that_were(api: Api, queue: str):
    later, now = await api.push(queue, delay=3_600_000), await api.push(queue)
    assert await api.refused(c.Promote(id=now)) is c.NOT_DELAYED
    await api.run(c.Promote(id=later))
    assert await api.refused(c.Promote(id=later)) is c.NOT_DELAYED
    assert [(await api.take(queue))[0] for _ in range(2)] == [now, later]
    assert (await api.run(c.GetJob(id=later))).job.run_at < (
        await api.run(c.GetJob(id=later))
    ).job.created_at + 3_600_000
    assert await api.refused(c.Promote(id="nobody")) is c.NOT_DELAYED


async def test_a_promoted_job_does_not_wait_out_its_backoff(api: Api, queue: str):
    job_id = await api.push(queue, backoff=3_600_000)
    _, token = await api.take(queue)
    await api.run(c.Fail(id=job_id, token=token))
    await api.run(c.Promote(id=job_id))
    assert (await api.take(queue))[0] == job_id
