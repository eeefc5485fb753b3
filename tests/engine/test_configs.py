"""What holds for the jobs of a queue where neither a push nor a pull says it; what it means is in the naive model, too."""

from typing import Any

import pytest
from msgspec import Raw

from bunqueue_trio.config import NO_LIMIT
from bunqueue_trio.engine import configs
from bunqueue_trio.engine.configs import DEFAULTS, STALLS
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from tests.engine.make import Bench

ALL: dict[str, Any] = {
    "max_attempts": 7, "backoff": c.Backoff(type="fixed", delay=70), "ttl": 9000, "timeout": 300, "remove_on_complete": True,
    "remove_on_fail": True,
}  # fmt: skip


def options(bench: Bench, job_id: str) -> tuple[Any, ...]:
    said = bench.engine.jobs[job_id].options
    return said.max_attempts, said.backoff, said.ttl, said.timeout, said.remove_on_complete, said.remove_on_fail


def test_a_push_says_for_itself_and_its_queue_says_the_rest(bench: Bench):
    before = bench.push()
    bench.do(c.SetDefaults(queue="q", **ALL))
    assert options(bench, bench.push()) == (7, 70, 9000, 300, True, True)
    assert options(bench, bench.push("other")) == (3, 1000, None, None, False, False)
    assert options(bench, before) == (3, 1000, None, None, False, False)
    standard = {
        "max_attempts": 3, "backoff": 1000, "ttl": 1, "timeout": 0, "remove_on_complete": False, "remove_on_fail": False,
    }  # fmt: skip
    assert options(bench, bench.push(**standard)) == (3, 1000, 1, None, False, False)
    batch = bench.do(
        c.PushBatch(queue="q", jobs=[c.JobSpec(data=Raw(b"1")), c.JobSpec(data=Raw(b"1"), max_attempts=2)])
    )
    assert [bench.engine.jobs[job_id].options.max_attempts for job_id in batch.ids] == [7, 2]


def test_a_schedule_says_for_itself(bench: Bench):
    bench.do(c.SetDefaults(queue="q", max_attempts=9))
    bench.do(c.PutSchedule(name="s", queue="q", every=1000))
    assert options(bench, bench.do(c.RunSchedule(name="s")).id)[0] == 3


def test_they_are_there_after_a_crash_until_they_are_cleared(bench: Bench):
    bench.do(c.SetDefaults(queue="q", **ALL))
    bench.do(c.SetStallConfig(queue="q", stall_interval=40, grace_period=2, enabled=False))
    bench.commit()
    said = bench.do(c.GetDefaults(queue="q")), bench.do(c.GetStallConfig(queue="q"))
    bench.restart()
    assert (bench.do(c.GetDefaults(queue="q")), bench.do(c.GetStallConfig(queue="q"))) == said
    assert options(bench, bench.push())[:2] == (7, 70)
    bench.do(c.ClearDefaults(queue="q"))
    bench.do(c.ClearStallConfig(queue="q"))
    bench.commit()
    assert not bench.engine.facts.of(DEFAULTS)
    assert not bench.engine.facts.of(STALLS)
    bench.restart()
    assert options(bench, bench.push())[0] == 3


def test_a_queue_that_is_obliterated_is_as_every_other(bench: Bench):
    bench.do(c.SetDefaults(queue="q", ttl=5))
    bench.do(c.SetStallConfig(queue="q", max_stalls=1))
    bench.do(c.Obliterate(queue="q"))
    assert bench.do(c.GetDefaults(queue="q")).defaults.ttl is None
    assert bench.do(c.GetStallConfig(queue="q")).config.max_stalls == bench.rules.stalls_max


@pytest.mark.parametrize("in_config", [True, False])
def test_its_jobs_stall_by_its_own_rule(bench: Bench, in_config: bool):
    said: dict[str, Any] = {"stall_interval": 40, "max_stalls": 0, "grace_period": 2}
    bench.do(c.SetStallConfig(queue="q", **({"config": c.StallConfig(**said)} if in_config else said)))
    job_id = bench.push()
    bench.pull()
    bench.sleep(41)
    assert bench.state(job_id).state == "active"
    bench.sleep(1)
    assert (bench.state(job_id).state, bench.state(job_id).error) == ("failed", "Job stalled 1 time")


def test_a_pull_says_for_itself_how_long_it_may_be_silent(bench: Bench):
    bench.do(c.SetStallConfig(queue="q", stall_interval=40, grace_period=10))
    job_id = bench.push()
    bench.pull(lock_ttl=1000)
    bench.sleep(999)
    assert bench.state(job_id).state == "active"


def test_where_stalls_do_not_count_a_job_comes_back_however_often(bench: Bench):
    bench.do(c.SetStallConfig(queue="q", enabled=False, stall_interval=1))
    job_id = bench.push()
    for n in range(1, 10):
        assert bench.pull_id() == job_id
        bench.sleep(1)
        assert (bench.state(job_id).state, bench.state(job_id).stalls) == ("waiting", n)


def test_what_is_left_out_stays_as_it_was_and_null_is_as_everywhere(bench: Bench):
    """A change of one field is no reset of the others."""
    bench.do(c.SetStallConfig(queue="q", stall_interval=40, max_stalls=2, enabled=False))
    bench.do(c.SetStallConfig(queue="q", config=c.StallConfig(grace_period=7)))
    told = bench.do(c.GetStallConfig(queue="q"))
    config = told.config
    assert (config.stall_interval, config.max_stalls, config.enabled, config.grace_period) == (40, 2, False, 7)
    assert told.set == ["enabled", "stallInterval", "maxStalls", "gracePeriod"]
    bench.do(c.SetStallConfig(queue="q", enabled=None, max_stalls=None))
    told = bench.do(c.GetStallConfig(queue="q"))
    assert (told.set, told.config.enabled) == (["stallInterval", "gracePeriod"], True)

    bench.do(c.SetDlqConfig(queue="q", max_age=500))
    bench.do(c.SetDlqConfig(queue="q", max_entries=3))
    assert bench.do(c.GetDlqConfig(queue="q")).set == ["maxAge", "maxEntries"]
    bench.do(c.SetDlqConfig(queue="q", max_age=None))
    assert bench.do(c.GetDlqConfig(queue="q")).set == ["maxEntries"]

    bench.do(c.SetDefaults(queue="q", max_attempts=7, backoff=c.Backoff(type="fixed", delay=1000)))
    bench.do(c.SetDefaults(queue="q", timeout=300))
    told = bench.do(c.GetDefaults(queue="q"))
    assert (told.set, told.defaults.backoff.type) == (["maxAttempts", "backoff", "timeout"], "fixed")
    assert options(bench, bench.push())[:2] == (7, 1000)
    bench.do(c.SetDefaults(queue="q", backoff=None, max_attempts=None, timeout=None))
    assert bench.do(c.GetDefaults(queue="q")).set == []
    assert not bench.engine.configs.defaults


def test_what_was_said_is_said_also_where_it_is_as_everywhere(bench: Bench):
    bench.do(c.SetDefaults(queue="q", max_attempts=3, backoff=1000, timeout=0, remove_on_fail=False))
    bench.do(c.SetStallConfig(queue="q", enabled=True, grace_period=0))
    bench.do(c.SetDlqConfig(queue="q", auto_retry=False, max_auto_retries=3))
    assert options(bench, bench.push())[:2] == (3, 1000)
    bench.commit()
    bench.restart()
    assert bench.do(c.GetDefaults(queue="q")).set == ["maxAttempts", "backoff", "timeout", "removeOnFail"]
    assert bench.do(c.GetStallConfig(queue="q")).set == ["enabled", "gracePeriod"]
    assert bench.do(c.GetDlqConfig(queue="q")).set == ["autoRetry", "maxAutoRetries"]
    bench.do(c.SetDefaults(queue="q", max_attempts=None, backoff=None, timeout=None, remove_on_fail=None))
    assert bench.engine.configs.defaults == {}
    bench.do(c.ClearStallConfig(queue="q"))
    assert bench.do(c.GetStallConfig(queue="q")).set == []


def test_what_an_earlier_version_kept_was_said_where_it_is_not_as_everywhere(bench: Bench):
    facts = bench.engine.facts
    facts.set(configs.DEFAULTS, "q", b'{"max_attempts":5,"shape":{"fixed":true}}')
    facts.set(configs.STALLS, "q", b'{"most":1}')
    bench.engine.configs.load()
    assert bench.do(c.GetDefaults(queue="q")).set == ["maxAttempts", "backoff"]
    bench.do(c.SetDefaults(queue="q", ttl=5))
    assert bench.do(c.GetDefaults(queue="q")).set == ["maxAttempts", "ttl", "backoff"]
    assert bench.do(c.GetStallConfig(queue="q")).set == ["maxStalls"]


def test_a_bounded_number_of_queues_has_its_own(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(configs, "CONFIGS_MAX", 1)
    for kind, field in (
        (c.SetDefaults, {"ttl": 5}),
        (c.SetStallConfig, {"max_stalls": 5}),
        (c.SetDlqConfig, {"max_age": 5}),
    ):
        bench.do(kind(queue="a", **field))
        with pytest.raises(Refused, match="More than 1 queues"):
            bench.do(kind(queue="b", **field))
        bench.do(kind(queue="b"))
        bench.do(kind(queue="a", **dict.fromkeys(field)))
        bench.do(kind(queue="b", **field))


def test_it_says_which_of_its_dead_letters_are_kept(bench: Bench):
    assert bench.engine.configs.dead_kept(bench.now) == {}
    bench.do(c.SetDlqConfig(queue="q", max_age=500))
    bench.do(c.SetDlqConfig(queue="r", config=c.DlqConfig(max_entries=3, auto_retry=False)))
    bench.commit()
    bench.restart()
    assert bench.engine.configs.dead_kept(bench.now) == {"q": (NO_LIMIT, bench.now - 500), "r": (3, 0)}
    assert (
        bench.do(c.GetDlqConfig(queue="r")).config.max_entries,
        bench.do(c.GetDlqConfig(queue="q")).config.max_age,
    ) == (3, 500)
    bench.do(c.SetDlqConfig(queue="s", auto_retry=True))
    assert set(bench.engine.configs.dead_kept(bench.now)) == {"q", "r"}
    bench.do(c.ClearDlqConfig(queue="s"))
    bench.do(c.ClearDlqConfig(queue="q"))
    bench.do(c.Obliterate(queue="r"))
    assert bench.engine.configs.dead_kept(bench.now) == {}


def test_a_queue_of_which_anything_was_said_is_listed(bench: Bench):
    """Also after a restart, and until all of it was taken back; whatever else has no jobs is not."""
    said = [
        c.SetDefaults(queue="b", ttl=5),
        c.SetStallConfig(queue="b", max_stalls=5),
        c.SetDlqConfig(queue="b", max_age=5),
    ]
    taken = [c.ClearDefaults(queue="b"), c.ClearStallConfig(queue="b"), c.ClearDlqConfig(queue="b")]
    bench.push("a")
    bench.push("c")
    for n, command in enumerate([*said, said[0]]):
        bench.do(command)
        bench.commit()
        bench.restart()
        page = bench.do(c.ListQueues(details=True))
        assert page.queues == ["a", "b", "c"]
        assert page.details[1].set == ["defaults", "stall-config", "dlq-config"][: n + 1]
    assert bench.do(c.ListQueues(limit=1, after="a")).queues == ["b"]
    for n, command in enumerate(taken):
        assert bench.do(c.ListQueues()).queues == ["a", "b", "c"], n
        bench.do(command)
        bench.do(command)
    assert bench.do(c.ListQueues()).queues == ["a", "c"]
    bench.do(said[1])
    bench.do(c.Obliterate(queue="b"))
    assert bench.do(c.ListQueues()).queues == ["a", "c"]
