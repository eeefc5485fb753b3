"""What the function ``commit_1`` takes: of each parameter, how it is sent."""

from bunqueue_trio.storage.postgres.arrays import Kind, blobs, ints, names, numbers, texts, type_of

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
