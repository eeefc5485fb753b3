"""Now: what is wrong, worst first, each with what helps; then the last hour, and the queues where most is."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from markupsafe import Markup

from bunqueue_trio.pages.findings import Finding
from bunqueue_trio.pages.words import count, rate
from bunqueue_trio.protocol.request import segment_of
from bunqueue_trio.runtime.history import Minute
from bunqueue_trio.ui import charts
from bunqueue_trio.ui.actions import ACTIONS, Bound, bind
from bunqueue_trio.ui.ask import Ask, Screen
from bunqueue_trio.ui.views.cluster import OF_CLUSTER

FULLEST = 8
MINUTES = 60
# Findings of one kind about as many queues are one card.
MANY = 2
# Of them at first.
MANY_SHOWN = 5


class Link(NamedTuple):
    """A way to another page."""

    href: str
    label: str


class Told(NamedTuple):
    """A finding with what helps."""

    finding: Finding
    links: Sequence[Link]
    actions: Sequence[Bound]
    commands: Sequence[str]
    """Those of its lines that are no button."""


class Many(NamedTuple):
    """Findings of one kind, each about a queue of its own, as one."""

    severity: str
    title: str
    remedy: str
    shown: Sequence[tuple[str, Finding]]
    """What is said of each, without the name of its queue."""
    folded: Sequence[tuple[str, Finding]]
    more: int
    """Queues that are only counted."""


class Tile(NamedTuple):
    """A figure with its last hour."""

    label: str
    value: str
    chart: Markup
    tone: str


_PAGES = {
    "not-sure": Link("/ui/server", "Server"),
    "storage-failing": Link("/ui/storage", "Storage"), "disk-fills": Link("/ui/storage", "Storage"),
    "log-grows": Link("/ui/storage", "Storage"), "commits-slow": Link("/ui/storage", "Storage"),
    "audit-faults": Link("/ui/server", "Server"), "task-failing": Link("/ui/server", "Server"),
    "loop-lags": Link("/ui/server", "Server"), "clock-off": Link("/ui/server", "Server"),
    "no-tokens": Link("/ui/server", "Server"), "events-missed": Link("/ui/server", "Server"),
    "dead-letters": Link("/ui/errors", "Look at the errors"),
    **dict.fromkeys(OF_CLUSTER, Link("/ui/cluster", "Cluster")),
}  # fmt: skip
"""Finding → the page that has the evidence; those of a queue lead to the queue."""

_BUTTONS = {"pause": ("pause",), "resume": ("resume",), "limit": ("unlimit", "unrate"), "cancel": ("cancel",)}
"""The first word of a line → actions that may have this line, and so a button."""

_MANY = {
    "nobody-asks": ("{}: jobs wait, and nobody asks", "`bunqueue-trio workers` shows which queues are asked for, and by whom."),
    "queue-waits": ("{}: jobs wait for long", ""), "queue-grows": ("{} are growing", ""), "jobs-die": ("{}: jobs die", ""),
    "job-stuck": ("{}: a job hangs", ""), "attempts-fail": ("{}: most attempts fail", ""), "paused": ("{} are paused", ""), "error-back": ("{}: errors that were fixed are back", ""),
}  # fmt: skip
"""Finding of which there may be many → what is said of all, and what to do first."""


async def show(ask: Ask) -> Screen:
    """Return the page."""
    picture, found = await ask.found()
    told = [each if isinstance(each, Many) else _told(ask, each) for each in gathered(found)]
    fullest = sorted((q for q in picture.queues if q.jobs), key=lambda q: (-q.waiting - q.active, -q.dead, q.name))[
        :FULLEST
    ]
    minutes = picture.past.minutes[-MINUTES:]
    return Screen(
        "now.html", "Now", "now",
        {
            "found": told, "tiles": _tiles(ask, minutes), "fullest": fullest, "queues": len(picture.queues),
            "jobs": picture.told.jobs, "since": minutes[0].at if minutes else ask.now,
        },
        live_s=3,
    )  # fmt: skip


def gathered(found: Sequence[Finding]) -> list[Finding | Many]:
    """Return findings with those that are about many queues as one, at the place of the worst of them."""
    kinds: dict[str, list[Finding]] = {}
    for each in found:
        kinds.setdefault(each.code, []).append(each)
    made: list[Finding | Many] = []
    for each in found:
        kind = each.code.removesuffix("-more")
        same = kinds.get(kind, [])
        if kind not in _MANY or len(same) < MANY:
            made.append(each)
        elif each is same[0]:
            made.append(_many(kind, same, sum(rest.numbers["queues"] for rest in kinds.get(f"{kind}-more", ()))))
    return made


def _many(kind: str, same: Sequence[Finding], more: int) -> Many:
    says, remedy = _MANY[kind]
    rows = [(each.title.removeprefix(f"{each.queue}: ").removesuffix(", and nobody asks"), each) for each in same]
    title = says.format(count(len({each.queue for each in same}) + more, "queue"))
    return Many(same[0].severity, title, remedy, rows[:MANY_SHOWN], rows[MANY_SHOWN:], more)


def _links(finding: Finding) -> list[Link]:
    links = []
    if finding.job:
        links.append(Link(f"/ui/jobs/{segment_of(finding.job)}", "Open the job"))
    if finding.queue is not None:
        if finding.code in {"jobs-die", "dead-letters"}:
            links.append(Link(f"/ui/errors?queue={segment_of(finding.queue)}", "Look at the errors"))
        links.append(Link(f"/ui/queues/{segment_of(finding.queue)}", "Open the queue"))
    elif finding.schedule is not None:
        links.append(Link(f"/ui/schedules/{segment_of(finding.schedule)}", "See what became of its slots"))
    elif finding.code in _PAGES:
        links.append(_PAGES[finding.code])
    return links


def _told(ask: Ask, finding: Finding) -> Told:
    """Return a finding with its lines as buttons where there are some."""
    about = {"queue": finding.queue or "", "id": finding.job or ""}
    names = [name for each in finding.commands for name in _BUTTONS.get(each.split()[1], ())]
    made = [bind(ask, name, **{of: about[of] for of in ACTIONS[name].about}) for name in dict.fromkeys(names)]
    acts = [each for each in made if each.cli in finding.commands]
    lines = {each.cli for each in acts}
    return Told(finding, _links(finding), acts, [each for each in finding.commands if each not in lines])


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
    return Tile(label, value, _chart(per_minute, f"{label}, jobs a minute", tone), tone)


def _chart(values: Sequence[float], what: str, tone: str = "ink") -> Markup:
    if len(values) < 2:
        return charts.area(values, "")
    return charts.area(values, f"{what}, last {len(values)} minutes: from {values[0]:,.0f} to {values[-1]:,.0f}", tone)
