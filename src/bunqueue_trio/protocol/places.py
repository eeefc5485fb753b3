"""Whose handler a function is: which jobs of which queue are pushed for it, and from where. It knows no worker."""

from contextlib import suppress
from typing import Any, NamedTuple

# On a function: the queues whose handler it is, each with the name of the jobs, and what they are pushed from.
_PLACES = "_bunqueue_places"


class Place(NamedTuple):
    """Where jobs for a handler go, and the worker or app whose handler it is."""

    queue: str
    name: str | None
    home: Any


def note_place(handler: object, place: Place) -> None:
    """Note that ``handler`` is for the jobs of this place, if it is a function, or else can have a note."""
    # Of C, or frozen.
    with suppress(AttributeError, TypeError):
        setattr(handler, _PLACES, {**_noted(handler), place[:2]: place})


def place_of(handler: object) -> Place:
    """Return the place that ``handler`` is for.

    Raises:
        TypeError: it is for none.
        ValueError: it is for several.
    """
    places = list(_noted(handler).values())
    if not places:
        raise TypeError(f"{handler!r} is no handler of a worker")
    if len(places) > 1:
        each = (queue if name is None else f"{queue} by the name {name}" for queue, name, _ in places)
        raise ValueError(f"push by queue and name: {handler!r} is the handler of {' and '.join(each)}")
    return places[0]


def _noted(handler: object) -> dict[tuple[str, str | None], Place]:
    noted: Any = getattr(handler, _PLACES, None)
    # A mock has whatever it is asked for.
    return noted if isinstance(noted, dict) else {}
