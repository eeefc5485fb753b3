"""A step that raises what none may: has it changed nothing, it is refused with 500 and a line of the log; else the process ends, and nothing of it is written."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import trio

from bunqueue_trio.engine.commands import HANDLERS
from bunqueue_trio.engine.commands.push import Bulk
from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import InvariantBroken, Refused, StoreError
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.catalog import SESSION, SPECS
from bunqueue_trio.runtime import core
from bunqueue_trio.storage.awaited import Question, Unread
from tests.protocol.inputs import COMPLETE
from tests.runtime.bulk_steps import SLICE, begin, bulk
from tests.runtime.runtime_world import Answers, World


@pytest.fixture
async def halting(world: World) -> list[BaseException]:
    """What has halted the journal: the flusher would end the test, as it ends the server."""
    halted: list[BaseException] = []
    world.core.journal.halt = halted.append  # type: ignore[method-assign]
    return halted


def complete(kind: Any) -> Any:
    """A command with all of its fields."""
    tag = kind.__struct_config__.tag
    names = {"queue": "q", "id": "id-000001"}
    said = {name: value for name, value in names.items() if name in kind.__struct_fields__}
    return msgspec.json.decode(json.dumps({"cmd": tag} | said | COMPLETE[tag]), type=kind)


def raises(error: Exception, before: Callable[..., object] = lambda *_: None) -> Callable[..., Any]:
    def handler(*args: Any, **_: Any) -> None:
        before(*args)
        raise error

    return handler


@pytest.mark.parametrize("kind", sorted(SPECS.keys() - SESSION, key=lambda kind: kind.__name__))
async def test_what_has_changed_nothing_is_refused_and_logged(
    running: World, monkeypatch: pytest.MonkeyPatch, logs: list[dict[str, Any]], kind: Any
):
    job_id = await running.push()
    monkeypatch.setitem(HANDLERS, kind, raises(ValueError("planted")))
    with pytest.raises(Refused) as refused:
        await running.core.execute(complete(kind))
    assert (refused.value.status, refused.value.code) == (500, "internal-error")
    assert [(line["log_level"], line["event"]) for line in logs] == [
        ("error", "a command has failed, and changed nothing")
    ]
    assert not running.core.broken.is_set()
    monkeypatch.undo()
    assert await running.pull() == job_id
    await running.ack(job_id)


def a_job(engine: Any, command: Any, now: int, owner: str | None) -> None:
    queue = engine.queues.open("q")
    engine.add("half", queue, b"1", engine.jobs["id-000001"].options, priority=0, run_at=now, waiting_on=set(), now=now)


def an_event(engine: Any, command: Any, now: int, owner: str | None) -> None:
    engine.tell("updated", now, "q", "id-000001")


def a_fact(engine: Any, *_: Any) -> None:
    engine.facts.set("kind", "key", b"1")


def a_record(engine: Any, *_: Any) -> None:
    engine.replace("ended")


@pytest.mark.parametrize("change", [a_job, an_event, a_fact, a_record])
@pytest.mark.parametrize("error", [ValueError("planted"), KeyError("planted"), MemoryError("planted")], ids=type)
async def test_half_a_step_ends_the_process(
    running: World,
    halting: list[BaseException],
    monkeypatch: pytest.MonkeyPatch,
    logs: list[dict[str, Any]],
    change: Any,
    error: Exception,
):
    await running.push()
    monkeypatch.setitem(HANDLERS, c.Push, raises(error, change))
    with pytest.raises(InvariantBroken, match="planted"):
        await running.push()
    assert [line["log_level"] for line in logs] == ["critical"]
    with pytest.raises(InvariantBroken, match="planted"):
        await running.core.broken.wait()
    assert len(halting) == 1


async def test_nothing_of_half_a_step_is_on_the_disk_and_the_next_start_has_all_that_was_answered(
    world: World, monkeypatch: pytest.MonkeyPatch, logs: object
):
    monkeypatch.setitem(HANDLERS, c.Fail, raises(ValueError("planted"), a_job))
    with pytest.RaisesGroup(InvariantBroken):
        async with trio.open_nursery() as nursery:
            world.start(nursery)
            job_id = await world.push()
            with pytest.raises(InvariantBroken):
                await world.fail(job_id)
            world.core.journal.note()
            await trio.sleep(10)
    assert list(world.stored()) == [job_id]
    monkeypatch.undo()
    again = World(inner=world.store.inner)
    assert again.state(job_id) is State.WAITING


@pytest.mark.parametrize("error", [StoreError("cannot be read"), Unread(Question("find", ()))], ids=type)
async def test_what_the_archive_does_not_answer_is_passed_on_unless_something_has_changed(
    running: World, halting: list[BaseException], monkeypatch: pytest.MonkeyPatch, logs: object, error: Exception
):
    await running.push()
    monkeypatch.setitem(HANDLERS, c.Push, raises(error))
    with pytest.raises(type(error)):
        await running.push()
    assert not halting
    monkeypatch.setitem(HANDLERS, c.Push, raises(error, a_job))
    with pytest.raises(InvariantBroken):
        await running.push()
    assert halting


@pytest.mark.parametrize("act", ["advance", "release", "give_back"])
async def test_a_step_that_is_no_command_has_no_half(
    running: World, halting: list[BaseException], act: str, logs: object
):
    job_id = await running.push()
    reply = await running.core.execute(c.Pull(queue="q"), "socket")
    running.engine.advance = raises(ValueError("planted"))  # type: ignore[method-assign]
    acts = {
        "advance": running.core.advance,
        "release": lambda: running.core.release("socket", dropped=True),
        "give_back": lambda: running.core.give_back(reply),
    }
    running.engine.release_owner = running.engine.give_back = lambda *_, **__: running.engine.advance(0)  # type: ignore[method-assign, assignment]
    with pytest.raises(InvariantBroken, match="planted"):
        acts[act]()
    assert halting
    assert running.engine.jobs[job_id].state is State.ACTIVE


async def test_a_deadline_that_fails_before_a_command_has_no_half(
    running: World, halting: list[BaseException], logs: object
):
    await running.push(delay=1000)
    running.engine._fire = raises(ValueError("planted"))  # type: ignore[method-assign]
    running.skip(2000)
    with pytest.raises(InvariantBroken, match="planted"):
        running.core.begin(c.GetState(id="id-000001"))
    assert halting


async def test_a_delivery_to_a_waiter_has_no_half(
    running: World, halting: list[BaseException], answers: Answers, logs: object
):
    await answers.ask("poll", running.pull, wait_ms=60_000)
    running.engine.deliver = raises(ValueError("planted"))  # type: ignore[method-assign]
    with pytest.raises(InvariantBroken, match="planted"):
        await running.push()
    assert halting


async def test_a_part_of_a_bulk_command_has_no_half(
    world: World, halting: list[BaseException], monkeypatch: pytest.MonkeyPatch, logs: object
):
    monkeypatch.setattr(core, "BULK_SLICE", SLICE)
    begun = begin(world, bulk(10))
    monkeypatch.setattr(Bulk, "add", raises(ValueError("planted")))
    with pytest.raises(InvariantBroken, match="planted"):
        await world.core.finish(begun)
    assert halting


@pytest.mark.parametrize("after", [0, 1, 2])
async def test_a_commit_of_which_not_everybody_has_heard_ends_the_process(world: World, logs: object, after: int):
    """Whoever makes it: the flusher, or the task of a lone client, whose request it is not to end with."""
    heard = iter(range(10))

    def hear(*_: object) -> None:
        if next(heard) >= after:
            raise StoreError("planted")

    world.journal.on_commit.append(hear)
    with pytest.RaisesGroup(InvariantBroken):
        async with trio.open_nursery() as nursery:
            world.start(nursery)
            for _ in range(after + 1):
                await world.push()
            await trio.sleep_forever()
    assert world.flusher.state == "failed"
    assert len(world.stored()) == after + 1
