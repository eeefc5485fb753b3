"""The file of the naive queue: one thing at a time is done to it, and it ends when somebody says so."""

from typing import Any

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.server_replies import UpkeepView
from tests.engine.model import No, Reply

ROOM = 4711
NAMES = {c.BackupStorage: "backup", c.CheckStorage: "check", c.ShrinkStorage: "shrink"}


def planned(kind: str) -> UpkeepView:
    """What an engine plans that is compared with this."""
    return UpkeepView(kind=kind, state="planned", bytes=ROOM)


def begin(self: Any, command: Any, now: int, owner: str | None) -> Reply:
    kind = NAMES[type(command)]
    answer = {
        "kind": kind, "state": "planned", "bytes": ROOM, "done": 0, "total": 0, "file": None, "room": None, "drops": [], "who": None,
        "startedAt": None, "endedAt": None, "error": None, "findings": [],
    }  # fmt: skip
    if command.dry_run:
        return {"work": answer}
    if self.at_work is not None:
        raise No(409, f"A {self.at_work} is under way: wait until it has ended")
    self.at_work, self.acted = kind, True
    return {"work": answer | {"state": "running", "startedAt": now}}


ANSWERS: dict[type[c.Command], Any] = dict.fromkeys(NAMES, begin)
