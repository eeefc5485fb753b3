"""What is done to the file of the store, in sentences: what would be, how far it is, and what came of it; and the finding that a copy has failed."""

from collections.abc import Iterator
from typing import Any

from bunqueue_trio.pages.words import count, size, span
from bunqueue_trio.protocol.server_replies import BackupsView, UpkeepView
from bunqueue_trio.runtime.statistics import Statistics

_VERBS = {"backup": "written", "check": "read", "shrink": "given back to the disk"}


def says(work: UpkeepView) -> str:
    """Return what a work would do, does, or has done."""
    if work.state == "planned":
        return _planned(work)
    if work.state == "running":
        part = f"{100 * work.done // work.total} % of " if work.total else "it begins: "
        return f"{part}{size(work.bytes)} {_VERBS[work.kind]}."
    if work.error is not None:
        return f"It has failed: {work.error}."
    if work.kind == "backup":
        return f"{size(work.bytes)} in {work.file}."
    if work.kind == "shrink":
        return f"{size(work.bytes)} given back to the disk."
    return "; ".join(work.findings) if work.findings else f"Nothing is wrong with {size(work.bytes)}."


def _planned(work: UpkeepView) -> str:
    if work.kind == "check":
        return f"All of the file, {size(work.bytes)}, would be read."
    if work.kind == "shrink":
        return (
            f"About {size(work.bytes)} would be given back to the disk."
            if work.bytes
            else "Nothing is free in the file."
        )
    room = "" if work.room is None else f" Its disk has {size(work.room)} left."
    drops = f" When it is whole {count(len(work.drops), 'older copy', 'older copies')} would be deleted: {', '.join(work.drops)}."
    return f"About {size(work.bytes)} would be written to {work.file}.{room}{drops if work.drops else ''}"


def of_copies(backups: BackupsView) -> str:
    """Return where copies are made, and how many are there; when the newest was made is for whoever shows it."""
    if backups.directory is None:
        return "BACKUP_DIR names no directory for copies."
    if backups.error is not None:
        return f"BACKUP_DIR {backups.directory}: {backups.error}."
    return f"{count(backups.copies, 'copy', 'copies')} in {backups.directory}, at most {backups.kept:,} are kept."


def upkeep_findings(told: Statistics) -> Iterator[dict[str, Any]]:
    """Yield the fields of the finding that the last copy has failed."""
    for work in told.storage.upkeep:
        if work.kind == "backup" and work.error is not None:
            newest = told.storage.backups.last_at if told.storage.backups is not None else None
            yield {
                "code": "backup-failed", "severity": "warning", "since": work.ended_at, "weight": 10**5,
                "title": "The last backup has failed", "cause": work.error,
                "evidence": "There is no other copy in BACKUP_DIR." if newest is None else f"The newest copy that is whole is {span(max(0, told.now - newest))} old.",
                "remedy": "Copies that were there before are untouched. It is said until the next one is whole, or the next start.",
                "commands": ("bunqueue-trio storage backup",),
            }  # fmt: skip
