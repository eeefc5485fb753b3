"""A line is a sorted list, whatever enters and leaves, in blocks that are neither empty nor too large."""

import gc
import random
from typing import Any

import pytest

from bunqueue_trio.engine import line as module
from bunqueue_trio.engine.line import BLOCK_MAX, Line
from bunqueue_trio.engine.queue import BY_PUSH
from tests.engine.make import make_job


class Thing:
    def __init__(self, place: int) -> None:
        self.place = place

    def __repr__(self) -> str:
        return f"Thing({self.place})"


def place(thing: Thing) -> int:
    return thing.place


def places(line: Line[Thing]) -> list[int]:
    return [thing.place for thing in line]


def check(line: Line[Thing]) -> None:
    assert all(0 < len(block) <= module.BLOCK_MAX for block in line.blocks)
    assert len(line) == len(list(line))
    assert bool(line) == (len(line) > 0)
    assert line.first() is next(iter(line), None)


def test_nobody_who_collects_garbage_looks_at_full_blocks_of_jobs(monkeypatch: pytest.MonkeyPatch):
    """But for the first and the last one, which change: with 3,000,000 jobs it would be a stop of 50 ms."""
    monkeypatch.setattr(module, "BLOCK_MAX", 4)
    grown, loaded = Line(BY_PUSH), Line(BY_PUSH)
    for n in range(1, 20):
        grown.add(make_job(n))
    loaded.fill([make_job(n) for n in range(1, 20)])
    gc.collect()
    for line in (grown, loaded):
        assert [len(block) for block in line.blocks] == [4, 4, 4, 4, 3]
        assert [gc.is_tracked(block) for block in line.blocks] == [True, False, False, False, True]
    behind, gone = make_job(20), grown.blocks[1][1]
    grown.add(behind)
    grown.remove(gone)
    assert [len(block) for block in grown.blocks] == [4, 3, 4, 4, 4]
    grown.add(gone)
    assert [job.seq for job in grown] == [*range(1, 21)]


@pytest.mark.thorough
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.untraced) for seed in range(2, 8))])
def test_it_is_a_sorted_list(seed: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "BLOCK_MAX", 4)
    rng = random.Random(seed)
    line: Line[Thing] = Line(place)
    truth: list[Thing] = []
    for n in range(600):
        free = {thing.place for thing in truth}
        where = rng.choice((n, n, -n, rng.randrange(-600, 600)))
        if (rng.random() < (0.7 if n < 300 else 0.3) or not truth) and where not in free:
            truth.append(Thing(where))
            line.add(truth[-1])
        elif truth:
            gone = truth.pop(rng.choice((0, rng.randrange(len(truth)))))
            line.remove(gone)
            assert gone not in line
        truth.sort(key=place)
        assert list(line) == truth
        assert all(thing in line for thing in truth)
        assert Thing(where) not in line
        behind = rng.randrange(-700, 700)
        assert list(line.after(behind)) == [thing for thing in truth if thing.place > behind]
        assert list(line.before(behind)) == [thing for thing in reversed(truth) if thing.place < behind]
        check(line)


@pytest.mark.parametrize("n", [0, 1, BLOCK_MAX, BLOCK_MAX + 1, 3 * BLOCK_MAX])
def test_it_is_filled_in_any_order(n: int):
    things = [Thing(i) for i in range(n)]
    random.Random(1).shuffle(things)
    line: Line[Thing] = Line(place)
    line.fill(things)
    assert places(line) == list(range(n))
    check(line)
    line.add(Thing(-1))
    line.add(Thing(n))
    assert places(line) == list(range(-1, n + 1))
    check(line)


def test_who_is_not_there_cannot_leave():
    line: Line[Thing] = Line(place)
    line.add(Thing(1))
    for stranger in (Thing(1), Thing(0), Thing(2)):
        with pytest.raises(ValueError, match="somewhere else"):
            line.remove(stranger)
    with pytest.raises(ValueError, match="in no line"):
        Line(place).remove(Thing(1))


@pytest.mark.parametrize("text", ["1000", "a-name"])
def test_names_and_numbers_are_those_that_are_equal(text: str):
    """Each command and each row brings one of its own."""

    def made() -> Any:
        return int(text) if text.isdigit() else "".join(text)

    line: Line[Any] = Line(lambda one: one)
    line.fill([made() * 2, made()])
    assert made() in line
    line.remove(made())
    assert (made() in line, list(line)) == (False, [made() * 2])


@pytest.mark.parametrize("leaves", range(5))
def test_those_in_one_place_leave_each_by_itself(monkeypatch: pytest.MonkeyPatch, leaves: int):
    """It must not be, and a file that says so must not end the server."""
    monkeypatch.setattr(module, "BLOCK_MAX", 2)
    line: Line[Thing] = Line(place)
    twins = [Thing(1) for _ in range(5)]
    line.fill([Thing(0), *twins, Thing(2)])
    assert Thing(1) not in line
    with pytest.raises(ValueError, match="somewhere else"):
        line.remove(Thing(1))
    line.remove(twins[leaves])
    assert all((twin in line) is (twin is not twins[leaves]) for twin in twins)
    assert places(line) == [0, 1, 1, 1, 1, 2]
    line.remove(twins[leaves - 1])
    assert places(line) == [0, 1, 1, 1, 2]


@pytest.mark.parametrize("now", [-1, 4, 99])
def test_who_is_to_have_another_place_has_to_leave_first(monkeypatch: pytest.MonkeyPatch, now: int):
    """Nobody is searched for among all of them."""
    monkeypatch.setattr(module, "BLOCK_MAX", 2)
    line: Line[Thing] = Line(place)
    things = [Thing(i) for i in range(6)]
    line.fill(list(things))
    things[2].place = now
    with pytest.raises(ValueError, match="somewhere else"):
        line.remove(things[2])


def test_entering_and_leaving_cost_the_same_in_a_long_line():
    """Counted in looks at a place: two searches by halves, however long it is."""
    looks = 0

    def counted(thing: Thing) -> int:
        nonlocal looks
        looks += 1
        return thing.place

    line: Line[Thing] = Line(counted)
    line.fill([Thing(2 * i) for i in range(100_000)])
    rng = random.Random(3)
    for _ in range(200):
        looks = 0
        thing = Thing(2 * rng.randrange(100_000) + 1)
        line.add(thing)
        assert next(line.after(thing.place)).place == thing.place + 1
        line.remove(thing)
        assert looks < 90
    looks = 0
    line.add(Thing(10**9))
    line.remove(line.blocks[0][0])
    assert looks <= 2


def test_everybody_knows_how_many_stand_before():
    line: Line[int] = Line(int)
    line.fill(list(range(0, 3000, 2)))
    for one in range(1, 3000, 200):
        line.add(one)
    assert [line.rank(one) for one in line] == list(range(len(line)))
