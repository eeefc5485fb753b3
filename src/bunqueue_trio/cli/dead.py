"""Commands about the dead letters of a running server: what they are, and another try for them."""

import json
from itertools import islice
from typing import Any

import click
import msgspec

from bunqueue_trio.cli.remote import answer, at, pages, segment, with_server
from bunqueue_trio.logs.printable import printable

PAGE_MAX = 1000  # a server gives no more at once


@click.command()
@with_server
@click.argument("queue")
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, metavar="N", help="Show at most N."
)
@click.option("--json", "as_json", is_flag=True, help="Print an object a line, as the server has it.")
def dead(url: str, token: str | None, queue: str, *, limit: int, as_json: bool) -> None:
    """Show the jobs of QUEUE that failed for good, newest first: when, id, why and the error."""
    path = f"/queues/{segment(queue)}/dlq"
    for entry in islice(pages(url, token, path, "entries", limit=min(limit, PAGE_MAX)), limit):
        if as_json:
            click.echo(json.dumps(entry))
        else:
            when = at(entry["enteredAt"])
            click.echo(printable(f"{when}  {entry['job']['id']}  {entry['reason']}  {entry['error'] or ''}"))


@click.command()
@with_server
@click.argument("queue")
@click.option("--id", "job_id", metavar="ID", help="Only this job.")
def retry(url: str, token: str | None, queue: str, *, job_id: str | None) -> None:
    """Put the dead letters of QUEUE back into it; attempts and stalls are counted from zero."""
    path = f"/queues/{segment(queue)}/dlq/retry"
    body: dict[str, Any] = {} if job_id is None else {"jobId": job_id}
    count = 0
    while True:
        try:
            reply = answer(url, token, "POST", path, msgspec.json.encode(body))
        except click.ClickException as error:
            if not count:
                raise
            raise click.ClickException(f"{error.message}; {count:,} were retried before") from None
        count += reply["count"]
        if reply["next"] is None:
            break
        body["after"] = reply["next"]
    click.echo(printable(f"{queue}: {count:,} retried, {reply['left']:,} left"))
