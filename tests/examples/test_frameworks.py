"""The recipes for web frameworks in docs/recipes.md, in the real frameworks: an order becomes a job, and its result an answer."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bunqueue_trio.sync import SyncClient
from tests.examples.conftest import ROOT
from tests.wire.server import Server

pytestmark = pytest.mark.slow

AWAY = """
from bunqueue_trio import ServerUnavailable

def away(*_, **__):
    raise ServerUnavailable("the server is away")
"""
"""How it is for a recipe when no server answers: a 503, which its browsers understand."""

FASTAPI = (
    AWAY
    + """
import asyncio
import httpx
from fastapi_app import app, queue

async def main():
    inside = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=inside, base_url="http://shop") as browser:
        placed = await browser.post("/orders/17")
        print(placed.status_code, placed.json())
        print((await browser.get("/bills/bill-17", timeout=60)).json())
        assert (await browser.get("/bills/nobill")).status_code == 404
        type(queue).push = type(queue).wait = away
        assert (await browser.post("/orders/18")).status_code == 503
        assert (await browser.get("/bills/bill-17")).status_code == 503

asyncio.run(main())
"""
)

QUART = (
    AWAY
    + """
import asyncio
from quart_app import app, queue

async def main():
    async with app.test_app() as running:
        browser = running.test_client()
        placed = await browser.post("/orders/17")
        print(placed.status_code, await placed.json)
        print(await (await browser.get("/bills/bill-17")).json)
        assert (await browser.get("/bills/nobill")).status_code == 404
        type(queue).push = type(queue).wait = away
        assert (await browser.post("/orders/18")).status_code == 503
        assert (await browser.get("/bills/bill-17")).status_code == 503

asyncio.run(main())
"""
)

QUART_TRIO = QUART.replace("import asyncio", "import trio").replace("asyncio.run(main())", "trio.run(main)")

DJANGO = (
    AWAY
    + """
import django
from django.conf import settings
from django.db import transaction
from django.test import Client
from django.urls import path
from django_views import bill, place, queue

@transaction.atomic
def broken(request, order):
    place(request, order)
    raise ValueError("the order cannot be kept")

urlpatterns = [path("orders/<order>", place), path("broken/<order>", broken), path("bills/<job_id>", bill)]
settings.configure(
    ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()
browser = Client(raise_request_exception=False)
assert browser.post("/broken/18").status_code == 500
placed = browser.post("/orders/17")
print(placed.status_code, placed.json())
print(browser.get("/bills/bill-17").json())
assert browser.get("/bills/nobill").status_code == 404
type(queue).wait = away
assert browser.get("/bills/bill-17").status_code == 503
"""
)

FLASK = (
    AWAY
    + """
from shop import app, queue
browser = app.test_client()
placed = browser.post("/orders/17")
print(placed.status_code, placed.json)
print(queue.wait("bill-17", 30))
assert browser.get("/bills/nobill").status_code == 404
type(queue).push = type(queue).state = away
assert browser.post("/orders/18").status_code == 503
assert browser.get("/bills/bill-17").status_code == 503
"""
)


def written(folder: Path, name: str, server: Server) -> str:
    """Write the recipe of that name, for this server, and return it."""
    page = (ROOT / "docs" / "recipes.md").read_text()
    found = re.search(rf"```python\n# {name}\.py\n(.*?)```", page, re.DOTALL)
    assert found
    code = found[1].replace("localhost:6790", f"127.0.0.1:{server.port}")
    (folder / f"{name}.py").write_text(code)
    return code


@pytest.mark.parametrize(
    ("recipe", "program"),
    [
        ("fastapi_app", FASTAPI), ("quart_app", QUART), ("quart_app", QUART_TRIO), ("django_views", DJANGO), ("shop", FLASK),
    ],
    ids=["FastAPI", "Quart", "Quart on Trio", "Django", "Flask"],
)  # fmt: skip
def test_an_order_becomes_a_job_and_its_result_an_answer(fresh: Server, tmp_path: Path, recipe: str, program: str):
    code = written(tmp_path, recipe, fresh)
    if program is QUART_TRIO:
        (tmp_path / f"{recipe}.py").write_text(
            code.replace("from quart import Quart", "from quart_trio import QuartTrio as Quart")
        )
    (tmp_path / "program.py").write_text(program)
    with subprocess.Popen(
        [sys.executable, "-W", "error", "program.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"NO_PROXY": "*"}, text=True,
    ) as process:  # fmt: skip
        try:
            with SyncClient(fresh.url) as client:
                job = client.pull("bills", timeout=60)
                assert job is not None
                job.ack({"order": job.data["order"], "cents": 4200})
            said, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    placed, bill = said.splitlines()
    assert placed == "202 {'bill': 'bill-17'}"
    assert ast.literal_eval(bill) == {"order": "17", "cents": 4200}
    with SyncClient(fresh.url) as client:
        assert client.pull("bills") is None, "nothing more was pushed"
