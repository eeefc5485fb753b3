"""Files of a store with jobs in every state, for the tools that look at files."""

from collections.abc import Callable
from pathlib import Path

import apsw
from msgspec import Raw

from bunqueue_trio.engine.commands import apply
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.storage.making import make_batch
from bunqueue_trio.storage.sqlite import SqliteStore


class Writer:
    """An engine on a store; every command is committed."""

    def __init__(self, path: Path) -> None:
        self.store = SqliteStore(path)
        self._ids = iter(range(1, 100_000))
        self._engine = Engine(lambda _: f"id-{next(self._ids)}", self.store)
        self._engine.load(self.store.load(), 0)

    def do(self, command: c.Command, now: int = 1000) -> r.Reply:
        reply = apply(self._engine, command, now)
        changes = self._engine.take()
        self.store.commit(make_batch(changes, now, durable=False, last_event_id=self.store.last_event_id))
        self._engine.forget(changes.jobs)
        return reply

    def push(self, **options: object) -> str:
        pushed = self.do(c.Push(queue="q", data=Raw(b'{"n":1}'), **options))  # type: ignore[arg-type]
        assert isinstance(pushed, r.PushReply)
        return pushed.id


def make_store(path: Path) -> None:
    """Write a store with a job in every state there is."""
    writer = Writer(path)
    for options in ({"max_attempts": 1}, {}, {"remove_on_complete": True}, {"unique_key": "k"}):
        writer.push(**options)
        pulled = writer.do(c.Pull(queue="q"))
        assert isinstance(pulled, r.PullReply)
        assert pulled.job is not None
        if "unique_key" in options:
            break  # stays active
        command = c.Fail if options == {"max_attempts": 1} else c.Ack
        writer.do(command(id=pulled.job.id))  # type: ignore[operator]
    waiting = writer.push()
    writer.push(lifo=True, unique_key="other")
    writer.push(delay=5000, tags=["a"])
    writer.push(depends_on=[waiting])
    writer.store.close()


def spoil(path: Path, *statements: str) -> None:
    """Change the file behind everybody's back."""
    connection = apsw.Connection(str(path))
    for statement in statements:
        connection.execute(statement).fetchall()
    connection.close()


Spoil = Callable[[Path], None]


def ignore(done: int, total: int) -> None:
    """Hear how far something is."""
    assert 0 <= done <= total
