"""What more than one process costs: CPU of the leader and its doors for a push, and pushes, bulks and cycles through PostgreSQL.

CPU time, since the wall clock of a busy machine means little; the single process and the one with doors take turns, and on PostgreSQL so does
the original, where it can be installed. Fails when a leader with two doors needs more than 0.6 of what the single process does, or more than 20 µs
for a request; when doors on PostgreSQL do less than twice the pushes of a single process; or when that is not as many times as quick there as the
original is, by ``TIMES``.
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
from trials.lib.servers import TICKS_PER_S, Kind, Server, cpu_ticks, family, original, ours

DOORS = 2
CONNECTIONS = 256
SHARE_MAX = 0.6
LEADER_US_MAX = 20.0
WARMUP_S = 1
BULK = 100
LOADS = (wrk.push(1), wrk.push(32), wrk.bulk(4, bulk_body(BULK)), wrk.cycle(16, "cycle", pushing=True))
"""Through PostgreSQL."""
TIMES = {"push over 1": 4, "push over 32": 10, "bulk push": 5, "cycle": 5}
"""How many times as quick as the original on the same PostgreSQL, at least."""
DOORS_TIMES = 2.0
"""What doors push of what a single process does, over twice as many connections as above."""


class Cost(NamedTuple):
    """What a load took, for each request."""

    rate: float
    server_us: float
    doors_us: float
    database_us: float


def run(rounds: int, seconds: int, data_dir: Path | None, *, judged: bool) -> int:
    """Measure both, print tables, and return the exit code."""
    print(f"bench: load {os.getloadavg()[0]:.1f} before, on {os.cpu_count()} cores", flush=True)
    kinds = {"one process": ours(), f"with {DOORS} doors": _doors()}
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
    missed = _through_postgres(rounds, seconds, data_dir)
    print(f"bench: load {os.getloadavg()[0]:.1f} after")
    if share > SHARE_MAX or doors.server_us > LEADER_US_MAX:
        missed.insert(0, f"more than {SHARE_MAX} of the single process, or than {LEADER_US_MAX:g} µs")
    if judged and missed:
        print(*(f"bench: {each}" for each in missed), sep="\n")
    return int(judged and bool(missed))


def _through_postgres(rounds: int, seconds: int, data_dir: Path | None) -> list[str]:
    """Measure there, and return what is less than it should be."""
    reason = why_not()
    if reason is not None:
        print(f"bench: nothing through PostgreSQL: {reason}")
        return []
    other = original(None)
    if isinstance(other, str):
        print(f"bench: {other}")
    found: dict[str, dict[str, list[Cost]]] = {}
    many = wrk.push(2 * CONNECTIONS)
    with closing(Database(fsync="on")) as database:
        for _ in range(rounds):
            plans = [
                ("one process", _on(database, ours()), (*LOADS, many)),
                ("with doors", _on(database, _doors()), (many,)),
            ]
            if not isinstance(other, str):
                plans.append((other.name, _original_on(database, other), LOADS))
            for name, kind, loads in plans:
                with _running(kind, data_dir) as server:
                    for load in loads:
                        cost = _measure(server, load, seconds, database)
                        found.setdefault(name, {}).setdefault(load.name, []).append(cost)
    print(f"through PostgreSQL, synchronous_commit=on, medians of {rounds}")
    costs = {name: {what: _median(its) for what, its in of_each.items()} for name, of_each in found.items()}
    for name, its in costs.items():
        for what, cost in its.items():
            unit = f"; {cost.rate * BULK:,.0f} jobs/s" if what.startswith("bulk") else ""
            print(
                f"  {name:<14} {what:<14} {cost.rate:8,.0f} requests/s   leader {cost.server_us:7.1f} µs   doors "
                f"{cost.doors_us:5.1f} µs   PostgreSQL {cost.database_us:7.1f} µs a request{unit}"
            )
    return list(_misses(costs["one process"], costs["with doors"][many.name], many.name, costs.get("bunqueue", {})))


def _misses(alone: dict[str, Cost], doors: Cost, many: str, other: dict[str, Cost]) -> Iterator[str]:
    if doors.server_us > LEADER_US_MAX:
        yield f"on PostgreSQL a leader with doors needs {doors.server_us:.1f} µs, more than {LEADER_US_MAX:g}"
    if doors.rate < DOORS_TIMES * alone[many].rate:
        yield f"on PostgreSQL doors do {doors.rate / alone[many].rate:.1f} times the pushes of one process, less than {DOORS_TIMES:g}"
    for load, cost in other.items():
        times = alone[load].rate / cost.rate
        print(f"  {load:<14} {times:5.1f} times the original")
        if times < TIMES[load]:
            yield f"{load}: {times:.1f} times the original on PostgreSQL, less than {TIMES[load]}"


def _doors() -> Kind:
    return _with(ours(), "--doors", str(DOORS))


def _on(database: Database, kind: Kind) -> Kind:
    """Return the server with a queue of its own in the database."""
    url = database.new_url()
    migrate(parse_place(url))
    return replace(kind, environment=(*kind.environment, ("STORE", url), ("LINK_BIND", "none")))


def _original_on(database: Database, kind: Kind) -> Kind:
    """Return the original with what it keeps in the database; it takes no file beside that."""
    url = f"postgres://bq@localhost/postgres?path={database.directory}/.s.PGSQL.5432"
    places = (("BUNQUEUE_STORAGE_DRIVER", "postgres"), ("BUNQUEUE_POSTGRES_URL", url))
    return replace(
        kind, environment=(*kind.environment, *places, *((name, "") for name in ("DATA_PATH", "BUNQUEUE_DATA_PATH")))
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
