"""What is wrong with the file itself: rules over one picture of the server. Pure functions."""

from collections.abc import Iterator
from typing import Any

from bunqueue_trio.pages.words import Given, count, line
from bunqueue_trio.runtime.statistics import Statistics

Fields = dict[str, Any]

_GOES_ON = (
    "What lies on a damaged page is answered with 503 `storage-damaged`; all else goes on, until a commit meets such a page: then changes are refused. "
    "What deletes old records may not go on, so the file can grow; and `backup` refuses such a file."
)


def _stopped(told: Statistics) -> str:
    return (
        f"A commit has met the damage. Pushes, pulls, acks and fails of all queues get 503 `storage-damaged` until the next start, and `/ready` is 503. "
        f"What is new of {count(told.storage.pending, 'job')} is not written, and nobody has an answer that it is; what was answered before is in the file, so far as its pages can be read. "
        "Pages, lists and `export` go on, with what waits in memory; `backup` refuses such a file."
    )


def damage_findings(told: Statistics) -> Iterator[Fields]:
    """Yield the fields of each finding."""
    damage = told.storage.damage
    if damage is not None:
        # What waits is in memory, whatever becomes of the file.
        export = " and save what waits with `bunqueue-trio export`" if told.storage.is_stopped else ""
        restore = line("restore", "COPY", Given(damage.file), "--force")
        yield {
            "code": "storage-damaged", "severity": "critical", "alert": "BunqueueStorageDamaged", "since": damage.since, "weight": 1050 * 10**5,
            "title": "The file is damaged" + (", and changes are refused" if told.storage.is_stopped else ""),
            "cause": f"The disk or the memory is bad, or something else has written to the file. What was met first: {damage.what[:300]}",
            "evidence": _stopped(told) if told.storage.is_stopped else _GOES_ON,
            "remedy": f"Look at all of it with `doctor`{export}. Then stop the server, keep the file, and put the last good copy back: `{restore}`. It is said until the next start.",
            "commands": (line("doctor", Given(damage.file)),),
        }  # fmt: skip
