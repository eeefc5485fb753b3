"""Faults planted in how connections are accepted, take turns, and end with the server."""

from planted.row import Mutant

CONNECTIONS = [
    Mutant("runtime/signals.py", "number for number in self._ours.recv(4096) if", "number for number in set(self._ours.recv(4096)) if", "two signals in one step are one"),
    Mutant("runtime/signals.py", "signal.SIG_IGN)", "signal.SIG_DFL)", "a signal that comes at the very end decides on the exit code"),
    Mutant("transports/listener.py", "            await self._reading.wait()\n", "            pass\n", "the first request that needs the web framework stops everybody"),
]  # fmt: skip
