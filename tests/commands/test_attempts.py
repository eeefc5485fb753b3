"""The failed attempts of a job."""

from bunqueue_trio import errors
from bunqueue_trio.protocol import commands as c
from tests.commands.carriers import Api


async def test_an_attempt_says_by_whom(api: Api, queue: str):
    worker = f"w-{queue}"
    await api.run(c.RegisterWorker(worker_id=worker, name="mails", queues=[queue]))
    for owner, by in ((worker, "mails"), (None, None)):
        job_id = await api.push(queue, max_attempts=1)
        assert (await api.run(c.Pull(queue=queue, timeout=60_000, owner=owner))).job is not None
        await api.run(c.Fail(id=job_id))
        said = (await api.run(c.GetAttempts(id=job_id))).attempts[0].by
        assert said is not None
        # A nameless one is its address, but where the session has just said who it is.
        assert said == (by or said)
        assert by is not None or said == "mails" or said.startswith("@127.0.0.1")
    await api.run(c.UnregisterWorker(id=worker))


async def test_failed_attempts_are_kept_with_their_stacks(api: Api, queue: str):
    job_id = await api.push(queue, max_attempts=2, backoff=0)
    assert (await api.run(c.GetAttempts(id=job_id))).attempts == []
    for error, stack in (("first", "Traceback of the first\n  …"), (None, None)):
        _, token = await api.take(queue)
        await api.run(c.Fail(id=job_id, token=token, error=error, stack=stack))
    first, second = (await api.run(c.GetAttempts(id=job_id))).attempts
    assert (first.attempt, first.reason, first.error, first.stack) == (
        1, "explicit_fail", "first", "Traceback of the first\n  …",
    )  # fmt: skip
    assert (second.attempt, second.reason, second.error, second.stack) == (
        2, "max_attempts_exceeded", "Unknown error", None,
    )  # fmt: skip
    assert first.failed_at - first.started_at == first.duration >= 0
    await api.run(c.RetryDlq(queue=queue, job_id=job_id))
    assert (await api.run(c.GetAttempts(id=job_id))).attempts == []
    assert await api.refused(c.GetAttempts(id="nobody")) is errors.JOB_NOT_FOUND


async def test_a_timeline_has_what_happened_to_a_job_in_order(api: Api, queue: str):
    job_id = await api.push(queue, max_attempts=2, backoff=0)
    for ends in (c.Fail, c.Ack):
        _, token = await api.take(queue)
        await api.run(ends(id=job_id, token=token))
    pages = [await api.run(c.GetTimeline(id=job_id))]
    while pages[-1].next is not None:
        pages.append(await api.run(c.GetTimeline(id=job_id, after=pages[-1].next)))
    told = [entry.what for page in pages for entry in page.entries]
    assert [what for what in told if what != "retried"] == ["pushed", "pulled", "failed", "pulled", "completed"]
    assert pages[0].state == "completed"
    assert pages[-1].complete
    await api.run(c.Cancel(id=(gone := await api.push(queue))))
    last = await api.run(c.GetTimeline(id=gone))
    assert (last.state, {entry.what for entry in last.entries}) == (None, {"pushed", "act", "removed"})
    assert await api.refused(c.GetTimeline(id=job_id, after="x")) is c.NOT_A_PLACE
