"""The recipes for web frameworks in docs/recipes.md, in the real frameworks: an order becomes a job, and its result an answer."""

import ast
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from bunqueue_trio.commands import Cancel
from bunqueue_trio.sync import SyncClient
from tests.examples.conftest import ROOT
from tests.wire.server import Server, free_port

pytestmark = pytest.mark.slow

FASTAPI = """
import asyncio
import httpx
from fastapi_app import app

async def main():
    inside = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=inside, base_url="http://shop") as browser:
        placed = await browser.post("/orders/17")
        print(placed.status_code, placed.json())
        print((await browser.get("/bills/bill-17", timeout=60)).json())
        assert (await browser.get("/bills/nobill")).status_code == 404

asyncio.run(main())
"""

QUART = """
import asyncio
from quart_app import app

async def main():
    async with app.test_app() as running:
        browser = running.test_client()
        placed = await browser.post("/orders/17")
        print(placed.status_code, await placed.json)
        print(await (await browser.get("/bills/bill-17")).json)
        assert (await browser.get("/bills/nobill")).status_code == 404

asyncio.run(main())
"""

QUART_TRIO = QUART.replace("import asyncio", "import trio").replace("asyncio.run(main())", "trio.run(main)")

DJANGO = """
import django
from django.conf import settings
from django.db import transaction
from django.test import Client
from django.urls import path
from django_views import bill, place

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
"""

FLASK = """
from shop import app, queue
browser = app.test_client()
placed = browser.post("/orders/17")
print(placed.status_code, placed.json)
print(queue.wait("bill-17", 30))
assert browser.get("/bills/nobill").status_code == 404
"""

STATUSES = {
    "fastapi_app": """
        async def main():
            inside = httpx.ASGITransport(app)
            async with app.router.lifespan_context(app), httpx.AsyncClient(transport=inside, base_url="http://shop") as browser:
                print([(await browser.request(*each.split(), timeout=60)).status_code for each in sys.argv[1:]])
        import asyncio, fastapi_app, httpx, sys
        app = fastapi_app.app
        asyncio.run(main())
    """,
    "quart_app": """
        async def main():
            asked = map(str.split, sys.argv[1:])
            async with app.test_app() as running:
                browser = running.test_client()
                print([(await browser.open(path, method=method)).status_code for method, path in asked])
        import asyncio, sys
        from quart_app import app
        asyncio.run(main())
    """,
    "django_views": DJANGO.partition("assert browser")[0]
    + """
import sys
print([getattr(browser, method.lower())(path).status_code for method, path in map(str.split, sys.argv[1:])])
""",
    "shop": """
        import sys
        from shop import app
        browser, asked = app.test_client(), map(str.split, sys.argv[1:])
        print([browser.open(path, method=method).status_code for method, path in asked])
    """,
}
"""Recipe → a program that prints the status of the answer to each request that it is given."""


def code_of(recipe: str, port: int) -> str:
    """Return the recipe of that name, for a server at that port, and with less patience, most of it with one that is away."""
    page = (ROOT / "docs" / "recipes.md").read_text()
    found = re.search(rf"```python\n# {recipe}\.py\n(.*?)```", page, re.DOTALL)
    assert found
    code = found[1].replace("localhost:6790", f"127.0.0.1:{port}")
    assert "timeout=30" in code
    return code.replace("patience=5", "patience=1").replace("timeout=30", "timeout=2")


def said_by(folder: Path, recipe: str, port: int, program: str, *arguments: str) -> str:
    """Return what a program says that uses the recipe."""
    (folder / f"{recipe}.py").write_text(code_of(recipe, port))
    (folder / "program.py").write_text(textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, "program.py", *arguments], cwd=folder, env=os.environ | {"NO_PROXY": "*"}, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("recipe", STATUSES)
def test_who_asks_for_a_bill_hears_what_became_of_it(fresh: Server, tmp_path: Path, recipe: str):
    with SyncClient(fresh.url) as client:
        for job_id in ("dead", "done", "gone", "late"):
            client.push("bills", {}, job_id=job_id, max_attempts=1)
        dead, done = client.pull("bills"), client.pull("bills")
        assert dead is not None
        assert done is not None
        dead.fail("no")
        done.ack({"cents": 1})
        client.run(Cancel(id="gone", reason="no need"))
    asked = [f"GET /bills/{job_id}" for job_id in ("done", "nobill", "dead", "gone", "late")]
    assert said_by(tmp_path, recipe, fresh.port, STATUSES[recipe], *asked) == "[200, 404, 409, 409, 504]\n"


@pytest.mark.parametrize("recipe", STATUSES)
def test_while_the_server_is_away_whoever_comes_is_asked_to_try_again(tmp_path: Path, recipe: str):
    """Who asks for a bill, and who places an order."""
    asked = "GET /bills/any", "POST /orders/17"
    assert said_by(tmp_path, recipe, free_port(), STATUSES[recipe], *asked) == "[503, 503]\n"


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
