"""What callers give a client or worker to keep to: numbers and names, judged where they are given and not when they bite."""

# The server takes no longer one.
_NAME_MAX = 256


def count_of(name: str, value: object) -> int:
    """Return ``value``, which is a whole number from 1.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is less than 1.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")
    return value


def name_of_jobs(value: object) -> str | None:
    """Return ``value``, which is a name that jobs can have, or None.

    Raises:
        TypeError: it is no text.
        ValueError: it is empty, or longer than the server takes.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"the name of jobs must be a text, not {value!r}")
    if not 1 <= len(value) <= _NAME_MAX:
        raise ValueError(f"the name of jobs must be 1 to {_NAME_MAX} characters, not {len(value)}")
    return value
