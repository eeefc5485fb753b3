"""The dashboard of a simulated server: pages as a browser would get them, without a socket, in virtual time."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from html import unescape
from typing import Any
from urllib.parse import urlencode

import trio

from bunqueue_trio.api.call import Response
from bunqueue_trio.api.gateway import Gateway
from bunqueue_trio.config import LINGER_S
from bunqueue_trio.testing.server import Bunqueue
from bunqueue_trio.transports.quart_app import make_app
from bunqueue_trio.ui.dashboard import Dashboard
from bunqueue_trio.ui.render import templates

MINUTE_S = 60


class Page:
    """A response, as somebody reads it."""

    def __init__(self, response: Response) -> None:
        assert isinstance(response.body, bytes)
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.headers}
        self.body = response.body
        self.html = response.body.decode()

    @property
    def text(self) -> str:
        """What is to be read, on one line."""
        plain = re.sub(r"<(script|style)\b.*?</\1>", " ", self.html, flags=re.DOTALL)
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", plain)).split())

    def said(self, sentence: str) -> bool:
        return _bare(sentence) in _bare(self.text)

    @property
    def csrf(self) -> str:
        """What the forms of the page carry."""
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', self.html)
        assert found, self.html
        return found[1]


def _bare(text: str) -> str:
    """Without the blanks that tags leave behind."""
    return re.sub(r"\s+", "", text)


class Site:
    """A browser without JavaScript, and with one cookie."""

    def __init__(self, bunqueue: Bunqueue) -> None:
        # Before the first page asks for them: for a virtual clock, waiting for a thread is time that passes.
        templates()
        self.bunqueue = bunqueue
        self.gateway = Gateway(bunqueue.server)
        self.dashboard = Dashboard(bunqueue.server, self.gateway)
        self.cookie = ""

    async def get(self, target: str, headers: Mapping[str, str] | None = None) -> Page:
        return await self.ask("GET", target, b"", headers or {})

    async def follow(self, page: Page) -> Page:
        assert page.status == 303, page.text
        return await self.get(page.headers["location"])

    async def post(self, target: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Page:
        return await self.ask("POST", target, urlencode(form).encode(), headers or {})

    async def do(self, action: str, **form: str) -> Page:
        """Open the page of an action, agree, and return the page that follows."""
        first = await self.get(f"/ui/act/{action}?{urlencode(form)}")
        assert first.status == 200, first.text
        done = await self.post(f"/ui/act/{action}", form | {"csrf": first.csrf})
        return await self.follow(done) if done.status == 303 else done

    async def ask(self, method: str, target: str, body: bytes, more: Mapping[str, str]) -> Page:
        headers = {"host": "queue.example:6790"} | dict(more)
        if self.cookie:
            headers["cookie"] = self.cookie
        call = self.gateway.resolve(method, target, headers)
        assert call.target == "ui", call

        async def read(limit: int) -> bytes:
            await trio.lowlevel.checkpoint()
            return body

        page = Page(await self.dashboard.respond(call, target, headers, read))
        if "set-cookie" in page.headers:
            self.cookie = page.headers["set-cookie"].partition(";")[0]
        return page


async def hang_up(bunqueue: Bunqueue, target: str, seen: Callable[[], int]) -> int:
    """Let a client go before anything of its answer is sent; return what was ``seen`` just before.

    What its request promised to send, and did not, is waited for first.
    """
    app = make_app(bunqueue.server, Gateway(bunqueue.server))
    path, _, query = target.partition("?")
    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "headers": [(b"content-length", b"5")],
        "query_string": query.encode(), "raw_path": path.encode(), "extensions": {}, "asgi": {},
    }  # fmt: skip
    came = [{"type": "http.request", "body": b"", "more_body": True}]
    found: list[int] = []

    async def receive() -> dict[str, Any]:
        if came:
            return came.pop()
        await trio.sleep(LINGER_S / 2)
        found.append(seen())
        return {"type": "http.disconnect"}

    async def send(said: dict[str, Any]) -> None:
        raise AssertionError(said)

    with suppress(BaseExceptionGroup):
        await app(scope, receive, send)
    return found[0]


async def minutes(bunqueue: Bunqueue, n: int = 1) -> None:
    """Let minutes pass, as they end in a server."""
    for _ in range(n):
        await trio.sleep(MINUTE_S)
        await bunqueue.server.note_minute()
