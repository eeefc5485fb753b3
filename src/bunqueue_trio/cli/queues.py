"""Commands about the queues of a running server: what is in them, and whether they are paused or limited."""

from collections.abc import Iterable
from datetime import datetime
from itertools import islice
from typing import Any

import click
from msgspec import structs
from rich.table import Table

from bunqueue_trio.cli.listing import show_table
from bunqueue_trio.cli.remote import answer, at, json_of, json_option, now_ms, pages, say, with_server
from bunqueue_trio.cli.slips import refuse_unknown, tell_unknown
from bunqueue_trio.config import parse_duration_ms, parse_typed_ms
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.pages.words import count, span, typed_ms, whole
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.queue_replies import LatelyView, PauseView, QueueView, RateView

# A number of ms as large as that is a moment; as a duration it would be three years.
_EPOCH_MS_MIN = 10**11
_STATES = ("waiting", "delayed", "waiting-children", "active", "completed", "failed")
COLUMNS = (*_STATES, "oldest", "pulls", "at once", "rate", "paused")
"""Of the table, after the name; the help explains each."""
FLOW = ("in/min", "out/min", "in/h", "out/h", "p50", "p95")
"""What `--wide` adds before the last of them."""
UNLIMITED = ("none", "any")
"""The words that remove a limit: the one of all commands, and the older one."""


class Moment(click.ParamType[tuple[int, bool] | datetime]):
    """A time from now, as in the settings, or a date and time; the ms, and whether they are from now on.

    With ``zoned`` a date and time that says no zone stays one: the zone is said elsewhere.
    """

    name = "time"

    def __init__(self, *, zoned: bool = False) -> None:
        self._zoned = zoned

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, bool] | datetime:
        """Return the ms, and whether they count from now; or the date and time."""
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]
        try:
            ms = parse_duration_ms(value)
        except ValueError:
            # Then it is a date, or nothing.
            pass
        else:
            if ms >= _EPOCH_MS_MIN:
                return ms, False
            try:
                return parse_typed_ms(value), True
            except ValueError as error:
                self.fail(f"{value!r} {error}", param, ctx)
        try:
            when = datetime.fromisoformat(value)
            return when if self._zoned and when.tzinfo is None else (round(when.timestamp() * 1000), False)
        except (ValueError, OverflowError, OSError):
            self.fail(
                f"{value!r} must be a time from now, such as 10m or 2h, or a date, such as 2030-01-01T08:00", param, ctx
            )


@click.command()
@with_server
@click.argument("queue", required=False)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Show at most N; all unless you say.")
@click.option("--wide", is_flag=True, help="Also how many came and went lately, and how long they ran.")
@json_option
def queues(url: str, token: str | None, queue: str | None, *, limit: int | None, wide: bool, as_json: bool) -> None:
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
    rate              how many may be delivered in which time (see `limit --rate`); empty: any number
    in, out           with --wide: jobs that came, and that completed or died, in the last minute and hour
    p50, p95          with --wide: half of the last hour's jobs ran for no longer, 95 of 100; empty: none has
    paused            since when, until when and why nothing is delivered (see `pause`); empty: it is not paused
    """
    found: Iterable[QueueView]
    if queue is None:
        found = (each for page in pages(url, token, c.ListQueues, details=True) for each in page.details or ())
    else:
        view = answer(url, token, c.GetQueue, queue=queue).queue
        tell_unknown(url, token, view)
        found = [view]
    found = islice(found, limit)
    if as_json:
        for each in found:
            click.echo(json_of(each))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("queue", no_wrap=True)
    for name in (*COLUMNS[:-1], *(FLOW if wide else ())):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(COLUMNS[-1])
    now = now_ms(url, token)
    for each in found:
        oldest = each.oldest_ready_at
        table.add_row(
            printable(each.name), *(f"{each.counts[state]:,}" for state in _STATES),
            "" if oldest is None else span(now - oldest), f"{each.pulls_waiting:,}",
            "" if each.concurrency is None else f"{each.concurrency:,}", _rate(each.rate_limit),
            *(_flow(each.lately) if wide else ()), printable(_why(each.pause)),
        )  # fmt: skip
    show_table(table)


def _flow(lately: LatelyView | None) -> tuple[str, ...]:
    if lately is None:
        return ("",) * len(FLOW)
    counts = (lately.minute.in_, lately.minute.out, lately.hour.in_, lately.hour.out)
    runs = (lately.p50, lately.p95)
    return (*(f"{n:,}" for n in counts), *("" if ms is None else span(ms) for ms in runs))


@click.command()
@with_server
@click.argument("queue")
@click.option("--reason", metavar="TEXT", help="Why; `queues` shows it.")
@click.option(
    "--until", type=Moment(), metavar="TIME",
    help="Resume by itself after this time (10m, 2h), or at a date (2030-01-01T08:00, local time).",
)  # fmt: skip
@json_option
def pause(
    url: str, token: str | None, queue: str, *, reason: str | None, until: tuple[int, bool] | None, as_json: bool
) -> None:
    """Stop delivering jobs of QUEUE. Pushes are still accepted, and active jobs go on.

    The pause stays when the server restarts, and ends with `resume` or --until. A second pause replaces the first.
    """
    before = answer(url, token, c.GetQueue, queue=queue).queue
    body: dict[str, Any] = {} if reason is None else {"reason": reason}
    if until is not None:
        ms, from_now = until
        body["until"] = ms + now_ms(url, token) if from_now else ms
    reply = answer(url, token, c.Pause, queue=queue, **body)
    say(f"{queue}: paused{_until(body.get('until'))}", reply, as_json=as_json)
    tell_unknown(url, token, before, " yet; jobs that come to it will wait")


@click.command()
@with_server
@click.argument("queue")
@json_option
def resume(url: str, token: str | None, queue: str, *, as_json: bool) -> None:
    """Deliver the jobs of QUEUE again, if it is paused."""
    refuse_unknown(url, token, queue)
    reply = answer(url, token, c.Resume, queue=queue)
    say(f"{queue}: resumed", reply, as_json=as_json)


class PerTime(click.ParamType[tuple[int, int] | str]):
    """A number for a time, such as 100/60s; the number and the ms. `none`: no limit."""

    name = "rate"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int] | str:  # fmt: skip
        """Return the number and the ms, or a word for no limit."""
        if not isinstance(value, str) or value in UNLIMITED:
            return value  # type: ignore[no-any-return]
        number, _, time = value.partition("/")
        try:
            if time and number.isascii() and number.isdigit():
                return int(number[:20]), parse_typed_ms(time if time[:1].isdigit() else f"1{time}")
        except ValueError:
            # Told below.
            pass
        return self.fail(f"{value!r} must be a number for a time, such as 100/60s or 5/h, or `none`", param, ctx)


# So that -1 is a wrong number.
@click.command(context_settings={"ignore_unknown_options": True})
@with_server
@click.argument("queue")
@click.argument("number", metavar="[N]", required=False)
@click.option(
    "--rate", type=PerTime(), metavar="N/TIME",
    help="Deliver at most N jobs in any TIME, such as 100/60s or 5/h; `none` removes this limit.",
)  # fmt: skip
@json_option
def limit(
    url: str, token: str | None, queue: str, *, number: str | None, rate: tuple[int, int] | str | None, as_json: bool
) -> None:
    """Allow at most N active jobs of QUEUE, or N deliveries in a time; `none` removes a limit. Shows both.

    Limits stay when the server restarts. With a lower number, active jobs stay with their workers.
    """
    said = {number, rate} - {None}
    if said and said <= set(UNLIMITED):
        refuse_unknown(url, token, queue)
    if number is not None:
        _limit(url, token, queue, number)
    if isinstance(rate, str):
        answer(url, token, c.RateLimitClear, queue=queue)
    elif rate is not None:
        answer(url, token, c.RateLimit, queue=queue, limit=rate[0], duration=rate[1])
    seen = answer(url, token, c.GetQueue, queue=queue).queue
    allowed = "any number" if seen.concurrency is None else f"{seen.concurrency:,}"
    text = f"{queue}: {allowed} at once, {seen.counts['active']:,} now{_per_time(seen.rate_limit)}"
    say(text, {"name": seen.name, "concurrency": seen.concurrency, "rateLimit": seen.rate_limit}, as_json=as_json)
    tell_unknown(url, token, structs.replace(seen, concurrency=None, rate_limit=None), " yet" if number or rate else "")


def _limit(url: str, token: str | None, queue: str, number: str) -> None:
    if number in UNLIMITED:
        answer(url, token, c.ClearConcurrency, queue=queue)
    elif number.isascii() and number.isdigit():
        answer(url, token, c.SetConcurrency, queue=queue, concurrency=int(number[:20]))
    else:
        raise click.BadParameter(f"{number!r} must be a number from 1 on, or `none` for no limit", param_hint="N")


def _per_time(rate: RateView | None) -> str:
    return (
        "; any rate" if rate is None else f"; {count(rate.limit, 'delivery', 'deliveries')} in {whole(rate.duration)}"
    )


def _rate(rate: RateView | None) -> str:
    return "" if rate is None else f"{rate.limit:,}/{typed_ms(rate.duration)}"


def _why(pause: PauseView | None) -> str:
    if pause is None:
        return ""
    by = f" by {pause.by}" if pause.by else ""
    return f"since {at(pause.since)}{by}{_until(pause.until)}{': ' if pause.reason else ''}{pause.reason or ''}"


def _until(ms: int | None) -> str:
    return "" if ms is None else f" until {at(ms)}"
