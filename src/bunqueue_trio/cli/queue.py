"""The command about one queue of a running server: how it treats its jobs, where that comes from, and changes of it."""

import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import click

from bunqueue_trio.cli.many import confirm, dry_option, yes_option
from bunqueue_trio.cli.remote import Refusal, answer, at, json_option, pages, plain, refuse_without, say, with_server
from bunqueue_trio.cli.slips import refuse_unknown, tell_unknown
from bunqueue_trio.errors import Refused
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.pages.queue_settings import GROUPS, NAMED, Told, parse, tell, tell_limits, written
from bunqueue_trio.pages.words import count
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.catalog import COMMANDS
from bunqueue_trio.protocol.codec import decode
from bunqueue_trio.protocol.queue_replies import QueueView

# Of the newest: who has said something longer ago is not told.
ACTS_LOOKED = 1000


_LIMITS = {"concurrency": "5", "rateLimit": "--rate 100/60s"}
"""What `limit` sets, and how."""


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


_CALLED = {_plain(name): name for name in (*NAMED, *_LIMITS)}
"""Names as somebody may write them."""


class Said(click.ParamType[tuple[str, Any]]):
    """A setting and its value."""

    name = "setting"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        """Return the name, and the value as the API has it."""
        given, is_said, text = value.partition("=")
        name = _CALLED.get(_plain(given), given)
        if name in _LIMITS:
            self.fail(f"{name}: it is `limit` that sets it, such as `limit QUEUE {_LIMITS[name]}`", param, ctx)
        if not is_said or name not in NAMED:
            near = get_close_matches(_plain(given), _CALLED, n=1)
            meant = f"; do you mean {_CALLED[near[0]]}?" if near else ""
            self.fail(f"{value!r} must be NAME=VALUE, and NAME one of {', '.join(NAMED)}{meant}", param, ctx)
        try:
            return name, parse(NAMED[name], text)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@with_server
@click.argument("queue")
@click.option(
    "--set",
    "said",
    type=Said(),
    multiple=True,
    metavar="NAME=VALUE",
    help="Change one setting; the value `none` brings back the default. May be repeated.",
)
@click.option(
    "--reset",
    type=click.Choice([*GROUPS, "limits"]),
    multiple=True,
    help="Bring back the defaults of this group. May be repeated.",
)
@dry_option
@yes_option
@json_option
def queue(
    url: str, token: str | None, queue: str, *, said: tuple[tuple[str, Any], ...], reset: tuple[str, ...], dry_run: bool,
    yes: bool, as_json: bool,
) -> None:  # fmt: skip
    """Show how QUEUE treats its jobs, and where each value comes from: the default, or who has set it, and when.

    \b
    defaults  for jobs whose push does not say it: maxAttempts, backoff, timeout, ttl, removeOnComplete, removeOnFail
    stalls    when a job counts as lost by its worker: stallInterval, gracePeriod, maxStalls, enabled
    dead      which dead letters are kept, maxAge, maxEntries, and retried by the server, autoRetry, autoRetryInterval, maxAutoRetries
    limits    how many jobs may be active, and delivered in which time: see `limit`

    --set and --reset change them, also for later starts of the server. Times are such as 500ms, 30s or 7d. Jobs that are there
    already keep what they have. Dead letters that would no longer be kept are deleted; you are asked before.
    """
    refuse_without(bool(said or reset), "--set or --reset", "dry_run")
    if reset and not said:
        refuse_unknown(url, token, queue)
    leaving = _leaving(url, token, queue, dict(said))
    # What is set makes it known.
    before = answer(url, token, c.GetQueue, queue=queue).queue
    commands: dict[type[c.Command], dict[str, Any]] = {}
    for name, value in said:
        commands.setdefault(COMMANDS[GROUPS[NAMED[name].group].command], {})[name] = value
    if dry_run:
        _refuse_wrong(queue, commands)
        would = {"dryRun": True, "set": dict(said), "reset": list(reset), "leaving": leaving}
        changes = [f"{name} would be {_wanted(name, value)}" for name, value in said]
        changes += [f"{name} would be as everywhere" for name in reset]
        # What cannot be taken back is said also where there is nothing of it.
        changes.append(f"{count(leaving, 'dead letter')} would be deleted for good")
        say(f"{queue}: {'; '.join(changes)}", would, as_json=as_json)
        return
    if leaving:
        confirm(f"{queue}: delete {count(leaving, 'dead letter')} for good", yes=yes)
    for name in reset:
        for kind in (c.ClearConcurrency, c.RateLimitClear) if name == "limits" else (GROUPS[name].clears,):
            answer(url, token, kind, queue=queue)
    for kind, fields in commands.items():
        answer(url, token, kind, queue=queue, **fields)
    replies = {name: plain(answer(url, token, group.looks, queue=queue)) for name, group in GROUPS.items()}
    view = answer(url, token, c.GetQueue, queue=queue).queue
    if as_json:
        settings = {
            name: {"values": replies[name][group.reply], "set": replies[name]["set"]} for name, group in GROUPS.items()
        }
        click.echo(
            json.dumps(settings | {"limits": {"concurrency": view.concurrency, "rateLimit": plain(view.rate_limit)}})
        )
        return
    is_any_set = any(reply["set"] for reply in replies.values()) or view.concurrency or view.rate_limit
    if said or not is_any_set:
        tell_unknown(url, token, before, " yet; jobs that come to it will be treated so" if said else "")
    _show(url, token, view, replies, is_any_set=bool(is_any_set))


def _show(
    url: str, token: str | None, view: QueueView, replies: Mapping[str, Mapping[str, Any]], *, is_any_set: bool
) -> None:
    """Show each setting, and who has said it where that is known."""
    queue = view.name
    acts = plain(answer(url, token, c.Actions, limit=ACTS_LOOKED).actions) if is_any_set else []
    rows = [*tell(replies, queue, acts), *tell_limits(plain(view), queue, acts)]
    width = max(len(told.value) for told in rows)
    for told in rows:
        line = f"{told.setting.group:<9} {told.setting.name:<17} {told.value:<{width}}  {_source(told)}"
        click.echo(printable(line.rstrip()))


def _wanted(name: str, value: Any) -> str:
    return "as everywhere" if value is None else written(NAMED[name], value)


def _refuse_wrong(queue: str, commands: Mapping[type[c.Command], Mapping[str, Any]]) -> None:
    """Refuse values as a server does, which is not asked to set them.

    Raises:
        Refusal: one is beyond its bounds.
    """
    try:
        for kind, fields in commands.items():
            decode(kind, json.dumps(fields).encode(), queue=queue)
    except Refused as refused:
        raise Refusal(str(refused), refused.status) from None


def _leaving(url: str, token: str | None, queue: str, said: Mapping[str, Any]) -> int:
    """Return how many dead letters would not be kept any more."""
    most, age, leaving = said.get("maxEntries"), said.get("maxAge"), 0
    if most is not None:
        leaving = answer(url, token, c.GetQueue, queue=queue).queue.counts["failed"] - most
    if age is not None:
        found = pages(url, token, c.Clean, queue=queue, state="failed", grace=age, dryRun=True)
        leaving = max(leaving, sum(page.count for page in found))
    return max(leaving, 0)


def _source(told: Told) -> str:
    if not told.is_set:
        return "default"
    return "set" if told.who is None or told.at is None else f"set by {told.who} at {at(told.at)}"
