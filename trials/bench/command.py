"""The command line of the benchmarks: what to measure, how long, and where the results go."""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from trials.bench import cluster, crowd, docs, idle, ways, workers, wrk
from trials.bench.compare import Plan, Series, compare, filesystem, select
from trials.bench.engine import Check, Sizes, checks, measure_backlog, measure_engine
from trials.bench.floor import measure_floor
from trials.bench.loads import MEASUREMENTS, Timing
from trials.bench.peers import PEERS, loss_rows, measure_peers, peer_rows, select_peers
from trials.bench.report import (
    CHART,
    DOCS,
    busy_clients,
    check_rows,
    comparison_rows,
    engine_rows,
    floor_rows,
    latency_rows,
    show,
)
from trials.lib.machine import describe
from trials.lib.servers import BenchError, original, ours

ROUNDS, WARMUP_S, MEASURED_S = 7, 1, 3
PEER_ROUNDS, PEER_JOBS = 3, 10_000
BACKLOGS = (1_000, 10_000, 100_000, 1_000_000)
ORIGINAL_BACKLOG_MAX = 100_000  # more of them takes it minutes to fill; see --full
SERVER_JOBS = 300_000
WORKER_JOBS = 10_000
SIZES = Sizes(backlogs=(1_000, 1_000_000), jobs=100_000, repeats=5, server_jobs=SERVER_JOBS)


def main() -> int:
    """Run a command; return its exit code: 1 when a requirement is missed or a measurement failed."""
    options = _parser().parse_args()
    try:
        code: int = options.run(options)
    except (BenchError, OSError, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return code


def run_engine(options: argparse.Namespace) -> int:
    """Measure the engine and a server's backlog, and compare with what is required."""
    sizes = _sizes(options)
    machine = describe(filesystem(options.data_dir))
    print(f"bench: the engine at {' and '.join(f'{n:,}' for n in sizes.backlogs)} waiting jobs", flush=True)
    engine = measure_engine(sizes)
    print(f"bench: a server with {sizes.server_jobs:,} waiting jobs", flush=True)
    backlog = measure_backlog(ours(), sizes.server_jobs, options.data_dir)
    found = checks(engine, backlog)
    show("The engine alone, CPU time", *engine_rows(engine))
    show("What is required", *check_rows(found, judged=sizes == SIZES))
    _save(options, "engine", {"machine": machine, "engine": engine, "backlog": backlog})
    if sizes != SIZES:
        print("bench: other sizes than required, so nothing is judged")
        return 0
    return 0 if all(check.is_met for check in found) else 1


def run_compare(options: argparse.Namespace) -> int:
    """Measure this server and the original."""
    _need_wrk()
    timing, rounds = _timing(options), 1 if options.quick else options.rounds
    machine = describe(filesystem(options.data_dir))
    kinds = [ours()]
    if options.no_original:
        print("bench: the original is left out, as asked")
    else:
        found = original(options.original)
        if isinstance(found, str):
            print(f"bench: {found}")
        else:
            kinds.append(found)
    levels = BACKLOGS[:2] if options.quick else BACKLOGS
    theirs = levels if options.full else tuple(n for n in levels if n <= ORIGINAL_BACKLOG_MAX)
    plan = Plan(
        kinds=tuple(kinds),
        rounds=rounds,
        timing=timing,
        measurements=select(options.only),
        backlogs=() if options.only else (levels, theirs)[: len(kinds)],
        backlog_jobs=0 if options.only else SERVER_JOBS // (10 if options.quick else 1),
        data_dir=options.data_dir,
    )
    series = compare(plan)
    versions = {kind.name: kind.version for kind in kinds}
    results: dict[str, Any] = {
        "machine": machine,
        "versions": versions,
        "rounds": rounds,
        "timing": {"warmup": timing.warmup, "measured": timing.measured},
        "series": {s.name: s.as_json() for s in series},
    }
    show("The same load on both; above 1× bunqueue-trio is better", *comparison_rows(series, list(versions)))
    show("Latency under that load", *latency_rows(series, list(versions)))
    for line in busy_clients(series):
        print(f"bench: {line}")
    if options.write_docs:
        results |= _write_docs(options, plan, series, machine, versions)
    _save(options, "compare", results)
    return 1 if any(s.failed for s in series) else 0


def run_floor(options: argparse.Namespace) -> int:
    """Measure what is below every server here."""
    _need_wrk()
    machine = describe(filesystem(options.data_dir))
    floor = measure_floor(_timing(options), options.data_dir)
    show("The floor", *floor_rows(floor))
    _save(options, "floor", {"machine": machine, "floor": floor})
    return 0


def run_peers(options: argparse.Namespace) -> int:
    """Measure what a Python user would pick otherwise."""
    machine = describe(filesystem(options.data_dir))
    jobs, rounds = (options.jobs // 20 or 1, 1) if options.quick else (options.jobs, options.rounds)
    found, left_out = measure_peers(select_peers(options.only), jobs, rounds, options.data_dir)
    show(f"Beside others, {jobs:,} no-op jobs", *peer_rows(found))
    show("What is lost", *loss_rows(found))
    for line in left_out:
        print(f"bench: {line}")
    results = {
        "machine": machine, "jobs": jobs, "rounds": rounds, "left_out": left_out,
        "peers": {each.peer.title: each.as_json() for each in found},
    }  # fmt: skip
    if options.write_docs:
        docs.write_peers(_command(options), machine, found, left_out, jobs, rounds)
        print(f"bench: wrote its section of {DOCS.name}")
    _save(options, "peers", results)
    return 0


def run_workers(options: argparse.Namespace) -> int:
    """Measure our own worker on both loops, and compare with what is required."""
    jobs, rounds = (options.jobs // 20 or 1, 1) if options.quick else (options.jobs, options.rounds)
    found = workers.measure_workers(jobs, rounds)
    show(f"One worker, {jobs:,} jobs, medians of {rounds}; {workers.load()}", *workers.rows(found))
    _save(options, "workers", {"jobs": jobs, "rounds": rounds, "load": workers.load(), "loops": found})
    if options.quick:
        print("bench: too few jobs, so nothing is judged")
        return 0
    missed = workers.misses(found)
    for line in missed:
        print(f"bench: {line}")
    return 1 if missed else 0


def run_cluster(options: argparse.Namespace) -> int:
    """Measure a leader with doors, and one on PostgreSQL."""
    _need_wrk()
    rounds, seconds = (1, 2) if options.quick else (options.rounds, options.seconds)
    return cluster.run(rounds, seconds, options.data_dir, judged=not options.quick)


def run_ways(options: argparse.Namespace) -> int:
    """Measure a request by every way that it may come."""
    _need_wrk()
    rounds, seconds = (1, 1) if options.quick else (options.rounds, options.seconds)
    return ways.run(rounds, seconds, options.data_dir, options.only, judged=not options.quick)


def _write_docs(
    options: argparse.Namespace, plan: Plan, series: list[Series], machine: dict[str, Any], versions: dict[str, str]
) -> dict[str, Any]:
    """Measure what the page shows besides, and write it."""
    print("bench: the engine and the floor, for the page", flush=True)
    sizes = _sizes(options)
    engine = measure_engine(sizes)
    floor = measure_floor(plan.timing, options.data_dir)
    own = next(iter(versions))
    backlog = next((s.rounds[own][0] for s in series if s.name == "backlog-memory" and own in s.rounds), None)
    found: list[Check] = checks(engine, backlog) if backlog is not None and sizes == SIZES else []
    docs.write(
        docs.Results(
            command=_command(options), machine=machine, versions=versions, series=series, rounds=plan.rounds,
            warmup=plan.timing.warmup, measured=plan.timing.measured, engine=engine, checks=found, floor=floor,
        )
    )  # fmt: skip
    print(f"bench: wrote {DOCS.name} and {CHART.name} in {DOCS.parent.name}/")
    return {"engine": engine, "floor": floor}


def _command(options: argparse.Namespace) -> str:
    """Return the command that was run, as somebody else would run it: without directories."""
    words = [f"python3 scripts/bench.py {options.command}"]
    words += [f"--{name}" for name in ("quick", "full") if getattr(options, name, False)]
    defaults = _DEFAULTS[options.command]
    words += [f"--{name} {value}" for name in defaults if (value := getattr(options, name)) != defaults[name]]
    return " ".join([*words, *(f"--only {name}" for name in options.only)])


def _sizes(options: argparse.Namespace) -> Sizes:
    """Return the sizes that were asked for; a quick run is a tenth of each."""
    if options.command == "engine":
        asked = Sizes(tuple(options.backlogs), options.jobs, options.repeats, options.server_jobs)
    else:
        asked = SIZES
    if not options.quick:
        return asked
    small, large = asked.backlogs
    tenth = Sizes((small, max(large // 10, small)), max(asked.jobs // 10, 1), 2, max(asked.server_jobs // 10, 1))
    return tenth if asked == SIZES else asked


def _timing(options: argparse.Namespace) -> Timing:
    return Timing(1, 2) if options.quick else Timing(WARMUP_S, options.seconds)


def _need_wrk() -> None:
    if not wrk.is_installed():
        raise BenchError("wrk is not installed (on Debian and Ubuntu: the package wrk)")


def _save(options: argparse.Namespace, name: str, results: dict[str, Any]) -> None:
    """Write the results where they were asked for."""
    if options.json is not None:
        options.json.write_text(json.dumps({"kind": name, **results}, indent=1, ensure_ascii=False) + "\n")
        print(f"bench: all numbers are in {options.json}")


_DEFAULTS = {
    "compare": {"rounds": ROUNDS, "seconds": MEASURED_S},
    "peers": {"rounds": PEER_ROUNDS, "jobs": PEER_JOBS},
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.py", description="Measure the engine, the server and the original.")
    commands = parser.add_subparsers(dest="command", required=True)

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--quick", action="store_true", help="only to see that it works: short, small, one round")
    common.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    common.add_argument(
        "--data-dir", type=Path, metavar="DIR", help=f"where databases go (default {tempfile.gettempdir()})"
    )

    engine = commands.add_parser("engine", parents=[common], help="the engine alone, memory, start-up; checked")
    engine.add_argument("--jobs", type=_positive, default=SIZES.jobs, help="jobs moved in each turn")
    engine.add_argument("--backlogs", type=_positive, nargs=2, default=list(SIZES.backlogs), metavar=("FEW", "MANY"))
    engine.add_argument("--repeats", type=_positive, default=SIZES.repeats, help="turns, of which medians are taken")
    engine.add_argument("--server-jobs", type=_positive, default=SIZES.server_jobs, help="jobs that wait in a server")
    engine.set_defaults(run=run_engine)

    load = argparse.ArgumentParser(add_help=False)
    load.add_argument("--seconds", type=_positive, default=MEASURED_S, help="length of a measurement")

    both = commands.add_parser("compare", parents=[common, load], help="the same load on this server and the original")
    both.add_argument("--rounds", type=_positive, default=ROUNDS, help="pairs of each measurement")
    both.add_argument("--original", type=Path, metavar="DIR", help="where bun and bunqueue are installed by npm")
    both.add_argument("--no-original", action="store_true", help="measure this server only")
    both.add_argument(
        "--only", action="append", default=[], metavar="NAME",
        help=f"one measurement, repeatable: {', '.join(m.name for m in MEASUREMENTS)}",
    )  # fmt: skip
    both.add_argument("--full", action="store_true", help="also a backlog of a million for the original")
    both.add_argument("--write-docs", action="store_true", help="write docs/measured/benchmarks.md and its chart anew")
    both.set_defaults(run=run_compare)

    peers = commands.add_parser("peers", parents=[common], help="what users would pick otherwise, beside this project")
    peers.add_argument("--rounds", type=_positive, default=PEER_ROUNDS, help="turns, of which medians are taken")
    peers.add_argument("--jobs", type=_positive, default=PEER_JOBS, help="jobs enqueued and run in each turn")
    peers.add_argument(
        "--only", action="append", default=[], metavar="NAME",
        help=f"one of them, repeatable: {'; '.join(peer.name for peer in PEERS)}",
    )  # fmt: skip
    peers.add_argument(
        "--write-docs", action="store_true", help="write its section of docs/measured/benchmarks.md anew"
    )
    peers.set_defaults(run=run_peers)

    floor = commands.add_parser("floor", parents=[common, load], help="SQLite alone and a bare Trio socket")
    floor.set_defaults(run=run_floor)

    loops = commands.add_parser("workers", parents=[common], help="our worker on Trio and on asyncio; checked")
    loops.add_argument("--rounds", type=_positive, default=PEER_ROUNDS, help="turns, of which medians are taken")
    loops.add_argument("--jobs", type=_positive, default=WORKER_JOBS, help="jobs of each kind in a turn")
    loops.set_defaults(run=run_workers)

    readers = commands.add_parser("idle", help="what idle readers cost, and a command over WebSocket")
    readers.add_argument("--connections", type=_positive, default=idle.CONNECTIONS, help="of each kind")
    readers.add_argument("--seconds", type=_positive, default=MEASURED_S, help="length of a measurement")
    readers.set_defaults(run=lambda options: idle.run(options.connections, options.seconds))

    more = commands.add_parser(
        "cluster",
        parents=[common, load],
        help="CPU of a leader with doors, and PostgreSQL beside the original there; checked",
    )
    more.add_argument("--rounds", type=_positive, default=PEER_ROUNDS, help="turns, of which medians are taken")
    more.set_defaults(run=run_cluster)

    paths = commands.add_parser(
        "ways", parents=[common, load], help="a request by every way it may come, and with many queues; checked"
    )
    paths.add_argument("--rounds", type=_positive, default=PEER_ROUNDS, help="pairs of each")
    paths.add_argument("--only", action="append", default=[], metavar="WORD", help="those that say it, repeatable")
    paths.set_defaults(run=run_ways)

    many = commands.add_parser("crowd", help="looks at and acts on a million jobs in a thousand queues; checked")
    many.add_argument("--jobs", type=_positive, default=crowd.JOBS, help="that wait, and as many that have ended")
    many.add_argument("--queues", type=_positive, default=crowd.QUEUES)
    many.set_defaults(run=lambda options: crowd.run(options.jobs, options.queues))
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value
