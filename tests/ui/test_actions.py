"""Whatever is done from a page: looked at first, agreed to, done, and told; and the lines that do the same in a shell."""

import html
import re
import shlex

import pytest
import trio
from click.testing import CliRunner
from msgspec import Raw
from trio.testing import MockClock

from bunqueue_trio.api.access import Grant
from bunqueue_trio.cli import main
from bunqueue_trio.config import Settings
from bunqueue_trio.engine.fingerprint import fingerprint
from bunqueue_trio.engine.reruns import Rerun
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import queue_replies as qr
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.commands.spec import Role
from bunqueue_trio.testing.server import Bunqueue
from bunqueue_trio.ui.actions import ACTIONS
from bunqueue_trio.ui.editing import EDITED_CHARS
from tests.looks import look
from tests.ui.night import fail, push, take, work
from tests.ui.site import Site


def state_of(bunqueue: Bunqueue, job_id: str) -> str:
    return look(bunqueue.server.core, c.GetState(id=job_id)).state


def counts(bunqueue: Bunqueue, queue: str = "q") -> dict[str, int]:
    reply = look(bunqueue.server.core, c.GetQueue(queue=queue))
    assert isinstance(reply, qr.QueueReply)
    return reply.queue.counts


async def test_a_queue_is_paused_with_a_reason_and_an_end_and_resumed(site: Site, bunqueue: Bunqueue) -> None:
    await push(bunqueue, "q")
    page = await site.do("pause", queue="q", reason="the mail server is down", until="2h")
    assert page.said("q is paused.")
    assert page.said("Paused now: “the mail server is down”; it ends in 2 h.")
    assert await take(bunqueue, "q", 1) == []
    page = await site.do("resume", queue="q")
    assert page.said("q delivers again.")
    assert len(await take(bunqueue, "q", 1)) == 1


async def test_before_it_is_done_it_says_what_would_be_done(site: Site, bunqueue: Bunqueue) -> None:
    ids = [await push(bunqueue, "q", str(n)) for n in range(5)]
    page = await site.get("/ui/act/drain?queue=q")
    assert page.said("5 jobs would be removed.")
    assert all(job_id in page.html for job_id in ids[:3])
    assert ids[3] not in page.html
    assert counts(bunqueue)["waiting"] == 5
    await push(bunqueue, "q", delay=10_000)
    assert (await site.get("/ui/act/drain?queue=q&delayed=yes")).said("6 jobs would be removed.")


async def test_draining_goes_on_over_slices(site: Site, bunqueue: Bunqueue) -> None:
    for n in range(430):
        await push(bunqueue, "q", str(n))
    await push(bunqueue, "q", delay=10_000)
    page = await site.do("drain", queue="q")
    assert page.said("q: 430 jobs removed, 0 left.")
    assert counts(bunqueue) == dict.fromkeys(counts(bunqueue), 0) | {"delayed": 1}


async def test_cleaning_up_takes_only_what_is_old(site: Site, bunqueue: Bunqueue) -> None:
    for n in range(210):
        await push(bunqueue, "q", str(n))
    await work(bunqueue, "q", 100)
    await trio.sleep(7200)
    await work(bunqueue, "q", 110)
    page = await site.get("/ui/act/clean?queue=q&state=completed&older=1h")
    assert page.said("100 jobs, about")
    assert page.said("would be removed. For example:")
    assert (await site.get("/ui/act/clean?queue=q&state=completed&older=1d")).said(
        "0 jobs, about 0 B, would be removed."
    )
    page = await site.do("clean", queue="q", state="completed", older="1h")
    assert page.said("q: 100 jobs removed of 210 looked at.")


async def test_all_dead_letters_are_retried_or_deleted(site: Site, bunqueue: Bunqueue) -> None:
    for n in range(205):
        await push(bunqueue, "q", str(n))
    await fail(bunqueue, "q", 205, "no")
    page = await site.do("retry-all", queue="q")
    assert page.said("q: 205 of 205 dead letters retried.")
    assert (await site.get("/ui/actions")).said("in 3 slices")
    assert counts(bunqueue)["waiting"] == 205
    await fail(bunqueue, "q", 205, "no")
    page = await site.do("purge-all", queue="q")
    assert page.said("q: 205 of 205 dead letters deleted.")
    assert counts(bunqueue)["failed"] == 0


async def test_a_few_of_one_error_are_retried_first_and_their_fate_is_shown(site: Site, bunqueue: Bunqueue) -> None:
    for n in range(30):
        await push(bunqueue, "q", str(n), max_attempts=1)
    other = await fail(bunqueue, "q", 5, "TimeoutError: db")
    await fail(bunqueue, "q", 25, "PaymentError: order {}")
    about = {"queue": "q", "fingerprint": fingerprint("PaymentError: order 7").key}
    page = await site.do("retry-group", **about, number="10")
    assert page.said("q: 10 of 10 dead letters retried.")
    assert page.said("Of those that were retried: 10 waiting")
    again = page.html  # the address that shows it
    assert "watch=" not in again
    assert counts(bunqueue)["waiting"] == 10
    assert all(state_of(bunqueue, job_id) == "failed" for job_id in other)
    page = await site.do("purge-group", **about, number="10000")
    assert page.said("q: 15 of 15 dead letters deleted.")
    assert page.said("No dead letter with this error is left")
    assert counts(bunqueue)["failed"] == 5


async def test_one_job_is_changed_from_its_page(site: Site, bunqueue: Bunqueue) -> None:
    job = await push(bunqueue, "q", delay=60_000)
    assert (await site.do("promote", queue="q", id=job)).said(f"{job} is ready.")
    assert (await site.do("priority", queue="q", id=job, priority="7")).said(f"{job} has priority 7.")
    assert (await site.do("delay", queue="q", id=job, delay="10m")).said(f"{job} is ready in 10m.")
    assert state_of(bunqueue, job) == "delayed"
    assert (await site.do("discard", queue="q", id=job)).said(f"{job} is a dead letter.")
    assert (await site.do("retry", queue="q", id=job)).said(f"{job} waits again.")
    assert state_of(bunqueue, job) == "waiting"
    await site.do("discard", queue="q", id=job)
    assert (await site.do("purge", queue="q", id=job)).said(f"{job} is deleted.")
    second = await push(bunqueue, "q")
    assert (await site.do("cancel", queue="q", id=second)).said(f"{second} is cancelled.")


async def test_a_job_gets_another_payload(site: Site, bunqueue: Bunqueue) -> None:
    """A dead letter with its retry; what waits stays where it stands. Numbers are as they were written."""
    dead, waits = await push(bunqueue, "q", '{"to": null, "n": 1.0}', max_attempts=1), await push(bunqueue, "q", "1")
    await fail(bunqueue, "q", 1, "no address")
    form = await site.get(f"/ui/act/retry-changed?queue=q&id={dead}")
    assert "{\n  &#34;to&#34;: null,\n  &#34;n&#34;: 1.0\n}</textarea>" in form.html
    assert form.said("""bunqueue-trio retry q --id""")
    page = await site.do("retry-changed", queue="q", id=dead, data='{"to": "ana",\r\n "n": 1.0}')
    assert page.said("waits again, with another payload.")
    assert page.said('"to": "ana"')
    page = await site.do("payload", queue="q", id=waits, data="[1.50]")
    assert page.said("has another payload.")
    assert [bytes(job.data) for job in look(bunqueue.server.core, c.GetJobs(queue="q", state="waiting")).jobs] == [
        b"[1.50]",
        b'{"to":"ana","n":1.0}',
    ]  # type: ignore[attr-defined]
    assert (await site.get("/ui/actions")).said("change --data")
    page = await site.do("copy", queue="q", id=waits, data='{"again":true}')
    assert page.said(f"This copy of {waits} is there.")
    assert page.said('"again": true')
    assert counts(bunqueue)["waiting"] == 3
    acts = look(bunqueue.server.core, c.Actions()).actions  # type: ignore[attr-defined]
    assert [act.command for act in acts] == ["Push", "Update", "RetryDlq"], "what a program pushes is no act"
    assert (acts[0].queue, acts[0].who, acts[0].count) == ("q", "anybody", 1)
    assert acts[0].fields == {"maxAttempts": 3, "backoff": 1000}
    assert (await site.get(f"/ui/actions?what=push&of={acts[0].job}")).said(f"push {acts[0].job}")
    for wrong in ("{", "", "\x00"):
        page = await site.post("/ui/act/payload", {"queue": "q", "id": waits, "data": wrong, "csrf": form.csrf})
        assert (page.status, page.said("This payload is no JSON")) == (400, True)


async def test_a_copy_has_all_tags_however_many(site: Site, bunqueue: Bunqueue) -> None:
    tags = [f"{n:03}{'x' * 60}" for n in range(100)]
    job = await push(bunqueue, "q", tags=tags)
    page = await site.get(f"/ui/act/copy?queue=q&id={job}")
    said = re.search(r'name="as" value="([^"]*)"', page.html)
    assert said, page.html
    form = {"queue": "q", "id": job, "data": "{}", "as": html.unescape(said[1]), "csrf": page.csrf}
    assert (await site.post("/ui/act/copy", form)).status == 303
    waits = look(bunqueue.server.core, c.GetJobs(queue="q", state="waiting")).jobs  # type: ignore[attr-defined]
    assert [each.tags for each in waits] == [tags, tags]


@pytest.mark.parametrize("data", ['{"password": "hunter2"}', f'"{"x" * EDITED_CHARS}"'])
async def test_what_is_hidden_or_long_is_not_offered_in_a_form(site: Site, bunqueue: Bunqueue, data: str) -> None:
    job = await push(bunqueue, "q", data)
    page = await site.get(f"/ui/jobs/{job}")
    assert "/ui/act/payload" not in page.html
    assert page.said(f"bunqueue-trio change {job} --data @payload.json")
    assert "hunter2" not in (await site.get(f"/ui/act/payload?queue=q&id={job}")).html
    assert (await site.get("/ui/act/payload?queue=q&id=nobody")).said("nobody: Job not found")


async def test_limits_are_set_and_removed(site: Site, bunqueue: Bunqueue) -> None:
    page = await site.do("limit", queue="q", number="3")
    assert page.said("Active at once at most 3")
    page = await site.do("rate", queue="q", limit="100", time="1m")
    assert page.said("Rate at most 100 in 1 min")
    page = await site.do("unlimit", queue="q")
    assert page.said("Active at once any number")
    page = await site.do("unrate", queue="q")
    assert page.said("Rate any")


@pytest.mark.parametrize(
    ("action", "form", "words"),
    [
        ("limit", {"number": "many"}, "a whole number is wanted, not 'many'"),
        ("limit", {"number": "0"}, "concurrency"),
        ("rate", {"limit": "5", "time": "soon"}, "'soon' must be a time, such as 500ms"),
        ("rate", {"limit": "5", "time": "30"}, "'30' needs a unit: 30ms or 30s?"),
        ("pause", {"reason": "", "until": "later"}, "'later' must be a time, such as 500ms"),
        ("pause", {"reason": "x" * 3000, "until": ""}, "reason"),
        ("clean", {"state": "asleep", "older": "1h"}, "state must be"),
        ("clean", {"state": "active", "older": "0s"}, "state"),
        ("retry-group", {"fingerprint": "f", "number": "-1"}, "a number from 1 to 10,000 is wanted"),
        ("cancel", {"id": "nobody"}, "Job not found"),
        ("set-stalls", {"stallInterval": "soon"}, "stallInterval=soon: must be"),
        ("set-defaults", {"maxAttempts": "0"}, "maxAttempts"),
    ],
)
async def test_what_is_wrong_is_said_and_nothing_is_done(
    site: Site, bunqueue: Bunqueue, action: str, form: dict[str, str], words: str
) -> None:
    await push(bunqueue, "q")
    first = await site.get("/ui/act/drain?queue=q")
    page = await site.post(f"/ui/act/{action}", {"queue": "q", "csrf": first.csrf} | form)
    assert page.status == 400
    assert page.said(words), page.text
    assert counts(bunqueue)["waiting"] == 1
    assert not bunqueue.server.engine.gates


async def test_a_form_without_its_number_does_nothing(site: Site, bunqueue: Bunqueue) -> None:
    await push(bunqueue, "q")
    first = await site.get("/ui/act/drain?queue=q")
    for csrf in ("", "0" * 64, first.csrf[:-1] + "x", "ü" * 500):
        page = await site.post("/ui/act/drain", {"queue": "q", "csrf": csrf})
        assert page.status == 403
        assert page.said("go back, load the page again")
    # The right number, from another site.
    for headers in (
        {"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"},
    ):  # fmt: skip
        page = await site.post("/ui/act/drain", {"queue": "q", "csrf": first.csrf}, headers)
        assert page.status == 403
        assert page.said("Origin is not allowed")
    other = Site(bunqueue)
    page = await other.post("/ui/act/drain", {"queue": "q", "csrf": first.csrf})
    assert page.status == 403
    assert counts(bunqueue)["waiting"] == 1
    # Behind a proxy the host is another; the browser says whose form it is.
    for headers in (
        {"origin": "http://queue.example:6790"}, {"origin": "https://queue.example", "host": "backend:6790", "sec-fetch-site": "same-origin"},
    ):  # fmt: skip
        page = await site.post("/ui/act/drain", {"queue": "q", "csrf": first.csrf}, headers)
        assert page.status == 303


async def test_it_leads_back_to_where_it_belongs_and_nowhere_else(site: Site, bunqueue: Bunqueue) -> None:
    await push(bunqueue, "q")
    first = await site.get("/ui/act/pause?queue=q&back=https://evil.example")
    assert "evil" not in first.html
    done = await site.post("/ui/act/pause", {"queue": "q", "csrf": first.csrf, "back": "https://evil.example"})
    where = done.headers["location"]
    assert where.startswith("/ui/queues/q?said=")
    assert (await site.get(where)).said("q is paused.")
    # What was said is of this server, not of who makes up an address.
    assert not (await site.get("/ui/queues/q?said=hello")).said("hello")


async def test_a_queue_says_how_it_treats_its_jobs_and_who_has_said_so(autojump_clock: MockClock) -> None:
    async with Bunqueue(Settings(auth_tokens=("secret",))) as bunqueue:
        site, now = Site(bunqueue), bunqueue.server.clock.now
        site.cookie = f"{site.gateway.cookie}={site.gateway.logins.sign_in(Grant(Role.ADMIN, 'ana'), now())}"
        page = await site.get("/ui/queues/q")
        assert page.said("All as everywhere")
        assert page.said("maxAttempts 3 default")
        first = await site.get("/ui/act/set-defaults?queue=q&maxAttempts=5")
        assert first.said("maxAttempts 3 (default)")
        assert first.said("maxAttempts would change.")
        assert (await site.get("/ui/act/set-defaults?queue=q")).said("nothing would change")
        page = await site.do("set-defaults", queue="q", maxAttempts="5", timeout="30s")
        assert page.said("2 settings of its own")
        assert page.said("maxAttempts 5 set by ana now")
        await trio.sleep(7200)
        site.cookie = f"{site.gateway.cookie}={site.gateway.logins.sign_in(Grant(Role.ADMIN, 'bob'), now())}"
        page = await site.do("set-stalls", queue="q", maxStalls="1")
        assert page.said("maxAttempts 5 set by ana 2 h ago")
        assert page.said("maxStalls 1 set by bob now")
        page = await site.do("limit", queue="q", number="4")
        assert page.said("concurrency 4 set by bob now")
        assert page.said("rateLimit no limit default")
        page = await site.do("set-defaults", queue="q", timeout="default")
        assert page.said("timeout no limit default")
        assert page.said("maxAttempts 5 set by ana 2 h ago")
        page = await site.do("reset-defaults", queue="q")
        assert page.said("2 settings of its own")
        site.cookie = f"{site.gateway.cookie}={site.gateway.logins.sign_in(Grant(Role.READ, 'eve'), now())}"
        page = await site.get("/ui/queues/q")
        assert page.said("maxStalls 1 set by bob"), "who only looks sees it"
        assert "/ui/act/set-" not in page.html, "and cannot change it"


@pytest.mark.thorough
@pytest.mark.parametrize("name", ACTIONS)
async def test_every_action_has_lines_for_a_shell_that_say_the_same(site: Site, bunqueue: Bunqueue, name: str) -> None:
    """The command is there with these options, and the curl is of the queue and job of the page."""
    job = await push(bunqueue, "q'; rm -rf /;".replace("'; rm -rf /;", "x"), '{"a":1}')
    await bunqueue.server.core.execute(c.PutSchedule(name="sx", queue="qx", every=60_000))
    about = {"queue": "qx", "id": job, "fingerprint": "it's `ls` $(gone) …", "name": "sx", "rerun": "rx", "to": "qy"}
    bunqueue.server.engine.reruns.add(
        Rerun(id="rx", filter=c.Filter(queue="q"), count=1, rate=1, stop_at=0, started_at=0)
    )
    asked = "&".join(
        f"{key}={html.escape(value).replace('&', '%26').replace('#', '%23')}" for key, value in about.items()
    )
    put = '{"queue":"qx","data":"1","every":1000}'
    page = await site.get(f"/ui/act/{name}?{asked}{f'&as={put}' if name == 'restore-schedule' else ''}")
    lines = [html.unescape(text) for text in page.html.split("<pre")[1:]]
    cli, curl = (text.partition(">")[2].partition("</pre>")[0] for text in lines)
    words = shlex.split(cli)
    assert words[0] == "bunqueue-trio"
    done = CliRunner().invoke(
        main, [*words[1 : 3 if words[1] in ("schedules", "workers", "reruns", "storage") else 2], "--help"]
    )
    assert done.exit_code == 0
    for word in words[2:]:
        if word.startswith("--"):
            assert word in done.output
    words = shlex.split(curl)
    assert words[0] == "curl"
    paths = (
        "/queues/qx",
        f"/jobs/{job}",
        "/schedules/sx",
        '"name":"sx"',
        f"/workers/{job}",
        '{"queue":"qx"',
        "/dead/reruns/rx/stop",
        f"/storage/{name}",
        "/dead/groups/",
    )
    assert any(path in word for word in words for path in paths)


async def test_a_reader_sees_why_there_are_no_buttons(autojump_clock: MockClock) -> None:
    async with Bunqueue(Settings(auth_tokens=("secret-1",))) as bunqueue:
        await push(bunqueue, "q")
        site = Site(bunqueue)
        value = site.gateway.logins.sign_in(Grant(Role.READ, "reader"), bunqueue.server.clock.now())
        site.cookie = f"{site.gateway.cookie}={value}"
        page = await site.get("/ui/queues/q")
        assert page.said("You may look, and not change anything.")
        assert "/ui/act/" not in page.html
        page = await site.post("/ui/act/drain", {"queue": "q", "csrf": page.csrf})
        assert page.status == 403
        assert page.said("You may look, and not change anything.")
        assert counts(bunqueue)["waiting"] == 1


async def test_results_and_payloads_are_as_they_were(bunqueue: Bunqueue) -> None:
    """Looking changes nothing."""
    site = Site(bunqueue)
    job = await push(bunqueue, "q", '{"n": 1.0}')
    for path in (
        f"/ui/jobs/{job}",
        f"/ui/jobs/{job}/data",
        "/ui/queues/q",
        "/ui",
        "/ui/errors",
        "/ui/act/drain?queue=q",
    ):
        await site.get(path)
    reply = look(bunqueue.server.core, c.GetJob(id=job))
    assert isinstance(reply, r.JobReply)
    assert bytes(reply.job.data) == b'{"n": 1.0}' == bytes(Raw(b'{"n": 1.0}'))
    assert bunqueue.server.journal.pending == 0
