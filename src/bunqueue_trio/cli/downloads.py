"""What a running server is asked to tell all of: the jobs of a filter, and the events of some time."""

import json
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import click
import httpx

from bunqueue_trio.cli.many import with_filter
from bunqueue_trio.cli.remote import connect, json_option, now_ms, refuse_other, unreachable, with_server
from bunqueue_trio.cli.slips import tell_if_unknown
from bunqueue_trio.cli.watch import show_event
from bunqueue_trio.logs.printable import printable_json
from bunqueue_trio.pages.moments import HELP, past_moment
from bunqueue_trio.protocol.events import EVENT_TYPES
from bunqueue_trio.protocol.numbers import integer
from bunqueue_trio.protocol.routes import path_of_page

_USUAL_MS = 15 * 60_000
# A server that looks through millions of jobs of which it sends none says nothing for some seconds.
_PARTS_S = 120.0


@click.command()
@with_server
@with_filter
def export(url: str, token: str | None, wanted: dict[str, Any]) -> None:
    """Write all jobs that a filter describes to standard output, as JSON, a job a line.

    They come as they are looked at, however many there are, and cost the server little at once. Without a filter it is all jobs. One that changes its state
    or its queue meanwhile may be missing, or there twice.
    Exit code 1 when it broke off: what was written is a part then.
    """
    is_any = False
    for line in _lines(_parts(url, token, "export", wanted)):
        sys.stdout.write(printable_json(line) + "\n")
        is_any = True
    sys.stdout.flush()
    if not is_any:
        tell_if_unknown(url, token, *wanted.get("queue", ()))


@click.command()
@with_server
@click.option(
    "--since",
    metavar="TIME",
    help="What happened since then: 02:05, 2026-11-30 02:05, or 15m for as long ago, which it is unless you say.",
)
@click.option("--until", metavar="TIME", help="What happened before then; unless you say: before now.")
@click.option("--queue", metavar="QUEUE", help="Only the events of this queue.")
@click.option(
    "--type",
    "types",
    multiple=True,
    type=click.Choice(sorted(EVENT_TYPES)),
    metavar="TYPE",
    help=f"Only events of this type; may be repeated. One of {', '.join(sorted(EVENT_TYPES))}.",
)
@click.option("--job", metavar="ID", help="Only the events of this job.")
@click.option("--data", "with_data", is_flag=True, help="Show payloads too.")
@json_option
def events(
    url: str, token: str | None, since: str | None, until: str | None, queue: str | None, types: tuple[str, ...], job: str | None,
    *, with_data: bool, as_json: bool,
) -> None:  # fmt: skip
    """Show what happened to jobs in some time of the past, oldest first, as far as events are kept.

    Clock times are those of this machine. What happens from now on shows `watch`.
    """
    now = now_ms(url, token)
    end = _moment(until, now, "until") if until is not None else now + 1
    begin = _moment(since, now, "since") if since is not None else end - _USUAL_MS
    if begin >= end:
        raise click.UsageError("that ends before it begins: --since must be before --until")
    asked: dict[str, Any] = {"from": begin, "to": end, "queue": queue, "jobId": job, "types": ",".join(types) or None}
    is_any = False
    for line in _lines(_parts(url, token, "event-log", asked)):
        is_any = True
        if as_json:
            click.echo(printable_json(line))
        else:
            show_event(json.loads(line, parse_int=integer), with_data=with_data)
    if not is_any and queue is not None:
        tell_if_unknown(url, token, queue)


def _moment(text: str, now: int, name: str) -> int:
    try:
        return past_moment(text, now, None)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time {HELP}", param_hint=f"--{name}") from None


def _parts(url: str, token: str | None, page: str, asked: dict[str, Any]) -> Iterator[bytes]:
    """Yield the lines of a page as the server sends them, cut anywhere; raises as :func:`answer`, also where they break off in the middle."""
    said = urlencode({name: value for name, value in asked.items() if value is not None}, doseq=True)
    path = path_of_page(page) + (f"?{said}" if said else "")
    with connect(url, token, _PARTS_S) as client:
        try:
            with client.stream("GET", path) as response:
                refuse_other(url, response, "application/x-ndjson")
                part = b"\n"
                for part in response.iter_bytes():
                    yield part
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise unreachable(url, error) from None
    if not part.endswith(b"\n"):
        raise click.ClickException(f"{url}: broke off in the middle of a line")


def _lines(parts: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "replace")
