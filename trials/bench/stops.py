"""How long a stop takes by the clock of the wall, in each phase in which clients have left the server: ``python -m trials.bench.stops``.

On a machine that has nothing else to do. It fails where a stop takes longer than the grace and a second, or longer than a second
after a second signal, or does not end with 0.
"""

import contextlib
import signal
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from bunqueue_trio.testing.process import ServerProcess
from trials.lib.phases import LARGE, PHASES, handshakes, left
from trials.overload.attacks import make_certificate

GRACE_S = 1.5
LONG_S = 60


def stop(folder: Path, phases: dict[str, bytes], *, lane: str, second: bool) -> tuple[int, float]:
    """Return how a server ends that its clients have left in ``phases``, and after how many seconds."""
    env = {
        "SHUTDOWN_GRACE_MS": str(int((LONG_S if second else GRACE_S) * 1000)),
        "EXPRESS": str(lane != "hypercorn").lower(),
    }
    if lane == "tls":
        env |= make_certificate(folder)
    with (
        ServerProcess(folder / "q.db", env, ready=ServerProcess.is_listening) as server,
        contextlib.ExitStack() as stack,
    ):
        if lane != "tls":
            push = urllib.request.Request(
                f"{server.url}/queues/large/jobs", LARGE, {"Content-Type": "application/json"}
            )
            urllib.request.urlopen(push).close()
        for sent in phases.values():
            stack.enter_context(left(server.address[1], sent))
        begun = time.monotonic()
        if second:
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            begun = time.monotonic()
        return server.stop(within_s=LONG_S), time.monotonic() - begun


def main() -> int:
    """Stop servers in all phases, tell, and return whether one took too long."""
    late = False
    runs = {name: {name: sent} for name, sent in PHASES.items()} | {"all of them": PHASES}
    tls = {name: {name: sent} for name, sent in handshakes().items()}
    for lane in ("express", "hypercorn", "tls"):
        for second in (False, True):
            most = 1.0 if second else GRACE_S + 1
            for name, phases in (tls if lane == "tls" else runs).items():
                with tempfile.TemporaryDirectory() as folder:
                    code, took_s = stop(Path(folder), phases, lane=lane, second=second)
                failed = code != 0 or took_s > most
                late |= failed
                how = "second signal" if second else "in order"
                sys.stdout.write(f"{lane:10} {how:14} {name:42} {code:3} {took_s:6.2f} s{'  FAILED' * failed}\n")
                sys.stdout.flush()
    return late


if __name__ == "__main__":
    raise SystemExit(main())
