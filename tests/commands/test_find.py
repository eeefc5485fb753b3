"""Jobs found by a filter, and acted on by it."""

from bunqueue_trio import errors
from bunqueue_trio.protocol import commands as c
from tests.commands.carriers import Api


async def test_jobs_are_found_over_queues_and_states(api: Api, queue: str):
    first, second = await api.push(queue, tags=["x"]), await api.push(f"{queue}-b", {"to": "ann"})
    delayed = await api.push(queue, delay=3_600_000, priority=2)
    names = [queue, f"{queue}-b"]
    page = await api.run(c.FindJobs(queue=names, state=["waiting", "delayed"], limit=2))
    assert ([job.id for job in page.jobs], page.complete) == ([first, second], True)
    page = await api.run(c.FindJobs(queue=names, state=["waiting", "delayed"], limit=2, after=page.next))
    assert ([(job.id, job.state) for job in page.jobs], page.next) == ([(delayed, "delayed")], None)
    assert [job.id for job in (await api.run(c.FindJobs(queue=names, text="ann"))).jobs] == [second]
    assert [job.id for job in (await api.run(c.FindJobs(queue=queue, tag="x", newer=3_600_000))).jobs] == [first]
    await api.run(c.Cancel(id=first, reason="wrong"))
    await api.run(c.Discard(id=delayed))
    dead = (await api.run(c.FindJobs(queue=queue, state="failed"))).jobs
    assert [(job.id, job.reason) for job in dead] == [(delayed, "discarded"), (first, "cancelled")]
    assert [job.reason for job in (await api.run(c.GetJobs(queue=queue, state="failed"))).jobs] == [
        "discarded",
        "cancelled",
    ]
    for how, n in (
        ({}, 3),
        ({"state": "failed"}, 2),
        ({"text": "ann"}, 1),
        ({"id_prefix": first}, 1),
        ({"error": "wrong"}, 1),
    ):
        told = await api.run(c.FindJobs(queue=names, count=True, **how))
        assert (told.jobs, told.count, told.next, told.scanned > 0) == (
            [],
            n,
            None,
            how not in ({}, {"state": "failed"}),
        )
    assert await api.refused(c.FindJobs(queue=queue, state="weird")) is c.UNKNOWN_STATE
    assert await api.refused(c.FindJobs(queue=queue, after="x")) is c.NOT_A_PLACE
    assert await api.refused(c.FindJobs(queue="no good")) is errors.INVALID_QUEUE


async def test_many_jobs_are_acted_on_in_one_call(api: Api, queue: str):
    for n in range(3):
        await api.push(queue, delay=3_600_000, tags=["x"] if n else [])
    tried = await api.run(c.ActOnJobs(filter=c.Filter(queue=queue), action="promote", dry_run=True))
    assert (tried.count, len(tried.examples), tried.next) == (3, 3, None)
    assert (await api.run(c.GetJobCounts(queue=queue))).counts["delayed"] == 3
    done = await api.run(
        c.ActOnJobs(filter=c.Filter(queue=[queue], tag="x"), action="promote", limit=10_000, rate=1000)
    )
    assert (done.count, done.refused, done.scanned) == (2, {}, 3)
    counts = (await api.run(c.GetJobCounts(queue=queue))).counts
    assert (counts["waiting"], counts["delayed"]) == (2, 1)
    assert (await api.take(queue))[0]
    refused = (await api.run(c.ActOnJobs(filter=c.Filter(queue=queue), action="cancel"))).refused
    assert refused == {"is-active": 1}
    assert await api.refused(c.ActOnJobs(filter=c.Filter(), action="cancel")) is c.EMPTY_FILTER
    assert await api.refused(c.ActOnJobs(filter=c.Filter(queue=queue), action="priority")) is c.NO_PRIORITY
