"""A door's end of the frames: requests go out together, and each gets its answer when it comes.

When the stream is lost, nobody knows what became of the requests that were sent. Those that may be repeated go out once more on the next
one, where the door outlives its leader: a read, and a change that is the same once more. Of one that takes effect at most once, a
refusal then may mean that it already has. All others are answered as changes are that a disk refuses, for they may have happened, and so
are those that the next leader does not answer either. Requests that were not sent yet go out on the next stream in any case.
"""

import math
from collections.abc import Awaitable, Callable, Sequence
from itertools import count, pairwise

import trio

from bunqueue_trio import errors
from bunqueue_trio.config import ASKED_MAX, ASKED_MAX_BYTES, HEADS_KEPT, RECEIVE_BYTES
from bunqueue_trio.doors.frames import (
    ANSWER,
    ASK,
    BRINGS,
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
    WORD_BYTES,
    BrokenFrames,
    Read,
    Said,
    Unpacker,
    pack_all,
)
from bunqueue_trio.doors.link import LinkLost
from bunqueue_trio.doors.refusals import Refusals
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol.again import Again
from bunqueue_trio.runtime.bell import Bell
from bunqueue_trio.runtime.budget import Budget, Hold
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.transports.response_heads import ResponseHeads, Shape
from bunqueue_trio.transports.wire import Wire

_ANSWER_MAX = 1 << 31
"""The leader is trusted; its answers are as large as what was asked for."""
_SUCCESS = b"HTTP/1.1 2"
# A batch that found some of its jobs ended.
_IGNORED = b'"ignoredIds":'
# Requests, before others are served: 2 ms.
_LOOKED_AT = 100
# A leader that ends one stream after the other is not to be busy with that.
_AGAIN_S = 0.1
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


def _ignores(parts: Sequence[bytes]) -> bool:
    """Return whether an answer in parts says that it found some jobs ended, also across an edge."""
    n = len(_IGNORED)
    return any(_IGNORED in before[-n:] + part for before, part in pairwise((b"", *parts)))


class Asked:
    """A request on its way."""

    __slots__ = (
        "address",
        "again",
        "answer",
        "at",
        "body",
        "brings",
        "ends",
        "has_left",
        "head_end",
        "hold",
        "is_busy",
        "is_kept",
        "is_sent",
        "lasts",
        "number",
        "over",
        "request",
        "size",
        "spliced",
        "waited",
    )

    def __init__(self, number: int, size: int, hold: Hold) -> None:
        self.number = number
        self.size = size
        self.hold = hold
        """Of its answer, until that was sent."""
        self.at: float = trio.current_time()
        self.address: str = ""
        self.request: bytes = b""
        """It, until it was sent; if it can be asked again, until it is over."""
        self.head_end = 0
        """Where its head ends that has come before; 0: it may never come again."""
        self.is_kept = False
        """It can be asked again."""
        self.again: Again | None = None
        """Why it could be, once it was."""
        self.is_busy = False
        """The leader has to do something for it."""
        self.is_sent = False
        self.has_left = False
        """Its client says no more, and the leader knows it."""
        self.over: trio.Event = trio.Event()
        self.lasts = False
        """It waits for something to happen; nobody does anything for it meanwhile."""
        self.answer: bytes = b""
        """The response, or the head of one whose body is large."""
        self.body: list[bytes] = []
        """The parts of that body."""
        self.ends = False
        """The connection ends with the answer."""
        self.brings = False
        """Its answer has jobs: the leader wants to know whether they were sent."""
        self.waited = False
        """It is a pull that has waited: a client that has said no more meanwhile gets no job."""
        self.spliced = False
        """There is no answer: the connection itself is to be passed on."""

    def waits(self, since: float) -> bool:
        """Return whether it is not answered, was there by then, and the leader has heard nothing of its client."""
        return self.at <= since and not self.over.is_set() and not self.has_left

    def wait_on(self) -> None:
        """Wake whoever waits for the answer, since it waits for something to happen."""
        self.lasts = True
        self.over, before = trio.Event(), self.over
        before.set()

    def end(self, answer: bytes) -> None:
        """Answer it here, and end its connection."""
        self.answer, self.body, self.ends = answer, [], True
        self.over.set()


class Asking:
    """Asks the leader; ``connect`` opens a stream to it."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[trio.abc.Stream]],
        buffer: memoryview,
        budget: Budget,
        refusals: Refusals,
        repeatable: Callable[[bytes], Again] | None = None,
    ) -> None:
        self._connect = connect
        self._repeatable = repeatable
        """What may be done with a request whose stream is lost; None: nothing, with any."""
        self._kept = 0
        """Bytes of the requests that can be asked again."""
        self._budget = budget
        self._refusals = refusals
        self._buffer = buffer
        self._numbers = count()
        self._asked: dict[int, Asked] = {}
        self._busy = 0
        """Requests that are not answered, but for those that wait for something to happen; and their size."""
        self._bytes = 0
        self._version = 1
        """Which the leader understands, too, at the other end of the present stream."""
        self._heads: dict[bytes, int] = {}
        """The numbers by which it knows them."""
        self._shapes: dict[int, Shape] = {}
        """Those of responses, as it has said them."""
        self._response_heads: ResponseHeads | None = None
        self._out: list[tuple[Said, Asked | None]] = []
        """What is to be sent. A request is put in when that is done, as the leader of that stream understands it."""
        self._later: list[tuple[Said, Asked | None]] | None = None
        """What is for the next leader, because this one stops."""
        self._bell = Bell()
        self._stops = False

    def __len__(self) -> int:
        return len(self._asked)

    @property
    def busy(self) -> int:
        """How many requests wait for their answer, but for waiting pulls."""
        return self._busy

    def new_number(self) -> int:
        """Return the number of another connection."""
        return next(self._numbers) & 0xFFFFFFFF

    def ask(self, number: int, address: str, request: bytes, head_end: int = 0) -> Asked:
        """Send a request, the only one of its connection and of RECEIVE_BYTES at most; its ``over`` is set when it is answered.

        ``head_end``: where its head ends, if that has come before.
        """
        assert len(request) <= RECEIVE_BYTES
        asked = Asked(number, len(request), self._budget.hold())
        if self._busy >= ASKED_MAX or self._bytes + asked.size > ASKED_MAX_BYTES:
            asked.end(self._refusals.of(errors.OVERLOADED))
            return asked
        asked.address, asked.request, asked.head_end = address, request, head_end
        if self._repeatable is not None and self._kept + asked.size <= ASKED_MAX_BYTES:
            asked.is_kept = True
            self._kept += asked.size
        self._asked[number] = asked
        self._send(asked)
        return asked

    def _send(self, asked: Asked) -> None:
        self._count(asked, is_busy=True)
        out = self._out if self._later is None else self._later
        out.append(((asked.number, ASK, 0, asked.request, ""), asked))
        self._bell.ring()

    def say(self, number: int, kind: int, extra: int = 0) -> None:
        """Say something about a connection."""
        self._out.append(((number, kind, extra, b"", ""), None))
        self._bell.ring()

    def stop(self) -> None:
        """Let each connection end with its next answer, which says so."""
        self._stops = True
        self.say(0, STOPS)

    def settle(self, asked: Asked, *, is_sent: bool) -> None:
        """Say whether the jobs in an answer were sent, and let go of it. May be called more than once."""
        if asked.brings:
            self.say(asked.number, SENT if is_sent else UNSENT)
        asked.brings, asked.answer, asked.body = False, b"", []
        asked.hold.release()

    def give_up(self, answer: bytes, since: float = math.inf) -> None:
        """Give all that has waited since then ``answer``, and end those connections; what was sent once may have happened."""
        for asked in [asked for asked in self._asked.values() if asked.at <= since]:
            self.forget(asked)
            asked.end(answer if asked.again is None else self._refusals.of(errors.NOT_COMMITTED))
        self._keep_asks()

    def _keep_asks(self) -> None:
        """Keep the requests that were not sent yet and that somebody waits for, for the next stream."""
        later, self._later = self._later or [], None
        self._out = [each for each in [*self._out, *later] if each[1] and self._asked.get(each[1].number) is each[1]]

    def forget(self, asked: Asked) -> None:
        """Wait for an answer no more."""
        if self._asked.get(asked.number) is asked:
            del self._asked[asked.number]
            self._kept -= asked.size * asked.is_kept
            asked.is_kept = False
            self._count(asked, is_busy=False)

    def _count(self, asked: Asked, *, is_busy: bool) -> None:
        """Count what the leader has to do."""
        more = is_busy - asked.is_busy
        asked.is_busy = is_busy
        self._busy += more
        self._bytes += more * asked.size

    async def run(self) -> None:
        """Send and receive, over one stream after the other, until the leader cannot be reached."""
        self._response_heads = self._response_heads or ResponseHeads(Clock())
        while True:
            try:
                stream = await self._connect()
            except LinkLost:
                return
            try:
                async with trio.open_nursery() as nursery:
                    wire = Wire(stream, self._buffer)
                    self._version = 1
                    self._heads.clear()
                    self._shapes.clear()
                    if self._stops:
                        self._out.insert(0, ((0, STOPS, 0, b"", ""), None))
                    self._out.insert(0, ((0, HERE, VERSION, b"", ""), None))
                    # For what has not gone out on the last one.
                    self._bell.ring()
                    nursery.start_soon(self._write, wire, nursery.cancel_scope)
                    await self._read(wire)
                    nursery.cancel_scope.cancel()
            finally:
                await trio.aclose_forcefully(stream)
                # What was said about answers of that stream means nothing on the next one.
                self._keep_asks()
            await self._lose()
            await trio.sleep(_AGAIN_S)

    async def _write(self, wire: Wire, whole: trio.CancelScope) -> None:
        try:
            while True:
                await self._bell.wait()
                while self._out:
                    await wire.send(self._take_some())
        except _GONE:
            whole.cancel()

    def _take_some(self) -> bytes:
        """Return the bytes of what is to be sent next."""
        some: list[Said] = []
        taken, size = 0, 0
        for message, asked in self._out:
            if size >= RECEIVE_BYTES:
                break
            taken += 1
            size += WORD_BYTES + len(message[3]) + (0 if asked is None else len(asked.address))
            some.append(message if asked is None else self._said(asked, some))
            if asked is not None and asked.has_left:
                # It has waited for a leader meanwhile, and this one has not heard of it.
                some.append((asked.number, GONE, 0, b"", ""))
        del self._out[:taken]
        return pack_all(some, self._version)

    def _said(self, asked: Asked, before: list[Said]) -> Said:
        """Return how a request is said to this leader; what it has to know for that is said ``before``."""
        request, end = asked.request, asked.head_end
        asked.is_sent = True
        if not asked.is_kept:
            asked.request = b""
        if self._version == 1 or not end:
            address = asked.address.encode()
            return asked.number, ASK, len(address), address + request, ""
        head = request[:end]
        number = self._heads.get(head)
        if number is None:
            if len(self._heads) >= HEADS_KEPT:
                # They are said anew, by the same numbers.
                self._heads.clear()
            number = self._heads[head] = len(self._heads)
            before.append((number, HEAD, 0, head, ""))
        return asked.number, CALL, number, request[end:], asked.address

    async def _read(self, wire: Wire) -> None:
        unpacker = Unpacker(_ANSWER_MAX)
        try:
            while data := await wire.receive():
                for message in unpacker.feed(data):
                    self._hear(message)
        except (*_GONE, BrokenFrames):
            # It is lost.
            pass

    def _hear(self, message: Read) -> None:
        number, kind, extra, data, _ = message
        if kind in (LOOK, STOPS, SHAPE):
            self._hear_of_leader(number, kind, extra, data)
            return
        if kind not in (ANSWER, SPLICE, WAITS, PART):
            raise BrokenFrames(f"a message of kind {kind}")
        asked = self._asked.get(number)
        if asked is None:
            if extra & BRINGS:
                # Its client has gone meanwhile.
                self.say(number, UNSENT)
        elif kind == PART:
            self._hear_part(asked, data)
        elif kind == WAITS:
            self._count(asked, is_busy=False)
            if not asked.lasts:
                asked.wait_on()
        else:
            self._hear_answer(asked, kind, extra, data)

    def _hear_answer(self, asked: Asked, kind: int, extra: int, data: bytes) -> None:
        if extra >> SHAPE_BITS:
            data = self._whole(asked, extra, data)
        self.forget(asked)
        if asked.again is Again.GUARDED and (not data.startswith(_SUCCESS) or _ignores([data, *asked.body])):
            # It may have happened the first time.
            asked.end(self._refusals.of(errors.NOT_COMMITTED))
            return
        asked.spliced = kind == SPLICE
        self._answer(asked, extra, data)

    def _answer(self, asked: Asked, extra: int, data: bytes) -> None:
        asked.answer = data
        asked.ends, asked.brings, asked.waited = bool(extra & ENDS), bool(extra & BRINGS), bool(extra & WAITED)
        if len(data) > RECEIVE_BYTES:
            try:
                asked.hold.grow(len(data))
            except Refused:
                self.settle(asked, is_sent=False)
                asked.answer, asked.ends = self._refusals.of(errors.BUFFERS_FULL), True
        asked.over.set()

    def _hear_part(self, asked: Asked, part: bytes) -> None:
        try:
            asked.hold.grow(len(part))
        except Refused:
            # What else comes of it is for nobody, and jobs in it go back.
            self.forget(asked)
            asked.end(self._refusals.of(errors.BUFFERS_FULL))
        else:
            asked.body.append(part)

    def _whole(self, asked: Asked, extra: int, data: bytes) -> bytes:
        """Return the response with this body, whose head is said by its number; or the head alone, if other parts of the body have come before."""
        shape = self._shapes.get(extra >> SHAPE_BITS)
        if shape is None or self._response_heads is None:
            raise BrokenFrames(f"a response of shape {extra >> SHAPE_BITS}")
        length = sum(map(len, asked.body)) + len(data)
        head = self._response_heads.fill(shape, length, keep=not extra & ENDS)
        if not asked.body:
            return head + data
        asked.body.append(data)
        return head

    def _hear_of_leader(self, number: int, kind: int, extra: int, data: bytes) -> None:
        if kind == SHAPE:
            start, end, fields = data.partition(b"\r\n")
            self._shapes[number] = Shape.of(start + end, fields)
        elif kind == LOOK:
            self._version = min(max(extra, 1), VERSION)
            self.say(0, HERE)
        else:
            self.say(0, LAST)
            self._later = []

    async def _lose(self) -> None:
        """Repeat, of the requests that were sent on a lost stream, those that may be repeated, and answer the others with an error."""
        for n, asked in enumerate([asked for asked in self._asked.values() if asked.is_sent]):
            if n % _LOOKED_AT == _LOOKED_AT - 1:
                await trio.lowlevel.checkpoint()
            if self._asked.get(asked.number) is not asked:
                # Its client has gone meanwhile.
                continue
            again = self._again(asked)
            if again is Again.NEVER:
                self.forget(asked)
                asked.end(self._refusals.of(errors.NOT_COMMITTED))
            else:
                asked.again, asked.is_sent, asked.at, asked.body = again, False, trio.current_time(), []
                self._send(asked)

    def _again(self, asked: Asked) -> Again:
        """Return what may be done with a request that was sent. Once: what ends one leader is not to end the next ones."""
        if self._repeatable is None or not asked.is_kept or asked.again is not None or asked.has_left:
            return Again.NEVER
        return self._repeatable(asked.request)
