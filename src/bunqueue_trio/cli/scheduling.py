"""What the flags of the commands about schedules say: when one runs, what becomes of its slots, and how its jobs are pushed."""

import re
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any

import click

from bunqueue_trio.cli.clock import Shown, when_shown
from bunqueue_trio.cli.queues import Moment
from bunqueue_trio.cli.remote import DURATION, now_ms, refuse_zero

# The rules of zones are those of the server.
from bunqueue_trio.engine import zones
from bunqueue_trio.protocol.scheduled import of_no_effect

TIMES = ("start", "end", "at")
_FIELDS = re.compile("misfire_max|misfire|window")
_OPTIONS = {
    "job_name": "name", "priority": "priority", "max_attempts": "maxAttempts", "backoff": "backoff", "ttl": "ttl", "timeout": "timeout",
    "tags": "tags",
}  # fmt: skip
"""Flags about the jobs → what the API calls them."""


class _Nothing:
    """What `none` means: as if the option had never been given."""

    def __repr__(self) -> str:
        return "none"


NOTHING = _Nothing()


class OrNone(click.ParamType[Any]):
    """What another type takes, or `none`."""

    def __init__(self, kind: click.ParamType[Any]) -> None:
        self._kind = kind
        self.name: str = kind.name

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        """Return the choices, where there are some, and `none`."""
        shown = self._kind.get_metavar(param, ctx)
        return None if shown is None else f"{shown[:-1]}|none{shown[-1]}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return what the other type makes of it, or that there is nothing."""
        return NOTHING if value == "none" or value is NOTHING else self._kind.convert(value, param, ctx)


def when(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say when a schedule runs."""
    options = (
        click.option(
            "--cron",
            metavar="EXPR",
            help="Cron expression, such as '0 3 * * *' or @daily. With six fields the first is the second.",
        ),
        click.option(
            "--timezone",
            metavar="ZONE",
            help="Time zone of --cron and of dates, such as Europe/Berlin.  [default: UTC; of dates the clock here]",
        ),
        click.option("--every", type=DURATION, metavar="TIME", help="Run once in this time: 10s, 5m, 2h."),
        click.option(
            "--at",
            type=Moment(zoned=True),
            metavar="TIME",
            help="Run once: this long from now (10m, 2h), or at a date.",
        ),
        click.option(
            "--start",
            type=Moment(zoned=True),
            metavar="TIME",
            help="Do not run before this: a time from now, or a date.",
        ),
        click.option(
            "--end", type=Moment(zoned=True), metavar="TIME", help="Do not run after this: a time from now, or a date."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


_HOW = (
    click.option("--limit", type=int, metavar="N", help="Stop after N jobs."),
    click.option("--jitter", type=DURATION, metavar="TIME", help="Run each slot late by up to this time, so that not all schedules run at once."),
    click.option("--misfire", type=click.Choice(["skip", "once", "all"]), help="Slots missed while the server was down: skip, once or all of them run.  [default: once]"),
    click.option("--misfire-max", type=int, metavar="N", help="With --misfire all: run at most N missed slots.  [default: 10]"),
    click.option("--window", type=DURATION, metavar="TIME", help="Forget missed slots that are older than this."),
    click.option(
        "--overlap", type=click.Choice(["allow", "skip", "queue", "cancel"]),
        help="If the job before has not ended: allow both, skip the new one, queue it behind, or cancel the old one.  [default: skip]",
    ),
    click.option("--job-name", metavar="NAME", help="Name of the jobs, as in `push --name`."),
    click.option("--priority", type=int, help="Of the jobs; so are all that follow. Higher comes first."),
    click.option("--max-attempts", type=int, metavar="N", help="Try a job N times at most; then it is a dead letter.  [default: 3]"),
    click.option("--backoff", type=DURATION, metavar="TIME", help="Wait this long before the second try, and twice as long before each further one."),
    click.option("--ttl", type=DURATION, metavar="TIME", help="Remove a job if no worker has taken it by then."),
    click.option("--timeout", type=DURATION, metavar="TIME", help="A try that takes longer has failed."),
    click.option("--tag", "tags", multiple=True, metavar="TAG", help="May be repeated."),
)  # fmt: skip


def how(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what becomes of slots, and how jobs are pushed; the latter are given as ``options``, those that were said."""

    @wraps(command)
    def gathered(*arguments: Any, **values: Any) -> Any:
        said = {name: values.pop(flag) for flag, name in _OPTIONS.items()}
        said["tags"] = list(said["tags"]) or None
        refuse_zero(ttl=said["ttl"], timeout=said["timeout"])
        values["misfireMax"] = values.pop("misfire_max")
        return command(*arguments, options={key: each for key, each in said.items() if each is not None}, **values)

    decorated: Callable[..., Any] = gathered
    for option in reversed(_HOW):
        decorated = option(decorated)
    return decorated


def or_none(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let each option of one value take `none`, too: as if it had never been given."""
    for param in getattr(command, "__click_params__", ()):
        is_one = isinstance(param, click.Option) and not param.is_flag and not param.multiple
        # What has no default cannot be taken back.
        if is_one and param.name not in ("url", "token", "queue", "data", "cron", "every", "at"):
            param.type = OrNone(param.type)
        if is_one and param.help:
            # What is left out stays as it is.
            param.help = re.sub(r"  \[default: (.*)\]$", r"  [none: \1]", param.help)
    return command


def refuse_unclear(given: dict[str, Any]) -> None:
    """Raise ``UsageError`` unless exactly one flag says when a schedule runs."""
    if sum(given[name] is not None for name in ("cron", "every", "at")) != 1:
        raise click.UsageError("say when it runs: one of --cron, --every and --at")


def refuse_of_no_effect(given: dict[str, Any]) -> None:
    """Raise ``UsageError`` where something is said of missed slots that changes nothing."""
    said = of_no_effect(*map(given.get, ("misfire", "misfireMax", "window", "jitter")))
    if said is not None:
        raise click.UsageError(_FIELDS.sub(lambda found: f"--{found[0].replace('_', '-')}", said))


def fields_of(url: str, token: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """Return what was said, as the server has it; times from now on are by the server's clock. Say what is special about dates."""
    fields = {name: None if value is NOTHING else value for name, value in given.items() if value is not None}
    for name in TIMES:
        if isinstance(said := fields.get(name), datetime):
            shown = _shown(said, fields.get("timezone"))
            fields[name] = shown.ms
            if shown.remark is not None:
                click.echo(f"--{name} {said}: {shown.remark}", err=True)
        elif said is not None:
            ms, from_now = said
            fields[name] = ms + now_ms(url, token) if from_now else ms
    return fields


def _shown(said: datetime, zone: str | None) -> Shown:
    """Return when the clock of a zone, or the one here, shows a date and time."""
    if zone is not None and zone not in zones.names():
        raise click.BadParameter(f"{zone!r} must be a name of the IANA time zone database", param_hint="--timezone")
    try:
        return when_shown(said, None if zone is None else zones.zone_of(zone))
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(
            f"{said} is no time in a year from 1 to 9999", param_hint="--at, --start or --end"
        ) from None
