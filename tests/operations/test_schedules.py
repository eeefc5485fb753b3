"""The commands about schedules: what they print, and what they let a server do."""

import json
import re
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from bunqueue_trio.cli import main
from bunqueue_trio.engine import zones
from tests.operations.processes import Done, Running, bunqueue, serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("schedules"), env={"AUTH_TOKENS": "secret"}) as running:
        yield running


def env_of(server: Running) -> dict[str, str]:
    return {"BUNQUEUE_URL": server.url, "BUNQUEUE_TOKEN": "secret"}


def ask(server: Running, *arguments: str, token: str = "secret") -> Done:
    done = CliRunner().invoke(
        main, ["schedules", *arguments], env={"BUNQUEUE_URL": server.url, "BUNQUEUE_TOKEN": token}
    )
    return Done(done.exit_code, done.stdout, done.stderr)


def test_some_of_a_schedule_is_changed_and_none_takes_back(server: Running):
    ask(
        server,
        "put",
        "weekly",
        "reports",
        "1",
        "--cron",
        "0 3 * * MON",
        "--limit",
        "7",
        "--max-attempts",
        "5",
        "--window",
        "2h",
    )
    tried = ask(server, "change", "weekly", "--data", "2", "--dry-run")
    assert (tried.code, tried.out.splitlines()[1:]) == (0, ["  data: 1 → 2"])
    assert tried.out.startswith("would be changed: weekly")
    assert ask(server, "change", "weekly", "--data", "2").out.splitlines()[1:] == ["  data: 1 → 2"]
    assert ask(server, "change", "weekly", "--data", "2").out.startswith("unchanged: weekly")
    said = ask(server, "change", "weekly", "--limit", "none", "--window", "none", "--priority", "3", "--every", "1d")
    assert said.code == 0, said.err
    assert said.out.splitlines()[1:] == [
        "  cron: 0 3 * * MON → none", "  every: none → 1 d", "  limit: 7 → none", "  window: 2 h → none",
        "  options priority: none → 3",
    ]  # fmt: skip
    said = ask(server, "change", "weekly", "--max-attempts", "none", "--queue", "others")
    assert said.out.splitlines()[1:] == [
        "  queue: reports → others",
        "  options maxAttempts: 5 → none",
    ]
    for line, told in (
        (("change", "weekly"), "say what to change"), (("change", "weekly", "--window", "20s"), "lets no slot run that was missed"),
        (("change", "weekly", "--misfire-max", "3"), "--misfire-max needs --misfire all"),
    ):  # fmt: skip
        assert told in ask(server, *line).err, line
    for words in (("--every", "none"), ("--cron", "none"), ("--queue", "none")):
        assert ask(server, "change", "weekly", *words).code == 2, "nothing is the default of these"
    assert "do you mean weekly?" in ask(server, "change", "weakly", "--data", "2").err
    ask(server, "delete", "weekly")


def test_a_schedule_is_put_listed_shown_and_deleted(server: Running):
    put = (
        "put",
        "nightly",
        "reports",
        '{"n": 1}',
        "--cron",
        "0 3 * * *",
        "--timezone",
        "Europe/Berlin",
        "--jitter",
        "5m",
    )
    done = ask(server, *put, "--priority", "3", "--misfire", "all", "--misfire-max", "5")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("created: nightly  20")
    assert "0 3 * * * Europe/Berlin  reports  0 jobs by slots" in done.out
    assert ask(server, *put, "--priority", "3", "--misfire", "all", "--misfire-max", "5").out.startswith("unchanged: ")
    other = ("put", "nightly", "reports", '{"n": 2}', "--every", "90s", "--start", "2034-01-01T08:00Z", "--limit", "7")
    changed = ask(server, *other, "--misfire", "all", "--misfire-max", "5")
    assert changed.out.splitlines()[1:] == [
        '  data: {"n": 1} → {"n": 2}', "  cron: 0 3 * * * → none", "  timezone: Europe/Berlin → UTC", "  every: none → 90 s",
        "  start: none → 2034-01-01 08:00:00+00:00", "  limit: none → 7", "  jitter: 5 min → 0 ms", "  options priority: 3 → none",
    ]  # fmt: skip
    ask(server, *put, "--priority", "3", "--misfire", "all", "--misfire-max", "5")
    changed = ask(server, *put, "--priority", "3", "--misfire", "all").out
    assert "\n  misfireMax: 5 → 10\n" in changed
    assert changed.count("\n") == 2
    ask(server, *put, "--priority", "3", "--misfire", "all", "--misfire-max", "5")
    heads, listed = ask(server, "list").out.splitlines()
    assert heads.split() == ["name", "next", "when", "queue", "by", "slots"]
    assert [*listed.split(), "jobs", "by", "slots"] == done.out.removeprefix("created: ").split()
    job_id = ask(server, "run", "nightly").out.strip()
    assert job_id.startswith("nightly@")
    shown = ask(server, "show", "nightly", "--next", "2").out
    assert "options: priority 3" in shown
    assert shown.count("\nnext  ") == 2
    assert f"\ntime zones by tzdata {zones.version()}\n" in shown
    assert " later: jitter" in shown
    assert f"waiting  {job_id}  told to run" in shown
    seen = json.loads(ask(server, "show", "nightly", "--json").out)
    assert (seen["schedule"]["data"], seen["schedule"]["misfireMax"], seen["past"][0]["job"]) == ({"n": 1}, 5, job_id)
    assert ask(server, "pause", "nightly").out == "nightly: paused\n"
    assert json.loads(ask(server, "list", "--json").out)["state"] == "paused"
    assert ask(server, "resume", "nightly").out.startswith("nightly: resumed, next 20")
    assert ask(server, "delete", "nightly").out == "nightly: deleted\n"
    assert ask(server, "list").err == "no schedules\n"
    env = env_of(server)
    repeat = ("--delay", "1m", "--repeat-every", "5s", "--repeat-limit", "3", "--repeat-name", "poll")
    job = bunqueue("push", "mail", "1", *repeat, env=env).out.strip()
    said = ask(server, "list").out
    assert said.splitlines()[1].startswith("poll  20")
    assert said.endswith(f"every 5 s  mail   run 1 of 3  job {job}\n")
    assert json.loads(ask(server, "list", "--json").out)["job"] == job
    assert bunqueue("cancel", job, "--yes", env=env).code == 0


def test_a_preview_has_remarks(server: Running):
    done = ask(
        server,
        "preview",
        "--cron",
        "30 2 * * SUN",
        "--timezone",
        "Europe/Berlin",
        "--start",
        "2027-03-22",
        "--next",
        "1",
    )
    assert done.out == (
        "next  2027-03-28 03:00:00+02:00  02:30 does not exist on this day: runs at 03:00\n"
        f"time zones by tzdata {zones.version()}\n"
    )
    assert ask(server, "preview", "--every", "1h", "--next", "3").out.count("next") == 3
    assert ask(server, "preview", "--at", "10m").out.count("next") == 1


def test_a_date_is_in_the_zone_that_is_said(server: Running):
    zone = ("--timezone", "America/New_York")
    done = ask(server, "preview", "--at", "2034-07-01T08:00", *zone)
    assert done.out == "next  2034-07-01 08:00:00-04:00\n"
    done = ask(server, "preview", "--cron", "0 8 * * *", "--start", "2034-12-24", "--end", "2034-12-25T09:00", *zone)
    assert done.out.startswith(
        "next  2034-12-24 08:00:00-05:00\nnext  2034-12-25 08:00:00-05:00\ntime zones by tzdata "
    )
    # One that says its zone means that one.
    done = ask(server, "preview", "--at", "2034-07-01T08:00Z", *zone)
    assert done.out == "next  2034-07-01 04:00:00-04:00\n"
    assert ask(server, "put", "zoned", "q", "--at", "2034-07-01T08:00", *zone).code == 0
    shown = json.loads(ask(server, "show", "zoned", "--json").out)["schedule"]
    assert shown["nextRun"] == 2035368000000
    # As all times of a schedule are that people read.
    assert "zoned 2034-07-01 08:00:00-04:00 once at 2034-07-01 08:00:00-04:00 q" in " ".join(
        ask(server, "list").out.split()
    )
    far = f"zoned@{10**15 - 1}"
    assert bunqueue("push", "q", "1", "--job-id", far, env=env_of(server)).code == 0
    ask(server, "run", "zoned")
    ask(server, "pause", "zoned")
    shown = ask(server, "show", "zoned").out
    assert f"past  999999999999999 ms  waiting  {far}" in shown
    assert re.search(r"past  2\d{3}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{3})?-0[45]:00  waiting  zoned@", shown)
    assert re.search(r"pausedAt: 2\d{3}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{3})?-0[45]:00\n", shown)
    ask(server, "resume", "zoned")


def test_a_date_that_does_not_exist_or_comes_twice_is_remarked(server: Running):
    zone = ("--timezone", "Europe/Berlin")
    done = ask(server, "preview", "--at", "2027-03-28T02:30", *zone)
    assert done == (
        0,
        "next  2027-03-28 03:00:00+02:00\n",
        "--at 2027-03-28 02:30:00: 02:30 does not exist on this day: 03:00 is meant\n",
    )
    done = ask(server, "preview", "--at", "2027-10-31T02:30", *zone)
    assert done == (
        0,
        "next  2027-10-31 02:30:00+02:00  02:30 happens twice on this day: runs the first time\n",
        "--at 2027-10-31 02:30:00: 02:30 happens twice on this day: the first time is meant\n",
    )
    done = ask(server, "put", "gap", "q", "--cron", "@daily", "--start", "2027-03-28T02:30", *zone)
    assert (done.code, done.err) == (
        0, "--start 2027-03-28 02:30:00: 02:30 does not exist on this day: 03:00 is meant\n",
    )  # fmt: skip


def test_one_that_runs_once_ends(server: Running):
    done = ask(
        server, "put", "once", "q", "--at", "1h", "--end", "2h", "--limit", "1", "--overlap", "allow", "--window", "5m"
    )
    assert "once at 20" in done.out
    assert ask(server, "put", "often", "q", "--every", "30s", "--timeout", "5s", "--max-attempts", "1").code == 0
    assert "every 30 s" in ask(server, "list").out
    shown = ask(server, "show", "often", "--limit", "1")
    assert (shown.code, shown.err) == (0, "")
    ask(server, "run", "often")
    ask(server, "run", "often")
    assert "--limit shows more" in ask(server, "show", "often", "--limit", "1").err


def test_a_put_may_be_tried_and_says_whose_schedule_it_takes(server: Running):
    options = ("--job-name", "daily", "--backoff", "5s", "--ttl", "1h", "--tag", "a", "--tag", "b")
    tried = ask(server, "put", "theirs", "q", "--every", "1h", *options, "--dry-run")
    assert tried.out.startswith("would be created: theirs  20")
    assert "Schedule not found" in ask(server, "show", "theirs").err
    with server.client(headers={"Authorization": "Bearer secret"}) as client:
        put = {"name": "theirs", "queue": "q", "every": 3_600_000, "source": "billing", "data": None}
        assert client.post("/schedules", json=put).status_code == 200
    assert "\ndeclared by billing\n" in ask(server, "show", "theirs").out
    warning = "theirs: billing declares it, and its next sync puts it as it is there\n"
    tried = ask(server, "put", "theirs", "q", "--every", "1h", *options, "--dry-run")
    assert tried.out.startswith("would be changed: theirs  20")
    assert tried.err == warning
    done = ask(server, "put", "theirs", "q", "--every", "1h", *options)
    assert done.out.startswith("changed: theirs  20")
    assert done.out.splitlines()[1:] == [
        "  options backoff: none → 5 s", "  options ttl: none → 1 h", '  options tags: none → ["a", "b"]', '  options name: none → "daily"',
    ]  # fmt: skip
    assert done.err == warning
    done = ask(server, "put", "theirs", "q", "--every", "1h", *options)
    assert (done.out.startswith("unchanged: "), done.err) == (True, "")


def test_what_is_refused_is_one_line(server: Running):
    for arguments, code, complaint in (
        (("put", "a b", "q", "--every", "5s"), 1, "Schedule name must be"),
        (("put", "s", "q"), 2, "say when it runs: one of --cron, --every and --at"),
        (("preview",), 2, "say when it runs: one of --cron, --every and --at"),
        (("put", "s", "q", "hello", "--every", "5s"), 2, "a string needs quotes"),
        (
            ("put", "s", "q", "--cron", "61 * * * *"),
            1,
            "cron must be a cron expression: the field of the minute is wrong, '61': it takes 0 to 59;",
        ),
        (("put", "s", "q", "--at", "soon"), 2, "must be a time from now"),
        (("put", "s", "q", "--at", "5"), 2, "Invalid value for '--at': '5' needs a unit: 5ms or 5s?"),
        (("put", "s", "q", "--every", "5"), 2, "Invalid value for '--every': '5' needs a unit: 5ms or 5s?"),
        (("preview", "--every", "1.5"), 2, "'1.5' needs a unit: 1.5ms or 1.5s?"),
        (("preview", "--every", "often"), 2, "'often' must be a time, such as 500ms, 10s, 5m, 1.5h or 30d"),
        (("preview", "--cron", "@daily", "--timezone", "Nowhere"), 1, "timezone must be a name"),
        (
            ("preview", "--at", "2034-07-01", "--timezone", "No/where"),
            2,
            "must be a name of the IANA time zone database",
        ),
        (("show", "nobody"), 1, "Schedule not found (404): nobody\n"),
        (("run", "onec"), 1, "Schedule not found (404): onec; do you mean once?\n"),
        (("resume", "nobody"), 1, "Schedule not found (404): nobody\n"),
        (("pause", "Often"), 1, "Schedule not found (404): Often; do you mean often?\n"),
        (("delete", "nobody"), 1, "Schedule not found (404): nobody\n"),
        (("put", "s", "q", "--every", "5s", "--misfire-max", "5"), 2, "--misfire-max needs --misfire all"),
        (("put", "s", "q", "--every", "5s", "--window", "0s"), 2, "that is --misfire skip"),
        (("put", "s", "q", "--every", "5s", "--window", "20s"), 2, "--window lets no slot run that was missed"),
        (("put", "s", "q", "--every", "5s", "--window", "2m", "--jitter", "1m"), 2, "up to 120 s late is in time"),
        (
            ("put", "s", "q", "--every", "5s", "--window", "2h", "--misfire", "skip"),
            2,
            "--window has no effect with --misfire skip",
        ),
    ):
        done = ask(server, *arguments)
        assert (done.code, done.out, done.err.count("\n")) == (code, "", 1)
        assert complaint in done.err
    assert "Unauthorized (401)" in ask(server, "list", token="wrong").err


def test_a_payload_that_python_cannot_read_is_no_other_servers_trouble(server: Running):
    """Numbers of thousands of digits pass through as they were written."""
    assert ask(server, "put", "huge", "q", '{"n": ' + "7" * 5000 + "}", "--every", "1h").code == 0
    listed = ask(server, "list")
    assert (listed.code, listed.err) == (0, "")
    assert "huge" in listed.out
    assert "7" * 5000 in ask(server, "show", "huge", "--json").out
