"""docs/websocket.md: its client in JavaScript, run as it stands, and what it says of the end of a connection."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import trio

from bunqueue_trio import commands as c
from bunqueue_trio.api.session import is_goodbye
from bunqueue_trio.config import Settings
from bunqueue_trio.protocol.events import EVENT_TYPES, EXTRA
from bunqueue_trio.runtime.bell import Bell
from bunqueue_trio.sync import SyncClient
from bunqueue_trio.testing import Bunqueue
from tests.wire.server import Server

PAGE = (Path(__file__).parents[2] / "docs/websocket.md").read_text()
CODES = re.compile(r"\b(\d{4})\b(?: to (\d{4}))?")


@pytest.mark.slow
def test_the_client_in_javascript(fresh: Server, tmp_path: Path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node here")
    with SyncClient(fresh.url) as client:
        client.push("emails", ["of somebody else"])
    code = "\n".join(re.findall(r"```js\n(.*?)```", PAGE, re.DOTALL))
    script = tmp_path / "client.mjs"
    script.write_text(code.replace("localhost:6790", f"127.0.0.1:{fresh.port}"))
    done = subprocess.run(
        [node, "--experimental-websocket", script], capture_output=True, text=True, timeout=90, check=False
    )
    if "bad option" in done.stderr:
        pytest.skip("a Node without WebSocket")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["completed emails", "{ sent: true }"]


def test_the_close_codes_of_clients():
    orderly, dropped = (
        re.search(rf"^\| you close with {words}(.*?)\|", PAGE, re.MULTILINE) for words in ("1000", "any")
    )
    assert orderly is not None
    assert dropped is not None
    said = [(int(low), int(high or low)) for low, high in CODES.findall(orderly[0])]
    assert all(is_goodbye(code) for pair in said for code in pair)
    assert "without a code" in orderly[0]
    assert is_goodbye(1005)
    assert [code for code in range(1000, 5000) if is_goodbye(code) and code != 1005] == [
        code for low, high in said for code in range(low, high + 1)
    ]
    assert not any(is_goodbye(int(low)) for low, _ in CODES.findall(dropped[0]))


@pytest.fixture
def bunqueue_settings() -> Settings:
    """Bury a job at its first stall."""
    return Settings(stalls_max=0)


async def test_events_have_the_fields_that_are_said(bunqueue: Bunqueue):
    """All twelve types, as readers get them."""
    stream = bunqueue.server.hub.subscribe(None, Bell())
    client = bunqueue.client
    parent = await client.push("a", 1, job_id="parent")
    await client.push("a", 1, job_id="parent")
    await client.push("a", 1, depends_on=[parent])
    job = await client.pull("a")
    await job.progress(50)
    await job.fail("why")
    await (await client.pull("a", timeout=30)).ack()
    await client.cancel(await client.push("b", 1))
    await client.push("c", 1)
    await client.pull("c")
    bunqueue.cut()
    await trio.sleep(1)
    heard: dict[str, set[str]] = {}
    for event in stream.take()[0]:
        fields = json.loads(event.body)
        heard.setdefault(fields["eventType"], set()).update(fields)
    of_all = {"eventType", "queue", "jobId", "timestamp"}
    assert heard == {kind: of_all | ({EXTRA[kind]} if kind in EXTRA else set()) for kind in EVENT_TYPES}


async def test_what_is_said_to_have_no_event_has_none(bunqueue: Bunqueue):
    client = bunqueue.client
    later = await client.push("q", 1, delay=60)
    stream = bunqueue.server.hub.subscribe(None, Bell())
    for command in (
        c.Promote(id=later), c.Pause(queue="q"), c.Resume(queue="q"), c.Pause(queue="q", until=bunqueue.server.clock.now() + 1000),
        c.SetConcurrency(queue="q", concurrency=1), c.ClearConcurrency(queue="q"),
    ):  # fmt: skip
        await client.run(command)
    await trio.sleep(2)
    assert stream.take()[0] == []
    await client.pull("q")
    assert [json.loads(event.body)["eventType"] for event in stream.take()[0]] == ["pulled", "drained"]
