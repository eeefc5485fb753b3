"""The command that shows what operators of a running server have done."""

from collections.abc import Iterator
from difflib import get_close_matches

import click
from rich.table import Table

from bunqueue_trio.cli.listing import show_table
from bunqueue_trio.cli.many import refuse_no_time
from bunqueue_trio.cli.remote import DURATION, at, json_of, json_option, now_ms, pages, with_server
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.pages import acts
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.lines import Action

# A server gives no more at once.
PAGE_MAX = 1000
COLUMNS = ("when", "who", "what", "of", "how", "changed")
"""Of the table; the help explains each."""


@click.command()
@with_server
@click.option("--who", metavar="NAME", default="", help="Only what this token or address did.")
@click.option(
    "--what",
    "kind",
    metavar="WHAT",
    default="",
    help="Only this command, as the table names it: pause, 'limit --rate'.",
)
@click.option(
    "--of",
    "about",
    metavar="NAME",
    default="",
    help="Only what was done to this queue, job, worker, schedule or group of errors.",
)
@click.option("--newer", type=DURATION, metavar="TIME", help="Only at most this long ago: 10m, 2h, 7d.")
@click.option("--older", type=DURATION, metavar="TIME", help="Only at least this long ago.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, metavar="N", help="Show at most N."
)
@json_option
def actions(
    url: str, token: str | None, *, who: str, kind: str, about: str, newer: int | None, older: int | None, limit: int,
    as_json: bool,
) -> None:  # fmt: skip
    """List what operators have done, newest first.

    \b
    when     on the clock here
    who      the name of the token, or the address, and from where
    what     as this command line calls it
    of       the queue, job, worker or schedule
    how      what was said, and what was there before
    changed  how many jobs or settings; of an act that took several steps all that they have changed
    """
    refuse_no_time(older, newer)
    _refuse_no_kind(kind)
    now = now_ms(url, token) if newer is not None or older is not None else 0
    since, until = None if newer is None else now - newer, None if older is None else now - older
    found: list[Action] = []
    is_filtered = bool(who or kind or about or newer is not None or older is not None)
    more = ""
    for act, total in _all(url, token, min(limit, PAGE_MAX)):
        if since is not None and act.at < since:
            break
        if (until is None or act.at <= until) and acts.is_wanted(act, who, kind, about):
            if len(found) == limit:
                more = f"the newest {limit:,}{'' if is_filtered else f' of {total:,}'}; --limit shows more"
                break
            found.append(act)
    if as_json:
        for act in found:
            click.echo(json_of(act))
    elif found:
        _show(found)
    if more:
        # Beside the output, which a program may read.
        click.echo(more, err=True)
    elif not (found or as_json):
        click.echo("nothing like that has been done" if is_filtered else "nothing has been done yet", err=True)


def _refuse_no_kind(kind: str) -> None:
    if kind and not acts.is_kind(kind):
        near = get_close_matches(kind, acts.KINDS, n=1)
        meant = f"; do you mean {near[0]!r}?" if near else ""
        raise click.BadParameter(f"{kind!r} is none of {', '.join(acts.KINDS)}{meant}", param_hint="--what")


def _all(url: str, token: str | None, size: int) -> Iterator[tuple[Action, int]]:
    """Yield the acts, and how many lines are kept of them."""
    for page in pages(url, token, c.Actions, limit=size):
        for act in page.actions:
            yield act, page.total


def _show(found: list[Action]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in COLUMNS:
        table.add_column(name, justify="right" if name == "changed" else "left", no_wrap=name != "how")
    for act in found:
        who = act.who if act.who == act.address else f"{act.who} ({act.address})"
        told = (at(act.at), who, acts.what(act), acts.of(act), acts.how(act, at), f"{act.count:,}")
        table.add_row(*map(printable, told))
    show_table(table)
