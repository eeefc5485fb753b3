"""The pytest plugin: the fixtures ``bunqueue`` and ``bunqueue_seed``, for tests on Trio, on asyncio, and without a loop.

pytest loads it in every run of whoever has this package, so it imports next to nothing by itself, and
touches no test that does not use the fixture.
"""

import importlib.util
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import trio

    from bunqueue_trio.config import Settings
    from bunqueue_trio.testing.server import Bunqueue


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--bunqueue-seed``."""
    parser.getgroup("bunqueue").addoption(
        "--bunqueue-seed", type=int, default=0, metavar="N", help="Seed of everything random in tests with `bunqueue`."
    )


@pytest.fixture
def bunqueue_seed(request: pytest.FixtureRequest) -> int:
    """What everything random follows: ``--bunqueue-seed``, or parametrize it to try many."""
    seed: int = request.config.getoption("--bunqueue-seed")
    return seed


@pytest.fixture
def bunqueue_settings() -> "Settings | None":
    """The settings of the server of `bunqueue`; override it to return others."""
    return None


@pytest.fixture
def bunqueue(
    request: pytest.FixtureRequest, bunqueue_seed: int, bunqueue_settings: "Settings | None"
) -> "Iterator[Bunqueue]":
    """A server of the test's own: in virtual time for a test on Trio, in real time on asyncio and without a loop."""
    if request.node.get_closest_marker("trio") is not None:
        # Pytest-trio sees to its beginning and its end.
        yield request.getfixturevalue("_bunqueue_on_trio")
        return
    from bunqueue_trio.testing.server import Bunqueue

    with Bunqueue(bunqueue_settings, seed=bunqueue_seed) as running:
        yield running


if importlib.util.find_spec("pytest_trio") is not None:
    from pytest_trio import trio_fixture  # type: ignore[import-untyped]  # it is a plugin, so it is loaded anyway

    @trio_fixture  # type: ignore[untyped-decorator]
    async def _bunqueue_on_trio(bunqueue_seed: int, bunqueue_settings: "Settings | None") -> "AsyncIterator[Bunqueue]":
        from bunqueue_trio.testing.server import Bunqueue

        async with Bunqueue(bunqueue_settings, seed=bunqueue_seed) as running:
            yield running  # noqa: ASYNC119 - pytest-trio sees to its end


# Pytest-trio gives its own marker to whatever has none.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let every async test that uses the fixture run in virtual time, unless it is another loop's."""
    if not config.pluginmanager.hasplugin("trio"):
        return
    for item in items:
        if "bunqueue" in getattr(item, "fixturenames", ()) and _is_for_trio(item):
            item.add_marker(pytest.mark.trio(run=partial(_run, item)))


def _is_for_trio(item: pytest.Item) -> bool:
    if any(item.get_closest_marker(name) is not None for name in ("asyncio", "anyio")):
        return False
    if any("run" in marker.kwargs for marker in item.iter_markers("trio")):
        # It has said how it is run.
        return False
    function = getattr(item, "obj", None)
    # Hypothesis puts a function of its own around the test.
    function = getattr(getattr(function, "hypothesis", None), "inner_test", function)
    return inspect.iscoroutinefunction(function)


def _run(
    item: pytest.Item,
    main: Callable[[], Any],
    *,
    clock: "trio.abc.Clock | None",
    instruments: "Sequence[trio.abc.Instrument]",
) -> Any:
    """Run a test in virtual time, its tasks in an order that follows from the seed."""
    from bunqueue_trio.testing.virtual import run

    seed: int = getattr(item, "funcargs", {}).get("bunqueue_seed", 0)
    return run(main, seed=seed, clock=clock, instruments=instruments)
