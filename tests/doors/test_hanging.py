"""A leader that hangs, over real sockets in one process: its connections are there, and nobody answers on them."""

import pytest
import trio

from bunqueue_trio.doors.handshake import admit_door
from tests.doors.test_remote import KEY, answer, connect, start_leader, waiting
from tests.wire.raw import request_bytes

PULL = request_bytes("GET", "/queues/q/jobs")
PUSH = request_bytes("POST", "/queues/q/jobs", b'{"data":1}')


class Hanging:
    """What is left of a leader that hangs: it lets doors in, as long as it ``greets``, and says nothing more."""

    def __init__(self) -> None:
        self.greets = True
        self.where = ""
        self.asked = trio.Event()
        self.streams: list[trio.SocketStream] = []

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.where = f"127.0.0.1:{listener.socket.getsockname()[1]}"
        task_status.started()
        async with trio.open_nursery() as nursery:
            await trio.serve_listeners(self._hang, [listener], handler_nursery=nursery)

    async def _hang(self, stream: trio.SocketStream) -> None:
        if not self.greets:
            await trio.sleep_forever()
        try:
            address = await admit_door(stream, KEY)
        except trio.BrokenResourceError:  # the door did not wait
            await stream.aclose()
            return
        self.streams.append(stream)
        if address != "link" and await stream.receive_some(1):
            self.asked.set()
            await trio.sleep_forever()


@pytest.fixture
async def hanging(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> Hanging:
    monkeypatch.setattr("bunqueue_trio.doors.remote.LINK_LOOK_S", 0.01)
    hanging = Hanging()
    await nursery.start(hanging.run)
    return hanging


async def test_what_hangs_with_a_leader_ends_when_the_next_one_leads(hanging: Hanging, nursery: trio.Nursery):
    room, link = await waiting(nursery, None)
    link.note_leader(hanging.where, KEY)
    assert await link.wait_up(60)
    in_frame, passed_on, again = [await connect(nursery, room) for _ in range(3)]
    await in_frame.send_all(PUSH)
    await again.send_all(PULL)
    await passed_on.send_all(PULL[:-2])  # half of it is the leader's after a while
    with trio.fail_after(60):
        await hanging.asked.wait()
        while room._clients and all(not client.asked for client in room._clients):  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)
    next_ = await start_leader(nursery)
    link.note_leader(next_.where, KEY)
    assert b'"code":"not-committed"' in await answer(in_frame, b"}")
    assert await link.wait_up(60)
    await answer(again, b'"token":null')
    client = await connect(nursery, room)
    await client.send_all(PULL)
    await answer(client, b'"token":null')
    for stream in (client, in_frame, passed_on, again):
        await stream.aclose()
    nursery.cancel_scope.cancel()


async def test_a_leader_that_hangs_long_enough_is_none(
    hanging: Hanging, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bunqueue_trio.doors.remote.LINK_SILENT_S", 0)
    room, link = await waiting(nursery, None)
    link.note_leader(hanging.where, KEY)
    assert await link.wait_up(60)
    client = await connect(nursery, room)
    await client.send_all(PUSH)
    with trio.fail_after(60):
        await hanging.asked.wait()
    # Not before: a handshake may take its time on a busy machine.
    monkeypatch.setattr("bunqueue_trio.doors.remote.LINK_HANDSHAKE_S", 0.05)
    hanging.greets = False
    assert b'"code":"not-committed"' in await answer(client, b"}")
    await client.aclose()
    nursery.cancel_scope.cancel()


async def test_a_server_that_waits_lives_while_its_leader_hangs(hanging: Hanging, nursery: trio.Nursery):
    room, link = await waiting(nursery, None)
    link.note_leader(hanging.where, KEY)
    assert await link.wait_up(60)
    for path in ("/healthz", "/live?x"):
        client = await connect(nursery, room)
        await client.send_all(request_bytes("GET", path))
        assert (await answer(client, b"OK")).endswith(b"\r\n\r\nOK")
        await client.aclose()
    nursery.cancel_scope.cancel()
