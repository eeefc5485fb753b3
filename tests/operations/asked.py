"""A command line whose server is a function: it is given the request that the command line would send, and returns the answer."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from bunqueue_trio.cli import remote
from bunqueue_trio.protocol.request import request_of
from bunqueue_trio.protocol.routes import path_of_page


def over_http(answer: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``answer``, which takes what it is asked as method, target and body, if it has one, behind what stands before it."""

    def asked(*before: Any, **fields: Any) -> Any:
        *place, kind = before
        return answer(*place, *(part for part in request_of(kind, fields) if part is not None))

    return asked


def answer_with(monkeypatch: pytest.MonkeyPatch, module: ModuleType, answer: Callable[..., Any]) -> None:
    """Let ``answer`` be the server of the commands in ``module``, and of all that come page by page."""

    def page(url: str, token: str | None, name: str) -> Any:
        return answer(url, token, "GET", path_of_page(name))

    for each in (module, remote):
        monkeypatch.setattr(each, "answer", over_http(answer), raising=False)
        monkeypatch.setattr(each, "page_of", page, raising=False)
