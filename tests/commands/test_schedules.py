"""What brings jobs by itself, by name."""

import time
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from bunqueue_trio import errors
from bunqueue_trio.protocol import commands as c
from tests.commands.carriers import Api


@pytest.mark.slow
async def test_a_schedule_brings_jobs_until_it_is_paused_and_on_when_it_is_resumed(api: Api, queue: str):
    put = c.PutSchedule(name=queue, queue=queue, data=Raw(b'{"n":1}'), every=100, overlap="skip")
    said = await api.run(put)
    assert (said.outcome, said.schedule.state, said.schedule.runs) == ("created", "active", 0)
    assert (await api.run(put)).outcome == "unchanged"
    job_id, token = await api.take(queue)
    name, _, slot = job_id.partition("@")
    assert (name, int(slot) % 100) == (queue, 0)
    await api.run(c.PauseSchedule(name=queue))
    paused = (await api.run(c.GetSchedule(name=queue))).schedule
    assert (paused.state, paused.next_run, paused.last_job) == ("paused", None, job_id)
    await api.run(c.Ack(id=job_id, token=token))
    assert (await api.run(c.Pull(queue=queue, timeout=250))).job is None
    await api.run(c.ResumeSchedule(name=queue))
    assert (await api.take(queue))[0] > job_id
    runs = await api.run(c.GetScheduleRuns(name=queue, limit=100))
    told: dict[str, str] = {each.job: each.outcome for each in runs.past if each.job is not None}
    assert told[job_id] == "completed"
    assert "paused" in [each.why for each in runs.past]
    await api.run(c.DeleteSchedule(name=queue))
    for command in (c.GetSchedule(name=queue), c.DeleteSchedule(name=queue), c.GetScheduleRuns(name=queue)):
        assert await api.refused(command) is c.SCHEDULE_NOT_FOUND


async def test_a_schedule_runs_now_when_asked_to(api: Api, queue: str):
    await api.run(c.PutSchedule(name=queue, queue=queue, cron="0 3 * * *", timezone="Europe/Berlin"))
    job_id = (await api.run(c.RunSchedule(name=queue))).id
    assert (await api.take(queue))[0] == job_id
    runs = await api.run(c.GetScheduleRuns(name=queue, next=3))
    assert len(runs.upcoming) == 3
    assert [(each.job, each.outcome, each.why) for each in runs.past] == [(job_id, "active", "told to run")]
    assert runs.next is None
    assert await api.refused(c.GetScheduleRuns(name=queue, before="nowhere")) is c.NOT_A_SLOT


async def test_schedules_are_listed_in_pages(api: Api, queue: str):
    names = [f"{queue}.{n}" for n in range(3)]
    for name in names:
        await api.run(c.PutSchedule(name=name, queue=queue, every=86_400_000))
    page = await api.run(c.ListSchedules(after=queue, limit=2))
    assert ([each.name for each in page.schedules], page.next) == (names[:2], names[1])
    page = await api.run(c.ListSchedules(after=page.next, limit=1))
    assert [each.name for each in page.schedules] == names[2:]


async def test_a_preview_tells_when_it_would_run(api: Api):
    said = await api.run(c.PreviewSchedule(cron="30 2 * * *", timezone="Europe/Berlin", next=2))
    assert said.upcoming[0].local[11:16] in ("02:30", "03:00")
    assert said.upcoming[0].slot > time.time() * 1000
    assert await api.refused(c.PreviewSchedule(at=5)) is c.NEVER_RUNS
    assert await api.refused(c.PreviewSchedule()) is c.WHEN_IS_UNCLEAR


async def test_what_makes_no_sense_is_refused(api: Api, queue: str):
    def put(**fields: Any) -> c.PutSchedule:
        return c.PutSchedule(**{"name": queue, "queue": queue, **fields})

    assert await api.refused(put(cron="* * *")) is c.NO_CRON
    assert await api.refused(put(cron="* * * * *", timezone="Nowhere")) is c.NO_ZONE
    assert await api.refused(put(every=5, name="a b")) is c.INVALID_SCHEDULE
    assert await api.refused(put(every=5, queue="a b")) is errors.INVALID_QUEUE
    assert await api.refused(put(at=5)) is c.NEVER_RUNS
    assert await api.refused(put(every=5, at=5)) is c.WHEN_IS_UNCLEAR
    assert await api.refused(c.GetSchedule(name=queue)) is c.SCHEDULE_NOT_FOUND


async def test_some_of_a_schedule_is_changed_and_the_rest_stays(api: Api, queue: str):
    options = c.RunOptions(max_attempts=7)
    put = c.PutSchedule(name=queue, queue=queue, data=Raw(b"1"), cron="0 3 * * *", limit=9, jitter=500, options=options)
    before = (await api.run(put)).schedule
    tried = await api.run(c.ChangeSchedule(name=queue, data=Raw(b'{"kind":2}'), dry_run=True))
    assert (tried.outcome, bytes(tried.schedule.data)) == ("changed", b'{"kind":2}')
    said = await api.run(c.ChangeSchedule(name=queue, data=Raw(b'{"kind":2}')))
    assert said.outcome == "changed"
    now = said.schedule
    assert bytes(now.data) == b'{"kind":2}'
    assert msgspec.structs.replace(now, data=before.data, updated_at=before.updated_at) == before
    now = (await api.run(c.ChangeSchedule(name=queue, every=60_000, limit=None, jitter=None))).schedule
    assert (now.cron, now.every, now.limit, now.jitter, bytes(now.data)) == (None, 60_000, None, 0, b'{"kind":2}')
    assert bytes(now.options) == bytes(before.options)
    assert await api.refused(c.ChangeSchedule(name=f"{queue}-none", limit=1)) is c.SCHEDULE_NOT_FOUND
    assert await api.refused(c.ChangeSchedule(name=queue, queue="a b")) is errors.INVALID_QUEUE
    assert await api.refused(c.ChangeSchedule(name=queue, timezone="Nowhere")) is c.NO_ZONE
    assert await api.refused(c.ChangeSchedule(name=queue, cron="* * *")) is c.NO_CRON
    assert await api.refused(c.ChangeSchedule(name=queue, at=5)) is c.NEVER_RUNS


async def test_options_and_data_come_back_as_they_were_put(api: Api, queue: str):
    options = c.RunOptions(priority=5, tags=["t"], backoff=c.Backoff(type="fixed", delay=5))
    said = await api.run(c.PutSchedule(name=queue, queue=queue, data=Raw(b"[1.50]"), every=86_400_000, options=options))
    assert msgspec.json.decode(bytes(said.schedule.data)) == [1.5]
    assert msgspec.json.decode(bytes(said.schedule.options), type=c.RunOptions) == options


async def test_the_words_of_the_original_are_of_the_same_schedules(api: Api, queue: str):
    said = (
        await api.run(c.Cron(name=queue, queue=queue, repeat_every=86_400_000, immediately=True, job_name="report"))
    ).cron
    assert (said.name, said.job_name, said.repeat_every, said.executions) == (queue, "report", 86_400_000, 0)
    brought = (await api.run(c.Pull(queue=queue, timeout=60_000))).job
    assert brought is not None
    assert (brought.id.startswith(f"{queue}@"), brought.name) == (True, "report")
    schedule = (await api.run(c.GetSchedule(name=queue))).schedule
    assert (schedule.misfire, schedule.overlap, schedule.next_run) == ("skip", "skip", said.next_run)
    assert (await api.run(c.CronGet(name=queue))).cron == said
    assert (await api.run(c.CronList(after=queue[:-1], limit=100))).crons != []
    await api.run(c.CronDelete(name=queue))
    assert await api.refused(c.CronGet(name=queue)) is c.CRON_NOT_FOUND
    assert await api.refused(c.CronDelete(name=queue)) is c.CRON_NOT_FOUND
    assert await api.refused(c.Cron(name=queue, queue=queue)) is c.CRON_IS_UNCLEAR
    assert await api.refused(c.Cron(name=queue, queue=queue, schedule="not a cron")) is c.NO_CRON
