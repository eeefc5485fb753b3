"""How a job becomes a row and back: the columns of every table, named once.

The order of the fields is that of the schema, and what is written, read and compared by column takes it from here.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from bunqueue_trio.config import AUDIT_DATA_BYTES
from bunqueue_trio.engine.audit import Stored
from bunqueue_trio.engine.fingerprint import CANCELLED, fingerprint
from bunqueue_trio.engine.job import DEFAULT_OPTIONS, Job, Lease, Note, Options, State, Trace
from bunqueue_trio.engine.queue import check_name
from bunqueue_trio.errors import InvariantBroken, Refused

_encode = msgspec.json.Encoder().encode
_OPTIONS = msgspec.json.Decoder(Options)
_LEASE = msgspec.json.Decoder(Lease)
_NOTE = msgspec.json.Decoder(Note)
_STATES = {state.value: state for state in State}


class ChangedRow(NamedTuple):
    """What can change of an unfinished job, and the key of its row."""

    run_at: int
    state: str
    place: int
    attempts: int
    stalls: int
    progress: int | float
    started_at: int | None
    lease: str | None
    note: str | None
    seq: int


class JobRow(NamedTuple):
    """A row of ``job``: an unfinished job."""

    seq: int
    id: str
    queue: str
    data: bytes
    options: str | None
    priority: int
    created_at: int
    run_at: int
    state: str
    place: int
    """``Job.order``."""
    attempts: int
    stalls: int
    progress: int | float
    started_at: int | None
    lease: str | None
    note: str | None

    def changed(self, row: ChangedRow) -> "JobRow":
        """Return the row after ``row`` was written over it."""
        return self._replace(**row._asdict())

    def cut(self) -> "JobRow":
        """Return the row with as much of its payload as the self-audit compares."""
        return self._replace(data=self.data[:AUDIT_DATA_BYTES])


class FactRow(NamedTuple):
    """A row of ``fact``."""

    kind: str
    key: str
    value: bytes


class FinishedRow(NamedTuple):
    """A row of ``finished`` without its key: a record of a job that has ended."""

    id: str
    queue: str
    state: str
    finished_at: int
    data: bytes
    options: str | None
    priority: int
    created_at: int
    run_at: int
    attempts: int
    stalls: int
    progress: int | float
    started_at: int | None
    note: str | None
    result: bytes | None
    fingerprint: str | None
    """Of a dead letter: the key of its error."""


def record_columns(*, data: bool, result: bool) -> str:
    """Return the columns of a record for a query, with what stands for those that are not read."""
    absent = {} if data else {"data": "x''"}
    absent |= {} if result else {"result": "NULL"}
    return ", ".join(absent.get(name, name) for name in FinishedRow._fields)


_LARGE_BYTES = 32 * 1024
"""From this size of a payload on a row keeps its length, whatever changes but the payload."""

_GRAIN = 1024
"""Bytes to which the changing part of such a row is filled up: a lease and a short note leave room."""

# Plain tuples: to give the fields names, and SQLite what has names, would cost each push and pull 0.6 µs.
# And `_value_`, since `value` is looked up by a call.
Row = tuple[Any, ...]


def new_row(job: Job) -> Row:
    """Return the row of a job that is new in the store: the fields of a :class:`JobRow`."""
    options = job.options
    row: Row = (
        job.seq, job.id, job.queue, job.data,
        None if options is DEFAULT_OPTIONS else _text(options),
        job.priority, job.created_at, job.run_at, job.state._value_, job.order, job.attempts, job.stalls,
        job.progress, job.started_at,
        None if job.lease is None else _text(job.lease), None if job.note is None else _text(job.note),
    )  # fmt: skip
    return row if len(job.data) < _LARGE_BYTES else (*row[:-1], _filled(row[_CHANGES], row[-1]))


def changed_row(job: Job) -> Row:
    """Return what to write over the row of a job: the fields of a :class:`ChangedRow`."""
    row: Row = (
        job.run_at, job.state._value_, job.order, job.attempts, job.stalls, job.progress, job.started_at,
        None if job.lease is None else _text(job.lease), None if job.note is None else _text(job.note),
        job.seq,
    )  # fmt: skip
    return row if len(job.data) < _LARGE_BYTES else (*row[:-2], _filled(row[:-2], row[-2]), row[-1])


def _filled(values: Row, note: str | None) -> str:
    """Return the note of a large job, with as many spaces behind it as keep the length of its row the same; ``values`` are what else changes.

    SQLite writes a row anew, payload and all, when its length is another one; else only the pages in which something has changed.
    """
    text = (_NO_NOTE if note is None else note).ljust(_SHORT_TEXT + 1)
    return text + " " * (-(sum(map(_stored_bytes, values)) + _stored_bytes(text)) % _GRAIN)


def _stored_bytes(value: Any) -> int:
    """Return how many bytes a value takes in a row of SQLite (https://www.sqlite.org/fileformat2.html#record_format)."""
    if isinstance(value, str):
        size = len(value.encode())
        return size + (1 if size <= _SHORT_TEXT else 2)
    if isinstance(value, float):
        return 9
    if value is None or value in (0, 1):
        return 1
    bits = (value if value >= 0 else ~value).bit_length() + 1
    return 1 + next(size for size in (1, 2, 3, 4, 6, 8) if bits <= 8 * size)


_SHORT_TEXT = 57
"""Bytes of a text whose type takes one byte in a row."""


def finished_row(job: Job, group: str | None = None) -> FinishedRow:
    """Return the record of a job that has ended; if it is to keep no record, what its dependents need.

    ``group``: the fingerprint of its error, if that is known.
    """
    # A record says `removed` for one that has completed and is not to be shown: its dependents are released. Nothing else may.
    if job.state not in _ENDED:
        raise InvariantBroken(f"a job that is {job.state.value} has no record")
    note = job.noted()
    shown = not (job.state is State.COMPLETED and job.options.remove_on_complete)
    options = job.options
    return FinishedRow._make((
        job.id, job.queue, (job.state if shown else State.REMOVED)._value_, note.finished_at,
        job.data if shown else b"",
        None if options is DEFAULT_OPTIONS or not shown else _text(options),
        job.priority, job.created_at, job.run_at, job.attempts, job.stalls, job.progress, job.started_at,
        _kept_note(note) if shown else None,
        note.result if shown else None,
        (group or _group(note)) if job.state is State.FAILED else None,
    ))  # fmt: skip


def _kept_note(note: Note) -> str:
    """Return what is kept of the rare facts of a job that has ended, beside those that have a column."""
    error, message, reason, cancelled = note.error, note.message, note.reason, note.cancelled
    progressed_at, retries, discarded_by = note.progressed_at, note.auto_retries, note.discarded_by
    if (
        error is None
        and message is None
        and reason is None
        and cancelled is None
        and progressed_at is None
        and not retries
    ):
        # Most complete without any, thousands in a batch.
        return _NO_NOTE
    return _text(
        Note(
            error=error, message=message, reason=reason, cancelled=cancelled, progressed_at=progressed_at,
            auto_retries=retries, discarded_by=discarded_by,
        )
    )  # fmt: skip


def fingerprint_of(*values: Any) -> str:
    """Return the fingerprint of the dead letter with this note, a text or None; for files that have no fingerprints yet."""
    [note] = values
    return _group(_NOTE.decode(note) if note else Note())


def _group(note: Note) -> str:
    return CANCELLED.key if note.cancelled is not None else fingerprint(note.error or "").key


def _text(value: Struct) -> str:
    return _encode(value).decode()


_NO_NOTE = _text(Note())
_ENDED = (State.COMPLETED, State.FAILED)
_CHANGES = slice(JobRow._fields.index(ChangedRow._fields[0]), -1)
"""What can change of the row of a job, but for its note."""


class Reader:
    """Turns rows into jobs; equal options and queue names are shared between them."""

    def __init__(self) -> None:
        self._options: dict[str | None, Options] = {None: DEFAULT_OPTIONS}
        self._names: dict[str, str] = {}

    def unfinished(self, rows: Iterable[tuple[Any, ...]]) -> list[Job]:
        """Return the jobs of rows of ``job``."""
        # By position, and no generator: a start with a backlog costs what this loop costs.
        known = self._names.get
        return [
            Job(
                job_id, known(queue) or self._name(queue), data,
                DEFAULT_OPTIONS if options is None else self._shared(options),
                priority, created_at, created_at if run_at == created_at else run_at, seq, seq if place == seq else place,
                _STATES[state], attempts, stalls, progress, started_at, 0, None, None,
                None if lease is None else _LEASE.decode(lease),
                None if note is None or note.startswith(_NO_NOTE) else _NOTE.decode(note),
            )
            for (
                seq, job_id, queue, data, options, priority, created_at, run_at, state, place, attempts,
                stalls, progress, started_at, lease, note,
            ) in rows
        ]  # fmt: skip

    def one(self, row: tuple[Any, ...]) -> Job:
        """Return the job of one such row."""
        [job] = self.unfinished([row])
        return job

    def stored(self, row: tuple[Any, ...]) -> Stored:
        """Return what :meth:`Store.stored` does of a row of ``job``."""
        try:
            return Stored(row[0], self.one(row))
        except (ValueError, LookupError, TypeError):
            return Stored(row[0], None)

    def finished(self, values: tuple[Any, ...]) -> Job:
        """Return the job of a :class:`FinishedRow`, as it was when it ended."""
        row = FinishedRow._make(values)
        if row.state == State.REMOVED.value:
            return _hidden(row.id, row.queue)
        known = Note() if row.note is None else _NOTE.decode(row.note)
        known.finished_at, known.result, known.fingerprint = row.finished_at, row.result, row.fingerprint
        return Job(
            row.id, row.queue, row.data,
            DEFAULT_OPTIONS if row.options is None else _OPTIONS.decode(row.options),
            row.priority, row.created_at, row.run_at, 0, state=_STATES[row.state],
            attempts=row.attempts, stalls=row.stalls, progress=row.progress, started_at=row.started_at, note=known,
        )  # fmt: skip

    def _name(self, queue: str) -> str:
        try:
            check_name(queue)
        except Refused as refused:
            raise ValueError(f"{refused}: {queue!r}") from None
        self._names[queue] = queue
        return queue

    def _shared(self, text: str) -> Options:
        options = self._options.get(text)
        if options is None:
            # Options that all differ are not worth a table.
            if len(self._options) > 4096:
                self._options = {None: DEFAULT_OPTIONS}
            options = self._options[text] = _OPTIONS.decode(text)
        return options


_HIDDEN_OPTIONS = Options(remove_on_complete=True)


def outcome(state: str) -> State:
    """Return how the job of a row of ``finished`` with this state ended: ``removed`` has *completed*.

    Dependents rely on it, so the word can stand for nothing else there.
    """
    return State.FAILED if state == State.FAILED.value else State.COMPLETED


def trace(row: tuple[Any, ...]) -> Trace:
    """Return what is kept of a job, of these columns of its row: id, state, started_at, finished_at, note."""
    job_id, state, started_at, finished_at, note = row
    return Trace(job_id, outcome(state), started_at, finished_at, None if note is None else _NOTE.decode(note).error)


def _hidden(job_id: str, queue: str) -> Job:
    """Return what is left of a job that completed and wanted no record: that it completed."""
    return Job(job_id, queue, b"null", _HIDDEN_OPTIONS, 0, 0, 0, 0, state=State.COMPLETED)
