"""Two servers on one database that are killed, stopped, suspended and cut off all the time, under clients that count."""

import http.client
import random
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.operations.processes import Running, environment
from tests.programs import end_family
from tests.wire.test_postgres import ask, call
from trials.lib.postgres import Cluster

pytest.importorskip("psycopg", reason="psycopg is not installed")

from bunqueue_trio.storage.postgres.place import parse_place
from bunqueue_trio.storage.postgres.schema import migrate

pytestmark = pytest.mark.long

ROUNDS = 60
LEASE_MS = 1500
CLIENTS = 4
"""Of each kind."""


class Clients:
    """Some push, some pull and acknowledge, at whichever server answers; all note what they were answered."""

    def __init__(self, ports: list[int], random_: random.Random) -> None:
        self.pushed: set[str] = set()
        self.acked: dict[str, set[str]] = defaultdict(set)
        """By job, the tokens that were taken for its end."""
        self.told: Counter[str] = Counter()
        self._ports = ports
        self._random = random_
        self._noting = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._again, args=(do,), daemon=True)
            for do in (self._push, self._work)
            for _ in range(CLIENTS)
        ]

    def __enter__(self) -> "Clients":  # noqa: PYI034 - a class of one test
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _again(self, do: Callable[[], None]) -> None:
        while not self._stop.is_set():
            do()

    def _call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        try:
            status, reply = call(self._random.choice(self._ports), method, path, body, within_s=6)
        except (OSError, http.client.HTTPException, ValueError):
            status, reply = 0, None
        with self._noting:
            self.told[f"{method} {status}"] += 1
        if status != 200:
            time.sleep(0.02)
        return status, reply

    def _push(self) -> None:
        status, reply = self._call("POST", "/queues/q/jobs", {"data": 1})
        if status == 200:
            self.pushed.add(reply["id"])

    def _work(self) -> None:
        status, reply = self._call("GET", "/queues/q/jobs?timeout=200")
        if status != 200 or reply["job"] is None:
            return
        job_id, token = reply["job"]["id"], reply["token"]
        for _ in range(20):  # the first may have been taken, and its answer lost: then the next is refused
            status, _ = self._call("POST", f"/jobs/{job_id}/ack", {"token": token})
            if status == 200:
                with self._noting:
                    self.acked[job_id].add(token)
            if status in (200, 400):
                return


@pytest.mark.timeout(900)  # 150 s on a quiet machine
def test_whatever_becomes_of_two_servers_nothing_answered_is_lost_or_done_twice(postgres: Cluster, tmp_path: Path):
    url = postgres.new_url()
    place = parse_place(url)
    migrate(place)
    chance = random.Random(1)
    env = {"STORE": url, "STORE_LEASE_MS": str(LEASE_MS)}
    servers = [
        Running(tmp_path / f"{n}.db", env, inherited=environment(), ready=Running.is_listening) for n in range(2)
    ]
    try:
        for server in servers:
            server.start()
        with Clients([server.port for server in servers], chance) as clients:
            for _ in range(ROUNDS):
                time.sleep(chance.uniform(0.3, 2))
                server = chance.choice(servers)
                if server.process.poll() is not None:  # it was replaced while it was suspended
                    assert "has taken over" in server.log.splitlines()[-1]
                    server.start()
                    continue
                match chance.choice(("kill", "suspend", "suspend", "stop", "cut")):
                    case "kill":
                        server.kill()
                        server.start()
                    case "stop":
                        assert server.stop() in (0, 1)  # 1: it was replaced just then
                        server.start()
                    case "suspend":
                        server.process.send_signal(signal.SIGSTOP)
                        time.sleep(chance.uniform(0, 4))
                        server.process.send_signal(signal.SIGCONT)
                    case _:
                        ask(
                            url,
                            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%{place.schema}.%' AND pid <> pg_backend_pid()",
                        )
            time.sleep(LEASE_MS / 1000)
    finally:
        for server in servers:
            end_family(server.process)
    waiting = {row[0] for row in ask(url, "SELECT id FROM bq.job")}
    ended = {row[0] for row in ask(url, "SELECT id FROM bq.finished WHERE state = 'completed'")}
    assert len(clients.pushed) > 1000, clients.told
    assert clients.pushed <= waiting | ended
    assert set(clients.acked) <= ended
    assert not waiting & ended
    assert max(map(len, clients.acked.values())) == 1, "two holders have ended one job"
    [(last_id, told)] = ask(url, "SELECT max(last_id), sum(count)::bigint FROM bq.event_batch")
    assert last_id == told, "events were told twice, or not at all"
    assert not [server for server in servers if "Traceback" in server.log]
