"""The command that shows what jobs fail with: errors that jobs are dead of, and those that they are tried again after."""

import click

from bunqueue_trio.cli.listing import Listing
from bunqueue_trio.cli.remote import at, json_option, pages, with_server
from bunqueue_trio.cli.slips import tell_if_unknown
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.pages.words import count
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.commands import Command
from bunqueue_trio.protocol.groups import ErrorGroup
from bunqueue_trio.protocol.replies import GroupsReply

# A server gives no more at once.
_PAGE_MAX = 100
# Queues that are named of each.
_QUEUES = 5


@click.command()
@with_server
@click.argument("queue", required=False)
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, metavar="N", help="Show at most N."
)
@json_option
def errors(url: str, token: str | None, queue: str | None, *, limit: int, as_json: bool) -> None:
    """Show what jobs of QUEUE, or of all, fail with, most jobs first: how many are dead of it, and how many are tried again, the first of them when.

    Numbers, ids, names and paths in an error do not matter. `dead` and `retry` take the group by `--group`.
    """
    kind: type[Command[GroupsReply]] = c.DeadGroups if queue is None else c.DlqGroups
    which = {} if queue is None else {"queue": queue}
    shown = total = 0
    with Listing("dead", "tried again", "next", "group", "error", as_json=as_json) as listing:
        for page in pages(url, token, kind, **which, retrying=True, limit=min(limit, _PAGE_MAX)):
            groups, total = page.groups[: limit - shown], page.total
            for group in groups:
                listing.add(group, *_cells(group, where=queue is None))
            shown += len(groups)
            if shown == limit:
                break
    # Beside the output, which a program may read.
    if total > shown == limit:
        click.echo(f"{shown:,} of {count(total, 'group')}; --limit shows more", err=True)
    elif not (shown or as_json):
        click.echo(printable("nothing fails" if queue is None else f"{queue}: nothing fails"), err=True)
    if not shown:
        tell_if_unknown(url, token, *filter(None, [queue]))


def _cells(group: ErrorGroup, *, where: bool) -> tuple[str, ...]:
    told = group.shape
    if where:
        jobs = dict(group.queues)
        for name, n in group.retrying_queues.items():
            jobs[name] = jobs.get(name, 0) + n
        most = sorted(jobs.items(), key=lambda one: (-one[1], one[0]))
        told += (
            "  " + ", ".join(f"{name}: {n:,}" for name, n in most[:_QUEUES]) + (", …" if len(most) > _QUEUES else "")
        )
    told += f"  [{group.mark}]" if group.mark else ""
    told += f"  ({at(group.first_seen)} to {at(group.last_seen)}, such as {group.example.id})"
    following = "" if group.next_try_at is None else at(group.next_try_at)
    return f"{group.count:,}", f"{group.retrying:,}", following, group.fingerprint, told
