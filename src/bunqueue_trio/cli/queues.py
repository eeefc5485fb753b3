"""Commands about the queues of a running server: what is in them, and whether they are paused or limited."""

import json
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from bunqueue_trio.cli.remote import answer, at, pages, segment, with_server
from bunqueue_trio.config import parse_duration_ms
from bunqueue_trio.logs.printable import printable

_EPOCH_MS_MIN = 10**11  # a number of ms as large as that is a moment; as a duration it would be three years
_STATES = ("waiting", "delayed", "waiting-children", "active", "completed", "failed")
COLUMNS = (*_STATES, "oldest", "pulls", "at once", "paused")
"""Of the table, after the name; the help explains each."""
_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"))


class Moment(click.ParamType[tuple[int, bool]]):
    """A time from now, as in the settings, or a date and time; the ms, and whether they are from now on."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, bool]:  # fmt: skip
        """Return the ms, and whether they count from now."""
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]
        try:
            ms = parse_duration_ms(value)
        except ValueError:
            pass  # then it is a date, or nothing
        else:
            return ms, ms < _EPOCH_MS_MIN
        try:
            return round(datetime.fromisoformat(value).timestamp() * 1000), False
        except (ValueError, OverflowError, OSError):
            self.fail(
                f"{value!r} must be a time from now, such as 10m or 2h, or a date, such as 2030-01-01T08:00", param, ctx
            )


@click.command()
@with_server
@click.argument("queue", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print an object a line, as the server has it.")
def queues(url: str, token: str | None, queue: str | None, *, as_json: bool) -> None:
    """Show what is in the queues of a running server, or in QUEUE alone.

    \b
    waiting           jobs that a worker can take
    delayed           jobs that wait for their time, or for the next attempt
    waiting-children  jobs that wait for others that they depend on
    active            jobs that workers have
    completed         jobs that are done, as far as they are kept
    failed            dead letters: jobs that failed for good
    oldest            for how long the oldest waiting job has been waiting
    pulls             pulls that wait for a job right now; 0: no worker is free, or none is there
    at once           how many jobs may be active (see `limit`); empty: any number
    paused            since when, until when and why nothing is delivered (see `pause`); empty: it is not paused
    """
    found: Iterable[dict[str, Any]]
    if queue is None:
        found = (each for page in pages(url, token, "/queues", details="true") for each in page["details"])
    else:
        found = [answer(url, token, "GET", f"/queues/{segment(queue)}")["queue"]]
    if as_json:
        for each in found:
            click.echo(json.dumps(each))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("queue", no_wrap=True)
    for name in COLUMNS[:-1]:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(COLUMNS[-1])
    now = _now_ms(url, token)
    for each in found:
        oldest = each["oldestReadyAt"]
        table.add_row(
            printable(each["name"]), *(f"{each['counts'][state]:,}" for state in _STATES),
            "" if oldest is None else _age(now - oldest), f"{each['pullsWaiting']:,}",
            "" if each["concurrency"] is None else f"{each['concurrency']:,}", printable(_why(each["pause"])),
        )  # fmt: skip
    # A pipe has no width: what reads it wants whole lines.
    Console(file=sys.stdout, highlight=False, markup=False, width=None if sys.stdout.isatty() else 10_000).print(table)


@click.command()
@with_server
@click.argument("queue")
@click.option("--reason", metavar="TEXT", help="Why; `queues` shows it.")
@click.option(
    "--until", type=Moment(), metavar="TIME",
    help="Resume by itself after this time (10m, 2h), or at a date (2030-01-01T08:00, local time).",
)  # fmt: skip
def pause(url: str, token: str | None, queue: str, *, reason: str | None, until: tuple[int, bool] | None) -> None:
    """Stop delivering jobs of QUEUE. Pushes are still accepted, and active jobs go on.

    The pause lasts over restarts of the server, until `resume` or --until. A second pause replaces the first.
    """
    body: dict[str, Any] = {} if reason is None else {"reason": reason}
    if until is not None:
        ms, from_now = until
        body["until"] = ms + _now_ms(url, token) if from_now else ms
    answer(url, token, "POST", f"/queues/{segment(queue)}/pause", msgspec.json.encode(body))
    click.echo(printable(f"{queue}: paused{_until(body.get('until'))}"))


@click.command()
@with_server
@click.argument("queue")
def resume(url: str, token: str | None, queue: str) -> None:
    """Deliver the jobs of QUEUE again. Nothing happens if it is not paused."""
    answer(url, token, "POST", f"/queues/{segment(queue)}/resume")
    click.echo(printable(f"{queue}: resumed"))


@click.command(context_settings={"ignore_unknown_options": True})  # so that -1 is a wrong number
@with_server
@click.argument("queue")
@click.argument("number", metavar="N")
def limit(url: str, token: str | None, queue: str, number: str) -> None:
    """Allow at most N active jobs of QUEUE; `any` removes the limit.

    It lasts over restarts of the server. When the number falls, active jobs stay with their workers.
    """
    path = f"/queues/{segment(queue)}/concurrency"
    if number == "any":
        answer(url, token, "DELETE", path)
    elif number.isascii() and number.isdigit():
        answer(url, token, "PUT", path, msgspec.json.encode({"concurrency": int(number[:20])}))
    else:
        raise click.BadParameter(f"{number!r} must be a number from 1 on, or `any` for no limit", param_hint="N")
    said = answer(url, token, "GET", path)
    allowed = "any number" if said["concurrency"] is None else f"{said['concurrency']:,}"
    click.echo(printable(f"{queue}: {allowed} at once, {said['active']:,} now"))


def _now_ms(url: str, token: str | None) -> int:
    """Return what time it is at the server: only its clock counts."""
    return int(answer(url, token, "GET", "/ping")["data"]["time"])


def _why(pause: dict[str, Any] | None) -> str:
    if pause is None:
        return ""
    return f"since {at(pause['since'])}{_until(pause['until'])}{': ' if pause['reason'] else ''}{pause['reason'] or ''}"


def _until(ms: int | None) -> str:
    return "" if ms is None else f" until {at(ms)}"


def _age(ms: int) -> str:
    """Return a time in its largest unit."""
    return next((f"{ms // unit}{name}" for unit, name in _UNITS if ms >= unit), f"{max(0, ms)}ms")
