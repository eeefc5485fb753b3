"""What the pages show of the server and of clients in Python is so: lines of curl, declarations, and what a wait says."""

import json
import re
import shlex
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
import trio
import trio.to_thread

from bunqueue_trio import Job
from bunqueue_trio.protocol.standin import STAND_INS
from bunqueue_trio.testing import Bunqueue

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/schedules.md")


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


def curls(page: str) -> list[str]:
    """Return each call of curl on a page, in order."""
    lines = "".join(blocks(page, "sh")).splitlines()
    return [f"curl {call}" for line in lines if line.startswith("curl ") for call in line.split("curl ")[1:]]


def asked(call: str, job: Job) -> dict[str, Any]:
    """Return what a call of curl asks for, about ``job``."""
    words = shlex.split(call.replace("'$TOKEN'", job.token).replace("$ID", job.id).rstrip("; "), comments=True)[1:]
    request: dict[str, Any] = {"method": "GET", "headers": {}}
    while words:
        match words.pop(0):
            case "-X":
                request["method"] = words.pop(0)
            case "-d":
                request["content"] = words.pop(0)
                request["method"] = "POST" if request["method"] == "GET" else request["method"]
            case "-H":
                name, value = words.pop(0).split(": ")
                request["headers"][name] = value
            case "-N":
                pass
            case url:
                request["url"] = url.rstrip(";").replace("$Q", "http://localhost:6790")
    return request


@pytest.mark.parametrize("page", [pytest.param(PAGES[0], marks=pytest.mark.slow), *PAGES[1:]])
async def test_each_line_of_curl_is_answered(bunqueue: Bunqueue, page: str):
    stand_in = STAND_INS.current
    assert stand_in is not None
    calls, refused = curls(page), dict[str, str]()
    assert len(calls) > 8
    with httpx.Client(transport=stand_in.http) as http:

        def ask(request: dict[str, Any]) -> int:
            with http.stream(**request) as answer:  # one of events has no end
                if answer.status_code != 200:
                    refused[request["url"].rpartition("/")[2]] = answer.read().decode()
                return answer.status_code

        for call in calls:
            await bunqueue.client.push("emails", {"to": "ada"})
            job = await bunqueue.client.pull("emails")
            assert job is not None
            await trio.to_thread.run_sync(ask, asked(call, job))
    assert {name: json.loads(text)["error"] for name, text in refused.items()} == (
        {"promote": "Job not found or not delayed"} if page == "README.md" else {}
    )


async def test_the_worker_of_the_readme_works(bunqueue: Bunqueue):
    [code] = blocks("README.md", "python")
    example: dict[str, Any] = {}
    exec(code, example)
    bunqueue.start(example["worker"])
    job_id = await example["sign_up"]("user@test.com")
    assert (await bunqueue.client.get(job_id)).data == {"to": "user@test.com"}
    assert await bunqueue.client.wait(job_id) is None
    assert bunqueue.elapsed >= 300


async def test_what_the_page_of_schedules_declares_comes_to_the_server(bunqueue: Bunqueue):
    [code] = blocks("docs/schedules.md", "python")
    example: dict[str, Any] = {}
    exec(code, example)
    assert (await example["app"].sync()).created == ["reports", "tidy"]
    bunqueue.start(example["app"])
    async with bunqueue.client.events("completed") as events:
        done = await anext(events)
    assert done.queue == "reports"
    job = await bunqueue.client.get(done.job_id)
    assert (job.data, datetime.fromtimestamp(job.created_at, ZoneInfo("Europe/Berlin")).hour) == ({"kind": "daily"}, 3)
    tidy = await bunqueue.client.pull("maintenance")
    assert tidy is not None
    assert tidy.created_at % 600 == 0


async def test_a_wait_that_cannot_end_says_so_as_shown(bunqueue: Bunqueue):
    [shown] = blocks("docs/testing.md", "text")
    job_id = await bunqueue.client.push("leters")
    with pytest.raises(TimeoutError) as told:
        await bunqueue.client.wait(job_id)
    assert f"{type(told.value).__name__}: {told.value}" == shown.strip().replace("0199…", job_id)
