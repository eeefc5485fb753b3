"""A polite web crawler: one job for each page, one queue for each host, everything it knows in one SQLite file.

    python examples/crawler.py crawl.db https://example.org/ https://docs.example.org/ --pages 500 --delay 2

The hosts of these addresses are crawled, and no others. Stop it or kill it when you like: the same command goes on
where it was.

Worth copying: a queue for each host makes "at most N at a time" the worker's `concurrency`. The list of pages is the
truth and the queue the work: a page is first noted, then pushed under an id made of its address, so that whatever was
noted and not pushed is found at the next start, and no page is pushed twice. A host that asks for a pause gets it:
everything for that host waits at one gate.
"""

import argparse
import hashlib
import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urldefrag, urljoin, urlsplit
from urllib.robotparser import RobotFileParser

import httpx
import trio

from bunqueue_trio import Client, Job, Worker
from bunqueue_trio.client import JobFailed, Refused

AGENT = "polite-crawler"
BODY_MAX = 1024 * 1024  # no page that people read is larger
REQUEST_S = 20.0
PAUSE_MAX_S = 3600.0  # a host that wants to be left alone for longer is asked again after this
TRIES = 4
DEFAULT_PORTS = {"http": 80, "https": 443}


class Busy(Exception):
    """The host cannot answer now; the job is retried."""


# --- what is known of pages -----------------------------------------------------------------------------


class Pages:
    """The pages in their file. A page is open until ``close`` says what became of it."""

    def __init__(self, path: Path, hosts: frozenset[str], *, pages_max: int, depth_max: int) -> None:
        self.hosts = hosts
        self._pages_max = pages_max
        self._depth_max = depth_max
        self._database = sqlite3.connect(path, isolation_level=None)  # each statement commits
        self._database.execute("PRAGMA journal_mode = WAL")  # ... without waiting for the disk
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS page"
            "(url TEXT PRIMARY KEY, depth INTEGER NOT NULL, status TEXT, title TEXT, length INTEGER) WITHOUT ROWID"
        )
        self._known = self._database.execute("SELECT count(*) FROM page").fetchone()[0]

    def note(self, urls: Iterable[str], depth: int) -> list[str]:
        """Note pages that are not known, as far as the limits allow; return those."""
        if depth > self._depth_max:
            return []
        noted = []
        for url in urls:
            if host_of(url) in self.hosts and self._known < self._pages_max:
                cursor = self._database.execute("INSERT OR IGNORE INTO page (url, depth) VALUES (?, ?)", (url, depth))
                self._known += cursor.rowcount
                noted += [url] * cursor.rowcount
        return noted

    def open(self) -> list[tuple[str, int]]:
        """Return the pages that nothing is known of yet, with their depths."""
        rows = self._database.execute("SELECT url, depth FROM page WHERE status IS NULL ORDER BY depth, url").fetchall()
        return [(url, depth) for url, depth in rows if host_of(url) in self.hosts]

    def is_open(self, url: str) -> bool:
        """Return whether nothing is known of the page yet."""
        row = self._database.execute("SELECT status FROM page WHERE url = ?", (url,)).fetchone()
        return row is not None and row[0] is None

    def close(self, url: str, status: str, title: str | None = None, length: int | None = None) -> None:
        """Note what became of a page."""
        self._database.execute(
            "UPDATE page SET status = ?, title = ?, length = ? WHERE url = ?", (status, title, length, url)
        )

    def counts(self) -> dict[str, int]:
        """Return how many pages there are of each status."""
        query = "SELECT coalesce(status, 'open'), count(*) FROM page GROUP BY 1 ORDER BY 2 DESC, 1"
        return dict(self._database.execute(query).fetchall())


def host_of(url: str) -> str:
    """Return ``host:port``."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or DEFAULT_PORTS.get(parts.scheme)}"


def canonical(base: str, link: str) -> str | None:
    """Return the address that a link means, always written alike; None if it is no web page."""
    try:
        parts = urlsplit(urldefrag(urljoin(base, link.strip())).url)
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except ValueError:
        return None
    if parts.scheme not in DEFAULT_PORTS or not host:
        return None
    name = f"[{host}]" if ":" in host else host
    netloc = name if port in (None, DEFAULT_PORTS[parts.scheme]) else f"{name}:{port}"
    return parts._replace(netloc=netloc, path=parts.path or "/").geturl()


class Document(HTMLParser):
    """The title and the links of a page."""

    def __init__(self, url: str, text: str) -> None:
        super().__init__()
        self._base = url
        self._in_title = False
        self.title = ""
        self.links: dict[str, None] = {}  # a set that keeps its order
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a link."""
        self._in_title = tag == "title"
        values = dict(attrs)
        href = values.get("href")
        if href is None:
            return
        if tag == "base":
            self._base = canonical(self._base, href) or self._base
        elif tag == "a" and "nofollow" not in (values.get("rel") or ""):
            link = canonical(self._base, href)
            if link is not None:
                self.links[link] = None

    def handle_data(self, data: str) -> None:
        """Note the title."""
        if self._in_title:
            self.title += data
            self._in_title = False


# --- politeness -----------------------------------------------------------------------------------------


class Host:
    """The gate in front of a host: one request at a time passes it, ``delay`` seconds after the one before."""

    def __init__(self, web: httpx.AsyncClient, root: str, delay: float) -> None:
        self._web = web
        self._root = root
        self._delay = delay
        self._next = 0.0
        self._gate = trio.Lock()
        self._robots: RobotFileParser | None = None
        self._reading = trio.Lock()

    async def turn(self) -> None:
        """Return when the host may be asked."""
        async with self._gate:
            while trio.current_time() < self._next:  # noqa: ASYNC110 - another may let it wait longer meanwhile
                await trio.sleep_until(self._next)
            self._next = trio.current_time() + self._delay

    def pause(self, seconds: float) -> None:
        """Let nobody pass for `seconds`."""
        self._next = max(self._next, trio.current_time() + min(seconds, PAUSE_MAX_S))

    @asynccontextmanager
    async def get(self, url: str) -> AsyncIterator[httpx.Response]:
        """Ask for a page when it is our turn.

        Raises:
            Busy: the host is in trouble, or wants a pause.
        """
        await self.turn()
        try:
            async with self._web.stream("GET", url) as response:
                if response.status_code == 429 or response.status_code >= 500:
                    self.pause(retry_after(response.headers.get("retry-after"), datetime.now(UTC)))
                    raise Busy(f"{response.status_code} {response.reason_phrase}")
                yield response
        except httpx.TransportError as error:
            raise Busy(f"{type(error).__name__}: {error}") from None

    async def may(self, url: str) -> bool:
        """Return whether the host's robots.txt lets us have a page; it is read once."""
        async with self._reading:
            if self._robots is None:
                self._robots = await self._read_robots()
                self._delay = max(self._delay, float(self._robots.crawl_delay(AGENT) or 0))
        return self._robots.can_fetch(AGENT, url)

    async def _read_robots(self) -> RobotFileParser:
        robots = RobotFileParser()
        async with self.get(f"{self._root}/robots.txt") as response:  # Busy: then nobody knows, and the job is retried
            if response.status_code == 200:
                robots.parse((await read(response)).splitlines())
            elif response.status_code in (401, 403):
                robots.parse(["User-agent: *", "Disallow: /"])
            else:
                robots.parse([])  # there are no rules
        return robots


def retry_after(value: str | None, now: datetime) -> float:
    """Return the seconds that a Retry-After header asks for; 0 without one."""
    if value is None:
        return 0
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    except (TypeError, ValueError):
        return 0


async def read(response: httpx.Response) -> str:
    """Return the text of a response, or as much of it as anybody needs."""
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) >= BODY_MAX:
            break
    return body[:BODY_MAX].decode(response.charset_encoding or "utf-8", "replace")


# --- jobs -----------------------------------------------------------------------------------------------


class Crawler:
    """The workers of all hosts, and what they share."""

    def __init__(
        self, client: Client, pages: Pages, web: httpx.AsyncClient, *, delay: float, backoff: float, at_once: int
    ) -> None:
        self._client = client
        self._pages = pages
        self._web = web
        self._delay = delay
        self._backoff = backoff
        self._at_once = at_once
        self._hosts: dict[str, Host] = {}

    def worker(self, host: str, url: str) -> Worker:
        """Return the worker of a host, on the server at ``url``."""
        worker = Worker(queue_of(host), url, concurrency=self._at_once)
        worker.handler(self.crawl)
        return worker

    async def crawl(self, job: Job) -> str:
        """Fetch one page, note its links, and push what is new."""
        url, depth = job.data["url"], job.data["depth"]
        if not self._pages.is_open(url):
            return "was done before"  # and then the worker died
        host = self._host(url)
        if not await host.may(url):
            self._pages.close(url, "disallowed by robots.txt")
            return "disallowed"
        async with host.get(url) as response:
            found, title = [], None
            if response.has_redirect_location:  # a page of its own, asked for when it is its turn
                target = canonical(url, response.headers["location"])
                found = [] if target is None else [target]
            elif response.is_success and response.headers.get("content-type", "").startswith("text/html"):
                document = Document(url, await read(response))
                found, title = list(document.links), document.title.strip()
        deeper = depth if response.has_redirect_location else depth + 1
        await self.push(self._pages.note(found, deeper), deeper)
        self._pages.close(url, str(response.status_code), title, response.num_bytes_downloaded)
        return str(response.status_code)

    async def push(self, urls: Iterable[str], depth: int) -> None:
        """Push jobs for pages that have been noted; as often as you like."""
        for url in urls:
            await self._client.push(
                queue_of(host_of(url)), {"url": url, "depth": depth}, job_id=job_id_of(url),
                priority=-depth, max_attempts=TRIES, backoff=self._backoff,
            )  # fmt: skip

    async def finish(self) -> None:
        """Return when nothing is open any more."""
        while still_open := self._pages.open():
            for url, depth in still_open:
                await self.push([url], depth)
            for url, _ in still_open:
                try:
                    await self._client.wait(job_id_of(url))
                except JobFailed as failed:
                    self._pages.close(url, f"failed: {failed}")
                except Refused:
                    pass  # it has ended and is not kept any more: if the page is still open, it is pushed anew

    def _host(self, url: str) -> Host:
        name = host_of(url)
        if name not in self._hosts:
            root = urlsplit(url)._replace(path="", query="").geturl()
            self._hosts[name] = Host(self._web, root, self._delay)
        return self._hosts[name]


def queue_of(host: str) -> str:
    """Return the queue of a host."""
    return f"crawl:{host}"


def job_id_of(url: str) -> str:
    """Return the id of a page's job."""
    return f"crawl-{hashlib.sha256(url.encode()).hexdigest()[:32]}"


# --- the program ----------------------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description="A polite web crawler.")
    parser.add_argument("database", type=Path, help="the file with all pages; made when it is not there")
    parser.add_argument("urls", nargs="+", metavar="URL", help="where to begin; only these hosts are crawled")
    parser.add_argument("--pages", type=int, default=1000, help="pages in all, default %(default)s")
    parser.add_argument("--depth", type=int, default=5, help="links away from the beginning, default %(default)s")
    parser.add_argument("--at-once", type=int, default=2, help="requests to one host, default %(default)s")
    parser.add_argument("--delay", type=float, default=1, help="seconds between two to one host, default %(default)s")
    parser.add_argument("--backoff", type=float, default=5, help="seconds before the second try, default %(default)s")
    parser.add_argument("--url", default="ws://localhost:6790", help="the job server, default %(default)s")
    said = parser.parse_args()
    said.urls = [canonical(url, url) or parser.error(f"{url} is no web page") for url in said.urls]
    return said


async def main(said: argparse.Namespace) -> None:
    """Crawl until nothing is open."""
    hosts = frozenset(map(host_of, said.urls))
    pages = Pages(said.database, hosts, pages_max=said.pages, depth_max=said.depth)
    pages.note(said.urls, 0)
    async with (
        Client(said.url) as client,
        httpx.AsyncClient(headers={"User-Agent": AGENT}, timeout=REQUEST_S) as web,
        trio.open_nursery() as nursery,
    ):
        crawler = Crawler(client, pages, web, delay=said.delay, backoff=said.backoff, at_once=said.at_once)
        workers = [crawler.worker(host, said.url) for host in sorted(hosts)]
        for worker in workers:
            nursery.start_soon(worker.run)
        await crawler.finish()
        for worker in workers:
            worker.stop()
    for status, count in pages.counts().items():
        print(f"{count:6}  {status}")


if __name__ == "__main__":
    trio.run(main, arguments())
