"""A command whose answer is lost: what is repeated, what is looked up, and what is left to the caller."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from bunqueue_trio.client import Client, ConnectionLost, Job
from bunqueue_trio.client.connection import Connection
from bunqueue_trio.client.link import ServerLink
from bunqueue_trio.client.pushing import SURE_S, push_once
from bunqueue_trio.testing import Bunqueue
from bunqueue_trio.testing.lives import Pipe


class Loss:
    """Cuts the connection at the next ``command``, before or after it has reached the server."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._armed: tuple[str, bool] | None = None
        send = Pipe.send

        async def lossy(pipe: Pipe, message: bytes) -> None:
            command, arrives = self._armed or ("", False)
            if json.loads(message)["cmd"] != command:
                await send(pipe, message)
                return
            self._armed = None
            if arrives:
                await send(pipe, message)
            pipe.cut()

        monkeypatch.setattr(Pipe, "send", lossy)

    def arm(self, command: str, arrives: bool) -> None:
        self._armed = (command, arrives)


@pytest.fixture
def loss(monkeypatch: pytest.MonkeyPatch) -> Loss:
    return Loss(monkeypatch)


both = pytest.mark.parametrize("arrives", [False, True])


@both
@pytest.mark.parametrize("options", [{}, {"job_id": "mine"}, {"unique_key": "k"}, {"remove_on_complete": True}])
async def test_push_adds_one_job(bunqueue: Bunqueue, loss: Loss, arrives: bool, options: dict[str, object]):
    loss.arm("PUSH", arrives)
    if options.get("remove_on_complete") and not arrives:
        with pytest.raises(ConnectionLost):  # it may have come and gone
            await bunqueue.client.push("q", **options)
        assert not bunqueue.jobs
    else:
        assert [await bunqueue.client.push("q", **options)] == list(bunqueue.jobs)


@both
async def test_push_many_adds_all_once(bunqueue: Bunqueue, loss: Loss, arrives: bool):
    loss.arm("PUSHB", arrives)
    assert await bunqueue.client.push_many("q", [{"data": n} for n in range(5)]) == list(bunqueue.jobs)
    assert len(bunqueue.jobs) == 5


@pytest.mark.parametrize("away_s", [5, 25])
async def test_push_is_repeated_only_after_a_short_cut(bunqueue: Bunqueue, loss: Loss, away_s: float):
    """After a long one its job may have been done, and forgotten: here it is out of sight at once."""
    closed = False

    @asynccontextmanager
    async def connect(queue: str | None) -> AsyncIterator[Connection]:
        if closed:
            raise ConnectionRefusedError("no way")
        async with bunqueue._place.connect(queue) as pipe:
            yield pipe

    async def open_again() -> None:
        nonlocal closed
        await trio.sleep(away_s)
        closed = False

    async with Client(connect=connect, random=bunqueue.random) as client, trio.open_nursery() as nursery:
        await client.ping()
        closed = True
        nursery.start_soon(open_again)
        loss.arm("PUSH", arrives=False)
        if away_s < SURE_S:
            assert [await client.push("q")] == list(bunqueue.jobs)
        else:
            with pytest.raises(ConnectionLost):
                await client.push("q")
            assert not bunqueue.jobs


@pytest.mark.parametrize("options", [{}, {"job_id": "mine"}, {"remove_on_complete": True}])
async def test_push_that_is_done_already_is_not_done_again(bunqueue: Bunqueue, loss: Loss, options: dict[str, object]):
    runs = []
    worker = bunqueue.worker("q")
    worker.handler(runs.append)
    bunqueue.start(worker)
    await trio.sleep(1)
    loss.arm("PUSH", arrives=True)
    if options:
        with pytest.raises(ConnectionLost):
            await bunqueue.client.push("q", **options)
    else:
        job_id = await bunqueue.client.push("q")
        assert await bunqueue.client.state(job_id) == "completed"
    await trio.sleep(10)
    assert len(runs) == 1


@both
@pytest.mark.parametrize("away_s", [0, 5, 25])
@pytest.mark.parametrize("options", [{}, {"remove_on_complete": True}])
async def test_a_push_of_an_id_that_ended_before_is_distinguished_from_that(
    bunqueue: Bunqueue, loss: Loss, arrives: bool, away_s: float, options: dict[str, object]
):
    """By when the job of the id has ended: the push has brought it, or it is of an earlier push."""
    runs = []
    worker = bunqueue.worker("q")

    @worker.handler
    async def handle(job: Job) -> None:
        runs.append(job.data)
        await trio.sleep(2)

    bunqueue.start(worker)
    await bunqueue.client.push("q", 1, job_id="mine")
    await trio.sleep(10)
    closed_until = 0.0

    @asynccontextmanager
    async def connect(queue: str | None) -> AsyncIterator[Connection]:
        if trio.current_time() < closed_until:
            raise ConnectionRefusedError("no way")
        async with bunqueue._place.connect(queue) as pipe:
            yield pipe

    async with Client(connect=connect, random=bunqueue.random) as client:
        await client.ping()
        closed_until = trio.current_time() + away_s
        loss.arm("PUSH", arrives)
        if arrives and options and away_s:  # it has left nothing to tell by
            with pytest.raises(ConnectionLost):
                await client.push("q", 2, job_id="mine", **options)
        else:
            assert await client.push("q", 2, job_id="mine", **options) == "mine"
        await trio.sleep(30)
    assert runs == [1, 2]


@pytest.mark.parametrize("times", [None, (5.0, 10.0)])
async def test_an_end_within_the_moment_of_a_push_tells_nothing(
    autojump_clock: object, times: tuple[float, float] | None
):
    """As by a server of before, that does not tell its time, or a job that is gone by now."""
    sent = []

    async def send(_: float) -> list[str]:
        sent.append(1)
        await trio.sleep(5)
        raise ConnectionLost("cut")

    async def state(job_id: str) -> str:
        return "completed"

    async def ended(job_id: str) -> tuple[float, float] | None:
        return times

    with pytest.raises(ConnectionLost):
        await push_once(send, state, ended, [{"job_id": "mine"}], [{"jobId": "mine"}])
    assert sent == [1]


@pytest.mark.parametrize(
    ("ended_at", "late", "pushes"),
    [(101.0, "question", 1), (101.0, "answer", 1), (99.5, "question", 2), (99.5, "answer", 2)],
)
async def test_the_time_of_an_end_is_asked_again_where_the_answer_came_too_late(
    autojump_clock: object, ended_at: float, late: str, pushes: int
):
    """As when what looks for a push is cut off, too. The push began at 100 by the server's clock."""
    sent, asked = [], []

    async def send(_: float) -> list[str]:
        sent.append(1)
        if len(sent) == 2:
            return ["mine"]
        await trio.sleep(5)
        raise ConnectionLost("cut")

    async def state(job_id: str) -> str:
        return "completed"

    async def ended(job_id: str) -> tuple[float, float]:
        asked.append(1)
        first_at = 100 + trio.current_time() - began
        if len(asked) == 1:
            await trio.sleep(4)
        return ended_at, first_at if late == "answer" else 100 + trio.current_time() - began

    began = trio.current_time()
    assert await push_once(send, state, ended, [{"job_id": "mine"}], [{"jobId": "mine"}]) == ["mine"]
    assert len(sent) == pushes


@both
async def test_pull_is_repeated(bunqueue: Bunqueue, loss: Loss, arrives: bool):
    job_id = await bunqueue.client.push("q")
    loss.arm("PULL", arrives)
    job = await bunqueue.client.pull("q", timeout=1)
    assert job is not None
    assert (job.id, job.attempts, bunqueue.jobs[job_id].stalls) == (job_id, 0, 0)
    await job.ack()


class Foreign:
    """A connection to something that answers as no server of ours does, when it is asked and may."""

    keepalive_s = None
    message_max = 1000

    def __init__(self, answer: bytes, on_answer: Callable[[], None]) -> None:
        self._answers = [answer]
        self._on_answer = on_answer
        self._asked = trio.Event()
        self.may = trio.Event()

    async def send(self, message: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._asked.set()

    async def receive(self) -> bytes:
        await self._asked.wait()
        await self.may.wait()
        if not self._answers:
            await trio.sleep_forever()
        self._on_answer()
        return self._answers.pop()


@pytest.mark.parametrize("answer", [b'{"ok":true,"reqId":1,"jobs":7}', b'{"ok":true,"reqId":1,"jobs":[{"id":"a"}]}'])
@pytest.mark.parametrize("when", ["in that moment", "later"])
async def test_pull_that_is_left_ends_as_it_was_left_whatever_is_answered(
    autojump_clock: trio.testing.MockClock, answer: bytes, when: str
):
    """Jobs that nobody can name go back with the connection."""
    scope = trio.CancelScope(deadline=trio.current_time() + 1)
    connection = Foreign(answer, scope.cancel)
    link = ServerLink(connection, lambda event: None)
    if when == "in that moment":
        connection.may.set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        with scope:
            await link.ask("PULLB", {"queue": "q", "timeout": 9000}, returns=True)
        assert scope.cancelled_caught
        connection.may.set()
        await trio.sleep(1)
        assert link.over
        nursery.cancel_scope.cancel()


@both
async def test_ack_with_token_says_what_is_known(bunqueue: Bunqueue, loss: Loss, arrives: bool):
    job_id = await bunqueue.client.push("q")
    job = await bunqueue.client.pull("q")
    assert job is not None
    loss.arm("ACK", arrives)
    if arrives:
        await job.ack("done")
        assert await bunqueue.client.result(job_id) == "done"
    else:
        with pytest.raises(ConnectionLost):
            await job.ack("done")
        assert await bunqueue.client.state(job_id) == "waiting"


@both
async def test_ack_without_token_is_never_repeated(bunqueue: Bunqueue, loss: Loss, arrives: bool):
    job_id = await bunqueue.client.push("q")
    await bunqueue.client.pull("q")
    loss.arm("ACK", arrives)
    with pytest.raises(ConnectionLost):
        await bunqueue.client.ack(job_id)
    assert await bunqueue.client.state(job_id) == ("completed" if arrives else "waiting")


@both
async def test_acks_are_repeated(bunqueue: Bunqueue, loss: Loss, arrives: bool):
    """Either way the jobs are named: completed by the lost message, or given back with the connection."""
    ids = await bunqueue.client.push_many("q", [{}, {}])
    jobs = await bunqueue.client.pull_many("q", 2)
    loss.arm("ACKB", arrives)
    assert await bunqueue.client.ack_many(ids, tokens=[job.token for job in jobs]) == ids
    assert await bunqueue.client.state(ids[0]) == ("completed" if arrives else "waiting")


@both
async def test_fail_charges_one_attempt(bunqueue: Bunqueue, loss: Loss, arrives: bool):
    job_id = await bunqueue.client.push("q")
    job = await bunqueue.client.pull("q")
    assert job is not None
    loss.arm("FAIL", arrives)
    with pytest.raises(ConnectionLost):
        await job.fail("no")
    assert bunqueue.jobs[job_id].attempts == int(arrives)


@both
async def test_failures_are_repeated(bunqueue: Bunqueue, loss: Loss, arrives: bool):
    ids = await bunqueue.client.push_many("q", [{}, {}])
    jobs = await bunqueue.client.pull_many("q", 2)
    loss.arm("FAILB", arrives)
    assert await bunqueue.client.fail_many([{"id": job.id, "token": job.token} for job in jobs]) == ids
    assert {bunqueue.jobs[job_id].attempts for job_id in ids} == {int(arrives)}


@both
async def test_failures_without_tokens_are_not_repeated(bunqueue: Bunqueue, loss: Loss, arrives: bool):
    job_id = await bunqueue.client.push("q")
    await bunqueue.client.pull("q")
    loss.arm("FAILB", arrives)
    with pytest.raises(ConnectionLost):
        await bunqueue.client.fail_many([{"id": job_id, "error": "no", "retry_in": None}])
    assert bunqueue.jobs[job_id].attempts == int(arrives)


@both
async def test_cancel(bunqueue: Bunqueue, loss: Loss, arrives: bool):
    job_id = await bunqueue.client.push("q")
    loss.arm("Cancel", arrives)
    if arrives:
        with pytest.raises(ConnectionLost):
            await bunqueue.client.cancel(job_id)
    else:
        await bunqueue.client.cancel(job_id)
    assert not bunqueue.jobs


@both
async def test_job_of_a_cut_worker_is_reported_or_given_back(bunqueue: Bunqueue, loss: Loss, arrives: bool):
    runs = []
    worker = bunqueue.worker("q")
    worker.handler(runs.append)
    bunqueue.start(worker)
    loss.arm("ACKB", arrives)
    job_id = await bunqueue.client.push("q")
    await bunqueue.client.wait(job_id, 10)
    assert len(runs) == (1 if arrives else 2)


@both
async def test_failure_of_a_cut_worker_is_reported_or_given_back(bunqueue: Bunqueue, loss: Loss, arrives: bool):
    runs = []
    worker = bunqueue.worker("q")

    @worker.handler
    def handle(job):
        runs.append(job.attempts)
        if len(runs) == 1:
            raise ValueError("once")

    bunqueue.start(worker)
    loss.arm("FAILB", arrives)
    await bunqueue.client.wait(await bunqueue.client.push("q"), 10)
    assert runs == [0, int(arrives)]
