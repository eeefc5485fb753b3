"""WebSocket on a stream of our own: frames by the ``websockets`` sans-IO protocol, talk by a session.

One task reads, one writes. The reader sends too while the writer waits for its bell, but only what the
kernel takes at once: it must go on reading. Pings go out while the peer says nothing else; a
peer that answers none of three is gone. The reader has the last word: what a peer said before it left, its
goodbye above all, counts although nothing can be sent to it any more.

Theory of operation. The parser of ``websockets`` does no I/O: bytes go in, frames come out, and what is to be sent
waits in it until it is asked for. Short whole texts, which is nearly all that comes, pass it by (``frames``). The reader
takes in small pieces (FEED_BYTES), puts messages together, hands them
to the session, and gives others their turn after TURN_LONG_S, whatever took the time. It stops reading while the session has no room for
more replies, while a large push waits for the disk, and while the peer takes none of its pongs; meanwhile the
peer counts as heard, for it is we who do not listen.

Texts that have come together are a turn (``runtime/turn.py``): one step runs them, as many as there is time for, and makes their
commit if nobody shares it. Only one that has to wait is handed over by itself.

Replies that are ready in the reader's own step are written there, without the writer, which spares two switches of
tasks. Only what the kernel takes at once goes out so; the rest is ``_unsent``, and the writer sends it before anything
else. While the writer is in the middle of a message the reader only rings its bell.

The connection ends in one of four ways. The peer closes in order: what it asked before is replied to, for GOODBYE_S at
most and also if it has closed its half of the stream, then its goodbye is answered and its jobs return uncharged. The peer breaks a rule: a close frame with a code, CLOSE_S for its answer. The peer is gone (FIN, RST, no
pong after PINGS_MISSED_MAX pings, or nothing of a message taken for WRITE_TIMEOUT_S): its jobs return and count a
stall. We close, at a stop or to make room: ``refuse`` lets what is owed leave first, ``close`` says why. In each of
them the reader reads to the end, and only then the nursery of both tasks is over.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import trio
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.protocol import SEND_EOF, State
from websockets.server import ServerProtocol

from bunqueue_trio import errors
from bunqueue_trio.api.costs import asks_for_page
from bunqueue_trio.api.session import Session
from bunqueue_trio.config import (
    CLOSE_S,
    FEED_BYTES,
    FRAMES_UNSENT_MAX,
    GOODBYE_S,
    PING_S,
    PINGS_MISSED_MAX,
    RECEIVE_BYTES,
    TURN_LONG_S,
    WRITE_TIMEOUT_S,
)
from bunqueue_trio.protocol.request import MESSAGE_MAX_HEADER
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.transports.frames import SHORT_BYTES, Place, framed, is_goodbye, minimal, read_text
from bunqueue_trio.transports.rounds import Rounds
from bunqueue_trio.transports.upgrade import accept
from bunqueue_trio.transports.wire import NothingSent, Wire

FOREVER = float("inf")


Receive = Callable[[], Awaitable[bytes]]


class Shared(Protocol):
    """What the connections of a lane share."""

    server: Server
    commands: Rounds
    pages: Rounds
    ends: Rounds


class WebSocket:
    """One upgraded connection, which writes to ``wire``; ``receive`` returns b"" at the end of the stream.

    Raises:
        Refused: ``head`` is not the whole head of a legal handshake.
    """

    def __init__(self, shared: Shared, head: bytes, receive: Receive, wire: Wire) -> None:
        server = shared.server
        self._shared = shared
        self._receive = receive
        self._wire = wire
        self._protocol = ServerProtocol(max_size=server.settings.body_max_bytes)
        reader: Any = self._protocol.reader
        reader.read_exact = minimal(reader.read_exact)
        self._shake_hands(head, server.settings.body_max_bytes)
        self._place = Place()
        self._short = min(SHORT_BYTES, server.settings.body_max_bytes)
        self._begun = b""
        """The beginning of the frame of a short text; the rest has not come yet."""
        self._fragments: bytearray | None = None
        self._text = False
        self._ended = False
        self._refuses = False
        """We have sent the close: what the peer still sends is not carried out."""
        self._listens = False
        self._takes_in = False
        """What the peer has said is on its way to the session."""
        self._goodbye_at = FOREVER
        """When the close of the peer is answered at the latest; infinity while it has not sent one."""
        self._heard_at = trio.current_time()
        self._turn_ends = self._heard_at
        """When the present step of the reader has taken its time, and others are to run."""
        self._pinged_at = self._heard_at
        self._progress_at = self._heard_at
        self._session: Session | None = None
        self._write_deadline = FOREVER
        """When the peer must have taken what the writer is sending; infinity while the writer sends nothing."""
        self._unsent: Sequence[bytes | memoryview] = []
        """The rest of what the reader has sent in its own step; the writer sends it first."""
        self._partly_sent = False
        """The kernel has taken a part of what is being sent."""
        self._owes = False
        """Replies are among it."""
        self._flushed = trio.Event()
        self._hold = server.buffers.hold()
        """Of a message that has not come to its end."""

    def _shake_hands(self, head: bytes, message_max: int) -> None:
        protocol = self._protocol
        protocol.receive_data(head)
        for event in protocol.events_received():
            if isinstance(event, Handshake):
                response = accept(protocol, event)
                response.headers[MESSAGE_MAX_HEADER] = str(message_max)
                protocol.send_response(response)
                return
        raise errors.BAD_HANDSHAKE.refuse(protocol.handshake_exc)

    async def accept(self) -> None:
        """Answer the handshake: the connection is a WebSocket then."""
        await self._flush()

    async def run(self, session: Session) -> None:
        """Talk until either side ends it; the session must be entered."""
        self._session = session
        session.is_gone, session.is_broken = self._wire.has_ended, self._wire.is_broken
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, session, nursery.cancel_scope)
                await self._read(session, nursery)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            # The peer is gone.
            pass
        finally:
            said = self._protocol.close_rcvd
            session.dropped = said is None or not self._protocol.close_rcvd_then_sent or not is_goodbye(said.code)
            self._hold.release()

    def tick(self, now: float) -> bool:
        """Ping a silent peer; return whether it still counts as alive. Called every few seconds."""
        if not self._listens:
            # Nothing that it says is read now: it waits for its turn, or for room for replies.
            self._heard_at = now
        silent = now - max(self._heard_at, self._progress_at)
        if silent > PING_S * (PINGS_MISSED_MAX + 1) or now > self._write_deadline:
            return False
        if now - max(self._heard_at, self._pinged_at) >= PING_S and self._protocol.state is State.OPEN:
            self._protocol.send_ping(b"")
            self._pinged_at = now
            if self._session is not None:
                self._session.bell.ring()
        return True

    def refuse(self) -> None:
        """Take in no more commands, so that the replies still owed come to an end."""
        self._refuses = True

    def close(self, code: int, reason: str) -> None:
        """Begin to close the connection from our side."""
        if self._protocol.state is State.OPEN:
            self._refuses = True
            self._protocol.send_close(code, reason)
        if self._session is not None:
            self._session.bell.ring()

    @property
    def idle(self) -> bool:
        """Whether nothing is lost if it is closed now."""
        return self._session is None or self._session.idle

    async def _read(self, session: Session, nursery: trio.Nursery) -> None:
        while True:
            self._listens = True
            data = await self._receive()
            self._listens = False
            if not data:
                await self._shared.ends.begin()
                self._hear_end(session, nursery.cancel_scope)
                return
            self._heard_at = trio.current_time()
            self._takes_in = True
            # To receive has let others run.
            self._turn_ends = self._heard_at + TURN_LONG_S
            for start in range(0, len(data), FEED_BYTES):
                if start:
                    # Many small frames must not shut everybody else out.
                    await self._end_turn(session)
                await self._take_in(data[start : start + FEED_BYTES], session, nursery)
            self._takes_in = False
            self._count_unfinished(nursery.cancel_scope)
            if session.is_settled():
                self._send_nowait(session)
            if self._protocol.writes or self._protocol.state is not State.OPEN:
                # A pong or a close frame.
                session.bell.ring()
            if self._protocol.state is State.OPEN:
                if len(self._protocol.writes) > FRAMES_UNSENT_MAX:
                    self._flushed = trio.Event()
                    await self._flushed.wait()
                await session.wait_room()
            else:
                self._limit(nursery.cancel_scope)

    def _hear_end(self, session: Session, scope: trio.CancelScope) -> None:
        self._protocol.receive_eof()
        session.bell.ring()
        if self._protocol.close_rcvd is not None and not self._ended:
            # It may still read that its goodbye has come.
            self._limit(scope)
        elif not self._answers_first(session):
            scope.cancel()

    async def _end_turn(self, session: Session) -> None:
        """Let others run if this step has taken its time; what is ready by then is sent."""
        if trio.current_time() > self._turn_ends:
            if session.is_settled():
                self._send_nowait(session)
            await trio.lowlevel.checkpoint()
            self._turn_ends = trio.current_time() + TURN_LONG_S

    async def _take_in(self, data: bytes, session: Session, nursery: trio.Nursery) -> None:
        """Take in some bytes."""
        data, self._begun = self._begun + data, b""
        at, may_begin = 0, False
        while at < len(data) and self._is_plain():
            before = at
            at, late = self._take_in_texts(data, at, session, nursery, may_begin=may_begin)
            may_begin = isinstance(late, Rounds)
            if isinstance(late, Rounds):
                await late.begin()
                self._turn_ends = trio.current_time() + TURN_LONG_S
            elif late is not None:
                await self._hand_over(late, session, nursery)
            elif session.full:
                await self._wait_room(session)
            elif before < at < len(data):
                await self._end_turn(session)
            else:
                break
        if at < len(data):
            await self._take_in_frames(data[at:], session, nursery)

    async def _take_in_frames(self, data: bytes, session: Session, nursery: trio.Nursery) -> None:
        """Take in some bytes by the parser."""
        self._protocol.receive_data(data)
        self._place.fed(len(data))
        frames = self._protocol.events_received()
        if self._protocol.close_rcvd_then_sent and self._goodbye_at == FOREVER:
            self._goodbye_at = trio.current_time() + GOODBYE_S
        for event in frames:
            if isinstance(event, Frame):
                self._place.came(event)
                assembled = self._assemble(event)
                # Said before a close that came with it.
                if assembled is not None and not self._refuses:
                    await self._hand_over(assembled, session, nursery)
        session.settle()

    def _take_in_texts(
        self, data: bytes, at: int, session: Session, nursery: trio.Nursery, *, may_begin: bool
    ) -> tuple[int, bytes | Rounds | None]:
        """Take in the short texts from ``at`` on in one step, with one commit, while there is time.

        Return where they end, and what is next: a text that has to wait, or the rounds in which the next one waits for
        room. ``may_begin``: the first one has waited for that.
        """
        late: bytes | Rounds | None = None
        begin, now, ends = at, trio.lowlevel.current_clock().current_time, self._turn_ends
        with self._shared.server.core.turns.lone:
            while at < len(data) and not (self._refuses or session.full):
                found = read_text(data, at, self._short)
                if isinstance(found, int):
                    if found:
                        self._begun, at = data[at:], len(data)
                    break
                message, end = found
                if message.isascii() or self._is_utf8(message):
                    if session.takes_turns(message):
                        at, late = end, message
                        break
                    if may_begin:
                        may_begin = False
                    elif (time := now()) > ends and at > begin:
                        break
                    elif not (rounds := self._rounds_of(message)).begin_nowait(time):
                        late = rounds
                        break
                    session.take_in(message, nursery)
                at = end
            session.hurry()
        return at, late

    def _is_plain(self) -> bool:
        """Return whether a whole text may come now, which needs no parser."""
        return (
            self._place.is_between
            and self._fragments is None
            and not self._refuses
            and self._protocol.state is State.OPEN
        )

    async def _hand_over(self, message: bytes, session: Session, nursery: trio.Nursery) -> None:
        await self._end_turn(session)
        await self._rounds_of(message).begin()
        if session.takes_turns(message):
            await session.wait_turn(message)
        if self._refuses:
            # A stop has come while it waited.
            return
        session.take_in(message, nursery)
        await self._wait_room(session)

    async def _wait_room(self, session: Session) -> None:
        if session.full and session.is_settled():
            # They are in the way of nothing that comes behind.
            self._send_nowait(session)
        await session.wait_added()
        if session.full and self._protocol.state is State.OPEN:
            await session.wait_room()

    def _rounds_of(self, message: bytes) -> Rounds:
        return self._shared.pages if asks_for_page(message) else self._shared.commands

    def _count_unfinished(self, scope: trio.CancelScope) -> None:
        """Count a large unfinished message against the server's budget; end the peer that does not fit."""
        size = len(self._protocol.reader.buffer) + len(self._fragments or b"")
        if not self._hold.fit(size) and not self._refuses:
            self._refuses = True
            self._protocol.fail(CloseCode.TRY_AGAIN_LATER, "server is overloaded")
            self._limit(scope)

    def _assemble(self, frame: Frame) -> bytes | None:
        """Return the message that ``frame`` completes, or None."""
        if frame.opcode is Opcode.TEXT or frame.opcode is Opcode.BINARY:
            self._text = frame.opcode is Opcode.TEXT
        elif frame.opcode is not Opcode.CONT:
            return None
        data = bytes(frame.data)
        if not frame.fin or self._fragments is not None:
            # However small and many they are.
            fragments = self._fragments = self._fragments or bytearray()
            fragments += data
            if not frame.fin:
                return None
            data, self._fragments = bytes(fragments), None
        return None if self._text and not self._is_utf8(data) else data

    def _is_utf8(self, text: bytes) -> bool:
        """Return whether a text is valid UTF-8; if not, the connection ends."""
        if not text.isascii():
            try:
                text.decode()
            except UnicodeDecodeError:
                self._refuses = True
                self._protocol.fail(CloseCode.INVALID_DATA, "invalid UTF-8 in text frame")
                return False
        return True

    def _send_nowait(self, session: Session) -> None:
        """Send replies in this very step, which spares the peer two switches of tasks; or ring for the writer."""
        if self._unsent or self._write_deadline < FOREVER or self._protocol.state is not State.OPEN:
            session.bell.ring()
            return
        own, texts = self._protocol.data_to_send(), framed(session.outgoing())
        first = b"".join([*own, *texts[:1]])
        taken = self._wire.send_nowait(first)
        self._partly_sent = taken > 0
        self._unsent = texts[1:] if taken == len(first) else [memoryview(first)[taken:], *texts[1:]]
        if self._unsent or session.is_settled():
            session.bell.ring()

    async def _write(self, session: Session, scope: trio.CancelScope) -> None:
        try:
            await self._send_outgoing(session, scope)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as gone:
            session.unsent = isinstance(gone, NothingSent) and not self._partly_sent and self._owes
            self._goodbye_at = 0.0
            # The reader goes on to the end.
            self._limit(scope)
            if self._protocol.state is State.CLOSED:
                # It has.
                scope.cancel()

    async def _send_outgoing(self, session: Session, scope: trio.CancelScope) -> None:
        while True:
            if not self._unsent and (self._protocol.state is State.OPEN or self._answers_first(session)):
                # What is unsent is still counted as held.
                self._unsent = framed(session.outgoing())
                self._partly_sent = False
            self._owes = bool(self._unsent)
            sent = await self._flush(before_goodbye=self._answers_first(session))
            if self._ended and self._protocol.close_rcvd is not None:
                # Both have said it: its jobs go back now.
                scope.cancel()
            elif self._protocol.close_expected():
                self._limit(scope)
            if sent:
                # A long replay of events must not shut everybody else out.
                await trio.lowlevel.checkpoint()
            else:
                with trio.move_on_at(self._goodbye_at if self._answers_first(session) else FOREVER):
                    await session.bell.wait()

    def _answers_first(self, session: Session) -> bool:
        """Return whether the peer's goodbye is to wait for replies to what it asked before."""
        if self._goodbye_at == FOREVER or trio.current_time() >= self._goodbye_at:
            return False
        return session.owes or self._takes_in

    def _limit(self, scope: trio.CancelScope) -> None:
        """Give the peer a little time to agree to the end."""
        begin = trio.current_time() if self._goodbye_at == FOREVER else max(trio.current_time(), self._goodbye_at)
        scope.deadline = min(scope.deadline, begin + CLOSE_S)

    async def _flush(self, *, before_goodbye: bool = False) -> bool:
        """Send what there is to send, ``before_goodbye`` without the protocol's own frames; return whether there was anything."""
        chunks = [] if before_goodbye else self._protocol.data_to_send()
        self._flushed.set()
        self._partly_sent = self._partly_sent and bool(self._unsent)
        pieces, self._unsent = [*self._unsent, *([b"".join(chunks)] if chunks else [])], []
        is_first = True
        for piece in pieces:
            for start in range(0, len(piece), RECEIVE_BYTES):
                self._write_deadline = trio.current_time() + WRITE_TIMEOUT_S
                await self._wire.send(memoryview(piece)[start : start + RECEIVE_BYTES])
                self._write_deadline = FOREVER
                self._partly_sent = True
                # It takes a long message; a ping or an event says nothing: any dead peer's buffer has room.
                if not is_first:
                    self._progress_at = trio.current_time()
                is_first = False
        # The server ends first; the client waits for it.
        if SEND_EOF in chunks:
            await self._wire.send_eof()
            self._ended = True
        return bool(pieces)
