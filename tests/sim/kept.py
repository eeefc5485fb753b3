"""What the disk has beside jobs and their records, held against the naive model as of the last commit: facts, and the lines of trails."""

import json
from collections.abc import Iterator
from typing import Any

from bunqueue_trio.engine.trails import ACTIONS, ATTEMPTS, LOG
from bunqueue_trio.storage.readable import unreadable_facts
from tests.engine.model import Record, Snapshot
from tests.engine.model_past import is_hidden
from tests.sim.sim_disk import Platter


def differences(platter: Platter, committed: Snapshot) -> Iterator[str]:
    """Say each thing that is not on the disk as it was committed."""
    for fact in unreadable_facts((kind, key, value) for (kind, key), value in platter.facts().items()):
        yield f"no server could read the fact {fact}"
    yield from _differing("fact", dict(_facts(platter)), dict(_expected_facts(committed)))
    records = [job for job in (*committed.jobs, *committed.ended) if not is_hidden(job)]
    expected = {(job.id, kind): lines for job in records for kind, lines in _lines(job) if lines}
    yield from _differing("trail", dict(_trails(platter)), expected | {("", ACTIONS): [*committed.acts]})


def _differing(what: str, found: dict[Any, Any], expected: dict[Any, Any]) -> Iterator[str]:
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name, []) != expected.get(name, []):
            yield f"the {what} {' of '.join(name[::-1])} is {found.get(name)}, expected {expected.get(name)}"


def _facts(platter: Platter) -> Iterator[tuple[tuple[str, str], Any]]:
    for (kind, key), value in platter.facts().items():
        if kind in ("concurrency", "quiet-worker"):
            yield (key, kind), int(value)
        elif kind == "paused":
            said = json.loads(value)
            yield (key, kind), (said["since"], said["reason"], said["until"])
        elif kind == "error-mark":
            said = json.loads(value)
            yield (key, kind), (said["mark"], said["at"], said.get("back_at"), said.get("times", 0))
        elif kind == "rerun":
            said = json.loads(value)
            yield (
                (key, kind),
                (said.get("state", "first"), *(said.get(name, 0) for name in ("retried", "ended", "died"))),
            )
        elif kind in ("rate-limit", "defaults", "stall-config", "dlq-config"):
            yield (key, kind), True


def _expected_facts(committed: Snapshot) -> Iterator[tuple[tuple[str, str], Any]]:
    for queue, pause in committed.pauses.items():
        yield (queue, "paused"), pause
    for queue, most in committed.limits.items():
        yield (queue, "concurrency"), most
    for worker, since in committed.quiet.items():
        yield (worker, "quiet-worker"), since
    for key, mark in committed.marks.items():
        yield (key, "error-mark"), (mark.mark, mark.at, mark.back, mark.times)
    for key, one in committed.reruns.items():
        yield (key, "rerun"), (one.state, one.retried, one.over, one.died)
    yield from _expected_settings(committed)


def _expected_settings(committed: Snapshot) -> Iterator[tuple[tuple[str, str], Any]]:
    for queue in committed.rates:
        yield (queue, "rate-limit"), True
    for name, said in committed.said.items():
        if any(value is not None for value in said.values()):
            kind = "dlq-config" if name.startswith("dead ") else "defaults"
            yield (name.removeprefix("dead "), kind), True
    for queue, rule in committed.stall_rules.items():
        if any(value is not None for value in rule.values()):
            yield (queue, "stall-config"), True


def _trails(platter: Platter) -> Iterator[tuple[tuple[str, str], list[Any]]]:
    for (key, kind), bodies in platter.trails().items():
        yield (key, kind), [json.loads(body) for body in bodies]


def _lines(job: Record) -> Iterator[tuple[str, list[Any]]]:
    yield ATTEMPTS, [*job.failures]
    yield LOG, [line for _, line in job.lines]
