"""What the disk holds and whether the server takes work: as the page and as the commands tell it."""

import json
import os
import socket
from typing import Any

import httpx
import msgspec
import pytest
import trio
from click.testing import CliRunner
from msgspec.structs import replace

from bunqueue_trio import errors
from bunqueue_trio.cli import main
from bunqueue_trio.cli import storage as cli
from bunqueue_trio.cli.remote import Refusal, accepted, at
from bunqueue_trio.config import MIB
from bunqueue_trio.pages import figures
from bunqueue_trio.pages.storage import shorter, storage
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.server_replies import StorageReply, StorageView
from bunqueue_trio.storage.store import Sampled, Space
from bunqueue_trio.testing.server import Bunqueue
from tests.operations.asked import answer_with
from tests.ui.site import Site

GIB = 1024 * MIB


def seen(bunqueue: Bunqueue) -> StorageView:
    return msgspec.json.decode(storage(bunqueue.server)[1], type=StorageReply).data


async def test_the_page_tells_sizes_growth_and_how_long_there_is_room(bunqueue: Bunqueue):
    server = bunqueue.server
    assert (seen(bunqueue).growth, seen(bunqueue).full_in) == (None, None)
    size, left = MIB, 10 * GIB
    server.store.space = lambda: Space(size, 0, left, 20 * GIB)  # type: ignore[method-assign]
    await server.shrinker.step()
    await server.note_minute()
    size, left = 31 * MIB, 5 * GIB
    await trio.sleep(30 * 60)
    await server.shrinker.step()
    told = seen(bunqueue)
    assert (told.file, told.disk_free, told.disk) == (31 * MIB, 5 * GIB, 20 * GIB)
    assert told.growth == 60 * MIB
    assert told.full_in == 30 * 60_000
    assert set(told.jobs) == {"waiting", "delayed", "waiting-children", "active", "completed", "failed"}


async def test_the_page_tells_since_when_the_disk_is_in_trouble(bunqueue: Bunqueue):
    server, journal = bunqueue.server, bunqueue.server.journal
    before = seen(bunqueue)
    assert (before.disk_full, before.error, before.since) == (False, None, None)
    server.store.space = lambda: Space(MIB, 0, 1, 20 * GIB)  # type: ignore[method-assign]
    await server.shrinker.step()
    told, now = seen(bunqueue), server.clock.now()
    assert told.disk_full
    assert told.since == now
    await trio.sleep(5)
    await server.shrinker.step()
    assert seen(bunqueue).since == told.since
    journal.failing, journal.failing_since = "FullError: disk is full", told.since - 7
    told = seen(bunqueue)
    assert (told.error, told.since) == ("FullError: disk is full", journal.failing_since)


async def test_the_page_tells_what_a_shorter_retention_would_free(bunqueue: Bunqueue):
    """A few of the ended jobs are looked at, whatever their number, and stand for the others."""
    server, core = bunqueue.server, bunqueue.server.core
    assert seen(bunqueue).shorter is None, "not known yet"
    for age in (2 * 86_400, 7200, 0):
        for _ in range(300):
            await core.execute(c.Push(queue="q", data=c.Raw(b'"%s"' % (b"x" * 1000))))
            pulled: Any = await core.execute(c.Pull(queue="q"))
            await core.execute(c.Ack(id=pulled.job.id))
        await trio.sleep(age)
    await server.sampler.step()
    told = {each.age // 3_600_000: each for each in seen(bunqueue).shorter or ()}
    assert list(told) == [1, 6, 24], "and nothing of what would free nothing"
    assert 590 <= told[1].jobs <= 610
    assert 290 <= told[24].jobs <= 310
    assert 290 * 1200 <= told[24].bytes <= 310 * 1300


async def test_what_is_not_kept_longer_anyway_is_not_said(bunqueue: Bunqueue):
    told = bunqueue.server.statistics()
    old = (Sampled(0, 10),) * 3
    for age, ages in ((None, 8), (86_400_000, 2)):
        figures = told.storage._replace(sampled=old, retention=told.storage.retention._replace(age_ms=age))
        assert len(shorter(replace(told, storage=figures)) or ()) == ages


async def test_what_takes_the_room_is_said_by_kind_and_by_queue(bunqueue: Bunqueue):
    core, server = bunqueue.server.core, bunqueue.server
    assert seen(bunqueue).kinds is None
    for queue, size, n in (("small", 10, 90), ("large", 10_000, 10)):
        for i in range(n):
            await core.execute(c.Push(queue=queue, data=c.Raw(b'"%s"' % (b"x" * size)), delay=None if i % 2 else 10**9))
    for n in range(40):
        await core.execute(c.Push(queue="ended", data=c.Raw(b'"%s"' % (b"x" * 1000))))
        pulled: Any = await core.execute(c.Pull(queue="ended"))
        await core.execute(
            c.Fail(id=pulled.job.id, error="no", unrecoverable=True) if n % 4 else c.Ack(id=pulled.job.id)
        )
    await server.sampler.step()
    await server.note_minute()
    told = seen(bunqueue)
    kinds = {each.kind: each for each in told.kinds or ()}
    assert list(kinds) == ["unfinished", "completed", "failed", "events"]
    assert [each.jobs for each in kinds.values()] == [100, 10, 30, None]
    assert 100_000 + 100 * 200 <= kinds["unfinished"].bytes <= 103_000 + 100 * 200
    assert 10 * 1200 <= kinds["completed"].bytes <= 10 * 1300
    assert 30 * 1200 <= kinds["failed"].bytes <= 30 * 1300
    assert kinds["events"].bytes > 100_000
    queues = told.queues or []
    assert [each.queue for each in queues] == ["large", "ended", "small"]
    assert 100_000 <= queues[0].unfinished <= 103_000
    assert (queues[0].ended, queues[1].unfinished) == (0, 0)
    assert 48_000 <= queues[1].ended <= 52_000


TOLD: dict[str, Any] = {
    "diskFull": False, "error": None, "since": None, "file": 31 * MIB, "free": 0, "log": 2048, "diskFree": 5 * GIB,
    "disk": 20 * GIB, "growth": 60 * MIB, "fullIn": 1_800_000, "pending": 0, "shorter": None, "kinds": None, "queues": None, "damage": None, "backups": None, "upkeep": [],
    "jobs": {"waiting": 1200, "delayed": 0}, "retention": {
        "completedMax": 1000, "deadMax": None, "age": 86_400_000, "eventsMax": None, "eventsAge": None, "actionsMax": 100_000, "actionsAge": 365 * 86_400_000,
    },
}  # fmt: skip


def run(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], *arguments: str) -> tuple[int, str]:
    answer_with(monkeypatch, cli, lambda *_: answer)
    done = CliRunner().invoke(main, list(arguments))
    return done.exit_code, done.output


def test_the_command_says_it_in_words_or_as_it_is(monkeypatch: pytest.MonkeyPatch):
    code, out = run(monkeypatch, {"ok": True, "data": TOLD}, "storage")
    assert code == 0
    for words in (
        "state      takes changes\n", "disk       5.0 GiB of 20.0 GiB free, full in 30 min", "growth     60.0 MiB an hour\n",
        "jobs       1,200 waiting\n", "completed  kept: at most 1,000 and 1 d\n", "dead       kept: at most 1 d\n", "events     kept: all\n", "acts       kept: at most 100,000 and 365 d\n",
    ):  # fmt: skip
        assert words in out
    assert json.loads(run(monkeypatch, {"ok": True, "data": TOLD}, "storage", "--json")[1]) == TOLD
    more = TOLD | {"shorter": [{"age": 3 * 86_400_000, "jobs": 12_345, "bytes": 45 * MIB}]}
    out = run(monkeypatch, {"ok": True, "data": more}, "storage")[1]
    assert "shorter    RETENTION_AGE_MS=3d would free about 12,345 jobs, 45.0 MiB\n" in out
    more = TOLD | {
        "kinds": [{"kind": "unfinished", "jobs": 5, "bytes": 3 * MIB}, {"kind": "events", "jobs": None, "bytes": 0}],
        "queues": [{"queue": f"q-{n}", "unfinished": MIB, "ended": 2 * MIB} for n in range(9)],
    }
    out = run(monkeypatch, {"ok": True, "data": more}, "storage")[1]
    assert "takes      unfinished about 3.0 MiB\n" in out
    assert out.count("queue      q-") == 5
    assert "queue      q-0: about 1.0 MiB unfinished, 2.0 MiB ended\n" in out
    trouble = TOLD | {"diskFull": True, "since": 0, "disk": 0, "growth": None, "jobs": {}}
    out = run(monkeypatch, {"ok": True, "data": trouble}, "storage")[1]
    assert "nearly full since 1970" in out
    assert "jobs       none" in out
    out = run(monkeypatch, {"ok": True, "data": trouble | {"error": "disk\x1b is full"}}, "storage")[1]
    assert "refuses changes since 1970" in out
    assert "\x1b" not in out


@pytest.mark.parametrize(("status", "code"), [("healthy", 0), ("degraded", 1)])
def test_health_is_an_exit_code(monkeypatch: pytest.MonkeyPatch, status: str, code: int):
    told = {"ok": True, "status": status, "uptime": 90, "version": "1", "queues": {"waiting": 3}}
    assert run(monkeypatch, told, "health") == (code, f"{status}: up 1 min 30 s, version 1; 3 waiting\n")
    assert run(monkeypatch, told, "health", "--json") == (code, json.dumps(told) + "\n")


async def test_who_answers_and_leads_is_said(bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch):
    """Of a queue in a database the term, too, and where servers that wait reach it."""
    server = bunqueue.server
    server.addresses, server.link, server.doors.wanted = ["0.0.0.0:6790"], "10.0.0.7:6791", 2
    monkeypatch.setattr(server.store, "term", 3, raising=False)
    told = json.loads(figures.tasks(server)[1])
    here, since = f"{socket.gethostname()} process {os.getpid()}", server.started_at
    assert told["server"] == {
        "host": socket.gethostname(), "process": os.getpid(), "addresses": ["0.0.0.0:6790"], "since": since, "term": 3,
        "link": "10.0.0.7:6791", "leads": True,
    }  # fmt: skip
    health = json.loads(figures.health(server)[1])
    pages = {"/tasks": told, "/health": health, "/storage": {"ok": True, "data": TOLD}}
    answer_with(monkeypatch, cli, lambda *call: pages[call[3]])
    said = CliRunner().invoke(main, ["health"]).output.splitlines()[1]
    assert said == (
        f"{here}, at {socket.gethostname()}:6790 and any other address of that machine; leads (term 3) since {at(since)}; servers that wait reach it at 10.0.0.7:6791; 0 of 2 doors"
    )
    page = await Site(bunqueue).get("/ui/server")
    assert page.said("Leads since 2023-11-14 22:13:20+00:00, term 3")
    assert page.said(f"Host and process {socket.gethostname()}, {os.getpid()}")
    assert page.said(f"Clients reach it at {socket.gethostname()}:6790 and any other address of that machine")
    assert page.said("Servers that wait reach it at 10.0.0.7:6791")


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ({}, ""), ({"diskFull": True}, "its disk: nearly full since 1970"),
        ({"error": "disk is full"}, "its disk: refuses changes since 1970"),
        ({"damage": "malformed"}, "its disk: takes changes; the file is damaged since 1970-01-01 00:00:00+00:00: malformed"),
        ({"damage": "malformed", "error": "disk is full"}, "refuses changes since 1970-01-01 00:00:00+00:00: disk is full; the file is damaged: malformed"),
    ],
)  # fmt: skip
async def test_health_says_that_the_disk_is_nearly_full_though_all_else_is_well(
    bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch, trouble: dict[str, Any], words: str
):
    """The jobs that are there are still worked on, so the exit code does not have the server restarted."""
    health = {"ok": True, "status": "healthy", "uptime": 90, "version": "1", "queues": {"waiting": 3}}
    tasks, disk = json.loads(figures.tasks(bunqueue.server)[1]), TOLD | {"since": 0 if trouble else None} | trouble
    pages = {"/tasks": tasks, "/health": health, "/storage": {"ok": True, "data": disk}}
    answer_with(monkeypatch, cli, lambda *call: pages[call[3]])
    done = CliRunner().invoke(main, ["health"])
    assert (done.exit_code, "its disk" in done.output, words in done.output) == (0, bool(trouble), True)
    assert json.loads(CliRunner().invoke(main, ["health", "--json"]).output)["diskFull"] is disk["diskFull"]
    assert json.loads(CliRunner().invoke(main, ["health", "--json"]).output)["damage"] == disk["damage"]


@pytest.mark.parametrize("fault", [errors.STORAGE_DOWN, errors.STORAGE_FULL], ids=lambda fault: fault.code)
def test_a_command_that_the_disk_refuses_says_where_to_look(fault: errors.Fault):
    response = httpx.Response(503, json={"ok": False, "error": fault.message})
    with pytest.raises(Refusal, match="`bunqueue-trio storage`"):
        accepted("localhost", response, response.content)


def test_health_needs_no_token_and_asks_an_older_server_for_nothing(monkeypatch: pytest.MonkeyPatch):
    health = {"ok": True, "status": "healthy", "uptime": 90, "version": "1", "queues": {"waiting": 3}}

    def answer(*call: Any) -> dict[str, Any]:
        if call[3] == "/tasks":
            raise Refusal("Unauthorized", 401)
        return health

    answer_with(monkeypatch, cli, answer)
    done = CliRunner().invoke(main, ["health"])
    assert (done.exit_code, done.output.count("\n")) == (0, 1)


def test_a_command_that_meets_damage_says_where_to_look():
    said = {"ok": False, "error": errors.STORAGE_DAMAGED.message, "code": errors.STORAGE_DAMAGED.code}
    response = httpx.Response(503, json=said)
    with pytest.raises(Refusal, match="`bunqueue-trio findings`"):
        accepted("localhost", response, response.content)


async def test_the_page_and_the_dashboard_tell_of_a_damaged_file(bunqueue: Bunqueue):
    assert (seen(bunqueue).damage, seen(bunqueue).since) == (None, None)
    bunqueue.server.store.damage = "table trail: malformed"  # type: ignore[misc]
    since = bunqueue.server.clock.now()
    told = seen(bunqueue)
    assert (told.damage, told.since, told.error) == ("table trail: malformed", since, None)
    await trio.sleep(2)
    assert seen(bunqueue).since == since
    for path in ("/ui", "/ui/storage"):
        page = await Site(bunqueue).get(path)
        assert page.said("The file is damaged")
        assert page.said("table trail: malformed")


WORK = {
    "kind": "backup", "state": "planned", "bytes": 3 * MIB, "done": 0, "total": 0, "file": "/b/q-20261130T020709Z.db", "room": GIB,
    "drops": ["q-20261101T020709Z.db"], "who": None, "startedAt": None, "endedAt": None, "error": None, "findings": [],
}  # fmt: skip


def upkeep(monkeypatch: pytest.MonkeyPatch, end: dict[str, Any], *words: str) -> tuple[int, str, list[Any]]:
    """Run a command of a server that has done half of it at the first look, and all at the second."""
    begun = WORK | {"kind": words[0], "state": "running", "startedAt": 5}
    looks = iter(({"done": 1, "total": 2}, {"state": "done", **end}))
    asked: list[Any] = []

    def answer(url: str, token: str | None, method: str, target: str, body: Any = None) -> dict[str, Any]:
        asked.append((method, target, body))
        if method == "GET":
            return {"ok": True, "data": TOLD | {"upkeep": [WORK | {"kind": "x", "startedAt": 5}, begun | next(looks)]}}
        return {"ok": True, "work": WORK | {"kind": words[0]} if body else begun}

    answer_with(monkeypatch, cli, answer)
    monkeypatch.setattr(cli, "POLL_S", 0)
    done = CliRunner().invoke(main, ["storage", *words])
    return done.exit_code, done.output, asked


def test_a_copy_is_waited_for_and_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch):
    code, out, asked = upkeep(monkeypatch, {"bytes": 2 * MIB}, "backup", "--yes")
    assert code == 0
    assert out.splitlines() == [
        "It begins: at most 3.0 MiB to be written.", "50 % of 3.0 MiB written.", "2.0 MiB in /b/q-20261130T020709Z.db.",
    ]  # fmt: skip
    posts = [("POST", "/storage/backup", b'{"dryRun":true}'), ("POST", "/storage/backup", None)]
    assert [(method, target, body or None) for method, target, body in asked[:2]] == posts


def test_what_is_only_tried_says_what_would_be_done(monkeypatch: pytest.MonkeyPatch):
    code, out, asked = upkeep(monkeypatch, {}, "backup", "--dry-run")
    assert (code, len(asked)) == (0, 1)
    assert out == (
        "At most 3.0 MiB would be written to /b/q-20261130T020709Z.db. Its disk has 1.0 GiB left. "
        "When it is whole 1 older copy would be deleted: q-20261101T020709Z.db.\n"
    )
    assert upkeep(monkeypatch, {}, "check", "--dry-run")[1] == "All of the file and its log, 3.0 MiB, would be read.\n"
    assert upkeep(monkeypatch, {}, "shrink", "--dry-run")[1] == "About 3.0 MiB would be given back to the disk.\n"
    assert upkeep(monkeypatch, {}, "shrink")[0] == 2, "there is nobody to ask"


def test_who_does_not_wait_hears_that_it_has_begun(monkeypatch: pytest.MonkeyPatch):
    code, out, asked = upkeep(monkeypatch, {}, "shrink", "--yes", "--detach")
    assert (code, out, len(asked)) == (0, "It begins: at most 3.0 MiB to be given back to the disk.\n", 2)


def test_what_fails_or_is_found_is_exit_code_1(monkeypatch: pytest.MonkeyPatch):
    code, out, _ = upkeep(monkeypatch, {"state": "failed", "error": "no room"}, "backup", "--yes")
    assert (code, out.splitlines()[-1]) == (1, "bunqueue-trio: It has failed: no room.")
    code, out, _ = upkeep(monkeypatch, {"findings": ["table job: torn", "b"]}, "check", "--yes")
    assert (code, out.splitlines()[-1]) == (1, "table job: torn; b")
    code, out, _ = upkeep(monkeypatch, {}, "check", "--yes")
    assert (code, out.splitlines()[-1]) == (0, "Nothing is wrong with 3.0 MiB.")
    code, out, _ = upkeep(monkeypatch, {"startedAt": 6}, "check", "--yes")
    assert code == 1
    assert "was started anew meanwhile" in out


def test_the_command_says_when_the_newest_copy_was_made(monkeypatch: pytest.MonkeyPatch):
    there = {"directory": "/b", "kept": 7, "copies": 2, "lastAt": 0, "lastBytes": 5, "error": None}
    for backups, said in (
        (there, f"2 copies in /b, at most 7 are kept. The newest is of {at(0)}."),
        (there | {"copies": 0, "lastAt": None}, "0 copies in /b, at most 7 are kept."),
        (there | {"error": "there is no such directory", "lastAt": None}, "BACKUP_DIR /b: there is no such directory."),
        (there | {"directory": None, "lastAt": None}, "BACKUP_DIR names no directory for copies."),
    ):  # fmt: skip
        out = run(monkeypatch, {"ok": True, "data": TOLD | {"backups": backups}}, "storage")[1]
        assert f"backups    {said}\n" in out
    work = WORK | {"state": "done", "startedAt": 5, "bytes": 5}
    out = run(monkeypatch, {"ok": True, "data": TOLD | {"upkeep": [work]}}, "storage")[1]
    assert "backup     5 B in /b/q-20261130T020709Z.db.\n" in out
