"""What happened: a window of time with its figures, events, acts, starts and stops, each incident of which is found."""

import json
import re

import pytest
import trio
from trio.testing import MockClock

from bunqueue_trio.api.access import Grant
from bunqueue_trio.api.downloads import Download
from bunqueue_trio.config import DAY_MS, MINUTE_MS, Settings
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.caller import By
from bunqueue_trio.protocol.commands.spec import Role
from bunqueue_trio.storage.store import Retention
from bunqueue_trio.testing.server import Bunqueue
from bunqueue_trio.ui.payload import MASK, WHOLE_BYTES
from bunqueue_trio.ui.views import events
from tests.ui.night import fail, push, work
from tests.ui.site import Site, minutes


def ago(bunqueue: Bunqueue, ms: int) -> str:
    return re.sub(r"\+.*", "", events.clock_time(bunqueue.server.clock.now() - ms))


def rows(html: str) -> list[str]:
    """The kinds of what is listed, in its order."""
    return re.findall(r'<span class="state s-([a-z-]+)">', html)


async def test_what_happened_is_listed_newest_first(site: Site, bunqueue: Bunqueue) -> None:
    first = await push(bunqueue, "a", '{"n":1,"password":"hunter2"}')
    await trio.sleep(60)
    second = await push(bunqueue, "b")
    await fail(bunqueue, "b", 1, "no such host")
    page = await site.get("/ui/events")
    assert page.html.index(second) < page.html.index(first)
    assert page.said("no such host")
    assert "hunter2" not in page.html
    page = await site.get("/ui/events?queue=a")
    assert first in page.html
    assert second not in page.html
    page = await site.get("/ui/events?type=failed")
    assert rows(page.html) == ["failed"]
    page = await site.get(f"/ui/events?job={first}")
    assert rows(page.html) == ["pushed"]
    assert (await site.get("/ui/events?queue=a%20b")).status == 400


async def test_a_window_of_the_past_has_its_events_and_no_others(site: Site, bunqueue: Bunqueue) -> None:
    before = await push(bunqueue, "a")
    await trio.sleep(600)
    inside = await push(bunqueue, "a")
    await trio.sleep(600)
    after = await push(bunqueue, "a")
    page = await site.get(f"/ui/events?since={ago(bunqueue, 900_000)}&until={ago(bunqueue, 300_000)}")
    assert inside in page.html
    assert before not in page.html
    assert after not in page.html
    assert "data-live" not in page.html, "what is past does not change"
    # Also by its link, at any later time.
    link = re.search(r'href="([^"]*)">Link to this window', page.html)
    assert link
    await trio.sleep(1200)
    again = await site.get(link[1].replace("&amp;", "&"))
    assert inside in again.html
    assert after not in again.html


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("since=25:00", "'25:00' is no time"), ("since=2d", "A window is 1 d long at most"), ("since=1m&until=2m", "that ends before it begins"),
        ("since=0001-01-01T00:00:00Z&until=0001-01-01T00:10:00Z", "is no time"), ("since=0001-01-01T00:00:00%2B14:00", "is no time"),
        ("since=9999-12-31T23:00:00Z&until=9999-12-31T23:59:00Z", "is no time"), ("since=1969-12-31T23:00:00Z", "is no time"),
        ("before=x", "There is no such page"), ("type=pusht", "'pusht' is no type of an event"),
    ],
)  # fmt: skip
async def test_what_is_no_window_is_refused_in_words(site: Site, query: str, says: str) -> None:
    page = await site.get(f"/ui/events?{query}")
    assert page.status in (400, 404)
    assert page.said(says)


@pytest.mark.parametrize(
    "query",
    ["since=1970-01-01T00:00:00Z&until=1970-01-01T23:00:00Z", "since=9998-12-31T23:00:00-12:00&until=9998-12-31T23:59:59-12:00",
     "since=1970-01-01T00:00:00%2B14:00&until=1970-01-01T05:00:00"],
)  # fmt: skip
async def test_the_first_and_the_last_window_have_pages(site: Site, query: str) -> None:
    assert (await site.get(f"/ui/events?{query}")).status == 200


@pytest.mark.thorough
async def test_pages_tell_each_event_once_in_order(site: Site, bunqueue: Bunqueue) -> None:
    ids = []
    for n in range(2100):
        ids.append(await push(bunqueue, "many", str(n)))
        if n % 100 == 0:
            await trio.sleep(1)
            await bunqueue.server.core.execute(c.Pause(queue="many", reason=str(n)), by=By("ana", "here"))
    found: list[str] = []
    acts = 0
    target = "/ui/events?since=1h"
    for _ in range(60):
        page = await site.get(target)
        found += re.findall(r'href="/ui/jobs/([0-9a-f-]+)"', page.html)
        acts += rows(page.html).count("act")
        more = re.search(r'href="([^"]*)" rel="next"', page.html)
        if more is None:
            break
        target = more[1].replace("&amp;", "&")
    assert found == ids[::-1]
    assert acts == 21


async def test_a_page_of_many_acts_ends_and_the_next_ones_have_the_rest(site: Site, bunqueue: Bunqueue) -> None:
    ids = [await push(bunqueue, "many", str(n)) for n in range(5)]
    for n in range(260):
        await trio.sleep(0.1)
        await bunqueue.server.core.execute(c.Pause(queue=f"q{n}", reason=f"r{n}"), by=By("ana", "here"))
        if n % 20 == 0:
            ids.append(await push(bunqueue, "many", str(n)))
    jobs, told, target = list[str](), list[str](), "/ui/events?since=1h"
    while target:
        page = await site.get(target)
        assert len(rows(page.html)) <= events.ROWS_MAX
        assert len(page.body) < 100_000
        jobs += re.findall(r'href="/ui/jobs/([0-9a-f-]+)"', page.html)
        told += re.findall(r"reason r(\d+)", page.html)
        more = re.search(r'href="([^"]*)" rel="next"', page.html)
        target = more[1].replace("&amp;", "&") if more else ""
    assert jobs == ids[::-1]
    assert told == [str(n) for n in reversed(range(260))]


@pytest.mark.thorough
async def test_events_that_are_rare_are_found_by_looking_further(
    site: Site, bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LOOKS", 1)
    rare = await push(bunqueue, "rare")
    for n in range(1100):
        await push(bunqueue, "many", str(n))
    page = await site.get("/ui/events?queue=rare")
    assert page.said("None among those looked at.")
    for _ in range(3):
        more = re.search(r'href="([^"]*)" rel="next">Look further', page.html)
        if more is None:
            break
        page = await site.get(more[1].replace("&amp;", "&"))
    assert rare in page.html


async def test_large_events_are_read_in_smaller_steps(site: Site, bunqueue: Bunqueue) -> None:
    large = '"' + "x" * 400_000 + '"'
    ids = [await push(bunqueue, "large", large) for _ in range(8)]
    page = await site.get("/ui/events")
    for _ in range(5):
        if ids[0] in page.html:
            break
        more = re.search(r'href="([^"]*)" rel="next"', page.html)
        assert more
        page = await site.get(more[1].replace("&amp;", "&"))
    assert ids[0] in page.html
    assert len(page.body) < 100_000


async def test_acts_of_operators_stand_among_the_events(site: Site, bunqueue: Bunqueue) -> None:
    first = await push(bunqueue, "a")
    await trio.sleep(1)
    await bunqueue.server.core.execute(c.Pause(queue="a", reason="disk is full"), by=By("ana", "10.0.0.7"))
    await trio.sleep(1)
    second = await push(bunqueue, "a")
    page = await site.get("/ui/events")
    assert page.html.index(second) < page.html.index("disk is full") < page.html.index(first)
    assert page.said("pause")
    assert page.said("by ana")
    assert rows((await site.get("/ui/events?type=act")).html) == ["act"]
    assert rows((await site.get("/ui/events?queue=other")).html) == ["server"]
    assert "act" not in rows((await site.get("/ui/events?type=pushed")).html)


async def test_starts_and_stops_stand_among_the_events(autojump_clock: MockClock) -> None:
    async with Bunqueue() as running:
        server = running.server
        await push(running, "a")
        await minutes(running)
        page = await Site(running).get("/ui/events?type=server")
        assert rows(page.html) == ["server"]
        assert page.said("server started")
        life = server.lives()[-1]
        server.engine.figures.lives.note(
            type(life)(began=life.began - 120_000, host="other", process=7, version="0.0")
        )  # fmt: skip
        page = await Site(running).get("/ui/events?type=server")
        assert page.said("other, process 7, version 0.0")
        assert page.said("the one before it has not stopped in order")
    ended = server.engine.figures.lives.all()[-1]
    assert ended.began == server.started_at
    assert ended.ended is not None


async def test_a_server_in_which_nothing_happened_writes_nothing(autojump_clock: MockClock) -> None:
    async with Bunqueue() as running:
        server = running.server
        await minutes(running)
    assert server.engine.figures.lives.all() == []
    assert server.journal.commits == 0


async def test_figures_are_by_the_minute_and_beside_those_of_the_day_before(site: Site, bunqueue: Bunqueue) -> None:
    async def busy(jobs: int) -> None:
        for _ in range(10):
            for _ in range(jobs):
                await push(bunqueue, "emails")
            await work(bunqueue, "emails", jobs)
            await minutes(bunqueue)

    await busy(20)
    await trio.sleep((DAY_MS - 600_000) / 1000)
    await busy(3)
    page = await site.get("/ui/events?since=11m")
    assert page.said("Pushed 30 yesterday 200")
    assert page.said("Completed 30 yesterday 200")
    assert page.html.count("chart-before") == 2
    assert page.said("The broken line is the day before")
    # Of one queue, of a day ago: by whole hours.
    page = await site.get(
        f"/ui/events?queue=emails&since={ago(bunqueue, DAY_MS + 1200_000)}&until={ago(bunqueue, DAY_MS - 1200_000)}"
    )
    assert page.said("these are whole hours")
    assert page.said("emails 1.7") or page.said("emails 3.3")


@pytest.mark.parametrize("late_ms", [0, 1, 8, 4000])
async def test_a_window_has_its_own_minutes_and_not_the_one_before(
    site: Site, bunqueue: Bunqueue, late_ms: int
) -> None:
    """A server notes a minute some ms after its end."""
    server = bunqueue.server

    async def minute_ends() -> None:
        now = server.clock.now()
        await trio.sleep((MINUTE_MS - (now - late_ms) % MINUTE_MS) / 1000)
        await server.note_minute()

    await minute_ends()
    for jobs in (20, 0, 3):
        # In the middle of it.
        await trio.sleep(30)
        for _ in range(jobs):
            await push(bunqueue, "emails")
        await minute_ends()
    for minutes_ago, says in ((3, "Pushed 20"), (2, "Pushed 0"), (1, "Pushed 3")):
        begin = server.clock.now() % MINUTE_MS + minutes_ago * MINUTE_MS
        page = await site.get(f"/ui/events?since={ago(bunqueue, begin)}&until={ago(bunqueue, begin - MINUTE_MS)}")
        assert page.said(says), page.text
    await minute_ends()
    found = [*server.engine.figures.course.between(0, server.clock.now() + MINUTE_MS)]
    assert [(each.at % MINUTE_MS, each.pushed) for each in found] == [(0, 20), (0, 3)]


async def test_what_failed_more_than_a_day_before_stands_out(site: Site, bunqueue: Bunqueue) -> None:
    for _ in range(12):
        await push(bunqueue, "orders")
    await fail(bunqueue, "orders", 12, "card service answered 503")
    await minutes(bunqueue)
    page = await site.get("/ui/events")
    assert page.said("Attempts failed 12")
    assert re.search(r'class="num bad" data-label="Failed">0\.8<', page.html)
    assert page.said("card service answered 503")


async def test_events_that_are_gone_are_said_to_be_and_their_figures_stay(autojump_clock: MockClock) -> None:
    async with Bunqueue() as running:
        for _ in range(20):
            await push(running, "a")
        await minutes(running)
        await trio.sleep(120)
        for _ in range(2):
            await push(running, "a")
        running.server.store.prune(Retention(10, 10, 0, 2, 0))
        await minutes(running)
        page = await Site(running).get("/ui/events?since=10m")
        assert page.said("Events are kept since")
        assert page.said("RETENTION_EVENTS_AGE_MS")
        assert page.said("Pushed 22")


async def body_of(site: Site, target: str) -> tuple[dict[str, str], list[bytes]]:
    """Return the headers and the parts of a download."""
    headers = {"host": "queue.example:6790", "cookie": site.cookie}
    call = site.gateway.resolve("GET", target, headers)

    async def none(_: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return b""

    response = await site.dashboard.respond(call, target, headers, none)
    assert response.status == 200
    assert isinstance(response.body, Download)
    parts = [part async for part in response.body]
    await response.body.aclose()
    return dict(response.headers), parts


@pytest.fixture
async def filled(bunqueue: Bunqueue) -> list[str]:
    return [await push(bunqueue, "a" if n % 2 else "b", f'{{"n":\n{n}}}') for n in range(1200)]


async def test_events_are_saved_as_a_file_a_line_each(site: Site, bunqueue: Bunqueue, filled: list[str]) -> None:
    headers, parts = await body_of(site, "/ui/export/events?queue=a&type=pushed")
    assert headers["Content-Disposition"] == 'attachment; filename="events.jsonl"'
    told = [json.loads(line) for line in b"".join(parts).splitlines()]
    assert [each["jobId"] for each in told] == filled[1::2]
    assert len(parts) > 1
    _, parts = await body_of(site, f"/ui/export/events?job={filled[7]}")
    assert [json.loads(part)["data"] for part in parts] == [{"n": 7}]
    assert (await site.get("/ui/export/events?since=25:00")).status == 400


@pytest.mark.thorough
async def test_jobs_of_a_filter_are_saved_as_a_file_a_line_each(site: Site, filled: list[str]) -> None:
    page = await site.get("/ui/jobs?idPrefix=0")
    link = re.search(r'href="(/ui/export/jobs[^"]*)"', page.html)
    assert link
    headers, parts = await body_of(site, link[1].replace("&amp;", "&"))
    assert headers["Content-Type"] == "application/x-ndjson"
    assert sorted(json.loads(line)["id"] for line in b"".join(parts).splitlines()) == sorted(filled)
    assert len(parts) >= 12
    assert page.said("bunqueue-trio export --id-prefix 0 > jobs.jsonl")
    assert (await site.get("/ui/export/jobs?queue=no%20queue")).status == 400
    _, none = await body_of(site, "/ui/export/jobs?queue=nobody")
    assert none == []


@pytest.mark.parametrize("path", ["/ui/export/jobs?queue=q", "/ui/export/events?type=pushed"])
async def test_who_may_only_look_saves_no_more_than_is_shown(autojump_clock: MockClock, path: str) -> None:
    """For others a file is whole, to be used again."""
    async with Bunqueue(Settings(auth_tokens=("secret",))) as bunqueue:
        small, large = '{"n": 1.0, "a": [{"Token": {"x": 1}}], "password": "hunter2"}', f'"{"x" * WHOLE_BYTES}"'
        for data in (small, large):
            await push(bunqueue, "q", data)
        site = Site(bunqueue)
        for role, shown in (
            (Role.READ, [b'"data":{"n":1.0,"a":[{"Token":"%s"}],"password":"%s"}' % ((MASK.encode(),) * 2), b'"data":"%s"' % MASK.encode()]),
            (Role.ADMIN, [b'"data":' + data.encode() for data in (small, large)]),
        ):  # fmt: skip
            login = site.gateway.logins.sign_in(Grant(role, "eve"), bunqueue.server.clock.now())
            site.cookie = f"{site.gateway.cookie}={login}"
            _, parts = await body_of(site, path)
            lines = sorted(b"".join(parts).splitlines(), key=len, reverse=role is Role.READ)
            assert [data in line for data, line in zip(shown, lines, strict=True)] == [True, True], lines
