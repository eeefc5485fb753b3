"""The cluster of the chaos trial: a database, a way to it that can be cut, and servers of which one leads."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from bunqueue_trio.storage.postgres.place import Place, parse_place
from bunqueue_trio.storage.postgres.schema import migrate
from bunqueue_trio.testing.process import ServerProcess, without_settings
from trials.lib.places import PYTHONPATH
from trials.lib.postgres import Cutting, Replica, Server
from trials.lib.servers import BenchError

SERVERS = 3
KEPT = "100000000"  # finished jobs and events: the books are compared with all of them
SCHEMA = "chaos"
STREAMS_WITHIN_S = 60.0


class Cluster:
    """Servers on one database, which they reach through a way that can be cut."""

    def __init__(self, directory: Path, database: Server, way: Cutting, lease_ms: int) -> None:
        self.database = database
        self.way = way
        self.place: Place = parse_place(database.url(SCHEMA))
        migrate(self.place)
        settings = {
            "STORE": way.url(SCHEMA), "STORE_LEASE_MS": str(lease_ms), "LINK_BIND": "127.0.0.1:0", "PYTHONPATH": PYTHONPATH,
            "RETENTION_COMPLETED_MAX": KEPT, "RETENTION_EVENTS_MAX": KEPT, "LOG_FORMAT": "human",
        }  # fmt: skip
        inherited = without_settings(os.environ)
        self.servers: list[ServerProcess] = [
            ServerProcess(directory / f"{n}.db", settings, inherited=inherited, ready=ServerProcess.is_listening)
            for n in range(SERVERS)
        ]

    def ask(self, text: str) -> list[Any]:
        """Return what a statement answers, of the database itself."""
        return self.database.ask(self.place.qualified(text))

    def add_replica(self) -> Replica:
        """Return a replica that gets what the database commits; asynchronous."""
        replica = Replica(self.database)
        deadline = time.monotonic() + STREAMS_WITHIN_S
        while self.database.ask("SELECT state FROM pg_stat_replication") != [("streaming",)]:
            if time.monotonic() > deadline:
                replica.close()
                raise BenchError("a replica gets nothing")
            time.sleep(0.05)
        return replica

    def fail_over(self, replica: Replica) -> None:
        """Let the machine of the database be gone, and ``replica`` take its place."""
        before, self.database = self.database, replica
        before.stop()
        replica.promote()
        self.way.lead_to(replica)
        before.close()

    def leader(self) -> ServerProcess | None:
        """Return who leads; None: somebody who is no more."""
        [(holder,)] = self.ask("SELECT holder FROM bq.leader")
        pid = int(holder.rpartition(" ")[2] or 0)
        return next((each for each in self.servers if each.process.pid == pid and each.process.poll() is None), None)

    def start_missing(self) -> None:
        """Start each server that has ended, as a supervisor does; of itself only a leader may have that another one has replaced.

        Raises:
            BenchError: one has ended for another reason.
        """
        for server in self.servers:
            if server.process.poll() is not None:
                last = server.log.rstrip().rpartition("\n")[2]
                if (
                    server.process.returncode not in (0, -signal.SIGKILL)
                    and "another server has taken over" not in last
                ):
                    raise BenchError(f"a server has ended with {server.process.returncode}: {last}")
                server.start()


@contextmanager
def running(directory: Path, lease_ms: int) -> Iterator[Cluster]:
    """Run a cluster whose first server leads."""
    with closing(Server()) as database, closing(Cutting(database)) as way:
        cluster = Cluster(directory, database, way, lease_ms)
        try:
            for server in cluster.servers:
                server.start()
            yield cluster
        finally:
            for server in cluster.servers:
                server.kill()
            cluster.database.close()
