"""Addresses in each spelling: what is none is a ``ValueError`` in words where it is given, to clients, workers and the command line alike."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from click.testing import CliRunner

from bunqueue_trio import App, Client, Worker
from bunqueue_trio.cli import main
from bunqueue_trio.client.connection import address_of
from bunqueue_trio.sync import SyncClient
from tests.client.loops import on_both
from tests.operations.processes import Running, bunqueue, serving
from tests.protocol.test_spelled_addresses import NONE, SOME

KINDS: list[Callable[..., object]] = [Client, SyncClient, App, lambda url=None: Worker("q", url)]


def commands(flags: list[str], env: dict[str, str]) -> list[str]:
    """What a few commands say, whose end is to be that of wrong usage."""
    said = []
    for command in (["stats"], ["jobs", "q"], ["schedules", "list"], ["worker", "x:y"]):
        done = CliRunner().invoke(main, [*command, *flags], env=env)
        assert done.exit_code == 2, (command, done.output)
        said.append(done.output)
    return said


@pytest.mark.parametrize("url", NONE, ids=ascii)
def test_what_is_no_address_says_why_where_it_is_given(url: Any, monkeypatch: pytest.MonkeyPatch):
    for kind in KINDS:
        with pytest.raises(ValueError, match=NONE[url]) as caught:
            kind(url)
        assert "secret" not in str(caught.value)
        assert str(caught.value).isprintable()
    if not isinstance(url, str):
        return
    for said in commands(["--url", url], {}):
        assert NONE[url] in " ".join(said.split())
        assert "secret" not in said
    if "\x00" not in url:
        monkeypatch.setenv("BUNQUEUE_URL", url)
        for kind in KINDS:
            with pytest.raises(ValueError, match=f"BUNQUEUE_URL: .*{NONE[url]}"):
                kind()


@pytest.mark.parametrize("url", SOME, ids=ascii)
def test_every_spelling_is_one_for_all(url: str, monkeypatch: pytest.MonkeyPatch):
    for kind in KINDS:
        kind(url)
    address = address_of(url, None, None)
    assert address.path == (SOME[url].removeprefix("unix:") if SOME[url].startswith("unix:") else None)
    monkeypatch.setenv("BUNQUEUE_URL", url)
    for kind in KINDS:
        kind()


@pytest.mark.parametrize("url", [None, ""])
def test_nothing_that_is_said_is_the_environment(url: str | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BUNQUEUE_URL", "ws://there:1")
    assert Worker("q", url).url == "ws://there:1"
    monkeypatch.setenv("BUNQUEUE_URL", "")
    assert Worker("q", url).url == "ws://localhost:6790"


# --- over real sockets ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def both_families(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(
        tmp_path_factory.mktemp("spelled"), env={"HOST": "::"}, ready=lambda running: "listening" in running.log
    ) as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize(
    "host",
    [
        "LOCALHOST",
        "localho\N{FULLWIDTH LATIN SMALL LETTER S}t",
        "[::1]",
        "[0:0::1]",
        "[::ffff:127.0.0.1]",
        "127.1",
    ],
)
@on_both
async def test_each_spelling_leads_there(both_families: Running, host: str):
    for url in (f"Ws://{host}:{both_families.port}/ws", f"{host}:{both_families.port}"):
        async with Client(url, patience=20) as client:
            await client.ping()
        with SyncClient(url) as sync:
            await anyio.to_thread.run_sync(sync.ping)
        assert (await anyio.to_thread.run_sync(bunqueue, "stats", "--url", url)).code == 0


@pytest.mark.slow
def test_a_worker_of_a_module_says_what_is_wrong_with_the_address_of_the_environment(tmp_path: Path):
    (tmp_path / "work.py").write_text("from bunqueue_trio import Worker\nworker = Worker('q')\nworker.handler(print)\n")
    done = bunqueue("worker", "work:worker", env={"BUNQUEUE_URL": "x:0"}, cwd=tmp_path)
    assert done.code == 1
    assert "BUNQUEUE_URL: 'x:0' has no port from 1 to 65535 behind its colon" in done.err
