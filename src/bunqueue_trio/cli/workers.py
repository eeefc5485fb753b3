"""Commands about those who work for a running server: who they are, what they have, and taking it from them."""

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from itertools import islice
from typing import Any

import click
from rich.table import Table

from bunqueue_trio.cli.listing import show_table
from bunqueue_trio.cli.many import confirm, dry_option, yes_option
from bunqueue_trio.cli.remote import (
    answer,
    facts_of,
    json_of,
    json_option,
    now_ms,
    of_list_alone,
    say,
    with_server,
    with_server_of_group,
)
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.pages.words import count, span
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.commands import Command
from bunqueue_trio.protocol.replies import DataReply
from bunqueue_trio.protocol.worker_replies import WorkerJob, WorkerView

_COLUMNS = ("status", "jobs", "at once", "done", "failed", "heard", "longest", "queues")
# Times what is usual: from then on it is worth a word, as on the page.
_LONGER = 2

_name = click.argument("name", metavar="NAME")


@click.group(invoke_without_command=True)
@with_server
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Show at most N; all unless you say.")
@json_option
@click.pass_context
def workers(ctx: click.Context, url: str, token: str | None, *, limit: int | None, as_json: bool) -> None:
    """Show who works for a running server.

    \b
    status   active, idle (has no job now), quiet (gets no jobs), or lost (its connection has dropped)
    jobs     how many it has now
    at once  how many it can have
    done     jobs completed since it came
    failed   tries that failed since it came
    heard    how long ago it last asked for a job, or reported on one
    longest  the age of the job that it has had for the longest time, and how many times what is usual in its queue that is
    """
    ctx.obj = (url, token)
    of_list_alone(ctx, "limit", "as_json")
    if ctx.invoked_subcommand is not None:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("name", no_wrap=True)
    table.add_column("id", no_wrap=True)
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column in ("status", "queues") else "right", no_wrap=True)
    shown = False
    # Its clock made the times.
    now = now_ms(url, token)
    for worker in islice(_all(url, token), limit):
        shown = True
        if as_json:
            click.echo(json_of(worker))
            continue
        longest = min((job for job in worker.jobs if job.since), key=lambda job: job.since or now, default=None)
        table.add_row(
            printable(worker.name), printable(worker.id), _status(worker), f"{worker.active_jobs:,}",
            f"{worker.concurrency:,}", f"{worker.processed_jobs:,}", f"{worker.failed_jobs:,}",
            span(now - worker.last_seen), "" if longest is None else _age(longest, now),
            printable(", ".join(worker.queues)),
        )  # fmt: skip
    if shown and not as_json:
        show_table(table)
    elif not as_json:
        click.echo("nobody works", err=True)


def _age(job: WorkerJob, now: int) -> str:
    """Return for how long a worker has a job, and how that compares where it is much longer than usual."""
    age = now - (job.since or now)
    times = 0 if job.usual is None else age // max(job.usual, 1000)
    return f"{span(age)}, {times:,} x usual" if times >= _LONGER else span(age)


def _status(worker: WorkerView) -> str:
    """Return what a worker does; of the server those that have nothing to do are active, too."""
    return "idle" if worker.status == "active" and not worker.active_jobs else str(worker.status)


@workers.command()
@with_server_of_group
@_name
@json_option
def quiet(server: tuple[str, str | None], name: str, *, as_json: bool) -> None:
    """Give workers NAME no new jobs until `workers unquiet`; they finish those that they have."""
    _act(
        server,
        name,
        c.QuietWorker,
        lambda said: f"quiet, and has {count(said['activeJobs'], 'job')}",
        as_json=as_json,
    )


@workers.command()
@with_server_of_group
@_name
@json_option
def unquiet(server: tuple[str, str | None], name: str, *, as_json: bool) -> None:
    """Give workers NAME jobs again."""
    _act(server, name, c.UnquietWorker, lambda said: "gets jobs", as_json=as_json)


@workers.command()
@with_server_of_group
@_name
@dry_option
@yes_option
@json_option
def release(server: tuple[str, str | None], name: str, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Take the jobs of workers NAME back into their queues; no try is counted.

    They may get new ones, unless they are quiet.
    """
    jobs = sum(worker.active_jobs for worker in _named(server, name))
    if dry_run:
        say(f"{name}: {count(jobs, 'job')} would be returned", {"dryRun": True, "count": jobs}, as_json=as_json)
        return
    if jobs:
        confirm(f"{name}: take {count(jobs, 'job')} from it", yes=yes)
    _act(server, name, c.ReleaseWorker, lambda said: f"{count(said['count'], 'job')} returned", as_json=as_json)


@workers.command()
@with_server_of_group
@_name
@json_option
def forget(server: tuple[str, str | None], name: str, *, as_json: bool) -> None:
    """Remove workers NAME, which are gone, from the list.

    A worker that is connected, is quiet or has jobs stays.
    """
    _act(server, name, c.UnregisterWorker, lambda said: "forgotten", as_json=as_json)


def _named(server: tuple[str, str | None], name: str) -> list[WorkerView]:
    """Return the worker of this id, or else all of this name: a program has one for each of its queues.

    Raises:
        ClickException: there is none.
    """
    everyone = list(_all(*server))
    found = [worker for worker in everyone if name in (worker.id, worker.name)]
    found = [worker for worker in found if worker.id == name] or found
    if not found:
        near = get_close_matches(name, [said for worker in everyone for said in (worker.name, worker.id)], n=1)
        meant = f"; do you mean {near[0]}?" if near else ""
        raise click.ClickException(printable(f"there is no worker {name}{meant}"))
    return found


def _act(
    server: tuple[str, str | None], name: str, kind: type[Command[DataReply]], says: Callable[[dict[str, Any]], str], *,
    as_json: bool,
) -> None:  # fmt: skip
    """Do something to workers, and say what."""
    url, token = server
    found = _named(server, name)
    for worker in found:
        said = facts_of(answer(url, token, kind, id=worker.id))
        which = name if len(found) == 1 else f"{name} ({', '.join(worker.queues) or worker.id})"
        say(f"{which}: {says(said)}", {"id": worker.id, **said}, as_json=as_json)


def _all(url: str, token: str | None) -> Iterator[WorkerView]:
    place: str | None = None
    while True:
        page = answer(url, token, c.ListWorkers, limit=1000, after=place).data
        yield from page.workers
        if (place := page.next) is None:
            return
