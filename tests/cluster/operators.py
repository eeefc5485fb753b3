"""Who says what happens to many jobs, of a cluster: schedules, reruns, queues that retry by themselves, acts in slices.

Each goes on over a failover in the middle of it. What they say is that of ``tests/sim``; the books allow for what a database has lost.
"""

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from tests.cluster.truth import Told
from tests.sim.actors import Actor
from tests.sim.clerks import GROUPS
from tests.sim.peer import Peer
from tests.sim.scheduling import SlotBook

if TYPE_CHECKING:
    from tests.cluster.cluster_world import ClusterWorld


class ClusterSlotBook(SlotBook):
    """The slots that are committed, where what a database has lost may come again, or never."""

    def __init__(self, fail: Callable[[str], None]) -> None:
        super().__init__(fail)
        self._gaps: dict[str, set[int]] = {}
        """By schedule, the slots before which something was lost: it may be that the schedule was."""

    def rewind(self, told: Iterable[Told]) -> None:
        """Know only what the batches that are kept say."""
        gaps = {name: {*self._gaps.get(name, ()), slots[-1]} for name, slots in self.slots.items()}
        self.slots = {}
        for each in told:
            event = json.loads(each.body)
            if event["eventType"] == "pushed":
                self.note_push(event["jobId"])
        self._gaps = {name: {*its, *self.slots.get(name, [])[-1:]} for name, its in gaps.items()}

    def may_lack(self, name: str, slot: int, following: int) -> bool:
        return any(slot <= lost < following for lost in self._gaps.get(name, ()))


class Sweeper(Actor):
    """Acts on all jobs of a queue: several slices, between any of which another broker may begin to lead."""

    stage: "ClusterWorld"

    @property
    def done(self) -> bool:
        return self.calm

    async def act(self, peer: Peer) -> None:
        while not self.calm:
            await self.nap(self.rng.expovariate(1 / 60))
            queue = self.rng.choice(self.stage.queues)
            cmd, fields = self.rng.choice(self.acts(queue))
            await self.ask(peer, cmd, **fields)

    def acts(self, queue: str) -> list[tuple[str, dict[str, Any]]]:
        rng, dead = self.rng, {"queue": queue, "fingerprint": self.rng.choice(GROUPS[:3])}
        return [
            ("ActOnJobs", {"filter": dead, "action": "retry", "limit": 50}),
            ("ActOnJobs", {"filter": {"queue": queue}, "action": "cancel", "limit": rng.choice((5, 50)), "reason": "why"}),
            ("Clean", {"queue": queue, "state": rng.choice(("completed", "failed", "delayed", "waiting")), "grace": rng.choice((0, 60_000)), "limit": 50}),
            ("PurgeDlq", {"queue": queue}), ("PurgeDlq", dead), ("Drain", {"queue": queue, "delayed": True}),
            ("Obliterate", {"queue": queue, "force": rng.random() < 0.5}),
        ]  # fmt: skip
