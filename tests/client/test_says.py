"""What a worker says: one line for each outcome, with the try, the next one, the time it took, the queue and the job."""

import logging
import re
from collections.abc import Iterator, MutableMapping
from datetime import datetime
from typing import Any

import pytest
import structlog
import trio

from bunqueue_trio.api.access import Grant
from bunqueue_trio.api.session import Session
from bunqueue_trio.client import Job, JobFailed
from bunqueue_trio.protocol.commands import GetAttempts, GetJob
from bunqueue_trio.protocol.commands.spec import Role
from bunqueue_trio.protocol.replies import PullReply
from bunqueue_trio.testing import Bunqueue
from bunqueue_trio.testing.server import START_MS
from tests.client.test_documented_client import blocks
from tests.looks import look

Lines = list[MutableMapping[str, Any]]


@pytest.fixture(autouse=True)
def everything() -> Iterator[None]:
    """Another test may have set a level."""
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))
    yield
    structlog.configure(wrapper_class=before)


def of_jobs(lines: Lines) -> Lines:
    return [line for line in lines if line["event"].startswith("job ")]


async def test_each_try_has_its_line(bunqueue: Bunqueue, logs: Lines):
    worker = bunqueue.worker("emails")

    @worker.handler
    async def handle(job: Job) -> None:
        await trio.sleep(2)
        if job.attempt < 3:
            raise ValueError("bad address")

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("emails", max_attempts=3, backoff=10)
    await bunqueue.client.wait(job_id, 100)
    await trio.sleep(1)
    first, second, last = of_jobs(logs)
    same = {"job": job_id, "queue": "emails", "duration_s": 2.0}
    for line, attempt in ((first, "1 of 3"), (second, "2 of 3")):
        assert line.items() >= ({"event": "job failed", "log_level": "warning", "attempt": attempt} | same).items()
        assert "ValueError: bad address" in line["exception"]
        assert "Traceback" in line["exception"]
    assert last == {"event": "job completed", "log_level": "debug", "attempt": "3 of 3"} | same
    due_s = [datetime.fromisoformat(line["next"]).timestamp() - START_MS / 1000 for line in (first, second)]
    assert due_s == [pytest.approx(12, abs=0.1), pytest.approx(34, abs=0.1)]


@pytest.mark.parametrize("waits", [True, False])
async def test_a_traceback_begins_in_the_handler(waits: bool, bunqueue: Bunqueue, logs: Lines):
    """How the worker has called it, in the loop or in a thread, is of no interest, and there are many."""
    worker = bunqueue.worker("emails")

    async def handle(job: Job) -> None:
        raise ValueError("bad address")

    def handle_in_thread(job: Job) -> None:
        raise ValueError("bad address")

    worker.handler(handle if waits else handle_in_thread)
    bunqueue.start(worker)
    job_id = await bunqueue.client.push("emails", max_attempts=1)
    with pytest.raises(JobFailed):
        await bunqueue.client.wait(job_id, 100)
    await trio.sleep(1)
    [line] = of_jobs(logs)
    head, frame, code, error = line["exception"].splitlines()
    assert head == "Traceback (most recent call last):"
    assert __file__ in frame
    assert [code.strip(), error] == ['raise ValueError("bad address")', "ValueError: bad address"]
    [attempt] = (await bunqueue.client.run(GetAttempts(id=job_id))).attempts
    assert attempt.stack == line["exception"]


async def test_what_fails_outside_of_the_handler_has_all_of_its_frames(bunqueue: Bunqueue, logs: Lines):
    worker = bunqueue.worker("emails")

    @worker.handler
    async def handle(job: Job) -> object:
        return object()

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("emails", max_attempts=1)
    with pytest.raises(JobFailed):
        await bunqueue.client.wait(job_id, 100)
    await trio.sleep(1)
    [line] = of_jobs(logs)
    assert "in _work" in line["exception"]


async def test_last_failure_is_called_the_last(bunqueue: Bunqueue, logs: Lines):
    worker = bunqueue.worker("q")
    worker.handler(lambda job: 1 // 0)
    bunqueue.start(worker)
    await bunqueue.client.push("q", max_attempts=1)
    await trio.sleep(1)
    (line,) = of_jobs(logs)
    assert (line["attempt"], line["next"]) == ("1 of 1", "dead")


async def test_time_out_has_its_line(bunqueue: Bunqueue, logs: Lines):
    worker = bunqueue.worker("q", timeout=2)

    @worker.handler
    async def handle(job: Job) -> None:
        await trio.sleep_forever()

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q", max_attempts=1)
    await trio.sleep(5)
    (line,) = of_jobs(logs)
    told = {
        "event": "job failed",
        "job": job_id,
        "error": "Handler timed out after 2 s",
        "next": "dead",
        "duration_s": 2.0,
    }
    assert line.items() >= told.items()


async def test_job_that_is_lost_has_its_line(bunqueue: Bunqueue, logs: Lines):
    worker = bunqueue.worker("q")

    @worker.handler
    async def handle(job: Job) -> None:
        await trio.sleep_forever()

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q", max_attempts=3)
    await trio.sleep(2)
    await bunqueue.client.cancel(job_id)
    await trio.sleep(1)
    assert of_jobs(logs) == [
        {
            "event": "job is not ours any more", "log_level": "info", "job": job_id, "queue": "q", "attempt": "1 of 3",
            "duration_s": 2.0, "reason": "the job was cancelled",
        }
    ]  # fmt: skip


async def test_job_that_is_lost_when_it_is_done_has_its_line_also_where_nobody_hears_of_those_that_are_done(
    bunqueue: Bunqueue, logs: Lines, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bunqueue_trio.client.reports.log.hears", lambda level: False)
    worker = bunqueue.worker("q")
    tries: list[str | None] = []

    @worker.handler
    async def handle(job: Job) -> None:
        tries.append(job.token)
        if len(tries) == 1:
            # Somebody else has returned it in the very moment in which it is done.
            bunqueue.server.core.give_back(
                PullReply(job=look(bunqueue.server.core, GetJob(id=job.id)).job, token=job.token)
            )

    bunqueue.start(worker)
    await bunqueue.client.push("q")
    await trio.sleep(1)
    assert len(tries) == 2
    assert [line["event"] for line in of_jobs(logs)] == ["job was not ours any more when it was done"]


async def test_job_that_is_cancelled_with_a_grace_has_its_line(bunqueue: Bunqueue, logs: Lines):
    worker = bunqueue.worker("q")

    @worker.handler
    async def handle(job: Job) -> None:
        await trio.sleep_forever()

    bunqueue.start(worker)
    job_id = await bunqueue.client.push("q", max_attempts=3)
    await trio.sleep(2)
    await bunqueue.client.cancel(job_id, grace=10)
    await trio.sleep(1)
    assert of_jobs(logs) == [
        {
            "event": "job was cancelled", "log_level": "info", "job": job_id, "queue": "q", "attempt": "1 of 3",
            "duration_s": 2.0, "next": "none: the job is cancelled", "error": "the job was cancelled",
        }
    ]  # fmt: skip


async def test_failure_is_said_though_the_server_is_away(bunqueue: Bunqueue, logs: Lines):
    """And once, however often it is reported."""
    worker = bunqueue.worker("q", grace=1)

    @worker.handler
    async def handle(job: Job) -> None:
        await trio.sleep(5)
        raise ValueError("no")

    job_id = await bunqueue.client.push("q", max_attempts=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        await trio.sleep(1)
        await bunqueue.crash()
        await trio.sleep(10)
        (line,) = of_jobs(logs)
        assert (line["event"], line["job"]) == ("job failed", job_id)
        assert (line["next"], line["server"]) == ("when the server has heard of it", "no answer for 1 s")
        worker.stop()
    assert len(of_jobs(logs)) == 1


async def test_failure_that_was_said_is_reported_when_the_server_is_back(bunqueue: Bunqueue, logs: Lines):
    worker = bunqueue.worker("q")

    @worker.handler
    async def handle(job: Job) -> None:
        await trio.sleep(5)
        raise ValueError("no")

    job_id = await bunqueue.client.push("q", max_attempts=1, durable=True)
    bunqueue.start(worker)
    await trio.sleep(1)
    await bunqueue.crash()
    await trio.sleep(60)
    await bunqueue.recover()
    await trio.sleep(10)
    state = await bunqueue.client.look(job_id)
    assert (state.state, state.error) == ("failed", "ValueError: no")
    assert len(of_jobs(logs)) == 1


async def test_library_logs_as_libraries_do(
    unset: None, bunqueue: Bunqueue, caplog: pytest.LogCaptureFixture, capsys: Any
):
    worker = bunqueue.worker("q")
    worker.handler(lambda job: 1 // 0)
    bunqueue.start(worker)
    with caplog.at_level(logging.INFO, logger="bunqueue_trio"):
        job_id = await bunqueue.client.push("q", max_attempts=1)
        await trio.sleep(1)
    (record,) = [record for record in caplog.records if record.name == "bunqueue_trio"]
    assert record.levelname == "WARNING"
    line, *trace = record.getMessage().splitlines()
    assert line.startswith(f"job failed job={job_id} queue=q attempt=1 of 1 duration_s=")
    assert line.endswith("next=dead")
    assert trace[-1] == "ZeroDivisionError: integer division or modulo by zero"
    assert capsys.readouterr().out == ""


async def test_the_line_of_a_failure_looks_as_shown(unset: None, bunqueue: Bunqueue, caplog: pytest.LogCaptureFixture):
    [shown] = blocks("docs/client.md", "text")
    worker = bunqueue.worker("emails")

    @worker.handler
    async def send(job: Job) -> None:
        await trio.sleep(0.4123)
        raise ConnectionError("no answer")

    with caplog.at_level(logging.WARNING, "bunqueue_trio"):
        bunqueue.start(worker)
        job_id = await bunqueue.client.push("emails", max_attempts=3, backoff=1)
        with pytest.raises(JobFailed):
            await bunqueue.client.wait(job_id)
    lines = [record.getMessage().splitlines()[0] for record in caplog.records if "job failed" in record.getMessage()]
    assert [re.sub(r"\bnext=.*", "", line) for line in lines[1:2]] == [
        re.sub(r"\bnext=.*", "", shown.strip()).replace("0199…", job_id)
    ]
    # When that is, in the same form.
    assert [re.sub(r"\d", "0", line.partition(" next=")[2]) for line in (shown.strip(), lines[1])] == [
        "0000-00-00T00:00:00.000+00:00"
    ] * 2


async def test_a_token_that_lacks_the_role_is_reported_every_minute(
    bunqueue: Bunqueue, logs: Lines, monkeypatch: pytest.MonkeyPatch
):
    """It was once said a single time, and the worker stood there in silence until somebody wondered."""
    monkeypatch.setitem(Session.__init__.__kwdefaults__, "grant", Grant(Role.READ, "metrics"))
    worker = bunqueue.worker("q")
    worker.handler(lambda job: None)
    bunqueue.start(worker)
    await trio.sleep(299)
    told = [line for line in logs if line["event"] == "no jobs from the server"]
    assert {line["error"] for line in told} == {"Token may not do this: it takes the role work, and has read"}
    assert len(told) == 5
    monkeypatch.undo()
    bunqueue.cut()
    job_id = await bunqueue.client.push("q")
    await bunqueue.client.wait(job_id, 10)
