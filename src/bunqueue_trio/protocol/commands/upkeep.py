"""Commands about the file of the store: a copy of it, a look whether it is sound, and room given back to the disk."""

from bunqueue_trio.errors import Fault
from bunqueue_trio.protocol.commands.base import Command
from bunqueue_trio.protocol.commands.spec import Does, Example, Path, Role, Spec
from bunqueue_trio.protocol.server_replies import UpkeepReply


class BackupStorage(Command[UpkeepReply], kw_only=True, tag="BackupStorage", forbid_unknown_fields=True):
    """Begin to write a copy of the file into ``BACKUP_DIR``; with ``dryRun`` say where, how large, and whether there is room.

    The server goes on with it; ``GET /storage`` says how far it is, and what became of it.
    """

    dry_run: bool = False


class CheckStorage(Command[UpkeepReply], kw_only=True, tag="CheckStorage", forbid_unknown_fields=True):
    """Begin to read all of the file to see whether it is damaged; with ``dryRun`` say how much that is.

    The server goes on with it; ``GET /storage`` says how far it is, and what was found.
    """

    dry_run: bool = False


class ShrinkStorage(Command[UpkeepReply], kw_only=True, tag="ShrinkStorage", forbid_unknown_fields=True):
    """Begin to give all that is free in the file back to the disk; with ``dryRun`` say how much that is.

    The server goes on with it; ``GET /storage`` says how far it is.
    """

    dry_run: bool = False


NO_UPKEEP = Fault(409, "That cannot be done now: {}", "no-upkeep")
UPKEEP_BUSY = Fault(409, "A {} is under way: wait until it has ended", "upkeep-busy")

_EXAMPLE = {
    "kind": "backup", "state": "running", "bytes": 52428800, "done": 0, "total": 0, "file": "/backup/queue-20231114T221320Z.db",
    "room": 107374182400, "drops": ["queue-20231107T221320Z.db"], "who": "ana", "startedAt": 1700000000000, "endedAt": None,
    "error": None, "findings": [],
}  # fmt: skip
_NO_FILE: dict[str, object] = {"file": None, "room": None, "drops": []}


def _row(command: type[Command[UpkeepReply]], kind: str, answer: dict[str, object]) -> Spec:
    return Spec(
        command, Does.CHANGES, Path("POST", f"/storage/{kind}", optional_body=True), refuses=(NO_UPKEEP, UPKEEP_BUSY),
        role=Role.ADMIN, acts=f"storage {kind}", example=Example({}, {"ok": True, "work": _EXAMPLE | {"kind": kind} | answer}),
    )  # fmt: skip


SPECS: tuple[Spec, ...] = (
    _row(BackupStorage, "backup", {}),
    _row(CheckStorage, "check", _NO_FILE),
    _row(ShrinkStorage, "shrink", _NO_FILE),
)
