"""Whatever clients put into names, payloads, errors, stacks, logs and reasons is text to a browser, too: nothing of it runs, loads or is part of the page."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bunqueue_trio.protocol.request import segment_of
from tests.ui.chromium import CHROMIUM, Browser, Chromium
from tests.ui.test_hostile import HOSTILE
from tests.ui.troubled import TOKEN, ask, signed_in
from tests.wire.server import Server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: nobody tries to get through to a browser"),
]

FOREIGN = """(() => {
  const ours = new Set(["/ui/static/app.js", "/ui/static/app.css", "/ui/static/icon.svg"]);
  const of = (url) => new URL(url, location.href);
  return [
    ...document.querySelectorAll("img, iframe, object, embed, base, style, audio, video, meta[http-equiv]"),
    ...[...document.querySelectorAll("script, link")].filter((e) => !ours.has(of(e.src || e.href).pathname)),
    ...[...document.querySelectorAll("a, form, button")].filter((e) => of(e.href || e.action || "/ui").origin !== location.origin),
    ...[...document.querySelectorAll("*")].filter((e) => [...e.attributes].some(({ name }) => name.startsWith("on") || name === "style")),
  ].map((e) => e.outerHTML.slice(0, 200));
})()"""
"""What of a page is not ours."""


def plant(api: httpx.Client) -> list[str]:
    """Put each text wherever a client may put one; return the pages that show it."""
    pages = ["/ui", "/ui/queues", "/ui/jobs?queue=odd", "/ui/queues/odd", "/ui/queues/odd/jobs?state=failed", "/ui/errors", "/ui/workers", "/ui/events", "/ui/schedules", "/ui/actions", "/ui/server"]  # fmt: skip
    for n, text in enumerate(HOSTILE):
        key = f"{n}{text}"[:250]
        options = {"tags": [text[:500]], "groupId": key, "uniqueKey": key, "name": key}
        said(
            api.post(
                "/workers", json={"workerId": key, "name": key, "queues": ["odd"], "hostname": key, "version": key}
            )
        )
        said(api.post("/queues/odd/jobs", json={"data": {text: text}, "jobId": key, "maxAttempts": 1} | options))
        job = f"/jobs/{segment_of(key)}"
        token = said(api.get("/queues/odd/jobs", params={"owner": key}))["token"]
        said(api.post(f"{job}/progress", json={"progress": 1, "message": text, "token": token}))
        said(api.post(f"{job}/logs", json={"message": text}))
        said(api.post(f"{job}/fail", json={"error": text, "stack": text, "token": token, "unrecoverable": True}))
        said(api.post("/queues/odd/pause", json={"reason": text[:500]}))
        said(api.post("/queues/odd/resume"))
        pages += [f"/ui{job}", f"/ui/workers/{segment_of(key)}"]
    said(api.post("/queues/odd/pause", json={"reason": HOSTILE[1]}))
    said(
        api.post(
            "/schedules",
            json={"name": "odd", "queue": "odd", "every": 86_400_000, "data": HOSTILE, "source": HOSTILE[0]},
        )
    )
    return [*pages, "/ui/schedules/odd"]


def said(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 200, answer.text
    told: dict[str, str] = answer.json()
    return told


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "q.db", {"AUTH_TOKENS": TOKEN}) as running:
        yield running


def test_nothing_that_clients_write_is_part_of_a_page(server: Server, chromium: Chromium) -> None:
    with ask(server) as api, signed_in(server, chromium) as browser:
        pages = plant(api)
        # A dialog would stop all that follows.
        browser.call(
            "Page.addScriptToEvaluateOnNewDocument", source="window.alert = () => { throw new Error('alert'); }"
        )
        browser.go(f"{server.url}/ui/errors")
        pages += browser.run("[...document.querySelectorAll('.groups a')].map((e) => e.pathname + e.search)")
        found = {path: look(browser, server.url + path) for path in pages}
        assert {path: foreign for path, foreign in found.items() if foreign} == {}
        assert browser.complaints == []
        assert all(url.startswith(f"{server.url}/") for url in browser.asked)


def look(browser: Browser, url: str) -> list[str]:
    browser.go(url)
    assert "/ui/static/app.css" in browser.run("document.querySelector('link[rel=stylesheet]').href")
    foreign: list[str] = browser.run(FOREIGN)
    return foreign
