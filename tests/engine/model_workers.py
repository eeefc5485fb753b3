"""Who works on jobs, by the naive queue of ``model.py``."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import ANY

from bunqueue_trio.protocol import commands as c
from tests.engine.model import No, Record, Reply, Snapshot
from tests.engine.model_queues import Queues

SILENT = 120_000


@dataclass
class Hand:
    """One who works."""

    id: str
    named: bool
    heard: int
    quiet: int | None = None
    done: int = 0
    failed: int = 0
    connections: set[str] = field(default_factory=set)
    left: bool = False
    wired: bool = False
    """It has come over a connection."""
    name: str = ""
    queues: list[str] = field(default_factory=list)


class Crew(Queues):
    """Jobs, queues, and who works on them."""

    acted: bool | None

    def __init__(self, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        self.hands: dict[str, Hand] = {}
        self.bound: dict[str, str] = {}
        self.behind: set[str] = set()

    def snapshot(self) -> Snapshot:
        quiet = {hand.id: hand.quiet for hand in self.hands.values() if hand.quiet is not None}
        return super().snapshot()._replace(quiet=quiet)

    def restart(self, snapshot: Snapshot, now: int) -> None:
        super().restart(snapshot, now)
        self.hands, self.bound, self.behind = {}, {}, set()
        for name, since in snapshot.quiet.items():
            self.add_hand(name, name[0] != "@", now).quiet = since
        for job in self.jobs:
            job.owned_since = next(self.ticks)
            if job.worker is not None and job.worker not in self.hands:
                self.add_hand(job.worker, job.worker[0] != "@", now)

    def forget_silent(self, now: int) -> None:
        self.advance(now)
        for hand in list(self.hands.values()):
            silent = hand.left or hand.heard <= now - SILENT
            if silent and not hand.connections and not self.jobs_of(hand):
                self.forget(hand, now)

    def release_owner(self, owner: str, now: int, *, dropped: bool) -> None:
        super().release_owner(owner, now, dropped=dropped)
        self.behind.discard(owner)
        hand = self.hands.get(self.bound.pop(owner, ""))
        if hand is not None:
            self.unbind(hand, owner, now, gone=not dropped or not hand.named)

    # --- who is who ---------------------------------------------------------------------------------

    def jobs_of(self, hand: Hand) -> list[Record]:
        return sorted((job for job in self.jobs if job.worker == hand.id), key=lambda job: job.owned_since)

    def add_hand(self, name: str, named: bool, now: int) -> Hand:
        hand = self.hands[name] = Hand(name, named, now, name=name.removeprefix("@"))
        return hand

    def hear(self, owner: str | None, named: str | None, now: int) -> Hand | None:
        name = named or self.bound.get(owner or "", owner)
        if name is None:
            return None
        hand = self.hands.get(name)
        if hand is None:
            hand = self.add_hand(name, name[0] != "@" and name != owner, now)
            if hand.named:
                self.tell("workerJoined", now, worker=hand.id, name=hand.name)
        hand.heard, hand.left = now, False
        if owner is not None:
            self.bind(hand, owner, now)
        return hand

    def bind(self, hand: Hand, owner: str, now: int) -> None:
        before = self.hands.get(self.bound.get(owner, ""))
        self.bound[owner] = hand.id
        hand.connections.add(owner)
        hand.wired = True
        if before is not None and before is not hand:
            self.unbind(before, owner, now, gone=not before.named)

    def lines_of(self, name: str | None) -> set[str]:
        """The connections of a hand."""
        return {line for line, hand in self.bound.items() if hand == name and line not in self.behind}

    def unbind(self, hand: Hand, owner: str, now: int, *, gone: bool) -> None:
        hand.connections.discard(owner)
        hand.heard = now
        if gone and not hand.connections:
            hand.left = True
            if not self.jobs_of(hand):
                self.forget(hand, now)

    def forget(self, hand: Hand, now: int) -> None:
        del self.hands[hand.id]
        if hand.named:
            self.tell("workerLost", now, worker=hand.id, name=hand.name)

    def is_quiet(self, owner: str | None, named: str | None, now: int) -> bool:
        hand = self.hear(owner, named, now)
        return hand is not None and hand.quiet is not None

    def note(self, job: Record, now: int | None = None, *, done: int = 0, failed: int = 0) -> None:
        hand = self.hands.get(job.worker or "")
        if hand is not None:
            hand.heard = hand.heard if now is None else now
            hand.done += done
            hand.failed += failed

    def complete(self, job: Record, result: bytes, now: int) -> None:
        self.note(job, now, done=1)
        super().complete(job, result, now)

    def fail(
        self, job: Record, error: str, now: int, *, wait: int | None = None, last: bool = False, cause: str | None = None
    ) -> None:  # fmt: skip
        self.note(job, failed=1)
        super().fail(job, error, now, wait=wait, last=last, cause=cause)

    # --- the commands -------------------------------------------------------------------------------

    def known_hand(self, name: str) -> Hand:
        if name not in self.hands:
            raise No(404, "Worker not found")
        return self.hands[name]

    def register(self, command: c.RegisterWorker, now: int, owner: str | None) -> Reply:
        name = command.worker_id or self.bound.get(owner or "", owner) or self.new_id(now)
        hand = self.hands.get(name)
        if hand is None:
            hand = self.add_hand(name, named=True, now=now)
            self.tell("workerJoined", now, worker=name, name=hand.name)
        elif not hand.named:
            hand.named = True
            self.tell("workerJoined", now, worker=name, name=hand.name)
        hand.heard, hand.left = now, False
        if owner is not None:
            self.bind(hand, owner, now)
        hand.name, hand.queues = command.name or hand.name, command.queues
        return {"data": ANY}

    def worker_heartbeat(self, command: c.WorkerHeartbeat, now: int, owner: str | None) -> Reply:
        self.known_hand(command.id).heard = now
        return {"data": {"ok": True}}

    def quiet_worker(self, command: c.QuietWorker, now: int, owner: str | None) -> Reply:
        hand = self.known_hand(command.id)
        hand.quiet = now if hand.quiet is None else hand.quiet
        return {"data": {"activeJobs": len(self.jobs_of(hand))}}

    def unquiet_worker(self, command: c.UnquietWorker, now: int, owner: str | None) -> Reply:
        self.known_hand(command.id).quiet = None
        return {"data": {"quiet": False}}

    def release_worker(self, command: c.ReleaseWorker, now: int, owner: str | None) -> Reply:
        jobs = self.jobs_of(self.known_hand(command.id))
        for job in jobs:
            self.give_back(job, now)
        return {"data": {"count": len(jobs)}}

    def unregister(self, command: c.UnregisterWorker, now: int, owner: str | None) -> Reply:
        hand = self.known_hand(command.id)
        if self.jobs_of(hand):
            raise No(409, "Worker has active jobs: release them first")
        if hand.quiet is not None:
            raise No(409, "Worker is quiet: unquiet it first")
        if [each for each in hand.connections if each != owner]:
            raise No(409, "Worker is connected: it would be known again at once")
        # Who leaves does no act.
        self.acted = owner is None or owner not in hand.connections
        self.forget(hand, now)
        return {"data": {"removed": True}}


ANSWERS: dict[type[c.Command], Callable[..., Reply]] = {
    c.RegisterWorker: Crew.register,
    c.WorkerHeartbeat: Crew.worker_heartbeat,
    c.QuietWorker: Crew.quiet_worker,
    c.UnquietWorker: Crew.unquiet_worker,
    c.ReleaseWorker: Crew.release_worker,
    c.UnregisterWorker: Crew.unregister,
}
