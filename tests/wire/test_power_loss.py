"""Power cuts: nothing durable is lost, what is left is a prefix of the commits; and the disk that shows it is as bad as a real one."""

import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from bunqueue_trio.testing.crash.disk import SECTOR, Disk, survivors
from tests.programs import run_to_its_end
from tests.wire.test_kill import answered, crashtest
from trials.lib.places import ROOT

CUTS = 200
OLD, NEW = b"o" * SECTOR * 4, b"n" * SECTOR * 4


@pytest.mark.slow
def test_power_cuts_lose_nothing_durable(tmp_path: Path):
    done = crashtest("--power-loss", "--kills", "3", "--seed", "3", "--data", str(tmp_path), within_s=590)
    assert done.returncode == 0, done.stdout + done.stderr
    assert answered(done.stdout) >= 3, "one a life: how many more there are is a matter of the machine"


@pytest.mark.slow
def test_a_disk_that_lies_about_syncs_is_found_out(tmp_path: Path):
    """The audit can fail: durable pushes that a disk only claims to have are missed."""
    arguments = ["--lying-disk", "--durable", "--kills", "20", "--seed", "4", "--data", str(tmp_path)]
    done = crashtest(*arguments, within_s=290)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "BREACH: pushed with an answer" in done.stdout or "BREACH: no audit was possible" in done.stdout
    assert "with seed 4" in done.stdout
    (kept,) = tmp_path.iterdir()
    assert str(kept) in done.stdout


RESTARTS_WITHOUT_POWER = """
import pathlib, sys
from bunqueue_trio.testing.crash import rounds as crashtest
crashtest.ENDS, crashtest.DURABLE_SHARES = {"kill": 1}, (0.0,)
crashtest.STILLBORN, crashtest.STILLBORN_S = 0.7, 0.05  # too short a life to sync anything
for done in crashtest.rounds(pathlib.Path(sys.argv[1]), 40, 3, power_loss=True):
    if done.verdict.breaches or done.verdict.lost:
        break
print(done.verdict.lost, "lost,", len(done.verdict.breaches), "breaches", done.verdict.breaches[:3])
"""


@pytest.mark.slow
def test_power_lost_while_the_server_restarts_after_a_kill_is_judged_as_a_power_cut(tmp_path: Path):
    """A kill leaves answered changes that are not synced: what the power takes then was not promised."""
    command = [sys.executable, "-c", RESTARTS_WITHOUT_POWER, str(tmp_path)]
    done = run_to_its_end(command, within_s=590, cwd=ROOT)
    assert re.search(r"^[1-9]\d* lost, 0 breaches", done.stdout, re.MULTILINE), done.stdout + done.stderr


class Written:
    """A file on the simulated disk, written as SQLite would, and what cuts leave of it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "a.db"
        self.log = directory / "log"
        self.disk = Disk(self.log)
        flags = apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_READWRITE
        self.file = self.disk.xOpen(str(self.path), [flags, 0])

    def sync_directory(self) -> None:
        self.disk.note_synced("directory", str(self.path.parent), self.disk.position())

    def left(self) -> list[bytes | None]:
        """What different cuts leave; None: not even the name."""
        return [survivors({}, self.log, random.Random(seed)).get(self.path.name) for seed in range(CUTS)]


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    made = Written(tmp_path)
    made.file.xWrite(OLD, 0)
    made.file.xSync(apsw.SQLITE_SYNC_NORMAL)
    yield made
    made.file.xClose()
    made.disk.unregister()


def test_a_name_is_certain_after_a_sync_of_its_directory(written: Written):
    assert set(written.left()) == {None, OLD}
    written.sync_directory()
    assert set(written.left()) == {OLD}


def test_a_synced_write_is_there_after_every_cut(written: Written):
    written.sync_directory()
    written.file.xWrite(NEW, 0)
    written.file.xSync(apsw.SQLITE_SYNC_NORMAL)
    assert set(written.left()) == {NEW}


def test_an_unsynced_write_is_kept_lost_or_torn_at_sectors(written: Written):
    written.sync_directory()
    written.file.xWrite(NEW, 0)
    left = written.left()
    assert {OLD, NEW} < set(left)
    sectors = {each[i : i + SECTOR] for each in left if each for i in range(0, len(each), SECTOR)}
    assert sectors == {OLD[:SECTOR], NEW[:SECTOR]}


def test_unsynced_writes_are_reordered(written: Written):
    """The later of two may be there without the earlier, in another sector, never within one."""
    written.sync_directory()
    written.file.xWrite(b"1" * 100, 0)
    written.file.xWrite(b"2" * 100, 50)
    written.file.xWrite(b"3" * 100, 3 * SECTOR)
    heads = {(each[0:1], each[50:51], each[3 * SECTOR : 3 * SECTOR + 1]) for each in written.left() if each}
    assert (b"o", b"o", b"3") in heads
    assert (b"1", b"2", b"o") in heads
    assert not {head for head in heads if head[:2] == (b"o", b"2")}


def test_an_unsynced_growth_may_be_cut_or_read_as_zeros(written: Written):
    written.sync_directory()
    written.file.xWrite(NEW, len(OLD))
    left = [each[len(OLD) :] for each in written.left() if each]
    assert b"" in left
    assert NEW in left
    assert any(bytes(SECTOR) in each for each in left)
    assert all(each.startswith(OLD) for each in written.left() if each)


def test_an_unsynced_truncation_may_come_back(written: Written):
    written.sync_directory()
    written.file.xTruncate(SECTOR)
    assert {OLD, OLD[:SECTOR]} <= set(written.left())
    written.file.xSync(apsw.SQLITE_SYNC_NORMAL)
    assert set(written.left()) == {OLD[:SECTOR]}


def test_a_removed_name_may_come_back_until_the_directory_is_synced(written: Written):
    written.sync_directory()
    written.disk.xDelete(str(written.path), False)
    assert set(written.left()) == {None, OLD}
    written.sync_directory()
    assert set(written.left()) == {None}


def test_a_write_cut_short_in_the_log_has_not_happened(written: Written):
    written.sync_directory()
    written.file.xWrite(NEW, 0)
    written.log.write_bytes(written.log.read_bytes()[:-1])
    assert set(written.left()) == {OLD}


def test_what_is_written_after_a_write_cut_short_by_a_kill_is_read(written: Written):
    """The next process goes on with the log of the one that was killed in the middle of a write."""
    written.sync_directory()
    written.file.xWrite(OLD, 0)
    written.log.write_bytes(written.log.read_bytes()[:-1])
    written.disk = Disk(written.log)
    flags = apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READWRITE
    written.file = written.disk.xOpen(str(written.path), [flags, 0])
    written.file.xWrite(NEW, 0)
    written.file.xSync(apsw.SQLITE_SYNC_NORMAL)
    assert set(written.left()) == {NEW}
