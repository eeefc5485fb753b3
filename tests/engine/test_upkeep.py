"""What is done to the file: one thing at a time, and what is only tried begins nothing."""

from typing import Any

import pytest
from msgspec.structs import replace

from bunqueue_trio.engine.commands import apply
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.caller import By
from bunqueue_trio.protocol.server_replies import UpkeepView
from tests.engine.make import Bench, refused

KINDS = {"backup": c.BackupStorage, "check": c.CheckStorage, "shrink": c.ShrinkStorage}


def planned(kind: str) -> UpkeepView:
    return UpkeepView(kind=kind, state="planned", bytes=7)


@pytest.fixture
def begun(bench: Bench) -> list[UpkeepView]:
    """What has begun on a bench that has a file."""
    seen: list[UpkeepView] = []
    bench.engine.upkeep.plan, bench.engine.upkeep.on_begin = planned, seen.append
    return seen


def test_an_engine_whose_file_nobody_knows_refuses(bench: Bench):
    for kind in KINDS.values():
        assert refused(bench, kind()) == "409 That cannot be done now: there is no file"


def test_what_begins_is_what_was_planned_with_who_wanted_it_and_when(bench: Bench, begun: list[UpkeepView]):
    for name, kind in KINDS.items():
        reply: Any = apply(bench.engine, kind(), bench.now, by=By("ann", "10.0.0.7"))
        assert reply.work == replace(planned(name), state="running", who="ann", started_at=bench.now)
        assert begun == [reply.work]
        begun.pop().state = "done"
        assert reply.work.state == "running", "an answer is of the moment of its command"


def test_a_dry_run_begins_nothing_also_while_another_goes_on(bench: Bench, begun: list[UpkeepView]):
    assert bench.do(c.CheckStorage(dry_run=True)).work == planned("check")
    assert begun == []
    bench.do(c.BackupStorage())
    assert bench.do(c.BackupStorage(dry_run=True)).work == planned("backup")
    assert len(begun) == 1


def test_while_one_goes_on_none_begins(bench: Bench, begun: list[UpkeepView]):
    bench.do(c.BackupStorage())
    for kind in KINDS.values():
        with pytest.raises(Refused) as caught:
            bench.do(kind())
        assert (caught.value.code, str(caught.value)) == (
            "upkeep-busy", "A backup is under way: wait until it has ended",
        )  # fmt: skip
    begun[0].state = "failed"
    bench.do(c.BackupStorage())
    assert [each.state for each in begun] == ["failed", "running"]
    assert bench.engine.upkeep.last == {"backup": begun[1]}
