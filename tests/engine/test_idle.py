"""Settings of queues that nobody uses: they go after as long as ended jobs are kept, and pauses and limits never."""

from typing import Any

import pytest
from msgspec import Raw

from bunqueue_trio.engine import idle
from bunqueue_trio.engine.configs import IDLE
from bunqueue_trio.engine.idle import forget_idle
from bunqueue_trio.protocol import commands as c
from tests.engine.make import T0, Bench

AGE = 1000


def gone(bench: Bench) -> list[str]:
    after, names = forget_idle(bench.engine, "", bench.now, AGE)
    assert after == ""
    return names


def test_settings_of_a_queue_that_was_never_used_go_with_all_that_was_noted_of_it(bench: Bench):
    bench.do(c.SetDefaults(queue="slip", timeout=5))
    bench.do(c.SetStallConfig(queue="slip", grace_period=5))
    bench.do(c.SetDlqConfig(queue="slip", auto_retry=True))
    assert gone(bench) == []
    bench.sleep(AGE - 1)
    assert gone(bench) == []
    # Since when is known after a start, too.
    bench.commit()
    bench.restart()
    bench.sleep(1)
    assert gone(bench) == ["slip"]
    assert bench.do(c.ListQueues()).queues == []
    bench.commit()
    assert bench.disk.facts == {}


def paused(bench: Bench) -> None:
    bench.do(c.Pause(queue="q"))


def limited(bench: Bench) -> None:
    bench.do(c.SetConcurrency(queue="q", concurrency=1))


def waiting(bench: Bench) -> None:
    bench.push()


def ended(bench: Bench) -> None:
    bench.push()
    job_id = bench.pull_id()
    assert job_id is not None
    bench.ack(job_id)
    bench.commit()


def scheduled(bench: Bench) -> None:
    bench.do(c.PutSchedule(name="s", queue="q", every=60_000, data=Raw(b"1")))


def awaited(bench: Bench) -> None:
    bench.engine.watch_pulls({"q": [1]})


@pytest.mark.parametrize("use", [paused, limited, waiting, ended, scheduled, awaited])
def test_what_is_used_keeps_its_settings_and_counts_anew_when_it_is_not(bench: Bench, use: Any):
    bench.do(c.SetDefaults(queue="q", timeout=5))
    assert gone(bench) == []
    use(bench)
    bench.now += 2 * AGE
    assert gone(bench) == []
    assert bench.engine.facts.get(IDLE, "q") is None
    assert bench.do(c.GetDefaults(queue="q")).defaults.timeout == 5
    bench.engine.watch_pulls({})
    if use is scheduled:
        bench.do(c.DeleteSchedule(name="s"))
    bench.do(c.Obliterate(queue="q", force=True))
    bench.do(c.SetDefaults(queue="q", timeout=5))
    bench.commit()
    assert gone(bench) == []
    bench.now += AGE
    assert gone(bench) == ["q"]


def pushed_and_gone(bench: Bench) -> None:
    job_id = bench.push(remove_on_complete=True)
    assert bench.pull_id() == job_id
    bench.ack(job_id)
    bench.commit()


def cancelled(bench: Bench) -> None:
    bench.do(c.Cancel(id=bench.push()))
    bench.commit()


def said_anew(bench: Bench) -> None:
    bench.do(c.SetDefaults(queue="q", timeout=6))


def said_more(bench: Bench) -> None:
    bench.do(c.SetStallConfig(queue="q", grace_period=5))


@pytest.mark.parametrize("use", [pushed_and_gone, cancelled, said_anew, said_more])
@pytest.mark.parametrize("ends", [False, True])
def test_what_comes_and_goes_between_two_looks_is_a_use(bench: Bench, use: Any, ends: bool):
    bench.do(c.SetDefaults(queue="q", timeout=5))
    assert gone(bench) == []
    bench.commit()
    bench.now += AGE - 1
    use(bench)
    bench.commit()
    if ends:
        bench.restart()
    bench.now += 1
    assert gone(bench) == []
    bench.now += AGE - 1
    assert gone(bench) == []
    bench.now += 1
    assert gone(bench) == ["q"]


def test_a_worker_that_has_named_a_queue_uses_it(bench: Bench):
    for name in ("q", "other"):
        bench.do(c.SetDefaults(queue=name, timeout=5))
    assert gone(bench) == []
    bench.now += 2 * AGE
    bench.do(c.RegisterWorker(name="w", worker_id="w", queues=["a", "q"]))
    assert gone(bench) == ["other"]
    assert bench.do(c.GetDefaults(queue="q")).defaults.timeout == 5
    bench.do(c.UnregisterWorker(id="w"))
    assert gone(bench) == []
    bench.now += AGE
    assert gone(bench) == ["q"]


def test_who_takes_settings_back_leaves_no_note(bench: Bench):
    bench.do(c.SetDefaults(queue="q", timeout=5))
    gone(bench)
    assert bench.engine.facts.get(IDLE, "q") == b"%d" % T0
    bench.do(c.ClearDefaults(queue="q"))
    assert bench.engine.facts.get(IDLE, "q") is None


def test_some_are_looked_at_in_one_step(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(idle, "_SLICE", 2)
    for name in "abc":
        bench.do(c.SetDefaults(queue=name, timeout=5))
    assert forget_idle(bench.engine, "", T0, AGE) == ("b", [])
    assert forget_idle(bench.engine, "b", T0, AGE) == ("", [])
    assert forget_idle(bench.engine, "", T0 + AGE, AGE) == ("b", ["a", "b"])
    assert forget_idle(bench.engine, "b", T0 + AGE, AGE) == ("", ["c"])
