"""The shape of an answer: which fields it has, at which paths, with which types; what was sent comes back and is not looked into."""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

JOB = "job"
"""The type of an object that is a job."""
_JOB_FIELDS = {"id", "queue", "data", "maxAttempts"}
_FAMILY = re.compile(r"^# TYPE (\S+) (\S+)$", re.MULTILINE)

Shape = dict[str, str]
"""Path → type. ``a.b`` is a field of a field, ``a[]`` what a list holds, and ``""`` the answer itself."""


class Answer(NamedTuple):
    """What a server said to one call."""

    status: int | None
    """Over HTTP."""
    is_good: bool
    """Whether it is a success, whatever its status says."""
    shape: Shape

    @property
    def outcome(self) -> str:
        """Say how it went."""
        if self.status is None:
            return "done" if self.is_good else "refused"
        said_otherwise = (self.status < 400) is not self.is_good
        return f"{self.status} with `ok` false" if said_otherwise else str(self.status)


def answer_of(status: int | None, body: bytes | str | dict[str, Any]) -> Answer:
    """Return what an answer says, without its values."""
    if not isinstance(body, dict):
        text = body.decode() if isinstance(body, bytes) else body
        try:
            said = json.loads(text)
        except ValueError:
            return Answer(status, status is None or status < 400, shape_of_text(text))
    else:
        said = body
    is_good = said.get("ok", True) if isinstance(said, dict) else True
    return Answer(status, bool(is_good) and (status is None or status < 400), shape_of(said))


def shape_of(value: Any) -> Shape:
    """Return the shape of a JSON value; ``ok``, ``error`` of a refusal and the echo of ``reqId`` are what an answer is, not what it has."""
    shape = dict(_walk("", value))
    shape.pop("reqId", None)
    shape.pop("ok", None)
    return shape


def shape_of_text(text: str) -> Shape:
    """Return the metrics that a text holds, or that it is one."""
    families = dict(_FAMILY.findall(text))
    return {"": "metrics"} | families if families else {"": "text"}


def _walk(path: str, value: Any) -> Iterator[tuple[str, str]]:
    kind = type_of(value)
    seen: Shape = {}
    if isinstance(value, dict) and kind != "sent":
        for name, inner in value.items():
            seen |= dict(_walk(f"{path}.{name}" if path else name, inner))
    elif isinstance(value, list):
        for inner in value:
            for at, what in _walk(f"{path}[]", inner):
                seen[at] = union(seen.get(at, what), what)
    yield path, kind
    yield from seen.items()


def type_of(value: Any) -> str:
    """Return what JSON calls a value; 4 and 4.0 are the same there."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "text"
        case list():
            return "list"
        case dict() if "sent" in value:
            return "sent"
        case dict() if value.keys() >= _JOB_FIELDS:
            return JOB
        case _:
            return "object"


def union(one: str, other: str) -> str:
    """Return the type of what is one or the other."""
    return " or ".join(sorted({*one.split(" or "), *other.split(" or ")}, key=lambda name: (name == "null", name)))
