"""`bunqueue-trio findings`: what is wrong, for people, programs and cron."""

import json
import re
from pathlib import Path

import pytest
import trio
from msgspec import Raw

from bunqueue_trio.pages.findings import Finding
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.testing.server import Bunqueue
from tests.operations.test_sisters import Shell
from tests.ui.night import fail, push
from tests.ui.site import Site, minutes


@pytest.fixture
async def shell(bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setattr(Server, "is_guarded", True)
    return Shell(bunqueue, monkeypatch)


async def test_when_nothing_is_wrong_it_says_so_in_one_sentence(shell: Shell):
    done = await shell("findings")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "Nothing needs you.\n", "")
    assert (await shell("findings", "--json")).stdout == ""


async def test_the_tutorial_shows_what_stats_print_today(shell: Shell):
    page = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text()
    sample = page.partition("bunqueue-trio stats\n```\n```text\n")[2].partition("```")[0]
    done = await shell("stats")
    assert done.exit_code == 0, done.output
    shown = [re.split("  +", line)[0] for line in done.stdout.splitlines()]
    assert [line.partition(" …")[0] for line in sample.splitlines()] == shown


async def test_a_notice_wakes_nobody(shell: Shell):
    await push(shell.bunqueue, "q")
    await fail(shell.bunqueue, "q", 1, "no")
    done = await shell("findings")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "notice    1 dead letter in q waits for a decision",
        "          Jobs that failed for good are kept until somebody retries or deletes them, or retention does.",
        "          q: 1", "          $ bunqueue-trio dead q --groups",
    ]  # fmt: skip


async def test_the_worst_is_first_with_all_that_is_known_of_it(shell: Shell):
    await push(shell.bunqueue, "bills")
    await push(shell.bunqueue, "old")
    await shell.bunqueue.server.core.execute(c.Pause(queue="old", reason="rotation"))
    await minutes(shell.bunqueue, 41)
    done = await shell("findings")
    assert done.exit_code == 1
    first, when, cause, evidence, remedy, *lines = done.stdout.partition("\n\n")[0].splitlines()
    assert first == "warning   bills: 1 job waits, the oldest for 41 min, and nobody asks"
    assert when.strip().startswith("since 20")
    assert when.endswith(", for 41 min")
    assert "No worker asks" in cause
    assert "0 jobs are active" in evidence
    assert "bunqueue-trio worker MODULE:NAME" in remedy
    assert lines == ["          $ bunqueue-trio workers"]
    assert done.stdout.index("old: paused") > done.stdout.index("bills:")
    cut = await shell("findings", "--limit", "1", "--json")
    assert (cut.exit_code, cut.stderr) == (1, "the worst 1 of 2; --limit shows more\n")
    assert json.loads(cut.stdout)["code"] == "nobody-asks"


async def test_those_of_many_queues_are_folded_as_on_the_page(shell: Shell):
    for n in range(8):
        await push(shell.bunqueue, f"q{n}")
    await minutes(shell.bunqueue, 2)
    said = (await shell("findings")).stdout
    first, *rows = said.splitlines()
    assert first == "warning   8 queues: jobs wait, and nobody asks"
    assert sum("1 job waits, the oldest for 2 min; since 20" in row for row in rows) == 5
    assert "          and 3 queues more: --json has all of them" in rows
    assert rows.count("          $ bunqueue-trio workers") == 1, "what helps all of them stands there once"
    assert not any("pause" in row for row in rows), "that helps nobody where nobody asks"
    assert any("bunqueue-trio worker MODULE:NAME" in row for row in rows)
    assert len((await shell("findings", "--json")).stdout.splitlines()) == 8


async def test_what_is_over_is_said_to_be(shell: Shell):
    for n in range(12):
        await push(shell.bunqueue, "q", str(n))
    await minutes(shell.bunqueue, 1)
    await fail(shell.bunqueue, "q", 6, "no {}")
    await minutes(shell.bunqueue, 1)
    await fail(shell.bunqueue, "q", 6, "no {}")
    await minutes(shell.bunqueue, 5)
    said = (await shell("findings")).stdout
    assert "q: 12 jobs died within" in said
    assert "from 20" in said
    assert "; over since 20" in said


async def test_dead_letters_are_reported_whatever_their_queue_keeps_of_them(shell: Shell):
    core = shell.bunqueue.server.core
    await core.execute(c.SetDlqConfig(queue="capped", max_entries=2))
    await core.execute(c.SetDefaults(queue="rof", remove_on_fail=True))
    for _ in range(2):
        for queue in ("plain", "capped", "rof"):
            for n in range(6):
                await push(shell.bunqueue, queue, str(n))
            await fail(shell.bunqueue, queue, 6, "no {}")
        await minutes(shell.bunqueue, 1)
    await core.execute(c.PurgeDlq(queue="plain"))
    found = [json.loads(line) for line in (await shell("findings", "--json")).stdout.splitlines()]
    assert {each["queue"]: each["numbers"]["died"] for each in found if each["code"] == "jobs-die"} == {
        "plain": 12, "capped": 12, "rof": 12,
    }  # fmt: skip


async def test_a_server_that_is_not_there_is_no_quiet_night(monkeypatch: pytest.MonkeyPatch, shell: Shell):
    monkeypatch.undo()
    done = await shell("findings", "--url", "http://127.0.0.1:1")
    assert done.exit_code == 1
    assert "Nothing needs you" not in done.output


async def test_a_hostile_text_steers_no_terminal(shell: Shell):
    await push(shell.bunqueue, "q")
    await shell.bunqueue.server.core.execute(c.Pause(queue="q", reason="rotation\x1b[31m\u202e"))
    done = await shell("findings")
    assert "rotation" in done.stdout
    assert not {"\x1b", "\u202e"} & {*done.stdout}


async def test_the_page_has_the_same_lines_and_a_button_for_those_it_can_do(shell: Shell):
    bunqueue = shell.bunqueue
    for n in range(120):
        await push(bunqueue, "q", str(n))
    await bunqueue.server.core.execute(c.RegisterWorker(name="mail-3", worker_id="w1", queues=["q"]))
    for _ in range(119):
        job = await bunqueue.server.core.execute(c.Pull(queue="q", owner="w1"))
        await bunqueue.server.core.execute(c.Ack(id=job.job.id, token=job.token, result=Raw(b"1")))  # type: ignore[attr-defined]
    await bunqueue.server.core.execute(c.Pull(queue="q", owner="w1"))
    hung = next(iter(bunqueue.server.engine.queues["q"].active)).id
    for _ in range(4):
        await trio.sleep(20)
        await bunqueue.server.core.execute(c.Heartbeat(id=hung))
    await minutes(bunqueue, 0)
    await bunqueue.server.note_minute()
    found = [json.loads(line) for line in (await shell("findings", "--json")).stdout.splitlines()]
    (stuck,) = [each for each in found if each["code"] == "job-stuck"]
    assert stuck["job"] == hung
    assert "the worker mail-3 has it" in stuck["evidence"]
    page = await Site(bunqueue).get("/ui")
    for line in stuck["commands"]:
        assert page.said(line), line
    assert f"/ui/act/cancel?queue=q&amp;id={hung}" in page.html
    assert f"/ui/jobs/{hung}" in page.html
    shown = (await shell("why", hung)).stdout
    assert "Worker mail-3 has had it for 1 min 20 s; 95 of 100 of its queue take 1 ms at most, so it is" in shown


async def test_a_limit_that_holds_jobs_up_has_a_button_that_takes_it_away_and_no_other(shell: Shell):
    bunqueue = shell.bunqueue
    await bunqueue.server.core.execute(c.SetConcurrency(queue="q", concurrency=1))
    for n in range(3):
        await push(bunqueue, "q", str(n))
    await bunqueue.server.core.execute(c.Pull(queue="q"))
    job_id = next(iter(bunqueue.server.engine.queues["q"].active)).id
    for _ in range(30):
        await trio.sleep(25)
        await bunqueue.server.core.execute(c.Heartbeat(id=job_id))
    page = await Site(bunqueue).get("/ui")
    assert page.said("No more than 1 job of it may be active, and as many are.")
    assert "/ui/act/unlimit?queue=q" in page.html
    assert "/ui/act/unrate" not in page.html
    assert page.said("bunqueue-trio limit q none")
    assert page.said("bunqueue-trio jobs q active")


def test_a_finding_is_as_the_description_has_it():
    from bunqueue_trio.pages.openapi_words import PAGE_ANSWERS

    schema = PAGE_ANSWERS["findings"][200][2]
    items = schema["properties"]["findings"]["items"]["properties"]
    assert list(items) == list(Finding.__struct_encode_fields__)


async def test_what_helps_is_said_of_names_that_look_like_options(shell: Shell):
    await push(shell.bunqueue, "--yes")
    await shell.bunqueue.server.core.execute(c.Pause(queue="--yes"))
    await trio.sleep(7200)
    [line] = [line.strip() for line in (await shell("findings")).stdout.splitlines() if "resume" in line]
    assert line == "$ bunqueue-trio resume -- --yes"
    assert (await shell("resume", "--", "--yes")).exit_code == 0
