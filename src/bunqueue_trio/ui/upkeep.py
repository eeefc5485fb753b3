"""What can be done to the file of the store from a page: copy it, check it, shrink it."""

from typing import Any

from bunqueue_trio.pages.upkeep import says
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.commands import Command
from bunqueue_trio.ui.action import Action, Form, Looks, Preview
from bunqueue_trio.ui.ask import Ask
from bunqueue_trio.ui.commands import make
from bunqueue_trio.ui.doing import once


def _look(kind: type[Command]) -> Looks:
    async def look(ask: Ask, form: Form) -> Preview:
        reply: Any = await ask.server.core.execute(make(kind, {"dryRun": True}), by=ask.by)
        return Preview(says(reply.work), is_nothing=kind is c.ShrinkStorage and not reply.work.bytes)

    return look


def _nothing(form: Form, now: int) -> dict[str, Any]:
    return {}


def _row(name: str, label: str, title: str, kind: type[Command], note: str) -> Action:
    return Action(
        name, label, lambda form: title, kind, _nothing, lambda form: ("storage", name), _look(kind),
        once("It has begun: here is how far it is."), about=(), goes_back="/ui/storage", note=note,
    )  # fmt: skip


ROWS = (
    _row(
        "backup", "Back up now", "Copy the file", c.BackupStorage,
        "One moment of the file, whole and checked; work goes on meanwhile. bunqueue-trio restore puts it back.",
    ),
    _row(
        "check", "Check now", "Look whether the file is damaged", c.CheckStorage,
        "All of it is read, beside the work of others. The server does so by itself after a start and every day.",
    ),
    _row(
        "shrink", "Shrink now", "Give the free room in the file back", c.ShrinkStorage,
        "In small steps, between which commits go on. What is free in the file is used again, too: this is for a disk that others need.",
    ),
)  # fmt: skip
