"""An act on many jobs goes on by itself: the page shows how far it is, may be left, is found again, and stops it."""

from urllib.parse import urlencode

import pytest
import trio
from msgspec import Raw

from bunqueue_trio.api.access import Grant
from bunqueue_trio.config import ERRANDS_KEPT, ERRANDS_MAX, Settings
from bunqueue_trio.errors import Refused, StoreError
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.commands.push import JobSpec
from bunqueue_trio.protocol.commands.spec import Role
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.errands import PATIENCE_S, Errand, Errands, Step
from bunqueue_trio.testing.server import Bunqueue
from bunqueue_trio.ui import doing
from bunqueue_trio.ui.errands import LARGE
from tests.ui.night import fail
from tests.ui.site import Page, Site

MANY = 3000


async def many(bunqueue: Bunqueue, n: int = MANY) -> None:
    for _ in range(n // 1000):
        await bunqueue.server.core.execute(c.PushBatch(queue="q", jobs=[JobSpec(data=Raw(b"1")) for _ in range(1000)]))


async def begin(site: Site, action: str = "discard-found", **form: str) -> Page:
    """Agree to an act, and return the answer to that."""
    form = form or {"queue": "q"}
    page = await site.get(f"/ui/act/{action}?queue=q")
    return await site.post(f"/ui/act/{action}", form | {"csrf": page.csrf})


def waiting(bunqueue: Bunqueue) -> int:
    return bunqueue.server.counts()["waiting"]


async def begun(bunqueue: Bunqueue) -> None:
    """Return when some of MANY jobs are gone."""
    for _ in range(10_000):
        if waiting(bunqueue) < MANY:
            return
        await trio.lowlevel.checkpoint()
    raise AssertionError("it does not begin")


async def test_the_page_shows_how_far_it_is_until_all_are_done(site: Site, bunqueue: Bunqueue) -> None:
    await many(bunqueue)
    done = await begin(site)
    assert done.status == 303
    where = done.headers["location"]
    assert where.startswith("/ui/acts/")
    page = await site.get(where)
    assert page.said("of 3,000 made dead letters")
    assert "<progress" in page.html
    assert 'data-live="1"' in page.html
    # Without JavaScript, too.
    assert '<noscript><meta http-equiv="refresh"' in page.html
    # It is found again, by whoever looks.
    assert where in (await site.get("/ui/actions")).html
    seen = set()
    for _ in range(1000):
        await trio.lowlevel.checkpoint()
        seen.add(waiting(bunqueue))
    await trio.sleep(1)
    assert len(seen) > 3
    page = await site.get(where)
    assert page.said("3,000 jobs made dead letters.")
    assert "<progress" not in page.html
    assert "data-live" not in page.html
    assert bunqueue.server.counts()["failed"] == MANY
    actions = await site.get("/ui/actions")
    assert where not in actions.html
    assert actions.said("3,000")


@pytest.mark.parametrize("action", ["cancel-found", "discard-found", "move-found"])
async def test_what_is_pushed_meanwhile_is_none_of_its_business(site: Site, bunqueue: Bunqueue, action: str) -> None:
    await many(bunqueue)
    await bunqueue.server.core.execute(c.PullBatch(queue="q", count=5))
    where = (await begin(site, action, queue="q", to="other", reason="")).headers["location"]
    for _ in range(300):
        await bunqueue.server.core.execute(c.Push(queue="q", data=Raw(b"1")))
        await trio.sleep(0.01)
    await trio.sleep(10)
    assert (await site.get(where)).said("2,995 jobs")
    assert len(bunqueue.server.engine.queues["q"].ready) == 300


async def test_it_is_stopped_where_it_is(site: Site, bunqueue: Bunqueue) -> None:
    await many(bunqueue)
    where = (await begin(site)).headers["location"]
    page = await site.get(where)
    await begun(bunqueue)
    stopped = await site.post(where, {"csrf": page.csrf})
    assert stopped.headers["location"] == where
    await trio.sleep(5)
    page = await site.get(where)
    assert page.said("It has ended before its end: somebody stopped it.")
    assert 0 < waiting(bunqueue) < MANY


FULL = Refused(503, "Server is overloaded", "overloaded", retry_after=1)
DOWN = Refused(503, "Storage unavailable", "storage-down", retry_after=2)
UNKNOWN = Refused(503, "This change is not committed, and may still be", "not-committed", retry_after=2)


@pytest.mark.parametrize("refusal", [FULL, DOWN])
@pytest.mark.parametrize(("lasts_s", "ends"), [(5, False), (PATIENCE_S + 5, True)])
async def test_what_passes_is_waited_for_but_not_for_ever(
    site: Site, bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch, lasts_s: float, *, ends: bool, refusal: Exception
) -> None:
    await many(bunqueue)
    where = (await begin(site)).headers["location"]
    core, execute = bunqueue.server.core, bunqueue.server.core.execute

    async def refuses(*given: object, **more: object) -> object:
        raise refusal

    monkeypatch.setattr(core, "execute", refuses)
    await trio.sleep(4)
    page = await site.get(where)
    assert page.said(f"It waits, and tries again: {refusal}")
    await trio.sleep(lasts_s - 4)
    monkeypatch.setattr(core, "execute", execute)
    await trio.sleep(20)
    page = await site.get(where)
    assert page.said(f"It has ended before its end: {refusal}.") == ends
    assert page.said("3,000 jobs made dead letters.") == (not ends)
    assert not page.said("It waits")


@pytest.mark.parametrize(
    "refusal", [FULL, Refused(403, "This may not be", "forbidden"), UNKNOWN, StoreError("no disk")]
)
async def test_what_is_stopped_or_refused_for_good_waits_no_longer(
    site: Site, bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    await many(bunqueue)
    where = (await begin(site)).headers["location"]

    async def refuses(*given: object, **more: object) -> object:
        raise refusal

    monkeypatch.setattr(bunqueue.server.core, "execute", refuses)
    await trio.sleep(4)
    if refusal is FULL:
        page = await site.get(where)
        await site.post(where, {"csrf": page.csrf})
        await trio.sleep(2)
    why = "somebody stopped it" if refusal is FULL else str(refusal)
    assert (await site.get(where)).said(f"It has ended before its end: {why}.")


async def test_what_forbids_it_to_some_is_said(site: Site, bunqueue: Bunqueue) -> None:
    await many(bunqueue)
    await bunqueue.server.core.execute(c.PullBatch(queue="q", count=5))
    where = (await begin(site, "move-found", queue="q", to="other")).headers["location"]
    await trio.sleep(10)
    assert (await site.get(where)).said("2,995 jobs moved.")
    where = (await begin(site, "cancel-found", queue="other", reason="x")).headers["location"]
    await trio.sleep(10)
    assert (await site.get(where)).said("2,995 jobs cancelled.")


async def test_what_workers_are_to_end_first_is_not_said_to_be_done(site: Site, bunqueue: Bunqueue) -> None:
    execute = bunqueue.server.core.execute
    await many(bunqueue)
    await execute(c.PullBatch(queue="q", count=5))
    form = {"queue": "q", "state": "active", "force": "yes", "grace": "10m"}
    page = await site.get(f"/ui/act/cancel-found?{urlencode(form)}")
    assert page.said("5 jobs for their workers to end within the grace")
    assert not page.said("cancelled.")
    done = await site.follow(await site.post("/ui/act/cancel-found", form | {"csrf": page.csrf}))
    assert done.said("5 jobs for their workers to end within the grace.")
    where = (await begin(site, "cancel-found", queue="q", grace="10m", force="yes", reason="x")).headers["location"]
    await trio.sleep(10)
    assert (await site.get(where)).said("2,995 jobs cancelled")


async def test_an_act_that_is_refused_for_now_is_answered_so(
    site: Site, bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    await many(bunqueue)
    page = await site.get("/ui/act/discard-found?queue=q")

    async def refuses(*given: object, **more: object) -> object:
        raise FULL

    monkeypatch.setattr(bunqueue.server.core, "execute", refuses)
    refused = await site.post("/ui/act/discard-found", {"queue": "q", "csrf": page.csrf})
    assert (refused.status, refused.said("Server is overloaded")) == (503, True)


async def test_the_page_says_how_many_would_go_before_somebody_says_where_to(site: Site, bunqueue: Bunqueue) -> None:
    await many(bunqueue, 1000)
    await bunqueue.server.core.execute(c.PullBatch(queue="q", count=5))
    page = await site.get("/ui/act/move-found?queue=q")
    assert page.status == 200
    assert page.said("995 jobs would be moved")
    assert "--move-to" not in page.html
    page = await site.get("/ui/act/move-found?queue=q&to=other")
    assert page.said("995 jobs would be moved")
    assert page.said("bunqueue-trio change --queue q --move-to other")
    page = await site.get("/ui/act/move-found?queue=q&to=no/name")
    assert (page.status, page.said("995 jobs would be moved")) == (400, False)


async def test_few_are_done_at_once(site: Site, bunqueue: Bunqueue) -> None:
    await many(bunqueue, LARGE)
    done = await begin(site)
    assert done.headers["location"].startswith("/ui/jobs?queue=q")
    assert (await site.follow(done)).said("1,000 jobs made dead letters.")


@pytest.mark.thorough
async def test_dead_letters_of_a_queue_are_retried_by_the_thousand(site: Site, bunqueue: Bunqueue) -> None:
    for _ in range(2):
        await many(bunqueue, 1000)
        await fail(bunqueue, "q", 1000, "no")
    where = (await begin(site, "retry-all")).headers["location"]
    assert where.startswith("/ui/acts/")
    await trio.sleep(10)
    assert (await site.get(where)).said("2,000 jobs retried.")
    assert waiting(bunqueue) == 2000


async def test_a_queue_is_drained_and_cleaned_by_the_thousand(site: Site, bunqueue: Bunqueue) -> None:
    await many(bunqueue)
    assert (await site.get("/ui/act/drain?queue=q")).said("3,000 jobs would be removed.")
    where = (await begin(site, "drain")).headers["location"]
    assert where.startswith("/ui/acts/")
    assert (await site.get(where)).said("of 3,000 removed")
    await trio.sleep(10)
    assert (await site.get(where)).said("3,000 jobs removed.")
    assert waiting(bunqueue) == 0
    await many(bunqueue)
    await fail(bunqueue, "q", 1000, "no")
    where = (await begin(site, "clean", queue="q", state="waiting", older="0s")).headers["location"]
    await trio.sleep(10)
    assert (await site.get(where)).said("2,000 jobs removed.")
    assert (waiting(bunqueue), bunqueue.server.counts()["failed"]) == (0, 1000)


@pytest.mark.parametrize(
    "act", [("drain", {"queue": "q"}), ("clean", {"queue": "q", "state": "waiting", "older": "0s"})]
)
async def test_what_is_pushed_meanwhile_stays(site: Site, bunqueue: Bunqueue, act: tuple[str, dict[str, str]]) -> None:
    action, form = act
    await many(bunqueue, 2000)
    # The last step is not a whole one.
    await bunqueue.server.core.execute(c.Push(queue="q", data=Raw(b"1")))
    where = (await begin(site, action, **form)).headers["location"]
    for _ in range(10):
        await trio.sleep(0.01)
        await many(bunqueue, 1000)
    await trio.sleep(10)
    assert (await site.get(where)).said("2,001 jobs removed.")
    assert waiting(bunqueue) == 10_000


async def test_of_very_many_all_are_looked_at_though_none_of_the_first_is_old(
    site: Site, bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a page looks at before it acts is a part: it says so, and the act goes to the end."""
    monkeypatch.setattr(doing, "LOOKED_MAX", 1000)
    await many(bunqueue, 1000)
    await trio.sleep(7200)
    await bunqueue.server.core.execute(
        c.PushBatch(queue="q", jobs=[JobSpec(data=Raw(b"1"), priority=9) for _ in range(1000)])
    )
    page = await site.get("/ui/act/clean?queue=q&state=waiting&older=1h")
    assert page.said("0 jobs of the 1,000 looked at, about 0 B, would be removed.")
    assert " disabled" not in page.html
    where = (await begin(site, "clean", queue="q", state="waiting", older="1h")).headers["location"]
    page = await site.get(where)
    assert page.said("0 removed")
    assert "<progress aria-label" in page.html
    await trio.sleep(10)
    assert (await site.get(where)).said("1,000 jobs removed.")
    assert waiting(bunqueue) == 1000


async def test_a_drain_that_is_cut_short_says_how_far_it_came(
    site: Site, bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of few there is no page of its own: what was done before it was refused is said at once."""
    await many(bunqueue, 1000)
    core, execute = bunqueue.server.core, bunqueue.server.core.execute
    steps = iter(range(10))

    async def refuses(command: c.Command, **more: object) -> object:
        if isinstance(command, c.Drain) and next(steps) == 1:
            raise Refused(503, "Storage unavailable", "storage-down")
        return await execute(command, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(core, "execute", refuses)
    page = await begin(site, "drain")
    assert page.said("Storage unavailable; 500 jobs were done before")
    assert waiting(bunqueue) == 500


async def test_what_is_not_known_is_said(site: Site) -> None:
    page = await site.get("/ui/acts/unknown")
    assert page.status == 404
    assert page.said("the page Actions has what was done")


async def test_who_only_looks_sees_it_and_stops_nothing(autojump_clock: object) -> None:
    async with Bunqueue(Settings(auth_tokens=("secret-token-1",))) as running:
        await many(running)
        admin, reader = Site(running), Site(running)
        for site, role in ((admin, Role.ADMIN), (reader, Role.READ)):
            value = site.gateway.logins.sign_in(Grant(role, role.name), running.server.clock.now())
            site.cookie = f"{site.gateway.cookie}={value}"
        where = (await begin(admin)).headers["location"]
        page = await reader.get(where)
        assert page.said("by ADMIN")
        assert "Stop it here" not in page.html
        assert (await reader.post(where, {"csrf": page.csrf})).status == 403
        assert "Stop it here" in (await admin.get(where)).html


async def test_they_are_bounded(autojump_clock: object) -> None:
    clock = Clock(1)
    errands = Errands(clock)
    go = trio.Event()

    async def step() -> Step:
        await go.wait()
        return Step(1, {}, is_last=True)

    def errand(n: int) -> Errand:
        return Errand(str(n), "t", "done", "ana", 1, 1, is_more=False)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(errands.run)
        for n in range(ERRANDS_MAX):
            errands.begin(errand(n), step)
        with pytest.raises(Refused, match="10 large acts are under way"):
            errands.begin(errand(99), step)
        go.set()
        await trio.sleep(1)
        for n in range(ERRANDS_KEPT + 20):
            errands.begin(errand(1000 + n), step)
            await trio.sleep(1)
        assert len(errands.all()) <= ERRANDS_KEPT + 1
        assert errands.all()[0].number == str(1000 + ERRANDS_KEPT + 19)
        nursery.cancel_scope.cancel()
