"""Opening the file: who may, whether it is ours, and how it comes to the schema of this version.

Whatever stops a start is found before a byte of the file is changed.
"""

import errno
import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path

import apsw

from bunqueue_trio.errors import StartupError
from bunqueue_trio.storage.rows import fingerprint_of
from bunqueue_trio.storage.sqlite.parted import has_log, refuse_aside, refuse_foreign_log

# "BQTR"
APPLICATION_ID = 0x42515452
# "BQTc": of a copy that is not whole yet, which no version takes for a store.
UNFINISHED_ID = 0x42515463
BESIDE = ("-wal", "-shm", "-journal", ".lock")
"""How the names of the files end that belong to a store, and lie beside it."""


_LOOKS, _LOOK_S = 5, 0.02
"""How often and after what time a start looks again: who only asks whether a file is locked has it for some µs."""


def migrations() -> list[tuple[int, str]]:
    """Return the schema's steps as (version, SQL), in order, from ``schema/NNNN_name.sql``."""
    entries = files("bunqueue_trio.storage.sqlite").joinpath("schema").iterdir()
    return sorted(
        (int(match[1]), entry.read_text(encoding="utf-8"))
        for entry in entries
        if (match := re.fullmatch(r"(\d{4})_\w+\.sql", entry.name))
    )


def real(path: Path) -> Path:
    """Return the real name of the file ``path``: SQLite, too, puts its other files beside the target of a link.

    Raises:
        StartupError: no file can have it, it is a link to nothing, or the name of a file that lies beside a store.
    """
    try:
        if path.is_symlink() and not path.exists():
            raise StartupError(f"{path}: cannot be opened as a store: it is a link to nothing")
        found = path.resolve()
    except OSError as error:
        raise StartupError(f"{path}: cannot be opened as a store: {error.strerror}") from None
    if found.name.endswith(BESIDE):
        raise StartupError(f"{path}: is the name of a file that lies beside a store, not of a store")
    return found


class Lock:
    """What keeps other servers from a store: a lock beside its file, and one on the file, whatever its name is by then.

    The one beside is there before the file; the other outlives a new name, the loss of the first, and a mount of the file alone.
    """

    def __init__(self, path: Path, beside: int) -> None:
        self._path = path
        self._descriptors = [beside]

    def take_file(self) -> None:
        """Lock the file itself, if that is not done and it is there.

        Raises:
            StartupError: another server has it, by another name, or it cannot be read.
        """
        if len(self._descriptors) > 1 or not self._path.exists():
            return
        try:
            # SQLite's own locks are of another kind. They end when any descriptor of the file is closed: this one is closed last.
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StartupError(f"{self._path}: cannot be opened as a store: {error.strerror}") from None
        self._descriptors.append(descriptor)
        left = _LOOKS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if not isinstance(error, BlockingIOError) or not left:
                    raise _not_locked(self._path, error, " that opened it by another name") from None
            else:
                return
            left -= 1
            time.sleep(_LOOK_S)

    def file(self) -> os.stat_result:
        """Return what is known of the file, whatever its name is by now."""
        return os.fstat(self._descriptors[1])

    def note(self, file: int, log: int) -> None:
        """Note of which file the log beside it is, by their inodes, for whoever finds that without a server."""
        # Without room on the disk the server starts all the same.
        with suppress(OSError):
            os.pwrite(self._descriptors[0], line := b"%d %d\n" % (file, log), 0)
            os.ftruncate(self._descriptors[0], len(line))

    def forget(self) -> None:
        """Forget what was noted."""
        with suppress(OSError):
            os.ftruncate(self._descriptors[0], 0)

    def release(self) -> None:
        """Let others have the store; however often it is called."""
        while self._descriptors:
            os.close(self._descriptors.pop())


def lock(path: Path) -> Lock:
    """Return the lock of the store ``path``, a real name; it ends with the process.

    Raises:
        StartupError: another server has it, or could have it by another name, or there is no place for it.
    """
    try:
        if path.exists() and not path.is_file():
            raise StartupError(f"{path}: is not a file")
        if path.exists() and path.stat().st_nlink > 1:
            # Its log lies beside each name: two servers would write one file and see two logs.
            raise StartupError(
                f"{path}: has a second name (a hard link), by which another server could open it; remove that"
            )
        # Whoever may write to the directory must not choose what is made, or locked, elsewhere.
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise StartupError(f"{path}.lock: is a symbolic link, which a lock must not be") from None
        raise StartupError(f"{path}: cannot be opened as a store: {error.strerror}") from None
    held = Lock(path, descriptor)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise _not_locked(path, error) from None
        held.take_file()
    except StartupError:
        held.release()
        raise
    return held


def is_elsewhere(path: Path) -> bool:
    """Return whether a server has the file ``path`` by another name, beside which its log is."""
    return not _is_locked(f"{path}.lock") and _is_locked(path)


def _is_locked(path: Path | str) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        # Whoever opens it next says why not.
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _not_locked(path: Path, error: OSError, how: str = "") -> StartupError:
    taken = isinstance(error, BlockingIOError)
    return StartupError(
        f"{path}: {f'is in use by a server{how}: stop that one first' if taken else f'cannot be locked: {error.strerror}'}"
    )


def make_private(path: Path) -> None:
    """Make the file if it is missing, for its owner alone; the files that SQLite puts beside it get the same mode.

    Raises:
        OSError: it cannot be made, or it is a link to nothing.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    path.stat()


def refuse_foreign(path: Path) -> None:
    """Raise ``StartupError`` when the file is not ours or newer than this version, or a log beside it may not be its own; change nothing."""
    refuse_aside(path)
    if not path.exists() or path.stat().st_size == 0:
        if has_log(path):
            raise StartupError(
                f"{path}: is not there, or empty, and its log {path.name}-wal is: was it moved or deleted while a server ran? "
                "Put it back, or delete the log if nothing in it is wanted any more"
            )
        return
    # The one size that SQLite takes for empty although it is not.
    if path.stat().st_size == 1:
        raise StartupError(f"{path}: is not a database")
    refuse_foreign_log(path)
    # Without a log the file alone is the truth, and can be read without leaving a trace beside it.
    how = "mode=ro" if has_log(path) else "immutable=1"
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    with closing(apsw.Connection(f"{path.absolute().as_uri()}?{how}", flags=flags)) as look:
        version = int(look.pragma("user_version"))
        application = look.pragma("application_id")
        tables = look.execute("SELECT count(*) FROM sqlite_schema").fetchall()[0][0]
    known = migrations()[-1][0]
    if application == UNFINISHED_ID:
        raise StartupError(f"{path}: is a copy that was not finished; delete it")
    if application != APPLICATION_ID and (tables or application):
        raise StartupError(f"{path}: is another program's database")
    if version > known:
        raise StartupError(f"{path}: was written by a newer version (schema {version}, this one knows {known})")


def migrate(connection: apsw.Connection) -> None:
    """Bring the schema to the newest version, each step whole or not at all."""
    have = int(connection.pragma("user_version"))
    connection.create_scalar_function("fingerprint_of", fingerprint_of, 1, deterministic=True)
    for version, sql in migrations():
        if version > have:
            with Transaction(connection):
                connection.execute(sql).fetchall()
                connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version={version}")


def sync_directory(directory: Path) -> None:
    """Make the name of a new file as durable as its content will be."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Transaction:
    """Commits what its block writes, or nothing of it; for one block after the other."""

    # A class: each small commit would pay 2 % for a generator.
    __slots__ = ("_connection", "cursor")

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self.cursor: apsw.Cursor = connection.cursor()
        """For all that it writes: a cursor for each statement would cost a small commit 1.5 µs of 17."""

    def __enter__(self) -> None:
        self.begin()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                self.commit()
        finally:
            self.end()

    def begin(self) -> None:
        """Begin it; for who does not use it as a block."""
        self.cursor.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Bring what it has written to the disk."""
        self.cursor.execute("COMMIT")

    def end(self) -> None:
        """Leave no half of the transaction, whatever ended it. SQLite may have rolled back itself."""
        if self._connection.in_transaction:
            self.cursor.execute("ROLLBACK")


@contextmanager
def closing(connection: apsw.Connection) -> Iterator[apsw.Connection]:
    """Close ``connection`` after the block."""
    try:
        yield connection
    finally:
        connection.close()
