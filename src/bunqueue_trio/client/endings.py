"""What a handler raises to say what becomes of its job, beyond that this attempt has failed."""

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, cast

from bunqueue_trio.protocol.times import Time, to_ms

# As long as any delay may be.
AFTER_MAX_S = 365 * 24 * 3600.0
AFTER_MAX_MS = int(AFTER_MAX_S * 1000)


class GiveUp(Exception):
    """No attempt of this job can succeed: it is dead now, whatever attempts are left, for the reason ``unrecoverable``."""


class Again(Exception):
    """This attempt has failed; the next one begins ``after`` this time, instead of after the backoff.

    It counts as an attempt: a job whose attempts are used up is dead all the same. Less than 0 is 0. Where no time can be
    read any more, because a class of its own does not call this one's ``__init__``, the backoff counts.

    Raises:
        TypeError: ``after`` is no time.
        ValueError: it is a text that says no time, no number, or more than a year.
    """

    reason: str = ""

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
_ENDINGS = (GiveUp, Again)

members_of: Callable[[BaseException], tuple[BaseException, ...]] = vars(BaseExceptionGroup)["exceptions"].__get__
"""Returns what is in a group, as `group.exceptions` does, but never raises: its class may have an attribute of that name."""


class Said(NamedTuple):
    """What a handler said of the next attempt, read once and for all."""

    gives_up: bool
    after: float | None
    """In seconds, as many as the server takes; None: after the backoff."""


def ending_of(raised: BaseException) -> Ending | None:
    """Return what ``raised`` says of its job, alone or as the only one in a group; None if that is nothing.

    It is asked of its type: what it says itself may be anything.
    """
    while issubclass(type(raised), BaseExceptionGroup) and len(members_of(raised)) == 1:
        (raised,) = members_of(raised)
    return cast("Ending", raised) if issubclass(type(raised), _ENDINGS) else None


def said_by(ending: Ending) -> Said:
    """Return what it says, whatever has become of it since it was made."""
    if issubclass(type(ending), GiveUp):
        return Said(gives_up=True, after=None)
    try:
        after = min(max(0, to_ms("after", cast("Again", ending).after)), AFTER_MAX_MS) / 1000
    except BaseException:  # noqa: ASYNC103 - of code that waits for nothing
        return Said(gives_up=False, after=None)  # noqa: ASYNC104
    return Said(gives_up=False, after=after)
