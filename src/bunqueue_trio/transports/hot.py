"""The hot loop: requests that are there whole and wait for nothing, served by one task for all connections.

Theory of operation. A switch of tasks and a wait in Trio cost as much as a push. So a connection that waits for its
next request *parks*: its task sleeps, and its socket is in a poller of our own. One task, the loop, waits for that
poller and takes a *turn* over the sockets that have something: read once, find the head, run the command. At the end
of the turn everything that it changed is committed in one transaction, in the same step if the journal may do that;
and in the step of the commit, whoever makes it, the answers are written, straight to the sockets.

A parked connection is in one of two states. Without ``begun`` it waits for a request, and its socket is watched. With
``begun`` its request has been run and waits for its commit, or for the disk to be given up (``Journal.on_give_up``):
what comes on its socket meanwhile stays in the kernel, since answers keep the order of requests.

Everything else *leaves* to the connection's own task, which is woken with what it is to do next, and parks again when
that is done. It goes on where the loop stopped, so nothing is done, refused or counted twice:

- bytes that are not one whole plain request, that have to wait their turn, or come while the server stops: ``go_on``;
- a command that has begun and waits, or is done in several steps: ``finish``; one that is committed, when a step is full: ``finish_nowait``;
- a response that is too large to be written at once, or is the last one: ``answer``;
- the rest of a response of which the kernel did not take all: ``send_rest``;
- whatever goes wrong with one connection: that error, raised in its task. The loop goes on with the others.

A connection that nobody asks beside is *alone*. Its own task waits for its socket and takes the turns, each over one
request, since an epoll within an epoll is a system call more; what it does in them is the same. It parks when another
one has asked. One whose requests come in pieces stays with its task for some requests.

Fairness. A turn ends after TURN_REQUESTS requests or TURN_LONG_S; who was ready and not served comes first in the next
one, and between two turns all other tasks run. A step of answers ends after ANSWERS_MAX of them. Overload is refused,
and bytes are bounded, by the same :class:`Gateway`: the loop holds one buffer and what waits for its commit.

A client whose pull waits is with its task. Only whether it hangs up is looked for here: a task for that would cost a sixth of the job
that it gets.

Who cancels a parked task takes its connection out of the loop in that very step: an idle connection can be ended
without a request being lost, and its descriptor may be closed, and be somebody else's, at once. A pull whose answer
cannot be sent any more gives its jobs back.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import inf
from typing import NoReturn

import trio

from bunqueue_trio.api.call import Call, Response
from bunqueue_trio.config import ANSWERS_MAX, LONE_REQUESTS, RECEIVE_BYTES, TURN_LONG_S, TURN_REQUESTS
from bunqueue_trio.runtime.begun import Begun
from bunqueue_trio.transports.heads import Handover, Plain
from bunqueue_trio.transports.parking import Parks, Shared
from bunqueue_trio.transports.poller import Poller

Next = Callable[[], Awaitable[bool]]
"""What a connection's task is to do next; it returns whether the connection goes on."""


class _Parked:
    """A connection in the loop, from its parking to its leaving."""

    __slots__ = (
        "begun",
        "call",
        "connection",
        "descriptor",
        "error",
        "go_on",
        "is_alone",
        "is_watched",
        "sleeps",
        "task",
    )

    def __init__(self, connection: Parks, descriptor: int, task: trio.lowlevel.Task) -> None:
        self.connection = connection
        self.descriptor = descriptor
        self.task = task
        self.is_watched = False
        self.is_alone = False
        """Its own task waits for its socket."""
        self.sleeps = False
        """Its task sleeps until it is woken: when it has left, or, alone, was answered."""
        self.call: Call | None = None
        self.begun: Begun | None = None
        """Its request has been run, and is not answered yet."""
        self.go_on: Next = connection.serve_next
        """What its task is to do next, when it has left."""
        self.error: Exception | None = None
        """What its task is to raise instead."""


class HotLoop:
    """Serves the connections that are parked in it."""

    def __init__(self, shared: Shared, poller: Poller) -> None:
        self._shared = shared
        self._server = shared.server
        self._core = shared.server.core
        self._journal = shared.server.journal
        self._poller = poller
        self._runs = False
        self._parked: dict[int, _Parked] = {}
        self._ends: dict[int, Callable[[], None]] = {}
        """What is to be done when the client of a descriptor hangs up, which its own task waits beside."""
        self._due: list[int] = []
        """The descriptors that are ready and not served yet; the next one is the last."""
        self._uncommitted: list[_Parked] = []
        """In the order in which they began."""
        self.last: int = -1
        """The number of the connection that the last request came from."""
        self._alone = 0
        """How many requests have come from there, one after the other."""
        # After the hub's: events are published before the answers of their commit, as they always were.
        self._journal.on_commit.append(self._release)
        self._journal.on_give_up.append(self._release)

    def __len__(self) -> int:
        return len(self._parked)

    async def run(self) -> None:
        """Take turns, for ever. When it fails, the tasks of the connections serve them until it runs again."""
        self._runs = True
        try:
            while True:
                if self._due:
                    await trio.lowlevel.checkpoint()
                else:
                    await self._poller.wait()
                    self._due = self._poller.ready(TURN_REQUESTS)
                    self._due.reverse()
                with self._core.turns.many:
                    self._take_turn()
        finally:
            self._runs = False
            for parked in list(self._parked.values()):
                if parked.begun is None:
                    self._leave(parked, parked.connection.serve_next)

    def wants(self, connection: Parks) -> bool:
        """Return whether ``connection``, about to wait for a request, is to be served here."""
        return self._runs and self._poller.descriptor_of(connection.stream) >= 0

    async def serve(self, connection: Parks) -> Next:
        """Serve ``connection`` until it leaves; return what its task has to do next.

        Raises:
            Exception: what went wrong with it.
        """
        parked = _Parked(connection, self._poller.descriptor_of(connection.stream), trio.lowlevel.current_task())
        self._parked[parked.descriptor] = parked
        try:
            if self.last == connection.number:
                parked.is_alone = True
                await self._be_alone(parked)
                parked.is_alone = False
            self.last, self._alone = connection.number, 0
            if self._is_here(parked) and self._runs and self._watch(parked):
                await self._sleep(parked)
        finally:
            self._remove(parked)
        if parked.error is not None:
            raise parked.error
        return parked.go_on

    async def _be_alone(self, parked: _Parked) -> None:
        """Serve its requests as they come, until it leaves, or another one has asked."""
        while self._is_here(parked):
            await self._poller.wait_for(parked.descriptor)
            if self.last != parked.connection.number:
                return
            if self._is_here(parked):
                with self._core.turns.lone:
                    self._serve(parked)
                if parked.begun is not None:
                    await self._sleep(parked)

    async def _sleep(self, parked: _Parked) -> None:
        """Let the task of ``parked`` sleep until it is woken."""

        def abort(_: object) -> trio.lowlevel.Abort:
            self._remove(parked)
            return trio.lowlevel.Abort.SUCCEEDED

        parked.sleeps = True
        try:
            await trio.lowlevel.wait_task_rescheduled(abort)
        finally:
            parked.sleeps = False
            begun, parked.begun = parked.begun, None
            if begun is not None:
                self._uncommitted = [other for other in self._uncommitted if other is not parked]
                self._core.give_back(begun.reply)

    def _wake(self, parked: _Parked) -> None:
        if parked.sleeps:
            parked.sleeps = False
            trio.lowlevel.reschedule(parked.task)

    def watch_end(self, stream: trio.abc.Stream, on_end: Callable[[], None]) -> int:
        """Call ``on_end`` when the client hangs up whose task waits for something else; return the descriptor to :meth:`ignore_end`, -1: it cannot be."""
        return self._watch_end(stream, on_end, self._poller.watch_end)

    @contextmanager
    def until_broken(self, stream: trio.abc.Stream, patience_s: float = inf) -> Iterator[None]:
        """Do what is inside while its answer may arrive: who says no more, as ``nc -N`` does, still waits for it, ``patience_s`` at most.

        Raises:
            trio.BrokenResourceError: the connection has broken, or that time is over.
        """
        descriptor = -1
        with trio.CancelScope() as waiting:

            def say_no_more() -> None:
                nonlocal descriptor
                waiting.deadline = trio.current_time() + patience_s
                descriptor = self._watch_end(stream, waiting.cancel, self._poller.watch_break)

            ends = patience_s < inf
            watch = self._poller.watch_end if ends else self._poller.watch_break
            descriptor = self._watch_end(stream, say_no_more if ends else waiting.cancel, watch)
            try:
                yield
            finally:
                self.ignore_end(descriptor)
        if waiting.cancelled_caught:
            raise trio.BrokenResourceError("the client is gone")

    def _watch_end(self, stream: trio.abc.Stream, on_end: Callable[[], None], watch: Callable[[int], None]) -> int:
        descriptor = self._poller.descriptor_of(stream) if self._runs else -1
        if descriptor >= 0:
            try:
                watch(descriptor)
            except OSError:
                return -1
            self._ends[descriptor] = on_end
        return descriptor

    def ignore_end(self, descriptor: int) -> None:
        """Let it hang up; a second time does nothing."""
        if self._ends.pop(descriptor, None) is not None:
            self._poller.ignore(descriptor)

    # --- requests -------------------------------------------------------------------------------

    def _take_turn(self) -> None:
        due, parked_by, now = self._due, self._parked, trio.lowlevel.current_clock().current_time
        ends = now() + TURN_LONG_S
        while due:
            descriptor = due.pop()
            parked = parked_by.get(descriptor)
            if parked is not None:
                try:
                    self._serve_parked(parked)
                except Exception as error:
                    self._end(parked, error)
                if now() > ends:
                    break
            elif (on_end := self._ends.get(descriptor)) is not None:
                self.ignore_end(descriptor)
                on_end()

    def _serve_parked(self, parked: _Parked) -> None:
        connection, descriptor = parked.connection, parked.descriptor
        if parked.begun is not None:
            self._poller.ignore(descriptor)
            parked.is_watched = False
            return
        if connection.number != self.last:
            self.last, self._alone = connection.number, 0
        elif (alone := self._alone) < LONE_REQUESTS:
            self._alone = alone + 1
        else:
            self._leave(parked, connection.serve_next)
            return
        self._serve(parked)

    def _serve(self, parked: _Parked) -> None:
        """Run the next request of a connection that has something to read."""
        connection, descriptor = parked.connection, parked.descriptor
        buffer = self._shared.buffer
        try:
            count = self._poller.readv(descriptor, (buffer,))
        except BlockingIOError:
            # It has been read meanwhile, by an earlier owner of this descriptor.
            return
        except OSError as error:
            _raise_gone(error)
        data = bytes(buffer[:count])
        end = data.find(b"\r\n\r\n") + 4
        request = self._parse(data, end) if end > 3 else None
        if request is None or request.length != count - end:
            self._leave(parked, partial(connection.go_on, data))
            return
        begun = request.begin(request.call, data[end:], connection.address)
        if begun is None:
            self._leave(parked, partial(connection.go_on, data))
        elif isinstance(begun, Response):
            self._answer(parked, begun)
        else:
            self._go_on(parked, request.call, begun)

    def _go_on(self, parked: _Parked, call: Call, begun: Begun) -> None:
        connection = parked.connection
        if begun.waits or begun.bulk is not None:
            self._leave(parked, partial(connection.finish, call, begun))
        elif begun.epoch:
            connection.idle, connection.deadline = False, inf
            self._journal.hurry()
            parked.call, parked.begun = call, begun
            self._uncommitted.append(parked)
        else:
            self._answer(parked, self._shared.gateway.finish_nowait(call, begun))

    def _parse(self, data: bytes, end: int) -> Plain | None:
        """Return the request if it is one for the loop, but for the length of its body."""
        try:
            request = self._shared.requests.parse(data, end)
        except Handover:
            return None
        if not isinstance(request, Plain) or not request.at_once or self._server.stop.is_set():
            return None
        return request

    # --- answers --------------------------------------------------------------------------------

    def _release(self, *_: object) -> None:
        """Answer the requests that are committed, or given up (one of ``Journal.on_commit``, and of ``on_give_up``)."""
        if not self._uncommitted:
            return
        waiting, self._uncommitted = self._uncommitted, []
        settled = max(self._journal.committed, self._journal.given_up)
        gateway, left = self._shared.gateway, ANSWERS_MAX
        for parked in waiting:
            if not self._is_here(parked):
                # It was cancelled in this round of tasks, and its descriptor may be another's.
                continue
            call, begun = parked.call, parked.begun
            assert call is not None
            assert begun is not None
            if begun.epoch > settled:
                self._uncommitted.append(parked)
                continue
            parked.begun = None
            left -= 1
            try:
                if left < 0:
                    self._leave(parked, partial(parked.connection.finish_nowait, call, begun))
                else:
                    self._answer(parked, gateway.finish_nowait(call, begun))
            except Exception as error:
                self._end(parked, error)

    def _answer(self, parked: _Parked, response: Response) -> None:
        connection, body, delivery = parked.connection, response.body, response.delivery
        assert isinstance(body, bytes)
        if len(body) > RECEIVE_BYTES or self._server.stop.is_set():
            self._leave(parked, partial(connection.answer, response))
            return
        try:
            data = self._shared.heads.render(response, len(body), keep=True) + body
            try:
                count = self._poller.write(parked.descriptor, data)
            except BlockingIOError:
                count = 0
            except OSError as error:
                _raise_gone(error)
            if count < len(data):
                self._leave(parked, partial(connection.send_rest, data[count:], delivery))
                delivery = None
                return
            if delivery is not None:
                delivery.sent()
        finally:
            if delivery is not None:
                delivery.end()
        connection.idle, connection.deadline = True, self._shared.now + self._shared.keep_alive_s
        if parked.is_alone:
            self._wake(parked)
        elif not (self._runs and (parked.is_watched or self._watch(parked))):
            self._leave(parked, connection.serve_next)

    def _watch(self, parked: _Parked) -> bool:
        """Look at its socket from now on; return False where the kernel has no room for that: its task serves it, as if there were no loop."""
        try:
            self._poller.watch(parked.descriptor)
        except OSError:
            return False
        parked.is_watched = True
        return True

    # --- leaving --------------------------------------------------------------------------------

    def _leave(self, parked: _Parked, go_on: Next) -> None:
        self._remove(parked)
        # Until its task says so itself: a request that the loop has read or begun must not be ended as if nothing were under way.
        parked.connection.idle, parked.connection.deadline = False, inf
        parked.go_on = go_on
        self._wake(parked)

    def _end(self, parked: _Parked, error: Exception) -> None:
        """End one connection because of ``error``, unless it has left already."""
        if self._is_here(parked):
            self._remove(parked)
            parked.error = error
            self._wake(parked)

    def _is_here(self, parked: _Parked) -> bool:
        """Return whether it has not left; its descriptor may be another's by now."""
        return self._parked.get(parked.descriptor) is parked

    def _remove(self, parked: _Parked) -> None:
        if self._is_here(parked):
            del self._parked[parked.descriptor]
            if parked.is_watched:
                self._poller.ignore(parked.descriptor)


def _raise_gone(error: OSError) -> NoReturn:
    raise trio.BrokenResourceError(f"the client is gone: {error}") from error
