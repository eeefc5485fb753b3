"""What becomes of requests whose leader has died: those that may be repeated are asked of the next one, once, and within limits."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from bunqueue_trio.config import RECEIVE_BYTES, Settings
from bunqueue_trio.doors import asking as asking_module
from bunqueue_trio.doors.asking import Asked, Asking
from bunqueue_trio.doors.frames import (
    ANSWER,
    ASK,
    ASK_MAX,
    BROKEN,
    GONE,
    HERE,
    LAST,
    SPLICE,
    STOPS,
    WAITS,
    Message,
    Unpacker,
    pack,
)
from bunqueue_trio.doors.lane import FramingDoor
from bunqueue_trio.doors.link import LinkLost
from bunqueue_trio.doors.refusals import Refusals
from bunqueue_trio.protocol.again import Again, repeatable
from bunqueue_trio.runtime.budget import Budget
from tests.doors.test_frames import Clocked, World, ask, response
from tests.doors.test_frames import world as world
from tests.wire.raw import request_bytes

READ = request_bytes("GET", "/queues/q/jobs/list?state=waiting")
POLL = request_bytes("GET", "/queues/q/jobs?timeout=60000")
PUSH = request_bytes("POST", "/queues/q/jobs", b'{"data":1}')
ACK = request_bytes("POST", "/jobs/a/ack", b'{"token":"t"}')
ACKS = request_bytes("POST", "/jobs/ack-batch", b'{"ids":["a"],"tokens":["t"]}')
IGNORING = b'HTTP/1.1 200 OK\r\n\r\n{"ok":true,"data":{"ignoredIds":["a"]}}'
OK = b"HTTP/1.1 200 OK\r\n\r\n"
LOST = b"HTTP/1.1 409 Conflict\r\n\r\n"


class Leaders:
    """Leaders, one after the other, as a door meets them; the test says what each of them says."""

    def __init__(self, nursery: trio.Nursery, may: Callable[[bytes], Again] | None = repeatable) -> None:
        self.streams: list[Any] = []
        self.reachable = True
        self.asking = Asking(
            self.connect, memoryview(bytearray(RECEIVE_BYTES)), Budget(1 << 20), Refusals(Settings()), may
        )
        self._unpacker = Unpacker(ASK_MAX)
        nursery.start_soon(self.asking.run)

    async def connect(self) -> Any:
        if not self.reachable:
            raise LinkLost("nobody is there")
        ours, its = trio.testing.memory_stream_pair()
        self.streams.append(ours)
        self._unpacker = Unpacker(ASK_MAX)
        return its

    async def hear(self) -> list[Message]:
        """What the door has said by now."""
        said = b""

        async def receive() -> None:
            nonlocal said
            while True:
                said += bytes(await self.streams[-1].receive_some(1 << 20))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        # Its first word is which version it speaks: these leaders are of the first one.
        return [Message(*each) for each in self._unpacker.feed(said) if each[1] != HERE]

    async def say(self, number: int, kind: int, data: bytes = b"") -> None:
        await self.streams[-1].send_all(pack(number, kind, 0, data))
        await trio.testing.wait_all_tasks_blocked()

    async def die(self) -> None:
        await self.streams[-1].aclose()
        await trio.sleep(1)


@pytest.fixture
async def leaders(nursery: trio.Nursery) -> Any:
    made = Leaders(nursery)
    await trio.testing.wait_all_tasks_blocked()
    yield made
    nursery.cancel_scope.cancel()


def is_uncertain(asked: Asked) -> bool:
    return asked.over.is_set() and b'"not-committed"' in asked.answer and asked.ends


async def test_a_read_is_asked_of_the_next_leader_and_a_push_is_not(leaders: Leaders, autojump_clock: Clocked):
    read, push = leaders.asking.ask(1, "10.0.0.1", READ), leaders.asking.ask(2, "10.0.0.1", PUSH)
    assert [message.number for message in await leaders.hear()] == [1, 2]
    await leaders.die()
    assert is_uncertain(push)
    assert await leaders.hear() == [Message(1, ASK, 8, b"10.0.0.1" + READ)], "as it was, and for the same client"
    await leaders.say(1, ANSWER, LOST)
    assert (read.over.is_set(), read.answer, read.ends) == (True, LOST, False), "it is the answer, whatever it is"
    assert len(leaders.asking) == 0


@pytest.mark.parametrize(
    ("request_", "answer", "is_answer"),
    [(ACK, OK, True), (ACK, LOST, False), (ACKS, OK, True), (ACKS, IGNORING, False)],
)
async def test_a_refusal_of_what_takes_effect_at_most_once_may_mean_that_it_has(
    leaders: Leaders, autojump_clock: Clocked, request_: bytes, answer: bytes, is_answer: bool
):
    ack = leaders.asking.ask(1, "a", request_)
    await leaders.hear()
    await leaders.die()
    assert [message.number for message in await leaders.hear()] == [1]
    await leaders.say(1, ANSWER, answer)
    assert (ack.answer == answer, is_uncertain(ack)) == (is_answer, not is_answer)


async def test_what_is_asked_of_a_leader_that_stops_is_for_the_next_one(leaders: Leaders, autojump_clock: Clocked):
    """It is under way nowhere, so nobody hears that it may have happened."""
    before = leaders.asking.ask(1, "a", PUSH)
    await leaders.hear()
    await leaders.say(0, STOPS)
    push, gone = leaders.asking.ask(2, "a", PUSH), leaders.asking.ask(3, "a", PUSH)
    leaders.asking.forget(gone)
    assert [(message.number, message.kind) for message in await leaders.hear()] == [(0, LAST)]
    await leaders.say(1, ANSWER, OK)
    assert before.answer == OK, "what it was asked before it answers"
    await leaders.die()
    assert await leaders.hear() == [Message(2, ASK, 1, b"a" + PUSH)]
    await leaders.say(2, ANSWER, OK)
    assert (push.answer, push.ends) == (OK, False)
    leaders.asking.ask(4, "a", PUSH)
    assert [message.number for message in await leaders.hear()] == [4], "the next one does not stop"


async def test_a_refusal_by_the_first_leader_is_one(leaders: Leaders, autojump_clock: Clocked):
    ack = leaders.asking.ask(1, "a", ACK)
    await leaders.hear()
    await leaders.say(1, ANSWER, LOST)
    assert (ack.answer, ack.ends) == (LOST, False)


async def test_what_two_leaders_have_not_survived_is_not_asked_of_a_third(leaders: Leaders, autojump_clock: Clocked):
    read = leaders.asking.ask(1, "a", READ)
    for _ in range(2):
        assert len(await leaders.hear()) == 1
        assert not read.over.is_set()
        await leaders.die()
    assert is_uncertain(read)
    assert await leaders.hear() == []


async def test_who_waits_for_a_job_waits_on_at_the_next_leader(leaders: Leaders, autojump_clock: Clocked):
    poll = leaders.asking.ask(1, "a", POLL)
    await leaders.hear()
    await leaders.say(1, WAITS)
    waited = poll.over
    await leaders.die()
    assert [message.data[1:] for message in await leaders.hear()] == [POLL]
    assert leaders.asking._busy == 1, "the leader has to do something for it again"
    await leaders.say(1, WAITS)
    assert (poll.over is waited, waited.is_set(), leaders.asking._busy) == (True, False, 0), "it is still waited for"
    await leaders.say(1, ANSWER, OK)
    assert (waited.is_set(), poll.answer) == (True, OK)
    assert (leaders.asking._busy, leaders.asking._bytes, leaders.asking._kept) == (0, 0, 0)


async def test_of_a_client_that_has_hung_up_nobody_is_asked_again(leaders: Leaders, autojump_clock: Clocked):
    poll = leaders.asking.ask(1, "a", POLL)
    await leaders.hear()
    await leaders.say(1, WAITS)
    poll.has_left = True
    leaders.asking.say(1, GONE)
    await leaders.die()
    assert is_uncertain(poll)
    left = leaders.asking.ask(2, "a", READ)
    await leaders.hear()
    leaders.asking.forget(left)
    await leaders.die()
    assert await leaders.hear() == []


async def test_the_next_leader_hears_of_whoever_has_said_no_more_while_there_was_none(
    leaders: Leaders, autojump_clock: Clocked
):
    await leaders.say(0, STOPS)
    polls = [leaders.asking.ask(number, "a", POLL) for number in (1, 2)]
    polls[0].has_left = True
    leaders.asking.say(1, GONE)
    await leaders.die()
    assert [(message.number, message.kind) for message in await leaders.hear()] == [(1, ASK), (1, GONE), (2, ASK)]


async def test_what_nobody_waits_for_any_more_is_asked_of_no_other_leader(leaders: Leaders, autojump_clock: Clocked):
    """Its client has hung up before it was sent: a pull would take a job for nobody there."""
    await leaders.say(0, STOPS)
    gone, stays = leaders.asking.ask(1, "a", POLL), leaders.asking.ask(2, "a", POLL)
    leaders.asking.forget(gone)
    leaders.asking.say(1, GONE, BROKEN)
    await leaders.hear()
    await leaders.die()
    assert [(message.number, message.kind) for message in await leaders.hear()] == [(2, ASK)]
    assert not stays.over.is_set()


async def test_a_bounded_number_of_bytes_is_kept_for_that(
    leaders: Leaders, autojump_clock: Clocked, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(asking_module, "ASKED_MAX_BYTES", 2 * len(POLL))
    polls = []
    for n in range(3):
        polls.append(leaders.asking.ask(n, "a", POLL))
        await leaders.hear()
        await leaders.say(n, WAITS)
    assert leaders.asking._kept == 2 * len(POLL)
    await leaders.die()
    assert [is_uncertain(poll) for poll in polls] == [False, False, True]
    assert [message.number for message in await leaders.hear()] == [0, 1]


async def test_what_nobody_was_asked_in_time_says_whether_it_may_have_happened(
    leaders: Leaders, autojump_clock: Clocked
):
    read = leaders.asking.ask(1, "a", READ)
    await leaders.hear()
    leaders.reachable = False
    await leaders.die()
    new = leaders.asking.ask(2, "a", PUSH)
    leaders.asking.give_up(b"nobody leads")
    assert is_uncertain(read)
    assert (new.answer, new.ends) == (b"nobody leads", True)


async def test_each_waits_for_a_leader_for_its_own_time(leaders: Leaders, autojump_clock: Clocked):
    """A pull that was lost waits from then on, however long it had waited for a job before."""
    poll = leaders.asking.ask(1, "a", POLL)
    await leaders.hear()
    await leaders.say(1, WAITS)
    await trio.sleep(50)
    leaders.reachable = False
    await leaders.die()
    await trio.sleep(1)
    late = leaders.asking.ask(2, "a", READ)
    leaders.asking.give_up(b"nobody leads", trio.current_time() - 5)
    assert not poll.over.is_set()
    await trio.sleep(4)
    leaders.asking.give_up(b"nobody leads", trio.current_time() - 5)
    assert (is_uncertain(poll), late.over.is_set()) == (True, False)
    await trio.sleep(2)
    leaders.asking.give_up(b"nobody leads", trio.current_time() - 5)
    assert late.answer == b"nobody leads"
    assert leaders.asking._out == []


async def test_many_are_sorted_out_while_others_are_served(
    leaders: Leaders, autojump_clock: Clocked, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(asking_module, "_LOOKED_AT", 2)
    many = [leaders.asking.ask(n, "a", READ) for n in range(9)]
    await leaders.hear()

    def leave(request: bytes) -> Again:
        if many[8] in leaders.asking._asked.values():
            leaders.asking.forget(many[8])  # its client goes while others are looked at
        return Again.FREELY

    leaders.asking._repeatable = leave
    await leaders.die()
    assert [message.number for message in await leaders.hear()] == list(range(8))


async def test_a_door_that_ends_with_its_leader_asks_nobody_again(nursery: trio.Nursery, autojump_clock: Clocked):
    leaders = Leaders(nursery, None)
    await trio.testing.wait_all_tasks_blocked()
    read = leaders.asking.ask(1, "a", READ)
    await leaders.hear()
    await leaders.die()
    assert is_uncertain(read)
    nursery.cancel_scope.cancel()


# --- what clients see ------------------------------------------------------------------------------


async def test_clients_see_a_pause_and_each_job_is_given_out_once(world: World, autojump_clock: Clocked):
    door = FramingDoor(world, world.settings, repeatable)  # a framing door, as a server that waits is
    world.nursery.start_soon(door.run)
    await trio.testing.wait_all_tasks_blocked()
    waits = [world.connect(door) for _ in range(3)]
    for client in waits:
        await client.send_all(POLL)
    await trio.testing.wait_all_tasks_blocked()
    for _, stream in list(world.opened):
        await stream.aclose()
    await trio.sleep(1)
    pushed = {(await ask(world.connect(door), PUSH))[1]["id"] for _ in range(3)}
    pulled = {(await response(client))[1]["job"]["id"] for client in waits}
    assert pulled == pushed
    assert world.counts() == (0, 3)
    assert (await ask(waits[0], READ))[0] == 200, "and the connection goes on"


async def test_the_next_leader_may_want_the_connection_itself(world: World, autojump_clock: Clocked):
    """Without EXPRESS it has no frames: it gets the request whole, also of who has waited at the first one."""
    door = FramingDoor(world, world.settings, repeatable)
    world.nursery.start_soon(door.run)
    await trio.testing.wait_all_tasks_blocked()
    client = world.connect(door)
    await client.send_all(POLL)
    await trio.testing.wait_all_tasks_blocked()
    [asked] = door.asking._asked.values()
    door.asking._hear(Message(asked.number, SPLICE, 0, b""))
    await trio.testing.wait_all_tasks_blocked()
    pushed = (await ask(world.connect(door), PUSH))[1]["id"]
    await trio.testing.wait_all_tasks_blocked()
    data = bytes(await client.receive_some(10_000))
    if b'"job"' not in data:
        data += bytes(await client.receive_some(10_000))
    assert json.loads(data.partition(b"\r\n\r\n")[2])["job"]["id"] == pushed
