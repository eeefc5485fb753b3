"""Commands about the schedules of a running server: what there is, when each runs, what became of its slots, and changes."""

import json
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from functools import partial, wraps
from http import HTTPStatus
from itertools import islice
from typing import Any

import anyio
import click
from msgspec import Raw

from bunqueue_trio.cli.listing import Listing
from bunqueue_trio.cli.many import dry_option
from bunqueue_trio.cli.remote import (
    Refusal,
    answer,
    at,
    connection,
    json_argument,
    json_of,
    json_option,
    of_list_alone,
    pages,
    plain,
    say,
    with_server,
)
from bunqueue_trio.cli.scheduling import (
    NOTHING,
    TIMES,
    fields_of,
    how,
    or_none,
    refuse_of_no_effect,
    refuse_unclear,
    when,
)
from bunqueue_trio.cli.words import told

# The rules of zones are those of the server.
from bunqueue_trio.engine import zones
from bunqueue_trio.errors import ConnectionLost, Refused, ServerUnavailable
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.pages.words import count, span, whole
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.scheduled import (
    Past,
    RepeatView,
    SchedulePreview,
    ScheduleReply,
    ScheduleRuns,
    SchedulesReply,
    ScheduleView,
)

# A server gives no more at once.
_PAGE = 100
_MOMENTS = (*TIMES, "anchor", "pausedAt", "waitingSlot")
_PUT = (
    "queue", "data", "cron", "timezone", "every", "anchor", "at", "start", "end", "limit", "jitter", "misfire", "misfireMax", "window",
    "overlap", "options",
)  # fmt: skip
_DETAILS = (
    "data", "options", "limit", "jitter", "misfire", "misfireMax", "window", "overlap", "pausedAt", "waitingSlot",
)  # fmt: skip
# As a name is that has two letters the other way round.
_LIKE = 0.7
# Characters of a name in which nobody slips.
_BEGIN = 2
# Characters of a value before and after, to be shown.
_SHORT = 100

_as_json = json_option
_next = click.option(
    "--next", "next_", type=click.IntRange(1, 25), default=5, show_default=True, metavar="N", help="Show the next N runs.",
)  # fmt: skip


def _named(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument NAME; where there is no such schedule it is said which ones are called alike."""

    @wraps(command)
    def checked(url: str, token: str | None, name: str, **values: Any) -> Any:
        try:
            return command(url, token, name, **values)
        except Refusal as refusal:
            if refusal.status != HTTPStatus.NOT_FOUND:
                raise
            near = get_close_matches(name, _some_names(url, token, name), cutoff=_LIKE)
            meant = f"; do you mean {' or '.join(near)}?" if near else ""
            raise click.ClickException(printable(f"{refusal.message}: {name}{meant}")) from None

    return click.argument("name")(checked)


def _some_names(url: str, token: str | None, name: str) -> list[str]:
    """Return the first names that there are, and those that begin as ``name`` does."""
    places: list[dict[str, Any]] = [{}, {"after": name[:_BEGIN]}]
    found = [answer(url, token, c.ListSchedules, limit=_PAGE, **place) for place in places]
    return list({each.name: None for page in found for each in page.schedules})


@click.group(invoke_without_command=True)
@with_server
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Show at most N; all unless you say.")
@_as_json
@click.pass_context
def schedules(ctx: click.Context, url: str, token: str | None, *, limit: int | None, as_json: bool) -> None:
    """Jobs by the clock: list the schedules, and put, change, pause or delete them."""
    of_list_alone(ctx, "url", "token", "limit", "as_json")
    if ctx.invoked_subcommand is None:
        _list(url, token, limit=limit, as_json=as_json)


@schedules.command("list")
@with_server
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Show at most N; all unless you say.")
@_as_json
def list_(url: str, token: str | None, *, limit: int | None, as_json: bool) -> None:
    """List the schedules: name, next run or state, when, queue, and how many jobs their slots have brought.

    A slot is a time at which a schedule is to run; jobs brought by `schedules run` are not counted. Jobs that were pushed with --repeat-every
    come last: name, due, how often, queue, which run it is, and its id.
    """
    _list(url, token, limit=limit, as_json=as_json)


def _list(url: str, token: str | None, *, limit: int | None, as_json: bool) -> None:
    shown, found = 0, (cells for page in pages(url, token, c.ListSchedules, limit=_PAGE) for cells in _all_cells(page))
    with Listing("name", "next", "when", "queue", "by slots", as_json=as_json) as listing:
        for cells, each in islice(found, limit):
            shown += 1
            listing.add(each, *cells)
    if not (shown or as_json):
        click.echo("no schedules", err=True)


def _all_cells(page: SchedulesReply) -> Iterator[tuple[tuple[str, ...], ScheduleView | RepeatView]]:
    yield from ((_cells(each), each) for each in page.schedules)
    yield from ((_repeat_cells(each), each) for each in page.repeats)


def _line(each: ScheduleView) -> str:
    return "  ".join((*_cells(each)[:-1], _jobs(each.runs)))


def _cells(each: ScheduleView) -> tuple[str, ...]:
    following = each.state if each.next_run is None else _in_zone(each.next_run, each.timezone)
    return each.name, following, _when_of(each), each.queue, str(each.runs)


def _jobs(slots: int) -> str:
    """Return how many jobs have come of slots; those of `run` do not count against a limit."""
    return f"{count(slots, 'job')} by slots"


def _repeat_cells(each: RepeatView) -> tuple[str, ...]:
    runs = f"run {each.run:,}" + ("" if each.limit is None else f" of {each.limit:,}")
    following = at(each.due) if each.state == "delayed" else each.state
    every = f"every {whole(each.every)}"
    return each.name or "(repeat)", following, every, each.queue, f"{runs}  job {each.job}"


def _when_of(each: ScheduleView) -> str:
    if each.cron is not None:
        return f"{each.cron} {each.timezone}"
    if each.at is not None:
        return f"once at {_in_zone(each.at, each.timezone)}"
    assert each.every is not None
    return f"every {whole(each.every)}"


def _in_zone(ms: int, zone: str) -> str:
    """Return a time as the clock of the schedule's zone shows it."""
    try:
        return zones.local_text(zone, ms).replace("T", " ") if zone in zones.names() else at(ms)
    except (ValueError, OverflowError, OSError):
        # Later than any calendar.
        return at(ms)


@schedules.command()
@with_server
@_named
@_next
@click.option(
    "--limit", type=click.IntRange(1, _PAGE), default=20, show_default=True, metavar="N", help="Show the last N runs."
)
@_as_json
def show(url: str, token: str | None, name: str, *, next_: int, limit: int, as_json: bool) -> None:
    """Show the schedule NAME: its jobs, when it runs next, and what became of its past runs."""
    each = answer(url, token, c.GetSchedule, name=name).schedule
    runs = answer(url, token, c.GetScheduleRuns, name=name, next=next_, limit=limit)
    if as_json:
        click.echo(json_of({"schedule": each, "upcoming": runs.upcoming, "past": runs.past, "rules": runs.rules}))
        return
    click.echo(printable(_line(each)))
    fields = plain(each)
    for key in _DETAILS:
        if fields[key] not in (None, 0, {}) and (key != "misfireMax" or each.misfire == "all"):
            click.echo(printable(f"{key}: {_told(key, fields)}"))
    if each.source is not None:
        click.echo(printable(f"declared by {each.source}"))
    _show_upcoming(runs, each.cron)
    for past in runs.past:
        click.echo(printable(_past(past, each.timezone)))
    if runs.next is not None:
        click.echo(f"the last {count(limit, 'slot')}; --limit shows more", err=True)


def _told(key: str, each: dict[str, Any]) -> str:
    value = each[key]
    if value is None or value == {}:
        return "none" if key != "data" else json.dumps(value)
    if key in _MOMENTS:
        return _in_zone(value, each["timezone"])
    if key == "data":
        return json.dumps(value, ensure_ascii=False)
    return value if isinstance(value, str) else told(key, value)


def _show_upcoming(runs: ScheduleRuns | SchedulePreview, cron: str | None) -> None:
    for each in runs.upcoming:
        late = each.run_at - each.slot
        remarks = [*([f"{span(late)} later: jitter"] if late else []), *each.remarks]
        click.echo(printable(f"next  {each.local.replace('T', ' ')}  {'; '.join(remarks)}".rstrip()))
    if cron is not None:
        click.echo(printable(f"time zones by tzdata {runs.rules}"))


def _past(past: Past, zone: str) -> str:
    until = "" if past.until == past.slot else f" to {_in_zone(past.until, zone)}"
    parts = [f"past  {_in_zone(past.slot, zone)}{until}", past.outcome, past.job, past.why]
    parts += [None if past.took is None else f"took {span(past.took)}", past.error]
    return "  ".join(part for part in parts if part)


@schedules.command()
@with_server
@when
@_next
@_as_json
def preview(url: str, token: str | None, *, next_: int, as_json: bool, **given: Any) -> None:
    """Show when a schedule would run, and store nothing. `put --dry-run` checks everything else, too."""
    refuse_unclear(given)
    told = answer(url, token, c.PreviewSchedule, next=next_, **fields_of(url, token, given))
    if as_json:
        click.echo(json_of(told))
    else:
        _show_upcoming(told, given["cron"])


@schedules.command()
@with_server
@click.argument("name")
@click.argument("queue")
@click.argument("data", metavar="[JSON]", default="null")
@when
@how
@dry_option
@_as_json
def put(
    url: str, token: str | None, name: str, queue: str, data: str, *, dry_run: bool, as_json: bool, **given: Any
) -> None:
    """Create the schedule NAME, or replace it: it adds jobs with the payload JSON to QUEUE.

    Say when: --cron, --every or --at. No job is added now; the first comes at its time. If NAME is there already, it is replaced as a
    whole, and you see what has changed: what you leave out goes back to its default. To change a part of it, use `change`.
    JSON is read from standard input if it is `-`, and from a file if it is `@FILE`.
    """
    refuse_unclear(given)
    refuse_of_no_effect(given)
    fields: dict[str, Any] = {"name": name, "queue": queue, "data": Raw(json_argument(data)), "dryRun": dry_run}
    fields |= fields_of(url, token, given)
    with connection(url, token) as ask:
        try:
            before: ScheduleView | None = ask(c.GetSchedule, name=name).schedule
        except Refusal:
            before = None
        said = ask(c.PutSchedule, **fields)
    _tell_put(said, before, dry_run=dry_run, as_json=as_json)


@schedules.command()
@with_server
@_named
@click.option("--queue", metavar="QUEUE", help="Add the jobs to this queue.")
@click.option("--data", metavar="JSON", help="The new payload; `-`: from standard input, `@FILE`: from a file.")
@or_none
@when
@how
@dry_option
@_as_json
def change(
    url: str, token: str | None, name: str, *, queue: str | None, data: str | None, options: dict[str, Any], dry_run: bool, as_json: bool,
    **given: Any,
) -> None:  # fmt: skip
    """Change a part of the schedule NAME. What you leave out stays as it is; `none` brings back the default.

    No job is added now. One of --cron, --every and --at replaces the others.
    """
    fields = fields_of(url, token, given) | ({} if queue is None else {"queue": queue})
    if data is not None:
        fields["data"] = Raw(json_argument(data))
    for flag, value in (("--queue", queue), ("--cron", given["cron"])):
        if value == "none":
            raise click.UsageError(f"{flag} has no default that `none` could bring back")
    if not fields and not options:
        raise click.UsageError("say what to change: --data, --queue, --cron, --overlap …")
    before = answer(url, token, c.GetSchedule, name=name).schedule
    was = plain(before)
    refuse_of_no_effect(
        was | {"misfireMax": None} | fields if fields.keys() & {"window", "misfire", "misfireMax", "jitter"} else {}
    )
    if options:
        merged = was["options"] | {key: None if each is NOTHING else each for key, each in options.items()}
        fields["options"] = {key: each for key, each in merged.items() if each is not None}
    said = answer(url, token, c.ChangeSchedule, name=name, **fields, dryRun=dry_run)
    _tell_put(said, before, dry_run=dry_run, as_json=as_json)


def _tell_put(said: ScheduleReply, before: ScheduleView | None, *, dry_run: bool, as_json: bool) -> None:
    """Say what came of a schedule that was put or changed, and what is another than before."""
    say(f"{'would be ' if dry_run else ''}{said.outcome}: {_line(said.schedule)}", said, as_json=as_json)
    if not as_json and said.outcome == "changed" and before is not None:
        for each in _differences(plain(before), plain(said.schedule)):
            click.echo(printable(f"  {each}"))
        if before.source is not None:
            click.echo(
                printable(f"{before.name}: {before.source} declares it, and its next sync puts it as it is there"),
                err=True,
            )


def _differences(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """Yield what is another than before, of that which is put."""
    for name in _PUT:
        if before[name] == after[name]:
            continue
        if name == "options":
            # One that is too long to be shown does not hide the others.
            for key in dict.fromkeys([*before[name], *after[name]]):
                old, new = (told(key, each[name][key]) if key in each[name] else "none" for each in (before, after))
                if old != new:
                    yield _difference(f"{name} {key}", old, new)
        else:
            yield _difference(name, *(_told(name, each) for each in (before, after)))


def _difference(name: str, old: str, new: str) -> str:
    return f"{name}: {old} → {new}" if len(old) + len(new) <= _SHORT else f"{name}: another one"


@schedules.command()
@with_server
@_named
@_as_json
def run(url: str, token: str | None, name: str, *, as_json: bool) -> None:
    """Add a job of the schedule NAME now, and print its id. The schedule goes on as before."""
    reply = answer(url, token, c.RunSchedule, name=name)
    say(reply.id, reply, as_json=as_json)


@schedules.command()
@with_server
@_named
@_as_json
def pause(url: str, token: str | None, name: str, *, as_json: bool) -> None:
    """Pause the schedule NAME: it adds no jobs until `schedules resume`."""
    say(f"{name}: paused", answer(url, token, c.PauseSchedule, name=name), as_json=as_json)


@schedules.command()
@with_server
@_named
@_as_json
def resume(url: str, token: str | None, name: str, *, as_json: bool) -> None:
    """Resume the schedule NAME. What it missed during the pause is skipped."""
    reply = answer(url, token, c.ResumeSchedule, name=name)
    each = answer(url, token, c.GetSchedule, name=name).schedule
    following = each.next_run
    when = "no slot is to come" if following is None else f"next {_in_zone(following, each.timezone)}"
    say(f"{name}: resumed, {when}", reply, as_json=as_json)


@schedules.command()
@with_server
@_named
@_as_json
def delete(url: str, token: str | None, name: str, *, as_json: bool) -> None:
    """Delete the schedule NAME. Its jobs stay."""
    say(f"{name}: deleted", answer(url, token, c.DeleteSchedule, name=name), as_json=as_json)


@schedules.command()
@with_server
@click.argument("targets", metavar="MODULE:NAME...", nargs=-1, required=True)
@click.option("--take-over", is_flag=True, help="Also schedules that an app of another name has declared.")
@_as_json
def sync(url: str, token: str | None, targets: tuple[str, ...], *, take_over: bool, as_json: bool) -> None:
    """Put the schedules that these apps declare onto the server.

    Of each app all are put, or none. Nothing is deleted: schedules that an app no longer declares are only named.
    """
    # Only here: a client of Python takes a while to read.
    from bunqueue_trio.cli.worker import hint_of, imported, told_of
    from bunqueue_trio.client.app import App

    for target in targets:
        app = imported(target)
        if not isinstance(app, App):
            raise click.BadParameter(f"{target!r} is no App", param_hint="MODULE:NAME")
        app.use_server(url, token)
        try:
            synced = anyio.run(partial(app.sync, take_over=take_over), backend="trio")
        except Refused as refused:
            raise click.ClickException(printable(f"{target}: {refused}{hint_of(refused)}")) from None
        except (ServerUnavailable, ConnectionLost) as error:
            raise click.ClickException(str(error)) from None
        if as_json:
            click.echo(json.dumps({"target": target} | synced._asdict()))
            continue
        lines = told_of(app, synced)
        if synced.unchanged or not lines:
            lines.append(f"{target}: {len(synced.unchanged):,} unchanged")
        for line in lines:
            click.echo(printable(line))
