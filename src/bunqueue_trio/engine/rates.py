"""A limit of the deliveries of a queue in any window of time: which of them count, and from when on there is room.

A delivery counts for ``duration`` ms. Up to :data:`_EXACT_MAX` of them are remembered by their ms. Of more, those in the
same hundredth of the window are remembered as one, by the time of the last: each then counts a little longer, never
shorter. What is remembered is written with the delivery itself, and so survives a crash. How long a server was down
cannot be known, since its clock may have been set meanwhile: after a restart time goes on from the last delivery.
"""

import msgspec
from msgspec import Struct

# Times that are written at each delivery: 2 KB at most.
_EXACT_MAX = 100
# Only a limit that is changed again and again comes near it.
_TIMES_MAX = 1000


class Rate(Struct, rename="camel", omit_defaults=True):
    """The limit of one queue, and its deliveries of the last ``duration`` ms; times in epoch ms."""

    limit: int
    duration: int
    until: int | None = None
    """The limit ends by itself then."""
    times: list[tuple[int, int]] = []
    """When, and how many, the oldest first."""

    def note(self, now: int) -> None:
        """Count a delivery."""
        times, grain = self.times, 1 if self.limit <= _EXACT_MAX else max(1, self.duration // _EXACT_MAX)
        self._forget(now)
        count = 1
        while times and times[-1][0] // grain == now // grain:
            count += times.pop()[1]
        times.append((now, count))
        if len(times) > _TIMES_MAX:
            times[:2] = [(times[1][0], times[0][1] + times[1][1])]

    def used(self, now: int) -> int:
        """Return how many deliveries count."""
        return sum(count for time, count in self.times if time + self.duration > now)

    def opens_at(self, now: int) -> int | None:
        """Return when there is room for the next delivery; None: there is some now."""
        used = self.used(now)
        if used < self.limit:
            return None
        self._forget(now)
        return next(time + self.duration for time, count in self.times if (used := used - count) < self.limit)

    def resume(self, now: int) -> None:
        """Let the time go on, at ``now``, from the last delivery of the life before."""
        if self.times:
            shift = now - self.times[-1][0]
            self.times = [(time + shift, count) for time, count in self.times]

    def _forget(self, now: int) -> None:
        """Drop what does not count any more."""
        times = self.times
        while times and times[0][0] + self.duration <= now:
            del times[0]


_RATE = msgspec.json.Decoder(Rate)

encode = msgspec.json.Encoder().encode


def decode(value: bytes) -> Rate:
    """Return the limit in a fact."""
    return _RATE.decode(value)
