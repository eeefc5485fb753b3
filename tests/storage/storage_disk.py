"""A disk in the hands of a test: a layer between SQLite and its files that counts and fails calls."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import apsw

_KINDS = {apsw.SQLITE_OPEN_WAL: "log", apsw.SQLITE_OPEN_MAIN_DB: "file"}
Rule = Callable[[str, str], None]


class Disk(apsw.VFS):
    """While registered, every connection of the process goes through it.

    ``rule`` is called with what is done (``write``, ``sync``) and to what (``log``, ``file``) before it
    is done, and may raise; ``done`` notes what was.
    """

    def __init__(self) -> None:
        super().__init__("tested-disk", "unix", makedefault=True)
        self._registered = True
        self.rule: Rule | None = None
        self.done: list[tuple[str, str]] = []

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "_File":  # noqa: N802 - as apsw calls it
        return _File(self, name, flags)

    def before(self, action: str, kind: str) -> None:
        if self.rule is not None:
            self.rule(action, kind)
        self.done.append((action, kind))

    def leave(self) -> None:
        """Let connections that are opened from now on go to the files directly."""
        if self._registered:
            self._registered = False
            self.unregister()

    def syncs(self) -> list[str]:
        """Which files were synced since the last call."""
        synced = [kind for action, kind in self.done if action == "sync"]
        self.done.clear()
        return synced


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("unix", name, flags)  # type: ignore[arg-type]  # None: a temporary file
        self._disk = disk
        self._kind = next((kind for flag, kind in _KINDS.items() if flags[0] & flag), "other")

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.before("write", self._kind)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.before("sync", self._kind)
        super().xSync(flags)


@contextmanager
def registered() -> Iterator[Disk]:
    """A disk for the time of the block."""
    disk = Disk()
    try:
        yield disk
    finally:
        disk.rule = None
        disk.leave()


def refuse(action: str, kind: str, error: type[apsw.Error], after: int = 0) -> Rule:
    """A rule that refuses ``action`` on ``kind`` with ``error``, from the ``after``-th on."""
    left = after

    def rule(done: str, to: str) -> None:
        nonlocal left
        if (done, to) == (action, kind):
            if left == 0:
                raise error("simulated")
            left -= 1

    return rule
