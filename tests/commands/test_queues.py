"""What is said of a queue as a whole."""

import time

from bunqueue_trio import errors
from bunqueue_trio.protocol import commands as c
from tests.commands.carriers import Api


async def test_a_paused_queue_hands_out_nothing_until_it_is_resumed(api: Api, queue: str):
    assert not (await api.run(c.IsPaused(queue=queue))).paused
    await api.run(c.Pause(queue=queue, reason="the mail server is down"))
    said = await api.run(c.IsPaused(queue=queue))
    assert (said.paused, said.reason, said.until) == (True, "the mail server is down", None)
    assert said.since is not None
    job_id = await api.push(queue)
    for timeout in (0, 100):
        assert (await api.run(c.Pull(queue=queue, timeout=timeout))).job is None
        assert (await api.run(c.PullBatch(queue=queue, count=5, timeout=timeout))).jobs == []
    for _ in range(2):  # the second is for nothing, and no fault
        await api.run(c.Resume(queue=queue))
    assert (await api.take(queue))[0] == job_id
    assert not (await api.run(c.IsPaused(queue=queue))).paused


async def test_a_pause_ends_at_its_time(api: Api, queue: str):
    job_id = await api.push(queue)
    until = round(time.time() * 1000) + 300
    await api.run(c.Pause(queue=queue, until=until))
    assert (await api.run(c.IsPaused(queue=queue))).until == until
    assert (await api.take(queue))[0] == job_id
    assert time.time() * 1000 >= until - 1
    assert await api.refused(c.Pause(queue=queue, until=until)) is errors.INVALID_FIELD


async def test_a_queue_of_no_name_is_not_paused(api: Api):
    for command in (c.Pause(queue="a b"), c.Resume(queue="a b"), c.IsPaused(queue="a b")):
        assert await api.refused(command) is errors.INVALID_QUEUE
