"""examples/crawler.py on two sites of the test's own: every page, and nobody is bothered."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import trio

from examples import crawler
from tests.examples.conftest import Start, kill, wait_until
from tests.examples.web_site import HTML, Answer, Site, page
from tests.wire.server import Server

DELAY_S, AT_ONCE = 0.04, 2
SLOW_S = 0.3  # so slow that without a limit there would be many at once
MORE = 12  # pages that nothing is special about
BROKEN: Answer = (500, HTML, "oh no")


@pytest.fixture
def sites() -> Iterator[tuple[Site, Site]]:
    with Site("127.0.0.1") as one, Site("localhost") as two:
        one.add("/robots.txt", (200, {"Content-Type": "text/plain"}, "User-agent: *\nDisallow: /private\n"))
        special = [
            "/private/diary",
            "/flaky",
            "/old",
            "/large",
            "/picture",
            "/gone",
            "/broken",
            "mailto:me@example.org",
        ]
        plain = [f"/page/{n}" for n in range(MORE)]
        one.add("/", page("Home", *special, *plain, f"{two.root}/#top", "/#again", "http://elsewhere.invalid/"))
        for n, path in enumerate(plain):
            one.add(path, page(f"Page {n}", "/", plain[(n + 1) % MORE], f"{two.root}/page/{n}", f"deep/{n}"))
        one.takes = dict.fromkeys(plain[:4], SLOW_S)
        two.takes = one.takes
        one.add("/private/diary", page("Secret"))
        one.add("/flaky", page("Flaky"), BROKEN, BROKEN)
        one.add("/old", (301, {"Location": "/new"}, ""))
        one.add("/new", page("New"))
        one.add("/large", (200, HTML, "<title>Large</title>" + "x" * (3 * crawler.BODY_MAX)))
        one.add("/picture", (200, {"Content-Type": "image/png"}, '<a href="/inside">no link</a>'))
        one.add("/broken", BROKEN)
        two.add("/", page("Two", one.root, "/busy"))
        two.add("/busy", page("Busy"), (503, HTML | {"Retry-After": "1"}, "later"))
        for n in range(MORE):
            two.add(f"/page/{n}", page(f"Two {n}", "/", f"{one.root}/page/{n}"))
        yield one, two


def program(fresh: Server, database: Path, *more: object) -> list[object]:
    limits = ["--delay", DELAY_S, "--at-once", AT_ONCE, "--backoff", 0.05, "--url", f"ws://127.0.0.1:{fresh.port}"]
    return ["crawler.py", database, *more, *limits]


def known(database: Path) -> dict[str, tuple[str, str]]:
    with closing(sqlite3.connect(database)) as connection:
        return {url: rest for url, *rest in connection.execute("SELECT url, status, title FROM page")}


@pytest.mark.slow
def test_crawl_of_two_sites(fresh: Server, sites: tuple[Site, Site], tmp_path: Path, start: Start):
    one, two = sites
    database = tmp_path / "crawl.db"
    crawl = start(*program(fresh, database, one.root, two.root, "--depth", 2))
    printed, errors = crawl.communicate(timeout=90)
    assert crawl.returncode == 0, errors

    pages = known(database)
    assert pages[f"{one.root}/"] == ["200", "Home"]
    assert pages[f"{one.root}/flaky"] == ["200", "Flaky"]
    assert pages[f"{one.root}/private/diary"] == ["disallowed by robots.txt", None]
    assert pages[f"{one.root}/old"] == ["301", None]
    assert pages[f"{one.root}/new"] == ["200", "New"]
    assert pages[f"{one.root}/large"] == ["200", "Large"]
    assert pages[f"{one.root}/broken"] == ["failed: Busy: 500 Internal Server Error", None]
    assert pages[f"{one.root}/gone"][0] == "404"
    assert pages[f"{two.root}/busy"] == ["200", "Busy"]
    assert {url for url in pages if "/page/deep/" in url} == {f"{one.root}/page/deep/{n}" for n in range(MORE)}
    assert not any("elsewhere" in url or "inside" in url or "#" in url or "mailto" in url for url in pages)
    assert "disallowed by robots.txt" in printed

    for site in sites:
        assert site.at_once_max == AT_ONCE
        more_often = {path: count for path, count in site.counts().items() if count > 1}
        assert more_often == ({"/flaky": 3, "/broken": crawler.TRIES} if site is one else {"/busy": 2})
    assert "/private/diary" not in one.counts()
    took = one.asked[-1][0] - one.asked[0][0]
    assert took >= (len(one.asked) - 1) * DELAY_S - 0.05  # a request may be under way for a moment
    first, second = two.times("/busy")
    assert not [path for at, path in two.asked if first + 0.1 < at < first + 0.9], "it wanted a pause of a second"
    assert second - first >= 0.95


@pytest.mark.slow
def test_crawl_that_is_killed_goes_on(fresh: Server, sites: tuple[Site, Site], tmp_path: Path, start: Start):
    """Each page is had, and none was asked for again but those that were under way."""
    one, two = sites
    database = tmp_path / "crawl.db"
    command = program(fresh, database, one.root, two.root, "--depth", 2)
    killed = start(*command)
    wait_until(lambda: len(one.asked) >= 8)
    kill(killed)
    again = start(*command)
    _, errors = again.communicate(timeout=90)

    assert again.returncode == 0, errors
    pages = known(database)
    assert {f"{site.root}/page/{n}" for site in sites for n in range(MORE)} <= pages.keys()
    assert all(status is not None for status, _ in pages.values())
    for site in sites:
        plain = {path: count for path, count in site.counts().items() if path.startswith("/page/")}
        assert max(plain.values()) <= 2
        assert sum(plain.values()) <= len(plain) + AT_ONCE


@pytest.mark.slow
def test_limit_of_pages_is_exact(fresh: Server, sites: tuple[Site, Site], tmp_path: Path, start: Start):
    one, _ = sites
    database = tmp_path / "crawl.db"
    crawl = start(*program(fresh, database, one.root, "--pages", 6))
    _, errors = crawl.communicate(timeout=90)
    assert crawl.returncode == 0, errors
    assert len(known(database)) == 6


async def test_gate_keeps_the_delay_and_the_pause(autojump_clock: trio.testing.MockClock):
    """Ten who come at once pass one by one; a pause holds up those who wait already."""
    passed: list[float] = []

    async def visit(host: crawler.Host) -> None:
        await host.turn()
        passed.append(round(trio.current_time() - began, 6))
        if len(passed) == 3:
            host.pause(60)

    async with httpx.AsyncClient() as web, trio.open_nursery() as nursery:
        host, began = crawler.Host(web, "http://example.org", 2.0), trio.current_time()
        for _ in range(5):
            nursery.start_soon(visit, host)
    assert passed == [0, 2, 4, 64, 66]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, 0), ("120", 120), ("Thu, 01 Jan 2026 00:01:00 GMT", 60), ("Wed, 31 Dec 2025 00:00:00 GMT", 0), ("soon", 0)],
)
def test_retry_after(header: str | None, seconds: float):
    assert crawler.retry_after(header, datetime(2026, 1, 1, tzinfo=UTC)) == seconds


@pytest.mark.parametrize(
    ("link", "address"),
    [
        ("../b#c", "http://example.org/b"), ("HTTP://Example.ORG:80", "http://example.org/"),
        ("//[::1]:8080/x?y=1", "http://[::1]:8080/x?y=1"), ("https://müller.example/", "https://xn--mller-kva.example/"),
        ("mailto:me@example.org", None), ("javascript:void(0)", None), ("http://[broken", None),
    ],
)  # fmt: skip
def test_addresses_are_written_alike(link: str, address: str | None):
    assert crawler.canonical("http://example.org/a/", link) == address
