"""The course of all queues: minutes of a week, over crashes, and no more than is to be kept; lives of servers."""

import pytest

from bunqueue_trio.config import COURSE_APART_MS, FIGURES_HOURS, HOUR_MS, LIVES_KEPT
from bunqueue_trio.engine.course import COURSE, LIFE, Counts, Life
from bunqueue_trio.engine.figures import QueueMinute
from tests.engine.make import Bench

M = 60_000
START = 500_000 * HOUR_MS


@pytest.fixture
def bench(bench: Bench) -> Bench:
    bench.now = START
    return bench


def end(bench: Bench, *counts: int, after: int = M) -> None:
    """Let a minute end in which that much has happened."""
    bench.now += after
    bench.engine.figures.course.note(bench.now, [*counts, *[0] * (5 - len(counts))])
    bench.commit()


def test_minutes_are_found_by_a_window_across_hours(bench: Bench):
    for n in range(130):
        end(bench, n, 1)
    course = bench.engine.figures.course
    found = [*course.between(START + 55 * M, START + 65 * M)]
    assert [each.at for each in found] == [START + n * M for n in range(56, 66)]
    assert [each.pushed for each in found] == [*range(55, 65)]
    assert found[0] == Counts(START + 56 * M, 55, 1)
    assert course.since() == START
    # A part of a minute in a window is enough, on both ends.
    for begin, until in ((0, 1), (M - 1, M), (30_000, 40_000)):
        assert [each.at for each in course.between(START + 7 * M + begin, START + 7 * M + until)] == [START + 8 * M]
    assert [each.at for each in course.between(START + 59 * M + 1, START + 60 * M + 1)] == [
        START + 60 * M,
        START + 61 * M,
    ]
    assert [*course.between(START - HOUR_MS, START)] == []


def test_a_minute_in_which_nothing_happens_is_not_written(bench: Bench):
    end(bench)
    assert bench.engine.figures.course.since() is None
    end(bench, 1)
    end(bench)
    assert [each.at for each in bench.engine.figures.course.between(START, bench.now)] == [START + 2 * M]


def test_starts_that_follow_each_other_closely_make_no_more_minutes(bench: Bench):
    for _ in range(4 * HOUR_MS // COURSE_APART_MS):
        end(bench, 1, after=COURSE_APART_MS // 4)
    found = [*bench.engine.figures.course.between(START, bench.now)]
    assert len(found) <= HOUR_MS // COURSE_APART_MS
    assert sum(each.pushed for each in found) == 4 * HOUR_MS // COURSE_APART_MS
    # A clock that was set back.
    bench.now -= 10 * M
    end(bench, 1, after=0)
    assert [each.at for each in bench.engine.figures.course.between(START, bench.now + HOUR_MS)] == sorted(
        each.at for each in bench.engine.figures.course.between(START, bench.now + HOUR_MS)
    )


def test_what_happens_after_a_start_with_a_clock_ahead_has_its_own_minutes(bench: Bench):
    end(bench, 1)
    bench.now += 20 * M
    end(bench, 100)
    bench.now -= 20 * M
    end(bench, 7)
    end(bench, 11)
    course = bench.engine.figures.course
    assert [each.pushed for each in course.between(START, START + 4 * M)] == [1, 7, 11]
    assert [each.pushed for each in course.between(START, START + 30 * M)] == [1, 7, 11, 100]


def test_a_week_is_kept_and_outlives_a_crash(bench: Bench):
    for _ in range(FIGURES_HOURS + 5):
        end(bench, 3, after=HOUR_MS)
    assert len(bench.engine.facts.of(COURSE)) == FIGURES_HOURS
    bench.restart()
    found = [*bench.engine.figures.course.between(bench.now - 2 * HOUR_MS, bench.now)]
    assert [each.pushed for each in found] == [3, 3]


def test_figures_of_all_queues_come_by_the_minute_and_by_the_hour(bench: Bench):
    figures = bench.engine.figures
    for n in range(90):
        bench.now += M
        figures.note(bench.now, {"a": QueueMinute(bench.now, n, 0, 0, 0, 0, 0, 0)})
        bench.commit()
    minutes = [*figures.minutes_between(bench.now - 2 * M, bench.now)]
    assert [each["a"].pushed for each in minutes] == [88, 89]
    for begin, until in ((0, 1), (M - 1, M)):
        found = [*figures.minutes_between(bench.now - 2 * M + begin, bench.now - 2 * M + until)]
        assert [each["a"].pushed for each in found] == [88]
    hours = [*figures.hours_between(START, bench.now)]
    assert [each["a"].pushed for each in hours] == [sum(range(60)), sum(range(60, 90))]
    assert [each["a"].at for each in hours] == [START + HOUR_MS, bench.now]
    assert [*figures.hours_between(START - 3 * HOUR_MS, START)] == []


def test_lives_of_servers_are_kept_the_newest_of_them(bench: Bench):
    lives = bench.engine.figures.lives
    for n in range(LIVES_KEPT + 10):
        lives.note(Life(began=START + n, host="h", process=n, version="1"))
    lives.note(Life(began=START + LIVES_KEPT + 9, host="h", process=1, version="1", ended=START + M))
    bench.commit()
    bench.restart()
    known = bench.engine.figures.lives.all()
    assert [life.began for life in known] == [START + n for n in range(10, LIVES_KEPT + 10)]
    assert [life.ended for life in known[-2:]] == [None, START + M]
    assert len(bench.engine.facts.of(LIFE)) == LIVES_KEPT
