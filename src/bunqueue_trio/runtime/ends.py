"""Who waits for the end of a job: each learns of it in the step in which the job ends, however it ends, and holds up nobody.

Only :class:`~bunqueue_trio.runtime.core.Core` uses it. Who waits has its place from the step that begins the wait, so that no end is
overslept, also of a job that leaves no record; :meth:`Ends.wait` takes it back, whatever becomes of the client.
"""

import trio

from bunqueue_trio.engine.ends import End, answer, end_of
from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.engine.job import UNFINISHED
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.runtime.begun import Awaited, Begun
from bunqueue_trio.runtime.journal import Journal

_UNFINISHED = frozenset(state.value for state in UNFINISHED)


class Ends:
    """All who wait for ends."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lines: dict[str, dict[Awaited, None]] = {}
        self.waiting: int = 0
        engine.watch_ends(self._lines)

    def join(self, begun: Begun) -> None:
        """Let a command that has seen a job wait for its end, if that has not come."""
        reply = begun.reply
        assert isinstance(reply, r.ResultReply | r.WaitReply)
        if reply.state in _UNFINISHED:
            begun.waits, begun.awaited = True, Awaited(reply.id)
            self._lines.setdefault(reply.id, {})[begun.awaited] = None
            self.waiting += 1

    def leave(self, awaited: Awaited) -> None:
        """Leave the line; to be called once or more often."""
        line = self._lines.get(awaited.job_id, {})
        if awaited in line:
            del line[awaited]
            self.waiting -= 1
            if not line:
                del self._lines[awaited.job_id]

    def tell(self) -> None:
        """Tell of the ends that the last step has brought."""
        ends, self._engine.ends = self._engine.ends, []
        for end in ends:
            for awaited in self._lines.get(end.id, ()):
                # Of the first job of this id.
                awaited.end = awaited.end or end
                awaited.told.set()

    def stop(self, awaited: Awaited, journal: Journal) -> bool:
        """Let somebody wait no longer, who is answered with what is so now; return False when there was an answer already."""
        # It is never finished, if its carrier has no room for it.
        self.leave(awaited)
        if awaited.told.is_set():
            return False
        # Before its task goes on the job may have ended, and left.
        awaited.end = self._as_is(awaited, journal)
        awaited.told.set()
        return True

    def end_all(self, journal: Journal) -> None:
        """Let nobody wait any longer."""
        for line in list(self._lines.values()):
            for awaited in list(line):
                self.stop(awaited, journal)

    async def wait(self, begun: Begun, journal: Journal) -> r.Reply:
        """Return the answer when the job has ended and that is committed, or the time is over.

        Raises:
            Refused: the disk does not take it.
        """
        awaited, command = begun.awaited, begun.command
        assert awaited is not None
        assert isinstance(command, c.WaitJob | c.GetResult)
        begun_at = trio.current_time()
        try:
            with trio.move_on_after(command.timeout / 1000):
                await awaited.told.wait()
            begun.at += trio.current_time() - begun_at
            end = awaited.end or self._as_is(awaited, journal)
            try:
                await journal.wait_committed(end.epoch)
            except Refused as refused:
                raise begun.unsettled(refused) from None
            return answer(command, end)
        finally:
            self.leave(awaited)

    def _as_is(self, awaited: Awaited, journal: Journal) -> End:
        job = self._engine.jobs[awaited.job_id]
        return end_of(job, job.state, journal.epoch_of(job.id))
