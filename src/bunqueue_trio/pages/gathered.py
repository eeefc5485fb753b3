"""Findings of one kind about many queues as one, so that the rest of the night is not below twenty of them."""

from collections.abc import Sequence
from typing import NamedTuple

from bunqueue_trio.pages.findings import Finding
from bunqueue_trio.pages.words import count

# Findings of one kind about as many queues are one.
MANY = 2
# Of them at first.
MANY_SHOWN = 5

_SAYS = {
    "nobody-asks": ("{}: jobs wait, and nobody asks", "Start workers for them: `bunqueue-trio worker MODULE:NAME`. `bunqueue-trio workers` shows which queues are asked for, and by whom."),
    "queue-waits": ("{}: jobs wait for long", ""), "queue-grows": ("{} are growing", ""), "jobs-die": ("{}: jobs die", ""),
    "job-stuck": ("{}: a job hangs", ""), "attempts-fail": ("{}: most attempts fail", ""), "paused": ("{} are paused", ""), "worker-hangs": ("{}: a worker hangs", ""),
    "rerun-held": ("{}: a rerun stands still", ""),
    "error-back": ("{}: errors that were fixed are back", ""),
}  # fmt: skip
"""Finding of which there may be many → what is said of all, and what to do first."""


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


def gathered(found: Sequence[Finding]) -> list[Finding | Many]:
    """Return findings with those that are about many queues as one, at the place of the worst of them."""
    kinds: dict[str, list[Finding]] = {}
    for each in found:
        kinds.setdefault(each.code, []).append(each)
    made: list[Finding | Many] = []
    for each in found:
        kind = each.code.removesuffix("-more")
        same = kinds.get(kind, [])
        if kind not in _SAYS or len(same) < MANY:
            made.append(each)
        elif each is same[0]:
            made.append(_many(kind, same, sum(rest.numbers["queues"] for rest in kinds.get(f"{kind}-more", ()))))
    return made


def _many(kind: str, same: Sequence[Finding], more: int) -> Many:
    says, remedy = _SAYS[kind]
    rows = [(each.title.removeprefix(f"{each.queue}: ").removesuffix(", and nobody asks"), each) for each in same]
    title = says.format(count(len({each.queue for each in same}) + more, "queue"))
    return Many(same[0].severity, title, remedy, rows[:MANY_SHOWN], rows[MANY_SHOWN:], more)
