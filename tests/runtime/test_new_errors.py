"""Errors that jobs are tried again after: how much of them one look tells."""

import pytest

from bunqueue_trio.config import MINUTE_MS
from bunqueue_trio.engine.fingerprint import Fingerprint, fingerprint, work_of
from bunqueue_trio.engine.retrying import Retrying
from bunqueue_trio.runtime import new_errors
from bunqueue_trio.runtime.new_errors import NEW_MS, SEEN_MAX, SHAPED_US, NewErrors
from tests.engine.make import make_job

NOW = 2000
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def word(n: int) -> str:
    return "".join(LETTERS[n // 26**place % 26] for place in range(4))


def retrying(*errors: str) -> Retrying:
    """A job for each, the newest last."""
    groups = Retrying()
    for n, error in enumerate(errors):
        job = make_job(n + 1)
        job.started_at = 1000 + n
        job.noted().error, job.noted().fingerprint = error, fingerprint(error).key
        groups.add(job)
    return groups


def test_each_look_tells_of_some_slow_errors_the_newest_first(monkeypatch: pytest.MonkeyPatch):
    slow = [f"Err {word(n)} " + "a-" * 190 + "\n" + "x\n" * 450 for n in range(15)]
    groups, made = retrying(*slow), list[str]()

    def counted(error: str) -> Fingerprint:
        made.append(error)
        return fingerprint(error)

    monkeypatch.setattr(new_errors, "fingerprint", counted)
    errors = NewErrors()
    seen = list[str]()
    for _ in slow:
        errors.note_tried(groups, NOW)
        # As much as it may, and one that begins before the end.
        assert sum(map(work_of, made[:-1])) < SHAPED_US
        seen += made
        if not made:
            break
        made.clear()
        assert {each.fingerprint for each in errors.told(())} == {fingerprint(error).key for error in seen}
    assert seen == slow[::-1]
    assert {(each.shape, each.since) for each in errors.told(())} == {
        (fingerprint(error).shape, 1000 + n) for n, error in enumerate(slow)
    }


def test_a_look_tells_of_many_short_errors_at_once():
    errors = NewErrors()
    errors.note_tried(retrying(*(f"no {word(n)}" for n in range(30))), NOW)
    assert len(errors.told(())) == 30


def test_of_very_many_it_tells_of_the_newest():
    groups, errors = retrying(*(f"no {word(n)}" for n in range(SEEN_MAX + 100))), NewErrors()
    for _ in range(40):
        errors.note_tried(groups, NOW)
    told = errors.told(())
    assert len(told) == SEEN_MAX
    assert min(each.since for each in told) == 1100


def test_an_error_is_as_new_as_its_failure_however_long_the_attempt_took():
    errors = NewErrors()
    errors.note_tried(retrying("too late"), 1000 + 3 * NEW_MS)
    errors.forget(1000 + 3 * NEW_MS)
    [told] = errors.told(())
    assert told.since == 1000 + 3 * NEW_MS - MINUTE_MS
