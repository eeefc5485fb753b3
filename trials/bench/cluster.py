"""What more than one process costs: CPU of the leader and its doors for a push, and pushes, bulks and cycles through PostgreSQL.

CPU time, since the wall clock of a busy machine means little; the single process and the one with doors take turns. Fails when a leader
with two doors needs more than 0.6 of what the single process does, or more than 20 µs for a request.
"""

import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bunqueue_trio.storage.postgres.place import parse_place
from bunqueue_trio.storage.postgres.schema import migrate
from trials.bench import wrk
from trials.lib.postgres import Server as Database
from trials.lib.postgres import why_not
from trials.lib.raw_http import bulk_body
from trials.lib.servers import TICKS_PER_S, Kind, Server, cpu_ticks, family, ours

DOORS = 2
CONNECTIONS = 256
SHARE_MAX = 0.6
LEADER_US_MAX = 20.0
WARMUP_S = 1
BULK = 100
LOADS = (wrk.push(1), wrk.push(32), wrk.bulk(4, bulk_body(BULK)), wrk.cycle(16, "cycle", pushing=True))
"""Through PostgreSQL."""


class Cost(NamedTuple):
    """What a load took, for each request."""

    rate: float
    server_us: float
    doors_us: float
    database_us: float


def run(rounds: int, seconds: int, data_dir: Path | None, *, judged: bool) -> int:
    """Measure both, print tables, and return the exit code."""
    print(f"bench: load {os.getloadavg()[0]:.1f} before, on {os.cpu_count()} cores", flush=True)
    kinds = {"one process": ours(), f"with {DOORS} doors": _with(ours(), "--doors", str(DOORS))}
    costs: dict[str, list[Cost]] = {name: [] for name in kinds}
    load = wrk.push(CONNECTIONS)
    for _ in range(rounds):
        for name, kind in kinds.items():
            with _running(kind, data_dir) as server:
                costs[name].append(_measure(server, load, seconds))
    alone, doors = (_median(its) for its in costs.values())
    print(f"push over {CONNECTIONS} connections, SQLite, medians of {rounds}")
    for name, cost in zip(kinds, (alone, doors), strict=True):
        print(
            f"  {name:<14} {cost.rate:8,.0f}/s   leader {cost.server_us:5.1f} µs   doors {cost.doors_us:5.1f} µs a request"
        )
    share = doors.server_us / alone.server_us
    print(f"  the leader with doors needs {share:.2f} of what the single process does")
    _through_postgres(seconds, data_dir)
    print(f"bench: load {os.getloadavg()[0]:.1f} after")
    missed = share > SHARE_MAX or doors.server_us > LEADER_US_MAX
    if judged and missed:
        print(f"bench: more than {SHARE_MAX} of the single process, or than {LEADER_US_MAX:g} µs")
    return int(judged and missed)


def _through_postgres(seconds: int, data_dir: Path | None) -> None:
    reason = why_not()
    if reason is not None:
        print(f"bench: nothing through PostgreSQL: {reason}")
        return
    with closing(Database(fsync="on")) as database:
        url = database.new_url()
        migrate(parse_place(url))
        kind = replace(ours(), environment=(*ours().environment, ("STORE", url), ("LINK_BIND", "none")))
        print("through PostgreSQL, synchronous_commit=on")
        with _running(kind, data_dir) as server:
            for load in LOADS:
                cost = _measure(server, load, seconds, database)
                unit = f"; {cost.rate * BULK:,.0f} jobs/s" if load.name.startswith("bulk") else ""
                print(
                    f"  {load.name:<14} {cost.rate:8,.0f} requests/s   server {cost.server_us:7.1f} µs   "
                    f"PostgreSQL {cost.database_us:7.1f} µs a request{unit}",
                    flush=True,
                )


def _with(kind: Kind, *flags: str) -> Kind:
    return replace(kind, command=(*kind.command, *flags))


@contextmanager
def _running(kind: Kind, data_dir: Path | None) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="bench-", dir=data_dir, ignore_cleanup_errors=True) as directory:
        server = Server(kind, Path(directory))
        try:
            yield server
        finally:
            server.kill()


def _measure(server: Server, load: wrk.Load, seconds: int, database: Database | None = None) -> Cost:
    wrk.run(load, server.url, WARMUP_S)
    leader = server.process.pid
    doors = [pid for pid in family(leader) if pid != leader]
    base = [] if database is None else family(database.pid)
    before = [sum(map(cpu_ticks, pids)) for pids in ([leader], doors, base)]
    found = wrk.run(load, server.url, seconds)
    after = [sum(map(cpu_ticks, pids)) for pids in ([leader], doors, base)]
    each = [(b - a) / TICKS_PER_S * 1e6 / found.requests for a, b in zip(before, after, strict=True)]
    return Cost(found.requests / found.seconds, *each)


def _median(costs: list[Cost]) -> Cost:
    return Cost(*(statistics.median(values) for values in zip(*costs, strict=True)))
