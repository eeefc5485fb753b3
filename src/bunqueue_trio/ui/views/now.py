"""Now: what is wrong, worst first, each with what helps; then the last hour, and the queues where most is."""

import shlex
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from markupsafe import Markup

from bunqueue_trio.pages.findings import Finding
from bunqueue_trio.pages.gathered import Many, gathered
from bunqueue_trio.pages.words import rate
from bunqueue_trio.protocol.request import segment_of
from bunqueue_trio.runtime.history import Minute
from bunqueue_trio.ui import charts
from bunqueue_trio.ui.actions import ACTIONS, Bound, bind
from bunqueue_trio.ui.ask import Ask, Screen
from bunqueue_trio.ui.views.cluster import OF_CLUSTER

MINUTES = 60


class PageLink(NamedTuple):
    """A way to another page."""

    href: str
    label: str


class Told(NamedTuple):
    """A finding with what helps."""

    finding: Finding
    links: Sequence[PageLink]
    actions: Sequence[Bound]
    commands: Sequence[str]
    """Those of its lines that are no button."""


class Tile(NamedTuple):
    """A figure with its last hour."""

    label: str
    value: str
    chart: Markup
    tone: str
    when: str = ""


_PAGES = {
    "not-sure": PageLink("/ui/server", "Server"), "storage-damaged": PageLink("/ui/storage", "Storage"),
    "storage-failing": PageLink("/ui/storage", "Storage"), "disk-fills": PageLink("/ui/storage", "Storage"),
    "log-grows": PageLink("/ui/storage", "Storage"), "commits-slow": PageLink("/ui/storage", "Storage"),
    "audit-faults": PageLink("/ui/server", "Server"), "task-failing": PageLink("/ui/server", "Server"),
    "loop-lags": PageLink("/ui/server", "Server"), "clock-off": PageLink("/ui/server", "Server"),
    "no-tokens": PageLink("/ui/server", "Server"), "events-missed": PageLink("/ui/server", "Server"),
    "dead-letters": PageLink("/ui/errors", "Look at the errors"), "backup-failed": PageLink("/ui/storage", "Storage"),
    **dict.fromkeys(OF_CLUSTER, PageLink("/ui/cluster", "Cluster")),
}  # fmt: skip
"""Finding → the page that has the evidence; those of a queue lead to the queue."""

_BUTTONS = {
    "pause": ("pause",),
    "resume": ("resume",),
    "limit": ("unlimit", "unrate"),
    "cancel": ("cancel",),
    "reruns": ("stop-rerun",),
    "workers": ("release",),
    "clean": ("clean",),
    "storage": ("backup",),
}
"""The first word of a line → actions that may have this line, and so a button."""


async def show(ask: Ask) -> Screen:
    """Return the page."""
    picture, found = await ask.found()
    told = [each if isinstance(each, Many) else _told(ask, each) for each in gathered(found)]
    beside = await ask.beside()
    minutes = picture.past.minutes[-MINUTES:]
    return Screen(
        "now.html", "Now", "now",
        {
            "found": told, "tiles": _tiles(ask, minutes), "fullest": beside.fullest, "queues": len(picture.queues),
            "lately": beside.lately, "jobs": picture.told.jobs, "since": minutes[0].at if minutes else ask.now,
        },
        live_s=3,
    )  # fmt: skip


def _links(finding: Finding) -> list[PageLink]:
    links = []
    if finding.job:
        links.append(PageLink(f"/ui/jobs/{segment_of(finding.job)}", "Open the job"))
    if finding.worker:
        links.append(PageLink(f"/ui/workers/{segment_of(finding.worker)}", "Open the worker"))
    if finding.error:
        of = f"/{segment_of(finding.queue)}" if finding.queue else ""
        links.append(PageLink(f"/ui/errors{of}?fingerprint={finding.error}", "Look at the error"))
    if finding.queue is not None:
        if finding.code in {"jobs-die", "dead-letters", "attempts-fail"}:
            links.append(PageLink(f"/ui/errors?queue={segment_of(finding.queue)}", "Look at the errors"))
        links.append(PageLink(f"/ui/queues/{segment_of(finding.queue)}", "Open the queue"))
    elif finding.schedule is not None:
        links.append(PageLink(f"/ui/schedules/{segment_of(finding.schedule)}", "See what became of its slots"))
    elif finding.code in _PAGES:
        links.append(_PAGES[finding.code])
    return links


def _told(ask: Ask, finding: Finding) -> Told:
    """Return a finding with its lines as buttons where there are some."""
    stopped, cleaned = _named(finding, "reruns stop", -1), _named(finding, "clean", 2)
    about = {"queue": finding.queue or cleaned, "id": finding.job or finding.worker or "", "rerun": stopped}
    names = [name for each in finding.commands for name in _BUTTONS.get(each.split()[1], ())]
    made = [bind(ask, name, **{of: about[of] for of in ACTIONS[name].about}) for name in dict.fromkeys(names)]
    # A button may say more than the line: that a record is kept.
    beside = {
        command: [each for each in made if each.cli == command or each.cli.startswith(f"{command} --")]
        for command in finding.commands
    }
    acts = [each for each in made if any(each in found for found in beside.values())]
    return Told(finding, _links(finding), acts, [command for command in finding.commands if not beside[command]])


def _named(finding: Finding, verb: str, place: int) -> str:
    """Return the word at a place of the finding's line with this verb; empty if there is no such line."""
    lines = (each for each in finding.commands if each.startswith(f"bunqueue-trio {verb} "))
    return next((shlex.split(each)[place] for each in lines), "")


def _tiles(ask: Ask, minutes: Sequence[Minute]) -> list[Tile]:
    jobs = ask.server.counts()
    comes = [after.pushed - before.pushed for before, after in pairwise(minutes)]
    goes = [after.completed - before.completed for before, after in pairwise(minutes)]
    waiting, dead = [m.waiting for m in minutes], [m.dead for m in minutes]
    return [
        _flow("In", comes, "ink"),
        _flow("Done", goes, "good"),
        Tile("Waiting", f"{jobs['waiting']:,}", _chart([*waiting, jobs["waiting"]], "jobs waiting"), "ink"),
        Tile(
            "Active",
            f"{jobs['active']:,}",
            _chart([*(m.active for m in minutes), jobs["active"]], "jobs active"),
            "ink",
        ),
        Tile("Dead letters", f"{jobs['failed']:,}", _chart([*dead, jobs["failed"]], "dead letters", "bad"), "bad"),
    ]


def _flow(label: str, per_minute: Sequence[int], tone: str) -> Tile:
    value = rate(per_minute[-1]) if per_minute else "–"
    return Tile(
        label,
        value,
        _chart(per_minute, f"{label}, jobs a minute", tone),
        tone,
        "last whole minute" if per_minute else "",
    )


def _chart(values: Sequence[float], what: str, tone: str = "ink") -> Markup:
    if len(values) < 2:
        return charts.area(values, "")
    return charts.area(values, f"{what}, last {len(values)} minutes: from {values[0]:,.0f} to {values[-1]:,.0f}", tone)
