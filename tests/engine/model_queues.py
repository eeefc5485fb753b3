"""What is said of queues as a whole, by the naive queue of ``model.py``."""

import re
from typing import Any

from bunqueue_trio.protocol import commands as c
from tests.engine.model import Jobs, No, Pauses, Record, Reply, Snapshot


class Queues(Jobs):
    """Jobs, and which of their queues hand out nothing."""

    def __init__(self, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        self.pauses: Pauses = {}

    # --- what the world does to it ------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        return super().snapshot()._replace(pauses=dict(self.pauses))

    def restart(self, snapshot: Snapshot, now: int) -> None:
        super().restart(snapshot, now)
        self.pauses = dict(snapshot.pauses)

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
        return [] if queue in self.pauses else self.line(queue)

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


ANSWERS: dict[type[c.Command], Any] = {
    c.Pause: Queues.pause,
    c.Resume: Queues.resume,
    c.IsPaused: Queues.is_paused,
}
