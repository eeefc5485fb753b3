"""Tests that run on Trio and on asyncio, in real time: against real servers, since virtual time is Trio's."""

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest

LOOPS = ("trio", "asyncio")


def on_both(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make an async test one that runs on either loop; a parameter ``loop`` of it says which."""
    parameters = inspect.signature(test).parameters
    named = [*parameters.values()]
    if "loop" not in parameters:
        named.append(inspect.Parameter("loop", inspect.Parameter.KEYWORD_ONLY))

    def run(**values: Any) -> None:
        loop = values["loop"] if "loop" in parameters else values.pop("loop")
        anyio.run(partial(test, **values), backend=loop)

    run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
    run.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    run.__dict__.update(test.__dict__)  # marks
    return pytest.mark.parametrize("loop", LOOPS)(run)
