"""Schedules that are declared beside the handlers, and what becomes of them at a deploy."""

import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner

from bunqueue_trio import commands as c
from bunqueue_trio.cli import main
from bunqueue_trio.cli.worker import OF_ANOTHER, told_of
from bunqueue_trio.client import App, Client, Job, Refused
from bunqueue_trio.client.declared import Synced
from bunqueue_trio.engine import putting
from bunqueue_trio.sync import SyncClient
from bunqueue_trio.testing import Bunqueue
from tests.client.loops import on_both
from tests.client.test_real_server import ws
from tests.wire.server import Server


def app_of(bunqueue: Bunqueue, **options: Any) -> App:
    return App(connect=bunqueue._place.connect, random=bunqueue.random, **options)


async def test_a_declared_schedule_brings_jobs_to_its_handler(bunqueue: Bunqueue, nursery: Any):
    app, seen = app_of(bunqueue), list[Any]()

    @app.task(every=60, data={"kind": "daily"}, overlap="allow", options=c.RunOptions(priority=1))
    async def reports(job: Job) -> None:
        seen.append((job.queue, job.data, job.id.partition("@")[0]))
        app.stop()

    assert await app.sync() == Synced(["reports"], [], [], [])
    assert await app.sync() == Synced([], [], ["reports"], [])
    await app.run()
    assert seen == [("reports", {"kind": "daily"}, "reports")]


async def test_what_is_not_declared_any_more_is_named_and_goes_on(bunqueue: Bunqueue):
    before, after, other = app_of(bunqueue), app_of(bunqueue), app_of(bunqueue, name="other")
    for name in ("a", "b", "c"):
        before.schedule(name, "q", cron="0 3 * * *", timezone="Europe/Berlin")
    other.schedule("d", "q", every=3600)
    assert (await before.sync()).created == ["a", "b", "c"]
    assert (await other.sync()).left == []
    after.schedule("b", "q", cron="0 4 * * *", timezone="Europe/Berlin")
    after.schedule("c", "q", cron="0 3 * * *", timezone="Europe/Berlin")
    assert await after.sync() == Synced([], ["b"], ["c"], ["a"])
    assert (await bunqueue.client.run(c.GetSchedule(name="a"))).schedule.state == "active"


async def test_all_are_put_or_none_and_it_is_said_which_one_is_wrong(bunqueue: Bunqueue):
    app = app_of(bunqueue)
    app.schedule("good", "q", every=3600)
    app.schedule("bad", "q", cron="0 25 * * *")
    with pytest.raises(Refused, match=r"^schedule bad: cron must be") as refused:
        await app.sync()
    assert (refused.value.status, refused.value.code) == (400, "no-cron")
    assert (await bunqueue.client.run(c.ListSchedules())).schedules == []


async def test_a_schedule_changes_its_owner_only_if_that_is_said(bunqueue: Bunqueue):
    mine, theirs = app_of(bunqueue), app_of(bunqueue, name="theirs")
    mine.schedule("new", "q", every=60)
    for app in (mine, theirs):
        app.schedule("s", "q", every=3600)
    await theirs.sync()
    with pytest.raises(
        Refused, match=r"^schedule s is declared by the app 'theirs', and this one is called 'app'$"
    ) as refused:
        await mine.sync()
    assert (refused.value.status, refused.value.code) == (409, "declared-elsewhere")
    assert [each.name for each in (await bunqueue.client.run(c.ListSchedules())).schedules] == ["s"]
    assert await mine.sync(take_over=True) == Synced(["new"], ["s"], [], [], {"s": "theirs"})
    assert (await bunqueue.client.run(c.GetSchedule(name="s"))).schedule.source == mine.name
    assert (await mine.sync()).taken == {}


async def test_one_that_was_put_by_hand_is_taken_and_reported(bunqueue: Bunqueue):
    await bunqueue.client.run(c.PutSchedule(name="s", queue="q", every=3_600_000))
    app = app_of(bunqueue)
    app.schedule("s", "q", every=3600)
    synced = await app.sync()
    assert (synced.changed, synced.taken) == (["s"], {"s": None})
    assert told_of(app, synced)[1] == f"s: was put by hand, and is {app.name}'s now"


async def test_none_is_put_where_there_is_no_room_for_all(bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch):
    """A dry run of each by itself would say yes."""
    monkeypatch.setattr(putting, "SCHEDULES_MAX", 3)
    await bunqueue.client.run(c.PutSchedule(name="there", queue="q", every=1000))
    app = app_of(bunqueue)
    for name in ("there", "a", "b", "c"):
        app.schedule(name, "q", every=3600)
    with pytest.raises(Refused, match=r"^schedule c: There would be more than 3 schedules$") as refused:
        await app.sync()
    assert (refused.value.status, refused.value.code) == (409, "too-many-schedules")
    [there] = (await bunqueue.client.run(c.ListSchedules())).schedules
    assert (there.name, there.every) == ("there", 1000)
    del app.schedules["c"]
    assert (await app.sync()).created == ["a", "b"]


async def test_who_is_overtaken_learns_how_many_were_put(bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch):
    app = app_of(bunqueue)
    for name in ("a", "b"):
        app.schedule(name, "q", every=3600)
    run, put = Client.run, list[str]()

    async def refuse(client: Client, command: Any) -> Any:
        if isinstance(command, c.PutSchedule) and not command.dry_run:
            put.append(command.name)
            if command.name == "b":
                raise Refused(409, "no room", "too-many-schedules")
        return await run(client, command)

    monkeypatch.setattr(Client, "run", refuse)
    with pytest.raises(Refused, match=r"^schedule b: no room; 1 were put before$"):
        await app.sync()


async def test_more_than_a_page_of_schedules_is_looked_at(bunqueue: Bunqueue):
    app = app_of(bunqueue)
    for n in range(103):
        app.schedule(f"s{n:03}", "q", every=3600)
    assert len((await app.sync()).created) == 103
    assert len((await app_of(bunqueue).sync()).left) == 103


async def test_what_the_server_does_not_take_is_raised(bunqueue: Bunqueue):
    app = app_of(bunqueue)
    app.schedule("s", "q", cron="never")
    with pytest.raises(Refused, match="cron must be"):
        await app.sync()


def test_what_cannot_be_declared_says_so():
    app = App()
    app.task("q", name="s", every=5)(lambda job: None)
    with pytest.raises(ValueError, match="'s' is declared already"):
        app.schedule("s", "other", every=5)
    with pytest.raises(ValueError, match="'s' is declared already"):
        app.task("other", name="s", every=5)(lambda job: None)
    with pytest.raises(ValueError, match="'q' has a handler already"):
        app.task("q", name="t", every=5)(lambda job: None)
    assert list(app.schedules) == ["s"]
    with pytest.raises(TypeError, match="no option 'eachly'"):
        app.schedule("t", "q", eachly=5)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="start needs a zone"):
        app.schedule("t", "q", every=5, start=datetime(2030, 1, 1))  # noqa: DTZ001 - the point


MOMENT = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ({}, ValueError, "exactly one of cron, every, at says when it runs; jobs that are pushed have an @app.handler"),
        ({"every": 5, "cron": "@daily"}, ValueError, "exactly one of cron, every, at"),
        ({"every": 0}, ValueError, "every must be more than 0, not 0"),
        ({"every": -1.5}, ValueError, "every must be more than 0, not -1.5"),
        ({"every": float("inf")}, ValueError, "every must have an end"),
        ({"every": float("nan")}, ValueError, "every must be more than 0"),
        ({"every": "soon"}, ValueError, "every must be a time such as '60s', '5m' or '500ms', not 'soon'"),
        ({"every": "60"}, ValueError, "every must be a time with a unit"),
        ({"every": [5]}, TypeError, "every must be a number of seconds, or a time such as '60s', not [5]"),
        ({"every": True}, TypeError, "every must be a number of seconds"),
        ({"every": MOMENT}, TypeError, "every must be a number of seconds"),
        ({"every": 5, "jitter": -1}, ValueError, "jitter must be 0 or more, not -1"),
        ({"every": 5, "window": MOMENT.date()}, TypeError, "window must be a number of seconds"),
        (
            {"at": MOMENT.date()},
            TypeError,
            "at must be a datetime with a zone, such as datetime(2030, 1, 31, 9, tzinfo=UTC), not a date",
        ),
        ({"at": "2030-01-01"}, TypeError, "at must be a datetime with a zone"),
        ({"at": 1893456000}, TypeError, "not 1893456000"),
        ({"at": MOMENT.replace(tzinfo=None)}, TypeError, "at needs a zone, such as tzinfo=UTC"),
        (
            {"at": datetime(2027, 3, 28, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))},
            ValueError,
            "at: there is no 02:30 on 2027-03-28 in Europe/Berlin, where the clock goes forward then",
        ),
        ({"every": 5, "end": timedelta(days=1)}, TypeError, "end must be a datetime with a zone"),
        ({"cron": 5}, TypeError, "cron must be a text such as '0 3 * * *', not 5"),
        ({"cron": "@daily", "timezone": UTC}, TypeError, "timezone must be a text such as 'Europe/Berlin'"),
        ({"every": 5, "limit": 0}, ValueError, "limit must be at least 1"),
        ({"every": 5, "misfire_max": 5}, ValueError, "misfire_max needs misfire all"),
        (
            {"every": 5, "window": "20s"},
            ValueError,
            "window lets no slot run that was missed, for one up to 60 s late is in time: that is misfire skip",
        ),
        ({"every": 5, "window": "2m", "jitter": "1m"}, ValueError, "for one up to 120 s late is in time"),
        ({"every": 5, "window": "2h", "misfire": "skip"}, ValueError, "window has no effect with misfire skip"),
        ({"every": 5, "misfire_max": 1.5}, TypeError, "misfire_max must be a whole number"),
        ({"every": 5, "misfire": "never"}, ValueError, "misfire must be one of skip, once, all, not 'never'"),
        ({"every": 5, "overlap": ["skip"]}, ValueError, "overlap must be one of allow, skip, queue, cancel"),
        ({"every": 5, "options": {"priority": 1}}, TypeError, "options must be RunOptions of bunqueue_trio.commands"),
        ({"every": 5, "data": object()}, TypeError, "Encoding objects of type object is unsupported"),
        ({"every": 5, "data": {"kinds": {"a", "b"}}}, TypeError, "a set has another order in each process"),
        ({"every": 5, "data": [1.5, float("nan")]}, ValueError, "JSON has no number nan, and None for null"),
        ({"every": 5, "queue": None}, TypeError, "its queue must be a text, not None"),
    ],
)
def test_what_is_wrong_with_a_schedule_is_said_where_it_is_declared(
    said: dict[str, Any], kind: type[Exception], words: str
):
    with pytest.raises(kind, match=f"^schedule 's': .*{re.escape(words)}"):
        App().schedule("s", **{"queue": "q", **said})
    app = App()
    if "queue" not in said:  # for which a task has another name
        with pytest.raises(kind, match=re.escape(words)):
            app.task("q", name="s", **said)(lambda job: None)
        assert (app.schedules, app.workers) == ({}, {})


@pytest.mark.parametrize("every", [90, 90.0, "90s", "1.5m", timedelta(minutes=1, seconds=30)])
def test_a_span_is_seconds_or_a_text_or_a_timedelta(every: Any):
    app = App()
    app.schedule("s", "q", every=every, jitter=timedelta(0), window=None, timezone=ZoneInfo("Europe/Berlin"))  # type: ignore[typeddict-item]
    command = app.schedules["s"].command
    assert (command.every, command.jitter, command.window, command.timezone) == (90_000, 0, None, "Europe/Berlin")


def test_times_are_seconds_and_datetimes():
    app = App(name="me")
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    app.schedule("s", "q", [1], every=0.5, start=moment, jitter=2, window=120, limit=3)
    command = app.schedules["s"].command
    assert (command.every, command.start, command.jitter, command.window) == (500, 1_893_456_000_000, 2000, 120_000)
    assert (command.source, bytes(command.data), command.limit) == ("me", b"[1]", 3)


def test_of_a_time_that_comes_twice_fold_says_which_one_is_meant():
    app, twice = App(), datetime(2027, 10, 31, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    app.schedule("first", "q", at=twice)
    app.schedule("second", "q", at=twice.replace(fold=1))
    first, second = (app.schedules[name].command.at or 0 for name in ("first", "second"))
    assert (first, second - first) == (1_824_942_600_000, 3_600_000)


@on_both
async def test_over_a_connection(server: Server, queue: str):
    app = App(ws(server), name=queue)
    app.schedule(queue, queue, every=3600)
    assert (await app.sync()).created == [queue]
    async with Client(ws(server)) as client:
        await client.run(c.DeleteSchedule(name=queue))


APP = """
from bunqueue_trio.client import App

app = App(name="deployed")
app.schedule("{name}", "q", every=3600)
other = 5
"""


def test_one_command_puts_what_is_declared(server: Server, queue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    module = f"declares_{queue.replace('-', '_').replace('.', '_')}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{module}.py").write_text(APP.format(name=queue))

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(main, ["schedules", "sync", *arguments, "--url", ws(server)])

    done = run(f"{module}:app")
    assert (done.exit_code, done.output.splitlines()) == (0, [f"{queue}: created"])
    assert run(f"{module}:app").output == f"{module}:app: 1 unchanged\n"
    (tmp_path / f"{module}.py").write_text(APP.format(name=queue + "-2"))
    del sys.modules[module]
    done = run(f"{module}:app")
    assert f"{queue}: deployed does not declare it any more; it goes on until `schedules delete {queue}`" in done.output
    assert "is no App" in run(f"{module}:other").output
    assert run(f"{module}:nobody").exit_code == 2
    (tmp_path / f"{module}.py").write_text(APP.format(name="a b"))
    del sys.modules[module]
    done = run(f"{module}:app")
    assert (done.exit_code, "schedule a b: Schedule name must be" in done.output) == (1, True)
    (tmp_path / f"{module}.py").write_text(APP.format(name=queue + "-2").replace("deployed", "another"))
    del sys.modules[module]
    done = run(f"{module}:app")
    assert (done.exit_code, done.output.strip()) == (
        1, f"bunqueue-trio: {module}:app: schedule {queue}-2 is declared by the app 'deployed', and this one is called 'another'{OF_ANOTHER}",
    )  # fmt: skip
    assert (
        f"{queue}-2: was declared by 'deployed', and is another's now; take it out of 'deployed'"
        in run(f"{module}:app", "--take-over").output
    )


WRONG = """
from bunqueue_trio.client import App

app = App()


def declare():
    app.schedule("s", "q", every=-1)


declare()
"""


@pytest.mark.parametrize("command", [("schedules", "sync"), ("worker",)])
def test_what_is_wrong_with_a_module_is_shown_where_it_is(
    queue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
):
    module = f"wrong_{queue.replace('-', '_').replace('.', '_')}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{module}.py").write_text(WRONG)
    done = CliRunner().invoke(main, [*command, f"{module}:app"])
    lines = done.stderr.splitlines()
    assert (done.exit_code, lines[0]) == (1, "Traceback (most recent call last):")
    assert [line for line in lines if "File" in line] == [
        f'  File "{tmp_path}/{module}.py", line 11, in <module>', f'  File "{tmp_path}/{module}.py", line 8, in declare',
    ]  # fmt: skip
    assert lines[-1] == f"bunqueue-trio: '{module}' cannot be imported: schedule 's': every must be more than 0, not -1"
    (tmp_path / f"{module}.py").write_text("import nowhere_at_all")
    done = CliRunner().invoke(main, [*command, f"{module}:app"])
    assert done.stderr.endswith(f"bunqueue-trio: '{module}' cannot be imported: No module named 'nowhere_at_all'\n")


WORKER = """
from bunqueue_trio.client import App

app = App(name="deployed")


@app.task("q", name="{name}", every=3600)
def work(job):
    pass
"""


@pytest.mark.parametrize("syncs", [True, False])
def test_a_worker_puts_what_is_declared_first_if_it_is_to(
    server: Server, queue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syncs: bool
):
    module = f"works_{queue.replace('-', '_').replace('.', '_')}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{module}.py").write_text(WORKER.format(name=queue))

    async def run(workers: Any) -> None:
        """End at once."""

    monkeypatch.setattr("bunqueue_trio.cli.worker.run_until_signal", run)
    flags = ["--sync"] if syncs else []
    command = ["worker", f"{module}:app", *flags, "--url", ws(server)]
    assert CliRunner().invoke(main, command).exit_code == 0
    with SyncClient(server.url) as client:
        put = client.run(c.PutSchedule(name=queue, queue="q", every=60_000, source="other"))
    assert put.outcome == ("changed" if syncs else "created")
    done = CliRunner().invoke(main, command)
    if not syncs:
        assert "--take-over needs --sync" in CliRunner().invoke(main, [*command, "--take-over"]).stderr
    else:
        assert done.stderr == (
            f"bunqueue-trio: schedule {queue} is declared by the app 'other', and this one is called 'deployed'{OF_ANOTHER}\n"
        )
        assert CliRunner().invoke(main, [*command, "--take-over"]).exit_code == 0
    with SyncClient(server.url) as client:
        assert client.run(c.GetSchedule(name=queue)).schedule.source == ("deployed" if syncs else "other")
