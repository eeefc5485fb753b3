"""Many jobs removed at once."""

import pytest
import trio

from bunqueue_trio import errors
from bunqueue_trio.protocol import commands as c
from tests.commands.carriers import Api


async def finish(api: Api, queue: str) -> str:
    job_id = await api.push(queue, priority=9)
    _, token = await api.take(queue)
    await api.run(c.Ack(id=job_id, token=token))
    return job_id


@pytest.mark.slow
async def test_a_drained_queue_has_no_waiting_jobs(api: Api, queue: str):
    active = await api.push(queue)
    await api.take(queue)
    ids = [await api.push(queue) for _ in range(3)]
    later = await api.push(queue, delay=3_600_000)
    said = await api.run(c.Drain(queue=queue, limit=2))
    assert (said.count, said.left) == (2, 1)
    assert await api.refused(c.GetJob(id=ids[0])) is errors.JOB_NOT_FOUND
    assert await api.state(ids[2]) == "waiting"
    said = await api.run(c.Drain(queue=queue))
    assert (said.count, said.left) == (1, 0)
    assert (await api.state(active), await api.state(later)) == ("active", "delayed")
    assert (await api.run(c.Drain(queue=queue, delayed=True))).count == 1
    assert await api.refused(c.Drain(queue="a b")) is errors.INVALID_QUEUE


async def test_old_jobs_of_a_state_are_cleaned(api: Api, queue: str):
    ended = [await finish(api, queue) for _ in range(3)]
    waiting = await api.push(queue)
    said = await api.run(c.Clean(queue=queue, state="completed", grace=3_600_000))
    assert (said.count, said.ids, said.scanned, said.next) == (0, [], 3, None)
    said = await api.run(c.Clean(queue=queue, state="completed", limit=2))
    assert (said.ids, said.scanned) == (ended[:0:-1], 2)
    said = await api.run(c.Clean(queue=queue, state="completed", after=said.next))
    assert (said.ids, said.next) == (ended[:1], None)
    assert (await api.run(c.GetJobs(queue=queue, state="completed"))).jobs == []
    assert (await api.run(c.Clean(queue=queue, state="waiting"))).ids == [waiting]
    for state in ("active", "x"):
        assert await api.refused(c.Clean(queue=queue, state=state)) is c.NOT_CLEANABLE
    assert await api.refused(c.Clean(queue=queue, state="failed", after="x")) is c.NOT_A_PLACE


async def test_who_goes_on_with_a_clean_up_takes_what_was_old_enough_when_they_began(api: Api, queue: str):
    there = await api.push(queue)
    began = (await api.run(c.Ping())).data["time"]
    await trio.sleep(0.002)
    await api.push(queue)
    said = await api.run(c.Clean(queue=queue, state="waiting", as_of=began + 3_600_000, grace=1_800_000))
    assert said.count == 0, "no moment is later than now"
    assert (await api.run(c.Clean(queue=queue, state="waiting", as_of=began - 60_000))).count == 0
    assert (await api.run(c.Clean(queue=queue, state="waiting", as_of=began))).ids == [there]


async def test_nothing_is_left_of_an_obliterated_queue(api: Api, queue: str):
    await finish(api, queue)
    await api.push(queue)
    await api.take(queue)
    waiting, later = await api.push(queue), await api.push(queue, delay=3_600_000)
    await api.run(c.Pause(queue=queue))
    await api.run(c.RateLimit(queue=queue, limit=1))
    assert await api.refused(c.Obliterate(queue=queue)) is c.HAS_ACTIVE
    assert await api.state(waiting) == "waiting"
    said = [await api.run(c.Obliterate(queue=queue, force=True, limit=2))]
    while not said[-1].done:
        said.append(await api.run(c.Obliterate(queue=queue, force=True, limit=2)))
    assert [each.count for each in said] == [2, 2]
    assert await api.refused(c.GetJob(id=later)) is errors.JOB_NOT_FOUND
    seen = (await api.run(c.GetQueue(queue=queue))).queue
    assert (set(seen.counts.values()), seen.paused, seen.rate_limit) == ({0}, False, None)


async def test_delayed_jobs_of_a_queue_are_promoted_those_first_whose_time_is_next(api: Api, queue: str):
    last, first, second = [await api.push(queue, delay=delay) for delay in (3_600_000, 3_500_000, 3_500_001)]
    ready = await api.push(queue)
    promoted = await api.run(c.PromoteJobs(queue=queue, count=2))
    assert (promoted.count, promoted.left) == (2, 1)
    assert [(await api.take(queue))[0] for _ in range(3)] == [ready, first, second]
    assert (await api.run(c.PromoteJobs(queue=queue))).count == 1
    assert (await api.take(queue))[0] == last
    promoted = await api.run(c.PromoteJobs(queue=queue))
    assert (promoted.count, promoted.left) == (0, 0)
