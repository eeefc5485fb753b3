"""What happened to a job, in a shell: a line for each thing, oldest first."""

import click

from bunqueue_trio.cli.remote import at, json_of, pages
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.pages.timeline import line_of
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.lines import Moment


def show_timeline(url: str, token: str | None, job_id: str, *, as_json: bool) -> None:
    """Show what happened to a job, as far as it is kept; of a long past page by page, put in order at the end."""
    entries: list[Moment] = []
    has_gap, state = False, None
    for page in pages(url, token, c.GetTimeline, id=job_id):
        entries += page.entries
        has_gap, state = has_gap or page.gap, page.state
    # Those of one ms are in order on each page.
    entries.sort(key=lambda entry: entry.at)
    if not entries and state is None:
        raise click.ClickException(printable(f"{job_id}: no such job, and nothing is kept of it"))
    for entry in entries:
        click.echo(json_of(entry) if as_json else printable(f"{at(entry.at)}  {line_of(entry, at)}"))
    if has_gap:
        click.echo("events of before are not kept any more: something may be missing", err=True)
    if state is None:
        click.echo(printable(f"{job_id}: it is not there any more"), err=True)
