"""Live events of a running server in the terminal; after a gap in the connection it goes on where it was."""

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import click
import httpx
from rich.console import Console
from rich.text import Text

from bunqueue_trio.cli.remote import DURATION, connect, json_option, refuse_other, unreachable, with_server
from bunqueue_trio.cli.slips import tell_if_unknown
from bunqueue_trio.logs.printable import printable, printable_json
from bunqueue_trio.protocol.events import ALL_TYPES, EVENT_TYPES
from bunqueue_trio.protocol.numbers import integer
from bunqueue_trio.protocol.routes import path_of_page

# The server says something every 15 s; three times nothing is a dead connection.
_SILENCE_S = 45.0
# A restart takes a second.
_AGAIN_S = (0.2, 1.0, 3.0)
_STYLES = {"completed": "green", "failed": "red", "stalled": "yellow", "removed": "magenta", "retried": "yellow"}
_EXTRAS = ("error", "progress", "prev", "delay", "reason", "until", "count", "worker", "name")


@click.command()
@with_server
@click.option("--queue", metavar="QUEUE", help="Only the events of this queue.")
@click.option(
    "--type", "types", multiple=True, type=click.Choice(sorted(ALL_TYPES)), metavar="TYPE",
    help=f"Only events of this type; may be repeated. One of {', '.join(sorted(ALL_TYPES))}.",
)  # fmt: skip
@click.option(
    "--since", type=DURATION, metavar="TIME",
    help="First what has happened in this time, as far as it is kept: 10m, 2h; then what happens.",
)  # fmt: skip
@click.option("--data", "with_data", is_flag=True, help="Show payloads too.")
@json_option
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N events.")
def watch(
    url: str, token: str | None, queue: str | None, types: tuple[str, ...], *, since: int | None,
    with_data: bool, as_json: bool, count: int | None,
) -> None:  # fmt: skip
    """Show what happens to jobs, as it happens. Ctrl-C ends it.

    When the connection is lost it is made again, and what was missed meanwhile is shown as far as the
    server keeps it. Exit code 1 when the server refuses, or cannot be reached at the start.
    """
    path = path_of_page("events") if queue is None else path_of_page("events", queue=queue)
    if queue is not None:
        tell_if_unknown(url, token, queue)
    asked = {} if since is None else {"since": str(since)}
    if set(types) - EVENT_TYPES:
        asked["types"] = ",".join(types)
    if asked:
        path += "?" + "&".join(f"{name}={value}" for name, value in asked.items())
    shown = 0
    try:
        for body in _events(url, token, path):
            event = json.loads(body, parse_int=integer)
            if "gap" in event:
                why = "cannot be read: the file is damaged" if event.get("damaged") else "are not kept any more"
                click.echo(f"events {event['after'] + 1} to {event['oldest'] - 1} {why}", err=True)
            if "eventType" not in event or (types and event["eventType"] not in types):
                continue
            if as_json:
                click.echo(printable_json(body))
            else:
                show_event(event, with_data=with_data)
            shown += 1
            if shown == count:
                return
    except KeyboardInterrupt:
        return


def show_event(event: dict[str, Any], *, with_data: bool) -> None:
    """Print a line of an event: when, what, of which queue and job, and what goes with it."""
    Console(file=sys.stdout, highlight=False, soft_wrap=True).print(_line(event, with_data=with_data))


def _line(event: dict[str, Any], *, with_data: bool) -> Text:
    kind = event["eventType"]
    at = time.strftime("%H:%M:%S", time.localtime(event["timestamp"] / 1000))
    text = Text.assemble(
        (f"{at}.{event['timestamp'] % 1000:03d}", "dim"), "  ",
        (f"{printable(kind):<16}", _STYLES.get(kind, "cyan")), "  ", printable(event.get("queue", "")), "  ",
        (printable(event.get("jobId", "")), "bold"),
    )  # fmt: skip
    names = (*_EXTRAS, "data") if with_data else _EXTRAS
    for name in names:
        if name in event:
            value = event[name] if isinstance(event[name], str) else json.dumps(event[name], ensure_ascii=False)
            text.append(printable(f"  {name}={value!r}" if isinstance(event[name], str) else f"  {name}={value}"))
    return text


def _events(url: str, token: str | None, path: str) -> Iterator[str]:
    """Yield the bodies of the events, for ever.

    Raises:
        ClickException: the server refuses, or was never reached.
    """
    last_id: str | None = None
    connected = False
    failures = 0
    with connect(url, token) as client:
        client.timeout = httpx.Timeout(10.0, read=_SILENCE_S)
        while True:
            try:
                headers = {} if last_id is None else {"Last-Event-ID": last_id}
                with client.stream("GET", path, headers=headers) as response:
                    refuse_other(url, response, "text/event-stream")
                    connected = True
                    for name, value in _fields(response):
                        failures = 0
                        if name == "id":
                            last_id = value
                        elif name == "data":
                            yield value
            except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
                if not connected:
                    raise unreachable(url, error) from None
            if not failures:
                click.echo("connection lost, trying again", err=True)
            time.sleep(_AGAIN_S[min(failures, len(_AGAIN_S) - 1)])
            failures += 1


def _fields(response: httpx.Response) -> Iterator[tuple[str, str]]:
    """Yield the fields of a stream of events; each event of ours has one line of data, after its id."""
    rest = b""
    for chunk in response.iter_bytes():
        # By line feeds only: httpx's own lines also end at U+2028, which may stand in a payload.
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            name, _, value = line.decode("utf-8", "replace").partition(":")
            if name:
                yield name, value.removeprefix(" ")
