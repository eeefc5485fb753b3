"""The self-audit's task in virtual time: its pace, its account, and what it does about faults and bad disks."""

from collections import Counter
from typing import Any

import pytest
import trio

from bunqueue_trio.config import AUDIT_FINDINGS_MAX, AUDIT_PAUSE_MS
from bunqueue_trio.engine.audit import AuditFault, Pass, Stored
from bunqueue_trio.engine.audit_kept import Kept
from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import StoreError
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime.audit import Auditor
from bunqueue_trio.runtime.supervisor import Child, supervise
from bunqueue_trio.storage.store import Batch
from tests.runtime.runtime_world import World

PAUSE_S = AUDIT_PAUSE_MS / 1000


def auditor(world: World, per_second: int = 1000) -> Auditor:
    return Auditor(world.engine, world.journal, world.store, world.clock, {"socket"}, per_second)


async def test_passes_follow_each_other_and_find_nothing_in_a_sound_server(running: World, nursery: trio.Nursery):
    audit = auditor(running)
    nursery.start_soon(audit.run)
    for _ in range(250):
        await running.push()
    await running.pull(owner="socket")
    await trio.sleep(3 * PAUSE_S)
    assert audit.done >= 2
    assert audit.checked >= 500
    assert sum(audit.faults.values()) == 0
    assert audit.findings == {}
    assert audit.last_done_at is not None


async def test_the_pace_is_what_was_asked_for(running: World, nursery: trio.Nursery):
    for _ in range(1000):
        await running.push()
    audit = auditor(running, per_second=100)
    nursery.start_soon(audit.run)
    await trio.sleep(5)
    assert 400 <= audit.checked <= 700
    assert audit.done == 0
    await trio.sleep(60)
    assert audit.done >= 1
    assert audit.last_ms >= 10_000


async def test_a_fault_is_logged_once_and_counted_in_each_pass(
    running: World, nursery: trio.Nursery, logs: list[dict[str, Any]]
):
    await running.push()
    running.engine.counts[State.WAITING] += 5
    audit = auditor(running)
    nursery.start_soon(audit.run)
    await trio.sleep(2.5 * PAUSE_S)
    assert audit.done == 3
    assert audit.faults["counts"] == 3
    [finding] = [each for each in audit.findings.values() if each.kind == "counts"]
    assert "all queues count 6 waiting" in finding.what
    assert (finding.times, finding.last_at - finding.first_at) == (3, 2 * AUDIT_PAUSE_MS)
    told = [entry for entry in logs if entry["event"] == "the self-audit found a fault"]
    assert len(told) == len(audit.findings)
    assert await running.push()  # the server goes on


async def test_a_row_that_changed_under_the_server_is_found(running: World, nursery: trio.Nursery):
    await running.push()
    store: Any = running.store.inner
    store._jobs[1] = store._jobs[1]._replace(attempts=7)
    audit = auditor(running)
    nursery.start_soon(audit.run)
    await trio.sleep(1)
    assert audit.faults["disk_different"] == 1


async def test_a_disk_that_cannot_be_read_ends_the_pass_and_not_the_task(
    running: World, nursery: trio.Nursery, logs: list[dict[str, Any]]
):
    await running.push()
    audit = auditor(running)
    running.store.blind = True
    nursery.start_soon(audit.run)
    await trio.sleep(1.5 * PAUSE_S)
    assert (audit.begun, audit.done) == (2, 0)
    assert running.engine.queues.recount is None
    assert "the self-audit could not read" in [entry["event"] for entry in logs]
    running.store.blind = False
    await trio.sleep(PAUSE_S)
    assert audit.done == 1


async def test_a_pass_begins_when_what_is_there_is_committed(world: World, nursery: trio.Nursery):
    """No flusher runs at first: a pass must not take what waits for the disk for a row that is missing."""
    nursery.start_soon(world.push)
    await trio.testing.wait_all_tasks_blocked()
    audit = auditor(world)
    nursery.start_soon(audit.run)
    await trio.sleep(1)
    assert audit.checked == 0
    nursery.start_soon(supervise, world.flusher)
    await trio.sleep(1)
    assert (audit.done, sum(audit.faults.values())) == (1, 0)


@pytest.mark.thorough
async def test_a_task_that_is_cancelled_or_fails_leaves_the_engine_as_it_was(
    running: World, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
):
    for _ in range(300):
        await running.push()
    audit = auditor(running, per_second=10)
    child = Child("self-audit", audit.run)
    with trio.move_on_after(5):
        await supervise(child)
    assert running.engine.queues.recount is None
    monkeypatch.setattr(audit._store, "stored", lambda *_: 1 / 0)
    with trio.move_on_after(1):
        await supervise(child)
    assert child.restarts >= 1
    assert running.engine.queues.recount is None


async def test_a_job_that_changes_while_its_row_is_read_is_not_accused(
    running: World, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
):
    """The rows are read beside the loop, which goes on: commits in between are taken into account."""
    job = await running.push()
    other = await running.push()
    audit = auditor(running)

    async def slow(after: int, upto: int) -> Any:
        rows = running.store.stored(after, upto, 100)
        await running.pull()
        await running.ack(job)
        await running.core.execute(c.Cancel(id=other))
        return rows

    monkeypatch.setattr(audit, "_read", slow)
    nursery.start_soon(audit.run)
    await trio.sleep(1)
    assert (audit.done, sum(audit.faults.values())) == (1, 0)


async def test_the_list_of_findings_is_bounded(world: World):
    audit = auditor(world)
    for n in range(AUDIT_FINDINGS_MAX + 5):
        audit._found(AuditFault("ready", f"fault {n}"))
    assert len(audit.findings) == AUDIT_FINDINGS_MAX
    assert "fault 4" not in audit.findings


async def test_jobs_that_depend_on_many_are_looked_at_a_few_at_a_time(
    running: World, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
):
    """A hundred of them have 100,000 dependencies, each of which is looked up."""
    monkeypatch.setattr("bunqueue_trio.runtime.audit.AUDIT_DEPENDENCIES", 20)
    names = [await running.push(job_id=f"n-{n}") for n in range(10)]
    for _ in range(9):
        await running.push(depends_on=names)
    parts: list[int] = []
    rows = Pass.rows

    def counted(self: Pass, some: list[Stored], *args: Any) -> None:
        parts.append(sum(len(each.job.options.depends_on) for each in some if each.job))
        rows(self, some, *args)

    monkeypatch.setattr(Pass, "rows", counted)
    watched = auditor(running)
    nursery.start_soon(watched.run)
    await trio.sleep(2)
    assert watched.done == 1
    assert (max(parts), sum(parts)) == (20, 90)
    assert watched.findings == {}


async def test_facts_and_records_that_changed_under_the_server_are_found(running: World, nursery: trio.Nursery):
    await running.core.execute(c.Pause(queue="still"))
    await running.core.execute(c.SetConcurrency(queue="narrow", concurrency=2))
    job_id = await running.push(max_attempts=1)
    await running.core.execute(c.Discard(id=job_id))
    audit = auditor(running)
    nursery.start_soon(audit.run)
    await trio.sleep(1)
    assert (audit.done, audit.findings) == (1, {})
    store: Any = running.store.inner
    del store._facts["paused", "still"]
    store._facts["concurrency", "narrow"] = b"3"
    del store._finished[job_id]
    await trio.sleep(PAUSE_S)
    assert audit.done == 2
    assert {each.what for each in audit.findings.values() if each.kind in ("facts", "records")} == {
        "queue q counts 0 completed and 1 failed jobs, and keeps 0 and 0",
        "the concurrency of narrow is stored, and is another in memory",
        "the paused of still is in memory, and is not stored",
    }


async def test_a_large_queue_that_changes_while_it_is_counted_is_left_for_the_next_pass(
    running: World, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
):
    """Commits would wait while it is counted once more."""
    monkeypatch.setattr("bunqueue_trio.runtime.audit.COUNTED_MAX", 0)
    await running.core.execute(c.Discard(id=await running.push()))
    store: Any = running.store.inner
    count = store.stored_kept

    def changing(queue: str) -> Kept:
        kept: Kept = count(queue)
        store.finished_counts = store.finished_counts + Counter([("q", "completed")])
        return kept._replace(completed=7)

    monkeypatch.setattr(store, "stored_kept", changing)
    audit = auditor(running)
    nursery.start_soon(audit.run)
    await trio.sleep(1)
    assert (audit.done, audit.findings) == (1, {})
    monkeypatch.undo()
    await trio.sleep(PAUSE_S)
    assert sorted(audit.findings) == ["queue q counts 1 completed and 1 failed jobs, and keeps 0 and 1"]


async def test_a_batch_whose_answer_was_lost_is_no_fault(
    running: World, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
):
    """It is there, and the server will know when it has asked again."""
    await running.core.execute(c.Discard(id=await running.push()))
    store: Any = running.store
    commit, count, is_heard = store.commit, store.stored_kept, trio.Event()

    def commit_and_say_nothing(batch: Batch) -> None:
        if not is_heard.is_set():
            raise StoreError("the connection broke after the commit")
        commit(batch)

    def with_the_batch(queue: str) -> Kept:
        kept: Kept = count(queue)
        return kept if is_heard.is_set() else kept._replace(failed=kept.failed + 1)

    monkeypatch.setattr(store, "commit", commit_and_say_nothing)
    monkeypatch.setattr(store, "stored_kept", with_the_batch)
    with trio.move_on_after(1):
        await running.push()
    audit = auditor(running)
    nursery.start_soon(audit.run)
    await trio.sleep(2 * PAUSE_S)
    assert audit.findings == {}
    is_heard.set()
    await trio.sleep(2 * PAUSE_S)
    assert running.journal.failing is None
    assert (audit.done > 1, audit.findings) == (True, {})
    monkeypatch.setattr(store, "stored_kept", lambda queue: count(queue)._replace(failed=7))
    await trio.sleep(2 * PAUSE_S)
    assert sorted(audit.findings) == ["queue q counts 0 completed and 1 failed jobs, and keeps 0 and 7"]
