"""Slips in the name of a queue: whoever names one that is not there hears of it, and which one was probably meant."""

from collections.abc import Iterator
from difflib import get_close_matches
from itertools import islice
from typing import Any

import click

from bunqueue_trio.cli.remote import answer, pages
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.protocol.request import segment_of

LOOKED_MAX = 10_000  # names that are compared


def is_unknown(view: dict[str, Any]) -> bool:
    """Return whether a queue, as the API has it, is one that nobody has used."""
    return not (
        any(view["counts"].values())
        or view["paused"]
        or view["pullsWaiting"]
        or view["concurrency"]
        or view["rateLimit"]
    )


def tell_unknown(url: str, token: str | None, view: dict[str, Any], then: str = "") -> None:
    """Say that there is no such queue, if there is none: a slip in its name would go unnoticed."""
    if is_unknown(view):
        # A queue that has been paused or limited since is there now.
        others = (name for name in islice(_names(url, token), LOOKED_MAX) if name != view["name"])
        near = get_close_matches(view["name"], list(others), n=1)
        meant = f"; do you mean {near[0]}?" if near else ""
        # Beside the output, which a program may read.
        click.echo(printable(f"{view['name']}: there is no such queue{then}{meant}"), err=True)


def tell_if_unknown(url: str, token: str | None, *queues: str) -> None:
    """Ask for queues, and do as :func:`tell_unknown` does."""
    for queue in queues:
        tell_unknown(url, token, answer(url, token, "GET", f"/queues/{segment_of(queue)}")["queue"])


def _names(url: str, token: str | None) -> Iterator[str]:
    for page in pages(url, token, "/queues", limit=1000):
        yield from page["queues"]
