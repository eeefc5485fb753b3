"""Jobs with a name: which handler of their queue gets them, and what keeps the name."""

from typing import Any

import pytest
import trio

from bunqueue_trio import commands as c
from bunqueue_trio.client import App, Job, JobFailed, Worker
from bunqueue_trio.sync import SyncClient
from bunqueue_trio.testing import Bunqueue


def app_of(bunqueue: Bunqueue, **options: Any) -> App:
    return App(connect=bunqueue._place.connect, random=bunqueue.random, **options)


async def answers(bunqueue: Bunqueue, *names: str | None) -> list[Any]:
    ids = [await bunqueue.client.push("emails", 1, name=name, max_attempts=1) for name in names]
    return [await bunqueue.client.wait(job_id, 60) for job_id in ids]


async def test_the_handler_of_its_name_gets_a_job_and_the_one_without_all_others(bunqueue: Bunqueue):
    worker = bunqueue.worker("emails")

    @worker.handler(name="welcome")
    async def welcome(job: Job[int]) -> list[Any]:
        return ["welcome", job.name, job.data]

    @worker.handler(name="bye")
    def bye(job: Job[str]) -> str:
        return job.data

    @worker.handler
    async def rest(job: Job) -> list[Any]:
        return ["rest", job.name]

    bunqueue.start(worker)
    assert await answers(bunqueue, "welcome", None, "else") == [
        ["welcome", "welcome", 1],
        ["rest", None],
        ["rest", "else"],
    ]
    with pytest.raises(JobFailed, match="Expected `str`, got `int`"):  # each has a payload of its own
        await answers(bunqueue, "bye")


async def test_a_job_that_is_for_no_handler_fails_and_is_tried_again(bunqueue: Bunqueue):
    """A worker of an earlier version must not swallow what a later one knows of."""
    app, other = app_of(bunqueue), app_of(bunqueue)
    app.handler("emails", name="welcome")(lambda job: "sent")
    other.handler("emails", name="later")(lambda job: job.name)
    bunqueue.start(app)
    job_id = await bunqueue.client.push("emails", name="later", max_attempts=2, backoff=30)
    unnamed = await bunqueue.client.push("emails", max_attempts=1)
    with pytest.raises(JobFailed, match="the worker of 'emails' has no handler for jobs without a name"):
        await bunqueue.client.wait(unnamed, 60)
    state = await bunqueue.client.look(job_id)
    assert state.error == "LookupError: the worker of 'emails' has no handler for jobs of the name 'later'"
    assert state.state == "delayed"
    app.stop()
    bunqueue.start(other)
    assert await bunqueue.client.wait(job_id, 60) == "later"


async def test_a_name_stays_over_a_crash_and_retries(bunqueue: Bunqueue):
    ids = await bunqueue.client.push_many("emails", [{"data": 1, "name": "welcome", "backoff": 0}, {"data": 2}])
    first = await bunqueue.client.pull("emails")
    assert first is not None
    assert first.name == "welcome"
    await first.fail("no")
    await bunqueue.crash()
    await bunqueue.recover()
    assert [(await bunqueue.client.get(job_id)).name for job_id in ids] == ["welcome", None]
    found = {job.id: job.name for job in await bunqueue.client.pull_many("emails", 2)}
    assert found == dict(zip(ids, ["welcome", None], strict=True))


async def test_each_run_of_a_series_has_the_name(bunqueue: Bunqueue):
    worker, seen = bunqueue.worker("emails"), list[str | None]()

    @worker.handler(name="welcome")
    async def welcome(job: Job) -> None:
        seen.append(job.name)

    bunqueue.start(worker)
    await bunqueue.client.push("emails", name="welcome", repeat_every=5, repeat_limit=3)
    await trio.sleep(60)
    assert seen == ["welcome"] * 3


async def test_an_app_has_handlers_of_one_queue_on_one_worker(bunqueue: Bunqueue):
    app = app_of(bunqueue)

    @app.handler("emails", name="welcome", concurrency=2)
    async def welcome(job: Job[int]) -> list[Any]:
        return [job.name, job.data]

    @app.handler("emails")
    async def rest(job: Job[int]) -> str:
        return "rest"

    assert [*app.workers] == ["emails"]
    assert app.workers["emails"].concurrency == 2
    bunqueue.start(app)
    ids = [await bunqueue.client.push_to(welcome, 1), await bunqueue.client.push_to(rest, 1)]
    ids.append(await bunqueue.client.push_to(welcome, 1, name="else"))
    assert [await bunqueue.client.wait(job_id, 60) for job_id in ids] == [["welcome", 1], "rest", "rest"]


async def test_a_declared_schedule_brings_jobs_of_a_name(bunqueue: Bunqueue):
    app, seen = app_of(bunqueue), list[Any]()

    @app.task("emails", job_name="welcome", name="mornings", every=60, options=c.RunOptions(priority=1))
    async def welcome(job: Job) -> None:
        seen.append((job.name, job.priority))
        app.stop()

    app.handler("emails")(lambda job: seen.append("rest"))
    assert (await app.sync()).created == ["mornings"]
    assert (await bunqueue.client.run(c.CronGet(name="mornings"))).cron.job_name == "welcome"
    await app.run()
    assert seen == [("welcome", 1)]


async def test_who_is_the_handler_of_two_names_is_asked_which(bunqueue: Bunqueue):
    worker = Worker("emails")
    worker.handler(handle := lambda job: None, name="welcome")
    worker.handler(handle)
    with pytest.raises(ValueError, match="is the handler of emails by the name welcome and emails"):
        await bunqueue.client.push_to(handle, 1)


def test_what_cannot_be_is_said_where_it_is_given():
    worker, app = Worker("emails"), App()
    worker.handler(print, name="welcome")
    with pytest.raises(ValueError, match="'emails' has a handler for the name 'welcome' already, print: len cannot be"):
        worker.handler(len, name="welcome")  # type: ignore[type-var]
    for name in ("", "n" * 257):
        with pytest.raises(ValueError, match=f"the name of jobs must be 1 to 256 characters, not {len(name)}"):
            worker.handler(name=name)(print)
    with pytest.raises(TypeError, match="the name of jobs must be a text, not 5"):
        worker.handler(print, name=5)  # type: ignore[call-overload]
    app.handler("emails", timeout=5)(print)
    with pytest.raises(ValueError, match="concurrency and timeout of queue 'emails' are for its first handler to say"):
        app.handler("emails", name="welcome", timeout=6)(print)
    with pytest.raises(ValueError, match="'emails' has a handler already"):
        app.handler("emails")(print)


def test_a_program_without_a_loop_has_names_too():
    with Bunqueue(), SyncClient() as client:
        client.push("emails", 1, name="welcome")
        client.push_many("emails", [{"data": 2, "name": "bye"}, {"data": 3}])
        jobs = client.pull_many("emails", 3)
    assert [job.name for job in jobs] == ["welcome", "bye", None]
