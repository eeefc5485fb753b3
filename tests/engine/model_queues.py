"""What is said of queues as a whole, by the naive queue of ``model.py``."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from bunqueue_trio.protocol import commands as c
from tests.engine.model import UNFINISHED, Jobs, Limits, No, Pauses, Record, Reply, Snapshot


class Queues(Jobs):
    """Jobs, and which of their queues deliver nothing."""

    def __init__(self, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        self.pauses: Pauses = {}
        self.limits: Limits = {}
        self.committed: Callable[[], list[Record]] = lambda: self.ended
        """The jobs that had ended at the last commit."""

    # --- what the world does to it ------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        return super().snapshot()._replace(pauses=dict(self.pauses), limits=dict(self.limits))

    def restart(self, snapshot: Snapshot, now: int) -> None:
        super().restart(snapshot, now)
        self.pauses, self.limits = dict(snapshot.pauses), dict(snapshot.limits)

    def next_due(self) -> int | None:
        ends = [until for _, _, until in self.pauses.values() if until is not None]
        return min((due for due in (super().next_due(), *ends) if due is not None), default=None)

    def advance(self, now: int) -> None:
        super().advance(now)
        for queue, (_, _, until) in list(self.pauses.items()):
            if until is not None and until <= now:
                self.open(queue)

    def open(self, queue: str) -> None:
        if self.pauses.pop(queue, None):
            self.woken.add(queue)

    # --- lookups ------------------------------------------------------------------------------------

    def line(self, queue: str) -> list[Record]:
        return sorted((j for j in self.jobs if j.queue == queue and j.state == "waiting"), key=Record.place)

    def offered(self, queue: str) -> list[Record]:
        """The jobs that may be taken, in their order."""
        active = sum(job.queue == queue and job.state == "active" for job in self.jobs)
        return [] if queue in self.pauses or active >= self.limits.get(queue, active + 1) else self.line(queue)

    def make_room(self, job: Record) -> None:
        if job.queue in self.limits:
            self.woken.add(job.queue)

    # --- the commands -------------------------------------------------------------------------------

    def check_queue(self, queue: str) -> None:
        if not re.fullmatch("[A-Za-z0-9_.:-]{1,256}", queue):
            raise No(400, "Queue name contains invalid characters")

    def pause(self, command: c.Pause, now: int, owner: str | None) -> Reply:
        self.check_queue(command.queue)
        if command.until is not None and command.until <= now:
            raise No(400, "until must be later than now")
        since = self.pauses[command.queue][0] if command.queue in self.pauses else now
        self.pauses[command.queue] = since, command.reason, command.until
        return {}

    def resume(self, command: c.Resume, now: int, owner: str | None) -> Reply:
        self.check_queue(command.queue)
        self.open(command.queue)
        return {}

    def is_paused(self, command: c.IsPaused, now: int, owner: str | None) -> Reply:
        self.check_queue(command.queue)
        since, reason, until = self.pauses.get(command.queue, (None, None, None))
        return {"paused": since is not None, "reason": reason, "since": since, "until": until}

    def set_concurrency(self, command: c.SetConcurrency, now: int, owner: str | None) -> Reply:
        self.check_queue(command.queue)
        self.limits[command.queue] = command.concurrency
        self.woken.add(command.queue)
        return {}

    def clear_concurrency(self, command: c.ClearConcurrency, now: int, owner: str | None) -> Reply:
        self.check_queue(command.queue)
        if self.limits.pop(command.queue, None):
            self.woken.add(command.queue)
        return {}

    def get_concurrency(self, command: c.GetConcurrency, now: int, owner: str | None) -> Reply:
        self.check_queue(command.queue)
        active = self.all_counts(command.queue)["active"]
        return {"concurrency": self.limits.get(command.queue), "active": active}

    def list_queues(self, command: c.ListQueues, now: int, owner: str | None) -> Reply:
        names = (
            {job.queue for job in self.jobs}
            | {job.queue for job in self.committed()}
            | set(self.pauses)
            | set(self.limits)
        )
        behind = sorted(name for name in names if name > command.after)
        page = behind[: command.limit]
        reply: Reply = {"queues": page, "next": page[-1] if page != behind else None}
        return reply | ({"details": [self.view_queue(name) for name in page]} if command.details else {})

    def get_queue(self, command: c.GetQueue, now: int, owner: str | None) -> Reply:
        self.check_queue(command.queue)
        return {"queue": self.view_queue(command.queue)}

    def view_queue(self, queue: str) -> Reply:
        ready, pause = self.line(queue), self.pauses.get(queue)
        delayed = [job.run_at for job in self.jobs if job.queue == queue and job.state == "delayed"]
        return {
            "name": queue,
            "paused": pause is not None,
            "pause": pause and {"since": pause[0], "reason": pause[1], "until": pause[2]},
            "counts": self.all_counts(queue),
            "oldestReadyAt": self.oldest(ready),
            "nextDueAt": min(delayed, default=None),
            "pullsWaiting": 0,
            "concurrency": self.limits.get(queue),
        }

    def oldest(self, ready: list[Record]) -> int | None:
        """Since when the first job of each priority is ready, of LIFO ones and of the others."""
        first = {(job.spec.priority, job.spec.lifo): job.run_at for job in reversed(ready)}
        return min(first.values(), default=None)

    def all_counts(self, queue: str) -> dict[str, int]:
        found = Counter(job.state for job in self.jobs if job.queue == queue)
        kept = [job for job in self.committed() if not (job.spec.remove_on_complete and job.state == "completed")]
        found += Counter(job.state for job in kept if job.queue == queue)
        return {state: found[state] for state in (*UNFINISHED, "completed", "failed")}

    def job_counts(self, command: c.GetJobCounts, now: int, owner: str | None) -> Reply:
        self.check_queue(command.queue)
        counts = self.all_counts(command.queue) | {"prioritized": 0, "paused": 0}
        if command.queue in self.pauses:
            counts |= {"paused": counts["waiting"], "waiting": 0}
        return {"counts": counts}

    def count_jobs(self, command: c.CountJobs, now: int, owner: str | None) -> Reply:
        self.check_queue(command.queue)
        return {"count": sum(job.queue == command.queue and job.state in ("waiting", "delayed") for job in self.jobs)}

    def by_priority(self, command: c.GetCountsPerPriority, now: int, owner: str | None) -> Reply:
        self.check_queue(command.queue)
        counts = Counter(str(job.spec.priority) for job in self.line(command.queue))
        return {"queue": command.queue, "counts": dict(counts)}


ANSWERS: dict[type[c.Command], Any] = {
    c.Pause: Queues.pause,
    c.Resume: Queues.resume,
    c.IsPaused: Queues.is_paused,
    c.SetConcurrency: Queues.set_concurrency,
    c.ClearConcurrency: Queues.clear_concurrency,
    c.GetConcurrency: Queues.get_concurrency,
    c.ListQueues: Queues.list_queues,
    c.GetQueue: Queues.get_queue,
    c.GetJobCounts: Queues.job_counts,
    c.CountJobs: Queues.count_jobs,
    c.GetCountsPerPriority: Queues.by_priority,
}
