"""A failover of PostgreSQL that takes longer than a client has patience: what it hears then, and that everything goes on by itself."""

import signal
from pathlib import Path

import anyio
import pytest

from bunqueue_trio.client import Client, ConnectionLost, Job, ServerUnavailable, Worker
from bunqueue_trio.sync import SyncClient
from tests.client.loops import on_both
from tests.operations.processes import until
from trials.lib.postgres import Cluster

pytest.importorskip("psycopg", reason="psycopg is not installed")

from bunqueue_trio.storage.postgres.place import parse_place
from bunqueue_trio.storage.postgres.schema import migrate
from tests.wire.test_postgres import ask, server

pytestmark = pytest.mark.slow

WAITING = "serving through the leader"


@on_both
async def test_a_push_says_what_is_known_and_workers_go_on(postgres: Cluster, tmp_path: Path):
    made = postgres.new_url()
    migrate(parse_place(made))
    with (
        server(tmp_path, made, lease_ms=6000) as leader,
        server(tmp_path, made, lease_ms=6000, ready=lambda running: WAITING in running.log) as standby,
    ):
        ran: list[str] = []
        worker = Worker("q", standby.url, concurrency=2, grace=5)

        @worker.handler
        async def handle(job: Job) -> None:  # noqa: ASYNC124 - a sync one would run in a thread
            ran.append(job.id)

        async with (
            Client(standby.url, patience=1) as client, Client(standby.url, patience=60) as patient,
            anyio.create_task_group() as group,
        ):  # fmt: skip
            group.start_soon(worker.run)
            first = await client.push("q")
            await client.wait(first, 60)
            await patient.ping()
            # One that was killed is missed at once; of a machine that says nothing its lease must run out.
            leader.process.send_signal(signal.SIGSTOP)
            with pytest.raises((ConnectionLost, ServerUnavailable)) as told:
                await client.push("later", job_id="mine")
            if isinstance(told.value, ConnectionLost):
                assert told.value.__notes__ == ["job_id='mine'"]
            with SyncClient(standby.url, timeout=1) as sync:
                with pytest.raises(ConnectionLost, match="was sent, and not answered within 1 s") as lost:
                    sync.push("later", job_id="ours")
                assert lost.value.__notes__ == ["job_id='ours'"]
            with pytest.raises(TimeoutError, match="nothing is known of job"):
                await client.wait(first, 1)
            # Whatever has become of them, each is one job.
            for job_id in ("mine", "ours"):
                assert await patient.push("later", job_id=job_id) == job_id
            second = await patient.push("q")
            await patient.wait(second, 60)
            assert await client.push("later", job_id="mine") == "mine"
            assert ran == [first, second]
            group.cancel_scope.cancel()
        until(standby.is_ready, 60, lambda: standby.log)
    assert sorted(ask(made, "SELECT id FROM bq.job WHERE queue = 'later'")) == [("mine",), ("ours",)]
