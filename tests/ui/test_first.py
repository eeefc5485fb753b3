"""Pages that show some of all queues look for them in steps, however many there are."""

import random
import re
from pathlib import Path
from typing import Any

import pytest
import trio

from bunqueue_trio import ui
from bunqueue_trio.runtime.picture import QueueLook
from bunqueue_trio.ui import first as sought
from bunqueue_trio.ui.first import first

SORTS_ALL = re.compile(r"sorted\(\s*\(?\w+ for \w+ in (?:picture|looks|told|\S*\.queues)\b")


def look(name: str, waiting: int) -> QueueLook:
    return QueueLook(name, waiting, 0, 0, 0, 0, 0, 0, None, 0, None, None, None)


async def test_the_first_are_those_of_a_sorted_list_and_no_step_looks_at_many(monkeypatch: pytest.MonkeyPatch):
    rng = random.Random(1)
    looks = [look(f"q{n}", rng.randint(0, 5)) for n in range(500)]
    rng.shuffle(looks)
    seen, most_seen = 0, 0

    def wanted(each: QueueLook) -> bool:
        nonlocal seen, most_seen
        seen += 1
        most_seen = max(most_seen, seen)
        return each.waiting > 1

    async def others() -> None:
        nonlocal seen
        while True:
            await trio.lowlevel.checkpoint()
            seen = 0

    def place(each: QueueLook) -> Any:
        return -each.waiting, each.name

    monkeypatch.setattr(sought, "QUEUES_RANKED", 40)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        for most in (1, 30, 1000):
            ranked = sorted((each for each in looks if each.waiting > 1), key=place)
            assert await first(looks, most, wanted, place) == (ranked[:most], len(ranked))
        nursery.cancel_scope.cancel()
    # The two take turns in any order.
    assert most_seen <= 4 * 40
    assert await first([], 5, wanted, place) == ([], 0)


def test_no_view_sorts_all_queues():
    """Of 30,000 that takes 20 ms and more."""
    views = Path(ui.__file__).parent / "views"
    assert [path.name for path in views.glob("*.py") if SORTS_ALL.search(path.read_text())] == []
