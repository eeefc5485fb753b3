"""The command that shows what operators of a running server have done."""

import json
from typing import Any

import click

from bunqueue_trio.cli.remote import at, json_option, pages, with_server
from bunqueue_trio.cli.words import told
from bunqueue_trio.logs.printable import printable

PAGE_MAX = 1000  # a server gives no more at once


@click.command()
@with_server
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, metavar="N", help="Show at most N."
)
@json_option
def actions(url: str, token: str | None, *, limit: int, as_json: bool) -> None:
    """List what operators have done, newest first: when, who, from where, what, to what, and how many jobs it changed."""
    shown = 0
    for page in pages(url, token, "/actions", limit=min(limit, PAGE_MAX)):
        listed = page["actions"][: limit - shown]
        for each in listed:
            click.echo(json.dumps(each) if as_json else printable(_line(each)))
        shown += len(listed)
        if shown == limit:
            if page["total"] > shown:
                # Beside the output, which a program may read.
                click.echo(f"the newest {shown:,} of {page['total']:,}; --limit shows more", err=True)
            return
    if not (shown or as_json):
        click.echo("nothing has been done yet", err=True)


def _line(action: dict[str, Any]) -> str:
    who = action["who"] if action["who"] == action["address"] else f"{action['who']} ({action['address']})"
    where = " ".join(filter(None, (action["queue"], action["job"], action["worker"])))
    fields = " ".join(
        f"{name}={_field(name, value)}" for name, value in action["fields"].items() if value not in (None, {}, [])
    )
    return "  ".join(filter(None, (at(action["at"]), who, action["command"], where, fields, f"{action['count']:,}")))


def _field(name: str, value: Any) -> str:
    return f"({told(name, value)})" if isinstance(value, dict) else told(name, value)
