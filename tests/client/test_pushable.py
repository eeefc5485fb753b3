"""``send.push(…)``: a handler is pushed to, by whichever client is at hand, and is the function that it was."""

import asyncio
import inspect
import pickle
import sys
from functools import partial
from typing import Annotated, Any, Optional
from unittest.mock import AsyncMock

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest
import trio

from bunqueue_trio.client import App, Client, Job, JobFailed, Worker
from bunqueue_trio.client.handlers import payload_decoder
from bunqueue_trio.client.pushable import _client_of, at_work
from bunqueue_trio.testing import Bunqueue
from tests.client.loops import on_both
from tests.client.test_real_server import ws
from tests.wire.server import Server

NOWHERE = r"greet\.push has no connection here: it works in `async with` the {} of greet, and in a handler that runs"


def greeting(home: App | Worker, queue: str = "greetings", **options: Any) -> Any:
    async def greet(job: Job[str], greeting: str = "hello") -> str:
        """Greet somebody."""
        return f"{greeting} {job.data}"

    return home.handler(queue, **options)(greet) if isinstance(home, App) else home.handler(greet, **options)


@on_both
async def test_a_block_of_an_app_pushes_to_its_handlers_and_gives_its_client(server: Server, queue: str):
    app = App(ws(server))
    greet, named = greeting(app, queue), greeting(app, queue, name="named")
    async with app as client, anyio.create_task_group() as tasks:
        tasks.start_soon(app.run)
        assert await client.wait(await greet.push("ann"), 60) == "hello ann"
        job_id = await named.push("ann", delay="1h", job_id=f"{queue}-one")
        assert ((job := await client.get(job_id)).id, job.name) == (f"{queue}-one", "named")
        app.stop()
    with pytest.raises(RuntimeError, match=NOWHERE.format("App")):
        greet.push("ann")


@on_both
async def test_a_block_of_a_worker_does_the_same(server: Server, queue: str):
    worker = Worker(queue, ws(server))
    greet = greeting(worker)
    with pytest.raises(RuntimeError, match=NOWHERE.format("Worker")):
        greet.push("ann")
    async with worker as client:
        assert (await client.get(await greet.push("ann"))).queue == queue
        with pytest.raises(RuntimeError, match="a block of this Worker is open already: any task may push in it"):
            await worker.__aenter__()
        assert await greet.push("bob")


@on_both
async def test_a_handler_pushes_by_the_client_of_its_job(server: Server, queue: str):
    """Also a sync one, and in what it has started; where no block is open."""
    app = App(ws(server))
    greet = greeting(app, f"{queue}-greetings")

    @app.handler(f"{queue}-all")
    async def greet_all(job: Job[list[str]]) -> list[str]:
        answers = []

        async def ask(name: str) -> None:
            answers.append(await job.client.wait(await greet.push(name), 60))

        async with anyio.create_task_group() as tasks:
            for name in job.data:
                tasks.start_soon(ask, name)
        return sorted(answers)

    @app.handler(f"{queue}-blocking")
    def greet_blocking(job: Job[str]) -> str:
        with pytest.raises(RuntimeError, match=r"a sync handler cannot await: anyio.from_thread.run\(greet.push, …\)"):
            greet.push(job.data)
        push = partial(greet.push, delay="1h")
        return anyio.from_thread.run(push, job.data)

    async with Client(ws(server)) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(app.run)
        assert await client.wait(await client.push_to(greet_all, ["ann", "bob"]), 60) == ["hello ann", "hello bob"]
        pushed = await client.wait(await client.push_to(greet_blocking, "ann"), 60)
        assert (await client.get(pushed)).queue == f"{queue}-greetings"
        app.stop()


async def test_another_app_that_is_open_is_pushed_to_itself(bunqueue: Bunqueue):
    """One that is not open is pushed to by the job's client: in the kit all are of one server."""
    one, other = App(), App("ws://elsewhere:1")

    @one.handler("visits")
    async def visit(job: Job[str]) -> None:
        assert _client_of(one) is _client_of(other) is job.client
        async with other as client, one:
            assert _client_of(other) is client is not job.client
            assert _client_of(one) is job.client
        assert _client_of(other) is job.client

    bunqueue.start(one)
    await bunqueue.client.wait(await visit.push("x", max_attempts=1), 10)


def of_server(url: str | None, kind: type[App | Worker]) -> Any:
    return App(url) if kind is App else Worker("q", url)


@pytest.mark.parametrize("kind", [App, Worker])
async def test_in_a_handler_of_another_server_it_is_pushed_to_its_own_or_not_at_all(kind: type[App | Worker]):
    """A job in a queue of the wrong server is one that nobody works on."""
    here, elsewhere = of_server("ws://here:1", kind), of_server("ws://elsewhere:1", App)
    of_job, of_other = Client("ws://here:1"), Client("ws://elsewhere:1")
    greet = greeting(elsewhere)
    with at_work(here, of_job):
        with pytest.raises(
            RuntimeError,
            match=r"greet\.push has no connection here: the handler that runs is of another server\. It works in `async with` the App of greet, and while",
        ):
            greet.push("ann")
        with elsewhere.serving(of_other):
            assert _client_of(elsewhere) is of_other
            with elsewhere.serving(of_job):
                pass
            assert _client_of(elsewhere) is of_other
            assert await anyio.to_thread.run_sync(anyio.from_thread.run_sync, lambda: _client_of(elsewhere)) is of_other
        assert _client_of(elsewhere) is None
        assert elsewhere._serving == {}
        async with elsewhere as client:
            assert _client_of(elsewhere) is client


@pytest.mark.parametrize("kind", [App, Worker])
def test_one_server_is_one_however_its_address_is_written(kind: type[App | Worker], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BUNQUEUE_URL", "here:1")
    here, of_job = of_server("ws://here:1/ws", kind), Client("ws://here:1")
    with at_work(here, of_job):
        for url in (None, "http://here:1"):
            assert _client_of(App(url)) is _client_of(Worker("q", url)) is of_job
        assert _client_of(App("wss://here:1")) is _client_of(App("here:2")) is None
        assert _client_of(App("ws://here:1/ws", connect=lambda _: None)) is None  # type: ignore[arg-type,return-value]


def test_who_is_not_run_comes_along_when_a_program_gives_its_workers_another_server():
    """As `worker --url` does: what was of one server stays so. Who was of another one, or was given one of its own, does not."""
    one, two, other, given = Worker("one"), Worker("two"), Worker("other", "ws://other:1"), Worker("given")
    one.url, given.url = "ws://given:1", "ws://third:1"
    with at_work(one, of_job := Client("ws://given:1")):
        assert _client_of(two) is _client_of(App()) is of_job
        assert _client_of(other) is _client_of(given) is None


@on_both
async def test_an_app_that_runs_beside_is_pushed_to_by_its_own_client(server: Server, queue: str):
    """The address is another one, as far as anybody knows."""
    one, two = App(ws(server)), App(ws(server).replace("127.0.0.1", "localhost"))
    greet = greeting(two, f"{queue}-greetings")

    @one.handler(queue)
    async def forward(job: Job[str]) -> str:
        pushed = await greet.push(job.data)
        assert _client_of(two) is not job.client
        return await job.client.wait(pushed, 60)

    async with one as client, anyio.create_task_group() as tasks:
        tasks.start_soon(one.run)
        alone = await forward.push("ann", max_attempts=1)
        with pytest.raises(JobFailed, match=r"greet\.push has no connection here: the handler that runs is of another"):
            await client.wait(alone, 60)
        tasks.start_soon(two.run)
        for _ in range(1000):
            if two.serving_client is None:
                await anyio.sleep(0.01)
        assert await client.wait(await forward.push("ann"), 60) == "hello ann"
        one.stop()
        two.stop()


@on_both
async def test_in_the_kit_it_is_pushed_to_the_kit():
    greet = greeting(App("ws://queue.example.org:6790"))
    async with Bunqueue() as bunqueue:
        assert (await bunqueue.client.get(await greet.push("ann"))).queue == "greetings"
    with pytest.raises(RuntimeError, match=NOWHERE.format("App")):
        greet.push("ann")


def test_without_a_loop_it_says_what_does_it():
    greet = greeting(App())
    with pytest.raises(RuntimeError, match=r"without a loop it is SyncClient\.push_to"):
        greet.push("ann")
    with Bunqueue(), pytest.raises(RuntimeError, match=r"no loop runs here: use SyncClient"):
        greet.push("ann")


def test_a_block_is_of_one_loop(bunqueue: Bunqueue):
    """Whoever asks on another loop has none there; and after a block there may be another one, on any loop."""
    app = App(connect=None)
    greet = greeting(app)

    async def push() -> str:
        async with app as client:
            assert app.open_client is client
            assert await anyio.to_thread.run_sync(lambda: app.open_client) is None
            return await greet.push("ann")

    assert asyncio.run(push()) != trio.run(push)
    assert app._open == {}


@on_both
async def test_a_block_that_could_not_be_entered_is_not_open():
    class Broken(App):
        def new_client(self) -> Any:
            client = Client("ws://localhost:1")

            async def fail() -> None:
                raise OSError("no sockets")

            client.__class__ = type("Broken", (Client,), {"__aenter__": lambda _: fail()})
            return client

    app = Broken()
    for _ in range(2):
        with pytest.raises(OSError, match="no sockets"):
            await app.__aenter__()
    assert app.open_client is None


@pytest.mark.parametrize("home", [App(), Worker("q")])
def test_a_handler_looks_and_works_as_the_function_that_it_was(home: Any):
    async def double(job: Job[int], times: int = 2) -> int:
        """Say it twice."""
        return int(job.data) * times

    handler = home.handler("q")(double) if isinstance(home, App) else home.handler(double)
    assert handler is double
    assert (handler.__name__, handler.__doc__) == ("double", "Say it twice.")
    assert list(inspect.signature(handler).parameters) == ["job", "times"]
    assert inspect.iscoroutinefunction(handler)
    assert "Add a job for this handler" in inspect.getdoc(handler.push)
    job: Any = type("FakeJob", (), {"data": 4})()
    assert anyio.run(handler, job) == 8
    assert anyio.run(partial(handler, job, times=3)) == 12


@App().handler("q")
def of_a_module(job: Job) -> str:
    return job.id


def test_a_handler_of_a_module_can_be_sent_to_another_process():
    assert pickle.loads(pickle.dumps(of_a_module)) is of_a_module


Letters = Job[list[str]]


async def remarked(job: Annotated[Job[list[str]], "one letter each"]) -> None: ...
async def perhaps(job: Job[list[str]] | None) -> None: ...
async def as_before(job: Optional[Job[list[str]]]) -> None: ...  # noqa: UP045 - as many write it
async def by_a_name(job: Letters) -> None: ...
async def as_a_text(job: "Annotated[Letters | None, 'letters']") -> None: ...
async def of_no_kind(job: "Job[Any]") -> None: ...
async def of_two(job: Job[int] | Job[str]) -> None: ...


@pytest.mark.parametrize("function", [remarked, perhaps, as_before, by_a_name, as_a_text])
def test_what_a_handler_takes_is_known_however_it_is_written(function: Any):
    """What was not seen was not read: its payload came as it is in JSON, and not as what was asked for."""
    decoder = payload_decoder(function)
    assert decoder is not None
    assert decoder.type == list[str]


@pytest.mark.parametrize("function", [of_no_kind, of_two])
def test_what_says_no_kind_gets_the_payload_as_it_is(function: Any):
    assert payload_decoder(function) is None


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the statement `type` came with Python 3.12")
def test_what_a_handler_takes_is_known_by_a_name_of_a_statement():
    space: dict[str, Any] = {"Job": Job}
    exec("type Letters = Job[list[str]]\nasync def handle(job: Letters) -> None: ...", space)
    decoder = payload_decoder(space["handle"])
    assert decoder is not None
    assert decoder.type == list[str]


class Mailer:
    """What is called by an object, or a method of one, with a push of its own."""

    def push(self) -> str:
        return "its own"

    def __call__(self, job: Job[str]) -> str:
        """Send it."""
        return f"called {job.data}"

    def send(self, job: Job[str]) -> str:
        return f"sent {job.data}"


def stands_for(answer: str) -> Any:
    """A mock has whatever it is asked for, notes of handlers too."""
    return AsyncMock(return_value=answer, __doc__="Stands.")


@pytest.mark.parametrize(
    ("handler", "answer"),
    [(Mailer(), "called ann"), (Mailer().send, "sent ann"), (repr, None), (stands_for("mocked"), "mocked")],
)
async def test_what_is_no_function_gets_a_push_beside_it(bunqueue: Bunqueue, handler: Any, answer: str | None):
    """It stays as it is: others may use it, and it may have a push of its own."""
    worker = bunqueue.worker("mail")
    pushed: Any = worker.handler(handler)
    bunqueue.start(worker)
    result = await bunqueue.client.wait(await pushed.push("ann"), 10)
    assert result == (answer or f"<Job {result[5:41]} of mail>")
    assert pushed.__doc__ == handler.__doc__
    if isinstance(handler, Mailer):
        assert handler.push() == "its own"


async def test_who_is_the_handler_of_two_queues_says_which(bunqueue: Bunqueue):
    app = App()
    greet = app.handler("two")(greeting(app, "one"))
    with pytest.raises(ValueError, match=r"push by queue and name: .*greet.* is the handler of one and two"):
        greet.push("ann")


async def test_a_schedule_is_pushed_by_hand_too(bunqueue: Bunqueue):
    app = App()

    @app.task("reports", job_name="nightly", cron="0 3 * * *")
    async def report(job: Job) -> str:
        raise ValueError("not today")

    bunqueue.start(app)
    job_id = await report.push(None, max_attempts=1)
    with pytest.raises(JobFailed, match="not today"):
        await bunqueue.client.wait(job_id, 10)
    assert (await bunqueue.client.get(job_id)).name == "nightly"


@on_both
async def test_a_block_is_open_in_all_tasks_of_its_loop(server: Server, queue: str):
    """As those of a web framework, which are no children of whoever opens it; after its end they hear that there is none."""
    app, pushed, over = App(ws(server)), anyio.Event(), anyio.Event()
    greet = greeting(app, queue)

    async def request() -> None:
        # It opens in another task.
        for _ in range(1000):
            if app.open_client is None:
                await anyio.sleep(0.01)
        assert await greet.push("ann")
        pushed.set()
        await over.wait()
        with pytest.raises(RuntimeError, match=NOWHERE.format("App")):
            greet.push("bob")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(request)
        async with app:
            await pushed.wait()
        over.set()


async def test_who_has_run_a_worker_is_no_handler(bunqueue: Bunqueue):
    """Its client is closed by then."""
    worker = bunqueue.worker("greetings")
    greet = greeting(worker)
    with trio.move_on_after(1):
        await worker.run()
    assert await greet.push("ann")
