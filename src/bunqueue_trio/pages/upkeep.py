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
        verb = _VERBS[work.kind]
        if not work.total:
            return f"It begins: at most {size(work.bytes)} to be {verb}."
        return f"{100 * work.done // work.total} % of {size(work.bytes)} {verb}."
    if work.error is not None:
        return f"It has failed: {work.error}."
    if work.kind == "backup":
        return f"{size(work.bytes)} in {work.file}."
    if work.kind == "shrink":
        return f"{size(work.bytes)} given back to the disk."
    return "; ".join(work.findings) if work.findings else f"Nothing is wrong with {size(work.bytes)}."


def _planned(work: UpkeepView) -> str:
    if work.kind == "check":
        return f"All of the file and its log, {size(work.bytes)}, would be read."
    if work.kind == "shrink":
        return (
            f"About {size(work.bytes)} would be given back to the disk."
            if work.bytes
            else "Nothing is free in the file."
        )
    room = "" if work.room is None else f" Its disk has {size(work.room)} left."
    drops = f" When it is whole {count(len(work.drops), 'older copy', 'older copies')} would be deleted: {', '.join(work.drops)}."
    return f"At most {size(work.bytes)} would be written to {work.file}.{room}{drops if work.drops else ''}"


def of_copies(backups: BackupsView) -> str:
    """Return where copies are made, and how many are there; when the newest was made is for whoever shows it."""
    if backups.directory is None:
        return "BACKUP_DIR names no directory for copies."
    if backups.error is not None:
        return f"BACKUP_DIR {backups.directory}: {backups.error}."
    return f"{count(backups.copies, 'copy', 'copies')} in {backups.directory}, at most {backups.kept:,} are kept."


def upkeep_findings(told: Statistics) -> Iterator[dict[str, Any]]:
    """Yield the fields of the finding that no copy can be made now, as whoever asks for one each night hears, or that the last one has failed."""
    backups, since, cause = told.storage.backups, None, None
    failed = next((each for each in told.storage.upkeep if each.kind == "backup" and each.error is not None), None)
    if backups is not None and backups.error is not None:
        title, cause = "No backup can be made", f"BACKUP_DIR {backups.directory}: {backups.error}"
        remedy = "It is said until one can be made again."
    elif failed is not None:
        title, cause, since = "The last backup has failed", failed.error, failed.ended_at
        remedy = (
            "Copies that were there before are untouched. It is said until the next one is whole, or the next start."
        )
    else:
        return
    newest = None if backups is None else backups.last_at
    yield {
        "code": "backup-failed", "severity": "warning", "since": since, "weight": 10**5, "title": title, "cause": cause,
        "evidence": "No copy is seen in BACKUP_DIR." if newest is None else f"The newest copy that is whole is {span(max(0, told.now - newest))} old.",
        "remedy": remedy, "commands": ("bunqueue-trio storage backup",),
    }  # fmt: skip
