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


async def test_a_backoff_is_shown_and_kept_as_it_was_given(api: Api, queue: str):
    fixed, doubling = c.Backoff(type="fixed", delay=0), c.Backoff(type="exponential", delay=9, max_delay=5, jitter=0.5)
    ids = (
        await api.run(c.PushBatch(queue=queue, jobs=[c.JobSpec(data=ONE, backoff=b) for b in (7, fixed, doubling)]))
    ).ids
    shown = [(await api.run(c.GetJob(id=job_id))).job.backoff for job_id in ids]
    assert msgspec.json.encode(shown) == msgspec.json.encode([7, fixed, doubling])
    one = await api.push(queue, backoff=fixed, priority=1, max_attempts=3)
    for _ in range(2):
        assert (await api.take(queue))[0] == one
        await api.run(c.Fail(id=one))
    assert await api.state(one) == "waiting"


async def test_a_job_has_its_name_wherever_it_is_shown(api: Api, queue: str):
    ids = (await api.run(c.PushBatch(queue=queue, jobs=[c.JobSpec(data=ONE, name="bye"), c.JobSpec(data=ONE)]))).ids
    named, unnamed = ids
    assert [(await api.run(c.GetJob(id=job_id))).job.name for job_id in ids] == ["bye", msgspec.UNSET]
    listed = (await api.run(c.GetJobs(queue=queue, state="waiting"))).jobs
    assert [job.name for job in listed] == ["bye", msgspec.UNSET]
    assert [job.name for job in (await api.run(c.PullBatch(queue=queue, count=2))).jobs] == ["bye", msgspec.UNSET]
    for job_id in ids:
        await api.run(c.Fail(id=job_id, unrecoverable=True))
    dead = {entry.job.id: entry.job.name for entry in (await api.run(c.Dlq(queue=queue))).entries}
    assert dead == {named: "bye", unnamed: msgspec.UNSET}
    one = await api.push(queue, name="welcome", repeat=c.Repeat(every=1, limit=2), remove_on_complete=True)
    for run in (1, 2):
        pulled = (await api.run(c.Pull(queue=queue, timeout=60_000))).job
        assert pulled is not None
        assert (pulled.name, pulled.id == one) == ("welcome", run == 1)
        await api.run(c.Ack(id=pulled.id))
