"""Commands about the dead letters of a running server: what they are, and another try for them."""

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

import click
from msgspec import Raw, Struct

from bunqueue_trio.cli.canary import Percent, retry_first
from bunqueue_trio.cli.listing import Listing
from bunqueue_trio.cli.many import (
    act,
    confirm,
    dry_option,
    limit_option,
    rate_option,
    rated,
    refuse_unknown_group,
    try_act,
    with_dead_filter,
    yes_option,
)
from bunqueue_trio.cli.remote import (
    DURATION,
    Refusal,
    answer,
    at,
    json_argument,
    json_option,
    pages,
    refuse_without,
    say,
    with_server,
)
from bunqueue_trio.cli.slips import refuse_unknown, tell_if_unknown
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.pages.words import count
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.commands import Command
from bunqueue_trio.protocol.groups import ErrorGroup, InCommon
from bunqueue_trio.protocol.replies import DeadLetter, GroupsReply, ListedJob, RetryReply

# A server gives no more at once.
PAGE_MAX, GROUPS_MAX = 1000, 100
_WITH_THIS = {
    "error": " with this text in their error",
    "fingerprint": " with an error of this group; `dead --groups` lists the groups",
}
_WHY_STILL = {
    "job-cancelled": "cancelled on purpose, `retry --id` retries one",
    "key-held": "an unfinished job has their unique key",
    "dependency-dead": "a job that they depend on is dead",
}


class _Found(Struct, rename="camel"):
    """A dead letter as a filter finds it, with less than a list of one queue says."""

    job: ListedJob
    entered_at: int | None
    reason: str
    error: str | None


@click.command()
@with_server
@click.argument("queue", required=False)
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, metavar="N", help="Show at most N."
)
@with_dead_filter
@click.option(
    "--groups",
    is_flag=True,
    help="Show how many died of each error instead; numbers, ids, names and paths in it do not matter.",
)
@json_option
def dead(
    url: str, token: str | None, queue: str | None, wanted: dict[str, Any], *, limit: int, groups: bool, as_json: bool
) -> None:
    """Show the jobs of QUEUE that failed for good, newest first: when, id, reason and last error; without QUEUE all that a filter describes.

    The reason is `max_attempts_exceeded`, `timeout` (the last attempt took too long), `unrecoverable` (its worker gave it up),
    `discarded`, `cancelled` (with a reason or a grace), `stalled` (its workers died, or lost it, too often) or `dependency_failed`. Of a group it is that of the newest.
    """
    if groups:
        if wanted:
            raise click.UsageError("--groups excludes the filters")
        _show_groups(url, token, queue, limit=limit, as_json=as_json)
        return
    if queue is None and not wanted:
        raise click.UsageError("say which QUEUE, or a filter; only --groups can be of all queues")
    shown = total = 0
    beside = ("queue",) if queue is None else ()
    with Listing("died", "id", *beside, "reason", "error", as_json=as_json) as listing:
        for entries, of in _entries(url, token, queue, wanted, min(limit, PAGE_MAX)):
            for entry in entries[: limit - shown]:
                job = entry.job
                when = "" if entry.entered_at is None else at(entry.entered_at)
                cells = (when, job.id, *((job.queue,) if beside else ()), entry.reason, entry.error or "")
                listing.add(entry, *cells)
                shown += 1
            total = of
            if shown == limit:
                break
    # Beside the output, which a program may read.
    if total > shown == limit:
        click.echo(f"{shown:,} of {count(total, 'dead letter')}; --limit shows more", err=True)
    elif not (shown or as_json):
        where = "" if queue is None else f"{queue}: "
        like = _WITH_THIS.get(next(iter(wanted)), " like that") if wanted else ""
        click.echo(printable(f"{where}no dead letters{like}"), err=True)
    if not shown:
        tell_if_unknown(url, token, *filter(None, [queue]))


def _entries(
    url: str, token: str | None, queue: str | None, wanted: dict[str, Any], limit: int
) -> Iterator[tuple[Sequence["DeadLetter | _Found"], int]]:
    """Yield dead letters page by page, and how many there are where that is known, else 0."""
    if queue is not None and wanted.keys() <= _WITH_THIS.keys():
        for page in pages(url, token, c.Dlq, queue=queue, **wanted, limit=limit):
            yield page.entries, 0 if wanted else page.total
        return
    which = wanted | {"state": "failed"} | ({} if queue is None else {"queue": queue})
    for found in pages(url, token, c.FindJobs, **which, limit=limit):
        yield (
            [
                _Found(job=job, entered_at=job.completed_at, reason=job.reason or "", error=job.error)
                for job in found.jobs
            ],
            0,
        )


def _show_groups(url: str, token: str | None, queue: str | None, *, limit: int, as_json: bool) -> None:
    kind: type[Command[GroupsReply]] = c.DeadGroups if queue is None else c.DlqGroups
    which = {} if queue is None else {"queue": queue}
    shown = total = 0
    with Listing("jobs", "group", "reason", "error", as_json=as_json) as listing:
        for page in pages(url, token, kind, **which, limit=min(limit, GROUPS_MAX)):
            groups, total = page.groups[: limit - shown], page.total
            for group in groups:
                listing.add(group, *_group_cells(group, where=queue is None))
            shown += len(groups)
            if shown == limit:
                break
    if total > shown == limit:
        click.echo(f"{shown:,} of {count(total, 'group')}; --limit shows more", err=True)
    if not (shown or as_json):
        click.echo(printable("no dead letters" if queue is None else f"{queue}: no dead letters"), err=True)
    if not shown:
        tell_if_unknown(url, token, *filter(None, [queue]))


def _group_cells(group: ErrorGroup, *, where: bool) -> tuple[str, ...]:
    example, told = group.example, group.shape
    if where:
        told += "  " + ", ".join(f"{name}: {n:,}" for name, n in group.queues.items())
    told += f"  [{group.mark}]" if group.mark else ""
    told += _common(group.common)
    told += f"  ({at(group.first_seen)} to {at(group.last_seen)}, such as {example.id})"
    return f"{group.count:,}", group.fingerprint, example.reason, told


def _common(common: InCommon) -> str:
    """Return what the newest of a group have in common, in words."""
    if common.sampled < 2:
        return ""
    said = [f"tag {tag}" for tag in common.tags]
    said += [f"group {common.group_id}"] if common.group_id is not None else []
    said += [f"keys {', '.join(common.keys)}"] if common.keys else []
    return f"  [the newest {common.sampled} have {'; '.join(said)}]" if said else ""


@click.command()
@with_server
@click.argument("queue", required=False)
@click.option("--id", "job_id", metavar="ID", help="Only this job.")
@click.option("--data", metavar="JSON", help="With --id: another payload; `-` is standard input, `@FILE` a file.")
@with_dead_filter
@click.option(
    "--canary",
    type=click.IntRange(1, PAGE_MAX),
    metavar="N",
    help="Retry N of them first, and the others only if those do well.",
)
@click.option(
    "--stop-at",
    type=Percent(),
    default="20%",
    show_default=True,
    metavar="PART",
    help="With --canary: leave the others if more than this part of the first die again.",
)
@click.option(
    "--wait",
    type=DURATION,
    default="10m",
    show_default=True,
    metavar="TIME",
    help="With --canary: leave the others if the first have not ended by then.",
)
@limit_option
@rate_option
@dry_option
@yes_option
@json_option
def retry(
    url: str, token: str | None, queue: str | None, wanted: dict[str, Any], *, job_id: str | None, data: str | None, canary: int | None,
    stop_at: float, wait: int, limit: int | None, rate: int | None, dry_run: bool, yes: bool, as_json: bool,
) -> None:  # fmt: skip
    """Put the dead letters of QUEUE back into it, as new jobs with their old ids; without QUEUE all that a filter describes.

    They have all their tries again. Jobs that depend on a retried job are retried after it. A job stays dead while an unfinished
    job has its unique key, or while a job that it depends on is dead.
    """
    check_which(queue, job_id, wanted)
    for name, value in (("canary", canary), ("limit", limit), ("rate", rate), ("dry-run", dry_run or None)):
        if job_id is not None and value is not None:
            raise click.UsageError(f"--id and --{name} exclude each other")
    if canary is not None and limit is not None:
        raise click.UsageError("--canary and --limit exclude each other")
    refuse_without(canary is not None, "--canary", "stop_at", "wait")
    refuse_without(job_id is not None, "--id", "data")
    refuse_unknown(url, token, *filter(None, [queue]))
    which = wanted | ({} if queue is None else {"queue": queue})
    how: dict[str, Any] = rated(rate, limit)
    if job_id is None and not is_wanted(
        url, token, queue, which, "retry", "retried", dry_run=dry_run, yes=yes, as_json=as_json, **how
    ):
        return
    if canary is not None:
        retry_first(url, token, which, canary, stop_at, wait / 1000)
    if wanted or rate is not None or limit is not None:
        _retry_which(url, token, queue, which, as_json=as_json, **how)
    else:
        assert queue is not None
        changed = {} if data is None else {"data": Raw(json_argument(data))}
        _retry_all(url, token, queue, job_id, as_json=as_json, **changed)


def is_wanted(
    url: str, token: str | None, queue: str | None, which: dict[str, Any], action: str, done: str, *,
    dry_run: bool, yes: bool, as_json: bool, then: str = "", **how: Any,
) -> bool:  # fmt: skip
    """Try an act on dead letters dry, say or ask what it would be done to; return whether it is to be done.

    Raises:
        ClickException: a group of errors is named and nothing is in it.
    """
    if yes and not dry_run and not {"fingerprint"} & which.keys():
        return True
    tried = try_act(url, token, which, action, **how)
    refuse_unknown_group(which, tried)
    told = told_of(queue, which, tried.count)
    if dry_run:
        say(f"{told} would be {done}{tried.why_not}", tried.told(dry_run=True), as_json=as_json)
        if not as_json:
            tried.show()
    elif tried.count:
        if not yes:
            tried.show()
        follow = tried.refused.get("dependency-dead", 0) if action == "retry" else 0
        confirm(f"{action} {told}{f' and up to {follow:,} that depend on them' if follow else ''}{then}", yes=yes)
    return not dry_run


def check_which(queue: str | None, job_id: str | None, wanted: dict[str, Any]) -> None:
    """Raise ``UsageError`` unless it is said which dead letters are meant."""
    if job_id is not None and wanted:
        raise click.UsageError("--id excludes the other filters")
    if queue is None and (job_id is not None or not wanted):
        raise click.UsageError("say which QUEUE, or which dead letters: --group, --error, --tag …")


def told_of(queue: str | None, which: dict[str, Any], how_many: int, of: int | None = None) -> str:
    """Return how dead letters are spoken of."""
    where = "all queues" if queue is None else queue
    is_one = {"queue"} < which.keys() | {"queue"} <= {"queue", "error", "fingerprint"}
    like = " with this error" if "fingerprint" in which else " with this text in their error"
    told = count(how_many, "dead letter") if of is None else f"{how_many:,} of {count(of, 'dead letter')}"
    return f"{where}: {told}{like if is_one else ''}"


def _retry_which(
    url: str, token: str | None, queue: str | None, which: dict[str, Any], *, as_json: bool, **how: Any
) -> None:
    tried = try_act(url, token, which, "retry", **how)
    refuse_unknown_group(which, tried)
    did = again = act(url, token, which, "retry", tried.count, "retried", **how)
    total = did.count + sum(did.refused.values())
    # Those that depend on others follow them; where retried jobs die at once, that is not done for ever.
    while again.count and "dependency-dead" in again.refused and did.count < total and "limit" not in how:
        again = act(url, token, which, "retry", total - did.count, "retried", **how)
        did.count, did.refused = did.count + again.count, again.refused
    text = f"{told_of(queue, which, did.count, total)} retried{did.why_not}"
    say(text, did.told(), as_json=as_json)


def _retry_all(url: str, token: str | None, queue: str, job_id: str | None, *, as_json: bool, **changed: Raw) -> None:
    again, left = 0, 0
    try:
        for reply in _tries(url, token, queue, job_id, **changed):
            again, left = again + reply.count, reply.left
    except click.ClickException as gone:
        if not again:
            raise
        raise click.ClickException(f"{gone.message}; {again:,} were retried before") from None
    said = f"{queue}: {again:,} retried, {left:,} still dead"
    if left and job_id is None:
        said += f" ({_why_still(url, token, queue)})"
    say(said, {"count": again, "left": left}, as_json=as_json)


def _why_still(url: str, token: str | None, queue: str) -> str:
    """Return why jobs are dead that were to be retried."""
    try:
        tried = try_act(url, token, {"queue": queue}, "retry")
    except click.ClickException:
        # It is gone meanwhile; what was retried is to be printed all the same.
        return "why, another retry tells"
    why = [f"{n:,}: {_WHY_STILL.get(code, code)}" for code, n in sorted(tried.refused.items())]
    return (
        "; ".join([*why, f"{tried.count:,}: they died just now, retry again"] if tried.count else why) or "not any more"
    )


def _tries(url: str, token: str | None, queue: str, job_id: str | None, **changed: Raw) -> Iterator[RetryReply]:
    """Yield the answers of passes over all dead letters, as long as one leaves some for the next; or the one answer for a single job.

    No more are retried than were dead at the start: where retried jobs die at once, that is not done for ever.
    """
    todo: int | None = None
    while True:
        body: dict[str, Any] = {} if job_id is None else {"jobId": job_id, **changed}
        done = 0
        while True:
            reply = answer(url, token, c.RetryDlq, queue=queue, **body)
            yield reply
            if todo is None:
                todo = reply.count + reply.left
            done += reply.count
            if reply.next is None:
                break
            body["after"] = reply.next
        todo -= done
        if job_id is not None or not done or todo <= 0 or not reply.left:
            return


@click.command()
@with_server
@click.argument("group", metavar="GROUP")
@click.argument("what", metavar="WHAT", type=click.Choice(["fixed", "muted", "none"]))
@json_option
def mark(url: str, token: str | None, group: str, what: str, *, as_json: bool) -> None:
    """Mark the errors of GROUP as `fixed` (you hear of them if they come back) or `muted` (you hear nothing of them).

    `none` takes the mark back. `dead --groups` lists the groups and their marks.
    """
    try:
        reply = answer(url, token, c.MarkGroup, fingerprint=group, mark=what)
    except Refusal as refusal:
        hint = "; `dead --groups` lists the groups" if refusal.status == HTTPStatus.BAD_REQUEST else ""
        raise click.ClickException(f"{refusal.message.replace('fingerprint', 'GROUP')}{hint}") from None
    say(f"{group}: {'nothing is said of it any more' if what == 'none' else what}", reply, as_json=as_json)
