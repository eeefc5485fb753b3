"""A step of the retention looks into some of the queues with bounds of their own, and into each in its turn."""

from collections import Counter

from bunqueue_trio.config import QUEUES_PRUNED
from bunqueue_trio.storage.bounded import Bounded
from bunqueue_trio.storage.tally import Tally
from tests.storage.ledger import keep

N = 2 * QUEUES_PRUNED + 5
NAMES = [f"q{i:03}" for i in range(N)]
TALLY = Tally(Counter({(name, "failed"): 2 for name in NAMES}), Counter())


def test_no_step_looks_into_more_queues_than_it_may_and_each_has_its_turn():
    bounded, retention = Bounded(), keep()._replace(dead_of=dict.fromkeys(NAMES, (1, 5)))
    assert bounded.over(retention, TALLY) == [(name, 1) for name in NAMES[:QUEUES_PRUNED]]
    turns = [[name for name, _ in bounded.aged(retention, TALLY)] for _ in range(4)]
    assert turns[0] + turns[1] + turns[2] == NAMES
    assert turns[3] == turns[0]
    assert max(map(len, turns)) == QUEUES_PRUNED


def test_a_queue_in_which_nothing_can_be_too_old_is_not_looked_into():
    bounds = {NAMES[0]: (1, 0), NAMES[1]: (10, 5), "empty": (10, 5)}
    assert Bounded().aged(keep()._replace(dead_of=bounds), TALLY) == [(NAMES[1], 5)]
