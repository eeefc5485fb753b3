"""The page about the disk: what is done to the file from there, and why it is not done where that cannot be."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.testing.server import Bunqueue
from tests.operations.upkeep_world import held, names, push, running, until
from tests.ui.site import Site


def site_of(server: Server) -> Site:
    bunqueue: Any = SimpleNamespace(server=server)
    return Site(bunqueue)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "copies"
    made.mkdir()
    return made


async def test_a_copy_is_made_from_the_page_which_says_what_became_of_it(tmp_path: Path, directory: Path) -> None:
    async with running(tmp_path / "queue.db", directory) as server:
        site = site_of(server)
        page = await site.get("/ui/storage")
        assert page.said(f"0 copies in {directory}, at most 7 are kept")
        assert page.said("bunqueue-trio storage backup")
        assert page.said("curl -X POST http://queue.example:6790/storage/backup")
        first = await site.get("/ui/act/backup")
        assert first.said(f"would be written to {directory}/queue-")
        assert first.said("Its disk has")
        assert names(directory) == []
        done = await site.follow(await site.post("/ui/act/backup", {"csrf": first.csrf}))
        assert done.said("It has begun: here is how far it is.")
        await until(lambda: server.engine.upkeep.under_way is None)
        page = await site.get("/ui/storage")
        (copy,) = (directory / name for name in names(directory))
        assert page.said(f"in {copy}.")
        assert page.said(f"1 copy in {directory}")
        assert (await site.get("/ui/actions")).said("storage backup")


async def test_the_page_says_how_far_a_copy_is_and_that_nothing_else_begins_meanwhile(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path / "queue.db", directory) as server:
        await push(server, 200, 50_000)
        let_go = await held(monkeypatch, server, c.BackupStorage())
        site = site_of(server)
        assert (await site.get("/ui/storage")).said("% of")
        page = await site.do("check")
        assert page.status == 409 or page.said("A backup is under way: wait until it has ended")
        let_go()
        await until(lambda: server.engine.upkeep.under_way is None)


async def test_a_button_says_which_setting_is_missing(tmp_path: Path) -> None:
    async with running(tmp_path / "queue.db", None) as server:
        site = site_of(server)
        assert (await site.get("/ui/storage")).said("BACKUP_DIR names no directory for copies")
        page = await site.get("/ui/act/backup")
        assert page.status == 400
        assert page.said("That cannot be done now: BACKUP_DIR names no directory for copies")


async def test_what_has_failed_or_was_found_stands_out(tmp_path: Path) -> None:
    async with running(tmp_path / "queue.db", None) as server:
        site = site_of(server)
        await site.do("check")
        await until(lambda: server.engine.upkeep.under_way is None)
        page = await site.get("/ui/storage")
        assert page.said("Nothing is wrong with")
        assert "s-failed" not in page.html
        server.engine.upkeep.last["check"].findings = ["table job: <b>torn</b>"]
        page = await site.get("/ui/storage")
        assert page.said("table job: <b>torn</b>")
        assert "s-failed" in page.html


async def test_a_queue_in_memory_has_no_file_to_do_anything_to(site: Site, bunqueue: Bunqueue) -> None:
    page = await site.get("/ui/storage")
    assert page.said("The queue is in memory")
    assert "/ui/act/backup" not in page.html
