"""A server that answers what an operator does before it is committed, of one kind: for the crash test, which must find it.

``python -m tests.wire.crash_faults KIND serve …`` is the server with that fault.
"""

import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from bunqueue_trio.cli import main
from bunqueue_trio.engine import many
from bunqueue_trio.engine.facts import Facts
from bunqueue_trio.engine.gates import CONCURRENCY, PAUSED
from bunqueue_trio.engine.marks import MARK
from bunqueue_trio.engine.trails import ACTIONS, LOG, Line, Trails

LATE_S = 0.2
"""About how long they are on no disk."""


def _late(kind: type[Any], is_late: Callable[[Any], bool]) -> None:
    """Write some of what facts or trails give with a later batch."""
    take: Callable[[Any], list[Any]] = kind.take
    held: deque[tuple[float, Any]] = deque()

    def taken(self: Any) -> list[Any]:
        now, changes = time.monotonic(), take(self)
        held.extend((now + LATE_S, each) for each in changes if is_late(each))
        written = [each for each in changes if not is_late(each)]
        while held and held[0][0] <= now:
            written.append(held.popleft()[1])
        return written

    kind.take = taken


def _facts(kind: str) -> Callable[[], None]:
    return lambda: _late(Facts, lambda fact: fact[0] == kind)


def _lines(kind: str) -> Callable[[], None]:
    return lambda: _late(Trails, lambda line: isinstance(line, Line) and line.kind == kind)


def _forget_moves() -> None:
    """Write that a job was moved with whatever happens to it next."""

    def move(doing: Any, job: Any) -> None:
        done(doing, job)
        doing.engine.changed.pop(job, None)

    action = many.ACTIONS["move"]
    done = action.act
    many.ACTIONS["move"] = action._replace(act=move)


FAULTS: dict[str, tuple[Callable[[], None], str]] = {
    "pause": (_facts(PAUSED), "the pause is "),
    "limit": (_facts(CONCURRENCY), "the concurrency is "),
    "mark": (_facts(MARK), "the mark is "),
    "log line": (_lines(LOG), "logged with an answer"),
    "act": (_lines(ACTIONS), "is not in the log of acts"),
    "move": (_forget_moves, "moved with an answer"),
    "rerun": (_facts("rerun"), "a rerun"),
}
"""Kind → what plants it, and what the crash test says then."""

if __name__ == "__main__":
    FAULTS[sys.argv.pop(1)][0]()
    main()
