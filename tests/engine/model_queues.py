"""What is said of queues as a whole, by the naive queue of ``model.py``."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import ANY

from bunqueue_trio.protocol import commands as c
from tests.engine.model import UNFINISHED, Jobs, Limit, Limits, No, Pauses, Rates, Record, Reply, Snapshot


class Queues(Jobs):
    """Jobs, and which of their queues deliver nothing."""

    def __init__(self, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        self.pauses: Pauses = {}
        self.limits: Limits = {}
        self.rates: Rates = {}
        self.full: dict[str, int] = {}
        """Until when no rate leaves room, by queue."""
        self.committed: Callable[[], list[Record]] = lambda: self.ended
        """The jobs that had ended at the last commit."""

    # --- what the world does to it ------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        rates = {queue: replace(rate) for queue, rate in self.rates.items()}
        return super().snapshot()._replace(pauses=dict(self.pauses), limits=dict(self.limits), rates=rates)

    def restart(self, snapshot: Snapshot, now: int) -> None:
        super().restart(snapshot, now)
        self.pauses, self.limits = dict(snapshot.pauses), dict(snapshot.limits)
        self.rates = {queue: replace(rate) for queue, rate in snapshot.rates.items()}
        self.full = {}
        for queue, rate in self.rates.items():
            rate.times = [now - max(rate.times) + time for time in rate.times]
            self.look(queue, now)

    def look(self, queue: str, now: int) -> None:
        """See whether the rate of a queue leaves room, and else from when on."""
        self.full.pop(queue, None)
        rate = self.rates.get(queue)
        if rate is not None and len(counted := rate.counted(now)) >= rate.limit:
            self.full[queue] = sorted(counted)[-rate.limit] + rate.duration

    def next_due(self) -> int | None:
        ends = [until for _, _, until in self.pauses.values()] + [rate.until for rate in self.rates.values()]
        return min((due for due in (super().next_due(), *ends, *self.full.values()) if due is not None), default=None)

    def advance(self, now: int, upto: int | None = None) -> None:
        ends = [(until, queue) for queue, (_, _, until) in self.pauses.items() if until is not None and until <= now]
        for until, queue in sorted(ends):
            super().advance(now, until - 1)
            self.tell("resumed", now, queue=queue)
            self.open(queue)
        super().advance(now)
        for queue, rate in list(self.rates.items()):
            if rate.until is not None and rate.until <= now:
                self.free(queue)
        for queue, opens in list(self.full.items()):
            if opens <= now:
                del self.full[queue]
                self.woken.add(queue)

    def free(self, queue: str) -> None:
        if self.rates.pop(queue, None):
            self.full.pop(queue, None)
            self.woken.add(queue)

    def open(self, queue: str) -> None:
        if self.pauses.pop(queue, None):
            self.woken.add(queue)

    # --- lookups ------------------------------------------------------------------------------------

    def line(self, queue: str) -> list[Record]:
        return sorted((j for j in self.jobs if j.queue == queue and j.state == "waiting"), key=Record.place)

    def offered(self, queue: str) -> list[Record]:
        """The jobs that may be taken, in their order."""
        active = sum(job.queue == queue and job.state == "active" for job in self.jobs)
        shut = queue in self.pauses or queue in self.full or active >= self.limits.get(queue, active + 1)
        return [] if shut else self.line(queue)

    def count_delivery(self, queue: str, now: int) -> None:
        if queue in self.rates:
            self.rates[queue].deliver(now)
            self.look(queue, now)

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
        self.tell("paused", now, queue=command.queue, reason=command.reason, until=command.until)
        return {}

    def resume(self, command: c.Resume, now: int, owner: str | None) -> Reply:
        self.check_queue(command.queue)
        if command.queue in self.pauses:
            self.tell("resumed", now, queue=command.queue)
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

    def set_rate(self, command: c.RateLimit, now: int, owner: str | None) -> Reply:
        self.check_queue(command.queue)
        known = self.rates[command.queue].times if command.queue in self.rates else []
        until = command.ttl and now + command.ttl
        self.rates[command.queue] = Limit(command.limit, command.duration, until, known)
        self.look(command.queue, now)
        self.woken.add(command.queue)
        return {}

    def clear_rate(self, command: c.RateLimitClear, now: int, owner: str | None) -> Reply:
        self.check_queue(command.queue)
        self.free(command.queue)
        return {}

    def get_rate(self, command: c.GetRateLimit, now: int, owner: str | None) -> Reply:
        self.check_queue(command.queue)
        rate = self.rates.get(command.queue)
        if rate is None:
            return {"limit": None, "duration": None, "until": None, "used": 0, "opensAt": None}
        return {
            "limit": rate.limit, "duration": rate.duration, "until": rate.until, "used": len(rate.counted(now)),
            "opensAt": self.full.get(command.queue),
        }  # fmt: skip

    def list_queues(self, command: c.ListQueues, now: int, owner: str | None) -> Reply:
        names = (
            {job.queue for job in self.jobs}
            | {job.queue for job in self.committed()}
            | set(self.pauses)
            | set(self.limits)
            | set(self.rates)
            | {name.removeprefix("dead ") for name, said in self.said.items() if said}
            | set(self.stall_rules)
        )
        behind = sorted(name for name in names if name > command.after)
        page = behind[: command.limit]
        reply: Reply = {"queues": page, "next": page[-1] if page != behind else None}
        return reply | ({"details": [self.view_queue(name) for name in page]} if command.details else {})

    def get_queue(self, command: c.GetQueue, now: int, owner: str | None) -> Reply:
        self.check_queue(command.queue)
        return {"queue": self.view_queue(command.queue)}

    def get_figures(self, command: c.GetFigures, now: int, owner: str | None) -> Reply:
        """Minutes end in the runtime: none has here."""
        self.check_queue(command.queue)
        return {"queue": command.queue, "minutes": [], "hours": [], "usual": None}

    def view_queue(self, queue: str) -> Reply:
        ready, pause = self.line(queue), self.pauses.get(queue)
        rate = self.rates.get(queue)
        delayed = [job.run_at for job in self.jobs if job.queue == queue and job.state == "delayed"]
        return {
            "name": queue,
            "paused": pause is not None,
            "pause": pause and {"since": pause[0], "reason": pause[1], "until": pause[2], "by": None},
            "counts": self.all_counts(queue),
            "oldestReadyAt": self.oldest(ready),
            "nextDueAt": min(delayed, default=None),
            "pullsWaiting": 0,
            "concurrency": self.limits.get(queue),
            "rateLimit": rate and {"limit": rate.limit, "duration": rate.duration},
            "opensAt": self.full.get(queue),
            "lately": ANY,
            "set": [
                kind
                for kind, said in (
                    ("defaults", self.said.get(queue)),
                    ("stall-config", self.stall_rules.get(queue)),
                    ("dlq-config", self.said.get("dead " + queue)),
                )
                if said
            ],
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
    c.RateLimit: Queues.set_rate,
    c.RateLimitClear: Queues.clear_rate,
    c.GetRateLimit: Queues.get_rate,
    c.ListQueues: Queues.list_queues,
    c.GetQueue: Queues.get_queue,
    c.GetFigures: Queues.get_figures,
    c.GetJobCounts: Queues.job_counts,
    c.CountJobs: Queues.count_jobs,
    c.GetCountsPerPriority: Queues.by_priority,
}
