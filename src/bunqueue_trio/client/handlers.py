"""What a worker needs around a handler: a decoder of payloads, threads for sync ones, and a text for whatever is raised.

No exception of a handler escapes.

A sync handler runs in a thread, which nobody can end: one whose job is over for us is left alone, and keeps its
slot until it ends by itself.
"""

import inspect
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import NoneType, TracebackType, UnionType
from typing import Annotated, Any, NamedTuple, Union, cast, get_args, get_origin

import anyio
import anyio.lowlevel
from anyio.to_thread import run_sync  # noqa: TID251 - a handler that blocks, that is why it is not async
from msgspec import Raw
from msgspec.json import Decoder

from bunqueue_trio.client.backend import caller_from_threads, is_cancelled, note_thread
from bunqueue_trio.client.client import Job
from bunqueue_trio.client.endings import Said, ending_of, members_of, said_by
from bunqueue_trio.client.held import Held
from bunqueue_trio.client.leftovers import end_forked
from bunqueue_trio.client.log import log
from bunqueue_trio.client.traces import Traces, told
from bunqueue_trio.logs.printable import printable

Handler = Callable[[Job[Any]], Any]

# As the attributes of these names, which a class may have replaced by others that raise.
_cause_of, _context_of, _trace_of = (
    cast("Callable[[BaseException], Any]", vars(BaseException)[f"__{name}__"].__get__)
    for name in ("cause", "context", "traceback")
)


class Outcome(NamedTuple):
    """How a job went: with ``error`` it has failed. ``duration``: seconds of its handler; ``trace``: for the log.

    ``ending``: what the handler said of the next attempt.
    """

    held: Held
    duration: float
    result: Raw | None = None
    error: str | None = None
    trace: str | None = None
    ending: Said | None = None
    called_off: bool = False
    """Its job is cancelled, and it has ended for that."""


class Threads:
    """The threads of a worker's sync handlers; ``on_end`` is called when a thread ends that was abandoned before."""

    def __init__(self, on_end: Callable[[], None]) -> None:
        self.left: int = 0
        """How many go on although their job is over for us."""
        self._on_end = on_end
        # Nobody waits for a thread: whoever takes a job has counted its slots.
        self._limiter = anyio.CapacityLimiter(float("inf"))

    async def run(self, function: Handler, job: Job[Any]) -> Any:
        """Run ``function`` in a thread, and leave it alone when cancelled."""
        # Then there is no thread to leave alone.
        await anyio.lowlevel.checkpoint_if_cancelled()
        call_in_loop = caller_from_threads()
        thread = _Thread()
        # The handler may change both.
        job_id, queue, process = job.id, job.queue, os.getpid()

        def call() -> tuple[Any, BaseException | None]:
            if not thread.begins():
                # Nobody waits any more.
                return None, None
            note_thread()
            try:
                result = function(job)
                end_forked(process)
                return result, None
            except BaseException as error:  # noqa: ASYNC103 - it is raised where it is waited for
                end_forked(process, error)
                return None, error  # noqa: ASYNC104 - there
            finally:
                # The loop has ended.
                with suppress(RuntimeError):
                    call_in_loop(partial(self._ended, thread))

        try:
            result, error = await run_sync(call, abandon_on_cancel=True, limiter=self._limiter)
        except anyio.get_cancelled_exc_class():
            if not thread.ended and not thread.begins():
                thread.left = True
                self.left += 1
                log.warning(
                    "a handler goes on in its thread, and keeps its slot until it ends", job=printable(job_id),
                    queue=queue, such_threads=self.left,
                )  # fmt: skip
            raise
        try:
            if error is not None and _first_of(error, lambda one: type(one) is KeyboardInterrupt) is not None:
                # No key was pressed.
                raise RuntimeError("the handler raised KeyboardInterrupt") from error
            if error is not None:
                raise error
        finally:
            # Its traceback leads here: only the garbage collector would find it.
            del error
        return result

    def _ended(self, thread: "_Thread") -> None:
        thread.ended = True
        if thread.left:
            self.left -= 1
            self._on_end()


class _Thread:
    __slots__ = ("_first", "ended", "left")

    def __init__(self) -> None:
        self._first = threading.Lock()
        self.ended = False
        self.left = False

    def begins(self) -> bool:
        """Return true to whoever asks first: the thread, which then runs its handler, or whom it would be left by."""
        return self._first.acquire(blocking=False)


def parted(raised: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Return what of ``raised`` is not the handler's doing, and what is: the worker is cancelled, or the program interrupted."""
    if issubclass(type(raised), Exception) and not issubclass(type(raised), BaseExceptionGroup):
        # The usual case.
        return None, raised
    cancelled = anyio.get_cancelled_exc_class() if is_cancelled() else None

    def is_foreign(one: BaseException) -> bool:
        # Its type, and no heir's: only a handler raises one of these.
        return type(one) is cancelled or (type(one) is KeyboardInterrupt and _was_pressed(one))

    foreign = _first_of(raised, is_foreign)
    if foreign is None or foreign is raised:
        return foreign, None if foreign is raised else raised
    own: BaseException | None = raised
    # Its class is the handler's.
    with suppress(Exception):
        own = cast("BaseExceptionGroup[BaseException]", raised).split(type(foreign))[1]
    return foreign, own


def _was_pressed(interrupt: BaseException) -> bool:
    """Return whether a signal raised this: the handler of SIGINT is in its traceback, and not only a line of a job's handler."""
    if threading.current_thread() is not threading.main_thread():
        # No signal comes here.
        return False
    on_signal: Any = signal.getsignal(signal.SIGINT)
    while isinstance(on_signal, partial):
        on_signal = on_signal.func
    code = getattr(getattr(on_signal, "__func__", on_signal), "__code__", None)
    if code is None:
        # Written in C, as Python's own is, it leaves no trace.
        return callable(on_signal)
    trace: TracebackType | None = _trace_of(interrupt)
    while trace is not None and trace.tb_frame.f_code is not code:
        trace = trace.tb_next
    return trace is not None


def _first_of(raised: BaseException, matches: Callable[[BaseException], bool]) -> BaseException | None:
    """Return ``raised`` if it ``matches``; of a group, the first exception in it that does, however deep."""
    left, seen = [raised], set[int]()
    while left:
        one = left.pop()
        if matches(one):
            return one
        # Of its type: what it says itself may be anything. One may be in many groups.
        if issubclass(type(one), BaseExceptionGroup) and id(one) not in seen:
            seen.add(id(one))
            left += members_of(one)
    return None


def heard(raised: BaseException, traces: Traces) -> tuple[str, str | None, Said | None]:
    """Return what a handler raised as :func:`~bunqueue_trio.client.traces.told` does, and what it said of the next attempt.

    If it said so, where it did is of no interest, but for what made it say so. Whatever was raised, this raises nothing.
    """
    ending = ending_of(raised)
    if ending is None:
        return *told(raised, traces), None
    said, text = said_by(ending), told(ending, traces)[0]
    if not said.gives_up and said.after is None:
        text += " (its `after` is no time: the backoff counts)"
    cause = _cause_of(ending)
    cause = _context_of(ending) if cause is None else cause
    return text, None if cause is None else told(raised, traces)[1], said


def check_handler(function: Handler) -> None:
    """Refuse what would never run: a call of it takes no job, or returns a generator, which nobody goes through.

    Raises:
        TypeError: it does not take one argument, or has a ``yield`` in it.
    """
    called = getattr(function, "__call__", None)  # noqa: B004 - asked of its type
    name = getattr(function, "__qualname__", repr(function))
    if any(inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each) for each in (function, called)):
        raise TypeError(
            f"{name} has a yield in it, so that a call of it runs nothing: a handler is a plain or an async function"
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        # A callable without a signature, of C.
        return
    try:
        signature.bind(None)
    except TypeError as error:
        raise TypeError(f"{name} cannot be called with a job alone, as handlers are: {error}") from None


def payload_decoder(function: Handler) -> Decoder[Any] | None:
    """Return what reads the payloads for a handler of ``Job[Something]``; None for one of plain ``Job``.

    Raises:
        TypeError: msgspec cannot read what it names, or the name is not known.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        # A callable without a signature, of C.
        return None
    wanted: Any = _plain(parameters[0].annotation) if parameters else None
    # Annotations of its module are not evaluated.
    if isinstance(wanted, str):
        if "[" not in wanted:
            return None
        try:
            wanted = _plain(next(iter(inspect.signature(function, eval_str=True).parameters.values())).annotation)
        except NameError as error:
            raise TypeError(f"{wanted!r} of the handler cannot be found: {error}") from None
    if get_origin(wanted) is not Job:
        return None
    (kind,) = get_args(wanted)
    return None if kind is Any else Decoder(kind)


def _plain(annotation: Any) -> Any:
    """Return what ``annotation`` comes to: a name that was given to it, remarks on it, and a None beside it are left away."""
    while True:
        kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
        # Of the statement `type`, which came with Python 3.12; not of a string, which has no such attribute.
        named = getattr(annotation, "__value__", None)
        if named is not None:
            annotation = named
        elif get_origin(annotation) is Annotated or (get_origin(annotation) in (Union, UnionType) and len(kinds) == 1):
            annotation = kinds[0]
        else:
            return annotation
