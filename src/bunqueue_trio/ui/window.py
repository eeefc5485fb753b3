"""A window of time as somebody types it: ``02:05``, ``2026-11-30 02:05``, ``15m``; all clock times are UTC."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import urlencode

from bunqueue_trio.config import DAY_MS, MINUTE_MS
from bunqueue_trio.pages.moments import is_clock, past_moment
from bunqueue_trio.pages.words import whole
from bunqueue_trio.ui.ask import Wrong

USUAL_MS = 15 * MINUTE_MS
LONGEST_MS = DAY_MS


class Range(NamedTuple):
    """What happened from ``since`` on, and before ``until``; epoch ms."""

    since: int
    until: int
    is_open: bool
    """It ends now, whenever that is."""

    @property
    def end(self) -> int:
        """The first ms behind it: what happens now belongs to a window that is open."""
        return self.until + self.is_open

    @property
    def address(self) -> str:
        """The query of exactly this window, whenever it is opened."""
        begin, end = self.seconds
        return urlencode({"since": _text(begin), "until": _text(end)})

    @property
    def seconds(self) -> tuple[int, int]:
        """The whole seconds that it is within."""
        return self.since // 1000 * 1000, -(-self.end // 1000) * 1000

    def moved(self, ms: int) -> "Range":
        """Return the same window at another time."""
        return Range(self.since + ms, self.until + ms, is_open=False)


def read(given: Mapping[str, str], now: int) -> Range:
    """Return the window that somebody asks for: unless they say, the last quarter of an hour.

    Raises:
        Wrong: it is none, or too long.
    """
    begin, end = (given.get(name, "").strip() for name in ("since", "until"))
    until = _read(end, now) if end else now
    since = _read(begin, now) if begin else until - USUAL_MS
    if since >= until and is_clock(end) and since < now:
        # A time of today that is still to come.
        until = now
    if since >= until:
        raise Wrong(f"From {begin} until {end or 'now'}: that ends before it begins")
    if until - since > LONGEST_MS:
        raise Wrong(f"A window is {whole(LONGEST_MS)} long at most")
    return Range(since, until, not end)


def _read(text: str, now: int) -> int:
    try:
        return past_moment(text, now, UTC)
    except ValueError as error:
        raise Wrong(f"{text[:50]!r} {error}") from None


def _text(ms: int) -> str:
    at = datetime.fromtimestamp(ms // 1000, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
