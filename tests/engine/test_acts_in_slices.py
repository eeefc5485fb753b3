"""What was done in slices, each with a line of its own, is listed as one act."""

from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from bunqueue_trio.engine.actions import note_action
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.caller import By
from tests.engine.make import Bench

ANN = By("ann", "10.0.0.7")
RETRY, DRAIN = c.ActOnJobs(filter=c.Filter(queue="q"), action="retry"), c.Drain(queue="q")


def steps(bench: Bench, act: c.Command, *, of: int, apart_ms: int = 1000, between: c.Command | None = None) -> None:
    """Write down an act that takes some steps, as its slices do."""
    for n in range(of):
        # A drain has a place only where very much has come meanwhile.
        is_placed = n > 0 and "after" in act.__struct_fields__ and not isinstance(act, c.Drain)
        said = replace(act, after=f"place {n}") if is_placed else act
        note_action(
            bench.engine,
            said,
            r.ActReply(count=100, examples=[], refused={}, next=None, scanned=0),
            bench.now,
            ANN,
            None,
            None,
        )
        if between is not None:
            bench.do(replace(between, queue=f"q{n}"))
        bench.now += apart_ms


def listed(bench: Bench, limit: int = 100) -> list[list[tuple[str, int, Any]]]:
    """The pages of all acts: their commands, counts and slices."""
    bench.commit()
    pages, after = [], None
    while True:
        page = bench.do(c.Actions(limit=limit, after=after))
        assert len(page.actions) <= limit
        pages.append([(act.command, act.count, act.slices) for act in page.actions])
        after = page.next
        if after is None:
            return pages


@pytest.mark.parametrize(
    "act", [RETRY, DRAIN, c.Clean(queue="q", state="failed"), c.PurgeDlq(queue="q")], ids=lambda act: type(act).__name__
)
@pytest.mark.parametrize("limit", [1, 2, 100])
def test_what_is_done_in_slices_is_one_act(bench: Bench, act: c.Command, limit: int):
    bench.do(c.Pause(queue="q"))
    begun = bench.now
    steps(bench, act, of=70)
    bench.do(c.Resume(queue="q"))
    found = listed(bench, limit)
    name = type(act).__name__
    assert [row for page in found for row in page] == [("Resume", 1, UNSET), (name, 7000, 70), ("Pause", 1, UNSET)]
    assert len(found) == (3 if limit == 1 else 2 if limit == 2 else 1)
    whole = bench.do(c.Actions(limit=2)).actions[-1]
    assert (whole.at, "after" in whole.fields) == (begun, False), "it stands there as it began"
    assert bench.do(c.Actions()).total == 72


def test_acts_in_slices_that_went_on_beside_each_other_are_one_each(bench: Bench):
    steps(bench, RETRY, of=3, between=c.Pause())
    assert listed(bench) == [[("Pause", 1, UNSET), ("Pause", 1, UNSET), ("Pause", 1, UNSET), ("ActOnJobs", 300, 3)]]
    steps(bench, RETRY, of=1, apart_ms=1)
    assert listed(bench)[0][0] == ("ActOnJobs", 100, UNSET), "one without a cursor is another one"
    assert [len(page) for page in listed(bench, 2)] == [2, 2, 2], "more than a page wants are between its slices"


@pytest.mark.parametrize(
    ("act", "apart_ms", "rows"), [(RETRY, 60_000, 1), (RETRY, 60_001, 3), (DRAIN, 10_000, 1), (DRAIN, 10_001, 3)]
)
def test_slices_that_are_far_apart_are_several_acts(bench: Bench, act: c.Command, apart_ms: int, rows: int):
    steps(bench, act, of=3, apart_ms=apart_ms)
    assert [len(page) for page in listed(bench)] == [rows]


def test_slices_belong_to_the_one_next_to_them(bench: Bench):
    steps(bench, DRAIN, of=2, apart_ms=5000)
    bench.now += 50_000
    steps(bench, DRAIN, of=1)
    assert listed(bench) == [[("Drain", 100, UNSET), ("Drain", 200, 2)]]


def test_an_act_of_very_many_slices_comes_in_parts(bench: Bench):
    steps(bench, RETRY, of=1100, apart_ms=1)
    assert listed(bench, 3) == [
        [("ActOnJobs", 50_000, 500)],
        [("ActOnJobs", 50_000, 500)],
        [("ActOnJobs", 10_000, 100)],
    ]


@pytest.mark.parametrize("other", [By("bob", "10.0.0.7"), By("ann", "10.0.0.8")])
def test_two_who_do_the_same_have_each_an_act(bench: Bench, other: By):
    for by in (ANN, other, ANN):
        note_action(bench.engine, DRAIN, r.DrainReply(count=1, left=9), bench.now, by, None, None)
    assert sorted(count for page in listed(bench) for _, count, _ in page) == [1, 2]
