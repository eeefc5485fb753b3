"""A real server process on a real file, of this checkout's code; `client` speaks to what this starts."""

import os
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from bunqueue_trio.testing.process import HOST, SETTINGS, free_port, without_settings
from tests.forking import SOURCE, ServerOfTests

__all__ = ["HOST", "NO_TLS", "SETTINGS", "SOURCE", "Server", "StartServer", "environment", "free_port"]

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # else each client loads all certificates: 20 ms


def environment() -> dict[str, str]:
    """Return this process's environment without any setting of ours, with this checkout's code in front."""
    inherited = without_settings(os.environ)
    return inherited | {"PYTHONPATH": os.pathsep.join([str(SOURCE), *filter(None, [inherited.get("PYTHONPATH")])])}


class Server(ServerOfTests):
    """One data file and one port, and at most one process serving them."""

    def __init__(self, data_path: Path, env: Mapping[str, str] | None = None) -> None:
        super().__init__(data_path, env, inherited=environment())

    terminate = ServerOfTests.stop


StartServer: TypeAlias = Callable[[Mapping[str, str]], Server]
