"""A pull that is cancelled, at whatever moment, takes no job."""

from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from bunqueue_trio.errors import NOT_COMMITTED, OVERLOADED, STORAGE_DOWN
from bunqueue_trio.testing import Bunqueue
from bunqueue_trio.testing.lives import Pipe


@pytest.mark.parametrize("options", [{}, {"timeout": 3600, "max_attempts": 1}])
@pytest.mark.parametrize("many", [False, True])
async def test_cancelled_pulls_take_no_job(bunqueue: Bunqueue, options: dict[str, Any], many: bool):
    for _ in range(6):
        with trio.move_on_after(1):
            if many:
                await bunqueue.client.pull_many("q", 5, timeout=30)
            else:
                await bunqueue.client.pull("q", timeout=30)
    await bunqueue.client.ping()
    assert bunqueue.server.core.pulls_waiting == 0
    job_id = await bunqueue.client.push("q", **options)
    await trio.sleep(100)
    assert await bunqueue.client.state(job_id) == "waiting"
    job = await bunqueue.client.pull("q")
    assert job is not None
    assert bunqueue.jobs[job_id].stalls == 0


async def turns(n: int) -> None:
    for _ in range(n):
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("bunqueue_seed", range(3))
async def test_pull_cancelled_at_any_moment_loses_no_job(bunqueue: Bunqueue, bunqueue_seed: int):
    """In whatever order a job's coming and the cancellation meet, the job is taken, or there as if nothing had been."""
    taken: list[Any] = []

    async def pull(scope: trio.CancelScope) -> None:
        with scope:
            taken.append(await bunqueue.client.pull("q", timeout=60))

    for push_first in (True, False):
        for moment in range(25):
            taken.clear()
            scope = trio.CancelScope()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pull, scope)
                await trio.sleep(0.001)
                if push_first:
                    nursery.start_soon(bunqueue.client.push, "q")
                    await turns(moment)
                    scope.cancel()
                else:
                    scope.cancel()
                    await turns(moment)
                    nursery.start_soon(bunqueue.client.push, "q")
            await trio.sleep(1)
            (job,) = bunqueue.jobs.values()
            if taken:
                assert taken[0].id == job.id
            else:
                assert (job.state, job.attempts, job.stalls) == ("waiting", 0, 0)
            await bunqueue.client.cancel(job.id)


async def test_job_is_given_back_until_the_server_takes_it(bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch):
    """Its disk refuses the first tries: the job would be held for as long as the connection lives."""
    refusals = [STORAGE_DOWN, NOT_COMMITTED, OVERLOADED]
    send = Pipe.send

    async def refuse(pipe: Pipe, message: bytes) -> None:
        command = msgspec.json.decode(message)
        if command["cmd"] == "Release" and refusals:
            fault = refusals.pop()
            error = {"ok": False, "error": fault.message, "code": fault.code, "reqId": command["reqId"]}
            pipe._messages.append(msgspec.json.encode(error))
            pipe._session.bell.ring()
            return
        await send(pipe, message)

    monkeypatch.setattr(Pipe, "send", refuse)
    job_id = await bunqueue.client.push("q")
    link = bunqueue.client._upkeep.link
    assert link is not None
    link._give_back(await link.ask("PULL", {"queue": "q"}))
    await trio.sleep(10)
    assert refusals == []
    job = bunqueue.jobs[job_id]
    assert (job.state, job.attempts, job.stalls) == ("waiting", 0, 0)


async def test_pull_that_was_never_sent_is_forgotten(bunqueue: Bunqueue):
    with trio.CancelScope() as scope:
        scope.cancel()
        await bunqueue.client.pull("q", timeout=60)
    await bunqueue.client.ping()
    assert (bunqueue.client._upkeep.link._questions, bunqueue.server.core.pulls_waiting) == ({}, 0)  # type: ignore[union-attr]
