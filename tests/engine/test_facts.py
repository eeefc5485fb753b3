"""Facts: what was set can be read, and what changed is written once, as it is then."""

import pytest

from bunqueue_trio.engine.facts import Facts
from tests.engine.make import Bench


@pytest.fixture
def facts() -> Facts:
    facts = Facts()
    facts.load([("pause", "a", b"1"), ("pause", "b", b"2"), ("limit", "a", b"3")])
    return facts


def test_what_was_loaded_is_known_and_is_no_change(facts: Facts):
    assert (facts.get("pause", "a"), facts.get("pause", "c"), facts.get("nothing", "a")) == (b"1", None, None)
    assert facts.of("pause") == {"a": b"1", "b": b"2"}
    assert facts.of("nothing") == {}
    assert facts.take() == []


def test_what_changed_goes_out_once_as_it_is_then(facts: Facts):
    facts.set("pause", "c", b"4")
    facts.set("pause", "a", b"5")
    facts.set("pause", "a", b"6")
    facts.delete("limit", "a")
    facts.set("new", "x", b"")
    facts.delete("new", "x")
    assert facts.take() == [
        ("pause", "c", b"4"), ("pause", "a", b"6"), ("limit", "a", None), ("new", "x", None),
    ]  # fmt: skip
    assert facts.take() == []
    assert (facts.of("limit"), facts.of("new")) == ({}, {})


def test_what_is_as_it_was_is_no_change(facts: Facts):
    facts.set("pause", "a", b"1")
    facts.delete("pause", "c")
    facts.delete("nothing", "a")
    assert facts.take() == []
    facts.set("empty", "a", b"")
    assert facts.take() == [("empty", "a", b"")]


def test_the_last_of_a_kind_takes_the_kind_along(facts: Facts):
    facts.delete("limit", "a")
    assert facts._kinds == {"pause": {"a": b"1", "b": b"2"}}


def test_the_engine_gives_them_with_the_changes_of_their_step():
    bench = Bench()
    bench.engine.facts.set("pause", "q", b"1")
    bench.push()
    changes = bench.engine.take()
    assert ([job.id for job in changes.jobs], changes.facts) == (["id-1"], [("pause", "q", b"1")])
    assert bench.engine.take().facts == []


def test_they_survive_a_restart_as_they_were_committed():
    bench = Bench()
    bench.engine.facts.set("pause", "q", b"1")
    bench.engine.facts.set("pause", "r", b"1")
    bench.commit()
    bench.engine.facts.delete("pause", "r")
    bench.commit()
    bench.engine.facts.set("pause", "s", b"1")
    bench.restart()
    assert bench.engine.facts.of("pause") == {"q": b"1"}
