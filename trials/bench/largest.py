"""How long the event loop works on the largest requests, part by part: ``python -m trials.bench.largest``.

CPU time of the one thread, the best of three, so that a busy machine tells much the same as a quiet one. Between two parts of a
request others are served, or may be; within a part nobody is.
"""

import gc
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count

from msgspec import Raw

from bunqueue_trio import errors
from bunqueue_trio.config import BULK_SLICE
from bunqueue_trio.engine.commands import apply
from bunqueue_trio.engine.commands.push import Bulk
from bunqueue_trio.engine.commands.report import Acks
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.codec import decode, encode
from bunqueue_trio.protocol.parts import PARTS_FROM, read_in_parts
from bunqueue_trio.protocol.replies import PullBatchReply
from bunqueue_trio.storage.making import make_batch
from bunqueue_trio.storage.memory import MemoryStore

NOW = 1_700_000_000_000
Part = tuple[str, float]


class Steps:
    """An engine whose calls are timed."""

    def __init__(self) -> None:
        numbers = count()
        self.engine = Engine(lambda _: f"{next(numbers):036}", MemoryStore())
        self.parts: list[Part] = []

    def timed(self, name: str, work: Callable[[], object]) -> object:
        """Do ``work`` and note what it took."""
        begun = time.thread_time()
        result = work()
        self.parts.append((name, time.thread_time() - begun))
        return result

    def do(self, command: c.Command) -> object:
        """Run a command and return its reply."""
        return self.timed("engine", lambda: apply(self.engine, command, NOW))

    def commit(self) -> int:
        """Make a batch and let go of it, as the journal does around the commit; return how many jobs it had."""
        changes = self.engine.take()
        self.timed("batch", lambda: make_batch(changes, NOW, durable=False, last_event_id=0))
        self.timed("end", lambda: self.engine.forget(changes.jobs))
        return len(changes.jobs)


def bulk(jobs: bytes) -> Iterator[Part]:
    """Yield the longest parts of a bulk push of 10,000 ``jobs``, as the server does it."""
    each = [jobs.replace(b"%d", b"%d" % n) for n in range(10_000)]
    body = b'{"jobs":[' + b",".join(each) + b"]}"
    steps = Steps()
    read = partial(decode, c.PushBatch, queue="q")
    command = None
    if len(body) > PARTS_FROM:
        parts = read_in_parts(c.PushBatch, body, read, errors.INVALID_JSON_BODY)
        while command is None:
            try:
                steps.timed("decode", lambda: next(parts))
            except StopIteration as done:
                command = done.value
    else:
        command = steps.timed("decode", lambda: read(body))
    assert isinstance(command, c.PushBatch)
    begun = steps.timed("check", lambda: Bulk(steps.engine, command))
    assert isinstance(begun, Bulk)
    steps.timed("check", begun.prepare)
    while not steps.timed("engine", lambda: begun.add(BULK_SLICE, NOW)):
        pass
    steps.timed("answer", lambda: encode(begun.reply))
    steps.commit()
    yield from longest(steps.parts)


def longest(parts: list[Part]) -> Iterator[Part]:
    """Yield the longest of the parts of each name."""
    for name in dict.fromkeys(name for name, _ in parts):
        yield name, max(seconds for part, seconds in parts if part == name)


def held(steps: Steps, count: int) -> list[tuple[str, str]]:
    """Push jobs and pull them; return ids and tokens. Only the last pull is among the parts."""
    found: list[tuple[str, str]] = []
    for _ in range(0, count, 1000):
        apply(steps.engine, c.PushBatch(queue="q", jobs=[c.JobSpec(data=Raw(b"1"))] * 1000), NOW)
        steps.parts.clear()
        reply = steps.timed("pull", lambda: apply(steps.engine, c.PullBatch(queue="q", count=1000), NOW))
        assert isinstance(reply, PullBatchReply)
        found += [(job.id, token) for job, token in zip(reply.jobs, reply.tokens, strict=True)]
    steps.engine.forget(steps.engine.take().jobs)
    return found


def held_batch(kind: type[c.AckBatch] | type[c.HeartbeatBatch]) -> Iterator[Part]:
    """Yield the parts of a command about 10,000 jobs that somebody holds."""
    steps = Steps()
    jobs = held(steps, 10_000)
    body = encode({"ids": [job_id for job_id, _ in jobs], "tokens": [token for _, token in jobs]})
    command = steps.timed("decode", lambda: decode(kind, body))
    assert isinstance(command, kind)
    if isinstance(command, c.AckBatch):
        acks = Acks(steps.engine, command)
        while not steps.timed("engine", lambda: acks.add(BULK_SLICE, NOW)):
            pass
        reply: object = acks.reply
    else:
        reply = steps.do(command)
    steps.timed("answer", lambda: encode(reply))
    steps.commit()
    yield from longest(steps.parts)


def fails() -> Iterator[Part]:
    """Yield the parts of 4,000 failures for good, whose texts are made to be slow to tell apart."""
    steps = Steps()
    for job_id, token in held(steps, 4000):
        steps.do(c.Fail(id=job_id, token=token, error='"a\\\\' * 130, unrecoverable=True))
    steps.commit()
    yield from longest(steps.parts)


def surrogates() -> Iterator[Part]:
    """Yield the parts of a FAIL whose error is 10 MiB of lone surrogates."""
    body = b'{"error":"' + rb"\ud800" * (10 * 1024 * 1024 // 6 - 10) + b'"}'
    steps = Steps()
    steps.timed("decode", lambda: decode(c.Fail, body, id="x"))
    yield from steps.parts


def cascade() -> Iterator[Part]:
    """Yield the longest step and the longest of each part for an outcome of which 100,000 dependents hear."""
    steps = Steps()
    first = apply(steps.engine, c.Push(queue="first", data=Raw(b"1")), NOW).id  # type: ignore[attr-defined]
    spec = c.JobSpec(data=Raw(b"1"), depends_on=[first])
    for _ in range(100):
        apply(steps.engine, c.PushBatch(queue="q", jobs=[spec] * 1000), NOW)
        steps.engine.forget(steps.engine.take().jobs)
    apply(steps.engine, c.Pull(queue="first"), NOW)
    steps.do(c.Discard(id=first))  # the dearest: each of them dies
    largest = 0
    while steps.engine.has_chores:
        steps.timed("engine", lambda: steps.engine.advance(NOW))
        if steps.engine.is_full:  # the disk is as slow as it may be without being waited for longer
            largest = max(largest, steps.commit())
    for name in ("engine", "batch", "end"):
        yield name, max(seconds for part, seconds in steps.parts if part == name)
    print(f"  the largest batch of the cascade: {largest:,} jobs")


def main() -> None:
    """Print a line for each request."""
    gc.disable()
    tags = b'"tags":[' + b",".join(b'"t%d"' % n for n in range(100)) + b"]"
    requests: dict[str, Callable[[], Iterator[Part]]] = {
        "bulk push, 10,000 jobs": lambda: bulk(b'{"data":{"n":1}}'),
        "the same with 100 tags each": lambda: bulk(b'{"data":1,%s}' % tags),
        "the same with an id and a key each": lambda: bulk(b'{"data":1,"jobId":"%d","uniqueKey":"k","ttl":9}'),
        "10,000 acks": lambda: held_batch(c.AckBatch),
        "10,000 heartbeats": lambda: held_batch(c.HeartbeatBatch),
        "4,000 failures with hostile texts": fails,
        "FAIL, 10 MiB of lone surrogates": surrogates,
        "100,000 dependents die": cascade,
    }
    for name, parts in requests.items():
        best: dict[str, float] = {}
        for _ in range(3):
            for part, seconds in parts():
                best[part] = min(seconds, best.get(part, seconds))
        print(f"{name:34}", "   ".join(f"{part} {seconds * 1000:.1f} ms" for part, seconds in best.items()))


if __name__ == "__main__":
    main()
