"""What a holder says of its job."""

import msgspec

from bunqueue_trio import errors
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from tests.commands.carriers import Api

STRANGER = "01924f5a-9c4d-7abc-b123-456789abcdef"


async def test_an_ack_completes_with_its_result(api: Api, queue: str):
    job_id = await api.push(queue)
    _, token = await api.take(queue)
    assert await api.refused(c.Ack(id=job_id, token=STRANGER)) is errors.LOST_LOCK
    await api.run(c.Ack(id=job_id, token=token, result=msgspec.Raw(b'{"n":1}')))
    assert await api.state(job_id) == "completed"
    assert bytes((await api.run(c.GetResult(id=job_id))).result) == b'{"n":1}'
    assert await api.refused(c.Ack(id=job_id, token=token)) is errors.NOT_ACTIVE


async def test_acks_in_a_batch_name_those_that_did_not_count(api: Api, queue: str):
    ids = [await api.push(queue) for _ in range(2)]
    await api.take(queue)
    assert (await api.run(c.AckBatch(ids=[ids[0], "nobody"]))).data == {"ignoredIds": ["nobody"]}
    assert [await api.state(job_id) for job_id in ids] == ["completed", "waiting"]


async def test_a_failure_is_retried_and_buried_in_the_end(api: Api, queue: str):
    job_id = await api.push(queue, max_attempts=2, backoff=0)
    for last_state in ("waiting", "failed"):
        _, token = await api.take(queue)
        await api.run(c.Fail(id=job_id, token=token, error="no luck"))
        said = await api.run(c.GetState(id=job_id))
        assert (said.state, said.error) == (last_state, "no luck")
    assert await api.refused(c.Fail(id=job_id)) is errors.NOT_ACTIVE


async def test_failures_in_a_batch_say_what_became_of_each(api: Api, queue: str):
    ids = [await api.push(queue, backoff=600_000) for _ in range(4)]
    taken = dict([await api.take(queue) for _ in range(3)])
    failures = [
        c.Failure(id=ids[0], token=taken[ids[0]], error="no luck", stack="in x"),
        c.Failure(id=ids[1], token=taken[ids[1]], unrecoverable=True),
        c.Failure(id=ids[2], token=STRANGER, retry_in=5),
        c.Failure(id=ids[3]),
    ]
    data = (await api.run(c.FailBatch(failures=failures))).data
    later = (await api.run(c.GetJob(id=ids[0]))).job.run_at
    assert data == r.Failed(run_at=[later, None, None, None], ignored_ids=ids[2:])
    assert [await api.state(job_id) for job_id in ids] == ["delayed", "failed", "active", "waiting"]
    (tried,) = (await api.run(c.GetAttempts(id=ids[0]))).attempts
    assert (tried.error, tried.stack) == ("no luck", "in x")


async def test_a_batch_of_failures_is_refused_whole_for_one_that_cannot_be(api: Api, queue: str):
    job_id = await api.push(queue)
    await api.take(queue)
    failures = [c.Failure(id=job_id), c.Failure(id="x", unrecoverable=True, retry_in=0)]
    assert await api.refused(c.FailBatch(failures=failures)) is c.RETRY_EXCLUDED
    assert await api.state(job_id) == "active"


async def test_a_lease_is_kept_while_it_is_renewed_and_no_longer(api: Api, queue: str):
    job_id = await api.push(queue)
    _, token = await api.take(queue)
    assert (await api.run(c.Heartbeat(id=job_id, token=token))).data == {"ok": True, "count": 1}
    batch = await api.run(c.HeartbeatBatch(ids=[job_id, "nobody"], tokens=[token, token]))
    assert batch.data == {"ok": True, "count": 1, "lostIds": ["nobody"]}
    await api.run(c.ExtendLock(id=job_id, token=token, duration=1))
    assert (await api.take(queue))[0] == job_id
    for command in (c.Heartbeat(id=job_id, token=token), c.ExtendLock(id=job_id, token=token, duration=1)):
        assert await api.refused(command) is errors.LOST_LOCK


async def test_progress_is_shown(api: Api, queue: str):
    job_id = await api.push(queue)
    assert await api.refused(c.Progress(id=job_id, progress=5)) is errors.NOT_ACTIVE
    await api.take(queue)
    await api.run(c.Progress(id=job_id, progress=12.5, message="on it"))
    assert (await api.run(c.GetJob(id=job_id))).job.progress == 12.5
    assert (await api.run(c.GetState(id=job_id))).message == "on it"


async def test_a_released_job_is_first_in_line_again_at_no_cost(api: Api, queue: str):
    first, _ = [await api.push(queue) for _ in range(2)]
    _, token = await api.take(queue)
    await api.run(c.Release(id=first, token=token))
    assert await api.refused(c.Release(id=first, token=token)) is errors.NOT_ACTIVE
    pulled = await api.run(c.Pull(queue=queue))
    assert pulled.job is not None
    assert (pulled.job.id, pulled.job.attempts) == (first, 0)


async def test_an_unrecoverable_failure_is_the_last(api: Api, queue: str):
    job_id = await api.push(queue, max_attempts=5, backoff=0)
    _, token = await api.take(queue)
    both = c.Fail(id=job_id, token=token, unrecoverable=True, retry_in=0)
    assert await api.refused(both) is c.RETRY_EXCLUDED
    await api.run(c.Fail(id=job_id, token=token, error="no such address", unrecoverable=True))
    (dead,) = (await api.run(c.Dlq(queue=queue))).entries
    assert (dead.job.id, dead.job.attempts, dead.reason, dead.error) == (
        job_id,
        1,
        "unrecoverable",
        "no such address",
    )
    assert await api.refused(c.Fail(id=job_id, unrecoverable=True)) is errors.NOT_ACTIVE


async def test_a_failure_says_when_the_next_attempt_is(api: Api, queue: str):
    job_id = await api.push(queue, max_attempts=2, backoff=0)
    _, token = await api.take(queue)
    await api.run(c.Fail(id=job_id, token=token, retry_in=86_400_000))
    job = (await api.run(c.GetJob(id=job_id))).job
    assert (job.attempts, await api.state(job_id)) == (1, "delayed")
    assert job.started_at is None
    assert job.run_at - job.created_at >= 86_400_000
    await api.run(c.Promote(id=job_id))
    await api.take(queue)
    await api.run(c.Fail(id=job_id, retry_in=0))
    assert await api.state(job_id) == "failed"


async def test_a_job_is_released_without_its_token_too(api: Api, queue: str):
    job_id = await api.push(queue)
    await api.take(queue)
    assert await api.refused(c.Release(id=job_id, token=STRANGER)) is errors.LOST_LOCK
    await api.run(c.Release(id=job_id))
    assert (await api.take(queue))[0] == job_id
