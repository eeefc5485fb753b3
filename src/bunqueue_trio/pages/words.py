"""Numbers, times and commands as people read them, and type them."""

import shlex

_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"))
_BYTES = ((1024**4, "TiB"), (1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))


def span(ms: float) -> str:
    """Return a time in its largest unit, and one of the next while the first is small: ``41 min``, ``1 h 20 min``."""
    ms = max(0, ms)
    for i, (unit, name) in enumerate(_UNITS):
        if ms >= unit:
            whole = int(ms // unit)
            if whole < 3 and i + 1 < len(_UNITS):
                part, smaller = _UNITS[i + 1]
                rest = int(ms % unit // part)
                if rest:
                    return f"{whole} {name} {rest} {smaller}"
            return f"{whole} {name}"
    return f"{round(ms)} ms"


def exact(ms: int) -> str:
    """Return a time in the largest unit in which it is a whole number, as the settings and the command line take it: ``90s``."""
    return next((f"{ms // unit}{name[0]}" for unit, name in _UNITS if ms and ms % unit == 0), f"{ms}ms")


def count(n: int, one: str, many: str | None = None) -> str:
    """Return how many there are of something: ``1 job``, ``1,667 jobs``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


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
    """A word that somebody has chosen, such as a queue's name: no option of a command line, whatever it begins with."""

    __slots__ = ()


_ALONE = frozenset({"--delayed", "--groups", "--live", "--yes"})
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
