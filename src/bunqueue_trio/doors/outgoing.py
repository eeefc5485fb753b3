"""What goes out together to a door, and what its answers hold until then."""

from bunqueue_trio.api.call import Owed
from bunqueue_trio.doors.frames import Said, pack_all
from bunqueue_trio.runtime.budget import Hold


class Outgoing:
    """Messages, in their order; all in one, so that for a usual answer nothing is made but its message."""

    __slots__ = ("_deliveries", "_holds", "answers", "messages", "size")

    def __init__(self) -> None:
        self.messages: list[Said] = []
        self._deliveries: list[Owed] = []
        self._holds: list[Hold] = []
        self.size: int = 0
        """Bytes of what is said, heads not counted."""
        self.answers: int = 0
        """How many requests are over with it."""

    def answer_all(self, answers: list[Said], size: int) -> None:
        """Say answers, whose bodies have this ``size``."""
        self.messages += answers
        self.size += size
        self.answers += len(answers)

    def owe(self, delivery: Owed | None, hold: Hold | None) -> None:
        """Note what the last message brings, and holds."""
        if delivery is not None:
            self._deliveries.append(delivery)
        if hold is not None:
            self._holds.append(hold)

    def pack(self, version: int) -> bytes:
        """Return the bytes of all."""
        return pack_all(self.messages, version)

    def hand_over(self) -> None:
        """Owe no job any more: whether it arrives, the door says."""
        self._deliveries.clear()

    def give_back(self) -> None:
        """Let the jobs return that were never handed over."""
        for delivery in self._deliveries:
            delivery.end()

    def let_go(self) -> None:
        """Hold nothing any more."""
        for hold in self._holds:
            hold.release()
