"""`bunqueue-trio actions`: what it prints, in the words of the commands, and how it is filtered."""

import json

import pytest
import trio
from msgspec import Raw

from bunqueue_trio.cli import COMMANDS, remote
from bunqueue_trio.pages import acts
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.caller import By
from bunqueue_trio.protocol.catalog import ACTS, SPECS
from bunqueue_trio.testing.server import Bunqueue
from tests.operations.test_sisters import Shell
from tests.ui.night import fail, push
from tests.ui.site import Site

ANN = By("ann", "10.0.0.7")


@pytest.fixture
async def shell(bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(bunqueue, monkeypatch)


def rows(out: str) -> list[str]:
    """The lines behind the heads, with one blank between words."""
    return [" ".join(line.split()) for line in out.splitlines()[1:]]


async def test_acts_are_in_the_words_of_the_commands_with_dates_and_units(shell: Shell):
    core = shell.bunqueue.server.core
    until = shell.bunqueue.server.clock.now() + 3_600_000
    for command in (
        c.Pause(queue="emails", reason="mail\x1b[2J is down", until=until), c.Resume(queue="emails"), c.SetConcurrency(queue="emails", concurrency=5),
        c.SetConcurrency(queue="emails", concurrency=2000), c.RateLimit(queue="emails", limit=100, duration=60_000), c.RateLimitClear(queue="emails"),
        c.SetDlqConfig(queue="emails", max_age=604_800_000, auto_retry=True), c.SetDefaults(queue="emails", timeout=30_000),
        c.SetDefaults(queue="emails", timeout=None), c.PutSchedule(name="nightly", queue="reports", every=3_600_000),
        c.PutSchedule(name="nightly", queue="reports", every=60_000, jitter=1000), c.ChangeSchedule(name="nightly", jitter=2000), c.ChangeSchedule(name="nightly", data=Raw(b'{"password":"x"}')),
        c.Cron(name="tick", queue="reports", repeat_every=60_000), c.Cron(name="tick", queue="reports", repeat_every=90_000, data=Raw(b"1")),
        c.ChangeSchedule(name="nightly", cron="0 3 * * *", timezone="Europe/Berlin"), c.PutSchedule(name="nightly", queue="reports", cron="0 4 * * *"), c.PauseSchedule(name="nightly"), c.RateLimit(queue="emails", limit=50),
        c.RateLimit(queue="emails", limit=50, ttl=3_600_000), c.Pause(queue="emails", reason="x"), c.Pause(queue="emails"), c.MarkGroup(fingerprint="2a253bca139c", mark="fixed"),
    ):  # fmt: skip
        await core.execute(command, by=ANN)
    done = await shell("actions")
    assert done.stdout.split("\n")[0].split() == ["when", "who", "what", "of", "how", "changed"]
    when = remote.at(until)
    assert [row.partition("ann (10.0.0.7) ")[2] for row in rows(done.stdout)] == [
        "mark group 2a253bca139c; mark fixed (was none) 1",
        "pause emails reason none (was x) 1",
        "pause emails reason x 1",
        "limit --rate emails rate 50 in 1 s; ttl 1 h 1",
        "limit --rate emails rate 50 in 1 s (was none) 1",
        "schedules pause nightly 1",
        "schedules put nightly cron 0 4 * * * (was 0 3 * * *); data another; timezone UTC (was Europe/Berlin); jitter 0 ms (was 2 s); queue reports 1",
        "schedules change nightly cron 0 3 * * *; timezone Europe/Berlin; every was 1 min 1",
        "schedules put tick every 90 s (was 1 min); data another; queue reports 1",
        "schedules put tick every 1 min; queue reports 1",
        "schedules change nightly data another 1",
        "schedules change nightly jitter 2 s (was 1 s) 1",
        "schedules put nightly every 1 min (was 1 h); jitter 1 s; queue reports 1",
        "schedules put nightly every 1 h; queue reports 1",
        "queue --set emails timeout none (was 30 s) 1",
        "queue --set emails timeout 30 s (was none) 1",
        "queue --set emails autoRetry yes (was none); maxAge 7 d (was none) 1",
        "limit --rate emails rate was 100 in 1 min 1",
        "limit --rate emails rate 100 in 1 min (was none) 1",
        "limit emails at once 2,000 (was 5) 1",
        "limit emails at once 5 (was none) 1",
        f"resume emails reason was mail\\x1b[2J is down; until was {when} 1",
        f"pause emails reason mail\\x1b[2J is down; until {when} 1",
    ]


async def test_steps_of_one_act_are_one_line(shell: Shell):
    for n in range(250):
        await push(shell.bunqueue, "e", str(n), job_id=f"e-{n}")
    await fail(shell.bunqueue, "e", 240, "PaymentError: order {}")
    done = await shell("retry", "e", "--error", "Payment", "--rate", "100", "--yes")
    assert done.stdout == "e: 240 of 240 dead letters with this text in their error retried\n"
    [told] = map(json.loads, (await shell("actions", "--json")).stdout.splitlines())
    assert (told["count"], told["slices"] > 1) == (240, True)
    [row] = rows((await shell("actions")).stdout)
    assert row.endswith("retry e error Payment; rate 100 a second 240"), row


async def test_a_clean_up_of_many_is_one_line_and_says_what_somebody_said(shell: Shell):
    for n in range(350):
        await push(shell.bunqueue, "e", str(n))
    await trio.sleep(5)
    await shell.bunqueue.server.core.execute(c.Clean(queue="e", state="waiting", grace=1000), by=ANN)
    found = rows((await shell("actions")).stdout)
    assert [row.partition(") ")[2] for row in found] == ["clean e state waiting; older 1 s 350"]


async def test_acts_are_filtered_as_on_the_page(shell: Shell):
    core = shell.bunqueue.server.core
    await core.execute(c.Pause(queue="bills"), by=ANN)
    await trio.sleep(7200)
    await core.execute(c.SetConcurrency(queue="thumbs", concurrency=4), by=By("deploy", "10.1.0.2"))
    await core.execute(c.MarkGroup(fingerprint="2a253bca139c", mark="fixed"), by=ANN)
    assert (await shell("actions", "--who", "bob")).stderr == "nothing like that has been done\n"
    for flags, found in (
        (("--who", "ann"), ["mark", "pause"]), (("--who", "10.1.0.2"), ["limit"]), (("--what", "pause"), ["pause"]), (("--what", "SetConcurrency"), ["limit"]),
        (("--of", "thumbs"), ["limit"]), (("--of", "2a253bca139c"), ["mark"]), (("--newer", "1h"), ["mark", "limit"]), (("--older", "1h"), ["pause"]),
        (("--limit", "2"), ["mark", "limit"]), (("--who", "ann", "--limit", "1"), ["mark"]),
    ):  # fmt: skip
        done = await shell("actions", *flags)
        assert [row.partition(") ")[2].split()[0] for row in rows(done.stdout)] == found, flags
        if "--limit" in flags:
            assert "--limit shows more" in done.stderr
    lines = (await shell("actions", "--of", "thumbs", "--json")).stdout.splitlines()
    assert [json.loads(line)["command"] for line in lines] == ["SetConcurrency"]


async def test_a_worker_is_known_by_its_name(shell: Shell):
    core = shell.bunqueue.server.core
    for worker in ("w1", "w2"):
        await core.execute(c.RegisterWorker(name="mail", worker_id=worker, queues=["q"]))
        await core.execute(c.QuietWorker(id=worker), by=ANN)
    found = rows((await shell("actions", "--of", "mail")).stdout)
    assert [row.partition(") ")[2] for row in found] == [f"workers quiet mail id {worker} 1" for worker in ("w2", "w1")]
    assert len(rows((await shell("actions", "--of", "w1")).stdout)) == 1
    page = await Site(shell.bunqueue).get("/ui/actions")
    assert page.said("workers quiet mail id w2 1 Undo…")
    assert page.said("workers quiet mail id w1 1 Undo…")


async def test_nothing_has_been_done_yet(shell: Shell):
    assert (await shell("actions")).stderr == "nothing has been done yet\n"
    assert (await shell("actions", "--json")).output == ""


def test_acts_are_called_as_the_command_line_calls_them():
    assert {SPECS[kind].tag for kind in ACTS} | {"Push"} == {*acts.WORDS}
    assert {word for word in acts.WORDS.values() if word.split()[0] not in COMMANDS} == {
        "act",
        "move to wait",
        "clear logs",
    }
    assert "act" not in acts.KINDS, "it is called as its action"
