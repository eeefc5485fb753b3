"""Commands about jobs of a running server: where they are, why they are not running, and changes of them."""

import json
from collections.abc import Callable
from functools import partial
from getpass import getuser
from http import HTTPStatus
from itertools import islice
from platform import node
from typing import Any

import click
from msgspec import Raw

from bunqueue_trio.cli.listing import Listing
from bunqueue_trio.cli.many import STATES, State, act_on_many, dry_option, rate_option, rated, with_filter, yes_option
from bunqueue_trio.cli.remote import (
    DURATION,
    Refusal,
    answer,
    at,
    facts_of,
    fields_of,
    json_argument,
    json_of,
    json_option,
    pages,
    plain,
    refuse_without,
    say,
    with_server,
)
from bunqueue_trio.cli.slips import tell_if_unknown
from bunqueue_trio.cli.standing import tell_schedule
from bunqueue_trio.cli.timeline import show_timeline
from bunqueue_trio.cli.words import told
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.pages.timeline import why_failed
from bunqueue_trio.pages.words import Given, line, span
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.commands import Command
from bunqueue_trio.protocol.lines import Attempt
from bunqueue_trio.protocol.replies import DataReply, ListedJob, Reply

# A server gives no more at once.
PAGE_MAX = 1000
# What the time is that matters in each state.
_WHEN_CALLED = {"delayed": "ready at", "active": "began", "completed": "ended", "failed": "ended"}

_FIRST = ("id", "queue", "name", "state", "why", "error")
"""Fields of one job that are shown before the others."""

_CHANGES: dict[str, type[Command]] = {"data": c.Update, "priority": c.ChangePriority, "delay": c.ChangeDelay}
"""What changes each field of a job."""

_ids = click.argument("job_ids", nargs=-1, metavar="[ID...]")
_force = click.option("--force", is_flag=True, help="With a filter: active jobs, too.")


@click.command()
@with_server
@click.argument("of_queue", required=False, metavar="[QUEUE]")
@click.argument("in_state", required=False, type=State(STATES), metavar="[STATE]")
@with_filter
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, metavar="N", help="Show at most N."
)
@click.option("--count", "only_count", is_flag=True, help="Say how many there are, all of them, instead.")
@json_option
def jobs(
    url: str, token: str | None, of_queue: str | None, in_state: str | None, wanted: dict[str, Any], *, limit: int,
    only_count: bool, as_json: bool,
) -> None:  # fmt: skip
    """List jobs, of QUEUE in STATE or of all that a filter describes: when, id, name, failed attempts and last error.

    STATE is waiting, delayed, waiting-children, active, completed or failed (dead). Waiting jobs come in the order of their delivery,
    delayed ones as they become ready, ended ones newest first. The time is when a delayed job is ready, an active one began, an
    ended one ended, and any other was pushed. With several queues or states, each line says its own.
    """
    wanted |= _also(wanted, "queue", of_queue) | _also(wanted, "state", in_state)
    if only_count:
        total = sum(page.count or 0 for page in pages(url, token, c.FindJobs, **wanted, count=True))
        say(f"{total:,}", {"count": total}, as_json=as_json)
        return
    is_one = all(len(wanted.get(name, ())) == 1 for name in ("queue", "state"))
    when = _WHEN_CALLED.get(wanted["state"][0], "pushed") if len(wanted.get("state", ())) == 1 else "when"
    where = () if is_one else ("queue", "state")
    shown, more = 0, False
    with Listing(when, "id", *where, "name", "attempts failed", "error", as_json=as_json) as listing:
        for page in pages(url, token, c.FindJobs, **wanted, limit=min(limit, PAGE_MAX)):
            listed = page.jobs[: limit - shown]
            for each in listed:
                listing.add(each, *_cells(each, where=not is_one))
            shown += len(listed)
            if shown == limit:
                more = page.next is not None or len(listed) < len(page.jobs)
                break
    if more:
        # Beside the output, which a program may read.
        click.echo(f"the first {shown:,}; --limit shows more", err=True)
    if not (shown or as_json):
        click.echo(printable(f"{wanted['queue'][0]}: no {wanted['state'][0]} jobs" if is_one else "no jobs"), err=True)
    if not shown:
        tell_if_unknown(url, token, *wanted.get("queue", ()))


def _also(wanted: dict[str, Any], name: str, value: str | None) -> dict[str, Any]:
    return {} if value is None else {name: [*wanted.get(name, ()), value]}


def _cells(job: ListedJob, *, where: bool) -> tuple[str, ...]:
    when = at(
        {
            "delayed": job.run_at,
            "active": job.started_at,
            "completed": job.completed_at,
            "failed": job.completed_at,
        }.get(job.state)
        or job.created_at
    )
    tries = f"{job.attempts} of {job.max_attempts}"
    beside = (job.queue, job.state) if where else ()
    return (when, job.id, *beside, job.name or "", tries, job.error or "")


def _place(name: str) -> int:
    """Return the position at which a field of a job is shown: what it is and what became of it come first."""
    return _FIRST.index(name) if name in _FIRST else len(_FIRST)


@click.command()
@with_server
@click.argument("job_id", metavar="ID")
@click.option("--data", is_flag=True, help="Show its payload and its result, too.")
@click.option("--timeline", is_flag=True, help="Show what happened to it instead, in order; also to one that is gone.")
@json_option
def job(url: str, token: str | None, job_id: str, *, data: bool, timeline: bool, as_json: bool) -> None:
    """Show the job ID: its state, times and last error, and the attempts that failed, with their stacks."""
    if timeline:
        if data:
            raise click.UsageError("--timeline has no payloads: leave out --data")
        show_timeline(url, token, job_id, as_json=as_json)
        return
    view = answer(url, token, c.GetJob, id=job_id).job
    state = answer(url, token, c.GetState, id=job_id)
    failed = answer(url, token, c.GetAttempts, id=job_id).attempts
    if as_json:
        whole = fields_of(view) | fields_of(state) | {"failedAttempts": failed}
        del whole["ok"]
        click.echo(json_of(whole))
        return
    # All that there is, in whatever order: nothing here knows its fields.
    found = plain(view) | plain(state)
    del found["ok"]
    if data:
        if found["state"] == "completed":
            found["result"] = plain(answer(url, token, c.GetResult, id=job_id).result)
    else:
        del found["data"]
    if found["state"] == "active":
        # Who has it, and for how long.
        found["why"] = answer(url, token, c.Why, id=job_id).why
    for name in sorted(found, key=_place):
        value = found[name]
        if value is None or value == []:
            continue
        said = (
            value if isinstance(value, str) else json.dumps(value) if name in ("data", "result") else told(name, value)
        )
        click.echo(printable(f"{name}: {said}"))
    for attempt in failed:
        _show_attempt(attempt)


@click.command()
@with_server
@click.argument("job_id", metavar="ID")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Show at most N; all unless you say.")
@json_option
def logs(url: str, token: str | None, job_id: str, *, limit: int | None, as_json: bool) -> None:
    """Show the log lines that workers wrote for the job ID, oldest first: when, level and message."""
    lines = (entry for page in pages(url, token, c.GetLogs, id=job_id, limit=PAGE_MAX) for entry in page.data.logs)
    shown = False
    for entry in islice(lines, limit):
        shown = True
        say(f"{at(entry.timestamp)}  {entry.level}  {entry.message}", entry, as_json=as_json)
    if not (shown or as_json):
        click.echo(printable(f"{job_id}: its workers wrote nothing down"), err=True)


def _show_attempt(attempt: Attempt) -> None:
    by = f"  by {attempt.by}" if attempt.by else ""
    why = f"  {why}" if (why := why_failed(attempt.reason)) else ""
    begun, for_ = at(attempt.started_at), span(attempt.duration)
    click.echo(printable(f"attempt {attempt.attempt}: {begun}  {for_}{why}{by}  {attempt.error}"))
    for text in (attempt.stack or "").splitlines():
        click.echo(printable(f"    {text}"))


@click.command()
@with_server
@click.argument("job_id", metavar="ID")
@json_option
def why(url: str, token: str | None, job_id: str, *, as_json: bool) -> None:
    """Say why the job ID is not running: what it waits for, or how it ended. Of a schedule, by its name, it says what that waits for."""
    try:
        said = answer(url, token, c.Why, id=job_id)
    except Refusal as refusal:
        if refusal.status == HTTPStatus.NOT_FOUND and tell_schedule(url, token, job_id, as_json=as_json):
            return
        raise
    if as_json:
        click.echo(json_of(said))
        return
    code = "" if said.code == said.state else f" ({said.code})"
    click.echo(printable(f"{said.queue}: {said.state}{code}. {said.why}"))
    for name, moment in (("since", said.since), ("until", said.until)):
        if moment is not None:
            click.echo(f"{name} {at(moment)}")


@click.command()
@with_server
@_ids
@with_filter
@_force
@dry_option
@yes_option
@json_option
@click.option("--reason", metavar="TEXT", help="Keep a record with this reason, and who asked.")
@click.option(
    "--grace", type=DURATION, metavar="TIME",
    help="Give the worker of an active job this long to end it; what it reports by then counts. A record is kept.",
)  # fmt: skip
def cancel(
    url: str, token: str | None, job_ids: tuple[str, ...], wanted: dict[str, Any], *, force: bool, reason: str | None,
    grace: int | None, dry_run: bool, yes: bool, as_json: bool,
) -> None:  # fmt: skip
    """Remove unfinished jobs for good: those with these IDs, or all that a filter describes.

    Active jobs are stopped at their workers; a filter takes them only with --force. With --reason or --grace a record of each job is
    kept, among the dead letters.
    """
    how: dict[str, Any] = {"reason": reason, "grace": grace}
    given = {name: value for name, value in how.items() if value is not None}
    if given:
        given["by"] = _who()
    if _are_ids(job_ids, wanted, dry_run=dry_run):

        def said(reply: DataReply) -> str:
            until = facts_of(reply).get("until")
            # An active job whose worker has time to end it is not over yet.
            return "cancelled" if until is None else f"its worker gets the word, and has until {at(until)} to end it"

        ask = partial(answer, url, token, c.Cancel, **given)
        _each(url, token, job_ids, said, lambda job_id: ask(id=job_id), as_json=as_json)
    else:
        if grace != 0:
            refuse_without(force, "--force: without it active jobs of a filter are left alone", "grace")
        act_on_many(
            url, token, wanted, "cancel", "cancelled", yes=yes, dry_run=dry_run, as_json=as_json, force=force, **given
        )


@click.command()
@with_server
@_ids
@with_filter
@rate_option
@dry_option
@yes_option
@json_option
def promote(
    url: str, token: str | None, job_ids: tuple[str, ...], wanted: dict[str, Any], *, rate: int | None, dry_run: bool,
    yes: bool, as_json: bool,
) -> None:  # fmt: skip
    """Make delayed jobs ready now, also those that wait for their next try: these IDs, or all that a filter describes."""
    if rate is not None and job_ids:
        raise click.UsageError("--rate is for many jobs: give a filter such as --queue")
    if _are_ids(job_ids, wanted, dry_run=dry_run):
        ask = partial(answer, url, token, c.Promote)
        _each(url, token, job_ids, "ready", lambda job_id: ask(id=job_id), as_json=as_json)
    else:
        act_on_many(url, token, wanted, "promote", "ready", yes=yes, dry_run=dry_run, as_json=as_json, **rated(rate))


@click.command()
@with_server
@_ids
@with_filter
@_force
@dry_option
@yes_option
@json_option
def discard(
    url: str, token: str | None, job_ids: tuple[str, ...], wanted: dict[str, Any], *, force: bool, dry_run: bool,
    yes: bool, as_json: bool,
) -> None:  # fmt: skip
    """Make dead letters of unfinished jobs: these IDs, or all that a filter describes.

    They are kept, and run again only if somebody retries them. A filter takes active jobs only with --force.
    """
    if _are_ids(job_ids, wanted, dry_run=dry_run):
        ask = partial(answer, url, token, c.Discard)
        _each(url, token, job_ids, "dead", lambda job_id: ask(id=job_id), as_json=as_json)
    else:
        act_on_many(url, token, wanted, "discard", "discarded", yes=yes, dry_run=dry_run, as_json=as_json, force=force)


def _are_ids(job_ids: tuple[str, ...], wanted: dict[str, Any], *, dry_run: bool) -> bool:
    """Return whether jobs are named by their ids, and not by a filter."""
    if bool(job_ids) == bool(wanted):
        raise click.UsageError("say which jobs: their IDs, or a filter such as --queue")
    if job_ids and dry_run:
        raise click.UsageError("--dry-run is for those of a filter; of a job, `why ID` says how it is")
    if any(param.name == "force" for param in click.get_current_context().command.params):
        refuse_without(not job_ids, "a filter; of jobs that are named active ones are taken, too", "force")
    return bool(job_ids)


@click.command()
@with_server
@_ids
@with_filter
@click.option("--priority", type=int, help="Jobs with a higher number come first, and older ones before newer ones.")
@click.option("--delay", type=DURATION, metavar="TIME", help="Make it ready this long from now; 0s: now.")
@click.option("--data", metavar="JSON", help="The new payload; `-`: from standard input, `@FILE`: from a file.")
@click.option(
    "--move-to",
    metavar="QUEUE",
    help="With a filter: put them into this queue, behind those that wait there at their priority.",
)
@dry_option
@yes_option
@json_option
def change(
    url: str, token: str | None, job_ids: tuple[str, ...], wanted: dict[str, Any], *, priority: int | None, delay: int | None,
    data: str | None, move_to: str | None, dry_run: bool, yes: bool, as_json: bool,
) -> None:  # fmt: skip
    """Change the payload, priority or delay of these IDs, or the priority or the queue of all that a filter describes.

    An active job cannot be changed.
    """
    are_ids = _are_ids(job_ids, wanted, dry_run=dry_run)
    changes: dict[str, Any] = {
        "data": None if data is None else Raw(json_argument(data)),
        "priority": priority,
        "delay": delay,
    }
    given = {name: value for name, value in changes.items() if value is not None}
    if move_to is not None:
        if are_ids or given:
            raise click.UsageError("--move-to is for a filter such as --queue, and for nothing else at once")
        how: dict[str, Any] = {"yes": yes, "dry_run": dry_run, "as_json": as_json, "to": move_to}
        act_on_many(url, token, wanted, "move", "moved", **how)
        return
    if not given:
        raise click.UsageError("say what to change: --data, --priority, --delay or --move-to")
    if not are_ids:
        if given.keys() != {"priority"}:
            raise click.UsageError(
                "of all that a filter describes only the --priority can be changed, and the queue with --move-to"
            )
        act_on_many(
            url, token, wanted, "priority", "changed", yes=yes, dry_run=dry_run, as_json=as_json, priority=priority
        )
        return
    for job_id in job_ids:
        for name, value in given.items():
            try:
                answer(url, token, _CHANGES[name], id=job_id, **{name: value})
            except Refusal as refusal:
                raise explained(url, token, job_id, refusal) from None
            say(f"{job_id}: {name} changed", {"id": job_id, "changed": name}, as_json=as_json)


def _who() -> str:
    """Return who asks, as this machine knows."""
    try:
        name = getuser()
    except (KeyError, OSError):
        # A user that has no name, as in containers.
        name = "unknown"
    return f"{name}@{node()}"


def explained(url: str, token: str | None, job_id: str, refusal: Refusal) -> click.ClickException:
    """Return why a job is not changed: how it is, where it is there all the same."""
    try:
        said = answer(url, token, c.Why, id=job_id)
    except click.ClickException:
        return refusal
    if said.state == "active" and refusal.status == HTTPStatus.CONFLICT:
        ends = line("cancel", Given(job_id))
        return click.ClickException(
            f"{job_id}: {refusal.message}: its worker has it, and keeps what it was given; `{ends}` ends it"
        )
    if refusal.status not in (400, 404):
        return refusal
    how = {
        "failed": f"it is a dead letter; `{line('retry', Given(said.queue), '--id', Given(job_id))}` lets it wait again",
        "completed": "it has completed",
    }.get(said.state, f"it is {said.state}")
    return click.ClickException(f"{job_id}: {how}")


def _each(
    url: str, token: str | None, job_ids: tuple[str, ...], done: str | Callable[[Any], str], act: Callable[[str], Reply], *,
    as_json: bool,
) -> None:  # fmt: skip
    """Do it to each of the jobs, and say what is ``done`` by the answer; those that refuse it do not keep it from the others."""
    refused = []
    for job_id in job_ids:
        try:
            reply = act(job_id)
        except Refusal as refusal:
            said_why = explained(url, token, job_id, refusal).message
            is_named = said_why.startswith(f"{job_id}: ") or f": {job_id}; " in said_why
            refused.append(said_why if is_named else f"{job_id}: {said_why}")
        except click.ClickException as error:
            refused.append(f"{job_id}: {error.message}")
        else:
            said = done if isinstance(done, str) else done(reply)
            say(f"{job_id}: {said}", fields_of(reply) | {"id": job_id}, as_json=as_json)
    if refused:
        raise click.ClickException(printable("; ".join(refused)))
