"""Commands about single jobs of a running server: where they are, why they are not running, and changes of them."""

import json
from collections.abc import Callable
from typing import Any

import click
import msgspec
from msgspec import Raw

from bunqueue_trio.cli.remote import DURATION, answer, at, json_argument, pages, segment, with_server
from bunqueue_trio.logs.printable import printable

PAGE_MAX = 1000  # a server gives no more at once
STATES = ("waiting", "delayed", "waiting-children", "active", "completed", "failed")
# The time that matters in each state.
_WHEN = {"delayed": "runAt", "active": "startedAt", "completed": "completedAt", "failed": "completedAt"}
_TIMES = ("createdAt", "runAt", "startedAt", "completedAt")

_ids = click.argument("job_ids", nargs=-1, required=True, metavar="ID...")


@click.command()
@with_server
@click.argument("queue")
@click.argument("state", type=click.Choice(STATES), metavar="STATE")
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, metavar="N", help="Show at most N."
)
@click.option("--json", "as_json", is_flag=True, help="Print an object a line, as the server has it.")
def jobs(url: str, token: str | None, queue: str, state: str, *, limit: int, as_json: bool) -> None:
    """List the jobs of QUEUE in STATE: when, id, attempts and last error.

    STATE is waiting, delayed, waiting-children, active, completed or failed. Waiting jobs come in the order of their delivery,
    delayed ones as they become ready, ended ones newest first. The time is when a delayed job is ready, an active one began, an
    ended one ended, and any other was pushed.
    """
    path, shown = f"/queues/{segment(queue)}/jobs/list", 0
    for page in pages(url, token, path, state=state, limit=min(limit, PAGE_MAX)):
        listed = page["jobs"][: limit - shown]
        for each in listed:
            _show(each, as_json=as_json)
        shown += len(listed)
        if shown == limit:
            if page["next"] is not None or len(listed) < len(page["jobs"]):
                # Beside the output, which a program may read.
                click.echo(f"the first {shown:,}; --limit shows more", err=True)
            return
    if not (shown or as_json):
        click.echo(printable(f"{queue}: no {state} jobs"), err=True)


def _show(job: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(job))
        return
    when = at(job[_WHEN.get(job["state"], "createdAt")] or job["createdAt"])
    tries = f"{job['attempts']} of {job['maxAttempts']} attempts"
    click.echo(printable(f"{when}  {job['id']}  {tries}  {job['error'] or ''}".rstrip()))


@click.command()
@with_server
@click.argument("job_id", metavar="ID")
@click.option("--data", is_flag=True, help="Show its payload and its result, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the server's answers as one object, payload included.")
def job(url: str, token: str | None, job_id: str, *, data: bool, as_json: bool) -> None:
    """Show the job ID: its state, times, attempts and last error."""
    path = f"/jobs/{segment(job_id)}"
    found = answer(url, token, "GET", path)["job"] | answer(url, token, "GET", f"{path}/state")
    del found["ok"]
    if as_json:
        click.echo(json.dumps(found))
        return
    if data:
        if found["state"] == "completed":
            found["result"] = answer(url, token, "GET", f"{path}/result")["result"]
    else:
        del found["data"]
    for name, value in found.items():
        if value is None or value == []:
            continue
        said = at(value) if name in _TIMES else value if isinstance(value, str) else json.dumps(value)
        click.echo(printable(f"{name}: {said}"))


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


@click.command()
@with_server
@_ids
def cancel(url: str, token: str | None, job_ids: tuple[str, ...]) -> None:
    """Remove unfinished jobs for good. The worker of an active one hears of it."""
    _each(job_ids, "cancelled", lambda job_id: answer(url, token, "DELETE", f"/jobs/{segment(job_id)}"))


@click.command()
@with_server
@_ids
def promote(url: str, token: str | None, job_ids: tuple[str, ...]) -> None:
    """Make delayed jobs ready now, also those that wait out their backoff."""
    _each(job_ids, "ready", lambda job_id: answer(url, token, "POST", f"/jobs/{segment(job_id)}/promote"))


@click.command()
@with_server
@_ids
def discard(url: str, token: str | None, job_ids: tuple[str, ...]) -> None:
    """Make dead letters of unfinished jobs: kept, and not tried again unless they are retried."""
    _each(job_ids, "dead", lambda job_id: answer(url, token, "POST", f"/jobs/{segment(job_id)}/discard"))


@click.command()
@with_server
@click.argument("job_id", metavar="ID")
@click.option("--priority", type=int, help="Higher is sooner; it takes the place that its age gives it.")
@click.option("--delay", type=DURATION, metavar="TIME", help="Ready this long from now; 0 is now.")
@click.option("--data", metavar="JSON", help="Another payload; `-` is standard input, `@FILE` a file.")
def change(
    url: str, token: str | None, job_id: str, *, priority: int | None, delay: int | None, data: str | None
) -> None:
    """Change the payload, priority or delay of the job ID, which must not be active."""
    changes: dict[str, Any] = {
        "data": None if data is None else Raw(json_argument(data)),
        "priority": priority,
        "delay": delay,
    }
    given = {name: value for name, value in changes.items() if value is not None}
    if not given:
        raise click.UsageError("say what to change: --data, --priority or --delay")
    for name, value in given.items():
        answer(url, token, "PUT", f"/jobs/{segment(job_id)}/{name}", msgspec.json.encode({name: value}))
        click.echo(printable(f"{job_id}: {name} changed"))


def _each(job_ids: tuple[str, ...], done: str, act: Callable[[str], object]) -> None:
    """Do it to each of the jobs; those that refuse it do not keep it from the others."""
    refused = []
    for job_id in job_ids:
        try:
            act(job_id)
        except click.ClickException as error:
            refused.append(f"{job_id}: {error.message}")
        else:
            click.echo(printable(f"{job_id}: {done}"))
    if refused:
        raise click.ClickException(printable("; ".join(refused)))
