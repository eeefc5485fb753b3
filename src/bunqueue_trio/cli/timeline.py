"""What happened to a job, as people read it: a line for each thing, oldest first."""

from collections.abc import Mapping

import click
from msgspec import UNSET

from bunqueue_trio.cli.remote import at, json_of, pages
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.pages import acts
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.lines import Action, Moment

_WORDS: Mapping[str, str] = {
    "pulled": "a worker has it", "retried": "waits again", "delayed": "waits", "waiting-children": "waits for other jobs", "removed": "gone",
    "promoted": "ready before its time", "updated": "changed", "duplicated": "pushed once more, which changed nothing",
    "cancelling": "cancelled, its worker has time to end it", "died": "dead",
}  # fmt: skip
"""What people say of what they would not guess; the others are said as they are."""


def show_timeline(url: str, token: str | None, job_id: str, *, as_json: bool) -> None:
    """Show what happened to a job, as far as it is kept; of a long past page by page, put in order at the end."""
    entries: list[Moment] = []
    has_gap, state = False, None
    for page in pages(url, token, c.GetTimeline, id=job_id):
        entries += page.entries
        has_gap, state = has_gap or page.gap, page.state
    entries.sort(key=lambda entry: (entry.at, entry.what != "act"))
    if not entries and state is None:
        raise click.ClickException(printable(f"{job_id}: no such job, and nothing is kept of it"))
    for entry in entries:
        click.echo(json_of(entry) if as_json else printable(f"{at(entry.at)}  {_line(entry)}"))
    if has_gap:
        click.echo("events of before are not kept any more: something may be missing", err=True)
    if state is None:
        click.echo(printable(f"{job_id}: it is not there any more"), err=True)


def _line(entry: Moment) -> str:
    if entry.what == "act":
        act = Action(
            at=entry.at, who=entry.by or "", address="", command=entry.command or "", fields=entry.fields or {}, count=1
        )  # fmt: skip
        how = acts.how(act, at)
        return f"{act.who}: {acts.what(act)}{f' ({how})' if how else ''}"
    said = _WORDS.get(entry.what, entry.what)
    if entry.what == "failed" and entry.attempt:
        said = f"attempt {entry.attempt} failed"
    if entry.progress is not UNSET:
        said += f" {entry.progress}"
    if entry.by:
        said += f" by {entry.by}" if entry.what != "pulled" else f": {entry.by}"
    if entry.until:
        said += f" until {at(entry.until)}"
    if entry.reason:
        said += f" ({entry.reason})"
    told = entry.error or entry.message
    return f"{said}: {told}" if told else said
