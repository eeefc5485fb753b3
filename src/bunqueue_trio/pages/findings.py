"""What is wrong, as sentences: rules over one picture of the server. Pure functions; they look nowhere else.

They are the rules of ``docs/alerts.yml``, and some that need to see the queues one by one. Each finding says since when,
with what numbers, what the likely cause is, and what speaks for it; the worst comes first.
"""

from collections.abc import Callable, Iterator, Sequence
from heapq import nlargest
from itertools import chain
from typing import Literal

import trio
from msgspec import Struct

from bunqueue_trio.config import MIB, MINUTE_MS
from bunqueue_trio.pages.act_findings import act_findings
from bunqueue_trio.pages.cluster_findings import cluster_findings
from bunqueue_trio.pages.damage_findings import damage_findings
from bunqueue_trio.pages.new_findings import OVER_MS, held_by, hung_workers
from bunqueue_trio.pages.queue_findings import Candidates, gone
from bunqueue_trio.pages.schedule_findings import schedule_findings
from bunqueue_trio.pages.upkeep import upkeep_findings
from bunqueue_trio.pages.words import Given, count, in_state, line, size, span
from bunqueue_trio.protocol.codec import encode
from bunqueue_trio.runtime.history import Minute, Past
from bunqueue_trio.runtime.picture import QueueLook, WorkerLook
from bunqueue_trio.runtime.statistics import Page, Reporter, Statistics

Severity = Literal["critical", "warning", "notice"]
RANKS: dict[Severity, int] = {"critical": 0, "warning": 1, "notice": 2}

# Queues that the rules look at before others are served, 1 ms; and findings that are shown, the worst first.
JUDGED_A_TURN, FINDINGS_MAX = 100, 100
DISK_FREE_MIN = 256 * MIB
# What a slice of `clean` may write into the log; with less, it may be refused.
DELETES_MIN = 4 * MIB
DISK_FULL_WITHIN_MS = 4 * 3600_000
# Of growth before it is trusted.
DISK_SEEN_MS = 10 * MINUTE_MS
# Of growth before it is a finding.
GROWTH_SEEN_MS = 5 * MINUTE_MS
LOG_BYTES_MAX, PENDING_MAX = 256 * MIB, 10_000
COMMIT_MS_MAX, LAG_MS_MAX = 250, 100
JUDGED_MS = 5 * MINUTE_MS
# Of a histogram before its tail says something.
SAMPLES_MIN = 20
CLOCK_OFF_MS = 3000


class Finding(Struct, frozen=True, kw_only=True, rename="camel"):
    """Something that somebody should know; times in epoch ms."""

    code: str
    severity: Severity
    title: str
    cause: str
    evidence: str
    remedy: str = ""
    """What to do first, where that is the same each time."""
    commands: tuple[str, ...] = ()
    """Lines of a shell that show more of it, or help; the pages have buttons for some."""
    queue: str | None = None
    job: str | None = None
    schedule: str | None = None
    worker: str | None = None
    """Its id."""
    error: str | None = None
    """The fingerprint of its group."""
    since: int | None = None
    until: int | None = None
    """Of what is over: when it was last the case; null while it is."""
    numbers: dict[str, int] = {}
    alert: str | None = None
    """The alert of ``docs/alerts.yml`` with the same rule."""
    weight: int = 0
    """Orders the findings of one severity."""


class Picture(Struct, frozen=True):
    """All that the rules look at."""

    told: Statistics
    queues: Sequence[QueueLook]
    past: Past
    is_guarded: bool = True
    """A token is asked for, or only this machine can ask."""
    workers: Sequence[WorkerLook] = ()
    """Those that have several jobs, none of which has come lately."""


async def picture_of(server: Reporter) -> Picture:
    """Return what the rules look at, of a server as it is now; lets others run while it looks at the queues."""
    queues = await server.look_at_queues()
    await trio.lowlevel.checkpoint()
    return Picture(server.statistics(), queues, server.past(), server.is_guarded, server.look_at_workers())


async def findings(server: Reporter) -> Page:
    """Return what is wrong, worst first."""
    picture, found = await look(server)
    return (
        "application/json",
        encode({"ok": True, "now": picture.told.now, "findings": found} | unsure(picture.told)),
        200,
    )


async def look(server: Reporter) -> tuple[Picture, list[Finding]]:
    """Return the picture that the rules look at, and their findings; lets others run in between."""
    picture, candidates = await picture_of(server), Candidates()
    queues = [*picture.queues, *gone(picture.queues, picture.past)]
    for start in range(0, len(queues), JUDGED_A_TURN):
        await trio.lowlevel.checkpoint()
        candidates.scan(picture.told, queues[start : start + JUDGED_A_TURN], picture.past)
    await trio.lowlevel.checkpoint()
    return picture, _worst(picture, candidates)


def unsure(told: Statistics) -> dict[str, bool]:
    """Return what a page says more while another server may lead, and know better; nothing else."""
    return {} if told.is_sure else {"sure": False}


def find(picture: Picture) -> list[Finding]:
    """Return what is wrong, worst first."""
    candidates = Candidates()
    candidates.scan(picture.told, [*picture.queues, *gone(picture.queues, picture.past)], picture.past)
    return _worst(picture, candidates)


def _worst(picture: Picture, candidates: Candidates) -> list[Finding]:
    server = chain.from_iterable(rule(picture) for rule in _RULES)
    hung = list(hung_workers(picture.workers, picture.past, picture.told.now))
    queues = candidates.tell(picture.told, picture.queues, picture.past, held_by(hung))
    found = [*server, *(Finding(**fields) for fields in chain((each for _, each in hung), queues))]
    return sorted(found, key=_place)[:FINDINGS_MAX]


def _place(each: Finding) -> tuple[int, bool, int, str]:
    """Return its position: among findings of one severity, those that are over come last."""
    return RANKS[each.severity], each.until is not None, -each.weight, each.title


def _unsure(picture: Picture) -> Iterator[Finding]:
    told = picture.told.storage
    if not picture.told.is_sure:
        yield Finding(
            code="not-sure", severity="critical", since=told.failing_since, weight=1100 * 10**5,
            title="This server may not lead any more: what it shows is how things were",
            cause=f"It has not reached its {told.kind} within its lease, so another server may have taken over.",
            evidence="It answers no commands until it knows; pages and findings show how things were.", remedy="`bunqueue-trio cluster --store URL` asks the database who leads.",
            commands=(line("health"),),
        )  # fmt: skip


_REFUSES = {
    "disk": ("The disk refuses changes", "The disk is full, read-only or broken, or the file is not where it was."),
    "database": ("The database takes no changes", "The database is down, cannot be reached, is full or read-only."),
}
"""What the queue is on → what is to be said when it takes no changes, and why that is."""
_REPAIR = {
    "disk": "Make room on the disk outside of the queue, enlarge it, or mend it: with no room at all nothing can be deleted either. A file that was moved goes back where it was.",
    "database": "Start the database, or mend the way to it; what it says is above.",
}
_GOES_ON = {
    True: "Pushes, acks and fails get 503; reading goes on.",
    False: "Commands get 503, also those that only read, until it is known who leads.",
}
"""Whether it is sure that this server leads → what is answered meanwhile."""


def _storage(picture: Picture) -> Iterator[Finding]:
    told = picture.told.storage
    if told.is_stopped:
        # That is a matter of the damage: no room helps, and nothing is tried again.
        return
    if told.is_failing:
        title, cause = _REFUSES[told.kind]
        # One disk is one matter, also where it is full: see `_disk`.
        room = (
            f" {size(told.space.disk_free)} of {size(told.space.disk)} are free."
            if told.kind == "disk" and told.space.disk
            else ""
        )
        yield Finding(
            code="storage-failing", severity="critical", alert="BunqueueStorageFailing", since=told.failing_since, weight=1000 * 10**5,
            title=title, cause=f"{cause} It says: {(told.trouble or 'nothing')[:300]}",
            evidence=f"{count(told.pending, 'change waits', 'changes wait')} for it.{room} {_GOES_ON[picture.told.is_sure]}",
            numbers={"pending": told.pending},
            remedy=f"{_REPAIR[told.kind]} The server tries again by itself, and what it has answered is safe.",
            commands=(line("storage"),),
        )  # fmt: skip
    elif picture.told.is_sure and not picture.told.is_ready:
        yield Finding(
            code="not-ready", severity="critical", alert="BunqueueNotReady", title="The server is stopping",
            cause="Somebody has told it to stop, and it waits for what is under way.",
            evidence="New work is refused; /ready answers 503.", commands=(line("health"),),
        )  # fmt: skip


_MAKE_ROOM = "Workers free the room of what waits. `clean` says what it would free before it asks; a shorter `RETENTION_AGE_MS` keeps less from the next start on."


def _disk(picture: Picture) -> Iterator[Finding]:
    space, now = picture.told.storage.space, picture.told.now
    if not space.disk or picture.told.storage.is_failing:
        # It was not looked at yet, or there is none; or it is a finding above.
        return
    ends, full_since = full_in_ms(picture.past, now, space.disk_free), picture.told.storage.full_since
    # The reserve may be larger than what is little for others.
    if space.disk_free >= DISK_FREE_MIN and full_since is None and (ends is None or ends > DISK_FULL_WITHIN_MS):
        return
    little = "is nearly full" if full_since is not None else f"has little room left: {size(space.disk_free)}"
    soon = f"The disk will be full in about {span(ends)} at this rate" if ends else f"The disk {little}"
    few = f", less than {size(DISK_FREE_MIN)}" if not ends and space.disk_free < DISK_FREE_MIN else ""
    yield Finding(
        code="disk-fills", severity="critical", alert="BunqueueDiskFillsUp", title=soon, weight=900 * 10**5,
        cause="Jobs come faster than they leave, finished ones are kept for long, or something else fills the disk.",
        evidence=f"{size(space.disk_free)} of {size(space.disk)} are free{few}; the queue's file has {size(space.file)}."
        + (" What brings jobs or data is refused; what empties the queues goes on." if full_since is not None else "")
        + _fullest(picture),
        since=full_since,
        numbers={"diskFree": space.disk_free, "file": space.file} | ({"fullInMs": int(ends)} if ends else {}),
        remedy=_MAKE_ROOM if space.disk_free >= DELETES_MIN else _REPAIR["disk"],
        commands=(line("storage"), *_cleaning(picture)),
    )  # fmt: skip


def _fullest(picture: Picture) -> str:
    """Say which queues hold most jobs, and in which state: that is what most likely fills the file."""
    held = [
        (n, f"{in_state(n, called)} in {queue.name}")
        for queue in picture.queues
        for n, called in ((queue.waiting, "waiting"), (queue.delayed, "delayed"), (queue.completed, "completed"), (queue.dead, "dead letters"))
        if n
    ]  # fmt: skip
    return f" Most jobs: {', '.join(says for _, says in nlargest(3, held))}." if held else ""


def _cleaning(picture: Picture) -> list[str]:
    """Return the lines that show what waits, if that is most, and free most of what is done with, where there is room to delete."""
    waits = max(picture.queues, key=lambda each: each.waiting, default=None)
    most = max(picture.queues, key=lambda each: each.completed, default=None)
    lines = []
    if most is not None and most.completed and picture.told.storage.space.disk_free >= DELETES_MIN:
        lines.append(line("clean", Given(most.name), "completed"))
    if waits is not None and waits.waiting > (0 if most is None else most.completed):
        lines.insert(0, line("jobs", Given(waits.name), "waiting"))
    return lines


def full_in_ms(past: Past, now: int, free: int) -> float | None:
    """Return in how many ms the disk is full, by how it filled up within the last hour; None when it does not."""
    first = past.since(now - 60 * MINUTE_MS)
    if first is None or not first.disk_free or now - first.at < DISK_SEEN_MS or first.disk_free <= free:
        return None
    return free * (now - first.at) / (first.disk_free - free)


def growth_an_hour(past: Past, now: int, size: int) -> int | None:
    """Return how many bytes an hour the file grew by within the last hour, to now ``size``; None while that is not known."""
    first = past.since(now - 60 * MINUTE_MS)
    if first is None or now - first.at < GROWTH_SEEN_MS or not first.file_bytes:
        return None
    return (size - first.file_bytes) * 60 * MINUTE_MS // (now - first.at)


def _audit(picture: Picture) -> Iterator[Finding]:
    audit = picture.told.audit
    faults = {kind: n for kind, n in audit.faults.items() if n}
    if faults:
        found = audit.findings[0] if audit.findings else None
        yield Finding(
            code="audit-faults", severity="critical", alert="BunqueueAuditFoundAFault", weight=800 * 10**5,
            title=f"The server found {count(sum(faults.values()), 'fault')} in itself",
            cause="A bug of the server, broken memory, or a file that something else has changed.",
            evidence=", ".join(f"{kind}: {n:,}" for kind, n in faults.items()) + (f". {found.what[:300]}" if found else ""),
            since=_since(picture.past, lambda minute: minute.faults > 0), numbers=faults, commands=(line("doctor", "--live"),),
        )  # fmt: skip


def _since(past: Past, holds: Callable[[Minute], bool]) -> int | None:
    """Return the first of the last minutes in which something held without a break."""
    since = None
    for minute in reversed(past.minutes):
        if not holds(minute):
            break
        since = minute.at
    return since


def _tasks(picture: Picture) -> Iterator[Finding]:
    before = picture.past.since(picture.told.now - 10 * MINUTE_MS)
    lately = sum(task.restarts for task in picture.told.tasks) - (before.restarts if before else 0)
    for task in picture.told.tasks:
        fails = task.state in {"failed", "restarting"}
        if fails or (task.restarts > 2 and lately > 2):
            how = "fails again and again" if fails else "has failed again and again within 10 minutes"
            yield Finding(
                code="task-failing", severity="critical", alert="BunqueueTaskFailing", weight=700 * 10**5,
                title=f"The server's task “{task.name}” {how}",
                cause=f"Its last error: {(task.last_error or 'none')[:300]}",
                evidence=f"It is {task.state}, and was restarted {count(task.restarts, 'time')}.",
                numbers={"restarts": task.restarts}, commands=(line("doctor", "--live"),),
            )  # fmt: skip


def _slow(picture: Picture) -> Iterator[Finding]:
    told, first = picture.told, picture.past.since(picture.told.now - JUDGED_MS)
    commits = p99(told, "commit", first.commits if first else None)
    pending = told.storage.pending
    if not told.storage.is_failing and (commits > COMMIT_MS_MAX or pending > PENDING_MAX):
        kind = told.storage.kind
        until = None if pending > PENDING_MAX else _until(picture, "commit", "commits", COMMIT_MS_MAX)
        keeps, takes = ("does not keep up", "takes") if until is None else ("did not keep up", "took")
        yield Finding(
            code="commits-slow", severity="warning", alert="BunqueueCommitsSlow", weight=500 * 10**5, until=until,
            title=f"The {kind} {keeps}: one commit in a hundred {takes} more than {span(commits)}",
            cause=f"A {kind} is slow, or busy with other work, or more is pushed than it can write.",
            evidence=f"{count(pending, 'changed job waits', 'changed jobs wait')} to be written.",
            numbers={"p99Ms": int(commits), "pending": pending}, commands=(line("storage"),),
        )  # fmt: skip
    lag = p99(told, "loop_lag", first.lags if first else None)
    if lag > LAG_MS_MAX:
        until = _until(picture, "loop_lag", "lags", LAG_MS_MAX)
        is_late, lags = ("is late", "lags") if until is None else ("was late", "lagged")
        yield Finding(
            code="loop-lags", severity="warning", alert="BunqueueLoopLags", weight=400 * 10**5, until=until,
            title=f"The server {is_late}: its event loop {lags} by up to {span(lag)}",
            cause="More work than one processor does, or a machine that is busy with something else.",
            evidence=f"{count(told.pushes_per_s, 'push', 'pushes')} and {count(told.pulls_per_s, 'pull')} a second.",
            numbers={"p99Ms": int(lag)}, commands=(line("stats"),),
        )  # fmt: skip


def _until(picture: Picture, histogram: str, field: str, most: float) -> int | None:
    """Return when, in the last minutes, the 99th percentile was above ``most`` for the last time; None: it is above now, or never was."""
    told, minutes = picture.told, picture.past.minutes[-JUDGED_MS // MINUTE_MS :]
    later = told.histograms[histogram].counts
    for place, minute in enumerate(reversed(minutes)):
        if tail(told, histogram, later, getattr(minute, field)) > most:
            # A minute that goes on has few values yet: the last whole one counts as now.
            return None if place < 2 else minutes[-place].at
        later = getattr(minute, field)
    return None


def _schedules(picture: Picture) -> Iterator[Finding]:
    yield from (Finding(**fields) for fields in schedule_findings(picture.told, picture.past))


def _back(picture: Picture) -> Iterator[Finding]:
    for each in picture.told.errors_back:
        until = last if picture.told.now - (last := each.last_at or each.back_at) >= OVER_MS else None
        yield Finding(
            code="error-back", severity="warning", weight=10**7 + each.times, queue=each.queue or None, error=each.fingerprint, since=each.back_at, until=until,
            title=f"{each.queue}: an error that was fixed {'is' if until is None else 'was'} back: {each.shape[:200] or 'none was given'}",
            cause="What was done about it does not hold, or an old version of the workers runs still.",
            evidence=f"{count(each.times, 'job')} died of it since; it was marked as fixed {span(picture.told.now - each.fixed_at)} ago.",
            remedy="Look at its newest dead letters.", numbers={"died": each.times},
            commands=(line("dead", Given(each.queue), "--group", each.fingerprint),) if each.queue else (line("dead", "--groups"),),
        )  # fmt: skip


def p99(told: Statistics, name: str, before: Sequence[int] | None) -> float:
    """Return what 99 of 100 values of a histogram did not exceed since ``before``; 0 when there are too few."""
    return tail(told, name, told.histograms[name].counts, before)


def tail(told: Statistics, name: str, counted: Sequence[int], before: Sequence[int] | None) -> float:
    """Return the same of the values that were counted between two moments."""
    figures = told.histograms[name]
    counts = [n - earlier for n, earlier in zip(counted, before or [0] * len(figures.counts), strict=True)]
    total = sum(counts)
    if total < SAMPLES_MIN:
        return 0
    seen = 0
    for bound, n in zip((*figures.bounds, float(figures.bounds[-1])), counts, strict=True):
        seen += n
        if seen >= 0.99 * total:
            return bound
    return 0


def _rest(picture: Picture) -> Iterator[Finding]:
    told = picture.told
    if told.storage.log_bytes > LOG_BYTES_MAX:
        yield Finding(
            code="log-grows", severity="warning", alert="BunqueueLogGrows", weight=300 * 10**5,
            title=f"The write-ahead log has grown to {size(told.storage.log_bytes)}",
            cause="Something reads the file all the time, such as a backup that hangs, or the disk refuses to move the log.",
            evidence="It is emptied as soon as nobody reads the file for a moment.",
            numbers={"logBytes": told.storage.log_bytes}, commands=(line("storage"),),
        )  # fmt: skip
    first = picture.past.since(told.now - 15 * MINUTE_MS)
    missed = told.events_dropped - (first.dropped if first else 0)
    if missed > 0:
        yield Finding(
            code="events-missed", severity="notice", alert="BunqueueEventsMissed", weight=200 * 10**5,
            title=f"Readers of events missed {count(missed, 'event')} within 15 minutes",
            cause="A reader of a stream is slower than what happens; it learns of that, and reads what is kept.",
            evidence=f"{told.connections.sse} event streams and {told.connections.ws} WebSockets are open.",
            numbers={"missed": missed}, commands=(line("stats"),),
        )  # fmt: skip
    if abs(told.clock_offset_ms) > CLOCK_OFF_MS:
        yield Finding(
            code="clock-off", severity="warning", weight=250 * 10**5,
            title=f"The clock of the machine was set by {span(abs(told.clock_offset_ms))} while the server runs",
            cause="Somebody, or a time service, has set it. The server keeps its own time until its next start.",
            evidence=f"It is {'ahead of' if told.clock_offset_ms > 0 else 'behind'} the server's.",
            numbers={"offsetMs": told.clock_offset_ms},
        )  # fmt: skip
    if not picture.is_guarded:
        yield Finding(
            code="no-tokens", severity="notice", weight=1,
            title="Whoever reaches this address can push, take and delete jobs",
            cause="No tokens are set.", evidence="The server listens on more than this machine, and asks nobody who he is.",
            remedy=f"Set `AUTH_TOKENS_FILE`, or `BIND={_at_home(told.place.addresses)}`, and start it again.",
        )  # fmt: skip


def _at_home(addresses: Sequence[str]) -> str:
    """Return what lets only this machine reach a server: no client on it is to hear of another port."""
    places = (each if each.startswith("unix:") else f"127.0.0.1:{each.rpartition(':')[2]}" for each in addresses)
    return ",".join(dict.fromkeys(places)) or "127.0.0.1:6790"


def _beside(picture: Picture) -> Iterator[Finding]:
    rules = (damage_findings, act_findings, cluster_findings, upkeep_findings)
    return (Finding(**fields) for rule in rules for fields in rule(picture.told))


_RULES = (_unsure, _storage, _disk, _audit, _tasks, _slow, _schedules, _back, _rest, _beside)
