"""A command line whose server is a function: it is given the request that the command line would send, and returns the answer."""

import pkgutil
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

import msgspec
import pytest
from msgspec import inspect as types

from bunqueue_trio import cli
from bunqueue_trio.cli import remote
from bunqueue_trio.protocol.catalog import SPECS
from bunqueue_trio.protocol.commands import Command
from bunqueue_trio.protocol.request import request_of
from bunqueue_trio.protocol.routes import path_of_page
from bunqueue_trio.protocol.surrogates import read

# A command's module is read when the command is first used: it would keep what is put in place of a function for one test.
for _each in pkgutil.iter_modules(cli.__path__):
    import_module(f"{cli.__name__}.{_each.name}")


def over_http(answer: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``answer``, which takes what it is asked as method, target and body, if it has one, behind what stands before it.

    It may say of the reply only what a test is about.
    """

    def asked(*before: Any, **fields: Any) -> Any:
        *place, kind = before
        said = answer(*place, *(part for part in request_of(kind, fields) if part is not None))
        return reply_to(kind, said)

    return asked


def reply_to(kind: type[Command], said: dict[str, Any]) -> Any:
    """Return the reply to such a command that has these fields; those that are missing are empty."""
    reply = SPECS[kind].reply
    return read(msgspec.json.encode(_filled(types.type_info(reply), said)), reply)


def _filled(shape: types.Type, said: Any) -> Any:
    match shape:
        case types.UnionType(types=options) if said is not None:
            return _filled(next((each for each in options if not isinstance(each, types.NoneType)), shape), said)
        case types.StructType() if isinstance(said, dict):
            known = {field.encode_name: field for field in shape.fields}
            empty = {name: _empty(field.type) for name, field in known.items() if field.required and name not in said}
            return empty | {name: _filled(known[name].type, each) for name, each in said.items() if name in known}
        case types.ListType(item_type=item):
            return [_filled(item, each) for each in said]
        case _:
            return said


def _empty(shape: types.Type) -> Any:
    match shape:
        case types.StructType():
            return _filled(shape, {})
        case types.UnionType(types=options):
            return None if any(isinstance(each, types.NoneType) for each in options) else _empty(options[0])
        case types.StrType():
            return ""
        case types.ListType():
            return []
        case types.DictType():
            return {}
        case types.BoolType():
            return False
        case types.IntType() | types.FloatType():
            return 0
        case _:
            return None


def answer_with(monkeypatch: pytest.MonkeyPatch, module: ModuleType, answer: Callable[..., Any]) -> None:
    """Let ``answer`` be the server of the commands in ``module``, and of all that come page by page."""

    def page(url: str, token: str | None, name: str) -> Any:
        return answer(url, token, "GET", path_of_page(name))

    for each in (module, remote):
        monkeypatch.setattr(each, "answer", over_http(answer), raising=False)
        monkeypatch.setattr(each, "page_of", page, raising=False)
