"""Commands that remove many jobs of a running server for good; each asks before it does, or wants --yes."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import click

from bunqueue_trio.cli.dead import check_which, is_wanted, told_of
from bunqueue_trio.cli.many import (
    State,
    act,
    confirm,
    dry_option,
    limit_option,
    rated,
    try_act,
    with_dead_filter,
    yes_option,
)
from bunqueue_trio.cli.remote import DURATION, answer, json_option, now_ms, pages, say, with_server
from bunqueue_trio.cli.slips import refuse_unknown
from bunqueue_trio.pages import words
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.commands.base import Command

_Removing = TypeVar("_Removing", r.DrainReply, r.PurgeReply)
# By one request: what the server takes.
_SOME = 1000
_STATES = ("waiting", "delayed", "waiting-children", "completed", "failed")


@click.command()
@with_server
@click.argument("queue", required=False)
@click.option("--id", "job_id", metavar="ID", help="Only this job.")
@with_dead_filter
@limit_option
@dry_option
@yes_option
@json_option
def purge(
    url: str, token: str | None, queue: str | None, wanted: dict[str, Any], *, job_id: str | None, limit: int | None,
    dry_run: bool, yes: bool, as_json: bool,
) -> None:  # fmt: skip
    """Delete the dead letters of QUEUE for good; without QUEUE all that a filter describes."""
    check_which(queue, job_id, wanted)
    if job_id is not None and (limit is not None or dry_run):
        raise click.UsageError("--id and --limit or --dry-run exclude each other")
    refuse_unknown(url, token, *filter(None, [queue]))
    which = wanted | ({} if queue is None else {"queue": queue})
    how: dict[str, Any] = rated(None, limit)
    if job_id is None and not is_wanted(
        url, token, queue, which, "purge", "deleted", dry_run=dry_run, yes=yes, as_json=as_json, then=" for good", **how
    ):
        return
    if wanted or limit is not None:
        total = try_act(url, token, which, "purge", **how).count
        did = act(url, token, which, "purge", total, "deleted", **how)
        say(f"{told_of(queue, wanted, did.count, total)} deleted", did.told(), as_json=as_json)
        return
    assert queue is not None
    body = {} if job_id is None else {"jobId": job_id}
    left = 0

    def steps() -> Iterator[int]:
        nonlocal left
        for reply in _those_there(url, token, c.PurgeDlq, 1 if job_id else None, queue=queue, **body):
            left = reply.left
            yield reply.count

    count = _sum(steps(), "deleted")
    say(f"{queue}: {count:,} deleted, {left:,} left", {"count": count, "left": left}, as_json=as_json)


@click.command()
@with_server
@click.argument("queue")
@click.option("--delayed", is_flag=True, help="Remove delayed jobs, too.")
@dry_option
@yes_option
@json_option
def drain(
    url: str, token: str | None, queue: str, *, delayed: bool, dry_run: bool, yes: bool, as_json: bool
) -> None:  # fmt: skip
    """Remove the waiting jobs of QUEUE for good. Active ones go on."""
    refuse_unknown(url, token, queue)
    total = None
    if dry_run or not yes:
        counts = answer(url, token, c.GetQueue, queue=queue).queue.counts
        total = counts["waiting"] + (counts["delayed"] if delayed else 0)
        states = f"{counts['waiting']:,} waiting" + (f" and {counts['delayed']:,} delayed" if delayed else "")
        if not _is_wanted(
            url,
            token,
            queue,
            f"{states} job{'' if total == 1 else 's'}",
            total,
            dry_run=dry_run,
            yes=yes,
            as_json=as_json,
        ):
            return

    steps = (reply.count for reply in _those_there(url, token, c.Drain, total, queue=queue, delayed=delayed))
    _tell_removed(url, token, queue, steps, as_json=as_json)


@click.command()
@with_server
@click.argument("queue")
@click.argument("state", type=State(_STATES), metavar="STATE")
@click.option(
    "--older", "grace", type=DURATION, default=0, metavar="TIME",
    help="Only those that are older: 10m, 2h, 7d. The age counts from the push, or from the end of completed and failed ones.",
)  # fmt: skip
@dry_option
@yes_option
@json_option
def clean(
    url: str, token: str | None, queue: str, state: str, *, grace: int, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Remove the jobs of QUEUE in STATE for good: waiting, delayed, waiting-children, completed or failed ones.

    `failed`: the dead letters. It says how many they are and what they take before it asks.
    """
    refuse_unknown(url, token, queue)
    wanted: dict[str, Any] = {"queue": queue, "state": state}
    # Those that were old enough at the start, of which somebody may be asked: what is pushed meanwhile stays.
    began = now_ms(url, token)
    if dry_run or not yes:
        count = taken = 0
        for page in pages(url, token, c.Clean, **wanted, grace=grace, asOf=began, dryRun=True):
            count, taken = count + page.count, taken + page.bytes
        told = f"{words.count(count, f'{state} job')}, about {words.size(taken)}"
        if not _is_wanted(
            url, token, queue, f"{told},", count, dry_run=dry_run, yes=yes, as_json=as_json, more={"bytes": taken}
        ):
            return

    def steps() -> Iterator[int]:
        page = None
        while page is None or page.next is not None:
            page = answer(url, token, c.Clean, **wanted, grace=grace, asOf=began, after=page and page.next)
            yield page.count

    _tell_removed(url, token, queue, steps(), as_json=as_json)


@click.command()
@with_server
@click.argument("queue")
@click.option("--force", is_flag=True, help="Take active jobs from their workers, too.")
@dry_option
@yes_option
@json_option
def obliterate(
    url: str, token: str | None, queue: str, *, force: bool, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Remove all that there is of QUEUE for good: jobs, records of ended ones, pause and limits."""
    refuse_unknown(url, token, queue)
    view = answer(url, token, c.GetQueue, queue=queue).queue
    total = sum(view.counts.values())
    told = f"all of it, {words.count(total, 'job or record', 'jobs and records')},"
    if not _is_wanted(url, token, queue, told, total, dry_run=dry_run, yes=yes, as_json=as_json):
        return

    def steps() -> Iterator[int]:
        while True:
            reply = answer(url, token, c.Obliterate, queue=queue, force=force)
            yield reply.count
            if reply.done:
                return

    _tell_removed(url, token, queue, steps(), as_json=as_json)


def _is_wanted(
    url: str, token: str | None, queue: str, what: str, total: int, *, dry_run: bool, yes: bool, as_json: bool,
    more: Mapping[str, Any] | None = None,
) -> bool:  # fmt: skip
    """Say or ask what would be removed; return whether it is to be done."""
    if dry_run:
        say(
            f"{queue}: {what.rstrip(',')} would be removed",
            {"dryRun": True, "count": total, **(more or {})},
            as_json=as_json,
        )
    if total and not dry_run:
        confirm(f"{queue}: remove {what} for good", yes=yes)
    return not dry_run


def _those_there(
    url: str, token: str | None, kind: type[Command[_Removing]], total: int | None, **fields: object
) -> Iterator[_Removing]:
    """Yield the answers to a command that removes some and says how many are left, until ``total`` have gone; None: as many as there were."""
    while total is None or total > 0:
        reply = answer(url, token, kind, **fields, limit=_SOME if total is None else min(_SOME, total))
        yield reply
        # What comes meanwhile was not there when somebody wanted that.
        total = min(reply.left, reply.left if total is None else total - reply.count)
        if not reply.count:
            return


def _tell_removed(url: str, token: str | None, queue: str, steps: Iterator[int], *, as_json: bool) -> None:
    count = _sum(steps, "removed")
    say(f"{queue}: {count:,} removed", {"count": count}, as_json=as_json)


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
