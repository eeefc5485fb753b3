"""What operators have begun, and what waits or was forgotten since: rules over one picture of the server. Pure functions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bunqueue_trio.pages.words import Given, count, line, span
from bunqueue_trio.runtime.statistics import Held, QuietLook, Statistics

# As of a queue that nobody asks for.
HELD_MS = 60_000
# As of a pause.
FORGOTTEN_MS = 12 * 3600_000
# Workers that are named.
NAMED = 5

Fields = dict[str, Any]


def act_findings(told: Statistics) -> Iterator[Fields]:
    """Yield the fields of each finding."""
    for each in told.reruns_held:
        # The disk that refuses is a finding of its own, and says what is refused.
        if told.now - each.since >= HELD_MS and each.code in _HELD:
            yield _held(each, told.now)
    quiet = sorted((each for each in told.workers_quiet if told.now - each.since >= FORGOTTEN_MS), key=lambda each: each.since)  # fmt: skip
    if quiet:
        yield _quiet(quiet, told.now)


_Words = tuple[str, str, Callable[[str], tuple[str, ...]]]
_HELD: Mapping[str, _Words] = {
    "paused": (
        "its queue is paused",
        "Its queue delivers nothing, so nobody finds out how those fare that were retried.",
        lambda queue: (line("resume", Given(queue)),),
    ),
    "rate-limit": (
        "the rate limit of its queue lets none through",
        "Others have used up what the queue may deliver for now.",
        lambda queue: (line("limit", Given(queue), "--rate", "none"),),
    ),
    "concurrency": (
        "its queue has as many active jobs as it may have",
        "Those that are active take long, or hang.",
        lambda queue: (line("jobs", Given(queue), "active"), line("limit", Given(queue), "none")),
    ),
    "nobody-asks": (
        "nobody asks for the jobs of its queue",
        "Its workers have stopped since it began, or somebody has told them to take no more jobs.",
        lambda _: (line("workers"),),
    ),
}
"""What holds up a rerun → the end of the title, the cause, and what helps."""


def _held(each: Held, now: int) -> Fields:
    ends, cause, helps = _HELD[each.code]
    queue = each.queue or ""
    return {
        "code": "rerun-held", "severity": "warning", "queue": queue, "since": each.since, "weight": 10**6 + each.open,
        "title": f"{queue}: a rerun stands still for {span(now - each.since)}: {ends}",
        "cause": cause,
        "evidence": f"It has retried {count(each.retried, 'job')}: {each.open:,} have not ended, {each.died:,} died again. The other dead letters stay where they are until it goes on.",
        "remedy": "It goes on by itself as soon as those jobs run; `reruns stop` ends it.",
        "numbers": {"retried": each.retried, "open": each.open, "died": each.died},
        "commands": (*helps(queue), line("reruns"), line("reruns", "stop", Given(each.rerun))),
    }  # fmt: skip


def _quiet(quiet: Sequence[QuietLook], now: int) -> Fields:
    names, oldest = [*dict.fromkeys(each.name for each in quiet)], quiet[0]
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    one = len(quiet) == 1
    return {
        "code": "workers-quiet", "severity": "notice", "since": oldest.since, "weight": 8,
        "title": f"{count(len(quiet), 'worker')} {'gets' if one else 'get'} no jobs, {'' if one else 'one of them '}for {span(now - oldest.since)}: forgotten?",
        "cause": "Somebody has told them to take no more jobs, and they run still.",
        "evidence": f"{', '.join(names[:NAMED])}{more}.",
        "numbers": {"workers": len(quiet)},
        "commands": (line("workers"), *(line("workers", "unquiet", Given(name)) for name in names[:NAMED])),
    }  # fmt: skip
