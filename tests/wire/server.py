"""A real server process on a real file, of this checkout's code; `client` speaks to what this starts."""

import os
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import bunqueue_trio
from bunqueue_trio.testing.process import HOST, SETTINGS, ServerProcess, free_port, without_settings

__all__ = ["HOST", "NO_TLS", "SETTINGS", "SOURCE", "Server", "StartServer", "environment", "free_port"]

SOURCE = Path(bunqueue_trio.__file__).parents[1]
"""Of the code under test, which may be a copy with a fault planted in it."""
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # else each client loads all certificates: 20 ms


def environment() -> dict[str, str]:
    """Return this process's environment without any setting of ours, with this checkout's code in front."""
    inherited = without_settings(os.environ)
    return inherited | {"PYTHONPATH": os.pathsep.join([str(SOURCE), *filter(None, [inherited.get("PYTHONPATH")])])}


class Server(ServerProcess):
    """One data file and one port, and at most one process serving them."""

    def __init__(self, data_path: Path, env: Mapping[str, str] | None = None) -> None:
        super().__init__(data_path, env, inherited=environment())

    terminate = ServerProcess.stop


StartServer: TypeAlias = Callable[[Mapping[str, str]], Server]
