"""What is done to the file of the server."""

import trio

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.server_replies import UpkeepView
from tests.commands.carriers import PATIENCE_S, Api


async def ended(api: Api, kind: str) -> UpkeepView:
    """Wait until nothing is under way, and return what came of the last of a kind."""
    with trio.fail_after(PATIENCE_S):
        while True:
            found = (await api.run(c.StorageStatus())).data.upkeep
            if all(each.state != "running" for each in found):
                return next(each for each in found if each.kind == kind)
            await trio.sleep(0.02)


async def test_the_file_is_checked_and_the_server_says_what_came_of_it(api: Api):
    planned = (await api.run(c.CheckStorage(dry_run=True))).work
    assert (planned.state, planned.started_at) == ("planned", None)
    begun = (await api.run(c.CheckStorage())).work
    assert begun.state == "running"
    work = await ended(api, "check")
    assert (work.state, work.findings, work.started_at) == ("done", [], begun.started_at)
    assert work.done == work.total > 0


async def test_the_file_is_shrunk(api: Api):
    assert (await api.run(c.ShrinkStorage())).work.state == "running"
    assert (await ended(api, "shrink")).state == "done"


async def test_a_server_that_was_given_no_directory_makes_no_copies(api: Api):
    assert await api.refused(c.BackupStorage()) == c.NO_UPKEEP
    backups = (await api.run(c.StorageStatus())).data.backups
    assert backups is not None
    assert backups.directory is None
