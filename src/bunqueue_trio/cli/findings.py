"""The command that says what is wrong with a running server, worst first, and what helps."""

import json
import sys
from collections.abc import Iterator

import click
import msgspec

from bunqueue_trio.cli.remote import at, json_option, page_of, with_server
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.pages.findings import Finding
from bunqueue_trio.pages.gathered import Many, gathered
from bunqueue_trio.pages.words import count, span

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
        # A newer server may say more of each.
        for i, each in enumerate(gathered(msgspec.convert(shown, list[Finding]))):
            if i:
                click.echo()
            _show_many(each, told["now"]) if isinstance(each, Many) else _show(each, told["now"])
        if not found:
            click.echo("Nothing needs you.")
    if len(found) > len(shown):
        click.echo(f"the worst {len(shown):,} of {len(found):,}; --limit shows more", err=True)
    if any(each["severity"] in _TELLS for each in found):
        sys.exit(1)


def _head(severity: str, title: str) -> None:
    click.echo(f"{click.style(f'{severity:<9}', _COLORS.get(severity), bold=True)} {printable(title)}")


def _show(each: Finding, now: int) -> None:
    """Print one: what it is in the first line, the rest below it."""
    _head(each.severity, each.title)
    for text in _rest(each, now):
        click.echo(_INDENT + printable(text))


def _show_many(many: Many, now: int) -> None:
    """Print those of many queues as one: what is said of each, with the first line that helps it, and what helps all."""
    _head(many.severity, many.title)
    same = set.intersection(*(set(each.commands) for _, each in many.shown))
    for says, each in many.shown:
        click.echo(_INDENT + printable(f"{each.queue}: {says}; {_when(each.since, each.until, now)}".rstrip("; ")))
        for command in [command for command in each.commands if command not in same][:1]:
            click.echo(f"{_INDENT}  $ {printable(command)}")
    others = len(many.folded) + many.more
    if others:
        click.echo(f"{_INDENT}and {count(others, 'queue')} more: --json has all of them")
    if many.remedy:
        click.echo(_INDENT + many.remedy)
    for command in many.shown[0][1].commands:
        if command in same:
            click.echo(f"{_INDENT}$ {printable(command)}")


def _rest(each: Finding, now: int) -> Iterator[str]:
    when = _when(each.since, each.until, now)
    if when:
        yield when
    yield from filter(None, (each.cause, each.evidence, each.remedy))
    for command in each.commands:
        yield f"$ {command}"


def _when(since: int | None, until: int | None, now: int) -> str:
    """Say since when it is so, or from when to when it was."""
    if until is None:
        return "" if since is None else f"since {at(since)}, for {span(now - since)}"
    over = f"over since {at(until)}, {span(now - until)} ago"
    return over if since in (None, until) else f"from {at(since)}; {over}"
