"""The self-audit's task: pass after pass, a little at a time, and what came of it.

What is compared is in ``engine/audit.py``; here are the pace, the reading of rows, and the account. After
each slice the task sleeps as long as that many jobs may take. Rows are read back in a worker thread, where
the store needs one. A fault changes nothing: it is logged and counted, and the server goes on.
"""

from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from functools import partial
from typing import TypeVar

import structlog
import trio
from msgspec import Struct

from bunqueue_trio.config import AUDIT_DEPENDENCIES, AUDIT_FINDINGS_MAX, AUDIT_PAUSE_MS, AUDIT_SLICE
from bunqueue_trio.engine.audit import KINDS, AuditFault, Pass, Stored
from bunqueue_trio.engine.audit_kept import FactKey, FactsLook, counted, differing
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.job import Job
from bunqueue_trio.errors import StoreError
from bunqueue_trio.runtime.bell import Bell
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.journal import Journal
from bunqueue_trio.storage.store import Batch, Store

_log = structlog.get_logger()
T = TypeVar("T")

# Records that cost as much as a job that is looked at: they are counted in an index.
COUNTED_AS_ONE = 16
# Of a queue that changes all the time: commits wait while its records are counted, here for 2 ms.
COUNTED_MAX = 50_000


class Finding(Struct, rename="camel"):
    """A fault, and when it was met first and last."""

    kind: str
    what: str
    first_at: int
    last_at: int
    times: int = 1


class Auditor:
    """Looks at an engine and its store for ever; ``connected`` are the connections that may hold jobs."""

    def __init__(
        self, engine: Engine, journal: Journal, store: Store, clock: Clock, connected: Container[str], per_second: int
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._store = store
        self._clock = clock
        self._connected = connected
        self.per_second = per_second
        """Jobs looked at; 0: there is no audit."""
        self.checked: int = 0
        """Jobs and entries looked at since the start."""
        self.begun: int = 0
        self.done: int = 0
        """Passes that have begun, and that came to their end."""
        self.last_done_at: int | None = None
        self.last_ms: int = 0
        """When the last whole pass ended, and how long it took."""
        self.faults: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
        """How many faults were met, by kind; one that stays is met in every pass."""
        self.findings: dict[str, Finding] = {}
        """The faults that were met, by what they are; the oldest ones make room."""
        self._owing = 0
        self._meanwhile: list[Job] = []
        self._listens = False
        self._changed_facts: set[FactKey] | None = None
        """Those that were committed while all are looked at."""
        journal.on_told.append(self._committed)

    async def run(self) -> None:
        """Make one pass after the other."""
        while True:
            try:
                await self._pass()
            except StoreError as error:
                _log.warning("the self-audit could not read", error=str(error))
            await trio.sleep(AUDIT_PAUSE_MS / 1000)

    async def _pass(self) -> None:
        self.begun += 1
        begun_at, epoch = self._clock.now(), self._engine.epoch
        audit = Pass(self._engine, self._connected)
        try:
            bell = Bell()
            while self._journal.dirty and self._journal.committed < epoch:
                self._journal.ring_on_commit(bell)
                await bell.wait()
            await self._rows(audit)
            await self._facts(audit)
            await self._records(audit)
            for looked_at in audit.structures(lambda: self._journal.pending):
                await self._looked(audit, looked_at)
        finally:
            audit.close()
        await self._looked(audit, 0)
        self.done += 1
        self.last_done_at = self._clock.now()
        self.last_ms = self.last_done_at - begun_at

    async def _rows(self, audit: Pass) -> None:
        after = 0
        while after < audit.last_seq:
            self._listens = True
            try:
                rows = await self._read(after, audit.last_seq)
                after = rows[-1].seq if len(rows) == AUDIT_SLICE else audit.last_seq
                *parts, last = _parts(rows)
                for part in parts:
                    audit.rows(part, part[-1].seq, _Unsettled(self._engine, self._journal, self._meanwhile))
                    await trio.lowlevel.checkpoint()
                audit.rows(last, after, _Unsettled(self._engine, self._journal, self._meanwhile))
            finally:
                self._listens, self._meanwhile = False, []
            await self._looked(audit, 1 + len(rows))

    async def _read(self, after: int, upto: int) -> list[Stored]:
        return await self._ask(partial(self._store.stored, after, upto, AUDIT_SLICE))

    async def _facts(self, audit: Pass) -> None:
        """Look at all facts; what changes meanwhile may be another on the disk."""
        look, after = FactsLook(self._engine, audit.note), ("", "")
        self._changed_facts = meanwhile = set[FactKey]()
        unsettled = _UnsettledFacts(self._engine, self._journal, meanwhile)
        try:
            while rows := await self._ask(partial(self._store.stored_facts, after, AUDIT_SLICE)):
                look.rows(rows, unsettled)
                after = rows[-1][:2]
                await self._looked(audit, len(rows))
            for looked_at in look.memory(unsettled):
                await self._looked(audit, looked_at)
        finally:
            self._changed_facts = None

    async def _records(self, audit: Pass) -> None:
        """Count the records of each queue anew."""
        last = ""
        while names := self._engine.archive.queues_after(last, AUDIT_SLICE):
            for name in names:
                looked_at = await self._records_of(audit, name)
                await self._looked(audit, looked_at)
            last = names[-1]

    async def _records_of(self, audit: Pass, name: str) -> int:
        before = counted(self._engine, name)
        stored = await self._ask(partial(self._store.stored_kept, name))
        looked_at = 1 + sum(stored[:2]) // COUNTED_AS_ONE
        if stored == before or (before != counted(self._engine, name) and sum(stored[:2]) > COUNTED_MAX):
            return looked_at
        # A commit may be on the disk and not known yet, or the other way round: once more, with none under way.
        async with self._journal.disk:
            if self._journal.failing is not None:
                # Of a batch whose answer was lost nobody knows yet whether it is there.
                return looked_at
            told, stored = counted(self._engine, name), await self._ask(partial(self._store.stored_kept, name))
        if told != stored:
            audit.note("records", differing(name, told, stored))
        return 2 * looked_at

    async def _ask(self, read: Callable[[], T]) -> T:
        return read() if self._store.inline else await trio.to_thread.run_sync(read)

    async def _looked(self, audit: Pass, n: int) -> None:
        """Take account of ``n`` more entries, and pause for as long as they may take."""
        self.checked += n
        self._owing += n
        faults, audit.faults = audit.faults, []
        for fault in faults:
            self._found(fault)
        if self._owing >= AUDIT_SLICE:
            owing, self._owing = self._owing, 0
            await trio.sleep(owing / self.per_second)

    def _found(self, fault: AuditFault) -> None:
        now = self._clock.now()
        self.faults[fault.kind] += 1
        known = self.findings.get(fault.what)
        if known is not None:
            known.last_at, known.times = now, known.times + 1
            return
        _log.error("the self-audit found a fault", kind=fault.kind, what=fault.what)
        if len(self.findings) >= AUDIT_FINDINGS_MAX:
            del self.findings[next(iter(self.findings))]
        self.findings[fault.what] = Finding(fault.kind, fault.what, now, now)

    def _committed(self, batch: Batch, _: float) -> None:
        if self._listens:
            self._meanwhile += batch.jobs
        if self._changed_facts is not None:
            self._changed_facts |= {(kind, key) for kind, key, _ in batch.facts}


def _parts(rows: list[Stored]) -> Iterator[list[Stored]]:
    """Yield ``rows`` some at a time, so that few dependencies are looked up in one step."""
    part: list[Stored] = []
    named = 0
    for row in rows:
        if named >= AUDIT_DEPENDENCIES:
            yield part
            part, named = [], 0
        part.append(row)
        named += 0 if row.job is None else len(row.job.options.depends_on)
    yield part


class _Unsettled(Container[int]):
    """The keys of jobs that may be another on the disk than they are now; collected when first asked for."""

    def __init__(self, engine: Engine, journal: Journal, meanwhile: Sequence[Job]) -> None:
        self._sources = (engine.changed, journal.writing, meanwhile)
        self._keys: set[int] | None = None

    def __contains__(self, key: object) -> bool:
        if self._keys is None:
            self._keys = {job.seq for jobs in self._sources for job in jobs}
        return key in self._keys


class _UnsettledFacts(Container[FactKey]):
    """Facts that may be another on the disk than they are now."""

    def __init__(self, engine: Engine, journal: Journal, meanwhile: Container[FactKey]) -> None:
        self._engine = engine
        self._journal = journal
        self._meanwhile = meanwhile

    def __contains__(self, key: object) -> bool:
        if key in self._engine.facts.changed or key in self._meanwhile:
            return True
        return any((kind, name) == key for kind, name, _ in self._journal.writing_facts)
