"""What is over is kept by nobody: payloads of jobs that are committed as ended, and events that a step has told of."""

import ast
from pathlib import Path

import pytest
from msgspec import Raw

from bunqueue_trio import engine
from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import InvariantBroken
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.storage.rows import finished_row
from tests.engine.make import Bench

ENGINE = Path(engine.__file__).parent


def test_whoever_keeps_an_ended_job_keeps_no_payload(bench: Bench) -> None:
    job_id = bench.do(c.Push(queue="q", data=Raw(b'"large"'))).id
    job = bench.engine.jobs[job_id]
    bench.do(c.Cancel(id=job_id))
    assert job.data
    bench.commit()
    assert (job_id in bench.engine.jobs, job.data, job.note) == (False, b"", None)


@pytest.mark.parametrize("state", [State.REMOVED, State.WAITING, State.ACTIVE])
def test_only_what_has_completed_or_failed_has_a_record(bench: Bench, state: State) -> None:
    job = bench.engine.jobs[bench.do(c.Push(queue="q", data=Raw(b"1"))).id]
    job.state = state
    with pytest.raises(InvariantBroken, match="has no record"):
        finished_row(job)


@pytest.mark.thorough
def test_an_event_is_filled_where_it_is_emitted_and_kept_by_nobody() -> None:
    """It is encoded when a batch is taken: what is said of it later is said to nobody."""
    told = 0
    for path in ENGINE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        parent = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(tree):
            assert not isinstance(node, ast.AsyncFunctionDef), f"{path.name}: a move of the engine is one step"
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("emit", "tell")
            ):
                use, told = parent[node], told + 1
                is_local = isinstance(use, ast.Assign) and all(isinstance(target, ast.Name) for target in use.targets)
                assert is_local or isinstance(use, ast.Expr | ast.Attribute | ast.Return), ast.unparse(use)
    assert told > 10
