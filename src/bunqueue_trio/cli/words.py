"""Fields of the server's answers as people read them: ms are times and spans, and the rest is JSON."""

import json
from typing import Any

from bunqueue_trio.cli.remote import at
from bunqueue_trio.pages.words import whole

_MOMENTS = frozenset({
    "at", "completedAt", "createdAt", "due", "from", "leaseUntil", "pausedAt", "runAt", "since", "startedAt", "to", "until", "waitingSlot",
})  # fmt: skip
_SPANS = frozenset({
    "backoff", "delay", "duration", "every", "grace", "jitter", "maxDelay", "newer", "older", "repeatEvery", "timeout", "ttl", "window",
})  # fmt: skip


def told(name: str, value: Any) -> str:
    """Return the value of a field."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {told(key, inner)}" for key, inner in value.items() if inner is not None)
    if type(value) is int and name in _MOMENTS:
        return at(value)
    if type(value) is int and name in _SPANS:
        return whole(value)
    return json.dumps(value, ensure_ascii=False)
