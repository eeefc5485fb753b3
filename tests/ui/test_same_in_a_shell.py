"""The command line and the curl beside a button do what the button does: each on a server of its own, which is then the same."""

import html
import json
import re
import shlex
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx
import msgspec
import pytest
import trio
from click.testing import CliRunner
from msgspec import Raw
from trio.testing import MockClock

from bunqueue_trio.cli import main, remote
from bunqueue_trio.engine.fingerprint import fingerprint
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.testing.server import Bunqueue
from bunqueue_trio.ui.actions import ACTIONS
from tests.engine.model_upkeep import planned
from tests.looks import look
from tests.ui.night import fail, push
from tests.ui.site import Site

pytestmark = pytest.mark.thorough


ERROR, OTHER = "PaymentError: order {}", "TimeoutError: db"
GROUP = {"queue": "q", "fingerprint": fingerprint("PaymentError: order 7").key}
NAMED = {"name": "nightly"}
WORKER = {"id": "w1"}


ODD = "--queue=q"

AGREED = dict.fromkeys(("drain", "clean", "purge", "retry", "workers release"), ("--yes",)) | {
    "rerun": ("--yes", "--detach"),
    **dict.fromkeys(("storage backup", "storage check", "storage shrink"), ("--yes", "--detach")),
}
"""What a person would say to a command that asks first, and one that waits."""


class Case(NamedTuple):
    """An action, of what, filled in how, and what makes a server one on which it has something to do."""

    action: str
    form: dict[str, str]
    before: tuple[c.Command, ...] = ()


_RICH = c.Push(
    queue="q", data=Raw(b"[1.0]"), job_id="rich", name="--name", priority=-3, max_attempts=7, backoff=2500, ttl=86_400_000, timeout=61_000,
    tags=["--yes", "b c"], group_id="-g", unique_key="k", lifo=True,
)  # fmt: skip
_SHAPED = c.Push(
    queue="q",
    data=Raw(b'"-"'),
    job_id="shaped",
    backoff=c.Backoff(type="fixed", delay=1500, max_delay=90_000, jitter=0.5),
)

CASES = (
    Case("pause", {"queue": "q"}),
    Case("pause", {"queue": "q", "reason": " the mail server is down ", "until": " 2h "}),
    Case("resume", {"queue": "q"}, (c.Pause(queue="q"),)),
    Case("limit", {"queue": "q", "number": " 1,000 "}),
    Case("unlimit", {"queue": "q"}, (c.SetConcurrency(queue="q", concurrency=3),)),
    Case("rate", {"queue": "q", "limit": "1,000", "time": " 5m "}),
    Case("unrate", {"queue": "q"}, (c.RateLimit(queue="q", limit=3),)),
    Case("set-defaults", {"queue": "q", "maxAttempts": " 5 ", "backoff": "2s", "removeOnFail": "yes"}),
    Case(
        "set-defaults",
        {"queue": "q", "timeout": "default", "ttl": "1h"},
        (c.SetDefaults(queue="q", timeout=7, max_attempts=4),),
    ),
    Case("reset-defaults", {"queue": "q"}, (c.SetDefaults(queue="q", timeout=7),)),
    Case("set-stalls", {"queue": "q", "stallInterval": "15s", "enabled": "no"}),
    Case("reset-stalls", {"queue": "q"}, (c.SetStallConfig(queue="q", max_stalls=7),)),
    Case("set-dead", {"queue": "q", "maxAge": "7d", "maxEntries": "1000"}),
    Case("set-dead", {"queue": "q", "autoRetry": "yes", "autoRetryInterval": "10m", "maxAutoRetries": "2"}),
    Case("reset-dead", {"queue": "q"}, (c.SetDlqConfig(queue="q", max_entries=7),)),
    Case("drain", {"queue": "q"}),
    Case(
        "drain",
        {"queue": "q", "delayed": "yes"},
        (c.ActOnJobs(filter=c.Filter(queue="q"), action="retry", limit=10_000),),
    ),
    Case("clean", {"queue": "q", "state": "failed", "older": "0s"}),
    Case("clean", {"queue": "q", "state": "delayed", "older": " 1h "}),
    Case("retry-all", {"queue": "q"}),
    Case("purge-all", {"queue": "q"}),
    Case("retry-group", GROUP),
    Case("retry-group", GROUP | {"number": "1,000"}),
    Case("purge-group", GROUP),
    Case("purge-group", GROUP | {"number": "3"}),
    Case("rerun-group", GROUP),
    Case("rerun-group", GROUP | {"count": "2", "rate": "1", "part": "50"}),
    Case("stop-rerun", {"rerun": "?"}, (c.RerunDlq(filter=c.Filter(queue="q"), count=1, rate=1, force=True),)),
    Case("fix-group", GROUP),
    Case("mute-group", GROUP),
    Case("unmark-group", GROUP, (c.MarkGroup(fingerprint=GROUP["fingerprint"], mark="muted"),)),
    Case("retry", {"queue": "q", "id": "bad-3"}),
    Case("purge", {"queue": "q", "id": "bad-3"}),
    Case("retry-changed", {"queue": "q", "id": "bad-3", "data": '{"to": "ana", "n": 1.0}'}),
    Case("payload", {"queue": "q", "id": "w-1", "data": " -7 "}),
    Case("copy", {"queue": "q", "id": "w-1"}),
    Case("copy", {"queue": "q", "id": "rich"}, (_RICH,)),
    Case("copy", {"queue": "q", "id": "shaped"}, (_SHAPED,)),
    Case("cancel", {"queue": "q", "id": "w-1"}),
    Case("cancel", {"queue": "q", "id": "held-0", "reason": " wrong month ", "grace": " 30s "}),
    Case("cancel-found", {"queue": "q", "idPrefix": "w-"}),
    Case("cancel-found", {"queue": "q", "state": "active", "reason": "it hangs", "force": "yes"}),
    Case("promote-found", {"queue": "q", "state": "delayed"}),
    Case("priority-found", {"idPrefix": "w-", "priority": " -7 "}),
    Case("move-found", {"queue": "q", "state": "waiting", "to": "r"}),
    Case("discard-found", {"queue": "q", "older": "0s", "attempts": "0", "force": "yes"}),
    Case("retry-found", {"queue": "q", "state": "failed", "error": "order", "newer": "9h"}),
    Case("purge-found", {"queue": "q", "state": "failed", "error": "TimeoutError: db"}),
    Case("backup", {}),
    Case("check", {}),
    Case("shrink", {}),
    Case("promote", {"queue": "q", "id": "later-1"}),
    Case("discard", {"queue": "q", "id": "w-1"}),
    Case("priority", {"queue": "q", "id": "w-1", "priority": " -7 "}),
    Case("delay", {"queue": "q", "id": "w-1", "delay": " 90m "}),
    Case("run-schedule", NAMED),
    Case("pause-schedule", NAMED),
    Case("resume-schedule", NAMED, (c.PauseSchedule(name="nightly"),)),
    Case("delete-schedule", NAMED),
    Case(
        "restore-schedule",
        NAMED
        | {
            "as": json.dumps(
                {
                    "queue": "q",
                    "data": '{"n": 1}',
                    "every": 60_000,
                    "jitter": 1500,
                    "options": {"tags": ["a"], "ttl": 9000},
                }
            )
        },
    ),
    Case(
        "restore-schedule",
        {
            "name": "new",
            "as": json.dumps(
                {
                    "queue": "q",
                    "data": "1",
                    "cron": "0 3 * * *",
                    "timezone": "Europe/Berlin",
                    "start": 1_893_456_000_000,
                }
            ),
        },
    ),
    Case("quiet", WORKER),
    Case("unquiet", WORKER, (c.QuietWorker(id="w1"),)),
    Case("release", {"id": "w2"}),
    Case("forget", WORKER),
    # Clients choose names: none of them is an option.
    Case("pause", {"queue": "--yes", "reason": "--json", "until": "2h"}),
    Case("limit", {"queue": "-n", "number": "7"}),
    Case("set-defaults", {"queue": "--reset", "backoff": "2s"}),
    *(Case(name, {"queue": "q", "id": ODD}, (c.Push(queue="q", data=Raw(b"1"), job_id=ODD),)) for name in ("cancel", "discard")),
    Case("priority", {"queue": "q", "id": ODD, "priority": "-7"}, (c.Push(queue="q", data=Raw(b"1"), job_id=ODD),)),
    Case("run-schedule", {"name": "--help"}, (c.PutSchedule(name="--help", queue="q", every=86_400_000),)),
    Case("restore-schedule", {"name": "--every", "as": json.dumps({"queue": "q", "data": "-1", "every": 60_000})}),
)  # fmt: skip


async def prepare(bunqueue: Bunqueue, case: Case) -> dict[str, str]:
    """Give a server jobs in all states, dead ones above all, and return the form of the case."""
    core, is_of_many = bunqueue.server.core, case.form.get("number") == "1,000"
    others = 1000 if is_of_many or case.action in {"drain", "clean", "retry-all", "purge-all"} else 5
    for n in range(12 + others):
        await push(bunqueue, "q", str(n), job_id=f"bad-{n}")
    await push(bunqueue, "q", job_id="later-0", delay=86_400_000)
    await fail(bunqueue, "q", 12, ERROR)
    await fail(bunqueue, "q", others, ERROR if is_of_many else OTHER)
    await trio.sleep(2 * 3600)
    await core.execute(c.RegisterWorker(name="mail", worker_id="w1", queues=["other"]))
    await core.execute(c.RegisterWorker(name="mail", worker_id="w2", queues=["q"]))
    await push(bunqueue, "q", job_id="held-0")
    await core.execute(c.PullBatch(queue="q", count=1, owner="w2"))
    for n in range(3):
        await push(bunqueue, "q", str(n), job_id=f"w-{n}")
    await push(bunqueue, "q", job_id="later-1", delay=86_400_000)
    await core.execute(c.PutSchedule(name="nightly", queue="q", every=86_400_000))
    # A server in memory has no file to do anything to.
    bunqueue.server.engine.upkeep.plan = planned
    bunqueue.server.engine.upkeep.on_begin = lambda work: None
    for command in case.before:
        await core.execute(command)
    reruns = list(bunqueue.server.engine.reruns)
    return case.form | ({"rerun": reruns[0]} if "rerun" in case.form else {})


def seen(bunqueue: Bunqueue) -> dict[str, Any]:
    """What can be known of a server, but for ids and times of its own making."""
    core = bunqueue.server.core
    states: dict[str, Any] = {}
    for state in ("waiting", "delayed", "active", "completed", "failed"):
        after = None
        while True:
            page = look(core, c.GetJobs(queue="q", state=state, limit=1000, after=after))
            states |= {
                f"job-{len(states)}" if len(job.id) > 30 else job.id: (
                    state,
                    job.priority,
                    job.run_at,
                    bytes(job.data),
                    job.max_attempts,
                    msgspec.to_builtins(job.backoff),
                    job.tags,
                    job.name,
                    job.lifo,
                )
                for job in page.jobs
            }
            after = page.next
            if after is None:
                break
    view = look(core, c.GetQueue(queue="q")).queue
    workers = look(core, c.ListWorkers()).data.workers
    return {
        # Of very many, it is the pages that decide which of them stand first.
        "jobs": states, "in line": list(states) if view.counts["waiting"] <= 100 else None,
        "queue": (view.paused, view.pause and (view.pause.reason, view.pause.until), view.concurrency, view.rate_limit),
        "settings": [look(core, kind(queue="q")) for kind in (c.GetDefaults, c.GetStallConfig, c.GetDlqConfig)],
        "marks": {key: mark.mark for key, mark in bunqueue.server.engine.marks.items()},
        "reruns": [(one.filter, one.count, one.rate, one.stop_at, one.state) for one in bunqueue.server.engine.reruns.values()],
        "schedules": [(each.name, each.state, each.runs) for each in look(core, c.ListSchedules()).schedules],
        "upkeep": [(each.kind, each.state) for each in bunqueue.server.engine.upkeep.last.values()],
        "workers": [(each.id, each.quiet_since is not None, each.active_jobs) for each in workers],
    }  # fmt: skip


def acts(bunqueue: Bunqueue) -> list[Any]:
    """What was written down, by whom apart, newest first."""
    reply: Any = look(bunqueue.server.core, c.Actions(limit=20))
    # A push is one from the dashboard only: what programs push is no act.
    told = [act for act in reply.actions if act.command != "Push"]
    return [(act.command, act.queue, act.job, act.worker, act.fields, act.count) for act in told]


def lines_of(page: str) -> tuple[list[str], list[str]]:
    """Return the words of the command line and of the curl on a page."""
    cli, curl = (html.unescape(text) for text in re.findall(r"<pre[^>]*>(.*?)</pre>", page, re.DOTALL))
    return shlex.split(cli), shlex.split(curl)


async def button(bunqueue: Bunqueue, case: Case) -> None:
    site, form = Site(bunqueue), await prepare(bunqueue, case)
    first = await site.get(f"/ui/act/{case.action}?{urlencode(form)}")
    done = await site.post(f"/ui/act/{case.action}", form | {"csrf": first.csrf})
    assert done.status == 303, done.text


async def command_line(bunqueue: Bunqueue, case: Case) -> None:
    form = await prepare(bunqueue, case)
    words, _ = lines_of((await Site(bunqueue).get(f"/ui/act/{case.action}?{urlencode(form)}")).html)
    more = ("--yes",) if case.action.endswith("-found") else AGREED.get(words[1], AGREED.get(" ".join(words[1:3]), ()))
    result = await trio.to_thread.run_sync(lambda: CliRunner().invoke(main, [*words[1:], *more]))
    assert result.exit_code == 0, (words, result.output, result.exception)


async def curl(bunqueue: Bunqueue, case: Case) -> None:
    form = await prepare(bunqueue, case)
    page = (await Site(bunqueue).get(f"/ui/act/{case.action}?{urlencode(form)}")).html
    _, words = lines_of(page)
    body = words[words.index("-d") + 1] if "-d" in words else ""
    method = words[words.index("-X") + 1] if "-X" in words else "POST"
    url = next(word for word in words if word.startswith("http://queue.example:6790/"))
    told = ACTIONS[case.action].by_curl
    assert html.escape(told) in page
    with client(bunqueue) as http:
        while True:
            answer = await trio.to_thread.run_sync(partial(http.request, method, url, content=body))
            assert answer.status_code == 200, answer.text
            reply = answer.json()
            if "has nothing left" in told and reply["left"]:
                continue
            if "next of its answer as after" not in told or reply["next"] is None:
                break
            body = json.dumps(json.loads(body) | {"after": reply["next"]})


def client(bunqueue: Bunqueue) -> httpx.Client:
    return httpx.Client(base_url="http://queue.example:6790", transport=bunqueue._place.http)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.action} {' '.join(case.form.values()).strip()}")
async def test_the_lines_beside_a_button_do_what_it_does(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    came_of_it, written = [], []
    for way in (button, curl, command_line):
        async with Bunqueue() as bunqueue:
            monkeypatch.setattr(remote, "connect", lambda *_, at=bunqueue: client(at))
            await way(bunqueue, case)
            await trio.sleep(5)
            came_of_it.append(seen(bunqueue))
            written.append(acts(bunqueue))
    assert came_of_it[1] == came_of_it[0]
    assert came_of_it[2] == came_of_it[0]
    # The curl is the same command to the letter, where it does all in one request.
    if not ACTIONS[case.action].by_curl and "until" not in case.form and "rerun" not in case.form:
        assert written[1] == written[0]


def test_every_button_is_tried() -> None:
    assert {case.action for case in CASES} == set(ACTIONS)
