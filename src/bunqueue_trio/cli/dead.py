"""Commands about the dead letters of a running server: what they are, and another try for them."""

import json
from typing import Any

import click
import msgspec

from bunqueue_trio.cli.remote import answer, at, pages, segment, with_server
from bunqueue_trio.logs.printable import printable

PAGE_MAX = 1000  # a server gives no more at once
_WHY_STILL = "an unfinished job has their unique key, or a job that they depend on is dead, or they died just now: retry again"  # the answer of the server does not say which


@click.command()
@with_server
@click.argument("queue")
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, metavar="N", help="Show at most N."
)
@click.option("--json", "as_json", is_flag=True, help="Print an object a line, as the server has it.")
def dead(url: str, token: str | None, queue: str, *, limit: int, as_json: bool) -> None:
    """Show the jobs of QUEUE that failed for good, newest first: when, id, reason and last error.

    The reason is `max_attempts_exceeded`, `stalled` (its workers died, or lost it, too often) or `dependency_failed`.
    """
    path = f"/queues/{segment(queue)}/dlq"
    shown = total = 0
    for page in pages(url, token, path, limit=min(limit, PAGE_MAX)):
        entries = page["entries"][: limit - shown]
        for entry in entries:
            _show(entry, as_json=as_json)
        shown, total = shown + len(entries), page["total"]
        if shown == limit:
            break
    # Beside the output, which a program may read.
    if total > shown == limit:
        click.echo(f"{shown:,} of {total:,} dead letters; --limit shows more", err=True)
    elif not (shown or as_json):
        click.echo(printable(f"{queue}: no dead letters"), err=True)


def _show(entry: dict[str, Any], *, as_json: bool) -> None:
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
    """Put the dead letters of QUEUE back into it, as new jobs with their old ids.

    Attempts and stalls are counted from zero. A job stays dead while an unfinished job has its unique key, or while a job
    that it depends on is dead: once that one is retried, retry again.
    """
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
    said = f"{queue}: {count:,} retried, {reply['left']:,} still dead"
    if reply["left"] and job_id is None:
        said += f" ({_WHY_STILL})"
    click.echo(printable(said))
