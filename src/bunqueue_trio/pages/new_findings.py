"""The rules about what queues alone do not show: an error that is new, and a worker none of whose jobs ends. Pure functions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bunqueue_trio.config import MINUTE_MS
from bunqueue_trio.pages.stuck import runs_of, stuck_after
from bunqueue_trio.pages.words import Given, count, line, rate, span
from bunqueue_trio.runtime.history import Past, part
from bunqueue_trio.runtime.new_errors import NewError
from bunqueue_trio.runtime.picture import WorkerLook

# Deaths that make an error frequent, as of the jobs of one queue.
NEW_MIN = 10
# How long without another one until it is over.
OVER_MS = 3 * MINUTE_MS
_SHAPE_MAX = 200

Fields = dict[str, Any]


def often(error: NewError) -> str:
    """Return how often jobs died of an error while they did, or failed with it."""
    return rate((error.died or error.tried) * MINUTE_MS / max(error.last - error.since, MINUTE_MS))


def told_of(past: Past, queue: str, now: int) -> str:
    """Return what is to be said of a new error by which many jobs of a queue died, or nothing."""
    worst = max(past.errors, key=lambda error: error.queues.get(queue, 0), default=None)
    if worst is None or (n := worst.queues.get(queue, 0)) < NEW_MIN:
        return ""
    return f"; {count(n, 'job')} of an error that is new for {span(now - worst.since)}, {often(worst)}: “{worst.shape[:_SHAPE_MAX]}”"


def first_death(past: Past, queue: str, died: int) -> int | None:
    """Return when the first of the jobs of a queue died, where all that died are of errors that are new; else nobody knows."""
    new = [error for error in past.errors if queue in error.queues]
    return min(error.since for error in new) if new and sum(error.queues[queue] for error in new) >= died else None


def new_errors(past: Past, now: int, told: set[str]) -> Iterator[Fields]:
    """Yield the findings about new errors that many died of, where no finding about one of their queues says so."""
    for error in past.errors:
        if error.died + error.tried < NEW_MIN or told & error.queues.keys():
            continue
        each = ", ".join(f"{n:,} of {name}" for name, n in list(error.queues.items())[:5])
        again = f"{count(error.tried, 'job')} {'is' if error.tried == 1 else 'are'} tried again after it"
        if error.died:
            evidence = f"{count(error.died, 'job')} died of it: {each}" + (f"; {again}." if error.tried else ".")
        else:
            evidence = f"{again}, and none has died of it yet: {each}."
        one = next(iter(error.queues)) if len(error.queues) == 1 else None
        where = one or count(len(error.queues), "queue")
        yield {
            "code": "error-new", "severity": "warning", "queue": one, "error": error.fingerprint, "since": error.since,
            "until": error.last if now - error.last >= OVER_MS else None, "weight": 10**6 + error.died + error.tried,
            "title": f"{where}: an error that is new for {span(now - error.since)}, {often(error)}",
            "cause": f"No dead letter that is kept died of it before: “{error.shape[:_SHAPE_MAX]}”. Something has changed by then: the workers, or what they ask.",
            "evidence": evidence, "numbers": {"died": error.died, "retrying": error.tried, "queues": len(error.queues)},
            "commands": (line("errors", Given(one or "")),),
        }  # fmt: skip


def hung_workers(workers: Sequence[WorkerLook], past: Past, now: int) -> Iterator[tuple[WorkerLook, Fields]]:
    """Yield the workers with several jobs none of which ends in its time, and the finding about each."""
    for worker in workers:
        newest = worker.queues[0]
        hour = past.of(newest, now - 60 * MINUTE_MS)
        after, usual = stuck_after(hour), part(runs_of(hour), 0.95)
        age = now - worker.newest_since
        if after is None or usual is None or age < after:
            continue
        oldest = now - worker.oldest_since
        yield worker, {
            "code": "worker-hangs", "severity": "warning", "queue": newest if len(worker.queues) == 1 else None, "worker": worker.id, "since": worker.oldest_since, "alert": "BunqueueJobStuck",
            "title": f"Worker {worker.name}: none of its {count(worker.jobs, 'job')} ends, the newest has been active for {span(age)}",
            "cause": "It hangs, or what all of its jobs need does not answer. It says that it lives, so nobody else gets them.",
            "evidence": f"95 of 100 others of {newest} take {span(usual)} at most, so that is {count(age // max(usual, 1), 'time')} as long; the oldest has been active for {span(oldest)}.",
            "remedy": f"`{line('workers', 'release', Given(worker.id))}` takes its jobs back, and they run again elsewhere; then start it anew.",
            "numbers": {"jobs": worker.jobs, "newestMs": age, "oldestMs": oldest, "usualMs": usual}, "weight": 2 * 10**6 + worker.jobs,
            "commands": (
                line("workers"), line("jobs", "--owner", Given(worker.name), "--state", "active"), line("workers", "release", Given(worker.id)),
            ),
        }  # fmt: skip


def held_by(found: Sequence[tuple[WorkerLook, Fields]]) -> Mapping[str, str]:
    """Return the queues whose jobs hang at one worker, with its name: there is nothing more to say of the jobs."""
    return {queue: worker.name for worker, _ in found for queue in worker.queues}
