"""The command line of the simulations: one seed with its log, or many, in as many processes as there are cores."""

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from tests.sim.sim_world import Result, simulate
from tests.storage.faulty import Fault

HOURS = 0.1
"""Virtual hours of trouble a seed: most findings need a certain seed, not a long life."""

LINES_SHOWN = 25  # of the log of a failed seed; --log has all of it


def replay(result: Result, which: str = "") -> str:
    """The command that does the same once more."""
    return f"python3 scripts/sim.py {which}--seed {result.seed} --hours {result.hours:g} --log sim.log"


def _simulate_cluster(seed: int, hours: float) -> Result:
    # It needs psycopg, which who simulates one server may not have.
    from tests.cluster.cluster_world import simulate_cluster

    return simulate_cluster(seed, hours)


def _parse_seeds(text: str) -> range:
    first, _, last = text.partition("-")
    try:
        return range(int(first), int(last or first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 0-299") from None


def _run_without_log(run: Callable[[int, float], Result], hours: float, seed: int) -> Result:
    result = run(seed, hours)
    if result.failure is None:
        result.log.clear()  # it need not travel between processes
    return result


def results(
    seeds: Iterable[int], hours: float, jobs: int, run: Callable[[int, float], Result] = simulate
) -> Iterator[Result]:
    """Simulate all seeds; give the results in their order."""
    if jobs == 1:
        for seed in seeds:
            yield run(seed, hours)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(partial(_run_without_log, run, hours), seeds, chunksize=4)


def _parse_crash(text: str) -> tuple[int, Fault]:
    number, _, when = text.partition("-")
    try:
        return int(number), {"before": Fault.CRASH_BEFORE, "after": Fault.CRASH_AFTER}[when]
    except (ValueError, KeyError):
        raise argparse.ArgumentTypeError(f"{text!r} is not like 7-before or 7-after") from None


def every_crash(seed: int, hours: float, step: int = 1) -> Iterator[Result]:
    """Simulate a seed, and again with a crash right before and right after each of its commits, or every ``step``-th."""
    whole = simulate(seed, hours)
    yield whole
    for number in range(1, whole.counts["commits"] + 1, step):
        for when in ("before", "after"):
            result = simulate(seed, hours, _parse_crash(f"{number}-{when}"))
            if result.failure is not None:
                result.failure += f"\nwith --crash {number}-{when}"
            yield result


def _tell_failure(result: Result, which: str) -> None:
    print("\n".join(result.log[-LINES_SHOWN:]))
    print(f"\nseed {result.seed} FAILED: {result.failure}\nreplay it with: {replay(result, which)}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; 1 when a seed has failed."""
    parser = argparse.ArgumentParser(
        prog="scripts/sim.py",
        description="Simulate the whole server on virtual time, with everything that can go wrong. Same seed: same log.",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--seed", type=int, default=0, help="the one world to simulate (default 0)")
    which.add_argument("--seeds", type=_parse_seeds, metavar="A-B", help="all worlds from A to B")
    parser.add_argument(
        "--hours", type=float, default=HOURS, help=f"virtual hours with faults, before the calm (default {HOURS})"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes for --seeds (default: cores)")
    parser.add_argument("--crash", type=_parse_crash, metavar="N-WHEN", help="crash --seed before or after commit N")
    parser.add_argument(
        "--every-crash", action="store_true", help="--seed with a crash around each of its commits, in turn"
    )
    parser.add_argument("--log", type=Path, help="where to write the log of --seed")
    parser.add_argument(
        "--cluster", action="store_true", help="several brokers on one database, instead of one with its file"
    )
    options = parser.parse_args(arguments)
    if options.cluster and (options.crash or options.every_crash):
        parser.error("--cluster draws its crashes itself")
    run, which = (_simulate_cluster, "--cluster ") if options.cluster else (simulate, "")

    begun = time.perf_counter()
    if options.seeds:
        runs = results(options.seeds, options.hours, options.jobs, run)
    elif options.every_crash:
        runs = every_crash(options.seed, options.hours)
    else:
        runs = iter([run(options.seed, options.hours, *([options.crash] if options.crash else []))])
    done, failed, virtual_s, totals = 0, 0, 0.0, dict[str, int]()
    for result in runs:
        done += 1
        virtual_s += result.virtual_s
        for name, n in result.counts.items():
            totals[name] = totals.get(name, 0) + n
        if not (options.seeds or options.every_crash):
            if options.log:
                options.log.write_text("\n".join(result.log) + "\n", encoding="utf-8")
            print(f"seed {result.seed}, {options.hours:g} h of trouble: SHA-256 of the log {result.digest}")
        if result.failure is not None:
            failed += 1
            _tell_failure(result, which)
    seconds = time.perf_counter() - begun
    print(", ".join(f"{n:,} {name}" for name, n in totals.items()))
    print(
        f"{done} runs, {failed} failed; {virtual_s / 3600:.1f} virtual hours in {seconds:.1f} s: "
        f"{virtual_s / 3600 / seconds:.2f} virtual hours per second"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
