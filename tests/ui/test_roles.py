"""What a token may do from a page is what it may do over the API: its buttons, and no others."""

import re
from collections.abc import AsyncIterator

import pytest
from trio.testing import MockClock

from bunqueue_trio.api.access import Grant
from bunqueue_trio.config import Settings
from bunqueue_trio.protocol.catalog import SPECS
from bunqueue_trio.protocol.commands.spec import Role
from bunqueue_trio.testing.server import Bunqueue
from bunqueue_trio.ui.actions import ACTIONS
from tests.ui.night import push, take
from tests.ui.site import Site

OF_WORK = {"cancel", "copy", "payload", "promote", "discard", "priority", "delay", "forget"}


@pytest.fixture
async def locked(autojump_clock: MockClock) -> AsyncIterator[Bunqueue]:
    async with Bunqueue(Settings(auth_tokens=("secret-token-1",))) as running:
        yield running


def signed_in(bunqueue: Bunqueue, role: Role) -> Site:
    site = Site(bunqueue)
    value = site.gateway.logins.sign_in(Grant(role, role.name.lower()), bunqueue.server.clock.now())
    site.cookie = f"{site.gateway.cookie}={value}"
    return site


def buttons(html: str) -> set[str]:
    return set(re.findall(r'href="/ui/act/([a-z-]+)\?', html))


def test_the_rows_that_a_worker_may_use_are_those_of_the_api() -> None:
    assert {name for name, row in ACTIONS.items() if SPECS[row.command].role <= Role.WORK} == OF_WORK


async def test_who_may_work_sees_the_buttons_of_that_and_no_others(locked: Bunqueue) -> None:
    waiting, delayed = await push(locked, "a"), await push(locked, "a", delay=60_000)
    await push(locked, "b")
    ((active, _),) = await take(locked, "b", 1)
    site = signed_in(locked, Role.WORK)
    assert buttons((await site.get(f"/ui/jobs/{waiting}")).html) == {
        "cancel",
        "copy",
        "payload",
        "priority",
        "delay",
        "discard",
    }
    assert buttons((await site.get(f"/ui/jobs/{delayed}")).html) == {
        "cancel",
        "copy",
        "payload",
        "promote",
        "priority",
        "delay",
        "discard",
    }
    assert buttons((await site.get(f"/ui/jobs/{active}")).html) == {"cancel", "copy", "discard"}
    for path in (
        "/ui",
        "/ui/queues/a",
        "/ui/queues/a/jobs",
        "/ui/jobs?tag=x",
        "/ui/jobs?queue=a",
        "/ui/storage",
        "/ui/actions",
        "/ui/errors",
    ):
        page = await site.get(path)
        assert page.status == 200
        assert buttons(page.html) == set(), path
        assert "btn off" not in page.html, path
        assert not page.said("In a shell") or path == "/ui/errors", path


@pytest.mark.parametrize("role", [*Role])
async def test_what_the_token_does_not_allow_is_refused(locked: Bunqueue, role: Role) -> None:
    site = signed_in(locked, role)
    csrf = (await site.get("/ui")).csrf
    for name, row in ACTIONS.items():
        form = dict.fromkeys(row.about, "x") | {field.name: field.default for field in row.fields}
        done = await site.post(f"/ui/act/{name}", form | {"csrf": csrf})
        assert (done.status == 403) == (role < SPECS[row.command].role), (name, role, done.status)
    if role is Role.WORK:
        assert (await site.get("/ui/act/pause?queue=a")).said("Your token may work, and not do this.")


async def test_who_may_work_cancels_a_job(locked: Bunqueue) -> None:
    job = await push(locked, "a")
    site = signed_in(locked, Role.WORK)
    page = await site.do("cancel", queue="a", id=job, reason="wrong data")
    assert page.said(f"{job} is cancelled") or page.said("cancelled")
    assert (await site.get(f"/ui/jobs/{job}")).said("wrong data")


async def test_who_only_looks_sees_what_others_could_do(locked: Bunqueue) -> None:
    job = await push(locked, "a")
    site = signed_in(locked, Role.READ)
    page = await site.get(f"/ui/jobs/{job}")
    assert buttons(page.html) == set()
    assert page.html.count("btn off") == 6
    assert page.said("You may look, and not change anything.")
