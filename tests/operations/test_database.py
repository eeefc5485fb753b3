"""Commands on a queue in a database: what they say, and with which exit code."""

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bunqueue_trio.cli import main
from bunqueue_trio.errors import TakenOver
from trials.lib.postgres import Cluster

pytest.importorskip("psycopg", reason="psycopg is not installed")

from bunqueue_trio.storage.postgres.link import DatabaseLink, Query
from bunqueue_trio.storage.postgres.place import parse_place


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, arguments, env=environment)


@pytest.fixture
def new_url(postgres: Cluster) -> Any:
    url = postgres.new_url()
    yield url
    ask(url, f"DROP SCHEMA IF EXISTS {parse_place(url).schema} CASCADE")


def ask(url: str, text: str) -> None:
    place = parse_place(url)
    link = DatabaseLink(place.conninfo)
    link.ask(Query(place.qualified(text)))
    link.close()


def test_the_tables_are_made_and_looked_at(new_url: str):
    made = run("migrate", STORE=new_url)
    assert (made.exit_code, made.output) == (0, f"{new_url}: schema 4, made\n")
    assert run("migrate", "--store", new_url).output == f"{new_url}: schema 4, nothing to do\n"
    sound = run("doctor", "--store", new_url)
    assert (sound.exit_code, sound.output.splitlines()[1:]) == (
        0, ["leader: nobody; term 0, batch 0", "unfinished: none", "finished: none", "events kept: 0", "no problem found"],
    )  # fmt: skip
    ask(new_url, "INSERT INTO bq.event_batch VALUES (1, 0, 0, '', 0)")
    ill = run("doctor", "--store", new_url)
    assert (ill.exit_code, "PROBLEM: events overlap: 1 (1)" in ill.output) == (1, True)
    ask(new_url, "UPDATE bq.meta SET version = 0")
    assert run("migrate", "--store", new_url).exit_code == 1, "what is there is not made again"


def test_who_leads_is_shown(new_url: str):
    run("migrate", STORE=new_url)
    nobody = run("cluster", STORE=new_url)
    assert nobody.exit_code == 1
    names = ["leader", "link", "lease", "term", "waits", "failover", "replica", "database", "table"]
    assert list(dict.fromkeys(line.split()[0] for line in nobody.output.splitlines())) == names
    for words in (
        "leader   nobody yet\n",
        "lease    never held\n",
        "failover nobody leads: the next server does at once; there is no unfinished job to read\n",
        "waits    nobody: no other server would take over\n",
        "replica  none that",
    ):
        assert words in nobody.output
    ask(
        new_url,
        "UPDATE bq.leader SET holder = 'one 1', beat = clock_timestamp(), lease = '1 hour', term = 3, link = '10.0.0.1:6791', "
        "since = to_timestamp(1700000000), version = '9.9', start_jobs = 2000, start_s = 1",
    )
    ask(
        new_url,
        "INSERT INTO bq.term SELECT n, 'two 2', '9.8', to_timestamp(1600000000 + n), to_timestamp(1600000100), 'stopped' FROM generate_series(1, 3) AS n",
    )
    ask(
        new_url,
        "INSERT INTO bq.waiting SELECT 'three ' || n, '9.7', clock_timestamp(), clock_timestamp() - make_interval(secs => n * 40) "
        "FROM generate_series(0, 2) AS n",
    )
    leads = run("cluster", "--store", new_url)
    assert leads.exit_code == 0
    for words in (
        "leader   one 1, since 2023-11-1", ", version 9.9\n", "link     10.0.0.1:6791\n", "lease    1 h, heard of ", "term     3\nbefore   2 two 2, since 2020-09-1",
        "waits    three 0, since ", "waits    three 1, ", "version 9.7, heard of 40 s ago", "failover at once after a stop, in about 20 min after a kill, within 1 h when its machine is silent: there is no unfinished job to read\n",
        "missing  three 2 has waited, and was not heard of for 1 min 20 s\n", ", stopped at 2020-09-1", "table    job ",
    ):  # fmt: skip
        assert words in leads.output
    told = json.loads(run("cluster", "--json", STORE=new_url).output)
    assert (told["holder"], told["link"], told["is_alive"], told["lease_s"]) == ("one 1", "10.0.0.1:6791", True, 3600)
    assert (told["since"], told["version"], [each["term"] for each in told["terms"]]) == (
        1_700_000_000_000,
        "9.9",
        [3, 2, 1],
    )
    assert {each["holder"] for each in told["waiting"]} == {"three 0", "three 1"}
    assert told["failover"] == {"jobs": 0, "start_s": 0, "killed_s": 3600, "measured": True}
    ask(new_url, "UPDATE bq.leader SET beat = clock_timestamp() - interval '2 hours'")
    late = run("cluster", STORE=new_url)
    assert (late.exit_code, "nobody; one 1 did last, and was heard of 2 h ago\n" in late.output) == (1, True)
    ask(new_url, "UPDATE bq.leader SET beat = '-infinity'")
    stopped = run("cluster", STORE=new_url).output
    assert "leader   nobody; two 2 did last, stopped at 2020-09-1" in stopped
    ask(new_url, "UPDATE bq.leader SET term = 4, holder = 'a copy by one 1'")
    assert "; since then: a copy by one 1\n" in run("cluster", STORE=new_url).output
    ask(new_url, "DELETE FROM bq.term")
    assert "nobody; a copy by one 1 did last, and was stopped\n" in run("cluster", STORE=new_url).output
    assert "lease    let go: the next server leads at once\n" in stopped
    assert "failover nobody leads: the next server does at once; " in stopped
    assert "failover nobody leads: the next server does within about 1 h; " in late.output
    ask(new_url, "DELETE FROM bq.leader")
    assert "nobody can lead there" in run("cluster", STORE=new_url).output


def test_replicas_and_their_lag_are_shown(new_url: str, monkeypatch: pytest.MonkeyPatch):
    """As the database says it, which does not say all of it to everybody."""
    from bunqueue_trio.storage.postgres import cluster

    run("migrate", STORE=new_url)
    rows = "('east', 'streaming', 'async', 4096::bigint, 0.25::float8), ('12', NULL, NULL, NULL, NULL)"
    monkeypatch.setattr(cluster, "_REPLICAS", f"SELECT * FROM (VALUES {rows}) AS replica")
    told = run("cluster", STORE=new_url).output
    assert "replica  east, streaming, async, 4.0 KiB behind, 250 ms\n" in told
    assert "replica  12, of which this user may see nothing, unknown\n" in told


def test_what_is_wrong_is_one_line(new_url: str):
    for arguments, code, words in (
        (("doctor", "--store", new_url), 1, "has no tables of ours yet; run `bunqueue-trio migrate` once"),
        (("doctor", "--store", new_url, "--live"), 2, "give either FILE, --store or --live"),
        (("migrate",), 2, "Missing option '--store'"),
        (("migrate", "--store", "postgres:///x?schema=A"), 2, "schema='A' must be"),
        (("migrate", "--store", new_url.replace("bqpg", "nobody")), 1, "connection"),
        # Both are the same to who starts it, whatever it is that cannot be reached: starting again may help.
        (("migrate", "--store", "postgres://bq@127.0.0.1:1/queue"), 1, "connection"),
        (("migrate", "--store", "postgres://bq@/queue?host=/nowhere"), 1, "No such file"),
        (("doctor", "--store", "postgres://bq@127.0.0.1:1/queue"), 1, "connection"),
        (("serve", "--store", "queue.db"), 2, "must be a URL such as postgres://user@host/database; a file is named by DATA_PATH"),
    ):  # fmt: skip
        done = run(*arguments)
        assert (done.exit_code, done.stderr.count("\n"), words in done.stderr) == (code, 1, True), done.stderr


def test_a_password_is_shown_nowhere():
    url = "postgres://me:geheim@127.0.0.1:1/queue"
    for arguments in (("config",), ("migrate",), ("doctor", "--store", url)):
        done = run(*arguments, STORE=url)
        assert "geheim" not in done.output + done.stderr
    assert "# store = set, not shown" in run("config", STORE=url).output


def test_what_several_parts_of_a_server_end_for_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A leader that was taken over hears it from its next commit and from its next word, whichever comes first."""

    def fail(*_: Any, **__: Any) -> int:
        raise ExceptionGroup("", [TakenOver("another one leads"), ExceptionGroup("", [TakenOver("another one leads")])])

    monkeypatch.setattr(main, "_run", fail)
    with pytest.raises(SystemExit) as ended:
        main.main([])
    assert (ended.value.code, capsys.readouterr().err) == (1, "bunqueue-trio: another one leads\n")
