"""How jobs went, on the way to the server: each outcome until the server has it or refuses it, and a line in the log.

Acks go in batches, and so do failures: while one is under way the next one gathers. Jobs that were cancelled go by
themselves, many at once.
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from itertools import zip_longest
from typing import Any

import anyio
from anyio.abc import TaskGroup

from bunqueue_trio.client.backend import Signal
from bunqueue_trio.client.client import Client
from bunqueue_trio.client.handlers import Outcome
from bunqueue_trio.client.held import Held
from bunqueue_trio.client.log import log
from bunqueue_trio.errors import LOST_LOCK, NOT_ACTIVE, UNKNOWN_COMMAND, ConnectionLost, Refused, ServerUnavailable
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.times import to_ms

BATCH_MAX = 1000
# Of results in one message.
BATCH_BYTES = 1024 * 1024
# Of texts in one message, each up to four bytes: the server takes 2 MiB.
FAILURES_CHARACTERS = 512 * 1024
# Batches of failures, and cancelled jobs, that wait for the server at once.
UNDER_WAY_MAX = 100
# Characters that are kept of an error when it is reported again, because the whole of it was refused.
SHORT = 1000
GONE = "not ours any more"
_OVER = frozenset({NOT_ACTIVE.code, LOST_LOCK.code})
RETRY_S = 1.0
# Without an answer of the server, and a failure is said all the same.
SAY_S = 1.0
# The year 10000, which no datetime can say.
END_OF_DATES_MS = 253_402_300_800_000
NO_ANSWER = f"no answer for {SAY_S:g} s"


class Reporter:
    """Takes outcomes without waiting; ``on_relief`` is called when :attr:`stuck` has become less."""

    def __init__(self, client: Client, on_relief: Callable[[], None]) -> None:
        self._client = client
        self._on_relief = on_relief
        self._acks = _Line(BATCH_MAX, BATCH_BYTES, _result_size)
        self._fails = _Line(c.FAILURES_MAX, FAILURES_CHARACTERS, _texts_size)
        self._cancelled = _Line(1, 0, _texts_size)
        # By lock token.
        self._unreported: dict[str, Held] = {}
        # Batches that the server did not take at once.
        self._waiting = 0
        self._drained = Signal()
        self._slots = anyio.Semaphore(UNDER_WAY_MAX)

    @property
    def unreported(self) -> list[Held]:
        """The jobs that are done, and ours until the server knows it."""
        return list(self._unreported.values())

    @property
    def stuck(self) -> int:
        """How many those are while the server takes no reports; 0 while it does."""
        return len(self._unreported) if self._waiting else 0

    def report(self, outcome: Outcome) -> None:
        """Report how a job went."""
        self._unreported[outcome.held.token] = outcome.held
        line = self._acks if outcome.error is None else self._cancelled if outcome.called_off else self._fails
        line.outcomes.append(outcome)
        line.ring.ring()

    async def drained(self) -> None:
        """Wait until the server has everything."""
        while self._unreported:
            await self._drained.wait()

    async def run(self) -> None:
        """Report, for ever."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._send_all_acks)
            group.start_soon(self._send_all_fails, group)
            group.start_soon(self._send_all_cancelled, group)

    def _settle(self, outcomes: list[Outcome], *, waited: bool) -> None:
        for outcome in outcomes:
            del self._unreported[outcome.held.token]
        if not self._unreported:
            self._drained.ring()
        if self._waiting:
            self._waiting -= waited
            self._on_relief()

    # --- done -------------------------------------------------------------------------------------

    async def _send_all_acks(self) -> None:
        while True:
            await self._acks.wait()
            await self._send_acks(self._acks.take())

    async def _send_acks(self, batch: list[Outcome]) -> None:
        ids, tokens = [done.held.id for done in batch], [done.held.token for done in batch]
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
            except Refused as refused:
                # One by one: which of them is it?
                if len(batch) == 1:
                    failed = batch[0]._replace(result=None, error=f"the result was refused: {refused}")
                    await self._send_fails([failed], anyio.Event())
                else:
                    half = len(batch) // 2
                    await self._send_acks(batch[:half])
                    await self._send_acks(batch[half:])
                self._settle([], waited=waits)
                return
            else:
                self._settle(batch, waited=waits)
                lost = set(ignored)
                for done in batch if lost or log.hears("debug") else ():
                    if done.held.id in lost:
                        log.info("job was not ours any more when it was done", **facts(done))
                    else:
                        log.debug("job completed", **facts(done))
                return

    # --- failed -----------------------------------------------------------------------------------

    async def _send_all_fails(self, group: TaskGroup) -> None:
        while True:
            await self._fails.wait()
            await self._slots.acquire()
            tried = anyio.Event()
            group.start_soon(self._send_with_slot, self._fails.take(), tried)
            await tried.wait()

    async def _send_all_cancelled(self, group: TaskGroup) -> None:
        while True:
            await self._cancelled.wait()
            await self._slots.acquire()
            group.start_soon(self._send_with_slot, self._cancelled.take(), anyio.Event())

    async def _send_with_slot(self, batch: list[Outcome], tried: anyio.Event) -> None:
        try:
            await self._send_fails(batch, tried)
        finally:
            self._slots.release()

    async def _send_fails(self, batch: list[Outcome], tried: anyio.Event) -> None:
        """Report failures, and say them: after a second, if the server is not to be had, and then ``tried`` is set too."""
        left, waits = [batch], False
        try:
            while left:
                try:
                    told = await self._try(left[0], math.inf if waits else SAY_S)
                except Refused:
                    # One by one: which of them is it?
                    half = len(left[0]) // 2
                    left[:1] = left[0][:half], left[0][half:]
                    continue
                if not isinstance(told, str):
                    part = left.pop(0)
                    if not waits:
                        _say_all(part, told)
                    self._settle(part, waited=False)
                    continue
                if not waits:
                    waits = True
                    self._waiting += 1
                    _say_all(_joined(left), {"next": "when the server has heard of it", "server": told})
                tried.set()
                # Asked again, the server says whether it had arrived.
                await anyio.sleep(0 if told is NO_ANSWER else RETRY_S)
        finally:
            tried.set()
            if not waits:
                _say_all(_joined(left), {"next": "not reported: the worker ended"})
            self._settle(_joined(left), waited=waits)

    async def _try(self, batch: list[Outcome], patience: float) -> list[dict[str, str]] | str:
        """Do as :meth:`_tell`, for ``patience`` seconds; or return why the server is not to be had."""
        try:
            # The client waits for a server that is away, for ever.
            with anyio.move_on_after(patience):
                return await self._tell(batch)
        except (ServerUnavailable, ConnectionLost) as error:
            return str(error)
        return NO_ANSWER

    async def _tell(self, batch: list[Outcome]) -> list[dict[str, str]]:
        """Tell the server of failures, and return what is to be said of each.

        Raises:
            Refused: they are refused together.
        """
        client, connections = self._client, self._client.connections
        # Then to return it is its end.
        if batch[0].called_off:
            return [await self._tell_one(batch[0])]
        try:
            data = (await client.run(c.FailBatch(failures=list(map(_failure, batch))))).data
        except Refused as refused:
            if len(batch) > 1:
                raise
            return [await self._tell_one(batch[0], None if refused.code == UNKNOWN_COMMAND.code else SHORT)]
        lost = frozenset(data.ignored_ids or ())
        gone = GONE if client.connections == connections else f"{GONE}, or told before the connection was lost"
        return [
            {"next": gone if failed.held.id in lost else _next_try(failed, at)}
            for failed, at in zip_longest(batch, data.run_at[: len(batch)])
        ]

    async def _tell_one(self, failed: Outcome, most: int | None = None) -> dict[str, str]:
        """Do the same with one, by itself: it is cancelled, or refused with all of its texts, or the server is an older one."""
        job, ending = failed.held, failed.ending
        gives_up = ending is not None and ending.gives_up
        try:
            if failed.called_off:
                await self._client.release(job.id, token=job.token)
                return {"next": "none: the job is cancelled"}
            try:
                await self._client.fail(
                    job.id, (failed.error or "")[:most], token=job.token, unrecoverable=gives_up,
                    retry_in=None if ending is None else ending.after, stack=failed.trace if most is None else None,
                )  # fmt: skip
            except Refused as refused:
                if refused.code in _OVER:
                    raise
                # It is still ours. Nothing of the handler is in this, so only that can be refused which is over.
                text = f"the error was refused: {refused.code or refused.status}"
                await self._client.fail(job.id, text, token=job.token, unrecoverable=gives_up)
        except Refused as refused:
            return {"next": GONE, "server": str(refused)}
        return {"next": _next_try(failed, "later")}


class _Line:
    """Outcomes that are still to be sent, in messages of a bounded number and size."""

    def __init__(self, most: int, size: int, size_of: Callable[[Outcome], int]) -> None:
        self.outcomes: list[Outcome] = []
        self.ring = Signal()
        self._most = most
        self._size = size
        self._size_of = size_of

    async def wait(self) -> None:
        """Wait until there are some."""
        while not self.outcomes:
            await self.ring.wait()

    def take(self) -> list[Outcome]:
        """Take those of the next message, at least one."""
        count = size = 0
        for outcome in self.outcomes[: self._most]:
            size += self._size_of(outcome)
            if count and size > self._size:
                break
            count += 1
        batch, self.outcomes = self.outcomes[:count], self.outcomes[count:]
        return batch


def _say_all(batch: list[Outcome], told: list[dict[str, str]] | dict[str, str]) -> None:
    """Say failures, of each what was ``told`` of it, or of all the same."""
    # That they were cancelled somebody wanted; those come one by one.
    if batch and batch[0].called_off:
        log.info("job was cancelled", **_failed(batch[0], told if isinstance(told, dict) else told[0]))
    elif batch and log.hears("warning"):
        each = [told] * len(batch) if isinstance(told, dict) else told
        log.warn_of_many("job failed", map(_failed, batch, each))


def _joined(parts: list[list[Outcome]]) -> list[Outcome]:
    return [outcome for part in parts for outcome in part]


def _result_size(done: Outcome) -> int:
    return 0 if done.result is None else len(memoryview(done.result))


def _texts_size(failed: Outcome) -> int:
    return len(failed.error or "") + len(failed.trace or "")


def _failure(failed: Outcome) -> c.Failure:
    ending = failed.ending
    return c.Failure(
        id=failed.held.id, token=failed.held.token, error=failed.error, stack=failed.trace,
        unrecoverable=ending is not None and ending.gives_up,
        retry_in=None if ending is None else to_ms("after", ending.after),
    )  # fmt: skip


def _next_try(failed: Outcome, at: int | str | None) -> str:
    """Return when a job is tried again, or that it is dead; ``at``: in ms since 1970, or in words, as the server says."""
    job, ending = failed.held, failed.ending
    if ending is not None and ending.gives_up:
        return "dead: given up"
    if isinstance(at, int) and 0 <= at < END_OF_DATES_MS:
        return _moment(at) if ending is None or ending.after is None else f"in {ending.after:g} s"
    if job.attempt >= job.max_attempts:
        return "dead"
    return at if isinstance(at, str) else "none: the job is dead, or cancelled"


def _moment(at: int) -> str:
    return f"{_second(at // 1000)}.{at % 1000:03d}+00:00"


@lru_cache(maxsize=100)
def _second(at: int) -> str:
    """Return a second as people read it: of what fails much comes back in the same one."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").removesuffix("+00:00")


def facts(outcome: Outcome) -> dict[str, Any]:
    """Return what each line of an outcome says: job, queue, which attempt of how many, and how long it took."""
    job = outcome.held
    return {
        "job": printable(job.id), "queue": job.queue, "attempt": f"{job.attempt} of {job.max_attempts}",
        "duration_s": round(outcome.duration, 3),
    }  # fmt: skip


def _failed(failed: Outcome, fields: dict[str, str]) -> dict[str, Any]:
    told = facts(failed)
    told.update(fields)
    if failed.trace is None:
        told["error"] = failed.error
    else:
        told["exception"] = failed.trace
    return told
