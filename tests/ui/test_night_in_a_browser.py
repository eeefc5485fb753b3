"""The story of a night in a real browser: what somebody does who is woken, from the first finding to the last undo."""

import re
from pathlib import Path

import httpx
import pytest

from tests.ui.chromium import CHROMIUM, Browser, Chromium
from tests.ui.troubled import ask, signed_in, troubled, work

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: nobody goes through the night"),
]


def rerun(browser: Browser, count: int) -> None:
    """Let the server retry the dead letters of an error, a few first."""
    browser.click("Rerun, a few first…")
    browser.run(f"document.getElementById('f-count').value = {count}; 1")
    browser.click("Rerun, a few first")
    assert "The rerun is under way" in browser.text()


def follow(browser: Browser, link: str, sign: str) -> None:
    """Press a link that has no words of its own, and wait for the page that has this."""
    browser.run(f"window.isOld = true; document.querySelector('{link}').click(); 1")
    browser.until(f"!window.isOld && document.readyState === 'complete' && document.querySelector('{sign}') && 1")


def _finds_the_error(browser: Browser) -> None:
    """From the first finding to what the jobs that died have in common."""
    # What is wrong may be a few seconds old on the first page; it mends itself.
    browser.until("document.body.innerText.includes('orders: 12 jobs died')")
    browser.click("Look at the errors")
    assert "PaymentError: order … refused" in browser.text()
    follow(browser, ".groups a", ".pairs")
    assert 'tenant "acme"' in browser.text()


def _tries_a_few_first(browser: Browser, api: httpx.Client) -> None:
    """A rerun is refused in words while nobody works; then it stops by itself, for the first die again."""
    browser.click("Rerun, a few first…")
    browser.click("Rerun, a few first")
    assert "Nobody asks for jobs of queue orders" in browser.text()
    assert "400" in browser.complaints.pop()
    browser.click("Leave it")
    api.post("/workers", json={"workerId": "w-2", "name": "cashier", "queues": ["orders"]})
    rerun(browser, 3)
    work(api, 3, "PaymentError: order {} refused")
    browser.until("document.getElementById('main').innerText.includes('1 of 3 had died again, more than 20 %')")
    assert "stopped" in browser.text()


def _pauses_and_resumes(browser: Browser) -> None:
    """So that nothing more dies meanwhile."""
    browser.click("Pause…")
    browser.run("document.getElementById('f-reason').value = 'card service is down'; 1")
    browser.click("Pause")
    assert "Paused" in browser.text()
    assert "card service is down" in browser.text()
    browser.click("Resume…")
    browser.click("Resume")
    assert "orders delivers again." in browser.text()


def _cancels_a_job(browser: Browser, url: str) -> None:
    """One that waits, and says why."""
    browser.go(f"{url}/ui/queues/invoices/jobs?state=waiting")
    follow(browser, ".list .id a", ".why")
    assert "Nobody asks for jobs of this queue" in browser.text()
    assert "hunter2" not in browser.run("document.documentElement.outerHTML")
    browser.click("Cancel…")
    browser.run("document.getElementById('f-reason').value = 'twice in the books'; 1")
    browser.click("Cancel")
    assert "is cancelled." in browser.text()


def _reruns_them(browser: Browser, url: str, api: httpx.Client) -> None:
    """The card service is there again: the first do well, and bring the others."""
    browser.go(f"{url}/ui/errors")
    follow(browser, '.groups a[href*="/orders?"]', ".pairs")
    rerun(browser, 3)
    work(api, 12)
    browser.until("document.getElementById('main').innerText.includes('done 12 retried, 0 not ended, 0 died again')")
    assert "No dead letter with this error is left." in browser.text()


def _takes_jobs_from_who_hangs(browser: Browser) -> None:
    """From the finding to the worker, whose jobs run elsewhere."""
    follow(browser, 'nav a[href="/ui"]', ".findings")
    browser.until("document.body.innerText.includes('Worker mailer: none of its 3 jobs ends')")
    assert "Take its jobs back…" in browser.text()
    browser.click("Open the worker")
    assert "web-1.example" in browser.text()
    assert "× longer than usual" in browser.text()
    browser.click("Take its jobs back…")
    browser.click("Take its jobs back")
    assert "3 jobs taken back." in browser.text()


def _reads_the_storage(browser: Browser) -> None:
    """How full, and what is kept."""
    browser.click("Storage")
    assert "Write-ahead log" in browser.text()
    assert "RETENTION_COMPLETED_MAX" in browser.text()


def _takes_an_act_back(browser: Browser) -> None:
    """The job that was cancelled waits again."""
    browser.click("Actions")
    follow(browser, '.deeds-cell a[href*="/ui/act/retry?"]', ".act")
    browser.click("Retry")
    assert "Nobody asks for jobs of this queue" in browser.text()


def test_the_story_of_a_night(tmp_path: Path, chromium: Chromium) -> None:
    with troubled(tmp_path) as server, ask(server) as api, signed_in(server, chromium) as browser:
        _finds_the_error(browser)
        _tries_a_few_first(browser, api)
        _pauses_and_resumes(browser)
        _cancels_a_job(browser, server.url)
        _reruns_them(browser, server.url, api)
        _takes_jobs_from_who_hangs(browser)
        _reads_the_storage(browser)
        _takes_an_act_back(browser)
        browser.click("Sign out")
        assert "One of the server's AUTH_TOKENS" in browser.text()
        assert browser.complaints == []
        assert {re.sub(r"(//[^/]*).*", r"\1", url) for url in browser.asked} == {server.url}
