"""Commands about the dead letters of a running server: what they are, and another try for them."""

import json
import re
from collections.abc import Iterator
from typing import Any

import click
import msgspec

from bunqueue_trio.cli.remote import Refusal, answer, at, connection, pages, segment, with_server
from bunqueue_trio.logs.printable import printable

PAGE_MAX = 1000  # a server gives no more at once
_WHY_STILL = "an unfinished job has their unique key, or a job that they depend on is dead, or they died just now: retry again"  # the answer of the server does not say which


# What differs between two times of the same error: quoted text, addresses in memory, ids, and numbers with their dots and colons.
_VARIES = re.compile(
    r"""(?<!\w)'[^']*'(?!\w)|"[^"]*"|\b0x[0-9a-f]+|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\d+(?:[.:]\d+)*""",
    re.IGNORECASE,
)
_SHAPE_MAX = 160

with_error = click.option("--error", metavar="TEXT", help="Only those whose last error has this text in it.")


def shape(error: str | None) -> str:
    """Return the first line of an error, without what differs each time it happens."""
    first = (error or "").strip().partition("\n")[0]
    return _VARIES.sub("…", first)[:_SHAPE_MAX]


def dead_letters(url: str, token: str | None, queue: str, error: str | None) -> Iterator[dict[str, Any]]:
    """Yield the dead letters of a queue whose last error has ``error`` in it, newest first."""
    for page in pages(url, token, f"/queues/{segment(queue)}/dlq", limit=PAGE_MAX):
        yield from (entry for entry in page["entries"] if error is None or error in (entry["error"] or ""))


@click.command()
@with_server
@click.argument("queue")
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, metavar="N", help="Show at most N."
)
@with_error
@click.option(
    "--groups", is_flag=True, help="Count them by their error instead; numbers and quoted text do not matter."
)
@click.option("--json", "as_json", is_flag=True, help="Print an object a line, as the server has it.")
def dead(
    url: str, token: str | None, queue: str, *, limit: int, error: str | None, groups: bool, as_json: bool
) -> None:
    """Show the jobs of QUEUE that failed for good, newest first: when, id, reason and last error.

    The reason is `max_attempts_exceeded`, `timeout` (the last attempt took too long), `unrecoverable` (its worker gave it up),
    `discarded`, `stalled` (its workers died, or lost it, too often) or `dependency_failed`.
    """
    if groups:
        _show_groups(dead_letters(url, token, queue, error), as_json=as_json)
        return
    if error is not None:
        for _, entry in zip(range(limit), dead_letters(url, token, queue, error), strict=False):
            _show(entry, as_json=as_json)
        return
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


def _show_groups(entries: Iterator[dict[str, Any]], *, as_json: bool) -> None:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in entries:
        reason, said = entry["reason"], shape(entry["error"])
        group = found.setdefault(
            (reason, said),
            {"count": 0, "reason": reason, "error": said, "last": entry["enteredAt"], "example": entry["job"]["id"]},
        )
        group["count"] += 1
        group["first"] = entry["enteredAt"]
    for group in sorted(found.values(), key=lambda group: -group["count"]):
        if as_json:
            click.echo(json.dumps(group))
        else:
            since, until = at(group["first"]), at(group["last"])
            told = f"{group['count']:,}  {group['reason']}  {group['error']}  ({since} to {until}, such as {group['example']})"
            click.echo(printable(told))


def each_with_error(url: str, token: str | None, queue: str, error: str, path: str, done: str) -> None:
    """Ask for something for each dead letter with this error, oldest first, and say how many of them it was ``done`` for.

    Raises:
        ClickException: the server cannot be reached any more; it says how far it came.
    """
    ids = [entry["job"]["id"] for entry in dead_letters(url, token, queue, error)]
    count, left = 0, len(ids)
    with connection(url, token) as ask:
        for job_id in reversed(ids):
            try:
                ask("POST", path, msgspec.json.encode({"jobId": job_id}))
            except click.ClickException as gone:
                # It is not dead any more, or its key is held: that is said by the count.
                if isinstance(gone, Refusal) and gone.status in {400, 404, 409}:
                    continue
                raise click.ClickException(f"{gone.message}; {count:,} of {left:,} were {done} before") from None
            count += 1
    click.echo(printable(f"{queue}: {count:,} of {left:,} dead letters with this error {done}"))


@click.command()
@with_server
@click.argument("queue")
@click.option("--id", "job_id", metavar="ID", help="Only this job.")
@with_error
def retry(url: str, token: str | None, queue: str, *, job_id: str | None, error: str | None) -> None:
    """Put the dead letters of QUEUE back into it, as new jobs with their old ids.

    Attempts and stalls are counted from zero. A job that depends on another one of them follows it. One stays dead while an
    unfinished job has its unique key, or while a job of another queue that it depends on is dead.
    """
    path = f"/queues/{segment(queue)}/dlq/retry"
    if error is not None:
        if job_id is not None:
            raise click.UsageError("--id and --error exclude each other")
        each_with_error(url, token, queue, error, path, "retried")
        return
    count, left = 0, 0
    try:
        for reply in _tries(url, token, path, job_id):
            count, left = count + reply["count"], reply["left"]
    except click.ClickException as gone:
        if not count:
            raise
        raise click.ClickException(f"{gone.message}; {count:,} were retried before") from None
    said = f"{queue}: {count:,} retried, {left:,} still dead"
    if left and job_id is None:
        said += f" ({_WHY_STILL})"
    click.echo(printable(said))


def _tries(url: str, token: str | None, path: str, job_id: str | None) -> Iterator[dict[str, Any]]:
    """Yield the answers of one pass over all dead letters after another, while one lets others follow; or that for one job.

    No more are retried than were dead at the start: where retried jobs die at once, that is not done for ever.
    """
    todo: int | None = None
    while True:
        done, body = 0, {} if job_id is None else {"jobId": job_id}
        while True:
            reply = answer(url, token, "POST", path, msgspec.json.encode(body))
            yield reply
            if todo is None:
                todo = reply["count"] + reply["left"]
            done += reply["count"]
            if reply["next"] is None:
                break
            body["after"] = reply["next"]
        todo -= done
        if job_id is not None or not done or todo <= 0 or not reply["left"]:
            return
