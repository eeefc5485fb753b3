"""Commands about reruns: the server itself retries dead letters, a few first, as long as those do well."""

import time
from typing import Any

import click
from msgspec import structs

from bunqueue_trio.cli.canary import Percent
from bunqueue_trio.cli.dead import check_which, is_wanted, told_of
from bunqueue_trio.cli.listing import Listing
from bunqueue_trio.cli.many import confirm, dry_option, refuse_unknown_group, try_act, with_dead_filter, yes_option
from bunqueue_trio.cli.remote import (
    answer,
    at,
    json_option,
    of_list_alone,
    plain,
    say,
    with_server,
    with_server_of_group,
)
from bunqueue_trio.cli.slips import refuse_unknown
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.pages.acts import which
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.rerun_replies import RerunView

# How often a rerun is looked at.
POLL_S = 1.0
_PHASES = {"first": "the first", "rest": "the others"}
"""States of a rerun that is under way, as people call them."""
_UNDER_WAY = _PHASES.keys()


@click.command()
@with_server
@click.argument("queue", required=False)
@with_dead_filter
@click.option(
    "--count", type=click.IntRange(1, 1000), default=10, show_default=True, metavar="N", help="Retry N of them first."
)
@click.option(
    "--rate", type=click.IntRange(1, 1000), default=10, show_default=True, metavar="N", help="At most N a second."
)
@click.option(
    "--stop-at",
    type=Percent(),
    default="20%",
    show_default=True,
    metavar="PART",
    help="Stop if more than this part of the retried ones die again.",
)
@click.option("--force", is_flag=True, help="Begin even if no worker asks for jobs of the queue.")
@click.option("--detach", is_flag=True, help="Do not wait until it ends; Ctrl-C stops the waiting later.")
@dry_option
@yes_option
@json_option
def rerun(
    url: str, token: str | None, queue: str | None, wanted: dict[str, Any], *, count: int, rate: int, stop_at: float,
    force: bool, detach: bool, dry_run: bool, yes: bool, as_json: bool,
) -> None:  # fmt: skip
    """Let the server retry the dead letters of QUEUE, or of a filter: a few first, and the others if those do well.

    The server goes on with it even if this command ends, and stops when too many die again; `reruns` shows how far it
    is. The first ones need a worker, so resume a paused queue before.
    """
    check_which(queue, None, wanted)
    refuse_unknown(url, token, *filter(None, [queue]))
    meant = wanted | ({} if queue is None else {"queue": queue})
    if dry_run:
        is_wanted(url, token, queue, meant, "retry", "retried", dry_run=True, yes=yes, as_json=as_json)
        return
    tried = try_act(url, token, meant, "retry")
    refuse_unknown_group(meant, tried)
    what = told_of(queue, meant, tried.count)
    if tried.count:
        confirm(f"rerun {what}, {min(count, tried.count):,} first", yes=yes)
    how = {"count": count, "rate": rate, "stopAt": stop_at, "force": force}
    begun = answer(url, token, c.RerunDlq, filter=meant, **how).rerun
    say(f"{begun.id}: {what}, {min(count, tried.count):,} first, at most {rate:,} a second", begun, as_json=as_json)
    if not detach:
        _follow(url, token, begun, as_json=as_json)


def _follow(url: str, token: str | None, one: RerunView, *, as_json: bool) -> None:
    """Say how a rerun fares until it ends.

    Raises:
        ClickException: it has stopped.
    """
    said = ""
    while True:
        now = f"{_fate(one)}{': ' + one.why if one.why else ''}"
        if now != said:
            # Progress goes to stderr: a program may read the output.
            if one.state in _UNDER_WAY:
                click.echo(printable(now), err=True)
            else:
                say(now, one, as_json=as_json)
            said = now
        if one.state not in _UNDER_WAY:
            break
        time.sleep(POLL_S)
        found = answer(url, token, c.ListReruns).reruns
        one = next((each for each in found if each.id == one.id), structs.replace(one, state="done"))
    if one.state == "stopped":
        raise click.ClickException(printable(f"it has stopped: {one.why}; the others stay dead"))


def _fate(one: RerunView) -> str:
    refused = ", ".join(f"{code}: {n:,}" for code, n in sorted(one.refused.items()))
    left = f" (not {refused})" if refused else ""
    return f"{_PHASES.get(one.state, one.state)}: {one.retried:,} retried, {one.open:,} not ended, {one.died:,} died again{left}"


@click.group(invoke_without_command=True)
@with_server
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Show at most N; all unless you say.")
@json_option
@click.pass_context
def reruns(ctx: click.Context, url: str, token: str | None, *, limit: int | None, as_json: bool) -> None:
    """Show the reruns under way and the last ones that ended, newest first."""
    ctx.obj = (url, token)
    of_list_alone(ctx, "limit", "as_json")
    if ctx.invoked_subcommand is not None:
        return
    found = answer(url, token, c.ListReruns).reruns[:limit]
    with Listing("begun", "id", "of", "how it fares", as_json=as_json) as listing:
        for one in found:
            why = f"  ({one.why})" if one.why else ""
            listing.add(one, at(one.started_at), one.id, which(plain(one.filter), at), _fate(one) + why)
    if not (found or as_json):
        click.echo("no reruns", err=True)


@reruns.command()
@with_server_of_group
@click.argument("rerun_id", metavar="ID")
@json_option
def stop(server: tuple[str, str | None], rerun_id: str, *, as_json: bool) -> None:
    """Stop the rerun ID. What it has retried already goes on."""
    url, token = server
    one = answer(url, token, c.StopRerun, rerun=rerun_id).rerun
    say(f"{one.id}: {_fate(one)}", one, as_json=as_json)
