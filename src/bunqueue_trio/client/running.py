"""Workers side by side, until one of them is refused, or a signal stops them all."""

import signal
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import anyio

from bunqueue_trio.client.log import log, show_plainly
from bunqueue_trio.errors import Refused

IGNORABLE = (signal.SIGINT, signal.SIGHUP)
"""What stops a worker as SIGTERM does, but where it is ignored, as a server does: by `&` in a shell, and by nohup."""


class Runs(Protocol):
    """What of a worker its running needs."""

    queue: str
    concurrency: int
    is_program: bool

    @property
    def url(self) -> str:
        """Where its server is."""
        ...

    @property
    def running(self) -> int:
        """How many jobs it has."""
        ...

    async def run(self) -> None:
        """Work until stopped."""
        ...

    def stop(self) -> None:
        """Take no more jobs."""
        ...


async def run_all(workers: Sequence[Runs]) -> None:
    """Run workers side by side; when one is refused, the others are stopped and the refusal raised."""
    refusals: list[Refused] = []

    async def work(worker: Runs) -> None:
        try:
            await worker.run()
        except Refused as refused:
            refusals.append(refused)
            for other in workers:
                other.stop()

    async with anyio.create_task_group() as group:
        for worker in workers:
            group.start_soon(work, worker)
    # Out here, so that it is not in a group.
    if refusals:
        raise refusals[0]


async def run_until_signal(workers: Sequence[Runs]) -> None:
    """Run workers until SIGTERM, SIGINT or SIGHUP, which stop them; a second one ends the grace."""
    show_plainly()
    trouble: Refused | None = None
    wanted = [number for number in IGNORABLE if signal.getsignal(number) is not signal.SIG_IGN]
    with anyio.open_signal_receiver(signal.SIGTERM, *wanted) as signals:
        async with anyio.create_task_group() as group:
            group.start_soon(_stop_on_signal, workers, signals, group.cancel_scope)
            for worker in workers:
                worker.is_program = True
                log.info("worker started", queue=worker.queue, url=worker.url, concurrency=worker.concurrency)
            try:
                await run_all(workers)
            except Refused as refused:
                trouble = refused
            group.cancel_scope.cancel()
    # Out here, so that it is not in a group.
    if trouble is not None:
        raise trouble
    for worker in workers:
        log.info("worker stopped", queue=worker.queue)


async def _stop_on_signal(workers: Sequence[Runs], signals: AsyncIterator[int], scope: anyio.CancelScope) -> None:
    number = await anext(signals)
    for worker in workers:
        log.info("worker stops", queue=worker.queue, signal=signal.Signals(number).name, running=worker.running)
        worker.stop()
    await anext(signals)
    scope.cancel()
