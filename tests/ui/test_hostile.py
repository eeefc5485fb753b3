"""Whatever clients put into names, payloads, errors and keys is shown as text, and only as text."""

import json
import re
from html.parser import HTMLParser
from urllib.parse import quote

import pytest
from msgspec import Raw

from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.caller import By
from bunqueue_trio.protocol.request import segment_of
from bunqueue_trio.testing.server import Bunqueue
from tests.ui.night import push, take
from tests.ui.site import Page, Site

pytestmark = pytest.mark.thorough


HOSTILE = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'><svg/onload=alert(1)>", "</pre></main><form action=//evil.example>",
    "javascript:alert(1)", "{{ 7*7 }}{% raw %}", "&lt;b&gt;&amp;", "\u202egnp.exe\u2066", "a\x1b[2Jb\x07", "`${alert(1)}`",
    "<!--", "]]>", "\u2028\u2029", "%3Cscript%3E", "x" * 5000, "🦊" * 50, '" autofocus onfocus="alert(1)', "../../etc/passwd", "\\u003cscript\\u003e",
    "<base href=//evil.example>", "<meta http-equiv=refresh content=0;url=//evil.example>", "' style='background:red",
]  # fmt: skip


class Reader(HTMLParser):
    """Reads a page as a browser would, and notes what is not ours."""

    MINE = frozenset(
        re.findall(
            r"\w+",
            """a article b body button circle code datalist dd details div dl dt form h1 h2 h3 head header html input label li
            link main meta nav option p path polyline pre rect script section select small span strong summary svg table textarea
            tbody td th thead time title tr ul""",
        )
    )

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.MINE:
            self.wrong.append(tag)
        self.scripts += tag == "script"
        for name, value in attrs:
            if name.startswith("on") or name in ("style", "srcdoc", "background"):
                self.wrong.append(f"{tag} {name}")
            if name in ("href", "src", "action", "formaction") and not re.fullmatch(
                r"(/[^/\\].*|#.*)?", value or "", re.DOTALL
            ):
                self.wrong.append(f"{tag} {name}={value}")
            if tag == "meta" and name == "http-equiv":
                self.wrong.append("meta refresh")


def is_only_text(page: Page) -> None:
    reader = Reader()
    reader.feed(page.html)
    assert reader.wrong == []
    assert reader.scripts == (1 if "<html" in page.html and "app.js" in page.html else 0)
    shown = re.sub(r'<input type="hidden"[^>]*>', "", page.html)  # what is sent back must be as it came
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
async def test_it_is_shown_as_text_on_every_page(site: Site, bunqueue: Bunqueue, text: str) -> None:
    core, key = bunqueue.server.core, text[:250]
    data = json.dumps({text: text, "password": text, "list": [text]})
    waiting = await push(
        bunqueue, "q", data, job_id=key, tags=[text[:1000]], group_id=text[:1000], unique_key=key, priority=-1,
    )  # fmt: skip
    for _ in range(3):
        await push(bunqueue, "q", data, tags=[text[:1000]])
    for job_id, token in await take(bunqueue, "q", 3):
        await core.execute(c.Progress(id=job_id, progress=1, message=text))
        await core.execute(c.Fail(id=job_id, token=token, error=text, unrecoverable=True))
        dead = job_id
    child = await push(bunqueue, "q", data, depends_on=[waiting])
    await core.execute(c.Pause(queue="q", reason=text[:1000]))
    done = await push(bunqueue, "r")
    (taken,) = await take(bunqueue, "r", 1)
    await core.execute(c.Ack(id=done, token=taken[1], result=Raw(json.dumps(text).encode())))
    for fields in ({"name": "s", "every": 60_000}, {"name": "once", "at": 2**42}):
        options = c.RunOptions(tags=[text[:1000]], group_id=key)
        await core.execute(c.PutSchedule(queue="s", data=Raw(data.encode()), source=key, options=options, **fields))
    await core.execute(c.RunSchedule(name="s"))
    ((slot_job, token),) = await take(bunqueue, "s", 1)
    await core.execute(c.Fail(id=slot_job, token=token, error=text, unrecoverable=True))
    await push(bunqueue, "s", data, job_id=f"r{key}"[:250], repeat=c.Repeat(every=5000, name=key))
    await core.execute(c.RegisterWorker(worker_id=key, name=key, queues=[key], hostname=key, version=key))
    (held,) = (await core.execute(c.PullBatch(queue="s", count=1, owner=key))).jobs
    await core.execute(c.Progress(id=held.id, progress=1, message=text))
    await core.execute(c.QuietWorker(id=key), by=By(text, text))
    pages = [
        await site.get(path)
        for path in ("/ui", "/ui/schedules", "/ui/schedules/s", "/ui/schedules/once", "/ui/workers", f"/ui/workers/{segment_of(key)}", "/ui/actions", "/ui/queues", "/ui/queues/q", "/ui/jobs", "/ui/errors", "/ui/events", "/ui/storage", "/ui/server",
                     *(f"/ui/queues/q/jobs?state={state}" for state in ("waiting", "waiting-children", "failed")),
                     *(f"/ui/jobs/{each}" for each in (dead, child, done)), f"/ui/jobs/{dead}/data")
    ]  # fmt: skip
    links = {
        href.replace("&amp;", "&").replace("&#34;", '"').replace("&#39;", "'")
        for page in pages
        for href in re.findall(r'href="(/ui/[^"]+)"', page.html)
        if "/static/" not in href and "/export/" not in href
    }
    pages += [await site.get(href) for href in sorted(links)]
    assert len(pages) > 25
    for page in pages:
        assert page.status in (200, 303), page.text[:300]
        is_only_text(page)


@pytest.mark.parametrize("text", [each for each in HOSTILE if len(each) < 1000], ids=range(len(HOSTILE) - 1))
async def test_what_an_address_says_is_text_too(site: Site, text: str) -> None:
    said = quote(text, safe="")
    for path in (
        f"/ui/queues?q={said}&by={said}&after={said}", f"/ui/queues/{said}", f"/ui/jobs/{said}", f"/ui/queues/q/jobs?state={said}",
        f"/ui/errors?queue={said}", f"/ui/events?queue={said}&type={said}", f"/ui/errors/q?fingerprint={said}&watch={said}", f"/ui/act/pause?queue={said}&reason={said}",
        f"/ui/schedules/{said}", f"/ui/schedules?after={said}", f"/ui/workers/{said}", f"/ui/workers?after={said}",
        f"/ui/actions?who={said}&what={said}&of={said}", f"/ui/actions?after={said}", f"/ui/act/release?id={said}", f"/ui/act/run-schedule?name={said}",
        f"/ui/act/{said}?queue=q", f"/ui/{said}", f"/ui?said={said}", f"/ui/login?next={said}", f"/ui/act/retry-group?queue=q&fingerprint={said}",
    ):  # fmt: skip
        page = await site.get(path)
        assert page.status in (200, 303, 400, 404), (path, page.status)
        if page.status != 303:
            is_only_text(page)
        else:
            assert page.headers["location"].startswith("/ui")
            assert page.headers["location"].isascii()


async def test_a_host_of_somebody_elses_making_is_not_repeated(site: Site, bunqueue: Bunqueue) -> None:
    await push(bunqueue, "q")
    for host in ("$(reboot)", "x';ls;'", "a b", "<b>", ""):
        page = await site.get("/ui/act/pause?queue=q", {"host": host})
        assert page.said("curl -X POST http://localhost:6790/queues/q/pause")
