"""The leader's end of the frames of one door: it answers the requests in them as it answers those of its own connections.

What the hot loop does for sockets (``transports/hot.py``), this does for the connections of a door: all that came at once is
one turn and one commit, the answers go out in the step of the commit, and what waits for more has a task. The same
:class:`Gateway` decides on everything. What the hot loop leaves to the task of a connection, this leaves to the
connection itself: the door learns that it is to splice it, and nothing was done.

A delivery is the door's from when its answer was handed to the kernel: it says whether it was sent. If the door ends before
it says so, nobody knows, and the job stays with whoever has it, until its lease ends. What was not handed over returns.
"""

from collections import deque
from collections.abc import Sequence
from typing import TypeAlias

import structlog
import trio

from bunqueue_trio.api.call import Call, Owed, Response
from bunqueue_trio.config import (
    ANSWERS_MAX,
    DOOR_LOOK_S,
    DOOR_LOOKS,
    FRAMES_UNREAD_BYTES,
    RECEIVE_BYTES,
    WRITE_TIMEOUT_S,
)
from bunqueue_trio.doors.frames import (
    ANSWER,
    ASK,
    ASKS_MAX,
    BRINGS,
    BROKEN,
    CALL,
    ENDS,
    GONE,
    HEAD,
    HERE,
    LAST,
    LOOK,
    PART,
    SENT,
    SHAPE,
    SHAPE_BITS,
    SPLICE,
    STOPS,
    UNSENT,
    VERSION,
    WAITED,
    WAITS,
    BrokenFrames,
    Read,
    Said,
    Unpacker,
    parts_of,
)
from bunqueue_trio.doors.known import RequestsByNumber, ShapesByNumber, body_of
from bunqueue_trio.doors.outgoing import Outgoing
from bunqueue_trio.protocol.replies import Reply
from bunqueue_trio.runtime.begun import Begun, note_answered
from bunqueue_trio.runtime.bell import Bell
from bunqueue_trio.runtime.budget import Hold
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.statistics import DoorQueue
from bunqueue_trio.transports.express import ExpressShared
from bunqueue_trio.transports.wire import NothingSent, Wire

_log = structlog.get_logger()

# As TURN_REQUESTS and TURN_LONG_S, of what has come together already: a commit costs as much as some pushes.
_FRAME_REQUESTS, _FRAME_LONG_S = 128, 0.004
# Plain tuples, of which there is one for each request: to make one with names takes ten times as long.
_Uncommitted: TypeAlias = tuple[int, Call, Begun]
"""A request that has been run; its answer waits for its commit. The number is that of its connection."""
_REQUESTS = frozenset({CALL, ASK})
_ANSWERS = frozenset({ANSWER, SPLICE})
_NO_ORIGIN: object = object()


class Answering:
    """Serves the frames that come on ``stream``."""

    def __init__(self, server: Server, shared: ExpressShared, stream: trio.abc.Stream, door: str = "") -> None:
        self._server = server
        self._core, self._journal = server.core, server.core.journal
        self._shared, self._gateway = shared, shared.gateway
        self._wire, self._unpacker = Wire(stream, shared.buffer), Unpacker(ASKS_MAX)
        self._version = 1
        """Which the door understands, too."""
        self._requests = RequestsByNumber(shared)
        self._shapes = ShapesByNumber(shared, lambda number, head: self._say(number, SHAPE, 0, head))
        self._uncommitted: list[_Uncommitted] = []
        self._waiting: dict[int, tuple[trio.CancelScope, float]] = {}
        """The requests that wait for more than a commit, by the connections that they came on, and how long they go on when their client says no more."""
        self._deliveries: dict[int, Owed] = {}
        """The jobs that the door has, and has not told about."""
        self._out: deque[Outgoing] = deque()
        self._left: tuple[bytes, Outgoing] | None = None
        """What is on its way, or is next because the kernel had no room for it."""
        self._out_bytes = 0
        self._bell, self._is_writing = Bell(), False
        """What is said now is sent in this very step, as far as possible: the writer need not wake."""
        self._room = trio.Event()
        self._queue = DoorQueue(door)
        """Requests whose answers have not left."""
        self._stops = False
        """The door is about to end."""
        self._asks_on = False
        """It knows that the server stops, and has not said its last word yet."""
        self._looks = 0
        """How often it was looked at since it last said anything."""

    async def run(self, *, looks: bool = False) -> None:
        """Serve until the door ends; with ``looks`` also until it does not answer any more, as one of another machine may."""
        on_commit, on_give_up = self._journal.on_commit, self._journal.on_give_up
        on_commit.append(self._release)
        on_give_up.append(self._release)
        self._server.doors.queues.append(self._queue)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, nursery.cancel_scope)
                if looks:
                    nursery.start_soon(self._look, nursery.cancel_scope)
                    nursery.start_soon(self._stop)
                try:
                    await self._read(nursery)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    # It is gone.
                    pass
                except BrokenFrames as error:
                    _log.error("a door says what cannot be", error=str(error))
                nursery.cancel_scope.cancel()
        finally:
            on_commit.remove(self._release)
            on_give_up.remove(self._release)
            self._server.doors.queues = [each for each in self._server.doors.queues if each is not self._queue]
            self._end()

    async def _look(self, whole: trio.CancelScope) -> None:
        """End the stream of a door that hangs: clients that wait through it would get jobs that it never passes on."""
        while self._looks < DOOR_LOOKS:
            # Else it is about to say, or a write that takes too long ends it.
            if not self._out:
                self._looks += 1
                self._say(0, LOOK, self._version)
            await trio.sleep(DOOR_LOOK_S)
        _log.warning("a door does not answer any more", seconds=DOOR_LOOKS * DOOR_LOOK_S)
        whole.cancel()

    async def _stop(self) -> None:
        """Say that the server stops, and count the door among what it waits for until that asks nothing more."""
        await self._server.stop.wait()
        self._say(0, STOPS)
        self._asks_on = True
        self._queue.requests += 1

    async def _read(self, nursery: trio.Nursery) -> None:
        while data := await self._wire.receive():
            self._looks = 0
            messages = self._unpacker.feed(data)
            at = 0
            while at < len(messages):
                with self._core.turns.many:
                    at = self._take_turn(messages, at, nursery)
                if at < len(messages):
                    await trio.lowlevel.checkpoint()
            while self._out_bytes > FRAMES_UNREAD_BYTES:
                self._room = trio.Event()
                await self._room.wait()

    def _take_turn(self, messages: Sequence[Read], at: int, nursery: trio.Nursery) -> int:
        """Hear messages, the first of them ``at``, in one step and with one commit; return where the next turn begins."""
        now = self._core.clock.time
        requests, before, ends = self._requests, len(self._uncommitted), now() + _FRAME_LONG_S
        for message in messages[at : at + _FRAME_REQUESTS]:
            number, kind, extra, data, address = message
            at += 1
            if kind not in _REQUESTS:
                self._hear_else(number, kind, extra, data)
                continue
            self._queue.requests += 1
            try:
                known = requests[extra] if kind == CALL else None
                if known is not None and known.length == len(data):
                    begun = known.begin(known.call, data, address)
                    if type(begun) is Begun and begun.epoch and not begun.waits and begun.bulk is None:
                        # Nearly all.
                        self._uncommitted.append((number, known.call, begun))
                    else:
                        self._go_on(number, known.call, begun, nursery)
                elif kind == CALL:
                    self._say(number, SPLICE)
                else:
                    self._ask(number, data[:extra].decode("utf-8", "replace"), data[extra:], nursery)
            except BrokenFrames:
                raise
            except Exception:
                self._fail(number)
            if now() > ends:
                break
        if len(self._uncommitted) > before:
            self._journal.hurry()
        return at

    def _hear_else(self, number: int, kind: int, extra: int, data: bytes) -> None:
        if kind == GONE:
            if number in self._waiting:
                scope, patience_s = self._waiting[number]
                scope.deadline = trio.current_time() + (0 if extra & BROKEN else patience_s)
        elif kind in (SENT, UNSENT):
            delivery = self._deliveries.pop(number, None)
            if delivery is not None:
                if kind == SENT:
                    delivery.sent()
                delivery.end()
        else:
            self._hear_of_door(number, kind, extra, data)

    def _hear_of_door(self, number: int, kind: int, extra: int, data: bytes) -> None:
        if kind == HERE:
            if extra > 1 and self._version == 1:
                self._version = min(extra, VERSION)
                self._say(0, LOOK, self._version)
        elif kind == HEAD:
            self._requests.hear(number, data)
        elif kind == STOPS:
            self._stops = True
        elif kind == LAST:
            self._queue.requests -= self._asks_on
            self._asks_on = False
        else:
            raise BrokenFrames(f"a message of kind {kind}")

    def _ask(self, number: int, address: str, data: bytes, nursery: trio.Nursery) -> None:
        end = data.find(b"\r\n\r\n") + 4
        request = self._requests.parse(data, end) if end > 3 else None
        if request is None or request.length != len(data) - end:
            self._say(number, SPLICE)
        else:
            self._go_on(number, request.call, request.begin(request.call, data[end:], address), nursery)

    def _go_on(self, number: int, call: Call, begun: Begun | Response | None, nursery: trio.Nursery) -> None:
        if begun is None:
            self._say(number, SPLICE)
        elif isinstance(begun, Response):
            self._answer(number, begun)
        elif begun.waits or begun.bulk is not None:
            scope = trio.CancelScope()
            self._waiting[number] = scope, begun.patience_s
            if begun.waits:
                self._say(number, WAITS)
            nursery.start_soon(self._finish, number, call, begun, scope)
        elif begun.epoch:
            self._uncommitted.append((number, call, begun))
        else:
            self._answer(number, self._gateway.finish_nowait(call, begun))

    async def _finish(self, number: int, call: Call, begun: Begun, scope: trio.CancelScope) -> None:
        async def wait(finish: object, begun: Begun) -> Reply:
            begun.is_gone = lambda: scope.cancel_called
            with scope:
                return await self._core.finish(begun)
            raise _Gone

        try:
            response = await self._gateway.finish(call, begun, wait)
        except _Gone:
            self._say(number, ANSWER, ENDS)
        except Exception:
            self._fail(number)
        else:
            self._answer(number, response, WAITED * begun.is_pull)
        finally:
            del self._waiting[number]

    def _release(self, *_: object) -> None:
        """Answer the requests that are committed, or given up (one of ``Journal.on_commit``, and of ``on_give_up``)."""
        self._is_writing = True
        settled = max(self._journal.committed, self._journal.given_up)
        ready, later = list[_Uncommitted](), list[_Uncommitted]()
        for each in self._uncommitted:
            (ready if each[2].epoch <= settled and len(ready) < ANSWERS_MAX else later).append(each)
        self._uncommitted = later
        if later and len(ready) == ANSWERS_MAX:
            # The writer answers the rest.
            self._bell.ring()
        self._answer_all(ready)
        self._is_writing = False
        self._send_nowait()
        if self._left is not None or self._out:
            self._bell.ring()

    def _answer_all(self, ready: list[_Uncommitted]) -> None:
        """Answer requests whose batch is committed, or given up: what most of their answers have in common is found out once for all."""
        is_plain = self._version > 1 and not self._stops and not self._server.stop.is_set()
        committed = self._journal.committed if is_plain else 0
        origin, extra, size = _NO_ORIGIN, 0, 0
        answers, said = list[Said](), list[Begun]()
        for number, call, begun in ready:
            try:
                body = body_of(begun) if begun.epoch <= committed else None
                if body is None or call.origin != origin or size >= RECEIVE_BYTES:
                    # A head that is said between them may take the number of theirs.
                    self._say_answers(answers, size)
                    answers, size, origin = [], 0, _NO_ORIGIN
                    if body is None:
                        self._answer(number, self._gateway.finish_nowait(call, begun))
                        continue
                    extra, origin = self._shape_of(call, begun), call.origin
                answers.append((number, ANSWER, extra, body, ""))
                said.append(begun)
                size += len(body)
            except Exception:
                self._fail(number)
        self._say_answers(answers, size)
        note_answered(said, self._core.meters.by_command, self._core.clock.time())

    def _shape_of(self, call: Call, begun: Begun) -> int:
        return self._shapes.number_of(self._gateway.say(call, begun.reply, None)) << SHAPE_BITS

    def _say_answers(self, answers: list[Said], size: int) -> None:
        """Say answers of this ``size`` together."""
        if answers:
            self._open_outgoing().answer_all(answers, size)
            self._out_bytes += size

    def _fail(self, number: int) -> None:
        """End the connection of a request with which something went wrong."""
        _log.exception("connection failed")
        self._say(number, ANSWER, ENDS)

    def _answer(self, number: int, response: Response, extra: int = 0) -> None:
        body = response.body
        is_last = self._stops or self._server.stop.is_set()
        if response.delivery is None and len(body) <= RECEIVE_BYTES and not is_last and self._version > 1:  # type: ignore[arg-type]  # no stream
            # Nearly all.
            self._say(number, ANSWER, extra | self._shapes.number_of(response) << SHAPE_BITS, body)  # type: ignore[arg-type]
        else:
            self._answer_with_all(number, response, extra, ends=is_last)

    def _answer_with_all(self, number: int, response: Response, extra: int, *, ends: bool) -> None:
        """Do so whatever the response brings and holds, and the door understands."""
        hold: Hold | None = None
        body, delivery = response.body, response.delivery
        assert isinstance(body, bytes)
        if len(body) > RECEIVE_BYTES:
            hold = self._server.buffers.hold()
            response = self._gateway.count(response, hold)
            body, delivery = response.body, response.delivery
            assert isinstance(body, bytes)
        extra |= ENDS * ends
        data: bytes | memoryview = body
        try:
            if self._version > 1:
                extra |= self._shapes.number_of(response) << SHAPE_BITS
                *parts, data = parts_of(body, self._version)
                for part in parts:
                    self._say(number, PART, 0, part)
            else:
                data = self._shared.heads.render(response, len(body), keep=not ends) + body
            if delivery is not None:
                extra |= BRINGS
                self._deliveries[number] = delivery
            self._say(number, ANSWER, extra, data)
            if delivery is not None or hold is not None:
                self._out[-1].owe(delivery, hold)
                delivery = hold = None
        finally:
            if delivery is not None:
                delivery.end()
            if hold is not None:
                hold.release()

    def _say(self, number: int, kind: int, extra: int = 0, data: bytes | memoryview = b"") -> None:
        last, size = self._open_outgoing(), len(data)
        last.messages.append((number, kind, extra, data, ""))
        last.size += size
        self._out_bytes += size
        if kind in _ANSWERS:
            last.answers += 1

    def _open_outgoing(self) -> Outgoing:
        """Return what the next message goes out with."""
        out = self._out
        if not out or out[-1].size >= RECEIVE_BYTES:
            if not (out or self._is_writing):
                self._bell.ring()
            out.append(Outgoing())
        return out[-1]

    async def _write(self, whole: trio.CancelScope) -> None:
        try:
            while True:
                await self._bell.wait()
                self._release()
                while self._left is not None or self._out:
                    await self._send_some()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            # It is gone, or does not read.
            whole.cancel()

    async def _send_some(self) -> None:
        data, some = self._left = self._left or self._take_some()
        try:
            with trio.fail_after(WRITE_TIMEOUT_S):
                await self._wire.send(data)
        except NothingSent:
            some.give_back()
            raise
        finally:
            self._left = None
            self._let_go(some)

    def _send_nowait(self) -> None:
        """Send what the kernel takes in this very step, and leave the rest to the writer: to wake it costs as much as some pushes."""
        if self._left is None and self._out:
            data, some = self._take_some()
            sent = self._wire.send_nowait(data)
            if sent == len(data):
                self._let_go(some)
            else:
                if sent:
                    # What was handed over in part is the door's.
                    some.hand_over()
                self._left = data[sent:], some

    def _take_some(self) -> tuple[bytes, Outgoing]:
        """Return the bytes of what is to be sent next, and what that is."""
        some = self._out.popleft()
        return some.pack(self._version), some

    def _let_go(self, some: Outgoing) -> None:
        """Hold nothing any more for what was sent, or never will be."""
        some.let_go()
        self._out_bytes -= some.size
        self._queue.requests -= some.answers
        self._room.set()

    def _end(self) -> None:
        """Let go of everything: jobs that were not sent return, and of those that the door had nobody can say."""
        for _, _, begun in self._uncommitted:
            self._core.give_back(begun.reply)
        left = [] if self._left is None else [self._left[1]]
        for unsent in (*left, *self._out):
            unsent.give_back()
            self._let_go(unsent)


class _Gone(Exception):
    """The client has hung up."""
