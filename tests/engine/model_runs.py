"""What the naive queue says of the slots of a schedule: those to come, and what became of those that are over."""

import re
from dataclasses import replace
from typing import Any
from unittest.mock import ANY

from bunqueue_trio.protocol import commands as c
from tests.engine.model import Record, Reply, Snapshot

ERROR_SHOWN = 1000
GONE = "no record is left: it was cancelled, has expired, keeps none, or that was deleted"


def place(name: str, job_id: str) -> tuple[int, str] | None:
    """Which slot a job is of, and what was added to that where somebody let it run; None: it is of no slot of this schedule."""
    found = re.fullmatch(re.escape(name) + "@([0-9]{1,15})([+][0-9A-Za-z-]{1,40})?", job_id)
    return None if found is None else (int(found[1]), (found[2] or "")[1:])


def get_runs(self: Any, command: c.GetScheduleRuns, now: int, owner: str | None) -> Reply:
    """The first page of them."""
    schedule = self.known_schedule(command.name)
    found: dict[tuple[int, str], Reply] = {
        (first, ""): told(first, "skipped", until=last, why=why) for first, last, why in schedule.skips
    }
    for job_id in schedule.jobs:
        at = place(command.name, job_id)
        assert at is not None
        by = schedule.cancelled.get(job_id)
        why = f"overlap cancel: it had not ended when the slot of {command.name}@{by:013} came" if by else GONE
        found[at] = told(at[0], "cancelled" if by else "gone", job=job_id, why=why)
    kept = self.durable()
    # Of those that a reader is shown it matters not whether their records are gone since.
    records = [job for job in kept.ended if job.state == "completed" or job.state == "failed"]
    leaving = [job for job in ended_lately(self, kept) if job.id in schedule.jobs and job.state != "removed"]
    for job in (*records, *leaving, *self.jobs):
        at = place(command.name, job.id)
        if at is not None:
            found[at] = of_job(job, at)
    order = sorted(found, reverse=True)
    more = ANY if order[command.limit :] else None
    return {
        "upcoming": upcoming(schedule, command.next), "past": [found[at] for at in order[: command.limit]], "next": more,
        "rules": ANY,
    }  # fmt: skip


def ended_lately(self: Any, kept: Snapshot) -> list[Record]:
    """Those whose end is not committed yet."""
    return [job for job in self.leaving.values() if job.end_taken >= kept.taken]


def of_job(job: Record, at: tuple[int, str]) -> Reply:
    took = None if job.started is None or job.finished is None else job.finished - job.started
    return told(
        at[0], job.state, job=job.id, why="told to run" if at[1] else None, startedAt=job.started, endedAt=job.finished, took=took,
        error=job.error and job.error[:ERROR_SHOWN],
    )  # fmt: skip


def told(slot: int, outcome: str, **more: Any) -> Reply:
    nothing = dict.fromkeys(("why", "job", "startedAt", "endedAt", "took", "error"))
    return {"slot": slot, "until": slot, "outcome": outcome} | nothing | more


def upcoming(schedule: Any, most: int) -> list[Reply]:
    """The next slots, each in its turn, also behind one with a longer jitter."""
    said = schedule.said
    if said.limit is not None:
        most = min(most, said.limit - schedule.runs - (schedule.waiting is not None))
    ahead, found, run_at = replace(schedule), list[Reply](), 0
    while len(found) < most and (slot := ahead.next()) is not None:
        run_at = max(run_at, schedule.runs_at(slot))
        found.append(Upcoming(slot=slot, runAt=run_at))
        ahead.settled = slot
    return found


class Upcoming(dict[str, Any]):
    """A slot to come; what the clock of its zone shows, and what is special, is no matter of the queue."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dict) and {name: other.get(name) for name in self} == dict(self)


ANSWERS: dict[type[c.Command], Any] = {c.GetScheduleRuns: get_runs}
