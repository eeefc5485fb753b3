"""Jobs that are pushed, pulled, finished and held, by the naive queue of ``model.py``."""

from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from typing import Any

from bunqueue_trio.protocol import commands as c
from tests.engine import model_configs
from tests.engine.model import UNFINISHED, No, Record, Reply
from tests.engine.model_failing import Failing
from tests.engine.model_past import Past
from tests.engine.model_schedules import Schedules
from tests.engine.model_workers import Hand

EIGHT = "id queue data priority createdAt attempts maxAttempts progress"


def not_active() -> No:
    return No(400, "Job not found or not active")


def not_found() -> No:
    return No(404, "Job not found")


Parts = Generator[Reply | None, tuple[int, int], None]
"""A command whose items are done some at a time: send how many, and when; get the answer with the last of them, else None."""

NOTHING: Mapping[str, str] = {}


def in_one(parts: Parts, items: int, now: int) -> Reply:
    next(parts)
    answer = parts.send((items, now))
    assert answer is not None
    return answer


class Jobs(Failing, Past, Schedules):
    """Jobs from their push to their end, and who holds them meanwhile."""

    reserved: tuple[str, list[str]] | None = None
    """The queue of a bulk push that is half in, and the ids that its jobs have."""

    # --- lookups ------------------------------------------------------------------------------------

    def unfinished(self, job_id: str) -> Record | None:
        return next((job for job in self.jobs if job.id == job_id), None)

    def known(self, job_id: str) -> Record | None:
        return next((job for job in self.jobs + self.ended if job.id == job_id), None)

    def shown(self, job_id: str) -> Record:
        job = self.known(job_id)
        if job is None or (job.state == "completed" and job.spec.remove_on_complete):
            raise not_found()
        return job

    def held_by(self, job_id: str, token: str | None) -> Record:
        job = self.unfinished(job_id)
        if job is None or job.state != "active":
            raise not_active()
        if token is not None and token != job.token:
            raise No(400, "Invalid or expired lock token")
        return job

    def counts(self, queue: str | None = None) -> dict[str, int]:
        found = Counter(job.state for job in self.jobs if queue in (None, job.queue))
        return {state: found[state] for state in UNFINISHED}

    def is_held(self, dead: Record) -> bool:
        """Whether a dead letter cannot wait again: its key, or its id, is another's."""
        ids = self.reserved[1] if self.reserved and self.reserved[0] != dead.queue else []
        return dead.id in ids or any(dead.key and (job.queue, job.key) == (dead.queue, dead.key) for job in self.jobs)

    # --- the commands -------------------------------------------------------------------------------

    def check(self, spec: c.JobSpec, queue: str, earlier: Iterable[str]) -> None:
        if not bytes(spec.data):
            raise No(400, "data is required")
        other = self.unfinished(spec.job_id) if spec.job_id else None
        taken_by = self.reserved[0] if self.reserved and spec.job_id in self.reserved[1] else queue
        if (other is not None and other.queue != queue) or taken_by != queue:
            raise No(400, f"Job ID is in use by a job of another queue: {spec.job_id}")
        for needed in spec.depends_on:
            if needed not in earlier and self.known(needed) is None:
                raise No(400, f"Dependency job not found: {needed}")

    def push_one(
        self, spec: c.JobSpec, queue: str, now: int, stands_for: dict[str, str], ended: Mapping[str, str] = NOTHING
    ) -> str:
        twin = self.unfinished(spec.job_id) if spec.job_id else None
        if twin is None and spec.unique_key is not None:
            twin = next((j for j in self.jobs if j.queue == queue and j.key == spec.unique_key), None)
        if twin is not None:
            self.say("duplicated", twin, now)
            return twin.id
        needed = [stands_for.get(job_id, job_id) for job_id in spec.depends_on]
        states = [
            (job_id, job.state if (job := self.known(job_id)) else ended.get(job_id, "gone")) for job_id in needed
        ]
        waits = frozenset(job_id for job_id, state in states if state != "completed")
        self.ended = [job for job in self.ended if job.id != spec.job_id]
        spec = model_configs.filled(spec, self.said.get(queue, {}))
        job_id, slot = spec.job_id or self.new_id(now), now + spec.delay
        key, depends = spec.unique_key, tuple(spec.depends_on)
        job = self.add(job_id, queue, spec, key, depends, 1, slot, slot, waits, now)
        dead = [job_id for job_id, state in states if state in ("failed", "gone")]
        if dead:
            self.bury(job, f"Dependency {dead[0]} failed", now)
        return job_id

    def push(self, command: c.Push, now: int, owner: str | None) -> Reply:
        self.check_queue(command.queue)
        self.check(command, command.queue, ())
        return {"id": self.push_one(command, command.queue, now, {})}

    def push_batch(self, command: c.PushBatch, now: int, owner: str | None) -> Reply:
        return in_one(self.pushing(command), len(command.jobs), now)

    def pushing(self, command: c.PushBatch) -> Parts:
        self.check_queue(command.queue)
        for i, spec in enumerate(command.jobs):
            try:
                self.check(spec, command.queue, [job.job_id for job in command.jobs[:i] if job.job_id])
            except No as no:
                raise No(no.args[0], f"jobs[{i}]: {no.args[1]}") from None
        needed = {job_id: self.known(job_id) for spec in command.jobs for job_id in spec.depends_on}
        ended = {job_id: job.state for job_id, job in needed.items() if job is not None and job.state not in UNFINISHED}
        self.reserved = (command.queue, [spec.job_id for spec in command.jobs if spec.job_id])
        ids: list[str] = []
        stands_for: dict[str, str] = {}
        left, now = yield None
        for spec in command.jobs:
            if not left:
                left, now = yield None
            left -= 1
            ids.append(self.push_one(spec, command.queue, now, stands_for, ended))
            if spec.job_id:
                stands_for[spec.job_id] = ids[-1]
                ended.pop(spec.job_id, None)
        self.reserved = None
        yield {"ids": ids}

    def lease_of(self, queue: str) -> int:
        rule = self.stall_rules.get(queue, {})
        return int(rule.get("stall_interval", self.lease) + rule.get("grace_period", 0))

    def pull_one(
        self, queue: str, lock_ttl: int | None, now: int, owner: str | None, hand: Hand | None
    ) -> tuple[Reply, str] | None:
        line = self.offered(queue)
        if not line:
            return None
        job, timeout = line[0], line[0].spec.timeout
        job.state, job.started, job.token, job.delivered = "active", now, self.new_id(now), True
        job.last = now
        job.owner, job.held, job.lease = owner, owner is not None, lock_ttl or self.lease_of(queue)
        if timeout:
            job.timeout_at = now + timeout
        elif owner is None or lock_ttl:
            job.until = now + job.lease
        job.owned_since = job.held_since = next(self.ticks)
        job.worker = hand and hand.id
        self.totals["pulled"] += 1
        self.say("pulled", job, now)
        self.count_delivery(queue, now)
        if len(line) == 1:
            self.say("drained", job, now)
        return self.view(job, EIGHT), job.token

    def pull(self, command: c.Pull, now: int, owner: str | None) -> Reply:
        self.check_queue(command.queue)
        hand = self.hear(owner, command.owner, now)
        if hand is not None and hand.quiet is not None:
            return {"job": None, "token": None}
        job, token = self.pull_one(command.queue, command.lock_ttl, now, owner, hand) or (None, None)
        return {"job": job, "token": token}

    def pull_batch(self, command: c.PullBatch, now: int, owner: str | None) -> Reply:
        self.check_queue(command.queue)
        taken: list[tuple[Reply, str]] = []
        large = 0
        hand = self.hear(owner, command.owner, now)
        if hand is not None and hand.quiet is not None:
            return {"jobs": [], "tokens": []}
        while len(taken) < command.count and large < 8 * 2**20:
            large += sum(len(bytes(job.spec.data)) for job in self.offered(command.queue)[:1])
            if (pulled := self.pull_one(command.queue, command.lock_ttl, now, owner, hand)) is None:
                break
            taken.append(pulled)
        return {"jobs": [job for job, _ in taken], "tokens": [token for _, token in taken]}

    def ack(self, command: c.Ack, now: int, owner: str | None) -> Reply:
        self.complete(self.held_by(command.id, command.token), bytes(command.result), now)
        return {}

    def give_up(self, command: c.Fail, now: int, owner: str | None) -> Reply:
        if command.unrecoverable and command.retry_in is not None:
            raise No(400, "unrecoverable and retryIn exclude each other")
        error = "Unknown error" if command.error is None else command.error
        job = self.held_by(command.id, command.token)
        self.fail(job, error, now, wait=command.retry_in, last=command.unrecoverable)
        return {}

    def give_up_several(self, command: c.FailBatch, now: int, owner: str | None) -> Reply:
        return in_one(self.failing(command), len(command.failures), now)

    def failing(self, command: c.FailBatch) -> Parts:
        for i, failure in enumerate(command.failures):
            if failure.unrecoverable and failure.retry_in is not None:
                raise No(400, f"failures[{i}]: unrecoverable and retryIn exclude each other")
        told: dict[str, int | None] = {}
        places: list[int | None] = []
        left, now = yield None
        for failure in command.failures:
            if not left:
                left, now = yield None
            left -= 1
            place = None
            if failure.id not in told:
                try:
                    job = self.held_by(failure.id, failure.token)
                except No:
                    pass
                else:
                    error = "Unknown error" if failure.error is None else failure.error
                    self.fail(job, error, now, wait=failure.retry_in, last=failure.unrecoverable)
                    place = job.run_at if job.state in ("waiting", "delayed") else None
                    told[failure.id] = place
            places.append(place)
        ignored = [name for name in dict.fromkeys(failure.id for failure in command.failures) if name not in told]
        yield {"data": {"runAt": places, **({"ignoredIds": ignored} if ignored else {})}}

    def ack_batch(self, command: c.AckBatch, now: int, owner: str | None) -> Reply:
        return in_one(self.acking(command), len(command.ids), now)

    def acking(self, command: c.AckBatch) -> Parts:
        tokens = self.beside("tokens", command.tokens, command.ids)
        results = self.beside("results", command.results, command.ids)
        ignored: list[str] = []
        acked: list[str] = []
        left, now = yield None
        for job_id, token, result in zip(command.ids, tokens, results, strict=True):
            if not left:
                left, now = yield None
            left -= 1
            if job_id in acked:
                continue
            try:
                self.complete(self.held_by(job_id, token), bytes(result or b""), now)
            except No:
                ignored += [job_id] if job_id not in ignored else []
            else:
                acked.append(job_id)
        ignored = [job_id for job_id in ignored if job_id not in acked]
        yield {"data": {"ignoredIds": ignored}} if ignored else {}

    def beside(self, name: str, values: list[Any] | None, ids: list[str]) -> list[Any]:
        if values is None:
            return [None] * len(ids)
        if len(values) != len(ids):
            raise No(400, f"{name} must be as long as ids")
        return values

    def renew(self, job: Record, duration: int | None, now: int, owner: str | None, token: str | None) -> None:
        if job.held and job.owner is None:  # its connection went with a restart: whoever speaks for it has it now
            if owner is None and not token:  # somebody who only knows its id
                self.prolong(job, duration, now)
                return
            job.owner, job.held, job.shown = owner, owner is not None, bool(token)
            job.owned_since = job.owned_since if owner is None else next(self.ticks)
            job.until = now + job.lease if owner is None else None
            hand = self.hear(owner, None, now)
            job.worker = job.worker if hand is None else hand.id
        elif job.owner not in (None, owner) and token and not job.shown:  # whose it was all the time
            job.owner, job.owned_since, job.shown = owner, next(self.ticks), True
            if owner is None:
                job.held, job.worker, job.until = False, None, now
            else:
                job.worker = self.hear(owner, None, now).id
        elif job.owner not in (None, owner) and owner in self.lines_of(job.worker) and token:
            self.behind.add(job.owner)
            job.owner, job.owned_since = owner, next(self.ticks)  # by another line of the same hand
            self.hear(owner, None, now)
        else:
            self.note(job, now)
        self.prolong(job, duration, now)

    def prolong(self, job: Record, duration: int | None, now: int) -> None:
        if job.spec.timeout:
            job.until = None
        elif duration is not None:
            job.until = now + duration
        elif job.until is not None:
            job.until = now + job.lease

    def heartbeat(self, command: c.Heartbeat, now: int, owner: str | None) -> Reply:
        job = self.held_by(command.id, command.token)
        self.renew(job, command.duration, now, owner, command.token)
        how = job.called_off
        told = {"cancelled": {name: how[name] for name in ("reason", "by", "until")}} if how else {}
        return {"data": {"ok": True, "count": 1} | told}

    def extend(self, command: c.ExtendLock, now: int, owner: str | None) -> Reply:
        self.renew(self.held_by(command.id, command.token), command.duration, now, owner, command.token)
        return {}

    def release(self, command: c.Release, now: int, owner: str | None) -> Reply:
        self.give_back(self.held_by(command.id, command.token), now)
        return {}

    def heartbeat_batch(self, command: c.HeartbeatBatch, now: int, owner: str | None) -> Reply:
        return in_one(self.beating(command, owner), len(command.ids), now)

    def beating(self, command: c.HeartbeatBatch, owner: str | None) -> Parts:
        lost: list[str] = []
        renewed: list[str] = []
        called_off: list[str] = []
        tokens = self.beside("tokens", command.tokens, command.ids)
        left, now = yield None
        for job_id, token in zip(command.ids, tokens, strict=True):
            if not left:
                left, now = yield None
            left -= 1
            if job_id in renewed:
                continue
            try:
                self.renew(self.held_by(job_id, token), None, now, owner, token)
            except No:
                lost += [job_id] if job_id not in lost else []
            else:
                renewed.append(job_id)
                called_off += [job_id] if self.held_by(job_id, None).called_off else []
        lost = [job_id for job_id in lost if job_id not in renewed]
        data: Reply = {"ok": True, "count": len(renewed)} | ({"lostIds": lost} if lost else {})
        yield {"data": data | ({"cancelledIds": called_off} if called_off else {})}

    def report(self, command: c.Progress, now: int, owner: str | None) -> Reply:
        job = self.held_by(command.id, command.token)
        self.renew(job, None, now, owner, command.token)
        job.progress = command.progress
        job.said_at = now
        job.message = job.message if command.message is None else command.message
        self.say("progress", job, now, progress=command.progress)
        return {}
