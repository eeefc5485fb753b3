"""The server itself: what it stores and how long that will fit, and with what settings and tasks it runs."""

from collections.abc import Mapping
from dataclasses import fields
from heapq import nsmallest
from typing import Any, NamedTuple

from bunqueue_trio.config import GROUPS, NO_LIMIT, SHRINK_SLACK_BYTES, Settings
from bunqueue_trio.pages.findings import DISK_FREE_MIN, full_in_ms, growth_an_hour, p99
from bunqueue_trio.pages.storage import heaviest, kinds, shorter
from bunqueue_trio.pages.upkeep import of_copies, says
from bunqueue_trio.pages.words import Given, line, size, whole
from bunqueue_trio.ui import charts
from bunqueue_trio.ui.actions import Bound, bind
from bunqueue_trio.ui.ask import Ask, Screen
from bunqueue_trio.ui.first import first

TOP, CALLERS = 12, 10
_OF_STORAGE = {"storage-damaged", "storage-failing", "disk-fills", "log-grows", "commits-slow", "backup-failed"}
_OF_SERVER = {
    "not-sure",
    "not-ready",
    "audit-faults",
    "task-failing",
    "loop-lags",
    "events-missed",
    "clock-off",
    "no-tokens",
}


async def storage(ask: Ask) -> Screen:
    """Return the page of what is stored."""
    picture, found = await ask.found()
    told, past, settings = picture.told, picture.past, ask.server.settings
    space = told.storage.space
    hour = [minute for minute in past.minutes if minute.at >= told.now - 3600_000]
    weights = {heap.queue: heap.unfinished + heap.ended for heap in heaviest(told) or ()}
    kept, _ = await first(
        picture.queues, TOP,
        lambda q: q.completed or q.dead or q.name in weights,
        lambda q: (-weights.get(q.name, 0), -q.completed - q.dead, q.name),
    )  # fmt: skip
    return Screen(
        "storage.html", "Storage", "storage",
        {
            "space": space, "is_full": told.storage.full_since is not None, "little": DISK_FREE_MIN, "log": told.storage.log_bytes, "pending": told.storage.pending, "growth": growth_an_hour(past, told.now, space.file),
            "ends": full_in_ms(past, told.now, space.disk_free) if space.disk else None, "jobs": told.jobs, "audited_at": told.audit.last_done_at,
            "unfinished": told.unfinished, "commits": told.storage.commits, "durable": told.storage.durable_commits,
            "commit_ms": p99(told, "commit", None), "found": [each for each in found if each.code in _OF_STORAGE],
            "file_chart": charts.area([m.file_bytes for m in hour], "size of the file within the last hour"),
            "kept": [(q, ([bind(ask, "clean", queue=q.name, state="completed")] if q.completed else []) + ([bind(ask, "purge-all", queue=q.name)] if q.dead else [])) for q in kept],
            "rules": _rules(settings, told.jobs), "shorter": shorter(told), "kinds": kinds(told), "weights": weights, "upkeep": _upkeep(ask), "data_path": settings.where,
        },
        live_s=5,
    )  # fmt: skip


class Upkeep(NamedTuple):
    """Something that is done to the store: how it goes, what came of it last, and what does it."""

    what: str
    how: str
    last: str = ""
    at: int | None = None
    """When that was."""
    trouble: str = ""
    """What kind of end that was, if it was no good one."""
    acts: tuple[Bound, ...] = ()
    lines: tuple[str, ...] = ()
    """For a shell on the machine of the server, beside the button or in its place."""


_CHECKED = (
    "The server checks all jobs, in memory and as they are stored, pass after pass; `doctor` says what it has found."
)


def _upkeep(ask: Ask) -> list[Upkeep]:
    """Return how the file is copied, checked and shrunk; what a database does for itself is said, too."""
    settings, backups = ask.server.settings, ask.server.keeper.backups()
    if settings.store:
        live = line("doctor", "--live", "--wait"), line("doctor", "--store", "URL")
        return [
            Upkeep("Back up", "Backups are the database's. When one was made last the server does not know.", lines=("pg_dump -n bunqueue",)),
            Upkeep("Check", f"{_CHECKED} The last line reads the database beside it.", lines=live),
            Upkeep("Shrink", "PostgreSQL gives room back by itself (autovacuum)."),
        ]  # fmt: skip
    if backups is None:
        return [
            Upkeep(
                "Back up", "The queue is in memory: there is no file, and nothing is left of it when the process ends."
            )
        ]
    works, path = {each.kind: each for each in ask.server.keeper.works()}, Given(settings.data_path)

    def row(name: str, what: str, how: str, *lines: str) -> Upkeep:
        acts, work = (bind(ask, name),), works.get(name)
        if work is not None:
            trouble = "failed" if work.error is not None else "found" if work.findings else ""
            return Upkeep(what, how, says(work), work.ended_at, trouble, acts, lines)
        if name == "backup" and backups.last_at is not None:
            return Upkeep(what, how, "The newest copy is of", backups.last_at, acts=acts, lines=lines)
        return Upkeep(what, how, acts=acts, lines=lines)

    return [
        row("backup", "Back up", f"One moment of the file, whole and checked, beside the running server. {of_copies(backups)}", line("backup", path, "COPY")),
        row("check", "Check", f"All of the file is read, as after a start and every day. {_CHECKED}", line("doctor", "--live", "--wait"), line("doctor", path)),
        row("shrink", "Shrink", f"What is free beyond {size(SHRINK_SLACK_BYTES)} goes back to the disk by itself, step by step; this gives back the rest, too."),
    ]  # fmt: skip


def _rules(settings: Settings, jobs: Any) -> list[tuple[str, int | None, str, str]]:
    """Return what is kept how long: its name, how many there are, the limits, and the variable that sets them."""
    age = _limit(settings.retention_age_ms, whole)
    return [
        ("Completed jobs", jobs["completed"], f"{_limit(settings.retention_completed_max, _whole)}, {age}", "RETENTION_COMPLETED_MAX"),
        ("Dead letters", jobs["failed"], f"{_limit(settings.retention_dead_max, _whole)}, {age}", "RETENTION_DEAD_MAX"),
        (
            "Events", None,
            f"{_limit(settings.retention_events_max, _whole)}, {_limit(settings.retention_events_age_ms, whole)}", "RETENTION_EVENTS_MAX",
        ),
        (
            "Acts of operators", None,
            f"{_limit(settings.retention_actions_max, _whole)}, {_limit(settings.retention_actions_age_ms, whole)}", "RETENTION_ACTIONS_MAX",
        ),
    ]  # fmt: skip


def _whole(n: float) -> str:
    return f"{n:,}"


def _limit(value: int, words: Any) -> str:
    return "no limit" if value >= NO_LIMIT else f"at most {words(value)}"


async def server(ask: Ask) -> Screen:
    """Return the page of the server."""
    picture, found = await ask.found()
    told = picture.told
    callers = nsmallest(CALLERS, told.connections.addresses.items(), key=lambda each: (-each[1], each[0]))
    return Screen(
        "server.html", "Server", "server",
        {
            "callers": callers, "others": len(told.connections.addresses) - len(callers),
            "told": told, "addresses": ask.server.addresses, "settings": _settings(ask.server.settings, ask.server.sources),
            "lag_ms": p99(told, "loop_lag", None), "commit_ms": p99(told, "commit", None), "wait_ms": p99(told, "wait", None),
            "run_ms": p99(told, "run", None), "found": [each for each in found if each.code in _OF_SERVER],
        },
        live_s=5,
    )  # fmt: skip


class Row(NamedTuple):
    """A setting in force."""

    variable: str
    value: str
    source: str
    """A flag, a variable, a file; empty: it is the default."""
    what: str


def _settings(settings: Settings, sources: Mapping[str, str]) -> list[tuple[str, list[Row]]]:
    """Return the settings in force by their groups, and where each value comes from."""
    found: dict[str, list[Row]] = {group: [] for group in GROUPS}
    for f in fields(settings):
        value = getattr(settings, f.name)
        is_secret = f.metadata["secret"] and value
        # What nothing stands for is said in words.
        shown = str(f.metadata["shown"] or "none") if value == "" else _value(f.name, value)
        shown = shown if not is_secret else "set" if isinstance(value, str) else f"{len(value)} set"
        # Who starts a server by its own program need not say.
        source = sources.get(f.name, "default" if value == f.default else "set")
        source = "" if source == "default" else source
        found[f.metadata["group"]].append(Row(f.metadata["env"], shown, source, f.metadata["help"]))
    return list(found.items())


def _value(name: str, value: Any) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int) and value >= NO_LIMIT:
        return "no limit"
    if name.endswith("_ms"):
        return str(whole(value))
    return str(size(value)) if name.endswith("_bytes") else str(value)
