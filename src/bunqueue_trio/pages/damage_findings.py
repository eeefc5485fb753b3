"""What is wrong with the file itself: rules over one picture of the server. Pure functions."""

from collections.abc import Iterator
from typing import Any

from bunqueue_trio.pages.words import Given, line
from bunqueue_trio.runtime.statistics import Statistics

Fields = dict[str, Any]


def damage_findings(told: Statistics) -> Iterator[Fields]:
    """Yield the fields of each finding."""
    damage = told.storage.damage
    if damage is not None:
        restore = line("restore", "COPY", Given(damage.file), "--force")
        yield {
            "code": "storage-damaged", "severity": "critical", "alert": "BunqueueStorageDamaged", "since": damage.since, "weight": 1050 * 10**5,
            "title": "The file is damaged",
            "cause": f"The disk or the memory is bad, or something else has written to the file. What was met first: {damage.what[:300]}",
            "evidence": "What lies on a damaged page is answered with 503 `storage-damaged`; all else goes on. What deletes old records may not, so the file can grow; and `backup` refuses such a file.",
            "remedy": f"Look at all of it with `doctor`. Then stop the server, keep the file, and put the last good copy back: `{restore}`. It is said until the next start.",
            "commands": (line("doctor", Given(damage.file)),),
        }  # fmt: skip
