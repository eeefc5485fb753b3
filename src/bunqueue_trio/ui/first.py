"""The first of very many queues in some order: sought some thousand in each step, between which others are served."""

from collections.abc import Callable, Sequence
from heapq import nsmallest
from typing import Any

import trio

from bunqueue_trio.config import QUEUES_RANKED
from bunqueue_trio.runtime.picture import QueueLook


async def first(
    looks: Sequence[QueueLook], most: int, wanted: Callable[[QueueLook], object], place: Callable[[QueueLook], Any]
) -> tuple[list[QueueLook], int]:
    """Return the ``most`` queues with the lowest ``place`` among those that are ``wanted``, and how many those are."""
    queues: list[QueueLook] = []
    count = 0
    for begin in range(0, len(looks), QUEUES_RANKED):
        some = [look for look in looks[begin : begin + QUEUES_RANKED] if wanted(look)]
        count += len(some)
        queues = nsmallest(most, [*queues, *some], key=place)
        await trio.lowlevel.checkpoint()
    return queues, count
