"""The dashboard in a real browser: every screen at both widths and in both colours, with and without JavaScript, and by keyboard alone."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bunqueue_trio.engine.fingerprint import fingerprint
from bunqueue_trio.testing import virtual
from tests.ui import axe
from tests.ui.camera import served
from tests.ui.chromium import CHROMIUM, PATIENCE_S, Browser, Chromium
from tests.ui.site import Page
from tests.ui.test_cluster import World
from tests.ui.test_cluster_findings import NOW, WAITS, WELL
from tests.ui.troubled import TOKEN, ask, signed_in, troubled
from tests.wire.server import Server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the dashboard is not looked at"),
]

# What can be judged without looking: contrast of each text with what is behind it, size of what is pressed, names of controls.
JUDGE = r"""(() => {
  const faults = [], main = document.body;
  const parse = (c) => { const m = c.match(/[\d.]+/g).map(Number); return c.startsWith("color(srgb") ? [m[0]*255, m[1]*255, m[2]*255, m[3] ?? 1] : [m[0], m[1], m[2], m[3] ?? 1]; };
  const light = ([r, g, b]) => { const f = (v) => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }; return .2126*f(r) + .7152*f(g) + .0722*f(b); };
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] > .99) return c; } return [255, 255, 255, 1]; };
  const walk = document.createTreeWalker(main, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement, box = e.getBoundingClientRect();
    if (!walk.currentNode.nodeValue.trim() || !box.width || e.closest(".hidden, .skip, script, option, [disabled]")) continue;
    const style = getComputedStyle(e), [a, b] = [light(parse(style.color)), light(behind(e))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) faults.push(`contrast ${ratio.toFixed(2)}: ${walk.currentNode.nodeValue.trim().slice(0, 40)} (${e.className})`);
  }
  for (const e of main.querySelectorAll("a, button, input:not([type=hidden]), select, textarea, summary")) {
    const box = e.getBoundingClientRect();
    if (!box.width || e.closest(".skip")) continue;
    const inline = e.nodeName === "A" && e.closest("p, td, th, li, dd, .crumbs");
    if (!inline && (box.width < 24 || box.height < 24)) faults.push(`small: ${e.outerHTML.slice(0, 80)}`);
    const name = e.textContent.trim() || e.getAttribute("aria-label") || e.labels?.length;
    if (!name) faults.push(`no name: ${e.outerHTML.slice(0, 80)}`);
  }
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) faults.push(`twice: ${id}`);
  let level = 0;
  for (const h of document.querySelectorAll("h1, h2, h3")) { const n = Number(h.nodeName[1]); if (n > level + 1) faults.push(`jumps to ${h.nodeName}`); level = n; }
  // A word of ours that goes on in the next line; what clients have chosen may have to be cut.
  const texts = document.createTreeWalker(main, NodeFilter.SHOW_TEXT), range = document.createRange();
  while (texts.nextNode()) {
    const node = texts.currentNode;
    if (node.parentElement.closest(".hidden, .skip, .id, .name, pre, script, option, .payload, .remedy, h1, h2")) continue;
    for (const word of node.nodeValue.matchAll(/[\w:.,]{2,24}/g)) {
      range.setStart(node, word.index); range.setEnd(node, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size > 1) faults.push(`cut: ${word[0]}`);
    }
  }
  for (const e of document.querySelectorAll(".scroll")) if (e.scrollWidth > e.clientWidth) faults.push(`a column is cut: ${e.getAttribute("aria-label")}`);
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (wide > 0) faults.push(`wider than the window by ${wide}`);
  return [...new Set(faults)];
})()"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with troubled(tmp_path_factory.mktemp("night")) as running:
        yield running


@pytest.fixture(scope="module")
def axe_core(tmp_path_factory: pytest.TempPathFactory) -> str | None:
    return axe.source(tmp_path_factory.mktemp("axe"))


@pytest.fixture
def browser(server: Server, chromium: Chromium) -> Iterator[Browser]:
    with signed_in(server, chromium) as running:
        yield running


class Keyboard:
    """What somebody does whose mouse does not work."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    def press(self, key: str, code: int = 0, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            self._browser.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code,
                text=(text or key if len(key) == 1 else text) if kind == "keyDown" else "",
            )  # fmt: skip

    def type(self, text: str) -> None:
        """Type into the field that has the focus; a page may give it a moment after it is there."""
        self._browser.until("document.activeElement.matches('input') && 1")
        self._browser.call("Input.insertText", text=text)

    def reach(self, words: str) -> None:
        """Press Tab until what has these words, or this id, has the focus, and shows it."""
        seen = []
        for _ in range(120):
            self.press("Tab", 9)
            at, shows = self._browser.run(
                "(() => { const e = document.activeElement, s = getComputedStyle(e); "
                "return [e.id || e.textContent.trim(), s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0]; })()"
            )
            assert shows, f"nobody sees that {at} has the focus"
            seen.append(at)
            if at == words:
                return
        raise AssertionError(f"Tab does not lead to {words}: {seen}")

    def enter(self) -> None:
        """Press Enter, and wait for the page that it leads to."""
        self._browser.run("window.isOld = true; 1")
        self.press("Enter", 13, "\r")
        self._browser.until("!window.isOld && document.readyState === 'complete' && 1")

    def screen(self, key: str) -> None:
        """Press the key of a screen, and wait for it."""
        self._browser.run("window.isOld = true; 1")
        self.press(key)
        self._browser.until("!window.isOld && document.readyState === 'complete' && 1")


def test_the_same_by_keyboard_alone(browser: Browser, server: Server) -> None:
    keys = Keyboard(browser)
    keys.reach("Sign out")
    keys.enter()
    # The field of the token has the focus from the start.
    keys.type(TOKEN)
    keys.enter()
    browser.until("document.body.innerText.includes('Sign out')")
    keys.screen("2")
    keys.reach("invoices")
    keys.enter()
    keys.reach("Pause…")
    keys.enter()
    keys.reach("f-reason")
    keys.type("no mouse")
    keys.enter()
    assert "no mouse" in browser.text()
    keys.reach("Resume…")
    keys.enter()
    keys.reach("Resume")
    keys.enter()
    assert "invoices delivers again." in browser.text()
    keys.screen("9")
    keys.reach("Undo…")
    keys.enter()
    assert "Pause invoices" in browser.text()
    job = a_job(browser).rpartition("/")[2]
    keys.press("/")
    keys.type(job)
    keys.enter()
    assert "Nobody asks for jobs of this queue" in browser.text()
    keys.reach("Discard…")
    keys.enter()
    keys.reach("Leave it")
    keys.enter()
    assert "Nobody asks for jobs of this queue" in browser.text()


def a_job(browser: Browser) -> str:
    """The address of a job that waits."""
    return str(
        browser.run(
            "fetch('/ui/queues/invoices/jobs?state=waiting').then((r) => r.text()).then((t) => t.match(/\\/ui\\/jobs\\/[^\"?]+/)[0])"
        )
    )


def screens(job: str) -> tuple[str, ...]:
    """Every screen, with something on it."""
    return (
        "/ui", "/ui/queues", "/ui/queues/orders", "/ui/jobs", "/ui/queues/orders/jobs?state=failed", "/ui/queues/strange/jobs?state=waiting",
        job, job + "/data", "/ui/jobs/later-1", "/ui/act/copy?queue=later&id=later-1", "/ui/errors", f"/ui/errors/orders?fingerprint={fingerprint('PaymentError: order 17 refused').key}",
        "/ui/events", "/ui/events?type=failed", "/ui/schedules", "/ui/schedules/nightly", "/ui/workers", "/ui/workers/w-1", "/ui/actions", "/ui/actions?of=nowhere",
        "/ui/act/release?id=w-1", f"/ui/act/rerun-group?queue=orders&fingerprint={fingerprint('PaymentError: order 17 refused').key}", "/ui/act/delete-schedule?name=nightly", "/ui/storage", "/ui/server", "/ui/cluster", "/ui/act/pause?queue=orders", "/ui/act/clean?queue=orders", "/ui/jobs/nobody",
    )  # fmt: skip


def show(browser: Browser, server: Server, path: str) -> None:
    """Open an address without the help of its scripts, and wait for the page."""
    browser.call("Page.navigate", url=server.url + path)
    deadline = time.monotonic() + PATIENCE_S
    while browser.run("document.readyState + location.pathname + location.search") != f"complete{path}":
        assert time.monotonic() < deadline, path
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("width", "dark", "scripts"),
    [
        *(
            pytest.param(width, dark, scripts, marks=[pytest.mark.long] if (width == 360) ^ dark ^ scripts else [])
            for width in (360, 1440)
            for dark in (False, True)
            for scripts in (False, True)
        ),
        # A tablet; a window of 1,280 that shows all four times as large, and one that shows it twice as large; a screen on a wall.
        (768, True, True), (320, True, True),
        *(pytest.param(width, dark, dark, marks=pytest.mark.long) for width, dark in ((640, False), (2560, True))),
    ],
)  # fmt: skip
def test_every_screen_is_fit_to_be_read(
    axe_core: str | None, browser: Browser, server: Server, width: int, dark: bool, scripts: bool
) -> None:
    """Whatever two of these there are of a phone and of a desk, they are together in one of the four that are not `long`.

    Of those four axe-core looks at the two that run scripts: narrow and light, wide and dark.
    """
    found = {}
    job = a_job(browser)
    browser.look(width, dark=dark, scripts=scripts)
    is_for_axe = axe_core is not None and scripts and width in (360, 1440)
    if axe_core is not None and is_for_axe:
        browser.bring(axe_core)
    for path in screens(job):
        show(browser, server, path)
        found[path] = browser.run(JUDGE)
        if is_for_axe:
            found[path] += browser.run(axe.RUN)
    assert {path: faults for path, faults in found.items() if faults} == {}
    assert [each for each in browser.complaints if "404" not in each] == []


def test_a_thumb_hits_what_it_means(browser: Browser, server: Server) -> None:
    """Buttons, fields and what folds are 44 pixels high; a press on a time shows the moment."""
    job, found = a_job(browser), {}
    browser.look(360, thumb=True)
    for path in screens(job):
        show(browser, server, path)
        found[path] = browser.run(
            "[...document.querySelectorAll('.btn, main input:not([type=hidden]), select, textarea, nav a')].filter((e) => "
            "{ const box = e.getBoundingClientRect(); return box.width && box.height < 43.5; }).map((e) => e.outerHTML.slice(0, 80))"
        )
    assert {path: faults for path, faults in found.items() if faults} == {}
    show(browser, server, job)
    said = "getComputedStyle(document.querySelector('main time'), '::after').content"
    assert browser.run(said) == "none"
    browser.run("document.querySelector('main time').click(); 1")
    assert re.search(r"attr\(title\)|[0-9]{4}-[0-9]{2}-[0-9]{2}", browser.run(said)), browser.run(said)


def test_nothing_moves_for_who_wants_that(browser: Browser, server: Server) -> None:
    moving = (
        "[...document.querySelectorAll('*')].filter((e) => { const s = getComputedStyle(e); return parseFloat(s.transitionDuration) > 0 "
        "|| s.animationName !== 'none' || s.scrollBehavior === 'smooth'; }).length"
    )
    job = a_job(browser)
    for wants, moves in (
        ({"prefers-reduced-motion": "no-preference"}, True),
        ({"prefers-reduced-motion": "reduce"}, False),
    ):
        browser.look(1440, wants=wants)
        for path in screens(job)[:6]:
            show(browser, server, path)
            assert (browser.run(moving) > 0) is moves, path


def test_in_the_colours_of_the_system_nothing_is_said_by_colour_alone(browser: Browser, server: Server) -> None:
    """Where one is, what state a job is in, and how things went."""
    job = a_job(browser)
    browser.look(1440, wants={"forced-colors": "active"})
    for path in screens(job):
        show(browser, server, path)
        assert browser.run(
            "[...document.querySelectorAll('[aria-current]')].every((e) => getComputedStyle(e).textDecorationLine === 'underline')"
        ), path
        assert browser.run(
            "[...document.querySelectorAll('.state')].every((e) => parseFloat(getComputedStyle(e).borderWidth) > 0)"
        ), path
        assert browser.run(
            "[...document.querySelectorAll('.chart-line')].every((e) => getComputedStyle(e).stroke !== getComputedStyle(document.body).backgroundColor)"
        ), path


@pytest.fixture(scope="module")
def of_cluster() -> Iterator[str]:
    """The address of a cluster in trouble, as its leader shows it."""
    found: dict[str, Page] = {}

    async def make() -> None:
        world = World(doors=2)
        world.server.doors.note_end(NOW, "2", "did not answer any more, and was ended", hung=True)
        gone = [WAITS._replace(seen_s=400.0, version="0.0.9")]
        found["/ui/cluster"] = await world.see(WELL._replace(waiting=[], missing=gone, oldest_s=4000.0))
        for address in re.findall(r'"(/ui/static/[^"]*)"', found["/ui/cluster"].html):
            found[address.partition("?")[0]] = await world.site.get(address)

    virtual.run(make, seed=1)
    with served(found) as url:
        yield url


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_a_cluster_is_fit_to_be_read(
    browser: Browser, of_cluster: str, axe_core: str | None, width: int, dark: bool
) -> None:
    browser.look(width, dark=dark)
    if axe_core is not None:
        browser.bring(axe_core)
    browser.go(f"{of_cluster}/ui/cluster")
    assert "No other server would take over" in browser.text()
    assert browser.run(JUDGE) == []
    if axe_core is None:
        pytest.skip("axe-core cannot be had here: it looks at no screen")
    assert browser.run(axe.RUN) == []


HIDE = "Object.defineProperty(document, 'hidden', {configurable: true, get: () => %s}); document.dispatchEvent(new Event('visibilitychange')); 1"


def wait(browser: Browser, seconds: float) -> None:
    browser.run(f"new Promise((go) => setTimeout(go, {seconds * 1000}))")


def looks(browser: Browser) -> list[str]:
    """What the pages have asked for, but for their streams."""
    return [url for url in browser.asked if "/ui/news" not in url]


def test_a_page_lives_and_a_hidden_one_asks_nothing(browser: Browser, server: Server) -> None:
    browser.go(f"{server.url}/ui/queues/alive")
    assert "waiting" in browser.text()
    browser.run(
        "document.querySelector('.shell').open = true; document.querySelector('.states a').focus(); window.isSame = 1"
    )
    with ask(server) as api:
        for n in range(7):
            api.post("/queues/alive/jobs", json={"data": n})
    browser.until("document.querySelector('.states-n').textContent === '7'")
    # It is the same page, with the same focus and the same things open.
    assert browser.run("window.isSame === 1 && document.querySelector('.shell').open") is True
    assert browser.run("document.activeElement === document.querySelector('.states a')") is True
    browser.run(HIDE % "true")
    wait(browser, 1)
    asked = len(browser.asked)
    with ask(server) as api:
        api.post("/queues/alive/jobs", json={"data": 8})
    wait(browser, 7)
    assert len(browser.asked) == asked
    browser.run(HIDE % "false")
    # It looks at once, and listens again.
    browser.until("document.querySelector('.states-n').textContent === '8'")
    browser.until("1")
    wait(browser, 1)
    assert len(looks(browser)) == len([url for url in browser.asked[:asked] if "/ui/news" not in url]) + 1
    assert len(browser.asked) == asked + 2
    assert browser.complaints == []


def test_a_page_to_which_nothing_happens_asks_nothing_and_its_times_go_on(chromium: Chromium, tmp_path: Path) -> None:
    with Server(tmp_path / "quiet.db") as quiet, Browser(chromium) as browser:
        with ask(quiet) as api:
            api.post("/queues/q/pause", json={"reason": "rotation"})
        browser.go(f"{quiet.url}/ui/actions")
        wait(browser, 6)
        asked, said = len(browser.asked), browser.text()
        wait(browser, 8)
        assert len(browser.asked) == asked
        # It was some seconds ago, and is a few more now.
        assert browser.text() != said
        assert browser.complaints == []


def test_a_page_without_its_stream_asks_by_itself(browser: Browser, server: Server) -> None:
    browser.call("Network.setBlockedURLs", urls=["*/ui/news*"])
    browser.go(f"{server.url}/ui/queues/alone")
    with ask(server) as api:
        api.post("/queues/alone/jobs", json={"data": 1})
    browser.until("document.querySelector('.states-n').textContent === '1'")
    before, began = len(looks(browser)), time.monotonic()
    while len(looks(browser)) < before + 2:
        wait(browser, 1)
    # A busy machine makes them fewer, never more.
    assert len(looks(browser)) - before <= (time.monotonic() - began) / 2 + 1
    browser.call("Network.setBlockedURLs", urls=[])
    browser.complaints.clear()


def test_keys_lead_through_it_and_can_be_turned_off(browser: Browser, server: Server) -> None:
    def press(key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key=key, text=key if kind == "keyDown" else "", code=key)

    browser.go(f"{server.url}/ui")
    press("4")
    browser.until("location.pathname === '/ui/errors' && document.readyState === 'complete' && 1")
    press("/")
    assert browser.run("document.activeElement.id") == "find"
    press("2")  # it is typed now
    assert browser.run("location.pathname") == "/ui/errors"
    browser.run("document.activeElement.blur(); document.getElementById('keys').click(); 1")
    press("1")
    browser.run("new Promise((go) => setTimeout(go, 300))")
    assert browser.run("location.pathname") == "/ui/errors"
    browser.run("localStorage.clear(); 1")
