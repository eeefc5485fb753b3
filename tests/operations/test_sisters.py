"""Commands that do alike speak alike: the same flags, questions, words for a slip and for what is taken back."""

import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import click
import httpx
import pytest
import trio
from click.testing import CliRunner, Result

from bunqueue_trio.cli import downloads, main, remote
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.replies import PushReply
from bunqueue_trio.testing.server import Bunqueue
from tests.looks import look
from tests.ui.night import fail, push

ERROR = "PaymentError: order {}"
LISTS = ("findings", "queues", "jobs", "logs", "dead", "reruns", "actions", "workers", "schedules", "schedules list")
"""Commands that show many things of one kind."""
MANY = ("cancel", "promote", "discard", "change", "retry", "rerun", "purge", "drain", "clean", "obliterate", "queue", "workers release")  # fmt: skip
"""Commands that change or remove many at once."""
ASKED = ("schedules put", "schedules change", "storage backup", "storage check", "storage shrink")
OF_FILTERS = ("cancel", "promote", "discard", "change")
"""Those of them that take ids or a filter, and are called as they are asked about."""
FILTERED = ("jobs", "dead", "cancel", "promote", "discard", "change", "retry", "rerun", "purge")
WITHOUT_JSON = {"doctor", "export", "worker"}
"""Of those that ask a server: `doctor` is about files, `export` says nothing else, and `worker` runs until it is ended."""
ALIKE = (
    "url", "token", "as_json", "dry_run", "yes", "tag", "group_id", "id_prefix", "fingerprint", "error", "text", "older", "newer",
    "attempts", "owner", "state",
)  # fmt: skip
"""Flags that mean the same wherever they are."""
UNLIKE = {"migrate", "doctor", "worker", "push", "actions"}
"""Commands in which some of them are about something else."""


def commands(group: click.Group = main, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield every command and its name, groups too."""
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        yield prefix + name, command
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")


ALL = dict(commands())


def flags(name: str) -> set[str | None]:
    return {param.name for param in ALL[name].params if isinstance(param, click.Option)}


def test_every_answer_of_a_server_can_be_had_as_json():
    asking = {name for name in ALL if "url" in flags(name)}
    assert {name for name in asking if "as_json" not in flags(name)} == WITHOUT_JSON
    assert len(asking) > 40


@pytest.mark.parametrize("name", LISTS)
def test_every_list_has_a_limit(name: str):
    assert {"limit", "as_json"} <= flags(name)


@pytest.mark.parametrize("name", MANY)
def test_what_changes_much_is_tried_dry_and_asks(name: str):
    assert {"dry_run", "yes", "as_json"} <= flags(name)


def test_no_other_command_is_asked_about_or_tried_dry():
    """Else it belongs to the table, and its rules are held."""
    assert {name for name in ALL if flags(name) & {"dry_run", "yes"}} == {*MANY, *ASKED}


@pytest.mark.parametrize("name", FILTERED)
def test_one_filter_is_everywhere(name: str):
    assert {"tag", "group_id", "id_prefix", "fingerprint", "error", "text", "older", "newer", "attempts"} <= flags(name)


@pytest.mark.parametrize("flag", ALIKE)
def test_a_flag_is_called_and_explained_alike(flag: str):
    said: dict[tuple[Any, ...], list[str]] = {}
    for name, command in ALL.items():
        for param in command.params:
            if isinstance(param, click.Option) and param.name == flag and name not in UNLIKE:
                said.setdefault((tuple(param.opts), param.metavar, param.help), []).append(name)
    assert len(said) == 1, said


@pytest.mark.parametrize("name", [name for name, command in ALL.items() if isinstance(command, click.Group)])
def test_a_bare_group_lists(name: str):
    group = ALL[name]
    assert group.invoke_without_command  # type: ignore[attr-defined]
    said = ["--limit", "3"] if "limit" in flags(name) else ["--json"]
    refused = CliRunner().invoke(main, [name, *said, next(iter(group.commands))])
    assert (refused.exit_code, f"say {said[0]} behind" in refused.output) == (2, True)


SHELL = {
    "cancel": "cancel --queue q", "promote": "promote --queue q", "discard": "discard --queue q",
    "change": "change --queue q --priority 3", "retry": "retry q",
    "rerun": "rerun q --force --detach", "purge": "purge q", "drain": "drain q --delayed", "clean": "clean q failed", "obliterate": "obliterate q --force",
    "queue": "queue q --set maxEntries=1", "workers release": "workers release mail",
}  # fmt: skip
"""Each of :data:`MANY` with something to do."""
ONE = (
    "push q 1", "pause q", "resume q", "limit q 5 --rate 3/1s", "limit q none --rate none", "queue q --set timeout=5s", "queue q --set timeout=none",
    "cancel w-0", "discard w-1", "promote later-0", "change w-2 --priority 3", "mark {fp} fixed", "mark {fp} none", "retry q --id bad-3", "purge q --id bad-2",
    "workers quiet mail", "workers unquiet mail", "schedules put hourly q 1 --every 1h", "schedules run hourly", "schedules pause hourly",
    "schedules resume hourly", "schedules delete hourly", "rerun q --force --detach --yes", "reruns stop {rerun}",
)  # fmt: skip
"""Acts on what is named, none of which is asked about but the last but one; in this order."""
READS = (
    "findings", "queues", "queue q", "jobs", "jobs q", "job w-0", "logs w-0", "why w-0", "dead q", "dead q --groups", "dead --newer 30d", "dead q --tag no",
    "reruns", "actions", "workers", "schedules", "schedules list", "schedules show nightly", "schedules preview --every 1h", "stats", "storage", "health",
)  # fmt: skip


class Shell:
    """The command line, in this process, before a server in virtual time."""

    def __init__(self, bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bunqueue = bunqueue
        connected = partial(httpx.Client, base_url="http://q:1", transport=bunqueue._place.http)
        for module in (remote, downloads):
            monkeypatch.setattr(module, "connect", lambda *_: connected())

    async def __call__(self, *words: str) -> Result:
        return await trio.to_thread.run_sync(partial(CliRunner().invoke, main, [*words]))

    def acts(self) -> int:
        return int(look(self.bunqueue.server.core, c.Actions(limit=1)).total)


@pytest.fixture
async def shell(bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch) -> Shell:
    core = bunqueue.server.core
    for n in range(5):
        await push(bunqueue, "q", str(n), job_id=f"bad-{n}")
    await fail(bunqueue, "q", 5, ERROR)
    await core.execute(c.RegisterWorker(name="mail", worker_id="w1", queues=["q"]))
    await push(bunqueue, "q", job_id="held")
    await core.execute(c.PullBatch(queue="q", count=1, owner="w1"))
    for n in range(3):
        await push(bunqueue, "q", str(n), job_id=f"w-{n}")
    await push(bunqueue, "q", job_id="later-0", delay=86_400_000)
    await core.execute(c.PutSchedule(name="nightly", queue="other", every=86_400_000))
    return Shell(bunqueue, monkeypatch)


async def test_what_changes_much_does_nothing_until_it_may(shell: Shell):
    before = shell.acts()
    for name in MANY:
        words = SHELL[name].split()
        dry = await shell(*words, "--dry-run")
        assert dry.exit_code == 0, (name, dry.output)
        assert " would be " in dry.stdout, name
        told = json.loads((await shell(*words, "--dry-run", "--json")).stdout)
        assert told["dryRun"] is True, name
        asked = await shell(*words)
        assert (asked.exit_code, "there is nobody to ask; say --yes" in asked.stderr) == (2, True), (name, asked.output)
        assert asked.stdout == "", name
        if name in OF_FILTERS:
            assert re.search(rf"(?m)^main {name}: {name} \d+ jobs?\b", asked.stderr), (name, asked.stderr)
    assert shell.acts() == before


@pytest.mark.parametrize("name", MANY)
async def test_what_changes_much_does_it_when_agreed_to_and_says_so_to_a_program(shell: Shell, name: str):
    before = shell.acts()
    done = await shell(*SHELL[name].split(), "--yes", "--json")
    assert done.exit_code == 0, done.output
    assert [json.loads(line) for line in done.stdout.splitlines()]
    assert shell.acts() > before


async def test_what_is_named_is_done_at_once_and_printed_as_json(shell: Shell):
    group = json.loads((await shell("dead", "q", "--groups", "--json")).stdout)["fingerprint"]
    rerun = ""
    for line in ONE:
        before = shell.acts()
        words = line.format(fp=group, rerun=rerun).split()
        done = await shell(*words, "--json")
        assert done.exit_code == 0, (line, done.output)
        told = [json.loads(each) for each in done.stdout.splitlines()]
        assert told, line
        assert words[0] == "push" or shell.acts() > before, line
        if words[0] == "rerun":
            rerun = told[0]["id"]


async def test_what_is_shown_can_be_read_by_a_program_and_by_people(shell: Shell):
    before = shell.acts()
    for line in READS:
        for more in ((), ("--json",)):
            done = await shell(*line.split(), *more)
            assert done.exit_code == 0, (line, done.output)
            if more:
                assert all(json.loads(each) for each in done.stdout.splitlines()), line
    assert shell.acts() == before


LOOKS = (
    "queues emials",
    "queue emials",
    "jobs emials",
    "jobs --queue emials",
    "dead emials",
    "dead emials --tag x",
    "dead emials --groups",
    "errors emials",
    "export --queue emials",
    "events --queue emials",
    "limit emials",
)
"""What only looks at a queue, or at what is in it."""
AHEAD = (
    "pause emials",
    "limit emials 5",
    "limit emials --rate 5/1s",
    "limit emials 5 --rate none",
    "queue emials --set timeout=5s",
)
"""What holds for jobs to come."""
ACTS = (
    "resume emials", "limit emials none", "limit emials --rate none", "queue emials --reset stalls", "cancel --queue emials --yes",
    "cancel --queue emails --queue emials --yes", "promote --queue emials --yes", "discard --queue emials --yes",
    "change --queue emials --priority 3 --yes", "change --queue emials --move-to other --yes", "change --queue emails --queue emials --priority 3 --yes", "retry emials --yes",
    "retry emials --error x --yes", "purge emials --yes", "purge emials --error x --yes", "drain emials --yes", "clean emials failed --yes", "obliterate emials --yes",
    "rerun emials --yes", "rerun emials --dry-run", "cancel --queue emials --dry-run",
    "change --queue emials --priority 3 --dry-run", "change --queue emials --priority 3 --json", "retry emials --dry-run", "purge emials --dry-run",
    "drain emials --dry-run", "clean emials failed --dry-run", "obliterate emials --dry-run", "queue emials --reset stalls --json", "cancel --queue emials --json",
)  # fmt: skip
"""What changes something that is there."""
OF_NO_QUEUE_YET = {"push", "schedules put", "schedules change", "watch"}
"""Commands that bring jobs to a queue, and one that waits for what happens there."""


@pytest.mark.thorough
@pytest.mark.parametrize("line", [*LOOKS, *AHEAD, *ACTS])
async def test_a_slip_in_the_name_of_a_queue_is_answered_alike(shell: Shell, line: str):
    await push(shell.bunqueue, "emails")
    done = await shell(*line.split())
    said = [each for each in done.stderr.splitlines() if "emials: there is no such queue" in each]
    assert len(said) == 1, done.output
    assert said[0].endswith("; do you mean emails?")
    # What would have done nothing says nothing of a success, and a script stops.
    assert (done.exit_code, bool(done.stdout)) == ((1, False) if line in ACTS else (0, line not in LOOKS[2:10])), (
        done.output
    )
    right = await shell(*line.replace("emials", "emails").split())
    assert "no such queue" not in right.output


def test_every_command_about_a_queue_answers_a_slip():
    about = {name for name in ALL if {"queue", "of_queue"} & {param.name for param in ALL[name].params}}
    known = {
        next(name for name in sorted(ALL, key=len, reverse=True) if f"{line} ".startswith(f"{name} "))
        for line in (*LOOKS, *AHEAD, *ACTS)
    }
    assert about - OF_NO_QUEUE_YET == known


WITHOUT_WHAT_IT_NEEDS = {
    "retry q --stop-at 5%": "--stop-at needs --canary", "retry q --wait 5m": "--wait needs --canary",
    "push q 1 --backoff-max 5s": "--backoff-max needs --backoff", "push q 1 --backoff-jitter 0.5": "--backoff-jitter needs --backoff",
    "push q 1 --repeat-limit 5": "--repeat-limit needs --repeat-every", "push q 1 --repeat-name x": "--repeat-name needs --repeat-every",
    "cancel --queue q --grace 5s --yes": "--grace needs --force", "cancel x --force": "--force needs a filter",
    "discard x --force": "--force needs a filter", "queue q --dry-run": "--dry-run needs --set or --reset",
    "doctor --wait": "either FILE, --store or --live",
    "promote x --rate 5": "--rate is for many jobs", "dead --groups --tag x": "--groups excludes the filters",
    "jobs q --older 2h --newer 1h": "nothing is both that old and that new", "purge q --older 2h --newer 1h": "nothing is both that old",
    "actions --older 2h --newer 1h": "nothing is both that old",
}  # fmt: skip
"""Flags that say nothing as they stand there."""


@pytest.mark.parametrize("line", WITHOUT_WHAT_IT_NEEDS)
async def test_a_flag_that_makes_no_sense_there_is_refused(shell: Shell, line: str):
    before = shell.acts()
    done = await shell(*line.split())
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    assert WITHOUT_WHAT_IT_NEEDS[line] in done.stderr
    assert shell.acts() == before


@pytest.mark.parametrize(
    "line",
    ["actions --what purg", "jobs q dedd", "jobs --state dedd", "watch --type pusht", "clean q dedd --yes", "mark GROUP fixt", "queue q --reset stall", "schedules put s q --every 5s --misfire al"],
)  # fmt: skip
async def test_a_word_that_is_none_of_those_there_are_is_refused_with_them(shell: Shell, line: str):
    done = await shell(*line.split())
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    known = {"purg": "purge", "dedd": "failed", "pusht": "pushed", "fixt": "fixed", "stall": "stalls", "al": "all"}
    assert any(f"{wrong}'" in done.stderr and right in done.stderr for wrong, right in known.items()), done.stderr


async def test_what_was_done_is_found_by_the_words_of_either(shell: Shell):
    await push(shell.bunqueue, "emails")
    await shell("pause", "emails")
    for word in ("pause", "Pause"):
        assert "emails" in (await shell("actions", "--what", word)).stdout


async def test_many_are_cancelled_with_a_reason_as_one_is(shell: Shell):
    job_id = await push(shell.bunqueue, "emails")
    done = await shell("cancel", "--queue", "emails", "--reason", "wrong data", "--yes")
    assert done.exit_code == 0, done.output
    assert "wrong data" in (await shell("job", job_id)).stdout
    assert "reason wrong data" in (await shell("actions")).stdout


async def test_what_is_like_no_queue_is_not_taken_for_one(shell: Shell):
    assert (await shell("queues", "zzz")).stderr == "zzz: there is no such queue\n"


async def test_one_word_takes_back_what_was_said(shell: Shell):
    for line in (
        "limit q 5 --rate 3/1s",
        "limit q none --rate none",
        "limit q 5",
        "limit q any",
        "queue q --set ttl=5s",
    ):
        assert (await shell(*line.split())).exit_code == 0, line
    view = json.loads((await shell("limit", "q", "--json")).stdout)
    assert (view["concurrency"], view["rateLimit"]) == (None, None)
    for word in ("none", "default"):
        assert (await shell("queue", "q", "--set", "ttl=5s")).exit_code == 0
        told = json.loads((await shell("queue", "q", "--set", f"ttl={word}", "--json")).stdout)
        assert told["defaults"]["set"] == []


async def test_a_worker_that_was_probably_meant_is_named(shell: Shell):
    refused = await shell("workers", "quiet", "mai")
    assert "there is no worker mai; do you mean mail?" in refused.stderr


async def test_a_setting_is_known_however_it_is_written_and_where_else_one_is_set(shell: Shell):
    for line, said in (
        ("queue q --set max_atempts=5", "do you mean maxAttempts?"), ("queue q --set concurrency=5", "such as `limit QUEUE 5`"),
        ("queue q --set rate-limit=5", "such as `limit QUEUE --rate 100/60s`"),
    ):  # fmt: skip
        refused = await shell(*line.split())
        assert (refused.exit_code, said in refused.stderr) == (2, True), line
    assert (await shell("queue", "q", "--set", "MAX_ATTEMPTS=5")).exit_code == 0
    assert (await shell("limit", "q", "5", "--rate", "3/1s")).exit_code == 0
    told = json.loads((await shell("queue", "q", "--reset", "limits", "--json")).stdout)
    assert (told["defaults"]["set"], told["limits"]) == (["maxAttempts"], {"concurrency": None, "rateLimit": None})


def test_every_command_of_a_group_that_asks_a_server_takes_one_of_its_own():
    """Its help is where somebody looks for the flag."""
    groups = [name for name, command in ALL.items() if isinstance(command, click.Group) and "url" in flags(name)]
    assert {
        name
        for name in ALL
        if name.startswith(tuple(f"{group} " for group in groups)) and not {"url", "token"} <= flags(name)
    } == set()


@pytest.mark.parametrize("place", ["before", "behind"])
async def test_the_server_of_a_group_can_stand_before_its_command_or_behind(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, place: str
):
    asked: list[tuple[str, str | None]] = []
    connect = remote.connect
    monkeypatch.setattr(
        remote, "connect", lambda url, token, *more: (asked.append((url, token)), connect(url, token, *more))[1]
    )
    own = ("--url", "http://there:1", "--token", "secret")
    words = ("workers", *own, "quiet", "mail") if place == "before" else ("workers", "quiet", "mail", *own)
    assert (await shell(*words)).exit_code == 0
    assert set(asked) == {("http://there:1", "secret")}


@pytest.mark.parametrize("flag", ["--ttl", "--timeout"])
async def test_a_schedule_takes_no_time_of_0_either(shell: Shell, flag: str):
    done = await shell("schedules", "put", "s", "q", "--every", "1h", flag, "0s")
    assert (done.exit_code, f"{flag} must be at least 1 ms" in done.output) == (2, True)


TIMES = {param.opts[-1] for param in ALL["push"].params if param.type is remote.DURATION}
NUMBERS = {param.opts[-1] for param in ALL["push"].params if param.type in (click.INT, click.FLOAT)}


@pytest.mark.parametrize("flag", sorted(TIMES | NUMBERS))
async def test_a_value_of_push_that_is_none_at_all_is_sent_as_it_was_said(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, flag: str
):
    """The server judges a 0 as it does over HTTP, or it is refused where nobody means it; it does not become the default by itself."""
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "bunqueue_trio.cli.push.answer", lambda *_, **fields: (sent.append(fields), PushReply(id="x"))[1]
    )
    needed = {"--repeat-limit": "--repeat-every", "--backoff-max": "--backoff", "--backoff-jitter": "--backoff"}
    more = (needed[flag], "1s") if flag in needed else ()
    done = await shell("push", "q", "1", flag, "0s" if flag in TIMES else "0", *more)
    if flag in ("--ttl", "--timeout", "--backoff-max"):
        assert (done.exit_code, f"{flag} must be at least 1 ms" in done.output) == (2, True)
        return
    assert done.exit_code == 0, done.output
    said = {
        name: each
        for fields in (sent[0], *(each for each in sent[0].values() if isinstance(each, dict)))
        for name, each in fields.items()
    }
    assert 0 in [each for name, each in said.items() if not isinstance(each, bool)], said


def test_a_change_shows_what_none_brings_back_and_no_default():
    """What is not said stays as it is."""
    helps = {
        param.opts[-1]: param.help or "" for param in ALL["schedules change"].params if isinstance(param, click.Option)
    }
    assert [flag for flag, said in helps.items() if "[default" in said or "unless you say" in said] == []
    assert "[none: once]" in helps["--misfire"]
    shown = click.Context(ALL["schedules change"]).get_help()
    assert "[skip|once|all|none]" in shown
    assert "[allow|skip|queue|cancel|none]" in shown


async def test_a_dry_run_of_settings_says_what_they_would_be(shell: Shell):
    done = await shell(
        "queue",
        "q",
        "--set",
        "maxAttempts=7",
        "--set",
        "timeout=30s",
        "--set",
        "ttl=none",
        "--reset",
        "stalls",
        "--dry-run",
    )
    for words in (
        "maxAttempts would be 7",
        "timeout would be 30",
        "ttl would be as everywhere",
        "stalls would be as everywhere",
    ):
        assert words in done.stdout
