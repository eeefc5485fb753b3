"""docs/websocket.md: its client in JavaScript, run as it stands, and what it says of the end of a connection."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeAlias

import pytest
import trio

from bunqueue_trio import JobFailed
from bunqueue_trio import commands as c
from bunqueue_trio.config import Settings
from bunqueue_trio.protocol.events import EVENT_TYPES, EXTRA
from bunqueue_trio.runtime.bell import Bell
from bunqueue_trio.sync import SyncClient
from bunqueue_trio.testing import Bunqueue
from bunqueue_trio.transports.frames import is_goodbye
from tests.client.proxy import Proxy
from tests.wire.server import Server, StartServer, free_port

PAGE = (Path(__file__).parents[2] / "docs/websocket.md").read_text()
CODES = re.compile(r"\b(\d{4})\b(?: to (\d{4}))?")

Modules: TypeAlias = Callable[[], Path]

WORKER = """
import { work } from "./worker.mjs";
import { appendFileSync } from "node:fs";

const stop = new AbortController();
process.on("SIGTERM", () => stop.abort());
const handle = async (job) => {
  appendFileSync("runs", `${job.id}\\n`);
  await new Promise((resolve) => setTimeout(resolve, job.data.ms ?? 0));
  if (job.data.bad) throw new Error("no image");
  if (job.data.unsaid) throw Object.create(null);
  if (job.data.long) return "x".repeat(job.data.long);
  if (job.data.big) return { n: 10n };
  return { width: job.data.width * 2 };
};
const three = [1, 2, 3].map(() => work("ADDRESS", "images", handle, { signal: stop.signal, token: TOKEN }));
await Promise.all(three);
"""


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Modules:
    """Where npm has put ws, once it has been asked for: once for all that need it."""

    @cache
    def installed() -> Path:
        npm, folder = shutil.which("npm"), tmp_path_factory.mktemp("npm")
        if npm is None:
            pytest.skip("no npm here")
        got = subprocess.run(
            [npm, "install", "ws@8", "--prefer-offline", "--no-audit", "--no-fund"],
            cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if got.returncode:
            pytest.skip(f"npm cannot get ws here: {got.stderr.splitlines()[0]}")
        return folder / "node_modules"

    return installed


def worker_of(kind: str, folder: Path, address: str, modules: Modules) -> list[str]:
    """Write the worker of the page, and return the command that runs it."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node here")
    found = re.search(r"```js worker.mjs\n(.*?)```", PAGE, re.DOTALL)
    assert found
    (folder / "worker.mjs").write_text(found[1])
    script = WORKER.replace("ADDRESS", address).replace("TOKEN", "undefined" if kind == "browser" else '"secret"')
    if kind == "browser":  # the WebSocket of browsers, which Node has too
        script = re.sub('import .*worker.mjs";', "", script)
        script = 'globalThis.window = globalThis;\nconst { work } = await import("./worker.mjs");\n' + script
        (folder / "script.mjs").write_text(script)
        probe = subprocess.run(
            [node, "--experimental-websocket", "-e", "new WebSocket('ws://127.0.0.1:1').onerror = () => {}"],
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        if probe.returncode:
            pytest.skip("a Node without WebSocket")
        return [node, "--experimental-websocket", "--no-warnings", "script.mjs"]
    (folder / "script.mjs").write_text(script)
    (folder / "node_modules").symlink_to(modules())
    return [node, "script.mjs"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ws", "browser"])
def test_the_worker_in_javascript(start_server: StartServer, tmp_path: Path, modules: Modules, kind: str):
    """It works, reports failures, connects again after a kill, and goes on with its job over an orderly restart."""
    fresh = start_server({"AUTH_TOKENS": "secret"} if kind == "ws" else {})
    command = worker_of(kind, tmp_path, f"ws://127.0.0.1:{fresh.port}/ws", modules)
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            with SyncClient(fresh.url, token="secret") as client:
                ids = client.push_many("images", [{"data": {"width": n}} for n in range(10)])
                assert [client.wait(job_id, 60)["width"] for job_id in ids] == [2 * n for n in range(10)]
                with pytest.raises(JobFailed, match="Error: no image"):
                    client.wait(client.push("images", {"bad": True}, max_attempts=1), 60)
                fresh.kill()
                fresh.start()
                assert client.wait(client.push("images", {"width": 21}), 60) == {"width": 42}
                long = client.push("images", {"width": 50, "ms": 3000})
                while client.state(long) != "active":
                    time.sleep(0.02)
                fresh.stop()
                fresh.start()
                assert client.wait(long, 60) == {"width": 100}
            assert (tmp_path / "runs").read_text().split().count(long) == 1
            process.terminate()
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    # A report whose answer the kill took is sent again, and then not needed any more.
    # And what it says of a server that is not there.
    left = [line for line in said.splitlines() if not line.startswith("ws://127.0.0.1:")]
    told = [line for line in left if not line.endswith("Job not found or not active")]
    assert (process.returncode, told) == (0, [])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ws", "browser"])
def test_what_a_handler_in_javascript_cannot_say_is_its_failure_alone(
    start_server: StartServer, tmp_path: Path, modules: Modules, kind: str
):
    fresh = start_server({"AUTH_TOKENS": "secret"} if kind == "ws" else {})
    command = worker_of(kind, tmp_path, f"ws://127.0.0.1:{fresh.port}/ws", modules)
    with (
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
        SyncClient(fresh.url, token="secret") as client,
    ):
        try:
            beside = client.push("images", {"width": 1, "ms": 3000})
            for data, words in (
                ({"long": 10_600_000}, r"a result of over \d+ bytes"),
                ({"big": True}, "BigInt"),
                ({"unsaid": True}, "an error without words"),
            ):
                with pytest.raises(JobFailed, match=words):
                    client.wait(client.push("images", data, max_attempts=1), 60)
            assert client.wait(beside, 60) == {"width": 2}
            assert client.run(c.GetState(id=beside)).stalls == 0
            process.terminate()
            assert (process.wait(60), process.communicate()[0]) == (0, "")
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["token", "role", "queue"])
def test_the_worker_in_javascript_ends_with_words_where_only_somebody_can_help(
    start_server: StartServer, tmp_path: Path, modules: Modules, wrong: str
):
    tokens = tmp_path / "tokens"
    tokens.write_text("secret\neyes read looks\n")
    tokens.chmod(0o600)
    fresh = start_server({"AUTH_TOKENS_FILE": str(tokens)})
    command = worker_of("ws", tmp_path, f"ws://127.0.0.1:{fresh.port}/ws", modules)
    script = tmp_path / "script.mjs"
    if wrong == "queue":
        script.write_text(script.read_text().replace('"images"', '"no queue/\\u0000"'))
    else:
        script.write_text(script.read_text().replace('"secret"', '"looks"' if wrong == "role" else '"nobody"'))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    words = {"token": "Unexpected server response: 401", "role": "no jobs of images: ", "queue": "no jobs of no queue"}
    assert words[wrong] in done.stderr


@pytest.mark.slow
def test_the_worker_in_javascript_ends_while_nobody_listens(tmp_path: Path, modules: Modules):
    command = worker_of("ws", tmp_path, f"ws://127.0.0.1:{free_port()}/ws", modules)
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert "ECONNREFUSED" in process.stdout.readline()
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()


@pytest.mark.long  # as long as a server waits before it gives a connection up
@pytest.mark.parametrize("kind", ["ws", "browser"])
def test_the_worker_in_javascript_takes_its_jobs_over_from_a_dead_socket(
    fresh: Server, tmp_path: Path, modules: Modules, kind: str
):
    with Proxy(fresh.address) as proxy, SyncClient(fresh.url) as client:
        command = worker_of(kind, tmp_path, f"{proxy.url}/ws", modules)
        with subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                ids = [client.push("images", {"width": ms, "ms": ms}) for ms in (5000, 50_000, 90_000)]
                while [client.state(job_id) for job_id in ids] != ["active"] * 3:
                    time.sleep(0.1)
                proxy.freeze_those_that_are_there()
                for job_id in ids:
                    assert client.wait(job_id, 150)
                assert {client.run(c.GetState(id=job_id)).stalls for job_id in ids} == {0}
                assert sorted((tmp_path / "runs").read_text().split()) == ids
                # A page has no end for which a dead socket would have to be waited for.
                if kind == "ws":
                    process.terminate()
                    said, _ = process.communicate(timeout=60)
                    assert (process.returncode, set(said.splitlines())) == (0, {f"{proxy.url}/ws: no answer"})
            finally:
                process.kill()


def test_the_worker_in_javascript_is_short():
    found = re.search(r"```js worker.mjs\n(.*?)```", PAGE, re.DOTALL)
    assert found
    lines = found[1].splitlines()
    # Short enough to be copied, and to be read: no line is long, and none says two things.
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 120
    assert not [line for line in lines if re.search(r"; (?!//)(?!.*\) \{$)", line)]


def test_the_worker_in_javascript_repeats_what_passes():
    """By the codes, as the page asks for: its list is that of the page, and of the table but for what no command is answered."""
    told = re.search(r'const passing = "(.*?)"', PAGE)
    listed = re.search(r"These refusals pass, by their \[codes\]\(#codes\): (.*?)\.", PAGE)
    assert told
    assert listed
    table = set(re.findall(r"^\| `([a-z-]+)` \| 503 \|", PAGE, re.MULTILINE)) - {
        "too-many-connections",
        "standby",
        "storage-damaged",
    }
    assert set(told[1].split()) == set(re.findall("`(.*?)`", listed[1])) == table
    assert "reply.error)" not in re.sub(r"console\.warn\(.*", "", PAGE)


@pytest.mark.slow
def test_the_client_in_javascript(fresh: Server, tmp_path: Path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node here")
    with SyncClient(fresh.url) as client:
        client.push("emails", ["of somebody else"])
    code = "\n".join(re.findall(r"```js\n(.*?)```", PAGE, re.DOTALL))
    script = tmp_path / "client.mjs"
    code += '\nconsole.log(await queue.ask("Ping").catch((error) => error.message));\n'
    script.write_text(code.replace("localhost:6790", f"127.0.0.1:{fresh.port}"))
    done = subprocess.run(
        [node, "--experimental-websocket", script], capture_output=True, text=True, timeout=90, check=False
    )
    if "bad option" in done.stderr:
        pytest.skip("a Node without WebSocket")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["completed emails", "the connection is closed", "{ sent: true }"]


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
    await trio.sleep(1)
    assert [json.loads(event.body)["eventType"] for event in stream.take()[0]] == ["pulled", "drained"]
