"""A disk that outlives its server, and lets it die in any moment."""

from typing import Any

from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.storage.store import Batch


class MortalStore(MemoryStore):
    """What one life of the server writes to ``disk``: after :meth:`die` nothing more, though it does not know."""

    def __init__(self, disk: dict[str, Any]) -> None:
        super().__init__()
        self._disk = disk
        self._dead = False
        if disk:
            vars(self).update(disk)
        disk.update({name: value for name, value in vars(self).items() if name not in ("_disk", "_dead")})

    def commit(self, batch: Batch) -> None:
        """Write ``batch``; after the death of its server it is lost, as it would be."""
        if self._dead:
            return
        super().commit(batch)
        # What the store replaces, instead of changing it in place, must reach the disk too.
        self._disk.update({name: value for name, value in vars(self).items() if name in self._disk})

    def die(self) -> None:
        """Write nothing from now on."""
        self._dead = True
