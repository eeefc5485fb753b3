"""Commands that remove many jobs of a running server for good; each asks before it does, or wants --yes."""

from collections.abc import Iterator
from typing import Any

import click
import msgspec

from bunqueue_trio.cli.dead import check_which, told_of
from bunqueue_trio.cli.many import (
    act,
    confirm,
    limit_option,
    rated,
    refuse_unknown_group,
    try_act,
    with_dead_filter,
    yes_option,
)
from bunqueue_trio.cli.remote import DURATION, answer, with_server
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.pages import words
from bunqueue_trio.protocol.request import segment_of

_YES = yes_option
_STATES = ("waiting", "delayed", "waiting-children", "completed", "failed")


@click.command()
@with_server
@click.argument("queue", required=False)
@click.option("--id", "job_id", metavar="ID", help="Only this job.")
@with_dead_filter
@limit_option
@_YES
def purge(
    url: str, token: str | None, queue: str | None, wanted: dict[str, Any], *, job_id: str | None, limit: int | None, yes: bool
) -> None:  # fmt: skip
    """Delete the dead letters of QUEUE for good; without QUEUE all that a filter describes."""
    check_which(queue, job_id, wanted)
    if job_id is not None and limit is not None:
        raise click.UsageError("--id and --limit exclude each other")
    if wanted or limit is not None:
        which = wanted | ({} if queue is None else {"queue": queue})
        tried, told = try_act(url, token, which, "purge", **rated(None, limit)), told_of(queue, wanted)
        refuse_unknown_group(which, tried)
        total = tried.count
        _ask(told.format(f"delete {total:,}"), yes=yes)
        did = act(url, token, which, "purge", total, "deleted", **rated(None, limit))
        click.echo(printable(f"{told} deleted".format(f"{did.count:,} of {total:,}")))
        return
    assert queue is not None
    if job_id is not None:
        _ask(f"{queue}: delete the dead letter {job_id}", yes=yes)
    elif not yes:
        total = answer(url, token, "GET", f"/queues/{segment_of(queue)}/dlq?limit=1")["total"]
        _ask(f"{queue}: delete {total:,} dead letters", yes=yes)
    body = {} if job_id is None else {"jobId": job_id}
    left = 0

    def steps() -> Iterator[int]:
        nonlocal left
        for reply in pages_of(url, token, f"/queues/{segment_of(queue)}/dlq/purge", body):
            left = reply["left"]
            yield reply["count"]

    click.echo(printable(f"{queue}: {_sum(steps(), 'deleted'):,} deleted, {left:,} left"))


@click.command()
@with_server
@click.argument("queue")
@click.option("--delayed", is_flag=True, help="Remove delayed jobs, too.")
@_YES
def drain(url: str, token: str | None, queue: str, *, delayed: bool, yes: bool) -> None:
    """Remove the waiting jobs of QUEUE for good. Active ones go on."""
    if not yes:
        counts = answer(url, token, "GET", f"/queues/{segment_of(queue)}")["queue"]["counts"]
        states = f"{counts['waiting']:,} waiting" + (f" and {counts['delayed']:,} delayed" if delayed else "")
        _ask(f"{queue}: remove {states} jobs", yes=yes)
    path = f"/queues/{segment_of(queue)}/drain"

    def steps() -> Iterator[int]:
        while True:
            reply = _do(url, token, path, {"delayed": delayed})
            yield reply["count"]
            if not (reply["count"] and reply["left"]):
                return

    click.echo(printable(f"{queue}: {_sum(steps(), 'removed'):,} removed"))


@click.command()
@with_server
@click.argument("queue")
@click.argument("state", type=click.Choice(_STATES), metavar="STATE")
@click.option(
    "--older", "grace", type=DURATION, default=0, metavar="TIME",
    help="Only those that are older: 10m, 2h, 7d. The age counts from the push, or from the end of completed and failed ones.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only say how many there are, and about how much of the file they take.")
@_YES
def clean(url: str, token: str | None, queue: str, state: str, *, grace: int, dry_run: bool, yes: bool) -> None:
    """Remove the jobs of QUEUE in STATE for good: waiting, delayed, waiting-children, completed or failed ones.

    `failed`: the dead letters. It says how many they are and what they take before it asks.
    """
    path, wanted = f"/queues/{segment_of(queue)}/clean", {"state": state, "grace": grace}
    if dry_run or not yes:
        count = taken = 0
        for page in pages_of(url, token, path, wanted | {"dryRun": True}):
            count, taken = count + page["count"], taken + page["bytes"]
        told = f"{count:,} {state} jobs, about {words.size(taken)}"
        if dry_run or not count:
            click.echo(printable(f"{queue}: {told} would be removed"))
            return
        _ask(f"{queue}: remove {told},", yes=yes)
    pages = pages_of(url, token, path, wanted)
    click.echo(printable(f"{queue}: {_sum((reply['count'] for reply in pages), 'removed'):,} removed"))


@click.command()
@with_server
@click.argument("queue")
@click.option("--force", is_flag=True, help="Take active jobs from their workers, too.")
@_YES
def obliterate(url: str, token: str | None, queue: str, *, force: bool, yes: bool) -> None:
    """Remove all that there is of QUEUE for good: jobs, records of ended ones, pause and limits."""
    _ask(f"{queue}: remove all jobs and records", yes=yes)
    path = f"/queues/{segment_of(queue)}/obliterate"

    def steps() -> Iterator[int]:
        while True:
            reply = _do(url, token, path, {"force": force})
            yield reply["count"]
            if reply["done"]:
                return

    click.echo(printable(f"{queue}: {_sum(steps(), 'removed'):,} removed"))


def _ask(what: str, *, yes: bool) -> None:
    confirm(f"{what} for good", yes=yes)


def _do(url: str, token: str | None, path: str, body: dict[str, Any]) -> Any:
    return answer(url, token, "POST", path, msgspec.json.encode(body))


def pages_of(url: str, token: str | None, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the answers to a request that is said again for each page."""
    while True:
        reply = _do(url, token, path, body)
        yield reply
        if reply["next"] is None:
            return
        body = body | {"after": reply["next"]}


def _sum(steps: Iterator[int], done: str) -> int:
    """Return the sum of all steps.

    Raises:
        ClickException: a step went wrong; it says how many were ``done`` before.
    """
    count = 0
    try:
        for step in steps:
            count += step
    except click.ClickException as error:
        if not count:
            raise
        raise click.ClickException(f"{error.message}; {count:,} were {done} before") from None
    return count
