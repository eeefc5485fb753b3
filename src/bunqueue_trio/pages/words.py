"""Numbers, times and commands as people read them, and type them."""

import re
import shlex
from collections.abc import Iterable

from bunqueue_trio.config.spans import span as span
from bunqueue_trio.config.spans import typed_ms as typed_ms
from bunqueue_trio.config.spans import whole as whole

# Addresses that stand for all of a machine.
_ANYWHERE = re.compile(r"^(https?://|)(?:0\.0\.0\.0|\[::\])(:\d+)$")
_BYTES = ((1024**4, "TiB"), (1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))


def count(n: int, one: str, many: str | None = None) -> str:
    """Return how many there are of something: ``1 job``, ``1,667 jobs``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def done_to(n: int, ending: int, done: str, *, would: bool = False, or_more: bool = False) -> str:
    """Return to how many of ``n`` jobs something was done, or would be; ``ending`` of them their workers end first."""
    ended = n - ending
    said = (
        [f"{count(ended, 'job')}{' or more' if or_more else ''} {'would be ' if would else ''}{done}"]
        if ended or not ending
        else []
    )
    if ending:
        said.append(
            f"{count(ending, 'job')} for {'its worker' if ending == 1 else 'their workers'} to end within the grace"
        )
    return ", ".join(said)


def in_state(n: int, state: str) -> str:
    """Return how many jobs are in a state, as people call it: ``1 dead letter``, ``1,667 waiting``."""
    return count(n, "dead letter") if state == "dead letters" else f"{n:,} {state}"


def reached(addresses: Iterable[str], host: str) -> str:
    """Return where clients reach a server that listens at these addresses: nobody reaches the one that stands for all of a machine."""
    return ", ".join(_ANYWHERE.sub(rf"\g<1>{host}\2 and any other address of that machine", each) for each in addresses)


def size(n: float) -> str:
    """Return bytes in their largest unit."""
    for unit, name in _BYTES:
        if n >= unit:
            return f"{n / unit:.1f} {name}" if n < 100 * unit else f"{n / unit:,.0f} {name}"
    return f"{n:.0f} B"


def rate(per_minute: float) -> str:
    """Return how often something happens."""
    if per_minute >= 600:
        return f"{per_minute / 60:,.0f} a second"
    return f"{per_minute:,.0f} a minute" if per_minute >= 1 or not per_minute else f"{per_minute * 60:,.0f} an hour"


class Given(str):
    """Return a word that somebody has chosen, such as a queue's name, so that a shell takes it for no option, whatever it begins with."""

    __slots__ = ()


_ALONE = frozenset({"--delayed", "--force", "--groups", "--json", "--live", "--yes"})
"""Options that have no value."""


def line(*words: object) -> str:
    """Return the command line of this project with these words; an empty one is left out.

    What was :class:`Given` is never read as an option: an option has it behind ``=``, an argument behind ``--``, where it
    begins as one.
    """
    verbs: list[str] = []
    options: list[str] = []
    arguments: list[str] = []
    in_order: list[str] = []
    left = [word if isinstance(word, str) else str(word) for word in reversed(words) if word != ""]
    while left:
        word = left.pop()
        if isinstance(word, Given) or not word.startswith("-"):
            (arguments if arguments or isinstance(word, Given) else verbs).append(word)
            in_order.append(word)
            continue
        said = [word]
        if word not in _ALONE and left:
            value = left.pop()
            said = [f"{word}={value}"] if value.startswith("-") else [word, value]
        options += said
        in_order += said
    if any(word.startswith("-") for word in arguments):
        in_order = [*verbs, *options, "--", *arguments]
    return shlex.join(["bunqueue-trio", *in_order])
