"""The bytes that the server holds for all its clients together."""

import pytest

from bunqueue_trio import errors
from bunqueue_trio.config import RECEIVE_BYTES
from bunqueue_trio.errors import Refused
from bunqueue_trio.runtime.budget import Budget

LITTLE = RECEIVE_BYTES
MUCH = RECEIVE_BYTES + 1


def test_a_byte_budget_is_of_all_its_holders_together_and_what_is_released_is_there_again():
    budget = Budget(100)
    with budget.hold() as mine:
        mine.grow(60)
        with budget.hold() as yours:
            with pytest.raises(Refused) as refused:
                yours.grow(41)
            assert (refused.value.status, str(refused.value), refused.value.code) == errors.BUFFERS_FULL[:3]
            assert refused.value.retry_after == 1
            assert (mine.size, yours.size, budget.held) == (60, 0, 60)  # what was refused takes no room
            yours.grow(40)
            mine.release()
            assert (mine.size, budget.held) == (0, 40)
            yours.grow(60)
    assert budget.held == 0


def test_a_hold_ends_however_its_request_ends():
    budget = Budget(100)
    hold = budget.hold()
    hold.grow(100)
    with pytest.raises(ZeroDivisionError), hold:
        raise ZeroDivisionError
    assert budget.held == 0
    hold.release()
    assert budget.held == 0, "once is enough"


def test_a_hold_that_fits_a_size_is_of_that_size_and_of_none_if_that_is_little():
    budget = Budget(2 * MUCH)
    hold = budget.hold()
    for size, held in ((LITTLE, 0), (MUCH, MUCH), (2 * MUCH, 2 * MUCH), (MUCH, MUCH), (LITTLE, 0), (0, 0)):
        assert hold.fit(size)
        assert hold.size == budget.held == held
    assert hold.fit(2 * MUCH)
    assert not hold.fit(2 * MUCH + 1)
    assert hold.size == budget.held == 2 * MUCH


def test_a_full_byte_budget_lets_go_of_what_shrinks():
    budget = Budget(MUCH)
    hold = budget.hold()
    hold.add(3 * MUCH)  # was found to fit before it was counted
    assert hold.fit(2 * MUCH)
    assert budget.held == 2 * MUCH


def test_a_byte_budget_refuses_what_is_much_and_would_not_fit():
    budget = Budget(MUCH)
    budget.check(MUCH)
    budget.hold().grow(1)
    budget.check(LITTLE)
    with pytest.raises(Refused, match="too many large requests"):
        budget.check(MUCH)
