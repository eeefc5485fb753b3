"""A real server process on a real file: start, ask whether it is ready, stop, kill.

Knows nothing of jobs; `client` speaks to what this starts.
"""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self, TypeAlias

import httpx

SOURCE = Path(__file__).parents[2] / "src"
HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0  # for what hangs: 0.5 s on a quiet machine
STOP_TIMEOUT_S = 60.0
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # else each client loads all certificates: 20 ms
# What a shell may have set for a server of its own must not reach this one.
SETTINGS = ("AUTH_TOKENS", "CORS_ALLOW_ORIGIN", "HTTP_PORT", "HOST", "DATA_PATH")
SETTING_PREFIXES = ("RATE_LIMIT_", "BUNQUEUE_")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


class Server:
    """One data file and one port, and at most one process serving them."""

    def __init__(self, data_path: Path, env: Mapping[str, str] | None = None) -> None:
        self.data_path = data_path
        self.log_path = data_path.with_suffix(".log")
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self._env = dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> tuple[str, int]:
        return (HOST, self.port)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start the process and return when `/ready` answers 200."""
        if self._process is not None:
            raise RuntimeError("this server runs already")
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bunqueue_trio", "serve"],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_ready(self._process)
        except BaseException:
            self.kill()
            raise

    def terminate(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """Ask the process to end and return its exit code."""
        process = self._running()
        process.send_signal(signum)
        code = process.wait(STOP_TIMEOUT_S)
        self._process = None
        return code

    def kill(self) -> None:
        """End the process with SIGKILL, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def log(self) -> str:
        """Return what the process has written, its last 4,000 characters."""
        return self.log_path.read_text(errors="replace")[-4000:]

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("this server does not run")
        return self._process

    def _environment(self) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in SETTINGS and not name.startswith(SETTING_PREFIXES)
        }
        path = [str(SOURCE), *filter(None, [inherited.get("PYTHONPATH")])]
        return inherited | {
            "PYTHONPATH": os.pathsep.join(path),
            "HOST": HOST,
            "HTTP_PORT": str(self.port),
            "DATA_PATH": str(self.data_path),
            **self._env,
        }

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        with httpx.Client(trust_env=False, verify=NO_TLS, timeout=20.0) as probe:
            while time.monotonic() < deadline:
                if process.poll() is not None:
                    raise RuntimeError(f"the server ended with {process.returncode}: {self.log()}")
                with contextlib.suppress(httpx.TransportError):
                    if probe.get(f"{self.url}/ready").status_code == 200:
                        return
                time.sleep(0.02)
        raise TimeoutError(f"not ready after {START_TIMEOUT_S} s: {self.log()}")


StartServer: TypeAlias = Callable[[Mapping[str, str]], Server]
