"""The pytest plugin: the fixtures ``bunqueue`` and ``bunqueue_seed``, where pytest-trio is installed too.

pytest loads it in every run of whoever has this package, so it imports next to nothing by itself, and
touches no test that does not use the fixture.
"""

import importlib.util
from collections.abc import AsyncIterator, Callable, Sequence
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


if importlib.util.find_spec("pytest_trio") is not None:
    from pytest_trio import trio_fixture  # type: ignore[import-untyped]  # it is a plugin, so it is loaded anyway

    @trio_fixture  # type: ignore[untyped-decorator]
    async def bunqueue(bunqueue_seed: int, bunqueue_settings: "Settings | None") -> "AsyncIterator[Bunqueue]":
        """A server of the test's own, in virtual time."""
        from bunqueue_trio.testing.server import Bunqueue

        async with Bunqueue(bunqueue_settings, seed=bunqueue_seed) as running:
            yield running  # noqa: ASYNC119 - pytest-trio sees to its end


@pytest.hookimpl(tryfirst=True)  # pytest-trio gives its own marker to whatever has none
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let every test that uses the fixture run in virtual time, whether it asks for a clock or not."""
    for item in items:
        if "bunqueue" in getattr(item, "fixturenames", ()) and item.get_closest_marker("trio") is None:
            item.add_marker(pytest.mark.trio(run=partial(_run, item)))


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
