"""How the naive queue reads what operators did: the steps of one act are one, found from the oldest on."""

from collections.abc import Sequence
from typing import Any

from msgspec import Raw
from msgspec.structs import replace

AGAIN = {"Drain", "Obliterate", "PromoteJobs", "PurgeDlq", "RetryDlq"}


class Like(dict[str, Any]):
    """Equal to a dictionary that has these entries, whatever else it has."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dict) and {name: other.get(name) for name in self} == dict(self)


class Act(Like):
    """What an operator did, and the command with which they did it."""

    __hash__ = None  # type: ignore[assignment]
    said: tuple[Any, str | None]


def said_of(command: Any, by: Any) -> tuple[Any, str | None]:
    """The command but for what differs from step to step, with who sent it; and the cursor."""
    names = command.__struct_fields__
    apart = {"after": None} if "after" in names else {}
    apart |= {"limit": 1} if "limit" in names else {}
    # What it is may be a secret: it is another one, or none was said.
    apart |= {"data": Raw(b"1" if bytes(command.data) else b"")} if "data" in names else {}
    return (replace(command, **apart), by), getattr(command, "after", None)


def as_one(newest_first: Sequence[Act]) -> list[Act]:
    """The same acts with those as one that are steps of one."""
    found: list[list[Act]] = []
    for act in reversed(newest_first):
        command, after = act.said
        last = next((each for each in reversed(found) if each[0].said[0] == command), None)
        patience = 60_000 if after is not None else 10_000 if act["command"] in AGAIN else -1
        if last is not None and act["at"] - last[-1]["at"] <= patience:
            last.append(act)
        else:
            found.append([act])
    return [_whole(each) for each in reversed(found)]


def _whole(steps: list[Act]) -> Act:
    if len(steps) == 1:
        return steps[0]
    return Act(steps[0] | {"count": sum(step["count"] for step in steps), "slices": len(steps)})


def length_of(newest_first: Sequence[Act], limit: int) -> int:
    """How many of them are the longest page that cuts no act in two; if there is none, the longest page."""
    whole, longest = len(as_one(newest_first)), 0
    for length in range(len(newest_first), 0, -1):
        rows = len(as_one(newest_first[:length]))
        if rows <= limit:
            if rows + len(as_one(newest_first[length:])) == whole:
                return length
            longest = longest or length
    return longest
