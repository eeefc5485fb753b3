"""Pages are made without stopping the server."""

import itertools
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from types import SimpleNamespace

import pytest
import trio
from jinja2 import Template

from bunqueue_trio.ui import render as rendering
from bunqueue_trio.ui.render import render, templates


@asynccontextmanager
async def somebody_else() -> AsyncIterator[Iterator[int]]:
    """Another task, and what counts its turns."""
    turns = itertools.count()

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        for _ in turns:
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        yield turns
        nursery.cancel_scope.cancel()


async def test_others_are_served_while_the_pages_are_compiled_for_the_first():
    templates.cache_clear()
    async with somebody_else() as turns:
        assert b"no such" in await render("sorry.html", {"text": "no such page", "css": "", "status": 404})
    assert next(turns) > 2


def test_a_text_of_a_client_is_cut_before_each_of_its_letters_is_looked_at():
    """An error may have 64 KiB, which would take 4 ms for each that a page shows the beginning of."""
    pages = [page for page in files("bunqueue_trio.ui").joinpath("templates").iterdir() if page.name.endswith(".html")]
    assert len(pages) > 10
    assert [page.name for page in pages if re.search(r"\|plain\)\[", page.read_text())] == []


async def test_others_are_served_between_long_pieces_of_a_page(monkeypatch: pytest.MonkeyPatch):
    pages = {"long": Template("{% for each in texts %}{{ each }}{% endfor %}")}
    pages_of = SimpleNamespace(currsize=1)
    made = partial(dict, pages)
    monkeypatch.setattr(made, "cache_info", lambda: pages_of, raising=False)
    monkeypatch.setattr(rendering, "templates", made)
    async with somebody_else() as turns:
        assert len(await render("long", {"texts": ["x" * 10_000] * 40})) == 400_000
    assert next(turns) > 8
