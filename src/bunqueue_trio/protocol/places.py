"""Whose handler a function is: which jobs of which queue are pushed for it. It knows no worker."""

from contextlib import suppress

# On a function: the queues whose handler it is, each with the name of the jobs.
_PLACES = "_bunqueue_places"


def note_place(handler: object, queue: str, name: str | None) -> None:
    """Note that ``handler`` is for the jobs of ``queue`` with this ``name``, if it is a function, or else can have a note."""
    # Of C, or frozen.
    with suppress(AttributeError, TypeError):
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
