"""What the function ``commit_1`` takes: of each parameter, how it is sent; and a batch as its parameters."""

from typing import Any

from bunqueue_trio.engine.trails import BOUNDS, Line
from bunqueue_trio.storage.postgres.arrays import Kind, blobs, columns, ints, names, numbers, texts, type_of
from bunqueue_trio.storage.store import RS, Batch, event_rows

Values = tuple[int | str | bytes | None, ...]
_CUT_ALL, _CUT_KIND, _ADD, _ADD_TO_RECORD = range(4)
"""What is done to a trail, as ``commit_1`` knows it."""

NEW = (
    ints, names, texts, blobs, texts, ints, ints, ints, texts, ints, ints, ints, numbers, ints, texts, texts,
)  # fmt: skip
CHANGED = (ints, texts, ints, ints, ints, numbers, ints, texts, texts, ints)
FINISHED = (
    ints, names, texts, texts, ints, blobs, texts, ints, ints, ints, ints, ints, numbers, ints, texts, blobs, texts,
)  # fmt: skip
FACT = (names, names, blobs)
TRAIL = (ints, names, texts, ints, blobs, ints, ints)
EVENT = (ints, ints, ints, blobs, ints)
COLUMNS: tuple[Kind, ...] = (names, ints, *NEW, *CHANGED, ints, *FINISHED, *FACT, *TRAIL, *EVENT)
COMMIT = (
    "SELECT bq.commit_1($1::bigint, $2::uuid, $3::bigint, $4::boolean, "
    + ", ".join(f"${n}::{type_of(kind)}" for n, kind in enumerate(COLUMNS, 5))
    + ")"
)


def values_of(batch: Batch, last_fin: int) -> Values:
    """Return ``batch`` as ``commit_1`` takes it behind its number; records go on from the key ``last_fin``."""
    facts = {(kind, key): value for kind, key, value in batch.facts}
    trails: list[tuple[Any, ...]] = []
    for change in batch.trails:
        if isinstance(change, Line):
            what, bound = (_ADD_TO_RECORD if change.of_record else _ADD), BOUNDS[change.kind]
            trails.append((what, change.key, change.kind, change.at, change.body, bound.lines, bound.size))
        else:
            what = _CUT_ALL if change.kind is None else _CUT_KIND
            trails.append((what, change.key, change.kind or "", 0, b"", 0, 0))
    events = [(last_id, len(bodies), batch.at, RS.join(bodies), batch.stamp) for last_id, bodies in event_rows(batch)]
    return (
        "t" if batch.durable else "f",
        names([job_id for (job_id,) in batch.reused_ids]),
        ints([row.seq for row in batch.rewritten]),
        *columns(NEW, [*batch.new, *batch.rewritten]),
        *columns(CHANGED, batch.changed),
        ints([seq for (seq,) in batch.ended]),
        *columns(FINISHED, [(fin, *row) for fin, row in enumerate(batch.finished, last_fin + 1)]),
        *columns(FACT, [(kind, key, value) for (kind, key), value in facts.items()]),
        *columns(TRAIL, trails),
        *columns(EVENT, events),
    )
