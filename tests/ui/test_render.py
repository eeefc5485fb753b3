"""Pages are made without stopping the server."""

import trio

from bunqueue_trio.ui.render import render, templates


async def test_others_are_served_while_the_pages_are_compiled_for_the_first():
    templates.cache_clear()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        assert b"no such" in await render("sorry.html", {"text": "no such page", "css": "", "status": 404})
        nursery.cancel_scope.cancel()
    assert turns > 1
