"""A time is said in the same ways wherever a program says one."""

import math
from datetime import timedelta
from typing import Any

import pytest

from bunqueue_trio.protocol.options import Backoff, failure_fields, push_fields
from bunqueue_trio.protocol.times import seconds_of, to_ms

SAID: list[tuple[Any, int]] = [
    (5, 5000), (0.0015, 2), (-1, -1000), ("5s", 5000), ("500ms", 500), ("1h30m", 5_400_000), (timedelta(minutes=2), 120_000),
]  # fmt: skip


@pytest.mark.parametrize(("said", "ms"), SAID)
def test_a_time_is_a_number_of_seconds_a_text_or_a_timedelta(said: Any, ms: int):
    assert to_ms("delay", said) == ms
    assert push_fields(1, dict.fromkeys(("delay", "backoff", "ttl", "timeout", "repeat_every"), said), str).items() >= {
        "delay": ms, "backoff": ms, "ttl": ms, "timeout": ms,
    }.items()  # fmt: skip
    assert push_fields(1, {"repeat_every": said}, str)["repeat"]["every"] == ms
    backoff = Backoff(type="exponential", delay=said, max_delay=said, jitter=0.5)
    assert push_fields(1, {"backoff": backoff}, str)["backoff"] == {
        "type": "exponential", "delay": ms, "maxDelay": ms, "jitter": 0.5,
    }  # fmt: skip
    assert failure_fields([{"id": "a", "retry_in": said}]) == [{"id": "a", "retryIn": ms}]


@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [
        ("5", ValueError, "delay must be a time with a unit, such as '60s', '5m' or '500ms', or a number of seconds, not '5'"),
        ("soon", ValueError, "delay must be a time such as '60s', '5m' or '500ms', not 'soon'"),
        ("", ValueError, "delay must be a time with a unit"),
        (True, TypeError, "delay must be a number of seconds, or a time such as '60s', not True"),
        ([5], TypeError, "delay must be a number of seconds"),
        (1e308, ValueError, "delay must have an end, not 1e.308 seconds"),
        (10**400, ValueError, "delay must have an end, not 1000"),
        (math.inf, ValueError, "delay must have an end, not inf seconds"),
        (math.nan, ValueError, "delay must have an end, not nan seconds"),
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused_by_its_name(said: Any, kind: type[Exception], told: str):
    with pytest.raises(kind, match=told):
        to_ms("delay", said)


def test_what_was_not_said_is_nothing_for_a_server_and_for_ever_here():
    assert to_ms("delay", None) is None
    assert seconds_of("timeout", None, zero=False) == math.inf
    assert seconds_of("timeout", math.inf, zero=False) == math.inf
    assert seconds_of("grace", timedelta(seconds=3), zero=True) == 3
    assert seconds_of("grace", 0, zero=True) == 0
    for none in (0, math.nan, -1):
        with pytest.raises(ValueError, match=f"timeout must be more than 0, not {none}"):
            seconds_of("timeout", none, zero=False)
