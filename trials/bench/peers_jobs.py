"""The no-op job, and how each library enqueues and serves it. Imported by its producer and by its own worker program.

It runs in the environment of the libraries as well as in ours, so it imports only what is in both. Which library it is
for, where its store is, and the file for the marks are in the environment: worker programs take no arguments of ours.
"""

import asyncio
import importlib
import os
import signal
import struct
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from trials.lib.raw_http import payload

QUEUE = "bench"
MARK = struct.Struct("=q")

PEER, STORE = os.environ["BENCH_PEER"], os.environ["BENCH_STORE"]
_marks = os.open(os.environ["BENCH_MARKS"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
_data = payload().decode()


def work(data: object) -> None:
    """Do nothing but say when: one write, the same for all, which is right across threads and forks."""
    os.write(_marks, MARK.pack(time.monotonic_ns()))


class Library(NamedTuple):
    """What a library was asked for."""

    app: Any
    """What its worker program looks for in this module."""
    one: Callable[[], object]
    """Enqueue a job."""
    many: Callable[[int], object] | None = None
    """Enqueue several in one call, where the library has that."""
    serve: Callable[[], object] | None = None
    """Run jobs for ever, where there is no program for it."""


def _rq() -> Library:
    rq, redis = importlib.import_module("rq"), importlib.import_module("redis")
    queue = rq.Queue(QUEUE, connection=redis.Redis.from_url(STORE))

    def many(jobs: int) -> None:
        queue.enqueue_many([queue.prepare_data(work, (_data,)) for _ in range(jobs)])

    return Library(None, lambda: queue.enqueue(work, _data), many)


def _celery() -> Library:
    app = importlib.import_module("celery").Celery("bench", broker=STORE)
    task = app.task(work, name="work", ignore_result=True)
    return Library(app, lambda: task.delay(_data))


def _dramatiq() -> Library:
    dramatiq = importlib.import_module("dramatiq")
    broker = importlib.import_module("dramatiq.brokers.redis").RedisBroker(url=STORE)
    dramatiq.set_broker(broker)
    actor = dramatiq.actor(work)
    return Library(broker, lambda: actor.send(_data))


def _huey() -> Library:
    app = importlib.import_module("huey").SqliteHuey(QUEUE, filename=STORE)
    task = app.task()(work)
    return Library(app, lambda: task(_data))


def _beanstalkd() -> Library:
    at = urlsplit(STORE)
    client = importlib.import_module("greenstalk").Client((at.hostname, at.port), use=QUEUE, watch=QUEUE)

    def serve() -> None:
        while True:
            job = client.reserve()
            work(job.body)
            client.delete(job)

    return Library(None, lambda: client.put(_data), serve=serve)


def _rabbitmq() -> Library:
    pika, at = importlib.import_module("pika"), urlsplit(STORE)
    channel = pika.BlockingConnection(pika.ConnectionParameters(at.hostname, at.port)).channel()
    channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
    channel.confirm_delivery()
    persistent = pika.BasicProperties(delivery_mode=2)

    def handle(channel: Any, method: Any, _properties: object, body: object) -> None:
        work(body)
        channel.basic_ack(method.delivery_tag)

    def serve() -> None:
        channel.basic_qos(prefetch_count=50)
        channel.basic_consume(QUEUE, handle)
        channel.start_consuming()

    return Library(None, lambda: channel.basic_publish("", QUEUE, _data, persistent), serve=serve)


def _nats() -> Library:
    loop = asyncio.new_event_loop()
    stream = loop.run_until_complete(importlib.import_module("nats").connect(STORE)).jetstream()
    made = stream.add_stream(name="BENCH", subjects=[QUEUE], retention="workqueue", storage="file")
    loop.run_until_complete(made)

    async def many(jobs: int) -> None:
        await asyncio.gather(*(stream.publish(QUEUE, _data.encode()) for _ in range(jobs)))

    async def serve() -> None:
        taken = await stream.pull_subscribe(QUEUE, "worker")
        while True:
            for message in await taken.fetch(50, timeout=60):
                work(message.data)
                await message.ack()

    run = loop.run_until_complete
    return Library(None, lambda: run(many(1)), lambda jobs: run(many(jobs)), lambda: run(serve()))


def _ours() -> Library:
    worker = importlib.import_module("bunqueue_trio").Worker(QUEUE, STORE)

    @worker.handler  # type: ignore[untyped-decorator] # it was imported by name
    async def handle(job: Any) -> None:  # noqa: ASYNC124 - a handler that has nothing to wait for
        work(job.data)

    return Library(worker, lambda: None)


def _ours_in_threads() -> Library:
    worker = importlib.import_module("bunqueue_trio").Worker(QUEUE, STORE)
    worker.handler(lambda job: work(job.data))
    return Library(worker, lambda: None)


_LIBRARIES = {
    "rq": _rq, "celery": _celery, "dramatiq": _dramatiq, "huey": _huey,
    "beanstalkd": _beanstalkd, "rabbitmq": _rabbitmq, "nats": _nats,
    "ours": _ours, "ours-durable": _ours, "ours-in-threads": _ours_in_threads,
}  # fmt: skip
app, one, many, serve = _LIBRARIES[PEER]()


def produce(jobs: int, bulk: int) -> None:
    """Enqueue `jobs` jobs, `bulk` in a call, print how many seconds that took, and die as in a crash."""
    if PEER.startswith("ours"):
        importlib.import_module("trio").run(_produce_ours, jobs, bulk)
        return
    begun = time.perf_counter()
    if bulk > 1:
        assert many is not None, "asked only of those that have it"
        for _ in range(jobs // bulk):
            many(bulk)
    else:
        for _ in range(jobs):
            one()
    _say_and_die(time.perf_counter() - begun)


async def _produce_ours(jobs: int, bulk: int) -> None:
    durable = {"durable": True} if PEER == "ours-durable" else {}
    data = {"to": _data}
    async with importlib.import_module("bunqueue_trio").Client(STORE) as client:
        begun = time.perf_counter()
        if bulk > 1:
            for _ in range(jobs // bulk):
                await client.push_many(QUEUE, [{"data": data, **durable} for _ in range(bulk)])
        else:
            for _ in range(jobs):
                await client.push(QUEUE, data, **durable)
        _say_and_die(time.perf_counter() - begun)


def _say_and_die(seconds: float) -> None:
    """Nothing may be tidied up at the end that would be lost in a crash."""
    print(seconds, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__" and serve is not None:
    serve()
