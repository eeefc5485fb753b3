"""A report of each day's sales, every night at 02:00 UTC: one repeating job, from a SQLite database to text files.

    python examples/nightly_report.py shop.db reports            # makes sure that the series runs, and works at it
    python examples/nightly_report.py shop.db reports --now      # what is missing, now
    ... --sample                                                 # invents a week of sales when there is no shop.db

Worth copying: a run does not ask which night it is of. It makes the report of every past day that has none, so a run
that comes twice does nothing twice, and one that was missed (the server was away, no worker ran) is made up for by the
next. A report gets its name only when it is complete. The functions take the time as an argument, so that a test runs
through a week of nights in milliseconds (tests/examples/test_nightly_report.py).
"""

import argparse
import contextlib
import random
import signal
import sqlite3
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import trio

from bunqueue_trio import Client, Job, Worker

QUEUE = "reports"
JOB_ID = "nightly-sales-report"
AT = time(2, tzinfo=UTC)  # UTC has no night of 23 or 25 hours
DAY = timedelta(days=1)
DAYS_MAX = 31  # how far back a run looks: a new database must not begin with a thousand reports

worker = Worker(QUEUE, concurrency=1)


# --- the report -----------------------------------------------------------------------------------------


def sales_of(database: sqlite3.Connection, day: date) -> str:
    """Return the report of one day."""
    rows = database.execute(
        "SELECT product, count(*), sum(cents) FROM sale WHERE date(at) = ? GROUP BY product ORDER BY 3 DESC, 1",
        (day.isoformat(),),
    ).fetchall()
    lines = [f"{name:<20}{sold:>8}{cents / 100:>12.2f}" for name, sold, cents in rows]
    total = f"{'total':<20}{sum(row[1] for row in rows):>8}{sum(row[2] for row in rows) / 100:>12.2f}"
    return "\n".join([f"Sales of {day} (UTC)", "", *lines, total, ""])


def missing(database: sqlite3.Connection, reports: Path, today: date) -> list[date]:
    """Return the days before ``today``, since the first sale, that have no report."""
    first = database.execute("SELECT date(min(at)) FROM sale").fetchone()[0]
    if first is None:
        return []
    start = max(date.fromisoformat(first), today - DAYS_MAX * DAY)
    days = [start + n * DAY for n in range((today - start).days)]
    return [day for day in days if not report_path(reports, day).exists()]


def report_path(reports: Path, day: date) -> Path:
    """Return where the report of ``day`` is."""
    return reports / f"sales-{day}.txt"


def write(path: Path, text: str) -> None:
    """Write a file that is there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")  # no two runs at once: there is one series, and one worker with one slot
    part.write_text(text, encoding="utf-8")
    part.replace(path)


# --- the job --------------------------------------------------------------------------------------------


@worker.handler
def report(job: Job) -> list[str]:
    """Make the reports that are missing today; a sync handler runs in a thread."""
    return make_missing(job, datetime.now(UTC).date())


def make_missing(job: Job, today: date) -> list[str]:
    """Make the report of every day before ``today`` that has none; return their days."""
    reports = Path(job.data["reports"])
    with contextlib.closing(sqlite3.connect(f"file:{job.data['database']}?mode=ro", uri=True)) as database:
        days = missing(database, reports, today)
        for day in days:
            write(report_path(reports, day), sales_of(database, day))
    return [str(day) for day in days]


async def schedule(client: Client, database: Path, reports: Path, now: datetime) -> None:
    """Make sure that the series runs, however often this is called."""
    # The id keeps a second series away only until the first run has ended; the note keeps it away after that.
    note = reports / "series.txt"
    if note.exists():
        return
    first = datetime.combine(now.date(), AT)
    if first <= now:
        first += DAY
    await client.push(
        QUEUE, job_data(database, reports), job_id=JOB_ID, durable=True,
        delay=(first - now).total_seconds(), repeat_every=DAY.total_seconds(), max_attempts=5, backoff=60,
    )  # fmt: skip
    write(note, f"The series {JOB_ID} was started at {now:%Y-%m-%d %H:%M} UTC; without this file it is started anew.\n")


def job_data(database: Path, reports: Path) -> dict[str, str]:
    """Return the payload."""
    return {"database": str(database), "reports": str(reports)}


# --- the program ----------------------------------------------------------------------------------------


def invent_sales(path: Path, first: date, days: int) -> None:
    """Fill a new database."""
    chance = random.Random(7)
    prices = {"apples": 250, "bread": 320, "cheese": 890}
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE sale (at TEXT NOT NULL, product TEXT NOT NULL, cents INTEGER NOT NULL)")
        for n in range(days):
            for _ in range(chance.randint(5, 20)):
                at = datetime.combine(first + n * DAY, time(chance.randint(0, 23), chance.randint(0, 59)))
                product = chance.choice(list(prices))
                database.execute("INSERT INTO sale VALUES (?, ?, ?)", (at.isoformat(" "), product, prices[product]))


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description="A report of each day's sales, every night.")
    parser.add_argument("database", type=Path)
    parser.add_argument("reports", type=Path)
    parser.add_argument("--now", action="store_true", help="make what is missing now, and end")
    parser.add_argument("--sample", action="store_true", help="invent a week of sales if there is no database")
    parser.add_argument("--url", default=worker.url, help="the server, default %(default)s")
    said = parser.parse_args()
    said.database, said.reports = said.database.resolve(), said.reports.resolve()  # the worker may be elsewhere
    return said


async def main(said: argparse.Namespace) -> None:
    """Keep the series going, or report now."""
    worker.url = said.url
    async with Client(worker.url) as client, trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        if said.now:
            job_id = await client.push(QUEUE, job_data(said.database, said.reports))
            days = await client.wait(job_id)
            print(f"{len(days)} reports made in {said.reports}", *days)
            worker.stop()
        else:
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                await schedule(client, said.database, said.reports, datetime.now(UTC))
                await anext(signals)
            worker.stop()  # a report that is under way is finished first


if __name__ == "__main__":
    said = arguments()
    if said.sample and not said.database.exists():
        invent_sales(said.database, datetime.now(UTC).date() - 7 * DAY, days=7)
    trio.run(main, said)
