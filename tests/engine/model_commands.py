"""What each command must answer, by the naive queue of ``model.py``."""

import json
from typing import Any
from unittest.mock import ANY

import msgspec

from bunqueue_trio.protocol import commands as c
from tests.engine import (
    model_configs,
    model_many,
    model_past,
    model_queues,
    model_reruns,
    model_runs,
    model_schedules,
    model_upkeep,
    model_workers,
)
from tests.engine.model import UNFINISHED, No, Record, Reply
from tests.engine.model_jobs import Jobs, not_found

SIXTEEN = (
    "id queue data priority createdAt runAt startedAt completedAt attempts maxAttempts backoff progress tags lifo "
    "removeOnComplete removeOnFail"
)


class Model(Jobs):
    """The whole of it: give it a command, get the answer."""

    looked_at: set[int]
    """The jobs that the last page, and those before it, were about."""

    def do(self, command: c.Command, now: int, owner: str | None) -> Reply | tuple[int, str]:
        self.advance(now)
        is_act, self.acted = self.is_act(command), None
        before = self.everything() if is_act else ()
        try:
            answer = {"ok": True} | ANSWERS[type(command)](self, command, now, owner)
        except No as no:
            return no.args[0], no.args[1]
        if is_act:
            self.note_act(command, answer, now, before)
        return answer

    def cancel(self, command: c.Cancel, now: int, owner: str | None) -> Reply:
        job = self.unfinished(command.id)
        if job is None:
            raise not_found()
        return self.cancel_one(job, command, now)

    def cancel_one(self, job: Record, command: c.Cancel | c.ActOnJobs, now: int) -> Reply:
        if command.reason is None and command.by is None and command.grace is None:
            self.drop(job, now)
            return {}
        how = {"at": now, "until": None, "reason": command.reason, "by": command.by}
        if (first := self.in_grace(job)) is not None:
            how["at"] = first["at"]
            if first["reason"] or first["by"]:
                how |= {"reason": first["reason"], "by": first["by"]}
        if job.state != "active" or not command.grace:
            if job.state == "active":
                self.tell("cancelling", now, queue=job.queue, jobId=job.id, until=None, reason=how["reason"])
            self.call_off(job, how, now)
            return {}
        until = now + command.grace
        how["until"] = until if first is None else min(until, first["until"])
        job.called_off = how
        self.tell("cancelling", now, queue=job.queue, jobId=job.id, until=how["until"], reason=how["reason"])
        return {"data": {"until": how["until"]}}

    def promote(self, command: c.Promote, now: int, owner: str | None) -> Reply:
        job = self.unfinished(command.id)
        if job is None or job.state != "delayed":
            raise No(400, "Job not found or not delayed")
        job.run_at = now
        self.queue_up(job)
        self.tell("promoted", now, queue=job.queue, jobId=job.id)
        return {}

    def there(self, job_id: str, *, resting: bool = False) -> Record:
        job = self.unfinished(job_id)
        if job is None:
            raise not_found()
        if resting and job.state == "active":
            raise No(409, "Job is active")
        return job

    def discard(self, command: c.Discard, now: int, owner: str | None) -> Reply:
        job = self.there(command.id)
        job.cause, job.started = "discarded", job.last
        job.called_off = None  # what it ends of is another word of an operator
        self.bury(job, "Discarded", now, wanted=True)
        return {}

    def change_priority(self, command: c.ChangePriority, now: int, owner: str | None) -> Reply:
        job = self.there(command.id, resting=True)
        lifo = job.spec.lifo if command.lifo is None else command.lifo
        job.spec = msgspec.structs.replace(job.spec, priority=command.priority, lifo=lifo)
        self.tell("updated", now, queue=job.queue, jobId=job.id)
        return {}

    def change_delay(self, command: c.ChangeDelay, now: int, owner: str | None) -> Reply:
        job = self.there(command.id, resting=True)
        self.acted = bool(command.delay) or job.state != "waiting"
        if command.delay or job.state != "waiting":
            was = job.state
            self.postpone(job, now + command.delay, now)
            if was == "delayed" and not command.delay:
                self.tell("promoted", now, queue=job.queue, jobId=job.id)
        return {}

    def move_to_delayed(self, command: c.MoveToDelayed, now: int, owner: str | None) -> Reply:
        job = self.there(command.id) if command.token is None else self.held_by(command.id, command.token)
        if job.state == "waiting-children":
            raise No(409, "Job waits for others: only their ends make it ready")
        self.acted = True
        self.postpone(job, now + command.delay, now)
        return {}

    def move_to_wait(self, command: c.MoveToWait, now: int, owner: str | None) -> Reply:
        if command.token is not None:
            self.give_back(self.held_by(command.id, command.token), now)
            return {}
        job = self.unfinished(command.id)
        if job is None:
            dead = next((job for job in self.ended if job.id == command.id and job.state == "failed"), None)
            if dead is None:
                raise not_found()
            self.retry(c.RetryDlq(queue=dead.queue, job_id=dead.id), now, owner)
        elif job.state == "active":
            self.give_back(job, now)
        elif job.state == "delayed":
            self.promote(c.Promote(id=job.id), now, owner)
        elif job.state != "waiting":
            raise No(409, "Job waits for others: only their ends make it ready")
        return {}

    def promote_jobs(self, command: c.PromoteJobs, now: int, owner: str | None) -> Reply:
        self.check_queue(command.queue)
        delayed = self.standing(command.queue, "delayed")
        chosen = [job for job in delayed if self.was_there(job, command.as_of, now)][: command.count]
        for job in chosen:
            self.promote(c.Promote(id=job.id), now, owner)
        return {"count": len(chosen), "left": len(delayed) - len(chosen), "next": None}

    def update(self, command: c.Update, now: int, owner: str | None) -> Reply:
        if not bytes(command.data):
            raise No(400, "data is required")
        job = self.there(command.id, resting=True)
        job.spec = msgspec.structs.replace(job.spec, data=command.data)
        self.tell("updated", now, queue=job.queue, jobId=job.id)
        return {}

    def retry(self, command: c.RetryDlq, now: int, owner: str | None) -> Reply:
        """Of one job only: which of many a page has is a matter of commits."""
        self.check_queue(command.queue)
        dead = next((job for job in self.ended if job.id == command.job_id), None)
        if dead is None or dead.state != "failed" or dead.queue != command.queue:
            raise No(404, "No dead letter of this id in this queue")
        if self.is_held(dead):
            raise No(400, "Another unfinished job has the uniqueKey of this one")
        self.ended.remove(dead)
        waits = frozenset(job_id for job_id in dead.depends if self.unfinished(job_id))
        spec = msgspec.structs.replace(
            dead.spec, repeat=None, data=command.data if bytes(command.data) else dead.spec.data
        )
        self.add(dead.id, dead.queue, spec, dead.key, dead.depends, 1, now, now, waits, now)
        return {"count": 1, "left": ANY, "next": None}

    def purge(self, command: c.PurgeDlq, now: int, owner: str | None) -> Reply:
        """Of one job only, as :meth:`retry`."""
        self.check_queue(command.queue)
        dead = next((job for job in self.ended if job.id == command.job_id), None)
        if dead is None or dead.state != "failed" or dead.queue != command.queue:
            raise No(404, "No dead letter of this id in this queue")
        self.ended.remove(dead)
        return {"count": 1, "left": ANY, "next": None}

    def remove_all(self, jobs: list[Record], now: int) -> list[str]:
        removed = []
        for job in jobs:
            if job in self.jobs:
                self.totals["cancelled"] += 1
                self.remove(job, now, wanted=True)
                removed.append(job.id)
        return removed

    def tell_cleaned(self, queue: str, count: int, now: int) -> None:
        if count:
            self.tell("cleaned", now, queue=queue, count=count)

    def standing(self, queue: str, state: str) -> list[Record]:
        """The jobs of a queue in a state, as they are listed."""
        jobs = [job for job in self.jobs if job.queue == queue and job.state == state]
        if state == "waiting":
            return self.line(queue)
        return sorted(jobs, key=lambda job: (job.run_at, job.serial) if state == "delayed" else (0, job.serial))

    def was_there(self, job: Record, moment: int | None, now: int) -> bool:
        return moment is None or job.created <= moment or job.created > now

    def drain(self, command: c.Drain, now: int, owner: str | None) -> Reply:
        self.check_queue(command.queue)
        states = ["waiting", "delayed"] if command.delayed else ["waiting"]
        jobs = [job for state in states for job in self.standing(command.queue, state)]
        jobs = [job for job in jobs if self.was_there(job, command.as_of, now)][: command.limit]
        count = len(self.remove_all(jobs, now))
        self.tell_cleaned(command.queue, count, now)
        left = sum(len(self.standing(command.queue, state)) for state in states)
        return {"count": count, "left": left, "next": None}

    def clean(self, command: c.Clean, now: int, owner: str | None) -> Reply:
        """Of unfinished ones: which records a page has is a matter of commits."""
        if command.state not in ("waiting", "delayed", "waiting-children"):
            raise No(400, "state must be waiting, delayed, waiting-children, completed or failed")
        self.check_queue(command.queue)
        self.looked_at = set() if command.after is None else self.looked_at
        jobs = [job for job in self.standing(command.queue, command.state) if job.serial not in self.looked_at]
        page = jobs[: command.limit]
        self.looked_at |= {job.serial for job in page}
        moment = now if command.as_of is None or command.as_of > now else command.as_of
        old = [job for job in page if job.created + command.grace <= moment]
        told = {"scanned": len(page), "bytes": ANY, "next": ANY if len(jobs) > len(page) else None}
        if command.dry_run:
            return {"count": len(old), "ids": [job.id for job in old]} | told
        ids = self.remove_all(old, now)
        self.tell_cleaned(command.queue, len(ids), now)
        return {"count": len(ids), "ids": ids} | told

    # --- what is shown of a job ---------------------------------------------------------------------

    def get_job(self, command: c.GetJob, now: int, owner: str | None) -> Reply:
        return {"job": self.view(self.shown(command.id), SIXTEEN)}

    def get_state(self, command: c.GetState, now: int, owner: str | None) -> Reply:
        return self.state(self.shown(command.id))

    def get_progress(self, command: c.GetProgress, now: int, owner: str | None) -> Reply:
        job = self.shown(command.id)
        return {"progress": job.progress, "message": job.message, "at": job.said_at}

    def get_result(self, command: c.GetResult, now: int, owner: str | None) -> Reply:
        job = self.shown(command.id)
        error = job.error if job.state == "failed" else None
        result = None if job.result is None else json.loads(job.result)
        told = {"id": job.id, "result": result}
        return told | {"state": job.state, "error": error} if command.timeout else told

    def wait_job(self, command: c.WaitJob, now: int, owner: str | None) -> Reply:
        """As the engine has it: who waits is the runtime's."""
        told = self.get_result(c.GetResult(id=command.id, timeout=1), now, owner)
        return told | {"completed": told["state"] == "completed"}

    def why(self, command: c.Why, now: int, owner: str | None) -> Reply:
        """The first of all that stands in its way."""
        job = self.shown(command.id)
        names = "since until position higher exact active limit pullsWaiting usual waitsFor waitsForCount expiresAt"
        nothing: Reply = dict.fromkeys(names.split())
        told = {"id": job.id, "queue": job.queue, "state": job.state, "why": ANY, "attempts": job.attempts}
        ends = [time for time, _, what in job.deadlines() if what == "ttl"]
        return (
            nothing
            | told
            | self.reason(job)
            | ({"expiresAt": ends[0]} if ends and job.state in UNFINISHED and job.state != "active" else {})
        )

    def reason(self, job: Record) -> Reply:
        if job.state == "waiting":
            return self.in_line(job)
        if job.state == "delayed":
            return {"code": "backs-off" if job.attempts else "delayed", "until": job.run_at}
        if job.state == "waiting-children":
            return {"code": "waits-for-jobs", "waitsFor": sorted(job.open), "waitsForCount": len(job.open)}
        if job.state == "active":
            ends = [time for time, _, _ in job.deadlines()]
            return {
                "code": "cancelling" if job.called_off else "active",
                "since": job.started,
                "usual": ANY,
                "until": min(ends, default=None),
            }
        until = model_configs.returns_at(self, job) if job.state == "failed" else None
        return {"code": "cancelled" if job.cause == "cancelled" else job.state, "since": job.finished, "until": until}

    def in_line(self, job: Record) -> Reply:
        line, active = self.line(job.queue), self.counts(job.queue)["active"]
        place = {
            "position": line.index(job) + 1, "exact": True, "active": active, "pullsWaiting": 0,
            "higher": sum(other.spec.priority > job.spec.priority for other in line),
        }  # fmt: skip
        # Who waits is the runtime's; beside a job that may leave nobody does.
        held = place | {"pullsWaiting": ANY}
        pause = self.pauses.get(job.queue)
        if pause:
            return held | {"code": "paused", "since": pause[0], "until": pause[2]}
        if job.queue in self.full:
            return held | {
                "code": "rate-limit",
                "limit": self.rates[job.queue].limit,
                "until": self.opens_at(job.queue),
            }
        if active >= self.limits.get(job.queue, active + 1):
            return held | {"code": "concurrency", "limit": self.limits[job.queue]}
        quiet = [hand for hand in self.hands.values() if hand.quiet is not None]
        theirs = [other for hand in quiet for other in self.jobs_of(hand) if other.queue == job.queue]
        if len(theirs) == active:
            is_quiet = theirs or any(job.queue in hand.queues for hand in quiet)
            return place | {"code": "workers-quiet" if is_quiet else "nobody-asks"}
        return place | {"code": "next" if line[0] is job else "in-line"}

    def opens_at(self, queue: str) -> int:
        """When a queue with a full rate delivers again: there is room, or the limit is over."""
        ends = self.rates[queue].until
        return int(self.full[queue] if ends is None else min(self.full[queue], ends))

    def view(self, job: Record, fields: str) -> Reply:
        """The fields of a job by their names in the contract."""
        spec = job.spec
        every = {
            "id": job.id, "queue": job.queue, "data": json.loads(bytes(spec.data)), "priority": spec.priority,
            "createdAt": job.created, "runAt": job.run_at, "startedAt": job.started, "completedAt": job.finished,
            "attempts": job.attempts, "maxAttempts": spec.max_attempts,
            "backoff": spec.backoff if isinstance(spec.backoff, int) else json.loads(msgspec.json.encode(spec.backoff)),
            "progress": job.progress, "tags": spec.tags, "lifo": spec.lifo,
            "removeOnComplete": spec.remove_on_complete, "removeOnFail": spec.remove_on_fail,
        }  # fmt: skip
        return {name: every[name] for name in fields.split()} | ({"name": spec.name} if spec.name else {})

    def state(self, job: Record) -> Reply:
        spec, repeat = job.spec, job.spec.repeat
        series = repeat and {"every": repeat.every, "limit": repeat.limit, "run": job.run, "due": job.slot}
        if repeat and repeat.name is not None:
            series["name"] = repeat.name
        return {
            "id": job.id, "state": job.state, "queue": job.queue, "error": job.error, "message": job.message,
            "stalls": job.stalls, "ttl": spec.ttl, "timeout": spec.timeout or None, "uniqueKey": job.key,
            "groupId": spec.group_id, "dependsOn": list(job.depends), "waitingOn": sorted(job.open),
            "repeat": series, "leaseUntil": job.until, "cancelled": None if job.state == "completed" else job.called_off, "discardedBy": None,
        }  # fmt: skip


ANSWERS: dict[type[c.Command], Any] = {
    c.Push: Model.push,
    c.PushBatch: Model.push_batch,
    c.Pull: Model.pull,
    c.PullBatch: Model.pull_batch,
    c.Ack: Model.ack,
    c.AckBatch: Model.ack_batch,
    c.Fail: Model.give_up,
    c.FailBatch: Model.give_up_several,
    c.Heartbeat: Model.heartbeat,
    c.HeartbeatBatch: Model.heartbeat_batch,
    c.ExtendLock: Model.extend,
    c.Release: Model.release,
    c.Progress: Model.report,
    c.Cancel: Model.cancel,
    c.Promote: Model.promote,
    c.Discard: Model.discard,
    c.ChangePriority: Model.change_priority,
    c.ChangeDelay: Model.change_delay,
    c.MoveToDelayed: Model.move_to_delayed,
    c.MoveToWait: Model.move_to_wait,
    c.PromoteJobs: Model.promote_jobs,
    c.Update: Model.update,
    c.RetryDlq: Model.retry,
    c.PurgeDlq: Model.purge,
    c.Drain: Model.drain,
    c.Clean: Model.clean,
    c.GetJob: Model.get_job,
    c.GetState: Model.get_state,
    c.GetProgress: Model.get_progress,
    c.GetResult: Model.get_result,
    c.WaitJob: Model.wait_job,
    c.Why: Model.why,
    **model_queues.ANSWERS,
    **model_configs.ANSWERS,
    **model_schedules.ANSWERS,
    **model_many.ANSWERS,
    **model_workers.ANSWERS,
    **model_past.ANSWERS,
    **model_runs.ANSWERS,
    **model_reruns.ANSWERS,
    **model_upkeep.ANSWERS,
}
