"""Cancelling with a word and a grace: the worker gets the word, what it says in time counts, and a record is kept."""

import pytest

from bunqueue_trio import errors
from bunqueue_trio.protocol import commands as c
from tests.commands.carriers import Api

HOUR = 3_600_000


async def test_a_job_that_is_cancelled_with_a_reason_leaves_a_record(api: Api, queue: str):
    waiting, delayed = await api.push(queue), await api.push(queue, delay=HOUR)
    dependent = await api.push(queue, depends_on=[waiting])
    await api.run(c.Cancel(id=waiting, reason="wrong data", by="ann"))
    await api.run(c.Cancel(id=delayed, grace=0))
    seen = await api.run(c.GetState(id=waiting))
    assert (seen.state, seen.error) == ("failed", "Cancelled by ann: wrong data")
    assert seen.cancelled is not None
    assert (seen.cancelled.reason, seen.cancelled.by, seen.cancelled.until) == ("wrong data", "ann", None)
    assert (await api.run(c.Why(id=waiting))).code == "cancelled"
    told = {entry.job.id: entry.reason for entry in (await api.run(c.Dlq(queue=queue))).entries}
    assert told == {waiting: "cancelled", delayed: "cancelled", dependent: "dependency_failed"}
    assert await api.refused(c.Cancel(id=waiting, reason="again")) is errors.JOB_NOT_FOUND
    assert (await api.run(c.Pull(queue=queue))).job is None


async def test_all_dead_letters_are_retried_without_those_that_were_cancelled(api: Api, queue: str):
    wanted, unwanted = await api.push(queue), await api.push(queue)
    await api.run(c.Discard(id=wanted))
    await api.run(c.Cancel(id=unwanted, by="ann"))
    assert (await api.run(c.RetryDlq(queue=queue))).count == 1
    assert await api.state(unwanted) == "failed"
    assert (await api.run(c.RetryDlq(queue=queue, id=unwanted))).count == 1
    assert [(await api.take(queue))[0] for _ in range(2)] == [wanted, unwanted]
    assert (await api.run(c.GetState(id=unwanted))).cancelled is None


async def test_the_heartbeat_of_a_cancelled_job_says_so(api: Api, queue: str):
    ids = [await api.push(queue) for _ in range(2)]
    tokens = [(await api.take(queue))[1] for _ in ids]
    said = (await api.run(c.Cancel(id=ids[0], reason="no", by="ann", grace=HOUR))).data
    seen = await api.run(c.GetState(id=ids[0]))
    assert seen.state == "active"
    assert seen.cancelled is not None
    until = seen.cancelled.until
    assert (await api.run(c.Heartbeat(id=ids[0], token=tokens[0]))).data == {
        "ok": True, "count": 1, "cancelled": {"reason": "no", "by": "ann", "until": until},
    }  # fmt: skip
    assert said == {"until": until}
    assert (await api.run(c.HeartbeatBatch(ids=ids, tokens=tokens))).data == {
        "ok": True, "count": 2, "cancelledIds": [ids[0]],
    }  # fmt: skip
    assert (await api.run(c.Why(id=ids[0]))).code == "cancelling"
    assert (await api.run(c.Cancel(id=ids[0], grace=2 * HOUR))).data == said
    await api.run(c.Cancel(id=ids[0]))
    seen = await api.run(c.GetState(id=ids[0]))
    assert (seen.state, seen.error) == ("failed", "Cancelled by ann: no")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ack", "fail", "release", "delay", "last"])
async def test_what_a_worker_says_within_the_grace_counts(api: Api, queue: str, how: str):
    job_id = await api.push(queue)
    _, token = await api.take(queue)
    await api.run(c.Cancel(id=job_id, reason="no", grace=HOUR))
    command: c.Command = {
        "ack": c.Ack(id=job_id, token=token),
        "fail": c.Fail(id=job_id, token=token, error="half done"),
        "last": c.Fail(id=job_id, token=token, error="half done", unrecoverable=True),
        "release": c.Release(id=job_id, token=token),
        "delay": c.MoveToDelayed(id=job_id, token=token, delay=1),
    }[how]
    await api.run(command)
    seen, job = await api.run(c.GetState(id=job_id)), (await api.run(c.GetJob(id=job_id))).job
    told = {
        "ack": ("completed", None, 0),
        "fail": ("failed", "Cancelled: no\nhalf done", 1),
        "last": ("failed", "Cancelled: no\nhalf done", 1),
        "release": ("failed", "Cancelled: no", 0),
        "delay": ("failed", "Cancelled: no", 0),
    }
    assert (seen.state, seen.error, job.attempts) == told[how]
    assert (seen.cancelled is None) == (how == "ack")
    assert await api.refused(c.Ack(id=job_id, token=token)) is errors.NOT_ACTIVE


async def test_after_the_grace_the_lease_is_dead(api: Api, queue: str):
    job_id = await api.push(queue)
    _, token = await api.take(queue)
    await api.run(c.Cancel(id=job_id, grace=1))
    while await api.state(job_id) == "active":
        pass
    assert await api.refused(c.Heartbeat(id=job_id, token=token)) is errors.NOT_ACTIVE
    assert (await api.run(c.GetState(id=job_id))).error == "Cancelled"


async def test_a_cancelled_job_whose_failures_are_not_kept_leaves_nothing(api: Api, queue: str):
    job_id = await api.push(queue, remove_on_fail=True)
    await api.run(c.Cancel(id=job_id, reason="no"))
    assert await api.refused(c.GetJob(id=job_id)) is errors.JOB_NOT_FOUND
