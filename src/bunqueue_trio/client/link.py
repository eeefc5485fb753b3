"""One connection while it lives: questions and their answers, events, and whether the server is still there."""

import math
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import msgspec
from msgspec import Raw, Struct

from bunqueue_trio import errors
from bunqueue_trio.client.backend import Loop, Signal, new_event
from bunqueue_trio.client.connection import Closed, Connection
from bunqueue_trio.errors import ConnectionLost, Refused, ServerUnavailable
from bunqueue_trio.protocol.events import ALL_TYPES, Event
from bunqueue_trio.protocol.faults import error_of
from bunqueue_trio.protocol.request import json_of
from bunqueue_trio.protocol.standin import STAND_INS
from bunqueue_trio.protocol.surrogates import marked, read

# A server that owes an answer to a ping for this long is gone. It counts too, for a minute since a worker's last heartbeat: by
# then that worker has to be there over another connection, with which its jobs come over.
ANSWER_S = 10.0
# The same where another connection was made meanwhile.
ONCE_MORE_S = 5.0
RETRY_S = 1.0
# However impatient somebody is, a server that is there has this long for an answer.
ANSWER_MIN_S = 1.0
# Bytes of a message: a longer one has more time.
SENT_PER_S = 1024 * 1024
# Smaller messages are never too big for a server.
_SUSPECT = 64 * 1024

_encode = msgspec.json.Encoder().encode


class Lost(Exception):
    """The connection ended before the answer; ``sent``: the command may have taken effect."""

    def __init__(self, *, sent: bool) -> None:
        super().__init__("the connection was lost")
        self.sent = sent


class Unanswered(Lost):
    """The connection is there, and there was no answer over it in time."""


class _Head(Struct, rename="camel"):
    ok: bool | None = None
    error: str | None = None
    code: str | None = None
    req_id: int | None = None
    event_type: str | None = None
    missed_events: int = 0
    stopped: bool | None = None


class _Named(Struct):
    id: Raw


class _Tokens(Struct):
    """Ids and tokens in the answer to a pull of either kind."""

    job: _Named | None = None
    token: str | None = None
    jobs: list[_Named] = []
    tokens: list[str] = []


_HEAD = msgspec.json.Decoder(_Head)


def _read(message: bytes) -> tuple[_Head, Event | None]:
    """Return what every message from a server may have, and the whole event if the message is one.

    Raises:
        ValueError, RecursionError: no server of ours speaks like that.
    """
    try:
        head = _HEAD.decode(message)
    except ValueError:
        head = _HEAD.decode(marked(message))
    if head.event_type not in ALL_TYPES:
        return head, None
    try:
        return head, read(message, Event)
    except ValueError:
        # An event of a newer server: readers learn that they miss one.
        head.event_type = None
        return head, None


def _is_json(message: bytes) -> bool:
    try:
        message.decode()
        msgspec.json.decode(message, type=Raw)
    except ValueError:
        return False
    except RecursionError:
        # Of that it can tell who has asked.
        pass
    return True


class _Question:
    __slots__ = ("abandoned", "answer", "answered", "due", "failure", "message", "number", "sent")

    def __init__(self, number: int, message: bytes) -> None:
        # When nobody waits for the answer any longer.
        self.due = math.inf
        self.number = number
        self.message = message
        self.answered = new_event()
        self.answer = b""
        self.failure: Exception | None = None
        self.sent = False
        self.abandoned = False


def _refusal(text: str, code: str | None) -> Exception:
    """Return the exception for a refusal of the server, which over WebSocket carries no status."""
    error = error_of(text, code)
    return Lost(sent=True) if isinstance(error, ConnectionLost) else error


class ServerLink:
    """Talks over ``connection`` until it ends. ``on_event`` gets None where events may be missing.

    ``has_other``: whether another connection could be made, for one that is silent.
    """

    def __init__(
        self, connection: Connection, on_event: Callable[[Event | None], None],
        has_other: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:  # fmt: skip
        self._connection = connection
        self._has_other = has_other
        self._on_event = on_event
        self._questions: dict[int, _Question] = {}
        self._outgoing: deque[_Question] = deque()
        self._ring = Signal()
        self._last_id = 0
        self.now: Callable[[], float] = Loop().current_time
        """Returns the time of its loop, as ``anyio.current_time`` does at ten times the cost."""
        self._heard_at = self.now()
        self.answered: bool = False
        """Whether any question was answered: only a server of ours does that."""
        self.over: bool = False
        self._scope = anyio.CancelScope()
        self._unwanted: list[tuple[Raw, str]] = []
        self._unwanted_ring = Signal()
        # When the first question is due, as far as is known: it may be answered by then.
        self._due_at = math.inf
        self._due_ring = Signal()

    def close(self) -> None:
        """Let :meth:`run` return."""
        self._scope.cancel()

    async def run(self) -> None:
        """Talk; return when the connection is over. Every open question has failed then."""
        too_big = False
        try:
            with self._scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._write)
                    group.start_soon(self._watch)
                    group.start_soon(self._release_unwanted)
                    group.start_soon(self._end_late_questions)
                    try:
                        await self._read()
                    except Closed as closed:
                        too_big = closed.too_big
                    group.cancel_scope.cancel()
        finally:
            self._end(too_big=too_big)

    def post(self, command: str, **fields: Any) -> None:
        """Send a command whose answer nobody waits for."""
        self._put(command, fields)

    async def ask(
        self, command: str, fields: dict[str, Any], within_s: float = math.inf, *, returns: bool = False
    ) -> bytes:
        """Return the answer of the server. Cancelled, the command still runs; only a waiting pull is taken back.

        ``returns`` is for a pull: the jobs in an answer that comes all the same go back.

        Raises:
            Lost: there will be no answer.
            Unanswered: there was none ``within_s``, and the little more that any server has.
            Refused: the command cannot be honoured.
            ServerUnavailable: not now.
        """
        question = self._put(command, fields)
        if within_s < math.inf:
            question.due = self.now() + max(within_s, ANSWER_MIN_S) + len(question.message) / SENT_PER_S
            if question.due < self._due_at:
                self._due_at = question.due
                self._due_ring.ring()
        try:
            await question.answered.wait()
        except anyio.get_cancelled_exc_class():
            if returns:
                self._take_back(question)
            raise
        if question.number in self._questions:
            if returns or not question.sent:
                self._take_back(question)
            raise Unanswered(sent=question.sent)
        if question.failure is not None:
            raise question.failure
        return question.answer

    # --- inside ---------------------------------------------------------------------------------

    def _take_back(self, pull: _Question) -> None:
        """Undo a pull; or any question that was not sent yet."""
        # In this very moment.
        if pull.number not in self._questions:
            if pull.failure is None:
                self._give_back(pull.answer)
        elif pull.sent:
            pull.abandoned = True
            self._outgoing.append(_Question(pull.number, _encode({"cmd": "StopPull", "reqId": pull.number})))
            self._ring.ring()
        else:
            self._outgoing.remove(pull)
            del self._questions[pull.number]

    async def _end_late_questions(self) -> None:
        """Wake whoever waits for an answer that is due: one alarm for all of them, for one of its own would cost each more than its message."""
        while True:
            with anyio.move_on_after(self._due_at - self.now()) as alarm, STAND_INS.resting(alarm):
                # A server that is there answers before that.
                await self._due_ring.wait()
            now, self._due_at = self.now(), math.inf
            for question in self._questions.values():
                if question.due <= now:
                    # It stays among the open ones: so it is not taken for one with an answer.
                    question.answered.set()
                elif question.due < self._due_at:
                    self._due_at = question.due

    def _give_back(self, answer: bytes) -> None:
        """Give back the jobs in the answer to a pull that nobody waits for any more."""
        try:
            found = read(answer, _Tokens)
            jobs = found.jobs if found.job is None else [found.job]
            tokens = found.tokens if found.token is None else [found.token]
            unwanted = [(job.id, token) for job, token in zip(jobs, tokens, strict=True)]
        except (ValueError, RecursionError):
            # Of a newer server, or of none.
            # What it delivered goes back with the connection.
            self.close()
            return
        self._unwanted += unwanted
        self._unwanted_ring.ring()

    async def _release_unwanted(self) -> None:
        """Send releases of returned jobs until the server carries them out: its disk may refuse that now."""
        while True:
            while not self._unwanted:
                await self._unwanted_ring.wait()
            jobs, self._unwanted = self._unwanted, []
            try:
                asked = [self._put("Release", {"id": job_id, "token": token}) for job_id, token in jobs]
            except Lost:
                # With the connection they go back anyway.
                return
            for job, question in zip(jobs, asked, strict=True):
                await question.answered.wait()
                if isinstance(question.failure, ServerUnavailable | Lost):
                    self._unwanted.append(job)
            if self._unwanted:
                await anyio.sleep(RETRY_S)

    def _put(self, command: str, fields: dict[str, Any]) -> _Question:
        if self.over:
            raise Lost(sent=False)
        number = self._last_id + 1
        message = {"cmd": command} | {k: v for k, v in fields.items() if v is not None} | {"reqId": number}
        question = _Question(number, json_of(message))
        size, most = len(question.message), self._connection.message_max
        if size > most:
            text = f"a message of {size:,} bytes is longer than the {most:,} that the server takes"
            raise Refused(413, text, errors.BODY_TOO_LARGE.code)
        self._last_id = number
        self._questions[number] = question
        self._outgoing.append(question)
        self._ring.ring()
        return question

    async def _write(self) -> None:
        try:
            while True:
                while self._outgoing:
                    question = self._outgoing.popleft()
                    question.sent = True
                    await self._connection.send(question.message)
                await self._ring.wait()
        except Closed:
            # the reader says why, after what is still to be read
            await anyio.sleep(1)
            self.close()

    async def _read(self) -> None:
        """Give answers and events to whoever waits for them, until the connection ends or a message makes no sense."""
        while True:
            message = await self._connection.receive()
            try:
                head, event = _read(message)
            except (ValueError, RecursionError):
                # What speaks like that is no server of ours.
                return
            if event is not None:
                self._heard_at = self.now()
            if head.ok is None:
                # Else it is of a kind that we do not know.
                if event is not None or head.event_type is None:
                    self._on_event(event)
                continue
            if head.req_id is not None:
                self._answer(head, head.req_id, message)
            elif not head.ok:
                self._fail_unreadable(head)

    def _answer(self, head: _Head, number: int, message: bytes) -> None:
        # Nothing else counts: what only echoes, or greets, is not there.
        self._heard_at = self.now()
        # A pull is answered, too, when it was stopped.
        if head.stopped is not None:
            return
        question = self._questions.pop(number, None)
        if question is None:
            return
        self.answered = True
        if not head.ok:
            question.failure = _refusal(head.error or "refused", head.code)
        elif question.abandoned:
            self._give_back(message)
        question.answer = message
        question.answered.set()

    def _fail_unreadable(self, head: _Head) -> None:
        """Fail the questions that are no JSON, because somebody's ``Raw`` is not: a server that cannot read a question cannot say which one it was."""
        for question in list(self._questions.values()):
            if question.sent and not _is_json(question.message):
                del self._questions[question.number]
                question.failure = _refusal(head.error or "refused", head.code)
                question.answered.set()

    async def _watch(self) -> None:
        """End the connection when the server is silent, however healthy the network looks, and there is another one.

        Where there is none the server hangs, or is frozen: if it goes on, so does this connection, and all that is held over it.
        """
        if self._connection.keepalive_s is None:
            return
        while not self.over:
            # A time, and not how long it is: that may be less by a rounding error, and no sleep is so short.
            due, now = self._heard_at + self._connection.keepalive_s, self.now()
            if now < due:
                await anyio.sleep(due - now)
                continue
            if not await self._is_silent(ANSWER_S):
                continue
            # While that was found out the server may have begun to go on.
            if self._has_other is None or (await self._has_other() and await self._is_silent(ONCE_MORE_S)):
                self.close()

    async def _is_silent(self, seconds: float) -> bool:
        """Ask whether the server is there; return whether nothing was heard of it for ``seconds`` then."""
        asked_at = self.now()
        with anyio.move_on_after(seconds) as waiting, suppress(Lost, Refused, ServerUnavailable):
            # An answer is an answer.
            await self.ask("Ping", {})
        return waiting.cancelled_caught and self._heard_at < asked_at

    def _end(self, *, too_big: bool) -> None:
        self.over = True
        questions = list(self._questions.values())
        self._questions.clear()
        largest = max((len(q.message) for q in questions if q.sent), default=0)
        for question in questions:
            if too_big and question.sent and len(question.message) == largest > _SUSPECT:
                question.failure = errors.BODY_TOO_LARGE.refuse()
            else:
                question.failure = Lost(sent=question.sent)
            question.answered.set()
