"""How often one client may ask. It counts, and refuses nobody itself."""

from collections import OrderedDict, deque
from typing import NamedTuple

from bunqueue_trio.config import RATE_CLIENTS_MAX


class Limited(NamedTuple):
    """How many requests were too many since the start, and of whom the last was, when; in epoch ms."""

    requests: int = 0
    client: str = ""
    at: int = 0


class RateLimiter:
    """Counts requests of clients in the last ``window_ms``; refused requests do not count."""

    def __init__(self, window_ms: int, requests_max: int | None, clients_max: int = RATE_CLIENTS_MAX) -> None:
        self._window_ms = window_ms
        self._requests_max = requests_max
        self._clients_max = clients_max
        self.enabled: bool = requests_max is not None
        """Whether there is a limit at all."""
        # Least recently seen first: those are the idle ones, and the ones that make room.
        self._clients: OrderedDict[str, deque[int]] = OrderedDict()
        self.limited: Limited = Limited()

    def __len__(self) -> int:
        return len(self._clients)

    def retry_after_ms(self, client: str, now: int) -> int:
        """Count a request of ``client``; return 0, or the ms until the next would be allowed."""
        if self._requests_max is None:
            return 0
        times = self._clients.get(client)
        if times is None:
            if len(self._clients) >= self._clients_max:
                self._clients.popitem(last=False)
            times = self._clients[client] = deque()
        while times and times[0] <= now - self._window_ms:
            times.popleft()
        if len(times) >= self._requests_max:
            self.limited = Limited(self.limited.requests + 1, client, now)
            return times[0] + self._window_ms - now
        times.append(now)
        self._clients.move_to_end(client)
        return 0

    def clean(self, now: int) -> int:
        """Forget clients without a request in the window; return how many."""
        before = len(self._clients)
        while self._clients:
            times = next(iter(self._clients.values()))
            if times and times[-1] > now - self._window_ms:
                break
            self._clients.popitem(last=False)
        return before - len(self._clients)
