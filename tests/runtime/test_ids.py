"""Ids and lock tokens: UUIDv7s that rise whatever the clock does."""

from random import Random
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.protocol.replies import fence
from bunqueue_trio.runtime.ids import LEAD_MS, Ids, answers_at_once
from bunqueue_trio.storage.store import Batch

NOW = 1_700_000_000_000


def test_ids_are_uuids_of_version_7_of_their_time():
    ids = Ids(0)
    for now in (1, NOW, NOW + 1, 2**48 - 1):
        text = ids(now)
        parsed = UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 7, UUID(int=0x8 << 60).variant)
        assert parsed.int >> 80 == now


def test_two_servers_make_different_ids_in_the_same_moment():
    one, other = Ids(0), Ids(0)
    assert len({one(NOW) for _ in range(50)} | {other(NOW) for _ in range(50)}) == 100
    assert [Ids(0, Random(1))(NOW) for _ in range(2)] == [Ids(0, Random(1))(NOW)] * 2


def test_more_ids_in_a_moment_than_the_counter_holds():
    ids = Ids(0)
    made = [ids(NOW) for _ in range(10_000)]
    assert made == sorted(set(made))
    assert UUID(made[-1]).int >> 80 == NOW + 10_000 // 4096


@given(st.lists(st.one_of(st.integers(-(10**12), 10**12), st.just("restart")), max_size=60))
def test_ids_and_fences_rise_over_steps_of_the_clock_and_restarts(steps: list[int | str]):
    """Ids that were made since the last commit are forgotten by a restart: here none was ever committed in time."""
    ids, now, stamped, last = Ids(0), NOW, 0, ("", 0)
    for step in steps:
        if isinstance(step, str):
            ids = Ids(stamped)
            continue
        now = max(1, now + step)
        stamped = max(stamped, ids.stamp(now))
        for _ in range(3):
            text = ids(now)
            assert (text, fence(text)) > last
            assert text > last[0]
            assert last[1] < fence(text) < 2**63
            last = (text, fence(text))


def test_a_life_begins_above_what_the_one_before_may_have_made_since_its_last_commit():
    before = Ids(0)
    stamped = before.stamp(NOW)
    forgotten = before(NOW + LEAD_MS - 1)
    assert fence(Ids(stamped)(1)) > fence(forgotten)
    assert fence(Ids(stamped)(NOW + 60_000)) > fence(forgotten)


def test_a_delivery_is_answered_at_once_while_the_next_life_begins_above_its_number():
    """After the last note, which only a commit with events makes, for half of what a life begins above it."""
    engine = Engine(Ids(0), {})  # type: ignore[arg-type]
    committed = answers_at_once(engine)
    assert engine.at_once_until == 0
    committed(Batch(1, NOW, durable=False, jobs=[], stamp=NOW), 0.0)
    assert engine.at_once_until == 0
    committed(Batch(2, NOW, durable=False, jobs=[], events=[b"{}"], stamp=NOW + 7), 0.0)
    assert NOW + 1000 < engine.at_once_until < NOW + 7 + LEAD_MS
    assert fence(Ids(NOW + 7)(1)) > fence(Ids(0)(engine.at_once_until))
