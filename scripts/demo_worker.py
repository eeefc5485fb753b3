"""One worker process of the demo: pull a batch, read the files, acknowledge, for ever.

The parent ends it with a signal. Nothing needs to be put in order at that moment: what the worker
has pulled and not acknowledged is delivered again when the lease ends. The victim shows it: having
read its `stop_at`-th file it writes down which jobs it holds, and waits to be killed.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from demo_files import QUEUE, examine, fails_first
from demo_http import WAITING_PULL_MS, answer, connect, send

RENEWALS_A_LEASE = 5


@dataclass
class Worker:
    """A puller of batches, and the count of what it has seen."""

    client: httpx.Client
    name: str
    batch: int
    lease_ms: int
    stop_at: int | None = None
    held_file: Path | None = None
    seen: int = 0

    def run(self) -> None:
        """Work batch after batch until the process is ended from outside."""
        print("ready", flush=True)
        request = {"count": self.batch, "timeout": WAITING_PULL_MS, "lockTtl": self.lease_ms}
        while True:
            pulled = answer(send(self.client, f"/queues/{QUEUE}/jobs/pull-batch", request))
            if pulled["jobs"]:
                self.work(pulled["jobs"], pulled["tokens"])

    def work(self, jobs: list[dict[str, Any]], tokens: list[str]) -> None:
        """Work one batch: fail what must fail one by one, acknowledge the rest in one request."""
        held = {job["id"]: token for job, token in zip(jobs, tokens, strict=True)}
        results: dict[str, dict[str, Any]] = {}
        with self.renewing(held):
            for job in jobs:
                self.seen += 1
                if self.seen == self.stop_at:
                    self.wait_to_be_killed(list(held))
                try:
                    results[job["id"]] = self.result_of(job)
                except (OSError, RuntimeError) as error:
                    self.fail(job["id"], held.pop(job["id"]), error)
        body = {"ids": list(held), "tokens": list(held.values()), "results": [results[i] for i in held]}
        if held:
            answer(send(self.client, "/jobs/ack-batch", body))

    @contextmanager
    def renewing(self, held: dict[str, str]) -> Iterator[None]:
        """Renew the leases of what is held, however long a file takes: one that is over is a stall, and four of them are the end of a job."""
        done = threading.Event()

        def renew() -> None:
            while not done.wait(self.lease_ms / 1000 / RENEWALS_A_LEASE):
                ids, tokens = zip(*list(held.items()), strict=True) if held else ((), ())
                answer(send(self.client, "/jobs/heartbeat-batch", {"ids": ids, "tokens": tokens}))

        renewer = threading.Thread(target=renew, daemon=True)
        renewer.start()
        yield
        done.set()
        renewer.join()

    def result_of(self, job: dict[str, Any]) -> dict[str, Any]:
        """Examine the job's file, or fail on purpose if this is a chosen job's first try."""
        path = job["data"]["path"]
        if job["attempts"] == 0 and fails_first(path):
            raise RuntimeError("failed on purpose: the first try of a chosen file")
        return {**examine(path), "worker": self.name}

    def fail(self, job: str, token: str, error: Exception) -> None:
        """Report one failed try; a lease that has ended meanwhile is the server's business."""
        response = send(self.client, f"/jobs/{job}/fail", {"token": token, "error": str(error)})
        if response.status_code != httpx.codes.BAD_REQUEST:
            answer(response)

    def wait_to_be_killed(self, held: list[str]) -> None:
        """Write down the jobs in hand, atomically, and hold them until SIGKILL comes."""
        assert self.held_file is not None, "a victim knows where to write"
        draft = self.held_file.with_suffix(".draft")
        draft.write_text(json.dumps(held))
        draft.replace(self.held_file)
        time.sleep(60)  # the parent looks ten times a second; without a parent this process ends too
        sys.exit("nobody killed the victim")


def main() -> None:
    """Read the command line the parent wrote and work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("name")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--lease-ms", type=int, required=True)
    parser.add_argument("--stop-at", type=int)
    parser.add_argument("--held-file", type=Path)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with connect(args.url) as client:
        worker = Worker(client, args.name, args.batch, args.lease_ms, args.stop_at, args.held_file)
        try:
            worker.run()
        except httpx.HTTPError as error:
            sys.exit(f"{args.name}: {error!r}")


if __name__ == "__main__":
    main()
