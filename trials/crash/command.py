"""Kills a real server under load, again and again, and looks whether everything that it had answered is still there.

`python3 scripts/crashtest.py --data DIR` tries your own disk against `kill -9`; with `--power-loss` the server runs on a
simulated disk (`disk`) that also loses what was not synced. Producers and workers speak HTTP and WebSocket,
a watcher hears all events. After each restart the audit (`audit`) compares the server with the clients' books.
"""

import argparse
import math
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import trio

from bunqueue_trio.testing.client import Cut
from bunqueue_trio.testing.process import STOP_WITHIN_S
from trials.crash.audit import Verdict, audit
from trials.crash.disk import WIPED, survivors
from trials.crash.load import Books, load
from trials.lib.places import PYTHONPATH
from trials.lib.servers import BenchError, Kind, Server

SHOWN = 20  # breaches that are printed
LOAD_S = 0.6  # some hundred changes, and small enough a round to try many moments
STILLBORN = 0.2  # of the restarts are killed, too, before the server is ready
STILLBORN_S = 0.7  # about how long a start takes
DURABLE_SHARES = (0.0, 0.02, 0.1, 0.5)  # of the pushes; what is not durable has a right to be lost with the power
# A job that is forgotten again and again is not to die of it, and clients that go on talking are not to delay a stop.
SETTINGS = (("LOG_LEVEL", "info"), ("STALLS_MAX", "1000"), ("SHUTDOWN_GRACE_MS", "200"))
# What a round needs and not much more: rounds cost the same from first to last, and retention works meanwhile.
RETENTION = ("--retention-completed-max", "10000", "--retention-dead-max", "5000", "--retention-events-max", "50000")
ENDS = {"cut": 8, "kill": 1, "stop": 1}  # how a round on the simulated disk ends; a stop is followed by a cut


@dataclass(frozen=True)
class Round:
    """How one round ended and what the audit found."""

    number: int
    end: str
    verdict: Verdict
    seconds: float

    def __str__(self) -> str:
        """Give its line of the report."""
        v = self.verdict
        lost = f", {v.lost} non-durable ones of the last {v.lost_ms:.0f} ms lost" if v.lost else ""
        return (
            f"{self.end:<5}{self.number:>4}: {v.answered} answered changes ({v.durable} durable pushes){lost}; "
            f"{'ok' if not v.breaches else f'{len(v.breaches)} BREACHES'} ({self.seconds:.1f} s)"
        )


class Stillborn(Server):
    """A server that is killed while it starts."""

    life_s = 0.0

    def _wait_ready(self, process: "subprocess.Popen[bytes]") -> None:
        try:
            process.wait(self.life_s)
            raise BenchError(f"the server ended at its start: {self.last_words()}")
        except subprocess.TimeoutExpired:
            self.kill()


class Victim:
    """A data file, the server on it, and the disk below."""

    def __init__(self, directory: Path, rng: random.Random, *, power_loss: bool, lying: bool) -> None:
        """Prepare to run in an empty directory."""
        self.directory = directory
        self.data = directory / "queue.db"
        self._rng = rng
        self._power_loss = power_loss
        self._log = directory / "disk.log"
        self._safe: dict[str, bytes] = {}
        self._lying = lying
        self.server = Server(self._kind(), directory)

    def _kind(self) -> Kind:
        program = ["-m", "bunqueue_trio"]
        if self._power_loss:
            disk, pace = "lying" if self._lying else "honest", self._rng.choice(("hasty", "calm"))
            program = ["-m", "trials.crash.disk", str(self._log), disk, pace]
        return Kind(
            "the server", "", (sys.executable, *program, "serve", *RETENTION), (*SETTINGS, ("PYTHONPATH", PYTHONPATH))
        )

    def end(self, how: str) -> None:
        """See it end, after a stop as it should; then cut the power, unless it was a mere kill."""
        if how == "stop":
            code = self.server.process.wait(STOP_WITHIN_S)
            if code:
                raise BenchError(f"a server that was stopped ended with {code}")
        self.server.kill()
        if how != "kill":
            self._lose_power()

    def restart(self) -> bool:
        """Start it again; sometimes that is not survived, either. Return whether the power was lost meanwhile."""
        lost = False
        while self._rng.random() < STILLBORN:
            Stillborn.life_s = self._rng.uniform(0, STILLBORN_S)
            Stillborn(self._kind(), self.directory)
            if self._power_loss and self._rng.random() < 0.5:
                self._lose_power()
                lost = True
        self.server = Server(self._kind(), self.directory)
        return lost

    def _lose_power(self) -> None:
        """Put in the place of each file what the disk may hold of it."""
        self._safe = survivors(self._safe, self._log, self._rng)
        self._log.unlink(missing_ok=True)
        for path in self.directory.glob(f"{self.data.name}*"):
            if path.name in self._safe or path.name.removeprefix(self.data.name) in {"", "-wal", "-journal", *WIPED}:
                path.unlink()
        for name, content in self._safe.items():
            (self.directory / name).write_bytes(content)


def rounds(
    directory: Path, kills: int, seed: int, *, power_loss: bool = False, lying: bool = False, durable: bool = False,
    seconds: float = LOAD_S,
) -> Iterator[Round]:  # fmt: skip
    """Kill a server on fresh data in `directory` so many times; yield what each audit found.

    Stops after the first round with a breach. The seed decides what is done and when, as far as the machine lets it.
    """
    rng = random.Random(seed)
    victim = Victim(directory, rng, power_loss=power_loss, lying=lying)
    try:
        for number in range(1, kills + 1):
            begun = time.monotonic()
            share = 1.0 if durable else rng.choice(DURABLE_SHARES)
            books = Books(f"round-{number}", share)
            end = rng.choices([*ENDS], [*ENDS.values()])[0] if power_loss else "kill"
            process = victim.server.process
            kill = process.terminate if end == "stop" else process.kill
            trio.run(load, victim.server.url, books, rng, kill, rng.uniform(0.1, seconds))
            verdict = _restart_and_audit(victim, books, end, time.monotonic())
            yield Round(number, end, verdict, time.monotonic() - begun)
            if verdict.breaches:
                return
    finally:
        victim.server.kill()


def _restart_and_audit(victim: Victim, books: Books, end: str, ended_at: float) -> Verdict:
    try:
        victim.end(end)
        lost = victim.restart()
        # What a mere kill leaves is not synced yet: a power cut at the restart may take it. A stop has synced everything.
        power_cut = end == "cut" or (end == "kill" and lost)
        return trio.run(lambda: audit(victim.server.url, books, victim.data, power_cut=power_cut, ended_at=ended_at))
    except (BenchError, Cut, ExceptionGroup, trio.TooSlowError, subprocess.TimeoutExpired) as error:
        return Verdict(
            [f"no audit was possible: {error!r}; the server's log: {victim.server.last_words()}"], books.answered, 0
        )


def main() -> int:
    """Run the rounds, print what each found, and say in the end what that means."""
    parser = argparse.ArgumentParser(
        description="Kill a real server under load, restart it, and look whether everything that it answered is there.",
        epilog="Exit codes: 0 nothing was lost; 1 something was, and the files are kept; 2 wrong usage.",
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="a directory on the disk to try (default: a temporary one)"
    )
    parser.add_argument("--kills", type=_positive(int), default=20, metavar="N", help="how many rounds (default: 20)")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="chooses what is done and when (default: another each time)"
    )
    parser.add_argument(
        "--seconds", type=_positive(float), default=LOAD_S, metavar="S",
        help=f"the longest load before a kill (default: {LOAD_S})",
    )  # fmt: skip
    parser.add_argument("--durable", action="store_true", help="every push is durable")
    parser.add_argument("--power-loss", action="store_true", help="on a simulated disk that loses what was not synced")
    parser.add_argument(
        "--lying-disk", action="store_true", help="the same, and the disk lies about syncs: this must be found out"
    )
    options = parser.parse_args()
    if options.data is not None and not options.data.is_dir():
        parser.error(f"--data: there is no directory {options.data}")

    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**32)
    directory = Path(tempfile.mkdtemp(prefix="crashtest-", dir=options.data))
    power_loss = options.power_loss or options.lying_disk
    what = "power cuts on a simulated disk" if power_loss else f"kills of a server with its file in {directory}"
    print(f"crashtest: {options.kills} {what}, seed {seed}", flush=True)
    done: list[Round] = []
    for each in rounds(
        directory, options.kills, seed,
        power_loss=power_loss, lying=options.lying_disk, durable=options.durable, seconds=options.seconds,
    ):  # fmt: skip
        done.append(each)
        print(each, flush=True)
    return _conclude(done, directory, seed)


def _conclude(done: list[Round], directory: Path, seed: int) -> int:
    answered, durable = sum(each.verdict.answered for each in done), sum(each.verdict.durable for each in done)
    breaches = done[-1].verdict.breaches
    if breaches:
        print(*(f"BREACH: {breach}" for breach in breaches[:SHOWN]), sep="\n")
        if len(breaches) > SHOWN:
            print(f"… and {len(breaches) - SHOWN} more")
        print(f"the promise was broken in round {len(done)} with seed {seed}; everything is in {directory}")
        return 1
    shutil.rmtree(directory)
    lost, longest = sum(each.verdict.lost for each in done), max(each.verdict.lost_ms for each in done)
    print(
        f"{len(done)} rounds, {answered} answered changes, {durable} durable pushes: nothing was lost that was promised"
    )
    if lost:
        print(
            f"the power took {lost} answered changes that were not durable, of at most the last {longest:.0f} ms each time; "
            "what was left was always the begin of what had been committed"
        )
    return 0


def _positive(kind: type[int | float]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = kind(text)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError("must be more than 0")
        return value

    return parse
