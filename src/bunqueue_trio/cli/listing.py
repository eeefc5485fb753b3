"""Lists of commands: rows under headings that say what each column is; for programs an object a line."""

import sys
from typing import Any, Self

import click
from rich.console import Console
from rich.table import Table

from bunqueue_trio.cli.remote import json_of
from bunqueue_trio.logs.printable import printable

# Rows that say how wide the columns are: what comes later may be wider.
_FIRST = 1000


def show_table(table: Table) -> None:
    """Print all of a table, however narrow the terminal, which folds its lines: what is cut is lost without a word."""
    Console(file=sys.stdout, highlight=False, markup=False, width=10_000, height=100).print(table)


class Listing:
    """Prints one; the last column has as much room as it takes. Use it as a context manager."""

    def __init__(self, *heads: str, as_json: bool) -> None:
        self._heads = heads
        self._as_json = as_json
        self._rows: list[tuple[str, ...]] = []
        self._widths: list[int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Also of what has gone wrong on the way: that much is known.
        self._flush()

    def add(self, reply: Any, *cells: object) -> None:
        """Print a row, or what the server said."""
        if self._as_json:
            click.echo(json_of(reply))
            return
        self._rows.append(tuple(printable(str(cell)) for cell in cells))
        if self._widths is not None or len(self._rows) == _FIRST:
            self._flush()

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        if not rows:
            return
        if self._widths is None:
            self._widths = [max(map(len, column)) for column in zip(self._heads, *rows, strict=True)][:-1]
            self._print(self._heads, bold=True)
        for row in rows:
            self._print(row)

    def _print(self, cells: tuple[str, ...], *, bold: bool = False) -> None:
        assert self._widths is not None
        padded = [cell.ljust(width) for cell, width in zip(cells, self._widths, strict=False)]
        click.echo(click.style("  ".join([*padded, cells[-1]]).rstrip(), bold=bold or None))
