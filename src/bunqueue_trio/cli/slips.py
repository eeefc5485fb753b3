"""Slips in the name of a queue: whoever names one that is not there hears of it, and which one was probably meant.

What changes something that is there refuses it: it would have done nothing, and said so as of a success. What holds for jobs to
come does it, and says it beside the output, as does what only looks.
"""

from collections.abc import Iterator
from difflib import get_close_matches
from itertools import islice

import click

from bunqueue_trio.cli.remote import answer, pages
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.queue_replies import QueueView

# Names that are compared.
LOOKED_MAX = 10_000


def is_unknown(view: QueueView) -> bool:
    """Return whether a queue is one that nobody has used."""
    return not (
        any(view.counts.values())
        or view.paused
        or view.pulls_waiting
        or view.concurrency
        or view.rate_limit
        or view.set
    )


def tell_unknown(url: str, token: str | None, view: QueueView, then: str = "") -> None:
    """Say that there is no such queue, if there is none: a slip in its name would go unnoticed."""
    if is_unknown(view):
        # Beside the output, which a program may read.
        click.echo(_slip(url, token, view.name, then), err=True)


def tell_if_unknown(url: str, token: str | None, *queues: str) -> None:
    """Ask for queues, and do as :func:`tell_unknown` does."""
    for queue in queues:
        tell_unknown(url, token, _view(url, token, queue))


def refuse_unknown(url: str, token: str | None, *queues: str) -> None:
    """Let nothing be done to a queue that is not there.

    Raises:
        ClickException: there is no such queue.
    """
    for queue in queues:
        if is_unknown(_view(url, token, queue)):
            raise click.ClickException(_slip(url, token, queue, ""))


def _view(url: str, token: str | None, queue: str) -> QueueView:
    return answer(url, token, c.GetQueue, queue=queue).queue


def _slip(url: str, token: str | None, queue: str, then: str) -> str:
    # A queue that has been paused or limited since is there now.
    others = (name for name in islice(_names(url, token), LOOKED_MAX) if name != queue)
    near = get_close_matches(queue, list(others), n=1)
    return printable(f"{queue}: there is no such queue{then}{f'; do you mean {near[0]}?' if near else ''}")


def _names(url: str, token: str | None) -> Iterator[str]:
    for page in pages(url, token, c.ListQueues, limit=1000):
        yield from page.queues
