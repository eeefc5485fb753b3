"""Each act of an operator is written down with its change, and nothing is where nothing was changed."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from msgspec.structs import replace

from bunqueue_trio.engine.commands import apply, run
from bunqueue_trio.engine.reruns import Rerun
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.caller import By
from bunqueue_trio.protocol.catalog import ACTS, CATALOG, SPECS
from bunqueue_trio.protocol.commands.spec import Does, Role
from tests.engine.make import T0, Bench
from tests.engine.model_upkeep import planned

ANN = By("ann", "10.0.0.7")

Act = tuple[c.Command, dict[str, Any], int, c.Command | None]
"""What is done, the fields that are noted of it, how many it changes; and what changes nothing afterwards."""

NIGHTLY = c.PutSchedule(name="s", queue="q", data=Raw(b"1"), every=60_000)


HOURLY = c.Cron(name="s", queue="q", data=Raw(b"1"), repeat_every=3_600_000)


def known(bench: Bench) -> Bench:
    bench.do(c.RegisterWorker(worker_id="w"))
    return bench


def with_a_file(bench: Bench) -> None:
    bench.engine.upkeep.plan = planned


def dead(bench: Bench, job_id: str) -> None:
    bench.push(job_id=job_id, max_attempts=1)
    assert bench.pull_id() == job_id
    bench.fail(job_id)


def two_dead(bench: Bench) -> Bench:
    dead(bench, "a")
    dead(bench, "b")
    bench.commit()
    return bench


def rerun(bench: Bench) -> None:
    bench.engine.reruns.add(Rerun(id="r", filter=c.Filter(queue="q"), count=1, rate=1, stop_at=0, started_at=bench.now))


def pushed(bench: Bench, n: int = 1, **options: Any) -> Bench:
    for i in range(n):
        bench.push(job_id="abcd"[i], **options)
    return bench


ACTS_TRIED: dict[type[c.Command], tuple[Callable[[Bench], object], Act]] = {
    c.Cancel: (pushed, (c.Cancel(id="a"), {}, 1, None)),
    c.Promote: (lambda b: pushed(b, delay=9), (c.Promote(id="a"), {}, 1, None)),
    c.Discard: (pushed, (c.Discard(id="a"), {}, 1, None)),
    c.ChangePriority: (
        pushed, (c.ChangePriority(id="a", priority=3), {"priority": 3}, 1, c.ChangePriority(id="a", priority=3)),
    ),
    c.ChangeDelay: (
        lambda b: pushed(b, delay=9),
        (c.ChangeDelay(id="a", delay=0), {"delay": 0}, 1, c.ChangeDelay(id="a", delay=0)),
    ),
    c.MoveToDelayed: (pushed, (c.MoveToDelayed(id="a", delay=5), {"delay": 5}, 1, None)),
    c.MoveToWait: (lambda b: pushed(b, delay=9), (c.MoveToWait(id="a"), {}, 1, c.MoveToWait(id="a"))),
    c.Update: (pushed, (c.Update(id="a", data=Raw(b'"secret"')), {}, 1, c.Update(id="a", data=Raw(b'"secret"')))),
    c.ClearLogs: (
        lambda b: pushed(b).do(c.AddLog(id="a", message="x")), (c.ClearLogs(id="a"), {}, 1, c.ClearLogs(id="a")),
    ),
    c.RetryDlq: (two_dead, (c.RetryDlq(queue="q", limit=5), {"limit": 5}, 2, c.RetryDlq(queue="q"))),
    c.PurgeDlq: (two_dead, (c.PurgeDlq(queue="q"), {}, 2, c.PurgeDlq(queue="q"))),
    c.RerunDlq: (
        lambda b: [two_dead(b), b.engine.watch_pulls({"q": [1]})],
        (c.RerunDlq(filter=c.Filter(queue="q"), count=1), {"filter": {"queue": "q"}, "count": 1}, 1, None),
    ),
    c.StopRerun: (
        lambda b: rerun(two_dead(b)), (c.StopRerun(rerun="r"), {"rerun": "r"}, 1, c.StopRerun(rerun="r")),
    ),
    c.Drain: (lambda b: pushed(b, 3), (c.Drain(queue="q", delayed=True), {"delayed": True}, 3, c.Drain(queue="q"))),
    c.PromoteJobs: (
        lambda b: pushed(b, 3, delay=9), (c.PromoteJobs(queue="q", count=2), {"count": 2}, 2, c.PromoteJobs(queue="q2")),
    ),
    c.Clean: (
        lambda b: pushed(b, 2),
        (c.Clean(queue="q", state="waiting"), {"state": "waiting"}, 2, c.Clean(queue="q", state="waiting")),
    ),
    c.Obliterate: (lambda b: pushed(b, 2), (c.Obliterate(queue="q"), {}, 2, c.Obliterate(queue="q"))),
    c.Pause: (lambda b: b, (c.Pause(queue="q", reason="x"), {"reason": "x"}, 1, c.Pause(queue="q", reason="x"))),
    c.Resume: (lambda b: b.do(c.Pause(queue="q")), (c.Resume(queue="q"), {}, 1, c.Resume(queue="q"))),
    c.SetConcurrency: (
        lambda b: b,
        (c.SetConcurrency(queue="q", concurrency=2), {"concurrency": 2}, 1, c.SetConcurrency(queue="q", concurrency=2)),
    ),
    c.ClearConcurrency: (
        lambda b: b.do(c.SetConcurrency(queue="q", concurrency=2)),
        (c.ClearConcurrency(queue="q"), {}, 1, c.ClearConcurrency(queue="q")),
    ),
    c.RateLimit: (lambda b: b, (c.RateLimit(queue="q", limit=7), {"limit": 7}, 1, c.RateLimit(queue="q", limit=7))),
    c.RateLimitClear: (
        lambda b: b.do(c.RateLimit(queue="q", limit=7)),
        (c.RateLimitClear(queue="q"), {}, 1, c.RateLimitClear(queue="q")),
    ),
    c.MarkGroup: (
        lambda b: b,
        (
            c.MarkGroup(fingerprint="2a253bca139c", mark="muted"), {"fingerprint": "2a253bca139c", "mark": "muted"}, 1,
            c.MarkGroup(fingerprint="2a253bca139c", mark="muted"),
        ),
    ),
    c.SetDefaults: (
        lambda b: b,
        (c.SetDefaults(queue="q", ttl=5), {"ttl": 5}, 1, c.SetDefaults(queue="q", ttl=5)),
    ),
    c.ClearDefaults: (
        lambda b: b.do(c.SetDefaults(queue="q", ttl=5)), (c.ClearDefaults(queue="q"), {}, 1, c.ClearDefaults(queue="q")),
    ),
    c.SetDlqConfig: (
        lambda b: b,
        (c.SetDlqConfig(queue="q", max_entries=5), {"maxEntries": 5}, 1, c.SetDlqConfig(queue="q", max_entries=5)),
    ),
    c.ClearDlqConfig: (
        lambda b: b.do(c.SetDlqConfig(queue="q", max_age=5)), (c.ClearDlqConfig(queue="q"), {}, 1, c.ClearDlqConfig(queue="q")),
    ),
    c.ClearStallConfig: (
        lambda b: b.do(c.SetStallConfig(queue="q", max_stalls=5)), (c.ClearStallConfig(queue="q"), {}, 1, c.ClearStallConfig(queue="q")),
    ),
    c.SetStallConfig: (
        lambda b: b,
        (c.SetStallConfig(queue="q", max_stalls=5), {"maxStalls": 5}, 1, c.SetStallConfig(queue="q", max_stalls=5)),
    ),
    c.ActOnJobs: (
        lambda b: pushed(b, 2),
        (
            c.ActOnJobs(filter=c.Filter(queue="q"), action="discard"),
            {"filter": {"queue": "q"}, "action": "discard"}, 2, c.ActOnJobs(filter=c.Filter(queue="q"), action="cancel", dry_run=True),
        ),
    ),
    c.PutSchedule: (lambda b: b, (NIGHTLY, {"name": "s", "every": 60_000}, 1, NIGHTLY)),
    c.ChangeSchedule: (
        lambda b: b.do(NIGHTLY),
        (c.ChangeSchedule(name="s", limit=5), {"name": "s", "limit": 5}, 1, c.ChangeSchedule(name="s", limit=5)),
    ),
    c.DeleteSchedule: (lambda b: b.do(NIGHTLY), (c.DeleteSchedule(name="s"), {"name": "s"}, 1, None)),
    c.PauseSchedule: (
        lambda b: b.do(NIGHTLY), (c.PauseSchedule(name="s"), {"name": "s"}, 1, c.PauseSchedule(name="s")),
    ),
    c.ResumeSchedule: (
        lambda b: [b.do(NIGHTLY), b.do(c.PauseSchedule(name="s"))],
        (c.ResumeSchedule(name="s"), {"name": "s"}, 1, c.ResumeSchedule(name="s")),
    ),
    c.Cron: (lambda b: b, (HOURLY, {"name": "s", "repeatEvery": 3_600_000}, 1, HOURLY)),
    c.CronDelete: (lambda b: b.do(NIGHTLY), (c.CronDelete(name="s"), {"name": "s"}, 1, None)),
    c.QuietWorker: (known, (c.QuietWorker(id="w"), {}, 1, c.QuietWorker(id="w"))),
    c.UnquietWorker: (
        lambda b: known(b).do(c.QuietWorker(id="w")), (c.UnquietWorker(id="w"), {}, 1, c.UnquietWorker(id="w")),
    ),
    c.ReleaseWorker: (
        lambda b: pushed(b).do(c.Pull(queue="q", owner="w")), (c.ReleaseWorker(id="w"), {}, 1, c.ReleaseWorker(id="w")),
    ),
    c.UnregisterWorker: (known, (c.UnregisterWorker(id="w"), {}, 1, None)),
    c.RunSchedule: (lambda b: b.do(NIGHTLY), (c.RunSchedule(name="s"), {"name": "s"}, 1, None)),
    c.BackupStorage: (with_a_file, (c.BackupStorage(), {}, 1, c.BackupStorage(dry_run=True))),
    c.CheckStorage: (with_a_file, (c.CheckStorage(), {}, 1, c.CheckStorage(dry_run=True))),
    c.ShrinkStorage: (with_a_file, (c.ShrinkStorage(), {}, 1, c.ShrinkStorage(dry_run=True))),
}  # fmt: skip


NIGHTLY_WAS = {"there": True, "queue": "q", "every": 60_000, "data": "1"}
WAS: dict[type[c.Command], dict[str, Any]] = {
    c.ChangePriority: {"priority": 0}, c.Pause: {"paused": False}, c.Resume: {"paused": True, "reason": None, "until": None},
    c.SetConcurrency: {"concurrency": None}, c.ClearConcurrency: {"concurrency": 2}, c.RateLimit: {"limit": None},
    c.RateLimitClear: {"limit": 7, "duration": 1000}, c.MarkGroup: {"mark": "none"}, c.SetDefaults: {"ttl": None}, c.ClearDefaults: {"ttl": 5},
    c.SetDlqConfig: {"maxEntries": None}, c.ClearDlqConfig: {"maxAge": 5}, c.ClearStallConfig: {"maxStalls": 5}, c.SetStallConfig: {"maxStalls": None},
    c.PutSchedule: {"there": False}, c.ChangeSchedule: NIGHTLY_WAS, c.DeleteSchedule: NIGHTLY_WAS,
    c.Cron: {"there": False}, c.CronDelete: NIGHTLY_WAS,
}  # fmt: skip
"""What each of them, as it is tried, finds before it."""


def noted(bench: Bench) -> list[dict[str, Any]]:
    """What the next commit writes of acts."""
    return [json.loads(line.body) for line in bench.engine.trails.changed if line.kind == "actions"]  # type: ignore[union-attr]


def test_every_act_of_the_catalogue_is_tried():
    assert set(ACTS_TRIED) == ACTS


def test_each_change_that_only_an_operator_may_make_is_an_act():
    changes = [spec for spec in CATALOG if spec.does is Does.CHANGES and spec.role is Role.ADMIN]
    assert len(changes) > 20
    assert [spec.tag for spec in changes if spec.acts is None] == []


@pytest.mark.parametrize(
    "kind", [kind for kind in ACTS_TRIED if "dry_run" in kind.__struct_fields__], ids=lambda kind: kind.__name__
)
def test_what_is_only_tried_is_no_act(bench: Bench, kind: type[c.Command]):
    prepare, (command, *_) = ACTS_TRIED[kind]
    prepare(bench)
    bench.commit()
    apply(bench.engine, msgspec.structs.replace(command, dry_run=True), bench.now, by=ANN)
    assert not bench.engine.has_changes


def test_a_worker_that_leaves_does_no_act_and_one_that_is_forgotten_has_its_name(bench: Bench):
    bench.do(c.RegisterWorker(worker_id="w", name="mail"), "socket")
    bench.do(c.UnregisterWorker(id="w"), "socket")
    assert noted(bench) == []
    bench.do(c.RegisterWorker(worker_id="w", name="mail"))
    bench.do(c.UnregisterWorker(id="w"), "another")
    (act,) = noted(bench)
    assert (act["command"], act["worker"], act["fields"]) == ("UnregisterWorker", "w", {"name": "mail"})


@pytest.mark.parametrize("kind", ACTS_TRIED, ids=lambda kind: kind.__name__)
def test_an_act_is_written_down_with_its_change(bench: Bench, kind: type[c.Command]):
    prepare, (command, fields, count, again) = ACTS_TRIED[kind]
    prepare(bench)
    bench.commit()
    bench.now += 5
    apply(bench.engine, command, bench.now, by=ANN)
    assert noted(bench) == [
        {
            "at": T0 + 5, "who": "ann", "address": "10.0.0.7", "command": SPECS[kind].tag,
            "queue": getattr(command, "queue", None) or None, "job": None if "Worker" in kind.__name__ else getattr(command, "id", None),
            "worker": getattr(command, "id", None) if "Worker" in kind.__name__ else None, "fields": fields, "count": count,
        }
        | ({} if (was := WAS.get(kind)) is None else {"before": was}),
    ]  # fmt: skip
    bench.commit()
    page = bench.do(c.Actions(limit=1))
    assert (page.actions[0].command, page.actions[0].who) == (SPECS[kind].tag, "ann")
    if again is None:
        name = next((each for each in ("name", "filter") if each in kind.__struct_fields__), "id")
        nobody = c.Filter(queue="nobody") if name == "filter" else "nobody"
        with pytest.raises(Refused):
            bench.do(kind(**{name: nobody}, **({"delay": 5} if kind is c.MoveToDelayed else {})))
    else:
        apply(bench.engine, again, bench.now, by=ANN)
    assert noted(bench) == []
    bench.commit()
    assert bench.do(c.Actions()).total == page.total


def test_a_retry_with_another_payload_says_so_and_not_what_it_is(bench: Bench):
    two_dead(bench)
    bench.do(c.RetryDlq(queue="q", job_id="a", data=Raw(b'"secret"')))
    assert noted(bench)[0]["fields"] == {"data": "another"}


def test_one_dead_letter_is_named(bench: Bench):
    two_dead(bench)
    for command in (c.RetryDlq(queue="q", job_id="a"), c.PurgeDlq(queue="q", id="b")):
        bench.do(command)
    assert [(act["command"], act["job"], act["count"]) for act in noted(bench)] == [
        ("RetryDlq", "a", 1),
        ("PurgeDlq", "b", 1),
    ]


def test_what_a_worker_does_with_its_job_is_no_act(bench: Bench):
    bench.push(job_id="a")
    token = bench.pull().token
    bench.do(c.MoveToDelayed(id="a", delay=5, token=token))
    assert noted(bench) == []


def test_an_obliterated_queue_whose_pause_was_all_is_an_act(bench: Bench):
    bench.do(c.Pause(queue="q"))
    bench.commit()
    bench.do(c.Obliterate(queue="q"))
    assert [(act["command"], act["count"]) for act in noted(bench)] == [("Obliterate", 0)]
    bench.do(c.Obliterate(queue="q"))
    assert len(noted(bench)) == 1


@pytest.mark.parametrize(("priority", "lifo"), [(0, True), (1, None), (1, False)])
def test_each_part_of_a_priority_is_a_change(bench: Bench, priority: int, lifo: bool | None):
    bench.push(job_id="a")
    for count in (1, 1):
        bench.do(c.ChangePriority(id="a", priority=priority, lifo=lifo))
        assert len(noted(bench)) == count


def test_an_act_alone_is_written(bench: Bench):
    bench.commit()
    assert not bench.engine.has_changes
    bench.engine.trails.cut("nobody")
    assert bench.engine.has_changes
    bench.commit()
    assert not bench.engine.has_changes


def test_acts_come_by_pages_newest_first(bench: Bench):
    for n in range(5):
        bench.do(c.Pause(queue=f"q{n}"))
    bench.commit()
    found, after = [], None
    while True:
        page = bench.do(c.Actions(limit=2, after=after))
        found.append([act.queue for act in page.actions])
        assert page.total == 5
        after = page.next
        if after is None:
            break
    assert found == [["q4", "q3"], ["q2", "q1"], ["q0"]]
    with pytest.raises(Refused, match="after must be the next of an earlier page"):
        bench.do(c.Actions(after="x"))


def test_an_act_says_that_a_schedule_has_another_payload_and_not_which(bench: Bench):
    for command in (
        NIGHTLY, replace(NIGHTLY, every=5000), replace(NIGHTLY, every=5000, data=Raw(b'"secret"')), replace(NIGHTLY, every=5000, data=Raw(b"")),
        c.ChangeSchedule(name="s", jitter=5), c.ChangeSchedule(name="s", data=Raw(b"[2]")), c.DeleteSchedule(name="s"),
    ):  # fmt: skip
        bench.do(command)
    assert [act["fields"].get("data") for act in noted(bench)] == [
        None,
        None,
        "another",
        "another",
        None,
        "another",
        None,
    ]


def test_what_was_before_an_act_is_what_brings_it_back(bench: Bench):
    """Settings, those that were set and those that were as everywhere; a schedule whole, its payload to the letter."""
    many = {"type": "fixed", "delay": 5}
    bench.do(c.SetDefaults(queue="q", max_attempts=7, ttl=5))
    bench.do(c.SetDefaults(queue="q", max_attempts=8, timeout=9, backoff=msgspec.convert(many, c.Backoff)))
    bench.do(c.ClearDefaults(queue="q"))
    bench.do(c.SetStallConfig(queue="q", config=c.StallConfig(max_stalls=1)))
    bench.do(c.SetStallConfig(queue="q", config=c.StallConfig(max_stalls=2, grace_period=5)))
    bench.do(NIGHTLY)
    bench.do(
        c.PutSchedule(
            name="s",
            queue="q",
            data=Raw(b'{"n": 1.0000000000000000001}'),
            cron="0 3 * * *",
            timezone="Europe/Berlin",
            jitter=5,
        )
    )
    bench.do(c.DeleteSchedule(name="s"))
    assert [act["before"] for act in noted(bench)] == [
        {"maxAttempts": None, "ttl": None}, {"maxAttempts": 7, "timeout": None, "backoff": None},
        {"maxAttempts": 8, "ttl": 5, "timeout": 9, "backoff": many},
        {"maxStalls": None}, {"maxStalls": 1, "gracePeriod": None}, {"there": False}, NIGHTLY_WAS,
        {
            "there": True, "queue": "q", "cron": "0 3 * * *", "timezone": "Europe/Berlin", "jitter": 5, "data": '{"n": 1.0000000000000000001}',
        },
    ]  # fmt: skip


def test_a_rate_that_was_to_end_by_itself_is_kept_with_its_end(bench: Bench):
    bench.do(c.RateLimit(queue="q", limit=7, ttl=60_000))
    bench.now += 5
    bench.do(c.RateLimitClear(queue="q"))
    assert [act["before"] for act in noted(bench)] == [
        {"limit": None},
        {"limit": 7, "duration": 1000, "until": T0 + 60_000},
    ]


def test_what_is_too_large_for_a_log_is_not_kept(bench: Bench):
    bench.do(c.PutSchedule(name="s", queue="q", data=Raw(b'"' + b"x" * 5000 + b'"'), every=1000))
    bench.do(c.PutSchedule(name="t", queue="q", data=Raw(b'"\xff"'), every=1000))
    bench.commit()
    for name in "st":
        bench.do(c.DeleteSchedule(name=name))
    assert ["before" in act for act in noted(bench)] == [False, False]


def test_a_refused_act_looks_at_nothing(bench: Bench):
    with pytest.raises(Refused):
        bench.do(c.SetDefaults(queue="", ttl=5))
    with pytest.raises(Refused):
        bench.do(c.ChangePriority(id="nobody", priority=3))
    assert noted(bench) == []


def test_a_push_by_hand_is_an_act_and_one_that_comes_to_nothing_is_none(bench: Bench):
    hand = By("ana", "10.0.0.7", Role.ADMIN, by_hand=True)
    push = c.Push(queue="q", data=Raw(b"1"), priority=3)
    reply: Any = run(bench.engine, push, bench.now, None, hand, push)
    run(bench.engine, c.GetState(id=reply.id), bench.now, None, hand, c.GetState(id=reply.id))
    run(bench.engine, push, bench.now, None, By("shop", "10.0.0.8", Role.WORK), push)
    bench.commit()
    [act] = bench.do(c.Actions()).actions
    assert (act.who, act.command, act.job, act.fields, act.count) == ("ana", "Push", reply.id, {"priority": 3}, 1)
