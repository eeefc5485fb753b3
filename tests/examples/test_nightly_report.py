"""examples/nightly_report.py through weeks of nights in virtual time, with a worker that dies and a server that is away."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import trio

from bunqueue_trio import Job, Worker
from bunqueue_trio.testing import Bunqueue
from examples import nightly_report
from tests.examples.conftest import Start, wait_until
from tests.patience import PATIENCE_S
from tests.wire.server import Server

EVENING = datetime(2026, 1, 1, 18, tzinfo=UTC)  # when each test begins
FIRST = EVENING.date()
DAY_S = 24 * 3600.0
RESTART_S = 300.0  # as long as somebody takes to start a dead worker again


class Died(BaseException):
    """The process of the worker is gone."""


class Shop:
    """A shop with sales on every day of January, its reports, and the worker that makes them."""

    def __init__(self, bunqueue: Bunqueue, directory: Path) -> None:
        self.bunqueue = bunqueue
        self.database = directory / "shop.db"
        self.reports = directory / "reports"
        self.runs: list[tuple[str, list[str]]] = []  # when a run ended, and what it made
        self.at_work: Worker | None = None
        self.dead = trio.Event()
        nightly_report.invent_sales(self.database, FIRST, days=31)

    def now(self) -> datetime:
        return EVENING + timedelta(seconds=self.bunqueue.elapsed)

    async def schedule(self) -> None:
        await nightly_report.schedule(self.bunqueue.client, self.database, self.reports, self.now())

    def worker(self) -> Worker:
        worker = self.bunqueue.worker(nightly_report.QUEUE, concurrency=1)

        @worker.handler
        def run(job: Job) -> list[str]:
            made = nightly_report.make_missing(job, self.now().date())
            self.runs.append((f"{self.now():%d %H:%M}", made))
            return made

        return worker

    async def work_for_ever(self) -> None:
        while True:
            self.dead = trio.Event()
            self.at_work = self.worker()
            self.bunqueue.start(self.at_work)
            await self.dead.wait()
            await trio.sleep(RESTART_S)

    def die(self) -> None:
        """Let the worker's process end here, in the thread of its handler: nothing after this line happens."""
        trio.from_thread.run_sync(self._end)
        raise Died

    def _end(self) -> None:
        """In one step, since nobody waits for a thread whose worker is dead, and so virtual time goes on."""
        assert self.at_work is not None
        self.bunqueue.kill(self.at_work)
        self.dead.set()

    def check(self, days: int) -> None:
        """Every day has its report, and the report the day's total."""
        paths = sorted(self.reports.glob("sales-*.txt"))
        assert [path.name for path in paths] == [f"sales-2026-01-{n + 1:02}.txt" for n in range(days)]
        with closing(sqlite3.connect(self.database)) as database, database:
            for n, path in enumerate(paths):
                day = FIRST + timedelta(days=n)
                query = "SELECT sum(cents) FROM sale WHERE at LIKE ?"
                total = database.execute(query, (f"{day}%",)).fetchone()[0]
                assert path.read_text().splitlines()[-1].split()[2] == f"{total / 100:.2f}"
        assert not list(self.reports.glob("*.part"))


@pytest.fixture
async def shop(bunqueue: Bunqueue, tmp_path: Path) -> Shop:
    return Shop(bunqueue, tmp_path)


@pytest.fixture
def written(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], list[str]]:
    """Let the worker die once when it writes the report of a day, before or after; return what was written."""
    write = nightly_report.write

    def plan(day: str, moment: str) -> list[str]:
        names: list[str] = []

        def mortal(path: Path, text: str) -> None:
            dies = day in path.name and not names.count(f"died {moment}")
            if dies and moment == "before":
                path.with_suffix(".part").write_text(text[:10])
                names.append("died before")
                shop.die()
            write(path, text)
            names.append(path.name)
            if dies:
                names.append("died after")
                shop.die()

        monkeypatch.setattr(nightly_report, "write", mortal)
        return names

    return plan


async def test_a_week_of_nights(shop: Shop):
    shop.bunqueue.start(shop.worker())
    await shop.schedule()
    await trio.sleep(7 * DAY_S)
    assert shop.runs == [(f"{n + 2:02} 02:00", [f"2026-01-{n + 1:02}"]) for n in range(7)]
    shop.check(days=7)


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_worker_that_dies_at_night(shop: Shop, written: Callable[[str, str], list[str]], moment: str):
    """Its job is another worker's at once, and no report is made twice, or only half."""
    names = written("2026-01-04", moment)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shop.work_for_ever)
        await shop.schedule()
        await trio.sleep(7 * DAY_S)
        nursery.cancel_scope.cancel()
    assert names.count(f"died {moment}") == 1
    assert [at for at, _ in shop.runs] == [
        "02 02:00",
        "03 02:00",
        "04 02:00",
        "05 02:05",
        "06 02:00",
        "07 02:00",
        "08 02:00",
    ]
    assert shop.runs[3][1] == (["2026-01-04"] if moment == "before" else [])
    assert sorted(set(names)) == sorted(names), "each report was written once"
    shop.check(days=7)


async def test_nights_without_a_worker_are_made_up_for(shop: Shop):
    """By one run, and the series goes on at its hour."""
    await shop.schedule()
    await trio.sleep(2.75 * DAY_S)  # noon of the 4th
    shop.bunqueue.start(shop.worker())
    await trio.sleep(3.25 * DAY_S)
    assert shop.runs == [
        ("04 12:00", ["2026-01-01", "2026-01-02", "2026-01-03"]),
        ("05 02:00", ["2026-01-04"]), ("06 02:00", ["2026-01-05"]), ("07 02:00", ["2026-01-06"]),
    ]  # fmt: skip
    shop.check(days=6)


async def test_server_that_is_away_at_the_hour(shop: Shop):
    """The run is late, the next one is not."""
    shop.bunqueue.start(shop.worker())
    await shop.schedule()
    await trio.sleep(7.5 * 3600)  # half past one
    await shop.bunqueue.crash()
    await trio.sleep(3600)
    await shop.bunqueue.recover()
    await trio.sleep(DAY_S)
    assert [made for _, made in shop.runs] == [["2026-01-01"], ["2026-01-02"]]
    assert "02 02:30" <= shop.runs[0][0] < "02 02:31"
    assert shop.runs[1][0] == "03 02:00"
    shop.check(days=2)


async def test_program_that_is_started_again_starts_no_second_series(shop: Shop):
    shop.bunqueue.start(shop.worker())
    for _ in range(3):
        await shop.schedule()
        await shop.schedule()
        await trio.sleep(DAY_S)
    assert len(shop.runs) == 3
    assert len(shop.bunqueue.jobs) == 1


def test_report_of_a_day_without_sales(tmp_path: Path):
    nightly_report.invent_sales(tmp_path / "shop.db", FIRST, days=1)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as database, database:
        text = nightly_report.sales_of(database, date(2027, 1, 1))
        assert text.splitlines()[-1].split() == ["total", "0", "0.00"]
        database.execute("DELETE FROM sale")
        assert nightly_report.missing(database, tmp_path, date(2027, 1, 1)) == []


@pytest.mark.slow
def test_program_reports_now(fresh: Server, tmp_path: Path, start: Start):
    """With a real server: seven days are reported, and a second time none."""
    program = ["nightly_report.py", tmp_path / "shop.db", tmp_path / "reports", "--sample", "--now"]
    for reports in (7, 0):
        process = start(*program, "--url", f"ws://127.0.0.1:{fresh.port}")
        printed, errors = process.communicate(timeout=90)
        assert process.returncode == 0, errors
        assert len(list((tmp_path / "reports").glob("sales-*.txt"))) == 7
        assert printed.startswith(f"{reports} reports made"), errors


@pytest.mark.slow
def test_program_waits_for_the_night_until_a_signal(fresh: Server, tmp_path: Path, start: Start):
    url = f"127.0.0.1:{fresh.port}"
    program = ["nightly_report.py", tmp_path / "shop.db", tmp_path / "reports", "--url", f"ws://{url}"]
    process = start(*program)
    wait_until((tmp_path / "reports" / "series.txt").exists)
    job = httpx.get(f"http://{url}/jobs/{nightly_report.JOB_ID}", timeout=PATIENCE_S).json()["job"]
    assert datetime.fromtimestamp(job["runAt"] / 1000, UTC).strftime("%H:%M:%S") == "02:00:00"
    process.terminate()
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
