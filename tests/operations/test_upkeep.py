"""Copies, checks and shrinks that a running server makes of its file, and what a stop and a kill leave of them."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel

from bunqueue_trio.config import MIB
from bunqueue_trio.errors import Refused
from bunqueue_trio.pages.upkeep import upkeep_findings
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime import upkeep
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.storage.sqlite.inspect import examine
from bunqueue_trio.storage.store import Retention
from tests.operations.upkeep_world import ANA, PATIENCE_S, do, held, names, push, running, until
from tests.storage.damaged import overwrite

NOTHING_KEPT = Retention(completed_max=0, dead_max=0, finished_since=0, events_max=0, events_since=0)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "copies"
    made.mkdir()
    return made


async def refused(server: Server, command: c.Command[Any]) -> str:
    with pytest.raises(Refused) as caught:
        await server.core.execute(command, by=ANA)
    assert (caught.value.status, caught.value.code) == (409, "no-upkeep")
    return str(caught.value)


async def test_a_copy_is_whole_private_and_an_act_of_who_wanted_it(tmp_path: Path, directory: Path):
    async with running(tmp_path / "queue.db", directory) as server:
        await push(server, 20)
        planned: Any = await server.core.execute(c.BackupStorage(dry_run=True), by=ANA)
        assert planned.work.state == "planned"
        assert planned.work.bytes > 0
        assert planned.work.room > planned.work.bytes
        assert names(directory) == []
        work = await do(server, c.BackupStorage())
        await push(server, 1)
        assert (work.state, work.error, work.who) == ("done", None, "ana")
        (copy,) = (directory / name for name in names(directory))
        assert work.file == str(copy)
        assert copy.stat().st_mode & 0o777 == 0o600
        assert work.bytes == copy.stat().st_size
        report = examine(copy, lambda _: None)
        assert report.findings == []
        assert report.unfinished == {"waiting": 20}
        told = server.statistics().storage
        assert told.upkeep == (work,)
        assert told.backups is not None
        assert (told.backups.copies, told.backups.last_bytes) == (1, work.bytes)
        acts: Any = await server.core.execute(c.Actions())
        assert [(act.command, act.who) for act in acts.actions] == [("BackupStorage", "ana")]


async def test_as_many_copies_are_kept_as_are_wanted_and_what_is_not_ours_stays(tmp_path: Path, directory: Path):
    old = [f"queue-2025110{n}T020000Z.db" for n in range(1, 5)]
    for name in (*old, "other-20251101T020000Z.db", "queue-20251101T020000Z.db.partial"):
        (directory / name).write_bytes(b"old")
    async with running(tmp_path / "queue.db", directory, backups_kept=3) as server:
        planned: Any = await server.core.execute(c.BackupStorage(dry_run=True))
        assert planned.work.drops == old[:2]
        work = await do(server, c.BackupStorage())
        assert work.file is not None
        assert names(directory) == sorted([*old[2:], "other-20251101T020000Z.db", Path(work.file).name])


async def test_where_no_copy_can_be_made_the_answer_says_what_is_missing(tmp_path: Path, directory: Path):
    async with running(tmp_path / "a.db", None) as server:
        assert "BACKUP_DIR names no directory" in await refused(server, c.BackupStorage())
        assert "BACKUP_DIR names no directory" in await refused(server, c.BackupStorage(dry_run=True))
    async with running(tmp_path / "b.db", tmp_path / "none") as server:
        assert "there is no such directory" in await refused(server, c.BackupStorage())
        assert [each["title"] for each in upkeep_findings(server.statistics())] == ["No backup can be made"]
    async with running(tmp_path / "c.db", directory, disk_reserve_bytes=1024 * 1024 * MIB) as server:
        assert "its disk has" in await refused(server, c.BackupStorage())
        (told,) = upkeep_findings(server.statistics())
        assert (told["title"], "its disk has" in told["cause"]) == ("No backup can be made", True)
    async with running(tmp_path / "d.db", directory, MemoryStore()) as server:
        for kind in (c.BackupStorage, c.CheckStorage, c.ShrinkStorage):
            assert "in memory only" in await refused(server, kind())
        assert server.statistics().storage.backups is None
    assert names(directory) == []


async def test_a_copy_whose_disk_fills_meanwhile_ends_before_the_room_for_acks_is_gone(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
):
    async with running(tmp_path / "queue.db", directory) as server:
        monkeypatch.setattr(upkeep, "room_of", lambda _: 1)
        work = await do(server, c.BackupStorage())
        assert work.state == "failed"
        assert "no room left but what is kept for acks" in (work.error or "")
        assert names(directory) == []
        monkeypatch.undo()
        assert (await do(server, c.BackupStorage())).state == "done"


async def test_the_server_works_on_beside_a_copy_and_begins_no_other(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
):
    async with running(tmp_path / "queue.db", directory) as server:
        await push(server, 200, 50_000)
        let_go = await held(monkeypatch, server, c.BackupStorage())
        assert [name for name in names(directory) if name.endswith(".db")] == []
        (work,) = server.statistics().storage.upkeep
        assert (work.state, work.error) == ("running", None)
        assert 0 < work.done <= work.total
        assert list(upkeep_findings(server.statistics())) == []
        await push(server, 1)
        with pytest.raises(Refused, match="A backup is under way"):
            await server.core.execute(c.CheckStorage())
        let_go()
        await until(lambda: work.state == "done")


async def test_pages_over_all_queues_hear_when_it_is_done(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
):
    async with running(tmp_path / "queue.db", directory) as server:
        await push(server, 200, 50_000)
        let_go = await held(monkeypatch, server, c.BackupStorage())
        watch, of_a_queue = (server.news.watch(queue, is_touched=False) for queue in (None, "q"))
        let_go()
        await until(watch.take)
        assert server.engine.upkeep.under_way is None
        assert not of_a_queue.take()


async def test_a_stop_ends_a_copy_and_leaves_no_part_of_it(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
):
    async with running(tmp_path / "queue.db", directory) as server:
        await push(server, 200, 50_000)
        let_go = await held(monkeypatch, server, c.BackupStorage())
        server.stop.set()
        await trio.lowlevel.checkpoint()
        let_go()
        work = server.engine.upkeep.last["backup"]
        await until(lambda: work.state == "failed")
    assert work.error == "the server has stopped"
    assert names(directory) == []


async def test_a_stop_waits_for_no_disk_of_copies_that_hangs(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(upkeep, "STOP_S", 0.1)
    with trio.fail_after(PATIENCE_S):
        async with running(tmp_path / "queue.db", directory) as server:
            await push(server, 200, 50_000)
            let_go = await held(monkeypatch, server, c.BackupStorage())
    assert server.engine.upkeep.last["backup"].error == "the server has stopped"
    let_go()
    # The thread comes to its end all the same.
    await until(lambda: names(directory) == [])


async def test_copies_of_one_second_are_called_after_the_next_ones(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
):
    async with running(tmp_path / "queue.db", directory) as server:
        now = server.clock.now()
        monkeypatch.setattr(server.keeper._clock, "now", lambda: now)
        assert [(await do(server, c.BackupStorage())).error for _ in range(3)] == [None] * 3
        assert len(names(directory)) == 3


async def test_a_copy_that_cannot_take_the_place_of_another_says_that_it_is_whole(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
):
    old = directory / "queue-20251101T020000Z.db"
    old.touch()
    async with running(tmp_path / "queue.db", directory, backups_kept=1) as server:
        unlink = Path.unlink

        def refuse(path: Path, *, missing_ok: bool = False) -> None:
            if path == old:
                raise PermissionError(1, "Operation not permitted")
            unlink(path, missing_ok=missing_ok)

        monkeypatch.setattr(Path, "unlink", refuse)
        work = await do(server, c.BackupStorage())
        assert work.error == f"the copy is whole, but {old.name} cannot be deleted: Operation not permitted"
        assert len(names(directory)) == 2


_KILLED = """
import os, signal, sys
from pathlib import Path
from bunqueue_trio.storage.sqlite import SqliteStore
def die(done, total):
    os.kill(os.getpid(), signal.SIGKILL)
SqliteStore(Path(sys.argv[1])).copy_to(Path(sys.argv[2]), die)
"""


async def test_a_process_that_is_killed_in_the_midst_leaves_no_half_of_a_copy_under_its_name(
    tmp_path: Path, directory: Path
):
    file = tmp_path / "queue.db"
    async with running(file, directory) as server:
        await push(server, 10)
    ended = await trio.run_process(
        [sys.executable, "-c", _KILLED, str(file), str(directory / "queue-20251101T020000Z.db")],
        check=False, env=os.environ, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert ended.returncode == -signal.SIGKILL
    assert "queue-20251101T020000Z.db.partial" in names(directory)
    assert "queue-20251101T020000Z.db" not in names(directory)
    async with running(file, directory) as server:
        # It would take the room of the next one.
        assert names(directory) == []
        work = await do(server, c.BackupStorage())
        assert [str(directory / name) for name in names(directory)] == [work.file]


async def test_a_check_reads_all_of_the_file_and_says_what_is_damaged(tmp_path: Path):
    async with running(tmp_path / "queue.db", None) as server:
        await push(server, 200, 500)
        work = await do(server, c.CheckStorage())
        assert (work.state, work.findings) == ("done", [])
        assert work.done == work.total == len(server.store.parts()) > 0
        server.store.checkpoint(restart=True)
        overwrite(tmp_path / "queue.db", "event_batch")
        work = await do(server, c.CheckStorage())
        assert work.state == "done", "it was looked at to its end"
        assert "event_batch" in work.findings[0]
        assert len(work.findings) == 1
        overwrite(tmp_path / "queue.db", "finished")
        work = await do(server, c.CheckStorage())
        for table in ("event_batch", "finished"):
            assert any(f"table {table}: " in each for each in work.findings)


async def test_a_check_says_what_others_have_met_before(tmp_path: Path):
    async with running(tmp_path / "queue.db", None) as server:
        server.store._meaning.note("page 7")  # type: ignore[attr-defined]
        assert (await do(server, c.CheckStorage())).findings == ["page 7"]


async def test_a_copy_needs_no_room_for_what_it_leaves_out(tmp_path: Path, directory: Path):
    async with running(tmp_path / "queue.db", directory) as server:
        for free, size in ((99 * MIB, 1000 * MIB), (100 * MIB, 900 * MIB)):
            server.shrinker.space = server.shrinker.space._replace(file=1000 * MIB, free=free)
            planned: Any = await server.core.execute(c.BackupStorage(dry_run=True))
            assert planned.work.bytes == size + server.store.log_bytes()


async def test_a_stop_ends_a_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async with running(tmp_path / "queue.db", None) as server:
        await push(server, 3000, 100)
        let_go = await held(monkeypatch, server, c.CheckStorage())
        server.stop.set()
        let_go()
        work = server.engine.upkeep.last["check"]
        await until(lambda: work.state == "failed")
    assert work.error == "the server has stopped"


async def test_a_shrink_gives_all_back_that_is_free(tmp_path: Path):
    file = tmp_path / "queue.db"
    async with running(file, None, retention_events_max=0) as server:
        for job_id in await push(server, 40, 100_000):
            await server.core.execute(c.Cancel(id=job_id))
        await until(lambda: server.store.prune(NOTHING_KEPT) == 0)
        await until(lambda: server.shrinker.space.free > MIB)
        server.store.checkpoint(restart=False)
        before = file.stat().st_size
        planned: Any = await server.core.execute(c.ShrinkStorage(dry_run=True))
        assert planned.work.bytes > MIB
        work = await do(server, c.ShrinkStorage())
        assert (work.state, work.error) == ("done", None)
        assert work.bytes >= planned.work.bytes
        await until(lambda: before - file.stat().st_size >= MIB)
        assert (await do(server, c.ShrinkStorage())).state == "done"
