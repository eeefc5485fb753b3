"""Small durable things that are not jobs: values by kind and key, written with the changes they belong to.

A kind is the name of what is noted, such as the pause of a queue, and a key says of whom. What a value means is the
business of whoever sets it; here it is bytes.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

Fact = tuple[str, str, bytes | None]
"""Kind, key and value; None: the fact is deleted."""

_NONE: Mapping[str, bytes] = MappingProxyType({})


class Facts:
    """All facts, and which of them have changed since the last :meth:`take`."""

    def __init__(self) -> None:
        self._kinds: dict[str, dict[str, bytes]] = {}
        self.changed: dict[tuple[str, str], None] = {}

    def load(self, facts: Iterable[tuple[str, str, bytes]]) -> None:
        """Take over the facts of a store."""
        for kind, key, value in facts:
            self._kinds.setdefault(kind, {})[key] = value

    def get(self, kind: str, key: str) -> bytes | None:
        """Return the value, or None."""
        return self._kinds.get(kind, _NONE).get(key)

    def of(self, kind: str) -> Mapping[str, bytes]:
        """Return every value of a kind by its key, not to be changed."""
        return self._kinds.get(kind, _NONE)

    def kinds(self) -> list[str]:
        """Return the kinds of all facts."""
        return list(self._kinds)

    def set(self, kind: str, key: str, value: bytes) -> bool:
        """Set ``value``; return whether the fact has changed."""
        values = self._kinds.setdefault(kind, {})
        if values.get(key) == value:
            return False
        values[key] = value
        self.changed[kind, key] = None
        return True

    def delete(self, kind: str, key: str) -> None:
        """Note nothing any more, if anything was noted."""
        values = self._kinds.get(kind)
        if values is None or values.pop(key, None) is None:
            return
        if not values:
            del self._kinds[kind]
        self.changed[kind, key] = None

    def take(self) -> list[Fact]:
        """Return what has changed since the last call, as it is now."""
        changed, self.changed = self.changed, {}
        return [(kind, key, self.get(kind, key)) for kind, key in changed]
