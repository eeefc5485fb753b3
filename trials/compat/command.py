"""`scripts/compat.py`: compares the two servers, says what nobody has declared, and writes or checks the page."""

import argparse
import sys
from difflib import unified_diff
from pathlib import Path

from trials.compat.comparison import Comparison, Row, compare_servers
from trials.compat.page import PAGE, written
from trials.lib.servers import original, ours


def main() -> int:
    """Compare; return 0 when the page says what was found and everything in it is declared."""
    parser = argparse.ArgumentParser(
        description="Put the same calls to bunqueue and to this server, and compare the answers."
    )
    parser.add_argument("--write-docs", action="store_true", help="put the tables into docs/compatibility.md")
    parser.add_argument("--original", type=Path, help="a directory where npm has installed bun and bunqueue")
    parser.add_argument("--all", action="store_true", help="also print what differs and is declared")
    arguments = parser.parse_args()
    there = original(arguments.original)
    if isinstance(there, str):
        print(f"compat: {there}", file=sys.stderr)
        return 2
    found = compare_servers(there, ours())
    if arguments.all:
        print_all(found)
    for problem in found.problems:
        print(f"compat: {problem}")
    page = PAGE.read_text(encoding="utf-8")
    new = written(page, found)
    if new != page and arguments.write_docs:
        PAGE.write_text(new, encoding="utf-8")
        print(f"compat: {PAGE.name} is written")
    elif new != page:
        print(
            "\n".join(
                unified_diff(page.splitlines(), new.splitlines(), "as it is", "as it was found", lineterm="", n=0)
            )
        )
        print("compat: docs/compatibility.md says something else; --write-docs writes it")
    differing = [row for row in found.rows if row.differs]
    print(f"compat: {len(found.rows)} routes and commands, {len(differing)} differ, {len(found.problems)} undeclared")
    return 1 if found.problems or (new != page and not arguments.write_docs) else 0


def print_all(found: Comparison) -> None:
    """Print every difference."""
    for row in found.rows:
        if row.differs:
            print(_words(row))


def _words(row: Row) -> str:
    return f"{row.route}: {row.here or 'not here'}\n  HTTP: {row.http}\n  WebSocket: {row.websocket}"
