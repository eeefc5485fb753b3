"""How jobs went, on the way to the server: acks in batches, each outcome until the server has it or refuses it."""

from typing import Any

import structlog
import trio
from msgspec import Raw

from bunqueue_trio.client.client import Client
from bunqueue_trio.client.jobs import Job
from bunqueue_trio.errors import ConnectionLost, Refused, ServerUnavailable
from bunqueue_trio.logs.printable import printable

_log = structlog.get_logger()

BATCH_MAX = 1000
BATCH_BYTES = 1024 * 1024  # of results in one message
RETRY_S = 1.0


class Reporter:
    """Takes outcomes without waiting. While one batch is under way the next one gathers."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._acks: list[tuple[Job[Any], Raw | None]] = []
        self._fails: list[tuple[Job[Any], str]] = []
        self._ring = trio.Event()
        self._idle = trio.Event()
        self._idle.set()

    def ack(self, job: Job[Any], result: Raw | None) -> None:
        """Report that ``job`` is done."""
        self._acks.append((job, result))
        self._wake()

    def fail(self, job: Job[Any], error: str) -> None:
        """Report that it is not."""
        self._fails.append((job, error))
        self._wake()

    async def drained(self) -> None:
        """Wait until the server has everything."""
        await self._idle.wait()

    async def run(self) -> None:
        """Report, for ever."""
        while True:
            if not self._acks and not self._fails:
                self._idle.set()
                self._ring = trio.Event()
                await self._ring.wait()
            await self._send_acks()
            fails, self._fails = self._fails, []
            for job, error in fails:
                await self._send_fail(job, error)

    def _wake(self) -> None:
        self._idle = trio.Event() if self._idle.is_set() else self._idle
        self._ring.set()

    async def _send_acks(self) -> None:
        size = count = 0
        for _, result in self._acks[:BATCH_MAX]:
            size += len(bytes(result)) if result is not None else 0
            if count and size > BATCH_BYTES:
                break
            count += 1
        batch, self._acks = self._acks[:count], self._acks[count:]
        if not batch:
            return
        ids, tokens = [job.id for job, _ in batch], [job.token for job, _ in batch]
        results = [result for _, result in batch] if any(result is not None for _, result in batch) else None
        while True:
            try:
                ignored = await self._client.ack_many(ids, results, tokens=tokens)
            except (ServerUnavailable, ConnectionLost) as error:
                _log.warning("acks wait for the server", jobs=len(ids), error=str(error))
                await trio.sleep(RETRY_S)
            except Refused as refused:  # one by one: which of them is it?
                if len(batch) == 1:
                    await self._send_fail(batch[0][0], f"the result was refused: {refused}")
                    return
                self._acks = batch[len(batch) // 2 :] + self._acks
                self._acks, rest = batch[: len(batch) // 2], self._acks
                await self._send_acks()
                self._acks += rest
                return
            else:
                if ignored:
                    _log.info("jobs were not ours any more when they were done", jobs=ignored)
                return

    async def _send_fail(self, job: Job[Any], error: str) -> None:
        while True:
            try:
                await self._client.fail(job.id, error, token=job.token)
            except (ServerUnavailable, ConnectionLost) as unavailable:  # asked again, it says whether it had arrived
                _log.warning("a failure waits for the server", job=printable(job.id), error=str(unavailable))
                await trio.sleep(RETRY_S)
            except Refused as refused:
                _log.info("job was not ours any more when it failed", job=printable(job.id), error=str(refused))
                return
            else:
                return
