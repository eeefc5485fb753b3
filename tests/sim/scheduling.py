"""Who makes schedules, and the book of their slots: each makes at most one job, and exactly one where nothing stands in the way.

The naive model says the same in other words; this knows neither engine nor model, only what was committed.
"""

import re
from bisect import insort
from collections.abc import Callable
from typing import Any

from bunqueue_trio.storage.store import Batch
from tests.sim.actors import Actor, Stage
from tests.sim.peer import Peer

_SLOT = re.compile(r"(.*)@([0-9]+)")
EXACT_MS = 5000
"""The period of those schedules that are to miss nothing."""
STUCK_S = 300
"""Of calm, after which each schedule has made up for what was."""
MADE_UP_MAX = 25  # slots that are made up after an outage


class SlotBook:
    """Every slot that has brought a job."""

    def __init__(self, fail: Callable[[str], None]) -> None:
        self._fail = fail
        self.slots: dict[str, list[int]] = {}

    def note(self, batch: Batch) -> None:
        """Hear of a commit."""
        for event in batch.heard:
            if event.event_type == "pushed":
                self.note_push(event.job_id or "")

    def note_push(self, job_id: str) -> None:
        found = _SLOT.fullmatch(job_id)
        if found is not None:
            self._note(found[1], int(found[2]))

    def may_lack(self, name: str, slot: int, following: int) -> bool:
        """Whether a slot may be missing between these two of a schedule that is to miss none."""
        return False

    def _note(self, name: str, slot: int) -> None:
        slots = self.slots.setdefault(name, [])
        if slot in slots:
            self._fail(f"slot {slot} of {name} brings a second job")
        elif slots and slot < slots[-1]:
            self._fail(f"slot {slot} of {name} brings a job after that of {slots[-1]}")
        insort(slots, slot)

    def check(self) -> None:
        """After the last slot: a schedule that nothing stands in the way of has left none out, but for a long outage."""
        for name, slots in self.slots.items():
            if not name.startswith("exact"):
                continue
            for i, slot in enumerate(slots[1:], 1):
                made_up = slots[i + MADE_UP_MAX - 1 : i + MADE_UP_MAX]
                is_bounded = made_up == [slot + (MADE_UP_MAX - 1) * EXACT_MS]
                if slot - slots[i - 1] != EXACT_MS and not is_bounded and not self.may_lack(name, slots[i - 1], slot):
                    self._fail(f"{name} brings jobs for {slots[i - 1]} and {slot}, and for none in between")


class Planner(Actor):
    """Makes schedules of all kinds, replaces, pauses, runs and deletes them; in the calm none is left."""

    def __init__(self, stage: Stage, name: str) -> None:
        super().__init__(stage, name)
        self.made: list[str] = []
        """Names are not used again: a slot of one would not be a slot of the other."""
        self.is_over = False

    @property
    def done(self) -> bool:
        return self.is_over

    async def act(self, peer: Peer) -> None:
        rng = self.rng
        while not self.calm:
            await self.nap(rng.expovariate(1 / 30))
            if not self.made or (len(self.made) < 6 and rng.random() < 0.3):
                kind = rng.choice(("exact", "some"))
                self.made.append(f"{kind}-{self.name}-{len(self.made)}")
                await self.put(peer, self.made[-1])
                continue
            name = rng.choice(self.made)
            cmd = rng.choice(("put", "PauseSchedule", "ResumeSchedule", "RunSchedule", "GetSchedule", "ListSchedules"))
            if cmd == "ListSchedules":
                await self.ask(peer, cmd, limit=rng.randint(1, 5), after=rng.choice((None, "~", name)))
            elif cmd == "put":
                await self.put(peer, name)
            elif not (name.startswith("exact") and cmd.startswith(("Pause", "Resume"))):
                answer = await self.ask(peer, cmd, name=name)
                if cmd == "RunSchedule" and answer["ok"]:
                    self.stage.ledger.push_answered(answer["id"], durable=False)
        for name in self.made:
            await self.wait_for_next(peer, name)
            while (answer := await self.ask(peer, "DeleteSchedule", name=name))["ok"] is False:
                if answer.get("code") == "schedule-not-found":
                    break
                await self.nap(1)
        self.is_over = True

    async def wait_for_next(self, peer: Peer, name: str) -> None:
        """See that a schedule goes on: none stays active, and behind its time."""
        for _ in range(STUCK_S):
            answer, pong = await self.ask(peer, "GetSchedule", name=name), await self.ask(peer, "Ping")
            if answer.get("code") == "schedule-not-found":
                return
            if answer["ok"] and pong["ok"]:
                one = answer["schedule"]
                if one["state"] != "active" or one["nextRun"] > pong["data"]["time"] - EXACT_MS:
                    return
            await self.nap(1)
        self.stage.fail(f"{name} does not go on: {answer}")

    async def put(self, peer: Peer, name: str) -> None:
        rng = self.rng
        self.stage.next_nonce += 1
        fields: dict[str, Any] = {"name": name, "data": {"n": self.stage.next_nonce}}
        # Nobody retries its dead: a slot whose job is pushed again would be one that ran twice.
        fields["options"] = {"removeOnFail": True, "maxAttempts": rng.randint(1, 2), "priority": rng.choice((0, 1))}
        if name.startswith("exact"):
            fields |= {"every": EXACT_MS, "overlap": "allow", "misfire": "all", "misfireMax": MADE_UP_MAX}
        else:
            fields |= {
                "every": rng.choice((1000, 7000, 30_000)), "overlap": rng.choice(("allow", "skip", "queue", "cancel")),
                "misfire": rng.choice(("skip", "once", "all")), "misfireMax": rng.randint(1, 4),
                "window": rng.choice((None, 0, 10_000)), "limit": rng.choice((None, 3, 50)),
            }  # fmt: skip
        await self.ask(peer, "PutSchedule", queue=rng.choice(self.stage.queues), **fields)
