"""The rules about queues: workers, waiting times, failures, pauses, dead letters, and jobs that hang."""

import pytest
from msgspec.structs import replace

from bunqueue_trio.engine.failing import Died
from bunqueue_trio.engine.figures import bucket_of
from bunqueue_trio.pages.findings import Picture, find
from bunqueue_trio.pages.stuck import stuck_after
from bunqueue_trio.runtime.history import Past, QueueMinute
from bunqueue_trio.runtime.picture import PauseLook
from bunqueue_trio.runtime.statistics import Lost, ScheduleFigures, TaskFigures
from tests.ui.pictures_of_servers import GOOD, MINUTE, NOW, found, line, minute, queue


def test_schedules_that_missed_their_time_are_reported_for_an_hour():
    late = replace(GOOD, schedules=ScheduleFigures(3, 2, 1, (("c", NOW), ("b", NOW), ("nightly", NOW - 5 * MINUTE))))
    (finding,) = find(Picture(late, [], Past([minute(30)])))
    assert (finding.code, finding.alert, finding.since) == (
        "schedules-late", "BunqueueSchedulesLate", NOW - 5 * MINUTE,
    )  # fmt: skip
    assert finding.title == "Schedules missed their time 2 times within an hour, nightly last"
    assert finding.until == finding.since, "it is a moment, and over"
    assert finding.evidence.startswith("nightly was due 5 min ago. Before it b was late. Each of them says")
    assert finding.commands == ("bunqueue-trio schedules show nightly", "bunqueue-trio schedules run nightly")
    many = replace(late, schedules=ScheduleFigures(3, 9, 1, late.schedules.lately))
    assert "Before it b, c were late." in find(Picture(many, [], Past([minute(30)])))[0].evidence
    one = replace(late, schedules=ScheduleFigures(3, 1, 1, late.schedules.lately))
    assert "Before it" not in find(Picture(one, [], Past([minute(30)])))[0].evidence
    old = replace(late, started_at=NOW - 120 * MINUTE)
    assert find(Picture(old, [], Past([minute(59, late=1)])))[0].numbers["late"] == 1
    assert found(Picture(old, [], Past([minute(59, late=2)]))) == []
    # Of a start all that was late by then is shown.
    assert found(Picture(late, [], Past([minute(1, late=2)]))) == ["schedules-late"]


def test_a_schedule_whose_newest_run_died_is_a_warning_that_names_it():
    one = ("nightly", Died("nightly@2", NOW - 60 * MINUTE, NOW - MINUTE, 3))
    told = replace(GOOD, schedules=ScheduleFigures(9, 0, 0, died=(one,), dying=1))
    (finding,) = find(Picture(told, [], Past()))
    assert (finding.severity, finding.alert, finding.schedule) == ("warning", "BunqueueScheduleFails", "nightly")
    assert finding.title == "Schedule nightly: its last 3 runs died"
    assert (finding.since, finding.until) == (NOW - 60 * MINUTE, None)
    assert "nightly@2 died 1 min ago" in finding.evidence
    assert finding.commands == ("bunqueue-trio schedules show nightly", "bunqueue-trio schedules run nightly")
    others = tuple((f"s{n}", one[1]) for n in range(7))
    many = find(Picture(replace(told, schedules=ScheduleFigures(9, 0, 0, died=(one, *others), dying=8)), [], Past()))
    assert many[0].title.endswith("; so did the newest of 7 others")
    assert many[0].evidence.endswith("So it is with s0, s1, s2, s3, s4 and 2 more.")


def test_of_workers_that_vanish_only_a_death_of_this_hour_is_named():
    lost = replace(GOOD, totals=replace(GOOD.totals, lost_to_stalls=3, stalled=100), lost=Lost("j1", "mail"))
    (finding,) = find(Picture(lost, [], Past([minute(14, lost_to_stalls=2)])))
    assert (finding.job, finding.evidence) == ("j1", "1 job died of it within an hour, j1 of mail last.")
    assert finding.commands == (
        "bunqueue-trio workers", "bunqueue-trio jobs --state failed --error 'Job stalled'",
    )  # fmt: skip
    (finding,) = find(Picture(lost, [], Past([minute(14, lost_to_stalls=3)])))
    assert (finding.job, finding.commands) == (None, ("bunqueue-trio workers",))


def test_where_nobody_asks_it_is_said_what_to_do():
    (finding,) = find(Picture(GOOD, [queue("mails", waiting=3, oldest_ready_at=NOW - 2 * MINUTE)], Past()))
    assert finding.remedy.startswith("Start a worker for mails: `bunqueue-trio worker MODULE:NAME`.")


def test_a_queue_without_workers_is_reported_sooner_than_a_slow_one():
    waits = queue(waiting=3, oldest_ready_at=NOW - 2 * MINUTE)
    assert found(Picture(GOOD, [waits], Past())) == ["nobody-asks"]
    assert found(Picture(GOOD, [waits._replace(active=1)], Past())) == []
    served = Past(queues={"q": line({"completed": 5}, {"completed": 5})})
    assert found(Picture(GOOD, [waits], served)) == [], "by a worker that asks without waiting"
    assert found(Picture(GOOD, [waits._replace(pulls_waiting=1)], Past())) == []
    slow_one = waits._replace(active=1, oldest_ready_at=NOW - 10 * MINUTE)
    (finding,) = find(Picture(GOOD, [slow_one], Past()))
    assert (finding.code, finding.alert) == ("queue-waits", "BunqueueJobsWaitTooLong")
    assert "More comes than its workers can do" in finding.cause
    gated = slow_one._replace(active=0, opens_at=NOW + 5000)
    assert "rate limit lets none through for 5 s" in find(Picture(GOOD, [gated], Past()))[0].cause
    asked = slow_one._replace(active=0, pulls_waiting=2)
    assert "it has just begun to move" in find(Picture(GOOD, [asked], Past()))[0].cause


def test_a_queue_grows_only_when_it_does_so_steadily():
    one = queue(waiting=600, active=1, oldest_ready_at=NOW - MINUTE)
    grows = line(*({"waiting": 100 * n, "pushed": 120, "completed": 20} for n in range(6)))
    (finding,) = find(Picture(GOOD, [one], Past(queues={"q": grows})))
    assert finding.title == "q: grows by 100 a minute, 600 jobs wait"
    assert "120 a minute come, 20 a minute are done." in finding.evidence
    wavers = line(*({"waiting": n} for n in (0, 400, 100, 500, 200, 600)))
    assert found(Picture(GOOD, [one], Past(queues={"q": wavers}))) == []


def test_jobs_that_die_since_they_began_to():
    dies = line(
        {"dead": 5}, {"dead": 5}, {"dead": 30, "failed": 25, "died": 25}, {"dead": 60, "failed": 30, "died": 30}
    )
    (finding,) = find(Picture(GOOD, [queue(dead=60)], Past(queues={"q": dies})))
    assert (finding.code, finding.since, finding.numbers) == ("jobs-die", NOW - 3 * MINUTE, {"died": 55, "dead": 60})
    assert finding.title == "q: 55 jobs died within 2 min"
    assert finding.evidence.startswith(
        "55 attempts failed and 0 jobs completed in that time; 0 attempts failed and 0 jobs completed in the 1 min since; "
    )
    # Those that were dead before are only mentioned.
    assert found(Picture(GOOD, [queue(dead=60)], Past(queues={"q": line({"dead": 55}, {"dead": 60})}))) == [
        "dead-letters"
    ]


@pytest.mark.parametrize("kept", [0, 3], ids=["none is kept", "few are kept"])
def test_jobs_that_die_are_found_whatever_is_kept_of_them(kept: int):
    """A bound of the dead letters, a purge, a retry or ``removeOnFail`` must not hide that the jobs of a queue die."""
    dies = line({"dead": 3, "failed": 9, "died": 9}, {"dead": 3})
    (finding,) = find(Picture(GOOD, [queue(dead=kept)], Past(queues={"q": dies}, died={"q": 2})))
    assert (finding.code, finding.until, finding.numbers) == ("jobs-die", None, {"died": 11, "dead": kept})
    look = "bunqueue-trio dead q --groups" if kept else "bunqueue-trio watch --queue q --type failed"
    assert finding.commands[0] == look
    # A queue of which nothing is left is found, too.
    dies = line({"failed": 12, "died": 12})
    assert found(Picture(GOOD, [queue(dead=kept)] if kept else [], Past(queues={"q": dies}))) == ["jobs-die"]


def test_jobs_that_died_of_what_is_muted_since_are_not_found():
    dies = line({"dead": 30, "failed": 30, "died": 30})
    assert found(Picture(GOOD, [queue(dead=30, hushed=30)], Past(queues={"q": dies}))) == []


def test_jobs_that_died_without_an_attempt_are_said_to():
    (finding,) = find(Picture(GOOD, [queue(dead=30)], Past(queues={"q": line({"failed": 5, "died": 30})})))
    assert finding.cause.startswith("What they waited for failed")
    assert "in the 1 min since; 25 jobs died without an attempt; " in finding.evidence


def test_what_is_over_is_said_in_the_past():
    """Each of these goes on for as long as it is judged by; what ended before that is said to have."""
    lags = [0] * len(GOOD.histograms["loop_lag"].counts)
    lags[-1] = 30
    late = replace(
        GOOD, histograms=GOOD.histograms | {"loop_lag": GOOD.histograms["loop_lag"]._replace(counts=tuple(lags))}
    )
    none = tuple([0] * len(lags))
    (finding,) = find(Picture(late, [], Past([minute(5, lags=none), minute(1, lags=none)])))
    assert finding.title.startswith("The server is late: its event loop lags by up to")
    assert finding.until is None
    over = Past(
        [
            minute(5, lags=none),
            minute(4, lags=none),
            minute(3, lags=tuple(lags)),
            minute(2, lags=tuple(lags)),
            minute(1, lags=tuple(lags)),
        ]
    )
    (finding,) = find(Picture(late, [], over))
    assert finding.title.startswith("The server was late: its event loop lagged by up to")
    assert finding.until == NOW - 3 * MINUTE

    quiet = line({"failed": 20}, {"failed": 20}, {}, {}, {})
    (finding,) = find(Picture(GOOD, [queue(delayed=1)], Past(queues={"q": quiet})))
    assert finding.title == "q: most attempts failed, 20 a minute while that lasted"
    assert (finding.until, "was down" in finding.cause) == (NOW - 4 * MINUTE, True)
    assert finding.evidence == (
        "40 attempts failed and 0 jobs completed while that lasted; 0 attempts failed and 0 jobs completed in the 4 min since; "
        "1 job is delayed, 0 dead letters."
    )

    died = line({"dead": 0}, {"dead": 12, "failed": 12, "died": 12}, {"dead": 12}, {"dead": 12}, {"dead": 12})
    (finding,) = find(Picture(GOOD, [queue(dead=12)], Past(queues={"q": died})))
    assert (finding.code, finding.until) == ("jobs-die", NOW - 4 * MINUTE)
    assert "failed" in finding.cause
    assert finding.title == "q: 12 jobs died within 1 min"
    assert "; 0 attempts failed and 0 jobs completed in the 4 min since; " in finding.evidence
    (finding,) = find(Picture(GOOD, [queue(dead=13)], Past(queues={"q": died}, died={"q": 1}, failed={"q": 1})))
    assert (finding.until, "fails" in finding.cause) == (None, True)

    lost = replace(GOOD, totals=replace(GOOD.totals, lost_to_stalls=3, stalled=100))
    gone = [minute(14), minute(10, stalled=100, lost_to_stalls=3), minute(1, stalled=100, lost_to_stalls=3)]
    (finding,) = find(Picture(lost, [], Past(gone)))
    assert finding.title.startswith("Workers took jobs and were not heard of again")
    assert finding.until == NOW - 10 * MINUTE

    task = TaskFigures("flusher", "running", 5, "boom")
    (finding,) = find(Picture(replace(GOOD, tasks=(task,)), [], Past()))
    assert "has failed again and again within 10 minutes" in finding.title
    (finding,) = find(Picture(replace(GOOD, tasks=(task._replace(state="restarting"),)), [], Past()))
    assert "fails again and again" in finding.title


def test_attempts_that_fail():
    fails = line({"failed": 12, "completed": 3}, {"failed": 9})
    assert found(Picture(GOOD, [queue(delayed=20)], Past(queues={"q": fails}))) == ["attempts-fail"]
    some = line({"failed": 12, "completed": 30}, {"failed": 9})
    assert found(Picture(GOOD, [queue(delayed=20)], Past(queues={"q": some}))) == []


def test_a_job_that_takes_far_longer_than_others_do():
    """Its worker says that it lives, so nothing else would tell of it."""
    usual = line({"runs": {bucket_of(20_000): 8}}, {"runs": {bucket_of(1000): 4}})
    stuck = queue(active=3, active_since=NOW - 11 * MINUTE, active_id="j 1", active_at="mail-3")
    (finding,) = find(Picture(GOOD, [stuck], Past(queues={"q": usual})))
    assert (finding.code, finding.since) == ("job-stuck", NOW - 11 * MINUTE)
    assert finding.title == "q: a job has been active for 11 min, 99 of 100 others take 24 s at most"
    assert (
        finding.evidence
        == "It is j 1, and the worker mail-3 has it. 12 others completed within the hour, the slowest in 24 s."
    )
    assert (finding.job, finding.commands) == (
        "j 1", ("bunqueue-trio why 'j 1'", "bunqueue-trio jobs q active", "bunqueue-trio cancel 'j 1'"),
    )  # fmt: skip
    for other in (
        stuck._replace(active_since=NOW - 9 * MINUTE),
        stuck._replace(active_since=None),
    ):
        assert found(Picture(GOOD, [other], Past(queues={"q": usual}))) == []
    slow = line({"runs": {bucket_of(120_000): 12}})
    assert found(Picture(GOOD, [stuck], Past(queues={"q": slow}))) == [], "it is not ten times as long"
    few = line({"runs": {bucket_of(1000): 9}})
    assert found(Picture(GOOD, [stuck], Past(queues={"q": few}))) == [], "nobody knows what is usual"


def test_pauses():
    paused = queue(pause=PauseLook("ana", NOW - 13 * 60 * MINUTE, None))
    (finding,) = find(Picture(GOOD, [paused], Past()))
    assert (finding.severity, finding.title) == ("warning", "q: paused for 13 h: forgotten?")
    assert finding.cause.startswith("Somebody has paused it")
    (finding,) = find(Picture(GOOD, [queue(pause=PauseLook("ana", NOW - 13 * 60 * MINUTE, None, "bob"))], Past()))
    assert finding.cause.startswith("bob has paused it (“ana”)")
    until = paused._replace(pause=PauseLook(None, NOW - 13 * 60 * MINUTE, NOW + MINUTE))
    assert found(Picture(GOOD, [until], Past())) == []
    (finding,) = find(Picture(GOOD, [until._replace(waiting=2, oldest_ready_at=NOW - 60 * MINUTE)], Past()))
    assert finding.severity == "notice"
    assert "it ends by itself in 1 min" in finding.cause


def test_dead_letters_that_lie_around():
    (finding,) = find(Picture(GOOD, [queue("a", dead=1)], Past()))
    assert finding.title == "1 dead letter in a waits for a decision"
    (finding,) = find(Picture(GOOD, [queue("a", dead=1), queue("b", dead=9)], Past()))
    assert (finding.title, finding.evidence) == ("10 dead letters in 2 queues wait for a decision", "b: 9, a: 1")
    assert found(Picture(GOOD, [queue("a", dead=9, hushed=9)], Past())) == []
    (finding,) = find(Picture(GOOD, [queue("a", dead=9, hushed=8)], Past()))
    assert finding.title == "1 dead letter in a waits for a decision"


def test_attempts_that_fail_are_reported_as_they_fail_now():
    """The hour before, or the quarter of one, may have been another matter."""
    began = line(
        *({"completed": 900} for _ in range(10)), {"failed": 50, "completed": 5}, {"failed": 40, "completed": 2}
    )
    going_on = {"q": [0, 3, 45, 0, 0]}
    (finding,) = find(Picture(GOOD, [queue(delayed=7)], Past(queues={"q": began}, counted=going_on)))
    assert finding.title == "q: most attempts fail, 45 a minute"
    assert finding.since == NOW - 3 * MINUTE, "a minute is noted at its end"
    assert finding.numbers == {"failed": 135, "completed": 10, "delayed": 7}
    wanes = line({"failed": 600}, *({"failed": 60} for _ in range(10)), *({"failed": 6} for _ in range(3)))
    (finding,) = find(Picture(GOOD, [queue(delayed=7)], Past(queues={"q": wanes}, counted={"q": [0, 0, 6, 0, 0]})))
    assert finding.title == "q: most attempts fail, 6 a minute"
    assert finding.evidence.startswith("Within 3 min 18 attempts failed")
    heals = line({"failed": 600, "completed": 1}, *({"failed": 2, "completed": 50} for _ in range(4)))
    (finding,) = find(Picture(GOOD, [queue(delayed=7)], Past(queues={"q": heals})))
    assert (finding.title, finding.until) == (
        "q: most attempts failed, 10 a second while that lasted",
        NOW - 5 * MINUTE,
    )
    assert "; 8 attempts failed and 200 jobs completed in the 5 min since" in finding.evidence


def test_what_is_said_of_deaths_is_of_the_same_minutes():
    """A server that has run for a few seconds has seen nothing die before, and what goes well since then is counted, too."""
    young = replace(GOOD, started_at=NOW - 23_000)
    look, at_once = queue(dead=5000), Past(died={"q": 5000}, counted={"q": [0, 200, 9500, 0, 0]})
    (finding,) = find(Picture(young, [look], at_once))
    assert (finding.since, finding.title) == (NOW - 23_000, "q: 5,000 jobs died within 23 s")
    assert finding.evidence == "9,500 attempts failed and 200 jobs completed in that time; 5,000 dead letters are kept."
    assert "fails each time" in finding.cause
    # The minute has ended, and the next one goes well.
    died, well = line({"failed": 9500, "completed": 200, "died": 5000}), {"q": [0, 1770, 0, 0, 0]}
    (finding,) = find(Picture(GOOD, [look], Past(queues={"q": died}, counted=well)))
    assert finding.title == "q: 5,000 jobs died within 1 min", "it does not grow with the clock"
    assert finding.evidence == (
        "9,500 attempts failed and 200 jobs completed in that time; 0 attempts failed and 1,770 jobs completed in the 1 min since; "
        "5,000 dead letters are kept."
    )
    assert finding.cause.startswith("What they ask for failed each time")
    assert finding.cause.endswith("Most others complete by now.")
    (finding,) = find(Picture(GOOD, [queue(delayed=9)], Past(queues={"q": line({"failed": 40})}, counted=well)))
    assert finding.evidence.startswith("Within 2 min 40 attempts failed and 1,770 jobs completed;")
    assert finding.title == "q: most attempts fail, 20 a minute"


def test_nobody_is_advised_to_pause_what_is_paused():
    dies, fails = line({"dead": 0}, {"dead": 30, "failed": 25, "died": 30}), line({"failed": 20})
    for what, past in ((queue(dead=60), dies), (queue(delayed=9), fails)):
        for pause, number in ((None, 1), (PauseLook("ana", NOW, None), 0)):
            found = find(
                Picture(GOOD, [what._replace(pause=pause, waiting=1, oldest_ready_at=NOW)], Past(queues={"q": past}))
            )
            (first, *_) = [each for each in found if each.code in ("jobs-die", "attempts-fail")]
            assert sum("pause" in command for command in first.commands) == number


def test_what_comes_and_goes_is_said_as_of_now():
    slower = line(
        *({"pushed": 900, "completed": 900} for _ in range(10)), *({"pushed": 60, "completed": 6} for _ in range(3))
    )
    waits = queue(waiting=500, active=1, oldest_ready_at=NOW - 11 * MINUTE)
    (finding,) = find(Picture(GOOD, [waits], Past(queues={"q": slower})))
    assert finding.evidence.startswith("60 a minute come, 6 a minute are done.")
    # Most of its last minutes it grew, and now it does not.
    stopped = line(*({"waiting": 100 * n} for n in range(13)), {"waiting": 600}, {"waiting": 700})
    goes_on = waits._replace(oldest_ready_at=NOW)
    assert found(Picture(GOOD, [goes_on], Past(queues={"q": stopped}))) == []
    slower = line(*({"waiting": 100 * n} for n in range(12)), {"waiting": 1110}, {"waiting": 1120}, {"waiting": 1130})
    (finding,) = find(Picture(GOOD, [goes_on], Past(queues={"q": slower})))
    assert finding.title == "q: grows by 10 a minute, 500 jobs wait"


MANY_RUNS = line({"runs": {bucket_of(200): 500, bucket_of(4000): 2}})


@pytest.mark.parametrize(
    ("since_ms", "hour", "is_found"),
    [
        (61_000, MANY_RUNS, True), (59_000, MANY_RUNS, False),
        (61_000, line({"runs": {bucket_of(200): 99}}), False),  # too few
        (61_000, line({"runs": {bucket_of(200): 500, bucket_of(40_000): 1}}), False),  # one takes long now and then
        (101_000, line({"runs": {bucket_of(200): 500, bucket_of(40_000): 1}}), True),  # but not twice as long
        (61_000, line({"runs": {bucket_of(10_000): 500}}), False),  # all take long
        (11 * MINUTE, line({"runs": {bucket_of(200): 500, bucket_of(40 * MINUTE): 1}}), True),
    ],
)  # fmt: skip
def test_a_hang_is_reported_as_soon_as_the_figures_of_its_queue_allow_it(
    since_ms: int, hour: list[QueueMinute], is_found: bool
):
    hangs = queue(active=1, active_since=NOW - since_ms, active_id="j")
    assert (found(Picture(GOOD, [hangs], Past(queues={"q": hour}))) == ["job-stuck"]) is is_found
    after = stuck_after(hour)
    assert (after is not None and since_ms >= after) is is_found, "the metric for the alert says the same"


def test_jobs_that_hang_are_all_named_with_a_line_that_ends_them():
    usual = line({"runs": {bucket_of(1000): 200}})
    since = NOW - 10 * MINUTE
    longest = ((since, "h 1"), (since + MINUTE, "h2"), (NOW - 5, "quick"))
    hangs = queue(active=3, active_since=since, active_id="h 1", active_at="mail-3", longest=longest)
    (finding,) = find(Picture(GOOD, [hangs], Past(queues={"q": usual})))
    assert finding.title.startswith("q: 2 jobs have been active for far longer than others, one for 10 min")
    assert "They are h 1, h2; of the first the worker mail-3 has it." in finding.evidence
    assert finding.commands[-1] == "bunqueue-trio cancel 'h 1' h2"
    (finding,) = find(Picture(GOOD, [hangs._replace(longest=((since, "h 1"),) * 5)], Past(queues={"q": usual})))
    assert finding.title.startswith("q: at least 5 jobs")


def test_attempts_that_fail_lead_to_where_there_is_something_to_see():
    fails = Past(queues={"q": line({"failed": 20})})
    for jobs, looks, says in (
        ({"dead": 3}, ["dead q --groups"], "no attempt left"), ({"delayed": 3}, ["jobs q delayed"], "tried again until they die"),
        ({"dead": 3, "delayed": 4}, ["jobs q delayed", "dead q --groups"], "tried again until they die"),
    ):  # fmt: skip
        (finding,) = [each for each in find(Picture(GOOD, [queue(**jobs)], fails)) if each.code == "attempts-fail"]
        assert finding.commands[:-1] == tuple(f"bunqueue-trio {look}" for look in looks)
        assert says in finding.cause


def test_workers_that_are_quiet_are_not_taken_for_none():
    waits = queue(waiting=3, oldest_ready_at=NOW - 2 * MINUTE, quiet=("mail-3", "mail-4"))
    (finding,) = find(Picture(GOOD, [waits], Past()))
    assert finding.cause.endswith("told them to take no more jobs: mail-3, mail-4.")
    assert finding.commands == ("bunqueue-trio workers", "bunqueue-trio workers unquiet mail-3")
    assert finding.remedy == ""
