"""What the naive queue keeps of the past, and lists: jobs that have ended, attempts, logs, marks of errors, and what operators did.

It is listed as of the last commit, and so is held against the records of that moment.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import ANY

from bunqueue_trio.engine.fingerprint import fingerprint
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.catalog import ACTS, CATALOG
from tests.engine import model_reruns
from tests.engine.model import UNFINISHED, No, Record, Reply, Snapshot
from tests.engine.model_acts import Act, Like, as_one, length_of, said_of
from tests.engine.model_many import is_wanted, view
from tests.engine.model_workers import Crew

SIXTEEN = (
    "id queue data priority createdAt runAt startedAt completedAt attempts maxAttempts backoff progress tags lifo "
    "removeOnComplete removeOnFail"
)
LINES, ATTEMPTS = 1000, 20
OF_WORKERS = {spec.command for spec in CATALOG if spec.http and spec.http.path.startswith("/workers/")}


class Something:
    """Equal to anything but None."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return other is not None


SOMETHING = Something()


class Beginning:
    """Equal to the first ones of a list, however many."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __eq__(self, other: object) -> bool:
        return isinstance(other, list) and other == self.items[: len(other)]

    def __repr__(self) -> str:
        return f"the first of {self.items}"


class Between:
    """Equal to any number from one to another."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int) and self.low <= other <= self.high

    def __repr__(self) -> str:
        return f"{self.low} to {self.high}"


@dataclass(frozen=True)
class Marked:
    """What was said of an error."""

    mark: str
    at: int
    back: int | None = None
    times: int = 0


class Past(Crew):
    """Jobs, queues and workers, and what has become of them."""

    def __init__(self, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        self.marks: dict[str, Marked] = {}
        self.acts: tuple[Like, ...] = ()
        self.by: Any = None
        """Who sends the command that is done."""
        self.taken = 0
        """How often a commit was begun."""
        self.leaving: dict[str, Record] = {}
        """By their ids all that have ended since the last start, whatever was kept of them; of those with one id the last."""
        self.reruns: Mapping[str, Any] = {}
        self.at_work: str | None = None
        """What is done to the file."""
        self.heard: list[dict[str, Any]] = []
        """All events that there ever were."""
        self.numbers: Callable[[], Mapping[str, int]] = lambda: {job_id: n for n, job_id in enumerate(self.places())}
        """Where the records stand, by id; one that comes later has a higher number."""
        self.acted: bool | None = None
        """Whether the present command has changed anything, where nothing shows it."""
        self.durable: Callable[[], Snapshot] = self.snapshot
        """All there was at the last commit."""
        self.places: Callable[[], Iterable[str]] = lambda: [job.id for job in self.ended]
        """The ids of all records, in the order in which they are kept: of one moment it is that of the batch."""

    def snapshot(self) -> Snapshot:
        self.taken += 1
        return (
            super()
            .snapshot()
            ._replace(
                marks=dict(self.marks), acts=self.acts, reruns=self.reruns, heard=len(self.heard), taken=self.taken
            )
        )

    def restart(self, snapshot: Snapshot, now: int) -> None:
        super().restart(snapshot, now)
        self.marks, self.acts, self.leaving = dict(snapshot.marks), snapshot.acts, {}
        self.reruns, self.heard = snapshot.reruns, self.heard[: snapshot.heard]
        self.at_work = None

    def everything(self) -> tuple[Any, ...]:
        """All that an act may change."""
        rates = {name: (rate.limit, rate.duration, rate.until) for name, rate in self.rates.items()}
        quiet = {hand.id: hand.quiet for hand in self.hands.values()}
        said = [{name: each for name, each in some.items() if each} for some in (self.said, self.stall_rules)]
        schedules = {name: replace(each) for name, each in self.schedules.items()}  # type: ignore[attr-defined]
        jobs, ended = [replace(job) for job in self.jobs], [job.serial for job in self.ended]
        facts = dict(self.pauses), dict(self.limits), dict(self.marks), self.reruns
        return jobs, ended, facts, rates, quiet, said, schedules

    def note_act(self, command: Any, answer: Reply, now: int, before: tuple[Any, ...]) -> None:
        """Write down what an operator did, if it has changed anything."""
        if not (self.acted if self.acted is not None else before != self.everything()):
            return
        named = getattr(command, "id", None) or getattr(command, "job_id", None)
        is_worker = type(command) in OF_WORKERS
        line = Act(
            at=now, command=type(command).__struct_config__.tag, queue=getattr(command, "queue", None) or None, job=None if is_worker else named,
            worker=named if is_worker else None, count=answer.get("count", 1),
        )  # fmt: skip
        line.said = said_of(command, self.by)
        self.acts = (*self.acts, line)

    def is_act(self, command: Any) -> bool:
        """Whether it is written down: what a worker does with its own jobs is not."""
        return type(command) in ACTS and getattr(command, "token", None) is None

    def say(self, kind: str, job: Record, now: int, **more: Any) -> None:
        super().say(kind, job, now, **more)
        self.heard.append(self.events[-1])

    def tell(self, kind: str, now: int, **what: Any) -> None:
        super().tell(kind, now, **what)
        self.heard.append(self.events[-1])

    def end(self, job: Record, state: str, now: int) -> None:
        super().end(job, state, now)
        job.end_taken = self.taken
        self.leaving[job.id] = job
        if job.rerun is not None:
            model_reruns.note_end(self, job, state, now)

    # --- what is written down -----------------------------------------------------------------------

    def fail(
        self, job: Record, error: str, now: int, *, wait: int | None = None, last: bool = False, cause: str | None = None
    ) -> None:  # fmt: skip
        number = job.attempts + 1
        usual = "max_attempts_exceeded" if number >= job.spec.max_attempts else "explicit_fail"
        self.note_attempt(job, number, "unrecoverable" if last else cause or usual, error, now)
        super().fail(job, error, now, wait=wait, last=last, cause=cause)

    def stall(self, job: Record, now: int) -> None:
        if job.called_off is None:
            times = job.stalls + 1
            said = f"Job stalled {times} time" + "s" * (times != 1)
            self.note_attempt(job, job.attempts + 1, "stalled", said, now)
        super().stall(job, now)

    def note_attempt(self, job: Record, number: int, reason: str, error: str, now: int) -> None:
        assert job.started is not None
        line = {
            "attempt": number, "startedAt": job.started, "failedAt": now, "duration": now - job.started, "reason": reason,
            "by": self.holder(job), "error": error, "stack": None,
        }  # fmt: skip
        job.failures = (*job.failures, line)[-ATTEMPTS:]

    def holder(self, job: Record) -> Any:
        """What people call who has a job; what the address of a connection is, the model does not know."""
        hand = self.hands.get(job.worker or job.owner or "")
        if hand is None:
            return job.worker or job.owner
        return hand.name if hand.named or (hand.name == hand.id and not hand.connections) else ANY

    def log(self, command: c.AddLog, now: int, owner: str | None) -> Reply:
        job = self.shown(command.id)
        line = {"timestamp": now, "level": command.level, "message": command.message}
        self.change_log(job, (*job.lines, (self.taken, line))[-LINES:])
        return {"data": {"added": True}}

    def is_of(self, job: Record, said: Any) -> bool:
        """Whether a dead letter is as a filter says."""
        return is_wanted(job, said, 0) and said.fingerprint in (None, group_of(job))

    def clear_log(self, command: c.ClearLogs, now: int, owner: str | None) -> Reply:
        job = self.shown(command.id)
        if self.committed_of(job, "lines") or any(when == self.taken for when, _ in job.lines):
            self.change_log(job, ())
            self.acted = True
        else:
            self.acted = False
        return {}

    def change_log(self, job: Record, lines: tuple[Any, ...]) -> None:
        """Change it in its place: what was taken for a commit stays as it was."""
        jobs = self.jobs if job.state in UNFINISHED else self.ended
        jobs[jobs.index(job)] = replace(job, lines=lines)

    def committed_of(self, job: Record, name: str) -> Any:
        """What the last commit has of the trails of a job."""
        kept = self.durable()
        return next((getattr(each, name) for each in (*kept.jobs, *kept.ended) if each.serial == job.serial), ())

    def bury_one(self, job: Record, error: str, now: int, *, wanted: bool) -> None:
        died = self.totals["died"]
        super().bury_one(job, error, now, wanted=wanted)
        key = fingerprint(error).key
        mark = self.marks.get(key)
        if wanted or mark is None:
            return
        if mark.mark == "muted":
            self.totals["died"] = died
        else:
            self.marks[key] = replace(mark, back=now if mark.back is None else mark.back, times=mark.times + 1)

    def mark_group(self, command: c.MarkGroup, now: int, owner: str | None) -> Reply:
        if not re.fullmatch("[0-9a-f]{12}|cancelled", command.fingerprint):
            raise No(400, "fingerprint must be that of a group of errors")
        before = self.marks.get(command.fingerprint)
        if command.mark == "none":
            self.marks.pop(command.fingerprint, None)
        elif before is None or before.mark != command.mark or before.back is not None:
            self.marks[command.fingerprint] = Marked(command.mark, now)
        return {}

    # --- what is listed -----------------------------------------------------------------------------

    def records(self, queue: str | None, state: str) -> list[Record]:
        """The committed records of a queue, newest first, without those whose id is taken anew."""
        place = {job_id: n for n, job_id in enumerate(self.places())}
        standing = {job.serial for job in self.ended}
        kept = [job for job in self.durable().ended if job.state == state and queue in (None, job.queue)]
        kept = [job for job in kept if job.serial in standing and job.id in place and not is_hidden(job)]
        return sorted(kept, key=lambda job: -place[job.id])

    def get_jobs(self, command: c.GetJobs, now: int, owner: str | None) -> Reply:
        if command.state not in (*UNFINISHED, "completed", "failed"):
            raise No(400, "state must be waiting, delayed, waiting-children, active, completed or failed")
        self.check_queue(command.queue)
        if command.state in UNFINISHED:
            jobs = self.standing(command.queue, command.state)  # type: ignore[attr-defined]
            if command.state == "active":
                jobs.sort(key=lambda job: (job.last, job.serial))
        else:
            jobs = self.records(command.queue, command.state)
        told = [view(self, job) | {"reason": reason_of(job)} for job in jobs[: command.limit]]
        kept = [job for job in self.durable().ended if (job.queue, job.state) == (command.queue, command.state)]
        return (
            {"jobs": told, "next": SOMETHING if jobs[command.limit :] else None}
            if len(kept) <= len(jobs)
            else self.page("jobs", told)
        )

    def dlq(self, command: c.Dlq, now: int, owner: str | None) -> Reply:
        self.check_queue(command.queue)
        dead = self.records(command.queue, "failed")
        entries = [
            {
                "job": json.loads(json.dumps(self.view(job, SIXTEEN))), "enteredAt": job.finished, "reason": reason_of(job),  # type: ignore[attr-defined]
                "error": job.error, "fingerprint": group_of(job), "retryCount": job.returns, "nextRetryAt": ANY,
            }
            for job in dead[: command.limit]
        ]  # fmt: skip
        counted = [job for job in self.durable().ended if (job.queue, job.state) == (command.queue, "failed")]
        page = {"entries": entries, "next": SOMETHING if dead[command.limit :] else None}
        if len(counted) > len(dead):
            page = self.page("entries", entries)
        return page | {"total": Between(len(dead), len(counted))}

    @staticmethod
    def page(name: str, items: list[Any]) -> Reply:
        """A page of the store of which some are gone since the last commit: it may be shorter, and the last one."""
        return {name: Beginning(items), "next": ANY}

    def dlq_groups(self, command: c.DlqGroups, now: int, owner: str | None) -> Reply:
        self.check_queue(command.queue)
        return self.groups(command.queue, command.limit, command.retrying)

    def dead_groups(self, command: c.DeadGroups, now: int, owner: str | None) -> Reply:
        return self.groups(None, command.limit, command.retrying)

    def groups(self, queue: str | None, limit: int, retrying: bool) -> Reply:
        dead = [job for job in self.durable().ended if job.state == "failed" and queue in (None, job.queue)]
        tried = [
            job
            for job in self.jobs
            if job.attempts and job.state in ("waiting", "delayed") and queue in (None, job.queue)
        ]
        shown = {job.serial for job in self.records(queue, "failed")}
        sizes = Counter(group_of(job) for job in (*dead, *(tried if retrying else ())))
        order = sorted(sizes, key=lambda key: (-sizes[key], key))
        groups = []
        for key in order[:limit]:
            of_it, again = ([job for job in some if group_of(job) == key] for some in (dead, tried))
            if is_there := any(job.serial in shown for job in of_it):
                group = Like(
                    count=len(of_it), queues=dict(Counter(job.queue for job in of_it)), firstSeen=min(job.finished or 0 for job in of_it),
                    lastSeen=max(job.finished or 0 for job in of_it if job.serial in shown),
                )  # fmt: skip
            else:
                first = min(again, key=lambda job: (job.run_at, job.serial), default=None)
                group = Like(
                    count=0, queues={}, example=first and Like(id=first.id, reason="retrying", error=first.error)
                )
            if not is_there and not (retrying and again):
                continue
            mark = self.marks.get(key)
            group |= {
                "fingerprint": key,
                "mark": mark and ("back" if mark.back else mark.mark),
                "markedAt": mark and mark.at,
            }
            group |= {
                "retrying": len(again), "retryingQueues": dict(Counter(job.queue for job in again)),
                "nextTryAt": min((job.run_at for job in again), default=None),
            }  # fmt: skip
            groups.append(Like(group))
        return {"groups": groups, "total": len(sizes), "next": ANY if order[limit:] else None}

    def obliterate(self, command: c.Obliterate, now: int, owner: str | None) -> Reply:
        queue = command.queue
        self.check_queue(queue)
        jobs = [job for job in self.jobs if job.queue == queue]
        if any(job.state == "active" for job in jobs) and not command.force:
            raise No(409, "Queue has active jobs: force takes them from their workers")
        model: Any = self
        active = sorted(model.standing(queue, "active"), key=lambda job: job.held_since)
        resting = [job for state in ("waiting", "delayed", "waiting-children") for job in model.standing(queue, state)]
        jobs = [*active, *resting][: command.limit]
        kept = [job for state in ("completed", "failed") for job in self.records(queue, state)]
        records = kept[: command.limit - len(jobs)]
        count = len(model.remove_all(jobs, now)) + len(records)
        self.ended = [job for job in self.ended if job.serial not in {record.serial for record in records}]
        model.tell_cleaned(queue, count, now)
        is_ending = any((job.queue, job.end_taken) == (queue, self.taken) for job in self.ended)
        done = records == kept and not is_ending and not any(job.queue == queue for job in self.jobs)
        if done:
            said: list[dict[str, Any]] = [self.pauses, self.limits, self.rates, self.said, self.stall_rules]
            gone = [some.pop(name, None) for some in said for name in (queue, f"dead {queue}")]
            self.full.pop(queue, None)
            if any(gone):
                self.woken.add(queue)
        return {"count": count, "done": done}

    def get_logs(self, command: c.GetLogs, now: int, owner: str | None) -> Reply:
        lines = [line for _, line in self.committed_of(self.shown(command.id), "lines")]
        more = ANY if lines[command.limit :] else None
        return {"data": {"logs": lines[: command.limit], "count": len(lines), "next": more}}

    def get_attempts(self, command: c.GetAttempts, now: int, owner: str | None) -> Reply:
        return {"attempts": list(self.committed_of(self.shown(command.id), "failures"))}

    def actions(self, command: c.Actions, now: int, owner: str | None) -> Reply:
        acts = self.durable().acts[::-1]
        length = length_of(acts, command.limit)
        return {"actions": as_one(acts[:length]), "total": len(acts), "next": ANY if length < len(acts) else None}

    def list_workers(self, command: c.ListWorkers, now: int, owner: str | None) -> Reply:
        behind = [hand for name, hand in sorted(self.hands.items()) if name > (command.after or "")]
        workers = []
        for hand in behind[: command.limit]:
            jobs = [job.id for job in self.jobs_of(hand)]
            status = "lost" if hand.wired and not hand.connections else "active" if hand.quiet is None else "quiet"
            workers.append(
                Like(
                    id=hand.id, status=status, quietSince=hand.quiet,
                    lastSeen=hand.heard, activeJobs=len(jobs), currentJob=jobs[0] if jobs else None, processedJobs=hand.done,
                    failedJobs=hand.failed, queues=hand.queues,
                )
            )  # fmt: skip
        quiet = sum(hand.quiet is not None for hand in self.hands.values())
        active = sum(job.state == "active" for job in self.jobs)
        stats = Like(total=len(self.hands), quiet=quiet, active=len(self.hands) - quiet, activeJobs=active)
        following = behind[command.limit - 1].id if behind[command.limit :] else None
        return {"data": {"workers": workers, "stats": stats, "next": following}}


def is_hidden(job: Record) -> bool:
    return job.spec.remove_on_complete and job.state == "completed"


def reason_of(job: Record) -> str | None:
    """Of what kind the end of a dead job was."""
    if job.state != "failed":
        return None
    if job.cause is not None:
        return job.cause
    if job.attempts >= job.spec.max_attempts:
        return "max_attempts_exceeded"
    return "stalled" if job.delivered else "dependency_failed"


def group_of(job: Record) -> str:
    return "cancelled" if job.cause == "cancelled" else fingerprint(job.error or "").key


ANSWERS: dict[type[c.Command], Any] = {
    c.AddLog: Past.log,
    c.ClearLogs: Past.clear_log,
    c.MarkGroup: Past.mark_group,
    c.GetJobs: Past.get_jobs,
    c.Dlq: Past.dlq,
    c.DlqGroups: Past.dlq_groups,
    c.DeadGroups: Past.dead_groups,
    c.Obliterate: Past.obliterate,
    c.GetLogs: Past.get_logs,
    c.GetAttempts: Past.get_attempts,
    c.Actions: Past.actions,
    c.ListWorkers: Past.list_workers,
}
