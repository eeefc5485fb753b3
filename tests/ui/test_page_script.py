"""What the script of the pages does when looks fail and streams come and go: run as it stands, in Node, with a page that a test can see through."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "src/bunqueue_trio/ui/static/app.js"
# It has a Node of its own.
pytestmark = pytest.mark.thorough

PAGE = """
const timers = new Map(), said = { textContent: "" }, looks = [];
let last = 0, stream = null, fails = false;
globalThis.setTimeout = (run, ms) => { timers.set(++last, { run, ms }); return last; };
globalThis.clearTimeout = (id) => timers.delete(id);
globalThis.setInterval = () => 0;
const element = (more) => ({ addEventListener() {}, classList: { toggle() {} }, contains: () => false, querySelectorAll: () => [], ...more });
const elements = {
  main: element({ dataset: { live: "3", mark: "1", news: "/ui/news?of=now", now: "0" } }), live: element({ lastChild: said }), keys: element({}),
};
globalThis.document = element({ getElementById: (id) => elements[id] ?? null, getSelection: () => null, hidden: false, activeElement: null });
globalThis.location = { href: "/ui" };
globalThis.EventSource = class {
  listeners = {};
  constructor() { stream = this; }
  addEventListener(name, run) { this.listeners[name] = run; }
  close() {}
};
globalThis.window = { EventSource };
globalThis.fetch = async () => {
  looks.push(fails ? "fails" : "looks");
  if (fails) throw new Error("no server");
  return { ok: true, status: 304, headers: { get: () => "1" } };
};
const turn = () => new Promise((resolve) => setImmediate(resolve));
// Whatever is due within half a minute.
const pass = async () => { for (const [id, { run, ms }] of [...timers]) if (ms < 30000 && timers.delete(id)) run(); await turn(); };
"""


def run(steps: str) -> list[list[str]]:
    """Run the script of a page, do some steps, and return the looks that it took and what it says then."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node here")
    code = f"{PAGE}\n{SCRIPT.read_text()}\n(async () => {{ {steps}\nconsole.log(JSON.stringify([looks, [said.textContent]])); }})();"
    done = subprocess.run([node, "-e", code], capture_output=True, text=True, timeout=60, check=True)
    told: list[list[str]] = json.loads(done.stdout)
    return told


def test_a_page_whose_stream_stands_asks_nothing_by_itself():
    assert run("stream.listeners.hello(); await pass(); await pass();") == [[], ["live"]]


def test_a_look_that_failed_is_repeated_also_where_the_stream_opens_meanwhile():
    """Else the page would say that the server does not answer until there is something new."""
    steps = "fails = true; await pass(); fails = false; stream.listeners.hello(); await pass(); await pass();"
    assert run(steps) == [["fails", "looks"], ["live"]]


def test_a_page_that_has_looked_again_waits_for_its_stream():
    steps = "fails = true; await pass(); fails = false; stream.listeners.hello(); await pass(); stream.listeners.news(); await pass(); await pass();"
    assert run(steps) == [["fails", "looks", "looks"], ["live"]]
