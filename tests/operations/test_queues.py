"""The commands about queues: what they print, and what they let a server do."""

import json
import time
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from bunqueue_trio.cli import main, queues, remote
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.queue_replies import RateView
from tests.operations.asked import answer_with
from tests.operations.processes import Done, Running, bunqueue, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("queues"), env={"AUTH_TOKENS": "secret"}) as running:
        yield running


def test_a_queue_shows_how_it_treats_its_jobs_and_who_has_said_so(server: Running):
    shown = ask(server, "queue", "set")
    assert (shown.code, shown.err) == (0, "set: there is no such queue\n")
    rows = {line.split()[1]: line.split()[2:] for line in shown.out.splitlines()}
    assert rows["maxAttempts"] == ["3", "default"]
    assert rows["concurrency"] == ["no", "limit", "default"]
    ask(server, "limit", "set", "7", "--rate", "100/60s")
    limited = " ".join(ask(server, "queue", "set").out.split())
    assert "limits concurrency 7 set by token at 20" in limited
    assert "limits rateLimit 100 in 1 min set by token at 20" in limited
    ask(server, "limit", "set", "none", "--rate", "none")
    shown = ask(server, "queue", "set", "--set", "maxAttempts=5", "--set", "timeout=30s", "--set", "maxStalls=1")
    rows = {line.split()[1]: line.split()[2:] for line in shown.out.splitlines()}
    assert rows["maxAttempts"][:4] == ["5", "set", "by", "token"]
    assert (rows["timeout"][:3], rows["maxStalls"][:2]) == (["30", "s", "set"], ["1", "set"])
    shown = ask(server, "queue", "set", "--set", "timeout=none", "--reset", "stalls", "--json")
    told = json.loads(shown.out)
    assert (told["defaults"]["set"], told["stalls"]["set"], told["defaults"]["values"]["maxAttempts"]) == (
        ["maxAttempts"],
        [],
        5,
    )
    for wrong in ("attempts=5", "maxAttempts", "timeout=soon", "enabled=perhaps"):
        done = ask(server, "queue", "set", "--set", wrong)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), wrong


def ask(server: Running, *arguments: str, token: str = "secret") -> Done:
    return bunqueue(*arguments, env={"BUNQUEUE_URL": server.url, "BUNQUEUE_TOKEN": token})


@pytest.mark.slow
def test_a_queue_is_paused_shown_and_resumed(server: Running):
    assert ask(server, "push", "emails", "1").code == 0
    done = ask(server, "pause", "emial")
    assert (done.out, done.err) == (
        "emial: paused\n",
        "emial: there is no such queue yet; jobs that come to it will wait; do you mean emails?\n",
    )
    assert ask(server, "resume", "emial").code == 0
    done = ask(server, "pause", "emails", "--reason", "mail\x1b[2J is down", "--until", "2h")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("emails: paused until 20")
    shown = ask(server, "queues").out
    heads, *rows = shown.splitlines()
    assert heads.split() == ["queue", *" ".join(queues.COLUMNS).split()]
    (row,) = [row for row in rows if row.startswith("emails ")]
    assert row.split()[1:7] == ["1", "0", "0", "0", "0", "0"]
    assert "is down" in row
    assert "\x1b" not in shown
    (seen,) = [json.loads(line) for line in ask(server, "queues", "emails", "--json").out.splitlines()]
    assert (seen["name"], seen["paused"], seen["counts"]["waiting"]) == ("emails", True, 1)
    assert 7_000_000 < seen["pause"]["until"] - seen["pause"]["since"] <= 7_200_000
    assert ask(server, "resume", "emails").out == "emails: resumed\n"
    assert not json.loads(ask(server, "queues", "emails", "--json").out)["paused"]


@pytest.mark.slow
def test_a_queue_is_limited_and_not(server: Running):
    assert ask(server, "limit", "few", "2").out == "few: 2 at once, 0 now; any rate\n"
    assert json.loads(ask(server, "queues", "few", "--json").out)["concurrency"] == 2
    assert ask(server, "limit", "few", "--rate", "100/60s").out == "few: 2 at once, 0 now; 100 deliveries in 1 min\n"
    assert "100/1m" in ask(server, "queues", "few").out
    assert ask(server, "limit", "few", "any", "--rate", "any").out == "few: any number at once, 0 now; any rate\n"


@pytest.mark.slow
def test_what_is_refused_is_one_line(server: Running):
    for arguments, code, complaint in (
        (("pause", "a b"), 1, "Queue name contains invalid characters (400)"),
        (("pause", "q", "--until", "2001-01-01"), 1, "until must be later than now (400)"),
        (("pause", "q", "--until", "soon"), 2, "'soon' must be a time from now"),
        (("resume", "q q"), 1, "invalid characters (400)"),
        (("limit", "q", "0"), 1, "concurrency must be at least 1 (400)"),
        (("limit", "q", "-1"), 2, "'-1' must be a number from 1 on, or `none` for no limit"),
        (("limit", "q", "x"), 2, "'x' must be a number from 1 on"),
        (("limit", "q", "--most", "5"), 2, "unexpected extra argument"),
        (("limit", "q", "--rate", "5"), 2, "'5' must be a number for a time, such as 100/60s"),
        (("limit", "q", "--rate", "100/60"), 2, "'100/60' must be a number for a time"),
        (("pause", "q", "--until", "30"), 2, "'30' needs a unit: 30ms or 30s?"),
        (("limit", "q", "--rate", "x/1s"), 2, "'x/1s' must be a number for a time"),
        (("limit", "q", "--rate", "0/1s"), 1, "limit must be at least 1 (400)"),
        (("queues", "q q"), 1, "invalid characters (400)"),
    ):
        done = ask(server, *arguments)
        assert (done.code, done.out, done.err.count("\n")) == (code, "", 1)
        assert complaint in done.err
    for command in (("queues",), ("pause", "q"), ("resume", "q")):
        assert "Unauthorized (401)" in ask(server, *command, token="wrong").err


def test_a_time_is_from_now_or_a_date():
    read = queues.Moment().convert
    assert [read(text, None, None) for text in ("10m", "0", "1893456000000")] == [
        (600_000, True), (0, True), (1_893_456_000_000, False),
    ]  # fmt: skip
    assert read("2030-01-01T00:00:00Z", None, None) == (1_893_456_000_000, False)
    local = round(time.mktime((2030, 6, 1, 8, 30, 0, 0, 0, -1)) * 1000)
    assert read("2030-06-01T08:30", None, None) == (local, False)
    for bad in ("", "soon", "2030-13-01", "600", "2030", "1.5"):
        with pytest.raises(click.BadParameter):
            read(bad, None, None)


def test_a_rate_is_a_number_for_a_time():
    read = queues.PerTime().convert
    assert [read(text, None, None) for text in ("100/60s", "5/h", "1/500ms", "any")] == [
        (100, 60_000), (5, 3_600_000), (1, 500), "any",
    ]  # fmt: skip
    assert [queues._per_time(rate) for rate in (None, RateView(1500, 3_600_000))] == [
        "; any rate", "; 1,500 deliveries in 1 h",
    ]  # fmt: skip


def test_the_help_explains_every_column():
    shown = CliRunner().invoke(main, ["queues", "--help"]).output
    assert [name for name in queues.COLUMNS if f"\n  {name:<18}" not in shown] == []


def test_queues_come_page_by_page(monkeypatch: pytest.MonkeyPatch):
    answers = [{"details": [{"name": "a&b"}], "next": "a&b"}, {"details": [{"name": "c"}], "next": None}]
    pages = iter(answers)
    asked: list[str] = []
    answer_with(monkeypatch, remote, lambda *call: (asked.append(call[-1]), next(pages))[1])
    found = [page.details for page in remote.pages("url", None, c.ListQueues, details=True)]
    assert [[each.name for each in details or ()] for details in found] == [["a&b"], ["c"]]
    assert asked == ["/queues?details=true", "/queues?details=true&after=a%26b"]


def test_a_moment_later_than_any_calendar_is_a_number():
    assert remote.at(2**53) == f"{2**53} ms"


def test_who_keeps_fewer_dead_letters_is_asked_before_they_are_deleted(server: Running):
    with server.client(headers={"Authorization": "Bearer secret"}) as client:
        for n in range(5):
            job = client.post("/queues/graves/jobs", json={"data": n, "maxAttempts": 1}).json()["id"]
            client.get("/queues/graves/jobs")
            client.post(f"/jobs/{job}/fail", json={"error": "dead"})
        refused = ask(server, "queue", "graves", "--set", "maxEntries=3")
        assert (refused.code, refused.out) == (2, "")
        assert "graves: delete 2 dead letters for good: there is nobody to ask; say --yes" in refused.err
        refused = ask(server, "queue", "graves", "--set", "maxAge=1ms")
        assert "delete 5 dead letters for good" in refused.err
        assert client.get("/queues/graves/dlq").json()["total"] == 5
        assert client.get("/queues/graves/dlq-config").json()["set"] == []
        assert ask(server, "queue", "graves", "--set", "maxEntries=5").code == 0
        assert ask(server, "queue", "graves", "--set", "maxEntries=3", "--yes").code == 0
        assert client.get("/queues/graves/dlq-config").json()["set"] == ["maxEntries"]


def test_who_keeps_dead_letters_for_less_long_hears_of_all_that_go(server: Running):
    """However many pages of the server's answers they are."""
    with server.client(headers={"Authorization": "Bearer secret"}) as client:
        for _ in range(3):
            client.post("/queues/yard/jobs/bulk", json={"jobs": [{"data": 1, "maxAttempts": 1}] * 400})
            jobs = client.post("/queues/yard/jobs/pull-batch", json={"count": 400}).json()["jobs"]
            client.post("/jobs/fail-batch", json={"failures": [{"id": job["id"], "error": "dead"} for job in jobs]})
        assert client.get("/queues/yard/dlq").json()["total"] == 1200
        assert "delete 1,200 dead letters" in ask(server, "queue", "yard", "--set", "maxAge=1ms").err


def test_a_time_of_a_setting_says_its_unit(server: Running):
    refused = ask(server, "queue", "emails", "--set", "timeout=30")
    assert (refused.code, "timeout=30: needs a unit: 30ms or 30s?" in refused.err) == (2, True)


@pytest.mark.parametrize("said", ["maxAttempts=5000", "timeout=900d", "gracePeriod=2d", "maxEntries=-1"])
def test_a_dry_run_of_settings_refuses_what_the_server_would(server: Running, said: str):
    words = "queue", "strict", "--set", "ttl=1h", "--set", said, "--yes"
    dry, done = ask(server, *words, "--dry-run"), ask(server, *words)
    assert (dry.code, dry.out, done.code, done.out) == (1, "", 1, "")
    why = dry.err.removeprefix("bunqueue-trio: ").strip()
    assert " must be " in why
    assert why in done.err


def test_a_dry_run_of_settings_asks_the_server():
    dry = bunqueue("queue", "q", "--set", "ttl=1h", "--dry-run", env={"BUNQUEUE_URL": "http://127.0.0.1:1"})
    assert (dry.code, dry.out) == (1, "")
    assert "127.0.0.1:1" in dry.err
