"""Errors of Python and of libraries that the project has anyway."""

import asyncio
import decimal
import json
import sqlite3
import ssl
import subprocess
import sys
import tomllib
import traceback
import xml.etree.ElementTree as ET
import zoneinfo
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import click
import httpx
import msgspec
import trio

from trials.errors.things import Things


class _Order(msgspec.Struct):
    count: int


def _sql(statement: str, *values: Any) -> Any:
    with closing(sqlite3.connect(":memory:")) as base:
        base.execute("CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT NOT NULL)")
        base.execute("INSERT INTO person VALUES (1, 'a')")
        return base.execute(statement, values)


def _deep(n: int) -> int:
    return _deep(n + 1)


async def _late(seconds: float) -> None:
    with trio.fail_after(seconds):
        await trio.sleep(9)


async def _late_too(seconds: float) -> None:
    async with asyncio.timeout(seconds):
        await asyncio.sleep(9)


def _raise(error: BaseException) -> None:
    raise error


FAULTS: dict[str, Callable[[Things], object]] = {
    "KeyError": lambda t: dict[str, int]()[t.word()],
    "index": lambda t: [][t.number()],
    "zero": lambda t: t.number() / 0,
    "int of text": lambda t: int(t.word()),
    "float of text": lambda t: float(t.word()),
    "no attribute": lambda t: getattr(t, t.name()),
    "none has no attribute": lambda t: getattr(None, t.name()),
    "not a file": lambda t: open(t.path()),
    "is a directory": lambda t: open(t.rng.choice(["/tmp", "/usr", "/etc"])),
    "no module": lambda t: __import__(t.name()),
    "json": lambda t: json.loads(f'{{"{t.word()}" }}'),
    "json is empty": lambda t: json.loads(" " * t.rng.randrange(9)),
    "too many arguments": lambda t: (lambda a: a)(*range(t.rng.randint(2, 90))),
    "concatenate": lambda t: t.word() + t.number(),  # type: ignore[operator]
    "unpack": lambda t: (lambda: [a for a, b in [range(t.rng.randint(3, 9))]])(),
    "decode": lambda t: (b"x" * t.rng.randrange(99) + b"\xff").decode(),
    "encode": lambda t: (t.word() + "é" * t.rng.randint(1, 3)).encode("ascii"),
    "recursion": lambda t: _deep(t.number()),
    "no table": lambda t: _sql(f"SELECT * FROM {t.name()}"),
    "no column": lambda t: _sql(f"SELECT {t.name()} FROM person"),
    "not unique": lambda t: _sql("INSERT INTO person VALUES (1, ?)", t.word()),
    "not null": lambda t: _sql("INSERT INTO person VALUES (?, NULL)", 2 + t.number()),
    "connection refused": lambda t: httpx.get(f"http://127.0.0.1:{t.port()}/{t.word()}"),
    "trio is late": lambda t: trio.run(_late, t.rng.random() / 1000),
    "asyncio is late": lambda t: asyncio.run(_late_too(t.rng.random() / 1000)),
    "a process failed": lambda t: subprocess.run([sys.executable, "-c", f"exit(3) # {t.word()}"], check=True),
    "a process is late": lambda t: subprocess.run(["sleep", str(5 + t.number())], check=True, timeout=0.01 + t.rng.random() / 100),
    "no program": lambda t: subprocess.run([t.path()], check=True),
    "msgspec: not an int": lambda t: msgspec.json.decode(f'{{"count": "{t.word()}"}}', type=_Order),
    "msgspec: missing": lambda t: msgspec.json.decode(f'{{"{t.name()}": {t.number()}}}', type=_Order),
    "msgspec: malformed": lambda t: msgspec.json.decode(f'{{"{t.word()}": {t.number()}'),
    "toml": lambda t: tomllib.loads("\n" * t.rng.randrange(9) + f"{t.name()} = "),
    "xml": lambda t: ET.fromstring("\n" * t.rng.randrange(9) + f"<{t.name()}>"),
    "decimal": lambda t: decimal.Decimal(t.word()),
    "time zone": lambda t: zoneinfo.ZoneInfo(f"Nowhere/{t.name()}"),
    "certificate": lambda t: ssl.create_default_context(cafile=t.path()),
    "choice": lambda t: click.Choice(["a", "b"]).convert(t.word(), None, None),
    "assert": lambda t: _raise(AssertionError(f"expected {[t.number() for _ in range(t.rng.randint(1, 5))]}, got {t.number()}")),
    "our own": lambda t: _raise(RuntimeError(f"payment {t.id()} was declined by {t.host()} after {t.rng.random() * 9:.1f} s")),
    "a group": lambda t: _raise(ExceptionGroup("workers failed", [ValueError(t.word()) for _ in range(t.rng.randint(1, 4))])),
}  # fmt: skip


def provoke(times: int, seed: int) -> Iterator[tuple[str, str]]:
    """Yield (fault, text), each fault as often as that: as one line, or with its traceback."""
    for n, (fault, cause) in enumerate(FAULTS.items()):
        things = Things(seed + n)
        for i in range(times):
            try:
                cause(things)
            except Exception as error:
                whole = traceback.format_exc()
                line = (
                    "".join(traceback.format_exception_only(error)).strip()
                    if fault == "a group"
                    else f"{_name(error)}: {error}"
                )
                yield f"python: {fault}", whole if i % 2 else line
            else:
                raise AssertionError(f"{fault} is none")


def _name(error: Exception) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
