"""Full stores that are copied, and rows to compare."""

import shutil
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio
from click.testing import CliRunner, Result

from bunqueue_trio.cli import main
from bunqueue_trio.storage.copying import TABLES, Copied, Held, copy_store
from bunqueue_trio.storage.sqlite import SqliteStore
from bunqueue_trio.storage.sqlite.copying import held, made
from tests.storage.full_queue import answers, fill


def ignore(done: int, total: int) -> None:
    assert 0 <= done <= total


@pytest.fixture(scope="session")
def filled_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("full") / "q.db"
    fill(path)
    return path


@pytest.fixture
def full(filled_once: Path, tmp_path: Path) -> Path:
    """A file with everything in it."""
    return Path(shutil.copy(filled_once, tmp_path / "full.db"))


def rows(path: Path) -> dict[str, list[Any]]:
    """All that is in a file."""
    with closing(apsw.Connection(str(path))) as connection:
        return {table.name: list(connection.execute(table.rows.format(table.name))) for table in TABLES}


def copy(source: AbstractContextManager[Held], target: Any, on_progress: Any = ignore) -> list[Copied]:
    with source as original, target as empty:
        return copy_store(original, empty, on_progress)


def run(source: str | Path, target: str | Path) -> Result:
    return CliRunner().invoke(main, ["copy", "--from", str(source), "--to", str(target)])


def served(path: Path) -> list[Any]:
    """What a server on a copy of the file answers."""
    return trio.run(answers, SqliteStore(shutil.copy(path, path.with_suffix(".served"))))


# --- databases -----------------------------------------------------------------------------------


@pytest.fixture
def database(url: str) -> str:
    """A store in a database, with its tables and nothing in them."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    return url


def taken(url: str, lease_s: float = 10) -> Any:
    from bunqueue_trio.storage.postgres.place import parse_place
    from bunqueue_trio.storage.postgres.store import PostgresStore

    store = PostgresStore(parse_place(url), lease_s)
    assert store.take() is None
    return store


def ask(url: str, text: str) -> Any:
    from bunqueue_trio.storage.postgres.link import DatabaseLink, Query
    from bunqueue_trio.storage.postgres.place import parse_place

    place = parse_place(url)
    with closing(DatabaseLink(place.conninfo)) as link:
        return link.ask(Query(place.qualified(text)))


def of(source: Path | str, target: Path | str) -> Any:
    """The two, to be entered."""
    from bunqueue_trio.storage.postgres import copying as database_copying
    from bunqueue_trio.storage.postgres.place import parse_place

    return (
        held(source) if isinstance(source, Path) else database_copying.held(parse_place(source)),
        made(target) if isinstance(target, Path) else database_copying.filled(parse_place(target)),
    )
