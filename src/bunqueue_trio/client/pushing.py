"""A push whose answer was lost: it is looked for, and repeated only where that makes no second job."""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import anyio

from bunqueue_trio.errors import ConnectionLost, ServerUnavailable

# After this long a job that is not there may have been, and be done and forgotten.
SURE_S = 20.0
# How often the server's time is asked for: an answer that was cut off, and came late, is too vague.
_ASKED_MAX = 5
# Of the server's times.
TICK_S = 0.001
_FINISHED = frozenset({"completed", "failed"})

StateOf = Callable[[str], Awaitable[str | None]]
"""Returns the state of a job, None if it is not there."""

Ended = tuple[float, float] | None
"""When a job ended and what the time is, by the server's clock; None if it has not, or is gone."""


async def push_once(
    send: Callable[[float], Awaitable[list[str]]], state_or_none: StateOf, ended: Callable[[str], Awaitable[Ended]],
    options: Sequence[Mapping[str, Any]], fields: Sequence[Mapping[str, Any]], patience: float = math.inf,
) -> list[str]:  # fmt: skip
    """Send a push until it is known to have arrived; all of its jobs arrive together. ``send`` learns how many seconds are over.

    Raises:
        ConnectionLost: whether it has cannot be known.
        ServerUnavailable: it has not, after ``patience`` seconds.
    """
    started = began = anyio.current_time()
    lost: ConnectionLost | None = None
    ids: list[str] = [job["jobId"] for job in fields]
    own = [job.get("job_id") is not None for job in options]
    keyed = any(job.get("unique_key") is not None for job in options)
    forgotten = any(job.get("remove_on_complete") or job.get("remove_on_fail") for job in options)
    while lost is None or (began := anyio.current_time()) < started + patience:
        try:
            return await send(began - started)
        except ConnectionLost as error:
            lost = error
        except ServerUnavailable:
            if lost is None:
                raise
            raise lost from None
        # One of them stands for all, but those whose key another job had are not there.
        looked_at = list(zip(ids, own, strict=True)) if keyed else [(ids[0], own[0])]
        verdicts: set[bool | None] = set()
        is_known = False
        with anyio.CancelScope(deadline=started + patience), suppress(ServerUnavailable, ConnectionLost):
            for job_id, is_own in looked_at:
                state = await state_or_none(job_id)
                if state is None:
                    is_sure = not forgotten and anyio.current_time() - began <= SURE_S
                    verdicts.add(False if is_sure else None)
                else:
                    # One of an id of the caller's own may have ended before, and be of an earlier push.
                    is_of_before = is_own and state in _FINISHED
                    verdicts.add(await _since(began, job_id, ended) if is_of_before else True)
            is_known = True
        if not is_known:
            raise lost
        if verdicts == {True}:
            return ids
        if verdicts != {False}:
            raise lost
    raise ServerUnavailable(f"nothing was added in {patience:g} s: {lost}")


async def _since(began: float, job_id: str, ended: Callable[[str], Awaitable[Ended]]) -> bool | None:
    """Return whether a job that has ended did so after a push of its id began; None where that is too close to tell.

    If it did, the push has made it, or come while it was unfinished, which is the same. If not, the push has not come: it
    would have taken the place of this one.
    """
    for _ in range(_ASKED_MAX):
        asked = anyio.current_time()
        times = await ended(job_id)
        if times is None:
            break
        ended_at, now = times
        if ended_at >= now - (asked - began) + TICK_S:
            return True
        if ended_at < now - (anyio.current_time() - began) - TICK_S:
            return False
    return None
