"""Servers that wait while the tables of their database are made anew."""

from typing import Any

import pytest
import trio
import trio.testing

pytest.importorskip("psycopg", reason="psycopg is not installed")

from bunqueue_trio.storage.postgres.schema import Incomplete
from bunqueue_trio.storage.postgres.standby import take_over
from tests.storage.postgres_stores import Open
from tests.storage.postgres_stores import open_ as open_
from tests.storage.postgres_stores import place as place
from tests.storage.postgres_stores import sql as sql
from tests.storage.test_postgres_leading import SILENT, Watched


async def test_who_waits_outlives_a_restore_that_makes_the_tables_anew(
    url: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
):
    """Until it is done there are no tables, no version of them, and no row that says who leads."""
    gone = [Incomplete("has no tables of ours yet"), Incomplete("the version is gone"), Incomplete("the row is gone")]
    watched = Watched(monkeypatch, SILENT, *[each for each in gone for _ in range(100)], *[SILENT] * 100)
    (await take_over(url, 10)).close()
    assert watched.taken_at[0] >= 150 + 10, "it is none of the time in which nothing was said"


@pytest.mark.parametrize("table", ["meta", "leader", "link"])
async def test_a_table_that_is_empty_for_a_while_ends_nobody_who_waits(
    url: str, open_: Open, sql: Any, monkeypatch: pytest.MonkeyPatch, table: str, logs: list[dict[str, Any]]
):
    monkeypatch.setattr("bunqueue_trio.storage.postgres.standby.STANDBY_S", 0.01)
    store = open_(0.5)
    restore = f"INSERT INTO bq.{table} SELECT * FROM bq.copy WHERE NOT EXISTS (SELECT FROM bq.{table})"
    sql(f"CREATE TABLE bq.copy AS SELECT * FROM bq.{table}")

    async def said(what: str) -> None:
        with trio.fail_after(60):
            while what not in [line["event"] for line in logs]:  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.01)

    async def wait() -> None:
        (await take_over(url, 0.5)).close()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await said("another server leads, waiting")
            await trio.to_thread.run_sync(sql, f"DELETE FROM bq.{table}")
            if table == "link":
                # Of that nobody says anything: there is only no leader to be reached.
                await trio.sleep(0.3)
            else:
                await said("the database cannot be reached, waiting")
            await trio.to_thread.run_sync(sql, restore)
            await trio.to_thread.run_sync(store.close)
        assert "this server leads now" in [line["event"] for line in logs]
    finally:
        sql(restore)
        sql("DROP TABLE bq.copy")
