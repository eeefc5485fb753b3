"""Commands about the dead letters of a running server: what they are, and another try for them."""

import json
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any
from urllib.parse import quote, urlencode

import click
import msgspec

from bunqueue_trio.cli.remote import answer, with_server
from bunqueue_trio.logs.printable import printable


@click.command()
@with_server
@click.argument("queue")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="Print an object a line, as the server has it.")
def dead(url: str, token: str | None, queue: str, *, limit: int, as_json: bool) -> None:
    """Show the jobs of QUEUE that failed for good, newest first: when, id, why and the error."""
    for entry in islice(_all(url, token, queue, limit), limit):
        if as_json:
            click.echo(json.dumps(entry))
        else:
            at = datetime.fromtimestamp(entry["enteredAt"] / 1000).astimezone().isoformat(" ", "seconds")
            click.echo(printable(f"{at}  {entry['job']['id']}  {entry['reason']}  {entry['error'] or ''}"))


@click.command()
@with_server
@click.argument("queue")
@click.option("--id", "job_id", metavar="ID", help="Only this job.")
def retry(url: str, token: str | None, queue: str, *, job_id: str | None) -> None:
    """Let all dead letters of QUEUE wait again, attempts and stalls anew."""
    path = f"/queues/{quote(queue, safe='')}/dlq/retry"
    body: dict[str, Any] = {} if job_id is None else {"jobId": job_id}
    count = 0
    while True:
        reply = answer(url, token, "POST", path, msgspec.json.encode(body))
        count += reply["count"]
        if reply["next"] is None:
            break
        body["after"] = reply["next"]
    click.echo(printable(f"{queue}: {count:,} retried, {reply['left']:,} left"))


def _all(url: str, token: str | None, queue: str, limit: int) -> Iterator[dict[str, Any]]:
    """Yield dead letters, page by page."""
    query: dict[str, Any] = {"limit": min(limit, 1000)}
    while True:
        page = answer(url, token, "GET", f"/queues/{quote(queue, safe='')}/dlq?{urlencode(query)}")
        yield from page["entries"]
        if page["next"] is None:
            return
        query["after"] = page["next"]
