"""What is measured on one server: each function takes a running one and returns numbers by the name of their metric."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from bunqueue_trio.testing.process import HOST
from trials.bench import wrk
from trials.lib.raw_http import bulk_body, fill, hand_over
from trials.lib.raw_ws import UpgradeRefusedError, WebSocket, bulk_message, push_message
from trials.lib.servers import BenchError, Server

BULK = 100
CYCLES_PER_S = 15_000  # what is put into the queue beforehand; when it does not last, more is
IN_FLIGHT = 32
BULKS_IN_FLIGHT = 8

Numbers = dict[str, float]


@dataclass(frozen=True)
class Timing:
    """Seconds of load before a measurement, for the just-in-time compiler and the caches, and of the measurement."""

    warmup: int
    measured: int


@dataclass(frozen=True)
class Measurement:
    """One kind of load; `unit` is what `rate` counts a second, None for one that only has latencies."""

    name: str
    title: str
    unit: str | None
    run: Callable[[Server, Timing], Numbers]


def _wrk(server: Server, load: wrk.Load, timing: Timing, per_request: int = 1) -> Numbers:
    """Measure a load of pushes; the server's own count of jobs must agree with wrk's of answers."""
    before = server.pushed()
    answered = wrk.run(load, server.url, timing.warmup).requests
    cpu = server.cpu_s()
    found = wrk.run(load, server.url, timing.measured)
    cpu = server.cpu_s() - cpu
    answered += found.requests
    _check_count(
        load.name, server, server.pushed() - before, answered * per_request, 2 * load.connections * per_request
    )
    jobs = found.requests * per_request
    return {
        "rate": jobs / found.seconds,
        "cpu_us": cpu * 1e6 / jobs,
        "p50_ms": found.p50_ms,
        "p99_ms": found.p99_ms,
        "client_cpu": found.client_cpu,
    }


def _check_count(name: str, server: Server, pushed: int, answered: int, in_flight: int) -> None:
    """Raise unless as many jobs were pushed as were answered, give or take those that were cut off at the end."""
    if not answered <= pushed <= answered + in_flight:
        raise BenchError(f"{name}: {answered} answers, but {server.kind.name} counts {pushed} jobs")


def push(connections: int, *, durable: bool = False) -> Callable[[Server, Timing], Numbers]:
    """Push one job a request."""
    load = wrk.push(connections, durable=durable)
    return lambda server, timing: _wrk(server, load, timing)


def bulk(server: Server, timing: Timing) -> Numbers:
    """Push a hundred jobs a request."""
    return _wrk(server, wrk.bulk(8, bulk_body(BULK)), timing, BULK)


def pull_ack(server: Server, timing: Timing) -> Numbers:
    """Pull jobs that were pushed before, and acknowledge each."""
    load = wrk.cycle(8, "drain", pushing=False)
    jobs = CYCLES_PER_S * (timing.warmup + timing.measured)
    for _ in range(4):
        with server.connect() as connection:
            fill(connection, "drain", jobs)
        wrk.run(load, server.url, timing.warmup)
        cpu = server.cpu_s()
        found = wrk.run(load, server.url, timing.measured)
        cpu = server.cpu_s() - cpu
        if not found.dry:
            return {
                "rate": found.rounds / found.seconds,
                "cpu_us": cpu * 1e6 / found.rounds,
                "p50_ms": found.p50_ms,
                "p99_ms": found.p99_ms,
                "client_cpu": found.client_cpu,
            }
        jobs *= 2
    raise BenchError("pull and ack: the queue ran dry again and again")


def waiting_pull(server: Server, timing: Timing) -> Numbers:
    """Hand jobs to a worker that waits for them."""
    with server.connect() as poller, server.connect() as producer:
        hand_over(poller, producer, timing.warmup)
        times = sorted(hand_over(poller, producer, timing.measured))
    return {"p50_ms": times[len(times) // 2] * 1e3, "p99_ms": times[len(times) * 99 // 100] * 1e3}


def ws_push(server: Server, timing: Timing) -> Numbers:
    """Push over one WebSocket."""
    return _ws(server, push_message(), IN_FLIGHT, timing, 1)


def ws_bulk(server: Server, timing: Timing) -> Numbers:
    """Push a hundred jobs a command over one WebSocket."""
    return _ws(server, bulk_message(BULK), BULKS_IN_FLIGHT, timing, BULK)


def _ws(server: Server, message: bytes, in_flight: int, timing: Timing, per_command: int) -> Numbers:
    before = server.pushed()
    client = WebSocket(HOST, server.port, message)
    try:
        answered, bad, _ = client.run(in_flight, timing.warmup)
        cpu, own_cpu = server.cpu_s(), time.process_time()
        good, more_bad, seconds = client.run(in_flight, timing.measured)
        cpu, own_cpu = server.cpu_s() - cpu, time.process_time() - own_cpu
    finally:
        client.close()
    if bad + more_bad:
        raise BenchError(f"WebSocket: {bad + more_bad} commands were refused")
    _check_count("WebSocket", server, server.pushed() - before, (answered + good) * per_command, 0)
    jobs = good * per_command
    return {"rate": jobs / seconds, "cpu_us": cpu * 1e6 / jobs, "client_cpu": own_cpu / seconds}


MEASUREMENTS = (
    Measurement("http-push-1", "HTTP push, 1 connection", "jobs", push(1)),
    Measurement("http-push-8", "HTTP push, 8 connections", "jobs", push(8)),
    Measurement("http-push-32", "HTTP push, 32 connections", "jobs", push(32)),
    Measurement("http-durable-32", "HTTP durable push, 32 connections", "jobs", push(32, durable=True)),
    Measurement("http-bulk-100", "HTTP bulk push, 100 jobs a request", "jobs", bulk),
    Measurement("pull-ack", "HTTP pull + ack, 8 workers", "cycles", pull_ack),
    Measurement("waiting-pull", "Hand-over to a waiting pull", None, waiting_pull),
    Measurement("ws-push-32", "WebSocket push, 32 in flight", "jobs", ws_push),
    Measurement("ws-bulk-100", "WebSocket bulk push, 100 jobs a command", "jobs", ws_bulk),
)


def measure(measurement: Measurement, server: Server, timing: Timing) -> Numbers | str:
    """Measure, or say in one line why it cannot be done on this server.

    Raises:
        BenchError: it was done and went wrong.
    """
    try:
        return measurement.run(server, timing)
    except UpgradeRefusedError as refused:
        return f"{server.kind.name} refuses the WebSocket upgrade ({refused})"
    except OSError as error:
        raise BenchError(f"{measurement.name}: {server.kind.name}: {error}; its log: {server.last_words()}") from None


def cycle_at(server: Server, backlog: int, timing: Timing) -> Numbers:
    """Push, pull and acknowledge while that many jobs wait, which the caller has put there."""
    load = wrk.cycle(8, "backlog", pushing=True)
    wrk.run(load, server.url, timing.warmup)
    cpu = server.cpu_s()
    found = wrk.run(load, server.url, timing.measured)
    cpu = server.cpu_s() - cpu
    if found.dry:
        raise BenchError(f"{server.kind.name}: a pull found nothing although {backlog} jobs wait")
    return {"rate": found.rounds / found.seconds, "cpu_us": cpu * 1e6 / found.rounds}
