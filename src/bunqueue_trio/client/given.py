"""What callers give a client or worker to keep to: numbers and names, judged where they are given and not when they bite."""

from contextlib import suppress

_PLACES = "_bunqueue_places"  # on a function: the queues whose handler it is, each with the name of the jobs
_NAME_MAX = 256  # the server takes no longer one


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


def note_place(handler: object, queue: str, name: str | None) -> None:
    """Note that ``handler`` is for the jobs of ``queue`` with this ``name``, if it is a function, or else can have a note."""
    with suppress(AttributeError, TypeError):  # of C, or frozen
        setattr(handler, _PLACES, {**getattr(handler, _PLACES, {}), (queue, name): None})


def place_of(handler: object) -> tuple[str, str | None]:
    """Return the queue that ``handler`` is for, and the name of its jobs there.

    Raises:
        TypeError: it is for none.
        ValueError: it is for several.
    """
    places: list[tuple[str, str | None]] = list(getattr(handler, _PLACES, ()))
    if not places:
        raise TypeError(f"{handler!r} is no handler of a worker")
    if len(places) > 1:
        each = (queue if name is None else f"{queue} by the name {name}" for queue, name in places)
        raise ValueError(f"push by queue and name: {handler!r} is the handler of {' and '.join(each)}")
    return places[0]
