"""A disk that loses power: the server under test keeps a log of every change to its files, and what survives is made from it.

Run as a program it is `bunqueue-trio`, with a layer between SQLite and its files (an APSW VFS) that writes each change
into the log before it is made, and each sync after it is done; `survivors` reads the log. Why so: it needs no compiler
and no root, as LD_PRELOAD and FUSE would; it is not slower than the disk, as ptrace would be; and it sees what matters
(which bytes of which file were written, and which of them had been synced) where SQLite decides it, for the file, the
log, the rollback journal and the directory alike. SQLite's shared memory is not on the disk: it does not survive.

What a disk may do is what POSIX allows. What was synced is there. Of the rest each sector holds the bytes of some
moment between the last sync and the cut, whatever moments its neighbours hold: writes are lost, torn and reordered. So
is a file's size. A name that was made or removed is certain only after a sync of its directory.
"""

import functools
import os
import random
import runpy
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import msgspec

# The smallest unit that any disk writes whole; SQLite's powersafe overwrite asks for no more.
SECTOR = 512
# Beside the database, but memory and no file.
WIPED = ("-shm",)

# The moments that hurt are those of the checkpoint; a hasty server makes them twenty times as often.
HASTE = 20


class Record(msgspec.Struct, array_like=True):
    """One change: what was done to the file of this name, `at` an offset, size or position in the log."""

    # Create, delete, write, truncate; synced, directory: all that came before `at` is safe.
    what: str
    name: str = ""
    at: int = 0
    data: bytes = b""


# --- what survives ------------------------------------------------------------------------------------


@dataclass
class _File:
    """A file's content as of its last sync, and the changes since, with their positions in the log."""

    synced: bytearray = field(default_factory=bytearray)
    unsynced: list[tuple[int, Record]] = field(default_factory=list)

    def sync(self, upto: int) -> None:
        """Make safe what came before this position."""
        done = [record for position, record in self.unsynced if position < upto]
        self.unsynced = [entry for entry in self.unsynced if entry[0] >= upto]
        _apply(self.synced, done, lambda _: len(done), len(done))

    def survivor(self, rng: random.Random) -> bytes:
        """Return the content that a disk may have after a power cut."""
        records = [record for _, record in self.unsynced]
        n = len(records)
        some_moment = rng.randint(0, n)
        scatter = defaultdict[int, int](lambda: rng.choice((0, n, rng.randint(0, n))))
        moment: Callable[[int], int] = rng.choice(
            (lambda _: 0, lambda _: n, lambda _: some_moment, scatter.__getitem__, scatter.__getitem__)
        )
        content = bytearray(self.synced)
        _apply(content, records, moment, moment(-1))
        return bytes(content)


def _apply(content: bytearray, records: list[Record], moment: Callable[[int], int], size_moment: int) -> None:
    """Bring each sector to what it was before the record number `moment(sector)`; the file's size is that of its own moment."""
    size = now = len(content)
    for i, record in enumerate(records):
        before, now = now, record.at if record.what == "truncate" else max(now, record.at + len(record.data))
        if i < size_moment:
            size = now
        # What is cut off reads as zeros when the file grows again.
        start, end = (now, before) if record.what == "truncate" else (record.at, record.at + len(record.data))
        content.extend(bytes(max(0, end - len(content))))
        while start < end:
            sector = start // SECTOR
            stop = min(end, (sector + 1) * SECTOR)
            if i < moment(sector):
                content[start:stop] = record.data[start - record.at : stop - record.at] or bytes(stop - start)
            start = stop
    del content[size:]
    content.extend(bytes(size - len(content)))


def survivors(before: dict[str, bytes], log: Path, rng: random.Random) -> dict[str, bytes]:
    """Return the files that a power cut now may leave, of those that were safe `before` and the log's changes since."""
    names = {name: _File(bytearray(content)) for name, content in before.items()}
    safe = dict(names)
    # Names made and removed since the directory was synced.
    unsafe: list[tuple[int, str, _File | None]] = []
    for position, record in read_log(log):
        name = record.name
        if record.what == "create":
            names[name] = _File()
            unsafe.append((position, name, names[name]))
        elif record.what == "delete":
            names.pop(name, None)
            unsafe.append((position, name, None))
        elif record.what == "synced":
            if name in names:
                names[name].sync(record.at)
        elif record.what == "directory":
            _settle(safe, [entry[1:] for entry in unsafe if entry[0] < record.at])
            unsafe = [entry for entry in unsafe if entry[0] >= record.at]
        elif name in names:
            # Else the last handle of a file without a name.
            names[name].unsynced.append((position, record))
    for name in sorted({entry[1] for entry in unsafe}):
        changes = [entry[1:] for entry in unsafe if entry[1] == name]
        _settle(safe, changes[: rng.randint(0, len(changes))])
    return {name: file.survivor(rng) for name, file in sorted(safe.items())}


def _settle(names: dict[str, _File], changes: list[tuple[str, _File | None]]) -> None:
    for name, file in changes:
        if file is None:
            names.pop(name, None)
        else:
            names[name] = file


def read_log(log: Path) -> Iterator[tuple[int, Record]]:
    """Yield the position and the record of all that was logged; a record cut short was never carried out."""
    decode = msgspec.msgpack.Decoder(Record).decode
    content = log.read_bytes() if log.exists() else b""
    for start, end in _bounds(content):
        yield start, decode(content[start + 4 : end])


def _bounds(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each whole record begins and ends."""
    start = 0
    while start + 4 <= len(content) and (end := start + 4 + int.from_bytes(content[start : start + 4])) <= len(content):
        yield start, end
        start = end


# --- the server under test ----------------------------------------------------------------------------


class Disk(apsw.VFS):
    """The layer under SQLite: everything goes to the real files, and is written down first.

    A disk that is `lying` says that it has synced and has not: whoever trusts it must be found out.
    """

    def __init__(self, log: Path, *, lying: bool = False) -> None:
        """Go on with the log, which may have changes of an earlier process that was killed."""
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        # A kill may have cut a write short; behind its begin nothing could be read.
        self._size = max((end for _, end in _bounds(log.read_bytes())), default=0)
        os.ftruncate(self._log, self._size)
        self._lying = lying
        # The order in the log is the order of the changes, whatever threads make them.
        self.lock: threading.Lock = threading.Lock()
        super().__init__("power", "unix", makedefault=True)

    def note(self, what: str, path: str, at: int = 0, data: bytes = b"") -> None:
        """Write one record, whole or (if the process is killed) not to be taken for one; hold the lock."""
        body = msgspec.msgpack.encode(Record(what, Path(path).name, at, data))
        entry = len(body).to_bytes(4) + body
        assert os.write(self._log, entry) == len(entry), "the log's disk is full"
        self._size += len(entry)

    def position(self) -> int:
        """Return the place in the log before which everything has reached the kernel."""
        with self.lock:
            return self._size

    def note_synced(self, what: str, path: str, upto: int) -> None:
        """Write down that a sync, begun at `upto`, is done."""
        if not self._lying:
            with self.lock:
                self.note(what, path, upto)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "_Handle":  # noqa: N802 - as apsw calls it
        """Open a file, and note a new name."""
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        with self.lock:
            if path is not None and flags[0] & apsw.SQLITE_OPEN_CREATE and _is_new(Path(path), flags[0]):
                self.note("create", path)
            return _Handle(self, name, path, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: FBT001, N802
        """Remove a name; with `syncdir` for good."""
        with self.lock:
            self.note("delete", filename)
            super().xDelete(filename, syncdir)
        if syncdir:
            self.note_synced("directory", filename, self.position())

    def directory_synced(self, descriptor: int, sync: Callable[[int], None]) -> None:
        """Do an `os.fsync`, and note it when it is a directory's."""
        upto = self.position()
        sync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_dir():
            self.note_synced("directory", str(path), upto)


def _is_new(path: Path, flags: int) -> bool:
    # The server makes its database file itself, for its mode, and SQLite finds it empty.
    return not path.exists() or bool(flags & apsw.SQLITE_OPEN_MAIN_DB and path.stat().st_size == 0)


class _Handle(apsw.VFSFile):
    """An open file; a temporary one has no path and is not noted."""

    def __init__(self, disk: Disk, name: Any, path: str | None, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk
        self._path = path
        # The first sync of a log or a journal that SQLite may have made also syncs its directory (os_unix.c, DIRSYNC).
        kinds = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL
        self._syncs_directory = bool(flags[0] & apsw.SQLITE_OPEN_CREATE and flags[0] & kinds)

    def xLock(self, level: int) -> None:  # noqa: N802
        try:
            super().xLock(level)
        except apsw.IOError:
            # A read-only file at its close: SQLite only tries, but APSW would raise it.
            raise apsw.BusyError from None

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802 - bytes, or another buffer
        with self._disk.lock:
            if self._path is not None:
                self._disk.note("write", self._path, offset, data)
            super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        with self._disk.lock:
            if self._path is not None:
                self._disk.note("truncate", self._path, newsize)
            super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        upto = self._disk.position()
        super().xSync(flags)
        if self._path is not None:
            self._disk.note_synced("synced", self._path, upto)
            if self._syncs_directory:
                self._syncs_directory = False
                self._disk.note_synced("directory", self._path, upto)


def main() -> None:
    """Be the server, on a disk that can lose power: `python -m bunqueue_trio.testing.crash.disk LOG honest|lying hasty|calm serve …`."""
    from bunqueue_trio.runtime import services

    log, disk_kind, pace, *arguments = sys.argv[1:]
    disk = Disk(Path(log), lying=disk_kind == "lying")
    os.fsync = functools.partial(disk.directory_synced, sync=os.fsync)
    if pace == "hasty":
        for name in [name for name in vars(services) if name.startswith("CHECKPOINT_")]:
            setattr(services, name, getattr(services, name) // HASTE)
    sys.argv[1:] = arguments
    # As `python -m bunqueue_trio` does: the command line has this file's programs among its own.
    runpy.run_module("bunqueue_trio")


if __name__ == "__main__":
    main()
