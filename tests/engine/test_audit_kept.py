"""The self-audit of facts and of the counts of what has ended: what is planted is found and named, and nothing in an engine at work."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Raw

from bunqueue_trio.engine import audit_kept
from bunqueue_trio.engine.audit import AuditFault, Pass
from bunqueue_trio.engine.audit_kept import FactsLook, counted, differing
from bunqueue_trio.engine.fingerprint import fingerprint
from bunqueue_trio.engine.gates import PAUSED
from bunqueue_trio.protocol import commands as c
from tests.engine.test_audit import Life

NOBODY: set[Any] = set()
MARKED = fingerprint("bang").key


@pytest.fixture
def said() -> Life:
    """Everything that an operator can say, and two dead letters of one error."""
    life = Life()
    commands: list[c.Command] = [
        c.Pause(queue="q", reason="why"), c.SetConcurrency(queue="q", concurrency=3), c.RateLimit(queue="q", limit=5),
        c.SetDefaults(queue="q", timeout=5), c.SetStallConfig(queue="q", grace_period=5), c.SetDlqConfig(queue="q", max_entries=5),
        c.RegisterWorker(worker_id="w"), c.QuietWorker(id="w"), c.MarkGroup(fingerprint=MARKED, mark="fixed"),
    ]  # fmt: skip
    for command in commands:
        life.do(command)
    for _ in range(2):
        life.do(c.Push(queue="dead", data=Raw(b"1"), max_attempts=1))
        life.do(c.Pull(queue="dead"))
        [active] = life.engine.queues["dead"].active
        life.do(c.Fail(id=active.id, error="boom"))
    life.commit()
    return life


def look(life: Life, unsettled: set[tuple[str, str]] = NOBODY, size: int = 2) -> list[AuditFault]:
    one = Pass(life.engine, life.connected)
    facts, after = FactsLook(life.engine, one.note), ("", "")
    while rows := life.store.stored_facts(after, size):
        facts.rows(rows, unsettled)
        after = rows[-1][:2]
    for _ in facts.memory(unsettled):
        pass
    for name in life.store.queues_after("", 100):
        told, stored = counted(life.engine, name), life.store.stored_kept(name)
        if told != stored:
            one.note("records", differing(name, told, stored))
    one.close()
    return one.faults


def test_a_sound_engine_has_no_fault(said: Life):
    assert look(said) == []
    said.restart()
    said.engine.facts.load(said.store.load_facts())
    said.engine.load([], said.now)
    assert look(said) == []


FACTS = [("paused", "q"), ("concurrency", "q"), ("rate-limit", "q"), ("defaults", "q"), ("stall-config", "q"), ("dlq-config", "q"),
         ("quiet-worker", "w"), ("error-mark", MARKED)]  # fmt: skip


@pytest.mark.parametrize(("kind", "key"), FACTS)
def test_a_fact_that_is_lost_added_or_changed_on_the_disk_is_found(said: Life, kind: str, key: str):
    value = said.store._facts.pop((kind, key))
    assert look(said) == [("facts", f"the {kind} of {key} is in memory, and is not stored")]
    said.store._facts[kind, key] = value
    said.store._facts[kind, "other"] = value
    assert look(said) == [("facts", f"the {kind} of other is stored, and is not in memory")]
    del said.store._facts[kind, "other"]
    said.store._facts[kind, key] = b"7"
    assert look(said) == [("facts", f"the {kind} of {key} is stored, and is another in memory")]


def test_what_is_about_to_change_on_the_disk_is_no_fault(said: Life):
    said.do(c.Resume(queue="q"))
    said.do(c.Pause(queue="other"))
    changed = set(said.engine.facts.changed)
    assert changed == {(PAUSED, "q"), (PAUSED, "other")}
    assert look(said, changed) == []
    assert len(look(said)) == 2


def shut(life: Life) -> None:
    life.engine.gates["q"].pause = None


def limit(life: Life) -> None:
    life.engine.gates["q"].concurrency = 7


def hurry(life: Life) -> None:
    rate = life.engine.gates["q"].rate
    assert rate is not None
    rate.limit = 7


def unquiet(life: Life) -> None:
    life.engine.workers["w"].quiet_since = None


def unmark(life: Life) -> None:
    del life.engine.marks[MARKED]


def forget(life: Life) -> None:
    del life.engine.configs.defaults["q"]


@pytest.mark.parametrize(
    ("plant", "faults"),
    [
        (shut, ["the paused of q is not as it is noted", "0 of paused are in force, and 1 are noted"]),
        (limit, ["the concurrency of q is not as it is noted"]),
        (hurry, ["the rate-limit of q is not as it is noted"]),
        (unquiet, ["the quiet-worker of w is not as it is noted", "0 of quiet-worker are in force, and 1 are noted"]),
        (
            unmark,
            [f"the error-mark of {MARKED} is not as it is noted", "0 of error-mark are in force, and 1 are noted"],
        ),
        (forget, ["the defaults of q is not as it is noted"]),
    ],
)
def test_what_the_engine_goes_by_is_what_is_noted(said: Life, plant: Callable[[Life], None], faults: list[str]):
    plant(said)
    assert sorted(look(said)) == sorted(("facts", what) for what in faults)


def test_a_record_that_is_lost_and_a_group_that_is_another_are_found(said: Life):
    key = fingerprint("boom").key
    (first, second) = said.store._finished
    row = said.store._finished[first]
    said.store._finished[first] = row._replace(fingerprint="other")
    counts = f"queue dead counts 2 dead letters of error {key}, and keeps 1"
    told = counted(said.engine, "dead")._replace(groups={key: 2})
    assert differing("dead", told, said.store.stored_kept("dead")) == counts
    del said.store._finished[second]
    assert look(said)[0] == ("records", "queue dead counts 0 completed and 2 failed jobs, and keeps 0 and 1")


def test_an_engine_at_work_has_no_fault():
    """Whatever operators say and crashes take, between one commit and the next."""
    rng = random.Random(7)
    life = Life()
    for _ in range(300):
        queue = rng.choice("ab")
        life.do(
            rng.choice(
                (
                    c.Pause(queue=queue, until=life.now + 50), c.Resume(queue=queue), c.SetConcurrency(queue=queue, concurrency=rng.randint(1, 3)),
                    c.RateLimit(queue=queue, limit=rng.randint(1, 3), duration=100), c.RateLimitClear(queue=queue), c.ClearConcurrency(queue=queue),
                    c.SetDefaults(queue=queue, timeout=rng.choice([None, 0, 5])), c.ClearDefaults(queue=queue), c.RegisterWorker(worker_id="w"),
                    c.QuietWorker(id="w"), c.UnquietWorker(id="w"), c.MarkGroup(fingerprint=MARKED, mark=rng.choice(["fixed", "none"])),
                    c.Push(queue=queue, data=Raw(b"1"), max_attempts=1), c.Pull(queue=queue), c.Obliterate(queue=queue, force=True),
                )
            )
        )  # fmt: skip
        for job in list(life.engine.jobs.values()):
            if job.lease is not None and rng.random() < 0.3:
                life.do(c.Fail(id=job.id, error=rng.choice(["boom", "bang 7"])))
        life.now += rng.choice((0, 1, 60))
        if rng.random() < 0.3:
            life.commit()
            assert look(life) == []


def test_what_goes_while_it_is_looked_at_is_no_fault(said: Life, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(audit_kept, "AUDIT_SLICE", 1)
    said.do(c.Pause(queue="other"))
    said.commit()
    one = Pass(said.engine, said.connected)
    facts = FactsLook(said.engine, one.note)
    facts.rows(said.store.stored_facts(("", ""), 100), NOBODY)
    looked = facts.memory(NOBODY)
    next(looked)
    for queue in ("q", "other"):
        said.do(c.Resume(queue=queue))
    for _ in looked:
        pass
    assert one.faults == []


@pytest.mark.parametrize("to", ["nothing", "another group"])
def test_a_job_that_is_tried_again_is_in_the_group_of_its_error(to: str):
    life = Life()
    life.do(c.Push(queue="q", data=Raw(b"1")))
    life.do(c.Pull(queue="q"))
    [job] = life.engine.queues["q"].active
    life.do(c.Fail(id=job.id, error="boom"))
    assert life.look() == []
    retrying = life.engine.retrying
    group = retrying.pop(fingerprint("boom").key)
    faults = [("index", f"job {job.id} has failed and is in no group of those that are tried again")]
    if to == "another group":
        retrying["other"] = group
        faults.append(("index", f"job {job.id}, delayed, is among those of error other that are tried again"))
        faults.append(("index", "error other stands among those of another size"))
    assert sorted(life.look()) == sorted(faults)
