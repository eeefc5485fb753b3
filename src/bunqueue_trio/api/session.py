"""One connected peer: its commands, their replies in order, its events, and what it holds.

Transport-neutral: a carrier gives messages to :meth:`Session.receive` and, whenever ``bell`` rings, sends what :meth:`Session.outgoing` returns.
Commands run as they arrive, without a task each; replies wait in line for their commit. Only a pull that has to wait gets a task, and holds up nothing.

Theory of operation. A message becomes a command and runs at once, in the carrier's step; what it says is not true for the world before its batch is
committed. So each reply stands in one line with the epoch that it waits for, and the line leaves from its front: replies come in the order of the
commands, however the commits fall. A search, and what a distant store is asked for, have a place in the line before their reply is there; and behind
a command that is done in steps nothing is taken in until it is whole. Two things stand outside that order: events, which are sent when they are
committed, and a waiting pull, whose reply joins the line when it has a job or its time is over. Whatever needs no commit joins it with epoch 0.

Nobody waits in a task of its own for a commit. ``settle`` asks for it and leaves the bell to be rung; the carrier's writer, or its reader in the same
step, then takes what ``outgoing`` may give. What a disk refuses for too long leaves as an error in the place of its reply.

What a peer makes the server hold is bounded: replies in line by number and bytes (``full``), waiting pulls by number, large replies by the budget.

A job that was pulled and never sent goes back uncharged: the jobs of replies in line at the end, and those that the carrier says did not leave
(``unsent``). What the peer did receive is held by the session: at its end these jobs return to their queue, and count a stall if the peer just
dropped. At a stop of the server they stay with it, since its worker goes on and claims them after the restart.
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Self

import structlog
import trio
from msgspec import Raw

from bunqueue_trio import errors
from bunqueue_trio.api.access import ANYBODY, UNKNOWN, Grant
from bunqueue_trio.api.event_stream import types_named
from bunqueue_trio.api.gateway import Gateway
from bunqueue_trio.api.line import NEVER, PUSH, Waiting, encoded, failed, with_id
from bunqueue_trio.api.reported import note_reported, withdraw_reported
from bunqueue_trio.config import (
    LARGE_BODY_BYTES,
    RECEIVE_BYTES,
    SESSION_BYTES_MAX,
    SESSION_POLLS_MAX,
    SESSION_REPLIES_MAX,
    SESSION_SEND_BYTES,
)
from bunqueue_trio.errors import Refused, StoreError
from bunqueue_trio.pages.table import ANSWERS
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.caller import SERVER, By
from bunqueue_trio.protocol.catalog import ACTS, LISTS, LOOKS, SESSION, SPECS, TAKES
from bunqueue_trio.protocol.codec import BadMessage, decode_message, encode
from bunqueue_trio.protocol.commands.spec import Role
from bunqueue_trio.protocol.events import ALL_TYPES
from bunqueue_trio.protocol.faults import error_reply
from bunqueue_trio.runtime.allowed import missing_role
from bunqueue_trio.runtime.begun import Begun
from bunqueue_trio.runtime.bell import Bell
from bunqueue_trio.runtime.server import Server

_log = structlog.get_logger()


class Session:
    """A peer of ``server``, from its connection to its end. Use as a context manager.

    The nursery that is given to :meth:`receive` belongs inside it: a waiting pull that outlived it would take jobs for
    an owner that is gone. Only StopPull and the end of the connection tell that nobody waits for a pull any more.

    ``grant``: what its token allows; ``Auth`` with another token changes it.
    ``vouched``: the carrier notices when the peer is gone, so its jobs are leased as long as it is
    connected; otherwise they have the usual lease. Either way they are returned at the end. ``address``: from where it is.
    """

    def __init__(
        self, server: Server, gateway: Gateway, queue: str | None, *, vouched: bool, grant: Grant = ANYBODY,
        address: str = UNKNOWN,
    ) -> None:  # fmt: skip
        self._server = server
        self._gateway = gateway
        self._core = server.core
        self._journal = server.core.journal
        self._vouched = vouched
        self._grant = grant
        self._address = address
        self.id: str = server.new_id()
        self.bell: Bell = Bell()
        self._replies: deque[Waiting] = deque()
        self._epoch = 0
        """The newest epoch that a reply waits for, or has waited for."""
        self._replies_bytes = 0
        self._hold = server.buffers.hold()
        """Of the large ones of them."""
        self._leaving = 0
        """How many bytes of the replies are on their way to the socket."""
        self._delivering: list[Begun] = []
        """The pulls whose replies are on their way."""
        self._read: tuple[bytes, c.Command | BadMessage] | None = None
        """A large message that was read while it waited for its turn."""
        self._adding: object = None
        """A command that is done in steps, and is half done: whatever comes behind it waits."""
        self._polls = 0
        self._polls_by_id: dict[bytes, Begun] = {}
        self._room = trio.Event()
        self._subscription = server.hub.subscribe(queue, self.bell)
        self._hears_itself = True
        """Whether it gets the events of what it reports."""
        self.missed: int = 0
        self.dropped: bool = True
        """It ends without a goodbye: each job that it holds counts a stall. Set to False by a carrier that knows better."""
        self.is_gone: Callable[[], bool] | None = None
        """Set by a carrier that can find out whether the peer says no more, before it has read that: no pull of its gets a job then."""
        self.is_broken: Callable[[], bool] | None = None
        """The same, whether the connection is broken: nothing is done for it then, not even what it said before a goodbye."""
        self.stopping: bool = False
        """Set by a carrier whose host stops the server: jobs stay with their holders, as at any stop."""
        self.unsent: bool = False
        """Set by the carrier when none of the messages that :meth:`outgoing` returned last has left."""

    def __enter__(self) -> Self:
        self._server.connections.ws += 1
        self._server.owners.add(self.id)
        if self._address != UNKNOWN:
            self._core.note_address(self.id, self._address)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.connections.ws -= 1
        self._server.hub.unsubscribe(self._subscription)
        replies = [waiting.begun for waiting in self._replies] + (self._delivering if self.unsent else [])
        for begun in replies:
            if begun is not None:
                # The peer has never seen these jobs.
                self._core.give_back(begun.reply)
        # At a stop workers keep their jobs, and claim them after the restart.
        if not (self._core.stopping or self.stopping):
            assert not self._polls, "a pull that still waits would take jobs for who is gone"
            self._core.release(self.id, dropped=self.dropped)
            self._server.owners.discard(self.id)
        self._hold.release()

    @property
    def idle(self) -> bool:
        """Whether it owes no reply. Jobs that it holds are its own business: after a restart it claims them."""
        return not self.owes and not self._polls

    @property
    def owes(self) -> bool:
        """Whether a reply is in line, or half made; a waiting pull is not."""
        return bool(self._replies) or self._adding is not None

    def takes_turns(self, message: bytes) -> bool:
        """Return whether :meth:`wait_turn` has anything to do for ``message``."""
        return len(message) > LARGE_BODY_BYTES or self._journal.must_wait(len(message), small=0)

    async def wait_turn(self, message: bytes) -> None:
        """Wait with ``message`` until it is its turn; to be called before :meth:`receive`.

        Pushes wait for the disk even when small, because a peer may send any number of them without reading replies.
        Everything else that is small passes at once: a late heartbeat would lose a lease.
        """
        fills = self._journal.must_wait(len(message), small=0) and PUSH.search(message) is not None
        if fills:
            self._ring()
            await self._journal.wait_turn()
        elif len(message) > LARGE_BODY_BYTES:
            await self._gateway.wait_turn()
        if len(message) > LARGE_BODY_BYTES:
            self._read = message, await self._gateway.large.read_message(message, self.is_broken, fills=fills)

    def receive(self, message: bytes, nursery: trio.Nursery) -> None:
        """Take in one message; a pull that must wait does so in ``nursery``."""
        self.take_in(message, nursery)
        self._ring()

    def take_in(self, message: bytes, nursery: trio.Nursery) -> None:
        """Do the same with one of several messages; :meth:`settle` is to be called after the last of them, unless they share a turn of the core."""
        assert self._adding is None, "the carrier waits until a bulk command is whole"
        try:
            command = decode_message(message) if self._read is None else self._take_read(message)
        except BadMessage as bad:
            self._reply(0, error_reply(bad), bad.req_id)
            return
        if type(command) in LOOKS and self._epoch > self._journal.committed and not self._journal.commit_at_once():
            self._adding = command
            nursery.start_soon(self._do_settled, command, len(message), nursery)
        else:
            self._do(command, len(message), nursery)

    async def _do_settled(self, command: c.Command, size: int, nursery: trio.Nursery) -> None:
        """Do what looks at jobs when all that was done before it is committed; where the disk takes no commit it looks anyway."""
        with suppress(Refused):
            await self._journal.wait_committed(self._epoch)
        self._adding = None
        self._do(command, size, nursery)
        self._room.set()
        self._ring()

    def _do(self, command: c.Command, size: int, nursery: trio.Nursery) -> None:
        try:
            if self._grant.role is not Role.ADMIN and self._grant.role < (wanted := SPECS[type(command)].role):
                raise missing_role(wanted, self._grant.role)
            self._run(command, size, nursery)
        except (Refused, StoreError) as error:
            self._reply(0, failed(error, type(command)), command.req_id)

    @property
    def full(self) -> bool:
        """Whether so much is in line that nothing more should be taken in; or a bulk command is half done, whose reply comes first."""
        if self._adding is not None:
            return True
        return len(self._replies) >= SESSION_REPLIES_MAX or self._replies_bytes >= SESSION_BYTES_MAX

    async def wait_room(self) -> None:
        """Wait while the line of replies is full."""
        if self.full:
            self._ring()
        while self.full:
            self._room = trio.Event()
            await self._room.wait()

    async def wait_added(self) -> None:
        """Wait until a bulk command that is half done is whole."""
        while self._adding is not None:
            self._room = trio.Event()
            await self._room.wait()

    def settle(self) -> bool:
        """Let the messages that were taken in be committed; return whether there are replies that may be sent now.

        Without company it is committed here and now; else the bell rings when it is.
        """
        if self._replies and self._epoch > self._journal.committed:
            self._journal.commit_alone()
        return self.is_settled()

    def hurry(self) -> None:
        """Let the turn that ends now commit what replies wait for; :meth:`is_settled` is to be called after it."""
        if self._epoch > self._journal.committed:
            self._journal.hurry()

    def is_settled(self) -> bool:
        """Return whether there are replies that may be sent now; if some have to wait for a commit, the bell rings then."""
        if not self._replies:
            return False
        if self._epoch > self._journal.committed:
            self._journal.ring_on_commit(self.bell)
        return self._replies[0].epoch <= self._journal.committed

    def outgoing(self) -> list[bytes]:
        """Return the messages that may be sent now, at most about 256 KiB; [] when there are none."""
        messages: list[bytes] = []
        size = 0
        if self._leaving or self._delivering:
            self._note_left()
        replies, committed, now = self._replies, self._journal.committed, self._core.clock.time()
        while replies and size < SESSION_SEND_BYTES:
            if replies[0].epoch > committed and self._must_wait():
                break
            left = replies.popleft()
            message = left.message
            if left.begun is not None:
                self._note_leaving(left.begun, left.epoch, now)
            self._replies_bytes -= len(message)
            messages.append(message)
            size += len(message)
            if len(message) > RECEIVE_BYTES:
                self._leaving += len(message)
        if not self.full:
            self._room.set()
        if self._subscription:
            messages += self._take_events()
        return messages

    def _must_wait(self) -> bool:
        """Return whether the first reply, which is not committed, is to wait; an error may be in its place then."""
        first = self._replies[0]
        message, begun = first.message, first.begun
        if first.epoch == NEVER:
            return True
        if first.epoch > self._journal.given_up:
            self._journal.ring_on_commit(self.bell)
            return True
        if begun is not None and type(begun.command) in LISTS:
            return False
        if begun is not None:
            self._core.give_back(begun.reply)
            withdraw_reported(begun, self._subscription)
        refused = self._journal.unsettled()
        if begun is not None:
            refused = begun.unsettled(refused)
        error = with_id(encode(error_reply(refused)), first.req_id)
        self._replies[0] = Waiting(0, error)
        self._replies_bytes += len(error) - len(message)
        if len(message) > RECEIVE_BYTES:
            # It will not be sent.
            self._hold.add(-len(message))
        return False

    # --- inside ---------------------------------------------------------------------------------

    def _note_leaving(self, begun: Begun, epoch: int, now: float) -> None:
        if epoch:
            self._core.note_answered(begun, now)
        if begun.report is not None:
            self._subscription.reports.pop(begun.report, None)
        if type(begun.command) in TAKES:
            self._delivering.append(begun)

    def _note_left(self) -> None:
        """What was on its way to the socket has left."""
        self._hold.add(-self._leaving)
        self._leaving = 0
        self._delivering.clear()

    def _take_events(self) -> list[bytes]:
        events, missed = self._subscription.take(RECEIVE_BYTES)
        messages = [event.body for event in events]
        if missed:
            self.missed += missed
            messages.append(encode({"missedEvents": missed, "timestamp": self._core.clock.now()}))
        return messages

    def _run(self, command: c.Command, size: int, nursery: trio.Nursery) -> None:
        if type(command) in SESSION:
            self._run_here(command)
            return
        if not self._vouched and isinstance(command, c.Pull | c.PullBatch) and command.lock_ttl is None:
            command.lock_ttl = self._server.settings.lease_ms
        grant, address = self._grant, self._address
        by = By(grant.name or address, address, grant.role) if type(command) in ACTS else SERVER
        begun = self._core.begin(command, self.id, size=size, by=by, sliced=True)
        if begun.bulk is not None or begun.rest is not None:
            self._adding, begun.is_gone = begun, self.is_broken
            if not self._hears_itself:
                note_reported(begun, self._subscription)
            nursery.start_soon(self._add, begun)
        elif not begun.waits:
            # Without an epoch it is answered, and timed, already.
            timed = begun if begun.epoch or type(command) in TAKES else None
            if not self._hears_itself:
                note_reported(begun, self._subscription)
            self._reply(begun.epoch, begun.answer(), command.req_id, timed)
        elif self._polls >= SESSION_POLLS_MAX:
            self._core.stop_poll(begun)
            raise errors.TOO_MANY_WAITS.refuse()
        else:
            self._polls += 1
            begun.is_gone = self.is_gone if begun.is_pull else self.is_broken
            if bytes(command.req_id):
                self._polls_by_id[bytes(command.req_id)] = begun
            if place := None if begun.holds_up_nothing else Waiting(NEVER, b"", begun):
                self._replies.append(place)
            nursery.start_soon(self._poll, begun, place)

    def _run_here(self, command: c.Command) -> None:
        match command:
            case c.Auth(token=token):
                grant = self._gateway.access.grant_of(token)
                if grant is None:
                    raise errors.INVALID_TOKEN.refuse()
                self._grant = grant
                self._reply(0, r.OK, command.req_id)
            case c.Subscribe(events=events, own=own):
                self._subscription.types = types_named(events, "events")
                self._hears_itself = own
                self._subscription.reports.clear()
                self._reply(0, r.SubscribedReply(subscribed=sorted(self._subscription.types)), command.req_id)
            case c.Unsubscribe(events=events):
                self._subscription.types -= (
                    ALL_TYPES if events == "*" or "*" in events else types_named(events, "events")
                )
                self._reply(0, r.SubscribedReply(subscribed=sorted(self._subscription.types)), command.req_id)
            case c.StopPull(req_id=req_id):
                if not bytes(req_id):
                    raise errors.INVALID_FIELD.refuse("reqId", "is required")
                begun = self._polls_by_id.get(bytes(req_id))
                stopped = begun is not None and self._core.stop_poll(begun)
                self._reply(0, r.StopReply(stopped=stopped), req_id)
            case _:
                # One of those that a page answers.
                _, body, _ = ANSWERS[type(command)](self._server)
                self._reply(0, body, command.req_id)

    def _take_read(self, message: bytes) -> c.Command:
        """Return the command in ``message``, which may have been read already."""
        assert self._read is not None
        (text, found), self._read = self._read, None
        if text is not message:
            return decode_message(message)
        if isinstance(found, BadMessage):
            raise found
        return found

    async def _add(self, begun: Begun) -> None:
        """Do what is left of a command that is done in steps, and put its reply in line."""
        is_bulk = begun.bulk is not None
        reply = await self._finish(begun)
        self._adding = None
        self._reply(begun.epoch if is_bulk else 0, reply, begun.command.req_id, begun)
        self._room.set()
        self._ring()

    async def _finish(self, begun: Begun) -> r.Reply:
        try:
            if begun.bulk is not None:
                await self._core.add_rest(begun)
                return begun.answer()
            begun.reply = await self._core.finish(begun)
        except Exception as error:
            # Whatever it is, the connection has done nothing wrong, and may hold jobs.
            begun.epoch = 0
            return failed(error, type(begun.command))
        return begun.reply

    async def _poll(self, begun: Begun, place: Waiting | None) -> None:
        req_id = bytes(begun.command.req_id)
        try:
            reply = await self._finish(begun)
        finally:
            self._polls -= 1
            if self._polls_by_id.get(req_id) is begun:
                del self._polls_by_id[req_id]
        self._reply(0, reply, begun.command.req_id, begun, place)
        self.bell.ring()

    def _reply(
        self, epoch: int, reply: r.Reply | bytes, req_id: Raw, begun: Begun | None = None, place: Waiting | None = None
    ) -> None:
        try:
            message = (
                with_id(reply, req_id) if isinstance(reply, bytes) else encoded(reply, req_id, self._server.buffers)
            )
        except Refused as refused:
            self._core.give_back(reply)  # type: ignore[arg-type]  # a page is not refused
            withdraw_reported(begun, self._subscription)
            epoch, begun, message = 0, None, with_id(encode(error_reply(refused)), req_id)
        if len(message) > RECEIVE_BYTES:
            self._hold.add(len(message))
        waiting = Waiting(epoch, message, begun, req_id)
        if place is None:
            self._replies.append(waiting)
        else:
            self._replies[next(at for at, each in enumerate(self._replies) if each is place)] = waiting
        self._epoch = max(self._epoch, epoch)
        self._replies_bytes += len(message)

    def _ring(self) -> None:
        if self.settle():
            self.bell.ring()
