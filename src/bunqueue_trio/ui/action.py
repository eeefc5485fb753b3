"""What an action is: its row, its form, how it looks before it acts, and what it has done."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from bunqueue_trio.protocol.commands import Command
from bunqueue_trio.ui.ask import Ask

Form = Mapping[str, str]


class Preview(NamedTuple):
    """What would be done: a sentence, and some of the jobs that it would be done to."""

    says: str
    examples: tuple[str, ...] = ()
    """Ids of jobs."""
    is_nothing: bool = False
    now: Mapping[str, str] = {}
    """The values of fields as they are, by name."""
    is_grave: bool = False
    """What it would take away does not come back."""


class Done(NamedTuple):
    """What was done: a sentence, and the jobs whose fate is of interest."""

    says: str
    watch: tuple[str, ...] = ()
    where: str = ""
    """The page that shows it, if that is another one than the action leads to."""


Looks = Callable[[Ask, Form], Awaitable[Preview]]


class Field(NamedTuple):
    """Something that the person fills in."""

    name: str
    label: str
    hint: str = ""
    kind: str = "text"
    """text, number, choice, json: several lines; or hidden: filled by the page."""
    default: str = ""
    choices: tuple[str, ...] = ()
    is_needed: bool = False
    called: str = ""
    """By the API and the command line."""


class Action(NamedTuple):
    """One row of ``actions.py``."""

    name: str
    label: str
    """On the button."""
    title: Callable[[Form], str]
    command: type[Command]
    fields_of: Callable[[Form, int], dict[str, Any]]
    """Returns the command's fields, by their names in JSON, for a form at a time."""
    cli: Callable[[Form], tuple[object, ...]]
    preview: Looks
    perform: "Does"
    """Does it, and returns what was done."""
    about: tuple[str, ...] = ("queue",)
    """What it is done to: given by the page, not filled in."""
    may_lack: tuple[str, ...] = ()
    """What of that need not be given."""
    fields: tuple[Field, ...] = ()
    note: str = ""
    by_curl: str = ""
    """What the single request of the curl line leaves undone, unlike the button and the command line."""
    is_grave: bool = False
    """What it takes away does not come back."""
    goes_back: str = "queue"
    """The page, or its address, that is shown afterwards."""
    fill: "Fills | None" = None
    """Returns what fields hold at first that depend on what it is done to."""


Fills = Callable[[Ask, Form], Awaitable[Mapping[str, str]]]
Does = Callable[[Ask, Action, Form], Awaitable[Done]]
