"""The rate limit is a true sliding window per client, in a table that is bounded."""

import random
from collections import deque

import pytest

from bunqueue_trio.runtime.limiter import RateLimiter

WINDOW = 1000


@pytest.fixture
def limiter() -> RateLimiter:
    return RateLimiter(WINDOW, 3)


def test_a_rate_limit_lets_its_number_of_requests_through_and_no_more(limiter: RateLimiter):
    assert [limiter.retry_after_ms("a", now) for now in (0, 10, 20)] == [0, 0, 0]
    assert limiter.retry_after_ms("a", 30) == 970


def test_the_wait_that_is_answered_is_exact(limiter: RateLimiter):
    for now in (0, 10, 20):
        limiter.retry_after_ms("a", now)
    wait = limiter.retry_after_ms("a", 500)
    assert limiter.retry_after_ms("a", 500 + wait - 1) == 1
    assert limiter.retry_after_ms("a", 500 + wait) == 0


def test_the_window_slides_and_does_not_begin_anew(limiter: RateLimiter):
    """A fixed window lets twice the limit through at its edge."""
    for now in (900, 950, 990):
        assert limiter.retry_after_ms("a", now) == 0
    assert [limiter.retry_after_ms("a", now) > 0 for now in (1000, 1100, 1899)] == [True] * 3
    assert limiter.retry_after_ms("a", 1900) == 0
    assert limiter.retry_after_ms("a", 1901) > 0


def test_refused_requests_do_not_count(limiter: RateLimiter):
    for _ in range(3):
        limiter.retry_after_ms("a", 0)
    for now in range(1, WINDOW):
        assert limiter.retry_after_ms("a", now) == WINDOW - now
    assert limiter.retry_after_ms("a", WINDOW) == 0


def test_clients_do_not_count_for_each_other(limiter: RateLimiter):
    for _ in range(4):
        limiter.retry_after_ms("a", 0)
    assert limiter.retry_after_ms("b", 0) == 0


def test_without_a_rate_limit_nothing_is_counted():
    limiter = RateLimiter(WINDOW, None)
    assert [limiter.retry_after_ms("a", 0) for _ in range(1000)] == [0] * 1000
    assert (len(limiter), limiter.enabled) == (0, False)
    assert RateLimiter(WINDOW, 1).enabled


def test_the_table_is_bounded_and_the_idlest_makes_room():
    limiter = RateLimiter(WINDOW, 1, clients_max=3)
    for now, client in enumerate("abcd"):
        limiter.retry_after_ms(client, now)
    assert len(limiter) == 3
    assert [limiter.retry_after_ms(client, 10) > 0 for client in "bcd"] == [True] * 3
    assert limiter.retry_after_ms("a", 11) == 0


def test_cleaning_forgets_the_idle_and_only_them(limiter: RateLimiter):
    for now, client in ((0, "a"), (10, "b"), (20, "a"), (30, "c")):
        limiter.retry_after_ms(client, now)
    assert limiter.clean(1009) == 0
    assert limiter.clean(1010) == 1
    assert len(limiter) == 2
    assert limiter.clean(1030) == 2
    assert limiter.clean(5000) == len(limiter) == 0


@pytest.mark.parametrize("seed", range(10))
def test_it_agrees_with_a_list_of_all_requests(seed: int):
    rng = random.Random(seed)
    limit = rng.randrange(1, 6)
    limiter, history = RateLimiter(WINDOW, limit), {client: deque[int]() for client in "abc"}
    now = 0
    for _ in range(2000):
        now += rng.choice((0, 1, 10, 300))
        if rng.random() < 0.05:
            limiter.clean(now)
        client = rng.choice("abc")
        recent = [at for at in history[client] if at > now - WINDOW]
        wait = limiter.retry_after_ms(client, now)
        assert (wait == 0) == (len(recent) < limit)
        if wait == 0:
            history[client].append(now)
        else:
            assert wait == recent[-limit] + WINDOW - now
