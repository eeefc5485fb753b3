"""What is said of a cluster: the same words on the page, in the command and in findings, over the picture that a leader or a command has."""

from collections.abc import Callable
from typing import Any

from bunqueue_trio.pages.words import count, span
from bunqueue_trio.runtime.cluster import Cluster, ClusterFigures, Failover, Term, Waiting

At = Callable[[int], str]
"""Says a moment."""

# Of a start: less is not worth a number.
_QUICK_S = 0.1
# The lease divided by this passes, in all, until a server that waits follows a leader whose machine refuses it (a quarter, and the looks).
_GONE_PART = 3


def leader_row(known: Cluster, at: At) -> str:
    """Return who leads, or who led last and how that ended."""
    version = f", version {known.version}" if known.version else ""
    if known.is_alive:
        return known.holder + ("" if known.since is None else f", since {at(known.since)}") + version
    if not known.term:
        return "nobody yet"
    if known.age_s is not None:
        return f"nobody; {known.holder} did last, and was heard of {span(known.age_s * 1000)} ago"
    last = known.terms[0] if known.terms else None
    if last is None or last.ended is None:
        return f"nobody; {known.holder} did last, and was stopped"
    # A copy leads, too, so that no server does meanwhile; it is no term of the cluster.
    copied = "" if last.term == known.term else f"; since then: {known.holder}"
    return f"nobody; {last.holder} did last, {how_ended(last, at)}{copied}"


def lease_row(known: Cluster) -> str:
    """Return how long the lease is, and when its holder was heard of."""
    if known.age_s is not None:
        return f"{span(known.lease_s * 1000)}, heard of {span(known.age_s * 1000)} ago"
    # The next one brings its own; a copy's is of no interest.
    return "let go: the next server leads at once" if known.term else "never held"


def how_ended(term: Term, at: At) -> str:
    """Return how a term has ended; empty: it goes on, or nobody knows."""
    when = "" if term.until is None else f" at {at(term.until)}" if term.ended == "stopped" else f" {at(term.until)}"
    if term.ended == "stopped":
        return f"stopped{when}"
    return f"not heard of after{when}" if when else "not heard of for its lease" if term.ended else ""


def start_row(known: Cluster) -> str:
    """Return what the start of the next server takes, where nobody leads."""
    told = known.failover
    if known.age_s is None:
        begins = "at once" if told.start_s < _QUICK_S else f"in about {span(told.start_s * 1000)}"
    else:
        # It has to see the silence itself.
        begins = f"within about {span(told.killed_s * 1000)}"
    return f"nobody leads: the next server does {begins}; {_to_read(told)}"


def failover_row(told: Failover, lease_s: float) -> str:
    """Return what a failover would take, and how that is known."""
    gone = span((lease_s / _GONE_PART + told.start_s) * 1000)
    if told.start_s < _QUICK_S:
        stop, silent = "at once", span(lease_s * 1000)
    else:
        stop, silent = f"in about {span(told.start_s * 1000)}", f"about {span(told.killed_s * 1000)}"
    after = f"{stop} after a stop, in about {gone} after a kill, within {silent} when its machine is silent"
    return f"{after}: {_to_read(told)}"


def _to_read(told: Failover) -> str:
    if not told.jobs:
        return "there is no unfinished job to read"
    if told.measured:
        return f"{count(told.jobs, 'unfinished job')} to read, as fast as at the last start"
    return f"{count(told.jobs, 'unfinished job')} to read; how fast was not measured yet, 100,000 a second is usual"


def waits_row(each: Waiting, at: At) -> str:
    """Return who waits, and how that is doing as a door."""
    said = f"{each.holder}, since {at(each.since)}, version {each.version}, heard of {span(each.seen_s * 1000)} ago"
    if each.reaches is None:
        return said
    if not each.reaches:
        return f"{said}; does not reach the leader"
    return f"{said}; {count(each.connections or 0, 'connection')}, {count(each.requests or 0, 'request')} under way"


def as_json(told: ClusterFigures) -> dict[str, Any] | None:
    """Return the picture of the cluster as a named tuple; None where there is no cluster."""
    if told.known is None:
        return None
    known: dict[str, Any] = plain(told.known)
    return {"seen_at": told.at, "troubles": told.since, "error": told.error} | known


def plain(told: Any) -> Any:
    """Return a named tuple, and those inside it, as JSON has them."""
    if isinstance(told, list):
        return [plain(each) for each in told]
    return {name: plain(each) for name, each in told._asdict().items()} if hasattr(told, "_asdict") else told
