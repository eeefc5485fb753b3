"""Figures of queues: what a minute and an hour were, over crashes, and no more than is to be kept."""

import functools
import random

import pytest

from bunqueue_trio.config import FIGURES_HOURS, FIGURES_MINUTES, FIGURES_ROWS_MAX, HOUR_MS
from bunqueue_trio.engine import figures
from bunqueue_trio.engine.engine import Rules
from bunqueue_trio.engine.figures import HOUR, MINUTE, QueueMinute, bucket_of, joined, part, upper
from bunqueue_trio.engine.fingerprint import fingerprint
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from tests.engine.make import Bench

M = 60_000
START = 500_000 * HOUR_MS


def minute(at: int, pushed: int = 1, **fields: int | dict[int, int]) -> QueueMinute:
    return QueueMinute(at, pushed, 0, 0, 0, 0, 0, 0)._replace(**fields)


@pytest.fixture
def bench(bench: Bench) -> Bench:
    bench.now = START
    return bench


def end(bench: Bench, *queues: str, **fields: int | dict[int, int]) -> None:
    """Let a minute end, in which as many were pushed as say its number in the hour."""
    bench.now += M
    n = bench.now // M % 60
    bench.engine.figures.note(bench.now, {name: minute(bench.now, n, **fields) for name in queues})
    bench.commit()


def test_minutes_and_hours_are_known_of_each_queue(bench: Bench):
    for _ in range(70):
        end(bench, "q", "q2")
    end(bench, "q")
    told = bench.do(c.GetFigures(queue="q"))
    assert [each.pushed for each in told.minutes] == [*range(12, 60), *range(12)]
    assert [each.at for each in told.minutes] == [START + n * M for n in range(12, 72)]
    assert [(each.at, each.pushed) for each in told.hours] == [
        ((START // HOUR_MS + 1) * HOUR_MS, sum(range(60))), (START + 71 * M, sum(range(12))),
    ]  # fmt: skip
    assert [each.at for each in bench.do(c.GetFigures(queue="q2")).minutes][-1] == START + 70 * M
    assert bench.do(c.GetFigures(queue="nobody")).hours == []
    with pytest.raises(Refused):
        bench.do(c.GetFigures(queue="no good"))


def test_an_hour_is_the_sum_of_its_minutes(bench: Bench):
    end(
        bench,
        "q",
        completed=2,
        failed=1,
        stalled=1,
        retried=1,
        waiting=9,
        dead=1,
        oldest=7,
        run=300,
        runs={9: 1, 15: 1},
    )
    end(bench, "q", completed=1, waiting=4, dead=2, oldest=5, run=100, runs={15: 1})
    [hour] = bench.do(c.GetFigures(queue="q")).hours
    assert (hour.pushed, hour.completed, hour.failed, hour.stalled, hour.retried) == (3, 3, 1, 1, 1)
    assert (hour.waiting, hour.dead, hour.oldest, hour.run, hour.p50, hour.p95) == (4, 2, 7, 133, upper(15), upper(15))


def test_what_never_ran_has_no_time(bench: Bench):
    end(bench, "q")
    [told] = bench.do(c.GetFigures(queue="q")).minutes
    assert (told.run, told.p50, told.p95) == (None, None, None)
    assert bench.engine.figures.usual("q") is None


def test_what_is_usual_is_that_of_the_last_hour_or_else_of_the_week(bench: Bench):
    end(bench, "q", runs={9: 20})
    assert bench.do(c.GetFigures(queue="q")).usual == upper(9)
    bench.now += 5 * HOUR_MS
    end(bench, "q2")
    assert (bench.do(c.GetFigures(queue="q")).minutes, bench.engine.figures.usual("q")) == ([], upper(9))
    end(bench, "q", runs={21: 10})
    assert bench.engine.figures.usual("q") == upper(21)


def test_fewer_than_ten_jobs_do_not_show_what_is_usual(bench: Bench):
    end(bench, "q", runs={9: 9})
    assert bench.engine.figures.usual("q") is None
    end(bench, "q", runs={9: 1})
    assert bench.engine.figures.usual("q") == upper(9)


def test_a_crash_forgets_nothing_of_them(bench: Bench):
    for n in range(50):
        end(bench, "q", runs={n: 1})
        if n % 7 == 0:
            bench.restart()
    before = bench.do(c.GetFigures(queue="q"))
    bench.restart()
    assert bench.do(c.GetFigures(queue="q")) == before
    for _ in range(20):
        end(bench, "q")
    hours = bench.do(c.GetFigures(queue="q")).hours
    bench.restart()
    assert [each.pushed for each in hours] == [sum(range(60)), sum(range(11))]
    assert bench.do(c.GetFigures(queue="q")).hours == hours


def test_an_hour_that_ended_while_the_server_was_down_is_summed_up(bench: Bench):
    for _ in range(30):
        end(bench, "q")
    bench.now += 40 * M
    bench.restart()
    told = bench.do(c.GetFigures(queue="q"))
    assert [each.pushed for each in told.hours] == [sum(range(31))]
    bench.commit()
    bench.now += 3 * HOUR_MS
    bench.restart()
    later = bench.do(c.GetFigures(queue="q"))
    assert (later.minutes, later.hours) == ([], told.hours)


def test_no_more_is_kept_than_is_said(bench: Bench):
    for _ in range(3 * FIGURES_ROWS_MAX):
        bench.now += 1
        bench.engine.figures.note(bench.now, {"q": minute(bench.now)})
    assert len(bench.engine.facts.of(MINUTE)) == FIGURES_ROWS_MAX
    for _ in range(FIGURES_HOURS + 5):
        bench.now += HOUR_MS
        bench.engine.figures.note(bench.now, {"q": minute(bench.now)})
        bench.commit()
    assert (len(bench.engine.facts.of(MINUTE)), len(bench.engine.facts.of(HOUR))) == (1, FIGURES_HOURS - 1)
    assert len(bench.do(c.GetFigures(queue="q")).hours) == FIGURES_HOURS
    bench.now += (FIGURES_HOURS + 1) * HOUR_MS
    bench.engine.figures.note(bench.now, {})
    assert (len(bench.engine.facts.of(MINUTE)), len(bench.engine.facts.of(HOUR))) == (0, 0)
    assert FIGURES_MINUTES < FIGURES_ROWS_MAX


def test_a_bucket_tells_a_time_within_half_of_it():
    rng = random.Random(1)
    for ms in [*range(200), *(rng.randrange(10**12) for _ in range(500))]:
        assert max(1, ms) <= upper(bucket_of(ms)) <= 1.5 * max(1, ms)
    assert upper(bucket_of(-5)) == 1
    assert [part({9: 19, 15: 1}, share) for share in (0.5, 0.95, 0.96, 1)] == [upper(9), upper(9), upper(15), upper(15)]
    assert part({}, 0.95) is None


def test_how_many_died_is_counted_whatever_becomes_of_them(bench: Bench):
    """A purge, a bound or ``removeOnFail`` takes away what is kept, not what has happened; what is tried again has not died."""
    bench.do(c.SetDefaults(queue="rof", remove_on_fail=True))
    for queue in ("q", "rof", "retried"):
        for n in range(3):
            bench.push(queue, max_attempts=2 if queue == "retried" else 1)
            bench.fail(bench.pull_id(queue) or "", f"boom {n}")
    bench.do(c.PurgeDlq(queue="q"))
    assert bench.engine.figures.take_bad()[0] == {"q": 3, "rof": 3}
    assert bench.engine.figures.take_bad()[0] == {}


def test_what_died_of_a_muted_error_is_not_counted(bench: Bench):
    bench.do(c.MarkGroup(fingerprint=fingerprint("boom 1").key, mark="muted"))
    for error in ("boom 1", "crash"):
        bench.push(max_attempts=1)
        bench.fail(bench.pull_id() or "", error)
    assert bench.engine.figures.take_bad()[0] == {"q": 1}


def test_how_many_died_survives_a_crash_and_is_summed_up(bench: Bench):
    end(bench, "q", died=2, runs={9: 1})
    end(bench, "q", died=3)
    bench.restart()
    minutes = [told["q"] for _, told in bench.engine.figures.minutes()]
    assert [(each.died, dict(each.runs)) for each in minutes] == [(2, {9: 1}), (3, {})]
    assert joined(*minutes).died == 5
    # A row that a server of before has written has no such number.
    bench.engine.facts.set(MINUTE, str(bench.now + M), b'{"q":[1,2,3,4,5,6,7,8,9,9,1]}')
    assert [told["q"].died for _, told in bench.engine.figures.minutes()][-1] == 0


def test_names_that_come_once_fill_no_memory(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(figures, "_COUNTED_MAX", 2)
    for name in ("a", "b", "c", "a"):
        bench.engine.figures.note_death(name)
    assert bench.engine.figures.take_bad() == ({"a": 2, "b": 1}, {})


def test_what_somebody_wanted_is_no_death_and_no_failed_attempt(bench: Bench):
    """Nor is it one of those that wait for it, however far."""
    for job_id in "bacd":
        bench.push(job_id=job_id)
    bench.push(job_id="e", depends_on=["a", "b"])
    bench.push(job_id="f", depends_on=["e"])
    bench.push(job_id="g", depends_on=["c"])
    bench.push(job_id="h", depends_on=["d"])
    bench.do(c.Discard(id="a"))
    bench.do(c.Cancel(id="c"))
    bench.do(c.Cancel(id="d", reason="no"))
    assert [bench.state(job_id).state for job_id in "aefgh"] == ["failed"] * 5
    bench.pull()
    bench.do(c.Discard(id="b"))
    assert bench.engine.figures.take_bad() == ({}, {})
    assert (bench.engine.totals.failed, bench.engine.totals.died) == (6, 0)


def test_what_nobody_wanted_is_a_death_and_each_attempt_is_counted():
    bench = Bench(Rules(lease=100, stalls_max=0))
    for job_id, options in (("a", {"max_attempts": 2, "backoff": 0}), ("b", {}), ("c", {}), ("d", {"ttl": 999})):
        bench.push(job_id, job_id=job_id, **options)  # type: ignore[arg-type]
        bench.push("w", depends_on=[job_id])
    for _ in range(2):
        bench.pull("a")
        bench.fail("a")
    bench.pull("b")
    bench.do(c.Fail(id="b", unrecoverable=True))
    bench.pull("c")
    bench.sleep(1000)
    died, failed = bench.engine.figures.take_bad()
    assert died == {"a": 1, "b": 1, "c": 1, "w": 4}
    assert failed == {"a": 2, "b": 1, "c": 1}
    assert bench.engine.totals.died == 7


def test_the_last_hour_is_added_up_as_it_goes_over_restarts(bench: Bench):
    """As the sum of its minutes, whatever comes and goes; and a queue in which nothing happens any more is forgotten."""
    rng = random.Random(1)
    for n in range(150):
        busy = [name for name in "abc" if rng.random() < 0.5 and (name != "c" or n < 20)]
        end(
            bench,
            *busy,
            completed=rng.randrange(9),
            died=rng.randrange(2),
            runs={rng.randrange(5): 1 + rng.randrange(3)},
        )
        if n % 40 == 7:
            bench.restart()
        for name in "abc":
            minutes = [told[name] for _, told in bench.engine.figures.minutes() if name in told]
            seen = bench.do(c.GetQueue(queue=name)).queue.lately
            if not minutes:
                assert seen is None
                continue
            whole = functools.reduce(joined, minutes)
            last = minutes[-1] if minutes[-1].at == bench.now else minute(0, 0)
            assert (seen.hour.in_, seen.hour.out) == (whole.pushed, whole.completed + whole.died)
            assert (seen.minute.in_, seen.minute.out) == (last.pushed, last.completed + last.died)
            assert (seen.p50, seen.p95) == (part(whole.runs, 0.5), part(whole.runs, 0.95))
    assert bench.do(c.GetQueue(queue="c")).queue.lately is None


def test_a_minute_ends_with_that_of_the_clock_and_never_twice(bench: Bench):
    figures = bench.engine.figures
    # The first one of a process may be in the middle, and another process may have ended one just before.
    assert figures.end_of_minute(START + 300) == START + 300
    figures.note(START + 300, {})
    assert figures.end_of_minute(START + M + 8) == START + M
    figures.note(START + M, {})
    # Woken a moment too early; a clock that was set back; a server that could not look for long.
    for now in (START + 2 * M - 1, START + M + 5000, START + 300, START + 2 * M + 20_000):
        assert figures.end_of_minute(now) == now
