"""Commands about how a running server is: what its disk holds, and whether it takes work."""

import json
import sys
from typing import Any

import click

from bunqueue_trio.cli.remote import CALLED, Refusal, answer, at, json_of, json_option, page_of, with_server
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.pages.words import count, in_state, reached, size, span, typed_ms
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.server_replies import StorageView


@click.command()
@with_server
@json_option
def storage(url: str, token: str | None, *, as_json: bool) -> None:
    """Show what a running server has on its disk, how fast it grows, how long there is room, and how long things are kept."""
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
    if not told.shorter:
        nothing = "a look at the ages of jobs" if told.shorter is None else "an ended job older than 1 h"
        rows.append(("shorter", f"what a shorter RETENTION_AGE_MS would free is shown once there is {nothing}"))
    return rows


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
