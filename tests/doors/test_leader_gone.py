"""A leader that has ended: who finds that out lets the link look, whenever its next look would be."""

import pytest
import trio
import trio.testing

from bunqueue_trio.doors.link import LinkLost
from bunqueue_trio.doors.remote import RemoteLink
from tests.doors.test_remote import KEY, start_leader

# It has a leader and a door.
pytestmark = pytest.mark.thorough


async def test_who_finds_the_leader_gone_lets_the_link_look_at_once(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bunqueue_trio.doors.remote.LINK_LOOK_S", 0.01)
    leader = await start_leader(nursery)
    link = RemoteLink()
    link.note_leader(leader.where, KEY)
    nursery.start_soon(link.watch)
    assert await link.wait_up(60)
    monkeypatch.setattr("bunqueue_trio.doors.remote.LINK_LOOK_S", 3600)
    # The look that goes on ends, and the next one is far away.
    await trio.sleep(0.5)
    leader.server.stop.set()
    with trio.fail_after(60):
        await leader.over.wait()
        with pytest.raises(LinkLost):
            await link.open("a")
        while not link.is_gone:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)
    nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("autojump_clock")
async def test_one_that_was_started_anew_at_the_same_address_is_not_taken_for_the_one_that_has_ended(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, answers = RemoteLink(), True

    async def reach(address: str) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if not answers:
            raise LinkLost("nobody listens", is_refused=True)
        return trio.testing.memory_stream_pair()[0]

    monkeypatch.setattr(link, "_open", reach)
    link.note_leader("10.0.0.1:6791", b"key")
    nursery.start_soon(link.watch)
    await trio.sleep(10)
    answers = False
    await trio.sleep(10)
    assert link.is_gone
    for where in (None, "10.0.0.1:6791"):
        link.note_leader(where, b"" if where is None else b"key")
    assert not link.is_gone
    await trio.sleep(10)
    assert not link.is_gone, "nobody has reached it yet"
    answers = True
    await trio.sleep(10)
    answers = False
    await trio.sleep(10)
    assert link.is_gone
