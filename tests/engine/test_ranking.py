"""The largest groups of errors are found at once, whatever clients make their errors look like, dead letters and what is tried again together."""

import random
from collections import Counter
from itertools import islice
from typing import Any

import pytest

from bunqueue_trio.engine import ranking, shelf
from bunqueue_trio.engine.ranking import FIRST, DeadGroups, Ranking
from bunqueue_trio.engine.retrying import Retrying
from bunqueue_trio.protocol import commands as c
from tests.engine.make import Bench, make_job
from tests.engine.test_groups import die
from tests.engine.test_retrying import fail

COMMON = ["", "00", "0000000000"]


def keys_of(common: str, n: int) -> list[str]:
    """That many fingerprints that begin alike."""
    return [common + f"{i * 7919 % 16**6:x}".rjust(12, "0")[len(common) :] for i in range(n)]


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many keys were looked at in blocks, each time."""
    lengths: list[int] = []

    def noted(block: Any, *given: Any) -> Any:
        found = [*islice(block, *given)]
        lengths.append(len(found))
        return found

    monkeypatch.setattr(ranking, "islice", noted)
    monkeypatch.setattr(shelf, "islice", noted)
    return lengths


@pytest.mark.parametrize("common", COMMON)
def test_a_look_is_at_few_however_many_begin_alike(blocks: list[int], common: str):
    one = Ranking()
    keys = keys_of(common, 200 if len(common) > 9 else 20_000)
    for key in keys:
        one.add(key, 1)
    for key in keys:
        one.place(key)
    assert max(map(len, one._shelves[1]._blocks)) <= shelf._BLOCK_MAX
    for place in (FIRST, (-1, sorted(keys)[len(keys) // 2])):
        blocks.clear()
        assert one.behind(place, 100) == [(-1, key) for key in sorted(keys) if (-1, key) > place][:100]
        assert sum(blocks) <= shelf._BLOCK_MAX + 100


@pytest.mark.parametrize("seed", range(10))
def test_the_order_is_that_of_all_whatever_comes_and_goes(monkeypatch: pytest.MonkeyPatch, seed: int):
    monkeypatch.setattr(shelf, "_BLOCK_MAX", 3)
    rng, one, sizes = random.Random(seed), Ranking(), Counter[str]()
    keys = [*keys_of("", 40), *keys_of("00", 40), *keys_of("0000000", 40), "cancelled"]
    for _ in range(800):
        key = rng.choice(keys)
        n = rng.randint(-min(2, sizes[key]), 2)
        sizes[key] += n
        one.add(key, n)
        if rng.random() < 0.5:
            one.place(rng.choice(keys))
    order = sorted((-n, key) for key, n in sizes.items() if n)
    assert one.behind(FIRST, len(order)) == order
    for place in [*rng.sample(order, 20), (-1, "07"), (-2, "zzz")]:
        some = rng.randint(1, 9)
        assert one.behind(place, some) == [rank for rank in order if rank > place][:some]
    for key, n in list(sizes.items()):
        one.add(key, -n)
    assert one.behind(FIRST, 9) == []
    assert (one.sizes, one._shelves, one._stood) == ({}, {}, {})


@pytest.mark.parametrize("seed", range(10))
def test_those_that_died_and_those_that_are_tried_again_are_counted_together(seed: int):
    """Compared with a count of all; some of the changes are taken account of before a look, and all at it."""
    rng, dead, retrying = random.Random(seed), DeadGroups({("a", "f00"): 2}), Retrying()
    counts, jobs = Counter({("a", "f00"): 2}), list[Any]()
    retrying.with_dead(dead)
    for n in range(300):
        queue, key = rng.choice("ab"), rng.choice(["aaa", "aab", "f00", "f01", "cancelled"])
        match rng.randrange(4):
            case 0:
                many = rng.randint(-min(2, counts[queue, key]), 3)
                counts[queue, key] += many
                dead.add({(queue, key): many})
            case 1:
                job = make_job(n + 1, queue=queue, run_at=rng.randrange(5))
                job.noted().fingerprint = key
                retrying.add(job)
                jobs.append((job, queue, key))
            case 2 if jobs:
                job, _, _ = jobs.pop(rng.randrange(len(jobs)))
                retrying.take(job)
            case _:
                retrying.rank_some()
        for wanted in ("a", None):
            sizes = Counter[str]()
            for (name, error), many in (counts + Counter((name, error) for _, name, error in jobs)).items():
                sizes[error] += many if wanted in (None, name) else 0
            order = sorted((-many, error) for error, many in sizes.items() if many)
            groups = retrying.with_dead(dead)
            assert (groups.count(wanted), groups.behind(wanted, FIRST, 9)) == (len(order), order)
            assert all(retrying.is_ranked(error) for error in sizes)


def test_a_page_looks_at_no_more_groups_than_it_shows(bench: Bench, blocks: list[int]):
    for n in range(300):
        die(bench, f"no {chr(97 + n % 26) * (1 + n // 26)}")
        fail(bench, f"no {chr(97 + n % 26) * (1 + n // 26)}", backoff=3_600_000)
    bench.restart()
    retrying = bench.engine.retrying
    retrying.with_dead(retrying._dead)
    blocks.clear()
    assert len(retrying.behind(None, FIRST, 4)) == 4
    assert sum(blocks) <= shelf._BLOCK_MAX + 4
    page = bench.do(c.DeadGroups(retrying=True, limit=3))
    assert ([group.count + group.retrying for group in page.groups], page.total) == ([2, 2, 2], 300)


def test_after_a_start_and_a_new_count_the_sizes_are_those_of_then(bench: Bench):
    die(bench, "late")
    die(bench, "late")
    fail(bench, "late")
    fail(bench, "boom")
    bench.commit()
    bench.restart()
    retrying = bench.engine.retrying
    assert [-n for n, _ in retrying.behind(None, FIRST, 9)] == [3, 1]
    assert [-n for n, _ in retrying.with_dead(DeadGroups({})).behind("q", FIRST, 9)] == [1, 1]


def test_what_a_commit_brings_is_taken_account_of_some_in_each_step(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bunqueue_trio.engine.retrying._RANKED", 2)
    bench.restart()
    dead = DeadGroups({})
    bench.engine.retrying.with_dead(dead)
    dead.add({("q", f"{n:012x}"): 1 for n in range(5)})
    counts = []
    while not bench.engine.forget_some():
        counts.append(bench.engine.retrying.count(None))
    assert [*counts, bench.engine.retrying.count(None)] == [2, 4, 5]
    assert (dead._all._stood, dead._queues["q"]._stood) == ({}, {}), "who looks has nothing to make up for"


def test_jobs_that_fail_of_one_error_get_its_place_once(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """And those of many errors as they fail, but for the last few: a look is to place no more than these."""
    monkeypatch.setattr("bunqueue_trio.engine.retrying._RANKED", 2)
    retrying = bench.engine.retrying
    for _ in range(5):
        fail(bench, "boom")
    ranking_of_all = retrying._sums[None]
    assert (ranking_of_all._stood, len(retrying._unplaced)) == ({next(iter(retrying)): 0}, 1)
    for n in range(5):
        fail(bench, "no " + "xyzvw"[n])
    assert (len(ranking_of_all.sizes), len(ranking_of_all._stood)) == (6, 2)
    retrying._dead.add({("q", "f" * 12): 1})
    assert [bench.engine.forget_some(), bench.engine.forget_some()] == [False, True], "one that died, one that failed"
    assert (ranking_of_all._stood, retrying._unplaced) == ({}, {})
    assert [-n for n, _ in retrying.behind("q", FIRST, 9)] == [5, 1, 1, 1, 1, 1, 1]
