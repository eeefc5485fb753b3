"""Kills a real server under load, again and again, and looks whether everything that it had answered is still there.

With `power_loss` the server runs on a simulated disk (`disk`) that also loses what was not synced. Producers and workers
speak HTTP and WebSocket (`load`), a watcher hears all events. After each restart the audit (`audit`) compares the server
with the clients' books.
"""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import trio

from bunqueue_trio.testing.client import Cut
from bunqueue_trio.testing.crash.audit import Verdict, audit
from bunqueue_trio.testing.crash.disk import WIPED, survivors
from bunqueue_trio.testing.crash.load import Books, load
from bunqueue_trio.testing.process import STOP_WITHIN_S, ServerProcess

# Characters.
LOG_SHOWN = 1000
# Some hundred changes, and small enough a round to try many moments.
LOAD_S = 0.6
# Of the restarts are killed, too, before the server is ready.
STILLBORN = 0.2
# About how long a start takes.
STILLBORN_S = 0.7
# Of the pushes; what is not durable has a right to be lost with the power.
DURABLE_SHARES = (0.0, 0.02, 0.1, 0.5)
# A job that is forgotten again and again is not to die of it, and clients that go on talking are not to delay a stop.
SETTINGS = {"LOG_LEVEL": "info", "STALLS_MAX": "1000", "SHUTDOWN_GRACE_MS": "200"}
# What a round needs and not much more: rounds cost the same from first to last, and retention works meanwhile.
RETENTION = ("--retention-completed-max", "10000", "--retention-dead-max", "5000", "--retention-events-max", "50000")
# What is killed, to Python.
PROGRAM = ("-m", "bunqueue_trio")
# How a round on the simulated disk ends; a stop is followed by a cut.
ENDS = {"cut": 8, "kill": 1, "stop": 1}


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


class Failed(Exception):
    """The server does not do what it must for the test to go on; the message says what."""


class Stillborn(ServerProcess):
    """A server that is killed while it starts."""

    life_s: float = 0.0

    def _wait_ready(self, process: "subprocess.Popen[bytes]") -> None:
        try:
            process.wait(self.life_s)
            raise Failed(f"the server ended at its start: {self.log[-LOG_SHOWN:]}")
        except subprocess.TimeoutExpired:
            self.kill()


class Victim:
    """A data file, the server on it, and the disk below."""

    def __init__(self, directory: Path, rng: random.Random, *, power_loss: bool, lying: bool) -> None:
        """Start it in an empty directory."""
        self.directory = directory
        self.data: Path = directory / "queue.db"
        self._rng = rng
        self._power_loss = power_loss
        self._log = directory / "disk.log"
        self._safe: dict[str, bytes] = {}
        self._lying = lying
        self.server: ServerProcess = self._start(ServerProcess)

    def _start(self, kind: type[ServerProcess]) -> ServerProcess:
        program = [*PROGRAM]
        if self._power_loss:
            disk, pace = "lying" if self._lying else "honest", self._rng.choice(("hasty", "calm"))
            program = ["-m", "bunqueue_trio.testing.crash.disk", str(self._log), disk, pace]
        command = (sys.executable, *program, "serve", *RETENTION)
        server = kind(self.data, SETTINGS, command=command, log_path=self.directory / "server.log")
        try:
            server.start()
        except (RuntimeError, TimeoutError) as error:
            raise Failed(str(error)) from None
        return server

    def end(self, how: str) -> None:
        """See it end, after a stop as it should; then cut the power, unless it was a mere kill."""
        if how == "stop":
            code = self.server.process.wait(STOP_WITHIN_S)
            if code:
                raise Failed(f"a server that was stopped ended with {code}")
        self.server.kill()
        if how != "kill":
            self._lose_power()

    def restart(self) -> bool:
        """Start it again; sometimes that is not survived, either. Return whether the power was lost meanwhile."""
        lost = False
        while self._rng.random() < STILLBORN:
            Stillborn.life_s = self._rng.uniform(0, STILLBORN_S)
            self._start(Stillborn)
            if self._power_loss and self._rng.random() < 0.5:
                self._lose_power()
                lost = True
        self.server = self._start(ServerProcess)
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
    """Kill a server on fresh data in `directory`, `kills` times; yield what each audit found.

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
    except (Failed, Cut, ExceptionGroup, trio.TooSlowError, subprocess.TimeoutExpired) as error:
        return Verdict(
            [f"no audit was possible: {error!r}; the server's log: {victim.server.log[-LOG_SHOWN:]}"], books.answered, 0
        )
