"""What a handler raises to say what becomes of its job, beyond that this attempt has failed."""

AFTER_MAX_S = 365 * 24 * 3600.0  # as long as any delay may be


class GiveUp(Exception):
    """No attempt of this job can succeed: it is dead now, whatever attempts are left, for the reason ``unrecoverable``."""


class Again(Exception):
    """This attempt has failed; the next one begins ``after`` seconds, instead of after the backoff.

    It counts as an attempt: a job whose attempts are used up is dead all the same. Less than 0 is 0.

    Raises:
        ValueError: ``after`` is no number, or more than a year.
    """

    def __init__(self, after: float, reason: str = "") -> None:
        super().__init__(after, reason)  # what a process pool makes it of again
        self.after: float = max(0.0, float(after))
        self.reason = reason
        if not float(after) <= AFTER_MAX_S:
            raise ValueError(f"after must be at most {AFTER_MAX_S:.0f} s, not {after}")

    def __str__(self) -> str:
        return self.reason


Ending = GiveUp | Again


def ending_of(raised: BaseException) -> Ending | None:
    """Return what ``raised`` says of its job, alone or as the only one in a group; None if that is nothing."""
    while isinstance(raised, BaseExceptionGroup) and len(raised.exceptions) == 1:
        (raised,) = raised.exceptions
    return raised if isinstance(raised, Ending) else None
