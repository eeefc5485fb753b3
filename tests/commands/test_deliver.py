"""What is given to those who work."""

from bunqueue_trio import errors
from bunqueue_trio.protocol import commands as c
from tests.commands.carriers import Api


async def test_jobs_come_by_priority_and_then_in_order(api: Api, queue: str):
    ids = [await api.push(queue, n, priority=priority) for n, priority in enumerate((0, 5, 5))]
    taken = await api.run(c.PullBatch(queue=queue, count=10, timeout=60_000))
    assert [job.id for job in taken.jobs] == [ids[1], ids[2], ids[0]]
    assert [bytes(job.data) for job in taken.jobs] == [b"1", b"2", b"0"]
    assert len(set(taken.tokens)) == 3


async def test_an_empty_queue_gives_nothing(api: Api, queue: str):
    for command in (c.Pull(queue=queue), c.Pull(queue=queue, timeout=1, lock_ttl=1000)):
        nothing = await api.run(command)
        assert (nothing.job, nothing.token) == (None, None)
    assert (await api.run(c.PullBatch(queue=queue, count=2))).jobs == []


async def test_a_name_that_is_none_is_refused(api: Api):
    for command in (c.Pull(queue="a b"), c.PullBatch(queue="a/b", count=1), c.Push(queue="ä", data=b"1")):
        assert await api.refused(command) is errors.INVALID_QUEUE
