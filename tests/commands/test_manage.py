"""What is done to jobs from outside."""

import json

import pytest
from msgspec import Raw

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


async def test_a_discarded_job_is_a_dead_letter(api: Api, queue: str):
    waiting, delayed = await api.push(queue, priority=-1), await api.push(queue, delay=3_600_000)
    active = await api.push(queue)
    dependent = await api.push(queue, depends_on=[waiting])
    _, token = await api.take(queue)
    for job_id in (waiting, delayed, active):
        await api.run(c.Discard(id=job_id))
        assert await api.refused(c.Discard(id=job_id)) is errors.JOB_NOT_FOUND
    assert await api.refused(c.Ack(id=active, token=token)) is errors.NOT_ACTIVE
    entries = (await api.run(c.Dlq(queue=queue))).entries
    told = {entry.job.id: (entry.reason, entry.error, entry.job.attempts) for entry in entries}
    assert told == dict.fromkeys((waiting, delayed, active), ("discarded", "Discarded", 0)) | {
        dependent: ("dependency_failed", f"Dependency {waiting} failed", 0)
    }
    await api.run(c.RetryDlq(queue=queue, job_id=waiting))
    assert (await api.take(queue))[0] == waiting
    assert await api.refused(c.Discard(id="nobody")) is errors.JOB_NOT_FOUND


async def test_a_changed_priority_takes_the_place_it_would_have_had_by_its_age(api: Api, queue: str):
    first, second, third = [await api.push(queue, priority=priority) for priority in (5, 0, 5)]
    await api.run(c.ChangePriority(id=second, priority=5))
    assert [(await api.take(queue))[0] for _ in range(3)] == [first, second, third]
    assert (await api.run(c.GetJob(id=second))).job.priority == 5
    later = await api.push(queue, delay=3_600_000)
    await api.run(c.ChangePriority(id=later, priority=1, lifo=True))
    job = (await api.run(c.GetJob(id=later))).job
    assert (job.priority, job.lifo) == (1, True)
    assert await api.refused(c.ChangePriority(id=second, priority=1)) is c.IS_ACTIVE
    assert await api.refused(c.ChangePriority(id="nobody", priority=1)) is errors.JOB_NOT_FOUND


async def test_a_job_is_ready_when_its_push_says_so(api: Api, queue: str):
    job_id = await api.push(queue)
    await api.run(c.ChangeDelay(id=job_id, delay=3_600_000))
    assert (await api.run(c.Pull(queue=queue))).job is None
    assert await api.state(job_id) == "delayed"
    await api.run(c.ChangeDelay(id=job_id, delay=50))
    assert (await api.take(queue))[0] == job_id
    assert await api.refused(c.ChangeDelay(id=job_id, delay=0)) is c.IS_ACTIVE
    other = await api.push(queue, delay=3_600_000)
    await api.run(c.ChangeDelay(id=other, delay=0))
    assert (await api.take(queue))[0] == other
    assert await api.refused(c.ChangeDelay(id="nobody", delay=0)) is errors.JOB_NOT_FOUND


async def test_an_active_job_is_put_off_at_no_attempt(api: Api, queue: str):
    job_id = await api.push(queue)
    _, token = await api.take(queue)
    assert await api.refused(c.MoveToDelayed(id=job_id, delay=1, token="wrong")) is errors.LOST_LOCK
    await api.run(c.MoveToDelayed(id=job_id, delay=3_600_000, token=token))
    assert await api.refused(c.MoveToDelayed(id=job_id, delay=1, token=token)) is errors.NOT_ACTIVE
    assert (await api.run(c.GetJob(id=job_id))).job.attempts == 0
    await api.run(c.MoveToDelayed(id=job_id, delay=50))
    assert (await api.take(queue))[0] == job_id
    await api.run(c.MoveToDelayed(id=job_id, delay=3_600_000))
    dependent = await api.push(queue, depends_on=[job_id])
    assert await api.refused(c.MoveToDelayed(id=dependent, delay=1)) is c.NEVER_READY


async def test_a_job_waits_again_wherever_it_was(api: Api, queue: str):
    first, second = await api.push(queue), await api.push(queue)
    _, token = await api.take(queue)
    assert await api.refused(c.MoveToWait(id=first, token="wrong")) is errors.LOST_LOCK
    await api.run(c.MoveToWait(id=first, token=token))
    assert await api.refused(c.Ack(id=first, token=token)) is errors.NOT_ACTIVE
    assert await api.refused(c.MoveToWait(id=first, token=token)) is errors.NOT_ACTIVE
    await api.run(c.MoveToWait(id=second))
    assert (await api.take(queue))[0] == first, "its previous position"
    await api.run(c.MoveToWait(id=first))
    assert (await api.run(c.GetJob(id=first))).job.attempts == 0
    later = await api.push(queue, delay=3_600_000, unique_key="k")
    await api.run(c.MoveToWait(id=later))
    await api.run(c.Discard(id=later))
    twin = await api.push(queue, unique_key="k")
    assert await api.refused(c.MoveToWait(id=later)) is c.KEY_IS_HELD
    await api.run(c.Cancel(id=twin))
    await api.run(c.MoveToWait(id=later))
    assert [(await api.take(queue))[0] for _ in range(3)] == [first, second, later]
    dependent = await api.push(queue, depends_on=[first])
    assert await api.refused(c.MoveToWait(id=dependent)) is c.NEVER_READY
    await api.run(c.Ack(id=second))
    assert await api.refused(c.MoveToWait(id=second)) is errors.JOB_NOT_FOUND


@pytest.mark.parametrize("delay", [0, 3_600_000])
async def test_the_payload_of_a_job_that_nobody_works_on_is_changed(api: Api, queue: str, delay: int):
    job_id = await api.push(queue, {"to": "nobody"}, delay=delay)
    await api.run(c.Update(id=job_id, data=Raw(b'{"to":"somebody","n":1.50}')))
    assert json.loads(bytes((await api.run(c.GetJob(id=job_id))).job.data)) == {"to": "somebody", "n": 1.5}
    await api.run(c.ChangeDelay(id=job_id, delay=0))
    pulled = await api.run(c.Pull(queue=queue))
    assert pulled.job is not None
    assert json.loads(bytes(pulled.job.data)) == {"to": "somebody", "n": 1.5}
    assert await api.refused(c.Update(id=job_id, data=Raw(b"1"))) is c.IS_ACTIVE
    await api.run(c.Ack(id=job_id))
    assert await api.refused(c.Update(id=job_id, data=Raw(b"1"))) is errors.JOB_NOT_FOUND
    assert await api.refused(c.Update(id=job_id)) is errors.INVALID_FIELD
