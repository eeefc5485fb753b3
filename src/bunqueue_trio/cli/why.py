"""The command that says why a job of a running server is not running."""

import json

import click

from bunqueue_trio.cli.remote import answer, at, segment, with_server
from bunqueue_trio.logs.printable import printable


@click.command()
@with_server
@click.argument("job_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print the server's answer as it is.")
def why(url: str, token: str | None, job_id: str, *, as_json: bool) -> None:
    """Say why the job ID is not running: what it waits for, or how it ended."""
    said = answer(url, token, "GET", f"/jobs/{segment(job_id)}/why")
    if as_json:
        click.echo(json.dumps(said))
        return
    click.echo(printable(f"{said['queue']}: {said['state']} ({said['code']}). {said['why']}"))
    for name in ("since", "until"):
        if said[name] is not None:
            click.echo(f"{name} {at(said[name])}")
