"""One connection to PostgreSQL, which a task of the event loop or a thread may use, one at a time.

psycopg knows no Trio; its binding of libpq does not mind. A query is sent, and its answer awaited, on a socket that never
blocks; whoever waits does so by Trio or, outside of its loop, by ``poll``. There is a limit to every wait. What ends
otherwise than with an answer closes the connection: nobody will ever take an answer for another's.
"""

import os
import select
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
import trio
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bunqueue_trio.config import STORE_ANSWER_S, STORE_CONNECT_S
from bunqueue_trio.config.spans import span
from bunqueue_trio.errors import StartupError, StoreError

_TEXT, _BINARY = 0, 1
_FENCED = "BQ001"
_OURS = ("22", "23", "42")
"""Classes of errors that are a fault of ours: data, constraints and words. Anything else may pass, or is the operator's to mend."""
_THEIRS = frozenset(["42501", "42P01", "42703", "42883", "3F000"])
"""Of those: somebody has taken a right, a table, a column, a function or a schema away, and may put it back."""
_IS_PREPARED, _NOT_PREPARED = "42P05", "26000"

_READ_ONLY = "25006"
"""So a session is from its beginning; a new one may not be, or reach another machine."""

# A retry has to see what the transaction has done that it waited for. A statement that waits for a lock, whose connection was given up, is to end:
# each try would leave another one behind, until no session is left for anybody. Nothing is set where that is so anyway: a pooler shares sessions.
_SETTINGS = (
    "SELECT set_config(name, CASE name WHEN 'client_connection_check_interval' THEN '5s' ELSE 'read committed' END, false) FROM pg_settings "
    "WHERE (name = 'default_transaction_isolation' AND setting <> 'read committed') "
    "OR (name = 'client_connection_check_interval' AND setting = '0' AND version() ~ 'linux')"
)

Row = tuple[Any, ...]


class Fenced(Exception):
    """Somebody else leads, or the database is in another moment of its history; ``row`` is what it says."""

    def __init__(self, row: str) -> None:
        super().__init__(row)
        term, life, batch, *holder = row.split(" ", 3) if row.count(" ") > 1 else ("0", "", "0")
        self.term, self.life, self.batch = int(term), life, int(batch)
        self.holder: str = holder[0] if holder else ""


class Unanswered(StoreError):
    """There was no answer in time."""


class _Unprepared(Exception):
    """The statement is not known in this session: nothing has happened."""


class Query(NamedTuple):
    """A statement with its values; bytes are binary arrays, or bytes."""

    text: str
    values: Sequence[int | str | bytes | None] = ()
    name: str = ""
    """Of one that was prepared."""


class DatabaseLink:
    """A connection to the database ``place``, made when it is needed; with what is ``prepared`` it is the one that a server writes by.

    Raises:
        StartupError: that can be no database.
    """

    def __init__(self, place: str, prepared: Query | None = None) -> None:
        usual: dict[str, Any] = {
            "connect_timeout": STORE_CONNECT_S, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
            "tcp_user_timeout": STORE_ANSWER_S * 1000, "application_name": "bunqueue-trio",
        }  # fmt: skip
        try:
            self._where = make_conninfo(**usual | conninfo_to_dict(place) | {"client_encoding": "UTF8"})
        except psycopg.Error as error:
            raise StartupError(f"STORE: {one_line(error)}") from None
        self._prepared = prepared
        self._connection: psycopg.Connection[Any] | None = None
        self._keeps_names = True
        """Whether what was prepared is there; a pooler may give each transaction to another session of the database."""

    @property
    def is_open(self) -> bool:
        """Whether it need not be connected first."""
        return self._connection is not None

    def connect(self) -> None:
        """Connect, for as long as STORE_CONNECT_S; blocks.

        Raises:
            StoreError: it was not possible.
        """
        self.close()
        try:
            connection = psycopg.connect(self._where, autocommit=True, prepare_threshold=None)
        except psycopg.Error as error:
            raise StoreError(one_line(error)) from None
        self._connection = connection
        try:
            self.ask(Query(_SETTINGS))
            if self._prepared is not None:
                done = connection.pgconn.prepare(self._prepared.name.encode(), self._prepared.text.encode())
                if done.status != pq.ExecStatus.COMMAND_OK and _code(done) != _IS_PREPARED:
                    raise self._meaning(done)
        except BaseException:
            self.close()
            raise

    def ask(self, query: Query, wait_s: float = STORE_ANSWER_S) -> list[Row]:
        """Return the rows that ``query`` answers with; blocks, at most for ``wait_s``.

        Raises:
            StoreError: there was no answer, or none that a repeat could not mend.
            Fenced: somebody else leads.
        """
        if self._connection is None:
            self.connect()
        poll, descriptor = select.poll(), self._begin(query)
        try:
            while wanted := self._step():
                poll.register(descriptor, wanted)
                if not poll.poll(wait_s * 1000):
                    raise Unanswered(f"the database did not answer within {span(wait_s * 1000)}")
            return self._rows()
        except _Unprepared:
            return self.ask(query, wait_s)
        except BaseException as error:
            self._end(error)
            raise

    async def ask_soon(self, query: Query, wait_s: float = STORE_ANSWER_S, *, quick: bool = True) -> list[Row]:
        """Do the same in the event loop; what is not ``quick`` to be copied is copied beside it."""
        if self._connection is None:
            await trio.to_thread.run_sync(self.connect)
        descriptor = self._begin(query) if quick else await trio.to_thread.run_sync(self._begin, query)
        try:
            with trio.fail_after(wait_s):
                while wanted := self._step():
                    if wanted == select.POLLIN:
                        await trio.lowlevel.wait_readable(descriptor)
                    else:
                        await _wait_either(descriptor)
            return self._rows()
        except _Unprepared:
            return await self.ask_soon(query, wait_s, quick=quick)
        except trio.TooSlowError:
            error = Unanswered(f"the database did not answer within {span(wait_s * 1000)}")
            self._end(error)
            raise error from None
        except BaseException as error:
            self._end(error)
            raise

    @contextmanager
    def copying(self, text: str, types: Sequence[str], name: str) -> Iterator["psycopg.Copy"]:
        """Give the rows that ``text``, a ``COPY``, gives out or takes, one after the other and binary; blocks.

        Raises:
            StoreError: the database refused it, or there is no connection; it begins with ``name``.
        """
        assert self._connection is not None
        try:
            with self._connection.cursor() as cursor, cursor.copy(text) as rows:
                rows.set_types(types)
                yield rows
        except psycopg.Error as error:
            raise StoreError(f"{name}: {one_line(error)}") from None

    def own_host(self) -> str:
        """Return the address of this end; over a Unix socket whoever reaches the database is on this machine."""
        assert self._connection is not None
        with socket.socket(fileno=os.dup(self._connection.pgconn.socket)) as sock:
            name = sock.getsockname()
        return name[0] if isinstance(name, tuple) else "127.0.0.1"

    def run_script(self, text: str) -> None:
        """Run several statements; blocks until they are done.

        Raises:
            StoreError: one was refused, and none of a transaction has happened.
        """
        if self._connection is None:
            self.connect()
        assert self._connection is not None
        done = self._connection.pgconn.exec_(text.encode())
        if done.status != pq.ExecStatus.COMMAND_OK:
            error = self._meaning(done)
            self.close()
            raise error

    def close(self) -> None:
        """End the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _begin(self, query: Query) -> int:
        """Send ``query`` as far as that goes now; return the descriptor to wait for."""
        assert self._connection is not None
        pgconn, values = self._connection.pgconn, [_encoded(value) for value in query.values]
        formats = [_BINARY if isinstance(value, bytes) else _TEXT for value in query.values]
        try:
            if query.name and self._keeps_names:
                pgconn.send_query_prepared(query.name.encode(), values, formats, _BINARY)
            else:
                pgconn.send_query_params(query.text.encode(), values, None, formats, _BINARY)
        except psycopg.Error as error:
            self._end(error)
            raise StoreError(one_line(error)) from None
        self._results: list[pq.abc.PGresult] = []
        return pgconn.socket

    def _step(self) -> int:
        """Go on as far as possible; return what to wait for, 0 when the answer is there."""
        assert self._connection is not None
        pgconn = self._connection.pgconn
        try:
            if pgconn.flush():
                pgconn.consume_input()
                return select.POLLIN | select.POLLOUT
            while True:
                if pgconn.is_busy():
                    pgconn.consume_input()
                    if pgconn.is_busy():
                        return select.POLLIN
                result = pgconn.get_result()
                if result is None:
                    return 0
                self._results.append(result)
        except psycopg.Error as error:
            raise StoreError(one_line(error)) from None

    def _rows(self) -> list[Row]:
        result = self._results.pop()
        if result.status == pq.ExecStatus.TUPLES_OK:
            transformer = Transformer()
            transformer.set_pgresult(result)
            return transformer.load_rows(0, result.ntuples, tuple)
        if result.status == pq.ExecStatus.COMMAND_OK:
            return []
        raise self._meaning(result)

    def _meaning(self, result: Any) -> Exception:
        """Return what an error of PostgreSQL means for the server."""
        code = _code(result)
        text = " ".join((result.error_message or b"").decode("utf-8", "replace").split())
        if code == _FENCED:
            return Fenced((result.error_field(pq.DiagnosticField.MESSAGE_DETAIL) or b"").decode())
        if code == _NOT_PREPARED:
            # The same is asked again, whole.
            self._keeps_names = False
            return _Unprepared(text)
        if code == _READ_ONLY:
            self.close()
        if code[:2] in _OURS and code not in _THEIRS:
            return AssertionError(f"the store contradicts the engine: {text}")
        # Where in our words something was missed says nothing to whoever has taken it away.
        return StoreError(text.partition(" LINE ")[0] if code in _THEIRS else text)

    def _end(self, error: BaseException) -> None:
        """Close a connection when nobody knows what comes next on it; a refusal is an answer."""
        pgconn = self._connection and self._connection.pgconn
        if isinstance(error, Fenced) or (
            pgconn and pgconn.status == pq.ConnStatus.OK and pgconn.transaction_status == pq.TransactionStatus.IDLE
        ):
            return
        self.close()


async def _wait_either(descriptor: int) -> None:
    """Wait until there is something to read, or room to write."""
    async with trio.open_nursery() as nursery:

        async def wait(kind: Any) -> None:
            await kind(descriptor)
            nursery.cancel_scope.cancel()

        nursery.start_soon(wait, trio.lowlevel.wait_readable)
        nursery.start_soon(wait, trio.lowlevel.wait_writable)


def _code(result: Any) -> str:
    return (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()


def _encoded(value: int | str | bytes | None) -> bytes | None:
    return value if value is None or isinstance(value, bytes) else str(value).encode()


def one_line(error: BaseException) -> str:
    """Return what an error says, in one line."""
    return " ".join(str(error).split())
