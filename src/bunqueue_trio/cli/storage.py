"""Commands about how a running server is: what its disk holds, and whether it takes work."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from bunqueue_trio.cli.many import confirm, dry_option, yes_option
from bunqueue_trio.cli.remote import (
    CALLED,
    Refusal,
    answer,
    at,
    json_of,
    json_option,
    of_list_alone,
    page_of,
    say,
    with_server,
    with_server_of_group,
)
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.pages.upkeep import of_copies, says
from bunqueue_trio.pages.words import count, in_state, reached, size, span, typed_ms
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.server_replies import StorageView, UpkeepReply, UpkeepView

# How often a server is asked how far it is.
POLL_S = 0.5


@click.group(invoke_without_command=True)
@with_server
@json_option
@click.pass_context
def storage(ctx: click.Context, url: str, token: str | None, *, as_json: bool) -> None:
    """Show what a running server has on its disk, how fast it grows, how long there is room, and how long things are kept."""
    ctx.obj = (url, token)
    of_list_alone(ctx, "as_json")
    if ctx.invoked_subcommand is not None:
        return
    told = answer(url, token, c.StorageStatus).data
    if as_json:
        click.echo(json_of(told))
        return
    for name, value in _rows(told):
        click.echo(printable(f"{name:<10} {value}"))


def _state(told: StorageView) -> str:
    """Return whether the disk takes changes, and since when it does not; and whether its file is damaged."""
    since = "" if told.since is None else f" since {at(told.since)}"
    takes = _takes(told, since)
    if told.damage is None:
        return takes
    # Where there is more than one trouble, it may be that of the other.
    is_alone = told.error is None and not told.disk_full
    return f"{takes}; the file is damaged{since if is_alone else ''}: {told.damage}"


def _takes(told: StorageView, since: str) -> str:
    if told.error is not None:
        return f"refuses changes{since}: {told.error}"
    return f"nearly full{since}: what brings jobs or data is refused" if told.disk_full else "takes changes"


# The answer has more.
QUEUES_SHOWN = 5


def _rows(told: StorageView) -> list[tuple[str, str]]:
    rows = [
        ("state", _state(told)),
        ("file", f"{size(told.file)}, {size(told.free)} of it free"),
        ("log", size(told.log)),
    ]
    if told.disk:
        if told.full_in is not None:
            ends = f", full in {span(told.full_in)} at the rate of the last hour"
        elif told.disk_full:
            ends = ", full" if told.error is not None else ", nearly full"
        else:
            ends = "" if told.growth is None else ", not filling up in the last hour"
        rows.append(("disk", f"{size(told.disk_free)} of {size(told.disk)} free{ends}"))
    grown = told.growth
    rows.append(
        ("growth", "not known yet" if grown is None else f"{'-' if grown < 0 else ''}{size(abs(grown))} an hour")
    )
    rows.append(("pending", f"{count(told.pending, 'changed job waits', 'changed jobs wait')} to be written"))
    rows.append(
        ("jobs", ", ".join(in_state(n, CALLED.get(state, state)) for state, n in told.jobs.items() if n) or "none")
    )
    if told.kinds:
        rows.append(
            (
                "takes",
                ", ".join(f"{each.kind} about {size(each.bytes)}" for each in told.kinds if each.bytes)
                or "next to nothing",
            )
        )
    rows += [
        ("queue", f"{each.queue}: about {size(each.unfinished)} unfinished, {size(each.ended)} ended")
        for each in (told.queues or ())[:QUEUES_SHOWN]
    ]
    keeps = told.retention
    for name, most, age in (
        ("completed", keeps.completed_max, keeps.age), ("dead", keeps.dead_max, keeps.age),
        ("events", keeps.events_max, keeps.events_age),
        ("acts", keeps.actions_max, keeps.actions_age),
    ):  # fmt: skip
        limits = ([] if most is None else [f"{most:,}"]) + ([] if age is None else [span(age)])
        rows.append((name, f"kept: at most {' and '.join(limits)}" if limits else "kept: all"))
    rows += [
        (
            "shorter",
            f"RETENTION_AGE_MS={typed_ms(each.age)} would free about {count(each.jobs, 'job')}, {size(each.bytes)}",
        )
        for each in told.shorter or ()
    ]
    if told.backups is not None:
        newest = "" if told.backups.last_at is None else f" The newest is of {at(told.backups.last_at)}."
        rows.append(("backups", of_copies(told.backups) + newest))
    rows += [(each.kind, says(each)) for each in told.upkeep]
    if not told.shorter:
        nothing = "a look at the ages of jobs" if told.shorter is None else "an ended job older than 1 h"
        rows.append(("shorter", f"what a shorter RETENTION_AGE_MS would free is shown once there is {nothing}"))
    return rows


def _does(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what those commands take that let the server do something to its file."""
    detach = click.option("--detach", is_flag=True, help="Do not wait until it ends; Ctrl-C stops the waiting later.")
    return with_server_of_group(detach(dry_option(yes_option(json_option(command)))))


@storage.command()
@_does
def backup(server: tuple[str, str | None], *, detach: bool, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Let the running server copy its file into its BACKUP_DIR: one moment of it, whole and checked.

    `bunqueue-trio backup` copies to any other place, from a shell on the machine of the server. `restore` puts a copy back.
    """
    _do(server, c.BackupStorage, "copy the file", detach=detach, dry_run=dry_run, yes=yes, as_json=as_json)


@storage.command()
@_does
def check(server: tuple[str, str | None], *, detach: bool, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Let the running server read all of its file: exit code 1 if it is damaged."""
    _do(server, c.CheckStorage, "read all of the file", detach=detach, dry_run=dry_run, yes=yes, as_json=as_json)


@storage.command()
@_does
def shrink(server: tuple[str, str | None], *, detach: bool, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Let the running server give all that is free in its file back to the disk; what is more than 16 MiB it gives back by itself."""
    _do(server, c.ShrinkStorage, "shrink the file", detach=detach, dry_run=dry_run, yes=yes, as_json=as_json)


def _do(
    server: tuple[str, str | None], kind: type[c.Command[UpkeepReply]], what: str, *, detach: bool, dry_run: bool, yes: bool, as_json: bool,
) -> None:  # fmt: skip
    """Say what would be done, let it be done, and say how far it is until it ends.

    Raises:
        ClickException: it has failed, or found something.
    """
    url, token = server
    planned = answer(url, token, kind, dryRun=True).work
    if dry_run:
        say(says(planned), planned, as_json=as_json)
        return
    if not yes:
        click.echo(printable(says(planned)), err=True)
    confirm(what, yes=yes)
    work, said = answer(url, token, kind).work, ""
    if detach:
        say(says(work), work, as_json=as_json)
        return
    while work.state == "running":
        if said != says(work):
            said = says(work)
            click.echo(printable(said), err=True)
        time.sleep(POLL_S)
        work = _again(url, token, work)
    if work.error is not None:
        raise click.ClickException(printable(says(work)))
    say(says(work), work, as_json=as_json)
    if work.findings:
        sys.exit(1)


def _again(url: str, token: str | None, work: UpkeepView) -> UpkeepView:
    """Return how far a work is now.

    Raises:
        ClickException: the server has been started anew, and knows nothing of it.
    """
    for each in answer(url, token, c.StorageStatus).data.upkeep:
        if (each.kind, each.started_at) == (work.kind, work.started_at):
            return each
    raise click.ClickException("the server was started anew meanwhile: it has ended, and nothing is known of it")


@click.command()
@with_server
@json_option
def health(url: str, token: str | None, *, as_json: bool) -> None:
    """Ask whether a running server takes work: exit code 0 if it does, 1 if it does not or cannot be reached.

    For probes; it needs no token. With a token that may `read` you also see which server answers, whether it leads and since when,
    and whether its disk is nearly full: then it takes no new jobs, but everything else, so the exit code stays 0; and so it does while its file is damaged and takes changes.
    """
    told = page_of(url, token, "health")
    place = _place(url, token)
    disk = None if place is None else answer(url, token, c.StorageStatus).data
    if as_json:
        more = {} if place is None else {name: place.get(name) for name in ("server", "doors", "cluster")}
        more |= {} if disk is None else {"diskFull": disk.disk_full, "damage": disk.damage}
        click.echo(json.dumps(told | more))
    else:
        counts = ", ".join(in_state(n, CALLED.get(name, name)) for name, n in told["queues"].items())
        click.echo(
            printable(f"{told['status']}: up {span(told['uptime'] * 1000)}, version {told['version']}; {counts}")
        )
        if place is not None:
            click.echo(printable(_place_line(place)))
        if disk is not None and (disk.disk_full or disk.error is not None or disk.damage is not None):
            click.echo(printable(f"its disk: {_state(disk)}"))
    if told["status"] != "healthy":
        sys.exit(1)


def _place(url: str, token: str | None) -> dict[str, Any] | None:
    """Return which server answers, as `/tasks` has it; None where a token is missing for that, or an older one does not say it."""
    try:
        told: dict[str, Any] = page_of(url, token, "tasks")
    except Refusal:
        return None
    return told if "server" in told else None


def _place_line(told: dict[str, Any]) -> str:
    one, doors = told["server"], told["doors"]
    said = [
        f"{one['host']} process {one['process']}",
        f"at {reached(one['addresses'], one['host']) or 'no address of its own'}",
    ]
    if one["term"] is not None:
        # With a file there is nobody else who could.
        leads = "leads" if one["leads"] else "may not lead any more"
        said.append(f"{leads} (term {one['term']:,}) since {at(one['since'])}")
    said += [f"servers that wait reach it at {one['link']}"] if one["link"] else []
    said += [f"{doors['connected']:,} of {count(doors['wanted'], 'door')}"] if doors["wanted"] else []
    if cluster := told.get("cluster"):
        said.append(f"{count(len(cluster['waiting']), 'server waits', 'servers wait')} to take over")
    return "; ".join([", ".join(said[:2]), *said[2:]])
