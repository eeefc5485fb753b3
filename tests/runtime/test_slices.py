"""Every command that is done to many jobs is done in slices, one as the other: with others in between, its answer after all of them, and what was answered stands."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from msgspec.structs import asdict

from bunqueue_trio.engine.commands import clear
from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.catalog import SLICED
from bunqueue_trio.runtime import slices
from tests.runtime.runtime_world import Answers, World, settled
from tests.storage.faulty import Fault

N = 9


async def waiting(world: World) -> None:
    for n in range(N):
        await world.push(job_id=f"job-{n}")


async def delayed(world: World) -> None:
    for n in range(N):
        await world.push(job_id=f"job-{n}", delay=3_600_000 + n)


async def dead(world: World) -> None:
    for n in range(N):
        await world.push(job_id=f"job-{n}", max_attempts=1)
        await world.pull()
        await world.fail(f"job-{n}")


async def of_all_kinds(world: World) -> None:
    await dead(world)
    for n in range(N):
        await world.push(job_id=f"more-{n}", delay=n % 3 * 1_000_000)


Fill = Callable[[World], Awaitable[None]]

CASES: dict[str, tuple[Fill, Any]] = {
    "drain": (waiting, c.Drain(queue="q")),
    "drain some": (of_all_kinds, c.Drain(queue="q", delayed=True, limit=7)),
    "promote": (delayed, c.PromoteJobs(queue="q")),
    "promote some": (delayed, c.PromoteJobs(queue="q", count=5)),
    "clean": (waiting, c.Clean(queue="q", state="waiting")),
    "clean some": (dead, c.Clean(queue="q", state="failed", limit=7)),
    "clean, dry": (dead, c.Clean(queue="q", state="failed", dry_run=True)),
    "obliterate": (of_all_kinds, c.Obliterate(queue="q")),
    "obliterate some": (of_all_kinds, c.Obliterate(queue="q", limit=7)),
    "retry": (dead, c.RetryDlq(queue="q")),
    "retry some": (dead, c.RetryDlq(queue="q", limit=5)),
    "retry of an error": (dead, c.RetryDlq(queue="q", error="no")),
    "purge": (dead, c.PurgeDlq(queue="q")),
    "purge some": (dead, c.PurgeDlq(queue="q", limit=5)),
    "act": (waiting, c.ActOnJobs(filter=c.Filter(queue="q"), action="cancel")),
    "act, dry": (waiting, c.ActOnJobs(filter=c.Filter(queue="q"), action="cancel", dry_run=True, rate=1)),
    "one dead letter": (dead, c.RetryDlq(queue="q", job_id="job-3")),
    "delete one": (dead, c.PurgeDlq(queue="q", id="job-3")),
}
cases = pytest.mark.parametrize(("fill", "command"), CASES.values(), ids=CASES)


async def made(nursery: trio.Nursery, fill: Fill, **how: Any) -> World:
    world = World(**how)
    world.start(nursery)
    await fill(world)
    return world


def stands(world: World) -> dict[str, object]:
    return {job.id: job.state for job in world.engine.jobs.values() if job.state in world.engine.counts} | {
        "dead": world.engine.dead_left("q")
    }


def told(reply: r.Reply) -> dict[str, Any]:
    """The answer, but for the moment at which it was begun, which stands behind a comma in the cursor of a retry."""
    fields = {name: value for name, value in asdict(reply).items() if name != "examples"}
    return fields | ({"next": fields["next"].partition(",")[0]} if fields.get("next") else {})


def test_each_command_of_that_kind_is_tried():
    assert {type(command) for _, command in CASES.values()} == SLICED


@cases
async def test_it_answers_and_does_the_same_as_in_one_step(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, fill: Fill, command: Any
):
    whole = await made(nursery, fill)
    expected = await whole.core.execute(command)
    monkeypatch.setattr(slices, "SLICE", 2)
    world = await made(nursery, fill)
    reply = await world.core.execute(command)
    assert told(reply) == told(expected)
    assert stands(world) == stands(whole)
    assert world.engine.totals.cancelled == whole.engine.totals.cancelled


@cases
async def test_it_is_the_same_where_the_store_is_a_network_away(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, fill: Fill, command: Any
):
    """And nobody stands still while records are asked for."""
    whole = await made(nursery, fill)
    expected = await whole.core.execute(command)
    monkeypatch.setattr(slices, "SLICE", 2)
    world = await made(nursery, fill, away_s=0.001)
    monkeypatch.setattr(world.store, "records", lambda *_, **__: pytest.fail("the loop waits for the network"))
    inner = world.store.inner
    monkeypatch.setattr(world.store, "look_up", lambda question: away(inner, question))
    assert told(await world.core.execute(command)) == told(expected)
    assert stands(world) == stands(whole)


async def away(store: Any, question: Any) -> Any:
    await trio.sleep(0.001)
    return question.ask(store)


@cases
async def test_no_step_is_larger_and_others_are_served_in_between(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, fill: Fill, command: Any
):
    monkeypatch.setattr(slices, "SLICE", 2)
    world = await made(nursery, fill)
    changed: list[int] = []
    world.journal.on_commit.append(lambda batch, _: changed.append(len(batch.jobs) + len(batch.reused_ids)))
    begun = world.core.begin(command)
    is_one = begun.rest is None
    if is_one:
        assert slices.rest_of(command, slices.first_slice(command), begun.reply) is None
    pushed: list[str] = []

    async def others() -> None:
        while True:
            pushed.append(await world.push("other"))

    with trio.CancelScope() as scope:
        nursery.start_soon(others)
        await world.core.finish(begun)
        scope.cancel()
    nursery.cancel_scope.cancel()
    # A slice of two, the push beside it, and what the two leave behind.
    assert max(changed) <= 2 * 2 + 2
    assert is_one or len(pushed) > 2


@cases
async def test_what_is_answered_is_on_the_disk(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, fill: Fill, command: Any
):
    """A crash at the moment of the answer takes nothing of it; one in the middle leaves whole slices."""
    monkeypatch.setattr(slices, "SLICE", 2)
    world = await made(nursery, fill)
    begun = world.core.begin(command)
    await world.core.finish(begun)
    assert not world.journal.dirty
    again = World(inner=world.store.inner)
    assert stands(again) == stands(world)


@pytest.mark.parametrize("commits", [1, 2, 3])
@pytest.mark.parametrize("name", ["clean", "act"])
async def test_a_crash_in_the_middle_leaves_whole_slices(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, name: str, commits: int
):
    monkeypatch.setattr(slices, "SLICE", 2)
    fill, command = CASES[name]
    world = await made(nursery, fill)
    world.store.commits = iter([*[Fault.NONE] * commits, *[Fault.REFUSED] * 1000])
    with pytest.raises(Refused, match="may still be"):
        await world.core.execute(command)
    assert len(World(inner=world.store.inner).engine.jobs) == N - 2 * commits


COMMANDS = {
    "drain": (waiting, c.Drain(queue="q")),
    "clean": (waiting, c.Clean(queue="q", state="waiting")),
    "promote": (delayed, c.PromoteJobs(queue="q")),
}


@pytest.mark.parametrize(("fill", "command"), COMMANDS.values(), ids=COMMANDS)
async def test_what_comes_while_something_is_done_to_many_stays_as_it_is(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, fill: Fill, command: c.Command
):
    """Nobody has agreed to that, and all that were there are done: whoever takes one meanwhile, and though newcomers come before them."""
    monkeypatch.setattr(slices, "SLICE", 2)
    world = await made(nursery, fill)
    there = [*world.engine.jobs]
    begun = world.core.begin(command)
    await trio.sleep(0.01)
    await world.pull()
    for n in range(20):
        await world.push(job_id=f"new-{n}", priority=9, delay=1_000 if fill is delayed else 0)
    reply: Any = await world.core.finish(begun)
    assert reply.count >= N - 1
    now = {job.id: job.state for job in world.engine.jobs.values()}
    assert {now[f"new-{n}"] for n in range(20)} == {State.DELAYED if fill is delayed else State.WAITING}
    assert {now.get(job_id, State.WAITING) for job_id in there} <= {State.WAITING, State.ACTIVE}
    assert sum(job_id in now and now[job_id] is not State.ACTIVE for job_id in there) == (
        N - 1 if fill is delayed else 0
    )


@pytest.mark.parametrize("name", ["drain", "promote"])
async def test_more_newcomers_than_a_step_looks_at_hide_nothing(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, name: str
):
    monkeypatch.setattr(slices, "SLICE", 2)
    monkeypatch.setattr(clear, "LOOKS", 5)
    fill, command = COMMANDS[name]
    world = await made(nursery, fill)
    begun = world.core.begin(command)
    await trio.sleep(0.01)
    for n in range(50):
        await world.push(job_id=f"new-{n}", priority=9, delay=1_000 if fill is delayed else 0)
    reply: Any = await world.core.finish(begun)
    assert (reply.count, reply.left, reply.next) == (N, 50, None)


async def test_a_clean_up_takes_nothing_that_comes_behind_it(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch):
    """It goes on by a place in line, and all that is pushed meanwhile stands behind that."""
    monkeypatch.setattr(slices, "SLICE", 2)
    world = await made(nursery, waiting)
    begun = world.core.begin(c.Clean(queue="q", state="waiting"))
    await trio.sleep(0.01)
    await world.push(job_id="new", priority=-9)
    reply: Any = await world.core.finish(begun)
    assert (reply.count, [*world.engine.jobs]) == (N, ["new"])


async def test_what_is_refused_in_the_middle_is_the_end_and_the_answer_says_what_is_done(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, answers: Answers
):
    """A worker takes a job of a queue that is obliterated without force."""
    monkeypatch.setattr(slices, "SLICE", 2)
    world = await made(nursery, waiting)
    begun = world.core.begin(c.Obliterate(queue="q"))
    assert await world.pull() is not None
    reply: Any = await world.core.finish(begun)
    assert (reply.count, reply.done) == (2, False)
    with pytest.raises(Refused, match="has active jobs"):
        await world.core.execute(c.Obliterate(queue="q"))


@pytest.mark.parametrize(
    "search",
    [c.FindJobs(text="x"), c.FindJobs(queue="q", error="x", count=True), c.Dlq(queue="q", error="x")],
    ids=lambda search: type(search).__name__,
)
async def test_a_search_waits_for_its_turn_with_those_who_search_and_for_nobody_else(
    nursery: trio.Nursery, answers: Answers, search: Any
):
    world = await made(nursery, waiting)
    async with world.core.slices.next("acts"):
        await answers.ask("search", world.core.execute, search)
        await answers.ask("list", world.core.execute, c.FindJobs(queue="q"))
        assert ("search" in answers, "list" in answers) == (False, True)
    await trio.sleep(1)
    assert answers["search"].next is None


async def test_a_search_without_a_turn_is_refused_in_time(nursery: trio.Nursery, answers: Answers):
    world = await made(nursery, waiting)
    async with world.core.slices.next("acts"):
        await answers.ask("search", world.core.execute, c.FindJobs(text="x"))
        await trio.sleep(slices.TOLD_S + 1)
    assert (answers["search"].status, answers["search"].retry_after) == (503, 1)


async def test_many_who_search_leave_most_of_the_time_to_others(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch):
    world = await made(nursery, waiting, away_s=0.01)
    found: list[float] = []

    async def search() -> None:
        while True:
            await world.core.execute(c.Dlq(queue="q", error="x"))
            found.append(trio.current_time())

    for _ in range(10):
        nursery.start_soon(search)
    await settled()
    await trio.sleep(5)
    nursery.cancel_scope.cancel()
    # Each looks for 20 ms, and others have 80 ms behind it.
    assert 30 <= len(found) <= 52
