"""Whether anything was committed since somebody looked: what open pages hear of, who ask for the rest themselves. It keeps nothing of what happened."""

import trio

from bunqueue_trio.storage.store import Batch


class Watch:
    """The interest of one page; ``take`` asks it."""

    __slots__ = ("is_touched", "queue")

    def __init__(self, queue: str | None, *, is_touched: bool) -> None:
        self.queue: str | None = queue
        self.is_touched: bool = is_touched

    def take(self) -> bool:
        """Return whether anything of it was committed since the last call."""
        was, self.is_touched = self.is_touched, False
        return was


class News:
    """Touches the watches that a commit may concern. Of one that is touched a commit asks nothing more."""

    def __init__(self) -> None:
        self._watches: dict[Watch, None] = {}
        self.last_at: float = float("-inf")
        """When the last commit was (Trio time)."""

    def __len__(self) -> int:
        return len(self._watches)

    def watch(self, queue: str | None, *, is_touched: bool) -> Watch:
        """Return a new watch over one queue, or over all; ``is_touched``: something has happened already. ``end`` it."""
        watch = Watch(queue, is_touched=is_touched)
        self._watches[watch] = None
        return watch

    def end(self, watch: Watch) -> None:
        """End a watch; ending it twice is fine."""
        self._watches.pop(watch, None)

    def touch(self) -> None:
        """Touch those over all queues: something is another without a commit."""
        for watch in self._watches:
            watch.is_touched |= watch.queue is None

    def committed(self, batch: Batch, seconds: float) -> None:
        """Touch those that a batch may concern (one of ``Journal.on_commit``)."""
        self.last_at = trio.current_time()
        names: set[str] | None = None
        for watch in self._watches:
            if watch.is_touched:
                continue
            if watch.queue is None or batch.facts:
                # What is no job may be the settings of any queue.
                watch.is_touched = True
                continue
            if names is None:
                names = {event.queue for event in batch.heard}
                names |= {job.queue for job in batch.jobs}
            watch.is_touched = watch.queue in names
