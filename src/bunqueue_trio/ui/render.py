"""Templates to text: compiled once, for the first page; what clients have put into names and payloads is escaped always."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

import trio
from jinja2 import DictLoader, Environment, StrictUndefined, Template
from markupsafe import Markup, escape

from bunqueue_trio.pages import words
from bunqueue_trio.protocol.request import segment_of
from bunqueue_trio.runtime.clock import local_text
from bunqueue_trio.ui import charts

# Pieces of a page before others are served: about a ms, with a chart among them.
PARTS_A_TURN = 200
# Which a long piece counts for one more for each of.
_PART_CHARS = 200


def clock_time(ms: int | None, zone: str = "UTC") -> str:
    """Return a moment as the clock of a zone shows it, in the form of the command line: ``2026-11-30 03:00:00+01:00``."""
    if ms is None:
        return ""
    try:
        return local_text(zone, ms // 1000 * 1000).replace("T", " ")
    except (ValueError, OverflowError, OSError):
        # A client may choose when a delay ends.
        return f"{ms} ms"


def ago(ms: int | None, now: int) -> Markup:
    """Return how long ago a moment was, or in how long it comes; the moment itself is beside it for who asks."""
    if ms is None:
        return Markup('<span class="none">–</span>')
    said = f"{_span(now - ms)} ago" if ms <= now else f"in {_span(ms - now)}"
    if abs(now - ms) < 1000:
        said = "now"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(_iso(ms), clock_time(ms), said)


def clock(ms: int, now: int, *, ms_too: bool = False) -> Markup:
    """Return a moment by the clock, with its date where that is another one than now; how long ago it was is beside it."""
    at = _utc(ms)
    if at is None:
        return Markup("{} ms").format(ms)
    today = _utc(now)
    said = at.strftime("%H:%M:%S") + (f".{ms % 1000:03}" if ms_too else "")
    if today is None or at.date() != today.date():
        said = f"{at:%Y-%m-%d} {said}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(_iso(ms), f"{_span(now - ms)} ago", said)


def few(n: float) -> str:
    """Return a rate: a part of one says something only below ten."""
    return "–" if not n else f"{n:,.0f}" if n >= 10 else f"{n:.1f}" if n >= 0.1 else "<0.1"


def _utc(ms: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _iso(ms: int) -> str:
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return ""


def plain(text: object) -> str:
    """Return a text without what steers how others are shown: directions of writing, and control characters."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def coded(text: str) -> Markup:
    """Return a text of ours with what stands between backticks as code."""
    parts = plain(text).split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in enumerate(parts)
    )


def number(n: float | None) -> str:
    """Return a number with its thousands apart."""
    return "–" if n is None else f"{n:,.0f}"


def _kept(text: str) -> str:
    """Return a time whose numbers stay with their units at the end of a line."""
    return re.sub(r"(?<=\d) (?=[a-z])", "\N{NO-BREAK SPACE}", text)


def _span(ms: float) -> str:
    return _kept(words.span(ms))


def _whole(ms: int) -> str:
    return _kept(words.whole(ms))


def _environment() -> Environment:
    folder = files("bunqueue_trio.ui").joinpath("templates")
    sources = {each.name: each.read_text("utf-8") for each in folder.iterdir() if each.name.endswith(".html")}
    made = Environment(
        loader=DictLoader(sources), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        auto_reload=False,
    )  # fmt: skip
    made.filters |= {
        "n": number, "few": few, "size": words.size, "span": _span, "whole": _whole, "at": clock_time, "segment": segment_of, "plain": plain, "coded": coded,
    }  # fmt: skip
    made.globals |= {
        "count": words.count,
        "rate": words.rate,
        "reached": words.reached,
        "area": charts.area,
        "bar": charts.bar,
        "ago": ago,
        "clock": clock,
    }
    return made


@cache
def templates() -> Mapping[str, Template]:
    """Return the pages by name. Blocks for a fifth of a second, once."""
    made = _environment()
    return {name: made.get_template(name) for name in made.list_templates()}


async def render(name: str, context: Mapping[str, Any]) -> bytes:
    """Return a page as UTF-8; lets others run while a long one is made, and while all of them are compiled for the first."""
    if not templates.cache_info().currsize:
        await trio.to_thread.run_sync(templates)  # noqa: TID251 - once
    parts: list[str] = []
    since = 0
    for part in templates()[name].generate(**context):
        parts.append(part)
        # Of long ones each character was looked at.
        since += 1 + len(part) // _PART_CHARS
        if since >= PARTS_A_TURN:
            since = 0
            await trio.lowlevel.checkpoint()
    # Payloads may hold half a surrogate pair, which UTF-8 cannot say.
    return "".join(parts).encode("utf-8", "replace")
