"""Reruns of the naive queue: a few dead letters of a filter wait again, and the others if not too many of those die."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import ANY

import msgspec

from bunqueue_trio.protocol import commands as c
from tests.engine.model import No, Record, Reply

UNDER_WAY = ("first", "rest")
MOST, KEPT = 20, 100
OPEN_S = 10
"""Of the others no more are open than that many seconds' worth."""
SLICE = 100


@dataclass(frozen=True)
class Again:
    """One rerun, as it is."""

    id: str
    said: c.RerunDlq
    started: int
    state: str = "first"
    why: str | None = None
    ended_at: int | None = None
    place: tuple[str, int] | None = None
    """The queue of the last dead letter that was looked at, and where that stood."""
    spent: bool = False
    retried: int = 0
    over: int = 0
    died: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)

    @property
    def open(self) -> int:
        return self.retried - self.over

    def may(self) -> int:
        """How many may wait again in this second."""
        said = self.said
        if self.state not in UNDER_WAY or self.spent:
            return 0
        room = said.count - self.retried if self.state == "first" else max(said.count, OPEN_S * said.rate) - self.open
        return min(said.rate, room)

    def judged(self, now: int) -> "Again":
        """Stopped, if more than the part of those that count have died; else gone on, where nothing is open."""
        if self.state not in UNDER_WAY:
            return self
        first = self.retried if self.spent else max(self.said.count, self.retried)
        counts = first if self.state == "first" else max(self.over, min(self.said.count, first))
        if self.died * 100 > self.said.stop_at * counts:
            why = f"by then {self.died} of {counts} had died again, more than {self.said.stop_at:g} %"
            return replace(self, state="stopped", why=why, ended_at=now)
        if self.open or not (self.spent or (self.state == "first" and self.retried >= self.said.count)):
            return self
        return replace(self, state="done", ended_at=now) if self.spent else replace(self, state="rest")


def found(self: Any, one: Again) -> list[tuple[Record, int]]:
    """The dead letters of its filter behind its place, queue by queue, newest first, each with its number; none that has died since it began."""
    said, numbers = one.said.filter, self.numbers()
    names = sorted({job.queue for job in self.durable().ended})
    if said.queue is not None:
        names = sorted({said.queue} if isinstance(said.queue, str) else set(said.queue))
    jobs = [(job, numbers[job.id]) for name in names for job in self.records(name, "failed") if self.is_of(job, said)]
    place = one.place
    jobs = [(job, n) for job, n in jobs if (job.finished or 0) <= one.started]
    return [
        (job, n) for job, n in jobs if place is None or job.queue > place[0] or (job.queue == place[0] and n < place[1])
    ]


def start(self: Any, command: c.RerunDlq, now: int, owner: str | None) -> Reply:
    """With force: who asks is no matter then."""
    if not any(msgspec.structs.astuple(command.filter)):
        raise No(400, "filter must say something")
    if sum(one.state in UNDER_WAY for one in self.reruns.values()) >= MOST:
        raise No(409, "Too many reruns are under way")
    one = Again(self.new_id(now), command, now)
    names = command.filter.queue
    for name in [names] if isinstance(names, str) else names or []:
        self.check_queue(name)
    first = found(self, one)[: min(command.count, SLICE)]
    if not first:
        raise No(404, str(c.NOTHING_DEAD.refuse()))
    for job, _ in first:
        if job.queue in self.pauses:
            raise No(409, f"Queue {job.queue} is paused: resume it first, or nobody finds out how they fare")
    ended = [each.id for each in self.reruns.values() if each.state not in UNDER_WAY]
    gone = ended[: max(0, len(ended) - KEPT)]
    self.reruns = {key: each for key, each in self.reruns.items() if key not in gone} | {one.id: one}
    return {"rerun": view(one)}


def view(one: Again) -> Reply:
    """What is shown; of one under way it may say why it stands still, which is a matter of workers, too."""
    said = one.said
    return {
        "id": one.id, "filter": msgspec.json.decode(msgspec.json.encode(said.filter)), "count": said.count, "rate": said.rate,
        "stopAt": said.stop_at, "state": one.state, "why": ANY if one.state in UNDER_WAY else one.why, "startedAt": one.started,
        "endedAt": one.ended_at, "retried": one.retried, "open": one.open, "died": one.died, "refused": dict(one.refused),
    }  # fmt: skip


def list_all(self: Any, command: c.ListReruns, now: int, owner: str | None) -> Reply:
    return {"reruns": [view(one) for one in reversed(self.reruns.values())]}


def stop(self: Any, command: c.StopRerun, now: int, owner: str | None) -> Reply:
    one = self.reruns.get(command.rerun)
    if one is None:
        raise No(404, "Rerun not found")
    self.acted = one.state in UNDER_WAY
    if self.acted:
        keep(self, replace(one, state="stopped", why="somebody stopped it", ended_at=now))
    return {"rerun": view(self.reruns[command.rerun])}


def keep(self: Any, one: Again) -> None:
    self.reruns = {**self.reruns, one.id: one}


def go_on(self: Any, rerun_id: str, most: int, now: int) -> None:
    """Let the next ones wait again, in the order in which they died; none, where one of them is of a paused queue."""
    one = self.reruns[rerun_id]
    behind = found(self, one)
    page = behind[: min(most, SLICE)]
    jobs = [job for job, _ in page]
    if any(job.queue in self.pauses for job in jobs):
        return
    refused = dict(one.refused)
    for job in reversed(jobs):
        code = forbidden(self, job)
        if code is not None:
            refused[code] = refused.get(code, 0) + 1
            continue
        self.retry(c.RetryDlq(queue=job.queue, job_id=job.id), now, None)
        self.jobs[-1].rerun = one.id
        one = replace(one, retried=one.retried + 1)
    last = (page[-1][0].queue, page[-1][1]) if page else one.place
    one = replace(one, refused=refused, place=last, spent=len(page) == len(behind))
    keep(self, one.judged(now))


def forbidden(self: Any, job: Record) -> str | None:
    if job.cause == "cancelled":
        return "job-cancelled"
    if self.is_held(job):
        return "key-held"
    is_dead = any(other.id in job.depends and other.state == "failed" for other in self.ended)
    return "dependency-dead" if is_dead else None


def note_end(self: Any, job: Record, state: str, now: int) -> None:
    """Count the end of a job that waited again; who was cancelled has not died of anything."""
    one = self.reruns.get(job.rerun)
    if one is not None:
        died = state == "failed" and job.cause != "cancelled"
        keep(self, replace(one, over=one.over + 1, died=one.died + died).judged(now))


ANSWERS: dict[type[c.Command], Any] = {c.RerunDlq: start, c.ListReruns: list_all, c.StopRerun: stop}
