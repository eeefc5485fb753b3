"""The pages of a server whose store is a network away, which can be asked in no step: see :class:`DistantStore`."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.storage.awaited import Question
from bunqueue_trio.testing import lives
from bunqueue_trio.testing.server import Bunqueue
from bunqueue_trio.testing.store import MortalStore
from bunqueue_trio.ui.table import FILES, VIEWS
from tests.storage.distant import DistantStore
from tests.ui.night import fail, push, work
from tests.ui.site import Page, Site, minutes


class FarDisk(DistantStore):
    def __init__(self, disk: dict[str, Any]) -> None:
        super().__init__(MortalStore(disk), away_s=0.001)

    def die(self) -> None:
        self.inner.die()  # type: ignore[attr-defined]


@pytest.fixture
async def bunqueue(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bunqueue]:
    monkeypatch.setattr(lives, "MortalStore", FarDisk)
    async with Bunqueue() as running:
        yield running


async def troubles(bunqueue: Bunqueue) -> Mapping[str, str]:
    """Something for each page to show, of which nothing is in memory any more; return what their paths name."""
    execute = bunqueue.server.core.execute
    for n in range(30):
        await push(bunqueue, "q", f'{{"n":{n}}}')
    await work(bunqueue, "q", 10)
    dead = await fail(bunqueue, "q", 5, "ValueError: {}")
    await execute(c.RegisterWorker(name="mail", worker_id="w1", queues=["q"]))
    await execute(c.PutSchedule(name="s", queue="later", every=3_600_000))
    await execute(c.Pause(queue="q", reason="why"))
    await minutes(bunqueue)
    await trio.sleep(10)
    return {"queue": "q", "id": dead[0], "name": "s"}


async def look(site: Site, path: str, values: Mapping[str, str]) -> Page:
    for name, value in values.items():
        path = path.replace(f":{name}", "w1" if path == "/ui/workers/:id" else value)
    return await site.get(path)


@pytest.mark.parametrize("path", [*VIEWS])
async def test_each_page_is_made_beside_others(site: Site, path: str):
    values = await troubles(site.bunqueue)
    page = await look(site, path, values)
    assert page.status == 200, page.text


async def test_the_page_of_a_job_asks_each_question_once(site: Site, monkeypatch: pytest.MonkeyPatch):
    """At 0.4 s for an answer it took 7 s: each of its parts looked for the job anew."""
    values = await troubles(site.bunqueue)
    asked: list[Question] = []
    look_up = DistantStore.look_up

    async def note(self: DistantStore, question: Question) -> Any:
        asked.append(question)
        return await look_up(self, question)

    monkeypatch.setattr(DistantStore, "look_up", note)
    page = await site.get(f"/ui/jobs/{values['id']}")
    assert "ValueError" in page.text
    assert len(asked) == len(set(asked))
    asked.clear()
    await site.get(f"/ui/jobs/{values['id']}")
    assert asked, "nothing is remembered for longer than a page"


async def test_a_file_is_made_beside_others(site: Site):
    await troubles(site.bunqueue)
    for path in FILES:
        call = site.gateway.resolve("GET", path, {})
        response = await site.dashboard.respond(call, path, {}, _nothing)
        assert response.status == 200
        assert not isinstance(response.body, bytes)
        assert [part async for part in response.body]
        await response.body.aclose()


async def test_buttons_look_and_act_beside_others(site: Site):
    values = await troubles(site.bunqueue)
    done = await site.do("retry", queue="q", id=values["id"])
    assert done.status == 200, done.text
    assert "Undo" in (await site.get("/ui/actions")).text


async def _nothing(_: int) -> bytes:
    return b""


async def test_what_was_done_in_many_slices_is_asked_for_twice_and_is_one_act(bunqueue: Bunqueue):
    """The first look has no more lines than a page wants acts, and a few."""
    execute = bunqueue.server.core.execute
    for n in range(60):
        await push(bunqueue, "q", str(n))
    for _ in range(60):
        await execute(c.Drain(queue="q", limit=1))
    told: Any = await execute(c.Actions(limit=1))
    assert [(act.count, act.slices) for act in told.actions] == [(60, 60)]
