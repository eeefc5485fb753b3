"""A push whose answer was lost: it is looked for, and repeated only where that makes no second job."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio

from bunqueue_trio.errors import ConnectionLost, ServerUnavailable

SURE_S = 20.0  # after this long a job that is not there may have been, and be done and forgotten
_FINISHED = frozenset({"completed", "failed"})


async def push_once(
    send: Callable[[], Awaitable[list[str]]], state_or_none: Callable[[str], Awaitable[str | None]],
    options: Sequence[Mapping[str, Any]], fields: Sequence[Mapping[str, Any]],
) -> list[str]:  # fmt: skip
    """Send a push until it is known to have arrived; all of its jobs arrive together.

    Raises:
        ConnectionLost: whether it has cannot be known.
    """
    lost: ConnectionLost | None = None
    while True:
        began = anyio.current_time()
        try:
            return await send()
        except ConnectionLost as error:
            lost = error
        except ServerUnavailable:
            if lost is None:
                raise
            raise lost from None
        ids: list[str] = [job["jobId"] for job in fields]
        generated = all(job.get("job_id") is None for job in options)
        keyed = any(job.get("unique_key") is not None for job in options)
        forgotten = any(job.get("remove_on_complete") or job.get("remove_on_fail") for job in options)
        try:  # one of them stands for all, but those whose key another job had are not there
            states = [await state_or_none(job_id) for job_id in (ids if keyed else ids[:1])]
        except ServerUnavailable:
            raise lost from None
        if all(state is not None and (generated or state not in _FINISHED) for state in states):
            return ids
        late = anyio.current_time() - began > SURE_S
        if forgotten or late or any(state is not None for state in states):
            raise lost
