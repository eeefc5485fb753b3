"""The memory of this process, by its two allocators and the kernel; and giving some of it back.

Small objects (up to 512 bytes: nearly everything a waiting job consists of) come from Python's own
allocator, which takes arenas of 1 MiB from the kernel. Everything larger, and all of SQLite and the other
C libraries, comes from the C heap. Both can say what is in use and what they hold, without looking at a
single object: 0.3 ms with 300,000 jobs waiting. Where one of them cannot (another C library, a Python
that does not export its statistics), or it would take long (more than 1 GiB), the anonymous resident memory stands for what is held
and used.
"""

import ctypes
import functools
import gc
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import trio
from msgspec import Struct

from bunqueue_trio.config import BLOCKS_LISTED_MAX, HEAP_BLOCK_BYTES, HEAP_KEPT_BYTES, HEAP_LOOK_MS, MIB, OBJECTS_A_TURN
from bunqueue_trio.logs.printable import name_of
from bunqueue_trio.storage.store import Batch

# In malloc.h of glibc.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_YOUNG, _OLD = 1, 2
"""Of Python's three generations the second, and with it the first; and the third."""

# Of objects and the C heap: Python's allocator looks at each 16 KB of them to tell, 3 ms for as much as this.
_REPORTED_MAX = 1024 * MIB
# New jobs after which the youngest objects are looked through: 1 ms.
_NEW_JOBS = 20_000


class Figures(NamedTuple):
    """Bytes: used and held by Python's allocator and by the C heap, and resident."""

    objects_used: int
    objects_held: int
    c_used: int
    c_held: int
    resident: int

    def heap(self) -> dict[str, int]:
        """Return the contract's three figures in MB: both allocators together, and the process."""
        used, held = self.objects_used + self.c_used, self.objects_held + self.c_held
        return {"heapUsed": used // MIB, "heapTotal": held // MIB, "rss": self.resident // MIB}


class Census(Struct, frozen=True):
    """How many objects the garbage collector watches, by type; most frequent first. Of very many those that were made lately."""

    objects: int
    types: list[tuple[str, int]]


class Memory:
    """Reads and cleans the memory of the process; expensive looks are shared by those who ask at once."""

    def __init__(self) -> None:
        self._looking = trio.Lock()
        self._census: tuple[float, Census] | None = None
        self._collect_from = float("-inf")
        self._new_jobs = 0

    def read(self) -> Figures:
        """Return the figures of now."""
        return read()

    async def collect(self) -> tuple[Figures, Figures]:
        """Collect new garbage and give free memory back to the kernel; return the figures before and after.

        Anybody may ask, and a collection stops the server. So it looks at the young objects only, of which there are
        22,000 at most: all of them take 260 ms with 50,000 queues. The old ones Python looks at by itself, when they have
        become more by a quarter. Giving back runs in a thread. It is done at most once a second and for a twentieth of
        the time; in between only the figures are read.
        """
        async with self._looking:
            before, now = read(), trio.current_time()
            if now < self._collect_from:
                return before, before
            gc.collect(_YOUNG)
            took = trio.current_time() - now
            trim = getattr(_libc(), "malloc_trim", None)
            if trim is not None:
                # Without the interpreter's lock; tests of virtual time do not come here.
                await trio.to_thread.run_sync(trim, ctypes.c_size_t(0))  # noqa: TID251
            self._collect_from = trio.current_time() + max(HEAP_LOOK_MS / 1000, 20 * took)
            return before, read()

    def committed(self, batch: Batch, seconds: float) -> None:
        """Let the garbage collector see new blocks of waiting jobs before they are many (one of ``Journal.on_told``).

        Plain pushes leave so few new containers that Python would first look at them when they hold 500,000 jobs: 20 ms. A block that
        is full is a tuple (``engine/line.py``), and is looked at once.
        """
        self._new_jobs += len(batch.new)
        if self._new_jobs >= _NEW_JOBS:
            self._new_jobs = 0
            gc.collect(0)

    async def census(self) -> Census:
        """Return a count by type that ended at most a second ago: whoever waited for it shares it."""
        async with self._looking:
            if self._census is None or trio.current_time() - self._census[0] >= HEAP_LOOK_MS / 1000:
                count = await _count()
                self._census = trio.current_time(), count
            return self._census[1]


async def _count() -> Census:
    """Count in pieces, between which the server goes on.

    Python lists them in one step, by generations: all of them, or without the oldest where there are too many for that.
    """
    is_huge = sys.getallocatedblocks() > BLOCKS_LISTED_MAX
    objects = [o for age in range(_OLD) for o in gc.get_objects(generation=age)] if is_huge else gc.get_objects()
    types: Counter[type] = Counter()
    for start in range(0, len(objects), OBJECTS_A_TURN):
        types.update(map(type, objects[start : start + OBJECTS_A_TURN]))
        await trio.lowlevel.checkpoint()
    names: Counter[str] = Counter()
    for kind, n in types.items():
        names[name_of(kind)] += n
    return Census(len(objects), names.most_common())


def keep_freed() -> bool:
    """Let the C heap keep some of what is freed for what comes next; return whether it has such a setting.

    Else each copy of megabytes is made in memory that is new from the kernel, which clears it page by page: a record of 20 MB is read
    in 30 ms then, and in 10 in memory that was there.
    """
    mallopt = getattr(_libc(), "mallopt", None)
    # Both, since one of them set alone keeps the other from being adapted.
    return mallopt is not None and all(
        [mallopt(_MMAP_THRESHOLD, HEAP_BLOCK_BYTES), mallopt(_TRIM_THRESHOLD, HEAP_KEPT_BYTES)]
    )


def read() -> Figures:
    """Return the figures of now."""
    status = _status(Path("/proc/self/status").read_text(encoding="ascii"))
    objects, c_heap = _objects() if status["RssAnon"] <= _REPORTED_MAX else None, _c_heap()
    if objects is None or c_heap is None:
        anonymous = status["RssAnon"]
        objects, c_heap = (anonymous, anonymous), (0, 0)
    return Figures(*objects, *c_heap, status["VmRSS"])


def _status(text: str) -> dict[str, int]:
    """Return the sizes in /proc/self/status in bytes."""
    return {name: int(kb) * 1024 for name, kb in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}


@functools.cache
def _libc() -> Any:
    return ctypes.CDLL(None)


class _Mallinfo2(ctypes.Structure):
    _fields_: ClassVar[Any] = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


def _c_heap() -> tuple[int, int] | None:
    """Return how much of the C heap is used, and its size, in bytes; None when it cannot be asked."""
    mallinfo2 = getattr(_libc(), "mallinfo2", None)
    if mallinfo2 is None:
        return None
    mallinfo2.restype = _Mallinfo2
    info = mallinfo2()
    return info.uordblks + info.hblkhd, info.arena + info.hblkhd


def _objects() -> tuple[int, int] | None:
    """Return how much of the memory of Python's allocator is used, and its size, in bytes; None when it cannot be asked.

    Python has these numbers only as a report written to a C stream; the stream goes to memory.
    """
    report = getattr(ctypes.pythonapi, "_PyObject_DebugMallocStats", None)
    open_memstream = getattr(_libc(), "open_memstream", None)
    if report is None or open_memstream is None:
        return None
    buffer, size = ctypes.c_void_p(), ctypes.c_size_t()
    open_memstream.restype = ctypes.c_void_p
    stream = ctypes.c_void_p(open_memstream(ctypes.byref(buffer), ctypes.byref(size)))
    report(stream)
    _libc().fclose(stream)
    text = ctypes.string_at(buffer, size.value)
    _libc().free(buffer)
    return _parse(text.decode("ascii"))


def _parse(report: str) -> tuple[int, int]:
    used = re.search(r"^# bytes in allocated blocks\s*=\s*([\d,]+)$", report, re.MULTILINE)
    held = re.search(r"^\d+ arenas \* \d+ bytes/arena\s*=\s*([\d,]+)$", report, re.MULTILINE)
    # It is switched off: all objects are in the C heap.
    if used is None or held is None:
        return 0, 0
    return int(used[1].replace(",", "")), int(held[1].replace(",", ""))
