"""Waiting for the end of a job: told of every end, in its step, and nothing is left of who has gone."""

from typing import Any

import pytest
import trio
from msgspec import UNSET, Raw

from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from tests.runtime.runtime_world import Answers, World, settled

LONG = 600_000


async def wait(world: World, job_id: str, ms: int = LONG) -> tuple[bool, str, bytes, str | None]:
    reply = await world.core.execute(c.WaitJob(id=job_id, timeout=ms))
    assert isinstance(reply, r.WaitReply)
    return reply.completed, reply.state, bytes(reply.result), reply.error


async def complete(world: World, job_id: str) -> None:
    await world.pull()
    await world.core.execute(c.Ack(id=job_id, result=Raw(b"[1]")))


async def fail(world: World, job_id: str) -> None:
    await world.pull()
    await world.core.execute(c.Fail(id=job_id, error="no", unrecoverable=True))


async def cancel(world: World, job_id: str, **how: Any) -> None:
    await world.core.execute(c.Cancel(id=job_id, **how))


async def obliterate(world: World, job_id: str) -> None:
    await world.core.execute(c.Obliterate(queue="q", force=True))


@pytest.mark.parametrize("options", [{}, {"remove_on_complete": True, "remove_on_fail": True}])
@pytest.mark.parametrize(
    ("end", "told"),
    [
        (complete, (True, "completed", b"[1]", None)),
        (fail, (False, "failed", b"null", "no")),
        (cancel, (False, "removed", b"null", None)),
        (lambda *which: cancel(*which, reason="why"), (False, "failed", b"null", "Cancelled: why")),
        (obliterate, (False, "removed", b"null", None)),
    ],
)
async def test_who_waits_is_answered_however_the_job_ends(
    running: World, answers: Answers, end: Any, told: Any, options: dict[str, bool]
):
    job_id = await running.push(**options)
    for name in ("a", "b"):
        await answers.ask(name, wait, running, job_id)
    await answers.ask("other", wait, running, await running.push("other"), 5000)
    await trio.sleep(1)
    assert answers.given == []
    await end(running, job_id)
    await settled()
    assert sorted(answers.given) == [("a", told), ("b", told)]
    assert running.core.ends.waiting == 1
    await trio.sleep(5)
    assert (running.core.ends.waiting, running.core.ends._lines) == (0, {})


async def test_one_whose_time_to_live_is_over_is_reported(running: World, answers: Answers):
    await answers.ask("", wait, running, await running.push(ttl=1000))
    await trio.sleep(2)
    assert (answers[""], answers.at_ms[""]) == ((False, "removed", b"null", None), 1000)


async def test_a_failed_attempt_is_no_end(running: World, answers: Answers):
    job_id = await running.push(max_attempts=2, backoff=1000)
    await answers.ask("", wait, running, job_id, 5000)
    await running.pull()
    await running.core.execute(c.Fail(id=job_id, error="no"))
    await trio.sleep(6)
    assert (answers[""], answers.at_ms[""]) == ((False, "waiting", b"null", None), 5000)


async def test_one_that_has_ended_is_answered_at_once_and_one_that_never_was_is_refused(running: World):
    job_id = await running.push()
    await complete(running, job_id)
    assert await wait(running, job_id) == (True, "completed", b"[1]", None)
    reply = await running.core.execute(c.GetResult(id=job_id, timeout=LONG))
    assert (reply.state, bytes(reply.result)) == ("completed", b"[1]")  # type: ignore[attr-defined]
    with pytest.raises(Refused):
        await wait(running, "nobody")
    assert running.now_ms() == 0


async def test_a_result_is_waited_for_only_if_that_is_asked(running: World, answers: Answers):
    job_id = await running.push()
    reply = await running.core.execute(c.GetResult(id=job_id))
    assert (reply.state, bytes(reply.result)) == (UNSET, b"null")  # type: ignore[attr-defined]
    await answers.ask("", running.core.execute, c.GetResult(id=job_id, timeout=LONG))
    await complete(running, job_id)
    await settled()
    assert bytes(answers[""].result) == b"[1]"


async def test_an_end_between_begin_and_finish_is_not_overslept(running: World):
    """A WebSocket begins a wait in its reader and finishes it in a task of its own."""
    job_id = await running.push(remove_on_complete=True)
    begun = running.core.begin(c.WaitJob(id=job_id))
    await complete(running, job_id)
    assert await running.push(job_id=job_id) == job_id
    await cancel(running, job_id)
    reply = await running.core.finish(begun)
    assert (reply.state, running.now_ms()) == ("completed", 0)  # type: ignore[attr-defined]


async def test_an_end_is_answered_when_it_is_committed(running: World, answers: Answers):
    job_id = await running.push()
    await running.pull()
    await answers.ask("", wait, running, job_id)
    async with running.journal.disk:
        await answers.ask("ack", running.ack, job_id)
        await trio.sleep(1)
        assert "" not in answers
    await settled()
    assert answers[""][:2] == (True, "completed")


async def test_who_goes_leaves_nothing_and_a_bounded_number_may_wait(answers: Answers, nursery: trio.Nursery):
    world = World(pollers_max=2)
    world.start(nursery)
    job_id = await world.push()
    gone = await answers.ask("gone", wait, world, job_id)
    await answers.ask("pull", world.pull, "empty", wait_ms=60_000)
    await answers.ask("too many", wait, world, job_id)
    assert (answers["too many"].status, answers["too many"].code, answers["too many"].retry_after) == (
        503,
        "too-many-waits",
        1,
    )
    assert (world.core.pulls_waiting, world.core.ends.waiting) == (1, 1)
    await answers.ask("too many pulls", world.pull, "empty", wait_ms=60_000)
    assert answers["too many pulls"].status == 503
    gone.cancel()
    await settled()
    assert (world.core.ends.waiting, world.core.ends._lines) == (0, {})
    await answers.ask("next", wait, world, job_id)
    assert world.core.ends.waiting == 1


async def test_a_stop_ends_every_wait_and_later_ones_do_not_begin(running: World, answers: Answers):
    job_id = await running.push()
    await answers.ask("", wait, running, job_id)
    begun = running.core.begin(c.WaitJob(id=job_id))
    running.core.stop_polls()
    await settled()
    assert answers[""] == (False, "waiting", b"null", None)
    assert (await running.core.finish(begun)).state == "waiting"  # type: ignore[attr-defined]
    assert await wait(running, job_id) == (False, "waiting", b"null", None)
    assert (running.now_ms(), running.core.ends.waiting) == (0, 0)


async def test_a_wait_that_is_stopped_ends_and_one_that_was_answered_does_not(running: World, answers: Answers):
    job_id = await running.push()
    begun = running.core.begin(c.WaitJob(id=job_id))
    await answers.ask("", running.core.finish, begun)
    assert running.core.stop_poll(begun)
    await settled()
    assert (answers[""].state, running.now_ms()) == ("waiting", 0)
    begun = running.core.begin(c.WaitJob(id=job_id))
    await complete(running, job_id)
    assert not running.core.stop_poll(begun)
    assert (await running.core.finish(begun)).completed  # type: ignore[attr-defined]
