"""The command that copies a whole queue: from a file or a database to another one."""

import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from bunqueue_trio.errors import StartupError, reaching_files
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.pages.words import count
from bunqueue_trio.storage.copying import Held, Target, copy_store
from bunqueue_trio.storage.sqlite import copying as file

_DATABASE = ("postgres://", "postgresql://")


@click.command()
@click.option("--from", "source", required=True, metavar="FILE|URL", help="What is copied; it stays as it is.")
@click.option(
    "--to", "target", required=True, metavar="FILE|URL", help="Where to; it must be empty, and a file need not exist."
)
def copy(source: str, target: str) -> None:
    """Copy a whole queue from a file or a PostgreSQL database to another one, with no server at either.

    Everything goes along: jobs, dead letters, logs, schedules, settings, events. Both are then read once more and compared row by
    row. Only a copy that is whole and the same becomes a store; whatever interrupts it, nothing of it is there. A URL is written
    as for `serve --store`, and its tables are made by `migrate`.
    """
    there, here = _held(source), _empty(target)
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("copying", total=None)
        try:
            with reaching_files():
                if _is_same_file(source, target):
                    raise StartupError(f"{target}: is what is copied from")
                with there as original, here as empty:
                    copied = copy_store(
                        original, empty, lambda done, total: progress.update(task, completed=done, total=total)
                    )
        except StartupError as error:
            raise click.ClickException(str(error)) from None
    for table in copied:
        click.echo(f"{table.table:<11} {count(table.rows, 'row'):>17}  sha256 {table.digest}")
    shown = f"{count(sum(table.rows for table in copied), 'row')}, both read once more and the same"
    click.echo(printable(f"{empty}: {shown}"))


def _is_same_file(source: str, target: str) -> bool:
    if source.startswith(_DATABASE) or target.startswith(_DATABASE):
        return False
    return Path(target).exists() and Path(source).exists() and Path(source).samefile(target)


def _held(name: str) -> AbstractContextManager[Held]:
    if not name.startswith(_DATABASE):
        return file.held(Path(name))
    database, place = _database(name)
    held: AbstractContextManager[Held] = database.held(place)
    return held


def _empty(name: str) -> AbstractContextManager[Target]:
    if not name.startswith(_DATABASE):
        return file.made(Path(name))
    database, place = _database(name)
    filled: AbstractContextManager[Target] = database.filled(place)
    return filled


def _database(url: str) -> tuple[Any, Any]:
    try:
        from bunqueue_trio.storage.postgres import copying, place
    except ImportError as error:
        raise StartupError(f'STORE: needs psycopg: pip install "bunqueue-trio[postgres]" ({error})') from None
    return copying, place.parse_place(url)
