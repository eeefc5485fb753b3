"""What is shown of one job."""

import contextlib

import msgspec
import pytest

from bunqueue_trio import errors
from bunqueue_trio.protocol import commands as c
from tests.commands.carriers import Api


async def test_a_job_tells_why_it_is_not_running(api: Api, queue: str):
    first, second = await api.push(queue), await api.push(queue, priority=-1)
    dependent = await api.push(queue, depends_on=[second])
    later = await api.push(queue, delay=3_600_000)

    async def code(job_id: str) -> str:
        said = await api.run(c.Why(id=job_id))
        assert said.why.endswith(".")
        return said.code

    assert await code(second) == "nobody-asks"
    await api.take(queue)
    assert [await code(job_id) for job_id in (first, second, dependent, later)] == [
        "active", "next", "waits-for-jobs", "delayed",
    ]  # fmt: skip
    third = await api.push(queue, priority=-2)
    said = await api.run(c.Why(id=third))
    assert (said.code, said.position, said.higher, said.exact, said.active) == ("in-line", 2, 1, True, 1)
    await api.run(c.SetConcurrency(queue=queue, concurrency=1))
    assert await code(second) == "concurrency"
    await api.run(c.Pause(queue=queue))
    assert await code(second) == "paused"
    await api.run(c.Ack(id=first))
    assert await code(first) == "completed"
    assert await api.refused(c.Why(id="nobody")) is errors.JOB_NOT_FOUND


async def test_a_job_tells_how_far_it_is_and_when_that_was_said(api: Api, queue: str):
    job_id = await api.push(queue)
    said = await api.run(c.GetProgress(id=job_id))
    assert (said.progress, said.message, said.at) == (0, None, None)
    _, token = await api.take(queue)
    await api.run(c.Progress(id=job_id, token=token, progress=50, message="half"))
    said = await api.run(c.GetProgress(id=job_id))
    started = (await api.run(c.GetJob(id=job_id))).job.started_at
    assert (said.progress, said.message) == (50, "half")
    assert said.at is not None
    assert started is not None
    assert said.at >= started
    await api.run(c.Ack(id=job_id))
    assert await api.run(c.GetProgress(id=job_id)) == said
    assert await api.refused(c.GetProgress(id="nobody")) is errors.JOB_NOT_FOUND


async def test_the_end_of_a_job_is_waited_for(api: Api, queue: str):
    job_id = await api.push(queue)
    said = await api.run(c.WaitJob(id=job_id, timeout=1))
    assert (said.completed, said.state, bytes(said.result)) == (False, "waiting", b"null")
    said = await api.run(c.GetResult(id=job_id, timeout=1))
    assert (said.state, bytes(said.result), said.error) == ("waiting", b"null", None)
    await api.take(queue)
    await api.run(c.Ack(id=job_id, result=msgspec.Raw(b'{"sent":true}')))
    said = await api.run(c.WaitJob(id=job_id))
    assert (said.completed, said.state, bytes(said.result), said.error) == (True, "completed", b'{"sent":true}', None)
    assert bytes((await api.run(c.GetResult(id=job_id, timeout=600_000))).result) == b'{"sent":true}'
    at_once = await api.run(c.GetResult(id=job_id))
    assert (bytes(at_once.result), at_once.state, at_once.error) == (b'{"sent":true}', msgspec.UNSET, msgspec.UNSET)
    dead = await api.push(queue, max_attempts=1)
    await api.take(queue)
    await api.run(c.Fail(id=dead, error="no luck"))
    said = await api.run(c.WaitJob(id=dead))
    assert (said.completed, said.state, said.error) == (False, "failed", "no luck")
    assert await api.refused(c.WaitJob(id="nobody")) is errors.JOB_NOT_FOUND


async def test_a_wait_ends_with_a_job_that_expires_and_leaves_no_record(api: Api, queue: str):
    for ttl in (200, 2000, 20_000):
        job_id = await api.push(queue, ttl=ttl)
        with contextlib.suppress(errors.Refused):  # on a busy machine it was gone before it was asked for
            assert (await api.run(c.WaitJob(id=job_id, timeout=60_000))).state == "removed"
            return
    pytest.fail("nobody could wait")
