"""The cluster: who leads since when, who would take over and how long that takes, what the doors do, and how the database is."""

from typing import NamedTuple

from bunqueue_trio import __version__
from bunqueue_trio.pages.cluster import failover_row, how_ended
from bunqueue_trio.pages.findings import p99
from bunqueue_trio.runtime.cluster import Cluster, Term, Waiting, is_bloated
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.statistics import Statistics
from bunqueue_trio.ui.ask import Ask, Screen
from bunqueue_trio.ui.render import clock_time

TERMS_SHOWN = 20
OF_CLUSTER = (
    "leader-changes", "lease-short", "standby-missing", "replica-behind", "memory-short", "table-bloated", "transaction-old",
    "database-far", "doors-fail", "door-queue", "cluster-unseen",
)  # fmt: skip
"""The findings that are about nothing else."""
_ALSO = ("not-sure", "storage-failing", "commits-slow")


class Member(NamedTuple):
    """A server or a door, as the list shows it; what is not known is None."""

    name: str
    state: str
    version: str | None = None
    since: int | None = None
    heard: int | None = None
    connections: int | None = None
    requests: int | None = None
    note: str = ""


class Ended(NamedTuple):
    """A term, and what has become of it."""

    term: Term
    lasted: int | None
    how: str


def has_cluster(server: Server) -> bool:
    """Return whether there is anything to see: others may serve the queue, or doors pass on to this server."""
    return server.cluster is not None or bool(server.settings.doors)


async def show(ask: Ask) -> Screen:
    """Return the page."""
    picture, found = await ask.found()
    told = picture.told
    known = told.cluster.known
    versions = {each.version for each in _members(told) if each.version and each.state != "gone"}
    return Screen(
        "cluster.html", "Cluster", "cluster",
        {
            "told": told, "known": known, "members": _members(told), "versions": len(versions), "has_cluster": has_cluster(ask.server),
            "terms": [] if known is None else [_ended(known, each, told.now) for each in known.terms[:TERMS_SHOWN]],
            "failover": None if known is None else failover_row(known.failover, told.leading.lease_s or known.lease_s),
            "bloated": set() if known is None else {table.name for table in known.tables if is_bloated(table)},
            "commit_ms": p99(told, "commit", None), "found": [each for each in found if each.code in (*OF_CLUSTER, *_ALSO)],
            "shell": _shell(ask, known), "doors": sorted(told.doors.by_door().items()),
        },
        live_s=5,
    )  # fmt: skip


def _members(told: Statistics) -> list[Member]:
    place, known, at = told.place, told.cluster.known, told.cluster.at
    state = "leads" if told.is_sure else "may not lead"
    name = f"{place.host} process {place.process}"
    members = [Member(name, state, __version__, place.since, told.now, told.connections.http)]
    if known is not None:
        members += [_waits(each, at) for each in known.waiting]
        members += [
            _waits(each, at)._replace(state="gone", connections=None, requests=None, note="") for each in known.missing
        ]
    queues = told.doors.by_door()
    return members + [
        Member(f"door {n} of the leader", "door", requests=queues.get(str(n), 0))
        for n in range(1, told.doors.wanted + 1)
    ]


def _waits(each: Waiting, at: int) -> Member:
    heard = at - round(each.seen_s * 1000)
    note = "does not reach the leader" if each.reaches is False else ""
    return Member(each.holder, "waits", each.version, each.since, heard, each.connections, each.requests, note)


def _ended(known: Cluster, term: Term, now: int) -> Ended:
    if term.term == known.term:
        return Ended(term, now - term.since, "goes on")
    lasted = None if term.until is None else max(0, term.until - term.since)
    return Ended(term, lasted, how_ended(term, clock_time) or "not known")


def _shell(ask: Ask, known: Cluster | None) -> list[tuple[str, str]]:
    lines = [("Which server answers, as any client may ask", f"bunqueue-trio health --url {ask.base}")]
    if known is not None:
        lines = [
            (
                "The same as this page, from the database: also while no server runs",
                'bunqueue-trio cluster --store "$STORE"',
            ),
            ("Every row, read only", 'bunqueue-trio doctor --store "$STORE"'),
            *lines,
        ]
    return lines
