"""How jobs went, on the way to the server: each outcome until the server has it or refuses it, and a line in the log.

Acks go in batches, and while one is under way the next one gathers. Failures go by themselves, many at once.
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import anyio

from bunqueue_trio.client.backend import Signal
from bunqueue_trio.client.client import Client
from bunqueue_trio.client.endings import Again, GiveUp
from bunqueue_trio.client.handlers import Outcome
from bunqueue_trio.client.jobs import Job
from bunqueue_trio.client.log import log
from bunqueue_trio.errors import BunqueueError, ConnectionLost, Refused, ServerUnavailable
from bunqueue_trio.logs.printable import printable

BATCH_MAX = 1000
BATCH_BYTES = 1024 * 1024  # of results in one message
FAILS_MAX = 100  # failures under way at once
RETRY_S = 1.0
SAY_S = 1.0  # without an answer of the server, and a failure is said all the same
LOOK_BYTES = 64 * 1024  # of a payload; a larger one is not fetched again to learn when the next try is


class Reporter:
    """Takes outcomes without waiting; ``on_relief`` is called when :attr:`stuck` has become less."""

    def __init__(self, client: Client, on_relief: Callable[[], None]) -> None:
        self._client = client
        self._on_relief = on_relief
        self._acks: list[Outcome] = []
        self._fails: list[Outcome] = []
        self._unreported: dict[str, Job[Any]] = {}  # by lock token
        self._waiting = 0  # batches and failures that the server did not take at once
        self._acks_ring = Signal()
        self._fails_ring = Signal()
        self._drained = Signal()
        self._slots = anyio.Semaphore(FAILS_MAX)

    @property
    def unreported(self) -> list[Job[Any]]:
        """The jobs that are done, and ours until the server knows it."""
        return list(self._unreported.values())

    @property
    def stuck(self) -> int:
        """How many those are while the server takes no reports; 0 while it does."""
        return len(self._unreported) if self._waiting else 0

    def report(self, outcome: Outcome) -> None:
        """Report how a job went."""
        self._unreported[outcome.job.token] = outcome.job
        if outcome.error is None:
            self._acks.append(outcome)
            self._acks_ring.ring()
        else:
            self._fails.append(outcome)
            self._fails_ring.ring()

    async def drained(self) -> None:
        """Wait until the server has everything."""
        while self._unreported:
            await self._drained.wait()

    async def run(self) -> None:
        """Report, for ever."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._send_all_acks)
            while True:
                while not self._fails:
                    await self._fails_ring.wait()
                await self._slots.acquire()
                group.start_soon(self._send_fail, self._fails.pop(0))

    def _settle(self, outcomes: list[Outcome], *, waited: bool) -> None:
        for outcome in outcomes:
            del self._unreported[outcome.job.token]
        if not self._unreported:
            self._drained.ring()
        if self._waiting:
            self._waiting -= waited
            self._on_relief()

    # --- done -------------------------------------------------------------------------------------

    async def _send_all_acks(self) -> None:
        while True:
            while not self._acks:
                await self._acks_ring.wait()
            size = count = 0
            for done in self._acks[:BATCH_MAX]:
                size += 0 if done.result is None else len(memoryview(done.result))
                if count and size > BATCH_BYTES:
                    break
                count += 1
            batch, self._acks = self._acks[:count], self._acks[count:]
            await self._send_acks(batch)

    async def _send_acks(self, batch: list[Outcome]) -> None:
        ids, tokens = [done.job.id for done in batch], [done.job.token for done in batch]
        results = [done.result for done in batch] if any(done.result is not None for done in batch) else None
        waits = False
        while True:
            try:
                ignored = await self._client.ack_many(ids, results, tokens=tokens)
            except (ServerUnavailable, ConnectionLost) as error:
                if not waits:
                    waits = True
                    self._waiting += 1
                    log.warning("acks wait for the server", jobs=len(ids), error=str(error))
                await anyio.sleep(RETRY_S)
            except Refused as refused:  # one by one: which of them is it?
                if len(batch) == 1:
                    failed = batch[0]._replace(result=None, error=f"the result was refused: {refused}")
                    await self._slots.acquire()
                    await self._send_fail(failed)
                else:
                    half = len(batch) // 2
                    await self._send_acks(batch[:half])
                    await self._send_acks(batch[half:])
                self._settle([], waited=waits)
                return
            else:
                self._settle(batch, waited=waits)
                lost = set(ignored)
                for done in batch:
                    if done.job.id in lost:
                        log.info("job was not ours any more when it was done", **_facts(done))
                    else:
                        log.debug("job completed", **_facts(done))
                return

    # --- failed -----------------------------------------------------------------------------------

    async def _send_fail(self, failed: Outcome) -> None:
        """Report a failure, and say so: after a second, if the server is not to be had."""
        job, ending, said, waits = failed.job, failed.ending, False, False
        try:
            while True:
                trouble = f"no answer for {SAY_S:g} s"
                # The client waits for a server that is away, for ever.
                patience = anyio.CancelScope(deadline=math.inf if waits else anyio.current_time() + SAY_S)
                try:
                    with patience:
                        await self._client.fail(
                            job.id, failed.error, token=job.token, unrecoverable=isinstance(ending, GiveUp),
                            retry_in=ending.after if isinstance(ending, Again) else None,
                        )  # fmt: skip
                except (ServerUnavailable, ConnectionLost) as error:
                    trouble = str(error)
                except Refused as refused:
                    if not said:
                        said = True
                        _say(failed, next="not ours any more", server=str(refused))
                    return
                else:
                    if not patience.cancelled_caught:
                        if not said:
                            said = True
                            _say(failed, next=await self._next_try(failed))
                        return
                if not waits:
                    said = waits = True
                    self._waiting += 1
                    _say(failed, next="when the server has heard of it", server=trouble)
                # Asked again, the server says whether it had arrived.
                await anyio.sleep(0 if patience.cancelled_caught else RETRY_S)
        finally:
            if not said:
                _say(failed, next="not reported: the worker ended")
            self._slots.release()
            self._settle([failed], waited=waits)

    async def _next_try(self, failed: Outcome) -> str:
        """Return when the job is tried again, or that it is dead."""
        job, ending = failed.job, failed.ending
        if isinstance(ending, GiveUp):
            return "dead: given up"
        if job.attempt >= job.max_attempts:
            return "dead"
        if isinstance(ending, Again):
            return f"in {ending.after:g} s"
        if len(job.raw) > LOOK_BYTES:
            return "later"
        with anyio.move_on_after(SAY_S):
            try:
                info = await self._client.get(job.id)
            except BunqueueError:  # it has ended meanwhile, or the server has trouble
                return "later"
            return datetime.fromtimestamp(info.run_at, UTC).isoformat(timespec="milliseconds")
        return "later"


def _facts(outcome: Outcome) -> dict[str, Any]:
    job = outcome.job
    return {
        "job": printable(job.id), "queue": job.queue, "attempt": f"{job.attempt} of {job.max_attempts}",
        "duration_s": round(outcome.duration, 3),
    }  # fmt: skip


def _say(failed: Outcome, **fields: Any) -> None:
    trace = {"error": failed.error} if failed.trace is None else {"exception": failed.trace}
    log.warning("job failed", **_facts(failed), **fields, **trace)
