"""What a producer says of a job, in seconds, and the same as fields of a command, in milliseconds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import msgspec
from msgspec import Raw


@dataclass(frozen=True)
class Spec:
    """One job to push; times in seconds. What is None is left to the server's default."""

    data: Any = None
    priority: int | None = None
    delay: float | None = None
    max_attempts: int | None = None
    backoff: float | None = None
    ttl: float | None = None
    timeout: float | None = None
    unique_key: str | None = None
    job_id: str | None = None
    tags: Sequence[str] | None = None
    group_id: str | None = None
    lifo: bool | None = None
    remove_on_complete: bool | None = None
    remove_on_fail: bool | None = None
    durable: bool | None = None
    depends_on: Sequence[str] | None = None
    repeat_every: float | None = None
    repeat_limit: int | None = None


def push_fields(spec: Spec, new_id: Callable[[], str]) -> dict[str, Any]:
    """Return the fields of a push; it gets an id, so that it can be found again if its answer is lost."""
    repeat = None
    if spec.repeat_every is not None:
        repeat = {"every": to_ms(spec.repeat_every), "limit": spec.repeat_limit}
    fields = {
        "data": Raw(msgspec.json.encode(spec.data)), "priority": spec.priority, "delay": to_ms(spec.delay),
        "maxAttempts": spec.max_attempts, "backoff": to_ms(spec.backoff), "ttl": to_ms(spec.ttl),
        "timeout": to_ms(spec.timeout), "uniqueKey": spec.unique_key, "jobId": spec.job_id or new_id(),
        "tags": spec.tags, "groupId": spec.group_id, "lifo": spec.lifo,
        "removeOnComplete": spec.remove_on_complete, "removeOnFail": spec.remove_on_fail,
        "durable": spec.durable, "dependsOn": spec.depends_on, "repeat": repeat,
    }  # fmt: skip
    return {name: value for name, value in fields.items() if value is not None}


@overload
def to_ms(seconds: float) -> int: ...
@overload
def to_ms(seconds: float | None) -> int | None: ...
def to_ms(seconds: float | None) -> int | None:
    """Return milliseconds."""
    return None if seconds is None else round(seconds * 1000)
