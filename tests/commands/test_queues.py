"""What is said of a queue as a whole."""

import time

import msgspec
import pytest

from bunqueue_trio import errors
from bunqueue_trio.protocol import commands as c
from tests.commands.carriers import Api


@pytest.mark.slow
async def test_a_paused_queue_delivers_nothing_until_it_is_resumed(api: Api, queue: str):
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


@pytest.mark.slow
async def test_a_pause_ends_at_its_time(api: Api, queue: str):
    job_id = await api.push(queue)
    until = round(time.time() * 1000) + 300
    await api.run(c.Pause(queue=queue, until=until))
    assert (await api.run(c.IsPaused(queue=queue))).until == until
    assert (await api.take(queue))[0] == job_id
    assert time.time() * 1000 >= until - 1
    assert await api.refused(c.Pause(queue=queue, until=until)) is errors.UNTIL_IS_PAST


async def test_the_concurrency_limit_of_a_queue_is_kept(api: Api, queue: str):
    await api.run(c.SetConcurrency(queue=queue, concurrency=2))
    ids = [await api.push(queue) for _ in range(4)]
    assert [job.id for job in (await api.run(c.PullBatch(queue=queue, count=9))).jobs] == ids[:2]
    assert (await api.run(c.Pull(queue=queue, timeout=50))).job is None
    said = await api.run(c.GetConcurrency(queue=queue))
    assert (said.concurrency, said.active) == (2, 2)
    await api.run(c.Ack(id=ids[0]))
    assert (await api.take(queue))[0] == ids[2]
    await api.run(c.ClearConcurrency(queue=queue))
    assert (await api.take(queue))[0] == ids[3]
    assert (await api.run(c.GetConcurrency(queue=queue))).concurrency is None
    assert await api.refused(c.SetConcurrency(queue=queue, concurrency=0)) is errors.INVALID_FIELD


@pytest.mark.slow
async def test_the_rate_limit_of_a_queue_is_kept(api: Api, queue: str):
    await api.run(c.RateLimit(queue=queue, limit=2, duration=1500))
    ids = [await api.push(queue) for _ in range(3)]
    begun = time.monotonic()
    assert [job.id for job in (await api.run(c.PullBatch(queue=queue, count=9))).jobs] == ids[:2]
    assert (await api.run(c.Pull(queue=queue, timeout=50))).job is None
    said = await api.run(c.GetRateLimit(queue=queue))
    assert (said.limit, said.duration, said.used, said.until) == (2, 1500, 2, None)
    assert said.opens_at is not None
    assert (await api.take(queue))[0] == ids[2]
    assert time.monotonic() - begun > 1.4
    await api.run(c.RateLimit(queue=queue, limit=1, duration=3_600_000, ttl=86_400_000))
    last = await api.push(queue)
    assert (await api.run(c.Pull(queue=queue))).job is None, "what was delivered before counts"
    await api.run(c.RateLimitClear(queue=queue))
    assert (await api.take(queue))[0] == last
    assert (await api.run(c.GetRateLimit(queue=queue))).limit is None
    assert await api.refused(c.RateLimit(queue=queue, limit=0)) is errors.INVALID_FIELD


async def test_a_queue_tells_how_it_is_doing(api: Api, queue: str):
    for priority, delay in ((0, 0), (0, 0), (5, 0), (0, 60_000)):
        await api.push(queue, priority=priority, delay=delay)
    job_id, token = await api.take(queue)
    await api.run(c.Ack(id=job_id, token=token))
    await api.take(queue)
    await api.run(c.Pause(queue=queue, reason="why"))
    seen = (await api.run(c.GetQueue(queue=queue))).queue
    counts = {"waiting": 1, "delayed": 1, "active": 1, "waiting-children": 0, "completed": 1, "failed": 0}
    assert (seen.name, seen.counts, seen.pulls_waiting) == (queue, counts, 0)
    assert seen.paused
    assert seen.pause is not None
    assert seen.pause.reason == "why"
    assert seen.oldest_ready_at is not None
    assert seen.next_due_at is not None
    assert 50_000 < seen.next_due_at - seen.oldest_ready_at < 120_000
    counted = (await api.run(c.GetJobCounts(queue=queue))).counts
    assert counted == counts | {"waiting": 0, "paused": 1, "prioritized": 0}
    assert (await api.run(c.CountJobs(queue=queue))).count == 2
    assert (await api.run(c.GetCountsPerPriority(queue=queue))).counts == {"0": 1}


async def test_queues_are_listed_in_pages(api: Api, queue: str):
    """Those with ready jobs, with ended ones, and with nothing but a pause."""
    names = [f"{queue}.{i}" for i in range(3)]
    await api.push(names[0])
    await api.push(names[1])
    job_id, token = await api.take(names[1])
    await api.run(c.Ack(id=job_id, token=token))
    await api.run(c.Pause(queue=names[2]))
    after, found = queue, list[str]()
    while len(found) < 3:
        page = await api.run(c.ListQueues(after=after, limit=2, details=True))
        assert isinstance(page.details, list)
        assert [each.name for each in page.details] == page.queues
        found += page.queues
        assert page.next in (page.queues[-1], None)
        after = page.queues[-1]
    assert found[:3] == names
    whole = await api.run(c.ListQueues())
    assert set(names) <= set(whole.queues)
    assert whole.queues == sorted(whole.queues)
    assert whole.details is msgspec.UNSET


async def test_a_queue_that_nobody_has_used_is_empty(api: Api, queue: str):
    seen = (await api.run(c.GetQueue(queue=queue))).queue
    assert (set(seen.counts.values()), seen.oldest_ready_at, seen.next_due_at) == ({0}, None, None)
    assert set((await api.run(c.GetJobCounts(queue=queue))).counts.values()) == {0}
    assert (await api.run(c.CountJobs(queue=queue))).count == 0
    assert (await api.run(c.GetCountsPerPriority(queue=queue))).counts == {}


async def test_a_queue_of_no_name_is_not_paused(api: Api):
    kinds = (
        c.Pause,
        c.Resume,
        c.IsPaused,
        c.GetQueue,
        c.GetJobCounts,
        c.CountJobs,
        c.GetCountsPerPriority,
        c.GetConcurrency,
        c.GetRateLimit,
        c.RateLimitClear,
    )
    for kind in kinds:
        command = kind(queue="a b")
        assert await api.refused(command) is errors.INVALID_QUEUE


async def test_a_queue_tells_what_went_on_in_it(api: Api, queue: str):
    told = await api.run(c.GetFigures(queue=queue))
    assert (told.queue, told.minutes, told.hours) == (queue, [], [])
    assert await api.refused(c.GetFigures(queue="no good")) is errors.INVALID_QUEUE


async def test_what_a_push_does_not_say_is_its_queues_to_say(api: Api, queue: str):
    assert (await api.run(c.GetDefaults(queue=queue))).defaults.max_attempts == 3
    await api.run(c.SetDefaults(queue=queue, max_attempts=5, backoff=c.Backoff(type="fixed", delay=50), timeout=60_000))
    said = (await api.run(c.GetDefaults(queue=queue))).defaults
    assert (said.max_attempts, said.backoff.type, said.timeout, said.remove_on_fail) == (5, "fixed", 60_000, False)
    job_id, other = await api.push(queue), await api.push(queue, max_attempts=3)
    assert [(await api.run(c.GetJob(id=each))).job.max_attempts for each in (job_id, other)] == [5, 3]
    await api.run(c.ClearDefaults(queue=queue))
    assert (await api.run(c.GetJob(id=await api.push(queue)))).job.max_attempts == 3
    assert await api.refused(c.SetDefaults(queue="no good")) is errors.INVALID_QUEUE


async def test_a_queue_says_when_its_jobs_stall(api: Api, queue: str):
    usual = (await api.run(c.GetStallConfig(queue=queue))).config
    assert (usual.enabled, usual.max_stalls, usual.grace_period) == (True, 3, 0)
    await api.run(c.SetStallConfig(queue=queue, config=c.StallConfig(stall_interval=15_000, max_stalls=5)))
    said = (await api.run(c.GetStallConfig(queue=queue))).config
    assert (said.stall_interval, said.max_stalls) == (15_000, 5)
    await api.run(c.SetStallConfig(queue=queue, enabled=False))
    said = (await api.run(c.GetStallConfig(queue=queue))).config
    assert (said.enabled, said.stall_interval, said.max_stalls) == (False, 15_000, 5), (
        "what is left out stays as it was"
    )
    await api.run(c.ClearStallConfig(queue=queue))
    told = await api.run(c.GetStallConfig(queue=queue))
    assert (told.config, told.set) == (usual, [])


async def test_a_queue_says_which_of_its_dead_letters_are_kept(api: Api, queue: str):
    await api.run(c.SetDlqConfig(queue=queue, config=c.DlqConfig(max_entries=1000, max_age=60_000)))
    said = (await api.run(c.GetDlqConfig(queue=queue))).config
    assert (said.auto_retry, said.max_entries, said.max_age) == (False, 1000, 60_000)
    assert (said.auto_retry_interval, said.max_auto_retries) == (3_600_000, 3)
    await api.run(c.SetDlqConfig(queue=queue, max_age=None))
    assert (await api.run(c.GetDlqConfig(queue=queue))).set == ["maxEntries"]
    await api.run(c.ClearDlqConfig(queue=queue))
    assert (await api.run(c.GetDlqConfig(queue=queue))).config.max_entries is None


async def test_a_queue_retries_its_dead_letters_by_itself(api: Api, queue: str):
    await api.run(c.SetDlqConfig(queue=queue, auto_retry=True, auto_retry_interval=0, max_auto_retries=1))
    told = await api.run(c.GetDlqConfig(queue=queue))
    assert (told.config.auto_retry, told.config.auto_retry_interval, told.config.max_auto_retries) == (True, 0, 1)
    assert told.set == ["autoRetry", "autoRetryInterval", "maxAutoRetries"]
    job_id = await api.push(queue, max_attempts=1)
    for error in ("boom", "again"):
        delivered = await api.run(c.Pull(queue=queue, timeout=30_000))
        assert delivered.job.id == job_id
        await api.run(c.Fail(id=job_id, token=delivered.token, error=error))
    assert (await api.run(c.Pull(queue=queue, timeout=300))).job is None
    assert "after 1 of 1 retries by the server" in (await api.run(c.Why(id=job_id))).why
    [line] = (await api.run(c.GetLogs(id=job_id))).data.logs
    assert line.message == "Retried by the server, 1 of 1, after: boom"
