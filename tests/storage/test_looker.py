"""Reads of a distant database for those who wait in the event loop: one after the other, once more where a connection had ended, and never for long."""

from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from bunqueue_trio.config import STORE_ANSWER_S
from bunqueue_trio.errors import StoreError
from bunqueue_trio.storage.postgres.link import DatabaseLink, Query, Row, Unanswered
from bunqueue_trio.storage.postgres.looker import Looker
from bunqueue_trio.storage.postgres.reads import Read


class Link:
    """Answers, or fails with what it was given; ``None`` is an answer."""

    def __init__(self, *fails: Exception | None, is_open: bool = True, takes_s: float = 0) -> None:
        self.fails, self.is_open, self.takes_s, self.asked = [*fails], is_open, takes_s, 0

    async def ask_soon(self, query: Query) -> list[Row]:
        self.asked += 1
        await trio.sleep(self.takes_s)
        fails = self.fails.pop(0) if self.fails else None
        if fails is not None:
            # Only a late answer leaves it open.
            self.is_open = isinstance(fails, Unanswered)
            raise fails
        return [(1,)]


def looker(link: Link) -> Looker:
    made = Looker("postgresql://nowhere")
    made._link = cast("DatabaseLink", link)
    return made


def read() -> Read[Any]:
    return Read(Query("SELECT 1"), lambda rows: rows[0][0])


async def test_a_connection_that_had_ended_costs_nobody_an_answer():
    link = Link(StoreError("it has ended"))
    assert await looker(link).ask(read) == 1
    assert link.asked == 2


@pytest.mark.parametrize("link", [Link(StoreError("no"), is_open=False), Link(Unanswered("late"))], ids=["new", "late"])
async def test_what_fails_for_another_reason_is_not_asked_again(link: Link):
    with pytest.raises(StoreError):
        await looker(link).ask(read)
    assert link.asked == 1


async def test_who_waits_for_others_waits_no_longer_than_for_an_answer(autojump_clock: MockClock):
    link = Link(takes_s=3 * STORE_ANSWER_S)
    asker = looker(link)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asker.ask, read)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        with pytest.raises(Unanswered, match="others wait for its answers"):
            await asker.ask(read)
        assert trio.current_time() == began + STORE_ANSWER_S
    assert link.asked == 1
