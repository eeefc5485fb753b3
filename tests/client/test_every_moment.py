"""The connection is cut at every single moment of a fixed story, one after the other: nothing is random here.

A moment is a point at which a task of a client waits for its connection, before or after a message went
either way: there a cut can make a difference. A moment is counted in all connections together, so that a
cut comes at the n-th, for each n until the story ends without it.
"""

from collections import Counter
from collections.abc import Callable

import pytest
import trio

from bunqueue_trio.client import Job
from bunqueue_trio.testing import Bunqueue
from bunqueue_trio.testing.lives import Pipe
from bunqueue_trio.testing.virtual import run

OPTIONS = {"max_attempts": 1000, "backoff": 0.5}


class Cutter:
    """Cuts a connection when its client comes to the ``at``-th moment, and ``every`` moments from there on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, cuts: int) -> None:
        self.at = at
        self.cuts = cuts
        self.passed = 0
        send, receive = Pipe.send, Pipe.receive

        async def cut_send(pipe: Pipe, message: bytes) -> None:
            self._moment(pipe)
            await send(pipe, message)
            self._moment(pipe)

        async def cut_receive(pipe: Pipe) -> bytes:
            self._moment(pipe)
            message = await receive(pipe)
            self._moment(pipe)  # it has come, and nobody has read it: the next one is an end
            return message

        monkeypatch.setattr(Pipe, "send", cut_send)
        monkeypatch.setattr(Pipe, "receive", cut_receive)

    def _moment(self, pipe: Pipe) -> None:
        self.passed += 1
        if self.cuts and self.passed >= self.at:
            self.cuts -= 1
            self.at += 3
            pipe.cut()


async def story(listen: Callable[[Bunqueue], Counter[str]], seed: int) -> None:
    """Pushes of both kinds, a job that fails once, one that is cancelled, a wait, a worker; then a sound end."""
    async with Bunqueue(seed=seed) as bunqueue:
        completed = listen(bunqueue)
        worker = bunqueue.worker("q", concurrency=3)
        failed: set[str] = set()

        @worker.handler
        async def handle(job: Job) -> str:
            await trio.sleep(1)
            if job.data == "bad" and job.id not in failed:
                failed.add(job.id)
                raise ValueError("once")
            await job.progress(50)
            return job.id

        client = bunqueue.client
        bunqueue.start(worker)
        ids = [await client.push("q", "good", **OPTIONS)]
        ids += await client.push_many("q", [{"data": data, **OPTIONS} for data in ("good", "bad", "good", "good")])
        for job_id in ids:
            assert await client.wait(job_id, 100) == job_id
        last = await client.push_many("q", [{"data": "last", **OPTIONS}] * 3)
        await trio.sleep(5)
        with trio.fail_after(40):  # a worker that has gone silent, or lost a slot, is not through by then
            for job_id in last:
                assert await client.wait(job_id) == job_id
        assert completed == Counter([*ids, *last]), "each is completed once"
        assert not bunqueue.jobs
        assert worker.running == 0


def listen(bunqueue: Bunqueue) -> Counter[str]:
    completed: Counter[str] = Counter()
    bunqueue.server.journal.on_commit.append(
        lambda batch, _: completed.update(e.job_id for e in batch.heard if e.event_type == "completed")
    )
    return completed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "cuts", "every"),
    [
        (0, 1, 3),
        (1, 3, 3),
        *(pytest.param(n, c, 1, marks=pytest.mark.long) for n in range(4) for c in (1, 2, 3, 5)),
    ],
)
def test_cut_at_every_moment(monkeypatch: pytest.MonkeyPatch, seed: int, cuts: int, every: int):
    moments = 0
    while True:
        with monkeypatch.context() as patch:
            cutter = Cutter(patch, moments + 1, cuts)
            try:
                run(lambda: story(listen, seed), seed=seed)
            except BaseException as error:
                error.add_note(f"cut at moment {moments + 1}, {cuts} times, seed {seed}")
                raise
        if cutter.cuts == cuts:
            break
        moments += every
    assert moments > 50
