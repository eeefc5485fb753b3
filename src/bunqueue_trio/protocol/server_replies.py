"""Replies about the server itself: what its disk holds, and what is kept."""

from msgspec import Struct

from bunqueue_trio.protocol.replies import Reply


class RetentionView(Struct, rename="camel"):
    """How much is kept, for how many ms; null: no limit."""

    completed_max: int | None
    dead_max: int | None
    age: int | None
    events_max: int | None
    events_age: int | None
    actions_max: int | None
    actions_age: int | None


class ShorterView(Struct, kw_only=True):
    """About how many jobs, and bytes of the file, it would free to keep ended jobs for ``age`` ms at most."""

    age: int
    jobs: int
    bytes: int


class KindView(Struct, kw_only=True):
    """About the bytes of the file that one kind takes: ``unfinished``, ``completed`` and ``failed`` jobs, and ``events``; ``jobs`` is null of those."""

    kind: str
    jobs: int | None
    bytes: int


class HeapView(Struct, kw_only=True):
    """About the bytes that the jobs of a queue take, unfinished and ended ones."""

    queue: str
    unfinished: int
    ended: int


class UpkeepView(Struct, kw_only=True, rename="camel"):
    """What is done to the file: a ``backup``, a ``check`` or a ``shrink``; bytes, and times in epoch ms."""

    kind: str
    state: str
    """``planned`` in a dry run, then ``running``, and ``done`` or ``failed``."""
    bytes: int
    """About how many are written, read or given back; when it is done, how many were."""
    done: int = 0
    """Of ``total`` steps, however large one is; 0 of 0: it has not begun to count."""
    total: int = 0
    file: str | None = None
    """Where the copy is written."""
    room: int | None = None
    """What the disk of the copy has left."""
    drops: list[str] = []
    """The older copies that are deleted when this one is whole."""
    who: str | None = None
    started_at: int | None = None
    ended_at: int | None = None
    error: str | None = None
    """Why it has failed."""
    findings: list[str] = []
    """What a check has found."""


class BackupsView(Struct, kw_only=True, rename="camel"):
    """The copies that the server makes: where, how many are there and are kept, and the newest; times in epoch ms."""

    directory: str | None
    """Null: no ``BACKUP_DIR`` is set, and it makes none."""
    kept: int
    copies: int = 0
    last_at: int | None = None
    last_bytes: int | None = None
    error: str | None = None
    """What is wrong with the directory."""


class StorageView(Struct, kw_only=True, rename="camel"):
    """What the disk holds: bytes, and times in ms."""

    disk_full: bool
    """What brings jobs or data is refused: the last room is for what empties the queues."""
    error: str | None
    """What the disk says, while it refuses changes."""
    since: int | None
    """Since when, in epoch ms, one of these is so."""
    file: int
    free: int
    """Of the file, to be used again."""
    log: int
    disk_free: int
    disk: int
    growth: int | None
    """Bytes an hour that the file grew by lately; null: not known yet."""
    full_in: int | None
    """When nothing is left of the disk, at the rate of the last hour; null: it does not fill up, or that is not known yet."""
    pending: int
    """Changed jobs that wait for the disk."""
    jobs: dict[str, int]
    """By state."""
    retention: RetentionView
    shorter: list[ShorterView] | None
    """What a shorter ``RETENTION_AGE_MS`` would free; null: not known yet."""
    kinds: list[KindView] | None = None
    """Null: not known yet."""
    queues: list[HeapView] | None = None
    """Those that take most; null: not known yet."""
    damage: str | None = None
    """What says that the file is damaged; it stays until the next start."""
    backups: BackupsView | None = None
    """Null: the queue is in a database, whose copies are its own."""
    upkeep: list[UpkeepView] = []
    """The last of each kind since the start."""


class StorageReply(Reply, kw_only=True):
    """What the disk holds, and how it does."""

    data: StorageView


class UpkeepReply(Reply, kw_only=True):
    """What has begun, or would be done."""

    work: UpkeepView
