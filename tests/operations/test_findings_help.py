"""Each incident is planted in a simulated server; what its finding advises is typed as it stands, is accepted, and helps."""

import json
import shlex
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from bunqueue_trio.config import MIB, MINUTE_MS
from bunqueue_trio.engine.planner import Notice
from bunqueue_trio.errors import StoreError
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.statistics import AuditFigures, TaskFigures
from bunqueue_trio.storage.store import Space
from bunqueue_trio.testing.server import Bunqueue
from tests.looks import look
from tests.operations.test_sisters import Shell
from tests.ui.night import fail, fail_once, push, take, work
from tests.ui.site import minutes
from tests.ui.test_findings import ALL_OF_THEM

GIB = 1024 * MIB


@pytest.fixture
async def shell(bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setattr(Server, "is_guarded", True)
    return Shell(bunqueue, monkeypatch)


async def beat(bunqueue: Bunqueue, n: int) -> None:
    """Let minutes pass in which the jobs that are active are heard of."""
    for _ in range(n):
        for _ in range(3):
            await trio.sleep(20)
            for job_id in [*bunqueue.server.engine.jobs]:
                job = bunqueue.server.engine.jobs[job_id]
                if job.lease is not None:
                    await bunqueue.server.core.execute(c.Heartbeat(id=job_id, token=job.lease.token))
        await bunqueue.server.note_minute()


def seen(bunqueue: Bunqueue, **fields: Any) -> None:
    """Let what the server says of itself be otherwise: no command changes that."""
    told = bunqueue.server.statistics
    bunqueue.server.statistics = lambda: replace(told(), **fields)  # type: ignore[method-assign]


def slow(bunqueue: Bunqueue, name: str) -> None:
    figures = bunqueue.server.statistics().histograms
    counts = tuple(100 if bound == 500 else 0 for bound in (*figures[name].bounds, 0))
    seen(bunqueue, histograms=dict(figures) | {name: figures[name]._replace(counts=counts)})


async def storage_failing(bunqueue: Bunqueue) -> None:
    bunqueue.server.journal.note_failure(StoreError("disk is full"))


async def storage_damaged(bunqueue: Bunqueue) -> None:
    bunqueue.server.store.damage = "malformed"  # type: ignore[misc]
    # As the watch does, before anybody asks: the log has it.
    assert bunqueue.server.damage.look() is not None


async def disk_fills(bunqueue: Bunqueue) -> None:
    for n in range(5):
        await push(bunqueue, "reports", str(n))
    await work(bunqueue, "reports", 3)
    await minutes(bunqueue)
    bunqueue.server.store.space = lambda: Space(MIB, 0, 100 * MIB, 20 * GIB)  # type: ignore[method-assign]
    await bunqueue.server.shrinker.step()


async def last_room(bunqueue: Bunqueue) -> None:
    await disk_fills(bunqueue)
    bunqueue.server.store.space = lambda: Space(MIB, 0, MIB, 20 * GIB)  # type: ignore[method-assign]
    await bunqueue.server.shrinker.step()


async def disk_is_full(bunqueue: Bunqueue) -> None:
    await last_room(bunqueue)

    def refuses(_: object) -> None:
        raise StoreError("database or disk is full")

    bunqueue.server.store.commit = refuses  # type: ignore[method-assign, assignment]


async def nobody_asks(bunqueue: Bunqueue) -> None:
    await push(bunqueue, "bills")
    await minutes(bunqueue, 2)


async def all_are_quiet(bunqueue: Bunqueue) -> None:
    execute = bunqueue.server.core.execute
    await execute(c.RegisterWorker(name="mail-3", worker_id="w1", queues=["bills"]))
    await execute(c.QuietWorker(id="w1"))
    await push(bunqueue, "bills")
    await minutes(bunqueue, 2)


async def quiet_for_long(bunqueue: Bunqueue) -> None:
    execute = bunqueue.server.core.execute
    await execute(c.RegisterWorker(name="mail-3", worker_id="w1", queues=["bills"]))
    await execute(c.QuietWorker(id="w1"))
    await trio.sleep(13 * 3600)
    await execute(c.RegisterWorker(name="mail-3", worker_id="w1", queues=["bills"]))


async def queue_is_slow(bunqueue: Bunqueue) -> None:
    for n in range(3):
        await push(bunqueue, "bills", str(n))
    await take(bunqueue, "bills", 1)
    await beat(bunqueue, 11)


async def limited(bunqueue: Bunqueue) -> None:
    await bunqueue.server.core.execute(c.SetConcurrency(queue="bills", concurrency=1))
    await queue_is_slow(bunqueue)


async def rated(bunqueue: Bunqueue) -> None:
    await bunqueue.server.core.execute(c.RateLimit(queue="bills", limit=1, duration=3_600_000))
    await queue_is_slow(bunqueue)


async def grows(bunqueue: Bunqueue) -> None:
    for _ in range(8):
        for _ in range(40):
            await push(bunqueue, "bills")
        await work(bunqueue, "bills", 5)
        await take(bunqueue, "bills", 1)
        await minutes(bunqueue)


async def jobs_die(bunqueue: Bunqueue) -> None:
    for n in range(12):
        await push(bunqueue, "bills", str(n))
    await minutes(bunqueue)
    await fail(bunqueue, "bills", 12, "SMTP said 450 at {}")
    await minutes(bunqueue)


async def jobs_die_unseen(bunqueue: Bunqueue) -> None:
    await bunqueue.server.core.execute(c.SetDefaults(queue="bills", remove_on_fail=True))
    await jobs_die(bunqueue)


async def attempts_fail(bunqueue: Bunqueue) -> None:
    await fail_once(bunqueue, "bills", 15, "no")


async def paused(bunqueue: Bunqueue) -> None:
    await push(bunqueue, "bills")
    await bunqueue.server.core.execute(c.Pause(queue="bills"))


async def hangs(bunqueue: Bunqueue) -> None:
    for n in range(12):
        await push(bunqueue, "bills", str(n))
        await work(bunqueue, "bills", 1)
    for n in range(2):
        await push(bunqueue, "bills", str(n))
    await bunqueue.server.core.execute(c.RegisterWorker(name="mail-3", worker_id="w1", queues=["bills"]))
    await bunqueue.server.core.execute(c.PullBatch(queue="bills", count=2, owner="w1"))
    await beat(bunqueue, 11)


async def worker_hangs(bunqueue: Bunqueue) -> None:
    await hangs(bunqueue)
    await push(bunqueue, "bills")
    await bunqueue.server.core.execute(c.Pull(queue="bills", owner="w1"))
    await beat(bunqueue, 11)


async def error_is_new(bunqueue: Bunqueue) -> None:
    for name in "abcd":
        for _ in range(4):
            await push(bunqueue, name)
        await fail(bunqueue, name, 4, "no room for {}")


async def vanish(bunqueue: Bunqueue) -> None:
    for _ in range(120):
        await push(bunqueue, "bills", max_attempts=1)
    await minutes(bunqueue)
    for _ in range(4):
        await take(bunqueue, "bills", 120)
        await minutes(bunqueue, 6)


async def late(bunqueue: Bunqueue) -> None:
    execute = bunqueue.server.core.execute
    await execute(c.PutSchedule(name="nightly", queue="bills", every=86_400_000))
    bunqueue.server.engine.planner.note_late(Notice("nightly", "late", bunqueue.server.clock.now(), 0, 0))


async def schedule_dies(bunqueue: Bunqueue) -> None:
    execute = bunqueue.server.core.execute
    await execute(c.PutSchedule(name="nightly", queue="bills", every=86_400_000, options=c.RunOptions(max_attempts=1)))
    await execute(c.RunSchedule(name="nightly"))
    await fail(bunqueue, "bills", 1, "DiskError: no space on {}")


async def schedule_is_blocked(bunqueue: Bunqueue) -> None:
    await bunqueue.server.core.execute(c.PutSchedule(name="often", queue="bills", every=MINUTE_MS))
    await minutes(bunqueue, 13)


async def late_and_deleted(bunqueue: Bunqueue) -> None:
    await late(bunqueue)
    await bunqueue.server.core.execute(c.PutSchedule(name="weekly", queue="bills", every=86_400_000))
    bunqueue.server.engine.planner.note_late(Notice("weekly", "late", bunqueue.server.clock.now(), 0, 0))
    await bunqueue.server.core.execute(c.DeleteSchedule(name="weekly"))


async def error_is_back(bunqueue: Bunqueue) -> None:
    await push(bunqueue, "bills")
    await fail(bunqueue, "bills", 1, "DiskError: no space on {}")
    (mark,) = look(bunqueue.server.core, c.DlqGroups(queue="bills")).groups
    await bunqueue.server.core.execute(c.MarkGroup(fingerprint=mark.fingerprint, mark="fixed"))
    await push(bunqueue, "bills")
    await fail(bunqueue, "bills", 1, "DiskError: no space on {}")


async def error_is_back_and_gone(bunqueue: Bunqueue) -> None:
    await error_is_back(bunqueue)
    await bunqueue.server.core.execute(c.PurgeDlq(queue="bills"))


async def lie_around(bunqueue: Bunqueue) -> None:
    await push(bunqueue, "bills")
    await fail(bunqueue, "bills", 1, "no")


async def begun(bunqueue: Bunqueue, **queue: Any) -> None:
    for n in range(5):
        await push(bunqueue, "bills", str(n))
    await fail(bunqueue, "bills", 5, "no")
    await bunqueue.server.core.execute(
        c.RerunDlq(filter=c.Filter(queue=["bills"]), count=2, rate=2, stop_at=20, force=True)
    )
    await trio.sleep(3)


async def rerun_paused(bunqueue: Bunqueue) -> None:
    await begun(bunqueue)
    await bunqueue.server.core.execute(c.Pause(queue="bills"))
    await minutes(bunqueue, 2)


async def rerun_unasked(bunqueue: Bunqueue) -> None:
    await begun(bunqueue)
    await minutes(bunqueue, 2)


async def rerun_limited(bunqueue: Bunqueue) -> None:
    await begun(bunqueue)
    await bunqueue.server.core.execute(c.SetConcurrency(queue="bills", concurrency=1))
    await take(bunqueue, "bills", 1)
    await beat(bunqueue, 2)


async def rerun_rated(bunqueue: Bunqueue) -> None:
    await bunqueue.server.core.execute(c.RateLimit(queue="bills", limit=5, duration=3_600_000))
    await begun(bunqueue)
    await minutes(bunqueue, 2)


async def one_of(bunqueue: Bunqueue, **fields: Any) -> None:
    seen(bunqueue, **fields)


def figures(**fields: Any) -> Callable[[Bunqueue], Awaitable[None]]:
    async def plant(bunqueue: Bunqueue) -> None:
        seen(bunqueue, **fields)

    return plant


async def commits_are_slow(bunqueue: Bunqueue) -> None:
    slow(bunqueue, "commit")


async def loop_lags(bunqueue: Bunqueue) -> None:
    slow(bunqueue, "loop_lag")


async def log_grows(bunqueue: Bunqueue) -> None:
    seen(bunqueue, storage=bunqueue.server.statistics().storage._replace(log_bytes=GIB))


async def many_wait(bunqueue: Bunqueue) -> None:
    for n in range(25):
        await push(bunqueue, f"bills-{n}")
    await minutes(bunqueue, 2)


_AUDIT = AuditFigures(1, 1, 1, 1, None, 1, {"lost": 1}, ())
INCIDENTS: Mapping[str, tuple[str, Callable[[Bunqueue], Awaitable[None]]]] = {
    "damaged": ("storage-damaged", storage_damaged),
    "disk refuses": ("storage-failing", storage_failing), "disk fills": ("disk-fills", disk_fills), "last room": ("disk-fills", last_room), "disk is full": ("storage-failing", disk_is_full),
    "not sure": ("not-sure", figures(is_sure=False, is_ready=False)), "stops": ("not-ready", figures(is_ready=False)),
    "audit": ("audit-faults", figures(audit=_AUDIT)), "task": ("task-failing", figures(tasks=(TaskFigures("rates", "failed", 3, "boom"),))),
    "commits": ("commits-slow", commits_are_slow), "loop": ("loop-lags", loop_lags), "log": ("log-grows", log_grows),
    "events": ("events-missed", figures(events_dropped=5)),
    "nobody": ("nobody-asks", nobody_asks), "quiet": ("nobody-asks", all_are_quiet), "many": ("nobody-asks-more", many_wait),
    "slow": ("queue-waits", queue_is_slow), "limited": ("queue-waits", limited), "rated": ("queue-waits", rated), "grows": ("queue-grows", grows),
    "die": ("jobs-die", jobs_die), "die unseen": ("jobs-die", jobs_die_unseen), "fail": ("attempts-fail", attempts_fail),
    "paused": ("paused", paused), "hangs": ("job-stuck", hangs), "worker hangs": ("worker-hangs", worker_hangs), "new": ("error-new", error_is_new), "vanish": ("workers-vanish", vanish), "late": ("schedules-late", late),
    "schedule dies": ("schedule-dies", schedule_dies), "schedule blocked": ("schedule-blocked", schedule_is_blocked),
    "late, and deleted": ("schedules-late", late_and_deleted), "back": ("error-back", error_is_back), "back, and gone": ("error-back", error_is_back_and_gone), "dead": ("dead-letters", lie_around),
    "rerun paused": ("rerun-held", rerun_paused), "rerun unasked": ("rerun-held", rerun_unasked),
    "rerun limited": ("rerun-held", rerun_limited), "rerun rated": ("rerun-held", rerun_rated), "quiet for long": ("workers-quiet", quiet_for_long),
}  # fmt: skip
"""Incident → the finding that it makes, and how it comes about."""

ACTS = ("pause", "resume", "limit", "cancel", "clean", "workers unquiet", "workers release", "reruns stop")
"""Lines that change something about what they are said of."""
UNTRIED = ("watch", "doctor")
"""Lines that go on until Ctrl-C; that need a real server, or its file."""
STAYS = {"schedules run"}
"""What was missed was missed, whatever runs now."""


def test_each_finding_with_commands_has_its_incident():
    assert {each.code for each in ALL_OF_THEM if each.commands} == {code for code, _ in INCIDENTS.values()}


async def found(shell: Shell, code: str) -> list[dict[str, Any]]:
    await trio.sleep(2)  # one picture is shown for a second
    lines = [json.loads(line) for line in (await shell("findings", "--json")).stdout.splitlines()]
    return [each for each in lines if each["code"] == code]


def told(each: dict[str, Any]) -> tuple[Any, ...]:
    """Return what of a finding does not change by itself."""
    return each["cause"], each["numbers"].get("jobs"), each["commands"], each["evidence"]


@pytest.mark.parametrize("incident", INCIDENTS)
async def test_what_a_finding_advises_is_accepted_and_helps(shell: Shell, incident: str):
    code, plant = INCIDENTS[incident]
    await plant(shell.bunqueue)
    first, *_ = await found(shell, code)
    for line in first["commands"]:
        words = shlex.split(line.removeprefix("bunqueue-trio "))
        is_act = line.removeprefix("bunqueue-trio ").startswith(ACTS)
        before = [told(each) for each in await found(shell, code)]
        if " ".join(words[:2]) in UNTRIED or words[0] in UNTRIED or not before:
            continue
        asks = ["--yes"] if words[0] in ("cancel", "clean") else []
        done = await shell(*words[:1], *asks, *words[1:], *(["--yes"] if words[:2] == ["workers", "release"] else []))
        # The health of a server that stops is bad, and said to be.
        assert done.exit_code == 0 or words[0] == "health", (line, done.output)
        assert "503" not in done.output
        if is_act:
            assert [told(each) for each in await found(shell, code)] != before, f"{line} changes nothing"
    # The disk has room again, so that the server can end.
    vars(shell.bunqueue.server.store).pop("commit", None)
    await trio.sleep(5)
