"""Writes `files/schemaN.store`, which a version of schema N wrote: jobs in every state, records, events; from schema 4 on also facts and lines.

`python -m tests.storage.old_file FILE`, run in a checkout of the version whose file is wanted. No version had schema 4 as its newest, so that
`files/schema4.store` is one of schema 5 without its last step: `python -m tests.storage.old_file FILE --without-fingerprints`.
"""

import sys
from pathlib import Path

from msgspec import Raw

from bunqueue_trio.protocol import commands as c
from tests.operations.stores import Writer, make_store, spoil


def add_facts_and_lines(path: Path) -> None:
    """Pause a queue, limit another, let attempts fail, and write into a log."""
    writer = Writer(path)
    writer.do(c.Pause(queue="q", reason="new release"))
    writer.do(c.SetConcurrency(queue="other", concurrency=5))
    for queue in ("other", "third"):
        writer.do(c.Push(queue=queue, data=Raw(b"1"), job_id=queue))
        writer.do(c.Pull(queue=queue))
        writer.do(c.AddLog(id=queue, message="half way"))
        writer.do(c.Fail(id=queue, error="no answer", unrecoverable=queue == "third"))
    writer.store.close()


if __name__ == "__main__":
    file = Path(sys.argv[1])
    make_store(file)
    add_facts_and_lines(file)
    if "--without-fingerprints" in sys.argv:
        spoil(
            file,
            "DROP INDEX finished_by_fingerprint",
            "ALTER TABLE finished DROP COLUMN fingerprint",
            "PRAGMA user_version = 4",
        )
