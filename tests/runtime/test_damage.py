"""The watch over damage: what the store has met shows at once and is logged once, and each part is looked over."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import trio

from bunqueue_trio.config import LOOK_AGAIN_S, LOOK_OVER_AFTER_S, LOOK_OVER_PAUSE_S, LOOK_OVER_S, Settings
from bunqueue_trio.errors import StoreBusy, StoreDamaged, StoreError, StoreGone
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.damage import Damage, DamageWatch
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.storage.memory import MemoryStore
from tests.runtime.runtime_world import START_MS, VirtualThread

FILE = "queue.db"
# Of the watch: it looks once a second, also at a day in which nothing happens.
DAY_S = 300


class Parts(MemoryStore):
    """Says of each of its parts what ``answers`` has, and notes who asks, and when."""

    def __init__(self, **answers: bool | Exception) -> None:
        super().__init__()
        self.answers = answers
        self.looks: list[tuple[str, float]] = []
        self.damage: str | None = None  # type: ignore[assignment]
        self.unread: StoreError | None = None

    def parts(self) -> tuple[str, ...]:
        if self.unread is not None:
            raise self.unread
        return tuple(self.answers)

    def look_over(self, part: str, is_over: Callable[[], bool]) -> bool:
        self.looks.append((part, trio.current_time()))
        answer = self.answers[part]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def short_days(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bunqueue_trio.runtime.damage.LOOK_OVER_EVERY_S", DAY_S)


@pytest.fixture
async def clock() -> Clock:
    return Clock(START_MS)


async def test_damage_shows_at_once_and_is_logged_once(clock: Clock, logs):
    store = Parts()
    watch = DamageWatch(store, clock, FILE)
    assert watch.look() is None
    await trio.sleep(5)
    store.damage = "malformed"
    assert watch.look() == Damage("malformed", START_MS + 5000, FILE)
    await trio.sleep(5)
    assert watch.look() == Damage("malformed", START_MS + 5000, FILE), "since it was met"
    assert [(entry["log_level"], entry["file"], entry["what"]) for entry in logs] == [("error", FILE, "malformed")]


async def test_damage_is_logged_although_nobody_asks(clock: Clock, nursery: trio.Nursery, logs):
    store = Parts()
    nursery.start_soon(DamageWatch(store, clock, FILE).run)
    await trio.sleep(100.5)
    assert logs == []
    store.damage = "malformed"
    await trio.sleep(1)
    assert [entry["event"] for entry in logs] == ["the file is damaged"]


async def test_each_server_has_a_watch_and_tells_what_it_knows(clock: Clock):
    store = Parts()
    server = Server(Settings(data_path=FILE), store, clock)
    assert "damage watch" in [child.name for child in server.services]
    assert server.statistics().storage.damage is None
    store.damage = "malformed"
    assert server.statistics().storage.damage == Damage("malformed", START_MS, FILE)


async def test_all_parts_are_looked_over_one_after_the_other_soon_after_the_start_and_every_day(
    clock: Clock, nursery: trio.Nursery, thread: VirtualThread, logs
):
    """Whatever one of them says, the others are looked at; what took too long is said."""
    store = Parts(a=StoreDamaged("a"), b=StoreDamaged("b"), c=False, d=True)
    begun = trio.current_time()
    nursery.start_soon(DamageWatch(store, clock, FILE).run)
    await trio.sleep(LOOK_OVER_AFTER_S - 0.01)
    assert store.looks == []
    await trio.sleep(60)
    assert [part for part, _ in store.looks] == ["a", "b", "c", "d"]
    times = [at - begun for _, at in store.looks]
    assert times[0] >= LOOK_OVER_AFTER_S
    assert min(after - before for before, after in pairwise(times)) >= LOOK_OVER_PAUSE_S
    assert thread.calls == 4, "none of them in the event loop"
    assert [(entry["log_level"], entry["table"]) for entry in logs] == [
        ("warning", "a"),
        ("warning", "b"),
        ("info", "c"),
    ]
    await trio.sleep(DAY_S)
    assert len(store.looks) == 8


async def test_what_could_not_be_looked_at_is_tried_again_until_it_is_back_and_said_once(
    clock: Clock, nursery: trio.Nursery, thread: VirtualThread, logs
):
    """A file that is away, another process, a disk that does not read. What was looked at already is not looked at again for that."""
    store = Parts(a=StoreGone("away"), b=True, c=StoreBusy("locked"), d=StoreDamaged("d"))
    nursery.start_soon(DamageWatch(store, clock, FILE).run)
    await trio.sleep(LOOK_AGAIN_S * 4)
    asked = [part for part, _ in store.looks]
    assert asked[:6] == ["a", "b", "c", "d", "a", "c"]
    assert set(asked[4:]) == {"a", "c"}
    assert len(asked) < 12
    assert [entry["table"] for entry in logs] == ["a", "c", "d"]
    store.answers |= {"a": True, "c": True}
    store.looks.clear()
    await trio.sleep(LOOK_AGAIN_S + 5)
    assert [part for part, _ in store.looks] == ["a", "c"]
    await trio.sleep(DAY_S)
    assert [part for part, _ in store.looks[2:]] == ["a", "b", "c", "d"]


async def test_a_store_that_does_not_say_what_it_has_is_asked_again_soon(
    clock: Clock, nursery: trio.Nursery, thread: VirtualThread, logs
):
    store = Parts(a=True)
    store.unread = StoreError("no")
    nursery.start_soon(DamageWatch(store, clock, FILE).run)
    await trio.sleep(LOOK_AGAIN_S * 4)
    assert (store.looks, [entry["log_level"] for entry in logs]) == ([], ["warning"])
    store.unread = None
    await trio.sleep(LOOK_AGAIN_S)
    assert len(store.looks) == 1


async def test_a_store_whose_names_are_damaged_is_asked_the_next_day(
    clock: Clock, nursery: trio.Nursery, thread: VirtualThread, logs
):
    store = Parts(a=True)
    store.unread = StoreDamaged("no")
    nursery.start_soon(DamageWatch(store, clock, FILE).run)
    await trio.sleep(LOOK_OVER_AFTER_S + 1)
    store.unread = None
    await trio.sleep(LOOK_AGAIN_S * 2)
    assert (store.looks, [entry["log_level"] for entry in logs]) == ([], ["warning"])
    await trio.sleep(DAY_S)
    assert len(store.looks) == 1


async def test_a_look_is_over_when_its_time_is_up_or_its_task_is_cancelled(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    """In a real thread."""
    answers, now = list[bool](), [100.0]
    monkeypatch.setattr("bunqueue_trio.runtime.damage.time.monotonic", lambda: now[0])
    begun = trio.Event()

    class Asks(Parts):
        def look_over(self, part: str, is_over: Callable[[], bool]) -> bool:
            if part == "long":
                answers.append(is_over())
                now[0] += LOOK_OVER_S
                answers.append(is_over())
                now[0] = math.nextafter(now[0], math.inf)
                answers.append(is_over())
                return False
            trio.from_thread.run_sync(begun.set)
            while True:
                is_over()

    watch = DamageWatch(Asks(), clock, FILE)
    assert await watch._look_at("long", set())
    assert answers == [False, False, True]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch._look_at, "other", set())
        await begun.wait()
        nursery.cancel_scope.cancel()
