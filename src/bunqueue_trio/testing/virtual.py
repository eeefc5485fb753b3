"""Trio runs that repeat: in virtual time, with tasks in an order that a seed decides."""

from collections.abc import Callable, Sequence
from typing import Any

import trio
import trio.testing
from trio._core import _run as scheduler


def run(
    main: Callable[[], Any],
    *,
    seed: int = 0,
    clock: trio.abc.Clock | None = None,
    instruments: Sequence[trio.abc.Instrument] = (),
) -> Any:
    """Run ``main`` as :func:`trio.run` does; what is ready at the same time runs in an order that ``seed`` decides.

    Trio shuffles tasks so that nobody relies on an order. It can do that by a seed, for
    Hypothesis; there is no public name for it, so without these two the run is only not repeatable.
    """
    before = getattr(scheduler, "_ALLOW_DETERMINISTIC_SCHEDULING", False), scheduler._r.getstate()  # noqa: SLF001
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]  # noqa: SLF001
    scheduler._r.seed(seed)  # noqa: SLF001
    try:
        return trio.run(main, clock=clock or trio.testing.MockClock(autojump_threshold=0), instruments=instruments)
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = before[0]  # type: ignore[misc]  # noqa: SLF001
        scheduler._r.setstate(before[1])  # noqa: SLF001
