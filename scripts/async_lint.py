"""Runs flake8-async with the same findings, in a third of its time: it owns no rule.

By itself it walks over each file for each of its visitors, whatever is in the file, and before each walk finds again where
every node is. A file is named on the command line, as all its options are.
"""

import gc
from collections.abc import Iterator
from typing import Any

import flake8_async  # type: ignore[import-untyped]  # it says no types
from flake8_async.runner import Flake8AsyncRunner_cst  # type: ignore[import-untyped]  # the same
from libcst import MetadataWrapper

# What is in every file that one of its rules looks for something in.
WORDS = {"ASYNC101": "yield", "ASYNC124": "async def"}

_parse = flake8_async.cst_parse_module_native
_read: list[str] = []


def parse(source: str) -> Any:
    """Parse a file, and remember its text until it is walked over."""
    _read[:] = [source.lower()]
    return _parse(source)


def run(self: Any) -> Iterator[Any]:
    """Do what its own method does, which changes the tree after each walk, as nobody asks it to here."""
    text = _read.pop()
    visitors = [each for each in self.visitors if any(WORDS.get(code, "") in text for code in each.error_codes)]
    if not visitors and "noqa" not in text:
        return
    found = MetadataWrapper(self.module, unsafe_skip_copy=True)
    for visitor in (*self.utility_visitors, *visitors):
        found.visit(visitor)
    yield from self.state.problems
    self.noqas = self.utility_visitors[0].noqas


if __name__ == "__main__":
    # Its trees hold no circles, but are millions of objects: the collector would look through them a third of the time.
    gc.disable()
    flake8_async.cst_parse_module_native = parse
    Flake8AsyncRunner_cst.run = run
    raise SystemExit(flake8_async.main())
