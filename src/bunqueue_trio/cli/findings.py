"""The command that says what is wrong with a running server, worst first, and what helps."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import click

from bunqueue_trio.cli.remote import at, json_option, page_of, with_server
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.pages.words import span

_TELLS = frozenset({"critical", "warning"})
"""How bad something has to be for the exit code to say so."""
_COLORS = {"critical": "red", "warning": "yellow"}
_INDENT = " " * 10


@click.command()
@with_server
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Show at most N; all unless you say.")
@json_option
def findings(url: str, token: str | None, *, limit: int | None, as_json: bool) -> None:
    """Say what is wrong with a running server, worst first: since when, why, and the commands that help.

    Exit codes, for cron and probes: 0 if nothing is worse than a notice, 1 if there is a warning or something critical, or if
    the server cannot be asked.
    """
    told = page_of(url, token, "findings")
    found = told["findings"]
    shown = found if limit is None else found[:limit]
    if as_json:
        for each in shown:
            click.echo(json.dumps(each))
    else:
        for i, each in enumerate(shown):
            if i:
                click.echo()
            _show(each, told["now"])
        if not found:
            click.echo("Nothing needs you.")
    if len(found) > len(shown):
        click.echo(f"the worst {len(shown):,} of {len(found):,}; --limit shows more", err=True)
    if any(each["severity"] in _TELLS for each in found):
        sys.exit(1)


def _show(each: dict[str, Any], now: int) -> None:
    """Print one: what it is in the first line, the rest below it."""
    severity = each["severity"]
    click.echo(f"{click.style(f'{severity:<9}', _COLORS.get(severity), bold=True)} {printable(each['title'])}")
    for text in _rest(each, now):
        click.echo(_INDENT + printable(text))


def _rest(each: dict[str, Any], now: int) -> Iterator[str]:
    when = _when(each["since"], each["until"], now)
    if when:
        yield when
    # A server before these had fewer fields.
    yield from (each[name] for name in ("cause", "evidence", "remedy") if each.get(name))
    for command in each.get("commands", ()):
        yield f"$ {command}"


def _when(since: int | None, until: int | None, now: int) -> str:
    """Say since when it is so, or from when to when it was."""
    if until is None:
        return "" if since is None else f"since {at(since)}, for {span(now - since)}"
    over = f"over since {at(until)}, {span(now - until)} ago"
    return over if since in (None, until) else f"from {at(since)}; {over}"
