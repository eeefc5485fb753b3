"""What a client asks and tells, but for what takes jobs, adds them and follows events: the command, its answer, and what a cut makes of it.

Owns which command may be sent again; refuses to know how a connection is kept up.
"""

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast

import anyio
import msgspec

from bunqueue_trio.client.info import JobInfo, decode, encoded
from bunqueue_trio.client.link import Lost, ServerLink, Unanswered
from bunqueue_trio.client.upkeep import Upkeep
from bunqueue_trio.errors import JOB_NOT_FOUND, ConnectionLost, Refused, ServerUnavailable
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol import replies as r
from bunqueue_trio.protocol.catalog import AWAITS, SPECS, TAKES
from bunqueue_trio.protocol.commands.spec import Again
from bunqueue_trio.protocol.options import FailureSpec, failure_fields, percent_of, said
from bunqueue_trio.protocol.request import fields_of, has_tokens
from bunqueue_trio.protocol.surrogates import read
from bunqueue_trio.protocol.times import Time, to_ms

# How often a pull asks for which there is no room to wait.
POLL_AGAIN_S = 1.0

R = TypeVar("R", bound=r.Reply)


class Asking:
    """A client, as far as it only asks."""

    _upkeep: Upkeep
    _in_flight: int

    def _begin(self) -> None:
        """Set up what belongs to one block, and to one loop."""
        self._slots = anyio.Semaphore(self._in_flight)
        self._polls = anyio.Semaphore(self._in_flight)
        self._upkeep.begin()

    # --- what becomes of a job --------------------------------------------------------------------

    async def ack(self, job_id: str, result: Any = None, *, token: str | None = None) -> None:
        """Complete a job; without its token it cannot be repeated, and may end in ConnectionLost."""
        until = anyio.current_time() + self._upkeep.patience
        try:
            await self._call(c.Ack, id=job_id, token=token, result=encoded(result))
        except ConnectionLost as error:
            lost = error
        else:
            return
        # While it is patient, it looks: by a token it can only have been this one.
        with anyio.CancelScope(deadline=until), suppress(ServerUnavailable, ConnectionLost):
            if token is not None and await self._state_or_none(job_id) == "completed":
                return
        raise lost

    async def ack_many(
        self, ids: Sequence[str], results: Sequence[Any] | None = None, *, tokens: Sequence[str] | None = None
    ) -> list[str]:
        """Complete several jobs; return the ids that were not active, or not ours any more.

        When the connection was cut meanwhile, jobs that this very call completed may be among them.
        """
        encoded_results = None if results is None else [encoded(result) or r.NULL for result in results]
        reply = await self._call(c.AckBatch, ids=ids, tokens=tokens, results=encoded_results)
        return _strings(reply, "ignoredIds")

    async def fail(
        self, job_id: str, error: str | None = None, *, token: str | None = None, unrecoverable: bool = False,
        retry_in: Time | None = None, stack: str | None = None,
    ) -> None:  # fmt: skip
        """Report a failed attempt: the job is retried after its backoff, or ``retry_in`` seconds, or dead.

        An ``unrecoverable`` one is the last. ``stack`` is kept with the attempt.
        """
        how = {"stack": said(stack), "unrecoverable": unrecoverable or None, "retryIn": to_ms("retry_in", retry_in)}
        await self._call(c.Fail, id=job_id, token=token, error=said(error), **how)

    async def fail_many(self, failures: Iterable[FailureSpec]) -> list[str]:
        """Report failed attempts, each with the ``id`` of its job and what :meth:`fail` takes; at most 500.

        Return the ids that were not active, or not ours any more. When the connection was cut meanwhile, jobs that this
        very call reported may be among them, if each has its token; else it may end in ConnectionLost.
        """
        return (await self._call(c.FailBatch, failures=failure_fields(failures))).data.ignored_ids or []

    async def release(self, job_id: str, *, token: str | None = None) -> None:
        """Return a job to its previous position, as if it had not been pulled."""
        await self._call(c.Release, id=job_id, token=token)

    async def heartbeat(self, job_id: str, *, token: str | None = None, duration: Time | None = None) -> None:
        """Renew a lease; of a job that was held over a restart of the server, for this connection. Refused when it is lost."""
        await self._call(c.Heartbeat, id=job_id, token=token, duration=to_ms("duration", duration))

    async def heartbeats(self, ids: Sequence[str], *, tokens: Sequence[str] | None = None) -> list[str]:
        """Renew several leases; return the ids of those that are lost."""
        return (await self.renew(ids, tokens=tokens))[0]

    async def renew(self, ids: Sequence[str], *, tokens: Sequence[str] | None = None) -> tuple[list[str], list[str]]:
        """Renew several leases; return the ids of those that are lost, and of jobs that are cancelled and to be ended."""
        reply = await self._call(c.HeartbeatBatch, ids=ids, tokens=tokens)
        return _strings(reply, "lostIds"), _strings(reply, "cancelledIds")

    async def extend_lock(self, job_id: str, token: str, duration: Time) -> None:
        """Let the lease of a job end ``duration`` seconds from now."""
        await self._call(c.ExtendLock, id=job_id, token=token, duration=to_ms("duration", duration))

    async def progress(
        self, job_id: str, percent: float, message: str | None = None, *, token: str | None = None
    ) -> None:
        """Report how far an active job is; this renews its lease too."""
        await self._call(c.Progress, id=job_id, progress=percent_of(percent), message=said(message), token=token)

    # --- everybody --------------------------------------------------------------------------------

    async def get(self, job_id: str) -> JobInfo:
        """Return a job; Refused (404) when it is unknown, or finished and not kept."""
        return JobInfo((await self._call(c.GetJob, id=job_id)).job)

    async def state(self, job_id: str) -> str:
        """Return ``waiting``, ``delayed``, ``waiting-children``, ``active``, ``completed`` or ``failed``."""
        return (await self.look(job_id)).state

    async def result(self, job_id: str) -> Any:
        """Return the result of a job; None while it has none."""
        return decode((await self._call(c.GetResult, id=job_id)).result)

    async def cancel(
        self, job_id: str, *, reason: str | None = None, by: str | None = None, grace: Time | None = None
    ) -> None:
        """Remove an unfinished job, an active one too; Refused (404) when there is none.

        With any of the others a record is kept. Its worker has ``grace`` seconds to end it.
        """
        await self._call(c.Cancel, id=job_id, reason=reason, by=by, grace=to_ms("grace", grace))

    async def stats(self) -> dict[str, Any]:
        """Return the server's statistics."""
        reply: dict[str, Any] = msgspec.json.decode(await self._answer(c.Stats, {}))
        return {name: value for name, value in reply.items() if name not in ("ok", "reqId")}

    async def ping(self) -> None:
        """Return when the server has answered."""
        await self._answer(c.Ping, {})

    async def run(self, command: c.Command[R]) -> R:
        """Send any command of :mod:`bunqueue_trio.commands`, with its fields as the server has them; return its reply.

        Times are in ms. Jobs that it takes are ours as with :meth:`pull`. It is repeated where that can do no harm.

        Raises:
            TypeError: it is no command, or it says something about a connection, which is this client's own business.
        """
        fields = fields_of(command)
        if isinstance(command, c.Pull | c.PullBatch | c.WaitJob | c.GetResult):
            # A number, and no JSON: the client waits for it, too.
            fields["timeout"] = command.timeout
        return await self._call(type(command), **fields)

    async def look(self, job_id: str) -> r.StateReply:
        """Return where a job stands as the server says it; Refused (404) as for :meth:`get`. Times are in ms."""
        return await self._call(c.GetState, id=job_id)

    # --- inside -----------------------------------------------------------------------------------

    async def _state_or_none(self, job_id: str) -> str | None:
        try:
            return await self.state(job_id)
        except Refused as refused:
            if refused.code != JOB_NOT_FOUND.code:
                raise
            return None

    async def _call(self, kind: type[c.Command[R]], spent: float = 0, /, **fields: Any) -> R:
        """Send a command whose fields have their names and units in JSON; of its patience some seconds are ``spent``."""
        if kind in TAKES and isinstance(timeout_ms := fields.get("timeout"), int | float) and timeout_ms > 0:
            # What is no number, the server refuses at once.
            return await self._call_waiting(kind, fields)
        if kind in AWAITS and (wait_ms := fields.get("timeout", c.WaitJob().timeout if kind is c.WaitJob else 0)):
            async with self._polls:
                wait_s = wait_ms / 1000 if isinstance(wait_ms, int | float) else 0
                return self._read(kind, await self._ask(kind, fields, wait_s=wait_s))
        return self._read(kind, await self._answer(kind, fields, spent))

    async def _call_waiting(self, kind: type[c.Command[R]], fields: dict[str, Any]) -> R:
        """Send a waiting pull. Where too many wait already it asks again and again, for as long as it may wait."""
        due = anyio.current_time() + fields["timeout"] / 1000
        while True:
            try:
                self._polls.acquire_nowait()
                break
            except anyio.WouldBlock:
                # It asks without waiting, and then looks again whether it may wait.
                pass
            reply = self._read(kind, await self._answer(kind, fields | {"timeout": 0}))
            left = due - anyio.current_time()
            if left <= 0 or getattr(reply, "job", None) or getattr(reply, "jobs", None):
                return reply
            with anyio.move_on_after(min(left, POLL_AGAIN_S)):
                await self._polls.acquire()
                break
        try:
            return self._read(kind, await self._ask(kind, fields, due=due))
        finally:
            self._polls.release()

    def _read(self, kind: type[c.Command[R]], answer: bytes) -> R:
        try:
            return cast("R", read(answer, SPECS[kind].reply))
        except (ValueError, RecursionError) as error:
            raise ConnectionLost(f"the answer to {SPECS[kind].tag} cannot be read: {error}") from None

    def _is_free(self) -> bool:
        """Take a slot without a switch of tasks, which is the usual case; return whether there was one."""
        try:
            self._slots.acquire_nowait()
        except anyio.WouldBlock:
            return False
        return True

    async def _answer(self, kind: type[c.Command], fields: dict[str, Any], spent: float = 0) -> bytes:
        if not self._is_free():
            began = anyio.current_time()
            with anyio.move_on_after(self._upkeep.patience - spent) as limit:
                await self._slots.acquire()
            if limit.cancelled_caught:
                many = f"of this client, {self._in_flight} have no answer yet"
                text = f"{SPECS[kind].tag} was not sent within {self._upkeep.patience:g} s: {many}"
                raise ServerUnavailable(text) from None
            spent += anyio.current_time() - began
        try:
            return await self._ask(kind, fields, spent=spent)
        finally:
            self._slots.release()

    async def _linked(self, spent: float) -> tuple[ServerLink, float, float]:
        """Return the connection, when it was asked for, and since when it is known to be there."""
        link = self._upkeep.live_link()
        if link is not None:
            now = link.now()
            return link, now, now
        asked_at = anyio.current_time()
        link = await self._upkeep.linked(spent)
        return link, asked_at, anyio.current_time()

    async def _ask(
        self, kind: type[c.Command], fields: dict[str, Any], *, due: float | None = None, wait_s: float = 0,
        spent: float = 0,
    ) -> bytes:  # fmt: skip
        """Return the answer to a command; to a waiting pull, by ``due``, however often the connection is cut.

        Of its patience some seconds are ``spent``; what it asks the server to wait, ``wait_s`` or until ``due``, is beside it.
        """
        spec, sent = SPECS[kind], False
        again, returns = spec.repeatable(with_token=has_tokens(fields)), kind in TAKES or kind in AWAITS
        while True:
            link, asked_at, linked_at = None, 0.0, 0.0
            try:
                link, asked_at, linked_at = await self._linked(spent)
                if due is not None:
                    wait_s = max(0, due - linked_at)
                    if (left := math.ceil(wait_s * 1000)) < fields["timeout"]:
                        fields = fields | {"timeout": left}
                within_s = self._upkeep.patience - spent - (linked_at - asked_at) + wait_s
                return await link.ask(spec.tag, fields, within_s, returns=returns)
            except Unanswered as late:
                within = f"within {self._upkeep.patience:g} s" + (
                    f" beyond the {wait_s:g} s that it asks for" if wait_s else ""
                )
                if sent or late.sent:
                    raise ConnectionLost(f"{spec.tag} was sent, and not answered {within}") from None
                raise ServerUnavailable(f"{spec.tag} was not sent {within}: the server reads nothing") from None
            except Lost as lost:
                # The patience is that of the command: all of its time but what it waited for by itself, where a server is.
                is_waited = wait_s > 0 and link is not None and link.answered
                spent += (linked_at if is_waited else anyio.current_time()) - asked_at
                sent = sent or lost.sent
                if sent and again is Again.NEVER:
                    raise ConnectionLost(f"{spec.tag} was sent, and the connection lost") from None
            except (Refused, ServerUnavailable) as refused:
                if sent and (again is Again.GUARDED or isinstance(refused, ServerUnavailable)):
                    raise ConnectionLost(f"{spec.tag} was sent, and the connection lost: {refused}") from None
                raise


def _strings(reply: r.DataReply, name: str) -> list[str]:
    data = reply.data
    found = data.get(name, []) if isinstance(data, dict) else []
    return [str(item) for item in found] if isinstance(found, list) else []
