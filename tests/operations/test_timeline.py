"""`bunqueue-trio job ID --timeline`: what happened to a job, as people and programs read it."""

import json

import pytest
import trio

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.testing.server import Bunqueue
from tests.operations.test_sisters import Shell
from tests.ui.night import push


@pytest.fixture
async def shell(bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(bunqueue, monkeypatch)


async def test_a_line_for_each_thing_in_order(shell: Shell):
    run = shell.bunqueue.server.core.execute
    job_id = await push(shell.bunqueue, "q", delay=60_000)
    await run(c.Promote(id=job_id))
    await run(c.RegisterWorker(worker_id="w", name="mail"))
    await trio.sleep(1)
    token = (await run(c.Pull(queue="q", owner="w"))).token  # type: ignore[attr-defined]
    await trio.sleep(1)
    await run(c.Progress(id=job_id, progress=50, message="half \x9b"))
    await trio.sleep(1)
    await run(c.Fail(id=job_id, token=token, error="no\x1b[2J"))
    await trio.sleep(5)
    await run(c.Discard(id=job_id))
    done = await shell("job", job_id, "--timeline")
    assert (done.exit_code, done.stderr) == (0, "")
    said = [line[25:].strip() for line in done.stdout.splitlines()]
    assert said[0] == "pushed"
    assert said[1].startswith("waits until 20")
    assert said[2:6] == ["server: promote", "ready before its time", "a worker has it: mail", "progress 50: half \\x9b"]
    assert said[6] == "attempt 1 failed by mail: no\\x1b[2J"
    assert "waits again" in said
    assert said[-2:] == ["server: discard", "discarded (discarded): Discarded"]
    raw = [json.loads(line) for line in (await shell("job", job_id, "--timeline", "--json")).stdout.splitlines()]
    assert [entry["at"] for entry in raw] == sorted(entry["at"] for entry in raw)
    assert len(raw) == len(said)


async def test_of_a_job_that_is_gone_what_is_kept(shell: Shell):
    job_id = await push(shell.bunqueue, "q")
    await shell.bunqueue.server.core.execute(c.Cancel(id=job_id))
    done = await shell("job", job_id, "--timeline")
    assert [line[25:].strip() for line in done.stdout.splitlines()] == ["pushed", "server: cancel", "gone"]
    assert done.stderr == f"{job_id}: it is not there any more\n"
    done = await shell("job", "nobody", "--timeline")
    assert (done.exit_code, done.stderr) == (1, "bunqueue-trio: nobody: no such job, and nothing is kept of it\n")
    assert (await shell("job", job_id, "--timeline", "--data")).exit_code == 2
