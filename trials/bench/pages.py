"""What the dashboard costs beside a million waiting and a million ended jobs in a thousand queues.

In this process: the longest step of each page, counted by Trio, and its weight. Then in a process of its own on the same file, over
sockets: how long the first byte takes, and what ten open dashboards take of the processor, by the clock of the server's process.
"""

import html
import re
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import trio
from msgspec import Raw

from bunqueue_trio.api.gateway import Gateway
from bunqueue_trio.api.page_news import SETTLED_S
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.testing.process import ServerProcess
from bunqueue_trio.ui.dashboard import Dashboard
from bunqueue_trio.ui.table import VIEWS
from trials.bench.idle import cpu_s, push_over_http
from trials.bench.steps import STEP_MS, Steps, tell

FIRST_BYTE_MS, PAGE_KB = 100.0, 100.0
IDLE_SHARE, BUSY_SHARE = 0.03, 0.05
"""Of a core for ten open dashboards of an idle server, and of the processor time of a push beside them."""
OPEN = 10
_POLL_S = 0.05
EVERY_S = 3.0  # at most, as *Now* looks again
IDLE_S, BUSY_S, PAIRS, TURNS = 60.0, 3.0, 9, 7  # of the clock on the wall, and of the processor
_WORKERS, _TAKEN = 40, 100  # each with this many jobs, of which half die
_SAID = re.compile(r'data-(news|mark)="([^"]*)"')
_ASSETS = re.compile(r'(?:href|src)="(/ui/static/[^"]+)"')
_ERRORS = ("PaymentError: card service answered 503 for order {}", "TimeoutError: no answer from db-2 within {} ms", "KeyError: 'customer-{}'")  # fmt: skip


class Page(NamedTuple):
    """A page, and what an address has in the place of its names."""

    view: str
    path: str


async def plant(server: Server) -> list[Page]:
    """Put dead letters, workers, schedules and acts beside the jobs; return the pages to look at."""
    execute: Any = server.core.execute
    full = [each.name for each in await server.look_at_queues() if each.waiting > _TAKEN][:_WORKERS]
    for queue in full:
        await execute(c.RegisterWorker(name=f"worker-{queue}", worker_id=queue, queues=[queue], concurrency=50))
        taken = await execute(c.PullBatch(queue=queue, count=_TAKEN, owner=queue))
        for i, (job, token) in enumerate(zip(taken.jobs[: _TAKEN // 2], taken.tokens, strict=False)):
            error = _ERRORS[i % len(_ERRORS)].format(i * 7919)
            await execute(
                c.Fail(id=job.id, token=token, error=error, stack="  at send (mail.py:12)\n" * 20, unrecoverable=True)
            )
    for n in range(60):
        await execute(c.PutSchedule(name=f"nightly-{n}", queue="q-1", every=3_600_000, data=Raw(b"1")))
        await execute(c.Pause(queue=f"q-{n}", reason="rotation"))
    group = (await execute(c.DlqGroups(queue=full[0]))).groups[0].fingerprint
    waits = (await execute(c.GetJobs(queue=full[0], state="waiting", limit=1))).jobs[0].id
    names = {
        "/ui/jobs/:id": waits, "/ui/jobs/:id/data": waits, "/ui/workers/:id": full[0], "/ui/schedules/:name": "nightly-1",
        "/ui/errors/:queue": f"{full[0]}?fingerprint={group}",
    }  # fmt: skip
    await server.note_minute()
    pages = [Page(view, re.sub(":[a-z]+", names.get(view, full[0]), view)) for view in VIEWS]
    return [
        *pages,
        Page("/ui/events of a day", "/ui/events?since=1d"),
        Page("/ui/events of a kind", "/ui/events?since=1d&type=removed"),
    ]


async def judge_steps(server: Server, pages: list[Page]) -> int:
    """Look at each page in this process; return how many requirements are missed."""
    dashboard = Dashboard(server, Gateway(server))
    missed = 0
    for page in pages:
        longest, whole = [], []
        body = b""
        for _ in range(TURNS):
            await trio.sleep(0.3)  # so that what is shared for a moment is made anew in some turns
            # Of the processor: a page waits for nothing, and the machine may have others to serve.
            with Steps.counted(time.thread_time) as steps:
                await trio.lowlevel.checkpoint()
                body = await _get(dashboard, page.path)
                await trio.lowlevel.checkpoint()
            longest.append(max(steps.found))
            whole.append(sum(steps.found))
        found, all_of_it = statistics.median(longest), statistics.median(whole)
        missed += tell(
            f"the processor for {page.view}",
            f"{all_of_it:.1f} ms",
            f"{FIRST_BYTE_MS:.0f} ms",
            is_met=all_of_it <= FIRST_BYTE_MS,
        )
        missed += tell(f"a step of {page.view}", f"{found:.2f} ms", f"{STEP_MS:.0f} ms", is_met=found <= STEP_MS)
        weight = (
            len(body) + sum([len(await _get(dashboard, path)) for path in sorted({*_ASSETS.findall(body.decode())})])
        ) / 1000
        missed += tell(f"weight of {page.view}", f"{weight:.0f} KB", f"{PAGE_KB:.0f} KB", is_met=weight <= PAGE_KB)
    return missed


async def _get(dashboard: Dashboard, target: str) -> bytes:
    async def nothing(limit: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return b""

    headers = {"host": "127.0.0.1:6790"}
    call = dashboard._gateway.resolve("GET", target, headers)  # noqa: SLF001 - as a transport has it
    response = await dashboard.respond(call, target, headers, nothing)
    assert isinstance(response.body, bytes)
    assert response.status == 200, (target, response.status)
    return response.body


def judge_process(path: Path, pages: list[Page]) -> int:
    """Start a server on the file, and judge what needs sockets and a processor; return how many requirements are missed."""
    settings = {"LOG_LEVEL": "warning", "RETENTION_COMPLETED_MAX": "10000000"}
    with ServerProcess(path, settings, within_s=120) as server:
        return _first_bytes(server, pages) + _idle(server) + _busy(server)


def _first_bytes(server: ServerProcess, pages: list[Page]) -> int:
    missed = 0
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        for page in pages:
            took = []
            for _ in range(TURNS):
                time.sleep(0.3)
                begun = time.perf_counter()
                with client.stream("GET", page.path) as response:
                    took.append((time.perf_counter() - begun) * 1000)
                    assert response.status_code == 200, (page, response.status_code)
                    response.read()
            found = statistics.median(took)
            missed += tell(
                f"first byte of {page.view}",
                f"{found:.1f} ms",
                f"{FIRST_BYTE_MS:.0f} ms",
                is_met=found <= FIRST_BYTE_MS,
            )
    return missed


@contextmanager
def _dashboards(url: str, clock: Callable[[], float]) -> Iterator[list[int]]:
    """Let ten browsers have *Now* open, each in two threads, as its script does: it hears that there is news, and looks, every three seconds of this clock at most."""
    ended = threading.Event()
    looks: list[int] = []

    def hear(address: str, cookies: str, news: threading.Event) -> None:
        with socket.create_connection((httpx.URL(url).host, httpx.URL(url).port or 80), timeout=60) as stream:
            stream.sendall(f"GET {address} HTTP/1.1\r\nHost: bench\r\nCookie: {cookies}\r\n\r\n".encode())
            assert b" 200 " in stream.recv(16)
            stream.settimeout(_POLL_S)
            while not ended.is_set():
                with suppress(TimeoutError):
                    said = stream.recv(4096)
                    assert said, "the stream has ended"
                    if b"event: news" in said:
                        news.set()

    def look(n: int) -> None:
        tag, due, news = "", clock() + EVERY_S * n / OPEN, threading.Event()
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            page = client.get("/ui")
            said = dict(_SAID.findall(page.text))
            cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
            hearing = threading.Thread(
                target=hear, args=(f"{html.unescape(said['news'])}&mark={said['mark']}", cookies, news)
            )
            hearing.start()
            while not ended.wait(_POLL_S):
                if clock() < due or not news.is_set():
                    continue
                due = clock() + EVERY_S
                news.clear()
                answer = client.get("/ui", headers={"X-Part": "main"} | ({"If-None-Match": tag} if tag else {}))
                assert answer.status_code in (200, 304), answer.status_code
                tag = answer.headers.get("etag", tag)
                looks.append(n)
            hearing.join()

    browsers = [threading.Thread(target=look, args=(n,)) for n in range(OPEN)]
    for each in browsers:
        each.start()
    try:
        yield looks
    finally:
        ended.set()
        for each in browsers:
            each.join()


def _idle(server: ServerProcess) -> int:
    pid = server.process.pid

    def share() -> float:
        before, begun = cpu_s(pid), time.monotonic()
        time.sleep(IDLE_S)
        return (cpu_s(pid) - before) / (time.monotonic() - begun)

    alone = share()
    with _dashboards(server.url, time.monotonic) as looks:
        # What was committed while they were opened is news for them.
        time.sleep(SETTLED_S + EVERY_S)
        before = len(looks)
        beside = share()
        print(f"bench: {len(looks) - before} looks of {OPEN} open dashboards in {IDLE_S:.0f} s", file=sys.stderr)
    found = beside - alone
    return tell(
        f"{OPEN} open dashboards of an idle server",
        f"{found:.1%}",
        f"{IDLE_SHARE:.0%} of a core",
        is_met=found <= IDLE_SHARE,
    )


def _busy(server: ServerProcess) -> int:
    """Compare what a push costs with and without open dashboards.

    A busy server has a core. Where it gets less, since the machine has others to serve, dashboards that look by the clock on the wall would look
    more often for each push: here they look by the clock of the server's processor.
    """
    port, pid = server.address[1], server.process.pid

    def each_us() -> float:
        pushed, before = 0, cpu_s(pid)
        while cpu_s(pid) - before < BUSY_S:
            pushed += push_over_http(port, 0.25)[0]
        return (cpu_s(pid) - before) / pushed * 1e6

    each_us()  # warm
    shares = []
    for turn in range(PAIRS):
        costs: dict[bool, float] = {}
        # In turns, since the file grows, and with it what a push costs.
        for is_open in (False, True) if turn % 2 else (True, False):
            with _dashboards(server.url, lambda: cpu_s(pid)) if is_open else nullcontext():
                costs[is_open] = each_us()
        shares.append(costs[True] / costs[False] - 1)
    found = statistics.median(shares)
    return tell(
        f"{OPEN} open dashboards beside pushes",
        f"{found:.1%}",
        f"{BUSY_SHARE:.0%} of a push",
        is_met=found <= BUSY_SHARE,
    )
