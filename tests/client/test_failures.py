"""Failures go in bulk, each with an outcome of its own, and one that the server will not take so goes another way."""

from collections.abc import Callable, MutableMapping
from datetime import datetime
from typing import Any

import pytest
import trio

from bunqueue_trio.client import Again, Client, GiveUp, Job
from bunqueue_trio.client.reports import SHORT
from bunqueue_trio.errors import BODY_TOO_LARGE, OVERLOADED, UNKNOWN_COMMAND, Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.runtime.core import Core
from bunqueue_trio.sync import SyncClient
from bunqueue_trio.testing import Bunqueue
from tests.client.loops import on_both
from tests.client.test_real_server import ws
from tests.wire.server import Server

Lines = list[MutableMapping[str, Any]]


def refusing(monkeypatch: pytest.MonkeyPatch, refuse: Callable[[c.Command], Exception | None]) -> None:
    """Let the server refuse what ``refuse`` has an error for."""
    begin = Core.begin

    def refuse_some(core: Core, command: c.Command, *rest: Any, **options: Any) -> Any:
        if (error := refuse(command)) is not None:
            raise error
        return begin(core, command, *rest, **options)

    monkeypatch.setattr(Core, "begin", refuse_some)


def told(lines: Lines) -> dict[str, str]:
    return {line["job"]: line["next"] for line in lines if line["event"] == "job failed"}


async def fail_all(bunqueue: Bunqueue, raised: list[BaseException], **options: Any) -> list[str]:
    """Let a handler raise each of these at once; return the ids of the jobs."""
    worker = bunqueue.worker("q", concurrency=len(raised))
    together = trio.Event()

    @worker.handler
    async def handle(job: Job) -> None:
        await together.wait()
        raise raised[job.data]

    ids = await bunqueue.client.push_many("q", [{"data": n, "backoff": 100} | options for n in range(len(raised))])
    bunqueue.start(worker)
    await trio.sleep(1)
    together.set()
    await trio.sleep(5)
    return ids


NO_TEXT = "cannot read \udce9.txt"  # as `os.fsdecode` makes it
WRITTEN_OUT = r"cannot read \udce9.txt"


async def test_what_is_no_text_is_written_out_for_people(bunqueue: Bunqueue):
    """Else somebody could not even say that it has failed."""
    client = bunqueue.client
    await client.push_many("q", [{"data": n, "max_attempts": 1} for n in range(4)])
    one, two, three, four = await client.pull_many("q", 4)
    await one.progress(5, NO_TEXT)
    await one.log(NO_TEXT)
    await one.fail(NO_TEXT, stack=NO_TEXT)
    assert await client.fail_many([{"id": two.id, "token": two.token, "error": NO_TEXT, "stack": NO_TEXT}]) == []
    await client.cancel(three.id, reason=NO_TEXT, by=NO_TEXT)
    for job in (one, two):
        [attempt] = (await client.run(c.GetAttempts(id=job.id))).attempts
        assert (attempt.error, attempt.stack) == (WRITTEN_OUT, WRITTEN_OUT)
    assert [line.message for line in (await client.run(c.GetLogs(id=one.id))).data.logs] == [WRITTEN_OUT]
    assert (cancelled := (await client.look(three.id)).cancelled) is not None
    assert (cancelled.reason, cancelled.by) == (WRITTEN_OUT, WRITTEN_OUT)
    with pytest.raises(UnicodeEncodeError):  # that is for the program
        await four.ack(NO_TEXT)
    with pytest.raises(UnicodeEncodeError):
        await client.push("q", job_id=NO_TEXT)
    await four.ack("done")


def test_without_a_loop_what_is_no_text_is_written_out_for_people(server: Server, queue: str):
    with SyncClient(server.url) as client:
        client.push_many(queue, [{"data": n, "max_attempts": 1} for n in range(2)])
        one, two = client.pull_many(queue, 2)
        one.progress(5, NO_TEXT)
        one.log(NO_TEXT)
        one.fail(NO_TEXT, stack=NO_TEXT)
        client.fail_many([{"id": two.id, "token": two.token, "error": NO_TEXT}])
        assert [client.look(job.id).error for job in (one, two)] == [WRITTEN_OUT] * 2
        with pytest.raises(UnicodeEncodeError):
            client.push(queue, NO_TEXT)


async def test_each_of_a_batch_is_what_its_handler_made_of_it(bunqueue: Bunqueue, logs: Lines):
    raised = [ValueError("no"), GiveUp("never"), Again(30, "later"), Again(0, "now")]
    ids = await fail_all(bunqueue, raised, max_attempts=2)
    next_try = told(logs)
    assert [next_try[ids[1]], next_try[ids[2]]] == ["dead: given up", "in 30 s"]
    assert datetime.fromisoformat(next_try[ids[0]]).timestamp() == (await bunqueue.client.get(ids[0])).run_at
    assert await bunqueue.client.state(ids[0]) == "delayed"
    look = [await bunqueue.client.look(job_id) for job_id in ids]
    assert [seen.state for seen in look] == ["delayed", "failed", "delayed", "failed"]
    assert [seen.error for seen in look] == ["ValueError: no", "GiveUp: never", "Again: later", "Again: now"]


async def test_a_server_that_knows_no_bulk_command_gets_the_items_one_by_one(
    bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch, logs: Lines
):
    refusing(monkeypatch, lambda kind: UNKNOWN_COMMAND.refuse("FAILB") if isinstance(kind, c.FailBatch) else None)
    ids = await fail_all(bunqueue, [ValueError("no"), GiveUp("never"), Again(30, "later"), ValueError("no")])
    assert told(logs) == dict(zip(ids, ["later", "dead: given up", "later", "later"], strict=True))
    assert [bunqueue.jobs[job_id].attempts for job_id in (ids[0], ids[2], ids[3])] == [1, 1, 1]
    (tried,) = (await bunqueue.client.run(c.GetAttempts(id=ids[0]))).attempts
    assert "Traceback" in str(tried.stack)


async def test_what_is_too_large_for_the_server_is_said_in_short(
    bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch, logs: Lines
):
    """The others of its batch are reported as they are."""

    def refuse(command: c.Command) -> Refused | None:
        texts = [failure.error or "" for failure in command.failures] if isinstance(command, c.FailBatch) else []
        return BODY_TOO_LARGE.refuse() if sum(map(len, texts)) > 5000 else None

    refusing(monkeypatch, refuse)
    ids = await fail_all(bunqueue, [ValueError("no"), ValueError("x" * 6000), ValueError("never mind")])
    assert set(told(logs)) == set(ids)
    errors = [str((await bunqueue.client.look(job_id)).error) for job_id in ids]
    assert [len(error) for error in errors] == [len("ValueError: no"), SHORT, len("ValueError: never mind")]
    assert [bunqueue.jobs[job_id].attempts for job_id in ids] == [1, 1, 1]


async def test_one_that_is_not_ours_any_more_is_said_to_be(
    bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch, logs: Lines
):
    begin = Core.begin

    def first_lose(core: Core, command: c.Command, *rest: Any, **options: Any) -> Any:
        if isinstance(command, c.FailBatch):
            begin(core, c.Cancel(id=command.failures[0].id))
        return begin(core, command, *rest, **options)

    monkeypatch.setattr(Core, "begin", first_lose)
    await fail_all(bunqueue, [ValueError("no"), ValueError("no")], max_attempts=1)
    assert sorted(told(logs).values()) == ["dead", "not ours any more"]


async def test_an_answer_that_says_too_little_costs_the_words_and_no_worker(
    bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch, logs: Lines
):
    """Of a newer server; and of one where the job was cancelled, or has fewer attempts than it had."""
    run = Client.run

    async def answered(client: Client, command: Any) -> Any:
        reply: Any = await run(client, command)
        return r.FailBatchReply(data=r.Failed(run_at=[2**60])) if isinstance(command, c.FailBatch) else reply

    monkeypatch.setattr(Client, "run", answered)
    ids = await fail_all(bunqueue, [ValueError("no"), ValueError("no")])
    assert set(told(logs).values()) == {"none: the job is dead, or cancelled"}
    assert [bunqueue.jobs[job_id].attempts for job_id in ids] == [1, 1]


async def test_failures_that_wait_for_the_server_are_all_said_and_reported_once(
    bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch, logs: Lines
):
    """The one that comes later does not wait for the first to be said."""
    away = True
    refusing(monkeypatch, lambda kind: OVERLOADED.refuse() if away and isinstance(kind, c.FailBatch) else None)
    worker = bunqueue.worker("q", concurrency=2)

    @worker.handler
    async def handle(job: Job) -> None:
        await trio.sleep(1 + job.data)
        raise ValueError("no")

    ids = await bunqueue.client.push_many("q", [{"data": n, "max_attempts": 1} for n in (0, 10)])
    bunqueue.start(worker)
    await trio.sleep(13)
    assert told(logs) == dict.fromkeys(ids, "when the server has heard of it")
    away = False
    await trio.sleep(5)
    assert {await bunqueue.client.state(job_id) for job_id in ids} == {"failed"}
    assert len([line for line in logs if line["event"] == "job failed"]) == 2


@on_both
async def test_by_hand(server: Server, queue: str):
    async with Client(ws(server)) as client:
        ids = await client.push_many(queue, [{}] * 3)
        one, two = await client.pull_many(queue, 2)
        failures: Any = [
            {"id": one.id, "token": one.token, "error": "no", "retry_in": 3600.0, "stack": None},
            {"id": two.id, "unrecoverable": True},
            {"id": ids[2]},
        ]
        assert await client.fail_many(failures) == [ids[2]]
        assert [await client.state(job_id) for job_id in ids] == ["delayed", "failed", "waiting"]
        assert await client.fail_many([]) == []
        with pytest.raises(TypeError, match="a failure has no 'retryIn'"):
            await client.fail_many([{"id": one.id, "retryIn": 5}])  # type: ignore[typeddict-unknown-key]


def test_without_a_loop(server: Server, queue: str):
    with SyncClient(server.url) as client:
        ids = client.push_many(queue, [{}] * 2)
        job = client.pull(queue)
        assert job is not None
        assert client.fail_many([{"id": job.id, "token": job.token, "retry_in": 3600.0}, {"id": ids[1]}]) == [ids[1]]
        assert [client.state(job_id) for job_id in ids] == ["delayed", "waiting"]
