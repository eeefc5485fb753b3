"""Dead letters: seen, and let wait again."""

import msgspec
import pytest

from bunqueue_trio import errors
from bunqueue_trio.protocol import commands as c
from tests.commands.carriers import Api


async def die(api: Api, queue: str, **options: object) -> str:
    job_id = await api.push(queue, max_attempts=1, **options)
    assert (await api.take(queue))[0] == job_id
    await api.run(c.Fail(id=job_id, error="no luck"))
    return job_id


async def test_dead_letters_are_listed_newest_first(api: Api, queue: str):
    ids = [await die(api, queue) for _ in range(3)]
    page = await api.run(c.Dlq(queue=queue, limit=2))
    assert [entry.job.id for entry in page.entries] == ids[:0:-1]
    assert {(entry.error, entry.reason) for entry in page.entries} == {("no luck", "max_attempts_exceeded")}
    assert page.total == 3
    page = await api.run(c.Dlq(queue=queue, limit=2, after=page.next))
    assert ([entry.job.id for entry in page.entries], page.next) == (ids[:1], None)


async def test_dead_letters_are_counted_by_their_error(api: Api, queue: str):
    for error in ("refused by 10.0.0.1", "refused by 10.0.0.2", "'x' is no address"):
        job_id = await api.push(queue, max_attempts=1, tags=["nightly"])
        await api.take(queue)
        await api.run(c.Fail(id=job_id, error=error))
    page = await api.run(c.DlqGroups(queue=queue, limit=1))
    [group] = page.groups
    assert (group.shape, group.count, group.queues, page.total) == ("refused by …", 2, {queue: 2}, 2)
    assert (group.example.error, group.common.tags) == ("refused by 10.0.0.2", ["nightly"])
    page = await api.run(c.DlqGroups(queue=queue, limit=1, after=page.next))
    assert ([group.example.id for group in page.groups], page.next) == ([job_id], None)
    assert await api.refused(c.DlqGroups(queue=queue, after="x")) is c.NOT_A_PLACE
    everywhere = {group.shape: group.queues for group in (await api.run(c.DeadGroups(limit=100))).groups}
    assert everywhere["… is no address"][queue] == 1
    assert {entry.fingerprint for entry in (await api.run(c.Dlq(queue=queue))).entries} == {
        group.fingerprint for group in (await api.run(c.DlqGroups(queue=queue))).groups
    }


@pytest.mark.parametrize("name", ["job_id", "id"])
async def test_one_dead_letter_is_retried_under_its_id(api: Api, queue: str, name: str):
    one, other = await die(api, queue), await die(api, queue)
    reply = await api.run(c.RetryDlq(queue=queue, **{name: one}))
    assert (reply.count, reply.left) == (1, 1)
    assert await api.refused(c.RetryDlq(queue=queue, job_id=one)) is c.NOT_DEAD
    job_id, token = await api.take(queue)
    assert job_id == one
    job = (await api.run(c.GetJob(id=one))).job
    assert (job.attempts, job.max_attempts) == (0, 1)
    await api.run(c.Ack(id=one, token=token))
    assert [entry.job.id for entry in (await api.run(c.Dlq(queue=queue))).entries] == [other]


async def test_all_dead_letters_are_retried_in_the_order_of_their_deaths(api: Api, queue: str):
    ids = [await die(api, queue) for _ in range(3)]
    reply = await api.run(c.RetryDlq(queue=queue))
    assert (reply.count, reply.left, reply.next) == (3, 0, None)
    assert [(await api.take(queue))[0] for _ in ids] == ids
    assert (await api.run(c.Dlq(queue=queue))).entries == []


async def test_a_dead_letter_whose_key_another_job_holds_stays_dead(api: Api, queue: str):
    dead = await die(api, queue, unique_key="k")
    await api.push(queue, unique_key="k")
    assert await api.refused(c.RetryDlq(queue=queue, job_id=dead)) is c.KEY_IS_HELD
    reply = await api.run(c.RetryDlq(queue=queue))
    assert (reply.count, reply.left) == (0, 1)


@pytest.mark.parametrize("name", ["job_id", "id"])
async def test_one_dead_letter_is_deleted(api: Api, queue: str, name: str):
    one, other = await die(api, queue), await die(api, queue)
    reply = await api.run(c.PurgeDlq(queue=queue, **{name: one}))
    assert (reply.count, reply.left) == (1, 1)
    assert await api.refused(c.PurgeDlq(queue=queue, job_id=one)) is c.NOT_DEAD
    assert await api.refused(c.GetJob(id=one)) is errors.JOB_NOT_FOUND
    assert [entry.job.id for entry in (await api.run(c.Dlq(queue=queue))).entries] == [other]


async def test_all_dead_letters_are_deleted_page_by_page(api: Api, queue: str):
    for _ in range(3):
        await die(api, queue)
    waiting = await api.push(queue)
    reply = await api.run(c.PurgeDlq(queue=queue, limit=2))
    assert (reply.count, reply.left) == (2, 1)
    reply = await api.run(c.PurgeDlq(queue=queue, limit=2, after=reply.next))
    assert (reply.count, reply.left, reply.next) == (1, 0, None)
    assert (await api.run(c.Dlq(queue=queue))).entries == []
    assert await api.state(waiting) == "waiting"


@pytest.mark.slow
async def test_dead_letters_are_rerun_a_few_first(api: Api, queue: str):
    wanted = c.Filter(queue=queue)
    assert await api.refused(c.RerunDlq(filter=wanted)) is c.NOTHING_DEAD
    assert await api.refused(c.RerunDlq(filter=c.Filter())) is c.EMPTY_FILTER
    for _ in range(3):
        await die(api, queue)
    assert await api.refused(c.RerunDlq(filter=wanted)) is c.NOBODY_ASKS
    await api.run(c.Pause(queue=queue))
    assert await api.refused(c.RerunDlq(filter=wanted, force=True)) is c.QUEUE_PAUSED
    await api.run(c.Resume(queue=queue))
    begun = (await api.run(c.RerunDlq(filter=wanted, count=1, stop_at=99.5, force=True))).rerun
    assert (begun.state, begun.count, begun.stop_at, bytes(begun.filter)) == (
        "first", 1, 99.5, b'{"queue":"%s"}' % queue.encode(),
    )  # fmt: skip
    first, _ = await api.take(queue)
    await api.run(c.Fail(id=first, error="again", unrecoverable=True))
    told = next(one for one in (await api.run(c.ListReruns())).reruns if one.id == begun.id)
    assert (told.state, told.retried, told.died) == ("stopped", 1, 1)
    assert (await api.run(c.StopRerun(rerun=begun.id))).rerun == told
    assert await api.refused(c.StopRerun(rerun="nobody")) is c.RERUN_NOT_FOUND
    assert (await api.run(c.Dlq(queue=queue))).total == 3


async def test_an_error_is_marked(api: Api, queue: str):
    await die(api, queue)
    [group] = (await api.run(c.DlqGroups(queue=queue))).groups
    await api.run(c.MarkGroup(fingerprint=group.fingerprint, mark="muted"))
    [group] = (await api.run(c.DlqGroups(queue=queue))).groups
    assert group.mark == "muted"
    assert group.marked_at is not None
    await api.run(c.MarkGroup(fingerprint=group.fingerprint, mark="none"))
    assert [group.mark for group in (await api.run(c.DlqGroups(queue=queue))).groups] == [None]
    assert await api.refused(c.MarkGroup(fingerprint="x", mark="none")) is c.NOT_A_GROUP


async def test_a_dead_letter_is_retried_with_another_payload(api: Api, queue: str):
    job_id = await api.push(queue, {"to": "nobody"}, max_attempts=1)
    _, token = await api.take(queue)
    await api.run(c.Fail(id=job_id, token=token))
    assert await api.refused(c.RetryDlq(queue=queue, data=msgspec.Raw(b"1"))) is c.DATA_OF_ONE
    assert (await api.run(c.RetryDlq(queue=queue, job_id=job_id, data=msgspec.Raw(b'{"to":"ann"}')))).count == 1
    pulled = await api.run(c.Pull(queue=queue, timeout=60_000))
    assert pulled.job is not None
    assert (pulled.job.id, bytes(pulled.job.data), pulled.job.attempts) == (job_id, b'{"to":"ann"}', 0)
