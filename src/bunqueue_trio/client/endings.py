"""What a handler raises to say what becomes of its job, beyond that this attempt has failed."""

from contextlib import suppress

from bunqueue_trio.protocol.times import Time, to_ms

# As long as any delay may be.
AFTER_MAX_S = 365 * 24 * 3600.0


class GiveUp(Exception):
    """No attempt of this job can succeed: it is dead now, whatever attempts are left, for the reason ``unrecoverable``."""


class Again(Exception):
    """This attempt has failed; the next one begins ``after`` this time, instead of after the backoff.

    It counts as an attempt: a job whose attempts are used up is dead all the same. Less than 0 is 0.

    Raises:
        TypeError: ``after`` is no time.
        ValueError: it is a text that says no time, no number, or more than a year.
    """

    def __init__(self, after: Time, reason: str = "") -> None:
        # What a process pool makes it of again.
        super().__init__(after, reason)
        if isinstance(after, str):
            # A number alone, as of a header Retry-After.
            with suppress(ValueError):
                after = float(after)
        self.after: float = max(0, to_ms("after", after)) / 1000
        self.reason = reason
        if self.after > AFTER_MAX_S:
            raise ValueError(f"after must be at most {AFTER_MAX_S:.0f} s, not {after}")

    def __str__(self) -> str:
        return self.reason


Ending = GiveUp | Again


def ending_of(raised: BaseException) -> Ending | None:
    """Return what ``raised`` says of its job, alone or as the only one in a group; None if that is nothing."""
    while isinstance(raised, BaseExceptionGroup) and len(raised.exceptions) == 1:
        (raised,) = raised.exceptions
    return raised if isinstance(raised, Ending) else None
