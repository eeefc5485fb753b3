"""The command line of the chaos trial: how many rounds of what, and what came of them."""

import argparse
import json
import os
import random
import tempfile
from pathlib import Path

import trio

from bunqueue_trio.errors import leaves
from trials.chaos.clients import Crowd
from trials.chaos.cluster import running
from trials.chaos.rounds import Round, Trial
from trials.lib.machine import describe
from trials.lib.postgres import why_not
from trials.lib.servers import BenchError

CLIENTS = 32
LEASE_MS = 2000
JOBS = 10_000
SHARES = {"kill": 8, "suspend": 6, "rolling": 2, "backends": 1, "crash": 1, "cut": 1, "promote": 1, "door": 1}
"""How often each kind comes: what a death and a sleep of the leader do is what it is about."""


def kinds_of(rounds: int, rng: random.Random, only: list[str]) -> list[str]:
    """Return the kinds of all rounds: each once, in any order, and then by chance."""
    kinds = only or [*SHARES]
    first = rng.sample(kinds, len(kinds))
    return [*first, *rng.choices(kinds, [SHARES[kind] for kind in kinds], k=max(0, rounds - len(kinds)))][:rounds]


def summary(done: list[Round]) -> list[list[str]]:
    """Return the rows of a table: for each kind the rounds, answered changes, those without an answer, and the pauses."""
    rows = []
    for kind in SHARES:
        its = [each for each in done if each.kind == kind]
        if its:
            pauses = sorted(each.pause_s for each in its)
            rows.append([
                kind, str(len(its)), f"{sum(each.answered for each in its):,}", f"{sum(each.failed for each in its):,}",
                *(f"{pauses[min(len(pauses) - 1, int(len(pauses) * share))]:.1f}" for share in (0.5, 0.99, 1)),
                str(sum(each.terms for each in its)), str(sum(len(each.breaches) for each in its)),
            ])  # fmt: skip
    return rows


async def _run(directory: Path, options: argparse.Namespace, done: list[Round]) -> None:
    rng = random.Random(options.seed)
    with running(directory, options.lease_ms) as cluster:
        crowd = Crowd([server.port for server in cluster.servers], options.clients, rng)
        trial = Trial(cluster, crowd, rng)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crowd.run)
            nursery.start_soon(trial.supervise)
            async for each in trial.rounds(kinds_of(options.rounds, rng, options.only), options.jobs):
                done.append(each)
                print(each, *each.breaches[:20], sep="\n", flush=True)
                if each.breaches:
                    break
            nursery.cancel_scope.cancel()


def main() -> int:
    """Do the rounds; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(
        prog="scripts/chaos.py",
        description="Three servers on one PostgreSQL under load: kill, suspend and restart them, and their database.",
    )
    parser.add_argument("--rounds", type=int, default=20, help="how many (default: 20)")
    parser.add_argument(
        "--only", action="append", choices=[*SHARES], default=[], help="only rounds of this kind; may be repeated"
    )
    parser.add_argument(
        "--jobs", type=int, default=JOBS, help=f"that wait meanwhile, and each new leader reads (default: {JOBS:,})"
    )
    parser.add_argument("--clients", type=int, default=CLIENTS, help=f"half of them push (default: {CLIENTS})")
    parser.add_argument("--lease-ms", type=int, default=LEASE_MS, help=f"STORE_LEASE_MS (default: {LEASE_MS})")
    parser.add_argument("--seed", type=int, default=1, help="chooses what happens, and when (default: 1)")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    reason = why_not()
    if reason is not None:
        print(f"chaos: {reason}")
        return 1
    machine, done = describe(""), list[Round]()
    directory = Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"chaos: {options.rounds} rounds, seed {options.seed}, logs in {directory}", flush=True)
    failed = False
    try:
        trio.run(_run, directory, options, done)
    except* BenchError as errors:
        failed = True
        print(*(f"chaos: {error}" for error in leaves(errors)), sep="\n")
    head = [
        "what",
        "rounds",
        "answered changes",
        "not answered with 200",
        "pause p50, s",
        "pause p99, s",
        "longest pause, s",
        "takeovers",
        "breaches",
    ]
    print(*(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *summary(done))), sep="\n")
    print(
        f"load {machine['load_before']} before, {os.getloadavg()[0]:.1f} after, on {machine['cores']} cores; commit {machine['commit']}"
    )
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "rounds": [vars(each) for each in done]}, indent=1))
    return 1 if failed or any(each.breaches for each in done) else 0
