"""What an open page hears, and when: in virtual time, as its browser would."""

import re
from collections.abc import AsyncIterator
from html import unescape
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bunqueue_trio.api import page_news
from bunqueue_trio.api.logins import LOGIN_MS
from bunqueue_trio.api.page_news import HELLO, NEWS, SETTLED_S, STILL, PageNews
from bunqueue_trio.config import SSE_COMMENT_S, Settings
from bunqueue_trio.errors import StoreError
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.caller import By
from bunqueue_trio.testing.server import Bunqueue
from bunqueue_trio.ui.table import NAVIGATION
from tests.ui.night import push, work
from tests.ui.site import Site, hang_up, minutes
from tests.ui.test_screens import refuse_commits

IDLE_S = 180
AGE = re.compile(r"\d[\d.]*\s(ms|s)\b")
TOKEN = "secret-token-1"
OF_JOBS = [entry.href for entry in NAVIGATION[:-1] if entry.name not in ("storage", "server")]
"""Screens that say nothing of the machine."""


class Open:
    """A page that is open: when it heard what, and how often it has looked again."""

    def __init__(self, site: Site, path: str) -> None:
        self.site = site
        self.path = path
        self.heard: list[tuple[float, bytes]] = []
        self.looked = 0
        self.text = ""
        self.has_ended = trio.Event()

    @property
    def news(self) -> list[float]:
        """When it heard that there is something new."""
        return [at for at, what in self.heard if what == NEWS]

    async def stay(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        page = await self.site.get(self.path)
        self.text = page.text
        stream = await listen(self.site, page.html)
        try:
            async for said in stream:
                self.heard.append((trio.current_time(), said))
                if said == HELLO:
                    task_status.started()
                if said == NEWS:
                    self.looked += 1
                    self.text = (await self.site.get(self.path, {"x-part": "main"})).text
        finally:
            await stream.aclose()
        self.has_ended.set()


async def listen(site: Site, html: str) -> PageNews:
    """Return the stream that a page opens."""
    said = dict(re.findall(r'data-(news|mark)="([^"]*)"', html))
    response = await answer(site, f"{unescape(said['news'])}&mark={said['mark']}")
    assert response.status == 200
    assert dict(response.headers)["Content-Type"].startswith("text/event-stream")
    assert isinstance(response.body, PageNews)
    return response.body


async def answer(site: Site, target: str, method: str = "GET") -> Any:
    headers = {"host": "queue.example:6790", "cookie": site.cookie}
    call = site.gateway.resolve(method, target, headers)

    async def read(limit: int) -> bytes:
        raise AssertionError("it has no body")

    return await site.dashboard.respond(call, target, headers, read)


@pytest.fixture
async def nursery() -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as opened:
        yield opened
        opened.cancel_scope.cancel()


async def open_page(nursery: trio.Nursery, site: Site, path: str) -> Open:
    page = Open(site, path)
    await nursery.start(page.stay)
    return page


async def test_an_idle_server_is_asked_nothing_by_ten_open_pages(bunqueue: Bunqueue, nursery: trio.Nursery) -> None:
    sites = [Site(bunqueue) for _ in range(10)]
    dashboard = sites[0].dashboard
    for site in sites:
        site.dashboard = dashboard
    pages = [await open_page(nursery, site, OF_JOBS[n % len(OF_JOBS)]) for n, site in enumerate(sites)]
    await trio.sleep(IDLE_S)
    for page in pages:
        assert page.looked == 0, page.path
        times = [at for at, what in page.heard if what == STILL]
        # So often that no proxy takes it for dead, and the page would notice if one did.
        assert all(later - at <= SSE_COMMENT_S + 1 for at, later in pairwise(times))
        assert len(times) > IDLE_S / (SSE_COMMENT_S + 2)


async def test_a_page_hears_within_a_second_and_once_more_when_others_have_no_older_look(
    site: Site, bunqueue: Bunqueue, nursery: trio.Nursery
) -> None:
    page = await open_page(nursery, site, "/ui/queues/emails")
    await trio.sleep(20)
    # Somebody else has just looked: what is shared is of before the push.
    other = Site(bunqueue)
    other.dashboard = site.dashboard
    await other.get("/ui/queues/emails")
    pushed = trio.current_time()
    await push(bunqueue, "emails")
    await trio.sleep(14)
    assert page.news[0] - pushed <= 1
    assert page.news[1] - pushed == pytest.approx(SETTLED_S + 1, abs=1)
    assert len(page.news) == 2
    assert "1 waiting" in page.text or "waiting 1" in page.text, page.text


async def test_a_page_that_opens_just_behind_a_commit_hears_when_others_have_no_older_look(
    site: Site, bunqueue: Bunqueue, nursery: trio.Nursery
) -> None:
    for n in range(3):
        await push(bunqueue, f"q-{n}")
        await trio.sleep(30)
    await site.get("/ui/queues")
    await push(bunqueue, "newest")
    page = await open_page(nursery, site, "/ui/queues")
    await trio.sleep(SETTLED_S + 1.5)
    assert len(page.news) == 1
    assert "newest" in page.text


@pytest.mark.parametrize("path", ["/ui", "/ui/queues", "/ui/jobs", "/ui/errors"])
async def test_what_was_last_heard_of_leads_to_what_is_the_case(
    path: str, bunqueue: Bunqueue, nursery: trio.Nursery
) -> None:
    sites = [Site(bunqueue) for _ in range(3)]
    for site in sites:
        site.dashboard = sites[0].dashboard
    pages = []
    for site in sites:
        pages.append(await open_page(nursery, site, path))
        await trio.sleep(0.4)
    for n in range(5):
        await push(bunqueue, f"late-{n}")
        await trio.sleep(0.7)
    await work(bunqueue, "late-4", 1)
    await trio.sleep(SETTLED_S + 2)
    now = (await sites[0].get(path, {"x-part": "main"})).text
    for page in pages:
        assert AGE.sub("", page.text) == AGE.sub("", now)


async def test_however_much_is_committed_a_page_hears_once_a_second(
    site: Site, bunqueue: Bunqueue, nursery: trio.Nursery
) -> None:
    page = await open_page(nursery, site, "/ui")
    for _ in range(200):
        await push(bunqueue, "emails")
        await trio.sleep(0.1)
    assert 15 <= len(page.news) <= 21
    assert min(later - at for at, later in pairwise(page.news)) >= 1


async def test_a_page_of_one_queue_hears_of_it_and_of_what_may_be_its_settings(
    site: Site, bunqueue: Bunqueue, nursery: trio.Nursery
) -> None:
    page = await open_page(nursery, site, "/ui/queues/emails")
    await trio.sleep(1)
    for _ in range(10):
        await push(bunqueue, "bills")
        await trio.sleep(1)
    assert page.news == []
    await push(bunqueue, "emails")
    await trio.sleep(1.5)
    assert len(page.news) == 1
    await trio.sleep(SETTLED_S + 2)
    await bunqueue.server.core.execute(c.SetDefaults(queue="emails", max_attempts=7), by=By("ana", "test"))
    await trio.sleep(1.5)
    assert "7" in page.text
    assert len(page.news) == 3


async def test_what_was_committed_between_the_page_and_its_stream_is_news(site: Site, bunqueue: Bunqueue) -> None:
    page = await site.get("/ui")
    await trio.sleep(10)
    await push(bunqueue, "emails")
    await trio.sleep(10)
    stream = await listen(site, page.html)
    assert await anext(stream) == HELLO
    assert await anext(stream) == NEWS
    await stream.aclose()
    # A page that has looked since then knows.
    part = await site.get("/ui", {"x-part": "main"})
    stream = await listen(site, f'{page.html.partition("data-mark")[0]}data-mark="{part.headers["x-mark"]}"')
    assert [await anext(stream), await anext(stream)] == [HELLO, STILL]
    await stream.aclose()


async def test_what_gets_older_without_a_commit_is_looked_at_again(
    site: Site, bunqueue: Bunqueue, nursery: trio.Nursery
) -> None:
    page = await open_page(nursery, site, "/ui/queues")
    await push(bunqueue, "emails")
    await trio.sleep(130)
    before = page.looked
    await trio.sleep(600)
    # Jobs that wait: by the minute.
    assert 9 <= page.looked - before <= 21


async def test_where_workers_are_known_pages_look_each_quarter_of_a_minute(
    site: Site, bunqueue: Bunqueue, nursery: trio.Nursery
) -> None:
    page = await open_page(nursery, site, "/ui/workers")
    await trio.sleep(20)
    assert page.looked == 0
    await bunqueue.server.core.execute(c.RegisterWorker(worker_id="w", queues=["q"]))
    await trio.sleep(SETTLED_S + 2)
    before = page.looked
    await trio.sleep(50)
    assert page.looked - before == 3


async def test_after_an_hour_without_anything_nothing_is_asked_any_more(
    site: Site, bunqueue: Bunqueue, nursery: trio.Nursery
) -> None:
    page = await open_page(nursery, site, "/ui")
    await push(bunqueue, "emails")
    await work(bunqueue, "emails", 1)
    await minutes(bunqueue, 10)
    # The chart of the last hour goes on by the minute.
    assert 8 <= page.looked <= 15
    await minutes(bunqueue, 56)
    before = page.looked
    await minutes(bunqueue, 10)
    assert page.looked == before


async def test_what_changes_without_a_commit_is_news_once(
    site: Site, bunqueue: Bunqueue, nursery: trio.Nursery
) -> None:
    page = await open_page(nursery, site, "/ui/queues")
    await trio.sleep(60)
    bunqueue.server.connections.ws += 1
    await trio.sleep(60)
    assert page.looked == 1


async def test_a_finding_without_a_commit_is_news(site: Site, bunqueue: Bunqueue, nursery: trio.Nursery) -> None:
    page = await open_page(nursery, site, "/ui")
    await trio.sleep(60)
    refuses = refuse_commits(bunqueue)
    with pytest.raises(Exception, match="Storage unavailable"):
        await push(bunqueue, "emails")
    await trio.sleep(30)
    assert "The disk refuses changes" in page.text
    refuses.clear()
    await trio.sleep(40)
    assert "The disk refuses changes" not in page.text


async def test_a_store_that_cannot_be_read_is_news_and_no_end(
    site: Site, bunqueue: Bunqueue, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = await open_page(nursery, site, "/ui")
    await trio.sleep(60)
    assert page.looked == 0
    with monkeypatch.context() as broken:

        async def fail_to_look(*_: object) -> None:
            await trio.lowlevel.checkpoint()
            raise StoreError("it cannot be read")

        broken.setattr("bunqueue_trio.ui.dashboard.look", fail_to_look)
        await trio.sleep(60)
        assert "cannot be read now" in page.text
    await trio.sleep(40)
    assert "cannot be read now" not in page.text
    assert not page.has_ended.is_set()


@pytest.mark.parametrize("path", ["/ui/storage", "/ui/server"])
async def test_what_says_of_the_machine_is_looked_at_each_quarter_of_a_minute(
    path: str, site: Site, nursery: trio.Nursery
) -> None:
    page = await open_page(nursery, site, path)
    await trio.sleep(150)
    assert 8 <= page.looked <= 10


# --- who may listen, and how long -----------------------------------------------------------------


async def signed_in(bunqueue: Bunqueue) -> Site:
    site = Site(bunqueue)
    assert (await site.post("/ui/login", {"token": TOKEN})).status == 303
    return site


@pytest.fixture
async def locked(autojump_clock: MockClock) -> AsyncIterator[Bunqueue]:
    async with Bunqueue(Settings(auth_tokens=(TOKEN,))) as running:
        yield running


async def test_nobody_listens_without_a_login(locked: Bunqueue) -> None:
    site = Site(locked)
    for cookie in ("", "bunqueue-6790=" + "x" * 43):
        site.cookie = cookie
        response = await answer(site, "/ui/news?of=now&queue=&mark=0")
        assert (response.status, response.body) == (401, b"signed out")
    assert len(locked.server.news) == 0
    site = await signed_in(locked)
    assert (await answer(site, "/ui/news", "HEAD")).status == 405


async def test_it_ends_at_the_sign_out_in_every_tab(locked: Bunqueue, nursery: trio.Nursery) -> None:
    site = await signed_in(locked)
    pages = [await open_page(nursery, site, path) for path in ("/ui", "/ui/jobs")]
    kept = site.cookie
    await site.post("/ui/logout", {"csrf": (await site.get("/ui")).csrf})
    site.cookie = kept
    with trio.fail_after(1.1):
        for page in pages:
            await page.has_ended.wait()
    assert len(locked.server.news) == 0


async def test_it_ends_with_the_login_and_with_the_server(locked: Bunqueue, nursery: trio.Nursery) -> None:
    page = await open_page(nursery, await signed_in(locked), "/ui")
    await trio.sleep(5)
    locked.server.clock._offset_ms += LOGIN_MS
    with trio.fail_after(1.1):
        await page.has_ended.wait()
    pages = [await open_page(nursery, await signed_in(locked), "/ui") for _ in range(10)]
    locked.server.stop.set()
    # At once: a stop waits for nobody's second to be over.
    with trio.fail_after(0.01):
        for page in pages:
            await page.has_ended.wait()


async def test_streams_are_bounded_for_each_browser_and_in_all(
    bunqueue: Bunqueue, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_news, "STREAMS_MAX", 10)
    first = Site(bunqueue)
    await first.get("/ui")
    opened = [await open_page(nursery, first, "/ui") for _ in range(page_news.OF_ONE_MAX)]
    full = await answer(first, "/ui/news?mark=0")
    assert (full.status, dict(full.headers)["Retry-After"]) == (429, "60")
    assert full.body == b"too many open pages listen: this one looks again by itself"
    for _ in range(2):
        other = Site(bunqueue)
        other.dashboard = first.dashboard
        await other.get("/ui")
        opened += [await open_page(nursery, other, "/ui") for _ in range(3)]
    late = Site(bunqueue)
    late.dashboard = first.dashboard
    await late.get("/ui")
    assert (await answer(late, "/ui/news?mark=0")).status == 429
    assert len(bunqueue.server.news) == len(opened) == 10
    # Who has no stream has the page.
    assert (await late.get("/ui")).status == 200


async def test_pages_that_open_together_are_no_more_than_one_after_the_other(bunqueue: Bunqueue) -> None:
    """None of them has been asked for its first part yet."""
    site = Site(bunqueue)
    await site.get("/ui")
    together = [await answer(site, "/ui/news?mark=0") for _ in range(6)]
    assert [each.status for each in together] == [200] * page_news.OF_ONE_MAX + [429] * 2
    for each in together[: page_news.OF_ONE_MAX]:
        each.body.end()
        await each.body.aclose()
    assert (await answer(site, "/ui/news?mark=0")).status == 200


async def test_a_page_that_goes_before_its_stream_begins_leaves_its_place(bunqueue: Bunqueue) -> None:
    assert await hang_up(bunqueue, "/ui/news", lambda: len(bunqueue.server.news)) == 1
    assert len(bunqueue.server.news) == 0


async def test_what_ends_leaves_nothing(site: Site, bunqueue: Bunqueue) -> None:
    for _ in range(3 * page_news.OF_ONE_MAX):
        async with trio.open_nursery() as pages:
            await open_page(pages, site, "/ui")
            pages.cancel_scope.cancel()
    assert len(bunqueue.server.news) == 0
    stream = await listen(site, (await site.get("/ui")).html)
    await stream.aclose()
    assert len(bunqueue.server.news) == 0
