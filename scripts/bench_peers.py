"""A look at a Python peer: Huey on SQLite, a library without a server, where it is installed.

RQ, Celery and Dramatiq need a Redis server and are not measured. Huey runs in the process that uses it, so there is no
network in its numbers; it commits every job by itself and keeps neither leases nor states.
"""

import importlib
import importlib.util
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_http import payload

Numbers = dict[str, float]
LEFT_OUT = "Huey is left out: it is not installed (pip install huey)"


def measure_peers(seconds: float, data_dir: Path | None = None) -> dict[str, Numbers] | str:
    """Return rates by title, or in one line why there are none."""
    if importlib.util.find_spec("huey") is None:
        return LEFT_OUT
    huey: Any = importlib.import_module("huey")
    with tempfile.TemporaryDirectory(prefix="bench-", dir=data_dir) as directory:
        queue = huey.SqliteHuey("bench", filename=str(Path(directory) / "huey.db"))
        work = queue.task()(_work)
        data = payload().decode()
        queued, begun = 0, time.perf_counter()
        while (pushing := time.perf_counter() - begun) < seconds:
            work(data)
            queued += 1
        done, begun = 0, time.perf_counter()
        while (working := time.perf_counter() - begun) < seconds and (task := queue.dequeue()) is not None:
            queue.execute(task)
            done += 1
        queue.storage.close()
    return {"Huey on SQLite: enqueue": {"rate": queued / pushing}, "Huey on SQLite: run": {"rate": done / working}}


def _work(data: str) -> None:
    """Do nothing, as fast as possible."""
