"""What an open page of the dashboard hears: that there is something new for it, never what. It asks for that by itself.

A second apart at the least, however much is committed. What a page shows may be of a moment before: it hears once more when that is over.
"""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import trio

from bunqueue_trio.config import SSE_COMMENT_S
from bunqueue_trio.runtime.news import News, Watch

# Streams of all browsers, and of one, which keeps no more than six connections to a server: two are left for what its pages ask.
STREAMS_MAX, OF_ONE_MAX = 100, 4
# A page that is answered sooner than that may show what others have just looked at.
SETTLED_S = 4.0
_TICK_S = 1.0
HELLO, NEWS, STILL = (f"event: {name}\ndata:\n\n".encode() for name in ("hello", "news", "still"))
"""The stream has come through; look again; nothing, of which the page hears so that it notices a stream that was cut."""


class Pulse(NamedTuple):
    """What tells whether pages are out of date though nothing was committed."""

    mark: int
    """Is another one when they are."""
    every_s: float
    """How often they are because what they show gets older; infinity: never."""


class Listener(NamedTuple):
    """A page that wants to hear."""

    who: str
    """Its browser."""
    queue: str | None
    """All that it is about, if there is one."""
    is_late: bool
    """Something was committed after it was made."""
    stop: trio.Event
    """Set when the server stops."""
    stays: Callable[[], bool]
    """Returns whether it still may."""
    pulse: Callable[[], Awaitable[Pulse]]


class Listeners:
    """How many listen, in all and from each browser."""

    def __init__(self) -> None:
        self._of: Counter[str] = Counter()

    def is_full(self, who: str) -> bool:
        """Return whether there is no room for one more of this browser."""
        return self._of.total() >= STREAMS_MAX or self._of[who] >= OF_ONE_MAX

    def add(self, who: str) -> None:
        """Count one more."""
        self._of[who] += 1

    def take(self, who: str) -> None:
        """Count one less."""
        self._of[who] -= 1
        if not self._of[who]:
            del self._of[who]


class PageNews(AsyncIterator[bytes]):
    """The stream of one open page, which has its place from the start. ``aclose`` or ``end`` it, wherever it was left, and if it was never begun."""

    def __init__(self, news: News, listeners: Listeners, listener: Listener) -> None:
        """Take a place among ``listeners``, where there is one: pages that open together each find those before them there."""
        self._news = news
        self._listeners = listeners
        self._listener = listener
        self._watch: Watch | None = news.watch(listener.queue, is_touched=listener.is_late)
        listeners.add(listener.who)
        self._mark: int | None = None
        """None: it is not begun."""
        is_settled = trio.current_time() - news.last_at >= SETTLED_S
        self._settles_at = float("inf") if is_settled else news.last_at + SETTLED_S
        self._heard_at = self._said_at = trio.current_time()
        """When the page was sent anything, and when that there is news."""

    async def __anext__(self) -> bytes:
        listener = self._listener
        if self._mark is None:
            self._mark = (await listener.pulse()).mark
            return HELLO
        while True:
            with trio.move_on_after(_TICK_S):
                await listener.stop.wait()
            if self._watch is None or listener.stop.is_set() or not listener.stays():
                raise StopAsyncIteration
            now = trio.current_time()
            if said := await self._say(self._watch, now):
                self._heard_at = now
                return said

    async def _say(self, watch: Watch, now: float) -> bytes | None:
        if watch.take():
            self._settles_at = now + SETTLED_S
        elif now >= self._settles_at:
            self._settles_at = float("inf")
        elif now - self._heard_at < SSE_COMMENT_S:
            return None
        else:
            pulse = await self._listener.pulse()
            is_old = pulse.mark != self._mark or now - self._said_at >= pulse.every_s
            self._mark = pulse.mark
            if not is_old:
                return STILL
        self._said_at = now
        return NEWS

    def end(self) -> None:
        """Give back its place, however often it is called."""
        watch, self._watch = self._watch, None
        if watch is not None:
            self._news.end(watch)
            self._listeners.take(self._listener.who)

    sent = end
    """All of it is sent, and so it is over."""

    async def aclose(self) -> None:
        """End it."""
        self.end()
        await trio.lowlevel.checkpoint()
